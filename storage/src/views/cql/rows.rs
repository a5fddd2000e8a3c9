//! What a batch comes to, as rows. It may have been written before, in part or as a whole, and further than it goes: what is
//! found then is kept where it is ahead, and is the same where it is not.
//!
//! - Rows of lists never change: they are written over by themselves.
//! - A sum is one shard's alone and says which event it has last, so events that it has are passed over. All of a batch's
//!   events are held against what was found, not against each other: one event may add to a sum twice.
//! - What becomes of a ticket is said absolutely, and in order, so going through it again ends where it had ended. The one
//!   exception, that all used tickets of a festival are unused again, ends there too, since whoever was let in afterwards is
//!   said again as well.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use engine::model::ids::{CategoryNo, FestivalId, Home, ShardId, TicketId, TransactionId, VendorNo};
use engine::model::status::TicketStatus;
use engine::model::time::Timestamp;
use futures_util::future::try_join_all;
use futures_util::stream::{self, StreamExt as _, TryStreamExt as _};
use serde::Serialize;
use serde::de::DeserializeOwned;

use super::cashless::{Refunds, Sum, last_account, place_key, product_key, sales_key};
use super::gates::{block_of, blocks, body, count_key, read_body};
use super::keys::Key;
use super::lists::{List, Place};
use super::store::{Store, Walk, Writes};
use crate::views::ViewsError;
use crate::views::cashless::{CashlessPosition, ProductPosition, ProductTally, TransactionRow, VendorAccount};
use crate::views::embedded::layout::cashless::{read, write};
use crate::views::embedded::layout::{self, BLOCK_TICKETS, Slot, StoredTally};
use crate::views::fold::{Batch, CountStep, TicketChange};
use crate::views::gates::AccessEntry;

/// Payments and earlier refunds that are looked up at a time, to know what refunds take off products.
const LOOK_UPS: usize = 32;

/// What is to be written.
pub(super) async fn of(store: &Store, batch: &Batch) -> Result<Writes, ViewsError> {
    let mut writes = Writes::default();
    let home = |festival: FestivalId| Home::Festival(festival).shard(batch.from.shards());
    batch.access.iter().for_each(|entry| log(home(entry.festival), entry, &mut writes));
    batch.transactions.iter().for_each(|row| list(row, &mut writes));
    tickets(store, home, &batch.tickets, &mut writes).await?;
    counts(store, home, &batch.counts, &mut writes).await?;
    let refunds = refunds(store, &batch.transactions, &mut writes).await?;
    sales(store, &batch.transactions, &mut writes).await?;
    products(store, &batch.transactions, &refunds, &mut writes).await?;
    accounts(store, &batch.transactions, &mut writes).await?;
    Ok(writes)
}

fn log(shard: ShardId, entry: &AccessEntry, writes: &mut Writes) {
    let (at, body) = (entry.position.at, body(shard, entry));
    let place = |whose: Key| whose.moment(at.0).u64(entry.position.order);
    writes.put(shard, Place::at(List::zone(entry.festival, entry.zone), at, place(Key::default())), body.clone());
    if let Some(device) = entry.device {
        writes.put(shard, Place::at(List::device(device), at, place(Key::default())), body.clone());
    }
    if let Some(ticket) = entry.ticket {
        let whose = Key::default().u128(ticket.as_u128());
        writes.put(shard, Place::at(List::ticket(ticket), at, place(whose)), body);
    }
}

fn list(row: &TransactionRow, writes: &mut Writes) {
    let (at, shard) = (row.position.at, row.position.shard);
    let body = body(shard, row);
    let mut put =
        |list, whose: Key| writes.put(shard, Place::at(list, at, place_key(&whose, row.position)), body.clone());
    put(List::class(row.festival, row.class()), Key::default());
    put(List::wallet(row.wallet), Key::default().u64(row.wallet.0));
    if let Some(terminal) = row.terminal {
        put(List::terminal(terminal), Key::default());
    }
    if let Some((festival, vendor)) = row.vendor_account() {
        put(List::vendor(festival, vendor), Key::default());
    }
    if let Some(id) = row.id {
        writes.put(shard, Place::serial(id), body);
    }
}

/// Blocks of tickets as they are and are to be.
struct Blocks<'s> {
    store: &'s Store,
    loaded: BTreeMap<(FestivalId, CategoryNo, u32), Vec<Slot>>,
}

