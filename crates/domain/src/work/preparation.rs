//! Preparations: batches that call the first purpose of a job ahead of a run, so that the run only delivers what was made. The run
//! itself is planned and runs as any other, and takes what has been prepared where it still fits.

use chrono::{DateTime, SecondsFormat, Utc};
use uuid::Uuid;

use super::{batch::NewBatch, priority::Priority, trigger::Trigger};
use crate::{
    ids::{ItemId, JobId},
    time::occurrence::Occurrence,
};

impl NewBatch {
    /// A batch that prepares `run` of the job, which falls due at `scheduled_at`, for these items. It has an occurrence of its
    /// own, so that its results do not use the run up, none of its items begins once the run is due, and nothing is
    /// delivered. It is the same batch for the same items, `made_with` (what the job gives to all of its calls) and `planned_at`,
    /// which tells apart what is prepared again.
    #[expect(clippy::too_many_arguments, reason = "each is a field of the batch")]
    #[must_use]
    pub fn preparing(
        job_id: &JobId,
        priority: Priority,
        slot: String,
        scheduled_at: DateTime<Utc>,
        run: Occurrence,
        made_with: &str,
        planned_at: DateTime<Utc>,
        items: &[ItemId],
        chunk_size: usize,
    ) -> Self {
        let instant = |at: DateTime<Utc>| at.to_rfc3339_opts(SecondsFormat::Micros, true);
        let mut key = format!(
            "prepare\n{job_id}\n{slot}\n{}\n{run}\n{made_with}\n{}",
            instant(scheduled_at),
            instant(planned_at)
        );
        for item in items {
            key.push('\n');
            key.push_str(item.as_str());
        }
        let own = Occurrence::Run(Uuid::new_v5(&Uuid::NAMESPACE_OID, key.as_bytes()));
        let mut batch = Self::new(
            job_id,
            priority,
            slot,
            scheduled_at,
            own,
            Trigger::Prepare,
            planned_at,
            items,
            chunk_size,
        );
        for chunk in &mut batch.chunks {
            chunk.prepares = Some(run);
            chunk.expires_at = Some(scheduled_at);
        }
        batch
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_preparation_uses_no_run_up_delivers_nothing_and_ends_when_the_run_is_due() {
        let job = JobId::new("digest").unwrap();
        let run: Occurrence = "2026-03-02".parse().unwrap();
        let due: DateTime<Utc> = "2026-03-02T09:00:00Z".parse().unwrap();
        let items = ["ann", "bob"].map(|id| ItemId::new(id).unwrap());
        let preparing = |planned_at: &str, items: &[ItemId]| {
            NewBatch::preparing(
                &job,
                Priority::Medium,
                "daily 09:00 UTC".to_owned(),
                due,
                run,
                "write",
                planned_at.parse().unwrap(),
                items,
                1,
            )
        };
        let batch = preparing("2026-03-01T21:00:00Z", &items);
        assert_eq!(batch.trigger, Trigger::Prepare);
        assert_eq!(batch.deliver_to, []);
        assert_eq!(batch.chunks.len(), 2);
        for chunk in &batch.chunks {
            assert!(matches!(chunk.occurrence, Occurrence::Run(_)));
            assert_eq!(chunk.run_of_items(), run);
            assert!(!chunk.is_expired(due - chrono::TimeDelta::seconds(1)));
            assert!(chunk.is_expired(due));
            assert!(!chunk.makes_up());
        }
        let again = preparing("2026-03-01T21:00:00Z", &items);
        assert_eq!(again, batch, "planned twice");
        let later = preparing("2026-03-01T21:05:00Z", &items);
        let fewer = preparing("2026-03-01T21:00:00Z", &items[..1]);
        for other in [later, fewer] {
            assert_ne!(other.batch_id, batch.batch_id);
            assert_ne!(other.chunks[0].occurrence, batch.chunks[0].occurrence);
        }
    }
}
