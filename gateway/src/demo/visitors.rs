//! Who is where, and what somebody tries next. Knows nothing of the network: it is told the time, hands out attempts,
//! and is told how each ended.
//!
//! People come in waves, drift between the ground, the deck and backstage, and go home again, for ever. About one
//! attempt in twenty-five is not as it should be: those are what the gates are for.

use engine::gates::command::{Direction, Verdict};
use engine::model::ids::{TicketId, nonce_at};
use engine::model::rejection::Rejection;

/// Somewhere a visitor can be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Place {
    /// At home, on the road, in the queue.
    Outside = 0,
    /// Inside the perimeter, and in no inner zone.
    Ground = 1,
    /// On the VIP deck.
    Deck = 2,
    /// Behind the stage.
    Backstage = 3,
}
const PLACES: usize = 4;

/// What a ticket lets into.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Pass {
    /// The ground.
    Standard = 0,
    /// The ground and the deck.
    Vip = 1,
    /// The ground, the deck and backstage.
    Crew = 2,
}
const PASSES: usize = 3;
/// All of them, by category number.
pub const ALL_PASSES: [Pass; PASSES] = [Pass::Standard, Pass::Vip, Pass::Crew];

/// What is held to the reader.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Shown {
    /// The ticket, as it was issued.
    Genuine(TicketId),
    /// Somebody has guessed a signature.
    Forged(TicketId),
    /// A good ticket, of which this bit (modulo its length) was read wrong or changed.
    Flipped(TicketId, u32),
    /// A good ticket of another festival, with this nonce.
    Foreign(u64),
}

/// Somebody steps up to a gate.
#[derive(Clone, Copy, Debug)]
pub struct Attempt {
    /// To a gate of this zone: the ground's gates are the perimeter.
    pub gate_of: Place,
    /// In or out.
    pub direction: Direction,
    pub shown: Shown,
    /// Who, if it is one of the crowd; goes back in with [`Population::ended`].
    who: Option<Mover>,
}

#[derive(Clone, Copy, Debug)]
struct Mover {
    visitor: u32,
    pass: Pass,
    from: Place,
    to: Place,
}

/// Everybody with a ticket.
pub struct Population {
    tickets: Vec<TicketId>,
    /// Who is where, by place and pass. Whoever is at a gate right now is in none.
    pools: [[Vec<u32>; PASSES]; PLACES],
    cancelled: Vec<TicketId>,
    /// Places that everybody is to leave.
    evacuated: [bool; PLACES],
    chance: Chance,
}

/// How full it gets, in people; the deck's wave goes over its 600 places now and then.
const GROUND_WANTED: (f64, f64) = (11_000.0, 3_000.0);
const DECK_WANTED: (f64, f64) = (520.0, 95.0);
const BACKSTAGE_WANTED: (f64, f64) = (90.0, 40.0);

impl Population {
    /// Nobody yet. The seed decides who does what.
    pub fn new(seed: u64) -> Self {
        Self {
            tickets: Vec::new(),
            pools: Default::default(),
            cancelled: Vec::new(),
            evacuated: [false; PLACES],
            chance: Chance::new(seed),
        }
    }

    /// Somebody with a ticket, where they are now.
    pub fn add(&mut self, ticket: TicketId, pass: Pass, place: Place) {
        let visitor = self.tickets.len() as u32;
        self.tickets.push(ticket);
        self.pools[place as usize][pass as usize].push(visitor);
    }

    /// Somebody whose ticket was cancelled, and who tries all the same.
    pub fn add_cancelled(&mut self, ticket: TicketId) {
        self.cancelled.push(ticket);
    }

    /// Everybody is to leave this place, and does; or they may come back.
    pub fn evacuate(&mut self, place: Place, evacuated: bool) {
        self.evacuated[place as usize] = evacuated;
    }

    /// How many are in this place, at gates not counted.
    pub fn count(&self, place: Place) -> usize {
        self.pools[place as usize].iter().map(Vec::len).sum()
    }

    /// How many step up to a gate in the next `ms` milliseconds: 35 to 85 a second, in waves.
    pub fn arrivals(&mut self, now_ms: i64, ms: f64) -> usize {
        let per_second = 60.0 + 18.0 * wave(now_ms, 150.0) + 7.0 * wave(now_ms, 37.0);
        poisson(&mut self.chance, per_second * ms / 1000.0)
    }

