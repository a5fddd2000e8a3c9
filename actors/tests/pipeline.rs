//! A shard's way from commands to answers, step by step: what leaves at once, and what waits for its record.

mod common;

use actors::pipeline::{Effect, Pipeline, Stepped, Work};
use common::*;
use engine::command::{AdminAction, AdminAnswer, AdminCommand, Answer, Command};
use engine::model::ids::{DeviceId, FestivalId, ShardId, TicketId};
use engine::model::principal::Principal;
use engine::model::status::{Policy, ScanAck};
use engine::model::time::Timestamp;
use engine::shard::{Shard, Step};

const DECIDED: Policy = Policy { ack: ScanAck::Decided, ..DURABLE };
const DURABLE: Policy =
    Policy { entry: engine::model::status::EntryPolicy::SingleEntry, ack: ScanAck::Durable, log_one_rejection_in: 1 };

/// One shard with a festival, driven by hand.
struct Gate {
    pipeline: Pipeline<&'static str>,
    festival: FestivalId,
    device: DeviceId,
    tickets: Vec<TicketId>,
    scanned: usize,
    now: Timestamp,
}

/// What one step has told: scans at once, and whether a record is on its way.
#[derive(Debug, PartialEq)]
struct Told {
    early: usize,
    record: bool,
}

impl Gate {
    fn with(policy: Policy) -> Self {
        let mut shard = Shard::new(ShardId(0), 1);
        let mut step = Step::default();
        let made = found(2_000, policy, |action| {
            let command = AdminCommand { key: None, by: Principal::Installation, action };
            shard.step(Timestamp(1), &[Command::Admin(Box::new(command))], &mut step);
            match step.answers[0] {
                Answer::Admin { answer, .. } => answer,
                other => panic!("{other:?}"),
            }
        });
        let (festival, device, tickets) = made;
        Self { pipeline: Pipeline::new(shard), festival, device, tickets, scanned: 0, now: Timestamp(1_000) }
    }

    /// A reader's next read: so many scans.
    fn scans(&mut self, count: usize) -> &mut Self {
        let new = self.scanned..self.scanned + count;
        let commands = new.map(|n| scan(self.device, n as u64 + 1, self.tickets[n])).collect();
        self.scanned += count;
        self.pipeline.take(Work::Device(commands), "reader");
        self
    }

    fn policy(&mut self, policy: Policy) -> &mut Self {
        let action = AdminAction::SetPolicy { festival: self.festival, policy };
        self.pipeline
            .take(Work::Admin(Box::new(AdminCommand { key: None, by: Principal::Installation, action })), "office");
        self
    }

    fn step(&mut self) -> Told {
        let (record, now) = match self.pipeline.step(self.now, Vec::new()) {
            Stepped::Record(_, now) => (true, now),
            Stepped::Nothing(now) => (false, now),
            Stepped::Panicked => panic!("a step panicked"),
        };
        Told { early: scans_in(&now, false), record }
    }

    /// The oldest record is durable: scans that are answered now, and those that are confirmed.
    fn durable(&mut self) -> (usize, usize) {
        let releases = self.pipeline.durable();
        let confirmed =
            releases.iter().map(|release| if let Effect::Confirmed { seqs, .. } = release { seqs.len() } else { 0 });
        (scans_in(&releases, true), confirmed.sum())
    }
}

