//! How nodes prove to each other who they are: each has a certificate of the cluster's own authority for the name
//! `node-N.tapgate`, and shows it whether it connects or is connected to. So no node speaks for another.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use engine::model::ids::NodeNo;
use quinn::ConnectionError;
use quinn::crypto::rustls::{QuicClientConfig, QuicServerConfig};
use rustls::client::{Resumption, verify_server_name};
use rustls::crypto::aws_lc_rs;
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use rustls::server::{ParsedCertificate, WebPkiClientVerifier};
use rustls::{ClientConfig, RootCertStore, ServerConfig};

/// What a node's certificate is for.
pub fn name_of(node: NodeNo) -> String {
    format!("node-{}.tapgate", node.0)
}

/// Not what devices speak: neither door lets in who belongs at the other.
const ALPN: &[u8] = b"tapgate-peers";

/// What a node shows, and whom it believes.
#[derive(Clone)]
pub struct PeerTls {
    pub(super) client: Arc<QuicClientConfig>,
    pub(super) server: Arc<QuicServerConfig>,
}

/// Why there is none: a file that cannot be used, by the setting that names it.
#[derive(Debug, thiserror::Error)]
#[error("{setting} ({}): {why}", .path.display())]
pub struct PeerTlsError {
    setting: &'static str,
    path: PathBuf,
    why: String,
}

impl PeerTls {
    /// Of this node, with the authority's certificate (or several, while one takes another's place) and its own pair, all PEM.
    ///
    /// # Errors
    /// [`PeerTlsError`]: a file cannot be read or used, or the certificate is another node's.
    pub fn from_files(node: NodeNo, ca: &Path, certificate: &Path, key: &Path) -> Result<Self, PeerTlsError> {
        let refused = |setting, path: &Path| {
            let path = path.to_owned();
            move |why: String| PeerTlsError { setting, path, why }
        };
        let authorities = certificates_in(ca).map_err(refused("peer_ca", ca))?;
        let mut roots = RootCertStore::empty();
        for authority in authorities {
            roots.add(authority).map_err(|why| refused("peer_ca", ca)(why.to_string()))?;
        }
        let roots = Arc::new(roots);
        let chain = certificates_in(certificate).map_err(refused("peer_certificate", certificate))?;
        is_for(&chain[0], node).map_err(refused("peer_certificate", certificate))?;
        let key_refused = |why: String| refused("peer_key", key)(why);
        let secret = std::fs::read(key).map_err(|why| key_refused(why.to_string()))?;
        let secret = PrivateKeyDer::from_pem_slice(&secret)
            .map_err(|why| key_refused(format!("there is no private key in it: {why}")))?;

        let provider = Arc::new(aws_lc_rs::default_provider());
        let verifier = WebPkiClientVerifier::builder_with_provider(Arc::clone(&roots), Arc::clone(&provider))
            .build()
            .map_err(|why| refused("peer_ca", ca)(why.to_string()))?;
        let mut server = ServerConfig::builder_with_provider(Arc::clone(&provider))
            .with_protocol_versions(&[&rustls::version::TLS13])
            .expect("aws-lc-rs speaks TLS 1.3")
            .with_client_cert_verifier(verifier)
            .with_single_cert(chain.clone(), secret.clone_key())
            .map_err(|why| key_refused(format!("it does not belong to the certificate: {why}")))?;
        server.alpn_protocols = vec![ALPN.to_vec()];
        server.send_tls13_tickets = 0;
        let mut client = ClientConfig::builder_with_provider(provider)
            .with_protocol_versions(&[&rustls::version::TLS13])
            .expect("aws-lc-rs speaks TLS 1.3")
            .with_root_certificates(roots)
            .with_client_auth_cert(chain, secret)
            .map_err(|why| key_refused(why.to_string()))?;
        client.alpn_protocols = vec![ALPN.to_vec()];
        // Whoever was let in once is looked at again: certificates end.
        client.resumption = Resumption::disabled();
        let quic = "TLS 1.3 has what QUIC begins with";
        Ok(Self {
            client: Arc::new(QuicClientConfig::try_from(client).expect(quic)),
            server: Arc::new(QuicServerConfig::try_from(server).expect(quic)),
        })
    }
}

