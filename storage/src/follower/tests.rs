use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use super::*;
use crate::journal::Records;
use crate::projector::Folding;
use crate::testing::faults::{Chance, FaultDisk, Faults};
use crate::testing::night::{Night, Part, SHARDS};
use crate::testing::views::Subject as _;
use crate::views::contract::Embedded;

/// A follower unlike read models: it does something about each record at once, which nobody can take back, and keeps its
/// cursor in a file.
struct Letters {
    cursor: CursorFile<FaultDisk>,
    sent: Sent,
}

/// All letters that ever left, by record.
type Sent = Arc<Mutex<Vec<(ShardId, Position)>>>;

impl Letters {
    fn on(disk: &FaultDisk, sent: &Sent) -> Self {
        Self { cursor: CursorFile::on(disk.clone(), "letters"), sent: Arc::clone(sent) }
    }
}

#[derive(Debug, thiserror::Error)]
enum LettersError {
    #[error(transparent)]
    Cursor(#[from] CursorError),
    #[error(transparent)]
    Journal(#[from] JournalError),
    #[error(transparent)]
    Mismatch(#[from] Mismatch),
}

impl Target for Letters {
    type Error = LettersError;
    const THREAD: &'static str = "letters";
    const WHO: &'static str = "letters";
    const CAN_BEGIN_ANEW: bool = false;

    fn followed(&self) -> Result<Option<Followed>, LettersError> {
        Ok(self.cursor.read()?)
    }
    fn add(&mut self, entry: &Entry<'_>) -> Result<Taken, LettersError> {
        self.sent.lock().unwrap().push((entry.shard, entry.position));
        Ok(Taken { events: 1, weight: 1 })
    }
    fn write(&mut self, followed: &Followed) -> Result<(), LettersError> {
        Ok(self.cursor.write(followed)?)
    }
    fn flush(&mut self) -> Result<(), LettersError> {
        Ok(())
    }
}

fn until(what: &str, mut reached: impl FnMut() -> bool) {
    let began = Instant::now();
    while !reached() {
        assert!(began.elapsed() < Duration::from_secs(20), "{what}");
        std::thread::sleep(Duration::from_millis(1));
    }
}

/// Where all records of each shard lie.
fn all_of(night: &Night) -> Vec<Vec<Position>> {
    let mut all = vec![Vec::new(); usize::from(SHARDS)];
    let mut reader = night.journal.reader(&Cursor::start(SHARDS)).unwrap();
    while let Some(entry) = reader.next().unwrap() {
        all[usize::from(entry.shard.0)].push(entry.position);
    }
    all
}

/// At least once and without a gap: of each shard the first letters about its records are in order and complete, and one
/// that comes again is no newer than those that have left. Returns how many came again.
fn at_least_once_and_in_order(sent: &[(ShardId, Position)], all: &[Vec<Position>]) -> usize {
    let mut again = 0;
    for (index, positions) in all.iter().enumerate() {
        let mut left = 0;
        for (_, position) in sent.iter().filter(|(shard, _)| usize::from(shard.0) == index) {
            if positions.get(left) == Some(position) {
                left += 1;
            } else {
                assert!(positions[..left].contains(position), "shard {index}: {position:?} leaves a gap");
                again += 1;
            }
        }
        assert_eq!(left, positions.len(), "shard {index}: each record had its letter");
    }
    again
}

/// Beside the read models, and killed again and again at any operation of its disk: it goes on where it was.
#[test]
fn a_second_follower_that_is_killed_goes_on_where_it_was() {
    let mut repeated = 0;
    for seed in 0..12 {
        let (mut night, mut chance, sent) = (Night::new(seed), Chance(seed), Sent::default());
        let views = Embedded::default().open();
        let mut read_models = Following::begin(&*night.journal, Folding::into(Arc::clone(&views))).unwrap();
        let mut disk = FaultDisk::new();
        let mut kills = 0;
        for _ in 0..12 {
            (0..chance.below(6)).for_each(|_| night.act());
            let mut letters = Following::begin(&*night.journal, Letters::on(&disk, &sent)).unwrap();
            let kept = letters.followed().cursor.clone();
            let already = sent.lock().unwrap().len();
            let crash_at = disk.operations() + 1 + chance.below(24);
            disk.set(Faults { crash_at: Some(crash_at), ..Faults::default() });
            let killed = loop {
                let weight = 1 + chance.below(9) as usize;
                match letters.step(Portion { weight, time: Duration::MAX }) {
                    Ok(step) if step.at_end => break false,
                    Ok(_) => {}
                    Err(why) => {
                        assert!(matches!(why, LettersError::Cursor(CursorError::Io { .. })), "{why}");
                        break true;
                    }
                }
            };
            // It began where its cursor was, and not where the read models are.
            let first = sent.lock().unwrap().get(already).copied();
            assert!(first.is_none_or(|(shard, position)| position >= kept.get(shard)), "seed {seed}");
            kills += usize::from(killed);
            drop(letters);
            disk = disk.restart(chance.draw());
            while !read_models.step(Portion { weight: 40, time: Duration::MAX }).unwrap().at_end {}
        }
        let mut letters = Following::begin(&*night.journal, Letters::on(&disk, &sent)).unwrap();
        while !letters.step(Portion { weight: 50, time: Duration::MAX }).unwrap().at_end {}
        assert_eq!(letters.followed().cursor, night.journal.end());
        assert_eq!(views.followed().unwrap().unwrap().cursor, night.journal.end(), "the read models have their own");
        let again = at_least_once_and_in_order(&sent.lock().unwrap(), &all_of(&night));
        assert!(again <= kills * 9, "seed {seed}: {again} again after {kills} kills, and a batch has at most 9");
        repeated += again;
    }
    assert!(repeated > 0, "what was under way when it was killed comes again");
}

/// The thread: stopped, started again, and kept from its disk for a while.
#[test]
fn a_follower_is_stopped_and_started_and_survives_a_full_disk() {
    let mut night = Night::new(3);
    let (disk, sent, full) = (FaultDisk::new(), Sent::default(), Arc::new(AtomicBool::new(false)));
    let pace = Pace { pause_ms: 1, flush_ms: 5, retry_ms: 1, retry_ms_max: 4 };
    let start = |night: &Night| {
        let (disk, sent, full) = (disk.clone(), Arc::clone(&sent), Arc::clone(&full));
        let open: Open<Letters> = Box::new(move |begin| {
            assert_eq!(begin, Begin::Kept, "letters are never sent anew");
            let room = full.load(Ordering::SeqCst).then_some(0);
            disk.set(Faults { room, ..Faults::default() });
            Ok(Letters::on(&disk, &sent))
        });
        Follower::start(Arc::clone(&night.journal) as _, open, pace).unwrap()
    };
    for _ in 0..3 {
        (0..8).for_each(|_| night.act());
        let before = sent.lock().unwrap().len();
        let follower = start(&night);
        let records = all_of(&night).iter().map(Vec::len).sum::<usize>();
        until("it catches up", || follower.status().lag_records == 0 && follower.status().caught_up);
        assert_eq!(sent.lock().unwrap().len(), records, "after a clean stop nothing comes again");
        assert!(before < records && follower.status().rebuilt == 0);
        follower.stop();
    }
    full.store(true, Ordering::SeqCst);
    let follower = start(&night);
    (0..8).for_each(|_| night.act());
    until("it says what is wrong", || follower.status().fault.is_some_and(|why| why.contains("create letters")));
    full.store(false, Ordering::SeqCst);
    until("it goes on", || follower.status().lag_records == 0 && follower.status().fault.is_none());
    at_least_once_and_in_order(&sent.lock().unwrap(), &all_of(&night));
}

#[test]
fn a_cursor_file_is_the_one_before_or_this_one_whatever_is_cut_off() {
    let followed = |at: u64| Followed {
        cursor: Cursor::of([Position(at), Position(2 * at)]),
        last: Some(LastRecord { shard: ShardId(1), position: Position(2 * at - 1), crc: 7 }),
    };
    for crash_at in 1..=12 {
        for seed in 0..20 {
            let disk = FaultDisk::new();
            let file = CursorFile::on(disk.clone(), "letters");
            assert_eq!(file.read().unwrap(), None);
            disk.set(Faults { crash_at: Some(crash_at), ..Faults::default() });
            let written = (1..=2).take_while(|at| file.write(&followed(*at)).is_ok()).count() as u64;
            let found = CursorFile::on(disk.restart(seed), "letters").read().unwrap();
            let may_be = [written, written + 1].map(|at| (at > 0).then(|| followed(at)));
            assert!(may_be.contains(&found), "operation {crash_at}, seed {seed}: {found:?} after {written}");
        }
    }
}

#[test]
fn a_cursor_file_that_is_damaged_is_no_beginning() {
    let disk = FaultDisk::new();
    let file = CursorFile::on(disk.clone(), "letters");
    file.write(&Followed::nothing(SHARDS)).unwrap();
    let good = disk.contents("letters").unwrap();
    for bit in 0..good.len() * 8 {
        let mut bad = good.clone();
        bad[bit / 8] ^= 1 << (bit % 8);
        disk.put("letters", bad);
        let why = file.read().expect_err("damaged");
        assert!(matches!(why, CursorError::Damaged { .. } | CursorError::NewerVersion { .. }), "bit {bit}: {why}");
    }
    for len in 0..good.len() {
        disk.put("letters", good[..len].to_vec());
        assert!(matches!(file.read(), Err(CursorError::Damaged { .. })), "cut to {len}");
    }
}

/// An older copy of the journal was put back: nobody guesses what that means for what was done already.
#[test]
fn a_journal_that_is_not_the_one_is_told_and_nothing_is_done() {
    let (mut night, sent, disk) = (Night::new(1), Sent::default(), FaultDisk::new());
    (0..5).for_each(|_| night.act());
    let mut letters = Following::begin(&*night.journal, Letters::on(&disk, &sent)).unwrap();
    while !letters.step(Portion { weight: 9, time: Duration::MAX }).unwrap().at_end {}
    let already = sent.lock().unwrap().len();
    let other = Night::new(2);
    let why = Following::begin(&*other.journal, Letters::on(&disk, &sent)).err().expect("refused");
    assert!(matches!(why, LettersError::Mismatch(_)), "{why}");
    assert_eq!(sent.lock().unwrap().len(), already);
}

/// What several nodes keep together: which records were taken in, and how far each shard is.
#[derive(Default)]
struct Together {
    at: Option<Cursor>,
    taken: Vec<(ShardId, Position)>,
}

/// One node's hand on it.
struct Hand {
    together: Arc<Mutex<Together>>,
    from: Cursor,
    batch: Vec<(ShardId, Position)>,
}

#[derive(Debug, thiserror::Error)]
enum HandError {
    #[error("somebody else has written")]
    NotNext,
    #[error(transparent)]
    Journal(#[from] JournalError),
    #[error(transparent)]
    Mismatch(#[from] Mismatch),
}

impl Target for Hand {
    type Error = HandError;
    const THREAD: &'static str = "hand";
    const WHO: &'static str = "hands";
    const CAN_BEGIN_ANEW: bool = false;

    fn followed(&self) -> Result<Option<Followed>, HandError> {
        Ok(self.together.lock().unwrap().at.clone().map(|cursor| Followed { cursor, last: None }))
    }
    fn is_shared(&self) -> bool {
        true
    }
    fn begin(&mut self, from: &Followed) {
        self.from.clone_from(&from.cursor);
        self.batch.clear();
    }
    fn add(&mut self, entry: &Entry<'_>) -> Result<Taken, HandError> {
        self.batch.push((entry.shard, entry.position));
        Ok(Taken { events: 1, weight: 1 })
    }
    fn write(&mut self, followed: &Followed) -> Result<(), HandError> {
        let mut together = self.together.lock().unwrap();
        let mut at = together.at.clone().unwrap_or_else(|| Cursor::start(SHARDS));
        for shard in (0..SHARDS).map(ShardId) {
            let (from, to) = (self.from.get(shard), followed.cursor.get(shard));
            if from != to && at.get(shard) != from {
                return Err(HandError::NotNext);
            }
            if from != to {
                at.advance(shard, to);
            }
        }
        together.at = Some(at);
        together.taken.append(&mut self.batch);
        self.from.clone_from(&followed.cursor);
        Ok(())
    }
    fn flush(&mut self) -> Result<(), HandError> {
        Ok(())
    }
}

/// Two nodes write into one store, each the shards that it has, which change hands while they do; one that has lost a shard
/// may not know it yet.
#[test]
fn nodes_with_one_store_take_in_each_record_once_whoever_has_the_shard() {
    let (mut too_late, mut moved) = (0, 0);
    for seed in 0..20 {
        let (mut night, mut chance, together) = (Night::new(seed), Chance(seed), Arc::<Mutex<Together>>::default());
        for _ in 0..6 {
            (0..chance.below(8)).for_each(|_| night.act());
            let parts = [Part::of(&night), Part::of(&night)];
            let hand = || Hand { together: Arc::clone(&together), from: Cursor::start(SHARDS), batch: Vec::new() };
            (0..SHARDS).for_each(|shard| parts[usize::from(shard % 2)].has(ShardId(shard), true));
            let mut nodes: Vec<_> = parts.iter().map(|part| Following::begin(part, hand()).unwrap()).collect();
            for _ in 0..40 {
                let who = chance.below(2) as usize;
                if chance.below(4) == 0 {
                    let shard = ShardId(chance.below(u64::from(SHARDS)) as u16);
                    parts[who].has(shard, true);
                    parts[1 - who].has(shard, false);
                    moved += 1;
                }
                // Now and then it acts before it has looked.
                if chance.below(3) > 0 && nodes[who].shards_have_moved(&parts[who]) {
                    nodes[who] = Following::begin(&parts[who], hand()).unwrap();
                }
                let portion = Portion { weight: 1 + chance.below(5) as usize, time: Duration::MAX };
                match nodes[who].step(portion) {
                    Ok(_) => nodes[who].observe_others().unwrap(),
                    Err(HandError::NotNext) => {
                        too_late += 1;
                        nodes[who] = Following::begin(&parts[who], hand()).unwrap();
                    }
                    Err(why) => panic!("seed {seed}: {why}"),
                }
            }
            for who in [0, 1] {
                let mut node = Following::begin(&parts[who], hand()).unwrap();
                while !node.step(Portion { weight: 50, time: Duration::MAX }).unwrap().at_end {}
                nodes[who] = node;
            }
            nodes[0].observe_others().unwrap();
            assert_eq!(nodes[0].reached(), night.journal.end(), "seed {seed}: it knows how far the other is");
        }
        let mut taken = together.lock().unwrap().taken.clone();
        taken.sort_unstable();
        let all = all_of(&night).into_iter().enumerate();
        let all = all.flat_map(|(shard, at)| at.into_iter().map(move |at| (ShardId(shard as u16), at)));
        assert_eq!(taken, all.collect::<Vec<_>>(), "seed {seed}");
    }
    assert!(moved > 500 && too_late > 5, "{moved} moves, {too_late} writes that came too late");
}
