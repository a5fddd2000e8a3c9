//! Nights at the bar: what each command comes to, and what it is refused for.

mod bar;
use bar::{Bar, eur};
use engine::cashless::command::*;
use engine::command::*;
use engine::gates::command::*;
use engine::model::ids::*;
use engine::model::principal::Principal;
use engine::model::rejection::Rejection;
use engine::model::time::Timestamp;
use engine::view::{Query, View};

/// The same night whatever the number of shards.
fn nights(script: &str) {
    for shards in [1, 2, 5, 16] {
        Bar::open(shards).play(script);
    }
}

#[test]
fn an_evening() {
    nights(
        "
        topup W1 50.00                → 50.00
        pay W1 12.50 bar-7 as P1      → 37.50
        pay W1 40.00 bar-7            → rejected: insufficient_funds
        pay W1 7.50 bar-7 lines 0x1@5.00,1x1@2.50 → 30.00
        refund P1 2.50 by bar-7       → 32.50
        refund P1 by bar-7b           → 42.50
        refund P1 by bar-7            → rejected: already_refunded
        payable bar-7                 → 6.75 after 2 payments and 2 refunds
        commission                    → 0.75
        transfer W1 W2 20.00          → 22.50
        balance W2                    → 20.00
        transfer W1 W3 20.00          → 2.50
        transfer W3 W1 20.00          → 0.00
        correct W2 -5.00 miscounted   → 15.00
        cashout W2                    → 0.00
        cashout W2                    → rejected: nothing_left
        ",
    );
}

#[test]
fn what_comes_too_late_is_not_done_and_is_remembered() {
    nights(
        "
        topup W1 50.00                → 50.00
        pay W1 1.00 bar-7 left 0 as P1 → 49.00
        pay W1 1.00 bar-7 left -1     → rejected: expired
        pay W1 1.00 bar-7 left -1 seq 9 → rejected: expired
        pay W1 1.00 bar-7 left 60000 seq 9 → rejected: expired, again # its time is no part of the question
        pay W1 1.00 bar-7 left 5 seq 10 → 48.00
        wait 6
        pay W1 1.00 bar-7 left -6 seq 10 → 48.00, again # and a yes stays one
        link T1 W1
        pay T1 1.00 bar-7 left -1     → rejected: expired
        refund P1 1.00 by bar-7 left -1 → 49.00 # a refund has no such time
        balance W1                    → 49.00
        ",
    );
}

#[test]
fn what_a_payment_is_refused_for() {
    nights(
        "
        topup W1 50.00                → 50.00
        # amounts
        pay W1 0.00 bar-7             → rejected: invalid_amount
        pay W1 -1.00 bar-7            → rejected: invalid_amount
        pay W1 10000000000.00 bar-7   → rejected: invalid_amount
        pay W1 9999999999.99 bar-7    → rejected: insufficient_funds
        pay W1 1.00 bar-7 in USD      → rejected: wrong_currency
        pay W1 50.01 bar-7            → rejected: insufficient_funds
        cashless night least 2.00
        pay W1 1.99 bar-7             → rejected: below_min_payment
        cashless night
        # lines
        pay W1 9.99 bar-7 lines 0x2@5.00  → rejected: lines_mismatch
        pay W1 10.00 bar-7 lines 0x2@5.00,1x0@2.50 → rejected: lines_mismatch
        pay W1 2.50 bar-7 lines 0x1@5.00,1x1@-2.50 → rejected: lines_mismatch
        pay W1 5.00 bar-7 lines 7x1@5.00  → rejected: unknown_product
        product bar-7 5.00 19% no 0 off
        pay W1 5.00 bar-7 lines 0x1@5.00  → rejected: unknown_product
        # vendor
        pay W1 1.00 desk              → rejected: unknown_vendor
        close bar-7
        pay W1 1.00 bar-7             → rejected: vendor_closed
        open bar-7
        pay W1 1.00 bar-7             → 49.00
        # wallet
        pay nobody 1.00 bar-7         → rejected: unknown_wallet
        block W1
        pay W1 1.00 bar-7             → rejected: wallet_blocked
        topup W1 10.00                → rejected: wallet_blocked
        cashout W1                    → rejected: wallet_blocked
        transfer W1 W2 1.00           → rejected: wallet_blocked
        balance W1                    → 49.00
        unblock W1
        pay W1 1.00 bar-7             → 48.00
        # festival
        status COMPLETED
        pay W1 1.00 bar-7             → rejected: festival_not_active
        topup W1 10.00                → rejected: festival_not_active
        cashout W1                    → 0.00
        ",
    );
}

