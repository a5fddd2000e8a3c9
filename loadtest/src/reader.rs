//! One simulated reader: what it has asked, what it has been told, what it still waits for.
//!
//! A scan is **asked**, perhaps **refused** at the door (busy: it is sent again), perhaps **shown** (answered, not on
//! disk yet), and **final** once its answer is on disk. The reader's floor is the lowest scan that is not final.

use std::collections::{BTreeSet, VecDeque};
use std::hash::{DefaultHasher, Hasher as _};

use engine::gates::command::{DeviceAnswer, Direction, Verdict};
use engine::model::credential;
use engine::model::credential::QrClaim;
use engine::model::ids::DeviceId;
use engine::model::rejection::Rejection;
use engine::model::time::Timestamp;
use tapgate_wire::{Credential, Frame, Refusal, Scan, WINDOW_MAX};

use crate::model::{Attempt, Model};
use crate::simulated::{Latencies, SimulatedDevice, WRITE_MAX, Wait};
use crate::workload::gate::Population;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Phase {
    Origin,
    Refused,
    Shown,
    Final,
}

#[derive(Clone, Copy, Debug)]
struct Slot {
    /// When it should have been sent.
    due_ns: u64,
    /// When it was, last.
    sent_ns: u64,
    visitor: u32,
    attempt: Attempt,
    phase: Phase,
    /// Of the answer, once there is one.
    verdict: Option<Verdict>,
    hash: u64,
}

/// How a reader behaves.
#[derive(Clone, Copy, Debug)]
pub struct DeviceConfig {
    /// How many scans may be without an answer, 1 to 4,096.
    pub window: usize,
    /// How many answered scans stay above the floor, so that they can be asked again after a crash.
    pub keep: usize,
    /// Every final answer is remembered, to be compared with the journal.
    pub remember: bool,
    /// And how long each was waited for, and when it was refused.
    pub waits: bool,
    /// The other side only echoes: its answers mean nothing.
    pub echo: bool,
}

/// A simulated reader.
pub struct Reader {
    /// Which one of the run, from 0.
    pub number: usize,
    /// Its id at the server, once it is enrolled.
    pub device: Option<DeviceId>,
    /// Its tickets, and what they must be answered.
    pub model: Model,
    /// Scans sent, each counted once however often it was sent again.
    pub sent: u64,
    /// Refusals at the door.
    pub busy: u64,
    /// Scans sent again on another connection.
    pub resent: u64,
    /// Answers that were given before, given again, and not the same.
    pub changed: u64,
    /// How often the server asked to slow down.
    pub slowed: u64,
    /// The final answers, `(seq, hash)`, where they are remembered.
    pub remembered: Vec<(u64, u64)>,
    /// How long each of them was waited for, where that is asked for.
    pub waits: Vec<Wait>,
    /// When it was refused at the door, in ns after the start, where that is asked for too.
    pub refusals: Vec<u64>,
    population: Population,
    device_config: DeviceConfig,
    /// Milliseconds since 1970 at nanosecond 0.
    epoch_ms: i64,
    next_seq: u64,
    slots: VecDeque<Slot>,
    /// Asked or refused.
    open: usize,
    shown: usize,
    /// Refused scans by the time they are to be sent again.
    retry: BTreeSet<(u64, u64)>,
    /// Final scans that were asked again and answered early again: on this connection their confirmation may still come,
    /// when the floor has long passed them.
    replay: BTreeSet<u64>,
}

impl Reader {
    /// A reader that has asked nothing yet.
    pub fn new(number: usize, model: Model, population: Population, device_config: DeviceConfig) -> Self {
        Self {
            number,
            device: None,
            model,
            sent: 0,
            busy: 0,
            resent: 0,
            changed: 0,
            slowed: 0,
            remembered: Vec::new(),
            waits: Vec::new(),
            refusals: Vec::new(),
            population,
            device_config,
            epoch_ms: 0,
            next_seq: 1,
            slots: VecDeque::new(),
            open: 0,
            shown: 0,
            retry: BTreeSet::new(),
            replay: BTreeSet::new(),
        }
    }

