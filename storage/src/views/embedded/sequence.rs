//! A shard's rows of one kind, in the order in which they happened: written once, side by side, and never moved.
//!
//! Rows are numbered from 0 within their shard and lie in **pages** of [`PAGE_BYTES`], each row as its difference to the one
//! before it. A page begins with a head that says what its first row differs from, so that a page can be read alone, and
//! time, place and serial are found by halving: there is no index for them.
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

pub(super) mod read;
mod runs;

/// Shard, number of the first row.
pub(super) type PageKey = (u16, u64);
/// Shard, number of the run's first row, first term, how many pieces of the run are before.
pub(super) type RunKey = (u16, u64, u32, u32);

pub(super) type PageTable = TableDefinition<'static, PageKey, &'static [u8]>;
pub(super) type RunTable = TableDefinition<'static, RunKey, &'static [u8]>;

/// What a page holds, unless one row alone is longer: with its key and redb's own, 4 KiB.
const PAGE_BYTES: usize = if cfg!(test) { 300 } else { 4_000 };
/// Rows of the shortest run.
const RUN_ROWS: u64 = if cfg!(test) { 8 } else { 512 };
/// Runs that become one.
const FAN_OUT: u64 = if cfg!(test) { 2 } else { 16 };
/// The longest run has 8,192 rows. The first page of a term that all rows have reads one run of each shard, about 0.1 ms each;
/// a term that few rows have is looked for in every run, 122 for a million rows of a shard.
const LEVELS: u32 = if cfg!(test) { 3 } else { 2 };

/// Where a row stands in its shard: time, and [`crate::views::gates::LogPosition::order`].
pub(super) type Place = (i64, u64);

/// A kind of rows.
pub(super) trait Row: Sized + Clone {
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
pub(super) struct Before<'r, R> {
    pub(super) place: Place,
    /// The last serial.
    pub(super) serial: u64,
    pub(super) row: Option<&'r R>,
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

/// How a page begins, little endian: place and serial that its first row differs from, and how many rows it has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Head {
    place: Place,
    serial: u64,
    count: u16,
}

impl Head {
    const BYTES: usize = 26;

    fn begin(self, page: &mut Vec<u8>) {
        page.clear();
        page.extend(self.place.0.to_le_bytes());
        page.extend(self.place.1.to_le_bytes());
        page.extend(self.serial.to_le_bytes());
        page.extend(self.count.to_le_bytes());
    }

    fn read(bytes: &mut Bytes<'_>) -> Result<Self, ViewsError> {
        let place = (i64::from_le_bytes(bytes.array()?), u64::from_le_bytes(bytes.array()?));
        let (serial, count) = (u64::from_le_bytes(bytes.array()?), u16::from_le_bytes(bytes.array()?));
        Ok(Self { place, serial, count })
    }
}

/// A page's rows, and the last serial in it.
fn read_page<R: Row>(shard: ShardId, bytes: &[u8]) -> Result<(Vec<R>, u64), ViewsError> {
    let mut bytes = Bytes(bytes);
    let Head { place, mut serial, count } = Head::read(&mut bytes)?;
    let mut rows: Vec<R> = Vec::with_capacity(count.into());
    for _ in 0..count {
        let row = rows.last();
        let before = Before { place: row.map_or(place, R::place), serial, row };
        let row = R::read(shard, &before, &mut bytes)?;
        serial = row.serial().unwrap_or(serial);
        rows.push(row);
    }
    if bytes.is_empty() {
        Ok((rows, serial))
    } else {
        Err(ViewsError::Damaged("a page with more than its rows".into()))
    }
}

/// The page that a shard's next row goes into.
struct Tail<R> {
    first: u64,
    bytes: Vec<u8>,
    head: Head,
    serial: u64,
    last: Option<R>,
}

impl<R: Row> Tail<R> {
    fn of(pages: &Table<'_, PageKey>, shard: ShardId) -> Result<Self, ViewsError> {
        let last = attempt("read", || {
            let last = pages.range((shard.0, 0)..=(shard.0, u64::MAX))?.next_back().transpose()?;
            Ok(last.map(|(key, bytes)| (key.value().1, bytes.value().to_vec())))
        })?;
        let Some((first, bytes)) = last else {
            let head = Head { place: (i64::MIN, 0), serial: 0, count: 0 };
            return Ok(Self { first: 0, bytes: Vec::new(), head, serial: 0, last: None });
        };
        let head = Head::read(&mut Bytes(&bytes))?;
        let (mut rows, serial) = read_page(shard, &bytes)?;
        Ok(Self { first, bytes, head, serial, last: rows.pop() })
    }

    fn rows(&self) -> u64 {
        self.first + u64::from(self.head.count)
    }

    fn put(&mut self, pages: &mut Table<'_, PageKey>, shard: ShardId) -> Result<(), ViewsError> {
        self.bytes[Head::BYTES - 2..Head::BYTES].copy_from_slice(&self.head.count.to_le_bytes());
        attempt("write", || Ok(pages.insert((shard.0, self.first), self.bytes.as_slice()).map(drop)?))
    }
}

/// Writes a shard's next rows.
///
/// # Errors
/// [`ViewsError::Misfit`] if one is not behind those that are there.
pub(super) fn append<R: Row>(txn: &WriteTransaction, shard: ShardId, rows: &[&R]) -> Result<(), ViewsError> {
    let mut pages = txn.open_table(R::PAGES).map_err(|why| fault("write", why.into()))?;
    let mut tail = Tail::<R>::of(&pages, shard)?;
    let known = tail.rows();
    let first = tail.last.take();
    let (mut last, mut scratch) = (first.as_ref(), Vec::new());
    for &row in rows {
        let place = row.place();
        if last.is_some_and(|last| last.place() >= place) {
            return Err(ViewsError::Misfit(format!(
                "shard {}, record {} out of order",
                shard.0,
                place.1 >> INDEX_BITS
            )));
        }
        scratch.clear();
        let before = Before { place: last.map_or(tail.head.place, R::place), serial: tail.serial, row: last };
        row.write(&before, &mut scratch);
        let is_full = tail.bytes.len() + scratch.len() > PAGE_BYTES || tail.head.count == u16::MAX;
        if tail.head.count == 0 || is_full {
            if tail.head.count > 0 {
                tail.put(&mut pages, shard)?;
            }
            tail.first = tail.rows();
            tail.head = Head { place, serial: tail.serial, count: 0 };
            tail.head.begin(&mut tail.bytes);
            row.write(&Before { place, serial: tail.serial, row: None }, &mut tail.bytes);
        } else {
            tail.bytes.extend_from_slice(&scratch);
        }
        tail.head.count += 1;
        tail.serial = row.serial().unwrap_or(tail.serial);
        last = Some(row);
    }
    if !rows.is_empty() {
        tail.put(&mut pages, shard)?;
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
    }

    #[test]
    fn rows_lie_in_the_longest_runs_there_are() {
        assert_eq!(runs_among(7), []);
        assert_eq!(runs_among(8 + 7), [(0, 8)]);
        assert_eq!(runs_among(32 + 16 + 8 + 1), [(0, 32), (32, 48), (48, 56)]);
    }
}
