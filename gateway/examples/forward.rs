//! What forwarding costs: the same scans asked of the node that has their festival, and of another one beside it.
//!
//! ```text
//! cargo run --release -p gateway --features cluster --example forward
//! ```
//! Two nodes in one process, with a real connection between them over loopback, and a journal in memory, so that no disk is
//! measured. One reader with one scan at a time, then 32 readers with 32 scans each.
#![expect(clippy::print_stdout, reason = "it prints what it has measured")]

use std::net::UdpSocket;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use actors::{Busy, DeviceReply, Inbox, Node, NodeConfig, Stores};
use engine::command::{AdminAction, AdminAnswer, AdminCommand, issued};
use engine::gates::command::{CategoryValues, Credential, DeviceAction, DeviceCommand, Direction, Scan};
use engine::model::credential::QrSecret;
use engine::model::ids::{CategoryNo, DeviceId, FestivalId, GateNo, NodeNo, ShardId, TicketId, ZoneNo};
use engine::model::money::{Currency, Money};
use engine::model::principal::Principal;
use engine::model::status::{CategoryKind, EntryPolicy, FestivalStatus, Policy};
use engine::model::time::{Calendar, Timestamp};
use gateway::cluster::peers::{Hello, PeerTls, QuicPeers};
use gateway::cluster::{Directory, certificates};
use hdrhistogram::Histogram;
use storage::journal::Member;
use storage::testing::memory::{MemoryLog, MemorySnapshots, OpenedMemory};
use tapgate_wire::Fingerprint;
use tokio::sync::mpsc;

const SHARDS: u16 = 4;
const READERS: u32 = 32;
/// Scans of one reader whose answers it does not have yet, in the second round.
const IN_FLIGHT: u64 = 32;
const SECRET: &[u8] = b"a secret of at least 32 bytes, for tests";
const ROUND: Duration = Duration::from_secs(3);
const ROUNDS: usize = 3;

struct AllAt(Arc<Member>);

impl Directory for AllAt {
    fn shards(&self) -> u16 {
        SHARDS
    }
    fn host(&self, _: ShardId) -> Option<Arc<Member>> {
        Some(Arc::clone(&self.0))
    }
}

fn main() -> anyhow::Result<()> {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build()?;
    runtime.block_on(measure())
}

async fn measure() -> anyhow::Result<()> {
    let folder = tempfile::tempdir()?;
    certificates::make(folder.path(), 2)?;
    let sockets = [UdpSocket::bind("127.0.0.1:0")?, UdpSocket::bind("127.0.0.1:0")?];
    let at = sockets[0].local_addr()?.to_string();
    let home = Arc::new(Member { node: NodeNo(1), peers: at, devices: "gate:4433".into() });
    let log = MemoryLog::new(SHARDS);
    let mut nodes = Vec::new();
    for (socket, no) in sockets.into_iter().zip(1..) {
        let journal = Box::new(OpenedMemory::shared(&log, no));
        let stores = Stores { journal, snapshots: Arc::new(MemorySnapshots::new()) };
        let config = NodeConfig { threads: 1, begin_with: Some(vec![]), ..NodeConfig::default() };
        let node = tokio::task::spawn_blocking(move || Node::start(config, stores)).await??;
        let pem = |name: String| folder.path().join(name);
        let (certificate, key) = (pem(format!("node-{no}.pem")), pem(format!("node-{no}.key")));
        let tls = PeerTls::from_files(NodeNo(no), &pem("ca.pem".into()), &certificate, &key)?;
        let secret = QrSecret::new(SECRET).expect("long enough");
        let hello = Hello::new(NodeNo(no), "forward".into(), SHARDS, &secret, Fingerprint([0; 32]));
        QuicPeers::open(socket, &node, hello, tls, Arc::new(AllAt(Arc::clone(&home)))).await?;
        nodes.push(node);
    }
    for shard in (0..SHARDS).map(ShardId) {
        log.claim(shard, 1);
        nodes[0].take_up(shard).await?;
    }
    let readers = found(&nodes[0]).await;
    // Connected, and warm.
    for node in &nodes {
        while one_at_a_time(node, &readers[0], Duration::from_millis(200)).await.is_none() {}
    }
    println!("{:<24}{:>12}{:>12}{:>16}", "", "p50 us", "p99 us", "scans a second");
    for round in 0..ROUNDS {
        for (node, name) in nodes.iter().zip(["at home", "forwarded"]) {
            let alone = one_at_a_time(node, &readers[0], ROUND).await.expect("answered");
            let rate = alone.len() as f64 / ROUND.as_secs_f64();
            show(&format!("{name}, one scan"), &alone, rate);
            let many = many_at_once(node, &readers, ROUND).await;
            show(&format!("{name}, 32 x 32"), &many, many.len() as f64 / ROUND.as_secs_f64());
        }
        if round + 1 < ROUNDS {
            println!();
        }
    }
    for node in &nodes {
        node.stop().await;
    }
    Ok(())
}

fn show(name: &str, took: &Histogram<u64>, rate: f64) {
    let at = |quantile| took.value_at_quantile(quantile);
    println!("{name:<24}{:>12}{:>12}{:>16.0}", at(0.5), at(0.99), rate);
}

/// A reader with a ticket of its own, which goes in and out.
struct Reader {
    device: DeviceId,
    credential: Credential,
    next: AtomicUsize,
}

