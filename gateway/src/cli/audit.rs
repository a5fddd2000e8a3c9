//! `tapgate audit`: reads the journal from its first record to its last, verifies the chain, and checks what must always
//! hold at the gates. It changes nothing, and may be run beside a server: it then covers what was durable when it began.
//!
//! The engine's checks end where damage begins, since books that miss records prove nothing; what lies behind is counted,
//! so that somebody can tell a torn page from a lost disk.
//!
//! A journal that lacks its newest part looks whole from within. Others know how long it has been: the file `reached` beside
//! it, the snapshots, the read models. They are asked first, so that a journal that grows meanwhile is never behind them.

use std::fmt::{self, Write as _};
use std::panic::catch_unwind;
use std::path::Path;

use anyhow::Context as _;
use clap::Args;
use engine::audit::Report;
use serde::Serialize;
use storage::journal::{Entry, JournalError, offline, reached};
use storage::snapshots::FileSnapshots;
use storage::views::embedded::EmbeddedViews;

use crate::cli::progress::Progress;
use crate::cli::worker_pool::WorkerPool;
use crate::cli::{DataFolder, journal_in};
use crate::read_models;
use crate::server::config::Config;

/// `tapgate audit`
#[derive(Debug, Args)]
pub struct Audit {
    /// Where the data is.
    #[command(flatten)]
    pub data: DataFolder,
    /// Print one JSON object instead of text.
    #[arg(long)]
    pub json: bool,
}

/// All that was found.
#[derive(Debug, Serialize)]
pub struct Findings {
    /// Nothing is damaged, and nothing violated.
    pub holds: bool,
    /// The journal as such.
    pub journal: Chain,
    /// What its records say.
    pub gates: Report,
}

/// The journal as such.
#[derive(Debug, Serialize)]
pub struct Chain {
    /// For how many shards it was made.
    pub shards: u16,
    /// Records whose place in the chain was verified, those behind damage included.
    pub records: u64,
    /// Of these, behind the first damage: not checked further.
    pub records_behind_damage: u64,
    /// Records that are missing, as far as their numbers tell.
    pub records_missing: u64,
    /// The chain hash after the last record: two journals that agree in it are the same. 32 hexadecimal digits.
    pub chain: String,
    /// Stretches that do not hold.
    pub damage: Vec<Damage>,
    /// What somebody else knows of records that should follow, and do not.
    pub missing: Vec<Missing>,
    /// The remains of a write that was never acknowledged, or is under way: no damage.
    pub torn: Option<Torn>,
}

/// A stretch of the journal that does not hold.
#[derive(Debug, Serialize)]
pub struct Damage {
    /// The segment in which it begins.
    pub file: String,
    /// Where, in bytes.
    pub offset: u64,
    /// What does not hold.
    pub why: String,
    /// Where reading goes on; `null`: nothing behind it holds.
    pub resumes: Option<Place>,
    /// Records missing in between, as far as their numbers tell.
    pub missing: u64,
}

/// Records that should be at the journal's end, and are not.
#[derive(Debug, Serialize)]
pub struct Missing {
    /// Who says so: a file in the data folder.
    pub witness: String,
    /// Everything before this position was there.
    pub up_to: u64,
    /// The first position that is not there.
    pub ends: u64,
    /// In a sentence.
    pub why: String,
}

/// A place in the journal.
#[derive(Debug, Serialize)]
pub struct Place {
    /// The segment.
    pub file: String,
    /// Where in it, in bytes.
    pub offset: u64,
}

/// A torn tail.
#[derive(Debug, Serialize)]
pub struct Torn {
    /// The segment.
    pub file: String,
    /// Where it begins, in bytes.
    pub offset: u64,
    /// What was missing.
    pub why: String,
}

/// After so many records it is said how far it is.
const PROGRESS_EVERY: u64 = 256;

/// Does it, wherever the journal lies.
///
/// # Errors
/// [`JournalError`] if there is no journal that can be read at all. Damage is a finding, not an error.
pub fn run(config: &Config) -> anyhow::Result<Findings> {
    #[cfg(feature = "cluster")]
    if let Some(cluster) = &config.cluster {
        return on_kafka::run(&crate::server::stores::cluster::options(config, cluster));
    }
    folder(&config.data)
}

