use engine::cashless::command::{CashlessVerdict, LINES_MAX, Line};
use engine::model::credential::{QrSecret, WalletClaim, text, wallet_text};
use engine::model::ids::{CategoryNo, ProductNo, SERIAL_MAX, TransactionId, VendorNo, WalletId};
use engine::model::money::{Currency, Money};
use proptest::collection::vec;
use proptest::prelude::*;
use proptest::strategy::ValueTree as _;

use super::*;

/// A frame that owns its bytes, for tests that make frames up.
#[derive(Clone, Debug)]
struct Parts {
    kind: usize,
    bytes64: [u8; 64],
    bytes32: [u8; 32],
    bytes: Vec<u8>,
    texts: [String; 4],
    ranges: Vec<SeqRange>,
    lines: Vec<LineItem>,
    returned: Vec<ReturnedItem>,
    a: u64,
    b: u64,
    c: u32,
    d: u16,
    zone: u8,
    pick: u8,
    flag: bool,
    extra: bool,
}

/// How many branches [`Parts::frame`] has.
const KINDS_HERE: usize = 24;

fn parts() -> impl Strategy<Value = Parts> {
    let bytes = (0..KINDS_HERE, any::<[u8; 32]>(), any::<[u8; 32]>(), vec(any::<u8>(), 0..600));
    let range = (0..u64::MAX / 2, 1..=4_096_u32).prop_map(|(first, count)| SeqRange::new(first, count));
    let line = (any::<u16>(), any::<u16>(), any::<i64>())
        .prop_map(|(product, count, price)| LineItem::from(Line { product: ProductNo(product), count, price }));
    let returned =
        (any::<u16>(), any::<u16>()).prop_map(|(product, count)| ReturnedItem::new(ProductNo(product), count));
    let lines = (vec(line, 0..=LINES_MAX), vec(returned, 0..=LINES_MAX));
    let texts = (any::<[String; 4]>(), vec(range, 1..=RANGES_MAX), lines);
    let numbers = (any::<u64>(), any::<u64>(), any::<u32>(), any::<u16>());
    let small = (0..64_u8, any::<u8>(), any::<bool>(), any::<bool>());
    (bytes, texts, numbers, small).prop_map(
        |(
            (kind, bytes32, other32, bytes),
            (texts, ranges, (lines, returned)),
            (a, b, c, d),
            (zone, pick, flag, extra),
        )| {
            let mut bytes64 = [0; 64];
            bytes64[..32].copy_from_slice(&other32);
            let texts = texts.map(|mut text| {
                text.truncate(text.floor_char_boundary(TEXT_LEN_MAX));
                text
            });
            Parts { kind, bytes64, bytes32, bytes, texts, ranges, lines, returned, a, b, c, d, zone, pick, flag, extra }
        },
    )
}

