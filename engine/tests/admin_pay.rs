//! Somebody pays from an app or at a help desk: what a terminal would have decided, without a terminal.

mod bar;
use std::collections::BTreeSet;

use bar::{Bar, eur};
use engine::cashless::command::*;
use engine::command::*;
use engine::model::ids::TransactionId;
use engine::model::principal::Principal;
use engine::model::time::Timestamp;
use engine::view::{Query, View};

#[test]
fn paid_at_the_help_desk() {
    for shards in [1, 2, 5, 16] {
        Bar::open(shards).play(
            "
            topup W1 50.00                → 50.00
            buy W1 12.50 bar-7 as P1      → 37.50
            buy W1 7.50 bar-7 lines 0x1@5.00,1x1@2.50 → 30.00
            payable bar-7                 → 18.00 after 2 payments and 0 refunds
            commission                    → 2.00
            refund P1 2.50 by bar-7       → 32.50
            refund P1                     → 42.50
            refund P1                     → rejected: already_refunded
            buy W1 42.51 bar-8            → rejected: insufficient_funds
            buy W1 42.50 bar-8            → 0.00
            ",
        );
    }
}

/// Line by line what the terminal at the same stand says, whatever is wrong.
#[test]
fn the_same_decision_as_a_terminals() {
    let amounts = [
        "0.00",
        "-1.00",
        "10000000000.00",
        "9999999999.99",
        "0.01",
        "1.99",
        "10.00",
        "10.00 in USD",
        "9.99 lines 0x2@5.00",
        "10.00 lines 0x2@5.00",
        "10.00 lines 0x2@5.00,1x0@2.50",
        "2.50 lines 0x1@5.00,1x1@-2.50",
        "5.00 lines 7x1@5.00",
        "60.00",
    ];
    let conditions = [
        "balance W1",
        "cashless night least 2.00",
        "product bar-7 5.00 19% no 0 off",
        "close bar-7",
        "block W1",
        "revoke bar-7b",
        "status COMPLETED",
    ];
    for shards in [1, 5] {
        let mut seen = BTreeSet::new();
        for condition in conditions {
            for wallet in ["W1", "nobody"] {
                for amount in amounts {
                    let mut said = ["pay", "buy"].map(|verb| {
                        let mut bar = Bar::open(shards);
                        bar.play(&format!("topup W1 50.00\n {condition}"));
                        let (amount, rest) = amount.split_once(' ').unwrap_or((amount, ""));
                        let line = format!("{verb} {wallet} {amount} bar-7 {rest}");
                        bar.line(&line.split_whitespace().collect::<Vec<_>>())
                    });
                    assert_eq!(said[0], said[1], "{condition}: {wallet} {amount}");
                    seen.insert(std::mem::take(&mut said[0]));
                }
            }
        }
        for code in [
            "invalid_amount",
            "wrong_currency",
            "below_min_payment",
            "lines_mismatch",
            "unknown_product",
            "vendor_closed",
            "unknown_wallet",
            "wallet_blocked",
            "insufficient_funds",
            "festival_not_active",
        ] {
            assert!(seen.contains(&format!("rejected: {code}")), "{code} was never met: {seen:?}");
        }
    }
}

#[test]
fn at_another_festival_and_at_no_stand() {
    Bar::open(3).play(
        "
        topup W1 50.00                → 50.00
        buy W1 1.00 nowhere           → rejected: unknown_vendor
        buy W1 1.00 stall             → rejected: foreign_wallet
        cashless elsewhere foreign
        buy W1 1.00 stall as P1       → 49.00
        refund P1                     → rejected: not_your_payment
        refund P1 elsewhere           → 50.00
        ",
    );
    let mut bar = Bar::bare(1);
    let wallet = engine::model::ids::WalletId(7);
    let (festival, vendor) = (bar.festival, engine::model::ids::VendorNo(0));
    let pay = CashlessAction::Pay { wallet, festival, vendor, amount: eur(100), lines: [].into() };
    assert_eq!(bar.cashless(pay), AdminAnswer::Rejected(engine::model::rejection::Rejection::NotCashless));
}