fn certificates_in(path: &Path) -> Result<Vec<CertificateDer<'static>>, String> {
    let bytes = std::fs::read(path).map_err(|why| why.to_string())?;
    let all = CertificateDer::pem_slice_iter(&bytes).collect::<Result<Vec<_>, _>>().map_err(|why| why.to_string())?;
    if all.is_empty() { Err("there is no certificate in it".into()) } else { Ok(all) }
}

/// Whether a certificate is this node's.
pub(super) fn is_for(certificate: &CertificateDer<'_>, node: NodeNo) -> Result<(), String> {
    let name = ServerName::try_from(name_of(node)).expect("a name");
    let parsed = ParsedCertificate::try_from(certificate).map_err(|why| why.to_string())?;
    verify_server_name(&parsed, &name)
        .map_err(|why| format!("it is not node {}'s, which has to be for the name {}: {why}", node.0, name_of(node)))
}

/// TLS alerts (RFC 8446, section 6.2), as QUIC passes them on: 256 and the alert.
mod alert {
    pub(super) const BAD_CERTIFICATE: u64 = 256 + 42;
    pub(super) const UNSUPPORTED: u64 = 256 + 43;
    pub(super) const EXPIRED: u64 = 256 + 45;
    pub(super) const UNKNOWN_CA: u64 = 256 + 48;
    pub(super) const DECRYPT_ERROR: u64 = 256 + 51;
    pub(super) const NO_PROTOCOL: u64 = 256 + 120;
    pub(super) const REQUIRED: u64 = 256 + 116;
}

/// Why there is no connection with a node, and what to do about it.
pub(super) fn explain(error: &ConnectionError, node: Option<NodeNo>) -> String {
    let (code, theirs) = match error {
        ConnectionError::TransportError(error) => (u64::from(error.code), true),
        ConnectionError::ConnectionClosed(close) => (u64::from(close.error_code), false),
        ConnectionError::ApplicationClosed(close) => {
            return format!("it says: {}", String::from_utf8_lossy(&close.reason));
        }
        ConnectionError::TimedOut => return "it does not answer".into(),
        ConnectionError::Reset => return "it was started anew".into(),
        other => return other.to_string(),
    };
    let (whose, here) = if theirs {
        ("its certificate is refused here: it", "there")
    } else {
        ("it refuses this node's certificate, which", "here")
    };
    let make = format!("make a new one with `tapgate cluster certificates`, and restart the node {here}");
    match code {
        alert::EXPIRED => format!(
            "{whose} has expired, or is not valid yet by the other's clock ({error}). Compare the clocks; if they are right, {make}"
        ),
        alert::UNKNOWN_CA | alert::DECRYPT_ERROR => format!(
            "{whose} was not issued by the authority in the other's `peer_ca` ({error}). All nodes need certificates of one \
             authority: {make}"
        ),
        alert::BAD_CERTIFICATE => match node.filter(|_| theirs) {
            Some(node) => format!(
                "whoever answers there is not node {} ({error}). Its certificate has to be for the name {}: compare `node`, \
                 `peers_advertised` and `peer_certificate` there",
                node.0,
                name_of(node)
            ),
            None => format!("{whose} cannot be used ({error}): {make}"),
        },
        alert::UNSUPPORTED => {
            format!(
                "{whose} is for one side of a connection only, and nodes are now the one and now the other ({error}): {make}"
            )
        }
        alert::REQUIRED => format!("it asks for a certificate ({error}): set `peer_certificate` and `peer_key`"),
        alert::NO_PROTOCOL => {
            format!(
                "whoever answers there is not a node's door for other nodes ({error}): compare `peers_advertised` there"
            )
        }
        _ => error.to_string(),
    }
}
