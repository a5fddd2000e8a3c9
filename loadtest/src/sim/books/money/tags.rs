//! Wristbands in the books: the register at a tag's home, what wallets and gates hold of it, and how one is given out,
//! takes another's place, and is lost.

use std::collections::{BTreeMap, BTreeSet};

use engine::cashless::event::CashlessEvent;
use engine::cashless::view::{TagState, TagView};
use engine::command::AdminAnswer;
use engine::model::ids::{FestivalId, Home, TagUid, TicketId, WalletId};
use engine::model::rejection::Rejection;
use engine::shard::outbox::{Message, TagTarget};

use super::transfers::{End, OpBook, What};
use super::{Ended, MoneyBook, TagBook};
use crate::sim::disk::SHARDS;
use crate::sim::{Check, breach};

const ONE: &str = "a wristband is one thing";

/// What the gates of a shard's festivals go by.
#[derive(Clone, Default)]
pub(in crate::sim) struct Gates {
    tag_of: BTreeMap<TicketId, TagUid>,
    lost: BTreeSet<(FestivalId, TagUid)>,
}

impl TagBook {
    fn new() -> Self {
        let (wallet, festival) = (WalletId(0), FestivalId(0));
        Self { state: TagState::Free, wallet, version: 0, festival, ticket: None, lost: false }
    }

    fn named(&self) -> Option<TagTarget> {
        (self.state != TagState::Free).then_some(TagTarget::Wallet(self.wallet, self.version))
    }

    /// Whether a view shows this page.
    pub(super) fn is_shown_by(&self, view: &TagView) -> bool {
        let state = if self.lost { TagState::Lost } else { self.state };
        let wallet = (self.state != TagState::Free && !self.lost).then_some(self.wallet);
        (view.state, view.wallet, view.version, view.ticket)
            == (state, wallet, self.version, self.ticket.map(|(ticket, _)| ticket))
    }
}

impl MoneyBook {
    pub(super) fn of_tag(&mut self, event: &CashlessEvent) -> Check<Ended> {
        let wrong = || breach(ONE, format!("{event:?}"));
        match event {
            CashlessEvent::WalletTagLost { wallet, tag, version, op } => {
                let page = self.wallet(*wallet)?;
                if page.tag != Some((*tag, *version)) || core::mem::replace(&mut page.lost, true) {
                    return wrong();
                }
                self.count("tags_lost");
                return self.lost(*op, 1);
            }
            CashlessEvent::TagAttached { wallet, tag, version } => self.attached(*wallet, *tag, *version)?,
            CashlessEvent::TagLinking { tag, wallet, version, op, festival } => {
                let page = self.tags.entry(*tag).or_insert_with(TagBook::new);
                let other = page.ticket.is_some_and(|(ticket, _)| ticket.festival() != *festival);
                if page.state != TagState::Free || page.lost || other || *version != page.version + 1 {
                    return wrong();
                }
                (page.state, page.wallet, page.version) = (TagState::Linking, *wallet, *version);
                page.festival = *festival;
                self.asks(*op, *tag, TagTarget::Wallet(*wallet, *version))?;
            }
            CashlessEvent::TagLinked { tag, op, carry } => return self.link_ended(*tag, *op, Ok(*carry)),
            CashlessEvent::TagRefused { tag, op, rejection } => return self.link_ended(*tag, *op, Err(*rejection)),
            CashlessEvent::TagFreed { tag } => match self.tags.get_mut(tag) {
                Some(page) if page.state == TagState::Linked => page.state = TagState::Free,
                _ => return wrong(),
            },
            CashlessEvent::TagBinding { tag, ticket, op } => {
                let page = self.tags.entry(*tag).or_insert_with(TagBook::new);
                let other = page.state != TagState::Free && page.festival != ticket.festival();
                if page.ticket.is_some() || page.lost || other {
                    return wrong();
                }
                page.ticket = Some((*ticket, false));
                self.asks(*op, *tag, TagTarget::Ticket(*ticket))?;
            }
            CashlessEvent::TagBindTaken { tag, op, carry } => return self.bind_ended(*tag, *op, Ok(*carry)),
            CashlessEvent::TagBindRefused { tag, op, rejection } => return self.bind_ended(*tag, *op, Err(*rejection)),
            CashlessEvent::TagUnbound { tag } => match self.tags.get_mut(tag) {
                Some(page) if matches!(page.ticket, Some((_, true))) => page.ticket = None,
                _ => return wrong(),
            },
            CashlessEvent::TagCarried { op, .. } => {
                let Some(What::Giving { carries, .. }) = self.open(*op) else { return wrong() };
                *carries -= 1;
                return self.gave(*op);
            }
            CashlessEvent::TagLost { tag, op } => {
                let Some(page) = self.tags.get_mut(tag).filter(|page| !page.lost) else { return wrong() };
                page.lost = true;
                let due = u8::from(page.state != TagState::Free) + u8::from(page.ticket.is_some());
                return self.lost(*op, due);
            }
            CashlessEvent::TagBarred { festival, tag, op } => {
                if !self.gates.lost.insert((*festival, *tag)) {
                    return wrong();
                }
                self.count("tags_barred");
                return self.lost(*op, 1);
            }
            CashlessEvent::LossKnown { op } => {
                let Some(What::Loss { due }) = self.open(*op) else { return wrong() };
                *due -= 1;
                if *due == 0 {
                    self.end(*op, End::Settled)?;
                    return Ok(self.answer_of(*op, AdminAnswer::Done));
                }
            }
            _ => {}
        }
        Ok(None)
    }

