//! What a terminal's frames say of its clock. Taps are judged by it, so that one which is off is to be seen by somebody
//! before a guest is sent away. (A reader's clock is in its scans, and the shard sees it there.)

use std::time::{Duration, Instant};

use engine::command::{AdminAction, AdminCommand};
use engine::gates::connections::{CLOCK_OFF_MAX_MS, QUEUE_DRAINS_MS};
use engine::model::ids::DeviceId;
use engine::model::principal::Principal;
use engine::model::time::Timestamp;

use super::Listener;

/// A terminal's clock is spoken of at most so often, whatever its frames say: each time is a record.
const SAID_AT_MOST_EVERY: Duration = Duration::from_secs(60);

/// One connection's.
pub(super) struct Clock {
    connected: Instant,
    /// It was off when that was said last; nobody has said anything yet.
    off: Option<bool>,
    said: Option<Instant>,
}

impl Clock {
    pub(super) fn new(now: Instant) -> Self {
        Self { connected: now, off: None, said: None }
    }

    /// How far it is off, if that is to be said: it was right before, or wrong, and is not now. A tap that is sent again is
    /// no witness, nor is an old one soon after the terminal has connected: it comes out of the queue.
    fn seen(&mut self, captured_at: Timestamp, resent: bool, at: Timestamp, now: Instant) -> Option<i64> {
        let off_ms = captured_at.since_ms(at);
        let queued = resent || now.duration_since(self.connected).as_millis() <= QUEUE_DRAINS_MS as u128;
        if off_ms < -CLOCK_OFF_MAX_MS && queued {
            return None;
        }
        let off = off_ms.unsigned_abs() > CLOCK_OFF_MAX_MS.unsigned_abs();
        let spoke_lately = self.said.is_some_and(|said| now.duration_since(said) < SAID_AT_MOST_EVERY);
        if self.off == Some(off) || spoke_lately {
            return None;
        }
        // A clock that has always been right on this connection is nothing to speak of, unless it was wrong on the last.
        self.off = Some(off);
        self.said = Some(now);
        Some(if off { off_ms } else { 0 })
    }

    /// Looks at a tap, and has it recorded if the clock is off, or is right again.
    pub(super) fn observe(
        &mut self,
        listener: &Listener,
        device: DeviceId,
        captured_at: Timestamp,
        resent: bool,
        now: Instant,
    ) {
        let Some(off_ms) = self.seen(captured_at, resent, listener.node.now(), now) else { return };
        if off_ms != 0 {
            tracing::warn!(%device, off_ms, "a terminal's clock is off");
        }
        let node = listener.node.clone();
        let action = AdminAction::DeviceClockSeen { device, off_ms };
        tokio::spawn(async move { node.ask(AdminCommand { key: None, by: Principal::Installation, action }).await });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_clock_is_spoken_of_when_it_begins_to_matter_and_when_it_ceases_to() {
        let began = Instant::now();
        let mut clock = Clock::new(began);
        let at = Timestamp(1_800_000_000_000);
        for (after_s, off_s, resent, said_s, why) in [
            (1, -3_000, false, None, "out of its queue"),
            (2, 0, false, Some(0), "right: whatever it was the last time"),
            (30, 31, false, None, "not so soon after it was spoken of"),
            (63, 30, false, None, "half a minute is nothing"),
            (64, 31, false, Some(31), "ahead"),
            (130, 32, false, None, "that is known"),
            (140, -3_000, true, None, "sent again"),
            (150, 1, false, Some(0), "right again"),
            (300, -31, false, Some(-31), "behind, and no queue takes so long"),
        ] {
            let now = began + Duration::from_secs(after_s);
            let seen = clock.seen(at.plus_ms(off_s * 1_000), resent, at, now);
            assert_eq!(seen, said_s.map(|s: i64| s * 1_000), "{why}");
        }
    }
}
