//! The record format: one batch of one shard, as Protocol Buffers (`proto/record.proto`). Scans and transactions, of which
//! there are a million a second, have codecs by hand (`scan`, `transaction`). Every other event is declared once, in a
//! table (`events!`), from which it is written, read and described in record.proto.

pub(crate) mod field;
mod scan;
pub mod table;
mod transaction;
pub(crate) mod wire;

use crate::cashless::event::{CashlessEvent, Transaction};
use crate::event::{Event, Origin};
use crate::gates::event::DoneByHand;
use crate::model::ids::ShardId;
use crate::model::rejection::Rejection;
use crate::model::time::Timestamp;
use crate::record::field::Field;
use crate::record::table::{MessageText, Table};
use crate::record::wire::{Fields, write_message};
use crate::shard::outbox::{Entry, Message};

#[allow(clippy::all, unreachable_pub)] // generated; the words are in the .proto
mod proto {
    include!(concat!(env!("OUT_DIR"), "/tapgate.record.v1.rs"));
}

/// The format written. Older ones are read by upcasting; a newer one is refused. There was a format 1 before any festival
/// was recorded; journals that hold it are refused by their own version.
pub const FORMAT: u32 = 2;

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
        FORMAT.write(1, buffer);
        shard.write(2, buffer);
        <u64 as Field>::write(&seq, 3, buffer);
        at.write(4, buffer);
        Self { buffer, events: 0, at }
    }

    /// How many events it has.
    pub fn events(&self) -> u32 {
        self.events
    }

    /// Adds an event.
    pub fn push(&mut self, event: &Event) {
        self.add(event);
    }

    /// Adds a transaction from where it lies.
    pub fn push_transaction(&mut self, transaction: &Transaction) {
        self.add(transaction);
    }

    fn add(&mut self, event: &impl Table) {
        self.events += 1;
        write_message([EVENTS, event.number()], self.buffer, |out| event.write_body(self.at, out));
    }
}

/// The number of a record's events in it. What is not an event comes before them.
const EVENTS: u32 = 5;

/// Reads a record.
///
/// # Errors
/// [`RecordError`].
pub fn read(bytes: &[u8]) -> Result<Record, RecordError> {
    let fields = word(Fields::of(bytes), "record")?;
    let head = fields.before(EVENTS);
    match word(u32::read(head, 1), "format")? {
        FORMAT => {}
        0 | 1 => return Err(RecordError::Malformed("format")),
        newer => return Err(RecordError::Newer(newer)),
    }
    let at = word(Timestamp::read(head, 4), "at")?;
    let events = fields.iter().filter(|field| field.number == EVENTS).map(|field| {
        let event = word(field.body().and_then(Fields::of), "event")?;
        word(Event::read_oneof(event, at)?, "event")
    });
    Ok(Record {
        events: events.collect::<Result<_, _>>()?,
        shard: word(ShardId::read(head, 2), "shard")?,
        seq: word(<u64 as Field>::read(head, 3), "seq")?,
        at,
    })
}

fn narrow<T: TryFrom<u32>>(value: u32, field: &'static str) -> Result<T, RecordError> {
    T::try_from(value).map_err(|_| RecordError::Malformed(field))
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

fn floor(seq: u64, below: u32) -> Result<u64, RecordError> {
    seq.checked_sub(u64::from(below)).ok_or(RecordError::Malformed("below"))
}

impl Table for Origin {
    fn number(&self) -> u32 {
        3
    }
    fn write_body(&self, _: Timestamp, out: &mut Vec<u8>) {
        Field::write(self, 1, out);
    }
    fn read_body(number: u32, body: &[u8], _: Timestamp) -> Result<Option<Self>, RecordError> {
        let read = || word(Fields::of(body).and_then(|from| <Self as Field>::read(from, 1)), "origin");
        (number == 3).then(read).transpose()
    }
}

fn decode<T: prost::Message + Default>(body: &[u8], what: &'static str) -> Result<T, RecordError> {
    T::decode(body).map_err(|_| RecordError::Malformed(what))
}

/// What record.proto has from the tables, each with the name of its enum; last the messages that are parts of others.
pub fn describe() -> Vec<(&'static str, Vec<MessageText>)> {
    vec![
        ("Event", Event::messages()),
        ("DoneByHand", DoneByHand::messages()),
        ("CashlessEvent", CashlessEvent::messages()),
        ("Entry", Entry::messages()),
        ("Message", Message::messages()),
        ("parts", field::messages()),
    ]
}