/// The audit of a data folder.
///
/// # Errors
/// As [`run`].
pub fn folder(data: &Path) -> anyhow::Result<Findings> {
    let witnesses = witnesses(data);
    let mut journal = offline::read_only(&journal_in(data))?;
    let not_whole = journal.missing().map(|(ends, why)| (ends, why.to_owned()));
    let shards = journal.shards().context("no segment of the journal says how many shards it has")?;
    let torn = journal.torn().map(|torn| Torn { file: torn.file.clone(), offset: torn.offset, why: torn.why.clone() });
    let mut chain = Chain {
        shards,
        records: 0,
        records_behind_damage: 0,
        records_missing: 0,
        chain: String::new(),
        damage: Vec::new(),
        missing: Vec::new(),
        torn,
    };
    let mut books = WorkerPool::new(shards).context("cannot start threads for the audit")?;
    let mut progress = Progress::new(journal.ends_at());
    loop {
        match journal.next() {
            Ok(None) => break,
            Ok(Some(Entry { shard, position, payload })) => {
                chain.records += 1;
                if chain.damage.is_empty() {
                    books.record(shard, payload);
                } else {
                    chain.records_behind_damage += 1;
                }
                if chain.records.is_multiple_of(PROGRESS_EVERY) {
                    progress.at(position.0 + 1);
                }
            }
            Err(JournalError::Damaged { .. }) => {
                let Some(gap) = journal.skip_damage()? else { continue };
                chain.records_missing += gap.missing;
                chain.damage.push(Damage {
                    file: gap.file,
                    offset: gap.offset,
                    why: gap.why,
                    resumes: gap.resumes.map(|(file, offset)| Place { file, offset }),
                    missing: gap.missing,
                });
            }
            Err(other) => return Err(other.into()),
        }
    }
    progress.finish();
    let (end, last) = journal.expected().unwrap_or_default();
    if let Some((ends, why)) = not_whole {
        let up_to = witnesses.reached.unwrap_or(ends).max(ends);
        chain.missing.push(Missing { witness: format!("journal/{}", reached::NAME), up_to, ends, why });
    }
    for (witness, up_to) in witnesses.others.into_iter().filter(|(_, up_to)| *up_to > end) {
        let why = format!("it covers everything before position {up_to}");
        chain.missing.push(Missing { witness, up_to, ends: end, why });
    }
    chain.chain = hex(&last);
    let gates = books.finish();
    let whole = chain.damage.is_empty() && chain.missing.is_empty();
    Ok(Findings { holds: whole && gates.holds(), journal: chain, gates })
}

#[cfg(feature = "cluster")]
mod on_kafka {
    //! The audit of a journal on Kafka. It asks no witnesses: how far a partition was acknowledged is Kafka's own matter.

    use sha2::{Digest as _, Sha256};
    use storage::journal::kafka::{Options, offline::Walk};

    use super::*;

    pub(super) fn run(options: &Options) -> anyhow::Result<Findings> {
        let mut walk = Walk::begin(options)?;
        let (mut records, mut damage) = (0, Vec::new());
        let mut books = WorkerPool::new(options.shards).context("cannot start threads for the audit")?;
        let mut progress = Progress::new(Some(walk.ends_at()));
        loop {
            match walk.next_record() {
                Ok(None) => break,
                Ok(Some(Entry { shard, payload, .. })) => {
                    records += 1;
                    books.record(shard, payload);
                    if records % PROGRESS_EVERY == 0 {
                        progress.at(walk.passed());
                    }
                }
                Err(JournalError::Damaged { file, offset, why }) => {
                    damage.push(Damage { file, offset, why, resumes: None, missing: 0 });
                }
                Err(other) => return Err(other.into()),
            }
        }
        progress.finish();
        // Each shard has its own; of all of them together, in order.
        let all = walk.chains().fold(Sha256::new(), |all, chain| all.chain_update(chain)).finalize();
        let journal = Chain {
            shards: options.shards,
            records,
            records_behind_damage: 0,
            records_missing: 0,
            chain: hex(&all[..16]),
            damage,
            missing: Vec::new(),
            torn: None,
        };
        let gates = books.finish();
        Ok(Findings { holds: journal.damage.is_empty() && gates.holds(), journal, gates })
    }
}

/// A chain hash as it is printed.
pub(super) fn hex(chain: &[u8]) -> String {
    chain.iter().fold(String::new(), |mut text, byte| {
        write!(text, "{byte:02x}").expect("a String grows");
        text
    })
}

/// How far the journal has been, as others know.
struct Witnesses {
    reached: Option<u64>,
    /// Each with the first position that it does not cover.
    others: Vec<(String, u64)>,
}

