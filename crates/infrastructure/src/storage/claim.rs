//! Which items of a chunk a claim gives, decided the same way over either database.

use std::collections::{BTreeSet, HashMap, HashSet};

use chrono::{DateTime, TimeDelta, Utc};
use punctual_application::ports::StoreError;
use punctual_domain::{Chunk, ItemId};

use super::errors::failed;

/// Items of a chunk, split by what the claim does with them.
pub(super) struct ClaimedItems {
    /// To be run by this claim.
    pub(super) items: Vec<ItemId>,
    /// Run by other chunks.
    pub(super) superseded: i64,
    /// Whether other chunks in work have some of them.
    pub(super) waiting: bool,
}

impl ClaimedItems {
    /// Those of `running` who are among the items.
    pub(super) fn overlapping(&self, running: &[String]) -> BTreeSet<ItemId> {
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
pub(super) fn share(
    chunk: &Chunk,
    rows: &HashMap<String, Row>,
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
            Some(Row::Ended) => {}
            Some(Row::OfAnother) => claimed.superseded += 1,
            None if elsewhere.contains(tenant.as_str()) => claimed.waiting = true,
            Some(Row::ToRunAgain) | None => claimed.items.push(tenant.clone()),
        }
    }
    Ok(claimed)
}

/// A process that was silent for this long has died, and its chunks are given to others.
const DEAD_AFTER: TimeDelta = TimeDelta::seconds(6);

/// When a process was heard of at the latest that has items running beside those of `chunk`. What one that has died before
/// had running does not keep them from running.
pub(super) fn alive_since(chunk: &Chunk) -> DateTime<Utc> {
    chunk.planned_at.unwrap_or(chunk.scheduled_at) - DEAD_AFTER
}

/// State of an item that has an outcome already.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Row {
    ToRunAgain,
    Ended,
    OfAnother,
}

/// What the outcomes that are found say to the chunk `own`, by tenant: each is of the chunk `.1`, and `.2` is to bring it
/// anew.
pub(super) fn rows(own: i64, found: Vec<(String, i64, Option<i64>)>) -> HashMap<String, Row> {
    let mut rows = HashMap::with_capacity(found.len());
    for (tenant, chunk, again) in found {
        let row = match (again == Some(own), chunk == own) {
            (true, _) => Row::ToRunAgain,
            (false, true) => Row::Ended,
            (false, false) => Row::OfAnother,
        };
        // What a replay has skipped has an outcome of its own beside the failure.
        if row == Row::Ended || !rows.contains_key(&tenant) {
            rows.insert(tenant, row);
        }
    }
    rows
}