/// A terminal of another festival reaches nothing of this one.
#[test]
fn a_terminal_of_another_festival() {
    nights(
        "
        topup W1 50.00                → 50.00
        pay W1 10.00 bar-7 as P1      → 40.00
        pay W1 1.00 stall             → rejected: unknown_wallet
        topup W1 10.00 by far-desk    → rejected: unknown_wallet
        balance W1 by stall           → rejected: unknown_wallet
        refund P1 by stall            → rejected: not_your_payment
        refund P1 1.00 elsewhere      → rejected: not_your_payment
        transfer W1 W2 1.00 elsewhere → rejected: foreign_wallet
        cashout W1 elsewhere          → rejected: foreign_wallet
        cashless elsewhere foreign
        pay W1 1.00 stall as P2       → 39.00
        refund P2 by bar-7            → rejected: not_your_payment
        refund P2 by stall            → 40.00
        pay W1 1.00 stall as P3       → 39.00
        cashless elsewhere
        refund P3 elsewhere           → 40.00
        ",
    );
    let mut bar = Bar::open(5);
    let (wallet, amount, lines) = (bar.wallets["W1"], eur(100), [].into());
    let device = DeviceId::new(bar.elsewhere, 99);
    let action = TerminalAction::Pay { wallet, tap: None, amount, lines };
    let (answer, _) = bar.terminal(TerminalCommand { device, seq: 1, floor: 1, expires_at: Timestamp(0), action });
    assert_eq!(answer.verdict, CashlessVerdict::Rejected(Rejection::UnknownDevice), "never enrolled");
}

#[test]
fn what_a_top_up_is_refused_for() {
    nights(
        "
        topup W1 4.99                 → rejected: below_min_topup
        topup W1 500.01               → rejected: above_max_topup
        topup W1 500.00               → 500.00
        topup W1 500.00               → 1000.00
        topup W1 5.00                 → rejected: above_max_balance
        topup W1 5.00 by bar-7        → rejected: not_a_cashier
        topup W1 5.00 in CHF          → rejected: wrong_currency
        topup W1 0.00                 → rejected: invalid_amount
        topup W1 10000000000.00       → rejected: invalid_amount
        topup nobody 5.00             → rejected: unknown_wallet
        topup W1 5.00 from desk       → rejected: above_max_balance
        topup W1 2.00 from card       → rejected: below_min_topup
        topup W1 5.00 from correction → rejected: invalid_value
        # what has been taken already is always credited
        topup W1 600.00 from card taken → 1600.00, over_limit
        block W1
        topup W1 1.00 from card taken → 1601.00, over_limit
        unblock W1
        pay W1 1500.00 bar-8 as P1    → 101.00
        topup W1 500.00               → 601.00
        refund P1 by bar-8            → 2101.00, over_limit
        ",
    );
}

/// What comes back by name is given back once, however often it is said.
#[test]
fn a_refund_names_what_comes_back() {
    nights(
        "
        topup W1 50.00                    → 50.00
        pay W1 17.50 bar-7 lines 0x3@5.00,1x1@2.50 as P1 → 32.50
        refund P1 lines 0x1@5.00/3 by bar-7 seq 90 → 37.50
        refund P1 lines 0x1@5.00/3 by bar-7 seq 90 → 37.50, again
        refund P1 lines 0x2@5.00/3 by bar-7 seq 90 → rejected: idempotency_conflict
        refund P1 lines 0x1@5.00/3 by bar-8 → rejected: not_your_payment
        refund P1 4.00 lines 0x1@5.00/3 by bar-7 → rejected: lines_mismatch
        refund P1 lines 0x3@5.00/3 by bar-7 → rejected: refund_exceeds_payment
        refund P1 lines 0x3@5.00/3        → rejected: refund_exceeds_payment
        refund P1 lines 0x1@5.00/3,0x2@5.00/3 → rejected: refund_exceeds_payment
        refund P1 lines 0x0@5.00/3        → rejected: lines_mismatch
        refund P1 4.00 lines 0x1@5.00/3   → rejected: lines_mismatch
        refund P1 10.00                   → 47.50
        # Only 2.50 are left, whatever they were for.
        refund P1 lines 0x1@5.00/3        → rejected: refund_exceeds_payment
        refund P1 lines 1x1@2.50/1        → 50.00
        refund P1 lines 1x1@2.50/1        → rejected: already_refunded
        ",
    );
}

