//! What the live stream shows of a festival: a picture of how things stand, and what a second has brought, which is the
//! difference of two pictures.

use std::collections::HashMap;

use engine::view::LiveView;
use serde::Serialize;
use utoipa::ToSchema;

use crate::quic::Latency;

/// The answer times shown are those of the last ten seconds; a point has those of its own.
pub(super) const ANSWERS_S: u64 = 10;

/// What one second has brought.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct Point {
    /// When it ended.
    pub(super) at: i64,
    /// How long it was: 1,000, or more after a hold-up.
    span_ms: u32,
    /// Entries, at all gates.
    pub(super) admitted: u32,
    /// Exits.
    exited: u32,
    /// Rejections.
    rejected: u32,
    /// How many were inside the perimeters at its end.
    inside: u64,
    /// Answer times of that second, of the whole server; null if nothing was answered.
    p50_us: Option<u64>,
    p99_us: Option<u64>,
    /// `[admitted, exited, rejected]` by gate number; empty when older than two minutes.
    pub(super) gates: Vec<[u32; 3]>,
    /// Rejections by code.
    reasons: HashMap<&'static str, u32>,
}

/// How things stand.
#[derive(Clone, Debug, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct Picture {
    /// When this was asked.
    at: i64,
    /// `ONGOING` and the like.
    status: &'static str,
    /// False while the journal takes no writes: readers answer `unavailable`.
    recording: bool,
    zones: Vec<Zone>,
    gates: Vec<Gate>,
    /// Since the festival was made.
    rejections: Vec<Reason>,
    /// Scans whose shown answer stood against what would have been decided.
    conflicts: u64,
    /// The last rejections, newest first, at most 32.
    latest: Vec<Refused>,
    /// Answer times of the whole server; null if nothing was answered lately.
    latency: Option<AnswerTime>,
}

/// A zone with who is in it.
#[derive(Clone, Debug, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct Zone {
    no: u8,
    name: String,
    /// The zone it lies in; null for a perimeter.
    parent: Option<u8>,
    capacity: u32,
    occupancy: u32,
    /// `OPEN`, `CLOSED`, `EVACUATING`.
    state: &'static str,
}

/// A gate with what it has done since the festival was made.
#[derive(Clone, Debug, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct Gate {
    no: u16,
    name: String,
    /// The zone it leads into.
    zone: u8,
    admitted: u64,
    exited: u64,
    rejected: u64,
}

/// How often a reason was given.
#[derive(Clone, Debug, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct Reason {
    code: &'static str,
    /// What the steward says.
    say: &'static str,
    count: u64,
}

/// One of the last rejections.
#[derive(Clone, Debug, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct Refused {
    at: i64,
    gate: u16,
    device: String,
    code: &'static str,
    say: &'static str,
    ticket: Option<String>,
    /// The reader had let somebody in before a crash, and that stands.
    conflict: bool,
}

/// Answer times.
#[derive(Clone, Debug, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct AnswerTime {
    p50_us: u64,
    p99_us: u64,
    /// How many answers this speaks of.
    answers: u64,
    /// Over how many seconds.
    window_s: u64,
}

impl AnswerTime {
    pub(super) fn of(latency: Latency) -> Option<Self> {
        (latency.count > 0).then_some(Self {
            p50_us: latency.p50_us,
            p99_us: latency.p99_us,
            answers: latency.count,
            window_s: ANSWERS_S,
        })
    }
}

impl Picture {
    pub(super) fn of(view: &LiveView, at: i64, recording: bool, latency: Option<AnswerTime>) -> Self {
        Self {
            at,
            status: view.status.word(),
            recording,
            zones: view
                .zones
                .iter()
                .map(|zone| Zone {
                    no: zone.no.0,
                    name: zone.name.clone(),
                    parent: zone.parent.map(|parent| parent.0),
                    capacity: zone.capacity,
                    occupancy: zone.occupancy,
                    state: zone.state.word(),
                })
                .collect(),
            gates: view
                .gates
                .iter()
                .map(|gate| Gate {
                    no: gate.no.0,
                    name: gate.name.clone(),
                    zone: gate.zone.0,
                    admitted: gate.admitted,
                    exited: gate.exited,
                    rejected: gate.rejected,
                })
                .collect(),
            rejections: view
                .rejections
                .iter()
                .map(|&(reason, count)| Reason { code: reason.code(), say: reason.say(), count })
                .collect(),
            conflicts: view.conflicts,
            latest: view
                .latest
                .iter()
                .map(|refused| Refused {
                    at: refused.at.0,
                    gate: refused.gate.0,
                    device: refused.device.to_string(),
                    code: refused.reason.code(),
                    say: refused.reason.say(),
                    ticket: refused.ticket.map(|ticket| ticket.to_string()),
                    conflict: refused.conflict,
                })
                .collect(),
            latency,
        }
    }

