//! What terminals send and are sent: money. Layouts are in PROTOCOL.md.

use engine::cashless::command::{CashlessVerdict, Line, TerminalAnswer};
use engine::cashless::event::TransactionKind;
use engine::model::credential::{WalletClaim, parse_wallet, wallet_text, without_additions};
use engine::model::ids::{FestivalId, ProductNo, TagUid, TransactionId, VendorNo, WalletId};
use engine::model::money::{Currency, Money};
use engine::model::rejection::Rejection;
use engine::model::time::Timestamp;
use zerocopy::little_endian::{I64, U16, U32, U64};

use super::{Fingerprint, QR_SENT_MAX};

/// What names a wallet, before anybody has checked it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum WalletName<'a> {
    /// A wallet's QR, in its one spelling.
    Packed(WalletClaim),
    /// Any other QR, as it was read: `invalid_qr`.
    Raw(&'a [u8]),
    /// A wristband's tag.
    Tag(TagUid),
    /// The wallet's id.
    Id(WalletId),
}

impl<'a> WalletName<'a> {
    /// Packs a QR if it is a wallet's, what the scanner has added aside; else keeps it as it was read.
    pub fn of_qr(qr: &'a [u8]) -> Self {
        match parse_wallet(qr) {
            Ok(claim) if wallet_text(&claim).as_bytes() == without_additions(qr) => Self::Packed(claim),
            _ => Self::Raw(&qr[..qr.len().min(QR_SENT_MAX)]),
        }
    }
}

layouts! {
    /// One line of a payment, as it lies in a frame.
    pub LineItem {
        /// the product
        product: U16,
        /// how many of it
        count: U16,
        /// what one costs, in minor units
        price: I64,
    }
}

impl LineItem {
    /// What the shard is told.
    pub fn line(self) -> Line {
        Line { product: ProductNo(self.product.get()), count: self.count.get(), price: self.price.get() }
    }
}

impl From<Line> for LineItem {
    fn from(line: Line) -> Self {
        Self { product: line.product.0.into(), count: line.count.into(), price: line.price.into() }
    }
}

/// Somebody pays.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Pay<'a> {
    /// As in [`super::Scan`].
    pub seq: u64,
    /// As in [`super::Scan`].
    pub floor: u64,
    /// When the wallet was held to the terminal, in the server's time.
    pub captured_at: Timestamp,
    /// The last moment for it, in the server's time; 0: none.
    pub expires_at: Timestamp,
    /// Whose money.
    pub wallet: WalletName<'a>,
    /// How much. Whether it is an amount at all, the shard says.
    pub amount: Money,
    /// For what, at most [`engine::cashless::command::LINES_MAX`]; none for a bare amount.
    pub lines: &'a [LineItem],
    /// As in [`super::Scan`].
    pub resent: bool,
}

layouts! {
    /// One line of a refund, as it lies in a frame.
    pub ReturnedItem {
        /// the product
        product: U16,
        /// how many of it come back
        count: U16,
    }
}

impl ReturnedItem {
    /// So many of a product.
    pub fn new(product: ProductNo, count: u16) -> Self {
        Self { product: product.0.into(), count: count.into() }
    }
    /// Which product.
    pub fn product(self) -> ProductNo {
        ProductNo(self.product.get())
    }
    /// How many of it.
    pub fn count(self) -> u16 {
        self.count.get()
    }
}

/// The vendor gives back what it took.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Refund<'a> {
    /// As in [`super::Scan`].
    pub seq: u64,
    /// As in [`super::Scan`].
    pub floor: u64,
    /// Which payment.
    pub payment: TransactionId,
    /// How much; `None`: what the lines come to, without lines all that is left of it.
    pub amount: Option<Money>,
    /// Products of the payment that come back, at most [`engine::cashless::command::LINES_MAX`]; none for a bare amount. What they had
    /// cost, with which VAT in it, the server knows.
    pub lines: &'a [ReturnedItem],
    /// As in [`super::Scan`].
    pub resent: bool,
}

/// Cash at a cashier's terminal.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TopUp<'a> {
    /// As in [`super::Scan`].
    pub seq: u64,
    /// As in [`super::Scan`].
    pub floor: u64,
    /// When the wallet was held to the terminal, in the server's time.
    pub captured_at: Timestamp,
    /// The last moment for it, in the server's time; 0: none.
    pub expires_at: Timestamp,
    /// Into which wallet.
    pub wallet: WalletName<'a>,
    /// How much.
    pub amount: Money,
    /// As in [`super::Scan`].
    pub resent: bool,
}

