//! The border to other nodes. A shard that is not here may be on another node: what is asked of it goes there and its answers
//! come back, and so do messages between shards. [`Peers`] says who has which shard and carries that; how is its matter.
//!
//! Nothing here is needed for safety. Whoever believes that it hosts a shard is held to that by the journal; a command that is
//! carried twice has a number that is answered once; messages that are lost are sent again.

pub mod codec;

use std::collections::VecDeque;
use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex, OnceLock, PoisonError};

use engine::command::AdminAnswer;
use engine::model::ids::{NodeNo, ShardId};
use engine::model::rejection::Rejection;
use engine::view::View;

use crate::host::{Link, ReplyTo};
use crate::pipeline::Work;
use crate::reply::{Answered, Busy};

/// The other nodes, as one of them sees them.
pub trait Peers: Send + Sync + 'static {
    /// Which other node has a shard, as far as is known here; `None`: nobody, or this one. It is asked for each command whose
    /// shard does not serve here, on the shards' threads: it answers from memory. It may be out of date: then the other node
    /// says so, and where the shard is.
    fn host(&self, shard: ShardId) -> Option<NodeNo>;

    /// Carries a parcel to another node, which takes it in by [`Node::accept`], and its answers back. Parcels for one shard
    /// arrive in the order in which they were handed over. It must not block.
    ///
    /// # Errors
    /// The parcel, if it cannot be on its way: nothing was done.
    ///
    /// [`Node::accept`]: crate::Node::accept
    fn send(&self, to: NodeNo, parcel: Box<Parcel>) -> Result<(), Box<Parcel>>;
}

/// Where a shard is, as far as a node knows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Whereabouts {
    /// It serves on this node.
    Here,
    /// On another one.
    At(NodeNo),
    /// It serves nowhere, as far as is known.
    Nowhere,
}

/// Work for a shard on another node.
pub struct Parcel {
    pub shard: ShardId,
    /// Commands or a question, or what another shard has for this one ([`Work::Deliver`], [`Work::Delivered`]).
    pub work: Work,
    /// Where the answers go; messages between shards have none.
    pub answers: Answers,
}

/// Where answers go that come from another node.
pub trait Replies: Send + Sync + 'static {
    /// Some of them. It must not block.
    fn answered(&self, answered: Answered);
}

/// Where the answers to a parcel go. Whoever drops it before each command was answered says of the others that nobody knows
/// what became of them: that is all there is to do when a connection is lost.
pub struct Answers(Option<Awaited>);

struct Awaited {
    to: ReplyTo,
    /// Of the shard, where its commands count as long as they are not answered.
    link: Arc<Link>,
    open: Mutex<Open>,
}

/// What is not answered yet.
#[derive(Default)]
struct Open {
    /// Of a device or a terminal, in the order in which they were sent.
    seqs: VecDeque<u64>,
    /// Answered before they were durable.
    unconfirmed: Vec<u64>,
    /// The one command of the office, or the one question.
    one: Option<One>,
}

#[derive(Clone, Copy)]
enum One {
    Command,
    Question,
}

impl Answers {
    fn nobody() -> Self {
        Self(None)
    }

    /// For work that counts as let in.
    fn awaited(work: &Work, to: ReplyTo, link: &Arc<Link>) -> Self {
        let open = match work {
            Work::Device(commands) => {
                Open { seqs: commands.iter().map(|command| command.seq).collect(), ..Open::default() }
            }
            Work::Terminal(commands) => {
                Open { seqs: commands.iter().map(|command| command.seq).collect(), ..Open::default() }
            }
            Work::Admin(_) => Open { one: Some(One::Command), ..Open::default() },
            Work::Query(_) => Open { one: Some(One::Question), ..Open::default() },
            Work::Deliver { .. } | Work::Delivered { .. } | Work::Tick => Open::default(),
        };
        Self(Some(Awaited { to, link: Arc::clone(link), open: Mutex::new(open) }))
    }

    /// Nothing was sent after all: nobody is told anything.
    fn taken_back(mut self) {
        self.0 = None;
    }
}

impl Replies for Answers {
    fn answered(&self, answered: Answered) {
        let Some(Awaited { to, link, open }) = &self.0 else { return };
        let count = open.lock().unwrap_or_else(PoisonError::into_inner).note(&answered);
        link.answered(count, to.is_terminal());
        to.clone().tell(answered);
    }
}

