//! What the port `BatchStore` keeps of runs that are prepared, in memory.

use std::collections::HashMap;

use chrono::{DateTime, TimeDelta, Utc};
use punctual_domain::{Chunk, ItemId, JobId, Occurrence, Trigger};
use serde_json::Value;
use uuid::Uuid;

use super::Tables;
use crate::ports::{NewPrepared, PreparedOutput, PreparedState, PreparedWork};

/// What has been prepared for an item's run.
#[derive(Debug, Clone)]
pub(super) struct PreparedRow {
    prepared: NewPrepared,
    due_at: DateTime<Utc>,
    /// The chunk of the run that has taken it, with whose end it goes.
    taken_by: Option<String>,
}

impl Tables {
    /// Whether a batch prepares a run.
    pub(super) fn prepares(&self, batch_id: Uuid) -> bool {
        let batch = self.batches.get(&batch_id);
        batch.is_some_and(|batch| batch.trigger == Trigger::Prepare)
    }

    pub(super) fn keep_prepared(&mut self, chunk: &Chunk, tenant: &ItemId, prepared: &NewPrepared) {
        let key = (chunk.job_id.clone(), tenant.clone(), chunk.run_of_items());
        let row = PreparedRow {
            prepared: prepared.clone(),
            due_at: chunk.scheduled_at,
            taken_by: None,
        };
        self.prepared.insert(key, row);
    }

    pub(super) fn finish_prepared(&mut self, call_id: Uuid, output: Value, now: DateTime<Utc>) {
        let waits = PreparedWork::Waits(call_id);
        let mut rows = self.prepared.values_mut();
        if let Some(row) = rows.find(|row| row.prepared.work == waits) {
            row.prepared.work = PreparedWork::Output(output);
            row.prepared.at = now;
        }
    }

    pub(super) fn prepared_states(
        &mut self,
        job_id: &JobId,
        run: Occurrence,
        tenants: &[ItemId],
    ) -> HashMap<ItemId, PreparedState> {
        self.forget_taken();
        let waits = |call_id: Uuid| {
            let mut rows = self.waiting.values();
            rows.any(|row| row.item.call_id == call_id)
        };
        let state = |tenant: &ItemId| {
            let row = self.prepared.get(&(job_id.clone(), tenant.clone(), run))?;
            if let PreparedWork::Waits(call_id) = row.prepared.work
                && !waits(call_id)
            {
                return None;
            }
            let state = PreparedState {
                fingerprint: row.prepared.fingerprint,
                since: row.prepared.at,
                is_ready: matches!(row.prepared.work, PreparedWork::Output(_)),
            };
            Some((tenant.clone(), state))
        };
        tenants.iter().filter_map(state).collect()
    }

    pub(super) fn take_prepared(
        &mut self,
        chunk: &Chunk,
        tenants: &[ItemId],
    ) -> HashMap<ItemId, PreparedOutput> {
        self.forget_taken();
        let mut taken = HashMap::new();
        for tenant in tenants {
            let key = (chunk.job_id.clone(), tenant.clone(), chunk.occurrence);
            if let Some(row) = self.prepared.get_mut(&key)
                && let PreparedWork::Output(output) = &row.prepared.work
            {
                let prepared = PreparedOutput {
                    fingerprint: row.prepared.fingerprint,
                    output: output.clone(),
                };
                row.taken_by = Some(chunk.chunk_id.clone());
                taken.insert(tenant.clone(), prepared);
            }
        }
        taken
    }

    /// Removes what was due more than a day ago.
    pub(super) fn remove_old_prepared(&mut self, now: DateTime<Utc>) {
        let long_ago = now - TimeDelta::days(1);
        self.prepared.retain(|_, row| row.due_at >= long_ago);
    }

    /// Removes what chunks have taken that have ended.
    fn forget_taken(&mut self) {
        let chunks = &self.chunks;
        let has_ended = |chunk: &String| chunks.get(chunk).is_none_or(|row| row.done);
        self.prepared
            .retain(|_, row| !row.taken_by.as_ref().is_some_and(has_ended));
    }
}
