//! Terminals at the QUIC door: payments by wristband, QR and id, everything twice, wristbands that move and get lost, over
//! a real node of two shards.

mod common;

use std::time::Duration;

use common::till::*;
use common::{House, ask, open, open_with};
use engine::command::*;
use engine::ids::*;
use engine::money::{Currency, Money};
use engine::rejection::Rejection;
use engine::status::{FestivalStatus, Policy};
use engine::time::Timestamp;
use gateway::client::{ClientError, Event, Identity, Link, ReaderOptions, Shown, Terminal};
use gateway::quic::Limits;
use gateway::wire::{Frame, LineItem, Pay, Refund, Refusal, TopUp, WalletName, close};

/// Nothing here takes so long; a test that hangs ends.
const AT_MOST: Duration = Duration::from_secs(20);

async fn bar() -> House {
    let house = open().await;
    cashless(&house).await;
    house
}

/// What a bare connection hears about a command.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Heard {
    Told(TerminalAnswer),
    Busy(Rejection),
}

impl Heard {
    fn verdict(&self) -> CashVerdict {
        match self {
            Self::Told(answer) => answer.verdict,
            Self::Busy(rejection) => panic!("busy: {rejection:?}"),
        }
    }
}

/// So many answers, by number.
async fn hear(link: &mut Link, count: usize) -> Vec<(u64, Heard)> {
    let mut heard = Vec::new();
    let listen = async {
        loop {
            link.frames
                .take(|frame| match frame {
                    Frame::CashAnswer { seq, answer } => heard.push((*seq, Heard::Told(*answer))),
                    Frame::Busy { seq, rejection, .. } => heard.push((*seq, Heard::Busy(*rejection))),
                    other => panic!("{other:?}"),
                })
                .unwrap();
            if heard.len() >= count {
                return;
            }
            assert!(link.frames.fill().await.unwrap(), "the stream goes on");
        }
    };
    tokio::time::timeout(AT_MOST, listen).await.expect("answers come");
    heard.sort_by_key(|(seq, _)| *seq);
    heard
}

