//! A world: users who choose, operators who act, and agents that come and go.

use std::{
    collections::{BTreeMap, BTreeSet},
    ops::Range,
    sync::{Arc, Mutex},
};

use chrono::{DateTime, NaiveDate, TimeDelta, Utc};
use punctual_application::{
    ActiveFailures, Actor, BackfillRequest, DeadLetterSelection, IdempotencyKey, Jobs, Operator,
    TriggerRequest,
    ports::{BatchReader, Clock, DeadLetterFilter, MockItemSource, Page},
    testing::ManualClock,
};
use punctual_domain::{
    BatchConfig, Dates, DeadLetter, DeadLetterState, FeatureType, JobId, TenantId, Verdict, Zone,
};
use serde_json::{Map, Value, json};
use uuid::Uuid;

use super::{
    agents::{Agent, AgentClock, CHUNK, Echo, Surroundings},
    database::{Kind, Object, SimulatedDatabase},
    faults::FaultPlan,
    faulty_store::FaultyStore,
    oracle::{JobStory, LastBackfill, Promise, Record, judge},
};

/// A mistake put in on purpose, to see that it is found.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Bug {
    /// StoredPosition is stored, and the batches of the same tick are not, now and then.
    ProgressWithoutBatches,
    /// StoredPosition is stored that has not been made.
    ProgressAhead,
    /// A read that fails is taken for an empty one.
    ErrorsReadAsEmpty,
    /// The feed leaves out every fifth change, and calm times do not help.
    FeedLosesChanges,
    /// Results are committed for the first tenant of the chunk.
    ResultsOfAnother,
    /// The schedule takes the time an hour late.
    ClockIsOff,
    /// A full read that has lost most is taken.
    TruncatedReadsAreTaken,
    /// A queued item runs with the preference that was first seen.
    ItemsKeepOldPreferences,
    /// A replay settles the dead letter and queues nothing.
    ReplaysAreLost,
    /// A manual run does not look at its key.
    ManualRunsForgetTheirKey,
}

impl Bug {
    pub const ALL: [Self; 10] = [
        Self::ProgressWithoutBatches,
        Self::ProgressAhead,
        Self::ErrorsReadAsEmpty,
        Self::FeedLosesChanges,
        Self::ResultsOfAnother,
        Self::ClockIsOff,
        Self::TruncatedReadsAreTaken,
        Self::ItemsKeepOldPreferences,
        Self::ReplaysAreLost,
        Self::ManualRunsForgetTheirKey,
    ];
}

/// What a simulation has shown.
#[derive(Debug, Default, PartialEq)]
pub struct Outcome {
    /// Occurrences that had to run, and did unless `violations` says otherwise.
    pub required: usize,
    /// Occurrences that faults or moves may have kept from running.
    pub excused: usize,
    /// Answers of `explain` that were compared with what happened.
    pub promises: usize,
    pub violations: Vec<Violation>,
    /// What happened, in the order of time.
    pub history: Vec<String>,
}

/// A rule that was not kept.
#[derive(Debug, PartialEq)]
pub struct Violation {
    pub rule: &'static str,
    /// The tenant, or the job or key where there is none.
    pub about: String,
    pub what: String,
}

impl Outcome {
    /// The first violations, and what of the history concerns the first.
    pub fn trace(&self) -> String {
        let violation = |violation: &Violation| format!("{}: {}", violation.rule, violation.what);
        let violations: Vec<String> = self.violations.iter().map(violation).collect();
        let subject = self
            .violations
            .first()
            .map_or("", |violation| &violation.about);
        let concerns = |line: &&String| {
            let mut words = line.split([' ', ':']);
            let of_a_tenant = |word: &str| word.starts_with('t') && word[1..].parse::<u8>().is_ok();
            words.clone().any(|word| word == subject) || !words.any(of_a_tenant)
        };
        let lines: Vec<&str> = self
            .history
            .iter()
            .filter(concerns)
            .map(|line| &**line)
            .collect();
        let some = violations.len().min(40);
        format!(
            "{} violations:\n{}\n\nwhat concerns {subject}:\n{}",
            violations.len(),
            violations[..some].join("\n"),
            lines.join("\n")
        )
    }
}

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
const SETTLE: TimeDelta = TimeDelta::hours(3);
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

/// What the job file says of a job.
#[derive(Debug, Clone)]
struct Job {
    id: &'static str,
    /// Whether it is in the file.
    listed: bool,
    paused: bool,
    feature: &'static str,
    spread: u32,
    time: &'static str,
    catch_up: Value,
}

