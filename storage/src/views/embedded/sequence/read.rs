//! Reading sequences: by serial, and the rows of a term from one place to another, over one shard or many.

use std::collections::VecDeque;

use engine::model::ids::ShardId;
use redb::ReadableTable;

use super::{Head, PageKey, Place, Row, RunKey, read_page, runs, runs_among};
use crate::views::embedded::attempt;
use crate::views::embedded::layout::varint::Bytes;
use crate::views::{ViewsError, wanted};

/// A shard's pages.
pub(in crate::views::embedded) struct Pages<'t, T> {
    table: &'t T,
    shard: ShardId,
}

impl<'t, T: ReadableTable<PageKey, &'static [u8]>> Pages<'t, T> {
    pub(in crate::views::embedded) fn of(table: &'t T, shard: ShardId) -> Self {
        Self { table, shard }
    }

    /// The page with a row: the number of its first, and what `read` makes of it.
    fn with<V>(
        &self,
        number: u64,
        read: impl FnOnce(&[u8]) -> Result<V, ViewsError>,
    ) -> Result<Option<(u64, V)>, ViewsError> {
        let page = attempt("read", || {
            Ok(self.table.range((self.shard.0, 0)..=(self.shard.0, number))?.next_back().transpose()?)
        })?;
        page.map(|(key, bytes)| Ok((key.value().1, read(bytes.value())?))).transpose()
    }

    fn head(&self, number: u64) -> Result<Option<(u64, Head)>, ViewsError> {
        self.with(number, |bytes| Head::read(&mut Bytes(bytes)))
    }

    /// How many rows there are.
    fn rows(&self) -> Result<u64, ViewsError> {
        Ok(self.head(u64::MAX)?.map_or(0, |(first, head)| first + u64::from(head.count)))
    }

    /// Pages whose heads are `early` come first. The first row of the last of them, 0 if there is none; and the first of
    /// all that are not.
    fn halve(&self, rows: u64, early: impl Fn(&Head) -> bool) -> Result<(u64, u64), ViewsError> {
        let (mut last, mut low, mut high) = (0, 0, rows);
        while low < high {
            let Some((first, head)) = self.head(low.midpoint(high))? else { break };
            if early(&head) {
                (last, low) = (first, first + u64::from(head.count).max(1));
            } else {
                high = first;
            }
        }
        Ok((last, low))
    }

    /// The row with this serial.
    pub(in crate::views::embedded) fn by_serial<R: Row>(&self, serial: u64) -> Result<Option<R>, ViewsError> {
        let (page, _) = self.halve(self.rows()?, |head| head.serial < serial)?;
        let Some((_, (rows, _))) = self.with(page, |bytes| read_page::<R>(self.shard, bytes))? else { return Ok(None) };
        Ok(rows.into_iter().find(|row| row.serial() == Some(serial)))
    }
}

/// Which rows.
pub(in crate::views::embedded) struct Wanted<'w, R> {
    pub(in crate::views::embedded) term: u32,
    /// Which classes.
    pub(in crate::views::embedded) class: &'w dyn Fn(u8) -> bool,
    /// Whether it is one: other things may have the same term.
    pub(in crate::views::embedded) is_one: &'w dyn Fn(&R) -> bool,
    pub(in crate::views::embedded) backwards: bool,
}

/// A shard's wanted rows from one place until before another, one after the other.
pub(in crate::views::embedded) struct Walk<'w, R, P, Q> {
    wanted: &'w Wanted<'w, R>,
    pages: Pages<'w, P>,
    runs: &'w Q,
    from: Place,
    until: Place,
    /// Stretches of rows that are still to be looked at, and whether they are runs.
    stretches: VecDeque<(u64, u64, bool)>,
    /// Where to look.
    low: u64,
    high: u64,
    /// Rows of the stretch before that may be wanted.
    numbers: VecDeque<u64>,
    page: (u64, Vec<R>),
}

impl<'w, R, P, Q> Walk<'w, R, P, Q>
where
    R: Row,
    P: ReadableTable<PageKey, &'static [u8]>,
    Q: ReadableTable<RunKey, &'static [u8]>,
{
    pub(in crate::views::embedded) fn begin(
        wanted: &'w Wanted<'w, R>,
        (pages, runs): (&'w P, &'w Q),
        shard: ShardId,
        from: Place,
        until: Place,
    ) -> Result<Self, ViewsError> {
        let pages = Pages::of(pages, shard);
        let rows = if from < until { pages.rows()? } else { 0 };
        let low = if from.0 == i64::MIN { 0 } else { pages.halve(rows, |head| head.place <= from)?.0 };
        let high = if until.0 == i64::MAX { rows } else { pages.halve(rows, |head| head.place < until)?.1 };
        let mut stretches: VecDeque<_> =
            runs_among(rows).into_iter().map(|(from, until)| (from, until, true)).collect();
        stretches.push_back((stretches.back().map_or(0, |(_, until, _)| *until), rows, false));
        stretches.retain(|(from, until, _)| *from < high && *until > low);
        let page = (0, Vec::new());
        Ok(Self { wanted, pages, runs, from, until, stretches, low, high, numbers: VecDeque::new(), page })
    }

    /// The next one.
    pub(in crate::views::embedded) fn next(&mut self) -> Result<Option<R>, ViewsError> {
        let Self { wanted: Wanted { backwards, class, is_one, .. }, from, until, .. } = *self;
        loop {
            wanted::still()?;
            let next = if *backwards { self.numbers.pop_back() } else { self.numbers.pop_front() };
            let Some(number) = next else {
                if !self.next_stretch()? {
                    return Ok(None);
                }
                continue;
            };
            let row = self.row(number)?;
            let place = row.place();
            let (too_early, too_late) = (place < from, place >= until);
            if if *backwards { too_early } else { too_late } {
                return Ok(None);
            }
            if !too_early && !too_late && class(row.class()) && is_one(row) {
                return Ok(Some(row.clone()));
            }
        }
    }

    fn next_stretch(&mut self) -> Result<bool, ViewsError> {
        let next = if self.wanted.backwards { self.stretches.pop_back() } else { self.stretches.pop_front() };
        let Some((from, until, is_run)) = next else { return Ok(false) };
        let within = self.low.max(from)..self.high.min(until);
        if is_run {
            let found = runs::find(self.runs, self.pages.shard, from, self.wanted.term, self.wanted.class)?;
            self.numbers.extend(found.into_iter().filter(|number| within.contains(number)));
        } else {
            self.numbers.extend(within);
        }
        Ok(true)
    }

    fn row(&mut self, number: u64) -> Result<&R, ViewsError> {
        let (first, rows) = &self.page;
        if !(*first..*first + rows.len() as u64).contains(&number) {
            let shard = self.pages.shard;
            let page = self.pages.with(number, |bytes| Ok(read_page::<R>(shard, bytes)?.0))?;
            self.page = page.ok_or_else(missing)?;
        }
        let (first, rows) = &self.page;
        rows.get((number - first) as usize).ok_or_else(missing)
    }
}

fn missing() -> ViewsError {
    ViewsError::Damaged("a row is missing".into())
}
