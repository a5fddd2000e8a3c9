//! Where each field of each frame lies, and the way from there to [`Frame`] and back. Terminals' frames are in `cashless`.

use zerocopy::little_endian::{I64, U16, U32, U64, U128};
use zerocopy::{FromBytes, IntoBytes};

use super::*;

pub(super) mod cashless;

// The sentence behind a field is its row in PROTOCOL.md.
layouts! {
    /// Opens each frame.
    pub(super) Header {
        /// bytes of the whole frame, these four included: 4 to 1,024
        len: U16,
        /// what it is
        kind: u8,
        /// by kind; bits without a meaning are 0
        flags: u8,
    }
    pub(super) HelloBody {
        /// 2
        protocol: U16,
        /// 0
        reserved: [u8; 2],
        /// the id that Enrolled gave
        device: U64,
    }
    pub(super) ProofBody {
        /// Ed25519 over the message in *The proof*
        signature: [u8; 64],
    }
    pub(super) EnrolBody {
        /// 2
        protocol: U16,
        /// 0
        reserved: [u8; 2],
        /// the festival in the offer
        festival: U32,
        /// the public half of the Ed25519 key that the device has made
        public_key: [u8; 32],
    }
    pub(super) ScanBody {
        /// the command's number
        seq: U64,
        /// how far below `seq` the floor is: the lowest number without a final answer
        floor: U16,
        /// the device's clock when it was scanned, ms since 1970
        captured_at: I64,
        /// the zone to enter or leave, below 64
        zone: u8,
        /// 0 in, 1 out
        direction: u8,
        /// the verdict that the device has shown already, if that was not confirmed; else 0
        shown: u8,
        /// which kind of credential follows
        credential: u8,
    }
    pub(super) PackedQr {
        /// the ticket's UUID
        ticket: U128,
        /// the key's number
        version: U32,
        /// the signature
        hash: [u8; 32],
    }
    pub(super) UndoBody {
        /// the command's number
        seq: U64,
        /// as in Scan
        floor: U16,
        /// the number of the scan to take back
        scan_seq: U64,
        /// the ticket that its answer named
        ticket: U128,
    }
    pub(super) ChallengeBody {
        /// 32 random bytes
        nonce: [u8; 32],
        /// the server's clock, ms since 1970
        server_time: I64,
    }
    pub(super) WelcomeBody {
        /// the server's clock, ms since 1970
        server_time: I64,
        /// one above the highest number that was ever answered
        next_seq: U64,
        /// whose festival
        festival: U32,
        /// the gate where the reader stands
        gate: U16,
        /// the zone that this gate leads into
        zone: u8,
        /// when answers leave: 0 durable, 1 decided
        ack: u8,
        /// how many commands may be unanswered on this connection
        window: U16,
        /// the fingerprint of the key that the server will have next; zeros: none
        next_pin: [u8; 32],
    }
    pub(super) PinnedBody {
        /// the `next_pin` of the last welcome
        pin: [u8; 32],
    }
    pub(super) EnrolledBody {
        /// the device's id from now on
        device: U64,
        /// the server's clock, ms since 1970
        server_time: I64,
    }
    pub(super) RefuseBody {
        /// a refusal's number
        code: U16,
        /// 0
        reserved: [u8; 2],
        /// when to come again; 0: it is of no use
        retry_after_ms: U32,
    }
    pub(super) AnswerBody {
        /// the command that is answered
        seq: U64,
        /// a reader's verdict
        verdict: u8,
        /// answer flags
        flags: u8,
        /// the zone that it was about
        zone: u8,
        /// 0
        reserved: u8,
        /// how many people are in that zone now
        occupancy: U32,
        /// the ticket; 0: none was recognised
        ticket: U128,
        /// when it was decided, by the server's clock
        at: I64,
    }
    pub(super) FirstUseBody {
        /// when the ticket came in first
        at: I64,
        /// through which gate
        gate: U16,
        /// into which zone
        zone: u8,
        /// 0
        reserved: u8,
    }
    pub(super) BusyBody {
        /// the command that is to be sent again
        seq: U64,
        /// after so long
        retry_after_ms: U32,
        /// why
        rejection: u8,
        /// 0
        reserved: [u8; 3],
    }
    pub(super) NoticeBody {
        /// which notice
        kind: u8,
        /// the zone; 0 where the notice names none
        zone: u8,
        /// the zone's state; 0 where the notice names none
        state: u8,
        /// 0
        reserved: u8,
        /// when to go on or to come again; 0 where the notice does not say
        retry_after_ms: U32,
    }
}

