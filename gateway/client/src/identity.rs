//! Who a device is: the key it has made, the id it was given, the server it trusts. One file of mode 0600.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use aws_lc_rs::rand::{SecureRandom as _, SystemRandom};
use aws_lc_rs::signature::{Ed25519KeyPair, KeyPair as _};
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use engine::model::ids::DeviceId;
use serde::{Deserialize, Serialize};
use tapgate_wire::Fingerprint;

use super::{ClientError, replace};

/// An Ed25519 key. Its secret half leaves the device in no frame.
#[derive(Clone)]
pub struct DeviceKey {
    seed: [u8; 32],
}

impl DeviceKey {
    /// A new one, from the system's randomness.
    ///
    /// # Errors
    /// [`ClientError::Key`] if the system has none.
    pub fn generate() -> Result<Self, ClientError> {
        let mut seed = [0; 32];
        SystemRandom::new().fill(&mut seed).map_err(|_| ClientError::Key)?;
        Ok(Self { seed })
    }

    /// The key that follows from these 32 secret bytes.
    pub fn from_seed(seed: [u8; 32]) -> Self {
        Self { seed }
    }

    fn pair(&self) -> Result<Ed25519KeyPair, ClientError> {
        Ed25519KeyPair::from_seed_unchecked(&self.seed).map_err(|_| ClientError::Key)
    }

    /// The half that everybody may know.
    ///
    /// # Errors
    /// [`ClientError::Key`].
    pub fn public(&self) -> Result<[u8; 32], ClientError> {
        self.pair()?.public_key().as_ref().try_into().map_err(|_| ClientError::Key)
    }

    /// Signs.
    ///
    /// # Errors
    /// [`ClientError::Key`].
    pub fn sign(&self, message: &[u8]) -> Result<[u8; 64], ClientError> {
        self.pair()?.sign(message).as_ref().try_into().map_err(|_| ClientError::Key)
    }
}

/// A device that was enrolled.
#[derive(Clone)]
pub struct Identity {
    /// Its id.
    pub device: DeviceId,
    /// Where its server is: `host:port`, or several of one cluster with commas between.
    pub server: String,
    /// Which key it trusts.
    pub fingerprint: Fingerprint,
    /// Which one it trusts as well, since the server has said that it will be the next.
    pub next: Option<Fingerprint>,
    /// Where it was read from or written to. A reader or terminal keeps there which keys it trusts from now on; without a
    /// file it knows so only while it runs.
    pub file: Option<PathBuf>,
    /// Its key.
    pub key: DeviceKey,
}

/// What the file holds. Without a device: the key was made, and its enrolment is under way.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Stored {
    device: Option<String>,
    server: String,
    fingerprint: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    next: Option<String>,
    key: String,
}

impl Identity {
    /// Reads a file that [`Self::save`] wrote.
    ///
    /// # Errors
    /// [`ClientError::File`] if it cannot be read, [`ClientError::Damaged`] if it is something else,
    /// [`ClientError::NotEnrolled`] if the enrolment never ended.
    pub fn load(path: &Path) -> Result<Self, ClientError> {
        let (key, stored) = read(path)?;
        let damaged = || ClientError::Damaged(path.to_owned());
        let device = stored.device.ok_or(ClientError::NotEnrolled)?;
        Ok(Self {
            device: DeviceId::parse(&device).ok_or_else(damaged)?,
            server: stored.server,
            fingerprint: stored.fingerprint.parse().map_err(|_| damaged())?,
            next: stored.next.map(|next| next.parse().map_err(|_| damaged())).transpose()?,
            file: Some(path.to_owned()),
            key,
        })
    }

    /// Writes it, whole or not at all, for its owner's eyes only.
    ///
    /// # Errors
    /// [`ClientError::File`].
    pub fn save(&self, path: &Path) -> Result<(), ClientError> {
        write(path, &self.key, Some(self.device), &self.server, (self.fingerprint, self.next))
    }

