//! Runs: which rows have a term, for a stretch of rows, sorted by term. A run lies in pieces of [`PIECE_BYTES`]; a piece is
//! groups of one term and class each:
//!
//! | part of a group | bytes |
//! |---|---|
//! | term, as what it adds to the group's before it; the first's is in the key | varint |
//! | how many rows · 16 + class | varint |
//! | the rows' numbers, the first from the run's beginning, each other from the one before | varints |

use engine::model::ids::ShardId;
use redb::ReadableTable;

use super::{FAN_OUT, LEVELS, PageKey, RUN_ROWS, Row, RunKey, read_page};
use crate::views::embedded::layout::varint::{Bytes, put};
use crate::views::embedded::{Table, attempt};
use crate::views::{ViewsError, wanted};

const PIECE_BYTES: usize = if cfg!(test) { 100 } else { 4_000 };
/// Rows of one group at most, so that pieces become nearly full.
const GROUP_ROWS: usize = 256;

/// A row with a term: term, class in 8 bits, the row's number from the run's beginning in 24. Sorted as a number.
type Posted = u64;

const _: () = assert!(RUN_ROWS * FAN_OUT.pow(LEVELS - 1) <= 1 << 24, "a row's number fits into its 24 bits");

fn posted(term: u32, class: u8, row: u64) -> Posted {
    u64::from(term) << 32 | u64::from(class) << 24 | row
}

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
                read_piece(first, piece.value(), |term, class, row| all.push(posted(term, class, of - start + row)))
            },
        )?;
        attempt("write", || Ok(runs.retain_in(before, |_, _| false)?))?;
    }
    for_each_row::<R>(pages, shard, from, until, |number, row| {
        row.terms(&mut |term| all.push(posted(term, row.class(), number - start)));
    })?;
    // Finds the runs that are sorted already.
    all.sort();
    let (mut piece, mut group, mut pieces) = (Vec::new(), Vec::new(), 0);
    let (mut first, mut term_before) = (0, 0);
    let of_one = |left: &Posted, right: &Posted| left >> 24 == right >> 24;
    let groups = all.chunk_by(of_one).flat_map(|rows| rows.chunks(GROUP_ROWS));
    for rows in groups {
        let term = (rows[0] >> 32) as u32;
        group.clear();
        put_group(&mut group, term.wrapping_sub(term_before), rows);
        if piece.is_empty() || piece.len() + group.len() > PIECE_BYTES {
            if !piece.is_empty() {
                attempt("write", || Ok(runs.insert((shard.0, start, first, pieces), piece.as_slice()).map(drop)?))?;
                piece.clear();
                pieces += 1;
            }
            first = term;
            put_group(&mut piece, 0, rows);
        } else {
            piece.extend_from_slice(&group);
        }
        term_before = term;
    }
    if piece.is_empty() {
        return Ok(());
    }
    attempt("write", || Ok(runs.insert((shard.0, start, first, pieces), piece.as_slice()).map(drop)?))
}

fn put_group(out: &mut Vec<u8>, term: u32, rows: &[Posted]) {
    let class = rows[0] >> 24 & 0xFF;
    put(out, term.into());
    put(out, (rows.len() as u64) << 4 | class);
    let mut before = 0;
    for row in rows {
        let row = row & 0xFF_FFFF;
        put(out, row - before);
        before = row;
    }
}

fn read_piece(first: u32, piece: &[u8], mut each: impl FnMut(u32, u8, u64)) -> Result<(), ViewsError> {
    let (mut bytes, mut term) = (Bytes(piece), first);
    while !bytes.is_empty() {
        term = term.wrapping_add(bytes.small()?);
        let rows = bytes.varint()?;
        let (class, mut row) = ((rows & 0xF) as u8, 0);
        for _ in 0..rows >> 4 {
            row += bytes.small::<u32>()?;
            each(term, class, row.into());
        }
    }
    Ok(())
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
        let (rows, _) = read_page::<R>(shard, bytes.value())?;
        let within = (key.value().1..).zip(&rows).filter(|(number, _)| (from..until).contains(number));
        within.for_each(|(number, row)| each(number, row));
    }
    Ok(())
}

/// The rows of a run that have a term, ascending.
pub(super) fn find(
    runs: &impl ReadableTable<RunKey, &'static [u8]>,
    shard: ShardId,
    start: u64,
    term: u32,
    fits: impl Fn(u8) -> bool,
) -> Result<Vec<u64>, ViewsError> {
    let mut found = Vec::new();
    let pieces = attempt("read", || Ok(runs.range((shard.0, start, 0, 0)..=(shard.0, start, term, u32::MAX))?))?;
    for piece in pieces.rev() {
        wanted::still()?;
        let (key, piece) = attempt("read", || Ok(piece?))?;
        let first = key.value().2;
        read_piece(first, piece.value(), |of, class, row| {
            if of == term && fits(class) {
                found.push(start + row);
            }
        })?;
        // A term may begin within the piece before the first that begins with it.
        if first < term {
            break;
        }
    }
    found.sort_unstable();
    Ok(found)
}
