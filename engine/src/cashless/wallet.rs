//! Wallets: 96 bytes each, in rows that never move, found by a hash index. Ten million fit in little over a gigabyte,
//! and no growth copies them all at once.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use serde::de::{SeqAccess, Visitor};
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use crate::cashless::command::{Source, Tap};
use crate::cashless::event::{Lot, Lots};
use crate::cashless::view::WalletView;
use crate::model::ids::{FestivalId, TagUid, WalletId, mix};
use crate::model::money::Currency;
use crate::model::rejection::Rejection;
use crate::plants::{Plant, planted};

/// How many sources a wallet tells apart. Banknotes from more are put together by kind and festival, as from
/// [`Source::SEVERAL`]: at most one more lot for each of these.
///
/// This and [`PAYMENTS_MAX`] are part of the format: records say what is taken from several, not what was put together, so
/// another rule here would make other wallets of old records.
pub const LOTS_MAX: usize = 16;
/// How many of them it tells apart if one more is a card's payment or a bank transfer, each of which is to be given back to
/// where it came from. 1,000.00 from the least top-ups of 5.00 are 200; 256 × 24 B = 6 KiB.
pub const PAYMENTS_MAX: usize = 256;

/// A person's cashless account.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Wallet {
    pub id: WalletId,
    /// What can be spent.
    pub available: i64,
    /// What is on its way to other wallets.
    pub reserved: i64,
    /// Whose it is, in two halves; both zero for nobody's.
    account: (u64, u64),
    /// The oldest lot; the others lie in [`Wallets`].
    lot: Lot,
    /// Its wristband.
    tag: Option<TagUid>,
    /// [`BLOCKED`] and its neighbours.
    flags: u8,
    /// Of all its money.
    pub currency: Currency,
    /// The link's version.
    tag_version: u32,
    /// Which festival issued it.
    pub issuer: FestivalId,
    /// How many transactions it has had.
    pub transactions: u32,
}

const _: () = assert!(size_of::<Wallet>() == 96, "96 bytes, and at most 22 for the index");

const BLOCKED: u8 = 1;
const TAG_LOST: u8 = 2;
/// It has more lots than the one.
const MORE_LOTS: u8 = 4;
/// One of its lots at least is a gift.
const GIFT: u8 = 8;

impl Wallet {
    /// Blocked by the office.
    pub fn is_blocked(&self) -> bool {
        self.flags & BLOCKED != 0
    }
    /// Its wristband, with the link's version.
    pub fn tag(&self) -> Option<(TagUid, u32)> {
        self.tag.map(|tag| (tag, self.tag_version))
    }
    /// Its wristband was reported lost.
    pub fn is_tag_lost(&self) -> bool {
        self.flags & TAG_LOST != 0
    }
    pub fn account(&self) -> Option<u128> {
        let account = u128::from(self.account.0) << 64 | u128::from(self.account.1);
        (account != 0).then_some(account)
    }
    /// Whether this tap names this wallet: the tag is its own, and its link the one that was resolved.
    pub fn is_tapped_by(&self, tap: &Tap) -> bool {
        (self.tag == Some(tap.tag) && self.tag_version == tap.version) || planted(Plant::TagVersionIgnored)
    }

    fn set_account(&mut self, account: u128) {
        self.account = ((account >> 64) as u64, account as u64);
    }
    pub(super) fn set_blocked(&mut self, blocked: bool) {
        self.flags = if blocked { self.flags | BLOCKED } else { self.flags & !BLOCKED };
    }
    pub(super) fn set_tag_lost(&mut self) {
        self.flags |= TAG_LOST;
    }
    pub(super) fn attach(&mut self, tag: TagUid, version: u32) {
        self.tag = Some(tag);
        self.tag_version = version;
        self.flags &= !TAG_LOST;
    }
}

/// How many of an account's wallets a shard shows: 64 × about 1 KB. A person has one for each issuer, and those that were
/// sold with a wristband and are not merged yet.
pub const OWNED_SHOWN_MAX: usize = 64;

