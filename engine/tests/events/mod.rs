//! Any event there can be, for the round trip through a record.

mod cashless;

use engine::event::*;

use engine::gates::command::{CategoryValues, Details, Direction, FirstUse, Verdict};
use engine::gates::event::*;
use engine::model::ids::*;
use engine::model::money::Money;
use engine::model::principal::Principal;
use engine::model::rejection::Rejection;
use engine::model::status::*;
use engine::model::time::{Calendar, Timestamp};
use proptest::collection::vec;
use proptest::option;
use proptest::prelude::*;
use proptest::sample::select;

/// Any event, each kind as likely as the others.
pub(crate) fn any() -> BoxedStrategy<Event> {
    let festival = || any_u32().prop_map(FestivalId);
    let text = || "\\PC{0,20}".prop_map(String::from);
    let hash = || proptest::prelude::any::<[u8; 32]>();
    let mut kinds: Vec<BoxedStrategy<Event>> = vec![
        scanned().prop_map(Event::Scanned).boxed(),
        undone().prop_map(Event::Undone).boxed(),
        asked().prop_map(Event::Origin).boxed(),
        (text(), text(), time(), time(), policy(), calendar())
            .prop_map(|(slug, name, starts_at, ends_at, policy, calendar)| Event::FestivalCreated {
                slug,
                name,
                starts_at,
                ends_at,
                policy,
                calendar,
            })
            .boxed(),
        (festival(), select(FestivalStatus::ALL))
            .prop_map(|(festival, to)| Event::FestivalStatusSet { festival, to })
            .boxed(),
        (festival(), policy()).prop_map(|(festival, policy)| Event::PolicySet { festival, policy }).boxed(),
        (festival(), zone(), text(), option::of(zone()), any_u32())
            .prop_map(|(festival, zone, name, parent, capacity)| Event::ZonePut {
                festival,
                zone,
                name,
                parent,
                capacity,
            })
            .boxed(),
        (festival(), gate(), zone(), text())
            .prop_map(|(festival, gate, zone, name)| Event::GateAdded { festival, gate, zone, name })
            .boxed(),
        (festival(), category(), category_values())
            .prop_map(|(festival, category, values)| Event::CategoryPut { festival, category, values })
            .boxed(),
        (
            festival(),
            category(),
            any_u32(),
            any_u32(),
            any_u64(),
            proptest::bool::ANY,
            vec(option::of(1..u128::MAX), 0..5),
        )
            .prop_map(|(festival, category, first_serial, count, seed, paid, holders)| Event::TicketsIssued {
                festival,
                category,
                first_serial,
                count,
                seed,
                paid,
                holders,
            })
            .boxed(),
        (ticket(), select(TicketStatus::ALL), select(TicketStatus::ALL))
            .prop_map(|(ticket, from, to)| Event::TicketStatusSet { ticket, from, to })
            .boxed(),
        (ticket(), proptest::bool::ANY).prop_map(|(ticket, blocked)| Event::TicketBlockSet { ticket, blocked }).boxed(),
        (ticket(), prop_oneof![vec(any_u8(), 4), vec(any_u8(), 7), vec(any_u8(), 10)])
            .prop_map(|(ticket, uid)| Event::TagBound { ticket, tag: TagUid::new(&uid).expect("a length there is") })
            .boxed(),
        (festival(), zone(), select(ZoneState::ALL))
            .prop_map(|(festival, zone, state)| Event::ZoneStateSet { festival, zone, state })
            .boxed(),
        (festival(), gate(), hash(), text(), time())
            .prop_map(|(festival, gate, code_hash, name, until)| Event::EnrolmentOffered {
                festival,
                gate,
                code_hash,
                name,
                until,
            })
            .boxed(),
        (any_u64(), gate(), hash(), text(), hash())
            .prop_map(|(device, gate, public_key, name, code_hash)| Event::DeviceEnrolled {
                device: DeviceId(device),
                gate,
                public_key,
                name,
                code_hash,
            })
            .boxed(),
        any_u64().prop_map(|device| Event::DeviceRevoked { device: DeviceId(device) }).boxed(),
        (any_u64(), any_u64())
            .prop_map(|(device, session)| Event::DeviceConnected { device: DeviceId(device), session })
            .boxed(),
        (any_u64(), any_u64())
            .prop_map(|(device, session)| Event::DeviceLeft { device: DeviceId(device), session })
            .boxed(),
        (any_u64(), proptest::num::i64::ANY)
            .prop_map(|(device, off_ms)| Event::DeviceClockSeen { device: DeviceId(device), off_ms })
            .boxed(),
        (any_u64(), any_u64(), any_u64())
            .prop_map(|(device, current, next)| Event::DevicePins { device: DeviceId(device), pins: [current, next] })
            .boxed(),
        (festival(), any_u32()).prop_map(|(festival, version)| Event::QrKeyRotated { festival, version }).boxed(),
        (any_u32(), hash(), select(Role::ALL), vec(festival(), 0..4), text())
            .prop_map(|(key, hash, role, festivals, name)| Event::ApiKeyCreated { key, hash, role, festivals, name })
            .boxed(),
        any_u32().prop_map(|key| Event::ApiKeyRevoked { key }).boxed(),
        Just(Event::Expired).boxed(),
        (festival(), text())
            .prop_map(|(festival, reason)| Event::ByHand(DoneByHand::Reopened { festival, reason }))
            .boxed(),
        (festival(), text(), time(), time(), text(), option::of(any_u32()), calendar())
            .prop_map(|(festival, name, starts_at, ends_at, location, max_capacity, calendar)| {
                let details = Details { name, starts_at, ends_at, location, max_capacity, calendar };
                Event::ByHand(DoneByHand::Edited { festival, details })
            })
            .boxed(),
        (festival(), text(), any_u32())
            .prop_map(|(festival, reason, tickets)| Event::ByHand(DoneByHand::ScansReset { festival, reason, tickets }))
            .boxed(),
        (ticket(), select(TicketStatus::ALL), text())
            .prop_map(|(ticket, from, reason)| Event::ByHand(DoneByHand::TicketRestored { ticket, from, reason }))
            .boxed(),
        (any_u64(), text())
            .prop_map(|(device, reason)| {
                Event::ByHand(DoneByHand::DeviceReadmitted { device: DeviceId(device), reason })
            })
            .boxed(),
        (ticket(), gate(), zone(), option::of(select(Rejection::ALL)), proptest::bool::ANY, any_u32(), text())
            .prop_map(|(ticket, gate, zone, instead_of, first_entry, occupancy, reason)| {
                let admitted = AdmittedByHand { ticket, gate, zone, instead_of, first_entry, occupancy, reason };
                Event::ByHand(DoneByHand::Admitted { admitted })
            })
            .boxed(),
    ];
    kinds.extend(cashless::any());
    proptest::strategy::Union::new(kinds).prop_map(complete).boxed()
}

