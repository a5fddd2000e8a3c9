//! The simulated world: one festival with conflicts at every gate and at every bar, one small one beside it, readers,
//! terminals, the office, a network, a node and its disk. Each step is one throw of the dice.

use std::collections::BTreeMap;
use std::sync::Arc;

use actors::clock::{Clock, ClockReading};
use actors::pipeline::Work;
use engine::command::{AdminAction, AdminAnswer, AdminCommand};
use engine::gates::command::DeviceCommand;
use engine::model::credential::QrSecret;
use engine::model::ids::{DeviceId, FestivalId, Home, ShardId, ZoneNo};
use engine::model::money::Currency;
use engine::model::time::{HOUR_MS, Timestamp};
use engine::view::Query;
use storage::testing::faults::{FaultDisk, Faults};

use super::admin::{Admin, Site};
use super::bank::Bank;
use super::device::Reader;
use super::dice::Dice;
use super::disk::{SHARDS, SpoiltSnapshots};
use super::net::{Net, Packet};
use super::node::{Ledger, Node};
use super::tent::Tent;
use super::terminal::Terminal;
use super::{Check, Counts, breach};

/// Who waits for an answer.
#[derive(Clone, Debug)]
pub(super) enum Asker {
    Device {
        device: DeviceId,
        connection: u64,
        probe: bool,
    },
    Admin {
        number: u64,
        command: Box<AdminCommand>,
        probe: bool,
    },
    Query(Query),
    Terminal {
        device: DeviceId,
        connection: u64,
    },
    /// Whoever named a wristband, with the number under which the gateway knows that.
    Tap {
        number: u64,
        device: DeviceId,
    },
    /// The gateway, about that number's wristband.
    Resolve(u64),
    Thief {
        device: DeviceId,
    },
    /// The gateway, about a reader that has proven itself.
    Welcome {
        device: DeviceId,
        connection: u64,
    },
    Setup,
    Nobody,
}

/// Everything there is.
pub(super) struct World {
    pub(super) dice: Dice,
    pub(super) counts: Counts,
    pub(super) disk: FaultDisk,
    pub(super) node: Option<Node>,
    /// Counts the node's lives.
    pub(super) life: u64,
    pub(super) down_until: u64,
    pub(super) ledgers: Vec<Ledger>,
    pub(super) snapshots: Arc<SpoiltSnapshots>,
    pub(super) net: Net,
    pub(super) readers: Vec<Reader>,
    /// Connections up to this number were broken, by reader.
    broken: Vec<u64>,
    pub(super) terminals: Vec<Terminal>,
    /// Terminals' connections up to this number were broken.
    broken_terminals: BTreeMap<DeviceId, u64>,
    pub(super) bank: Bank,
    pub(super) tent: Tent,
    pub(super) admin: Admin,
    pub(super) sites: Vec<Site>,
    pub(super) step: u64,
    pub(super) true_ms: i64,
    /// How far the machine's clock is off.
    pub(super) clock_off_ms: i64,
    /// The node's own.
    pub(super) node_clock: Clock,
    /// The node was never started on a clock that was off, nor told that such a one is right: its time is the true one.
    pub(super) on_time: bool,
    /// The disk says that it has flushed, and has not.
    pub(super) lied: bool,
    pub(super) secret: QrSecret,
    pub(super) set_up: Option<AdminAnswer>,
    /// A shard that is down has left somebody without a word.
    silent: bool,
}

/// An evening in the future of whoever wrote this.
pub(super) const DOORS_OPEN: i64 = 1_800_000_000_000;

/// How far the node's clock may be off, in ms, if it was right once: what was too small for a jump, a few times.
pub(super) const CLOCK_OFF_MS_MAX: i64 = 5 * actors::limits::CLOCK_JUMP_MS;

