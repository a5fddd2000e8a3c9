//! A node as its doors see it: commands in, durable answers out, through a stop and a start.

use std::sync::{Arc, Condvar, Mutex};

use actors::{DeviceReply, Inbox, Node, NodeConfig};
use engine::command::{
    CategoryValues, Credential, DeviceAction, DeviceCommand, Direction, OfficeAction, OfficeAnswer, OfficeCommand,
    Scan, Verdict, issued,
};
use engine::credential::QrSecret;
use engine::ids::{DeviceId, FestivalId, GateNo, TicketId, ZoneNo};
use engine::money::{Currency, Money};
use engine::rejection::Rejection;
use engine::status::{CategoryKind, FestivalStatus, Policy, ScanAck};
use engine::time::Timestamp;
use engine::view::{Query, View};

const SECRET: &[u8] = b"a secret of at least 32 bytes, for tests";

#[derive(Default)]
struct Got {
    replies: Mutex<Vec<DeviceReply>>,
    confirmed: Mutex<Vec<u64>>,
    more: Condvar,
}

impl Inbox for Got {
    fn answered(&self, replies: &[DeviceReply]) {
        self.replies.lock().unwrap().extend_from_slice(replies);
        self.more.notify_all();
    }
    fn confirmed(&self, seqs: &[u64]) {
        self.confirmed.lock().unwrap().extend_from_slice(seqs);
    }
}

impl Got {
    fn wait(&self, count: usize) -> Vec<DeviceReply> {
        let mut replies = self.replies.lock().unwrap();
        while replies.len() < count {
            replies = self.more.wait(replies).unwrap();
        }
        replies.clone()
    }
}

async fn ask(node: &Node, action: OfficeAction) -> OfficeAnswer {
    node.ask(OfficeCommand { key: None, operator: 0, action }).await.0
}

/// A festival with one perimeter, one gate, one device and so many tickets.
async fn festival(node: &Node, tickets: u32, policy: Policy) -> (FestivalId, DeviceId, Vec<TicketId>) {
    let (starts_at, ends_at) = (Timestamp(0), Timestamp(i64::MAX));
    let slug = "night".to_owned();
    let made = ask(node, OfficeAction::CreateFestival { slug, name: "Night".into(), starts_at, ends_at, policy }).await;
    let OfficeAnswer::Festival(festival) = made else { panic!("{made:?}") };
    let name = "Main".to_owned();
    ask(node, OfficeAction::PutZone { festival, zone: None, name, parent: None, capacity: 1_000_000 }).await;
    ask(node, OfficeAction::AddGate { festival, zone: ZoneNo(0), name: "North".into() }).await;
    let values = CategoryValues {
        name: "Day".into(),
        kind: CategoryKind::Standard,
        price: Money { minor: 5_000, currency: Currency::EUR },
        quota: tickets,
        zones: 1,
        valid_from: starts_at,
        valid_until: ends_at,
    };
    let made = ask(node, OfficeAction::PutCategory { festival, category: None, values }).await;
    let OfficeAnswer::Category(category) = made else { panic!("{made:?}") };
    let mut ids = Vec::new();
    for from in (0..tickets).step_by(1_000) {
        let holders = vec![None; (tickets - from).min(1_000) as usize];
        let made =
            ask(node, OfficeAction::IssueTickets { festival, category, holders, paid: true, seed: u64::from(from) });
        let OfficeAnswer::Issued { first_serial, count, seed, .. } = made.await else { panic!("not issued") };
        ids.extend(issued(festival, category, first_serial, count, seed));
    }
    for to in [FestivalStatus::Published, FestivalStatus::Ongoing] {
        assert_eq!(ask(node, OfficeAction::SetFestivalStatus { festival, to }).await, OfficeAnswer::Done);
    }
    let code_hash = [7; 32];
    ask(node, OfficeAction::OfferEnrolment { festival, gate: GateNo(0), code_hash, name: "R1".into() }).await;
    let enrolled = ask(node, OfficeAction::EnrolDevice { festival, code_hash, public_key: [1; 32] }).await;
    let OfficeAnswer::Device(device) = enrolled else { panic!("{enrolled:?}") };
    (festival, device, ids)
}

