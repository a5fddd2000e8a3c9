//! Who has failed lately: wrong codes, ids that nobody has, proofs that do not hold.
//!
//! A festival is behind one address, so failures count against what has failed: the code, the key, the device's id. An
//! address is blamed for its strangers only. Nobody who is right ever waits for it: a proof that holds gets in, and so
//! does a code that is good. What is used up changes what the wrong ones are told (`too_many`, and when to come again) and
//! what they cost: a code or a key that has failed too often is not looked at, and from an address whose strangers have,
//! a code is looked up before anything is recorded. Codes have 68 random bits: at the 1,000 handshakes a second that an
//! address may make, the 15 minutes of a code are enough for one in 3 · 10¹⁴.

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use engine::model::ids::DeviceId;

use super::limits::{Limits, TokenBucket};

/// What a failure counts against.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) enum Blamed {
    /// An enrolment code, by its SHA-256.
    Code([u8; 32]),
    /// The key that is to be enrolled.
    Key([u8; 32]),
    /// The id that somebody says is theirs.
    Device(DeviceId),
    /// Everybody at an address who is not enrolled.
    Strangers(IpAddr),
}

pub(super) struct Failures {
    burst: u32,
    refill: Duration,
    max: usize,
    buckets: Mutex<HashMap<Blamed, TokenBucket>>,
}

impl Failures {
    pub(super) fn new(limits: &Limits) -> Self {
        Self {
            burst: limits.failures_burst,
            refill: limits.failure_refill.max(Duration::from_millis(1)),
            max: limits.failures_max,
            buckets: Mutex::default(),
        }
    }

    /// How long until the next failure of any of these is forgiven, if one of them has used up all it had.
    pub(super) fn wait(&self, blamed: &[Blamed], now: Instant) -> Option<Duration> {
        let mut buckets = self.buckets.lock().unwrap_or_else(PoisonError::into_inner);
        let waits = blamed.iter().filter_map(|one| self.missing(buckets.get_mut(one)?, now));
        waits.max()
    }

    /// All of these have failed. How long until the next attempt, if one of them had used up all it had before.
    pub(super) fn failed(&self, blamed: &[Blamed], now: Instant) -> Option<Duration> {
        let waits = self.wait(blamed, now);
        let mut buckets = self.buckets.lock().unwrap_or_else(PoisonError::into_inner);
        for one in blamed {
            if buckets.len() >= self.max && !buckets.contains_key(one) {
                buckets.retain(|_, bucket| {
                    self.refill(bucket, now);
                    !bucket.is_at_least(f64::from(self.burst))
                });
                if buckets.len() >= self.max {
                    continue; // the others blamed remember it
                }
            }
            buckets.entry(*one).or_insert_with(|| TokenBucket::full(self.burst, now)).take();
        }
        waits
    }

    fn refill(&self, bucket: &mut TokenBucket, now: Instant) {
        bucket.refill(1.0 / self.refill.as_secs_f64(), self.burst, now);
    }

    fn missing(&self, bucket: &mut TokenBucket, now: Instant) -> Option<Duration> {
        self.refill(bucket, now);
        let missing = bucket.missing();
        (missing > 0.0).then(|| self.refill.mul_f64(missing).max(Duration::from_millis(1)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn failures(max: usize) -> Failures {
        let limits = Limits { failures_burst: 2, failures_max: max, ..Limits::default() };
        Failures::new(&limits)
    }

    #[test]
    fn failures_count_against_what_has_failed_and_are_forgiven_slowly() {
        let (failures, now) = (failures(100), Instant::now());
        let (code, other) = (Blamed::Code([1; 32]), Blamed::Code([2; 32]));
        let here = Blamed::Strangers(IpAddr::from([192, 0, 2, 1]));
        assert_eq!(failures.failed(&[code, here], now), None);
        assert_eq!(failures.failed(&[code, here], now), None);
        let six = Some(Duration::from_secs(6));
        assert_eq!(failures.failed(&[code, here], now), six);
        assert_eq!((failures.wait(&[code], now), failures.wait(&[here], now)), (six, six));
        assert_eq!(failures.wait(&[other, Blamed::Device(DeviceId(7))], now), None, "nobody else is hurt");
        assert_eq!(failures.wait(&[code], now + Duration::from_secs(4)), Some(Duration::from_secs(2)));
        assert_eq!(failures.wait(&[code], now + Duration::from_secs(7)), None);
    }

    #[test]
    fn what_is_remembered_is_bounded() {
        let (failures, now) = (failures(2), Instant::now());
        for n in 0..9 {
            failures.failed(&[Blamed::Code([n; 32])], now);
        }
        assert_eq!(failures.buckets.lock().unwrap().len(), 2);
        let later = now + Duration::from_secs(7);
        failures.failed(&[Blamed::Code([100; 32])], later);
        assert!(failures.buckets.lock().unwrap().contains_key(&Blamed::Code([100; 32])), "the forgiven are forgotten");
    }
}
