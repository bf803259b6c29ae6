//! What falls due among the items that wait.

use std::collections::HashMap;

use chrono::{DateTime, TimeDelta, Utc};
use punctual_application::{
    crash_point,
    ports::{DueCalls, Settlement, StoreError},
};
use punctual_domain::{FailureKind, ItemId, ItemResult, ItemStatus};
use tracing::{debug, error};
use uuid::Uuid;

use super::{CALLS, lock_chunks};
use crate::{
    Store,
    batch_store::{Counts, QUEUE_PARKED, add_counts},
    driver::{Announcement, Value, values},
    errors::failed,
};

/// When the next of the calls that wait is due, and the next item that is to be called again; nothing while the store is held.
pub(crate) const NEXT: &str =
    "SELECT (SELECT min(w.due_at) FROM @waiting_items w WHERE w.phase = 1),
            (SELECT min(w.due_at) FROM @waiting_items w WHERE w.phase = 2)
     WHERE NOT EXISTS (SELECT 1 FROM @fence f WHERE f.held_to IS NOT NULL)";

/// Items that one transaction takes for those to be called again, or somewhat more.
const RESUMED_TOGETHER: usize = 2_000;

/// The chunks of items that are to be called again by `$1`, and when each was to be called, the earliest first.
pub(crate) const TO_CALL: &str =
    "SELECT w.chunk, w.due_at FROM @waiting_items w WHERE w.phase = 2 AND w.due_at <= $1
     ORDER BY w.due_at LIMIT $2";

/// Takes items that were to be called by `$1`. That is when the last of those found was to be: where a million are due, each
/// statement reads its own, and not all that are left.
pub(crate) const RESUME: &str = "UPDATE @waiting_items SET phase = 3
     WHERE phase = 2 AND due_at <= $1 AND @in_integers(chunk, $2) RETURNING chunk";

/// Items of calls that are due at `$1`, with their calls.
pub(crate) const DUE: &str =
    "SELECT w.call_id, w.chunk FROM @waiting_items w WHERE w.phase = 1 AND w.due_at <= $1
     ORDER BY w.due_at, w.call_id LIMIT $2";

/// Leases those of some calls that are still due.
const LEASE: &str = "UPDATE @waiting_items SET due_at = $3
     WHERE @in_texts(call_id, $2) AND phase + 0 = 1 AND due_at <= $1 RETURNING call_id";

impl Store {
    pub(super) async fn due_calls(
        &self,
        now: DateTime<Utc>,
        lease: TimeDelta,
        limit: usize,
    ) -> Result<DueCalls, StoreError> {
        // Mostly nothing is due: one look that writes nothing.
        let (mut calls, mut to_call) = self.next_due().await?;
        let is_due = |at: Option<DateTime<Utc>>| at.is_some_and(|at| at <= now);
        if !is_due(calls) && !is_due(to_call) {
            return Ok(DueCalls {
                calls: Vec::new(),
                next: [calls, to_call].into_iter().flatten().min(),
            });
        }
        if is_due(to_call) {
            while self.resume(now, RESUMED_TOGETHER).await? >= RESUMED_TOGETHER {}
        }
        let mut found = Vec::new();
        if is_due(calls) {
            let ids = self.lease(now, lease, limit).await?;
            let mut leased = self.calls(CALLS, &ids).await?;
            for id in ids {
                match leased.remove(&id) {
                    Some(Ok(call)) => found.push(call),
                    Some(Err(error)) => self.fail_damaged(&id, &error, now).await,
                    None => {}
                }
            }
            let (cancelled, others): (Vec<_>, Vec<_>) =
                found.into_iter().partition(|call| call.is_cancelled);
            found = others;
            let chunks = cancelled.into_iter().map(|call| call.chunk_id);
            self.queue_cancelled(chunks.collect()).await?;
        }
        (calls, to_call) = self.next_due().await?;
        Ok(DueCalls {
            calls: found,
            next: [calls, to_call].into_iter().flatten().min(),
        })
    }

    async fn next_due(&self) -> Result<(Option<DateTime<Utc>>, Option<DateTime<Utc>>), StoreError> {
        let next = self.database.fetch_optional(NEXT, values![]).await?;
        Ok(next.unwrap_or_default())
    }

