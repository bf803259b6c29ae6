//! Why a tenant ran, will run, or did not.

use chrono::{DateTime, NaiveDate, TimeDelta, Utc};
use punctual_domain::{
    BatchStatus, Choice, Facts, FeatureType, ItemId, JobConfig, JobId, JobKind, Occasion,
    Occurrence, OrganizationId, Position, Preference, TenantId, Trigger, Verdict, Work, explain,
};
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use super::{
    Operator, OperatorError, RunPreparation, retention::removed_in_words, trigger::no_item,
};
use crate::{
    ports::{AuditEntry, AuditFilter, Page},
    services::schedule_status::JobStatus,
};

/// Batches that are not done, runs, pauses and resumptions that are looked through at most.
pub(super) const SEARCHED_PAGE: Page = Page {
    cursor: None,
    limit: 1_000,
};

/// Why a tenant ran, will run, or did not, on a date.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct Explanation {
    /// The verdict, with its facts.
    #[serde(flatten)]
    pub verdict: Verdict,
    /// The tenant.
    pub tenant_id: TenantId,
    /// The organization that the tenant belongs to; `None`: to none, or it is not known.
    pub organization: Option<OrganizationId>,
    /// The job.
    pub job_id: JobId,
    /// The schedule that the tenant has chosen, in words; `None`: none that can be used.
    pub slot: Option<String>,
    /// The run that it is about.
    pub occurrence: Option<Occurrence>,
    /// The batch in which it ran.
    pub batch_id: Option<Uuid>,
    /// How far the run has been prepared, where it is to come and its job prepares runs.
    #[serde(default)]
    pub preparation: Option<RunPreparation>,
    /// The last date of the job's runs of which results have been removed, where the run that it is about may be one of them; `null`:
    /// it is not.
    #[serde(default)]
    pub results_removed_to: Option<NaiveDate>,
    /// The verdict in words.
    pub explanation: String,
}

impl Operator {
    /// Why a tenant ran, will run, or did not, on a date; today without one. Of an object or combined batch, a record ran as the
    /// run of all records did.
    ///
    /// # Errors
    /// The job does not exist, it has no such item or its source cannot be read, or the store fails.
    pub async fn explain(
        &self,
        tenant_id: &TenantId,
        job_id: &JobId,
        date: Option<NaiveDate>,
    ) -> Result<Explanation, OperatorError> {
        let job = self.job(job_id)?;
        let status = self.status.get();
        let known = status.jobs.get(job_id);
        let now = self.clock.now();
        let choice = self.choice(&job, known, tenant_id).await;
        let occasion = choice.occasion(date, now);
        // Today's date, where the choice falls due on none.
        let date_of_shard = occasion.and_then(|occasion| occasion.occurrence.shard_date());
        let date_of_shard = date_of_shard.or(date).unwrap_or(now.date_naive());
        let item_id = item_of(&job, tenant_id);
        self.refuse_other_shard(job_id, &item_id, date_of_shard)?;
        let runs = self.runs_in_job(item_id, job_id, None).await?;
        self.refuse_other_item(&job, tenant_id, !runs.is_empty())
            .await?;
        let mut run = occasion.and_then(|occasion| runs.of(occasion));
        let behind = match (occasion, run) {
            (Some(occasion), None) => self.behind(job_id, &choice, occasion).await?,
            _ => None,
        };
        // A skip counts only once the occurrence is due and no batch has it queued again.
        if behind.is_none() && occasion.is_some_and(|occasion| occasion.due_at <= now) {
            run = run.or_else(|| runs.skip_of(occasion?));
        }
        let preparation = self
            .preparation(&job, known, tenant_id, &choice, occasion)
            .await?;
        let planned_until = match known {
            // A tenant whom it has not read yet is planned when it has.
            Some(job) => job.mirror.read(|mirror| {
                mirror.slot_of(tenant_id)?;
                mirror.position().map(Position::planned_until)
            }),
            None => status.planned_until,
        };
        let slot = match &choice {
            Choice::On { schedule, .. } => Some(schedule.to_string()),
            _ => None,
        };
        let position = self.queue.position(job_id).await?;
        let mut facts = Facts {
            choice,
            catch_up: job.catch_up,
            date,
            now,
            paused: self.queue.paused().await?.contains_key(job_id),
            paused_when_due: match occasion {
                Some(occasion) if occasion.due_at <= now => {
                    self.was_paused(job_id, occasion.due_at).await?
                }
                _ => false,
            },
            planned_until,
            began: position.and_then(|position| position.began),
            run: run.map(|run| &run.result),
            behind,
            used: runs.used(),
        };
        let mut verdict = explain(&facts);
        // What the tenant has chosen now does not say what ran before it was chosen.
        let earlier = match &verdict {
            Verdict::Missed { .. } => {
                occasion.and_then(|occasion| runs.skip_of_occurrence(occasion.occurrence))
            }
            verdict if verdict.has_no_run() => runs.on(date, now, &facts.choice, &self.zone),
            _ => None,
        };
        if let Some(earlier) = earlier {
            run = Some(earlier);
            facts.run = Some(&earlier.result);
            verdict = explain(&facts);
        }
        let date = occasion.and_then(|occasion| occasion.occurrence.shard_date());
        let removed_to = match run {
            None => self.retention.removed_to(job_id).await?,
            Some(_) => None,
        };
        let removed_to = removed_to.filter(|to| date.is_some_and(|date| date <= *to));
        let removed = removed_to.map(|to| removed_in_words(job_id, to));
        let preparing = preparation.as_ref().map(ToString::to_string);
        let further = [facts.held_back(&verdict), preparing, removed];
        let words = [Some(verdict.to_string())].into_iter().chain(further);
        let words: Vec<String> = words.flatten().collect();
        Ok(Explanation {
            tenant_id: tenant_id.clone(),
            organization: self.organization(&job, known, tenant_id).await,
            job_id: job_id.clone(),
            slot,
            occurrence: match run {
                Some(run) => Some(run.occurrence),
                None => occasion.map(|occasion| occasion.occurrence),
            },
            batch_id: run.map(|run| run.batch_id),
            explanation: words.join("; "),
            results_removed_to: removed_to,
            preparation,
            verdict,
        })
    }

