//! A festival's currency can be changed until something is booked in it, in whichever shard.

mod bar;

use bar::Bar;
use engine::cashless::command::{CashlessAction, CashlessPolicy};
use engine::command::{AdminAction, AdminAnswer, Command, IdempotencyKey};
use engine::model::ids::{Home, ShardId};
use engine::model::money::Currency;
use engine::model::rejection::Rejection;
use engine::shard::Shard;
use engine::view::{Query, View};

fn currency(bar: &Bar, shard: ShardId) -> Currency {
    match bar.shards[usize::from(shard.0)].query(&Query::CashlessPolicy(bar.festival)) {
        View::CashlessPolicy(policy) => policy.currency,
        other => panic!("{other:?}"),
    }
}

fn everywhere(bar: &Bar, code: &str) {
    for shard in 0..bar.shards.len() as u16 {
        assert_eq!(currency(bar, ShardId(shard)).as_str(), code, "shard {shard}");
    }
}

#[test]
fn nothing_is_booked_and_it_changes_with_its_empty_wallets() {
    for shards in [1, 2, 5] {
        let mut bar = Bar::open(shards);
        bar.play("cashless night in JPY");
        everywhere(&bar, "JPY");
        bar.play(
            "
            topup W1 50.00 from desk in EUR            → rejected: wrong_currency
            topup W1 5000 from desk in JPY
            topup W2 5000 from desk in JPY
            # What a beer costs in yen has to be said first.
            buy W1 500 bar-7 in JPY lines 0x1@5.00     → rejected: unknown_product
            product bar-7 6.50 19% no 0
            buy W1 650 bar-7 in JPY lines 0x1@6.50
            cashless night in JPY
            cashless night in EUR                      → rejected: currency_in_use
            ",
        );
        everywhere(&bar, "JPY");
        bar.play("topup W3 5000 from desk in JPY");
    }
}

#[test]
fn one_booking_in_one_shard_keeps_it_and_everything_goes_on() {
    for wallet in ["W1", "W2", "W3", "W4"] {
        let mut bar = Bar::open(5);
        bar.play(&format!("topup {wallet} 50.00 from desk\n cashless night in JPY → rejected: currency_in_use"));
        everywhere(&bar, "EUR");
        bar.play(
            "topup W1 50.00 from desk\n topup W2 50.00 from desk\n topup W3 50.00 from desk\n topup W4 50.00 from desk",
        );
    }
}

#[test]
fn a_refused_payment_books_nothing() {
    let mut bar = Bar::open(3);
    bar.play("pay W1 5.00 bar-7 → rejected: insufficient_funds\n cashless night in JPY");
    everywhere(&bar, "JPY");
}

/// A wallet of the festival's in another shard than its own.
fn apart(bar: &Bar) -> &'static str {
    let shards = bar.shards.len() as u16;
    let home = Home::Festival(bar.festival).shard(shards);
    let shard = |name: &&str| Home::Wallet(bar.wallets[*name]).shard(shards);
    ["W1", "W2", "W3", "W4"].into_iter().find(|name| shard(name) != home).expect("one is apart")
}

fn shard_of(bar: &Bar, wallet: &str) -> ShardId {
    Home::Wallet(bar.wallets[wallet]).shard(bar.shards.len() as u16)
}

#[test]
fn what_comes_in_between_is_booked_or_put_off_never_both() {
    // Before the other shard has heard of it: booked, and the currency stays.
    let mut bar = Bar::open(5);
    let wallet = apart(&bar);
    bar.quiet = false;
    bar.play("cashless night in JPY → pending");
    bar.play(&format!("topup {wallet} 50.00 from desk → 50.00"));
    bar.pump();
    bar.quiet = true;
    everywhere(&bar, "EUR");
    bar.play(&format!("topup {wallet} 50.00 from desk → 100.00"));

    // After it has said that it has nothing: put off until it is told how it came out, at a desk and at a terminal, and
    // then decided as if it had never been asked.
    let mut bar = Bar::open(5);
    let wallet = apart(&bar);
    let (home, there) = (Home::Festival(bar.festival).shard(5), shard_of(&bar, wallet));
    bar.quiet = false;
    bar.play("cashless night in JPY → pending");
    bar.play("cashless night in CHF → rejected: busy");
    bar.carry(home, there, true);
    bar.play(&format!(
        "
        topup {wallet} 50.00 from desk → rejected: busy
        topup {wallet} 50.00 from card taken → rejected: busy
        gift {wallet} 50.00 why → rejected: busy
        topup {wallet} 50.00 by desk seq 41 → rejected: busy
        pay {wallet} 5.00 bar-7 seq 7 → rejected: busy
        balance {wallet} → 0.00
        "
    ));
    bar.pump();
    bar.quiet = true;
    everywhere(&bar, "JPY");
    bar.play(&format!(
        "
        topup {wallet} 50.00 by desk seq 41 → rejected: wrong_currency
        topup {wallet} 5000 in JPY by desk → 50.00
        pay {wallet} 5.00 bar-7 seq 7 → rejected: wrong_currency
        topup {wallet} 5000 from desk in JPY
        "
    ));
}

