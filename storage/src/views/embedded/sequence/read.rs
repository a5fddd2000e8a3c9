//! Reading sequences: by serial, and the rows of a term from one place to another, over one shard or many.

use std::collections::VecDeque;

use engine::model::ids::ShardId;
use redb::{AccessGuard, ReadableTable};

use super::page::{Head, Reading};
use super::runs::Found;
use super::{PageKey, Place, Row, RunKey, runs_among};
use crate::views::embedded::attempt;
use crate::views::{ViewsError, wanted};

/// The number of a page's first row, and the page.
type Stored<'t> = (u64, AccessGuard<'t, &'static [u8]>);

/// A shard's pages.
pub(in crate::views::embedded) struct Pages<'t, T> {
    table: &'t T,
    shard: ShardId,
}

impl<'t, T: ReadableTable<PageKey, &'static [u8]>> Pages<'t, T> {
    pub(in crate::views::embedded) fn of(table: &'t T, shard: ShardId) -> Self {
        Self { table, shard }
    }

    /// The page with a row.
    fn with(&self, number: u64) -> Result<Option<Stored<'t>>, ViewsError> {
        let page = attempt("read", || {
            Ok(self.table.range((self.shard.0, 0)..=(self.shard.0, number))?.next_back().transpose()?)
        })?;
        Ok(page.map(|(key, page)| (key.value().1, page)))
    }

    /// How many rows there are.
    fn rows(&self) -> Result<u64, ViewsError> {
        let last = self.with(u64::MAX)?;
        last.map_or(Ok(0), |(first, page)| Ok(first + u64::from(Head::read(page.value())?.count)))
    }

    /// Pages whose heads are `early` come first. The last of them; and the number of the first row of all that are not.
    fn halve(&self, rows: u64, early: impl Fn(&Head) -> bool) -> Result<(Option<Stored<'t>>, u64), ViewsError> {
        let (mut last, mut low, mut high) = (None, 0, rows);
        while low < high {
            let Some((first, page)) = self.with(low.midpoint(high))? else { break };
            let head = Head::read(page.value())?;
            if early(&head) {
                low = first + u64::from(head.count).max(1);
                last = Some((first, page));
            } else {
                high = first;
            }
        }
        Ok((last, low))
    }

    /// The numbers of a row before which all are `early`, as near as pages say without being read whole; and of one behind
    /// which none is.
    fn edge<R: Row>(&self, rows: u64, early: impl Fn(Place) -> bool) -> Result<(u64, u64), ViewsError> {
        let (page, next) = self.halve(rows, |head| early(head.place))?;
        let Some((first, page)) = page else { return Ok((0, next)) };
        let (last, end) = Reading::<R>::begin(self.shard, page.value())?.halve(page.value(), early)?;
        Ok((first + last as u64, first + end as u64))
    }

    /// The row with this serial.
    pub(in crate::views::embedded) fn by_serial<R: Row>(&self, serial: u64) -> Result<Option<R>, ViewsError> {
        let (page, _) = self.halve(self.rows()?, |head| head.serial < serial)?;
        let Some((_, page)) = page else { return Ok(None) };
        let mut reading = Reading::<R>::begin(self.shard, page.value())?;
        for index in 0..reading.count() {
            let row = reading.row(page.value(), index)?;
            if row.serial() == Some(serial) {
                return Ok(Some(row.clone()));
            }
        }
        Ok(None)
    }
}

/// Which rows.
pub(in crate::views::embedded) struct RowFilter<'w, R> {
    pub(in crate::views::embedded) term: u32,
    /// Which classes.
    pub(in crate::views::embedded) class: &'w dyn Fn(u8) -> bool,
    /// Whether it is one: other things may have the same term.
    pub(in crate::views::embedded) is_one: &'w dyn Fn(&R) -> bool,
    pub(in crate::views::embedded) backwards: bool,
}