/// How much is there?
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Balance<'a> {
    /// As in [`super::Scan`].
    pub seq: u64,
    /// As in [`super::Scan`].
    pub floor: u64,
    /// When the wallet was held to the terminal, in the server's time.
    pub captured_at: Timestamp,
    /// In which wallet.
    pub wallet: WalletName<'a>,
    /// As in [`super::Scan`].
    pub resent: bool,
}

/// What a terminal learns when it has proven itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TerminalWelcome<'a> {
    /// The server's clock.
    pub server_time: Timestamp,
    /// The lowest number for the terminal's next command.
    pub next_seq: u64,
    /// Whose festival.
    pub festival: FestivalId,
    /// For whom it takes payments; a pure cash desk takes none.
    pub vendor: Option<VendorNo>,
    /// It tops up with cash.
    pub cashier: bool,
    /// How many commands may be unanswered on this connection.
    pub window: u16,
    /// Of all the festival's prices.
    pub currency: Currency,
    /// As in [`super::Welcome`].
    pub next_pin: Option<Fingerprint>,
    /// What the terminal is called.
    pub device_name: &'a str,
    /// What the festival is called.
    pub festival_name: &'a str,
    /// What the vendor is called.
    pub vendor_name: &'a str,
}

/// A terminal's last transactions, as lists of the server have them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RecentRows<'a> {
    /// The number that the asking frame had.
    pub ask: u64,
    /// The server's clock when they were read.
    pub at: Timestamp,
    /// How many records of the journal the lists did not have yet. [`RecentRows::REBUILDING`]: there are no lists now.
    pub behind: u32,
    /// There are no more.
    pub is_last: bool,
    /// Newest first, at most [`RECENT_ROWS_MAX`].
    pub rows: &'a [RecentRow],
}

impl RecentRows<'_> {
    /// The server's lists are being built anew, or stand still.
    pub const REBUILDING: u32 = u32::MAX;
}

/// The most rows in one frame: 17 × 58 B and what stands before them are 1,011 B.
pub const RECENT_ROWS_MAX: usize = 17;
/// The most transactions that a terminal can ask for at once.
pub const RECENT_MAX: u16 = 50;

layouts! {
    /// One transaction, or what was refused, as it lies in a frame.
    pub RecentRow {
        /// the command's number
        seq: U64,
        /// which kind of transaction
        kind: u8,
        /// 0: it was done; else the rejection
        rejection: u8,
        /// answer flags
        flags: u8,
        /// as in CashlessAnswer
        currency: [u8; 3],
        /// as in CashlessAnswer
        order: U32,
        /// as in CashlessAnswer
        amount: I64,
        /// as in CashlessAnswer
        balance: I64,
        /// as in CashlessAnswer
        wallet: U64,
        /// as in CashlessAnswer
        serial: U64,
        /// as in CashlessAnswer
        at: I64,
    }
}

/// What a [`RecentRow`] says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Recent {
    /// The command's number.
    pub seq: u64,
    /// What it was, or would have been.
    pub kind: TransactionKind,
    /// The answer that it got, or will get.
    pub answer: TerminalAnswer,
}

impl RecentRow {
    /// Of what a terminal was answered.
    pub fn new(recent: &Recent) -> Self {
        let answer = &recent.answer;
        let rejection = if let CashlessVerdict::Rejected(rejection) = answer.verdict { rejection as u8 } else { 0 };
        Self {
            seq: recent.seq.into(),
            kind: recent.kind as u8,
            rejection,
            flags: answer.flags,
            currency: answer.currency.as_bytes(),
            order: answer.order.into(),
            amount: answer.amount.into(),
            balance: answer.balance.into(),
            wallet: answer.wallet.0.into(),
            serial: answer.serial.into(),
            at: answer.at.0.into(),
        }
    }

    /// What it says; `None` if that cannot be.
    pub fn read(&self) -> Option<Recent> {
        let kind = TransactionKind::from_number(u32::from(self.kind))?;
        let verdict = match (self.rejection, kind) {
            (0, TransactionKind::Payment) => CashlessVerdict::Paid,
            (0, TransactionKind::Refund) => CashlessVerdict::Refunded,
            (0, TransactionKind::TopUp) => CashlessVerdict::ToppedUp,
            (0, _) => return None,
            (number, _) => CashlessVerdict::Rejected(Rejection::from_number(number)?),
        };
        let answer = TerminalAnswer {
            verdict,
            flags: self.flags,
            currency: Currency::from_bytes(self.currency)?,
            order: self.order.get(),
            amount: self.amount.get(),
            balance: self.balance.get(),
            wallet: WalletId(self.wallet.get()),
            serial: self.serial.get(),
            at: Timestamp(self.at.get()),
        };
        Some(Recent { seq: self.seq.get(), kind, answer })
    }
}