impl Drop for Answers {
    fn drop(&mut self) {
        let Some(Awaited { to, link, open }) = self.0.take() else { return };
        let Open { seqs, unconfirmed, one } = open.into_inner().unwrap_or_else(PoisonError::into_inner);
        let busy = Busy::of(Rejection::InDoubt);
        link.answered(seqs.len() + usize::from(one.is_some()), to.is_terminal());
        if !seqs.is_empty() {
            to.clone().tell(Answered::TurnedAway(seqs.into(), busy));
        }
        if !unconfirmed.is_empty() {
            to.clone().tell(Answered::NotConfirmed(unconfirmed, busy));
        }
        match one {
            Some(One::Command) => to.tell(Answered::Admin(AdminAnswer::Rejected(Rejection::InDoubt), false)),
            Some(One::Question) => to.tell(Answered::View(View::No(Rejection::Unavailable))),
            None => {}
        }
    }
}

impl Open {
    /// How many of what was open this answers.
    fn note(&mut self, answered: &Answered) -> usize {
        match answered {
            Answered::Device(replies) => {
                let early = replies.iter().filter(|reply| !reply.durable).map(|reply| reply.seq);
                self.unconfirmed.extend(early);
                self.close(replies.iter().map(|reply| reply.seq))
            }
            Answered::Terminal(replies) => self.close(replies.iter().map(|reply| reply.seq)),
            Answered::TurnedAway(seqs, _) => self.close(seqs.iter().copied()),
            Answered::Confirmed(seqs) | Answered::NotConfirmed(seqs, _) => {
                self.unconfirmed.retain(|seq| !seqs.contains(seq));
                0
            }
            Answered::Admin(..) | Answered::View(_) => usize::from(self.one.take().is_some()),
        }
    }

    /// They are answered in the order in which they were sent, or nearly.
    fn close(&mut self, seqs: impl Iterator<Item = u64>) -> usize {
        let found = seqs.filter_map(|seq| {
            let at = self.seqs.iter().position(|open| *open == seq)?;
            self.seqs.remove(at)
        });
        found.count()
    }
}

/// Who has what is not here, once the node has joined others.
#[derive(Clone, Default)]
pub(crate) struct Border(Arc<OnceLock<Arc<dyn Peers>>>);

impl Border {
    /// The node has joined others. `false`: it had already.
    pub(crate) fn join(&self, peers: Arc<dyn Peers>) -> bool {
        self.0.set(peers).is_ok()
    }

    /// Whether the node has joined others.
    pub(crate) fn has_peers(&self) -> bool {
        self.0.get().is_some()
    }

    /// On which other node a shard is that does not serve here.
    pub(crate) fn host(&self, link: &Link, shard: ShardId) -> Option<NodeNo> {
        if link.serving.load(Ordering::Acquire) {
            return None;
        }
        self.0.get()?.host(shard)
    }

    /// Carries what one shard has for another. If it does not leave, it is sent again.
    pub(crate) fn carry(&self, to: NodeNo, shard: ShardId, work: Work) {
        if let Some(peers) = self.0.get() {
            let _ = peers.send(to, Box::new(Parcel { shard, work, answers: Answers::nobody() }));
        }
    }

    /// Carries commands or a question, which count as let in here until they are answered.
    pub(crate) fn forward(
        &self,
        to: NodeNo,
        (shard, link): (ShardId, &Arc<Link>),
        work: Work,
        asker: ReplyTo,
    ) -> Result<(), (Busy, Work)> {
        let unavailable = Busy::of(Rejection::Unavailable).moved_to(Some(to));
        let Some(peers) = self.0.get() else { return Err((unavailable, work)) };
        let (count, terminal) = (work.len(), asker.is_terminal());
        link.lets_in(count, terminal);
        let answers = Answers::awaited(&work, asker, link);
        peers.send(to, Box::new(Parcel { shard, work, answers })).map_err(|parcel| {
            let Parcel { work, answers, .. } = *parcel;
            answers.taken_back();
            link.answered(count, terminal);
            (unavailable, work)
        })
    }
}

