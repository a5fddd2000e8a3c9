//! A terminal's frames: money. Each goes to its wallet's shard; which wallet that is, the frame says by id, by a signed QR,
//! or by a wristband's tag, which is looked up once ([`super::tags`]) and from then on known.
//!
//! Which wallet a tag means, while tags move, and what a frame that was sent before is asked first, is
//! [`actors::resolve`]'s: this file asks the shards what it wants to know, and tells the terminal what it comes to.
//!
//! **Once a newer connection of the device is welcomed, nothing goes to a shard that an older one has still to resolve**
//! ([`Outbox::handing_on`]): the terminal may be told no on the newer one (`unknown_tag`, `key_retired`), and believes it.
//! What the older one has handed on by then needs no care. It lies at its wallet's shard before anything that the newer
//! one asks there; and the newer one asks every wallet that the tag has named, unless the wallet never got the tag.
//! Of a QR that is not so: if its key was retired since, it is told `key_retired` even if the older one's was paid.
//!
//! A refund may name products of its payment. What they had cost, the read models know (shards remember what a payment came
//! to, not what for): until these have the payment, the terminal is told to come again. What is wrong with the refund its
//! shard says, also that the payment does not have such a product.
//!
//! A number is bound to its question here ([`super::numbers`]), since the wallets' shards see only what comes to them.

use std::cell::RefCell;
use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Instant;

use actors::resolve::{self, Link, MovedFrames, Resolved, Step, TagResolution, Tapped, WalletRequest};
use actors::{Busy, TerminalInbox, TerminalReply, TurnedAway};
use bytes::Bytes;
use engine::cashless::command::{RefundLine, TerminalAction, TerminalAnswer, TerminalCommand};
use engine::cashless::event::SoldLine;
use engine::cashless::view::TagView;
use engine::model::credential::{KeyCache, VerifiedWallet, parse_wallet};
use engine::model::ids::{FestivalId, TagUid, TransactionId};
use engine::model::money::Money;
use engine::model::rejection::Rejection;
use engine::model::time::Timestamp;
use engine::view::{Query, View};
use futures_util::stream::{self, StreamExt as _};
use tapgate_wire::{Frame, Refund, Refusal, ReturnedItem, WalletName};
use tokio::sync::oneshot;

use super::Listener;
use super::clock::Clock;
use super::numbers::{self, Meaning, Numbers};
use super::outbox::{End, Outbox};
use super::session::{Intake, Taken};

/// Questions that one session has under way at once.
const ASKED_AT_ONCE: usize = 64;
/// When to send a frame again whose tag moved.
const COME_AGAIN_MS: u32 = 10;

pub(super) struct Terminal {
    inbox: Arc<dyn TerminalInbox>,
    replies: Arc<Replies>,
    keys: KeyCache,
    numbers: Arc<Mutex<Numbers>>,
    /// Numbers below may have been answered on another connection, whether the frame says that it was sent before or not.
    answered_below: u64,
    clock: Clock,
}

/// Frames of one read of which some need something to be asked first.
pub(super) struct Asks {
    /// Those that need nothing, in the order of the stream.
    commands: Vec<TerminalCommand>,
    /// Those that do, each with how many of the commands come before it.
    open: Vec<(usize, Open)>,
}

/// A frame of which something has to be asked.
struct Open {
    seq: u64,
    floor: u64,
    expires_at: Timestamp,
    ask: Ask,
}

enum Ask {
    /// Which wallet does this tag name?
    Tag(Tapped, WalletRequest),
    /// Is its key still accepted?
    Key(VerifiedWallet, WalletRequest),
    /// What had these products of a payment cost?
    Lines(TransactionId, Option<Money>, Box<[ReturnedItem]>),
}

/// What a frame comes to, as far as that can be said at once.
enum Addressed {
    To(TerminalAction),
    Ask(Ask),
    No(Rejection),
}

/// What became of an [`Ask`].
enum AskOutcome {
    To(TerminalAction),
    Candidates(TagResolution, WalletRequest),
    No(Rejection),
    /// Its shard does not say now.
    Busy(Rejection),
}

