//! A terminal's frames: money. Each goes to its wallet's shard; which wallet that is, the frame says by id, by a signed QR,
//! or by a chip, which is looked up once ([`super::tags`]) and from then on known.
//!
//! Chips move. The link's version travels with the command, and a wallet that was linked anew since says `tag_moved` and
//! has done nothing: the device is told to send the frame again (Busy), and this time the chip is looked up. A second
//! `tag_moved` to the same frame stands. A link that is younger than the tap is not what was tapped: that is `tag_moved`
//! too, at once and for good, for the link's moment and the tap's never change. A frame that was sent before, on another connection, may have been decided by a
//! wallet which the chip named then: those are asked first, oldest first ([`Chase`]); whichever has decided it answers
//! again.
//!
//! What is refused here (a chip that names nothing, a forged QR) has no record: the shards do not know that number, and the
//! same frame is looked at anew if it comes again. A terminal sends again only what it has no answer to, so nobody has
//! acted on the first one.
//!
//! **Once a newer connection of the device is welcomed, nothing goes to a shard that an older one has still to resolve**
//! ([`Outbox::handing_on`]): the terminal may be told no on the newer one (`unknown_tag`, `key_retired`), and believes it.
//! What the older one has handed on by then needs no care. It lies at its wallet's shard before anything that the newer
//! one asks there; and the newer one asks every wallet that the chip has named, unless the wallet never got the chip.
//! Of a QR that is not so: if its key was retired since, it is told `key_retired` even if the older one's was paid.
//!
//! A chip remembers eight wallets ([`engine::cash::tag::EARLIER_MAX`]), however often it has moved between them. If it has
//! named more since the tap, a frame that was sent before may have been decided by one that is forgotten; if nobody else
//! knows it, it is not decided anew but told `outcome_unknown` ([`TagView::has_forgotten`]).
//!
//! A refund may name products of its payment. What they had cost, the read models know (shards remember what a payment came
//! to, not what for): until these have the payment, the terminal is told to come again. What is wrong with the refund its
//! shard says, also that the payment does not have such a product.
//!
//! A number is bound to its question here ([`super::numbers`]), since the wallets' shards see only what comes to them.

use std::cell::RefCell;
use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Instant;

use actors::{Busy, TerminalInbox, TerminalReply, TurnedAway};
use bytes::Bytes;
use engine::command::{CashVerdict, RefundLine, Tap, TerminalAction, TerminalAnswer, TerminalCommand};
use engine::credential::{KeyCache, VerifiedWallet, parse_wallet};
use engine::event::SoldLine;
use engine::ids::{FestivalId, TagUid, TransactionId, WalletId};
use engine::rejection::Rejection;
use engine::time::Timestamp;
use engine::view::{Query, TagState, TagView, View, is_younger_than_tap};
use futures_util::stream::{self, StreamExt as _};
use tapgate_wire::{Frame, Refusal, ReturnedItem, WalletName};
use tokio::sync::oneshot;

use super::Door;
use super::clock::Clock;
use super::numbers::{self, Meaning, Numbers};
use super::outbox::{End, Outbox};
use super::session::{Intake, Taken};
use super::tags::Link;

/// Questions that one session has under way at once.
const ASKED_AT_ONCE: usize = 64;
/// Frames that may be sent again because their chip moved; an older one that is, counts as new.
const MOVED_MAX: usize = 64;
/// When to send a frame again whose chip moved.
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

/// Frames of one read of which some name a wallet that has to be asked for.
pub(super) struct Asks {
    /// In the order of the stream.
    commands: Vec<TerminalCommand>,
    /// What is to be asked for which of them, in the same order.
    open: Vec<(usize, Ask)>,
}

/// Why a command cannot go yet.
enum Ask {
    /// Which wallet does this chip name?
    Tag(Tapped),
    /// Is its key still accepted?
    Key(VerifiedWallet),
    /// What had these products of a payment cost?
    Lines(TransactionId, Box<[ReturnedItem]>),
}

/// A chip that was held to the terminal.
#[derive(Clone, Copy)]
struct Tapped {
    tag: TagUid,
    /// When, as the frame says.
    captured_at: Timestamp,
    /// The frame was sent before.
    resent: bool,
}

/// What names the wallet, as far as that can be said at once.
enum Named {
    Wallet(WalletId, Option<Tap>),
    Ask(Ask),
    No(Rejection),
}

