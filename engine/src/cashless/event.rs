//! What has happened to money: every transaction of a wallet with its whole balanced posting, and what wallets, tags,
//! vendors and messages between shards came to.

use crate::cashless::command::{
    CashlessPolicy, CashlessVerdict, OVER_LIMIT, ProductValues, Source, TerminalAnswer, VendorValues,
};
use crate::command::AdminAnswer;
use crate::gates::event::ByDevice;
use crate::model::ids::{DeviceId, FestivalId, ProductNo, TagUid, TicketId, TransactionId, VendorNo, WalletId};
use crate::model::money::{Currency, Money};
use crate::model::rejection::Rejection;
use crate::model::status::FestivalStatus;
use crate::model::time::Timestamp;
use crate::record::table::events;
use serde::{Deserialize, Serialize};

/// What kind of transaction. Numbers are part of records.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[repr(u8)]
pub enum TransactionKind {
    /// Money came in.
    TopUp = 1,
    /// A vendor was paid.
    Payment = 2,
    /// A payment, or part of it, was given back.
    Refund = 3,
    /// Left for another wallet: reserved here until the other side has decided.
    TransferOut = 4,
    /// Came from another wallet.
    TransferIn = 5,
    /// The other side would not have it: it is back.
    TransferBack = 6,
    /// An operator corrected the balance.
    Correction = 7,
    /// What was left went back to where it came from.
    CashOut = 8,
    /// What was left of a gift is gone: its festival is over.
    Lapse = 9,
}

impl TransactionKind {
    pub const ALL: &'static [Self] = &[
        Self::TopUp,
        Self::Payment,
        Self::Refund,
        Self::TransferOut,
        Self::TransferIn,
        Self::TransferBack,
        Self::Correction,
        Self::CashOut,
        Self::Lapse,
    ];
    /// The one with this number in records.
    pub fn from_number(number: u32) -> Option<Self> {
        Self::ALL.iter().copied().find(|kind| *kind as u32 == number)
    }
    /// The word in JSON and on screens, as the reference has it.
    pub fn word(self) -> &'static str {
        match self {
            Self::TopUp => "TOPUP",
            Self::Payment => "PAYMENT",
            Self::Refund | Self::CashOut => "REFUND",
            Self::TransferOut | Self::TransferIn | Self::TransferBack => "TRANSFER",
            Self::Correction | Self::Lapse => "CORRECTION",
        }
    }
}

/// A part of a wallet's money, with where it came from.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Lot {
    pub source: Source,
    /// How much.
    pub amount: i64,
}

impl Lot {
    /// Nothing.
    pub const NONE: Self = Self { source: Source::correction(FestivalId(0)), amount: 0 };
}

/// Lots, oldest first. One takes no allocation, and one is what nearly every payment takes.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Lots {
    first: Lot,
    rest: Vec<Lot>,
}

impl Default for Lots {
    fn default() -> Self {
        Self { first: Lot::NONE, rest: Vec::new() }
    }
}

impl Lots {
    /// Just this one.
    pub fn one(source: Source, amount: i64) -> Self {
        Self { first: Lot { source, amount }, rest: Vec::new() }
    }
    /// Adds a lot at the end; one of nothing is left out.
    pub fn push(&mut self, lot: Lot) {
        match () {
            () if lot.amount == 0 => {}
            () if self.first.amount == 0 => self.first = lot,
            () => self.rest.push(lot),
        }
    }
    /// All of them, in order.
    pub fn iter(&self) -> impl Iterator<Item = &Lot> {
        core::iter::once(&self.first).filter(|lot| lot.amount != 0).chain(&self.rest)
    }
    /// All but the first.
    pub fn rest(&self) -> &[Lot] {
        &self.rest
    }
    /// The first; [`Lot::NONE`] if there is none.
    pub fn first(&self) -> Lot {
        self.first
    }
    /// Their sum.
    pub fn sum(&self) -> i64 {
        self.iter().map(|lot| lot.amount).sum()
    }
}

