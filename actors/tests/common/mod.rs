//! A small festival on a real node.
#![allow(dead_code, unreachable_pub)] // each test file uses its part

pub mod neighbours;
pub mod terminal;

use std::sync::{Condvar, Mutex};
use std::time::Duration;

use actors::{Busy, DeviceReply, Folder, Inbox, Node, NodeConfig};
use engine::command::{AdminAction, AdminAnswer, AdminCommand, issued};
use engine::gates::command::{CategoryValues, Credential, DeviceAction, DeviceCommand, Direction, Scan};
use engine::model::credential::QrSecret;
use engine::model::ids::{DeviceId, FestivalId, GateNo, TicketId, ZoneNo};
use engine::model::money::{Currency, Money};
use engine::model::principal::Principal;
use engine::model::rejection::Rejection;
use engine::model::status::{CategoryKind, FestivalStatus, Policy};
use engine::model::time::Timestamp;

const SECRET: &[u8] = b"a secret of at least 32 bytes, for tests";

/// A session that keeps what it is told.
#[derive(Default)]
pub struct Got {
    pub replies: Mutex<Vec<DeviceReply>>,
    pub confirmed: Mutex<Vec<u64>>,
    pub turned_away: Mutex<Vec<(u64, Rejection)>>,
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
    fn turned_away(&self, seqs: &[u64], busy: Busy) {
        let _nobody_falls_asleep = self.replies.lock().unwrap();
        self.turned_away.lock().unwrap().extend(seqs.iter().map(|seq| (*seq, busy.rejection)));
        self.more.notify_all();
    }
    fn not_confirmed(&self, seqs: &[u64], busy: Busy) {
        self.turned_away(seqs, busy);
    }
}

impl Got {
    pub fn wait(&self, count: usize) -> Vec<DeviceReply> {
        let mut replies = self.replies.lock().unwrap();
        while replies.len() < count {
            replies = self.more.wait(replies).unwrap();
        }
        replies.clone()
    }
}

impl Got {
    /// Whoever was told to ask again, once there are so many.
    pub fn wait_turned_away(&self, count: usize) -> Vec<(u64, Rejection)> {
        let mut replies = self.replies.lock().unwrap();
        while self.turned_away.lock().unwrap().len() < count {
            let (waited, timeout) = self.more.wait_timeout(replies, Duration::from_secs(20)).unwrap();
            replies = waited;
            assert!(!timeout.timed_out() || self.turned_away.lock().unwrap().len() >= count, "nobody says anything");
        }
        self.turned_away.lock().unwrap().clone()
    }
}

pub async fn ask(node: &Node, action: AdminAction) -> AdminAnswer {
    node.ask(AdminCommand { key: None, by: Principal::Installation, action }).await.0
}

/// A festival with one perimeter, one gate, one device and so many tickets.
pub async fn festival(node: &Node, tickets: u32, policy: Policy) -> (FestivalId, DeviceId, Vec<TicketId>) {
    let (node, runtime) = (node.clone(), tokio::runtime::Handle::current());
    let founded = move || found(tickets, policy, |action| runtime.block_on(ask(&node, action)));
    tokio::task::spawn_blocking(founded).await.unwrap()
}

/// The same by whoever answers the office.
pub fn found(
    tickets: u32,
    policy: Policy,
    mut ask: impl FnMut(AdminAction) -> AdminAnswer,
) -> (FestivalId, DeviceId, Vec<TicketId>) {
    let (starts_at, ends_at) = (Timestamp(0), Timestamp(i64::MAX));
    let slug = "night".to_owned();
    let made = ask(AdminAction::CreateFestival {
        slug,
        name: "Night".into(),
        starts_at,
        ends_at,
        policy,
        calendar: engine::model::time::Calendar::default(),
    });
    let AdminAnswer::Festival(festival) = made else { panic!("{made:?}") };
    let name = "Main".to_owned();
    ask(AdminAction::PutZone { festival, zone: None, name, parent: None, capacity: 1_000_000 });
    ask(AdminAction::AddGate { festival, zone: ZoneNo(0), name: "North".into() });
    let values = CategoryValues {
        name: "Day".into(),
        kind: CategoryKind::Standard,
        price: Money { minor: 5_000, currency: Currency::EUR },
        quota: tickets,
        zones: 1,
        valid_from: starts_at,
        valid_until: ends_at,
    };
    let made = ask(AdminAction::PutCategory { festival, category: None, values });
    let AdminAnswer::Category(category) = made else { panic!("{made:?}") };
    let mut ids = Vec::new();
    for from in (0..tickets).step_by(1_000) {
        let holders = vec![None; (tickets - from).min(1_000) as usize];
        let made = ask(AdminAction::IssueTickets { festival, category, holders, paid: true, seed: u64::from(from) });
        let AdminAnswer::Issued { first_serial, count, seed, .. } = made else { panic!("not issued") };
        ids.extend(issued(festival, category, first_serial, count, seed));
    }
    for to in [FestivalStatus::Published, FestivalStatus::Ongoing] {
        assert_eq!(ask(AdminAction::SetFestivalStatus { festival, to }), AdminAnswer::Done);
    }
    let code_hash = [7; 32];
    ask(AdminAction::OfferEnrolment { festival, gate: GateNo(0), code_hash, name: "R1".into() });
    let enrolled = ask(AdminAction::EnrolDevice { festival, code_hash, public_key: [1; 32] });
    let AdminAnswer::Device(device) = enrolled else { panic!("{enrolled:?}") };
    (festival, device, ids)
}

pub fn scan(device: DeviceId, seq: u64, ticket: TicketId) -> DeviceCommand {
    let secret = QrSecret::new(SECRET).unwrap();
    let claim = secret.key(ticket.festival(), 1).sign(ticket, 1);
    let verified = secret.verify(engine::model::credential::text(&claim).as_bytes()).unwrap();
    DeviceCommand {
        device,
        seq,
        floor: 1,
        action: DeviceAction::Scan(Scan {
            zone: ZoneNo(0),
            direction: Direction::Enter,
            credential: Credential::Ticket(verified),
            captured_at: Timestamp(0),
            resent: false,
            shown: None,
        }),
    }
}

/// With a small journal.
pub fn folder(dir: &std::path::Path) -> Folder {
    let mut folder = Folder::new(dir);
    folder.journal.log.segment_bytes = 16 << 20;
    folder
}

pub fn start(dir: &std::path::Path) -> Node {
    folder(dir).start(NodeConfig::default()).expect("starts")
}
