//! A festival's days: in its time zone, from the hour at which its nights are over. The zones are those that are bundled
//! with this program, whatever the machine has or lacks.

use std::borrow::Cow;

use engine::model::time::{DAY_STARTS_MIN, HOUR_MS, Timestamp};
use jiff::ToSpan as _;
use jiff::civil::{Date, Time};
use serde::de::Error as _;
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use storage::views::Span;
use storage::views::cashless::quarter_of;
use utoipa::openapi::RefOr;
use utoipa::openapi::schema::{KnownFormat, ObjectBuilder, Schema, SchemaFormat, Type};
use utoipa::{PartialSchema, ToSchema};

use crate::http::kit::json::{Moment, span};
use crate::http::kit::problem::{Fault, Problem};

/// The name of an IANA time zone that this program knows.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TimeZone(pub String);

impl Default for TimeZone {
    fn default() -> Self {
        Self("UTC".to_owned())
    }
}

impl Serialize for TimeZone {
    fn serialize<S: Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        to.serialize_str(&self.0)
    }
}
impl<'de> Deserialize<'de> for TimeZone {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        let name = Cow::<'de, str>::deserialize(from)?;
        let known = jiff::tz::TimeZone::get(&name).ok().and_then(|zone| zone.iana_name().map(str::to_owned));
        // As IANA spells it: `europe/berlin` is found too.
        known.map(Self).ok_or_else(|| D::Error::custom("must be the name of an IANA time zone, such as Europe/Berlin"))
    }
}
impl PartialSchema for TimeZone {
    fn schema() -> RefOr<Schema> {
        ObjectBuilder::new().schema_type(Type::String).examples(["Europe/Berlin"]).into()
    }
}
impl ToSchema for TimeZone {}

/// When a day begins, in minutes after midnight; in JSON `HH:MM`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct DayStart(pub u16);

impl Default for DayStart {
    fn default() -> Self {
        Self(DAY_STARTS_MIN)
    }
}

impl Serialize for DayStart {
    fn serialize<S: Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        to.collect_str(&format_args!("{:02}:{:02}", self.0 / 60, self.0 % 60))
    }
}
impl<'de> Deserialize<'de> for DayStart {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        let text = Cow::<'de, str>::deserialize(from)?;
        let two = |part: &str| match part.as_bytes() {
            [tens @ b'0'..=b'9', ones @ b'0'..=b'9'] => Some(u16::from(tens - b'0') * 10 + u16::from(ones - b'0')),
            _ => None,
        };
        let minutes = text.split_once(':').and_then(|(hours, minutes)| Some((two(hours)?, two(minutes)?)));
        let minutes = minutes.filter(|(hours, minutes)| *hours < 24 && *minutes < 60 && minutes.is_multiple_of(15));
        let minutes = minutes.map(|(hours, minutes)| Self(hours * 60 + minutes));
        minutes.ok_or_else(|| D::Error::custom("must be a quarter of an hour, HH:MM, such as 06:00"))
    }
}
impl PartialSchema for DayStart {
    fn schema() -> RefOr<Schema> {
        let text = ObjectBuilder::new().schema_type(Type::String);
        text.pattern(Some(r"^([01]\d|2[0-3]):(00|15|30|45)$")).examples(["06:00"]).into()
    }
}
impl ToSchema for DayStart {}

/// The days of one festival.
#[derive(Clone, Debug)]
pub struct Days {
    zone: jiff::tz::TimeZone,
    starts_min: u16,
}

impl Days {
    /// By its calendar. A zone that a newer version of this program has written and this one does not know is UTC.
    pub fn of(calendar: &engine::model::time::Calendar) -> Self {
        let zone = jiff::tz::TimeZone::get(&calendar.time_zone).unwrap_or(jiff::tz::TimeZone::UTC);
        Self { zone, starts_min: calendar.day_starts_min }
    }

    /// The first moment of a day. Where clocks leap over that time, the moment at which they do.
    pub fn begins(&self, day: Date) -> Option<Timestamp> {
        let begins = day.to_datetime(Time::midnight()).checked_add(i64::from(self.starts_min).minutes()).ok()?;
        let moment = self.zone.to_ambiguous_zoned(begins).compatible().ok()?;
        Some(Timestamp(moment.timestamp().as_millisecond()))
    }

    /// From a day's beginning until the next one's: 23 or 25 hours where the clocks change.
    pub fn span(&self, day: Date) -> Option<Span> {
        Some(Span { from: self.begins(day)?, until: self.begins(day.tomorrow().ok()?)? })
    }

    /// The day that a moment belongs to.
    pub fn day_of(&self, at: Timestamp) -> Option<Date> {
        let local = jiff::Timestamp::from_millisecond(at.0).ok()?.to_zoned(self.zone.clone()).date();
        let candidates =
            [local.tomorrow().ok()?, local, local.yesterday().ok()?, local.yesterday().ok()?.yesterday().ok()?];
        candidates.into_iter().find(|day| self.begins(*day).is_some_and(|begins| begins <= at))
    }

    /// Where the hour of a moment begins there: in Kathmandu at a quarter past UTC's.
    pub fn hour_of(&self, at: Timestamp) -> Timestamp {
        let Ok(moment) = jiff::Timestamp::from_millisecond(at.0) else { return at };
        let ahead_ms = i64::from(self.zone.to_offset(moment).seconds()) * 1_000;
        Timestamp(at.0 - (at.0 + ahead_ms).rem_euclid(HOUR_MS))
    }
}

/// A day of a festival, as `2027-07-16`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Day(pub Date);

