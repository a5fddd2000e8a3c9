//! What a node is asked and told: which shard that concerns, whether it has room, and what comes of it.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use engine::cashless::command::TerminalCommand;
use engine::cashless::view::{LedgerView, WalletView};
use engine::command::ask::Ask;
use engine::command::{AdminAnswer, AdminCommand, IdempotencyKey};
use engine::gates::command::DeviceCommand;
use engine::model::ids::{Home, NodeNo, ShardId, WalletId};
use engine::model::principal::Principal;
use engine::model::rejection::Rejection;
use engine::view::question::Question;
use engine::view::{Query, View};

use super::Node;
use crate::host::{ReplySender, ReplyTo, Standing};
use crate::limits::{KEYS_MAX, MOVE_AGAIN_MS, MOVE_WAIT_MS, PENDING_MAX, TERMINALS_MAX, URGENT_MAX};
use crate::peers::{Border, Replies, Whereabouts, turn_away};
use crate::pipeline::Work;
use crate::reply::{Busy, Inbox, TerminalInbox, TurnedAway};

impl Node {
    /// Hands over what one read of one device's stream has brought. All commands are of one device, hence of one home.
    ///
    /// # Errors
    /// [`Busy`]: none of them was taken; answer each of them so, at the door.
    pub fn submit(&self, commands: Vec<DeviceCommand>, inbox: &Arc<dyn Inbox>) -> Result<(), Busy> {
        let Some(first) = commands.first() else { return Ok(()) };
        let home = Home::Festival(first.device.festival());
        self.send(self.shard_of(home), Work::Device(commands), ReplyTo::Inbox(Arc::clone(inbox)))
            .map_err(|(busy, _)| busy)
    }

    /// Hands over what one read of one terminal's stream has brought: each command goes to its wallet's shard, in the
    /// order in which it came there.
    ///
    /// # Errors
    /// [`TurnedAway`], by shard: some, or all, were not taken; answer each of these so, at the door.
    pub fn submit_terminal(
        &self,
        mut commands: Vec<TerminalCommand>,
        inbox: &Arc<dyn TerminalInbox>,
    ) -> Result<(), Vec<TurnedAway>> {
        let shard = |command: &TerminalCommand| self.shard_of(Home::Wallet(command.action.wallet()));
        commands.sort_by_cached_key(&shard); // stable
        let mut turned_away = Vec::new();
        while let Some(last) = commands.last().map(&shard) {
            let theirs = commands.split_off(commands.partition_point(|command| shard(command) < last));
            let refused = self.send(last, Work::Terminal(theirs), ReplyTo::Terminal(Arc::clone(inbox)));
            if let Err((busy, Work::Terminal(theirs))) = refused {
                turned_away.push(TurnedAway { busy, seqs: theirs.iter().map(|command| command.seq).collect() });
            }
        }
        if turned_away.is_empty() { Ok(()) } else { Err(turned_away) }
    }

    /// How many more of terminals' commands all threads together have room for now: what is read beyond that is worth no
    /// work.
    pub fn room_for_terminals(&self) -> usize {
        // Shards are dealt out to the threads in turns, so these are one of each.
        let one_each = self.0.links.iter().take(self.0.arbiters.len());
        one_each.map(|link| TERMINALS_MAX.saturating_sub(link.terminals.load(Ordering::Acquire))).sum()
    }

    /// Whether a terminal's command about this wallet would be turned away now: worth asking before looking up a tag.
    ///
    /// # Errors
    /// [`Busy`].
    pub fn has_room_for_terminal(&self, wallet: WalletId) -> Result<(), Busy> {
        let shard = self.shard_of(Home::Wallet(wallet));
        self.taker(Some(&self.0.border), shard, 1, Bounds { pending: PENDING_MAX, terminals: true }).map(|_| ())
    }

    /// Whether [`Node::submit`] for this home would be turned away now: worth asking before verifying signatures.
    ///
    /// # Errors
    /// [`Busy`].
    pub fn has_room(&self, home: Home) -> Result<(), Busy> {
        let shard = self.shard_of(home);
        self.taker(Some(&self.0.border), shard, 1, Bounds { pending: PENDING_MAX, terminals: false }).map(|_| ())
    }