    /// What a tenant has chosen for a job, as the scheduler knows it, else as it is stored.
    pub(super) async fn choice(
        &self,
        job: &JobConfig,
        known: Option<&JobStatus>,
        tenant: &TenantId,
    ) -> Choice {
        let (feature_type, defaults, known) = match (&job.work, known) {
            (
                Work::Preferences {
                    feature_type,
                    defaults,
                    ..
                },
                Some(known),
            ) => (feature_type, defaults, known),
            (Work::Preferences { .. }, None) => return Choice::Unknown,
            (Work::Fixed { schedule, .. }, _) => {
                return Choice::On {
                    schedule: schedule.clone(),
                    spread: TimeDelta::zero(),
                    schedule_since: None,
                };
            }
        };
        let in_mirror = known.mirror.read(|mirror| {
            if let Some(errors) = mirror.quarantine().get(tenant) {
                return Some(Choice::Invalid(errors.clone()));
            }
            Some(Choice::On {
                schedule: mirror.slot_of(tenant)?.into(),
                spread: mirror.spread_of(tenant),
                schedule_since: mirror.schedule_since(tenant)?,
            })
        });
        match in_mirror {
            Some(choice) => choice,
            None => {
                self.stored_choice(feature_type, defaults, known, tenant)
                    .await
            }
        }
    }

    /// Refuses a tenant who is not an item of a plain job, as far as that is known. A record that has run was one.
    async fn refuse_other_item(
        &self,
        job: &JobConfig,
        tenant: &TenantId,
        has_run: bool,
    ) -> Result<(), OperatorError> {
        let Work::Fixed {
            sources,
            distribute_to,
            ..
        } = &job.work
        else {
            return Ok(());
        };
        if distribute_to.contains(tenant) || (has_run && job.kind == JobKind::Individual) {
            return Ok(());
        }
        let records = match self.records(&job.job_id, sources).await {
            // The run of all records is known, whatever the source has now.
            Err(_) if has_run => return Ok(()),
            records => records?,
        };
        let mut items = records.values().flatten();
        if items.any(|item| item.id == *tenant) {
            return Ok(());
        }
        Err(no_item(&job.job_id, &tenant.into()))
    }