impl FromIterator<Lot> for Lots {
    fn from_iter<I: IntoIterator<Item = Lot>>(lots: I) -> Self {
        let mut all = Self::default();
        lots.into_iter().for_each(|lot| all.push(lot));
        all
    }
}

/// A balanced posting: what each account gains or, where negative, gives. The legs sum to zero. Whose accounts they are
/// the transaction says: its wallet, its vendor at its festival, the sources of its lots.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Posting {
    pub wallet: i64,
    /// What is payable to the vendor.
    pub vendor: i64,
    /// The organiser's commission.
    pub commission: i64,
    /// The sources of the lots, together; each gets its lot's part.
    pub source: i64,
    pub corrections: i64,
    /// Transfers under way.
    pub in_transit: i64,
}

impl Posting {
    /// The sum of all legs: zero.
    pub fn sum(&self) -> i128 {
        [self.wallet, self.vendor, self.commission, self.source, self.corrections, self.in_transit]
            .into_iter()
            .map(i128::from)
            .sum()
    }
}

/// One line of a payment, with the VAT in it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SoldLine {
    pub product: ProductNo,
    /// How many.
    pub count: u16,
    /// What each cost.
    pub price: i64,
    /// The VAT in that, in basis points.
    pub vat_bp: u16,
}

/// A transaction of a wallet, or what was asked and refused: one line of its history.
#[derive(Clone, Debug, PartialEq)]
pub struct Transaction {
    /// The terminal, with its number for this command. `None`: the office ([`crate::event::Origin`] precedes it), or the
    /// other side of a transfer.
    pub by: Option<ByDevice>,
    /// What it is, or would have been.
    pub kind: TransactionKind,
    /// Why nothing moved.
    pub rejection: Option<Rejection>,
    /// [`OVER_LIMIT`].
    pub flags: u8,
    /// Where it happened.
    pub festival: FestivalId,
    pub wallet: WalletId,
    /// The tag that named the wallet, and its link's version.
    pub tap: Option<(TagUid, u32)>,
    /// Dense within the shard, from 1, over all its wallets; 0 if nothing moved.
    pub serial: u64,
    /// What was asked for. Negative for a correction downwards only.
    pub amount: i64,
    pub currency: Currency,
    /// Available before.
    pub before: i64,
    /// Available afterwards.
    pub after: i64,
    /// The legs.
    pub posting: Posting,
    /// The parts of the wallet's money that came or went.
    pub lots: Lots,
    /// Who was paid, at the festival.
    pub vendor: VendorNo,
    /// The vendor's number for a payment.
    pub order: u32,
    /// The organiser's part of a payment, in basis points.
    pub commission_bp: u16,
    /// For a refund the payment's serial; for a transfer the number of the operation at the sender's shard.
    pub of: u64,
    /// For a transfer the other wallet.
    pub other: Option<WalletId>,
    /// For a payment what was sold.
    pub lines: Vec<SoldLine>,
    /// For a correction why.
    pub reason: String,
}

impl Transaction {
    /// Its id, if money moved.
    pub fn id(&self) -> Option<TransactionId> {
        (self.serial > 0).then_some(TransactionId { wallet: self.wallet, serial: self.serial })
    }

    /// What the terminal is told.
    pub fn answer(&self, at: Timestamp) -> TerminalAnswer {
        let verdict = match (self.rejection, self.kind) {
            (Some(rejection), _) => CashlessVerdict::Rejected(rejection),
            (None, TransactionKind::Payment) => CashlessVerdict::Paid,
            (None, TransactionKind::Refund) => CashlessVerdict::Refunded,
            (None, _) => CashlessVerdict::ToppedUp,
        };
        TerminalAnswer {
            verdict,
            flags: self.flags,
            currency: self.currency,
            order: self.order,
            amount: self.amount,
            balance: self.after,
            wallet: self.wallet,
            serial: self.serial,
            at,
        }
    }

    /// The wallet's balance afterwards.
    pub fn balance(&self) -> Money {
        Money { minor: self.after, currency: self.currency }
    }

