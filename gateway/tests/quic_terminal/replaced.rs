//! A terminal that comes again while its older connection has still something to resolve.

use std::sync::mpsc;
use std::time::Duration;

use engine::cashless::command::*;

use engine::model::ids::*;
use engine::model::status::Policy;
use gateway::quic::Limits;
use tapgate_client::Link;
use tapgate_wire::WalletName;
use tokio::sync::oneshot;

use crate::common::open_on;
use crate::common::terminal::*;
use crate::link::*;
use crate::tags::moves;

/// The older connection waits for Anna's wallet, which the wristband named before, and would ask Ben's next. The terminal
/// falls silent, Anna's shard sleeps, and a newer connection takes the older one's place (and goes as well, since it is
/// not welcomed in time; that is how this test knows). When the shard wakes, the older one hears that it is not Anna.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_older_connection_hands_nothing_on_once_it_is_replaced() {
    // Less than the second for which a session waits until its last words are heard.
    let limits = Limits { hello_timeout: Duration::from_millis(700), ..Limits::default() };
    let house = open_on(2, limits, Policy::default()).await;
    cashless(&house).await;
    let identity = enrolled(&house, Some(BAR), false).await;
    // All but Anna's wallet lies on the festival's shard.
    let awake = Home::Festival(house.festival).shard(2);
    let asleep = ShardId(1 - awake.0);
    let on = |shard| (11..).map(WalletId).find(|id| Home::Wallet(*id).shard(2) == shard).unwrap();
    let (anna, ben) = (guest(&house, on(asleep).0, 10_000).await, guest(&house, on(awake).0, 10_000).await);
    let uid = (1..).map(tag).find(|uid| Home::Tag(*uid).shard(2) == awake).unwrap();
    link(&house, uid, anna, false).await;
    moves(&house, uid, anna, tag(1_000), ben).await;
    let frames = [replay(pay(1, WalletName::Tag(uid), 100)), pay(2, WalletName::Id(ben), 50)];

    let (wake, woken) = mpsc::channel::<()>();
    let (sleeps, sleeping) = oneshot::channel();
    let (said, asked) = oneshot::channel();
    let (thaw, thawed) = mpsc::channel::<()>();
    let older = std::thread::spawn({
        let identity = identity.clone();
        move || {
            tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(async {
                let mut older = Link::open(None, &identity).await.unwrap();
                sleeping.await.unwrap();
                send(&mut older, &frames).await;
                tokio::time::sleep(Duration::from_millis(200)).await; // it has asked Anna's wallet by now
                said.send(()).unwrap();
                let _ = thawed.recv(); // nobody reads its socket
            });
        }
    });
    while house.server.devices() == 0 {
        assert!(!older.is_finished());
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    tokio::time::sleep(Duration::from_millis(200)).await; // it has been welcomed by now
    house.node.spawn_on(usize::from(asleep.0), async move {
        sleeps.send(()).unwrap();
        let _ = woken.recv();
    });
    asked.await.unwrap();
    assert!(Link::open(None, &identity).await.is_err(), "that shard's books are a part of the welcome");
    let replaced = async {
        while house.server.devices() > 0 {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    tokio::time::timeout(AT_MOST, replaced).await.expect("took the older one's place");
    wake.send(()).unwrap();
    tokio::time::sleep(Duration::from_millis(300)).await;
    assert_eq!(wallet(&house, ben).await.available, 10_000, "neither who is next nor what came behind it");

    let mut newest = Link::open(None, &identity).await.unwrap();
    send(&mut newest, &frames.map(replay)).await;
    let heard = receive(&mut newest, 2).await;
    assert!(heard.iter().all(|(_, heard)| heard.verdict() == CashlessVerdict::Paid), "{heard:?}");
    let left = (wallet(&house, anna).await.available, wallet(&house, ben).await.available);
    assert_eq!(left, (10_000, 9_850));
    thaw.send(()).unwrap();
    older.join().unwrap();
    newest.close().await;
    house.close().await;
}
