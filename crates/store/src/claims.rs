//! Claims: which items of a chunk a process is given, and the token that fences all of its writes.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};

use chrono::{DateTime, TimeDelta, Utc};
use punctual_application::ports::{Attempts, Claim, StoreError};
use punctual_domain::{Chunk, ItemId};
use serde::Deserialize;
use serde_json::json;
use uuid::Uuid;

use crate::{
    driver::{Connection, FromRow, Row, Value, values},
    erased::Erased,
    errors::{failed, no_chunk},
    waiting_items::RESUMED,
};

/// Puts claims on chunks that give all of their items. A claim that another process left open is a delivery that ended with it.
/// Then of each the status of its batch, or `restored`, whether it has brought outcomes, or items of it wait or have waited, whether it replays or
/// another batch is of the same run, whether items of the job are noted as running or wait, how many of its own wait, how many items it
/// has, and whether any runs were erased.
/// `SQLite` uses an index of texts in what a statement returns only where the value is cast to one.
const CLAIM: &str = "UPDATE @chunks SET token = n.new_token, process = $3, claimed_at = $4, items = NULL, superseded = 0,
         done = CASE done WHEN 2 THEN 0 ELSE done END, called = called + resumed, resumed = 0,
         lost = lost + CASE WHEN token IS NOT NULL AND process <> $3 THEN 1 ELSE 0 END
     FROM (SELECT one.value ->> 0 AS id, one.value ->> 1 AS new_token FROM @json($1, one)) n
     WHERE chunk_id = n.id AND @in_texts(chunk_id, $2)
     RETURNING chunk_id, chunk, run, batch_id, lost, suspect, suspected,
               (SELECT CASE b.restored WHEN 0 THEN b.status ELSE 'restored' END FROM @batches b
                WHERE b.batch_id = CAST(@chunks.batch_id AS TEXT)),
               succeeded + failed + skipped + nothing_to_do + waiting + called > 0,
               EXISTS (SELECT 1 FROM @batches o WHERE o.run = @chunks.run
                       AND (o.batch_id <> @chunks.batch_id OR o.trigger = 'replay')),
               EXISTS (SELECT 1 FROM @running_items i WHERE i.job_id = CAST(@chunks.job_id AS TEXT))
                   OR EXISTS (SELECT 1 FROM @chunks w WHERE w.job_id = CAST(@chunks.job_id AS TEXT) AND w.waiting > 0),
               waiting, coalesce(total, 0), EXISTS (SELECT 1 FROM @erased_runs)";

/// The outcomes that items of a run have, those that these chunks have skipped, and those that wait or are to be called again: each
/// with the number of its [`Found`], its phase, its attempts, and when the first began.
pub(crate) const OUTCOMES: &str =
    "SELECT r.tenant_id, r.chunk, r.again, 0, CAST(0 AS BIGINT), CAST(0 AS BIGINT), CAST(0 AS BIGINT), CAST(0 AS BIGINT)
     FROM @results r WHERE r.run = $2 AND @in_texts(r.tenant_id, $1)
     UNION ALL SELECT s.tenant_id, s.chunk, NULL, -1, 0, 0, 0, 0 FROM @skipped_items s WHERE @in_integers(s.chunk, $3)
     UNION ALL SELECT w.tenant_id, w.chunk, NULL, w.phase, w.attempts, w.refused, w.of_first, w.started_at
     FROM @waiting_items w WHERE w.run = $2 AND @in_texts(w.tenant_id, $1)";

/// Takes items that wait for those to be called again: of a chunk of a batch that has been cancelled, which are to be skipped.
const RESUME_ALL: &str = "UPDATE @waiting_items SET phase = 3 WHERE run = $1 AND @in_texts(tenant_id, $2) AND chunk = $3 AND phase + 0 < 3";
const COUNT_RESUMED: &str =
    "UPDATE @chunks SET called = called + waiting, waiting = 0 WHERE chunk = $1";

/// What claims on other chunks of these runs than those of `$2` have given: items, or all of a message. Chunks of one batch share
/// none, so those of the batches `$3` are left out.
const ACTIVE_CLAIMS: &str =
    "SELECT c.run, c.items, m.message FROM @chunks c JOIN @chunk_messages m ON m.chunk = c.chunk
     WHERE @in_integers(c.run, $1) AND c.token IS NOT NULL AND NOT @in_integers(c.chunk, $2)
       AND NOT @in_texts(c.batch_id, $3)";

