//! How far this process has read the log, in a file of its own, so that the next opening need not read it from its beginning: of
//! each shard what the fold knew there, whom its claim names, and where its records lie.
//!
//! It is a convenience and never the truth. One that is damaged, of another log or version, or ahead of the log is passed over,
//! and so is a shard of it whose last record is not, byte for byte, the one that was read: then the log is read from its
//! beginning. What lies before is not read again, so damage there is found by `audit`, which reads everything.
//!
//! The file, little endian: magic "TAPGATEK", format version (4), crc32c of all that follows (4), then postcard.

use std::{
    fs, io,
    path::Path,
    time::{Duration, Instant},
};

use engine::model::ids::ShardId;
use rdkafka::{
    Message as _, Offset, TopicPartitionList,
    consumer::{BaseConsumer, Consumer as _},
    error::KafkaError,
};
use serde::{Deserialize, Serialize};

use super::{Options, ROUND, lane::Places, shared::Shared, topic};
use crate::journal::{
    JournalError, Member,
    ownership::{Fold, Header, Log},
};

/// How often it is written: what the next opening reads again at most.
pub(super) const EVERY: Duration = Duration::from_secs(10);
const MAGIC: [u8; 8] = *b"TAPGATEK";
const VERSION: u32 = 1;
const HEADER: usize = 16;

#[derive(Serialize, Deserialize)]
struct Kept {
    log: Log,
    topic: String,
    shards: Vec<OfShard>,
}

/// Where one shard was.
#[derive(Serialize, Deserialize)]
pub(super) struct OfShard {
    pub(super) fold: Fold,
    pub(super) places: Places,
    /// [`Member::encode`].
    member: Vec<u8>,
}

impl OfShard {
    pub(super) fn new(fold: Fold, places: Places, member: Option<&Member>) -> Self {
        Self { fold, places, member: member.map(Member::encode).unwrap_or_default() }
    }

    pub(super) fn member(&self) -> Option<Member> {
        Member::decode(&self.member)
    }
}

/// Writes down where all shards are. If that fails, the next opening takes longer.
pub(super) fn save(shared: &Shared) {
    let Some(path) = &shared.options.checkpoint else { return };
    let shards = shared.lanes.iter().map(|lane| lane.state().checkpoint()).collect();
    let kept = Kept { log: shared.log, topic: shared.options.topic.clone(), shards };
    if let Err(why) = write(path, &kept) {
        tracing::warn!(file = %path.display(), %why, "how far the log was read is not noted: the next start reads more of it");
    }
}

fn write(path: &Path, kept: &Kept) -> io::Result<()> {
    let body = postcard::to_allocvec(kept).map_err(io::Error::other)?;
    let mut bytes = Vec::with_capacity(HEADER + body.len());
    bytes.extend_from_slice(&MAGIC);
    bytes.extend_from_slice(&VERSION.to_le_bytes());
    bytes.extend_from_slice(&crc32c::crc32c(&body).to_le_bytes());
    bytes.extend_from_slice(&body);
    let unfinished = path.with_extension("tmp");
    fs::write(&unfinished, bytes)?;
    // Not flushed: what a crash leaves of it, the checksum finds.
    fs::rename(&unfinished, path)
}

fn read(path: &Path) -> Option<Kept> {
    let bytes = fs::read(path).ok()?;
    let (head, body) = bytes.split_at_checked(HEADER)?;
    let number = |at: usize| u32::from_le_bytes(head[at..at + 4].try_into().expect("4 bytes"));
    let whole = head[..8] == MAGIC && number(8) == VERSION && number(12) == crc32c::crc32c(body);
    whole.then(|| postcard::from_bytes(body).ok())?
}

/// Where reading may begin, by shard; `None`: at the beginning.
///
/// # Errors
/// [`JournalError::Unreachable`], [`JournalError::Options`].
pub(super) fn load(options: &Options, log: Log) -> Result<Vec<Option<OfShard>>, JournalError> {
    let nothing = || (0..options.shards).map(|_| None).collect();
    let Some(path) = options.checkpoint.as_deref().filter(|path| path.exists()) else { return Ok(nothing()) };
    let fits = |kept: &Kept| {
        kept.log == log && kept.topic == options.topic && kept.shards.len() == usize::from(options.shards)
    };
    let Some(kept) = read(path).filter(fits) else {
        let file = path.display();
        tracing::info!(%file, "what is noted of how far the log was read cannot be used: it is read from its beginning");
        return Ok(nothing());
    };
    still_there(options, log, kept.shards)
}

