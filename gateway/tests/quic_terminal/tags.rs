//! Wristbands that move between wallets, and lost ones.

use engine::cashless::command::*;

use engine::model::ids::*;
use engine::model::rejection::Rejection;
use engine::model::time::Timestamp;
use tapgate_client::{Link, Shown};
use tapgate_wire::{Balance, Frame, Pay, TopUp, WalletName};

use crate::common::House;
use crate::common::terminal::*;
use crate::link::*;

/// `wallet` gets a new wristband; the old one names somebody else.
pub(crate) async fn moves(house: &House, old: TagUid, from: WalletId, new: TagUid, to: WalletId) {
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
    assert_eq!((decided.verdict, decided.wallet, decided.balance), (CashlessVerdict::Paid, anna, 9_800));

    // Between the resolving of the tap and the decision, as far as the door can tell: it still knows the old link.
    moves(&house, tag(1), anna, tag(2), ben).await;
    assert_eq!(one(&mut bare, pay(2, band, 100)).await, Heard::Busy(Rejection::TagMoved), "nothing was done");
    let Heard::Told(told) = one(&mut bare, pay(2, band, 100)).await else { panic!("looked up anew") };
    assert_eq!((told.verdict, told.wallet, told.balance), (CashlessVerdict::Paid, ben, 9_900));

    // The library does that by itself.
    moves(&house, tag(1), ben, tag(3), cleo).await;
    let told = bar.pay(Shown::Tag(tag(1)), eur(100), &[]).await.unwrap();
    assert_eq!((told.answer.verdict, told.answer.wallet, told.answer.balance), (CashlessVerdict::Paid, cleo, 9_900));

    // What was decided by another wallet then, and sent again now, is answered as it was; nobody pays a second time.
    bare.connection.close(0_u32.into(), b"");
    let mut bare = Link::open(None, &identity).await.unwrap();
    send(&mut bare, &[replay(pay(1, band, 100)), replay(pay(2, band, 100)), replay(pay(3, band, 100))]).await;
    let heard = receive(&mut bare, 3).await;
    assert_eq!(heard[0], (1, Heard::Told(decided)), "by Anna's wallet");
    let Heard::Told(second) = heard[1].1 else { panic!("{heard:?}") };
    assert_eq!((second.verdict, second.wallet), (CashlessVerdict::Paid, ben));
    let Heard::Told(third) = heard[2].1 else { panic!("{heard:?}") };
    assert_eq!(
        (third.verdict, third.wallet, third.balance),
        (CashlessVerdict::Paid, cleo, 9_800),
        "of this nobody knew"
    );
    bare.connection.close(0_u32.into(), b"");
    let mut bare = Link::open(None, &identity).await.unwrap();
    send(&mut bare, &[pay(1, band, 100), pay(2, band, 100), pay(3, band, 100)]).await;
    assert_eq!(receive(&mut bare, 3).await, heard, "a terminal that forgets to say that it sends something again");
    let left = [anna, ben, cleo].map(|id| wallet(&house, id));
    let left = futures_util::future::join_all(left).await;
    assert_eq!(left.iter().map(|wallet| wallet.available).collect::<Vec<_>>(), [9_800, 9_900, 9_800]);

    // Freed, it names nobody; the wallet with the new wristband still pays by that one.
    link(&house, tag(4), cleo, true).await;
    settled(&house, tag(1), None).await;
    assert_eq!(outcome(&bar.pay(Shown::Tag(tag(1)), eur(100), &[]).await.unwrap()).0, rejected(Rejection::UnknownTag));
    assert_eq!(outcome(&bar.pay(Shown::Tag(tag(4)), eur(100), &[]).await.unwrap()), (CashlessVerdict::Paid, 9_700));
    house.close().await;
}

