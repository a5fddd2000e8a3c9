//! How a wristband is given out, replaced and lost, where what it names lives in other shards: each message, and what a
//! shard makes of it. The tag's home has the register ([`crate::cashless::tag`]); the wallet and the festival keep what they
//! need to decide a payment and a scan by themselves.
//!
//! ```text
//! given out:  home ── Link / Bind ──→ wallet / festival            home ←── LinkTaken / BindTaken ──
//! replaced:   … which had another ── Unlink / Unbind ──→ its home ── Carry: "I also name …" ──→ home ── Bind / Link ──→ …
//! lost:       wallet or festival ── Lost ──→ home ── Bar ──→ the other one ── LossKnown ──→ whoever was asked
//! ```
//! Whoever asked is answered when the last of these is in ([`crate::cashless::operations`]).

use crate::cashless::Attaching;
use crate::cashless::event::CashlessEvent;
use crate::cashless::tag::Linking;
use crate::event::Event;
use crate::model::ids::{Home, ShardId, TagUid};
use crate::model::rejection::Rejection;
use crate::model::time::Timestamp;
use crate::plants::{Plant, planted};
use crate::record::Writer;
use crate::shard::outbox::{Message, TagTarget};
use crate::shard::{Shard, Step};

impl Shard {
    /// Does what a message about a wristband asks.
    pub(super) fn hear_of_tag(
        &mut self,
        from: ShardId,
        message: &Message,
        now: Timestamp,
        writer: &mut Writer<'_>,
        out: &mut Step,
    ) {
        match *message {
            Message::Link { op, tag, wallet, version, festival, replace, create, from: place } => {
                let answer = match self.cashless.decide_attach(wallet, festival, replace, create, place) {
                    Ok(Attaching { made, before }) => {
                        if let Some(made) = made {
                            self.cashless_happens(made, now, writer, out);
                        }
                        self.cashless_happens(CashlessEvent::TagAttached { wallet, tag, version }, now, writer, out);
                        let carry = before.is_some() && place.is_none();
                        if let Some((before, version)) = before {
                            let message =
                                Message::Unlink { tag: before, wallet, version, to: carry.then_some((tag, op)) };
                            self.notify(Home::Tag(before).shard(self.shards), message, now, writer, out);
                        }
                        Message::LinkTaken { op, carry }
                    }
                    Err(rejection) => Message::LinkRefused { op, rejection },
                };
                self.notify(from, answer, now, writer, out);
            }
            Message::Bind { op, tag, ticket, from: place } => {
                let festival = self.festivals.get(&ticket.festival()).ok_or(Rejection::UnknownTicket);
                let answer = match festival.and_then(|festival| festival.decide_bind(ticket, place)) {
                    Ok(before) => {
                        self.emit(&Event::TagBound { ticket, tag }, None, now, writer);
                        let carry = before.is_some() && place.is_none();
                        if let Some(before) = before {
                            let message = Message::Unbind { tag: before, ticket, to: carry.then_some((tag, op)) };
                            self.notify(Home::Tag(before).shard(self.shards), message, now, writer, out);
                        }
                        Message::BindTaken { op, carry }
                    }
                    Err(rejection) => Message::BindRefused { op, rejection },
                };
                self.notify(from, answer, now, writer, out);
            }
            Message::LinkTaken { op, carry } => {
                if let Some(giving) = self.cashless.ops.giving(op) {
                    self.cashless_happens(CashlessEvent::TagLinked { tag: giving.tag, op, carry }, now, writer, out);
                }
            }
            Message::LinkRefused { op, rejection } => {
                if let Some(giving) = self.cashless.ops.giving(op) {
                    self.cashless_happens(
                        CashlessEvent::TagRefused { tag: giving.tag, op, rejection },
                        now,
                        writer,
                        out,
                    );
                }
            }
            Message::BindTaken { op, carry } => {
                if let Some(giving) = self.cashless.ops.giving(op) {
                    self.cashless_happens(CashlessEvent::TagBindTaken { tag: giving.tag, op, carry }, now, writer, out);
                }
            }
            Message::BindRefused { op, rejection } => {
                if let Some(giving) = self.cashless.ops.giving(op) {
                    self.cashless_happens(
                        CashlessEvent::TagBindRefused { tag: giving.tag, op, rejection },
                        now,
                        writer,
                        out,
                    );
                }
            }
            Message::Unlink { tag, wallet, version, to } => {
                if self.cashless.tag_names(tag, wallet, version) {
                    self.cashless_happens(CashlessEvent::TagFreed { tag }, now, writer, out);
                }
                self.carry(tag, self.cashless.tags.ticket_of(tag), to, now, writer, out);
            }
            Message::Unbind { tag, ticket, to } => {
                if self.cashless.tags.is_bound(tag, ticket) {
                    self.cashless_happens(CashlessEvent::TagUnbound { tag }, now, writer, out);
                }
                self.carry(tag, self.cashless.tags.wallet_of(tag), to, now, writer, out);
            }
            Message::Carry { op, tag, from: place, named } => self.take_over(op, tag, place, named, now, writer, out),
            Message::Lost { tag, named, op } => {
                let other = match named {
                    TagTarget::Wallet(wallet, version) if self.cashless.tag_names(tag, wallet, version) => {
                        Some(self.cashless.tags.ticket_of(tag))
                    }
                    TagTarget::Ticket(ticket) if self.cashless.tags.is_bound(tag, ticket) => {
                        Some(self.cashless.tags.wallet_of(tag))
                    }
                    // Another one has taken its place, and the word of it came first.
                    TagTarget::Wallet(..) | TagTarget::Ticket(_) => None,
                };
                if other.is_some() && !self.cashless.tags.is_lost(tag) {
                    self.cashless_happens(CashlessEvent::TagLost { tag, op: 0 }, now, writer, out);
                }
                match other.flatten() {
                    Some(named) => self.bar(tag, named, (from, op), now, writer, out),
                    None => self.notify(from, Message::LossKnown { op }, now, writer, out),
                }
            }
            Message::Bar { tag, named, then: (shard, op) } => {
                let event = match named {
                    TagTarget::Wallet(wallet, version) => {
                        let known = self.cashless.wallets.get(wallet).ok();
                        known
                            .filter(|known| known.tag() == Some((tag, version)) && !known.is_tag_lost())
                            .map(|_| CashlessEvent::WalletTagLost { wallet, tag, version, op: 0 })
                    }
                    TagTarget::Ticket(ticket) => {
                        let festival = ticket.festival();
                        let here = self.festivals.get(&festival);
                        here.filter(|here| !here.lost_tags.contains(&tag)).map(|_| CashlessEvent::TagBarred {
                            festival,
                            tag,
                            op: 0,
                        })
                    }
                };
                if let Some(event) = event {
                    self.cashless_happens(event, now, writer, out);
                }
                self.notify(shard, Message::LossKnown { op }, now, writer, out);
            }
            Message::LossKnown { op } => {
                if self.cashless.ops.get(op).is_some() {
                    self.cashless_happens(CashlessEvent::LossKnown { op }, now, writer, out);
                }
            }
            Message::Directory(_)
            | Message::Credit { .. }
            | Message::Credited { .. }
            | Message::Declined { .. }
            | Message::Cancel { .. }
            | Message::CurrencyAsk { .. }
            | Message::CurrencyVote { .. }
            | Message::CurrencyDecided { .. } => unreachable!("not about wristbands"),
        }
    }