/// Fails to compile when a kind of event is added: then it belongs into the list above as well.
fn complete(event: Event) -> Event {
    match event {
        Event::Scanned(_)
        | Event::Undone(_)
        | Event::Origin(_)
        | Event::FestivalCreated { .. }
        | Event::FestivalStatusSet { .. }
        | Event::PolicySet { .. }
        | Event::ZonePut { .. }
        | Event::GateAdded { .. }
        | Event::CategoryPut { .. }
        | Event::TicketsIssued { .. }
        | Event::TicketStatusSet { .. }
        | Event::TicketBlockSet { .. }
        | Event::TagBound { .. }
        | Event::ZoneStateSet { .. }
        | Event::EnrolmentOffered { .. }
        | Event::DeviceEnrolled { .. }
        | Event::DeviceRevoked { .. }
        | Event::DeviceConnected { .. }
        | Event::DeviceLeft { .. }
        | Event::DeviceClockSeen { .. }
        | Event::DevicePins { .. }
        | Event::QrKeyRotated { .. }
        | Event::ApiKeyCreated { .. }
        | Event::ApiKeyRevoked { .. }
        | Event::Expired
        | Event::ByHand(_)
        | Event::Transaction(_)
        | Event::Cashless(_)
        | Event::Sent { .. }
        | Event::Received { .. }
        | Event::Delivered { .. } => event,
    }
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
fn policy() -> impl Strategy<Value = Policy> {
    (select(EntryPolicy::ALL), select(ScanAck::ALL), any_u32()).prop_map(|(entry, ack, log_one_rejection_in)| Policy {
        entry,
        ack,
        log_one_rejection_in,
    })
}
fn category_values() -> impl Strategy<Value = CategoryValues> {
    (
        "\\PC{0,20}",
        select(CategoryKind::ALL),
        proptest::num::i64::ANY,
        cashless::currency(),
        any_u32(),
        any_u64(),
        time(),
        time(),
    )
        .prop_map(|(name, kind, minor, currency, quota, zones, valid_from, valid_until)| CategoryValues {
            name,
            kind,
            price: Money { minor, currency },
            quota,
            zones,
            valid_from,
            valid_until,
        })
}

fn calendar() -> impl Strategy<Value = Calendar> {
    ("\\PC{0,20}", 0..1_440_u16).prop_map(|(time_zone, day_starts_min)| Calendar { time_zone, day_starts_min })
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
