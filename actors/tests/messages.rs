//! Two shards driven by hand: when a message leaves, when it is acknowledged, who waits for it and how long.

mod common;

use actors::limits::{DEFERRED_MAX, DEFERRED_MS_MAX, RECORD_BYTES_MAX, SEND_AGAIN_MS};
use actors::outbox_sender::{Delivery, OutboxSender};
use actors::pipeline::{Effect, Pipeline, Stepped, Work};
use common::terminal::*;
use engine::cashless::command::*;
use engine::command::*;
use engine::model::ids::*;
use engine::model::principal::Principal;
use engine::model::rejection::Rejection;
use engine::model::time::Timestamp;
use engine::shard::Shard;
use engine::shard::outbox::DELIVER_MAX;

/// Two pipelines and their couriers. The first has a wallet with 100.00, the second an empty one.
struct Pair {
    pipelines: [Pipeline<u32>; 2],
    couriers: [OutboxSender; 2],
    now: Timestamp,
    ms: u64,
    bar: Bar,
    wallets: Vec<WalletId>,
    asked: u32,
}

/// What a step or a flush let go, as far as these tests look at it.
#[derive(Debug, PartialEq)]
enum Left {
    Told(u32, AdminAnswer),
    MaySend(u64),
    Ack(u64),
}
use Left::{Ack, MaySend, Told};

const STILL_PENDING: AdminAnswer = AdminAnswer::Rejected(Rejection::StillPending);

impl Pair {
    fn new() -> Self {
        let shards = [0, 1].map(|id| Shard::new(ShardId(id), 2));
        let couriers = [OutboxSender::new(&shards[0]), OutboxSender::new(&shards[1])];
        let (now, terminal) = (Timestamp(1_000), DeviceId::new(FestivalId(0), 0));
        let bar = Bar { festival: FestivalId(0), terminal };
        let pipelines = shards.map(Pipeline::new);
        let mut this = Self { pipelines, couriers, now, ms: 0, bar, wallets: wallets(2, 2), asked: 0 };
        this.bar = Bar::open(&mut |action: AdminAction| this.settle(action));
        for (wallet, minor) in [(this.wallets[0], 10_000), (this.wallets[1], 0)] {
            let bar = this.bar;
            bar.wallet(&mut |action: AdminAction| this.settle(action), wallet, minor);
        }
        this
    }

    /// Asks, and lets everything happen.
    fn settle(&mut self, action: AdminAction) -> AdminAnswer {
        let number = self.ask(action, None);
        for left in self.run() {
            if let Told(who, answer) = left
                && who == number
            {
                return answer;
            }
        }
        panic!("no answer");
    }

    fn ask(&mut self, action: AdminAction, key: Option<IdempotencyKey>) -> u32 {
        self.asked += 1;
        let home = action.home().shard(2);
        let command = AdminCommand { key, by: Principal::Installation, action };
        self.pipelines[usize::from(home.0)].take(Work::Admin(Box::new(command)), self.asked);
        self.asked
    }

    fn transfer(&mut self, minor: i64, id: u128) -> u32 {
        self.ask(self.bar.transfer(self.wallets[0], self.wallets[1], minor), key(id))
    }

    /// One step; whether it made a record, and what left at once.
    fn step(&mut self, shard: usize) -> (bool, Vec<Left>) {
        match self.pipelines[shard].step(self.now, Vec::new()) {
            Stepped::Record(_, releases) => (true, self.left(shard, releases)),
            Stepped::Nothing(releases) => (false, self.left(shard, releases)),
            Stepped::Panicked => panic!("a step panicked"),
        }
    }

    fn durable(&mut self, shard: usize) -> Vec<Left> {
        let releases = self.pipelines[shard].durable();
        self.left(shard, releases)
    }

    fn left(&mut self, shard: usize, releases: Vec<Effect<u32>>) -> Vec<Left> {
        let note = |release| match release {
            Effect::Admin { to, answer, .. } => Some(Told(to, answer)),
            Effect::Send { to, through } => {
                self.couriers[shard].may_send(to, through);
                Some(MaySend(through))
            }
            Effect::Ack { through, .. } => Some(Ack(through)),
            _ => None,
        };
        releases.into_iter().filter_map(note).collect()
    }

    /// The one delivery that is due to the other shard.
    fn due(&mut self, shard: usize) -> Option<Delivery> {
        let mut due = self.couriers[shard].due(self.pipelines[shard].shard(), self.ms);
        assert!(due.len() < 2, "one at a time");
        due.pop()
    }

    fn deliver(&mut self, from: usize, delivery: &Delivery) {
        let Delivery { to, first, messages } = delivery;
        let (from, messages) = (ShardId(from as u16), messages.clone());
        self.pipelines[usize::from(to.0)].take(Work::Deliver { from, first: *first, messages }, 0);
    }

