//! Answers about gates.

use std::collections::BTreeSet;

use engine::model::ids::{CategoryNo, FestivalId, GateNo, ShardId, TicketId, ZoneNo};
use engine::model::time::Timestamp;

use super::keys::{Key, Parts};
use super::lists::{List, Place, Slice, block_bucket};
use super::store::{Store, Walk};
use crate::views::embedded::layout::{self, BLOCK_TICKETS, Slot, StoredTally};
use crate::views::embedded::sequence::{Before, Row};
use crate::views::gates::{AccessEntry, AccessLog, CountPosition, CountRow, Counts, LogPosition, TicketRow, Tickets};
use crate::views::{PAGE_MAX, Page, ViewsError};

/// Nothing is before a row that lies alone.
fn nothing<R>() -> Before<'static, R> {
    Before { place: (0, 0), serial: 0, row: None }
}

/// A row as its body: its shard, and what the embedded store writes of the first in a page.
pub(super) fn body<R: Row + 'static>(shard: ShardId, row: &R) -> Vec<u8> {
    let mut body = shard.0.to_le_bytes().to_vec();
    row.write(&nothing(), &mut body);
    body
}

/// What [`body`] made.
///
/// # Errors
/// [`ViewsError::Damaged`].
pub(super) fn read_body<R: Row + 'static>(body: &[u8]) -> Result<R, ViewsError> {
    let mut bytes = layout::varint::Bytes(body);
    let shard = ShardId(u16::from_le_bytes(bytes.array()?));
    R::read(shard, &nothing(), &mut bytes)
}

pub(super) async fn access_log(
    store: &Store,
    of: AccessLog,
    page: Page<LogPosition>,
) -> Result<Vec<AccessEntry>, ViewsError> {
    let (list, whose, span) = match of {
        AccessLog::Zone(festival, zone, span) => (List::zone(festival, zone), Key::default(), span),
        AccessLog::Device(device, span) => (List::device(device), Key::default(), span),
        AccessLog::Ticket(ticket, span) => (List::ticket(ticket), Key::default().u128(ticket.as_u128()), span),
    };
    let after = page.after.map(|LogPosition { at, order }| (at, whose.clone().moment(at.0).u64(order)));
    let limit = page.limit.min(PAGE_MAX);
    let mut walk = Walk::over(store, Slice::of_time(list, &whose, span, after, page.backwards), limit);
    let mut found = Vec::new();
    while found.len() < limit
        && let Some((_, body)) = walk.next().await?
    {
        found.push(read_body(&body)?);
    }
    Ok(found)
}

pub(super) async fn counts(store: &Store, of: Counts, page: Page<CountPosition>) -> Result<Vec<CountRow>, ViewsError> {
    let key = |CountPosition { minute, gate, zone }: CountPosition| (minute, count_key(minute, gate, zone));
    let (list, whose) = (List::counts(of.festival), Key::default());
    let limit = page.limit.min(PAGE_MAX);
    let slice = Slice::of_time(list, &whose, of.span, page.after.map(key), page.backwards);
    let (mut walk, mut found) = (Walk::over(store, slice, limit), Vec::new());
    while found.len() < limit
        && let Some((key, body)) = walk.next().await?
    {
        let mut key = Parts(&key);
        let (minute, gate, zone) = (Timestamp(key.moment()?), GateNo(key.u16()?), ZoneNo(key.u8()?));
        found.push(CountRow { position: CountPosition { minute, gate, zone }, tally: StoredTally::read(&body)?.tally });
    }
    Ok(found)
}

pub(super) fn count_key(minute: Timestamp, gate: GateNo, zone: ZoneNo) -> Key {
    Key::default().moment(minute.0).u16(gate.0).u8(zone.0)
}

pub(super) async fn tickets(store: &Store, of: Tickets, page: Page<TicketId>) -> Result<Vec<TicketRow>, ViewsError> {
    if page.after.is_some_and(|after| after.festival() != of.festival) {
        return Ok(Vec::new());
    }
    match of.holder {
        Some(holder) => tickets_of(store, of, holder, page).await,
        None => all_tickets(store, of, page).await,
    }
}

fn fits(of: &Tickets, row: &TicketRow) -> bool {
    of.status.is_none_or(|status| row.status == status)
        && of.category.is_none_or(|category| row.ticket.category() == category)
}

/// Of which categories, the first and the last.
fn categories(of: &Tickets) -> (CategoryNo, CategoryNo) {
    of.category.map_or((CategoryNo(0), CategoryNo(u16::MAX)), |category| (category, category))
}

