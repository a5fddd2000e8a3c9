//! What terminals send and are sent: money. Layouts are in the tables of [`super`].

use engine::command::Line;
use engine::credential::{WalletClaim, parse_wallet, wallet_text, without_additions};
use engine::ids::{FestivalId, ProductNo, TagUid, TransactionId, VendorNo, WalletId};
use engine::money::{Currency, Money};
use engine::time::Timestamp;
use zerocopy::little_endian::{I64, U16};
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout, Unaligned};

use super::QR_SENT_MAX;

/// What names a wallet, before anybody has checked it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum WalletName<'a> {
    /// A wallet's QR, in its one spelling.
    Packed(WalletClaim),
    /// Any other QR, as it was read: `invalid_qr`.
    Raw(&'a [u8]),
    /// A wristband's chip.
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

/// One line of a payment, as it lies in a frame.
#[derive(Clone, Copy, Debug, PartialEq, Eq, FromBytes, IntoBytes, KnownLayout, Immutable, Unaligned)]
#[repr(C)]
pub struct LineItem {
    product: U16,
    count: U16,
    price: I64,
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
    /// For what, at most [`engine::command::LINES_MAX`]; none for a bare amount.
    pub lines: &'a [LineItem],
    /// As in [`super::Scan`].
    pub resent: bool,
}

/// The vendor gives back what it took.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Refund {
    /// As in [`super::Scan`].
    pub seq: u64,
    /// As in [`super::Scan`].
    pub floor: u64,
    /// Which payment.
    pub payment: TransactionId,
    /// How much; `None`: all that is left of it.
    pub amount: Option<Money>,
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
    /// What the terminal is called.
    pub device_name: &'a str,
    /// What the festival is called.
    pub festival_name: &'a str,
    /// What the vendor is called.
    pub vendor_name: &'a str,
}
