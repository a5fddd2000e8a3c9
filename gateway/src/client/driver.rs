//! The task behind a [`super::Reader`] or a [`super::Terminal`]: keeps the connection, the numbers and the queue.
//!
//! Every command is in `pending` from the moment it has a number until its final answer. `unsent` and `later` say which
//! of them are to be sent now, or at a time the server named; after a broken connection that is all of them.

use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use aws_lc_rs::rand::{SecureRandom as _, SystemRandom};
use engine::command::{CashVerdict, DeviceAnswer, Direction, TerminalAnswer, Verdict};
use engine::rejection::Rejection;
use engine::time::Timestamp;
use tokio::sync::{broadcast, mpsc, oneshot, watch};
use tokio::time::{Instant, sleep_until};

use super::ask::{Ask, Numbered, Reply, Trade};
use super::link::Link;
use super::queue::{Kept, QUEUE_MAX, Queue};
use super::{Answered, BACKOFF_MAX, ClientError, Event, Identity, Read, ReaderOptions, State, Told};
use crate::wire::{Balance, Credential, Frame, Notice, Pay, Refund, Scan, TopUp, Undo, WINDOW_MAX, close, decode};

/// What is handed to QUIC at once, in bytes.
const OUT_BYTES: usize = 32 * 1_024;
/// A connection that stood so long was a good one: the next wait is a short one again.
const GOOD_AFTER: Duration = Duration::from_secs(10);
const BACKOFF: Duration = Duration::from_millis(100);
/// A server that has a frame and does not answer it within this long, on a connection that stands, is asked again. Every
/// answer takes a few disk writes at most; this is ten seconds of a disk that hangs.
const ANSWER_WITHIN: Duration = Duration::from_secs(10);
/// How long a goodbye may take.
const GOODBYE: Duration = Duration::from_secs(2);

struct Pending {
    kept: Kept,
    reply: Option<Reply>,
    /// Sent on another connection, and never heard of: the server may have decided it.
    unsure: bool,
    /// Sent on this connection, and not answered there.
    in_flight: bool,
    /// When it was sent last.
    sent_at: Option<Instant>,
    /// It was said that the server cannot answer it now.
    put_off: bool,
}

impl Pending {
    fn new(kept: Kept, reply: Option<Reply>, unsure: bool) -> Self {
        Self { kept, reply, unsure, in_flight: false, sent_at: None, put_off: false }
    }
}

pub(super) struct Driver {
    identity: Identity,
    trade: Trade,
    options: ReaderOptions,
    asks: mpsc::Receiver<Ask>,
    events: broadcast::Sender<Event>,
    state: watch::Sender<State>,
    queue: Queue,
    pending: BTreeMap<u64, Pending>,
    unsent: BTreeSet<u64>,
    later: BTreeSet<(Instant, u64)>,
    next_seq: u64,
    /// How far the server's clock is ahead of this one, as the last welcome said.
    ahead_ms: i64,
    in_flight: usize,
    connected: bool,
    paused_until: Option<Instant>,
    /// The server named a time to come again.
    come_again: Duration,
    closing: Option<oneshot::Sender<()>>,
}

/// Why a connection is over.
enum Over {
    Lost(ClientError),
    /// The handle said so, or there is none any more.
    Goodbye,
}

impl Driver {
    pub(super) fn new(
        identity: Identity,
        trade: Trade,
        options: ReaderOptions,
        asks: mpsc::Receiver<Ask>,
        events: broadcast::Sender<Event>,
        state: watch::Sender<State>,
    ) -> Result<Self, ClientError> {
        let (queue, kept, next_seq) = match &options.queue {
            None => (Queue::in_memory(identity.device), BTreeMap::new(), 0),
            Some(path) => {
                let (queue, found) = Queue::open(path, identity.device)?;
                (queue, found.kept, found.next_seq)
            }
        };
        let unsent = kept.keys().copied().collect();
        // They may have been sent before the restart; saying so where they were not does no harm.
        let pending = |kept| Pending::new(kept, None, true);
        Ok(Self {
            identity,
            trade,
            options,
            asks,
            events,
            state,
            queue,
            pending: kept.into_iter().map(|(seq, kept)| (seq, pending(kept))).collect(),
            unsent,
            later: BTreeSet::new(),
            next_seq,
            ahead_ms: 0,
            in_flight: 0,
            connected: false,
            paused_until: None,
            come_again: Duration::ZERO,
            closing: None,
        })
    }

