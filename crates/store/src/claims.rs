//! Claims: which items of a chunk a process is given, and the token that fences all of its writes.

use std::collections::{BTreeSet, HashMap, HashSet};

use chrono::{DateTime, TimeDelta, Utc};
use punctual_application::ports::{Claim, Claimant, StoreError};
use punctual_domain::{Chunk, ItemId};
use serde_json::json;

use crate::{
    driver::{Connection, Row, values},
    errors::{failed, no_chunk},
};

/// Puts a claim on a chunk. A claim that another process left open is a delivery that ended with it.
const CLAIM: &str = "UPDATE @chunks SET token = $2, process = $3, claimed_at = $4, job_id = $5, occurrence = $6, total = $7,
         lost = lost + CASE WHEN token IS NOT NULL AND process <> $3 THEN 1 ELSE 0 END
     WHERE chunk_id = $1
     RETURNING chunk, lost, suspect, suspected,
               (SELECT b.status = 'cancelled' FROM @batches b WHERE b.batch_id = $8)";

/// The rows of a chunk's items. `CROSS JOIN` keeps `SQLite` from looking through all results of the job instead of looking
/// up each item.
pub(crate) const ROWS_OF_ITEMS: &str =
    "SELECT r.tenant_id, r.chunk, r.again FROM @texts($1, item) CROSS JOIN @item_results r
     WHERE r.tenant_id = item.value AND r.job_id = $2 AND r.occurrence = $3
     UNION ALL SELECT tenant_id, chunk, NULL FROM @skipped_items WHERE chunk = $4";

/// Selects the items of other chunks' active claims.
const ACTIVE_CLAIMS: &str =
    "SELECT items FROM @chunks WHERE job_id = $1 AND occurrence = $2 AND token IS NOT NULL
       AND chunk <> $3 AND items IS NOT NULL";

/// Tenants of a job who have an occurrence running other than this one, in a process that was alive at `$3`. Of a process
/// that has sent no heartbeat nothing else is known.
const OVERLAPPING: &str = "SELECT DISTINCT n.tenant_id FROM @running_items n
     JOIN @chunks c ON c.chunk = n.chunk AND c.token = n.token
     WHERE n.job_id = $1 AND n.occurrence <> $2
       AND NOT EXISTS (SELECT 1 FROM @item_results r WHERE r.tenant_id = n.tenant_id AND r.job_id = n.job_id
                       AND r.occurrence = n.occurrence AND r.chunk = n.chunk)
       AND coalesce((SELECT p.last_seen FROM @processes p WHERE p.process = c.process), $3) >= $3";

/// Records the items that a claim assigned.
const ASSIGN_ITEMS: &str = "UPDATE @chunks SET items = $2, superseded = $3 WHERE chunk = $1";

const BEGIN_BATCH: &str =
    "UPDATE @batches SET status = 'running' WHERE batch_id = $1 AND status = 'queued'";

/// Claims what is still to be run of a chunk. Two claims of a job at one time would not see what the other gives, so the lock
/// of the job must be held.
pub(crate) async fn claim_chunk(
    connection: &mut Connection<'_>,
    chunk: &Chunk,
    claimant: Claimant,
    now: DateTime<Utc>,
) -> Result<Claim, StoreError> {
    let (job_id, occurrence) = (chunk.job_id.as_str(), chunk.occurrence.to_string());
    let Claimant { process, token } = claimant;
    let of_chunk = values![
        &*chunk.chunk_id,
        token,
        process,
        now,
        job_id,
        &*occurrence,
        chunk.items.len(),
        chunk.batch_id
    ];
    let mut row: Row = connection
        .fetch_optional(CLAIM, of_chunk)
        .await?
        .ok_or_else(|| no_chunk(chunk))?;
    let own: i64 = row.next()?;
    let outcomes = values![chunk.items.as_slice(), job_id, &*occurrence, own];
    let outcomes = connection.fetch(ROWS_OF_ITEMS, outcomes).await?;
    let in_work: Vec<String> = connection
        .fetch(ACTIVE_CLAIMS, values![job_id, &*occurrence, own])
        .await?;
    let given = share(chunk, &rows(own, outcomes), &in_work)?;
    let running: Vec<String> = connection
        .fetch(
            OVERLAPPING,
            values![job_id, &*occurrence, alive_since(chunk)],
        )
        .await?;
    let items = json!(given.items).to_string();
    connection
        .execute(ASSIGN_ITEMS, values![own, items, given.superseded])
        .await?;
    connection
        .execute(BEGIN_BATCH, values![chunk.batch_id])
        .await?;
    let crash_count = row.next()?;
    let suspect: Option<String> = row.next()?;
    let suspected: u32 = row.next()?;
    let suspect = suspect.map(|tenant| ItemId::new(tenant).map_err(failed));
    Ok(Claim {
        overlapping: given.overlapping(&running),
        waiting: given.waiting,
        items: given.items,
        crash_count,
        poison_candidate: suspect.transpose()?.map(|tenant| (tenant, suspected)),
        cancelled: row.next()?,
    })
}