    /// The organization that a tenant belongs to, as the scheduler knows it, else as it is stored.
    async fn organization(
        &self,
        job: &JobConfig,
        known: Option<&JobStatus>,
        tenant: &TenantId,
    ) -> Option<OrganizationId> {
        let Work::Preferences { feature_type, .. } = &job.work else {
            return None;
        };
        let in_mirror = known?.mirror.read(|mirror| mirror.organization_of(tenant));
        let membership = if let Some(membership) = in_mirror {
            membership?
        } else {
            let one = std::slice::from_ref(tenant);
            let stored = self.preferences.preferences(feature_type, one).await.ok()?;
            stored.get(tenant)?.organization.clone()?
        };
        Some(membership.id.clone())
    }

    /// What is stored of a tenant who is not scheduled.
    async fn stored_choice(
        &self,
        feature_type: &FeatureType,
        defaults: &Preference,
        known: &JobStatus,
        tenant: &TenantId,
    ) -> Choice {
        let unreadable = self.preferences.unreadable(feature_type);
        if let Some(errors) = unreadable.tenants.get(tenant) {
            return Choice::Invalid(errors.clone());
        }
        let one = std::slice::from_ref(tenant);
        match self.preferences.preferences(feature_type, one).await {
            Ok(stored) => stored.get(tenant).map_or(Choice::Missing, |record| {
                let spread = known.mirror.read(|mirror| mirror.spread_of(tenant));
                Choice::of(record, defaults, &self.zone, spread)
            }),
            Err(_) => Choice::Unknown,
        }
    }

    /// Whether an operator had paused a job at an instant.
    async fn was_paused(&self, job_id: &JobId, at: DateTime<Utc>) -> Result<bool, OperatorError> {
        let mut last: Option<AuditEntry> = None;
        // Of each action by itself: other entries about the job may be many.
        for action in ["pause", "resume"] {
            let of_job = AuditFilter {
                action: Some(action.to_owned()),
                subject: Some(job_id.to_string()),
            };
            let (entries, _) = self.operations.audit_log(&of_job, &SEARCHED_PAGE).await?;
            let before = entries.into_iter().find(|entry| entry.at <= at);
            last = last.into_iter().chain(before).max_by_key(|entry| entry.at);
        }
        Ok(last.is_some_and(|entry| entry.action == "pause"))
    }

    /// How many items stand before an occasion that is in the queue; `None` when it is in no batch that is not done.
    async fn behind(
        &self,
        job_id: &JobId,
        choice: &Choice,
        occasion: Occasion,
    ) -> Result<Option<u64>, OperatorError> {
        let Choice::On { schedule, .. } = choice else {
            return Ok(None);
        };
        let slot = schedule.without_dates().to_string();
        let mut open: Vec<(DateTime<Utc>, bool, u64)> = Vec::new();
        for status in [BatchStatus::Queued, BatchStatus::Running] {
            let batches = self.newest(Some(status), SEARCHED_PAGE.limit).await?;
            open.extend(batches.iter().map(|batch| {
                let is_it = batch.job_id == *job_id
                    && batch.trigger != Trigger::Prepare
                    && batch.slot == slot
                    && batch.scheduled_at == occasion.due_at;
                // An item that waits is behind nothing, and nothing behind it.
                let left = batch
                    .total
                    .saturating_sub(batch.processed() + batch.waiting);
                (batch.created_at, is_it, left)
            }));
        }
        let own = open.iter().find(|(_, is_it, _)| *is_it);
        Ok(own.map(|(created_at, ..)| {
            let before = open
                .iter()
                .filter(|(other, is_it, _)| !is_it && other <= created_at);
            before.map(|(.., left)| left).sum()
        }))
    }
}

/// The item under which the result of a tenant stands: in an object or combined batch that of all records, unless the tenant
/// gets a copy.
fn item_of(job: &JobConfig, tenant: &TenantId) -> ItemId {
    match &job.work {
        Work::Fixed { distribute_to, .. }
            if job.kind != JobKind::Individual && !distribute_to.contains(tenant) =>
        {
            ItemId::aggregate()
        }
        _ => tenant.into(),
    }
}