#[test]
fn what_a_refund_is_refused_for() {
    nights(
        "
        topup W1 50.00 as T1          → 50.00
        pay W1 10.00 bar-7 as P1      → 40.00
        refund P1 by bar-8            → rejected: not_your_payment
        refund P1 by desk             → rejected: not_your_payment
        refund P1 0.00 by bar-7       → rejected: invalid_amount
        refund P1 -1.00 by bar-7      → rejected: invalid_amount
        refund P1 1.00 by bar-7 in USD → rejected: wrong_currency
        refund P1 10.01 by bar-7      → rejected: refund_exceeds_payment
        refund P1 6.00 by bar-7       → 46.00
        refund P1 4.01 by bar-7b      → rejected: refund_exceeds_payment
        refund P1 4.01                → rejected: refund_exceeds_payment
        block W1
        refund P1 4.00                → 50.00   # money goes back to a blocked wallet too
        refund P1                     → rejected: already_refunded
        refund P1 1.00 by bar-7       → rejected: already_refunded
        ",
    );
    for shards in [1, 5] {
        let mut bar = Bar::open(shards);
        bar.play("topup W1 50.00\n pay W1 10.00 bar-7 as P1\n refund P1 1.00 by bar-7");
        let paid = bar.payments["P1"];
        let not = |serial, bar: &Bar| TransactionId { wallet: bar.wallets["W1"], serial };
        bar.payments.insert("top-up".into(), not(paid.serial - 1, &bar));
        bar.payments.insert("refund".into(), not(paid.serial + 1, &bar));
        bar.payments.insert("future".into(), not(paid.serial + 2, &bar));
        let forged = TransactionId { wallet: bar.wallets["W2"], serial: paid.serial };
        bar.payments.insert("nobody's".into(), TransactionId { wallet: WalletId(77), serial: paid.serial });
        bar.play(
            "
            refund top-up by bar-7   → rejected: not_a_payment
            refund refund by bar-7   → rejected: not_a_payment
            refund future by bar-7   → rejected: unknown_transaction
            refund nobody's by bar-7 → rejected: unknown_transaction
            refund nobody's          → rejected: unknown_transaction
            ",
        );
        if shards == 1 {
            bar.payments.insert("forged".into(), forged);
            bar.play("refund forged by bar-7 → rejected: unknown_transaction");
        }
    }
}

/// Two terminals refund the same payment at the same moment: together no more than was paid.
#[test]
fn a_refund_twice_at_once() {
    let mut bar = Bar::open(3);
    bar.play("topup W1 50.00\n pay W1 10.00 bar-7 as P1");
    let payment = bar.payments["P1"];
    let refund = |bar: &Bar, terminal: &str| {
        let terminal = bar.terminals[terminal];
        let action = TerminalAction::Refund { payment, amount: Some(eur(600)), lines: [].into() };
        Command::Terminal(TerminalCommand {
            device: terminal.id,
            seq: terminal.next_seq,
            floor: 1,
            expires_at: Timestamp(0),
            action,
        })
    };
    let both = [refund(&bar, "bar-7"), refund(&bar, "bar-7b")];
    let home = both[0].home().unwrap().shard(3);
    let answers = bar.batch(home, &both);
    let verdicts: Vec<_> = answers
        .iter()
        .map(|answer| match answer {
            Answer::Terminal { answer, .. } => (answer.verdict, answer.balance),
            other => panic!("{other:?}"),
        })
        .collect();
    let no = CashlessVerdict::Rejected(Rejection::RefundExceedsPayment);
    assert_eq!(verdicts, [(CashlessVerdict::Refunded, 4_600), (no, 4_600)]);
    bar.play("payable bar-7 → 3.60 after 1 payments and 1 refunds");
}

#[test]
fn what_a_transfer_is_refused_for() {
    nights(
        "
        topup W1 500.00
        topup W2 500.00
        topup W2 500.00
        transfer W1 W1 5.00           → rejected: same_wallet
        transfer W1 nobody 5.00       → rejected: unknown_wallet
        transfer nobody W1 5.00       → rejected: unknown_wallet
        transfer W1 W3 0.00           → rejected: invalid_amount
        transfer W1 W3 -5.00          → rejected: invalid_amount
        transfer W1 W3 500.01         → rejected: insufficient_funds
        transfer W1 W3 5.00 in USD    → rejected: wrong_currency
        transfer W1 W2 0.01           → rejected: above_max_balance
        show W1                       → 500.00, till-3 500.00
        block W3
        transfer W1 W3 5.00           → rejected: wallet_blocked
        show W1                       → 500.00, till-3 500.00
        unblock W3
        transfer W1 W3 5.00           → 495.00
        show W3                       → 5.00, till-3 5.00
        ",
    );
}

