//! Runs that are prepared ahead. A chunk that prepares calls the first purpose of its job for a run to come, and keeps the output
//! beside. The run takes what was prepared with the parameters that it has now, in place of the call, and calls the purpose for all
//! others: so a run is as right without its preparation as with it.

use std::{
    mem,
    sync::{Mutex, MutexGuard, PoisonError},
};

use punctual_domain::{
    AtDeadline, Chunk, Fingerprint, Item, ItemId, ItemInput, ItemResult, ItemStatus, JobConfig,
    Occurrence, Outcome, PurposeId, SkipReason, TenantId, Waiting,
};
use serde_json::{Value, json};

use super::{
    ChunkRun, EnhancedBatchProcessor, MAX_CRASHES_IN_ISOLATION, StartBlocker, prepare::Prepared,
    stream, then::Then,
};
use crate::{
    ports::{HandlerError, NewPrepared, PreparedState, PreparedWork, Settlement, StoreError},
    services::batch_processor::{ChunkReport, Claimed, ItemEnd, ProcessError},
};

/// Why there is nothing to do for an item whose run has been prepared, or is being prepared.
const PREPARED_ALREADY: &str = "prepared already";

/// The preparation of a run.
#[derive(Default)]
pub(super) struct Preparation {
    /// Why an output could not be kept, which ends the delivery of the chunk.
    failure: Mutex<Option<ProcessError>>,
}

impl Preparation {
    /// Whether an output could not be kept.
    pub(super) fn has_failed(&self) -> bool {
        self.failure().is_some()
    }

    /// Why an output could not be kept.
    pub(super) fn take_failure(&self) -> Option<ProcessError> {
        self.failure().take()
    }

    fn failure(&self) -> MutexGuard<'_, Option<ProcessError>> {
        self.failure.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The fingerprint of what a run of a purpose is made with: the parameters of the preference, its zone and the organization, and not
/// when it is due. `None`: it has no preference.
pub(super) fn fingerprint(purpose: &PurposeId, input: &ItemInput) -> Option<Fingerprint> {
    let ItemInput::Preference { effective, .. } = input else {
        return None;
    };
    let organization = effective.organization.as_ref();
    let parameters = json!([
        purpose,
        *effective.template_overrides,
        *effective.other,
        effective.slot.zone.name(),
        organization.map(|membership| &membership.id),
    ]);
    let mut hash = [0; 16];
    let mut hasher = blake3::Hasher::new();
    hasher.update(parameters.to_string().as_bytes());
    hasher.finalize_xof().fill(&mut hash);
    Some(Fingerprint::new(hash))
}

/// What an item of a preparation has come to: its output is kept elsewhere, and a failure is the run's to try again.
pub(super) fn of_preparation(result: ItemResult) -> ItemResult {
    match result.status {
        ItemStatus::Failed => {
            let reason = SkipReason::NotPrepared.as_str();
            let error = result.error.as_deref().unwrap_or_default();
            ItemResult {
                status: ItemStatus::Skipped,
                failure_kind: None,
                error: Some(format!("{reason}: {error}")),
                ..result
            }
        }
        _ => ItemResult {
            output: None,
            ..result
        },
    }
}

/// What a call that waited to prepare a run is settled with: a failure is the run's to try again, and what has waited cannot be skipped.
pub(super) fn settlement_ahead(settlement: Settlement) -> Settlement {
    match settlement {
        Settlement::End(result) if result.status == ItemStatus::Failed => {
            let result = ItemResult {
                status: ItemStatus::NothingToDo,
                ..of_preparation(*result)
            };
            Settlement::End(Box::new(result))
        }
        other => other,
    }
}

impl ChunkRun<'_> {
    /// Why its items do not begin any more once it is too late for them.
    pub(super) fn too_late(&self) -> SkipReason {
        match self.preparation {
            Some(_) => SkipReason::NotPrepared,
            None => SkipReason::Expired,
        }
    }
}

