//! Transfers and wristbands across shards, over a network that loses, repeats and reorders: the real engine, every order
//! of a few steps; and what deadlines, full outboxes and restarts come to.

mod bar;

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use bar::{Bar, eur};
use engine::cashless::command::*;
use engine::command::*;
use engine::model::ids::*;
use engine::model::principal::Principal;
use engine::model::rejection::Rejection;
use engine::model::time::Timestamp;
use engine::shard::outbox::Message;
use engine::shard::{Shard, Step};

/// Names of two wallets that live in different shards.
fn apart(bar: &Bar) -> (String, String) {
    let shards = bar.shards.len() as u16;
    let home = |id: &WalletId| Home::Wallet(*id).shard(shards);
    let all: Vec<_> = bar.wallets.iter().collect();
    let (first, id) = all[0];
    let (other, _) = all.iter().find(|(_, other)| home(other) != home(id)).expect("they do not all share one");
    (first.clone(), (*other).clone())
}

/// A bar of two shards whose first wallet, in one, has 50.00, and whose second lies in the other.
fn two_sides() -> (Bar, String, String) {
    let mut bar = Bar::open(2);
    let (here, there) = apart(&bar);
    bar.play(&format!("topup {here} 50.00"));
    bar.quiet = false;
    (bar, here, there)
}

#[test]
fn a_transfer_waits_for_the_other_side() {
    let (mut bar, here, there) = two_sides();
    bar.play(&format!("transfer {here} {there} 20.00 → pending"));
    assert_eq!((bar.wallet(&here).available, bar.wallet(&here).reserved), (3_000, 2_000));
    assert_eq!(bar.wallet(&there).available, 0);
    bar.play("pump");
    assert_eq!((bar.wallet(&here).available, bar.wallet(&here).reserved), (3_000, 0));
    assert_eq!(bar.wallet(&there).available, 2_000);
    assert!(matches!(bar.finished.values().last(), Some(AdminAnswer::Transaction { balance: 3_000, .. })));
}

/// After the deadline the other side is asked to let it be. It had not heard of it: the money comes back.
#[test]
fn a_transfer_that_takes_too_long_is_taken_back() {
    let (mut bar, here, there) = two_sides();
    bar.play(&format!("transfer {here} {there} 20.00 → pending\n wait 30000\n tick"));
    assert_eq!(bar.wallet(&here).reserved, 2_000, "not a moment too early");
    bar.play("wait 1\n tick\n tick");
    assert_eq!(bar.wallet(&here).reserved, 2_000, "and never by the clock alone");
    bar.play(&format!("pump\n show {here} → 50.00, till-3 50.00\n balance {there} → 0.00"));
    assert_eq!(bar.finished.values().last(), Some(&AdminAnswer::Rejected(Rejection::TransferCancelled)));
}

/// It had decided already: the money is there, whatever is asked later.
#[test]
fn a_cancel_that_comes_too_late_changes_nothing() {
    let (mut bar, here, there) = two_sides();
    bar.play(&format!("transfer {here} {there} 20.00 → pending"));
    let (from, to) = (Home::Wallet(bar.wallets[&here]).shard(2), Home::Wallet(bar.wallets[&there]).shard(2));
    bar.carry(from, to, false);
    bar.play(&format!("wait 30001\n tick\n pump\n balance {here} → 30.00\n balance {there} → 20.00"));
}

/// The other side is asked once, however long it is silent: it hears what is sent until it has said that it did.
#[test]
fn a_transfer_is_cancelled_once() {
    let (mut bar, here, there) = two_sides();
    bar.play(&format!("transfer {here} {there} 20.00 → pending\n transfer {here} {there} 5.00 → pending"));
    let (from, to) = (Home::Wallet(bar.wallets[&here]).shard(2), Home::Wallet(bar.wallets[&there]).shard(2));
    let cancels = |bar: &Bar| -> Vec<u64> {
        let (_, messages) = bar.outgoing(from, to);
        messages
            .iter()
            .filter_map(|message| if let Message::Cancel { op } = message { Some(*op) } else { None })
            .collect()
    };
    assert!(cancels(&bar).is_empty());
    bar.play("wait 30001\n tick");
    let asked = cancels(&bar);
    assert_eq!((asked.len(), asked.iter().collect::<BTreeSet<_>>().len()), (2, 2), "each of them");
    for _ in 0..3 {
        let records = bar.journal.len();
        bar.play("wait 30001\n tick");
        assert_eq!((cancels(&bar), bar.journal.len()), (asked.clone(), records));
    }
    bar.play(&format!("pump\n balance {here} → 50.00\n balance {there} → 0.00"));
}