/// The most wallets of one shard, 2^28 × 128 B = 32 GiB: what fits into memory is reached first.
pub const WALLETS_MAX: usize = 1 << 28;
/// So many wallets lie in one row: 4,096 × 96 B = 384 KiB.
const ROW: usize = 4_096;

/// All wallets of one shard, in the order in which they were made.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Wallets {
    rows: Rows,
    /// The second and further lots of the few wallets that have any, by slot.
    more: BTreeMap<u32, VecDeque<Lot>>,
    /// Which wallets are an account's, by slot: about 40 B for each that is.
    owned: BTreeSet<(u128, u32)>,
    /// Who holds a gift, by the festival that gave it and slot: what lapses when it is over. 8 B for each wallet and gift.
    gifts: BTreeSet<(FestivalId, u32)>,
}

impl Wallets {
    /// How many there are.
    pub fn len(&self) -> usize {
        self.rows.len
    }
    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.rows.len == 0
    }
    /// All of them, in the order in which they were made.
    pub fn iter(&self) -> impl Iterator<Item = &Wallet> {
        self.rows.rows.iter().flatten()
    }
    /// How many bytes the wallets and their index take.
    pub fn bytes(&self) -> usize {
        let rows = self.rows.rows.iter().map(|row| row.capacity() * size_of::<Wallet>()).sum::<usize>();
        let index = self.rows.index.iter().map(|segment| segment.capacity() * size_of::<u64>()).sum::<usize>();
        rows + index
    }

    /// Where a wallet lies.
    pub fn slot(&self, id: WalletId) -> Option<u32> {
        self.rows.slot(id)
    }
    /// The wallet that lies there.
    pub fn at(&self, slot: u32) -> &Wallet {
        &self.rows.rows[slot as usize / ROW][slot as usize % ROW]
    }
    pub(super) fn at_mut(&mut self, slot: u32) -> &mut Wallet {
        &mut self.rows.rows[slot as usize / ROW][slot as usize % ROW]
    }
    /// Something of a wallet's both cache lines, so that they are there when it is decided.
    pub(crate) fn glance(&self, id: WalletId) -> i64 {
        self.slot(id).map_or(0, |slot| {
            let wallet = self.at(slot);
            wallet.available ^ wallet.lot.amount ^ i64::from(wallet.transactions)
        })
    }
    /// # Errors
    /// [`Rejection::UnknownWallet`].
    pub fn get(&self, id: WalletId) -> Result<&Wallet, Rejection> {
        self.slot(id).map(|slot| self.at(slot)).ok_or(Rejection::UnknownWallet)
    }

    pub(super) fn create(&mut self, id: WalletId, issuer: FestivalId, currency: Currency, account: Option<u128>) {
        let mut wallet = Wallet {
            id,
            available: 0,
            reserved: 0,
            account: (0, 0),
            lot: Lot::NONE,
            tag: None,
            flags: 0,
            currency,
            tag_version: 0,
            issuer,
            transactions: 0,
        };
        wallet.set_account(account.unwrap_or(0));
        self.rows.push(wallet);
        if let Some(account) = account {
            self.owned.insert((account, self.rows.len as u32 - 1));
        }
    }

    /// An account takes a wallet that is nobody's.
    pub(super) fn claim(&mut self, id: WalletId, account: u128) {
        let slot = self.slot(id).expect("decided");
        self.at_mut(slot).set_account(account);
        self.owned.insert((account, slot));
    }

    /// An account's wallets in this shard, in the order in which they were made, at most [`OWNED_SHOWN_MAX`].
    pub fn of_account(&self, account: u128) -> impl Iterator<Item = WalletView> {
        let slots = self.owned.range((account, 0)..=(account, u32::MAX)).take(OWNED_SHOWN_MAX);
        slots.filter_map(|(_, slot)| self.view(self.at(*slot).id))
    }

    /// Whether money has moved in a wallet that a festival issued. Looks at all of them, when a festival's currency is to
    /// be another: a shard's part of ten million takes some milliseconds.
    pub(super) fn any_used(&self, issuer: FestivalId) -> bool {
        self.iter().any(|wallet| wallet.issuer == issuer && wallet.transactions > 0)
    }

    /// The wallets that a festival issued are in its other currency from now on; nothing has ever been in them.
    pub(super) fn redenominate(&mut self, issuer: FestivalId, currency: Currency) {
        for wallet in self.rows.rows.iter_mut().flatten().filter(|wallet| wallet.issuer == issuer) {
            let empty = wallet.transactions == 0 || planted(Plant::CurrencyForgets) || planted(Plant::CurrencyNotHeld);
            assert!(empty, "paired with decide");
            wallet.currency = currency;
        }
    }

    /// A wallet's lots, oldest first.
    pub fn lots(&self, slot: u32) -> impl Iterator<Item = &Lot> {
        let wallet = self.at(slot);
        let more = if wallet.flags & MORE_LOTS != 0 { self.more.get(&slot) } else { None };
        core::iter::once(&wallet.lot).filter(|lot| lot.amount != 0).chain(more.into_iter().flatten())
    }

    /// What a wallet holds of a festival's gifts.
    pub fn gift(&self, slot: u32, of: FestivalId) -> i64 {
        self.lots_if_any_gift(slot).filter(|lot| lot.source == Source::gift(of)).map(|lot| lot.amount).sum()
    }
    /// What can be spent at a festival: all that is available but for what other festivals gave.
    pub fn spendable(&self, slot: u32, at: FestivalId) -> i64 {
        let elsewhere = |lot: &&Lot| lot.source.is_gift() && lot.source != Source::gift(at);
        let gifts: i64 = self.lots_if_any_gift(slot).filter(elsewhere).map(|lot| lot.amount).sum();
        self.at(slot).available - gifts
    }
    /// What was paid in: all that is available but for gifts.
    pub fn paid_in(&self, slot: u32) -> i64 {
        let gifts: i64 = self.lots_if_any_gift(slot).filter(|lot| lot.source.is_gift()).map(|lot| lot.amount).sum();
        self.at(slot).available - gifts
    }
    /// A wallet that holds a gift of this festival's.
    pub(super) fn holder_of_gift(&self, of: FestivalId) -> Option<u32> {
        self.gifts.range((of, 0)..=(of, u32::MAX)).next().map(|(_, slot)| *slot)
    }

    fn lots_if_any_gift(&self, slot: u32) -> impl Iterator<Item = &Lot> {
        let any = self.at(slot).flags & GIFT != 0;
        any.then(|| self.lots(slot)).into_iter().flatten()
    }

    /// The lots that are spent when this amount is spent at a festival: its gift first, then what is oldest.
    pub(super) fn spent_first(&self, slot: u32, at: FestivalId, amount: i64) -> Lots {
        let gift = self.gift(slot, at);
        if gift == 0 {
            return self.oldest(slot, amount);
        }
        if planted(Plant::GiftSpentLast) {
            let paid_in = self.oldest(slot, amount);
            let rest = Lot { source: Source::gift(at), amount: amount - paid_in.sum() };
            return paid_in.iter().copied().chain([rest]).collect();
        }
        let given = Lot { source: Source::gift(at), amount: gift.min(amount) };
        core::iter::once(given).chain(self.oldest(slot, amount - given.amount).iter().copied()).collect()
    }

    /// The oldest lots that make up this amount, gifts left out.
    pub(super) fn oldest(&self, slot: u32, amount: i64) -> Lots {
        let first = self.at(slot).lot;
        if first.amount >= amount && !first.source.is_gift() {
            return Lots::one(first.source, amount);
        }
        let mut left = amount;
        self.lots(slot)
            .filter(|lot| !lot.source.is_gift())
            .map_while(|lot| {
                let part = lot.amount.min(left);
                left -= part;
                (part > 0).then_some(Lot { source: lot.source, amount: part })
            })
            .collect()
    }

    /// Takes these. What lies behind the first lot is taken only where a gift goes before its turn or stays behind.
    pub(super) fn take(&mut self, slot: u32, lots: &Lots) {
        for taken in lots.iter() {
            let wallet = &mut self.rows.rows[slot as usize / ROW][slot as usize % ROW];
            if wallet.lot.source == taken.source {
                wallet.lot.amount -= taken.amount;
                assert!(wallet.lot.amount >= 0, "no more than there is");
                if wallet.lot.amount == 0 && wallet.flags & MORE_LOTS != 0 {
                    let more = self.more.get_mut(&slot).expect("it has more lots");
                    wallet.lot = more.pop_front().expect("a list has lots");
                }
            } else {
                let more = self.more.get_mut(&slot).expect("decided");
                let at = more.iter().position(|lot| lot.source == taken.source).expect("decided");
                more[at].amount -= taken.amount;
                assert!(more[at].amount >= 0, "no more than there is");
                if more[at].amount == 0 {
                    more.remove(at);
                }
            }
            if wallet.flags & MORE_LOTS != 0 && self.more.get(&slot).is_some_and(VecDeque::is_empty) {
                self.more.remove(&slot);
                wallet.flags &= !MORE_LOTS;
            }
            self.note_gift(slot, taken.source);
        }
    }

    /// Keeps up who holds gifts, after money from this source has come or gone.
    fn note_gift(&mut self, slot: u32, source: Source) {
        if !source.is_gift() {
            return;
        }
        let holds = self.lots(slot).any(|lot| lot.source == source);
        let any = self.lots(slot).any(|lot| lot.source.is_gift());
        match holds {
            true => self.gifts.insert((source.festival, slot)),
            false => self.gifts.remove(&(source.festival, slot)),
        };
        let wallet = self.at_mut(slot);
        wallet.flags = if any { wallet.flags | GIFT } else { wallet.flags & !GIFT };
    }

    /// Adds these, behind what is there; money from a source that is there already joins it.
    pub(super) fn give(&mut self, slot: u32, lots: &Lots) {
        for lot in lots.iter() {
            self.give_one(slot, *lot);
            self.note_gift(slot, lot.source);
        }
    }

    fn give_one(&mut self, slot: u32, lot: Lot) {
        let wallet = &mut self.rows.rows[slot as usize / ROW][slot as usize % ROW];
        if wallet.lot.amount == 0 {
            wallet.lot = lot;
            return;
        }
        if wallet.lot.source == lot.source {
            wallet.lot.amount += lot.amount;
            return;
        }
        let more = self.more.entry(slot).or_default();
        let told_apart = if lot.source.is_payment() { PAYMENTS_MAX } else { LOTS_MAX };
        let full = more.len() + 1 >= told_apart && !lot.source.is_gift();
        let source = match more.iter().any(|known| known.source == lot.source) {
            false if full => Source { number: Source::SEVERAL, ..lot.source },
            _ => lot.source,
        };
        // Several may have become the oldest meanwhile.
        let oldest = Some(&mut wallet.lot).filter(|lot| lot.source == source);
        match oldest.or_else(|| more.iter_mut().find(|known| known.source == source)) {
            Some(known) => known.amount += lot.amount,
            None => {
                more.push_back(Lot { source, amount: lot.amount });
                wallet.flags |= MORE_LOTS;
            }
        }
    }

    /// For the office.
    pub fn view(&self, id: WalletId) -> Option<WalletView> {
        let slot = self.slot(id)?;
        let wallet = self.at(slot);
        Some(WalletView {
            id,
            issuer: wallet.issuer,
            currency: wallet.currency,
            available: wallet.available,
            reserved: wallet.reserved,
            blocked: wallet.is_blocked(),
            account: wallet.account(),
            tag: wallet.tag(),
            tag_lost: wallet.is_tag_lost(),
            transactions: wallet.transactions,
            lots: self.lots(slot).copied().collect(),
        })
    }
}

