//! A small festival behind a real QUIC door.
#![allow(dead_code, unreachable_pub)] // each test file uses its part

pub mod night;
pub mod process;
pub mod terminal;

use std::net::SocketAddr;
use std::path::Path;
use std::sync::atomic::{AtomicU32, Ordering};

use actors::{Folder, Node, NodeConfig};
use engine::command::{AdminAction, AdminAnswer, AdminCommand, issued};
use engine::gates::command::CategoryValues;
use engine::model::credential::{QrSecret, text};
use engine::model::ids::{CategoryNo, DeviceId, FestivalId, GateNo, TicketId, ZoneNo};
use engine::model::money::{Currency, Money};
use engine::model::principal::Principal;
use engine::model::status::{CategoryKind, FestivalStatus, Policy, TicketStatus, ZoneState};
use engine::model::time::Timestamp;
use engine::view::{Query, View};
use gateway::quic::{Limits, QuicConfig, QuicServer};
use gateway::server::tls::ServerTls;
use tapgate_client::{DeviceKey, Identity, Read, enrol_key};
use tapgate_wire::Offer;

pub const TICKETS: u32 = 600;

pub struct House {
    pub node: Node,
    pub server: QuicServer,
    pub addr: SocketAddr,
    pub tls: ServerTls,
    pub festival: FestivalId,
    pub tickets: Vec<TicketId>,
    pub secret: QrSecret,
    pub codes: AtomicU32,
    pub data: tempfile::TempDir,
}

pub async fn open() -> House {
    open_with(Limits::default(), Policy::default()).await
}

pub async fn open_with(limits: Limits, policy: Policy) -> House {
    open_on(1, limits, policy).await
}

/// Its two shards on so many threads.
pub async fn open_on(threads: usize, limits: Limits, policy: Policy) -> House {
    let data = tempfile::tempdir().unwrap();
    let folder = Folder { shards: 2, ..folder(data.path()) };
    open_node(data, (folder, threads), limits, policy).await
}

/// With a small journal.
pub fn folder(data: &Path) -> Folder {
    let mut folder = Folder::new(data);
    folder.journal.log.segment_bytes = 16 << 20;
    folder
}

/// A node on it, with so many threads.
async fn start((folder, threads): (Folder, usize)) -> Node {
    let config = NodeConfig { threads, ..NodeConfig::default() };
    tokio::task::spawn_blocking(move || folder.start(config).expect("starts")).await.unwrap()
}

pub async fn open_node(data: tempfile::TempDir, on: (Folder, usize), limits: Limits, policy: Policy) -> House {
    let node = start(on).await;
    let (festival, tickets) = found(&node, policy).await;
    let secret = QrSecret::new(b"a secret of at least 32 bytes, for tests").unwrap();
    let tls = ServerTls::kept_in(data.path()).unwrap();
    let config = QuicConfig { limits, ..QuicConfig::at("127.0.0.1:0".parse().unwrap()) };
    let server = QuicServer::bind(node.clone(), secret.clone(), config, &tls).unwrap();
    let addr = server.local_addr().unwrap();
    let running = server.clone();
    tokio::spawn(async move { running.run().await });
    House { node, server, addr, tls, festival, tickets, secret, codes: AtomicU32::new(0), data }
}

