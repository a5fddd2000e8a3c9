//! Time as the engine knows it: a number that arrives with the command. There is no clock in here.

use serde::{Deserialize, Serialize};

/// Milliseconds since 1970-01-01T00:00:00Z.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Timestamp(pub i64);

impl Timestamp {
    /// Later by `ms` milliseconds; stays at the end of time rather than wrapping.
    pub fn plus_ms(self, ms: i64) -> Self {
        Self(self.0.saturating_add(ms))
    }
    /// Where its minute begins.
    pub fn minute(self) -> Self {
        Self(self.0.saturating_sub(self.0.rem_euclid(MINUTE_MS)))
    }
    /// How many milliseconds `self` lies after `earlier`; negative if before.
    pub fn since_ms(self, earlier: Self) -> i64 {
        self.0.saturating_sub(earlier.0)
    }
}

/// How a festival's days are told: reports go by it, decisions do not.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Calendar {
    /// The name of an IANA time zone. That there is such a zone is for the door to say; here it is a word.
    pub time_zone: String,
    /// When a day begins there, in minutes after midnight: whoever dances until four has not come the next day.
    pub day_starts_min: u16,
}

/// 06:00.
pub const DAY_STARTS_MIN: u16 = 6 * 60;

impl Default for Calendar {
    fn default() -> Self {
        Self { time_zone: "UTC".to_owned(), day_starts_min: DAY_STARTS_MIN }
    }
}

impl Calendar {
    /// Whether it can be recorded: a name as IANA writes them, and a quarter of an hour of a day, since sums are kept by
    /// quarters.
    pub fn is_valid(&self) -> bool {
        let named = |c: u8| c.is_ascii_alphanumeric() || matches!(c, b'/' | b'_' | b'-' | b'+');
        (1..=64).contains(&self.time_zone.len())
            && self.time_zone.bytes().all(named)
            && self.day_starts_min < 24 * 60
            && self.day_starts_min.is_multiple_of(15)
    }
}

pub const MINUTE_MS: i64 = 60_000;
pub const HOUR_MS: i64 = 60 * MINUTE_MS;
