//! How money's events are written and read.

mod tags;

use crate::cashless::command::{CashlessPolicy, ProductValues, Source, SourceKind, VendorValues};
use crate::cashless::event::{CashlessEvent, Lot, Lots, Posting, SoldLine, Transaction, TransactionKind};
use crate::gates::event::ByDevice;
use crate::model::ids::{DeviceId, FestivalId, ProductNo, ProviderNo, TagUid, VendorNo, WalletId};
use crate::model::money::Currency;
use crate::model::rejection::Rejection;
use crate::model::status::{FestivalStatus, VendorKind};
use crate::model::time::Timestamp;
use crate::record::proto::event::Kind;
use crate::record::proto::message::What;
use crate::record::{RecordError, array, floor, narrow, proto, rejection, word};
use crate::shard::outbox::{Entry, Message};

pub(super) fn transaction_to_proto(transaction: &Transaction) -> proto::Transaction {
    let t = transaction;
    let by = t.by.unwrap_or(ByDevice { device: DeviceId(0), seq: 0, floor: 0, fingerprint: 0 });
    let ((tag_first, tag_rest), tag_version) = t.tap.map_or(((0, 0), 0), |(tag, version)| (tag.to_words(), version));
    let lot = lot_to_proto(&t.lots.first());
    let any_lot = lot.amount != 0;
    proto::Transaction {
        device: by.device.0,
        seq: by.seq,
        below: (by.seq - by.floor) as u32,
        fingerprint: by.fingerprint,
        kind: t.kind as u32,
        rejection: t.rejection.map_or(0, |rejection| rejection as u32),
        flags: u32::from(t.flags),
        festival: t.festival.0,
        wallet: t.wallet.0,
        tag_first,
        tag_rest,
        tag_version,
        serial: t.serial,
        amount: t.amount,
        currency: t.currency.to_word(),
        before: t.before,
        after: t.after,
        leg_wallet: t.posting.wallet,
        leg_vendor: t.posting.vendor,
        leg_commission: t.posting.commission,
        leg_source: t.posting.source,
        leg_corrections: t.posting.corrections,
        leg_in_transit: t.posting.in_transit,
        vendor: u32::from(t.vendor.0),
        order: t.order,
        commission_bp: u32::from(t.commission_bp),
        of: t.of,
        other: t.other.map_or(0, |wallet| wallet.0),
        lot_kind: if any_lot { lot.kind } else { 0 },
        lot_festival: (any_lot && lot.festival != t.festival.0).then_some(lot.festival),
        lot_number: lot.number,
        lot_amount: (any_lot && lot.amount != t.amount).then_some(lot.amount),
        lot_provider: lot.provider,
        lots: t.lots.rest().iter().map(lot_to_proto).collect(),
        lines: t.lines.iter().map(line_to_proto).collect(),
        reason: t.reason.clone(),
    }
}

pub(super) fn transaction_from_proto(t: proto::Transaction) -> Result<Transaction, RecordError> {
    let by =
        ByDevice { device: DeviceId(t.device), seq: t.seq, floor: floor(t.seq, t.below)?, fingerprint: t.fingerprint };
    let mut lots = Lots::default();
    if t.lot_kind != 0 {
        lots.push(lot_from_proto(proto::Lot {
            kind: t.lot_kind,
            festival: t.lot_festival.unwrap_or(t.festival),
            number: t.lot_number,
            amount: t.lot_amount.unwrap_or(t.amount),
            provider: t.lot_provider,
        })?);
    }
    for lot in t.lots {
        lots.push(lot_from_proto(lot)?);
    }
    Ok(Transaction {
        by: (t.seq != 0).then_some(by),
        kind: word(TransactionKind::from_number(t.kind), "transaction kind")?,
        rejection: rejection(t.rejection)?,
        flags: narrow(t.flags, "flags")?,
        festival: FestivalId(t.festival),
        wallet: WalletId(t.wallet),
        tap: match t.tag_rest {
            0 => None,
            rest => Some((word(TagUid::from_words(t.tag_first, rest), "tag")?, t.tag_version)),
        },
        serial: t.serial,
        amount: t.amount,
        currency: currency(t.currency)?,
        before: t.before,
        after: t.after,
        posting: Posting {
            wallet: t.leg_wallet,
            vendor: t.leg_vendor,
            commission: t.leg_commission,
            source: t.leg_source,
            corrections: t.leg_corrections,
            in_transit: t.leg_in_transit,
        },
        lots,
        vendor: vendor(t.vendor)?,
        order: t.order,
        commission_bp: narrow(t.commission_bp, "commission")?,
        of: t.of,
        other: (t.other != 0).then_some(WalletId(t.other)),
        lines: t.lines.into_iter().map(line_from_proto).collect::<Result<_, _>>()?,
        reason: t.reason,
    })
}