async fn say(link: &mut Link, frames: &[Frame<'_>]) {
    let mut bytes = Vec::new();
    frames.iter().for_each(|frame| frame.encode(&mut bytes));
    link.send.write_all(&bytes).await.unwrap();
}

async fn one(link: &mut Link, frame: Frame<'_>) -> Heard {
    say(link, &[frame]).await;
    hear(link, 1).await[0].1
}

fn pay(seq: u64, wallet: WalletName<'_>, minor: i64) -> Frame<'_> {
    Frame::Pay(Pay { seq, floor: 1, wallet, amount: eur(minor), lines: &[], resent: false })
}

fn again(frame: Frame<'_>) -> Frame<'_> {
    match frame {
        Frame::Pay(pay) => Frame::Pay(Pay { resent: true, ..pay }),
        Frame::Refund(refund) => Frame::Refund(Refund { resent: true, ..refund }),
        Frame::TopUp(top_up) => Frame::TopUp(TopUp { resent: true, ..top_up }),
        other => panic!("{other:?}"),
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_evening_at_the_bar() {
    let house = bar().await;
    let (bar, desk) = (terminal(&house, Some(BAR), false).await, terminal(&house, None, true).await);
    let welcome = bar.connected().await.unwrap();
    let till = welcome.till.clone().expect("a terminal");
    assert_eq!((welcome.festival_name.as_str(), till.vendor_name.as_str()), ("Night", "Bar 7"));
    assert_eq!((till.vendor, till.cashier, till.currency), (Some(BAR), false, Currency::EUR));
    let (anna, ben) = (guest(&house, 11, 0).await, guest(&house, 12, 10_000).await);
    link(&house, tag(1), anna, false).await;
    let band = || Shown::Tag(tag(1));

    let told = desk.top_up(band(), eur(5_000)).await.unwrap();
    assert_eq!(outcome(&told), (CashVerdict::ToppedUp, 5_000));
    assert_eq!(told.say(), "50.00 EUR topped up. 50.00 EUR on it now.");
    let paid = bar.pay(band(), eur(1_250), &[line(0, 2, 500), line(1, 1, 250)]).await.unwrap();
    assert_eq!(outcome(&paid), (CashVerdict::Paid, 3_750));
    assert_eq!((paid.answer.amount, paid.answer.wallet, paid.answer.currency), (1_250, anna, Currency::EUR));
    assert!(paid.answer.order > 0 && paid.answer.at > Timestamp(0));
    assert_eq!(paid.say(), format!("12.50 EUR paid, order {}. 37.50 EUR left.", paid.answer.order));
    assert_eq!(outcome(&bar.balance(band()).await.unwrap()), (CashVerdict::Balance, 3_750));

    for (what, shown, left) in [
        ("by id", Shown::Wallet(ben), 9_000),
        ("by QR", by_qr(&house, ben), 8_000),
        ("by QR again, its key known", by_qr(&house, ben), 7_000),
    ] {
        let told = bar.pay(shown, eur(1_000), &[]).await.unwrap();
        assert_eq!(outcome(&told), (CashVerdict::Paid, left), "{what}");
    }

    let payment = paid.transaction().expect("money moved");
    let part = bar.refund(payment, Some(eur(250))).await.unwrap();
    assert_eq!((outcome(&part), part.answer.amount), ((CashVerdict::Refunded, 4_000), 250));
    let rest = bar.refund(payment, None).await.unwrap();
    assert_eq!((outcome(&rest), rest.answer.amount), ((CashVerdict::Refunded, 5_000), 1_000));
    assert_eq!(rest.say(), "10.00 EUR given back. 50.00 EUR on it now.");
    let more = bar.refund(payment, None).await.unwrap();
    assert_eq!(outcome(&more).0, rejected(Rejection::AlreadyRefunded));

    let short = bar.pay(band(), eur(5_001), &[]).await.unwrap();
    assert_eq!(outcome(&short), (rejected(Rejection::InsufficientFunds), 5_000));
    assert_eq!(short.say(), "There is not enough money on this wristband. 50.00 EUR left.");
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
        Frame::Pay(Pay { seq: 4, floor: 1, wallet: band, amount: eur(1_000), lines: &lines, resent: false }),
        Frame::TopUp(TopUp { seq: 5, floor: 1, wallet: band, amount: eur(5_000), resent: false }),
        Frame::Refund(Refund { seq: 6, floor: 1, payment, amount: Some(eur(400)), resent: false }),
        Frame::Refund(Refund { seq: 7, floor: 1, payment, amount: None, resent: false }),
        pay(8, band, 999_999),
    ];
    say(&mut link, &frames).await;
    let first = hear(&mut link, frames.len()).await;
    let verdicts: Vec<_> = first.iter().map(|(_, heard)| heard.verdict()).collect();
    use CashVerdict::{Paid, Refunded, ToppedUp};
    let short = rejected(Rejection::InsufficientFunds);
    assert_eq!(verdicts, [Paid, Paid, Paid, Paid, ToppedUp, Refunded, Refunded, short]);
    assert_eq!(first[0].1, Heard::Told(paid));

    // On the same connection, then on the next, as a terminal does that has heard nothing.
    say(&mut link, &frames).await;
    assert_eq!(hear(&mut link, frames.len()).await, first, "to the last bit");
    link.connection.close(0_u32.into(), b"");
    let mut link = Link::open(None, &identity).await.unwrap();
    assert_eq!(link.welcome.next_seq, 9, "over all shards");
    say(&mut link, &frames.map(again)).await;
    assert_eq!(hear(&mut link, frames.len()).await, first);
    assert_eq!(wallet(&house, anna).await.available, 10_000 - 1_000 - 500 - 250 - 1_000 + 5_000 + 1_000);

    // Other content under a number that was used, numbers out of bounds.
    for (what, frame, rejection) in [
        ("another amount", pay(1, band, 1_001), Rejection::IdempotencyConflict),
        ("another wallet", pay(2, band, 500), Rejection::IdempotencyConflict),
        ("too far ahead", pay(2 + 4_096, band, 500), Rejection::WindowFull),
        (
            "number 0",
            Frame::Pay(Pay { seq: 0, floor: 0, wallet: band, amount: eur(1), lines: &[], resent: false }),
            Rejection::StaleSeq,
        ),
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
        let old: Vec<_> = frames[..sent].iter().copied().map(again).collect();
        say(&mut link, &old).await;
        say(&mut link, &frames[sent..sent + 50]).await;
        sent += 50;
        hear(&mut link, round * 6).await;
        link.connection.close(0_u32.into(), b"");
    }
    let mut link = Link::open(None, &identity).await.unwrap();
    let all: Vec<_> = frames.iter().copied().map(again).collect();
    say(&mut link, &all).await;
    let heard = hear(&mut link, 400).await;
    assert!(heard.iter().all(|(_, heard)| heard.verdict() == CashVerdict::Paid));
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
    assert_eq!(outcome(&terminal.pay(Shown::Tag(tag(1)), eur(1_000), &[]).await.unwrap()), (CashVerdict::Paid, 9_000));
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
    assert_eq!(outcome(&told), (CashVerdict::Paid, 5_000), "the queue came first");
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
    let mut tills = tokio::task::JoinSet::new();
    for _ in 0..20 {
        let bar = bar.clone();
        tills.spawn(async move {
            for _ in 0..20 {
                let told = bar.pay(Shown::Tag(tag(1)), eur(1), &[]).await.unwrap();
                assert_eq!(told.answer.verdict, CashVerdict::Paid);
            }
        });
    }
    for _ in 0..2 {
        tokio::time::sleep(Duration::from_millis(20)).await;
        house.reopen().await;
        let connected = async { while !matches!(events.recv().await.expect("not lagging"), Event::Connected(_)) {} };
        tokio::time::timeout(AT_MOST, connected).await.expect("comes again");
    }
    tokio::time::timeout(AT_MOST, tills.join_all()).await.expect("each is answered");
    assert_eq!(wallet(&house, anna).await.available, 10_000 - 400, "each once");
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
        say(&mut link, &frames).await;
        let heard = hear(&mut link, frames.len()).await;
        assert!(heard.iter().map(|(seq, _)| *seq).eq(seqs.clone()));
        let mut left = std::collections::HashMap::new();
        for (seq, heard) in heard {
            let Heard::Told(answer) = heard else { panic!("{seq}: {heard:?}") };
            if seq.is_multiple_of(3) {
                assert_eq!(answer.verdict, rejected(Rejection::UnknownTag), "{seq}, round {round}");
                continue;
            }
            assert_eq!(answer.verdict, CashVerdict::Paid, "{seq}, round {round}");
            let before = left.insert(answer.wallet, answer.balance).unwrap_or(1_000);
            assert_eq!(answer.balance, before - 100, "a wallet's payments keep their order: {seq}, round {round}");
        }
        assert_eq!(left.len(), 120);
    }
    link.close().await;
    house.close().await;
}

/// `wallet` gets a new wristband; the old one names somebody else.
async fn moves(house: &House, old: TagUid, from: WalletId, new: TagUid, to: WalletId) {
    link(house, new, from, true).await;
    settled(house, old, None).await;
    link(house, old, to, false).await;
    settled(house, old, Some(to)).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_wristband_that_has_moved_is_found_out_at_the_next_tap() {
    let house = bar().await;
    let (bar, identity) = (terminal(&house, Some(BAR), false).await, enrolled(&house, Some(BAR), false).await);
    let (anna, ben, cleo) =
        (guest(&house, 11, 10_000).await, guest(&house, 12, 10_000).await, guest(&house, 13, 10_000).await);
    link(&house, tag(1), anna, false).await;
    let mut bare = Link::open(None, &identity).await.unwrap();
    assert_eq!(bar.pay(Shown::Tag(tag(1)), eur(100), &[]).await.unwrap().answer.wallet, anna);
    let band = WalletName::Tag(tag(1));
    let Heard::Told(decided) = one(&mut bare, pay(1, band, 100)).await else { panic!() };
    assert_eq!((decided.verdict, decided.wallet, decided.balance), (CashVerdict::Paid, anna, 9_800));

    // Between the resolving of the tap and the decision, as far as the door can tell: it still knows the old link.
    moves(&house, tag(1), anna, tag(2), ben).await;
    assert_eq!(one(&mut bare, pay(2, band, 100)).await, Heard::Busy(Rejection::TagMoved), "nothing was done");
    let Heard::Told(told) = one(&mut bare, pay(2, band, 100)).await else { panic!("looked up anew") };
    assert_eq!((told.verdict, told.wallet, told.balance), (CashVerdict::Paid, ben, 9_900));

    // The library does that by itself.
    moves(&house, tag(1), ben, tag(3), cleo).await;
    let told = bar.pay(Shown::Tag(tag(1)), eur(100), &[]).await.unwrap();
    assert_eq!((told.answer.verdict, told.answer.wallet, told.answer.balance), (CashVerdict::Paid, cleo, 9_900));

    // What was decided by another wallet then, and sent again now, is answered as it was; nobody pays a second time.
    bare.connection.close(0_u32.into(), b"");
    let mut bare = Link::open(None, &identity).await.unwrap();
    say(&mut bare, &[again(pay(1, band, 100)), again(pay(2, band, 100)), again(pay(3, band, 100))]).await;
    let heard = hear(&mut bare, 3).await;
    assert_eq!(heard[0], (1, Heard::Told(decided)), "by Anna's wallet");
    let Heard::Told(second) = heard[1].1 else { panic!("{heard:?}") };
    assert_eq!((second.verdict, second.wallet), (CashVerdict::Paid, ben));
    let Heard::Told(third) = heard[2].1 else { panic!("{heard:?}") };
    assert_eq!((third.verdict, third.wallet, third.balance), (CashVerdict::Paid, cleo, 9_800), "of this nobody knew");
    let left = [anna, ben, cleo].map(|id| wallet(&house, id));
    let left = futures_util::future::join_all(left).await;
    assert_eq!(left.iter().map(|wallet| wallet.available).collect::<Vec<_>>(), [9_800, 9_900, 9_800]);

    // Freed, it names nobody; the wallet with the new wristband still pays by that one.
    link(&house, tag(4), cleo, true).await;
    settled(&house, tag(1), None).await;
    assert_eq!(outcome(&bar.pay(Shown::Tag(tag(1)), eur(100), &[]).await.unwrap()).0, rejected(Rejection::UnknownTag));
    assert_eq!(outcome(&bar.pay(Shown::Tag(tag(4)), eur(100), &[]).await.unwrap()), (CashVerdict::Paid, 9_700));
    house.close().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn lost_and_unknown_wristbands() {
    let house = bar().await;
    let (bar, identity) = (terminal(&house, Some(BAR), false).await, enrolled(&house, Some(BAR), false).await);
    let (anna, ben) = (guest(&house, 11, 10_000).await, guest(&house, 12, 10_000).await);
    link(&house, tag(1), anna, false).await;
    assert_eq!(outcome(&bar.pay(Shown::Tag(tag(1)), eur(100), &[]).await.unwrap()), (CashVerdict::Paid, 9_900));

    cash(&house, CashAction::ReportLost { wallet: anna }).await;
    let lost = bar.pay(Shown::Tag(tag(1)), eur(100), &[]).await.unwrap();
    assert_eq!(outcome(&lost).0, rejected(Rejection::TagLost), "at the very next tap");
    assert_eq!(lost.say(), "This wristband was reported lost. Please go to the help desk.");
    settled(&house, tag(1), None).await;
    let stranger = terminal(&house, Some(OTHER_BAR), false).await;
    let lost = stranger.pay(Shown::Tag(tag(1)), eur(100), &[]).await.unwrap();
    assert_eq!(
        (outcome(&lost).0, lost.answer.wallet),
        (rejected(Rejection::TagLost), anna),
        "the wallet has it on record"
    );
    link(&house, tag(2), anna, true).await;
    assert_eq!(outcome(&bar.pay(Shown::Tag(tag(2)), eur(100), &[]).await.unwrap()), (CashVerdict::Paid, 9_800));
    let lost = bar.pay(Shown::Tag(tag(1)), eur(100), &[]).await.unwrap();
    assert_eq!(outcome(&lost).0, rejected(Rejection::TagLost), "and for ever");

    // Nobody has a record of this, so the same number can still be decided; once.
    let mut bare = Link::open(None, &identity).await.unwrap();
    let band = WalletName::Tag(tag(9));
    assert_eq!(one(&mut bare, pay(1, band, 100)).await.verdict(), rejected(Rejection::UnknownTag));
    assert_eq!(one(&mut bare, again(pay(1, band, 100))).await.verdict(), rejected(Rejection::UnknownTag));
    link(&house, tag(9), ben, false).await;
    let Heard::Told(paid) = one(&mut bare, again(pay(1, band, 100))).await else { panic!() };
    assert_eq!((paid.verdict, paid.balance), (CashVerdict::Paid, 9_900));
    assert_eq!(one(&mut bare, again(pay(1, band, 100))).await, Heard::Told(paid));
    assert_eq!(wallet(&house, ben).await.available, 9_900);
    house.close().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_cannot_be_paid() {
    use Rejection::*;
    let house = bar().await;
    let (bar, other) = (terminal(&house, Some(BAR), false).await, terminal(&house, Some(OTHER_BAR), false).await);
    let desk = terminal(&house, None, true).await;
    let anna = guest(&house, 11, 10_000).await;
    let blocked = guest(&house, 12, 10_000).await;
    cash(&house, CashAction::Block { wallet: blocked, blocked: true }).await;
    let her = || Shown::Wallet(anna);
    let dollars = |minor| Money { minor, currency: Currency::parse("USD").unwrap() };
    let forged = String::from_utf8(wallet_qr(&house, anna, 1)).unwrap().replace("\"version\":1", "\"version\":2");
    let victims = String::from_utf8(wallet_qr(&house, anna, 1)).unwrap();
    let victims = victims.replace(&anna.to_string(), &blocked.to_string());
    for (what, shown, amount, lines, rejection) in [
        ("nothing", her(), eur(0), vec![], InvalidAmount),
        ("less than nothing", her(), eur(-1), vec![], InvalidAmount),
        ("10^12", her(), eur(1_000_000_000_000), vec![], InvalidAmount),
        ("the least there is", her(), eur(i64::MIN), vec![], InvalidAmount),
        ("dollars", her(), dollars(100), vec![], WrongCurrency),
        ("more than there is", her(), eur(10_001), vec![], InsufficientFunds),
        ("lines of another sum", her(), eur(999), vec![line(0, 2, 500)], LinesMismatch),
        ("a line of none", her(), eur(500), vec![line(0, 1, 500), line(1, 0, 250)], LinesMismatch),
        ("a line of less than nothing", her(), eur(250), vec![line(0, 1, 500), line(1, 1, -250)], LinesMismatch),
        ("lines beyond all sums", her(), eur(500), vec![line(0, u16::MAX, i64::MAX); 32], LinesMismatch),
        ("what is not sold here", her(), eur(500), vec![line(7, 1, 500)], UnknownProduct),
        ("no such wallet", Shown::Wallet(WalletId(77)), eur(100), vec![], UnknownWallet),
        ("a blocked one", Shown::Wallet(blocked), eur(100), vec![], WalletBlocked),
        ("no such wristband", Shown::Tag(tag(77)), eur(100), vec![], UnknownTag),
        ("an advert", Shown::Qr(b"https://example.org".to_vec()), eur(100), vec![], InvalidQr),
        ("a ticket", Shown::Qr(house.qr(house.tickets[0])), eur(100), vec![], InvalidQr),
        ("5,000 bytes", Shown::Qr(vec![b'x'; 5_000]), eur(100), vec![], InvalidQr),
        ("a QR of another version", Shown::Qr(forged.into_bytes()), eur(100), vec![], TamperedQr),
        ("her signature on his wallet", Shown::Qr(victims.into_bytes()), eur(100), vec![], TamperedQr),
        ("a key that there never was", Shown::Qr(wallet_qr(&house, anna, 9)), eur(100), vec![], TamperedQr),
    ] {
        let told = bar.pay(shown, amount, &lines).await.expect(what);
        assert_eq!(told.answer.verdict, rejected(rejection), "{what}");
        assert_eq!(told.transaction(), None, "{what}");
    }
    let many = bar.pay(her(), eur(33), &[line(0, 1, 1); 33]).await;
    assert!(matches!(many, Err(ClientError::TooManyLines)), "{many:?}");
    for (what, amount, rejection) in [
        ("nothing", eur(0), InvalidAmount),
        ("10^12", eur(1_000_000_000_000), InvalidAmount),
        ("dollars", dollars(1_000), WrongCurrency),
        ("too little", eur(499), BelowMinTopup),
        ("too much", eur(50_001), AboveMaxTopup),
    ] {
        let told = desk.top_up(her(), amount).await.expect(what);
        assert_eq!(told.answer.verdict, rejected(rejection), "top up {what}");
    }

    let paid = bar.pay(her(), eur(1_000), &[]).await.unwrap().transaction().unwrap();
    let topped_up = desk.top_up(her(), eur(1_000)).await.unwrap().transaction().unwrap();
    let refund = bar.refund(paid, Some(eur(100))).await.unwrap().transaction().unwrap();
    let never = TransactionId { serial: 1 << 39, ..paid };
    for (what, by, payment, amount, rejection) in [
        ("by another vendor", &other, paid, None, NotYourPayment),
        ("by the cash desk", &desk, paid, None, NotYourPayment),
        ("of a refund", &bar, refund, None, NotAPayment),
        ("of a top-up", &bar, topped_up, None, NotAPayment),
        ("of more than is left", &bar, paid, Some(eur(901)), RefundExceedsPayment),
        ("of nothing", &bar, paid, Some(eur(0)), InvalidAmount),
        ("in dollars", &bar, paid, Some(dollars(1)), WrongCurrency),
        ("of what never was", &bar, never, None, UnknownTransaction),
    ] {
        let told = by.refund(payment, amount).await.expect(what);
        assert_eq!(told.answer.verdict, rejected(rejection), "a refund {what}");
    }
    // Twice at once, from two terminals.
    let second = terminal(&house, Some(BAR), false).await;
    let (a, b) = tokio::join!(bar.refund(paid, None), second.refund(paid, None));
    let mut verdicts = [a.unwrap().answer.verdict, b.unwrap().answer.verdict];
    verdicts.sort_by_key(|verdict| verdict.number());
    assert_eq!(verdicts, [rejected(AlreadyRefunded), CashVerdict::Refunded]);
    assert_eq!(wallet(&house, anna).await.available, 11_000);
    house.close().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_wallets_qr_goes_with_the_key_that_signed_it() {
    let house = bar().await;
    let bar = terminal(&house, Some(BAR), false).await;
    let anna = guest(&house, 11, 10_000).await;
    for (rotations, verdict) in [(0, CashVerdict::Paid), (1, CashVerdict::Paid), (1, rejected(Rejection::KeyRetired))] {
        for _ in 0..rotations {
            ask(&house.node, OfficeAction::RotateQrKey { festival: house.festival }).await;
        }
        // Within five seconds of the rotation.
        let deadline = tokio::time::Instant::now() + Duration::from_secs(7);
        loop {
            let told = bar.pay(by_qr(&house, anna), eur(1), &[]).await.unwrap();
            if told.answer.verdict == verdict {
                break;
            }
            assert!(tokio::time::Instant::now() < deadline, "{told:?}");
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
    }
    house.close().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn ten_thousand_at_once_on_a_wallet_that_holds_enough_for_one() {
    let house = bar().await;
    let anna = guest(&house, 11, 500).await;
    link(&house, tag(1), anna, false).await;
    let mut links = Vec::new();
    for _ in 0..4 {
        links.push(Link::open(None, &enrolled(&house, Some(BAR), false).await).await.unwrap());
    }
    let told = links.iter_mut().map(|link| async {
        let mut paid = 0;
        for part in 0..5 {
            let frames: Vec<_> = (1..=500)
                .map(|n| {
                    let name = if n % 2 == 0 { WalletName::Id(anna) } else { WalletName::Tag(tag(1)) };
                    let (seq, floor) = (part * 500 + n, part * 500 + 1);
                    Frame::Pay(Pay { seq, floor, wallet: name, amount: eur(500), lines: &[], resent: false })
                })
                .collect();
            say(link, &frames).await;
            for (_, heard) in hear(link, 500).await {
                match heard.verdict() {
                    CashVerdict::Paid => paid += 1,
                    verdict => assert_eq!(verdict, rejected(Rejection::InsufficientFunds)),
                }
            }
        }
        paid
    });
    let paid = futures_util::future::join_all(told).await;
    assert_eq!(paid.iter().sum::<u32>(), 1, "{paid:?}");
    assert_eq!(wallet(&house, anna).await.available, 0);
    house.close().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_terminal_of_another_festival() {
    let mut house = bar().await;
    let anna = guest(&house, 11, 10_000).await;
    link(&house, tag(1), anna, false).await;
    let qr = by_qr(&house, anna);
    let (starts_at, ends_at, policy) = (Timestamp(0), Timestamp(i64::MAX), Policy::default());
    let (slug, name) = ("elsewhere".to_owned(), "Elsewhere".to_owned());
    let made = ask(&house.node, OfficeAction::CreateFestival { slug, name, starts_at, ends_at, policy }).await;
    let OfficeAnswer::Festival(elsewhere) = made else { panic!("{made:?}") };
    let here = std::mem::replace(&mut house.festival, elsewhere);
    cashless(&house).await;
    for to in [FestivalStatus::Published, FestivalStatus::Ongoing] {
        ask(&house.node, OfficeAction::SetFestivalStatus { festival: elsewhere, to }).await;
    }
    let theirs = terminal(&house, Some(BAR), true).await;
    house.festival = here;
    for (what, shown) in [("tag", Shown::Tag(tag(1))), ("id", Shown::Wallet(anna)), ("QR", qr)] {
        let foreign = rejected(Rejection::ForeignWallet);
        assert_eq!(theirs.pay(shown.clone(), eur(100), &[]).await.unwrap().answer.verdict, foreign, "pay by {what}");
        assert_eq!(theirs.top_up(shown.clone(), eur(1_000)).await.unwrap().answer.verdict, foreign, "top up by {what}");
        assert_eq!(theirs.balance(shown).await.unwrap().answer.verdict, foreign, "balance by {what}");
    }
    let ours = terminal(&house, Some(BAR), false).await;
    let paid = ours.pay(Shown::Wallet(anna), eur(100), &[]).await.unwrap();
    let refund = theirs.refund(paid.transaction().unwrap(), None).await.unwrap();
    assert_eq!(refund.answer.verdict, rejected(Rejection::NotYourPayment));
    assert_eq!(wallet(&house, anna).await.available, 9_900);
    house.close().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_revoked_terminal_takes_no_more_money() {
    let house = bar().await;
    let identity = enrolled(&house, Some(BAR), false).await;
    let anna = guest(&house, 11, 10_000).await;
    let bar = Terminal::connect(identity.clone(), ReaderOptions::default()).await.unwrap();
    let mut events = bar.events();
    assert!(bar.pay(Shown::Wallet(anna), eur(100), &[]).await.is_ok());
    house.revoke(identity.device).await;
    let ended = tokio::time::timeout(AT_MOST, async {
        loop {
            if let Event::Ended(error) = events.recv().await.unwrap() {
                return error;
            }
        }
    });
    let ended = ended.await.expect("is told");
    let ClientError::Refused { refusal, .. } = ended else { panic!("{ended:?}") };
    assert_eq!(refusal, Refusal::Rejected(Rejection::DeviceRevoked));
    assert!(bar.pay(Shown::Wallet(anna), eur(100), &[]).await.is_err());
    let refused = Link::open(None, &identity).await.err().unwrap();
    assert!(matches!(refused, ClientError::Refused { refusal: Refusal::Rejected(Rejection::DeviceRevoked), .. }));
    assert_eq!(wallet(&house, anna).await.available, 9_900);
    house.close().await;
}

/// What a device of one trade sends that is for the other, and what no terminal sends.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn frames_that_have_no_place() {
    let house = bar().await;
    let (till, gate) = (enrolled(&house, Some(BAR), false).await, house.device().await);
    let anna = guest(&house, 11, 10_000).await;
    let scan = Frame::Scan(gateway::wire::Scan {
        seq: 2,
        floor: 1,
        captured_at: Timestamp(0),
        zone: ZoneNo(0),
        direction: Direction::Enter,
        shown: None,
        resent: false,
        credential: gateway::wire::Credential::Tag(tag(1)),
    });
    let balance = gateway::wire::Balance { seq: 2, floor: 1, wallet: WalletName::Id(anna), resent: false };
    let answer = Frame::CashAnswer { seq: 1, answer: TerminalAnswer::rejected(Rejection::Busy, anna, Timestamp(0)) };
    let mut many = pay(2, WalletName::Id(anna), 500).to_bytes();
    many[25] = 33;
    for (what, identity, bytes, refusal) in [
        ("a reader's payment", &gate, pay(2, WalletName::Id(anna), 1).to_bytes(), Refusal::OutOfPlace),
        ("a reader's balance", &gate, Frame::Balance(balance).to_bytes(), Refusal::OutOfPlace),
        ("a terminal's scan", &till, scan.to_bytes(), Refusal::OutOfPlace),
        ("a terminal's second hello", &till, Frame::Hello(till.device).to_bytes(), Refusal::OutOfPlace),
        ("a server's answer", &till, answer.to_bytes(), Refusal::OutOfPlace),
        ("33 lines", &till, many, Refusal::Malformed),
        ("a frame of no kind", &till, vec![4, 0, 0x2F, 0], Refusal::Malformed),
    ] {
        let Link { connection, mut send, mut frames, .. } = Link::open(None, identity).await.unwrap();
        send.write_all(&bytes).await.unwrap();
        let mut refused = None;
        let ending = async {
            while frames.fill().await.unwrap_or(false) {
                let heard = frames.take(|frame| match frame {
                    Frame::Refuse { refusal, .. } => refused = Some(*refusal),
                    other => panic!("{what}: {other:?}"),
                });
                heard.unwrap();
            }
            connection.closed().await
        };
        let closed = tokio::time::timeout(AT_MOST, ending).await.expect("the server ends it");
        let quinn::ConnectionError::ApplicationClosed(closed) = closed else { panic!("{what}: {closed}") };
        assert_eq!((refused, u64::from(closed.error_code) as u32), (Some(refusal), close::MALFORMED), "{what}");
    }
    assert_eq!(wallet(&house, anna).await.available, 10_000, "nobody has paid");

    let refused = Terminal::connect(gate, ReaderOptions::default()).await.err().unwrap();
    assert!(matches!(refused, ClientError::WrongTrade("a reader")), "{refused}");
    let refused = gateway::client::Reader::connect(till, ReaderOptions::default()).await.err().unwrap();
    assert!(matches!(refused, ClientError::WrongTrade("a terminal")), "{refused}");
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
        assert_eq!(told.unwrap().answer.verdict, CashVerdict::Paid);
    }
    assert_eq!(wallet(&house, anna).await.available, 10_000 - 600);
    house.close().await;
}
