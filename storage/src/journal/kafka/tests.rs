//! Real brokers, real processes, real kills. Where `TAPGATE_TEST_KAFKA` names no broker, the tests that need one say so. The
//! library's own mock of a broker answers what a real one says too rarely to be waited for.

use std::{
    collections::{BTreeMap, BTreeSet},
    io::{BufRead as _, BufReader, Write as _},
    process::{Child, ChildStdout, Command, Stdio},
    sync::{
        Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU32, Ordering},
        mpsc,
    },
};

use engine::model::ids::NodeNo;
use rdkafka::{
    mocking::MockCluster,
    producer::DefaultProducerContext,
    types::{RDKafkaApiKey, RDKafkaRespErr},
};

use super::group::{Group, SESSION_MS, look};
use super::offline::Walk;
use super::*;
use crate::journal::ownership::{Fold, Incarnation, Log, Verdict};
use crate::journal::{MEMBER_BYTES_MAX, Member, Position};
use crate::testing::journals::{SHARDS, Subject, suite};

/// The brokers to test with, and the right to do so alone: some tests kill brokers.
pub(super) fn brokers(test: &str) -> Option<(String, MutexGuard<'static, ()>)> {
    static ALONE: Mutex<()> = Mutex::new(());
    let Ok(brokers) = std::env::var("TAPGATE_TEST_KAFKA") else {
        // Past the harness, which keeps to itself what passing tests say.
        let _ = writeln!(std::io::stderr(), "SKIPPED {test}: TAPGATE_TEST_KAFKA names no broker (deploy/servers)");
        return None;
    };
    Some((brokers, ALONE.lock().unwrap_or_else(PoisonError::into_inner)))
}

/// A topic of its own; of three brokers, each has a copy.
pub(super) fn options(brokers: &str) -> Options {
    static TOPICS: AtomicU32 = AtomicU32::new(0);
    let number = TOPICS.fetch_add(1, Ordering::Relaxed);
    let (replication, min_insync) = if brokers.split(',').count() >= 3 { (3, 2) } else { (1, 1) };
    Options {
        topic: format!("tapgate.test.{}.{number}", std::process::id()),
        shards: SHARDS,
        create: true,
        replication,
        min_insync,
        ..Options::new(brokers, "rehearsal")
    }
}

/// Writes what no journal would: keys and values.
pub(super) fn raw(options: &Options, shard: u16, records: &[(&[u8], &[u8])]) {
    let producer: BaseProducer<DefaultProducerContext> = options.producer().create().expect("a client");
    for (key, payload) in records {
        let record = BaseRecord::to(&options.topic).partition(shard.into()).key(*key).payload(*payload);
        producer.send(record).map_err(|(why, _)| why).expect("is taken");
    }
    producer.flush(Duration::from_secs(20)).expect("is written");
}

/// What a shard amounts to, as a stranger reads it from the brokers: where its fold is, and each record with its offset.
fn read_all(options: &Options, shard: u16) -> (Fold, Vec<(u64, Vec<u8>)>) {
    let consumer: BaseConsumer = options.consumer().create().expect("a client");
    let mut partitions = TopicPartitionList::new();
    let from = rdkafka::Offset::Offset(0);
    partitions.add_partition_offset(&options.topic, shard.into(), from).expect("an offset");
    consumer.assign(&partitions).expect("is assigned");
    let (_, end) = topic::ends(options, consumer.client(), ShardId(shard)).expect("answers");
    let (mut fold, mut records) = (Fold::new(ShardId(shard)), Vec::new());
    let began = Instant::now();
    while fold.next_offset() < end {
        assert!(began.elapsed() < Duration::from_secs(30), "stuck at {} of {end}", fold.next_offset());
        let Some(Ok(message)) = consumer.poll(ROUND) else { continue };
        let (key, payload) = (message.key().expect("a header"), message.payload().unwrap_or_default());
        let header = Header::decode(key, payload.len(), Log::of(&options.cluster), ShardId(shard)).expect("reads");
        if fold.step(message.offset() as u64, &header, payload).expect("holds") == Verdict::Record {
            records.push((message.offset() as u64, payload.to_vec()));
        }
    }
    (fold, records)
}

/// A journal on real brokers. What a disk does to a file, another process does here.
struct OnBrokers(Options);

impl Subject for OnBrokers {
    fn open(&mut self, shards: u16, records: usize, sink: Arc<dyn Sink>) -> Result<Box<dyn Journal>, JournalError> {
        let options = Options { shards, queue_records_max: records, ..self.0.clone() };
        Ok(Box::new(KafkaJournal::open(options)?.start(sink)?))
    }

