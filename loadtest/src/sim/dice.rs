//! All chance of a run, from one seed: the stream is ChaCha8's, which is the same on every machine and in every version.

use rand_chacha::ChaCha8Rng;
use rand_chacha::rand_core::{Rng, SeedableRng};

/// The run's one source of chance.
pub(super) struct Dice(ChaCha8Rng);

impl Dice {
    /// The dice of this seed.
    pub(super) fn new(seed: u64) -> Self {
        Self(ChaCha8Rng::seed_from_u64(seed))
    }
    /// 64 bits.
    pub(super) fn draw(&mut self) -> u64 {
        self.0.next_u64()
    }
    /// A number below `bound`, which is not zero.
    pub(super) fn below(&mut self, bound: u64) -> u64 {
        self.draw() % bound
    }
    /// Once in `n` times, on average.
    pub(super) fn one_in(&mut self, n: u64) -> bool {
        self.below(n) == 0
    }
    /// One of a slice that is not empty.
    pub(super) fn pick<T: Copy>(&mut self, from: &[T]) -> T {
        from[self.below(from.len() as u64) as usize]
    }
}
