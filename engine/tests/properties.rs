//! What holds whatever anybody does: random nights over a small world, whose books are added up after every step.

mod common;
mod events;

use std::collections::BTreeMap;

use common::*;
use engine::command::*;
use engine::event::Event;
use engine::gates::command::*;
use engine::model::ids::*;
use engine::model::principal::Principal;
use engine::model::rejection::Rejection;
use engine::model::status::*;
use engine::model::time::Timestamp;
use engine::record::{self, Writer};
use engine::shard::{Shard, Step};
use proptest::prelude::*;

/// One thing somebody does. Small numbers, so that they meet often; taken modulo what there is.
#[derive(Clone, Debug)]
enum Deed {
    Scan { reader: usize, zone: usize, exit: bool, ticket: usize, seq: SeqOf, shown: Option<Verdict>, by_tag: bool },
    Undo { reader: usize, ticket: usize, scan: u64, seq: SeqOf },
    Admin { key: Option<u128>, action: usize, what: usize, n: u32 },
    Tick,
}

/// How a device numbers: the next one mostly, now and then an old one, one further on, or with a floor that rises.
#[derive(Clone, Debug)]
enum SeqOf {
    Next,
    Again(u64),
    Skip(u64),
    Floor(u64),
}

fn seq_of() -> impl Strategy<Value = SeqOf> {
    prop_oneof![
        8 => Just(SeqOf::Next),
        2 => (1..6_u64).prop_map(SeqOf::Again),
        1 => (1..5_000_u64).prop_map(SeqOf::Skip),
        1 => (0..8_u64).prop_map(SeqOf::Floor),
    ]
}

fn deed() -> impl Strategy<Value = Deed> {
    let shown = prop_oneof![
        6 => Just(None),
        2 => Just(Some(Verdict::Admitted)),
        1 => Just(Some(Verdict::Rejected(Rejection::ZoneFull))),
        1 => Just(Some(Verdict::Exited)),
    ];
    prop_oneof![
        12 => (0..6_usize, 0..20_usize, any::<bool>(), 0..12_usize, seq_of(), shown, any::<bool>()).prop_map(
            |(reader, zone, exit, ticket, seq, shown, by_tag)| Deed::Scan { reader, zone, exit, ticket, seq, shown, by_tag }
        ),
        3 => (0..6_usize, 0..12_usize, 0..6_u64, seq_of())
            .prop_map(|(reader, ticket, scan, seq)| Deed::Undo { reader, ticket, scan, seq }),
        6 => (proptest::option::of(0..6_u128), 0..15_usize, 0..12_usize, 0..6_u32)
            .prop_map(|(key, action, what, n)| Deed::Admin { key, action, what, n }),
        1 => Just(Deed::Tick),
    ]
}

