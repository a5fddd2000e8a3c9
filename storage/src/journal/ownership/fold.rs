//! The fold: what counts of a partition, and what is ignored. The same for everybody who reads it.

use std::collections::VecDeque;

use engine::model::ids::ShardId;
use engine::plants::{Plant, planted};
use serde::{Deserialize, Serialize};

use super::record::{Header, Incarnation};
use crate::journal::{Chain, format::chain_after};

/// How many of the current owner's batches are remembered, to know a repeated one: more than a producer has in flight (5).
const REMEMBERED: usize = 8;

/// Where a reader of one partition stands.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Fold {
    shard: ShardId,
    next_offset: u64,
    epoch: u64,
    incarnation: Incarnation,
    next_seq: u64,
    chain: Chain,
    records_end: u64,
    /// Number and chain hash of the current owner's latest batches.
    recent: VecDeque<(u64, Chain)>,
}

/// What a record was.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// The next record of the shard.
    Record,
    /// A claim, and from here on its incarnation owns the shard.
    Claimed,
    /// A claim that came too late, a batch or a heartbeat of somebody who did not own the shard, or out of order.
    Ignored,
    /// The owner's heartbeat.
    Heartbeat,
    /// The same batch once more, to the last byte.
    Repeated,
}

/// What cannot have been written by anybody who keeps the rules: bytes or records are missing or changed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Damage {
    #[error("records are missing: offset {found} follows where {expected} should")]
    Gap { expected: u64, found: u64 },
    #[error("batch {seq} does not follow from the one before it")]
    Chain { seq: u64 },
    #[error("batch {seq} is there twice, with different contents")]
    TwoOfOneNumber { seq: u64 },
}

impl Fold {
    /// Before the first record of a shard.
    pub fn new(shard: ShardId) -> Self {
        Self {
            shard,
            next_offset: 0,
            epoch: 0,
            incarnation: Incarnation::default(),
            next_seq: 1,
            chain: [0; 16],
            records_end: 0,
            recent: VecDeque::new(),
        }
    }

    /// Right behind a batch that is known to be valid: it carries all that the fold knows.
    pub fn behind(shard: ShardId, offset: u64, header: &Header, payload: &[u8]) -> Option<Self> {
        let Header::Batch { epoch, incarnation, seq, prev_hash } = *header else { return None };
        let chain = chain_after(&prev_hash, shard, payload);
        let mut this = Self { epoch, incarnation, next_seq: seq + 1, chain, ..Self::new(shard) };
        this.next_offset = offset + 1;
        this.records_end = offset + 1;
        this.recent.push_back((seq, chain));
        Some(this)
    }

    /// Takes in the next record of the partition.
    ///
    /// # Errors
    /// [`Damage`]; the fold stays where it was, and is not to go on.
    pub fn step(&mut self, offset: u64, header: &Header, payload: &[u8]) -> Result<Verdict, Damage> {
        if offset != self.next_offset {
            return Err(Damage::Gap { expected: self.next_offset, found: offset });
        }
        let verdict = match *header {
            Header::Claim { epoch, incarnation } => {
                let valid = epoch == self.epoch + 1 || (planted(Plant::LooseClaim) && epoch >= self.epoch);
                if valid {
                    (self.epoch, self.incarnation) = (epoch, incarnation);
                    self.recent.clear();
                }
                if valid { Verdict::Claimed } else { Verdict::Ignored }
            }
            _ if (header.epoch(), header.incarnation()) != (self.epoch, self.incarnation) || self.epoch == 0 => {
                Verdict::Ignored
            }
            Header::Heartbeat { .. } => Verdict::Heartbeat,
            Header::Batch { seq, prev_hash, .. } if seq == self.next_seq => {
                if prev_hash != self.chain {
                    return Err(Damage::Chain { seq });
                }
                self.chain = chain_after(&prev_hash, self.shard, payload);
                self.next_seq += 1;
                self.records_end = offset + 1;
                if self.recent.len() == REMEMBERED {
                    self.recent.pop_front();
                }
                self.recent.push_back((seq, self.chain));
                Verdict::Record
            }
            Header::Batch { seq, prev_hash, .. } => match self.recent.iter().find(|(known, _)| *known == seq) {
                Some((_, chain)) if chain_after(&prev_hash, self.shard, payload) == *chain => Verdict::Repeated,
                Some(_) => return Err(Damage::TwoOfOneNumber { seq }),
                None => Verdict::Ignored,
            },
        };
        self.next_offset = offset + 1;
        Ok(verdict)
    }

