//! An exhaustive model of transfers between two shards: each step is one record; messages may be lost, duplicated,
//! reordered, delayed for ever. It says why the rules are as they are: each of its mutants leaves one out, and makes or
//! loses money. The real engine is driven the same way in `transfers.rs`.
//!
//! The channel here keeps no order, which is worse than the outbox's: that one takes messages in once and in order, so
//! the receiver need remember no decision (`H` below: all is folded into the high-water mark).

use std::collections::{BTreeSet, VecDeque};

/// Two transfers of 1 each; the sender begins with 2.
const N: usize = 2;
/// So many messages may be under way.
const MESSAGES_MAX: usize = 5;

/// A transfer, as the sender sees it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Here {
    None,
    Reserved,
    Cancelling,
    Settled,
    Returned,
}

/// A transfer, as the receiver sees it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum There {
    None,
    Credited,
    Tombstone,
    Rejected,
    /// Forgotten, below the high-water mark.
    Folded,
    /// Forgotten without one: the mutant's.
    Forgotten,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Word {
    Credit,
    Cancel,
    Yes,
    No,
}

#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct State {
    here: [Here; N],
    there: [There; N],
    credits: [u8; N],
    messages: BTreeSet<(Word, usize)>,
}

#[derive(Clone, Copy, Debug, PartialEq)]
enum Mutant {
    /// The sender gives money back by its own clock.
    RefundOnTimeout,
    /// A cancelled transfer is not remembered.
    NoTombstone,
    /// The receiver forgets what it has decided, and keeps no high-water mark.
    Forget,
}

impl State {
    fn breach(&self) -> Option<&'static str> {
        let out = |states: &[Here]| self.here.iter().filter(|here| states.contains(here)).count();
        for i in 0..N {
            if self.credits[i] > 1 {
                return Some("credited twice");
            }
            if self.credits[i] > 0 && self.here[i] == Here::Returned {
                return Some("credited and returned");
            }
            if self.credits[i] == 0 && self.here[i] == Here::Settled {
                return Some("settled without credit");
            }
        }
        let available = N - out(&[Here::Reserved, Here::Cancelling, Here::Settled]);
        let reserved = out(&[Here::Reserved, Here::Cancelling]);
        (available + reserved + out(&[Here::Settled]) != N).then_some("the sender's books")
    }

    fn steps(&self, mutant: Option<Mutant>) -> Vec<State> {
        let mut next = Vec::new();
        let mut push = |change: &dyn Fn(&mut State)| {
            let mut state = self.clone();
            change(&mut state);
            if state.messages.len() <= MESSAGES_MAX {
                next.push(state);
            }
        };
        for i in 0..N {
            let (here, there) = (self.here[i], self.there[i]);
            let over = matches!(here, Here::Settled | Here::Returned);
            let decided = matches!(there, There::Credited | There::Tombstone | There::Rejected);
            if here == Here::None && (i == 0 || self.here[i - 1] != Here::None) {
                push(&|s| s.here[i] = Here::Reserved);
            }
            if here == Here::Reserved {
                push(&|s| _ = s.messages.insert((Word::Credit, i))); // sent, and sent again
                let late = if mutant == Some(Mutant::RefundOnTimeout) { Here::Returned } else { Here::Cancelling };
                push(&|s| s.here[i] = late);
            }
            if here == Here::Cancelling {
                push(&|s| _ = s.messages.insert((Word::Cancel, i)));
            }
            if decided && over && mutant == Some(Mutant::Forget) {
                push(&|s| s.there[i] = There::Forgotten);
            }
            if decided && over && mutant.is_none() && self.there[..=i].iter().all(|there| *there != There::None) {
                push(&|s| s.there[i] = There::Folded);
            }
        }
        for &(word, i) in &self.messages {
            push(&|s| _ = s.messages.remove(&(word, i))); // lost
            for kept in [true, false] {
                let mut arrive = |change: &dyn Fn(&mut State)| {
                    push(&|s| {
                        if !kept {
                            s.messages.remove(&(word, i));
                        }
                        change(s);
                    });
                };
                let answer = |s: &mut State, word| _ = s.messages.insert((word, i));
                match (word, self.there[i]) {
                    (Word::Credit | Word::Cancel, There::Folded) => arrive(&|_| ()),
                    (Word::Credit, There::None | There::Forgotten) => {
                        arrive(&|s| {
                            s.there[i] = There::Credited;
                            s.credits[i] += 1;
                            answer(s, Word::Yes);
                        });
                        if self.there[i] == There::None {
                            arrive(&|s| {
                                s.there[i] = There::Rejected;
                                answer(s, Word::No);
                            });
                        }
                    }
                    (Word::Cancel, There::None | There::Forgotten) => arrive(&|s| {
                        if mutant != Some(Mutant::NoTombstone) {
                            s.there[i] = There::Tombstone;
                        }
                        answer(s, Word::No);
                    }),
                    (Word::Credit | Word::Cancel, There::Credited) => arrive(&|s| answer(s, Word::Yes)),
                    (Word::Credit | Word::Cancel, _) => arrive(&|s| answer(s, Word::No)),
                    (Word::Yes | Word::No, _) => arrive(&|s| {
                        if matches!(s.here[i], Here::Reserved | Here::Cancelling) {
                            s.here[i] = if word == Word::Yes { Here::Settled } else { Here::Returned };
                        }
                    }),
                }
            }
        }
        next
    }
}

/// All states that can be reached; the first that must not be.
fn explore(mutant: Option<Mutant>) -> (usize, Option<&'static str>) {
    let first = State { here: [Here::None; N], there: [There::None; N], credits: [0; N], messages: BTreeSet::new() };
    let mut seen = BTreeSet::from([first.clone()]);
    let mut queue = VecDeque::from([first]);
    while let Some(state) = queue.pop_front() {
        if let Some(breach) = state.breach() {
            return (seen.len(), Some(breach));
        }
        for next in state.steps(mutant) {
            if seen.insert(next.clone()) {
                queue.push_back(next);
            }
        }
    }
    (seen.len(), None)
}

#[test]
fn no_order_of_steps_makes_or_loses_money() {
    let (states, breach) = explore(None);
    assert_eq!(breach, None);
    assert!(states > 1_000, "{states} states are too few to be all");
}

#[test]
fn each_rule_is_needed() {
    assert_eq!(explore(Some(Mutant::RefundOnTimeout)).1, Some("credited and returned"));
    assert_eq!(explore(Some(Mutant::NoTombstone)).1, Some("credited and returned"));
    assert_eq!(explore(Some(Mutant::Forget)).1, Some("credited twice"));
}
