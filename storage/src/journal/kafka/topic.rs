//! The topic: what it has to be before a journal is kept in it. Whatever would lose a record sooner or later is refused at the
//! start, with what to do about it.

use std::{
    future::Future,
    pin::pin,
    sync::Arc,
    task::{Context, Poll, Wake, Waker},
    thread::{self, Thread},
    time::{Duration, Instant},
};

use engine::model::ids::ShardId;
use rdkafka::{
    ClientContext, Offset, TopicPartitionList,
    admin::{AdminClient, AdminOptions, ConfigResource, NewTopic, ResourceSpecifier, TopicReplication},
    client::{Client, DefaultClientContext},
    consumer::{BaseConsumer, Consumer as _},
    error::{KafkaError, RDKafkaErrorCode},
    topic_partition_list::TopicPartitionListElem,
    types::RDKafkaRespErr,
};

use super::Options;
use crate::journal::JournalError;

/// What a topic is set to when it is created, and compared with afterwards. The rest depends on the options.
const SETTINGS: [(&str, &str, &str); 4] = [
    ("cleanup.policy", "delete", "it would drop records that others have overtaken"),
    ("retention.ms", "-1", "it would drop records by their age"),
    ("retention.bytes", "-1", "it would drop the oldest records to save space"),
    ("unclean.leader.election.enable", "false", "a broker that has missed records could become the leader"),
];

/// Makes sure that the topic is there and fit for a journal; creates it if that is asked for.
pub(super) fn prepare(options: &Options) -> Result<(), JournalError> {
    let client = |why: KafkaError| JournalError::Options(why.to_string());
    let admin: Admin = options.client().create().map_err(client)?;
    let asker = asker(options)?;
    find(options, &asker, &admin)?;
    let request = AdminOptions::new().request_timeout(Some(options.patience()));
    let deadline = Instant::now() + options.patience();
    let config = loop {
        let described = block_on(admin.describe_configs([&ResourceSpecifier::Topic(&options.topic)], &request));
        let config = described.map_err(|why| options.unreachable(why))?.into_iter().next();
        match config.map(|config| config.map_err(|why| options.unreachable(why))).transpose() {
            // A broker that has just heard of the topic may answer with no settings at all, which says nothing about them.
            Ok(Some(config)) if SETTINGS.iter().any(|(name, ..)| config.get(name).is_some()) => break config,
            Err(why) if Instant::now() >= deadline => return Err(why),
            Ok(_) if Instant::now() >= deadline => return Err(options.unreachable("no settings were given")),
            _ => thread::sleep(Duration::from_millis(50)),
        }
    };
    check(options, &config)?;
    begins_at_the_beginning(options, &asker)
}

/// Makes sure that it is there, whatever its settings are.
pub(super) fn exists(options: &Options) -> Result<(), JournalError> {
    let admin: Admin = options.client().create().map_err(|why: KafkaError| JournalError::Options(why.to_string()))?;
    find(options, &asker(options)?, &admin)
}

type Admin = AdminClient<DefaultClientContext>;

/// A consumer without a group: it asks about a topic without creating it.
pub(super) fn asker(options: &Options) -> Result<BaseConsumer, JournalError> {
    let mut config = options.client();
    config.set("allow.auto.create.topics", "false");
    config.create().map_err(|why| JournalError::Options(why.to_string()))
}