#[test]
fn corrections() {
    nights(
        "
        correct W1 0.00 why           → rejected: invalid_amount
        correct W1 -0.01 why          → rejected: insufficient_funds
        correct W1 12.00              → rejected: invalid_value
        correct W1 12.00 why in USD   → rejected: wrong_currency
        correct W1 1200.00 why        → 1200.00, over_limit
        correct W1 -1200.00 why       → 0.00
        block W1
        correct W1 1.00 why           → 1.00
        ",
    );
}

/// Each euro's source is known: spent oldest first, given back to where it came from, carried along by transfers.
#[test]
fn money_knows_where_it_came_from() {
    nights(
        "
        topup W1 10.00                → 10.00
        topup W1 20.00 from card number 77 → 30.00
        topup W1 5.00                 → 35.00
        show W1                       → 35.00, till-3 15.00, card-77 20.00
        pay W1 17.00 bar-7 as P1      → 18.00
        show W1                       → 18.00, card-77 18.00
        refund P1 16.00 by bar-7      → 34.00
        show W1                       → 34.00, card-77 19.00, till-3 15.00
        transfer W1 W2 20.00          → 14.00
        show W2                       → 20.00, card-77 19.00, till-3 1.00
        refund P1 by bar-7            → 15.00
        show W1                       → 15.00, till-3 14.00, card-77 1.00
        cashout W2                    → 0.00
        cashout W1                    → 0.00
        topup W2 7.00 from bank number 3 → 7.00
        show W2                       → 7.00, bank-3 7.00
        ",
    );
}

/// A payment that is given back in parts leaves nothing behind, whatever the rounding and whatever the commission is by
/// then.
#[test]
fn commission_goes_back_to_the_cent() {
    nights(
        "
        topup W1 50.00
        commission-of bar-7 12.50%
        pay W1 9.99 bar-7 as P1       → 40.01
        payable bar-7                 → 8.74 after 1 payments and 0 refunds
        commission                    → 1.25
        commission-of bar-7 50.00%
        refund P1 3.33 by bar-7       → 43.34
        refund P1 0.01 by bar-7       → 43.35
        refund P1 0.01 by bar-7       → 43.36
        refund P1 by bar-7            → 50.00
        payable bar-7                 → 0.00 after 1 payments and 4 refunds
        commission                    → 0.00
        pay W1 0.01 bar-7             → 49.99
        payable bar-7                 → 0.00 after 2 payments and 4 refunds
        commission                    → 0.01
        ",
    );
}

#[test]
fn wallets_are_found_made_and_claimed() {
    nights(
        "
        wallet W1                     # it is there
        wallet A for 7
        wallet A for 7
        claim W1 8
        claim W1 8
        claim W1 9                    → rejected: wallet_claimed
        claim nobody 9                → rejected: unknown_wallet
        wallet W1                     → rejected: wallet_claimed
        ",
    );
    let mut bar = Bar::bare(3);
    let wallet = WalletId::of_account(7, bar.festival);
    let create = |festival| CashlessAction::CreateWallet { wallet, festival, account: Some(7) };
    let here = bar.festival;
    assert_eq!(bar.cashless(create(here)), AdminAnswer::Rejected(Rejection::NotCashless));
    bar.play("cashless night in CHF");
    assert_eq!(bar.cashless(create(here)), AdminAnswer::Wallet(wallet));
    let View::Wallet(view) = bar.query(Query::Wallet(wallet)) else { panic!("it was made") };
    assert_eq!((view.currency.as_str(), view.account, view.issuer), ("CHF", Some(7), here));
    bar.play("cashless night in EUR");
    let nobody = CashlessAction::CreateWallet { wallet: WalletId(0), festival: here, account: None };
    assert_eq!(bar.cashless(nobody), AdminAnswer::Rejected(Rejection::InvalidValue));
}

/// A wristband has moved on, a terminal has paid by it, the answer was lost, the terminal was revoked: asked again, first
/// where the wristband was before, it still is what was decided.
#[test]
fn what_a_terminal_has_paid_stays_so_when_it_is_revoked() {
    nights(
        "
        topup W1 50.00
        topup W2 50.00
        link T1 W1
        link T2 W1 replace
        link T1 W2
        pay T1 1.00 bar-7b seq 40            → 49.00
        revoke bar-7b
        pay W1 1.00 bar-7b tap T1@1 seq 41   → rejected: tag_moved
        pay W2 1.00 bar-7b tap T1@2 seq 40   → 49.00, again
        pay W2 1.00 bar-7b tap T1@2 seq 41   → rejected: device_revoked
        ",
    );
}

