//! Items that failed for good: run them again, discard them, or open again what was discarded.

mod replay;

use std::collections::{BTreeMap, BTreeSet};

use chrono::{DateTime, SecondsFormat, TimeDelta, Utc};
use punctual_domain::{
    DeadLetter, DeadLetterState, FailureKind, ItemId, JobId, Succession, TenantId,
};
use serde::{Deserialize, Serialize};
use tracing::info;
use uuid::Uuid;

use self::replay::{not_replayable, replay};
use super::{
    Actor, IdempotencyKey, Operator, OperatorError, changed, given, idempotency::Attempt,
    refuse_empty,
};
use crate::ports::{DeadLetterFilter, Page};

/// How many are settled in one transaction.
const LETTERS_PER_TRANSACTION: u32 = 1_000;

/// Selection of dead letters: by id, or all of a job or tenant, or of one discard, or all there are. It must select something.
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
    /// All open dead letters of failures of this kind; beside a job or tenant, only these of its dead letters.
    #[serde(
        default,
        deserialize_with = "given",
        skip_serializing_if = "Option::is_none"
    )]
    #[cfg_attr(feature = "openapi", schema(value_type = FailureKind))]
    pub failure_kind: Option<FailureKind>,
    /// All open dead letters, said explicitly.
    #[serde(default)]
    pub all: bool,
    /// Only those with an id of at most this: what was counted before, and none that have failed since.
    #[serde(
        default,
        deserialize_with = "given",
        skip_serializing_if = "Option::is_none"
    )]
    #[cfg_attr(feature = "openapi", schema(value_type = i64))]
    pub up_to: Option<i64>,
    /// Only those that were discarded at this instant, which is what one discard has settled: to reopen them.
    #[serde(
        default,
        deserialize_with = "given",
        skip_serializing_if = "Option::is_none"
    )]
    #[cfg_attr(feature = "openapi", schema(value_type = DateTime<Utc>))]
    pub discarded_at: Option<DateTime<Utc>>,
    /// Only if it selects so many: what was counted before.
    #[serde(
        default,
        deserialize_with = "given",
        skip_serializing_if = "Option::is_none"
    )]
    #[cfg_attr(feature = "openapi", schema(value_type = u64))]
    pub count: Option<u64>,
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

    /// What it selects of those in a state at `now`: of discarded ones, those that can be reopened.
    #[must_use]
    pub fn filter(&self, state: DeadLetterState, now: DateTime<Utc>) -> DeadLetterFilter {
        let is_discarded = state == DeadLetterState::Discarded;
        DeadLetterFilter {
            job_id: self.job_id.clone(),
            item_id: self.tenant_id.as_ref().map(ItemId::from),
            state: Some(state),
            failure_kind: self.failure_kind,
            up_to: self.up_to,
            ids: self.ids.clone(),
            settled_at: self.discarded_at,
            settled_after: is_discarded.then(|| now - DeadLetter::REOPENABLE_FOR),
            reopened_at: None,
        }
    }

    fn check(&self, state: DeadLetterState) -> Result<(), OperatorError> {
        if self.discarded_at.is_some() && state != DeadLetterState::Discarded {
            return Err(OperatorError::Invalid(
                "discarded_at selects what is reopened; leave it out".to_owned(),
            ));
        }
        refuse_empty("ids", self.ids.as_ref(), self.all)?;
        let of_some = self.job_id.is_some() || self.tenant_id.is_some();
        let of_some = of_some || self.failure_kind.is_some();
        if of_some && (self.ids.is_some() || self.all) {
            return Err(OperatorError::Invalid(
                "ids and all exclude job_id, tenant_id and failure_kind; send one or the other"
                    .to_owned(),
            ));
        }
        if self.ids.is_none() && !of_some && self.discarded_at.is_none() && !self.all {
            return Err(OperatorError::Invalid(
                "nothing is selected; send ids, job_id, tenant_id or failure_kind, or \"all\": true for all dead letters"
                    .to_owned(),
            ));
        }
        Ok(())
    }

    /// Refuses another number than was counted.
    fn check_count(&self, pages: &[Vec<DeadLetter>]) -> Result<(), OperatorError> {
        let found = number_of(pages);
        if self.count.is_none_or(|counted| counted == found) {
            return Ok(());
        }
        Err(changed(found, "dead letter"))
    }

    /// Refuses a repetition that would do more than was counted.
    fn check_at_most(&self, found: u64) -> Result<(), OperatorError> {
        if self.count.is_none_or(|counted| counted >= found) {
            return Ok(());
        }
        Err(changed(found, "dead letter"))
    }

    /// What the audit log says that an action was about: the job, where all that is selected is of one.
    fn subject(&self, pages: &[Vec<DeadLetter>]) -> String {
        let mut jobs = pages.iter().flatten().map(|letter| &letter.job_id);
        let job_id = self.job_id.as_ref().or_else(|| {
            let first = jobs.next()?;
            jobs.all(|other| other == first).then_some(first)
        });
        job_id.map_or_else(|| "dead letters".to_owned(), ToString::to_string)
    }

    /// What it selects of those in a state, as the audit log says it.
    fn in_words(&self, state: DeadLetterState) -> String {
        let state = state.as_str();
        let mut of_those = match (&self.job_id, &self.tenant_id) {
            (None, None) => String::new(),
            (Some(job_id), None) => format!(" of {job_id}"),
            (None, Some(tenant_id)) => format!(" of tenant {tenant_id}"),
            (Some(job_id), Some(tenant_id)) => format!(" of tenant {tenant_id} in {job_id}"),
        };
        if let Some(kind) = self.failure_kind {
            of_those.push_str(&format!(" with failures of kind {kind}"));
        }
        let mut words = match &self.ids {
            Some(ids) => {
                let first: Vec<String> = ids.iter().take(20).map(ToString::to_string).collect();
                let (count, first) = (ids.len(), first.join(", "));
                format!("{count} of those that are {state}: {first}")
            }
            None => format!("all{of_those} that are {state}"),
        };
        if let Some(id) = self.up_to {
            words.push_str(&format!(", up to {id}"));
        }
        if let Some(at) = self.discarded_at {
            let at = at.to_rfc3339_opts(SecondsFormat::Micros, true);
            words.push_str(&format!(", by the discard of {at}"));
        }
        words
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
    /// The batches they run in; of a request that was repeated after an interruption, those of the last attempt.
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

/// Outcome of reopening dead letters.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct ReopenReport {
    /// Number of dead letters that are open again.
    pub reopened: usize,
}