fn scan(device: DeviceId, seq: u64, ticket: TicketId) -> DeviceCommand {
    let secret = QrSecret::new(SECRET).unwrap();
    let claim = secret.key(ticket.festival(), 1).sign(ticket, 1);
    let verified = secret.verify(engine::credential::text(&claim).as_bytes()).unwrap();
    DeviceCommand {
        device,
        seq,
        floor: 1,
        action: DeviceAction::Scan(Scan {
            zone: ZoneNo(0),
            direction: Direction::Enter,
            credential: Credential::Ticket(verified),
            captured_at: Timestamp(0),
            shown: None,
        }),
    }
}

fn start(dir: &std::path::Path) -> Node {
    let mut config = NodeConfig::new(dir);
    config.journal.log.segment_bytes = 16 << 20;
    Node::start(config).expect("starts")
}

#[tokio::test]
async fn answers_survive_a_stop_and_a_start_and_are_given_again() {
    let dir = tempfile::tempdir().unwrap();
    let node = start(dir.path());
    let (festival, device, tickets) = festival(&node, 2_500, Policy::default()).await;
    let got = Arc::new(Got::default());
    let inbox: Arc<dyn Inbox> = got.clone();
    for (chunk, seq) in tickets.chunks(100).zip((1..).step_by(100)) {
        let commands = chunk.iter().zip(seq..).map(|(ticket, seq)| scan(device, seq, *ticket)).collect();
        node.submit(commands, &inbox).expect("room");
    }
    let first = got.wait(2_500);
    assert!(first.iter().all(|reply| reply.answer.verdict == Verdict::Admitted && reply.durable));
    let View::Live(live) = node.query(Query::Live(festival)).await else { panic!("no live view") };
    assert_eq!((live.zones[0].occupancy, live.gates[0].admitted), (2_500, 2_500));
    node.stop().await;
    assert!(!node.health().ready);
    assert_eq!(
        node.submit(vec![scan(device, 9_999, tickets[0])], &inbox).unwrap_err().rejection,
        Rejection::Unavailable
    );
    drop(node);

    let node = start(dir.path());
    assert_eq!(node.recovered().events, 0, "a clean stop leaves snapshots");
    let again = Arc::new(Got::default());
    let inbox: Arc<dyn Inbox> = again.clone();
    node.submit(vec![scan(device, 1_234, tickets[1_233]), scan(device, 2_501, tickets[0])], &inbox).unwrap();
    let replies = again.wait(2);
    let before = first.iter().find(|reply| reply.seq == 1_234).unwrap();
    assert_eq!(&replies[0], before, "the same answer, to the bit");
    assert_eq!(replies[1].answer.verdict, Verdict::Rejected(Rejection::AlreadyUsed));
    node.stop().await;
}

#[tokio::test]
async fn a_decided_answer_is_confirmed_once_it_is_durable() {
    let dir = tempfile::tempdir().unwrap();
    let node = start(dir.path());
    let policy = Policy { ack: ScanAck::Decided, ..Policy::default() };
    let (_, device, tickets) = festival(&node, 10, policy).await;
    let got = Arc::new(Got::default());
    let inbox: Arc<dyn Inbox> = got.clone();
    node.submit(vec![scan(device, 1, tickets[0])], &inbox).unwrap();
    assert!(!got.wait(1)[0].durable);
    node.stop().await;
    assert_eq!(*got.confirmed.lock().unwrap(), [1]);
}

#[tokio::test]
async fn a_second_node_on_the_same_folder_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    let node = start(dir.path());
    let second = tokio::task::spawn_blocking({
        let config = NodeConfig::new(dir.path());
        move || Node::start(config).err().map(|error| error.to_string())
    });
    assert!(second.await.unwrap().is_some_and(|why| why.contains("in use by process")));
    node.stop().await;
}

#[tokio::test]
async fn another_number_of_shards_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    start(dir.path()).stop().await;
    let config = NodeConfig { shards: 4, ..NodeConfig::new(dir.path()) };
    let why = Node::start(config).err().expect("refused").to_string();
    assert!(why.contains("16 shards, asked for 4"), "{why}");
}