    fn acknowledge(&mut self, shard: usize, through: u64) {
        self.pipelines[shard].take(Work::Delivered { to: ShardId(1 - shard as u16), through }, 0);
    }

    /// Everything happens, until nothing is left to do.
    fn run(&mut self) -> Vec<Left> {
        let mut all = Vec::new();
        loop {
            let mut quiet = true;
            for shard in [0, 1] {
                while let Some(delivery) = self.due(shard) {
                    self.deliver(shard, &delivery);
                    quiet = false;
                }
                while self.pipelines[shard].is_ready() {
                    let (record, mut left) = self.step(shard);
                    if record {
                        left.extend(self.durable(shard));
                    }
                    for left in left {
                        if let Ack(through) = left {
                            self.acknowledge(1 - shard, through);
                        }
                        all.push(left);
                    }
                    quiet = false;
                }
            }
            if quiet {
                return all;
            }
        }
    }
}

#[test]
fn a_message_leaves_with_its_record_and_is_acknowledged_with_the_others() {
    let mut pair = Pair::new();
    let asked = pair.transfer(2_500, 1);
    assert_eq!(pair.step(0), (true, vec![]));
    assert_eq!(pair.due(0), None, "nothing is on disk yet");
    let [MaySend(n)] = pair.durable(0)[..] else { panic!("one message") };
    let delivery = pair.due(0).expect("now it is");
    assert_eq!((delivery.first, delivery.messages.len()), (n, 1));

    pair.deliver(0, &delivery);
    assert_eq!(pair.step(1), (true, vec![]), "not acknowledged before it is on disk");
    // The same once more changes nothing, and what it says waits for that disk as well.
    pair.deliver(0, &delivery);
    assert_eq!(pair.step(1), (false, vec![]));
    let left = pair.durable(1);
    let [Ack(through), MaySend(_), Ack(again)] = left[..] else { panic!("{left:?}") };
    assert_eq!((through, again), (n, n));

    pair.acknowledge(0, through);
    let answer = pair.due(1).expect("the other shard's answer");
    pair.deliver(1, &answer);
    assert_eq!(pair.step(0), (true, vec![]), "nobody is told before it is on disk");
    let left = pair.durable(0);
    let told = left.iter().filter(|left| matches!(left, Told(who, AdminAnswer::Transaction { .. }) if *who == asked));
    assert_eq!(told.count(), 1, "{left:?}");
}

#[test]
fn what_is_lost_is_sent_again_and_what_gathers_shares_the_next_delivery() {
    let mut pair = Pair::new();
    for id in 0..DELIVER_MAX as u128 + 10 {
        pair.transfer(1, id + 1);
    }
    assert!(pair.step(0).0);
    pair.durable(0);
    let first = pair.due(0).expect("due");
    assert_eq!(first.messages.len(), DELIVER_MAX);
    assert_eq!(pair.due(0), None, "one at a time");
    pair.ms += SEND_AGAIN_MS - 1;
    assert_eq!(pair.due(0), None, "not yet");
    pair.ms += 1;
    assert_eq!(pair.due(0), Some(first), "lost, for all we know");
    // A courier that knows nothing, as after a crash, begins with the same.
    pair.couriers[0] = OutboxSender::new(pair.pipelines[0].shard());
    let first = pair.due(0).expect("again");
    assert_eq!(first.messages.len(), DELIVER_MAX);
    pair.deliver(0, &first);
    assert!(pair.step(1).0);
    let Ack(through) = pair.durable(1)[0] else { panic!("no acknowledgement") };
    pair.acknowledge(0, through);
    pair.step(0);
    assert_eq!(pair.due(0).map(|next| (next.first, next.messages.len())), Some((through + 1, 10)));
}

#[test]
fn an_answer_about_everybody_waits_until_everybody_knows() {
    let mut pair = Pair::new();
    let revoke = AdminAction::RevokeDevice { device: pair.bar.terminal };
    let asked = pair.ask(revoke.clone(), key(1));
    let home = usize::from(revoke.home().shard(2).0);
    assert_eq!(pair.step(home), (true, vec![]));
    assert!(matches!(pair.durable(home)[..], [MaySend(_)]), "durable, and not enough");
    let delivery = pair.due(home).expect("due");
    pair.deliver(home, &delivery);
    pair.step(1 - home);
    let Ack(through) = pair.durable(1 - home)[0] else { panic!("no acknowledgement") };
    // Whoever asks again meanwhile waits for the same.
    let again = pair.ask(revoke, key(1));
    assert_eq!(pair.step(home), (false, vec![]));
    pair.acknowledge(home, through);
    // And for the record in flight: what was so already is in a younger one than those messages.
    assert_eq!(pair.step(home), (true, vec![]));
    assert_eq!(pair.durable(home), [Told(asked, AdminAnswer::Done), Told(again, AdminAnswer::Done)]);
}

