//! The record format, byte for byte: `records.golden` has an event of each kind as it was written the day its kind was
//! made. A festival that was recorded then is read like this for ever, so lines are added and never changed or taken out: a
//! change that fails here breaks somebody's journal. A line that is missing is printed, to be copied to the end of the file.
//!
//! Where a later format writes a kind otherwise, the old line stays and has to be read as what it was; only what is written
//! is then compared with a new line.

use std::collections::{BTreeMap, BTreeSet};

use engine::cashless::command::*;

use engine::cashless::event::*;
use engine::event::*;
use engine::gates::command::*;
use engine::gates::event::*;
use engine::model::ids::*;
use engine::model::money::{Currency, Money};
use engine::model::principal::Principal;
use engine::model::rejection::Rejection;
use engine::model::status::*;
use engine::model::time::{Calendar, Timestamp};
use engine::record::{self, Record, Writer};
use engine::shard::outbox::{Entry, Message, TagTarget};

const GOLDEN: &str = include_str!("records.golden");
const PROTO: &str = include_str!("../proto/record.proto");

/// 2027-07-01 20:00 UTC.
const AT: Timestamp = Timestamp(1_814_472_000_000);
const FESTIVAL: FestivalId = FestivalId(0x1A2B_3C4D);
const WALLET: WalletId = WalletId(0x0123_4567_89AB_CDEF);
const OTHER: WalletId = WalletId(0xFEDC_BA98_7654_3210);
const PERSON: u128 = 0x0192_ABCD_EF01_7234_8567_89AB_CDEF_0123;

fn earlier(ms: i64) -> Timestamp {
    AT.plus_ms(-ms)
}
fn device(number: u32) -> DeviceId {
    DeviceId::new(FESTIVAL, number)
}
fn ticket() -> TicketId {
    TicketId::new(FESTIVAL, CategoryNo(2), 70_000, 0x0155_5AAA_AFFF)
}
fn tag() -> TagUid {
    TagUid::new(&[0x04, 0xA1, 0xB2, 0xC3, 0xD4, 0xE5, 0xF6]).unwrap()
}
fn long_tag() -> TagUid {
    TagUid::new(&[0x04, 1, 2, 3, 4, 5, 6, 7, 8, 9]).unwrap()
}
fn calendar() -> Calendar {
    Calendar { time_zone: "Europe/Berlin".into(), day_starts_min: 360 }
}
fn eur(minor: i64) -> Money {
    Money { minor, currency: Currency::EUR }
}
fn details() -> Details {
    Details {
        name: "Night".into(),
        starts_at: earlier(3_600_000),
        ends_at: AT.plus_ms(86_400_000),
        location: "Airfield".into(),
        max_capacity: Some(20_000),
        calendar: calendar(),
    }
}
fn policy() -> CashlessPolicy {
    CashlessPolicy {
        currency: Currency::EUR,
        min_topup: 500,
        max_topup: 50_000,
        max_balance: 100_000,
        min_payment: 1,
        foreign_wallets: true,
    }
}
fn vendor() -> VendorValues {
    VendorValues { name: "Bar 7".into(), kind: VendorKind::Bar, commission_bp: 1_000, open: true }
}
fn product() -> ProductValues {
    ProductValues { name: "Cup, given back".into(), price: -200, vat_bp: 1_900, on_sale: true }
}

fn scanned() -> Scanned {
    Scanned {
        device: device(17),
        seq: 1_000,
        floor: 990,
        fingerprint: 0xDEAD_BEEF,
        zone: ZoneNo(3),
        gate: GateNo(300),
        direction: Direction::Enter,
        verdict: Verdict::Admitted,
        flags: FIRST_ENTRY,
        ticket: Some(ticket()),
        occupancy: 4_321,
        first_use: None,
        captured_at: earlier(40),
        taken_at: AT,
        instead_of: None,
        credential: 0,
        tag: None,
    }
}