/// A shard's wanted rows from one place until before another, one after the other.
pub(in crate::views::embedded) struct Walk<'w, R, P, Q> {
    wanted: &'w RowFilter<'w, R>,
    pages: Pages<'w, P>,
    runs: &'w Q,
    from: Place,
    until: Place,
    /// Stretches of rows that are still to be looked at, and whether they are runs.
    stretches: VecDeque<(u64, u64, bool)>,
    /// Where to look.
    low: u64,
    high: u64,
    /// The run that is being looked at, and rows of it, or of a stretch that is none, that may be wanted.
    run: Option<Found<'w>>,
    numbers: VecDeque<u64>,
    page: Option<(Stored<'w>, Reading<R>)>,
}

impl<'w, R, P, Q> Walk<'w, R, P, Q>
where
    R: Row,
    P: ReadableTable<PageKey, &'static [u8]>,
    Q: ReadableTable<RunKey, &'static [u8]>,
{
    pub(in crate::views::embedded) fn begin(
        wanted: &'w RowFilter<'w, R>,
        (pages, runs): (&'w P, &'w Q),
        shard: ShardId,
        from: Place,
        until: Place,
    ) -> Result<Self, ViewsError> {
        let pages = Pages::of(pages, shard);
        let rows = if from < until { pages.rows()? } else { 0 };
        let low = if from.0 == i64::MIN { 0 } else { pages.edge::<R>(rows, |place| place <= from)?.0 };
        let high = if until.0 == i64::MAX { rows } else { pages.edge::<R>(rows, |place| place < until)?.1 };
        let mut stretches: VecDeque<_> =
            runs_among(rows).into_iter().map(|(from, until)| (from, until, true)).collect();
        stretches.push_back((stretches.back().map_or(0, |(_, until, _)| *until), rows, false));
        stretches.retain(|(from, until, _)| *from < high && *until > low);
        let (run, numbers, page) = (None, VecDeque::new(), None);
        Ok(Self { wanted, pages, runs, from, until, stretches, low, high, run, numbers, page })
    }

    /// The next one.
    pub(in crate::views::embedded) fn next(&mut self) -> Result<Option<R>, ViewsError> {
        let Self { wanted: RowFilter { backwards, class, is_one, .. }, from, until, .. } = *self;
        loop {
            wanted::still()?;
            let next = if *backwards { self.numbers.pop_back() } else { self.numbers.pop_front() };
            let Some(number) = next else {
                if !self.more()? {
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

    /// Finds more rows that may be wanted.
    fn more(&mut self) -> Result<bool, ViewsError> {
        if let Some(run) = &mut self.run {
            if run.next(self.wanted.class, &mut self.numbers)? {
                return Ok(true);
            }
            self.run = None;
        }
        let backwards = self.wanted.backwards;
        let next = if backwards { self.stretches.pop_back() } else { self.stretches.pop_front() };
        let Some((from, until, is_run)) = next else { return Ok(false) };
        let within = self.low.max(from)..self.high.min(until);
        if is_run {
            let run = (self.pages.shard, from);
            self.run = Some(Found::begin(self.runs, run, self.wanted.term, within, backwards)?);
        } else {
            self.numbers.extend(within);
        }
        Ok(true)
    }

    fn row(&mut self, number: u64) -> Result<&R, ViewsError> {
        let here = |page: &(Stored<'_>, Reading<R>)| {
            let ((first, _), reading) = page;
            (*first..*first + reading.count() as u64).contains(&number)
        };
        if !self.page.as_ref().is_some_and(here) {
            let page = self.pages.with(number)?.ok_or_else(missing)?;
            let reading = Reading::begin(self.pages.shard, page.1.value())?;
            self.page = Some((page, reading));
        }
        let ((first, page), reading) = self.page.as_mut().ok_or_else(missing)?;
        reading.row(page.value(), (number - *first) as usize)
    }
}

fn missing() -> ViewsError {
    ViewsError::Damaged("a row is missing".into())
}
