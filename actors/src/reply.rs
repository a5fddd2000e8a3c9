//! What comes back from the shards, and where a session takes it.

use engine::cashless::command::TerminalAnswer;
use engine::command::AdminAnswer;
use engine::gates::command::DeviceAnswer;
use engine::model::ids::NodeNo;
use engine::model::rejection::Rejection;
use engine::view::View;
use serde::{Deserialize, Serialize};

use crate::limits::{RETRY_AFTER_MS, UNAVAILABLE_RETRY_MS};

/// The shard's queue is full, or it takes no commands now; nothing was done.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Busy {
    /// [`Rejection::Busy`], or [`Rejection::Unavailable`] when the journal has failed, the shard is down or the node stops:
    /// nothing was done. [`Rejection::InDoubt`] when the shard went down with it.
    pub rejection: Rejection,
    /// When to come again.
    pub retry_after_ms: u32,
    /// Where the shard is now, if that is known and it is another node: worth connecting to.
    pub moved_to: Option<NodeNo>,
}

impl Busy {
    /// What is said for this reason, with the time in which it is worth coming again.
    pub fn of(rejection: Rejection) -> Self {
        let down = matches!(rejection, Rejection::Unavailable | Rejection::InDoubt);
        let retry_after_ms = if down { UNAVAILABLE_RETRY_MS } else { RETRY_AFTER_MS };
        Self { rejection, retry_after_ms, moved_to: None }
    }

    /// The same, and that the shard is on this node.
    pub(crate) fn moved_to(self, node: Option<NodeNo>) -> Self {
        Self { moved_to: node, ..self }
    }
}

/// One answer on its way to a device.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct DeviceReply {
    /// To which of its commands.
    pub seq: u64,
    pub answer: DeviceAnswer,
    /// On disk. If not (`scan_ack = decided`), [`Inbox::confirmed`] follows.
    pub durable: bool,
}

/// Where a session takes its answers. Called on a shard's thread: it must not block.
pub trait Inbox: Send + Sync + 'static {
    /// Answers, in the order in which the shard decided.
    fn answered(&self, replies: &[DeviceReply]);
    /// Answers sent earlier with `durable: false` are on disk now.
    fn confirmed(&self, seqs: &[u64]);
    /// The shard has gone down: no answers to these. They are to be asked again, under the same numbers.
    fn turned_away(&self, seqs: &[u64], busy: Busy);
    /// The shard has gone down: whether answers sent earlier with `durable: false` are on disk is not known, and nobody
    /// will confirm them. They are to be asked again, with what was shown.
    fn not_confirmed(&self, seqs: &[u64], busy: Busy);
}

/// One answer on its way to a terminal. It is durable.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct TerminalReply {
    /// To which of its commands.
    pub seq: u64,
    pub answer: TerminalAnswer,
}

/// Where a terminal's session takes its answers. Called on the shards' threads, by several of them at once: it must not
/// block.
pub trait TerminalInbox: Send + Sync + 'static {
    /// Answers of one shard, in the order in which it decided. Those of another may come in between.
    fn answered(&self, replies: &[TerminalReply]);
    /// A shard has gone down: no answers to these. They are to be asked again, under the same numbers.
    fn turned_away(&self, seqs: &[u64], busy: Busy);
}

/// What comes of work, whoever asked: what one node tells another.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub enum Answered {
    /// As [`Inbox::answered`].
    Device(Vec<DeviceReply>),
    /// As [`Inbox::confirmed`].
    Confirmed(Vec<u64>),
    /// As [`TerminalInbox::answered`].
    Terminal(Vec<TerminalReply>),
    /// No answers to these of a device's or a terminal's commands, for this reason: they are to be asked again, under the same
    /// numbers.
    TurnedAway(Vec<u64>, Busy),
    /// As [`Inbox::not_confirmed`].
    NotConfirmed(Vec<u64>, Busy),
    /// To the office; and whether nothing happened now.
    Admin(AdminAnswer, bool),
    /// To a question.
    View(View),
}

/// Some of a terminal's commands were not taken: their wallets' shard is full, or takes none.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TurnedAway {
    /// Why, and when to come again.
    pub busy: Busy,
    /// Which; the others were taken, and are answered.
    pub seqs: Vec<u64>,
}
