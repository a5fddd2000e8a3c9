//! What terminals and the office ask about money, and what they are told.

use serde::{Deserialize, Serialize};

use crate::model::ids::{DeviceId, FestivalId, Home, ProductNo, ProviderNo, TagUid, TransactionId, VendorNo, WalletId};
use crate::model::money::{Currency, Money};
use crate::model::rejection::Rejection;
use crate::model::time::Timestamp;

/// The most lines of one payment: 32 × 16 B.
pub const LINES_MAX: usize = 32;

/// A terminal's command. `(device, seq)` is its id; it goes to the wallet's home, and each shard remembers for itself
/// what it has answered. A resent frame that names a tag goes first to the wallets which the tag named before
/// ([`crate::cashless::view::TagView::earlier`]), with the tag's version then: whichever has decided it answers again, the others
/// say `tag_moved` and remember nothing.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct TerminalCommand {
    /// Who asks: proven by the connection, never taken from the frame.
    pub device: DeviceId,
    /// Rises by at least one with each command of the device.
    pub seq: u64,
    /// The lowest `seq` for which the device has no final answer.
    pub floor: u64,
    /// A payment or top-up that is not decided by then, in the server's time, is [`Rejection::Expired`]; 0: never. No part
    /// of the question: the same number with another time gets the answer that the first one got.
    pub expires_at: Timestamp,
    /// What it asks.
    pub action: TerminalAction,
}

impl TerminalCommand {
    /// Whether its time is over.
    pub fn is_expired(&self, now: Timestamp) -> bool {
        self.expires_at != Timestamp(0)
            && now > self.expires_at
            && matches!(self.action, TerminalAction::Pay { .. } | TerminalAction::TopUp { .. })
    }
}

/// How a terminal came to a wallet: the tag that was held to it, and the link's version as it was resolved.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Tap {
    /// The tag.
    pub tag: TagUid,
    /// The version of its link when the gateway resolved it.
    pub version: u32,
}

/// What a terminal can ask.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub enum TerminalAction {
    /// Somebody pays.
    Pay {
        wallet: WalletId,
        /// Named by this tap; without one the wallet was named by its id or QR.
        tap: Option<Tap>,
        /// How much.
        amount: Money,
        /// For what; none for a bare amount. At most [`LINES_MAX`], and their sum is the amount.
        lines: Box<[Line]>,
    },
    /// The vendor gives back what it took.
    Refund {
        payment: TransactionId,
        /// How much; `None`: what the lines come to, without lines all that is left of it.
        amount: Option<Money>,
        /// Of what, if that was said; at most [`LINES_MAX`], and their sum is the amount.
        lines: Box<[RefundLine]>,
    },
    /// Cash at a cashier's terminal.
    TopUp {
        /// Into which wallet.
        wallet: WalletId,
        /// Named by this tap.
        tap: Option<Tap>,
        /// How much.
        amount: Money,
    },
    /// How much there is. Never recorded; asked again it is looked up anew.
    Balance {
        wallet: WalletId,
        /// Named by this tap.
        tap: Option<Tap>,
    },
}

impl TerminalAction {
    /// The wallet it is about.
    pub fn wallet(&self) -> WalletId {
        match self {
            Self::Pay { wallet, .. } | Self::TopUp { wallet, .. } | Self::Balance { wallet, .. } => *wallet,
            Self::Refund { payment, .. } => payment.wallet,
        }
    }
}

/// One line of a payment.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Line {
    /// What, at the terminal's vendor.
    pub product: ProductNo,
    /// How many.
    pub count: u16,
    /// What each costs, in the payment's currency, as the terminal says.
    pub price: i64,
}

/// What became of a terminal's command.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum CashlessVerdict {
    /// It is paid.
    Paid,
    /// It is given back.
    Refunded,
    /// It is topped up.
    ToppedUp,
    /// This is how much there is.
    Balance,
    /// No, and why.
    Rejected(Rejection),
}

impl CashlessVerdict {
    /// Its number in frames: rejections have their own, the rest are at 210 and above.
    pub fn number(self) -> u8 {
        match self {
            Self::Rejected(rejection) => rejection as u8,
            Self::Paid => 210,
            Self::Refunded => 211,
            Self::ToppedUp => 212,
            Self::Balance => 213,
        }
    }
    /// The verdict with this number.
    pub fn from_number(number: u8) -> Option<Self> {
        match number {
            210 => Some(Self::Paid),
            211 => Some(Self::Refunded),
            212 => Some(Self::ToppedUp),
            213 => Some(Self::Balance),
            number => Rejection::from_number(number).map(Self::Rejected),
        }
    }
}