layouts! {
    /// Numbers that follow each other.
    pub SeqRange {
        /// the first number
        first: U64,
        /// how many there are, 1 to 4,096
        count: U32,
    }
}

impl SeqRange {
    /// `first` and those after it, `count` in all: 1 to [`WINDOW_MAX`].
    pub fn new(first: u64, count: u32) -> Self {
        Self { first: first.into(), count: count.into() }
    }
    /// The numbers.
    pub fn seqs(self) -> core::ops::RangeInclusive<u64> {
        let first = self.first.get();
        first..=first.saturating_add(u64::from(self.count.get()).saturating_sub(1))
    }
    fn is_sound(self) -> bool {
        let count = u64::from(self.count.get());
        (1..=WINDOW_MAX).contains(&count) && self.first.get().checked_add(count).is_some()
    }
}

pub(super) const HEADER_LEN: usize = size_of::<Header>();

pub(super) const HELLO: u8 = 0x01;
pub(super) const PROOF: u8 = 0x02;
pub(super) const ENROL: u8 = 0x03;
pub(super) const SCAN: u8 = 0x10;
pub(super) const UNDO: u8 = 0x11;
pub(super) const PING: u8 = 0x12;
pub(super) const PINNED: u8 = 0x13;
pub(super) const BYE: u8 = 0x1F;
pub(super) const CHALLENGE: u8 = 0x81;
pub(super) const WELCOME: u8 = 0x82;
pub(super) const ENROLLED: u8 = 0x83;
pub(super) const REFUSE: u8 = 0x84;
pub(super) const ANSWER: u8 = 0x90;
pub(super) const CONFIRMED: u8 = 0x91;
pub(super) const BUSY: u8 = 0x92;
pub(super) const NOTICE: u8 = 0x93;

pub(super) const KINDS: [u8; 24] = [
    HELLO,
    PROOF,
    ENROL,
    SCAN,
    UNDO,
    PING,
    PINNED,
    BYE,
    cashless::PAY,
    cashless::REFUND,
    cashless::TOP_UP,
    cashless::BALANCE,
    cashless::ASK_RECENT,
    CHALLENGE,
    WELCOME,
    ENROLLED,
    REFUSE,
    cashless::TERMINAL_WELCOME,
    ANSWER,
    CONFIRMED,
    BUSY,
    NOTICE,
    cashless::CASHLESS_ANSWER,
    cashless::RECENT_ROWS,
];

/// The commands, which all open with their number: a reader's but for Ping, Pinned and Bye, and a terminal's.
pub(super) fn is_command(kind: u8) -> bool {
    KINDS.contains(&kind)
        && !matches!(kind, PING | PINNED)
        && (matches!(kind, SCAN..BYE) || matches!(kind, cashless::PAY..CHALLENGE))
}

pub(super) const QR_PACKED: u8 = 1;
pub(super) const QR_RAW: u8 = 2;
pub(super) const TAG: u8 = 3;

pub(super) const NOTICE_ZONE: u8 = 1;
pub(super) const NOTICE_REVOKED: u8 = 2;
pub(super) const NOTICE_SLOW_DOWN: u8 = 3;
pub(super) const NOTICE_POLICY: u8 = 4;
pub(super) const NOTICE_CLOSING: u8 = 5;

/// The flags that a kind knows.
pub(super) fn known_flags(kind: u8) -> u8 {
    match kind {
        SCAN | UNDO => RESENT,
        ANSWER => DURABLE | FIRST_USE,
        kind => cashless::known_flags(kind),
    }
}

