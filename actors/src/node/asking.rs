//! What a node is asked and told: which shard that concerns, whether it has room, and what comes of it.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use engine::cashless::command::TerminalCommand;
use engine::cashless::view::{LedgerView, WalletView};
use engine::command::ask::Ask;
use engine::command::{AdminAnswer, AdminCommand, IdempotencyKey};
use engine::gates::command::DeviceCommand;
use engine::model::ids::{Home, ShardId, WalletId};
use engine::model::principal::Principal;
use engine::model::rejection::Rejection;
use engine::view::question::Question;
use engine::view::{Query, View};

use super::Node;
use crate::host::{Link, ReplySender, ReplyTo};
use crate::limits::{KEYS_MAX, PENDING_MAX, TERMINALS_MAX, URGENT_MAX};
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
        self.send(home, Work::Device(commands), ReplyTo::Inbox(Arc::clone(inbox))).map_err(Busy::of)
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
            let link = &self.0.links[usize::from(last.0)];
            let refused = match self.check_terminals(link, theirs.len()) {
                Err(rejection) => Some((rejection, theirs)),
                Ok(()) => match self.put(link, Work::Terminal(theirs), ReplyTo::Terminal(Arc::clone(inbox))) {
                    Err((rejection, Work::Terminal(theirs))) => Some((rejection, theirs)),
                    _ => None,
                },
            };
            if let Some((rejection, theirs)) = refused {
                let seqs = theirs.iter().map(|command| command.seq).collect();
                turned_away.push(TurnedAway { busy: Busy::of(rejection), seqs });
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
        self.check_terminals(self.link(Home::Wallet(wallet)), 1).map_err(Busy::of)
    }

    /// Whether [`Node::submit`] for this home would be turned away now: worth asking before verifying signatures.
    ///
    /// # Errors
    /// [`Busy`].
    pub fn has_room(&self, home: Home) -> Result<(), Busy> {
        self.check(self.link(home), 1).map_err(Busy::of)
    }

    /// Asks for the office, and waits until the answer is durable; where another shard has a say, until that has had it.
    /// Never hangs: at worst it answers [`Rejection::Busy`], [`Rejection::Unavailable`], or
    /// [`Rejection::StillPending`] after [`crate::limits::DEFERRED_MS_MAX`], and the same key is told later how it ended.
    /// `true` says that nothing happened now: a repetition.
    pub async fn ask(&self, command: AdminCommand) -> (AdminAnswer, bool) {
        let (once, answer) = ReplySender::new();
        let home = command.action.home();
        match self.send(home, Work::Admin(Box::new(command)), ReplyTo::Admin(once)) {
            Ok(()) => answer.await.unwrap_or((AdminAnswer::Rejected(Rejection::Unavailable), false)),
            Err(rejection) => (AdminAnswer::Rejected(rejection), false),
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
        let (once, answer) = ReplySender::new();
        match self.send_to(&self.0.links[usize::from(shard.0)], Work::Query(query), ReplyTo::Query(once)) {
            Ok(()) => answer.await.unwrap_or(View::No(Rejection::Unavailable)),
            Err(rejection) => View::No(rejection),
        }
    }

    fn shard_of(&self, home: Home) -> ShardId {
        home.shard(self.0.links.len() as u16)
    }

    fn link(&self, home: Home) -> &Link {
        &self.0.links[usize::from(self.shard_of(home).0)]
    }

    fn send(&self, home: Home, work: Work, asker: ReplyTo) -> Result<(), Rejection> {
        self.send_to(self.link(home), work, asker)
    }

    fn check(&self, link: &Link, commands: usize) -> Result<(), Rejection> {
        self.check_within(link, commands, PENDING_MAX)
    }

    fn check_within(&self, link: &Link, commands: usize, pending_max: usize) -> Result<(), Rejection> {
        if self.0.failed.load(Ordering::Acquire) || self.0.stopping.load(Ordering::Acquire) {
            return Err(Rejection::Unavailable);
        }
        if !link.serving.load(Ordering::Acquire) {
            return Err(link.why_not());
        }
        if link.pending.load(Ordering::Acquire) + commands > pending_max {
            return Err(Rejection::Busy);
        }
        Ok(())
    }

    fn check_terminals(&self, link: &Link, commands: usize) -> Result<(), Rejection> {
        self.check(link, commands)?;
        if link.terminals.load(Ordering::Acquire) + commands > TERMINALS_MAX {
            return Err(Rejection::Busy);
        }
        Ok(())
    }

    fn send_to(&self, link: &Link, work: Work, asker: ReplyTo) -> Result<(), Rejection> {
        let (pending_max, urgent) = match &work {
            Work::Admin(command) if command.action.protects_people() => (PENDING_MAX + KEYS_MAX + URGENT_MAX, true),
            Work::Query(Query::ApiKey(_)) => (PENDING_MAX + KEYS_MAX, true),
            _ => (PENDING_MAX, false),
        };
        self.check_within(link, work.len(), pending_max)?;
        if urgent {
            link.pending.fetch_add(work.len(), Ordering::AcqRel);
            link.send_urgently(work, asker);
            return Ok(());
        }
        self.put(link, work, asker).map_err(|(rejection, _)| rejection)
    }

    /// Into the shard's mailbox; gives the work back if that is full, or gone.
    fn put(&self, link: &Link, work: Work, asker: ReplyTo) -> Result<(), (Rejection, Work)> {
        let commands = work.len();
        let of_terminals = if let Work::Terminal(_) = work { commands } else { 0 };
        link.pending.fetch_add(commands, Ordering::AcqRel);
        link.terminals.fetch_add(of_terminals, Ordering::AcqRel);
        link.send(work, asker).inspect_err(|_| {
            link.pending.fetch_sub(commands, Ordering::AcqRel);
            link.terminals.fetch_sub(of_terminals, Ordering::AcqRel);
        })
    }
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