impl World {
    /// A world at its beginning: the festivals are set up, nobody is inside.
    pub(super) fn new(seed: u64) -> Check<Self> {
        let mut dice = Dice::new(seed);
        let disk = if dice.one_in(2) { FaultDisk::direct() } else { FaultDisk::new() };
        let mut world = Self {
            dice,
            counts: Counts::default(),
            disk,
            node: None,
            life: 0,
            down_until: 0,
            ledgers: (0..SHARDS).map(|id| Ledger::new(ShardId(id))).collect(),
            snapshots: Arc::default(),
            net: Net::default(),
            readers: Vec::new(),
            broken: Vec::new(),
            terminals: Vec::new(),
            broken_terminals: BTreeMap::new(),
            bank: Bank::default(),
            tent: Tent::default(),
            admin: Admin::default(),
            sites: Vec::new(),
            step: 0,
            true_ms: DOORS_OPEN,
            clock_off_ms: 0,
            node_clock: Clock::set(DOORS_OPEN, Timestamp(DOORS_OPEN)),
            on_time: true,
            lied: false,
            secret: QrSecret::new(&[5; 32]).expect("32 bytes"),
            set_up: None,
            silent: false,
        };
        world.net.calm = true;
        world.start()?;
        let perimeter = 3 + world.dice.below(3) as u32;
        world.found("sea", &[(None, perimeter), (Some(0), 2), (Some(1), 1), (None, 3)])?;
        world.found("hill", &[(None, 2)])?;
        let (sea, hill) = (world.sites[0].festival, world.sites[1].festival);
        world.open_bars(sea, Currency::EUR, 6)?;
        let franc = Currency::parse("CHF").expect("three letters");
        let currency = if world.dice.one_in(3) { franc } else { Currency::EUR };
        world.open_bars(hill, currency, 2)?;
        world.pitch()?;
        world.goes_through_many_hands()?;
        world.net.calm = false;
        Ok(world)
    }

    /// Lives `steps` steps with all that can go wrong, then lets everything come to rest. What never must be, ends it.
    pub(super) fn live(&mut self, steps: u64) -> Check {
        // One disk in ten is a liar, and one evening of it is enough.
        let liar = self.dice.one_in(10).then(|| steps / 2 + self.dice.below(steps / 2));
        for _ in 0..steps {
            if self.lied && self.node.is_none() {
                return self.start().map(|_| ());
            }
            self.advance()?;
            self.chance()?;
            if liar.is_some_and(|at| self.step >= at) && self.node.is_some() {
                if !self.lied {
                    self.lied = true;
                    self.counts.fault("lost_flush");
                    self.disk.set(Faults { lie_about_sync: true, ..Faults::default() });
                } else if self.dice.one_in(60) {
                    self.crash();
                }
            }
        }
        self.come_to_rest()
    }

    /// Time passes, packets arrive, the patient lose their patience.
    pub(super) fn advance(&mut self) -> Check {
        self.step += 1;
        self.counts.steps += 1;
        self.true_ms += self.dice.below(400) as i64;
        if self.node.is_none() && self.step >= self.down_until {
            self.start()?;
        }
        self.look_at_the_clock()?;
        while let Some(packet) = self.net.arrived(self.step) {
            self.arrive(packet)?;
        }
        if core::mem::take(&mut self.silent) {
            return breach("whoever asks a shard that is down is told so at once", "nothing was said".to_owned());
        }
        if self.node.as_ref().is_some_and(Node::has_a_shard_down) && self.dice.one_in(80) {
            self.crash(); // whoever is on call starts it again
        }
        for index in 0..self.readers.len() {
            if self.readers[index].is_impatient(self.step) {
                self.reconnect(index);
            }
        }
        for index in 0..self.terminals.len() {
            if self.terminals[index].is_impatient(self.step) {
                self.terminal_reconnects(index);
            }
        }
        for (number, command) in self.admin.overdue(self.step) {
            self.send(Packet::Ask { number, command: Box::new(command) });
        }
        Ok(())
    }