impl Parts {
    fn ticket(&self) -> TicketId {
        TicketId::new(FestivalId(self.c), CategoryNo(self.d), self.c.rotate_left(7), self.b)
    }
    fn rejection(&self) -> Rejection {
        Rejection::ALL[usize::from(self.pick) % Rejection::ALL.len()]
    }
    fn verdict(&self) -> Verdict {
        match self.pick % 4 {
            0 => Verdict::Admitted,
            1 => Verdict::Exited,
            2 => Verdict::Undone,
            _ => Verdict::Rejected(self.rejection()),
        }
    }
    fn floor(&self) -> u64 {
        self.a.saturating_sub(u64::from(self.d))
    }
    fn money(&self) -> Money {
        let letters = [self.pick, self.zone, self.bytes32[0]].map(|byte| b'A' + byte % 26);
        Money { minor: self.b as i64, currency: Currency::from_bytes(letters).unwrap() }
    }
    fn wallet(&self) -> WalletId {
        WalletId(self.b.rotate_left(9).max(1))
    }
    fn name(&self) -> WalletName<'_> {
        match self.d % 4 {
            0 => WalletName::Packed(WalletClaim {
                wallet: self.wallet(),
                festival: FestivalId(self.c),
                version: self.c.rotate_left(5),
                hash: self.bytes32,
            }),
            1 => WalletName::Raw(&self.bytes[..self.bytes.len().min(QR_SENT_MAX)]),
            2 => WalletName::Tag(TagUid::new(&self.bytes32[..[4, 7, 10][usize::from(self.pick) % 3]]).unwrap()),
            _ => WalletName::Id(self.wallet()),
        }
    }
    fn cashless_answer(&self) -> TerminalAnswer {
        TerminalAnswer {
            verdict: match self.pick % 5 {
                0 => CashlessVerdict::Paid,
                1 => CashlessVerdict::Refunded,
                2 => CashlessVerdict::ToppedUp,
                3 => CashlessVerdict::Balance,
                _ => CashlessVerdict::Rejected(self.rejection()),
            },
            flags: self.pick,
            currency: self.money().currency,
            order: self.c,
            amount: self.b as i64,
            balance: self.a.rotate_left(3) as i64,
            wallet: WalletId(self.b.rotate_left(9)),
            serial: self.a & SERIAL_MAX,
            at: Timestamp(self.b as i64),
        }
    }
    fn frame(&self) -> Frame<'_> {
        let p = self;
        let scan = |credential| {
            Frame::Scan(Scan {
                seq: p.a,
                floor: p.floor(),
                captured_at: Timestamp(p.b as i64),
                zone: ZoneNo(p.zone),
                direction: if p.flag { Direction::Enter } else { Direction::Exit },
                shown: p.extra.then(|| p.verdict()),
                resent: p.flag,
                credential,
            })
        };
        match p.kind {
            0 => Frame::Hello(DeviceId(p.a)),
            1 => Frame::Proof(&p.bytes64),
            2 => {
                let code = if p.bytes.is_empty() { b"x" } else { &p.bytes[..p.bytes.len().min(CODE_LEN_MAX)] };
                Frame::Enrol(Enrol { festival: FestivalId(p.c), public_key: &p.bytes32, code })
            }
            3 => scan(Credential::Packed(QrClaim { ticket: p.ticket(), version: p.c, hash: p.bytes32 })),
            4 => scan(Credential::Raw(&p.bytes[..p.bytes.len().min(QR_SENT_MAX)])),
            5 => scan(Credential::Tag(TagUid::new(&p.bytes32[..[4, 7, 10][usize::from(p.pick) % 3]]).unwrap())),
            6 => {
                let ticket = p.ticket();
                Frame::Undo(Undo { seq: p.a, floor: p.floor(), scan_seq: p.b, ticket, resent: p.flag })
            }
            7 => Frame::Bye,
            8 => Frame::Challenge { nonce: &p.bytes32, server_time: Timestamp(p.a as i64) },
            9 => Frame::Welcome(Welcome {
                server_time: Timestamp(p.a as i64),
                next_seq: p.b,
                festival: FestivalId(p.c),
                gate: GateNo(p.d),
                zone: ZoneNo(p.zone),
                ack: if p.flag { ScanAck::Durable } else { ScanAck::Decided },
                window: p.d,
                next_pin: p.flag.then_some(Fingerprint(p.bytes32)),
                device_name: &p.texts[0],
                festival_name: &p.texts[1],
                gate_name: &p.texts[2],
                zone_name: &p.texts[3],
            }),
            10 => Frame::Enrolled { device: DeviceId(p.a), server_time: Timestamp(p.b as i64) },
            11 => {
                let refusal = match p.pick % 9 {
                    0 => Refusal::Rejected(p.rejection()),
                    n => Refusal::from_number(255 + u16::from(n)).unwrap(),
                };
                Frame::Refuse { refusal, retry_after_ms: p.c, text: &p.texts[0] }
            }
            12 => Frame::Answer {
                seq: p.a,
                answer: DeviceAnswer {
                    verdict: p.verdict(),
                    flags: p.pick,
                    zone: ZoneNo(p.zone),
                    occupancy: p.c,
                    ticket: p.flag.then(|| p.ticket()),
                    at: Timestamp(p.b as i64),
                    first_use: p.extra.then_some(FirstUse {
                        at: Timestamp(p.a as i64),
                        zone: ZoneNo(63 - p.zone),
                        gate: GateNo(p.d),
                    }),
                },
                durable: p.flag,
            },
            13 => Frame::Confirmed(&p.ranges),
            14 => Frame::Busy { seq: p.a, rejection: p.rejection(), retry_after_ms: p.c },
            15 => Frame::Notice(match p.pick % 5 {
                0 => Notice::Zone { zone: ZoneNo(p.zone), state: ZoneState::ALL[usize::from(p.d) % 3] },
                1 => Notice::DeviceRevoked,
                2 => Notice::SlowDown { retry_after_ms: p.c },
                3 => Notice::PolicyChanged,
                _ => Notice::Closing { retry_after_ms: p.c },
            }),
            16 => Frame::Pay(Pay {
                seq: p.a,
                floor: p.floor(),
                captured_at: Timestamp(p.b as i64),
                expires_at: Timestamp(i64::from(p.c)),
                wallet: p.name(),
                amount: p.money(),
                lines: &p.lines,
                resent: p.flag,
            }),
            17 => Frame::Refund(Refund {
                seq: p.a,
                floor: p.floor(),
                payment: TransactionId { wallet: p.wallet(), serial: (p.b & SERIAL_MAX).max(1) },
                amount: p.extra.then(|| p.money()),
                lines: &p.returned,
                resent: p.flag,
            }),
            18 => {
                let (captured_at, expires_at) = (Timestamp(p.b as i64), Timestamp(i64::from(p.c)));
                let (seq, floor, wallet, amount) = (p.a, p.floor(), p.name(), p.money());
                Frame::TopUp(TopUp { seq, floor, captured_at, expires_at, wallet, amount, resent: p.flag })
            }
            19 => {
                let captured_at = Timestamp(p.b as i64);
                Frame::Balance(Balance { seq: p.a, floor: p.floor(), captured_at, wallet: p.name(), resent: p.flag })
            }
            20 => Frame::TerminalWelcome(TerminalWelcome {
                server_time: Timestamp(p.a as i64),
                next_seq: p.b,
                festival: FestivalId(p.c),
                vendor: p.flag.then_some(VendorNo(p.d)),
                cashier: p.extra,
                window: p.d,
                currency: p.money().currency,
                next_pin: p.extra.then_some(Fingerprint(p.bytes32)),
                device_name: &p.texts[0],
                festival_name: &p.texts[1],
                vendor_name: &p.texts[2],
            }),
            21 => Frame::Ping,
            22 => Frame::Pinned(Fingerprint(p.bytes32)),
            _ => Frame::CashlessAnswer { seq: p.a, answer: p.cashless_answer() },
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(4_000))]

    #[test]
    fn every_frame_reads_back_as_it_was(parts in parts()) {
        let frame = parts.frame();
        let mut bytes = frame.to_bytes();
        prop_assert!(bytes.len() <= FRAME_LEN_MAX);
        prop_assert_eq!(decode(&bytes), Ok(Some((frame, bytes.len()))));
        // Cut anywhere, it has not arrived yet; with more behind it, it is still the same frame.
        for cut in 0..bytes.len() {
            prop_assert_eq!(decode(&bytes[..cut]), Ok(None));
        }
        let len = bytes.len();
        bytes.extend_from_slice(&parts.bytes);
        prop_assert_eq!(decode(&bytes), Ok(Some((frame, len))));
    }

    #[test]
    fn confirmations_name_exactly_what_was_confirmed(
        runs in vec((0..1_000_000_u64, 1..300_u64), 0..200)
    ) {
        let seqs: Vec<u64> = runs.iter().flat_map(|&(first, count)| first..first + count).collect();
        let mut bytes = Vec::new();
        encode_confirmed(&seqs, &mut bytes);
        let mut named = Vec::new();
        let mut rest = &bytes[..];
        while let Some((Frame::Confirmed(ranges), len)) = decode(rest).unwrap() {
            named.extend(ranges.iter().flat_map(|range| range.seqs()));
            rest = &rest[len..];
        }
        prop_assert!(rest.is_empty());
        prop_assert_eq!(named, seqs);
    }
}

