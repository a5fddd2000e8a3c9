//! The embedded store's answers. Each is one snapshot, one range, and a filter; a page ends the walk.

use std::ops::Bound;

use engine::model::ids::{CategoryNo, GateNo, Home, TicketId, ZoneNo};
use engine::model::time::Timestamp;
use redb::{Key, ReadTransaction, ReadableTable, Value};

use super::{COUNTS, HOLDERS, LOG, LOG_TERMS, TICKETS, TICKETS_BY_HOLDER, block_of};
use crate::views::embedded::layout::{BLOCK_TICKETS, StoredTally};
use crate::views::embedded::sequence::Place;
use crate::views::embedded::sequence::read::{RowFilter, Walk};
use crate::views::embedded::{fault, layout, open, shards};
use crate::views::gates::{AccessEntry, AccessLog, CountPosition, CountRow, Counts, LogPosition, TicketRow, Tickets};
use crate::views::{PAGE_MAX, Page, Span, ViewsError, wanted};

/// Walks the rows of `range`, forwards or backwards, until `each` says that it has enough.
pub(in crate::views::embedded) fn walk<'k, K: Key + 'static, V: Value + 'static>(
    table: &impl ReadableTable<K, V>,
    range: (Bound<K::SelfType<'k>>, Bound<K::SelfType<'k>>),
    backwards: bool,
    mut each: impl FnMut(K::SelfType<'_>, V::SelfType<'_>) -> Result<bool, ViewsError>,
) -> Result<(), ViewsError> {
    let mut rows = table.range(range).map_err(|why| fault("read", why.into()))?;
    while let Some(row) = if backwards { rows.next_back() } else { rows.next() } {
        wanted::still()?;
        let (key, value) = row.map_err(|why| fault("read", why.into()))?;
        if !each(key.value(), value.value())? {
            break;
        }
    }
    Ok(())
}

pub(in crate::views::embedded) fn access_log(
    txn: &ReadTransaction,
    of: AccessLog,
    page: Page<LogPosition>,
) -> Result<Vec<AccessEntry>, ViewsError> {
    let Some(shards) = shards(txn)? else { return Ok(Vec::new()) };
    let (festival, term, span) = match of {
        AccessLog::Zone(festival, zone, span) => (festival, layout::zone_term(festival, zone), span),
        AccessLog::Device(device, span) => (device.festival(), layout::device_term(device), span),
        AccessLog::Ticket(ticket, span) => (ticket.festival(), layout::ticket_term(ticket), span),
    };
    let is_one = |entry: &AccessEntry| match of {
        AccessLog::Zone(festival, zone, _) => (entry.festival, entry.zone) == (festival, zone),
        AccessLog::Device(device, _) => entry.device == Some(device),
        AccessLog::Ticket(ticket, _) => entry.ticket == Some(ticket),
    };
    let wanted = RowFilter { term, class: &|_| true, is_one: &is_one, backwards: page.backwards };
    let tables = (&open(txn, LOG)?, &open(txn, LOG_TERMS)?);
    let (from, until) = places(span, page);
    let mut walk = Walk::begin(&wanted, tables, Home::Festival(festival).shard(shards), from, until)?;
    let (limit, mut found) = (page.limit.min(PAGE_MAX), Vec::new());
    while found.len() < limit
        && let Some(entry) = walk.next()?
    {
        found.push(entry);
    }
    Ok(found)
}

/// From which place until before which rows of the page lie.
fn places(span: Span, page: Page<LogPosition>) -> (Place, Place) {
    let (mut from, mut until) = ((span.from.0, 0), (span.until.0, 0));
    match page.after {
        Some(after) if page.backwards => until = until.min((after.at.0, after.order)),
        Some(after) => from = from.max((after.at.0, after.order.saturating_add(1))),
        None => {}
    }
    (from, until)
}

pub(in crate::views::embedded) fn tickets(
    txn: &ReadTransaction,
    of: Tickets,
    page: Page<TicketId>,
) -> Result<Vec<TicketRow>, ViewsError> {
    if page.after.is_some_and(|after| after.festival() != of.festival) {
        return Ok(Vec::new());
    }
    match of.holder {
        Some(holder) => tickets_of(txn, of, holder, page),
        None => tickets_all(txn, of, page),
    }
}

fn fits(of: &Tickets, row: &TicketRow) -> bool {
    of.status.is_none_or(|status| row.status == status)
        && of.category.is_none_or(|category| row.ticket.category() == category)
}

