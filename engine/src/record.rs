//! The record format: one batch of one shard, as Protocol Buffers (`proto/record.proto`). Scans are written field by
//! field without a detour, since there are a million a second of them; everything else goes through the generated types.

mod by_hand;
mod cashless;

use prost::Message;
use prost::encoding::{WireType, encode_key, encode_varint, encoded_len_varint, key_len};

use crate::cashless::event::Transaction;
use crate::event::{Already, Event, Origin};
use crate::gates::command::{CategoryValues, Direction, FirstUse, Verdict};
use crate::gates::event::{ByDevice, Scanned, TakenBack, Undone};
use crate::model::ids::{CategoryNo, DeviceId, FestivalId, GateNo, ShardId, TagUid, TicketId, WalletId, ZoneNo};
use crate::model::money::{Currency, Money};
use crate::model::principal::Principal;
use crate::model::rejection::Rejection;
use crate::model::status::{CategoryKind, EntryPolicy, FestivalStatus, Policy, Role, ScanAck, TicketStatus, ZoneState};
use crate::model::time::{Calendar, Timestamp};

#[allow(clippy::all, unreachable_pub)] // generated; the words are in the .proto
mod proto {
    include!(concat!(env!("OUT_DIR"), "/tapgate.record.v1.rs"));
}
use proto::event::Kind;

/// The format written. Older ones are read by upcasting; a newer one is refused. There was a format 1 before any festival
/// was recorded; journals that hold it are refused by their own version.
pub const FORMAT: u32 = 2;

/// Numbers of the fields that are written by hand.
const EVENTS: u32 = 5;
const SCANNED: u32 = 1;
const UNDONE: u32 = 2;
const TRANSACTION: u32 = 4;

/// A record as read back.
#[derive(Clone, Debug, PartialEq)]
pub struct Record {
    pub shard: ShardId,
    /// Dense within the shard, from 1.
    pub seq: u64,
    /// When all of it happened.
    pub at: Timestamp,
    /// What happened, in order.
    pub events: Vec<Event>,
}

/// Why a record cannot be read. Its checksum held, so this is another version's record or a bug, never chance.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum RecordError {
    /// Written by a newer version of this software.
    Newer(u32),
    /// Not what this format allows; the name of the field.
    Malformed(&'static str),
    /// Not the record that follows: expected, found.
    OutOfOrder(u64, u64),
    /// Another shard's.
    OtherShard(ShardId),
}

impl core::fmt::Display for RecordError {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        match self {
            Self::Newer(format) => write!(f, "the record has format {format}, this version reads up to {FORMAT}"),
            Self::Malformed(field) => write!(f, "the record is malformed at `{field}`"),
            Self::OutOfOrder(expected, found) => write!(f, "record {found} where {expected} should follow"),
            Self::OtherShard(shard) => write!(f, "the record belongs to shard {}", shard.0),
        }
    }
}
impl std::error::Error for RecordError {}

/// Writes one record into a buffer that the caller keeps, so that a steady stream of records allocates nothing.
pub struct Writer<'a> {
    buffer: &'a mut Vec<u8>,
    events: u32,
    at: Timestamp,
}

impl<'a> Writer<'a> {
    /// Begins a record in an empty buffer.
    pub fn begin(buffer: &'a mut Vec<u8>, shard: ShardId, seq: u64, at: Timestamp) -> Self {
        buffer.clear();
        let head = proto::Record { format: FORMAT, shard: u32::from(shard.0), seq, at: at.0, events: Vec::new() };
        head.encode(buffer).expect("a Vec grows");
        Self { buffer, events: 0, at }
    }

    /// How many events it has.
    pub fn events(&self) -> u32 {
        self.events
    }