fn undone() -> Undone {
    Undone {
        by: Some(ByDevice { device: device(17), seq: 1_001, floor: 990, fingerprint: 7 }),
        zone: ZoneNo(3),
        gate: GateNo(300),
        verdict: Verdict::Undone,
        ticket: ticket(),
        inside: 1 << 63 | 1,
        unused: true,
        occupancy: 4_320,
        scan: Some(TakenBack { gate: GateNo(300), direction: Direction::Enter, minute: earlier(60_000) }),
    }
}

fn payment() -> Transaction {
    Transaction {
        by: Some(ByDevice { device: device(18), seq: 77, floor: 70, fingerprint: 0xFEED_F00D }),
        kind: TransactionKind::Payment,
        rejection: None,
        flags: 0,
        festival: FESTIVAL,
        wallet: WALLET,
        tap: Some((tag(), 3)),
        serial: 123_456,
        amount: 1_250,
        currency: Currency::EUR,
        before: 5_000,
        after: 3_750,
        posting: Posting { wallet: -1_250, vendor: 1_125, commission: 125, ..Posting::default() },
        lots: Lots::one(Source::desk(FESTIVAL, 7), 1_250),
        vendor: VendorNo(7),
        order: 4_097,
        commission_bp: 1_000,
        of: 0,
        other: None,
        lines: vec![
            SoldLine { product: ProductNo(0), count: 2, price: 725, vat_bp: 1_900 },
            SoldLine { product: ProductNo(4), count: 1, price: -200, vat_bp: 700 },
        ],
        reason: String::new(),
    }
}

/// Not by a terminal; nothing of a payment's in it.
fn moved(kind: TransactionKind, amount: i64, posting: Posting, lots: &[(Source, i64)]) -> Transaction {
    let lots = lots.iter().map(|(source, amount)| Lot { source: *source, amount: *amount }).collect();
    let (after, lines) = (5_000 + posting.wallet, Vec::new());
    let (by, tap, vendor, order, commission_bp) = (None, None, VendorNo(0), 0, 0);
    Transaction { by, tap, kind, amount, after, posting, lots, vendor, order, commission_bp, lines, ..payment() }
}

fn transactions() -> Vec<(&'static str, Transaction)> {
    use TransactionKind::*;
    let (card, bank) = (Source::new(SourceKind::Card, FESTIVAL, 8_001), Source::new(SourceKind::Bank, FESTIVAL, 8_002));
    let none = Posting::default();
    let topped_up = |source| moved(TopUp, 2_000, Posting { wallet: 2_000, source: -2_000, ..none }, &[(source, 2_000)]);
    let refused = Transaction {
        rejection: Some(Rejection::InsufficientFunds),
        serial: 0,
        after: 5_000,
        posting: none,
        lots: Lots::default(),
        order: 0,
        lines: vec![],
        ..payment()
    };
    let several = Source { number: Source::SEVERAL, ..Source::terminal(device(9)) };
    let lots = [(Source::gift(FESTIVAL), 50), (card, 1_000), (several, 200)];
    let refund_posting = Posting { wallet: 1_250, vendor: -1_125, commission: -125, ..none };
    let refund = Transaction { of: 123_455, ..moved(Refund, 1_250, refund_posting, &lots) };
    let away = Posting { wallet: -1_250, in_transit: 1_250, ..none };
    let here = Posting { wallet: 1_250, in_transit: -1_250, ..none };
    let transfer = |kind, posting, rejection| Transaction {
        of: 99,
        other: Some(OTHER),
        rejection,
        ..moved(kind, 1_250, posting, &[(Source::correction(FestivalId(5)), 1_250)])
    };
    let downwards = Posting { wallet: -700, source: 300, corrections: 400, ..none };
    let correction = Transaction {
        reason: "counted again".into(),
        ..moved(Correction, -700, downwards, &[(Source::gift(FESTIVAL), 300), (bank, 400)])
    };
    let out = Posting { wallet: -5_000, source: 5_000, ..none };
    let cash_out = moved(CashOut, 5_000, out, &[(card, 4_000), (Source::terminal(device(9)), 1_000)]);
    let lapse = moved(Lapse, 300, Posting { wallet: -300, source: 300, ..none }, &[(Source::gift(FESTIVAL), 300)]);
    vec![
        ("payment", payment()),
        ("payment_refused", refused),
        ("topup_at_a_terminal", Transaction { by: payment().by, ..topped_up(Source::terminal(device(9))) }),
        ("topup_at_a_desk", Transaction { flags: OVER_LIMIT, ..topped_up(Source::desk(FESTIVAL, 7)) }),
        ("topup_at_a_persons_desk", topped_up(Source::new(SourceKind::Desk, FESTIVAL, (1 << 32) + 5))),
        ("topup_by_card", topped_up(card)),
        ("topup_through_another_provider", topped_up(Source { provider: ProviderNo(2), ..card })),
        ("topup_by_bank_transfer", topped_up(bank)),
        ("refund_of_several_lots", refund),
        ("transfer_out", transfer(TransferOut, away, None)),
        ("transfer_in", transfer(TransferIn, here, None)),
        ("transfer_back", transfer(TransferBack, here, Some(Rejection::AboveMaxBalance))),
        ("correction", correction),
        ("cash_out", cash_out),
        ("lapse", lapse),
    ]
}

