//! Everything twice, cut off anywhere.

use std::time::Duration;

use engine::cashless::command::*;

use engine::model::rejection::Rejection;
use tapgate_client::{ClientError, Event, Identity, Link, ReaderOptions, Shown, Terminal};
use tapgate_wire::{Frame, LineItem, Refund, WalletName};

use crate::common::terminal::*;
use crate::link::*;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn everything_twice_happens_once() {
    let house = bar().await;
    let identity = enrolled(&house, Some(BAR), true).await;
    let anna = guest(&house, 11, 10_000).await;
    link(&house, tag(1), anna, false).await;
    let qr = wallet_qr(&house, anna, 1);
    let band = WalletName::Tag(tag(1));
    let lines = [LineItem::from(line(0, 1, 500)), LineItem::from(line(1, 2, 250))];
    let mut link = Link::open(None, &identity).await.unwrap();
    let Heard::Told(paid) = one(&mut link, pay(1, band, 1_000)).await else { panic!() };
    let payment = paid.transaction().unwrap();
    let frames = [
        pay(1, band, 1_000),
        pay(2, WalletName::Id(anna), 500),
        pay(3, WalletName::of_qr(&qr), 250),
        with_lines(pay(4, band, 1_000), &lines),
        top_up(5, band, 5_000),
        Frame::Refund(Refund { seq: 6, floor: 1, payment, amount: Some(eur(400)), lines: &[], resent: false }),
        Frame::Refund(Refund { seq: 7, floor: 1, payment, amount: None, lines: &[], resent: false }),
        pay(8, band, 999_999),
    ];
    send(&mut link, &frames).await;
    let first = receive(&mut link, frames.len()).await;
    let verdicts: Vec<_> = first.iter().map(|(_, heard)| heard.verdict()).collect();
    use CashlessVerdict::{Paid, Refunded, ToppedUp};
    let short = rejected(Rejection::InsufficientFunds);
    assert_eq!(verdicts, [Paid, Paid, Paid, Paid, ToppedUp, Refunded, Refunded, short]);
    assert_eq!(first[0].1, Heard::Told(paid));

    // On the same connection, then on the next, as a terminal does that has heard nothing.
    send(&mut link, &frames).await;
    assert_eq!(receive(&mut link, frames.len()).await, first, "to the last bit");
    link.connection.close(0_u32.into(), b"");
    let mut link = Link::open(None, &identity).await.unwrap();
    assert_eq!(link.welcome.next_seq, 9, "over all shards");
    send(&mut link, &frames.map(replay)).await;
    assert_eq!(receive(&mut link, frames.len()).await, first);
    assert_eq!(wallet(&house, anna).await.available, 10_000 - 1_000 - 500 - 250 - 1_000 + 5_000 + 1_000);

    // Other content under a number that was used, numbers out of bounds.
    for (what, frame, rejection) in [
        ("another amount", pay(1, band, 1_001), Rejection::IdempotencyConflict),
        ("another wallet", pay(2, band, 500), Rejection::IdempotencyConflict),
        ("too far ahead", pay(2 + 4_096, band, 500), Rejection::WindowFull),
        ("number 0", pay(0, band, 1), Rejection::StaleSeq),
    ] {
        assert_eq!(one(&mut link, frame).await.verdict(), rejected(rejection), "{what}");
    }
    assert_eq!(wallet(&house, anna).await.available, 13_250);
    link.close().await;
    house.close().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn cut_off_in_the_middle_each_payment_is_taken_once() {
    let house = bar().await;
    let identity = enrolled(&house, Some(BAR), false).await;
    let mut guests = Vec::new();
    for n in 0..20 {
        guests.push(guest(&house, 100 + u64::from(n), 10_000).await);
        link(&house, tag(n), guests[n as usize], false).await;
    }
    // 400 payments, in eight connections that are each cut off after a few of their answers.
    let frames: Vec<Frame<'_>> = (1..=400).map(|seq| pay(seq, WalletName::Tag(tag(seq as u32 % 20)), 10)).collect();
    let mut sent = 0;
    for round in 0..8 {
        let mut link = Link::open(None, &identity).await.unwrap();
        let old: Vec<_> = frames[..sent].iter().copied().map(replay).collect();
        send(&mut link, &old).await;
        send(&mut link, &frames[sent..sent + 50]).await;
        sent += 50;
        receive(&mut link, round * 6).await;
        link.connection.close(0_u32.into(), b"");
    }
    let mut link = Link::open(None, &identity).await.unwrap();
    let all: Vec<_> = frames.iter().copied().map(replay).collect();
    send(&mut link, &all).await;
    let heard = receive(&mut link, 400).await;
    assert!(heard.iter().all(|(_, heard)| heard.verdict() == CashlessVerdict::Paid));
    assert!(heard.iter().map(|(seq, _)| *seq).eq(1..=400));
    for wallet_id in guests {
        assert_eq!(wallet(&house, wallet_id).await.available, 10_000 - 20 * 10);
    }
    link.close().await;
    house.close().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn payments_made_without_a_server_are_taken_when_it_is_back() {
    let house = bar().await;
    let folder = tempfile::tempdir().unwrap();
    let options = ReaderOptions::with_queue(&folder.path().join("queue"));
    let identity = enrolled(&house, Some(BAR), false).await;
    let anna = guest(&house, 11, 10_000).await;
    link(&house, tag(1), anna, false).await;
    let nowhere = Identity { server: "127.0.0.1:9".into(), ..identity.clone() };
    let fresh = Terminal::start(nowhere.clone(), options.clone()).unwrap();
    let never = fresh.pay(Shown::Tag(tag(1)), eur(1), &[]).await;
    assert!(matches!(never, Err(ClientError::NeverConnected)), "which numbers are free?");
    fresh.close().await;

    let terminal = Terminal::connect(identity.clone(), options.clone()).await.unwrap();
    assert_eq!(
        outcome(&terminal.pay(Shown::Tag(tag(1)), eur(1_000), &[]).await.unwrap()),
        (CashlessVerdict::Paid, 9_000)
    );
    terminal.close().await;

    let offline = Terminal::start(nowhere, options.clone()).unwrap();
    for _ in 0..3 {
        let lines = [line(0, 2, 500)];
        let waiting = offline.pay(Shown::Tag(tag(1)), eur(1_000), &lines);
        assert!(tokio::time::timeout(Duration::from_millis(50), waiting).await.is_err(), "nobody answers");
        let waiting = offline.balance(Shown::Tag(tag(1)));
        assert!(tokio::time::timeout(Duration::from_millis(50), waiting).await.is_err(), "nobody answers");
    }
    offline.close().await;
    assert_eq!(wallet(&house, anna).await.available, 9_000);

    let terminal = Terminal::connect(identity, options).await.unwrap();
    let told = terminal.pay(Shown::Tag(tag(1)), eur(1_000), &[]).await.unwrap();
    assert_eq!(outcome(&told), (CashlessVerdict::Paid, 5_000), "the queue came first");
    assert_eq!(wallet(&house, anna).await.available, 5_000);
    terminal.close().await;
    house.close().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_door_closes_under_way_and_the_terminal_goes_on_by_itself() {
    let mut house = bar().await;
    let bar = terminal(&house, Some(BAR), false).await;
    let mut events = bar.events();
    let anna = guest(&house, 11, 10_000).await;
    link(&house, tag(1), anna, false).await;
    let mut terminals = tokio::task::JoinSet::new();
    for _ in 0..20 {
        let bar = bar.clone();
        terminals.spawn(async move {
            for _ in 0..20 {
                let told = bar.pay(Shown::Tag(tag(1)), eur(1), &[]).await.unwrap();
                assert_eq!(told.answer.verdict, CashlessVerdict::Paid);
            }
        });
    }
    for _ in 0..2 {
        tokio::time::sleep(Duration::from_millis(20)).await;
        house.reopen().await;
        let connected = async { while !matches!(events.recv().await.expect("not lagging"), Event::Connected(_)) {} };
        tokio::time::timeout(AT_MOST, connected).await.expect("comes again");
    }
    tokio::time::timeout(AT_MOST, terminals.join_all()).await.expect("each is answered");
    assert_eq!(wallet(&house, anna).await.available, 10_000 - 400, "each once");
    house.close().await;
}