    /// Adds an event.
    pub fn push(&mut self, event: &Event) {
        self.events += 1;
        match event {
            Event::Scanned(scanned) => self.message(SCANNED, &scanned_to_proto(scanned, self.at)),
            Event::Undone(undone) => self.message(UNDONE, &undone_to_proto(undone, self.at)),
            Event::Transaction(transaction) => self.transaction(transaction),
            other => {
                let event = proto::Event { kind: Some(to_proto(other)) };
                encode_key(EVENTS, WireType::LengthDelimited, self.buffer);
                event.encode_length_delimited(self.buffer).expect("a Vec grows");
            }
        }
    }

    /// Adds a transaction from where it lies.
    pub fn push_transaction(&mut self, transaction: &Transaction) {
        self.events += 1;
        self.transaction(transaction);
    }

    fn transaction(&mut self, transaction: &Transaction) {
        self.message(TRANSACTION, &cashless::transaction_to_proto(transaction));
    }

    /// `Event { oneof { <tag>: message } }` without building the `Event`.
    fn message(&mut self, tag: u32, message: &impl Message) {
        let len = message.encoded_len();
        encode_key(EVENTS, WireType::LengthDelimited, self.buffer);
        encode_varint((key_len(tag) + encoded_len_varint(len as u64) + len) as u64, self.buffer);
        encode_key(tag, WireType::LengthDelimited, self.buffer);
        encode_varint(len as u64, self.buffer);
        message.encode_raw(self.buffer);
    }
}

/// Reads a record.
///
/// # Errors
/// [`RecordError`].
pub fn read(bytes: &[u8]) -> Result<Record, RecordError> {
    let record = proto::Record::decode(bytes).map_err(|_| RecordError::Malformed("record"))?;
    match record.format {
        FORMAT => {}
        0 | 1 => return Err(RecordError::Malformed("format")),
        newer => return Err(RecordError::Newer(newer)),
    }
    let at = Timestamp(record.at);
    let events = record
        .events
        .into_iter()
        .map(|event| from_proto(event.kind.ok_or(RecordError::Malformed("event"))?, at))
        .collect::<Result<_, _>>()?;
    Ok(Record { shard: ShardId(narrow(record.shard, "shard")?), seq: record.seq, at, events })
}

fn ticket_halves(ticket: Option<TicketId>) -> (u64, u64) {
    let bits = ticket.map_or(0, TicketId::as_u128);
    ((bits >> 64) as u64, bits as u64)
}

fn scanned_to_proto(scanned: &Scanned, at: Timestamp) -> proto::Scanned {
    let (ticket_high, ticket_low) = ticket_halves(scanned.ticket);
    let (tag_first, tag_rest) = scanned.tag.map_or((0, 0), TagUid::to_words);
    proto::Scanned {
        device: scanned.device.0,
        seq: scanned.seq,
        below: (scanned.seq - scanned.floor) as u32,
        fingerprint: scanned.fingerprint,
        zone: u32::from(scanned.zone.0),
        gate: u32::from(scanned.gate.0),
        direction: scanned.direction as u32,
        verdict: u32::from(scanned.verdict.number()),
        flags: u32::from(scanned.flags),
        ticket_high,
        ticket_low,
        occupancy: scanned.occupancy,
        first_use: scanned.first_use.map(|first| proto::FirstUse {
            at: first.at.0,
            zone: u32::from(first.zone.0),
            gate: u32::from(first.gate.0),
        }),
        captured_ago: at.0.wrapping_sub(scanned.captured_at.0),
        instead_of: scanned.instead_of.map_or(0, |rejection| rejection as u32),
        credential: scanned.credential,
        taken_ago: at.0.wrapping_sub(scanned.taken_at.0),
        tag_first,
        tag_rest,
    }
}

fn undone_to_proto(undone: &Undone, at: Timestamp) -> proto::Undone {
    let (ticket_high, ticket_low) = ticket_halves(Some(undone.ticket));
    let by = undone.by.unwrap_or(ByDevice { device: DeviceId(0), seq: 0, floor: 0, fingerprint: 0 });
    proto::Undone {
        device: by.device.0,
        seq: by.seq,
        below: (by.seq - by.floor) as u32,
        fingerprint: by.fingerprint,
        zone: u32::from(undone.zone.0),
        gate: u32::from(undone.gate.0),
        verdict: u32::from(undone.verdict.number()),
        ticket_high,
        ticket_low,
        inside: undone.inside,
        unused: undone.unused,
        occupancy: undone.occupancy,
        scan_gate: undone.scan.map_or(0, |scan| u32::from(scan.gate.0)),
        scan_direction: undone.scan.map_or(0, |scan| scan.direction as u32),
        scan_ago: undone.scan.map(|scan| at.0.wrapping_sub(scan.minute.0)),
    }
}