/// Leaves those shards out whose last record is not where it was, or is another one.
fn still_there(options: &Options, log: Log, kept: Vec<OfShard>) -> Result<Vec<Option<OfShard>>, JournalError> {
    let client = |why: KafkaError| JournalError::Options(why.to_string());
    let consumer: BaseConsumer = options.consumer().create().map_err(client)?;
    let mut kept: Vec<Option<OfShard>> = kept.into_iter().map(Some).collect();
    let mut partitions = TopicPartitionList::new();
    for (shard, end) in topic::ends_of(options, &consumer, (0..options.shards).map(ShardId))? {
        let of = &mut kept[usize::from(shard.0)];
        // A shard without a record is read in no time.
        *of = of.take().filter(|of| of.fold.records_end() > 0 && of.fold.next_offset() <= end);
        if let Some(of) = of {
            let last = Offset::Offset(of.fold.records_end() as i64 - 1);
            partitions.add_partition_offset(&options.topic, shard.0.into(), last).map_err(client)?;
        }
    }
    consumer.assign(&partitions).map_err(client)?;
    let (mut found, began) = (vec![false; kept.len()], Instant::now());
    let wanted = kept.iter().flatten().count();
    let mut seen = 0;
    while seen < wanted && began.elapsed() < options.patience() {
        let Some(Ok(message)) = consumer.poll(ROUND) else { continue };
        let shard = ShardId(message.partition() as u16);
        let at = usize::from(shard.0);
        let Some(of) = kept[at].as_ref().filter(|of| message.offset() as u64 + 1 == of.fold.records_end()) else {
            continue; // read ahead
        };
        let (key, payload) = (message.key().unwrap_or_default(), message.payload().unwrap_or_default());
        let behind = Header::decode(key, payload.len(), log, shard).ok();
        let behind = behind.and_then(|header| Fold::behind(shard, message.offset() as u64, &header, payload));
        let same = |behind: &Fold| {
            (behind.next_seq(), behind.chain()) == (of.fold.next_seq(), of.fold.chain())
                && behind.epoch() <= of.fold.epoch()
        };
        found[at] = behind.as_ref().is_some_and(same);
        seen += 1;
    }
    for (shard, (of, found)) in kept.iter_mut().zip(found).enumerate() {
        if !found && of.take().is_some() {
            tracing::warn!(shard, "the log does not have what was last read of it, and is read from its beginning");
        }
    }
    Ok(kept)
}

#[cfg(test)]
mod tests {
    use std::path::PathBuf;

    use engine::model::ids::NodeNo;

    use super::*;
    use crate::journal::{
        Cursor, Position, Reader, Records as _,
        kafka::{
            KafkaJournal, Opened,
            lane::Cached,
            tests::{brokers, options, take_over},
        },
        ownership::Incarnation,
    };

    /// Opens, owning nothing, and says of which shards the beginning was passed over.
    fn opens(options: &Options) -> (Opened, Vec<u16>) {
        let opened = KafkaJournal::open(Options { claim_all: false, ..options.clone() }).expect("opens");
        let lanes = opened.0.shared.lanes.iter();
        let resumed = lanes.filter(|lane| matches!(lane.cached(0), Cached::Gone)).map(|lane| lane.shard.0).collect();
        (opened, resumed)
    }

    /// Where records lie from a cursor on, in order.
    fn from(opened: &Opened, cursor: &Cursor) -> Vec<(u16, u64)> {
        let (mut reader, mut found) = (opened.reader(cursor).expect("a reader"), Vec::new());
        while let Some(entry) = Reader::next(&mut *reader).expect("reads") {
            found.push((entry.shard.0, entry.position.0));
        }
        found.sort_unstable();
        found
    }

    fn with_file(brokers: &str, folder: &tempfile::TempDir) -> (Options, PathBuf) {
        let path = folder.path().join("log-read");
        let member = Member { node: NodeNo(7), peers: "here:1".into(), devices: "here:2".into() };
        let options = Options { checkpoint: Some(path.clone()), member: Some(member), ..options(brokers) };
        (options, path)
    }

