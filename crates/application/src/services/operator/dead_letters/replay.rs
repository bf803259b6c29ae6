//! What to do again of items that failed for good.

use std::collections::BTreeMap;

use chrono::{DateTime, TimeDelta, Utc};
use punctual_domain::{
    BatchConfig, DeadLetter, ItemId, JobId, KeyForm, NewBatch, Occurrence, Succession, Trigger,
};

use crate::services::handlers::Handlers;

/// Why the dead letters of a job cannot be replayed, if they cannot.
#[must_use]
pub fn not_replayable(job_id: &JobId, jobs: &BatchConfig, handlers: &Handlers) -> Option<String> {
    let Some(job) = jobs.job(job_id) else {
        return Some(format!("job `{job_id}` does not exist"));
    };
    let missing = job.purposes().find(|purpose| !handlers.contains(purpose))?;
    Some(format!(
        "purpose `{missing}` of job `{job_id}` does not exist"
    ))
}

/// The batches that run dead letters again: one for each firing they come from, with its occurrence, its due time and
/// its idempotency keys, so that it is the same run for the tenant and for the remote endpoint. They begin in the order of
/// `succession`.
#[must_use]
pub fn replay(
    letters: &[DeadLetter],
    jobs: &BatchConfig,
    chunk_size: usize,
    now: DateTime<Utc>,
    succession: &mut Succession,
) -> Vec<NewBatch> {
    type Firing = (JobId, DateTime<Utc>, Occurrence, KeyForm);
    let mut firings: BTreeMap<Firing, Vec<ItemId>> = BTreeMap::new();
    for letter in letters {
        let firing = (
            letter.job_id.clone(),
            letter.scheduled_at,
            letter.occurrence,
            letter.key_form,
        );
        firings
            .entry(firing)
            .or_default()
            .push(letter.item_id.clone());
    }
    let batch = |(nth, (firing, items)): (i64, (Firing, Vec<ItemId>))| {
        let (job_id, scheduled_at, occurrence, key_form) = firing;
        let job = jobs.job(&job_id);
        let batch = NewBatch::new(
            &job_id,
            job.map(|job| job.priority).unwrap_or_default(),
            "replay".to_owned(),
            scheduled_at,
            occurrence,
            Trigger::Replay,
            // Firings that differ in the form of their keys alone are batches of their own.
            now + TimeDelta::microseconds(nth),
            &items,
            chunk_size,
        )
        .with_keys(key_form);
        match job {
            Some(job) => batch.of_job(job, TimeDelta::zero()),
            None => batch,
        }
    };
    let mut batches: Vec<NewBatch> = (0..).zip(firings).map(batch).collect();
    succession.arrange(&mut batches, &jobs.jobs);
    batches
}

#[cfg(test)]
mod tests {
    use punctual_domain::{DeadLetterState, FailureKind, Zone};
    use serde_json::json;

    use super::*;

    #[test]
    fn a_replay_keeps_the_keys_of_the_first_attempt() {
        let letter = |id, tenant: &str, key_form| DeadLetter {
            id,
            job_id: JobId::new("j").unwrap(),
            item_id: ItemId::new(tenant).unwrap(),
            occurrence: "2026-03-01".parse().unwrap(),
            batch_id: uuid::Uuid::nil(),
            scheduled_at: "2026-03-01T09:00:00Z".parse().unwrap(),
            attempts: 1,
            failure_kind: FailureKind::Handler,
            reason: String::new(),
            failed_at: "2026-03-01T09:00:01Z".parse().unwrap(),
            state: DeadLetterState::Open,
            settled_at: None,
            key_form,
        };
        let letters = [
            letter(1, "old", KeyForm::Colons),
            letter(2, "new", KeyForm::Slashes),
        ];
        let jobs = json!({"jobs": [{"job_id": "j", "type": "individual", "purpose_id": "p",
            "preference_based": true, "feature_type": "f"}]});
        let jobs = punctual_project::parse_batch_config(&jobs, &Zone::utc()).unwrap();
        let now = "2026-03-02T09:00:00Z".parse().unwrap();
        let batches = replay(&letters, &jobs, 10, now, &mut Succession::default());
        let found: Vec<_> = batches
            .iter()
            .map(|batch| {
                (
                    batch.chunks[0].items[0].to_string(),
                    batch.chunks[0].key_form,
                )
            })
            .collect();
        let expected = [("old", KeyForm::Colons), ("new", KeyForm::Slashes)];
        assert_eq!(found, expected.map(|(id, form)| (id.to_owned(), form)));
        assert_ne!(batches[0].batch_id, batches[1].batch_id);
    }
}
