//! How late batches come to a stage: a histogram, and a warning for what is more than a minute late. What fell due
//! before this process began is made up for, which is something else.

use chrono::{DateTime, TimeDelta, Utc};
use punctual_domain::JobId;
use tracing::warn;

/// What comes later than this is worth a warning.
const WARN_AFTER: TimeDelta = TimeDelta::minutes(1);

/// Tells of lateness since a process began.
#[derive(Debug, Clone, Default)]
pub(crate) struct Lateness {
    began: Option<DateTime<Utc>>,
}

impl Lateness {
    /// What falls due from now on can be late; later calls change nothing.
    pub(crate) fn begin(&mut self, now: DateTime<Utc>) {
        self.began.get_or_insert(now);
    }

    /// A batch that fell due at `scheduled_at` has come to a stage `now`.
    pub(crate) fn record(
        &self,
        job_id: &JobId,
        stage: &'static str,
        scheduled_at: DateTime<Utc>,
        now: DateTime<Utc>,
    ) {
        if self.began.is_none_or(|began| scheduled_at < began) {
            return;
        }
        let late = now - scheduled_at;
        let seconds = late.as_seconds_f64().max(0.0);
        metrics::histogram!("punctual_fire_lateness_seconds", "job_id" => job_id.to_string(), "stage" => stage)
            .record(seconds);
        if late > WARN_AFTER {
            warn!(%job_id, stage, late_seconds = seconds as u64,
                "A batch of {job_id} is {stage} {} s after it fell due", seconds as u64);
        }
    }
}
