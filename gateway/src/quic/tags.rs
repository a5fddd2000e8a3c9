//! What this node has learned lately: which wallet a tag names, and which key a festival signs with now.
//!
//! Neither has to be true any more. The wallet knows its tag and the link's version itself and refuses another
//! (`tag_moved`); a key's retirement is heard within [`KEY_FRESH`].

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use actors::resolve::Link;
use engine::model::ids::{FestivalId, TagUid};

/// Half of the tags that are remembered: 2 × 131,072 × about 48 B = 12 MiB. A festival of 100,000 guests fits.
const TAGS_HALF: usize = 131_072;
/// How long a retired key may still be taken.
pub(super) const KEY_FRESH: Duration = Duration::from_secs(5);
/// Festivals whose key is remembered; each has signed something, so each exists.
const KEYS_MAX: usize = 1_024;

/// Shared by all sessions of a door.
#[derive(Default)]
pub(super) struct Tags {
    links: Mutex<Halves>,
    keys: Mutex<HashMap<FestivalId, (u32, Instant)>>,
}

/// When the young half is full, it is the old one, and what was in that is forgotten: whoever was asked for meanwhile
/// has moved over.
#[derive(Default)]
struct Halves {
    young: HashMap<TagUid, Link>,
    old: HashMap<TagUid, Link>,
}

impl Tags {
    pub(super) fn get(&self, tag: &TagUid) -> Option<Link> {
        let mut links = self.links.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(link) = links.young.get(tag) {
            return Some(*link);
        }
        let link = links.old.remove(tag)?;
        links.put(*tag, link, TAGS_HALF);
        Some(link)
    }

    /// `None`: it names nothing now.
    pub(super) fn put(&self, tag: TagUid, link: Option<Link>) {
        let mut links = self.links.lock().unwrap_or_else(PoisonError::into_inner);
        links.old.remove(&tag);
        match link {
            Some(link) => links.put(tag, link, TAGS_HALF),
            None => drop(links.young.remove(&tag)),
        }
    }

    /// The version of the key with which a festival signs, as heard within [`KEY_FRESH`].
    pub(super) fn key(&self, festival: FestivalId, now: Instant) -> Option<u32> {
        let keys = self.keys.lock().unwrap_or_else(PoisonError::into_inner);
        let (version, heard_at) = keys.get(&festival)?;
        (now.saturating_duration_since(*heard_at) < KEY_FRESH).then_some(*version)
    }

    pub(super) fn put_key(&self, festival: FestivalId, version: u32, now: Instant) {
        let mut keys = self.keys.lock().unwrap_or_else(PoisonError::into_inner);
        if keys.len() >= KEYS_MAX {
            keys.clear();
        }
        keys.insert(festival, (version, now));
    }
}

impl Halves {
    fn put(&mut self, tag: TagUid, link: Link, half: usize) {
        if self.young.len() >= half && !self.young.contains_key(&tag) {
            self.old = std::mem::take(&mut self.young);
        }
        self.young.insert(tag, link);
    }
}

#[cfg(test)]
mod tests {
    use engine::model::ids::WalletId;
    use engine::model::time::Timestamp;

    use super::*;

    fn tag(n: u32) -> TagUid {
        TagUid::new(&n.to_be_bytes()).unwrap()
    }

    fn link(n: u32) -> Link {
        Link { wallet: WalletId(u64::from(n) + 1), version: n, linked_at: Timestamp(0), had_others: false }
    }

    #[test]
    fn what_is_asked_for_stays_and_all_together_are_bounded() {
        let mut halves = Halves::default();
        for n in 0..1_000 {
            halves.put(tag(n), link(n), 10);
            assert!(halves.young.len() <= 10 && halves.old.len() <= 10);
        }
        let tags = Tags { links: Mutex::new(halves), keys: Mutex::default() };
        assert_eq!(tags.get(&tag(999)), Some(link(999)));
        assert_eq!(tags.get(&tag(985)), Some(link(985)), "from the old half");
        assert_eq!(tags.get(&tag(1)), None, "long forgotten");
        let links = tags.links.lock().unwrap();
        assert!(links.young.contains_key(&tag(985)) && !links.old.contains_key(&tag(985)), "asked for, so young again");
    }

    #[test]
    fn what_is_learned_anew_takes_the_place_of_what_was() {
        let tags = Tags::default();
        tags.put(tag(1), Some(link(1)));
        tags.put(tag(1), Some(link(2)));
        assert_eq!(tags.get(&tag(1)), Some(link(2)));
        tags.put(tag(1), None);
        assert_eq!(tags.get(&tag(1)), None);
    }

    #[test]
    fn a_key_is_asked_for_again_after_a_while() {
        let (tags, now) = (Tags::default(), Instant::now());
        tags.put_key(FestivalId(1), 3, now);
        assert_eq!(tags.key(FestivalId(1), now), Some(3));
        assert_eq!(tags.key(FestivalId(1), now + KEY_FRESH), None);
        assert_eq!(tags.key(FestivalId(2), now), None);
    }
}