    /// What has happened between `before` and this picture.
    pub(super) fn since(&self, before: &Self, span_ms: u32, answered: Option<AnswerTime>) -> Point {
        // An undone scan takes a counter back by one; a second has no negative entries.
        let more = |now: u64, then: u64| u32::try_from(now.saturating_sub(then)).unwrap_or(u32::MAX);
        let gates: Vec<[u32; 3]> = self
            .gates
            .iter()
            .enumerate()
            .map(|(i, now)| {
                let then = before.gates.get(i).map_or((0, 0, 0), |then| (then.admitted, then.exited, then.rejected));
                [more(now.admitted, then.0), more(now.exited, then.1), more(now.rejected, then.2)]
            })
            .collect();
        let reasons = self.rejections.iter().filter_map(|now| {
            let then = before.rejections.iter().find(|then| then.code == now.code).map_or(0, |then| then.count);
            Some((now.code, more(now.count, then))).filter(|&(_, n)| n > 0)
        });
        let sum = |what: usize| gates.iter().fold(0_u32, |sum, gate| sum.saturating_add(gate[what]));
        Point {
            at: self.at,
            span_ms,
            admitted: sum(0),
            exited: sum(1),
            rejected: sum(2),
            inside: self.zones.iter().filter(|z| z.parent.is_none()).map(|z| u64::from(z.occupancy)).sum(),
            p50_us: answered.as_ref().map(|times| times.p50_us),
            p99_us: answered.as_ref().map(|times| times.p99_us),
            reasons: reasons.collect(),
            gates,
        }
    }
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;
    use engine::ids::{GateNo, ZoneNo};
    use engine::rejection::Rejection;
    use engine::status::{FestivalStatus, ZoneState};
    use engine::time::Timestamp;
    use engine::view::{GateView, ZoneView};

    /// A festival with a ground (zone 0) and a deck in it (zone 1), and one gate to each.
    pub(in crate::live) fn live(
        gates: [(u64, u64, u64); 2],
        inside: [u32; 2],
        rejections: &[(Rejection, u64)],
    ) -> LiveView {
        let zone = |no: u8, parent| ZoneView {
            no: ZoneNo(no),
            name: format!("zone {no}"),
            parent,
            capacity: 100,
            occupancy: inside[usize::from(no)],
            admitted: 0,
            left: 0,
            state: ZoneState::Open,
        };
        let gate = |no: u16| {
            let (admitted, exited, rejected) = gates[usize::from(no)];
            GateView { no: GateNo(no), name: format!("gate {no}"), zone: ZoneNo(no as u8), admitted, exited, rejected }
        };
        LiveView {
            at: Timestamp(0),
            status: FestivalStatus::Ongoing,
            zones: vec![zone(0, None), zone(1, Some(ZoneNo(0)))],
            gates: vec![gate(0), gate(1)],
            rejections: rejections.to_vec(),
            conflicts: 0,
            latest: vec![],
        }
    }

    pub(in crate::live) fn picture(at: i64, live: &LiveView) -> Picture {
        Picture::of(live, at, true, None)
    }

    #[test]
    fn a_second_is_the_difference_of_two_pictures() {
        use Rejection::{AlreadyInside, ZoneFull};
        let before = picture(1_000, &live([(10, 4, 2), (3, 1, 0)], [6, 2], &[(AlreadyInside, 2)]));
        let now = picture(2_000, &live([(15, 5, 3), (3, 2, 1)], [10, 1], &[(AlreadyInside, 3), (ZoneFull, 1)]));
        let point = now.since(&before, 1_000, None);
        assert_eq!((point.admitted, point.exited, point.rejected), (5, 2, 2));
        assert_eq!(point.gates, [[5, 1, 1], [0, 1, 1]]);
        assert_eq!(point.reasons, HashMap::from([("already_inside", 1), ("zone_full", 1)]));
        assert_eq!(point.inside, 10, "who is in the deck is on the ground too, and is one person");
    }

    #[test]
    fn a_new_gate_and_an_undone_scan_are_no_surprise() {
        let two = live([(5, 0, 0), (7, 0, 0)], [0, 0], &[]);
        let mut one = two.clone();
        one.gates.truncate(1);
        assert_eq!(picture(2, &two).since(&picture(1, &one), 1_000, None).gates, [[0, 0, 0], [7, 0, 0]]);
        let undone = live([(4, 0, 0), (7, 0, 0)], [0, 0], &[]);
        assert_eq!(picture(3, &undone).since(&picture(2, &two), 1_000, None).admitted, 0);
    }
}