/// What became of an [`Ask`].
enum Found {
    Wallet(WalletId, Option<Tap>),
    Chase(Chase),
    Lines(Box<[RefundLine]>),
    No(Rejection),
    /// Its shard does not say now.
    Busy(Rejection),
}

/// Wallets to be asked one after the other, until one does not say `tag_moved`.
struct Chase {
    tag: TagUid,
    hops: Vec<(WalletId, u32)>,
    /// What it comes to if they all do.
    otherwise: Rejection,
    /// Whether that is final, even if it is `tag_moved`: none of them is what the chip names now.
    is_final: bool,
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
        let moved = self.replies.moved();
        let mut commands = Vec::new();
        let (mut open, mut told, mut refused) = (Vec::new(), Vec::new(), Vec::new());
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
                    told.push(no(&intake.door, command.seq, command.rejection));
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
                        && intake.door.recents.answer(&intake.door, &intake.outbox, intake.device, (ask, limit));
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
            let is_seen = match meaning(&intake.door, &mut numbers, &frame, &before[..before.len() - rest.len()]) {
                Ok(is_seen) => is_seen,
                Err(rejection) => {
                    told.push(no(&intake.door, seq, rejection));
                    continue;
                }
            };
            let named = match name {
                None => match &frame {
                    Frame::Refund(refund) if !refund.lines.is_empty() => {
                        Named::Ask(Ask::Lines(refund.payment, refund.lines.into()))
                    }
                    _ => Named::Wallet(NOBODY, None),
                },
                Some((name, captured_at)) => {
                    let resent = resent || is_seen || seq < self.answered_below;
                    self.clock.look(&intake.door, intake.device, captured_at, resent, read_at);
                    self.name(&intake.door, name, (captured_at, resent), moved.contains(&seq), read_at)
                }
            };
            let (wallet, tap) = match named {
                Named::Wallet(wallet, tap) => (wallet, tap),
                Named::Ask(ask) => {
                    open.push((commands.len(), ask));
                    (NOBODY, None)
                }
                Named::No(rejection) => {
                    told.push(no(&intake.door, seq, rejection));
                    continue;
                }
            };
            let Some(action) = action(&frame, wallet, tap) else { continue };
            if commands.is_empty() {
                commands.reserve(1 + rest.len() / 49);
            }
            // Who asks is proven by the connection; no frame can name another device.
            commands.push(TerminalCommand { device: intake.device, seq, floor, expires_at, action });
        };
        drop(numbers);
        let taken = commands.len() + told.len();
        intake.door.figures.frames.increment((taken + refused.len()) as u64);
        if taken > 0 {
            // Before the shards have them: their answers may be faster than we are.
            intake.outbox.submitted(taken, read_at);
        }
        if !told.is_empty() {
            intake.outbox.cash_answered(&told, &[], 0);
        }
        if !refused.is_empty() {
            intake.slow_down(&refused);
        }
        if open.is_empty() {
            self.submit(intake, commands);
            return (end, None);
        }
        (end, Some(Box::new(Asks { commands, open })))
    }

    /// `afresh`: what is known of its chip was found to be old.
    fn name(
        &mut self,
        door: &Door,
        name: &WalletName<'_>,
        (captured_at, resent): (Timestamp, bool),
        afresh: bool,
        now: Instant,
    ) -> Named {
        let verified = match name {
            WalletName::Id(wallet) => return Named::Wallet(*wallet, None),
            WalletName::Tag(tag) => {
                return match door.tags.get(tag) {
                    Some(link) if !(afresh || resent && link.had_others) => {
                        match is_younger_than_tap(link.linked_at, captured_at) {
                            true => Named::No(Rejection::TagMoved), // and so is each link that came after it
                            false => Named::Wallet(link.wallet, Some(Tap { tag: *tag, version: link.version })),
                        }
                    }
                    _ => Named::Ask(Ask::Tag(Tapped { tag: *tag, captured_at, resent })),
                };
            }
            WalletName::Packed(claim) => self.keys.verify_wallet(&door.secret, claim),
            WalletName::Raw(qr) => parse_wallet(qr).and_then(|claim| self.keys.verify_wallet(&door.secret, &claim)),
        };
        match verified {
            Err(rejection) => Named::No(rejection),
            Ok(verified) => match door.tags.key(verified.festival(), now) {
                None => Named::Ask(Ask::Key(verified)),
                Some(current) => match check_key(current, verified.version()) {
                    Ok(()) => Named::Wallet(verified.id(), None),
                    Err(rejection) => Named::No(rejection),
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
            intake.door.node.submit_terminal(commands, &self.inbox)
        };
        for TurnedAway { seqs, busy } in handed_on.err().unwrap_or_default() {
            intake.outbox.turned_away(&seqs, busy);
        }
    }

    /// Asks what has to be asked, then hands on what [`Self::take_in`] could not. Nothing more is read meanwhile.
    pub(super) async fn look_up(&self, intake: &Intake, asks: Asks) {
        let Asks { commands, open } = asks;
        let door = &intake.door;
        let views = views(door, &open).await;
        if intake.outbox.ended().is_some() {
            return; // a newer connection may be sending all this again
        }
        let mut open = open.into_iter().peekable();
        let (mut known, mut chases, mut told, mut busy) = (Vec::new(), Vec::new(), Vec::new(), Vec::new());
        known.reserve(commands.len());
        for (index, mut command) in commands.into_iter().enumerate() {
            let Some((_, ask)) = open.next_if(|(at, _)| *at == index) else {
                known.push(command);
                continue;
            };
            match found(door, &ask, &views) {
                Found::Wallet(wallet, tap) => {
                    aim(&mut command.action, wallet, tap);
                    known.push(command);
                }
                Found::Chase(chase) => chases.push((command, chase)),
                Found::Lines(found) => {
                    if let TerminalAction::Refund { lines, .. } = &mut command.action {
                        *lines = found;
                    }
                    known.push(command);
                }
                Found::No(rejection) => told.push(no(door, command.seq, rejection)),
                Found::Busy(rejection) => busy.push((command.seq, Busy::of(rejection))),
            }
        }
        if !told.is_empty() {
            intake.outbox.cash_answered(&told, &[], 0);
        }
        let mut ended = stream::iter(chases).map(|(command, chase)| chase.run(intake, command)).buffered(ASKED_AT_ONCE);
        while let Some(ended) = ended.next().await {
            match ended {
                Ok((reply, false)) => self.inbox.answered(&[reply]),
                Ok((reply, true)) => intake.outbox.cash_answered(&[reply], &[], 0),
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
fn meaning(door: &Door, numbers: &mut Numbers, frame: &Frame<'_>, bytes: &[u8]) -> Result<bool, Rejection> {
    let (seq, floor, has_times) = match frame {
        Frame::Pay(pay) => (pay.seq, pay.floor, true),
        Frame::TopUp(top_up) => (top_up.seq, top_up.floor, true),
        Frame::Refund(refund) => (refund.seq, refund.floor, false),
        _ => return Ok(false),
    };
    if seq == 0 {
        return Ok(false);
    }
    match numbers.bind(seq, floor, door.numbers.question(bytes, has_times)) {
        Meaning::New => Ok(false),
        Meaning::Again => Ok(true),
        Meaning::Another => Err(Rejection::IdempotencyConflict),
        Meaning::Stale => Err(Rejection::StaleSeq),
        Meaning::TooFar => Err(Rejection::WindowFull),
    }
}

/// Stands where the wallet is not known yet.
const NOBODY: WalletId = WalletId(0);

/// An answer that is given here.
fn no(door: &Door, seq: u64, rejection: Rejection) -> TerminalReply {
    TerminalReply { seq, answer: TerminalAnswer::rejected(rejection, NOBODY, door.node.now()) }
}

fn action(frame: &Frame<'_>, wallet: WalletId, tap: Option<Tap>) -> Option<TerminalAction> {
    Some(match frame {
        Frame::Pay(pay) => {
            let lines = pay.lines.iter().map(|line| line.line()).collect();
            TerminalAction::Pay { wallet, tap, amount: pay.amount, lines }
        }
        Frame::Refund(refund) => {
            TerminalAction::Refund { payment: refund.payment, amount: refund.amount, lines: Box::default() }
        }
        Frame::TopUp(top_up) => TerminalAction::TopUp { wallet, tap, amount: top_up.amount },
        Frame::Balance(_) => TerminalAction::Balance { wallet, tap },
        _ => return None,
    })
}

/// Names the wallet after all.
fn aim(action: &mut TerminalAction, to: WalletId, by: Option<Tap>) {
    match action {
        TerminalAction::Pay { wallet, tap, .. }
        | TerminalAction::TopUp { wallet, tap, .. }
        | TerminalAction::Balance { wallet, tap } => (*wallet, *tap) = (to, by),
        TerminalAction::Refund { .. } => {}
    }
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

async fn views(door: &Door, open: &[(usize, Ask)]) -> Views {
    let (mut tags, mut festivals, mut payments) = (Vec::new(), Vec::new(), Vec::new());
    for (_, ask) in open {
        match ask {
            Ask::Tag(tapped) => tags.push(tapped.tag),
            Ask::Key(verified) => festivals.push(verified.festival()),
            Ask::Lines(payment, _) if !payments.contains(payment) => payments.push(*payment),
            Ask::Lines(..) => {}
        }
    }
    tags.sort_unstable();
    tags.dedup();
    festivals.sort_unstable();
    festivals.dedup();
    let tag = async |tag| {
        let view = match door.node.query(Query::Tag(tag)).await {
            View::Tag(view) => Ok(view),
            View::No(rejection) => Err(rejection),
            _ => Err(Rejection::Internal),
        };
        (tag, view)
    };
    let key = async |festival| {
        let version = match door.node.query(Query::About(festival)).await {
            View::About(view) => Ok(view.qr_version),
            View::No(rejection) => Err(rejection),
            _ => Err(Rejection::Internal),
        };
        (festival, version)
    };
    let payment = async |payment| (payment, door.recents.sold(door, payment).await);
    Views {
        tags: stream::iter(tags).map(tag).buffer_unordered(ASKED_AT_ONCE).collect().await,
        keys: stream::iter(festivals).map(key).buffer_unordered(ASKED_AT_ONCE).collect().await,
        payments: stream::iter(payments).map(payment).buffer_unordered(ASKED_AT_ONCE).collect().await,
    }
}

/// What an answer to an [`Ask`] means, and learns it.
fn found(door: &Door, ask: &Ask, views: &Views) -> Found {
    match ask {
        Ask::Key(verified) => {
            let festival = verified.festival();
            match views.keys.get(&festival).copied().unwrap_or(Err(Rejection::Internal)) {
                Ok(current) => {
                    door.tags.put_key(festival, current, Instant::now());
                    match check_key(current, verified.version()) {
                        Ok(()) => Found::Wallet(verified.id(), None),
                        Err(rejection) => Found::No(rejection),
                    }
                }
                // Its signature held, so we have known it once.
                Err(Rejection::UnknownFestival) => Found::No(Rejection::TamperedQr),
                Err(rejection) => Found::Busy(rejection),
            }
        }
        Ask::Lines(payment, items) => match views.payments.get(payment) {
            Some(Ok(sold)) => {
                let line = |item: &ReturnedItem| {
                    let (product, count) = (item.product(), item.count());
                    RefundLine::of(sold, product, count).unwrap_or_else(|| RefundLine::of_nothing(product, count))
                };
                Found::Lines(items.iter().map(line).collect())
            }
            Some(Err(rejection)) => Found::Busy(*rejection),
            None => Found::Busy(Rejection::Internal),
        },
        Ask::Tag(tapped) => match views.tags.get(&tapped.tag) {
            Some(Ok(view)) => {
                let link = match (view.state, view.wallet) {
                    (TagState::Linked, Some(wallet)) => {
                        let had_others = !view.earlier.is_empty();
                        Some(Link { wallet, version: view.version, linked_at: view.linked_at, had_others })
                    }
                    _ => None,
                };
                door.tags.put(tapped.tag, link);
                named_by(view, tapped)
            }
            Some(Err(Rejection::UnknownTag)) => Found::No(Rejection::UnknownTag),
            Some(Err(rejection)) => Found::Busy(*rejection),
            None => Found::Busy(Rejection::Internal),
        },
    }
}

/// Where a frame goes that names this chip.
fn named_by(view: &TagView, tapped: &Tapped) -> Found {
    let (tag, version) = (view.tag, view.version);
    let mut hops = if tapped.resent { view.earlier.clone() } else { Vec::new() };
    let forgotten = tapped.resent && view.has_forgotten(tapped.captured_at);
    let unknown_or = |otherwise| if forgotten { Rejection::OutcomeUnknown } else { otherwise };
    match (view.state, view.wallet) {
        (TagState::Linked | TagState::Linking, Some(_)) if is_younger_than_tap(view.linked_at, tapped.captured_at) => {
            Found::Chase(Chase { tag, hops, otherwise: unknown_or(Rejection::TagMoved), is_final: true })
        }
        (TagState::Linked | TagState::Linking, Some(wallet)) if hops.is_empty() => {
            Found::Wallet(wallet, Some(Tap { tag, version }))
        }
        (TagState::Linked | TagState::Linking, Some(wallet)) => {
            hops.push((wallet, if forgotten { NO_VERSION } else { version }));
            Found::Chase(Chase { tag, hops, otherwise: unknown_or(Rejection::TagMoved), is_final: false })
        }
        (TagState::Lost, _) => {
            // The wallet that it named last knows that it was lost, and writes down that somebody has tried.
            if hops.is_empty() {
                hops.extend(view.earlier.last());
            }
            Found::Chase(Chase { tag, hops, otherwise: Rejection::TagLost, is_final: true })
        }
        _ => Found::Chase(Chase { tag, hops, otherwise: unknown_or(Rejection::UnknownTag), is_final: true }),
    }
}

/// Versions begin at 1: a wallet that is asked by this one answers again what it has decided, and decides nothing.
const NO_VERSION: u32 = 0;

impl Chase {
    /// The answer, and whether it is final whatever it says.
    async fn run(self, intake: &Intake, mut command: TerminalCommand) -> Result<(TerminalReply, bool), (u64, Busy)> {
        let (tag, seq) = (self.tag, command.seq);
        for (wallet, version) in self.hops {
            aim(&mut command.action, wallet, Some(Tap { tag, version }));
            let answer = ask(intake, command.clone()).await.map_err(|busy| (seq, busy))?;
            if !is_moved(&answer) {
                return Ok((TerminalReply { seq, answer }, true));
            }
        }
        Ok((no(&intake.door, seq, self.otherwise), self.is_final))
    }
}

fn is_moved(answer: &TerminalAnswer) -> bool {
    answer.verdict == CashVerdict::Rejected(Rejection::TagMoved)
}

/// One command, and its answer.
async fn ask(intake: &Intake, command: TerminalCommand) -> Result<TerminalAnswer, Busy> {
    let unavailable = Busy::of(Rejection::Unavailable);
    let (answered, answer) = oneshot::channel();
    {
        let Some(_handing_on) = intake.outbox.handing_on() else { return Err(unavailable) };
        let inbox: Arc<dyn TerminalInbox> = Arc::new(One(Mutex::new(Some(answered))));
        let handed_on = intake.door.node.submit_terminal(vec![command], &inbox);
        handed_on.map_err(|away| away.first().map_or(unavailable, |away| away.busy))?;
    }
    answer.await.unwrap_or(Err(Busy::of(Rejection::InDoubt)))
}

struct One(Mutex<Option<oneshot::Sender<Result<TerminalAnswer, Busy>>>>);

impl One {
    fn told(&self, answer: Result<TerminalAnswer, Busy>) {
        let waiting = self.0.lock().unwrap_or_else(PoisonError::into_inner).take();
        let _ = waiting.map(|waiting| waiting.send(answer));
    }
}

impl TerminalInbox for One {
    fn answered(&self, replies: &[TerminalReply]) {
        if let Some(reply) = replies.first() {
            self.told(Ok(reply.answer));
        }
    }
    fn turned_away(&self, _: &[u64], busy: Busy) {
        self.told(Err(busy));
    }
}

/// Where the shards put a terminal's answers.
struct Replies {
    outbox: Arc<Outbox>,
    /// Frames that were to be sent again because their chip had moved.
    moved: Mutex<Vec<u64>>,
}

impl Replies {
    fn moved(&self) -> Vec<u64> {
        self.moved.lock().unwrap_or_else(PoisonError::into_inner).clone() // nearly always empty
    }

    /// Which of these are to be sent again, the first time that their chip has moved.
    fn once_more(&self, replies: &[TerminalReply]) -> Vec<u64> {
        let mut moved = self.moved.lock().unwrap_or_else(PoisonError::into_inner);
        let mut again = Vec::new();
        for reply in replies.iter().filter(|reply| is_moved(&reply.answer)) {
            if let Some(at) = moved.iter().position(|seq| *seq == reply.seq) {
                moved.remove(at);
                continue;
            }
            if moved.len() == MOVED_MAX {
                moved.remove(0);
            }
            moved.push(reply.seq);
            again.push(reply.seq);
        }
        again
    }
}

impl TerminalInbox for Replies {
    fn answered(&self, replies: &[TerminalReply]) {
        let moved = replies.iter().any(|reply| is_moved(&reply.answer));
        let again = if moved { self.once_more(replies) } else { Vec::new() };
        self.outbox.cash_answered(replies, &again, COME_AGAIN_MS);
    }
    fn turned_away(&self, seqs: &[u64], busy: Busy) {
        self.outbox.put_off(seqs, busy);
    }
}