thread_local! {
    /// What has arrived while it is taken apart: at most 46 KiB, kept by the thread.
    static BYTES: RefCell<Vec<u8>> = RefCell::default();
}

impl Terminal {
    pub(super) fn new(outbox: &Arc<Outbox>, numbers: Arc<Mutex<Numbers>>, answered_below: u64) -> Self {
        let replies = Arc::new(Replies { outbox: Arc::clone(outbox), moved: Mutex::default() });
        let (clock, keys) = (Clock::new(Instant::now()), KeyCache::default());
        Self { inbox: Arc::<Replies>::clone(&replies), replies, keys, numbers, answered_below, clock }
    }

    /// All whole frames that have arrived: handed to the shards if it is known where they go, else given back for
    /// [`Self::look_up`], all of them, so that they keep their order. Says so when there is nothing more to come.
    pub(super) fn take_in(&mut self, intake: &mut Intake, chunks: &mut [Bytes]) -> (Option<End>, Option<Box<Asks>>) {
        BYTES.with_borrow_mut(|bytes| self.take_batch(intake, chunks, bytes))
    }

    fn take_batch(
        &mut self,
        intake: &mut Intake,
        chunks: &mut [Bytes],
        bytes: &mut Vec<u8>,
    ) -> (Option<End>, Option<Box<Asks>>) {
        let read_at = Instant::now();
        intake.gather(chunks, bytes, read_at);
        let mut commands = Vec::new();
        let (mut open, mut told, mut refused, mut away) = (Vec::new(), Vec::new(), Vec::new(), Vec::new());
        let room = intake.listener.node.room_for_terminals();
        let mut rest = &bytes[..];
        let numbers = Arc::clone(&self.numbers);
        let mut numbers = numbers::lock(&numbers);
        let end = loop {
            let before = rest;
            let frame = match intake.next(&mut rest) {
                Ok(Some(Taken::Frame(frame))) => frame,
                Ok(Some(Taken::Unusable(command))) if !intake.may() => {
                    refused.push(command.seq);
                    continue;
                }
                Ok(Some(Taken::Unusable(command))) => {
                    told.push(no(&intake.listener, command.seq, command.rejection));
                    continue;
                }
                Ok(None) => break None,
                Err(end) => break Some(end),
            };
            const NEVER: Timestamp = Timestamp(0);
            let (seq, floor, name, resent, expires_at) = match &frame {
                Frame::Pay(p) => (p.seq, p.floor, Some((&p.wallet, p.captured_at)), p.resent, p.expires_at),
                Frame::Refund(r) => (r.seq, r.floor, None, r.resent, NEVER),
                Frame::TopUp(t) => (t.seq, t.floor, Some((&t.wallet, t.captured_at)), t.resent, t.expires_at),
                Frame::Balance(b) => (b.seq, b.floor, Some((&b.wallet, b.captured_at)), b.resent, NEVER),
                &Frame::AskRecent { ask, limit } => {
                    let asked = intake.may()
                        && intake.listener.recents.answer(
                            &intake.listener,
                            &intake.outbox,
                            intake.device,
                            (ask, limit),
                        );
                    if !asked {
                        refused.push(ask);
                    }
                    continue;
                }
                Frame::Ping => continue, // QUIC has acknowledged it
                &Frame::Pinned(pin) => {
                    intake.pinned(pin);
                    continue;
                }
                Frame::Bye => break Some(End::BYE),
                _ => break Some(End::refused(Refusal::OutOfPlace)),
            };
            // The cheap checks come first: what is refused at the door costs no signature and no question.
            if !intake.may() {
                refused.push(seq);
                continue;
            }
            if commands.len() + open.len() >= room {
                away.push(seq);
                continue;
            }
            let is_seen = match meaning(&intake.listener, &mut numbers, &frame, &before[..before.len() - rest.len()]) {
                Ok(is_seen) => is_seen,
                Err(rejection) => {
                    told.push(no(&intake.listener, seq, rejection));
                    continue;
                }
            };
            let addressed = match (name, &frame) {
                (None, Frame::Refund(refund)) => refund_of(refund),
                (Some((name, captured_at)), frame) => {
                    let Some(request) = request(frame) else { continue };
                    let resent = resent || is_seen || seq < self.answered_below;
                    self.clock.observe(&intake.listener, intake.device, captured_at, resent, read_at);
                    self.address(&intake.listener, (seq, request), name, (captured_at, resent), read_at)
                }
                _ => continue,
            };
            let action = match addressed {
                Addressed::To(action) => action,
                Addressed::Ask(ask) => {
                    open.push((commands.len(), Open { seq, floor, expires_at, ask }));
                    continue;
                }
                Addressed::No(rejection) => {
                    told.push(no(&intake.listener, seq, rejection));
                    continue;
                }
            };
            if commands.is_empty() {
                commands.reserve(1 + rest.len() / 49);
            }
            // Who asks is proven by the connection; no frame can name another device.
            commands.push(TerminalCommand { device: intake.device, seq, floor, expires_at, action });
        };
        drop(numbers);
        let taken = commands.len() + open.len() + told.len();
        intake.listener.metrics.frames.increment((taken + refused.len() + away.len()) as u64);
        if taken > 0 {
            // Before the shards have them: their answers may be faster than we are.
            intake.outbox.submitted(taken, read_at);
        }
        if !told.is_empty() {
            intake.outbox.cashless_answered(&told, &[], 0);
        }
        if !refused.is_empty() {
            intake.slow_down(&refused);
        }
        if !away.is_empty() {
            intake.outbox.busy(&away, Busy::of(Rejection::Busy));
        }
        if open.is_empty() {
            self.submit(intake, commands);
            return (end, None);
        }
        (end, Some(Box::new(Asks { commands, open })))
    }

