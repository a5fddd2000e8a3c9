//! The audit's own money books of one shard: accounts, wallets, payments, transfers, tags, the directory and the
//! messages, as the events say. They share no code with what decides.
//!
//! What crosses shards is checked in two halves: each shard's events must be what the messages it has taken in allow,
//! and the messages taken in must be those that were sent ([`MoneyBooks::pairs`]).

mod currency;
mod peer;
mod table;
mod tags;
mod transfers;
mod wallets;

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use super::{Check, Findings};
use crate::cashless::Cashless;
use crate::cashless::command::{CashlessPolicy, ProductValues, Source, SourceKind, VendorValues};
use crate::cashless::event::{CashlessEvent, Lots};
use crate::event::Event;
use crate::gates::event::DoneByHand;
use crate::model::ids::{DeviceId, FestivalId, Home, ShardId, TagUid, VendorNo, WalletId};
use crate::model::money::Currency;
use crate::model::status::FestivalStatus;
use crate::shard::outbox::{Entry, Message};
use peer::Peer;
use table::Table;
use tags::TagBook;
use transfers::{Credit, Op};

pub(super) struct MoneyBooks {
    id: ShardId,
    of: u16,
    serial: u64,
    wallets: Table<Wallet>,
    /// In the order of their serials: the latest of them, as many as the shard itself can refund, 524,288 × 72 B =
    /// 36 MiB. A refund of an older one is found to give back no payment.
    payments: VecDeque<Payment>,
    accounts: BTreeMap<FestivalId, Accounts>,
    directory: BTreeMap<FestivalId, Known>,
    tags: TagBook,
    ops: BTreeMap<u64, Op>,
    last_op: u64,
    /// What other shards have asked this one to take, by shard and operation.
    credits: BTreeMap<(u16, u64), Credit>,
    /// What other shards have answered to this one's operations: taken, or not.
    answers: BTreeMap<u64, bool>,
    /// Festivals whose currency is about to be another: nothing is booked there.
    held: BTreeSet<FestivalId>,
    /// What another shard has just said of such a one.
    vote: Option<(u64, bool)>,
    peers: Vec<Peer>,
}

struct Wallet {
    available: i64,
    reserved: i64,
    currency: Currency,
    issuer: FestivalId,
    account: Option<u128>,
    blocked: bool,
    tag: Option<(TagUid, u32)>,
    lost: bool,
    transactions: u32,
    /// By kind and festival.
    lots: Vec<((SourceKind, FestivalId), i64)>,
}

struct Payment {
    serial: u64,
    wallet: WalletId,
    amount: i64,
    refunded: i64,
    /// What the vendor was paid, less what it gave back.
    vendor_has: i64,
    festival: FestivalId,
    vendor: VendorNo,
    source: Source,
    /// If there was more than one.
    lots: Option<Box<Lots>>,
}

#[derive(Default, PartialEq, Debug)]
struct Accounts {
    wallets: i128,
    commission: i128,
    corrections: i128,
    in_transit: i128,
    sources: BTreeMap<Source, i128>,
    vendors: BTreeMap<VendorNo, i128>,
    orders: BTreeMap<VendorNo, u32>,
}

impl Accounts {
    fn sum(&self) -> i128 {
        let parts = [self.wallets, self.commission, self.corrections, self.in_transit];
        parts.iter().sum::<i128>() + self.sources.values().sum::<i128>() + self.vendors.values().sum::<i128>()
    }
}

/// What a shard was told of a festival.
struct Known {
    policy: CashlessPolicy,
    status: FestivalStatus,
    vendors: Vec<(VendorValues, Vec<ProductValues>)>,
    terminals: BTreeMap<u32, Terminal>,
}

struct Terminal {
    vendor: Option<VendorNo>,
    cashier: bool,
    revoked: bool,
    floor: u64,
    /// The numbers at or above the floor that had an effect in this shard, in order.
    answered: VecDeque<u64>,
}

impl Terminal {
    /// Notes that a number had an effect; whether it is the first.
    fn answers(&mut self, seq: u64, floor: u64) -> bool {
        // Nearly always behind the last.
        let new = seq >= self.floor
            && match self.answered.binary_search(&seq) {
                Ok(_) => false,
                Err(at) => {
                    self.answered.insert(at, seq);
                    true
                }
            };
        if floor > self.floor {
            self.floor = floor;
            let stale = self.answered.partition_point(|seq| *seq < floor);
            self.answered.drain(..stale);
        }
        new
    }
}

