//! What goes wrong, and when: fault windows, drawn from a seed, with calm between them.

use std::hash::{DefaultHasher, Hash, Hasher};

use chrono::{DateTime, TimeDelta, Utc};

/// Chance at a moment, for one thing: the same in whatever order things happen at that moment.
pub fn chance(seed: u64, now: DateTime<Utc>, what: impl Hash) -> fastrand::Rng {
    let mut hasher = DefaultHasher::new();
    (seed, now, what).hash(&mut hasher);
    fastrand::Rng::with_seed(hasher.finish())
}

/// A stretch of time in which things fail.
#[expect(clippy::struct_excessive_bools, reason = "each is a kind of fault")]
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct FaultWindow {
    pub from: DateTime<Utc>,
    pub to: DateTime<Utc>,
    /// The Config Database answers with errors this often, of 100: one in four of them loses the place in the feed.
    pub database_errors: u8,
    /// Changes become visible so much later.
    pub lag: TimeDelta,
    /// The feed leaves changes out.
    pub gaps: bool,
    /// The feed repeats changes that it has brought already.
    pub repeats: bool,
    /// The store answers with errors this often, of 100: half of them after it has done its work.
    pub store_errors: u8,
    /// Agents crash about so often.
    pub crash_every: Option<TimeDelta>,
    /// No agent runs.
    pub down: bool,
    /// Agents schedule, and what they queue waits.
    pub no_worker: bool,
    /// Two agents run.
    pub two_agents: bool,
    /// The agents' clocks are off by so much.
    pub clock: TimeDelta,
}

/// The fault windows of a simulation.
#[derive(Debug, Clone, Default)]
pub struct FaultPlan(pub Vec<FaultWindow>);

impl FaultPlan {
    /// Windows in the first `hours` after `start`.
    pub fn draw(random: &mut fastrand::Rng, start: DateTime<Utc>, hours: i64) -> Self {
        let end = start + TimeDelta::hours(hours);
        let mut windows = Vec::new();
        let mut from = start + TimeDelta::minutes(random.i64(60..400));
        loop {
            let to = from + TimeDelta::minutes(random.i64(5..180));
            if to > end {
                return Self(windows);
            }
            let mut often = || {
                if random.bool() { random.u8(5..60) } else { 0 }
            };
            let (database_errors, store_errors) = (often(), often());
            let steps = [-86_400, -3_600, -90, 0, 0, 0, 0, 0, 90, 3_600, 86_400];
            windows.push(FaultWindow {
                from,
                to,
                database_errors,
                store_errors,
                lag: TimeDelta::seconds(if random.bool() { random.i64(1..900) } else { 0 }),
                gaps: random.u8(..4) == 0,
                repeats: random.u8(..4) == 0,
                crash_every: random
                    .bool()
                    .then(|| TimeDelta::seconds(random.i64(20..1_800))),
                down: random.u8(..5) == 0,
                no_worker: random.u8(..4) == 0,
                two_agents: random.u8(..3) == 0,
                clock: TimeDelta::seconds(steps[random.usize(..steps.len())]),
            });
            from = to + TimeDelta::minutes(random.i64(150..900));
        }
    }

    /// When a window begins or ends next after `instant`.
    pub fn changes_after(&self, instant: DateTime<Utc>) -> Option<DateTime<Utc>> {
        let edges = self.0.iter().flat_map(|window| [window.from, window.to]);
        edges.filter(|edge| *edge > instant).min()
    }

    /// The window that `instant` lies in.
    pub fn at(&self, instant: DateTime<Utc>) -> Option<&FaultWindow> {
        self.0
            .iter()
            .find(|window| window.from <= instant && instant < window.to)
    }
}
