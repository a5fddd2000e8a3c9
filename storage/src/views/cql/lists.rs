//! Which lists there are, and where their rows lie.

use engine::model::ids::{
    CategoryNo, DeviceId, FestivalId, ShardId, TicketId, TransactionId, VendorNo, WalletId, ZoneNo,
};
use engine::model::time::{MINUTE_MS, Timestamp};

use super::keys::Key;
use super::store::Table;
use crate::views::Span;
use crate::views::cashless::QUARTER_MS;

/// What rows are listed by. Numbers are the first byte of a list's name, and stay.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    Zone = 1,
    Device = 2,
    Ticket = 3,
    Class = 4,
    Wallet = 5,
    Terminal = 6,
    Vendor = 7,
    Serial = 8,
    Refunds = 9,
    Counts = 10,
    Sales = 11,
    Products = 12,
    Account = 13,
    Tickets = 14,
    Holders = 15,
    OfHolder = 16,
}

const HOUR_MS: i64 = 60 * MINUTE_MS;
const DAY_MS: i64 = 24 * HOUR_MS;

/// How lists of wallets and of tickets are put together: a list of each would be millions of partitions of some rows, none of
/// which could be written together with another.
const GROUPS: u32 = 64;

/// Serials of one bucket: with [`GROUPS`] and 16 shards at most 65,536 rows, 10 MB.
const SERIALS: u64 = 1 << 18;
/// Blocks of tickets in one bucket: 65,536 tickets, 512 KiB.
const BLOCKS: u32 = 256;

impl Kind {
    /// Where it lies, and how long its buckets are, in ms; `None`: its buckets are not of time.
    fn place(self) -> (Table, Option<i64>) {
        match self {
            // At 500 a second 450,000 rows of 100 bytes, 45 MB: a bucket should stay below 100.
            Self::Zone => (Table::AccessLog, Some(QUARTER_MS)),
            Self::Class => (Table::Transactions, Some(QUARTER_MS)),
            // At 10 a second 36,000 rows, 5 MB.
            Self::Device => (Table::AccessLog, Some(HOUR_MS)),
            Self::Terminal | Self::Vendor => (Table::Transactions, Some(HOUR_MS)),
            // At ten million a day 156,000 rows in each of the groups, 25 MB.
            Self::Ticket => (Table::AccessLog, Some(DAY_MS)),
            Self::Wallet => (Table::Transactions, Some(DAY_MS)),
            Self::Serial | Self::Refunds => (Table::Transactions, None),
            // 50 gates in each of 1,440 minutes, 72,000 rows of 40 bytes.
            Self::Counts => (Table::Sums, Some(DAY_MS)),
            // Of one vendor: 96 quarters, 20 terminals, 16 shards, 10 products: 307,000 rows of 60 bytes, 18 MB.
            Self::Sales | Self::Products => (Table::Sums, Some(DAY_MS)),
            // Of one vendor in one shard, a row for each minute in which it moved: 86 KB a day, 32 MB a year.
            Self::Account => (Table::Sums, None),
            Self::Tickets | Self::Holders | Self::OfHolder => (Table::Tickets, None),
        }
    }

    const ALL: [Self; 16] = [
        Self::Zone,
        Self::Device,
        Self::Ticket,
        Self::Class,
        Self::Wallet,
        Self::Terminal,
        Self::Vendor,
        Self::Serial,
        Self::Refunds,
        Self::Counts,
        Self::Sales,
        Self::Products,
        Self::Account,
        Self::Tickets,
        Self::Holders,
        Self::OfHolder,
    ];
}

/// A list's name: its kind, and which one.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) struct List(pub(super) Vec<u8>);

/// The same group for the same id, evenly.
fn group(id: u64) -> u32 {
    (id.wrapping_mul(0x9E37_79B9_7F4A_7C15) >> 32) as u32 % GROUPS
}

impl List {
    fn of(kind: Kind, which: impl FnOnce(Key) -> Key) -> Self {
        Self(which(Key::default().u8(kind as u8)).0)
    }

    pub(super) fn kind(&self) -> Kind {
        Kind::ALL[usize::from(self.0[0]) - 1]
    }
    pub(super) fn table(&self) -> Table {
        self.kind().place().0
    }
    /// The bucket of a moment.
    pub(super) fn bucket(&self, at: i64) -> i64 {
        self.kind().place().1.map_or(0, |width| at.div_euclid(width))
    }
    /// Whether its buckets have to be noted: nobody could tell which there are.
    pub(super) fn has_index(&self) -> bool {
        self.kind().place().1.is_some() || self.kind() == Kind::Tickets
    }

    // Of the access log; keys: [ticket], time, order.
    pub(super) fn zone(festival: FestivalId, zone: ZoneNo) -> Self {
        Self::of(Kind::Zone, |name| name.u32(festival.0).u8(zone.0))
    }
    pub(super) fn device(device: DeviceId) -> Self {
        Self::of(Kind::Device, |name| name.u64(device.0))
    }
    pub(super) fn ticket(ticket: TicketId) -> Self {
        let of = group(ticket.as_u128() as u64);
        Self::of(Kind::Ticket, |name| name.u32(ticket.festival().0).u32(of))
    }

