//! Wristbands that move between wallets, and lost ones.

use engine::command::*;
use engine::ids::*;
use engine::rejection::Rejection;
use gateway::client::{Link, Shown};
use gateway::wire::WalletName;

use crate::common::House;
use crate::common::till::*;
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
    bare.connection.close(0_u32.into(), b"");
    let mut bare = Link::open(None, &identity).await.unwrap();
    say(&mut bare, &[pay(1, band, 100), pay(2, band, 100), pay(3, band, 100)]).await;
    assert_eq!(hear(&mut bare, 3).await, heard, "a terminal that forgets to say that it sends something again");
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