impl Job {
    fn draw(id: &'static str, random: &mut fastrand::Rng) -> Self {
        let catch_up = match random.u8(..8) {
            0 | 1 => json!({"policy": "all"}),
            2 => json!({"policy": "skip"}),
            3 => json!({"policy": "all", "window_minutes": 90}),
            4 => json!({"policy": "latest", "window_minutes": 30}),
            _ => json!({"policy": "latest"}),
        };
        let mut job = Self {
            id,
            listed: true,
            paused: false,
            feature: id,
            spread: 0,
            time: "09:00",
            catch_up,
        };
        job.edit(random);
        job
    }

    /// Changes what the file says of it.
    fn edit(&mut self, random: &mut fastrand::Rng) {
        match random.u8(..8) {
            0 => self.feature = FEATURES[random.usize(..2)],
            1..4 => self.time = ["06:00", "09:00", "12:30", "18:00"][random.usize(..4)],
            _ => self.spread = [0, 0, 30, 60, 240][random.usize(..5)],
        }
    }

    fn to_json(&self) -> Value {
        json!({"job_id": self.id, "type": "individual_batch", "purpose_id": "echo", "preference_based": true,
            "feature_type": self.feature, "spread_minutes": self.spread, "catch_up": self.catch_up,
            "default_preferences": {"preferred_time": self.time}})
    }
}

/// The fields of a preference that say when; `None` removes it.
fn when(random: &mut fastrand::Rng) -> Option<Map<String, Value>> {
    const ZONES: [&str; 6] = [
        "UTC",
        "Europe/Berlin",
        "America/New_York",
        "Asia/Kathmandu",
        "Pacific/Auckland",
        "America/Sao_Paulo",
    ];
    let minute = [0, 0, 15, 30][random.usize(..4)];
    let time = format!("{:02}:{minute:02}", random.u8(..24));
    let mut when = json!({"enabled": random.u8(..10) > 0, "frequency": "daily", "preferred_time": time,
        "timezone": ZONES[random.usize(..ZONES.len())]});
    if random.u8(..4) == 0 {
        when.as_object_mut()?.remove("preferred_time");
    }
    match random.u8(..24) {
        0 | 1 => return None,
        2 => when["preferred_time"] = json!("25:00"),
        3 => when["frequency"] = json!([{"deep": [[[[7]]]]}]),
        4 => when["preferred_day"] = json!(45),
        5 => when["timezone"] = json!("Mars/Phobos"),
        6..10 => when["frequency"] = json!("hourly"),
        10 | 11 => {
            when["frequency"] = json!("weekly");
            when["preferred_day"] = json!(["saturday", "sunday", "monday"]);
        }
        12 | 13 => {
            when["frequency"] = json!("monthly");
            when["preferred_day"] = json!([1, 29, "last"]);
        }
        _ => {}
    }
    when.as_object().cloned()
}

