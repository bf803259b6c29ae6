//! Plans what is prepared of a job: everything that falls due within the job's `prepare_ahead`, and again what has changed since.
//! How far it has come is known in memory alone. A new leader begins anew: it comes to the same batches where the same tenants are
//! due, and these are queued already. Of other batches, what has been prepared is passed over item by item when it comes up.

use std::collections::BTreeSet;

use chrono::{DateTime, TimeDelta, Utc};
use punctual_domain::{
    Change, DueGroup, ItemId, JobConfig, NewBatch, Sharding, TenantId, Work, plan_ahead,
};

use super::job_mirror::JobMirror;

/// What comes into the time ahead is planned together, so often at most: there may be many groups of tenants.
const STEP: TimeDelta = TimeDelta::seconds(30);

/// How far the runs of a job have been planned to be prepared.
#[derive(Debug, Default)]
pub(super) struct Prepared {
    /// What falls due until then has been planned; `None`: nothing has.
    until: Option<DateTime<Utc>>,
    /// Tenants whose preference has changed since.
    changed: BTreeSet<TenantId>,
}

impl Prepared {
    /// Plans everything again.
    pub(super) fn forget(&mut self) {
        self.until = None;
        self.changed.clear();
    }

    /// Plans the tenants of these changes again. Before anything has been planned, they come with the others.
    pub(super) fn note(&mut self, changes: &[Change]) {
        if self.until.is_some() {
            let tenants = changes.iter().map(|change| change.tenant_id.clone());
            self.changed.extend(tenants);
        }
    }

    /// What has been planned at `now` has been stored. Where the clock has stepped back, or the job prepares less far ahead, what has
    /// been planned beyond comes again: it is looked at again, not called again.
    pub(super) fn advance(&mut self, ahead: Option<TimeDelta>, now: DateTime<Utc>) {
        let Some(ahead) = ahead else {
            self.forget();
            return;
        };
        if self.is_due(ahead, now) {
            self.until = now.checked_add_signed(ahead);
        }
        self.changed.clear();
    }

    /// Whether enough has come into the time ahead, or has left it.
    fn is_due(&self, ahead: TimeDelta, now: DateTime<Utc>) -> bool {
        self.until
            .is_none_or(|until| (now + ahead - until).abs() >= STEP.min(ahead))
    }
}

impl JobMirror {
    /// What is to be prepared at `now`. [`Prepared::advance`] says that it has been stored.
    pub(super) fn plan_ahead(
        &self,
        now: DateTime<Utc>,
        chunk_size: usize,
        sharding: &Sharding,
    ) -> Vec<NewBatch> {
        let (job, prepared) = (&self.job, &self.prepared);
        let Some(ahead) = job.prepare_ahead else {
            return Vec::new();
        };
        let is_due = prepared.is_due(ahead, now);
        if !is_due && prepared.changed.is_empty() {
            return Vec::new();
        }
        let from = prepared.until.unwrap_or(now);
        let to = if is_due { now + ahead } else { from };
        let due = self
            .mirror
            .read(|mirror| plan_ahead(mirror, now, from, to, &prepared.changed));
        let made_with = made_with(job);
        let batch = |group: DueGroup| {
            let date = group.occurrence.shard_date()?;
            let mut items: Vec<ItemId> = group.tenants.into_iter().map(ItemId::from).collect();
            items.retain(|item| sharding.serves(&job.job_id, item, date));
            // The mirror of another process has them in another order.
            items.sort_unstable();
            // What has changed is planned again now; all others when they come into the time ahead, with any leader.
            let planned_at = if group.scheduled_at <= from {
                now
            } else {
                group.scheduled_at - ahead
            };
            let batch = NewBatch::preparing(
                &job.job_id,
                job.priority,
                group.slot.to_string(),
                group.scheduled_at,
                group.occurrence,
                &made_with,
                planned_at,
                &items,
                chunk_size,
            );
            (!items.is_empty()).then_some(batch)
        };
        due.into_iter().filter_map(batch).collect()
    }
}

/// What a job gives to all of its calls. After an edit of it everything is prepared again.
fn made_with(job: &JobConfig) -> String {
    let defaults = match &job.work {
        Work::Preferences { defaults, .. } => Some(&**defaults),
        Work::Fixed { .. } => None,
    };
    let defaults = defaults.map(|defaults| (&defaults.template_overrides, &defaults.other));
    serde_json::json!([job.purpose_id, defaults]).to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_clock_that_jumps_ahead_and_back_and_a_shorter_time_ahead_stop_no_preparation() {
        let at = |text: &str| -> DateTime<Utc> { text.parse().unwrap() };
        let hours = |hours| Some(TimeDelta::hours(hours));
        let mut prepared = Prepared::default();
        let (wrong, now) = (at("2027-03-01T07:00:00Z"), at("2026-03-01T07:00:00Z"));
        prepared.advance(hours(12), wrong);
        assert_eq!(prepared.until, Some(at("2027-03-01T19:00:00Z")));
        prepared.advance(hours(12), now);
        assert_eq!(prepared.until, Some(at("2026-03-01T19:00:00Z")));
        prepared.advance(hours(12), now + TimeDelta::seconds(29));
        assert_eq!(prepared.until, Some(at("2026-03-01T19:00:00Z")));
        prepared.advance(hours(1), now + TimeDelta::seconds(29));
        assert_eq!(prepared.until, Some(at("2026-03-01T08:00:29Z")));
    }
}
