//! What devices and server say to each other: frames, codes, the proof, fingerprints, offers. No I/O.
//!
//! [`decode`] reads a frame from the front of some bytes, [`Frame::encode`] writes one. What is in them, and how a device
//! behaves, is PROTOCOL.md, which follows; its tables are written by a test from those in here.
//!

#![warn(missing_docs)] // outsiders read this
#![doc = include_str!("../PROTOCOL.md")]

#[macro_use]
mod macros;

mod cashless;
pub mod codes;
mod fingerprint;
mod layout;
mod offer;
pub mod proof;

use engine::cashless::command::TerminalAnswer;
use engine::gates::command::{DeviceAnswer, Direction, FirstUse, Verdict};
use engine::model::credential;
use engine::model::credential::{QR_LEN_MAX, QrClaim, without_additions};
use engine::model::ids::{DeviceId, FestivalId, GateNo, TagUid, TicketId, ZONES_MAX, ZoneNo};
use engine::model::rejection::Rejection;
use engine::model::status::{ScanAck, ZoneState};
use engine::model::time::Timestamp;
use zerocopy::{FromBytes as _, IntoBytes as _};

pub use cashless::{
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
    CashlessAnswer {
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
    /// A wristband's tag.
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
    /// codes to [`CODE_LEN_MAX`], ranges to [`RANGES_MAX`], lines to [`engine::cashless::command::LINES_MAX`]; a floor further below than a frame can say is raised.
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
mod protocol;
#[cfg(test)]
mod tests;
