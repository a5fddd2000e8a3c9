//! Two vendors' worth of a festival that takes cashless payments, with a cashier's terminal.

use std::sync::{Arc, Condvar, Mutex};
use std::time::Duration;

use actors::{Busy, Node, TerminalInbox, TerminalReply};
use engine::cashless::command::*;
use engine::cashless::view::{LedgerView, WalletView};
use engine::command::*;
use engine::model::ids::*;
use engine::model::money::{Currency, Money};
use engine::model::principal::Principal;
use engine::model::rejection::Rejection;
use engine::model::status::{FestivalStatus, Policy};
use engine::model::time::Timestamp;
use engine::view::{Query, View};

/// What a terminal's session was told.
#[derive(Default)]
pub struct Told {
    replies: Mutex<Vec<TerminalReply>>,
    turned_away: Mutex<Vec<(u64, Rejection)>>,
    more: Condvar,
}

impl TerminalInbox for Told {
    fn answered(&self, replies: &[TerminalReply]) {
        self.replies.lock().unwrap().extend_from_slice(replies);
        self.more.notify_all();
    }
    fn turned_away(&self, seqs: &[u64], busy: Busy) {
        let _nobody_falls_asleep = self.replies.lock().unwrap();
        self.turned_away.lock().unwrap().extend(seqs.iter().map(|seq| (*seq, busy.rejection)));
        self.more.notify_all();
    }
}

impl Told {
    /// The answers so far, in the order of the commands, once there are so many.
    pub fn wait(&self, count: usize) -> Vec<TerminalReply> {
        let mut replies = self.replies.lock().unwrap();
        while replies.len() < count {
            replies = self.more.wait(replies).unwrap();
        }
        let mut replies = replies.clone();
        replies.sort_by_key(|reply| reply.seq);
        replies
    }
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
    pub fn count(&self) -> usize {
        self.replies.lock().unwrap().len()
    }
}

pub fn eur(minor: i64) -> Money {
    Money { minor, currency: Currency::EUR }
}

/// Whoever answers the office.
pub trait Admin {
    fn ask(&mut self, action: AdminAction) -> AdminAnswer;
    fn cashless(&mut self, action: CashlessAction) -> AdminAnswer {
        self.ask(AdminAction::Cashless(action))
    }
}

impl<F: FnMut(AdminAction) -> AdminAnswer> Admin for F {
    fn ask(&mut self, action: AdminAction) -> AdminAnswer {
        self(action)
    }
}

/// A festival, its vendor, and a terminal that takes payments for it and tops up.
#[derive(Clone, Copy, Debug)]
pub struct Bar {
    pub festival: FestivalId,
    pub terminal: DeviceId,
}

impl Bar {
    pub fn open(admin: &mut impl Admin) -> Self {
        let made = admin.ask(AdminAction::CreateFestival {
            slug: "bar".into(),
            name: "Bar".into(),
            starts_at: Timestamp(0),
            ends_at: Timestamp(i64::MAX),
            policy: Policy::default(),
            calendar: engine::model::time::Calendar::default(),
        });
        let AdminAnswer::Festival(festival) = made else { panic!("{made:?}") };
        let policy = CashlessPolicy { max_balance: 500_000_000_000, ..CashlessPolicy::default() };
        assert_eq!(admin.cashless(CashlessAction::SetPolicy { festival, policy }), AdminAnswer::Done);
        let values = VendorValues {
            name: "Beer".into(),
            commission_bp: 1_000,
            open: true,
            kind: engine::model::status::VendorKind::Bar,
        };
        let made = admin.cashless(CashlessAction::PutVendor { festival, vendor: None, values });
        assert_eq!(made, AdminAnswer::Vendor(VendorNo(0)));
        for to in [FestivalStatus::Published, FestivalStatus::Ongoing] {
            assert_eq!(admin.ask(AdminAction::SetFestivalStatus { festival, to }), AdminAnswer::Done);
        }
        let terminal = Self { festival, terminal: DeviceId::new(festival, 0) }.enrol(admin, 1);
        Self { festival, terminal }
    }

