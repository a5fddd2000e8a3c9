//! One shard down and fifteen up, through the real doors: nobody waits for an answer that will never come.

use std::time::Duration;

use engine::cashless::command::*;

use engine::gates::command::*;
use engine::model::ids::{Home, WalletId};
use engine::model::rejection::Rejection;
use engine::model::status::Policy;
use engine::model::time::Timestamp;
use gateway::quic::Limits;
use tapgate_client::{
    ClientError, DeviceKey, Event, Identity, Link, Reader, ReaderOptions, Shown, Terminal, enrol_key,
};
use tapgate_wire::{Frame, Offer, Pay, Refusal, WalletName};

use super::link::{AT_MOST, Heard, receive};
use crate::common::terminal::*;
use crate::common::{House, folder, open_node};

const SHARDS: u16 = 16;

/// A journal that takes records of a few payments only, until it is opened with its usual settings.
async fn narrow() -> House {
    let data = tempfile::tempdir().unwrap();
    let mut narrow = folder(data.path());
    narrow.journal.log.group_bytes_max = 8_192;
    open_node(data, (narrow, 1), Limits::default(), Policy::default()).await
}

/// One wallet in each shard, with 100.00.
async fn guests(house: &House) -> Vec<WalletId> {
    let mut guests = Vec::new();
    for shard in 0..SHARDS {
        let number = (1..).find(|id| Home::Wallet(WalletId(*id)).shard(SHARDS).0 == shard).unwrap();
        guests.push(guest(house, number, 10_000).await);
    }
    guests
}

const BURST: usize = 600;

/// As many payments of a cent.
fn burst(from: WalletId, resent: bool) -> Vec<u8> {
    let mut frames = Vec::new();
    for seq in 1..=BURST as u64 {
        let (amount, wallet) = (eur(1), WalletName::Id(from));
        let (captured_at, expires_at) = (Timestamp(0), Timestamp(0));
        Frame::Pay(Pay { seq, floor: 1, amount, wallet, lines: &[], resent, captured_at, expires_at })
            .encode(&mut frames);
    }
    frames
}

/// A terminal's enrolment.
async fn enrolling(house: &House) -> Result<Identity, ClientError> {
    let (festival, vendor, name, code) = (house.festival, Some(BAR), "Till".to_owned(), "LATE");
    let code_hash = gateway::auth::enrolment_code_hash(code.as_bytes());
    cash(house, CashlessAction::OfferTerminal { festival, vendor, cashier: false, code_hash, name }).await;
    let offer = Offer::new(&house.addr.to_string(), house.tls.fingerprint, festival, code).unwrap();
    enrol_key(None, &offer, DeviceKey::generate().unwrap()).await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn one_shard_down_and_fifteen_up() {
    let mut house = narrow().await;
    cashless(&house).await;
    let guests = guests(&house).await;
    let home = Home::Festival(house.festival).shard(SHARDS);
    let victim = guests[usize::from((home.0 + 1) % SHARDS)];
    let terminal = terminal(&house, Some(BAR), true).await;
    let gate = Reader::connect(house.device().await, ReaderOptions::default()).await.unwrap();

    let latecomer = enrolled(&house, Some(BAR), true).await;

    // One burst on a bare connection is too much for one record of this journal, and its shard goes down.
    let identity = enrolled(&house, Some(BAR), false).await;
    let mut link = Link::open(None, &identity).await.unwrap();
    link.send.write_all(&burst(victim, false)).await.unwrap();
    let heard = receive(&mut link, BURST).await;
    let busy = |why| heard.iter().filter(|(_, heard)| *heard == Heard::Busy(why)).count();
    let (unknown, refused) = (busy(Rejection::InDoubt), busy(Rejection::Unavailable));
    let paid = heard.iter().filter(|(_, heard)| matches!(heard, Heard::Told(_))).count();
    assert!(unknown > 0 && unknown + refused + paid == BURST, "each is told at once: {unknown}, {refused}, {paid}");
    link.close().await;

    // A terminal says so to whoever stands there, goes on asking by itself, and goes on selling to everybody else.
    let mut events = terminal.events();
    let asking = terminal.clone();
    let waiting = tokio::spawn(async move { asking.pay(Shown::Wallet(victim), eur(500), &[]).await });
    let put_off = tokio::time::timeout(AT_MOST, async {
        loop {
            if let Event::PutOff { why, .. } = events.recv().await.unwrap() {
                return why;
            }
        }
    });
    assert_eq!(put_off.await.expect("at once"), Rejection::Unavailable);
    for wallet in guests.iter().filter(|wallet| **wallet != victim) {
        let paid = tokio::time::timeout(AT_MOST, terminal.pay(Shown::Wallet(*wallet), eur(500), &[])).await;
        assert_eq!(outcome(&paid.expect("at once").unwrap()), (CashlessVerdict::Paid, 9_500));
    }
    let admitted = tokio::time::timeout(AT_MOST, gate.scan(house.read(0), Direction::Enter)).await;
    assert_eq!(admitted.expect("at once").unwrap().answer.verdict, Verdict::Admitted);
    // Whoever comes meanwhile is welcome.
    let another = Terminal::connect(latecomer, ReaderOptions::default());
    let another = tokio::time::timeout(AT_MOST, another).await.expect("at once").expect("is welcomed");
    let paid = another.pay(Shown::Wallet(guests[usize::from(home.0)]), eur(500), &[]).await.unwrap();
    assert_eq!(outcome(&paid), (CashlessVerdict::Paid, 9_000));
    // Whoever is to be known to every shard comes again: the same code, the same device, once that is possible.
    let refused = enrolling(&house).await;
    let rejection = match refused {
        Err(ClientError::Refused { refusal: Refusal::Rejected(rejection), .. }) => rejection,
        Err(other) => panic!("{other:?}"),
        Ok(_) => panic!("enrolled where one shard cannot know it"),
    };
    assert_eq!(rejection, Rejection::StillPending);
    assert!(!waiting.is_finished(), "neither paid nor refused");

    // Somebody starts it again. The terminal has asked all the while, and is told now, once.
    let on = (folder(house.data.path()), 1);
    house.restart(on).await;
    let paid = tokio::time::timeout(Duration::from_secs(60), waiting).await.expect("is answered").unwrap().unwrap();
    assert_eq!(paid.answer.verdict, CashlessVerdict::Paid);
    // So is the burst, whatever each of it was told.
    let mut link = Link::open(None, &identity).await.unwrap();
    link.send.write_all(&burst(victim, true)).await.unwrap();
    let heard = receive(&mut link, BURST).await;
    assert!(heard.iter().all(|(_, heard)| heard.verdict() == CashlessVerdict::Paid), "{heard:?}");
    assert_eq!(wallet(&house, victim).await.available, 10_000 - 500 - BURST as i64, "each once");
    link.close().await;
    terminal.close().await;
    another.close().await;
    gate.close().await;
    house.close().await;
}
