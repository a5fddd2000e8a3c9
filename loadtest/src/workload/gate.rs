//! A night at one reader: people come, go, and come again; about one in a hundred each shows a forged QR, half a QR, a
//! ticket of the wrong category, or a ticket whose holder is inside already.

use rand_chacha::ChaCha8Rng;
use rand_chacha::rand_core::{Rng as _, SeedableRng as _};

use crate::model::{Attempt, Model, Presence};

/// How many people who are being scanned at this moment are passed over in search of the next one.
const PASSED_OVER_MAX: usize = 64;

/// Where in a draw of 1,024 each kind of trouble lies: 10 of 1,024 are about one in a hundred.
const FORGED: u32 = 10;
const CUT_OFF: u32 = FORGED + 10;
const STRANGER: u32 = CUT_OFF + 10;
const INSIDE_ALREADY: u32 = STRANGER + 10;
const NOT_INSIDE: u32 = INSIDE_ALREADY + 2;

/// Picks who comes next. The same seed makes the same night.
pub struct Population {
    rng: ChaCha8Rng,
    /// Visitors before this one belong here; those from it on are strangers.
    strangers_from: usize,
    /// The next in the queue.
    at: usize,
    next_stranger: usize,
}

impl Population {
    /// A crowd of the model's visitors, strangers last.
    pub fn new(model: &Model, seed: u64) -> Self {
        let strangers_from = model.visitors.iter().take_while(|visitor| !visitor.stranger).count();
        Self { rng: ChaCha8Rng::seed_from_u64(seed), strangers_from, at: 0, next_stranger: strangers_from }
    }

    /// Who comes next, and what they try. `None` while everybody is being scanned. `lag`: how many scans may be under
    /// way, so who is further back in the queue has been answered.
    pub fn next(&mut self, model: &Model, lag: usize) -> Option<(usize, Attempt)> {
        let count = self.strangers_from;
        let draw = self.rng.next_u32() % 1_024;
        match draw {
            0..FORGED => return Some((draw as usize % count, Attempt::Forged)),
            FORGED..CUT_OFF => return Some((draw as usize % count, Attempt::CutOff)),
            CUT_OFF..STRANGER if self.next_stranger < model.visitors.len() => {
                let stranger = self.next_stranger;
                self.next_stranger += 1;
                if self.next_stranger == model.visitors.len() {
                    self.next_stranger = count;
                }
                if !model.visitors[stranger].under_way {
                    return Some((stranger, Attempt::Enter));
                }
            }
            STRANGER..INSIDE_ALREADY if count > 2 * lag => {
                let earlier = (self.at + count - 2 * lag - 1) % count;
                let visitor = &model.visitors[earlier];
                if visitor.presence == Presence::Inside && !visitor.under_way {
                    return Some((earlier, Attempt::Enter));
                }
            }
            _ => {}
        }
        for _ in 0..PASSED_OVER_MAX.min(count) {
            let next = self.at;
            self.at = if next + 1 == count { 0 } else { next + 1 };
            let visitor = &model.visitors[next];
            if visitor.under_way {
                continue;
            }
            let leaves = visitor.presence == Presence::Inside || (INSIDE_ALREADY..NOT_INSIDE).contains(&draw);
            return Some((next, if leaves { Attempt::Exit } else { Attempt::Enter }));
        }
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::Visitor;
    use engine::model::credential::QrClaim;
    use engine::model::ids::{CategoryNo, FestivalId, TicketId, ZoneNo};

    fn model(visitors: u32, strangers: u32) -> Model {
        let all = (0..visitors + strangers).map(|serial| {
            let ticket = TicketId::new(FestivalId(1), CategoryNo(0), serial, 0);
            Visitor::new(QrClaim { ticket, version: 1, hash: [0; 32] }, serial >= visitors)
        });
        Model::new(all.collect(), ZoneNo(0), visitors)
    }

    #[test]
    fn every_kind_of_visitor_comes() {
        let mut model = model(1_000, 10);
        let mut population = Population::new(&model, 7);
        let mut seen = [0_u32; 7];
        for _ in 0..20_000 {
            let (visitor, attempt) = population.next(&model, 8).unwrap();
            let who = &mut model.visitors[visitor];
            let kind = match (attempt, who.presence, who.stranger) {
                (Attempt::Forged, ..) => 0,
                (Attempt::CutOff, ..) => 1,
                (_, _, true) => 2,
                (Attempt::Enter, Presence::Inside, _) => 3,
                (Attempt::Exit, Presence::Inside, _) => {
                    who.presence = Presence::Outside;
                    4
                }
                (Attempt::Exit, ..) => 5,
                (Attempt::Enter, ..) => {
                    who.presence = Presence::Inside;
                    6
                }
            };
            seen[kind] += 1;
        }
        for (kind, least) in [100, 100, 100, 40, 8_000, 5, 8_000].into_iter().enumerate() {
            assert!(seen[kind] >= least, "kind {kind}: {seen:?}");
        }
    }

    #[test]
    fn nobody_is_scanned_twice_at_a_time() {
        let mut model = model(20, 2);
        let mut population = Population::new(&model, 1);
        let mut taken = 0;
        for _ in 0..1_000 {
            let Some((visitor, attempt)) = population.next(&model, 20) else { continue };
            if matches!(attempt, Attempt::Enter | Attempt::Exit) {
                assert!(!model.visitors[visitor].under_way);
                model.visitors[visitor].under_way = true;
                taken += 1;
            }
        }
        assert_eq!(taken, 22, "all of them are being scanned, and nobody else comes");
    }
}
