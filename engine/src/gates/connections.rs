//! When a reader was connected, and what that says about the times on its scans. A reader's clock is its own: what it
//! says of a scan that waited in its queue is believed as far as its connections allow, and of any other scan not at all.

use serde::{Deserialize, Serialize};

use crate::model::time::{MINUTE_MS, Timestamp};

/// A device whose clock is off by more than this is flagged.
pub const CLOCK_OFF_MAX_MS: i64 = 30_000;
/// For so long after it has connected, a scan that was captured before may come out of a reader's queue for the first
/// time: a full queue of 10,000 scans lies within the burst of 12,000 that the door allows, and takes seconds over the
/// worst of networks. Later than that it is the reader's clock that is behind.
pub const QUEUE_DRAINS_MS: i64 = MINUTE_MS;
/// No scan counts further back: a ticket keeps the minutes in 16 bits, and these are 43,200.
pub const LATE_MAX_MS: i64 = 30 * 24 * 60 * MINUTE_MS;

/// A reader's last two connections.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Connections {
    last: Option<Connection>,
    before: Option<Connection>,
    /// Nothing that is in its queue now was captured before this: when the last connection began in which it was heard,
    /// not counting the present one.
    reach: Timestamp,
}

/// From the proof to the end.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct Connection {
    session: u64,
    from: Timestamp,
    /// None while it lasts. After a crash: when the next one began, since nobody saw it end.
    until: Option<Timestamp>,
}

impl Connection {
    fn lasted_at(&self, moment: Timestamp) -> bool {
        self.from <= moment && self.until.is_none_or(|until| moment < until)
    }
}

impl Connections {
    /// Those of a device that has just been enrolled.
    pub(crate) fn none(enrolled_at: Timestamp) -> Self {
        Self { last: None, before: None, reach: enrolled_at }
    }

    /// Whether this is the present one.
    pub(crate) fn is_present(&self, session: u64) -> bool {
        self.last.is_some_and(|last| last.session == session && last.until.is_none())
    }

    /// One begins. `last_seen_at`: when the device was last heard.
    pub(crate) fn began(&mut self, session: u64, at: Timestamp, last_seen_at: Timestamp) {
        if let Some(mut last) = self.last {
            last.until.get_or_insert(at);
            if last_seen_at >= last.from {
                self.reach = last.from;
            }
            self.before = Some(last);
        }
        self.last = Some(Connection { session, from: at, until: None });
    }

    pub(crate) fn ended(&mut self, session: u64, at: Timestamp) {
        if let Some(last) = &mut self.last
            && last.session == session
        {
            last.until.get_or_insert(at);
        }
    }

    /// Whether the device was connected at this moment, as far as its last two connections tell.
    pub(crate) fn lasted_at(&self, moment: Timestamp) -> bool {
        [self.last, self.before].iter().flatten().any(|connection| connection.lasted_at(moment))
    }

    /// When a scan counts. For one out of the reader's queue that is when it was captured, but not before the reader can
    /// have captured it, nor after now; for any other it is now.
    pub(crate) fn taken_at(&self, captured_at: Timestamp, resent: bool, now: Timestamp) -> Timestamp {
        let Some(last) = &self.last else { return now };
        let drains = captured_at < last.from && now.since_ms(last.from) <= QUEUE_DRAINS_MS;
        if !resent && !drains {
            return now;
        }
        captured_at.clamp(self.reach.max(now.plus_ms(-LATE_MAX_MS)).min(now), now)
    }
}

/// By how much a reader's clock is off, if a scan tells: one that is captured and decided in one go, or that comes from
/// the future.
pub(crate) fn clock_off_ms(captured_at: Timestamp, taken_at: Timestamp, at: Timestamp) -> Option<i64> {
    let off = captured_at.since_ms(at);
    (taken_at == at || off > CLOCK_OFF_MAX_MS).then_some(off)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(s: i64) -> Timestamp {
        Timestamp(s * 1_000)
    }

    #[test]
    fn a_queue_is_believed_between_two_connections_and_no_further() {
        let mut known = Connections::none(at(0));
        assert_eq!(known.taken_at(at(5), true, at(9)), at(9), "nobody has said when it was connected");
        known.began(1, at(10), at(0));
        known.ended(1, at(100));
        known.began(2, at(200), at(90));
        for (captured, resent, now, taken, why) in [
            (150, false, 201, 150, "captured offline, and sent at once"),
            (95, true, 201, 95, "unanswered when the connection broke"),
            (5, true, 201, 10, "before the connection before: not before that"),
            (300, true, 201, 201, "not from the future"),
            (199, false, 261, 261, "a minute later it is the clock that is behind"),
            (199, true, 261, 199, "unless it says that it was sent before"),
            (200, false, 230, 230, "captured while connected: the shard's time is nearer"),
        ] {
            assert_eq!(known.taken_at(at(captured), resent, at(now)), at(taken), "{why}");
        }
        // A connection in which nothing was heard does not hide what is still in the queue.
        known.ended(2, at(202));
        known.began(3, at(205), at(90));
        assert_eq!(known.taken_at(at(150), false, at(206)), at(150));
        assert_eq!(known.taken_at(Timestamp(i64::MIN), true, at(206)), at(10));
    }

    #[test]
    fn who_was_connected_when() {
        let mut known = Connections::none(at(0));
        known.began(1, at(10), at(0));
        known.ended(7, at(11));
        assert!(known.is_present(1) && !known.is_present(7), "another connection's end is not this one's");
        known.ended(1, at(20));
        assert!(!known.is_present(1));
        known.began(2, at(30), at(15));
        let asked = |known: &Connections| [9, 10, 19, 20, 29, 30, 99].map(|s| known.lasted_at(at(s)));
        assert_eq!(asked(&known), [false, true, true, false, false, true, true]);
        // Nobody saw the crash: until the next one begins.
        known.began(3, at(50), at(40));
        assert_eq!([19, 30, 49, 50].map(|s| known.lasted_at(at(s))), [false, true, true, true]);
    }

    #[test]
    fn a_clock_shows_itself_in_what_is_answered_at_once() {
        assert_eq!(clock_off_ms(at(60), at(100), at(100)), Some(-40_000));
        assert_eq!(clock_off_ms(at(60), at(60), at(100)), None, "out of a queue");
        assert_eq!(clock_off_ms(at(140), at(100), at(100)), Some(40_000));
        assert_eq!(clock_off_ms(Timestamp(i64::MIN), at(1), at(1)), Some(i64::MIN));
    }
}
