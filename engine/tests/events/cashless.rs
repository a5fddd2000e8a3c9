//! Any transaction.

use engine::cashless::command::*;
use engine::cashless::event::*;
use engine::model::ids::*;
use engine::model::money::Currency;
use engine::model::rejection::Rejection;
use proptest::collection::vec;
use proptest::option;
use proptest::prelude::*;
use proptest::sample::select;

use super::{any_u8, any_u32, any_u64, by_device, tag};

fn text() -> impl Strategy<Value = String> {
    "\\PC{0,20}".prop_map(String::from)
}
fn festival() -> impl Strategy<Value = FestivalId> {
    any_u32().prop_map(FestivalId)
}
fn wallet() -> impl Strategy<Value = WalletId> {
    (1..=u64::MAX).prop_map(WalletId)
}
fn vendor() -> impl Strategy<Value = VendorNo> {
    proptest::num::u16::ANY.prop_map(VendorNo)
}
fn product() -> impl Strategy<Value = ProductNo> {
    proptest::num::u16::ANY.prop_map(ProductNo)
}
fn currency() -> impl Strategy<Value = Currency> {
    select(&["EUR", "JPY", "KWD", "USD"][..]).prop_map(|code| Currency::parse(code).expect("one of ISO 4217"))
}
fn amount() -> impl Strategy<Value = i64> {
    prop_oneof![Just(0), Just(i64::MAX), Just(i64::MIN), proptest::num::i64::ANY]
}
fn rejection() -> impl Strategy<Value = Rejection> {
    select(Rejection::ALL)
}
fn lots() -> impl Strategy<Value = Lots> {
    let lot = (select(SourceKind::ALL), festival(), any_u64(), amount(), 0..4_u16).prop_map(
        |(kind, festival, number, amount, provider)| Lot {
            source: Source { provider: ProviderNo(provider), ..Source::new(kind, festival, number) },
            amount,
        },
    );
    vec(lot, 0..4).prop_map(Lots::from_iter)
}
fn line() -> impl Strategy<Value = SoldLine> {
    (product(), proptest::num::u16::ANY, amount(), proptest::num::u16::ANY)
        .prop_map(|(product, count, price, vat_bp)| SoldLine { product, count, price, vat_bp })
}

pub(super) fn transaction() -> impl Strategy<Value = Transaction> {
    let what = (option::of(by_device()), select(TransactionKind::ALL), option::of(rejection()), any_u8(), any_u64());
    let whose = (festival(), wallet(), option::of((tag(), any_u32())), currency(), option::of(wallet()));
    let sums = (amount(), amount(), amount(), vec(amount(), 6), lots());
    let sold = (vendor(), any_u32(), proptest::num::u16::ANY, any_u64(), vec(line(), 0..4), text());
    (what, whose, sums, sold).prop_map(
        |(
            (by, kind, rejection, flags, serial),
            (festival, wallet, tap, currency, other),
            (amount, before, after, legs, lots),
            (vendor, order, commission_bp, of, lines, reason),
        )| Transaction {
            by,
            kind,
            rejection,
            flags,
            festival,
            wallet,
            tap,
            serial,
            amount,
            currency,
            before,
            after,
            posting: Posting {
                wallet: legs[0],
                vendor: legs[1],
                commission: legs[2],
                source: legs[3],
                corrections: legs[4],
                in_transit: legs[5],
            },
            lots,
            vendor,
            order,
            commission_bp,
            of,
            other,
            lines,
            reason,
        },
    )
}