/// The books of a festival are in its one currency, whoever's wallets it takes.
#[test]
fn nothing_of_another_currency_comes_into_a_festivals_books() {
    Bar::bare(3).play(
        "
        cashless night in CHF foreign
        cashless elsewhere foreign
        wallet W1 elsewhere
        wallet W2
        topup W1 20.00 from card taken elsewhere → 20.00
        topup W1 5.00 from card taken in EUR     → rejected: wrong_currency
        topup W1 5.00 from card taken in CHF     → rejected: wrong_currency
        correct W1 1.00 why in EUR               → rejected: wrong_currency
        transfer W1 W2 1.00 in EUR               → rejected: wrong_currency
        transfer W1 W2 1.00 elsewhere            → rejected: wrong_currency
        cashout W1                               → rejected: wrong_currency
        cashout W1 elsewhere                     → 0.00
        ",
    );
}

#[test]
fn tags() {
    nights(
        "
        topup W1 50.00
        link T1 W1
        tag-of T1                     → linked w1 1
        pay T1 5.00 bar-7             → 45.00
        link T1 W1                    # it is so already
        link T1 W2                    → rejected: tag_taken
        link T2 W1                    → rejected: already_tagged
        tag-of T2                     → free - 1
        link T2 W1 replace
        tag-of T1                     → free - 1
        tag-of T2                     → linked w1 2
        pay T1 5.00 bar-7             → rejected: unknown_wallet
        pay T2 5.00 bar-7             → 40.00
        link T1 W2
        tag-of T1                     → linked w2 2
        link T9 ghost                 → rejected: unknown_wallet
        link T9 fresh create
        pay T9 5.00 bar-7             → rejected: insufficient_funds
        topup T9 5.00                 → 5.00
        claim fresh 12
        ",
    );
}

/// A tag that was reported lost is refused by the next decision, also where the tap was resolved before.
#[test]
fn a_tag_reported_lost_between_tap_and_decision() {
    nights(
        "
        topup W1 50.00
        link T1 W1
        lost W2                       → rejected: unknown_tag
        lost W1
        lost W1                       # it is so already
        tag-of T1                     → lost - 1
        pay W1 5.00 bar-7 tap T1@1    → rejected: tag_lost
        topup W1 5.00 tap T1@1        → rejected: tag_lost
        balance W1 tap T1@1           → rejected: tag_lost
        pay W1 5.00 bar-7             → 45.00    # the wallet itself is not blocked
        link T1 W1                    → rejected: tag_lost
        link T1 W2                    → rejected: tag_lost
        link T2 W1
        pay T2 5.00 bar-7             → 40.00
        tag-of T1                     → lost - 1
        ",
    );
}

/// A tap that was resolved before the tag moved: nothing is consumed, and the same number pays from the wallet that the
/// tag names now.
#[test]
fn a_tag_that_has_moved() {
    nights(
        "
        topup W1 50.00
        topup W2 20.00
        link T1 W1
        link T2 W1 replace
        link T1 W2
        tag-of T1                            → linked w2 2
        pay W1 5.00 bar-7 tap T1@1 seq 40    → rejected: tag_moved
        pay W2 5.00 bar-7 tap T1@1 seq 40    → rejected: tag_moved
        pay W2 5.00 bar-7 tap T1@2 seq 40    → 15.00
        pay W2 5.00 bar-7 tap T1@2 seq 40    → 15.00, again
        balance W1 tap T1@1                  → rejected: tag_moved
        ",
    );
}

/// A frame that is sent again goes first to the wallets which the tag named before: whichever has decided it says so.
#[test]
fn a_resent_frame_finds_the_wallet_that_decided_it() {
    for shards in [1, 2, 5, 16] {
        let mut bar = Bar::open(shards);
        bar.play(
            "
            topup W1 50.00
            topup W2 20.00
            link T1 W1
            pay T1 5.00 bar-7 seq 40 → 45.00    # and the answer is lost on the way
            link T2 W1 replace
            link T1 W2
            ",
        );
        let View::Tag(view) = bar.query(Query::Tag(bar.tags["T1"])) else { panic!("it was linked") };
        assert_eq!(view.earlier, [(bar.wallets["W1"], 1)], "oldest first");
        bar.play("pay W1 5.00 bar-7 tap T1@1 seq 40 → 45.00, again");
    }
}