/// Finds the topic, with the right number of partitions and enough copies of each.
pub(super) fn find(options: &Options, asker: &BaseConsumer, admin: &Admin) -> Result<(), JournalError> {
    let deadline = Instant::now() + options.patience();
    let mut asked_for = false;
    let (partitions, replicas) = loop {
        let left = deadline.saturating_duration_since(Instant::now()).max(Duration::from_millis(100));
        let metadata = asker.fetch_metadata(Some(&options.topic), left).map_err(|why| options.unreachable(why))?;
        let topic = metadata.topics().iter().find(|topic| topic.name() == options.topic);
        let topic = topic.ok_or_else(|| options.unreachable("they said nothing about the topic"))?;
        let led = topic.partitions().iter().all(|partition| partition.leader() >= 0);
        match topic.error() {
            None if !topic.partitions().is_empty() && led => {
                let replicas = topic.partitions().iter().map(|partition| partition.replicas().len()).min();
                break (topic.partitions().len(), replicas.unwrap_or_default());
            }
            Some(RDKafkaRespErr::RD_KAFKA_RESP_ERR_UNKNOWN_TOPIC_OR_PART) if !asked_for => {
                if !options.create {
                    return Err(refusal(
                        options,
                        "it does not exist, and creating it was not asked for".to_owned(),
                        "Check the brokers' addresses and the topic's name; a new journal is created only on request"
                            .to_owned(),
                    ));
                }
                create(options, admin)?;
                asked_for = true;
            }
            error if Instant::now() >= deadline => {
                let why = error.map_or("a partition has no leader".to_owned(), |error| format!("{error:?}"));
                return Err(options.unreachable(why));
            }
            _ => thread::sleep(Duration::from_millis(50)), // brokers that have just started, a topic that was just created
        }
    };
    if partitions != usize::from(options.shards) {
        let found = u16::try_from(partitions).unwrap_or(u16::MAX);
        return Err(JournalError::WrongShards { found, asked: options.shards });
    }
    if replicas < usize::from(options.replication) {
        return Err(refusal(
            options,
            format!("there are {replicas} copies of some partition, and {} are asked for", options.replication),
            "Add replicas with kafka-reassign-partitions.sh, or ask for fewer and accept that fewer disks may fail"
                .to_owned(),
        ));
    }
    Ok(())
}

fn begins_at_the_beginning(options: &Options, asker: &BaseConsumer) -> Result<(), JournalError> {
    for shard in (0..options.shards).map(ShardId) {
        let (low, _) = ends(options, asker.client(), shard)?;
        if low > 0 {
            return Err(cut(options, &format!("partition {} begins at offset {low}", shard.0)));
        }
    }
    Ok(())
}

/// Where a partition begins and where its durable end is. Right after a topic was created, or a broker has died, whoever is asked
/// may not lead the partition yet, or not any more: that passes.
pub(super) fn ends<C: ClientContext>(
    options: &Options,
    client: &Client<C>,
    shard: ShardId,
) -> Result<(u64, u64), JournalError> {
    let deadline = Instant::now() + options.patience();
    loop {
        match client.fetch_watermarks(&options.topic, shard.0.into(), options.patience()) {
            Ok((low, high)) => return Ok((low as u64, high as u64)),
            Err(why) if Instant::now() >= deadline => return Err(options.unreachable(why)),
            Err(_) => thread::sleep(Duration::from_millis(50)),
        }
    }
}

/// Where the durable ends of these partitions are: one request to each broker that leads some of them.
pub(super) fn ends_of(
    options: &Options,
    consumer: &BaseConsumer,
    shards: impl Iterator<Item = ShardId>,
) -> Result<Vec<(ShardId, u64)>, JournalError> {
    let mut asked = TopicPartitionList::new();
    for shard in shards {
        let asked_for = asked.add_partition_offset(&options.topic, shard.0.into(), Offset::End);
        asked_for.map_err(|why| JournalError::Options(why.to_string()))?;
    }
    if asked.count() == 0 {
        return Ok(Vec::new());
    }
    let deadline = Instant::now() + options.patience();
    loop {
        let answered = consumer.offsets_for_times(asked.clone(), options.patience());
        let ends = answered.and_then(|answered| answered.elements().iter().map(end_in).collect());
        match ends {
            Ok(ends) => return Ok(ends),
            Err(why) if Instant::now() >= deadline => return Err(options.unreachable(why)),
            Err(_) => thread::sleep(Duration::from_millis(50)),
        }
    }
}

fn end_in(answer: &TopicPartitionListElem<'_>) -> Result<(ShardId, u64), KafkaError> {
    answer.error()?;
    match answer.offset() {
        Offset::Offset(end) => Ok((ShardId(answer.partition() as u16), end as u64)),
        _ => Err(KafkaError::OffsetFetch(RDKafkaErrorCode::NoOffset)),
    }
}

/// The oldest records are not there.
pub(super) fn cut(options: &Options, why: &str) -> JournalError {
    refusal(
        options,
        format!("its oldest records are missing ({why})"),
        "The journal is the books: bring the topic back from a copy, and set retention.ms and retention.bytes to -1"
            .to_owned(),
    )
}

