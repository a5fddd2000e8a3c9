//! Where each field of terminals' frames lies.

use engine::cashless::command::{CashlessVerdict, LINES_MAX, TerminalAnswer};
use engine::model::credential::WalletClaim;
use engine::model::ids::{SERIAL_MAX, TransactionId, VendorNo, WalletId};
use engine::model::money::{Currency, Money};

use super::*;

layouts! {
    pub(crate) PayBody {
        /// the command's number
        seq: U64,
        /// as in Scan
        floor: U16,
        /// when the wallet was held to the terminal, in the server's time
        captured_at: I64,
        /// the last moment for it, in the server's time; 0: none
        expires_at: I64,
        /// how much, in minor units
        amount: I64,
        /// three capital letters
        currency: [u8; 3],
        /// how many lines follow, at most 32
        lines: u8,
        /// which kind of wallet name follows the lines
        wallet: u8,
    }
    pub(crate) RefundBody {
        /// the command's number
        seq: U64,
        /// as in Scan
        floor: U16,
        /// the payment's wallet
        wallet: U64,
        /// the payment's serial
        serial: U64,
    }
    pub(crate) PartBody {
        /// how much of it, in minor units
        amount: I64,
        /// three capital letters
        currency: [u8; 3],
    }
    pub(crate) TopUpBody {
        /// the command's number
        seq: U64,
        /// as in Scan
        floor: U16,
        /// as in Pay
        captured_at: I64,
        /// as in Pay
        expires_at: I64,
        /// how much cash, in minor units
        amount: I64,
        /// three capital letters
        currency: [u8; 3],
        /// which kind of wallet name follows
        wallet: u8,
    }
    pub(crate) BalanceBody {
        /// the command's number
        seq: U64,
        /// as in Scan
        floor: U16,
        /// as in Pay
        captured_at: I64,
        /// which kind of wallet name follows
        wallet: u8,
    }
    pub(crate) PackedWallet {
        /// the wallet's id
        wallet: U64,
        /// the festival that has issued it
        festival: U32,
        /// the key's number
        version: U32,
        /// the signature
        hash: [u8; 32],
    }
    pub(crate) TerminalWelcomeBody {
        /// the server's clock, ms since 1970
        server_time: I64,
        /// one above the highest number that was ever answered
        next_seq: U64,
        /// whose festival
        festival: U32,
        /// the vendor for whom the terminal takes payments, with flag 1
        vendor: U16,
        /// how many commands may be unanswered on this connection
        window: U16,
        /// of all the festival's prices
        currency: [u8; 3],
        /// 0
        reserved: u8,
        /// as in Welcome
        next_pin: [u8; 32],
    }
    pub(crate) AskRecentBody {
        /// any number; it comes back with the rows
        ask: U64,
        /// at most so many rows, 1 to 50
        limit: U16,
    }
    pub(crate) RecentRowsBody {
        /// the number of the question
        ask: U64,
        /// the server's clock when it looked
        at: I64,
        /// records that the lists do not have yet; 2^32 - 1: there are no lists now
        behind: U32,
    }
    pub(crate) CashlessAnswerBody {
        /// the command that is answered
        seq: U64,
        /// a terminal's verdict
        verdict: u8,
        /// answer flags
        flags: u8,
        /// the wallet's currency
        currency: [u8; 3],
        /// the vendor's order number; 0 for anything but a payment
        order: U32,
        /// how much was asked for; for a refund of all that is left, how much that was
        amount: I64,
        /// what the wallet holds now; 0 where no wallet is known
        balance: I64,
        /// the wallet; 0: none is known
        wallet: U64,
        /// the transaction's serial; 0: no money has moved
        serial: U64,
        /// when it was decided, by the server's clock
        at: I64,
    }
}

pub(crate) const PAY: u8 = 0x20;
pub(crate) const REFUND: u8 = 0x21;
pub(crate) const TOP_UP: u8 = 0x22;
pub(crate) const BALANCE: u8 = 0x23;
pub(crate) const ASK_RECENT: u8 = 0x24;
pub(crate) const TERMINAL_WELCOME: u8 = 0x85;
pub(crate) const CASHLESS_ANSWER: u8 = 0xA0;
pub(crate) const RECENT_ROWS: u8 = 0xA1;

/// Of [`REFUND`]: a part of the payment; and products of it.
pub(crate) const PART: u8 = 2;
pub(crate) const LINES: u8 = 4;
/// Of [`TERMINAL_WELCOME`].
pub(crate) const VENDOR: u8 = 1;
pub(crate) const CASHIER: u8 = 2;
/// Of [`RECENT_ROWS`].
pub(crate) const LAST: u8 = 1;

pub(crate) const WALLET_ID: u8 = 4;

