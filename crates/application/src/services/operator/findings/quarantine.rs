//! Preferences that cannot be used.

use punctual_domain::TenantId;

use super::{Finding, FindingKind, Findings, coverage::Coverage};
use crate::services::operator::Operator;

impl Operator {
    /// Adds the preferences that cannot be used, by job.
    pub(super) fn quarantine_findings(&self, findings: &mut Findings) {
        let status = self.status.get();
        let mut jobs: Vec<_> = status.jobs.iter().collect();
        jobs.sort_by_key(|(job_id, _)| job_id.as_str());
        for (job_id, job) in jobs.into_iter().filter(|(_, job)| job.quarantined > 0) {
            let count = job.quarantined;
            let what = match count {
                1 => format!("{job_id} does not run for 1 tenant: the preference is invalid"),
                _ => format!(
                    "{job_id} does not run for {count} tenants: their preferences are invalid"
                ),
            };
            let mut finding = Finding::new(FindingKind::Quarantine(job_id.clone()), what, None);
            let unreadable = self.preferences.unreadable(&job.feature_type);
            let nameless = unreadable.others.len() + unreadable.more;
            finding.covers = job.mirror.read(|mirror| {
                let tenants = mirror.quarantine().keys();
                let count = tenants.len() + unreadable.tenants.len();
                let tenants = tenants.chain(unreadable.tenants.keys());
                Coverage::of(count, tenants.map(TenantId::as_str)).and_nameless(nameless)
            });
            findings.add(false, finding);
        }
    }
}
