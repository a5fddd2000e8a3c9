//! Money in the books of one shard: wallets, tags, vendors, transfers and the messages of other shards, as the records
//! say, each held against what the design allows. No code of the engine's decisions is used here.

mod agree;
mod currency;
mod pairs;
mod tags;
mod transactions;
mod transfers;

pub(in crate::sim) use pairs::{all_quiet, all_together};

use std::collections::{BTreeMap, BTreeSet};

use engine::cashless::command::{CashlessPolicy, ProductValues, Source, TerminalAnswer, VendorValues};
use engine::cashless::event::CashlessEvent;
use engine::cashless::view::TagState;
use engine::command::AdminAnswer;
use engine::event::Event;
use engine::gates::event::DoneByHand;
use engine::model::ids::{DeviceId, FestivalId, Home, ProductNo, ShardId, TagUid, TicketId, VendorNo, WalletId};
use engine::model::money::Currency;
use engine::model::status::FestivalStatus;
use engine::model::time::Timestamp;
use engine::shard::outbox::{Entry, Message};

use crate::sim::disk::SHARDS;
use crate::sim::{Check, breach};
use tags::Gates;
pub(in crate::sim) use transfers::{End, OpBook};

/// One shard's money.
#[derive(Clone)]
pub(in crate::sim) struct MoneyBook {
    id: ShardId,
    /// Of the last transaction.
    serial: u64,
    pub(in crate::sim) wallets: BTreeMap<WalletId, WalletBook>,
    pub(in crate::sim) tags: BTreeMap<TagUid, TagBook>,
    /// What the gates of this shard's festivals go by.
    gates: Gates,
    pub(in crate::sim) festivals: BTreeMap<FestivalId, CashlessBook>,
    pub(in crate::sim) payments: BTreeMap<u64, PaymentBook>,
    /// All operations that ever began here.
    pub(in crate::sim) ops: BTreeMap<u64, OpBook>,
    /// What became of other shards' transfers, and of this one's to itself: taken or declined, for good.
    pub(in crate::sim) credits: BTreeMap<(ShardId, u64), bool>,
    /// What terminals were told, ever.
    pub(in crate::sim) answers: BTreeMap<(DeviceId, u64), TerminalAnswer>,
    /// By which link of which wristband money has moved.
    pub(in crate::sim) taps: BTreeMap<(DeviceId, u64), (TagUid, u32)>,
    /// Every link that a wristband of this shard ever had, by version: to which wallet, and when it was begun.
    pub(in crate::sim) links: BTreeMap<(TagUid, u32), (WalletId, Timestamp)>,
    floors: BTreeMap<DeviceId, u64>,
    /// By the other shard's number.
    pub(in crate::sim) posts: Vec<PostBook>,
    /// Which operation ends with which idempotency key's outcome.
    keys: BTreeMap<u64, u128>,
    /// The message that is being taken in.
    heard: Option<(ShardId, Message)>,
    /// Devices that this shard has ever heard were revoked: an answer that says so may be on its way for long.
    ever_revoked: BTreeSet<DeviceId>,
    /// How often what happened.
    pub(in crate::sim) tally: BTreeMap<&'static str, u64>,
}

/// A wallet's page.
#[derive(Clone)]
pub(in crate::sim) struct WalletBook {
    pub(in crate::sim) available: i64,
    pub(in crate::sim) reserved: i64,
    currency: Currency,
    issuer: FestivalId,
    account: Option<u128>,
    blocked: bool,
    tag: Option<(TagUid, u32)>,
    lost: bool,
    transactions: u32,
    /// Oldest first.
    lots: Vec<(Source, i64)>,
    /// What was available at any moment of the record with this number.
    lately: (u64, BTreeSet<i64>),
}

/// A tag's page.
#[derive(Clone, PartialEq)]
pub(in crate::sim) struct TagBook {
    /// Towards a wallet, lost or not.
    state: TagState,
    wallet: WalletId,
    version: u32,
    festival: FestivalId,
    /// The ticket, and whether its festival has taken it.
    ticket: Option<(TicketId, bool)>,
    lost: bool,
}

