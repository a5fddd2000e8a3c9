//! The gateway's part of a terminal's command: a stream brings each frame once, a wristband is resolved to a wallet and
//! its link's version, and a frame that went out before is asked first at the wallets that the wristband named before.
//! All of it is gone when the node ends.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use actors::TerminalReply;
use actors::pipeline::Work;
use engine::command::{
    CashVerdict, DeviceCommand, OfficeAction, OfficeCommand, Tap, TerminalAction, TerminalAnswer, TerminalCommand,
};
use engine::ids::{DeviceId, Home, ShardId, TagUid, WalletId};
use engine::principal::Principal;
use engine::rejection::Rejection;
use engine::view::{Query, TagState, View};

use super::disk::SHARDS;
use super::net::Packet;
use super::till::{Ask, Frame, Who};
use super::world::{Asker, World, shard_of};

/// How often a wristband that moves on meanwhile is resolved.
const RESOLVED_MAX: u32 = 3;

/// What the gateway remembers.
#[derive(Default)]
pub(super) struct Door {
    /// The newest connection of each terminal: a device that proves itself anew ends its older one.
    newest: BTreeMap<DeviceId, u64>,
    /// What this connection has brought.
    seen: BTreeSet<(DeviceId, u64)>,
    taps: BTreeMap<u64, Tapped>,
    next: u64,
    /// The newest connection of each reader.
    readers: BTreeMap<DeviceId, Welcome>,
}

/// A reader's connection. Nothing of it goes to a shard before it is on record that there is such a connection.
struct Welcome {
    connection: u64,
    welcomed: bool,
    waiting: Vec<(Vec<DeviceCommand>, bool)>,
}

/// A frame that names a wristband.
struct Tapped {
    device: DeviceId,
    connection: u64,
    frame: Frame,
    tag: TagUid,
    /// Where it may have been decided, or may be now.
    candidates: VecDeque<(WalletId, u32)>,
    resolved: u32,
    /// The wristband was reported lost.
    lost: bool,
}

impl Frame {
    /// The wristband it names.
    fn tag(&self) -> Option<TagUid> {
        match &self.ask {
            Ask::Pay { who: Who::Tag(tag), .. }
            | Ask::TopUp { who: Who::Tag(tag), .. }
            | Ask::Balance { who: Who::Tag(tag) } => Some(*tag),
            _ => None,
        }
    }

    /// The command, for the wallet that a tap was resolved to, or that it names itself.
    pub(super) fn command(&self, device: DeviceId, tapped: Option<(WalletId, Tap)>) -> TerminalCommand {
        let of = |who: &Who| match (who, tapped) {
            (Who::Wallet(wallet), _) => (*wallet, None),
            (Who::Tag(_), Some((wallet, tap))) => (wallet, Some(tap)),
            (Who::Tag(_), None) => unreachable!("a wristband is resolved first"),
        };
        let action = match &self.ask {
            Ask::Pay { who, amount, lines } => {
                let (wallet, tap) = of(who);
                TerminalAction::Pay { wallet, tap, amount: *amount, lines: lines.clone() }
            }
            Ask::TopUp { who, amount } => {
                let (wallet, tap) = of(who);
                TerminalAction::TopUp { wallet, tap, amount: *amount }
            }
            Ask::Balance { who } => {
                let (wallet, tap) = of(who);
                TerminalAction::Balance { wallet, tap }
            }
            Ask::Refund { payment, amount, lines } => {
                TerminalAction::Refund { payment: *payment, amount: *amount, lines: lines.clone() }
            }
        };
        TerminalCommand { device, seq: self.seq, floor: self.floor, expires_at: self.expires_at, action }
    }
}

impl Door {
    /// Nobody will answer this number any more.
    pub(super) fn forget(&mut self, number: u64) {
        self.taps.remove(&number);
    }
}

impl World {
    /// A reader's stream has brought commands.
    pub(super) fn commands_arrive(
        &mut self,
        device: DeviceId,
        connection: u64,
        commands: Vec<DeviceCommand>,
        probe: bool,
    ) {
        let Some(node) = &mut self.node else { return };
        let known = node.door.readers.get_mut(&device).filter(|known| known.connection >= connection);
        match known {
            Some(known) if known.connection > connection => {}
            Some(known) if known.welcomed => {
                let asker = Asker::Device { device, connection, probe };
                self.take(shard_of(device.festival()), Work::Device(commands), asker);
            }
            Some(known) => known.waiting.push((commands, probe)),
            None => {
                let waiting = vec![(commands, probe)];
                node.door.readers.insert(device, Welcome { connection, welcomed: false, waiting });
                let action = OfficeAction::DeviceConnected { device, session: connection };
                let command = Box::new(OfficeCommand { key: None, by: Principal::Device(device), action });
                let asker = Asker::Welcome { device, connection };
                self.take(shard_of(device.festival()), Work::Office(command), asker);
            }
        }
    }