    /// What somebody tries next; `None` if there happens to be nobody who could.
    pub fn next(&mut self, now_ms: i64) -> Option<Attempt> {
        use Direction::{Enter, Exit};
        use Place::*;
        let inside = (self.count(Ground) + self.count(Deck) + self.count(Backstage)) as f64;
        match self.chance.below(1_000) {
            0..8 => self.stranger(|who, _| Shown::Forged(who)),
            8..14 => self.stranger(|who, chance| Shown::Flipped(who, chance.below(4_096) as u32)),
            14..16 => Some(refused_at_gate(Shown::Foreign(self.chance.draw()))),
            16..20 => {
                let index = self.chance.below(self.cancelled.len().max(1) as u64) as usize;
                self.cancelled.get(index).map(|&ticket| refused_at_gate(Shown::Genuine(ticket)))
            }
            // A ticket handed back through the fence.
            20..28 => self.take(Ground, &ALL_PASSES, Ground, Ground, Enter),
            // The wrong door.
            28..34 => self.take(Ground, &[Pass::Standard], Ground, Deck, Enter),
            34..37 => self.take(Ground, &[Pass::Standard, Pass::Vip], Ground, Backstage, Enter),
            // Past the main gate without a scan.
            37..40 => self.take(Outside, &[Pass::Vip, Pass::Crew], Outside, Deck, Enter),
            40..160 => {
                let wanted = (DECK_WANTED.0 + DECK_WANTED.1 * wave(now_ms, 410.0)).min(inside / 12.0);
                let enters = self.pulls(Deck, wanted, self.count(Deck), 120.0);
                let (from, to, direction) = if enters { (Ground, Deck, Enter) } else { (Deck, Ground, Exit) };
                self.take(from, &[Pass::Vip, Pass::Crew], from, to, direction)
            }
            160..200 => {
                let wanted = (BACKSTAGE_WANTED.0 + BACKSTAGE_WANTED.1 * wave(now_ms, 260.0)).min(inside / 60.0);
                let enters = self.pulls(Backstage, wanted, self.count(Backstage), 30.0);
                let (from, to, direction) = if enters { (Ground, Backstage, Enter) } else { (Backstage, Ground, Exit) };
                self.take(from, &[Pass::Crew], from, to, direction)
            }
            _ => {
                let wanted = GROUND_WANTED.0 + GROUND_WANTED.1 * wave(now_ms, 900.0);
                let enters = self.pulls(Ground, wanted, inside as usize, 5_000.0);
                let (from, to, direction) = if enters { (Outside, Ground, Enter) } else { (Ground, Outside, Exit) };
                self.take(from, &ALL_PASSES, from, to, direction)
            }
        }
    }

    /// How an attempt ended: whoever made it is where the gate has let them.
    pub fn ended(&mut self, attempt: &Attempt, verdict: Option<Verdict>) {
        let Some(Mover { visitor, pass, from, to }) = attempt.who else { return };
        let place = match verdict {
            Some(Verdict::Admitted | Verdict::Exited) => to,
            // The gate knows better: a scan of before a restart was answered after it.
            Some(Verdict::Rejected(Rejection::AlreadyInside)) => to,
            Some(Verdict::Rejected(Rejection::NotInsideParent)) => Place::Outside,
            Some(Verdict::Rejected(_) | Verdict::Undone) | None => from,
        };
        self.pools[place as usize][pass as usize].push(visitor);
    }

    /// Takes somebody out of a place, as many passes as there are weighted by how many hold them.
    fn take(&mut self, at: Place, passes: &[Pass], from: Place, to: Place, direction: Direction) -> Option<Attempt> {
        let pools = &mut self.pools[at as usize];
        let all: usize = passes.iter().map(|&pass| pools[pass as usize].len()).sum();
        if all == 0 {
            return None;
        }
        let mut pick = self.chance.below(all as u64) as usize;
        for &pass in passes {
            let pool = &mut pools[pass as usize];
            if pick < pool.len() {
                let visitor = pool.swap_remove(pick);
                let shown = Shown::Genuine(self.tickets[visitor as usize]);
                let inner = |place| matches!(place, Place::Deck | Place::Backstage);
                let gate_of = if inner(to) {
                    to
                } else if inner(from) {
                    from
                } else {
                    Place::Ground
                };
                return Some(Attempt { gate_of, direction, shown, who: Some(Mover { visitor, pass, from, to }) });
            }
            pick -= pool.len();
        }
        None
    }

