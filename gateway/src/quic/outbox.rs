//! What goes out to one device: shards put answers in, on their own threads, under a short lock; the session's writer
//! takes all there is and hands it to QUIC in one write.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::time::{Duration, Instant};

use actors::{Busy, DeviceReply, Inbox, TerminalReply};
use engine::cashless::command::CashlessVerdict;
use engine::model::rejection::Rejection;
use quinn::{Connection, SendStream, VarInt};
use tapgate_wire::{Frame, Notice, Refusal, close, encode_confirmed};
use tokio::sync::Notify;

use super::DoorMetrics;
use super::limits::Limits;

/// What an idle session may keep of its buffers, in bytes: 2 × 2 KiB × 10,000 sessions = 40 MiB at worst.
const KEPT_BYTES: usize = 2_048;
/// How long the last words of a connection may be under way before it is closed all the same.
const PARTING: Duration = Duration::from_secs(1);

/// How a session ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct End {
    /// The last frame.
    pub(super) refusal: Option<Refusal>,
    /// When to come again; 0 says nothing.
    pub(super) retry_after_ms: u32,
    /// Answers under way are waited for.
    pub(super) drain: bool,
    /// The code with which QUIC closes.
    pub(super) close_code: u32,
}

impl End {
    /// The device went by itself, and gets what it is still owed.
    pub(super) const BYE: Self = Self { refusal: None, retry_after_ms: 0, drain: true, close_code: close::DONE };
    /// It is to come again.
    pub(super) const RESUME: Self = Self { refusal: None, retry_after_ms: 0, drain: false, close_code: close::RESUME };

    pub(super) fn refused(refusal: Refusal) -> Self {
        Self { refusal: Some(refusal), retry_after_ms: 0, drain: false, close_code: refusal.close_code() }
    }
}

/// How long a confirmation may wait for an answer to travel with. Each one that goes alone costs a packet, at both
/// ends as much as a dozen decisions; the device needs it only to forget the scan.
const CONFIRM_WITHIN: Duration = Duration::from_millis(5);

/// Sessions with confirmations that nothing else has taken along yet. Each is in here once at most.
#[derive(Default)]
pub(super) struct Unconfirmed {
    waiting: Mutex<Vec<Arc<Outbox>>>,
    bell: Notify,
}

impl Unconfirmed {
    fn lock(&self) -> MutexGuard<'_, Vec<Arc<Outbox>>> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn add(&self, outbox: Arc<Outbox>) {
        let first = {
            let mut waiting = self.lock();
            waiting.push(outbox);
            waiting.len() == 1
        };
        if first {
            self.bell.notify_one();
        }
    }

    /// Sends what has waited long enough. Has no end: to be run beside the sessions.
    pub(super) async fn send(&self) {
        let mut look_at = None;
        loop {
            match look_at {
                Some(at) => tokio::time::sleep_until(tokio::time::Instant::from_std(at)).await,
                None => {
                    self.bell.notified().await;
                    tokio::time::sleep(CONFIRM_WITHIN).await;
                }
            }
            look_at = self.next_deadline(Instant::now());
        }
    }

    /// When to look again; never, if nobody waits. Whoever comes until then waits for longer than those who are here.
    fn next_deadline(&self, now: Instant) -> Option<Instant> {
        let mut next: Option<Instant> = None;
        self.lock().retain(|outbox| {
            let at = outbox.confirm_at(now);
            next = next.into_iter().chain(at).min();
            at.is_some()
        });
        next
    }
}

pub(super) struct Outbox {
    me: Weak<Self>,
    state: Mutex<State>,
    /// Held while commands go to the shards, and while the session is ended.
    handing_on: Mutex<()>,
    /// Something is to be written, or the session has ended.
    wake: Notify,
    /// There is room to read again.
    room: Notify,
    metrics: Arc<DoorMetrics>,
    unconfirmed: Arc<Unconfirmed>,
    in_flight_max: usize,
    out_bytes_max: usize,
    write_timeout: Duration,
}

