//! Preferences that cannot be used.

use punctual_domain::{FeatureType, FieldErrors, JobConfig, JobId, TenantId};
use serde::{Deserialize, Serialize};

use super::Operator;

/// A preference that a job cannot use, or an entry of the Config Database that cannot be read.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct Quarantined {
    /// The job that cannot use it.
    pub job_id: JobId,
    /// The job's feature.
    pub feature_type: FeatureType,
    /// The tenant whose preference it is; `None` if the entry names no tenant.
    pub tenant_id: Option<TenantId>,
    /// Mistakes in the preference.
    pub errors: FieldErrors,
}

impl Operator {
    /// The preferences that cannot be used, of one job or of all: `most` of them after the first `skipped`, and how many
    /// there are.
    #[must_use]
    pub fn quarantined(
        &self,
        of_job: Option<&JobId>,
        skipped: usize,
        most: usize,
    ) -> (Vec<Quarantined>, usize) {
        let (status, jobs) = (self.status.get(), self.jobs.current());
        let (mut entries, mut all) = (Vec::new(), 0);
        let wanted = |job: &&JobConfig| of_job.is_none_or(|job_id| *job_id == job.job_id);
        for job in jobs.jobs.iter().filter(wanted) {
            let Some(known) = status.jobs.get(&job.job_id) else {
                continue;
            };
            let quarantined = |tenant_id, errors| Quarantined {
                job_id: job.job_id.clone(),
                feature_type: known.feature_type.clone(),
                tenant_id,
                errors,
            };
            // Only what is shown is copied: the scheduler waits meanwhile.
            known.mirror.read(|mirror| {
                let shown = mirror.quarantine().iter().skip(skipped.saturating_sub(all));
                let shown = shown.take(most - entries.len());
                entries.extend(
                    shown.map(|(tenant, errors)| quarantined(Some(tenant.clone()), errors.clone())),
                );
                all += mirror.quarantine().len();
            });
            let unreadable = self.preferences.unreadable(&known.feature_type);
            let named = unreadable.tenants.iter();
            let named = named.map(|(tenant, errors)| (Some(tenant.clone()), errors.clone()));
            let others = unreadable.others.iter();
            let others = others.map(|error| (None, FieldErrors(vec![error.clone()])));
            let shown = named.chain(others).skip(skipped.saturating_sub(all));
            let shown = shown.take(most - entries.len());
            entries.extend(shown.map(|(tenant, errors)| quarantined(tenant, errors)));
            all += unreadable.count();
        }
        (entries, all)
    }
}
