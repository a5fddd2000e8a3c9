//! The owner's side: claims, writes, and knows when it is the owner no more. A machine without I/O, one for each shard that a
//! process has to do with.
//!
//! Whoever drives it appends what it gives out, in that order, and tells it of everything that happens: what became of a write
//! ([`Owner::delivered`], [`Owner::failed`]), and every record of the partition, from the first on ([`Owner::tailed`]). Each
//! time it answers with a [`Decision`].

use core::fmt;

use engine::model::ids::ShardId;
use engine::plants::{Plant, planted};

use super::{
    fold::{Damage, Fold, Verdict},
    record::{Header, Incarnation},
};
use crate::journal::{Chain, format::chain_after};

/// Names a write, to say later what became of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Ticket {
    pub incarnation: Incarnation,
    pub what: Sent,
}

/// What was written.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Sent {
    Claim,
    Batch { seq: u64 },
    Heartbeat,
}

/// What the driver has to do.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Decision {
    Nothing,
    /// The shard is owned from here on. Its records end at this offset: replay up to there.
    Own {
        records_end: u64,
    },
    /// The oldest batch that was not acknowledged is durable, and lies at this offset.
    Acknowledge {
        offset: u64,
    },
    /// The shard is not owned any more. Nothing is acknowledged until it was claimed again.
    StepDown(Why),
}

/// Why a shard is owned no more.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Why {
    /// A write is not where it has to be: somebody else has written.
    OutOfPlace { expected: u64, found: u64 },
    /// A batch became durable before an older one.
    OutOfOrder { expected: u64, found: u64 },
    /// Nobody knows what became of a write.
    Unknown(String),
    /// Another process has claimed the shard.
    Deposed { epoch: u64, by: Incarnation },
    /// Another process claimed it first.
    CameTooLate { epoch: u64 },
    /// Somebody else's record lies where the next batch belongs.
    Stray { offset: u64 },
}

impl fmt::Display for Why {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::OutOfPlace { expected, found } => {
                write!(
                    f,
                    "a record lies at offset {found} instead of {expected}: another process writes into this shard"
                )
            }
            Self::OutOfOrder { expected, found } => {
                write!(f, "batch {found} became durable before batch {expected}")
            }
            Self::Unknown(why) => write!(f, "what became of a record is not known ({why})"),
            Self::Deposed { epoch, by } => {
                write!(f, "another process has taken the shard over (epoch {epoch}, incarnation {by:?})")
            }
            Self::CameTooLate { epoch } => {
                write!(f, "another process claimed the shard at the same time and was first (epoch {epoch})")
            }
            Self::Stray { offset } => write!(f, "another process has written at offset {offset}"),
        }
    }
}

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
enum State {
    Idle,
    /// A claim was appended, and was not read back yet.
    Claiming {
        epoch: u64,
        incarnation: Incarnation,
        before: (u64, Chain),
    },
    Owning(Owning),
}

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct Owning {
    epoch: u64,
    incarnation: Incarnation,
    /// Where the next write that is acknowledged has to lie.
    expected: u64,
    /// The oldest batch that is not acknowledged.
    oldest: u64,
    next_seq: u64,
    chain: Chain,
    in_flight: u32,
}

/// A shard, from the side of a process that owns it or wants to.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Owner {
    shard: ShardId,
    fold: Fold,
    state: State,
}

impl Owner {
    /// Of a shard whose partition is to be read as `fold` says, from there on.
    pub fn new(shard: ShardId, fold: Fold) -> Self {
        Self { shard, fold, state: State::Idle }
    }

    /// What is known of the partition.
    pub fn fold(&self) -> &Fold {
        &self.fold
    }

    /// Whether it owns the shard, as far as it knows.
    pub fn owns(&self) -> bool {
        matches!(self.state, State::Owning(_))
    }

    /// Whether it neither owns the shard nor has asked for it.
    pub fn is_idle(&self) -> bool {
        self.state == State::Idle
    }

    /// How many of its writes are under way.
    pub fn in_flight(&self) -> u32 {
        if let State::Owning(owning) = &self.state { owning.in_flight } else { 0 }
    }

    /// A claim to be appended. `incarnation` was never used before. The more of the partition was read, the likelier it holds.
    ///
    /// # Panics
    /// If the shard is owned or claimed already.
    pub fn claim(&mut self, incarnation: Incarnation) -> (Header, Ticket) {
        assert!(self.is_idle(), "claimed while {:?}", self.state);
        let epoch = self.fold.epoch() + 1;
        self.state = State::Claiming { epoch, incarnation, before: (self.fold.next_seq(), self.fold.chain()) };
        (Header::Claim { epoch, incarnation }, Ticket { incarnation, what: Sent::Claim })
    }

