//! The frames that devices and server exchange: protocol `tapgate/2`.
//!
//! A device opens one bidirectional QUIC stream (ALPN [`ALPN`], TLS 1.3) and both sides write frames into it. Every
//! number is little endian; nothing is aligned; reserved bytes are written as 0 and must be 0. Golden vectors lie in
//! `gateway/wire/vectors.json`, for clients in other languages.
//!
//! Each frame opens with four bytes, and is at most [`FRAME_LEN_MAX`] bytes long:
//!
//! | at | field | |
//! |---|---|---|
//! | 0 | `len` u16 | bytes of the whole frame, these four included |
//! | 2 | `kind` u8 | see below; from the device below 0x80, from the server above |
//! | 3 | `flags` u8 | by kind; bits without a meaning are 0 |
//!
//! **From the device.** Offsets count from the frame's first byte.
//!
//! | kind | frame | fields |
//! |---|---|---|
//! | 0x01 | Hello | 4 protocol u16 (= 2) · 6 reserved 2 · 8 device u64 |
//! | 0x02 | Proof | 4 signature 64: Ed25519 over [`proof::message`] |
//! | 0x03 | Enrol | 4 protocol u16 (= 2) · 6 reserved 2 · 8 festival u32 · 12 public key 32 · 44 code 1..=64 bytes |
//! | 0x10 | Scan | 4 seq u64 · 12 floor u16, how far below `seq` · 14 captured_at i64 ms · 22 zone u8 (< 64) · 23 direction u8 (0 in, 1 out) · 24 shown u8 (a verdict, 0 none) · 25 credential u8 · 26 credential's bytes. Flag 1: resent |
//! | 0x11 | Undo | 4 seq u64 · 12 floor u16 · 14 scan_seq u64 · 22 ticket u128. Flag 1: resent |
//! | 0x12 | Ping | nothing. Not answered: that QUIC acknowledges it says that the server is there. For a device that waits for an answer and has heard nothing for a while |
//! | 0x13 | Pinned | 4 pin 32: the next pin of the last welcome, which the device has kept and trusts from now on. Not answered |
//! | 0x1F | Bye | nothing; the device has all its answers and goes |
//! | 0x20 | Pay | 4 seq u64 · 12 floor u16 · 14 captured_at i64 ms · 22 expires_at i64 ms · 30 amount i64 · 38 currency 3 · 41 lines u8 (<= 32) · 42 wallet u8 · 43 so many lines, each product u16 · count u16 · price i64 · then the wallet's bytes. Flag 1: resent |
//! | 0x21 | Refund | 4 seq u64 · 12 floor u16 · 14 the payment: wallet u64 · 22 serial u64; with flag 2 only a part of it: 30 amount i64 · 38 currency 3; with flag 4 products of it, behind that, 1..=32 times: product u16 · count u16. Flag 1: resent |
//! | 0x22 | TopUp | 4 seq u64 · 12 floor u16 · 14 captured_at i64 ms · 22 expires_at i64 ms · 30 amount i64 · 38 currency 3 · 41 wallet u8 · 42 the wallet's bytes. Flag 1: resent |
//! | 0x23 | Balance | 4 seq u64 · 12 floor u16 · 14 captured_at i64 ms · 22 wallet u8 · 23 the wallet's bytes. Flag 1: resent |
//! | 0x24 | AskRecent | 4 ask u64, which comes back · 12 limit u16 (1..=50). No number among commands |
//!
//! Scan and Undo are readers', 0x20 to 0x23 terminals'; from the wrong one they are out of place. Amounts are in the
//! smallest unit of their currency by ISO 4217 (1,250 are 12.50 EUR, 1250 JPY, 1.250 KWD), and any i64 arrives (the shard
//! says `invalid_amount`), currencies three capital letters. A terminal learns its festival's currency from its welcome; if
//! that has changed since, it is told `wrong_currency`, and the next welcome says which it is now.
//!
//! Terminals' times are the server's: a terminal adds to its own clock what the last welcome's `server_time` was ahead of
//! it. `captured_at` is when the wallet was held to it, and stays the same however often the frame is sent. A wristband
//! whose link was begun more than two seconds after that names somebody else by now: `tag_moved`, in a CashAnswer, and that
//! is final. A payment or top-up that is not decided by `expires_at` (0: no such time) is `expired`: nothing has happened,
//! nothing will, and that is remembered like any answer.
//!
//! | credential | bytes |
//! |---|---|
//! | 1, a packed QR | ticket u128 · version u32 · hash 32: what a QR in canonical spelling says; its code follows from the ticket |
//! | 2, a raw QR | what was read, 0..=513 bytes. A reader cuts longer ones to 513, and they are `invalid_qr` |
//! | 3, a wristband | the chip's UID: 4, 7 or 10 bytes |
//!
//! What is none of these is `invalid_qr`. What scanners put around a QR (AIM identifiers such as `]Q1`, a byte order mark,
//! STX, ETX, EOT, NUL, GS, white space) is taken off here as well; [`engine::credential::without_additions`] is the rule.
//!
//! **No content of a command ends a connection.** A Scan, Undo, Pay, Refund, TopUp or Balance that can be told apart, and
//! says something that cannot be, is answered like any other: `unknown_zone`, `unknown_ticket`, `invalid_qr`,
//! `unknown_tag`, `unknown_wallet`, `wrong_currency`, `lines_mismatch`, `unknown_transaction`, or `invalid_value` for all
//! else, flags and lengths included. That answer follows from the frame alone and is not remembered.
//!
//! A Refund names the payment, and gives back all that is left of it; or an amount, which is shared over the payment's VAT
//! rates; or products of the payment, each at what it had cost there. With both, the amount has to be what the products come
//! to. What the payment does not have, or an amount that differs, is `lines_mismatch`, more than is left of a product
//! `refund_exceeds_payment`.
//!
//! | wallet | bytes |
//! |---|---|
//! | 1, a packed QR | wallet u64 · festival u32 · version u32 · hash 32: what a wallet's QR says |
//! | 2, a raw QR | what was read, if that is no wallet's QR, 0..=513 bytes: `invalid_qr` |
//! | 3, a wristband | the chip's UID: 4, 7 or 10 bytes |
//! | 4, its id | wallet u64, not 0 |
//!
//! **From the server.**
//!
//! | kind | frame | fields |
//! |---|---|---|
//! | 0x81 | Challenge | 4 nonce 32 · 36 server time i64 ms |
//! | 0x82 | Welcome | 4 server time i64 ms · 12 next_seq u64 · 20 festival u32 · 24 gate u16 · 26 zone u8 · 27 ack u8 (0 durable, 1 decided) · 28 window u16 · 30 next pin 32 · 62 four texts, each a length u8 (<= 200) and UTF-8: device, festival, gate, zone |
//! | 0x83 | Enrolled | 4 device u64 · 12 server time i64 ms |
//! | 0x84 | Refuse | 4 code u16 ([`Refusal`]) · 6 reserved 2 · 8 retry_after_ms u32 (0: it is of no use) · 12 text, a length u8 and UTF-8. The connection closes next |
//! | 0x85 | TerminalWelcome | to a terminal in place of Welcome: 4 server time i64 ms · 12 next_seq u64 · 20 festival u32 · 24 vendor u16 · 26 window u16 · 28 currency 3 · 31 reserved · 32 next pin 32 · 64 three texts: device, festival, vendor. Flag 1: it has a vendor; 2: it tops up with cash |
//! | 0x90 | Answer | 4 seq u64 · 12 verdict u8 · 13 answer flags u8 · 14 zone u8 · 15 reserved · 16 occupancy u32 · 20 ticket u128 (0: none) · 36 at i64 ms · with flag 2 first use: 44 at i64 ms · 52 gate u16 · 54 zone u8 · 55 reserved. Flag 1: on disk; without it a Confirmed follows |
//! | 0x91 | Confirmed | 1..=85 ranges: first seq u64 · count u32 (1..=4,096) |
//! | 0x92 | Busy | 4 seq u64 · 12 retry_after_ms u32 · 16 rejection u8 · 17 reserved 3. Send it again, after so long: nothing was done; or `in_doubt`: perhaps it was, so resent |
//! | 0x93 | Notice | 4 kind u8 (1 zone, 2 revoked, 3 slow down, 4 policy changed, 5 closing) · 5 zone u8 · 6 zone state u8 · 7 reserved · 8 retry_after_ms u32; fields a kind has no use for are 0 |
//! | 0xA0 | CashAnswer | 4 seq u64 · 12 verdict u8 · 13 answer flags u8 · 14 currency 3 · 17 order u32 · 21 amount i64 · 29 balance i64 · 37 wallet u64 (0: none known) · 45 serial u64 of the transaction, 0 if nothing moved · 53 at i64 ms. It is on disk |
//! | 0xA1 | RecentRows | 4 ask u64 · 12 at i64 ms, when it was read · 20 behind u32, records that the lists do not have yet (2^32 - 1: there are no lists now) · 24 rows, newest first, each 58 bytes: seq u64 · kind u8 (1 top-up, 2 payment, 3 refund) · rejection u8 (0: it was done) · answer flags u8 · currency 3 · order u32 · amount i64 · balance i64 · wallet u64 · serial u64 · at i64 ms. Flag 1: the last frame of this answer |
//!
//! Verdicts are a [`Rejection`]'s number, or 200 admitted, 201 exited, 202 undone; 210 paid, 211 refunded, 212 topped up,
//! 213 balance. The answer's flags are those of [`engine::command`]. A transaction is named by its wallet and its serial;
//! people see both as one UUID ([`engine::ids::TransactionId`]).
//!
//! A wristband can be given another wallet while a payment is on its way. Nothing was done then, and the frame is
//! answered Busy with `tag_moved`: sent again, it is resolved anew. `unknown_tag`, `tag_lost` of a wristband that names no
//! wallet any more, and the QR's rejections are answered at the door and not remembered; the same frame, sent again, is
//! looked at anew, and since a terminal sends again only what it has no answer to, nobody was told otherwise before.
//! Resent must be set on what was sent on another connection and not answered: a wristband may have been given another
//! wallet since, and the ones before are asked first. It remembers eight; of one that has had more, what was sent before and
//! nobody knows is `outcome_unknown`: it may have been paid by a wallet that is forgotten. Nobody can tell, and nothing is done.
//!
//! Once a device is welcomed, an older connection of the same device has been closed, and what was sent there takes effect
//! only if it had reached its wallet by then. So an answer on the newest connection stands.
//!
//! A new verdict, field or kind that a device of the same sort can meet is a new protocol number.

