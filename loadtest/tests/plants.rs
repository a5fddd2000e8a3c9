//! The simulator finds nothing in the code as it is, and something in the code with each known bug. One test: which bug
//! is awake is the whole process's matter.

use std::collections::BTreeMap;

use loadtest::sim::{self, run_seed, seeds};

/// Enough for every plant, and for an unoptimised build.
const STEPS: u64 = 1_000;

#[test]
fn no_seed_breaks_a_rule_and_every_plant_is_caught() {
    // Those that found something did so in evenings of full length.
    let found = seeds::FOUND_SOMETHING.iter().map(|&seed| (seed, sim::STEPS));
    let mut money = BTreeMap::new();
    let (mut written, mut written_here) = (0, 0);
    for (seed, steps) in found.chain((0..seeds::CI).map(|seed| (seed, STEPS))) {
        let (counts, violation) = run_seed(seed, steps);
        assert_eq!(violation, None, "seed {seed}");
        // An evening whose disk has lied ends when that is found out.
        let ends_early = counts.faults.contains_key("lost_flush");
        assert!(counts.acknowledged > 40 || ends_early, "seed {seed} does something: {counts:?}");
        written += counts.written;
        written_here += counts.written_here;
        for (what, count) in counts.money {
            *money.entry(what).or_insert(0) += count;
        }
    }
    assert!(written_here > 1_000 && written > 2 * written_here, "both ways are taken: {written_here} of {written}");
    // What can happen to money has happened.
    for what in [
        "transfers",
        "transfers_returned",
        "transfers_cancelled",
        "cancel_asked",
        "refunds",
        "links",
        "binds",
        "tags_carried",
        "tags_lost",
        "tags_barred",
        "products_returned",
        "currencies_changed",
        "currencies_kept",
        "tag_moved",
        "tag_moved_again",
        "outcome_unknown",
        "outcome_unknown_taken",
    ] {
        assert!(money.get(what).is_some_and(|count| *count > 0), "{what}: {money:?}");
    }
    assert_eq!(run_seed(7, STEPS), run_seed(7, STEPS), "one seed is one run");
    #[cfg(feature = "plants")]
    every_plant_is_caught();
}

#[cfg(feature = "plants")]
fn every_plant_is_caught() {
    use engine::plants::{Plant, wake};
    for &plant in Plant::ALL.iter().filter(|plant| !Plant::OF_OWNERSHIP.contains(plant)) {
        wake(Some(plant));
        let caught = (0..seeds::CI).find_map(|seed| run_seed(seed, STEPS).1.map(|violation| (seed, violation.rule)));
        wake(None);
        assert!(caught.is_some(), "{} is not caught within {} seeds", plant.word(), seeds::CI);
    }
}