    pub fn enrol(&self, admin: &mut impl Admin, code: u8) -> DeviceId {
        let (festival, code_hash) = (self.festival, [code; 32]);
        let vendor = Some(VendorNo(0));
        admin.cashless(CashlessAction::OfferTerminal { festival, vendor, cashier: true, code_hash, name: "T".into() });
        match admin.ask(AdminAction::EnrolDevice { festival, code_hash, public_key: [code; 32] }) {
            AdminAnswer::Device(device) => device,
            other => panic!("{other:?}"),
        }
    }

    /// A wallet with so much in it.
    pub fn wallet(&self, admin: &mut impl Admin, wallet: WalletId, minor: i64) {
        let festival = self.festival;
        let made = admin.cashless(CashlessAction::CreateWallet { wallet, festival, account: None });
        assert_eq!(made, AdminAnswer::Wallet(wallet));
        if minor > 0 {
            let source = Source::new(SourceKind::Desk, festival, 1);
            let topped_up = CashlessAction::TopUp { wallet, festival, amount: eur(minor), source, taken: true };
            assert!(matches!(admin.cashless(topped_up), AdminAnswer::Transaction { .. }));
        }
    }

    pub fn transfer(&self, from: WalletId, to: WalletId, minor: i64) -> AdminAction {
        AdminAction::Cashless(CashlessAction::Transfer { from, to, festival: self.festival, amount: eur(minor) })
    }

    pub fn pay(&self, seq: u64, wallet: WalletId, minor: i64) -> TerminalCommand {
        let action = TerminalAction::Pay { wallet, tap: None, amount: eur(minor), lines: Box::new([]) };
        TerminalCommand { device: self.terminal, seq, floor: 1, expires_at: Timestamp(0), action }
    }
}

/// So many wallets, one after the other in each shard.
pub fn wallets(shards: u16, count: usize) -> Vec<WalletId> {
    let mut found = Vec::new();
    for id in (1..).map(WalletId) {
        if found.len() == count {
            return found;
        }
        if Home::Wallet(id).shard(shards).0 == (found.len() % usize::from(shards)) as u16 {
            found.push(id);
        }
    }
    unreachable!("ids do not end")
}

/// The office of a node, for set-up.
pub async fn at_the_admin<T: Send + 'static>(
    node: &Node,
    work: impl FnOnce(&mut dyn FnMut(AdminAction) -> AdminAnswer) -> T + Send + 'static,
) -> T {
    let (node, runtime) = (node.clone(), tokio::runtime::Handle::current());
    let asking = move || {
        work(&mut |action| {
            runtime.block_on(node.ask(AdminCommand { key: None, by: Principal::Installation, action })).0
        })
    };
    tokio::task::spawn_blocking(asking).await.unwrap()
}

pub async fn open_at(node: &Node) -> Bar {
    at_the_admin(node, |mut admin| Bar::open(&mut admin)).await
}

pub fn key(id: u128) -> Option<IdempotencyKey> {
    Some(IdempotencyKey { id, fingerprint: id as u64, made_at: None })
}

pub async fn ledger(node: &Node, festival: FestivalId) -> LedgerView {
    match node.query(Query::Ledger(festival)).await {
        View::Ledger(view) => *view,
        other => panic!("{other:?}"),
    }
}

pub async fn wallet(node: &Node, id: WalletId) -> WalletView {
    match node.query(Query::Wallet(id)).await {
        View::Wallet(view) => view,
        other => panic!("{other:?}"),
    }
}

/// Sends commands and waits for all their answers.
pub async fn at_the_terminal(node: &Node, commands: Vec<TerminalCommand>) -> Vec<TerminalReply> {
    let (told, count) = (Arc::new(Told::default()), commands.len());
    let inbox: Arc<dyn TerminalInbox> = told.clone();
    node.submit_terminal(commands, &inbox).expect("room");
    tokio::task::spawn_blocking(move || told.wait(count)).await.unwrap()
}
