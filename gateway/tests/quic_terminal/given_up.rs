//! Payments that nobody waits for any more: what came of them is told, and what never left the terminal never happens.

use std::path::Path;
use std::sync::mpsc;
use std::time::Duration;

use engine::command::*;

use engine::cashless::command::*;

use engine::gates::command::*;
use engine::model::ids::*;
use engine::model::rejection::Rejection;
use engine::model::status::Policy;
use gateway::quic::Limits;
use tapgate_client::{
    ClientError, Event, Identity, LateAnswer, Link, Reader, ReaderOptions, Shown, Terminal, Told, settle, unanswered,
};
use tapgate_wire::{Refusal, WalletName};
use tokio::sync::broadcast::Receiver;
use tokio::sync::oneshot;
use tokio::time::timeout;

use crate::common::open_on;
use crate::common::terminal::*;
use crate::link::*;

const A_MOMENT: Duration = Duration::from_millis(50);

fn nowhere(identity: &Identity) -> Identity {
    Identity { server: "127.0.0.1:9".into(), ..identity.clone() }
}

/// The next late answer.
async fn late(events: &mut Receiver<Event>) -> LateAnswer {
    let next = async {
        loop {
            if let Event::LateAnswer(late) = events.recv().await.expect("not lagging") {
                return late;
            }
        }
    };
    timeout(AT_MOST, next).await.expect("it is told")
}

async fn late_told(events: &mut Receiver<Event>) -> (Told, Option<u64>) {
    match late(events).await {
        LateAnswer::Cashless { told, given_back } => (told, given_back),
        other => panic!("{other:?}"),
    }
}

