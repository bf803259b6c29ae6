//! Agents that divide the tenants among them, while users edit, agents crash and stay away, and the number of agents changes:
//! every occurrence has run in one of their stores, once.

use std::{
    collections::{BTreeMap, BTreeSet},
    ops::Range,
    sync::{Arc, Mutex},
};

use chrono::{DateTime, NaiveDate, NaiveTime, TimeDelta, Utc};
use punctual_application::{
    Jobs,
    ports::{Clock, WorkQueue},
    testing::ManualClock,
};
use punctual_domain::{
    FeatureType, ItemId, Occurrence, Shard, ShardAssignment, Sharding, TenantId, Zone,
};
use serde_json::json;

use super::{
    agents::{Agent, AgentClock, Echo, Surroundings},
    check,
    database::{Kind, SimulatedDatabase},
    faults::FaultPlan,
    faulty_store::FaultyStore,
    outcome::{Outcome, Violation},
    outside::Outside,
    over, replay_with, seeds,
};

/// How many seeds a usual run takes.
const SEEDS: u64 = 10;
const DAYS: i64 = 9;
const AGENTS: usize = 4;
const TENANTS: usize = 16;
const ZONES: [&str; 5] = [
    "UTC",
    "Europe/Berlin",
    "Pacific/Kiritimati",
    "Pacific/Pago_Pago",
    "America/New_York",
];
/// Around it summer time begins, in two zones.
const START: &str = "2026-03-05T03:17:00Z";

/// A mistake that is put in, to see that it is found.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Mistake {
    /// The newest division counts for all dates.
    ForgetsFormerDivisions,
    /// A division counts from another moment on in each store.
    ChangesAtOnce,
}

#[test]
fn agents_that_divide_the_tenants_anew_run_every_occurrence_once() {
    let outcomes = over(seeds(SEEDS), |seed| simulate(seed, None));
    check(&outcomes, "shards::replay");
    let required: usize = outcomes.iter().map(|(_, outcome)| outcome.required).sum();
    println!("{required} occurrences had to run once and did");
    assert!(required > outcomes.len() * 40, "{required} required");
}

#[test]
fn mistakes_in_the_division_are_found() {
    for mistake in [Mistake::ForgetsFormerDivisions, Mistake::ChangesAtOnce] {
        let outcomes = over(0..3, |seed| simulate(seed, Some(mistake)));
        let found = outcomes
            .iter()
            .filter(|(_, outcome)| !outcome.violations.is_empty());
        assert!(found.count() > 0, "{mistake:?}");
    }
}

/// Does nothing unless `SEED` says which.
#[test]
fn replay() {
    replay_with(|seed| simulate(seed, None));
}

fn simulate(seed: u64, mistake: Option<Mistake>) -> Outcome {
    tokio::runtime::Builder::new_current_thread()
        .enable_time()
        .start_paused(true)
        .build()
        .unwrap()
        .block_on(async { Shards::new(seed, mistake).run().await })
}

/// An agent and its store, which outlives it.
struct Place {
    around: Surroundings,
    agent: Option<Agent>,
    assignment: Option<ShardAssignment>,
    /// When it starts with its assignment, where it has not yet.
    starts_at: Option<DateTime<Utc>>,
}

struct Shards {
    random: fastrand::Rng,
    time: Arc<ManualClock>,
    database: Arc<SimulatedDatabase>,
    places: Vec<Place>,
    /// How many agents there are in the division that counts next.
    count: u32,
    tenants: Vec<TenantId>,
    /// When each tenant has edited, and whether something was due daily from then on.
    edits: BTreeMap<TenantId, Vec<(DateTime<Utc>, bool)>>,
    /// Whether the job makes up for all that it has missed.
    makes_up_all: bool,
    /// When agents were down for days.
    away: Vec<Range<DateTime<Utc>>>,
    folder: tempfile::TempDir,
    mistake: Option<Mistake>,
    history: Vec<String>,
}

