//! Doing it again: the same id gets the same answer and happens once; forgetting is never mistaken for new.

mod common;
use common::{World, create};
use engine::command::*;
use engine::gates::command::*;
use engine::gates::device::{CODE_KEPT_MS, CODES_MAX};
use engine::model::ids::*;
use engine::model::principal::Principal;
use engine::model::rejection::Rejection;
use engine::model::status::Role;
use engine::model::time::{HOUR_MS, MINUTE_MS, Timestamp};
use engine::view::{Query, View};

#[test]
fn the_same_number_gets_the_same_answer() {
    World::open().play(
        "
        enter T1 main by main-1 seq 1 → admitted, first, 1 inside
        enter T2 main by main-1 seq 2 → admitted, 2 inside
        enter T1 main by main-1 seq 3 → rejected: already_used
        # In any order, as often as they come, whatever has happened since.
        refund T2
        snapshot
        revoke main-1
        enter T1 main by main-1 seq 3 → rejected: already_used, again
        enter T2 main by main-1 seq 2 → admitted, again, 2 inside
        enter T1 main by main-1 seq 1 → admitted, again, 1 inside, first
        inside main → 2
        # Another question with the same number.
        enter T2 main by main-1 seq 1 → rejected: idempotency_conflict
        exit T1 main by main-1 seq 1 → rejected: idempotency_conflict
        undo T1 by main-1 scan 1 seq 1 → rejected: idempotency_conflict
        # Another reader's number is another number.
        enter T1 main by main-2 seq 1 → rejected: already_used
        ",
    );
}

#[test]
fn numbers_below_the_floor_and_above_the_window() {
    World::open().play(
        "
        enter T1 main by main-1 seq 0 → rejected: stale_seq
        enter T1 main by main-1 seq 0 floor 0 → rejected: stale_seq
        enter T1 main by main-1 seq 10 floor 10 → admitted
        # Gaps are fine, and so is the wrong order, above the floor.
        enter T2 main by main-1 seq 30 floor 10 → admitted
        enter T3 main by main-1 seq 20 floor 10 → admitted
        enter T4 main by main-1 seq 9 floor 9 → rejected: stale_seq
        # The floor rises and never falls.
        enter T4 main by main-1 seq 31 floor 25 → admitted
        enter T3 main by main-1 seq 20 floor 10 → rejected: stale_seq
        enter T2 main by main-1 seq 30 floor 10 → admitted, again
        # A frame that is below its own floor.
        enter T5 main by main-1 seq 40 floor 41 → rejected: stale_seq
        enter T5 main by main-1 seq 4121 floor 25 → admitted
        enter T6 main by main-1 seq 4122 floor 25 → rejected: window_full
        enter T6 main by main-1 seq 4122 floor 26 → admitted
        inside main → 6
        # What was refused like that is not remembered: the number is free.
        enter T7 main by main-1 seq 40 floor 31 → admitted
        ",
    );
}

/// Numbers at the end of all numbers, and floors that lie further below than a record has bits for.
#[test]
fn far_apart() {
    let mut night = World::open();
    night.play(
        "
        enter T1 main by main-1 seq 8589934592 floor 8589934592 → admitted
        # 2^32 below: replay took this floor for the number's own, and forgot what was before it.
        enter T2 main by main-1 seq 8589934593 floor 4294967297 → admitted
        enter T1 main by main-1 seq 8589934592 floor 1 → admitted, again
        ",
    );
    // Played by itself: here it is replayed, and a floor that rises further would cover what was lost.
    night.play(
        "
        enter T3 main by main-1 seq 18446744073709551615 floor 18446744073709551615 → admitted
        enter T3 main by main-1 seq 18446744073709551615 floor 18446744073709551615 → admitted, again
        enter T4 main by main-1 seq 5 → rejected: stale_seq
        ",
    );
    let Ok(View::Device(device)) = common::view(&night, Query::Device(night.readers["main-1"].id)) else { panic!() };
    assert_eq!(device.next_seq, u64::MAX, "there is no number behind the last");
    assert_eq!(engine::shard::Shard::restore(&night.shard.snapshot()).unwrap().state_hash(), night.shard.state_hash());
}

