//! Names of things. An id that a person or a device sends back leads to its home by itself: the home's key is in it.

use core::fmt;
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

/// One of the journal's shards, `0 .. shards`. The number of shards is fixed when a journal is created.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct ShardId(pub u16);

/// A festival. The first four bytes of its slug's SHA-256, so that the slug alone leads to the shard that knows it and
/// two festivals can never share a slug: the second one would have the id of the first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct FestivalId(pub u32);

impl FestivalId {
    /// The id of the festival with this slug.
    pub fn of_slug(slug: &str) -> Self {
        let digest = Sha256::digest(slug.as_bytes());
        Self(u32::from_be_bytes([digest[0], digest[1], digest[2], digest[3]]))
    }
}

impl fmt::Display for FestivalId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:08x}", self.0)
    }
}

/// A zone within its festival, `0 .. 64`: a person's whereabouts are one 64-bit mask.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct ZoneNo(pub u8);

/// The most zones a festival can have: one bit each in a ticket's mask.
pub const ZONES_MAX: usize = 64;

impl ZoneNo {
    /// The zone's bit in a mask of zones.
    pub fn bit(self) -> u64 {
        1 << self.0
    }
}

/// A gate within its festival.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct GateNo(pub u16);

/// A ticket category within its festival.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct CategoryNo(pub u16);

/// A reader or terminal: its festival in the high half, its number there in the low half.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct DeviceId(pub u64);

impl DeviceId {
    /// The device with this number at this festival.
    pub fn new(festival: FestivalId, number: u32) -> Self {
        Self(u64::from(festival.0) << 32 | u64::from(number))
    }
    /// Where it was enrolled.
    pub fn festival(self) -> FestivalId {
        FestivalId((self.0 >> 32) as u32)
    }
    /// Its number at its festival, from 0.
    pub fn number(self) -> u32 {
        self.0 as u32
    }
    /// Reads what `Display` writes: `1a2b3c4d-17`.
    pub fn parse(text: &str) -> Option<Self> {
        let (festival, number) = text.split_once('-')?;
        if festival.len() != 8 {
            return None;
        }
        Some(Self::new(FestivalId(u32::from_str_radix(festival, 16).ok()?), number.parse().ok()?))
    }
}

impl fmt::Display for DeviceId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}-{}", self.festival(), self.number())
    }
}

/// A ticket: a UUID of version 8 (RFC 9562, section 5.8) that says where it belongs.
///
/// ```text
/// bits 127..96 festival · 95..80 category · 79..76 version (8) · 75..64 serial, high 12
/// 63..62 variant (2)    · 61..42 serial, low 20                 · 41..0  nonce
/// ```
/// The serial counts up within its category, so the shard finds a ticket by index; the nonce keeps ids from being
/// guessed by counting, and is checked against the ticket's own.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct TicketId(u128);

const NONCE_BITS: u32 = 42;
const NONCE_MASK: u64 = (1 << NONCE_BITS) - 1;

impl TicketId {
    /// Of the 64 bits of `nonce`, the low 42 count.
    pub fn new(festival: FestivalId, category: CategoryNo, serial: u32, nonce: u64) -> Self {
        let high = u64::from(festival.0) << 32 | u64::from(category.0) << 16 | 0x8000 | u64::from(serial >> 20);
        let low = 2 << 62 | u64::from(serial & 0xF_FFFF) << NONCE_BITS | nonce & NONCE_MASK;
        Self(u128::from(high) << 64 | u128::from(low))
    }
    /// `None` unless version and variant are those of a ticket's id.
    pub fn from_u128(bits: u128) -> Option<Self> {
        let version = (bits >> 76) & 0xF;
        let variant = (bits >> 62) & 0x3;
        (version == 8 && variant == 2).then_some(Self(bits))
    }
    /// The canonical text only: 36 characters, lower case, hyphens in their places.
    pub fn parse(text: &[u8]) -> Option<Self> {
        let text: &[u8; 36] = text.try_into().ok()?;
        let mut bits: u128 = 0;
        for (i, &c) in text.iter().enumerate() {
            if matches!(i, 8 | 13 | 18 | 23) {
                if c != b'-' {
                    return None;
                }
                continue;
            }
            let digit = match c {
                b'0'..=b'9' => c - b'0',
                b'a'..=b'f' => c - b'a' + 10,
                _ => return None,
            };
            bits = bits << 4 | u128::from(digit);
        }
        Self::from_u128(bits)
    }
    /// All 128 bits.
    pub fn as_u128(self) -> u128 {
        self.0
    }
    /// The festival it was issued for.
    pub fn festival(self) -> FestivalId {
        FestivalId((self.0 >> 96) as u32)
    }
    /// The category it was issued from.
    pub fn category(self) -> CategoryNo {
        CategoryNo((self.0 >> 80) as u16)
    }
    /// Its place in the category, from 0.
    pub fn serial(self) -> u32 {
        let high = (self.0 >> 64) as u32 & 0xFFF;
        let low = (self.0 >> NONCE_BITS) as u32 & 0xF_FFFF;
        high << 20 | low
    }
    /// The 42 bits that cannot be counted up to.
    pub fn nonce(self) -> u64 {
        self.0 as u64 & NONCE_MASK
    }
    /// The short code for display, eight characters of Crockford's base 32. For people: it is not unique by itself.
    pub fn code(self) -> TicketCode {
        let mut code = [0; 8];
        for (i, c) in code.iter_mut().enumerate() {
            *c = CROCKFORD[(self.nonce() >> (5 * i)) as usize & 31];
        }
        TicketCode(code)
    }
}

