//! A journal on a disk in memory, built record by record, so that a test knows where each byte of it lies.
#![allow(dead_code)] // each suite uses its own part of this

use std::sync::Arc;

use engine::model::ids::ShardId;
use storage::journal::{
    Chain, JournalError,
    log::{LogOptions, LogWriter},
    offline::Offline,
    recover::recover,
};
use storage::testing::faults::{Chance, FaultDisk};

/// Small enough that 64 KB of log cross several segments and each look at one is quick.
pub(crate) const OPTIONS: LogOptions =
    LogOptions { shards: 4, segment_bytes: 20 << 10, group_bytes_max: 8 << 10, create: true, accept_loss: None };

/// One record and where it lies.
#[derive(Clone, Debug)]
pub(crate) struct Placed {
    pub(crate) shard: ShardId,
    pub(crate) payload: Vec<u8>,
    pub(crate) segment: u64,
    /// Where its frame begins and its payload ends, in bytes of its segment.
    pub(crate) bytes: std::ops::Range<u64>,
    /// Where its group begins.
    pub(crate) group: u64,
    /// The chain hash after it.
    pub(crate) chain: Chain,
}

/// The payload of record `number`: sometimes empty, sometimes full of zeros, never ending in one.
pub(crate) fn payload(number: usize, chance: &mut Chance) -> Vec<u8> {
    let len = match chance.below(10) {
        0 => 0,
        1..=6 => chance.below(200),
        _ => chance.below(3_000),
    } as usize;
    let mut bytes: Vec<u8> = (0..len).map(|_| chance.draw() as u8).collect();
    if number.is_multiple_of(5) {
        bytes.fill(0);
    }
    if let Some(last) = bytes.last_mut() {
        *last = 1 + number as u8 % 255;
    }
    bytes
}

/// Appends groups of a few records each until the log has `bytes` more; returns what it holds in addition.
pub(crate) fn fill(writer: &mut LogWriter<FaultDisk>, from: usize, bytes: usize, chance: &mut Chance) -> Vec<Placed> {
    let mut all = Vec::new();
    let mut written = 0;
    while written < bytes {
        let mut group = Vec::new();
        for _ in 0..1 + chance.below(5) {
            let shard = ShardId(chance.below(4) as u16);
            let payload = payload(from + all.len() + group.len(), chance);
            if writer.stage(shard, &payload).is_err() {
                break;
            }
            group.push((shard, payload));
        }
        let mut chain = writer.end().chain;
        writer.flush().expect("no faults");
        let end = writer.end();
        let len: usize = 64 + 8 + group.iter().map(|(_, payload)| room(payload)).sum::<usize>();
        let start = end.offset - len.next_multiple_of(4096) as u64;
        let mut at = start + 64;
        for (shard, payload) in group {
            chain = chain_after(&chain, shard, &payload);
            let bytes = at..at + 40 + payload.len() as u64;
            at += room(&payload) as u64;
            all.push(Placed { shard, payload, segment: end.segment, bytes, group: start, chain });
        }
        assert_eq!(chain, end.chain, "the chain is what the format says it is");
        written += len.next_multiple_of(4096);
    }
    all
}

fn room(payload: &[u8]) -> usize {
    (40 + payload.len()).next_multiple_of(8)
}

fn chain_after(before: &Chain, shard: ShardId, payload: &[u8]) -> Chain {
    use sha2::Digest as _;
    let mut hash = sha2::Sha256::new();
    hash.update(before);
    hash.update(shard.0.to_le_bytes());
    hash.update((payload.len() as u32).to_le_bytes());
    hash.update(payload);
    hash.finalize()[..16].try_into().expect("16 bytes")
}

/// A new journal of about `bytes`.
pub(crate) fn build(bytes: usize, seed: u64) -> (FaultDisk, Vec<Placed>) {
    let disk = FaultDisk::new();
    let (mut writer, _) = recover(Arc::new(disk.clone()), OPTIONS).expect("new");
    let placed = fill(&mut writer, 0, bytes, &mut Chance(seed));
    (disk, placed)
}

/// The names of segments, raw ones only.
pub(crate) fn name(segment: u64) -> String {
    format!("{segment:010}.log")
}

/// Reads all there is without changing anything: what was read, and what stopped it.
pub(crate) fn read_all(disk: &FaultDisk) -> (Vec<(ShardId, Vec<u8>)>, Option<JournalError>) {
    let mut offline = match Offline::on(Arc::new(disk.clone())) {
        Ok(offline) => offline,
        Err(error) => return (Vec::new(), Some(error)),
    };
    let mut read = Vec::new();
    loop {
        match offline.next() {
            Ok(Some(entry)) => read.push((entry.shard, entry.payload.to_vec())),
            Ok(None) => {
                let ended_at = offline.expected().map(|(lsn, _)| lsn);
                assert!(offline.ends_at().is_none_or(|end| Some(end) == ended_at), "it said beforehand where it ends");
                return (read, None);
            }
            Err(error) => return (read, Some(error)),
        }
    }
}

/// Whether what was read is what was written, as far as it goes.
pub(crate) fn is_prefix(read: &[(ShardId, Vec<u8>)], placed: &[Placed]) -> bool {
    read.len() <= placed.len()
        && read
            .iter()
            .zip(placed)
            .all(|((shard, payload), placed)| *shard == placed.shard && *payload == placed.payload)
}