/// What a shard knows of a festival, and its part of that festival's accounts.
#[derive(Clone)]
pub(in crate::sim) struct CashlessBook {
    policy: CashlessPolicy,
    status: FestivalStatus,
    vendors: Vec<VendorBook>,
    terminals: BTreeMap<u32, TerminalBook>,
    wallets: i128,
    commission: i128,
    corrections: i128,
    in_transit: i128,
    sources: BTreeMap<Source, i128>,
    /// Its currency is about to be another: nothing moves. And whether that ever was so.
    held: bool,
    was_held: bool,
    /// Money has moved, here or in a wallet that it has issued.
    booked: bool,
}

/// A vendor's page.
#[derive(Clone)]
struct VendorBook {
    values: VendorValues,
    products: Vec<ProductValues>,
    payable: i128,
    orders: BTreeSet<u32>,
}

/// A terminal's page.
#[derive(Clone, Copy, PartialEq)]
pub(in crate::sim) struct TerminalBook {
    pub(in crate::sim) vendor: Option<VendorNo>,
    pub(in crate::sim) cashier: bool,
    revoked: bool,
}

/// A payment's page.
#[derive(Clone)]
pub(in crate::sim) struct PaymentBook {
    pub(in crate::sim) wallet: WalletId,
    amount: i64,
    pub(in crate::sim) left: i64,
    festival: FestivalId,
    pub(in crate::sim) vendor: VendorNo,
    commission_bp: u16,
    /// What was not given back, by source.
    lots: Vec<(Source, i64)>,
    /// How many of which product were sold, and what refunds have named of them.
    sold: BTreeMap<ProductNo, (u32, u32)>,
}

/// What went to and came from another shard.
#[derive(Clone, Default)]
pub(in crate::sim) struct PostBook {
    /// Ever, in order.
    pub(in crate::sim) sent: Vec<Message>,
    /// So many came.
    pub(in crate::sim) received: u64,
    /// So many have been acknowledged.
    delivered: u64,
}

/// The end of an operation: whose outcome, and what it is.
pub(super) type Ended = Option<(u128, AdminAnswer)>;

impl MoneyBook {
    pub(super) fn new(id: ShardId) -> Self {
        Self {
            id,
            serial: 0,
            wallets: BTreeMap::new(),
            tags: BTreeMap::new(),
            gates: Gates::default(),
            festivals: BTreeMap::new(),
            payments: BTreeMap::new(),
            ops: BTreeMap::new(),
            credits: BTreeMap::new(),
            answers: BTreeMap::new(),
            taps: BTreeMap::new(),
            links: BTreeMap::new(),
            floors: BTreeMap::new(),
            posts: vec![PostBook::default(); usize::from(SHARDS)],
            keys: BTreeMap::new(),
            heard: None,
            ever_revoked: BTreeSet::new(),
            tally: BTreeMap::new(),
        }
    }

    /// This operation was asked for with this key.
    pub(super) fn pending(&mut self, op: u64, key: u128) {
        self.keys.insert(op, key);
    }

    /// Which shard's it is.
    pub(in crate::sim) fn number(&self) -> u16 {
        self.id.0
    }

    /// Another record begins.
    pub(super) fn next_record(&mut self) {
        self.heard = None;
    }

