//! Any event there can be, for the round trip through a record.

mod cashless;
pub(crate) mod tables;

use engine::event::*;
use engine::gates::command::{Direction, FirstUse, Verdict};
use engine::gates::event::*;
use engine::model::ids::*;
use engine::model::principal::Principal;
use engine::model::rejection::Rejection;
use engine::model::time::Timestamp;
use proptest::collection::vec;
use proptest::option;
use proptest::prelude::*;
use proptest::sample::select;

/// Any event.
pub(crate) fn any() -> BoxedStrategy<Event> {
    proptest::strategy::Union::new_weighted(vec![
        (1, scanned().prop_map(Event::Scanned).boxed()),
        (1, undone().prop_map(Event::Undone).boxed()),
        (1, asked().prop_map(Event::Origin).boxed()),
        (1, cashless::transaction().prop_map(Event::Transaction).boxed()),
        (8, of_a_table().boxed()),
    ])
    .boxed()
}

/// Any event that a table declares, each kind as likely as the others.
fn of_a_table() -> impl Strategy<Value = Event> {
    (select(tables::kinds(tables::EVENTS)), any_u64()).prop_map(|(kind, number)| {
        let mut draw = tables::Draw(number);
        let mut tries = (0..100_000).filter_map(|_| engine::record::read(&draw.record(kind)).ok());
        tries.next().and_then(|mut record| record.events.pop()).expect("one that can be read")
    })
}

fn tag() -> impl Strategy<Value = TagUid> {
    prop_oneof![vec(any_u8(), 4), vec(any_u8(), 7), vec(any_u8(), 10)]
        .prop_map(|uid| TagUid::new(&uid).expect("a length there is"))
}
fn any_u8() -> impl Strategy<Value = u8> {
    proptest::num::u8::ANY
}
fn any_u32() -> impl Strategy<Value = u32> {
    prop_oneof![Just(0), Just(u32::MAX), proptest::num::u32::ANY]
}
fn any_u64() -> impl Strategy<Value = u64> {
    prop_oneof![Just(0), Just(u64::MAX), proptest::num::u64::ANY]
}
fn time() -> impl Strategy<Value = Timestamp> {
    prop_oneof![Just(i64::MIN), Just(i64::MAX), proptest::num::i64::ANY].prop_map(Timestamp)
}
fn zone() -> impl Strategy<Value = ZoneNo> {
    (0..64_u8).prop_map(ZoneNo)
}
fn gate() -> impl Strategy<Value = GateNo> {
    proptest::num::u16::ANY.prop_map(GateNo)
}
fn category() -> impl Strategy<Value = CategoryNo> {
    proptest::num::u16::ANY.prop_map(CategoryNo)
}
fn ticket() -> impl Strategy<Value = TicketId> {
    (any_u32(), category(), any_u32(), any_u64())
        .prop_map(|(festival, category, serial, nonce)| TicketId::new(FestivalId(festival), category, serial, nonce))
}
fn verdict() -> impl Strategy<Value = Verdict> {
    prop_oneof![
        Just(Verdict::Admitted),
        Just(Verdict::Exited),
        Just(Verdict::Undone),
        select(Rejection::ALL).prop_map(Verdict::Rejected)
    ]
}
/// A device's command: numbers from 1, the floor at most a window below, as a shard writes it.
fn by_device() -> impl Strategy<Value = ByDevice> {
    (any_u64(), any_u64(), 0..=4_096_u64, any_u32()).prop_map(|(device, seq, below, fingerprint)| {
        let seq = seq.max(1);
        ByDevice { device: DeviceId(device), seq, floor: seq.saturating_sub(below), fingerprint }
    })
}

fn scanned() -> impl Strategy<Value = Scanned> {
    let first_use = (time(), zone(), gate()).prop_map(|(at, zone, gate)| FirstUse { at, zone, gate });
    let what = (any_u8(), gate(), proptest::bool::ANY, verdict(), any_u8(), option::of(ticket()), any_u32());
    let times = (time(), time());
    let credential = (any_u32(), option::of(tag()));
    (by_device(), what, option::of(first_use), times, option::of(select(Rejection::ALL)), credential).prop_map(
        |(
            by,
            (zone, gate, enter, verdict, flags, ticket, occupancy),
            first_use,
            (captured_at, taken_at),
            instead_of,
            (credential, tag),
        )| Scanned {
            device: by.device,
            seq: by.seq,
            floor: by.floor,
            fingerprint: by.fingerprint,
            // As the reader named it, whether there is such a zone or not.
            zone: ZoneNo(zone),
            gate,
            direction: if enter { Direction::Enter } else { Direction::Exit },
            verdict,
            flags,
            ticket,
            occupancy,
            first_use,
            captured_at,
            taken_at,
            instead_of,
            credential,
            tag,
        },
    )
}

fn undone() -> impl Strategy<Value = Undone> {
    let scan = (gate(), proptest::bool::ANY, time()).prop_map(|(gate, enter, minute)| TakenBack {
        gate,
        direction: if enter { Direction::Enter } else { Direction::Exit },
        minute,
    });
    let what = (verdict(), ticket(), any_u64(), proptest::bool::ANY, any_u32());
    (option::of(by_device()), zone(), gate(), what, option::of(scan)).prop_map(
        |(by, zone, gate, (verdict, ticket, inside, unused, occupancy), scan)| Undone {
            by,
            zone,
            gate,
            verdict,
            ticket,
            inside,
            unused,
            occupancy,
            scan,
        },
    )
}

/// Of each kind there is, and of some that there will be.
fn principal() -> impl Strategy<Value = Principal> {
    (0..9_u32, proptest::num::u128::ANY, 0..128_u32)
        .prop_map(|(kind, id, bits)| Principal::from_parts(kind, id >> bits))
}

fn asked() -> impl Strategy<Value = Origin> {
    let already = prop_oneof![
        Just(Already::Done),
        (1..u64::MAX).prop_map(|id| Already::Device(DeviceId(id))),
        (1..u64::MAX).prop_map(|id| Already::Wallet(WalletId(id)))
    ];
    let key = (proptest::num::u128::ANY, any_u64());
    (principal(), option::of(key), option::of(select(Rejection::ALL)), option::of(already))
        .prop_map(|(by, key, rejection, already)| Origin { by, key, rejection, already })
}