fn principal_to_proto(by: Principal) -> Option<proto::Principal> {
    let (kind, id) = by.to_parts();
    (by != Principal::Installation).then_some(proto::Principal { kind, low: id as u64, high: (id >> 64) as u64 })
}

fn principal_from_proto(by: Option<proto::Principal>) -> Principal {
    by.map_or(Principal::Installation, |by| {
        Principal::from_parts(by.kind, u128::from(by.high) << 64 | u128::from(by.low))
    })
}

fn policy_to_proto(policy: &Policy) -> proto::Policy {
    proto::Policy {
        entry: policy.entry as u32,
        ack: policy.ack as u32,
        log_one_rejection_in: policy.log_one_rejection_in,
    }
}

fn to_proto(event: &Event) -> Kind {
    match event {
        Event::Scanned(_) | Event::Undone(_) | Event::Transaction(_) => unreachable!("written by Writer::push"),
        Event::Cashless(event) => cashless::to_proto(event),
        Event::Sent { to, n, message } => {
            Kind::Sent(proto::Sent { to: u32::from(to.0), n: *n, message: Some(cashless::message_to_proto(message)) })
        }
        Event::Received { from, n, message } => Kind::Received(proto::Received {
            from: u32::from(from.0),
            n: *n,
            message: Some(cashless::message_to_proto(message)),
        }),
        Event::Delivered { to, through } => {
            Kind::Delivered(proto::Delivered { to: u32::from(to.0), through: *through })
        }
        Event::Origin(asked) => Kind::Origin(proto::Origin {
            by: principal_to_proto(asked.by),
            key: asked.key.map_or(Vec::new(), |(id, _)| id.to_be_bytes().to_vec()),
            fingerprint: asked.key.map_or(0, |(_, fingerprint)| fingerprint),
            rejection: asked.rejection.map_or(0, |rejection| rejection as u32),
            already: match asked.already {
                Some(Already::Done) => Some(0),
                Some(Already::Device(device)) => Some(device.0),
                Some(Already::Wallet(_)) | None => None,
            },
            already_wallet: if let Some(Already::Wallet(wallet)) = asked.already { wallet.0 } else { 0 },
        }),
        Event::FestivalCreated { slug, name, starts_at, ends_at, policy, calendar } => {
            Kind::FestivalCreated(proto::FestivalCreated {
                slug: slug.clone(),
                name: name.clone(),
                starts_at: starts_at.0,
                ends_at: ends_at.0,
                policy: Some(policy_to_proto(policy)),
                time_zone: calendar.time_zone.clone(),
                day_starts_min: u32::from(calendar.day_starts_min),
            })
        }
        Event::FestivalStatusSet { festival, to } => {
            Kind::FestivalStatusSet(proto::FestivalStatusSet { festival: festival.0, to: *to as u32 })
        }
        Event::PolicySet { festival, policy } => {
            Kind::PolicySet(proto::PolicySet { festival: festival.0, policy: Some(policy_to_proto(policy)) })
        }
        Event::ZonePut { festival, zone, name, parent, capacity } => Kind::ZonePut(proto::ZonePut {
            festival: festival.0,
            zone: u32::from(zone.0),
            name: name.clone(),
            parent: parent.map(|parent| u32::from(parent.0)),
            capacity: *capacity,
        }),
        Event::GateAdded { festival, gate, zone, name } => Kind::GateAdded(proto::GateAdded {
            festival: festival.0,
            gate: u32::from(gate.0),
            zone: u32::from(zone.0),
            name: name.clone(),
        }),
        Event::CategoryPut { festival, category, values } => Kind::CategoryPut(proto::CategoryPut {
            festival: festival.0,
            category: u32::from(category.0),
            name: values.name.clone(),
            kind: values.kind as u32,
            price_minor: values.price.minor,
            currency: values.price.currency.to_word(),
            quota: values.quota,
            zones: values.zones,
            valid_from: values.valid_from.0,
            valid_until: values.valid_until.0,
        }),
        Event::TicketsIssued { festival, category, first_serial, count, seed, paid, holders } => {
            Kind::TicketsIssued(proto::TicketsIssued {
                festival: festival.0,
                category: u32::from(category.0),
                first_serial: *first_serial,
                count: *count,
                seed: *seed,
                paid: *paid,
                holders: holders.iter().flat_map(|holder| holder.unwrap_or(0).to_be_bytes()).collect(),
            })
        }
        Event::TicketStatusSet { ticket, from, to } => {
            let (ticket_high, ticket_low) = ticket_halves(Some(*ticket));
            Kind::TicketStatusSet(proto::TicketStatusSet {
                ticket_high,
                ticket_low,
                from: *from as u32,
                to: *to as u32,
            })
        }
        Event::TicketBlockSet { ticket, blocked } => {
            let (ticket_high, ticket_low) = ticket_halves(Some(*ticket));
            Kind::TicketBlockSet(proto::TicketBlockSet { ticket_high, ticket_low, blocked: *blocked })
        }
        Event::TagBound { ticket, tag } => {
            let (ticket_high, ticket_low) = ticket_halves(Some(*ticket));
            Kind::TagBound(proto::TagBound { ticket_high, ticket_low, tag: tag.as_bytes().to_vec() })
        }
        Event::ZoneStateSet { festival, zone, state } => Kind::ZoneStateSet(proto::ZoneStateSet {
            festival: festival.0,
            zone: u32::from(zone.0),
            state: *state as u32,
        }),
        Event::EnrolmentOffered { festival, gate, code_hash, name, until } => {
            Kind::EnrolmentOffered(proto::EnrolmentOffered {
                festival: festival.0,
                gate: u32::from(gate.0),
                code_hash: code_hash.to_vec(),
                name: name.clone(),
                until: until.0,
            })
        }
        Event::DeviceEnrolled { device, gate, public_key, name, code_hash } => {
            Kind::DeviceEnrolled(proto::DeviceEnrolled {
                device: device.0,
                gate: u32::from(gate.0),
                public_key: public_key.to_vec(),
                name: name.clone(),
                code_hash: code_hash.to_vec(),
            })
        }
        Event::DeviceRevoked { device } => Kind::DeviceRevoked(proto::DeviceRevoked { device: device.0 }),
        Event::DeviceConnected { device, session } => {
            Kind::DeviceConnected(proto::DeviceConnected { device: device.0, session: *session })
        }
        Event::DeviceLeft { device, session } => {
            Kind::DeviceLeft(proto::DeviceLeft { device: device.0, session: *session })
        }
        Event::DeviceClockSeen { device, off_ms } => {
            Kind::DeviceClockSeen(proto::DeviceClockSeen { device: device.0, off_ms: *off_ms })
        }
        Event::DevicePins { device, pins: [current, next] } => {
            Kind::DevicePins(proto::DevicePins { device: device.0, current: *current, next: *next })
        }
        Event::QrKeyRotated { festival, version } => {
            Kind::QrKeyRotated(proto::QrKeyRotated { festival: festival.0, version: *version })
        }
        Event::ApiKeyCreated { key, hash, role, festivals, name } => Kind::ApiKeyCreated(proto::ApiKeyCreated {
            key: *key,
            hash: hash.to_vec(),
            role: *role as u32,
            festivals: festivals.iter().map(|festival| festival.0).collect(),
            name: name.clone(),
        }),
        Event::ApiKeyRevoked { key } => Kind::ApiKeyRevoked(proto::ApiKeyRevoked { key: *key }),
        Event::Expired => Kind::Expired(proto::Expired {}),
        Event::ByHand(done) => by_hand::to_proto(done),
    }
}

