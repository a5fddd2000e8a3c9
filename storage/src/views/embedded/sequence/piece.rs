//! A piece of a run: groups of rows that have one term, sorted by term and then by row, and marks from which reading may
//! begin.
//!
//! | part of a piece | bytes |
//! |---|---|
//! | groups | |
//! | marks, one at each [`MARK_BYTES`]: a group's term and where it begins | 4 + 2 each, little endian |
//! | how many marks | 1 |
//!
//! | part of a group | bytes |
//! |---|---|
//! | term, as what it adds to the group's before it; the first's is in the key | varint |
//! | how many rows · 16 + the first row's class | varint |
//! | of [`LONG_ROWS`] rows and more: how many bytes follow the first row's number, and the classes in it, as bits | 2 varints |
//! | the first row's number, from the run's beginning | varint |
//! | each other's: from the one before · 2, + 1 and a class in a byte of its own if that differs | varint, 1 |

use std::collections::VecDeque;

use crate::views::ViewsError;
use crate::views::embedded::layout::varint::{Bytes, put};

const PIECE_BYTES: usize = if cfg!(test) { 100 } else { 4_000 };
/// Rows of one group at most: what is decoded at once.
pub(super) const GROUP_ROWS: usize = if cfg!(test) { 10 } else { 128 };
/// From so many rows on a group says how long it is, so that others pass over it.
const LONG_ROWS: u64 = 8;
/// What is passed over on the way from a mark to a group.
const MARK_BYTES: usize = if cfg!(test) { 20 } else { 250 };

const _: () = assert!(PIECE_BYTES <= u16::MAX as usize, "where a mark points fits into two bytes");
const _: () = assert!(PIECE_BYTES / MARK_BYTES < 256, "how many marks there are fits into one byte");

/// A row with a term: term, the row's number from the run's beginning in 24 bits, class in 8. Sorted as a number.
pub(super) type Posted = u64;

pub(super) fn posted(term: u32, class: u8, row: u64) -> Posted {
    u64::from(term) << 32 | row << 8 | u64::from(class)
}

pub(super) fn term_of(posted: Posted) -> u32 {
    (posted >> 32) as u32
}

fn row_of(posted: Posted) -> u64 {
    posted >> 8 & 0xFF_FFFF
}

fn class_of(posted: Posted) -> u8 {
    posted as u8
}

/// A piece that is being written.
#[derive(Default)]
pub(super) struct Piece {
    /// Its first term.
    pub(super) first: u32,
    last: u32,
    groups: Vec<u8>,
    marks: Vec<(u32, u16)>,
    scratch: Vec<u8>,
}

impl Piece {
    /// Adds a group, if there is room.
    pub(super) fn add(&mut self, rows: &[Posted]) -> bool {
        let (term, at) = (term_of(rows[0]), self.groups.len());
        let marked = self.marks.last().map_or(0, |(_, at)| usize::from(*at));
        let marks = at - marked >= MARK_BYTES;
        self.scratch.clear();
        put_group(&mut self.scratch, if at == 0 { 0 } else { term.wrapping_sub(self.last) }, rows);
        let all = at + self.scratch.len() + 6 * (self.marks.len() + usize::from(marks)) + 1;
        if at > 0 && all > PIECE_BYTES {
            return false;
        }
        if at == 0 {
            self.first = term;
        }
        if marks {
            self.marks.push((term, at as u16));
        }
        self.groups.extend_from_slice(&self.scratch);
        self.last = term;
        true
    }

    pub(super) fn is_empty(&self) -> bool {
        self.groups.is_empty()
    }

    /// The piece as it is stored, which is empty from then on.
    pub(super) fn take(&mut self) -> Vec<u8> {
        let mut piece = std::mem::take(&mut self.groups);
        for (term, at) in &self.marks {
            piece.extend(term.to_le_bytes());
            piece.extend(at.to_le_bytes());
        }
        piece.push(self.marks.len() as u8);
        self.marks.clear();
        piece
    }
}

fn put_group(out: &mut Vec<u8>, term: u32, rows: &[Posted]) {
    let mut class = class_of(rows[0]);
    let mut others = Vec::with_capacity(if rows.len() > 1 { rows.len() * 2 } else { 0 });
    for two in rows.windows(2) {
        let step = (row_of(two[1]) - row_of(two[0])) << 1;
        let differs = class_of(two[1]) != class;
        put(&mut others, step | u64::from(differs));
        if differs {
            class = class_of(two[1]);
            others.push(class);
        }
    }
    put(out, term.into());
    put(out, (rows.len() as u64) << 4 | u64::from(class_of(rows[0])));
    if rows.len() as u64 >= LONG_ROWS {
        put(out, others.len() as u64);
        put(out, rows.iter().fold(0, |classes, row| classes | 1 << class_of(*row)));
    }
    put(out, row_of(rows[0]));
    out.extend(others);
}

