//! The task behind a [`super::Reader`] or a [`super::Terminal`]: keeps the connection, the numbers and the queue.
//!
//! Every command is in `pending` from the moment it has a number until its final answer. `unsent` and `later` say which
//! of them are to be sent now, or at a time the server named; after a broken connection that is all of them. `ends` says
//! which of them have an end to their time, and when.

mod answers;

use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use aws_lc_rs::rand::{SecureRandom as _, SystemRandom};
use engine::gates::command::Direction;
use engine::model::time::Timestamp;
use tapgate_wire::{Balance, Credential, Frame, Pay, Refund, Scan, TopUp, Undo, WINDOW_MAX, close, decode};
use tokio::sync::{broadcast, mpsc, oneshot, watch};
use tokio::time::{Instant, sleep_until};

use super::ask::{Ask, DeviceKind, Numbered, Reply, Request};
use super::late::{Lately, Unanswered, Untold};
use super::link::Link;
use super::queue::{QUEUE_MAX, Queue, Retained};
use super::silence::{Silence, Silent};
use super::{BACKOFF_MAX, ClientError, Event, Identity, Read, ReaderOptions, State};

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
    kept: Retained,
    reply: Option<Reply>,
    /// Sent on another connection, and never heard of: the server may have decided it.
    unsure: bool,
    /// Sent on this connection, and not answered there.
    in_flight: bool,
    /// When it was sent last.
    sent_at: Option<Instant>,
    /// It was said that the server cannot answer it now.
    put_off: bool,
    /// Sent at all, so that the server may have decided it.
    was_sent: bool,
    /// The end of its time, by the server's; 0: none.
    expires_at: Timestamp,
}

impl Pending {
    /// `unsure`: it may have been sent before this process began.
    fn new(kept: Retained, unsure: bool) -> Self {
        Self {
            expires_at: expires_at(&kept.frame),
            kept,
            reply: None,
            unsure,
            in_flight: false,
            sent_at: None,
            put_off: false,
            was_sent: unsure,
        }
    }
}

