//! A second look at what was folded: some records of the journal, read again from anywhere, and what the store says of
//! them. A page whose checksum holds may still have been written wrongly.

use crate::journal::{Cursor, Journal, JournalError, Position};
use crate::views::cashless::TransactionRow;
use crate::views::fold::Batch;
use crate::views::gates::{AccessEntry, AccessLog, LogPosition};
use crate::views::{Followed, Page, Span, Views, ViewsError};
use engine::model::ids::ShardId;
use engine::model::time::Timestamp;

/// How many records one look takes: at most some thousand rows, about 20 ms.
const RECORDS: usize = 32;
/// Of the rows they come to, at most so many are looked up.
const ROWS: usize = 256;

/// What differs, in a sentence; `None` if nothing does. `chance` chooses where to look.
///
/// # Errors
/// What journal and store say.
pub(super) fn differs(
    journal: &dyn Journal,
    views: &dyn Views,
    followed: &Followed,
    chance: u64,
) -> Result<Option<String>, ViewsError> {
    if followed.cursor.is_start() {
        return Ok(None);
    }
    let shards = (0..followed.cursor.shards()).map(ShardId);
    let from = Cursor::of(shards.map(|shard| Position(chance % followed.cursor.get(shard).0.max(1))));
    let mut reader = match journal.reader(&from) {
        Ok(reader) => reader,
        Err(JournalError::Archived { .. }) => return Ok(None),
        Err(why) => return Err(why.into()),
    };
    let mut batch = Batch::behind(&Followed { cursor: from, last: None });
    for _ in 0..RECORDS {
        match reader.next()? {
            Some(entry) if entry.position < followed.cursor.get(entry.shard) => batch.add(&entry)?,
            _ => break,
        }
    }
    for entry in batch.access.iter().take(ROWS) {
        let of_zone = AccessLog::Zone(entry.festival, entry.zone, moment(entry));
        let of_ticket = entry.ticket.map(|ticket| AccessLog::Ticket(ticket, moment(entry)));
        for of in [Some(of_zone), of_ticket].into_iter().flatten() {
            let found = views.access_log(of, at(entry))?;
            if !found.first().is_some_and(|found| same_scan(found, entry)) {
                return Ok(Some(format!("a scan of {} at zone {}", entry.position.at.0, entry.zone.0)));
            }
        }
    }
    for row in batch.transactions.iter().take(ROWS) {
        let Some(id) = row.id else { continue };
        if !views.transaction(id)?.is_some_and(|found| same_transaction(&found, row)) {
            return Ok(Some(format!("transaction {id}")));
        }
    }
    Ok(None)
}

fn moment(entry: &AccessEntry) -> Span {
    let at = entry.position.at;
    Span { from: at, until: Timestamp(at.0.saturating_add(1)) }
}

/// The page whose first row it must be.
fn at(entry: &AccessEntry) -> Page<LogPosition> {
    let LogPosition { at, order } = entry.position;
    let before = order.checked_sub(1).map(|order| LogPosition { at, order });
    Page { after: before, limit: 1, backwards: false }
}

/// What never changes of a scan.
fn same_scan(left: &AccessEntry, right: &AccessEntry) -> bool {
    let of = |entry: &AccessEntry| (entry.position, entry.ticket, entry.zone, entry.gate, entry.device, entry.verdict);
    of(left) == of(right)
}

/// What never changes of a transaction.
fn same_transaction(left: &TransactionRow, right: &TransactionRow) -> bool {
    let of = |row: &TransactionRow| (row.position, row.kind, row.wallet, row.vendor, row.amount, row.before, row.after);
    of(left) == of(right)
}
