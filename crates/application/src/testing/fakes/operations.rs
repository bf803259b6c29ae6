//! What operators see and ask for, in memory.

use std::collections::BTreeMap;

use async_trait::async_trait;
use chrono::{DateTime, TimeDelta, Utc};
use punctual_domain::{JobId, Trigger};
use serde_json::Value;
use uuid::Uuid;

use super::{FakeStore, deliveries::State, paged};
use crate::ports::{
    AuditEntry, FailingDeliveries, JobActivity, NewRequest, OperatorStore, Page, Paged,
    ReplicaLease, Request, StoreError,
};

/// How long a request is remembered.
const REQUEST_TTL: TimeDelta = TimeDelta::hours(24);

/// The audit log and the requests under an idempotency key.
#[derive(Debug, Default)]
pub(super) struct StoredRequest {
    audit_log: Vec<AuditEntry>,
    /// By scope and key.
    requests: BTreeMap<(String, String), Request>,
    /// How many requests there have been: their ids are the same in each run of a test.
    number: u128,
}

#[async_trait]
impl OperatorStore for FakeStore {
    async fn activity(&self, since: DateTime<Utc>) -> Result<Vec<JobActivity>, StoreError> {
        let tables = self.tables();
        let mut jobs: BTreeMap<JobId, JobActivity> = BTreeMap::new();
        for batch in tables.batches.values() {
            if batch.scheduled_at < since {
                continue;
            }
            let batch = tables.with_counts(batch);
            let job_id = batch.job_id.clone();
            let activity = jobs.entry(job_id.clone()).or_insert(JobActivity {
                job_id,
                batches: 0,
                items: 0,
                succeeded: 0,
                failed: 0,
                worst_lateness_ms: 0,
            });
            activity.batches += 1;
            activity.succeeded += batch.succeeded;
            activity.failed += batch.failed;
            if batch.finished_at.is_some() {
                activity.items += batch.total;
            }
            if batch.trigger == Trigger::Schedule {
                let late = (batch.created_at - batch.scheduled_at).num_milliseconds();
                let late = late.max(0).unsigned_abs();
                activity.worst_lateness_ms = activity.worst_lateness_ms.max(late);
            }
        }
        Ok(jobs.into_values().collect())
    }

    /// A process is heard of when it claims.
    async fn replica_leases(&self) -> Result<Vec<ReplicaLease>, StoreError> {
        let tables = self.tables();
        let mut processes: BTreeMap<Uuid, Vec<(&JobId, DateTime<Utc>)>> = BTreeMap::new();
        for row in tables.chunks.values() {
            if let Some(claimant) = row.claimant {
                let held = (&row.chunk.job_id, row.claimed_at);
                processes.entry(claimant.process).or_default().push(held);
            }
        }
        let working = |(process, mut held): (Uuid, Vec<(&JobId, DateTime<Utc>)>)| {
            let claims = || held.iter().map(|(_, at)| *at);
            let (since, last_seen) = (claims().min().unwrap_or_default(), claims().max());
            let chunks = held.len() as u64;
            held.sort();
            held.dedup_by_key(|(job_id, _)| *job_id);
            ReplicaLease {
                process: process.to_string(),
                chunks,
                jobs: held.len() as u64,
                since,
                last_seen,
            }
        };
        Ok(processes.into_iter().map(working).collect())
    }

    async fn leader(&self) -> Result<Option<(String, DateTime<Utc>)>, StoreError> {
        Ok(None)
    }

    async fn failing_deliveries(
        &self,
        given_up_since: DateTime<Utc>,
    ) -> Result<Vec<FailingDeliveries>, StoreError> {
        let tables = self.tables();
        let mut failing: BTreeMap<(JobId, State), FailingDeliveries> = BTreeMap::new();
        for row in &tables.deliveries {
            let batch = &tables.batches[&row.batch_id];
            let Some(since) = batch.finished_at else {
                continue;
            };
            match row.state {
                State::Open if row.tries >= 2 => {}
                State::GivenUp if since >= given_up_since => {}
                _ => continue,
            }
            let of_job = failing.entry((batch.job_id.clone(), row.state));
            let of_job = of_job.or_insert_with(|| FailingDeliveries {
                job_id: batch.job_id.clone(),
                given_up: row.state == State::GivenUp,
                deliveries: 0,
                since,
                reason: String::new(),
            });
            of_job.deliveries += 1;
            of_job.since = of_job.since.min(since);
            of_job.reason = std::mem::take(&mut of_job.reason).max(row.reason.clone());
        }
        Ok(failing.into_values().collect())
    }

    async fn record(&self, entry: &AuditEntry) -> Result<(), StoreError> {
        self.tables().asked.audit_log.push(entry.clone());
        Ok(())
    }

    async fn request(&self, new: &NewRequest, now: DateTime<Utc>) -> Result<Request, StoreError> {
        let mut tables = self.tables();
        let StoredRequest {
            requests, number, ..
        } = &mut tables.asked;
        requests.retain(|_, request| request.at >= now - REQUEST_TTL);
        let request = requests
            .entry((new.scope.clone(), new.key.clone()))
            .or_insert_with(|| {
                *number += 1;
                Request {
                    id: Uuid::from_u128(*number),
                    at: now,
                    fingerprint: new.fingerprint.clone(),
                    answer: None,
                }
            });
        Ok(request.clone())
    }

    async fn answer(&self, request: Uuid, answer: Option<Value>) -> Result<(), StoreError> {
        let mut tables = self.tables();
        let requests = &mut tables.asked.requests;
        match answer {
            Some(answer) => {
                let mut requests = requests.values_mut();
                if let Some(kept) = requests.find(|kept| kept.id == request) {
                    kept.answer = Some(answer);
                }
            }
            None => requests.retain(|_, kept| kept.id != request || kept.answer.is_some()),
        }
        Ok(())
    }

    async fn audit_log(&self, page: &Page) -> Result<Paged<AuditEntry>, StoreError> {
        let tables = self.tables();
        let entries = tables.asked.audit_log.iter().cloned().enumerate();
        let newest: Vec<(usize, AuditEntry)> = entries.rev().collect();
        let (entries, next) = paged(newest, page, |(number, _)| number.to_string())?;
        Ok((entries.into_iter().map(|(_, entry)| entry).collect(), next))
    }
}
