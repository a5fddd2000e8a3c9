//! `tapgate backup`: copies a data folder, beside a running server or without one, and audits the copy. What it needs lies
//! in the folder and never changes once it is durable, so the server is neither asked nor stopped.
//!
//! The copy is made under another name and takes its own when it has been found whole, so that a backup that was broken off
//! is never taken for one. Read models are left out: they are made again from the journal.

use std::fmt;
use std::fs::{self, DirBuilder, File};
use std::io;
use std::os::unix::fs::DirBuilderExt as _;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use anyhow::{Context as _, bail, ensure};
use clap::Args;
use storage::journal::backup::copy;
use storage::journal::disk::FolderDisk;

use crate::cli::{DataFolder, audit, journal_in};
use crate::server::config::Config;
use crate::server::tls;

/// `tapgate backup`
#[derive(Debug, Args)]
pub struct Backup {
    /// Where the copy goes: a folder that does not exist yet, or is empty.
    #[arg(long, value_name = "DIR")]
    pub to: PathBuf,
    /// Where the data is.
    #[command(flatten)]
    pub data: DataFolder,
}

/// Secrets that lie in the data folder, unless the settings say them.
const SECRETS: [&str; 3] = ["qr.secret", tls::FILE, tls::NEXT_FILE];

/// What came of it.
#[derive(Debug)]
pub struct BackedUp {
    to: PathBuf,
    records: u64,
    bytes: u64,
    snapshots: usize,
    took: Duration,
    /// Settings that are part of what a restored server needs, and are not in the copy.
    apart: Vec<&'static str>,
}

/// Does it.
///
/// # Errors
/// The folder holds no journal, or one that is not whole; the copy cannot be written, or its audit finds something.
pub fn run(config: &Config, to: &Path) -> anyhow::Result<BackedUp> {
    ensure!(
        config.cluster.is_none(),
        "the journal lies on Kafka, which keeps a copy on each of several brokers: `backup` copies a data folder"
    );
    let began = Instant::now();
    let source = FolderDisk::read_only(&journal_in(&config.data))?;
    let aside = beside(to)?;
    must_be_new(to)?;
    must_be_new(&aside)?;
    make(&aside)?;
    // Snapshots first: none of them can then be ahead of the journal.
    let snapshots = copy_snapshots(&config.data.join("snapshots"), &aside.join("snapshots"))?;
    for name in SECRETS {
        let from = config.data.join(name);
        if from.try_exists().with_context(|| from.display().to_string())? {
            copy_file(&from, &aside.join(name))?;
        }
    }
    let journal = journal_in(&aside);
    make(&journal)?;
    let target = FolderDisk::lock(&journal)?;
    let copied = copy(&source, &target)?;
    drop(target);
    flush(&aside)?;

    let findings = audit::folder(&aside)?;
    if let Some(verdict) = findings.verdict() {
        bail!("the copy in {} does not pass the audit: {verdict}\n{findings}", aside.display());
    }
    ensure!(
        findings.journal.chain == audit::hex(&copied.end.chain),
        "the copy in {} does not end where the journal did",
        aside.display()
    );
    fs::rename(&aside, to).with_context(|| format!("cannot rename {} to {}", aside.display(), to.display()))?;
    flush(to.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new(".")))?;
    let apart = [("qr_secret", config.qr_secret.is_some()), ("tls_certificate and tls_key", config.tls.is_some())];
    Ok(BackedUp {
        to: to.to_owned(),
        records: copied.end.lsn,
        bytes: copied.bytes,
        snapshots,
        took: began.elapsed(),
        apart: apart.into_iter().filter(|(_, set)| *set).map(|(name, _)| name).collect(),
    })
}

impl fmt::Display for BackedUp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { to, records, bytes, snapshots, took, apart } = self;
        let (megabytes, to) = (*bytes as f64 / 1e6, to.display());
        writeln!(
            f,
            "{to}: {records} records, {megabytes:.0} MB, {snapshots} snapshots, in {:.1} s",
            took.as_secs_f64()
        )?;
        writeln!(f, "The audit of the copy holds. To restore it: tapgate serve --data {to}")?;
        for setting in apart {
            writeln!(f, "Not in the copy, because your settings say where it is: {setting}")?;
        }
        Ok(())
    }
}

/// The name under which the copy is made.
fn beside(to: &Path) -> anyhow::Result<PathBuf> {
    let name = to.file_name().with_context(|| format!("{} is not the name of a folder", to.display()))?;
    let mut aside = name.to_owned();
    aside.push(".incomplete");
    Ok(to.with_file_name(aside))
}

fn must_be_new(folder: &Path) -> anyhow::Result<()> {
    match fs::read_dir(folder) {
        Err(why) if why.kind() == io::ErrorKind::NotFound => Ok(()),
        Err(why) => Err(why).with_context(|| folder.display().to_string()),
        Ok(mut entries) => match entries.next() {
            None => Ok(()),
            Some(_) => bail!("{} is not empty: choose another folder, or remove what is there", folder.display()),
        },
    }
}

fn make(folder: &Path) -> anyhow::Result<()> {
    let made = DirBuilder::new().recursive(true).mode(0o700).create(folder);
    made.with_context(|| format!("cannot create {}", folder.display()))
}

fn copy_snapshots(from: &Path, to: &Path) -> anyhow::Result<usize> {
    make(to)?;
    let entries = match fs::read_dir(from) {
        Err(why) if why.kind() == io::ErrorKind::NotFound => return Ok(0),
        entries => entries.with_context(|| from.display().to_string())?,
    };
    let mut copied = 0;
    for entry in entries {
        let name = entry?.file_name();
        if !name.to_string_lossy().ends_with(".snapshot") {
            continue;
        }
        match copy_file(&from.join(&name), &to.join(&name)) {
            Ok(()) => copied += 1,
            // It has just given way to a newer one. The journal has it all.
            Err(why) if is_gone(&why) => {}
            Err(why) => return Err(why),
        }
    }
    flush(to)?;
    Ok(copied)
}

fn is_gone(why: &anyhow::Error) -> bool {
    why.downcast_ref::<io::Error>().is_some_and(|why| why.kind() == io::ErrorKind::NotFound)
}

fn copy_file(from: &Path, to: &Path) -> anyhow::Result<()> {
    let doing = || format!("cannot copy {} to {}", from.display(), to.display());
    fs::copy(from, to).with_context(doing)?;
    File::open(to).and_then(|file| file.sync_all()).with_context(doing)
}

fn flush(folder: &Path) -> anyhow::Result<()> {
    File::open(folder)
        .and_then(|folder| folder.sync_all())
        .with_context(|| format!("cannot flush {}", folder.display()))
}
