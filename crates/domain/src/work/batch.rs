//! Batches: one job firing for one slot at one instant, as it is planned and as it stands in the store.

use chrono::{DateTime, SecondsFormat, TimeDelta, Utc};
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use crate::{
    ids::{ItemId, JobId},
    input::words::words,
    time::occurrence::Occurrence,
    work::{chunk::Chunk, delivery::Delivery, item::KeyForm, priority::Priority, trigger::Trigger},
};

/// A batch about to be put in the queue.
#[derive(Debug, Clone, PartialEq)]
pub struct NewBatch {
    /// The same for the same firing, whichever process plans it: a second plan of it is a no-op.
    pub batch_id: Uuid,
    /// Job that the batch belongs to.
    pub job_id: JobId,
    /// Priority of its chunks in the queue.
    pub priority: Priority,
    /// The slot, as text.
    pub slot: String,
    /// Due time.
    pub scheduled_at: DateTime<Utc>,
    /// Trigger of the batch.
    pub trigger: Trigger,
    /// Its items, in the pieces that the queue carries.
    pub chunks: Vec<Chunk>,
    /// Where its results go once it is over.
    pub deliver_to: Vec<Delivery>,
    /// How long after its end they may still be delivered; `None`: as long as deliveries are retried.
    pub deliver_within: Option<TimeDelta>,
    /// How the idempotency keys of its items are written.
    pub key_form: KeyForm,
}

/// How long what somebody asked for waits at least, unless the job says otherwise.
const ASKED_FOR: TimeDelta = TimeDelta::hours(24);
impl NewBatch {
    /// Cuts `items` into chunks of at most `chunk_size`. `planned_at` tells batches of one slot apart that
    /// were not planned with the others.
    #[expect(clippy::too_many_arguments, reason = "each is a field of the batch")]
    #[must_use]
    pub fn new(
        job_id: &JobId,
        priority: Priority,
        slot: String,
        scheduled_at: DateTime<Utc>,
        occurrence: Occurrence,
        trigger: Trigger,
        planned_at: DateTime<Utc>,
        items: &[ItemId],
        chunk_size: usize,
    ) -> Self {
        let instant = |at: DateTime<Utc>| at.to_rfc3339_opts(SecondsFormat::Micros, true);
        let which = match trigger {
            // A manual run has an occurrence of its own.
            Trigger::Schedule | Trigger::Manual => "schedule".to_owned(),
            Trigger::LateChange => format!("late {}", instant(planned_at)),
            Trigger::ClockStep => format!("again {}", instant(planned_at)),
            Trigger::Backfill => format!("backfill {}", instant(planned_at)),
            Trigger::Replay => format!("replay {}", instant(planned_at)),
            Trigger::Prepare => format!("prepare {}", instant(planned_at)),
        };
        let key = format!(
            "{job_id}\n{slot}\n{}\n{occurrence}\n{which}",
            instant(scheduled_at)
        );
        let batch_id = Uuid::new_v5(&Uuid::NAMESPACE_OID, key.as_bytes());
        let chunks = items
            .chunks(chunk_size.max(1))
            .enumerate()
            .map(|(index, items)| Chunk {
                chunk_id: format!("{batch_id}/{index}"),
                batch_id,
                job_id: job_id.clone(),
                scheduled_at,
                occurrence,
                prepares: None,
                items: items.to_vec(),
                traceparent: None,
                trigger,
                planned_at: Some(planned_at),
                expires_at: None,
                allow_unknown: false,
                key_form: KeyForm::Slashes,
                after: Vec::new(),
            })
            .collect();
        Self {
            batch_id,
            job_id: job_id.clone(),
            priority,
            slot,
            scheduled_at,
            trigger,
            chunks,
            deliver_to: Vec::new(),
            deliver_within: None,
            key_form: KeyForm::Slashes,
        }
    }

    /// The same, whose items may wait so long before they begin, and whose results before they are delivered; `None`: for
    /// one `period`, and for 24 hours at least where somebody asked for the batch.
    #[must_use]
    pub(crate) fn expiring_after(mut self, within: Option<TimeDelta>, period: TimeDelta) -> Self {
        let asked_for = matches!(
            self.trigger,
            Trigger::Manual | Trigger::Backfill | Trigger::Replay
        );
        let least = if asked_for {
            ASKED_FOR
        } else {
            TimeDelta::zero()
        };
        let within = within.unwrap_or(period.max(least));
        for chunk in &mut self.chunks {
            let from = chunk.planned_at.max(Some(chunk.scheduled_at));
            chunk.expires_at = from.and_then(|from| from.checked_add_signed(within));
        }
        self.deliver_within = Some(within);
        self
    }

    /// The same, with idempotency keys written like this.
    #[must_use]
    pub fn with_keys(mut self, form: KeyForm) -> Self {
        self.key_form = form;
        for chunk in &mut self.chunks {
            chunk.key_form = form;
        }
        self
    }

    /// The same, that also runs, with the job's defaults, for tenants who have stored no preference.
    #[must_use]
    pub fn allowing_unknown(mut self, allow: bool) -> Self {
        for chunk in &mut self.chunks {
            chunk.allow_unknown = allow;
        }
        self
    }

    /// Number of its items.
    #[must_use]
    pub fn total(&self) -> usize {
        self.chunks.iter().map(|chunk| chunk.items.len()).sum()
    }
}

