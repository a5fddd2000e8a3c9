//! Figures of the process and its machine: what it is, what it uses, how long disk and certificate will last.

use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use metrics::gauge;
use metrics_process::Collector;

/// How often they are looked at.
const EVERY: Duration = Duration::from_secs(5);

/// Sets these figures now and then; `certificate` is the QUIC door's. It has no end, and is to be run beside the doors.
pub async fn publish_metrics(data: PathBuf, certificate: Vec<u8>) {
    let process = Collector::default(); // process_*, by Prometheus' own names
    process.describe();
    metrics::describe_gauge!("tapgate_build_info", "Always 1; the labels say what runs here.");
    metrics::describe_gauge!(
        "tapgate_disk_free_bytes",
        metrics::Unit::Bytes,
        "What the data folder's disk has left for this process. Without any, nothing is decided."
    );
    metrics::describe_gauge!(
        "tapgate_snapshot_age_seconds",
        metrics::Unit::Seconds,
        "Since the newest snapshot was written. What came after it is replayed at a start."
    );
    metrics::describe_gauge!(
        "tapgate_certificate_days_left",
        "Days until the certificate that devices see at the QUIC door is no longer valid."
    );
    gauge!("tapgate_build_info", "version" => env!("CARGO_PKG_VERSION")).set(1.0);
    let expires_at = expires_at(&certificate);
    let mut every = tokio::time::interval(EVERY);
    loop {
        every.tick().await;
        process.collect();
        if let Ok(disk) = rustix::fs::statvfs(&data) {
            gauge!("tapgate_disk_free_bytes").set((disk.f_bavail * disk.f_frsize) as f64);
        }
        let now = SystemTime::now();
        if let Some(age) = newest(&data.join("snapshots")).and_then(|written| now.duration_since(written).ok()) {
            gauge!("tapgate_snapshot_age_seconds").set(age.as_secs_f64());
        }
        if let (Some(then), Ok(now)) = (expires_at, now.duration_since(SystemTime::UNIX_EPOCH)) {
            gauge!("tapgate_certificate_days_left").set((then - now.as_secs() as i64) as f64 / 86_400.0);
        }
    }
}

/// When the newest file of a folder was written.
fn newest(folder: &Path) -> Option<SystemTime> {
    let files = std::fs::read_dir(folder).ok()?.filter_map(Result::ok);
    files.filter_map(|file| file.metadata().ok()?.modified().ok()).max()
}

/// When a certificate (DER) is no longer valid, in seconds since 1970.
fn expires_at(certificate: &[u8]) -> Option<i64> {
    let (_, certificate) = x509_parser::parse_x509_certificate(certificate).ok()?;
    Some(certificate.validity().not_after.timestamp())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_certificate_says_when_it_ends() {
        let mut asked = rcgen::CertificateParams::new(vec!["tapgate".into()]).unwrap();
        asked.not_after = rcgen::date_time_ymd(2031, 1, 2);
        let key = rcgen::KeyPair::generate().unwrap();
        let made = asked.self_signed(&key).unwrap();
        let then: jiff::Timestamp = "2031-01-02T00:00:00Z".parse().unwrap();
        assert_eq!(expires_at(made.der()), Some(then.as_second()));
        assert_eq!(expires_at(b"nothing of the kind"), None);
    }

    #[test]
    fn the_newest_file_counts_and_an_empty_folder_has_none() {
        let folder = tempfile::tempdir().unwrap();
        assert_eq!(newest(folder.path()), None);
        std::fs::write(folder.path().join("1"), "").unwrap();
        let first = newest(folder.path()).unwrap();
        let later = first + Duration::from_secs(60);
        let file = std::fs::File::create(folder.path().join("2")).unwrap();
        file.set_modified(later).unwrap();
        assert_eq!(newest(folder.path()), Some(later));
    }
}
