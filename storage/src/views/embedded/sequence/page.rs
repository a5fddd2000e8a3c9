//! A page: its head, its rows, and where reading may begin.
//!
//! | part of a page | bytes |
//! |---|---|
//! | [`Head`] | 26, little endian |
//! | rows, each as its difference to the one before; the first of each stretch of [`STRETCH_ROWS`] as its difference to the page's first | |
//! | where each stretch but the first begins, from the page's beginning | 2 each, little endian |
//!
//! So a row in the middle costs the page's first and at most a stretch. Whoever asks for rows one after the other reads each
//! once.

use engine::model::ids::ShardId;

use super::{Before, Place, Row};
use crate::views::ViewsError;
use crate::views::embedded::layout::varint::Bytes;

/// What a page holds, unless one row alone is longer: with its key and redb's own, 4 KiB.
pub(super) const PAGE_BYTES: usize = if cfg!(test) { 300 } else { 4_000 };
/// Rows that are read to get at the last of them. A stretch costs some 6 B: at 8 rows, less than a byte a row.
const STRETCH_ROWS: usize = if cfg!(test) { 3 } else { 8 };

const _: () = assert!(PAGE_BYTES <= u16::MAX as usize, "where a stretch begins fits into two bytes");

/// How a page begins: place and serial that its first row differs from, and how many rows it has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Head {
    pub(super) place: Place,
    pub(super) serial: u64,
    pub(super) count: u16,
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

    pub(super) fn read(page: &[u8]) -> Result<Self, ViewsError> {
        let mut bytes = Bytes(page);
        let place = (i64::from_le_bytes(bytes.array()?), u64::from_le_bytes(bytes.array()?));
        let (serial, count) = (u64::from_le_bytes(bytes.array()?), u16::from_le_bytes(bytes.array()?));
        Ok(Self { place, serial, count })
    }

    fn stretches(self) -> usize {
        usize::from(self.count).div_ceil(STRETCH_ROWS)
    }
}

/// A row, and the last serial up to it.
type Known<R> = (R, u64);

/// How far a page has been read.
pub(super) struct Reading<R> {
    shard: ShardId,
    head: Head,
    /// The page's first row, once it was read.
    first: Option<Known<R>>,
    stretch: usize,
    /// Rows of the stretch so far, and the serial that the next one differs from.
    rows: Vec<R>,
    serial: u64,
    /// Where the stretch's next row begins, and where the stretch ends.
    at: usize,
    end: usize,
}

impl<R: Row> Reading<R> {
    /// Each later call is to be given the same `page`.
    pub(super) fn begin(shard: ShardId, page: &[u8]) -> Result<Self, ViewsError> {
        let head = Head::read(page)?;
        let (first, rows) = (None, Vec::with_capacity(STRETCH_ROWS.min(head.count.into())));
        let mut this = Self { shard, head, first, stretch: 0, rows, serial: 0, at: 0, end: 0 };
        this.go_to(page, 0)?;
        Ok(this)
    }

    pub(super) fn count(&self) -> usize {
        self.head.count.into()
    }

    /// The row with this number from the page's first.
    pub(super) fn row(&mut self, page: &[u8], index: usize) -> Result<&R, ViewsError> {
        if index >= self.count() {
            return Err(ViewsError::Damaged("a row is missing".into()));
        }
        let (stretch, index) = (index / STRETCH_ROWS, index % STRETCH_ROWS);
        if stretch != self.stretch {
            if self.first.is_none() {
                self.next(page)?;
            }
            self.go_to(page, stretch)?;
        }
        while self.rows.len() <= index {
            self.next(page)?;
        }
        Ok(&self.rows[index])
    }

    /// The number from the page's first of the last stretch's first row that is `early`, if early ones come first and the
    /// page's first is one; and of the first stretch's that is not.
    pub(super) fn halve(&mut self, page: &[u8], early: impl Fn(Place) -> bool) -> Result<(usize, usize), ViewsError> {
        let (mut last, mut end) = (0, self.head.stretches());
        while last + 1 < end {
            let middle = last.midpoint(end);
            if early(self.row(page, middle * STRETCH_ROWS)?.place()) { last = middle } else { end = middle }
        }
        Ok((last * STRETCH_ROWS, (end * STRETCH_ROWS).min(self.count())))
    }