fn refusal(options: &Options, why: String, remedy: String) -> JournalError {
    JournalError::Topic { topic: options.topic.clone(), why, remedy }
}

fn create(options: &Options, admin: &Admin) -> Result<(), JournalError> {
    let (min_insync, bytes) = (options.min_insync.to_string(), message_bytes(options).to_string());
    let replication = TopicReplication::Fixed(options.replication.into());
    let mut topic = NewTopic::new(&options.topic, options.shards.into(), replication)
        .set("min.insync.replicas", &min_insync)
        .set("max.message.bytes", &bytes);
    for (name, value, _) in SETTINGS {
        topic = topic.set(name, value);
    }
    let request =
        AdminOptions::new().request_timeout(Some(options.patience())).operation_timeout(Some(options.patience()));
    let created = block_on(admin.create_topics([&topic], &request)).map_err(|why| options.unreachable(why))?;
    match created.into_iter().next() {
        // Another node may have been faster: what it created is looked at like any other.
        Some(Ok(_) | Err((_, RDKafkaErrorCode::TopicAlreadyExists))) => Ok(()),
        Some(Err((_, RDKafkaErrorCode::InvalidReplicationFactor))) => Err(refusal(
            options,
            format!("it cannot be created with {} copies: there are not that many brokers", options.replication),
            "Start more brokers, or ask for a lower replication and accept that fewer disks may fail".to_owned(),
        )),
        Some(Err((_, why))) => Err(refusal(
            options,
            format!("it could not be created ({why})"),
            "Create it by hand with these settings, or give this program the right to".to_owned(),
        )),
        None => Err(options.unreachable("nothing was said about the new topic")),
    }
}

/// The longest Kafka record, in bytes: a record, its header, and what Kafka puts around them.
fn message_bytes(options: &Options) -> usize {
    options.record_bytes_max + (64 << 10)
}

fn check(options: &Options, config: &ConfigResource) -> Result<(), JournalError> {
    let value = |name: &str| config.get(name).and_then(|entry| entry.value.as_deref()).unwrap_or("not set");
    let alter = |name: &str, to: &str| {
        format!("Set it with kafka-configs.sh --alter --topic {} --add-config {name}={to}", options.topic)
    };
    for (name, right, otherwise) in SETTINGS {
        if value(name) != right {
            return Err(refusal(options, format!("{name} is {}: {otherwise}", value(name)), alter(name, right)));
        }
    }
    for (name, least, otherwise) in [
        ("min.insync.replicas", usize::from(options.min_insync), "a record could be durable on too few disks"),
        ("max.message.bytes", message_bytes(options), "long records would be refused"),
    ] {
        if value(name).parse::<usize>().unwrap_or_default() < least {
            let why = format!("{name} is {}, less than {least}: {otherwise}", value(name));
            return Err(refusal(options, why, alter(name, &least.to_string())));
        }
    }
    Ok(())
}

/// Waits for what the client library does on a thread of its own.
fn block_on<F: Future>(future: F) -> F::Output {
    struct Unpark(Thread);
    impl Wake for Unpark {
        fn wake(self: Arc<Self>) {
            self.0.unpark();
        }
    }
    let waker = Waker::from(Arc::new(Unpark(thread::current())));
    let mut future = pin!(future);
    loop {
        match future.as_mut().poll(&mut Context::from_waker(&waker)) {
            Poll::Ready(output) => return output,
            Poll::Pending => thread::park(),
        }
    }
}

#[cfg(test)]
mod tests {
    use rdkafka::admin::{ConfigEntry, ConfigSource, OwnedResourceSpecifier};

    use super::super::{
        KafkaJournal,
        tests::{brokers, options, raw},
    };
    use super::*;