#[test]
fn devices_that_are_not() {
    let mut night = World::open();
    let credential = night.credential("T1");
    let scan = Scan {
        zone: ZoneNo(0),
        direction: Direction::Enter,
        credential,
        captured_at: night.now,
        resent: false,
        shown: None,
    };
    for device in
        [DeviceId::new(night.festival, 99), DeviceId::new(FestivalId(1), 0), DeviceId::new(night.elsewhere, 0)]
    {
        let records = night.records.len();
        let (answer, _) = night.device(DeviceCommand { device, seq: 1, floor: 1, action: DeviceAction::Scan(scan) });
        assert_eq!(answer.verdict, Verdict::Rejected(Rejection::UnknownDevice));
        assert_eq!(night.records.len(), records, "nobody is remembered who was never enrolled");
    }
}

fn key(id: u128, fingerprint: u64) -> Option<IdempotencyKey> {
    Some(IdempotencyKey { id, fingerprint, made_at: None })
}

#[test]
fn an_office_key_is_answered_once() {
    let mut night = World::open();
    let (festival, zone) = (night.festival, night.zones["main"]);
    let gate = || AdminAction::AddGate { festival, zone, name: "north".into() };
    let made = night.admin_with(key(1, 1), gate());
    let gates = night.here().gates.len();
    assert_eq!(made, (AdminAnswer::Gate(GateNo(gates as u16 - 1)), false));
    assert_eq!(night.admin_with(key(1, 1), gate()), (made.0, true));
    let conflict = AdminAnswer::Rejected(Rejection::IdempotencyConflict);
    assert_eq!(night.admin_with(key(1, 2), gate()), (conflict, false));
    assert_eq!(night.here().gates.len(), gates);
    // A no is an answer too: it stays when the reason has gone.
    let status = || AdminAction::SetFestivalStatus { festival, to: engine::model::status::FestivalStatus::Published };
    let no = AdminAnswer::Rejected(Rejection::InvalidTransition);
    assert_eq!(night.admin_with(key(2, 1), status()), (no, false));
    assert_eq!(night.admin_with(key(2, 1), status()), (no, true));
    night.replays();
}

/// "It is so already" is an answer like any other. Forgotten, the key would block the ticket again after somebody has
/// let it go.
#[test]
fn an_office_key_that_changed_nothing_is_answered_once() {
    let mut night = World::open();
    let (festival, ticket) = (night.festival, night.tickets["T1"]);
    let block = |blocked| AdminAction::BlockTicket { ticket, blocked };
    night.admin(block(true));
    assert_eq!(night.admin_with(key(1, 1), block(true)), (AdminAnswer::Done, false));
    night.admin(block(false));
    assert_eq!(night.admin_with(key(1, 1), block(true)), (AdminAnswer::Done, true));
    assert!(!night.here().ticket(ticket).unwrap().blocked, "nothing happened again");
    // The answer may be more than "done".
    let enrol = || AdminAction::EnrolDevice { festival, code_hash: [1; 32], public_key: [1; 32] };
    let device = AdminAnswer::Device(DeviceId::new(festival, 0));
    assert_eq!(night.admin_with(key(2, 1), enrol()), (device, false));
    night.now = night.now.plus_ms(HOUR_MS);
    night.ask(Command::Tick);
    assert_eq!(night.admin_with(key(2, 1), enrol()), (device, true), "the code has lapsed, the key has not");
    night.replays();
}

/// In one record: a key that got a no, then a device's scan. The scan is not what the key was for.
#[test]
fn a_no_and_a_scan_in_one_record() {
    let mut night = World::open();
    let festival = night.festival;
    let admin = |key| {
        let action = AdminAction::SetFestivalStatus { festival, to: engine::model::status::FestivalStatus::Draft };
        Command::Admin(Box::new(AdminCommand { key, by: Principal::ApiKey(1), action }))
    };
    let scan = Scan {
        zone: night.zones["main"],
        direction: Direction::Enter,
        credential: night.credential("T1"),
        captured_at: night.now,
        resent: false,
        shown: None,
    };
    let device = night.readers["main-1"].id;
    let scan = DeviceCommand { device, seq: 1, floor: 1, action: DeviceAction::Scan(scan) };
    night.batch(&[admin(key(7, 7)), Command::Device(scan)]);
    night.replays();
    let again = night.batch(&[admin(key(7, 7))]);
    let no = AdminAnswer::Rejected(Rejection::InvalidTransition);
    assert_eq!(again, [Answer::Admin { answer: no, repeated: true }]);
}