    /// A full disk of a broker's is the broker's to tell.
    fn fill(&mut self) -> bool {
        false
    }

    /// A write that fails costs a shard and not the journal: that has tests of its own.
    fn fail_flush(&mut self) -> bool {
        false
    }

    fn mend(&mut self) {}

    /// Others, who own nothing, have written behind the end: none of it counts.
    fn tear(&mut self, seed: u64) -> bool {
        let shard = (seed % u64::from(SHARDS)) as u16;
        let fold = read_all(&self.0, shard).0;
        let (epoch, incarnation) = (fold.epoch(), Incarnation([7; 16]));
        let (seq, prev_hash) = (fold.next_seq(), fold.chain());
        let strays = [
            Header::Batch { epoch, incarnation, seq, prev_hash },
            Header::Claim { epoch, incarnation },
            Header::Batch { epoch, incarnation: fold.incarnation(), seq: seq + 1, prev_hash },
            Header::Heartbeat { epoch: epoch - 1, incarnation },
        ];
        let keys = strays.each_ref().map(|stray| {
            let mut key = Vec::new();
            stray.encode(Log::of(&self.0.cluster), ShardId(shard), &mut key);
            key
        });
        let values = strays.map(|stray| if matches!(stray, Header::Batch { .. }) { b"stray".as_slice() } else { b"" });
        let records: Vec<(&[u8], &[u8])> = keys.iter().map(Vec::as_slice).zip(values).collect();
        raw(&self.0, shard, &records);
        true
    }
}

#[test]
fn a_journal_on_kafka_keeps_what_every_journal_promises() {
    let Some((brokers, _alone)) = brokers("a_journal_on_kafka_keeps_what_every_journal_promises") else { return };
    let folder = tempfile::tempdir().expect("a folder");
    // Each opening goes on from where the one before had read.
    suite(|| {
        let options = options(&brokers);
        OnBrokers(Options { checkpoint: Some(folder.path().join(&options.topic)), ..options })
    });
}