    /// How many scans have no answer, or one that was never said to be on disk.
    pub fn lost(&self) -> u64 {
        (self.open + self.shown) as u64
    }

    fn floor(&self) -> u64 {
        self.next_seq - self.slots.len() as u64
    }

    fn write(&self, seq: u64, resent: bool, out: &mut Vec<u8>) {
        let slot = &self.slots[(seq - self.floor()) as usize];
        let claim = self.model.visitors[slot.visitor as usize].claim;
        let text;
        let credential = match slot.attempt {
            Attempt::Enter | Attempt::Exit => Credential::Packed(claim),
            Attempt::Forged => {
                let mut hash = claim.hash;
                hash[(seq / 8 % 32) as usize] ^= 1 << (seq % 8);
                Credential::Packed(QrClaim { hash, ..claim })
            }
            Attempt::CutOff => {
                text = credential::text(&claim);
                Credential::Raw(&text.as_bytes()[..20 + (seq % 64) as usize])
            }
        };
        let direction = if slot.attempt == Attempt::Exit { Direction::Exit } else { Direction::Enter };
        let captured_at = Timestamp(self.epoch_ms + (slot.due_ns / 1_000_000) as i64);
        let shown = slot.verdict.filter(|_| slot.phase == Phase::Shown);
        Frame::Scan(Scan {
            seq,
            floor: self.floor(),
            captured_at,
            zone: self.model.zone,
            direction,
            shown,
            resent,
            credential,
        })
        .encode(out);
    }

    fn slot(&mut self, seq: u64) -> Option<&mut Slot> {
        let at = seq.checked_sub(self.floor())?;
        self.slots.get_mut(at as usize)
    }

    fn answered(&mut self, seq: u64, answer: &DeviceAnswer, durable: bool, now_ns: u64, latencies: &mut Latencies) {
        let remember = self.device_config.remember;
        let Some(slot) = self.slot(seq) else {
            return self
                .model
                .tally
                .wrong(|| format!("an answer to scan {seq}, which is under way no more: {answer:?}"));
        };
        let before = *slot;
        let hash = if remember { hash_of(seq, answer) } else { 0 };
        if before.phase != Phase::Final {
            slot.verdict = Some(answer.verdict);
            slot.hash = hash;
            slot.phase = if durable { Phase::Final } else { Phase::Shown };
        }
        match before.phase {
            Phase::Origin | Phase::Refused => {
                self.open -= 1;
                self.shown += usize::from(!durable);
                latencies.answered(before.due_ns, now_ns);
                if before.phase == Phase::Refused {
                    self.retry.retain(|(_, retried)| *retried != seq);
                }
                if self.device_config.echo {
                    self.model.tally.answered += 1;
                } else {
                    self.model.answered(before.visitor as usize, before.attempt, seq, answer);
                }
            }
            // After a reconnection: the verdict that was shown stands, whatever the shard had forgotten.
            Phase::Shown => {
                self.shown -= usize::from(durable);
                let flagged = answer.flags & engine::gates::command::CONFLICT != 0;
                self.model.tally.conflicts += u64::from(flagged);
                if before.verdict != Some(answer.verdict) {
                    let was = before.verdict;
                    self.model.tally.wrong(|| format!("scan {seq}: {was:?} was shown, then {:?}", answer.verdict));
                }
            }
            // Asked again: to the last bit the same. (Where answers leave early, this one may leave early too.)
            Phase::Final => {
                if before.hash != hash {
                    self.changed += 1;
                    self.model.tally.wrong(|| format!("scan {seq}: had an answer on disk, then another: {answer:?}"));
                }
                if !durable {
                    self.replay.insert(seq);
                }
                return;
            }
        }
        if durable {
            self.done(seq, before.visitor, hash, before.due_ns, now_ns);
            self.forget();
        }
    }