/// The flags that a kind knows.
pub(super) fn known_flags(kind: u8) -> u8 {
    match kind {
        PAY | TOP_UP | BALANCE => RESENT,
        REFUND => RESENT | PART | LINES,
        TERMINAL_WELCOME => VENDOR | CASHIER,
        RECENT_ROWS => LAST,
        _ => 0,
    }
}

/// The frame of this kind with this body, if the kind is a terminal's.
pub(super) fn frame(kind: u8, flags: u8, body: &[u8]) -> Result<Frame<'_>, WireError> {
    let wrong_len = || WireError::LengthOfKind { kind, len: HEADER_LEN + body.len() };
    macro_rules! front {
        ($layout:ty) => {
            <$layout>::ref_from_prefix(body).map_err(|_| wrong_len())?
        };
    }
    let resent = flags & RESENT != 0;
    Ok(match kind {
        PAY => {
            let (pay, rest) = front!(PayBody);
            let seq = pay.seq.get();
            let count = usize::from(pay.lines);
            ensure(count <= LINES_MAX, "lines")?;
            let (lines, name) = <[LineItem]>::ref_from_prefix_with_elems(rest, count).map_err(|_| wrong_len())?;
            Frame::Pay(Pay {
                seq,
                floor: floor(seq, pay.floor)?,
                captured_at: Timestamp(pay.captured_at.get()),
                expires_at: Timestamp(pay.expires_at.get()),
                wallet: read_name(pay.wallet, name)?,
                amount: money(pay.amount, pay.currency)?,
                lines,
                resent,
            })
        }
        REFUND => {
            let (refund, rest) = front!(RefundBody);
            let seq = refund.seq.get();
            let (amount, rest) = if flags & PART == 0 {
                (None, rest)
            } else {
                let (part, rest) = PartBody::ref_from_prefix(rest).map_err(|_| wrong_len())?;
                (Some(money(part.amount, part.currency)?), rest)
            };
            let lines = <[ReturnedItem]>::ref_from_bytes(rest).map_err(|_| wrong_len())?;
            ensure_len((flags & LINES == 0) == lines.is_empty(), wrong_len)?;
            ensure(lines.len() <= LINES_MAX, "lines")?;
            let payment = TransactionId { wallet: WalletId(refund.wallet.get()), serial: refund.serial.get() };
            ensure(payment.wallet.0 != 0 && (1..=SERIAL_MAX).contains(&payment.serial), "payment")?;
            Frame::Refund(Refund { seq, floor: floor(seq, refund.floor)?, payment, amount, lines, resent })
        }
        TOP_UP => {
            let (top_up, name) = front!(TopUpBody);
            let seq = top_up.seq.get();
            Frame::TopUp(TopUp {
                seq,
                floor: floor(seq, top_up.floor)?,
                captured_at: Timestamp(top_up.captured_at.get()),
                expires_at: Timestamp(top_up.expires_at.get()),
                wallet: read_name(top_up.wallet, name)?,
                amount: money(top_up.amount, top_up.currency)?,
                resent,
            })
        }
        BALANCE => {
            let (balance, name) = front!(BalanceBody);
            let seq = balance.seq.get();
            let wallet = read_name(balance.wallet, name)?;
            let captured_at = Timestamp(balance.captured_at.get());
            Frame::Balance(Balance { seq, floor: floor(seq, balance.floor)?, captured_at, wallet, resent })
        }
        ASK_RECENT => {
            let asked = AskRecentBody::ref_from_bytes(body).map_err(|_| wrong_len())?;
            let limit = asked.limit.get();
            ensure((1..=RECENT_MAX).contains(&limit), "limit")?;
            Frame::AskRecent { ask: asked.ask.get(), limit }
        }
        RECENT_ROWS => {
            let (answer, rows) = front!(RecentRowsBody);
            let rows = <[RecentRow]>::ref_from_bytes(rows).map_err(|_| wrong_len())?;
            ensure(rows.len() <= RECENT_ROWS_MAX && rows.iter().all(|row| row.read().is_some()), "rows")?;
            Frame::RecentRows(RecentRows {
                ask: answer.ask.get(),
                at: Timestamp(answer.at.get()),
                behind: answer.behind.get(),
                is_last: flags & LAST != 0,
                rows,
            })
        }
        TERMINAL_WELCOME => {
            let (welcome, texts) = front!(TerminalWelcomeBody);
            ensure(welcome.reserved == 0, "reserved")?;
            ensure(flags & VENDOR != 0 || welcome.vendor.get() == 0, "vendor")?;
            let (device_name, texts) = read_text(texts)?;
            let (festival_name, texts) = read_text(texts)?;
            let (vendor_name, rest) = read_text(texts)?;
            ensure_len(rest.is_empty(), wrong_len)?;
            Frame::TerminalWelcome(TerminalWelcome {
                server_time: Timestamp(welcome.server_time.get()),
                next_seq: welcome.next_seq.get(),
                festival: FestivalId(welcome.festival.get()),
                vendor: (flags & VENDOR != 0).then_some(VendorNo(welcome.vendor.get())),
                cashier: flags & CASHIER != 0,
                window: welcome.window.get(),
                currency: currency(welcome.currency)?,
                next_pin: pin(welcome.next_pin),
                device_name,
                festival_name,
                vendor_name,
            })
        }
        CASHLESS_ANSWER => {
            let answer = CashlessAnswerBody::ref_from_bytes(body).map_err(|_| wrong_len())?;
            ensure(answer.serial.get() <= SERIAL_MAX, "serial")?;
            Frame::CashlessAnswer {
                seq: answer.seq.get(),
                answer: TerminalAnswer {
                    verdict: CashlessVerdict::from_number(answer.verdict).ok_or(WireError::Field("verdict"))?,
                    flags: answer.flags,
                    currency: currency(answer.currency)?,
                    order: answer.order.get(),
                    amount: answer.amount.get(),
                    balance: answer.balance.get(),
                    wallet: WalletId(answer.wallet.get()),
                    serial: answer.serial.get(),
                    at: Timestamp(answer.at.get()),
                },
            }
        }
        kind => return Err(WireError::Kind(kind)),
    })
}

