//! Preferences that cannot be used.

use punctual_domain::{FeatureType, FieldErrors, JobId, TenantId};
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
    /// The preferences that cannot be used, `most` of them, and how many there are.
    #[must_use]
    pub fn quarantined(&self, most: usize) -> (Vec<Quarantined>, usize) {
        let status = self.status.get();
        let (mut entries, mut all) = (Vec::new(), 0);
        for job in &self.jobs.current().jobs {
            let Some(known) = status.jobs.get(&job.job_id) else {
                continue;
            };
            let quarantined = |tenant_id, errors| Quarantined {
                job_id: job.job_id.clone(),
                feature_type: known.feature_type.clone(),
                tenant_id,
                errors,
            };
            known.mirror.read(|mirror| {
                all += mirror.quarantine().len();
                let shown = mirror.quarantine().iter().take(most - entries.len());
                let shown = shown.map(|(tenant, errors)| (Some(tenant.clone()), errors.clone()));
                entries.extend(shown.map(|(tenant, errors)| quarantined(tenant, errors)));
            });
            let unreadable = self.preferences.unreadable(&known.feature_type);
            all += unreadable.count();
            let named = unreadable.tenants.iter();
            let named = named.map(|(tenant, errors)| (Some(tenant.clone()), errors.clone()));
            let others = unreadable.others.iter();
            let others = others.map(|error| (None, FieldErrors(vec![error.clone()])));
            let shown = named.chain(others).take(most - entries.len());
            entries.extend(shown.map(|(tenant, errors)| quarantined(tenant, errors)));
        }
        (entries, all)
    }
}