/// The answer to a terminal. The same `(device, seq)` gets the same one, to the last bit, however often it is sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct TerminalAnswer {
    /// Yes or no.
    pub verdict: CashlessVerdict,
    /// [`OVER_LIMIT`].
    pub flags: u8,
    /// The wallet's currency.
    pub currency: Currency,
    /// The vendor's number for a payment: no two of its payments share one, and it rises over the evening.
    pub order: u32,
    /// How much was asked for, in minor units; for a refund of all that is left, how much that was.
    pub amount: i64,
    /// What is available in the wallet now; 0 where no wallet is known.
    pub balance: i64,
    pub wallet: WalletId,
    /// The transaction's serial, 0 if nothing moved; see [`TerminalAnswer::transaction`].
    pub serial: u64,
    /// The shard's time of the decision.
    pub at: Timestamp,
}

/// The wallet holds more than the festival allows: the money had been taken already.
pub const OVER_LIMIT: u8 = 1;

impl TerminalAnswer {
    /// A no about a wallet of which nothing is known.
    pub fn rejected(rejection: Rejection, wallet: WalletId, at: Timestamp) -> Self {
        Self {
            verdict: CashlessVerdict::Rejected(rejection),
            flags: 0,
            currency: Currency::EUR,
            order: 0,
            amount: 0,
            balance: 0,
            wallet,
            serial: 0,
            at,
        }
    }
    /// A no before any wallet is known. Devices read 0 in its place, which is nobody's id.
    pub fn rejected_without_wallet(rejection: Rejection, at: Timestamp) -> Self {
        Self::rejected(rejection, WalletId(0), at)
    }
    /// The transaction, if money moved: what a refund names.
    pub fn transaction(&self) -> Option<TransactionId> {
        (self.serial > 0).then_some(TransactionId { wallet: self.wallet, serial: self.serial })
    }
}

/// Where money came from, so that what is left can go back there.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Source {
    pub kind: SourceKind,
    /// Whose books it is in.
    pub festival: FestivalId,
    /// For a card through which provider of payments; else none.
    pub provider: ProviderNo,
    /// Which one, by kind: the terminal's number at the festival; the desk's; the payment's number there, so that each
    /// payment is a lot of its own; 0 for a gift and a correction. [`Source::SEVERAL`] where a wallet has had money from
    /// too many of one kind.
    pub number: u64,
}

const _: () = assert!(size_of::<Source>() == 16, "a wallet has one in its 96 bytes");

impl Source {
    /// Stands for several of one kind.
    pub const SEVERAL: u64 = u64::MAX;

    /// Of this kind and number; a card's through Stripe.
    pub const fn new(kind: SourceKind, festival: FestivalId, number: u64) -> Self {
        let provider = if matches!(kind, SourceKind::Card) { ProviderNo::STRIPE } else { ProviderNo::NONE };
        Self { kind, festival, provider, number }
    }
    /// Banknotes at a cashier's terminal.
    pub fn terminal(device: DeviceId) -> Self {
        Self::new(SourceKind::Terminal, device.festival(), u64::from(device.number()))
    }
    /// Banknotes at the desk that works with this API key; 0: the installation's own. Numbers above those of keys are kept
    /// for the desks of people who are signed in to their accounts.
    pub const fn desk(festival: FestivalId, key: u32) -> Self {
        Self::new(SourceKind::Desk, festival, key as u64)
    }
    /// What an operator gave back that had been taken.
    pub const fn correction(festival: FestivalId) -> Self {
        Self::new(SourceKind::Correction, festival, 0)
    }
    /// A festival's gifts.
    pub const fn gift(festival: FestivalId) -> Self {
        Self::new(SourceKind::Gift, festival, 0)
    }
    /// Whether money can come from there: a card has a provider, and nothing else has one.
    pub fn is_whole(self) -> bool {
        (self.kind == SourceKind::Card) == (self.provider != ProviderNo::NONE)
    }
    /// Whether each of its payments has to be told apart, since what is left of it goes back to that payment: to a card, or
    /// to an account at a bank. Banknotes are the same from whichever desk.
    pub fn is_payment(self) -> bool {
        matches!(self.kind, SourceKind::Card | SourceKind::Bank)
    }
    /// Whether it is a gift: spent first, and only where it was given; never paid out.
    pub fn is_gift(self) -> bool {
        self.kind == SourceKind::Gift
    }
    /// The account of the books that it is in: one for each terminal and desk, one for all cards of a provider, and one for
    /// all bank transfers and all gifts, so that books do not grow by the payment.
    pub fn account(self) -> Self {
        match self.kind {
            SourceKind::Terminal | SourceKind::Desk => self,
            SourceKind::Card | SourceKind::Bank | SourceKind::Correction | SourceKind::Gift => {
                Self { number: 0, ..self }
            }
        }
    }
}