fn lot_to_proto(lot: &Lot) -> proto::Lot {
    let Source { kind, festival, provider, number } = lot.source;
    let provider = u32::from(provider.0);
    proto::Lot { kind: kind as u32, festival: festival.0, number, amount: lot.amount, provider }
}

fn lot_from_proto(lot: proto::Lot) -> Result<Lot, RecordError> {
    let kind = word(SourceKind::from_number(lot.kind), "source")?;
    let provider = ProviderNo(narrow(lot.provider, "provider")?);
    let source = Source { kind, festival: FestivalId(lot.festival), provider, number: lot.number };
    Ok(Lot { source, amount: lot.amount })
}

fn line_to_proto(line: &SoldLine) -> proto::Line {
    proto::Line {
        product: u32::from(line.product.0),
        count: u32::from(line.count),
        price: line.price,
        vat_bp: u32::from(line.vat_bp),
    }
}

fn line_from_proto(line: proto::Line) -> Result<SoldLine, RecordError> {
    Ok(SoldLine {
        product: ProductNo(narrow(line.product, "product")?),
        count: narrow(line.count, "count")?,
        price: line.price,
        vat_bp: narrow(line.vat_bp, "vat")?,
    })
}

fn currency(number: u32) -> Result<Currency, RecordError> {
    word(Currency::from_word(number), "currency")
}

fn vendor(number: u32) -> Result<VendorNo, RecordError> {
    narrow(number, "vendor").map(VendorNo)
}

fn tag(uid: &[u8]) -> Result<TagUid, RecordError> {
    word(TagUid::new(uid), "tag")
}

fn account_to_bytes(account: Option<u128>) -> Vec<u8> {
    account.map_or(Vec::new(), |account| account.to_be_bytes().to_vec())
}

fn account_from_bytes(bytes: &[u8]) -> Result<Option<u128>, RecordError> {
    if bytes.is_empty() { Ok(None) } else { Ok(Some(u128::from_be_bytes(array(bytes, "account")?))) }
}

fn some_rejection(number: u32) -> Result<Rejection, RecordError> {
    word(rejection(number)?, "rejection")
}

fn policy_to_proto(policy: &CashlessPolicy) -> proto::CashlessPolicy {
    proto::CashlessPolicy {
        currency: policy.currency.to_word(),
        min_topup: policy.min_topup,
        max_topup: policy.max_topup,
        max_balance: policy.max_balance,
        min_payment: policy.min_payment,
        foreign_wallets: policy.foreign_wallets,
    }
}

fn policy_from_proto(policy: Option<proto::CashlessPolicy>) -> Result<CashlessPolicy, RecordError> {
    let policy = word(policy, "policy")?;
    Ok(CashlessPolicy {
        currency: currency(policy.currency)?,
        min_topup: policy.min_topup,
        max_topup: policy.max_topup,
        max_balance: policy.max_balance,
        min_payment: policy.min_payment,
        foreign_wallets: policy.foreign_wallets,
    })
}

fn policy_set(festival: FestivalId, policy: &CashlessPolicy, status: FestivalStatus) -> proto::CashlessPolicySet {
    proto::CashlessPolicySet { festival: festival.0, policy: Some(policy_to_proto(policy)), status: status as u32 }
}

