//! The server's certificate, and the fingerprint devices pin.
//!
//! A device trusts exactly one key: the one whose SHA-256 came with its enrolment code. So a self-signed certificate is as
//! good as any, names and dates in it mean nothing, and a certificate that is renewed for the same key is the same server.
//! Another key means enrolling anew.

use std::fmt;
use std::fs::{self, File, OpenOptions};
use std::io::{self, Write as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};
use std::str::FromStr;
use std::sync::Arc;

use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::{
    CryptoProvider, WebPkiSupportedAlgorithms, aws_lc_rs, verify_tls12_signature, verify_tls13_signature,
};
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName, UnixTime};
use rustls::server::ParsedCertificate;
use rustls::{ClientConfig, DigitallySignedStruct, ServerConfig, SignatureScheme};
use sha2::{Digest as _, Sha256};

use crate::wire::ALPN;

/// The file in the data folder that holds key and certificate together, so that there is never half of a pair.
pub const FILE: &str = "quic.pem";

/// The SHA-256 of a certificate's public key (its SubjectPublicKeyInfo in DER, as in RFC 7469). Reads and writes 64
/// hexadecimal digits.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Fingerprint(pub [u8; 32]);

impl Fingerprint {
    /// Of this certificate's key; `None` if it is none that can be read.
    pub fn of(certificate: &CertificateDer<'_>) -> Option<Self> {
        let key = ParsedCertificate::try_from(certificate).ok()?.subject_public_key_info();
        Some(Self(Sha256::digest(&key).into()))
    }
}

impl fmt::Display for Fingerprint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

impl fmt::Debug for Fingerprint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// This is not 64 hexadecimal digits.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("a fingerprint is 64 hexadecimal digits")]
pub struct NoFingerprint;

impl FromStr for Fingerprint {
    type Err = NoFingerprint;

    fn from_str(text: &str) -> Result<Self, NoFingerprint> {
        let mut bytes = [0; 32];
        if text.len() != 64 || !text.is_ascii() {
            return Err(NoFingerprint);
        }
        for (byte, digits) in bytes.iter_mut().zip(text.as_bytes().chunks(2)) {
            let digit = |c: u8| char::from(c).to_digit(16).ok_or(NoFingerprint);
            *byte = ((digit(digits[0])? << 4) | digit(digits[1])?) as u8;
        }
        Ok(Self(bytes))
    }
}

/// What the QUIC door shows and proves.
#[derive(Clone)]
pub struct ServerTls {
    /// TLS 1.3, [`ALPN`] only, no early data, no resumption.
    pub config: Arc<ServerConfig>,
    /// What devices pin.
    pub fingerprint: Fingerprint,
    /// The certificate itself.
    pub certificate: CertificateDer<'static>,
}

/// Why there is no certificate.
#[derive(Debug, thiserror::Error)]
pub enum TlsError {
    /// A file cannot be read or written.
    #[error("{path}: {error}")]
    File {
        /// Which.
        path: PathBuf,
        /// Why.
        error: io::Error,
    },
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
            make(data, &path).map_err(|error| TlsError::File { path: path.clone(), error })?;
        }
        Self::from_files(&path, &path)
    }

    /// A pair the operator keeps: PEM files, the leaf certificate first.
    ///
    /// # Errors
    /// [`TlsError`].
    pub fn from_files(certificate: &Path, key: &Path) -> Result<Self, TlsError> {
        let read = |path: &Path| fs::read(path).map_err(|error| TlsError::File { path: path.to_owned(), error });
        let content = |path: &Path, what| {
            let path = path.to_owned();
            move |reason: String| TlsError::Content { path, what, reason }
        };
        let chain: Vec<_> = CertificateDer::pem_slice_iter(&read(certificate)?)
            .collect::<Result<_, _>>()
            .map_err(|error| content(certificate, "certificate")(error.to_string()))?;
        let leaf = chain.first().ok_or_else(|| content(certificate, "certificate")("none in there".into()))?;
        let fingerprint =
            Fingerprint::of(leaf).ok_or_else(|| content(certificate, "certificate")("it is damaged".into()))?;
        let certificate = leaf.clone();
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
        Ok(Self { config: Arc::new(config), fingerprint, certificate })
    }
}

/// Writes a new pair aside and puts it in place whole.
fn make(data: &Path, path: &Path) -> io::Result<()> {
    let pair = rcgen::generate_simple_self_signed(["tapgate".to_owned()]).map_err(io::Error::other)?;
    let aside = path.with_extension("new");
    // One left by a crash was never in use.
    match fs::remove_file(&aside) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    let mut file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(&aside)?;
    file.write_all(pair.cert.pem().as_bytes())?;
    file.write_all(pair.signing_key.serialize_pem().as_bytes())?;
    file.sync_all()?;
    fs::rename(&aside, path)?;
    File::open(data)?.sync_all()
}

/// A client that trusts whoever holds the one key with this fingerprint.
pub fn pinned(fingerprint: Fingerprint) -> ClientConfig {
    let provider = Arc::new(aws_lc_rs::default_provider());
    let verifier = Pinned { fingerprint, algorithms: provider.signature_verification_algorithms };
    let mut config = client(provider, verifier);
    config.alpn_protocols = vec![ALPN.to_vec()];
    config.resumption = rustls::client::Resumption::disabled();
    config
}

fn client(provider: Arc<CryptoProvider>, verifier: Pinned) -> ClientConfig {
    ClientConfig::builder_with_provider(provider)
        .with_protocol_versions(&[&rustls::version::TLS13])
        .expect("aws-lc-rs speaks TLS 1.3")
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(verifier))
        .with_no_client_auth()
}

/// Compares the fingerprint, and still checks that the server holds the certificate's key: a fingerprint is public.
#[derive(Debug)]
struct Pinned {
    fingerprint: Fingerprint,
    algorithms: WebPkiSupportedAlgorithms,
}

impl ServerCertVerifier for Pinned {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        _intermediates: &[CertificateDer<'_>],
        _server_name: &ServerName<'_>,
        _ocsp_response: &[u8],
        _now: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        if Fingerprint::of(end_entity) == Some(self.fingerprint) {
            Ok(ServerCertVerified::assertion())
        } else {
            Err(rustls::CertificateError::ApplicationVerificationFailure.into())
        }
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        verify_tls12_signature(message, cert, dss, &self.algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        verify_tls13_signature(message, cert, dss, &self.algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.algorithms.supported_schemes()
    }
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
        assert_eq!(first, Fingerprint(Sha256::digest(rcgen::PublicKeyData::subject_public_key_info(&key)).into()));
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

    #[test]
    fn fingerprints_read_back() {
        let fingerprint = Fingerprint(core::array::from_fn(|i| 7 * i as u8));
        assert_eq!(fingerprint.to_string().parse(), Ok(fingerprint));
        for bad in ["", "00", &"0".repeat(63), &"g".repeat(64), &"é".repeat(32)] {
            assert_eq!(bad.parse::<Fingerprint>(), Err(NoFingerprint), "{bad}");
        }
    }
}
