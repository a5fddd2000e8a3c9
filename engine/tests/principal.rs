//! Who did it is in the record, whoever it was, and stays there.

mod common;
use common::{World, create};
use engine::command::*;
use engine::event::{Event, Origin};
use engine::model::ids::*;
use engine::model::principal::Principal;
use engine::model::time::Timestamp;
use engine::record::{self, Writer};
use engine::shard::Shard;

const PERSON: PersonId = PersonId::from_u128(0x0192_0000_0000_7000_8000_0000_0000_0001);

fn everybody() -> [Principal; 6] {
    [
        Principal::Installation,
        Principal::ApiKey(7),
        Principal::Person(PERSON),
        Principal::Device(DeviceId::new(FestivalId(1), 3)),
        Principal::Webhook(ProviderNo::STRIPE),
        Principal::Node(NodeNo(2)),
    ]
}

fn ask(by: Principal, key: u128, slug: &str) -> Command {
    let key = Some(IdempotencyKey { id: key, fingerprint: 1, made_at: None });
    Command::Admin(Box::new(AdminCommand { key, by, action: create(slug) }))
}

#[test]
fn the_record_says_who_asked() {
    let mut night = World::bare();
    for (nth, by) in (0..).zip(everybody()) {
        night.ask(ask(by, nth, &format!("of-{nth}")));
        let events = record::read(night.records.last().unwrap()).unwrap().events;
        let asked = Origin { by, key: Some((nth, 1)), rejection: None, already: None };
        assert_eq!(events[0], Event::Origin(asked));
        assert!(matches!(events[1], Event::FestivalCreated { .. }));
    }
    night.replays();
}

/// The same key and question from another asker never meet: the door makes the key's id from both. What the shard shares
/// out by asker it shares out by all of them, whatever kind they are.
#[test]
fn shares_are_told_apart_by_who_asks() {
    let mut night = World::bare();
    let mut next = 0;
    let mut one_more = |night: &mut World, by| {
        next += 1;
        // Refused, and remembered: the slug is not one.
        night.ask(ask(by, next, "Not A Slug"))
    };
    let share = engine::shard::dedupe::KEYS_MAX / (engine::shard::dedupe::SHARE + 1);
    let person = Principal::Person(PERSON);
    let limited = |answer| {
        let rejected = AdminAnswer::Rejected(engine::model::rejection::Rejection::LimitReached);
        matches!(answer, Answer::Admin { answer, .. } if answer == rejected)
    };
    let batch: Vec<_> = (0..=share as u128).map(|n| ask(person, 1 << 64 | n, "Not A Slug")).collect();
    night.batch(&batch);
    assert!(limited(one_more(&mut night, person)), "this one has had enough");
    let other = Principal::Person(PersonId::from_u128(PERSON.as_u128() + 1));
    let same_number = Principal::Other { kind: 99, id: PERSON };
    for by in everybody().into_iter().filter(|by| *by != person).chain([other, same_number]) {
        assert!(!limited(one_more(&mut night, by)), "{by:?}");
    }
}

/// A record of a newer program that knows more kinds: it is taken in, and whoever asked is still there afterwards.
#[test]
fn a_kind_that_is_not_known_is_kept() {
    let by = Principal::Other { kind: 9, id: PersonId::from_u128(u128::MAX - 5) };
    let asked = Event::Origin(Origin { by, key: Some((7, 7)), rejection: None, already: None });
    let mut bytes = Vec::new();
    let mut writer = Writer::begin(&mut bytes, ShardId(0), 1, Timestamp(1));
    writer.push(&asked);
    writer.push(&Event::ApiKeyCreated {
        key: 1,
        hash: [1; 32],
        role: engine::model::status::Role::Admin,
        festivals: vec![],
        name: "theirs".into(),
    });
    let mut shard = Shard::new(ShardId(0), 1);
    let read = shard.replay(&bytes).unwrap();
    assert_eq!(read.events[0], asked);
    let mut again = Vec::new();
    let mut writer = Writer::begin(&mut again, ShardId(0), 1, Timestamp(1));
    read.events.iter().for_each(|event| writer.push(event));
    assert_eq!(again, bytes, "to the last byte");
    let restored = Shard::restore(&shard.snapshot()).unwrap();
    assert_eq!(restored.state_hash(), shard.state_hash());
}

/// What it costs: nothing where the installation asks itself, seven bytes for an API key.
#[test]
fn it_is_small_in_the_record() {
    let size = |by| {
        let mut bytes = Vec::new();
        let mut writer = Writer::begin(&mut bytes, ShardId(0), 1, Timestamp(1));
        writer.push(&Event::Origin(Origin { by, key: None, rejection: None, already: None }));
        bytes.len()
    };
    let nothing = size(Principal::Installation);
    let sizes = everybody().map(|by| size(by) - nothing);
    assert!(sizes[1] <= 7 && sizes[4] <= 7 && sizes[5] <= 7, "{sizes:?}");
    assert!(sizes.iter().all(|size| *size <= 24), "{sizes:?}");
}