fn read_policy_set(set: proto::CashlessPolicySet) -> Result<(FestivalId, CashlessPolicy, FestivalStatus), RecordError> {
    let policy = policy_from_proto(set.policy)?;
    Ok((FestivalId(set.festival), policy, word(FestivalStatus::from_number(set.status), "festival status")?))
}

fn vendor_put(festival: FestivalId, vendor: VendorNo, values: &VendorValues) -> proto::VendorPut {
    proto::VendorPut {
        festival: festival.0,
        vendor: u32::from(vendor.0),
        name: values.name.clone(),
        commission_bp: u32::from(values.commission_bp),
        open: values.open,
        kind: values.kind as u32,
    }
}

fn read_vendor_put(put: proto::VendorPut) -> Result<(FestivalId, VendorNo, VendorValues), RecordError> {
    let commission_bp = narrow(put.commission_bp, "commission")?;
    let kind = word(VendorKind::from_number(put.kind), "vendor kind")?;
    let values = VendorValues { name: put.name, kind, commission_bp, open: put.open };
    Ok((FestivalId(put.festival), vendor(put.vendor)?, values))
}

fn product_put(
    festival: FestivalId,
    vendor: VendorNo,
    product: ProductNo,
    values: &ProductValues,
) -> proto::ProductPut {
    proto::ProductPut {
        festival: festival.0,
        vendor: u32::from(vendor.0),
        product: u32::from(product.0),
        name: values.name.clone(),
        price: values.price,
        vat_bp: u32::from(values.vat_bp),
        on_sale: values.on_sale,
    }
}

fn read_product_put(put: proto::ProductPut) -> Result<(FestivalId, VendorNo, ProductNo, ProductValues), RecordError> {
    let values =
        ProductValues { name: put.name, price: put.price, vat_bp: narrow(put.vat_bp, "vat")?, on_sale: put.on_sale };
    Ok((FestivalId(put.festival), vendor(put.vendor)?, ProductNo(narrow(put.product, "product")?), values))
}

pub(super) fn to_proto(event: &CashlessEvent) -> Kind {
    match event {
        CashlessEvent::PolicySet { festival, policy, status } => {
            Kind::CashlessPolicySet(policy_set(*festival, policy, *status))
        }
        CashlessEvent::VendorPut { festival, vendor, values } => {
            Kind::VendorPut(vendor_put(*festival, *vendor, values))
        }
        CashlessEvent::ProductPut { festival, vendor, product, values } => {
            Kind::ProductPut(product_put(*festival, *vendor, *product, values))
        }
        CashlessEvent::TerminalOffered { festival, vendor, cashier, code_hash, name, until } => {
            Kind::TerminalOffered(proto::TerminalOffered {
                festival: festival.0,
                vendor: vendor.map(|vendor| u32::from(vendor.0)),
                cashier: *cashier,
                code_hash: code_hash.to_vec(),
                name: name.clone(),
                until: until.0,
            })
        }
        CashlessEvent::TerminalEnrolled { device, vendor, cashier, public_key, name, code_hash } => {
            Kind::TerminalEnrolled(proto::TerminalEnrolled {
                device: device.0,
                vendor: vendor.map(|vendor| u32::from(vendor.0)),
                cashier: *cashier,
                public_key: public_key.to_vec(),
                name: name.clone(),
                code_hash: code_hash.to_vec(),
            })
        }
        CashlessEvent::WalletCreated { wallet, issuer, currency, account } => {
            Kind::WalletCreated(proto::WalletCreated {
                wallet: wallet.0,
                issuer: issuer.0,
                currency: currency.to_word(),
                account: account_to_bytes(*account),
            })
        }
        CashlessEvent::WalletClaimed { wallet, account } => {
            Kind::WalletClaimed(proto::WalletClaimed { wallet: wallet.0, account: account_to_bytes(Some(*account)) })
        }
        CashlessEvent::WalletBlockSet { wallet, blocked } => {
            Kind::WalletBlockSet(proto::WalletBlockSet { wallet: wallet.0, blocked: *blocked })
        }
        CashlessEvent::TransferSettled { op } => Kind::TransferSettled(proto::TransferSettled { op: *op }),
        CashlessEvent::TransferCancelAsked { op } => Kind::TransferCancelAsked(proto::TransferCancelAsked { op: *op }),
        CashlessEvent::CurrencyChanging { festival, policy, op, others } => {
            Kind::CurrencyChanging(proto::CurrencyChanging {
                festival: festival.0,
                policy: Some(policy_to_proto(policy)),
                op: *op,
                others: u32::from(*others),
            })
        }
        CashlessEvent::CurrencyHeld { festival } => Kind::CurrencyHeld(proto::CurrencyHeld { festival: festival.0 }),
        CashlessEvent::CurrencyVoted { op, booked } => {
            Kind::CurrencyVoted(proto::CurrencyVoted { op: *op, booked: *booked })
        }
        CashlessEvent::CurrencyReleased { festival } => {
            Kind::CurrencyReleased(proto::CurrencyReleased { festival: festival.0 })
        }
        of_tag => tags::to_proto(of_tag),
    }
}

