//! Runs a job now, whatever its schedule says: *Run now* on the operations page, `trigger` in the API and on the command line. It
//! queues a batch with the trigger `manual`, beside those of the schedule; while the job is paused, that waits.

use std::collections::{BTreeMap, BTreeSet};

use chrono::{DateTime, TimeDelta, Utc};
use punctual_domain::{
    FeatureType, Firing, ItemId, JobConfig, JobId, Mirror, NewBatch, Occurrence, Source, TenantId,
    Trigger, Work,
};
use serde::{Deserialize, Serialize};
use tracing::info;
use uuid::Uuid;

use super::{
    Actor, IdempotencyKey, Operator, OperatorError, amount, first_of, given, idempotency::Attempt,
    refuse_empty,
};
use crate::services::{
    schedule_status::{JobStatus, SchedulerStatus},
    source_items::{Categories, chunk_size_of, item_ids},
};

/// How many tenants an error names: with the longest ids, what follows them is still read.
const MAX_NAMED_TENANTS: usize = 10;

/// Tenants to run a job for.
#[derive(Debug, Clone, Default, Deserialize, Serialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(deny_unknown_fields)]
pub struct TriggerRequest {
    /// Tenants to run; absent: all. An empty list is refused.
    #[serde(default, deserialize_with = "given")]
    #[cfg_attr(feature = "openapi", schema(value_type = BTreeSet<TenantId>))]
    pub tenants: Option<BTreeSet<TenantId>>,
    /// All tenants, said explicitly.
    #[serde(default)]
    pub all: bool,
    /// Also for tenants who have stored no preference, with the job's defaults.
    #[serde(default)]
    pub allow_unknown: bool,
}

/// A run that an operator has asked for, in the queue.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct TriggeredBatch {
    /// The batch that is queued.
    pub batch_id: Uuid,
    /// The job.
    pub job_id: JobId,
    /// The key of this run.
    pub occurrence: Occurrence,
    /// Number of its items.
    pub total: usize,
}

impl TriggeredBatch {
    /// What is said of a batch that was queued for this.
    ///
    /// # Panics
    /// The batch has no chunks.
    #[must_use]
    pub fn of(batch: &NewBatch) -> Self {
        Self {
            batch_id: batch.batch_id,
            job_id: batch.job_id.clone(),
            occurrence: batch.chunks[0].occurrence,
            total: batch.total(),
        }
    }
}

impl Operator {
    /// Queues a run of a job for all its tenants, or for some, whatever their schedule says.
    ///
    /// # Errors
    /// The job does not exist or has nothing to run, its preferences have not been read yet, a tenant has stored no preference, or
    /// the store fails.
    pub async fn trigger(
        &self,
        actor: &Actor,
        key: Option<&IdempotencyKey>,
        job_id: &JobId,
        request: &TriggerRequest,
    ) -> Result<TriggeredBatch, OperatorError> {
        let scope = format!("trigger {job_id}");
        let act = |Attempt { id, at, .. }| self.trigger_as(actor, job_id, request, id, at);
        self.once(key, scope, request, act).await
    }

    /// The batch of such a run, which is not queued: for a store that takes it within a transaction of the program around
    /// it. The audit log does not have it.
    ///
    /// # Errors
    /// As [`trigger`](Self::trigger), but for the store.
    pub async fn manual_batch(
        &self,
        job_id: &JobId,
        request: &TriggerRequest,
    ) -> Result<NewBatch, OperatorError> {
        let now = self.clock.now();
        self.batch_of(job_id, request, Uuid::new_v4(), now).await
    }

    async fn batch_of(
        &self,
        job_id: &JobId,
        request: &TriggerRequest,
        run: Uuid,
        now: DateTime<Utc>,
    ) -> Result<NewBatch, OperatorError> {
        let job = self.job(job_id)?;
        refuse_empty("tenants", request.tenants.as_ref(), request.all)?;
        if let (Some(named), false) = (&request.tenants, request.allow_unknown) {
            self.refuse_unknown(&job, named).await?;
        }
        let mut items = self.items(&job, request.tenants.clone()).await?;
        // A tenant who is named is run by the right agent, or not at all.
        let today = now.date_naive();
        for named in request.tenants.iter().flatten() {
            self.refuse_other_shard(job_id, &named.into(), today)?;
        }
        let first = items.first().cloned();
        items.retain(|item| self.sharding.serves(job_id, item, today));
        if let (Some(first), true) = (first, items.is_empty()) {
            self.refuse_other_shard(job_id, &first, today)?;
        }
        if items.is_empty() {
            let remedy = match job.work {
                Work::Preferences { .. } => {
                    "name tenants, or check that preferences for its feature are stored and enabled"
                }
                Work::Fixed { .. } => "check its source and its filters",
            };
            return Err(OperatorError::Invalid(format!(
                "{job_id} has no items to run; {remedy}"
            )));
        }
        Ok(NewBatch::new(
            &job.job_id,
            job.priority,
            "manual".to_owned(),
            now,
            Occurrence::Run(run),
            Trigger::Manual,
            now,
            &items,
            chunk_size_of(job.kind, self.chunk_size),
        )
        .of_job(&job, TimeDelta::zero())
        .allowing_unknown(request.allow_unknown))
    }

