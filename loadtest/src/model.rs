//! What must be answered, and whether it was.
//!
//! Each ticket belongs to one reader of the load test, and at most one scan of it is under way at any time. So the state
//! a ticket is in when its scan is sent is the state in which it is decided, and the answer is known beforehand, down to
//! its flags. What many readers share, the occupancy, is bounded here and compared exactly once the run is over.

use engine::gates::command::{CONFLICT, DeviceAnswer, FIRST_ENTRY, Verdict, WAS_NOT_INSIDE};
use engine::model::credential::QrClaim;
use engine::model::ids::ZoneNo;
use engine::model::rejection::Rejection;

/// What is held to the reader, and which way its holder wants to go.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Attempt {
    /// A good QR, inwards. Of somebody who is inside already it is `already_inside`.
    Enter,
    /// A good QR, outwards.
    Exit,
    /// A QR in whose signature a bit is wrong.
    Forged,
    /// A QR that was cut off in the middle.
    CutOff,
}

/// Where a ticket's holder is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Presence {
    /// Has never been inside.
    New,
    /// Is inside.
    Inside,
    /// Was inside, and has left.
    Outside,
}

/// One ticket.
#[derive(Clone, Debug)]
pub struct Visitor {
    pub claim: QrClaim,
    /// Its category does not let it into the reader's zone.
    pub stranger: bool,
    /// Where its holder is, as far as answers say.
    pub presence: Presence,
    /// A scan of it is under way.
    pub under_way: bool,
}

impl Visitor {
    /// Somebody who has not come yet.
    pub fn new(claim: QrClaim, stranger: bool) -> Self {
        Self { claim, stranger, presence: Presence::New, under_way: false }
    }

    /// What a scan must be answered: the verdict, its flags, and whether the ticket is named.
    fn expected(&self, attempt: Attempt) -> (Verdict, u8, bool) {
        let rejected = |rejection, named| (Verdict::Rejected(rejection), 0, named);
        match (attempt, self.presence) {
            (Attempt::Forged, _) => rejected(Rejection::TamperedQr, false),
            (Attempt::CutOff, _) => rejected(Rejection::InvalidQr, false),
            (Attempt::Exit, Presence::Inside) => (Verdict::Exited, 0, true),
            (Attempt::Exit, _) => (Verdict::Exited, WAS_NOT_INSIDE, true),
            (Attempt::Enter, _) if self.stranger => rejected(Rejection::ZoneDenied, true),
            (Attempt::Enter, Presence::Inside) => rejected(Rejection::AlreadyInside, true),
            (Attempt::Enter, Presence::New) => (Verdict::Admitted, FIRST_ENTRY, true),
            (Attempt::Enter, Presence::Outside) => (Verdict::Admitted, 0, true),
        }
    }
}

/// What the answers of one reader, or of all, add up to.
#[derive(Clone, Debug)]
pub struct Tally {
    /// Scans that got their answer.
    pub answered: u64,
    /// Entries.
    pub admitted: u64,
    /// Exits, also of those who were not inside.
    pub exited: u64,
    /// Exits of those who were inside.
    pub left: u64,
    pub rejected: [u64; Rejection::NUMBERS],
    /// Answers other than the one that was due, to scans nobody made, or twice and not the same.
    pub wrong: u64,
    /// Entries of somebody who was inside already.
    pub double_admitted: u64,
    /// Answers that stood although the shard would have decided otherwise.
    pub conflicts: u64,
    /// The first wrong answers, in words: at most [`EXPLAINED_MAX`].
    pub explained: Vec<String>,
}

/// How many wrong answers are kept in words.
pub const EXPLAINED_MAX: usize = 5;

impl Default for Tally {
    fn default() -> Self {
        Self {
            answered: 0,
            admitted: 0,
            exited: 0,
            left: 0,
            rejected: [0; Rejection::NUMBERS],
            wrong: 0,
            double_admitted: 0,
            conflicts: 0,
            explained: Vec::new(),
        }
    }
}

impl Tally {
    /// Counts a wrong answer; the first few are kept in words.
    pub fn wrong(&mut self, explain: impl FnOnce() -> String) {
        self.wrong += 1;
        if self.explained.len() < EXPLAINED_MAX {
            self.explained.push(explain());
        }
    }