    /// The next event, of the record with this number.
    pub(super) fn happened(&mut self, event: &Event, record: u64, at: Timestamp) -> Check<Ended> {
        if let Event::Cashless(CashlessEvent::TagLinking { tag, wallet, version, .. }) = event {
            self.links.insert((*tag, *version), (*wallet, at));
        }
        match event {
            Event::Transaction(t) => return self.transaction(t, record, at),
            Event::Cashless(event) => return self.cashless(event),
            Event::TagBound { ticket, tag } => self.tag_bound(*ticket, *tag)?,
            Event::Sent { to, n, message } => self.sent(*to, *n, message)?,
            Event::Received { from, n, message } => self.received(*from, *n, message)?,
            Event::Delivered { to, through } => {
                let post = &mut self.posts[usize::from(to.0)];
                if *through <= post.delivered || *through > post.sent.len() as u64 {
                    let what = format!("{through} to shard {}, of {}", to.0, post.sent.len());
                    return breach("only what was sent is acknowledged", what);
                }
                post.delivered = *through;
            }
            Event::FestivalStatusSet { festival, to } => {
                if let Some(page) = self.festivals.get_mut(festival) {
                    page.status = *to;
                }
            }
            Event::ByHand(DoneByHand::Reopened { festival, .. }) => {
                if let Some(page) = self.festivals.get_mut(festival) {
                    page.status = FestivalStatus::Ongoing;
                }
            }
            Event::DeviceRevoked { device } => {
                self.ever_revoked.insert(*device);
                if let Some(terminal) = self.terminal_mut(*device) {
                    terminal.revoked = true;
                }
            }
            Event::ByHand(DoneByHand::DeviceReadmitted { device, .. }) => {
                if let Some(terminal) = self.terminal_mut(*device) {
                    terminal.revoked = false;
                }
            }
            _ => {}
        }
        Ok(None)
    }

    fn count(&mut self, what: &'static str) {
        *self.tally.entry(what).or_default() += 1;
    }

    fn is_near(&self, wallet: WalletId) -> bool {
        Home::Wallet(wallet).shard(SHARDS) == self.id
    }

    fn page(&mut self, id: FestivalId) -> Check<&mut CashlessBook> {
        match self.festivals.get_mut(&id) {
            Some(page) => Ok(page),
            None => breach("events are of what exists", format!("festival {id} takes no cashless payments")),
        }
    }

    fn wallet(&mut self, id: WalletId) -> Check<&mut WalletBook> {
        match self.wallets.get_mut(&id) {
            Some(wallet) => Ok(wallet),
            None => breach("events are of what exists", format!("no {id:?}")),
        }
    }

    fn terminal_mut(&mut self, device: DeviceId) -> Option<&mut TerminalBook> {
        self.festivals.get_mut(&device.festival())?.terminals.get_mut(&device.number())
    }

    /// A terminal, as this shard knows it.
    pub(in crate::sim) fn terminal(&self, device: DeviceId) -> Option<TerminalBook> {
        self.festivals.get(&device.festival())?.terminals.get(&device.number()).copied()
    }

    fn cashless(&mut self, event: &CashlessEvent) -> Check<Ended> {
        match event {
            CashlessEvent::PolicySet { festival, policy, status } => {
                self.put(&Entry::Festival { festival: *festival, policy: *policy, status: *status })?;
            }
            CashlessEvent::VendorPut { festival, vendor, values } => {
                self.put(&Entry::Vendor { festival: *festival, vendor: *vendor, values: values.clone() })?;
            }
            CashlessEvent::ProductPut { festival, vendor, product, values } => {
                let (vendor, product, values) = (*vendor, *product, values.clone());
                self.put(&Entry::Product { festival: *festival, vendor, product, values })?;
            }
            CashlessEvent::TerminalOffered { .. } => {}
            CashlessEvent::TerminalEnrolled { device, vendor, cashier, .. } => {
                self.put(&Entry::Terminal { device: *device, vendor: *vendor, cashier: *cashier, revoked: false })?;
            }
            CashlessEvent::WalletCreated { wallet, issuer, currency, account } => {
                if self.page(*issuer)?.policy.currency != *currency || !self.is_near(*wallet) {
                    return breach("a wallet has its issuer's currency", format!("{event:?}"));
                }
                let made = WalletBook {
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
                    lately: (0, BTreeSet::new()),
                };
                if self.wallets.insert(*wallet, made).is_some() {
                    return breach("every command happens once", format!("{wallet:?} was made before"));
                }
            }
            CashlessEvent::WalletClaimed { wallet, account } => {
                if let Some(before) = self.wallet(*wallet)?.account.replace(*account) {
                    return breach("a wallet is one account's", format!("{wallet:?} was {before}'s"));
                }
            }
            CashlessEvent::WalletBlockSet { wallet, blocked } => self.wallet(*wallet)?.blocked = *blocked,
            CashlessEvent::CurrencyChanging { .. }
            | CashlessEvent::CurrencyHeld { .. }
            | CashlessEvent::CurrencyVoted { .. }
            | CashlessEvent::CurrencyReleased { .. } => return self.of_currency(event),
            CashlessEvent::TransferSettled { op } => return self.settled(*op),
            CashlessEvent::TransferCancelAsked { op } => {
                self.count("cancel_asked");
                if !self.ops.get(op).is_some_and(|op| op.is_open() && op.is_transfer()) {
                    return breach("a transfer ends once", format!("{event:?}"));
                }
            }
            of_tag => return self.of_tag(of_tag),
        }
        Ok(None)
    }

