//! Jobs with two purposes. What the first has made of an item is kept before the second is called, so that a retry, a crash or a
//! replay of the second calls the second alone. Each purpose is called within its own limits, and its attempts count by
//! themselves.

use std::sync::{Mutex, MutexGuard, PoisonError};

use punctual_domain::{Chunk, Item, ItemId, JobConfig, Outcome, PurposeId};
use serde_json::{Value, json};

use super::{
    ChunkRun, EnhancedBatchProcessor, Progress, prepare::Prepared, prepare_ahead::Preparation,
};
use crate::{
    ports::HandlerError,
    services::batch_processor::{ChunkReport, Claimed, ProcessError},
};

/// The two purposes of a job.
pub(super) struct Then {
    first: PurposeId,
    second: PurposeId,
    /// Why an output could not be kept, which ends the delivery of the chunk.
    failure: Mutex<Option<ProcessError>>,
}

/// What comes after a call that is not retried.
pub(super) enum Next {
    /// The second purpose is called.
    Call(Item),
    /// The item has ended.
    End(Item, Result<Outcome, HandlerError>),
}

impl Then {
    /// The purposes of a job; `None`: it has one.
    pub(super) fn of(job: &JobConfig) -> Option<Self> {
        Some(Self {
            first: job.purpose_id.clone(),
            second: job.then.clone()?,
            failure: Mutex::default(),
        })
    }

    /// The second purpose.
    pub(super) fn second(&self) -> &PurposeId {
        &self.second
    }

    /// Turns an item into a call of the second purpose.
    pub(super) fn pass_on(&self, item: &mut Item, output: Value) {
        item.purpose_id = self.second.clone();
        item.written = Some(output);
        item.attempt = 1;
    }

    fn failure(&self) -> MutexGuard<'_, Option<ProcessError>> {
        self.failure.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl ChunkRun<'_> {
    /// Whether an output could not be kept, so that no further item begins.
    pub(super) fn keeps_nothing(&self) -> bool {
        let then = self.then.as_ref();
        then.is_some_and(|then| then.failure().is_some())
            || self
                .preparation
                .as_ref()
                .is_some_and(Preparation::has_failed)
    }

    /// The report, unless an output could not be kept.
    pub(super) fn unless_failed(&self, report: ChunkReport) -> Result<ChunkReport, ProcessError> {
        let failure = self.then.as_ref().and_then(|then| then.failure().take());
        let preparation = self.preparation.as_ref();
        let failure = failure.or_else(|| preparation?.take_failure());
        failure.map_or(Ok(report), Err)
    }
}

impl EnhancedBatchProcessor {
    /// Turns items whose first purpose has an output that is kept into calls of the second.
    pub(super) async fn add_written(
        &self,
        chunk: &Chunk,
        claimed: &Claimed,
        then: &Then,
        prepared: &mut [Prepared],
    ) -> Result<(), ProcessError> {
        let items: Vec<&mut Item> = prepared.iter_mut().filter_map(Prepared::item).collect();
        if items.is_empty() {
            return Ok(());
        }
        let ids: Vec<ItemId> = items.iter().map(|item| item.item_id.clone()).collect();
        let kept = self.base.kept_outputs(chunk, claimed, &then.first, &ids);
        let mut kept = kept.await?;
        for item in items {
            if let Some(output) = kept.remove(&item.item_id) {
                then.pass_on(item, output);
            }
        }
        Ok(())
    }

    /// What comes after a call of an item that is not retried. `None`: the item is left for later.
    pub(super) async fn after_call(
        &self,
        run: &ChunkRun<'_>,
        mut item: Item,
        outcome: Result<Outcome, HandlerError>,
        progress: &mut Progress,
    ) -> Option<Next> {
        let Some(then) = &run.then else {
            return Some(Next::End(item, outcome));
        };
        let outcome = match (item.written.take(), outcome) {
            (None, Ok(Outcome::Done(output))) => {
                let kept = self
                    .base
                    .keep_output(run.chunk, run.claimed, &item, &output);
                if let Err(error) = kept.await {
                    *then.failure() = Some(error);
                    return None;
                }
                progress.begin_second(item.attempt);
                then.pass_on(&mut item, output);
                return Some(Next::Call(item));
            }
            (Some(written), Ok(Outcome::Done(output))) => {
                Ok(Outcome::Done(of_both(&written, &output)))
            }
            (_, Err(mut error)) => {
                error.message = of_purpose(&item.purpose_id, &error.message);
                Err(error)
            }
            (_, Ok(other)) => Ok(other),
        };
        item.attempt += progress.first_attempts;
        Some(Next::End(item, outcome))
    }
}

impl Progress {
    /// The first purpose has taken so many attempts.
    fn begin_second(&mut self, first_attempts: u32) {
        self.first_attempts = first_attempts;
        self.refusals = 0;
    }
}

/// The result of an item whose two purposes have these outputs.
pub(super) fn of_both(written: &Value, output: &Value) -> Value {
    json!({ "written": written, "then": output })
}

/// The message of a failure of one of two purposes, which it names.
pub(super) fn of_purpose(purpose: &PurposeId, message: &str) -> String {
    format!("purpose `{purpose}`: {message}")
}
