//! How rows lie in the embedded store, as bytes. Writing is what has to be cheap: a line of the access log is written once,
//! as what differs from the line before (`sequence.rs`), and so a busy minute costs hundreds of insertions rather than
//! millions.
//!
//! | value | bytes |
//! |---|---|
//! | line of the access log | a mask of its [`parts`], then those, as varints (`layout/varint.rs`): about 20 B |
//! | ticket block | mask of the statuses in it (1 B), then 8 B a ticket, little endian: nonce in bits 0–41, status in 42–44, blocked in 45 |
//! | holder block | 16 B a ticket, little endian; 0: nobody known; may be shorter than the ticket block |
//! | tally | [`StoredTally`] in postcard |
//!
//! A change here needs a new [`crate::views::embedded::FORMAT`]: files of another format are built anew.

pub(in crate::views) mod cashless;
pub(in crate::views) mod varint;

use engine::gates::command::{Direction, FirstUse, Verdict};
use engine::model::ids::{CategoryNo, DeviceId, FestivalId, GateNo, ShardId, TicketId, ZoneNo, nonce_at};
use engine::model::rejection::Rejection;
use engine::model::status::TicketStatus;
use engine::model::time::Timestamp;
use serde::{Deserialize, Serialize};

use super::sequence::{self, Before, PageTable, Place, Row, RunTable};
use crate::views::gates::{AccessEntry, LogPosition, Tally, TicketRow};
use crate::views::{INDEX_BITS, ViewsError};
use varint::Bytes;

/// Tickets in one block: 2 KiB, half a page of the store.
pub(in crate::views) const BLOCK_TICKETS: u32 = 256;

fn damaged(what: &str) -> ViewsError {
    ViewsError::Damaged(what.to_owned())
}

/// Which parts of a line of the access log are written. What is not is as in the line before, or nothing.
mod parts {
    pub(super) const AT: u64 = 1;
    pub(super) const RECORD: u64 = 1 << 1;
    pub(super) const INDEX: u64 = 1 << 2;
    pub(super) const TICKET: u64 = 1 << 3;
    pub(super) const ZONE: u64 = 1 << 4;
    pub(super) const GATE: u64 = 1 << 5;
    pub(super) const DEVICE: u64 = 1 << 6;
    pub(super) const DIRECTION: u64 = 1 << 7;
    pub(super) const VERDICT: u64 = 1 << 8;
    pub(super) const FLAGS: u64 = 1 << 9;
    pub(super) const TAKEN: u64 = 1 << 10;
    pub(super) const FESTIVAL: u64 = 1 << 11;
    pub(super) const CATEGORY: u64 = 1 << 12;
    pub(super) const NO_DEVICE: u64 = 1 << 13;
    pub(super) const FIRST_USE: u64 = 1 << 14;
    pub(super) const INSTEAD_OF: u64 = 1 << 15;
}

/// What lines of the access log are looked up by.
pub(super) fn zone_term(festival: FestivalId, zone: ZoneNo) -> u32 {
    sequence::term(1, u64::from(festival.0) << 8 | u64::from(zone.0))
}
pub(super) fn device_term(device: DeviceId) -> u32 {
    sequence::term(2, device.0)
}
pub(super) fn ticket_term(ticket: TicketId) -> u32 {
    sequence::term(3, ticket.as_u128() as u64)
}

/// What a line is written as the difference to, if none is before it in its page.
fn no_line(place: Place) -> AccessEntry {
    AccessEntry {
        position: LogPosition { at: Timestamp(place.0), order: place.1 },
        festival: FestivalId(0),
        ticket: None,
        zone: ZoneNo(0),
        gate: GateNo(0),
        device: None,
        direction: Some(Direction::Enter),
        verdict: Verdict::Admitted,
        flags: 0,
        occupancy: 0,
        first_use: None,
        captured_at: Timestamp(place.0),
        taken_at: Timestamp(place.0),
        instead_of: None,
    }
}

