//! A shard's rows of one kind, in the order in which they happened: written once, side by side, and never moved.
//!
//! Rows are numbered from 0 within their shard and lie in **pages** of [`page::PAGE_BYTES`], each row as its difference to the
//! one before it. A page begins with a head that says what its first row differs from, so that a page can be read alone, and
//! time, place and serial are found by halving: there is no index for them. Pages and runs are read in the direction that was
//! asked for, and only as far as the answer needs: a page of a hundred rows does not read the 8,192 of a run.
//!
//! What rows are looked up by (a wallet, a zone, a reader) are **terms**, 32 bits of a hash; whoever finds rows by one
//! compares the rows themselves. Terms lie in sorted runs over [`RUN_ROWS`] rows each, and [`FAN_OUT`] runs side by side become
//! one of the next level, up to [`LEVELS`] (`sequence/runs.rs`). Rows behind the last run are read as they are: fewer than
//! [`RUN_ROWS`]. Both pages and runs depend on the rows alone, and not on how they were cut into batches.
//!
//! In memory are, for a moment, a page or a run that is being written: 8 bytes for each of up to 4 terms of 8,192 rows, 256 KiB.

use engine::model::ids::ShardId;
use redb::{ReadableTable, TableDefinition, WriteTransaction};

use super::layout::varint::Bytes;
use super::{Table, attempt, fault};
use crate::views::{INDEX_BITS, ViewsError};
use page::{Ends, Tail};

mod page;
mod piece;
pub(super) mod read;
mod runs;

/// Shard, number of the first row.
pub(super) type PageKey = (u16, u64);
/// Shard, number of the run's first row, first term, how many pieces of the run are before.
pub(super) type RunKey = (u16, u64, u32, u32);

pub(super) type PageTable = TableDefinition<'static, PageKey, &'static [u8]>;
pub(super) type RunTable = TableDefinition<'static, RunKey, &'static [u8]>;

/// Rows of the shortest run.
const RUN_ROWS: u64 = if cfg!(test) { 8 } else { 128 };
/// Runs that become one.
const FAN_OUT: u64 = if cfg!(test) { 2 } else { 8 };
/// The longest run has 8,192 rows. A term that few rows have is looked for in every run, at most 136 for a million rows of a
/// shard.
const LEVELS: u32 = 3;

/// Where a row stands in its shard: time, and [`crate::views::gates::LogPosition::order`].
pub(super) type Place = (i64, u64);

/// A kind of rows.
pub(in crate::views) trait Row: Sized + Clone {
    const PAGES: PageTable;
    const RUNS: RunTable;

    /// Never before that of an earlier row of its shard.
    fn place(&self) -> Place;
    /// By which its shard numbers it, upwards; `None`: it does not.
    fn serial(&self) -> Option<u64>;
    /// By which rows of a term are told apart without reading them, below 16.
    fn class(&self) -> u8;
    /// What it is looked up by.
    fn terms(&self, each: &mut dyn FnMut(u32));
    /// Adds it, but for what is `before` it.
    fn write(&self, before: &Before<'_, Self>, out: &mut Vec<u8>);
    /// What [`Row::write`] added.
    ///
    /// # Errors
    /// [`ViewsError::Damaged`].
    fn read(shard: ShardId, before: &Before<'_, Self>, bytes: &mut Bytes<'_>) -> Result<Self, ViewsError>;
}

/// What the row before in the same page says; for the first of a page what the page's head does.
pub(in crate::views) struct Before<'r, R> {
    pub(in crate::views) place: Place,
    /// The last serial.
    pub(in crate::views) serial: u64,
    pub(in crate::views) row: Option<&'r R>,
}

impl<R> Before<'_, R> {
    /// Number of the record, and of the event in it.
    pub(super) fn record(&self) -> (u64, u64) {
        (self.place.1 >> INDEX_BITS, self.place.1 & ((1 << INDEX_BITS) - 1))
    }
}

/// A term: what kind of thing, and which one.
pub(super) fn term(kind: u8, which: u64) -> u32 {
    crc32c::crc32c_append(u32::from(kind), &which.to_le_bytes())
}