#[test]
fn the_same_key_is_told_the_same_end() {
    let mut bar = Bar::open(5);
    let policy = |code| CashlessPolicy { currency: Currency::parse(code).unwrap(), ..CashlessPolicy::default() };
    let festival = bar.festival;
    let action = |code| AdminAction::Cashless(CashlessAction::SetPolicy { festival, policy: policy(code) });
    let key = |id| Some(IdempotencyKey { id, fingerprint: 1, made_at: None });
    bar.quiet = false;
    let (first, repeated) = bar.admin_with(key(1_000), action("JPY"));
    assert!(matches!(first, AdminAnswer::Pending(_)) && !repeated);
    assert_eq!(bar.admin_with(key(1_000), action("JPY")), (first, true), "while it is under way");
    assert_eq!(bar.admin_with(key(1_001), action("CHF")), (AdminAnswer::Rejected(Rejection::Busy), false));
    bar.pump();
    bar.quiet = true;
    assert_eq!(bar.admin_with(key(1_000), action("JPY")), (AdminAnswer::Done, true), "and afterwards");
    assert_eq!(bar.admin_with(key(1_001), action("CHF")), (AdminAnswer::Done, false), "what was put off is new");
    assert_eq!(bar.admin_with(key(1_000), action("JPY")), (AdminAnswer::Done, true));
    everywhere(&bar, "CHF");
}

/// Delivers one message of those that wait, of the nth pair of shards that has any; false if nobody has.
fn one_message(bar: &mut Bar, nth: usize) -> bool {
    let all = 0..bar.shards.len() as u16;
    let pairs = all.clone().flat_map(|from| all.clone().map(move |to| (ShardId(from), ShardId(to))));
    let waiting: Vec<_> = pairs.filter(|(from, to)| !bar.outgoing(*from, *to).1.is_empty()).collect();
    if waiting.is_empty() {
        return false;
    }
    let (from, to) = waiting[nth % waiting.len()];
    let (first, mut messages) = bar.outgoing(from, to);
    messages.truncate(1);
    bar.batch(to, &[Command::Deliver { from, first, messages }]);
    bar.batch(from, &[Command::Delivered { to, through: first }]);
    true
}

/// Every shard is killed, and comes back from its records.
fn killed(bar: &mut Bar) {
    let of = bar.shards.len() as u16;
    for (id, records) in bar.records.iter().enumerate() {
        let mut again = Shard::new(ShardId(id as u16), of);
        records.iter().for_each(|record| drop(again.replay(record).expect("our own record")));
        bar.shards[id] = again;
    }
}

#[test]
fn whenever_somebody_pays_in_all_shards_agree_on_one_currency() {
    let (mut changed, mut kept) = (0, 0);
    for order in 0..3 {
        // 4 × (ask, vote, directory, decided, vote) = 20 messages.
        for after in 0..=20 {
            let mut bar = Bar::open(5);
            let wallet = apart(&bar);
            bar.quiet = false;
            bar.play("cashless night in JPY → pending");
            for step in 0..after {
                assert!(one_message(&mut bar, step * order));
                if step == after / 2 {
                    bar.take_snapshots();
                }
                killed(&mut bar);
            }
            let euros = bar.line(&format!("topup {wallet} 50.00 from desk").split(' ').collect::<Vec<_>>());
            let yen = bar.line(&format!("topup {wallet} 5000 from desk in JPY").split(' ').collect::<Vec<_>>());
            while one_message(&mut bar, order) {
                killed(&mut bar);
            }
            let code = if euros == "50.00" { "EUR" } else { "JPY" };
            match (&*euros, &*yen) {
                ("50.00", "rejected: wrong_currency") => kept += 1,
                ("rejected: busy", "rejected: busy") | ("rejected: wrong_currency", "50.00") => changed += 1,
                other => panic!("after {after} messages: {other:?}"),
            }
            everywhere(&bar, code);
            bar.quiet = true;
            // Whoever was put off is served now, in every shard.
            for name in ["W1", "W2", "W3", "W4"] {
                let amount = if code == "EUR" { "10.00" } else { "1000" };
                bar.play(&format!("topup {name} {amount} from desk in {code}"));
            }
        }
    }
    assert!(changed > 10 && kept > 3, "{changed} changed, {kept} kept");
}

