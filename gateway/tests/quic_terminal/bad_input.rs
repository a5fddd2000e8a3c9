//! Whatever cannot be, with the answer that it gets.

use std::time::Duration;

use engine::command::*;

use engine::cashless::command::*;

use engine::gates::command::*;
use engine::model::ids::*;
use engine::model::money::{Currency, Money};
use engine::model::rejection::Rejection;
use engine::model::status::{FestivalStatus, Policy};
use engine::model::time::Timestamp;
use tapgate_client::{ClientError, Event, Link, ReaderOptions, Shown, Terminal};
use tapgate_wire::{Frame, Pay, Refund, Refusal, ReturnedItem, WalletName, close};

use crate::common::ask;
use crate::common::terminal::*;
use crate::link::*;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_cannot_be_paid() {
    use Rejection::*;
    let house = bar().await;
    let (bar, other) = (terminal(&house, Some(BAR), false).await, terminal(&house, Some(OTHER_BAR), false).await);
    let desk = terminal(&house, None, true).await;
    let anna = guest(&house, 11, 10_000).await;
    let blocked = guest(&house, 12, 10_000).await;
    cash(&house, CashlessAction::Block { wallet: blocked, blocked: true }).await;
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
    assert_eq!(verdicts, [rejected(AlreadyRefunded), CashlessVerdict::Refunded]);
    assert_eq!(wallet(&house, anna).await.available, 11_000);
    house.close().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_wallets_qr_goes_with_the_key_that_signed_it() {
    let house = bar().await;
    let bar = terminal(&house, Some(BAR), false).await;
    let anna = guest(&house, 11, 10_000).await;
    for (rotations, verdict) in
        [(0, CashlessVerdict::Paid), (1, CashlessVerdict::Paid), (1, rejected(Rejection::KeyRetired))]
    {
        for _ in 0..rotations {
            ask(&house.node, AdminAction::RotateQrKey { festival: house.festival }).await;
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
                    let Frame::Pay(paying) = pay(part * 500 + n, name, 500) else { unreachable!() };
                    Frame::Pay(Pay { floor: part * 500 + 1, ..paying })
                })
                .collect();
            send(link, &frames).await;
            for (_, heard) in receive(link, 500).await {
                match heard.verdict() {
                    CashlessVerdict::Paid => paid += 1,
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
    let made = ask(
        &house.node,
        AdminAction::CreateFestival {
            slug,
            name,
            starts_at,
            ends_at,
            policy,
            calendar: engine::model::time::Calendar::default(),
        },
    )
    .await;
    let AdminAnswer::Festival(elsewhere) = made else { panic!("{made:?}") };
    let here = std::mem::replace(&mut house.festival, elsewhere);
    cashless(&house).await;
    for to in [FestivalStatus::Published, FestivalStatus::Ongoing] {
        ask(&house.node, AdminAction::SetFestivalStatus { festival: elsewhere, to }).await;
    }
    let theirs = terminal(&house, Some(BAR), true).await;
    house.festival = here;
    for (what, shown) in [("tag", Shown::Tag(tag(1))), ("id", Shown::Wallet(anna)), ("QR", qr)] {
        let foreign = rejected(Rejection::UnknownWallet);
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

/// A payment with something in it that cannot be is answered, and the next one on the same connection is paid.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_content_of_a_frame_ends_a_terminals_connection() {
    use Rejection::*;
    let house = bar().await;
    let anna = guest(&house, 11, 10_000).await;
    let mut link = Link::open(None, &enrolled(&house, Some(BAR), false).await).await.unwrap();
    let sound = pay(0, WalletName::Id(anna), 500).to_bytes();
    let changed = |at: usize, value: u8| {
        let mut bytes = sound.clone();
        bytes[at] = value;
        bytes
    };
    let of_nobody = pay(0, WalletName::Id(WalletId(0)), 500).to_bytes();
    let mut packed = pay(0, WalletName::of_qr(&wallet_qr(&house, anna, 1)), 500).to_bytes();
    packed[43..51].fill(0);
    let mut refund = vec![30, 0, 0x21, 0];
    refund.resize(30, 0);
    // Of a payment that there never was.
    let refunds = |products: u8| {
        let mut bytes = vec![30 + 4 * products, 0, 0x21, 4];
        bytes.resize(usize::from(bytes[0]), 0);
        (bytes[14], bytes[22]) = (1, 1);
        bytes
    };
    let wallet_name = WalletName::Id(anna);
    let mut top_up = top_up(0, wallet_name, 1_000).to_bytes();
    top_up[38] = b'e';
    for (seq, (what, mut bytes, rejection)) in (1..).zip([
        ("33 lines", changed(41, 33), LinesMismatch),
        ("a line that is not there", changed(41, 1), InvalidValue),
        ("a flag nobody knows", changed(3, 0x80), InvalidValue),
        ("a floor below nothing", changed(13, 0xFF), InvalidValue),
        ("a currency in small letters", changed(38, b'e'), WrongCurrency),
        ("no kind of name", changed(42, 0), InvalidQr),
        ("a name of tomorrow", changed(42, 9), InvalidQr),
        ("a wristband of eight bytes", changed(42, 3), UnknownTag),
        ("nobody's wallet", of_nobody, UnknownWallet),
        ("a packed QR with an id that is no wallet's", packed, InvalidQr),
        ("a refund of nothing that ever was", refund, UnknownTransaction),
        ("33 products of a payment", refunds(33), LinesMismatch),
        ("none of its products", refunds(0), InvalidValue),
        ("a top-up in small letters", top_up, WrongCurrency),
    ]) {
        bytes[4..12].copy_from_slice(&u64::to_le_bytes(seq));
        let next = pay(100 + seq, WalletName::Id(anna), 100).to_bytes();
        link.send.write_all(&[bytes, next].concat()).await.unwrap();
        let heard = std::collections::BTreeMap::from_iter(receive(&mut link, 2).await);
        assert_eq!(heard[&seq].verdict(), rejected(rejection), "{what}");
        assert_eq!(heard[&(100 + seq)].verdict(), CashlessVerdict::Paid, "after {what}");
    }
    assert_eq!(wallet(&house, anna).await.available, 10_000 - 14 * 100);
    house.close().await;
}

/// What a device of one trade sends that is for the other, and what no terminal sends.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn frames_that_have_no_place() {
    let house = bar().await;
    let (terminal, gate) = (enrolled(&house, Some(BAR), false).await, house.device().await);
    let anna = guest(&house, 11, 10_000).await;
    let scan = Frame::Scan(tapgate_wire::Scan {
        seq: 2,
        floor: 1,
        captured_at: Timestamp(0),
        zone: ZoneNo(0),
        direction: Direction::Enter,
        shown: None,
        resent: false,
        credential: tapgate_wire::Credential::Tag(tag(1)),
    });
    let balance =
        tapgate_wire::Balance { seq: 2, floor: 1, captured_at: now(), wallet: WalletName::Id(anna), resent: false };
    let answer =
        Frame::CashlessAnswer { seq: 1, answer: TerminalAnswer::rejected(Rejection::Busy, anna, Timestamp(0)) };
    for (what, identity, bytes, refusal) in [
        ("a reader's payment", &gate, pay(2, WalletName::Id(anna), 1).to_bytes(), Refusal::OutOfPlace),
        ("a reader's balance", &gate, Frame::Balance(balance).to_bytes(), Refusal::OutOfPlace),
        ("a terminal's scan", &terminal, scan.to_bytes(), Refusal::OutOfPlace),
        ("a terminal's second hello", &terminal, Frame::Hello(terminal.device).to_bytes(), Refusal::OutOfPlace),
        ("a server's answer", &terminal, answer.to_bytes(), Refusal::OutOfPlace),
        ("a payment without its number", &terminal, vec![4, 0, 0x20, 0], Refusal::Malformed),
        ("a frame of no kind", &terminal, vec![4, 0, 0x2F, 0], Refusal::Malformed),
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
    let refused = tapgate_client::Reader::connect(terminal, ReaderOptions::default()).await.err().unwrap();
    assert!(matches!(refused, ClientError::WrongTrade("a terminal")), "{refused}");
    house.close().await;
}

/// What products had cost only the read models know. While there are none, the terminal is told to come again; nothing is
/// given back, and what needs none of them goes on.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn products_come_back_when_there_are_read_models() {
    let house = bar().await;
    let anna = guest(&house, 11, 10_000).await;
    let mut link = Link::open(None, &enrolled(&house, Some(BAR), false).await).await.unwrap();
    let items = [line(0, 1, 500).into()];
    let paid = one(&mut link, with_lines(pay(1, WalletName::Id(anna), 500), &items)).await;
    let Heard::Told(answer) = paid else { panic!("{paid:?}") };
    let (payment, lines) = (answer.transaction().expect("paid"), [ReturnedItem::new(ProductNo(0), 1)]);
    let refund = |seq, lines| Frame::Refund(Refund { seq, floor: 1, payment, amount: None, lines, resent: false });
    for _ in 0..2 {
        assert_eq!(one(&mut link, refund(2, &lines)).await, Heard::Busy(Rejection::Unavailable));
    }
    // Of what is no payment its shard says so without them.
    let never = TransactionId { serial: 1 << 39, ..payment };
    let frame = Frame::Refund(Refund { seq: 3, floor: 1, payment: never, amount: None, lines: &lines, resent: false });
    assert_eq!(one(&mut link, frame).await.verdict(), rejected(Rejection::UnknownTransaction));
    assert_eq!(one(&mut link, pay(4, WalletName::Id(anna), 100)).await.verdict(), CashlessVerdict::Paid);
    assert_eq!(one(&mut link, refund(5, &[])).await.verdict(), CashlessVerdict::Refunded);
    assert_eq!(one(&mut link, refund(2, &[])).await.verdict(), rejected(Rejection::IdempotencyConflict));
    assert_eq!(wallet(&house, anna).await.available, 10_000 - 100);
    house.close().await;
}
