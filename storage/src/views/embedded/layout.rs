//! How rows lie in the embedded store, as bytes. Writing is what has to be cheap: what one record says about one zone,
//! reader or group of tickets is one value, so that a busy minute costs hundreds of insertions rather than millions.
//!
//! | value | bytes |
//! |---|---|
//! | log chunk | up to 64 [`Line`]s in postcard, one behind the other: about 27 B each |
//! | ticket block | mask of the statuses in it (1 B), then 8 B a ticket, little endian: nonce in bits 0–41, status in 42–44, blocked in 45 |
//! | holder block | 16 B a ticket, little endian; 0: nobody known; may be shorter than the ticket block |
//! | tally | [`StoredTally`] in postcard |
//!
//! A change here needs a new [`crate::views::embedded::FORMAT`]: files of another format are built anew.

pub(super) mod cashless;

use engine::gates::command::{Direction, FirstUse, Verdict};
use engine::model::ids::{CategoryNo, DeviceId, FestivalId, GateNo, TicketId, ZoneNo, nonce_at};
use engine::model::rejection::Rejection;
use engine::model::status::TicketStatus;
use engine::model::time::Timestamp;
use serde::{Deserialize, Serialize};

use crate::views::gates::{AccessEntry, LogPosition, Tally, TicketRow};
use crate::views::{INDEX_BITS, ViewsError};

/// Lines in one chunk at most: about 1.7 KB, so that a page of 100 lines reads little more than it gives.
pub(super) const CHUNK_LINES: usize = 64;

/// Tickets in one block: 2 KiB, half a page of the store.
pub(super) const BLOCK_TICKETS: u32 = 256;

fn damaged(what: &str) -> ViewsError {
    ViewsError::Damaged(what.to_owned())
}

/// A line of the access log without what its chunk's key says: festival, time, record.
#[derive(Serialize, Deserialize)]
struct Line {
    /// The event's number in its record.
    index: u32,
    /// Category, serial, nonce.
    ticket: Option<(u16, u32, u64)>,
    zone: u8,
    gate: u16,
    /// The reader's number at its festival.
    device: Option<u32>,
    /// 0 enter, 1 exit, 2 undo.
    what: u8,
    verdict: u8,
    flags: u8,
    occupancy: u32,
    first_use: Option<FirstUse>,
    captured_ago_ms: i64,
    /// 0 but for what had waited in its reader's queue.
    taken_ago_ms: i64,
    /// 0: nothing.
    instead_of: u8,
}

/// Adds a line to a chunk.
pub(super) fn push_line(chunk: &mut Vec<u8>, entry: &AccessEntry) {
    let line = Line {
        index: (entry.position.order & ((1 << INDEX_BITS) - 1)) as u32,
        ticket: entry.ticket.map(|ticket| (ticket.category().0, ticket.serial(), ticket.nonce())),
        zone: entry.zone.0,
        gate: entry.gate.0,
        device: entry.device.map(DeviceId::number),
        what: entry.direction.map_or(2, |direction| direction as u8),
        verdict: entry.verdict.number(),
        flags: entry.flags,
        occupancy: entry.occupancy,
        first_use: entry.first_use,
        captured_ago_ms: entry.position.at.0.wrapping_sub(entry.captured_at.0),
        taken_ago_ms: entry.position.at.0.wrapping_sub(entry.taken_at.0),
        instead_of: entry.instead_of.map_or(0, |rejection| rejection as u8),
    };
    let taken = std::mem::take(chunk);
    *chunk = postcard::to_extend(&line, taken).expect("a Vec grows, and the line is plain data");
}

/// All lines of a chunk, whose key says festival, time and the place of its first line.
///
/// # Errors
/// [`ViewsError::Damaged`].
pub(super) fn read_chunk(
    festival: FestivalId,
    first: LogPosition,
    mut bytes: &[u8],
) -> Result<Vec<AccessEntry>, ViewsError> {
    let mut entries = Vec::with_capacity(CHUNK_LINES);
    while !bytes.is_empty() {
        let (line, rest) = postcard::take_from_bytes::<Line>(bytes).map_err(|_| damaged("a line of the log"))?;
        bytes = rest;
        let order = first.order >> INDEX_BITS << INDEX_BITS | u64::from(line.index);
        let named = |(category, serial, nonce)| TicketId::new(festival, CategoryNo(category), serial, nonce);
        entries.push(AccessEntry {
            position: LogPosition { at: first.at, order },
            festival,
            ticket: line.ticket.map(named),
            zone: ZoneNo(line.zone),
            gate: GateNo(line.gate),
            device: line.device.map(|number| DeviceId::new(festival, number)),
            direction: match line.what {
                0 => Some(Direction::Enter),
                1 => Some(Direction::Exit),
                _ => None,
            },
            verdict: Verdict::from_number(line.verdict).ok_or_else(|| damaged("a verdict in the log"))?,
            flags: line.flags,
            occupancy: line.occupancy,
            first_use: line.first_use,
            captured_at: Timestamp(first.at.0.wrapping_sub(line.captured_ago_ms)),
            taken_at: Timestamp(first.at.0.wrapping_sub(line.taken_ago_ms)),
            instead_of: Rejection::from_number(line.instead_of),
        });
    }
    Ok(entries)
}