impl Known {
    /// Whether two shards know the same of a festival.
    fn agrees(&self, other: &Self) -> bool {
        let terminals = |known: &Self| {
            let all = known.terminals.iter();
            all.map(|(number, terminal)| (*number, terminal.vendor, terminal.cashier, terminal.revoked))
                .collect::<Vec<_>>()
        };
        (self.policy, self.status) == (other.policy, other.status)
            && self.vendors == other.vendors
            && terminals(self) == terminals(other)
    }
}

impl MoneyBooks {
    pub(super) fn new(id: ShardId, of: u16) -> Self {
        Self {
            id,
            of,
            serial: 0,
            wallets: Table::default(),
            payments: VecDeque::new(),
            accounts: BTreeMap::new(),
            directory: BTreeMap::new(),
            tags: TagBook::default(),
            ops: BTreeMap::new(),
            last_op: 0,
            credits: BTreeMap::new(),
            answers: BTreeMap::new(),
            held: BTreeSet::new(),
            vote: None,
            peers: (0..of).map(|_| Peer::default()).collect(),
        }
    }

    /// Looks at the wallets of a record's transactions, all of them before the first is checked: the processor fetches
    /// many at a time while nothing depends on them.
    pub(super) fn warm(&self, events: &[Event]) {
        let seen = events.iter().fold(0_i64, |seen, event| match event {
            Event::Transaction(t) => seen ^ self.wallets.get(t.wallet).map_or(0, |wallet| wallet.available),
            _ => seen,
        });
        core::hint::black_box(seen);
    }

    pub(super) fn event(&mut self, event: &Event, found: &mut Findings) {
        match event {
            Event::Transaction(t) => self.transaction(t, found),
            Event::Scanned(scanned) => self.scanned(scanned, found),
            Event::TagBound { ticket, tag } => self.tag_bound(*ticket, *tag, found),
            Event::Cashless(event) => self.cashless(event, found),
            Event::Sent { to, n, message } => self.sent(*to, *n, message, found),
            Event::Received { from, n, message } => self.received(*from, *n, message, found),
            Event::Delivered { to, through } => {
                let peer = self.peers.get_mut(usize::from(to.0));
                let fits = peer.is_some_and(|peer| peer.confirmed(*through));
                found.check(Check::Messages, fits, || format!("shard {} has {through}, which it has not", to.0));
            }
            Event::FestivalStatusSet { festival, to } => {
                if let Some(known) = self.directory.get_mut(festival) {
                    known.status = *to;
                }
            }
            Event::ByHand(DoneByHand::Reopened { festival, .. }) => {
                if let Some(known) = self.directory.get_mut(festival) {
                    known.status = FestivalStatus::Ongoing;
                }
            }
            Event::DeviceRevoked { device } | Event::ByHand(DoneByHand::DeviceReadmitted { device, .. }) => {
                if let Some(terminal) = self.terminal(*device) {
                    terminal.revoked = matches!(event, Event::DeviceRevoked { .. });
                }
            }
            _ => {}
        }
    }

    fn terminal(&mut self, device: DeviceId) -> Option<&mut Terminal> {
        self.directory.get_mut(&device.festival())?.terminals.get_mut(&device.number())
    }

    fn at_home(&self, home: Home, found: &mut Findings) {
        let shard = home.shard(self.of);
        found.check(Check::Known, shard == self.id, || format!("{home:?} lives in shard {}", shard.0));
    }