fn narrow<T: TryFrom<u32>>(value: u32, field: &'static str) -> Result<T, RecordError> {
    T::try_from(value).map_err(|_| RecordError::Malformed(field))
}

fn zone(value: u32) -> Result<ZoneNo, RecordError> {
    if value < 64 { Ok(ZoneNo(value as u8)) } else { Err(RecordError::Malformed("zone")) }
}

fn gate(value: u32) -> Result<GateNo, RecordError> {
    narrow(value, "gate").map(GateNo)
}

fn ticket(high: u64, low: u64) -> Result<TicketId, RecordError> {
    TicketId::from_u128(u128::from(high) << 64 | u128::from(low)).ok_or(RecordError::Malformed("ticket"))
}

fn verdict(number: u32) -> Result<Verdict, RecordError> {
    Verdict::from_number(narrow(number, "verdict")?).ok_or(RecordError::Malformed("verdict"))
}

fn rejection(number: u32) -> Result<Option<Rejection>, RecordError> {
    match number {
        0 => Ok(None),
        number => {
            Rejection::from_number(narrow(number, "rejection")?).map(Some).ok_or(RecordError::Malformed("rejection"))
        }
    }
}

fn word<T>(found: Option<T>, field: &'static str) -> Result<T, RecordError> {
    found.ok_or(RecordError::Malformed(field))
}