/// The blocks of a festival's tickets from one category to another, behind `after`, its own block included.
pub(super) fn blocks(
    festival: FestivalId,
    (first, last): (CategoryNo, CategoryNo),
    after: Option<TicketId>,
    backwards: bool,
) -> Slice {
    let block = |category: CategoryNo, block: u32| Key::default().u16(category.0).u32(block);
    let (mut from, mut until) = (block(first, 0), block(last, u32::MAX));
    let mut buckets = (block_bucket(first, 0), block_bucket(last, u32::MAX));
    if let Some(after) = after {
        let (category, number) = (after.category(), after.serial() / BLOCK_TICKETS);
        match backwards {
            true => {
                until = until.min(block(category, number).behind());
                buckets.1 = buckets.1.min(block_bucket(category, number));
            }
            false => {
                from = from.max(block(category, number));
                buckets.0 = buckets.0.max(block_bucket(category, number));
            }
        }
    }
    Slice { list: List::tickets(festival), buckets, from, until, backwards }
}

/// The category and the number of a block, from its key.
pub(super) fn block_of(key: &[u8]) -> Result<(CategoryNo, u32), ViewsError> {
    let mut key = Parts(key);
    Ok((CategoryNo(key.u16()?), key.u32()?))
}

async fn all_tickets(store: &Store, of: Tickets, page: Page<TicketId>) -> Result<Vec<TicketRow>, ViewsError> {
    let limit = page.limit.min(PAGE_MAX);
    let slice = blocks(of.festival, categories(&of), page.after, page.backwards);
    // As many as a page fills, and one more that it may begin in.
    let mut walk = Walk::over(store, slice, 2 + limit / BLOCK_TICKETS as usize);
    let place = |ticket: TicketId| (ticket.category(), ticket.serial());
    let is_behind = |ticket| {
        page.after.is_none_or(|after| match page.backwards {
            true => place(ticket) < place(after),
            false => place(ticket) > place(after),
        })
    };
    let mut found = Vec::new();
    while found.len() < limit
        && let Some((key, bytes)) = walk.next().await?
    {
        if of.status.is_some_and(|status| !layout::block_has(&bytes, status)) {
            continue;
        }
        let (category, block) = block_of(&key)?;
        let whose = store.read_one(Place::block(List::holders(of.festival), category, block)).await?;
        let whose = whose.map(|bytes| layout::read_holders(&bytes)).transpose()?.unwrap_or_default();
        let slots = layout::read_block(&bytes)?;
        let mut indexes = 0..slots.len();
        while found.len() < limit
            && let Some(index) = if page.backwards { indexes.next_back() } else { indexes.next() }
        {
            let holder = whose.get(index).copied().filter(|holder| *holder != 0);
            let row = slots[index].row(of.festival, category, block * BLOCK_TICKETS + index as u32, holder)?;
            if fits(&of, &row) && is_behind(row.ticket) {
                found.push(row);
            }
        }
    }
    Ok(found)
}

async fn tickets_of(
    store: &Store,
    of: Tickets,
    holder: u128,
    page: Page<TicketId>,
) -> Result<Vec<TicketRow>, ViewsError> {
    let limit = page.limit.min(PAGE_MAX);
    let (first, last) = categories(&of);
    let key = |category: CategoryNo, serial: u32| Key::default().u16(category.0).u32(serial);
    let (mut from, mut until) = (key(first, 0), key(last, u32::MAX));
    if let Some(after) = page.after {
        let after = key(after.category(), after.serial());
        if page.backwards { until = until.min(after) } else { from = from.max(after.behind()) }
    }
    let slice =
        Slice { list: List::of_holder(of.festival, holder), buckets: (0, 0), from, until, backwards: page.backwards };
    let (mut walk, mut found) = (Walk::over(store, slice, PAGE_MAX), Vec::new());
    if limit == 0 {
        return Ok(found);
    }
    loop {
        let mut some = Vec::new();
        while some.len() < PAGE_MAX
            && let Some((key, _)) = walk.next().await?
        {
            let mut key = Parts(&key);
            some.push((CategoryNo(key.u16()?), key.u32()?));
        }
        if some.is_empty() {
            return Ok(found);
        }
        let place = |category, serial: u32| Place::block(List::tickets(of.festival), category, serial / BLOCK_TICKETS);
        let blocks: BTreeSet<Place> = some.iter().map(|&(category, serial)| place(category, serial)).collect();
        let blocks = store.read_some(&blocks).await?;
        for (category, serial) in some {
            // Not there yet, if the batch with it is being written.
            let slots = blocks.get(&place(category, serial)).map(|bytes| layout::read_block(bytes)).transpose()?;
            let slot: Option<Slot> = slots.and_then(|slots| slots.get((serial % BLOCK_TICKETS) as usize).copied());
            let Some(slot) = slot else { continue };
            let row = slot.row(of.festival, category, serial, Some(holder))?;
            if fits(&of, &row) {
                found.push(row);
                if found.len() >= limit {
                    return Ok(found);
                }
            }
        }
    }
}
