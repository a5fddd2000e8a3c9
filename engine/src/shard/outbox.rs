//! Messages between shards. A message is part of the record that caused it, is sent once that is durable, sent again
//! until the other shard has it, and is taken in at most once and in order: per ordered pair of shards the sender numbers
//! 1, 2, 3 …, and the receiver takes exactly the number after its high-water mark. Nothing here looks at a clock.
//!
//! ```text
//! A: Sent { to: B, n }       pending at A      ── Deliver ──→      B: Received { from: A, n }, and what it decided
//! A: Delivered { to: B }     forgotten         ←── high-water mark ──
//! ```
//! What one actor has to tell another of the same shard does not come through here: it is done in the same record.

use std::collections::VecDeque;

use serde::{Deserialize, Serialize};

use crate::cashless::command::{CashlessPolicy, ProductValues, VendorValues};
use crate::cashless::event::Lots;
use crate::model::ids::{DeviceId, FestivalId, ProductNo, ShardId, TagUid, TicketId, VendorNo, WalletId};
use crate::model::money::Currency;
use crate::model::rejection::Rejection;
use crate::model::status::FestivalStatus;
use crate::plants::{Plant, planted};
use crate::record::table::events;

/// With so many messages waiting for one shard, commands that would send it more are `busy`: 65,536 × about 200 B =
/// 13 MB for each pair. Answers to the other shard's messages are not held back: it bounds how many it asks for
/// ([`OPS_MAX`]), so at most as many again.
pub const PENDING_MAX: usize = 65_536;
/// The most operations of one shard that wait for another: 65,536 × about 200 B.
pub const OPS_MAX: usize = 65_536;
/// The most messages in one delivery: one record takes them all in, 512 × about 150 B = 75 KiB.
pub const DELIVER_MAX: usize = 512;

events! {
    /// What one shard tells another.
    #[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
    pub enum Message of {
        /// What a festival's shard lets every other one know.
        Directory(Entry),
    } {
        /// Take this money, please. From the sender's shard to the receiver's.
        Credit = 5 {
            /// The number of the operation at the sender's shard.
            op: u64 = 1,
            from: WalletId = 2,
            to: WalletId = 3,
            festival: FestivalId = 4,
            /// Which festival issued the sender's wallet.
            issuer: FestivalId = 5,
            currency: Currency = 6,
            /// How much, and where it once came from.
            lots: Lots = 7,
            /// A merge: only into a wallet of this account and of the same issuer, whatever it may hold.
            account: Option<u128> = 8,
        },
        /// Taken.
        Credited = 6 { op: u64 = 1 },
        /// Not taken, and never will be.
        Declined = 7 { op: u64 = 1, rejection: Rejection = 2 },
        /// Let it be, if it is not done yet.
        Cancel = 8 { op: u64 = 1 },
        /// Is this to be your wristband? From the tag's shard to the wallet's.
        Link = 9 {
            /// The number of the operation at the tag's shard.
            op: u64 = 1,
            tag: TagUid = 2,
            wallet: WalletId = 3,
            /// The link's version.
            version: u32 = 4,
            /// Who gives it out.
            festival: FestivalId = 5,
            /// In place of another.
            replace: bool = 6,
            /// Make the wallet if there is none.
            create: bool = 7,
            /// It comes with what this wristband named: only if that is the wallet's still.
            from: Option<TagUid> = 8,
        },
        LinkTaken = 10 {
            op: u64 = 1,
            /// Another one had been the wallet's: what that names comes too, in a [`Message::Carry`].
            carry: bool = 2,
        },
        /// It is not.
        LinkRefused = 11 { op: u64 = 1, rejection: Rejection = 2 },
        /// Another tag took this one's place. From the wallet's shard to the tag's.
        Unlink = 12 {
            tag: TagUid = 1,
            wallet: WalletId = 2,
            /// Its link's version then.
            version: u32 = 3,
            /// The tag that took its place, with the number of the operation at that one's shard: tell it what else this one
            /// names.
            to: Option<(TagUid, u64)> = 4,
        },
        /// This tag was reported lost. From the shard of what it names to the tag's.
        Lost = 13 {
            tag: TagUid = 1,
            named: TagTarget = 3,
            /// The number of the operation at the sender's shard.
            op: u64 = 2,
        },
        /// Is this to be this ticket's wristband, in place of any it has? From the tag's shard to the festival's.
        Bind = 14 {
            /// The number of the operation at the tag's shard.
            op: u64 = 1,
            tag: TagUid = 2,
            ticket: TicketId = 3,
            /// It comes with what this wristband named: only if that is the ticket's still.
            from: Option<TagUid> = 5,
        },
        BindTaken = 15 {
            op: u64 = 1,
            /// Another one had been the ticket's: what that names comes too, in a [`Message::Carry`].
            carry: bool = 2,
        },
        /// It is not.
        BindRefused = 16 { op: u64 = 1, rejection: Rejection = 2 },
        /// Another tag took this one's place. From the festival's shard to the tag's.
        Unbind = 17 {
            tag: TagUid = 1,
            ticket: TicketId = 2,
            /// As in [`Message::Unlink`].
            to: Option<(TagUid, u64)> = 4,
        },
        /// What else a tag names, to the one that takes its place. Always sent, so that nobody waits for it in vain.
        Carry = 18 {
            /// The number of the operation at the shard of that one.
            op: u64 = 1,
            /// The tag that takes the place.
            tag: TagUid = 2,
            /// The tag whose place it takes.
            from: TagUid = 3,
            /// What that one names besides.
            named: Option<TagTarget> as optional = 4,
        },
        /// Refuse this tag: it was reported lost. From the tag's shard to that of what it names.
        Bar = 19 {
            tag: TagUid = 1,
            named: TagTarget = 2,
            /// Whom to tell: the operation with this number of that shard.
            then: (ShardId, u64) = 3,
        },
        /// The tag is refused.
        LossKnown = 20 { op: u64 = 1 },
        /// Has anything been booked at this festival, whose currency is to be another? Until it is decided, nothing is.
        CurrencyAsk = 21 {
            /// The number of the operation at the festival's shard.
            op: u64 = 1,
            festival: FestivalId = 2,
        },
        /// The answer to that, and to the decision.
        CurrencyVote = 22 {
            op: u64 = 1,
            /// Something has been booked.
            booked: bool = 2,
        },
        /// It is decided; what the festival has now came before.
        CurrencyDecided = 23 {
            /// The number of the operation at the festival's shard.
            op: u64 = 1,
            festival: FestivalId = 2,
        },
    }
}

