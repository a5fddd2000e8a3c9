//! The audit holds on honest nights at the bar, and finds each planted lie: a hand-made record behind an honest journal.

mod bar;

use bar::Bar;
use engine::audit::Check;
use engine::cashless::command::*;
use engine::cashless::event::*;
use engine::event::*;
use engine::gates::event::*;
use engine::model::ids::*;
use engine::model::money::Currency;
use engine::model::principal::Principal;
use engine::model::rejection::Rejection;
use engine::model::status::FestivalStatus;
use engine::record::Writer;
use engine::shard::outbox::{Entry, Message};

/// W1 has 30.00 from the desk, has paid 12.50 at bar-7 (P1, of which 2.50 came back) and holds T1; W2 is blocked.
fn honest() -> Bar {
    let mut bar = Bar::open(1);
    bar.play(
        "
        topup W1 40.00
        topup W2 20.00
        pay W1 12.50 bar-7 as P1
        refund P1 2.50 by bar-7
        link T1 W1
        block W2
        revoke bar-7b
        close bar-8
        ",
    );
    bar
}

fn write(bar: &Bar, shard: ShardId, events: &[Event]) -> (ShardId, Vec<u8>) {
    let mut bytes = Vec::new();
    let seq = bar.shards[usize::from(shard.0)].seq() + 1;
    let mut writer = Writer::begin(&mut bytes, shard, seq, bar.now);
    events.iter().for_each(|event| writer.push(event));
    (shard, bytes)
}

/// Which checks fail when these events follow an honest night.
fn failed(bar: &Bar, shard: ShardId, events: &[Event]) -> Vec<&'static str> {
    let report = bar.audit(&[write(bar, shard, events)]);
    let mut failed: Vec<_> = report.violations.iter().map(|found| found.check).collect();
    failed.sort_unstable();
    failed.dedup();
    failed
}

/// What an honest terminal would have written: W1 pays 10.00 at bar-7 by T1.
fn payment(bar: &Bar) -> Transaction {
    let device = bar.terminals["bar-7"].id;
    let wallet = bar.wallet("W1");
    let lot = wallet.lots[0];
    Transaction {
        by: Some(ByDevice { device, seq: 100, floor: 100, fingerprint: 1 }),
        kind: TransactionKind::Payment,
        rejection: None,
        flags: 0,
        festival: bar.festival,
        wallet: wallet.id,
        tap: Some((bar.tags["T1"], 1)),
        serial: bar.shards[0].cashless().serial() + 1,
        amount: 1_000,
        currency: Currency::EUR,
        before: 3_000,
        after: 2_000,
        posting: Posting { wallet: -1_000, vendor: 900, commission: 100, ..Posting::default() },
        lots: Lots::one(lot.source, 1_000),
        vendor: VendorNo(0),
        order: 9,
        commission_bp: 1_000,
        of: 0,
        other: None,
        lines: Vec::new(),
        reason: String::new(),
    }
}

fn asked() -> Event {
    Event::Origin(Origin { by: Principal::ApiKey(1), key: None, rejection: None, already: None })
}

#[test]
fn an_honest_night_holds() {
    for shards in [1, 5] {
        let mut bar = Bar::open(shards);
        bar.play(
            "
            topup W1 50.00
            pay W1 10.00 bar-7 as P1
            refund P1 by bar-7
            pay W1 90.00 bar-7           → rejected: insufficient_funds
            transfer W1 W2 10.00
            transfer W1 W3 10.00
            transfer W1 W4 10.00
            transfer W1 nobody 1.00      → rejected: unknown_wallet
            link T1 W1
            link T2 W1 replace
            lost W1
            correct W3 1.00 why
            cashout W4
            ",
        );
        let report = bar.audit(&[]);
        assert!(report.holds());
        let told = (report.debits, report.refunds, report.transfers - report.transfers_returned, report.cash_rejected);
        assert_eq!(told, (1, 1, 3, 1));
        for sums in report.checks.iter().skip(Check::Posting as usize) {
            assert!(sums.checked > 0 || shards == 1, "{} was never looked at", sums.check);
        }
    }
}