fn asked() -> Vec<(&'static str, Origin)> {
    let by_key = Origin { by: Principal::ApiKey(7), key: Some((PERSON, 42)), rejection: None, already: None };
    let by = |by| Origin { by, key: None, ..by_key };
    let other = Principal::Other { kind: 9, id: PersonId::from_u128(PERSON) };
    vec![
        ("asked_by_an_api_key", by_key),
        ("asked_by_the_installation", by(Principal::Installation)),
        ("asked_by_a_person", by(Principal::Person(PersonId::from_u128(PERSON)))),
        ("asked_by_a_device", by(Principal::Device(device(17)))),
        ("asked_by_a_webhook", by(Principal::Webhook(ProviderNo::STRIPE))),
        ("asked_by_a_node", by(Principal::Node(NodeNo(3)))),
        ("asked_by_a_kind_to_come", by(other)),
        ("asked_and_refused", Origin { rejection: Some(Rejection::SoldOut), ..by_key }),
        ("asked_and_so_already", Origin { already: Some(Already::Done), ..by_key }),
        ("asked_and_enrolled_already", Origin { already: Some(Already::Device(device(17))), ..by_key }),
        ("asked_and_a_wallet_already", Origin { already: Some(Already::Wallet(WALLET)), ..by_key }),
    ]
}

fn scans() -> Vec<(&'static str, Scanned)> {
    let first_use = Some(FirstUse { at: earlier(3_600_000), zone: ZoneNo(0), gate: GateNo(1) });
    let refused = Scanned {
        verdict: Verdict::Rejected(Rejection::AlreadyUsed),
        flags: UNLOGGED,
        direction: Direction::Exit,
        first_use,
        ..scanned()
    };
    let forged = Scanned {
        verdict: Verdict::Rejected(Rejection::TamperedQr),
        ticket: None,
        occupancy: 0,
        credential: 0xCAFE_F00D,
        // Its clock is ahead.
        captured_at: AT.plus_ms(500),
        ..scanned()
    };
    let conflict = Scanned {
        flags: CONFLICT,
        tag: Some(long_tag()),
        captured_at: earlier(90_000),
        taken_at: earlier(60_000),
        instead_of: Some(Rejection::AlreadyInside),
        ..scanned()
    };
    vec![
        ("scanned", scanned()),
        ("scanned_by_wristband", Scanned { tag: Some(tag()), ..scanned() }),
        ("scanned_and_refused", refused),
        ("scanned_and_forged", forged),
        ("scanned_and_in_conflict", conflict),
    ]
}

