//! What a festival gives, as nights at the bar; and accounts of the books that do not grow by the payment.

mod bar;

use bar::Bar;
use engine::cashless::command::Source;
use engine::cashless::view::GiftSums;
use engine::model::time::HOUR_MS;

fn gifts(bar: &Bar) -> (i128, i128, i128, i128) {
    let GiftSums { given, spent, lapsed } = bar.ledger(bar.festival).gifts;
    (given, spent, lapsed, bar.ledger(bar.festival).gifts.left())
}

/// What a festival's gifts come to among the sources.
fn account(bar: &Bar) -> i128 {
    let ledger = bar.ledger(bar.festival);
    ledger.sources.iter().find(|(source, _)| *source == Source::gift(bar.festival)).map_or(0, |(_, sum)| *sum)
}

#[test]
fn it_is_spent_first_and_comes_back_as_a_gift() {
    for shards in [1, 5] {
        let mut bar = Bar::open(shards);
        bar.play(
            "
            topup W1 20.00 from desk        → 20.00
            gift W1 10.00 rained-off        → 30.00
            pay W1 4.00 bar-7 as P1         → 26.00
            show W1                         → 26.00, desk-1 20.00, gift-0 6.00
            pay W1 8.00 bar-7 as P2         → 18.00
            show W1                         → 18.00, desk-1 18.00
            refund P2 by bar-7              → 26.00
            show W1                         → 26.00, desk-1 20.00, gift-0 6.00
            payable bar-7                   → 3.60 after 2 payments and 1 refunds
            ",
        );
        assert_eq!(gifts(&bar), (1_000, 400, 0, 600));
        assert_eq!(account(&bar), -1_000);
    }
}

#[test]
fn it_is_never_paid_out() {
    let mut bar = Bar::open(3);
    bar.play(
        "
        gift W1 10.00 why               → 10.00
        cashout W1                      → rejected: nothing_left
        topup W1 20.00 from desk        → 30.00
        cashout W1                      → 10.00
        show W1                         → 10.00, gift-0 10.00
        # Nor by way of somebody else's wallet, nor by a correction downwards.
        transfer W1 W2 4.00             → 6.00
        show W2                         → 4.00, gift-0 4.00
        cashout W2                      → rejected: nothing_left
        topup W2 5.00 from desk         → 9.00
        correct W2 -6.00 why            → 3.00
        show W2                         → 3.00, desk-1 3.00
        cashout W2                      → 0.00
        ",
    );
    assert_eq!((gifts(&bar), account(&bar)), ((600, 0, 0, 600), -600), "four were taken back");
    assert_eq!(bar.ledger(bar.festival).corrections, 200);
}

#[test]
fn it_is_good_only_where_it_was_given() {
    let mut bar = Bar::open(3);
    bar.play(
        "
        cashless x foreign elsewhere
        topup W1 5.00 from desk         → 5.00
        gift W1 10.00 why               → 15.00
        gift W1 3.00 why elsewhere      → 18.00
        buy W1 9.00 stall               → rejected: insufficient_funds
        buy W1 8.00 stall               → 10.00
        show W1                         → 10.00, gift-0 10.00
        ",
    );
}

#[test]
fn it_lapses_a_day_after_the_festival_and_not_before() {
    for shards in [1, 5] {
        let mut bar = Bar::open(shards);
        bar.play(
            "
            topup W1 20.00 from desk
            gift W1 10.00 why
            gift W2 1.00 why
            pay W1 4.00 bar-7 as P1
            status COMPLETED
            tick
            show W1                         → 26.00, desk-1 20.00, gift-0 6.00
            gift W1 1.00 why                → rejected: festival_not_active
            correct W1 1.00 why             → 27.00
            ",
        );
        let hours = |bar: &mut Bar, hours: i64| bar.play(&format!("wait {}\n tick", hours * HOUR_MS)).now;
        hours(&mut bar, 23);
        assert_eq!(gifts(&bar), (1_100, 400, 0, 700));
        hours(&mut bar, 1);
        bar.play(
            "
            show W1                         → 21.00, desk-1 20.00, correction-0 1.00
            show W2                         → 0.00
            ",
        );
        assert_eq!((gifts(&bar), account(&bar)), ((1_100, 400, 700, 0), -400));
        // What is given back afterwards lapses too: it was a gift.
        bar.play("refund P1                 → 25.00");
        bar.play("tick\n show W1           → 21.00, desk-1 20.00, correction-0 1.00");
        assert_eq!((gifts(&bar), account(&bar)), ((1_100, 0, 1_100, 0), 0));
    }
}

#[test]
fn a_thousand_card_payments_are_one_account_of_the_books() {
    let mut bar = Bar::open(2);
    for payment in 1..=1_000 {
        let wallet = ["W1", "W2", "W3", "W4"][payment % 4];
        let line = format!("topup {wallet} 0.01 from card number {payment} taken");
        bar.line(&line.split_whitespace().collect::<Vec<_>>());
    }
    let ledger = bar.ledger(bar.festival);
    assert_eq!(ledger.sources.len(), 1, "{:?}", ledger.sources);
    assert_eq!((ledger.sources[0].0.number, ledger.sources[0].1), (0, -1_000));
    bar.replays();
}