/// The honest payment is honest; each other line tells one lie.
#[test]
fn lies_of_a_terminal() {
    let bar = honest();
    let honest = payment(&bar);
    let transaction = |t: &Transaction| [Event::Transaction(t.clone())];
    assert_eq!(failed(&bar, ShardId(0), &transaction(&honest)), [""; 0]);
    let lie = |change: &dyn Fn(&mut Transaction)| {
        let mut lie = honest.clone();
        change(&mut lie);
        lie
    };
    let by = |name: &str| Some(ByDevice { device: bar.terminals[name].id, seq: 100, floor: 100, fingerprint: 1 });
    let elsewhere = bar.elsewhere;
    let w2 = bar.wallets["W2"];
    let posting = honest.posting;
    let source = honest.lots.first().source;
    let rejected = |t: &mut Transaction, rejection| {
        (t.serial, t.posting, t.lots, t.after, t.order) = (0, Posting::default(), Lots::default(), t.before, 0);
        t.rejection = Some(rejection);
    };
    let lies: &[(&str, Transaction)] = &[
        (
            "once",
            lie(&|t| {
                let by = t.by.as_mut().unwrap();
                (by.seq, by.floor) = (1, 1);
            }),
        ),
        ("once", lie(&|t| t.order = 1)),
        ("asked", lie(&|t| t.by = None)),
        ("sequence", lie(&|t| t.serial += 1)),
        ("posting", lie(&|t| t.posting.vendor += 1)),
        ("posting", lie(&|t| t.posting = Posting { vendor: 899, commission: 101, ..posting })),
        ("posting", lie(&|t| t.posting = Posting { vendor: 0, commission: 0, source: 1_000, ..posting })),
        ("posting", lie(&|t| t.amount = 1_001)),
        ("posting", lie(&|t| t.lines.push(SoldLine { product: ProductNo(0), count: 1, price: 999, vat_bp: 0 }))),
        ("history", lie(&|t| (t.before, t.after) = (3_001, 2_001))),
        ("history", lie(&|t| t.after = 2_001)),
        ("history", lie(&|t| t.currency = Currency::parse("USD").unwrap())),
        ("lots", lie(&|t| t.lots = Lots::one(source, 999))),
        ("lots", lie(&|t| t.lots = Lots::one(Source { kind: SourceKind::Card, ..source }, 1_000))),
        ("known", lie(&|t| t.wallet = WalletId(77))),
        ("known", lie(&|t| t.by = by("bar-8"))),
        ("known", lie(&|t| t.commission_bp = 900)),
        ("revoked", lie(&|t| t.by = by("bar-7b"))),
        (
            "revoked",
            lie(&|t| {
                t.by = by("bar-7b");
                rejected(t, Rejection::InsufficientFunds);
            }),
        ),
        ("revoked", lie(&|t| (t.wallet, t.before, t.after, t.tap) = (w2, 2_000, 1_000, None))),
        ("own_festival", lie(&|t| t.festival = elsewhere)),
        ("own_festival", lie(&|t| t.by.as_mut().unwrap().device = DeviceId::new(elsewhere, 99))),
        ("tag", lie(&|t| t.tap.as_mut().unwrap().1 = 2)),
        ("tag", lie(&|t| t.tap.as_mut().unwrap().0 = TagUid::new(&[1, 1, 1, 1]).unwrap())),
        (
            "posting",
            lie(&|t| {
                rejected(t, Rejection::VendorClosed);
                t.after -= 1;
            }),
        ),
        (
            "posting",
            lie(&|t| {
                rejected(t, Rejection::VendorClosed);
                t.rejection = None;
            }),
        ),
    ];
    for (check, lie) in lies {
        let failed = failed(&bar, ShardId(0), &transaction(lie));
        assert!(failed.contains(check), "{check}: {lie:?}: {failed:?}");
    }
    // More than there is, with everything else as it should be.
    let amount = 4_000;
    let debt = lie(&|t| {
        (t.amount, t.after, t.lots) = (amount, -1_000, Lots::one(source, amount));
        t.posting = Posting { wallet: -amount, vendor: 3_600, commission: 400, ..Posting::default() };
    });
    assert!(failed(&bar, ShardId(0), &transaction(&debt)).contains(&"funds"));
    let closed = lie(&|t| {
        (t.by, t.vendor, t.commission_bp, t.order) = (by("bar-8"), VendorNo(1), 0, 1);
        t.posting = Posting { wallet: -1_000, vendor: 1_000, ..Posting::default() };
    });
    assert_eq!(failed(&bar, ShardId(0), &transaction(&closed)), ["known"], "the vendor is closed");
}