fn command(world: &World, next: &mut [u64], deed: &Deed) -> Command {
    let readers = ["main-1", "main-2", "stage-1", "pit-1", "camp-1"];
    let tickets = ["T1", "T2", "T3", "T4", "C1", "C2", "U1", "U2", "E1", "ghost", "T1@2", "forged:T2"];
    let festival = world.festival;
    let by = |next: &mut [u64], reader: usize, seq: &SeqOf, action| {
        let reader = reader % readers.len();
        let (seq, floor) = match *seq {
            SeqOf::Next => (next[reader], next[reader].saturating_sub(20)),
            SeqOf::Again(back) => (next[reader].saturating_sub(back), 1),
            SeqOf::Skip(ahead) => (next[reader] + ahead, next[reader]),
            SeqOf::Floor(back) => (next[reader], (next[reader].saturating_sub(back)).max(1)),
        };
        next[reader] = next[reader].max(seq + 1);
        Command::Device(DeviceCommand { device: world.readers[readers[reader]].id, seq, floor, action })
    };
    match *deed {
        Deed::Scan { reader, zone, exit, ticket, ref seq, shown, by_tag } => {
            let own = world.readers[readers[reader % readers.len()]].zone;
            let zone = if zone < 6 { ZoneNo(zone as u8) } else { own };
            let credential = match by_tag {
                true => Credential::Tag(TagUid::new(&[1 + ticket as u8 % 3; 4]).unwrap()),
                false => world.credential(tickets[ticket % tickets.len()]),
            };
            let direction = if exit { Direction::Exit } else { Direction::Enter };
            let scan = Scan { zone, direction, credential, captured_at: world.now, resent: shown.is_some(), shown };
            by(next, reader, seq, DeviceAction::Scan(scan))
        }
        Deed::Undo { reader, ticket, scan, ref seq } => {
            let name = tickets[ticket % 10];
            let scan_seq = next[reader % readers.len()].saturating_sub(scan);
            by(next, reader, seq, DeviceAction::Undo(Undo { ticket: world.tickets[name], scan_seq }))
        }
        Deed::Admin { key, action, what, n } => {
            let ticket = world.tickets[tickets[what % 10]];
            let zone = ZoneNo((what % 4) as u8);
            let category = CategoryNo((what % 2) as u16);
            let action = match action {
                0 => AdminAction::SetTicketStatus { ticket, to: TicketStatus::ALL[n as usize] },
                1 => AdminAction::BlockTicket { ticket, blocked: n.is_multiple_of(2) },
                2 => AdminAction::BindTag { ticket, tag: TagUid::new(&[1 + n as u8 % 3; 4]).unwrap() },
                3 | 4 => AdminAction::UndoScan { ticket },
                5 => AdminAction::SetZoneState { festival, zone, state: ZoneState::ALL[n as usize % 3] },
                6 => AdminAction::PutZone { festival, zone: Some(zone), name: "z".into(), parent: None, capacity: n },
                7 => AdminAction::PutCategory { festival, category: Some(category), values: values("c", 15, 6 + n) },
                8 => {
                    let holders = vec![None; n as usize];
                    AdminAction::IssueTickets { festival, category, holders, paid: true, seed: u64::from(n) }
                }
                9 | 10 => AdminAction::SetPolicy {
                    festival,
                    policy: Policy {
                        entry: EntryPolicy::ALL[what % 2],
                        ack: ScanAck::ALL[n as usize % 2],
                        log_one_rejection_in: 1 + n,
                    },
                },
                11 => AdminAction::RotateQrKey { festival },
                12 if what < 2 => AdminAction::RevokeDevice { device: DeviceId::new(festival, n) },
                13 => {
                    let code_hash = [200 + n as u8; 32];
                    AdminAction::OfferEnrolment { festival, gate: GateNo(0), code_hash, name: "r".into() }
                }
                14 => {
                    let code_hash = [200 + n as u8; 32];
                    AdminAction::EnrolDevice { festival, code_hash, public_key: [what as u8 % 2; 32] }
                }
                _ => AdminAction::RevokeApiKey { key: n },
            };
            let key = key.map(|id| IdempotencyKey { id, fingerprint: u64::from(n % 2), made_at: None });
            Command::Admin(Box::new(AdminCommand { key, by: Principal::ApiKey(1), action }))
        }
        Deed::Tick => Command::Tick,
    }
}

fn small_world() -> World {
    let mut world = World::open();
    world.play(
        "issue U1..U2 day unpaid\n capacity main 3\n capacity stage 2\n capacity pit 1\n quota camper 6\n quota day 14",
    );
    // Shown answers, undone exits and lowered capacities are part of these nights; `room` looks closer.
    world.may_overflow = true;
    world
}

