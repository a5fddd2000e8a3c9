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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::Model;
    use crate::reader::DeviceConfig;
    use crate::workload::gate::Population;
    use engine::model::ids::{DeviceId, ZoneNo};

    #[test]
    fn what_the_journal_lacks_or_has_otherwise_is_lost() {
        let table = [
            ("as it was told", vec![(1, 10), (2, 20)], 0),
            ("one is missing", vec![(1, 10)], 1),
            ("one says something else", vec![(1, 10), (2, 21)], 1),
            ("more than was told", vec![(1, 10), (2, 20), (3, 30)], 0),
        ];
        for (what, journaled, lost) in table {
            let model = Model::new(Vec::new(), ZoneNo(0), 1);
            let population = Population::new(&model, 1);
            let config = DeviceConfig { window: 1, keep: 0, remember: true, waits: false, echo: false };
            let mut reader = Reader::new(0, model, population, config);
            (reader.device, reader.remembered) = (Some(DeviceId(5)), vec![(1, 10), (2, 20)]);
            let mut book = GateBook::default();
            book.answers.insert(5, journaled.into_iter().collect());
            let mut report = CrashReport::default();
            compare(&[reader], book, &mut report);
            assert_eq!((report.acknowledged, report.lost), (2, lost), "{what}: {:?}", report.notes);
        }
    }
}