#[test]
fn lies_about_refunds() {
    let bar = honest();
    let source = bar.wallet("W1").lots[0].source;
    let honest = Transaction {
        kind: TransactionKind::Refund,
        of: bar.payments["P1"].serial,
        amount: 1_000,
        after: 4_000,
        posting: Posting { wallet: 1_000, vendor: -900, commission: -100, ..Posting::default() },
        lots: Lots::one(source, 1_000),
        tap: None,
        order: 0,
        ..payment(&bar)
    };
    let found = |t: &Transaction| failed(&bar, ShardId(0), &[Event::Transaction(t.clone())]);
    assert_eq!(found(&honest), [""; 0]);
    let beyond = Transaction {
        amount: 1_001,
        after: 4_001,
        posting: Posting { wallet: 1_001, vendor: -901, commission: -100, ..Posting::default() },
        lots: Lots::one(source, 1_001),
        ..honest.clone()
    };
    let card = Source { kind: SourceKind::Card, ..source };
    let kept = Posting { wallet: 1_000, vendor: -899, commission: -101, ..Posting::default() };
    for (what, lie) in [
        ("beyond the payment", beyond),
        ("of a top-up", Transaction { of: 1, ..honest.clone() }),
        ("of nothing", Transaction { of: 99, ..honest.clone() }),
        ("to another source", Transaction { lots: Lots::one(card, 1_000), ..honest.clone() }),
        ("the vendor keeps a cent of it", Transaction { posting: kept, ..honest.clone() }),
        ("of another vendor", Transaction { vendor: VendorNo(1), ..honest.clone() }),
    ] {
        assert!(found(&lie).contains(&"refund"), "{what}: {:?}", found(&lie));
    }
}

