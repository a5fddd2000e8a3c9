//! Two processes want one shard, and everything happens to them that can: the rules of ownership, exhaustively.
//!
//! Not a model of the rules but the machines themselves (`journal::ownership`), in a world that is small enough to see all of it:
//! every order of claims, batches, crashes, requests that are lost or arrive late, and answers that are lost or arrive late, up
//! to a log of so many records. In every state of that world what was acknowledged has to count in the fold, once, and no two
//! incarnations may own the shard in one epoch.
//!
//! With `--features plants` each clause is left out in turn, and the search has to find what that breaks.

use std::{
    collections::{HashSet, VecDeque},
    hash::{BuildHasher as _, RandomState},
};

use engine::model::ids::ShardId;
use storage::journal::ownership::{Damage, Decision, Fold, Header, Incarnation, Owner, Ticket, Verdict};

const SHARD: ShardId = ShardId(0);
/// Two who disagree are enough for each of the mutants; a third adds nothing but states.
const PROCESSES: usize = 2;
/// How many batches an owner has under way at most.
const PIPELINE: u32 = 2;

/// How much of the world is looked at.
#[derive(Clone, Copy)]
struct Bounds {
    /// The longest log, in records.
    log: usize,
    /// How many claims are ever made.
    claims: u8,
}

/// A short log on which three claims meet, and a longer one for two; with how many states each has.
const WORLDS: [(Bounds, usize); 2] = [(Bounds { log: 4, claims: 3 }, 98_703), (Bounds { log: 5, claims: 2 }, 13_117)];

#[derive(Clone, PartialEq, Eq, Hash)]
struct World {
    log: Vec<Header>,
    processes: [Process; PROCESSES],
    claims: u8,
    /// What was acknowledged: the batch's number and where it lies.
    acknowledged: Vec<(u64, u64)>,
}

#[derive(Clone, PartialEq, Eq, Hash)]
struct Process {
    owner: Owner,
    /// Sent to the broker and not there yet. The order of one process's requests is kept.
    requests: VecDeque<(Header, Ticket)>,
    /// Answered by the broker and not here yet.
    answers: VecDeque<(Ticket, u64)>,
}

fn newborn() -> Owner {
    Owner::new(SHARD, Fold::new(SHARD))
}

impl World {
    fn new() -> Self {
        let process = Process { owner: newborn(), requests: VecDeque::new(), answers: VecDeque::new() };
        Self { log: Vec::new(), processes: [process.clone(), process], claims: 0, acknowledged: Vec::new() }
    }

