//! A simulated reader: follows the device protocol to the letter. It numbers its commands, tells its floor, keeps what
//! has no final answer, resends it after a reconnect together with what it has shown, and remembers every answer, so
//! that it notices when one changes.

use std::collections::BTreeMap;

use actors::DeviceReply;
use engine::gates::command::{DeviceAction, DeviceAnswer, DeviceCommand, Verdict};
use engine::model::ids::{DeviceId, TicketId, ZoneNo};
use engine::model::rejection::Rejection;

use super::{Check, breach};

/// How many commands a reader keeps under way.
pub(super) const WINDOW: usize = 6;
/// After so many steps without an answer it gives the connection up.
const PATIENCE: u64 = 120;

/// A reader at a gate.
pub(super) struct Reader {
    pub(super) id: DeviceId,
    pub(super) zone: ZoneNo,
    next: u64,
    /// Commands without a final answer.
    open: BTreeMap<u64, Open>,
    /// Final answers.
    closed: BTreeMap<u64, DeviceAnswer>,
    /// Counts connections; answers on an older one are not heard.
    pub(super) connection: u64,
    /// When it last heard or sent anything, in steps.
    heard: u64,
    /// Its latest scans, for undoing them.
    pub(super) scans: Vec<(u64, TicketId)>,
}

struct Open {
    action: DeviceAction,
    /// What the steward has seen.
    shown: Option<Verdict>,
    /// The answer that was shown, and in which life of the node it was heard.
    early: Option<(u64, DeviceAnswer)>,
}

impl Reader {
    pub(super) fn new(id: DeviceId, zone: ZoneNo) -> Self {
        Self {
            id,
            zone,
            next: 1,
            open: BTreeMap::new(),
            closed: BTreeMap::new(),
            connection: 1,
            heard: 0,
            scans: Vec::new(),
        }
    }

    /// The lowest number without a final answer.
    pub(super) fn floor(&self) -> u64 {
        self.open.keys().next().copied().unwrap_or(self.next)
    }

    /// Whether it may ask more.
    pub(super) fn has_room(&self) -> bool {
        self.open.len() < WINDOW
    }

    /// Whether everything is answered for good.
    pub(super) fn is_content(&self) -> bool {
        self.open.is_empty()
    }

    /// How many commands have their final answer.
    pub(super) fn acknowledged(&self) -> usize {
        self.closed.len()
    }

    /// A new command, as it goes out. Now and then a number is left out: gaps are fine.
    pub(super) fn ask(&mut self, step: u64, action: DeviceAction, skip: bool) -> DeviceCommand {
        self.next += u64::from(skip);
        let seq = self.next;
        self.next += 1;
        if self.open.is_empty() {
            self.heard = step;
        }
        self.open.insert(seq, Open { action, shown: None, early: None });
        DeviceCommand { device: self.id, seq, floor: self.floor(), action }
    }

    /// Whether it has waited long enough to try another connection.
    pub(super) fn is_impatient(&self, step: u64) -> bool {
        !self.open.is_empty() && step > self.heard + PATIENCE
    }

    /// A new connection: everything that has no final answer goes out again, with what was shown.
    pub(super) fn reconnect(&mut self, step: u64) -> Vec<DeviceCommand> {
        self.connection += 1;
        self.heard = step;
        let (device, floor) = (self.id, self.floor());
        let replay = |(seq, open): (&u64, &Open)| {
            let mut action = open.action;
            if let DeviceAction::Scan(scan) = &mut action {
                scan.shown = open.shown;
                scan.resent = true;
            }
            DeviceCommand { device, seq: *seq, floor, action }
        };
        self.open.iter().map(replay).collect()
    }

    /// Answers have arrived in the node's life number `life`.
    pub(super) fn receive(
        &mut self,
        step: u64,
        life: u64,
        replies: &[DeviceReply],
        may_have_shown: impl Fn(u64) -> bool,
    ) -> Check {
        self.heard = step;
        for reply in replies {
            self.hear_one(life, reply, may_have_shown(reply.seq))?;
        }
        Ok(())
    }

    fn hear_one(&mut self, life: u64, reply: &DeviceReply, may_have_shown: bool) -> Check {
        let (seq, answer) = (reply.seq, reply.answer);
        let refused = matches!(
            answer.verdict,
            Verdict::Rejected(Rejection::StaleSeq | Rejection::WindowFull | Rejection::IdempotencyConflict)
        );
        if let Some(before) = self.closed.get(&seq) {
            // A late copy; below the floor it may be called stale.
            let stale = answer.verdict == Verdict::Rejected(Rejection::StaleSeq) && seq < self.floor();
            if stale || *before == answer {
                return Ok(());
            }
            return breach("same id, same answer", format!("{} seq {seq}: {before:?}, then {answer:?}", self.id));
        }
        let Some(open) = self.open.get_mut(&seq) else {
            return breach("answers are to what was asked", format!("{} seq {seq}", self.id));
        };
        if refused {
            return breach(
                "forgetting is never mistaken",
                format!("{} seq {seq} has no answer yet: {answer:?}", self.id),
            );
        }
        if let Some((heard_in, early)) = open.early
            && heard_in == life
            && early != answer
        {
            return breach("same id, same answer", format!("{} seq {seq}: {early:?}, then {answer:?}", self.id));
        }
        if let Some(shown) = open.shown
            && !stands(shown, answer.verdict)
        {
            if may_have_shown {
                let what = format!("{} seq {seq}: shown {shown:?}, now {answer:?}", self.id);
                return breach("what was shown stands", what);
            }
            // It was captured before this reader was connected, or while no answer left early: the books do not believe it.
            open.shown = None;
        }
        if reply.durable {
            self.closed.insert(seq, answer);
            self.close(seq);
        } else {
            open.shown = open.shown.or(Some(answer.verdict));
            open.early = Some((life, answer));
        }
        Ok(())
    }

    /// Early answers are durable.
    pub(super) fn confirm(&mut self, step: u64, life: u64, seqs: &[u64]) {
        self.heard = step;
        for seq in seqs {
            // It may have overtaken its answer; then the next copy of that is final.
            if let Some((_, answer)) =
                self.open.get(seq).and_then(|open| open.early.filter(|(heard, _)| *heard == life))
            {
                self.closed.insert(*seq, answer);
                self.close(*seq);
            }
        }
    }

    fn close(&mut self, seq: u64) {
        let closed = self.open.remove(&seq);
        if let (Some(Open { action: DeviceAction::Scan(_), .. }), Some(answer)) = (closed, self.closed.get(&seq))
            && let Some(ticket) = answer.ticket
        {
            self.scans.push((seq, ticket));
            if self.scans.len() > 4 {
                self.scans.remove(0);
            }
        }
    }

    /// Every final answer it has.
    pub(super) fn answers(&self) -> impl Iterator<Item = (u64, &DeviceAnswer)> {
        self.closed.iter().map(|(seq, answer)| (*seq, answer))
    }
}

/// Green stays green and red stays red; only a reader that was revoked meanwhile is not believed any more.
fn stands(shown: Verdict, now: Verdict) -> bool {
    let red = |verdict| matches!(verdict, Verdict::Rejected(_));
    shown == now || (red(shown) && red(now)) || now == Verdict::Rejected(Rejection::DeviceRevoked)
}