pub(super) struct Driver {
    identity: Identity,
    kind: DeviceKind,
    options: ReaderOptions,
    asks: mpsc::Receiver<Ask>,
    events: broadcast::Sender<Event>,
    untold: Untold,
    state: watch::Sender<State>,
    queue: Queue,
    pending: BTreeMap<u64, Pending>,
    unsent: BTreeSet<u64>,
    later: BTreeSet<(Instant, u64)>,
    ends: BTreeSet<(Timestamp, u64)>,
    next_seq: u64,
    /// Questions that are no commands: to be sent, and waited for on this connection. As many as callers wait.
    beside: Vec<u8>,
    listing: BTreeMap<u64, (Lately, oneshot::Sender<Result<Lately, ClientError>>)>,
    next_ask: u64,
    in_flight: usize,
    connected: bool,
    /// How many connections were lost or not made: of several servers, another one comes first each time. The one before may
    /// answer and be of no use.
    turn: usize,
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
        kind: DeviceKind,
        options: ReaderOptions,
        asks: mpsc::Receiver<Ask>,
        (events, untold): (broadcast::Sender<Event>, Untold),
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
        let pending = |kept: Retained| {
            let unsure = kept.sent;
            Pending::new(kept, unsure)
        };
        let pending: BTreeMap<u64, Pending> = kept.into_iter().map(|(seq, kept)| (seq, pending(kept))).collect();
        Ok(Self {
            identity,
            kind,
            options,
            asks,
            events,
            untold,
            state,
            queue,
            ends: ends_of(&pending),
            pending,
            unsent,
            later: BTreeSet::new(),
            next_seq,
            beside: Vec::new(),
            listing: BTreeMap::new(),
            next_ask: 1 << 63, // no command has such a number
            in_flight: 0,
            connected: false,
            turn: 0,
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
            self.turn = self.turn.wrapping_add(1);
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

    fn finish(mut self, error: ClientError) {
        self.expire();
        self.state.send_replace(State::Ended(error.clone()));
        let _ = self.events.send(Event::Ended(error.clone()));
        // What was asked and not taken any more: nothing has become of it.
        self.asks.close();
        while let Ok(ask) = self.asks.try_recv() {
            match ask {
                Ask::Scan { reply, .. } | Ask::Undo { reply, .. } | Ask::Cashless { reply, .. } => {
                    reply.fail(error.clone())
                }
                Ask::Recent { .. } | Ask::Unanswered(_) => {} // whoever waits hears that there is nobody
                Ask::Close(done) => drop(self.closing.replace(done)),
            }
        }
        // What the server has said no to for good was not done, if it was never sent: whoever waits is told so, and it
        // leaves the queue. What was sent is in doubt, and stays.
        let is_final = error.is_final() && !matches!(error, ClientError::Gone);
        let (mut queue, mut done) = (self.queue, Vec::new());
        for (seq, pending) in self.pending {
            let Some(reply) = pending.reply else { continue };
            match pending.was_sent {
                true if is_final => reply.fail(ClientError::InDoubt { seq, why: Box::new(error.clone()) }),
                false if is_final => match queue.done(seq) {
                    Ok(()) => done.push(reply),
                    Err(_) => reply.fail(ClientError::InDoubt { seq, why: Box::new(error.clone()) }),
                },
                _ => reply.fail(error.clone()),
            }
        }
        if let Err(error) = queue.sync() {
            tracing::warn!(%error, "the queue's file is not flushed");
        }
        done.into_iter().for_each(|reply| reply.fail(error.clone()));
        drop(queue); // Its lock goes before anybody hears that the reader is closed.
        if let Some(closing) = self.closing {
            let _ = closing.send(());
        }
    }

    /// Takes commands into the queue while there is no connection. True if the reader is to end.
    async fn idle_until(&mut self, until: Instant) -> bool {
        loop {
            let end = self.next_end();
            tokio::select! {
                () = sleep_until(until) => return false,
                ask = self.asks.recv() => if self.take(ask) { return true },
                () = sleep_until(end.unwrap_or(until)), if end.is_some() => self.expire(),
            }
        }
    }

    async fn open(&mut self) -> Result<Link, Over> {
        let (endpoint, identity, turn) = (self.options.endpoint.clone(), self.identity.clone(), self.turn);
        let mut opening = std::pin::pin!(async move { Link::open_from(endpoint.as_ref(), &identity, turn).await });
        loop {
            let end = self.next_end();
            tokio::select! {
                () = sleep_until(end.unwrap_or_else(Instant::now)), if end.is_some() => self.expire(),
                link = &mut opening => return link.and_then(|link| self.is_ours(link)).map_err(Over::Lost),
                ask = self.asks.recv() => if self.take(ask) { return Err(Over::Goodbye) },
            }
        }
    }

    /// Whether the server knows this device as what it is.
    fn is_ours(&self, link: Link) -> Result<Link, ClientError> {
        match (self.kind, link.welcome.terminal.is_some()) {
            (DeviceKind::Reader, false) | (DeviceKind::Terminal, true) => Ok(link),
            (_, terminal) => {
                link.connection.close(quinn::VarInt::from_u32(close::DONE), b"");
                Err(ClientError::WrongTrade(if terminal { "a terminal" } else { "a reader" }))
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
                self.admit(frame, Request { kept: true, ..Request::default() }, Timestamp(0), reply);
            }
            Some(Ask::Recent { reply, .. }) if !self.connected => drop(reply.send(Err(ClientError::Offline))),
            Some(Ask::Recent { limit, reply }) => {
                self.next_ask += 1;
                Frame::AskRecent { ask: self.next_ask, limit }.encode(&mut self.beside);
                let lately = Lately { at: Timestamp(0), behind: 0, rows: Vec::new() };
                self.listing.insert(self.next_ask, (lately, reply));
            }
            Some(Ask::Unanswered(reply)) => {
                let of = |pending: &Pending| Unanswered::of(&pending.kept.frame, pending.was_sent, pending.kept.shown);
                let _ = reply.send(self.pending.values().filter_map(of).collect());
            }
            // Before the first welcome nobody knows which numbers were used.
            Some(Ask::Cashless { reply, .. }) if self.queue.zone.is_none() => reply.fail(ClientError::NeverConnected),
            Some(Ask::Cashless { frame, wanted, reply }) => {
                let at = self.server_time();
                let until = |patience: Duration| Timestamp(at.0.saturating_add(patience.as_millis() as i64));
                let expires_at = wanted.patience.map_or(Timestamp(0), until);
                self.admit(|seq| frame(Numbered { seq, at, expires_at }), wanted, expires_at, reply);
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
        self.admit(frame, Request { kept: true, ..Request::default() }, Timestamp(0), reply);
    }

    /// Gives a command its number, and puts it in the queue; in its file too, if it is to be kept.
    fn admit(&mut self, frame: impl Fn(u64) -> Vec<u8>, wanted: Request, expires_at: Timestamp, reply: Reply) {
        match self.number(frame, wanted, expires_at) {
            Ok(seq) => {
                self.pending.get_mut(&seq).expect("just put there").reply = Some(reply);
            }
            Err(error) => reply.fail(error),
        }
    }

    /// Gives a command its number, and keeps it. From here it will be sent.
    fn number(
        &mut self,
        frame: impl Fn(u64) -> Vec<u8>,
        wanted: Request,
        expires_at: Timestamp,
    ) -> Result<u64, ClientError> {
        if self.pending.len() >= QUEUE_MAX {
            return Err(ClientError::QueueFull);
        }
        let seq = self.next_seq;
        let give_back = wanted.or_give_back;
        let kept = Retained { frame: frame(seq), shown: None, sent: self.connected, give_back };
        let put = self.queue.reserve(seq).and_then(|()| match wanted.kept {
            true => self.queue.put(seq, &kept),
            false => Ok(()),
        });
        // The number is spent even if the disk failed: its entry may be there.
        self.next_seq += 1;
        put?;
        self.pending.insert(seq, Pending::new(kept, false));
        self.unsent.insert(seq);
        if expires_at != Timestamp(0) {
            self.ends.insert((expires_at, seq));
        }
        Ok(seq)
    }

    /// The server's, as far as this device knows.
    fn server_time(&self) -> Timestamp {
        Timestamp(now().0.saturating_add(self.queue.ahead_ms))
    }

    /// When the next command's time is over.
    fn next_end(&self) -> Option<Instant> {
        let (end, _) = self.ends.first()?;
        let left_ms = end.since_ms(self.server_time()).saturating_add(1).clamp(1, 60_000);
        Some(Instant::now() + Duration::from_millis(left_ms.unsigned_abs()))
    }

    async fn drive(&mut self, link: Link) -> Over {
        let Link { connection, mut send, mut frames, shown, welcome } = link;
        self.welcomed(&welcome);
        match (self.identity.trusts(shown, welcome.next_pin), welcome.next_pin) {
            (Ok(true), Some(next)) => Frame::Pinned(next).encode(&mut self.beside),
            (Ok(_), _) => {}
            (Err(error), _) => tracing::warn!(%error, "the identity's file does not take which keys are trusted"),
        }
        let welcome = std::sync::Arc::new(welcome);
        self.state.send_replace(State::Connected(std::sync::Arc::clone(&welcome)));
        let _ = self.events.send(Event::Connected(std::sync::Arc::clone(&welcome)));
        let mut out: Vec<u8> = Vec::new();
        let mut at = 0;
        let mut look = tokio::time::interval(ANSWER_WITHIN / 5);
        look.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        let mut silence = Silence::new(Instant::now());
        let over = loop {
            let mut heard = Ok(());
            if let Err(error) = frames.take(|frame| {
                if let Err(error) = self.receive(frame) {
                    heard = Err(error);
                }
            }) {
                break Over::Lost(error);
            }
            if let Err(error) = heard {
                break Over::Lost(error);
            }
            if self.in_flight == 0 {
                silence.broken(Instant::now());
            }
            if at == out.len() {
                out.clear();
                at = 0;
                self.fill(&mut out, usize::from(welcome.window));
                out.append(&mut self.beside);
            }
            let timers = self.later.first().map(|(at, _)| *at).into_iter().chain(self.paused_until);
            let silent_at = (self.in_flight > 0).then_some(silence.due());
            let wake = timers.chain(self.next_end()).chain(silent_at).min();
            tokio::select! {
                more = frames.fill() => match more {
                    Ok(true) => silence.broken(Instant::now()),
                    Ok(false) => break Over::Lost(ClientError::Net("the server ended the stream".into())),
                    Err(error) => break Over::Lost(error),
                },
                // A write that fails has its reason in what is read next.
                written = send.write(&out[at..]), if at < out.len() => match written {
                    Ok(written) => at += written,
                    Err(_) => at = out.len(),
                },
                ask = self.asks.recv() => if self.take(ask) { break Over::Goodbye },
                () = sleep_until(wake.unwrap_or_else(Instant::now)), if wake.is_some() => {
                    if silent_at.is_some() {
                        match silence.check(connection.stats().udp_rx.datagrams, Instant::now()) {
                            Silent::NotYet => {}
                            Silent::Ping => Frame::Ping.encode(&mut out),
                            Silent::Lost => break Over::Lost(ClientError::Timeout),
                        }
                    }
                }
                _ = look.tick() => self.ask_again_what_is_late(),
            }
        };
        self.connected = false;
        self.beside.clear();
        self.listing.clear(); // whoever waits hears that there is no connection
        let over = match over {
            Over::Goodbye => {
                let goodbye = async {
                    send.write_all(&out[at..]).await.ok()?;
                    send.write_all(&Frame::Bye.to_bytes()).await.ok()?;
                    send.finish().ok()?;
                    while frames.fill().await.ok()? {
                        let _ = frames.take(|frame| drop(self.receive(frame)));
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
        if let Err(error) = self.queue.is_ahead(welcome.server_time.since_ms(now())) {
            tracing::warn!(%error, "the queue's file does not take the server's time");
        }
        self.in_flight = 0;
        self.paused_until = None;
        self.later.clear();
        self.unsent = self.pending.keys().copied().collect();
        for pending in self.pending.values_mut() {
            pending.unsure |= std::mem::take(&mut pending.in_flight) || pending.kept.shown.is_some();
            pending.was_sent |= pending.unsure;
        }
        if self.next_seq < welcome.next_seq || (self.options.queue.is_none() && self.next_seq == 0) {
            // Numbers were used that this queue knows nothing of (it is new, or an old copy), the latest of them
            // perhaps still unanswered; none of those is above the window.
            self.next_seq = welcome.next_seq.saturating_add(WINDOW_MAX);
        }
        // Whoever is switched off now and on again without a network goes on from there, and not from 0.
        if let Err(error) = self.queue.reserve(self.next_seq.saturating_sub(1)) {
            tracing::warn!(%error, "the queue's file does not take the numbers in use");
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
        self.expire();
        self.mark_sent(window);
        let Some((&floor, _)) = self.pending.first_key_value() else { return };
        while self.paused_until.is_none() && self.in_flight < window.max(1) && out.len() < OUT_BYTES {
            let Some(&seq) = self.unsent.first() else { return };
            if seq - floor >= WINDOW_MAX {
                return;
            }
            let Some(pending) = self.pending.get_mut(&seq) else {
                self.unsent.remove(&seq);
                continue;
            };
            if !pending.kept.sent {
                return; // not written down yet
            }
            self.unsent.remove(&seq);
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
            (pending.in_flight, pending.was_sent) = (true, true);
            pending.sent_at = Some(now);
            self.in_flight += 1;
        }
    }

    /// What was put aside without a connection and may go out next is written down as sent, with one flush for all.
    fn mark_sent(&mut self, window: usize) {
        let room = window.max(1).saturating_sub(self.in_flight);
        let next = self.unsent.iter().take(room).filter(|seq| self.pending.get(seq).is_some_and(|p| !p.kept.sent));
        let next: Vec<u64> = next.copied().collect();
        if next.is_empty() {
            return;
        }
        match self.queue.sent(&next) {
            Ok(()) => {
                for seq in next {
                    if let Some(pending) = self.pending.get_mut(&seq) {
                        pending.kept.sent = true;
                    }
                }
            }
            Err(error) => {
                tracing::warn!(%error, "the queue's file does not take that commands are sent: they wait");
                self.paused_until = Some(Instant::now() + BACKOFF_MAX / 30);
            }
        }
    }
}

/// Somewhere between half and all of it, so that a thousand readers do not come back in the same instant.
fn jittered(wait: Duration) -> Duration {
    let mut random = [0; 2];
    let _ = SystemRandom::new().fill(&mut random);
    wait / 2 + (wait / 2).mul_f64(f64::from(u16::from_le_bytes(random)) / f64::from(u16::MAX))
}

/// When the time of a command is over; 0: never.
fn expires_at(frame: &[u8]) -> Timestamp {
    match decode(frame) {
        Ok(Some((Frame::Pay(pay), _))) => pay.expires_at,
        Ok(Some((Frame::TopUp(top_up), _))) => top_up.expires_at,
        _ => Timestamp(0),
    }
}

fn ends_of(pending: &BTreeMap<u64, Pending>) -> BTreeSet<(Timestamp, u64)> {
    let end =
        |(seq, pending): (&u64, &Pending)| (pending.expires_at != Timestamp(0)).then_some((pending.expires_at, *seq));
    pending.iter().filter_map(end).collect()
}

fn now() -> Timestamp {
    Timestamp(SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_millis() as i64)
}