/// What is decoded must also be what would have been written: there is one spelling of each frame, so nothing can hide
/// in reserved bytes, and nothing beyond the frame's own length has a say.
fn read_everything(mut bytes: &[u8]) -> usize {
    let mut frames = 0;
    while let Ok(Some((frame, len))) = decode(bytes) {
        assert!((4..=FRAME_LEN_MAX).contains(&len) && len <= bytes.len());
        assert_eq!(frame.to_bytes(), bytes[..len], "two spellings of {frame:?}");
        bytes = &bytes[len..];
        frames += 1;
    }
    frames
}

#[test]
fn a_hundred_thousand_random_and_mutated_buffers_do_no_harm() {
    let mut state = 0x7461_7067_6174_6531_u64; // One seed, hence one run: it fails for everybody or for nobody.
    let mut next = move || {
        state = state.wrapping_add(1);
        engine::model::ids::nonce_at(state, 7)
    };
    let mut runner = proptest::test_runner::TestRunner::deterministic();
    let samples: Vec<Vec<u8>> = (0..500)
        .map(|_| parts().new_tree(&mut runner).unwrap().current())
        .map(|parts| parts.frame().to_bytes())
        .collect();
    let (mut frames, mut unmutated) = (0, 0);
    for round in 0..100_000_u64 {
        let mut bytes: Vec<u8> = Vec::new();
        if round % 4 == 0 {
            // Noise behind a header that might pass.
            let len = (next() % 200) as usize;
            bytes.extend((0..len).map(|_| next() as u8));
            if len >= 4 {
                bytes[1] = 0;
                bytes[2] = layout::KINDS[next() as usize % layout::KINDS.len()];
            }
        } else {
            for _ in 0..1 + next() % 3 {
                bytes.extend_from_slice(&samples[next() as usize % samples.len()]);
                unmutated += 1;
            }
            for _ in 0..1 + next() % 4 {
                let at = next() as usize % bytes.len();
                match next() % 3 {
                    0 => bytes[at] ^= 1 << (next() % 8),
                    1 => bytes[at] = next() as u8,
                    _ => bytes.truncate(at + 1),
                }
            }
        }
        frames += read_everything(&bytes);
    }
    assert!(frames > unmutated / 4, "the fuzz reaches behind the header: {frames} of {unmutated}");
}

