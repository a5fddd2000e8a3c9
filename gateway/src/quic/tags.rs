//! What this node has learned lately: which wallet a tag names, and which key a festival signs with now.
//!
//! Neither has to be true any more. The wallet knows its tag and the link's version itself and refuses another
//! (`tag_moved`); a key's retirement is heard within [`KEY_FRESH`].

use std::time::{Duration, Instant};

use actors::resolve::Link;
use engine::model::ids::{FestivalId, TagUid};
use quick_cache::sync::Cache;

/// Tags that are remembered: 131,072 of about 60 B, and half as many that were forgotten and would be welcome again: 12 MiB.
/// A festival of 100,000 guests fits.
const TAGS_MAX: usize = 131_072;
/// How long a retired key may still be taken.
pub(super) const KEY_FRESH: Duration = Duration::from_secs(5);
/// Festivals whose key is remembered; each has signed something, so each exists.
const KEYS_MAX: usize = 1_024;

/// Shared by all sessions of a door.
pub(super) struct Tags {
    links: Cache<TagUid, Link>,
    keys: Cache<FestivalId, (u32, Instant)>,
}

impl Default for Tags {
    fn default() -> Self {
        Self { links: Cache::new(TAGS_MAX), keys: Cache::new(KEYS_MAX) }
    }
}

impl Tags {
    pub(super) fn get(&self, tag: &TagUid) -> Option<Link> {
        self.links.get(tag)
    }

    /// `None`: it names nothing now.
    pub(super) fn put(&self, tag: TagUid, link: Option<Link>) {
        match link {
            Some(link) => self.links.insert(tag, link),
            None => drop(self.links.remove(&tag)),
        }
    }

    /// The version of the key with which a festival signs, as heard within [`KEY_FRESH`].
    pub(super) fn key(&self, festival: FestivalId, now: Instant) -> Option<u32> {
        let (version, heard_at) = self.keys.get(&festival)?;
        (now.saturating_duration_since(heard_at) < KEY_FRESH).then_some(version)
    }

    pub(super) fn put_key(&self, festival: FestivalId, version: u32, now: Instant) {
        self.keys.insert(festival, (version, now));
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
        let tags = Tags { links: Cache::new(100), keys: Cache::new(100) };
        tags.put(tag(0), Some(link(0)));
        for n in 1..10_000 {
            tags.put(tag(n), Some(link(n)));
            assert_eq!(tags.get(&tag(n)), Some(link(n)), "the newest is there");
            assert_eq!(tags.get(&tag(0)), Some(link(0)), "asked for each time");
            assert!(tags.links.len() as u64 <= tags.links.capacity());
            tags.put_key(FestivalId(n), n, Instant::now());
        }
        assert!(tags.links.capacity() <= 128 && tags.keys.capacity() <= 128, "rounded up, and no more");
        assert!(tags.keys.len() as u64 <= tags.keys.capacity());
        assert_eq!(tags.get(&tag(1)), None, "long forgotten");
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