mod cash;
pub mod codes;
mod fingerprint;
mod layout;
mod offer;
pub mod proof;

use engine::command::{DeviceAnswer, Direction, FirstUse, TerminalAnswer, Verdict};
use engine::credential::{self, QR_LEN_MAX, QrClaim, without_additions};
use engine::ids::{DeviceId, FestivalId, GateNo, TagUid, TicketId, ZONES_MAX, ZoneNo};
use engine::rejection::Rejection;
use engine::status::{ScanAck, ZoneState};
use engine::time::Timestamp;
use zerocopy::{FromBytes as _, IntoBytes as _};

pub use cash::{
    Balance, LineItem, Pay, RECENT_MAX, RECENT_ROWS_MAX, Recent, RecentRow, RecentRows, Refund, ReturnedItem,
    TerminalWelcome, TopUp, WalletName,
};
pub use codes::{Refusal, close};
pub use fingerprint::{Fingerprint, NoFingerprint};
pub use layout::SeqRange;
use layout::{HEADER_LEN, Header};
pub use offer::{NoOffer, Offer};

/// What this side speaks, in TLS's own list of protocols.
pub const ALPN: &[u8] = b"tapgate/2";
/// The same as a number, in the first frame.
pub const PROTOCOL: u16 = 2;
/// The longest frame, in bytes: a raw QR takes 539, a Welcome with four full names 866, a payment of 32 lines by a raw QR
/// 940.
pub const FRAME_LEN_MAX: usize = 1_024;
/// The most bytes of a raw QR that are sent: one more than is looked at, so that too long stays too long.
pub const QR_SENT_MAX: usize = QR_LEN_MAX + 1;
/// The longest enrolment code, in bytes.
pub const CODE_LEN_MAX: usize = 64;
/// The longest text in a frame, in bytes; longer ones are cut.
pub const TEXT_LEN_MAX: usize = 200;
/// How far `seq` may lie above `floor`, hence also the most commands that can be unanswered.
pub const WINDOW_MAX: u64 = 4_096;
/// The most ranges in one Confirmed: (1,024 - 4) / 12.
pub const RANGES_MAX: usize = (FRAME_LEN_MAX - HEADER_LEN) / size_of::<SeqRange>();