fn header(len: u16, kind: u8, flags: u8) -> Vec<u8> {
    let mut bytes = vec![0; usize::from(len).max(4)];
    bytes[..2].copy_from_slice(&len.to_le_bytes());
    (bytes[2], bytes[3]) = (kind, flags);
    bytes
}

#[test]
fn what_is_no_frame_is_named() {
    let scan = |at: usize, value: u8| {
        let mut bytes = header(26, 0x10, 0);
        (bytes[4], bytes[25]) = (9, 2);
        bytes[at] = value;
        bytes
    };
    let hello = |protocol: u16| {
        let mut bytes = header(16, 0x01, 0);
        bytes[4..6].copy_from_slice(&protocol.to_le_bytes());
        bytes
    };
    // A payment of 5.00 by a wallet's id, and one byte of it something else.
    let pay = |at: usize, value: u8| {
        let mut bytes = header(51, 0x20, 0);
        bytes[30..32].copy_from_slice(&500_u16.to_le_bytes());
        bytes[38..41].copy_from_slice(b"EUR");
        (bytes[4], bytes[42], bytes[43]) = (9, 4, 1);
        bytes[at] = value;
        bytes
    };
    let refund = |at: usize, value: u8| {
        let mut bytes = header(30, 0x21, 0);
        (bytes[4], bytes[14], bytes[22]) = (9, 1, 1);
        bytes[at] = value;
        bytes
    };
    let mut thirty_three = header(30 + 33 * 4, 0x21, 4);
    (thirty_three[4], thirty_three[14], thirty_three[22]) = (9, 1, 1);
    let cashless_answer = |at: usize, value: u8| {
        let mut bytes = header(61, 0xA0, 0);
        (bytes[4], bytes[12]) = (9, 210);
        bytes[14..17].copy_from_slice(b"EUR");
        bytes[at] = value;
        bytes
    };
    for sound in [scan(25, 2), pay(4, 9), refund(4, 9), cashless_answer(4, 9)] {
        assert!(matches!(decode(&sound), Ok(Some(_))), "only the one byte is wrong below");
    }
    let long_qr = {
        let mut bytes = header(26 + 514, 0x10, 0);
        bytes[25] = 2;
        bytes
    };
    for (bytes, error, what) in [
        (header(3, 0x1F, 0), WireError::Length(3), "shorter than its own header"),
        (header(1_025, 0x10, 0), WireError::Length(1_025), "longer than any frame"),
        (header(4, 0x00, 0), WireError::Kind(0), "no such kind"),
        (header(u16::MAX, 0xFF, 0), WireError::Length(65_535), "noise"),
        (header(5, 0x1F, 0), WireError::LengthOfKind { kind: 0x1F, len: 5 }, "a bye with something in it"),
        (header(25, 0x10, 0), WireError::LengthOfKind { kind: 0x10, len: 25 }, "a scan that is cut short"),
        (header(67, 0x02, 0), WireError::LengthOfKind { kind: 0x02, len: 67 }, "a proof that is cut short"),
        (header(4, 0x91, 0), WireError::LengthOfKind { kind: 0x91, len: 4 }, "a confirmation of nothing"),
        (hello(1), WireError::Protocol(1), "an earlier protocol"),
        (hello(3), WireError::Protocol(3), "a later protocol"),
        (header(6, 0x01, 0), WireError::Protocol(0), "another protocol with another hello"),
        (scan(3, 2), WireError::Field("flags"), "a flag nobody knows"),
        (scan(12, 10), WireError::Field("floor"), "a floor below nothing"),
        (scan(22, 64), WireError::Field("zone"), "a zone no festival has"),
        (scan(23, 2), WireError::Field("direction"), "neither in nor out"),
        (scan(24, 199), WireError::Field("shown"), "no verdict"),
        (header(26, 0x20, 0), WireError::LengthOfKind { kind: 0x20, len: 26 }, "a payment that is cut short"),
        (pay(41, 1), WireError::LengthOfKind { kind: 0x20, len: 51 }, "a line that is not there"),
        (pay(41, 33), WireError::Field("lines"), "more lines than a payment has"),
        (pay(3, 2), WireError::Field("flags"), "a flag nobody knows"),
        (pay(12, 10), WireError::Field("floor"), "a floor below nothing"),
        (pay(38, b'e'), WireError::Field("currency"), "a currency in small letters"),
        (pay(42, 0), WireError::Field("qr"), "no kind of name"),
        (pay(42, 5), WireError::Field("qr"), "a name of tomorrow"),
        (pay(42, 3), WireError::Field("tag"), "a wristband of eight bytes"),
        (pay(42, 1), WireError::Field("qr"), "a packed QR that is not there"),
        (pay(43, 0), WireError::Field("wallet"), "the wallet that nobody has"),
        (refund(3, 2), WireError::LengthOfKind { kind: 0x21, len: 30 }, "a part of how much?"),
        (refund(3, 4), WireError::LengthOfKind { kind: 0x21, len: 30 }, "products, and none of them"),
        (header(32, 0x21, 4), WireError::LengthOfKind { kind: 0x21, len: 32 }, "half a product"),
        (header(34, 0x21, 0), WireError::LengthOfKind { kind: 0x21, len: 34 }, "a product that no flag speaks of"),
        (thirty_three, WireError::Field("lines"), "more products than a payment has lines"),
        (refund(22, 0), WireError::Field("payment"), "a transaction that never is"),
        (refund(29, 1), WireError::Field("payment"), "a serial beyond all"),
        (refund(14, 0), WireError::Field("payment"), "a payment by nobody"),
        (header(23, 0x23, 0), WireError::Field("qr"), "whose balance?"),
        (cashless_answer(12, 200), WireError::Field("verdict"), "a reader's verdict"),
        (cashless_answer(14, 0), WireError::Field("currency"), "an answer in no currency"),
        (cashless_answer(3, 1), WireError::Field("flags"), "it is always on disk"),
    ] {
        assert_eq!(decode(&bytes), Err(error), "{what}");
        // A command with its number is answered, whatever else it says; all else ends the connection.
        let answered = unusable(&bytes, error);
        let is_framed = matches!(error, WireError::Field(_) | WireError::LengthOfKind { .. });
        let has_number = is_framed && bytes.len() >= 12 && matches!(bytes[2], 0x10 | 0x11 | 0x20..=0x23);
        assert_eq!(answered.is_some(), has_number, "{what}");
        assert!(answered.is_none_or(|command| command.len == bytes.len()), "{what}");
    }
    for (bytes, what) in [
        (scan(25, 0), "no kind of credential"),
        (scan(25, 3), "a wristband without a UID"),
        (scan(25, 1), "a packed QR that is not there"),
        (long_qr, "a QR that should have been cut"),
    ] {
        let Ok(Some((Frame::Scan(read), _))) = decode(&bytes) else { panic!("{what}") };
        assert!(matches!(read.credential, Credential::Unreadable { .. }), "{what}");
    }
}