    pub(super) async fn run(mut self) {
        let first = self.options.backoff.unwrap_or(BACKOFF);
        let mut wait = first;
        let ended = loop {
            let lost = match self.open().await {
                Ok(link) => {
                    let since = Instant::now();
                    match self.drive(link).await {
                        Over::Goodbye => break ClientError::Gone,
                        Over::Lost(error) => {
                            if since.elapsed() >= GOOD_AFTER {
                                wait = first;
                            }
                            error
                        }
                    }
                }
                Err(Over::Goodbye) => break ClientError::Gone,
                Err(Over::Lost(error)) => error,
            };
            if lost.is_final() {
                break lost;
            }
            if let ClientError::Refused { retry_after_ms, .. } = lost {
                self.come_again = self.come_again.max(Duration::from_millis(u64::from(retry_after_ms)));
            }
            self.state.send_replace(State::Connecting);
            let _ = self.events.send(Event::Lost(lost));
            let pause = std::mem::take(&mut self.come_again).min(BACKOFF_MAX) + jittered(wait);
            wait = (wait * 2).min(BACKOFF_MAX);
            if self.idle_until(Instant::now() + pause).await {
                break ClientError::Gone;
            }
        };
        self.finish(ended);
    }

    fn finish(self, error: ClientError) {
        self.state.send_replace(State::Ended(error.clone()));
        let _ = self.events.send(Event::Ended(error.clone()));
        for pending in self.pending.into_values() {
            if let Some(reply) = pending.reply {
                reply.fail(error.clone());
            }
        }
        drop(self.queue); // Its lock goes before anybody hears that the reader is closed.
        if let Some(closing) = self.closing {
            let _ = closing.send(());
        }
    }

    /// Takes commands into the queue while there is no connection. True if the reader is to end.
    async fn idle_until(&mut self, until: Instant) -> bool {
        loop {
            tokio::select! {
                () = sleep_until(until) => return false,
                ask = self.asks.recv() => if self.take(ask) { return true },
            }
        }
    }

    async fn open(&mut self) -> Result<Link, Over> {
        let (endpoint, identity) = (self.options.endpoint.clone(), self.identity.clone());
        let mut opening = std::pin::pin!(async move { Link::open(endpoint.as_ref(), &identity).await });
        loop {
            tokio::select! {
                link = &mut opening => return link.and_then(|link| self.is_ours(link)).map_err(Over::Lost),
                ask = self.asks.recv() => if self.take(ask) { return Err(Over::Goodbye) },
            }
        }
    }

    /// Whether the server knows this device as what it is.
    fn is_ours(&self, link: Link) -> Result<Link, ClientError> {
        match (self.trade, link.welcome.till.is_some()) {
            (Trade::Reader, false) | (Trade::Terminal, true) => Ok(link),
            (_, till) => {
                link.connection.close(quinn::VarInt::from_u32(close::DONE), b"");
                Err(ClientError::WrongTrade(if till { "a terminal" } else { "a reader" }))
            }
        }
    }

    /// True if the reader is to end.
    fn take(&mut self, ask: Option<Ask>) -> bool {
        match ask {
            None => return true,
            Some(Ask::Close(done)) => {
                self.closing = Some(done);
                return true;
            }
            Some(Ask::Scan { read, direction, reply }) => self.take_scan(read, direction, reply),
            Some(Ask::Undo { scan_seq, ticket, reply }) => {
                let frame = |seq| Frame::Undo(Undo { seq, floor: seq, scan_seq, ticket, resent: false }).to_bytes();
                self.admit(frame, true, reply);
            }
            // Before the first welcome nobody knows which numbers were used.
            Some(Ask::Cash { reply, .. }) if self.queue.zone.is_none() => reply.fail(ClientError::NeverConnected),
            Some(Ask::Cash { frame, kept, reply }) => {
                let at = Timestamp(now().0.saturating_add(self.ahead_ms));
                self.admit(|seq| frame(Numbered { seq, at }), kept, reply);
            }
        }
        false
    }

