//! Every bound of a shard that somebody can reach: as many as it says, and not one more. (Those of gates, zones, categories,
//! tickets in one command, codes and idempotency keys are tested where these are.)

mod bar;

use bar::{Bar, eur};
use engine::cashless::LAPSE_MAX;
use engine::cashless::command::*;
use engine::cashless::directory::{PRODUCTS_MAX, VENDORS_MAX};
use engine::cashless::wallet::OWNED_SHOWN_MAX;
use engine::command::*;
use engine::gates::category::QUOTA_MAX;
use engine::gates::command::*;
use engine::gates::device::{CODE_KEPT_MS, CODES_MAX, DEVICES_MAX};
use engine::model::ids::*;
use engine::model::principal::Principal;
use engine::model::rejection::Rejection;
use engine::model::status::{CategoryKind, Policy, Role, VendorKind};
use engine::model::time::{Calendar, HOUR_MS};
use engine::shard::operators::{API_KEYS_MAX, KEY_FESTIVALS_MAX};
use engine::shard::outbox::OPS_MAX;
use engine::shard::{FESTIVALS_MAX, Step};
use engine::view::{Query, View};

const FULL: AdminAnswer = AdminAnswer::Rejected(Rejection::LimitReached);

/// Asks without a key: those have a bound of their own.
fn ask(bar: &mut Bar, action: AdminAction) -> AdminAnswer {
    bar.admin_with(None, action).0
}

#[test]
fn vendors_and_products() {
    let mut bar = Bar::bare(1);
    bar.play("cashless night");
    let festival = bar.festival;
    let values = VendorValues { name: "Bar".into(), kind: VendorKind::Bar, commission_bp: 0, open: true };
    let vendor = |vendor| AdminAction::Cashless(CashlessAction::PutVendor { festival, vendor, values: values.clone() });
    for n in 0..VENDORS_MAX as u16 {
        assert_eq!(ask(&mut bar, vendor(None)), AdminAnswer::Vendor(VendorNo(n)));
    }
    assert_eq!(ask(&mut bar, vendor(None)), FULL);
    let last = VendorNo(VENDORS_MAX as u16 - 1);
    assert_eq!(ask(&mut bar, vendor(Some(last))), AdminAnswer::Vendor(last), "those that are there can be changed");

    let values = ProductValues { name: "Beer".into(), price: 500, vat_bp: 1_900, on_sale: true };
    let product = |vendor, product| {
        AdminAction::Cashless(CashlessAction::PutProduct { festival, vendor, product, values: values.clone() })
    };
    for _ in 0..PRODUCTS_MAX {
        assert!(matches!(ask(&mut bar, product(last, None)), AdminAnswer::Product(..)));
    }
    assert_eq!(ask(&mut bar, product(last, None)), FULL);
    assert!(matches!(ask(&mut bar, product(VendorNo(0), None)), AdminAnswer::Product(..)), "of each vendor");
}

#[test]
fn lines_of_a_payment() {
    let mut bar = Bar::open(1);
    bar.play("topup W1 100.00");
    let (wallet, (festival, vendor)) = (bar.wallets["W1"], bar.vendors["bar-7"]);
    let line = Line { product: ProductNo(0), count: 1, price: 10 };
    let pay = |lines: usize| CashlessAction::Pay {
        wallet,
        festival,
        vendor,
        amount: eur(10 * lines as i64),
        lines: vec![line; lines].into(),
    };
    assert!(matches!(bar.cashless(pay(LINES_MAX)), AdminAnswer::Transaction { .. }));
    assert_eq!(bar.cashless(pay(LINES_MAX + 1)), AdminAnswer::Rejected(Rejection::LinesMismatch));
}

#[test]
fn operators_keys_and_their_festivals() {
    let mut bar = Bar::bare(1);
    let mut made = 0_u32;
    let mut key = |festivals: usize| {
        made += 1;
        let mut hash = [0; 32];
        hash[..4].copy_from_slice(&made.to_be_bytes());
        let festivals = (0..festivals as u32).map(FestivalId).collect();
        AdminAction::CreateApiKey { hash, role: Role::Staff, festivals, name: "door".into() }
    };
    assert!(matches!(ask(&mut bar, key(KEY_FESTIVALS_MAX)), AdminAnswer::ApiKey(_)));
    assert_eq!(ask(&mut bar, key(KEY_FESTIVALS_MAX + 1)), FULL);
    for _ in 1..API_KEYS_MAX {
        assert!(matches!(ask(&mut bar, key(1)), AdminAnswer::ApiKey(_)));
    }
    assert_eq!(ask(&mut bar, key(1)), FULL);
}

#[test]
fn festivals_of_a_shard() {
    let mut bar = Bar::bare(1);
    let festival = |slug: String| AdminAction::CreateFestival {
        slug,
        name: "A night".into(),
        starts_at: bar::EVENING,
        ends_at: bar::EVENING.plus_ms(HOUR_MS),
        policy: Policy::default(),
        calendar: Calendar::default(),
    };
    for n in 2..FESTIVALS_MAX {
        assert!(matches!(ask(&mut bar, festival(format!("f-{n}"))), AdminAnswer::Festival(_)));
    }
    assert_eq!(ask(&mut bar, festival("one-more".into())), FULL);
}

