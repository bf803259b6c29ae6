//! A world: users who choose, operators who act, and agents that come and go.

mod job;
mod operators;
mod past;
mod users;

use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    ops::Range,
    sync::{Arc, Mutex},
};

use chrono::{DateTime, TimeDelta, Utc};
use punctual_application::{
    Jobs,
    ports::{BatchReader, Clock, WaitingItems},
    testing::ManualClock,
};
use punctual_domain::{FeatureType, JobId, Sharding, TenantId};
use uuid::Uuid;

use self::{
    job::{Job, parsed},
    operators::ManualRun,
};
use super::{
    agents::{Agent, AgentClock, Echo, Surroundings},
    database::{Kind, SimulatedDatabase},
    faults::FaultPlan,
    faulty_store::{FaultyStore, Queued},
    oracle::{JobStory, LastBackfill, Promise, Record, judge},
    outcome::{Bug, Outcome, Violation},
    outside::Outside,
};

/// Times around which something is special: clock changes, ends of months and years, a leap day.
const STARTS: [&str; 6] = [
    "2026-03-28T03:00:00Z",
    "2026-10-24T12:00:00Z",
    "2026-11-01T00:00:00Z",
    "2026-12-31T06:00:00Z",
    "2028-02-28T18:00:00Z",
    "2026-06-15T00:00:00Z",
];
const HOURS: i64 = 44;
const SETTLING_TIME: TimeDelta = TimeDelta::hours(3);
/// How long an item may be leased, or left alone, by an agent whose clock is a day ahead.
const LONGEST_WAIT: TimeDelta = TimeDelta::hours(27);
const FEATURES: [&str; 2] = ["posts", "mail"];

/// Runs one seed to its end.
pub fn simulate(seed: u64, bug: Option<Bug>) -> Outcome {
    tokio::runtime::Builder::new_current_thread()
        .enable_time()
        .start_paused(true)
        .build()
        .unwrap()
        .block_on(async { World::new(seed, bug).run().await })
}

struct World {
    random: fastrand::Rng,
    time: Arc<ManualClock>,
    faults: FaultPlan,
    around: Surroundings,
    folder: tempfile::TempDir,
    tenants: Vec<TenantId>,
    jobs: Vec<Job>,
    stories: Vec<JobStory>,
    agents: Vec<Agent>,
    /// The agent that ran last, whose folder is up to date.
    last_agent: usize,
    next_n: u32,
    promises: Vec<Promise>,
    /// By key.
    manual: BTreeMap<String, ManualRun>,
    cancelled: BTreeSet<Uuid>,
    starts: Vec<DateTime<Utc>>,
    /// Of those, the starts of agents that remembered nothing.
    first_starts: Vec<DateTime<Utc>>,
    truncated: Vec<Range<DateTime<Utc>>>,
    /// What ends a short move, and when.
    put_back: Option<DateTime<Utc>>,
    history: Vec<String>,
}

