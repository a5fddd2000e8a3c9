//! How long somebody had to wait because of a failure.

use std::time::{Duration, Instant};

use serde::Serialize;

use crate::simulated::Wait;

/// Whoever waited longer than this was hit by the failure. A planned move of a shard may take so long; without any failure
/// an answer takes a few milliseconds.
const HIT: Duration = Duration::from_millis(250);
/// What was under way when the servers went away may still be answered for so long.
const UNDER_WAY: Duration = Duration::from_secs(1);

/// A failure.
#[derive(Clone, Copy, Debug)]
pub struct Outage {
    /// When it came.
    pub began: Instant,
    /// When what had failed was about to come back.
    pub ended: Option<Instant>,
    /// What devices must notice of it, besides how long they wait.
    pub must: Must,
}

/// What must be seen of a failure while it lasts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Must {
    /// Answers may be late.
    Wait,
    /// Nothing is acknowledged.
    Refuse,
    /// Nobody is refused: what has failed is no part of deciding.
    GoOn,
}

/// One device's waiting, or that of all operators.
#[derive(Clone, Copy, Debug)]
pub struct Waited<'a> {
    /// Its moment 0.
    pub began: Instant,
    /// From the first to the last.
    pub waits: &'a [Wait],
    /// When it was refused at the door.
    pub refusals: &'a [u64],
}

impl Waited<'_> {
    fn at(&self, ns: u64) -> Instant {
        self.began + Duration::from_nanos(ns)
    }
}

/// How long those waited who were hit, each device once for each failure.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Unavailable {
    /// Half of those who were hit waited less.
    pub p50: u64,
    /// Whoever waited longest, hit or not.
    pub max: u64,
    /// How many were hit, of all failures.
    pub hit: usize,
    /// Of so many.
    pub of: usize,
}

/// From a command's turn to its durable answer, the longest of each device and failure.
pub fn unavailable(outages: &[Outage], devices: &[Waited<'_>]) -> Unavailable {
    let mut longest = Vec::new();
    for (nth, outage) in outages.iter().enumerate() {
        let until = outages.get(nth + 1).map(|next| next.began);
        for device in devices {
            let told_in_it = |wait: &&Wait| {
                let told = device.at(wait.told_ns);
                told >= outage.began && until.is_none_or(|until| told < until)
            };
            let waits = device.waits.iter().filter(told_in_it);
            longest.push(waits.map(|wait| wait.told_ns.saturating_sub(wait.due_ns)).max().unwrap_or_default());
        }
    }
    let ms = |ns: u64| ns / 1_000_000;
    let (of, max) = (longest.len(), longest.iter().copied().max().map_or(0, ms));
    let mut hit: Vec<u64> = longest.into_iter().filter(|ns| Duration::from_nanos(*ns) > HIT).map(ms).collect();
    hit.sort_unstable();
    Unavailable { p50: hit.get(hit.len() / 2).copied().unwrap_or_default(), max, hit: hit.len(), of }
}

/// What was noticed of failures and must not be, in words.
pub fn unlike<'a>(outages: &[Outage], all: impl Iterator<Item = &'a Waited<'a>> + Clone) -> Vec<String> {
    let mut found = Vec::new();
    for Outage { began, ended, must } in outages {
        let Some(ended) = *ended else { continue };
        let count = |from: Instant, of: fn(&Waited<'_>) -> Vec<u64>| {
            let of_one = |waited: &'a Waited<'a>| {
                of(waited).into_iter().map(|ns| waited.at(ns)).filter(|at| *at > from && *at < ended).count()
            };
            all.clone().map(of_one).sum::<usize>()
        };
        let told = |waited: &Waited<'_>| waited.waits.iter().map(|wait| wait.told_ns).collect();
        let (what, count) = match must {
            Must::Wait => continue,
            Must::Refuse => ("answers were said to be durable while nothing could be", count(*began + UNDER_WAY, told)),
            Must::GoOn => (
                "commands were refused in a failure that is none of theirs",
                count(*began, |waited| waited.refusals.to_vec()),
            ),
        };
        if count > 0 {
            found.push(format!("{count} {what}"));
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    fn wait(due_ms: u64, told_ms: u64) -> Wait {
        Wait { due_ns: due_ms * 1_000_000, told_ns: told_ms * 1_000_000 }
    }

    #[test]
    fn each_device_counts_with_its_longest_wait_of_each_failure() {
        let began = Instant::now();
        let at = |ms| began + Duration::from_millis(ms);
        let failure = |ms| Outage { began: at(ms), ended: None, must: Must::Wait };
        // The first is hit by both failures, the second by the second one only, the third by neither.
        let first = [wait(0, 900), wait(990, 2_990), wait(1_500, 3_000), wait(5_500, 7_000)];
        let second = [wait(1_000, 1_003), wait(4_900, 5_900)];
        let third = [wait(1_200, 1_400), wait(6_000, 6_005)];
        let devices = [&first[..], &second, &third].map(|waits| Waited { began, waits, refusals: &[] });
        let found = unavailable(&[failure(1_000), failure(5_000)], &devices);
        assert_eq!(found, Unavailable { p50: 1_500, max: 2_000, hit: 3, of: 6 });
        assert_eq!(unavailable(&[], &devices), Unavailable::default());
        assert_eq!(unavailable(&[failure(1_100)], &devices[2..]), Unavailable { p50: 0, max: 200, hit: 0, of: 1 });
    }

    #[test]
    fn what_must_not_be_noticed_is() {
        let began = Instant::now();
        let at = |ms| began + Duration::from_millis(ms);
        let outage = |must| Outage { began: at(1_000), ended: Some(at(9_000)), must };
        for (at_ms, answered, refused) in [(900, 0, 0), (1_900, 0, 1), (2_100, 1, 1), (8_900, 1, 1), (9_100, 0, 0)] {
            let (waits, refusals) = ([wait(500, at_ms)], [at_ms * 1_000_000]);
            let all = [Waited { began, waits: &waits, refusals: &refusals }];
            for (must, found) in [(Must::Wait, 0), (Must::Refuse, answered), (Must::GoOn, refused)] {
                assert_eq!(unlike(&[outage(must)], all.iter()).len(), found, "{must:?} at {at_ms}");
            }
        }
    }
}