    /// The wallet holds more than the festival allows.
    pub fn is_over_limit(&self) -> bool {
        self.flags & OVER_LIMIT != 0
    }
}

events! {
    /// What happened about money without moving any.
    #[derive(Clone, Debug, PartialEq)]
    pub enum CashlessEvent {
        /// A festival takes cashless payments, and how.
        PolicySet = 64 as CashlessPolicySet {
            festival: FestivalId = 1,
            policy: CashlessPolicy = 2,
            /// Where the festival is in its life, for those who hear of it first.
            status: FestivalStatus = 3,
        },
        /// A vendor was made or changed.
        VendorPut = 65 {
            festival: FestivalId = 1,
            /// Its number; new if it is the next.
            vendor: VendorNo = 2,
            values: VendorValues = 3,
        },
        /// A product was made or changed.
        ProductPut = 66 {
            festival: FestivalId = 1,
            vendor: VendorNo = 2,
            /// Its number; new if it is the next.
            product: ProductNo = 3,
            values: ProductValues = 4,
        },
        /// A terminal may be enrolled.
        TerminalOffered = 67 {
            festival: FestivalId = 1,
            /// For whom it will take payments.
            vendor: Option<VendorNo> as optional = 2,
            /// Whether it will top up with cash.
            cashier: bool = 3,
            /// SHA-256 of the code.
            code_hash: [u8; 32] = 4,
            /// What it will be called.
            name: String = 5,
            until: Timestamp = 6,
        },
        TerminalEnrolled = 68 {
            device: DeviceId = 1,
            /// For whom it takes payments.
            vendor: Option<VendorNo> as optional = 2,
            /// Whether it tops up with cash.
            cashier: bool = 3,
            public_key: [u8; 32] = 4,
            name: String = 5,
            code_hash: [u8; 32] = 6,
        },
        /// A wallet was made.
        WalletCreated = 69 {
            wallet: WalletId = 1,
            issuer: FestivalId = 2,
            /// That festival's.
            currency: Currency = 3,
            account: Option<u128> = 4,
        },
        /// An account took a wallet.
        WalletClaimed = 70 { wallet: WalletId = 1, account: u128 = 2 },
        /// A wallet was blocked or let go.
        WalletBlockSet = 71 { wallet: WalletId = 1, blocked: bool = 2 },
        /// The wallet's own wristband is refused from now on.
        WalletTagLost = 72 {
            wallet: WalletId = 1,
            tag: TagUid = 2,
            /// Its link's version.
            version: u32 = 3,
            /// The operation that begins with it; 0 if the tag's home has told.
            op: u64 = 4,
        },
        /// A wallet has a wristband, in place of any before.
        TagAttached = 73 {
            wallet: WalletId = 1,
            tag: TagUid = 2,
            /// The link's version.
            version: u32 = 3,
        },
        /// A tag is to name a wallet; the wallet is asked.
        TagLinking = 74 {
            tag: TagUid = 1,
            wallet: WalletId = 2,
            /// The link's version.
            version: u32 = 3,
            /// The number of the operation: a new one, or that of the call by which another tag's names come to this one.
            op: u64 = 4,
            /// The festival that gives it out.
            festival: FestivalId = 5,
        },
        /// A tag names a wallet.
        TagLinked = 75 {
            tag: TagUid = 1,
            /// The operation that asked for it.
            op: u64 = 2,
            /// It took another's place: what that one names comes too, and the operation waits for it.
            carry: bool = 3,
        },
        /// The wallet would not have it: the tag is free.
        TagRefused = 76 {
            tag: TagUid = 1,
            /// The operation that is finished by it.
            op: u64 = 2,
            rejection: Rejection = 3,
        },
        /// A tag names no wallet any more: another one took its place.
        TagFreed = 77 { tag: TagUid = 1 },
        /// A tag was reported lost, and is refused for ever.
        TagLost = 78 {
            tag: TagUid = 1,
            /// The operation that begins with it; 0 if what it names has told.
            op: u64 = 2,
        },
        /// A tag is to name a ticket; the festival is asked.
        TagBinding = 79 {
            tag: TagUid = 1,
            ticket: TicketId = 2,
            /// The number of the operation: a new one, or that of the call by which another tag's names come to this one.
            op: u64 = 4,
        },
        /// A tag names a ticket.
        TagBindTaken = 80 {
            tag: TagUid = 1,
            /// The operation that asked for it.
            op: u64 = 2,
            /// It took another's place: what that one names comes too, and the operation waits for it.
            carry: bool = 3,
        },
        /// The festival would not have it: the tag names no ticket.
        TagBindRefused = 81 {
            tag: TagUid = 1,
            /// The operation that asked for it.
            op: u64 = 2,
            rejection: Rejection = 3,
        },
        /// A tag names no ticket any more: another one took its place.
        TagUnbound = 82 { tag: TagUid = 1 },
        /// The tag whose place this one took has said what else it names.
        TagCarried = 83 {
            /// The tag that took the place.
            tag: TagUid = 1,
            /// The operation that waited for it.
            op: u64 = 2,
        },
        /// A festival's gates refuse a tag from now on.
        TagBarred = 84 {
            festival: FestivalId = 1,
            tag: TagUid = 2,
            /// The operation that begins with it; 0 if the tag's home has told.
            op: u64 = 3,
        },
        /// Wherever else a lost tag was known, it is refused now.
        LossKnown = 85 {
            /// The operation that waited for it.
            op: u64 = 1,
        },
        /// The other side has the money: the transfer is over.
        TransferSettled = 86 { op: u64 = 1 },
        /// The transfer has taken too long; the other side is asked to let it be.
        TransferCancelAsked = 87 { op: u64 = 1 },
        /// A festival is to have another currency, and nothing is booked here: the other shards are asked.
        CurrencyChanging = 88 {
            festival: FestivalId = 1,
            policy: CashlessPolicy = 2,
            op: u64 = 3,
            /// How many shards are asked.
            others: u16 = 4,
        },
        /// Nothing is booked here at a festival that is to have another currency, and nothing will be until that is decided.
        CurrencyHeld = 89 { festival: FestivalId = 1 },
        /// Another shard has answered: whether it has booked anything; after the decision, that it has heard of it.
        CurrencyVoted = 90 { op: u64 = 1, booked: bool = 2 },
        /// It is decided: money is taken again.
        CurrencyReleased = 91 { festival: FestivalId = 1 },
    }
}