fn category_of(line: &AccessEntry) -> CategoryNo {
    line.ticket.map_or(CategoryNo(0), TicketId::category)
}

impl Row for AccessEntry {
    const PAGES: PageTable = super::gates::LOG;
    const RUNS: RunTable = super::gates::LOG_TERMS;

    fn place(&self) -> Place {
        (self.position.at.0, self.position.order)
    }

    fn serial(&self) -> Option<u64> {
        None
    }

    fn class(&self) -> u8 {
        0
    }

    fn terms(&self, each: &mut dyn FnMut(u32)) {
        each(zone_term(self.festival, self.zone));
        self.device.into_iter().for_each(|device| each(device_term(device)));
        self.ticket.into_iter().for_each(|ticket| each(ticket_term(ticket)));
    }

    fn write(&self, before: &Before<'_, Self>, out: &mut Vec<u8>) {
        let nothing = no_line(before.place);
        let last = before.row.unwrap_or(&nothing);
        let (record, index) = before.record();
        let at = self.position.at.0;
        let (this_record, this_index) = (self.position.order >> INDEX_BITS, self.position.order & INDEX_MASK);
        let next_index = if this_record == record { index + 1 } else { 0 };
        let category = self.ticket.map(TicketId::category).filter(|category| *category != category_of(last));
        let mut mask = 0;
        for (differs, part) in [
            (at != before.place.0, parts::AT),
            (this_record != record, parts::RECORD),
            (this_index != next_index, parts::INDEX),
            (self.ticket.is_some(), parts::TICKET),
            (self.zone != last.zone, parts::ZONE),
            (self.gate != last.gate, parts::GATE),
            (self.device.is_some() && self.device != last.device, parts::DEVICE),
            (self.direction != last.direction, parts::DIRECTION),
            (self.verdict != last.verdict, parts::VERDICT),
            (self.flags != last.flags, parts::FLAGS),
            (self.taken_at.0 != at, parts::TAKEN),
            (self.festival != last.festival, parts::FESTIVAL),
            (category.is_some(), parts::CATEGORY),
            (self.device.is_none(), parts::NO_DEVICE),
            (self.first_use.is_some(), parts::FIRST_USE),
            (self.instead_of.is_some(), parts::INSTEAD_OF),
        ] {
            mask |= if differs { part } else { 0 };
        }
        varint::put(out, mask);
        let mut put = |part, value| {
            if mask & part != 0 {
                varint::put(out, value);
            }
        };
        put(parts::AT, at.wrapping_sub(before.place.0) as u64);
        put(parts::RECORD, this_record.wrapping_sub(record));
        put(parts::INDEX, this_index);
        put(parts::FESTIVAL, self.festival.0.into());
        put(parts::CATEGORY, category.map_or(0, |category| category.0.into()));
        put(parts::ZONE, self.zone.0.into());
        put(parts::GATE, self.gate.0.into());
        put(parts::DEVICE, self.device.map_or(0, |device| device.number().into()));
        put(parts::DIRECTION, self.direction.map_or(2, |direction| direction as u64));
        put(parts::VERDICT, self.verdict.number().into());
        put(parts::FLAGS, self.flags.into());
        put(parts::INSTEAD_OF, self.instead_of.map_or(0, |rejection| rejection as u64));
        if let Some(ticket) = self.ticket {
            varint::put(out, ticket.serial().into());
            out.extend_from_slice(&ticket.nonce().to_le_bytes()[..6]);
        }
        varint::put_signed(out, i64::from(self.occupancy) - i64::from(last.occupancy));
        varint::put_signed(out, at.wrapping_sub(self.captured_at.0));
        if mask & parts::TAKEN != 0 {
            varint::put_signed(out, at.wrapping_sub(self.taken_at.0));
        }
        if let Some(FirstUse { at: first_at, zone, gate }) = self.first_use {
            varint::put_signed(out, at.wrapping_sub(first_at.0));
            varint::put(out, zone.0.into());
            varint::put(out, gate.0.into());
        }
    }