fn left_in(queue: &Path, device: DeviceId) -> Vec<(u64, &'static str, bool)> {
    let left = unanswered(queue, device).unwrap();
    left.iter().map(|left| (left.seq, left.what, left.in_doubt)).collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn without_a_network_a_payment_is_over_when_its_time_is() {
    let house = bar().await;
    let folder = tempfile::tempdir().unwrap();
    let queue = folder.path().join("queue");
    let options = ReaderOptions::with_queue(&queue);
    let identity = enrolled(&house, Some(BAR), true).await;
    let anna = guest(&house, 11, 10_000).await;
    link(&house, tag(1), anna, false).await;
    Terminal::connect(identity.clone(), options.clone()).await.unwrap().close().await;

    let offline = Terminal::start(nowhere(&identity), options.clone()).unwrap();
    let mut events = offline.events();
    let hasty = offline.within(Duration::from_millis(100));
    let told = hasty.pay(Shown::Tag(tag(1)), eur(1_000), &[]).await.unwrap();
    assert_eq!(told.answer.verdict, rejected(Rejection::Expired));
    assert_eq!(told.sentence(), "This took too long, and nothing was charged. Please tap again.");
    assert_eq!(hasty.top_up(Shown::Tag(tag(1)), eur(1_000)).await.unwrap().answer.verdict, told.answer.verdict);
    assert_eq!(offline.unanswered().await.unwrap(), []);
    // Given up before its time is over: then it is told to whoever listens.
    let waiting = offline.within(Duration::from_millis(200)).pay(Shown::Tag(tag(1)), eur(1_000), &[]).await;
    drop(waiting);
    let soon = offline.within(Duration::from_millis(300));
    assert!(timeout(A_MOMENT, soon.pay(Shown::Tag(tag(1)), eur(7), &[])).await.is_err());
    let left = offline.unanswered().await.unwrap();
    assert_eq!(
        left.iter().map(|left| (left.what, left.amount, left.in_doubt)).collect::<Vec<_>>(),
        [("pay", Some(eur(7)), false)]
    );
    assert!(left[0].expires_at > left[0].captured_at);
    assert_eq!(late_told(&mut events).await.0.answer.verdict, rejected(Rejection::Expired));
    // And one whose time ends while the terminal is switched off.
    assert!(timeout(A_MOMENT, soon.pay(Shown::Tag(tag(1)), eur(8), &[])).await.is_err());
    offline.close().await;
    assert_eq!(unanswered(&queue, identity.device).unwrap().len(), 1);
    tokio::time::sleep(Duration::from_millis(350)).await;

    let terminal = Terminal::connect(identity, options).await.unwrap();
    let (told, given_back) = late_told(&mut terminal.events()).await;
    assert_eq!((told.answer.verdict, given_back), (rejected(Rejection::Expired), None));
    assert_eq!(outcome(&terminal.pay(Shown::Tag(tag(1)), eur(1), &[]).await.unwrap()), (CashlessVerdict::Paid, 9_999));
    terminal.close().await;
    house.close().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_nobody_waited_for_is_told_and_given_back_once_if_that_was_wanted() {
    let house = bar().await;
    let folder = tempfile::tempdir().unwrap();
    let queue = folder.path().join("queue");
    let options = ReaderOptions::with_queue(&queue);
    let identity = enrolled(&house, Some(BAR), false).await;
    let anna = guest(&house, 11, 10_000).await;
    link(&house, tag(1), anna, false).await;
    Terminal::connect(identity.clone(), options.clone()).await.unwrap().close().await;
    let offline = Terminal::start(nowhere(&identity), options.clone()).unwrap();
    assert!(timeout(A_MOMENT, offline.pay(Shown::Tag(tag(1)), eur(1_000), &[])).await.is_err());
    let either = offline.or_give_back();
    assert!(timeout(A_MOMENT, either.pay(Shown::Tag(tag(1)), eur(500), &[])).await.is_err());
    assert!(timeout(A_MOMENT, either.pay(Shown::Tag(tag(1)), eur(99_999), &[])).await.is_err());
    offline.close().await;
    drop((offline, either));
    let left = left_in(&queue, identity.device);
    assert_eq!(left.iter().map(|(_, what, in_doubt)| (*what, *in_doubt)).collect::<Vec<_>>(), [("pay", false); 3]);

    let terminal = Terminal::connect(identity.clone(), options.clone()).await.unwrap();
    let mut events = terminal.events();
    let mut heard = Vec::new();
    for _ in 0..4 {
        heard.push(late_told(&mut events).await);
    }
    let of = |seq| heard.iter().find(|(told, _)| told.seq == seq).unwrap();
    let [kept, back, poor] = [0, 1, 2].map(|n| of(left[n].0));
    assert_eq!((kept.0.answer.verdict, kept.0.answer.amount, kept.1), (CashlessVerdict::Paid, 1_000, None));
    assert!(kept.0.transaction().is_some());
    assert_eq!((back.0.answer.verdict, back.0.answer.amount), (CashlessVerdict::Paid, 500));
    let refund = of(back.1.expect("it is given back"));
    assert_eq!((refund.0.answer.verdict, refund.0.answer.amount, refund.1), (CashlessVerdict::Refunded, 500, None));
    assert_eq!((poor.0.answer.verdict, poor.1), (rejected(Rejection::InsufficientFunds), None));
    assert_eq!(wallet(&house, anna).await.available, 9_000);
    terminal.close().await;
    drop(terminal);
    let terminal = Terminal::connect(identity, options).await.unwrap();
    assert_eq!(terminal.unanswered().await.unwrap(), []);
    assert_eq!(outcome(&terminal.pay(Shown::Tag(tag(1)), eur(1), &[]).await.unwrap()), (CashlessVerdict::Paid, 8_999));
    terminal.close().await;
    house.close().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_readers_late_answer_is_told_too() {
    let house = bar().await;
    let folder = tempfile::tempdir().unwrap();
    let options = ReaderOptions::with_queue(&folder.path().join("queue"));
    let identity = house.device().await;
    Reader::connect(identity.clone(), options.clone()).await.unwrap().close().await;
    let offline = Reader::start(nowhere(&identity), options.clone()).unwrap();
    assert!(timeout(A_MOMENT, offline.scan(house.read(3), Direction::Enter)).await.is_err());
    offline.close().await;
    drop(offline);
    let reader = Reader::connect(identity, options).await.unwrap();
    let LateAnswer::Scan(answered) = late(&mut reader.events()).await else { panic!("a scan's") };
    assert_eq!((answered.answer.verdict, answered.answer.ticket), (Verdict::Admitted, Some(house.tickets[3])));
    reader.close().await;
    house.close().await;
}

/// Revoked while a top-up is under way that its wallet's shard has not answered, and while another was never sent.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_revoked_terminal_hears_what_is_in_doubt_and_what_is_not() {
    let limits = Limits { write_timeout: Duration::from_millis(300), ..Limits::default() };
    let house = open_on(2, limits, Policy::default()).await;
    cashless(&house).await;
    let folder = tempfile::tempdir().unwrap();
    let queue = folder.path().join("queue");
    let identity = enrolled(&house, None, true).await;
    let asleep = ShardId(1 - Home::Festival(house.festival).shard(2).0);
    let anna = (11..).map(WalletId).find(|id| Home::Wallet(*id).shard(2) == asleep).unwrap();
    guest(&house, anna.0, 10_000).await;
    let terminal = Terminal::connect(identity.clone(), ReaderOptions::with_queue(&queue)).await.unwrap();

    let (wake, woken) = mpsc::channel::<()>();
    let (sleeps, sleeping) = oneshot::channel();
    house.node.spawn_on(usize::from(asleep.0), async move {
        sleeps.send(()).unwrap();
        let _ = woken.recv();
    });
    sleeping.await.unwrap();
    let sent = tokio::spawn({
        let terminal = terminal.clone();
        async move { terminal.top_up(Shown::Wallet(anna), eur(5_000)).await }
    });
    let in_doubt = async {
        while terminal.unanswered().await.unwrap().first().is_none_or(|first| !first.in_doubt) {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    timeout(AT_MOST, in_doubt).await.expect("it is sent");
    let revoking = tokio::spawn({
        let (node, device) = (house.node.clone(), identity.device);
        async move { crate::common::ask(&node, AdminAction::RevokeDevice { device }).await }
    });
    let sent = timeout(AT_MOST, sent).await.expect("it ends").unwrap();
    let Err(ClientError::InDoubt { seq, why }) = sent else { panic!("{sent:?}") };
    assert!(matches!(*why, ClientError::Refused { refusal: Refusal::Rejected(Rejection::DeviceRevoked), .. }), "{why}");
    drop(terminal);
    wake.send(()).unwrap();
    assert_eq!(timeout(AT_MOST, revoking).await.expect("every shard knows").unwrap(), AdminAnswer::Done);
    assert_eq!(wallet(&house, anna).await.available, 15_000, "it was credited");
    let open = async {
        loop {
            match unanswered(&queue, identity.device) {
                Ok(left) => return left,
                Err(_) => tokio::time::sleep(Duration::from_millis(5)).await, // its task is ending
            }
        }
    };
    let left = timeout(AT_MOST, open).await.unwrap();
    assert_eq!(
        left.iter().map(|left| (left.seq, left.what, left.in_doubt)).collect::<Vec<_>>(),
        [(seq, "top_up", true)]
    );

    // What was never sent has not happened, and whoever waits hears that; it leaves the queue.
    let terminal = Terminal::start(identity.clone(), ReaderOptions::with_queue(&queue)).unwrap();
    let never_sent = terminal.top_up(Shown::Wallet(anna), eur(700)).await;
    assert!(matches!(never_sent, Err(ClientError::Refused { .. })), "{never_sent:?}");
    drop(terminal);
    tokio::time::sleep(A_MOMENT).await;
    assert_eq!(left_in(&queue, identity.device), [(seq, "top_up", true)]);
    settle(&queue, identity.device, &[seq]).unwrap();
    assert_eq!(left_in(&queue, identity.device), []);
    house.close().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn one_number_is_paid_by_one_wallet_however_many_are_asked() {
    let house = bar().await;
    let identity = enrolled(&house, Some(BAR), false).await;
    let mut guests = Vec::new();
    for n in 0..12 {
        guests.push(guest(&house, 100 + n, 10_000).await);
    }
    let mut bare = Link::open(None, &identity).await.unwrap();
    let frames: Vec<_> = guests.iter().map(|id| pay(5, WalletName::Id(*id), 100)).collect();
    send(&mut bare, &frames[..6]).await;
    let mut heard = receive(&mut bare, 6).await;
    bare.connection.close(0_u32.into(), b"");
    let mut bare = Link::open(None, &identity).await.unwrap();
    send(&mut bare, &frames[6..]).await;
    heard.extend(receive(&mut bare, 6).await);
    let paid = heard.iter().filter(|(_, heard)| heard.verdict() == CashlessVerdict::Paid).count();
    let conflict = rejected(Rejection::IdempotencyConflict);
    assert_eq!((paid, heard.iter().filter(|(_, heard)| heard.verdict() == conflict).count()), (1, 11), "{heard:?}");
    let mut left = 0;
    for id in guests {
        left += wallet(&house, id).await.available;
    }
    assert_eq!(left, 12 * 10_000 - 100);
    bare.close().await;
    house.close().await;
}