/// The wallets in rows, and their index: 256 tables with open addressing, each growing by itself, so that no growth
/// takes long. An entry is half a hash and the slot, one above. 8 B at a load between 3/8 and 3/4: 11 to 22 B a wallet.
#[derive(Clone, Debug, PartialEq)]
struct Rows {
    rows: Vec<Vec<Wallet>>,
    len: usize,
    index: Vec<Vec<u64>>,
    used: Vec<u32>,
}

const SEGMENTS: usize = 256;

impl Default for Rows {
    fn default() -> Self {
        Self { rows: Vec::new(), len: 0, index: vec![Vec::new(); SEGMENTS], used: vec![0; SEGMENTS] }
    }
}

impl Rows {
    fn hash(id: WalletId) -> (usize, u32) {
        // Not the hash by which wallets are spread over shards: all of this shard's agree in that one.
        let hash = mix(id.0 ^ 0x5743_414C_4C45_5453);
        ((hash >> 56) as usize, (hash >> 16) as u32)
    }

    fn slot(&self, id: WalletId) -> Option<u32> {
        let (segment, half) = Self::hash(id);
        let table = &self.index[segment];
        let mask = table.len().checked_sub(1)?;
        let mut at = half as usize & mask;
        loop {
            let entry = table[at];
            if entry == 0 {
                return None;
            }
            let slot = entry as u32 - 1;
            if (entry >> 32) as u32 == half && self.rows[slot as usize / ROW][slot as usize % ROW].id == id {
                return Some(slot);
            }
            at = (at + 1) & mask;
        }
    }