    fn read(_: ShardId, before: &Before<'_, Self>, bytes: &mut Bytes<'_>) -> Result<Self, ViewsError> {
        let nothing = no_line(before.place);
        let last = before.row.unwrap_or(&nothing);
        let (record, index) = before.record();
        let mask = bytes.varint()?;
        let mut get = |part: u64| if mask & part == 0 { Ok(None) } else { bytes.varint().map(Some) };
        let at = get(parts::AT)?.map_or(before.place.0, |step| before.place.0.wrapping_add(step as i64));
        let next = get(parts::RECORD)?.map(|step| record.wrapping_add(step));
        let index = get(parts::INDEX)?.unwrap_or(if next.is_none() { index + 1 } else { 0 });
        let order = next.unwrap_or(record) << INDEX_BITS | index & INDEX_MASK;
        let festival = get(parts::FESTIVAL)?.map_or(last.festival, |number| FestivalId(number as u32));
        let category = get(parts::CATEGORY)?.map_or(category_of(last), |number| CategoryNo(number as u16));
        let zone = get(parts::ZONE)?.map_or(last.zone, |number| ZoneNo(number as u8));
        let gate = get(parts::GATE)?.map_or(last.gate, |number| GateNo(number as u16));
        let device = get(parts::DEVICE)?.map(|number| DeviceId::new(festival, number as u32));
        let device = if mask & parts::NO_DEVICE == 0 { device.or(last.device) } else { None };
        let direction = match get(parts::DIRECTION)? {
            None => last.direction,
            Some(0) => Some(Direction::Enter),
            Some(1) => Some(Direction::Exit),
            Some(_) => None,
        };
        let verdict = match get(parts::VERDICT)? {
            None => last.verdict,
            Some(number) => Verdict::from_number(number as u8).ok_or_else(|| damaged("a verdict in the log"))?,
        };
        let flags = get(parts::FLAGS)?.map_or(last.flags, |flags| flags as u8);
        let instead_of = get(parts::INSTEAD_OF)?.and_then(|number| Rejection::from_number(number as u8));
        let mut ticket = None;
        if mask & parts::TICKET != 0 {
            let (serial, mut nonce) = (bytes.small()?, [0; 8]);
            nonce[..6].copy_from_slice(bytes.take(6)?);
            ticket = Some(TicketId::new(festival, category, serial, u64::from_le_bytes(nonce)));
        }
        let occupancy = i64::from(last.occupancy).wrapping_add(bytes.signed()?) as u32;
        let captured_at = Timestamp(at.wrapping_sub(bytes.signed()?));
        let taken_ago = if mask & parts::TAKEN == 0 { 0 } else { bytes.signed()? };
        let mut first_use = None;
        if mask & parts::FIRST_USE != 0 {
            let at = Timestamp(at.wrapping_sub(bytes.signed()?));
            first_use = Some(FirstUse { at, zone: ZoneNo(bytes.small()?), gate: GateNo(bytes.small()?) });
        }
        Ok(Self {
            position: LogPosition { at: Timestamp(at), order },
            festival,
            ticket,
            zone,
            gate,
            device,
            direction,
            verdict,
            flags,
            occupancy,
            first_use,
            captured_at,
            taken_at: Timestamp(at.wrapping_sub(taken_ago)),
            instead_of,
        })
    }
}

/// The bits of a place's number that say which event of its record.
const INDEX_MASK: u64 = (1 << INDEX_BITS) - 1;

const NONCE_BITS: u32 = 42;
const NONCE_MASK: u64 = (1 << NONCE_BITS) - 1;
const STATUS_MASK: u64 = 0b111 << NONCE_BITS;
const BLOCKED_BIT: u64 = 1 << 45;