    /// Asks the home of what a lost tag names to refuse it.
    pub(super) fn bar(
        &mut self,
        tag: TagUid,
        named: TagTarget,
        then: (ShardId, u64),
        now: Timestamp,
        writer: &mut Writer<'_>,
        out: &mut Step,
    ) {
        self.notify(self.home_of(named), Message::Bar { tag, named, then }, now, writer, out);
    }

    fn home_of(&self, named: TagTarget) -> ShardId {
        let home = match named {
            TagTarget::Wallet(wallet, _) => Home::Wallet(wallet),
            TagTarget::Ticket(ticket) => Home::Festival(ticket.festival()),
        };
        home.shard(self.shards)
    }

    /// Tells the tag that takes this one's place what else this one names, if it is not just being asked.
    fn carry(
        &mut self,
        tag: TagUid,
        named: Option<TagTarget>,
        to: Option<(TagUid, u64)>,
        now: Timestamp,
        writer: &mut Writer<'_>,
        out: &mut Step,
    ) {
        let Some((next, op)) = to else { return };
        let named = named.filter(|named| !self.cashless.tags.is_asking(tag, *named) && !planted(Plant::CarryForgotten));
        let message = Message::Carry { op, tag: next, from: tag, named };
        self.notify(Home::Tag(next).shard(self.shards), message, now, writer, out);
    }

    /// A tag takes over what the one before it named, where it names none of that kind itself. It stays with that one
    /// until the wallet or the festival has said yes.
    fn take_over(
        &mut self,
        op: u64,
        tag: TagUid,
        place: TagUid,
        named: Option<TagTarget>,
        now: Timestamp,
        writer: &mut Writer<'_>,
        out: &mut Step,
    ) {
        let Some(giving) = self.cashless.ops.giving(op) else { return };
        let asked = match named {
            Some(TagTarget::Ticket(ticket)) if self.cashless.tags.decide_bind(tag, ticket) == Ok(true) => {
                self.cashless_happens(CashlessEvent::TagBinding { tag, ticket, op }, now, writer, out);
                Some(Message::Bind { op, tag, ticket, from: Some(place) })
            }
            Some(TagTarget::Wallet(wallet, _)) => match self.cashless.tags.decide_link(tag, wallet, giving.festival) {
                Ok(Linking::Next(version)) => {
                    let festival = giving.festival;
                    let event = CashlessEvent::TagLinking { tag, wallet, version, op, festival };
                    self.cashless_happens(event, now, writer, out);
                    let (replace, create, from) = (true, false, Some(place));
                    Some(Message::Link { op, tag, wallet, version, festival, replace, create, from })
                }
                Ok(Linking::Already) | Err(_) => None,
            },
            Some(TagTarget::Ticket(_)) | None => None,
        };
        self.cashless_happens(CashlessEvent::TagCarried { tag, op }, now, writer, out);
        if let (Some(asked), Some(named)) = (asked, named) {
            self.notify(self.home_of(named), asked, now, writer, out);
        }
    }
}
