//! What the handles of a device ask of its task, and who waits for an answer.

use std::time::Duration;

use engine::gates::command::Direction;
use engine::model::ids::TicketId;
use engine::model::time::Timestamp;
use tokio::sync::{OwnedSemaphorePermit, mpsc, oneshot};

use super::late::{Lately, Unanswered};
use super::{Answered, ClientError, Read, Streamed, Told};

/// What a handle asks of the task.
pub(super) enum Ask {
    Scan {
        read: Read,
        direction: Direction,
        reply: Reply,
    },
    Undo {
        scan_seq: u64,
        ticket: TicketId,
        reply: Reply,
    },
    /// A terminal's command under the number that it gets.
    Cashless {
        frame: Box<dyn Fn(Numbered) -> Vec<u8> + Send>,
        wanted: Request,
        reply: Reply,
    },
    Recent {
        limit: u16,
        reply: oneshot::Sender<Result<Lately, ClientError>>,
    },
    Unanswered(oneshot::Sender<Vec<Unanswered>>),
    Close(oneshot::Sender<()>),
}

/// How much a terminal's command is wanted.
#[derive(Clone, Copy, Default)]
pub(super) struct Request {
    /// It is to outlive this process.
    pub(super) kept: bool,
    /// For how long.
    pub(super) patience: Option<Duration>,
    /// If nobody waits any more when it succeeds, it is to be given back.
    pub(super) or_give_back: bool,
}

/// What a command gets when it is taken.
#[derive(Clone, Copy)]
pub(super) struct Numbered {
    pub(super) seq: u64,
    /// When that is, in the server's time.
    pub(super) at: Timestamp,
    /// When the caller's patience ends; 0: never.
    pub(super) expires_at: Timestamp,
}

/// What a device is enrolled as.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum DeviceKind {
    Reader,
    Terminal,
}

/// Who waits for an answer.
pub(super) enum Reply {
    Once(oneshot::Sender<Result<Answered, ClientError>>),
    Cashless(oneshot::Sender<Result<Told, ClientError>>),
    Streamed { token: u64, place: OwnedSemaphorePermit, replies: mpsc::UnboundedSender<Streamed> },
}

impl Reply {
    /// Whether anybody was waiting still.
    pub(super) fn answered(self, answered: Answered) -> bool {
        match self {
            Self::Once(reply) => reply.send(Ok(answered)).is_ok(),
            Self::Streamed { token, place, replies } => {
                replies.send(Streamed { token, outcome: Ok(answered), _place: place }).is_ok()
            }
            Self::Cashless(_) => false, // no terminal's command is answered so
        }
    }

    /// Whether anybody was waiting still.
    pub(super) fn complete(self, told: Told) -> bool {
        match self {
            Self::Cashless(reply) => reply.send(Ok(told)).is_ok(),
            Self::Once(_) | Self::Streamed { .. } => false,
        }
    }

    pub(super) fn fail(self, error: ClientError) {
        match self {
            Self::Once(reply) => drop(reply.send(Err(error))),
            Self::Cashless(reply) => drop(reply.send(Err(error))),
            Self::Streamed { token, place, replies } => {
                drop(replies.send(Streamed { token, outcome: Err(error), _place: place }));
            }
        }
    }
}
