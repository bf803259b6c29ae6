//! Claims: which items of a chunk a process is given, and the token that fences all of its writes.

use std::collections::{BTreeSet, HashMap, HashSet};

use chrono::{DateTime, TimeDelta, Utc};
use punctual_application::ports::{Claim, Claimant, StoreError};
use punctual_domain::{Chunk, ItemId};
use serde::Deserialize;
use serde_json::json;

use crate::{
    driver::{Connection, Row, values},
    errors::{failed, no_chunk},
};

/// Puts a claim on a chunk that gives all of its items. A claim that another process left open is a delivery that ended with it.
/// Then the status of the batch, whether the chunk has brought outcomes, whether it replays or another batch is of the same run,
/// and whether items of the job are noted as running.
const CLAIM: &str = "UPDATE @chunks SET token = $2, process = $3, claimed_at = $4, items = NULL, superseded = 0,
         lost = lost + CASE WHEN token IS NOT NULL AND process <> $3 THEN 1 ELSE 0 END
     WHERE chunk_id = $1
     RETURNING chunk, run, lost, suspect, suspected,
               (SELECT b.status FROM @batches b WHERE b.batch_id = $5),
               succeeded + failed + skipped > 0,
               EXISTS (SELECT 1 FROM @batches o WHERE o.run = @chunks.run AND (o.batch_id <> $5 OR o.trigger = 'replay')),
               EXISTS (SELECT 1 FROM @running_items n WHERE n.job_id = $6)";

/// The outcomes that a chunk's items have.
pub(crate) const OUTCOMES: &str =
    "SELECT r.tenant_id, r.chunk, r.again FROM @results r WHERE r.run = $2 AND @in_texts(r.tenant_id, $1)
     UNION ALL SELECT tenant_id, chunk, NULL FROM @skipped_items WHERE chunk = $3";

/// What claims of chunks of other batches have given: items, or all of a message. Chunks of one batch share none.
const ACTIVE_CLAIMS: &str =
    "SELECT c.items, m.message FROM @chunks c JOIN @chunk_messages m ON m.chunk = c.chunk
     WHERE c.run = $1 AND c.token IS NOT NULL AND c.batch_id <> $2";

/// Tenants of a job who have an occurrence running other than this one, in a process that was alive at `$3`. Of a process
/// that has sent no heartbeat nothing else is known.
const OVERLAPPING: &str = "SELECT DISTINCT n.tenant_id FROM @running_items n
     JOIN @chunks c ON c.chunk = n.chunk AND c.token = n.token
     WHERE n.job_id = $1 AND n.occurrence <> $2
       AND NOT EXISTS (SELECT 1 FROM @results r WHERE r.run = c.run AND r.tenant_id = n.tenant_id
                       AND r.chunk = n.chunk)
       AND coalesce((SELECT p.last_seen FROM @processes p WHERE p.process = c.process), $3) >= $3";

/// Records the items that a claim gave, where they are not all.
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
    let Claimant { process, token } = claimant;
    let claim = values![
        &*chunk.chunk_id,
        token,
        process,
        now,
        chunk.batch_id,
        &chunk.job_id
    ];
    let mut row: Row = connection
        .fetch_optional(CLAIM, claim)
        .await?
        .ok_or_else(|| no_chunk(chunk))?;
    let (own, run): (i64, i64) = (row.next()?, row.next()?);
    let (crash_count, suspect): (u32, Option<String>) = (row.next()?, row.next()?);
    let (suspected, status): (u32, Option<String>) = (row.next()?, row.next()?);
    let (has_outcomes, is_shared): (bool, bool) = (row.next()?, row.next()?);
    let some_run: bool = row.next()?;
    // Most chunks are claimed once and share their items with none: they cost no more than the statement above.
    let in_work: Vec<(Option<String>, String)> = if is_shared {
        let others = values![run, chunk.batch_id];
        connection.fetch(ACTIVE_CLAIMS, others).await?
    } else {
        Vec::new()
    };
    // After the claims: what ends between the two is found among the outcomes.
    let outcomes = if has_outcomes || is_shared {
        let items = values![chunk.items.as_slice(), run, own];
        standings(own, connection.fetch(OUTCOMES, items).await?)
    } else {
        HashMap::new()
    };
    let given = share(chunk, &outcomes, &in_work)?;
    let running: Vec<String> = if some_run {
        let occurrence = chunk.occurrence.to_string();
        let others = values![&chunk.job_id, occurrence, alive_since(chunk)];
        connection.fetch(OVERLAPPING, others).await?
    } else {
        Vec::new()
    };
    if given.items.len() < chunk.items.len() {
        let items = json!(given.items).to_string();
        connection
            .execute(ASSIGN_ITEMS, values![own, items, given.superseded])
            .await?;
    }
    if status.as_deref() == Some("queued") {
        connection
            .execute(BEGIN_BATCH, values![chunk.batch_id])
            .await?;
    }
    let suspect = suspect.map(|tenant| ItemId::new(tenant).map_err(failed));
    Ok(Claim {
        overlapping: given.overlapping(&running),
        waiting: given.waiting,
        items: given.items,
        crash_count,
        poison_candidate: suspect.transpose()?.map(|tenant| (tenant, suspected)),
        cancelled: status.as_deref() == Some("cancelled"),
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

/// The items of a chunk, as its message says. Names need no escaping, so none is copied.
#[derive(Deserialize)]
pub(crate) struct Items<'m> {
    #[serde(borrow)]
    pub(crate) items: Vec<&'m str>,
}

/// Shares out the items of `chunk`. `outcomes`: those that have one, and whose it is. `in_work`: what claims of other chunks that
/// stand have given, as JSON: a list, or all of the message beside it.
fn share(
    chunk: &Chunk,
    outcomes: &HashMap<String, Standing>,
    in_work: &[(Option<String>, String)],
) -> Result<ClaimedItems, StoreError> {
    let mut elsewhere: HashSet<&str> = HashSet::new();
    for (given, message) in in_work {
        let given: Vec<&str> = match given {
            Some(given) => serde_json::from_str(given).map_err(failed)?,
            None => serde_json::from_str(message)
                .map(|all: Items<'_>| all.items)
                .unwrap_or_default(),
        };
        elsewhere.extend(given);
    }
    let mut claimed = ClaimedItems {
        items: Vec::with_capacity(chunk.items.len()),
        superseded: 0,
        waiting: false,
    };
    for tenant in &chunk.items {
        match outcomes.get(tenant.as_str()) {
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
fn standings(own: i64, found: Vec<(String, i64, Option<i64>)>) -> HashMap<String, Standing> {
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