    fn address(
        &mut self,
        listener: &Listener,
        (seq, request): (u64, WalletRequest),
        name: &WalletName<'_>,
        (captured_at, resent): (Timestamp, bool),
        now: Instant,
    ) -> Addressed {
        let verified = match name {
            WalletName::Id(wallet) => return Addressed::To(request.to(*wallet, None)),
            WalletName::Tag(tag) => {
                let tapped = Tapped { tag: *tag, captured_at, resent };
                let by_link = |link| tapped.by_link(&link, self.replies.moved().contains(seq));
                return match listener.tags.get(tag).and_then(by_link) {
                    Some(Ok((wallet, tap))) => Addressed::To(request.to(wallet, Some(tap))),
                    Some(Err(rejection)) => Addressed::No(rejection),
                    None => Addressed::Ask(Ask::Tag(tapped, request)),
                };
            }
            WalletName::Packed(claim) => self.keys.verify_wallet(&listener.secret, claim),
            WalletName::Raw(qr) => parse_wallet(qr).and_then(|claim| self.keys.verify_wallet(&listener.secret, &claim)),
        };
        match verified {
            Err(rejection) => Addressed::No(rejection),
            Ok(verified) => match listener.tags.key(verified.festival(), now) {
                None => Addressed::Ask(Ask::Key(verified, request)),
                Some(current) => match check_key(current, verified.version()) {
                    Ok(()) => Addressed::To(request.to(verified.id(), None)),
                    Err(rejection) => Addressed::No(rejection),
                },
            },
        }
    }

    fn submit(&self, intake: &Intake, commands: Vec<TerminalCommand>) {
        if commands.is_empty() {
            return;
        }
        let handed_on = {
            let Some(_handing_on) = intake.outbox.handing_on() else { return };
            intake.listener.node.submit_terminal(commands, &self.inbox)
        };
        for TurnedAway { seqs, busy } in handed_on.err().unwrap_or_default() {
            intake.outbox.turned_away(&seqs, busy);
        }
    }