    /// The first offset that it has not seen.
    pub fn next_offset(&self) -> u64 {
        self.next_offset
    }

    /// The current epoch; 0 before the first claim.
    pub fn epoch(&self) -> u64 {
        self.epoch
    }

    /// Who owns the shard here.
    pub fn incarnation(&self) -> Incarnation {
        self.incarnation
    }

    /// The number of the shard's next batch: one more than there are valid ones.
    pub fn next_seq(&self) -> u64 {
        self.next_seq
    }

    /// The chain hash after the last valid batch.
    pub fn chain(&self) -> Chain {
        self.chain
    }

    /// The offset behind the last valid batch; 0 if there is none.
    pub fn records_end(&self) -> u64 {
        self.records_end
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SHARD: ShardId = ShardId(3);
    const ONE: Incarnation = Incarnation([1; 16]);
    const TWO: Incarnation = Incarnation([2; 16]);

    fn claim(epoch: u64, incarnation: Incarnation) -> Header {
        Header::Claim { epoch, incarnation }
    }

    fn batch(epoch: u64, incarnation: Incarnation, seq: u64, prev_hash: Chain) -> Header {
        Header::Batch { epoch, incarnation, seq, prev_hash }
    }

    fn after(before: Chain, payload: &[u8]) -> Chain {
        chain_after(&before, SHARD, payload)
    }

    #[test]
    fn an_evening_with_two_owners() {
        let (a, b) = (after([0; 16], b"a"), after(after([0; 16], b"a"), b"b"));
        let mut fold = Fold::new(SHARD);
        let evening: [(Header, &[u8], Verdict); 10] = [
            (batch(0, ONE, 1, [0; 16]), b"early", Verdict::Ignored),
            (claim(1, ONE), b"", Verdict::Claimed),
            (batch(1, ONE, 1, [0; 16]), b"a", Verdict::Record),
            (batch(1, ONE, 1, [0; 16]), b"a", Verdict::Repeated),
            (Header::Heartbeat { epoch: 1, incarnation: ONE }, b"", Verdict::Heartbeat),
            (claim(1, TWO), b"", Verdict::Ignored), // too late
            (claim(2, TWO), b"", Verdict::Claimed),
            (batch(1, ONE, 2, a), b"zombie", Verdict::Ignored),
            (batch(2, TWO, 3, b), b"ahead", Verdict::Ignored),
            (batch(2, TWO, 2, a), b"b", Verdict::Record),
        ];
        for (offset, (header, payload, verdict)) in evening.into_iter().enumerate() {
            assert_eq!(fold.step(offset as u64, &header, payload), Ok(verdict), "at {offset}");
        }
        assert_eq!((fold.next_seq(), fold.epoch(), fold.records_end(), fold.chain()), (3, 2, 10, b));
        // Behind its last batch, a reader that knows nothing else stands where this one does.
        assert_eq!(Fold::behind(SHARD, 9, &batch(2, TWO, 2, a), b"b"), Some(fold));
        assert_eq!(Fold::behind(SHARD, 6, &claim(2, TWO), b""), None);
    }

    #[test]
    fn damage_is_found_and_never_skipped() {
        let mut fold = Fold::new(SHARD);
        assert_eq!(fold.step(1, &claim(1, ONE), b""), Err(Damage::Gap { expected: 0, found: 1 }));
        fold.step(0, &claim(1, ONE), b"").expect("holds");
        fold.step(1, &batch(1, ONE, 1, [0; 16]), b"a").expect("holds");
        let before = fold.clone();
        let other = fold.step(2, &batch(1, ONE, 1, [0; 16]), b"A");
        assert_eq!(other, Err(Damage::TwoOfOneNumber { seq: 1 }));
        assert_eq!(fold.step(2, &batch(1, ONE, 2, [0; 16]), b"b"), Err(Damage::Chain { seq: 2 }));
        assert_eq!(fold, before);
    }
}
