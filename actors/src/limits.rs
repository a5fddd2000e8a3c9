//! Every bound of this crate, with its sum.

/// Commands that a shard holds, from the door to the answer. 32,768 is about 30 ms of the highest rate measured
/// (1 M scans/s), so what is let in is answered soon; at about 200 B each it is 6.5 MiB a shard.
pub const PENDING_MAX: usize = 32_768;

/// Questions about operators' keys that a shard holds beyond [`PENDING_MAX`], since nobody can evacuate a zone who is not
/// known: one for each HTTP connection and each device that is proving itself, of which there are fewer; 4,096 × 100 B.
pub const KEYS_MAX: usize = 4_096;
/// Commands that protect people ([`engine::command::AdminAction::protects_people`]), beyond both and beyond
/// [`MAILBOX_MAX`]: 256 × about 300 B. So they pass while a shard turns everything else away.
pub const URGENT_MAX: usize = 256;

/// Terminals' commands that all shards of one thread hold together. Fewer than [`PENDING_MAX`], and counted by thread
/// since wallets lie in all shards: when there is more to do than a thread can, bars are turned away and gates are not.
/// 16,384 are answered in about 20 ms.
pub const TERMINALS_MAX: usize = 16_384;

/// Of [`PENDING_MAX`], answers to the office that wait for another shard: half, so that a shard which has to wait for one that is
/// down still has room for everything else. Whoever comes then is told `still_pending` at once.
pub const DEFERRED_MAX: usize = PENDING_MAX / 2;
/// How long an answer to the office may wait for another shard, in ms. It is below the door's own 35 s, so that what is
/// said is clear: `still_pending`.
pub const DEFERRED_MS_MAX: i64 = 25_000;

/// When messages are sent to another shard once more, in ms: it is being rebuilt, or they were lost on the way.
pub const SEND_AGAIN_MS: u64 = 1_000;

/// Batches in a shard's mailbox. A batch has one command at least, so the bound above is reached first only by large
/// ones: 4,096 × about 100 B.
pub const MAILBOX_MAX: usize = 4_096;

/// Commands in one step, hence in one record: 4,096 × about 90 B = 370 KiB, decided in about 2 ms. A payment's lines and a
/// bulk command's tickets count too ([`crate::pipeline::Work::weight`]).
pub const STEP_MAX: usize = 4_096;

/// The longest record, in bytes: [`STEP_MAX`] × the 230 B of a payment by wristband that posts to five accounts, and one
/// batch more (a read's 45 KiB of frames, or 512 messages of another shard, become at most 180 KiB of events) = 1.1 MiB.
/// The journal takes 4 MiB, so none is refused for its length.
pub const RECORD_BYTES_MAX: usize = 5 << 18;

/// Records of a thread's shards gather up to so many bytes before they go to the journal, if others are about to add
/// theirs: a write of 64 KiB takes no longer than one of 4 KiB.
pub const GATHER_BYTES: usize = 64 * 1_024;

/// Records of one shard on their way to the disk: one being written, one behind it, so that the disk never waits. More
/// would only make batches smaller.
pub const IN_FLIGHT_MAX: usize = 2;

/// The same while scans may be answered before they are durable: those do not wait for the disk, so neither may their
/// decision. The journal writes whatever has gathered as one group, so more and smaller records cost it little; 64 × the
/// 1 KiB that a record of some scans has. [`UNCONFIRMED_MAX`] is reached first.
pub const IN_FLIGHT_EARLY_MAX: usize = 64;

/// The room that a journal of so many shards needs in its queue, in bytes and in records, so that what all of them have under
/// way always has some: a full queue makes them wait.
pub fn queue_room(shards: u16) -> (usize, usize) {
    let shards = usize::from(shards);
    (shards * IN_FLIGHT_MAX * RECORD_BYTES_MAX, shards * IN_FLIGHT_EARLY_MAX)
}

/// Scans whose answer has left before it was durable (`scan_ack = decided`), per shard: what a crash may cost.
pub const UNCONFIRMED_MAX: usize = 256;
/// How long such a scan may wait for the disk before the shard falls back to durable answers, in ms.
pub const UNCONFIRMED_MS_MAX: i64 = 50;

/// When whoever was turned away is to come again, in ms: a few flushes later.
pub const RETRY_AFTER_MS: u32 = 20;
/// The same from a shard that is down, in ms. That lasts until somebody has seen to it, and 10,000 devices with a few
/// commands each shall not ask more than a few 10,000 times a second meanwhile.
pub const UNAVAILABLE_RETRY_MS: u32 = 1_000;

/// How long a record that found the journal's queue full waits before it is handed over again, in ms: about ten writes.
pub const JOURNAL_FULL_RETRY_MS: u64 = 1;

/// How long whoever asks for the office waits for a shard that is moving between nodes, in ms: a planned move takes a quarter of
/// that. One whose node has died takes some seconds, and is `unavailable` meanwhile.
pub const MOVE_WAIT_MS: u64 = 1_000;
/// How often it is asked again.
pub const MOVE_AGAIN_MS: u64 = 20;

/// How long starting waits for the shards' threads to take them up, in ms. They have nothing to do but that.
pub const START_MS_MAX: u64 = 10_000;

/// Notices that a slow receiver may lag behind: 1,024 × 24 B.
pub const NOTICES_MAX: usize = 1_024;

/// How often somebody looks whether new snapshots are worth it.
pub const SNAPSHOT_EVERY_S: u64 = 60;

/// Fewer events than this are replayed in less time than a snapshot takes: 500,000 in about a third of a second.
pub const SNAPSHOT_AFTER_EVENTS: u64 = 500_000;

/// How often shadows of other nodes' shards look whether the journal has grown, in ms: what is left to replay when one is taken
/// up. Between pieces of a long replay they rest for as long.
pub const SHADOW_PAUSE_MS: u64 = 20;
/// How many events a new one replays in one go, in about 3 ms.
pub const SHADOW_PIECE_EVENTS: u64 = 5_000;
/// The first pause after a fault of theirs, in ms; each that follows is twice as long.
pub const SHADOW_FAULT_MS: u64 = 1_000;
/// The longest.
pub const SHADOW_FAULT_MS_MAX: u64 = 60_000;

/// How long a clean stop, or a shard that is given up, waits for what is under way, in ms; the journal has the rest.
pub const STOP_MS_MAX: u64 = 10_000;

/// How long a shard that is given up goes on taking in other shards' messages for the sake of answers that wait for them, in
/// ms. A transfer takes a few flushes; whoever waits longer is told `still_pending`.
pub const GIVE_UP_FINISH_MS: u64 = 100;

/// How far the clock may lie behind the journal at a start before somebody is told, in ms.
pub const CLOCK_BEHIND_MS_MAX: i64 = 2_000;
/// The same while the node runs: what a slewed clock never comes to by itself.
pub const JOURNAL_AHEAD_MS_MAX: i64 = 60_000;

/// How far the system's clock may be from the node's before it counts as a jump, in ms: what a time server's daemon steps
/// over (chrony 1 s at its start, ntpd 0.128 s) fits, what a person or a broken source sets does not.
pub const CLOCK_JUMP_MS: i64 = 2_000;
/// How far the node's clock goes towards the system's in a second, in ms: 1 %, so [`CLOCK_JUMP_MS`] takes 200 s.
pub const CLOCK_SLEW_PER_S_MS: i64 = 10;

/// A thread that has answered a scan before it was durable leaves writing to the journal's for so long, in ms: at a gate the
/// next scan follows within a second, and shall not wait for the disk either.
pub const EARLY_ANSWERS_FOLLOW_MS: u64 = 1_000;