const NONCE_BITS: u32 = 42;
const NONCE_MASK: u64 = (1 << NONCE_BITS) - 1;
const STATUS_MASK: u64 = 0b111 << NONCE_BITS;
const BLOCKED_BIT: u64 = 1 << 45;

/// A ticket's eight bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Slot(u64);

impl Slot {
    /// The ticket at `index` of an issue.
    pub(super) fn issued(seed: u64, index: u32, paid: bool) -> Self {
        let status = if paid { TicketStatus::Sold } else { TicketStatus::Reserved };
        Self(nonce_at(seed, index) | u64::from(status as u8) << NONCE_BITS)
    }
    pub(super) fn nonce(self) -> u64 {
        self.0 & NONCE_MASK
    }
    pub(super) fn status(self) -> Option<TicketStatus> {
        TicketStatus::from_number((self.0 >> NONCE_BITS & 0b111) as u32)
    }
    pub(super) fn set_status(&mut self, status: TicketStatus) {
        self.0 = self.0 & !STATUS_MASK | u64::from(status as u8) << NONCE_BITS;
    }
    pub(super) fn set_blocked(&mut self, blocked: bool) {
        self.0 = self.0 & !BLOCKED_BIT | if blocked { BLOCKED_BIT } else { 0 };
    }
    /// The row it stands for.
    ///
    /// # Errors
    /// [`ViewsError::Damaged`].
    pub(super) fn row(
        self,
        festival: FestivalId,
        category: CategoryNo,
        serial: u32,
        holder: Option<u128>,
    ) -> Result<TicketRow, ViewsError> {
        Ok(TicketRow {
            ticket: TicketId::new(festival, category, serial, self.nonce()),
            status: self.status().ok_or_else(|| damaged("a ticket's status"))?,
            blocked: self.0 & BLOCKED_BIT != 0,
            holder,
        })
    }
}

/// A ticket block as bytes.
pub(super) fn write_block(slots: &[Slot]) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(1 + slots.len() * 8);
    bytes.push(slots.iter().fold(0, |mask, slot| mask | 1 << (slot.0 >> NONCE_BITS & 0b111)));
    bytes.extend(slots.iter().flat_map(|slot| slot.0.to_le_bytes()));
    bytes
}

/// Whether a ticket of this status is in a block.
pub(super) fn block_has(bytes: &[u8], status: TicketStatus) -> bool {
    bytes.first().is_some_and(|mask| mask & 1 << status as u8 != 0)
}

/// A ticket block read back.
///
/// # Errors
/// [`ViewsError::Damaged`].
pub(super) fn read_block(bytes: &[u8]) -> Result<Vec<Slot>, ViewsError> {
    let (slots, rest) = bytes.get(1..).ok_or_else(|| damaged("an empty block of tickets"))?.as_chunks::<8>();
    if !rest.is_empty() || slots.len() > BLOCK_TICKETS as usize {
        return Err(damaged("a block of tickets"));
    }
    Ok(slots.iter().map(|slot| Slot(u64::from_le_bytes(*slot))).collect())
}

/// A holder block as bytes.
pub(super) fn write_holders(holders: &[u128]) -> Vec<u8> {
    holders.iter().flat_map(|holder| holder.to_le_bytes()).collect()
}

/// A holder block read back.
///
/// # Errors
/// [`ViewsError::Damaged`].
pub(super) fn read_holders(bytes: &[u8]) -> Result<Vec<u128>, ViewsError> {
    let (holders, rest) = bytes.as_chunks::<16>();
    if !rest.is_empty() {
        return Err(damaged("a block of holders"));
    }
    Ok(holders.iter().map(|holder| u128::from_le_bytes(*holder)).collect())
}

