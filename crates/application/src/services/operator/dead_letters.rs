//! Items that failed for good: run them again, or let them go.

mod replay;

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt,
};

use punctual_domain::{DeadLetter, DeadLetterState, ItemId, JobId, TenantId};
use serde::{Deserialize, Serialize};
use tracing::info;
use uuid::Uuid;

use self::replay::{not_replayable, replay};
use super::{Actor, IdempotencyKey, Operator, OperatorError, given, refuse_empty};
use crate::ports::{DeadLetterFilter, Page};

/// How many are settled in one transaction.
const LETTERS_PER_TRANSACTION: u32 = 1_000;

/// Selection of open dead letters: by id, or all of a job or tenant, or all there are.
#[derive(Debug, Clone, Default, Deserialize, Serialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(deny_unknown_fields)]
pub struct DeadLetterSelection {
    /// Ids of the dead letters. An empty list is refused.
    #[serde(default, deserialize_with = "given")]
    #[cfg_attr(feature = "openapi", schema(value_type = BTreeSet<i64>))]
    pub ids: Option<BTreeSet<i64>>,
    /// All open dead letters of this job.
    #[serde(default, deserialize_with = "given")]
    #[cfg_attr(feature = "openapi", schema(value_type = JobId))]
    pub job_id: Option<JobId>,
    /// All open dead letters of this tenant.
    #[serde(default, deserialize_with = "given")]
    #[cfg_attr(feature = "openapi", schema(value_type = TenantId))]
    pub tenant_id: Option<TenantId>,
    /// All open dead letters, said explicitly.
    #[serde(default)]
    pub all: bool,
}

impl DeadLetterSelection {
    /// The one of that number.
    #[must_use]
    pub fn one(id: i64) -> Self {
        Self {
            ids: Some([id].into()),
            ..Self::default()
        }
    }

    fn check(&self) -> Result<(), OperatorError> {
        refuse_empty("ids", self.ids.as_ref(), self.all)?;
        let of_some = self.job_id.is_some() || self.tenant_id.is_some();
        if of_some && (self.ids.is_some() || self.all) {
            return Err(OperatorError::Invalid(
                "ids and all exclude job_id and tenant_id; send one or the other".to_owned(),
            ));
        }
        Ok(())
    }
}

impl fmt::Display for DeadLetterSelection {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(ids) = &self.ids {
            let first: Vec<String> = ids.iter().take(20).map(ToString::to_string).collect();
            return write!(f, "{} of them: {}", ids.len(), first.join(", "));
        }
        match (&self.job_id, &self.tenant_id) {
            (None, None) => f.write_str("all that are open"),
            (Some(job_id), None) => write!(f, "all of {job_id}"),
            (None, Some(tenant_id)) => write!(f, "all of tenant {tenant_id}"),
            (Some(job_id), Some(tenant_id)) => write!(f, "all of tenant {tenant_id} in {job_id}"),
        }
    }
}

/// Outcome of a replay.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct ReplayReport {
    /// Number of dead letters that run again.
    pub replayed: usize,
    /// Ids that were named and are not open.
    pub not_open: BTreeSet<i64>,
    /// The batches they run in.
    pub batches: Vec<Uuid>,
    /// Open dead letters that cannot be replayed.
    pub left_out: Vec<LeftOut>,
}

/// Dead letters that cannot run again, and stay open.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct LeftOut {
    /// Reason why they cannot run.
    pub reason: String,
    /// Number of dead letters with this reason.
    pub dead_letters: usize,
}

/// Outcome of discarding dead letters.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct DiscardReport {
    /// Number of dead letters discarded.
    pub discarded: usize,
    /// Ids that were named and are not open.
    pub not_open: BTreeSet<i64>,
    /// Always empty: nothing runs. Replays have the same field.
    pub batches: Vec<Uuid>,
}

impl Operator {
    /// Runs open dead letters again, as the same occurrences and with the same idempotency keys.
    ///
    /// One that is named and whose job or purpose is gone is refused, and nothing is changed. Of all that are open, such
    /// are left out, and counted with the reason.
    ///
    /// # Errors
    /// The selection cannot be used, what it names cannot be replayed or is not open, or the store fails.
    pub async fn replay(
        &self,
        actor: &Actor,
        key: Option<&IdempotencyKey>,
        selection: &DeadLetterSelection,
    ) -> Result<ReplayReport, OperatorError> {
        selection.check()?;
        let act = |_, _| self.replay_now(actor, selection);
        self.once(key, "replay".to_owned(), selection, act).await
    }