impl Shards {
    fn new(seed: u64, mistake: Option<Mistake>) -> Self {
        let mut random = fastrand::Rng::with_seed(seed);
        let time = Arc::new(ManualClock::starting_at(START));
        let faults = FaultPlan::default();
        let database = Arc::new(SimulatedDatabase::new(
            Kind::Reference,
            time.clone(),
            faults.clone(),
            random.u64(..),
            None,
        ));
        let makes_up_all = random.bool();
        let catch_up = if makes_up_all { "all" } else { "latest" };
        let spread = [0, 60, 240][random.usize(..3)];
        let job = json!({"jobs": [{"job_id": "posts", "type": "individual_batch", "purpose_id": "echo",
            "preference_based": true, "feature_type": "posts", "catch_up": {"policy": catch_up},
            "spread_minutes": spread}]});
        let jobs = Jobs::from(punctual_project::parse_batch_config(&job, &Zone::utc()).unwrap());
        let handler = Arc::new(Echo {
            time: time.clone(),
            seed: random.u64(..),
            calls: Mutex::default(),
            sent: Mutex::default(),
            outside: Arc::new(Outside::new(time.clone(), 0, None)),
        });
        let clock = Arc::new(AgentClock {
            time: time.clone(),
            faults: faults.clone(),
            bug: None,
        });
        let remembers = random.bool();
        let place = |_| Place {
            around: Surroundings {
                clock: clock.clone(),
                database: database.clone(),
                store: Arc::new(FaultyStore::new(time.clone(), faults.clone(), 0, None)),
                jobs: jobs.clone(),
                handler: handler.clone(),
                remembers,
                sharding: Sharding::default(),
                year_ahead: None,
                bug: None,
            },
            agent: None,
            assignment: None,
            starts_at: None,
        };
        Self {
            places: (0..AGENTS).map(place).collect(),
            count: random.u32(1..=AGENTS as u32),
            tenants: (0..TENANTS)
                .map(|n| TenantId::new(format!("t{n}")).unwrap())
                .collect(),
            edits: BTreeMap::new(),
            makes_up_all,
            away: Vec::new(),
            folder: super::world::folder(),
            random,
            time,
            database,
            mistake,
            history: Vec::new(),
        }
    }

    fn note(&mut self, what: String) {
        let now = self.time.now();
        self.history.push(format!("{now} {what}"));
    }

    async fn run(mut self) -> Outcome {
        for tenant in self.tenants.clone() {
            self.edit(&tenant);
        }
        self.sleep(60).await;
        for number in 0..self.count as usize {
            self.places[number].assignment =
                Shard::new(number as u32 + 1, self.count).map(Into::into);
            self.start(number).await;
        }
        let start = self.time.now();
        let end = start + TimeDelta::days(DAYS);
        let mut divides_at = start + TimeDelta::hours(self.random.i64(1..40));
        while self.time.now() < end {
            let pause = self.random.u64(60..7_200);
            self.sleep(pause).await;
            let now = self.time.now();
            if now >= divides_at && now < end - TimeDelta::days(4) {
                self.divide();
                divides_at = now + TimeDelta::days(4);
            }
            match self.random.u8(..10) {
                0 => {
                    let tenant = self.tenants[self.random.usize(..TENANTS)].clone();
                    self.edit(&tenant);
                }
                // A crash; it comes back a while later.
                3 => {
                    let number = self.random.usize(..AGENTS);
                    if let Some(agent) = self.places[number].agent.take() {
                        agent.crash();
                        self.note(format!("agent {number} crashes"));
                        let away = TimeDelta::minutes(self.random.i64(0..180));
                        let starts_at = &mut self.places[number].starts_at;
                        *starts_at = Some(starts_at.map_or(now + away, |at| at.min(now + away)));
                    }
                }
                _ => {}
            }
            for number in 0..AGENTS {
                if self.places[number].starts_at.is_some_and(|at| at <= now) {
                    self.start(number).await;
                }
            }
        }
        for number in 0..AGENTS {
            if self.places[number].starts_at.is_some() {
                self.start(number).await;
            }
        }
        self.sleep(6 * 3600).await;
        self.judge(start, end)
    }

    async fn sleep(&self, seconds: u64) {
        tokio::time::sleep(std::time::Duration::from_secs(seconds)).await;
    }

    /// Another number of agents from a date on. Each is started with it once: those that have worked before that date
    /// begins anywhere, new ones also a while later.
    fn divide(&mut self) {
        let now = self.time.now();
        let count = 1 + (self.count + self.random.u32(0..AGENTS as u32 - 1)) % AGENTS as u32;
        let from =
            (now + TimeDelta::hours(14)).date_naive() + TimeDelta::days(self.random.i64(1..3));
        self.note(format!("from {from} on there are {count} agents"));
        let begins = from.and_time(NaiveTime::MIN).and_utc() - TimeDelta::hours(14);
        for number in 0..AGENTS {
            let shard = Shard::new(number as u32 + 1, count);
            let place = &mut self.places[number];
            let is_new = place.assignment.is_none();
            if place.assignment.and_then(|before| before.shard) == shard {
                continue;
            }
            place.assignment = Some(ShardAssignment {
                shard,
                from: Some(from),
            });
            // One that is down over the date takes it up when it comes back.
            let is_away = self.makes_up_all && self.random.u8(..4) == 0;
            if is_away {
                place.agent.take().iter().for_each(Agent::crash);
                self.away.push(now..begins + TimeDelta::hours(24));
            }
            let latest = if is_new || is_away {
                begins + TimeDelta::hours(20)
            } else {
                begins - TimeDelta::minutes(150)
            };
            let minutes = (latest - now).num_minutes().max(1);
            let minutes = if is_away {
                minutes
            } else {
                self.random.i64(0..minutes)
            };
            let at = now + TimeDelta::minutes(minutes);
            // One that has crashed comes back when it would have.
            let sooner = place.starts_at.filter(|_| !is_away);
            place.starts_at = Some(sooner.map_or(at, |sooner| sooner.min(at)));
        }
        self.count = count;
    }

