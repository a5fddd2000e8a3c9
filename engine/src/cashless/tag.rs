//! The register of wristbands: a tag names one wallet and one ticket at most, both of one festival, or it was reported
//! lost and is refused wherever it is known. The tag's home decides; the wallet and the festival confirm, since each of
//! them has one tag at most itself. A link to a wallet has a version, so that a tap which was resolved before a tag moved
//! is found out.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::cashless::view::{TagState, TagView};
use crate::model::ids::{FestivalId, TagUid, TicketId, WalletId};
use crate::model::rejection::Rejection;
use crate::model::time::Timestamp;
use crate::shard::outbox::TagTarget;

/// How many wallets a tag remembers that it named before.
pub const EARLIER_MAX: usize = 8;

/// The most tags that one shard knows: 2^26 × about 100 B = 6 GiB; with 16 shards a thousand million.
pub const TAGS_MAX: usize = 1 << 26;

/// The tags of one shard, by UID: about 100 B each.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Tags {
    tags: BTreeMap<TagUid, Tag>,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
struct Tag {
    /// Towards a wallet; never [`TagState::Lost`].
    state: TagState,
    /// Which wallet it names, is about to, or did.
    wallet: WalletId,
    version: u32,
    /// When that link was begun.
    linked_at: Timestamp,
    /// Oldest first, no wallet twice.
    earlier: Vec<Earlier>,
    /// The latest moment at which it named a wallet that is not among them any more; 0: there is none.
    forgotten_until: Timestamp,
    /// Which festival has given it out: of all that it names, or named last.
    festival: FestivalId,
    /// Which ticket it names or is about to.
    ticket: Option<Bound>,
    /// It was reported lost, and is refused whatever it names.
    lost: bool,
}

/// A wallet that a tag has named.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
struct Earlier {
    wallet: WalletId,
    /// By this version, the last time.
    version: u32,
    /// Until then.
    until: Timestamp,
}

#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
struct Bound {
    ticket: TicketId,
    /// The festival has taken it.
    taken: bool,
}

/// What linking a tag to a wallet comes to.
pub(crate) enum Linking {
    /// It names that wallet.
    Already,
    /// With this version.
    Next(u32),
}

impl Tags {
    /// Whether a festival can link a tag to a wallet.
    ///
    /// # Errors
    /// [`Rejection::UnusableTag`]; [`Rejection::TagLost`]; [`Rejection::TagTaken`] if it names another wallet, is about to
    /// name any, or names another festival's ticket; [`Rejection::LimitReached`].
    pub(crate) fn decide_link(
        &self,
        tag: TagUid,
        wallet: WalletId,
        festival: FestivalId,
    ) -> Result<Linking, Rejection> {
        let Some(known) = self.usable(tag)? else { return Ok(Linking::Next(1)) };
        if known.ticket.is_some_and(|bound| bound.ticket.festival() != festival) {
            return Err(Rejection::TagTaken);
        }
        match known.state {
            TagState::Linked if known.wallet == wallet => Ok(Linking::Already),
            TagState::Linking | TagState::Linked => Err(Rejection::TagTaken),
            TagState::Free | TagState::Lost => Ok(Linking::Next(known.version + 1)),
        }
    }

    /// Whether a tag can be bound to a ticket; `false`: it is already.
    ///
    /// # Errors
    /// [`Rejection::UnusableTag`]; [`Rejection::TagLost`]; [`Rejection::TagTaken`] if it names another ticket, is about to
    /// name any, or names a wallet that another festival has linked; [`Rejection::LimitReached`].
    pub(crate) fn decide_bind(&self, tag: TagUid, ticket: TicketId) -> Result<bool, Rejection> {
        let Some(known) = self.usable(tag)? else { return Ok(true) };
        if known.state != TagState::Free && known.festival != ticket.festival() {
            return Err(Rejection::TagTaken);
        }
        match known.ticket {
            None => Ok(true),
            Some(bound) if bound.taken && bound.ticket == ticket => Ok(false),
            Some(_) => Err(Rejection::TagTaken),
        }
    }

    /// A tag that can name somebody, with what is known of it.
    fn usable(&self, tag: TagUid) -> Result<Option<&Tag>, Rejection> {
        if !tag.can_name_anybody() {
            return Err(Rejection::UnusableTag);
        }
        match self.tags.get(&tag) {
            Some(known) if known.lost => Err(Rejection::TagLost),
            None if self.tags.len() >= TAGS_MAX => Err(Rejection::LimitReached),
            known => Ok(known),
        }
    }

    /// Whether a tag can be reported lost; `false`: it was.
    ///
    /// # Errors
    /// [`Rejection::UnknownTag`] for one that never named anything.
    pub(super) fn decide_lost(&self, tag: TagUid) -> Result<bool, Rejection> {
        self.tags.get(&tag).map(|known| !known.lost).ok_or(Rejection::UnknownTag)
    }

    /// Whether a tag was reported lost.
    pub fn is_lost(&self, tag: TagUid) -> bool {
        self.tags.get(&tag).is_some_and(|known| known.lost)
    }

    /// The wallet that a tag names or is about to.
    pub(crate) fn wallet_of(&self, tag: TagUid) -> Option<TagTarget> {
        let known = self.tags.get(&tag)?;
        (known.state != TagState::Free).then_some(TagTarget::Wallet(known.wallet, known.version))
    }