impl CashlessEvent {
    /// The festival whose own event it is; none for a wallet's or a tag's.
    pub fn festival(&self) -> Option<FestivalId> {
        match self {
            Self::PolicySet { festival, .. }
            | Self::VendorPut { festival, .. }
            | Self::ProductPut { festival, .. }
            | Self::TerminalOffered { festival, .. }
            | Self::TagBarred { festival, .. }
            | Self::CurrencyChanging { festival, .. } => Some(*festival),
            Self::TerminalEnrolled { device, .. } => Some(device.festival()),
            _ => None,
        }
    }

    /// What the office is told of it, if it has asked for it.
    pub(crate) fn answer(&self) -> AdminAnswer {
        match self {
            Self::VendorPut { vendor, .. } => AdminAnswer::Vendor(*vendor),
            Self::ProductPut { product, .. } => AdminAnswer::Product(*product),
            Self::TerminalOffered { until, .. } => AdminAnswer::CodeUntil(*until),
            Self::TerminalEnrolled { device, .. } => AdminAnswer::Device(*device),
            Self::WalletCreated { wallet, .. } | Self::WalletClaimed { wallet, .. } => AdminAnswer::Wallet(*wallet),
            Self::TagLinking { op, .. }
            | Self::TagBinding { op, .. }
            | Self::WalletTagLost { op, .. }
            | Self::TagBarred { op, .. }
            | Self::TagLost { op, .. }
            | Self::CurrencyChanging { op, .. } => AdminAnswer::Pending(*op),
            _ => AdminAnswer::Done,
        }
    }
}
