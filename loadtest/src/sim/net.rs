//! The network: drops, delays, doubles and overtakes whatever is sent over it, until it is told to be calm. Worse than
//! QUIC on purpose: what a device may rely on is only what the protocol says.

use std::collections::BTreeMap;

use actors::{DeviceReply, TerminalReply};
use engine::command::{AdminAnswer, AdminCommand};
use engine::gates::command::DeviceCommand;
use engine::model::ids::{DeviceId, ShardId};
use engine::shard::outbox::Message;
use engine::view::Query;

use super::Counts;
use super::dice::Dice;
use super::terminal::Frame;

/// One message on its way.
#[derive(Clone, Debug)]
pub(super) enum Packet {
    /// A device's commands, on its connection of this number.
    Commands {
        device: DeviceId,
        connection: u64,
        commands: Vec<DeviceCommand>,
        probe: bool,
    },
    /// Answers to a device.
    Replies {
        device: DeviceId,
        connection: u64,
        life: u64,
        replies: Vec<DeviceReply>,
    },
    /// Early answers are durable.
    Confirmed {
        device: DeviceId,
        connection: u64,
        life: u64,
        seqs: Vec<u64>,
    },
    Ask {
        number: u64,
        command: Box<AdminCommand>,
    },
    Told {
        number: u64,
        answer: AdminAnswer,
    },
    /// Somebody wants to know.
    Query(Query),
    /// A terminal's commands, on its connection of this number.
    Frames {
        device: DeviceId,
        connection: u64,
        frames: Vec<Frame>,
    },
    /// Answers to a terminal.
    TerminalReplies {
        device: DeviceId,
        connection: u64,
        replies: Vec<TerminalReply>,
    },
    /// A terminal's frame is to be sent again: its wristband had moved at this attempt.
    TerminalMoved {
        device: DeviceId,
        connection: u64,
        seq: u64,
        attempt: u32,
    },
    /// What one shard has for another.
    Messages {
        from: ShardId,
        to: ShardId,
        first: u64,
        messages: Vec<Message>,
    },
    /// A shard has another one's messages.
    Received {
        by: ShardId,
        of: ShardId,
        through: u64,
    },
}

/// All that is on its way, by when it arrives.
#[derive(Default)]
pub(super) struct Net {
    packets: BTreeMap<(u64, u64), Packet>,
    sent: u64,
    /// Nothing is lost, doubled or late any more.
    pub(super) calm: bool,
    /// Until this step nothing of the first shard reaches the second.
    cut: Option<(ShardId, ShardId, u64)>,
}

/// The longest a packet is under way, in steps.
const DELAY_MAX: u64 = 40;

impl Net {
    /// Sends a packet at step `now`.
    pub(super) fn send(&mut self, now: u64, packet: Packet, dice: &mut Dice, counts: &mut Counts) {
        if self.calm {
            return self.put(now + 1, packet);
        }
        if dice.one_in(25) || self.is_cut(now, &packet) {
            counts.fault("dropped");
            return;
        }
        if dice.one_in(20) {
            counts.fault("duplicated");
            self.put(now + 1 + dice.below(DELAY_MAX), packet.clone());
        }
        let delay = if dice.one_in(5) { dice.below(DELAY_MAX) } else { dice.below(3) };
        if delay >= 3 {
            counts.fault("delayed");
        }
        self.put(now + 1 + delay, packet);
    }

    /// Nothing of one shard reaches another until then.
    pub(super) fn cut(&mut self, from: ShardId, to: ShardId, until: u64) {
        self.cut = Some((from, to, until));
    }

    fn is_cut(&self, now: u64, packet: &Packet) -> bool {
        let way = match packet {
            Packet::Messages { from, to, .. } => (*from, *to),
            Packet::Received { by, of, .. } => (*by, *of),
            _ => return false,
        };
        self.cut.is_some_and(|(from, to, until)| (from, to) == way && now < until)
    }

    fn put(&mut self, due: u64, packet: Packet) {
        self.sent += 1;
        self.packets.insert((due, self.sent), packet);
    }

    /// The next packet that has arrived by step `now`.
    pub(super) fn arrived(&mut self, now: u64) -> Option<Packet> {
        let entry = self.packets.first_entry().filter(|entry| entry.key().0 <= now)?;
        Some(entry.remove())
    }

    /// Whether nothing is on its way.
    pub(super) fn is_empty(&self) -> bool {
        self.packets.is_empty()
    }
}