/// One that cannot be asked says nothing: it is in use, or damaged, and is made anew from the journal.
fn witnesses(data: &Path) -> Witnesses {
    let reached = storage::journal::disk::FolderDisk::read_only(&journal_in(data));
    let reached = reached.and_then(|disk| reached::read(&disk)).ok().and_then(reached::Witness::known);
    let snapshot =
        FileSnapshots::open(&data.join("snapshots")).and_then(|snapshots| snapshots.furthest()).ok().flatten();
    let snapshot = snapshot.map(|(name, position)| (format!("snapshots/{name}"), position.0));
    // A file that is damaged may make its reader panic.
    let views = read_models::file_in(data);
    let views = catch_unwind(|| EmbeddedViews::followed_at_rest(&views)).ok().flatten();
    let views = views.map(|followed| ("views/views.redb".to_owned(), offline::place_in_log(&followed.cursor).0));
    Witnesses { reached: reached.map(|reached| reached.lsn), others: snapshot.into_iter().chain(views).collect() }
}

impl Findings {
    /// What is wrong, in one sentence; `None` if nothing is.
    pub fn verdict(&self) -> Option<String> {
        let damage = match self.journal.damage.len() {
            0 => None,
            stretches => Some(format!("the journal is damaged in {stretches} place(s)")),
        };
        let missing = self.journal.missing.iter().map(|missing| missing.up_to - missing.ends).max();
        let missing = missing.map(|records| match records {
            0 => "the journal's newest part is missing".to_owned(),
            records => format!("the journal's newest part is missing, at least {records} record(s)"),
        });
        let violations = match self.gates.violations_total {
            0 => None,
            total => Some(format!("{total} violation(s) of what must always hold")),
        };
        let both: Vec<_> = damage.into_iter().chain(missing).chain(violations).collect();
        (!both.is_empty()).then(|| both.join(", "))
    }
}

impl fmt::Display for Findings {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Chain { shards, records, records_behind_damage, records_missing, chain, damage, missing, torn } =
            &self.journal;
        writeln!(f, "journal   {records} records of {shards} shards, chain {chain}")?;
        if let Some(torn) = torn {
            // Where acknowledged records are missing, what is left of one of them looks torn too.
            let remark = if missing.is_empty() { " (never acknowledged, so not damage)" } else { "" };
            writeln!(f, "torn      {} from byte {}: {}{remark}", torn.file, torn.offset, torn.why)?;
        }
        for Missing { witness, up_to: _, ends, why } in missing {
            writeln!(f, "MISSING   from position {ends} on, as {witness} knows: {why}")?;
        }
        for Damage { file, offset, why, resumes, missing } in damage {
            write!(f, "DAMAGED   {file} at byte {offset}: {why}; ")?;
            match resumes {
                Some(place) => {
                    writeln!(f, "continues in {} at byte {}, {missing} records missing", place.file, place.offset)?
                }
                None => writeln!(f, "nothing after it can be read")?,
            }
        }
        if !damage.is_empty() {
            writeln!(
                f,
                "          {records_missing} records missing; {records_behind_damage} whole ones after the damage are not checked below"
            )?;
        }
        let gates = &self.gates;
        writeln!(
            f,
            "gates     {} events: {} admitted, {} exited, {} rejected, {} undone; {} tickets issued",
            gates.events, gates.admitted, gates.exited, gates.rejected, gates.undone, gates.tickets
        )?;
        writeln!(
            f,
            "money     {} transactions: {} debits, {} refunds, {} transfers of which {} came back; {} refused\n",
            gates.transactions,
            gates.debits,
            gates.refunds,
            gates.transfers,
            gates.transfers_returned,
            gates.cash_rejected
        )?;
        for check in &gates.checks {
            let outcome =
                if check.violated == 0 { "holds".into() } else { format!("VIOLATED {} times", check.violated) };
            writeln!(f, "{:<13} {:>10} times  {outcome:<10}  {}", check.check, check.checked, check.says)?;
        }
        let listed = gates.violations.len() as u64;
        for violation in &gates.violations {
            writeln!(
                f,
                "VIOLATED  {} in shard {}, record {}: {}",
                violation.check, violation.shard, violation.seq, violation.what
            )?;
        }
        if gates.violations_total > listed {
            writeln!(f, "          and {} more", gates.violations_total - listed)?;
        }
        if gates.conflicts_total > 0 {
            writeln!(
                f,
                "\n{} conflicts (answers that stood after a crash; somebody should look into them):",
                gates.conflicts_total
            )?;
        }
        for conflict in &gates.conflicts {
            let what = if conflict.admitted { "let in" } else { "turned away" };
            let ticket = conflict.ticket.as_deref().unwrap_or("an unknown ticket");
            let instead = conflict.instead_of.unwrap_or("let in");
            writeln!(f, "  {ticket} {what} at zone {} by {} instead of: {instead}", conflict.zone, conflict.device)?;
        }
        Ok(())
    }
}
