//! What two nodes say to each other before anything else: whether they belong together. It begins with the protocol's number,
//! in two bytes, whatever follows: so nodes of any two versions can tell each other that they are of two versions.

use actors::peers::codec::PROTOCOL;
use engine::model::credential::QrSecret;
use engine::model::ids::NodeNo;
use quinn::RecvStream;
use serde::{Deserialize, Serialize};
use tapgate_wire::Fingerprint;

/// The longest, in bytes: a cluster's name has at most 64 characters of 4 bytes.
const HELLO_BYTES_MAX: usize = 1_024;

/// What nodes of one cluster have in common, and which of them speaks.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Hello {
    pub node: NodeNo,
    /// The cluster's name.
    pub cluster: String,
    /// How many shards its journal has.
    pub shards: u16,
    /// Follows from the secret, and the secret does not follow from it.
    pub secret: [u8; 16],
    /// The key that devices pin.
    pub devices_key: [u8; 32],
}

const SECRET_LABEL: &[u8] = b"tapgate.peers.secret.v1";

impl Hello {
    pub fn new(node: NodeNo, cluster: String, shards: u16, secret: &QrSecret, devices_key: Fingerprint) -> Self {
        let secret = *secret.derive(SECRET_LABEL).first_chunk().expect("16 of 32");
        Self { node, cluster, shards, secret, devices_key: devices_key.0 }
    }

    /// Why another node and this one do not belong together: the setting, and what goes wrong otherwise.
    pub(super) fn differs_from(&self, other: &Self) -> Option<String> {
        let (me, they) = (self.node.0, other.node.0);
        if self.node == other.node {
            return Some(format!("two servers have `node = {me}`: each needs a number of its own"));
        }
        if self.cluster != other.cluster {
            return Some(format!(
                "`cluster` differs: it is {:?} at node {me} and {:?} at node {they}, and two clusters have nothing to say to each \
                 other",
                self.cluster, other.cluster
            ));
        }
        if self.shards != other.shards {
            return Some(format!(
                "`shards` differs: {} at node {me} and {} at node {they}; all nodes need the same",
                self.shards, other.shards
            ));
        }
        if self.secret != other.secret {
            return Some(format!(
                "`qr_secret` differs between node {me} and node {they}: each would refuse the tickets that the other has signed; \
                 all nodes need the same"
            ));
        }
        (self.devices_key != other.devices_key).then(|| {
            format!(
                "`tls_key` differs between node {me} and node {they}: devices pin one key, and could not go from one node to the \
                 other; all nodes need the same"
            )
        })
    }

    pub(super) fn encode(&self) -> Vec<u8> {
        let content = postcard::to_allocvec(self).expect("plain data");
        let mut bytes = PROTOCOL.to_le_bytes().to_vec();
        bytes.extend_from_slice(&(content.len() as u16).to_le_bytes());
        bytes.extend_from_slice(&content);
        bytes
    }

    /// Reads what the other node says, which begins its stream.
    ///
    /// # Errors
    /// A sentence: what it speaks is not understood here, or it has hung up.
    pub(super) async fn read(from: &mut RecvStream) -> Result<Self, String> {
        let gone = |why: quinn::ReadExactError| format!("it says nothing: {why}");
        let mut head = [0; 4];
        from.read_exact(&mut head[..2]).await.map_err(gone)?;
        let protocol = u16::from_le_bytes([head[0], head[1]]);
        if protocol != PROTOCOL {
            return Err(format!(
                "it speaks protocol {protocol} and this node {PROTOCOL}: they are of different versions, and forward nothing to \
                 each other. Bring both to the same version"
            ));
        }
        from.read_exact(&mut head[2..]).await.map_err(gone)?;
        let length = usize::from(u16::from_le_bytes([head[2], head[3]]));
        if length > HELLO_BYTES_MAX {
            return Err(format!("its greeting has {length} bytes, where {HELLO_BYTES_MAX} are the most"));
        }
        let mut content = vec![0; length];
        from.read_exact(&mut content).await.map_err(gone)?;
        postcard::from_bytes(&content).map_err(|_| "its greeting makes no sense".into())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn hello(node: u32, secret: &str) -> Hello {
        let secret = QrSecret::new(secret.as_bytes()).unwrap();
        Hello::new(NodeNo(node), "festival".into(), 16, &secret, Fingerprint([3; 32]))
    }

    #[test]
    fn nodes_that_do_not_belong_together_hear_which_setting_differs() {
        let secret = "a secret of at least 32 bytes, for tests";
        let (one, two) = (hello(1, secret), hello(2, secret));
        assert_eq!(one.differs_from(&two), None);
        for (other, setting) in [
            (hello(1, secret), "`node = 1`"),
            (Hello { cluster: "rehearsal".into(), ..two.clone() }, "`cluster`"),
            (Hello { shards: 8, ..two.clone() }, "`shards`"),
            (hello(2, "another secret of at least 32 bytes, for tests"), "`qr_secret`"),
            (Hello { devices_key: [4; 32], ..two.clone() }, "`tls_key`"),
        ] {
            let said = one.differs_from(&other).expect("they differ");
            assert!(said.contains(setting), "{said}");
        }
    }
}