impl Serialize for Day {
    fn serialize<S: Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        to.collect_str(&self.0)
    }
}
impl<'de> Deserialize<'de> for Day {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        let text = Cow::<'de, str>::deserialize(from)?;
        let day = text.parse().ok().filter(|_| text.len() == 10).map(Self);
        day.ok_or_else(|| D::Error::custom("must be a day, 2027-07-16"))
    }
}
impl PartialSchema for Day {
    fn schema() -> RefOr<Schema> {
        let text = ObjectBuilder::new().schema_type(Type::String);
        text.format(Some(SchemaFormat::KnownFormat(KnownFormat::Date))).examples(["2027-07-16"]).into()
    }
}
impl ToSchema for Day {}

/// The span of a report: a day of the festival's, or from quarter of an hour to quarter of an hour, so that it is exact.
///
/// # Errors
/// `invalid_query`.
pub fn report_span(days: &Days, day: Option<Day>, from: Option<Moment>, to: Option<Moment>) -> Result<Span, Problem> {
    let no = |why: &str| Problem::from(Fault::InvalidQuery).detail(why);
    match (day, from, to) {
        (Some(day), None, None) => days.span(day.0).ok_or_else(|| no("There is no such day.")),
        (Some(_), ..) => Err(no("Ask for a day, or for from and to.")),
        (None, from, to) => {
            let exact = |moment: Option<Moment>| moment.is_none_or(|Moment(at)| quarter_of(at) == at);
            if !exact(from) || !exact(to) {
                return Err(no("from and to must each lie on a quarter of an hour: 18:00, 18:15, 18:30 or 18:45."));
            }
            span(from, to)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use engine::model::time::Calendar;

    fn days(zone: &str, day_starts_min: u16) -> Days {
        Days::of(&Calendar { time_zone: zone.to_owned(), day_starts_min })
    }

    fn at(text: &str) -> Timestamp {
        Timestamp(text.parse::<jiff::Timestamp>().unwrap().as_millisecond())
    }

    #[test]
    fn a_night_belongs_to_the_day_before() {
        let berlin = days("Europe/Berlin", 360);
        for (moment, day) in [
            ("2027-07-16T20:00:00Z", "2027-07-16"),
            ("2027-07-17T02:00:00Z", "2027-07-16"), // 04:00 there
            ("2027-07-17T03:59:59Z", "2027-07-16"),
            ("2027-07-17T04:00:00Z", "2027-07-17"), // 06:00 there
        ] {
            assert_eq!(berlin.day_of(at(moment)).unwrap().to_string(), day, "{moment}");
        }
    }

    #[test]
    fn days_follow_one_another_without_a_gap_whatever_the_clocks_do() {
        for (zone, starts) in [
            ("Europe/Berlin", 360),
            ("Europe/Berlin", 150), // 02:30, which clocks leap over and come back to
            ("Asia/Kathmandu", 360),
            ("Australia/Lord_Howe", 120),
            ("America/Sao_Paulo", 0),
            ("UTC", 360),
        ] {
            let days = days(zone, starts);
            let mut day: Date = "2018-01-01".parse().unwrap();
            let mut half_hours = std::collections::BTreeSet::new();
            for _ in 0..800 {
                let span = days.span(day).unwrap();
                let next = day.tomorrow().unwrap();
                assert_eq!(days.day_of(span.from), Some(day), "{zone} {day}");
                assert_eq!(days.day_of(span.until.plus_ms(-1)), Some(day), "{zone} {day}");
                assert_eq!(days.day_of(span.until), Some(next), "{zone} {day}");
                half_hours.insert((span.until.0 - span.from.0) * 2 / HOUR_MS);
                day = next;
            }
            assert!(half_hours.iter().all(|n| (45..=51).contains(n)), "{zone}: {half_hours:?}");
        }
    }

    #[test]
    fn an_hour_is_the_festivals_own() {
        for (zone, hour) in [
            ("UTC", "2027-07-16T18:00:00Z"),
            ("Europe/Berlin", "2027-07-16T18:00:00Z"),
            ("Asia/Kathmandu", "2027-07-16T18:15:00Z"),   // 5:45 ahead
            ("Asia/Kolkata", "2027-07-16T18:30:00Z"),     // 5:30 ahead
            ("America/St_Johns", "2027-07-16T18:30:00Z"), // 2:30 behind
        ] {
            assert_eq!(days(zone, 360).hour_of(at("2027-07-16T18:45:00Z")), at(hour), "{zone}");
        }
    }

    #[test]
    fn zones_and_times_of_day_are_read_exactly() {
        let zone = |name: &str| serde_json::from_str::<TimeZone>(&format!("\"{name}\"")).map(|zone| zone.0).ok();
        assert_eq!(zone("Europe/Berlin").as_deref(), Some("Europe/Berlin"));
        assert_eq!(zone("europe/berlin").as_deref(), Some("Europe/Berlin"));
        assert_eq!(zone("UTC").as_deref(), Some("UTC"));
        assert_eq!(zone("Mordor/Barad-dur"), None);
        assert_eq!(zone(""), None);
        let time = |text: &str| serde_json::from_str::<DayStart>(&format!("\"{text}\"")).map(|start| start.0).ok();
        assert_eq!(time("06:00"), Some(360));
        assert_eq!(time("23:45"), Some(1_425));
        for none in ["24:00", "6:00", "06:60", "0600", "06:00:00", "06:10", "-6:00", "+6:00"] {
            assert_eq!(time(none), None, "{none}");
        }
        assert_eq!(serde_json::to_string(&DayStart(75)).unwrap(), "\"01:15\"");
    }
}