/// A terminal without a network keeps a tap; the guest gets a new wristband at the desk, the next guest gets the old one.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn whoever_has_the_wristband_when_the_network_is_back_does_not_pay_for_the_tap_of_another() {
    let house = bar().await;
    let identity = enrolled(&house, Some(BAR), false).await;
    let (anna, ben) = (guest(&house, 11, 10_000).await, guest(&house, 12, 10_000).await);
    link(&house, tag(1), anna, false).await;
    let a_minute_ago = Timestamp(now().0 - 60_000);
    let band = WalletName::Tag(tag(1));
    let mut bare = Link::open(None, &identity).await.unwrap();
    let moved = rejected(Rejection::TagMoved);
    // Nobody wore it then: the first link is younger than the tap.
    assert_eq!(answer_to(&mut bare, pay_at(a_minute_ago, 1, band, 100)).await.verdict, moved, "looked up");
    assert_eq!(one(&mut bare, pay_at(a_minute_ago, 2, band, 100)).await.verdict(), moved, "known: final, at once");
    let just_now = now();
    assert_eq!(answer_to(&mut bare, pay_at(just_now, 3, band, 100)).await.wallet, anna, "tapped now");
    moves(&house, tag(1), anna, tag(2), ben).await;
    bare.connection.close(0_u32.into(), b"");
    let mut bare = Link::open(None, &identity).await.unwrap();
    let old = |seq| pay_at(a_minute_ago, seq, band, 100);
    assert_eq!(one(&mut bare, replay(old(4))).await.verdict(), moved, "sent again, and none of them knows it");
    assert_eq!(one(&mut bare, old(5)).await.verdict(), moved, "sent for the first time");
    assert_eq!(answer_to(&mut bare, replay(pay_at(just_now, 3, band, 100))).await.wallet, anna, "paid before it moved");
    let balance = Balance { seq: 6, floor: 1, captured_at: a_minute_ago, wallet: band, resent: false };
    assert_eq!(one(&mut bare, Frame::Balance(balance)).await.verdict(), moved);
    assert_eq!([wallet(&house, anna).await.available, wallet(&house, ben).await.available], [9_900, 10_000]);
    bare.close().await;
    house.close().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_payment_that_comes_too_late_is_remembered_as_that() {
    let house = bar().await;
    let identity = enrolled(&house, Some(BAR), true).await;
    let anna = guest(&house, 11, 10_000).await;
    link(&house, tag(1), anna, false).await;
    let mut bare = Link::open(None, &identity).await.unwrap();
    let until = |frame: Frame<'static>, left_ms: i64| {
        let expires_at = Timestamp(now().0 + left_ms);
        match frame {
            Frame::Pay(pay) => Frame::Pay(Pay { expires_at, ..pay }),
            Frame::TopUp(top_up) => Frame::TopUp(TopUp { expires_at, ..top_up }),
            other => panic!("{other:?}"),
        }
    };
    let band = WalletName::Tag(tag(1));
    let expired = rejected(Rejection::Expired);
    let first = answer_to(&mut bare, until(pay(1, band, 100), -60_000)).await;
    assert_eq!((first.verdict, first.balance, first.serial), (expired, 10_000, 0));
    assert_eq!(answer_to(&mut bare, until(top_up(2, WalletName::Id(anna), 500), -60_000)).await.verdict, expired);
    assert_eq!(answer_to(&mut bare, until(pay(1, band, 100), 60_000)).await, first, "whatever its time is now");
    assert_eq!(answer_to(&mut bare, until(pay(3, band, 100), 60_000)).await.verdict, CashlessVerdict::Paid);
    assert_eq!(
        answer_to(&mut bare, until(pay(3, band, 100), -60_000)).await.verdict,
        CashlessVerdict::Paid,
        "and so is a yes"
    );
    assert_eq!(wallet(&house, anna).await.available, 9_900);
    bare.close().await;
    house.close().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn lost_and_unknown_wristbands() {
    let house = bar().await;
    let (bar, identity) = (terminal(&house, Some(BAR), false).await, enrolled(&house, Some(BAR), false).await);
    let (anna, ben) = (guest(&house, 11, 10_000).await, guest(&house, 12, 10_000).await);
    link(&house, tag(1), anna, false).await;
    assert_eq!(outcome(&bar.pay(Shown::Tag(tag(1)), eur(100), &[]).await.unwrap()), (CashlessVerdict::Paid, 9_900));

    cash(&house, CashlessAction::ReportLost { wallet: anna }).await;
    let lost = bar.pay(Shown::Tag(tag(1)), eur(100), &[]).await.unwrap();
    assert_eq!(outcome(&lost).0, rejected(Rejection::TagLost), "at the very next tap");
    assert_eq!(lost.sentence(), "This wristband was reported lost. Please go to the help desk.");
    settled(&house, tag(1), None).await;
    let stranger = terminal(&house, Some(OTHER_BAR), false).await;
    let lost = stranger.pay(Shown::Tag(tag(1)), eur(100), &[]).await.unwrap();
    assert_eq!(
        (outcome(&lost).0, lost.answer.wallet),
        (rejected(Rejection::TagLost), anna),
        "the wallet has it on record"
    );
    link(&house, tag(2), anna, true).await;
    assert_eq!(outcome(&bar.pay(Shown::Tag(tag(2)), eur(100), &[]).await.unwrap()), (CashlessVerdict::Paid, 9_800));
    let lost = bar.pay(Shown::Tag(tag(1)), eur(100), &[]).await.unwrap();
    assert_eq!(outcome(&lost).0, rejected(Rejection::TagLost), "and for ever");

    // Nobody has a record of this, so the same number can still be decided; once.
    let mut bare = Link::open(None, &identity).await.unwrap();
    let band = WalletName::Tag(tag(9));
    assert_eq!(one(&mut bare, pay(1, band, 100)).await.verdict(), rejected(Rejection::UnknownTag));
    assert_eq!(one(&mut bare, replay(pay(1, band, 100))).await.verdict(), rejected(Rejection::UnknownTag));
    link(&house, tag(9), ben, false).await;
    let Heard::Told(paid) = one(&mut bare, replay(pay(1, band, 100))).await else { panic!() };
    assert_eq!((paid.verdict, paid.balance), (CashlessVerdict::Paid, 9_900));
    assert_eq!(one(&mut bare, replay(pay(1, band, 100))).await, Heard::Told(paid));
    assert_eq!(wallet(&house, ben).await.available, 9_900);
    house.close().await;
}

