//! The node of a simulated world: the real pipelines, the real log, the real recovery, driven step by step, with a
//! crash possible between any two and inside every operation of the disk.

use std::collections::{BTreeSet, VecDeque};

use actors::clock::Clock;
use actors::limits::CLOCK_JUMP_MS;
use actors::outbox_sender::OutboxSender;
use actors::pipeline::{Effect, Pipeline, Stepped};
use actors::recover::{Recovering, save};
use engine::audit::Audit;
use engine::model::ids::ShardId;
use engine::model::time::Timestamp;
use engine::shard::Shard;
use storage::journal::file::{FileJournal, Opened, Readers};
use storage::journal::group_writer::may_write_here;
use storage::journal::log::{LogWriter, NotStaged};
use storage::journal::{Cursor, JournalError, Records};
use storage::testing::faults::{FaultDisk, Faults};

use super::books::Books;
use super::books::money::all_together;
use super::disk::{SHARDS, options};
use super::gateway::Gateway;
use super::world::{Asker, World};
use super::{Check, breach};

/// A segment's header is less than one sector of the disk.
const HEADER_BYTES: usize = 512;

/// A running node.
pub(super) struct Node {
    pub(super) pipelines: Vec<Pipeline<Asker>>,
    pub(super) couriers: Vec<OutboxSender>,
    pub(super) door: Gateway,
    writer: LogWriter<FaultDisk>,
    readers: Readers<FaultDisk>,
    /// Handed to the journal and not yet part of a group.
    queue: VecDeque<(ShardId, Vec<u8>)>,
    /// In the group that the next flush writes.
    staged: Vec<ShardId>,
    /// Durable, and the shard does not know yet.
    untold: VecDeque<ShardId>,
    /// The journal will refuse the next record of this shard.
    pub(super) refuses: Vec<bool>,
}

/// What the simulator knows of one shard's records, whatever the node remembers.
pub(super) struct Ledger {
    /// Every record handed to the journal, less those that a crash has lost.
    pub(super) handed: Vec<Vec<u8>>,
    /// So many of them the disk has confirmed.
    pub(super) flushed: usize,
    /// So many of them the shard was told of.
    pub(super) told: usize,
    /// The books up to there.
    pub(super) books: Books,
    /// The books up to the last record handed over.
    pub(super) ahead: Books,
    /// Idempotency keys that were refused for their age.
    pub(super) too_old: BTreeSet<u128>,
}

impl Node {
    /// Whether a shard has not been told of something durable.
    pub(super) fn has_untold(&self) -> bool {
        !self.untold.is_empty()
    }

    /// Whether a shard waits for a restart.
    pub(super) fn has_a_shard_down(&self) -> bool {
        self.pipelines.iter().any(Pipeline::is_down)
    }

    /// Whether nothing is under way, in a shard or between two.
    pub(super) fn is_idle(&self) -> bool {
        let others = || (0..SHARDS).map(ShardId);
        let has_sent = |pipeline: &Pipeline<Asker>| others().all(|to| pipeline.shard().outgoing(to).1.len() == 0);
        self.pipelines.iter().all(|pipeline| pipeline.is_idle() && has_sent(pipeline))
    }
}

impl World {
    /// One shard decides a batch.
    pub(super) fn pump(&mut self, shard: usize) -> Check {
        let stamp = self.clock();
        let Some(node) = &mut self.node else { return Ok(()) };
        if !node.pipelines[shard].is_ready() {
            return Ok(());
        }
        let refuses = core::mem::take(&mut node.refuses[shard]);
        match node.pipelines[shard].step(stamp, Vec::new()) {
            // The journal has never had it, and what would have left at once has not yet.
            Stepped::Record(..) if refuses => return self.shard_goes_down(shard),
            Stepped::Record(record, now) => {
                let ledger = &mut self.ledgers[shard];
                let before = ledger.ahead.at;
                let received: Vec<u64> = ledger.ahead.money.posts.iter().map(|post| post.received).collect();
                ledger.ahead.enter(&record)?;
                if ledger.ahead.at != before.max(stamp) {
                    let what = format!("stamped {stamp:?} after {before:?}, recorded {:?}", ledger.ahead.at);
                    return breach("time never goes back", what);
                }
                ledger.handed.push(record.clone());
                self.taken_in(shard, &received)?;
                self.release(shard, now)?;
                self.hand_over(ShardId(shard as u16), record)?;
            }
            Stepped::Nothing(now) => self.release(shard, now)?,
            Stepped::Panicked => {
                return breach("nothing panics", "a step panicked; its message is above".to_owned());
            }
        }
        self.post(shard)
    }

