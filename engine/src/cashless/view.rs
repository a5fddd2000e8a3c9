//! What is shown of wallets, tags, vendors and the books.

use serde::{Deserialize, Serialize};

use crate::cashless::command::{CashlessPolicy, ProductValues, Source, VendorValues};
use crate::cashless::event::{Lot, TransactionKind};
use crate::model::ids::{DeviceId, FestivalId, ProductNo, TagUid, TicketId, TransactionId, VendorNo, WalletId};
use crate::model::money::Currency;
use crate::model::rejection::Rejection;
use crate::model::status::FestivalStatus;
use crate::model::time::Timestamp;

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct WalletView {
    pub id: WalletId,
    /// Which festival issued it.
    pub issuer: FestivalId,
    /// Of all its money.
    pub currency: Currency,
    /// What can be spent.
    pub available: i64,
    /// What is on its way to other wallets.
    pub reserved: i64,
    /// Blocked by the office.
    pub blocked: bool,
    pub account: Option<u128>,
    /// Its wristband, with the link's version.
    pub tag: Option<(TagUid, u32)>,
    /// The wristband was reported lost.
    pub tag_lost: bool,
    /// How many transactions it has had.
    pub transactions: u32,
    /// Where its money came from, oldest first.
    pub lots: Vec<Lot>,
}

/// What a tag names.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct TagView {
    /// The tag.
    pub tag: TagUid,
    /// Where it is in its life.
    pub state: TagState,
    /// The wallet that it names or is about to name; none once it was lost.
    pub wallet: Option<WalletId>,
    /// The ticket that it names or is about to name, lost or not.
    pub ticket: Option<TicketId>,
    /// The festival that has given it out, while it names anything or is lost.
    pub festival: Option<FestivalId>,
    /// The version of that link; rises with each.
    pub version: u32,
    /// When that link was begun, by its shard's time.
    pub linked_at: Timestamp,
    /// The wallets that it named before with their latest links' versions, oldest first, no wallet twice, at most
    /// [`crate::cashless::tag::EARLIER_MAX`]: a frame that a terminal sends again is asked there first.
    pub earlier: Vec<(WalletId, u32)>,
    /// The latest moment at which it named a wallet that it does not remember any more; 0: there is none.
    pub forgotten_until: Timestamp,
}

impl TagView {
    /// Whether a wallet that is forgotten may have decided a tap of this moment: one that was named when it was made, or
    /// afterwards.
    pub fn has_forgotten(&self, captured_at: Timestamp) -> bool {
        self.forgotten_until != Timestamp(0) && captured_at.since_ms(self.forgotten_until) <= TAP_SLACK_MS
    }
}

/// How much later than a tap a link may have been begun and still be what was tapped: terminals know the server's time
/// from their welcome, so they are off by what that took, and by what their clock has drifted since.
pub const TAP_SLACK_MS: i64 = 2_000;

/// Whether a link that was begun at `linked_at` is younger than the tap: the wristband named something else then, or
/// nothing.
pub fn is_younger_than_tap(linked_at: Timestamp, captured_at: Timestamp) -> bool {
    linked_at.since_ms(captured_at) > TAP_SLACK_MS
}

/// Where a tag is in its life.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum TagState {
    /// It names nothing.
    Free,
    /// It is about to: the wallet was asked.
    Linking,
    /// It names a wallet.
    Linked,
    /// It was reported lost, and is refused for ever.
    Lost,
}

/// How a festival takes cashless payments, as its home knows it.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct CashlessView {
    pub festival: FestivalId,
    pub policy: CashlessPolicy,
    /// Where the festival is in its life.
    pub status: FestivalStatus,
    /// By number.
    pub vendors: Vec<VendorView>,
}

#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct VendorView {
    /// Its number.
    pub no: VendorNo,
    pub values: VendorValues,
    /// By number.
    pub products: Vec<(ProductNo, ProductValues)>,
}

/// One shard's part of a festival's books. The festival's are the sums over all shards.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct LedgerView {
    /// The balances of the wallets: what is available in them.
    pub wallets: i128,
    /// What is payable to each vendor, with its sales.
    pub vendors: Vec<VendorSums>,
    /// The organiser's commission.
    pub commission: i128,
    /// What came from each source less what went back; the sign of a source's account: negative is money received.
    pub sources: Vec<(Source, i128)>,
    pub corrections: i128,
    /// What became of gifts; they are among the sources too.
    pub gifts: GiftSums,
    /// Transfers that have left a wallet of this shard less those that have come into one.
    pub in_transit: i128,
    /// How many transactions of each kind, in the order of [`TransactionKind::ALL`], with the sum of their amounts.
    pub kinds: Vec<(TransactionKind, u64, i128)>,
    /// Rejections by reason, those that have occurred.
    pub rejections: Vec<(Rejection, u64)>,
    /// The latest rejections, newest first, at most [`crate::cashless::ledger::RECENT_MAX`].
    pub latest: Vec<RefusedCash>,
    /// Terminals, with when each last asked something here that was recorded.
    pub terminals: Vec<TerminalSeen>,
}