#[test]
fn whoever_waits_too_long_is_told_so_and_learns_the_end_later() {
    let mut pair = Pair::new();
    let asked = pair.transfer(2_500, 1);
    let revoke = AdminAction::RevokeDevice { device: pair.bar.terminal };
    let home = usize::from(revoke.home().shard(2).0);
    let revoked = pair.ask(revoke, key(2));
    for shard in [0, 1] {
        while pair.pipelines[shard].is_ready() {
            if pair.step(shard).0 {
                pair.durable(shard);
            }
        }
    }
    let tick = |pair: &mut Pair| -> Vec<Left> {
        let mut all = Vec::new();
        for shard in [0, home] {
            pair.pipelines[shard].take(Work::Tick, 0);
            let (record, left) = pair.step(shard);
            all.extend(left);
            if record {
                all.extend(pair.durable(shard));
            }
        }
        all
    };
    pair.now = pair.now.plus_ms(DEFERRED_MS_MAX - 1);
    assert_eq!(tick(&mut pair), [], "not a moment too early");
    pair.now = pair.now.plus_ms(1);
    let told = tick(&mut pair);
    assert!(told.contains(&Told(asked, STILL_PENDING)) && told.contains(&Told(revoked, STILL_PENDING)), "{told:?}");
    // Nobody waits any more when it ends; whoever asks again is told how.
    pair.run();
    let again = pair.transfer(2_500, 1);
    let told = pair.run();
    let [Told(who, AdminAnswer::Transaction { balance: 7_500, .. })] = told[..] else { panic!("{told:?}") };
    assert_eq!(who, again);
}

#[test]
fn only_so_many_wait_and_the_rest_are_told_at_once() {
    let mut pair = Pair::new();
    for id in 0..DEFERRED_MAX as u128 + 3 {
        pair.ask(pair.bar.transfer(pair.wallets[0], pair.wallets[1], 1), key(id % 9_000 + 1));
    }
    let mut told = Vec::new();
    while pair.pipelines[0].is_ready() {
        let (record, left) = pair.step(0);
        told.extend(left);
        if record {
            told.extend(pair.durable(0));
        }
    }
    let refused = told.iter().filter(|left| matches!(left, Told(_, STILL_PENDING))).count();
    assert_eq!(refused, 3);
    let told = pair.run().into_iter().filter(|left| matches!(left, Told(..))).count();
    assert_eq!(told, DEFERRED_MAX, "everybody else, once");
    let gone: usize = pair.pipelines.iter_mut().map(|pipeline| pipeline.go_down().len()).sum();
    assert_eq!(gone, 0);
}

/// However long a payment is: the journal takes what one step writes, and every shard's at once.
#[test]
fn the_longest_record_has_room_in_the_journal() {
    let mut pair = Pair::new();
    let (bar, wallet) = (pair.bar, pair.wallets[0]);
    let vendor = VendorNo(0);
    let values = ProductValues { name: "Beer".into(), price: 1, vat_bp: 1_900, on_sale: true };
    let put = CashlessAction::PutProduct { festival: bar.festival, vendor, product: None, values };
    assert!(matches!(pair.settle(AdminAction::Cashless(put)), AdminAnswer::Product(..)));
    let source = Source::new(SourceKind::Desk, bar.festival, 1);
    let (festival, amount, taken) = (bar.festival, eur(100_000_000), true);
    pair.settle(AdminAction::Cashless(CashlessAction::TopUp { wallet, festival, amount, source, taken }));
    let line = Line { product: ProductNo(0), count: 1, price: 1 };
    for lines in [0, 1, 8, 32] {
        let mut taken = 0;
        // Each read of a stream brings up to 45 KiB of frames.
        for read in 0..60 {
            let payment = |n: u64| {
                let mut command = bar.pay(1 + lines * 100_000 + read * 1_400 + n, wallet, 1.max(lines as i64));
                let TerminalAction::Pay { lines: sold, .. } = &mut command.action else { unreachable!() };
                *sold = vec![line; lines as usize].into();
                TerminalCommand { floor: command.seq, ..command }
            };
            let many = 45 * 1_024 / (33 + 12 * lines);
            taken += many.min(1_400);
            pair.pipelines[0].take(Work::Terminal((0..many.min(1_400)).map(payment).collect()), 0);
        }
        let Stepped::Record(record, _) = pair.pipelines[0].step(pair.now, Vec::new()) else { panic!("nothing") };
        pair.durable(0);
        assert!(taken > 4_096 / (1 + lines), "a full step");
        assert!(record.len() <= RECORD_BYTES_MAX, "{lines} lines: {} bytes", record.len());
        assert!(record.len() > RECORD_BYTES_MAX / 8, "the bound is one of this size: {lines} lines, {}", record.len());
        while pair.pipelines[0].is_ready() {
            if pair.step(0).0 {
                pair.durable(0);
            }
        }
    }
    let log = storage::journal::log::LogOptions::default();
    assert!(RECORD_BYTES_MAX <= log.record_bytes_max());
}
