//! The server's certificate, and the fingerprint devices pin.
//!
//! A device trusts exactly one key: the one whose SHA-256 came with its enrolment code. So a self-signed certificate is as
//! good as any, names and dates in it mean nothing, and a certificate that is renewed for the same key is the same server.
//! Another key means enrolling anew.

use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use rustls::ServerConfig;
use rustls::crypto::aws_lc_rs;
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::server::ParsedCertificate;
use tapgate_wire::{ALPN, Fingerprint};

/// The file in the data folder that holds key and certificate together, so that there is never half of a pair.
pub const FILE: &str = "quic.pem";
/// The pair that takes its place one day. Devices are told its fingerprint while it lies there.
pub const NEXT_FILE: &str = "quic-next.pem";
/// The pair that was in use before; for going back, and of no use to a server.
pub const BEFORE_FILE: &str = "quic-before.pem";

/// What the QUIC door shows and proves.
#[derive(Clone)]
pub struct ServerTls {
    /// TLS 1.3, [`ALPN`] only, no early data, no resumption.
    pub config: Arc<ServerConfig>,
    /// What devices pin.
    pub fingerprint: Fingerprint,
    /// What they are told to pin as well: the key that comes after this one, if there is one already.
    pub next: Option<Fingerprint>,
    /// The certificate itself.
    pub certificate: CertificateDer<'static>,
}

/// Why there is no certificate.
#[derive(Debug, thiserror::Error)]
pub enum TlsError {
    /// A file cannot be read or written.
    #[error("{path}: {error}")]
    File { path: PathBuf, error: io::Error },
    /// A file holds no certificate or key that can be used.
    #[error("{path}: no usable {what}: {reason}")]
    Content {
        /// Which file.
        path: PathBuf,
        /// What was looked for.
        what: &'static str,
        /// What is wrong.
        reason: String,
    },
}

/// Makes aws-lc-rs the crypto of everything in this process that asks rustls for its default. Safe to call often.
pub fn install_provider() {
    // An error means that it was installed before.
    let _ = aws_lc_rs::default_provider().install_default();
}

impl ServerTls {
    /// The pair kept in the data folder; made there on the first start, readable by its owner only.
    ///
    /// # Errors
    /// [`TlsError`].
    pub fn kept_in(data: &Path) -> Result<Self, TlsError> {
        let path = data.join(FILE);
        if !path.try_exists().map_err(|error| TlsError::File { path: path.clone(), error })? {
            make(&path).map_err(|error| TlsError::File { path: path.clone(), error })?;
        }
        let next = data.join(NEXT_FILE);
        let has_next = next.try_exists().map_err(|error| TlsError::File { path: next.clone(), error })?;
        let tls = Self::from_files(&path, &path)?;
        if !has_next {
            return Ok(tls);
        }
        // Gates open whatever is wrong with a key that nobody uses yet.
        Ok(tls.clone().followed_by(&next).unwrap_or_else(|error| {
            tracing::warn!(%error, "devices are not told of the server's next key");
            tls
        }))
    }

    /// The same, and devices are told of the key in this certificate.
    ///
    /// # Errors
    /// [`TlsError`].
    pub fn followed_by(self, certificate: &Path) -> Result<Self, TlsError> {
        let (_, next) = chain_in(certificate)?;
        Ok(Self { next: Some(next).filter(|next| *next != self.fingerprint), ..self })
    }

    /// A pair the operator keeps: PEM files, the leaf certificate first.
    ///
    /// # Errors
    /// [`TlsError`].
    pub fn from_files(certificate: &Path, key: &Path) -> Result<Self, TlsError> {
        let content = |path: &Path, what| {
            let path = path.to_owned();
            move |reason: String| TlsError::Content { path, what, reason }
        };
        let (chain, fingerprint) = chain_in(certificate)?;
        let certificate = chain[0].clone();
        let secret = PrivateKeyDer::from_pem_slice(&read(key)?)
            .map_err(|error| content(key, "private key")(error.to_string()))?;
        let mut config = ServerConfig::builder_with_provider(Arc::new(aws_lc_rs::default_provider()))
            .with_protocol_versions(&[&rustls::version::TLS13])
            .expect("aws-lc-rs speaks TLS 1.3")
            .with_no_client_auth()
            .with_single_cert(chain, secret)
            .map_err(|error| content(key, "pair")(error.to_string()))?;
        config.alpn_protocols = vec![ALPN.to_vec()];
        // Devices stay connected for hours: tickets would be memory and a second way in, for nothing.
        config.send_tls13_tickets = 0;
        Ok(Self { config: Arc::new(config), fingerprint, next: None, certificate })
    }
}

fn read(path: &Path) -> Result<Vec<u8>, TlsError> {
    fs::read(path).map_err(|error| TlsError::File { path: path.to_owned(), error })
}

/// The certificates of a file, the leaf first, and its key's fingerprint.
fn chain_in(path: &Path) -> Result<(Vec<CertificateDer<'static>>, Fingerprint), TlsError> {
    let unusable = |reason| TlsError::Content { path: path.to_owned(), what: "certificate", reason };
    let chain = CertificateDer::pem_slice_iter(&read(path)?).collect::<Result<Vec<_>, _>>();
    let chain = chain.map_err(|error| unusable(error.to_string()))?;
    let leaf = chain.first().ok_or_else(|| unusable("none in there".into()))?;
    let leaf = ParsedCertificate::try_from(leaf).map_err(|_| unusable("it is damaged".into()))?;
    let fingerprint = Fingerprint::of_key(&leaf.subject_public_key_info());
    Ok((chain, fingerprint))
}