    /// Somebody at the perimeter with something that was made from a real ticket.
    fn stranger(&mut self, shown: impl Fn(TicketId, &mut Chance) -> Shown) -> Option<Attempt> {
        let index = self.chance.below(self.tickets.len().max(1) as u64) as usize;
        let ticket = *self.tickets.get(index)?;
        Some(refused_at_gate(shown(ticket, &mut self.chance)))
    }

    /// Whether the next one comes rather than goes: more likely the emptier it is against what is wanted.
    fn pulls(&mut self, place: Place, wanted: f64, present: usize, softness: f64) -> bool {
        let share = 0.5 + (wanted - present as f64) / softness;
        // Whoever is on the ground or further in leaves when the ground is evacuated. A few always try to get in.
        let leave = self.evacuated[place as usize] || self.evacuated[Place::Ground as usize];
        self.chance.share() < if leave { 0.06 } else { share.clamp(0.06, 0.94) }
    }

    /// Draws below `n`, for whoever drives the crowd.
    pub fn below(&mut self, n: u64) -> u64 {
        self.chance.below(n)
    }
}

fn refused_at_gate(shown: Shown) -> Attempt {
    Attempt { gate_of: Place::Ground, direction: Direction::Enter, shown, who: None }
}

/// How many come where so many are expected: Poisson by Knuth's product of uniforms, since it is a handful.
pub(super) fn poisson(chance: &mut Chance, expected: f64) -> usize {
    let (limit, mut product, mut count) = ((-expected).exp(), chance.share(), 0);
    while product > limit && count < 100 {
        product *= chance.share();
        count += 1;
    }
    count
}

/// −1 to 1, once around in `period_s`. Of the wall clock, so that it goes on where it was after a restart.
pub(super) fn wave(now_ms: i64, period_s: f64) -> f64 {
    let seconds = (now_ms % 86_400_000) as f64 / 1000.0;
    (seconds / period_s * std::f64::consts::TAU).sin()
}

/// Chance for a play, not for keys.
pub(super) struct Chance {
    seed: u64,
    drawn: u32,
}