impl EnhancedBatchProcessor {
    /// Looks up what has been prepared. In a chunk that prepares, the items that have been prepared with the same parameters
    /// have ended. In a run, those items are taken out of `prepared`, with their outputs; where the job has a second purpose,
    /// they stay, as calls of it.
    pub(super) async fn take_ready(
        &self,
        chunk: &Chunk,
        claimed: &Claimed,
        job: Option<&JobConfig>,
        then: Option<&Then>,
        prepared: &mut Vec<Prepared>,
    ) -> Result<Vec<(Item, Value)>, ProcessError> {
        let is_prepared = job.is_some_and(|job| job.prepare_ahead.is_some());
        if chunk.prepares.is_some() {
            self.pass_over(chunk, claimed, is_prepared, prepared)
                .await?;
            return Ok(Vec::new());
        }
        let mut ready = Vec::new();
        if !is_prepared || matches!(chunk.occurrence, Occurrence::Run(_)) {
            return Ok(ready);
        }
        let calls_first = |item: &&Item| item.written.is_none();
        let items = prepared.iter().filter_map(Prepared::to_run);
        let ids: Vec<ItemId> = items
            .filter(calls_first)
            .map(|item| item.item_id.clone())
            .collect();
        if ids.is_empty() {
            return Ok(ready);
        }
        let mut outputs = self.base.take_prepared(chunk, claimed, &ids).await?;
        if outputs.is_empty() {
            return Ok(ready);
        }
        for one in mem::take(prepared) {
            let mut item = match one {
                Prepared::Run(item) => item,
                skip @ Prepared::Skip(_) => {
                    prepared.push(skip);
                    continue;
                }
            };
            let output = outputs.remove(&item.item_id);
            let own = fingerprint(&item.purpose_id, &item.input);
            match (output.filter(|kept| Some(kept.fingerprint) == own), then) {
                (None, _) => prepared.push(Prepared::Run(item)),
                (Some(kept), None) => ready.push((item, kept.output)),
                (Some(kept), Some(then)) => {
                    let output = kept.output;
                    self.base
                        .keep_output(chunk, claimed, &item, &output)
                        .await?;
                    then.pass_on(&mut item, output);
                    prepared.push(Prepared::Run(item));
                }
            }
        }
        Ok(ready)
    }

    /// How far a run of a job has been prepared for a tenant with this input; `None`: it has not been.
    pub(crate) async fn prepared_state(
        &self,
        job: &JobConfig,
        input: &ItemInput,
        run: Occurrence,
        tenant: &TenantId,
    ) -> Result<Option<PreparedState>, StoreError> {
        let (id, own) = (ItemId::from(tenant), fingerprint(&job.purpose_id, input));
        let one = std::slice::from_ref(&id);
        let states = self.base.prepared(&job.job_id, run, one).await?;
        let state = states.get(&id).copied();
        Ok(state.filter(|state| Some(state.fingerprint) == own))
    }

    /// Ends the items of a preparation that have been prepared with the same parameters before, or are not prepared any more.
    async fn pass_over(
        &self,
        chunk: &Chunk,
        claimed: &Claimed,
        is_prepared: bool,
        prepared: &mut [Prepared],
    ) -> Result<(), ProcessError> {
        let items = prepared.iter().filter_map(Prepared::to_run);
        let ids: Vec<ItemId> = items.map(|item| item.item_id.clone()).collect();
        if ids.is_empty() {
            return Ok(());
        }
        let run = chunk.run_of_items();
        let states = self.base.prepared(&chunk.job_id, run, &ids).await?;
        for one in prepared {
            let Some(item) = one.to_run() else {
                continue;
            };
            let (id, fingerprint) = (item.item_id.clone(), item.prepares);
            // What was called before and waited is to be called again.
            let is_called_again = claimed.claim.resumed.contains_key(&id);
            let state = states.get(&id).filter(|_| !is_called_again);
            if !is_prepared || fingerprint.is_none() {
                *one = Prepared::Skip(self.skipped(&id, SkipReason::NotPrepared));
            } else if state.is_some_and(|state| Some(state.fingerprint) == fingerprint) {
                *one = Prepared::Skip(ItemResult {
                    status: ItemStatus::NothingToDo,
                    error: Some(PREPARED_ALREADY.to_owned()),
                    ..self.skipped(&id, SkipReason::NotPrepared)
                });
            }
        }
        Ok(())
    }

