//! An operator over fakes.

use std::sync::Arc;

use punctual_domain::{
    BatchConfig, JobId, Mirror, PreferenceRecord, Reading, Sharding, Work, Zone,
};

use super::{FakeConfigDatabase, FakeItemSource, FakeStore, ManualClock};
use crate::{
    ActiveFailures, Handlers, JobStatus, Jobs, MirrorHandle, Operator, SchedulerStatus,
    StatusHandle, ports::Clock,
};

/// An operator of these jobs on `store` at `now`, an instant in RFC 3339. There are no handlers, preferences and items, and
/// the scheduler has not planned yet.
///
/// # Panics
/// If `now` is not an instant.
#[must_use]
pub fn operator(store: &Arc<FakeStore>, jobs: BatchConfig, now: &str) -> Operator {
    let clock = ManualClock::starting_at(now);
    Operator {
        reader: store.clone(),
        queue: store.clone(),
        operations: store.clone(),
        suppressions: store.clone(),
        preferences: Arc::new(FakeConfigDatabase::default()),
        item_source: Arc::new(FakeItemSource::default()),
        jobs: Jobs::from(jobs),
        handlers: Handlers::default(),
        status: StatusHandle::default(),
        failures: ActiveFailures::default(),
        started_at: clock.now(),
        clock: Arc::new(clock),
        zone: Zone::utc(),
        chunk_size: 10,
        sharding: Sharding::default(),
    }
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
        next_due: None,
    });
}
