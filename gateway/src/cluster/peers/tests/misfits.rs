//! Who does not belong here is refused, and hears why.

use std::fs;
use std::path::Path;

use actors::peers::codec::PROTOCOL;
use engine::model::credential::QrSecret;
use engine::model::ids::{NodeNo, ShardId};
use quinn::ConnectionError;
use rcgen::{CertificateParams, Issuer, KeyPair, date_time_ymd};
use storage::testing::memory::MemoryLog;
use tapgate_wire::Fingerprint;

use super::super::{Hello, PeerTls};
use super::{Hosts, SHARDS, certified, hello, node, opens, tls, until};
use crate::cluster::certificates;

/// Another pair for a node, from the authority in this folder.
fn renew(folder: &Path, node: u32, change: impl FnOnce(&mut CertificateParams)) {
    let read = |name: &str| fs::read_to_string(folder.join(name)).unwrap();
    let authority = KeyPair::from_pem(&read("ca.key")).unwrap();
    let authority = Issuer::from_ca_cert_pem(&read("ca.pem"), authority).unwrap();
    let (mut params, pair) = (certificates::of_node(NodeNo(node)).unwrap(), KeyPair::generate().unwrap());
    change(&mut params);
    fs::write(folder.join(format!("node-{node}.pem")), params.signed_by(&pair, &authority).unwrap().pem()).unwrap();
    fs::write(folder.join(format!("node-{node}.key")), pair.serialize_pem()).unwrap();
}

/// Nodes 1 and 2 find each other, and neither lets the other in: what the first says of the second, and the second of the first.
async fn refuse_each_other(one: (Hello, PeerTls), two: (Hello, PeerTls)) -> [String; 2] {
    let (log, hosts) = (MemoryLog::new(SHARDS), Hosts::none());
    let mut doors = Vec::new();
    for ((hello, tls), no) in [one, two].into_iter().zip(1..) {
        let node = node(&log, no).await;
        let door = opens(&node, hello, tls, &hosts).await;
        hosts.announce(ShardId(no as u16 - 1), no, door.local_addr().unwrap());
        doors.push((node, door));
    }
    until("both say why", || doors.iter().all(|(_, door)| !door.trouble().is_empty())).await;
    let said = [0, 1].map(|at| doors[at].1.trouble().remove(0).1);
    for (node, door) in doors {
        assert_eq!(door.connected(), []);
        door.stop().await;
        node.stop().await;
    }
    said
}

#[tokio::test]
async fn certificates_that_do_not_hold_are_refused_and_both_sides_say_what_to_do() {
    let folder = certified(3);
    let at = folder.path();
    let elsewhere = certified(2);
    let [sound, stranger, third] = [tls(at, 1), tls(elsewhere.path(), 2), tls(at, 3)];
    renew(at, 2, |params| params.not_after = date_time_ymd(2020, 1, 1));
    let expired = tls(at, 2);
    renew(at, 2, |params| params.not_before = date_time_ymd(2999, 1, 1));
    let not_yet = tls(at, 2);
    renew(at, 2, |params| params.extended_key_usages.pop().map(drop).unwrap());
    let one_sided = tls(at, 2);
    for (of_second, says) in [
        (
            expired,
            [
                "its certificate is refused here: it has expired",
                "it refuses this node's certificate, which has expired",
            ],
        ),
        (not_yet, ["not valid yet", "not valid yet"]),
        (stranger, ["was not issued by the authority in the other's `peer_ca`", "was not issued by the authority"]),
        (third, ["whoever answers there is not node 2", "it says that it is node 2, and its certificate does not"]),
    ] {
        let said = refuse_each_other((hello(1), sound.clone()), (hello(2), of_second)).await;
        for (said, says) in said.iter().zip(says) {
            assert!(said.contains(says), "{says}: {said}");
        }
    }
    // One that is for one side of a connection only is of no use on the other: whoever dials with it is refused.
    let said = refuse_each_other((Hello { cluster: "b".into(), ..hello(1) }, sound), (hello(2), one_sided)).await;
    assert!(said[1].contains("it refuses this node's certificate"), "{}", said[1]);
}

#[tokio::test]
async fn nodes_whose_settings_differ_refuse_each_other_by_the_settings_name() {
    let folder = certified(2);
    let other = QrSecret::new(b"another secret of at least 32 bytes, for tests").unwrap();
    let secret = Hello::new(NodeNo(2), "tests".into(), SHARDS, &other, Fingerprint([7; 32]));
    let key = Hello { devices_key: [8; 32], ..hello(2) };
    for (second, setting) in [(secret, "`qr_secret` differs"), (key, "`tls_key` differs")] {
        let [one, two] = refuse_each_other((hello(1), tls(folder.path(), 1)), (second, tls(folder.path(), 2))).await;
        assert!(one.contains(setting) && two.contains(setting), "{one}\n{two}");
    }
}

#[tokio::test]
async fn a_node_of_another_version_hears_that_it_is_one() {
    let (folder, log, hosts) = (certified(2), MemoryLog::new(SHARDS), Hosts::none());
    let node = node(&log, 1).await;
    let door = opens(&node, hello(1), tls(folder.path(), 1), &hosts).await;
    let endpoint = quinn::Endpoint::client(([127, 0, 0, 1], 0).into()).unwrap();
    let config = quinn::ClientConfig::new(tls(folder.path(), 2).client);
    let connecting = endpoint.connect_with(config, door.local_addr().unwrap(), "node-1.tapgate").unwrap();
    let connection = connecting.await.unwrap();
    let (mut sending, _receiving) = connection.open_bi().await.unwrap();
    sending.write_all(&(PROTOCOL + 8).to_le_bytes()).await.unwrap();
    let ConnectionError::ApplicationClosed(close) = connection.closed().await else { panic!("closed otherwise") };
    let said = String::from_utf8_lossy(&close.reason);
    assert!(said.contains(&format!("it speaks protocol {} and this node {PROTOCOL}", PROTOCOL + 8)), "{said}");
    door.stop().await;
    node.stop().await;
}
