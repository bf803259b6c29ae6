//! Deterministic simulation: the real schedulers and the real processor on a virtual clock, with a store and a Config
//! Database that fail as a seed says, users who edit, operators who act, and work that goes on elsewhere. Results from before
//! are removed as they grow old, and tenants are erased, to stay away or to be stored again. Days pass in a fraction of a
//! second. Afterwards every run is compared with what the users had chosen: each occurrence that was due has run once or is
//! accounted for, and nothing else has run. What was to be kept is there, and nothing of tenants who were erased.
//!
//! ```text
//! SEED=17 cargo test -p punctual-tests --test it simulation::replay -- --nocapture
//! SEEDS=20000 cargo test -p punctual-tests --test it simulation::many
//! ```

mod agents;
mod database;
mod faults;
mod faulty_store;
mod lying_server;
mod oracle;
mod outcome;
mod outside;
mod shards;
mod world;

use std::collections::{BTreeMap, BTreeSet};

use self::{
    lying_server::follow,
    outcome::{Bug, Outcome},
    world::simulate,
};

/// How many seeds a usual run takes: about a minute on two cores.
const SEEDS: u64 = 200;
/// Within so many seeds a seeded bug is found.
const BUG_SEEDS: u64 = 2_000;

fn number(name: &str) -> Option<u64> {
    std::env::var(name).ok()?.parse().ok()
}

/// Takes seeds through `simulate` on every core, in their order.
fn over(
    seeds: std::ops::Range<u64>,
    simulate: impl Fn(u64) -> Outcome + Sync,
) -> Vec<(u64, Outcome)> {
    let next = std::sync::atomic::AtomicU64::new(seeds.start);
    let work = || {
        let mut outcomes = Vec::new();
        loop {
            let seed = next.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
            if seed >= seeds.end {
                return outcomes;
            }
            outcomes.push((seed, simulate(seed)));
        }
    };
    let cores = std::thread::available_parallelism().map_or(2, usize::from);
    std::thread::scope(|scope| {
        let threads: Vec<_> = (0..cores).map(|_| scope.spawn(work)).collect();
        let outcomes = threads.into_iter();
        let mut outcomes: Vec<_> = outcomes.flat_map(|thread| thread.join().unwrap()).collect();
        outcomes.sort_by_key(|(seed, _)| *seed);
        outcomes
    })
}

/// Each rule that was not kept, with the first seeds that show it.
fn broken_rules(failing: &[&(u64, Outcome)]) -> String {
    let mut rules: BTreeMap<&str, BTreeSet<u64>> = BTreeMap::new();
    for (seed, outcome) in failing {
        for violation in &outcome.violations {
            rules.entry(violation.rule).or_default().insert(*seed);
        }
    }
    let line = |(rule, seeds): (&str, BTreeSet<u64>)| {
        let first: Vec<&u64> = seeds.iter().take(8).collect();
        format!("  {rule}: {} seeds, such as {first:?}\n", seeds.len())
    };
    rules.into_iter().map(line).collect()
}

/// Fails with the rules that were not kept, and the trace of the first seed.
fn check(outcomes: &[(u64, Outcome)], replay: &str) {
    let failing = outcomes.iter();
    let failing: Vec<_> = failing
        .filter(|(_, outcome)| !outcome.violations.is_empty())
        .collect();
    if let Some((seed, outcome)) = failing.first() {
        panic!(
            "{} of {} seeds fail; replay the first with\n  SEED={seed} cargo test -p punctual-tests --test it \
             simulation::{replay} -- --nocapture\n{}\n{}",
            failing.len(),
            outcomes.len(),
            broken_rules(&failing),
            outcome.trace()
        );
    }
}

/// The seeds to take, where a usual run takes so many.
fn seeds(usual: u64) -> std::ops::Range<u64> {
    let first = number("FIRST_SEED").unwrap_or(0);
    first..first + number("SEEDS").unwrap_or(usual)
}

#[test]
fn many_seeds_of_faults_and_moves_keep_every_rule() {
    let outcomes = over(seeds(SEEDS), |seed| simulate(seed, None));
    check(&outcomes, "replay");
    let sum = |count: fn(&Outcome) -> usize| -> usize {
        outcomes.iter().map(|(_, outcome)| count(outcome)).sum()
    };
    let (required, excused, promises, waits) = (
        sum(|outcome| outcome.required),
        sum(|outcome| outcome.excused),
        sum(|outcome| outcome.promises),
        sum(|outcome| outcome.waits),
    );
    println!(
        "{} seeds: {required} occurrences had to run once and did, {excused} met faults or moves; explain kept \
         {promises} promises; {waits} items waited and ended once",
        outcomes.len()
    );
    // Half of the moves are meant to meet an occurrence while it is due, so many are excused. About two are required for
    // each of them.
    assert!(
        required * 4 > excused * 7,
        "the oracle excuses too much: {required} required, {excused} excused"
    );
    assert!(waits > outcomes.len() * 5, "{waits} items waited");
    let (removed, erased) = (
        sum(|outcome| outcome.removed),
        sum(|outcome| outcome.erased),
    );
    println!("{removed} old results were removed; tenants were erased {erased} times in the store");
    assert!(
        removed > outcomes.len() * 5,
        "{removed} results were removed"
    );
    assert!(
        erased > outcomes.len(),
        "tenants were erased {erased} times"
    );
}

#[test]
fn seeded_bugs_are_found() {
    for bug in Bug::ALL {
        let found = (0..BUG_SEEDS / 20)
            .map(|batch| {
                over(batch * 20..(batch + 1) * 20, |seed| {
                    simulate(seed, Some(bug))
                })
            })
            .position(|outcomes| {
                outcomes
                    .iter()
                    .any(|(_, outcome)| !outcome.violations.is_empty())
            });
        let batch =
            found.unwrap_or_else(|| panic!("{bug:?} is not found within {BUG_SEEDS} seeds"));
        println!("{bug:?} is found within {} seeds", (batch + 1) * 20);
    }
}

#[test]
fn the_same_seed_gives_the_same_history() {
    for seed in [1, 2, 3] {
        assert_eq!(simulate(seed, None), simulate(seed, None), "seed {seed}");
    }
}

#[test]
fn a_server_that_lies_costs_only_what_it_lies_about() {
    check(&over(seeds(SEEDS), follow), "follow_again");
}

/// Does nothing unless `SEED` says which.
#[test]
fn replay() {
    replay_with(|seed| simulate(seed, None));
}

/// Does nothing unless `SEED` says which.
#[test]
fn follow_again() {
    replay_with(follow);
}

fn replay_with(simulate: impl Fn(u64) -> Outcome) {
    if let Some(seed) = number("SEED") {
        let outcome = simulate(seed);
        println!("{}", outcome.history.join("\n"));
        assert!(outcome.violations.is_empty(), "{}", outcome.trace());
    }
}