/// What a wristband names.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum TagTarget {
    /// A wallet, by a link with this version.
    Wallet(WalletId, u32),
    Ticket(TicketId),
}

events! {
    /// A line of the directory: absolute values, so that the last one heard is what holds.
    #[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
    pub enum Entry {
        /// A festival that takes cashless payments.
        Festival = 1 as CashlessPolicySet {
            festival: FestivalId = 1,
            policy: CashlessPolicy = 2,
            /// Where it is in its life.
            status: FestivalStatus = 3,
        },
        Vendor = 2 as VendorPut { festival: FestivalId = 1, vendor: VendorNo = 2, values: VendorValues = 3 },
        Product = 3 as ProductPut {
            festival: FestivalId = 1, vendor: VendorNo = 2, product: ProductNo = 3, values: ProductValues = 4,
        },
        Terminal = 4 {
            device: DeviceId = 1,
            /// For whom it takes payments.
            vendor: Option<VendorNo> as optional = 2,
            /// Whether it tops up with cash.
            cashier: bool = 3,
            /// Refused.
            revoked: bool = 4,
        },
    }
}

/// One shard's side of all its pairs.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct Outbox {
    /// By the other shard's number.
    peers: Vec<Peer>,
}

#[derive(Clone, Debug, Default, Serialize, Deserialize)]
struct Peer {
    /// The number of the last message to it.
    sent: u64,
    /// The high-water mark of its messages to us.
    received: u64,
    /// What it may not have: the last of it has the number `sent`.
    pending: VecDeque<Message>,
}

impl Outbox {
    /// For a shard among so many.
    pub fn new(shards: u16) -> Self {
        Self { peers: (0..shards).map(|_| Peer::default()).collect() }
    }

    /// The number that the next message to this shard gets.
    pub fn next(&self, to: ShardId) -> u64 {
        self.peers[usize::from(to.0)].sent + 1
    }

    /// Whether there is room for more of what a command sends.
    pub fn has_room(&self, to: ShardId) -> bool {
        self.peers[usize::from(to.0)].pending.len() < PENDING_MAX
    }

    /// The messages that this shard may not have yet, with the number of the first.
    pub fn pending(&self, to: ShardId) -> (u64, impl ExactSizeIterator<Item = &Message>) {
        let peer = &self.peers[usize::from(to.0)];
        (peer.sent - peer.pending.len() as u64 + 1, peer.pending.iter())
    }

    /// Up to which number this shard has everything.
    pub fn delivered(&self, to: ShardId) -> u64 {
        let peer = &self.peers[usize::from(to.0)];
        peer.sent - peer.pending.len() as u64
    }

    /// Up to which number we have everything from this shard.
    pub fn high_water(&self, from: ShardId) -> u64 {
        self.peers.get(usize::from(from.0)).map_or(0, |peer| peer.received)
    }

    pub(crate) fn sent(&mut self, to: ShardId, n: u64, message: Message) {
        let peer = &mut self.peers[usize::from(to.0)];
        assert_eq!(peer.sent + 1, n, "messages are numbered densely");
        peer.sent = n;
        peer.pending.push_back(message);
    }

    /// A message was received.
    pub(crate) fn received(&mut self, from: ShardId, n: u64) {
        let peer = &mut self.peers[usize::from(from.0)];
        assert!(peer.received + 1 == n || planted(Plant::HighWaterLost), "each is received once, in order");
        peer.received = n;
    }

    /// The other shard has everything up to this number.
    pub(crate) fn trim(&mut self, to: ShardId, through: u64) {
        let peer = &mut self.peers[usize::from(to.0)];
        let delivered = through + peer.pending.len() as u64 - peer.sent;
        peer.pending.drain(..delivered as usize);
    }
}