/// A group as its beginning says.
#[derive(Clone, Copy, Debug)]
pub(super) struct Group {
    term: u32,
    /// The first row and its class.
    pub(super) row: u64,
    class: u8,
    /// How many rows there are besides, and where they lie in the piece.
    others: u64,
    at: usize,
    end: usize,
}

impl Group {
    /// Its rows, each with its class.
    pub(super) fn each(&self, piece: &[u8], mut each: impl FnMut(u64, u8)) -> Result<(), ViewsError> {
        let mut bytes = Bytes(piece.get(self.at..self.end).ok_or_else(malformed)?);
        let (mut row, mut class) = (self.row, self.class);
        each(row, class);
        for _ in 0..self.others {
            (row, class) = next(&mut bytes, row, class)?;
            each(row, class);
        }
        if bytes.is_empty() { Ok(()) } else { Err(malformed()) }
    }
}

fn next(bytes: &mut Bytes<'_>, row: u64, class: u8) -> Result<(u64, u8), ViewsError> {
    let step = bytes.small::<u32>()?;
    let class = if step & 1 == 0 { class } else { bytes.byte()? };
    Ok((row + u64::from(step >> 1), class))
}

/// The groups of a piece from one whose term is known, one after the other.
struct Groups<'p> {
    /// The piece without its marks, and what of it is to come.
    all: &'p [u8],
    rest: Bytes<'p>,
    term: u32,
    begun: bool,
}

impl<'p> Groups<'p> {
    fn from(all: &'p [u8], at: usize, term: u32) -> Result<Self, ViewsError> {
        Ok(Self { all, rest: Bytes(all.get(at..).ok_or_else(malformed)?), term, begun: false })
    }

    fn at(&self) -> usize {
        self.all.len() - self.rest.0.len()
    }

    /// The next one, and whether it has a row whose class `fits`.
    fn next(&mut self, fits: impl Fn(u8) -> bool) -> Result<Option<(Group, bool)>, ViewsError> {
        if self.rest.is_empty() {
            return Ok(None);
        }
        let adds = self.rest.small()?;
        self.term = if self.begun { self.term.wrapping_add(adds) } else { self.term };
        self.begun = true;
        let rows = self.rest.varint()?;
        let (class, others) = ((rows & 0xF) as u8, (rows >> 4).checked_sub(1).ok_or_else(malformed)?);
        let long = if others + 1 >= LONG_ROWS { Some((self.rest.small()?, self.rest.varint()?)) } else { None };
        let row = u64::from(self.rest.small::<u32>()?);
        let (at, mut has) = (self.at(), fits(class));
        if let Some((len, classes)) = long {
            self.rest.take(len)?;
            has |= (0..16).any(|class| classes >> class & 1 == 1 && fits(class));
        } else {
            let mut last = (row, class);
            for _ in 0..others {
                last = next(&mut self.rest, last.0, last.1)?;
                has |= fits(last.1);
            }
        }
        Ok(Some((Group { term: self.term, row, class, others, at, end: self.at() }, has)))
    }
}

/// The part of a piece with groups, and its marks.
fn parts(piece: &[u8]) -> Result<(&[u8], &[[u8; 6]]), ViewsError> {
    let (count, rest) = piece.split_last().ok_or_else(malformed)?;
    let groups = rest.len().checked_sub(6 * usize::from(*count)).ok_or_else(malformed)?;
    let (groups, marks) = rest.split_at(groups);
    Ok((groups, marks.as_chunks().0))
}

fn mark(bytes: [u8; 6]) -> (u32, usize) {
    let [t0, t1, t2, t3, a0, a1] = bytes;
    (u32::from_le_bytes([t0, t1, t2, t3]), u16::from_le_bytes([a0, a1]).into())
}