    fn confirmed(&mut self, seq: u64, now_ns: u64) {
        if self.replay.remove(&seq) {
            return;
        }
        let Some(slot) = self.slot(seq) else {
            return self.model.tally.wrong(|| format!("scan {seq} confirmed, which is under way no more"));
        };
        let Slot { visitor, hash, phase, due_ns, .. } = *slot;
        match phase {
            Phase::Shown => {
                slot.phase = Phase::Final;
                self.shown -= 1;
                self.done(seq, visitor, hash, due_ns, now_ns);
            }
            Phase::Final => {}
            Phase::Origin | Phase::Refused => {
                self.model.tally.wrong(|| format!("scan {seq} confirmed before it was answered"));
            }
        }
    }

    fn done(&mut self, seq: u64, visitor: u32, hash: u64, due_ns: u64, told_ns: u64) {
        self.model.visitors[visitor as usize].under_way = false;
        if self.device_config.remember {
            self.remembered.push((seq, hash));
        }
        if self.device_config.waits {
            self.waits.push(Wait { due_ns, told_ns });
        }
    }

    /// The floor rises over what is final, as far as nothing is kept.
    fn forget(&mut self) {
        while self.slots.len() > self.device_config.keep
            && self.slots.front().is_some_and(|slot| slot.phase == Phase::Final)
        {
            self.slots.pop_front();
        }
    }

    fn refused(&mut self, seq: u64, why: Rejection, retry_after_ms: u32, now_ns: u64, latencies: &mut Latencies) {
        let Some(slot) = self.slot(seq) else {
            return self.model.tally.wrong(|| format!("scan {seq} refused, which is under way no more"));
        };
        match slot.phase {
            Phase::Origin => slot.phase = Phase::Refused,
            Phase::Refused => {
                return self.model.tally.wrong(|| format!("scan {seq} refused twice, {}", why.code()));
            }
            // What was answered before and is asked again may find the door shut like any other.
            Phase::Shown | Phase::Final => {}
        }
        latencies.refused(slot.sent_ns, now_ns);
        self.busy += 1;
        if self.device_config.waits {
            self.refusals.push(now_ns);
        }
        self.retry.insert((now_ns + u64::from(retry_after_ms.max(1)) * 1_000_000, seq));
    }
}

impl SimulatedDevice for Reader {
    fn number(&self) -> usize {
        self.number
    }

    fn begins_at(&mut self, epoch_ms: i64) {
        self.epoch_ms = epoch_ms;
    }

    fn enrolled(&mut self, device: DeviceId) {
        self.device = Some(device);
    }

    fn sent(&self) -> u64 {
        self.sent
    }

    fn open(&self) -> usize {
        self.open
    }

    fn is_done(&self) -> bool {
        self.open == 0 && self.shown == 0
    }

    fn waits_since_ns(&self) -> Option<u64> {
        self.slots.iter().filter(|slot| slot.phase == Phase::Origin).map(|slot| slot.sent_ns).min()
    }

    fn next_retry_ns(&self) -> Option<u64> {
        self.retry.first().map(|(at, _)| *at)
    }

    fn may_ask(&self, out: &[u8]) -> bool {
        self.open < self.device_config.window && (self.slots.len() as u64) < WINDOW_MAX && out.len() < WRITE_MAX
    }

    fn ask(&mut self, due_ns: u64, now_ns: u64, out: &mut Vec<u8>) -> bool {
        let Some((visitor, attempt)) = self.population.next(&self.model, self.device_config.window) else {
            return false;
        };
        if matches!(attempt, Attempt::Enter | Attempt::Exit) {
            self.model.visitors[visitor].under_way = true;
        }
        let visitor = visitor as u32;
        let phase = Phase::Origin;
        self.slots.push_back(Slot { due_ns, sent_ns: now_ns, visitor, attempt, phase, verdict: None, hash: 0 });
        self.next_seq += 1;
        self.open += 1;
        self.sent += 1;
        self.write(self.next_seq - 1, false, out);
        true
    }