    async fn trigger_as(
        &self,
        actor: &Actor,
        job_id: &JobId,
        request: &TriggerRequest,
        run: Uuid,
        now: DateTime<Utc>,
    ) -> Result<TriggeredBatch, OperatorError> {
        let batch = self.batch_of(job_id, request, run, now).await?;
        let triggered = TriggeredBatch::of(&batch);
        let (batch_id, total) = (batch.batch_id, batch.total());
        let items = amount(total as u64, "item");
        let detail = format!("batch {batch_id} of {items}");
        self.record(actor, "trigger", job_id.as_str(), &detail)
            .await?;
        let firing = Firing {
            batches: vec![batch],
            positions: vec![],
        };
        self.noted(self.queue.enqueue(firing, self.clock.now()).await)?;
        info!(%batch_id, %job_id, total, "Operator queued batch {batch_id} of {job_id}: {items}");
        Ok(triggered)
    }

    /// Refuses tenants who have stored no preference for a job's feature: most likely they are mistyped.
    async fn refuse_unknown(
        &self,
        job: &JobConfig,
        named: &BTreeSet<TenantId>,
    ) -> Result<(), OperatorError> {
        let Work::Preferences { feature_type, .. } = &job.work else {
            return Ok(());
        };
        let unknown = self.unknown_tenants(&job.job_id, named).await?;
        refuse_tenants(
            &job.job_id,
            feature_type,
            &unknown.iter().collect::<Vec<_>>(),
        )
    }

    /// Those of the tenants who have stored no preference for the feature of a job; most likely they are mistyped. None where
    /// the job follows no preferences.
    ///
    /// # Errors
    /// The job does not exist, or preferences cannot be read.
    pub async fn unknown_tenants(
        &self,
        job_id: &JobId,
        named: &BTreeSet<TenantId>,
    ) -> Result<Vec<TenantId>, OperatorError> {
        let job = self.job(job_id)?;
        let Work::Preferences { feature_type, .. } = &job.work else {
            return Ok(Vec::new());
        };
        let status = self.status.get();
        let others: Vec<TenantId> = match status.jobs.get(&job.job_id) {
            Some(known) => known.mirror.read(|mirror| {
                let is_off = |tenant: &&TenantId| mirror.slot_of(tenant).is_none();
                named.iter().filter(is_off).cloned().collect()
            }),
            None => named.iter().cloned().collect(),
        };
        if others.is_empty() {
            return Ok(others);
        }
        let stored = self.preferences.preferences(feature_type, &others).await;
        let stored = stored.map_err(|error| {
            OperatorError::Unavailable(format!("failed to read preferences: {error}; try again"))
        })?;
        let mut unknown = others;
        unknown.retain(|tenant| !stored.contains_key(tenant));
        Ok(unknown)
    }

    /// Whom a job runs for: those named, else all.
    pub(super) async fn items(
        &self,
        job: &JobConfig,
        named: Option<BTreeSet<TenantId>>,
    ) -> Result<Vec<ItemId>, OperatorError> {
        let named = named.map(|named| named.into_iter().map(ItemId::from).collect::<Vec<_>>());
        let all = match &job.work {
            Work::Preferences { .. } => {
                if let Some(named) = named {
                    return Ok(named);
                }
                let status = self.status.get();
                let known = loaded(&status, &job.job_id)?;
                let tenants = known.mirror.read(Mirror::tenants);
                return Ok(tenants.into_iter().map(ItemId::from).collect());
            }
            Work::Fixed {
                sources,
                distribute_to,
                ..
            } => {
                let records = self.records(&job.job_id, sources).await?;
                item_ids(job.kind, &records, distribute_to)
            }
        };
        let Some(named) = named else { return Ok(all) };
        match named.iter().find(|id| !all.contains(id)) {
            Some(id) => Err(no_item(&job.job_id, id)),
            None => Ok(named),
        }
    }

    /// The records that the sources of a plain job have now.
    pub(super) async fn records(
        &self,
        job_id: &JobId,
        sources: &BTreeMap<String, Source>,
    ) -> Result<Categories, OperatorError> {
        let records = self.item_source.load(sources).await;
        records.map_err(|error| {
            OperatorError::Invalid(format!("failed to read the items of {job_id}: {error}"))
        })
    }
}

/// That a plain job has no such item.
pub(super) fn no_item(job_id: &JobId, id: &ItemId) -> OperatorError {
    OperatorError::Invalid(format!("{job_id} has no item `{id}`"))
}

/// What is known of a job whose preferences have been read. Until then it is not known for whom it runs.
pub(super) fn loaded<'s>(
    status: &'s SchedulerStatus,
    job_id: &JobId,
) -> Result<&'s JobStatus, OperatorError> {
    let known = status.jobs.get(job_id);
    if let Some(known) = known.filter(|known| known.loaded) {
        return Ok(known);
    }
    let unread = format!("the preferences of {job_id} have not been read yet");
    let trouble = known.and_then(|known| known.trouble.as_deref());
    Err(OperatorError::Unavailable(match trouble {
        Some(trouble) => format!("{unread}: {trouble}"),
        None => format!("{unread}; try again in a few seconds"),
    }))
}

/// Refuses these tenants, if there are any, because they have stored nothing.
pub(super) fn refuse_tenants(
    job_id: &JobId,
    feature_type: &FeatureType,
    unknown: &[&TenantId],
) -> Result<(), OperatorError> {
    if unknown.is_empty() {
        return Ok(());
    }
    Err(OperatorError::Refused(format!(
        "tenants: {} of those named for {job_id} have no stored preference for {feature_type}: {}; \
         nothing was queued. Correct the ids, or send \"allow_unknown\": true (--allow-unknown) \
         to run them with the job's defaults",
        unknown.len(),
        first_of(unknown, MAX_NAMED_TENANTS)
    )))
}
