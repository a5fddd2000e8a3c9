//! How the gates' rows get into the embedded store. `layout.rs` has the bytes, the table of tables is in `embedded.rs`.

use std::collections::BTreeMap;

use engine::model::ids::TicketId;
use engine::model::status::TicketStatus;
use redb::{ReadableTable, TableDefinition, WriteTransaction};

use super::layout::{self, BLOCK_TICKETS, CHUNK_LINES, Slot, StoredTally};
use super::{Table, attempt, fault};
use crate::views::fold::{Batch, TicketChange};
use crate::views::gates::AccessEntry;
use crate::views::{INDEX_BITS, ViewsError};

pub(super) mod read;

pub(super) type LogByZone = (u32, u8, i64, u64);
pub(super) type LogByDevice = (u64, i64, u64);
pub(super) type LogByTicket = (u32, u16, u32, i64, u64);
pub(super) type BlockKey = (u32, u16, u32);
pub(super) type HolderKey = (u32, u128, u16, u32);
pub(super) type CountKey = (u32, i64, u16, u8);

pub(super) const LOG_BY_ZONE: TableDefinition<'_, LogByZone, &[u8]> = TableDefinition::new("log_by_zone");
pub(super) const LOG_BY_DEVICE: TableDefinition<'_, LogByDevice, &[u8]> = TableDefinition::new("log_by_device");
pub(super) const LOG_BY_TICKET: TableDefinition<'_, LogByTicket, &[u8]> = TableDefinition::new("log_by_ticket");
pub(super) const TICKETS: TableDefinition<'_, BlockKey, &[u8]> = TableDefinition::new("tickets");
pub(super) const HOLDERS: TableDefinition<'_, BlockKey, &[u8]> = TableDefinition::new("holders");
pub(super) const TICKETS_BY_HOLDER: TableDefinition<'_, HolderKey, ()> = TableDefinition::new("tickets_by_holder");
pub(super) const COUNTS: TableDefinition<'_, CountKey, &[u8]> = TableDefinition::new("counts");

/// Writes what a batch says of the gates.
pub(super) fn write(txn: &WriteTransaction, batch: &Batch) -> Result<(), ViewsError> {
    write_log(txn, &batch.access)?;
    write_tickets(txn, &batch.tickets)?;
    write_counts(txn, batch)
}

/// Groups the batch's lines by what they are looked up by, record by record, and inserts them in the order of the keys.
fn write_log(txn: &WriteTransaction, access: &[AccessEntry]) -> Result<(), ViewsError> {
    let place = |entry: &AccessEntry| (entry.position.at.0, entry.position.order);
    attempt("write", || {
        let mut by_zone = txn.open_table(LOG_BY_ZONE)?;
        let keyed = access.iter().map(|entry| ((entry.festival.0, entry.zone.0), entry));
        write_chunks(keyed, |(festival, zone), first, chunk| {
            let (at, order) = place(first);
            by_zone.insert((festival, zone, at, order), chunk).map(drop)
        })?;
        let mut by_device = txn.open_table(LOG_BY_DEVICE)?;
        let keyed = access.iter().filter_map(|entry| Some((entry.device?.0, entry)));
        write_chunks(keyed, |device, first, chunk| {
            let (at, order) = place(first);
            by_device.insert((device, at, order), chunk).map(drop)
        })?;
        let mut by_ticket = txn.open_table(LOG_BY_TICKET)?;
        let keyed = access.iter().filter_map(|entry| Some((block_of(entry.ticket?), entry)));
        write_chunks(keyed, |(festival, category, block), first, chunk| {
            let (at, order) = place(first);
            by_ticket.insert((festival, category, block, at, order), chunk).map(drop)
        })?;
        Ok(())
    })
}

fn write_chunks<'e, K: Ord + Copy>(
    keyed: impl Iterator<Item = (K, &'e AccessEntry)>,
    mut insert: impl FnMut(K, &AccessEntry, &[u8]) -> Result<(), redb::StorageError>,
) -> Result<(), redb::Error> {
    let mut lines: Vec<(K, &AccessEntry)> = keyed.collect();
    // Stable: within a key they stay in the order in which they happened.
    lines.sort_by_key(|(key, _)| *key);
    let mut bytes = Vec::new();
    let same = |left: &(K, &AccessEntry), right: &(K, &AccessEntry)| {
        left.0 == right.0 && left.1.position.order >> INDEX_BITS == right.1.position.order >> INDEX_BITS
    };
    for chunk in lines.chunk_by(same).flat_map(|run| run.chunks(CHUNK_LINES)) {
        bytes.clear();
        for (_, entry) in chunk {
            layout::push_line(&mut bytes, entry);
        }
        let (key, first) = chunk[0];
        insert(key, first, &bytes)?;
    }
    Ok(())
}

fn block_of(ticket: TicketId) -> BlockKey {
    (ticket.festival().0, ticket.category().0, ticket.serial() / BLOCK_TICKETS)
}