/// Status of a batch.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(rename_all = "snake_case")]
pub enum BatchStatus {
    /// In the queue; no chunk has begun.
    Queued,
    /// At least one chunk has begun.
    Running,
    /// Every item has its result.
    Completed,
    /// An operator has cancelled it: items that had not begun are skipped.
    Cancelled,
}

words!(
    BatchStatus,
    "batch status",
    Queued = "queued",
    Running = "running",
    Completed = "completed",
    Cancelled = "cancelled",
);

/// A batch as it stands in the store.
#[derive(Debug, Clone, PartialEq)]
pub struct Batch {
    /// Id of the batch.
    pub batch_id: Uuid,
    /// Job that the batch belongs to.
    pub job_id: JobId,
    /// The slot, as text.
    pub slot: String,
    /// Due time.
    pub scheduled_at: DateTime<Utc>,
    /// Trigger of the batch.
    pub trigger: Trigger,
    /// Status of the batch.
    pub status: BatchStatus,
    /// Number of its items.
    pub total: u64,
    /// Number of items that succeeded.
    pub succeeded: u64,
    /// Number of items that failed after all retries.
    pub failed: u64,
    /// Number of those that failed and have been replayed since.
    pub replayed: u64,
    /// How many were not run, with a reason: disabled meanwhile, or run by another batch of the same date.
    pub skipped: u64,
    /// Number of items that there was nothing to do for.
    pub nothing_to_do: u64,
    /// Items that wait: their work goes on elsewhere.
    pub waiting: u64,
    /// Time at which the batch was enqueued.
    pub created_at: DateTime<Utc>,
    /// Time at which its last item was done; `None`: some are not.
    pub finished_at: Option<DateTime<Utc>>,
}

impl Batch {
    /// Number of items with an outcome.
    #[must_use]
    pub fn processed(&self) -> u64 {
        self.succeeded + self.failed + self.skipped + self.nothing_to_do
    }

    /// Number of items that failed and have not been replayed.
    #[must_use]
    pub fn still_failed(&self) -> u64 {
        self.failed.saturating_sub(self.replayed)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn planning_the_same_firing_twice_gives_the_same_ids() {
        let job = JobId::new("job").unwrap();
        let items: Vec<_> = (0..1201)
            .map(|n| ItemId::new(format!("u{n}")).unwrap())
            .collect();
        let batch = |trigger, planned_at: &str| {
            NewBatch::new(
                &job,
                Priority::High,
                "daily 09:00 UTC".into(),
                "2026-03-01T09:00:00Z".parse().unwrap(),
                "2026-03-01".parse().unwrap(),
                trigger,
                planned_at.parse().unwrap(),
                &items,
                500,
            )
        };
        let first = batch(Trigger::Schedule, "2026-03-01T09:00:01Z");
        let again = batch(Trigger::Schedule, "2026-03-01T09:00:02Z");
        assert_eq!(first.batch_id, again.batch_id);
        assert_eq!(first.chunks[2].chunk_id, again.chunks[2].chunk_id);
        assert_eq!(
            first
                .chunks
                .iter()
                .map(|c| c.items.len())
                .collect::<Vec<_>>(),
            [500, 500, 201]
        );
        assert_eq!(first.total(), 1201);
        let late = batch(Trigger::LateChange, "2026-03-01T09:00:01Z");
        assert_ne!(late.batch_id, first.batch_id);
        assert_ne!(
            late.batch_id,
            batch(Trigger::LateChange, "2026-03-01T09:00:02Z").batch_id
        );
    }

    #[test]
    fn a_batch_expires_a_period_after_it_was_due_or_planned_whichever_is_later() {
        let job = JobId::new("j").unwrap();
        let expiry = |within, trigger, planned_at: &str, period| {
            let batch = NewBatch::new(
                &job,
                Priority::Medium,
                "slot".into(),
                "2026-03-01T09:00:00Z".parse().unwrap(),
                "2026-03-01".parse().unwrap(),
                trigger,
                planned_at.parse().unwrap(),
                &[ItemId::new("a").unwrap()],
                10,
            );
            let chunk = batch.expiring_after(within, period).chunks.remove(0);
            let makes_up = if chunk.makes_up() { " made up" } else { "" };
            format!("{}{makes_up}", chunk.expires_at.unwrap().format("%dT%H:%M"))
        };
        let (hour, day) = (TimeDelta::hours(1), TimeDelta::days(1));
        for (trigger, planned_at, period, expected) in [
            (Trigger::Schedule, "2026-03-01T09:00:00Z", day, "02T09:00"),
            (Trigger::Schedule, "2026-03-01T09:00:00Z", hour, "01T10:00"),
            (
                Trigger::Schedule,
                "2026-03-04T10:00:00Z",
                day,
                "05T10:00 made up",
            ),
            (
                Trigger::Backfill,
                "2026-03-20T10:00:00Z",
                hour,
                "21T10:00 made up",
            ),
            (Trigger::Manual, "2026-03-01T09:00:00Z", hour, "02T09:00"),
        ] {
            assert_eq!(expiry(None, trigger, planned_at, period), expected);
        }
        let own = Some(TimeDelta::minutes(90));
        let own = expiry(own, Trigger::Backfill, "2026-03-20T10:00:00Z", day);
        assert_eq!(own, "20T11:30 made up");
    }
}
