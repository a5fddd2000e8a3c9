//! The stores of read models that are put to the test: each case of the suite over many nights, whose seed is in the
//! failure's message.

use std::sync::Arc;

use proptest::prelude::*;

use super::Views;
use super::embedded::EmbeddedViews;
use crate::testing::night::Night;
use crate::testing::views::{self as cases, Subject, follow};

/// The embedded store on a disk in memory.
#[derive(Default)]
pub(crate) struct Embedded {
    pub(crate) disk: disk::Disk,
}

impl Subject for Embedded {
    fn open(&mut self) -> Arc<dyn Views> {
        Arc::new(EmbeddedViews::on(self.disk.clone()).expect("opens"))
    }
    fn crash(&mut self) {
        self.disk.crash();
    }
    fn fill(&mut self, full: bool) -> bool {
        self.disk.fill(full);
        true
    }
}

macro_rules! suite {
    ($name:ident, $subject:expr, $cases:literal) => {
        mod $name {
            use super::*;

            proptest! {
                #![proptest_config(ProptestConfig { cases: $cases, ..ProptestConfig::default() })]
                #[test]
                fn rows_are_the_fold_at_every_position(seed: u64) {
                    cases::rows_are_the_fold_at_every_position($subject, seed);
                }
                #[test]
                fn a_crash_costs_only_what_was_not_flushed(seed: u64) {
                    cases::a_crash_costs_only_what_was_not_flushed($subject, seed);
                }
                #[test]
                fn a_full_disk_stops_it_and_loses_nothing(seed: u64) {
                    cases::a_full_disk_stops_it_and_loses_nothing($subject, seed);
                }
            }
            #[test]
            fn a_batch_that_does_not_follow_changes_nothing() {
                cases::a_batch_that_does_not_follow_changes_nothing($subject);
            }
            #[test]
            fn an_empty_store_answers_and_a_page_is_bounded() {
                cases::an_empty_store_answers_and_a_page_is_bounded($subject);
            }
        }
    };
}
suite!(embedded, Embedded::default(), 12);

/// What the cases above say is worth as much as what happens in their nights.
#[test]
fn nights_have_it_all() {
    let mut seen = std::collections::BTreeMap::new();
    for seed in 0..8 {
        let mut night = Night::new(seed);
        (0..60).for_each(|_| night.act());
        night.count_terminals(&mut seen);
    }
    // Gifts lapse a day after the festival; no night is that long.
    let kinds = engine::cashless::event::TransactionKind::ALL
        .iter()
        .filter(|kind| **kind != engine::cashless::event::TransactionKind::Lapse);
    let kinds = kinds.map(|kind| format!("{kind:?}"));
    let refused = ["InsufficientFunds", "WalletBlocked", "NotACashier", "UnknownVendor", "RefundExceedsPayment"];
    let shapes =
        ["by the office", "by the other side", "twice refunded", "with lines", "in a large record", "far lots"];
    let all = kinds.chain(refused.into_iter().chain(shapes).map(str::to_owned));
    let missing: Vec<_> = all.filter(|what| seen.get(what).copied().unwrap_or(0) < 3).collect();
    assert!(missing.is_empty(), "too few of {missing:?} in {seen:?}");
}

#[test]
fn however_the_journal_was_cut_the_tables_are_the_same() {
    for seed in 0..8 {
        let mut night = Night::new(seed);
        let live = Arc::new(EmbeddedViews::on(disk::Disk::default()).unwrap());
        let as_views: Arc<dyn Views> = Arc::clone(&live) as _;
        for _ in 0..12 {
            (0..night.chance.below(5)).for_each(|_| night.act());
            let weight = 1 + night.chance.below(90) as usize;
            follow(&*night.journal, &as_views, weight);
        }
        let rebuilt = Arc::new(EmbeddedViews::on(disk::Disk::default()).unwrap());
        follow(&*night.journal, &(Arc::clone(&rebuilt) as _), 1_000_000);
        let cursor = |views: &EmbeddedViews| views.followed().unwrap().unwrap().cursor;
        assert_eq!(cursor(&live), cursor(&rebuilt), "seed {seed}");
        // Which shard's record came last is chance: between shards there is no order.
        let rows = |views: &EmbeddedViews| {
            let mut rows = views.dump().unwrap();
            rows.retain(|(key, _)| !key.ends_with("\"followed\""));
            rows
        };
        let (live, rebuilt) = (rows(&live), rows(&rebuilt));
        assert!(live.len() > 20, "there is something to compare");
        let differs = live.iter().zip(&rebuilt).find(|(live, rebuilt)| live != rebuilt);
        assert_eq!(differs, None, "seed {seed}");
        assert_eq!(live.len(), rebuilt.len(), "seed {seed}");
    }
}

/// A disk in memory for redb, that can be full and can die.
pub(crate) mod disk {
    use std::io::{Error, ErrorKind, Result};
    use std::sync::{Arc, Mutex};

    #[derive(Clone, Debug, Default)]
    pub(crate) struct Disk(Arc<Mutex<Platter>>);

    #[derive(Debug, Default)]
    struct Platter {
        written: Vec<u8>,
        synced: Vec<u8>,
        full: bool,
    }

    impl Disk {
        /// Only what was synced is there.
        pub(crate) fn crash(&self) {
            let mut platter = self.0.lock().unwrap();
            platter.written = platter.synced.clone();
        }
        pub(crate) fn fill(&self, full: bool) {
            self.0.lock().unwrap().full = full;
        }
    }

    impl Platter {
        fn has_room(&self) -> Result<()> {
            if self.full { Err(Error::from(ErrorKind::StorageFull)) } else { Ok(()) }
        }
    }

    impl redb::StorageBackend for Disk {
        fn len(&self) -> Result<u64> {
            Ok(self.0.lock().unwrap().written.len() as u64)
        }
        fn read(&self, offset: u64, out: &mut [u8]) -> Result<()> {
            let platter = self.0.lock().unwrap();
            let from = platter.written.get(offset as usize..).and_then(|bytes| bytes.get(..out.len()));
            out.copy_from_slice(from.ok_or(ErrorKind::UnexpectedEof)?);
            Ok(())
        }
        fn set_len(&self, len: u64) -> Result<()> {
            let mut platter = self.0.lock().unwrap();
            if len > platter.written.len() as u64 {
                platter.has_room()?;
            }
            platter.written.resize(len as usize, 0);
            Ok(())
        }
        fn sync_data(&self) -> Result<()> {
            let mut platter = self.0.lock().unwrap();
            platter.has_room()?;
            let Platter { written, synced, .. } = &mut *platter;
            synced.clone_from(written);
            Ok(())
        }
        fn write(&self, offset: u64, data: &[u8]) -> Result<()> {
            let mut platter = self.0.lock().unwrap();
            platter.has_room()?;
            let end = offset as usize + data.len();
            let longer = platter.written.len().max(end);
            platter.written.resize(longer, 0);
            platter.written[offset as usize..end].copy_from_slice(data);
            Ok(())
        }
    }
}
