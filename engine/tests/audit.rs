//! The audit holds on honest nights, and finds each planted lie: a hand-made record behind an honest stream.

mod common;
use common::{MIDNIGHT, World, values};
use engine::audit::{Audit, Check, Report, VIOLATIONS_MAX};
use engine::command::*;
use engine::event::{Event, Origin};
use engine::gates::command::*;
use engine::gates::event::{ByDevice, Scanned, TakenBack, Undone};
use engine::model::ids::*;
use engine::model::principal::Principal;
use engine::model::rejection::Rejection;
use engine::model::status::*;
use engine::model::time::{Calendar, HOUR_MS, MINUTE_MS, Timestamp};
use engine::record::Writer;

/// T1 is in main and stage, T2 was and left, T3 is SOLD, T4 blocked, U1 RESERVED; main-2 is revoked.
fn honest() -> World {
    let mut night = World::open();
    night.play(
        "
        issue U1 day unpaid
        category few main quota 2
        issue F1 few
        18:00 enter T1 main
        enter T1 stage
        enter T2 main
        exit T2 main
        block T4
        enter T4 main → rejected: blocked
        revoke main-2
        wristband W1 T1
        rotate
        ",
    );
    night
}

fn audit(night: &World, more: &[Vec<u8>]) -> Report {
    let mut audit = Audit::new(1);
    night.records.iter().chain(more).for_each(|record| audit.record(ShardId(0), record));
    audit.finish()
}

fn write(shard: u16, seq: u64, at: Timestamp, events: &[Event]) -> Vec<u8> {
    let mut bytes = Vec::new();
    let mut writer = Writer::begin(&mut bytes, ShardId(shard), seq, at);
    events.iter().for_each(|event| writer.push(event));
    bytes
}

/// An honest stream, then one record with these events. Gives back which checks failed, all at that record.
fn planted(night: &World, events: &[Event]) -> Vec<&'static str> {
    let seq = night.shard.seq() + 1;
    let report = audit(night, &[write(0, seq, night.now, events)]);
    assert!(!report.holds(), "not found: {events:?}");
    assert!(report.violations.iter().all(|found| (found.shard, found.seq) == (0, seq)), "{:?}", report.violations);
    let mut failed: Vec<_> = report.violations.iter().map(|found| found.check).collect();
    failed.sort_unstable();
    failed.dedup();
    failed
}

/// What an honest reader would have written: T3 enters main.
fn entry(night: &World) -> Scanned {
    Scanned {
        device: night.readers["main-1"].id,
        seq: 100,
        floor: 100,
        fingerprint: 1,
        zone: night.zones["main"],
        gate: GateNo(0),
        direction: Direction::Enter,
        verdict: Verdict::Admitted,
        flags: FIRST_ENTRY,
        ticket: Some(night.tickets["T3"]),
        occupancy: 2,
        first_use: None,
        captured_at: night.now,
        taken_at: night.now,
        instead_of: None,
        credential: 0,
        tag: None,
    }
}

fn asked() -> Event {
    Event::Origin(Origin { by: Principal::ApiKey(1), key: None, rejection: None, already: None })
}

#[test]
fn an_honest_night_holds() {
    let mut night = honest();
    let festival = night.festival;
    night.play(
        "
        policy reentry
        enter T2 main
        undo T2 by main-1
        ack decided
        enter T1 main shown admitted → admitted, conflict, 2 inside
        enter T3 main shown zone_full → rejected: zone_full, conflict
        exit T1 main
        exit T1 main → exited, was_not_inside, 0 inside
        capacity main 0
        enter T3 main shown admitted → admitted, conflict, 1 inside
        supervisor undoes T3
        refund T1
        enter T1 main by main-2 → rejected: device_revoked
        enter garbage main → rejected: invalid_qr
        complete regardless
        quota few 1
        ",
    );
    night.admin(AdminAction::CreateApiKey {
        hash: [1; 32],
        role: Role::Staff,
        festivals: vec![festival],
        name: "x".into(),
    });
    night.admin(AdminAction::RevokeApiKey { key: 1 });
    night.now = night.now.plus_ms(HOUR_MS);
    night.ask(Command::Tick);
    let report = audit(&night, &[write(0, night.shard.seq() + 1, night.now, &[Event::Expired])]);
    assert!(report.holds(), "{:#?}", report.violations);
    assert_eq!((report.shards, report.records as usize), (1, night.records.len() + 1));
    assert_eq!((report.admitted, report.exited, report.rejected, report.undone), (6, 3, 4, 2));
    assert_eq!(report.tickets, 1 + 9 + 3 + 1 + 1);
    assert_eq!(report.conflicts_total, 3);
    let conflicts: Vec<_> = report.conflicts.iter().map(|c| (c.admitted, c.instead_of)).collect();
    assert_eq!(conflicts, [(true, Some("already_inside")), (false, None), (true, Some("zone_full"))]);
    // Those about money are for tests/money_audit.rs.
    for sums in report.checks.iter().take_while(|sums| sums.check != Check::Posting.word()) {
        assert!(sums.checked > 0, "{} was never looked at", sums.check);
        assert_eq!(sums.violated, 0);
    }
    let json = serde_json::to_value(&report).unwrap();
    assert_eq!(json["checks"].as_array().unwrap().len(), Check::ALL.len());
    assert_eq!(json["violations"].as_array().unwrap().len(), 0);
    let replay = &json["checks"][Check::Replay as usize];
    assert_eq!((&replay["check"], &replay["invariants"]), (&"replay".into(), &serde_json::json!([3, 7])), "{json:#}");
}

