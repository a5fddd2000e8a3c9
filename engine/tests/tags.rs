//! A wristband is one thing, whatever it names and wherever that lives: one register for its wallet and its ticket. Each
//! table is played over one shard and over many, so that all of it is one record or all of it goes by messages.

mod bar;

use bar::Bar;
use engine::cashless::command::*;
use engine::command::*;
use engine::gates::command::*;
use engine::model::ids::*;
use engine::shard::outbox::Message;

fn nights(script: &str) {
    for shards in [1, 2, 3, 5, 16] {
        let mut bar = Bar::open(shards).with_gate();
        bar.play(script);
        bar.take_snapshots();
        bar.play("tick");
    }
}

#[test]
fn one_wristband_for_ticket_and_wallet() {
    nights(
        "
        bind A T1
        link A W1
        topup W1 50.00
        enter A                 → admitted
        pay A 5.00 bar-7        → 45.00
        tag-of A                → linked w1 1 t1
        # Each names one at most, and the same again is no harm.
        bind A T1               → done
        bind A T2               → rejected: tag_taken
        link A W2               → rejected: tag_taken
        exit A                  → exited
        enter Z                 → rejected: unknown_tag
        ",
    );
}

#[test]
fn reported_lost_by_its_wallet_it_opens_no_gate() {
    nights(
        "
        bind A T1
        link A W1
        topup W1 50.00
        lost W1                 → done
        enter A                 → rejected: tag_lost
        pay A 5.00 bar-7        → rejected: unknown_wallet # it names none any more; the wallet itself:
        pay W1 5.00 bar-7 tap A@1 → rejected: tag_lost
        bind A T2               → rejected: tag_lost
        link A W2               → rejected: tag_lost
        bind A T1               → rejected: tag_lost
        lost W1                 → done
        lost ticket T1          → done
        tag-of A                → lost - 1 t1
        ",
    );
}

#[test]
fn reported_lost_by_its_ticket_it_pays_for_nothing() {
    nights(
        "
        bind A T1
        link A W1
        topup W1 50.00
        enter A                 → admitted
        lost ticket T1          → done
        pay W1 5.00 bar-7 tap A@1 → rejected: tag_lost
        enter A                 → rejected: tag_lost
        exit A                  → exited # nobody is held back
        link A W2               → rejected: tag_lost
        lost ticket T2          → rejected: unknown_tag
        # One that names a ticket alone, and one that names a wallet alone.
        bind B T2
        lost ticket T2          → done
        enter B                 → rejected: tag_lost
        link B W2               → rejected: tag_lost
        link C W3
        lost W3                 → done
        bind C T3               → rejected: tag_lost
        enter C                 → rejected: unknown_tag
        ",
    );
}

#[test]
fn reported_lost_by_its_own_number() {
    nights(
        "
        bind A T1
        link A W1
        topup W1 50.00
        lost tag A              → done
        lost tag A              → done
        enter A                 → rejected: tag_lost
        pay W1 5.00 bar-7 tap A@1 → rejected: tag_lost
        lost tag Z              → rejected: unknown_tag
        bind B T2
        lost tag B              → done
        enter B                 → rejected: tag_lost
        ",
    );
}

#[test]
fn replacing_moves_ticket_and_wallet_in_one_call() {
    nights(
        "
        bind A T1
        link A W1
        topup W1 50.00
        # The wallet gets another wristband, and the ticket comes along.
        link B W1 replace       → done
        tag-of B                → linked w1 1 t1
        tag-of A                → free - 1
        enter A                 → rejected: unknown_tag
        enter B                 → admitted
        pay B 5.00 bar-7        → 45.00
        # The ticket gets another one, and the wallet comes along.
        bind C T1               → done
        tag-of C                → linked w1 1 t1
        tag-of B                → free - 1
        exit C                  → exited
        pay C 5.00 bar-7        → 40.00
        pay W1 5.00 bar-7 tap B@1 → rejected: tag_moved
        # What is free again is anybody's.
        bind A T2               → done
        link A W2               → done
        ",
    );
}

#[test]
fn what_was_lost_is_replaced_whole() {
    nights(
        "
        bind A T1
        link A W1
        topup W1 50.00
        lost W1                 → done
        link B W1               → done
        tag-of B                → linked w1 1 t1
        tag-of A                → lost - 1
        enter B                 → admitted
        pay B 5.00 bar-7        → 45.00
        enter A                 → rejected: tag_lost
        exit A                  → rejected: tag_lost
        lost ticket T1          → done
        bind C T1               → done
        tag-of C                → linked w1 1 t1
        exit C                  → exited
        pay C 5.00 bar-7        → 40.00
        ",
    );
}

/// The one that takes the place names something of that kind already: that stays, and so does the other.
#[test]
fn what_a_wristband_names_already_is_not_pushed_out() {
    nights(
        "
        bind A T1
        link A W1
        bind B T2
        link B W1 replace       → done
        tag-of B                → linked w1 1 t2
        tag-of A                → free - 1 t1
        enter A                 → admitted
        ",
    );
}