/// Tenants of a job who have an occurrence running other than this one, in a process that was alive at `$3`. Of a process
/// that has sent no heartbeat nothing else is known. And those of the tenants `$4` who have one waiting: each is looked up, as all
/// that waits of the job may be much. What is only prepared (stage 4) keeps no run from beginning.
pub(crate) const OVERLAPPING: &str = "SELECT n.tenant_id FROM @running_items n
     JOIN @chunks c ON c.chunk = n.chunk AND c.token = n.token
     WHERE n.job_id = $1 AND n.occurrence <> $2
       AND NOT EXISTS (SELECT 1 FROM @results r WHERE r.run = c.run AND r.tenant_id = n.tenant_id
                       AND r.chunk = n.chunk)
       AND coalesce((SELECT p.last_seen FROM @processes p WHERE p.process = c.process), $3) >= $3
     UNION SELECT w.tenant_id FROM @waiting_items w
     WHERE w.job_id || '' = $1 AND @in_texts(w.tenant_id, $4) AND w.run <> $5 AND w.phase + 0 < 3
       AND w.stage <> 4";

/// Those of some chunks that have not ended.
pub(crate) const OPEN: &str = "SELECT c.chunk_id, c.chunk, c.run, m.message FROM @chunks c
     JOIN @chunk_messages m ON m.chunk = c.chunk WHERE @in_texts(c.chunk_id, $1) AND c.done IN (0, 2)";

/// Records the items that a claim gave, where they are not all.
const ASSIGN_ITEMS: &str = "UPDATE @chunks SET items = $2, superseded = $3 WHERE chunk = $1";

const BEGIN_BATCHES: &str =
    "UPDATE @batches SET status = 'running' WHERE @in_texts(batch_id, $1) AND status = 'queued'";

/// A chunk that has just been claimed, as its row says.
#[expect(clippy::struct_excessive_bools, reason = "columns of a row")]
struct ClaimedRow {
    own: i64,
    run: i64,
    batch_id: String,
    crash_count: u32,
    suspect: Option<String>,
    suspected: u32,
    status: Option<String>,
    has_outcomes: bool,
    /// Whether other chunks may have some of its items.
    is_shared: bool,
    /// Whether items of the job, of any occurrence, are running or wait.
    some_run: bool,
    /// How many of its items wait.
    waiting: i64,
    /// Number of its items.
    total: i64,
    /// Whether runs of any tenants were erased.
    some_erased: bool,
}

impl ClaimedRow {
    fn is_cancelled(&self) -> bool {
        self.status.as_deref() == Some("cancelled") || self.is_restored()
    }

    /// Whether the batch was cancelled because the store was restored from an older copy.
    fn is_restored(&self) -> bool {
        self.status.as_deref() == Some("restored")
    }
}

/// A chunk's id, and the chunk.
impl FromRow for (String, ClaimedRow) {
    fn from_row(mut row: Row) -> Result<Self, StoreError> {
        let chunk_id = row.next()?;
        let claimed = ClaimedRow {
            own: row.next()?,
            run: row.next()?,
            batch_id: row.next()?,
            crash_count: row.next()?,
            suspect: row.next()?,
            suspected: row.next()?,
            status: row.next()?,
            has_outcomes: row.next()?,
            is_shared: row.next()?,
            some_run: row.next()?,
            waiting: row.next()?,
            total: row.next()?,
            some_erased: row.next()?,
        };
        Ok((chunk_id, claimed))
    }
}

