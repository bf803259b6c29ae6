//! What operators see and ask for, in memory.

use std::collections::BTreeMap;

use async_trait::async_trait;
use chrono::{DateTime, TimeDelta, Utc};
use punctual_domain::{BatchStatus, DeadLetter, DeadLetterState, JobId, SkipReason, Trigger};
use serde_json::Value;
use uuid::Uuid;

use super::{FakeStore, Tables, deliveries::DeliveryRow, paged};
use crate::ports::{
    Acknowledgement, AuditEntry, AuditFilter, DeliveryFilter, DeliveryState, ExpiredItems,
    FailingDeliveries, HourlyOutcomes, JobActivity, NewRequest, OpenDeadLetters, OperatorStore,
    Page, Paged, Redelivery, ReplicaLease, Request, StoreError, StoredDelivery, WaitingWork,
};

/// How long a request is remembered.
const REQUEST_TTL: TimeDelta = TimeDelta::hours(24);

/// The audit log and the requests under an idempotency key.
#[derive(Debug, Default)]
pub(super) struct StoredRequest {
    audit_log: Vec<AuditEntry>,
    /// By finding.
    acknowledgements: BTreeMap<String, Acknowledgement>,
    /// By scope and key.
    requests: BTreeMap<(String, String), Request>,
    /// How many requests there have been: their ids are the same in each run of a test.
    number: u128,
}

impl StoredRequest {
    /// Removes the entries of the audit log before an instant. Returns their number.
    pub(super) fn forget_audit_log(&mut self, before: DateTime<Utc>) -> usize {
        let entries = self.audit_log.len();
        self.audit_log.retain(|entry| entry.at >= before);
        entries - self.audit_log.len()
    }

    /// Writes a text in place of a name in what is kept.
    pub(super) fn forget_name(&mut self, name: &str, text: &str) {
        for entry in &mut self.audit_log {
            entry.subject = entry.subject.replace(name, text);
            entry.detail = entry.detail.replace(name, text);
            entry.reason = entry.reason.take().map(|reason| reason.replace(name, text));
        }
    }
}