impl fmt::Display for TicketId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        uuid::Uuid::from_u128(self.0).hyphenated().fmt(f)
    }
}
impl fmt::Debug for TicketId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// Crockford's base 32: no I, L, O or U, so that nobody misreads a code aloud.
pub const CROCKFORD: &[u8; 32] = b"0123456789ABCDEFGHJKMNPQRSTVWXYZ";

/// A ticket's short code.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TicketCode(pub [u8; 8]);

impl TicketCode {
    /// The eight characters.
    pub fn as_str(&self) -> &str {
        str::from_utf8(&self.0).expect("Crockford's alphabet is ASCII")
    }
}

/// The nonce of the `index`th ticket issued with `seed` (splitmix64, Steele et al. 2014): spreads one random seed over
/// a batch, so that the event that issues a thousand tickets need not carry a thousand numbers.
pub fn nonce_at(seed: u64, index: u32) -> u64 {
    let mut z = seed.wrapping_add(u64::from(index).wrapping_add(1).wrapping_mul(0x9E37_79B9_7F4A_7C15));
    z = (z ^ z >> 30).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    z = (z ^ z >> 27).wrapping_mul(0x94D0_49BB_1331_11EB);
    (z ^ z >> 31) & NONCE_MASK
}

/// An NFC chip's UID: 4, 7 or 10 bytes (ISO/IEC 14443-3).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct TagUid {
    len: u8,
    bytes: [u8; 10],
}

impl TagUid {
    /// `None` unless it has 4, 7 or 10 bytes.
    pub fn new(uid: &[u8]) -> Option<Self> {
        if !matches!(uid.len(), 4 | 7 | 10) {
            return None;
        }
        let mut bytes = [0; 10];
        bytes[..uid.len()].copy_from_slice(uid);
        Some(Self { len: uid.len() as u8, bytes })
    }
    /// The UID's own bytes.
    pub fn as_bytes(&self) -> &[u8] {
        &self.bytes[..usize::from(self.len)]
    }
}

/// Where an actor lives. Actors with the same home share a shard, so that a decision that needs two of them is one
/// step in one record.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Home {
    /// The operators' keys: one home for the whole installation.
    Platform,
    /// A festival with its categories, zones, orders and devices.
    Festival(FestivalId),
}

impl Home {
    /// `hash(home) mod shards`. The hash is part of the journal's format: the finaliser of splitmix64 over the home's key.
    pub fn shard(self, shards: u16) -> ShardId {
        let Home::Festival(FestivalId(key)) = self else { return ShardId(0) };
        let mut z = u64::from(key).wrapping_add(0x9E37_79B9_7F4A_7C15);
        z = (z ^ z >> 30).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        z = (z ^ z >> 27).wrapping_mul(0x94D0_49BB_1331_11EB);
        ShardId(((z ^ z >> 31) % u64::from(shards)) as u16)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn a_ticket_id_gives_back_what_was_put_in(f: u32, c: u16, s: u32, n: u64) {
            let id = TicketId::new(FestivalId(f), CategoryNo(c), s, n);
            prop_assert_eq!((id.festival(), id.category(), id.serial(), id.nonce()), (FestivalId(f), CategoryNo(c), s, n & NONCE_MASK));
            prop_assert_eq!(TicketId::parse(id.to_string().as_bytes()), Some(id));
            prop_assert_eq!(uuid::Uuid::from_u128(id.as_u128()).get_version_num(), 8);
        }
    }

    #[test]
    fn only_the_canonical_text_is_a_ticket_id() {
        let id = TicketId::new(FestivalId(0xABCD_EF01), CategoryNo(3), 7, 0xFF_FFFF_FFFF);
        assert_eq!(TicketId::parse(id.to_string().to_uppercase().as_bytes()), None);
        assert_eq!(TicketId::parse(id.to_string().replace('-', "").as_bytes()), None);
        assert_eq!(TicketId::parse(b"00000000-0000-4000-8000-000000000000"), None, "version 4 is not ours");
    }

    #[test]
    fn a_device_id_reads_back() {
        let id = DeviceId::new(FestivalId(0x1a2b), 17);
        assert_eq!(id.to_string(), "00001a2b-17");
        assert_eq!(DeviceId::parse("00001a2b-17"), Some(id));
        assert_eq!(DeviceId::parse("1a2b-17"), None);
    }

    #[test]
    fn homes_never_move() {
        // Golden: a change here would send every festival of an existing journal to another shard.
        let spread: Vec<u16> = ["demo", "tomorrowland-2026", "hellfest", "glastonbury"]
            .map(|slug| Home::Festival(FestivalId::of_slug(slug)).shard(16).0)
            .to_vec();
        assert_eq!(spread, GOLDEN_SHARDS);
    }
    const GOLDEN_SHARDS: [u16; 4] = [6, 0, 11, 0];
}
