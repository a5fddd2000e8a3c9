//! Any event about money.

use engine::cashless::command::*;

use engine::cashless::event::*;
use engine::event::*;
use engine::model::ids::*;
use engine::model::money::Currency;
use engine::model::rejection::Rejection;
use engine::model::status::FestivalStatus;
use engine::shard::outbox::{Entry, Message, Named};
use proptest::collection::vec;
use proptest::option;
use proptest::prelude::*;
use proptest::sample::select;

use super::{any_u8, any_u32, any_u64, by_device, tag, ticket, time};

/// Any of them, each kind as likely as the others.
pub(super) fn any() -> Vec<BoxedStrategy<Event>> {
    let cashless = |strategy: BoxedStrategy<CashlessEvent>| strategy.prop_map(Event::Cashless).boxed();
    let hash = || proptest::prelude::any::<[u8; 32]>();
    let mut kinds = vec![
        transaction().prop_map(Event::Transaction).boxed(),
        (shard(), any_u64(), message()).prop_map(|(to, n, message)| Event::Sent { to, n, message }).boxed(),
        (shard(), any_u64(), message()).prop_map(|(from, n, message)| Event::Received { from, n, message }).boxed(),
        (shard(), any_u64()).prop_map(|(to, through)| Event::Delivered { to, through }).boxed(),
    ];
    let events: Vec<BoxedStrategy<CashlessEvent>> = vec![
        (festival(), policy(), select(FestivalStatus::ALL))
            .prop_map(|(festival, policy, status)| CashlessEvent::PolicySet { festival, policy, status })
            .boxed(),
        (festival(), vendor(), vendor_values())
            .prop_map(|(festival, vendor, values)| CashlessEvent::VendorPut { festival, vendor, values })
            .boxed(),
        (festival(), vendor(), product(), product_values())
            .prop_map(|(festival, vendor, product, values)| CashlessEvent::ProductPut {
                festival,
                vendor,
                product,
                values,
            })
            .boxed(),
        (festival(), option::of(vendor()), bool(), hash(), text(), time())
            .prop_map(|(festival, vendor, cashier, code_hash, name, until)| CashlessEvent::TerminalOffered {
                festival,
                vendor,
                cashier,
                code_hash,
                name,
                until,
            })
            .boxed(),
        (device(), option::of(vendor()), bool(), hash(), text(), hash())
            .prop_map(|(device, vendor, cashier, public_key, name, code_hash)| CashlessEvent::TerminalEnrolled {
                device,
                vendor,
                cashier,
                public_key,
                name,
                code_hash,
            })
            .boxed(),
        (wallet(), festival(), currency(), option::of(account()))
            .prop_map(|(wallet, issuer, currency, account)| CashlessEvent::WalletCreated {
                wallet,
                issuer,
                currency,
                account,
            })
            .boxed(),
        (wallet(), account()).prop_map(|(wallet, account)| CashlessEvent::WalletClaimed { wallet, account }).boxed(),
        (wallet(), bool()).prop_map(|(wallet, blocked)| CashlessEvent::WalletBlockSet { wallet, blocked }).boxed(),
        (wallet(), tag(), any_u32(), any_u64())
            .prop_map(|(wallet, tag, version, op)| CashlessEvent::WalletTagLost { wallet, tag, version, op })
            .boxed(),
        (wallet(), tag(), any_u32())
            .prop_map(|(wallet, tag, version)| CashlessEvent::TagAttached { wallet, tag, version })
            .boxed(),
        (tag(), wallet(), any_u32(), any_u64(), festival())
            .prop_map(|(tag, wallet, version, op, festival)| CashlessEvent::TagLinking {
                tag,
                wallet,
                version,
                op,
                festival,
            })
            .boxed(),
        (tag(), any_u64(), bool()).prop_map(|(tag, op, carry)| CashlessEvent::TagLinked { tag, op, carry }).boxed(),
        (tag(), any_u64(), rejection())
            .prop_map(|(tag, op, rejection)| CashlessEvent::TagRefused { tag, op, rejection })
            .boxed(),
        tag().prop_map(|tag| CashlessEvent::TagFreed { tag }).boxed(),
        (tag(), any_u64()).prop_map(|(tag, op)| CashlessEvent::TagLost { tag, op }).boxed(),
        (tag(), ticket(), any_u64())
            .prop_map(|(tag, ticket, op)| CashlessEvent::TagBinding { tag, ticket, op })
            .boxed(),
        (tag(), any_u64(), bool()).prop_map(|(tag, op, carry)| CashlessEvent::TagBindTaken { tag, op, carry }).boxed(),
        (tag(), any_u64(), rejection())
            .prop_map(|(tag, op, rejection)| CashlessEvent::TagBindRefused { tag, op, rejection })
            .boxed(),
        tag().prop_map(|tag| CashlessEvent::TagUnbound { tag }).boxed(),
        (tag(), any_u64()).prop_map(|(tag, op)| CashlessEvent::TagCarried { tag, op }).boxed(),
        (festival(), tag(), any_u64())
            .prop_map(|(festival, tag, op)| CashlessEvent::TagBarred { festival, tag, op })
            .boxed(),
        any_u64().prop_map(|op| CashlessEvent::LossKnown { op }).boxed(),
        any_u64().prop_map(|op| CashlessEvent::TransferSettled { op }).boxed(),
        any_u64().prop_map(|op| CashlessEvent::TransferCancelAsked { op }).boxed(),
        (festival(), policy(), any_u64(), 0..u16::MAX)
            .prop_map(|(festival, policy, op, others)| CashlessEvent::CurrencyChanging { festival, policy, op, others })
            .boxed(),
        festival().prop_map(|festival| CashlessEvent::CurrencyHeld { festival }).boxed(),
        (any_u64(), bool()).prop_map(|(op, booked)| CashlessEvent::CurrencyVoted { op, booked }).boxed(),
        festival().prop_map(|festival| CashlessEvent::CurrencyReleased { festival }).boxed(),
    ];
    kinds.extend(events.into_iter().map(|kind| kind.prop_map(complete).boxed()).map(cashless));
    kinds
}

