//! What goes into a pipeline, and what comes out.

use engine::cashless::command::{TerminalAction, TerminalCommand};
use engine::command::{AdminAction, AdminAnswer, AdminCommand, CommandRef};
use engine::gates::command::DeviceCommand;
use engine::model::ids::ShardId;
use engine::model::rejection::Rejection;
use engine::shard::outbox::Message;
use engine::view::{Notice, Query, View};
use serde::{Deserialize, Serialize};

use crate::reply::{DeviceReply, TerminalReply};

/// What is asked of a shard.
#[derive(Debug, Serialize, Deserialize)]
pub enum Work {
    /// What one read of one device's stream has brought.
    Device(Vec<DeviceCommand>),
    /// What one read of one terminal's stream has brought for this shard.
    Terminal(Vec<TerminalCommand>),
    Admin(Box<AdminCommand>),
    /// A question.
    Query(Query),
    /// What another shard has sent.
    Deliver {
        from: ShardId,
        /// The number of the first message.
        first: u64,
        /// In order.
        messages: Vec<Message>,
    },
    /// Another shard has our messages, durably.
    Delivered {
        to: ShardId,
        /// Up to which number.
        through: u64,
    },
    /// Time has passed. Each host says so to its own shards.
    #[serde(skip)]
    Tick,
}

impl Work {
    /// How many commands it counts for.
    pub fn len(&self) -> usize {
        match self {
            Self::Device(commands) => commands.len(),
            Self::Terminal(commands) => commands.len(),
            _ => 1,
        }
    }
    /// How much of a step it takes: a thousand tickets in one command write as much as some hundred scans.
    pub fn weight(&self) -> usize {
        match self {
            Self::Admin(command) => match &command.action {
                AdminAction::IssueTickets { holders, .. } => 1 + holders.len() / 4,
                _ => 4,
            },
            Self::Terminal(commands) => commands.iter().map(weight).sum(),
            Self::Deliver { messages, .. } => messages.len(),
            _ => self.len(),
        }
    }
    /// Whether it asks nothing.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// What the shard is asked to decide.
    pub(super) fn commands(&self) -> impl Iterator<Item = CommandRef<'_>> + Clone {
        let (devices, terminals, other) = match self {
            Self::Device(commands) => (commands.as_slice(), &[][..], None),
            Self::Terminal(commands) => (&[][..], commands.as_slice(), None),
            Self::Admin(command) => (&[][..], &[][..], Some(CommandRef::Admin(command))),
            Self::Query(_) => (&[][..], &[][..], None),
            Self::Deliver { from, first, messages } => {
                (&[][..], &[][..], Some(CommandRef::Deliver { from: *from, first: *first, messages }))
            }
            Self::Delivered { to, through } => {
                (&[][..], &[][..], Some(CommandRef::Delivered { to: *to, through: *through }))
            }
            Self::Tick => (&[][..], &[][..], Some(CommandRef::Tick)),
        };
        devices.iter().map(CommandRef::Device).chain(terminals.iter().map(CommandRef::Terminal)).chain(other)
    }

    /// All but its first command, taken out of it; `None` if it has no more.
    pub(super) fn split_rest(&mut self) -> Option<Self> {
        match self {
            Self::Device(commands) if commands.len() > 1 => Some(Self::Device(commands.split_off(1))),
            Self::Terminal(commands) if commands.len() > 1 => Some(Self::Terminal(commands.split_off(1))),
            Self::Deliver { from, first, messages } if messages.len() > 1 => {
                Some(Self::Deliver { from: *from, first: *first + 1, messages: messages.split_off(1) })
            }
            _ => None,
        }
    }

    /// Whether it is one command that cannot be split any further.
    pub(super) fn is_single(&self) -> bool {
        if let Self::Deliver { messages, .. } = self { messages.len() < 2 } else { self.len() == 1 }
    }
}

/// A payment's lines are recorded with it: eight of them are as long as a payment without.
fn weight(command: &TerminalCommand) -> usize {
    match &command.action {
        TerminalAction::Pay { lines, .. } => 1 + lines.len().div_ceil(8),
        _ => 1,
    }
}

/// What may leave now. `R` is whatever the caller wants to know the asker by.
#[derive(Debug)]
pub enum Effect<R> {
    /// Answers to a device.
    Device { to: R, replies: Vec<DeviceReply> },
    /// Answers that left early are durable.
    Confirmed { to: R, seqs: Vec<u64> },
    /// Answers to a terminal.
    Terminal { to: R, replies: Vec<TerminalReply> },
    /// No answers to these of a device's or a terminal's commands: the shard has gone down. They are to be asked again
    /// under the same numbers.
    NotAnswered {
        to: R,
        seqs: Vec<u64>,
        /// [`Rejection::Unavailable`]: nothing was done. [`Rejection::InDoubt`]: decided, and whether that became
        /// durable is not known.
        why: Rejection,
    },
    /// Whether answers that left early became durable is not known: the shard has gone down.
    NotConfirmed { to: R, seqs: Vec<u64> },
    /// An answer to the office.
    Admin {
        to: R,
        answer: AdminAnswer,
        /// Nothing happened now.
        repeated: bool,
    },
    /// An answer to a question.
    View { to: R, view: View },
    /// Messages to another shard may be sent: they are durable.
    Send {
        to: ShardId,
        /// Up to which number.
        through: u64,
    },
    /// Another shard is to know that we have its messages, durably: [`Work::Delivered`] there.
    Ack {
        to: ShardId,
        /// Up to which number.
        through: u64,
    },
    /// What connected devices are to be told.
    Notice(Notice),
}
