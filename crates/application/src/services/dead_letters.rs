//! What to do again of items that failed for good.

use std::collections::BTreeMap;

use chrono::{DateTime, Utc};
use punctual_domain::{BatchConfig, DeadLetter, JobId, NewBatch, Occurrence, TenantId, Trigger};

/// The batches that run dead letters again: one for each firing they come from, with its occurrence and its due time,
/// so that it is the same run for the tenant and for the far side.
#[must_use]
pub fn replay(
    letters: &[DeadLetter],
    jobs: &BatchConfig,
    chunk_size: usize,
    now: DateTime<Utc>,
) -> Vec<NewBatch> {
    type Firing = (JobId, DateTime<Utc>, Occurrence);
    let mut firings: BTreeMap<Firing, Vec<TenantId>> = BTreeMap::new();
    for letter in letters {
        let firing = (
            letter.job_id.clone(),
            letter.scheduled_at,
            letter.occurrence,
        );
        firings
            .entry(firing)
            .or_default()
            .push(letter.tenant_id.clone());
    }
    let batch = |((job_id, scheduled_at, occurrence), tenants): (Firing, Vec<TenantId>)| {
        let job = jobs.job(&job_id);
        let priority = job.map(|job| job.priority);
        NewBatch::new(
            &job_id,
            priority.unwrap_or_default(),
            "replay".to_owned(),
            scheduled_at,
            occurrence,
            Trigger::Replay,
            now,
            &tenants,
            chunk_size,
        )
        .delivered_to(job.map_or(&[], |job| &job.deliver))
    };
    firings.into_iter().map(batch).collect()
}
