//! What goes between nodes, and what comes of it when the way is lost.

use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;

use actors::peers::codec::{self, Request, Response};
use actors::pipeline::Work;
use actors::{Busy, DeviceReply, Inbox, Node, Whereabouts};
use engine::cashless::command::{CashlessAction, CashlessPolicy};
use engine::command::{AdminAction, AdminAnswer, issued};
use engine::gates::command::{CategoryValues, Credential, DeviceAction, DeviceCommand, Direction, Scan, Verdict};
use engine::model::credential::QrSecret;
use engine::model::ids::{CategoryNo, DeviceId, FestivalId, GateNo, Home, NodeNo, ShardId, TicketId, WalletId, ZoneNo};
use engine::model::money::{Currency, Money};
use engine::model::rejection::Rejection;
use engine::model::status::{CategoryKind, FestivalStatus, Policy, ZoneState};
use engine::model::time::{Calendar, Timestamp};
use engine::view::{Notice, Query, View};
use futures_util::future::join_all;
use quinn::{Connection, ConnectionError, Endpoint, RecvStream, SendStream};
use storage::journal::Member;
use storage::testing::memory::MemoryLog;
use tokio::sync::mpsc;

use super::super::{Hello, QuicPeers};
use super::{Hosts, PATIENCE, SHARDS, Two, ask, certified, hello, node, opens, tls, until};

/// A festival with one zone, one gate, one reader and so many tickets.
async fn found(node: &Node, slug: &str, count: usize) -> (FestivalId, DeviceId, Vec<TicketId>) {
    let (starts_at, ends_at) = (Timestamp(0), Timestamp(i64::MAX));
    let (name, slug) = ("n".repeat(200), slug.to_owned());
    let (policy, calendar) = (Policy::default(), Calendar::default());
    let made = ask(node, AdminAction::CreateFestival { slug, name, starts_at, ends_at, policy, calendar }).await;
    let AdminAnswer::Festival(festival) = made else { panic!("{made:?}") };
    if count == 0 {
        return (festival, DeviceId::new(festival, 0), Vec::new());
    }
    let name = "Main".to_owned();
    ask(node, AdminAction::PutZone { festival, zone: None, name, parent: None, capacity: 1_000 }).await;
    ask(node, AdminAction::AddGate { festival, zone: ZoneNo(0), name: "North".into() }).await;
    let values = CategoryValues {
        name: "Day".into(),
        kind: CategoryKind::Standard,
        price: Money { minor: 5_000, currency: Currency::EUR },
        quota: 1_000,
        zones: 1,
        valid_from: starts_at,
        valid_until: ends_at,
    };
    ask(node, AdminAction::PutCategory { festival, category: None, values }).await;
    let (category, holders) = (CategoryNo(0), vec![None; count]);
    let made = ask(node, AdminAction::IssueTickets { festival, category, holders, paid: true, seed: 3 }).await;
    let AdminAnswer::Issued { first_serial, count, seed, .. } = made else { panic!("{made:?}") };
    for to in [FestivalStatus::Published, FestivalStatus::Ongoing] {
        assert_eq!(ask(node, AdminAction::SetFestivalStatus { festival, to }).await, AdminAnswer::Done);
    }
    let (code_hash, gate) = ([1; 32], GateNo(0));
    ask(node, AdminAction::OfferEnrolment { festival, gate, code_hash, name: "r".into() }).await;
    let enrolled = ask(node, AdminAction::EnrolDevice { festival, code_hash, public_key: [2; 32] }).await;
    let AdminAnswer::Device(device) = enrolled else { panic!("{enrolled:?}") };
    (festival, device, issued(festival, category, first_serial, count, seed).collect())
}