/// Messages that were delivered before, have gaps, or come from nowhere change nothing.
#[test]
fn a_delivery_is_taken_in_once_and_in_order() {
    let (mut bar, here, there) = two_sides();
    let (from, to) = (Home::Wallet(bar.wallets[&here]).shard(2), Home::Wallet(bar.wallets[&there]).shard(2));
    for _ in 0..3 {
        bar.play(&format!("transfer {here} {there} 5.00 → pending"));
    }
    let (first, messages) = bar.outgoing(from, to);
    assert_eq!(messages.len(), 3);
    let deliver = |bar: &mut Bar, from, first, messages: &[Message]| {
        let records = bar.journal.len();
        let answer = bar.batch(to, &[Command::Deliver { from, first, messages: messages.to_vec() }])[0];
        let Answer::Acked { through, .. } = answer else { panic!("{answer:?}") };
        (through, bar.journal.len() > records)
    };
    assert_eq!(deliver(&mut bar, from, first + 1, &messages[1..]), (first - 1, false), "a gap");
    assert_eq!(deliver(&mut bar, from, first, &messages[..1]), (first, true));
    assert_eq!(deliver(&mut bar, from, first, &messages[..2]), (first + 1, true), "the first is known");
    assert_eq!(deliver(&mut bar, from, first, &messages[..2]), (first + 1, false), "both are known");
    assert!(!deliver(&mut bar, ShardId(7), 1, &messages).1, "no such shard");
    assert!(!deliver(&mut bar, to, 1, &messages).1, "itself");
    for (through, happens) in [(first - 1, false), (first + 1, true), (first + 1, false), (first + 9, false)] {
        let records = bar.journal.len();
        bar.batch(from, &[Command::Delivered { to, through }]);
        assert_eq!(bar.journal.len() > records, happens, "confirmed through {through}");
    }
    bar.play(&format!("pump\n balance {there} → 15.00"));
}

/// The step says which messages its record carries: those may leave when it is durable.
#[test]
fn a_step_says_what_it_sends() {
    let (mut bar, here, there) = two_sides();
    let (from, to) = (Home::Wallet(bar.wallets[&here]).shard(2), Home::Wallet(bar.wallets[&there]).shard(2));
    let next = bar.outgoing(from, to).0;
    bar.play(&format!("transfer {here} {there} 5.00 → pending"));
    assert_eq!(bar.step.sent, [(to, next)]);
    bar.play(&format!("transfer {here} {there} 5.00 → pending"));
    assert_eq!(bar.step.sent, [(to, next + 1)]);
}

/// With no room left the office is told to come again, and a key is not spent.
#[test]
fn a_full_outbox_is_busy() {
    let (mut bar, here, there) = two_sides();
    let (from, to, festival) = (bar.wallets[&here], bar.wallets[&there], bar.festival);
    bar.play(&format!("topup {here} 500.00\n topup {here} 200.00"));
    let action = AdminAction::Cashless(CashlessAction::Transfer { from, to, festival, amount: eur(1) });
    let home = Home::Wallet(from).shard(2);
    let mut step = Step::default();
    let command =
        |key| Command::Admin(Box::new(AdminCommand { key, by: Principal::ApiKey(1), action: action.clone() }));
    for _ in 0..engine::shard::outbox::PENDING_MAX {
        bar.shards[usize::from(home.0)].step(bar.now, &[command(None)], &mut step);
        assert!(matches!(step.answers[..], [Answer::Admin { answer: AdminAnswer::Pending(_), .. }]));
    }
    let key = Some(IdempotencyKey { id: 5_000, fingerprint: 5, made_at: None });
    let busy = Answer::Admin { answer: AdminAnswer::Rejected(Rejection::Busy), repeated: false };
    for _ in 0..2 {
        bar.shards[usize::from(home.0)].step(bar.now, &[command(key)], &mut step);
        assert_eq!((&step.answers[..], step.events), (&[busy][..], 0));
    }
}

// ---- every order of a few steps ----

/// What is under way between the two shards.
#[derive(Clone, Debug, PartialEq)]
enum Packet {
    Messages { from: u16, first: u64, messages: Vec<Message> },
    Ack { to: u16, through: u64 },
}

#[derive(Clone)]
struct World {
    shards: [Shard; 2],
    network: Vec<Packet>,
    /// How many of the deeds have been done.
    done: usize,
    late: bool,
    depth: u32,
}

impl World {
    fn key(&self) -> ([u8; 32], [u8; 32], String, usize, bool) {
        let mut network: Vec<String> = self.network.iter().map(|packet| format!("{packet:?}")).collect();
        network.sort();
        let [a, b] = &self.shards;
        (hash_without_seq(a), hash_without_seq(b), network.join("|"), self.done, self.late)
    }
}

