//! How much everybody asks of all nodes together, counted on Redis. A request never waits for it: each node counts what it lets
//! pass, adds that up on Redis a few times a second, and turns those away from then on who have had enough.
//!
//! Redis is never the truth. While it is away, or after somebody has emptied it, each node's own limits hold alone: whoever asks
//! three nodes in turns gets three times as much, and nobody gets less. For the same reason it does not matter what it evicts, or
//! that it was set back. Its clock alone says when a window ends, so a node whose clock is wrong changes nothing.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use redis::aio::{ConnectionManager, ConnectionManagerConfig};
use redis::{Client, RedisError};
use sha2::{Digest as _, Sha256};

use crate::shared_counts::{SHARED_WINDOW, SharedCounts};

/// How often counts are added up: for so long a node does not know what others have let pass.
const EVERY: Duration = Duration::from_millis(250);
/// How many are counted between two times: at about 60 B each, 4 MiB. Whoever is one too many is counted the next time.
const COUNTED_MAX: usize = 65_536;
/// How many are turned away at a time, as large. If there are more, those who have waited longest are let pass.
const TURNED_AWAY_MAX: usize = 65_536;
/// How many are asked about in one go.
const PIPELINE: usize = 1_000;
/// How long an answer may take, and then the wait until the next try.
const PATIENCE: Duration = Duration::from_secs(1);

/// The beginning of SHA-256 of who it is: Redis sees neither keys nor addresses, and nobody can choose two that collide to
/// anybody else's harm.
type Who = [u8; 16];

/// Counts on a Redis server.
pub struct RedisCounts {
    prefix: String,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    /// Since they were last added up, with how many are allowed.
    counted: HashMap<Who, (u64, u64)>,
    turned_away: HashMap<Who, Instant>,
}

/// Counts on the server at `redis`, `host:port`, and what adds them up: it has no end, and is to be run beside the doors.
///
/// # Errors
/// It cannot be an address. A server that does not answer is waited for.
pub fn start(
    cluster: &str,
    redis: &str,
) -> Result<(Arc<RedisCounts>, impl Future<Output = ()> + Send + 'static), RedisError> {
    let (client, counts) = (Client::open(format!("redis://{redis}"))?, RedisCounts::new(cluster));
    Ok((Arc::clone(&counts), counts.run(client)))
}