#[test]
fn a_tag_linked_to_two_wallets_at_once() {
    let mut bar = Bar::open(5);
    bar.quiet = false;
    let tag = TagUid::new(&[1, 2, 3, 4]).unwrap();
    bar.tags.insert("T".into(), tag);
    let link = |bar: &Bar, wallet: &str| {
        let (wallet, festival) = (bar.wallets[wallet], bar.festival);
        CashlessAction::LinkTag { tag, wallet, festival, replace: false, create: false }
    };
    let (first, second) = (link(&bar, "W1"), link(&bar, "W2"));
    let answers = [bar.cashless(first), bar.cashless(second)];
    assert_eq!(answers[1], AdminAnswer::Rejected(Rejection::TagTaken), "{answers:?}");
    bar.pump();
    bar.quiet = true;
    bar.play("tag-of T → linked w1 1");
}

/// Two tags at once for one wallet: it has the later one, and each names what it should.
#[test]
fn two_tags_for_one_wallet_at_once() {
    for shards in [1, 5, 16] {
        let mut bar = Bar::open(shards);
        bar.quiet = false;
        for n in [1, 2] {
            let tag = TagUid::new(&[n, n, n, n]).unwrap();
            bar.tags.insert(format!("T{n}"), tag);
            let (wallet, festival) = (bar.wallets["W1"], bar.festival);
            bar.cashless(CashlessAction::LinkTag { tag, wallet, festival, replace: true, create: false });
        }
        bar.pump();
        bar.quiet = true;
        bar.books();
        let tag = bar.wallet("W1").tag.expect("one of them").0;
        let other = bar.tags.values().find(|other| **other != tag).copied().unwrap();
        assert!(bar.resolve(tag).is_some() && bar.resolve(other).is_none());
        bar.play("balance W1 → 0.00");
    }
}

/// Ten thousand debits at once on a wallet that holds enough for exactly one.
#[test]
fn ten_thousand_debits_for_the_last_euro() {
    let mut bar = Bar::open(3);
    bar.play("topup W1 5.00");
    let (wallet, amount) = (bar.wallets["W1"], eur(500));
    let terminals = ["bar-7", "bar-7b", "bar-8"].map(|terminal| bar.terminals[terminal]);
    let debits: Vec<Command> = (0..10_000_u64)
        .map(|n| {
            let terminal = terminals[n as usize % 3];
            let seq = terminal.next_seq + n / 3;
            let action = TerminalAction::Pay { wallet, tap: None, amount, lines: [].into() };
            Command::Terminal(TerminalCommand {
                device: terminal.id,
                seq,
                floor: seq.saturating_sub(4_000).max(1),
                expires_at: Timestamp(0),
                action,
            })
        })
        .collect();
    let home = debits[0].home().unwrap().shard(3);
    let answers = bar.batch(home, &debits);
    let paid = answers.iter().filter(|answer| {
        matches!(answer, Answer::Terminal { answer: TerminalAnswer { verdict: CashlessVerdict::Paid, .. }, .. })
    });
    assert_eq!(paid.count(), 1);
    bar.play("balance W1 → 0.00");
}

#[test]
fn a_revoked_terminal_is_refused_everywhere() {
    nights(
        "
        topup W1 50.00
        topup W2 50.00
        topup W3 50.00
        pay W1 1.00 bar-7 as P1
        revoke bar-7
        revoke desk
        pay W1 1.00 bar-7             → rejected: device_revoked
        pay W2 1.00 bar-7             → rejected: device_revoked
        pay W3 1.00 bar-7             → rejected: device_revoked
        refund P1 by bar-7            → rejected: device_revoked
        topup W2 5.00                 → rejected: device_revoked
        balance W1 by bar-7           → rejected: device_revoked
        refund P1 by bar-7b           → 50.00
        ",
    );
}

/// Whoever revokes a terminal hears of it when every shard knows.
#[test]
fn answers_wait_for_the_other_shards() {
    let mut bar = Bar::open(3);
    bar.quiet = false;
    let revoke = AdminAction::RevokeDevice { device: bar.terminals["bar-7"].id };
    let command = Command::Admin(Box::new(AdminCommand { key: None, by: Principal::ApiKey(1), action: revoke }));
    let home = command.home().unwrap().shard(3);
    for again in [false, true] {
        bar.batch(home, &[Command::Tick, command.clone()]);
        let holds = bar.step.holds.clone();
        let others: Vec<ShardId> = (0..3).map(ShardId).filter(|id| *id != home).collect();
        assert_eq!(holds.iter().map(|hold| hold.to).collect::<Vec<_>>(), others, "again: {again}");
        for hold in holds {
            assert_eq!(hold.answer, 1);
            let here = &bar.shards[usize::from(home.0)];
            assert!(here.delivered(hold.to) < hold.n, "it waits for something");
        }
    }
    bar.pump();
    bar.batch(home, &[command]);
    assert_eq!(bar.step.holds, [], "everybody knows");
}