#[test]
fn a_scan_and_its_answer_are_small() {
    let ticket = TicketId::new(FestivalId(1), CategoryNo(1), 1, 1);
    let qr = text(&QrSecret::new(&[7; 32]).unwrap().key(FestivalId(1), 1).sign(ticket, 1));
    let scan = |credential| {
        Frame::Scan(Scan {
            seq: 1,
            floor: 1,
            captured_at: Timestamp(0),
            zone: ZoneNo(0),
            direction: Direction::Enter,
            shown: None,
            resent: false,
            credential,
        })
        .to_bytes()
        .len()
    };
    let mut answer = DeviceAnswer::rejected(Rejection::AlreadyUsed, ZoneNo(0), Timestamp(0));
    answer.ticket = Some(ticket);
    let plain = Frame::Answer { seq: 1, answer, durable: true }.to_bytes().len();
    answer.first_use = Some(FirstUse { at: Timestamp(0), zone: ZoneNo(0), gate: GateNo(0) });
    let with_first_use = Frame::Answer { seq: 1, answer, durable: true }.to_bytes().len();
    assert_eq!(
        [scan(Credential::of_qr(qr.as_bytes())), scan(Credential::of_qr(b"an advert")), plain, with_first_use],
        [78, 35, 44, 56]
    );
}