fn scan(device: DeviceId, seq: u64, ticket: TicketId) -> DeviceCommand {
    let secret = QrSecret::new(b"a secret of at least 32 bytes, for tests").unwrap();
    let qr = engine::model::credential::text(&secret.key(ticket.festival(), 1).sign(ticket, 1));
    let credential = Credential::Ticket(secret.verify(qr.as_bytes()).unwrap());
    let (zone, direction, captured_at) = (ZoneNo(0), Direction::Enter, Timestamp(0));
    let scan = Scan { zone, direction, credential, captured_at, resent: false, shown: None };
    DeviceCommand { device, seq, floor: 1, action: DeviceAction::Scan(scan) }
}

/// A reader's session: what it is told.
struct Session(mpsc::UnboundedSender<Result<DeviceReply, Rejection>>);

impl Inbox for Session {
    fn answered(&self, replies: &[DeviceReply]) {
        replies.iter().for_each(|reply| self.0.send(Ok(*reply)).unwrap_or_default());
    }
    fn confirmed(&self, _: &[u64]) {}
    fn turned_away(&self, seqs: &[u64], busy: Busy) {
        seqs.iter().for_each(|_| self.0.send(Err(busy.rejection)).unwrap_or_default());
    }
    fn not_confirmed(&self, _: &[u64], _: Busy) {}
}

fn session() -> (Arc<dyn Inbox>, mpsc::UnboundedReceiver<Result<DeviceReply, Rejection>>) {
    let (told, hears) = mpsc::unbounded_channel();
    (Arc::new(Session(told)), hears)
}