/// What another node is told whose work is not taken in.
pub(crate) fn turn_away(work: &Work, busy: Busy) -> Option<Answered> {
    Some(match work {
        Work::Device(commands) => Answered::TurnedAway(commands.iter().map(|command| command.seq).collect(), busy),
        Work::Terminal(commands) => Answered::TurnedAway(commands.iter().map(|command| command.seq).collect(), busy),
        Work::Admin(_) => Answered::Admin(AdminAnswer::Rejected(busy.rejection), false),
        Work::Query(_) => Answered::View(View::No(busy.rejection)),
        Work::Deliver { .. } | Work::Delivered { .. } | Work::Tick => return None,
    })
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::AtomicUsize;

    use engine::gates::command::{Credential, DeviceAction, DeviceAnswer, DeviceCommand, Direction, Scan};
    use engine::model::ids::{DeviceId, FestivalId, ZoneNo};
    use engine::model::time::Timestamp;

    use super::*;
    use crate::reply::{DeviceReply, Inbox};

    const SHARD: ShardId = ShardId(0);
    const OTHER: NodeNo = NodeNo(7);

    fn command(seq: u64) -> DeviceCommand {
        let credential = Credential::Refused(Rejection::InvalidQr, 0);
        let (captured_at, direction) = (Timestamp(0), Direction::Enter);
        let scan = Scan { zone: ZoneNo(0), direction, credential, captured_at, resent: false, shown: None };
        DeviceCommand { device: DeviceId::new(FestivalId(0), 0), seq, floor: 1, action: DeviceAction::Scan(scan) }
    }

    fn reply(seq: u64, durable: bool) -> DeviceReply {
        let answer = DeviceAnswer::rejected(Rejection::InvalidQr, ZoneNo(0), Timestamp(0));
        DeviceReply { seq, answer, durable }
    }

    /// What a session hears, as words.
    #[derive(Default)]
    struct Heard(Mutex<Vec<String>>);

    impl Inbox for Heard {
        fn answered(&self, replies: &[DeviceReply]) {
            let seqs: Vec<u64> = replies.iter().map(|reply| reply.seq).collect();
            self.0.lock().unwrap().push(format!("answered {seqs:?}"));
        }
        fn confirmed(&self, seqs: &[u64]) {
            self.0.lock().unwrap().push(format!("confirmed {seqs:?}"));
        }
        fn turned_away(&self, seqs: &[u64], busy: Busy) {
            self.0.lock().unwrap().push(format!("{} {seqs:?}", busy.rejection.code()));
        }
        fn not_confirmed(&self, seqs: &[u64], _: Busy) {
            self.0.lock().unwrap().push(format!("not confirmed {seqs:?}"));
        }
    }

    /// Keeps what is to be sent, or has no connection.
    #[derive(Default)]
    struct Post(Mutex<Vec<Parcel>>, bool);

    impl Peers for Post {
        fn host(&self, _: ShardId) -> Option<NodeNo> {
            Some(OTHER)
        }
        fn send(&self, to: NodeNo, parcel: Box<Parcel>) -> Result<(), Box<Parcel>> {
            assert_eq!(to, OTHER);
            if self.1 {
                return Err(parcel);
            }
            self.0.lock().unwrap().push(*parcel);
            Ok(())
        }
    }

    type Forwarded = Result<(), (Busy, Work)>;

    /// Six commands that are forwarded, and who hears of them.
    fn forward(post: &Arc<Post>) -> (Forwarded, Arc<Link>, Arc<Heard>) {
        let (border, heard) = (Border::default(), Arc::new(Heard::default()));
        let link = Arc::new(Link::new(Arc::new(AtomicUsize::new(0))));
        assert!(border.join(Arc::clone(post) as Arc<dyn Peers>) && !border.join(Arc::clone(post) as Arc<dyn Peers>));
        assert_eq!(border.host(&link, SHARD), Some(OTHER), "it does not serve here");
        let inbox: Arc<dyn Inbox> = heard.clone();
        let work = Work::Device((1..=6).map(command).collect());
        (border.forward(OTHER, (SHARD, &link), work, ReplyTo::Inbox(inbox)), link, heard)
    }

    /// Each command is told something once, however the connection ends, and counts until then.
    #[test]
    fn what_no_answer_comes_to_is_in_doubt_and_counts_no_more() {
        let post = Arc::new(Post::default());
        let (forwarded, link, heard) = forward(&post);
        assert!(forwarded.is_ok());
        let pending = || link.pending.load(Ordering::Acquire);
        assert_eq!(pending(), 6);
        let Parcel { answers, .. } = post.0.lock().unwrap().pop().unwrap();
        answers.answered(Answered::Device(vec![reply(1, true), reply(2, false), reply(3, false)]));
        answers.answered(Answered::Confirmed(vec![2]));
        answers.answered(Answered::TurnedAway(vec![5], Busy::of(Rejection::Busy)));
        assert_eq!(pending(), 2);
        drop(answers);
        assert_eq!(pending(), 0);
        let told = ["answered [1, 2, 3]", "confirmed [2]", "busy [5]", "in_doubt [4, 6]", "not confirmed [3]"];
        assert_eq!(*heard.0.lock().unwrap(), told);
    }

    #[test]
    fn what_cannot_be_sent_comes_back_and_names_the_home() {
        let (forwarded, link, heard) = forward(&Arc::new(Post(Mutex::default(), true)));
        let (busy, work) = forwarded.unwrap_err();
        assert_eq!((busy.rejection, busy.moved_to), (Rejection::Unavailable, Some(OTHER)));
        assert_eq!((work.len(), link.pending.load(Ordering::Acquire)), (6, 0));
        assert!(heard.0.lock().unwrap().is_empty(), "whoever asked is told at the door");
    }
}