/// Outcome of discarding dead letters.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct DiscardReport {
    /// Number of dead letters discarded.
    pub discarded: usize,
    /// When they were discarded, which no other discard has: it selects them to be reopened.
    pub discarded_at: DateTime<Utc>,
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
        selection.check(DeadLetterState::Open)?;
        let act = |attempt| self.replay_now(actor, selection, attempt);
        self.once(key, "replay".to_owned(), selection, act).await
    }

    async fn replay_now(
        &self,
        actor: &Actor,
        selection: &DeadLetterSelection,
        attempt: Attempt,
    ) -> Result<ReplayReport, OperatorError> {
        let jobs = self.jobs.current();
        let refusal = |job_id: &JobId| not_replayable(job_id, &jobs, &self.handlers);
        let replayed = DeadLetterState::Replayed;
        let (mut pages, done) = self.to_settle(selection, replayed, attempt).await?;
        if done.is_empty()
            && let Some(reason) = selection.job_id.as_ref().and_then(refusal)
        {
            return Err(OperatorError::Conflict(format!(
                "{reason}; its dead letters stay open"
            )));
        }
        let subject = selection.subject(&pages);
        let mut left_out: BTreeMap<String, usize> = BTreeMap::new();
        for letters in &mut pages {
            // A refusal comes before any change.
            if selection.ids.is_some()
                && done.is_empty()
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
        let not_open = missing(selection, &pages, &done)?;
        let detail = selection.in_words(DeadLetterState::Open);
        self.record(actor, "replay", &subject, &detail).await?;
        let (mut replayed, mut batches) = (done.len(), Vec::new());
        let mut succession = Succession::default();
        // Not in the order of their ids: what has failed in a replay has a new one.
        let mut letters: Vec<DeadLetter> = pages.into_iter().flatten().collect();
        letters.sort_by_key(|letter| (letter.scheduled_at, letter.id));
        let now = self.clock.now();
        for letters in letters.chunks(LETTERS_PER_TRANSACTION as usize) {
            // Two batches of one firing differ in when they are made.
            let now = now + TimeDelta::microseconds(batches.len() as i64);
            let new = replay(letters, &jobs, self.chunk_size, now, &mut succession);
            batches.extend(new.iter().map(|batch| batch.batch_id));
            let settled = self.queue.settle(&ids(letters), new, attempt.at).await;
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

    /// Discards open dead letters. They can be [reopened](Self::reopen) for 30 days.
    ///
    /// # Errors
    /// The selection cannot be used, what it names is not open, it is not of as many as it says, or the store fails.
    pub async fn discard(
        &self,
        actor: &Actor,
        key: Option<&IdempotencyKey>,
        selection: &DeadLetterSelection,
    ) -> Result<DiscardReport, OperatorError> {
        selection.check(DeadLetterState::Open)?;
        let act = |attempt| self.discard_now(actor, selection, attempt);
        self.once(key, "discard".to_owned(), selection, act).await
    }

    async fn discard_now(
        &self,
        actor: &Actor,
        selection: &DeadLetterSelection,
        attempt: Attempt,
    ) -> Result<DiscardReport, OperatorError> {
        let (discarded_at, discarded) = (attempt.at, DeadLetterState::Discarded);
        let (pages, done) = self.to_settle(selection, discarded, attempt).await?;
        let not_open = missing(selection, &pages, &done)?;
        let subject = selection.subject(&pages);
        let detail = selection.in_words(DeadLetterState::Open);
        self.record(actor, "discard", &subject, &detail).await?;
        let mut discarded = done.len();
        for letters in pages.iter().filter(|letters| !letters.is_empty()) {
            let (ids, none) = (ids(letters), Vec::new());
            let settled = self.queue.settle(&ids, none, discarded_at).await;
            discarded += self.noted(settled)?;
        }
        info!(discarded, "Operator discarded {discarded} dead letters");
        Ok(DiscardReport {
            discarded,
            discarded_at,
            not_open,
            batches: Vec::new(),
        })
    }

    /// Opens dead letters again that were discarded in the last 30 days.
    ///
    /// # Errors
    /// The selection cannot be used, nothing that it selects was discarded within 30 days, it is not of as many as it says, or
    /// the store fails.
    pub async fn reopen(
        &self,
        actor: &Actor,
        key: Option<&IdempotencyKey>,
        selection: &DeadLetterSelection,
    ) -> Result<ReopenReport, OperatorError> {
        selection.check(DeadLetterState::Discarded)?;
        let act = |attempt| self.reopen_now(actor, selection, attempt);
        self.once(key, "reopen".to_owned(), selection, act).await
    }

    async fn reopen_now(
        &self,
        actor: &Actor,
        selection: &DeadLetterSelection,
        attempt: Attempt,
    ) -> Result<ReopenReport, OperatorError> {
        let state = DeadLetterState::Discarded;
        let filter = selection.filter(state, self.clock.now());
        let pages = self.letters(&filter).await?;
        // Its instant marks what an earlier attempt has opened.
        let mut done = 0;
        if attempt.is_repetition {
            let by_it = DeadLetterFilter {
                state: None,
                settled_at: None,
                settled_after: None,
                reopened_at: Some(attempt.at),
                ..filter
            };
            done = self.reader.dead_letter_count(&by_it).await?;
        }
        if done == 0 {
            selection.check_count(&pages)?;
        }
        selection.check_at_most(number_of(&pages) + done)?;
        let nothing = || {
            OperatorError::NotFound(
                "no dead letter that is selected was discarded in the last 30 days".to_owned(),
            )
        };
        if done == 0 && number_of(&pages) == 0 {
            return Err(nothing());
        }
        let (subject, detail) = (selection.subject(&pages), selection.in_words(state));
        self.record(actor, "reopen", &subject, &detail).await?;
        let discarded_after = self.clock.now() - DeadLetter::REOPENABLE_FOR;
        let mut reopened = done as usize;
        for letters in pages.iter().filter(|letters| !letters.is_empty()) {
            let opened = self
                .queue
                .reopen(&ids(letters), discarded_after, attempt.at)
                .await;
            reopened += self.noted(opened)?;
        }
        if reopened == 0 {
            return Err(nothing());
        }
        info!(reopened, "Operator reopened {reopened} dead letters");
        Ok(ReopenReport { reopened })
    }

    /// How many dead letters in a state a selection is of, and the selection of just so many: what fails later is not in it, and
    /// where others have been settled meanwhile, it is refused.
    ///
    /// # Errors
    /// The selection cannot be used, or the store fails.
    pub async fn count_letters(
        &self,
        selection: &DeadLetterSelection,
        state: DeadLetterState,
    ) -> Result<(u64, DeadLetterSelection), OperatorError> {
        selection.check(state)?;
        let now = self.clock.now();
        let mut selection = selection.clone();
        if selection.ids.is_none() {
            let filter = selection.filter(state, now);
            let (newest, _) = self.reader.dead_letters(&filter, &super::ONE).await?;
            selection.up_to = newest.first().map(|letter| letter.id);
        }
        let filter = selection.filter(state, now);
        let count = self.reader.dead_letter_count(&filter).await?;
        selection.count = Some(count);
        Ok((count, selection))
    }

    /// What is selected of those that are open, a thousand at a time, and the ids of those that an earlier attempt at the same
    /// request has settled, to the state `settled`. Unless it has settled some, the selection must be of as many as it says.
    async fn to_settle(
        &self,
        selection: &DeadLetterSelection,
        settled: DeadLetterState,
        attempt: Attempt,
    ) -> Result<(Vec<Vec<DeadLetter>>, BTreeSet<i64>), OperatorError> {
        let open = selection.filter(DeadLetterState::Open, self.clock.now());
        let mut done = BTreeSet::new();
        if attempt.is_repetition {
            let by_it = DeadLetterFilter {
                state: Some(settled),
                settled_at: Some(attempt.at),
                ..open.clone()
            };
            let settled = self.letters(&by_it).await?;
            done.extend(settled.iter().flatten().map(|letter| letter.id));
        }
        let pages = self.letters(&open).await?;
        if done.is_empty() {
            selection.check_count(&pages)?;
        }
        selection.check_at_most(number_of(&pages) + done.len() as u64)?;
        Ok((pages, done))
    }

    /// The dead letters that a filter selects, a thousand at a time.
    async fn letters(
        &self,
        filter: &DeadLetterFilter,
    ) -> Result<Vec<Vec<DeadLetter>>, OperatorError> {
        let mut page = Page {
            cursor: None,
            limit: LETTERS_PER_TRANSACTION,
        };
        let mut pages = Vec::new();
        loop {
            let (letters, next) = self.reader.dead_letters(filter, &page).await?;
            pages.push(letters);
            page.cursor = next;
            if page.cursor.is_none() {
                return Ok(pages);
            }
        }
    }
}

fn ids(letters: &[DeadLetter]) -> Vec<i64> {
    letters.iter().map(|letter| letter.id).collect()
}

fn number_of(pages: &[Vec<DeadLetter>]) -> u64 {
    pages.iter().map(Vec::len).sum::<usize>() as u64
}

/// Those that are named and neither open nor `done` by an earlier attempt; an error where all are.
fn missing(
    selection: &DeadLetterSelection,
    pages: &[Vec<DeadLetter>],
    done: &BTreeSet<i64>,
) -> Result<BTreeSet<i64>, OperatorError> {
    let mut missing = selection.ids.clone().unwrap_or_default();
    missing.retain(|id| !done.contains(id));
    for letter in pages.iter().flatten() {
        missing.remove(&letter.id);
    }
    match missing.first() {
        Some(id) if done.is_empty() && number_of(pages) == 0 => {
            Err(OperatorError::NotFound(format!(
                "dead letter {id} is not open, or was removed as it is old; list those with the state `open`"
            )))
        }
        _ => Ok(missing),
    }
}
