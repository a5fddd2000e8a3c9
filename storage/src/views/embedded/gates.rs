//! How the gates' rows get into the embedded store. `layout.rs` has the bytes, the table of tables is in `embedded.rs`.

use std::collections::BTreeMap;

use engine::model::ids::{Home, ShardId, TicketId};
use engine::model::status::TicketStatus;
use redb::{ReadableTable, TableDefinition, WriteTransaction};

use super::layout::{self, BLOCK_TICKETS, Slot, StoredTally};
use super::sequence::{self, PageTable, RunTable};
use super::{Table, attempt, fault};
use crate::views::ViewsError;
use crate::views::fold::{Batch, TicketChange};
use crate::views::gates::AccessEntry;

pub(super) mod read;

pub(super) type BlockKey = (u32, u16, u32);
pub(super) type HolderKey = (u32, u128, u16, u32);
pub(super) type CountKey = (u32, i64, u16, u8);

/// The access log by the festival's shard.
pub(super) const LOG: PageTable = TableDefinition::new("log");
pub(super) const LOG_TERMS: RunTable = TableDefinition::new("log_terms");
pub(super) const TICKETS: TableDefinition<'_, BlockKey, &[u8]> = TableDefinition::new("tickets");
pub(super) const HOLDERS: TableDefinition<'_, BlockKey, &[u8]> = TableDefinition::new("holders");
pub(super) const TICKETS_BY_HOLDER: TableDefinition<'_, HolderKey, ()> = TableDefinition::new("tickets_by_holder");
pub(super) const COUNTS: TableDefinition<'_, CountKey, &[u8]> = TableDefinition::new("counts");

/// Writes what a batch says of the gates.
pub(super) fn write(txn: &WriteTransaction, batch: &Batch) -> Result<(), ViewsError> {
    write_log(txn, batch)?;
    write_tickets(txn, &batch.tickets)?;
    write_counts(txn, batch)
}

/// A festival's lines are all of one shard, hence in order.
fn write_log(txn: &WriteTransaction, batch: &Batch) -> Result<(), ViewsError> {
    let mut of_shards: BTreeMap<ShardId, Vec<&AccessEntry>> = BTreeMap::new();
    for entry in &batch.access {
        of_shards.entry(Home::Festival(entry.festival).shard(batch.from.shards())).or_default().push(entry);
    }
    of_shards.into_iter().try_for_each(|(shard, entries)| sequence::append(txn, shard, &entries))
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
