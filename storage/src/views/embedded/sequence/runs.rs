//! Runs: which rows have a term, for a stretch of rows, sorted by term. A run lies in pieces (`piece.rs`).

use std::collections::VecDeque;
use std::ops::Range;

use engine::model::ids::ShardId;
use redb::{AccessGuard, ReadableTable};

use super::page::Reading;
use super::piece::{self, GROUP_ROWS, Group, Piece, Posted, posted, term_of};
use super::{FAN_OUT, LEVELS, PageKey, RUN_ROWS, Row, RunKey};
use crate::views::embedded::{Table, attempt};
use crate::views::{ViewsError, wanted};

const _: () = assert!(RUN_ROWS * FAN_OUT.pow(LEVELS - 1) <= 1 << 24, "a row's number fits into its 24 bits");

/// Writes the run whose rows are complete now; those that become one with it are gone afterwards.
pub(super) fn write<R: Row>(
    pages: &Table<'_, PageKey>,
    runs: &mut Table<'_, RunKey>,
    shard: ShardId,
    run: u64,
) -> Result<(), ViewsError> {
    let (from, until) = (run * RUN_ROWS, (run + 1) * RUN_ROWS);
    let lens = (0..LEVELS).map(|level| RUN_ROWS * FAN_OUT.pow(level));
    let len = lens.filter(|len| until % len == 0).max().unwrap_or(RUN_ROWS);
    let start = until - len;
    let mut all: Vec<Posted> = Vec::new();
    if start < from {
        let before = (shard.0, start, 0, 0)..(shard.0, from, 0, 0);
        attempt("read", || Ok(runs.range(before.clone())?.collect::<Result<Vec<_>, _>>()?))?.into_iter().try_for_each(
            |(key, piece)| {
                let (_, of, first, _) = key.value();
                piece::each(first, piece.value(), |term, class, row| all.push(posted(term, class, of - start + row)))
            },
        )?;
        attempt("write", || Ok(runs.retain_in(before, |_, _| false)?))?;
    }
    for_each_row::<R>(pages, shard, from, until, |number, row| {
        row.terms(&mut |term| all.push(posted(term, row.class(), number - start)));
    })?;
    // Finds the runs that are sorted already.
    all.sort();
    let (mut piece, mut pieces) = (Piece::default(), 0);
    let mut put = |piece: &mut Piece| {
        let key = (shard.0, start, piece.first, pieces);
        pieces += 1;
        attempt("write", || Ok(runs.insert(key, piece.take().as_slice()).map(drop)?))
    };
    let of_one = |left: &Posted, right: &Posted| term_of(*left) == term_of(*right);
    for rows in all.chunk_by(of_one).flat_map(|rows| rows.chunks(GROUP_ROWS)) {
        if !piece.add(rows) {
            put(&mut piece)?;
            piece.add(rows);
        }
    }
    if piece.is_empty() { Ok(()) } else { put(&mut piece) }
}

/// Rows that are stored, each with its number.
fn for_each_row<R: Row>(
    pages: &Table<'_, PageKey>,
    shard: ShardId,
    from: u64,
    until: u64,
    mut each: impl FnMut(u64, &R),
) -> Result<(), ViewsError> {
    let first = attempt("read", || {
        let page = pages.range((shard.0, 0)..=(shard.0, from))?.next_back().transpose()?;
        Ok(page.map_or(from, |(key, _)| key.value().1))
    })?;
    let stored = attempt("read", || Ok(pages.range((shard.0, first)..(shard.0, until))?))?;
    for page in stored {
        let (key, bytes) = attempt("read", || Ok(page?))?;
        let (first, page) = (key.value().1, bytes.value());
        let mut reading = Reading::<R>::begin(shard, page)?;
        for (index, number) in (0..reading.count()).zip(first..until).filter(|(_, number)| *number >= from) {
            each(number, reading.row(page, index)?);
        }
    }
    Ok(())
}