/// Two records in one order or one record with both are the same state here.
fn hash_without_seq(shard: &Shard) -> [u8; 32] {
    let bytes = shard.snapshot();
    let seq = shard.seq();
    let len = (1..=10).find(|len| seq >> (7 * len) == 0).expect("64 bits");
    Shard::hash_of(&[&bytes[..1], &bytes[1 + len..]].concat())
}

const NETWORK_MAX: usize = 2;

/// Explores every order of: the deeds one after the other, sending, delivering once or twice, losing, time passing the
/// deadline, and a shard that restarts from its snapshot. `check` looks at each state, `end` at what it comes to when
/// the network works again.
fn explore(bar: &Bar, deeds: &[Command], depth: u32, check: &dyn Fn(&[Shard; 2]), end: &dyn Fn(&[Shard; 2])) -> usize {
    let shards = [bar.shards[0].clone(), bar.shards[1].clone()];
    let first = World { shards, network: Vec::new(), done: 0, late: false, depth: 0 };
    let mut seen = BTreeSet::from([first.key()]);
    let mut queue = VecDeque::from([first]);
    let mut step = Step::default();
    let now = |late| if late { bar.now.plus_ms(60_000) } else { bar.now };
    while let Some(world) = queue.pop_front() {
        check(&world.shards);
        let mut ended = world.clone();
        settle(&mut ended, deeds, now(true), &mut step);
        end(&ended.shards);
        if world.depth == depth {
            continue;
        }
        let mut go = |change: &mut dyn FnMut(&mut World, &mut Step)| {
            let mut next = world.clone();
            next.depth += 1;
            change(&mut next, &mut step);
            if next.network.len() <= NETWORK_MAX && seen.insert(next.key()) {
                queue.push_back(next);
            }
        };
        if let Some(deed) = deeds.get(world.done) {
            go(&mut |next, step| {
                let home = usize::from(deed.home().expect("somebody's").shard(2).0);
                next.shards[home].step(now(next.late), core::slice::from_ref(deed), step);
                next.done += 1;
            });
        }
        for from in 0..2_u16 {
            let (first, messages) = world.shards[usize::from(from)].outgoing(ShardId(1 - from));
            let messages: Vec<Message> = messages.cloned().collect();
            let packet = Packet::Messages { from, first, messages };
            let empty = matches!(&packet, Packet::Messages { messages, .. } if messages.is_empty());
            if !empty && !world.network.contains(&packet) {
                go(&mut |next, _| next.network.push(packet.clone()));
            }
        }
        for at in 0..world.network.len() {
            go(&mut |next, _| drop(next.network.swap_remove(at))); // lost
            for kept in [true, false] {
                go(&mut |next, step| {
                    let packet = if kept { next.network[at].clone() } else { next.network.swap_remove(at) };
                    deliver(next, packet, now(next.late), step);
                });
            }
        }
        if !world.late {
            go(&mut |next, step| {
                next.late = true;
                for shard in &mut next.shards {
                    shard.step(now(true), &[Command::Tick], step);
                }
            });
        }
    }
    seen.len()
}

fn deliver(world: &mut World, packet: Packet, now: Timestamp, step: &mut Step) {
    match packet {
        Packet::Messages { from, first, messages } => {
            let at = usize::from(1 - from);
            // A restart on the way changes nothing.
            world.shards[at] = Shard::restore(&world.shards[at].snapshot()).expect("our own");
            world.shards[at].step(now, &[Command::Deliver { from: ShardId(from), first, messages }], step);
            let Answer::Acked { through, .. } = step.answers[0] else { panic!("{:?}", step.answers) };
            let ack = Packet::Ack { to: 1 - from, through };
            if !world.network.contains(&ack) {
                world.network.push(ack);
            }
        }
        Packet::Ack { to, through } => {
            world.shards[usize::from(1 - to)].step(now, &[Command::Delivered { to: ShardId(to), through }], step);
        }
    }
}

/// The network works again: whatever is left to be said arrives.
fn settle(world: &mut World, deeds: &[Command], now: Timestamp, step: &mut Step) {
    for deed in &deeds[world.done..] {
        let home = usize::from(deed.home().expect("somebody's").shard(2).0);
        world.shards[home].step(now, core::slice::from_ref(deed), step);
    }
    for _ in 0..20 {
        for from in 0..2_u16 {
            let (first, messages) = world.shards[usize::from(from)].outgoing(ShardId(1 - from));
            let messages: Vec<Message> = messages.cloned().collect();
            if messages.is_empty() {
                continue;
            }
            deliver(world, Packet::Messages { from, first, messages }, now, step);
            let ack = world.network.pop().expect("just pushed, or there before");
            deliver(world, ack, now, step);
        }
    }
    for shard in &world.shards {
        assert!(shard.cashless().ops.is_empty(), "every operation ends: {:?}", shard.cashless().ops);
    }
}