    /// Asks what has to be asked, then hands on what [`Self::take_in`] could not. Nothing more is read meanwhile.
    pub(super) async fn look_up(&self, intake: &Intake, asks: Asks) {
        let Asks { commands, open } = asks;
        let listener = &intake.listener;
        let views = views(listener, &open).await;
        if intake.outbox.ended().is_some() {
            return; // a newer connection may be sending all this again
        }
        let mut commands = commands.into_iter();
        let mut known = Vec::with_capacity(commands.len() + open.len());
        let (mut resolutions, mut told, mut busy) = (Vec::new(), Vec::new(), Vec::new());
        let mut before = 0;
        for (at, Open { seq, floor, expires_at, ask }) in open {
            known.extend(commands.by_ref().take(at - before));
            before = at;
            let command = |action| TerminalCommand { device: intake.device, seq, floor, expires_at, action };
            match found(listener, ask, &views) {
                AskOutcome::To(action) => known.push(command(action)),
                AskOutcome::Candidates(resolution, request) => {
                    resolutions.push(ask_candidates(intake, (seq, floor, expires_at), resolution, request));
                }
                AskOutcome::No(rejection) => told.push(no(listener, seq, rejection)),
                AskOutcome::Busy(rejection) => busy.push((seq, Busy::of(rejection))),
            }
        }
        known.extend(commands);
        if !told.is_empty() {
            intake.outbox.cashless_answered(&told, &[], 0);
        }
        let mut ended = stream::iter(resolutions).buffered(ASKED_AT_ONCE);
        while let Some(ended) = ended.next().await {
            match ended {
                Ok((reply, false)) => self.inbox.answered(&[reply]),
                Ok((reply, true)) => intake.outbox.cashless_answered(&[reply], &[], 0),
                Err(turned_away) => busy.push(turned_away),
            }
        }
        for (seq, busy) in busy {
            intake.outbox.turned_away(&[seq], busy);
        }
        self.submit(intake, known);
    }
}

/// Whether this very command was seen before, on whichever connection. A balance moves nothing, so nothing is bound to it;
/// number 0 is refused by every shard.
fn meaning(listener: &Listener, numbers: &mut Numbers, frame: &Frame<'_>, bytes: &[u8]) -> Result<bool, Rejection> {
    let (seq, floor, has_times) = match frame {
        Frame::Pay(pay) => (pay.seq, pay.floor, true),
        Frame::TopUp(top_up) => (top_up.seq, top_up.floor, true),
        Frame::Refund(refund) => (refund.seq, refund.floor, false),
        _ => return Ok(false),
    };
    if seq == 0 {
        return Ok(false);
    }
    match numbers.bind(seq, floor, listener.numbers.question(bytes, has_times)) {
        Meaning::New => Ok(false),
        Meaning::Again => Ok(true),
        Meaning::Another => Err(Rejection::IdempotencyConflict),
        Meaning::Stale => Err(Rejection::StaleSeq),
        Meaning::TooFar => Err(Rejection::WindowFull),
    }
}

/// An answer that is given here.
fn no(listener: &Listener, seq: u64, rejection: Rejection) -> TerminalReply {
    TerminalReply { seq, answer: TerminalAnswer::rejected_without_wallet(rejection, listener.node.now()) }
}

fn request(frame: &Frame<'_>) -> Option<WalletRequest> {
    Some(match frame {
        Frame::Pay(pay) => {
            WalletRequest::Pay { amount: pay.amount, lines: pay.lines.iter().map(|line| line.line()).collect() }
        }
        Frame::TopUp(top_up) => WalletRequest::TopUp { amount: top_up.amount },
        Frame::Balance(_) => WalletRequest::Balance,
        _ => return None,
    })
}

/// A refund goes to where the payment was.
fn refund_of(refund: &Refund<'_>) -> Addressed {
    let Refund { payment, amount, .. } = *refund;
    if refund.lines.is_empty() {
        return Addressed::To(TerminalAction::Refund { payment, amount, lines: Box::default() });
    }
    Addressed::Ask(Ask::Lines(payment, amount, refund.lines.into()))
}