/// A transfer is credited once or returned once, and only when the other side has said so.
#[test]
fn lies_about_transfers() {
    let mut bar = Bar::open(2);
    let home = |bar: &Bar, name: &str| Home::Wallet(bar.wallets[name]).shard(2);
    let there = ["W2", "W3", "W4"].into_iter().find(|name| home(&bar, name) != home(&bar, "W1")).expect("one is apart");
    bar.play("topup W1 50.00");
    bar.quiet = false;
    bar.play(&format!("transfer W1 {there} 20.00 → pending"));
    let (here, other) = (home(&bar, "W1"), home(&bar, there));
    let op = bar.shards[usize::from(here.0)].cashless().ops.next() - 1;
    let lot = bar.wallet("W1").lots[0];
    let (from, to) = (bar.wallets["W1"], bar.wallets[there]);
    let side = |kind, wallet, wallets_other, before: i64, serial| Transaction {
        by: None,
        tap: None,
        kind,
        wallet,
        other: Some(wallets_other),
        of: op,
        serial,
        amount: 2_000,
        before,
        after: before + 2_000,
        posting: Posting { wallet: 2_000, in_transit: -2_000, ..Posting::default() },
        lots: Lots::one(lot.source, 2_000),
        order: 0,
        commission_bp: 0,
        ..blank(&bar)
    };
    let serial = |shard: ShardId| bar.shards[usize::from(shard.0)].cashless().serial() + 1;
    let back = side(TransactionKind::TransferBack, from, to, 3_000, serial(here));
    let came = side(TransactionKind::TransferIn, to, from, 0, serial(other));
    let settled = CashlessEvent::TransferSettled { op };
    let (first, messages) = bar.outgoing(here, other);
    let received = Event::Received { from: here, n: first, message: messages[0].clone() };
    let n = bar.outgoing(other, here).0;
    let sent = |message| Event::Sent { to: here, n, message };
    let credited = Message::Credited { op };
    let declined = Message::Declined { op, rejection: Rejection::WalletBlocked };
    let transaction = |t: &Transaction| Event::Transaction(t.clone());
    for (what, shard, events) in [
        ("back by the clock", here, vec![transaction(&back)]),
        ("settled, and nobody has it", here, vec![Event::Cashless(settled)]),
        ("credited unasked", other, vec![transaction(&came)]),
        ("confirmed, not credited", other, vec![received.clone(), sent(credited.clone())]),
        ("credited and declined", other, vec![received.clone(), transaction(&came), sent(declined.clone())]),
        (
            "credited twice",
            other,
            vec![
                received.clone(),
                transaction(&came),
                transaction(&Transaction { serial: came.serial + 1, before: 2_000, after: 4_000, ..came.clone() }),
                sent(credited.clone()),
            ],
        ),
        ("credited after it was declined", other, vec![received.clone(), sent(declined.clone()), transaction(&came)]),
        ("settled twice", here, vec![Event::Cashless(CashlessEvent::TransferSettled { op: 77 })]),
    ] {
        let failed = failed(&bar, shard, &events);
        assert!(failed.contains(&"transfer"), "{what}: {failed:?}");
    }
    let fine = [received.clone(), transaction(&came), sent(credited)];
    assert_eq!(failed(&bar, other, &fine), [""; 0], "as it should be");
    let again = [fine.to_vec(), vec![received]].concat();
    assert!(failed(&bar, other, &again).contains(&"messages"), "taken in twice");
    let gap = [Event::Received { from: here, n: first + 1, message: messages[0].clone() }];
    assert!(failed(&bar, other, &gap).contains(&"messages"), "a gap");
    let other_words = Message::Credit {
        op,
        from,
        to,
        festival: bar.festival,
        issuer: bar.festival,
        currency: Currency::EUR,
        lots: Lots::one(lot.source, 2_001),
        account: None,
    };
    let forged = [Event::Received { from: here, n: first, message: other_words }, sent(declined)];
    assert!(failed(&bar, other, &forged).contains(&"messages"), "not as it was sent");
}

/// A transaction in which nothing moves.
fn blank(bar: &Bar) -> Transaction {
    Transaction {
        by: None,
        kind: TransactionKind::TopUp,
        rejection: None,
        flags: 0,
        festival: bar.festival,
        wallet: bar.wallets["W1"],
        tap: None,
        serial: 0,
        amount: 0,
        currency: Currency::EUR,
        before: 0,
        after: 0,
        posting: Posting::default(),
        lots: Lots::default(),
        vendor: VendorNo(0),
        order: 0,
        commission_bp: 0,
        of: 0,
        other: None,
        lines: Vec::new(),
        reason: String::new(),
    }
}