    fn push(&mut self, wallet: Wallet) {
        assert!(self.slot(wallet.id).is_none(), "a wallet is made once");
        let slot = self.len as u32;
        let (segment, half) = Self::hash(wallet.id);
        if self.len.is_multiple_of(ROW) {
            self.rows.push(Vec::with_capacity(ROW));
        }
        self.rows.last_mut().expect("just pushed").push(wallet);
        self.len += 1;
        let (table, used) = (&mut self.index[segment], &mut self.used[segment]);
        if (*used as usize + 1) * 4 > table.len() * 3 {
            let size = (table.len() * 2).max(4);
            let old = core::mem::replace(table, vec![0; size]);
            old.into_iter().filter(|entry| *entry != 0).for_each(|entry| put(table, entry));
        }
        put(table, u64::from(half) << 32 | u64::from(slot + 1));
        *used += 1;
    }
}

fn put(table: &mut [u64], entry: u64) {
    let mask = table.len() - 1;
    let mut at = (entry >> 32) as usize & mask;
    while table[at] != 0 {
        at = (at + 1) & mask;
    }
    table[at] = entry;
}

impl Serialize for Rows {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_seq(Counted(self.rows.iter().flatten(), self.len))
    }
}

/// An iterator that knows its length, as a sequence without field names must say it first.
struct Counted<I>(I, usize);