/// The honest entry is honest; each other line tells one lie.
#[test]
fn lies_of_a_reader() {
    let night = honest();
    let honest = entry(&night);
    assert!(audit(&night, &[write(0, night.shard.seq() + 1, night.now, &[Event::Scanned(honest)])]).holds());
    let ticket = |name: &str| Some(night.tickets[name]);
    let reader = |name: &str| night.readers[name].id;
    let other = DeviceId::new(night.elsewhere, 0);
    let stage = Scanned { device: reader("stage-1"), zone: night.zones["stage"], gate: GateNo(2), flags: 0, ..honest };
    let no = Verdict::Rejected(Rejection::InvalidQr);
    let lies: &[(&str, Scanned)] = &[
        ("once", Scanned { seq: 1, floor: 1, ..honest }),
        ("known", Scanned { gate: GateNo(1), ..honest }),
        ("known", Scanned { zone: night.zones["camp"], ..honest }),
        ("known", Scanned { direction: Direction::Exit, ..honest }),
        ("known", Scanned { ticket: None, ..honest }),
        ("known", Scanned { ticket: ticket("ghost"), ..honest }),
        ("own_festival", Scanned { ticket: ticket("E1"), ..honest }),
        ("own_festival", Scanned { device: DeviceId::new(night.festival, 99), ..honest }),
        ("own_festival", Scanned { device: other, ticket: None, verdict: no, ..honest }),
        ("single_entry", Scanned { ticket: ticket("T2"), flags: 0, ..honest }),
        ("single_entry", Scanned { flags: 0, ..honest }),
        ("single_entry", Scanned { ticket: ticket("T2"), flags: FIRST_ENTRY | CONFLICT, ..honest }),
        ("inside", Scanned { ticket: ticket("T1"), flags: 0, ..honest }),
        ("inside", Scanned { ticket: ticket("T1"), occupancy: 2, ..stage }),
        ("inside", Scanned { occupancy: 1, ..stage }),
        ("inside", Scanned { verdict: Verdict::Exited, direction: Direction::Exit, flags: 0, occupancy: 1, ..honest }),
        ("revoked", Scanned { ticket: ticket("T4"), ..honest }),
        ("revoked", Scanned { ticket: ticket("U1"), flags: 0, ..honest }),
        ("revoked", Scanned { device: reader("main-2"), gate: GateNo(1), ..honest }),
        (
            "revoked",
            Scanned { device: reader("main-2"), gate: GateNo(1), verdict: no, ticket: None, occupancy: 1, ..honest },
        ),
        ("occupancy", Scanned { occupancy: 3, ..honest }),
        ("occupancy", Scanned { verdict: no, ticket: None, flags: 0, occupancy: 2, ..honest }),
    ];
    for (check, lie) in lies {
        let failed = planted(&night, &[Event::Scanned(*lie)]);
        assert!(failed.contains(check), "{lie:?}: {failed:?}");
    }
    let again = [Event::Scanned(honest), Event::Scanned(Scanned { ticket: None, verdict: no, ..honest })];
    assert!(planted(&night, &again).contains(&"once"), "the same number twice in one record");
    let below =
        [Event::Scanned(honest), Event::Scanned(Scanned { seq: 99, floor: 1, ticket: None, verdict: no, ..honest })];
    assert!(planted(&night, &below).contains(&"once"), "below the floor");
}