fn gates() -> Vec<(&'static str, Event)> {
    use Event::*;
    let (code_hash, public_key, name) = ([1; 32], [2; 32], || "Gate 3".to_owned());
    let gate_policy = Policy { entry: EntryPolicy::Reentry, ack: ScanAck::Decided, log_one_rejection_in: 10 };
    let category = CategoryValues {
        name: "VIP".into(),
        kind: CategoryKind::Vip,
        price: eur(8_900),
        quota: 500,
        zones: 0b1011,
        valid_from: Timestamp(-1),
        valid_until: AT,
    };
    let admitted = AdmittedByHand {
        ticket: ticket(),
        gate: GateNo(2),
        zone: ZoneNo(1),
        instead_of: Some(Rejection::AlreadyUsed),
        first_entry: true,
        occupancy: 12,
        reason: "forgot her jacket".into(),
    };
    let reason = || "a test".to_owned();
    vec![
        ("undone", Undone(undone())),
        ("undone_by_the_office", Undone(engine::gates::event::Undone { by: None, ..undone() })),
        ("expired", Expired),
        ("device_connected", DeviceConnected { device: device(17), session: 5 }),
        ("device_left", DeviceLeft { device: device(17), session: 5 }),
        ("device_clock_seen", DeviceClockSeen { device: device(17), off_ms: -45_000 }),
        ("device_pins", DevicePins { device: device(17), pins: [0xA1, 0xB2] }),
        (
            "festival_created",
            FestivalCreated {
                slug: "night".into(),
                name: "Night".into(),
                starts_at: earlier(1),
                ends_at: AT,
                policy: gate_policy,
                calendar: calendar(),
            },
        ),
        ("festival_status_set", FestivalStatusSet { festival: FESTIVAL, to: FestivalStatus::Ongoing }),
        ("policy_set", PolicySet { festival: FESTIVAL, policy: gate_policy }),
        (
            "zone_put",
            ZonePut { festival: FESTIVAL, zone: ZoneNo(3), name: "Pit".into(), parent: Some(ZoneNo(0)), capacity: 900 },
        ),
        ("gate_added", GateAdded { festival: FESTIVAL, gate: GateNo(300), zone: ZoneNo(3), name: name() }),
        ("category_put", CategoryPut { festival: FESTIVAL, category: CategoryNo(2), values: category }),
        (
            "tickets_issued",
            TicketsIssued {
                festival: FESTIVAL,
                category: CategoryNo(2),
                first_serial: 70_000,
                count: 2,
                seed: u64::MAX,
                paid: true,
                holders: vec![Some(PERSON), None],
            },
        ),
        (
            "ticket_status_set",
            TicketStatusSet { ticket: ticket(), from: TicketStatus::Sold, to: TicketStatus::Cancelled },
        ),
        ("ticket_block_set", TicketBlockSet { ticket: ticket(), blocked: true }),
        ("tag_bound", TagBound { ticket: ticket(), tag: tag() }),
        ("zone_state_set", ZoneStateSet { festival: FESTIVAL, zone: ZoneNo(3), state: ZoneState::Evacuating }),
        (
            "enrolment_offered",
            EnrolmentOffered { festival: FESTIVAL, gate: GateNo(300), code_hash, name: name(), until: AT },
        ),
        (
            "device_enrolled",
            DeviceEnrolled { device: device(17), gate: GateNo(300), public_key, name: name(), code_hash },
        ),
        ("device_revoked", DeviceRevoked { device: device(17) }),
        ("qr_key_rotated", QrKeyRotated { festival: FESTIVAL, version: 2 }),
        (
            "api_key_created",
            ApiKeyCreated {
                key: 7,
                hash: [3; 32],
                role: Role::Cashier,
                festivals: vec![FESTIVAL],
                name: "Desk".into(),
            },
        ),
        ("api_key_revoked", ApiKeyRevoked { key: 7 }),
        ("festival_reopened", ByHand(DoneByHand::Reopened { festival: FESTIVAL, reason: reason() })),
        ("festival_edited", ByHand(DoneByHand::Edited { festival: FESTIVAL, details: details() })),
        ("scans_reset", ByHand(DoneByHand::ScansReset { festival: FESTIVAL, reason: reason(), tickets: 12 })),
        (
            "ticket_restored",
            ByHand(DoneByHand::TicketRestored { ticket: ticket(), from: TicketStatus::Refunded, reason: reason() }),
        ),
        ("device_readmitted", ByHand(DoneByHand::DeviceReadmitted { device: device(17), reason: reason() })),
        ("admitted_by_hand", ByHand(DoneByHand::Admitted { admitted })),
    ]
}

