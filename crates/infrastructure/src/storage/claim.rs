//! Which items of a chunk a claim gives, decided the same way over either database.

use std::collections::{HashMap, HashSet};

use punctual_application::ports::StoreError;
use punctual_domain::{Chunk, TenantId};

use super::rows::failed;

/// What a chunk's items came to.
pub(super) struct Shares {
    /// To be run by this claim.
    pub(super) items: Vec<TenantId>,
    /// Run by other chunks.
    pub(super) superseded: i64,
}

/// Shares out the items of `chunk`. `rows`: those that have a row, and whether it is this chunk's and to be run again,
/// this chunk's and ended, or another's. `in_work`: what claims of other chunks that stand have given, as JSON.
pub(super) fn share(
    chunk: &Chunk,
    rows: &HashMap<String, Row>,
    in_work: &[String],
) -> Result<Shares, StoreError> {
    let mut elsewhere: HashSet<&str> = HashSet::new();
    for given in in_work {
        // Names need no escaping, so none is copied.
        let given: Vec<&str> = serde_json::from_str(given).map_err(failed)?;
        elsewhere.extend(given);
    }
    let (mut items, mut superseded) = (Vec::with_capacity(chunk.items.len()), 0);
    for tenant in &chunk.items {
        match rows.get(tenant.as_str()) {
            Some(Row::Ended) => {}
            Some(Row::OfAnother) => superseded += 1,
            _ if elsewhere.contains(tenant.as_str()) => superseded += 1,
            Some(Row::ToRunAgain) | None => items.push(tenant.clone()),
        }
    }
    Ok(Shares { items, superseded })
}

/// What an item's row says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Row {
    ToRunAgain,
    Ended,
    OfAnother,
}

impl Row {
    pub(super) fn new(of_this_chunk: bool, status: &str) -> Self {
        match (of_this_chunk, status) {
            (false, _) => Self::OfAnother,
            (true, "running") => Self::ToRunAgain,
            (true, _) => Self::Ended,
        }
    }
}