/// What an answer must not do, seen from outside: fill a zone past its capacity without a conflict or an undo.
fn room(before: &[u32], world: &World, answers: &[Answer]) {
    for (zone, &before) in world.here().zones.iter().zip(before) {
        let explained = answers.iter().any(|answer| match answer {
            Answer::Device { answer, .. } => answer.flags & CONFLICT != 0 || answer.verdict == Verdict::Undone,
            Answer::Admin { .. } => true,
            Answer::Terminal { .. } | Answer::Acked { .. } | Answer::Noted | Answer::Ticked => false,
        });
        assert!(explained || zone.occupancy <= zone.capacity.max(before), "{} took one too many", zone.name);
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 200, ..ProptestConfig::default() })]

    /// After every step the books add up; at the end replay, snapshot and tail, and restore agree; and what was
    /// answered is answered again to the last bit, in any order, without anything happening.
    #[test]
    fn the_books_add_up_and_replay_agrees(
        deeds in proptest::collection::vec((deed(), -200_000..400_000_i64), 1..120),
        snapshot_at in 0..120_usize,
        order in any::<u64>(),
    ) {
        let mut world = small_world();
        let mut next = [1_u64; 5];
        let mut asked: Vec<(DeviceCommand, DeviceAnswer)> = Vec::new();
        let mut keys = BTreeMap::new();
        for (i, (deed, later)) in deeds.iter().enumerate() {
            world.now = world.now.plus_ms(*later);
            if i == snapshot_at {
                world.take_snapshot();
            }
            let before: Vec<u32> = world.here().zones.iter().map(|zone| zone.occupancy).collect();
            let command = command(&world, &mut next, deed);
            let answer = world.ask(command.clone());
            room(&before, &world, &[answer]);
            if let (Command::Admin(command), Answer::Admin { answer, repeated }) = (&command, answer)
                && let Some(key) = command.key
            {
                let &mut (fingerprint, first) = keys.entry(key.id).or_insert((key.fingerprint, answer));
                match fingerprint == key.fingerprint {
                    true => prop_assert_eq!(answer, first, "the same key, the same answer"),
                    false => {
                        prop_assert_eq!(answer, AdminAnswer::Rejected(Rejection::IdempotencyConflict));
                        prop_assert!(!repeated);
                    }
                }
            }
            if let (Command::Device(command), Answer::Device { answer, repeated: false, .. }) = (command, answer)
                && !world.step.record.is_empty()
            {
                asked.push((command, answer));
            }
        }
        world.replays();
        let mut audit = engine::audit::Audit::new(1);
        world.records.iter().for_each(|record| audit.record(ShardId(0), record));
        let report = audit.finish();
        prop_assert!(report.holds(), "{:#?}", report.violations);

        // Sent again, in another order. Below the floor it is stale, above it the same.
        let hash = world.shard.state_hash();
        asked.sort_by_key(|(command, _)| (command.seq ^ order).wrapping_mul(0x9E37_79B9_7F4A_7C15));
        for (command, answer) in asked {
            let floor = world.here().devices[command.device.number() as usize].window.floor();
            let (again, repeated) = world.device(command);
            if command.seq >= floor {
                prop_assert_eq!((again, repeated), (answer, true));
            } else {
                prop_assert_eq!(again.verdict, Verdict::Rejected(Rejection::StaleSeq));
            }
        }
        prop_assert_eq!(world.shard.state_hash(), hash, "nothing has happened");
    }

    /// Where a batch ends is nobody's business: cut otherwise, the same commands at the same time get the same answers
    /// and lead to the same state, but for the count of records.
    #[test]
    fn batches_can_be_cut_anywhere(
        deeds in proptest::collection::vec(deed(), 1..80),
        cuts in proptest::collection::vec(any::<bool>(), 80),
    ) {
        let mut whole = small_world();
        let mut cut = small_world();
        let mut next = [1_u64; 5];
        let commands: Vec<Command> = deeds.iter().map(|deed| command(&whole, &mut next, deed)).collect();
        let answers = whole.batch(&commands);
        let mut pieces = Vec::new();
        let mut batch = Vec::new();
        for (command, cut_here) in commands.into_iter().zip(cuts) {
            batch.push(command);
            if cut_here {
                pieces.extend(cut.batch(&std::mem::take(&mut batch)));
            }
        }
        pieces.extend(cut.batch(&batch));
        prop_assert_eq!(answers, pieces);
        whole.replays();
        cut.replays();
        prop_assert_eq!(snapshot_without_seq(&whole.shard), snapshot_without_seq(&cut.shard));
    }

    /// Whatever the writer writes, the reader reads: every kind of event there is.
    #[test]
    fn records_read_back(
        shard: u16, seq in 1..u64::MAX, at in any::<i64>(),
        events in proptest::collection::vec(events::any(), 0..40),
    ) {
        let mut bytes = vec![1, 2, 3];
        let mut writer = Writer::begin(&mut bytes, ShardId(shard), seq, Timestamp(at));
        events.iter().for_each(|event| writer.push(event));
        prop_assert_eq!(writer.events() as usize, events.len());
        let read = record::read(&bytes).unwrap();
        prop_assert_eq!((read.shard, read.seq, read.at), (ShardId(shard), seq, Timestamp(at)));
        prop_assert_eq!(read.events, events);
    }

    /// A record that is cut or changed is read or refused; nothing panics.
    #[test]
    fn a_spoiled_record_is_refused_or_read(
        events in proptest::collection::vec(events::any(), 1..6), cut: usize, flip: usize, bit in 0..8_u8,
    ) {
        let mut bytes = Vec::new();
        let mut writer = Writer::begin(&mut bytes, ShardId(1), 1, Timestamp(1));
        events.iter().for_each(|event| writer.push(event));
        let _ = record::read(&bytes[..cut % bytes.len()]);
        let at = flip % bytes.len();
        bytes[at] ^= 1 << bit;
        let _ = record::read(&bytes);
    }
}

