//! An operator over fakes.

use std::sync::Arc;

use punctual_domain::{
    BatchConfig, JobId, Mirror, PreferenceRecord, Reading, Sharding, Work, Zone,
};
use tokio_util::sync::CancellationToken;

use super::{FakeConfigDatabase, FakeItemSource, FakeStore, ManualClock};
use crate::{
    ActiveFailures, Alerting, BatchProcessor, CompletionUrls, EnhancedBatchProcessor, Handlers,
    JobStatus, Jobs, Limits, MirrorHandle, Operator, RetryPolicy, SchedulerStatus, StatusHandle,
    ports::{Clock, ConfigDatabase, ItemSource},
};

/// An operator of these jobs on `store` at `now`, an instant in RFC 3339. There are no handlers, preferences and items, and
/// the scheduler has not planned yet.
///
/// # Panics
/// If `now` is not an instant.
#[must_use]
pub fn operator(store: &Arc<FakeStore>, jobs: BatchConfig, now: &str) -> Operator {
    let clock: Arc<dyn Clock> = Arc::new(ManualClock::starting_at(now));
    let preferences: Arc<dyn ConfigDatabase> = Arc::new(FakeConfigDatabase::default());
    let item_source: Arc<dyn ItemSource> = Arc::new(FakeItemSource::default());
    let (jobs, handlers) = (Jobs::from(jobs), Handlers::default());
    let base = BatchProcessor::new(handlers.clone(), store.clone(), clock.clone());
    let (source, items) = (preferences.clone(), item_source.clone());
    let processor = processor(base, source, items, jobs.clone(), store);
    Operator {
        reader: store.clone(),
        queue: store.clone(),
        waiting: store.clone(),
        operations: store.clone(),
        keys: store.clone(),
        suppressions: store.clone(),
        retention: store.clone(),
        alerting: Alerting::none(store.clone()),
        tenant_records: store.clone(),
        fence: store.clone(),
        preferences,
        item_source,
        jobs,
        handlers,
        processor,
        status: StatusHandle::default(),
        failures: ActiveFailures::default(),
        started_at: clock.now(),
        clock,
        zone: Zone::utc(),
        chunk_size: 10,
        sharding: Sharding::default(),
    }
}

/// The same operator, whose previews and completions are made of the parts that it has by now.
#[must_use]
pub fn with_own_processor(operator: Operator, store: &Arc<FakeStore>) -> Operator {
    let (handlers, clock) = (operator.handlers.clone(), operator.clock.clone());
    let base = BatchProcessor::new(handlers, store.clone(), clock);
    let (source, items) = (operator.preferences.clone(), operator.item_source.clone());
    let processor = processor(base, source, items, operator.jobs.clone(), store);
    Operator {
        processor,
        ..operator
    }
}

fn processor(
    base: BatchProcessor,
    preferences: Arc<dyn ConfigDatabase>,
    item_source: Arc<dyn ItemSource>,
    jobs: Jobs,
    store: &Arc<FakeStore>,
) -> EnhancedBatchProcessor {
    let limits = Limits {
        max_concurrent_items: 1,
        retry: RetryPolicy::new(0, || 0.0),
    };
    let (zone, stop) = (Zone::utc(), CancellationToken::new());
    EnhancedBatchProcessor::new(base, preferences, item_source, jobs, zone, limits, stop)
        .with_waiting_items(store.clone())
        .with_completion_urls(CompletionUrls::new([7; 32], Some("https://agent.example")))
}

/// Lets the operator's scheduler have read these preferences for a job just now, and have planned until now.
///
/// # Panics
/// If the job does not exist, or has a schedule of its own.
pub fn schedule(operator: &Operator, job_id: &JobId, records: &[PreferenceRecord]) {
    let now = operator.clock.now();
    let jobs = operator.jobs.current();
    let job = jobs.job(job_id).expect("the job exists");
    let Work::Preferences {
        feature_type,
        defaults,
        spread_minutes,
    } = &job.work
    else {
        panic!("{job_id} has a schedule of its own");
    };
    let mut mirror = Mirror::new((**defaults).clone(), operator.zone.clone(), *spread_minutes);
    mirror.set_planned_until(now);
    mirror.replace(records, Reading::first(now));
    let known = JobStatus {
        feature_type: feature_type.clone(),
        loaded: true,
        tenants: mirror.len(),
        quarantined: mirror.quarantine().len(),
        next_due: mirror.next_due(),
        seen_until: Some(now),
        trouble: None,
        mirror: MirrorHandle::new(mirror),
    };
    operator.status.publish(SchedulerStatus {
        jobs: [(job_id.clone(), known)].into(),
        planned_until: Some(now),
        leads: true,
        next_due: None,
    });
}