/// Fails to compile when a kind of event is added: then it belongs into the list above as well.
fn complete(event: CashlessEvent) -> CashlessEvent {
    match event {
        CashlessEvent::PolicySet { .. }
        | CashlessEvent::VendorPut { .. }
        | CashlessEvent::ProductPut { .. }
        | CashlessEvent::TerminalOffered { .. }
        | CashlessEvent::TerminalEnrolled { .. }
        | CashlessEvent::WalletCreated { .. }
        | CashlessEvent::WalletClaimed { .. }
        | CashlessEvent::WalletBlockSet { .. }
        | CashlessEvent::WalletTagLost { .. }
        | CashlessEvent::TagAttached { .. }
        | CashlessEvent::TagLinking { .. }
        | CashlessEvent::TagLinked { .. }
        | CashlessEvent::TagRefused { .. }
        | CashlessEvent::TagFreed { .. }
        | CashlessEvent::TagLost { .. }
        | CashlessEvent::TagBinding { .. }
        | CashlessEvent::TagBindTaken { .. }
        | CashlessEvent::TagBindRefused { .. }
        | CashlessEvent::TagUnbound { .. }
        | CashlessEvent::TagCarried { .. }
        | CashlessEvent::TagBarred { .. }
        | CashlessEvent::LossKnown { .. }
        | CashlessEvent::TransferSettled { .. }
        | CashlessEvent::TransferCancelAsked { .. }
        | CashlessEvent::CurrencyChanging { .. }
        | CashlessEvent::CurrencyHeld { .. }
        | CashlessEvent::CurrencyVoted { .. }
        | CashlessEvent::CurrencyReleased { .. } => event,
    }
}