/// Nobody takes another organiser's guest their wristband, or makes it refused there.
#[test]
fn a_wristband_is_one_festivals() {
    nights(
        "
        bind A T1
        wallet F elsewhere
        link A F elsewhere      → rejected: tag_taken
        link B F elsewhere      → done
        bind B T2               → rejected: tag_taken
        bind B E1               → done
        tag-of B                → linked f 1 e1
        bind A E2               → rejected: tag_taken
        ",
    );
}

/// The answer to a loss comes when the gates know, and not before.
#[test]
fn a_loss_is_answered_when_the_gates_refuse() {
    let mut seen_pending = 0;
    for shards in [2, 3, 5, 16] {
        let mut bar = Bar::open(shards).with_gate();
        bar.play("bind A T1\n link A W1");
        bar.quiet = false;
        let wallet = bar.wallets["W1"];
        let mut answer = bar.cashless(CashlessAction::ReportLost { wallet });
        let home = Home::Wallet(wallet).shard(shards);
        let ids: Vec<ShardId> = (0..shards).map(ShardId).collect();
        for _ in 0..10 {
            if let AdminAnswer::Pending(op) = answer {
                seen_pending += 1;
                answer = bar.finished.get(&(home, op)).copied().unwrap_or(answer);
            }
            if answer == AdminAnswer::Done {
                assert!(
                    bar.shards
                        .iter()
                        .flat_map(engine::shard::Shard::festivals)
                        .any(|festival| { festival.id == bar.festival && festival.lost_tags.contains(&bar.tags["A"]) })
                );
            }
            for &from in &ids {
                for &to in ids.iter().filter(|to| **to != from) {
                    bar.carry(from, to, true);
                }
            }
        }
        assert_eq!(answer, AdminAnswer::Done);
        bar.quiet = true;
        bar.play("enter A → rejected: tag_lost");
    }
    assert!(seen_pending > 3, "it did have to wait: {seen_pending}");
}

/// Messages of several calls under way at once, in many orders: afterwards the register, the wallets and the gates agree
/// (the audit says so), and nobody waits any more.
#[test]
fn however_calls_and_messages_meet_all_agree_in_the_end() {
    let mut carried = 0;
    for seed in 0..60_u64 {
        let mut draws = 0_u32;
        let mut draw = |below: u64| {
            draws += 1;
            nonce_at(seed, draws) % below
        };
        let shards = [2, 3, 5][(seed % 3) as usize];
        let mut bar = Bar::open(shards).with_gate();
        bar.play("bind A T1\n link A W1\n bind B T2\n link C W2");
        bar.quiet = false;
        let tags: Vec<TagUid> = (0..5).map(|n| TagUid::new(&[4, 7, 7, 7, 7, 7, n]).unwrap()).collect();
        let tags: Vec<TagUid> = tags.into_iter().chain(bar.tags.values().copied()).collect();
        for _ in 0..60 {
            let (tag, festival) = (tags[draw(tags.len() as u64) as usize], bar.festival);
            let wallet = bar.wallets[["W1", "W2", "W3"][draw(3) as usize]];
            let ticket = bar.tickets[["T1", "T2", "T3"][draw(3) as usize]];
            match draw(12) {
                0 => {
                    let _ =
                        bar.cashless(CashlessAction::LinkTag { tag, wallet, festival, replace: true, create: false });
                }
                1 => drop(bar.admin(AdminAction::BindTag { ticket, tag })),
                2 if draw(4) == 0 => drop(bar.cashless(CashlessAction::ReportLost { wallet })),
                3 if draw(4) == 0 => drop(bar.admin(AdminAction::ReportTicketTagLost { ticket })),
                4 if draw(6) == 0 => drop(bar.cashless(CashlessAction::ReportTagLost { tag })),
                5 => drop(bar.at_gate(tag, Direction::Enter)),
                6 => drop(bar.at_gate(tag, Direction::Exit)),
                _ => {
                    let (from, to) = (draw(u64::from(shards)) as u16, draw(u64::from(shards)) as u16);
                    if from != to {
                        let messages = bar.outgoing(ShardId(from), ShardId(to)).1;
                        let carries = |message: &&Message| matches!(message, Message::Carry { named: Some(_), .. });
                        carried += messages.iter().filter(carries).count();
                        bar.carry(ShardId(from), ShardId(to), draw(3) > 0);
                    }
                }
            }
        }
        bar.pump();
        for shard in &bar.shards {
            assert!(shard.cashless().ops.is_empty(), "seed {seed}: somebody still waits: {:?}", shard.cashless().ops);
        }
        bar.replays();
        let report = bar.audit(&[]);
        assert!(report.holds(), "seed {seed}: {:#?}", report.violations);
    }
    assert!(carried > 5, "{carried} times something came along");
}
