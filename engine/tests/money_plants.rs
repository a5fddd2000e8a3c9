//! Each known bug about money is found by the audit, which reads nothing but the journal.
//!
//! `cargo test -p engine --features plants --test money_plants`
#![cfg(feature = "plants")]

mod bar;

use std::collections::BTreeSet;
use std::panic::{AssertUnwindSafe, catch_unwind};

use bar::Bar;
use engine::command::{Answer, Command};
use engine::model::ids::{Home, WalletId};
use engine::plants::{Plant, wake};

/// A night with a bit of everything, over two shards. Nobody looks at the answers.
fn night() -> Bar {
    let mut bar = Bar::open(2);
    let home = |bar: &Bar, name: &str| Home::Wallet(bar.wallets[name]).shard(2);
    let there = ["W2", "W3", "W4"].into_iter().find(|name| home(&bar, name) != home(&bar, "W1")).expect("one is apart");
    let play = |bar: &mut Bar, script: &str| {
        for line in script.lines().map(str::trim).filter(|line| !line.is_empty()) {
            bar.line(&line.replace("THERE", there).split_whitespace().collect::<Vec<_>>());
            if bar.quiet {
                bar.pump();
            }
        }
    };
    play(
        &mut bar,
        "
        topup W1 50.00
        topup W1 50.00 from card number 9
        topup THERE 20.00
        pay W1 12.34 bar-7 as P1
        pay W1 12.34 bar-7 seq 900
        pay W1 12.34 bar-7 seq 900
        refund P1 5.00 by bar-7
        refund P1 20.00 by bar-7
        pay W1 900.00 bar-8
        transfer W1 THERE 10.00
        link T1 W1
        pay T1 1.00 bar-7
        link T2 W1 replace
        pay W1 1.00 bar-7 tap T1@1
        gift W1 2.00 why
        topup W1 5.00
        pay W1 1.00 bar-7
        gift W4 1.00 why
        cashout W4
        lost W1
        pay W1 1.00 bar-7 tap T2@1
        block THERE
        pay THERE 1.00 bar-7
        transfer W1 THERE 5.00
        unblock THERE
        revoke bar-7b
        pay W1 1.00 bar-7b
        pay THERE 1.00 bar-7b
        ",
    );
    // A transfer that is cancelled before it was heard of, one after, and a delivery that comes twice.
    let (from, to) = (home(&bar, "W1"), home(&bar, there));
    bar.quiet = false;
    play(&mut bar, "transfer W1 THERE 2.00\n wait 40000\n tick");
    bar.pump();
    play(&mut bar, "transfer W1 THERE 3.00");
    let (first, messages) = bar.outgoing(from, to);
    let deliver = Command::Deliver { from, first, messages };
    for _ in 0..2 {
        let answer = bar.batch(to, core::slice::from_ref(&deliver))[0];
        assert!(matches!(answer, Answer::Acked { .. }));
    }
    play(&mut bar, "wait 40000\n tick");
    bar.pump();
    // What is booked in one shard only keeps a currency; where nothing is, nothing is meanwhile.
    let festival = bar.elsewhere;
    let far = (1 << 32..).map(WalletId).find(|id| Home::Wallet(*id).shard(2) != Home::Festival(festival).shard(2));
    bar.wallets.insert("FAR".into(), far.expect("one is apart"));
    play(&mut bar, "wallet FAR elsewhere\n cashless elsewhere in CHF");
    let (home, there) = (Home::Festival(festival).shard(2), home(&bar, "FAR"));
    bar.carry(home, there, true);
    play(&mut bar, "topup FAR 20.00 from desk elsewhere");
    bar.pump();
    bar.quiet = true;
    play(&mut bar, "topup FAR 20.00 from desk elsewhere in CHF\n cashless elsewhere in JPY");
    bar
}

/// What the audit says of such a night; a panic of a shard is no less loud.
fn found(plant: Option<Plant>) -> BTreeSet<String> {
    wake(plant);
    let found = catch_unwind(AssertUnwindSafe(|| {
        let report = night().audit(&[]);
        report.violations.iter().map(|found| found.check.to_owned()).collect()
    }));
    wake(None);
    found.unwrap_or_else(|_| BTreeSet::from(["panicked".to_owned()]))
}

#[test]
fn the_audit_finds_each_of_them() {
    std::panic::set_hook(Box::new(|_| ()));
    assert_eq!(found(None), BTreeSet::new());
    for (plant, check) in [
        (Plant::RefundOnAClock, "transfer"),
        (Plant::NoTombstone, "transfer"),
        (Plant::CreditForgotten, "transfer"),
        (Plant::HighWaterLost, "messages"),
        (Plant::PostingOffByOne, "posting"),
        (Plant::NegativeBalance, "funds"),
        (Plant::TerminalDedupeIgnored, "once"),
        (Plant::RefundBeyondPayment, "refund"),
        (Plant::TagVersionIgnored, "tag"),
        (Plant::LotsLost, "refund"),
        (Plant::BlockIgnored, "revoked"),
        (Plant::DirectoryStale, "revoked"),
        (Plant::LostTagPays, "tag"),
        (Plant::ReservedForGood, "replay"),
        (Plant::GiftPaidOut, "lots"),
        (Plant::GiftSpentLast, "lots"),
        (Plant::CurrencyForgets, "currency"),
        (Plant::CurrencyNotHeld, "currency"),
    ] {
        let found = found(Some(plant));
        assert!(found.contains(check), "{}: {found:?}", plant.word());
    }
}