    fn cashless(&mut self, event: &CashlessEvent, found: &mut Findings) {
        match event {
            CashlessEvent::PolicySet { .. }
            | CashlessEvent::VendorPut { .. }
            | CashlessEvent::ProductPut { .. }
            | CashlessEvent::TerminalEnrolled { .. } => {
                let entry = crate::cashless::entry_of(event).expect("the directory's own");
                self.put(&entry, found);
            }
            CashlessEvent::TerminalOffered { festival, .. } => {
                let known = self.directory.contains_key(festival);
                found.check(Check::Known, known, || format!("festival {festival} takes no cashless payments"));
            }
            CashlessEvent::WalletCreated { wallet, issuer, currency, account } => {
                self.at_home(Home::Wallet(*wallet), found);
                let made = Wallet {
                    available: 0,
                    reserved: 0,
                    currency: *currency,
                    issuer: *issuer,
                    account: *account,
                    blocked: false,
                    tag: None,
                    lost: false,
                    transactions: 0,
                    lots: Vec::new(),
                };
                let own = self.directory.get(issuer).is_some_and(|known| known.policy.currency == *currency);
                let before = self.wallets.insert(*wallet, made);
                found.check(Check::Known, before.is_none() && own, || format!("{wallet:?} again, or of nobody"));
            }
            CashlessEvent::WalletClaimed { wallet, account } => {
                let free = self.wallets.get(*wallet).is_some_and(|known| known.account.is_none());
                found.check(Check::Known, free, || format!("{wallet:?} was claimed before, or there is none"));
                if let Some(known) = self.wallets.get_mut(*wallet) {
                    known.account = Some(*account);
                }
            }
            CashlessEvent::WalletBlockSet { wallet, blocked } => {
                let known = self.wallets.get_mut(*wallet);
                if found.check(Check::Known, known.is_some(), || format!("there is no {wallet:?}")) {
                    known.expect("just looked").blocked = *blocked;
                }
            }
            CashlessEvent::TransferSettled { op } => self.settled(*op, found),
            CashlessEvent::CurrencyChanging { festival, op, others, .. } => {
                self.changes(*festival, *op, *others, found);
            }
            CashlessEvent::CurrencyHeld { festival } => self.hold(*festival, found),
            CashlessEvent::CurrencyVoted { op, booked } => self.voted(*op, *booked, found),
            CashlessEvent::CurrencyReleased { festival } => self.released(*festival, found),
            CashlessEvent::TransferCancelAsked { op } => {
                let open = matches!(self.ops.get(op), Some(Op::Transfer { .. }));
                found.check(Check::Transfer, open, || format!("operation {op} is no transfer under way"));
            }
            of_tag => self.of_tag(of_tag, found),
        }
    }

    /// A line of the directory, own or told.
    fn put(&mut self, entry: &Entry, found: &mut Findings) {
        let fits = match entry {
            Entry::Festival { festival, policy, status } => {
                self.directory.entry(*festival).or_insert_with(|| Known {
                    policy: *policy,
                    status: *status,
                    vendors: Vec::new(),
                    terminals: BTreeMap::new(),
                });
                let follows = self.follows(*festival, policy);
                found.check(Check::Currency, follows, || format!("{entry:?}: something is booked in the one before"));
                let known = self.directory.get_mut(festival).expect("just put");
                (known.policy, known.status) = (*policy, *status);
                true
            }
            Entry::Vendor { festival, vendor, values } => self.directory.get_mut(festival).is_some_and(|known| {
                let no = usize::from(vendor.0);
                match known.vendors.get_mut(no) {
                    Some(before) => before.0 = values.clone(),
                    None => known.vendors.push((values.clone(), Vec::new())),
                }
                no < known.vendors.len()
            }),
            Entry::Product { festival, vendor, product, values } => {
                let known = self.directory.get_mut(festival);
                known.and_then(|known| known.vendors.get_mut(usize::from(vendor.0))).is_some_and(|(_, products)| {
                    let no = usize::from(product.0);
                    match products.get_mut(no) {
                        Some(before) => *before = values.clone(),
                        None => products.push(values.clone()),
                    }
                    no < products.len()
                })
            }
            Entry::Terminal { device, vendor, cashier, revoked } => {
                self.directory.get_mut(&device.festival()).is_some_and(|known| {
                    let terminal = known.terminals.entry(device.number()).or_insert_with(|| Terminal {
                        vendor: None,
                        cashier: false,
                        revoked: false,
                        floor: 0,
                        answered: VecDeque::new(),
                    });
                    (terminal.vendor, terminal.cashier, terminal.revoked) = (*vendor, *cashier, *revoked);
                    vendor.is_none_or(|vendor| usize::from(vendor.0) < known.vendors.len())
                })
            }
        };
        found.check(Check::Directory, fits, || format!("{entry:?} does not follow what was known"));
    }

