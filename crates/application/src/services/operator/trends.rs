//! How much has ended, has failed and was late over the last day and the last week.

use chrono::{DateTime, TimeDelta, Timelike, Utc};
use punctual_domain::JobId;

use super::Operator;
use crate::ports::{HourlyOutcomes, StoreError};

/// Hours of a day, each a bucket.
const DAY: i32 = 24;
/// Buckets of a week, and how many hours each has.
const WEEK: i32 = 28;
const HOURS_OF_WEEKS_BUCKET: i32 = 6;

/// What has ended over the last day and the last week.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Trends {
    /// The last 24 hours, hour by hour, the current one last.
    pub day: Vec<TrendBucket>,
    /// The last seven days in buckets of six hours, which begin at the full UTC hour nearest to 0:00, 6:00, 12:00 and 18:00 in the
    /// zone of the operator, the current one last.
    pub week: Vec<TrendBucket>,
}

/// Items whose batches ended in a stretch of time. One that was replayed counts each time that it ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TrendBucket {
    /// Begin of the stretch.
    pub begin: DateTime<Utc>,
    /// Items that succeeded or had nothing to do.
    pub succeeded: u64,
    /// Items that failed for good.
    pub failed: u64,
    /// The longest that a batch whose slot fell due came into the queue after it, in milliseconds.
    pub worst_lateness_ms: u64,
}

impl Operator {
    /// What has ended over the last day and the last week, of one job or of all.
    ///
    /// # Errors
    /// The store fails.
    pub async fn trends(&self, job_id: Option<&JobId>) -> Result<Trends, StoreError> {
        let hour = hour_of(self.clock.now());
        let into_bucket = self.zone.local(hour).map_or(0, |local| local.hour() as i32);
        let into_bucket = TimeDelta::hours((into_bucket % HOURS_OF_WEEKS_BUCKET).into());
        let width = TimeDelta::hours(HOURS_OF_WEEKS_BUCKET.into());
        let of_week = hour - into_bucket - width * (WEEK - 1);
        let of_day = hour - TimeDelta::hours((DAY - 1).into());
        let hours = self
            .operations
            .outcomes_by_hour(of_week, job_id.cloned())
            .await?;
        Ok(Trends {
            day: buckets(of_day, DAY, TimeDelta::hours(1), &hours),
            week: buckets(of_week, WEEK, width, &hours),
        })
    }
}

/// Begin of the hour of an instant.
fn hour_of(at: DateTime<Utc>) -> DateTime<Utc> {
    let seconds = at.timestamp().rem_euclid(3_600);
    let whole = DateTime::from_timestamp(at.timestamp() - seconds, 0);
    whole.unwrap_or(at)
}

/// So many buckets of a width, from `begin` on.
fn buckets(
    begin: DateTime<Utc>,
    count: i32,
    width: TimeDelta,
    hours: &[HourlyOutcomes],
) -> Vec<TrendBucket> {
    let empty = |place: i32| TrendBucket {
        begin: begin + width * place,
        succeeded: 0,
        failed: 0,
        worst_lateness_ms: 0,
    };
    let mut buckets: Vec<TrendBucket> = (0..count).map(empty).collect();
    for one in hours {
        let after = (one.hour - begin).num_seconds();
        let place = usize::try_from(after.div_euclid(width.num_seconds()));
        if let Some(bucket) = place.ok().and_then(|place| buckets.get_mut(place)) {
            bucket.succeeded += one.succeeded;
            bucket.failed += one.failed;
            bucket.worst_lateness_ms = bucket.worst_lateness_ms.max(one.worst_lateness_ms);
        }
    }
    buckets
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hours_are_added_to_the_bucket_that_they_are_in_and_others_are_left_out() {
        let at = |text: &str| text.parse::<DateTime<Utc>>().unwrap();
        let hour = |text: &str, failed, worst_lateness_ms| HourlyOutcomes {
            hour: at(text),
            succeeded: 10,
            failed,
            worst_lateness_ms,
        };
        let hours = [
            hour("2026-02-28T23:00:00Z", 9, 9),
            hour("2026-03-01T00:00:00Z", 0, 5),
            hour("2026-03-01T05:00:00Z", 2, 3),
            hour("2026-03-01T06:00:00Z", 1, 0),
            hour("2026-03-01T12:00:00Z", 9, 9),
        ];
        let begin = at("2026-03-01T00:00:00Z");
        let found = buckets(begin, 2, TimeDelta::hours(6), &hours);
        let bucket = |begin, succeeded, failed, worst_lateness_ms| TrendBucket {
            begin,
            succeeded,
            failed,
            worst_lateness_ms,
        };
        let second = at("2026-03-01T06:00:00Z");
        assert_eq!(found, [bucket(begin, 20, 2, 5), bucket(second, 10, 1, 0)]);
    }
}
