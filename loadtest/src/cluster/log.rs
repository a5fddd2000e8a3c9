//! The fold of the log at the end, read beside whoever owns its shards, claiming nothing.

use std::collections::BTreeSet;

use clap::ValueEnum;
use engine::event::Event;
use engine::model::ids::ShardId;
use engine::record;
use storage::journal::kafka::Options;
use storage::journal::kafka::offline::Walk;
use storage::journal::{Entry, JournalError};

use super::servers::Servers;
use crate::crash::journaled::{Journaled, Reading};

/// A bug in the servers, as it would look in the log: the comparison has to find it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Plant {
    /// A record with a scan is not there.
    Lost,
    /// A record with a scan is there twice.
    Doubled,
}

/// Reads it all. What is damaged comes in words.
///
/// # Errors
/// The brokers do not answer, or what is there is no log of ours.
pub(super) fn read(servers: &Servers, plant: Option<Plant>) -> anyhow::Result<(Journaled, Vec<String>)> {
    let options = Options {
        topic: servers.topic.clone(),
        shards: servers.shards,
        ..Options::new(servers.kafka.join(","), servers.cluster.clone())
    };
    let mut walk = Walk::begin(&options)?;
    let (mut reading, mut damage) = (Reading::new(servers.shards), Vec::new());
    let mut planted = Planted { plant, shards: BTreeSet::new() };
    loop {
        match walk.next_record() {
            Ok(None) => return Ok((reading.finish(), damage)),
            Ok(Some(Entry { shard, payload, .. })) => {
                for _ in 0..planted.times(shard, payload)? {
                    reading.record(shard, payload)?;
                }
            }
            Err(JournalError::Damaged { file, offset, why }) => {
                damage.push(format!("{file} is damaged at {offset}: {why}"));
            }
            Err(other) => return Err(other.into()),
        }
    }
}

struct Planted {
    plant: Option<Plant>,
    shards: BTreeSet<ShardId>,
}

impl Planted {
    /// How often a record is read. The first with a scan is the one, of each shard.
    fn times(&mut self, shard: ShardId, payload: &[u8]) -> anyhow::Result<u32> {
        let Some(plant) = self.plant else { return Ok(1) };
        let scans = record::read(payload)?.events.iter().any(|event| matches!(event, Event::Scanned(_)));
        let is_the_one = scans && self.shards.insert(shard);
        Ok(match plant {
            _ if !is_the_one => 1,
            Plant::Lost => 0,
            Plant::Doubled => 2,
        })
    }
}