#[derive(Default)]
struct State {
    bytes: Vec<u8>,
    /// How many answers lie in `bytes`.
    answers: usize,
    /// How many refusals at the door lie in `bytes`.
    busies: usize,
    /// Answers that left early and are durable now; go with the next write.
    confirmed: Vec<u64>,
    /// Since when the oldest of them has waited.
    confirmed_since: Option<Instant>,
    /// Among [`Unconfirmed`].
    listed: bool,
    /// They have waited long enough.
    confirm_due: bool,
    /// Frames read whose answer has not been handed to QUIC.
    open: usize,
    /// When the frames at the shard were read, and how many of each read are not answered. A reader's commands go to one
    /// shard and are answered in order; a terminal's go to many, and an answer counts for the oldest read that waits.
    reads: VecDeque<(Instant, usize)>,
    reader_waits: bool,
    end: Option<End>,
    /// Nobody will write any more.
    dead: bool,
}

impl Outbox {
    pub(super) fn new(limits: &Limits, metrics: Arc<DoorMetrics>, unconfirmed: Arc<Unconfirmed>) -> Arc<Self> {
        Arc::new_cyclic(|me| Self {
            me: Weak::clone(me),
            state: Mutex::default(),
            handing_on: Mutex::default(),
            wake: Notify::new(),
            room: Notify::new(),
            metrics,
            unconfirmed,
            in_flight_max: limits.in_flight_max.max(1),
            out_bytes_max: limits.out_bytes_max,
            write_timeout: limits.write_timeout,
        })
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Waits until there is room for another read, or says that there will be none.
    pub(super) async fn room(&self) -> Option<End> {
        loop {
            {
                let mut state = self.lock();
                if state.end.is_some() || state.open < self.in_flight_max {
                    return state.end;
                }
                state.reader_waits = true;
            }
            self.room.notified().await;
        }
    }

    /// How the session ended, if it has.
    pub(super) fn ended(&self) -> Option<End> {
        self.lock().end
    }

    /// To be held while commands go to the shards; `None` once the session has ended. Whoever ends it waits for this: when
    /// that is done, nothing of the session is on its way to a shard, and nothing will be.
    pub(super) fn handing_on(&self) -> Option<MutexGuard<'_, ()>> {
        let handing_on = self.handing_on.lock().unwrap_or_else(PoisonError::into_inner);
        self.ended().is_none().then_some(handing_on)
    }

    /// `count` frames of one read go to the shard.
    pub(super) fn submitted(&self, count: usize, read_at: Instant) {
        let mut state = self.lock();
        state.open += count;
        state.reads.push_back((read_at, count));
    }

    /// A shard did not take these of the latest read after all.
    pub(super) fn turned_away(&self, seqs: &[u64], busy: Busy) {
        {
            let mut state = self.lock();
            if let Some((_, count)) = state.reads.back_mut() {
                *count = count.saturating_sub(seqs.len());
                if *count == 0 {
                    state.reads.pop_back();
                }
            }
            state.open = state.open.saturating_sub(seqs.len());
        }
        self.busy(seqs, busy);
    }

    /// Their shard has gone down with these, of whichever reads: they are answered after all, though not for good.
    pub(super) fn put_off(&self, seqs: &[u64], busy: Busy) {
        let Busy { rejection, retry_after_ms, .. } = busy;
        self.put(|state| {
            for &seq in seqs {
                Frame::Busy { seq, rejection, retry_after_ms }.encode(&mut state.bytes);
            }
            state.answers += seqs.len();
        });
        self.metrics.busy.increment(seqs.len() as u64);
    }

    /// These frames are refused at the door.
    pub(super) fn busy(&self, seqs: &[u64], busy: Busy) {
        let Busy { rejection, retry_after_ms, .. } = busy;
        self.put(|state| {
            for &seq in seqs {
                Frame::Busy { seq, rejection, retry_after_ms }.encode(&mut state.bytes);
            }
            state.open += seqs.len();
            state.busies += seqs.len();
        });
        self.metrics.busy.increment(seqs.len() as u64);
    }

    /// What became of a terminal's commands. Those named in `again` are to be sent once more, a little later: their tag
    /// has moved; so are those that their shard has put off.
    pub(super) fn cashless_answered(&self, replies: &[TerminalReply], again: &[u64], retry_after_ms: u32) {
        self.put(|state| {
            for &TerminalReply { seq, answer } in replies {
                let frame = match answer.verdict {
                    _ if again.contains(&seq) => Frame::Busy { seq, rejection: Rejection::TagMoved, retry_after_ms },
                    CashlessVerdict::Rejected(rejection @ Rejection::Busy) => {
                        Frame::Busy { seq, rejection, retry_after_ms }
                    }
                    _ => Frame::CashlessAnswer { seq, answer },
                };
                frame.encode(&mut state.bytes);
            }
            state.answers += replies.len();
        });
    }

