//! What every store of read models promises, as one suite. Each implementation brings a [`Subject`] and passes the same
//! cases; each case runs over nights at random gates (`history.rs`), whose seed is in the failure's message.

use std::sync::Arc;
use std::time::Duration;

use proptest::prelude::*;

use super::embedded::EmbeddedViews;
use super::history::{Night, SHARDS};
use super::{Followed, PAGE_MAX, Page, Span, Views, ViewsError};
use crate::projector::{Following, Portion, Source};
use crate::views::fold::Batch;
use crate::views::gates::{AccessLog, Counts, Tickets};

/// A store to put to the test.
pub(crate) trait Subject {
    /// Opens it; again finds what was written.
    fn open(&mut self) -> Arc<dyn Views>;
    /// The machine dies: what was not flushed may be gone. Nobody holds it any more.
    fn crash(&mut self);
    /// From now on the disk is full, or it is no longer.
    fn fill(&mut self, full: bool);
}

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
    fn fill(&mut self, full: bool) {
        self.disk.fill(full);
    }
}

fn portion(weight: usize) -> Portion {
    Portion { weight, time: Duration::MAX }
}

/// Follows to the end in portions of `weight`.
fn follow<S: Source + ?Sized>(source: &S, views: &Arc<dyn Views>, weight: usize) {
    let mut following = Following::begin(source, Arc::clone(views)).expect("begins");
    while !following.step(source, portion(weight)).expect("steps").at_end {}
}

fn rows_are_the_fold_at_every_position(mut subject: impl Subject, seed: u64) {
    let (mut night, views) = (Night::new(seed), subject.open());
    let mut following = Following::begin(&*night.journal, Arc::clone(&views)).unwrap();
    for _ in 0..6 {
        (0..night.chance.below(12)).for_each(|_| night.act());
        let weight = 1 + night.chance.below(200) as usize;
        while !following.step(&*night.journal, portion(weight)).unwrap().at_end {}
        assert_eq!(views.followed().unwrap().unwrap().cursor, Source::end(&*night.journal));
        night.check(&*views);
    }
}

fn a_crash_costs_only_what_was_not_flushed(mut subject: impl Subject, seed: u64) {
    let mut night = Night::new(seed);
    let mut views = subject.open();
    for _ in 0..4 {
        (0..6).for_each(|_| night.act());
        follow(&*night.journal, &views, 30);
        views.flush().unwrap();
        let kept = views.followed().unwrap();
        (0..6).for_each(|_| night.act());
        let mut following = Following::begin(&*night.journal, Arc::clone(&views)).unwrap();
        let steps = night.chance.below(4);
        for _ in 0..steps {
            following.step(&*night.journal, portion(1)).unwrap();
        }
        drop((following, views));
        subject.crash();
        views = subject.open();
        let at = |followed: &Option<Followed>| followed.as_ref().map(|followed| followed.cursor.greatest());
        assert!(at(&views.followed().unwrap()) >= at(&kept), "what was flushed is there");
        follow(&*night.journal, &views, 7);
        night.check(&*views);
    }
}

fn a_full_disk_stops_it_and_loses_nothing(mut subject: impl Subject, seed: u64) {
    let mut night = Night::new(seed);
    let views = subject.open();
    (0..10).for_each(|_| night.act());
    follow(&*night.journal, &views, 50);
    views.flush().unwrap();
    (0..10).for_each(|_| night.act());
    subject.fill(true);
    let mut following = Following::begin(&*night.journal, Arc::clone(&views)).unwrap();
    let failed = (0..1_000)
        .find_map(|_| following.step(&*night.journal, portion(1)).err().or_else(|| following.flush().err()))
        .expect("it is full");
    assert!(matches!(failed, ViewsError::DiskFull), "{failed}");
    drop((following, views));
    subject.fill(false);
    let views = subject.open();
    follow(&*night.journal, &views, 50);
    night.check(&*views);
}

fn a_batch_that_does_not_follow_changes_nothing(mut subject: impl Subject) {
    let (mut night, views) = (Night::new(1), subject.open());
    (0..20).for_each(|_| night.act());
    let nothing = Followed::nothing(SHARDS);
    let mut reader = Source::reader(&*night.journal, &nothing.cursor).unwrap();
    let mut batch = Batch::behind(&nothing);
    while let Some(entry) = reader.next().unwrap() {
        batch.add(&entry).unwrap();
    }
    batch.caught_up(&Source::end(&*night.journal));
    views.write(&batch).unwrap();
    // Once more the same: refused, or without effect.
    assert!(matches!(views.write(&batch), Ok(()) | Err(ViewsError::NotNext)));
    night.check(&*views);
}

fn an_empty_store_answers_and_a_page_is_bounded(mut subject: impl Subject) {
    let (mut night, views) = (Night::new(2), subject.open());
    assert_eq!(views.followed().unwrap(), None);
    let festival = night.festivals[0].id;
    let of = Tickets { festival, status: None, category: None, holder: None };
    assert_eq!(views.tickets(of, Page::first(10)).unwrap(), []);
    assert_eq!(views.counts(Counts { festival, span: Span::ALWAYS }, Page::first(10)).unwrap(), []);
    let ticket = night.festivals[0].tickets[0].0;
    assert_eq!(views.access_log(AccessLog::Ticket(ticket, Span::ALWAYS), Page::first(10)).unwrap(), []);
    while night.festivals[0].tickets.len() < 2 * PAGE_MAX {
        night.act();
    }
    follow(&*night.journal, &views, 500);
    assert_eq!(views.tickets(of, Page::first(usize::MAX)).unwrap().len(), PAGE_MAX);
    assert_eq!(views.tickets(of, Page::first(0)).unwrap(), []);
}

macro_rules! suite {
    ($name:ident, $subject:expr, $cases:literal) => {
        mod $name {
            use super::*;

            proptest! {
                #![proptest_config(ProptestConfig { cases: $cases, ..ProptestConfig::default() })]
                #[test]
                fn rows_are_the_fold_at_every_position(seed: u64) {
                    super::rows_are_the_fold_at_every_position($subject, seed);
                }
                #[test]
                fn a_crash_costs_only_what_was_not_flushed(seed: u64) {
                    super::a_crash_costs_only_what_was_not_flushed($subject, seed);
                }
                #[test]
                fn a_full_disk_stops_it_and_loses_nothing(seed: u64) {
                    super::a_full_disk_stops_it_and_loses_nothing($subject, seed);
                }
            }
            #[test]
            fn a_batch_that_does_not_follow_changes_nothing() {
                super::a_batch_that_does_not_follow_changes_nothing($subject);
            }
            #[test]
            fn an_empty_store_answers_and_a_page_is_bounded() {
                super::an_empty_store_answers_and_a_page_is_bounded($subject);
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
        night.count_tills(&mut seen);
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
        let (live, rebuilt) = (live.dump().unwrap(), rebuilt.dump().unwrap());
        assert!(live.len() > 20, "there is something to compare");
        assert_eq!(live, rebuilt, "seed {seed}");
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