    /// Adds another reader's.
    pub fn add(&mut self, other: &Self) {
        self.answered += other.answered;
        self.admitted += other.admitted;
        self.exited += other.exited;
        self.left += other.left;
        self.rejected.iter_mut().zip(other.rejected).for_each(|(sum, more)| *sum += more);
        self.wrong += other.wrong;
        self.double_admitted += other.double_admitted;
        self.conflicts += other.conflicts;
        let room = EXPLAINED_MAX.saturating_sub(self.explained.len());
        self.explained.extend(other.explained.iter().take(room).cloned());
    }
}

/// The tickets of one reader.
#[derive(Clone, Debug)]
pub struct Model {
    pub visitors: Vec<Visitor>,
    /// The zone the reader stands at.
    pub zone: ZoneNo,
    /// No zone can hold more people than there are tickets, all readers together.
    pub occupancy_max: u32,
    /// What has been answered.
    pub tally: Tally,
}

impl Model {
    /// The tickets of a reader at this zone.
    pub fn new(visitors: Vec<Visitor>, zone: ZoneNo, occupancy_max: u32) -> Self {
        Self { visitors, zone, occupancy_max, tally: Tally::default() }
    }

    /// How many of these people are inside.
    pub fn inside(&self) -> u64 {
        self.visitors.iter().filter(|visitor| visitor.presence == Presence::Inside).count() as u64
    }