/// Why bytes are not a frame. Whoever gets one closes the connection: nothing after it can be trusted.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum WireError {
    /// No frame is that long, or that short.
    #[error("a frame of {0} bytes")]
    Length(usize),
    /// No frame of this kind has that length.
    #[error("a frame of kind {kind:#04x} with {len} bytes")]
    LengthOfKind {
        /// Which kind.
        kind: u8,
        /// Its length in bytes.
        len: usize,
    },
    /// No frame has this kind.
    #[error("unknown frame kind {0:#04x}")]
    Kind(u8),
    /// A field is out of its bounds.
    #[error("field {0} is out of bounds")]
    Field(&'static str),
    /// The first frame speaks another protocol.
    #[error("protocol {0} is not spoken here")]
    Protocol(u16),
}

/// One frame. Bytes and texts are those of the buffer it was read from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Frame<'a> {
    /// A device says who it is.
    Hello(DeviceId),
    /// It proves it.
    Proof(&'a [u8; 64]),
    /// It is new, and shows its code.
    Enrol(Enrol<'a>),
    /// A ticket or wristband was held to it.
    Scan(Scan<'a>),
    /// The steward takes a scan back.
    Undo(Undo),
    /// It wants to know whether the server is still there. QUIC's acknowledgement says so; there is no other answer.
    Ping,
    /// It trusts this key of the server's as well: SHA-256 of its SubjectPublicKeyInfo. It had it from a welcome.
    Pinned(Fingerprint),
    /// It goes.
    Bye,
    /// A terminal: somebody pays.
    Pay(Pay<'a>),
    /// The vendor gives back what it took.
    Refund(Refund<'a>),
    /// Cash is put into a wallet.
    TopUp(TopUp<'a>),
    /// How much is there?
    Balance(Balance<'a>),
    /// What were the terminal's last transactions?
    AskRecent {
        /// Comes back.
        ask: u64,
        /// At most so many, 1 to [`RECENT_MAX`].
        limit: u16,
    },
    /// These were some of them.
    RecentRows(RecentRows<'a>),
    /// The server wants to be shown the key.
    Challenge {
        /// Never used twice.
        nonce: &'a [u8; 32],
        /// The server's clock.
        server_time: Timestamp,
    },
    /// The device is who it says.
    Welcome(Welcome<'a>),
    /// The same to a terminal.
    TerminalWelcome(TerminalWelcome<'a>),
    /// The device has a name from now on.
    Enrolled {
        /// Its id.
        device: DeviceId,
        /// The server's clock.
        server_time: Timestamp,
    },
    /// No, and the connection closes.
    Refuse {
        /// Why.
        refusal: Refusal,
        /// When to come again, if that is of use.
        retry_after_ms: u32,
        /// The same in words.
        text: &'a str,
    },
    /// What became of a command.
    Answer {
        /// Of which.
        seq: u64,
        /// What.
        answer: DeviceAnswer,
        /// On disk. If not, a Confirmed follows.
        durable: bool,
    },
    /// These answers are on disk now.
    Confirmed(&'a [SeqRange]),
    /// Nothing was done.
    Busy {
        /// Of which command.
        seq: u64,
        /// Why.
        rejection: Rejection,
        /// When to send it again.
        retry_after_ms: u32,
    },
    /// Something the device did not ask.
    Notice(Notice),
    /// What became of a terminal's command. Always on disk.
    CashAnswer {
        /// Of which.
        seq: u64,
        /// What.
        answer: TerminalAnswer,
    },
}

/// A device that is new.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Enrol<'a> {
    /// Where it was offered its place.
    pub festival: FestivalId,
    /// The public half of the key it has made: Ed25519.
    pub public_key: &'a [u8; 32],
    /// The operator's one-time code, 1 to [`CODE_LEN_MAX`] bytes.
    pub code: &'a [u8],
}

/// A ticket or wristband held to a reader.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Scan<'a> {
    /// Its number among the device's commands.
    pub seq: u64,
    /// The lowest number without a final answer; at most `seq`, and at most 65,535 below it.
    pub floor: u64,
    /// The device's clock.
    pub captured_at: Timestamp,
    /// Where the reader stands.
    pub zone: ZoneNo,
    /// In or out.
    pub direction: Direction,
    /// What the device has shown already, for a scan whose answer was never confirmed.
    pub shown: Option<Verdict>,
    /// Sent before, on another connection.
    pub resent: bool,
    /// What was read.
    pub credential: Credential<'a>,
}

/// What was read, before anybody has checked it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Credential<'a> {
    /// A QR in canonical spelling.
    Packed(QrClaim),
    /// Any other QR, as it was read.
    Raw(&'a [u8]),
    /// A wristband's chip.
    Tag(TagUid),
    /// What no reader of ours sends: a packed QR with an id that is no ticket's, a UID of five bytes, a kind of credential
    /// that there is not. The shard is told that it was no ticket, and writes it down.
    Unreadable {
        /// The number of the kind it says it is of.
        kind: u8,
        /// All the rest of the frame.
        bytes: &'a [u8],
    },
}

impl<'a> Credential<'a> {
    /// Packs a QR if it is spelled as tickets are printed, what the scanner has added aside; else keeps it as it was read.
    pub fn of_qr(qr: &'a [u8]) -> Self {
        match credential::parse(qr) {
            Ok(claim) if credential::text(&claim).as_bytes() == without_additions(qr) => Self::Packed(claim),
            _ => Self::Raw(&qr[..qr.len().min(QR_SENT_MAX)]),
        }
    }
}

/// The last scan was a mistake.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Undo {
    /// As in [`Scan`].
    pub seq: u64,
    /// As in [`Scan`].
    pub floor: u64,
    /// The scan to be undone.
    pub scan_seq: u64,
    /// The ticket its answer named.
    pub ticket: TicketId,
    /// Sent before, on another connection.
    pub resent: bool,
}

/// What a device learns when it has proven itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Welcome<'a> {
    /// The server's clock.
    pub server_time: Timestamp,
    /// The lowest number for the device's next command.
    pub next_seq: u64,
    /// Whose festival.
    pub festival: FestivalId,
    /// Where the device stands.
    pub gate: GateNo,
    /// The zone that gate leads into.
    pub zone: ZoneNo,
    /// When answers leave.
    pub ack: ScanAck,
    /// How many commands may be unanswered on this connection.
    pub window: u16,
    /// The key that the server will have next; 32 zeros are none. A device keeps it beside the present one, and forgets
    /// one that is named no longer.
    pub next_pin: Option<Fingerprint>,
    /// What the device is called.
    pub device_name: &'a str,
    /// What the festival is called.
    pub festival_name: &'a str,
    /// What the gate is called.
    pub gate_name: &'a str,
    /// What the zone is called.
    pub zone_name: &'a str,
}

/// What devices are told unasked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Notice {
    /// A zone opened, closed, or is being evacuated.
    Zone {
        /// Which.
        zone: ZoneNo,
        /// To what.
        state: ZoneState,
    },
    /// This device is refused from now on.
    DeviceRevoked,
    /// Too many frames: send none for so long. Those that come all the same are answered Busy.
    SlowDown {
        /// How long.
        retry_after_ms: u32,
    },
    /// Answers leave at another moment from now on: say hello again to learn when.
    PolicyChanged,
    /// The server goes down; what was not answered is to be sent again when it is back.
    Closing {
        /// When that may be.
        retry_after_ms: u32,
    },
}

const RESENT: u8 = 1;
const DURABLE: u8 = 1;
const FIRST_USE: u8 = 2;

/// Reads one frame from the front of `bytes`: the frame and its length, or `None` if it has not arrived whole.
///
/// # Errors
/// [`WireError`]: these bytes will never be a frame.
pub fn decode(bytes: &[u8]) -> Result<Option<(Frame<'_>, usize)>, WireError> {
    let Ok((header, _)) = Header::ref_from_prefix(bytes) else { return Ok(None) };
    let len = usize::from(header.len.get());
    if !(HEADER_LEN..=FRAME_LEN_MAX).contains(&len) {
        return Err(WireError::Length(len));
    }
    if !layout::KINDS.contains(&header.kind) {
        return Err(WireError::Kind(header.kind));
    }
    let Some(body) = bytes.get(HEADER_LEN..len) else { return Ok(None) };
    let frame = layout::frame(header.kind, header.flags, body)?;
    Ok(Some((frame, len)))
}

/// A command that can be told apart, but not carried out: a zone beyond all zones, a currency in small letters, a payment
/// of 33 lines, a body that is too short for its kind.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Unusable {
    /// Its number.
    pub seq: u64,
    /// The frame's kind.
    pub kind: u8,
    /// What its sender is told. It follows from the frame alone, so that the same frame gets the same answer.
    pub rejection: Rejection,
    /// The frame's length.
    pub len: usize,
}

/// What is at the front of `bytes`, where [`decode`] has said `error`: a device's command whose content cannot be. Whoever
/// sent it is answered, and the connection goes on; it would only come again from the device's queue, for ever.
pub fn unusable(bytes: &[u8], error: WireError) -> Option<Unusable> {
    let (header, _) = Header::ref_from_prefix(bytes).ok()?;
    let (kind, len) = (header.kind, usize::from(header.len.get()));
    let (WireError::Field(_) | WireError::LengthOfKind { .. }) = error else { return None };
    let body = bytes.get(HEADER_LEN..len).filter(|_| layout::is_command(kind))?;
    let seq = u64::from_le_bytes(*body.first_chunk()?);
    let rejection = match error {
        WireError::Field("zone") => Rejection::UnknownZone,
        WireError::Field("ticket") => Rejection::UnknownTicket,
        WireError::Field("qr") => Rejection::InvalidQr,
        WireError::Field("tag") => Rejection::UnknownTag,
        WireError::Field("wallet") => Rejection::UnknownWallet,
        WireError::Field("currency") => Rejection::WrongCurrency,
        WireError::Field("lines") => Rejection::LinesMismatch,
        WireError::Field("payment") => Rejection::UnknownTransaction,
        _ => Rejection::InvalidValue,
    };
    Some(Unusable { seq, kind, rejection, len })
}

impl Frame<'_> {
    /// Appends the frame to `out`. What is too long is cut: texts to [`TEXT_LEN_MAX`], raw QRs to [`QR_SENT_MAX`],
    /// codes to [`CODE_LEN_MAX`], ranges to [`RANGES_MAX`], lines to [`engine::command::LINES_MAX`]; a floor further below than a frame can say is raised.
    pub fn encode(&self, out: &mut Vec<u8>) {
        let start = out.len();
        out.extend_from_slice(&[0; HEADER_LEN]);
        let (kind, flags) = layout::body(self, out);
        let len = (out.len() - start) as u16;
        debug_assert!(usize::from(len) <= FRAME_LEN_MAX);
        out[start..start + HEADER_LEN].copy_from_slice(Header { len: len.into(), kind, flags }.as_bytes());
    }

    /// Its number among the device's commands, if it is one.
    pub fn seq(&self) -> Option<u64> {
        match self {
            Self::Scan(scan) => Some(scan.seq),
            Self::Undo(undo) => Some(undo.seq),
            Self::Pay(pay) => Some(pay.seq),
            Self::Refund(refund) => Some(refund.seq),
            Self::TopUp(top_up) => Some(top_up.seq),
            Self::Balance(balance) => Some(balance.seq),
            _ => None,
        }
    }

    /// The frame's bytes.
    pub fn to_bytes(&self) -> Vec<u8> {
        let mut out = Vec::new();
        self.encode(&mut out);
        out
    }
}

/// Appends as many Confirmed frames as it takes to name these `seqs`; neighbours that follow each other share a range.
pub fn encode_confirmed(seqs: &[u64], out: &mut Vec<u8>) {
    let mut ranges: Vec<SeqRange> = Vec::with_capacity(RANGES_MAX.min(seqs.len()));
    let mut at = 0;
    while at < seqs.len() {
        let first = seqs[at];
        let follow = seqs[at..].iter().zip(first..=u64::MAX).take(WINDOW_MAX as usize);
        let count = follow.take_while(|(seq, expected)| **seq == *expected).count();
        ranges.push(SeqRange::new(first, count as u32));
        at += count;
        if ranges.len() == RANGES_MAX || at == seqs.len() {
            Frame::Confirmed(&ranges).encode(out);
            ranges.clear();
        }
    }
}

#[cfg(test)]
mod tests;