fn array<const N: usize>(bytes: &[u8], field: &'static str) -> Result<[u8; N], RecordError> {
    bytes.try_into().map_err(|_| RecordError::Malformed(field))
}

fn floor(seq: u64, below: u32) -> Result<u64, RecordError> {
    seq.checked_sub(u64::from(below)).ok_or(RecordError::Malformed("below"))
}

fn policy_from_proto(policy: Option<proto::Policy>) -> Result<Policy, RecordError> {
    let policy = word(policy, "policy")?;
    Ok(Policy {
        entry: word(EntryPolicy::from_number(policy.entry), "entry")?,
        ack: word(ScanAck::from_number(policy.ack), "ack")?,
        log_one_rejection_in: policy.log_one_rejection_in,
    })
}

fn scanned_from_proto(scanned: proto::Scanned, at: Timestamp) -> Result<Scanned, RecordError> {
    let named = scanned.ticket_high != 0 || scanned.ticket_low != 0;
    let first_use = |first: proto::FirstUse| {
        Ok(FirstUse { at: Timestamp(first.at), zone: zone(first.zone)?, gate: gate(first.gate)? })
    };
    Ok(Scanned {
        device: DeviceId(scanned.device),
        seq: scanned.seq,
        floor: floor(scanned.seq, scanned.below)?,
        fingerprint: scanned.fingerprint,
        // A reader may have named a zone that does not exist: it is recorded as it was named.
        zone: ZoneNo(narrow(scanned.zone, "zone")?),
        gate: gate(scanned.gate)?,
        direction: if scanned.direction == 0 { Direction::Enter } else { Direction::Exit },
        verdict: verdict(scanned.verdict)?,
        flags: narrow(scanned.flags, "flags")?,
        ticket: if named { Some(ticket(scanned.ticket_high, scanned.ticket_low)?) } else { None },
        occupancy: scanned.occupancy,
        first_use: scanned.first_use.map(first_use).transpose()?,
        captured_at: Timestamp(at.0.wrapping_sub(scanned.captured_ago)),
        instead_of: rejection(scanned.instead_of)?,
        credential: scanned.credential,
        taken_at: Timestamp(at.0.wrapping_sub(scanned.taken_ago)),
        tag: match scanned.tag_rest {
            0 => None,
            rest => Some(word(TagUid::from_words(scanned.tag_first, rest), "tag")?),
        },
    })
}