impl<I: Iterator> Iterator for Counted<I> {
    type Item = I::Item;
    fn next(&mut self) -> Option<I::Item> {
        let next = self.0.next();
        self.1 -= usize::from(next.is_some());
        next
    }
    fn size_hint(&self) -> (usize, Option<usize>) {
        (self.1, Some(self.1))
    }
}

impl<'de> Deserialize<'de> for Rows {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct OneByOne;
        impl<'de> Visitor<'de> for OneByOne {
            type Value = Rows;
            fn expecting(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
                f.write_str("wallets")
            }
            fn visit_seq<A: SeqAccess<'de>>(self, mut wallets: A) -> Result<Rows, A::Error> {
                let mut rows = Rows::default();
                while let Some(wallet) = wallets.next_element::<Wallet>()? {
                    if rows.slot(wallet.id).is_some() {
                        return Err(serde::de::Error::custom("a wallet twice"));
                    }
                    rows.push(wallet);
                }
                Ok(rows)
            }
        }
        deserializer.deserialize_seq(OneByOne)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cashless::command::SourceKind;
    use crate::model::ids::ProviderNo;
    use proptest::prelude::*;

    fn source(number: u64) -> Source {
        Source::new(SourceKind::Terminal, FestivalId(1), number)
    }

    #[test]
    fn a_million_wallets_take_less_than_128_bytes_each() {
        let mut wallets = Wallets::default();
        for n in 1..=1_000_000_u64 {
            wallets.create(WalletId(mix(n)), FestivalId(1), Currency::EUR, None);
            if n.is_power_of_two() && n >= 4_096 * 8 || n.is_multiple_of(100_000) {
                let each = wallets.bytes() / n as usize;
                assert!(each <= 128, "{each} B each with {n} wallets");
            }
        }
        for n in [1, 2, 500_000, 1_000_000] {
            assert_eq!(wallets.get(WalletId(mix(n))).unwrap().id, WalletId(mix(n)));
        }
        assert_eq!(wallets.slot(WalletId(5)), None);
    }

    #[test]
    fn a_wallet_tells_sixteen_sources_apart_and_loses_none() {
        let mut wallets = Wallets::default();
        wallets.create(WalletId(1), FestivalId(1), Currency::EUR, None);
        for n in 1..=40 {
            wallets.give(0, &Lots::one(source(n), n as i64));
        }
        let lots: Vec<Lot> = wallets.lots(0).copied().collect();
        assert_eq!(lots.len(), LOTS_MAX + 1);
        assert_eq!(lots.iter().map(|lot| lot.amount).sum::<i64>(), 40 * 41 / 2);
        assert_eq!(lots.last().unwrap().source, source(Source::SEVERAL), "several of one kind");
        let oldest = wallets.oldest(0, 4);
        assert_eq!(
            oldest.iter().map(|lot| (lot.source.number, lot.amount)).collect::<Vec<_>>(),
            [(1, 1), (2, 2), (3, 1)]
        );
    }

    /// What a card has paid goes back to that card, so a lot never stands for several payments, until there are more of
    /// them than anybody has. Banknotes make room.
    #[test]
    fn a_wallet_tells_each_payment_apart() {
        let mut wallets = Wallets::default();
        wallets.create(WalletId(1), FestivalId(1), Currency::EUR, None);
        let payment = |number| Source::new(SourceKind::Card, FestivalId(1), number);
        let elsewhere = Source { provider: ProviderNo(2), ..payment(1) };
        for n in 1..=200 {
            wallets.give(0, &Lots::one(payment(n), 500));
        }
        wallets.give(0, &Lots::one(elsewhere, 7));
        wallets.give(0, &Lots::one(payment(3), 1));
        wallets.give(0, &Lots::one(source(1), 10));
        wallets.give(0, &Lots::one(source(2), 20));
        let lots: Vec<(Source, i64)> = wallets.lots(0).map(|lot| (lot.source, lot.amount)).collect();
        let paid = (1..=200).map(|n| (payment(n), if n == 3 { 501 } else { 500 }));
        let rest = [(elsewhere, 7), (source(Source::SEVERAL), 30)];
        assert_eq!(lots, paid.chain(rest).collect::<Vec<_>>());
        for n in 201..=400 {
            wallets.give(0, &Lots::one(payment(n), 500));
        }
        assert_eq!(wallets.lots(0).count(), PAYMENTS_MAX + 1, "and one for all beyond that");
        let sum: i64 = wallets.lots(0).map(|lot| lot.amount).sum();
        assert_eq!(sum, 400 * 500 + 1 + 7 + 30);
        let all = wallets.oldest(0, sum);
        wallets.take(0, &all);
        assert_eq!(wallets.lots(0).count(), 0);
    }

    /// Several that have become the oldest are joined like any other lot.
    #[test]
    fn several_are_one_lot_wherever_they_stand() {
        let mut wallets = Wallets::default();
        wallets.create(WalletId(1), FestivalId(1), Currency::EUR, None);
        let several = source(Source::SEVERAL);
        wallets.give(0, &Lots::one(several, 5));
        for n in 1..=20 {
            wallets.give(0, &Lots::one(source(n), 1));
        }
        let of_several: Vec<i64> = wallets.lots(0).filter(|lot| lot.source == several).map(|lot| lot.amount).collect();
        assert_eq!((of_several, wallets.lots(0).count()), (vec![10], LOTS_MAX));
    }

    #[test]
    fn a_gift_goes_first_where_it_was_given_and_stays_when_the_rest_is_paid_out() {
        let (here, there) = (FestivalId(1), FestivalId(2));
        let mut wallets = Wallets::default();
        wallets.create(WalletId(1), here, Currency::EUR, None);
        let mut give = |source, amount| {
            wallets.give(0, &Lots::one(source, amount));
            wallets.at_mut(0).available += amount;
        };
        give(source(1), 10);
        give(Source::gift(there), 7);
        give(Source::gift(here), 5);
        give(source(2), 20);
        let brief = |lots: &Lots| lots.iter().map(|lot| (lot.source, lot.amount)).collect::<Vec<_>>();
        assert_eq!((wallets.spendable(0, here), wallets.spendable(0, there), wallets.paid_in(0)), (35, 37, 30));
        assert_eq!(brief(&wallets.spent_first(0, here, 3)), [(Source::gift(here), 3)]);
        assert_eq!(
            brief(&wallets.spent_first(0, here, 16)),
            [(Source::gift(here), 5), (source(1), 10), (source(2), 1)]
        );
        let all = wallets.oldest(0, 30);
        assert_eq!(brief(&all), [(source(1), 10), (source(2), 20)], "never a gift");
        wallets.take(0, &all);
        wallets.at_mut(0).available -= 30;
        assert_eq!((wallets.gift(0, here), wallets.gift(0, there), wallets.paid_in(0)), (5, 7, 0));
        assert_eq!((wallets.holder_of_gift(here), wallets.holder_of_gift(FestivalId(3))), (Some(0), None));
        wallets.take(0, &Lots::one(Source::gift(here), 5));
        assert_eq!(wallets.holder_of_gift(here), None);
        assert_eq!(wallets.holder_of_gift(there), Some(0));
        wallets.take(0, &Lots::one(Source::gift(there), 7));
        assert_eq!((wallets.at(0).flags, wallets.lots(0).count()), (0, 0));
    }

    proptest! {
        /// Whatever comes and goes, the lots add up, the oldest go first, and a snapshot keeps all.
        #[test]
        fn lots_are_a_queue(steps in proptest::collection::vec((0..6_u64, 1..50_i64, any::<bool>()), 1..100)) {
            let mut wallets = Wallets::default();
            wallets.create(WalletId(9), FestivalId(1), Currency::EUR, Some(7));
            let mut sum = 0;
            for (number, amount, spend) in steps {
                if spend && amount <= sum {
                    let lots = wallets.oldest(0, amount);
                    prop_assert_eq!(lots.sum(), amount);
                    wallets.take(0, &lots);
                    sum -= amount;
                } else {
                    wallets.give(0, &Lots::one(source(number), amount));
                    sum += amount;
                }
                prop_assert_eq!(wallets.lots(0).map(|lot| lot.amount).sum::<i64>(), sum);
                prop_assert!(wallets.lots(0).all(|lot| lot.amount > 0));
            }
            let bytes = postcard::to_allocvec(&wallets).unwrap();
            let again: Wallets = postcard::from_bytes(&bytes).unwrap();
            prop_assert_eq!(again, wallets);
        }
    }
}
