//! How the events and messages about wristbands are written and read.

use crate::cashless::event::CashlessEvent;
use crate::model::ids::{FestivalId, ShardId, TagUid, WalletId};
use crate::record::cashless::{some_rejection, tag};
use crate::record::proto::event::Kind;
use crate::record::proto::message::What;
use crate::record::{RecordError, narrow, proto, ticket, ticket_halves, word};
use crate::shard::outbox::{Message, Named};

fn bytes(tag: &TagUid) -> Vec<u8> {
    tag.as_bytes().to_vec()
}

fn some_tag(uid: &[u8]) -> Result<Option<TagUid>, RecordError> {
    if uid.is_empty() { Ok(None) } else { tag(uid).map(Some) }
}

fn next_to_proto(next: &Option<(TagUid, u64)>) -> (Vec<u8>, u64) {
    next.as_ref().map_or((Vec::new(), 0), |(tag, op)| (bytes(tag), *op))
}

fn next(uid: &[u8], op: u64) -> Result<Option<(TagUid, u64)>, RecordError> {
    Ok(some_tag(uid)?.map(|tag| (tag, op)))
}

fn named_to_proto(named: &Named) -> proto::Named {
    match named {
        Named::Wallet(wallet, version) => proto::Named { wallet: wallet.0, version: *version, ..Default::default() },
        Named::Ticket(ticket) => {
            let (ticket_high, ticket_low) = ticket_halves(Some(*ticket));
            proto::Named { ticket_high, ticket_low, ..Default::default() }
        }
    }
}

fn named(named: proto::Named) -> Result<Named, RecordError> {
    Ok(match named.wallet {
        0 => Named::Ticket(ticket(named.ticket_high, named.ticket_low)?),
        wallet => Named::Wallet(WalletId(wallet), named.version),
    })
}

pub(super) fn to_proto(event: &CashlessEvent) -> Kind {
    match event {
        CashlessEvent::WalletTagLost { wallet, tag, version, op } => {
            Kind::WalletTagLost(proto::WalletTagLost { wallet: wallet.0, tag: bytes(tag), version: *version, op: *op })
        }
        CashlessEvent::TagAttached { wallet, tag, version } => {
            Kind::TagAttached(proto::TagAttached { wallet: wallet.0, tag: bytes(tag), version: *version })
        }
        CashlessEvent::TagLinking { tag, wallet, version, op, festival } => Kind::TagLinking(proto::TagLinking {
            tag: bytes(tag),
            wallet: wallet.0,
            version: *version,
            op: *op,
            festival: festival.0,
        }),
        CashlessEvent::TagLinked { tag, op, carry } => {
            Kind::TagLinked(proto::TagLinked { tag: bytes(tag), op: *op, carry: *carry })
        }
        CashlessEvent::TagRefused { tag, op, rejection } => {
            Kind::TagRefused(proto::TagRefused { tag: bytes(tag), op: *op, rejection: *rejection as u32 })
        }
        CashlessEvent::TagFreed { tag } => Kind::TagFreed(proto::TagFreed { tag: bytes(tag) }),
        CashlessEvent::TagLost { tag, op } => Kind::TagLost(proto::TagLost { tag: bytes(tag), op: *op }),
        CashlessEvent::TagBinding { tag, ticket, op } => {
            let (ticket_high, ticket_low) = ticket_halves(Some(*ticket));
            Kind::TagBinding(proto::TagBinding { tag: bytes(tag), ticket_high, ticket_low, op: *op })
        }
        CashlessEvent::TagBindTaken { tag, op, carry } => {
            Kind::TagBindTaken(proto::TagBindTaken { tag: bytes(tag), op: *op, carry: *carry })
        }
        CashlessEvent::TagBindRefused { tag, op, rejection } => {
            Kind::TagBindRefused(proto::TagBindRefused { tag: bytes(tag), op: *op, rejection: *rejection as u32 })
        }
        CashlessEvent::TagUnbound { tag } => Kind::TagUnbound(proto::TagUnbound { tag: bytes(tag) }),
        CashlessEvent::TagCarried { tag, op } => Kind::TagCarried(proto::TagCarried { tag: bytes(tag), op: *op }),
        CashlessEvent::TagBarred { festival, tag, op } => {
            Kind::TagBarred(proto::TagBarred { festival: festival.0, tag: bytes(tag), op: *op })
        }
        CashlessEvent::LossKnown { op } => Kind::LossKnown(proto::LossKnown { op: *op }),
        _ => unreachable!("not about wristbands"),
    }
}

