//! Known bugs, compiled in only with the feature `plants`, one of them awake at a time: the simulator must catch each.
//! Without the feature [`planted`] is `false` at compile time.

macro_rules! plants {
    ($($(#[$doc:meta])* $name:ident = $number:literal, $word:literal;)*) => {
        /// A known bug.
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        #[repr(u8)]
        pub enum Plant { $($(#[$doc])* $name = $number,)* }

        impl Plant {
            pub const ALL: &'static [Plant] = &[$(Plant::$name,)*];
            /// Its name on the command line.
            pub fn word(self) -> &'static str {
                match self { $(Plant::$name => $word,)* }
            }
        }
    };
}

plants! {
    /// A scan is answered before its record is durable.
    AckBeforeDurable = 1, "ack-before-durable";
    /// Snapshots leave out the answers that devices may ask for again.
    DedupeForgottenAtRestart = 2, "dedupe-forgotten-at-restart";
    /// Every number is taken for new.
    DedupeIgnored = 3, "dedupe-ignored";
    /// The same number with other content gets the old answer.
    FingerprintIgnored = 4, "fingerprint-ignored";
    /// Snapshots leave out who is inside.
    PresenceNotRestored = 5, "presence-not-restored";
    /// One too many.
    CapacityOffByOne = 6, "capacity-off-by-one";
    /// Leaving a perimeter leaves the zones in it as they were.
    ExitForgetsInnerZones = 7, "exit-forgets-inner-zones";
    /// A used ticket opens the perimeter again under single entry.
    SingleEntryForgotten = 8, "single-entry-forgotten";
    /// A revoked device still decides.
    RevocationIgnored = 9, "revocation-ignored";
    /// Undoing an entry leaves the person counted.
    UndoKeepsOccupancy = 10, "undo-keeps-occupancy";
    /// Recovery takes a record whose checksum does not hold.
    TornTailAccepted = 11, "torn-tail-accepted";
    /// Replay starts one record late after a snapshot.
    ReplaySkipsOne = 12, "replay-skips-one";
    /// The journal goes on after a failed flush.
    FlushErrorIgnored = 13, "flush-error-ignored";
    /// The shard's time follows a clock that jumps back.
    TimeGoesBack = 14, "time-goes-back";
    /// More tickets than the quota.
    QuotaForgotten = 15, "quota-forgotten";
    /// Answers to questions show what is not durable yet.
    ViewsBeforeDurable = 16, "views-before-durable";
    /// A transfer that has taken too long comes back by the clock, whatever the other side has decided.
    RefundOnAClock = 17, "refund-on-a-clock";
    /// A transfer that was cancelled before it was decided is credited all the same.
    NoTombstone = 18, "no-tombstone";
    /// A transfer is confirmed, and the other wallet gets nothing.
    CreditForgotten = 19, "credit-forgotten";
    /// A message of another shard that comes again is taken in again.
    HighWaterLost = 20, "high-water-lost";
    /// A payment's posting does not add up, by one cent.
    PostingOffByOne = 21, "posting-off-by-one";
    /// A wallet pays what it does not have.
    NegativeBalance = 22, "negative-balance";
    /// A terminal's numbers are all taken for new.
    TerminalDedupeIgnored = 23, "terminal-dedupe-ignored";
    /// More is refunded than was paid.
    RefundBeyondPayment = 24, "refund-beyond-payment";
    /// A wristband that was linked anew still pays from the wallet it named before.
    TagVersionIgnored = 25, "tag-version-ignored";
    /// A refund forgets where the money once came from.
    LotsLost = 26, "lots-lost";
    /// A blocked wallet still pays.
    BlockIgnored = 27, "block-ignored";
    /// A terminal that was revoked still takes payments in the other shards.
    DirectoryStale = 28, "directory-stale";
    /// A wristband that was reported lost still pays.
    LostTagPays = 29, "lost-tag-pays";
    /// A transfer that came back stays reserved.
    ReservedForGood = 30, "reserved-for-good";
    /// A message to another shard leaves before its record is durable.
    SentBeforeDurable = 31, "sent-before-durable";
    /// A delivery is acknowledged to the other shard before its record is durable.
    DeliveryAckedBeforeDurable = 32, "delivery-acked-before-durable";
    /// The office is told that a terminal is revoked before the other shards have heard of it.
    HeldAnswerEarly = 33, "held-answer-early";
    /// Whoever waits for another shard is never told that it is over.
    FinishedNeverTold = 34, "finished-never-told";
    /// After a recovery nobody remembers that messages are still to be sent.
    OutboxSenderForgets = 35, "outbox-sender-forgets";
    /// Undoing a scan leaves it counted at its gate.
    UndoKeepsTheCount = 36, "undo-keeps-the-count";
    /// A shown answer stands whoever says so, and whenever.
    ShownByAnybody = 37, "shown-by-anybody";
    /// Whoever asks a shard that is down, or waited for it when it went down, is told nothing.
    DownShardSilent = 46, "down-shard-silent";
    /// A shard's thread writes its record itself, though an older one still waits for the journal's thread.
    WrittenPastTheQueue = 48, "written-past-the-queue";
    /// The node's clock follows the system's wherever it jumps.
    ClockJumpFollowed = 47, "clock-jump-followed";
    /// A wristband that was reported lost still opens a gate.
    LostTagEnters = 56, "lost-tag-enters";
    /// What a wristband named besides stays behind when another takes its place.
    CarryForgotten = 57, "carry-forgotten";
    /// A payment is taken after the moment that it was to be taken by.
    ExpiryIgnored = 60, "expiry-ignored";
    /// Emptying a wallet pays gifts out too.
    GiftPaidOut = 62, "gift-paid-out";
    /// Gifts are spent after everything else.
    GiftSpentLast = 63, "gift-spent-last";
    /// A shard has forgotten that it has booked something in the currency that is to be another.
    CurrencyForgets = 64, "currency-forgets";
    /// Money still moves in a shard that has said that it has booked nothing.
    CurrencyNotHeld = 65, "currency-not-held";
    /// The record says that the installation itself asked, whoever did.
    PrincipalForgotten = 66, "principal-forgotten";
    /// A link that is younger than the tap is taken for what was tapped.
    YoungLinkTaken = 67, "young-link-taken";
    /// A frame that was sent before is not asked where its wristband led before.
    EarlierWalletsSkipped = 68, "earlier-wallets-skipped";
    /// A wristband is taken to remember every wallet that it has named.
    ForgottenWalletsIgnored = 69, "forgotten-wallets-ignored";
    /// A claim holds though another one of the same epoch holds already.
    LooseClaim = 80, "loose-claim";
    /// A shard is owned as soon as the claim is written, whatever lies before it.
    ClaimNotReadBack = 81, "claim-not-read-back";
    /// An owner's first batch has the number that was next when it wrote its claim, not the one at the claim.
    NumberFromBeforeTheClaim = 82, "number-from-before-the-claim";
    /// A batch is acknowledged wherever it lies.
    OffsetNotCompared = 83, "offset-not-compared";
    /// A batch is acknowledged though an older one is not.
    OldestNotCompared = 84, "oldest-not-compared";
}

impl Plant {
    /// Those that the simulator cannot see, since its journal is one machine's: what they break is which of two processes owns
    /// a shard, and `storage/tests/ownership.rs` catches them.
    pub const OF_OWNERSHIP: &'static [Plant] = &[
        Plant::LooseClaim,
        Plant::ClaimNotReadBack,
        Plant::NumberFromBeforeTheClaim,
        Plant::OffsetNotCompared,
        Plant::OldestNotCompared,
    ];
}

#[cfg(feature = "plants")]
mod awake {
    use core::sync::atomic::{AtomicU8, Ordering};

    static AWAKE: AtomicU8 = AtomicU8::new(0);

    /// Wakes one plant, or none.
    pub fn wake(plant: Option<super::Plant>) {
        AWAKE.store(plant.map_or(0, |plant| plant as u8), Ordering::Relaxed);
    }
    /// Whether this plant is awake.
    pub fn planted(plant: super::Plant) -> bool {
        AWAKE.load(Ordering::Relaxed) == plant as u8
    }
}

#[cfg(feature = "plants")]
pub use awake::{planted, wake};

/// A refused credential with this number, a payment or an incoming transfer of this many minor units makes the step
/// panic, with the feature: so that a test can see what a bug in a decision does to its shard. A digest has it once in
/// four billion.
pub const TRIPWIRE: u32 = 0x0BAD_CAFE;

/// Panics on [`TRIPWIRE`], with the feature; does nothing without it.
pub(crate) fn tripwire(number: u32) {
    assert!(!cfg!(feature = "plants") || number != TRIPWIRE, "tripped, as asked");
}

/// Whether this plant is awake: never, without the feature.
#[cfg(not(feature = "plants"))]
#[inline(always)]
pub const fn planted(_plant: Plant) -> bool {
    false
}
