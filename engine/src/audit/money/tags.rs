//! Wristbands in the audit's books: the register at a tag's home, and what wallets and festivals hold of it.

use std::collections::{BTreeMap, BTreeSet};

use super::MoneyBooks;
use super::transfers::Op;
use crate::audit::{Check, Findings};
use crate::cashless::event::CashlessEvent;
use crate::cashless::tag::Tags;
use crate::cashless::view::TagState;
use crate::gates::command::{CONFLICT, Verdict};
use crate::gates::event::Scanned;
use crate::model::ids::{FestivalId, Home, ShardId, TagUid, TicketId, WalletId};
use crate::model::rejection::Rejection;
use crate::shard::outbox::{Message, TagTarget};

/// A shard's part: the register of its tags, and what its festivals' gates go by.
#[derive(Default)]
pub(super) struct TagBook {
    /// The tags whose home it is.
    register: BTreeMap<TagUid, Tag>,
    /// The tag of a ticket of its festivals, and the other way round.
    tag_of: BTreeMap<TicketId, TagUid>,
    ticket_of: BTreeMap<(FestivalId, TagUid), TicketId>,
    /// The tags that its festivals refuse.
    barred: BTreeSet<(FestivalId, TagUid)>,
    /// What tickets were asked to take, by shard and operation.
    asked: BTreeMap<(u16, u64), (TagUid, TicketId)>,
    /// What festivals have answered to this shard's operations: taken, or not.
    answers: BTreeMap<u64, bool>,
}

struct Tag {
    /// Towards a wallet; lost or not.
    state: TagState,
    wallet: WalletId,
    version: u32,
    festival: FestivalId,
    /// The ticket, and whether its festival has taken it.
    ticket: Option<(TicketId, bool)>,
    lost: bool,
}

impl TagBook {
    /// Whether the shard's own register is the same.
    pub(super) fn agree_with(&self, tags: &Tags) -> bool {
        let linked = self.register.iter().filter(|(_, tag)| tag.state == TagState::Linked);
        let bound = self.register.iter().filter_map(|(tag, known)| match known.ticket {
            Some((ticket, true)) => Some((*tag, ticket)),
            _ => None,
        });
        tags.linked_ones().eq(linked.map(|(tag, known)| (*tag, known.wallet, known.version)))
            && tags.bound_ones().eq(bound)
            && self.register.iter().all(|(tag, known)| tags.is_lost(*tag) == known.lost)
    }
}