fn tickets_all(txn: &ReadTransaction, of: Tickets, page: Page<TicketId>) -> Result<Vec<TicketRow>, ViewsError> {
    let (tickets, holders) = (open(txn, TICKETS)?, open(txn, HOLDERS)?);
    let (first, last) = of.category.map_or((0, u16::MAX), |category| (category.0, category.0));
    let (mut from, mut until) = ((of.festival.0, first, 0), (of.festival.0, last, u32::MAX));
    match page.after {
        Some(after) if page.backwards => until = until.min(block_of(after)),
        Some(after) => from = from.max(block_of(after)),
        None => {}
    }
    if from > until {
        return Ok(Vec::new());
    }
    let limit = page.limit.min(PAGE_MAX);
    let mut found = Vec::new();
    walk(&tickets, (Bound::Included(from), Bound::Included(until)), page.backwards, |key, bytes| {
        if of.status.is_some_and(|status| !layout::block_has(bytes, status)) {
            return Ok(true);
        }
        let whose = holders.get(key).map_err(|why| fault("read", why.into()))?;
        let whose = whose.map(|bytes| layout::read_holders(bytes.value())).transpose()?.unwrap_or_default();
        let slots = layout::read_block(bytes)?;
        let mut indexes = 0..slots.len();
        while found.len() < limit
            && let Some(index) = if page.backwards { indexes.next_back() } else { indexes.next() }
        {
            let serial = key.2 * BLOCK_TICKETS + index as u32;
            let holder = whose.get(index).copied().filter(|holder| *holder != 0);
            let row = slots[index].row(of.festival, CategoryNo(key.1), serial, holder)?;
            if fits(&of, &row) && is_behind(row.ticket, &page) {
                found.push(row);
            }
        }
        Ok(found.len() < limit)
    })?;
    Ok(found)
}

fn is_behind(ticket: TicketId, page: &Page<TicketId>) -> bool {
    let place = |ticket: TicketId| (ticket.category(), ticket.serial());
    page.after.is_none_or(|after| match page.backwards {
        true => place(ticket) < place(after),
        false => place(ticket) > place(after),
    })
}

fn tickets_of(
    txn: &ReadTransaction,
    of: Tickets,
    holder: u128,
    page: Page<TicketId>,
) -> Result<Vec<TicketRow>, ViewsError> {
    let blocks = open(txn, TICKETS)?;
    let (first, last) = of.category.map_or((0, u16::MAX), |category| (category.0, category.0));
    let key = |category, serial| (of.festival.0, holder, category, serial);
    let (mut from, mut until) = (Bound::Included(key(first, 0)), Bound::Included(key(last, u32::MAX)));
    if let Some(after) = page.after {
        let place = key(after.category().0, after.serial());
        if place < key(first, 0) || place > key(last, u32::MAX) {
            return Ok(Vec::new());
        }
        match page.backwards {
            true => until = Bound::Excluded(place),
            false => from = Bound::Excluded(place),
        }
    }
    if from == Bound::Excluded(key(last, u32::MAX)) || until == Bound::Excluded(key(first, 0)) {
        return Ok(Vec::new());
    }
    let limit = page.limit.min(PAGE_MAX);
    let mut found = Vec::new();
    walk(&open(txn, TICKETS_BY_HOLDER)?, (from, until), page.backwards, |(festival, _, category, serial), ()| {
        if found.len() >= limit {
            return Ok(false);
        }
        let block =
            blocks.get((festival, category, serial / BLOCK_TICKETS)).map_err(|why| fault("read", why.into()))?;
        let slots = block.map(|bytes| layout::read_block(bytes.value())).transpose()?.unwrap_or_default();
        let slot = slots.get((serial % BLOCK_TICKETS) as usize);
        let slot = slot.ok_or_else(|| ViewsError::Damaged("a holder's ticket is missing".into()))?;
        let row = slot.row(of.festival, CategoryNo(category), serial, Some(holder))?;
        if fits(&of, &row) {
            found.push(row);
        }
        Ok(true)
    })?;
    Ok(found)
}

pub(in crate::views::embedded) fn counts(
    txn: &ReadTransaction,
    of: Counts,
    page: Page<CountPosition>,
) -> Result<Vec<CountRow>, ViewsError> {
    let key = |place: CountPosition| (of.festival.0, place.minute.0, place.gate.0, place.zone.0);
    let mut from = Bound::Included((of.festival.0, of.span.from.0, 0, 0));
    let mut until = Bound::Excluded((of.festival.0, of.span.until.0, 0, 0));
    if let Some(after) = page.after {
        if after.minute < of.span.from {
            return if page.backwards { Ok(Vec::new()) } else { counts(txn, of, Page { after: None, ..page }) };
        }
        if after.minute >= of.span.until {
            return if page.backwards { counts(txn, of, Page { after: None, ..page }) } else { Ok(Vec::new()) };
        }
        match page.backwards {
            true => until = Bound::Excluded(key(after)),
            false => from = Bound::Excluded(key(after)),
        }
    }
    if of.span.from >= of.span.until {
        return Ok(Vec::new());
    }
    let limit = page.limit.min(PAGE_MAX);
    let mut found = Vec::new();
    walk(&open(txn, COUNTS)?, (from, until), page.backwards, |(_, minute, gate, zone), bytes| {
        if found.len() >= limit {
            return Ok(false);
        }
        let position = CountPosition { minute: Timestamp(minute), gate: GateNo(gate), zone: ZoneNo(zone) };
        found.push(CountRow { position, tally: StoredTally::read(bytes)?.tally });
        Ok(true)
    })?;
    Ok(found)
}