fn complete_message(message: Message) -> Message {
    match message {
        Message::Directory(
            Entry::Festival { .. } | Entry::Vendor { .. } | Entry::Product { .. } | Entry::Terminal { .. },
        )
        | Message::Credit { .. }
        | Message::Credited { .. }
        | Message::Declined { .. }
        | Message::Cancel { .. }
        | Message::Link { .. }
        | Message::LinkTaken { .. }
        | Message::LinkRefused { .. }
        | Message::Unlink { .. }
        | Message::Lost { .. }
        | Message::Bind { .. }
        | Message::BindTaken { .. }
        | Message::BindRefused { .. }
        | Message::Unbind { .. }
        | Message::Carry { .. }
        | Message::Bar { .. }
        | Message::LossKnown { .. }
        | Message::CurrencyAsk { .. }
        | Message::CurrencyVote { .. }
        | Message::CurrencyDecided { .. } => message,
    }
}

fn bool() -> impl Strategy<Value = bool> {
    proptest::bool::ANY
}
fn text() -> impl Strategy<Value = String> {
    "\\PC{0,20}".prop_map(String::from)
}
fn shard() -> impl Strategy<Value = ShardId> {
    proptest::num::u16::ANY.prop_map(ShardId)
}
fn festival() -> impl Strategy<Value = FestivalId> {
    any_u32().prop_map(FestivalId)
}
fn device() -> impl Strategy<Value = DeviceId> {
    any_u64().prop_map(DeviceId)
}
fn wallet() -> impl Strategy<Value = WalletId> {
    (1..=u64::MAX).prop_map(WalletId)
}
fn account() -> impl Strategy<Value = u128> {
    proptest::num::u128::ANY
}
fn vendor() -> impl Strategy<Value = VendorNo> {
    proptest::num::u16::ANY.prop_map(VendorNo)
}
fn product() -> impl Strategy<Value = ProductNo> {
    proptest::num::u16::ANY.prop_map(ProductNo)
}
fn named() -> impl Strategy<Value = Named> {
    prop_oneof![
        (wallet(), any_u32()).prop_map(|(wallet, version)| Named::Wallet(wallet, version)),
        ticket().prop_map(Named::Ticket)
    ]
}
pub(super) fn currency() -> impl Strategy<Value = Currency> {
    select(&["EUR", "JPY", "KWD", "USD"][..]).prop_map(|code| Currency::parse(code).expect("one of ISO 4217"))
}
fn amount() -> impl Strategy<Value = i64> {
    prop_oneof![Just(0), Just(i64::MAX), Just(i64::MIN), proptest::num::i64::ANY]
}
fn rejection() -> impl Strategy<Value = Rejection> {
    select(Rejection::ALL)
}
fn policy() -> impl Strategy<Value = CashlessPolicy> {
    (currency(), amount(), amount(), amount(), amount(), bool()).prop_map(
        |(currency, min_topup, max_topup, max_balance, min_payment, foreign_wallets)| CashlessPolicy {
            currency,
            min_topup,
            max_topup,
            max_balance,
            min_payment,
            foreign_wallets,
        },
    )
}
fn vendor_values() -> impl Strategy<Value = VendorValues> {
    let kind = proptest::sample::select(engine::model::status::VendorKind::ALL);
    (text(), kind, proptest::num::u16::ANY, bool()).prop_map(|(name, kind, commission_bp, open)| VendorValues {
        name,
        kind,
        commission_bp,
        open,
    })
}
fn product_values() -> impl Strategy<Value = ProductValues> {
    (text(), amount(), proptest::num::u16::ANY, bool()).prop_map(|(name, price, vat_bp, on_sale)| ProductValues {
        name,
        price,
        vat_bp,
        on_sale,
    })
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

fn transaction() -> impl Strategy<Value = Transaction> {
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

fn message() -> BoxedStrategy<Message> {
    let kinds: Vec<BoxedStrategy<Message>> = vec![
        (festival(), policy(), select(FestivalStatus::ALL))
            .prop_map(|(festival, policy, status)| Message::Directory(Entry::Festival { festival, policy, status }))
            .boxed(),
        (festival(), vendor(), vendor_values())
            .prop_map(|(festival, vendor, values)| Message::Directory(Entry::Vendor { festival, vendor, values }))
            .boxed(),
        (festival(), vendor(), product(), product_values())
            .prop_map(|(festival, vendor, product, values)| {
                Message::Directory(Entry::Product { festival, vendor, product, values })
            })
            .boxed(),
        (device(), option::of(vendor()), bool(), bool())
            .prop_map(|(device, vendor, cashier, revoked)| {
                Message::Directory(Entry::Terminal { device, vendor, cashier, revoked })
            })
            .boxed(),
        (any_u64(), wallet(), wallet(), festival(), festival(), currency(), lots(), option::of(account()))
            .prop_map(|(op, from, to, festival, issuer, currency, lots, account)| Message::Credit {
                op,
                from,
                to,
                festival,
                issuer,
                currency,
                lots,
                account,
            })
            .boxed(),
        any_u64().prop_map(|op| Message::Credited { op }).boxed(),
        (any_u64(), rejection()).prop_map(|(op, rejection)| Message::Declined { op, rejection }).boxed(),
        any_u64().prop_map(|op| Message::Cancel { op }).boxed(),
        (any_u64(), tag(), wallet(), any_u32(), festival(), (bool(), bool()), option::of(tag()))
            .prop_map(|(op, tag, wallet, version, festival, (replace, create), from)| Message::Link {
                op,
                tag,
                wallet,
                version,
                festival,
                replace,
                create,
                from,
            })
            .boxed(),
        (any_u64(), bool()).prop_map(|(op, carry)| Message::LinkTaken { op, carry }).boxed(),
        (any_u64(), festival()).prop_map(|(op, festival)| Message::CurrencyAsk { op, festival }).boxed(),
        (any_u64(), bool()).prop_map(|(op, booked)| Message::CurrencyVote { op, booked }).boxed(),
        (any_u64(), festival()).prop_map(|(op, festival)| Message::CurrencyDecided { op, festival }).boxed(),
        (any_u64(), rejection()).prop_map(|(op, rejection)| Message::LinkRefused { op, rejection }).boxed(),
        (tag(), wallet(), any_u32(), option::of((tag(), any_u64())))
            .prop_map(|(tag, wallet, version, to)| Message::Unlink { tag, wallet, version, to })
            .boxed(),
        (tag(), named(), any_u64()).prop_map(|(tag, named, op)| Message::Lost { tag, named, op }).boxed(),
        (any_u64(), tag(), ticket(), option::of(tag()))
            .prop_map(|(op, tag, ticket, from)| Message::Bind { op, tag, ticket, from })
            .boxed(),
        (any_u64(), bool()).prop_map(|(op, carry)| Message::BindTaken { op, carry }).boxed(),
        (any_u64(), rejection()).prop_map(|(op, rejection)| Message::BindRefused { op, rejection }).boxed(),
        (tag(), ticket(), option::of((tag(), any_u64())))
            .prop_map(|(tag, ticket, to)| Message::Unbind { tag, ticket, to })
            .boxed(),
        (any_u64(), tag(), tag(), option::of(named()))
            .prop_map(|(op, tag, from, named)| Message::Carry { op, tag, from, named })
            .boxed(),
        (tag(), named(), (shard(), any_u64())).prop_map(|(tag, named, then)| Message::Bar { tag, named, then }).boxed(),
        any_u64().prop_map(|op| Message::LossKnown { op }).boxed(),
    ];
    proptest::strategy::Union::new(kinds).prop_map(complete_message).boxed()
}
