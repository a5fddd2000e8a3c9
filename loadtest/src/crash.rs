//! `crash`: kill -9 under load, again and again. Everything a reader was ever told to be on disk must be in the
//! journal, once, as it was told; and whatever a reader asks again must get the same answer, to the last bit.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::path::Path;
use std::sync::atomic::Ordering;
use std::time::Duration;

use engine::command::{CONFLICT, Verdict};
use engine::event::{Event, Scanned};
use engine::ids::TicketId;
use engine::record;
use engine::time::Timestamp;
use hdrhistogram::Histogram;
use rand_chacha::ChaCha8Rng;
use rand_chacha::rand_core::{Rng as _, SeedableRng as _};
use storage::journal::offline;

use crate::cli::Crash;
use crate::gate::{now_ms, seats};
use crate::load::{self, Plan};
use crate::model::Tally;
use crate::reader::{Habits, Reader, hash_of};
use crate::report::{CrashReport, Quantiles};
use crate::server::{Program, Server, default_folder};

/// Answers a reader holds on to, and asks for again after each crash.
const KEEP: usize = 256;
/// One kill in so many is followed by another while the server recovers.
const RECOVERING_ONE_IN: u32 = 4;
/// The load lasts as long as the cycles do; this only bounds it.
const LASTS_MAX: Duration = Duration::from_secs(24 * 3_600);
const NOTES_MAX: usize = 8;

/// Runs it.
///
/// # Errors
/// The server does not start, or does not start again.
pub fn run(args: &Crash) -> anyhow::Result<CrashReport> {
    let folder = args.folder.clone().map_or_else(default_folder, Ok)?;
    let mut server = Server::prepare(Program::up_to_date()?, &folder)?;
    let office = server.office()?;
    server.start()?;
    server.wait_ready(&office)?;
    let readers = args.connections as usize;
    let window = (args.window as usize).min(args.tickets as usize / readers / 8).max(1);
    let strangers = args.tickets as usize / 64;
    let festival = office.make_festival(args.tickets as usize - strangers, strangers, args.ack.policy())?;
    let habits = Habits { window, keep: KEEP, remember: true, epoch_ms: now_ms(), echo: false };
    let (seats, target) = seats(&office, &festival, readers, args.seed, habits)?;
    let plan = Plan { target, seats, threads: 1, lasts: LASTS_MAX, rate: Some(args.rate) };
    let running = load::start(plan)?;

    let mut rng = ChaCha8Rng::seed_from_u64(args.seed);
    let mut below = |ms: u32| Duration::from_millis(u64::from(rng.next_u32() % ms));
    let mut report = CrashReport { cycles: args.cycles, ack: args.ack.policy().word(), ..CrashReport::default() };
    let mut ready_ms = Histogram::<u64>::new_with_bounds(1, 120_000, 3)?;
    for cycle in 1..=args.cycles {
        std::thread::sleep(Duration::from_millis(150) + below(700));
        server.kill()?;
        if cycle % RECOVERING_ONE_IN == 0 {
            server.start()?;
            std::thread::sleep(below(60));
            server.kill()?;
            report.killed_recovering += 1;
        }
        server.start()?;
        let took = server.wait_ready(&office)?;
        ready_ms.saturating_record(took.as_millis() as u64);
        // Only now: a reader that knocks at a door that is not there yet waits a second before it knocks again.
        running.course.incarnation.send_modify(|incarnation| *incarnation += 1);
    }
    std::thread::sleep(Duration::from_millis(300));
    running.end();
    debug_assert!(running.course.end_ns.load(Ordering::Relaxed) < LASTS_MAX.as_nanos() as u64);
    let home = running.come_home()?;
    // The last one counts as well: what is read now is what a kill has left.
    server.kill()?;

    report.ready_ms = Quantiles::of(&ready_ms);
    report.notes = home.complaints.into_iter().filter(|complaint| !complaint.contains("the server has gone")).collect();
    compare(&home.players, &server.data().join("journal"), &mut report)?;
    report.notes.truncate(NOTES_MAX);
    Ok(report)
}

/// What the journal says became of scans: the hash of each answer by device and seq.
#[derive(Default)]
struct Journaled {
    answers: HashMap<u64, BTreeMap<u64, u64>>,
    inside: HashSet<TicketId>,
    scans: u64,
    doubled: u64,
    notes: Vec<String>,
}

impl Journaled {
    fn scanned(&mut self, scanned: &Scanned, at: Timestamp) {
        self.scans += 1;
        let answers = self.answers.entry(scanned.device.0).or_default();
        if answers.insert(scanned.seq, hash_of(scanned.seq, &scanned.answer(at))).is_some() {
            self.doubled += 1;
            self.notes.push(format!("scan {} of {} is in the journal twice", scanned.seq, scanned.device));
        }
        let Some(ticket) = scanned.ticket else { return };
        match scanned.verdict {
            Verdict::Admitted => {
                if !self.inside.insert(ticket) && scanned.flags & CONFLICT == 0 {
                    self.doubled += 1;
                    self.notes.push(format!("{ticket} was let in twice"));
                }
            }
            Verdict::Exited => {
                self.inside.remove(&ticket);
            }
            Verdict::Undone | Verdict::Rejected(_) => {}
        }
    }
}

fn compare(readers: &[Reader], journal: &Path, report: &mut CrashReport) -> anyhow::Result<()> {
    let mut journaled = Journaled::default();
    let mut reading = offline::read_only(journal)?;
    while let Some(entry) = reading.next()? {
        let record = record::read(entry.payload)?;
        for event in &record.events {
            if let Event::Scanned(scanned) = event {
                journaled.scanned(scanned, record.at);
            }
        }
    }
    let mut tally = Tally::default();
    for reader in readers {
        tally.add(&reader.model.tally);
        report.lost += reader.lost();
        report.resent += reader.resent;
        report.acknowledged += reader.remembered.len() as u64;
        let none = BTreeMap::new();
        let answers = reader.device.and_then(|device| journaled.answers.get(&device.0)).unwrap_or(&none);
        for (seq, hash) in &reader.remembered {
            if answers.get(seq) != Some(hash) {
                report.lost += 1;
                let what = if answers.contains_key(seq) { "otherwise than it was acknowledged" } else { "not at all" };
                report.notes.push(format!("scan {seq} of reader {} is in the journal {what}", reader.number));
            }
        }
    }
    report.notes.extend(tally.explained);
    report.notes.append(&mut journaled.notes);
    report.journaled = journaled.scans;
    report.doubled = journaled.doubled + tally.double_admitted;
    report.wrong = tally.wrong;
    report.conflicts = tally.conflicts;
    Ok(())
}