impl Chance {
    pub(super) fn new(seed: u64) -> Self {
        Self { seed, drawn: 0 }
    }
    /// 42 bits.
    pub(super) fn draw(&mut self) -> u64 {
        self.drawn = self.drawn.wrapping_add(1);
        nonce_at(self.seed, self.drawn)
    }
    /// `0 .. n`; the slant of a modulo over 42 bits is no matter here.
    pub(super) fn below(&mut self, n: u64) -> u64 {
        self.draw() % n
    }
    /// 0 to 1.
    pub(super) fn share(&mut self) -> f64 {
        self.draw() as f64 / (1_u64 << 42) as f64
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use engine::model::ids::{CategoryNo, FestivalId};

    const START_MS: i64 = 1_700_000_000_000;

    fn population() -> Population {
        let mut population = Population::new(7);
        for serial in 0..50_000_u32 {
            let pass = if serial < 44_000 {
                Pass::Standard
            } else if serial < 49_000 {
                Pass::Vip
            } else {
                Pass::Crew
            };
            let ticket = TicketId::new(FestivalId(1), CategoryNo(pass as u16), serial, u64::from(serial));
            if serial < 200 { population.add_cancelled(ticket) } else { population.add(ticket, pass, Place::Outside) }
        }
        population
    }

    /// What a gate would say, as far as the crowd's own doings go.
    fn gate(attempt: &Attempt) -> Verdict {
        use Direction::{Enter, Exit};
        match (attempt.direction, attempt.who) {
            (_, None) => Verdict::Rejected(Rejection::TamperedQr),
            (Exit, _) => Verdict::Exited,
            (Enter, Some(Mover { from, to, .. })) if from == to => Verdict::Rejected(Rejection::AlreadyInside),
            (Enter, Some(Mover { from: Place::Outside, to: Place::Deck, .. })) => {
                Verdict::Rejected(Rejection::NotInsideParent)
            }
            (Enter, Some(Mover { pass: Pass::Standard, to: Place::Deck | Place::Backstage, .. }))
            | (Enter, Some(Mover { pass: Pass::Vip, to: Place::Backstage, .. })) => {
                Verdict::Rejected(Rejection::ZoneDenied)
            }
            (Enter, Some(_)) => Verdict::Admitted,
        }
    }

    #[test]
    fn nobody_is_lost_and_the_ground_fills_to_what_is_wanted() {
        let mut population = population();
        let (mut rejected, mut attempts) = (0, 0);
        let mut now_ms = START_MS;
        for _ in 0..1_200 * 10 {
            for _ in 0..population.arrivals(now_ms, 100.0) {
                let Some(attempt) = population.next(now_ms) else { continue };
                let verdict = gate(&attempt);
                attempts += 1;
                rejected += u32::from(matches!(verdict, Verdict::Rejected(_)));
                population.ended(&attempt, Some(verdict));
            }
            now_ms += 100;
        }
        let all: usize =
            [Place::Outside, Place::Ground, Place::Deck, Place::Backstage].map(|p| population.count(p)).iter().sum();
        assert_eq!(all, 49_800);
        let inside = 49_800 - population.count(Place::Outside);
        assert!((8_000..14_500).contains(&inside), "{inside} inside after twenty minutes");
        assert!((300..700).contains(&population.count(Place::Deck)), "{} on the deck", population.count(Place::Deck));
        assert!(
            (30..200).contains(&population.count(Place::Backstage)),
            "{} backstage",
            population.count(Place::Backstage)
        );
        assert!((50_000..95_000).contains(&attempts), "{attempts}: 40 to 80 a second");
        let share = f64::from(rejected) / f64::from(attempts);
        assert!((0.03..0.05).contains(&share), "{share} of the attempts are refused");
    }

    #[test]
    fn an_evacuated_deck_empties() {
        let mut population = Population::new(3);
        for serial in 0..400_u32 {
            let ticket = TicketId::new(FestivalId(1), CategoryNo(1), serial, 0);
            population.add(ticket, Pass::Vip, if serial < 300 { Place::Deck } else { Place::Ground });
        }
        population.evacuate(Place::Deck, true);
        for _ in 0..10_000 {
            let Some(attempt) = population.next(START_MS) else { continue };
            let closed = attempt.gate_of == Place::Deck && attempt.direction == Direction::Enter;
            let verdict = if closed { Verdict::Rejected(Rejection::ZoneClosed) } else { gate(&attempt) };
            population.ended(&attempt, Some(verdict));
        }
        assert_eq!(population.count(Place::Deck), 0);
    }

    #[test]
    fn whoever_is_refused_stays_where_they_were() {
        let mut population = Population::new(1);
        let ticket = TicketId::new(FestivalId(1), CategoryNo(0), 1, 1);
        population.add(ticket, Pass::Standard, Place::Outside);
        let attempt =
            population.take(Place::Outside, &ALL_PASSES, Place::Outside, Place::Ground, Direction::Enter).unwrap();
        assert_eq!(population.count(Place::Outside), 0, "at the gate");
        population.ended(&attempt, Some(Verdict::Rejected(Rejection::ZoneFull)));
        assert_eq!(population.count(Place::Outside), 1);
        let attempt =
            population.take(Place::Outside, &ALL_PASSES, Place::Outside, Place::Ground, Direction::Enter).unwrap();
        population.ended(&attempt, Some(Verdict::Admitted));
        assert_eq!((population.count(Place::Outside), population.count(Place::Ground)), (0, 1));
        let attempt =
            population.take(Place::Ground, &ALL_PASSES, Place::Ground, Place::Outside, Direction::Exit).unwrap();
        population.ended(&attempt, None);
        assert_eq!(population.count(Place::Ground), 1, "no answer, no move");
        let attempt =
            population.take(Place::Ground, &ALL_PASSES, Place::Ground, Place::Deck, Direction::Enter).unwrap();
        population.ended(&attempt, Some(Verdict::Rejected(Rejection::NotInsideParent)));
        assert_eq!(population.count(Place::Outside), 1, "the gate knows better");
    }
}