    /// To the journal's thread; or the shard's own writes it, where the journal allows that.
    fn hand_over(&mut self, shard: ShardId, record: Vec<u8>) -> Check {
        let Some(node) = &mut self.node else { return Ok(()) };
        let open = node.queue.len() + node.staged.len();
        let here = self.dice.one_in(2) && may_write_here(&node.writer, open, true, core::iter::once(record.len()));
        if !here {
            node.queue.push_back((shard, record));
            return Ok(());
        }
        if let Err(why) = node.writer.stage(shard, &record) {
            return breach("what may be written here has room", format!("{} bytes: {why:?}", record.len()));
        }
        node.staged.push(shard);
        self.counts.written_here += 1;
        self.flush();
        Ok(())
    }

    /// A shard cannot go on until the node is started again. Whoever waits for it is told so, and what was decided beyond
    /// the journal has not happened.
    fn shard_goes_down(&mut self, shard: usize) -> Check {
        self.counts.fault("shard_down");
        let Some(node) = &mut self.node else { return Ok(()) };
        let told = node.pipelines[shard].go_down();
        self.put_off(told);
        Ok(())
    }

    /// Somebody is told to ask again: nothing has happened, or nobody knows. Devices and the office do so when they have
    /// lost their patience.
    pub(super) fn put_off(&mut self, told: Vec<Effect<Asker>>) {
        for release in told {
            self.counts.fault("put_off");
            let (Effect::NotAnswered { to, .. } | Effect::View { to, .. }) = release else { continue };
            if let (Asker::Tap { number, .. } | Asker::Resolve(number), Some(node)) = (to, &mut self.node) {
                node.door.forget(number);
            }
        }
    }

    /// The journal takes up to `most` records into its group.
    pub(super) fn stage(&mut self, most: u64) -> Check {
        let Some(node) = &mut self.node else { return Ok(()) };
        for _ in 0..most {
            let Some((shard, record)) = node.queue.front() else { return Ok(()) };
            match node.writer.stage(*shard, record) {
                Ok(_) => {}
                Err(NotStaged::GroupFull) => return Ok(()),
                Err(NotStaged::TooLarge) => return breach("records fit", format!("{} bytes", record.len())),
            }
            let (shard, _) = node.queue.pop_front().expect("it was in front");
            node.staged.push(shard);
        }
        Ok(())
    }

    /// The journal writes its group. If the disk fails it, the node ends.
    pub(super) fn flush(&mut self) {
        let Some(node) = &mut self.node else { return };
        if let Err(error) = node.writer.flush() {
            self.counts.fault(match error {
                JournalError::DiskFull { .. } => "disk_full_end",
                _ => "disk_error_end",
            });
            return self.crash();
        }
        self.counts.written += node.staged.len() as u64;
        for shard in node.staged.drain(..) {
            self.ledgers[usize::from(shard.0)].flushed += 1;
            node.untold.push_back(shard);
        }
        node.readers.durable_up_to(node.writer.end());
        // Now and then, as the journal's own thread does; what it cannot write it leaves for the next time.
        if node.writer.end().lsn.is_multiple_of(3) && node.readers.write_reached().is_err() {
            self.counts.fault("reached_not_written");
            if self.disk.is_off() {
                self.crash();
            }
        }
    }

    /// A shard learns that its oldest record is durable.
    pub(super) fn acknowledge_next(&mut self) -> Check {
        let Some(node) = &mut self.node else { return Ok(()) };
        let Some(shard) = node.untold.pop_front() else { return Ok(()) };
        let shard = usize::from(shard.0);
        let releases = node.pipelines[shard].durable();
        let ledger = &mut self.ledgers[shard];
        ledger.books.enter(&ledger.handed[ledger.told])?;
        ledger.told += 1;
        self.release(shard, releases)?;
        self.post(shard)
    }

    /// Snapshots are written beside the living shards, from the last ones and the journal. May end in a crash.
    pub(super) fn snapshot(&mut self) -> Check {
        let Some(node) = &self.node else { return Ok(()) };
        let found = |error: &dyn std::fmt::Display| format!("beside the living node: {error}");
        let recovered =
            Recovering::from_snapshots(&*self.snapshots, &node.readers.end(), |_| true).and_then(|mut recovering| {
                let mut reader = recovering.reader(&node.readers.end(), |from| node.readers.reader(from))?;
                while !recovering.replay(&mut *reader, 50)? {}
                Ok(recovering)
            });
        let recovering = match recovered {
            Ok(recovering) => recovering,
            Err(error) => return breach("a snapshot and the tail are the state", found(&error)),
        };
        for id in (0..SHARDS).map(ShardId) {
            if let Some((shard, position)) = recovering.shard(id).filter(|(shard, _)| shard.seq() > 0) {
                if let Err(error) = save(&*self.snapshots, shard, position) {
                    return breach("a snapshot can be kept", found(&error));
                }
                self.counts.snapshots += 1;
            }
            if !self.net.calm && self.dice.one_in(30) {
                self.counts.fault("crash_in_snapshot");
                self.crash();
                return Ok(());
            }
        }
        Ok(())
    }