/// What kind of source. Numbers are part of records.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[repr(u8)]
pub enum SourceKind {
    /// Cash at a cashier's terminal.
    Terminal = 1,
    /// Cash at an operator's desk, or for the operator's account.
    Desk = 2,
    /// A card, or whatever else a provider of payments takes.
    Card = 3,
    /// A bank transfer.
    Bank = 4,
    /// A correction that gave back money which had been taken.
    Correction = 5,
    /// Given by the festival: nobody has paid it in, and nobody can take it out.
    Gift = 6,
}

impl SourceKind {
    pub const ALL: &'static [Self] =
        &[Self::Terminal, Self::Desk, Self::Card, Self::Bank, Self::Correction, Self::Gift];
    /// The one with this number in records.
    pub fn from_number(number: u32) -> Option<Self> {
        Self::ALL.iter().copied().find(|kind| *kind as u32 == number)
    }
    /// The word in JSON and on screens.
    pub fn word(self) -> &'static str {
        match self {
            Self::Terminal => "till",
            Self::Desk => "desk",
            Self::Card => "card",
            Self::Bank => "bank",
            Self::Correction => "correction",
            Self::Gift => "gift",
        }
    }
}

/// How a festival takes cashless payments. The currency is fixed when money first moves.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct CashlessPolicy {
    /// Of all its prices and wallets.
    pub currency: Currency,
    /// The least top-up.
    pub min_topup: i64,
    /// The largest top-up.
    pub max_topup: i64,
    /// The most that a wallet may hold through top-ups and incoming transfers.
    pub max_balance: i64,
    /// The least payment.
    pub min_payment: i64,
    /// Wallets that another festival issued are taken too.
    pub foreign_wallets: bool,
}