/// Claims what is still to be run of chunks, each under its token, one after the other. Two claims of a job at one time would not
/// see what the other gives, so the locks of the jobs must be held.
pub(crate) async fn claim_chunks(
    connection: &mut Connection<'_>,
    chunks: &[(&Chunk, Uuid)],
    process: Uuid,
    now: DateTime<Utc>,
) -> Result<Vec<Claim>, StoreError> {
    if chunks.is_empty() {
        return Ok(Vec::new());
    }
    let tokens: Vec<_> = chunks
        .iter()
        .map(|(chunk, token)| (&chunk.chunk_id, token))
        .collect();
    let ids = chunks.iter().map(|(chunk, _)| chunk.chunk_id.clone());
    let claim = values![
        json!(tokens).to_string(),
        Value::Texts(ids.collect()),
        process,
        now
    ];
    let rows: Vec<(String, ClaimedRow)> = connection.fetch(CLAIM, claim).await?;
    let mut rows: HashMap<String, ClaimedRow> = rows.into_iter().collect();
    let mut claimed: Vec<(&Chunk, ClaimedRow)> = Vec::with_capacity(chunks.len());
    for (chunk, _) in chunks {
        let row = rows
            .remove(&chunk.chunk_id)
            .ok_or_else(|| no_chunk(chunk))?;
        claimed.push((*chunk, row));
    }
    let queued = claimed.iter().map(|(_, row)| row);
    let queued = queued.filter(|row| row.status.as_deref() == Some("queued"));
    let queued: BTreeSet<&String> = queued.map(|row| &row.batch_id).collect();
    if !queued.is_empty() {
        let queued = Value::Texts(queued.into_iter().cloned().collect());
        connection.execute(BEGIN_BATCHES, values![queued]).await?;
    }
    for (chunk, row) in &claimed {
        if row.is_cancelled() && row.waiting > 0 {
            let items = values![row.run, chunk.items.as_slice(), row.own];
            connection.execute(RESUME_ALL, items).await?;
            connection.execute(COUNT_RESUMED, values![row.own]).await?;
        }
    }
    // Most chunks are claimed once and share their items with none: they cost no more than the statements above.
    let in_work = active_claims(connection, &claimed).await?;
    let mut in_work = items_in_work(&in_work)?;
    // After the claims: what ends between the two is found among the outcomes.
    let outcomes = outcomes_by_run(connection, &claimed).await?;
    let erased = erased_among(connection, &claimed).await?;
    let open = open_before(connection, &claimed).await?;
    let mut claims = Vec::with_capacity(claimed.len());
    for (chunk, row) in claimed {
        let given = share(chunk, &row, outcomes.get(&row.run), &erased, &mut in_work);
        let mut running: Vec<String> = if row.some_run {
            let occurrence = chunk.occurrence.to_string();
            let others = values![
                &chunk.job_id,
                occurrence,
                alive_since(chunk),
                chunk.items.as_slice(),
                row.run
            ];
            connection.fetch(OVERLAPPING, others).await?
        } else {
            Vec::new()
        };
        let before = chunk.after.iter().filter_map(|id| open.get(id));
        running.extend(before.flatten().cloned());
        if given.items.len() < chunk.items.len() {
            let items = json!(given.items).to_string();
            let assigned = values![row.own, items, given.superseded];
            connection.execute(ASSIGN_ITEMS, assigned).await?;
        }
        let (cancelled, restored) = (row.is_cancelled(), row.is_restored());
        let suspect = row
            .suspect
            .map(|tenant| ItemId::new(tenant).map_err(failed));
        claims.push(Claim {
            overlapping: given.overlapping(&running),
            waiting: given.waiting,
            items: given.items,
            crash_count: row.crash_count,
            poison_candidate: suspect.transpose()?.map(|tenant| (tenant, row.suspected)),
            cancelled,
            restored,
            resumed: given.resumed,
        });
    }
    Ok(claims)
}

/// What claims on other chunks have given, by run: as JSON, a list, or all of the message beside it.
async fn active_claims(
    connection: &mut Connection<'_>,
    claimed: &[(&Chunk, ClaimedRow)],
) -> Result<Vec<(i64, Option<String>, String)>, StoreError> {
    let mut batches: BTreeMap<i64, BTreeSet<&String>> = BTreeMap::new();
    for (_, row) in claimed.iter().filter(|(_, row)| row.is_shared) {
        batches.entry(row.run).or_default().insert(&row.batch_id);
    }
    if batches.is_empty() {
        return Ok(Vec::new());
    }
    let runs: Vec<i64> = batches.keys().copied().collect();
    let own: Vec<i64> = claimed.iter().map(|(_, row)| row.own).collect();
    let only_one = batches.into_values().filter(|batches| batches.len() == 1);
    let only_one = only_one.flatten().cloned().collect();
    let others = values![runs.as_slice(), own.as_slice(), Value::Texts(only_one)];
    connection.fetch(ACTIVE_CLAIMS, others).await
}