/// Makes the pair that is to follow the one in the data folder, if it is not there yet, and says what its key is. A server
/// tells its devices from its next start on.
///
/// # Errors
/// [`TlsError`].
pub fn prepare_next(data: &Path) -> Result<Fingerprint, TlsError> {
    let path = data.join(NEXT_FILE);
    let failed = |error| TlsError::File { path: path.clone(), error };
    if !path.try_exists().map_err(failed)? {
        make(&path).map_err(failed)?;
    }
    chain_in(&path).map(|(_, next)| next)
}

/// The prepared pair takes the present one's place. No server may run there.
///
/// # Errors
/// [`TlsError`]; nothing has changed then.
pub fn switch(data: &Path) -> Result<Fingerprint, TlsError> {
    let (next, path, before) = (data.join(NEXT_FILE), data.join(FILE), data.join(BEFORE_FILE));
    // What cannot be served is not put in place.
    let fingerprint = ServerTls::from_files(&next, &next)?.fingerprint;
    let failed = |error| TlsError::File { path: path.clone(), error };
    // A name of its own for the old pair first: at every moment there is a whole one under the name that is served.
    match fs::remove_file(&before) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(failed(error)),
        _ => {}
    }
    match fs::hard_link(&path, &before) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(failed(error)),
        _ => {}
    }
    fs::rename(&next, &path).map_err(failed)?;
    File::open(data).and_then(|folder| folder.sync_all()).map_err(failed)?;
    Ok(fingerprint)
}

/// Puts a new pair in place whole.
pub(crate) fn make(path: &Path) -> io::Result<()> {
    let pair = rcgen::generate_simple_self_signed(["tapgate".to_owned()]).map_err(io::Error::other)?;
    tapgate_client::replace(path, (pair.cert.pem() + &pair.signing_key.serialize_pem()).as_bytes())
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::PermissionsExt as _;

    #[test]
    fn the_pair_is_made_once_and_kept_from_others() {
        let data = tempfile::tempdir().unwrap();
        let first = ServerTls::kept_in(data.path()).unwrap();
        let again = ServerTls::kept_in(data.path()).unwrap();
        assert_eq!(first.fingerprint, again.fingerprint, "devices have pinned it");
        assert_eq!(fs::metadata(data.path().join(FILE)).unwrap().permissions().mode() & 0o777, 0o600);
        assert_eq!(first.config.alpn_protocols, [b"tapgate/2"]);
        let elsewhere = tempfile::tempdir().unwrap();
        assert_ne!(ServerTls::kept_in(elsewhere.path()).unwrap().fingerprint, first.fingerprint);
    }

    #[test]
    fn a_certificate_renewed_for_the_same_key_is_the_same_server() {
        let data = tempfile::tempdir().unwrap();
        let key = rcgen::KeyPair::generate().unwrap();
        let other = rcgen::KeyPair::generate().unwrap();
        let certified = |name: &str, key: &rcgen::KeyPair| {
            let path = data.path().join(name);
            let certificate = rcgen::CertificateParams::new(vec![name.to_owned()]).unwrap().self_signed(key).unwrap();
            fs::write(&path, certificate.pem() + &key.serialize_pem()).unwrap();
            ServerTls::from_files(&path, &path).unwrap().fingerprint
        };
        let first = certified("gates.example.org", &key);
        assert_eq!(certified("other.example.org", &key), first, "renewed");
        assert_ne!(certified("gates.example.org", &other), first, "another key");
        // As others compute it: SHA-256 over the key's own DER.
        assert_eq!(first, Fingerprint::of_key(&rcgen::PublicKeyData::subject_public_key_info(&key)));
    }

    #[test]
    fn a_key_is_prepared_told_and_changed_to() {
        let data = tempfile::tempdir().unwrap();
        let first = ServerTls::kept_in(data.path()).unwrap();
        assert_eq!(first.next, None);
        assert!(switch(data.path()).is_err(), "nothing is prepared");
        let next = prepare_next(data.path()).unwrap();
        assert_eq!(prepare_next(data.path()).unwrap(), next, "devices may have been told of it");
        let told = ServerTls::kept_in(data.path()).unwrap();
        assert_eq!((told.fingerprint, told.next), (first.fingerprint, Some(next)));
        assert_eq!(switch(data.path()).unwrap(), next);
        let after = ServerTls::kept_in(data.path()).unwrap();
        assert_eq!((after.fingerprint, after.next), (next, None));
        let before = data.path().join(BEFORE_FILE);
        assert_eq!(ServerTls::from_files(&before, &before).unwrap().fingerprint, first.fingerprint);
        // What cannot be served is not put in place.
        fs::write(data.path().join(NEXT_FILE), "nothing of the kind").unwrap();
        assert!(switch(data.path()).is_err());
        let served = ServerTls::kept_in(data.path()).unwrap();
        assert_eq!((served.fingerprint, served.next), (next, None), "the doors open all the same");
    }

    #[test]
    fn what_is_no_certificate_is_named() {
        let data = tempfile::tempdir().unwrap();
        let file = data.path().join(FILE);
        fs::write(&file, "nothing of the kind").unwrap();
        let error = ServerTls::kept_in(data.path()).err().unwrap().to_string();
        assert!(error.contains(FILE) && error.contains("certificate"), "{error}");
        let missing = ServerTls::from_files(&file, &data.path().join("key.pem")).err().unwrap();
        assert!(missing.to_string().contains("certificate"), "{missing}");
        // Somebody else's key does not fit.
        let (a, b) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        ServerTls::kept_in(a.path()).unwrap();
        ServerTls::kept_in(b.path()).unwrap();
        let error = ServerTls::from_files(&a.path().join(FILE), &b.path().join(FILE)).err().unwrap();
        assert!(error.to_string().contains("pair"), "{error}");
    }
}
