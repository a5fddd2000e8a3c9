//! The data folder as such: that it is there, and that nobody but its owner looks into it. It holds secrets, and who was
//! where and when.

use std::fs::{self, DirBuilder, Metadata, Permissions};
use std::io;
use std::os::unix::fs::{DirBuilderExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};

use tracing::warn;

use crate::server::tls;

/// What a data folder holds. Rights of anything else in it are none of our business.
const OURS: [&str; 8] =
    ["journal", "snapshots", "views", "demo", "qr.secret", tls::FILE, tls::NEXT_FILE, tls::BEFORE_FILE];

/// What is wrong with a data folder before anything in it is opened.
#[derive(Debug, thiserror::Error)]
pub enum FolderError {
    /// There is none.
    #[error("there is no data folder at {}, and none was created: say where it is with --data or --config", .path.display())]
    Missing {
        /// Where it was looked for.
        path: PathBuf,
    },
    /// It cannot be made or looked at.
    #[error("{}: {why}", .path.display())]
    File {
        path: PathBuf,
        /// What the system said.
        why: io::Error,
    },
    /// Others may look into a folder that is not ours alone, so its rights are not ours to narrow.
    #[error(
        "{} can be read by others and holds other files: choose a folder for Tapgate alone, or close it to others (chmod 700)",
        .path.display()
    )]
    Shared { path: PathBuf },
    /// Others may look into it, and this process may not change that.
    #[error("{} can be read by others, and that could not be changed ({why}): close it to others (chmod -R go= )", .path.display())]
    Wide {
        path: PathBuf,
        /// What the system said.
        why: io::Error,
    },
}

/// Makes the folder if it is missing, and narrows the rights of what is in it to its owner's.
///
/// # Errors
/// [`FolderError`].
pub fn prepare(folder: &Path) -> Result<(), FolderError> {
    let fault = |why| FolderError::File { path: folder.to_owned(), why };
    match fs::metadata(folder) {
        Err(why) if why.kind() == io::ErrorKind::NotFound => {
            return DirBuilder::new().recursive(true).mode(0o700).create(folder).map_err(fault);
        }
        Err(why) => return Err(fault(why)),
        Ok(found) if is_wide(&found) && !is_ours_alone(folder).map_err(fault)? => {
            return Err(FolderError::Shared { path: folder.to_owned() });
        }
        Ok(_) => {}
    }
    let mut narrowed = narrow(folder)?;
    for name in OURS {
        narrowed += narrow_all(&folder.join(name))?;
    }
    if narrowed > 0 {
        warn!(folder = %folder.display(), narrowed, "others could read the data folder; now only its owner can");
    }
    Ok(())
}

/// Whether there is a journal in this data folder.
pub fn has_journal(folder: &Path) -> bool {
    fs::read_dir(folder.join("journal")).is_ok_and(|mut entries| {
        entries.any(|entry| entry.is_ok_and(|entry| entry.file_name().to_string_lossy().contains(".log")))
    })
}

/// It has a journal, or nothing at all.
fn is_ours_alone(folder: &Path) -> io::Result<bool> {
    if folder.join("journal").is_dir() {
        return Ok(true);
    }
    for entry in fs::read_dir(folder)? {
        let name = entry?.file_name();
        if name != "lost+found" && OURS.iter().all(|ours| name != *ours) {
            return Ok(false);
        }
    }
    Ok(true)
}

fn is_wide(found: &Metadata) -> bool {
    found.permissions().mode() & 0o077 != 0
}

/// Narrows one file or folder; says how many it was.
fn narrow(path: &Path) -> Result<u32, FolderError> {
    let found = fs::symlink_metadata(path).map_err(|why| FolderError::File { path: path.to_owned(), why })?;
    // Whatever a link leads to was put elsewhere on purpose.
    if found.is_symlink() || !is_wide(&found) {
        return Ok(0);
    }
    let mode = found.permissions().mode() & 0o700;
    match fs::set_permissions(path, Permissions::from_mode(mode)) {
        Ok(()) => Ok(1),
        Err(why) => Err(FolderError::Wide { path: path.to_owned(), why }),
    }
}

/// Narrows it and all that is in it. What goes away meanwhile needs nothing: a running journal compresses its segments.
fn narrow_all(path: &Path) -> Result<u32, FolderError> {
    let gone =
        |why: &FolderError| matches!(why, FolderError::File { why, .. } if why.kind() == io::ErrorKind::NotFound);
    let mut narrowed = match narrow(path) {
        Ok(narrowed) => narrowed,
        Err(why) if gone(&why) => return Ok(0),
        Err(why) => return Err(why),
    };
    if fs::symlink_metadata(path).is_ok_and(|found| found.is_dir()) {
        let fault = |why| FolderError::File { path: path.to_owned(), why };
        for entry in fs::read_dir(path).map_err(fault)? {
            narrowed += narrow_all(&entry.map_err(fault)?.path())?;
        }
    }
    Ok(narrowed)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn mode(path: &Path) -> u32 {
        fs::metadata(path).unwrap().permissions().mode() & 0o777
    }

    fn put(path: &Path, mode: u32) {
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, "x").unwrap();
        fs::set_permissions(path, Permissions::from_mode(mode)).unwrap();
    }

    #[test]
    fn made_narrow_and_narrowed_where_it_was_wide() {
        let folder = tempfile::tempdir().unwrap();
        let data = folder.path().join("data");
        prepare(&data).unwrap();
        assert_eq!(mode(&data), 0o700);
        put(&data.join("journal/0000000001.log"), 0o644);
        put(&data.join("qr.secret"), 0o640);
        put(&data.join("notes"), 0o644);
        fs::set_permissions(&data, Permissions::from_mode(0o755)).unwrap();
        fs::set_permissions(data.join("journal"), Permissions::from_mode(0o755)).unwrap();
        prepare(&data).unwrap();
        for (path, narrow) in [("", 0o700), ("journal", 0o700), ("journal/0000000001.log", 0o600), ("qr.secret", 0o600)]
        {
            assert_eq!(mode(&data.join(path)), narrow, "{path}");
        }
        assert_eq!(mode(&data.join("notes")), 0o644, "not ours");
        assert!(has_journal(&data));
    }

    #[test]
    fn a_folder_that_others_use_is_refused_untouched() {
        let folder = tempfile::tempdir().unwrap();
        put(&folder.path().join("letters/love.txt"), 0o644);
        fs::set_permissions(folder.path(), Permissions::from_mode(0o755)).unwrap();
        assert!(matches!(prepare(folder.path()), Err(FolderError::Shared { .. })));
        assert_eq!((mode(folder.path()), mode(&folder.path().join("letters/love.txt"))), (0o755, 0o644));
        assert!(!has_journal(folder.path()));
        // An empty one is as good as new.
        let empty = tempfile::tempdir().unwrap();
        fs::set_permissions(empty.path(), Permissions::from_mode(0o755)).unwrap();
        prepare(empty.path()).unwrap();
        assert_eq!(mode(empty.path()), 0o700);
    }
}