/// Whoever paid is told the vendor's number for it, and no terminal's payment has that number.
#[test]
fn the_vendors_number_is_told() {
    let mut bar = Bar::open(5);
    let mut orders = BTreeSet::new();
    for (n, wallet) in ["W1", "W2", "W3", "W4"].into_iter().cycle().take(40).enumerate() {
        if n < 4 {
            bar.play(&format!("topup {wallet} 50.00"));
        }
        let (festival, vendor) = bar.vendors["bar-7"];
        let (wallet, amount) = (bar.wallets[wallet], eur(100));
        let order = if n % 2 == 0 {
            let pay = CashlessAction::Pay { wallet, festival, vendor, amount, lines: [].into() };
            let AdminAnswer::Transaction { id, amount, order, .. } = bar.cashless(pay) else { panic!("it is paid") };
            assert_eq!(amount, eur(100));
            let View::Payment(found) = bar.query(Query::Payment(id)) else { panic!("it can be refunded") };
            assert_eq!((found.vendor, found.amount), (vendor, 100));
            order
        } else {
            let terminal = bar.terminals.get_mut("bar-7").unwrap();
            terminal.next_seq += 1;
            let (device, seq) = (terminal.id, terminal.next_seq);
            let action = TerminalAction::Pay { wallet, tap: None, amount, lines: [].into() };
            bar.terminal(TerminalCommand { device, seq, floor: 1, expires_at: Timestamp(0), action }).0.order
        };
        assert!(orders.insert(order), "a vendor's number is one payment's");
    }
    let topup = CashlessAction::TopUp {
        wallet: bar.wallets["W1"],
        festival: bar.festival,
        amount: eur(500),
        source: Source::new(SourceKind::Desk, bar.festival, 1),
        taken: false,
    };
    assert!(matches!(bar.cashless(topup), AdminAnswer::Transaction { order: 0, .. }), "a top-up is no order");
}

/// Ten thousand at once for a wallet that holds enough for exactly one, and the same key with another body.
#[test]
fn at_once_and_again() {
    let mut bar = Bar::open(3);
    bar.play("topup W1 5.00");
    let (festival, vendor) = bar.vendors["bar-8"];
    let pay = |bar: &Bar, minor| {
        let (wallet, amount) = (bar.wallets["W1"], eur(minor));
        AdminAction::Cashless(CashlessAction::Pay { wallet, festival, vendor, amount, lines: [].into() })
    };
    let command = |bar: &Bar, id| {
        let key = Some(IdempotencyKey { id, fingerprint: 1, made_at: None });
        Command::Admin(Box::new(AdminCommand { key, by: Principal::ApiKey(1), action: pay(bar, 500) }))
    };
    let home = pay(&bar, 500).home().shard(3);
    let commands: Vec<Command> = (0..10_000).map(|n| command(&bar, 1_000 + n)).collect();
    let mut paid: Vec<TransactionId> = Vec::new();
    let mut short = 0;
    for chunk in commands.chunks(1_000) {
        for answer in bar.batch(home, chunk) {
            match answer {
                Answer::Admin { answer: AdminAnswer::Transaction { id, .. }, .. } => paid.push(id),
                Answer::Admin { answer: AdminAnswer::Rejected(rejection), .. } => {
                    assert_eq!(rejection.code(), "insufficient_funds");
                    short += 1;
                }
                other => panic!("{other:?}"),
            }
        }
    }
    assert_eq!((paid.len(), short), (1, 9_999));
    let key = |fingerprint| Some(IdempotencyKey { id: 1_000, fingerprint, made_at: None });
    let (again, repeated) = bar.admin_with(key(1), pay(&bar, 500));
    assert!(repeated && matches!(again, AdminAnswer::Transaction { id, .. } if id == paid[0]), "{again:?}");
    let (other, repeated) = bar.admin_with(key(2), pay(&bar, 100));
    let conflict = engine::model::rejection::Rejection::IdempotencyConflict;
    assert_eq!((other, repeated), (AdminAnswer::Rejected(conflict), false));
    bar.play("balance W1 → 0.00\n payable bar-8 → 5.00 after 1 payments and 0 refunds");
}