/// The frame of this kind with this body.
pub(super) fn frame(kind: u8, flags: u8, body: &[u8]) -> Result<Frame<'_>, WireError> {
    let wrong_len = || WireError::LengthOfKind { kind, len: HEADER_LEN + body.len() };
    ensure(flags & !known_flags(kind) == 0, "flags")?;
    // A whole body of one layout, or a layout with something behind it.
    macro_rules! whole {
        ($layout:ty) => {
            <$layout>::ref_from_bytes(body).map_err(|_| wrong_len())?
        };
    }
    macro_rules! front {
        ($layout:ty) => {
            <$layout>::ref_from_prefix(body).map_err(|_| wrong_len())?
        };
    }
    Ok(match kind {
        HELLO => {
            speaks(body, wrong_len)?;
            let hello = whole!(HelloBody);
            ensure(hello.reserved == [0; 2], "reserved")?;
            Frame::Hello(DeviceId(hello.device.get()))
        }
        PROOF => Frame::Proof(&whole!(ProofBody).signature),
        ENROL => {
            speaks(body, wrong_len)?;
            let (enrol, code) = front!(EnrolBody);
            ensure(enrol.reserved == [0; 2], "reserved")?;
            ensure((1..=CODE_LEN_MAX).contains(&code.len()), "code")?;
            Frame::Enrol(Enrol { festival: FestivalId(enrol.festival.get()), public_key: &enrol.public_key, code })
        }
        SCAN => {
            let (scan, credential) = front!(ScanBody);
            let seq = scan.seq.get();
            Frame::Scan(Scan {
                seq,
                floor: floor(seq, scan.floor)?,
                captured_at: Timestamp(scan.captured_at.get()),
                zone: zone(scan.zone)?,
                direction: match scan.direction {
                    0 => Direction::Enter,
                    1 => Direction::Exit,
                    _ => return Err(WireError::Field("direction")),
                },
                shown: match scan.shown {
                    0 => None,
                    number => Some(Verdict::from_number(number).ok_or(WireError::Field("shown"))?),
                },
                resent: flags & RESENT != 0,
                credential: read_credential(scan.credential, credential),
            })
        }
        UNDO => {
            let undo = whole!(UndoBody);
            let seq = undo.seq.get();
            Frame::Undo(Undo {
                seq,
                floor: floor(seq, undo.floor)?,
                scan_seq: undo.scan_seq.get(),
                ticket: ticket(undo.ticket)?,
                resent: flags & RESENT != 0,
            })
        }
        PINNED => Frame::Pinned(pin(whole!(PinnedBody).pin).ok_or(WireError::Field("pin"))?),
        PING | BYE => {
            ensure_len(body.is_empty(), wrong_len)?;
            if kind == PING { Frame::Ping } else { Frame::Bye }
        }
        CHALLENGE => {
            let challenge = whole!(ChallengeBody);
            Frame::Challenge { nonce: &challenge.nonce, server_time: Timestamp(challenge.server_time.get()) }
        }
        WELCOME => {
            let (welcome, texts) = front!(WelcomeBody);
            let (device_name, texts) = read_text(texts)?;
            let (festival_name, texts) = read_text(texts)?;
            let (gate_name, texts) = read_text(texts)?;
            let (zone_name, rest) = read_text(texts)?;
            ensure_len(rest.is_empty(), wrong_len)?;
            Frame::Welcome(Welcome {
                server_time: Timestamp(welcome.server_time.get()),
                next_seq: welcome.next_seq.get(),
                festival: FestivalId(welcome.festival.get()),
                gate: GateNo(welcome.gate.get()),
                zone: zone(welcome.zone)?,
                ack: ScanAck::from_number(u32::from(welcome.ack)).ok_or(WireError::Field("ack"))?,
                window: welcome.window.get(),
                next_pin: pin(welcome.next_pin),
                device_name,
                festival_name,
                gate_name,
                zone_name,
            })
        }
        ENROLLED => {
            let enrolled = whole!(EnrolledBody);
            Frame::Enrolled {
                device: DeviceId(enrolled.device.get()),
                server_time: Timestamp(enrolled.server_time.get()),
            }
        }
        REFUSE => {
            let (refuse, text) = front!(RefuseBody);
            ensure(refuse.reserved == [0; 2], "reserved")?;
            let (text, rest) = read_text(text)?;
            ensure_len(rest.is_empty(), wrong_len)?;
            Frame::Refuse {
                refusal: Refusal::from_number(refuse.code.get()).ok_or(WireError::Field("code"))?,
                retry_after_ms: refuse.retry_after_ms.get(),
                text,
            }
        }
        ANSWER => {
            let (answer, rest) = front!(AnswerBody);
            ensure(answer.reserved == 0, "reserved")?;
            let first_use = if flags & FIRST_USE == 0 {
                ensure_len(rest.is_empty(), wrong_len)?;
                None
            } else {
                let first = FirstUseBody::ref_from_bytes(rest).map_err(|_| wrong_len())?;
                ensure(first.reserved == 0, "reserved")?;
                Some(FirstUse {
                    at: Timestamp(first.at.get()),
                    zone: zone(first.zone)?,
                    gate: GateNo(first.gate.get()),
                })
            };
            Frame::Answer {
                seq: answer.seq.get(),
                answer: DeviceAnswer {
                    verdict: Verdict::from_number(answer.verdict).ok_or(WireError::Field("verdict"))?,
                    flags: answer.flags,
                    zone: zone(answer.zone)?,
                    occupancy: answer.occupancy.get(),
                    ticket: (answer.ticket.get() != 0).then(|| ticket(answer.ticket)).transpose()?,
                    at: Timestamp(answer.at.get()),
                    first_use,
                },
                durable: flags & DURABLE != 0,
            }
        }
        CONFIRMED => {
            let ranges = <[SeqRange]>::ref_from_bytes(body).map_err(|_| wrong_len())?;
            ensure_len(!ranges.is_empty(), wrong_len)?;
            ensure(ranges.iter().all(|range| range.is_sound()), "range")?;
            Frame::Confirmed(ranges)
        }
        BUSY => {
            let busy = whole!(BusyBody);
            ensure(busy.reserved == [0; 3], "reserved")?;
            Frame::Busy {
                seq: busy.seq.get(),
                rejection: Rejection::from_number(busy.rejection).ok_or(WireError::Field("rejection"))?,
                retry_after_ms: busy.retry_after_ms.get(),
            }
        }
        NOTICE => Frame::Notice(read_notice(whole!(NoticeBody))?),
        kind => return cashless::frame(kind, flags, body),
    })
}

