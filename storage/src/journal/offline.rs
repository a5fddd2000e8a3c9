//! Reading a journal at rest, for audit: everything from the first record to the last, the chain verified, without
//! taking the folder from anybody. The first damage is an error with file and offset; whoever wants to see what lies
//! behind it says so, and is told how much is missing.

use std::{path::Path, sync::Arc};

use super::{
    Chain, Cursor, Entry, JournalError, Position,
    disk::{Disk, FolderDisk},
    format::SegmentHeader,
    reached::{self, Witness},
    recover::{Cut, Ending, Folder, Last, Torn, Verdict, find_last, find_tail, missing},
    scan::{Walker, raw_name, read_whole},
};

/// Opens the journal in `dir` for reading only. A journal that is in use may be read as well, up to about now.
///
/// # Errors
/// [`JournalError::Missing`], [`JournalError::Empty`], [`JournalError::NewerVersion`], or the disk's own. Damage is
/// no reason not to open; [`JournalError::NotWhole`] only where nothing is left of what had been acknowledged.
pub fn read_only(dir: &Path) -> Result<Offline<FolderDisk>, JournalError> {
    Offline::on(Arc::new(FolderDisk::read_only(dir)?))
}

/// A stretch that was passed over because it does not hold.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Gap {
    /// The segment in which the damage begins.
    pub file: String,
    /// Where it begins, in bytes.
    pub offset: u64,
    /// What does not hold.
    pub why: String,
    /// Where reading goes on, file and offset; `None`: nothing behind it holds.
    pub resumes: Option<(String, u64)>,
    /// How many records are missing in between, as far as their numbers tell.
    pub missing: u64,
}

/// A walk through a whole journal at rest.
pub struct Offline<D: Disk> {
    disk: Arc<D>,
    numbers: Vec<u64>,
    /// The number of the segment to open next, as an index into `numbers`.
    next: usize,
    walker: Option<Walker<D::File>>,
    /// Where the last segment's durable records end, and its number.
    end: Option<(u64, u64)>,
    /// The lsn behind the last of them.
    end_lsn: Option<u64>,
    torn: Option<Torn>,
    /// The first position that is not there, and how it is known that it has to be.
    missing: Option<(u64, String)>,
    /// The record that has to come next, and the chain hash before it.
    expected: Option<(u64, Chain)>,
    shards: Option<u16>,
    damage: Option<(String, u64, String)>,
    /// The damage lies before the walker's first group: the walker may go on as it is.
    intact: bool,
}

impl<D: Disk> Offline<D> {
    /// Reads the journal on `disk`.
    ///
    /// # Errors
    /// As [`read_only`].
    pub fn on(disk: Arc<D>) -> Result<Self, JournalError> {
        // Asked first, so that a log that grows meanwhile is never behind it.
        let reached = reached::read(&*disk)?;
        let folder = Folder::list(&*disk)?;
        let mut this = Self {
            numbers: folder.all().to_vec(),
            disk,
            next: 0,
            walker: None,
            end: None,
            end_lsn: None,
            torn: None,
            missing: None,
            expected: None,
            shards: None,
            damage: None,
            intact: false,
        };
        // Damage that is found here is met again on the way, in its place.
        match find_last(&*this.disk, &folder) {
            Ok(Ending { last: Some(last), cut }) => this.look_at_end(&last, reached, cut.as_ref())?,
            Ok(Ending { last: None, cut }) => {
                return Err(match missing(reached, 0, None, cut.as_ref()) {
                    Some(why) => JournalError::NotWhole { ends: 0, why },
                    None => JournalError::Empty,
                });
            }
            Err(JournalError::Damaged { .. }) => {}
            Err(other) => return Err(other),
        }
        Ok(this)
    }

    fn look_at_end(&mut self, last: &Last, reached: Witness, cut: Option<&Cut>) -> Result<(), JournalError> {
        self.shards = Some(last.header.shards);
        self.numbers.retain(|number| *number <= last.number);
        let tail = match find_tail(&*self.disk, last, reached) {
            Ok(tail) => tail,
            Err(JournalError::Damaged { .. }) => return Ok(()),
            Err(other) => return Err(other),
        };
        let ends = tail.mark.lsn;
        self.missing = missing(reached, ends, tail.at_reached, cut).map(|why| (ends, why));
        let mut end_lsn = ends;
        if let Verdict::Torn { why, kept, .. } = &tail.verdict {
            let kept = kept.as_ref().map_or(0, |kept| kept.records());
            let file = raw_name(last.number);
            self.torn = Some(Torn { file, offset: tail.mark.offset, kept, why: why.clone() });
            end_lsn -= u64::from(kept); // they are not read here
        }
        if tail.verdict.damage().is_none() {
            self.end = Some((last.number, tail.mark.offset));
            self.end_lsn = Some(end_lsn);
        }
        Ok(())
    }

    /// How many shards the journal was created for, if any header still says so.
    pub fn shards(&self) -> Option<u16> {
        self.shards
    }

    /// The lsn at which reading will end, that is how many records there are from the very first on. `None` if the last
    /// segment is damaged: nobody knows then.
    pub fn ends_at(&self) -> Option<u64> {
        self.end_lsn
    }

    /// The torn tail, if there is one: the remains of a write that was never acknowledged, or is under way. The next
    /// opening keeps its whole records and cuts back the rest; it is not read here.
    pub fn torn(&self) -> Option<&Torn> {
        self.torn.as_ref()
    }