pub(super) fn from_proto(kind: Kind) -> Result<CashlessEvent, RecordError> {
    Ok(match kind {
        Kind::WalletTagLost(lost) => CashlessEvent::WalletTagLost {
            wallet: WalletId(lost.wallet),
            tag: tag(&lost.tag)?,
            version: lost.version,
            op: lost.op,
        },
        Kind::TagAttached(attached) => CashlessEvent::TagAttached {
            wallet: WalletId(attached.wallet),
            tag: tag(&attached.tag)?,
            version: attached.version,
        },
        Kind::TagLinking(linking) => CashlessEvent::TagLinking {
            tag: tag(&linking.tag)?,
            wallet: WalletId(linking.wallet),
            version: linking.version,
            op: linking.op,
            festival: FestivalId(linking.festival),
        },
        Kind::TagLinked(linked) => {
            CashlessEvent::TagLinked { tag: tag(&linked.tag)?, op: linked.op, carry: linked.carry }
        }
        Kind::TagRefused(refused) => CashlessEvent::TagRefused {
            tag: tag(&refused.tag)?,
            op: refused.op,
            rejection: some_rejection(refused.rejection)?,
        },
        Kind::TagFreed(freed) => CashlessEvent::TagFreed { tag: tag(&freed.tag)? },
        Kind::TagLost(lost) => CashlessEvent::TagLost { tag: tag(&lost.tag)?, op: lost.op },
        Kind::TagBinding(binding) => CashlessEvent::TagBinding {
            tag: tag(&binding.tag)?,
            ticket: ticket(binding.ticket_high, binding.ticket_low)?,
            op: binding.op,
        },
        Kind::TagBindTaken(taken) => {
            CashlessEvent::TagBindTaken { tag: tag(&taken.tag)?, op: taken.op, carry: taken.carry }
        }
        Kind::TagBindRefused(refused) => CashlessEvent::TagBindRefused {
            tag: tag(&refused.tag)?,
            op: refused.op,
            rejection: some_rejection(refused.rejection)?,
        },
        Kind::TagUnbound(unbound) => CashlessEvent::TagUnbound { tag: tag(&unbound.tag)? },
        Kind::TagCarried(carried) => CashlessEvent::TagCarried { tag: tag(&carried.tag)?, op: carried.op },
        Kind::TagBarred(barred) => {
            CashlessEvent::TagBarred { festival: FestivalId(barred.festival), tag: tag(&barred.tag)?, op: barred.op }
        }
        Kind::LossKnown(known) => CashlessEvent::LossKnown { op: known.op },
        _ => return Err(RecordError::Malformed("event")),
    })
}

