//! What the handles of a device ask of its task, and who waits for an answer.

use engine::command::Direction;
use engine::ids::TicketId;
use engine::time::Timestamp;
use tokio::sync::{OwnedSemaphorePermit, mpsc, oneshot};

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
    /// A terminal's command under the number that it gets; `kept`: it is to outlive this process.
    Cash {
        frame: Box<dyn Fn(Numbered) -> Vec<u8> + Send>,
        kept: bool,
        reply: Reply,
    },
    Close(oneshot::Sender<()>),
}

/// What a command gets when it is taken.
#[derive(Clone, Copy)]
pub(super) struct Numbered {
    pub(super) seq: u64,
    /// When that is, in the server's time.
    pub(super) at: Timestamp,
}

/// What a device is enrolled as.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Trade {
    Reader,
    Terminal,
}

/// Who waits for an answer.
pub(super) enum Reply {
    Once(oneshot::Sender<Result<Answered, ClientError>>),
    Cash(oneshot::Sender<Result<Told, ClientError>>),
    Streamed { token: u64, place: OwnedSemaphorePermit, replies: mpsc::UnboundedSender<Streamed> },
}

impl Reply {
    // Whoever stopped waiting needs no answer.
    pub(super) fn answered(self, answered: Answered) {
        match self {
            Self::Once(reply) => drop(reply.send(Ok(answered))),
            Self::Streamed { token, place, replies } => {
                drop(replies.send(Streamed { token, outcome: Ok(answered), _place: place }));
            }
            Self::Cash(_) => {} // no terminal's command is answered so
        }
    }

    pub(super) fn told(self, told: Told) {
        match self {
            Self::Cash(reply) => drop(reply.send(Ok(told))),
            Self::Once(_) | Self::Streamed { .. } => {}
        }
    }

    pub(super) fn fail(self, error: ClientError) {
        match self {
            Self::Once(reply) => drop(reply.send(Err(error))),
            Self::Cash(reply) => drop(reply.send(Err(error))),
            Self::Streamed { token, place, replies } => {
                drop(replies.send(Streamed { token, outcome: Err(error), _place: place }));
            }
        }
    }
}
