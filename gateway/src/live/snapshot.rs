//! What the live stream shows of a festival: a picture of how things stand, and what a second has brought, which is the
//! difference of two pictures.

use std::borrow::Cow;
use std::collections::HashMap;

use engine::gates::view::LiveView;
use engine::model::rejection::Rejection;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::live::cashless::{CashPoint, Cashless};
use crate::live::names::Names;
use crate::server::latency::Latency;

/// The answer times shown are those of the last ten seconds; a point has those of its own.
pub(super) const ANSWERS_S: u64 = 10;

/// What one second has brought.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase")]
#[schema(as = LivePoint)]
pub struct Point {
    /// When it ended.
    pub(crate) at: i64,
    /// How long it was: 1,000, or more after a hold-up.
    pub(crate) span_ms: u32,
    /// Entries, at all gates.
    pub(crate) admitted: u32,
    /// Exits.
    pub(crate) exited: u32,
    /// Rejections.
    pub(crate) rejected: u32,
    /// How many were inside the perimeters at its end.
    pub(crate) inside: u64,
    /// Answer times of that second, of the whole server; null if nothing was answered.
    pub(crate) p50_us: Option<u64>,
    pub(crate) p99_us: Option<u64>,
    /// `[admitted, exited, rejected]` by gate number; empty when older than two minutes.
    pub(crate) gates: Vec<[u32; 3]>,
    /// Rejections by code.
    pub(crate) reasons: HashMap<Cow<'static, str>, u32>,
    /// What it has brought at the terminals; null where the festival takes no cashless payments.
    pub(crate) cash: Option<CashPoint>,
}

/// How things stand.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase")]
#[schema(as = LivePicture)]
pub struct Snapshot {
    /// When this was asked.
    pub(crate) at: i64,
    /// `ONGOING` and the like.
    pub(crate) status: Cow<'static, str>,
    /// False while the journal takes no writes: readers answer `unavailable`.
    pub(crate) recording: bool,
    pub(crate) zones: Vec<Zone>,
    pub(crate) gates: Vec<Gate>,
    /// Since the festival was made.
    pub(crate) rejections: Vec<Reason>,
    /// Scans whose shown answer stood against what would have been decided.
    pub(crate) conflicts: u64,
    /// The last rejections, newest first, at most 32.
    pub(crate) latest: Vec<Refused>,
    /// Answer times of the whole server; null if nothing was answered lately.
    pub(crate) latency: Option<AnswerTime>,
    /// How it stands with the money; null where the festival takes no cashless payments.
    pub(crate) cash: Option<Cashless>,
}

/// A zone with who is in it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase")]
#[schema(as = LiveZone)]
pub struct Zone {
    pub(crate) no: u8,
    pub(crate) name: String,
    /// The zone it lies in; null for a perimeter.
    pub(crate) parent: Option<u8>,
    pub(crate) capacity: u32,
    pub(crate) occupancy: u32,
    /// `OPEN`, `CLOSED`, `EVACUATING`.
    pub(crate) state: Cow<'static, str>,
}

/// A gate with what it has done since the festival was made.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase")]
#[schema(as = LiveGate)]
pub struct Gate {
    pub(crate) no: u16,
    pub(crate) name: String,
    /// The zone it leads into.
    pub(crate) zone: u8,
    pub(crate) admitted: u64,
    pub(crate) exited: u64,
    /// Entries and exits that were undone, and are in neither.
    #[serde(default)]
    pub(crate) undone: u64,
    pub(crate) rejected: u64,
}

/// How often a reason was given.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase")]
#[schema(as = LiveReason)]
pub struct Reason {
    pub(crate) code: Cow<'static, str>,
    /// What the steward says.
    pub(crate) say: Cow<'static, str>,
    pub(crate) count: u64,
}

/// One of the last rejections.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase")]
#[schema(as = LiveRefused)]
pub struct Refused {
    pub(crate) at: i64,
    pub(crate) gate: u16,
    pub(crate) device: String,
    /// What that reader is called; null until the server has looked it up, a second or so.
    pub(crate) reader: Option<String>,
    pub(crate) code: Cow<'static, str>,
    pub(crate) say: Cow<'static, str>,
    pub(crate) ticket: Option<String>,
    /// The reader had let somebody in before a crash, and that stands.
    pub(crate) conflict: bool,
}

/// Answer times.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase")]
#[schema(as = LiveAnswerTime)]
pub struct AnswerTime {
    pub(crate) p50_us: u64,
    pub(crate) p99_us: u64,
    /// How many answers this speaks of.
    pub(crate) answers: u64,
    /// Over how many seconds.
    pub(crate) window_s: u64,
}

impl Reason {
    pub(super) fn of(reason: Rejection, count: u64) -> Self {
        Self { code: reason.code().into(), say: reason.sentence().into(), count }
    }

    /// How often each was given between two pictures.
    pub(super) fn since(now: &[Self], before: &[Self]) -> HashMap<Cow<'static, str>, u32> {
        let recent = now.iter().filter_map(|now| {
            let then = before.iter().find(|then| then.code == now.code).map_or(0, |then| then.count);
            Some((now.code.clone(), more(now.count, then))).filter(|&(_, n)| n > 0)
        });
        recent.collect()
    }
}