pub(super) fn from_proto(kind: Kind) -> Result<CashlessEvent, RecordError> {
    Ok(match kind {
        Kind::CashlessPolicySet(set) => {
            let (festival, policy, status) = read_policy_set(set)?;
            CashlessEvent::PolicySet { festival, policy, status }
        }
        Kind::VendorPut(put) => {
            let (festival, vendor, values) = read_vendor_put(put)?;
            CashlessEvent::VendorPut { festival, vendor, values }
        }
        Kind::ProductPut(put) => {
            let (festival, vendor, product, values) = read_product_put(put)?;
            CashlessEvent::ProductPut { festival, vendor, product, values }
        }
        Kind::TerminalOffered(offered) => CashlessEvent::TerminalOffered {
            festival: FestivalId(offered.festival),
            vendor: offered.vendor.map(vendor).transpose()?,
            cashier: offered.cashier,
            code_hash: array(&offered.code_hash, "code hash")?,
            name: offered.name,
            until: Timestamp(offered.until),
        },
        Kind::TerminalEnrolled(enrolled) => CashlessEvent::TerminalEnrolled {
            device: DeviceId(enrolled.device),
            vendor: enrolled.vendor.map(vendor).transpose()?,
            cashier: enrolled.cashier,
            public_key: array(&enrolled.public_key, "public key")?,
            name: enrolled.name,
            code_hash: array(&enrolled.code_hash, "code hash")?,
        },
        Kind::WalletCreated(created) => CashlessEvent::WalletCreated {
            wallet: WalletId(created.wallet),
            issuer: FestivalId(created.issuer),
            currency: currency(created.currency)?,
            account: account_from_bytes(&created.account)?,
        },
        Kind::WalletClaimed(claimed) => CashlessEvent::WalletClaimed {
            wallet: WalletId(claimed.wallet),
            account: word(account_from_bytes(&claimed.account)?, "account")?,
        },
        Kind::WalletBlockSet(set) => {
            CashlessEvent::WalletBlockSet { wallet: WalletId(set.wallet), blocked: set.blocked }
        }
        Kind::TransferSettled(settled) => CashlessEvent::TransferSettled { op: settled.op },
        Kind::TransferCancelAsked(asked) => CashlessEvent::TransferCancelAsked { op: asked.op },
        Kind::CurrencyChanging(changing) => CashlessEvent::CurrencyChanging {
            festival: FestivalId(changing.festival),
            policy: policy_from_proto(changing.policy)?,
            op: changing.op,
            others: narrow(changing.others, "shards")?,
        },
        Kind::CurrencyHeld(held) => CashlessEvent::CurrencyHeld { festival: FestivalId(held.festival) },
        Kind::CurrencyVoted(voted) => CashlessEvent::CurrencyVoted { op: voted.op, booked: voted.booked },
        Kind::CurrencyReleased(released) => CashlessEvent::CurrencyReleased { festival: FestivalId(released.festival) },
        other => tags::from_proto(other)?,
    })
}