/// What became of a festival's gifts.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct GiftSums {
    /// What was given, less what a correction took back.
    pub given: i128,
    /// What was paid with it, less what was given back of that.
    pub spent: i128,
    /// What was left when the festival was over.
    pub lapsed: i128,
}

impl GiftSums {
    /// What can still be spent.
    pub fn left(&self) -> i128 {
        self.given - self.spent - self.lapsed
    }
    fn add(&mut self, other: &Self) {
        self.given += other.given;
        self.spent += other.spent;
        self.lapsed += other.lapsed;
    }
}

impl LedgerView {
    /// Adds another shard's part of the same festival's books.
    pub fn add(&mut self, other: &Self) {
        self.wallets += other.wallets;
        self.commission += other.commission;
        self.corrections += other.corrections;
        self.in_transit += other.in_transit;
        self.gifts.add(&other.gifts);
        for sums in &other.vendors {
            let into = entry(
                &mut self.vendors,
                |mine| mine.vendor.cmp(&sums.vendor),
                VendorSums { vendor: sums.vendor, ..VendorSums::default() },
            );
            into.payable += sums.payable;
            into.sold += sums.sold;
            into.refunded += sums.refunded;
            into.payments += sums.payments;
            into.refunds += sums.refunds;
        }
        for (source, sum) in &other.sources {
            entry(&mut self.sources, |(mine, _)| mine.cmp(source), (*source, 0)).1 += sum;
        }
        for (kind, count, sum) in &other.kinds {
            let into = entry(&mut self.kinds, |(mine, ..)| mine.cmp(kind), (*kind, 0, 0));
            into.1 += count;
            into.2 += sum;
        }
        for (reason, count) in &other.rejections {
            entry(&mut self.rejections, |(mine, _)| mine.cmp(reason), (*reason, 0)).1 += count;
        }
        self.latest.extend(&other.latest);
        self.latest.sort_by_key(|refused| core::cmp::Reverse(refused.at));
        self.latest.truncate(crate::cashless::ledger::RECENT_MAX);
        for seen in &other.terminals {
            let into = entry(&mut self.terminals, |mine| mine.device.cmp(&seen.device), *seen);
            into.revoked |= seen.revoked;
            into.last_seen_at = into.last_seen_at.max(seen.last_seen_at);
            into.next_seq = into.next_seq.max(seen.next_seq);
        }
    }

    /// The trial balance: what all accounts come to. Zero, or the books are wrong.
    pub fn trial_balance(&self) -> i128 {
        let vendors: i128 = self.vendors.iter().map(|sums| sums.payable).sum();
        let sources: i128 = self.sources.iter().map(|(_, sum)| sum).sum();
        self.wallets + vendors + self.commission + sources + self.corrections + self.in_transit
    }
}

/// The entry of a list in the order of its keys, put there if there is none.
fn entry<T>(list: &mut Vec<T>, order: impl Fn(&T) -> core::cmp::Ordering, new: T) -> &mut T {
    let at = list.binary_search_by(order).unwrap_or_else(|at| {
        list.insert(at, new);
        at
    });
    &mut list[at]
}

/// A vendor's sums in one shard.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct VendorSums {
    /// Its number.
    pub vendor: VendorNo,
    pub payable: i128,
    pub sold: i128,
    /// Of this, what was given back.
    pub refunded: i128,
    /// How many payments.
    pub payments: u64,
    /// How many refunds.
    pub refunds: u64,
}

/// One of the latest rejections.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct RefusedCash {
    pub at: Timestamp,
    /// By which terminal; `None`: the office.
    pub device: Option<DeviceId>,
    /// What was asked.
    pub kind: TransactionKind,
    /// Why not.
    pub reason: Rejection,
    /// About which wallet.
    pub wallet: WalletId,
    /// How much.
    pub amount: i64,
}

/// A terminal, as one shard has seen it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct TerminalSeen {
    pub device: DeviceId,
    /// For whom it takes payments.
    pub vendor: Option<VendorNo>,
    /// Whether it tops up with cash.
    pub cashier: bool,
    /// Refused.
    pub revoked: bool,
    /// When it last asked something here that was recorded.
    pub last_seen_at: Timestamp,
    /// The lowest `seq` it may use next, as far as this shard knows: the highest over all shards holds.
    pub next_seq: u64,
}

/// A payment that can still be refunded.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct PaymentView {
    pub id: TransactionId,
    pub festival: FestivalId,
    pub vendor: VendorNo,
    /// How much.
    pub amount: i64,
    /// Of this, what was given back.
    pub refunded: i64,
    /// Which sources' money paid it.
    pub lots: Vec<Lot>,
}