#[async_trait]
impl OperatorStore for FakeStore {
    async fn activity(&self, since: DateTime<Utc>) -> Result<Vec<JobActivity>, StoreError> {
        let tables = self.tables();
        let mut jobs: BTreeMap<JobId, JobActivity> = BTreeMap::new();
        for batch in tables.batches.values() {
            if batch.scheduled_at < since || batch.trigger == Trigger::Prepare {
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
                nothing_to_do: 0,
                worst_lateness_ms: 0,
            });
            activity.batches += 1;
            activity.succeeded += batch.succeeded;
            activity.failed += batch.still_failed();
            activity.nothing_to_do += batch.nothing_to_do;
            activity.items += batch.succeeded + batch.still_failed() + batch.nothing_to_do;
            // An item that a replay skips is still one that failed.
            if batch.trigger != Trigger::Replay {
                activity.items += batch.skipped;
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
        let mut failing: BTreeMap<(JobId, &str), FailingDeliveries> = BTreeMap::new();
        for row in &tables.deliveries {
            let batch = &tables.batches[&row.batch_id];
            let Some(since) = batch.finished_at else {
                continue;
            };
            if !row.is_failing(since, given_up_since) {
                continue;
            }
            let of_job = failing.entry((batch.job_id.clone(), row.state.as_str()));
            let of_job = of_job.or_insert_with(|| FailingDeliveries {
                job_id: batch.job_id.clone(),
                given_up: row.state == DeliveryState::GivenUp,
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

    async fn open_dead_letters(&self) -> Result<Vec<OpenDeadLetters>, StoreError> {
        let tables = self.tables();
        let open = |letter: &&DeadLetter| letter.state == DeadLetterState::Open;
        let mut jobs: BTreeMap<JobId, Vec<&DeadLetter>> = BTreeMap::new();
        for letter in tables.dead_letters.iter().rev().filter(open) {
            jobs.entry(letter.job_id.clone()).or_default().push(letter);
        }
        let in_sum = |(job_id, letters): (JobId, Vec<&DeadLetter>)| {
            let mut reasons: BTreeMap<String, u64> = BTreeMap::new();
            for letter in letters.iter().take(OpenDeadLetters::SEARCHED as usize) {
                *reasons.entry(letter.reason.clone()).or_default() += 1;
            }
            let mut reasons: Vec<(String, u64)> = reasons.into_iter().collect();
            reasons.sort_by_key(|(_, count)| std::cmp::Reverse(*count));
            reasons.truncate(OpenDeadLetters::MAX_REASONS as usize);
            let failed_at = letters.iter().map(|letter| letter.failed_at);
            OpenDeadLetters {
                job_id,
                count: letters.len() as u64,
                first_failed_at: failed_at.min().unwrap_or_default(),
                batch_id: letters[0].batch_id,
                reasons,
            }
        };
        Ok(jobs.into_iter().map(in_sum).collect())
    }

    async fn expired_items(&self, since: DateTime<Utc>) -> Result<Vec<ExpiredItems>, StoreError> {
        let tables = self.tables();
        let mut jobs: BTreeMap<JobId, ExpiredItems> = BTreeMap::new();
        let mut newest: BTreeMap<JobId, (i64, u64)> = BTreeMap::new();
        for skipped in tables.skipped.values() {
            let result = &skipped.result;
            let at = result.finished_at.unwrap_or(result.started_at);
            let expired = result.error.as_deref() == Some(SkipReason::Expired.as_str());
            if !expired || hour_of(at) < hour_of(since) {
                continue;
            }
            let job_id = skipped.job_id.clone();
            let of_job = jobs.entry(job_id.clone()).or_insert(ExpiredItems {
                job_id,
                items: 0,
                since: at,
                mark: 0,
            });
            of_job.items += 1;
            of_job.since = of_job.since.min(at);
            let hour = hour_of(at);
            let newest = newest.entry(of_job.job_id.clone()).or_insert((hour, 0));
            if newest.0 < hour {
                *newest = (hour, 0);
            }
            newest.1 += u64::from(newest.0 == hour);
            of_job.mark = ExpiredItems::mark_of(newest.0.unsigned_abs(), newest.1);
        }
        Ok(jobs.into_values().collect())
    }

    async fn outcomes_by_hour(
        &self,
        since: DateTime<Utc>,
        job_id: Option<JobId>,
    ) -> Result<Vec<HourlyOutcomes>, StoreError> {
        let tables = self.tables();
        let mut hours: BTreeMap<i64, HourlyOutcomes> = BTreeMap::new();
        for batch in tables.batches.values() {
            let is_wanted = batch.trigger != Trigger::Prepare
                && job_id.as_ref().is_none_or(|job| *job == batch.job_id);
            let Some(at) = batch.finished_at.filter(|_| is_wanted) else {
                continue;
            };
            let hour = hour_of(at);
            if hour < hour_of(since) {
                continue;
            }
            let batch = tables.with_counts(batch);
            let of_hour = hours.entry(hour).or_insert(HourlyOutcomes {
                hour: DateTime::from_timestamp(hour * 3_600, 0).unwrap_or_default(),
                succeeded: 0,
                failed: 0,
                worst_lateness_ms: 0,
            });
            of_hour.succeeded += batch.succeeded + batch.nothing_to_do;
            of_hour.failed += batch.failed;
            if batch.trigger == Trigger::Schedule {
                let late = (batch.created_at - batch.scheduled_at).num_milliseconds();
                let late = late.max(0).unsigned_abs();
                of_hour.worst_lateness_ms = of_hour.worst_lateness_ms.max(late);
            }
        }
        Ok(hours.into_values().collect())
    }

    async fn waiting_work(
        &self,
        due_before: DateTime<Utc>,
    ) -> Result<Vec<WaitingWork>, StoreError> {
        let tables = self.tables();
        let running = |job_id: &JobId| {
            let mut batches = tables.batches.values();
            batches.any(|one| one.job_id == *job_id && one.status == BatchStatus::Running)
        };
        let alive = tables.heartbeats.values().filter(|beat| **beat > 0).count();
        let mut jobs: BTreeMap<JobId, WaitingWork> = BTreeMap::new();
        for batch in tables.batches.values() {
            let since = batch.scheduled_at.max(batch.created_at);
            let is_queued = batch.status == BatchStatus::Queued;
            if !is_queued || since > due_before || batch.trigger == Trigger::Prepare {
                continue;
            }
            let job_id = batch.job_id.clone();
            let of_job = jobs.entry(job_id.clone()).or_insert(WaitingWork {
                others_run: running(&job_id),
                job_id,
                batches: 0,
                items: 0,
                since,
                live_processes: alive as u64,
            });
            of_job.batches += 1;
            of_job.items += batch.total;
            of_job.since = of_job.since.min(since);
        }
        Ok(jobs.into_values().collect())
    }

    async fn deliveries(
        &self,
        filter: &DeliveryFilter,
        page: &Page,
    ) -> Result<Paged<StoredDelivery>, StoreError> {
        let tables = self.tables();
        let rows = tables.deliveries.iter().rev();
        let found = rows.filter(|row| tables.is_wanted(row, filter));
        let stored = found.map(|row| StoredDelivery {
            id: row.id,
            batch_id: row.batch_id,
            job_id: tables.batches[&row.batch_id].job_id.clone(),
            target: row.target.clone(),
            state: row.state,
            tries: row.tries,
            next_try: (row.state == DeliveryState::Open).then_some(row.not_before),
            reason: Some(row.reason.clone()).filter(|reason| !reason.is_empty()),
        });
        paged(stored.collect(), page, |delivery| delivery.id.to_string())
    }

    async fn deliver_again(
        &self,
        deliveries: &[Redelivery],
        asked_at: DateTime<Utc>,
        now: DateTime<Utc>,
    ) -> Result<u64, StoreError> {
        let mut tables = self.tables();
        let mut due = 0;
        for again in deliveries {
            let mut rows = tables.deliveries.iter_mut();
            let failed = rows.find(|row| {
                row.id == again.id
                    && row.has_failed()
                    && row.leased_until.is_none_or(|end| end <= now)
            });
            let Some(row) = failed else { continue };
            row.state = DeliveryState::Open;
            row.not_before = now;
            row.leased_until = None;
            row.retried_from = Some(asked_at);
            row.tries = 0;
            row.target = again.target.clone();
            if again.from_start {
                row.cursor = None;
            }
            due += 1;
        }
        Ok(due)
    }

    async fn acknowledge(&self, acknowledgement: &Acknowledgement) -> Result<(), StoreError> {
        let known = &mut self.tables().asked.acknowledgements;
        known.insert(acknowledgement.finding.clone(), acknowledgement.clone());
        Ok(())
    }

    async fn withdraw_acknowledgement(
        &self,
        acknowledgement: &Acknowledgement,
    ) -> Result<(), StoreError> {
        let Acknowledgement {
            finding, state, at, ..
        } = acknowledgement;
        let known = &mut self.tables().asked.acknowledgements;
        known.retain(|_, known| {
            known.finding != *finding || known.state != *state || known.at != *at
        });
        Ok(())
    }

    async fn acknowledgements(&self) -> Result<Vec<Acknowledgement>, StoreError> {
        let known = &self.tables().asked.acknowledgements;
        Ok(known.values().cloned().collect())
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
        let scope_and_key = (new.scope.clone(), new.key.clone());
        if let Some(known) = requests.get(&scope_and_key) {
            return Ok(Request {
                is_known: true,
                ..known.clone()
            });
        }
        *number += 1;
        let request = Request {
            id: Uuid::from_u128(*number),
            at: now,
            fingerprint: new.fingerprint.clone(),
            is_known: false,
            answer: None,
        };
        requests.insert(scope_and_key, request.clone());
        Ok(request)
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

    async fn audit_log(
        &self,
        filter: &AuditFilter,
        page: &Page,
    ) -> Result<Paged<AuditEntry>, StoreError> {
        let tables = self.tables();
        let entries = tables.asked.audit_log.iter().cloned().enumerate();
        let wanted = |(_, entry): &(usize, AuditEntry)| {
            let (action, subject) = (&filter.action, &filter.subject);
            action.as_ref().is_none_or(|action| *action == entry.action)
                && subject
                    .as_ref()
                    .is_none_or(|subject| *subject == entry.subject)
        };
        let newest: Vec<(usize, AuditEntry)> = entries.rev().filter(wanted).collect();
        let (entries, next) = paged(newest, page, |(number, _)| number.to_string())?;
        Ok((entries.into_iter().map(|(_, entry)| entry).collect(), next))
    }
}

/// The hour in which an instant is, since 1970.
fn hour_of(at: DateTime<Utc>) -> i64 {
    at.timestamp().div_euclid(3_600)
}

impl Tables {
    fn is_wanted(&self, row: &DeliveryRow, filter: &DeliveryFilter) -> bool {
        let batch = &self.batches[&row.batch_id];
        let ended = batch.finished_at;
        ended.is_some()
            && filter
                .failing_since
                .is_none_or(|since| ended.is_some_and(|ended| row.is_failing(ended, since)))
            && filter.id.is_none_or(|id| id == row.id)
            && filter
                .batch_ids
                .as_ref()
                .is_none_or(|ids| ids.contains(&row.batch_id))
            && filter.asked_at.is_none_or(|at| {
                // A store keeps microseconds.
                let from = row.retried_from.map(|from| from.timestamp_micros());
                from == Some(at.timestamp_micros())
            })
            && (row.has_failed() || !filter.failed)
            && filter
                .job_id
                .as_ref()
                .is_none_or(|job| *job == batch.job_id)
    }
}
