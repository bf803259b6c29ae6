//! What goes wrong, and when: stretches of trouble, drawn from a seed, between stretches of calm.

use chrono::{DateTime, TimeDelta, Utc};

/// A stretch of time in which things fail.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Storm {
    pub from: DateTime<Utc>,
    pub to: DateTime<Utc>,
    /// The Config Database answers with errors this often, of 100.
    pub database_errors: u8,
    /// Changes come so much later.
    pub lag: TimeDelta,
    /// The feed leaves changes out.
    pub gaps: bool,
    /// The store answers with errors this often, of 100: half of them after it has done its work.
    pub store_errors: u8,
    /// A scheduler crashes about so often.
    pub crash_every: Option<TimeDelta>,
    /// Nobody schedules.
    pub down: bool,
    /// Two schedulers run.
    pub two_schedulers: bool,
    /// The agents' clocks are off by so much.
    pub clock: TimeDelta,
}

/// The storms of a simulation.
#[derive(Debug, Clone, Default)]
pub struct Weather(pub Vec<Storm>);

impl Weather {
    /// Storms for the first `hours` after `start`.
    pub fn draw(random: &mut fastrand::Rng, start: DateTime<Utc>, hours: i64) -> Self {
        let end = start + TimeDelta::hours(hours);
        let mut storms = Vec::new();
        let mut from = start + TimeDelta::minutes(random.i64(60..400));
        loop {
            let to = from + TimeDelta::minutes(random.i64(5..180));
            if to > end {
                return Self(storms);
            }
            let mut often = || {
                if random.bool() { random.u8(5..60) } else { 0 }
            };
            let (database_errors, store_errors) = (often(), often());
            let steps = [-86_400, -3_600, -90, 0, 0, 0, 0, 0, 90, 3_600, 86_400];
            storms.push(Storm {
                from,
                to,
                database_errors,
                store_errors,
                lag: TimeDelta::seconds(if random.bool() { random.i64(1..900) } else { 0 }),
                gaps: random.u8(..4) == 0,
                crash_every: random
                    .bool()
                    .then(|| TimeDelta::seconds(random.i64(20..1_800))),
                down: random.u8(..5) == 0,
                two_schedulers: random.u8(..3) == 0,
                clock: TimeDelta::seconds(steps[random.usize(..steps.len())]),
            });
            from = to + TimeDelta::minutes(random.i64(150..900));
        }
    }

    /// When the weather changes next after `instant`.
    pub fn changes_after(&self, instant: DateTime<Utc>) -> Option<DateTime<Utc>> {
        let edges = self.0.iter().flat_map(|storm| [storm.from, storm.to]);
        edges.filter(|edge| *edge > instant).min()
    }

    /// The storm at `instant`.
    pub fn at(&self, instant: DateTime<Utc>) -> Option<&Storm> {
        self.0
            .iter()
            .find(|storm| storm.from <= instant && instant < storm.to)
    }
}