/// How much a counter has grown. An undone scan takes one back; a second has no negative entries.
pub(super) fn more(now: u64, then: u64) -> u32 {
    u32::try_from(now.saturating_sub(then)).unwrap_or(u32::MAX)
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

impl Snapshot {
    pub(super) fn of(
        view: &LiveView,
        cash: Option<Cashless>,
        names: &Names,
        at: i64,
        recording: bool,
        latency: Option<AnswerTime>,
    ) -> Self {
        Self {
            at,
            status: view.status.word().into(),
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
                    state: zone.state.word().into(),
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
                    undone: gate.undone,
                    rejected: gate.rejected,
                })
                .collect(),
            rejections: view.rejections.iter().map(|&(reason, count)| Reason::of(reason, count)).collect(),
            conflicts: view.conflicts,
            latest: view
                .latest
                .iter()
                .map(|refused| Refused {
                    at: refused.at.0,
                    gate: refused.gate.0,
                    device: refused.device.to_string(),
                    reader: names.get(refused.device).map(str::to_owned),
                    code: refused.reason.code().into(),
                    say: refused.reason.sentence().into(),
                    ticket: refused.ticket.map(|ticket| ticket.to_string()),
                    conflict: refused.conflict,
                })
                .collect(),
            latency,
            cash,
        }
    }

    /// What has happened between `before` and this picture.
    pub(super) fn since(&self, before: &Self, span_ms: u32, answered: Option<AnswerTime>) -> Point {
        let gates: Vec<[u32; 3]> = self
            .gates
            .iter()
            .enumerate()
            .map(|(i, now)| {
                let then = before.gates.get(i).map_or((0, 0, 0), |then| (then.admitted, then.exited, then.rejected));
                [more(now.admitted, then.0), more(now.exited, then.1), more(now.rejected, then.2)]
            })
            .collect();
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
            reasons: Reason::since(&self.rejections, &before.rejections),
            gates,
            cash: self.cash.as_ref().map(|now| now.since(before.cash.as_ref())),
        }
    }
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;
    use engine::gates::view::{GateView, RecentRejection, ZoneView};
    use engine::model::ids::{DeviceId, FestivalId, GateNo, ZoneNo};
    use engine::model::status::{FestivalStatus, ZoneState};
    use engine::model::time::Timestamp;

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
            GateView {
                no: GateNo(no),
                name: format!("gate {no}"),
                zone: ZoneNo(no as u8),
                admitted,
                exited,
                undone: 0,
                rejected,
            }
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

    pub(in crate::live) fn snapshot(at: i64, live: &LiveView) -> Snapshot {
        Snapshot::of(live, None, &Names::known(FestivalId(7), &[(3, "North 1")]), at, true, None)
    }

    #[test]
    fn a_second_is_the_difference_of_two_pictures() {
        use Rejection::{AlreadyInside, ZoneFull};
        let before = snapshot(1_000, &live([(10, 4, 2), (3, 1, 0)], [6, 2], &[(AlreadyInside, 2)]));
        let now = snapshot(2_000, &live([(15, 5, 3), (3, 2, 1)], [10, 1], &[(AlreadyInside, 3), (ZoneFull, 1)]));
        let point = now.since(&before, 1_000, None);
        assert_eq!((point.admitted, point.exited, point.rejected), (5, 2, 2));
        assert_eq!(point.gates, [[5, 1, 1], [0, 1, 1]]);
        assert_eq!(point.reasons, HashMap::from([("already_inside".into(), 1), ("zone_full".into(), 1)]));
        assert_eq!(point.inside, 10, "who is in the deck is on the ground too, and is one person");
    }

    #[test]
    fn a_refusal_names_its_reader() {
        let mut view = live([(0, 0, 1); 2], [0, 0], &[]);
        view.latest = [3, 4]
            .map(|number| RecentRejection {
                at: Timestamp(5),
                gate: GateNo(1),
                device: DeviceId::new(FestivalId(7), number),
                reason: Rejection::ZoneFull,
                ticket: None,
                conflict: false,
            })
            .to_vec();
        let named: Vec<_> = snapshot(6, &view).latest.into_iter().map(|refused| refused.reader).collect();
        assert_eq!(named, [Some("North 1".to_owned()), None]);
    }

    #[test]
    fn a_new_gate_and_an_undone_scan_are_no_surprise() {
        let two = live([(5, 0, 0), (7, 0, 0)], [0, 0], &[]);
        let mut one = two.clone();
        one.gates.truncate(1);
        assert_eq!(snapshot(2, &two).since(&snapshot(1, &one), 1_000, None).gates, [[0, 0, 0], [7, 0, 0]]);
        let undone = live([(4, 0, 0), (7, 0, 0)], [0, 0], &[]);
        assert_eq!(snapshot(3, &undone).since(&snapshot(2, &two), 1_000, None).admitted, 0);
    }
}
