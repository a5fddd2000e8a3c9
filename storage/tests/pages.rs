//! The read models' pages where nothing is small for tests' sake: pages of 4 KiB, runs of 128 rows, of 1,024 and of 8,192.

use engine::record;
use storage::journal::Records as _;
use storage::testing::night::{Night, SHARDS};
use storage::views::embedded::EmbeddedViews;
use storage::views::fold::Batch;
use storage::views::{Followed, Views as _};

/// Each list is read in pages from both ends, with filters, over all time and over a part of it, and compared with a plain
/// list of what happened.
#[test]
fn a_long_night_reads_as_it_was() {
    let folder = tempfile::tempdir().unwrap();
    let views = EmbeddedViews::open(&folder.path().join("views.redb")).unwrap();
    let mut night = Night::new(11);
    (0..2_000).for_each(|_| night.act());
    let nothing = Followed::nothing(SHARDS);
    let mut reader = night.journal.reader(&nothing.cursor).unwrap();
    let (mut batch, mut events) = (Batch::behind(&nothing), vec![0; usize::from(SHARDS)]);
    while let Some(entry) = reader.next().unwrap() {
        batch.add(&entry).unwrap();
        events[usize::from(entry.shard.0)] += record::read(entry.payload).unwrap().events.len();
        if batch.events() > 700 {
            views.write(&batch).unwrap();
            batch.go_on();
        }
    }
    batch.ends_at(&*reader);
    views.write(&batch).unwrap();
    assert!(events.iter().any(|events| *events > 10_000), "a long run, and more: {events:?}");
    drop(reader);
    night.check(&views);
}