    // Of transactions; keys: [wallet], time, shard, order.
    pub(super) fn class(festival: FestivalId, class: u8) -> Self {
        Self::of(Kind::Class, |name| name.u32(festival.0).u8(class))
    }
    pub(super) fn wallet(wallet: WalletId) -> Self {
        Self::of(Kind::Wallet, |name| name.u32(group(wallet.0)))
    }
    pub(super) fn terminal(terminal: DeviceId) -> Self {
        Self::of(Kind::Terminal, |name| name.u64(terminal.0))
    }
    pub(super) fn vendor(festival: FestivalId, vendor: VendorNo) -> Self {
        Self::of(Kind::Vendor, |name| name.u32(festival.0).u16(vendor.0))
    }

    // Sums; keys: minute, gate, zone · quarter, terminal, [product, VAT,] shard · minute.
    pub(super) fn counts(festival: FestivalId) -> Self {
        Self::of(Kind::Counts, |name| name.u32(festival.0))
    }
    pub(super) fn sales(festival: FestivalId, vendor: VendorNo) -> Self {
        Self::of(Kind::Sales, |name| name.u32(festival.0).u16(vendor.0))
    }
    pub(super) fn products(festival: FestivalId, vendor: VendorNo) -> Self {
        Self::of(Kind::Products, |name| name.u32(festival.0).u16(vendor.0))
    }
    pub(super) fn account(festival: FestivalId, vendor: VendorNo, shard: ShardId) -> Self {
        Self::of(Kind::Account, |name| name.u32(festival.0).u16(vendor.0).u16(shard.0))
    }

    // Tickets; keys: category, block · category, serial.
    pub(super) fn tickets(festival: FestivalId) -> Self {
        Self::of(Kind::Tickets, |name| name.u32(festival.0))
    }
    pub(super) fn holders(festival: FestivalId) -> Self {
        Self::of(Kind::Holders, |name| name.u32(festival.0))
    }
    pub(super) fn of_holder(festival: FestivalId, holder: u128) -> Self {
        Self::of(Kind::OfHolder, |name| name.u32(festival.0).u128(holder))
    }
}

/// One row's place.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) struct Place {
    pub(super) list: List,
    pub(super) bucket: i64,
    pub(super) key: Key,
}

impl Place {
    /// In a list whose buckets are of time.
    pub(super) fn at(list: List, at: Timestamp, key: Key) -> Self {
        let bucket = list.bucket(at.0);
        Self { list, bucket, key }
    }
    /// A transaction by its id.
    pub(super) fn serial(id: TransactionId) -> Self {
        Self::of_transaction(Kind::Serial, id)
    }
    /// What was given back of a payment.
    pub(super) fn refunds(payment: TransactionId) -> Self {
        Self::of_transaction(Kind::Refunds, payment)
    }
    fn of_transaction(kind: Kind, TransactionId { wallet, serial }: TransactionId) -> Self {
        let list = List::of(kind, |name| name.u32(group(wallet.0)));
        let key = Key::default().u64(wallet.0).u64(serial);
        Self { list, bucket: (serial / SERIALS) as i64, key }
    }
    /// A block of tickets, or of their holders.
    pub(super) fn block(list: List, category: CategoryNo, block: u32) -> Self {
        Self { list, bucket: block_bucket(category, block), key: Key::default().u16(category.0).u32(block) }
    }
}

pub(super) fn block_bucket(category: CategoryNo, block: u32) -> i64 {
    i64::from(category.0) << 32 | i64::from(block / BLOCKS)
}

/// A part of a list, in one direction.
#[derive(Clone, Debug)]
pub(super) struct Slice {
    pub(super) list: List,
    /// The first and the last bucket that may have some of it.
    pub(super) buckets: (i64, i64),
    pub(super) from: Key,
    /// No longer in it.
    pub(super) until: Key,
    pub(super) backwards: bool,
}

impl Slice {
    /// Of a list whose keys are `prefix`, a moment and whatever: what lies in `span`, behind `after` and all that begin like
    /// it, the way that is read.
    pub(super) fn of_time(
        list: List,
        prefix: &Key,
        span: Span,
        after: Option<(Timestamp, Key)>,
        backwards: bool,
    ) -> Self {
        let edge = |at: Timestamp| prefix.clone().moment(at.0);
        let (mut from, mut until) = (edge(span.from), edge(span.until));
        let (mut first, mut last) = (span.from, span.until);
        match after {
            Some((at, key)) if backwards => (until, last) = (until.min(key), last.min(at)),
            Some((at, key)) => (from, first) = (from.max(key.behind()), first.max(at)),
            None => {}
        }
        Self { buckets: (list.bucket(first.0), list.bucket(last.0)), list, from, until, backwards }
    }

    pub(super) fn is_empty(&self) -> bool {
        self.from >= self.until || self.buckets.0 > self.buckets.1
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_kind_is_found_by_the_first_byte_of_a_lists_name() {
        for kind in Kind::ALL {
            assert_eq!(List::of(kind, |name| name).kind(), kind);
        }
    }

    #[test]
    fn wallets_are_spread_over_all_groups() {
        let mut seen = [0; GROUPS as usize];
        (0..6_400).for_each(|id| seen[group(id) as usize] += 1);
        assert!(seen.iter().all(|seen| (50..200).contains(seen)), "{seen:?}");
    }
}