    /// What is wrong with it.
    fn broken(&self) -> Option<&'static str> {
        let mut fold = Fold::new(SHARD);
        let mut counts = Vec::new();
        for (offset, header) in self.log.iter().enumerate() {
            let epoch = fold.epoch();
            match fold.step(offset as u64, header, b"") {
                Ok(Verdict::Claimed) if fold.epoch() <= epoch => return Some("two own the shard in one epoch"),
                Ok(verdict) => counts.push(verdict == Verdict::Record),
                Err(_) => return Some("owners have written what no reader can follow"),
            }
        }
        let mut numbers = HashSet::new();
        for (seq, offset) in &self.acknowledged {
            if !numbers.insert(seq) {
                return Some("one number is acknowledged twice");
            }
            if !counts[*offset as usize] {
                return Some("what was acknowledged does not count");
            }
        }
        None
    }

    /// The process reads the log on, up to `end`.
    fn tail(&mut self, at: usize, end: usize) -> Result<(), Damage> {
        let owner = &mut self.processes[at].owner;
        for offset in owner.fold().next_offset() as usize..end {
            owner.tailed(offset as u64, &self.log[offset], b"")?;
        }
        Ok(())
    }

    /// Does at once what makes no difference when it is done: a process that owns nothing any more begins as a newborn would,
    /// reading the whole log before it claims; the others read on to the next record that is news to them.
    fn settle(&mut self) {
        for Process { owner, .. } in &mut self.processes {
            if owner.is_idle() {
                *owner = newborn();
                continue;
            }
            while let Some(header) = self.log.get(owner.fold().next_offset() as usize) {
                let mut then = owner.clone();
                match then.tailed(owner.fold().next_offset(), header, b"") {
                    Ok((_, Decision::Nothing)) => *owner = then,
                    _ => break,
                }
            }
        }
    }

    /// A world in which the two have changed places is the same.
    fn fingerprint(&self, hasher: &RandomState) -> u64 {
        let mut processes = self.processes.each_ref().map(|process| hasher.hash_one(process));
        processes.sort_unstable();
        hasher.hash_one((&self.log, processes, self.claims, &self.acknowledged))
    }

    /// All that can happen next.
    fn next(&self, bounds: Bounds, mut then: impl FnMut(Self)) {
        for (at, process) in self.processes.iter().enumerate() {
            let mut with = |change: &mut dyn FnMut(&mut World)| {
                let mut world = self.clone();
                change(&mut world);
                world.settle();
                then(world);
            };
            if process.owner.is_idle() {
                if self.claims < bounds.claims {
                    with(&mut |world| {
                        if world.tail(at, self.log.len()).is_ok() {
                            world.claims += 1;
                            let claim = world.processes[at].owner.claim(Incarnation([world.claims; 16]));
                            world.processes[at].requests.push_back(claim);
                        }
                    });
                }
            } else {
                // It is killed, or gives up waiting; its requests may still arrive.
                with(&mut |world| world.processes[at].owner.give_up());
                if process.owner.fold().next_offset() < self.log.len() as u64 {
                    with(&mut |world| {
                        // Damage is found by whoever looks at the whole log.
                        let _ = world.tail(at, process.owner.fold().next_offset() as usize + 1);
                    });
                }
            }
            if process.owner.owns() && process.owner.in_flight() < PIPELINE {
                with(&mut |world| {
                    let batch = world.processes[at].owner.batch(b"").expect("it owns the shard");
                    world.processes[at].requests.push_back(batch);
                });
            }
            if !process.requests.is_empty() {
                // The connection breaks: this request is lost, and all behind it.
                with(&mut |world| world.processes[at].requests.clear());
                if self.log.len() < bounds.log {
                    with(&mut |world| {
                        let (header, ticket) = world.processes[at].requests.pop_front().expect("there is one");
                        world.processes[at].answers.push_back((ticket, world.log.len() as u64));
                        world.log.push(header);
                    });
                }
            }
            if !process.answers.is_empty() {
                with(&mut |world| {
                    let (ticket, offset) = world.processes[at].answers.pop_front().expect("there is one");
                    let claims = !world.processes[at].owner.owns();
                    let mut decision = world.processes[at].owner.delivered(ticket, offset);
                    if let Decision::Acknowledge { offset } = decision {
                        let Header::Batch { seq, .. } = world.log[offset as usize] else { unreachable!("a batch") };
                        world.acknowledged.push((seq, offset));
                        world.acknowledged.sort_unstable();
                        decision = Decision::Nothing;
                    }
                    // Whoever waits for a claim reads through it as soon as it is written.
                    if claims && decision == Decision::Nothing {
                        let _ = world.tail(at, offset as usize + 1);
                    }
                });
            }
        }
    }
}

/// Looks at every state that can be reached; says what is wrong with the first that is broken, and how many there were.
fn search(bounds: Bounds, states_max: usize) -> (Option<(&'static str, World)>, usize) {
    // States are remembered by 64 bits of themselves: among a million, two share them with odds of 1 to 37 million.
    let hasher = RandomState::new();
    let mut seen = HashSet::new();
    let mut to_see = VecDeque::from([World::new()]);
    while let Some(world) = to_see.pop_front() {
        if let Some(wrong) = world.broken() {
            return (Some((wrong, world)), seen.len());
        }
        world.next(bounds, |next| {
            if seen.insert(next.fingerprint(&hasher)) {
                to_see.push_back(next);
            }
        });
        assert!(seen.len() <= states_max, "the world is larger than it was");
    }
    (None, seen.len())
}

/// One test: which plant is awake is the whole process's matter.
#[test]
fn no_order_of_events_loses_what_an_owner_acknowledged() {
    for (bounds, known) in WORLDS {
        let (broken, states) = search(bounds, 2 * known);
        if let Some((wrong, world)) = broken {
            panic!("{wrong}: {:?}, acknowledged {:?}", world.log, world.acknowledged);
        }
        assert_eq!(states, known, "the world is as large as it was");
    }
    #[cfg(feature = "plants")]
    every_clause_is_needed();
}

#[cfg(feature = "plants")]
fn every_clause_is_needed() {
    use engine::plants::{Plant, wake};
    for &plant in Plant::OF_OWNERSHIP {
        wake(Some(plant));
        let caught = WORLDS.iter().find_map(|(bounds, known)| {
            let (broken, states) = search(*bounds, 10 * known);
            broken.map(|(wrong, world)| (wrong, world, states))
        });
        wake(None);
        let (wrong, world, states) = caught.unwrap_or_else(|| panic!("{} is not caught", plant.word()));
        eprintln!("{}: {wrong}, after {states} states, with {} records", plant.word(), world.log.len());
    }
}
