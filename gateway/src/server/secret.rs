//! Secrets that are made once and kept in the data folder: 32 random bytes as 43 characters of URL-safe base 64, on one
//! line, so that one can be moved into a settings file as it is.

use std::io;
use std::path::Path;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;

/// The longest that is read, in bytes: a secret of somebody's own making may stand there instead.
const LEN_MAX: usize = 1_024;

/// 32 random bytes.
///
/// # Errors
/// The system gives none.
pub fn random() -> io::Result<[u8; 32]> {
    let mut bytes = [0; 32];
    aws_lc_rs::rand::fill(&mut bytes).map_err(|_| io::Error::other("the system gives no randomness"))?;
    Ok(bytes)
}

/// The secret in this file; made there if it is missing, readable by its owner only. It is in place whole or not at
/// all. Call it while holding the data folder's lock.
///
/// # Errors
/// The file cannot be read or written, or what is in it is no line of text.
pub fn kept(path: &Path) -> io::Result<String> {
    match std::fs::read(path) {
        Ok(bytes) => {
            let text = String::from_utf8(bytes).ok().map(|text| text.trim().to_owned());
            text.filter(|text| !text.is_empty() && text.len() <= LEN_MAX)
                .ok_or_else(|| io::Error::new(io::ErrorKind::InvalidData, "there is no secret in it"))
        }
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            let secret = URL_SAFE_NO_PAD.encode(random()?);
            tapgate_client::replace(path, format!("{secret}\n").as_bytes())?;
            Ok(secret)
        }
        Err(error) => Err(error),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::PermissionsExt as _;

    #[test]
    fn made_once_kept_and_nobody_elses() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("qr.secret");
        std::fs::write(folder.path().join("qr.secret.new"), "left by a crash").unwrap();
        let secret = kept(&path).unwrap();
        assert_eq!((secret.len(), kept(&path).unwrap() == secret), (43, true));
        assert_eq!(std::fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
        assert_ne!(kept(&folder.path().join("other")).unwrap(), secret);
    }

    #[test]
    fn an_empty_file_is_not_a_secret() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("qr.secret");
        std::fs::write(&path, " \n").unwrap();
        assert!(kept(&path).is_err(), "or every ticket would be signed with nothing");
    }
}
