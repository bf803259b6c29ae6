//! What the store holds from before the simulation: results of some days, old enough to be removed now, soon, or not yet.

use std::ops::RangeInclusive;

use chrono::{DateTime, NaiveTime, TimeDelta, Utc};
use punctual_application::ports::Clock;
use punctual_domain::{
    FailureKind, ItemId, ItemResult, ItemStatus, JobId, NewBatch, Occurrence, Priority, Trigger,
};
use serde_json::json;

use super::World;

/// How many days ago they fell due. What is kept for a day goes within six.
pub(super) const DAYS_AGO: RangeInclusive<i64> = 4..=9;

fn result(item_id: &ItemId, at: DateTime<Utc>, random: &mut fastrand::Rng) -> ItemResult {
    let status = match random.u8(..10) {
        0 => ItemStatus::Failed,
        1 => ItemStatus::NothingToDo,
        _ => ItemStatus::Succeeded,
    };
    let output = json!({"tenant": item_id, "of": item_id, "n": 0, "enabled": true});
    ItemResult {
        item_id: item_id.clone(),
        status,
        failure_kind: (status == ItemStatus::Failed).then_some(FailureKind::Handler),
        attempts: 1,
        preference: None,
        output: (status == ItemStatus::Succeeded).then_some(output),
        error: (status != ItemStatus::Succeeded).then(|| "simulated".to_owned()),
        started_at: at,
        finished_at: Some(at),
        waiting: None,
    }
}

impl World {
    /// Stores what ran before.
    pub(super) async fn store_past(&mut self) {
        let today = self.time.now().date_naive();
        let job_ids = self.stories.iter().map(|story| story.job_id.clone());
        let job_ids: Vec<JobId> = job_ids.collect();
        for job_id in job_ids {
            // As they ran: the oldest first.
            for days in DAYS_AGO.rev() {
                let date = today - TimeDelta::days(days);
                let at = date.and_time(NaiveTime::MIN).and_utc() + TimeDelta::hours(9);
                let items = self.tenants.iter().filter(|_| self.random.u8(..3) > 0);
                let items: Vec<ItemId> = items.map(ItemId::from).collect();
                if items.is_empty() {
                    continue;
                }
                let (slot, occurrence) = ("daily 09:00 UTC".to_owned(), Occurrence::Date(date, 1));
                let batch = NewBatch::new(
                    &job_id,
                    Priority::Low,
                    slot,
                    at,
                    occurrence,
                    Trigger::Backfill,
                    at,
                    &items,
                    items.len(),
                );
                let results = items.iter().map(|item| result(item, at, &mut self.random));
                let results: Vec<ItemResult> = results.collect();
                self.around.store.store_past(&batch, &results).await;
            }
        }
    }
}