    /// The settings of a topic that is as it should be, but for one.
    fn described(options: &Options, but: (&str, Option<&str>)) -> ConfigResource {
        let (min_insync, bytes) = (options.min_insync.to_string(), message_bytes(options).to_string());
        let derived = [("min.insync.replicas", min_insync.as_str()), ("max.message.bytes", bytes.as_str())];
        let all = SETTINGS.iter().map(|(name, value, _)| (*name, *value)).chain(derived);
        let entries = all.map(|(name, value)| ConfigEntry {
            name: name.to_owned(),
            value: if name == but.0 { but.1.map(str::to_owned) } else { Some(value.to_owned()) },
            source: ConfigSource::DynamicTopic,
            is_read_only: false,
            is_default: false,
            is_sensitive: false,
        });
        let specifier = OwnedResourceSpecifier::Topic(options.topic.clone());
        ConfigResource { specifier, entries: entries.collect() }
    }

    #[test]
    fn settings_that_would_lose_records_are_refused_with_the_remedy() {
        let options = Options::new("unused:9092", "rehearsal");
        check(&options, &described(&options, ("", None))).expect("as it should be");
        for (name, value, right) in [
            ("cleanup.policy", "compact", "delete"),
            ("cleanup.policy", "compact,delete", "delete"),
            ("retention.ms", "604800000", "-1"),
            ("retention.bytes", "1073741824", "-1"),
            ("unclean.leader.election.enable", "true", "false"),
            ("min.insync.replicas", "1", "2"),
            ("max.message.bytes", "1048588", "4259840"),
        ] {
            for value in [Some(value), None] {
                let error = check(&options, &described(&options, (name, value))).expect_err(name).to_string();
                assert!(error.contains(name) && error.contains(value.unwrap_or("not set")), "{error}");
                assert!(error.ends_with(&format!("--add-config {name}={right}")), "{error}");
            }
        }
    }

    #[test]
    fn brokers_that_do_not_answer_are_named_after_a_while() {
        let mut options = Options::new("127.0.0.1:1", "rehearsal");
        options.patience_ms = 500;
        let error = KafkaJournal::open(options).err().expect("nobody listens there");
        assert!(matches!(&error, JournalError::Unreachable { brokers, .. } if brokers == "127.0.0.1:1"), "{error}");
    }

    fn refused(options: &Options) -> String {
        KafkaJournal::open(options.clone()).err().expect("is refused").to_string()
    }

    #[test]
    fn topics_that_are_no_journal_of_this_cluster() {
        let Some((brokers, _alone)) = brokers("topics_that_are_no_journal_of_this_cluster") else { return };
        let mut missing = options(&brokers);
        missing.create = false;
        let said = refused(&missing);
        assert!(said.contains("does not exist") && said.contains("created only on request"), "{said}");

        let mut many = options(&brokers);
        many.replication = 100;
        let said = refused(&many);
        assert!(said.contains("not that many brokers"), "{said}");

        // What it creates, it accepts, and it is what it checks for.
        let ours = options(&brokers);
        drop(KafkaJournal::open(ours.clone()).expect("opens"));
        let mut fewer = ours.clone();
        fewer.replication = 4;
        let said = refused(&fewer);
        assert!(said.contains("copies of some partition, and 4 are asked for"), "{said}");
        let mut theirs = ours.clone();
        theirs.cluster = "festival".to_owned();
        let said = refused(&theirs);
        assert!(said.contains("another cluster's log"), "{said}");

        // Somebody else writes into it, or a newer program.
        raw(&ours, 1, &[(&[b"TGKJ".as_slice(), &[2, 1]].concat(), b"")]);
        let said = refused(&ours);
        assert!(said.contains("partition 1") && said.contains("start the newer program"), "{said}");
        let strange = options(&brokers);
        drop(KafkaJournal::open(strange.clone()).expect("opens"));
        raw(&strange, 2, &[(b"", b"hello")]);
        let said = refused(&strange);
        assert!(said.contains("something else writes into this topic"), "{said}");

        // Somebody has made room.
        let cut = options(&brokers);
        drop(KafkaJournal::open(cut.clone()).expect("opens"));
        let admin: Admin = cut.client().create().expect("a client");
        let mut before = TopicPartitionList::new();
        before.add_partition_offset(&cut.topic, 3, Offset::Offset(1)).expect("an offset");
        block_on(admin.delete_records(&before, &AdminOptions::new())).expect("deletes");
        let said = refused(&cut);
        assert!(said.contains("partition 3 begins at offset 1") && said.contains("retention.ms"), "{said}");
    }
}