#[test]
fn lies_about_wristbands_and_vendors() {
    let bar = honest();
    let (w1, w2, t1) = (bar.wallets["W1"], bar.wallets["W2"], bar.tags["T1"]);
    let t9 = TagUid::new(&[9; 4]).unwrap();
    let cashless = |event: CashlessEvent| vec![Event::Cashless(event)];
    let by_admin = |event: CashlessEvent| vec![asked(), Event::Cashless(event)];
    let revoked = Entry::Terminal {
        device: bar.terminals["bar-7"].id,
        vendor: Some(VendorNo(77)),
        cashier: true,
        revoked: false,
    };
    for (check, events) in [
        ("tag", cashless(CashlessEvent::TagAttached { wallet: w2, tag: t1, version: 2 })),
        ("tag", cashless(CashlessEvent::TagAttached { wallet: w1, tag: t1, version: 1 })),
        ("tag", cashless(CashlessEvent::TagLinked { tag: t1, op: 9, carry: false })),
        ("tag", cashless(CashlessEvent::TagLinked { tag: t9, op: 9, carry: false })),
        ("tag", cashless(CashlessEvent::TagFreed { tag: t9 })),
        ("tag", by_admin(CashlessEvent::TagLinking { tag: t1, wallet: w2, version: 2, op: 2, festival: bar.festival })),
        ("tag", by_admin(CashlessEvent::WalletTagLost { wallet: w2, tag: t1, version: 1, op: 2 })),
        (
            "known",
            by_admin(CashlessEvent::WalletCreated {
                wallet: w1,
                issuer: bar.festival,
                currency: Currency::EUR,
                account: None,
            }),
        ),
        (
            "known",
            by_admin(CashlessEvent::WalletCreated {
                wallet: WalletId(5),
                issuer: bar.festival,
                currency: Currency::parse("USD").unwrap(),
                account: None,
            }),
        ),
        ("known", by_admin(CashlessEvent::WalletClaimed { wallet: WalletId(5), account: 1 })),
        ("known", by_admin(CashlessEvent::WalletBlockSet { wallet: WalletId(5), blocked: true })),
        ("asked", cashless(CashlessEvent::WalletBlockSet { wallet: w1, blocked: true })),
        (
            "directory",
            by_admin(CashlessEvent::VendorPut {
                festival: FestivalId(1),
                vendor: VendorNo(0),
                values: VendorValues {
                    name: "x".into(),
                    commission_bp: 0,
                    open: true,
                    kind: engine::model::status::VendorKind::Bar,
                },
            }),
        ),
        (
            "directory",
            by_admin(CashlessEvent::VendorPut {
                festival: bar.festival,
                vendor: VendorNo(77),
                values: VendorValues {
                    name: "x".into(),
                    commission_bp: 0,
                    open: true,
                    kind: engine::model::status::VendorKind::Bar,
                },
            }),
        ),
        ("messages", vec![Event::Sent { to: ShardId(0), n: 1, message: Message::Directory(revoked.clone()) }]),
        ("messages", vec![Event::Received { from: ShardId(9), n: 1, message: Message::Directory(revoked) }]),
        ("messages", vec![Event::Delivered { to: ShardId(0), through: 1 }]),
        ("transfer", cashless(CashlessEvent::TransferCancelAsked { op: 1 })),
    ] {
        let failed = failed(&bar, ShardId(0), &events);
        assert!(failed.contains(&check), "{check}: {events:?}: {failed:?}");
    }
}

#[test]
fn lies_about_a_currency() {
    let bar = honest();
    let yen = CashlessPolicy { currency: Currency::parse("JPY").unwrap(), ..CashlessPolicy::default() };
    let status = FestivalStatus::Ongoing;
    let cashless = |event: CashlessEvent| vec![Event::Cashless(event)];
    let by_admin = |event: CashlessEvent| vec![asked(), Event::Cashless(event)];
    for (check, events) in [
        ("currency", by_admin(CashlessEvent::PolicySet { festival: bar.festival, policy: yen, status })),
        ("currency", cashless(CashlessEvent::CurrencyHeld { festival: bar.festival })),
        ("currency", cashless(CashlessEvent::CurrencyReleased { festival: bar.festival })),
        ("currency", cashless(CashlessEvent::CurrencyVoted { op: 1, booked: false })),
        (
            "currency",
            by_admin(CashlessEvent::CurrencyChanging { festival: bar.festival, policy: yen, op: 2, others: 1 }),
        ),
    ] {
        let failed = failed(&bar, ShardId(0), &events);
        assert!(failed.contains(&check), "{check}: {events:?}: {failed:?}");
    }
}
