//! Deterministic simulation: the real schedulers and the real processor on a virtual clock, with a store and a Config
//! Database that fail as a seed says, users who edit, and operators who act. Days pass in a fraction of a second.
//! Afterwards every run is compared with what the users had chosen: each occurrence that was due has run once or is
//! accounted for, and nothing else has run.
//!
//! ```text
//! SEED=17 cargo test -p punctual-tests --test it simulation::replay -- --nocapture
//! SEEDS=20000 cargo test -p punctual-tests --test it simulation::many
//! ```

mod agents;
mod database;
mod faults;
mod faulty_store;
mod operator;
mod oracle;
mod world;

use self::world::{Bug, Outcome, simulate};

/// How many seeds a usual run takes.
const SEEDS: u64 = 2_000;

fn number(name: &str) -> Option<u64> {
    std::env::var(name).ok()?.parse().ok()
}

/// Simulates seeds on every core, each on a thread of its own time.
fn over(seeds: std::ops::Range<u64>, bug: Option<Bug>) -> Vec<(u64, Outcome)> {
    let next = std::sync::atomic::AtomicU64::new(seeds.start);
    let work = || {
        let mut outcomes = Vec::new();
        loop {
            let seed = next.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
            if seed >= seeds.end {
                return outcomes;
            }
            outcomes.push((seed, simulate(seed, bug)));
        }
    };
    let cores = std::thread::available_parallelism().map_or(2, usize::from);
    std::thread::scope(|scope| {
        let threads: Vec<_> = (0..cores).map(|_| scope.spawn(work)).collect();
        threads
            .into_iter()
            .flat_map(|thread| thread.join().unwrap())
            .collect()
    })
}

#[test]
fn many_seeds_of_faults_lose_nobody_and_run_nobody_wrongly() {
    let first = number("FIRST_SEED").unwrap_or(0);
    let outcomes = over(first..first + number("SEEDS").unwrap_or(SEEDS), None);
    let failing: Vec<_> = outcomes
        .iter()
        .filter(|(_, outcome)| !outcome.violations.is_empty())
        .collect();
    if let Some((seed, outcome)) = failing.first() {
        let seeds: Vec<u64> = failing.iter().map(|(seed, _)| *seed).collect();
        panic!(
            "seeds {seeds:?}; replay the first with\n  SEED={seed} cargo test -p punctual-tests --test it \
             simulation::replay -- --nocapture\n{}",
            outcome.trace()
        );
    }
    let sum = |count: fn(&Outcome) -> usize| -> usize {
        outcomes.iter().map(|(_, outcome)| count(outcome)).sum()
    };
    let (required, excused) = (
        sum(|outcome| outcome.required),
        sum(|outcome| outcome.excused),
    );
    println!(
        "{} seeds: {required} occurrences had to run once and did, {excused} fell into faults",
        outcomes.len()
    );
    assert!(
        required > excused * 2,
        "the oracle excuses too much: {required} required, {excused} excused"
    );
}

#[test]
fn seeded_bugs_are_found() {
    for bug in Bug::ALL {
        let found = (0..SEEDS / 20)
            .map(|batch| over(batch * 20..(batch + 1) * 20, Some(bug)))
            .position(|outcomes| {
                outcomes
                    .iter()
                    .any(|(_, outcome)| !outcome.violations.is_empty())
            });
        let batch = found.unwrap_or_else(|| panic!("{bug:?} is not found within {SEEDS} seeds"));
        println!("{bug:?} is found within {} seeds", (batch + 1) * 20);
    }
}

#[test]
fn the_same_seed_gives_the_same_history() {
    for seed in [1, 2, 3] {
        assert_eq!(simulate(seed, None), simulate(seed, None), "seed {seed}");
    }
}

/// Does nothing unless `SEED` says which.
#[test]
fn replay() {
    if let Some(seed) = number("SEED") {
        let outcome = simulate(seed, None);
        println!("{}", outcome.history.join("\n"));
        assert!(
            outcome.violations.is_empty(),
            "{}",
            outcome.trace()
        );
    }
}