    /// It was connected to a server that showed the first of these keys, and named the second as its next. True if it is
    /// on disk that these are the keys it trusts.
    ///
    /// # Errors
    /// [`ClientError::File`]; it trusts them all the same, while this process runs.
    pub(super) fn trusts(&mut self, shown: Fingerprint, next: Option<Fingerprint>) -> Result<bool, ClientError> {
        let is_news = (self.fingerprint, self.next) != (shown, next);
        (self.fingerprint, self.next) = (shown, next);
        let Some(file) = &self.file else { return Ok(false) };
        if is_news {
            self.save(file)?;
        }
        Ok(true)
    }
}

/// The key of an enrolment that is to begin or was cut off: the same code with the same key is the same attempt, so
/// that a lost answer costs nothing.
pub(super) fn key_for_enrolment(path: &Path, server: &str, fingerprint: Fingerprint) -> Result<DeviceKey, ClientError> {
    if path.try_exists().map_err(|error| file(path, error))? {
        let (key, stored) = read(path)?;
        return if stored.device.is_some() { Err(ClientError::AlreadyEnrolled) } else { Ok(key) };
    }
    let key = DeviceKey::generate()?;
    write(path, &key, None, server, (fingerprint, None))?;
    Ok(key)
}

fn read(path: &Path) -> Result<(DeviceKey, Stored), ClientError> {
    let damaged = || ClientError::Damaged(path.to_owned());
    let text = fs::read(path).map_err(|error| file(path, error))?;
    let stored: Stored = serde_json::from_slice(&text).map_err(|_| damaged())?;
    let mut seed = [0; 32];
    if URL_SAFE_NO_PAD.decode_slice(&stored.key, &mut seed) != Ok(32) {
        return Err(damaged());
    }
    Ok((DeviceKey { seed }, stored))
}

fn write(
    path: &Path,
    key: &DeviceKey,
    device: Option<DeviceId>,
    server: &str,
    (fingerprint, next): (Fingerprint, Option<Fingerprint>),
) -> Result<(), ClientError> {
    let stored = Stored {
        device: device.map(|device| device.to_string()),
        server: server.to_owned(),
        fingerprint: fingerprint.to_string(),
        next: next.map(|next| next.to_string()),
        key: URL_SAFE_NO_PAD.encode(key.seed),
    };
    let mut text = serde_json::to_vec_pretty(&stored).map_err(|error| file(path, io::Error::other(error)))?;
    text.push(b'\n');
    replace(path, &text).map_err(|error| file(path, error))
}

pub(super) fn file(path: &Path, error: io::Error) -> ClientError {
    ClientError::File { path: path.to_owned(), error: std::sync::Arc::new(error) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use engine::model::ids::FestivalId;
    use std::os::unix::fs::PermissionsExt as _;

    #[test]
    fn an_identity_reads_back_and_is_nobody_elses() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("identity.json");
        let identity = Identity {
            device: DeviceId::new(FestivalId(7), 3),
            server: "127.0.0.1:4433".into(),
            fingerprint: Fingerprint([9; 32]),
            next: Some(Fingerprint([8; 32])),
            file: None,
            key: DeviceKey::generate().unwrap(),
        };
        identity.save(&path).unwrap();
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
        let read = Identity::load(&path).unwrap();
        assert_eq!(
            (read.device, &read.server, read.fingerprint, read.next),
            (identity.device, &identity.server, identity.fingerprint, identity.next)
        );
        assert_eq!(read.key.public().unwrap(), identity.key.public().unwrap());
        assert!(matches!(key_for_enrolment(&path, "x:1", Fingerprint([0; 32])), Err(ClientError::AlreadyEnrolled)));
    }

    #[test]
    fn an_enrolment_that_was_cut_off_goes_on_with_its_key() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("identity.json");
        let begin = || key_for_enrolment(&path, "127.0.0.1:4433", Fingerprint([9; 32])).unwrap().public().unwrap();
        let first = begin();
        assert!(matches!(Identity::load(&path), Err(ClientError::NotEnrolled)));
        assert_eq!(begin(), first);
        fs::write(&path, b"{}").unwrap();
        assert!(matches!(Identity::load(&path), Err(ClientError::Damaged(_))));
    }
}