    /// Where this home is now: what a session tells a device that would better connect there.
    pub fn whereabouts(&self, home: Home) -> Whereabouts {
        let shard = self.shard_of(home);
        let link = &self.0.links[usize::from(shard.0)];
        match self.0.border.host(link, shard) {
            Some(node) => Whereabouts::At(node),
            None if link.serving.load(Ordering::Acquire) => Whereabouts::Here,
            None => Whereabouts::Nowhere,
        }
    }

    /// Takes in what another node has sent for a shard ([`Peers::send`]). It goes no further: if the shard is not here, the
    /// other is told so, and where it is.
    ///
    /// [`Peers::send`]: crate::Peers::send
    pub fn accept(&self, shard: ShardId, work: Work, replies: Arc<dyn Replies>) {
        let Some(link) = self.0.links.get(usize::from(shard.0)) else { return };
        if let Work::Deliver { from: other, .. } | Work::Delivered { to: other, .. } = &work {
            // What is not taken in is sent again, wherever the shard is then.
            if usize::from(other.0) < self.0.links.len() && *link.standing() != Standing::Elsewhere {
                link.bring(work);
            }
            return;
        }
        let asker = ReplyTo::Peer(Arc::clone(&replies), matches!(work, Work::Terminal(_)));
        let refused = match self.0.border.host(link, shard) {
            Some(moved) => Err((Busy::of(Rejection::Busy).moved_to(Some(moved)), work)),
            None => self.hand_over(None, shard, work, asker),
        };
        if let Err((busy, work)) = refused
            && let Some(answered) = turn_away(&work, busy)
        {
            replies.answered(answered);
        }
    }

    /// Asks for the office, and waits until the answer is durable; where another shard has a say, until that has had it.
    /// Never hangs: at worst it answers [`Rejection::Busy`], [`Rejection::Unavailable`], or
    /// [`Rejection::StillPending`] after [`crate::limits::DEFERRED_MS_MAX`], and the same key is told later how it ended.
    /// `true` says that nothing happened now: a repetition.
    ///
    /// While the shard moves from one node to another, it is asked again for up to [`MOVE_WAIT_MS`], if nothing was done or the
    /// key makes a repetition harmless: so a move that is planned fails nobody.
    pub async fn ask(&self, command: AdminCommand) -> (AdminAnswer, bool) {
        let shard = self.shard_of(command.action.home());
        if !self.0.border.has_peers() {
            return self.ask_once(shard, command).await;
        }
        let mut waits = Moving::of(self, shard);
        loop {
            let (answer, repeated) = self.ask_once(shard, command.clone()).await;
            let again = match answer {
                AdminAnswer::Rejected(Rejection::Busy | Rejection::Unavailable) => true,
                AdminAnswer::Rejected(Rejection::InDoubt) => command.key.is_some(),
                _ => false,
            };
            if !again || !waits.a_moment().await {
                return (answer, repeated);
            }
        }
    }

    async fn ask_once(&self, shard: ShardId, command: AdminCommand) -> (AdminAnswer, bool) {
        let (once, answer) = ReplySender::new();
        match self.send(shard, Work::Admin(Box::new(command)), ReplyTo::Admin(once)) {
            Ok(()) => answer.await.unwrap_or((AdminAnswer::Rejected(Rejection::Unavailable), false)),
            Err((busy, _)) => (AdminAnswer::Rejected(busy.rejection), false),
        }
    }

    /// Asks without changing anything. What each shard answers for itself ([`Query::home`] is `None`) is asked of all
    /// and gathered; a shard that does not answer makes that the answer, so that no part is taken for the whole.
    pub async fn query(&self, query: Query) -> View {
        if let Some(home) = query.home() {
            return self.query_shard(self.shard_of(home), query).await;
        }
        let shards = (0..self.0.links.len() as u16).map(ShardId);
        let parts = futures_util::future::join_all(shards.map(|id| self.query_shard(id, query))).await;
        gather(parts)
    }

