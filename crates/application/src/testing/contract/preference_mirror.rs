//! What the port [`PreferenceMirror`] promises: an answer for each tenant, in their order, and none that is a guess.

use punctual_domain::{JobId, MergedPreference, TenantId};

use crate::ports::PreferenceMirror;

/// Checks a mirror that knows this tenant's preference in a job, and of no other job and no other tenant.
///
/// # Panics
/// It breaks a promise.
pub fn preference_mirror(
    mirror: &dyn PreferenceMirror,
    job_id: &JobId,
    tenant: &TenantId,
    preference: &MergedPreference,
) {
    let known = || Some(preference.clone().into());
    let unknown = TenantId::new("unknown-to-all").expect("valid");
    let other_job = JobId::new("another-job").expect("valid");
    let one = std::slice::from_ref(tenant);
    assert_eq!(mirror.preferences(job_id, &[]), []);
    assert_eq!(mirror.preferences(job_id, one), [known()]);
    let asked = [unknown.clone(), tenant.clone(), unknown, tenant.clone()];
    let answer = mirror.preferences(job_id, &asked);
    assert_eq!(answer, [None, known(), None, known()], "in their order");
    assert_eq!(mirror.preferences(&other_job, &asked), vec![None; 4]);
}