#[test]
fn one_too_many() {
    let mut night = honest();
    night.play("capacity main 1");
    assert_eq!(planted(&night, &[Event::Scanned(entry(&night))]), ["capacity"]);
}

/// Each line makes the honest entry one that the gate would have refused; a conflict may, since the answer was shown.
#[test]
fn let_in_though_the_gate_was_shut() {
    for (script, check) in [
        ("complete regardless", "active"),
        ("status CANCELLED", "active"),
        ("window day 12:00 17:59", "window"),
        ("window day 12:00 18:00 # the first moment at which it no longer does", "window"),
        ("window day 18:01 20:00", "window"),
        ("close main", "door"),
        ("evacuate main", "door"),
    ] {
        let mut night = honest();
        night.play(script);
        assert_eq!(planted(&night, &[Event::Scanned(entry(&night))]), [check], "{script}");
        let policy = Policy { ack: ScanAck::Decided, ..Policy::default() };
        night.admin(AdminAction::SetPolicy { festival: night.festival, policy });
        let shown = Scanned { flags: FIRST_ENTRY | CONFLICT, instead_of: Some(Rejection::ZoneClosed), ..entry(&night) };
        let report = audit(&night, &[write(0, night.shard.seq() + 1, night.now, &[Event::Scanned(shown)])]);
        assert!(report.holds(), "{script}: {:?}", report.violations);
    }
    // Open again, within the window, the entry is honest.
    let mut night = honest();
    night.play("close main\n open main\n window day 18:00 18:01\n close stage");
    assert!(audit(&night, &[write(0, night.shard.seq() + 1, night.now, &[Event::Scanned(entry(&night))])]).holds());
    // Into a zone that the category does not open, or around which people are being led out.
    let deck = |night: &World| Scanned {
        device: night.readers["pit-1"].id,
        gate: GateNo(3),
        zone: night.zones["pit"],
        ticket: Some(night.tickets["T1"]),
        flags: 0,
        occupancy: 1,
        ..entry(night)
    };
    let mut night = honest();
    assert!(audit(&night, &[write(0, night.shard.seq() + 1, night.now, &[Event::Scanned(deck(&night))])]).holds());
    night.play("evacuate main");
    assert_eq!(planted(&night, &[Event::Scanned(deck(&night))]), ["door"]);
    let mut night = honest();
    let values = values("day", night.zones["main"].bit() | night.zones["stage"].bit(), 1_000);
    let (festival, category) = (night.festival, Some(night.categories["day"]));
    night.admin(AdminAction::PutCategory { festival, category, values });
    assert_eq!(planted(&night, &[Event::Scanned(deck(&night))]), ["door"]);
}

#[test]
fn lies_of_an_undo() {
    let night = honest();
    let by = |name: &str| Some(ByDevice { device: night.readers[name].id, seq: 100, floor: 100, fingerprint: 1 });
    let main = night.zones["main"].bit();
    // T1 entered the stage last.
    let honest = Undone {
        by: by("stage-1"),
        zone: night.zones["stage"],
        gate: GateNo(2),
        verdict: Verdict::Undone,
        ticket: night.tickets["T1"],
        inside: main,
        unused: false,
        occupancy: 0,
        scan: Some(TakenBack { gate: GateNo(2), direction: Direction::Enter, minute: night.now.minute() }),
    };
    let next = night.shard.seq() + 1;
    assert!(audit(&night, &[write(0, next, night.now, &[Event::Undone(honest)])]).holds());
    let lies: &[(&str, Undone)] = &[
        ("undo", Undone { inside: 0, ..honest }),
        ("undo", Undone { unused: true, ..honest }),
        ("undo", Undone { scan: None, ..honest }),
        ("undo", Undone { scan: honest.scan.map(|scan| TakenBack { gate: GateNo(0), ..scan }), ..honest }),
        ("undo", Undone { scan: honest.scan.map(|scan| TakenBack { direction: Direction::Exit, ..scan }), ..honest }),
        ("undo", Undone { scan: honest.scan.map(|scan| TakenBack { minute: MIDNIGHT, ..scan }), ..honest }),
        ("undo", Undone { zone: night.zones["main"], occupancy: 1, ..honest }),
        ("undo", Undone { by: by("main-1"), ..honest }),
        ("undo", Undone { ticket: night.tickets["T3"], ..honest }),
        ("occupancy", Undone { occupancy: 1, ..honest }),
        ("known", Undone { ticket: night.tickets["ghost"], ..honest }),
        ("own_festival", Undone { ticket: night.tickets["E1"], ..honest }),
        ("revoked", Undone { by: by("main-2"), ..honest }),
        ("asked", Undone { by: None, ..honest }),
        ("once", Undone { by: by("stage-1").map(|by| ByDevice { seq: 1, floor: 1, ..by }), ..honest }),
    ];
    for (check, lie) in lies {
        let failed = planted(&night, &[Event::Undone(*lie)]);
        assert!(failed.contains(check), "{lie:?}: {failed:?}");
    }
    let late = write(0, next, night.now.plus_ms(15 * MINUTE_MS + 1), &[Event::Undone(honest)]);
    assert_eq!(audit(&night, &[late]).violations[0].check, "undo");
    let twice = [Event::Undone(honest), asked(), Event::Undone(Undone { by: None, ..honest })];
    assert!(planted(&night, &twice).contains(&"undo"));
}