#[test]
fn devices_of_a_festival() {
    let mut bar = Bar::bare(1);
    let festival = bar.festival;
    let zone = AdminAction::PutZone { festival, zone: None, name: "A".into(), parent: None, capacity: 1 };
    ask(&mut bar, zone);
    ask(&mut bar, AdminAction::AddGate { festival, zone: ZoneNo(0), name: "North".into() });
    let code = |n: usize| {
        let mut code_hash = [0; 32];
        code_hash[..8].copy_from_slice(&n.to_be_bytes());
        code_hash
    };
    let offer = |n| AdminAction::OfferEnrolment { festival, gate: GateNo(0), code_hash: code(n), name: "R".into() };
    let enrol = |n| AdminAction::EnrolDevice { festival, code_hash: code(n), public_key: code(n) };
    for n in 1..DEVICES_MAX {
        // Codes have a bound of their own, used or not.
        if n % (CODES_MAX / 2) == 0 {
            bar.now = bar.now.plus_ms(CODE_KEPT_MS + 1);
            bar.line(&["tick"]);
        }
        ask(&mut bar, offer(n));
        assert!(matches!(ask(&mut bar, enrol(n)), AdminAnswer::Device(_)), "{n}");
    }
    // Two codes for the last place.
    for n in [DEVICES_MAX, DEVICES_MAX + 1] {
        assert!(matches!(ask(&mut bar, offer(n)), AdminAnswer::CodeUntil(_)));
    }
    assert!(matches!(ask(&mut bar, enrol(DEVICES_MAX)), AdminAnswer::Device(_)));
    assert_eq!(ask(&mut bar, enrol(DEVICES_MAX + 1)), FULL);
    assert_eq!(ask(&mut bar, offer(DEVICES_MAX + 2)), FULL, "nor is there a code for what has no place");
}

#[test]
fn the_quota_of_a_category() {
    let mut bar = Bar::bare(1);
    let festival = bar.festival;
    let zone = AdminAction::PutZone { festival, zone: None, name: "A".into(), parent: None, capacity: 1 };
    ask(&mut bar, zone);
    let category = |quota| AdminAction::PutCategory {
        festival,
        category: None,
        values: CategoryValues {
            name: "Day".into(),
            kind: CategoryKind::Standard,
            price: eur(100),
            quota,
            zones: 1,
            valid_from: bar::EVENING,
            valid_until: bar::EVENING.plus_ms(HOUR_MS),
        },
    };
    assert!(matches!(ask(&mut bar, category(QUOTA_MAX)), AdminAnswer::Category(_)));
    assert_eq!(ask(&mut bar, category(QUOTA_MAX + 1)), AdminAnswer::Rejected(Rejection::InvalidValue));
}

/// A shard's operations, whichever shards they wait for.
#[test]
fn operations_that_wait_for_other_shards() {
    let mut bar = Bar::open(3);
    let home = |wallet: WalletId| Home::Wallet(wallet).shard(3);
    // Wallets of the shard of the first one, and of each of the others.
    let from = bar.wallets["W1"];
    let mut there = [None; 3];
    for n in 0.. {
        if there.iter().flatten().count() == 3 {
            break;
        }
        let name = format!("X{n}");
        bar.line(&["wallet", &name]);
        let wallet = bar.wallets[&name];
        there[usize::from(home(wallet).0)].get_or_insert(wallet);
    }
    let others: Vec<WalletId> = there.into_iter().flatten().filter(|wallet| home(*wallet) != home(from)).collect();
    bar.play("topup W1 500.00\n topup W1 500.00");
    let mut step = Step::default();
    let mut transfer = |bar: &mut Bar, to: WalletId| {
        let action = CashlessAction::Transfer { from, to, festival: bar.festival, amount: eur(1) };
        let command = AdminCommand { key: None, by: Principal::ApiKey(1), action: AdminAction::Cashless(action) };
        bar.shards[usize::from(home(from).0)].step(bar.now, &[Command::Admin(Box::new(command))], &mut step);
        step.answers[0]
    };
    for n in 0..OPS_MAX {
        let answer = transfer(&mut bar, others[n % 2]);
        assert!(matches!(answer, Answer::Admin { answer: AdminAnswer::Pending(_), .. }), "{n}: {answer:?}");
    }
    let busy = Answer::Admin { answer: AdminAnswer::Rejected(Rejection::Busy), repeated: false };
    for to in others {
        assert_eq!(transfer(&mut bar, to), busy, "though half of the outbox is free");
    }
}

/// So that no tick makes a record that is too long.
#[test]
fn gifts_that_lapse_at_one_tick() {
    let mut bar = Bar::open(1);
    for n in 0..=LAPSE_MAX {
        let name = format!("G{n}");
        bar.line(&["wallet", &name]);
        assert_eq!(bar.line(&["gift", &name, "1.00", "why"]), "1.00");
    }
    bar.line(&["status", "COMPLETED"]);
    bar.now = bar.now.plus_ms(25 * HOUR_MS);
    let lapsed = |bar: &mut Bar| {
        bar.line(&["tick"]);
        bar.ledger(bar.festival).gifts.lapsed
    };
    assert_eq!(lapsed(&mut bar), 100 * LAPSE_MAX as i128);
    assert_eq!(lapsed(&mut bar), 100 * (LAPSE_MAX as i128 + 1), "the rest at the next one");
}

#[test]
fn wallets_of_an_account_that_are_shown() {
    let mut bar = Bar::open(1);
    for n in 0..=OWNED_SHOWN_MAX {
        let name = format!("M{n}");
        bar.line(&["wallet", &name]);
        bar.line(&["claim", &name, "77"]);
    }
    let View::Wallets(shown) = bar.shards[0].query(&Query::WalletsOf(77)) else { panic!("no wallets") };
    assert_eq!(shown.len(), OWNED_SHOWN_MAX);
}