/// A piece and its first term.
type Stored<'r> = (u32, AccessGuard<'r, &'static [u8]>);
type Entry<'r> = (AccessGuard<'r, RunKey>, AccessGuard<'r, &'static [u8]>);

fn stored<'r>(entry: Option<Result<Entry<'r>, redb::StorageError>>) -> Result<Option<Stored<'r>>, ViewsError> {
    let entry = attempt("read", || Ok(entry.transpose()?))?;
    Ok(entry.map(|(key, piece)| (key.value().2, piece)))
}

/// The rows of a run that have a term, group by group in one direction.
pub(super) struct Found<'r> {
    start: u64,
    term: u32,
    /// Only rows among these.
    within: Range<u64>,
    backwards: bool,
    /// Pieces to come: one, and after it the others.
    next: Option<Stored<'r>>,
    others: Option<redb::Range<'r, RunKey, &'static [u8]>>,
    /// The piece that is being read, and its groups to come.
    piece: Option<AccessGuard<'r, &'static [u8]>>,
    groups: VecDeque<Group>,
}

impl<'r> Found<'r> {
    pub(super) fn begin(
        runs: &'r impl ReadableTable<RunKey, &'static [u8]>,
        (shard, start): (ShardId, u64),
        term: u32,
        within: Range<u64>,
        backwards: bool,
    ) -> Result<Self, ViewsError> {
        let key = |term, pieces| (shard.0, start, term, pieces);
        let mut others = attempt("read", || Ok(runs.range(key(0, 0)..=key(term, u32::MAX))?))?;
        let mut next = stored(others.next_back())?;
        // A term may begin within the piece before the first that begins with it; mostly it lies in that one alone.
        let alone = next.as_ref().is_none_or(|(first, _)| *first < term);
        if !alone && !backwards {
            next = stored(attempt("read", || Ok(runs.range(key(0, 0)..key(term, 0))?))?.next_back())?;
            others = attempt("read", || Ok(runs.range(key(term, 0)..=key(term, u32::MAX))?))?;
        }
        let others = Some(others).filter(|_| !alone);
        Ok(Self { start, term, within, backwards, next, others, piece: None, groups: VecDeque::new() })
    }

    /// Adds the numbers of the next group, ascending; `false` if there is none.
    pub(super) fn next(&mut self, fits: impl Fn(u8) -> bool, rows: &mut VecDeque<u64>) -> Result<bool, ViewsError> {
        loop {
            let group = if self.backwards { self.groups.pop_back() } else { self.groups.pop_front() };
            if let (Some(group), Some(piece)) = (group, &self.piece) {
                group.each(piece.value(), |row, class| {
                    let number = self.start + row;
                    rows.extend(Some(number).filter(|number| fits(class) && self.within.contains(number)));
                })?;
                return Ok(true);
            }
            if !self.next_piece(&fits)? {
                return Ok(false);
            }
        }
    }

    fn next_piece(&mut self, fits: impl Fn(u8) -> bool) -> Result<bool, ViewsError> {
        wanted::still()?;
        let mut next = self.next.take();
        if next.is_none()
            && let Some(others) = &mut self.others
        {
            next = stored(if self.backwards { others.next_back() } else { others.next() })?;
        }
        let Some((first, piece)) = next else { return Ok(false) };
        if self.backwards && first < self.term {
            self.others = None;
        }
        piece::groups_of((first, piece.value()), self.term, fits, &mut self.groups)?;
        // A group ends before the next one begins.
        let (from, until) = (self.within.start.saturating_sub(self.start), self.within.end - self.start);
        while self.groups.get(1).is_some_and(|group| group.row <= from) {
            self.groups.pop_front();
        }
        while self.groups.back().is_some_and(|group| group.row >= until) {
            self.groups.pop_back();
        }
        self.piece = Some(piece);
        Ok(true)
    }
}