/// As for tickets: the current key and the one before are accepted.
fn check_key(current: u32, version: u32) -> Result<(), Rejection> {
    if version == 0 || version > current {
        return Err(Rejection::TamperedQr); // whoever signed with a key that there never was, it was not us
    }
    if version + 1 < current { Err(Rejection::KeyRetired) } else { Ok(()) }
}

/// What the homes say, each asked once.
#[derive(Default)]
struct Views {
    tags: HashMap<TagUid, Result<TagView, Rejection>>,
    keys: HashMap<FestivalId, Result<u32, Rejection>>,
    payments: HashMap<TransactionId, Result<Vec<SoldLine>, Rejection>>,
}

async fn views(listener: &Listener, open: &[(usize, Open)]) -> Views {
    let (mut tags, mut festivals, mut payments) = (Vec::new(), Vec::new(), Vec::new());
    for (_, Open { ask, .. }) in open {
        match ask {
            Ask::Tag(tapped, _) => tags.push(tapped.tag),
            Ask::Key(verified, _) => festivals.push(verified.festival()),
            Ask::Lines(payment, ..) if !payments.contains(payment) => payments.push(*payment),
            Ask::Lines(..) => {}
        }
    }
    tags.sort_unstable();
    tags.dedup();
    festivals.sort_unstable();
    festivals.dedup();
    let tag = async |tag| {
        let view = match listener.node.query(Query::Tag(tag)).await {
            View::Tag(view) => Ok(view),
            View::No(rejection) => Err(rejection),
            _ => Err(Rejection::Internal),
        };
        (tag, view)
    };
    let key = async |festival| {
        let version = match listener.node.query(Query::About(festival)).await {
            View::About(view) => Ok(view.qr_version),
            View::No(rejection) => Err(rejection),
            _ => Err(Rejection::Internal),
        };
        (festival, version)
    };
    let payment = async |payment| (payment, listener.recents.sold(listener, payment).await);
    Views {
        tags: stream::iter(tags).map(tag).buffer_unordered(ASKED_AT_ONCE).collect().await,
        keys: stream::iter(festivals).map(key).buffer_unordered(ASKED_AT_ONCE).collect().await,
        payments: stream::iter(payments).map(payment).buffer_unordered(ASKED_AT_ONCE).collect().await,
    }
}

/// What an answer to an [`Ask`] means, and learns it.
fn found(listener: &Listener, ask: Ask, views: &Views) -> AskOutcome {
    match ask {
        Ask::Key(verified, request) => {
            let festival = verified.festival();
            match views.keys.get(&festival).copied().unwrap_or(Err(Rejection::Internal)) {
                Ok(current) => {
                    listener.tags.put_key(festival, current, Instant::now());
                    match check_key(current, verified.version()) {
                        Ok(()) => AskOutcome::To(request.to(verified.id(), None)),
                        Err(rejection) => AskOutcome::No(rejection),
                    }
                }
                // Its signature held, so we have known it once.
                Err(Rejection::UnknownFestival) => AskOutcome::No(Rejection::TamperedQr),
                Err(rejection) => AskOutcome::Busy(rejection),
            }
        }
        Ask::Lines(payment, amount, items) => match views.payments.get(&payment) {
            Some(Ok(sold)) => {
                let line = |item: &ReturnedItem| {
                    let (product, count) = (item.product(), item.count());
                    RefundLine::of(sold, product, count).unwrap_or_else(|| RefundLine::of_nothing(product, count))
                };
                AskOutcome::To(TerminalAction::Refund { payment, amount, lines: items.iter().map(line).collect() })
            }
            Some(Err(rejection)) => AskOutcome::Busy(*rejection),
            None => AskOutcome::Busy(Rejection::Internal),
        },
        Ask::Tag(tapped, request) => match views.tags.get(&tapped.tag) {
            Some(Ok(view)) => {
                listener.tags.put(tapped.tag, Link::of(view).ok());
                match tapped.by_view(view) {
                    Resolved::Wallet(wallet, tap) => AskOutcome::To(request.to(wallet, Some(tap))),
                    Resolved::Candidates(resolution) => AskOutcome::Candidates(resolution, request),
                    Resolved::Rejected(rejection) => AskOutcome::No(rejection),
                }
            }
            Some(Err(Rejection::UnknownTag)) => AskOutcome::No(Rejection::UnknownTag),
            Some(Err(rejection)) => AskOutcome::Busy(*rejection),
            None => AskOutcome::Busy(Rejection::Internal),
        },
    }
}