    /// Asks a question whose answer has one type, as [`Node::query`] does.
    ///
    /// # Errors
    /// The engine's rejection. An answer of another kind than was asked for is a bug: it is logged, and
    /// [`Rejection::Internal`].
    pub async fn get<Q: Question>(&self, question: Q) -> Result<Q::Answer, Rejection> {
        match self.query(question.query()).await {
            View::No(rejection) => Err(rejection),
            view => Q::answer(view).ok_or_else(|| {
                tracing::error!(question = std::any::type_name::<Q>(), "a shard has answered something else");
                Rejection::Internal
            }),
        }
    }

    /// Asks for a change whose answer has one type, as [`Node::ask`] does; also whether it had been answered before. An
    /// answer of another kind than was asked for is a bug: it is logged, and [`Rejection::Internal`].
    pub async fn ask_for<A: Ask>(
        &self,
        ask: A,
        by: Principal,
        key: Option<IdempotencyKey>,
    ) -> (Result<A::Answer, Rejection>, bool) {
        let (answer, repeated) = self.ask(AdminCommand { key, by, action: ask.action() }).await;
        let answer = match answer {
            AdminAnswer::Rejected(rejection) => Err(rejection),
            answer => A::answer(answer).ok_or_else(|| {
                tracing::error!(ask = std::any::type_name::<A>(), "a shard has answered something else");
                Rejection::Internal
            }),
        };
        (answer, repeated)
    }

    /// The same of those shards that answer, for what a part is enough for; and whether that was all of them.
    pub async fn query_those_up(&self, query: Query) -> (View, bool) {
        let shards = (0..self.0.links.len() as u16).map(ShardId);
        let mut parts = futures_util::future::join_all(shards.map(|id| self.query_shard(id, query))).await;
        let asked = parts.len();
        parts.retain(|part| !matches!(part, View::No(Rejection::Unavailable)));
        let all = parts.len() == asked;
        (if parts.is_empty() { View::No(Rejection::Unavailable) } else { gather(parts) }, all)
    }

    async fn query_shard(&self, shard: ShardId, query: Query) -> View {
        let mut waits = self.0.border.has_peers().then(|| Moving::of(self, shard));
        loop {
            let view = self.query_once(shard, query).await;
            let again = matches!(view, View::No(Rejection::Busy | Rejection::Unavailable | Rejection::InDoubt));
            let Some(waits) = waits.as_mut().filter(|_| again) else { return view };
            if !waits.a_moment().await {
                return view;
            }
        }
    }

    async fn query_once(&self, shard: ShardId, query: Query) -> View {
        let (once, answer) = ReplySender::new();
        match self.send(shard, Work::Query(query), ReplyTo::Query(once)) {
            Ok(()) => answer.await.unwrap_or(View::No(Rejection::Unavailable)),
            Err((busy, _)) => View::No(busy.rejection),
        }
    }

    fn shard_of(&self, home: Home) -> ShardId {
        home.shard(self.0.links.len() as u16)
    }

    /// Hands work over where its shard is, if there is room for it. Work that is not taken comes back.
    fn send(&self, shard: ShardId, work: Work, asker: ReplyTo) -> Result<(), (Busy, Work)> {
        self.hand_over(Some(&self.0.border), shard, work, asker)
    }

    /// The same here, or across this border.
    fn hand_over(
        &self,
        border: Option<&Border>,
        shard: ShardId,
        work: Work,
        asker: ReplyTo,
    ) -> Result<(), (Busy, Work)> {
        let (pending, urgent) = match &work {
            Work::Admin(command) if command.action.protects_people() => (PENDING_MAX + KEYS_MAX + URGENT_MAX, true),
            Work::Query(Query::ApiKey(_)) => (PENDING_MAX + KEYS_MAX, true),
            _ => (PENDING_MAX, false),
        };
        let (commands, terminals) = (work.len(), asker.is_terminal());
        let taker = match self.taker(border, shard, commands, Bounds { pending, terminals }) {
            Ok(taker) => taker,
            Err(busy) => return Err((busy, work)),
        };
        let link = &self.0.links[usize::from(shard.0)];
        if let Some((border, node)) = taker {
            return border.forward(node, (shard, link), work, asker);
        }
        link.lets_in(commands, terminals);
        if urgent {
            link.send_urgently(work, asker);
            return Ok(());
        }
        link.send(work, asker).map_err(|(rejection, work)| {
            link.answered(commands, terminals);
            (Busy::of(rejection), work)
        })
    }