impl World {
    fn new(seed: u64, bug: Option<Bug>) -> Self {
        let mut random = fastrand::Rng::with_seed(seed);
        let start = STARTS[random.usize(..STARTS.len())];
        let time = Arc::new(ManualClock::starting_at(start));
        let faults = FaultPlan::draw(&mut random, time.now(), HOURS);
        let clock = AgentClock {
            time: time.clone(),
            faults: faults.clone(),
            bug,
        };
        let kind = if random.u8(..3) == 0 {
            Kind::Plain
        } else {
            Kind::Reference
        };
        let remembers = random.u8(..3) == 0;
        let (a, b) = (random.u64(..), random.u64(..));
        let database = SimulatedDatabase::new(kind, time.clone(), faults.clone(), a, bug);
        let store = FaultyStore::new(time.clone(), faults.clone(), b, bug);
        let year_ahead = (random.u8(..3) == 0).then(|| {
            let from = time.now() + TimeDelta::minutes(random.i64(60..2_000));
            from..from + TimeDelta::minutes(random.i64(1..400))
        });
        let until = time.now() + TimeDelta::hours(HOURS);
        let outside = Outside::new(time.clone(), random.u64(..), Some(until));
        let handler = Echo {
            time: time.clone(),
            seed: random.u64(..),
            calls: Mutex::default(),
            sent: Mutex::default(),
            outside: Arc::new(outside),
        };
        let count = 1 + usize::from(random.u8(..3) == 0);
        let jobs: Vec<Job> = FEATURES[..count]
            .iter()
            .map(|id| Job::draw(id, &mut random))
            .collect();
        let story = |job: &Job| JobStory {
            job_id: JobId::new(job.id).unwrap(),
            specs: Vec::new(),
            pauses: Vec::new(),
        };
        let tenants = (0..random.usize(4..12)).map(|n| TenantId::new(format!("t{n}")).unwrap());
        let around = Surroundings {
            clock: Arc::new(clock),
            database: Arc::new(database),
            store: Arc::new(store),
            jobs: Jobs::from(parsed(&jobs)),
            handler: Arc::new(handler),
            // Reads that hold only part of the records, and servers that do not say since when, need a memory.
            remembers: remembers || kind == Kind::Plain,
            sharding: Sharding::default(),
            year_ahead,
            bug,
        };
        let mut world = Self {
            tenants: tenants.collect(),
            stories: jobs.iter().map(story).collect(),
            jobs,
            history: faults
                .0
                .iter()
                .map(|window| format!("{} {window:?}", window.from))
                .collect(),
            faults,
            time,
            random,
            around,
            folder: folder(),
            agents: Vec::new(),
            last_agent: 0,
            next_n: 0,
            promises: Vec::new(),
            manual: BTreeMap::new(),
            cancelled: BTreeSet::new(),
            starts: Vec::new(),
            first_starts: Vec::new(),
            truncated: Vec::new(),
            put_back: None,
        };
        world.note(format!("the Config Database is {kind:?}"));
        if let Some(ahead) = world.around.year_ahead.clone() {
            let (from, to) = (ahead.start, ahead.end);
            world.note(format!(
                "the removal's clock is a year ahead from {from} to {to}"
            ));
        }
        world.write_jobs();
        world
    }

    async fn run(mut self) -> Outcome {
        let end = self.time.now() + TimeDelta::hours(HOURS);
        for tenant in self.tenants.clone() {
            for feature in FEATURES {
                self.choose(&feature_type(feature), &tenant);
            }
        }
        self.store_past().await;
        // An agent that schedules first looks no further back than its start.
        self.sleep(TimeDelta::seconds(60)).await;
        self.start_agent().await;
        let start = self.time.now();
        let mut crash_at = None;
        while self.time.now() < end {
            let now = self.time.now();
            let mut pause = TimeDelta::milliseconds(self.random.i64(1..600_000));
            let edge = self.faults.changes_after(now).into_iter();
            for next in edge.chain(self.put_back) {
                pause = pause.min((next - now).max(TimeDelta::milliseconds(1)));
            }
            let store = self.around.store.clone();
            tokio::select! {
                biased;
                () = store.new_batch.notified() => {
                    let moment = TimeDelta::milliseconds(self.random.i64(100..15_000));
                    self.sleep(moment).await;
                    self.act_on_a_batch().await;
                }
                () = tokio::time::sleep(pause.to_std().unwrap()) => self.move_something().await,
            }
            if self.put_back.is_some_and(|at| self.time.now() >= at) {
                self.put_back = None;
                self.jobs.iter_mut().for_each(|job| job.listed = true);
                self.write_jobs();
            }
            if self.random.u8(..3) == 0 {
                self.ask().await;
            }
            if self.random.u8(..100) == 0 {
                self.cancel_what_waits().await;
            }
            self.apply_fault_plan(&mut crash_at).await;
        }
        // Calm, until all that was late has come.
        self.jobs.iter_mut().for_each(|job| job.listed = true);
        self.write_jobs();
        self.apply_fault_plan(&mut None).await;
        for index in 0..self.jobs.len() {
            self.pause(index, false).await;
        }
        self.sleep(SETTLING_TIME).await;
        let latest = self.time.now() + LONGEST_WAIT;
        while self.some_wait().await && self.time.now() < latest {
            self.sleep(TimeDelta::minutes(30)).await;
        }
        // What an agent that is gone has left undone of an erasure, the next one finds.
        self.agents.drain(..).for_each(|agent| agent.crash());
        self.apply_fault_plan(&mut None).await;
        self.sleep(TimeDelta::minutes(10)).await;
        // Everything falls due on a whole minute: not at this moment, and what fell due before it has run.
        let second = self.around.clock.now().timestamp().rem_euclid(60);
        self.sleep(TimeDelta::seconds(100 - second)).await;
        let last_backfill = self.last_backfill().await;
        self.sleep(TimeDelta::minutes(30)).await;
        self.judge(start..end, last_backfill).await
    }