/// A script that has run wild, or a thief with one key: alone it is refused, and the others' festivals go on.
#[test]
fn one_operator_cannot_use_up_the_keys_of_all() {
    let mut night = World::open();
    let festival = night.festival;
    let ask = |operator: u32, attempt: usize| {
        let key = IdempotencyKey { id: u128::from(operator) << 64 | attempt as u128, fingerprint: 1, made_at: None };
        let action = AdminAction::SetFestivalStatus { festival, to: engine::model::status::FestivalStatus::Draft };
        Command::Admin(Box::new(AdminCommand { key: Some(key), by: Principal::ApiKey(operator), action }))
    };
    let answered = |rejection, repeated| Answer::Admin { answer: AdminAnswer::Rejected(rejection), repeated };
    let (decided, limit) = (Rejection::InvalidTransition, answered(Rejection::LimitReached, false));
    let share = engine::shard::dedupe::KEYS_MAX / (engine::shard::dedupe::SHARE + 1);
    let wild: Vec<_> = (0..=share).map(|attempt| ask(1, attempt)).collect();
    let answers = night.batch(&wild);
    assert!(answers.iter().all(|answer| *answer == answered(decided, false)));
    for _ in 0..2 {
        assert_eq!(night.ask(ask(1, share + 9)), limit);
        assert_eq!(night.ask(ask(1, 7)), answered(decided, true), "what was answered is answered again");
        let theirs = night.ask(ask(2, 0));
        assert!(theirs == answered(decided, false) || theirs == answered(decided, true), "nobody else is refused");
        // What protects people is not refused for what else was asked with the same operator's keys.
        let evacuate = |attempt| {
            let id = u128::from(1_u32) << 64 | (share + 100 + attempt) as u128;
            let key = Some(IdempotencyKey { id, fingerprint: 1, made_at: None });
            let (zone, state) = (ZoneNo(0), engine::model::status::ZoneState::Evacuating);
            let action = AdminAction::SetZoneState { festival, zone, state };
            Command::Admin(Box::new(AdminCommand { key, by: Principal::ApiKey(1), action }))
        };
        for attempt in 0..3 {
            let answer = night.ask(evacuate(attempt));
            assert!(matches!(answer, Answer::Admin { answer: AdminAnswer::Done, .. }), "{answer:?}");
        }
        // Nor does it help to wait for a restart.
        night.replays();
        night.shard = engine::shard::Shard::restore(&night.shard.snapshot()).unwrap();
        night.now = night.now.plus_ms(1);
    }
    night.now = night.now.plus_ms(72 * HOUR_MS);
    night.ask(Command::Tick);
    assert_eq!(night.ask(ask(1, share + 9)), answered(decided, false), "room again");
    night.replays();
}

#[test]
fn old_keys_are_refused_or_new() {
    let mut night = World::open();
    let made_at = night.now;
    let v7 = Some(IdempotencyKey { id: 7, fingerprint: 1, made_at: Some(made_at) });
    assert!(!night.admin_with(v7, create("third")).1);
    assert!(!night.admin_with(key(8, 1), create("fourth")).1);
    let taken = AdminAnswer::Rejected(Rejection::SlugTaken);
    night.now = made_at.plus_ms(72 * HOUR_MS);
    night.ask(Command::Tick);
    assert!(night.admin_with(v7, create("third")).1, "72 hours to the last");
    night.now = made_at.plus_ms(72 * HOUR_MS + 1);
    assert!(night.admin_with(v7, create("third")).1, "and until the next tick");
    night.ask(Command::Tick);
    let expired = AdminAnswer::Rejected(Rejection::IdempotencyKeyExpired);
    assert_eq!(night.admin_with(v7, create("third")), (expired, false));
    assert_eq!(night.admin_with(key(8, 1), create("fourth")), (taken, false), "any other forgotten key is new");
    let records = night.records.len();
    night.ask(Command::Tick);
    assert_eq!(night.records.len(), records, "nothing is due twice");
    night.replays();
}