    fn take_scan(&mut self, read: Read, direction: Direction, reply: Reply) {
        let Some(zone) = self.options.zone.or(self.queue.zone) else {
            return reply.fail(ClientError::NoZoneYet);
        };
        let captured_at = now();
        let frame = |seq| {
            let credential = match &read {
                Read::Qr(qr) => Credential::of_qr(qr),
                Read::Tag(uid) => Credential::Tag(*uid),
            };
            let scan = Scan { seq, floor: seq, captured_at, zone, direction, shown: None, resent: false, credential };
            Frame::Scan(scan).to_bytes()
        };
        self.admit(frame, true, reply);
    }

    /// Gives a command its number, and puts it in the queue; in its file too, if it is to be kept.
    fn admit(&mut self, frame: impl Fn(u64) -> Vec<u8>, keep: bool, reply: Reply) {
        if self.pending.len() >= QUEUE_MAX {
            return reply.fail(ClientError::QueueFull);
        }
        let seq = self.next_seq;
        let frame = frame(seq);
        let kept = self.queue.reserve(seq).and_then(|()| match keep {
            true => self.queue.put(seq, &frame, !self.connected),
            false => Ok(()),
        });
        // The number is spent even if the disk failed: its entry may be there.
        self.next_seq += 1;
        if let Err(error) = kept {
            return reply.fail(error);
        }
        // From here it will be sent.
        let kept = Kept { frame, shown: None };
        self.pending.insert(seq, Pending::new(kept, Some(reply), false));
        self.unsent.insert(seq);
    }

    async fn drive(&mut self, link: Link) -> Over {
        let Link { connection, mut send, mut frames, welcome } = link;
        self.welcomed(&welcome);
        let welcome = std::sync::Arc::new(welcome);
        self.state.send_replace(State::Connected(std::sync::Arc::clone(&welcome)));
        let _ = self.events.send(Event::Connected(std::sync::Arc::clone(&welcome)));
        let mut out: Vec<u8> = Vec::new();
        let mut at = 0;
        let mut look = tokio::time::interval(ANSWER_WITHIN / 5);
        look.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        let over = loop {
            let mut heard = Ok(());
            if let Err(error) = frames.take(|frame| {
                if let Err(error) = self.hear(frame) {
                    heard = Err(error);
                }
            }) {
                break Over::Lost(error);
            }
            if let Err(error) = heard {
                break Over::Lost(error);
            }
            if at == out.len() {
                out.clear();
                at = 0;
                self.fill(&mut out, usize::from(welcome.window));
            }
            let wake = self.later.first().map(|(at, _)| *at).into_iter().chain(self.paused_until).min();
            tokio::select! {
                more = frames.fill() => match more {
                    Ok(true) => {}
                    Ok(false) => break Over::Lost(ClientError::Net("the server ended the stream".into())),
                    Err(error) => break Over::Lost(error),
                },
                // A write that fails has its reason in what is read next.
                written = send.write(&out[at..]), if at < out.len() => match written {
                    Ok(written) => at += written,
                    Err(_) => at = out.len(),
                },
                ask = self.asks.recv() => if self.take(ask) { break Over::Goodbye },
                () = sleep_until(wake.unwrap_or_else(Instant::now)), if wake.is_some() => {}
                _ = look.tick() => self.ask_again_what_is_late(),
            }
        };
        self.connected = false;
        let over = match over {
            Over::Goodbye => {
                let goodbye = async {
                    send.write_all(&out[at..]).await.ok()?;
                    send.write_all(&Frame::Bye.to_bytes()).await.ok()?;
                    send.finish().ok()?;
                    while frames.fill().await.ok()? {
                        let _ = frames.take(|frame| drop(self.hear(frame)));
                    }
                    Some(())
                };
                let _ = tokio::time::timeout(GOODBYE, goodbye).await;
                Over::Goodbye
            }
            Over::Lost(ClientError::Net(error)) => Over::Lost(match connection.close_reason() {
                Some(quinn::ConnectionError::ApplicationClosed(closed)) => {
                    ClientError::Closed(u64::from(closed.error_code) as u32)
                }
                _ => ClientError::Net(error),
            }),
            lost => lost,
        };
        connection.close(quinn::VarInt::from_u32(close::DONE), b"");
        over
    }