    fn open(&mut self, op: u64) -> Option<&mut What> {
        self.ops.get_mut(&op).filter(|op| op.end.is_none()).map(|op| &mut op.what)
    }

    /// A loss is under way; `op` 0: another shard's.
    fn lost(&mut self, op: u64, due: u8) -> Check<Ended> {
        if op == 0 {
            return Ok(None);
        }
        self.begin(op, OpBook::of_nobodys(What::Loss { due }))?;
        if due > 0 {
            return Ok(None);
        }
        self.end(op, End::Settled)?;
        Ok(self.answer_of(op, AdminAnswer::Done))
    }

    /// A wallet or a festival is asked to take a tag, by a new operation or one that gives it out already.
    fn asks(&mut self, op: u64, tag: TagUid, named: TagTarget) -> Check {
        let Some(What::Giving { tag: given, asked, .. }) = self.open(op) else {
            return self.begin(op, OpBook::of_nobodys(What::Giving { tag, named, asked: 1, carries: 0 }));
        };
        if *given != tag {
            return breach(ONE, format!("operation {op} gives out another than {tag:?}"));
        }
        *asked += 1;
        self.count("tags_carried");
        Ok(())
    }

    fn heard_back(&mut self, op: u64, tag: TagUid, named: TagTarget, answer: Result<bool, Rejection>) -> Check<Ended> {
        let Some(What::Giving { tag: given, named: first, asked, carries }) = self.open(op) else {
            return breach(ONE, format!("{tag:?}: operation {op} is not under way"));
        };
        if *given != tag || *asked == 0 {
            return breach(ONE, format!("{tag:?}: operation {op} gives out {given:?}, {asked} asked"));
        }
        *asked -= 1;
        match answer {
            Err(why) if *first == named => {
                self.end(op, End::Returned)?;
                return Ok(self.answer_of(op, AdminAnswer::Rejected(why)));
            }
            Err(_) => {}
            Ok(carry) => *carries += i8::from(carry),
        }
        self.gave(op)
    }

    fn gave(&mut self, op: u64) -> Check<Ended> {
        let Some(What::Giving { named, asked: 0, carries: 0, .. }) = self.open(op) else { return Ok(None) };
        let answer = match *named {
            TagTarget::Wallet(wallet, _) => AdminAnswer::Wallet(wallet),
            TagTarget::Ticket(_) => AdminAnswer::Done,
        };
        self.end(op, End::Settled)?;
        Ok(self.answer_of(op, answer))
    }

    /// A wallet has a wristband.
    fn attached(&mut self, wallet: WalletId, tag: TagUid, version: u32) -> Check {
        let linking = TagState::Linking;
        let near = self.tags.get(&tag).is_some_and(|page| (page.state, page.wallet) == (linking, wallet));
        let may_replace = match &self.heard {
            Some((_, Message::Link { tag: asked, wallet: to, version: at, replace, .. }))
                if (*asked, *to, *at) == (tag, wallet, version) =>
            {
                Some(*replace)
            }
            _ => near.then_some(true),
        };
        let page = self.wallet(wallet)?;
        let kept = page.tag.is_some() && !page.lost;
        if may_replace.is_none() || (kept && may_replace == Some(false)) {
            return breach("a wallet has the wristband it was given", format!("{tag:?} at {version} for {wallet:?}"));
        }
        (page.tag, page.lost) = (Some((tag, version)), false);
        Ok(())
    }

    /// The wallet has answered.
    fn link_ended(&mut self, tag: TagUid, op: u64, answer: Result<bool, Rejection>) -> Check<Ended> {
        self.count(if answer.is_err() { "links_refused" } else { "links" });
        let Some(page) = self.tags.get_mut(&tag).filter(|page| page.state == TagState::Linking) else {
            return breach(ONE, format!("{tag:?} asked no wallet"));
        };
        page.state = if answer.is_ok() { TagState::Linked } else { TagState::Free };
        let (wallet, version) = (page.wallet, page.version);
        let said = match (&self.heard, answer) {
            _ if self.is_near(wallet) => true,
            (Some((_, Message::LinkTaken { op: said, carry })), Ok(so)) => (*said, *carry) == (op, so),
            (Some((_, Message::LinkRefused { op: said, rejection })), Err(why)) => (*said, *rejection) == (op, why),
            _ => false,
        };
        let holds = self.wallets.get(&wallet).and_then(|wallet| wallet.tag) == Some((tag, version));
        if !said || (self.is_near(wallet) && holds != answer.is_ok()) {
            return breach("a wristband names a wallet that has it", format!("{tag:?}, operation {op}"));
        }
        self.heard_back(op, tag, TagTarget::Wallet(wallet, version), answer)
    }