/// The items without an outcome of the chunks that these are to begin after. Those that wait in their turn are among them.
async fn open_before(
    connection: &mut Connection<'_>,
    claimed: &[(&Chunk, ClaimedRow)],
) -> Result<HashMap<String, Vec<String>>, StoreError> {
    let before = claimed.iter().flat_map(|(chunk, _)| &chunk.after);
    let before: BTreeSet<&String> = before.collect();
    if before.is_empty() {
        return Ok(HashMap::new());
    }
    let before = values![Value::Texts(before.into_iter().cloned().collect())];
    let found: Vec<(String, i64, i64, String)> = connection.fetch(OPEN, before).await?;
    let mut open = HashMap::with_capacity(found.len());
    for (chunk_id, own, run, message) in found {
        // One that cannot be read ends when it is claimed.
        let mut items: Vec<String> = serde_json::from_str(&message)
            .map(|all: Items<'_>| all.items.into_iter().map(str::to_owned).collect())
            .unwrap_or_default();
        let wanted = values![Value::Texts(items.clone()), run, [own].as_slice()];
        let outcomes = Outcomes::of(connection.fetch(OUTCOMES, wanted).await?);
        items.retain(|item| {
            let standing = outcomes.standing(own, item);
            !matches!(standing, Some(Standing::Ended | Standing::OfAnother))
        });
        open.insert(chunk_id, items);
    }
    Ok(open)
}

/// Items that claims which stand have given, with their runs.
type InWork<'m> = HashSet<(i64, &'m str)>;

fn items_in_work(claims: &[(i64, Option<String>, String)]) -> Result<InWork<'_>, StoreError> {
    let mut in_work = HashSet::new();
    for (run, given, message) in claims {
        let given: Vec<&str> = match given {
            Some(given) => serde_json::from_str(given).map_err(failed)?,
            None => serde_json::from_str(message)
                .map(|all: Items<'_>| all.items)
                .unwrap_or_default(),
        };
        in_work.extend(given.into_iter().map(|item| (*run, item)));
    }
    Ok(in_work)
}

async fn outcomes_by_run(
    connection: &mut Connection<'_>,
    claimed: &[(&Chunk, ClaimedRow)],
) -> Result<HashMap<i64, Outcomes>, StoreError> {
    let mut wanted: BTreeMap<i64, (Vec<String>, Vec<i64>)> = BTreeMap::new();
    for (chunk, row) in claimed {
        if row.has_outcomes || row.is_shared {
            let (items, chunks) = wanted.entry(row.run).or_default();
            items.extend(chunk.items.iter().map(ToString::to_string));
            chunks.push(row.own);
        }
    }
    let mut outcomes = HashMap::with_capacity(wanted.len());
    for (run, (items, chunks)) in wanted {
        let items = values![Value::Texts(items), run, chunks.as_slice()];
        outcomes.insert(run, Outcomes::of(connection.fetch(OUTCOMES, items).await?));
    }
    Ok(outcomes)
}

/// Items of the chunks whose runs were erased; while none ever was, nothing is asked. Where a claim has waited for the first erasure of
/// all, its own statement does not see it, and only the number of items does.
async fn erased_among(
    connection: &mut Connection<'_>,
    claimed: &[(&Chunk, ClaimedRow)],
) -> Result<Erased, StoreError> {
    let mut runs: Vec<(&Chunk, &ItemId)> = Vec::new();
    let is_asked = |(chunk, row): &&(&Chunk, ClaimedRow)| {
        row.some_erased || row.total < chunk.items.len() as i64
    };
    for (chunk, _) in claimed.iter().filter(is_asked) {
        runs.extend(chunk.items.iter().map(|item| (*chunk, item)));
    }
    Erased::of(connection, &runs).await
}

/// Items of a chunk, split by what the claim does with them.
struct ClaimedItems {
    /// To be run by this claim.
    items: Vec<ItemId>,
    /// Those of them that have been called before.
    resumed: HashMap<ItemId, Called>,
    /// Run by other chunks, or erased.
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

/// Shares out the items of `chunk`. `in_work`: those that claims of other chunks which stand have given; what is given now comes
/// to them.
fn share<'c>(
    chunk: &'c Chunk,
    row: &ClaimedRow,
    outcomes: Option<&Outcomes>,
    erased: &Erased,
    in_work: &mut InWork<'c>,
) -> ClaimedItems {
    let mut skipped_as_erased = 0;
    let mut claimed = ClaimedItems {
        items: Vec::with_capacity(chunk.items.len()),
        resumed: HashMap::new(),
        superseded: 0,
        waiting: false,
    };
    for tenant in &chunk.items {
        let item = (row.run, tenant.as_str());
        if erased.contains(chunk, tenant) {
            skipped_as_erased += 1;
            continue;
        }
        match outcomes.and_then(|outcomes| outcomes.standing(row.own, tenant.as_str())) {
            Some(Standing::Ended | Standing::Waits) => {}
            Some(Standing::OfAnother) => claimed.superseded += 1,
            None if row.is_shared && in_work.contains(&item) => claimed.waiting = true,
            Some(Standing::Resumed(called)) => {
                claimed.resumed.insert(tenant.clone(), called);
                claimed.items.push(tenant.clone());
            }
            Some(Standing::ToRunAgain) | None => {
                if row.is_shared {
                    in_work.insert(item);
                }
                claimed.items.push(tenant.clone());
            }
        }
    }
    // Those that were erased out of the chunk count in it no more; its message may have been read before.
    let gone = chunk.items.len() as i64 - row.total;
    claimed.superseded += (skipped_as_erased - gone.max(0)).max(0);
    claimed
}

