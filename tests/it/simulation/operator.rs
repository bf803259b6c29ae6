//! What an operator does to jobs, and asks: as the agent's API does it.

use std::sync::Arc;

use chrono::{DateTime, NaiveDate, TimeDelta, Utc};
use punctual_application::{
    BackfillCount, Jobs, backfill, chunk_size_of,
    ports::{BatchReader, Clock, ConfigDatabase, DeadLetterFilter, Page, TenantRuns, WorkQueue},
    replay,
};
use punctual_domain::{
    Choice, Dates, DeadLetter, DeadLetterState, Facts, Firing, Horizon, JobConfig, JobId, NewBatch,
    Occasion, Occurrence, TenantId, Trigger, Verdict, Work, Zone, explain,
};
use punctual_infrastructure::StatusHandle;
use uuid::Uuid;

use super::faulty_store::FaultyStore;

/// Items of a chunk.
pub const CHUNK: usize = 3;
const MANY: Page = Page {
    cursor: None,
    limit: 1_000,
};

/// Acts on an agent.
pub struct Operator {
    pub store: Arc<FaultyStore>,
    pub clock: Arc<dyn Clock>,
    pub jobs: Jobs,
    pub status: StatusHandle,
    pub preferences: Arc<dyn ConfigDatabase>,
}

impl Operator {
    fn job(&self, job_id: &JobId) -> Option<JobConfig> {
        self.jobs.current().job(job_id).cloned()
    }

    /// Runs a job now for tenants, as the request that was first made at `now`.
    pub async fn trigger(
        &self,
        job_id: &JobId,
        tenants: &[TenantId],
        (request, now): (Uuid, DateTime<Utc>),
    ) -> Option<Uuid> {
        let job = self.job(job_id)?;
        let batch = NewBatch::new(
            job_id,
            job.priority,
            "manual".to_owned(),
            now,
            Occurrence::Run(request),
            Trigger::Manual,
            now,
            tenants,
            chunk_size_of(job.kind, CHUNK),
        )
        .of_job(&job, TimeDelta::zero())
        .allowing_unknown(true);
        let batch_id = batch.batch_id;
        let firing = Firing {
            batches: vec![batch],
            progress: vec![],
        };
        self.store.enqueue(firing, now).await.ok()?;
        Some(batch_id)
    }

    /// Runs, or counts, what was not run on these dates.
    pub async fn backfill(
        &self,
        job_id: &JobId,
        from: NaiveDate,
        to: NaiveDate,
        preview: bool,
    ) -> Option<BackfillCount> {
        let job = self.job(job_id)?;
        let now = self.clock.now();
        let dates = Dates::new(from, to).ok()?;
        let status = self.status.get();
        let known = status.jobs.get(job_id).filter(|known| known.loaded)?;
        let groups = known.mirror.read(|mirror| mirror.backfill(dates, now));
        let queue: Option<&dyn WorkQueue> = (!preview).then_some(&*self.store);
        let reader = &self.store.inner;
        backfill(reader, queue, &job, groups, CHUNK, false, now)
            .await
            .ok()
    }

    pub async fn dead_letters(&self, state: DeadLetterState) -> Vec<DeadLetter> {
        let filter = DeadLetterFilter {
            state: Some(state),
            ..DeadLetterFilter::default()
        };
        let letters = self.store.inner.dead_letters(&filter, &MANY).await;
        letters.unwrap().0
    }

    /// Replays these dead letters.
    pub async fn replay(&self, letters: &[DeadLetter]) -> bool {
        // Those whose job is gone are refused.
        if letters
            .iter()
            .any(|letter| self.job(&letter.job_id).is_none())
        {
            return false;
        }
        let ids: Vec<i64> = letters.iter().map(|letter| letter.id).collect();
        let now = self.clock.now();
        let batches = replay(letters, &self.jobs.current(), CHUNK, now);
        !batches.is_empty() && self.store.settle(&ids, batches, now).await.is_ok()
    }

    /// Why a tenant ran, will run, or did not, on this day; with the occurrence that the verdict is about.
    pub async fn explain(
        &self,
        job_id: &JobId,
        tenant: &TenantId,
    ) -> Option<(Verdict, Option<Occasion>)> {
        let job = self.job(job_id)?;
        let status = self.status.get();
        let known = status.jobs.get(job_id)?;
        let now = self.clock.now();
        let choice = self.choice(&job, tenant).await?;
        let occasion = choice.occasion(None, now);
        let filter = TenantRuns {
            tenant_id: tenant.clone(),
            job_id: Some(job_id.clone()),
        };
        let (runs, _) = self.store.inner.tenant_runs(&filter, &MANY).await.ok()?;
        let is_it = |occurrence| occasion.is_some_and(|occasion| occasion.occurrence == occurrence);
        let run = runs.iter().find(|run| is_it(run.occurrence));
        let facts = Facts {
            choice,
            catch_up: job.catch_up,
            date: None,
            now,
            paused: self.store.inner.paused().await.ok()?.contains_key(job_id),
            paused_when_due: false,
            planned_until: known
                .mirror
                .read(|mirror| mirror.horizon().map(Horizon::until)),
            run: run.map(|run| &run.result),
            behind: None,
        };
        Some((explain(&facts), occasion))
    }

    async fn choice(&self, job: &JobConfig, tenant: &TenantId) -> Option<Choice> {
        let Work::Preferences {
            feature_type,
            defaults,
            ..
        } = &job.work
        else {
            return None;
        };
        let status = self.status.get();
        let mirror = &status.jobs.get(&job.job_id)?.mirror;
        let (known, spread) = mirror.read(|mirror| {
            let spread = mirror.spread_of(tenant);
            let schedule = mirror.slot_of(tenant).map(Into::into);
            let on = schedule.and_then(|schedule| {
                Some(Choice::On {
                    schedule,
                    spread,
                    schedule_since: mirror.schedule_since(tenant)?,
                })
            });
            let errors = mirror.quarantine().get(tenant);
            let invalid = errors.map(|errors| Choice::Invalid(errors.clone()));
            (invalid.or(on), spread)
        });
        if known.is_some() {
            return known;
        }
        let asked = std::slice::from_ref(tenant);
        let read = self.preferences.preferences(feature_type, asked).await.ok();
        let record = read.map(|read| read.get(tenant).cloned());
        Some(match record {
            Some(Some(record)) => Choice::of(&record, defaults, &Zone::utc(), spread),
            Some(None) => Choice::Missing,
            None => Choice::Unknown,
        })
    }
}
