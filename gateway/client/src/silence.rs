//! How a device notices that the network is gone while it waits for an answer, in three seconds instead of QUIC's thirty.
//!
//! A server that is slow is not gone: its QUIC acknowledges what it is sent within milliseconds, whatever its shards and
//! its disk are doing. So what counts is whether any packet comes back at all. After a second in which nothing was heard, a
//! Ping is sent, which has no answer but that acknowledgement.

use std::time::Duration;

use tokio::time::Instant;

/// After so long without a word a Ping is sent.
const PING_AFTER: Duration = Duration::from_millis(750);
/// After so long without a packet the connection is given up. With [`LOOK_EVERY`] that is within 3 s of the last one.
const LOST_AFTER: Duration = Duration::from_millis(2_500);
/// How often the packets are counted while a Ping is out.
const LOOK_EVERY: Duration = Duration::from_millis(250);

/// What is to be done about it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Silent {
    NotYet,
    Ping,
    Lost,
}

pub(super) struct Silence {
    since: Instant,
    /// When to look again.
    due: Instant,
    /// How many packets had come when the Ping was sent.
    pinged: Option<u64>,
}

impl Silence {
    pub(super) fn new(now: Instant) -> Self {
        Self { since: now, due: now + PING_AFTER, pinged: None }
    }

    /// Something has come, or nothing is expected.
    pub(super) fn broken(&mut self, now: Instant) {
        *self = Self::new(now);
    }

    pub(super) fn due(&self) -> Instant {
        self.due
    }

    /// `packets`: how many have come on this connection, whatever was in them.
    pub(super) fn check(&mut self, packets: u64, now: Instant) -> Silent {
        if now < self.due {
            return Silent::NotYet;
        }
        let verdict = match self.pinged {
            None => {
                self.pinged = Some(packets);
                Silent::Ping
            }
            Some(before) if before != packets => {
                self.broken(now);
                return Silent::NotYet;
            }
            Some(_) if now - self.since >= LOST_AFTER => Silent::Lost,
            Some(_) => Silent::NotYet,
        };
        self.due = now + LOOK_EVERY;
        verdict
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Looks whenever it is due, until the connection is given up or a minute has passed; when that was, and how many Pings
    /// were sent.
    fn minute(packets: impl Fn(Duration) -> u64) -> (Option<Duration>, usize) {
        let start = Instant::now();
        let mut silence = Silence::new(start);
        let mut pings = 0;
        while silence.due() - start < Duration::from_secs(60) {
            let now = silence.due();
            match silence.check(packets(now - start), now) {
                Silent::Lost => return (Some(now - start), pings),
                Silent::Ping => pings += 1,
                Silent::NotYet => {}
            }
        }
        (None, pings)
    }

    #[test]
    fn a_network_that_is_gone_is_noticed_in_three_seconds() {
        let (lost, pings) = minute(|_| 7);
        assert!(lost.is_some_and(|lost| lost <= Duration::from_secs(3)), "{lost:?}");
        assert_eq!(pings, 1);
        // It acknowledges the first Ping a moment after it, and then never anything.
        let last = Duration::from_millis(760);
        let (lost, _) = minute(|at| if at > last { 8 } else { 7 });
        assert!(lost.is_some_and(|lost| lost - last <= Duration::from_secs(3)), "{lost:?}");
    }

    #[test]
    fn a_server_that_is_slow_is_not_gone() {
        // Every Ping is acknowledged; the answer takes a minute.
        let (lost, pings) = minute(|at| at.as_millis() as u64 / 200);
        assert_eq!(lost, None);
        assert!((30..=60).contains(&pings), "{pings}");
    }

    #[test]
    fn what_was_heard_counts_from_there() {
        let start = Instant::now();
        let mut silence = Silence::new(start);
        assert_eq!(silence.check(1, start), Silent::NotYet, "not due");
        let later = start + Duration::from_secs(50);
        silence.broken(later);
        assert_eq!(silence.due(), later + PING_AFTER);
        assert_eq!(silence.check(1, silence.due()), Silent::Ping);
    }
}