    /// The first answer to a scan: compares it with what is due, and follows it.
    pub fn answered(&mut self, visitor: usize, attempt: Attempt, seq: u64, answer: &DeviceAnswer) {
        let Self { visitors, zone, occupancy_max, tally } = self;
        let visitor = &mut visitors[visitor];
        tally.answered += 1;
        let (verdict, flags, named) = visitor.expected(attempt);
        let ticket = named.then_some(visitor.claim.ticket);
        let conflict = answer.flags & CONFLICT != 0;
        if conflict {
            tally.conflicts += 1;
        } else {
            let occupancy_holds =
                answer.occupancy <= *occupancy_max && (answer.verdict != Verdict::Admitted || answer.occupancy > 0);
            let as_due = (answer.verdict, answer.flags, answer.ticket) == (verdict, flags, ticket)
                && answer.zone == *zone
                && answer.first_use.is_none()
                && occupancy_holds;
            if !as_due {
                let was = visitor.presence;
                tally.wrong(|| {
                    format!("scan {seq}, {attempt:?} of {ticket:?} ({was:?}): due {verdict:?}/{flags}, was {answer:?}")
                });
            }
        }
        match answer.verdict {
            Verdict::Admitted => {
                tally.admitted += 1;
                if visitor.presence == Presence::Inside && !conflict {
                    tally.double_admitted += 1;
                }
                visitor.presence = Presence::Inside;
            }
            Verdict::Exited => {
                tally.exited += 1;
                if visitor.presence == Presence::Inside {
                    tally.left += 1;
                    visitor.presence = Presence::Outside;
                }
            }
            Verdict::Rejected(rejection) => tally.rejected[rejection as usize] += 1,
            Verdict::Undone => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use engine::model::ids::{CategoryNo, FestivalId, TicketId};
    use engine::model::time::Timestamp;

    const ZONE: ZoneNo = ZoneNo(0);

    fn model() -> Model {
        let visitor = |serial, stranger| {
            let ticket = TicketId::new(FestivalId(1), CategoryNo(u16::from(stranger)), serial, 7);
            Visitor::new(QrClaim { ticket, version: 1, hash: [0; 32] }, stranger)
        };
        Model::new(vec![visitor(0, false), visitor(1, false), visitor(0, true)], ZONE, 3)
    }

    fn answer(model: &Model, visitor: usize, verdict: Verdict, flags: u8) -> DeviceAnswer {
        let ticket = Some(model.visitors[visitor].claim.ticket);
        DeviceAnswer { verdict, flags, zone: ZONE, occupancy: 1, ticket, at: Timestamp(1), first_use: None }
    }

    #[test]
    fn a_right_night_has_nothing_wrong() {
        let mut model = model();
        use Rejection::{AlreadyInside, InvalidQr, TamperedQr, ZoneDenied};
        let night = [
            (0, Attempt::Exit, Verdict::Exited, WAS_NOT_INSIDE),
            (0, Attempt::Enter, Verdict::Admitted, FIRST_ENTRY),
            (0, Attempt::Enter, Verdict::Rejected(AlreadyInside), 0),
            (0, Attempt::Exit, Verdict::Exited, 0),
            (0, Attempt::Enter, Verdict::Admitted, 0),
            (1, Attempt::Forged, Verdict::Rejected(TamperedQr), 0),
            (1, Attempt::CutOff, Verdict::Rejected(InvalidQr), 0),
            (1, Attempt::Enter, Verdict::Admitted, FIRST_ENTRY),
            (2, Attempt::Enter, Verdict::Rejected(ZoneDenied), 0),
        ];
        for (seq, (visitor, attempt, verdict, flags)) in night.into_iter().enumerate() {
            let mut answer = answer(&model, visitor, verdict, flags);
            if matches!(attempt, Attempt::Forged | Attempt::CutOff) {
                answer.ticket = None;
            }
            model.answered(visitor, attempt, seq as u64, &answer);
        }
        let tally = &model.tally;
        assert_eq!((tally.wrong, &tally.explained), (0, &vec![]));
        assert_eq!((tally.answered, tally.admitted, tally.exited, tally.left), (9, 3, 2, 1));
        assert_eq!((tally.double_admitted, model.inside()), (0, 2));
        assert_eq!(tally.rejected[ZoneDenied as usize], 1);
    }

    /// Each line plants one thing a broken server might say; the model has to see every one of them.
    #[test]
    fn every_planted_wrong_answer_is_seen() {
        use Rejection::{AlreadyInside, AlreadyUsed, TamperedQr, ZoneDenied};
        type Plant = fn(&mut DeviceAnswer);
        let as_it_was: Plant = |_| {};
        let plants: [(&str, usize, Attempt, Verdict, u8, Plant); 13] = [
            ("a forged QR let in", 1, Attempt::Forged, Verdict::Admitted, 0, as_it_was),
            ("a cut off QR taken for a forged one", 1, Attempt::CutOff, Verdict::Rejected(TamperedQr), 0, as_it_was),
            ("a forged QR's ticket believed", 1, Attempt::Forged, Verdict::Rejected(TamperedQr), 0, as_it_was),
            ("somebody inside let in again", 0, Attempt::Enter, Verdict::Admitted, 0, as_it_was),
            ("single entry under reentry", 0, Attempt::Enter, Verdict::Rejected(AlreadyUsed), 0, as_it_was),
            ("somebody new turned away", 1, Attempt::Enter, Verdict::Rejected(AlreadyInside), 0, as_it_was),
            ("the first entry not marked", 1, Attempt::Enter, Verdict::Admitted, 0, as_it_was),
            ("the wrong category let in", 2, Attempt::Enter, Verdict::Admitted, FIRST_ENTRY, as_it_was),
            ("an exit held back", 0, Attempt::Exit, Verdict::Rejected(ZoneDenied), 0, as_it_was),
            ("presence lost", 0, Attempt::Exit, Verdict::Exited, WAS_NOT_INSIDE, as_it_was),
            ("another zone", 1, Attempt::Enter, Verdict::Admitted, FIRST_ENTRY, |answer| answer.zone = ZoneNo(1)),
            ("more people than tickets", 1, Attempt::Enter, Verdict::Admitted, FIRST_ENTRY, |a| a.occupancy = 4),
            ("another ticket", 1, Attempt::Enter, Verdict::Admitted, FIRST_ENTRY, |answer| {
                answer.ticket = Some(TicketId::new(FestivalId(1), CategoryNo(0), 0, 7));
            }),
        ];
        for (what, visitor, attempt, verdict, flags, plant) in plants {
            let mut model = model();
            model.visitors[0].presence = Presence::Inside;
            let mut answer = answer(&model, visitor, verdict, flags);
            plant(&mut answer);
            model.answered(visitor, attempt, 9, &answer);
            assert_eq!(model.tally.wrong, 1, "{what}");
            assert_eq!(model.tally.explained.len(), 1, "{what}");
            let doubled = u64::from(what == "somebody inside let in again");
            assert_eq!(model.tally.double_admitted, doubled, "{what}");
        }
    }

    #[test]
    fn what_stood_after_a_crash_is_a_conflict_and_not_wrong() {
        let mut model = model();
        model.visitors[0].presence = Presence::Inside;
        let stood = answer(&model, 0, Verdict::Admitted, CONFLICT);
        model.answered(0, Attempt::Enter, 1, &stood);
        assert_eq!((model.tally.conflicts, model.tally.wrong, model.tally.double_admitted), (1, 0, 0));
    }
}
