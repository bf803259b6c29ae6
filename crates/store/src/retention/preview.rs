//! Counts what a removal would remove, and changes nothing. Sizes are estimates.

use chrono::{DateTime, Utc};
use punctual_application::ports::{Removable, RemovedKind, RetentionPolicy, StoreError};
use punctual_domain::JobId;

use super::{Removes, Round, keep_of};
use crate::{Store, driver::values};

/// Estimated sizes in bytes.
const LETTER_BYTES: u64 = 250;
const SKIPPED_BYTES: u64 = 120;
const BATCH_BYTES: u64 = 400;
const ENTRY_BYTES: u64 = 200;

/// What the batches of runs have counted, when the oldest of them fell due, and one of the runs.
pub(crate) const COUNTS: &str = concat!(
    "SELECT CAST(coalesce(sum(o.succeeded + o.nothing_to_do), 0) AS BIGINT), CAST(coalesce(sum(o.failed), 0) AS BIGINT),
         CAST(coalesce(sum(o.skipped), 0) AS BIGINT), count(*), min(o.scheduled_at), min(n.run)
     FROM @runs n CROSS JOIN @batches o
     WHERE n.job_id = $1 AND n.cleared = $2 AND n.last_due < $3 AND o.run = n.run AND ",
    is_over!("$4")
);

/// The size in bytes of a result of a run, of the first ones.
const RESULT_BYTES: &str = "SELECT CAST(coalesce(avg(60 + octet_length(s.tenant_id) * 2 + coalesce(octet_length(s.output), 0)
         + coalesce(octet_length(s.error), 0)), 100) AS BIGINT)
     FROM (SELECT r.tenant_id, r.output, r.error FROM @results r WHERE r.run = $1 LIMIT 200) s";

const OLD_ENTRIES: &str = "SELECT count(*), min(a.at) FROM @audit_log a WHERE a.at < $1";

impl Store {
    /// What is old enough to be removed, by job and kind.
    pub(super) async fn preview(
        &self,
        policy: &RetentionPolicy,
        now: DateTime<Utc>,
    ) -> Result<Vec<Removable>, StoreError> {
        let mut found = Vec::new();
        for job in self.jobs_with_runs().await? {
            for round in Round::of(keep_of(policy, &job)) {
                found.extend(self.removable_of(policy, &job, round, now).await?);
            }
        }
        let before = values![now - RetentionPolicy::AUDIT_LOG];
        let entries = self.database.fetch_optional(OLD_ENTRIES, before).await?;
        let (rows, oldest): (u64, Option<DateTime<Utc>>) = entries.unwrap_or_default();
        found.push(Removable {
            job_id: None,
            kind: RemovedKind::AuditLog,
            rows,
            bytes: rows * ENTRY_BYTES,
            oldest,
        });
        found.retain(|one| one.rows > 0);
        Ok(found)
    }

    /// What a round over the runs of a job would remove.
    async fn removable_of(
        &self,
        policy: &RetentionPolicy,
        job: &str,
        round: Round,
        now: DateTime<Utc>,
    ) -> Result<Vec<Removable>, StoreError> {
        type Counts = (u64, u64, u64, u64, Option<DateTime<Utc>>, Option<i64>);
        let (due_before, ended_before) = round.bounds(now);
        let wanted = values![job, round.cleared, due_before, ended_before];
        let counts: Option<Counts> = self.database.fetch_optional(COUNTS, wanted).await?;
        let Some((ended_well, failed, skipped, batches, oldest, Some(run))) = counts else {
            return Ok(Vec::new());
        };
        let keep = keep_of(policy, job);
        let [first, _] = Round::of(keep);
        // What an earlier round has removed is not there any more.
        let has_gone = |what| round.cleared == 1 && first.removes == what;
        let successes = round.removes != Removes::Failures && !has_gone(Removes::Successes);
        let failures = round.removes != Removes::Successes && !has_gone(Removes::Failures);
        let count = |counts: bool, rows: u64| if counts { rows } else { 0 };
        let results = count(successes, ended_well) + count(failures, failed);
        let size = self.database.fetch_optional(RESULT_BYTES, values![run]);
        let size: u64 = size.await?.unwrap_or_default();
        let is_all = round.removes == Removes::All;
        let kinds = [
            (RemovedKind::Results, results, size),
            (
                RemovedKind::SkippedItems,
                count(successes, skipped),
                SKIPPED_BYTES,
            ),
            (
                RemovedKind::DeadLetters,
                count(failures, failed),
                LETTER_BYTES,
            ),
            (RemovedKind::Batches, count(is_all, batches), BATCH_BYTES),
        ];
        let removable = |(kind, rows, size): (RemovedKind, u64, u64)| Removable {
            job_id: JobId::new(job).ok(),
            kind,
            rows,
            bytes: rows * size,
            oldest,
        };
        Ok(kinds.into_iter().map(removable).collect())
    }
}