/// The answer, once the door has found out which wallet the wristband names now.
async fn answer_to(bare: &mut Link, frame: Frame<'_>) -> TerminalAnswer {
    for _ in 0..3 {
        if let Heard::Told(answer) = one(bare, frame).await {
            return answer;
        }
    }
    panic!("{frame:?} is busy for ever");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_a_forgotten_wallet_may_have_paid_is_not_paid_by_another() {
    let house = bar().await;
    let identity = enrolled(&house, Some(BAR), false).await;
    // The first on a shard of its own: the others' does not know what that one has decided.
    let on = |shard| (11..).map(WalletId).filter(move |id| Home::Wallet(*id).shard(2) == ShardId(shard));
    let guests: Vec<_> = on(0).take(1).chain(on(1).take(9)).collect();
    for id in &guests {
        guest(&house, id.0, 10_000).await;
    }
    let band = WalletName::Tag(tag(1));
    let moved = async |n: u32| {
        let [from, to] = [n, n + 1].map(|n| guests[n as usize]);
        moves(&house, tag(1), from, tag(100 + n), to).await;
    };
    link(&house, tag(1), guests[0], false).await;
    let mut bare = Link::open(None, &identity).await.unwrap();
    let tapped = now();
    let first = answer_to(&mut bare, pay_at(tapped, 1, band, 100)).await;
    assert_eq!((first.verdict, first.wallet), (CashlessVerdict::Paid, guests[0]));
    bare.connection.close(0_u32.into(), b"");

    for n in 0..8 {
        moved(n).await;
    }
    let mut bare = Link::open(None, &identity).await.unwrap();
    let later = Timestamp(now().0 + 60_000); // when nobody remembers a wallet that is forgotten
    let second = answer_to(&mut bare, replay(pay_at(later, 2, band, 100))).await;
    assert_eq!(
        (second.verdict, second.wallet),
        (CashlessVerdict::Paid, guests[8]),
        "all eight before say that it is new"
    );
    assert_eq!(
        answer_to(&mut bare, replay(pay_at(tapped, 1, band, 100))).await,
        first,
        "and the first of them that it is not"
    );
    bare.connection.close(0_u32.into(), b"");

    moved(8).await;
    let mut bare = Link::open(None, &identity).await.unwrap();
    for (what, seq, verdict) in [
        ("paid by the one that is forgotten", 1, rejected(Rejection::OutcomeUnknown)),
        ("the same once more", 1, rejected(Rejection::OutcomeUnknown)),
        ("new, but who is to know?", 9, rejected(Rejection::OutcomeUnknown)),
    ] {
        assert_eq!(answer_to(&mut bare, replay(pay_at(tapped, seq, band, 100))).await.verdict, verdict, "{what}");
    }
    assert_eq!(answer_to(&mut bare, replay(pay_at(later, 2, band, 100))).await, second, "who has paid is remembered");
    let after = answer_to(&mut bare, replay(pay_at(later, 11, band, 50))).await;
    assert_eq!(
        (after.verdict, after.wallet),
        (CashlessVerdict::Paid, guests[9]),
        "tapped since: none that is forgotten"
    );
    let third = answer_to(&mut bare, pay(10, band, 100)).await;
    assert_eq!((third.verdict, third.wallet), (CashlessVerdict::Paid, guests[9]), "never sent before");
    assert_eq!(answer_to(&mut bare, replay(pay(10, band, 100))).await, third, "paid by the one that it names now");
    let mut left = Vec::new();
    for id in guests {
        left.push(wallet(&house, id).await.available);
    }
    assert_eq!(left, [9_900, 10_000, 10_000, 10_000, 10_000, 10_000, 10_000, 10_000, 9_900, 9_850]);
    bare.close().await;
    house.close().await;
}

/// Lost and found, lent and given back: to and fro between two wallets is two wallets, however often.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_wristband_that_goes_to_and_fro_forgets_nobody() {
    let house = bar().await;
    let identity = enrolled(&house, Some(BAR), false).await;
    // On two shards: neither knows what the other has decided.
    let [anna, ben] = [0, 1].map(|shard| {
        (11..).map(WalletId).find(|id| Home::Wallet(*id).shard(2) == ShardId(shard)).expect("there is one")
    });
    for id in [anna, ben] {
        guest(&house, id.0, 10_000).await;
    }
    let band = WalletName::Tag(tag(1));
    link(&house, tag(1), anna, false).await;
    let mut bare = Link::open(None, &identity).await.unwrap();
    let tapped = now();
    let first = answer_to(&mut bare, pay_at(tapped, 1, band, 100)).await;
    assert_eq!((first.verdict, first.wallet), (CashlessVerdict::Paid, anna));
    bare.connection.close(0_u32.into(), b"");
    for n in 0..11 {
        let [from, to] = if n % 2 == 0 { [anna, ben] } else { [ben, anna] };
        link(&house, tag(100 + n), from, true).await;
        settled(&house, tag(1), None).await;
        link(&house, tag(1), to, n > 0).await;
        settled(&house, tag(1), Some(to)).await;
    }
    let mut bare = Link::open(None, &identity).await.unwrap();
    assert_eq!(answer_to(&mut bare, replay(pay_at(tapped, 1, band, 100))).await, first, "after eleven moves");
    let second = answer_to(&mut bare, replay(pay(2, band, 100))).await;
    assert_eq!(
        (second.verdict, second.wallet),
        (CashlessVerdict::Paid, ben),
        "of this nobody knew, and it is known who would"
    );
    bare.close().await;
    house.close().await;
}