/// The clock jumps 80 hours ahead and back. A key's age is told by the time that is recorded, so whatever it came to, it
/// comes to again: refused stays refused and decided stays decided, also after a restart.
#[test]
fn a_clock_that_jumps_ahead_and_back() {
    let key = |id, made_at| Some(IdempotencyKey { id, fingerprint: 1, made_at: Some(made_at) });
    let expired = AdminAnswer::Rejected(Rejection::IdempotencyKeyExpired);
    let restart = |night: &mut World| {
        night.replays();
        night.shard = engine::shard::Shard::restore(&night.shard.snapshot()).unwrap();
    };
    // Nothing is recorded of the time to which the clock has jumped: no key is too old yet, and none was forgotten.
    let mut night = World::open();
    let evening = night.now;
    night.now = evening.plus_ms(80 * HOUR_MS);
    let first = night.admin_with(key(1, evening), create("third"));
    assert_eq!(first, (AdminAnswer::Festival(FestivalId::of_slug("third")), false));
    night.now = evening;
    restart(&mut night);
    assert_eq!(night.admin_with(key(1, evening), create("third")), (first.0, true));
    // By now it is recorded.
    assert_eq!(night.admin_with(key(2, evening), create("fourth")), (expired, false));
    restart(&mut night);
    assert_eq!(night.admin_with(key(2, evening), create("fourth")), (expired, false));

    // The same where a batch ends elsewhere.
    let admin = |key, slug| {
        Command::Admin(Box::new(AdminCommand { key: Some(key), by: Principal::ApiKey(1), action: create(slug) }))
    };
    for cut in [false, true] {
        let mut night = World::open();
        night.now = evening.plus_ms(80 * HOUR_MS);
        let commands = [admin(key(1, evening).unwrap(), "third"), admin(key(2, evening).unwrap(), "fourth")];
        let answers: Vec<_> = match cut {
            true => commands.iter().map(|command| night.ask(command.clone())).collect(),
            false => night.batch(&commands),
        };
        assert_eq!(answers[1], Answer::Admin { answer: expired, repeated: false }, "cut: {cut}");
        night.now = evening;
        assert_eq!(night.ask(commands[1].clone()), Answer::Admin { answer: expired, repeated: false });
    }
}

/// A code that was refused for its age is refused for good, whatever the clock says later.
#[test]
fn a_code_that_has_lapsed_stays_so() {
    let mut night = World::open();
    let (festival, gate, code_hash) = (night.festival, GateNo(0), [100; 32]);
    night.admin(AdminAction::OfferEnrolment { festival, gate, code_hash, name: "late".into() });
    let offered_at = night.now;
    let enrol = || AdminAction::EnrolDevice { festival, code_hash, public_key: [1; 32] };
    night.now = offered_at.plus_ms(CODE_KEPT_MS + 1);
    assert_eq!(night.admin(enrol()), AdminAnswer::Rejected(Rejection::CodeExpired));
    night.now = offered_at;
    assert_eq!(night.admin(enrol()), AdminAnswer::Rejected(Rejection::UnknownCode));
    night.replays();
}

#[test]
fn a_code_enrols_one_device() {
    let mut night = World::open();
    let (festival, gate) = (night.festival, GateNo(0));
    let offer =
        |n: u8, name: &str| AdminAction::OfferEnrolment { festival, gate, code_hash: [n; 32], name: name.into() };
    let enrol = |n: u8, key: u8| AdminAction::EnrolDevice { festival, code_hash: [n; 32], public_key: [key; 32] };
    let rejected = AdminAnswer::Rejected;
    let offered_at = night.now;

    assert_eq!(night.admin(enrol(100, 1)), rejected(Rejection::UnknownCode));
    let until = offered_at.plus_ms(CODE_KEPT_MS);
    assert_eq!(night.admin(offer(100, "handheld")), AdminAnswer::CodeUntil(until));
    assert_eq!(night.admin(offer(100, "handheld")), rejected(Rejection::InvalidValue), "codes are not used twice");
    let number = night.here().devices.len() as u32;
    let device = AdminAnswer::Device(DeviceId::new(festival, number));
    assert_eq!(night.admin(enrol(100, 1)), device);
    assert_eq!(night.admin(enrol(100, 1)), device, "its answer was lost on the way");
    assert_eq!(night.admin(enrol(100, 2)), rejected(Rejection::UnknownCode), "another one's key");
    assert_eq!(night.here().devices.len() as u32, number + 1);

    night.admin(offer(101, "late"));
    night.admin(offer(102, "too late"));
    night.now = until;
    assert!(matches!(night.admin(enrol(101, 3)), AdminAnswer::Device(_)), "to the last moment");
    night.now = until.plus_ms(1);
    assert_eq!(night.admin(enrol(102, 4)), rejected(Rejection::CodeExpired));
    night.ask(Command::Tick);
    assert_eq!(night.admin(enrol(102, 4)), rejected(Rejection::UnknownCode), "forgotten");
    assert!(night.here().offers.is_empty());

    assert_eq!(night.admin(offer(103, " ")), rejected(Rejection::InvalidValue));
    let nowhere = AdminAction::OfferEnrolment { festival, gate: GateNo(99), code_hash: [9; 32], name: "x".into() };
    assert_eq!(night.admin(nowhere), rejected(Rejection::UnknownGate));
    night.replays();
}

