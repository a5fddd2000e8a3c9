//! `tapgate cluster …`.

use std::path::Path;

use anyhow::Context as _;

use crate::cli::Cluster;
use crate::cluster::certificates;
use crate::server::{secret, tls};

/// Does it, and says what to do next.
///
/// # Errors
/// A sentence for whoever typed it.
pub fn run(command: Cluster) -> anyhow::Result<String> {
    match command {
        Cluster::Certificates { folder, nodes } => made(&folder, nodes),
    }
}

fn made(folder: &Path, nodes: u16) -> anyhow::Result<String> {
    let made = certificates::make(folder, nodes)?;
    // What all nodes have in common besides. Nobody uses either before it is copied, so no lock is needed.
    let devices = folder.join("devices.pem");
    if !devices.try_exists()? {
        tls::make(&devices).with_context(|| devices.display().to_string())?;
    }
    let secret = folder.join("qr.secret");
    secret::kept(&secret).with_context(|| secret.display().to_string())?;
    let at = folder.display();
    let authority = match made.authority {
        true => format!("A new authority is in {at}: ca.pem and ca.key.\n"),
        false => format!("The authority in {at} has signed them.\n"),
    };
    let all: Vec<String> = made.nodes.iter().map(|node| node.0.to_string()).collect();
    let new = match all.as_slice() {
        [] => "Every node has its pair already.\n".to_owned(),
        all => format!("New pairs, node-N.pem and node-N.key, for node {}.\n", all.join(", ")),
    };
    Ok(format!(
        "{authority}{new}Copy ca.pem (`peer_ca`) and its own pair (`peer_certificate`, `peer_key`) to each node, and to all of \
         them devices.pem (`tls_certificate` and `tls_key` in one) and qr.secret (`qr_secret_file`). Back these two up: without \
         them devices have to be enrolled anew, and tickets printed anew. Keep ca.key elsewhere: whoever has it can make nodes.\n"
    ))
}
