//! What a durable write costs on this disk, through the very path the journal takes: staged, checksummed, chained,
//! one write, one flush.

use std::{
    fmt, fs,
    path::Path,
    sync::Arc,
    time::{Duration, Instant},
};

use engine::model::ids::ShardId;

use super::{
    JournalError,
    disk::FolderDisk,
    format::{FRAME_HEADER, GROUP_HEADER, TRAILER},
    log::LogOptions,
    recover::recover,
};

/// What [`bench_disk`] measured.
#[derive(Clone, Debug, PartialEq)]
pub struct DiskReport {
    /// How durable writes are made here.
    pub way: &'static str,
    /// One row a size.
    pub rows: Vec<DiskRow>,
}

/// Durable writes of one size.
#[derive(Clone, Debug, PartialEq)]
pub struct DiskRow {
    /// What reaches the disk with each, in bytes.
    pub bytes: usize,
    /// How many were made.
    pub writes: usize,
    /// Median, in µs.
    pub p50_us: u64,
    /// 99th percentile, in µs.
    pub p99_us: u64,
    /// The longest, in µs.
    pub max_us: u64,
}

impl fmt::Display for DiskReport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "durable writes by {}", self.way)?;
        writeln!(f, "{:>10} {:>8} {:>8} {:>8} {:>8}", "bytes", "writes", "p50 µs", "p99 µs", "max µs")?;
        for row in &self.rows {
            let DiskRow { bytes, writes, p50_us, p99_us, max_us } = row;
            writeln!(f, "{bytes:>10} {writes:>8} {p50_us:>8} {p99_us:>8} {max_us:>8}")?;
        }
        Ok(())
    }
}

/// Measures durable writes of 4 KiB, 64 KiB and 1 MiB in a folder of its own under `dir`, for about `seconds` in all,
/// and removes it.
///
/// # Errors
/// As opening a journal there.
pub fn bench_disk(dir: &Path, seconds: f64) -> Result<DiskReport, JournalError> {
    let folder = dir.join(format!("bench-disk-{}", std::process::id()));
    fs::create_dir(&folder).map_err(|error| JournalError::io("create", &folder.display().to_string(), error))?;
    let report = measure(&folder, Duration::from_secs_f64(seconds / 3.0));
    // What was measured stands, removed or not.
    if let Err(error) = fs::remove_dir_all(&folder) {
        tracing::warn!(folder = %folder.display(), %error, "could not remove what the measurement wrote");
    }
    report
}

fn measure(folder: &Path, each: Duration) -> Result<DiskReport, JournalError> {
    let disk = Arc::new(FolderDisk::lock(folder)?);
    let way = disk.way().name();
    let options = LogOptions { shards: 1, ..LogOptions::default() };
    let (mut writer, _) = recover(disk, options)?;
    let mut rows = Vec::new();
    for bytes in [4 << 10, 64 << 10, 1 << 20] {
        let record = vec![0xA7; bytes - GROUP_HEADER - FRAME_HEADER - TRAILER.len()];
        let mut took_us = Vec::new();
        let started = Instant::now();
        while started.elapsed() < each || took_us.is_empty() {
            let before = Instant::now();
            writer.stage(ShardId(0), &record).expect("a group holds 1 MiB");
            // The next segment is zeroed off the path in a journal; here it would be measured as a write.
            let rolls = writer.must_roll();
            writer.flush()?;
            if !rolls {
                took_us.push(before.elapsed().as_micros() as u64);
            }
        }
        took_us.sort_unstable();
        let at = |share: usize| took_us[(took_us.len() * share / 100).min(took_us.len() - 1)];
        rows.push(DiskRow {
            bytes,
            writes: took_us.len(),
            p50_us: at(50),
            p99_us: at(99),
            max_us: took_us[took_us.len() - 1],
        });
    }
    Ok(DiskReport { way, rows })
}
