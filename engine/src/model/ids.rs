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

/// A person's account, by the 128 bits of its id. In two halves, so that what holds one is not aligned to 16 bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct PersonId(u64, u64);

impl PersonId {
    /// The person with this id.
    pub const fn from_u128(bits: u128) -> Self {
        Self((bits >> 64) as u64, bits as u64)
    }
    /// All 128 bits.
    pub const fn as_u128(self) -> u128 {
        (self.0 as u128) << 64 | self.1 as u128
    }
}

/// A provider of payments. The numbers are part of records: 0 is none, 2 is reserved for PayPal.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct ProviderNo(pub u16);

impl ProviderNo {
    /// Of whatever no provider had a hand in.
    pub const NONE: Self = Self(0);
    pub const STRIPE: Self = Self(1);
}

/// A node of the cluster, by the number in its configuration.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct NodeNo(pub u32);

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
        Self::from_u128(parse_uuid(text)?)
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

/// The canonical text of a UUID: 36 characters, lower case, hyphens in their places.
fn parse_uuid(text: &[u8]) -> Option<u128> {
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
    Some(bits)
}

/// A wallet: 64 random bits, given by whoever asks for it. Never 0.
///
/// Written as a UUID of version 8, and so is a transaction:
/// ```text
/// bits 127..80 wallet, high 48 · 79..76 version (8) · 75..64 kind
/// 63..62 variant (2) · 61..46 wallet, low 16 · 45..6 serial (40) · 5..0 zero
/// ```
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct WalletId(pub u64);

const WALLET_KIND: u64 = 0x3A1;
const TRANSACTION_KIND: u64 = 0x3A2;
/// Serials of transactions have 40 bits: a shard that books 10,000 a second has enough for three years.
pub const SERIAL_MAX: u64 = (1 << 40) - 1;

fn wallet_uuid(wallet: u64, kind: u64, serial: u64) -> u128 {
    let high = (wallet & !0xFFFF) | 0x8000 | kind;
    let low = 2 << 62 | (wallet & 0xFFFF) << 46 | serial << 6;
    u128::from(high) << 64 | u128::from(low)
}

/// Wallet and serial, where these are the bits of that kind.
fn from_wallet_uuid(bits: u128, kind: u64) -> Option<(WalletId, u64)> {
    let (high, low) = ((bits >> 64) as u64, bits as u64);
    let (wallet, serial) = ((high & !0xFFFF) | (low >> 46 & 0xFFFF), low >> 6 & SERIAL_MAX);
    (bits == wallet_uuid(wallet, kind, serial) && wallet != 0).then_some((WalletId(wallet), serial))
}

impl WalletId {
    /// The wallet that an issuer gives to an account: the first eight bytes of a SHA-256. One for each issuer, so that
    /// nobody can make it in another's place.
    pub fn of_account(account: u128, issuer: FestivalId) -> Self {
        let digest = Sha256::new_with_prefix(b"tapgate.wallet.v2")
            .chain_update(account.to_be_bytes())
            .chain_update(issuer.0.to_be_bytes())
            .finalize();
        let id = u64::from_be_bytes(digest[..8].try_into().expect("eight bytes"));
        Self(id.max(1))
    }
    /// The canonical text only.
    pub fn parse(text: &[u8]) -> Option<Self> {
        from_wallet_uuid(parse_uuid(text)?, WALLET_KIND).filter(|(_, serial)| *serial == 0).map(|(wallet, _)| wallet)
    }
    /// All 128 bits of its UUID.
    pub fn as_u128(self) -> u128 {
        wallet_uuid(self.0, WALLET_KIND, 0)
    }
}

impl fmt::Display for WalletId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        uuid::Uuid::from_u128(self.as_u128()).hyphenated().fmt(f)
    }
}
impl fmt::Debug for WalletId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "wallet {:016x}", self.0)
    }
}

/// An entry in a wallet's history. It carries the wallet, so it leads home by itself, and its serial, by which the shard
/// finds a payment that may still be refunded.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct TransactionId {
    pub wallet: WalletId,
    /// Dense within the wallet's shard, from 1, over all its wallets.
    pub serial: u64,
}

impl TransactionId {
    /// The canonical text only.
    pub fn parse(text: &[u8]) -> Option<Self> {
        Self::from_u128(parse_uuid(text)?)
    }
    /// `None` unless the bits are those of a transaction's id.
    pub fn from_u128(bits: u128) -> Option<Self> {
        let (wallet, serial) = from_wallet_uuid(bits, TRANSACTION_KIND)?;
        (serial > 0).then_some(Self { wallet, serial })
    }
    /// All 128 bits of its UUID.
    pub fn as_u128(self) -> u128 {
        wallet_uuid(self.wallet.0, TRANSACTION_KIND, self.serial)
    }
}