#[test]
fn codes_that_wait_are_bounded() {
    let mut night = World::open();
    night.now = night.now.plus_ms(CODE_KEPT_MS + HOUR_MS);
    night.ask(Command::Tick);
    let offer = |n: usize| {
        let mut code_hash = [7; 32];
        code_hash[..8].copy_from_slice(&n.to_le_bytes());
        AdminAction::OfferEnrolment {
            festival: FestivalId::of_slug("night"),
            gate: GateNo(0),
            code_hash,
            name: "r".into(),
        }
    };
    for n in 0..CODES_MAX {
        assert!(matches!(night.admin(offer(n)), AdminAnswer::CodeUntil(_)), "{n}");
    }
    assert_eq!(night.admin(offer(CODES_MAX)), AdminAnswer::Rejected(Rejection::LimitReached));
    night.now = night.now.plus_ms(CODE_KEPT_MS + MINUTE_MS);
    night.ask(Command::Tick);
    assert!(matches!(night.admin(offer(CODES_MAX)), AdminAnswer::CodeUntil(_)), "room again");
}

#[test]
fn operators_keys() {
    let mut night = World::open();
    let festival = night.festival;
    let create = |n: u8, role, festivals: &[FestivalId], name: &str| AdminAction::CreateApiKey {
        hash: [n; 32],
        role,
        festivals: festivals.to_vec(),
        name: name.into(),
    };
    let rejected = AdminAnswer::Rejected;
    assert_eq!(night.admin(create(1, Role::Admin, &[], "ops")), AdminAnswer::ApiKey(1));
    assert_eq!(night.admin(create(2, Role::Staff, &[festival], "box office")), AdminAnswer::ApiKey(2));
    assert_eq!(night.admin(create(1, Role::Admin, &[], "twice")), rejected(Rejection::InvalidValue), "hash in use");
    for role in [Role::Organizer, Role::Staff, Role::Cashier, Role::Security, Role::User] {
        assert_eq!(night.admin(create(3, role, &[], "everywhere")), rejected(Rejection::InvalidValue), "{role:?}");
    }
    assert_eq!(night.admin(create(3, Role::Admin, &[], &"x".repeat(201))), rejected(Rejection::InvalidValue));
    assert_eq!(night.admin(create(3, Role::Staff, &[festival; 65], "many")), rejected(Rejection::LimitReached));

    let by_hash = |night: &World, n: u8| match common::view(night, Query::ApiKey([n; 32])) {
        Ok(View::ApiKey(key)) => Ok((key.no, key.role, key.festivals.len(), key.revoked)),
        Ok(other) => panic!("{other:?}"),
        Err(rejection) => Err(rejection),
    };
    assert_eq!(by_hash(&night, 2), Ok((2, Role::Staff, 1, false)));
    assert_eq!(by_hash(&night, 9), Err(Rejection::UnknownKey));
    assert_eq!(night.admin(AdminAction::RevokeApiKey { key: 2 }), AdminAnswer::Done);
    assert_eq!(by_hash(&night, 2), Ok((2, Role::Staff, 1, true)));
    let records = night.records.len();
    assert_eq!(night.admin(AdminAction::RevokeApiKey { key: 2 }), AdminAnswer::Done);
    assert_eq!(night.records.len(), records, "it is so already");
    for key in [0, 3, u32::MAX] {
        assert_eq!(night.admin(AdminAction::RevokeApiKey { key }), rejected(Rejection::UnknownKey));
    }
    night.replays();
}

/// A step's answers do not depend on how its time compares with the shard's: a stamp from the past is the present.
#[test]
fn a_stamp_from_the_past_is_the_present() {
    let mut night = World::open();
    let at = night.now;
    night.play("enter T1 main");
    night.now = Timestamp(0);
    night.play("enter T2 main → admitted");
    assert_eq!(night.here().ticket(night.tickets["T2"]).unwrap().first_used_at, at);
}
