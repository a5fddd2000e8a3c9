//! What the machine did meanwhile: processor time, memory, time stolen by its neighbours.

use std::fs;
use std::time::Duration;

/// What a process has used.
#[derive(Clone, Copy, Debug, Default)]
pub struct Usage {
    /// Memory it holds, in bytes.
    pub rss_bytes: u64,
    /// Processor time since it began.
    pub cpu: Duration,
}

/// What a process has used; nothing if it is gone.
pub fn usage(pid: u32) -> Usage {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    // The name, in parentheses, may hold anything; behind it, fields are separated by spaces.
    let fields: Vec<u64> = stat
        .rsplit_once(')')
        .map(|(_, rest)| rest.split_whitespace().map(|field| field.parse().unwrap_or(0)).collect())
        .unwrap_or_default();
    let field = |number: usize| fields.get(number - 3).copied().unwrap_or(0);
    let ticks = field(14) + field(15);
    let per_s = rustix::param::clock_ticks_per_second().max(1);
    Usage {
        rss_bytes: field(24) * rustix::param::page_size() as u64,
        cpu: Duration::from_millis(ticks * 1_000 / per_s),
    }
}

/// The machine's processor time, in ticks, so far.
#[derive(Clone, Copy, Debug, Default)]
pub struct Ticks {
    steal: u64,
    all: u64,
}

impl Ticks {
    /// Until now.
    pub fn now() -> Self {
        let stat = fs::read_to_string("/proc/stat").unwrap_or_default();
        let cpu = stat.lines().next().unwrap_or_default();
        // user nice system idle iowait irq softirq steal; what follows is counted in user and nice already.
        let fields: Vec<u64> = cpu.split_whitespace().skip(1).take(8).map(|n| n.parse().unwrap_or(0)).collect();
        Self { steal: fields.get(7).copied().unwrap_or(0), all: fields.iter().sum() }
    }

    /// How much of the time since `earlier` was stolen, in percent.
    pub fn steal_pct_since(&self, earlier: &Self) -> f64 {
        let all = self.all.saturating_sub(earlier.all).max(1);
        let share = self.steal.saturating_sub(earlier.steal) as f64 / all as f64;
        (share * 10_000.0).round() / 100.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn this_process_uses_something() {
        let before = Ticks::now();
        let usage = usage(std::process::id());
        assert!(usage.rss_bytes > 1_000_000, "{usage:?}");
        assert!((0.0..=100.0).contains(&Ticks::now().steal_pct_since(&before)));
        assert_eq!(super::usage(0).rss_bytes, 0);
    }
}
