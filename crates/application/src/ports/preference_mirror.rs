//! What the scheduler already knows of the tenants, so that a million due users are not a million questions.
//!
//! The scheduler's [`StatusHandle`](crate::StatusHandle) implements it. An implementation answers from memory, and
//! `None` rather than a guess: the processor asks the Config Database then. `testing::contract::preference_mirror` checks
//! one.

use punctual_domain::{JobId, SharedPreference, TenantId};

/// Looks into the scheduler's mirror of preferences.
#[cfg_attr(any(test, feature = "mocks"), mockall::automock)]
pub trait PreferenceMirror: Send + Sync {
    /// The merged preference of each of `tenants` in a job, in their order, one for all who have the same; `None`
    /// for one who is not scheduled in it, or of whom nothing is known yet.
    fn preferences(&self, job_id: &JobId, tenants: &[TenantId]) -> Vec<Option<SharedPreference>>;
}
