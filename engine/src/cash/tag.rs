//! Chips: a UID names one wallet at most. The chip's home decides which; the wallet confirms, since it has one chip at
//! most itself. Each link has a version, so that a tap which was resolved before a chip moved is found out.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::ids::{TagUid, WalletId};
use crate::rejection::Rejection;
use crate::time::Timestamp;
use crate::view::{TagState, TagView};

/// How many wallets a chip remembers that it named before.
pub const EARLIER_MAX: usize = 8;

/// The most chips that one shard knows: 2^26 × about 100 B = 6 GiB; with 16 shards a thousand million.
pub const TAGS_MAX: usize = 1 << 26;

/// The chips of one shard, by UID: about 100 B each.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Tags {
    tags: BTreeMap<TagUid, Tag>,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
struct Tag {
    state: TagState,
    /// Which wallet it names, is about to, or did.
    wallet: WalletId,
    version: u32,
    /// When that link was begun.
    linked_at: Timestamp,
    /// Oldest first.
    earlier: Vec<(WalletId, u32)>,
}

/// What linking a chip to a wallet comes to.
pub(super) enum Linking {
    /// It names that wallet.
    Already,
    /// With this version.
    Next(u32),
}

impl Tags {
    /// Whether a chip can be linked to a wallet.
    ///
    /// # Errors
    /// [`Rejection::UnusableTag`]; [`Rejection::TagLost`]; [`Rejection::TagTaken`] if it names another wallet, or is about to name any;
    /// [`Rejection::LimitReached`].
    pub(super) fn decide_link(&self, tag: TagUid, wallet: WalletId) -> Result<Linking, Rejection> {
        if !tag.can_name_anybody() {
            return Err(Rejection::UnusableTag);
        }
        let Some(known) = self.tags.get(&tag) else {
            return if self.tags.len() < TAGS_MAX { Ok(Linking::Next(1)) } else { Err(Rejection::LimitReached) };
        };
        match known.state {
            TagState::Free => Ok(Linking::Next(known.version + 1)),
            TagState::Linked if known.wallet == wallet => Ok(Linking::Already),
            TagState::Linking | TagState::Linked => Err(Rejection::TagTaken),
            TagState::Lost => Err(Rejection::TagLost),
        }
    }

    /// Whether the chip names this wallet by this version.
    pub(super) fn names(&self, tag: TagUid, wallet: WalletId, version: u32) -> bool {
        self.tags
            .get(&tag)
            .is_some_and(|known| known.state == TagState::Linked && (known.wallet, known.version) == (wallet, version))
    }

    pub(super) fn linking(&mut self, tag: TagUid, wallet: WalletId, version: u32, at: Timestamp) {
        let new = Tag { state: TagState::Free, wallet, version, linked_at: at, earlier: Vec::new() };
        let known = self.tags.entry(tag).or_insert(new);
        (known.state, known.wallet, known.version, known.linked_at) = (TagState::Linking, wallet, version, at);
    }

    pub(super) fn linked(&mut self, tag: TagUid) {
        self.known(tag).state = TagState::Linked;
    }

    /// The wallet never had it, so there is nothing to remember.
    pub(super) fn refused(&mut self, tag: TagUid) {
        self.known(tag).state = TagState::Free;
    }

    pub(super) fn freed(&mut self, tag: TagUid) {
        self.forget_wallet(tag, TagState::Free);
    }

    pub(super) fn lost(&mut self, tag: TagUid) {
        self.forget_wallet(tag, TagState::Lost);
    }

    fn forget_wallet(&mut self, tag: TagUid, state: TagState) {
        let known = self.known(tag);
        known.state = state;
        if known.earlier.len() == EARLIER_MAX {
            known.earlier.remove(0);
        }
        known.earlier.push((known.wallet, known.version));
    }

    fn known(&mut self, tag: TagUid) -> &mut Tag {
        self.tags.get_mut(&tag).expect("decided")
    }

    /// All chips that name a wallet.
    pub fn linked_ones(&self) -> impl Iterator<Item = (TagUid, WalletId, u32)> {
        let linked = self.tags.iter().filter(|(_, known)| known.state == TagState::Linked);
        linked.map(|(tag, known)| (*tag, known.wallet, known.version))
    }

    /// For the gateway, which resolves taps by this.
    pub fn view(&self, tag: TagUid) -> Option<TagView> {
        let known = self.tags.get(&tag)?;
        Some(TagView {
            tag,
            state: known.state,
            wallet: matches!(known.state, TagState::Linking | TagState::Linked).then_some(known.wallet),
            version: known.version,
            linked_at: known.linked_at,
            earlier: known.earlier.clone(),
        })
    }
}