    /// A connection begins: whatever has no final answer is to be sent again, in its old order, under its old number.
    fn welcomed(&mut self, welcome: &super::Welcomed) {
        self.connected = true;
        self.ahead_ms = welcome.server_time.since_ms(now());
        self.in_flight = 0;
        self.paused_until = None;
        self.later.clear();
        self.unsent = self.pending.keys().copied().collect();
        for pending in self.pending.values_mut() {
            pending.unsure |= std::mem::take(&mut pending.in_flight) || pending.kept.shown.is_some();
        }
        if self.next_seq < welcome.next_seq || (self.options.queue.is_none() && self.next_seq == 0) {
            // Numbers were used that this queue knows nothing of (it is new, or an old copy), the latest of them
            // perhaps still unanswered; none of those is above the window.
            self.next_seq = welcome.next_seq.saturating_add(WINDOW_MAX);
        }
        if let Err(error) = self.queue.stands_at(welcome.zone) {
            tracing::warn!(%error, "the queue's file does not take the zone");
        }
    }

    /// As many frames as may be sent now.
    fn fill(&mut self, out: &mut Vec<u8>, window: usize) {
        let now = Instant::now();
        self.paused_until = self.paused_until.filter(|until| now < *until);
        while self.later.first().is_some_and(|(at, _)| *at <= now) {
            let (_, seq) = self.later.pop_first().expect("just seen");
            self.unsent.insert(seq);
        }
        let Some((&floor, _)) = self.pending.first_key_value() else { return };
        while self.paused_until.is_none() && self.in_flight < window.max(1) && out.len() < OUT_BYTES {
            let Some(&seq) = self.unsent.first() else { return };
            if seq - floor >= WINDOW_MAX {
                return;
            }
            self.unsent.remove(&seq);
            let Some(pending) = self.pending.get_mut(&seq) else { continue };
            let resent = pending.unsure;
            let Ok(Some((frame, _))) = decode(&pending.kept.frame) else {
                unreachable!("written by this file, checked by the queue")
            };
            match frame {
                Frame::Scan(scan) => Frame::Scan(Scan { floor, shown: pending.kept.shown, resent, ..scan }).encode(out),
                Frame::Undo(undo) => Frame::Undo(Undo { floor, resent, ..undo }).encode(out),
                Frame::Pay(pay) => Frame::Pay(Pay { floor, resent, ..pay }).encode(out),
                Frame::Refund(refund) => Frame::Refund(Refund { floor, resent, ..refund }).encode(out),
                Frame::TopUp(top_up) => Frame::TopUp(TopUp { floor, resent, ..top_up }).encode(out),
                Frame::Balance(balance) => Frame::Balance(Balance { floor, resent, ..balance }).encode(out),
                _ => unreachable!("written by this file, checked by the queue"),
            }
            pending.in_flight = true;
            pending.sent_at = Some(now);
            self.in_flight += 1;
        }
    }

    fn hear(&mut self, frame: &Frame<'_>) -> Result<(), ClientError> {
        match *frame {
            Frame::Answer { seq, answer, durable } => self.answered(seq, answer, durable),
            Frame::CashAnswer { seq, answer } => {
                self.told(seq, answer);
                Ok(())
            }
            Frame::Confirmed(ranges) => {
                for seq in ranges.iter().flat_map(|range| range.seqs()) {
                    // Only what was shown can be confirmed.
                    if self.pending.get(&seq).is_some_and(|pending| pending.kept.shown.is_some()) {
                        self.settle(seq);
                        let _ = self.events.send(Event::Confirmed(seq));
                    }
                }
                Ok(())
            }
            Frame::Busy { seq, rejection, retry_after_ms } => {
                self.put_off(seq, rejection);
                self.again_in(seq, retry_after_ms);
                Ok(())
            }
            Frame::Notice(notice) => {
                match notice {
                    Notice::SlowDown { retry_after_ms } => {
                        self.paused_until = Some(Instant::now() + Duration::from_millis(u64::from(retry_after_ms)));
                    }
                    Notice::Closing { retry_after_ms } => {
                        self.come_again = Duration::from_millis(u64::from(retry_after_ms));
                    }
                    // How answers leave, each of them says for itself.
                    Notice::Zone { .. } | Notice::DeviceRevoked | Notice::PolicyChanged => {}
                }
                let _ = self.events.send(Event::Notice(notice));
                Ok(())
            }
            Frame::Refuse { refusal, retry_after_ms, .. } => Err(ClientError::Refused { refusal, retry_after_ms }),
            _ => Err(ClientError::Server(crate::wire::WireError::Kind(frame.to_bytes()[2]))),
        }
    }