    /// One of the things that can happen.
    fn chance(&mut self) -> Check {
        match self.dice.below(160) {
            100..=121 => self.somebody_pays(),
            122 if self.dice.one_in(2) => self.tent_thinks(),
            122..=133 => self.bank_thinks(),
            134..=135 => self.tick(),
            136 => self.thief(),
            137..=145 => {
                let shard = self.dice.below(u64::from(SHARDS)) as usize;
                return self.pump(shard);
            }
            146..=150 => {
                let shard = self.dice.below(u64::from(SHARDS)) as usize;
                return self.post(shard);
            }
            151..=157 => return self.acknowledge_next(),
            159 => {
                let (from, to) = (self.dice.below(u64::from(SHARDS)) as u16, self.dice.below(u64::from(SHARDS)) as u16);
                if from != to {
                    self.counts.fault("shards_cut_off");
                    let until = self.step + 50 + self.dice.below(250);
                    self.net.cut(ShardId(from), ShardId(to), until);
                }
            }
            158 => {
                let terminal = self.dice.below(self.terminals.len() as u64) as usize;
                if self.dice.one_in(3) {
                    self.counts.fault("reconnect");
                    self.terminal_reconnects(terminal);
                }
            }
            0..=29 => self.somebody_scans(),
            30..=49 => {
                let shard = self.dice.below(u64::from(SHARDS)) as usize;
                return self.pump(shard);
            }
            50..=57 => {
                let most = 1 + self.dice.below(4);
                return self.stage(most);
            }
            58..=67 => self.flush(),
            68..=79 => return self.acknowledge_next(),
            80..=85 => self.admin_thinks(),
            86..=89 => self.somebody_looks(),
            90 => self.tick(),
            91 => self.probe(),
            92 => {
                if self.dice.one_in(3) {
                    let reader = self.dice.below(self.readers.len() as u64) as usize;
                    self.counts.fault("reconnect");
                    self.reconnect(reader);
                }
            }
            93 => {
                if self.dice.one_in(2) {
                    return self.snapshot();
                }
                if self.dice.one_in(4) {
                    self.counts.fault("snapshot_spoilt");
                    let shard = self.dice.below(u64::from(SHARDS)) as u16;
                    self.snapshots.spoil(engine::model::ids::ShardId(shard));
                }
            }
            94 => self.the_clock_jumps(),
            95 => {
                if self.dice.one_in(3) {
                    self.crash();
                }
            }
            96 => {
                if self.dice.one_in(3) && !self.lied {
                    self.something_breaks();
                }
            }
            97 => {
                if self.dice.one_in(4) {
                    return self.audit(false);
                }
            }
            // A quick node: what waits is decided and flushed.
            _ => {
                for shard in 0..usize::from(SHARDS) {
                    self.pump(shard)?;
                }
                self.stage(u64::MAX)?;
                self.flush();
            }
        }
        Ok(())
    }

    /// The disk will fail one of its next operations, or has room for little more.
    fn something_breaks(&mut self) {
        if self.dice.one_in(6) {
            let shard = self.dice.below(u64::from(SHARDS)) as usize;
            if let Some(node) = &mut self.node {
                node.refuses[shard] = true;
            }
            return;
        }
        let at = Some(self.disk.operations() + 1 + self.dice.below(6));
        let faults = match self.dice.below(5) {
            0..=1 => Faults { eio_at: at, ..Faults::default() },
            2 => Faults { room: Some(self.dice.below(40 << 10)), ..Faults::default() },
            _ => Faults { crash_at: at, ..Faults::default() },
        };
        self.counts.fault(match (faults.eio_at, faults.room) {
            (Some(_), _) => "eio",
            (_, Some(_)) => "enospc",
            _ => "crash_in_write",
        });
        self.disk.set(faults);
    }

    fn the_clock_jumps(&mut self) {
        self.counts.fault("clock_jump");
        let far = if self.dice.one_in(12) { 80 * HOUR_MS } else { HOUR_MS / 2 };
        self.clock_off_ms = self.dice.below(2 * far as u64) as i64 - far;
        // Now and then it was not for long, or somebody says that it is right.
        if self.dice.one_in(3) {
            self.clock_off_ms = 0;
        } else if self.dice.one_in(8) {
            self.counts.fault("clock_accepted");
            self.on_time = false;
            self.node_clock.accept(self.true_ms, self.system_clock());
        }
    }