fn undone_from_proto(undone: proto::Undone, at: Timestamp) -> Result<Undone, RecordError> {
    let by = ByDevice {
        device: DeviceId(undone.device),
        seq: undone.seq,
        floor: floor(undone.seq, undone.below)?,
        fingerprint: undone.fingerprint,
    };
    Ok(Undone {
        by: (undone.seq != 0).then_some(by),
        zone: zone(undone.zone)?,
        gate: gate(undone.gate)?,
        verdict: verdict(undone.verdict)?,
        ticket: ticket(undone.ticket_high, undone.ticket_low)?,
        inside: undone.inside,
        unused: undone.unused,
        occupancy: undone.occupancy,
        scan: match undone.scan_ago {
            None => None,
            Some(ago) => Some(TakenBack {
                gate: gate(undone.scan_gate)?,
                direction: if undone.scan_direction == 0 { Direction::Enter } else { Direction::Exit },
                minute: Timestamp(at.0.wrapping_sub(ago)),
            }),
        },
    })
}

fn from_proto(kind: Kind, at: Timestamp) -> Result<Event, RecordError> {
    Ok(match kind {
        Kind::Scanned(scanned) => Event::Scanned(scanned_from_proto(scanned, at)?),
        Kind::Undone(undone) => Event::Undone(undone_from_proto(undone, at)?),
        Kind::Origin(asked) => Event::Origin(Origin {
            by: principal_from_proto(asked.by),
            key: if asked.key.is_empty() {
                None
            } else {
                Some((u128::from_be_bytes(array(&asked.key, "key")?), asked.fingerprint))
            },
            rejection: rejection(asked.rejection)?,
            already: match (asked.already, asked.already_wallet) {
                (None, 0) => None,
                (None, wallet) => Some(Already::Wallet(WalletId(wallet))),
                (Some(0), _) => Some(Already::Done),
                (Some(device), _) => Some(Already::Device(DeviceId(device))),
            },
        }),
        Kind::FestivalCreated(made) => Event::FestivalCreated {
            slug: made.slug,
            name: made.name,
            starts_at: Timestamp(made.starts_at),
            ends_at: Timestamp(made.ends_at),
            policy: policy_from_proto(made.policy)?,
            calendar: Calendar { time_zone: made.time_zone, day_starts_min: narrow(made.day_starts_min, "day start")? },
        },
        Kind::FestivalStatusSet(set) => Event::FestivalStatusSet {
            festival: FestivalId(set.festival),
            to: word(FestivalStatus::from_number(set.to), "festival status")?,
        },
        Kind::PolicySet(set) => {
            Event::PolicySet { festival: FestivalId(set.festival), policy: policy_from_proto(set.policy)? }
        }
        Kind::ZonePut(put) => Event::ZonePut {
            festival: FestivalId(put.festival),
            zone: zone(put.zone)?,
            name: put.name,
            parent: put.parent.map(zone).transpose()?,
            capacity: put.capacity,
        },
        Kind::GateAdded(added) => Event::GateAdded {
            festival: FestivalId(added.festival),
            gate: gate(added.gate)?,
            zone: zone(added.zone)?,
            name: added.name,
        },
        Kind::CategoryPut(put) => Event::CategoryPut {
            festival: FestivalId(put.festival),
            category: CategoryNo(narrow(put.category, "category")?),
            values: CategoryValues {
                name: put.name,
                kind: word(CategoryKind::from_number(put.kind), "kind")?,
                price: Money { minor: put.price_minor, currency: word(Currency::from_word(put.currency), "currency")? },
                quota: put.quota,
                zones: put.zones,
                valid_from: Timestamp(put.valid_from),
                valid_until: Timestamp(put.valid_until),
            },
        },
        Kind::TicketsIssued(issued) => Event::TicketsIssued {
            festival: FestivalId(issued.festival),
            category: CategoryNo(narrow(issued.category, "category")?),
            first_serial: issued.first_serial,
            count: issued.count,
            seed: issued.seed,
            paid: issued.paid,
            holders: issued
                .holders
                .chunks(16)
                .map(|holder| {
                    let holder = u128::from_be_bytes(array(holder, "holders")?);
                    Ok((holder != 0).then_some(holder))
                })
                .collect::<Result<_, _>>()?,
        },
        Kind::TicketStatusSet(set) => Event::TicketStatusSet {
            ticket: ticket(set.ticket_high, set.ticket_low)?,
            from: word(TicketStatus::from_number(set.from), "ticket status")?,
            to: word(TicketStatus::from_number(set.to), "ticket status")?,
        },
        Kind::TicketBlockSet(set) => {
            Event::TicketBlockSet { ticket: ticket(set.ticket_high, set.ticket_low)?, blocked: set.blocked }
        }
        Kind::TagBound(bound) => Event::TagBound {
            ticket: ticket(bound.ticket_high, bound.ticket_low)?,
            tag: word(TagUid::new(&bound.tag), "tag")?,
        },
        Kind::ZoneStateSet(set) => Event::ZoneStateSet {
            festival: FestivalId(set.festival),
            zone: zone(set.zone)?,
            state: word(ZoneState::from_number(set.state), "zone state")?,
        },
        Kind::EnrolmentOffered(offered) => Event::EnrolmentOffered {
            festival: FestivalId(offered.festival),
            gate: gate(offered.gate)?,
            code_hash: array(&offered.code_hash, "code hash")?,
            name: offered.name,
            until: Timestamp(offered.until),
        },
        Kind::DeviceEnrolled(enrolled) => Event::DeviceEnrolled {
            device: DeviceId(enrolled.device),
            gate: gate(enrolled.gate)?,
            public_key: array(&enrolled.public_key, "public key")?,
            name: enrolled.name,
            code_hash: array(&enrolled.code_hash, "code hash")?,
        },
        Kind::DeviceRevoked(revoked) => Event::DeviceRevoked { device: DeviceId(revoked.device) },
        Kind::DeviceConnected(connected) => {
            Event::DeviceConnected { device: DeviceId(connected.device), session: connected.session }
        }
        Kind::DeviceLeft(left) => Event::DeviceLeft { device: DeviceId(left.device), session: left.session },
        Kind::DeviceClockSeen(seen) => Event::DeviceClockSeen { device: DeviceId(seen.device), off_ms: seen.off_ms },
        Kind::DevicePins(said) => Event::DevicePins { device: DeviceId(said.device), pins: [said.current, said.next] },
        Kind::QrKeyRotated(rotated) => {
            Event::QrKeyRotated { festival: FestivalId(rotated.festival), version: rotated.version }
        }
        Kind::ApiKeyCreated(created) => Event::ApiKeyCreated {
            key: created.key,
            hash: array(&created.hash, "hash")?,
            role: word(Role::from_number(created.role), "role")?,
            festivals: created.festivals.into_iter().map(FestivalId).collect(),
            name: created.name,
        },
        Kind::ApiKeyRevoked(revoked) => Event::ApiKeyRevoked { key: revoked.key },
        Kind::Expired(_) => Event::Expired,
        kind @ (Kind::FestivalReopened(_)
        | Kind::FestivalEdited(_)
        | Kind::ScansReset(_)
        | Kind::TicketRestored(_)
        | Kind::DeviceReadmitted(_)
        | Kind::AdmittedByHand(_)) => Event::ByHand(by_hand::from_proto(kind)?),
        Kind::Transaction(transaction) => Event::Transaction(cashless::transaction_from_proto(transaction)?),
        Kind::Sent(sent) => Event::Sent {
            to: ShardId(narrow(sent.to, "to")?),
            n: sent.n,
            message: cashless::message_from_proto(sent.message)?,
        },
        Kind::Received(received) => Event::Received {
            from: ShardId(narrow(received.from, "from")?),
            n: received.n,
            message: cashless::message_from_proto(received.message)?,
        },
        Kind::Delivered(delivered) => {
            Event::Delivered { to: ShardId(narrow(delivered.to, "to")?), through: delivered.through }
        }
        other => Event::Cashless(cashless::from_proto(other)?),
    })
}