/// The node that has a festival, and the other one.
fn home_of(two: &Two, festival: FestivalId) -> (usize, usize) {
    let home = usize::from(Home::Festival(festival).shard(SHARDS).0 % 2);
    assert_eq!(two.nodes[home].whereabouts(Home::Festival(festival)), Whereabouts::Here);
    assert_eq!(two.nodes[1 - home].whereabouts(Home::Festival(festival)), Whereabouts::At(NodeNo(home as u32 + 1)));
    (home, 1 - home)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_scan_at_one_node_is_decided_by_another_once_even_if_the_connection_is_cut_meanwhile() {
    let two = Two::start().await;
    let (festival, device, tickets) = found(&two.nodes[0], "night", 3).await;
    let (home, away) = home_of(&two, festival);
    let (inbox, mut hears) = session();
    two.nodes[away].submit(vec![scan(device, 1, tickets[0])], &inbox).unwrap();
    let reply = hears.recv().await.unwrap().unwrap();
    assert_eq!((reply.seq, reply.answer.verdict, reply.durable), (1, Verdict::Admitted, true));

    // Decided, and not durable yet, when the connection goes.
    let shard = Home::Festival(festival).shard(SHARDS);
    let before = two.log.handed_over(shard);
    {
        let _held = two.log.hold();
        two.nodes[away].submit(vec![scan(device, 2, tickets[1])], &inbox).unwrap();
        until("it is decided", || two.log.handed_over(shard) > before).await;
        two.peers[home].0.guests().values().for_each(|guest| guest.close(1_u32.into(), b"cut"));
        assert_eq!(hears.recv().await.unwrap(), Err(Rejection::InDoubt), "nobody knows");
    }
    two.connected().await;
    two.nodes[away].submit(vec![scan(device, 2, tickets[1])], &inbox).unwrap();
    let again = hears.recv().await.unwrap().unwrap();
    assert_eq!((again.seq, again.answer.verdict), (2, Verdict::Admitted), "what was decided then");
    two.nodes[away].submit(vec![scan(device, 3, tickets[1])], &inbox).unwrap();
    let other = hears.recv().await.unwrap().unwrap();
    assert_eq!(other.answer.verdict, Verdict::Rejected(Rejection::AlreadyUsed));
    let View::Live(live) = two.nodes[away].query(Query::Live(festival)).await else { panic!("no live view") };
    assert_eq!((live.zones[0].occupancy, live.gates[0].admitted), (2, 2), "each once");
    two.stop().await;
}

/// The first that is asked of a node nobody has dialled so far waits for the connection, and is not turned away.
#[tokio::test(flavor = "multi_thread")]
async fn a_node_is_dialled_when_it_is_first_asked() {
    let (folder, hosts, home, door) = alone().await;
    let other = node(&MemoryLog::new(SHARDS), 2).await;
    let away = opens(&other, hello(2), tls(folder.path(), 2), &hosts).await;
    let (peers, devices) = (door.local_addr().unwrap().to_string(), "gate:4433".to_owned());
    // At once, before the door has looked who there is.
    hosts.0.lock().unwrap().fill(Some(Arc::new(Member { node: NodeNo(1), peers, devices })));
    let asked = other.query(Query::Festivals);
    let view = tokio::time::timeout(PATIENCE, asked).await.expect("it is answered");
    assert!(matches!(view, View::Festivals(all) if all.is_empty()), "by the other one");
    for (node, door) in [(home, door), (other, away)] {
        door.stop().await;
        node.stop().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_busy_evening_crosses_in_order_and_shards_tell_each_other_across_nodes() {
    let two = Two::start().await;
    let (festival, device, tickets) = found(&two.nodes[1], "night", 1_000).await;
    let (_, away) = home_of(&two, festival);
    let (inbox, mut hears) = session();
    for (ticket, seq) in tickets.iter().zip(1..) {
        two.nodes[away].submit(vec![scan(device, seq, *ticket)], &inbox).unwrap();
    }
    for seq in 1..=tickets.len() as u64 {
        let reply = hears.recv().await.unwrap().unwrap();
        assert_eq!((reply.seq, reply.answer.verdict), (seq, Verdict::Admitted));
    }
    // A wallet's shard has heard of the festival by a message of that one's, wherever the two are.
    let policy = CashlessPolicy::default();
    let set = AdminAction::Cashless(CashlessAction::SetPolicy { festival, policy });
    assert_eq!(ask(&two.nodes[away], set).await, AdminAnswer::Done);
    for no in 1..=16 {
        let wallet = WalletId(no * 0x1234_5678_9ABC);
        let made = tokio::time::timeout(PATIENCE, async {
            loop {
                let action = CashlessAction::CreateWallet { wallet, festival, account: None };
                match ask(&two.nodes[0], AdminAction::Cashless(action)).await {
                    AdminAnswer::Rejected(Rejection::NotCashless | Rejection::UnknownFestival) => {
                        tokio::time::sleep(std::time::Duration::from_millis(5)).await;
                    }
                    made => return made,
                }
            }
        });
        assert_eq!(made.await.expect("it is told"), AdminAnswer::Wallet(wallet));
    }
    two.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn devices_of_every_node_hear_once_what_a_shard_has_to_say() {
    let two = Two::start().await;
    let (festival, device, _) = found(&two.nodes[0], "night", 1).await;
    let mut notices = two.nodes.each_ref().map(Node::notices);
    let zone = ZoneNo(0);
    let set = |state| AdminAction::SetZoneState { festival, zone, state };
    for node in &two.nodes {
        assert_eq!(ask(node, set(ZoneState::Closed)).await, AdminAnswer::Done);
        assert_eq!(ask(node, set(ZoneState::Open)).await, AdminAnswer::Done);
    }
    assert_eq!(ask(&two.nodes[0], AdminAction::RevokeDevice { device }).await, AdminAnswer::Done);
    for node in &mut notices {
        let mut heard = Vec::new();
        while heard.last() != Some(&Notice::DeviceRevoked(device)) {
            heard.push(tokio::time::timeout(PATIENCE, node.recv()).await.expect("in time").unwrap());
        }
        let say = |state| Notice::Zone { festival, zone, state };
        let (open, closed) = (say(ZoneState::Open), say(ZoneState::Closed));
        assert_eq!(heard, [closed, open, closed, open, Notice::DeviceRevoked(device)]);
    }
    two.stop().await;
}

/// Dials a node as another one does, and greets it.
async fn dial(folder: &Path, no: u32, at: SocketAddr) -> (Endpoint, Connection, SendStream, RecvStream) {
    let endpoint = Endpoint::client(([127, 0, 0, 1], 0).into()).unwrap();
    let mut config = quinn::ClientConfig::new(tls(folder, no).client);
    let mut transport = quinn::TransportConfig::default();
    transport.keep_alive_interval(Some(std::time::Duration::from_millis(200)));
    config.transport_config(Arc::new(transport));
    let connection = endpoint.connect_with(config, at, "node-1.tapgate").unwrap().await.unwrap();
    let (mut sending, mut receiving) = connection.open_bi().await.unwrap();
    sending.write_all(&hello(no).encode()).await.unwrap();
    assert_eq!(Hello::read(&mut receiving).await.unwrap(), hello(1));
    (endpoint, connection, sending, receiving)
}

/// Node 1 with all shards.
async fn alone() -> (tempfile::TempDir, Arc<Hosts>, Node, QuicPeers) {
    let (folder, log, hosts) = (certified(2), MemoryLog::new(SHARDS), Hosts::none());
    let node = node(&log, 1).await;
    let door = opens(&node, hello(1), tls(folder.path(), 1), &hosts).await;
    for shard in (0..SHARDS).map(ShardId) {
        log.claim(shard, 1);
        node.take_up(shard).await.unwrap();
    }
    (folder, hosts, node, door)
}

async fn reason(connection: &Connection) -> String {
    let closed = tokio::time::timeout(PATIENCE, connection.closed()).await.expect("it is closed");
    let ConnectionError::ApplicationClosed(close) = closed else { panic!("{closed:?}") };
    String::from_utf8(close.reason.to_vec()).unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_node_that_sends_nonsense_is_hung_up_on_and_the_others_do_not_notice() {
    let (folder, _, node, door) = alone().await;
    let many = Request::Work { id: 1, shard: ShardId(0), work: Work::Device(vec![scan_of_nobody(); 5_000]) };
    let mut too_much_at_once = Vec::new();
    codec::encode(&many, &mut too_much_at_once).unwrap();
    for (bytes, says) in [
        (vec![9, 0, 0, 0, 250, 250, 250, 250, 250, 250, 250, 250, 250], "no frame"),
        (vec![255; 64], "the most"),
        (too_much_at_once, "no frame"),
    ] {
        let (_endpoint, connection, mut sending, _receiving) = dial(folder.path(), 2, door.local_addr().unwrap()).await;
        sending.write_all(&bytes).await.unwrap();
        let said = reason(&connection).await;
        assert!(said.contains(says), "{said}");
        assert!(matches!(node.query(Query::Festivals).await, View::Festivals(_)));
    }
    // What names a shard that there is not is nobody's to answer, and says so.
    let (_endpoint, _connection, mut sending, mut receiving) = dial(folder.path(), 2, door.local_addr().unwrap()).await;
    let mut asked = Vec::new();
    codec::encode(&Request::Work { id: 5, shard: ShardId(99), work: Work::Query(Query::Festivals) }, &mut asked)
        .unwrap();
    sending.write_all(&asked).await.unwrap();
    let mut answer = Vec::new();
    codec::encode(&Response::Closed { id: 5 }, &mut answer).unwrap();
    let mut heard = vec![0; answer.len()];
    receiving.read_exact(&mut heard).await.unwrap();
    assert_eq!(heard, answer);
    door.stop().await;
    node.stop().await;
}

fn scan_of_nobody() -> DeviceCommand {
    let credential = Credential::Refused(Rejection::InvalidQr, 0);
    let (zone, direction, captured_at) = (ZoneNo(0), Direction::Enter, Timestamp(0));
    let scan = Scan { zone, direction, credential, captured_at, resent: false, shown: None };
    DeviceCommand { device: DeviceId::new(FestivalId(0), 0), seq: 1, floor: 1, action: DeviceAction::Scan(scan) }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_node_that_asks_and_does_not_read_is_hung_up_on() {
    let (folder, _, node, door) = alone().await;
    // 200 of them in each shard, with long names: 50 KB an answer.
    for no in 0..800 {
        found(&node, &format!("f{no}"), 0).await;
    }
    let (_endpoint, connection, mut sending, _receiving) = dial(folder.path(), 2, door.local_addr().unwrap()).await;
    let mut asked = Vec::new();
    for id in 1..=2_000 {
        codec::encode(&Request::Work { id, shard: ShardId(1), work: Work::Query(Query::Festivals) }, &mut asked)
            .unwrap();
    }
    // It may be hung up on in the middle.
    let _ = sending.write_all(&asked).await;
    let said = reason(&connection).await;
    assert!(said.contains("does not read its answers") || said.contains("said nothing"), "{said}");
    assert!(matches!(node.query(Query::Festivals).await, View::Festivals(all) if all.len() == 800));
    door.stop().await;
    node.stop().await;
}

/// A node 2 that lets others in, greets them, and does nothing more.
async fn mute(folder: &Path) -> (Endpoint, tokio::task::JoinHandle<()>) {
    let config = quinn::ServerConfig::with_crypto(tls(folder, 2).server);
    let endpoint = Endpoint::server(config, ([127, 0, 0, 1], 0).into()).unwrap();
    let listening = endpoint.clone();
    let serving = tokio::spawn(async move {
        let mut kept = Vec::new();
        while let Some(incoming) = listening.accept().await {
            let connection = incoming.await.unwrap();
            let (mut sending, mut receiving) = connection.accept_bi().await.unwrap();
            assert_eq!(Hello::read(&mut receiving).await.unwrap(), hello(1));
            sending.write_all(&hello(2).encode()).await.unwrap();
            kept.push((connection, sending, receiving));
        }
    });
    (endpoint, serving)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_node_that_accepts_and_says_nothing_leaves_what_it_was_asked_in_doubt() {
    let (folder, log, hosts) = (certified(2), MemoryLog::new(SHARDS), Hosts::none());
    let node = node(&log, 1).await;
    let door = opens(&node, hello(1), tls(folder.path(), 1), &hosts).await;
    let (endpoint, serving) = mute(folder.path()).await;
    for shard in (0..SHARDS).map(ShardId) {
        hosts.announce(shard, 2, endpoint.local_addr().unwrap());
    }
    let festival = FestivalId(7);
    // 20 KB each, without anybody who reads: some find room, until there is none, and nobody waits for ever.
    let issue = |seed| {
        let (category, holders) = (CategoryNo(0), vec![Some(u128::MAX); 1_024]);
        ask(&node, AdminAction::IssueTickets { festival, category, holders, paid: true, seed })
    };
    let urgent = async {
        until("the way is full", || Arc::clone(&door.0.lines()[&NodeNo(2)]).is_full()).await;
        let ticket = TicketId::new(festival, CategoryNo(0), 0, 0);
        ask(&node, AdminAction::BlockTicket { ticket, blocked: true }).await
    };
    let (told, urgent) = tokio::join!(join_all((0..1_500).map(issue)), urgent);
    let count = |what| told.iter().filter(|told| **told == AdminAnswer::Rejected(what)).count();
    let (in_doubt, not_sent) = (count(Rejection::InDoubt), count(Rejection::Unavailable));
    assert_eq!(in_doubt + not_sent, 1_500, "everybody is told something");
    assert!(in_doubt > 300 && not_sent > 100, "{in_doubt}, {not_sent}");
    assert_eq!(urgent, AdminAnswer::Rejected(Rejection::InDoubt), "what protects people had found a place");
    until("somebody says why", || door.trouble().iter().any(|(_, why)| why.contains("has said nothing for 2 s"))).await;
    door.stop().await;
    endpoint.close(0_u32.into(), b"");
    serving.abort();
    node.stop().await;
}