    /// Starts the agent with its newest assignment, in place of the one that runs.
    async fn start(&mut self, number: usize) {
        let now = self.time.now();
        let place = &mut self.places[number];
        place.starts_at = None;
        let Some(assignment) = place.assignment else {
            return;
        };
        if let Some(agent) = place.agent.take() {
            agent.crash();
        }
        let store = place.around.store.clone();
        place.around.sharding = match (self.mistake, assignment.from) {
            (Some(Mistake::ForgetsFormerDivisions), Some(_)) => {
                let always = ShardAssignment {
                    from: None,
                    ..assignment
                };
                Sharding::assign(None, &always, &[], now).unwrap()
            }
            (Some(Mistake::ChangesAtOnce), Some(from)) => {
                let assignment = ShardAssignment {
                    from: Some(from.min((now + TimeDelta::hours(38)).date_naive())),
                    ..assignment
                };
                let stored = Some(place.around.sharding.clone());
                Sharding::assign(stored, &assignment, &[], now).unwrap_or_default()
            }
            _ => store.assign(&assignment, now).await.unwrap(),
        };
        let mut agent = Agent::start(number, &place.around, self.folder.path()).await;
        agent.work(true, &place.around);
        place.agent = Some(agent);
        let sharding = place.around.sharding.to_string();
        self.note(format!(
            "agent {number} starts with {assignment} and serves {sharding}"
        ));
    }

    fn edit(&mut self, tenant: &TenantId) {
        let zone = ZONES[self.random.usize(..ZONES.len())];
        let time =
            NaiveTime::from_hms_opt(self.random.u32(..24), self.random.u32(..12) * 5, 0).unwrap();
        let is_on = self.random.u8(..8) > 0;
        let hourly = self.random.u8(..6) == 0;
        let frequency = if hourly { "hourly" } else { "daily" };
        let preference = json!({"enabled": is_on, "frequency": frequency, "timezone": zone,
            "preferred_time": time.format("%H:%M").to_string()});
        self.note(format!("{tenant} chooses {preference}"));
        let feature = FeatureType::new("posts").unwrap();
        let object = preference.as_object().cloned().map(Arc::new);
        self.database.store(&feature, tenant, object, None);
        let daily = is_on && !hourly;
        let now = self.time.now();
        self.edits
            .entry(tenant.clone())
            .or_default()
            .push((now, daily));
    }

    /// Every occurrence at most once in all stores; the daily ones around which nothing was edited once.
    fn judge(mut self, start: DateTime<Utc>, end: DateTime<Utc>) -> Outcome {
        let mut runs: BTreeMap<(ItemId, Occurrence), usize> = BTreeMap::new();
        let mut outcome = Outcome::default();
        for (number, place) in self.places.iter().enumerate() {
            place.agent.iter().for_each(Agent::crash);
            for commit in &*place.around.store.commits.lock().unwrap() {
                let key = (commit.result.item_id.clone(), commit.occurrence);
                *runs.entry(key).or_default() += 1;
                self.history.push(format!(
                    "{} {} for {} runs at agent {number}",
                    commit.result.started_at, commit.result.item_id, commit.occurrence
                ));
            }
        }
        for ((item, occurrence), times) in &runs {
            if *times > 1 {
                outcome.violations.push(Violation {
                    rule: "no occurrence runs twice",
                    about: item.to_string(),
                    what: format!("{item} for {occurrence} has run {times} times"),
                });
            }
        }
        let mut required: BTreeSet<(TenantId, NaiveDate)> = BTreeSet::new();
        for (tenant, edits) in &self.edits {
            let ends = edits.iter().skip(1).map(|(at, _)| *at).chain([end]);
            for ((from, daily), until) in edits.iter().zip(ends) {
                if !daily {
                    continue;
                }
                // A date begins and ends within fourteen hours of the one in UTC, and nothing is late by a day.
                let first = (*from.max(&start) + TimeDelta::hours(40)).date_naive();
                // What an edit replaces is not made up for.
                let away = self.away.iter().filter(|away| away.contains(&until));
                let calm = away.map(|away| away.start).min().unwrap_or(until);
                let last = (calm - TimeDelta::hours(40)).date_naive();
                let days = first.iter_days().take_while(|day| *day <= last);
                required.extend(days.map(|day| (tenant.clone(), day)));
            }
        }
        outcome.required = required.len();
        for (tenant, day) in required {
            if !runs.contains_key(&((&tenant).into(), Occurrence::Date(day, 1))) {
                outcome.violations.push(Violation {
                    rule: "every occurrence runs",
                    about: tenant.to_string(),
                    what: format!("{tenant} for {day} has not run"),
                });
            }
        }
        self.history.sort();
        outcome.history = self.history;
        outcome
    }
}
