//! What is in effect for a tenant, and where it comes from.

use chrono::{DateTime, Utc};
use punctual_domain::{
    JobConfig, JobDefaults, OrganizationId, Origin, Preference, TenantId, Work, Zone,
};
use serde_json::Value;

use super::Operator;

/// A tenant's preference as a job takes it.
#[derive(Debug, Clone, PartialEq)]
pub struct EffectivePreference {
    /// Its fields as JSON, and where each value comes from.
    pub fields: Vec<(&'static str, Value, Origin)>,
    /// The organization that the tenant belongs to.
    pub organization: Option<OrganizationId>,
    /// The tenant's time zone.
    pub zone: Zone,
    /// When the tenant falls due next; empty while the preference is off.
    pub next: Vec<DateTime<Utc>>,
}

impl Operator {
    /// The preference of a tenant as a job takes it, with the next `runs` times at which it falls due. `None`: the job
    /// follows no preferences, or the tenant has none that can be read and used now, as [`explain`](Self::explain) says.
    pub async fn effective_preference(
        &self,
        job: &JobConfig,
        tenant_id: &TenantId,
        runs: usize,
    ) -> Option<EffectivePreference> {
        let Work::Preferences { feature_type, .. } = &job.work else {
            return None;
        };
        let job = JobDefaults::of(job, &self.zone)?;
        let one = std::slice::from_ref(tenant_id);
        let stored = self.preferences.preferences(feature_type, one).await.ok()?;
        let record = stored.get(tenant_id)?;
        let stored = Preference::parse(&record.preference).ok()?;
        let merged = job.effective(&stored).ok()?;
        let merged = merged.of_organization(record.organization.clone());
        let next = if merged.enabled {
            let next = job.runs(&merged, tenant_id, self.clock.now());
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
