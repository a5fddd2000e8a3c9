//! `tapgate cluster certificates`: an authority of the cluster's own, and a certificate for each node.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use engine::model::ids::NodeNo;
use rcgen::{
    BasicConstraints, CertificateParams, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair, KeyUsagePurpose,
};

use super::peers::name_of;

/// Why none were made.
#[derive(Debug, thiserror::Error)]
#[error("{}: {why}", .path.display())]
pub struct CertificatesError {
    path: PathBuf,
    why: String,
}

/// What there is now.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Made {
    /// The authority is new.
    pub authority: bool,
    /// Nodes whose pair is new; the others had one already.
    pub nodes: Vec<NodeNo>,
}

/// Makes `ca.pem` and `ca.key`, and `node-N.pem` and `node-N.key` for nodes 1 to `nodes`, in this folder. What is there stays
/// as it is: with more nodes, only the new ones get a pair.
///
/// # Errors
/// [`CertificatesError`]: a file cannot be read or written, or one of a pair is missing.
pub fn make(folder: &Path, nodes: u16) -> Result<Made, CertificatesError> {
    let failed = |path: &Path| {
        let path = path.to_owned();
        move |why: String| CertificatesError { path, why }
    };
    fs::create_dir_all(folder).map_err(|why| failed(folder)(why.to_string()))?;
    let mut made = Made::default();
    let (certificate, key) = (folder.join("ca.pem"), folder.join("ca.key"));
    let authority = if is_there(&certificate, &key)? {
        let read = |path: &Path| fs::read_to_string(path).map_err(|why| failed(path)(why.to_string()));
        let pair = KeyPair::from_pem(&read(&key)?).map_err(|why| failed(&key)(why.to_string()))?;
        Issuer::from_ca_cert_pem(&read(&certificate)?, pair).map_err(|why| failed(&certificate)(why.to_string()))?
    } else {
        let pair = KeyPair::generate().map_err(|why| failed(&key)(why.to_string()))?;
        let params = of_authority();
        let signed = params.self_signed(&pair).map_err(|why| failed(&certificate)(why.to_string()))?;
        write(&key, &pair.serialize_pem())?;
        write(&certificate, &signed.pem())?;
        made.authority = true;
        Issuer::new(params, pair)
    };
    for node in (1..=nodes).map(|no| NodeNo(no.into())) {
        let (certificate, key) =
            (folder.join(format!("node-{}.pem", node.0)), folder.join(format!("node-{}.key", node.0)));
        if is_there(&certificate, &key)? {
            continue;
        }
        let pair = KeyPair::generate().map_err(|why| failed(&key)(why.to_string()))?;
        let signed = of_node(node).and_then(|params| params.signed_by(&pair, &authority));
        let signed = signed.map_err(|why| failed(&certificate)(why.to_string()))?;
        write(&key, &pair.serialize_pem())?;
        write(&certificate, &signed.pem())?;
        made.nodes.push(node);
    }
    Ok(made)
}

/// It signs nodes' certificates and nothing else.
fn of_authority() -> CertificateParams {
    let mut params = CertificateParams::default();
    params.distinguished_name = named("Tapgate cluster");
    params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
    params
}

/// For both sides of a connection.
pub(crate) fn of_node(node: NodeNo) -> Result<CertificateParams, rcgen::Error> {
    let name = name_of(node);
    let mut params = CertificateParams::new([name.clone()])?;
    params.distinguished_name = named(&name);
    params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
    params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth, ExtendedKeyUsagePurpose::ClientAuth];
    params.use_authority_key_identifier_extension = true;
    Ok(params)
}

fn named(name: &str) -> rcgen::DistinguishedName {
    let mut distinguished = rcgen::DistinguishedName::new();
    distinguished.push(DnType::CommonName, name);
    distinguished
}

/// Whether a pair is there. Half of one is nobody's to complete: the other half is somewhere.
fn is_there(certificate: &Path, key: &Path) -> Result<bool, CertificatesError> {
    let there = |path: &Path| {
        path.try_exists().map_err(|why| CertificatesError { path: path.to_owned(), why: why.to_string() })
    };
    match (there(certificate)?, there(key)?) {
        (true, true) => Ok(true),
        (false, false) => Ok(false),
        (has_certificate, _) => {
            let (missing, other) = if has_certificate { (key, certificate) } else { (certificate, key) };
            let why = format!("is missing, and {} is there: bring it back, or take that one away too", other.display());
            Err(CertificatesError { path: missing.to_owned(), why })
        }
    }
}

/// For its owner's eyes only, and whole.
fn write(path: &Path, pem: &str) -> Result<(), CertificatesError> {
    let written: io::Result<()> = tapgate_client::replace(path, pem.as_bytes());
    written.map_err(|why| CertificatesError { path: path.to_owned(), why: why.to_string() })
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;

    use super::*;
    use crate::cluster::peers::PeerTls;

    #[test]
    fn each_node_has_its_pair_and_what_is_there_stays() {
        let folder = tempfile::tempdir().unwrap();
        let at = |name: &str| folder.path().join(name);
        let read = |name: &str| fs::read(at(name)).unwrap();
        let (one, two) = (NodeNo(1), NodeNo(2));
        assert_eq!(make(folder.path(), 1).unwrap(), Made { authority: true, nodes: vec![one] });
        let before = [read("ca.pem"), read("node-1.pem"), read("node-1.key")];
        assert_eq!(make(folder.path(), 2).unwrap(), Made { authority: false, nodes: vec![two] });
        assert_eq!([read("ca.pem"), read("node-1.pem"), read("node-1.key")], before);
        for name in ["ca.key", "node-1.key", "node-2.key"] {
            assert_eq!(fs::metadata(at(name)).unwrap().permissions().mode() & 0o777, 0o600, "{name}");
        }
        let tls = |node, of: u32| {
            let (certificate, key) = (at(&format!("node-{of}.pem")), at(&format!("node-{of}.key")));
            PeerTls::from_files(node, &at("ca.pem"), &certificate, &key).map(drop).map_err(|why| why.to_string())
        };
        assert_eq!((tls(one, 1), tls(two, 2)), (Ok(()), Ok(())), "of one authority, the second by its file");
        let wrong = tls(one, 2).unwrap_err();
        assert!(wrong.contains("peer_certificate") && wrong.contains("node-1.tapgate"), "{wrong}");

        // Half a pair is not completed.
        fs::remove_file(at("ca.key")).unwrap();
        let why = make(folder.path(), 3).unwrap_err().to_string();
        assert!(why.contains("ca.key: is missing"), "{why}");
    }
}