fn cashless() -> Vec<(&'static str, CashlessEvent)> {
    use CashlessEvent::*;
    let (festival, wallet, tag, op, version, ticket) = (FESTIVAL, WALLET, tag(), 99, 3, ticket());
    let rejection = Rejection::TagTaken;
    let (code_hash, public_key, name) = ([1; 32], [2; 32], || "Till 3".to_owned());
    vec![
        ("cash_policy_set", PolicySet { festival, policy: policy(), status: FestivalStatus::Published }),
        ("vendor_put", VendorPut { festival, vendor: VendorNo(7), values: vendor() }),
        ("product_put", ProductPut { festival, vendor: VendorNo(7), product: ProductNo(4), values: product() }),
        (
            "terminal_offered",
            TerminalOffered { festival, vendor: Some(VendorNo(0)), cashier: true, code_hash, name: name(), until: AT },
        ),
        (
            "terminal_enrolled",
            TerminalEnrolled { device: device(18), vendor: None, cashier: true, public_key, name: name(), code_hash },
        ),
        ("wallet_created", WalletCreated { wallet, issuer: festival, currency: Currency::EUR, account: Some(PERSON) }),
        ("wallet_claimed", WalletClaimed { wallet, account: PERSON }),
        ("wallet_block_set", WalletBlockSet { wallet, blocked: true }),
        ("wallet_tag_lost", WalletTagLost { wallet, tag, version, op }),
        ("tag_attached", TagAttached { wallet, tag: long_tag(), version }),
        ("tag_linking", TagLinking { tag, wallet, version, op, festival }),
        ("tag_linked", TagLinked { tag, op, carry: true }),
        ("tag_refused", TagRefused { tag, op, rejection }),
        ("tag_freed", TagFreed { tag }),
        ("tag_lost", TagLost { tag, op }),
        ("tag_binding", TagBinding { tag, ticket, op }),
        ("tag_bind_taken", TagBindTaken { tag, op, carry: true }),
        ("tag_bind_refused", TagBindRefused { tag, op, rejection }),
        ("tag_unbound", TagUnbound { tag }),
        ("tag_carried", TagCarried { tag, op }),
        ("tag_barred", TagBarred { festival, tag, op }),
        ("loss_known", LossKnown { op }),
        ("transfer_settled", TransferSettled { op }),
        ("transfer_cancel_asked", TransferCancelAsked { op }),
        ("currency_changing", CurrencyChanging { festival, policy: policy(), op, others: 15 }),
        ("currency_held", CurrencyHeld { festival }),
        ("currency_voted", CurrencyVoted { op, booked: true }),
        ("currency_released", CurrencyReleased { festival }),
    ]
}