    fn go_to(&mut self, page: &[u8], stretch: usize) -> Result<(), ViewsError> {
        (self.at, self.end) = self.bounds(page, stretch).ok_or_else(malformed)?;
        self.stretch = stretch;
        self.serial = self.first.as_ref().filter(|_| stretch > 0).map_or(self.head.serial, |(_, serial)| *serial);
        self.rows.clear();
        Ok(())
    }

    /// From where until where a stretch lies.
    fn bounds(&self, page: &[u8], stretch: usize) -> Option<(usize, usize)> {
        let others = self.head.stretches().saturating_sub(1);
        let rows = page.len().checked_sub(2 * others)?;
        let begins = |stretch: usize| match stretch {
            0 => Some(Head::BYTES),
            _ if stretch <= others => {
                let at = rows + 2 * (stretch - 1);
                Some(u16::from_le_bytes(page.get(at..at + 2)?.try_into().ok()?).into())
            }
            _ => Some(rows),
        };
        let (from, until) = (begins(stretch)?, begins(stretch + 1)?);
        (Head::BYTES <= from && from <= until && until <= rows).then_some((from, until))
    }

    fn next(&mut self, page: &[u8]) -> Result<(), ViewsError> {
        let first = self.first.as_ref().filter(|_| self.stretch > 0).map(|(row, _)| row);
        let row = self.rows.last().or(first);
        let before = Before { place: row.map_or(self.head.place, R::place), serial: self.serial, row };
        let mut bytes = Bytes(&page[self.at..self.end]);
        let row = R::read(self.shard, &before, &mut bytes)?;
        self.serial = row.serial().unwrap_or(self.serial);
        self.at = self.end - bytes.0.len();
        if self.first.is_none() {
            self.first = Some((row.clone(), self.serial));
        }
        self.rows.push(row);
        let ended = self.rows.len() == STRETCH_ROWS || self.stretch * STRETCH_ROWS + self.rows.len() == self.count();
        if ended == (self.at == self.end) { Ok(()) } else { Err(malformed()) }
    }
}

fn malformed() -> ViewsError {
    ViewsError::Damaged("a page whose stretches are not its rows".into())
}

/// The page that a shard's next row goes into, without where its stretches begin.
pub(super) struct Tail {
    /// The number of its first row.
    pub(super) number: u64,
    pub(super) head: Head,
    bytes: Vec<u8>,
    /// Where its stretches begin, but for the first.
    stretches: Vec<u16>,
    /// The last serial; and the ones that the next row differs from: of the page's first, and of the stretch so far.
    last_serial: u64,
    first_serial: u64,
    serial: u64,
}

/// The first and the last row of a page.
pub(super) type Ends<R> = Option<(R, R)>;

impl Tail {
    /// Of a shard that has no row.
    pub(super) fn empty() -> Self {
        let head = Head { place: (i64::MIN, 0), serial: 0, count: 0 };
        Self { number: 0, head, bytes: Vec::new(), stretches: Vec::new(), last_serial: 0, first_serial: 0, serial: 0 }
    }

    /// What was written, and the rows that the next one differs from.
    pub(super) fn read<R: Row>(shard: ShardId, number: u64, page: &[u8]) -> Result<(Self, Ends<R>), ViewsError> {
        let mut reading = Reading::<R>::begin(shard, page)?;
        let mut last_serial = reading.head.serial;
        for index in 0..reading.count() {
            last_serial = reading.row(page, index)?.serial().unwrap_or(last_serial);
        }
        let last = reading.rows.pop();
        let Some(((first, first_serial), last)) = reading.first.zip(last) else { return Err(malformed()) };
        let (head, others) = (reading.head, reading.head.stretches() - 1);
        let (rows, table) = page.split_at(page.len() - 2 * others);
        let stretches = table.as_chunks().0.iter().map(|at| u16::from_le_bytes(*at)).collect();
        let (bytes, serial) = (rows.to_vec(), reading.serial);
        Ok((Self { number, head, bytes, stretches, last_serial, first_serial, serial }, Some((first, last))))
    }

    /// The number of the next row.
    pub(super) fn rows(&self) -> u64 {
        self.number + u64::from(self.head.count)
    }

