//! A node of a cluster, as it introduces itself to the others: in the log, with each claim of a shard.

use engine::model::ids::NodeNo;

/// The longest introduction, in bytes: two names of hosts (253 each) with their ports take about half of it.
pub const MEMBER_BYTES_MAX: usize = 1 << 10;
/// Of what is written here. What a newer program adds, it adds behind this.
const VERSION: u8 = 1;

/// Who a node is, and where it is reached.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Member {
    /// Its number in the cluster, from 1.
    pub node: NodeNo,
    /// Where other nodes reach it, as `host:port`.
    pub peers: String,
    /// Where devices reach it, as `host:port`.
    pub devices: String,
}

impl Member {
    /// What [`Member::decode`] reads; the table stands at the head of [`super::ownership::record`].
    pub fn encode(&self) -> Vec<u8> {
        let mut bytes = vec![VERSION];
        bytes.extend_from_slice(&self.node.0.to_le_bytes());
        for address in [&self.peers, &self.devices] {
            bytes.extend_from_slice(&(address.len() as u16).to_le_bytes());
            bytes.extend_from_slice(address.as_bytes());
        }
        bytes
    }

    /// Whom a claim's value names; `None`: nobody who is known. Who owns a shard does not depend on it, so nothing that stands
    /// there is damage.
    pub fn decode(bytes: &[u8]) -> Option<Self> {
        if bytes.len() > MEMBER_BYTES_MAX {
            return None;
        }
        let (version, rest) = bytes.split_first()?;
        let (node, mut rest) = rest.split_first_chunk()?;
        let mut address = || {
            let (len, behind) = rest.split_first_chunk()?;
            let (address, behind) = behind.split_at_checked(u16::from_le_bytes(*len).into())?;
            rest = behind;
            str::from_utf8(address).ok().filter(|address| !address.is_empty()).map(str::to_owned)
        };
        let (node, peers, devices) = (NodeNo(u32::from_le_bytes(*node)), address()?, address()?);
        (*version >= VERSION && node.0 > 0).then_some(Self { node, peers, devices })
    }

    /// Whether the others will know it by its introduction.
    pub fn is_sound(&self) -> bool {
        let bytes = self.encode();
        self.peers.len().max(self.devices.len()) < MEMBER_BYTES_MAX && Self::decode(&bytes).as_ref() == Some(self)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn member() -> Member {
        Member { node: NodeNo(513), peers: "a:7".into(), devices: "gate.example:4433".into() }
    }

    /// Read for ever: a change here is another version.
    #[test]
    fn an_introduction_is_what_the_table_says() {
        let golden = b"\x01\x01\x02\0\0\x03\0a:7\x11\0gate.example:4433";
        assert_eq!(member().encode(), golden);
        assert_eq!(Member::decode(golden), Some(member()));
        let newer = [b"\x02".as_slice(), &golden[1..], b"and more"].concat();
        assert_eq!(Member::decode(&newer), Some(member()), "what a newer program adds is passed over");
    }

    #[test]
    fn whatever_else_stands_there_names_nobody() {
        let bytes = member().encode();
        for len in 0..bytes.len() {
            assert_eq!(Member::decode(&bytes[..len]), None, "{len} bytes");
        }
        let with = |at: usize, byte: u8| {
            let mut bytes = bytes.clone();
            bytes[at] = byte;
            bytes
        };
        assert_eq!(Member::decode(&with(0, 0)), None, "no version");
        assert_eq!(Member::decode(&with(7, 0xff)), None, "no UTF-8");
        let long = [bytes, vec![0; MEMBER_BYTES_MAX]].concat();
        assert_eq!(Member::decode(&long), None, "too long");

        assert!(member().is_sound());
        for unsound in [
            Member { node: NodeNo(0), ..member() },
            Member { peers: String::new(), ..member() },
            Member { devices: "d".repeat(MEMBER_BYTES_MAX), ..member() },
            Member { devices: "d".repeat(1 << 16), ..member() },
        ] {
            assert!(!unsound.is_sound(), "{unsound:?}");
        }
    }
}
