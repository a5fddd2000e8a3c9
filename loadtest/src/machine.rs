//! What the machine did meanwhile: processor time, memory, time stolen by its neighbours.

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::MetadataExt as _;
use std::path::Path;
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

/// What the threads of one name have used.
#[derive(Clone, Copy, Debug, Default)]
pub struct ThreadUsage {
    /// Processor time since they began.
    pub cpu: Duration,
    /// Bytes that they caused to be written to a disk.
    pub written: u64,
}

/// What the threads of a process have used, by name; those that have ended are not among them. The system keeps 15 letters
/// of a name.
pub fn threads(pid: u32) -> BTreeMap<String, ThreadUsage> {
    let mut threads: BTreeMap<String, ThreadUsage> = BTreeMap::new();
    for task in fs::read_dir(format!("/proc/{pid}/task")).into_iter().flatten().flatten() {
        let read = |file: &str| fs::read_to_string(task.path().join(file)).unwrap_or_default();
        let ns = read("schedstat").split_whitespace().next().and_then(|ns| ns.parse().ok()).unwrap_or(0);
        let written = read("io").lines().find_map(|line| line.strip_prefix("write_bytes: ")?.parse().ok()).unwrap_or(0);
        let usage = threads.entry(read("comm").trim().to_owned()).or_default();
        usage.cpu += Duration::from_nanos(ns);
        usage.written += written;
    }
    threads
}

/// What the files in a folder take on the disk, in bytes.
pub fn disk_bytes(folder: &Path) -> u64 {
    let entries = fs::read_dir(folder).into_iter().flatten().flatten();
    let sizes = entries.map(|entry| match entry.metadata() {
        Ok(metadata) if metadata.is_dir() => disk_bytes(&entry.path()),
        // `blocks` counts 512 bytes each, whatever the file system's own are.
        Ok(metadata) => metadata.blocks() * 512,
        Err(_) => 0,
    });
    sizes.sum()
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

    #[test]
    fn threads_are_told_apart_by_name_and_folders_have_a_size() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("a");
        let writer = std::thread::Builder::new().name("writer".into()).spawn(move || {
            fs::write(&file, vec![7; 1 << 20]).unwrap();
            fs::File::open(&file).unwrap().sync_all().unwrap();
            threads(std::process::id())
        });
        let seen = writer.unwrap().join().unwrap();
        assert!(seen["writer"].cpu > Duration::ZERO, "{seen:?}");
        assert!(disk_bytes(folder.path()) >= 1 << 20);
        assert!(threads(0).is_empty());
    }
}