impl fmt::Display for TransactionId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        uuid::Uuid::from_u128(self.as_u128()).hyphenated().fmt(f)
    }
}
impl fmt::Debug for TransactionId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "transaction {} of {:?}", self.serial, self.wallet)
    }
}

/// A vendor within its festival.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct VendorNo(pub u16);

/// A product within its vendor.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct ProductNo(pub u16);

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
    /// The low 40 bits of the nonces that have this code.
    pub fn bits(&self) -> u64 {
        let digit = |c: &u8| CROCKFORD.iter().position(|known| known == c).expect("one of Crockford's") as u64;
        self.0.iter().rev().fold(0, |bits, c| bits << 5 | digit(c))
    }
    /// Reads a code as somebody has typed it: hyphens, blanks and case do not matter, and what can be misread for a digit
    /// is taken for it, as Crockford has it (O for 0, I and L for 1).
    pub fn parse(typed: &str) -> Option<Self> {
        let mut code = [0; 8];
        let mut places = code.iter_mut();
        for c in typed.bytes().filter(|c| !matches!(c, b'-' | b' ')) {
            let c = match c.to_ascii_uppercase() {
                b'O' => b'0',
                b'I' | b'L' => b'1',
                c => c,
            };
            *places.next()? = *CROCKFORD.iter().find(|known| **known == c)?;
        }
        places.next().is_none().then_some(Self(code))
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

/// An NFC tag's UID: 4, 7 or 10 bytes (ISO/IEC 14443-3).
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
    /// Whether it can name anybody. A tag makes a UID of four bytes that begins with 08 anew each time it is read, and
    /// 88 is no UID's first byte but the mark that more of it follows (ISO/IEC 14443-3, 6.5.4); a reader that has read
    /// nothing, and a tag that was never written, give all zeros or all ones.
    pub fn can_name_anybody(&self) -> bool {
        let uid = self.as_bytes();
        let made_anew = uid.len() == 4 && uid[0] == 0x08;
        let all = |byte: u8| uid.iter().all(|&found| found == byte);
        !(made_anew || uid[0] == 0x88 || all(0x00) || all(0xFF))
    }
    /// The UID's own bytes.
    pub fn as_bytes(&self) -> &[u8] {
        &self.bytes[..usize::from(self.len)]
    }
    /// Two numbers, for records that are written a million times a second: the first eight bytes, and length and the rest.
    pub(crate) fn to_words(self) -> (u64, u32) {
        let (first, rest) = self.bytes.split_at(8);
        let first = u64::from_be_bytes(first.try_into().expect("eight bytes"));
        (first, u32::from(self.len) << 16 | u32::from(rest[0]) << 8 | u32::from(rest[1]))
    }
    /// What [`TagUid::to_words`] gave.
    pub(crate) fn from_words(first: u64, rest: u32) -> Option<Self> {
        let mut bytes = [0; 10];
        bytes[..8].copy_from_slice(&first.to_be_bytes());
        bytes[8..].copy_from_slice(&(rest as u16).to_be_bytes());
        let len = rest >> 16;
        let uid = Self::new(bytes.get(..len as usize)?)?;
        (uid.bytes == bytes).then_some(uid)
    }
}

/// Where an actor lives. Actors with the same home share a shard, so that a decision that needs two of them is one
/// step in one record.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Home {
    /// The operators' keys: one home for the whole installation.
    Platform,
    /// A festival with its categories, zones, orders, vendors and devices.
    Festival(FestivalId),
    Wallet(WalletId),
    /// What a tag names.
    Tag(TagUid),
}

/// The finaliser of splitmix64.
pub(crate) fn mix(key: u64) -> u64 {
    let mut z = key.wrapping_add(0x9E37_79B9_7F4A_7C15);
    z = (z ^ z >> 30).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    z = (z ^ z >> 27).wrapping_mul(0x94D0_49BB_1331_11EB);
    z ^ z >> 31
}