/// The same on the library's mock, whose topics have no settings: everything but the topic's check.
struct OnMock(Options, MockCluster<'static, DefaultProducerContext>);

impl OnMock {
    fn new() -> Self {
        let mock = MockCluster::new(1).expect("a mock");
        let options = Options { patience_ms: 5_000, ..options(&mock.bootstrap_servers()) };
        mock.create_topic(&options.topic, SHARDS.into(), 1).expect("a topic");
        Self(options, mock)
    }

    fn start(&self, sink: Arc<dyn Sink>) -> KafkaJournal {
        KafkaJournal::open_unchecked(self.0.clone()).expect("opens").start(sink).expect("starts")
    }
}

impl Subject for OnMock {
    fn open(&mut self, shards: u16, records: usize, sink: Arc<dyn Sink>) -> Result<Box<dyn Journal>, JournalError> {
        let options = Options { shards, queue_records_max: records, ..self.0.clone() };
        topic::find(&options, &topic::asker(&options)?, &options.client().create().expect("a client"))?;
        Ok(Box::new(KafkaJournal::open_unchecked(options)?.start(sink)?))
    }

    fn fill(&mut self) -> bool {
        false
    }

    fn fail_flush(&mut self) -> bool {
        false
    }

    fn mend(&mut self) {}

    fn tear(&mut self, seed: u64) -> bool {
        OnBrokers(self.0.clone()).tear(seed)
    }
}

#[test]
fn a_journal_on_a_mock_of_kafka_keeps_what_every_journal_promises() {
    suite(OnMock::new);
}

/// What a sink hears: where a record of a shard is durable, or why the shard is lost.
type News = Result<(ShardId, Position), (ShardId, String)>;

/// Notes everything it is told.
struct Told(Mutex<mpsc::Sender<News>>);

impl Told {
    fn new() -> (Arc<Self>, mpsc::Receiver<News>) {
        let (tell, told) = mpsc::channel();
        (Arc::new(Self(Mutex::new(tell))), told)
    }

    fn tell(&self, what: News) {
        // A test that has seen enough listens no more.
        let _ = self.0.lock().expect("no panic").send(what);
    }
}

impl Sink for Told {
    fn durable(&self, shard: ShardId, count: usize, last: Position, _: &mut Vec<Vec<u8>>) {
        assert_eq!(count, 1);
        self.tell(Ok((shard, last)));
    }

    fn failed(&self, why: &str) {
        self.tell(Err((ALL, why.to_owned())));
    }

    fn lost(&self, shard: ShardId, why: &str) {
        self.tell(Err((shard, why.to_owned())));
    }
}

/// The journal itself has failed.
const ALL: ShardId = ShardId(u16::MAX);

const PATIENCE: Duration = Duration::from_secs(30);

/// A broker that says "I have that already" does not say where; nobody knows then what counts. The shard is lost, the others go
/// on, and whoever claims it goes on with what the log says.
#[test]
fn a_write_of_unknown_fate_costs_its_shard_and_no_other() {
    for error in [
        RDKafkaRespErr::RD_KAFKA_RESP_ERR_DUPLICATE_SEQUENCE_NUMBER,
        RDKafkaRespErr::RD_KAFKA_RESP_ERR_INVALID_PRODUCER_EPOCH,
        RDKafkaRespErr::RD_KAFKA_RESP_ERR_MSG_SIZE_TOO_LARGE,
    ] {
        let mock = OnMock::new();
        let (sink, told) = Told::new();
        let journal = mock.start(sink);
        let durable = |shard: u16, record: &[u8]| {
            journal.append(ShardId(shard), record.to_vec()).expect("there is room");
            let (of, position) = told.recv_timeout(PATIENCE).expect("told").expect("is durable");
            assert_eq!(of, ShardId(shard), "{error:?}");
            position
        };
        assert_eq!(durable(1, b"first"), Position(1), "behind the claim");
        mock.1.request_errors(RDKafkaApiKey::Produce, &[error]);
        journal.append(ShardId(1), b"in doubt".to_vec()).expect("there is room");
        let (shard, why) = told.recv_timeout(PATIENCE).expect("told").expect_err("nothing is acknowledged");
        assert!(shard == ShardId(1) && why.contains("is not known"), "{error:?}: {shard:?}: {why}");
        let refused = journal.append(ShardId(1), b"too soon".to_vec()).expect_err("is lost");
        assert_eq!((refused.reason, refused.record), (Reason::Failed, b"too soon".to_vec()));
        assert_eq!(journal.failure(), None);
        durable(2, b"others go on");
        journal.claim(ShardId(1)).expect("is claimed again");
        durable(1, b"next");
        let mut reader = journal.reader(&Cursor::start(SHARDS)).expect("opens");
        let mut records = Vec::new();
        while let Some(entry) = reader.next().expect("holds") {
            records.extend((entry.shard == ShardId(1)).then(|| entry.payload.to_vec()));
        }
        records.retain(|record| record != b"in doubt"); // or it was written
        assert_eq!(records, [b"first".to_vec(), b"next".to_vec()], "{error:?}");
        journal.close().expect("closes");
    }
}

/// A producer that has seen numbers out of order is dead for good. Another one takes over from what the log says.
#[test]
fn a_dead_producer_is_replaced() {
    let mock = OnMock::new();
    let (sink, told) = Told::new();
    let journal = mock.start(sink);
    journal.append(ShardId(1), b"first".to_vec()).expect("there is room");
    told.recv_timeout(PATIENCE).expect("told").expect("is durable");
    mock.1.request_errors(RDKafkaApiKey::Produce, &[RDKafkaRespErr::RD_KAFKA_RESP_ERR_OUT_OF_ORDER_SEQUENCE_NUMBER]);
    journal.append(ShardId(1), b"in doubt".to_vec()).expect("there is room");
    let (shard, _) = told.recv_timeout(PATIENCE).expect("told").expect_err("nothing is acknowledged");
    assert_eq!(shard, ShardId(1));
    journal.claim(ShardId(1)).expect("is claimed again");
    for shard in [1, 2] {
        journal.append(ShardId(shard), b"next".to_vec()).expect("there is room");
        let (of, _) = told.recv_timeout(PATIENCE).expect("told").expect("is durable");
        assert_eq!(of, ShardId(shard));
    }
    journal.close().expect("closes");
}

/// The broker is gone when the journal is closed: that ends, and says that not all was durable.
#[test]
fn closing_does_not_wait_for_ever() {
    let mut mock = OnMock::new();
    mock.0.write_timeout_ms = 1_000;
    let (sink, told) = Told::new();
    let journal = mock.start(sink);
    mock.1.broker_down(1).expect("goes down");
    journal.append(ShardId(0), b"lost".to_vec()).expect("there is room");
    // It may end before the write has timed out, or after.
    let _ = journal.close();
    let (shard, _) = told.recv_timeout(PATIENCE).expect("told").expect_err("nothing was acknowledged");
    assert!([ShardId(0), ALL].contains(&shard));
}

#[test]
fn an_idle_shard_notes_that_it_has_its_owner() {
    let mut idle = OnMock::new();
    idle.0.heartbeat_ms = 100;
    let (sink, told) = Told::new();
    let journal = idle.start(sink);
    let began = Instant::now();
    while read_all(&idle.0, 2).0.next_offset() < 4 {
        assert!(began.elapsed() < PATIENCE, "no heartbeat is written");
    }
    assert_eq!(journal.end(), Cursor::start(SHARDS), "a heartbeat is no record");
    journal.append(ShardId(2), b"awake".to_vec()).expect("there is room");
    let (_, position) = told.recv_timeout(PATIENCE).expect("told").expect("is durable");
    assert!(position.0 >= 4 && journal.end().get(ShardId(2)) == position.next());
    let mut reader = journal.reader(&Cursor::start(SHARDS)).expect("opens");
    assert_eq!(reader.next().expect("holds").expect("is there").payload, b"awake", "and the tail has come to it");
    assert_eq!(journal.records_between(&Cursor::start(SHARDS), &journal.end()), 1);
    assert_eq!(
        journal.claim(ShardId(2)).expect("it is owned"),
        position.next(),
        "claiming what one owns changes nothing"
    );
    journal.close().expect("closes");
}

/// Waits until this is so.
fn until(what: &str, so: impl Fn() -> bool) {
    let began = Instant::now();
    while !so() {
        assert!(began.elapsed() < PATIENCE, "{what}");
        std::thread::sleep(Duration::from_millis(5));
    }
}

/// Every node knows from the log alone who has which shard, and where to find him.
#[test]
fn a_claim_says_whose_it_is() {
    let mut mock = OnMock::new();
    mock.0.heartbeat_ms = 100;
    let member = |node| Some(Member { node: NodeNo(node), peers: format!("n{node}:1"), devices: format!("n{node}:2") });
    let of = |member: &Option<Member>| {
        let (sink, _) = Told::new();
        let options = Options { member: member.clone(), ..mock.0.clone() };
        KafkaJournal::open_unchecked(options).expect("opens").start(sink).expect("starts")
    };
    let owners = |journal: &KafkaJournal| -> Vec<Option<Member>> {
        (0..SHARDS).map(|shard| journal.owner(ShardId(shard)).map(|owner| Member::clone(&owner))).collect()
    };
    let first = of(&member(1));
    assert_eq!(owners(&first), vec![member(1); SHARDS.into()]);
    let beaten = || read_all(&mock.0, 1).0.next_offset() > 2;
    until("no heartbeat is written", beaten);
    assert_eq!(
        (owners(&first), first.epoch(ShardId(1))),
        (vec![member(1); SHARDS.into()], 1),
        "a heartbeat is no news"
    );

    let second = of(&member(2));
    for journal in [&second, &first] {
        until("a claim is not seen", || owners(journal) == vec![member(2); SHARDS.into()]);
        assert!(journal.epoch(ShardId(1)) >= 2, "one more claim, or two if the other's heartbeat came in between");
    }
    // Somebody who is alone, or a program that knew no members; and one who says more than anybody listens to.
    drop(of(&None));
    until("the claim of somebody unknown is not seen", || owners(&first) == vec![None; SHARDS.into()]);
    for value in ["?".repeat(2 * MEMBER_BYTES_MAX), "!".to_owned()] {
        let epoch = first.epoch(ShardId(1)) + 1;
        let mut key = Vec::new();
        let claim = Header::Claim { epoch, incarnation: Incarnation([7; 16]) };
        claim.encode(Log::of(&mock.0.cluster), ShardId(1), &mut key);
        raw(&mock.0, 1, &[(&key, value.as_bytes())]);
        until("a claim is a claim", || first.epoch(ShardId(1)) == epoch);
        assert_eq!((first.owner(ShardId(1)), first.failure()), (None, None), "and no damage");
    }
    let unsound = Options { member: Some(Member { node: NodeNo(0), ..member(1).expect("one") }), ..mock.0.clone() };
    assert!(matches!(KafkaJournal::open(unsound).err(), Some(JournalError::Options(why)) if why.contains("number")));
}

/// A journal that owns nothing knows where everything ends; it takes over what it is told to, one or many at once, and nobody
/// notices whose shards those are not.
#[test]
fn single_shards_are_taken_over_beside_the_others() {
    let mock = OnMock::new();
    let member = |node| Some(Member { node: NodeNo(node), peers: format!("n{node}:1"), devices: format!("n{node}:2") });
    let (sink, told) = Told::new();
    let first = Options { member: member(1), ..mock.0.clone() };
    let first = KafkaJournal::open_unchecked(first).expect("opens").start(sink).expect("starts");
    let write = |journal: &KafkaJournal, told: &mpsc::Receiver<News>, shard: u16| {
        journal.append(ShardId(shard), b"record".to_vec()).expect("there is room");
        told.recv_timeout(PATIENCE).expect("told").expect("is durable")
    };
    for shard in 0..SHARDS {
        write(&first, &told, shard);
    }

    let (sink, told_second) = Told::new();
    let second = Options { member: member(2), claim_all: false, ..mock.0.clone() };
    let second = KafkaJournal::open_unchecked(second).expect("opens");
    assert_eq!(second.end(), first.end(), "it has read all of it");
    let second = second.start(sink).expect("starts");
    assert!((0..SHARDS).map(ShardId).all(|shard| !second.owns(shard) && first.owns(shard)));
    assert_eq!(second.append(ShardId(1), b"not yet".to_vec()).expect_err("not its own").reason, Reason::Failed);
    assert_eq!((write(&first, &told, 1).0, second.failure()), (ShardId(1), None), "the owner notices nothing");

    assert_eq!(second.claim(ShardId(1)).expect("is claimed"), first.end().get(ShardId(1)));
    let (shard, why) = told.recv_timeout(PATIENCE).expect("told").expect_err("is lost");
    assert!(shard == ShardId(1) && why.contains("another process"), "{why}");
    until("the others stay where they are", || first.owner(ShardId(1)).is_some_and(|owner| owner.node == NodeNo(2)));
    for shard in (0..SHARDS).map(ShardId) {
        assert_eq!((first.owns(shard), second.owns(shard)), (shard.0 != 1, shard.0 == 1));
    }
    assert_eq!(write(&second, &told_second, 1).0, ShardId(1));
    assert_eq!(write(&first, &told, 0).0, ShardId(0));

    // From several threads at once, as at a start.
    std::thread::scope(|scope| {
        for shard in (0..SHARDS).map(ShardId) {
            let second = &second;
            scope.spawn(move || second.claim(shard).expect("is claimed"));
        }
    });
    assert!((0..SHARDS).map(ShardId).all(|shard| second.owns(shard)));
    for shard in 0..SHARDS {
        assert_eq!(write(&second, &told_second, shard).0, ShardId(shard), "none was lost by claiming another");
    }
    first.close().expect("closes");
    second.close().expect("closes");
}

/// Three nodes share the shards out; whoever leaves, or is killed, leaves his to the others; what does not move stays.
#[test]
fn a_group_shares_shards_out_among_whoever_is_there() {
    let Some((brokers, _alone)) = brokers("a_group_shares_shards_out_among_whoever_is_there") else { return };
    let options = options(&brokers);
    drop(KafkaJournal::open(options.clone()).expect("creates the topic"));
    let options = Options { cluster: options.topic.clone(), ..options };
    let (notify, changes) = mpsc::channel();
    let join = |node: u32| {
        let member = Member { node: NodeNo(node), peers: format!("n{node}:1"), devices: format!("n{node}:2") };
        let notify = Mutex::new(notify.clone());
        let changed = move || notify.lock().expect("no panic").send(node).unwrap_or_default();
        Group::join(&Options { member: Some(member), ..options.clone() }, SESSION_MS, changed).expect("joins")
    };
    let all: BTreeSet<ShardId> = (0..SHARDS).map(ShardId).collect();
    let first = join(1);
    until("one node has all", || first.assigned() == all);
    assert!(first.has_joined() && changes.try_iter().any(|node| node == 1), "it was told");

    let (second, third) = (join(2), join(3));
    let nodes = [&first, &second, &third];
    let shared_out = |nodes: &[&Group]| {
        let parts: Vec<_> = nodes.iter().map(|node| node.assigned()).collect();
        let (least, most) = (all.len() / nodes.len(), all.len().div_ceil(nodes.len()));
        parts.iter().all(|part| (least..=most).contains(&part.len()))
            && parts.iter().map(BTreeSet::len).sum::<usize>() == all.len()
            && parts.iter().flatten().copied().collect::<BTreeSet<_>>() == all
    };
    until("three nodes do not share", || shared_out(&nodes));
    let view = look(&options).expect("answers");
    assert_eq!((view.state.as_str(), view.places), ("Stable", 3));
    assert_eq!(view.nodes, [NodeNo(1), NodeNo(2), NodeNo(3)]);

    // A node that is drained comes back.
    let kept = first.assigned();
    third.want(false);
    until("the others have not all", || third.assigned().is_empty() && shared_out(&[&first, &second]));
    assert!(first.assigned().is_superset(&kept), "what need not move stays");
    third.want(true);
    until("it has not come back", || shared_out(&nodes));

    // One that ends in order is not waited for.
    let began = Instant::now();
    drop(second);
    until("two have not all", || shared_out(&[&first, &third]));
    let _ = writeln!(
        std::io::stderr(),
        "a group of two has all shards of a third {} ms after it left",
        began.elapsed().as_millis()
    );
    drop((first, third));
    assert_eq!(look(&options).expect("answers").places, 0, "each has given up its place");
}

/// The process that the tests below start, pause and kill: it opens the journal, writes without a pause, and says on its
/// standard output what it was told.
#[test]
fn the_other_process() {
    let Ok(topic) = std::env::var("TAPGATE_TEST_OTHER") else { return };
    let Some((brokers, _alone)) = brokers("the_other_process") else { return };
    let (sink, told) = Told::new();
    let options = Options { topic, write_timeout_ms: 2_000, ..options(&brokers) };
    let journal = KafkaJournal::open(options).expect("opens").start(sink).expect("starts");
    let say = |line: String| {
        let mut out = std::io::stdout().lock();
        writeln!(out, "{line}").and_then(|()| out.flush()).expect("somebody listens");
    };
    say("OPEN".to_owned());
    let began = Instant::now();
    let (mut written, mut under_way, mut lost) = (0_u64, [0; SHARDS as usize], 0);
    while began.elapsed() < PATIENCE && lost < SHARDS {
        for shard in 0..SHARDS {
            while under_way[usize::from(shard)] < 4
                && journal.append(ShardId(shard), format!("other {written}").into_bytes()).is_ok()
            {
                written += 1;
                under_way[usize::from(shard)] += 1;
            }
        }
        match told.recv_timeout(PATIENCE).expect("told") {
            Ok((shard, position)) => {
                under_way[usize::from(shard.0)] -= 1;
                say(format!("ACK {} {}", shard.0, position.0));
            }
            Err((shard, why)) => {
                lost += 1;
                say(format!("LOST {} {why}", shard.0));
            }
        }
    }
    // Whatever else it is told would be wrong.
    while let Ok(Ok((shard, position))) = told.recv_timeout(Duration::from_secs(4)) {
        say(format!("ACK {} {}", shard.0, position.0));
    }
}

struct Other {
    child: Child,
    said: std::io::Lines<BufReader<ChildStdout>>,
    acknowledged: Vec<(u16, u64)>,
    lost: BTreeMap<u16, String>,
}

impl Other {
    fn start(topic: &str) -> Self {
        let mut child = Command::new(std::env::current_exe().expect("this test"))
            .args(["--exact", "journal::kafka::tests::the_other_process", "--nocapture"])
            .env("TAPGATE_TEST_OTHER", topic)
            .stdout(Stdio::piped())
            .spawn()
            .expect("starts");
        let said = BufReader::new(child.stdout.take().expect("piped")).lines();
        Self { child, said, acknowledged: Vec::new(), lost: BTreeMap::new() }
    }

    /// Listens until it has been told so much, or to the end.
    fn listen(&mut self, acknowledged: usize) {
        while self.acknowledged.len() < acknowledged {
            let Some(Ok(line)) = self.said.next() else { return };
            let words: Vec<&str> = line.split(' ').collect();
            match words[..] {
                ["ACK", shard, offset] => {
                    let shard = shard.parse().expect("a shard");
                    assert!(!self.lost.contains_key(&shard), "nothing of a lost shard is acknowledged");
                    self.acknowledged.push((shard, offset.parse().expect("an offset")));
                }
                ["LOST", shard, ..] => {
                    self.lost.insert(shard.parse().expect("a shard"), line.clone());
                }
                _ => {} // what the harness says
            }
        }
    }

    fn signal(&self, signal: rustix::process::Signal) {
        let pid = rustix::process::Pid::from_child(&self.child);
        rustix::process::kill_process(pid, signal).expect("it is there");
    }
}

impl Drop for Other {
    fn drop(&mut self) {
        // It may have ended by itself.
        let _ = (self.child.kill(), self.child.wait());
    }
}

/// Opens the journal here and writes so many records to each shard; gives where they lie. What an earlier owner had under way may
/// still arrive, and cost a shard: then it is claimed again.
pub(super) fn take_over(options: &Options, each: usize) -> Vec<(u16, u64)> {
    let (sink, told) = Told::new();
    let journal = KafkaJournal::open(options.clone()).expect("opens").start(sink).expect("starts");
    let (mut written, mut left, mut acknowledged) = (0, [each; SHARDS as usize], Vec::new());
    let mut write = |shard: u16, count: usize| {
        for _ in 0..count {
            written += 1;
            // If it is lost in between, that is told.
            let _ = journal.append(ShardId(shard), format!("ours {written}").into_bytes());
        }
    };
    (0..SHARDS).for_each(|shard| write(shard, each));
    while left.iter().any(|left| *left > 0) {
        match told.recv_timeout(PATIENCE).expect("told") {
            Ok((shard, position)) => {
                left[usize::from(shard.0)] -= 1;
                acknowledged.push((shard.0, position.0));
            }
            Err((shard, _)) => {
                journal.claim(shard).expect("is claimed again");
                write(shard.0, left[usize::from(shard.0)]);
            }
        }
    }
    journal.close().expect("closes");
    acknowledged
}

/// Every acknowledged record is in the fold, where it was said to be, and no two are the same.
fn all_counts(options: &Options, acknowledged: &[(u16, u64)]) {
    let mut places = BTreeMap::<u16, Vec<u64>>::new();
    acknowledged.iter().for_each(|(shard, offset)| places.entry(*shard).or_default().push(*offset));
    for (shard, mut offsets) in places {
        let records = read_all(options, shard).1;
        let count = offsets.len();
        offsets.sort_unstable();
        offsets.dedup();
        assert_eq!(offsets.len(), count, "shard {shard}: one place was acknowledged twice");
        for offset in offsets {
            assert!(
                records.iter().any(|(at, _)| *at == offset),
                "shard {shard}: what was acknowledged at {offset} is lost"
            );
        }
        let mut contents: Vec<&Vec<u8>> = records.iter().map(|(_, record)| record).collect();
        contents.sort_unstable();
        contents.dedup();
        assert_eq!(contents.len(), records.len(), "shard {shard}: something is there twice");
    }
}

#[test]
fn an_audit_reads_all_that_counts_and_ends_where_damage_begins() {
    let Some((brokers, _alone)) = brokers("an_audit_reads_all_that_counts_and_ends_where_damage_begins") else {
        return;
    };
    let options = options(&brokers);
    let acknowledged = take_over(&options, 20);
    // Somebody who was never the owner: it does not count, and is no damage.
    let stray = Header::Batch { epoch: 9, incarnation: Incarnation([9; 16]), seq: 21, prev_hash: [0; 16] };
    let mut key = Vec::new();
    stray.encode(Log::of(&options.cluster), ShardId(1), &mut key);
    raw(&options, 1, &[(&key, b"stray")]);
    let walk = || {
        let mut walk = Walk::begin(&options).expect("begins");
        let (mut records, mut damage) = (Vec::new(), Vec::new());
        loop {
            match walk.next_record() {
                Ok(None) => break,
                Ok(Some(entry)) => records.push((entry.shard.0, entry.position.0)),
                Err(JournalError::Damaged { offset, .. }) => damage.push(offset),
                Err(other) => panic!("{other}"),
            }
        }
        records.sort_unstable();
        (records, damage, walk.chains().collect::<Vec<_>>())
    };
    let mut expected = acknowledged;
    expected.sort_unstable();
    let chains: Vec<_> = (0..SHARDS).map(|shard| read_all(&options, shard).0.chain()).collect();
    assert_eq!(walk(), (expected.clone(), Vec::new(), chains.clone()));

    // The owner's last number once more, with other contents.
    let (fold, _) = read_all(&options, 2);
    let (epoch, incarnation, seq) = (fold.epoch(), fold.incarnation(), fold.next_seq() - 1);
    key.clear();
    let forged = Header::Batch { epoch, incarnation, seq, prev_hash: [0; 16] };
    forged.encode(Log::of(&options.cluster), ShardId(2), &mut key);
    raw(&options, 2, &[(&key, b"forged")]);
    assert_eq!(walk(), (expected, vec![fold.next_offset()], chains));
}

#[test]
fn a_second_process_takes_the_shards_over() {
    let Some((brokers, _alone)) = brokers("a_second_process_takes_the_shards_over") else { return };
    let options = options(&brokers);
    drop(KafkaJournal::open(options.clone()).expect("creates the topic"));
    let mut other = Other::start(&options.topic);
    other.listen(400);
    assert_eq!(other.acknowledged.len(), 400);
    let ours = take_over(&options, 100);
    other.listen(usize::MAX);
    assert_eq!(other.lost.len(), usize::from(SHARDS), "it has heard");
    assert!(other.lost.values().all(|why| why.contains("another process")), "{:?}", other.lost);
    all_counts(&options, &[other.acknowledged.clone(), ours].concat());
}

/// It wakes up before its writes have timed out, and after.
#[test]
fn a_process_that_was_paused_wakes_up_and_acknowledges_nothing() {
    let Some((brokers, _alone)) = brokers("a_process_that_was_paused_wakes_up_and_acknowledges_nothing") else {
        return;
    };
    for paused in [Duration::from_millis(500), Duration::from_secs(4)] {
        let options = options(&brokers);
        drop(KafkaJournal::open(options.clone()).expect("creates the topic"));
        let mut other = Other::start(&options.topic);
        other.listen(400);
        let began = Instant::now();
        other.signal(rustix::process::Signal::STOP);
        let ours = take_over(&options, 50);
        let first = |shard: u16| ours.iter().filter(|(of, _)| *of == shard).map(|(_, at)| *at).min().expect("some");
        let firsts: Vec<u64> = (0..SHARDS).map(first).collect();
        std::thread::sleep(paused.saturating_sub(began.elapsed()));
        other.signal(rustix::process::Signal::CONT);
        other.listen(usize::MAX);
        assert_eq!(other.lost.len(), usize::from(SHARDS), "it has heard");
        for (shard, offset) in &other.acknowledged {
            assert!(*offset < firsts[usize::from(*shard)], "shard {shard}: acknowledged at {offset} by a zombie");
        }
        all_counts(&options, &[other.acknowledged.clone(), ours].concat());
    }
}

/// What starts and kills brokers, if it was this that has started these.
fn servers(test: &str, brokers: &str) -> Option<impl Fn(&str)> {
    let script = concat!(env!("CARGO_MANIFEST_DIR"), "/../deploy/servers");
    let status = Command::new(script).arg("status").output().ok();
    let status = status.map(|status| String::from_utf8_lossy(&status.stdout).into_owned()).unwrap_or_default();
    let first = brokers.split(',').next().unwrap_or_default();
    if !status.lines().any(|line| line.starts_with("kafka1") && line.contains(first)) {
        let _ = writeln!(std::io::stderr(), "SKIPPED {test}: deploy/servers has not started these brokers");
        return None;
    }
    Some(move |what: &str| {
        let done = Command::new(script).args([what, "kafka1"]).stdout(Stdio::null()).status().expect("runs");
        assert!(done.success(), "deploy/servers {what}");
    })
}

/// A broker dies while records are under way. If it is the only one, it comes back: once before a write may have failed, once
/// after. If there are others, they go on without it.
#[test]
fn a_broker_that_is_killed_loses_nothing_and_doubles_nothing() {
    const NAME: &str = "a_broker_that_is_killed_loses_nothing_and_doubles_nothing";
    let Some((brokers, _alone)) = brokers(NAME) else { return };
    let Some(servers) = servers(NAME, &brokers) else { return };
    let alone = options(&brokers).replication == 1;
    for write_timeout_ms in [60_000, 1_500] {
        if write_timeout_ms < 5_000 && !alone {
            continue;
        }
        let options = Options { write_timeout_ms, ..options(&brokers) };
        let (sink, told) = Told::new();
        let journal = KafkaJournal::open(options.clone()).expect("opens").start(sink).expect("starts");
        let (mut written, mut acknowledged, mut lost) = (0_u64, Vec::new(), BTreeMap::new());
        let mut write = |until: usize, acknowledged: &mut Vec<(u16, u64)>| {
            while acknowledged.len() < until && lost.len() < usize::from(SHARDS) {
                while written < acknowledged.len() as u64 + 64 {
                    let shard = ShardId((written % u64::from(SHARDS)) as u16);
                    if journal.append(shard, format!("record {written}").into_bytes()).is_err() {
                        break;
                    }
                    written += 1;
                }
                match told.recv_timeout(PATIENCE * 3).expect("told") {
                    Ok((shard, position)) => acknowledged.push((shard.0, position.0)),
                    Err((shard, why)) => assert_eq!(lost.insert(shard, why), None, "told once"),
                }
            }
            lost.clone()
        };
        write(500, &mut acknowledged);
        servers("kill");
        if write_timeout_ms < 5_000 {
            let lost = write(usize::MAX, &mut acknowledged);
            assert!(lost.values().all(|why| why.contains("is not known")), "{lost:?}");
            servers("start");
            for shard in (0..SHARDS).map(ShardId) {
                journal.claim(shard).expect("is claimed again");
                journal.append(shard, b"back".to_vec()).expect("there is room");
                let (of, position) = told.recv_timeout(PATIENCE).expect("told").expect("is durable");
                assert_eq!(of, shard);
                acknowledged.push((shard.0, position.0));
            }
        } else {
            if alone {
                std::thread::sleep(Duration::from_secs(1));
                servers("start");
            }
            assert_eq!(write(1_500, &mut acknowledged), BTreeMap::new(), "it goes on by itself");
            if !alone {
                servers("start");
            }
        }
        drop(journal);
        let ours = take_over(&options, 5);
        all_counts(&options, &[acknowledged, ours].concat());
    }
}