/// Reads each block that the batch touches once, and writes it once.
fn write_tickets(txn: &WriteTransaction, changes: &[TicketChange]) -> Result<(), ViewsError> {
    let mut tickets = txn.open_table(TICKETS).map_err(|why| fault("write", why.into()))?;
    let mut holders = Blocks::new(txn.open_table(HOLDERS).map_err(|why| fault("write", why.into()))?);
    let mut by_holder = txn.open_table(TICKETS_BY_HOLDER).map_err(|why| fault("write", why.into()))?;
    let mut blocks: BTreeMap<BlockKey, Vec<Slot>> = BTreeMap::new();
    for change in changes {
        match change {
            TicketChange::Issued { festival, category, first_serial, count, seed, paid, holders: whose } => {
                for index in 0..*count {
                    let serial = first_serial + index;
                    let key = (festival.0, category.0, serial / BLOCK_TICKETS);
                    let block = load(&mut blocks, &tickets, key)?;
                    let at = (serial % BLOCK_TICKETS) as usize;
                    if block.len() != at {
                        return Err(misfit(
                            *festival,
                            format!("category {}, ticket {serial} issued twice or too early", category.0),
                        ));
                    }
                    block.push(Slot::issued(*seed, index, *paid));
                    if let Some(holder) = whose.get(index as usize).copied().flatten() {
                        holders.set(key, at, holder)?;
                        let whose = (festival.0, holder, category.0, serial);
                        by_holder.insert(whose, ()).map_err(|why| fault("write", why.into()))?;
                    }
                }
            }
            TicketChange::Status(ticket, status) => slot(&mut blocks, &tickets, *ticket)?.set_status(*status),
            TicketChange::Blocked(ticket, blocked) => slot(&mut blocks, &tickets, *ticket)?.set_blocked(*blocked),
            TicketChange::Reset(festival) => {
                let whole = (festival.0, 0, 0)..=(festival.0, u16::MAX, u32::MAX);
                let stored: Vec<BlockKey> = attempt("read", || {
                    tickets.range(whole.clone())?.map(|row| Ok(row?.0.value())).collect::<Result<_, redb::Error>>()
                })?;
                for key in stored {
                    load(&mut blocks, &tickets, key)?;
                }
                for (_, block) in blocks.range_mut(whole) {
                    for slot in block.iter_mut().filter(|slot| slot.status() == Some(TicketStatus::Used)) {
                        slot.set_status(TicketStatus::Sold);
                    }
                }
            }
        }
    }
    attempt("write", || {
        for (key, block) in &blocks {
            tickets.insert(*key, layout::write_block(block).as_slice())?;
        }
        Ok(())
    })?;
    holders.write()
}

/// Blocks of holders on their way.
struct Blocks<'t> {
    table: Table<'t, BlockKey>,
    touched: BTreeMap<BlockKey, Vec<u128>>,
}

impl<'t> Blocks<'t> {
    fn new(table: Table<'t, BlockKey>) -> Self {
        Self { table, touched: BTreeMap::new() }
    }

    fn set(&mut self, key: BlockKey, at: usize, holder: u128) -> Result<(), ViewsError> {
        let block = match self.touched.entry(key) {
            std::collections::btree_map::Entry::Occupied(known) => known.into_mut(),
            std::collections::btree_map::Entry::Vacant(vacant) => {
                let stored = attempt("read", || Ok(self.table.get(key)?.map(|bytes| bytes.value().to_vec())))?;
                vacant.insert(stored.map(|bytes| layout::read_holders(&bytes)).transpose()?.unwrap_or_default())
            }
        };
        block.resize(block.len().max(at + 1), 0);
        block[at] = holder;
        Ok(())
    }

    fn write(mut self) -> Result<(), ViewsError> {
        attempt("write", || {
            for (key, block) in &self.touched {
                self.table.insert(*key, layout::write_holders(block).as_slice())?;
            }
            Ok(())
        })
    }
}

fn load<'b>(
    blocks: &'b mut BTreeMap<BlockKey, Vec<Slot>>,
    table: &Table<'_, BlockKey>,
    key: BlockKey,
) -> Result<&'b mut Vec<Slot>, ViewsError> {
    match blocks.entry(key) {
        std::collections::btree_map::Entry::Occupied(known) => Ok(known.into_mut()),
        std::collections::btree_map::Entry::Vacant(vacant) => {
            let stored = attempt("read", || Ok(table.get(key)?.map(|bytes| bytes.value().to_vec())))?;
            Ok(vacant.insert(stored.map(|bytes| layout::read_block(&bytes)).transpose()?.unwrap_or_default()))
        }
    }
}

fn slot<'b>(
    blocks: &'b mut BTreeMap<BlockKey, Vec<Slot>>,
    table: &Table<'_, BlockKey>,
    ticket: TicketId,
) -> Result<&'b mut Slot, ViewsError> {
    let at = (ticket.serial() % BLOCK_TICKETS) as usize;
    let slot = load(blocks, table, block_of(ticket))?.get_mut(at).filter(|slot| slot.nonce() == ticket.nonce());
    slot.ok_or_else(|| misfit(ticket.festival(), format!("ticket {ticket}")))
}

fn misfit(festival: engine::model::ids::FestivalId, what: String) -> ViewsError {
    ViewsError::Misfit(format!("festival {festival}, {what}"))
}

/// Adds each row's steps to what is stored, which stays an absolute value.
fn write_counts(txn: &WriteTransaction, batch: &Batch) -> Result<(), ViewsError> {
    let mut table = txn.open_table(COUNTS).map_err(|why| fault("write", why.into()))?;
    let mut rows: BTreeMap<CountKey, StoredTally> = BTreeMap::new();
    for step in &batch.counts {
        let place = step.position;
        let key = (step.festival.0, place.minute.0, place.gate.0, place.zone.0);
        let row = match rows.entry(key) {
            std::collections::btree_map::Entry::Occupied(known) => known.into_mut(),
            std::collections::btree_map::Entry::Vacant(vacant) => {
                let stored = attempt("read", || Ok(table.get(key)?.map(|bytes| bytes.value().to_vec())))?;
                vacant.insert(stored.map(|bytes| StoredTally::read(&bytes)).transpose()?.unwrap_or_default())
            }
        };
        if step.seq > row.as_of_seq {
            row.tally.add_all(&step.tally);
            row.as_of_seq = step.seq;
        }
    }
    attempt("write", || {
        for (key, row) in &rows {
            table.insert(*key, row.bytes().as_slice())?;
        }
        Ok(())
    })
}