fn scans_in(releases: &[Effect<&'static str>], durable: bool) -> usize {
    let replies = releases.iter().filter_map(|release| match release {
        Effect::Device { replies, .. } => Some(replies),
        _ => None,
    });
    replies.flatten().inspect(|reply| assert_eq!(reply.durable, durable)).count()
}

fn early(early: usize) -> Told {
    Told { early, record: true }
}

#[test]
fn a_durable_festivals_answers_wait_for_their_record() {
    let mut gate = Gate::with(DURABLE);
    assert_eq!(gate.scans(10).scans(5).step(), early(0));
    assert_eq!(gate.durable(), (15, 0));
}

/// A crash may cost 256 scans a shard, over all that is under way; it was nearly twice as many.
#[test]
fn no_more_than_256_are_unconfirmed() {
    let mut gate = Gate::with(DECIDED);
    assert_eq!(gate.scans(255).step(), early(255));
    // The next step knows how many are left, not only that there are some.
    assert_eq!(gate.scans(256).step(), early(0), "it had been 511");
    assert_eq!(gate.durable(), (0, 255));
    assert_eq!(gate.scans(256).step(), early(256), "to the last");
    assert_eq!(gate.durable(), (256, 0), "the second step's");
    assert_eq!(gate.scans(1).step(), early(0), "none is left");
    assert_eq!((gate.durable(), gate.durable()), ((0, 256), (1, 0)));
    // Within one step as well: who still fits is told at once, in whatever order they come.
    assert_eq!(gate.scans(200).scans(100).scans(56).scans(1).step(), early(256));
    assert_eq!(gate.durable(), (101, 256));
    assert_eq!(gate.scans(257).step(), early(0), "a read is told in one go, or not");
    assert_eq!(gate.durable(), (257, 0));
}

/// Who is not told before the disk has it need not be decided before the disk has room; who is told early must be.
#[test]
fn a_decision_that_is_told_early_does_not_wait_for_the_disk() {
    let mut durable = Gate::with(DURABLE);
    assert_eq!((durable.scans(1).step(), durable.scans(1).step()), (early(0), early(0)));
    assert!(!durable.scans(1).pipeline.is_ready(), "one record at the disk, one behind it");

    let mut gate = Gate::with(DECIDED);
    for _ in 0..60 {
        assert!(gate.scans(4).pipeline.is_ready());
        assert_eq!(gate.step(), early(4));
    }
    assert!(!gate.scans(17).pipeline.is_ready(), "240 are unconfirmed, and 17 more would be too many");
    assert_eq!(gate.durable(), (0, 4));
    assert!(gate.pipeline.is_ready());

    let mut gate = Gate::with(DECIDED);
    for _ in 0..64 {
        assert_eq!(gate.scans(1).step(), early(1));
    }
    assert!(!gate.scans(1).pipeline.is_ready(), "so many records, however small");
    let mut gate = Gate::with(DECIDED);
    assert_eq!((gate.scans(1).step(), gate.scans(1).step()), (early(1), early(1)));
    assert!(!gate.policy(DURABLE).pipeline.is_ready(), "the office waits as ever");
}

/// While the disk is slow nothing more is told early.
#[test]
fn who_waits_for_50_ms_is_waited_for() {
    let mut gate = Gate::with(DECIDED);
    assert_eq!(gate.scans(1).step(), early(1));
    gate.now = gate.now.plus_ms(49);
    assert_eq!(gate.scans(1).step(), early(1));
    assert_eq!(gate.durable(), (0, 1));
    gate.now = gate.now.plus_ms(49);
    assert_eq!(gate.scans(1).step(), early(1), "the oldest is 49 ms old");
    assert_eq!(gate.durable(), (0, 1));
    gate.now = gate.now.plus_ms(50);
    assert_eq!(gate.scans(1).step(), early(0));
    assert_eq!((gate.durable(), gate.durable()), ((0, 1), (1, 0)));
    assert_eq!(gate.scans(1).step(), early(1));
}

/// That a shown answer stands is written in the policy. Told before the policy is durable, a crash would take both: the
/// reader would ask again, and be refused what it has shown.
#[test]
fn nothing_is_told_early_on_the_word_of_a_policy_that_is_not_durable() {
    let mut gate = Gate::with(DURABLE);
    // In one step, in the steps behind it, until it is on disk.
    assert_eq!(gate.policy(DECIDED).scans(3).step(), early(0));
    assert_eq!(gate.scans(4).step(), early(0));
    assert_eq!(gate.durable(), (3, 0));
    assert_eq!(gate.scans(5).step(), early(5), "now it stands");
    assert_eq!((gate.durable(), gate.durable()), ((4, 0), (0, 5)));
    // Back again: at once, since the shard knows better than the disk.
    assert_eq!(gate.scans(6).policy(DURABLE).scans(7).step(), early(0));
    assert_eq!(gate.durable(), (13, 0));
}

/// The office is told nothing early, whatever the gates do.
#[test]
fn the_office_waits_for_its_record() {
    let mut gate = Gate::with(DECIDED);
    gate.policy(Policy { log_one_rejection_in: 2, ..DECIDED });
    assert_eq!(gate.step(), early(0));
    let releases = gate.pipeline.durable();
    let done = |release: &Effect<_>| matches!(release, Effect::Admin { to: "office", answer: AdminAnswer::Done, .. });
    assert_eq!(releases.iter().filter(|release| done(release)).count(), 1, "{releases:?}");
}
