//! The simulator finds nothing in the code as it is, and something in the code with each known bug. One test: which bug
//! is awake is the whole process's matter.

use loadtest::sim::{self, run_seed, seeds};

/// Enough for every plant, and for an unoptimised build.
const STEPS: u64 = 1_000;

#[test]
fn no_seed_breaks_a_rule_and_every_plant_is_caught() {
    let some = if cfg!(debug_assertions) { seeds::CI / 4 } else { seeds::CI };
    // Those that found something did so in evenings of full length.
    let found = seeds::FOUND_SOMETHING.iter().map(|&seed| (seed, sim::STEPS));
    for (seed, steps) in found.chain((0..some).map(|seed| (seed, STEPS))) {
        let (counts, violation) = run_seed(seed, steps);
        assert_eq!(violation, None, "seed {seed}");
        assert!(counts.acknowledged > 50, "seed {seed} does something: {counts:?}");
    }
    assert_eq!(run_seed(7, STEPS), run_seed(7, STEPS), "one seed is one run");
    #[cfg(feature = "plants")]
    every_plant_is_caught();
}

#[cfg(feature = "plants")]
fn every_plant_is_caught() {
    use engine::plants::{Plant, wake};
    for &plant in Plant::ALL {
        wake(Some(plant));
        let caught = (0..seeds::CI).find_map(|seed| run_seed(seed, STEPS).1.map(|violation| (seed, violation.rule)));
        wake(None);
        assert!(caught.is_some(), "{} is not caught within {} seeds", plant.word(), seeds::CI);
    }
}
