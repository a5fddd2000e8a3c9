//! Read models on a real server that speaks CQL: `deploy/servers up --cql 1` starts one and says where it is. Each test has a
//! keyspace of its own, and drops it.

mod cql;

use std::net::TcpListener;
use std::sync::Arc;
use std::time::Duration;

use cql::{Keyspace, follow};
use engine::model::ids::ShardId;
use storage::cql::{Cql, CqlError, SCHEMA, Settings};
use storage::follower::{Following, Portion};
use storage::journal::Records as _;
use storage::projector::Folding;
use storage::testing::faults::Chance;
use storage::testing::night::{Night, Part, SHARDS};
use storage::testing::views;
use storage::views::cql::{Begin, CqlViews};
use storage::views::fold::Batch;
use storage::views::{Followed, Views, ViewsError};

impl views::Subject for Keyspace {
    fn open(&mut self) -> Arc<dyn Views> {
        self.views()
    }
    /// Only the program dies; what the server has acknowledged it has.
    fn crash(&mut self) {}
    fn fill(&mut self, _: bool) -> bool {
        false
    }
}

#[test]
fn cql_keeps_what_every_store_of_read_models_promises() {
    let name = "cql_keeps_what_every_store_of_read_models_promises";
    if Keyspace::new(name).is_some() {
        views::suite(|| Keyspace::new(name).expect("still there"), 20_261_128);
    }
}

/// A projector dies within a batch, again and again, and each time some of what it was about to write is there. The next one
/// cuts the journal into other batches.
#[test]
fn whatever_a_crash_left_of_a_batch_nothing_is_counted_twice_and_nothing_is_missing() {
    let name = "whatever_a_crash_left_of_a_batch_nothing_is_counted_twice_and_nothing_is_missing";
    let mut broken_off = 0;
    for seed in 1..=2 {
        let Some(keyspace) = Keyspace::new(name) else { return };
        let mut night = Night::new(seed);
        for _ in 0..3 {
            (0..12).for_each(|_| night.act());
            for _ in 0..3 {
                let views = keyspace.views();
                views.break_off_after(night.chance.below(60));
                let weight = [10, 100, 1_000][night.chance.below(3) as usize];
                broken_off += u32::from(follow(&night, &views, weight).is_err());
            }
            let views = keyspace.views();
            follow(&night, &views, 40).expect("follows");
            night.check(&*views);
        }
    }
    assert!(broken_off > 6, "only {broken_off} of 18 were broken off");
}

/// A node is stopped after it has found out what to write, and wakes up when another has taken over and gone on.
#[test]
fn a_projector_that_wakes_up_after_its_successor_changes_nothing() {
    let Some(keyspace) = Keyspace::new("a_projector_that_wakes_up_after_its_successor_changes_nothing") else { return };
    let mut night = Night::new(5);
    (0..15).for_each(|_| night.act());
    let views = keyspace.views();
    let nothing = Followed::nothing(SHARDS);
    let mut reader = night.journal.reader(&nothing.cursor).unwrap();
    let mut batch = Batch::behind(&nothing);
    while let Some(entry) = reader.next().unwrap() {
        batch.add(&entry).unwrap();
    }
    drop(reader);
    (0..30).for_each(|_| night.act());
    let successor = || follow(&night, &keyspace.views(), 25).expect("follows");
    views.write_with_a_pause(&batch, successor).expect("the server takes it");
    let views = keyspace.views();
    assert_eq!(views.followed().unwrap().unwrap().cursor, night.journal.end(), "the position did not go back either");
    night.check(&*views);
}