/// A term's groups in a piece, but for those without a row whose class `fits`.
pub(super) fn groups_of(
    (first, piece): (u32, &[u8]),
    term: u32,
    fits: impl Fn(u8) -> bool,
    found: &mut VecDeque<Group>,
) -> Result<(), ViewsError> {
    let (all, marks) = parts(piece)?;
    // A term may begin before a mark that has it.
    let before = marks.partition_point(|bytes| mark(*bytes).0 < term);
    let (from, at) = before.checked_sub(1).map_or((first, 0), |last| mark(marks[last]));
    let mut groups = Groups::from(all, at, from)?;
    while let Some((group, has)) = groups.next(&fits)? {
        if group.term > term {
            break;
        }
        found.extend(Some(group).filter(|group| has && group.term == term));
    }
    Ok(())
}

/// All rows of a piece: term, class, number.
pub(super) fn each(first: u32, piece: &[u8], mut each: impl FnMut(u32, u8, u64)) -> Result<(), ViewsError> {
    let mut groups = Groups::from(parts(piece)?.0, 0, first)?;
    while let Some((group, _)) = groups.next(|_| true)? {
        group.each(piece, |row, class| each(group.term, class, row))?;
    }
    Ok(())
}

fn malformed() -> ViewsError {
    ViewsError::Damaged("a piece of a run whose groups are not its rows".into())
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn any_rows() -> impl Strategy<Value = Vec<Posted>> {
        let term = prop_oneof![Just(7_u32), Just(u32::MAX), 1..9_u32, any::<u32>()];
        let row = (term, 0..300_u64, prop_oneof![Just(1_u8), 0..16_u8]);
        prop::collection::btree_set(row, 1..400).prop_map(|rows| {
            let mut rows: Vec<_> = rows.into_iter().map(|(term, row, class)| posted(term, class, row)).collect();
            // A row has a term once.
            rows.dedup_by_key(|row| *row >> 8);
            rows
        })
    }

    /// Cut into groups and pieces as a run is.
    fn pieces(rows: &[Posted]) -> Vec<(u32, Vec<u8>)> {
        let (mut piece, mut pieces) = (Piece::default(), Vec::new());
        let of_one = |left: &Posted, right: &Posted| term_of(*left) == term_of(*right);
        for rows in rows.chunk_by(of_one).flat_map(|rows| rows.chunks(GROUP_ROWS)) {
            if !piece.add(rows) {
                pieces.push((piece.first, piece.take()));
                assert!(piece.add(rows), "there is room in an empty one");
            }
        }
        pieces.push((piece.first, piece.take()));
        pieces
    }

    fn found(pieces: &[(u32, Vec<u8>)], term: u32, fits: impl Fn(u8) -> bool) -> Result<Vec<Posted>, ViewsError> {
        let mut rows = Vec::new();
        for (first, piece) in pieces {
            let mut groups = VecDeque::new();
            groups_of((*first, piece), term, &fits, &mut groups)?;
            for group in groups {
                group.each(piece, |row, class| rows.extend(fits(class).then(|| posted(term, class, row))))?;
            }
        }
        Ok(rows)
    }

    proptest! {
        #[test]
        fn a_terms_rows_are_those_that_were_written(rows in any_rows(), other: u32, classes: u16) {
            let pieces = pieces(&rows);
            let fits = |class: u8| classes >> class & 1 == 1;
            for term in rows.iter().map(|row| term_of(*row)).chain([other]) {
                let expected: Vec<_> =
                    rows.iter().copied().filter(|row| term_of(*row) == term && fits(class_of(*row))).collect();
                prop_assert_eq!(found(&pieces, term, fits).unwrap(), expected);
            }
            let mut all = Vec::new();
            for (first, piece) in &pieces {
                prop_assert!(piece.len() <= PIECE_BYTES);
                each(*first, piece, |term, class, row| all.push(posted(term, class, row))).unwrap();
            }
            prop_assert_eq!(all, rows);
        }

        #[test]
        fn a_damaged_piece_says_so_or_has_other_rows(rows in any_rows(), bit: prop::sample::Index, len: prop::sample::Index) {
            let mut pieces = pieces(&rows);
            let piece = &mut pieces[0].1;
            let bit = bit.index(piece.len() * 8);
            piece[bit / 8] ^= 1 << (bit % 8);
            for cut in [false, true] {
                if cut {
                    let len = len.index(pieces[0].1.len());
                    pieces[0].1.truncate(len);
                }
                let (first, piece) = &pieces[0];
                for result in [found(&pieces, term_of(rows[0]), |_| true).map(drop), each(*first, piece, |_, _, _| {})] {
                    prop_assert!(matches!(result, Ok(()) | Err(ViewsError::Damaged(_))));
                }
            }
        }
    }
}