#[test]
fn a_payment_and_its_answer_are_small() {
    let pay = |wallet, lines: &[LineItem]| {
        let amount = Money { minor: 500, currency: Currency::EUR };
        let (captured_at, expires_at) = (Timestamp(1), Timestamp(0));
        Frame::Pay(Pay { seq: 1, floor: 1, captured_at, expires_at, wallet, amount, lines, resent: false })
            .to_bytes()
            .len()
    };
    let uid = TagUid::new(&[4, 1, 2, 3, 4, 5, 6]).unwrap();
    let line = LineItem::from(Line { product: ProductNo(0), count: 1, price: 500 });
    let longest = [b'x'; QR_SENT_MAX];
    let answer = TerminalAnswer::rejected(Rejection::InsufficientFunds, WalletId(1), Timestamp(0));
    assert_eq!(
        [
            pay(WalletName::Tag(uid), &[]),
            pay(WalletName::Id(WalletId(1)), &[]),
            pay(WalletName::Tag(uid), &[line; 2]),
            pay(WalletName::Raw(&longest), &[line; LINES_MAX]),
            Frame::CashlessAnswer { seq: 1, answer }.to_bytes().len(),
        ],
        [50, 51, 74, 940, 61]
    );
}

#[test]
fn a_wallets_qr_is_packed_and_nothing_else() {
    let key = QrSecret::new(&[7; 32]).unwrap().key(FestivalId(1), 1);
    let claim = key.sign_wallet(WalletId(7), FestivalId(1), 1);
    let qr = wallet_text(&claim);
    assert_eq!(WalletName::of_qr(format!("{qr}\r\n").as_bytes()), WalletName::Packed(claim));
    let ticket = text(&key.sign(TicketId::new(FestivalId(1), CategoryNo(1), 1, 1), 1));
    assert_eq!(WalletName::of_qr(ticket.as_bytes()), WalletName::Raw(ticket.as_bytes()));
    let long = [b'x'; 2_000];
    assert_eq!(WalletName::of_qr(&long), WalletName::Raw(&long[..513]));
}

#[test]
fn only_the_printed_spelling_is_packed() {
    let ticket = TicketId::new(FestivalId(1), CategoryNo(1), 1, 1);
    let qr = text(&QrSecret::new(&[7; 32]).unwrap().key(FestivalId(1), 1).sign(ticket, 1));
    let packed = credential::parse(qr.as_bytes()).unwrap();
    assert_eq!(Credential::of_qr(qr.as_bytes()), Credential::Packed(packed));
    assert_eq!(
        Credential::of_qr(format!("{qr}\r\n").as_bytes()),
        Credential::Packed(packed),
        "a hand scanner's line end"
    );
    let spaced = qr.replace(':', " : ");
    assert_eq!(
        Credential::of_qr(spaced.as_bytes()),
        Credential::Raw(spaced.as_bytes()),
        "shown to the audit as it was"
    );
    let long = [b'x'; 2_000];
    assert_eq!(Credential::of_qr(&long), Credential::Raw(&long[..513]));
    assert_eq!(credential::parse(&long[..513]), Err(Rejection::InvalidQr), "still too long when it arrives");
}

#[test]
fn refusals_have_numbers_that_lead_back() {
    let mut found = 0;
    for number in 0..=u16::MAX {
        if let Some(refusal) = Refusal::from_number(number) {
            assert_eq!(refusal.number(), number);
            assert!(refusal.close_code() > close::DONE && !refusal.sentence().is_empty());
            found += 1;
        }
    }
    assert_eq!(found, Rejection::ALL.len() + 8);
}