    fn look_at_the_clock(&mut self) -> Check {
        if self.node.is_some() && self.node_clock.observe(self.true_ms, self.system_clock()) == ClockReading::Back {
            self.counts.fault("clock_back");
        }
        let off_ms = self.clock().0 - self.true_ms;
        if self.on_time && off_ms.abs() > CLOCK_OFF_MS_MAX {
            return breach("a clock that jumps is not followed", format!("the node's is {off_ms} ms off"));
        }
        Ok(())
    }

    /// What the machine's clock says.
    pub(super) fn system_clock(&self) -> Timestamp {
        Timestamp(self.true_ms + self.clock_off_ms)
    }

    pub(super) fn tick(&mut self) {
        let Some(node) = &mut self.node else { return };
        node.pipelines.iter_mut().for_each(|pipeline| pipeline.take(Work::Tick, Asker::Nobody));
    }

    pub(super) fn reconnect(&mut self, index: usize) {
        let commands = self.readers[index].reconnect(self.step);
        // In frames of a few, as they come off the stream.
        for some in commands.chunks(4) {
            self.send_commands(index, some.to_vec(), false);
        }
    }

    pub(super) fn send_commands(&mut self, index: usize, commands: Vec<DeviceCommand>, probe: bool) {
        let (device, connection) = (self.readers[index].id, self.readers[index].connection);
        self.send(Packet::Commands { device, connection, commands, probe });
    }

    pub(super) fn send(&mut self, packet: Packet) {
        self.net.send(self.step, packet, &mut self.dice, &mut self.counts);
    }

    /// The node is gone, and with it every connection. Who notices at once, who later, is left to patience.
    pub(super) fn connections_break(&mut self) {
        for (broken, reader) in self.broken.iter_mut().zip(&self.readers) {
            *broken = reader.connection;
        }
        for index in 0..self.readers.len() {
            if self.dice.one_in(2) {
                self.reconnect(index);
            }
        }
        for index in 0..self.terminals.len() {
            self.broken_terminals.insert(self.terminals[index].id, self.terminals[index].connection);
            if self.dice.one_in(2) {
                self.terminal_reconnects(index);
            }
        }
    }

    pub(super) fn take(&mut self, shard: usize, work: Work, to: Asker) {
        let Some(node) = &mut self.node else { return };
        let waits = !matches!(to, Asker::Nobody);
        node.pipelines[shard].take(work, to);
        if node.pipelines[shard].is_down() {
            let told = node.pipelines[shard].go_down();
            self.silent |= waits && told.is_empty();
            self.put_off(told);
        }
    }

    fn arrive(&mut self, packet: Packet) -> Check {
        match packet {
            Packet::Commands { device, connection, commands, probe } => {
                let index = self.readers.iter().position(|reader| reader.id == device).expect("it was sent by one");
                if connection > self.broken[index] {
                    self.commands_arrive(device, connection, commands, probe);
                }
            }
            Packet::Replies { device, connection, life, replies } => {
                if let Some(reader) = self.listening(device, connection) {
                    let (step, ledger) = (self.step, &self.ledgers[shard_of(device.festival())]);
                    let stands =
                        |seq| ledger.books.may_have_shown(device, seq) || ledger.ahead.may_have_shown(device, seq);
                    return self.readers[reader].receive(step, life, &replies, stands);
                }
            }
            Packet::Confirmed { device, connection, life, seqs } => {
                if let Some(reader) = self.listening(device, connection) {
                    let step = self.step;
                    self.readers[reader].confirm(step, life, &seqs);
                }
            }
            Packet::Ask { number, command } => {
                let asker = Asker::Admin { number, command: command.clone(), probe: false };
                self.take(shard_of_action(&command.action), Work::Admin(command), asker);
            }
            Packet::Told { number, answer } => {
                if let Some(command) = self.admin.receive(number, answer)? {
                    self.admin_knows(&command.action, answer)?;
                }
            }
            Packet::Frames { device, connection, frames } => {
                if self.broken_terminals.get(&device).is_none_or(|broken| connection > *broken) {
                    return self.frames_arrive(device, connection, frames);
                }
            }
            Packet::TerminalMoved { device, connection, seq, attempt } => {
                let listening = |terminal: &Terminal| terminal.id == device && terminal.connection == connection;
                if let Some(index) = self.terminals.iter().position(listening)
                    && let Some(frame) = self.terminals[index].comes_again(self.step, seq, attempt)
                {
                    self.send_frames(index, vec![frame]);
                }
            }
            Packet::TerminalReplies { device, connection, replies } => {
                let listening = |terminal: &Terminal| terminal.id == device && terminal.connection == connection;
                if let Some(index) = self.terminals.iter().position(listening) {
                    return self.terminal_hears(index, &replies);
                }
            }
            Packet::Messages { from, to, first, messages } => self.messages_arrive(from, to, first, messages),
            Packet::Received { by, of, through } => self.acknowledgement_arrives(by, of, through),
            Packet::Query(query) => {
                let Some(home) = query.home() else { return Ok(()) };
                self.take(usize::from(home.shard(SHARDS).0), Work::Query(query), Asker::Query(query));
            }
        }
        Ok(())
    }

