//! How fast read models catch up on a server that speaks CQL: `cargo run --release -p storage --features cluster --example
//! cql_rate -- <host:port> <keyspace> [acts]`. The keyspace is emptied first.
#![allow(clippy::print_stdout)] // printing is its job

use std::error::Error;
use std::sync::Arc;
use std::time::{Duration, Instant};

use storage::cql::{Cql, Settings};
use storage::follower::{BATCH_MS_MAX, BATCH_WEIGHT_MAX, Following, Portion};
use storage::projector::Folding;
use storage::testing::night::Night;
use storage::views::cql::{Begin, CqlViews};

fn main() -> Result<(), Box<dyn Error>> {
    let mut args = std::env::args().skip(1);
    let (node, keyspace) = (args.next().ok_or("name a server")?, args.next().ok_or("name a keyspace")?);
    let acts: u64 = args.next().map_or(Ok(20_000), |acts| acts.parse())?;
    let mut night = Night::new(11);
    (0..acts).for_each(|_| night.act());
    let cql = Cql::open(&Settings { nodes: vec![node], keyspace, replication: 1, login: None })?;
    println!("{:>10} {:>10} {:>10} {:>10}", "events", "seconds", "events/s", "batches");
    // Twice, since the first time the server is cold.
    for _ in 0..2 {
        let views = CqlViews::open(Arc::clone(&cql), Begin::Anew)?;
        let mut following = Following::begin(&*night.journal, Folding::into(Arc::new(views)))?;
        let (started, mut events, mut batches) = (Instant::now(), 0, 0);
        loop {
            let time = Duration::from_millis(BATCH_MS_MAX);
            let step = following.step(Portion { weight: BATCH_WEIGHT_MAX, time })?;
            events += step.events;
            batches += u64::from(step.wrote);
            if step.at_end {
                break;
            }
        }
        let seconds = started.elapsed().as_secs_f64();
        println!("{events:>10} {seconds:>10.1} {:>10.0} {batches:>10}", events as f64 / seconds);
    }
    Ok(())
}
