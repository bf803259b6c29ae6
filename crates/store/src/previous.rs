//! The last successful run of tenants before an instant. Results are found by run and tenant alone, so a job's runs are looked
//! through from the newest back: for most tenants the first or the second has it.

use std::collections::HashMap;

use chrono::{DateTime, TimeDelta, Utc};
use punctual_application::ports::StoreError;
use punctual_domain::{ItemId, JobId, Previous};

use crate::{
    Store,
    driver::{FromRow, Row, values},
};

/// The batches of one run fall due within this: a date lasts 50 hours from the first time zone to the last, and jobs spread
/// their items over at most a day.
const LONGEST_RUN: TimeDelta = TimeDelta::days(4);

/// How far back is looked: so long after their last success, tenants count as those who never had one.
pub(crate) const MAX_AGE: TimeDelta = TimeDelta::days(400);

/// Of each of the tenants `$1` the last success of the job `$2` that was due before `$3`, among the job's newest 1,000 runs
/// whose last batch fell due between `$5` and `$4`: a tenant without a success is looked for in each of them. Runs are in the
/// order in which the last of their batches fell due, which is not quite that of one tenant's due times: of two dates the
/// earlier one ends later somewhere, and a manual run stands in between. So a first success gives a bound, and the last one is
/// among the few runs from there on.
pub(crate) const PREVIOUS: &str = "WITH oldest AS MATERIALIZED (
         SELECT coalesce(
             (SELECT n.last_due FROM @runs n WHERE n.job_id = $2 AND n.last_due < $4 AND n.last_due > $5
              ORDER BY n.last_due DESC LIMIT 1 OFFSET 1000), $5) AS due),
     known AS MATERIALIZED (
         SELECT w.value AS tenant_id,
             (SELECT b.scheduled_at FROM @runs n JOIN @results r ON r.run = n.run AND r.tenant_id = w.value
                  JOIN @chunks c ON c.chunk = r.chunk JOIN @batches b ON b.batch_id = c.batch_id
              WHERE n.job_id = $2 AND n.last_due > (SELECT o.due FROM oldest o) AND n.last_due < $4
                  AND r.status = 1 AND b.scheduled_at < $3
              ORDER BY n.last_due DESC LIMIT 1) AS due
         FROM @texts($1, w)),
     newest AS MATERIALIZED (
         SELECT s.tenant_id,
             (SELECT r.run FROM @runs n JOIN @results r ON r.run = n.run AND r.tenant_id = s.tenant_id
                  JOIN @chunks c ON c.chunk = r.chunk JOIN @batches b ON b.batch_id = c.batch_id
              WHERE n.job_id = $2 AND n.last_due >= s.due AND n.last_due < $4 AND r.status = 1 AND b.scheduled_at < $3
              ORDER BY b.scheduled_at DESC, n.run DESC LIMIT 1) AS run
         FROM known s WHERE s.due IS NOT NULL)
     SELECT l.tenant_id, n.occurrence, b.scheduled_at, r.started_at + coalesce(r.duration, 0)
     FROM newest l CROSS JOIN @results r JOIN @runs n ON n.run = r.run
     JOIN @chunks c ON c.chunk = r.chunk JOIN @batches b ON b.batch_id = c.batch_id
     WHERE r.run = l.run AND r.tenant_id = l.tenant_id";

/// Of each of the tenants `$1` the last success of the job `$2` whose result has been removed, if it was due before `$3` and not
/// before `$4`.
pub(crate) const REMOVED: &str = "SELECT l.tenant_id, l.occurrence, l.scheduled_at, l.finished_at FROM @last_successes l
     WHERE l.job_id = $2 AND @in_texts(l.tenant_id, $1) AND l.scheduled_at + 0 < $3 AND l.scheduled_at + 0 > $4";

impl FromRow for (ItemId, Previous) {
    fn from_row(mut row: Row) -> Result<Self, StoreError> {
        let item_id = row.parse()?;
        let previous = Previous {
            occurrence: row.parse()?,
            scheduled_at: row.next()?,
            finished_at: row.next()?,
        };
        Ok((item_id, previous))
    }
}

impl Store {
    pub(crate) async fn previous_runs(
        &self,
        job_id: &JobId,
        due_at: DateTime<Utc>,
        items: &[ItemId],
    ) -> Result<HashMap<ItemId, Previous>, StoreError> {
        let wanted = values![
            items,
            job_id,
            due_at,
            due_at + LONGEST_RUN,
            due_at - MAX_AGE
        ];
        let found: Vec<(ItemId, Previous)> = self.database.fetch(PREVIOUS, wanted).await?;
        let mut found: HashMap<ItemId, Previous> = found.into_iter().collect();
        let wanted = values![items, job_id, due_at, due_at - MAX_AGE];
        let removed: Vec<(ItemId, Previous)> = self.database.fetch(REMOVED, wanted).await?;
        for (item_id, removed) in removed {
            let last = found.entry(item_id).or_insert(removed);
            if last.scheduled_at < removed.scheduled_at {
                *last = removed;
            }
        }
        Ok(found)
    }
}