pub(super) fn message_to_proto(message: &Message) -> What {
    match message {
        Message::Link { op, tag, wallet, version, festival, replace, create, from } => What::Link(proto::Link {
            op: *op,
            tag: bytes(tag),
            wallet: wallet.0,
            version: *version,
            festival: festival.0,
            replace: *replace,
            create: *create,
            from: from.as_ref().map_or(Vec::new(), bytes),
        }),
        Message::LinkTaken { op, carry } => What::LinkTaken(proto::LinkTaken { op: *op, carry: *carry }),
        Message::LinkRefused { op, rejection } => {
            What::LinkRefused(proto::LinkRefused { op: *op, rejection: *rejection as u32 })
        }
        Message::Unlink { tag, wallet, version, to } => {
            let (to, op) = next_to_proto(to);
            What::Unlink(proto::Unlink { tag: bytes(tag), wallet: wallet.0, version: *version, to, op })
        }
        Message::Lost { tag, named, op } => {
            What::Lost(proto::Lost { tag: bytes(tag), op: *op, named: Some(named_to_proto(named)) })
        }
        Message::Bind { op, tag, ticket, from } => {
            let (ticket_high, ticket_low) = ticket_halves(Some(*ticket));
            let from = from.as_ref().map_or(Vec::new(), bytes);
            What::Bind(proto::Bind { op: *op, tag: bytes(tag), ticket_high, ticket_low, from })
        }
        Message::BindTaken { op, carry } => What::BindTaken(proto::BindTaken { op: *op, carry: *carry }),
        Message::BindRefused { op, rejection } => {
            What::BindRefused(proto::BindRefused { op: *op, rejection: *rejection as u32 })
        }
        Message::Unbind { tag, ticket, to } => {
            let (ticket_high, ticket_low) = ticket_halves(Some(*ticket));
            let (to, op) = next_to_proto(to);
            What::Unbind(proto::Unbind { tag: bytes(tag), ticket_high, ticket_low, to, op })
        }
        Message::Carry { op, tag, from, named } => What::Carry(proto::Carry {
            op: *op,
            tag: bytes(tag),
            from: bytes(from),
            named: named.as_ref().map(named_to_proto),
        }),
        Message::Bar { tag, named, then: (shard, op) } => What::Bar(proto::Bar {
            tag: bytes(tag),
            named: Some(named_to_proto(named)),
            shard: u32::from(shard.0),
            op: *op,
        }),
        Message::LossKnown { op } => What::LossKnown(proto::LossKnown { op: *op }),
        _ => unreachable!("not about wristbands"),
    }
}

pub(super) fn message_from_proto(what: What) -> Result<Message, RecordError> {
    Ok(match what {
        What::Link(link) => Message::Link {
            op: link.op,
            tag: tag(&link.tag)?,
            wallet: WalletId(link.wallet),
            version: link.version,
            festival: FestivalId(link.festival),
            replace: link.replace,
            create: link.create,
            from: some_tag(&link.from)?,
        },
        What::LinkTaken(taken) => Message::LinkTaken { op: taken.op, carry: taken.carry },
        What::LinkRefused(refused) => {
            Message::LinkRefused { op: refused.op, rejection: some_rejection(refused.rejection)? }
        }
        What::Unlink(unlink) => Message::Unlink {
            tag: tag(&unlink.tag)?,
            wallet: WalletId(unlink.wallet),
            version: unlink.version,
            to: next(&unlink.to, unlink.op)?,
        },
        What::Lost(lost) => {
            Message::Lost { tag: tag(&lost.tag)?, named: named(word(lost.named, "named")?)?, op: lost.op }
        }
        What::Bind(bind) => Message::Bind {
            op: bind.op,
            tag: tag(&bind.tag)?,
            ticket: ticket(bind.ticket_high, bind.ticket_low)?,
            from: some_tag(&bind.from)?,
        },
        What::BindTaken(taken) => Message::BindTaken { op: taken.op, carry: taken.carry },
        What::BindRefused(refused) => {
            Message::BindRefused { op: refused.op, rejection: some_rejection(refused.rejection)? }
        }
        What::Unbind(unbind) => Message::Unbind {
            tag: tag(&unbind.tag)?,
            ticket: ticket(unbind.ticket_high, unbind.ticket_low)?,
            to: next(&unbind.to, unbind.op)?,
        },
        What::Carry(carry) => Message::Carry {
            op: carry.op,
            tag: tag(&carry.tag)?,
            from: tag(&carry.from)?,
            named: carry.named.map(named).transpose()?,
        },
        What::Bar(bar) => Message::Bar {
            tag: tag(&bar.tag)?,
            named: named(word(bar.named, "named")?)?,
            then: (ShardId(narrow(bar.shard, "shard")?), bar.op),
        },
        What::LossKnown(known) => Message::LossKnown { op: known.op },
        _ => return Err(RecordError::Malformed("message")),
    })
}
