//! What a node does while the servers of its read models are away. The test stops and kills the server that `deploy/servers`
//! has started, so it is a program of its own: no other test has to live through it.

mod cql;

use std::env;
use std::process::Command;
use std::sync::Arc;
use std::time::{Duration, Instant};

use cql::{Keyspace, follow};
use storage::testing::night::Night;
use storage::views::cql::CqlViews;
use storage::views::{Views as _, ViewsError};

/// `deploy/servers`, about the first node.
fn servers(what: &str) {
    let script = concat!(env!("CARGO_MANIFEST_DIR"), "/../deploy/servers");
    let done = Command::new(script).args([what, "cql1"]).status().expect("it can be run");
    assert!(done.success(), "deploy/servers {what} cql1");
}

/// It fails with the store's own fault, and does not hang: a request is given up after five seconds.
fn is_given_up<T>(what: &str, work: impl FnOnce() -> Result<T, ViewsError>) {
    let began = Instant::now();
    let Err(why) = work() else { panic!("{what}: nobody could have answered") };
    assert!(matches!(why, ViewsError::Store { .. }), "{what}: {why}");
    assert!(began.elapsed() < Duration::from_secs(60), "{what}: {:?}", began.elapsed());
}

#[test]
fn while_the_servers_are_away_calls_fail_soon_and_afterwards_the_same_handle_goes_on() {
    let name = "while_the_servers_are_away_calls_fail_soon_and_afterwards_the_same_handle_goes_on";
    if env::var("TAPGATE_SERVERS").is_err() {
        eprintln!("skipped, since TAPGATE_SERVERS names no folder whose server could be stopped: {name}");
        return;
    }
    let Some(keyspace) = Keyspace::new(name) else { return };
    let views = keyspace.views();
    let mut night = Night::new(3);
    (0..10).for_each(|_| night.act());
    follow(&night, &views, 100).expect("follows");
    (0..10).for_each(|_| night.act());

    // It accepts what is sent, and says nothing.
    servers("pause");
    is_given_up("a read of a server that is stopped", || views.followed());
    is_given_up("a batch to a server that is stopped", || follow(&night, &views, 100));
    servers("resume");
    again(&night, &views);

    (0..10).for_each(|_| night.act());
    servers("kill");
    is_given_up("a read of a server that is gone", || views.followed());
    is_given_up("a batch to a server that is gone", || follow(&night, &views, 100));
    servers("start");
    again(&night, &views);
    night.check(&*views);
}

/// The driver looks for the server again with growing pauses, so it may be some calls until one is answered.
fn again(night: &Night, views: &Arc<CqlViews>) {
    let answered = (0..60).any(|_| {
        let answered = follow(night, views, 100).is_ok();
        if !answered {
            std::thread::sleep(Duration::from_secs(1));
        }
        answered
    });
    assert!(answered, "the same handle works again");
}