    fn ask_again(&mut self, now_ns: u64, out: &mut Vec<u8>) {
        while out.len() < WRITE_MAX
            && let Some(&(at, seq)) = self.retry.first()
            && at <= now_ns
        {
            self.retry.remove(&(at, seq));
            let Some(slot) = self.slot(seq) else { continue };
            if slot.phase == Phase::Refused {
                slot.phase = Phase::Origin;
            }
            slot.sent_ns = now_ns;
            self.write(seq, false, out);
        }
    }

    fn left(&mut self, seq: u64, now_ns: u64) {
        if let Some(slot) = self.slot(seq) {
            slot.sent_ns = now_ns;
        }
    }

    fn resume(&mut self, now_ns: u64, out: &mut Vec<u8>) {
        self.retry.clear();
        self.replay.clear();
        for seq in self.floor()..self.next_seq {
            let floor = self.floor();
            let slot = &mut self.slots[(seq - floor) as usize];
            slot.sent_ns = now_ns;
            if slot.phase == Phase::Refused {
                slot.phase = Phase::Origin;
            }
            self.resent += 1;
            self.write(seq, true, out);
        }
    }

    fn heard(&mut self, frame: &Frame<'_>, now_ns: u64, latencies: &mut Latencies) -> Result<(), Refusal> {
        match frame {
            Frame::Answer { seq, answer, durable } => self.answered(*seq, answer, *durable, now_ns, latencies),
            Frame::Confirmed(ranges) => {
                for range in *ranges {
                    range.seqs().for_each(|seq| self.confirmed(seq, now_ns));
                }
                self.forget();
            }
            Frame::Busy { seq, rejection, retry_after_ms } => {
                self.refused(*seq, *rejection, *retry_after_ms, now_ns, latencies);
            }
            Frame::Notice(tapgate_wire::Notice::SlowDown { .. }) => self.slowed += 1,
            Frame::Notice(_) => {}
            Frame::Refuse { refusal, .. } => return Err(*refusal),
            other => self.model.tally.wrong(|| format!("a frame that has no place here: {other:?}")),
        }
        Ok(())
    }
}