impl RedisCounts {
    /// Those of the cluster of this name.
    fn new(cluster: &str) -> Arc<Self> {
        Arc::new(Self { prefix: format!("tapgate:{cluster}:requests:"), state: Mutex::default() })
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Adds up, over and over.
    async fn run(self: Arc<Self>, client: Client) {
        metrics::describe_gauge!("tapgate_redis_up", "1 while requests to all nodes are added up on Redis.");
        let config = ConnectionManagerConfig::new()
            .set_number_of_retries(0)
            .set_connection_timeout(Some(PATIENCE))
            .set_response_timeout(Some(PATIENCE));
        let mut up = true;
        loop {
            let why = match client.get_connection_manager_with_config(config.clone()).await {
                Ok(mut connection) => loop {
                    tokio::time::sleep(EVERY).await;
                    if let Err(why) = self.add_up(&mut connection).await {
                        break why;
                    }
                    if !std::mem::replace(&mut up, true) {
                        tracing::info!("Redis answers again");
                    }
                    metrics::gauge!("tapgate_redis_up").set(1.0);
                },
                Err(why) => why,
            };
            if std::mem::replace(&mut up, false) {
                tracing::warn!(%why, "Redis does not answer: each node limits for itself until it does");
            }
            metrics::gauge!("tapgate_redis_up").set(0.0);
            // What nobody could add up counts no more.
            self.state().counted.clear();
            tokio::time::sleep(PATIENCE).await;
        }
    }

    async fn add_up(&self, connection: &mut ConnectionManager) -> Result<(), RedisError> {
        let counted: Vec<(Who, (u64, u64))> = self.state().counted.drain().collect();
        if counted.is_empty() {
            // Whether it is there is worth knowing on a quiet day too.
            return redis::cmd("PING").exec_async(connection).await;
        }
        for counted in counted.chunks(PIPELINE) {
            let mut pipeline = redis::pipe();
            for (who, (count, _)) in counted {
                let key = [self.prefix.as_bytes(), who].concat();
                pipeline.cmd("INCRBY").arg(&key).arg(count);
                pipeline.cmd("PEXPIRE").arg(&key).arg(SHARED_WINDOW.as_millis() as u64).arg("NX").ignore();
                pipeline.cmd("PTTL").arg(&key);
            }
            let answers: Vec<i64> = pipeline.query_async(connection).await?;
            for ((who, (_, allowed)), answer) in counted.iter().zip(answers.chunks_exact(2)) {
                if answer[0].max(0) as u64 > *allowed {
                    self.turn_away(*who, Duration::from_millis(answer[1].max(0) as u64));
                }
            }
        }
        Ok(())
    }

    fn turn_away(&self, who: Who, wait: Duration) {
        let (mut state, now) = (self.state(), Instant::now());
        if state.turned_away.len() >= TURNED_AWAY_MAX {
            state.turned_away.retain(|_, until| *until > now);
        }
        if state.turned_away.len() >= TURNED_AWAY_MAX {
            state.turned_away.clear();
        }
        state.turned_away.insert(who, now + wait.min(SHARED_WINDOW));
    }
}

impl SharedCounts for RedisCounts {
    fn count(&self, who: &[u8], allowed: u64) -> Option<Duration> {
        let who: Who = Sha256::digest(who)[..16].try_into().expect("16 of 32 bytes");
        let (mut state, now) = (self.state(), Instant::now());
        match state.turned_away.get(&who) {
            Some(until) if *until > now => return Some(*until - now),
            Some(_) => drop(state.turned_away.remove(&who)),
            None => {}
        }
        if state.counted.len() < COUNTED_MAX || state.counted.contains_key(&who) {
            state.counted.entry(who).or_insert((0, allowed)).0 += 1;
        }
        None
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write as _;

    use super::*;

    const ALLOWED: u64 = 20;

    /// The server to test with.
    fn server(test: &str) -> Option<Client> {
        let Ok(at) = std::env::var("TAPGATE_TEST_REDIS") else {
            // Past the harness, which keeps to itself what passing tests say.
            let _ = writeln!(std::io::stderr(), "SKIPPED {test}: TAPGATE_TEST_REDIS names no server (deploy/servers)");
            return None;
        };
        Some(Client::open(format!("redis://{at}")).expect("an address"))
    }

    async fn until_turned_away(counts: &RedisCounts, who: &[u8]) -> Duration {
        for _ in 0..200 {
            if let Some(wait) = counts.count(who, ALLOWED) {
                return wait;
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        panic!("nobody is turned away");
    }

    #[tokio::test]
    async fn whoever_asks_two_nodes_in_turns_gets_no_more_than_from_one() {
        let name = "whoever_asks_two_nodes_in_turns_gets_no_more_than_from_one";
        let Some(client) = server(name) else { return };
        let cluster = format!("test-{}", std::process::id());
        let nodes = [RedisCounts::new(&cluster), RedisCounts::new(&cluster)];
        let running = nodes.clone().map(|node| tokio::spawn(node.run(client.clone())));
        // Each node alone would let that pass.
        for _ in 0..ALLOWED - 5 {
            assert!(nodes.iter().all(|node| node.count(b"one", ALLOWED).is_none()));
        }
        for _ in 0..5 {
            assert!(nodes[0].count(b"other", ALLOWED).is_none());
        }
        let waits = [until_turned_away(&nodes[0], b"one").await, until_turned_away(&nodes[1], b"one").await];
        assert!(waits.iter().all(|wait| *wait <= SHARED_WINDOW && !wait.is_zero()), "{waits:?}");
        assert!(nodes[1].count(b"other", ALLOWED).is_none(), "who asks for little is not turned away");

        // Whatever becomes of what Redis has, nobody is turned away because of it.
        let mut connection = client.get_multiplexed_async_connection().await.expect("connects");
        let keys: Vec<Vec<u8>> =
            redis::cmd("KEYS").arg(format!("tapgate:{cluster}:*")).query_async(&mut connection).await.expect("keys");
        assert_eq!(keys.len(), 2);
        assert!(keys.iter().all(|key| !key.windows(3).any(|part| part == b"one")), "it sees no names");
        redis::cmd("DEL").arg(&keys).exec_async(&mut connection).await.expect("deletes");
        tokio::time::sleep(2 * EVERY).await;
        assert!(nodes[1].count(b"other", ALLOWED).is_none());
        running.iter().for_each(|task| task.abort());
    }

    #[tokio::test]
    async fn without_redis_nobody_is_turned_away_and_nothing_grows() {
        let counts = RedisCounts::new("alone");
        let running = tokio::spawn(Arc::clone(&counts).run(Client::open("redis://127.0.0.1:1").expect("an address")));
        for n in 0..COUNTED_MAX + 10 {
            assert!(counts.count(&n.to_le_bytes(), 1).is_none() && counts.count(b"often", 1).is_none());
        }
        assert!(counts.state().counted.len() <= COUNTED_MAX);
        running.abort();
    }

    #[test]
    fn who_is_turned_away_is_let_pass_again_and_there_are_not_too_many_of_them() {
        let counts = RedisCounts::new("alone");
        let who = |n: usize| -> Who { Sha256::digest(n.to_le_bytes())[..16].try_into().unwrap() };
        counts.turn_away(who(1), Duration::ZERO);
        assert!(counts.count(&1_usize.to_le_bytes(), 1).is_none(), "its window has ended");
        for n in 0..TURNED_AWAY_MAX + 10 {
            counts.turn_away(who(n), Duration::from_secs(100));
        }
        let last = counts.count(&(TURNED_AWAY_MAX + 9).to_le_bytes(), 1).expect("is turned away");
        assert!(last <= SHARED_WINDOW, "whatever the server says");
        assert!(counts.state().turned_away.len() <= TURNED_AWAY_MAX);
    }
}
