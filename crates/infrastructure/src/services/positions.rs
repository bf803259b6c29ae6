//! How far each job has been planned, as a [`Position`] of `punctual-domain` says it: the one place that knows and moves it,
//! for fixed schedules and for preferences. Mirrors have copies, by which they know what falls due next.

use std::{
    collections::{HashMap, HashSet},
    sync::Arc,
};

use chrono::{DateTime, TimeDelta, Utc};
use punctual_application::ports::{StoreError, WorkQueue};
use punctual_domain::{JobId, Position, Sharding, StoredPosition};

/// How often a position is stored at least, while nothing falls due.
const STORE_EVERY: TimeDelta = TimeDelta::seconds(60);

/// Where a job's next plan begins.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct JobPosition {
    pub(crate) position: Position,
    /// When the job began, if that is known.
    pub(crate) began: Option<DateTime<Utc>>,
    /// When the full read began that the last run of the agent planned with.
    pub(crate) snapshot_at: Option<DateTime<Utc>>,
    /// How the last plan had placed the tenants, or by which fixed schedule it went.
    pub(crate) placement: Option<String>,
    /// Until when it has been planned by what the store says.
    stored_until: Option<DateTime<Utc>>,
}

impl JobPosition {
    /// What is stored once everything until `now` has been planned.
    pub(crate) fn planned(&self, job_id: &JobId, now: DateTime<Utc>) -> StoredPosition {
        StoredPosition {
            job_id: job_id.clone(),
            planned_until: now,
            high_water_mark: self.position.high_water_mark().max(now),
            snapshot_at: None,
            began: self.began,
            placement: None,
        }
    }
}

/// The positions of all jobs that have been planned by this process.
pub(crate) struct Positions {
    queue: Arc<dyn WorkQueue>,
    /// How far back the first plan of a job begins.
    look_back: TimeDelta,
    pub(crate) sharding: Sharding,
    jobs: HashMap<JobId, JobPosition>,
}

impl Positions {
    pub(crate) fn new(queue: Arc<dyn WorkQueue>, look_back: TimeDelta) -> Self {
        Self {
            queue,
            look_back,
            sharding: Sharding::default(),
            jobs: HashMap::new(),
        }
    }

    /// Forgets all: another process may have planned meanwhile.
    pub(crate) fn clear(&mut self) {
        self.jobs.clear();
    }

    pub(crate) fn of(&self, job_id: &JobId) -> Option<&JobPosition> {
        self.jobs.get(job_id)
    }

    /// Where a job's next plan begins: after the last one, or as far back as the options say.
    pub(crate) async fn start(
        &mut self,
        job_id: &JobId,
        now: DateTime<Utc>,
    ) -> Result<JobPosition, StoreError> {
        if let Some(known) = self.jobs.get_mut(job_id) {
            // The clock may have stepped back while the job was out of the file.
            let until = known.position.planned_until();
            known.position.move_to(until.min(now));
            return Ok(known.clone());
        }
        let stored = self.queue.position(job_id).await?;
        let first = if let Some(stored) = stored {
            let mut position = Position::resume(&stored);
            // The clock may have stepped back since.
            position.move_to(stored.planned_until.min(now));
            JobPosition {
                position,
                began: stored.began,
                snapshot_at: stored.snapshot_at,
                placement: stored.placement,
                stored_until: Some(stored.planned_until),
            }
        } else {
            let first = self.sharding.first_plan(now - self.look_back, now);
            JobPosition {
                position: Position::at(first),
                began: Some(first),
                snapshot_at: None,
                placement: None,
                stored_until: None,
            }
        };
        // From now on the feed tells this process of every change, so nothing that was chosen before is late.
        let later = JobPosition {
            snapshot_at: None,
            ..first.clone()
        };
        self.jobs.insert(job_id.clone(), later);
        Ok(first)
    }

    /// Whether the store knows well enough without these how far the jobs have been planned: a start would plan a stretch
    /// again in which nothing fell due, by the same placement.
    pub(crate) fn are_stored(&self, positions: &[StoredPosition]) -> bool {
        positions.iter().all(|planned| {
            let known = self.jobs.get(&planned.job_id);
            known
                .filter(|known| known.placement == planned.placement)
                .and_then(|known| known.stored_until)
                .is_some_and(|stored| {
                    (TimeDelta::zero()..STORE_EVERY).contains(&(planned.planned_until - stored))
                })
        })
    }

    /// When the positions of these jobs have to be stored again at the latest.
    pub(crate) fn store_at(&self, jobs: &HashSet<JobId>) -> Option<DateTime<Utc>> {
        let known = jobs.iter().filter_map(|job_id| self.jobs.get(job_id));
        let stored = known.filter_map(|known| known.stored_until).min();
        stored.map(|stored| stored + STORE_EVERY)
    }

    /// Goes on from these, which have been stored, or were not worth it.
    pub(crate) fn advance(&mut self, planned: Vec<StoredPosition>, stored: bool) {
        for planned in planned {
            if let Some(known) = self.jobs.get_mut(&planned.job_id) {
                known.position.move_to(planned.planned_until);
                known.began = planned.began.or(known.began);
                known.placement = planned.placement;
                if stored {
                    known.stored_until = Some(planned.planned_until);
                }
            }
        }
    }
}
