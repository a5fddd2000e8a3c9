//! `tapgate server-key …`: another key for the QUIC door, without enrolling any device anew. Devices pin the server's key;
//! they are told of the next one while the present one still proves who says so.

use anyhow::{Context as _, bail, ensure};
use storage::journal::disk::FolderDisk;

use crate::cli::{ServerKey, journal_in};
use crate::server::data_folder::has_journal;
use crate::server::tls;
use crate::server::tls::NEXT_FILE;

/// Does it, and says what to do next.
///
/// # Errors
/// A sentence for whoever typed it.
pub fn run(command: ServerKey) -> anyhow::Result<String> {
    let (ServerKey::Next { data } | ServerKey::Switch { data }) = &command;
    let config = data.clone().settings()?;
    let folder = config.data;
    if config.tls.is_some() {
        bail!(
            "the server's key is the one in `tls_key`: name the next key's certificate in `tls_next_certificate`, and swap \
             the files once the server says that its devices know it"
        );
    }
    ensure!(has_journal(&folder), "{} is not a data folder", folder.display());
    match command {
        ServerKey::Next { .. } => {
            let next = tls::prepare_next(&folder)?;
            Ok(format!(
                "The next key is {next}, in {}.\nRestart the server: it tells each device that connects, and says at every \
                 start how many know. Once all do, stop it and run `tapgate server-key switch`.\n",
                folder.join(NEXT_FILE).display()
            ))
        }
        ServerKey::Switch { .. } => {
            ensure!(
                folder.join(NEXT_FILE).try_exists()?,
                "no key has been prepared in {}: run `tapgate server-key next` first",
                folder.display()
            );
            let _held = FolderDisk::lock(&journal_in(&folder)).context("stop the server first")?;
            let present = tls::switch(&folder)?;
            Ok(format!(
                "From its next start on, the server's key is {present}. The previous key is kept in {}.\n",
                folder.join(tls::BEFORE_FILE).display()
            ))
        }
    }
}
