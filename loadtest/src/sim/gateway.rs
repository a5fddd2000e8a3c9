//! The gateway's part of a terminal's command: a stream brings each frame once, links of wristbands are remembered, and
//! [`actors::resolve`] says which wallet is asked. All of it is gone when the node ends.

use std::collections::{BTreeMap, BTreeSet};

use actors::TerminalReply;
use actors::pipeline::Work;
use actors::resolve::{Link, MovedFrames, Resolved, Step, TagResolution, Tapped, is_moved};
use engine::cashless::command::{Tap, TerminalAction, TerminalAnswer, TerminalCommand};
use engine::command::{AdminAction, AdminCommand};
use engine::gates::command::DeviceCommand;
use engine::model::ids::{DeviceId, Home, ShardId, TagUid, WalletId};
use engine::model::principal::Principal;
use engine::model::rejection::Rejection;
use engine::view::{Query, View};

use super::Check;
use super::disk::SHARDS;
use super::net::Packet;
use super::node::Node;
use super::terminal::{Ask, Frame, Who};
use super::world::{Asker, World, shard_of};

/// What the gateway remembers.
#[derive(Default)]
pub(super) struct Gateway {
    /// The newest connection of each terminal: a device that proves itself anew ends its older one.
    newest: BTreeMap<DeviceId, u64>,
    /// What this connection has brought, and the latest attempt of it.
    seen: BTreeMap<(DeviceId, u64), u32>,
    /// What any connection has brought.
    numbers: BTreeSet<(DeviceId, u64)>,
    /// What this connection was told to send again.
    moved: BTreeMap<DeviceId, MovedFrames>,
    /// What wristbands named when their homes were asked.
    links: BTreeMap<TagUid, Link>,
    waiting: BTreeMap<u64, Waiting>,
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

/// A frame whose wristband's home was asked, or several wallets are.
struct Waiting {
    device: DeviceId,
    connection: u64,
    frame: Frame,
    tapped: Tapped,
    /// Once its home has answered.
    resolution: Option<TagResolution>,
}

impl Frame {
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

impl Gateway {
    /// Nobody will answer this number any more.
    pub(super) fn forget(&mut self, number: u64) {
        self.waiting.remove(&number);
    }