fn messages() -> Vec<(&'static str, Message)> {
    use Message::*;
    let (festival, wallet, tag, op, version, ticket) = (FESTIVAL, WALLET, tag(), 99, 3, ticket());
    let (from, rejection, to) = (Some(long_tag()), Rejection::TagTaken, Some((long_tag(), 100)));
    let lots = [(Source::new(SourceKind::Card, festival, 8_001), 1_000), (Source::desk(FestivalId(5), 7), 250)];
    let credit = Credit {
        op,
        from: wallet,
        to: OTHER,
        festival,
        issuer: FestivalId(5),
        currency: Currency::EUR,
        lots: lots.map(|(source, amount)| Lot { source, amount }).into_iter().collect(),
        account: Some(PERSON),
    };
    let status = FestivalStatus::Ongoing;
    vec![
        ("tells_of_a_festival", Directory(Entry::Festival { festival, policy: policy(), status })),
        ("tells_of_a_vendor", Directory(Entry::Vendor { festival, vendor: VendorNo(7), values: vendor() })),
        (
            "tells_of_a_product",
            Directory(Entry::Product { festival, vendor: VendorNo(7), product: ProductNo(4), values: product() }),
        ),
        (
            "tells_of_a_terminal",
            Directory(Entry::Terminal { device: device(18), vendor: Some(VendorNo(0)), cashier: true, revoked: true }),
        ),
        ("credit", credit),
        ("credited", Credited { op }),
        ("declined", Declined { op, rejection: Rejection::WalletBlocked }),
        ("cancel", Cancel { op }),
        ("link", Link { op, tag, wallet, version, festival, replace: true, create: true, from }),
        ("link_taken", LinkTaken { op, carry: true }),
        ("link_refused", LinkRefused { op, rejection }),
        ("unlink", Unlink { tag, wallet, version, to }),
        ("lost", Lost { tag, named: TagTarget::Wallet(wallet, version), op }),
        ("bind", Bind { op, tag, ticket, from }),
        ("bind_taken", BindTaken { op, carry: true }),
        ("bind_refused", BindRefused { op, rejection }),
        ("unbind", Unbind { tag, ticket, to }),
        ("carry", Carry { op, tag, from: long_tag(), named: Some(TagTarget::Ticket(ticket)) }),
        ("bar", Bar { tag, named: TagTarget::Ticket(ticket), then: (ShardId(3), op) }),
        ("loss_heard", LossKnown { op }),
        ("currency_ask", CurrencyAsk { op, festival }),
        ("currency_vote", CurrencyVote { op, booked: true }),
        ("currency_decided", CurrencyDecided { op, festival }),
    ]
}

/// An event of each kind, by name. What is added goes to the end of its list; nothing else ever changes.
fn events() -> Vec<(String, Event)> {
    let named = |name: &str, event| (name.to_owned(), event);
    let mut all: Vec<(String, Event)> =
        scans().into_iter().map(|(name, scan)| named(name, Event::Scanned(scan))).collect();
    all.extend(gates().into_iter().map(|(name, event)| named(name, event)));
    all.extend(asked().into_iter().map(|(name, asked)| named(name, Event::Origin(asked))));
    all.extend(transactions().into_iter().map(|(name, t)| named(name, Event::Transaction(t))));
    all.extend(cashless().into_iter().map(|(name, event)| named(name, Event::Cashless(event))));
    for (n, (name, message)) in (1..).zip(messages()) {
        all.push((format!("sent:{name}"), Event::Sent { to: ShardId(2), n, message: message.clone() }));
        if n == 1 {
            all.push((format!("received:{name}"), Event::Received { from: ShardId(2), n, message }));
        }
    }
    all.push(named("delivered", Event::Delivered { to: ShardId(2), through: 300 }));
    all
}

fn record_of(event: &Event) -> Record {
    Record { shard: ShardId(5), seq: 1_000, at: AT, events: vec![event.clone()] }
}