    #[test]
    fn an_opening_goes_on_where_the_last_one_was() {
        let Some((brokers, _alone)) = brokers("an_opening_goes_on_where_the_last_one_was") else { return };
        let folder = tempfile::tempdir().expect("a folder");
        let (options, path) = with_file(&brokers, &folder);
        let all_shards: Vec<u16> = (0..options.shards).collect();
        let first = take_over(&options, 30);
        let (opened, resumed) = opens(&options);
        assert_eq!(resumed, all_shards);
        let owners = (0..options.shards).map(|shard| opened.0.owner(ShardId(shard)).expect("known").node.0);
        assert!(owners.eq(all_shards.iter().map(|_| 7)), "it knows who has what, though the claim lies before");
        drop(opened);

        // What others have written since is read, and what lies before can be.
        let beside = Options { checkpoint: None, ..options.clone() };
        let second = take_over(&beside, 20);
        let (opened, resumed) = opens(&options);
        assert_eq!(resumed, all_shards);
        let mut all = [first, second.clone()].concat();
        all.sort_unstable();
        assert_eq!(from(&opened, &Cursor::start(options.shards)), all);
        let least = |of: &[(u16, u64)], shard: u16| of.iter().filter(|(s, _)| *s == shard).map(|(_, at)| *at).min();
        let behind = Cursor::of((0..options.shards).map(|shard| Position(least(&second, shard).expect("some"))));
        let mut second = second;
        second.sort_unstable();
        assert_eq!(from(&opened, &behind), second);
        assert_eq!(opened.records_between(&behind, &opened.end()), second.len() as u64);
        drop(opened);
        let third = take_over(&options, 5);
        assert_eq!(from(&opens(&options).0, &Cursor::start(options.shards)).len(), all.len() + third.len());

        // A file that is not whole costs time, and nothing else.
        let bytes = fs::read(&path).expect("is there");
        for at in [3, 9, 13, bytes.len() / 2] {
            let mut bytes = bytes.clone();
            bytes[at] ^= 4;
            fs::write(&path, bytes).expect("writes");
            let (opened, resumed) = opens(&options);
            assert!(resumed.is_empty(), "byte {at}");
            drop(opened);
        }
    }

    #[test]
    fn what_was_read_of_another_log_is_passed_over() {
        let Some((brokers, _alone)) = brokers("what_was_read_of_another_log_is_passed_over") else { return };
        let folder = tempfile::tempdir().expect("a folder");
        let (options, path) = with_file(&brokers, &folder);
        let acknowledged = take_over(&options, 10);
        let mut kept = read(&path).expect("is there");
        // The log was put back from an older copy, and has gone on otherwise: shard 0. It ends before: shard 1. It never was
        // this one: shard 2.
        let batch = |seq: u64| Header::Batch { epoch: 1, incarnation: Incarnation([1; 16]), seq, prev_hash: [9; 16] };
        let at = |shard: usize| kept.shards[shard].fold.records_end() - 1;
        let others = [
            Fold::behind(ShardId(0), at(0), &batch(kept.shards[0].fold.next_seq() - 1), b"other"),
            Fold::behind(ShardId(1), at(1) + 1_000, &batch(500), b"more"),
            Fold::behind(ShardId(2), at(2) - 1, &batch(kept.shards[2].fold.next_seq() - 1), b"other"),
        ];
        for (shard, other) in others.into_iter().enumerate() {
            kept.shards[shard].fold = other.expect("a batch");
        }
        write(&path, &kept).expect("writes");
        let (opened, resumed) = opens(&options);
        assert_eq!(resumed, (3..options.shards).collect::<Vec<_>>());
        assert_eq!(from(&opened, &Cursor::start(options.shards)).len(), acknowledged.len());
        drop(opened);
        let elsewhere = Options { topic: "elsewhere".into(), ..options.clone() };
        assert!(load(&elsewhere, Log::of(&options.cluster)).expect("needs no broker").iter().all(Option::is_none));
        let other = load(&options, Log::of("another cluster")).expect("needs no broker");
        assert!(other.iter().all(Option::is_none));
    }
}