    fn answered(&mut self, seq: u64, answer: DeviceAnswer, durable: bool) -> Result<(), ClientError> {
        if let Verdict::Rejected(Rejection::Busy | Rejection::Unavailable) = answer.verdict {
            self.put_off(seq, Rejection::Unavailable);
            self.again_in(seq, 100);
            return Ok(());
        }
        let Some(pending) = self.pending.get_mut(&seq) else { return Ok(()) }; // Answered twice: the first one stood.
        if std::mem::take(&mut pending.in_flight) {
            self.in_flight -= 1;
        }
        if let Some(reply) = pending.reply.take() {
            reply.answered(Answered { seq, answer, durable });
        }
        if durable {
            self.settle(seq);
        } else {
            pending.kept.shown = Some(answer.verdict);
            if let Err(error) = self.queue.shown(seq, answer.verdict) {
                tracing::warn!(%error, "the queue's file does not take what was shown");
            }
        }
        Ok(())
    }

    /// A terminal's answer is final, unless it says that nothing could be done just now.
    fn told(&mut self, seq: u64, answer: TerminalAnswer) {
        if let CashVerdict::Rejected(Rejection::Busy | Rejection::Unavailable) = answer.verdict {
            return self.again_in(seq, 100);
        }
        if let Some(reply) = self.pending.get_mut(&seq).and_then(|pending| pending.reply.take()) {
            reply.told(Told { seq, answer });
        }
        self.settle(seq);
    }

    /// Answered for good.
    fn settle(&mut self, seq: u64) {
        let Some(pending) = self.pending.remove(&seq) else { return };
        if pending.in_flight {
            self.in_flight -= 1;
        }
        self.unsent.remove(&seq);
        let done = self.queue.done(seq).and_then(|()| {
            if !self.queue.wants_compacting() {
                return Ok(());
            }
            let kept = self.pending.iter().map(|(&seq, pending)| (seq, pending.kept.clone())).collect();
            self.queue.compact(&kept)
        });
        if let Err(error) = done {
            // After a restart it would be sent once more, and get the same answer once more.
            tracing::warn!(%error, "the queue's file does not take an answer");
        }
    }

    /// The server cannot answer this one now; whoever stands there is to know.
    fn put_off(&mut self, seq: u64, why: Rejection) {
        let Some(pending) = self.pending.get_mut(&seq) else { return };
        if why == Rejection::InDoubt {
            pending.unsure = true;
            // It may have been answered once, and is to be confirmed.
            self.in_flight += usize::from(!std::mem::replace(&mut pending.in_flight, true));
        }
        let down = matches!(why, Rejection::InDoubt | Rejection::Unavailable);
        if down && !std::mem::replace(&mut pending.put_off, true) {
            let _ = self.events.send(Event::PutOff { seq, why });
        }
    }

    /// No answer came, and the connection stands: the same frame again.
    fn ask_again_what_is_late(&mut self) {
        let now = Instant::now();
        for (&seq, pending) in &mut self.pending {
            let late = pending.sent_at.is_some_and(|at| now.duration_since(at) >= ANSWER_WITHIN);
            if pending.in_flight && late {
                pending.in_flight = false;
                pending.unsure = true;
                self.in_flight -= 1;
                self.unsent.insert(seq);
            }
        }
    }

    /// The same frame under the same number, a little later.
    fn again_in(&mut self, seq: u64, retry_after_ms: u32) {
        let Some(pending) = self.pending.get_mut(&seq) else { return };
        if std::mem::take(&mut pending.in_flight) {
            self.in_flight -= 1;
            let wait = Duration::from_millis(u64::from(retry_after_ms)).min(BACKOFF_MAX);
            self.later.insert((Instant::now() + wait, seq));
        }
    }
}

/// Somewhere between half and all of it, so that a thousand readers do not come back in the same instant.
fn jittered(wait: Duration) -> Duration {
    let mut random = [0; 2];
    let _ = SystemRandom::new().fill(&mut random);
    wait / 2 + (wait / 2).mul_f64(f64::from(u16::from_le_bytes(random)) / f64::from(u16::MAX))
}

fn now() -> Timestamp {
    Timestamp(SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_millis() as i64)
}