/// A process that was silent for this long has died, and its chunks are given to others.
const DEAD_AFTER: TimeDelta = TimeDelta::seconds(6);

/// When a process was heard of at the latest that has items running beside those of `chunk`. What one that has died before
/// had running does not keep them from running.
fn alive_since(chunk: &Chunk) -> DateTime<Utc> {
    chunk.planned_at.unwrap_or(chunk.scheduled_at) - DEAD_AFTER
}

/// The attempts at an item, and when the first began.
type Called = (Attempts, DateTime<Utc>);

/// State of an item that has an outcome already, waits, or has waited.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Standing {
    ToRunAgain,
    Ended,
    OfAnother,
    Waits,
    Resumed(Called),
}

/// What is found of an item: its result, with the chunk that is to bring it anew; that a chunk has skipped it; or that it waits, or
/// is to be called again.
enum Found {
    Result(Option<i64>),
    Skipped,
    Waits,
    Resumed(Called),
}

/// An item, the chunk, and what is found.
impl FromRow for (String, i64, Found) {
    fn from_row(mut row: Row) -> Result<Self, StoreError> {
        let (tenant, chunk, again) = (row.next()?, row.next()?, row.next()?);
        let phase: i64 = row.next()?;
        let found = match phase {
            -1 => Found::Skipped,
            0 => Found::Result(again),
            RESUMED => {
                let attempts = Attempts {
                    made: row.next()?,
                    refused: row.next()?,
                    of_first: row.next()?,
                };
                Found::Resumed((attempts, row.next()?))
            }
            _ => Found::Waits,
        };
        Ok((tenant, chunk, found))
    }
}

/// The outcomes of items of a run, by tenant.
#[derive(Default)]
struct Outcomes {
    /// The chunk that brought the result, and the chunk that is to bring it anew.
    results: HashMap<String, (i64, Option<i64>)>,
    /// The chunks that have skipped the item.
    skipped: HashMap<String, Vec<i64>>,
    /// The chunk whose item waits, or is to be called again.
    waiting: HashMap<String, (i64, Option<Called>)>,
}

impl Outcomes {
    fn of(found: Vec<(String, i64, Found)>) -> Self {
        let mut outcomes = Self::default();
        for (tenant, chunk, found) in found {
            match found {
                Found::Skipped => outcomes.skipped.entry(tenant).or_default().push(chunk),
                Found::Result(again) => {
                    outcomes.results.insert(tenant, (chunk, again));
                }
                Found::Waits => {
                    outcomes.waiting.insert(tenant, (chunk, None));
                }
                Found::Resumed(called) => {
                    outcomes.waiting.insert(tenant, (chunk, Some(called)));
                }
            }
        }
        outcomes
    }

    /// What they say of an item to the chunk `own`.
    fn standing(&self, own: i64, tenant: &str) -> Option<Standing> {
        // What a replay has skipped has an outcome of its own beside the failure.
        let skipped = self.skipped.get(tenant);
        if skipped.is_some_and(|chunks| chunks.contains(&own)) {
            return Some(Standing::Ended);
        }
        let result = self.results.get(tenant).map(|(chunk, again)| {
            match (*again == Some(own), *chunk == own) {
                (true, _) => Standing::ToRunAgain,
                (false, true) => Standing::Ended,
                (false, false) => Standing::OfAnother,
            }
        });
        if let Some(Standing::Ended | Standing::OfAnother) = result {
            return result;
        }
        // What a replay runs again may wait beside its failed result.
        let waiting = self
            .waiting
            .get(tenant)
            .map(|(chunk, called)| match called {
                _ if *chunk != own => Standing::OfAnother,
                Some(called) => Standing::Resumed(*called),
                None => Standing::Waits,
            });
        waiting.or(result)
    }
}