/// Appends the frame's body; its kind and flags.
pub(super) fn body(frame: &Frame<'_>, out: &mut Vec<u8>) -> (u8, u8) {
    let mut put = |bytes: &[u8]| out.extend_from_slice(bytes);
    match *frame {
        Frame::Hello(device) => {
            put(HelloBody { protocol: PROTOCOL.into(), reserved: [0; 2], device: device.0.into() }.as_bytes());
            (HELLO, 0)
        }
        Frame::Proof(signature) => {
            put(signature);
            (PROOF, 0)
        }
        Frame::Enrol(Enrol { festival, public_key, code }) => {
            let (protocol, festival) = (PROTOCOL.into(), festival.0.into());
            put(EnrolBody { protocol, reserved: [0; 2], festival, public_key: *public_key }.as_bytes());
            put(&code[..code.len().min(CODE_LEN_MAX)]);
            (ENROL, 0)
        }
        Frame::Scan(scan) => {
            let body = |credential| ScanBody {
                seq: scan.seq.into(),
                floor: below(scan.seq, scan.floor),
                captured_at: scan.captured_at.0.into(),
                zone: scan.zone.0,
                direction: scan.direction as u8,
                shown: scan.shown.map_or(0, Verdict::number),
                credential,
            };
            match scan.credential {
                Credential::Packed(QrClaim { ticket, version, hash }) => {
                    put(body(QR_PACKED).as_bytes());
                    put(PackedQr { ticket: ticket.as_u128().into(), version: version.into(), hash }.as_bytes());
                }
                Credential::Raw(qr) => {
                    put(body(QR_RAW).as_bytes());
                    put(&qr[..qr.len().min(QR_SENT_MAX)]);
                }
                Credential::Tag(uid) => {
                    put(body(TAG).as_bytes());
                    put(uid.as_bytes());
                }
                Credential::Unreadable { kind, bytes } => {
                    put(body(kind).as_bytes());
                    put(&bytes[..bytes.len().min(FRAME_LEN_MAX - HEADER_LEN - size_of::<ScanBody>())]);
                }
            }
            (SCAN, u8::from(scan.resent) * RESENT)
        }
        Frame::Undo(Undo { seq, floor, scan_seq, ticket, resent }) => {
            let (floor, ticket) = (below(seq, floor), ticket.as_u128().into());
            put(UndoBody { seq: seq.into(), floor, scan_seq: scan_seq.into(), ticket }.as_bytes());
            (UNDO, u8::from(resent) * RESENT)
        }
        Frame::Ping => (PING, 0),
        Frame::Pinned(pin) => {
            put(PinnedBody { pin: pin.0 }.as_bytes());
            (PINNED, 0)
        }
        Frame::Bye => (BYE, 0),
        Frame::Pay(ref pay) => cashless::pay(pay, out),
        Frame::Refund(ref refund) => cashless::refund(refund, out),
        Frame::TopUp(ref top_up) => cashless::top_up(top_up, out),
        Frame::Balance(ref balance) => cashless::balance(balance, out),
        Frame::AskRecent { ask, limit } => cashless::ask_recent(ask, limit, out),
        Frame::RecentRows(ref answer) => cashless::recent_rows(answer, out),
        Frame::TerminalWelcome(ref welcome) => cashless::terminal_welcome(welcome, out),
        Frame::CashlessAnswer { seq, ref answer } => cashless::cashless_answer(seq, answer, out),
        Frame::Challenge { nonce, server_time } => {
            put(ChallengeBody { nonce: *nonce, server_time: server_time.0.into() }.as_bytes());
            (CHALLENGE, 0)
        }
        Frame::Welcome(welcome) => {
            let body = WelcomeBody {
                server_time: welcome.server_time.0.into(),
                next_seq: welcome.next_seq.into(),
                festival: welcome.festival.0.into(),
                gate: welcome.gate.0.into(),
                zone: welcome.zone.0,
                ack: welcome.ack as u8,
                window: welcome.window.into(),
                next_pin: welcome.next_pin.map_or([0; 32], |pin| pin.0),
            };
            put(body.as_bytes());
            for text in [welcome.device_name, welcome.festival_name, welcome.gate_name, welcome.zone_name] {
                put_text(text, out);
            }
            (WELCOME, 0)
        }
        Frame::Enrolled { device, server_time } => {
            put(EnrolledBody { device: device.0.into(), server_time: server_time.0.into() }.as_bytes());
            (ENROLLED, 0)
        }
        Frame::Refuse { refusal, retry_after_ms, text } => {
            let (code, retry_after_ms) = (refusal.number().into(), retry_after_ms.into());
            put(RefuseBody { code, reserved: [0; 2], retry_after_ms }.as_bytes());
            put_text(text, out);
            (REFUSE, 0)
        }
        Frame::Answer { seq, answer, durable } => {
            let body = AnswerBody {
                seq: seq.into(),
                verdict: answer.verdict.number(),
                flags: answer.flags,
                zone: answer.zone.0,
                reserved: 0,
                occupancy: answer.occupancy.into(),
                ticket: answer.ticket.map_or(0, TicketId::as_u128).into(),
                at: answer.at.0.into(),
            };
            put(body.as_bytes());
            if let Some(FirstUse { at, zone, gate }) = answer.first_use {
                put(FirstUseBody { at: at.0.into(), gate: gate.0.into(), zone: zone.0, reserved: 0 }.as_bytes());
            }
            (ANSWER, (u8::from(durable) * DURABLE) | (u8::from(answer.first_use.is_some()) * FIRST_USE))
        }
        Frame::Confirmed(ranges) => {
            put(ranges[..ranges.len().min(RANGES_MAX)].as_bytes());
            (CONFIRMED, 0)
        }
        Frame::Busy { seq, rejection, retry_after_ms } => {
            let (rejection, retry_after_ms) = (rejection as u8, retry_after_ms.into());
            put(BusyBody { seq: seq.into(), retry_after_ms, rejection, reserved: [0; 3] }.as_bytes());
            (BUSY, 0)
        }
        Frame::Notice(notice) => {
            let (kind, zone, state, retry_after_ms) = match notice {
                Notice::Zone { zone, state } => (NOTICE_ZONE, zone.0, state as u8, 0),
                Notice::DeviceRevoked => (NOTICE_REVOKED, 0, 0, 0),
                Notice::SlowDown { retry_after_ms } => (NOTICE_SLOW_DOWN, 0, 0, retry_after_ms),
                Notice::PolicyChanged => (NOTICE_POLICY, 0, 0, 0),
                Notice::Closing { retry_after_ms } => (NOTICE_CLOSING, 0, 0, retry_after_ms),
            };
            put(NoticeBody { kind, zone, state, reserved: 0, retry_after_ms: retry_after_ms.into() }.as_bytes());
            (NOTICE, 0)
        }
    }
}