impl Blocks<'_> {
    /// Loads those of these tickets that are not there yet.
    async fn load(&mut self, tickets: impl Iterator<Item = (FestivalId, CategoryNo, u32)>) -> Result<(), ViewsError> {
        let missing = tickets.filter(|block| !self.loaded.contains_key(block));
        let missing: BTreeSet<_> = missing.collect();
        let place = |&(festival, category, block): &_| Place::block(List::tickets(festival), category, block);
        let found = self.store.read_some(&missing.iter().map(place).collect()).await?;
        for block in missing {
            let slots = found.get(&place(&block)).map(|bytes| layout::read_block(bytes)).transpose()?;
            self.loaded.insert(block, slots.unwrap_or_default());
        }
        Ok(())
    }

    /// Loads all of a festival.
    async fn load_all(&mut self, festival: FestivalId) -> Result<(), ViewsError> {
        let all = blocks(festival, (CategoryNo(0), CategoryNo(u16::MAX)), None, false);
        let mut walk = Walk::over(self.store, all, 64);
        while let Some((key, bytes)) = walk.next().await? {
            let (category, block) = block_of(&key)?;
            if let std::collections::btree_map::Entry::Vacant(vacant) = self.loaded.entry((festival, category, block)) {
                vacant.insert(layout::read_block(&bytes)?);
            }
        }
        Ok(())
    }

    fn slot(&mut self, ticket: TicketId) -> Result<&mut Slot, ViewsError> {
        let block = self.loaded.get_mut(&block(ticket));
        let slot = block.and_then(|slots| slots.get_mut((ticket.serial() % BLOCK_TICKETS) as usize));
        let slot = slot.filter(|slot| slot.nonce() == ticket.nonce());
        slot.ok_or_else(|| ViewsError::Misfit(format!("festival {}, ticket {ticket}", ticket.festival())))
    }

    /// A ticket that is new, or was written before the position behind it was.
    fn issue(
        &mut self,
        (festival, category, serial): (FestivalId, CategoryNo, u32),
        slot: Slot,
    ) -> Result<(), ViewsError> {
        let misfit = || {
            let what =
                format!("festival {festival}, category {}, ticket {serial} issued twice or too early", category.0);
            ViewsError::Misfit(what)
        };
        let block = self.loaded.get_mut(&(festival, category, serial / BLOCK_TICKETS)).ok_or_else(misfit)?;
        let (at, tickets) = ((serial % BLOCK_TICKETS) as usize, block.len());
        match block.get_mut(at) {
            Some(known) if known.nonce() == slot.nonce() => *known = slot,
            None if tickets == at => block.push(slot),
            _ => return Err(misfit()),
        }
        Ok(())
    }
}

fn block(ticket: TicketId) -> (FestivalId, CategoryNo, u32) {
    (ticket.festival(), ticket.category(), ticket.serial() / BLOCK_TICKETS)
}

async fn tickets(
    store: &Store,
    home: impl Fn(FestivalId) -> ShardId,
    changes: &[TicketChange],
    writes: &mut Writes,
) -> Result<(), ViewsError> {
    let mut blocks = Blocks { store, loaded: BTreeMap::new() };
    let mut holders: BTreeMap<(FestivalId, CategoryNo, u32), Vec<(usize, u128)>> = BTreeMap::new();
    // All that is needed, before anything changes.
    let mut touched = BTreeSet::new();
    for change in changes {
        match change {
            TicketChange::Issued { festival, category, first_serial, count, .. } => {
                let serials = *first_serial..first_serial.saturating_add(*count);
                touched.extend(serials.map(|serial| (*festival, *category, serial / BLOCK_TICKETS)));
            }
            TicketChange::Status(ticket, _) | TicketChange::Blocked(ticket, _) => {
                touched.insert(block(*ticket));
            }
            TicketChange::Reset(festival) => blocks.load_all(*festival).await?,
        }
    }
    blocks.load(touched.into_iter()).await?;
    for change in changes {
        match change {
            TicketChange::Issued { festival, category, first_serial, count, seed, paid, holders: whose } => {
                for index in 0..*count {
                    let serial = first_serial + index;
                    blocks.issue((*festival, *category, serial), Slot::issued(*seed, index, *paid))?;
                    if let Some(holder) = whose.get(index as usize).copied().flatten() {
                        let block = holders.entry((*festival, *category, serial / BLOCK_TICKETS)).or_default();
                        block.push(((serial % BLOCK_TICKETS) as usize, holder));
                        let key = Key::default().u16(category.0).u32(serial);
                        let place = Place { list: List::of_holder(*festival, holder), bucket: 0, key };
                        writes.put(home(*festival), place, Vec::new());
                    }
                }
            }
            TicketChange::Status(ticket, status) => blocks.slot(*ticket)?.set_status(*status),
            TicketChange::Blocked(ticket, blocked) => blocks.slot(*ticket)?.set_blocked(*blocked),
            TicketChange::Reset(festival) => {
                let all = (*festival, CategoryNo(0), 0)..=(*festival, CategoryNo(u16::MAX), u32::MAX);
                for slot in blocks.loaded.range_mut(all).flat_map(|(_, block)| block) {
                    if slot.status() == Some(TicketStatus::Used) {
                        slot.set_status(TicketStatus::Sold);
                    }
                }
            }
        }
    }
    for ((festival, category, block), slots) in &blocks.loaded {
        let place = Place::block(List::tickets(*festival), *category, *block);
        writes.put(home(*festival), place, layout::write_block(slots));
    }
    let place = |&(festival, category, block): &_| Place::block(List::holders(festival), category, block);
    let mut known = store.read_some(&holders.keys().map(place).collect()).await?;
    for (block, new) in holders {
        let stored = known.remove(&place(&block)).map(|bytes| layout::read_holders(&bytes)).transpose()?;
        let mut whose = stored.unwrap_or_default();
        for (at, holder) in new {
            whose.resize(whose.len().max(at + 1), 0);
            whose[at] = holder;
        }
        writes.put(home(block.0), place(&block), layout::write_holders(&whose));
    }
    Ok(())
}

