//! What operators do, at any time and while a batch waits.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use chrono::{DateTime, NaiveDate, TimeDelta, Utc};
use punctual_application::{
    ActiveFailures, Actor, Alerting, BackfillRequest, DeadLetterSelection, IdempotencyKey,
    Operator, TriggerRequest,
    ports::{BatchReader, Clock, DeadLetterFilter, MockItemSource, Page},
};
use punctual_domain::{Dates, DeadLetter, DeadLetterState, JobId, TenantId, Verdict, Zone};
use serde_json::json;
use uuid::Uuid;

use super::{FEATURES, World, feature_type, past::DAYS_AGO};
use crate::simulation::{
    agents::{CHUNK, processor},
    oracle::{LastBackfill, Promise},
    outcome::Bug,
};

/// A run that someone asked for under a key.
pub(super) struct ManualRun {
    job_id: JobId,
    tenant: TenantId,
    first_at: DateTime<Utc>,
    pub(super) batches: Vec<Uuid>,
}

/// How long a key is the same request, on a clock that may be an hour ahead.
const KEYS_LAST: TimeDelta = TimeDelta::hours(22);

/// The operator of the agents.
fn any_tenant_id() -> Actor {
    Actor::from("somebody")
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
    pub(super) async fn pause(&mut self, index: usize, paused: bool) {
        let now = self.time.now();
        let Some(operator) = self.operator() else {
            return;
        };
        if self.jobs[index].paused == paused {
            return;
        }
        let story = &mut self.stories[index];
        let done = if paused {
            operator.pause(&any_tenant_id(), &story.job_id).await
        } else {
            operator.resume(&any_tenant_id(), &story.job_id).await
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
    pub(super) async fn move_something(&mut self) {
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
            30 => self.old_backfill(index, tenant).await,
            31 if self.random.bool() => self.erase(&tenant),
            // While no agent runs.
            _ if self.agents.is_empty() && self.random.u8(..10) == 0 => self.erase(&tenant),
            _ => {}
        }
    }

    /// A move while a batch waits.
    pub(super) async fn act_on_a_batch(&mut self) {
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
                if operator
                    .cancel(&any_tenant_id(), batch.batch_id)
                    .await
                    .is_ok()
                {
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

    /// Cancels a batch of which an item waits.
    pub(super) async fn cancel_what_waits(&mut self) {
        let begun = self.around.store.waits.begun.lock().unwrap().clone();
        let newest = begun.into_iter().rfind(|wait| wait.ended.is_empty());
        let (Some(wait), Some(operator)) = (newest, self.operator()) else {
            return;
        };
        let cancelled = operator.cancel(&any_tenant_id(), wait.batch_id).await;
        if cancelled.is_ok() {
            self.note(format!("an operator cancels {}", wait.batch_id));
            self.cancelled.insert(wait.batch_id);
        }
    }

    /// Someone who acts on the first agent.
    fn operator(&self) -> Option<Operator> {
        let agent = self.agents.first()?;
        let store = &self.around.store;
        let (source, mirror) = (agent.config_database.clone(), agent.status.clone());
        Some(Operator {
            reader: store.inner.clone(),
            queue: store.clone(),
            waiting: store.inner.clone(),
            operations: store.inner.clone(),
            suppressions: store.inner.clone(),
            retention: store.clone(),
            alerting: Alerting::none(store.inner.clone()),
            tenant_records: store.clone(),
            fence: store.inner.clone(),
            keys: store.inner.clone(),
            preferences: agent.config_database.clone(),
            item_source: Arc::new(MockItemSource::new()),
            jobs: self.around.jobs.clone(),
            handlers: self.around.handlers(),
            processor: processor(&self.around, source, Arc::new(mirror)),
            status: agent.status.clone(),
            failures: ActiveFailures::default(),
            started_at: DateTime::UNIX_EPOCH,
            clock: self.around.clock.clone(),
            zone: Zone::utc(),
            chunk_size: CHUNK,
            sharding: self.around.sharding.clone(),
        })
    }

    pub(super) async fn open_letters(&self) -> Vec<DeadLetter> {
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
            .backfill(&any_tenant_id(), None, &job_id, &request)
            .await;
        let count = report.ok().map(|report| report.count.to_run);
        self.note(format!("a backfill of {job_id} from {from}: {count:?}"));
    }

    /// A backfill of one tenant and a date from before the simulation, results of which may have been removed.
    async fn old_backfill(&mut self, index: usize, tenant: TenantId) {
        let Some(operator) = self.operator() else {
            return;
        };
        let days = TimeDelta::days(self.random.i64(DAYS_AGO));
        let date = self.time.now().date_naive() - days;
        let job_id = self.stories[index].job_id.clone();
        let request = BackfillRequest {
            tenants: Some([tenant.clone()].into()),
            all: false,
            ..backfill(date, date, false)
        };
        let report = operator
            .backfill(&any_tenant_id(), None, &job_id, &request)
            .await;
        let count = report.ok().map(|report| report.count.to_run);
        self.note(format!(
            "a backfill of {job_id} for {tenant} on {date}: {count:?}"
        ));
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
        let replayed = operator.replay(&any_tenant_id(), None, &selection).await;
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
        // No operator runs anything for a tenant who was erased.
        let of = self.manual.get(&key).map_or(&tenant, |run| &run.tenant);
        if self.is_erased(of) {
            return;
        }
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
            .trigger(&any_tenant_id(), idempotency_key, &run.job_id, &request)
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
    pub(super) async fn ask(&mut self) {
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

    pub(super) async fn last_backfill(&mut self) -> LastBackfill {
        let operator = self.operator().unwrap();
        let at = self.around.clock.now();
        let (from, to) = (at.date_naive() - TimeDelta::days(1), at.date_naive());
        let before: BTreeSet<Uuid> = self.queued().into_keys().collect();
        let mut to_run = BTreeMap::new();
        for story in &self.stories {
            for preview in [true, false] {
                let request = backfill(from, to, preview);
                let report = operator
                    .backfill(&any_tenant_id(), None, &story.job_id, &request)
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
}