/// Items of a chunk, split by what the claim does with them.
struct ClaimedItems {
    /// To be run by this claim.
    items: Vec<ItemId>,
    /// Run by other chunks.
    superseded: i64,
    /// Whether other chunks in work have some of them.
    waiting: bool,
}

impl ClaimedItems {
    /// Those of `running` who are among the items.
    fn overlapping(&self, running: &[String]) -> BTreeSet<ItemId> {
        let running: HashSet<&str> = running.iter().map(String::as_str).collect();
        let overlaps = |tenant: &&ItemId| running.contains(tenant.as_str());
        if running.is_empty() {
            BTreeSet::new()
        } else {
            self.items.iter().filter(overlaps).cloned().collect()
        }
    }
}

/// Shares out the items of `chunk`. `rows`: those that have an outcome, and whose it is. `in_work`: what claims of other
/// chunks that stand have given, as JSON.
fn share(
    chunk: &Chunk,
    rows: &HashMap<String, Standing>,
    in_work: &[String],
) -> Result<ClaimedItems, StoreError> {
    let mut elsewhere: HashSet<&str> = HashSet::new();
    for given in in_work {
        // Names need no escaping, so none is copied.
        let given: Vec<&str> = serde_json::from_str(given).map_err(failed)?;
        elsewhere.extend(given);
    }
    let mut claimed = ClaimedItems {
        items: Vec::with_capacity(chunk.items.len()),
        superseded: 0,
        waiting: false,
    };
    for tenant in &chunk.items {
        match rows.get(tenant.as_str()) {
            Some(Standing::Ended) => {}
            Some(Standing::OfAnother) => claimed.superseded += 1,
            None if elsewhere.contains(tenant.as_str()) => claimed.waiting = true,
            Some(Standing::ToRunAgain) | None => claimed.items.push(tenant.clone()),
        }
    }
    Ok(claimed)
}

/// A process that was silent for this long has died, and its chunks are given to others.
const DEAD_AFTER: TimeDelta = TimeDelta::seconds(6);

/// When a process was heard of at the latest that has items running beside those of `chunk`. What one that has died before
/// had running does not keep them from running.
fn alive_since(chunk: &Chunk) -> DateTime<Utc> {
    chunk.planned_at.unwrap_or(chunk.scheduled_at) - DEAD_AFTER
}

/// State of an item that has an outcome already.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Standing {
    ToRunAgain,
    Ended,
    OfAnother,
}

/// What the outcomes that are found say to the chunk `own`, by tenant: each is of the chunk `.1`, and `.2` is to bring it
/// anew.
fn rows(own: i64, found: Vec<(String, i64, Option<i64>)>) -> HashMap<String, Standing> {
    let mut rows = HashMap::with_capacity(found.len());
    for (tenant, chunk, again) in found {
        let row = match (again == Some(own), chunk == own) {
            (true, _) => Standing::ToRunAgain,
            (false, true) => Standing::Ended,
            (false, false) => Standing::OfAnother,
        };
        // What a replay has skipped has an outcome of its own beside the failure.
        if row == Standing::Ended || !rows.contains_key(&tenant) {
            rows.insert(tenant, row);
        }
    }
    rows
}