    /// The node ends, at once and without a word; by power loss, or the process alone.
    pub(super) fn crash(&mut self) {
        if self.node.take().is_none() {
            return;
        }
        self.counts.crashes += 1;
        self.life += 1;
        self.down_until = self.step + self.dice.below(60);
        self.connections_break();
        self.power_or_process();
    }

    fn power_or_process(&mut self) {
        if self.disk.is_off() || self.dice.one_in(2) || self.lied {
            self.counts.fault("power_loss");
            self.disk = self.disk.restart(self.dice.draw());
        } else {
            self.counts.fault("process_killed");
            self.disk = self.disk.killed();
        }
    }

    /// Starts the node: recovery, as often as it takes, with crashes inside it. `false`: the disk has lied and is found
    /// out; that is the end of this world.
    pub(super) fn start(&mut self) -> Check<bool> {
        loop {
            let mut faults = Faults::default();
            if !self.net.calm && !self.lied && self.dice.one_in(4) {
                let at = Some(self.disk.operations() + 1 + self.dice.below(8));
                if self.dice.one_in(4) { faults.eio_at = at } else { faults.crash_at = at }
            }
            self.disk.set(faults);
            let before = if self.lied { self.disk.clone().killed() } else { self.disk.clone() };
            if self.lied {
                // Looked at afterwards, untouched by what recovery repairs.
                self.disk = before.killed();
            }
            match FileJournal::open_on(self.disk.clone(), options()) {
                Ok(opened) if self.lied => return self.found_out(&opened, &before).map(|()| false),
                // With an error swallowed on the way, the machine may have gone unnoticed.
                Ok(_) if self.disk.is_off() => self.power_or_process(),
                Ok(opened) => return self.serve(opened).map(|()| true),
                Err(JournalError::Damaged { .. } | JournalError::NotWhole { .. }) if self.lied => {
                    self.counts.fault("lie_found");
                    return Ok(false);
                }
                Err(_) if self.disk.is_off() || faults.eio_at.is_some_and(|at| at <= self.disk.operations()) => {
                    self.counts.fault("crash_in_recovery");
                    self.power_or_process();
                }
                Err(error) => return breach("a crash is recovered from", error.to_string()),
            }
        }
    }

    fn serve(&mut self, opened: Opened<FaultDisk>) -> Check {
        if opened.recovery().torn.is_some() {
            self.counts.fault("torn_tail");
        }
        let fold = read(&opened)?;
        for (ledger, records) in self.ledgers.iter_mut().zip(&fold) {
            ledger.compare(records)?;
        }
        let recovered =
            Recovering::from_snapshots(&*self.snapshots, &opened.end(), |_| true).and_then(|mut recovering| {
                let mut reader = recovering.reader(&opened.end(), |from| opened.reader(from))?;
                while !recovering.replay(&mut *reader, 100)? {}
                Ok(recovering)
            });
        let recovering = match recovered {
            Ok(recovering) => recovering,
            Err(error) => return breach("a snapshot and the tail are the state", error.to_string()),
        };
        // Mostly somebody has set the machine's clock right by then.
        if self.clock_off_ms != 0 && (self.net.calm || !self.dice.one_in(4)) {
            self.clock_off_ms = 0;
        }
        self.on_time &= self.clock_off_ms.abs() <= CLOCK_JUMP_MS;
        self.node_clock = Clock::set(self.true_ms, self.system_clock());
        let (writer, readers) = opened.into_parts();
        let (mut pipelines, mut couriers) = (Vec::new(), Vec::new());
        for (shard, records) in recovering.into_shards().zip(&fold) {
            let ledger = &mut self.ledgers[usize::from(shard.id().0)];
            ledger.recovered()?;
            ledger.books.agree_with(&shard)?;
            if from_zero(shard.id(), records)?.state_hash() != shard.state_hash() {
                let what = format!("shard {} after {} records", shard.id().0, records.len());
                return breach("replay from zero = snapshot + tail", what);
            }
            couriers.push(OutboxSender::new(&shard));
            pipelines.push(Pipeline::new(shard));
        }
        self.node = Some(Node {
            pipelines,
            couriers,
            door: Gateway::default(),
            writer,
            readers,
            queue: VecDeque::new(),
            staged: Vec::new(),
            untold: VecDeque::new(),
            refuses: vec![false; usize::from(SHARDS)],
        });
        Ok(())
    }

