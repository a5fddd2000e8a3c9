//! A real server that speaks CQL, and on it a keyspace for each test.
#![allow(dead_code)] // each suite uses its own part of this

use std::env;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use scylla::client::session::Session;
use scylla::client::session_builder::SessionBuilder;
use storage::cql::{Cql, Settings};
use storage::follower::{Following, Portion};
use storage::projector::Folding;
use storage::testing::night::Night;
use storage::views::cql::{Begin, CqlViews};
use storage::views::{Views, ViewsError};

/// A keyspace of one test's own.
pub(crate) struct Keyspace {
    pub(crate) settings: Settings,
    runtime: tokio::runtime::Runtime,
    session: Session,
}

impl Keyspace {
    /// `None`, and said, if there is no server.
    pub(crate) fn new(test: &str) -> Option<Self> {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let Ok(nodes) = env::var("TAPGATE_TEST_CQL") else {
            eprintln!("skipped, since TAPGATE_TEST_CQL names no server: {test}");
            return None;
        };
        let nodes: Vec<String> = nodes.split(',').map(str::to_owned).collect();
        let keyspace = format!("test_{}_{}", std::process::id(), COUNT.fetch_add(1, Ordering::Relaxed));
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
        let session = runtime.block_on(SessionBuilder::new().known_nodes(&nodes).build()).expect("connects");
        Some(Self { settings: Settings { nodes, keyspace, replication: 1, login: None }, runtime, session })
    }

    pub(crate) fn cql(&self) -> Arc<Cql> {
        Cql::open(&self.settings).expect("connects")
    }

    pub(crate) fn views(&self) -> Arc<CqlViews> {
        Arc::new(CqlViews::open(self.cql(), Begin::Kept).expect("opens"))
    }

    /// `{}` stands for the keyspace.
    pub(crate) fn run(&self, statement: &str) {
        let statement = statement.replace("{}", &self.settings.keyspace);
        self.runtime.block_on(self.session.query_unpaged(statement, ())).expect("runs");
    }

    /// How many rows there are of a statement that asks for one number.
    pub(crate) fn count(&self, statement: &str) -> i64 {
        let statement = statement.replace("{}", &self.settings.keyspace);
        let found = self.runtime.block_on(self.session.query_unpaged(statement, ())).expect("runs");
        let (count,): (i64,) = found.into_rows_result().expect("rows").single_row().expect("one");
        count
    }
}

impl Drop for Keyspace {
    fn drop(&mut self) {
        let dropped = format!("DROP KEYSPACE IF EXISTS {}", self.settings.keyspace);
        if let Err(why) = self.runtime.block_on(self.session.query_unpaged(dropped, ())) {
            eprintln!("{} stays behind: {why}", self.settings.keyspace);
        }
    }
}

/// Follows to the end, or until it fails.
pub(crate) fn follow(night: &Night, views: &Arc<CqlViews>, weight: usize) -> Result<(), ViewsError> {
    let views: Arc<dyn Views> = Arc::clone(views) as _;
    let mut following = Following::begin(&*night.journal, Folding::into(views))?;
    while !following.step(Portion { weight, time: Duration::MAX })?.at_end {}
    Ok(())
}