/// A run that someone asked for under a key.
struct ManualRun {
    job_id: JobId,
    tenant: TenantId,
    first_at: DateTime<Utc>,
    batches: Vec<Uuid>,
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

/// How long a key is the same request, on a clock that may be an hour ahead.
const KEYS_LAST: TimeDelta = TimeDelta::hours(22);

/// The operator of the agents.
fn somebody() -> Actor {
    Actor("somebody".to_owned())
}

fn backfill(from: NaiveDate, to: NaiveDate, preview: bool) -> BackfillRequest {
    BackfillRequest {
        from,
        to,
        tenants: None,
        all: true,
        allow_unknown: false,
        preview,
    }
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
        let handler = Echo {
            time: time.clone(),
            seed: random.u64(..),
            calls: Mutex::default(),
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
            bug,
        };
        let memory = std::path::Path::new("/dev/shm");
        let folder = match memory.is_dir() {
            true => tempfile::tempdir_in(memory),
            false => tempfile::tempdir(),
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
            folder: folder.unwrap(),
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
                    self.meet_a_batch().await;
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
            self.follow_the_faults(&mut crash_at).await;
        }
        // Calm, until all that was late has come.
        self.jobs.iter_mut().for_each(|job| job.listed = true);
        self.write_jobs();
        self.follow_the_faults(&mut None).await;
        for index in 0..self.jobs.len() {
            self.pause(index, false).await;
        }
        self.sleep(SETTLE).await;
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

    /// Stores what a tenant chooses.
    fn store(
        &mut self,
        feature: &FeatureType,
        tenant: &TenantId,
        preference: Option<Map<String, Value>>,
        stored_at: Option<DateTime<Utc>>,
    ) {
        let n = self.next_n;
        self.next_n += 1;
        let preference = preference.map(|mut preference| {
            preference.insert("template_overrides".into(), json!({"of": tenant, "n": n}));
            Object::from(preference)
        });
        let old = stored_at.map_or(String::new(), |at| format!(" (imported, of {at})"));
        self.note(format!(
            "{tenant} chooses for {feature} {}{old}",
            json!(preference)
        ));
        let database = &self.around.database;
        database.store(feature, tenant, preference, stored_at);
    }

    fn choose(&mut self, feature: &FeatureType, tenant: &TenantId) {
        let preference = when(&mut self.random);
        self.store(feature, tenant, preference, None);
    }

    /// Changes what a tenant has chosen, in one of the ways that there are.
    fn edit(&mut self, feature: &FeatureType, tenant: &TenantId) {
        let Some(current) = self.around.database.current(feature, tenant) else {
            return self.choose(feature, tenant);
        };
        let mut new = (*current).clone();
        match self.random.u8(..12) {
            0..4 => {}
            4 => {
                new.insert("note".into(), json!(self.next_n));
            }
            5 => {
                let on = new.get("enabled") == Some(&json!(true));
                new.insert("enabled".into(), json!(!on));
            }
            6 => {
                let days = TimeDelta::hours(self.random.i64(1..1_500));
                let stored_at = self.time.now() - days;
                let imported = if self.random.bool() {
                    when(&mut self.random)
                } else {
                    Some(new)
                };
                return self.store(feature, tenant, imported, Some(stored_at));
            }
            7 | 8 => {
                let time = format!("{:02}:{:02}", self.random.u8(..24), self.random.u8(..60));
                new.insert("preferred_time".into(), json!(time));
            }
            _ => return self.choose(feature, tenant),
        }
        self.store(feature, tenant, Some(new), None);
    }

    fn any_tenant(&mut self) -> TenantId {
        self.tenants[self.random.usize(..self.tenants.len())].clone()
    }

    async fn pause(&mut self, index: usize, paused: bool) {
        let now = self.time.now();
        let Some(operator) = self.operator() else {
            return;
        };
        if self.jobs[index].paused == paused {
            return;
        }
        let story = &mut self.stories[index];
        let done = match paused {
            true => operator.pause(&somebody(), &story.job_id).await,
            false => operator.resume(&somebody(), &story.job_id).await,
        };
        // A job that is not in the file is refused.
        if done.is_err() {
            return;
        }
        self.jobs[index].paused = paused;
        if paused {
            story.pauses.push(now..DateTime::<Utc>::MAX_UTC);
        } else if let Some(pause) = story.pauses.last_mut() {
            pause.end = now;
        }
        let word = if paused { "pauses" } else { "resumes" };
        self.note(format!("an operator {word} {}", self.jobs[index].id));
    }

    /// Takes a job out of the file for a while.
    fn take_out(&mut self, index: usize, most: TimeDelta) {
        let seconds = self.random.i64(3..most.num_seconds());
        self.jobs[index].listed = false;
        self.put_back = Some(self.time.now() + TimeDelta::seconds(seconds));
        self.write_jobs();
    }

    /// A move at any time.
    async fn move_something(&mut self) {
        let index = self.random.usize(..self.jobs.len());
        let tenant = self.any_tenant();
        match self.random.u8(..100) {
            0..18 => {
                let feature = feature_type(FEATURES[self.random.usize(..2)]);
                self.edit(&feature, &tenant);
            }
            18..20 => {
                let paused = self.jobs[index].paused;
                self.pause(index, !paused).await;
            }
            20 => self.take_out(index, TimeDelta::hours(1)),
            21..23 => {
                let mut random = self.random.fork();
                self.jobs[index].edit(&mut random);
                self.write_jobs();
            }
            23 => self.backfill(index).await,
            24..27 => self.replay().await,
            27..29 => self.trigger(index, tenant).await,
            29 if self.around.remembers => {
                let now = self.time.now();
                let until = now + TimeDelta::seconds(self.random.i64(5..35));
                self.truncated.push(now..until);
                let one_in = self.random.usize(..4).saturating_sub(1) * 3;
                let features = FEATURES.map(feature_type);
                self.around
                    .database
                    .truncate_until(until, one_in, &features);
                self.note(format!("snapshots are truncated until {until}"));
            }
            _ => {}
        }
    }

    /// A move while a batch waits.
    async fn meet_a_batch(&mut self) {
        let newest = self.around.store.newest.lock().unwrap().clone();
        let Some(batch) = newest else { return };
        let job = self
            .jobs
            .iter()
            .position(|job| job.id == batch.job_id.as_str());
        let (Some(index), Some(chunk)) = (job, batch.chunks.first()) else {
            return;
        };
        let item = &chunk.items[self.random.usize(..chunk.items.len())];
        let tenant = item.tenant().expect("every job follows preferences");
        let feature = feature_type(self.jobs[index].feature);
        match self.random.u8(..8) {
            0 => {
                let Some(operator) = self.operator() else {
                    return;
                };
                if operator.cancel(&somebody(), batch.batch_id).await.is_ok() {
                    self.note(format!("an operator cancels {}", batch.batch_id));
                    self.cancelled.insert(batch.batch_id);
                }
            }
            1 => self.take_out(index, TimeDelta::seconds(40)),
            2 => self.replay().await,
            3 => {
                if let Some(current) = self.around.database.current(&feature, &tenant) {
                    let mut broken = (*current).clone();
                    broken.insert("preferred_time".into(), json!("nine"));
                    self.store(&feature, &tenant, Some(broken), None);
                }
            }
            _ => self.edit(&feature, &tenant),
        }
    }

    /// Someone who acts on the first agent.
    fn operator(&self) -> Option<Operator> {
        let agent = self.agents.first()?;
        let store = &self.around.store;
        Some(Operator {
            reader: store.inner.clone(),
            queue: store.clone(),
            operations: store.inner.clone(),
            preferences: agent.config_database.clone(),
            item_source: Arc::new(MockItemSource::new()),
            jobs: self.around.jobs.clone(),
            handlers: self.around.handlers(),
            status: agent.status.clone(),
            failures: ActiveFailures::default(),
            started_at: DateTime::UNIX_EPOCH,
            clock: self.around.clock.clone(),
            zone: Zone::utc(),
            chunk_size: CHUNK,
        })
    }

    async fn open_letters(&self) -> Vec<DeadLetter> {
        let filter = DeadLetterFilter {
            state: Some(DeadLetterState::Open),
            ..DeadLetterFilter::default()
        };
        let many = Page {
            cursor: None,
            limit: 1_000,
        };
        let store = &self.around.store.inner;
        store.dead_letters(&filter, &many).await.unwrap().0
    }

    async fn backfill(&mut self, index: usize) {
        let Some(operator) = self.operator() else {
            return;
        };
        let today = self.around.clock.now().date_naive();
        let from = today - TimeDelta::days(self.random.i64(0..3));
        let job_id = self.stories[index].job_id.clone();
        let request = backfill(from, today, false);
        let report = operator
            .backfill(&somebody(), None, &job_id, &request)
            .await;
        let count = report.ok().map(|report| report.count.to_run);
        self.note(format!("a backfill of {job_id} from {from}: {count:?}"));
    }

    async fn replay(&mut self) {
        let Some(operator) = self.operator() else {
            return;
        };
        let letters = self.open_letters().await;
        let all = self.random.bool();
        let letters: Vec<_> = letters
            .into_iter()
            .take(if all { 100 } else { 1 })
            .collect();
        if letters.is_empty() {
            return;
        }
        let selection = DeadLetterSelection {
            ids: Some(letters.iter().map(|letter| letter.id).collect()),
            ..DeadLetterSelection::default()
        };
        let replayed = operator.replay(&somebody(), None, &selection).await;
        let done = replayed.is_ok();
        for letter in letters {
            self.note(format!(
                "a replay of {} in {} for {}: {done}",
                letter.item_id, letter.job_id, letter.occurrence
            ));
        }
    }

    async fn trigger(&mut self, index: usize, tenant: TenantId) {
        let Some(operator) = self.operator() else {
            return;
        };
        // Half of the time a caller is not sure whether the last call came through, and calls again.
        let now = self.time.now();
        let last = self.manual.iter().next_back();
        // A clock that steps by a day forgets every key.
        let jumped = |since: DateTime<Utc>| {
            let windows = &mut self.faults.0.iter();
            windows.any(|window| {
                window.clock.abs() > TimeDelta::hours(1) && window.from <= now && since <= window.to
            })
        };
        let last = last.filter(|(_, run)| now < run.first_at + KEYS_LAST && !jumped(run.first_at));
        let again = last.map(|(key, _)| key.clone());
        let again = again.filter(|_| self.random.bool());
        let key = again.unwrap_or_else(|| format!("key-{:04}", self.manual.len()));
        let new = ManualRun {
            job_id: self.stories[index].job_id.clone(),
            tenant,
            first_at: now,
            batches: Vec::new(),
        };
        let forgets = self.around.bug == Some(Bug::ManualRunsForgetTheirKey);
        let run = self.manual.entry(key.clone()).or_insert(new);
        let request = TriggerRequest {
            tenants: Some([run.tenant.clone()].into()),
            all: false,
            allow_unknown: true,
        };
        let idempotency_key = IdempotencyKey::new(&key).unwrap();
        let idempotency_key = Some(&idempotency_key).filter(|_| !forgets);
        let triggered = operator
            .trigger(&somebody(), idempotency_key, &run.job_id, &request)
            .await;
        let batch = triggered.ok().map(|triggered| triggered.batch_id);
        run.batches.extend(batch);
        let what = format!(
            "a manual run of {} for {}, {key}: {batch:?}",
            run.job_id, run.tenant
        );
        self.note(what);
    }

    /// Asks `explain`, and keeps what it promises.
    async fn ask(&mut self) {
        let Some(operator) = self.operator() else {
            return;
        };
        let tenant = self.any_tenant();
        let job_id = self.stories[self.random.usize(..self.stories.len())]
            .job_id
            .clone();
        let Ok(explained) = operator.explain(&tenant, &job_id, None).await else {
            return;
        };
        let Some(occurrence) = explained.occurrence else {
            return;
        };
        let (due_at, runs) = match explained.verdict {
            Verdict::WillRun { due_at } => (due_at, true),
            Verdict::StoredTooLate { due_at, .. }
            | Verdict::Missed { due_at, .. }
            | Verdict::JobWasPaused { due_at, .. } => (due_at, false),
            _ => return,
        };
        self.promises.push(Promise {
            asked_at: self.time.now(),
            job_id,
            tenant,
            occurrence,
            due_at,
            runs,
        });
    }

    /// Lets agents crash, rest, and be two, as the fault window says.
    async fn follow_the_faults(&mut self, crash_at: &mut Option<DateTime<Utc>>) {
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

    async fn last_backfill(&mut self) -> LastBackfill {
        let operator = self.operator().unwrap();
        let at = self.around.clock.now();
        let (from, to) = (at.date_naive() - TimeDelta::days(1), at.date_naive());
        let before: BTreeSet<Uuid> = self.queued().into_keys().collect();
        let mut to_run = BTreeMap::new();
        for story in &self.stories {
            for preview in [true, false] {
                let request = backfill(from, to, preview);
                let report = operator
                    .backfill(&somebody(), None, &story.job_id, &request)
                    .await;
                if let Ok(report) = report
                    && preview
                {
                    to_run.insert(story.job_id.clone(), report.count.to_run);
                }
            }
        }
        self.note(format!("a backfill of everything from {from}: {to_run:?}"));
        LastBackfill {
            at,
            dates: Dates::new(from, to).unwrap(),
            to_run,
            batches: self
                .queued()
                .into_keys()
                .filter(|id| !before.contains(id))
                .collect(),
        }
    }

    fn queued(&self) -> std::collections::HashMap<Uuid, super::faulty_store::Queued> {
        self.around.store.queued.lock().unwrap().clone()
    }

    async fn judge(mut self, time: Range<DateTime<Utc>>, last_backfill: LastBackfill) -> Outcome {
        let open_letters = self.open_letters().await;
        self.agents.iter().for_each(Agent::crash);
        let store = self.around.store.clone();
        let record = Record {
            choices: self.around.database.choices(),
            says_since: self.around.database.kind == Kind::Reference,
            jobs: self.stories.clone(),
            faults: self.faults.clone(),
            queued: self.queued(),
            commits: store.commits.lock().unwrap().clone(),
            calls: self.around.handler.calls.lock().unwrap().clone(),
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

fn feature_type(name: &str) -> FeatureType {
    FeatureType::new(name).unwrap()
}

fn parsed(jobs: &[Job]) -> BatchConfig {
    let jobs: Vec<Value> = jobs
        .iter()
        .filter(|job| job.listed)
        .map(Job::to_json)
        .collect();
    punctual_project::parse_batch_config(&json!({"jobs": jobs}), &Zone::utc()).unwrap()
}