/// Appends a payment's body.
pub(super) fn pay(pay: &Pay<'_>, out: &mut Vec<u8>) -> (u8, u8) {
    let lines = &pay.lines[..pay.lines.len().min(LINES_MAX)];
    let body = PayBody {
        seq: pay.seq.into(),
        floor: below(pay.seq, pay.floor),
        captured_at: pay.captured_at.0.into(),
        expires_at: pay.expires_at.0.into(),
        amount: pay.amount.minor.into(),
        currency: pay.amount.currency.as_bytes(),
        lines: lines.len() as u8,
        wallet: name_kind(&pay.wallet),
    };
    out.extend_from_slice(body.as_bytes());
    out.extend_from_slice(lines.as_bytes());
    put_name(&pay.wallet, out);
    (PAY, u8::from(pay.resent) * RESENT)
}

/// Appends a refund's body.
pub(super) fn refund(refund: &Refund<'_>, out: &mut Vec<u8>) -> (u8, u8) {
    let Refund { seq, floor, payment, amount, lines, resent } = *refund;
    let (wallet, serial) = (payment.wallet.0.into(), payment.serial.into());
    out.extend_from_slice(RefundBody { seq: seq.into(), floor: below(seq, floor), wallet, serial }.as_bytes());
    if let Some(Money { minor, currency }) = amount {
        out.extend_from_slice(PartBody { amount: minor.into(), currency: currency.as_bytes() }.as_bytes());
    }
    out.extend_from_slice(lines[..lines.len().min(LINES_MAX)].as_bytes());
    let parts = (u8::from(amount.is_some()) * PART) | (u8::from(!lines.is_empty()) * LINES);
    (REFUND, (u8::from(resent) * RESENT) | parts)
}

/// Appends a top-up's body.
pub(super) fn top_up(top_up: &TopUp<'_>, out: &mut Vec<u8>) -> (u8, u8) {
    let body = TopUpBody {
        seq: top_up.seq.into(),
        floor: below(top_up.seq, top_up.floor),
        captured_at: top_up.captured_at.0.into(),
        expires_at: top_up.expires_at.0.into(),
        amount: top_up.amount.minor.into(),
        currency: top_up.amount.currency.as_bytes(),
        wallet: name_kind(&top_up.wallet),
    };
    out.extend_from_slice(body.as_bytes());
    put_name(&top_up.wallet, out);
    (TOP_UP, u8::from(top_up.resent) * RESENT)
}

/// Appends a balance's body.
pub(super) fn balance(balance: &Balance<'_>, out: &mut Vec<u8>) -> (u8, u8) {
    let body = BalanceBody {
        seq: balance.seq.into(),
        floor: below(balance.seq, balance.floor),
        captured_at: balance.captured_at.0.into(),
        wallet: name_kind(&balance.wallet),
    };
    out.extend_from_slice(body.as_bytes());
    put_name(&balance.wallet, out);
    (BALANCE, u8::from(balance.resent) * RESENT)
}

/// Appends a question for the last transactions.
pub(super) fn ask_recent(ask: u64, limit: u16, out: &mut Vec<u8>) -> (u8, u8) {
    out.extend_from_slice(AskRecentBody { ask: ask.into(), limit: limit.into() }.as_bytes());
    (ASK_RECENT, 0)
}

