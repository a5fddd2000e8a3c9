//! What a run on a cluster found.

use std::fmt;

use serde::Serialize;

use super::outage::Unavailable;
use crate::report::CrashReport;

/// What a scenario found, gates, bars and office together; `checked` has them apart.
#[derive(Clone, Debug, Serialize)]
pub struct ClusterReport {
    /// Which.
    pub scenario: &'static str,
    pub nodes: usize,
    pub brokers: usize,
    /// How often the failure came.
    pub cycles: u32,
    /// Answers that were said to be durable, to devices and to operators.
    pub acknowledged: u64,
    /// Of these, what the log does not have, or has otherwise; and what never was answered.
    pub lost: u64,
    /// What happened twice.
    pub doubled: u64,
    /// Answers other than the one that was due, or other than before; balances and books that do not agree; rules that the
    /// audit found broken; whatever else the scenario must not show.
    pub wrong: u64,
    /// From handing a command over to its durable answer, of the devices that were hit.
    pub unavailable_ms: Unavailable,
    /// The same of operators, over HTTP.
    pub office_ms: Unavailable,
    /// What was counted and compared, in full.
    pub checked: CrashReport,
    /// What the scenario must show and did not.
    pub unlike: Vec<String>,
}

impl ClusterReport {
    /// Adds up.
    pub fn new(
        scenario: &'static str,
        (nodes, brokers): (usize, usize),
        unavailable_ms: Unavailable,
        office_ms: Unavailable,
        checked: CrashReport,
        unlike: Vec<String>,
    ) -> Self {
        let money = &checked.money;
        let books = u64::from(!money.books_agree) + u64::from(money.in_transit != 0) + money.balances_wrong;
        Self {
            scenario,
            nodes,
            brokers,
            cycles: checked.cycles,
            acknowledged: checked.acknowledged + money.acknowledged + money.transfers + money.tag_changes,
            lost: checked.lost + money.lost,
            doubled: checked.doubled + money.doubled,
            wrong: checked.wrong + money.wrong + checked.violations + books + unlike.len() as u64,
            unavailable_ms,
            office_ms,
            checked,
            unlike,
        }
    }

    /// Nothing was lost, nothing happened twice, and the scenario showed what it must.
    pub fn is_good(&self) -> bool {
        (self.lost, self.doubled, self.wrong) == (0, 0, 0)
    }
}

impl fmt::Display for ClusterReport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { scenario, nodes, brokers, cycles, acknowledged, lost, doubled, wrong, .. } = self;
        writeln!(f, "{scenario}: {cycles} times, {nodes} nodes, {brokers} brokers")?;
        let mut row = |name: &str, value: String| writeln!(f, "  {name:<16} {value}");
        row("acknowledged", acknowledged.to_string())?;
        row("checked", format!("{lost} lost, {doubled} doubled, {wrong} wrong"))?;
        for (who, Unavailable { p50, max, hit, of }) in [("devices", self.unavailable_ms), ("office", self.office_ms)] {
            row(who, format!("unavailable p50 {p50} ms, max {max} ms ({hit} of {of} hit)"))?;
        }
        let checked = &self.checked;
        row("journal", format!("{} scans, {} commands at bars", checked.journaled, checked.money.journaled))?;
        row("again", format!("{} resent, {} calls", checked.resent + checked.money.resent, checked.money.asked_again))?;
        row("audit", format!("{} violations in {} records", checked.violations, checked.audited))?;
        self.unlike.iter().chain(&checked.notes).try_for_each(|note| writeln!(f, "  ! {note}"))
    }
}