    /// The ticket that a tag names or is about to.
    pub(crate) fn ticket_of(&self, tag: TagUid) -> Option<TagTarget> {
        self.tags.get(&tag)?.ticket.map(|bound| TagTarget::Ticket(bound.ticket))
    }

    /// Whether what a tag is about to name has been asked, and has not answered.
    pub(crate) fn is_asking(&self, tag: TagUid, named: TagTarget) -> bool {
        self.tags.get(&tag).is_some_and(|known| match named {
            TagTarget::Wallet(..) => known.state == TagState::Linking,
            TagTarget::Ticket(_) => known.ticket.is_some_and(|bound| !bound.taken),
        })
    }

    /// Whether a tag names this ticket.
    pub(crate) fn is_bound(&self, tag: TagUid, ticket: TicketId) -> bool {
        let bound = Some(Bound { ticket, taken: true });
        self.tags.get(&tag).is_some_and(|known| known.ticket == bound)
    }

    /// Whether the tag names this wallet by this version.
    pub(super) fn names(&self, tag: TagUid, wallet: WalletId, version: u32) -> bool {
        self.tags
            .get(&tag)
            .is_some_and(|known| known.state == TagState::Linked && (known.wallet, known.version) == (wallet, version))
    }

    pub(super) fn linking(&mut self, tag: TagUid, wallet: WalletId, version: u32, festival: FestivalId, at: Timestamp) {
        let known = self.entry(tag, at);
        (known.state, known.wallet, known.version, known.linked_at) = (TagState::Linking, wallet, version, at);
        known.festival = festival;
    }

    pub(super) fn binding(&mut self, tag: TagUid, ticket: TicketId, at: Timestamp) {
        let known = self.entry(tag, at);
        (known.ticket, known.festival) = (Some(Bound { ticket, taken: false }), ticket.festival());
    }

    fn entry(&mut self, tag: TagUid, at: Timestamp) -> &mut Tag {
        self.tags.entry(tag).or_insert(Tag {
            state: TagState::Free,
            wallet: WalletId(0),
            version: 0,
            linked_at: at,
            earlier: Vec::new(),
            forgotten_until: Timestamp(0),
            festival: FestivalId(0),
            ticket: None,
            lost: false,
        })
    }

    pub(super) fn bound(&mut self, tag: TagUid) {
        self.known(tag).ticket.as_mut().expect("decided").taken = true;
    }

    pub(super) fn unbound(&mut self, tag: TagUid) {
        self.known(tag).ticket = None;
    }

    pub(super) fn linked(&mut self, tag: TagUid) {
        self.known(tag).state = TagState::Linked;
    }

    /// The wallet never had it, so there is nothing to remember.
    pub(super) fn refused(&mut self, tag: TagUid) {
        self.known(tag).state = TagState::Free;
    }

    pub(super) fn freed(&mut self, tag: TagUid, at: Timestamp) {
        let known = self.known(tag);
        known.state = TagState::Free;
        if !known.lost {
            known.remember_wallet(at);
        }
    }

    pub(super) fn lost(&mut self, tag: TagUid, at: Timestamp) {
        let known = self.known(tag);
        known.lost = true;
        if known.state != TagState::Free {
            known.remember_wallet(at);
        }
    }

    fn known(&mut self, tag: TagUid) -> &mut Tag {
        self.tags.get_mut(&tag).expect("decided")
    }

    /// All tags that name a ticket.
    pub fn bound_ones(&self) -> impl Iterator<Item = (TagUid, TicketId)> {
        self.tags.iter().filter_map(|(tag, known)| Some((*tag, known.ticket.filter(|bound| bound.taken)?.ticket)))
    }

    /// All tags that name a wallet, lost ones too.
    pub fn linked_ones(&self) -> impl Iterator<Item = (TagUid, WalletId, u32)> {
        let linked = self.tags.iter().filter(|(_, known)| known.state == TagState::Linked);
        linked.map(|(tag, known)| (*tag, known.wallet, known.version))
    }

    /// For the gateway, which resolves taps by this.
    pub fn view(&self, tag: TagUid) -> Option<TagView> {
        let known = self.tags.get(&tag)?;
        Some(TagView {
            tag,
            state: if known.lost { TagState::Lost } else { known.state },
            wallet: (known.state != TagState::Free && !known.lost).then_some(known.wallet),
            ticket: known.ticket.map(|bound| bound.ticket),
            festival: known.festival(),
            version: known.version,
            linked_at: known.linked_at,
            earlier: known.earlier.iter().map(|named| (named.wallet, named.version)).collect(),
            forgotten_until: known.forgotten_until,
        })
    }
}

impl Tag {
    /// Whose it is, while it names anything or is lost.
    fn festival(&self) -> Option<FestivalId> {
        (self.state != TagState::Free || self.ticket.is_some() || self.lost).then_some(self.festival)
    }

    fn remember_wallet(&mut self, until: Timestamp) {
        self.earlier.retain(|earlier| earlier.wallet != self.wallet);
        if self.earlier.len() == EARLIER_MAX {
            self.forgotten_until = self.earlier.remove(0).until;
        }
        self.earlier.push(Earlier { wallet: self.wallet, version: self.version, until });
    }
}
