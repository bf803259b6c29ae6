//! How far a schedule has been planned, on a clock that may step. What lies behind the horizon has been planned once;
//! when the clock steps back, what lies between is planned again when its time comes, and the unique key of an
//! occurrence keeps a tenant who has run from running twice.

use chrono::{DateTime, TimeDelta, Utc};

use crate::{
    ids::JobId,
    work::{batch::NewBatch, trigger::Trigger},
};

/// A clock that goes back by less has not stepped.
const UNSTEADY: TimeDelta = TimeDelta::seconds(1);
/// A stretch that is planned at once and longer than this was an outage, or a step of the clock.
const JUMP: TimeDelta = TimeDelta::minutes(5);

/// Until when a schedule has been planned.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Horizon {
    until: DateTime<Utc>,
    before_until: Option<DateTime<Utc>>,
    jump: Option<(DateTime<Utc>, TimeDelta)>,
}

impl Horizon {
    /// Everything until `until` has been planned.
    #[must_use]
    pub fn at(until: DateTime<Utc>) -> Self {
        Self {
            until,
            before_until: None,
            jump: None,
        }
    }

    /// Goes on from where `progress` says.
    #[must_use]
    pub fn resume(progress: &Progress) -> Self {
        let furthest = Some(progress.furthest_until);
        Self {
            before_until: furthest.filter(|furthest| *furthest > progress.scheduled_until),
            ..Self::at(progress.scheduled_until)
        }
    }

    /// The latest it has ever been planned until.
    #[must_use]
    pub fn furthest_until(&self) -> DateTime<Utc> {
        self.before_until
            .map_or(self.until, |until| until.max(self.until))
    }

    /// Until when everything has been planned.
    #[must_use]
    pub fn until(&self) -> DateTime<Utc> {
        self.until
    }

    /// Why what is due at `instant` is planned.
    #[must_use]
    pub fn trigger_at(&self, instant: DateTime<Utc>) -> Trigger {
        match self.before_until {
            Some(until) if instant <= until => Trigger::ClockStep,
            _ => Trigger::Schedule,
        }
    }

    /// Everything until `now` has been planned. Where the clock has stepped back, the horizon goes back with it, and
    /// to where it was before an earlier step forward that this one undoes: that step had made one outage of the time
    /// between. Returns whether it went back.
    pub fn move_to(&mut self, now: DateTime<Utc>) -> bool {
        let ahead = now - self.until;
        if ahead >= TimeDelta::zero() {
            if ahead > JUMP {
                self.jump = Some((self.until, ahead));
            }
            self.until = now;
            return false;
        }
        if -ahead < UNSTEADY {
            return false;
        }
        self.before_until = self.before_until.max(Some(self.until));
        let undone = self.jump.take().filter(|(_, size)| -ahead * 2 > *size);
        self.until = undone.map_or(now, |(from, _)| from.min(now));
        true
    }
}

/// How far a job has been planned.
#[derive(Debug, Clone, PartialEq)]
pub struct Progress {
    /// Which job.
    pub job_id: JobId,
    /// Everything due until then has been put in the queue.
    pub scheduled_until: DateTime<Utc>,
    /// The latest it has ever been scheduled until: later than `scheduled_until` once the clock has stepped back.
    pub furthest_until: DateTime<Utc>,
    /// The preferences used were those of a full read at that time, and what the feed has brought since.
    pub seen_until: Option<DateTime<Utc>>,
    /// When the job began, last had its placement edited, or last left something out because it was paused: what fell due
    /// before is not made up for. `None`: before this was kept.
    pub began: Option<DateTime<Utc>>,
    /// How the job placed its tenants, as [`Placement::to_text`](crate::Placement::to_text) says it; `None` for a job with
    /// a fixed schedule.
    pub placement: Option<String>,
}

/// One tick's outcome: stored as a whole or not at all.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Firing {
    /// What fell due.
    pub batches: Vec<NewBatch>,
    /// How far each job has been planned now.
    pub progress: Vec<Progress>,
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(text: &str) -> DateTime<Utc> {
        format!("2026-03-{text}:00Z").parse().unwrap()
    }

    #[test]
    fn a_step_back_goes_back_and_undoes_a_step_forward() {
        let mut horizon = Horizon::at(at("01T09:00"));
        assert!(!horizon.move_to(at("01T09:01")));
        assert!(!horizon.move_to(at("01T09:00") + TimeDelta::milliseconds(59_500)));
        assert_eq!(
            horizon.until(),
            at("01T09:01"),
            "half a second is not a step"
        );

        assert!(horizon.move_to(at("01T08:00")));
        assert_eq!(
            (horizon.until(), horizon.trigger_at(at("01T09:00"))),
            (at("01T08:00"), Trigger::ClockStep)
        );

        horizon.move_to(at("01T10:00"));
        horizon.move_to(at("02T10:00"));
        horizon.move_to(at("02T10:04"));
        assert!(horizon.move_to(at("01T10:45")));
        assert_eq!(
            horizon.until(),
            at("01T10:00"),
            "where the step forward began"
        );
        assert_eq!(horizon.trigger_at(at("02T10:04")), Trigger::ClockStep);
        assert_eq!(horizon.trigger_at(at("02T10:05")), Trigger::Schedule);
        assert!(horizon.move_to(at("01T09:59")));
        assert_eq!(horizon.until(), at("01T09:59"));
    }
}
