//! What is in effect for a tenant, and where it comes from.

use chrono::{DateTime, TimeDelta, Utc};
use punctual_domain::{
    JobConfig, JobDefaults, OrganizationId, Origin, Preference, TenantId, Work, Zone,
};
use serde_json::Value;

use super::Operator;

/// How long before now a run may have been due whose date is still to come at another time: a date lasts 50 hours in all zones
/// together, and a spread is a day at most.
const SAME_DATE: TimeDelta = TimeDelta::days(4);

/// A tenant's preference as a job takes it.
#[derive(Debug, Clone, PartialEq)]
pub struct EffectivePreference {
    /// Its fields as JSON, and where each value comes from.
    pub fields: Vec<(&'static str, Value, Origin)>,
    /// The organization that the tenant belongs to.
    pub organization: Option<OrganizationId>,
    /// The tenant's time zone.
    pub zone: Zone,
    /// When the tenant falls due next, without runs that have ended or are in progress under an earlier time; empty while the
    /// preference is off.
    pub next: Vec<DateTime<Utc>>,
}

impl Operator {
    /// The preference of a tenant as a job takes it, with the next `runs` times at which it falls due. `None`: the job
    /// follows no preferences, the tenant has none that can be read and used now, as [`explain`](Self::explain) says, or the
    /// store fails.
    pub async fn effective_preference(
        &self,
        job: &JobConfig,
        tenant_id: &TenantId,
        runs: usize,
    ) -> Option<EffectivePreference> {
        let Work::Preferences { feature_type, .. } = &job.work else {
            return None;
        };
        let (job_id, job) = (&job.job_id, JobDefaults::of(job, &self.zone)?);
        let one = std::slice::from_ref(tenant_id);
        let stored = self.preferences.preferences(feature_type, one).await.ok()?;
        let record = stored.get(tenant_id)?;
        let stored = Preference::parse(&record.preference).ok()?;
        let merged = job.effective(&stored).ok()?;
        let merged = merged.of_organization(record.organization.clone());
        let next = if merged.enabled {
            let now = self.clock.now();
            let past = self.runs_in_job(tenant_id.into(), job_id, Some(now - SAME_DATE));
            let used = past.await.ok()?.used();
            let next = job.runs(&merged, tenant_id, now);
            let next = next.filter(|run| !used.contains(&merged.slot.occurrence_key(run.slot)));
            next.take(runs).map(|run| run.at).collect()
        } else {
            Vec::new()
        };
        Some(EffectivePreference {
            fields: merged.with_origins(&stored, &job.defaults),
            organization: record.organization.as_ref().map(|of| of.id.clone()),
            zone: merged.slot.zone,
            next,
        })
    }
}