/// A ticket's eight bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::views) struct Slot(u64);

impl Slot {
    /// The ticket at `index` of an issue.
    pub(in crate::views) fn issued(seed: u64, index: u32, paid: bool) -> Self {
        let status = if paid { TicketStatus::Sold } else { TicketStatus::Reserved };
        Self(nonce_at(seed, index) | u64::from(status as u8) << NONCE_BITS)
    }
    pub(in crate::views) fn nonce(self) -> u64 {
        self.0 & NONCE_MASK
    }
    pub(in crate::views) fn status(self) -> Option<TicketStatus> {
        TicketStatus::from_number((self.0 >> NONCE_BITS & 0b111) as u32)
    }
    pub(in crate::views) fn set_status(&mut self, status: TicketStatus) {
        self.0 = self.0 & !STATUS_MASK | u64::from(status as u8) << NONCE_BITS;
    }
    pub(in crate::views) fn set_blocked(&mut self, blocked: bool) {
        self.0 = self.0 & !BLOCKED_BIT | if blocked { BLOCKED_BIT } else { 0 };
    }
    /// The row it stands for.
    ///
    /// # Errors
    /// [`ViewsError::Damaged`].
    pub(in crate::views) fn row(
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
pub(in crate::views) fn write_block(slots: &[Slot]) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(1 + slots.len() * 8);
    bytes.push(slots.iter().fold(0, |mask, slot| mask | 1 << (slot.0 >> NONCE_BITS & 0b111)));
    bytes.extend(slots.iter().flat_map(|slot| slot.0.to_le_bytes()));
    bytes
}

/// Whether a ticket of this status is in a block.
pub(in crate::views) fn block_has(bytes: &[u8], status: TicketStatus) -> bool {
    bytes.first().is_some_and(|mask| mask & 1 << status as u8 != 0)
}

/// A ticket block read back.
///
/// # Errors
/// [`ViewsError::Damaged`].
pub(in crate::views) fn read_block(bytes: &[u8]) -> Result<Vec<Slot>, ViewsError> {
    let (slots, rest) = bytes.get(1..).ok_or_else(|| damaged("an empty block of tickets"))?.as_chunks::<8>();
    if !rest.is_empty() || slots.len() > BLOCK_TICKETS as usize {
        return Err(damaged("a block of tickets"));
    }
    Ok(slots.iter().map(|slot| Slot(u64::from_le_bytes(*slot))).collect())
}

/// A holder block as bytes.
pub(in crate::views) fn write_holders(holders: &[u128]) -> Vec<u8> {
    holders.iter().flat_map(|holder| holder.to_le_bytes()).collect()
}

/// A holder block read back.
///
/// # Errors
/// [`ViewsError::Damaged`].
pub(in crate::views) fn read_holders(bytes: &[u8]) -> Result<Vec<u128>, ViewsError> {
    let (holders, rest) = bytes.as_chunks::<16>();
    if !rest.is_empty() {
        return Err(damaged("a block of holders"));
    }
    Ok(holders.iter().map(|holder| u128::from_le_bytes(*holder)).collect())
}

/// A row of counts.
#[derive(Debug, Default, Serialize, Deserialize)]
pub(in crate::views) struct StoredTally {
    /// The number of the last record that it covers.
    pub(in crate::views) as_of_seq: u64,
    pub(in crate::views) tally: Tally,
}

impl StoredTally {
    pub(in crate::views) fn bytes(&self) -> Vec<u8> {
        postcard::to_allocvec(self).expect("plain data")
    }
    /// # Errors
    /// [`ViewsError::Damaged`].
    pub(in crate::views) fn read(bytes: &[u8]) -> Result<Self, ViewsError> {
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
        fn lines_come_back(entries in prop::collection::vec(any_entry(), 1..9)) {
            crate::views::embedded::sequence::tests::come_back(&entries);
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