/// Every event of a table, and every message between shards, is read and written as record.proto describes it.
#[test]
fn what_record_proto_describes_is_what_is_written() {
    use events::tables::{Draw, EVENTS, MESSAGES, kinds};
    let mut sent = std::collections::BTreeSet::new();
    for kind in kinds(EVENTS) {
        let mut draw = Draw(kind.number.into());
        let mut read = 0;
        let tries = if kind.name == "Sent" { 10_000 } else { 1_000 };
        for _ in 0..tries {
            let bytes = draw.record(kind);
            let Ok(record) = record::read(&bytes) else { continue };
            let mut written = Vec::new();
            let mut writer = Writer::begin(&mut written, ShardId(0), 0, Timestamp(0));
            record.events.iter().for_each(|event| writer.push(event));
            assert_eq!(written, bytes, "{:?}", record.events);
            read += 1;
            if let [Event::Sent { message, .. }] = &record.events[..] {
                sent.insert(format!("{message:?}").split(" {").next().map(str::to_owned));
            }
        }
        assert!(read > 0, "no {} can be read", kind.name);
    }
    assert_eq!(sent.len(), kinds(MESSAGES).len(), "{sent:?}");
}

/// The state but for the number of the last record.
fn snapshot_without_seq(shard: &Shard) -> Vec<u8> {
    // It lies in front, as a varint behind the shard's id, which takes one byte here.
    let bytes = shard.snapshot();
    let mut seq = Vec::new();
    let mut n = shard.seq();
    while n >= 0x80 {
        seq.push(n as u8 | 0x80);
        n >>= 7;
    }
    seq.push(n as u8);
    assert_eq!(&bytes[1..=seq.len()], seq);
    [&bytes[..1], &bytes[1 + seq.len()..]].concat()
}

/// A step in which nothing happens leaves no record and no trace.
#[test]
fn nothing_happened_nothing_written() {
    let mut world = World::open();
    world.ask(Command::Tick); // the readers' codes have lapsed
    let mut shard = world.shard.clone();
    let mut step = Step { record: vec![1, 2, 3], ..Step::default() };
    shard.step(world.now.plus_ms(60_000), &[Command::Tick], &mut step);
    assert_eq!((step.record.len(), step.events), (0, 0));
    assert_eq!(shard.state_hash(), world.shard.state_hash());
}

/// Bytes that are no record, with the reason named.
#[test]
fn what_is_not_a_record() {
    use engine::record::RecordError::*;
    assert_eq!(record::read(b""), Err(Malformed("format")));
    let format = record::FORMAT as u8;
    assert_eq!(record::read(&[8, format - 1]), Err(Malformed("format")), "from before the first that is read for ever");
    assert_eq!(record::read(&[8, format + 1]), Err(Newer(record::FORMAT + 1)));
    assert_eq!(record::read(&[8, format, 0x2A, 0]), Err(Malformed("event")));
    assert_eq!(record::read(b"{\"json\":true}"), Err(Malformed("record")));
    let mut world = World::open();
    world.play("enter T1 main");
    let last = world.records.len() - 1;
    let mut other = Shard::new(ShardId(7), 8);
    assert_eq!(other.replay(&world.records[0]), Err(OtherShard(ShardId(0))));
    let mut again = Shard::new(ShardId(0), 1);
    assert_eq!(again.replay(&world.records[last]), Err(OutOfOrder(1, last as u64 + 1)));
    assert_eq!(world.shard.clone().replay(&world.records[last]), Err(OutOfOrder(last as u64 + 2, last as u64 + 1)));
}