    /// Ends the items of a run whose output is ready.
    pub(super) async fn end_ready(
        &self,
        run: &ChunkRun<'_>,
        ready: Vec<(Item, Value)>,
    ) -> Result<ChunkReport, ProcessError> {
        if ready.is_empty() {
            return Ok(ChunkReport::default());
        }
        let end = |(item, output): (Item, Value)| {
            let ended = self.end_one_ready(run, &item, output);
            ended.map(ItemEnd::Result)
        };
        let ends: Vec<Option<ItemEnd>> = ready.into_iter().map(end).collect();
        self.base
            .commit_all(run.chunk, run.claimed, stream::iter(ends))
            .await
    }

    /// The result of an item whose output is ready. `None`: it is left for later.
    fn end_one_ready(&self, run: &ChunkRun<'_>, item: &Item, output: Value) -> Option<ItemResult> {
        match self.start_blocker(run, item) {
            Some(StartBlocker::Skip(reason)) => Some(self.skipped(&item.item_id, reason)),
            Some(StartBlocker::Wait) => {
                run.claimed.note_waiting();
                None
            }
            None if self.may_begin(run) => {
                let outcome = Ok(Outcome::Done(output));
                Some(self.ended(run, item, self.now(), outcome))
            }
            None => None,
        }
    }

    /// Keeps what a call that prepares a run has made. `None`: it could not be kept, and the item is left for later.
    pub(super) async fn seal(
        &self,
        run: &ChunkRun<'_>,
        item: &Item,
        outcome: Result<Outcome, HandlerError>,
    ) -> Option<Result<Outcome, HandlerError>> {
        let (Some(preparation), Some(fingerprint)) = (&run.preparation, item.prepares) else {
            return Some(outcome);
        };
        let (work, outcome) = match outcome {
            // The output stands in one place alone.
            Ok(Outcome::Done(output)) => {
                let sealed = Outcome::Done(Value::Null);
                (PreparedWork::Output(output), sealed)
            }
            Ok(Outcome::Waiting(waiting)) => {
                let call_id = item.completion.as_ref()?.call_id;
                (PreparedWork::Waits(call_id), until_due(run, waiting))
            }
            other => return Some(other),
        };
        let prepared = NewPrepared {
            fingerprint,
            work,
            at: self.now(),
        };
        let kept = self
            .base
            .keep_prepared(run.chunk, run.claimed, &item.item_id, &prepared);
        if let Err(error) = kept.await {
            *preparation.failure() = Some(error);
            return None;
        }
        Some(Ok(outcome))
    }

    /// Leaves out of a preparation the item that processes have crashed with: its run finds out.
    pub(super) fn without_poison(
        &self,
        run: &ChunkRun<'_>,
        mut prepared: Vec<Prepared>,
    ) -> Vec<Prepared> {
        let poison_item = run.claimed.claim.poison_candidate.as_ref();
        let poison_item = poison_item.filter(|(_, deaths)| *deaths >= MAX_CRASHES_IN_ISOLATION);
        if let (Some(_), Some((poison, _))) = (&run.preparation, poison_item) {
            for one in &mut prepared {
                if one.to_run().is_some_and(|item| item.item_id == *poison) {
                    *one = Prepared::Skip(self.skipped(poison, SkipReason::NotPrepared));
                }
            }
        }
        prepared
    }
}

/// A preparation waits until its run is due at most; then the run calls the purpose.
fn until_due(run: &ChunkRun<'_>, waiting: Waiting) -> Outcome {
    Outcome::Waiting(Waiting {
        until: waiting.until.min(run.chunk.scheduled_at),
        at_deadline: AtDeadline::Fail,
        ..waiting
    })
}