#[test]
fn lies_of_the_admin() {
    let night = honest();
    let (festival, elsewhere) = (night.festival, night.elsewhere);
    let ticket = night.tickets["T3"];
    let category = night.categories["few"];
    let issue = |first_serial, count| Event::TicketsIssued {
        festival,
        category,
        first_serial,
        count,
        seed: 1,
        paid: true,
        holders: Vec::new(),
    };
    let status = |ticket, from, to| Event::TicketStatusSet { ticket, from, to };
    let enrolled = |number, code: u8| Event::DeviceEnrolled {
        device: DeviceId::new(festival, number),
        gate: GateNo(0),
        public_key: [9; 32],
        name: "r".into(),
        code_hash: [code; 32],
    };
    let offered = |gate, code: u8, until| Event::EnrolmentOffered {
        festival,
        gate: GateNo(gate),
        code_hash: [code; 32],
        name: "r".into(),
        until,
    };
    let zone = |zone, parent| Event::ZonePut { festival, zone: ZoneNo(zone), name: "z".into(), parent, capacity: 1 };
    let key =
        |key| Event::ApiKeyCreated { key, hash: [1; 32], role: Role::Admin, festivals: Vec::new(), name: "x".into() };
    let created = Event::FestivalCreated {
        slug: "night".into(),
        name: "N".into(),
        starts_at: MIDNIGHT,
        ends_at: night.now,
        policy: Policy::default(),
        calendar: Calendar::default(),
    };
    let nowhere = FestivalId(1);
    let lies: Vec<(&str, Event)> = vec![
        ("quota", issue(1, 2)),
        ("known", issue(2, 1)),
        ("known", issue(0, 1)),
        ("quota", Event::CategoryPut { festival, category, values: values("few", 1, 0) }),
        ("known", Event::CategoryPut { festival, category: CategoryNo(9), values: values("x", 1, 1) }),
        ("transition", Event::FestivalStatusSet { festival, to: FestivalStatus::Draft }),
        ("transition", Event::FestivalStatusSet { festival: elsewhere, to: FestivalStatus::Completed }),
        ("known", Event::FestivalStatusSet { festival: nowhere, to: FestivalStatus::Published }),
        ("known", created),
        ("transition", status(ticket, TicketStatus::Sold, TicketStatus::Reserved)),
        ("transition", status(ticket, TicketStatus::Reserved, TicketStatus::Sold)),
        ("transition", status(ticket, TicketStatus::Sold, TicketStatus::Used)),
        ("known", status(night.tickets["ghost"], TicketStatus::Sold, TicketStatus::Refunded)),
        ("tag", Event::TagBound { ticket, tag: night.tags["W1"] }),
        ("known", zone(9, None)),
        ("known", zone(4, Some(ZoneNo(4)))),
        ("known", zone(0, Some(ZoneNo(1)))),
        ("known", Event::GateAdded { festival, gate: GateNo(9), zone: ZoneNo(0), name: "g".into() }),
        ("known", Event::GateAdded { festival, gate: GateNo(5), zone: ZoneNo(9), name: "g".into() }),
        ("known", Event::ZoneStateSet { festival, zone: ZoneNo(9), state: ZoneState::Closed }),
        ("known", enrolled(9, 1)),
        ("once", enrolled(5, 77)),
        ("once", enrolled(5, 1)),
        ("known", offered(9, 77, night.now)),
        ("once", offered(0, 1, night.now)),
        ("own_festival", Event::DeviceRevoked { device: DeviceId::new(festival, 9) }),
        ("known", Event::QrKeyRotated { festival, version: 4 }),
        ("known", Event::QrKeyRotated { festival, version: 2 }),
        ("known", key(2)),
        ("known", Event::ApiKeyRevoked { key: 1 }),
    ];
    for (check, lie) in lies {
        let failed = planted(&night, &[asked(), lie.clone()]);
        assert!(failed.contains(&check), "{lie:?}: {failed:?}");
    }
    // A code that had lapsed.
    let lapsed = [asked(), offered(0, 77, night.now.plus_ms(-1)), asked(), enrolled(5, 77)];
    assert_eq!(planted(&night, &lapsed), ["once"]);
    // Who asked?
    let revoked = Event::DeviceRevoked { device: night.readers["main-1"].id };
    assert_eq!(planted(&night, std::slice::from_ref(&revoked)), ["asked"]);
    assert_eq!(planted(&night, &[asked()]), ["asked"]);
    assert!(planted(&night, &[asked(), Event::Scanned(entry(&night))]).contains(&"asked"));
    // A key that was used before, within its 72 hours and after them.
    let keyed = Event::Origin(Origin {
        by: Principal::ApiKey(1),
        key: Some((7, 7)),
        rejection: Some(Rejection::SoldOut),
        already: None,
    });
    assert_eq!(planted(&night, &[keyed.clone(), keyed.clone()]), ["once"]);
    let next = night.shard.seq() + 1;
    let later = night.now.plus_ms(72 * HOUR_MS + 1);
    let forgotten =
        [write(0, next, night.now, std::slice::from_ref(&keyed)), write(0, next + 1, later, &[Event::Expired, keyed])];
    assert!(audit(&night, &forgotten).holds());
}