    async fn sleep(&self, time: TimeDelta) {
        tokio::time::sleep(time.to_std().unwrap()).await;
    }

    fn note(&mut self, what: String) {
        let now = self.time.now();
        self.history.push(format!("{now} {what}"));
    }

    fn write_jobs(&mut self) {
        let now = self.time.now();
        let config = parsed(&self.jobs);
        for story in &mut self.stories {
            let spec = config.job(&story.job_id).cloned();
            if story.specs.last().is_none_or(|(_, last)| *last != spec) {
                story.specs.push((now, spec));
            }
        }
        self.around.jobs.replace(config);
        let listed = self.jobs.iter().filter(|job| job.listed);
        let listed: Vec<String> = listed
            .map(|job| {
                format!(
                    "{} of {}, spread {}, default {}, {}",
                    job.id, job.feature, job.spread, job.time, job.catch_up
                )
            })
            .collect();
        self.note(format!("the job file has: {}", listed.join("; ")));
    }

    /// Lets agents crash, rest, and be two, as the fault window says.
    async fn apply_fault_plan(&mut self, crash_at: &mut Option<DateTime<Utc>>) {
        let now = self.time.now();
        let window = self.faults.at(now).copied();
        let every = window.and_then(|window| window.crash_every);
        match (*crash_at, every) {
            (Some(at), Some(every)) if now >= at => {
                self.note("agents crash".into());
                self.agents.drain(..).for_each(|agent| agent.crash());
                *crash_at = Some(now + every);
            }
            (None, Some(every)) => *crash_at = Some(now + every),
            (_, None) => *crash_at = None,
            _ => {}
        }
        let wanted = match window {
            Some(window) if window.down => 0,
            Some(window) if window.two_agents => 2,
            _ => 1,
        };
        while self.agents.len() > wanted {
            let ended = self.agents.remove(0);
            ended.crash();
            self.last_agent = self.agents.first().unwrap_or(&ended).number;
        }
        while self.agents.len() < wanted {
            self.start_agent().await;
        }
        // One agent works: the queue gives a chunk to one at a time.
        let works = window.is_none_or(|window| !window.no_worker);
        for (index, agent) in self.agents.iter_mut().enumerate() {
            agent.work(works && index == 0, &self.around);
        }
    }

    async fn start_agent(&mut self) {
        let number = match self.agents.first() {
            Some(other) => 1 - other.number,
            None => self.last_agent,
        };
        self.note(format!("agent {number} starts"));
        self.starts.push(self.time.now());
        if !self.folder.path().join(number.to_string()).exists() {
            self.first_starts.push(self.time.now());
        }
        let agent = Agent::start(number, &self.around, self.folder.path()).await;
        self.agents.push(agent);
        if self.agents.len() == 1 {
            self.agents[0].work(true, &self.around);
        }
    }

    /// Whether an item waits.
    async fn some_wait(&self) -> bool {
        let counts = self.around.store.inner.waiting_counts().await;
        !counts.unwrap().is_empty()
    }

    /// Batches that have not ended.
    async fn unfinished(&self) -> Vec<Uuid> {
        let mut unfinished = Vec::new();
        for batch_id in self.queued().into_keys() {
            let batch = self.around.store.inner.batch(batch_id).await.unwrap();
            unfinished.extend(
                batch
                    .filter(|batch| batch.finished_at.is_none())
                    .map(|_| batch_id),
            );
        }
        unfinished.sort();
        unfinished
    }