async fn counts(
    store: &Store,
    home: impl Fn(FestivalId) -> ShardId,
    steps: &[CountStep],
    writes: &mut Writes,
) -> Result<(), ViewsError> {
    let place = |step: &CountStep| {
        let at = step.position;
        Place::at(List::counts(step.festival), at.minute, count_key(at.minute, at.gate, at.zone))
    };
    let mut steps_of: BTreeMap<Place, (ShardId, Vec<&CountStep>)> = BTreeMap::new();
    for step in steps {
        let of = steps_of.entry(place(step)).or_insert_with(|| (home(step.festival), Vec::new()));
        of.1.push(step);
    }
    let mut known = store.read_some(&steps_of.keys().cloned().collect()).await?;
    for (place, (shard, steps)) in steps_of {
        let stored = known.remove(&place).map(|bytes| StoredTally::read(&bytes)).transpose()?;
        let mut row = stored.unwrap_or_default();
        let has = row.as_of_seq;
        for step in steps.into_iter().filter(|step| step.seq > has) {
            row.tally.add_all(&step.tally);
            row.as_of_seq = row.as_of_seq.max(step.seq);
        }
        writes.put(shard, place, row.bytes());
    }
    Ok(())
}

/// Adds rows' steps to sums: those of rows that a sum does not have yet.
async fn add_up<T: Serialize + DeserializeOwned + Default>(
    store: &Store,
    steps: impl Iterator<Item = (Place, CashlessPosition, T)>,
    add: fn(&mut T, &T),
    writes: &mut Writes,
) -> Result<(), ViewsError> {
    let mut steps_of: BTreeMap<Place, (ShardId, Vec<(u64, T)>)> = BTreeMap::new();
    for (place, CashlessPosition { shard, order, .. }, step) in steps {
        steps_of.entry(place).or_insert((shard, Vec::new())).1.push((order, step));
    }
    let mut known = store.read_some(&steps_of.keys().cloned().collect()).await?;
    for (place, (shard, steps)) in steps_of {
        let stored: Option<Sum<T>> = known.remove(&place).map(|bytes| read(&bytes)).transpose()?;
        let (has, mut sum) = stored.unwrap_or_default();
        let mut last = has;
        for (order, step) in steps.iter().filter(|(order, _)| *order > has) {
            add(&mut sum, step);
            last = last.max(*order);
        }
        writes.put(shard, place, write(&(last, sum)));
    }
    Ok(())
}

async fn sales(store: &Store, rows: &[TransactionRow], writes: &mut Writes) -> Result<(), ViewsError> {
    let steps = rows.iter().filter_map(|row| {
        let (festival, vendor, at) = row.sale()?;
        let key = sales_key(at).u16(row.position.shard.0);
        Some((Place::at(List::sales(festival, vendor), at.quarter, key), row.position, row.entry()))
    });
    add_up(store, steps, VendorAccount::add, writes).await
}