/// Appends some of them.
pub(super) fn recent_rows(answer: &RecentRows<'_>, out: &mut Vec<u8>) -> (u8, u8) {
    let RecentRows { ask, at, behind, is_last, rows } = *answer;
    out.extend_from_slice(RecentRowsBody { ask: ask.into(), at: at.0.into(), behind: behind.into() }.as_bytes());
    out.extend_from_slice(rows[..rows.len().min(RECENT_ROWS_MAX)].as_bytes());
    (RECENT_ROWS, u8::from(is_last) * LAST)
}

/// Appends a terminal's welcome.
pub(super) fn terminal_welcome(welcome: &TerminalWelcome<'_>, out: &mut Vec<u8>) -> (u8, u8) {
    let body = TerminalWelcomeBody {
        server_time: welcome.server_time.0.into(),
        next_seq: welcome.next_seq.into(),
        festival: welcome.festival.0.into(),
        vendor: welcome.vendor.map_or(0, |vendor| vendor.0).into(),
        window: welcome.window.into(),
        currency: welcome.currency.as_bytes(),
        reserved: 0,
        next_pin: welcome.next_pin.map_or([0; 32], |pin| pin.0),
    };
    out.extend_from_slice(body.as_bytes());
    for text in [welcome.device_name, welcome.festival_name, welcome.vendor_name] {
        put_text(text, out);
    }
    (TERMINAL_WELCOME, (u8::from(welcome.vendor.is_some()) * VENDOR) | (u8::from(welcome.cashier) * CASHIER))
}

/// Appends an answer to a terminal.
pub(super) fn cashless_answer(seq: u64, answer: &TerminalAnswer, out: &mut Vec<u8>) -> (u8, u8) {
    let body = CashlessAnswerBody {
        seq: seq.into(),
        verdict: answer.verdict.number(),
        flags: answer.flags,
        currency: answer.currency.as_bytes(),
        order: answer.order.into(),
        amount: answer.amount.into(),
        balance: answer.balance.into(),
        wallet: answer.wallet.0.into(),
        serial: answer.serial.into(),
        at: answer.at.0.into(),
    };
    out.extend_from_slice(body.as_bytes());
    (CASHLESS_ANSWER, 0)
}

fn currency(code: [u8; 3]) -> Result<Currency, WireError> {
    Currency::from_bytes(code).ok_or(WireError::Field("currency"))
}

fn money(minor: I64, code: [u8; 3]) -> Result<Money, WireError> {
    Ok(Money { minor: minor.get(), currency: currency(code)? })
}

fn read_name(kind: u8, bytes: &[u8]) -> Result<WalletName<'_>, WireError> {
    const BAD: WireError = WireError::Field("qr");
    const NOBODYS: WireError = WireError::Field("wallet");
    let wallet = |id: U64, error| if id.get() == 0 { Err(error) } else { Ok(WalletId(id.get())) };
    match kind {
        QR_PACKED => {
            let packed = PackedWallet::ref_from_bytes(bytes).map_err(|_| BAD)?;
            Ok(WalletName::Packed(WalletClaim {
                wallet: wallet(packed.wallet, BAD)?,
                festival: FestivalId(packed.festival.get()),
                version: packed.version.get(),
                hash: packed.hash,
            }))
        }
        QR_RAW if bytes.len() <= QR_SENT_MAX => Ok(WalletName::Raw(bytes)),
        TAG => TagUid::new(bytes).map(WalletName::Tag).ok_or(WireError::Field("tag")),
        WALLET_ID => wallet(U64::read_from_bytes(bytes).map_err(|_| NOBODYS)?, NOBODYS).map(WalletName::Id),
        _ => Err(BAD),
    }
}

fn name_kind(name: &WalletName<'_>) -> u8 {
    match name {
        WalletName::Packed(_) => QR_PACKED,
        WalletName::Raw(_) => QR_RAW,
        WalletName::Tag(_) => TAG,
        WalletName::Id(_) => WALLET_ID,
    }
}

fn put_name(name: &WalletName<'_>, out: &mut Vec<u8>) {
    match name {
        WalletName::Packed(WalletClaim { wallet, festival, version, hash }) => {
            let (wallet, festival, version) = (wallet.0.into(), festival.0.into(), (*version).into());
            out.extend_from_slice(PackedWallet { wallet, festival, version, hash: *hash }.as_bytes());
        }
        WalletName::Raw(qr) => out.extend_from_slice(&qr[..qr.len().min(QR_SENT_MAX)]),
        WalletName::Tag(uid) => out.extend_from_slice(uid.as_bytes()),
        WalletName::Id(wallet) => out.extend_from_slice(&wallet.0.to_le_bytes()),
    }
}