#[test]
fn a_wallet_that_was_used_elsewhere_keeps_its_issuers_currency() {
    let mut bar = Bar::open(5);
    let wallet = apart(&bar);
    bar.play(&format!(
        "
        cashless elsewhere foreign elsewhere
        topup {wallet} 50.00 from desk elsewhere → 50.00
        cashless night in JPY → rejected: currency_in_use
        cashless night in EUR
        "
    ));
    everywhere(&bar, "EUR");

    // While it is to be another, nothing is put into its wallets elsewhere either.
    let mut bar = Bar::open(5);
    let wallet = apart(&bar);
    let (home, there) = (Home::Festival(bar.festival).shard(5), shard_of(&bar, wallet));
    bar.play("cashless elsewhere foreign elsewhere");
    bar.quiet = false;
    bar.play("cashless night in JPY → pending");
    bar.carry(home, there, true);
    bar.play(&format!(
        "
        topup {wallet} 50.00 from desk elsewhere → rejected: busy
        topup {wallet} 50.00 by far-desk → rejected: busy
        "
    ));
    bar.pump();
    bar.quiet = true;
    everywhere(&bar, "JPY");
    bar.play(&format!("topup {wallet} 50.00 by far-desk → rejected: wrong_currency"));
}

/// Wallets F1 to F8 of the other festival, filled there, which this one takes: two of them in different shards, and neither
/// in this festival's own.
fn strangers(bar: &mut Bar) -> (&'static str, &'static str) {
    let names = ["F1", "F2", "F3", "F4", "F5", "F6", "F7", "F8"];
    bar.play("cashless night foreign");
    for name in names {
        bar.play(&format!("wallet {name} elsewhere\n topup {name} 50.00 from desk elsewhere"));
    }
    let home = Home::Festival(bar.festival).shard(5);
    let mut others = names.into_iter().filter(|name| shard_of(bar, name) != home);
    let from = others.next().expect("eight wallets in five shards");
    let to = others.find(|to| shard_of(bar, to) != shard_of(bar, from)).expect("eight wallets in five shards");
    (from, to)
}

#[test]
fn a_transfer_under_way_is_taken_or_comes_back() {
    // Sent here before its shard was asked, and come to one that waits: taken, for the currency stays.
    let mut bar = Bar::open(5);
    let (from, to) = strangers(&mut bar);
    let home = Home::Festival(bar.festival).shard(5);
    let (sender, receiver) = (shard_of(&bar, from), shard_of(&bar, to));
    bar.quiet = false;
    bar.play("cashless night in JPY foreign → pending");
    bar.carry(home, receiver, true);
    bar.play(&format!("transfer {from} {to} 20.00 → pending"));
    bar.carry(sender, receiver, true);
    bar.pump();
    bar.quiet = true;
    everywhere(&bar, "EUR");
    bar.play(&format!("show {from} → 30.00, desk-1 30.00\n show {to} → 70.00, desk-1 70.00"));

    // Sent after its shard has said that it has nothing: put off.
    let mut bar = Bar::open(5);
    let (from, to) = strangers(&mut bar);
    bar.quiet = false;
    bar.play("cashless night in JPY foreign → pending");
    bar.carry(home, sender, true);
    bar.play(&format!("transfer {from} {to} 20.00 → rejected: busy"));
    bar.pump();
    bar.quiet = true;
    everywhere(&bar, "JPY");
    bar.play(&format!("transfer {from} {to} 20.00 → rejected: wrong_currency"));

    // Sent in the new currency to a shard that has not heard of it yet: it comes back, and works a moment later.
    let mut bar = Bar::open(5);
    let (mine, theirs) = {
        let near = Home::Festival(bar.festival).shard(5);
        let mut apart = ["W1", "W2", "W3", "W4"].into_iter().filter(|name| shard_of(&bar, name) != near);
        let mine = apart.next().expect("one is apart");
        let there = shard_of(&bar, mine);
        (mine, apart.find(|name| shard_of(&bar, name) != there).expect("two are apart"))
    };
    let (here, there) = (shard_of(&bar, mine), shard_of(&bar, theirs));
    bar.quiet = false;
    bar.play("cashless night in JPY → pending");
    let others = (0..5).map(ShardId).filter(|other| *other != home);
    for other in others.clone() {
        bar.carry(home, other, true);
        bar.carry(other, home, true);
    }
    bar.carry(home, here, true);
    bar.play(&format!("topup {mine} 5000 from desk in JPY\n transfer {mine} {theirs} 2000 in JPY → pending"));
    bar.carry(here, there, true);
    bar.pump();
    bar.quiet = true;
    everywhere(&bar, "JPY");
    bar.play(&format!(
        "
        show {mine} → 50.00, desk-1 50.00
        transfer {mine} {theirs} 2000 in JPY → 30.00
        "
    ));
}