    /// Queues items that are to be called again by now, the earliest `most` and those of their chunks that are due as early. Returns
    /// how many were found.
    pub(crate) async fn resume(
        &self,
        now: DateTime<Utc>,
        most: usize,
    ) -> Result<usize, StoreError> {
        let mut transaction = self.database.begin().await?;
        let to_call = values![now, most];
        let to_call: Vec<(i64, i64)> = transaction.fetch(TO_CALL, to_call).await?;
        let found = to_call.len();
        let Some(&(_, last)) = to_call.last() else {
            // Another process was as quick.
            return Ok(0);
        };
        let mut chunks: Vec<i64> = to_call.into_iter().map(|(chunk, _)| chunk).collect();
        chunks.sort_unstable();
        chunks.dedup();
        lock_chunks(&mut transaction, chunks.clone()).await?;
        let resume = values![last, chunks.as_slice()];
        let resumed: Vec<i64> = transaction.fetch(RESUME, resume).await?;
        if resumed.is_empty() {
            // Another process was as quick.
            return Ok(0);
        }
        let mut counts: HashMap<i64, Counts> = HashMap::new();
        for chunk in resumed {
            let of_chunk = counts.entry(chunk).or_insert_with(|| Counts::of(chunk));
            of_chunk.waiting -= 1;
            of_chunk.resumed += 1;
        }
        let counts: Vec<Counts> = counts.into_values().collect();
        add_counts(&mut transaction, &counts).await?;
        transaction.announce(Announcement::Chunks).await?;
        crash_point!("resume-before-commit");
        transaction.commit().await?;
        crash_point!("resume-after-commit");
        self.note_ends(true);
        Ok(found)
    }

    /// Leases calls that are due, and returns their ids, the earliest first.
    async fn lease(
        &self,
        now: DateTime<Utc>,
        lease: TimeDelta,
        limit: usize,
    ) -> Result<Vec<String>, StoreError> {
        let mut transaction = self.database.begin().await?;
        let due: Vec<(String, i64)> = transaction.fetch(DUE, values![now, limit]).await?;
        let (mut ids, chunks): (Vec<String>, Vec<i64>) = due.into_iter().unzip();
        // Items of a call stand beside each other.
        ids.dedup();
        lock_chunks(&mut transaction, chunks).await?;
        let leased = values![now, Value::Texts(ids.clone()), now + lease];
        let leased: Vec<String> = transaction.fetch(LEASE, leased).await?;
        transaction.commit().await?;
        let leased: std::collections::HashSet<String> = leased.into_iter().collect();
        ids.retain(|id| leased.contains(id));
        Ok(ids)
    }

    /// Fails a call whose row is damaged: no one else can bring it to its end, and its batch with it.
    async fn fail_damaged(&self, call_id: &str, error: &StoreError, now: DateTime<Utc>) {
        error!(
            call_id,
            %error,
            "Call {call_id} in the store cannot be read, its items count as failed: {error}"
        );
        let settled = match failed_call(call_id, error, now) {
            Ok(end) => self.settle_calls(&[end], now).await.map(drop),
            Err(error) => Err(error),
        };
        if let Err(error) = settled {
            // Its lease ends, and it is due again.
            debug!(call_id, %error, "Failed to end call {call_id}: {error}");
        }
    }

    /// Queues chunks of batches that have been cancelled, where a process died before it had queued them.
    async fn queue_cancelled(&self, chunk_ids: Vec<String>) -> Result<(), StoreError> {
        if chunk_ids.is_empty() {
            return Ok(());
        }
        let mut transaction = self.database.begin().await?;
        let ids = Value::Texts(chunk_ids);
        transaction
            .fetch::<i64>(LOCK_NAMED, values![ids.clone()])
            .await?;
        let queued = transaction.execute(QUEUE_PARKED, values![ids]).await? > 0;
        if queued {
            transaction.announce(Announcement::Chunks).await?;
        }
        transaction.commit().await?;
        self.note_ends(queued);
        Ok(())
    }
}

/// The end of a call that cannot be read.
fn failed_call(
    call_id: &str,
    error: &StoreError,
    now: DateTime<Utc>,
) -> Result<(Uuid, Settlement), StoreError> {
    let result = ItemResult {
        // Each item of the call takes the place of this one.
        item_id: ItemId::new("damaged").map_err(failed)?,
        status: ItemStatus::Failed,
        failure_kind: Some(FailureKind::Handler),
        attempts: 1,
        preference: None,
        output: None,
        error: Some(format!(
            "its call waited, and cannot be read from the store: {error}"
        )),
        started_at: now,
        finished_at: Some(now),
        waiting: None,
    };
    let call_id: Uuid = call_id.parse().map_err(failed)?;
    Ok((call_id, Settlement::End(Box::new(result))))
}

const LOCK_NAMED: &str =
    "SELECT c.chunk FROM @chunks c WHERE @in_texts(c.chunk_id, $1) ORDER BY c.chunk @for_update(c)";