    /// After a disk that lied, recovery has come to an end somewhere: what it kept must be a beginning of what was
    /// written, and nothing valid may lie behind it.
    fn found_out(&mut self, opened: &Opened<FaultDisk>, before: &FaultDisk) -> Check {
        // Recovery looks at the end; what is missing before it stops whoever reads.
        let Ok(fold) = read(opened) else {
            self.counts.fault("lie_found");
            return Ok(());
        };
        for (ledger, records) in self.ledgers.iter().zip(&fold) {
            if !ledger.handed.starts_with(records) {
                return breach("damage is found, never skipped", "other records than were written".to_owned());
            }
        }
        let end = opened.recovery().end;
        let group_max = u64::from(options().log.group_bytes_max);
        for number in end.segment.. {
            let Some(bytes) = before.contents(&format!("{number:010}.log")) else { break };
            // A record of the torn group itself may be there, or the header of a segment that had just begun; behind
            // the longest group nothing may be.
            let from = match number - end.segment {
                0 => (end.offset + group_max) as usize,
                1 => HEADER_BYTES,
                _ => 0,
            };
            if bytes.get(from..).is_some_and(|rest| rest.iter().any(|byte| *byte != 0)) {
                let what =
                    format!("the log ends in segment {} at {}, and goes on in {number}", end.segment, end.offset);
                return breach("damage is found, never skipped", what);
            }
        }
        Ok(())
    }

    /// What an idle node's shards say, held against the books, and their state against a replay from zero.
    pub(super) fn audit(&mut self, from_the_beginning: bool) -> Check {
        let Some(node) = &self.node else { return Ok(()) };
        // One that is down is ahead of its journal by what was refused.
        for (pipeline, ledger) in node.pipelines.iter().zip(&self.ledgers).filter(|(pipeline, _)| !pipeline.is_down()) {
            ledger.ahead.agree_with(pipeline.shard())?;
            if from_the_beginning {
                let replay = from_zero(pipeline.shard().id(), &ledger.handed)?;
                if replay.state_hash() != pipeline.shard().state_hash() {
                    return breach("replay from zero = living state", format!("shard {}", pipeline.shard().id().0));
                }
            }
        }
        let money: Vec<_> = self.ledgers.iter().map(|ledger| &ledger.ahead.money).collect();
        all_together(&money)
    }

    /// What `tapgate audit` says of the whole journal.
    pub(super) fn audit_journal(&self) -> Check {
        let mut audit = Audit::new(SHARDS);
        for (shard, ledger) in (0..SHARDS).map(ShardId).zip(&self.ledgers) {
            ledger.handed.iter().for_each(|record| audit.record(shard, record));
        }
        let report = audit.finish();
        match report.violations.first() {
            None => Ok(()),
            Some(found) => breach("the audit finds nothing", format!("{}: {}", found.check, found.what)),
        }
    }

    /// What the node's clock says.
    pub(super) fn clock(&self) -> Timestamp {
        self.node_clock.now(self.true_ms)
    }
}

impl Ledger {
    pub(super) fn new(id: ShardId) -> Self {
        let (books, ahead) = (Books::new(id), Books::new(id));
        Self { handed: Vec::new(), flushed: 0, told: 0, books, ahead, too_old: BTreeSet::new() }
    }

    /// What recovery found, against what was handed over: a beginning of it, to the last bit, and all that the disk
    /// had confirmed.
    fn compare(&mut self, records: &[Vec<u8>]) -> Check {
        if !self.handed.starts_with(records) {
            return breach("what recovers is what was written", format!("{} records differ", records.len()));
        }
        if records.len() < self.flushed {
            let what = format!("{} records of {} that were durable", records.len(), self.flushed);
            return breach("every acknowledged command is in the fold", what);
        }
        self.handed.truncate(records.len());
        Ok(())
    }

    /// Everything that recovered counts, told or not.
    fn recovered(&mut self) -> Check {
        for record in &self.handed[self.told..] {
            self.books.enter(record)?;
        }
        self.told = self.handed.len();
        self.flushed = self.handed.len();
        self.ahead = self.books.clone();
        Ok(())
    }
}

/// The whole journal, shard by shard.
fn read(opened: &Opened<FaultDisk>) -> Check<Vec<Vec<Vec<u8>>>> {
    let mut fold = vec![Vec::new(); usize::from(SHARDS)];
    let read = opened.reader(&Cursor::start(SHARDS)).and_then(|mut reader| {
        while let Some(entry) = reader.next()? {
            fold[usize::from(entry.shard.0)].push(entry.payload.to_vec());
        }
        Ok(())
    });
    match read {
        Ok(()) => Ok(fold),
        Err(error) => breach("a recovered journal can be read", error.to_string()),
    }
}

fn from_zero(id: ShardId, records: &[Vec<u8>]) -> Check<Shard> {
    let mut shard = Shard::new(id, SHARDS);
    for record in records {
        if let Err(why) = shard.replay(record) {
            return breach("replay rebuilds the state", why.to_string());
        }
    }
    Ok(shard)
}