/// Notes what was given back of which payments, and says all of it for the payments of the batch's refunds.
async fn refunds(
    store: &Store,
    rows: &[TransactionRow],
    writes: &mut Writes,
) -> Result<HashMap<TransactionId, Refunds>, ViewsError> {
    let mut new: BTreeMap<Place, (ShardId, TransactionId, Refunds)> = BTreeMap::new();
    for row in rows {
        if let (Some(payment), Some(id)) = (row.refund_of, row.id) {
            let of = new.entry(Place::refunds(payment));
            let (.., refunds) = of.or_insert((row.position.shard, payment, Refunds::new()));
            refunds.insert(id.serial, (row.position.at, row.amount));
        }
    }
    let known = store.read_some(&new.keys().cloned().collect()).await?;
    let mut all = HashMap::new();
    for (place, (shard, payment, mut refunds)) in new {
        if let Some(body) = known.get(&place) {
            refunds.extend(read::<Refunds>(body)?);
        }
        writes.put(shard, place, write(&refunds));
        all.insert(payment, refunds);
    }
    Ok(all)
}

async fn products(
    store: &Store,
    rows: &[TransactionRow],
    refunds: &HashMap<TransactionId, Refunds>,
    writes: &mut Writes,
) -> Result<(), ViewsError> {
    let of_batch: HashMap<TransactionId, &TransactionRow> =
        rows.iter().filter_map(|row| Some((row.id?, row))).collect();
    let find = async |id: TransactionId| match of_batch.get(&id) {
        Some(row) => Ok(Some((*row).clone())),
        None => store.read_one(Place::serial(id)).await?.map(|body| read_body(&body)).transpose(),
    };
    let sold = async |row: &TransactionRow| -> Result<Vec<(ProductPosition, ProductTally)>, ViewsError> {
        let (Some(id), Some(payment)) = (row.id, row.refund_of) else { return Ok(row.products()) };
        let unseen = |id| ViewsError::Misfit(format!("{payment} was given back, and nobody has seen {id}"));
        let paid = find(payment).await?.ok_or_else(|| unseen(payment))?;
        let mut earlier = Vec::new();
        for (&serial, _) in refunds.get(&payment).into_iter().flat_map(|refunds| refunds.range(..id.serial)) {
            let id = TransactionId { serial, ..payment };
            earlier.push(find(id).await?.ok_or_else(|| unseen(id))?);
        }
        Ok(row.products_given_back(&paid, &earlier))
    };
    let steps = rows.iter().filter_map(|row| Some((row.vendor_account()?, row)));
    let steps = steps.map(|((festival, vendor), row)| {
        let sold = &sold;
        async move {
            let place = |at: ProductPosition| {
                let key = product_key(at).u16(row.position.shard.0);
                Place::at(List::products(festival, vendor), at.quarter, key)
            };
            let sold = sold(row).await?.into_iter();
            Ok::<_, ViewsError>(sold.map(|(at, tally)| (place(at), row.position, tally)).collect::<Vec<_>>())
        }
    });
    let steps: Vec<Vec<_>> = stream::iter(steps).buffered(LOOK_UPS).try_collect().await?;
    add_up(store, steps.into_iter().flatten(), ProductTally::add, writes).await
}

/// What each vendor's account has come to at the end of each minute in which it moved, shard by shard. A shard's time
/// never goes back, so its last row is where it stands.
async fn accounts(store: &Store, rows: &[TransactionRow], writes: &mut Writes) -> Result<(), ViewsError> {
    let mut entries: BTreeMap<(FestivalId, VendorNo, ShardId), Vec<&TransactionRow>> = BTreeMap::new();
    for row in rows {
        if let Some((festival, vendor)) = row.vendor_account() {
            entries.entry((festival, vendor, row.position.shard)).or_default().push(row);
        }
    }
    let last = entries.keys().map(|&(festival, vendor, shard)| last_account(store, festival, vendor, shard, None));
    let last = try_join_all(last).await?;
    for (((festival, vendor, shard), rows), last) in entries.into_iter().zip(last) {
        let (mut minute, (mut has, mut account)) = last.unwrap_or((Timestamp(i64::MIN), Default::default()));
        for row in rows {
            if row.position.order <= has {
                continue;
            }
            minute = minute.max(row.position.at.minute());
            account.add(&row.entry());
            has = row.position.order;
            // The minute's last one stays.
            let key = Key::default().moment(minute.0);
            let place = Place { list: List::account(festival, vendor, shard), bucket: 0, key };
            writes.put(shard, place, write(&(has, account)));
        }
    }
    Ok(())
}