impl Reader {
    fn scan(&self) -> DeviceCommand {
        let seq = self.next.fetch_add(1, Ordering::Relaxed) as u64;
        let direction = if seq % 2 == 1 { Direction::Enter } else { Direction::Exit };
        let (zone, credential, captured_at) = (ZoneNo(0), self.credential, Timestamp(0));
        let scan = Scan { zone, direction, credential, captured_at, resent: false, shown: None };
        // It has all answers but the latest.
        let floor = seq.saturating_sub(IN_FLIGHT).max(1);
        DeviceCommand { device: self.device, seq, floor, action: DeviceAction::Scan(scan) }
    }
}

struct Session(mpsc::UnboundedSender<Option<usize>>);

impl Inbox for Session {
    fn answered(&self, replies: &[DeviceReply]) {
        let _ = self.0.send(Some(replies.len()));
    }
    fn confirmed(&self, _: &[u64]) {}
    fn turned_away(&self, _: &[u64], _: Busy) {
        let _ = self.0.send(None);
    }
    fn not_confirmed(&self, _: &[u64], _: Busy) {}
}

/// How long each answer took, in us; `None`: some were turned away.
async fn one_at_a_time(node: &Node, reader: &Reader, within: Duration) -> Option<Histogram<u64>> {
    let (told, mut hears) = mpsc::unbounded_channel();
    let inbox: Arc<dyn Inbox> = Arc::new(Session(told));
    let mut took = Histogram::new(3).expect("three digits");
    let began = Instant::now();
    while began.elapsed() < within {
        let asked = Instant::now();
        node.submit(vec![reader.scan()], &inbox).ok()?;
        hears.recv().await.flatten()?;
        took.saturating_record(asked.elapsed().as_micros() as u64);
    }
    Some(took)
}

/// The same of all readers at once, each with several scans under way.
async fn many_at_once(node: &Node, readers: &[Reader], within: Duration) -> Histogram<u64> {
    let all = readers.iter().map(async |reader| {
        let (told, mut hears) = mpsc::unbounded_channel();
        let inbox: Arc<dyn Inbox> = Arc::new(Session(told));
        let mut took = Histogram::<u64>::new(3).expect("three digits");
        let mut under_way = std::collections::VecDeque::new();
        let began = Instant::now();
        loop {
            let room = IN_FLIGHT - under_way.len() as u64;
            if began.elapsed() < within && room > 0 {
                let scans: Vec<_> = (0..room).map(|_| reader.scan()).collect();
                under_way.extend(std::iter::repeat_n(Instant::now(), scans.len()));
                node.submit(scans, &inbox).expect("there is room");
            }
            if under_way.is_empty() {
                return took;
            }
            let answered = hears.recv().await.flatten().expect("answered");
            for asked in under_way.drain(..answered) {
                took.saturating_record(asked.elapsed().as_micros() as u64);
            }
        }
    });
    let mut sum = Histogram::new(3).expect("three digits");
    for took in futures_util::future::join_all(all).await {
        sum.add(took).expect("of one kind");
    }
    sum
}

/// A festival with as many readers and tickets.
async fn found(node: &Node) -> Vec<Reader> {
    let ask = async |action| node.ask(AdminCommand { key: None, by: Principal::Installation, action }).await.0;
    let (starts_at, ends_at) = (Timestamp(0), Timestamp(i64::MAX));
    let policy = Policy { entry: EntryPolicy::Reentry, ..Policy::default() };
    let (slug, name, calendar) = ("night".to_owned(), "Night".to_owned(), Calendar::default());
    let made = ask(AdminAction::CreateFestival { slug, name, starts_at, ends_at, policy, calendar }).await;
    let AdminAnswer::Festival(festival) = made else { panic!("{made:?}") };
    let name = "Main".to_owned();
    ask(AdminAction::PutZone { festival, zone: None, name, parent: None, capacity: 1_000 }).await;
    ask(AdminAction::AddGate { festival, zone: ZoneNo(0), name: "North".into() }).await;
    let values = CategoryValues {
        name: "Day".into(),
        kind: CategoryKind::Standard,
        price: Money { minor: 5_000, currency: Currency::EUR },
        quota: READERS,
        zones: 1,
        valid_from: starts_at,
        valid_until: ends_at,
    };
    ask(AdminAction::PutCategory { festival, category: None, values }).await;
    let (category, holders) = (CategoryNo(0), vec![None; READERS as usize]);
    let made = ask(AdminAction::IssueTickets { festival, category, holders, paid: true, seed: 3 }).await;
    let AdminAnswer::Issued { first_serial, count, seed, .. } = made else { panic!("{made:?}") };
    for to in [FestivalStatus::Published, FestivalStatus::Ongoing] {
        ask(AdminAction::SetFestivalStatus { festival, to }).await;
    }
    let mut readers = Vec::new();
    for (ticket, no) in issued(festival, category, first_serial, count, seed).zip(1..) {
        let (code_hash, gate) = ([no; 32], GateNo(0));
        ask(AdminAction::OfferEnrolment { festival, gate, code_hash, name: "r".into() }).await;
        let enrolled = ask(AdminAction::EnrolDevice { festival, code_hash, public_key: [no; 32] }).await;
        let AdminAnswer::Device(device) = enrolled else { panic!("{enrolled:?}") };
        readers.push(Reader { device, credential: verified(festival, ticket), next: AtomicUsize::new(1) });
    }
    readers
}

fn verified(festival: FestivalId, ticket: TicketId) -> Credential {
    let secret = QrSecret::new(SECRET).expect("long enough");
    let qr = engine::model::credential::text(&secret.key(festival, 1).sign(ticket, 1));
    Credential::Ticket(secret.verify(qr.as_bytes()).expect("signed"))
}