#[test]
fn read_models_of_another_format_are_begun_anew() {
    let Some(keyspace) = Keyspace::new("read_models_of_another_format_are_begun_anew") else { return };
    let mut night = Night::new(7);
    (0..10).for_each(|_| night.act());
    follow(&night, &keyspace.views(), 50).unwrap();
    for spoil in ["'format', 0x01", "'emptying', 0x01"] {
        keyspace.run(&format!("INSERT INTO {{}}.about (one, name, value) VALUES (0, {spoil})"));
        let opened = CqlViews::open(keyspace.cql(), Begin::Kept);
        assert!(matches!(opened, Err(ViewsError::Damaged(_))), "{spoil}");
        let views = Arc::new(CqlViews::open(keyspace.cql(), Begin::Anew).expect("empties"));
        assert_eq!(views.followed().unwrap(), None);
        for table in ["access_log", "transactions", "sums", "tickets", "buckets", "about"] {
            assert_eq!(keyspace.count(&format!("SELECT COUNT(*) FROM {{}}.{table}")), 0, "{table}");
        }
        follow(&night, &views, 50).unwrap();
        night.check(&*views);
        CqlViews::open(keyspace.cql(), Begin::Kept).expect("as it should be");
    }
}

#[test]
fn a_schema_that_a_newer_program_has_migrated_is_refused() {
    let Some(keyspace) = Keyspace::new("a_schema_that_a_newer_program_has_migrated_is_refused") else { return };
    drop(keyspace.cql());
    keyspace.run(&format!("INSERT INTO {{}}.schema_version (id, version) VALUES (0, {})", SCHEMA + 1));
    let Err(why) = Cql::open(&keyspace.settings) else { panic!("it is newer") };
    assert!(matches!(why, CqlError::NewerSchema { found, .. } if found == SCHEMA + 1), "{why}");
    assert!(why.to_string().contains("start the newer program"), "{why}");
    // One that died before it had noted the version has done the rest already.
    keyspace.run("DELETE FROM {}.schema_version WHERE id = 0");
    keyspace.views();
}

#[test]
fn servers_that_are_not_there_or_say_nothing_are_given_up() {
    let silent = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = silent.local_addr().unwrap().to_string();
    let settings =
        |node: &str| Settings { nodes: vec![node.to_owned()], keyspace: "nobody".into(), replication: 1, login: None };
    for node in [address.as_str(), "127.0.0.1:1"] {
        let Err(why) = Cql::open(&settings(node)) else { panic!("nobody is there") };
        assert!(matches!(why, CqlError::Unreachable { .. }), "{why}");
        assert!(why.to_string().contains(node), "{why}");
    }
}

/// Two nodes write, each the shards that it has, while those change hands.
#[test]
fn nodes_write_their_own_shards_and_together_they_have_all() {
    let (mut chance, mut too_late) = (Chance(3), 0);
    let Some(keyspace) = Keyspace::new("nodes_write_their_own_shards_and_together_they_have_all") else { return };
    let mut night = Night::new(9);
    for _ in 0..4 {
        (0..20).for_each(|_| night.act());
        let (parts, views) = ([Part::of(&night), Part::of(&night)], [keyspace.views(), keyspace.views()]);
        let begin =
            |who: usize| Following::begin(&parts[who], Folding::into(Arc::clone(&views[who]) as _)).expect("begins");
        (0..SHARDS).for_each(|shard| parts[usize::from(shard % 2)].has(ShardId(shard), true));
        let mut nodes = [begin(0), begin(1)];
        for _ in 0..16 {
            let who = chance.below(2) as usize;
            if chance.below(3) == 0 {
                let shard = ShardId(chance.below(u64::from(SHARDS)) as u16);
                parts[who].has(shard, true);
                parts[1 - who].has(shard, false);
            }
            if chance.below(3) > 0 && nodes[who].shards_have_moved(&parts[who]) {
                nodes[who] = begin(who);
            }
            match nodes[who].step(Portion { weight: 1 + chance.below(60) as usize, time: Duration::MAX }) {
                Ok(_) => {}
                Err(ViewsError::NotNext) => {
                    too_late += 1;
                    nodes[who] = begin(who);
                }
                Err(why) => panic!("{why}"),
            }
        }
        for who in [0, 1] {
            let mut node = begin(who);
            while !node.step(Portion { weight: 500, time: Duration::MAX }).expect("follows").at_end {}
        }
        drop(nodes);
        let views = keyspace.views();
        assert_eq!(views.followed().unwrap().unwrap().cursor, night.journal.end());
        night.check(&*views);
    }
    assert!(too_late > 0, "nobody wrote what was not its own any more");
}