    /// The festival has answered.
    fn bind_ended(&mut self, tag: TagUid, op: u64, answer: Result<bool, Rejection>) -> Check<Ended> {
        self.count(if answer.is_err() { "binds_refused" } else { "binds" });
        let Some((page, (ticket, false))) = self.tags.get_mut(&tag).and_then(|page| page.ticket.map(|of| (page, of)))
        else {
            return breach(ONE, format!("{tag:?} asked no ticket"));
        };
        page.ticket = answer.is_ok().then_some((ticket, true));
        let near = Home::Festival(ticket.festival()).shard(SHARDS) == self.id;
        let said = match (&self.heard, answer) {
            _ if near => true,
            (Some((_, Message::BindTaken { op: said, carry })), Ok(so)) => (*said, *carry) == (op, so),
            (Some((_, Message::BindRefused { op: said, rejection })), Err(why)) => (*said, *rejection) == (op, why),
            _ => false,
        };
        let holds = self.gates.tag_of.get(&ticket) == Some(&tag);
        if !said || (near && holds != answer.is_ok()) {
            return breach("a wristband names a ticket that has it", format!("{tag:?}, operation {op}"));
        }
        self.heard_back(op, tag, TagTarget::Ticket(ticket), answer)
    }

    /// A ticket has a wristband.
    pub(super) fn tag_bound(&mut self, ticket: TicketId, tag: TagUid) -> Check {
        let near = self.tags.get(&tag).is_some_and(|page| page.ticket == Some((ticket, false)));
        let asked = match &self.heard {
            Some((_, Message::Bind { tag: asked, ticket: to, from, .. })) if (*asked, *to) == (tag, ticket) => {
                from.is_none() || *from == self.gates.tag_of.get(&ticket).copied()
            }
            _ => near,
        };
        self.gates.tag_of.insert(ticket, tag);
        if asked { Ok(()) } else { breach("a ticket has the wristband it was given", format!("{tag:?} for {ticket}")) }
    }

    /// What another shard is told of a wristband is so.
    pub(super) fn is_so_of_tag(&self, message: &Message) -> bool {
        match message {
            Message::Bar { tag, .. } => self.tags.get(tag).is_some_and(|page| page.lost),
            Message::Bind { tag, ticket, .. } => {
                self.tags.get(tag).is_some_and(|page| page.ticket == Some((*ticket, false)))
            }
            Message::BindTaken { .. } | Message::LinkTaken { .. } => true,
            // What it names besides what another has taken over comes along, unless that is not sure yet.
            Message::Carry { from, named, .. } => self.tags.get(from).is_some_and(|page| match &self.heard {
                Some((_, Message::Unlink { .. })) => {
                    *named == page.ticket.filter(|(_, taken)| *taken).map(|(ticket, _)| TagTarget::Ticket(ticket))
                }
                Some((_, Message::Unbind { .. })) => *named == page.named().filter(|_| page.state == TagState::Linked),
                _ => true,
            }),
            _ => true,
        }
    }
}

/// At rest the register, the wallets and the gates say the same, and what was lost is refused wherever it is known.
pub(super) fn at_rest(all: &[&MoneyBook]) -> Check {
    let mut held = BTreeSet::new();
    for (id, wallet) in all.iter().flat_map(|book| &book.wallets) {
        held.extend(wallet.tag.map(|(tag, version)| (tag, *id, version, wallet.lost)));
    }
    let pages = || all.iter().flat_map(|book| &book.tags);
    let linked = pages().filter(|(_, page)| page.state == TagState::Linked);
    let named: BTreeSet<_> = linked.map(|(tag, page)| (*tag, page.wallet, page.version, page.lost)).collect();
    if held != named {
        return breach("a wristband names a wallet that has it", format!("{held:?}, {named:?}"));
    }
    let held: BTreeSet<_> =
        all.iter().flat_map(|book| &book.gates.tag_of).map(|(ticket, tag)| (*tag, *ticket)).collect();
    let named: BTreeSet<_> = pages().filter_map(|(tag, page)| Some((*tag, page.ticket?.0))).collect();
    if held != named {
        return breach("a wristband names a ticket that has it", format!("{held:?}, {named:?}"));
    }
    for (tag, page) in pages().filter(|(_, page)| page.lost) {
        let Some((ticket, _)) = page.ticket else { continue };
        if !all.iter().any(|book| book.gates.lost.contains(&(ticket.festival(), *tag))) {
            return breach("a lost wristband opens no gate", format!("{tag:?} of {ticket} was lost"));
        }
    }
    Ok(())
}