    /// The first position that is not there although it had been acknowledged, and how that is known. The next opening
    /// refuses the journal for it. `None` too if the last segment is damaged.
    pub fn missing(&self) -> Option<(u64, &str)> {
        self.missing.as_ref().map(|(ends, why)| (*ends, why.as_str()))
    }

    /// The lsn of the next record and the chain hash before it.
    pub fn expected(&self) -> Option<(u64, Chain)> {
        self.expected
    }

    /// The next record, or `None` at the end.
    ///
    /// # Errors
    /// [`JournalError::Damaged`] at the first thing that does not hold, and again until
    /// [`Offline::skip_damage`] is called.
    #[allow(clippy::should_implement_trait)] // it lends, as `Reader::next` does, and an iterator cannot
    pub fn next(&mut self) -> Result<Option<Entry<'_>>, JournalError> {
        if let Some((file, offset, why)) = &self.damage {
            return Err(JournalError::damaged(file, *offset, why.clone()));
        }
        match self.advance() {
            Ok(false) => Ok(None),
            Ok(true) => Ok(Some(self.walker.as_ref().expect("it advanced").current())),
            Err(JournalError::Damaged { file, offset, why }) => {
                self.damage = Some((file.clone(), offset, why.clone()));
                Err(JournalError::Damaged { file, offset, why })
            }
            Err(other) => Err(other),
        }
    }

    /// Passes over the damage that [`Offline::next`] met. `None` if it met none.
    ///
    /// # Errors
    /// The disk's own.
    pub fn skip_damage(&mut self) -> Result<Option<Gap>, JournalError> {
        let Some((file, offset, why)) = self.damage.take() else { return Ok(None) };
        let before = self.expected.map_or(0, |(lsn, _)| lsn);
        let mut gap = Gap { file, offset, why, resumes: None, missing: 0 };
        loop {
            let intact = std::mem::take(&mut self.intact);
            if let Some(walker) = &mut self.walker
                && let Some(at) = if intact { Some(walker.mark().offset) } else { walker.skip_damage() }
            {
                gap.resumes = Some((walker.file().to_owned(), at));
                gap.missing = walker.lsn().saturating_sub(before);
                self.expected = Some((walker.lsn(), walker.chain()));
                return Ok(Some(gap));
            }
            // Nothing more in this segment: the next one begins anew.
            self.walker = None;
            if self.next >= self.numbers.len() {
                return Ok(Some(gap));
            }
            self.expected = None;
            match self.open_next() {
                Ok(()) => self.intact = true,
                Err(JournalError::Damaged { .. }) => {}
                Err(other) => return Err(other),
            }
        }
    }

    fn advance(&mut self) -> Result<bool, JournalError> {
        loop {
            let Some(walker) = &mut self.walker else {
                if self.next >= self.numbers.len() {
                    return Ok(false);
                }
                self.open_next()?;
                continue;
            };
            let limit = match self.end {
                Some((number, offset)) if number == walker.header().number => offset,
                _ => u64::MAX,
            };
            let more = walker.advance(limit)?;
            self.expected = Some((walker.lsn(), walker.chain()));
            if more {
                return Ok(true);
            }
            self.walker = None;
        }
    }

    /// Opens the next segment and checks that it follows from the one before.
    fn open_next(&mut self) -> Result<(), JournalError> {
        let number = self.numbers[self.next];
        let gap = self.next > 0 && self.numbers[self.next - 1] + 1 != number;
        self.next += 1;
        let (name, bytes) = read_whole(&*self.disk, number)?;
        let lost = |why: &str| JournalError::damaged(&name, 0, why);
        let opened = Walker::memory(name.clone(), number, bytes);
        let walker = match opened {
            Ok(Some(walker)) => walker,
            Ok(None) | Err(JournalError::Damaged { .. }) => {
                let (name, bytes) = read_whole(&*self.disk, number)?; // seldom, so that no copy is kept for it
                let (first_lsn, chain) = self.expected.unwrap_or_default();
                let header = SegmentHeader {
                    number,
                    first_lsn,
                    chain,
                    incarnation: 0,
                    segment_bytes: bytes.len() as u64,
                    group_bytes_max: u32::MAX,
                    shards: self.shards.unwrap_or(u16::MAX),
                };
                self.walker = Some(Walker::without_header(name.clone(), header, bytes));
                self.intact = true;
                return Err(opened.err().unwrap_or_else(|| lost("the segment has no header, but others follow it")));
            }
            Err(other) => return Err(other),
        };
        self.shards = self.shards.or(Some(walker.header().shards));
        let begins = (walker.lsn(), walker.chain());
        self.walker = Some(walker);
        self.intact = true; // for as long as what follows says otherwise
        if gap {
            return Err(lost("segments before this one are missing"));
        }
        if self.expected.is_some_and(|expected| expected != begins) {
            return Err(lost("the segment does not follow from the one before it"));
        }
        self.intact = false;
        self.expected = Some(begins);
        Ok(())
    }
}

/// How far in the one log that all shards of a file journal share a cursor has read.
pub fn place_in_log(cursor: &Cursor) -> Position {
    cursor.greatest()
}

/// How many records of that log lie between two cursors.
pub(crate) fn records_between(from: &Cursor, to: &Cursor) -> u64 {
    place_in_log(to).0.saturating_sub(place_in_log(from).0)
}