    /// A line of the directory, own or told.
    fn put(&mut self, entry: &Entry) -> Check {
        match entry {
            Entry::Festival { festival, policy, status } => {
                let page = self.festivals.entry(*festival).or_insert_with(|| CashlessBook {
                    policy: *policy,
                    status: *status,
                    vendors: Vec::new(),
                    terminals: BTreeMap::new(),
                    wallets: 0,
                    commission: 0,
                    corrections: 0,
                    in_transit: 0,
                    sources: BTreeMap::new(),
                    held: false,
                    was_held: false,
                    booked: false,
                });
                if page.policy.currency != policy.currency {
                    self.redenominate(*festival, policy.currency)?;
                }
                let page = self.page(*festival)?;
                (page.policy, page.status) = (*policy, *status);
            }
            Entry::Vendor { festival, vendor, values } => {
                let vendors = &mut self.page(*festival)?.vendors;
                let values = values.clone();
                match vendors.get_mut(usize::from(vendor.0)) {
                    Some(known) => known.values = values,
                    None => {
                        vendors.push(VendorBook { values, products: Vec::new(), payable: 0, orders: BTreeSet::new() });
                    }
                }
            }
            Entry::Product { festival, vendor, product, values } => {
                let products = &mut self.page(*festival)?.vendors[usize::from(vendor.0)].products;
                match products.get_mut(usize::from(product.0)) {
                    Some(known) => *known = values.clone(),
                    None => products.push(values.clone()),
                }
            }
            Entry::Terminal { device, vendor, cashier, revoked } => {
                let terminal = TerminalBook { vendor: *vendor, cashier: *cashier, revoked: *revoked };
                self.page(device.festival())?.terminals.insert(device.number(), terminal);
                if *revoked {
                    self.ever_revoked.insert(*device);
                }
            }
        }
        Ok(())
    }

    fn sent(&mut self, to: ShardId, n: u64, message: &Message) -> Check {
        self.promised(to, message)?;
        let post = &mut self.posts[usize::from(to.0)];
        post.sent.push(message.clone());
        if n == post.sent.len() as u64 && to != self.id {
            return Ok(());
        }
        breach("messages are numbered densely", format!("{n} to shard {}, {} were sent", to.0, post.sent.len()))
    }

    fn received(&mut self, from: ShardId, n: u64, message: &Message) -> Check {
        let post = &mut self.posts[usize::from(from.0)];
        if n != post.received + 1 {
            return breach(
                "a message is taken in once, in order",
                format!("{n} of shard {} after {}", from.0, post.received),
            );
        }
        post.received = n;
        self.heard = Some((from, message.clone()));
        match message {
            Message::Directory(entry) => self.put(entry),
            _ => Ok(()),
        }
    }
}
