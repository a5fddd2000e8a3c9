//! Where money came from: each payment of a card or a bank is told apart, and what is left goes back to it. Also what no
//! program makes yet, and records may have one day.

mod bar;

use bar::{Bar, eur};
use engine::cashless::command::*;
use engine::cashless::event::{Lot, TransactionKind};
use engine::command::*;
use engine::event::Event;
use engine::model::ids::ProviderNo;
use engine::model::rejection::Rejection;
use engine::record;

/// The lots of the last transaction of this kind.
fn lots_of_last(bar: &Bar, kind: TransactionKind) -> Vec<Lot> {
    let events = bar.journal.iter().rev().flat_map(|(_, bytes)| record::read(bytes).unwrap().events);
    let mut transactions = events.filter_map(|event| match event {
        Event::Transaction(t) if t.kind == kind && t.rejection.is_none() => Some(t),
        _ => None,
    });
    transactions.next().expect("there is one").lots.iter().copied().collect()
}

fn account(bar: &Bar, source: Source) -> i128 {
    let ledger = bar.ledger(bar.festival);
    ledger.sources.iter().find(|(of, _)| *of == source.account()).map_or(0, |(_, sum)| *sum)
}

#[test]
fn what_is_left_goes_back_to_each_payment() {
    for shards in [1, 5] {
        let mut bar = Bar::open(shards);
        bar.play(
            "
            topup W1 20.00 from card number 101 taken → 20.00
            topup W1 10.00 from card number 102 taken → 30.00
            topup W1 30.00 from bank number 7         → 60.00
            topup W1 5.00 from desk                   → 65.00
            pay W1 25.00 bar-7 as P1                  → 40.00
            show W1                                   → 40.00, card-102 5.00, bank-7 30.00, desk-1 5.00
            refund P1 2.00 by bar-7                   → 42.00
            transfer W1 W2 6.00                       → 36.00
            show W2                                   → 6.00, card-102 5.00, bank-7 1.00
            cashout W2                                → 0.00
            cashout W1                                → 0.00
            ",
        );
        let (card, bank) = (SourceKind::Card, SourceKind::Bank);
        let of = |kind, number| Source::new(kind, bar.festival, number);
        let expected = [(of(bank, 7), 2_900), (Source::desk(bar.festival, 1), 500), (of(card, 101), 200)];
        let paid_out = lots_of_last(&bar, TransactionKind::CashOut);
        assert_eq!(paid_out, expected.map(|(source, amount)| Lot { source, amount }));
        assert_eq!(account(&bar, of(card, 0)), -2_300, "what is spent of both cards");
        assert_eq!((account(&bar, of(bank, 0)), account(&bar, Source::desk(bar.festival, 1))), (0, 0));
        bar.replays();
        assert_eq!(bar.audit(&[]).violations_total, 0);
    }
}

/// Another provider, and the desks of people: their numbers are kept in the format. Such records are read, replayed,
/// audited, and what came from there is told apart.
#[test]
fn what_is_reserved_is_read() {
    let mut bar = Bar::open(3);
    let (festival, wallet) = (bar.festival, bar.wallets["W1"]);
    let stripe = Source::new(SourceKind::Card, festival, 1);
    let other = Source { provider: ProviderNo(2), ..stripe };
    let desk = Source::new(SourceKind::Desk, festival, (1 << 32) + 5);
    for source in [stripe, other, desk] {
        let answer = bar.cashless(CashlessAction::TopUp { wallet, festival, amount: eur(1_000), source, taken: true });
        assert!(matches!(answer, AdminAnswer::Transaction { .. }), "{answer:?}");
        assert_eq!(lots_of_last(&bar, TransactionKind::TopUp), [Lot { source, amount: 1_000 }]);
    }
    bar.play("pay W1 15.00 bar-7 → 15.00\n cashout W1 → 0.00");
    let left = [Lot { source: other, amount: 500 }, Lot { source: desk, amount: 1_000 }];
    assert_eq!(lots_of_last(&bar, TransactionKind::CashOut), left);
    assert_eq!([stripe, other, desk].map(|source| account(&bar, source)), [-1_000, -500, 0]);
    bar.replays();
    assert_eq!(bar.audit(&[]).violations_total, 0);
}

#[test]
fn a_card_has_a_provider_and_nothing_else_has_one() {
    let mut bar = Bar::open(2);
    let (festival, wallet) = (bar.festival, bar.wallets["W1"]);
    for (kind, provider, taken) in [
        (SourceKind::Card, ProviderNo::STRIPE, true),
        (SourceKind::Card, ProviderNo::NONE, false),
        (SourceKind::Bank, ProviderNo::NONE, true),
        (SourceKind::Bank, ProviderNo::STRIPE, false),
        (SourceKind::Terminal, ProviderNo::STRIPE, false),
        (SourceKind::Desk, ProviderNo(2), false),
        (SourceKind::Gift, ProviderNo::NONE, false),
        (SourceKind::Correction, ProviderNo::NONE, false),
    ] {
        let source = Source { provider, ..Source::new(kind, festival, 1) };
        let answer = bar.cashless(CashlessAction::TopUp { wallet, festival, amount: eur(1_000), source, taken: true });
        match taken {
            true => assert!(matches!(answer, AdminAnswer::Transaction { .. }), "{source:?}: {answer:?}"),
            false => assert_eq!(answer, AdminAnswer::Rejected(Rejection::InvalidValue), "{source:?}"),
        }
    }
}