fn ensure(holds: bool, field: &'static str) -> Result<(), WireError> {
    if holds { Ok(()) } else { Err(WireError::Field(field)) }
}

fn ensure_len(holds: bool, error: impl Fn() -> WireError) -> Result<(), WireError> {
    if holds { Ok(()) } else { Err(error()) }
}

/// The first frame of every protocol opens with the protocol's number; what follows is another one's own business.
fn speaks(body: &[u8], error: impl Fn() -> WireError) -> Result<(), WireError> {
    match U16::read_from_prefix(body) {
        Ok((protocol, _)) if protocol.get() == PROTOCOL => Ok(()),
        Ok((protocol, _)) => Err(WireError::Protocol(protocol.get())),
        Err(_) => Err(error()),
    }
}

fn floor(seq: u64, below: U16) -> Result<u64, WireError> {
    seq.checked_sub(u64::from(below.get())).ok_or(WireError::Field("floor"))
}

fn below(seq: u64, floor: u64) -> U16 {
    (seq.saturating_sub(floor).min(u64::from(u16::MAX)) as u16).into()
}

/// 32 zeros are no key.
fn pin(bytes: [u8; 32]) -> Option<Fingerprint> {
    (bytes != [0; 32]).then_some(Fingerprint(bytes))
}

fn zone(number: u8) -> Result<ZoneNo, WireError> {
    if usize::from(number) < ZONES_MAX { Ok(ZoneNo(number)) } else { Err(WireError::Field("zone")) }
}