/// Terminals' ids are remembered by each shard that decided something.
#[test]
fn doing_it_again_at_the_bar() {
    nights(
        "
        topup W1 50.00
        pay W1 5.00 bar-7 seq 10      → 45.00
        pay W1 5.00 bar-7 seq 10      → 45.00, again
        pay W1 6.00 bar-7 seq 10      → rejected: idempotency_conflict
        pay W1 5.00 bar-7 seq 10 lines 0x1@5.00 → rejected: idempotency_conflict
        topup W1 5.00 by desk seq 50  → 50.00
        topup W1 5.00 by desk seq 50  → 50.00, again
        pay W1 60.00 bar-7 seq 11     → rejected: insufficient_funds
        topup W1 50.00                → 100.00
        pay W1 60.00 bar-7 seq 11     → rejected: insufficient_funds, again
        pay W1 1.00 bar-7 seq 20 floor 15 → 99.00
        pay W1 5.00 bar-7 seq 10      → rejected: stale_seq
        pay W1 1.00 bar-7 seq 5000 floor 15 → rejected: window_full
        pay W1 1.00 bar-7 seq 0       → rejected: stale_seq
        ",
    );
}

/// An idempotency key of a transfer gets `pending` until the answer is there, and then the answer, for 72 hours.
#[test]
fn doing_it_again_at_the_office() {
    for shards in [1, 2, 5, 16] {
        let mut bar = Bar::open(shards);
        bar.play("topup W1 50.00");
        bar.quiet = false;
        let transfer = |bar: &Bar, minor| {
            let (from, to, festival) = (bar.wallets["W1"], bar.wallets["W2"], bar.festival);
            AdminAction::Cashless(CashlessAction::Transfer { from, to, festival, amount: eur(minor) })
        };
        let key = |fingerprint| Some(IdempotencyKey { id: 99, fingerprint, made_at: Some(bar::EVENING) });
        let action = transfer(&bar, 1_000);
        let (first, repeated) = bar.admin_with(key(1), action.clone());
        assert!(!repeated);
        assert_eq!(bar.admin_with(key(1), action.clone()), (first, true));
        let conflict = AdminAnswer::Rejected(Rejection::IdempotencyConflict);
        assert_eq!(bar.admin_with(key(2), transfer(&bar, 2_000)), (conflict, false), "another body");
        bar.pump();
        bar.quiet = true;
        let (answer, repeated) = bar.admin_with(key(1), action.clone());
        assert!(repeated && matches!(answer, AdminAnswer::Transaction { balance: 4_000, .. }), "{answer:?}");
        bar.now = bar.now.plus_ms(72 * 3_600_000 + 1);
        bar.play("tick");
        let expired = AdminAnswer::Rejected(Rejection::IdempotencyKeyExpired);
        assert_eq!(bar.admin_with(key(1), action), (expired, false), "72 hours later");
        bar.play("balance W2 → 10.00");
    }
}

#[test]
fn orders_have_numbers() {
    let mut bar = Bar::open(5);
    let mut orders = std::collections::BTreeSet::new();
    for (n, wallet) in ["W1", "W2", "W3", "W4"].into_iter().cycle().take(40).enumerate() {
        if n < 4 {
            bar.play(&format!("topup {wallet} 50.00"));
        }
        let terminal = bar.terminals["bar-7"];
        bar.terminals.get_mut("bar-7").unwrap().next_seq += 1;
        let action = TerminalAction::Pay { wallet: bar.wallets[wallet], tap: None, amount: eur(100), lines: [].into() };
        let command =
            TerminalCommand { device: terminal.id, seq: terminal.next_seq, floor: 1, expires_at: Timestamp(0), action };
        let (answer, _) = bar.terminal(command);
        assert!(orders.insert(answer.order), "a vendor's number is one payment's");
    }
    bar.play("payable bar-7 → 36.00 after 40 payments and 0 refunds");
}