/// What an answer is, to the last bit: as its frame would be, had it been on disk at once.
pub fn hash_of(seq: u64, answer: &DeviceAnswer) -> u64 {
    let mut bytes = Vec::with_capacity(64);
    Frame::Answer { seq, answer: *answer, durable: true }.encode(&mut bytes);
    let mut hasher = DefaultHasher::new();
    hasher.write(&bytes);
    hasher.finish()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::Visitor;
    use engine::gates::command::FIRST_ENTRY;
    use engine::model::ids::{CategoryNo, FestivalId, TicketId, ZoneNo};
    use tapgate_wire::decode;

    fn reader(window: usize, keep: usize) -> Reader {
        let visitors = (0..100).map(|serial| {
            let ticket = TicketId::new(FestivalId(1), CategoryNo(0), serial, 0);
            Visitor::new(QrClaim { ticket, version: 1, hash: [0; 32] }, false)
        });
        let model = Model::new(visitors.collect(), ZoneNo(0), 100);
        // A seed that begins with plain entries, as `admitted` checks.
        let population = Population::new(&model, 1);
        Reader::new(0, model, population, DeviceConfig { window, keep, remember: true, waits: false, echo: false })
    }

    /// The seqs, floors and what was shown, of the scans in these bytes.
    fn scans(mut bytes: &[u8]) -> Vec<(u64, u64, Option<Verdict>)> {
        let mut all = Vec::new();
        while let Some((Frame::Scan(scan), len)) = decode(bytes).unwrap() {
            all.push((scan.seq, scan.floor, scan.shown));
            bytes = &bytes[len..];
        }
        all
    }

    fn admitted(reader: &Reader, seq: u64) -> DeviceAnswer {
        let slot = reader.slots[(seq - reader.floor()) as usize];
        assert_eq!(slot.attempt, Attempt::Enter);
        let ticket = Some(reader.model.visitors[slot.visitor as usize].claim.ticket);
        let mut answer = DeviceAnswer::rejected(Rejection::Busy, ZoneNo(0), Timestamp(5));
        (answer.verdict, answer.flags, answer.ticket, answer.occupancy) = (Verdict::Admitted, FIRST_ENTRY, ticket, 1);
        answer
    }

    fn ask_all(reader: &mut Reader) -> Vec<u8> {
        let mut out = Vec::new();
        while reader.may_ask(&out) && reader.ask(1_000, 1_000, &mut out) {}
        out
    }

    #[test]
    fn the_window_holds_and_the_floor_follows() {
        let mut reader = reader(3, 0);
        let mut latencies = Latencies::default();
        assert_eq!(scans(&ask_all(&mut reader)), [(1, 1, None), (2, 1, None), (3, 1, None)]);
        let answer = admitted(&reader, 2);
        reader.heard(&Frame::Answer { seq: 2, answer, durable: true }, 9_000, &mut latencies).unwrap();
        assert_eq!(scans(&ask_all(&mut reader)), [(4, 1, None)], "1 has no answer yet");
        let answer = admitted(&reader, 1);
        reader.heard(&Frame::Answer { seq: 1, answer, durable: true }, 9_000, &mut latencies).unwrap();
        assert_eq!(scans(&ask_all(&mut reader)), [(5, 3, None)]);
        assert_eq!((reader.model.tally.wrong, latencies.answers.len(), latencies.answers.max()), (0, 2, 8));
    }

    #[test]
    fn what_is_refused_is_sent_again_when_it_is_due() {
        let mut reader = reader(1, 0);
        let mut latencies = Latencies::default();
        ask_all(&mut reader);
        let busy = Frame::Busy { seq: 1, rejection: Rejection::Busy, retry_after_ms: 20 };
        reader.heard(&busy, 500_000, &mut latencies).unwrap();
        assert!(ask_all(&mut reader).is_empty(), "it still has no answer");
        let mut out = Vec::new();
        reader.ask_again(20_499_999, &mut out);
        assert!(out.is_empty());
        reader.ask_again(reader.next_retry_ns().unwrap(), &mut out);
        assert_eq!(scans(&out), [(1, 1, None)]);
        assert_eq!((reader.busy, reader.open(), reader.model.tally.wrong, latencies.busy.len()), (1, 1, 0, 1));
    }

    #[test]
    fn after_a_crash_answers_must_be_the_same_and_shown_ones_stand() {
        let mut reader = reader(3, 8);
        let mut latencies = Latencies::default();
        ask_all(&mut reader);
        let (first, second) = (admitted(&reader, 1), admitted(&reader, 2));
        reader.heard(&Frame::Answer { seq: 1, answer: first, durable: true }, 9_000, &mut latencies).unwrap();
        reader.heard(&Frame::Answer { seq: 2, answer: second, durable: false }, 9_000, &mut latencies).unwrap();
        let mut out = Vec::new();
        reader.resume(10_000, &mut out);
        assert_eq!(scans(&out), [(1, 1, None), (2, 1, Some(Verdict::Admitted)), (3, 1, None)]);
        let mut later = second;
        later.at = Timestamp(6);
        for (seq, answer) in [(1, first), (2, later), (3, admitted(&reader, 3))] {
            reader.heard(&Frame::Answer { seq, answer, durable: true }, 11_000, &mut latencies).unwrap();
        }
        assert!(reader.is_done());
        assert_eq!((reader.model.tally.wrong, reader.changed, reader.model.tally.answered), (0, 0, 3));
        assert_eq!(reader.remembered.len(), 3);
        // An answer given again may leave before whatever it shares a batch with is on disk.
        reader.heard(&Frame::Answer { seq: 1, answer: first, durable: false }, 12_000, &mut latencies).unwrap();
        assert_eq!((reader.changed, reader.is_done()), (0, true));
        // A planted loss: the server has forgotten the first, and decides it anew, a little later.
        let mut forgotten = first;
        forgotten.at = Timestamp(7);
        reader.heard(&Frame::Answer { seq: 1, answer: forgotten, durable: true }, 12_000, &mut latencies).unwrap();
        assert_eq!((reader.changed, reader.model.tally.wrong), (1, 1));
    }

    #[test]
    fn answers_nobody_waits_for_are_wrong() {
        let mut reader = reader(2, 0);
        let mut latencies = Latencies::default();
        ask_all(&mut reader);
        let answer = admitted(&reader, 1);
        for _ in 0..2 {
            reader.heard(&Frame::Answer { seq: 1, answer, durable: true }, 1, &mut latencies).unwrap();
        }
        assert_eq!(reader.model.tally.wrong, 1, "twice");
        reader.heard(&Frame::Answer { seq: 9, answer, durable: true }, 1, &mut latencies).unwrap();
        assert_eq!(reader.model.tally.wrong, 2, "never asked");
        assert_eq!(reader.heard(&Frame::Bye, 1, &mut latencies), Ok(()));
        assert_eq!(reader.model.tally.wrong, 3, "a device's frame from a server");
    }

    #[test]
    fn decided_answers_wait_for_their_confirmation() {
        let mut reader = reader(1, 0);
        let mut latencies = Latencies::default();
        ask_all(&mut reader);
        let answer = admitted(&reader, 1);
        reader.heard(&Frame::Answer { seq: 1, answer, durable: false }, 1, &mut latencies).unwrap();
        assert_eq!((reader.open(), reader.is_done()), (0, false));
        assert_eq!(scans(&ask_all(&mut reader)), [(2, 1, None)], "the floor waits for the disk");
        let mut bytes = Vec::new();
        tapgate_wire::encode_confirmed(&[1], &mut bytes);
        let (confirmed, _) = decode(&bytes).unwrap().unwrap();
        reader.heard(&confirmed, 2, &mut latencies).unwrap();
        let answer = admitted(&reader, 2);
        reader.heard(&Frame::Answer { seq: 2, answer, durable: true }, 3, &mut latencies).unwrap();
        assert!(reader.is_done() && reader.model.tally.wrong == 0);
    }

    /// Confirmations travel with later answers, so this one comes when nobody keeps the scan any more. It was taken for
    /// a wrong one, 64 times in twenty kills.
    #[test]
    fn what_was_answered_again_is_confirmed_again_however_late() {
        let mut reader = reader(1, 1);
        let mut latencies = Latencies::default();
        ask_all(&mut reader);
        let first = admitted(&reader, 1);
        reader.heard(&Frame::Answer { seq: 1, answer: first, durable: true }, 1, &mut latencies).unwrap();
        reader.resume(2, &mut Vec::new());
        reader.heard(&Frame::Answer { seq: 1, answer: first, durable: false }, 3, &mut latencies).unwrap();
        ask_all(&mut reader);
        let second = admitted(&reader, 2);
        reader.heard(&Frame::Answer { seq: 2, answer: second, durable: true }, 4, &mut latencies).unwrap();
        let mut bytes = Vec::new();
        tapgate_wire::encode_confirmed(&[1], &mut bytes);
        let (confirmed, _) = decode(&bytes).unwrap().unwrap();
        reader.heard(&confirmed, 5, &mut latencies).unwrap();
        assert_eq!(reader.model.tally.wrong, 0);
        reader.heard(&confirmed, 6, &mut latencies).unwrap();
        assert_eq!(reader.model.tally.wrong, 1, "twice is once too often");
    }
}