impl MoneyBooks {
    /// What is about a wristband and no transaction.
    pub(super) fn of_tag(&mut self, event: &CashlessEvent, found: &mut Findings) {
        match event {
            CashlessEvent::WalletTagLost { wallet, tag, version, op } => {
                let known = self.wallets.get_mut(*wallet);
                let own = known.as_ref().is_some_and(|known| known.tag == Some((*tag, *version)) && !known.lost);
                found.check(Check::Tag, own, || format!("{wallet:?} lost {tag:?}, which it did not have"));
                if let Some(known) = known {
                    known.lost = true;
                }
                self.lost(*op, 1, found);
            }
            CashlessEvent::TagAttached { wallet, tag, version } => {
                self.at_home(Home::Wallet(*wallet), found);
                let known = self.wallets.get_mut(*wallet);
                let before = known.as_ref().and_then(|known| known.tag);
                let newer = before.is_none_or(|before| before.0 != *tag || before.1 < *version);
                found.check(Check::Tag, known.is_some() && newer, || {
                    format!("{wallet:?} has {tag:?} at {version} already, or is none")
                });
                if let Some(known) = known {
                    (known.tag, known.lost) = (Some((*tag, *version)), false);
                }
            }
            CashlessEvent::TagLinking { tag, wallet, version, op, festival } => {
                self.at_home(Home::Tag(*tag), found);
                let known = self.tags.register.entry(*tag).or_insert(Tag::new());
                let free = known.state == TagState::Free && known.version < *version && !known.lost;
                let one = known.ticket.is_none_or(|(ticket, _)| ticket.festival() == *festival);
                found.check(Check::Tag, free && one, || format!("{tag:?} is not free for {wallet:?} at {version}"));
                (known.state, known.wallet, known.version) = (TagState::Linking, *wallet, *version);
                known.festival = *festival;
                self.gives(*op, *tag, TagTarget::Wallet(*wallet, *version), found);
            }
            CashlessEvent::TagLinked { tag, op, carry } => self.linked(*tag, *op, Ok(*carry), found),
            CashlessEvent::TagRefused { tag, op, rejection } => self.linked(*tag, *op, Err(*rejection), found),
            CashlessEvent::TagFreed { tag } => {
                let known = self.tags.register.get_mut(tag).filter(|known| known.state == TagState::Linked);
                let linked = known.map(|known| known.state = TagState::Free).is_some();
                found.check(Check::Tag, linked, || format!("{tag:?} named no wallet"));
            }
            CashlessEvent::TagBinding { tag, ticket, op } => {
                self.at_home(Home::Tag(*tag), found);
                let known = self.tags.register.entry(*tag).or_insert(Tag::new());
                let free = known.ticket.is_none() && !known.lost;
                let one = known.state == TagState::Free || known.festival == ticket.festival();
                found.check(Check::Tag, free && one, || format!("{tag:?} is not free for ticket {ticket}"));
                known.ticket = Some((*ticket, false));
                self.gives(*op, *tag, TagTarget::Ticket(*ticket), found);
            }
            CashlessEvent::TagBindTaken { tag, op, carry } => self.bound(*tag, *op, Ok(*carry), found),
            CashlessEvent::TagBindRefused { tag, op, rejection } => self.bound(*tag, *op, Err(*rejection), found),
            CashlessEvent::TagUnbound { tag } => {
                let known = self.tags.register.get_mut(tag);
                let had = known.is_some_and(|known| matches!(known.ticket.take(), Some((_, true))));
                found.check(Check::Tag, had, || format!("{tag:?} named no ticket"));
            }
            CashlessEvent::TagCarried { tag, op } => {
                let open = match self.ops.get_mut(op) {
                    Some(Op::Giving { tag: given, carries, .. }) => {
                        *carries -= 1;
                        given == tag
                    }
                    _ => false,
                };
                found.check(Check::Tag, open, || format!("{tag:?} was not given out by operation {op}"));
                self.gave(*op);
            }
            CashlessEvent::TagLost { tag, op } => {
                let known = self.tags.register.get_mut(tag);
                let due = known
                    .as_ref()
                    .map_or(0, |known| u8::from(known.state != TagState::Free) + u8::from(known.ticket.is_some()));
                let had = known.is_some_and(|known| !core::mem::replace(&mut known.lost, true));
                found.check(Check::Tag, had, || format!("{tag:?} was lost before, or never known"));
                self.lost(*op, due, found);
            }
            CashlessEvent::TagBarred { festival, tag, op } => {
                let new = self.tags.barred.insert((*festival, *tag));
                found.check(Check::Tag, new, || format!("{tag:?} was refused at {festival} before"));
                self.lost(*op, 1, found);
            }
            CashlessEvent::LossKnown { op } => {
                let due = match self.ops.get_mut(op) {
                    Some(Op::Loss { due }) if *due > 0 => {
                        *due -= 1;
                        Some(*due)
                    }
                    _ => None,
                };
                found.check(Check::Tag, due.is_some(), || format!("operation {op} is no loss under way"));
                if due == Some(0) {
                    self.ops.remove(op);
                }
            }
            _ => {}
        }
    }

    fn lost(&mut self, op: u64, due: u8, found: &mut Findings) {
        if op == 0 {
            return; // told by the other side
        }
        self.op_begins(op, Op::Loss { due }, found);
        if due == 0 {
            self.ops.remove(&op);
        }
    }

    /// Somebody is asked to take a tag: by a new operation, or by one that gives it out already.
    fn gives(&mut self, op: u64, tag: TagUid, named: TagTarget, found: &mut Findings) {
        match self.ops.get_mut(&op) {
            Some(Op::Giving { tag: given, asked, .. }) if *given == tag => *asked += 1,
            _ => self.op_begins(op, Op::Giving { tag, named, asked: 1, carries: 0 }, found),
        }
    }

    /// Whether an operation gives out this tag; what was asked for ends it with a refusal.
    fn answered(&mut self, op: u64, tag: TagUid, named: TagTarget, answer: Result<bool, Rejection>) -> bool {
        let Some(Op::Giving { tag: given, named: first, asked, carries }) = self.ops.get_mut(&op) else { return false };
        let fits = *given == tag && *asked > 0;
        *asked = asked.saturating_sub(1);
        match answer {
            Err(_) if *first == named => drop(self.ops.remove(&op)),
            Err(_) => {}
            Ok(carry) => *carries += i8::from(carry),
        }
        self.gave(op);
        fits
    }