impl Home {
    /// `hash(home) mod shards`. The hash is part of the journal's format: the finaliser of splitmix64 over the home's key.
    pub fn shard(self, shards: u16) -> ShardId {
        let hash = match self {
            Self::Platform => return ShardId(0),
            Self::Festival(FestivalId(key)) => mix(u64::from(key)),
            // Twice, so that a wallet whose id is small does not follow the festival with that id.
            Self::Wallet(WalletId(key)) => mix(mix(key)),
            Self::Tag(tag) => tag.as_bytes().iter().fold(u64::from(tag.len), |hash, &b| mix(hash ^ u64::from(b))),
        };
        ShardId((hash % u64::from(shards)) as u16)
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
    fn a_printed_code_reads_back_however_it_is_typed() {
        let id = TicketId::new(FestivalId(1), CategoryNo(0), 0, 0x3FF_0012_3456);
        let code = id.code();
        assert_eq!(code.bits(), id.nonce() & ((1 << 40) - 1));
        let typed = code.as_str().to_lowercase().replace('0', "o").replace('1', "l");
        let typed = format!(" {}-{}", &typed[..4], &typed[4..]);
        for text in [code.as_str(), &typed] {
            assert_eq!(TicketCode::parse(text), Some(code), "{text}");
        }
        for bad in ["", "BD2FP2D", "BD2FP2D45", "BD2FP2DU", "BD2FP2D!", "ÄD2FP2D4"] {
            assert_eq!(TicketCode::parse(bad), None, "{bad}");
        }
    }

    #[test]
    fn a_device_id_reads_back() {
        let id = DeviceId::new(FestivalId(0x1a2b), 17);
        assert_eq!(id.to_string(), "00001a2b-17");
        assert_eq!(DeviceId::parse("00001a2b-17"), Some(id));
        assert_eq!(DeviceId::parse("1a2b-17"), None);
    }

    #[test]
    fn uids_that_cannot_name_anybody() {
        let table: [(&[u8], bool); 12] = [
            (&[0x08, 0x01, 0x02, 0x03], false),
            (&[0x08, 0x00, 0x00, 0x00], false),
            (&[0x08, 1, 2, 3, 4, 5, 6], true), // seven bytes are never made anew: 08 is a manufacturer
            (&[0x00; 4], false),
            (&[0x00; 7], false),
            (&[0xFF; 4], false),
            (&[0xFF; 10], false),
            (&[0x88, 0x04, 0x01, 0x02], false),
            (&[0x88, 1, 2, 3, 4, 5, 6], false),
            (&[0x04, 0x88, 0, 0, 0, 0, 0], true),
            (&[0x04, 0, 0, 0], true),
            (&[0xFE, 0xFF, 0xFF, 0xFF], true),
        ];
        for (uid, can) in table {
            assert_eq!(TagUid::new(uid).unwrap().can_name_anybody(), can, "{uid:02x?}");
        }
    }

    #[test]
    fn homes_never_move() {
        // Golden: a change here would send every festival of an existing journal to another shard.
        let spread: Vec<u16> = ["demo", "tomorrowland-2026", "hellfest", "glastonbury"]
            .map(|slug| Home::Festival(FestivalId::of_slug(slug)).shard(16).0)
            .to_vec();
        assert_eq!(spread, GOLDEN_SHARDS);
        let wallets = [1, 2, 0xFFFF, u64::MAX].map(|id| Home::Wallet(WalletId(id)).shard(16).0);
        let tags: [&[u8]; 4] = [&[1, 2, 3, 4], &[4, 3, 2, 1], &[4, 0, 0, 0, 0, 0, 1], &[4, 0, 0, 0, 0, 0, 0, 0, 0, 1]];
        let tags = tags.map(|uid| Home::Tag(TagUid::new(uid).expect("a length there is")).shard(16).0);
        assert_eq!((wallets, tags), GOLDEN_CASHLESS_SHARDS);
    }
    const GOLDEN_SHARDS: [u16; 4] = [6, 0, 11, 0];
    const GOLDEN_CASHLESS_SHARDS: ([u16; 4], [u16; 4]) = ([14, 4, 15, 7], [1, 13, 9, 2]);

    proptest! {
        #[test]
        fn wallets_and_transactions_read_back(id in 1..u64::MAX, serial in 1..=SERIAL_MAX) {
            let wallet = WalletId(id);
            let transaction = TransactionId { wallet, serial };
            prop_assert_eq!(WalletId::parse(wallet.to_string().as_bytes()), Some(wallet));
            prop_assert_eq!(TransactionId::parse(transaction.to_string().as_bytes()), Some(transaction));
            prop_assert_eq!(WalletId::parse(transaction.to_string().as_bytes()), None, "a transaction is no wallet");
            prop_assert_eq!(TransactionId::parse(wallet.to_string().as_bytes()), None, "nor the other way round");
            for id in [wallet.as_u128(), transaction.as_u128()] {
                let id = uuid::Uuid::from_u128(id);
                prop_assert_eq!((id.get_version_num(), id.get_variant()), (8, uuid::Variant::RFC4122));
            }
        }
    }
}