    /// Who takes so many commands for a shard now: another node across this border, or this one (`None`).
    fn taker<'b>(
        &self,
        border: Option<&'b Border>,
        shard: ShardId,
        commands: usize,
        bounds: Bounds,
    ) -> Result<Option<(&'b Border, NodeNo)>, Busy> {
        let link = &self.0.links[usize::from(shard.0)];
        if self.0.failed.load(Ordering::Acquire) || self.0.stopping.load(Ordering::Acquire) {
            return Err(Busy::of(Rejection::Unavailable));
        }
        let elsewhere = if link.serving.load(Ordering::Acquire) {
            None
        } else {
            let host = border.and_then(|border| Some((border, border.host(link, shard)?)));
            Some(host.ok_or_else(|| Busy::of(link.why_not()))?)
        };
        let full = link.pending.load(Ordering::Acquire) + commands > bounds.pending
            || bounds.terminals && link.terminals.load(Ordering::Acquire) + commands > TERMINALS_MAX;
        if full { Err(Busy::of(Rejection::Busy)) } else { Ok(elsewhere) }
    }
}

/// Somebody who waits for a shard that may be moving.
struct Moving<'n> {
    node: &'n Node,
    shard: ShardId,
    /// When it was asked it was on no node or on another.
    was_elsewhere: bool,
    until: Instant,
}

impl<'n> Moving<'n> {
    fn of(node: &'n Node, shard: ShardId) -> Self {
        let until = Instant::now() + Duration::from_millis(MOVE_WAIT_MS);
        Self { node, shard, was_elsewhere: Self::is_elsewhere(node, shard), until }
    }

    fn is_elsewhere(node: &Node, shard: ShardId) -> bool {
        !node.0.links[usize::from(shard.0)].serving.load(Ordering::Acquire)
    }

    /// Waits before the next try; `false`: it serves here and did, so it is not moving, or there was time enough.
    async fn a_moment(&mut self) -> bool {
        let elsewhere = Self::is_elsewhere(self.node, self.shard);
        let moves = std::mem::replace(&mut self.was_elsewhere, elsewhere) || elsewhere;
        if !moves || Instant::now() >= self.until {
            return false;
        }
        tokio::time::sleep(Duration::from_millis(MOVE_AGAIN_MS)).await;
        true
    }
}

/// How much a shard holds of what is to be handed over.
#[derive(Clone, Copy)]
struct Bounds {
    /// Commands in all.
    pending: usize,
    /// They are a terminal's, of which a thread holds no more than [`TERMINALS_MAX`].
    terminals: bool,
}

/// What all shards' answers to one question come to.
fn gather(parts: Vec<View>) -> View {
    let mut festivals = Vec::new();
    let mut wallets: Option<Vec<WalletView>> = None;
    let mut ledger: Option<Box<LedgerView>> = None;
    let mut next_seq: Option<u64> = None;
    let mut unknown = None;
    for part in parts {
        match part {
            View::Festivals(more) => festivals.extend(more),
            View::Wallets(more) => wallets.get_or_insert_default().extend(more),
            View::Ledger(part) => match &mut ledger {
                Some(sum) => sum.add(&part),
                None => ledger = Some(part),
            },
            View::NextSeq(part) => next_seq = next_seq.max(Some(part)),
            // It has not heard of that festival yet, so it has none of its money.
            View::No(Rejection::UnknownFestival | Rejection::NotCashless) => unknown = Some(part),
            other => return other,
        }
    }
    if let Some(next_seq) = next_seq {
        return View::NextSeq(next_seq);
    }
    if let Some(wallets) = wallets {
        return View::Wallets(wallets);
    }
    match (ledger, unknown) {
        (Some(sum), _) => View::Ledger(sum),
        (None, Some(unknown)) => unknown,
        (None, None) => View::Festivals(festivals),
    }
}