    /// The next batch, to be appended behind all that was given out before; `None` if the shard is not owned.
    pub fn batch(&mut self, payload: &[u8]) -> Option<(Header, Ticket)> {
        let State::Owning(owning) = &mut self.state else { return None };
        let Owning { epoch, incarnation, next_seq: seq, chain: prev_hash, .. } = *owning;
        owning.next_seq += 1;
        owning.chain = chain_after(&prev_hash, self.shard, payload);
        owning.in_flight += 1;
        Some((Header::Batch { epoch, incarnation, seq, prev_hash }, Ticket { incarnation, what: Sent::Batch { seq } }))
    }

    /// A heartbeat, to be appended, if the shard is owned and none of its writes is under way.
    pub fn heartbeat(&mut self) -> Option<(Header, Ticket)> {
        let State::Owning(owning @ Owning { in_flight: 0, .. }) = &mut self.state else { return None };
        let Owning { epoch, incarnation, .. } = *owning;
        owning.in_flight += 1;
        Some((Header::Heartbeat { epoch, incarnation }, Ticket { incarnation, what: Sent::Heartbeat }))
    }

    /// A write is durable, and lies at `offset`.
    pub fn delivered(&mut self, ticket: Ticket, offset: u64) -> Decision {
        match &mut self.state {
            // Its offset is not enough: what lies before it decides. `tailed` will come to it.
            State::Claiming { epoch, incarnation, before: (next_seq, chain) }
                if planted(Plant::ClaimNotReadBack) && ticket.incarnation == *incarnation =>
            {
                let (epoch, incarnation, next_seq, chain) = (*epoch, *incarnation, *next_seq, *chain);
                self.own(epoch, incarnation, offset, next_seq, chain)
            }
            State::Owning(owning) if owning.incarnation == ticket.incarnation && ticket.what != Sent::Claim => {
                let expected = owning.expected;
                if offset != expected && !planted(Plant::OffsetNotCompared) {
                    return self.step_down(Why::OutOfPlace { expected, found: offset });
                }
                owning.expected = offset + 1;
                owning.in_flight -= 1;
                let Sent::Batch { seq } = ticket.what else { return Decision::Nothing };
                let oldest = owning.oldest;
                if seq != oldest && !planted(Plant::OldestNotCompared) {
                    return self.step_down(Why::OutOfOrder { expected: oldest, found: seq });
                }
                owning.oldest = seq + 1;
                Decision::Acknowledge { offset }
            }
            // An earlier incarnation's: whatever it was, the log says what has become of it.
            _ => Decision::Nothing,
        }
    }

    /// Nobody knows whether a write is durable: it took too long, or was called a duplicate without an offset.
    pub fn failed(&mut self, ticket: Ticket, why: &str) -> Decision {
        match &self.state {
            State::Claiming { incarnation, .. } | State::Owning(Owning { incarnation, .. })
                if *incarnation == ticket.incarnation =>
            {
                self.step_down(Why::Unknown(why.to_owned()))
            }
            _ => Decision::Nothing,
        }
    }

    /// The next record of the partition was read.
    ///
    /// # Errors
    /// [`Damage`]: this partition is not to be written or read any further.
    pub fn tailed(&mut self, offset: u64, header: &Header, payload: &[u8]) -> Result<(Verdict, Decision), Damage> {
        let verdict = self.fold.step(offset, header, payload)?;
        let decision = match &self.state {
            State::Claiming { epoch, incarnation, before }
                if matches!(header, Header::Claim { .. }) && header.incarnation() == *incarnation =>
            {
                let (epoch, incarnation, before) = (*epoch, *incarnation, *before);
                if self.fold.incarnation() == incarnation {
                    let at_claim = (self.fold.next_seq(), self.fold.chain());
                    let (next_seq, chain) = if planted(Plant::NumberFromBeforeTheClaim) { before } else { at_claim };
                    self.own(epoch, incarnation, offset, next_seq, chain)
                } else {
                    self.step_down(Why::CameTooLate { epoch: self.fold.epoch() })
                }
            }
            State::Owning(owning) if header.incarnation() != owning.incarnation => match verdict {
                Verdict::Claimed => self.step_down(Why::Deposed { epoch: header.epoch(), by: header.incarnation() }),
                _ => self.step_down(Why::Stray { offset }),
            },
            _ => Decision::Nothing,
        };
        Ok((verdict, decision))
    }

    fn own(&mut self, epoch: u64, incarnation: Incarnation, claim: u64, next_seq: u64, chain: Chain) -> Decision {
        let (expected, oldest) = (claim + 1, next_seq);
        self.state = State::Owning(Owning { epoch, incarnation, expected, oldest, next_seq, chain, in_flight: 0 });
        Decision::Own { records_end: self.fold.records_end() }
    }

    /// Gives the shard up, for a reason of the driver's own.
    pub fn give_up(&mut self) {
        self.state = State::Idle;
    }