pub(super) fn message_to_proto(message: &Message) -> proto::Message {
    let what = match message {
        Message::Directory(Entry::Festival { festival, policy, status }) => {
            What::Festival(policy_set(*festival, policy, *status))
        }
        Message::Directory(Entry::Vendor { festival, vendor, values }) => {
            What::Vendor(vendor_put(*festival, *vendor, values))
        }
        Message::Directory(Entry::Product { festival, vendor, product, values }) => {
            What::Product(product_put(*festival, *vendor, *product, values))
        }
        Message::Directory(Entry::Terminal { device, vendor, cashier, revoked }) => What::Terminal(proto::Terminal {
            device: device.0,
            vendor: vendor.map(|vendor| u32::from(vendor.0)),
            cashier: *cashier,
            revoked: *revoked,
        }),
        Message::Credit { op, from, to, festival, issuer, currency, lots, account } => What::Credit(proto::Credit {
            op: *op,
            from: from.0,
            to: to.0,
            festival: festival.0,
            issuer: issuer.0,
            currency: currency.to_word(),
            lots: lots.iter().map(lot_to_proto).collect(),
            account: account_to_bytes(*account),
        }),
        Message::Credited { op } => What::Credited(proto::Credited { op: *op }),
        Message::Declined { op, rejection } => {
            What::Declined(proto::Declined { op: *op, rejection: *rejection as u32 })
        }
        Message::Cancel { op } => What::Cancel(proto::Cancel { op: *op }),
        Message::CurrencyAsk { op, festival } => {
            What::CurrencyAsk(proto::CurrencyAsk { op: *op, festival: festival.0 })
        }
        Message::CurrencyVote { op, booked } => What::CurrencyVote(proto::CurrencyVote { op: *op, booked: *booked }),
        Message::CurrencyDecided { op, festival } => {
            What::CurrencyDecided(proto::CurrencyDecided { op: *op, festival: festival.0 })
        }
        of_tag => tags::message_to_proto(of_tag),
    };
    proto::Message { what: Some(what) }
}

pub(super) fn message_from_proto(message: Option<proto::Message>) -> Result<Message, RecordError> {
    let what = word(message.and_then(|message| message.what), "message")?;
    Ok(match what {
        What::Festival(set) => {
            let (festival, policy, status) = read_policy_set(set)?;
            Message::Directory(Entry::Festival { festival, policy, status })
        }
        What::Vendor(put) => {
            let (festival, vendor, values) = read_vendor_put(put)?;
            Message::Directory(Entry::Vendor { festival, vendor, values })
        }
        What::Product(put) => {
            let (festival, vendor, product, values) = read_product_put(put)?;
            Message::Directory(Entry::Product { festival, vendor, product, values })
        }
        What::Terminal(terminal) => Message::Directory(Entry::Terminal {
            device: DeviceId(terminal.device),
            vendor: terminal.vendor.map(vendor).transpose()?,
            cashier: terminal.cashier,
            revoked: terminal.revoked,
        }),
        What::Credit(credit) => Message::Credit {
            op: credit.op,
            from: WalletId(credit.from),
            to: WalletId(credit.to),
            festival: FestivalId(credit.festival),
            issuer: FestivalId(credit.issuer),
            currency: currency(credit.currency)?,
            lots: credit.lots.into_iter().map(lot_from_proto).collect::<Result<_, _>>()?,
            account: account_from_bytes(&credit.account)?,
        },
        What::Credited(credited) => Message::Credited { op: credited.op },
        What::Declined(declined) => {
            Message::Declined { op: declined.op, rejection: some_rejection(declined.rejection)? }
        }
        What::Cancel(cancel) => Message::Cancel { op: cancel.op },
        What::CurrencyAsk(ask) => Message::CurrencyAsk { op: ask.op, festival: FestivalId(ask.festival) },
        What::CurrencyVote(vote) => Message::CurrencyVote { op: vote.op, booked: vote.booked },
        What::CurrencyDecided(decided) => {
            Message::CurrencyDecided { op: decided.op, festival: FestivalId(decided.festival) }
        }
        other => tags::message_from_proto(other)?,
    })
}
