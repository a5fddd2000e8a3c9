//! What readers were told, held against the journal.

use std::collections::BTreeMap;

use super::journaled::GateBook;
use crate::model::Tally;
use crate::reader::Reader;
use crate::report::CrashReport;

/// Everything a reader was ever told to be on disk must be in the journal, once, as it was told.
pub(super) fn compare(readers: &[Reader], book: GateBook, report: &mut CrashReport) {
    let mut tally = Tally::default();
    for reader in readers {
        tally.add(&reader.model.tally);
        report.lost += reader.lost();
        report.resent += reader.resent;
        report.acknowledged += reader.remembered.len() as u64;
        let none = BTreeMap::new();
        let answers = reader.device.and_then(|device| book.answers.get(&device.0)).unwrap_or(&none);
        for (seq, hash) in &reader.remembered {
            if answers.get(seq) != Some(hash) {
                report.lost += 1;
                let what = how_else(answers.contains_key(seq));
                report.notes.push(format!("scan {seq} of reader {} is in the journal {what}", reader.number));
            }
        }
    }
    report.notes.extend(tally.explained);
    report.notes.extend(book.notes);
    report.journaled = book.scans;
    report.doubled = book.doubled + tally.double_admitted;
    report.wrong = tally.wrong;
    report.conflicts = tally.conflicts;
}

/// In words: how something that was acknowledged is in the journal instead.
pub(super) fn how_else(there: bool) -> &'static str {
    if there { "otherwise than it was acknowledged" } else { "not at all" }
}
