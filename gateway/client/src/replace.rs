//! Putting a file in place whole: for whoever keeps something secret, or something that must never be half there.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Write as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};

/// Puts `bytes` in the place of what is at `path`, durably and for its owner's eyes only: written aside under the same
/// name and `.new`, flushed, renamed, and the folder flushed. One writer at a time.
///
/// # Errors
/// The file system's own. There is then what was there before, or `bytes`.
pub fn replace(path: &Path, bytes: &[u8]) -> io::Result<()> {
    let mut aside = path.as_os_str().to_owned();
    aside.push(".new");
    let aside = PathBuf::from(aside);
    // One left by a crash was never in use, and may have another mode.
    match fs::remove_file(&aside) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    let mut new = OpenOptions::new().write(true).create_new(true).mode(0o600).open(&aside)?;
    new.write_all(bytes)?;
    new.sync_all()?;
    fs::rename(&aside, path)?;
    let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
    File::open(folder)?.sync_all()
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::PermissionsExt as _;

    #[test]
    fn a_file_is_replaced_whole_and_becomes_its_owners_whatever_lay_there() {
        let folder = tempfile::tempdir().unwrap();
        let (path, aside) = (folder.path().join("secret"), folder.path().join("secret.new"));
        for there in [&path, &aside] {
            fs::write(there, "left by others, and longer than what follows").unwrap();
            fs::set_permissions(there, fs::Permissions::from_mode(0o644)).unwrap();
        }
        replace(&path, b"new").unwrap();
        assert_eq!(fs::read(&path).unwrap(), b"new");
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
        assert!(!aside.exists());
        assert!(replace(&folder.path().join("no folder/secret"), b"new").is_err());
    }
}