    /// Adds a row, if there is room; `ends` are the page's first and last.
    pub(super) fn add<'r, R: Row>(&mut self, ends: Option<(&'r R, &'r R)>, row: &'r R, scratch: &mut Vec<u8>) -> bool {
        let Some((first, last)) = ends.filter(|_| self.head.count < u16::MAX) else { return false };
        let begins = usize::from(self.head.count).is_multiple_of(STRETCH_ROWS);
        let (before, serial) = if begins { (first, self.first_serial) } else { (last, self.serial) };
        scratch.clear();
        row.write(&Before { place: before.place(), serial, row: Some(before) }, scratch);
        let stretches = self.stretches.len() + usize::from(begins);
        if self.bytes.len() + scratch.len() + 2 * stretches > PAGE_BYTES {
            return false;
        }
        if begins {
            self.stretches.push(self.bytes.len() as u16);
        }
        self.bytes.extend_from_slice(scratch);
        self.head.count += 1;
        self.serial = row.serial().unwrap_or(serial);
        self.last_serial = row.serial().unwrap_or(self.last_serial);
        true
    }

    /// Begins the page behind this one with a row.
    pub(super) fn begin<R: Row>(&mut self, row: &R) {
        self.number = self.rows();
        self.head = Head { place: row.place(), serial: self.last_serial, count: 1 };
        self.head.begin(&mut self.bytes);
        self.stretches.clear();
        row.write(&Before { place: self.head.place, serial: self.last_serial, row: None }, &mut self.bytes);
        self.last_serial = row.serial().unwrap_or(self.last_serial);
        (self.first_serial, self.serial) = (self.last_serial, self.last_serial);
    }

    /// The page as it is stored.
    pub(super) fn page(&mut self, out: &mut Vec<u8>) {
        self.bytes[Head::BYTES - 2..Head::BYTES].copy_from_slice(&self.head.count.to_le_bytes());
        out.clear();
        out.extend_from_slice(&self.bytes);
        self.stretches.iter().for_each(|at| out.extend(at.to_le_bytes()));
    }
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;

    /// Rows that are written into one page are read back in whatever order they are asked for. Wherever the page is cut or
    /// a bit of it is turned, it says that it is damaged or gives other rows, and never panics.
    pub(in crate::views::embedded::sequence) fn come_back<R: Row + PartialEq + std::fmt::Debug>(rows: &[R]) {
        let (mut tail, mut scratch, mut page) = (Tail::empty(), Vec::new(), Vec::new());
        tail.begin(&rows[0]);
        let mut count = 1;
        while count < rows.len() && tail.add(Some((&rows[0], &rows[count - 1])), &rows[count], &mut scratch) {
            count += 1;
        }
        tail.page(&mut page);
        let mut reading = Reading::<R>::begin(ShardId(3), &page).unwrap();
        assert_eq!(reading.count(), count);
        for index in (0..count).chain((0..count).rev()).chain((0..count).map(|n| n * 5 % count)) {
            assert_eq!(reading.row(&page, index).unwrap(), &rows[index]);
        }
        assert!(reading.row(&page, count).is_err());
        let (again, ends) = Tail::read::<R>(ShardId(3), 0, &page).unwrap();
        assert_eq!(ends, Some((rows[0].clone(), rows[count - 1].clone())));
        assert_eq!((&again.bytes, &again.stretches, again.head), (&tail.bytes, &tail.stretches, tail.head));
        let serials = |tail: &Tail| (tail.last_serial, tail.first_serial, tail.serial);
        assert_eq!(serials(&again), serials(&tail));

        let all = |page: &[u8]| {
            let mut reading = Reading::<R>::begin(ShardId(3), page)?;
            (0..reading.count()).try_for_each(|index| reading.row(page, index).map(drop))
        };
        for len in 0..page.len() {
            assert!(matches!(all(&page[..len]), Err(ViewsError::Damaged(_))), "cut at {len}");
        }
        for at in 0..page.len() * 8 {
            let mut page = page.clone();
            page[at / 8] ^= 1 << (at % 8);
            assert!(matches!(all(&page), Ok(()) | Err(ViewsError::Damaged(_))), "bit {at}");
        }
    }
}