    /// What was asked and is no command.
    pub(super) fn send(&self, frames: &[Frame<'_>]) {
        self.put(|state| frames.iter().for_each(|frame| frame.encode(&mut state.bytes)));
    }

    /// Something the device did not ask.
    pub(super) fn notice(&self, notice: Notice) {
        self.put(|state| Frame::Notice(notice).encode(&mut state.bytes));
    }

    /// The session is over; the first word stands.
    pub(super) fn end(&self, end: End) {
        {
            let _nothing_is_handed_on = self.handing_on.lock().unwrap_or_else(PoisonError::into_inner);
            self.lock().end.get_or_insert(end);
        }
        self.wake.notify_one();
        self.room.notify_one();
    }

    fn put(&self, write: impl FnOnce(&mut State)) {
        {
            let mut state = self.lock();
            if state.dead {
                return;
            }
            write(&mut state);
            state.check(self.out_bytes_max);
        }
        self.wake.notify_one();
    }

    /// Lets confirmations go that have waited long enough. Those that were taken along do not count: a device that is
    /// answered all the time never gets a packet that only confirms. When to look again; never, if none are left.
    fn confirm_at(&self, now: Instant) -> Option<Instant> {
        {
            let mut state = self.lock();
            let due = state.confirmed_since.map(|since| since + CONFIRM_WITHIN);
            if let Some(at) = due.filter(|at| *at > now) {
                return Some(at);
            }
            state.listed = false;
            state.confirm_due = due.is_some();
            due?;
        }
        self.wake.notify_one();
        None
    }

    /// Writes until the session ends, says the last words, closes.
    pub(super) async fn write_out(&self, connection: &Connection, send: &mut SendStream) {
        let end = self.write_answers(send).await;
        {
            let mut state = self.lock();
            // It stays ended: frames may still arrive, and questions be under way, while the last words are.
            *state = State { dead: true, end: state.end.or(Some(end)), ..State::default() };
        }
        part(connection, send, end).await;
    }

    async fn write_answers(&self, send: &mut SendStream) -> End {
        let mut writing = Vec::new();
        loop {
            let (answers, busies) = loop {
                {
                    let mut state = self.lock();
                    // What was said before the end is said before the end is.
                    let parting = state.end.is_some() && !state.confirmed.is_empty();
                    if !state.bytes.is_empty() || state.confirm_due || parting {
                        state.take_confirmations();
                        std::mem::swap(&mut state.bytes, &mut writing);
                        break (std::mem::take(&mut state.answers), std::mem::take(&mut state.busies));
                    }
                    match state.end {
                        Some(end) if !end.drain || state.open == 0 => return end,
                        _ => {}
                    }
                    // Going to sleep: a burst's buffers are given back.
                    for buffer in [&mut state.bytes, &mut writing] {
                        buffer.shrink_to(KEPT_BYTES);
                    }
                    state.reads.shrink_to(4);
                    state.confirmed.shrink_to(16);
                }
                self.wake.notified().await;
            };
            match tokio::time::timeout(self.write_timeout, send.write_all(&writing)).await {
                Ok(Ok(())) => {}
                Ok(Err(_)) => return End::RESUME, // Closed or stopped by the peer: nobody will read the code.
                Err(_) => return End::refused(Refusal::TooSlow),
            }
            writing.clear();
            self.written(answers, busies);
        }
    }

    fn written(&self, answers: usize, busies: usize) {
        let now = Instant::now();
        let mut state = self.lock();
        state.open = state.open.saturating_sub(answers + busies);
        if state.reader_waits && state.open < self.in_flight_max {
            state.reader_waits = false;
            self.room.notify_one();
        }
        let mut left = answers;
        while left > 0 {
            let Some((read_at, count)) = state.reads.front_mut() else { break };
            let of_this = left.min(*count);
            let took = now.saturating_duration_since(*read_at);
            *count -= of_this;
            left -= of_this;
            if *count == 0 {
                state.reads.pop_front();
            }
            self.metrics.answered(now, took, of_this);
        }
    }
}

impl Inbox for Outbox {
    fn answered(&self, replies: &[DeviceReply]) {
        self.put(|state| {
            for &DeviceReply { seq, answer, durable } in replies {
                Frame::Answer { seq, answer, durable }.encode(&mut state.bytes);
            }
            state.answers += replies.len();
        });
    }