fn written(record: &Record) -> Vec<u8> {
    let mut bytes = Vec::new();
    let mut writer = Writer::begin(&mut bytes, record.shard, record.seq, record.at);
    record.events.iter().for_each(|event| writer.push(event));
    bytes
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

fn unhex(text: &str) -> Vec<u8> {
    let pairs = text.as_bytes().chunks(2).map(|pair| std::str::from_utf8(pair).unwrap());
    pairs.map(|pair| u8::from_str_radix(pair, 16).unwrap()).collect()
}

fn lines() -> impl Iterator<Item = (&'static str, Vec<u8>)> {
    let lines = GOLDEN.lines().filter(|line| !line.is_empty() && !line.starts_with('#'));
    lines
        .map(|line| line.split_once(' ').expect("a name, a space, the record in hexadecimal"))
        .map(|(n, h)| (n, unhex(h)))
}

#[test]
fn each_kind_is_written_and_read_as_on_its_first_day() {
    let golden: BTreeMap<&str, Vec<u8>> = lines().collect();
    assert_eq!(golden.len(), lines().count(), "each name once");
    let mut missing = Vec::new();
    let mut known = BTreeSet::new();
    for (name, event) in events() {
        let record = record_of(&event);
        let bytes = written(&record);
        match golden.get(name.as_str()) {
            Some(first) => {
                assert_eq!(record::read(first).as_ref(), Ok(&record), "{name} is not read as what it was");
                assert_eq!(hex(&bytes), hex(first), "{name} is written otherwise");
            }
            None => missing.push(format!("{name} {}", hex(&bytes))),
        }
        assert!(known.insert(name), "each name once");
    }
    let strange: Vec<&&str> = golden.keys().filter(|name| !known.contains(**name)).collect();
    assert!(strange.is_empty(), "{strange:?} have a line and no event: nothing is ever taken out");
    assert!(missing.is_empty(), "new kinds; add to records.golden:\n{}", missing.join("\n"));
}

/// The first varint of these bytes, and what is behind it.
fn varint(bytes: &[u8]) -> (u64, &[u8]) {
    let len = bytes.iter().position(|byte| byte & 0x80 == 0).unwrap() + 1;
    let value = bytes[..len].iter().rev().fold(0, |value, byte| value << 7 | u64::from(byte & 0x7F));
    (value, &bytes[len..])
}

/// What field `number` of a message has, if it is of varying length.
fn field(mut bytes: &[u8], number: u64) -> Option<&[u8]> {
    while !bytes.is_empty() {
        let (key, rest) = varint(bytes);
        let len = match key & 7 {
            0 => rest.len() - varint(rest).1.len(),
            1 => 8,
            5 => 4,
            _ => varint(rest).0 as usize,
        };
        let rest = if key & 7 == 2 { varint(rest).1 } else { rest };
        if key >> 3 == number {
            return Some(&rest[..len]);
        }
        bytes = &rest[len..];
    }
    None
}

/// The numbers of a `oneof` in record.proto.
fn numbers(oneof: &str) -> BTreeSet<u64> {
    let (_, behind) = PROTO.split_once(&format!("oneof {oneof} {{\n")).unwrap();
    let (fields, _) = behind.split_once("\n  }\n").unwrap();
    let fields = fields.lines().filter_map(|line| line.trim().strip_suffix(';')?.split_once(" = "));
    fields.map(|(_, number)| number.parse().unwrap()).collect()
}

/// Kinds of events and messages that record.proto has and nobody has pinned.
#[test]
fn each_kind_has_a_line() {
    let mut events = BTreeSet::new();
    let mut messages = BTreeSet::new();
    for (_, bytes) in lines() {
        let event = field(&bytes, 5).unwrap();
        let kind = varint(event).0 >> 3;
        events.insert(kind);
        // Sent and received.
        if let 5 | 6 = kind {
            let message = field(field(event, kind).unwrap(), 3).unwrap();
            messages.insert(varint(message).0 >> 3);
        }
    }
    assert_eq!(events, numbers("kind"));
    assert_eq!(messages, numbers("what"));
    assert!(events.len() > 60 && messages.len() > 20, "{} and {}", events.len(), messages.len());
}

/// What an evening is full of stays small on disk; what an event takes in its record, in bytes.
#[test]
fn what_there_is_much_of_is_small() {
    for (name, most) in [
        ("scanned", 56),
        ("scanned_by_wristband", 69),
        ("scanned_and_refused", 69),
        ("payment", 124),
        ("payment_refused", 77),
        ("asked_by_an_api_key", 37),
        ("device_connected", 22),
    ] {
        let (_, bytes) = lines().find(|(of, _)| *of == name).unwrap();
        let head = written(&Record { events: vec![], ..record_of(&Event::Expired) }).len();
        assert!(bytes.len() - head <= most, "{name} takes {}", bytes.len() - head);
    }
}