/// What is in wallets, and what is on the way: never less than nothing, nor more than its senders have reserved.
fn money(shards: &[Shard; 2]) -> (i128, i128) {
    let (mut available, mut reserved, mut in_transit) = (0, 0, 0);
    for shard in shards {
        for wallet in shard.cashless().wallets.iter() {
            assert!(wallet.available >= 0 && wallet.reserved >= 0);
            available += i128::from(wallet.available);
            reserved += i128::from(wallet.reserved);
        }
        for (_, festival) in shard.cashless().directory.festivals() {
            assert_eq!(festival.ledger.sum(), 0);
            in_transit += festival.ledger.view().in_transit;
        }
    }
    assert!((0..=reserved).contains(&in_transit), "{in_transit} on the way, {reserved} reserved");
    (available, in_transit)
}

fn transfer(bar: &Bar, from: &str, to: &str, minor: i64, key: u128) -> Command {
    let (from, to, festival) = (bar.wallets[from], bar.wallets[to], bar.festival);
    let action = AdminAction::Cashless(CashlessAction::Transfer { from, to, festival, amount: eur(minor) });
    let key = Some(IdempotencyKey { id: key, fingerprint: 1, made_at: None });
    Command::Admin(Box::new(AdminCommand { key, by: Principal::ApiKey(1), action }))
}

#[test]
fn no_order_of_deliveries_makes_or_loses_money() {
    let (bar, here, there) = two_sides();
    let block = CashlessAction::Block { wallet: bar.wallets[&there], blocked: true };
    let key = Some(IdempotencyKey { id: 902, fingerprint: 1, made_at: None });
    let block =
        Command::Admin(Box::new(AdminCommand { key, by: Principal::ApiKey(1), action: AdminAction::Cashless(block) }));
    // One there and one back; and one that the other side may have, or not, by when it hears of it.
    for deeds in [
        [transfer(&bar, &here, &there, 2_000, 900), transfer(&bar, &there, &here, 500, 901)],
        [transfer(&bar, &here, &there, 2_000, 900), block],
    ] {
        let states = explore(
            &bar,
            &deeds,
            9,
            &|shards| {
                let (available, in_transit) = money(shards);
                assert_eq!(available + in_transit, 5_000, "money is neither made nor lost");
            },
            &|shards| assert_eq!(money(shards), (5_000, 0), "and none is left on the way"),
        );
        assert!(states > 1_000, "{states} states are too few");
    }
}

#[test]
fn no_order_of_deliveries_gives_a_tag_two_wallets() {
    let (mut bar, here, there) = two_sides();
    let tag = (0..=u8::MAX)
        .filter_map(|n| TagUid::new(&[9, 9, 9, n]))
        .find(|tag| Home::Tag(*tag).shard(2) != Home::Wallet(bar.wallets[&here]).shard(2))
        .expect("one of them");
    let other = TagUid::new(&[1, 2, 3, 4]).unwrap();
    bar.tags = BTreeMap::from([("T".into(), tag), ("U".into(), other)]);
    let admin = |action, id| {
        let key = Some(IdempotencyKey { id, fingerprint: 1, made_at: None });
        Command::Admin(Box::new(AdminCommand { key, by: Principal::ApiKey(1), action: AdminAction::Cashless(action) }))
    };
    let festival = bar.festival;
    let link = |tag, wallet: &str, replace| CashlessAction::LinkTag {
        tag,
        wallet: bar.wallets[wallet],
        festival,
        replace,
        create: false,
    };
    let deeds = [
        admin(link(tag, &here, false), 900),
        admin(link(tag, &there, false), 901),
        admin(link(other, &here, true), 902),
        admin(CashlessAction::ReportLost { wallet: bar.wallets[&here] }, 903),
    ];
    let names = |shards: &[Shard; 2]| {
        let mut holders = BTreeSet::new();
        for wallet in shards.iter().flat_map(|shard| shard.cashless().wallets.iter()) {
            if let Some((tag, _)) = wallet.tag().filter(|_| !wallet.is_tag_lost()) {
                assert!(holders.insert(tag), "a chip is one wallet's");
            }
        }
        holders
    };
    let states = explore(&bar, &deeds, 8, &|shards| drop(names(shards)), &|shards| {
        let holders = names(shards);
        let linked: BTreeSet<TagUid> =
            shards.iter().flat_map(|shard| shard.cashless().tags.linked_ones().map(|(tag, ..)| tag)).collect();
        let lost = |tag: &TagUid| shards.iter().any(|shard| shard.cashless().tags.is_lost(*tag));
        let linked: BTreeSet<TagUid> = linked.into_iter().filter(|tag| !lost(tag)).collect();
        assert_eq!(holders, linked, "both sides say the same");
    });
    assert!(states > 1_000, "{states} states are too few");
}
