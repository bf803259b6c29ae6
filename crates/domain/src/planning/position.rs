//! How far a job has been planned, on a clock that may step. When the clock steps back, what lies between is planned again
//! when its time comes, and the unique key of an occurrence keeps a tenant who has run from running twice.
//!
//! The scheduler owns the [`Position`] of each job (`Positions` in `punctual-infrastructure`), moves it when a firing has been
//! stored, and stores it with the firing as a [`StoredPosition`]. A mirror is given a copy, by which it knows which of its groups fall due next.

use chrono::{DateTime, TimeDelta, Utc};

use crate::{
    ids::JobId,
    work::{batch::NewBatch, trigger::Trigger},
};

/// A clock that goes back by less has not stepped.
const UNSTEADY: TimeDelta = TimeDelta::seconds(1);
/// A stretch that is planned at once and longer than this was an outage, or a step of the clock.
const JUMP: TimeDelta = TimeDelta::minutes(5);

/// Until when a job has been planned.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Position {
    planned_until: DateTime<Utc>,
    /// Until when it had been planned before the clock stepped back.
    planned_before: Option<DateTime<Utc>>,
    /// Where the last step forward began, and how long it was.
    jump: Option<(DateTime<Utc>, TimeDelta)>,
}

impl Position {
    /// Everything until `until` has been planned.
    #[must_use]
    pub fn at(until: DateTime<Utc>) -> Self {
        Self {
            planned_until: until,
            planned_before: None,
            jump: None,
        }
    }

    /// Goes on from where the store says.
    #[must_use]
    pub fn resume(stored: &StoredPosition) -> Self {
        let high_water_mark = Some(stored.high_water_mark);
        Self {
            planned_before: high_water_mark.filter(|mark| *mark > stored.planned_until),
            ..Self::at(stored.planned_until)
        }
    }

    /// The latest it has ever been planned until.
    #[must_use]
    pub fn high_water_mark(&self) -> DateTime<Utc> {
        self.planned_before
            .map_or(self.planned_until, |before| before.max(self.planned_until))
    }

    /// Until when everything has been planned.
    #[must_use]
    pub fn planned_until(&self) -> DateTime<Utc> {
        self.planned_until
    }

    /// Why what is due at `instant` is planned.
    #[must_use]
    pub fn trigger_at(&self, instant: DateTime<Utc>) -> Trigger {
        match self.planned_before {
            Some(until) if instant <= until => Trigger::ClockStep,
            _ => Trigger::Schedule,
        }
    }

    /// Everything until `now` has been planned. Where the clock has stepped back, the position goes back with it, and
    /// to where it was before an earlier step forward that this one undoes: that step had made one outage of the time
    /// between. Returns whether it went back.
    pub fn move_to(&mut self, now: DateTime<Utc>) -> bool {
        let ahead = now - self.planned_until;
        if ahead >= TimeDelta::zero() {
            if ahead > JUMP {
                self.jump = Some((self.planned_until, ahead));
            }
            self.planned_until = now;
            return false;
        }
        if -ahead < UNSTEADY {
            return false;
        }
        self.planned_before = self.planned_before.max(Some(self.planned_until));
        let undone = self.jump.take().filter(|(_, size)| -ahead * 2 > *size);
        self.planned_until = undone.map_or(now, |(from, _)| from.min(now));
        true
    }
}

/// A job's position as it is stored, with what a later start of the scheduler needs.
#[derive(Debug, Clone, PartialEq)]
pub struct StoredPosition {
    /// The job.
    pub job_id: JobId,
    /// Everything due until then has been put in the queue.
    pub planned_until: DateTime<Utc>,
    /// The latest instant until which it has ever been planned: later than `planned_until` once the clock has stepped back.
    pub high_water_mark: DateTime<Utc>,
    /// When the full read began that the preferences came from, beside what the feed has brought since; `None` for a job with
    /// a fixed schedule.
    pub snapshot_at: Option<DateTime<Utc>>,
    /// When the job began, last had its placement or its fixed schedule edited, or last left something out because it was paused: what fell due
    /// before is not made up for. `None`: before this was kept.
    pub began: Option<DateTime<Utc>>,
    /// How the job placed its tenants, as [`Placement::to_text`](crate::Placement::to_text) says it, or its fixed schedule, as
    /// [`fixed_placement`](crate::fixed_placement) does; `None`: before this was kept.
    pub placement: Option<String>,
}

/// One tick's outcome: stored as a whole or not at all.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Firing {
    /// What fell due.
    pub batches: Vec<NewBatch>,
    /// How far each job has been planned with it.
    pub positions: Vec<StoredPosition>,
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(text: &str) -> DateTime<Utc> {
        format!("2026-03-{text}:00Z").parse().unwrap()
    }

    #[test]
    fn a_step_back_goes_back_and_undoes_a_step_forward() {
        let mut position = Position::at(at("01T09:00"));
        assert!(!position.move_to(at("01T09:01")));
        assert!(!position.move_to(at("01T09:00") + TimeDelta::milliseconds(59_500)));
        assert_eq!(
            position.planned_until(),
            at("01T09:01"),
            "half a second is not a step"
        );

        assert!(position.move_to(at("01T08:00")));
        assert_eq!(
            (
                position.planned_until(),
                position.trigger_at(at("01T09:00"))
            ),
            (at("01T08:00"), Trigger::ClockStep)
        );

        position.move_to(at("01T10:00"));
        position.move_to(at("02T10:00"));
        position.move_to(at("02T10:04"));
        assert!(position.move_to(at("01T10:45")));
        assert_eq!(
            position.planned_until(),
            at("01T10:00"),
            "where the step forward began"
        );
        assert_eq!(position.trigger_at(at("02T10:04")), Trigger::ClockStep);
        assert_eq!(position.trigger_at(at("02T10:05")), Trigger::Schedule);
        assert!(position.move_to(at("01T09:59")));
        assert_eq!(position.planned_until(), at("01T09:59"));
    }
}