    fn step_down(&mut self, why: Why) -> Decision {
        self.state = State::Idle;
        Decision::StepDown(why)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SHARD: ShardId = ShardId(0);
    const ONE: Incarnation = Incarnation([1; 16]);
    const TWO: Incarnation = Incarnation([2; 16]);

    /// Owns the shard since offset 0.
    fn owner() -> Owner {
        let mut owner = Owner::new(SHARD, Fold::new(SHARD));
        let (claim, ticket) = owner.claim(ONE);
        assert_eq!(owner.delivered(ticket, 0), Decision::Nothing, "not before it was read back");
        let (verdict, decision) = owner.tailed(0, &claim, b"").expect("holds");
        assert_eq!((verdict, decision), (Verdict::Claimed, Decision::Own { records_end: 0 }));
        owner
    }

    fn batch(owner: &mut Owner) -> Ticket {
        owner.batch(b"payload").expect("it owns the shard").1
    }

    #[test]
    fn batches_are_acknowledged_in_their_places() {
        let mut owner = owner();
        let (first, second) = (batch(&mut owner), batch(&mut owner));
        assert_eq!(owner.heartbeat(), None, "it is not idle");
        assert_eq!(owner.delivered(first, 1), Decision::Acknowledge { offset: 1 });
        assert_eq!(owner.delivered(second, 2), Decision::Acknowledge { offset: 2 });
        let (_, beat) = owner.heartbeat().expect("idle");
        let third = batch(&mut owner);
        assert_eq!(owner.delivered(beat, 3), Decision::Nothing);
        assert_eq!(owner.delivered(third, 4), Decision::Acknowledge { offset: 4 });
    }

    #[test]
    fn whatever_else_happens_ends_in_stepping_down() {
        type Happens = fn(&mut Owner, Ticket, Ticket) -> Decision;
        let cases: [(&str, Happens); 7] = [
            ("a record further on", |owner, first, _| owner.delivered(first, 2)),
            ("the second before the first", |owner, _, second| owner.delivered(second, 1)),
            ("a time-out", |owner, _, second| owner.failed(second, "timed out")),
            ("a claim", |owner, _, _| {
                owner.tailed(1, &Header::Claim { epoch: 2, incarnation: TWO }, b"").expect("holds").1
            }),
            ("a claim that does not count", |owner, _, _| {
                owner.tailed(1, &Header::Claim { epoch: 1, incarnation: TWO }, b"").expect("holds").1
            }),
            ("a batch of a zombie", |owner, _, _| {
                let zombie = Header::Batch { epoch: 0, incarnation: TWO, seq: 1, prev_hash: [0; 16] };
                owner.tailed(1, &zombie, b"").expect("holds").1
            }),
            ("a heartbeat out of place", |owner, first, second| {
                owner.delivered(first, 1);
                owner.delivered(second, 2);
                let (_, beat) = owner.heartbeat().expect("idle");
                owner.delivered(beat, 4)
            }),
        ];
        for (what, happens) in cases {
            let mut owner = owner();
            let (first, second) = (batch(&mut owner), batch(&mut owner));
            let decision = happens(&mut owner, first, second);
            assert!(matches!(decision, Decision::StepDown(_)), "{what}: {decision:?}");
            assert!(owner.is_idle() && owner.batch(b"more").is_none() && owner.heartbeat().is_none(), "{what}");
            for ticket in [first, second] {
                assert_eq!(owner.delivered(ticket, 1), Decision::Nothing, "{what}: nothing is acknowledged afterwards");
            }
        }
    }

    #[test]
    fn its_own_records_in_the_log_are_no_news() {
        let mut owner = owner();
        let (header, ticket) = owner.batch(b"a").expect("owned");
        assert_eq!(owner.tailed(1, &header, b"a"), Ok((Verdict::Record, Decision::Nothing)), "the tail may be first");
        assert_eq!(owner.delivered(ticket, 1), Decision::Acknowledge { offset: 1 });
    }

    #[test]
    fn who_comes_second_does_not_own() {
        let mut owner = Owner::new(SHARD, Fold::new(SHARD));
        let (mine, ticket) = owner.claim(ONE);
        owner.tailed(0, &Header::Claim { epoch: 1, incarnation: TWO }, b"").expect("holds");
        owner.delivered(ticket, 1);
        let (verdict, decision) = owner.tailed(1, &mine, b"").expect("holds");
        assert_eq!((verdict, decision), (Verdict::Ignored, Decision::StepDown(Why::CameTooLate { epoch: 1 })));
        // Knowing that, the next one holds, and it goes on where the other has stopped.
        let (again, _) = owner.claim(Incarnation([3; 16]));
        let theirs = Header::Batch { epoch: 1, incarnation: TWO, seq: 1, prev_hash: [0; 16] };
        owner.tailed(2, &theirs, b"theirs").expect("holds");
        assert_eq!(owner.tailed(3, &again, b"").expect("holds").1, Decision::Own { records_end: 3 });
        let (header, _) = owner.batch(b"mine").expect("owned");
        assert!(matches!(header, Header::Batch { epoch: 2, seq: 2, .. }), "{header:?}");
    }
}