    fn queued(&self) -> HashMap<Uuid, Queued> {
        self.around.store.queued.lock().unwrap().clone()
    }

    async fn judge(mut self, time: Range<DateTime<Utc>>, last_backfill: LastBackfill) -> Outcome {
        let open_letters = self.open_letters().await;
        let unfinished = self.unfinished().await;
        let held = self.around.store.held().await;
        let held_of_erased = self.held_of_erased().await;
        self.agents.iter().for_each(Agent::crash);
        let store = self.around.store.clone();
        let record = Record {
            choices: self.around.database.choices(),
            says_since: self.around.database.kind == Kind::Reference,
            has_organizations: self.around.database.has_organizations(),
            jobs: self.stories.clone(),
            faults: self.faults.clone(),
            queued: self.queued(),
            commits: store.commits.lock().unwrap().clone(),
            calls: self.around.handler.calls.lock().unwrap().clone(),
            kept: store.kept.lock().unwrap().clone(),
            sent: self.around.handler.sent.lock().unwrap().clone(),
            waits: store.waits.begun.lock().unwrap().clone(),
            batches_cancelled: store.waits.cancelled.lock().unwrap().clone(),
            overlooked: store.waits.overlooked.lock().unwrap().clone(),
            removed: store.removed.lock().unwrap().clone(),
            erased: store.erased.lock().unwrap().clone(),
            held,
            held_of_erased,
            year_ahead: self.around.year_ahead.clone(),
            unfinished,
            open_letters,
            promises: std::mem::take(&mut self.promises),
            manual: self
                .manual
                .iter()
                .map(|(key, run)| (key.clone(), run.batches.clone()))
                .collect(),
            cancelled: self.cancelled.clone(),
            starts: std::mem::take(&mut self.starts),
            first_starts: std::mem::take(&mut self.first_starts),
            truncated: std::mem::take(&mut self.truncated),
            last_backfill,
            time,
        };
        for commit in &record.commits {
            let queued = &record.queued[&commit.batch_id];
            if record.last_backfill.batches.contains(&commit.batch_id) {
                continue;
            }
            let result = &commit.result;
            self.history.push(format!(
                "{} {} in {} for {} due {}, queued {} ({:?}): {:?} {}",
                result.finished_at.unwrap_or(result.started_at),
                result.item_id,
                commit.job_id,
                commit.occurrence,
                commit.scheduled_at,
                queued.at,
                queued.trigger,
                result.status,
                result.error.as_deref().unwrap_or_default()
            ));
        }
        for wait in &record.waits {
            self.history.push(format!(
                "{} {} waits in {} for {}, attempt {} at {}, until {}: {:?}",
                wait.at,
                wait.item_id,
                wait.job_id,
                wait.occurrence,
                wait.made,
                wait.purpose_id,
                wait.until,
                wait.ended
            ));
        }
        for removal in &record.removed {
            let (job_id, item_id, occurrence) = &removal.run;
            self.history.push(format!(
                "{} the result of {item_id} in {job_id} for {occurrence} is removed",
                removal.at
            ));
        }
        for erasure in &record.erased {
            let what = format!("{} {} is erased in the store", erasure.at, erasure.item_id);
            self.history.push(what);
        }
        let mut outcome = Outcome::default();
        judge(&record, &mut outcome);
        if !store.inner.pending().is_empty() {
            let what = "chunks are left in the queue".to_owned();
            outcome.violations.push(Violation {
                rule: "the queue runs empty",
                about: String::new(),
                what,
            });
        }
        self.history.sort();
        outcome.history = self.history;
        outcome
    }
}

/// A folder for what agents remember, in memory where there is one.
pub fn folder() -> tempfile::TempDir {
    let memory = std::path::Path::new("/dev/shm");
    let folder = if memory.is_dir() {
        tempfile::tempdir_in(memory)
    } else {
        tempfile::tempdir()
    };
    folder.unwrap()
}

fn feature_type(name: &str) -> FeatureType {
    FeatureType::new(name).unwrap()
}
