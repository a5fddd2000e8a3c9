//! What works.

use engine::cashless::command::*;

use engine::model::money::Currency;
use engine::model::rejection::Rejection;
use engine::model::status::Policy;
use engine::model::time::Timestamp;
use gateway::quic::Limits;
use tapgate_client::{ClientError, Link, Shown};
use tapgate_wire::WalletName;

use crate::common::open_with;
use crate::common::terminal::*;
use crate::link::*;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_evening_at_the_bar() {
    let house = bar().await;
    let (bar, desk) = (terminal(&house, Some(BAR), false).await, terminal(&house, None, true).await);
    let welcome = bar.connected().await.unwrap();
    let terminal = welcome.terminal.clone().expect("a terminal");
    assert_eq!((welcome.festival_name.as_str(), terminal.vendor_name.as_str()), ("Night", "Bar 7"));
    assert_eq!((terminal.vendor, terminal.cashier, terminal.currency), (Some(BAR), false, Currency::EUR));
    let (anna, ben) = (guest(&house, 11, 0).await, guest(&house, 12, 10_000).await);
    link(&house, tag(1), anna, false).await;
    let band = || Shown::Tag(tag(1));

    let told = desk.top_up(band(), eur(5_000)).await.unwrap();
    assert_eq!(outcome(&told), (CashlessVerdict::ToppedUp, 5_000));
    assert_eq!(told.sentence(), "50.00 EUR topped up. 50.00 EUR on it now.");
    let paid = bar.pay(band(), eur(1_250), &[line(0, 2, 500), line(1, 1, 250)]).await.unwrap();
    assert_eq!(outcome(&paid), (CashlessVerdict::Paid, 3_750));
    assert_eq!((paid.answer.amount, paid.answer.wallet, paid.answer.currency), (1_250, anna, Currency::EUR));
    assert!(paid.answer.order > 0 && paid.answer.at > Timestamp(0));
    assert_eq!(paid.sentence(), format!("12.50 EUR paid, order {}. 37.50 EUR left.", paid.answer.order));
    assert_eq!(outcome(&bar.balance(band()).await.unwrap()), (CashlessVerdict::Balance, 3_750));

    for (what, shown, left) in [
        ("by id", Shown::Wallet(ben), 9_000),
        ("by QR", by_qr(&house, ben), 8_000),
        ("by QR again, its key known", by_qr(&house, ben), 7_000),
    ] {
        let told = bar.pay(shown, eur(1_000), &[]).await.unwrap();
        assert_eq!(outcome(&told), (CashlessVerdict::Paid, left), "{what}");
    }

    let payment = paid.transaction().expect("money moved");
    let part = bar.refund(payment, Some(eur(250))).await.unwrap();
    assert_eq!((outcome(&part), part.answer.amount), ((CashlessVerdict::Refunded, 4_000), 250));
    let rest = bar.refund(payment, None).await.unwrap();
    assert_eq!((outcome(&rest), rest.answer.amount), ((CashlessVerdict::Refunded, 5_000), 1_000));
    assert_eq!(rest.sentence(), "10.00 EUR given back. 50.00 EUR on it now.");
    let more = bar.refund(payment, None).await.unwrap();
    assert_eq!(outcome(&more).0, rejected(Rejection::AlreadyRefunded));

    let short = bar.pay(band(), eur(5_001), &[]).await.unwrap();
    assert_eq!(outcome(&short), (rejected(Rejection::InsufficientFunds), 5_000));
    assert_eq!(short.sentence(), "There is not enough money on this wristband. 50.00 EUR left.");
    let at_the_bar = bar.top_up(band(), eur(5_000)).await.unwrap();
    assert_eq!(outcome(&at_the_bar).0, rejected(Rejection::NotACashier));
    let at_the_desk = desk.pay(band(), eur(500), &[]).await.unwrap();
    assert_eq!(outcome(&at_the_desk).0, rejected(Rejection::UnknownVendor));

    assert_eq!((wallet(&house, anna).await.available, wallet(&house, ben).await.available), (5_000, 7_000));
    bar.close().await;
    assert!(matches!(bar.balance(band()).await, Err(ClientError::Gone)));
    house.close().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_crowd_that_nobody_has_seen_before() {
    let house = bar().await;
    let identity = enrolled(&house, Some(BAR), false).await;
    let mut guests = Vec::new();
    for n in 0..120 {
        guests.push(guest(&house, 100 + u64::from(n), 1_000).await);
        link(&house, tag(n), guests[n as usize], false).await;
    }
    // Every third wristband is nobody's; each is tapped three times in one read, others in between.
    let seqs = 1..=540_u64;
    let uid =
        |seq: u64| tag(if seq.is_multiple_of(3) { 1_000 + (seq % 60) as u32 } else { (seq % 180 * 2 / 3) as u32 });
    let frames: Vec<_> = seqs.clone().map(|seq| pay(seq, WalletName::Tag(uid(seq)), 100)).collect();
    let mut link = Link::open(None, &identity).await.unwrap();
    for round in 0..2 {
        send(&mut link, &frames).await;
        let heard = receive(&mut link, frames.len()).await;
        assert!(heard.iter().map(|(seq, _)| *seq).eq(seqs.clone()));
        let mut left = std::collections::HashMap::new();
        for (seq, heard) in heard {
            let Heard::Told(answer) = heard else { panic!("{seq}: {heard:?}") };
            if seq.is_multiple_of(3) {
                assert_eq!(answer.verdict, rejected(Rejection::UnknownTag), "{seq}, round {round}");
                continue;
            }
            assert_eq!(answer.verdict, CashlessVerdict::Paid, "{seq}, round {round}");
            let before = left.insert(answer.wallet, answer.balance).unwrap_or(1_000);
            assert_eq!(answer.balance, before - 100, "a wallet's payments keep their order: {seq}, round {round}");
        }
        assert_eq!(left.len(), 120);
    }
    link.close().await;
    house.close().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_terminal_that_sends_too_much_is_slowed_and_loses_nothing() {
    let house = open_with(Limits { frames_per_s: 200, frames_burst: 20, ..Limits::default() }, Policy::default()).await;
    cashless(&house).await;
    let bar = terminal(&house, Some(BAR), false).await;
    let anna = guest(&house, 11, 10_000).await;
    link(&house, tag(1), anna, false).await;
    let payments = (0..60).map(|_| bar.pay(Shown::Tag(tag(1)), eur(10), &[]));
    for told in futures_util::future::join_all(payments).await {
        assert_eq!(told.unwrap().answer.verdict, CashlessVerdict::Paid);
    }
    assert_eq!(wallet(&house, anna).await.available, 10_000 - 600);
    house.close().await;
}