/// One perimeter with a gate, and so many paid tickets.
async fn found(node: &Node, policy: Policy) -> (FestivalId, Vec<TicketId>) {
    let (starts_at, ends_at) = (Timestamp(0), Timestamp(i64::MAX));
    let slug = "night".to_owned();
    let made = ask(
        node,
        AdminAction::CreateFestival {
            slug,
            name: "Night".into(),
            starts_at,
            ends_at,
            policy,
            calendar: engine::model::time::Calendar::default(),
        },
    )
    .await;
    let AdminAnswer::Festival(festival) = made else { panic!("{made:?}") };
    let name = "Field".to_owned();
    ask(node, AdminAction::PutZone { festival, zone: None, name, parent: None, capacity: 100_000 }).await;
    ask(node, AdminAction::AddGate { festival, zone: ZoneNo(0), name: "North".into() }).await;
    let values = CategoryValues {
        name: "Day".into(),
        kind: CategoryKind::Standard,
        price: Money { minor: 5_000, currency: Currency::EUR },
        quota: TICKETS,
        zones: 1,
        valid_from: starts_at,
        valid_until: ends_at,
    };
    let made = ask(node, AdminAction::PutCategory { festival, category: None, values }).await;
    assert_eq!(made, AdminAnswer::Category(CategoryNo(0)));
    let holders = vec![None; TICKETS as usize];
    let category = CategoryNo(0);
    let made = ask(node, AdminAction::IssueTickets { festival, category, holders, paid: true, seed: 1 }).await;
    let AdminAnswer::Issued { first_serial, count, seed, .. } = made else { panic!("{made:?}") };
    for to in [FestivalStatus::Published, FestivalStatus::Ongoing] {
        assert_eq!(ask(node, AdminAction::SetFestivalStatus { festival, to }).await, AdminAnswer::Done);
    }
    (festival, issued(festival, category, first_serial, count, seed).collect())
}

pub async fn ask(node: &Node, action: AdminAction) -> AdminAnswer {
    node.ask(AdminCommand { key: None, by: Principal::Installation, action }).await.0
}

impl House {
    /// What an operator would show to a new device.
    pub async fn offer(&self) -> Offer {
        let code = format!("CODE-{}", self.codes.fetch_add(1, Ordering::Relaxed));
        let code_hash = gateway::auth::enrolment_code_hash(code.as_bytes());
        let (festival, gate) = (self.festival, GateNo(0));
        let made = ask(&self.node, AdminAction::OfferEnrolment { festival, gate, code_hash, name: "Reader".into() });
        let made = made.await;
        assert!(matches!(made, AdminAnswer::CodeUntil(_)), "{made:?}");
        Offer::new(&self.addr.to_string(), self.tls.fingerprint, self.festival, &code).unwrap()
    }

    /// A device that was enrolled over the wire.
    pub async fn device(&self) -> Identity {
        enrol_key(None, &self.offer().await, DeviceKey::generate().unwrap()).await.expect("enrols")
    }

    /// A printed ticket.
    pub fn qr(&self, ticket: TicketId) -> Vec<u8> {
        text(&self.secret.key(ticket.festival(), 1).sign(ticket, 1)).into_bytes()
    }

    pub fn read(&self, index: usize) -> Read {
        Read::Qr(self.qr(self.tickets[index]))
    }

    pub async fn status(&self, index: usize) -> TicketStatus {
        match self.node.query(Query::Ticket(self.tickets[index])).await {
            View::Ticket(view) => view.status,
            other => panic!("{other:?}"),
        }
    }

    pub async fn zone(&self, state: ZoneState) {
        let (festival, zone) = (self.festival, ZoneNo(0));
        ask(&self.node, AdminAction::SetZoneState { festival, zone, state }).await;
    }

    pub async fn revoke(&self, device: DeviceId) {
        assert_eq!(ask(&self.node, AdminAction::RevokeDevice { device }).await, AdminAnswer::Done);
    }

    /// The door closes, and another one opens at the same address.
    pub async fn reopen(&mut self) {
        let (node, secret, tls) = (self.node.clone(), self.secret.clone(), self.tls.clone());
        let door = |addr| QuicServer::bind(node.clone(), secret.clone(), QuicConfig::at(addr), &tls);
        self.server.stop().await;
        // The old socket goes with its last owner.
        self.server = door("127.0.0.1:0".parse().unwrap()).unwrap();
        self.server = loop {
            match door(self.addr) {
                Ok(server) => break server,
                Err(_) => tokio::time::sleep(std::time::Duration::from_millis(5)).await,
            }
        };
        let running = self.server.clone();
        tokio::spawn(async move { running.run().await });
    }

    /// The node ends in order and is started again on this folder with so many threads, behind a door at the same address.
    pub async fn restart(&mut self, on: (Folder, usize)) {
        self.server.stop().await;
        self.node.stop().await;
        self.node = start(on).await;
        self.reopen().await;
    }

    pub async fn close(self) {
        self.server.stop().await;
        self.node.stop().await;
    }
}