fn ticket(bits: U128) -> Result<TicketId, WireError> {
    TicketId::from_u128(bits.get()).ok_or(WireError::Field("ticket"))
}

fn read_credential(kind: u8, bytes: &[u8]) -> Credential<'_> {
    let packed = || {
        let packed = PackedQr::ref_from_bytes(bytes).ok()?;
        let ticket = ticket(packed.ticket).ok()?;
        Some(Credential::Packed(QrClaim { ticket, version: packed.version.get(), hash: packed.hash }))
    };
    let readable = match kind {
        QR_PACKED => packed(),
        QR_RAW => (bytes.len() <= QR_SENT_MAX).then_some(Credential::Raw(bytes)),
        TAG => TagUid::new(bytes).map(Credential::Tag),
        _ => None,
    };
    readable.unwrap_or(Credential::Unreadable { kind, bytes })
}

fn read_notice(body: &NoticeBody) -> Result<Notice, WireError> {
    let (notice, unused_zone, unused_retry) = match body.kind {
        NOTICE_ZONE => {
            let state = ZoneState::from_number(u32::from(body.state)).ok_or(WireError::Field("state"))?;
            (Notice::Zone { zone: zone(body.zone)?, state }, false, true)
        }
        NOTICE_REVOKED => (Notice::DeviceRevoked, true, true),
        NOTICE_SLOW_DOWN => (Notice::SlowDown { retry_after_ms: body.retry_after_ms.get() }, true, false),
        NOTICE_POLICY => (Notice::PolicyChanged, true, true),
        NOTICE_CLOSING => (Notice::Closing { retry_after_ms: body.retry_after_ms.get() }, true, false),
        _ => return Err(WireError::Field("notice")),
    };
    ensure(body.reserved == 0, "reserved")?;
    ensure(!unused_zone || (body.zone, body.state) == (0, 0), "zone")?;
    ensure(!unused_retry || body.retry_after_ms.get() == 0, "retry_after_ms")?;
    Ok(notice)
}

fn read_text(bytes: &[u8]) -> Result<(&str, &[u8]), WireError> {
    const BAD: WireError = WireError::Field("text");
    let (&len, rest) = bytes.split_first().ok_or(BAD)?;
    let (text, rest) = rest.split_at_checked(usize::from(len)).ok_or(BAD)?;
    ensure(text.len() <= TEXT_LEN_MAX, "text")?;
    Ok((str::from_utf8(text).map_err(|_| BAD)?, rest))
}

fn put_text(text: &str, out: &mut Vec<u8>) {
    let text = &text[..text.floor_char_boundary(TEXT_LEN_MAX)];
    out.push(text.len() as u8);
    out.extend_from_slice(text.as_bytes());
}
