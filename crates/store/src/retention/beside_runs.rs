//! Removes what is kept for a time of its own, beside runs. To add a table, add it to [`OTHERS`] and say in [`Other::remove`] what of
//! it goes when.

use chrono::{DateTime, TimeDelta, Utc};
use punctual_application::ports::{KEEP_ENDED, RemovedKind, RetentionPolicy, StoreError};
use punctual_domain::KeepDays;

use super::{NEXT_JOB, Removed, keep_of};
use crate::{
    driver::{Connection, values},
    operations::REQUEST_TTL,
    prepared_outputs::{KEPT_FOR, REMOVE_OLD},
    previous::MAX_AGE,
    results::USE_PERIOD,
    tenant_records::done::{REMEMBERED_FOR, REMOVE_DONE},
};

pub(crate) const REMOVE_AUDIT_LOG: &str = "DELETE FROM @audit_log WHERE id IN
         (SELECT a.id FROM @audit_log a WHERE a.at < $1 ORDER BY a.at LIMIT $2)";

pub(crate) const REMOVE_REQUESTS: &str = "DELETE FROM @requests WHERE id IN
         (SELECT q.id FROM @requests q WHERE q.at < $1 ORDER BY q.at LIMIT $2)";

pub(crate) const REMOVE_PROVIDER_BATCHES: &str = "DELETE FROM @provider_batches WHERE id IN
         (SELECT p.id FROM @provider_batches p WHERE p.ended_at < $1 ORDER BY p.ended_at LIMIT $2)";

/// A provider batch that is not over, none of whose calls waits any more: its purpose does not exist any more, or does without.
const ABANDONED: &str = "SELECT p.id FROM @provider_batches p WHERE p.ended_at IS NULL AND p.created_at < $1
       AND NOT EXISTS (SELECT 1 FROM @provider_batch_calls c JOIN @waiting_items w ON w.call_id = c.call_id
                       WHERE c.provider_batch = p.id)
     LIMIT 1";
const REMOVE_CALLS: &str = "DELETE FROM @provider_batch_calls WHERE call_id IN
         (SELECT c.call_id FROM @provider_batch_calls c WHERE c.provider_batch = $1 LIMIT $2)";
const REMOVE_PROVIDER_BATCH: &str = "DELETE FROM @provider_batches WHERE id = $1";

pub(crate) const REMOVE_SUCCESSES: &str = "DELETE FROM @last_successes WHERE (tenant_id, job_id) IN
         (SELECT l.tenant_id, l.job_id FROM @last_successes l WHERE l.scheduled_at < $1 ORDER BY l.scheduled_at LIMIT $2)";

/// Contents that a version without this column has stored count as used now.
const ADOPT_PREFERENCES: &str = "UPDATE @preferences SET used_at = $1 WHERE hash IN
         (SELECT p.hash FROM @preferences p WHERE p.used_at = 0 LIMIT $2 @for_update_free(p))";

pub(crate) const REMOVE_PREFERENCES: &str = "DELETE FROM @preferences WHERE hash IN
         (SELECT p.hash FROM @preferences p WHERE p.used_at > 0 AND p.used_at < $1 ORDER BY p.used_at LIMIT $2
          @for_update_free(p))";

/// The tables beside runs.
#[derive(Debug, Clone, Copy)]
pub(super) enum Other {
    AuditLog,
    Requests,
    PreparedOutputs,
    ProviderBatches,
    AbandonedBatches,
    LastSuccesses,
    NewPreferences,
    Preferences,
    DoneErasures,
}

pub(super) const OTHERS: [Other; 9] = [
    Other::AuditLog,
    Other::Requests,
    Other::PreparedOutputs,
    Other::ProviderBatches,
    Other::AbandonedBatches,
    Other::LastSuccesses,
    Other::NewPreferences,
    Other::Preferences,
    Other::DoneErasures,
];

impl Other {
    /// Removes at most so many rows. Returns how many there were: fewer, where no more are left.
    pub(super) async fn remove(
        self,
        connection: &mut Connection<'_>,
        policy: &RetentionPolicy,
        rows: i64,
        now: DateTime<Utc>,
        removed: &mut Removed,
    ) -> Result<u64, StoreError> {
        let (sql, before, kind) = match self {
            Self::AuditLog => (
                REMOVE_AUDIT_LOG,
                now - RetentionPolicy::AUDIT_LOG,
                RemovedKind::AuditLog,
            ),
            Self::Requests => (REMOVE_REQUESTS, now - REQUEST_TTL, RemovedKind::Requests),
            Self::PreparedOutputs => (REMOVE_OLD, now - KEPT_FOR, RemovedKind::PreparedOutputs),
            Self::ProviderBatches => (
                REMOVE_PROVIDER_BATCHES,
                now - KEEP_ENDED,
                RemovedKind::ProviderBatches,
            ),
            Self::AbandonedBatches => {
                return remove_abandoned(connection, rows, now - KEEP_ENDED, removed).await;
            }
            Self::LastSuccesses => (REMOVE_SUCCESSES, now - MAX_AGE, RemovedKind::LastSuccesses),
            Self::NewPreferences => {
                return connection
                    .execute(ADOPT_PREFERENCES, values![now, rows])
                    .await;
            }
            // They are notes on what the store has done itself, and are not counted.
            Self::DoneErasures => {
                return connection
                    .execute(REMOVE_DONE, values![now - REMEMBERED_FOR, rows])
                    .await;
            }
            // A result refers to it for two periods after its use was noted last, at most.
            Self::Preferences => {
                let longest = longest_of_runs(connection, policy).await?;
                (
                    REMOVE_PREFERENCES,
                    now - longest - KeepDays::SLACK - USE_PERIOD * 3,
                    RemovedKind::Preferences,
                )
            }
        };
        let rows = connection.execute(sql, values![before, rows]).await?;
        removed.add(kind, rows);
        Ok(rows)
    }
}

/// The longest time for which results are kept of any job that has runs, and of usual jobs. What is remembered of a job whose last run
/// has gone keeps nothing.
async fn longest_of_runs(
    connection: &mut Connection<'_>,
    policy: &RetentionPolicy,
) -> Result<TimeDelta, StoreError> {
    let (mut longest, mut job) = (KeepDays::of_unknown_job().longest(), String::new());
    loop {
        let next: Option<String> = connection.fetch_optional(NEXT_JOB, values![&*job]).await?;
        let Some(next) = next else {
            return Ok(longest);
        };
        longest = longest.max(keep_of(policy, &next).longest());
        job = next;
    }
}

/// Removes calls of an abandoned provider batch, or the batch when it has none. Returns `rows` where there may be more.
async fn remove_abandoned(
    connection: &mut Connection<'_>,
    rows: i64,
    before: DateTime<Utc>,
    removed: &mut Removed,
) -> Result<u64, StoreError> {
    let abandoned: Option<String> = connection
        .fetch_optional(ABANDONED, values![before])
        .await?;
    let Some(id) = abandoned else { return Ok(0) };
    let calls = connection
        .execute(REMOVE_CALLS, values![&*id, rows])
        .await?;
    if calls < rows.unsigned_abs() {
        let batches = connection
            .execute(REMOVE_PROVIDER_BATCH, values![id])
            .await?;
        removed.add(RemovedKind::ProviderBatches, batches);
    }
    Ok(rows.unsigned_abs())
}