    /// What is decided for an older connection from now on would be too much: whoever has reconnected asks again.
    fn is_newest(&self, device: DeviceId, connection: u64) -> bool {
        self.newest.get(&device) == Some(&connection)
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
                let action = AdminAction::DeviceConnected { device, session: connection };
                let command = Box::new(AdminCommand { key: None, by: Principal::Device(device), action });
                let asker = Asker::Welcome { device, connection };
                self.take(shard_of(device.festival()), Work::Admin(command), asker);
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
    pub(super) fn frames_arrive(&mut self, device: DeviceId, connection: u64, frames: Vec<Frame>) -> Check {
        let Some(node) = &mut self.node else { return Ok(()) };
        let newest = node.door.newest.entry(device).or_default();
        if connection < *newest {
            return Ok(());
        }
        if connection > *newest {
            *newest = connection;
            node.door.seen.retain(|(other, _), _| *other != device);
            node.door.moved.remove(&device);
        }
        let mut by_shard: BTreeMap<ShardId, Vec<TerminalCommand>> = BTreeMap::new();
        for frame in frames {
            let Some(Node { door, .. }) = &mut self.node else { return Ok(()) };
            let number = (device, frame.seq);
            if door.seen.get(&number).is_some_and(|attempt| *attempt >= frame.attempt) {
                continue;
            }
            door.seen.insert(number, frame.attempt);
            // A balance moves nothing, so nothing is bound to its number.
            let is_known = !matches!(frame.ask, Ask::Balance { .. }) && !door.numbers.insert(number);
            let command = match frame.ask.tag() {
                None => frame.command(device, None),
                Some(tag) => {
                    let tapped = Tapped { tag, captured_at: frame.captured_at, resent: frame.resent || is_known };
                    let afresh = door.moved.get(&device).is_some_and(|moved| moved.contains(frame.seq));
                    match door.links.get(&tag).and_then(|link| tapped.by_link(link, afresh)) {
                        Some(Ok(to)) => frame.command(device, Some(to)),
                        Some(Err(rejection)) => {
                            self.refuse(device, connection, frame.seq, rejection)?;
                            continue;
                        }
                        None => {
                            door.next += 1;
                            let number = door.next;
                            let waiting = Waiting { device, connection, frame, tapped, resolution: None };
                            door.waiting.insert(number, waiting);
                            let shard = Home::Tag(tag).shard(SHARDS);
                            let query = Work::Query(Query::Tag(tag));
                            self.take(usize::from(shard.0), query, Asker::Resolve(number));
                            continue;
                        }
                    }
                }
            };
            by_shard.entry(Home::Wallet(command.action.wallet()).shard(SHARDS)).or_default().push(command);
        }
        for (shard, commands) in by_shard {
            self.take(usize::from(shard.0), Work::Terminal(commands), Asker::Terminal { device, connection });
        }
        Ok(())
    }

    /// A wristband's home has answered.
    pub(super) fn resolved(&mut self, number: u64, view: &View) -> Check {
        let Some(Node { door, .. }) = &mut self.node else { return Ok(()) };
        let Some(mut waiting) = door.waiting.remove(&number) else { return Ok(()) };
        let resolved = match view {
            View::Tag(view) => {
                match Link::of(view) {
                    Ok(link) => drop(door.links.insert(view.tag, link)),
                    Err(_) => drop(door.links.remove(&view.tag)),
                }
                waiting.tapped.by_view(view)
            }
            View::No(Rejection::UnknownTag) => Resolved::Rejected(Rejection::UnknownTag),
            _ => return Ok(()), // it does not say now; the terminal asks again
        };
        let (device, connection) = (waiting.device, waiting.connection);
        match resolved {
            _ if !door.is_newest(device, connection) => Ok(()),
            Resolved::Wallet(wallet, tap) => {
                let command = waiting.frame.command(device, Some((wallet, tap)));
                let shard = Home::Wallet(wallet).shard(SHARDS);
                self.take(usize::from(shard.0), Work::Terminal(vec![command]), Asker::Terminal { device, connection });
                Ok(())
            }
            Resolved::Rejected(rejection) => self.refuse(device, connection, waiting.frame.seq, rejection),
            Resolved::Candidates(mut resolution) => {
                let step = resolution.begin();
                waiting.resolution = Some(resolution);
                self.go_on(number, waiting, step)
            }
        }
    }

    /// One of several wallets has answered.
    pub(super) fn candidate_answered(&mut self, number: u64, reply: &TerminalReply) -> Check {
        let waiting = self.node.as_mut().and_then(|node| node.door.waiting.remove(&number));
        let Some(mut waiting) = waiting else { return Ok(()) };
        let Some(resolution) = &mut waiting.resolution else { return Ok(()) };
        let step = resolution.answered(reply.answer);
        self.go_on(number, waiting, step)
    }

    fn go_on(&mut self, number: u64, waiting: Waiting, step: Step) -> Check {
        let (device, connection, seq) = (waiting.device, waiting.connection, waiting.frame.seq);
        let Some(Node { door, .. }) = &mut self.node else { return Ok(()) };
        if !door.is_newest(device, connection) {
            return Ok(());
        }
        match step {
            Step::Ask(wallet, tap) => {
                let command = waiting.frame.command(device, Some((wallet, tap)));
                door.waiting.insert(number, waiting);
                let shard = Home::Wallet(wallet).shard(SHARDS);
                let asker = Asker::Tap { number, device };
                self.take(usize::from(shard.0), Work::Terminal(vec![command]), asker);
                Ok(())
            }
            Step::Answered(answer) => {
                let replies = vec![TerminalReply { seq, answer }];
                self.send(Packet::TerminalReplies { device, connection, replies });
                Ok(())
            }
            Step::Rejected(rejection) => self.refuse(device, connection, seq, rejection),
            Step::Moved => {
                let answer = TerminalAnswer::rejected_without_wallet(Rejection::TagMoved, self.clock());
                self.terminal_answered(device, connection, vec![TerminalReply { seq, answer }])
            }
        }
    }

    /// Wallets have answered: whose wristband has moved is asked for its frame again, the first time.
    pub(super) fn terminal_answered(
        &mut self,
        device: DeviceId,
        connection: u64,
        mut replies: Vec<TerminalReply>,
    ) -> Check {
        let Some(Node { door, .. }) = &mut self.node else { return Ok(()) };
        if !door.is_newest(device, connection) {
            return Ok(());
        }
        let moved = door.moved.entry(device).or_default();
        let mut comes_again = |reply: &TerminalReply| is_moved(&reply.answer) && moved.is_to_come_again(reply.seq);
        let replay: Vec<_> = replies.extract_if(.., |reply| comes_again(reply)).collect();
        for TerminalReply { seq, .. } in replay {
            self.counts.resolved("tag_moved_again");
            let attempt = self.node.as_ref().and_then(|node| node.door.seen.get(&(device, seq)).copied());
            let attempt = attempt.unwrap_or(0);
            self.send(Packet::TerminalMoved { device, connection, seq, attempt });
        }
        for reply in replies.iter().filter(|reply| is_moved(&reply.answer)) {
            self.judge_refused(device, reply.seq, Rejection::TagMoved)?;
        }
        if !replies.is_empty() {
            self.send(Packet::TerminalReplies { device, connection, replies });
        }
        Ok(())
    }

    /// The gateway says no by itself.
    fn refuse(&mut self, device: DeviceId, connection: u64, seq: u64, rejection: Rejection) -> Check {
        self.judge_refused(device, seq, rejection)?;
        let answer = TerminalAnswer::rejected_without_wallet(rejection, self.clock());
        let replies = vec![TerminalReply { seq, answer }];
        self.send(Packet::TerminalReplies { device, connection, replies });
        Ok(())
    }

    /// The wristband that is resolved under this number.
    pub(super) fn tag_of(&self, number: u64) -> Option<TagUid> {
        Some(self.node.as_ref()?.door.waiting.get(&number)?.tapped.tag)
    }
}