/// A row of counts.
#[derive(Debug, Default, Serialize, Deserialize)]
pub(super) struct StoredTally {
    /// The number of the last record that it covers.
    pub(super) as_of_seq: u64,
    pub(super) tally: Tally,
}

impl StoredTally {
    pub(super) fn bytes(&self) -> Vec<u8> {
        postcard::to_allocvec(self).expect("plain data")
    }
    /// # Errors
    /// [`ViewsError::Damaged`].
    pub(super) fn read(bytes: &[u8]) -> Result<Self, ViewsError> {
        postcard::from_bytes(bytes).map_err(|_| damaged("a row of counts"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use engine::gates::command::{CONFLICT, FIRST_ENTRY};
    use proptest::prelude::*;

    fn any_entry() -> impl Strategy<Value = AccessEntry> {
        let scan = (any::<Option<(u16, u32, u64)>>(), 0..64_u8, any::<u16>(), any::<Option<u32>>(), 0..3_usize);
        let outcome = (0..Rejection::ALL.len() + 3, any::<u32>(), any::<Option<i64>>(), any::<i64>(), any::<bool>());
        (scan, outcome, 0..1_u32 << INDEX_BITS).prop_map(|(scan, outcome, index)| {
            let ((ticket, zone, gate, device, what), (verdict, occupancy, first, captured_at, conflict)) =
                (scan, outcome);
            let festival = FestivalId(0xC0FF_EE00);
            let verdicts = [Verdict::Admitted, Verdict::Exited, Verdict::Undone].into_iter();
            let verdicts = verdicts.chain(Rejection::ALL.iter().map(|&rejection| Verdict::Rejected(rejection)));
            AccessEntry {
                position: LogPosition { at: Timestamp(1_780_000_000_000), order: 77 << INDEX_BITS | u64::from(index) },
                festival,
                ticket: ticket
                    .map(|(category, serial, nonce)| TicketId::new(festival, CategoryNo(category), serial, nonce)),
                zone: ZoneNo(zone),
                gate: GateNo(gate),
                device: device.map(|number| DeviceId::new(festival, number)),
                direction: [Some(Direction::Enter), Some(Direction::Exit), None][what],
                verdict: verdicts.clone().nth(verdict).unwrap(),
                flags: if conflict { CONFLICT } else { FIRST_ENTRY },
                occupancy,
                first_use: first.map(|at| FirstUse { at: Timestamp(at), zone: ZoneNo(zone), gate: GateNo(gate) }),
                captured_at: Timestamp(captured_at),
                taken_at: Timestamp(captured_at.rotate_left(7)),
                instead_of: conflict.then_some(Rejection::AlreadyUsed),
            }
        })
    }

    proptest! {
        #[test]
        fn a_chunk_gives_back_its_lines(entries in prop::collection::vec(any_entry(), 1..CHUNK_LINES)) {
            let mut chunk = Vec::new();
            entries.iter().for_each(|entry| push_line(&mut chunk, entry));
            let back = read_chunk(entries[0].festival, entries[0].position, &chunk).unwrap();
            prop_assert_eq!(back, entries);
        }

        #[test]
        fn a_cut_chunk_is_damaged_and_never_a_panic(entry in any_entry(), cut in 1..12_usize) {
            let mut chunk = Vec::new();
            push_line(&mut chunk, &entry);
            let cut = &chunk[..chunk.len() - cut.min(chunk.len() - 1)];
            prop_assert!(read_chunk(entry.festival, entry.position, cut).is_err());
        }

        #[test]
        fn a_ticket_keeps_its_number_whatever_becomes_of_it(seed: u64, index: u32, status in 0..6_usize, blocked: bool) {
            let mut slot = Slot::issued(seed, index, true);
            let block = write_block(&[slot]);
            prop_assert!(block_has(&block, TicketStatus::Sold) && !block_has(&block, TicketStatus::Used));
            slot.set_blocked(!blocked);
            slot.set_blocked(blocked);
            slot.set_status(TicketStatus::ALL[status]);
            let back = read_block(&write_block(&[slot])).unwrap()[0];
            let row = back.row(FestivalId(1), CategoryNo(2), 3, None).unwrap();
            prop_assert_eq!((row.status, row.blocked), (TicketStatus::ALL[status], blocked));
            prop_assert_eq!(row.ticket.nonce(), nonce_at(seed, index));
        }
    }
}