    fn gave(&mut self, op: u64) {
        if let Some(Op::Giving { asked: 0, carries: 0, .. }) = self.ops.get(&op) {
            self.ops.remove(&op);
        }
    }

    /// The wallet has answered.
    fn linked(&mut self, tag: TagUid, op: u64, answer: Result<bool, Rejection>, found: &mut Findings) {
        let said = self.answers.remove(&op);
        let Some(known) = self.tags.register.get_mut(&tag) else {
            found.check(Check::Tag, false, || format!("{tag:?} is unknown"));
            return;
        };
        let open = known.state == TagState::Linking;
        known.state = if answer.is_ok() { TagState::Linked } else { TagState::Free };
        let (wallet, version) = (known.wallet, known.version);
        let so = match self.is_near(wallet) {
            false => said == Some(answer.is_ok()),
            true => answer.is_err() || self.wallets.get(wallet).is_some_and(|known| known.tag == Some((tag, version))),
        };
        let ours = self.answered(op, tag, TagTarget::Wallet(wallet, version), answer);
        found.check(Check::Tag, ours && open && so, || format!("{tag:?}: the wallet has not said so"));
    }

    /// The festival has answered.
    fn bound(&mut self, tag: TagUid, op: u64, answer: Result<bool, Rejection>, found: &mut Findings) {
        let said = self.tags.answers.remove(&op);
        let known = self.tags.register.get_mut(&tag);
        let Some((known, (ticket, false))) = known.and_then(|known| known.ticket.map(|ticket| (known, ticket))) else {
            found.check(Check::Tag, false, || format!("{tag:?} asked for no ticket"));
            return;
        };
        known.ticket = answer.is_ok().then_some((ticket, true));
        let so = match Home::Festival(ticket.festival()).shard(self.of) == self.id {
            false => said == Some(answer.is_ok()),
            true => answer.is_err() || self.tags.tag_of.get(&ticket) == Some(&tag),
        };
        let ours = self.answered(op, tag, TagTarget::Ticket(ticket), answer);
        found.check(Check::Tag, ours && so, || format!("{tag:?}: the festival has not said so"));
    }

    /// A ticket has a wristband: the register has asked for it.
    pub(super) fn tag_bound(&mut self, ticket: TicketId, tag: TagUid, found: &mut Findings) {
        let mine = &mut self.tags;
        let asked = match Home::Tag(tag).shard(self.of) == self.id {
            true => mine.register.get(&tag).is_some_and(|known| known.ticket == Some((ticket, false))),
            false => mine.asked.values().any(|asked| *asked == (tag, ticket)),
        };
        found.check(Check::Tag, asked, || format!("nobody has asked ticket {ticket} to take {tag:?}"));
        let festival = ticket.festival();
        if let Some(before) = mine.tag_of.insert(ticket, tag) {
            mine.ticket_of.remove(&(festival, before));
        }
        let before = mine.ticket_of.insert((festival, tag), ticket);
        found.check(Check::Tag, before.is_none(), || format!("{tag:?} of ticket {ticket} is {before:?}'s"));
    }

    /// A wristband lets in whose it is, and nobody once it was lost.
    pub(super) fn scanned(&mut self, scanned: &Scanned, found: &mut Findings) {
        let Some(tag) = scanned.tag else { return };
        let festival = scanned.device.festival();
        let barred = self.tags.barred.contains(&(festival, tag));
        let bound = self.tags.ticket_of.get(&(festival, tag)).copied();
        let holds = match scanned.verdict {
            Verdict::Admitted => bound == scanned.ticket && (!barred || scanned.flags & CONFLICT != 0),
            Verdict::Exited => bound == scanned.ticket,
            Verdict::Rejected(Rejection::TagLost) => barred,
            Verdict::Rejected(_) | Verdict::Undone => true,
        };
        found.check(Check::Tag, holds, || {
            format!(
                "{tag:?} at a gate: {:?} for {:?}, it is {bound:?}'s, lost: {barred}",
                scanned.verdict, scanned.ticket
            )
        });
    }