    fn listening(&self, device: DeviceId, connection: u64) -> Option<usize> {
        self.readers.iter().position(|reader| reader.id == device && reader.connection == connection)
    }

    /// What the office learns goes round: new tickets are sold, new readers stand at their gates.
    pub(super) fn admin_knows(&mut self, action: &AdminAction, answer: AdminAnswer) -> Check {
        match (action, answer) {
            (_, AdminAnswer::Issued { festival, category, first_serial, count, seed }) => {
                let issued = engine::command::issued(festival, category, first_serial, count, seed);
                self.site(festival).tickets.extend(issued);
            }
            (AdminAction::RotateQrKey { festival }, AdminAnswer::QrKey(version)) => {
                let site = self.site(*festival);
                site.qr_version = site.qr_version.max(version);
            }
            (AdminAction::OfferEnrolment { festival, code_hash, .. }, AdminAnswer::CodeUntil(_)) => {
                let enrol =
                    AdminAction::EnrolDevice { festival: *festival, code_hash: *code_hash, public_key: *code_hash };
                self.admin_asks(enrol);
            }
            (AdminAction::EnrolDevice { .. }, AdminAnswer::Device(device)) => {
                if self.ledgers[shard_of(device.festival())].books.money.terminal(device).is_some() {
                    return self.terminal_arrives(device);
                }
                self.reader_arrives(device);
            }
            (AdminAction::Cashless(action), answer) => self.bank_knows(action, answer),
            _ => {}
        }
        Ok(())
    }

    fn reader_arrives(&mut self, device: DeviceId) {
        let page = self.ledgers[shard_of(device.festival())].books.device(device).map(|page| page.gate);
        if let Some(gate) = page.filter(|_| self.readers.iter().all(|reader| reader.id != device)) {
            // Gate n leads into zone n here.
            self.readers.push(Reader::new(device, ZoneNo(gate as u8)));
            self.broken.push(0);
            self.site(device.festival()).devices.push(device);
        }
    }

    pub(super) fn site(&mut self, festival: FestivalId) -> &mut Site {
        self.sites.iter_mut().find(|site| site.festival == festival).expect("it was founded")
    }

    /// What has happened in this world.
    pub(super) fn counted(&self) -> Counts {
        let by_readers: usize = self.readers.iter().map(Reader::acknowledged).sum();
        let by_terminals: usize = self.terminals.iter().map(Terminal::acknowledged).sum();
        let acknowledged = (by_readers + by_terminals + self.admin.told.len()) as u64;
        let events = self.ledgers.iter().map(|ledger| ledger.books.events).sum();
        let mut money = self.counts.money.clone();
        for (what, count) in self.ledgers.iter().flat_map(|ledger| &ledger.books.money.tally) {
            *money.entry((*what).to_owned()).or_default() += count;
        }
        Counts { acknowledged, events, money, ..self.counts.clone() }
    }
}

pub(super) fn shard_of(festival: FestivalId) -> usize {
    usize::from(Home::Festival(festival).shard(SHARDS).0)
}

pub(super) fn shard_of_action(action: &AdminAction) -> usize {
    usize::from(action.home().shard(SHARDS).0)
}