/// The page that a shard's next row goes into, and its first and last row.
fn tail_of<R: Row>(pages: &Table<'_, PageKey>, shard: ShardId) -> Result<(Tail, Ends<R>), ViewsError> {
    let last = attempt("read", || Ok(pages.range((shard.0, 0)..=(shard.0, u64::MAX))?.next_back().transpose()?))?;
    last.map_or(Ok((Tail::empty(), None)), |(key, page)| Tail::read(shard, key.value().1, page.value()))
}

/// Writes a shard's next rows.
///
/// # Errors
/// [`ViewsError::Misfit`] if one is not behind those that are there.
pub(super) fn append<R: Row>(txn: &WriteTransaction, shard: ShardId, rows: &[&R]) -> Result<(), ViewsError> {
    let mut pages = txn.open_table(R::PAGES).map_err(|why| fault("write", why.into()))?;
    let (mut tail, stored) = tail_of::<R>(&pages, shard)?;
    let known = tail.rows();
    let mut ends = stored.as_ref().map(|(first, last)| (first, last));
    let (mut scratch, mut page) = (Vec::new(), Vec::new());
    let mut put = |tail: &mut Tail| {
        tail.page(&mut page);
        attempt("write", || Ok(pages.insert((shard.0, tail.number), page.as_slice()).map(drop)?))
    };
    for &row in rows {
        let place = row.place();
        if ends.is_some_and(|(_, last)| last.place() >= place) {
            return Err(ViewsError::Misfit(format!(
                "shard {}, record {} out of order",
                shard.0,
                place.1 >> INDEX_BITS
            )));
        }
        if tail.add(ends, row, &mut scratch) {
            ends = ends.map(|(first, _)| (first, row));
        } else {
            if ends.is_some() {
                put(&mut tail)?;
            }
            tail.begin(row);
            ends = Some((row, row));
        }
    }
    if !rows.is_empty() {
        put(&mut tail)?;
    }
    let mut runs = txn.open_table(R::RUNS).map_err(|why| fault("write", why.into()))?;
    for run in known / RUN_ROWS..tail.rows() / RUN_ROWS {
        runs::write::<R>(&pages, &mut runs, shard, run)?;
    }
    Ok(())
}

/// Which runs there are among so many rows: where each begins and ends.
fn runs_among(rows: u64) -> Vec<(u64, u64)> {
    let (mut runs, mut from) = (Vec::new(), 0);
    for level in (0..LEVELS).rev() {
        let len = RUN_ROWS * FAN_OUT.pow(level);
        while from + len <= rows {
            runs.push((from, from + len));
            from += len;
        }
    }
    runs
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;

    /// Whatever is written after whatever, and as the first of a page, is read back; cut off, it is damaged and no panic.
    pub(in crate::views::embedded) fn come_back<R: Row + PartialEq + std::fmt::Debug>(rows: &[R]) {
        let mut place = (1_780_000_000_000 - 5, 77 << INDEX_BITS);
        let (mut serial, mut last, mut out) = (3, None, Vec::new());
        for row in rows {
            for before in [last, None] {
                out.clear();
                row.write(&Before { place, serial, row: before }, &mut out);
                let read = |mut bytes: Bytes<'_>| {
                    let row = R::read(ShardId(3), &Before { place, serial, row: before }, &mut bytes)?;
                    assert!(bytes.is_empty());
                    Ok::<_, ViewsError>(row)
                };
                assert_eq!(&read(Bytes(&out)).unwrap(), row);
                for end in 0..out.len() {
                    assert!(read(Bytes(&out[..end])).is_err(), "cut at {end}");
                }
            }
            (place, serial, last) = (row.place(), row.serial().unwrap_or(serial), Some(row));
        }
        page::tests::come_back(rows);
    }

    #[test]
    fn rows_lie_in_the_longest_runs_there_are() {
        assert_eq!(runs_among(7), []);
        assert_eq!(runs_among(8 + 7), [(0, 8)]);
        assert_eq!(runs_among(32 + 16 + 8 + 1), [(0, 32), (32, 48), (48, 56)]);
    }
}