impl Default for CashlessPolicy {
    fn default() -> Self {
        Self {
            currency: Currency::EUR,
            min_topup: 500,
            max_topup: 50_000,
            max_balance: 100_000,
            min_payment: 1,
            foreign_wallets: false,
        }
    }
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct VendorValues {
    pub name: String,
    /// What it mostly sells.
    pub kind: crate::model::status::VendorKind,
    /// The organiser's part of each payment, in basis points.
    pub commission_bp: u16,
    /// Takes payments.
    pub open: bool,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ProductValues {
    pub name: String,
    /// What one costs, in the festival's currency.
    pub price: i64,
    /// The VAT in it, in basis points.
    pub vat_bp: u16,
    pub on_sale: bool,
}

/// One line of a refund. Who asks has looked at the payment: a shard remembers what payments came to, not what for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct RefundLine {
    /// What comes back.
    pub product: ProductNo,
    /// How many.
    pub count: u16,
    /// What each had cost.
    pub price: i64,
    /// The VAT in that, in basis points.
    pub vat_bp: u16,
    /// How many there are of it in the payment.
    pub bought: u16,
}

/// What the office can ask about money. Decided at the home of what is named first.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub enum CashlessAction {
    /// A festival takes cashless payments, and how. Must come before its vendors and terminals.
    SetPolicy { festival: FestivalId, policy: CashlessPolicy },
    /// A new vendor, or new values for one.
    PutVendor {
        festival: FestivalId,
        /// `None` makes a new one.
        vendor: Option<VendorNo>,
        values: VendorValues,
    },
    /// A new product, or new values for one.
    PutProduct {
        festival: FestivalId,
        vendor: VendorNo,
        /// `None` makes a new one.
        product: Option<ProductNo>,
        values: ProductValues,
    },
    /// A one-time code with which a terminal can be enrolled within 15 minutes, like a reader.
    OfferTerminal {
        festival: FestivalId,
        /// For whom it takes payments; a pure cash desk takes none.
        vendor: Option<VendorNo>,
        /// Whether it tops up with cash: its operator has the CASHIER role.
        cashier: bool,
        /// SHA-256 of the code.
        code_hash: [u8; 32],
        /// What to call the terminal.
        name: String,
    },
    /// Finds the wallet or makes it. For an account, [`WalletId::of_account`] names the wallet.
    CreateWallet {
        /// Its id: random, or an account's.
        wallet: WalletId,
        /// The festival that issues it: its currency, its staff.
        festival: FestivalId,
        /// Whose it is; `None` for a wallet that is sold with a tag and claimed later.
        account: Option<u128>,
    },
    /// An account takes a wallet that was sold with a tag.
    Claim {
        wallet: WalletId,
        /// Whose it is from now on.
        account: u128,
    },
    /// Money comes in.
    TopUp {
        /// Into which wallet.
        wallet: WalletId,
        festival: FestivalId,
        /// How much.
        amount: Money,
        source: Source,
        /// It has been taken already (a card was charged): always credited, whatever the limits or a block say.
        taken: bool,
    },
    /// Somebody pays a vendor from an app or at a help desk: the same decision as a terminal's, without a device.
    Pay {
        wallet: WalletId,
        festival: FestivalId,
        /// Whom, at the festival.
        vendor: VendorNo,
        /// How much.
        amount: Money,
        /// For what; none for a bare amount. At most [`LINES_MAX`], and their sum is the amount.
        lines: Box<[Line]>,
    },
    /// Staff give back what a vendor took.
    Refund {
        payment: TransactionId,
        /// At which festival; the payment's own.
        festival: FestivalId,
        /// How much; `None`: what the lines come to, without lines all that is left of it.
        amount: Option<Money>,
        /// Of what, if that was said; at most [`LINES_MAX`], and their sum is the amount.
        lines: Box<[RefundLine]>,
    },
    /// To another wallet.
    Transfer {
        from: WalletId,
        to: WalletId,
        festival: FestivalId,
        /// How much.
        amount: Money,
    },
    /// All that is in one wallet of an account goes into another of the same account and issuer, whatever that may hold.
    Merge {
        from: WalletId,
        into: WalletId,
        /// Which festival has issued both.
        festival: FestivalId,
    },
    /// An operator corrects a balance. Upwards it is a gift, unless it gives back what had been taken; downwards it takes
    /// gifts first.
    Correct {
        wallet: WalletId,
        festival: FestivalId,
        /// By how much, up or down.
        delta: Money,
        /// Why. Names nobody.
        reason: String,
        /// Upwards only: it gives back money that had been taken, and can be paid out like any other.
        gives_back: bool,
    },
    /// What is left, but for gifts, goes back to where it came from.
    CashOut { wallet: WalletId, festival: FestivalId },
    /// Blocks a wallet, or lets it go again.
    Block {
        wallet: WalletId,
        /// Blocked or not.
        blocked: bool,
    },
    /// The wallet's wristband is lost: it is refused everywhere, from the next payment and the next scan on.
    ReportLost {
        /// Which wallet's.
        wallet: WalletId,
    },
    /// A wristband is lost, whatever it names.
    ReportTagLost {
        /// The tag.
        tag: TagUid,
    },
    /// A wristband names a wallet. A ticket that the one before it named comes too.
    LinkTag {
        /// The tag. Its home decides.
        tag: TagUid,
        wallet: WalletId,
        /// The festival that gives it out.
        festival: FestivalId,
        /// The wallet has a wristband, and this one takes its place; else `already_tagged`.
        replace: bool,
        /// The wallet is made if there is none: sold with the tag at a cash desk.
        create: bool,
    },
}

impl CashlessAction {
    /// The home of the actor that decides it.
    pub fn home(&self) -> Home {
        match self {
            Self::SetPolicy { festival, .. }
            | Self::PutVendor { festival, .. }
            | Self::PutProduct { festival, .. }
            | Self::OfferTerminal { festival, .. } => Home::Festival(*festival),
            Self::CreateWallet { wallet, .. }
            | Self::Claim { wallet, .. }
            | Self::TopUp { wallet, .. }
            | Self::Pay { wallet, .. }
            | Self::Transfer { from: wallet, .. }
            | Self::Merge { from: wallet, .. }
            | Self::Correct { wallet, .. }
            | Self::CashOut { wallet, .. }
            | Self::Block { wallet, .. }
            | Self::ReportLost { wallet } => Home::Wallet(*wallet),
            Self::Refund { payment, .. } => Home::Wallet(payment.wallet),
            Self::LinkTag { tag, .. } | Self::ReportTagLost { tag } => Home::Tag(*tag),
        }
    }
}