    fn sent(&mut self, to: ShardId, n: u64, message: &Message, found: &mut Findings) {
        let known = to != self.id && to.0 < self.of;
        if !found.check(Check::Messages, known, || format!("a message to shard {}", to.0)) {
            return;
        }
        let peer = &mut self.peers[usize::from(to.0)];
        let expected = peer.sent() + 1;
        found.check(Check::Messages, n == expected, || format!("message {n} to {} where {expected} follows", to.0));
        peer.send(message);
        self.promised(to, message, found);
    }

    fn received(&mut self, from: ShardId, n: u64, message: &Message, found: &mut Findings) {
        let known = from != self.id && from.0 < self.of;
        if !found.check(Check::Messages, known, || format!("a message from shard {}", from.0)) {
            return;
        }
        let peer = &mut self.peers[usize::from(from.0)];
        let expected = peer.received() + 1;
        if found.check(Check::Messages, n == expected, || format!("message {n} of {} where {expected} follows", from.0))
        {
            peer.receive(message);
        }
        match message {
            Message::Directory(entry) => self.put(entry, found),
            other => self.heard(from, other, found),
        }
    }

    /// Whether what one shard took in is what the others have sent it, and what they know of festivals is what these are.
    pub(super) fn pairs(&self, all: &[&Self], found: &mut Findings) {
        let mut quiet = true;
        for other in all.iter().filter(|other| other.id != self.id) {
            let (sender, receiver) = (&other.peers[usize::from(self.id.0)], &self.peers[usize::from(other.id.0)]);
            let received = receiver.received();
            found.check(Check::Messages, sender.has_sent(receiver), || {
                format!("{received} messages of shard {} are not those that it sent", other.id.0)
            });
            let confirmed = sender.delivered();
            found.check(Check::Messages, confirmed <= received, || {
                format!("shard {} was confirmed {confirmed} messages, {received} came", other.id.0)
            });
            quiet &= received == sender.sent();
        }
        if !quiet {
            return;
        }
        for (festival, known) in &self.directory {
            let home = Home::Festival(*festival).shard(self.of);
            let own = all.get(usize::from(home.0)).and_then(|books| books.directory.get(festival));
            let agrees = own.is_some_and(|own| own.agrees(known));
            found.check(Check::Directory, agrees, || format!("festival {festival} is otherwise at its home"));
        }
    }

    /// Whether the replayed state tells the same story.
    pub(super) fn compare(&self, replayed: &Cashless, found: &mut Findings) {
        let mut same = |holds: bool, what: &str| {
            found.check(Check::Replay, holds, || format!("shard {}: {what} came out otherwise in replay", self.id.0));
        };
        same(replayed.serial() == self.serial, "the number of transactions");
        same(replayed.wallets.len() == self.wallets.len(), "the number of wallets");
        let wallet = |wallet: &crate::cashless::wallet::Wallet| {
            self.wallets.get(wallet.id).is_some_and(|ours| {
                (wallet.available, wallet.reserved, wallet.issuer, wallet.currency, wallet.transactions)
                    == (ours.available, ours.reserved, ours.issuer, ours.currency, ours.transactions)
                    && (wallet.is_blocked(), wallet.tag(), wallet.account()) == (ours.blocked, ours.tag, ours.account)
                    && wallet.is_tag_lost() == ours.lost
            })
        };
        same(replayed.wallets.iter().all(wallet), "a wallet");
        same(replayed.ops.len() == self.ops.len(), "the operations under way");
        same(self.tags.agree_with(&replayed.tags), "the wristbands");
        for (festival, accounts) in &self.accounts {
            let view = replayed.directory.get(*festival).map(|known| known.ledger.view());
            let agrees = view.is_ok_and(|view| {
                let vendors = view.vendors.iter().filter(|sums| sums.payments + sums.refunds > 0);
                let theirs = Accounts {
                    wallets: view.wallets,
                    commission: view.commission,
                    corrections: view.corrections,
                    in_transit: view.in_transit,
                    sources: view.sources.into_iter().collect(),
                    vendors: vendors.map(|sums| (sums.vendor, sums.payable)).collect(),
                    orders: accounts.orders.clone(),
                };
                theirs == *accounts
            });
            same(agrees, "the ledger");
        }
    }
}