    async fn replay_now(
        &self,
        actor: &Actor,
        selection: &DeadLetterSelection,
    ) -> Result<ReplayReport, OperatorError> {
        let jobs = self.jobs.current();
        let refusal = |job_id: &JobId| not_replayable(job_id, &jobs, &self.handlers);
        if let Some(reason) = selection.job_id.as_ref().and_then(refusal) {
            return Err(OperatorError::Conflict(format!(
                "{reason}; its dead letters stay open"
            )));
        }
        let mut pages = self.open_letters(selection).await?;
        let mut left_out: BTreeMap<String, usize> = BTreeMap::new();
        for letters in &mut pages {
            // A refusal comes before any change.
            if selection.ids.is_some()
                && let Some((id, reason)) = letters
                    .iter()
                    .find_map(|letter| Some((letter.id, refusal(&letter.job_id)?)))
            {
                return Err(OperatorError::Conflict(format!(
                    "dead letter {id} cannot be replayed: {reason}; nothing was changed"
                )));
            }
            letters.retain(|letter| match refusal(&letter.job_id) {
                Some(reason) => {
                    *left_out.entry(reason).or_default() += 1;
                    false
                }
                None => true,
            });
        }
        let not_open = missing(selection, &pages)?;
        self.record(actor, "replay", "dead letters", &selection.to_string())
            .await?;
        let (mut replayed, mut batches) = (0, Vec::new());
        for letters in pages.iter().filter(|letters| !letters.is_empty()) {
            let now = self.clock.now();
            let new = replay(letters, &jobs, self.chunk_size, now);
            batches.extend(new.iter().map(|batch| batch.batch_id));
            let settled = self.queue.settle(&ids(letters), new, now).await;
            replayed += self.noted(settled)?;
        }
        info!(replayed, "Operator replayed {replayed} dead letters");
        let left_out = left_out.into_iter();
        Ok(ReplayReport {
            replayed,
            not_open,
            batches,
            left_out: left_out
                .map(|(reason, dead_letters)| LeftOut {
                    reason,
                    dead_letters,
                })
                .collect(),
        })
    }

    /// Lets open dead letters go.
    ///
    /// # Errors
    /// The selection cannot be used, what it names is not open, or the store fails.
    pub async fn discard(
        &self,
        actor: &Actor,
        selection: &DeadLetterSelection,
    ) -> Result<DiscardReport, OperatorError> {
        selection.check()?;
        let pages = self.open_letters(selection).await?;
        let not_open = missing(selection, &pages)?;
        self.record(actor, "discard", "dead letters", &selection.to_string())
            .await?;
        let mut discarded = 0;
        for letters in pages.iter().filter(|letters| !letters.is_empty()) {
            let now = self.clock.now();
            let settled = self.queue.settle(&ids(letters), Vec::new(), now).await;
            discarded += self.noted(settled)?;
        }
        info!(discarded, "Operator discarded {discarded} dead letters");
        Ok(DiscardReport {
            discarded,
            not_open,
            batches: Vec::new(),
        })
    }

    /// What is selected of those that are open, a thousand at a time.
    async fn open_letters(
        &self,
        selection: &DeadLetterSelection,
    ) -> Result<Vec<Vec<DeadLetter>>, OperatorError> {
        let filter = DeadLetterFilter {
            job_id: selection.job_id.clone(),
            item_id: selection.tenant_id.as_ref().map(ItemId::from),
            state: Some(DeadLetterState::Open),
        };
        let mut left = selection.ids.as_ref().map(BTreeSet::len);
        let mut page = Page {
            cursor: None,
            limit: LETTERS_PER_TRANSACTION,
        };
        let mut pages = Vec::new();
        loop {
            let (mut letters, next) = self.reader.dead_letters(&filter, &page).await?;
            if let (Some(ids), Some(left)) = (&selection.ids, &mut left) {
                letters.retain(|letter| ids.contains(&letter.id));
                *left -= letters.len();
            }
            pages.push(letters);
            match next {
                Some(next) if left != Some(0) => page.cursor = Some(next),
                _ => return Ok(pages),
            }
        }
    }
}

fn ids(letters: &[DeadLetter]) -> Vec<i64> {
    letters.iter().map(|letter| letter.id).collect()
}

/// Those that are named and not open; an error where none of them is.
fn missing(
    selection: &DeadLetterSelection,
    pages: &[Vec<DeadLetter>],
) -> Result<BTreeSet<i64>, OperatorError> {
    let mut missing = selection.ids.clone().unwrap_or_default();
    for letter in pages.iter().flatten() {
        missing.remove(&letter.id);
    }
    match missing.first() {
        Some(id) if pages.iter().all(Vec::is_empty) => Err(OperatorError::NotFound(format!(
            "dead letter {id} is not open; list those with the state `open`"
        ))),
        _ => Ok(missing),
    }
}
