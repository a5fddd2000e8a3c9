//! What every store of read models promises, as one suite over random nights ([`super::night`]).

use std::sync::Arc;
use std::time::Duration;

use super::night::{Night, SHARDS};
use crate::follower::{Following, Portion};
use crate::journal::{Cursor, Records};
use crate::projector::Folding;
use crate::views::fold::Batch;
use crate::views::gates::{AccessLog, Counts, Tickets};
use crate::views::{Followed, PAGE_MAX, Page, Span, Views, ViewsError};

/// A store to put to the test.
pub trait Subject {
    /// Opens it; again finds what was written.
    fn open(&mut self) -> Arc<dyn Views>;
    /// The machine dies: what was not flushed may be gone. Nobody holds it any more.
    fn crash(&mut self);
    /// From now on the disk is full, or it is no longer. `false`: it cannot be filled.
    fn fill(&mut self, full: bool) -> bool;
}

/// All cases, each on a fresh subject, over the night of this seed.
///
/// # Panics
/// If the store breaks a promise.
pub fn suite<S: Subject>(mut fresh: impl FnMut() -> S, seed: u64) {
    // Seen when a case fails: the harness shows what a failed test wrote.
    eprintln!("seed {seed}");
    rows_are_the_fold_at_every_position(fresh(), seed);
    a_crash_costs_only_what_was_not_flushed(fresh(), seed);
    a_full_disk_stops_it_and_loses_nothing(fresh(), seed);
    a_batch_that_does_not_follow_changes_nothing(fresh());
    an_empty_store_answers_and_a_page_is_bounded(fresh());
}

fn portion(weight: usize) -> Portion {
    Portion { weight, time: Duration::MAX }
}

/// Follows to the end in portions of `weight`.
pub(crate) fn follow<S: Records + ?Sized>(source: &S, views: &Arc<dyn Views>, weight: usize) {
    let mut following = Following::begin(source, Folding::into(Arc::clone(views))).expect("begins");
    while !following.step(portion(weight)).expect("steps").at_end {}
}

pub(crate) fn rows_are_the_fold_at_every_position(mut subject: impl Subject, seed: u64) {
    let (mut night, views) = (Night::new(seed), subject.open());
    let mut following = Following::begin(&*night.journal, Folding::into(Arc::clone(&views))).unwrap();
    for _ in 0..6 {
        (0..night.chance.below(12)).for_each(|_| night.act());
        let weight = 1 + night.chance.below(200) as usize;
        while !following.step(portion(weight)).unwrap().at_end {}
        assert_eq!(views.followed().unwrap().unwrap().cursor, night.journal.end());
        night.check(&*views);
    }
}

pub(crate) fn a_crash_costs_only_what_was_not_flushed(mut subject: impl Subject, seed: u64) {
    let mut night = Night::new(seed);
    let mut views = subject.open();
    for _ in 0..4 {
        (0..6).for_each(|_| night.act());
        follow(&*night.journal, &views, 30);
        views.flush().unwrap();
        let kept = views.followed().unwrap();
        (0..6).for_each(|_| night.act());
        let mut following = Following::begin(&*night.journal, Folding::into(Arc::clone(&views))).unwrap();
        let steps = night.chance.below(4);
        for _ in 0..steps {
            following.step(portion(1)).unwrap();
        }
        drop((following, views));
        subject.crash();
        views = subject.open();
        let at = |followed: Option<Followed>| followed.map_or(Cursor::start(SHARDS), |followed| followed.cursor);
        assert!(at(views.followed().unwrap()).covers(&at(kept)), "what was flushed is there");
        follow(&*night.journal, &views, 7);
        night.check(&*views);
    }
}

pub(crate) fn a_full_disk_stops_it_and_loses_nothing(mut subject: impl Subject, seed: u64) {
    let mut night = Night::new(seed);
    let views = subject.open();
    (0..10).for_each(|_| night.act());
    follow(&*night.journal, &views, 50);
    views.flush().unwrap();
    (0..10).for_each(|_| night.act());
    if !subject.fill(true) {
        return;
    }
    let mut following = Following::begin(&*night.journal, Folding::into(Arc::clone(&views))).unwrap();
    let failed = (0..1_000)
        .find_map(|_| following.step(portion(1)).err().or_else(|| following.flush().err()))
        .expect("it is full");
    assert!(matches!(failed, ViewsError::DiskFull), "{failed}");
    drop((following, views));
    subject.fill(false);
    let views = subject.open();
    follow(&*night.journal, &views, 50);
    night.check(&*views);
}

pub(crate) fn a_batch_that_does_not_follow_changes_nothing(mut subject: impl Subject) {
    let (mut night, views) = (Night::new(1), subject.open());
    (0..20).for_each(|_| night.act());
    let nothing = Followed::nothing(SHARDS);
    let mut reader = night.journal.reader(&nothing.cursor).unwrap();
    let mut batch = Batch::behind(&nothing);
    while let Some(entry) = reader.next().unwrap() {
        batch.add(&entry).unwrap();
    }
    batch.ends_at(&*reader);
    views.write(&batch).unwrap();
    // Once more the same: refused, or without effect.
    assert!(matches!(views.write(&batch), Ok(()) | Err(ViewsError::NotNext)));
    night.check(&*views);
}

pub(crate) fn an_empty_store_answers_and_a_page_is_bounded(mut subject: impl Subject) {
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
