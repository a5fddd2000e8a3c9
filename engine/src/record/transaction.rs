//! How a transaction is written and read: by hand, since there are a hundred thousand a second of them.

use prost::Message;

use crate::cashless::command::{Source, SourceKind};
use crate::cashless::event::{Lot, Lots, Posting, SoldLine, Transaction, TransactionKind};
use crate::gates::event::ByDevice;
use crate::model::ids::{DeviceId, FestivalId, ProductNo, ProviderNo, TagUid, VendorNo, WalletId};
use crate::model::money::Currency;
use crate::model::time::Timestamp;
use crate::record::table::Table;
use crate::record::{RecordError, decode, floor, narrow, proto, rejection, word};

/// Its number among the events.
const TRANSACTION: u32 = 4;

impl Table for Transaction {
    fn number(&self) -> u32 {
        TRANSACTION
    }
    fn write_body(&self, _: Timestamp, out: &mut Vec<u8>) {
        to_proto(self).encode_raw(out);
    }
    fn read_body(number: u32, body: &[u8], _: Timestamp) -> Result<Option<Self>, RecordError> {
        (number == TRANSACTION).then(|| from_proto(decode(body, "transaction")?)).transpose()
    }
}

fn to_proto(transaction: &Transaction) -> proto::Transaction {
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

fn from_proto(t: proto::Transaction) -> Result<Transaction, RecordError> {
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
        currency: word(Currency::from_word(t.currency), "currency")?,
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
        vendor: VendorNo(narrow(t.vendor, "vendor")?),
        order: t.order,
        commission_bp: narrow(t.commission_bp, "commission")?,
        of: t.of,
        other: (t.other != 0).then_some(WalletId(t.other)),
        lines: t.lines.into_iter().map(line_from_proto).collect::<Result<_, _>>()?,
        reason: t.reason,
    })
}

pub(super) fn lot_to_proto(lot: &Lot) -> proto::Lot {
    let Source { kind, festival, provider, number } = lot.source;
    let provider = u32::from(provider.0);
    proto::Lot { kind: kind as u32, festival: festival.0, number, amount: lot.amount, provider }
}

pub(super) fn lot_from_proto(lot: proto::Lot) -> Result<Lot, RecordError> {
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