    fn turned_away(&self, seqs: &[u64], busy: Busy) {
        self.put_off(seqs, busy);
    }

    fn not_confirmed(&self, seqs: &[u64], busy: Busy) {
        self.busy(seqs, busy); // these have been answered once already
    }

    fn confirmed(&self, seqs: &[u64]) {
        let me = {
            let mut state = self.lock();
            if state.dead || seqs.is_empty() {
                return;
            }
            state.confirmed.extend_from_slice(seqs);
            state.confirmed_since.get_or_insert_with(Instant::now);
            state.check(self.out_bytes_max);
            // What is about to be written takes them along; else somebody has to remember them.
            if state.listed { None } else { self.me.upgrade().inspect(|_| state.listed = true) }
        };
        if let Some(me) = me {
            self.unconfirmed.add(me);
        }
    }
}

impl State {
    /// A device that takes nothing is not waited for.
    fn check(&mut self, out_bytes_max: usize) {
        if self.bytes.len() + 16 * self.confirmed.len() > out_bytes_max {
            self.end.get_or_insert(End::refused(Refusal::TooSlow));
        }
    }

    /// Behind the answers that they confirm.
    fn take_confirmations(&mut self) {
        if !self.confirmed.is_empty() {
            encode_confirmed(&self.confirmed, &mut self.bytes);
            self.confirmed.clear();
        }
        self.confirmed_since = None;
        self.confirm_due = false;
    }
}

/// The last words of a connection: why, then the end of the stream, then QUIC's close, once the peer has taken them.
pub(super) async fn part(connection: &Connection, send: &mut SendStream, end: End) {
    let last_words = async {
        if let Some(refusal) = end.refusal {
            let frame = Frame::Refuse { refusal, retry_after_ms: end.retry_after_ms, text: refusal.sentence() };
            send.write_all(&frame.to_bytes()).await.ok()?;
        }
        send.finish().ok()?;
        send.stopped().await.ok()
    };
    let _ = tokio::time::timeout(PARTING, last_words).await;
    let reason = end.refusal.map_or("", Refusal::sentence);
    connection.close(VarInt::from_u32(end.close_code), reason.as_bytes());
}

#[cfg(test)]
mod tests {
    use std::thread;

    use super::*;

    #[test]
    fn a_confirmation_goes_alone_only_if_no_answer_has_taken_it_along_in_time() {
        let unconfirmed = Arc::<Unconfirmed>::default();
        let outbox =
            Outbox::new(&Limits::default(), Arc::new(DoorMetrics::new(Arc::default())), Arc::clone(&unconfirmed));
        let is_due = || outbox.lock().confirm_due;
        outbox.confirmed(&[1]);
        let later = Instant::now() + CONFIRM_WITHIN; // the first one's time
        outbox.lock().take_confirmations(); // an answer takes it along
        outbox.confirmed(&[2]);
        // As if the second one had come at that moment.
        outbox.lock().confirmed_since = Some(later);
        assert_eq!(unconfirmed.next_deadline(later), Some(later + CONFIRM_WITHIN), "the second one has just come");
        assert!(!is_due());
        assert_eq!(unconfirmed.next_deadline(later + CONFIRM_WITHIN), None);
        assert!(is_due(), "nothing took it along");
        outbox.lock().take_confirmations();

        outbox.confirmed(&[3]);
        outbox.lock().take_confirmations();
        assert_eq!(unconfirmed.next_deadline(later), None, "nothing is left");
        assert!(!is_due() && unconfirmed.lock().is_empty());
        outbox.confirmed(&[4]);
        assert_eq!(unconfirmed.lock().len(), 1, "it is listed again");
    }

    #[test]
    fn who_has_ended_a_session_knows_that_nothing_more_of_it_is_handed_on() {
        let outbox = Outbox::new(&Limits::default(), Arc::new(DoorMetrics::new(Arc::default())), Arc::default());
        let handing_on = outbox.handing_on().expect("it has not ended");
        let end = End::refused(Refusal::Replaced);
        let ending = thread::spawn({
            let outbox = Arc::clone(&outbox);
            move || outbox.end(end)
        });
        thread::sleep(Duration::from_millis(50));
        assert!(!ending.is_finished() && outbox.ended().is_none(), "waits for what is being handed on");
        drop(handing_on);
        ending.join().unwrap();
        assert_eq!(outbox.ended(), Some(end));
        assert!(outbox.handing_on().is_none());
    }
}