#[test]
fn lies_of_the_journal() {
    let night = honest();
    let next = night.shard.seq() + 1;
    let nothing = [Event::Expired];
    let first = |report: Report| {
        let found = report.violations.first().unwrap_or_else(|| panic!("not found")).clone();
        (found.check, found.shard, found.seq)
    };
    assert_eq!(first(audit(&night, &[write(0, next + 1, night.now, &nothing)])), ("sequence", 0, next), "a gap");
    assert_eq!(first(audit(&night, &[write(0, next - 1, night.now, &nothing)])), ("sequence", 0, next), "twice");
    let back = write(0, next, night.now.plus_ms(-1), &nothing);
    assert_eq!(first(audit(&night, &[back])), ("time", 0, next));
    assert_eq!(first(audit(&night, &[write(1, next, night.now, &nothing)])), ("readable", 0, next), "another shard's");
    assert_eq!(first(audit(&night, &[b"rubbish".to_vec()])), ("readable", 0, next));
    let mut missing = honest();
    missing.records.remove(0);
    assert_eq!(first(audit(&missing, &[])), ("sequence", 0, 1), "the first is gone");

    let mut audit_of_two = Audit::new(2);
    audit_of_two.record(ShardId(2), &night.records[0]);
    assert_eq!(first(audit_of_two.finish()), ("readable", 2, 0), "there are two shards, 0 and 1");
    // "night" and "elsewhere" are at home in shard 6 or so of 16, but not in each of them.
    let mut stray = Audit::new(16);
    for shard in 0..16 {
        stray.record(
            ShardId(shard),
            &write(shard, 1, night.now, &engine::record::read(&night.records[0]).unwrap().events),
        );
    }
    let report = stray.finish();
    assert_eq!(report.violations_total, 15, "{:?}", report.violations);
    assert!(report.violations.iter().all(|found| found.check == "known"));
}

/// The books and the replay disagree only where one of them is wrong; here the record is one that cannot be replayed.
#[test]
fn a_record_that_contradicts_the_ones_before() {
    let night = honest();
    let failed = planted(&night, &[Event::Scanned(Scanned { occupancy: 7, ..entry(&night) })]);
    assert_eq!(failed, ["occupancy", "replay"]);
}

#[test]
fn the_list_is_bounded_the_count_is_not() {
    let night = honest();
    let lie = Event::DeviceRevoked { device: DeviceId::new(night.festival, 9) };
    let events: Vec<Event> = (0..VIOLATIONS_MAX + 500).map(|_| lie.clone()).collect();
    let report = audit(&night, &[write(0, night.shard.seq() + 1, night.now, &events)]);
    assert_eq!(report.violations.len(), VIOLATIONS_MAX);
    assert_eq!(report.violations_total, report.checks.iter().map(|sums| sums.violated).sum::<u64>());
    assert!(report.violations_total as usize >= 2 * (VIOLATIONS_MAX + 500), "nobody asked, no such device");
}