#[test]
fn what_the_office_sets_up_is_checked() {
    let mut bar = Bar::open(3);
    let festival = bar.festival;
    let policy = CashlessPolicy::default();
    let nowhere = FestivalId(1);
    let vendor = |name: &str, commission_bp| VendorValues {
        name: name.into(),
        commission_bp,
        open: true,
        kind: engine::model::status::VendorKind::Bar,
    };
    let product = |price, vat_bp| ProductValues { name: "beer".into(), price, vat_bp, on_sale: true };
    let (v0, p9) = (VendorNo(0), ProductNo(9));
    let offer = |vendor, cashier, hash: u8, name: &str| CashlessAction::OfferTerminal {
        festival,
        vendor,
        cashier,
        code_hash: [hash; 32],
        name: name.into(),
    };
    for (action, rejection) in [
        (CashlessAction::SetPolicy { festival: nowhere, policy }, Rejection::UnknownFestival),
        (
            CashlessAction::SetPolicy {
                festival,
                policy: CashlessPolicy {
                    currency: engine::model::money::Currency::from_bytes(*b"XAU").unwrap(),
                    ..policy
                },
            },
            Rejection::UnknownCurrency,
        ),
        (
            CashlessAction::SetPolicy { festival, policy: CashlessPolicy { min_topup: 0, ..policy } },
            Rejection::InvalidValue,
        ),
        (
            CashlessAction::SetPolicy { festival, policy: CashlessPolicy { max_topup: 1, ..policy } },
            Rejection::InvalidValue,
        ),
        (
            CashlessAction::SetPolicy { festival, policy: CashlessPolicy { max_balance: 1_000_000_000_000, ..policy } },
            Rejection::InvalidValue,
        ),
        (
            CashlessAction::PutVendor { festival: nowhere, vendor: None, values: vendor("x", 0) },
            Rejection::UnknownFestival,
        ),
        (CashlessAction::PutVendor { festival, vendor: None, values: vendor(" ", 0) }, Rejection::InvalidValue),
        (CashlessAction::PutVendor { festival, vendor: None, values: vendor("x", 10_001) }, Rejection::InvalidValue),
        (
            CashlessAction::PutVendor { festival, vendor: Some(VendorNo(9)), values: vendor("x", 0) },
            Rejection::UnknownVendor,
        ),
        (
            CashlessAction::PutProduct { festival, vendor: VendorNo(9), product: None, values: product(1, 0) },
            Rejection::UnknownVendor,
        ),
        (
            CashlessAction::PutProduct { festival, vendor: v0, product: Some(p9), values: product(1, 0) },
            Rejection::UnknownProduct,
        ),
        (
            CashlessAction::PutProduct { festival, vendor: v0, product: None, values: product(-1, 0) },
            Rejection::InvalidValue,
        ),
        (
            CashlessAction::PutProduct { festival, vendor: v0, product: None, values: product(1, 10_001) },
            Rejection::InvalidValue,
        ),
        (offer(Some(VendorNo(9)), false, 200, "till"), Rejection::UnknownVendor),
        (offer(None, false, 201, "till"), Rejection::InvalidValue),
        (offer(None, true, 202, ""), Rejection::InvalidValue),
        (offer(None, true, 1, "till"), Rejection::InvalidValue),
    ] {
        let said = format!("{action:?}");
        assert_eq!(bar.cashless(action), AdminAnswer::Rejected(rejection), "{said}");
    }
    bar.replays();
}

/// A terminal is no reader: it has no gate to scan at.
#[test]
fn a_terminal_scans_nobody() {
    let mut bar = Bar::open(1);
    let device = bar.terminals["bar-7"].id;
    let credential = Credential::Refused(Rejection::InvalidQr, 1);
    let (zone, direction, captured_at) = (ZoneNo(0), Direction::Enter, bar.now);
    let action = DeviceAction::Scan(Scan { zone, direction, credential, captured_at, resent: false, shown: None });
    match bar.ask(Command::Device(DeviceCommand { device, seq: 1, floor: 1, action })).1 {
        Answer::Device { answer, .. } => assert_eq!(answer.verdict, Verdict::Rejected(Rejection::WrongGate)),
        other => panic!("{other:?}"),
    }
    let View::Device(view) = bar.query(Query::Device(device)) else { panic!("it was enrolled") };
    assert_eq!(view.terminal.map(|terminal| (terminal.vendor, terminal.cashier)), Some((Some(VendorNo(0)), false)));
}

/// A person's wallets are merged into one, whatever a wallet may hold; other people's are not.
#[test]
fn an_accounts_wallets_are_merged() {
    nights(
        "
        claim W1 7
        claim W2 7
        claim W3 8
        topup W1 500.00
        topup W1 400.00
        topup W2 300.00
        transfer W2 W1 300.00         → rejected: above_max_balance
        merge W2 W1                   → 0.00
        show W1                       → 1200.00, till-3 1200.00
        show W2                       → 0.00
        merge W2 W1                   → rejected: nothing_left
        merge W1 W3                   → rejected: not_one_account
        merge W3 W1                   → rejected: nothing_left
        merge W4 W1                   → rejected: not_one_account
        merge W1 W1                   → rejected: same_wallet
        merge W1 nobody               → rejected: unknown_wallet
        block W2
        merge W1 W2                   → rejected: wallet_blocked
        show W1                       → 1200.00, till-3 1200.00
        ",
    );
}