    /// What another shard has told of a wristband.
    pub(super) fn heard_of_tag(&mut self, from: ShardId, message: &Message) {
        match message {
            Message::LinkTaken { op, .. } => drop(self.answers.insert(*op, true)),
            Message::LinkRefused { op, .. } => drop(self.answers.insert(*op, false)),
            Message::BindTaken { op, .. } => drop(self.tags.answers.insert(*op, true)),
            Message::BindRefused { op, .. } => drop(self.tags.answers.insert(*op, false)),
            Message::Bind { op, tag, ticket, .. } => {
                self.tags.asked.insert((from.0, *op), (*tag, *ticket));
            }
            _ => {}
        }
    }

    /// What another shard is told of a wristband must be so.
    pub(super) fn promised_of_tag(&mut self, to: ShardId, message: &Message, found: &mut Findings) {
        let holds = match message {
            Message::BindTaken { op, .. } => self
                .tags
                .asked
                .remove(&(to.0, *op))
                .is_some_and(|(tag, ticket)| self.tags.tag_of.get(&ticket) == Some(&tag)),
            Message::BindRefused { op, .. } => self.tags.asked.remove(&(to.0, *op)).is_some(),
            Message::Bind { tag, ticket, .. } => {
                self.tags.register.get(tag).is_some_and(|known| known.ticket == Some((*ticket, false)))
            }
            Message::Bar { tag, .. } => self.tags.register.get(tag).is_some_and(|known| known.lost),
            _ => true,
        };
        found.check(Check::Tag, holds, || format!("shard {} is told {message:?}, which is not so", to.0));
    }

    /// A tag is one wallet's at any moment. When no message is under way, the register, the wallets and the festivals say
    /// the same, and what was lost is refused by all that know it.
    pub(super) fn tags_at_the_end(all: &[&Self], found: &mut Findings) {
        let mut holders = BTreeMap::new();
        let mut lost_at_wallets = BTreeSet::new();
        for (wallet, known) in all.iter().flat_map(|books| books.wallets.iter()) {
            let Some((tag, version)) = known.tag else { continue };
            if known.lost {
                lost_at_wallets.insert(tag);
            }
            let before = holders.insert(tag, (wallet, version));
            found.check(Check::Tag, before.is_none(), || format!("{tag:?} is {wallet:?}'s and {before:?}'s"));
        }
        let quiet = all.iter().all(|books| {
            all.iter().filter(|other| other.id != books.id).all(|other| {
                books.peers[usize::from(other.id.0)].sent() == other.peers[usize::from(books.id.0)].received()
            })
        });
        if !quiet {
            return;
        }
        for books in all {
            found.shard = books.id.0;
            for (tag, known) in &books.tags.register {
                let names = (known.state == TagState::Linked).then_some((known.wallet, known.version));
                let holder = holders.remove(tag);
                found.check(Check::Tag, holder == names, || format!("{tag:?} names {names:?}, it is {holder:?}'s"));
                let same = !known.lost || holder.is_none() || lost_at_wallets.contains(tag);
                found.check(Check::Tag, same, || format!("{tag:?} is lost, and its wallet does not know"));
                let Some((ticket, true)) = known.ticket else { continue };
                let festival = ticket.festival();
                let gates = &all[usize::from(Home::Festival(festival).shard(books.of).0)].tags;
                let bound = gates.tag_of.get(&ticket) == Some(tag);
                found.check(Check::Tag, bound, || format!("{tag:?} names ticket {ticket}, which has it not"));
                let barred = gates.barred.contains(&(festival, *tag));
                found.check(Check::Tag, barred == known.lost, || {
                    format!("{tag:?} lost: {}, barred: {barred}", known.lost)
                });
            }
            for (ticket, tag) in &books.tags.tag_of {
                let home = &all[usize::from(Home::Tag(*tag).shard(books.of).0)].tags;
                let named = home.register.get(tag).and_then(|known| known.ticket) == Some((*ticket, true));
                found.check(Check::Tag, named, || format!("ticket {ticket} has {tag:?}, which does not name it"));
            }
        }
        let over = holders.first_key_value();
        found.check(Check::Tag, over.is_none(), || format!("a wallet has a wristband that does not name it: {over:?}"));
    }
}

impl Tag {
    fn new() -> Self {
        Self {
            state: TagState::Free,
            wallet: WalletId(0),
            version: 0,
            festival: FestivalId(0),
            ticket: None,
            lost: false,
        }
    }
}