/// Asks one wallet after the other. The answer, and whether it is final whatever it says.
async fn ask_candidates(
    intake: &Intake,
    (seq, floor, expires_at): (u64, u64, Timestamp),
    mut resolution: TagResolution,
    request: WalletRequest,
) -> Result<(TerminalReply, bool), (u64, Busy)> {
    let mut step = resolution.begin();
    loop {
        let (wallet, tap) = match step {
            Step::Ask(wallet, tap) => (wallet, tap),
            Step::Answered(answer) => return Ok((TerminalReply { seq, answer }, true)),
            Step::Rejected(rejection) => return Ok((no(&intake.listener, seq, rejection), true)),
            Step::Moved => return Ok((no(&intake.listener, seq, Rejection::TagMoved), false)),
        };
        let action = request.clone().to(wallet, Some(tap));
        let command = TerminalCommand { device: intake.device, seq, floor, expires_at, action };
        step = resolution.answered(ask(intake, command).await.map_err(|busy| (seq, busy))?);
    }
}

/// One command, and its answer.
async fn ask(intake: &Intake, command: TerminalCommand) -> Result<TerminalAnswer, Busy> {
    let unavailable = Busy::of(Rejection::Unavailable);
    let (answered, answer) = oneshot::channel();
    {
        let Some(_handing_on) = intake.outbox.handing_on() else { return Err(unavailable) };
        let inbox: Arc<dyn TerminalInbox> = Arc::new(One(Mutex::new(Some(answered))));
        let handed_on = intake.listener.node.submit_terminal(vec![command], &inbox);
        handed_on.map_err(|away| away.first().map_or(unavailable, |away| away.busy))?;
    }
    answer.await.unwrap_or(Err(Busy::of(Rejection::InDoubt)))
}

struct One(Mutex<Option<oneshot::Sender<Result<TerminalAnswer, Busy>>>>);

impl One {
    fn reply(&self, answer: Result<TerminalAnswer, Busy>) {
        let waiting = self.0.lock().unwrap_or_else(PoisonError::into_inner).take();
        let _ = waiting.map(|waiting| waiting.send(answer));
    }
}

impl TerminalInbox for One {
    fn answered(&self, replies: &[TerminalReply]) {
        if let Some(reply) = replies.first() {
            self.reply(Ok(reply.answer));
        }
    }
    fn turned_away(&self, _: &[u64], busy: Busy) {
        self.reply(Err(busy));
    }
}

/// Where the shards put a terminal's answers.
struct Replies {
    outbox: Arc<Outbox>,
    moved: Mutex<MovedFrames>, // nearly always empty
}

impl Replies {
    /// Frames that were to be sent again because their tag had moved.
    fn moved(&self) -> MutexGuard<'_, MovedFrames> {
        self.moved.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl TerminalInbox for Replies {
    fn answered(&self, replies: &[TerminalReply]) {
        let mut moved = replies.iter().filter(|reply| resolve::is_moved(&reply.answer)).peekable();
        let again = match moved.peek() {
            None => Vec::new(),
            Some(_) => {
                let mut frames = self.moved();
                moved.map(|reply| reply.seq).filter(|seq| frames.is_to_come_again(*seq)).collect()
            }
        };
        self.outbox.cashless_answered(replies, &again, COME_AGAIN_MS);
    }
    fn turned_away(&self, seqs: &[u64], busy: Busy) {
        self.outbox.put_off(seqs, busy);
    }
}