    /// That a reader is connected is on record.
    pub(super) fn welcomed(&mut self, device: DeviceId, connection: u64) {
        let known = self.node.as_mut().and_then(|node| node.door.readers.get_mut(&device));
        let Some(known) = known.filter(|known| known.connection == connection) else { return };
        known.welcomed = true;
        for (commands, probe) in std::mem::take(&mut known.waiting) {
            let asker = Asker::Device { device, connection, probe };
            self.take(shard_of(device.festival()), Work::Device(commands), asker);
        }
    }

    /// A terminal's stream has brought frames.
    pub(super) fn frames_arrive(&mut self, device: DeviceId, connection: u64, frames: Vec<Frame>) {
        let Some(node) = &mut self.node else { return };
        let newest = node.door.newest.entry(device).or_default();
        if connection < *newest {
            return;
        }
        if connection > *newest {
            *newest = connection;
            node.door.seen.retain(|(other, _)| *other != device);
        }
        let mut by_shard: BTreeMap<ShardId, Vec<TerminalCommand>> = BTreeMap::new();
        for frame in frames {
            let Some(node) = &mut self.node else { return };
            if !node.door.seen.insert((device, frame.seq)) {
                continue;
            }
            let Some(tag) = frame.tag() else {
                let command = frame.command(device, None);
                let shard = Home::Wallet(command.action.wallet()).shard(SHARDS);
                by_shard.entry(shard).or_default().push(command);
                continue;
            };
            node.door.next += 1;
            let number = node.door.next;
            let (candidates, resolved, lost) = (VecDeque::new(), 0, false);
            let tapped = Tapped { device, connection, frame, tag, candidates, resolved, lost };
            node.door.taps.insert(number, tapped);
            self.resolve(number, tag);
        }
        for (shard, commands) in by_shard {
            self.take(usize::from(shard.0), Work::Terminal(commands), Asker::Till { device, connection });
        }
    }

    fn resolve(&mut self, number: u64, tag: TagUid) {
        let shard = Home::Tag(tag).shard(SHARDS);
        self.take(usize::from(shard.0), Work::Query(Query::Tag(tag)), Asker::Resolve(number));
    }

    /// What a wristband names is known.
    pub(super) fn resolved(&mut self, number: u64, view: &View) {
        let Some(tapped) = self.node.as_mut().and_then(|node| node.door.taps.get_mut(&number)) else { return };
        tapped.resolved += 1;
        if let View::Tag(view) = view {
            tapped.lost = view.state == TagState::Lost;
            if tapped.frame.resent {
                tapped.candidates.extend(&view.earlier);
            }
            tapped.candidates.extend(view.wallet.map(|wallet| (wallet, view.version)));
        }
        self.ask_next(number);
    }

    /// Asks the next wallet; with none left, the wristband itself is the answer.
    fn ask_next(&mut self, number: u64) {
        let Some(node) = self.node.as_mut() else { return };
        let Some(tapped) = node.door.taps.get_mut(&number) else { return };
        if node.door.newest.get(&tapped.device) != Some(&tapped.connection) {
            // Whoever has reconnected asks again; what is decided for this connection from now on would be too much.
            node.door.taps.remove(&number);
            return;
        }
        if let Some((wallet, version)) = tapped.candidates.pop_front() {
            let tap = Tap { tag: tapped.tag, version };
            let command = tapped.frame.command(tapped.device, Some((wallet, tap)));
            let shard = Home::Wallet(wallet).shard(SHARDS);
            let asker = Asker::Tap { number, device: tapped.device };
            return self.take(usize::from(shard.0), Work::Terminal(vec![command]), asker);
        }
        let rejection = if tapped.lost { Rejection::TagLost } else { Rejection::UnknownTag };
        let answer = TerminalAnswer::rejected(rejection, WalletId(0), self.clock());
        self.tapped(number, answer);
    }

    /// A wallet has answered a tap.
    pub(super) fn tap_answered(&mut self, number: u64, reply: &TerminalReply) {
        let moved = reply.answer.verdict == CashVerdict::Rejected(Rejection::TagMoved);
        let Some(tapped) = self.node.as_mut().and_then(|node| node.door.taps.get_mut(&number)) else { return };
        if moved && !tapped.candidates.is_empty() {
            self.ask_next(number);
        } else if moved && tapped.resolved < RESOLVED_MAX {
            let tag = tapped.tag;
            self.resolve(number, tag);
        } else {
            self.tapped(number, reply.answer);
        }
    }

    fn tapped(&mut self, number: u64, answer: TerminalAnswer) {
        let Some(tapped) = self.node.as_mut().and_then(|node| node.door.taps.remove(&number)) else { return };
        let replies = vec![TerminalReply { seq: tapped.frame.seq, answer }];
        self.send(Packet::TillReplies { device: tapped.device, connection: tapped.connection, replies });
    }

    /// The wristband that is resolved under this number.
    pub(super) fn tag_of(&self, number: u64) -> Option<TagUid> {
        Some(self.node.as_ref()?.door.taps.get(&number)?.tag)
    }
}
