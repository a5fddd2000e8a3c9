//! What was decided and nobody waited for, and what is still undecided.

use std::collections::VecDeque;
use std::path::Path;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use engine::gates::command::Verdict;
use engine::model::ids::DeviceId;
use engine::model::money::Money;
use engine::model::time::Timestamp;
use tapgate_wire::{Frame, Recent, decode};
use tokio::sync::broadcast;

use super::queue::{Queue, Retained};
use super::{Answered, ClientError, EVENTS_MAX, Event, Told};

/// The answer to a command whose caller has stopped waiting, or was another process on the same queue.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LateAnswer {
    /// To a reader's scan or undo.
    Scan(Answered),
    /// To a terminal's command: what, how much, which transaction, when.
    Cashless {
        /// The answer.
        told: Told,
        /// The payment is being given back, since its caller wanted that ([`super::Terminal::or_give_back`]): the number of
        /// the refund, whose answer comes as late.
        given_back: Option<u64>,
    },
}

/// Late answers that came before anybody listened: what was left in a queue may be answered before its owner can. At most
/// [`EVENTS_MAX`], the newest.
#[derive(Clone)]
pub(super) struct Untold(Arc<Mutex<Option<VecDeque<LateAnswer>>>>);

impl Untold {
    pub(super) fn new() -> Self {
        Self(Arc::new(Mutex::new(Some(VecDeque::new()))))
    }

    fn lock(&self) -> MutexGuard<'_, Option<VecDeque<LateAnswer>>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn notify(&self, events: &broadcast::Sender<Event>, late: LateAnswer) {
        match &mut *self.lock() {
            Some(untold) => {
                if untold.len() == EVENTS_MAX {
                    untold.pop_front();
                }
                untold.push_back(late);
            }
            // A listener that has gone since misses it, as it misses everything.
            None => drop(events.send(Event::LateAnswer(late))),
        }
    }

    /// A new listener; the first one hears what nobody has heard.
    pub(super) fn listen(&self, events: &broadcast::Sender<Event>) -> broadcast::Receiver<Event> {
        let mut untold = self.lock();
        let listener = events.subscribe();
        for late in untold.take().into_iter().flatten() {
            let _ = events.send(Event::LateAnswer(late));
        }
        listener
    }
}

/// A terminal's last transactions, as the server's lists have them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Lately {
    /// The server's clock when it looked.
    pub at: Timestamp,
    /// How many records of the server's journal its lists did not have yet. What was answered and is not among the rows
    /// may be in those.
    pub behind: u32,
    /// Newest first.
    pub rows: Vec<Recent>,
}

/// A command without a final answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Unanswered {
    /// Its number.
    pub seq: u64,
    /// What it asks.
    pub what: &'static str,
    /// How much, of a payment, a top-up or a refund of a part.
    pub amount: Option<Money>,
    /// When it was tapped or scanned.
    pub captured_at: Option<Timestamp>,
    /// Until when the server may still do it.
    pub expires_at: Option<Timestamp>,
    /// It may have reached the server: nobody here knows what came of it. If not, nothing has happened yet.
    pub in_doubt: bool,
    /// What a reader has shown, which the server has not confirmed.
    pub shown: Option<Verdict>,
}

impl Unanswered {
    /// Of a command that is kept; `None` if it is none.
    pub(super) fn of(frame: &[u8], in_doubt: bool, shown: Option<Verdict>) -> Option<Self> {
        let Ok(Some((frame, _))) = decode(frame) else { return None };
        let some = |at: Timestamp| (at != Timestamp(0)).then_some(at);
        let (what, amount, captured_at, expires_at) = match &frame {
            Frame::Scan(scan) => ("scan", None, Some(scan.captured_at), None),
            Frame::Undo(_) => ("undo", None, None, None),
            Frame::Pay(pay) => ("pay", Some(pay.amount), Some(pay.captured_at), some(pay.expires_at)),
            Frame::Refund(refund) => ("refund", refund.amount, None, None),
            Frame::TopUp(top_up) => ("top_up", Some(top_up.amount), Some(top_up.captured_at), some(top_up.expires_at)),
            Frame::Balance(balance) => ("balance", None, Some(balance.captured_at), None),
            _ => return None,
        };
        Some(Self { seq: frame.seq()?, what, amount, captured_at, expires_at, in_doubt, shown })
    }
}

/// What lies unanswered in the queue of a device that does not run: one that was revoked, say. An operator compares it
/// with what the server has of this device, and [`settle`]s it, or the device is admitted again and asks.
///
/// # Errors
/// As [`super::Reader::start`]; [`ClientError::InUse`] while the device runs.
pub fn unanswered(queue: &Path, device: DeviceId) -> Result<Vec<Unanswered>, ClientError> {
    let (_queue, found) = Queue::open(queue, device)?;
    let of = |kept: &Retained| Unanswered::of(&kept.frame, kept.sent, kept.shown);
    Ok(found.kept.values().filter_map(of).collect())
}

/// Takes commands out of the queue of a device that does not run: somebody has settled them otherwise, and they are never
/// sent again.
///
/// # Errors
/// As [`unanswered`].
pub fn settle(queue: &Path, device: DeviceId, seqs: &[u64]) -> Result<(), ClientError> {
    let (mut queue, found) = Queue::open(queue, device)?;
    seqs.iter().filter(|seq| found.kept.contains_key(seq)).try_for_each(|seq| queue.done(*seq))?;
    queue.sync()
}
