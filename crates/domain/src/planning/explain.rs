//! Why a tenant ran, will run, or did not, from what was chosen, how far the schedule has been planned, and what
//! has been run. Pure; the caller brings the facts.

use std::{collections::BTreeSet, fmt};

use chrono::{DateTime, NaiveDate, TimeDelta, Utc};
use serde::{Deserialize, Serialize};

use crate::{
    input::errors::FieldErrors,
    planning::{
        backfill::Dates,
        catch_up::{CatchUp, CatchUpPolicy},
    },
    preference::{change::PreferenceRecord, effective::MergedPreference, stored::Preference},
    time::{occurrence::Occurrence, schedule::Schedule, zone::Zone},
    work::{
        outcome::{FailureKind, ItemResult, ItemStatus},
        waiting::{Progress, WaitingStatus},
    },
};

/// What is known of a tenant's preference.
#[derive(Debug, Clone, PartialEq)]
pub enum Choice {
    /// Nothing: it cannot be read, and never has been.
    Unknown,
    /// There is none.
    Missing,
    /// It cannot be used.
    Invalid(FieldErrors),
    /// It is off.
    Off,
    /// It is on.
    On {
        /// Schedule of the tenant.
        schedule: Schedule,
        /// By how much the tenant falls due after the slot.
        spread: TimeDelta,
        /// From when its occurrences count; `None`: long ago.
        schedule_since: Option<DateTime<Utc>>,
    },
}

impl Choice {
    /// What a stored preference comes to in a job with these defaults, that spreads this tenant by `spread`.
    #[must_use]
    pub fn of(
        record: &PreferenceRecord,
        defaults: &Preference,
        zone: &Zone,
        spread: TimeDelta,
    ) -> Self {
        let stored = match Preference::parse(&record.preference) {
            Err(errors) => return Self::Invalid(errors),
            Ok(stored) if !stored.is_on(defaults) => return Self::Off,
            Ok(stored) => stored,
        };
        match MergedPreference::merge(&stored, defaults, zone) {
            Err(errors) => Self::Invalid(errors),
            Ok(merged) => Self::On {
                schedule: merged.slot.into(),
                spread,
                schedule_since: record.schedule_since.or(record.updated_at),
            },
        }
    }

    /// The occurrence that a question about `date` means, in the tenant's zone; today without one. Of several on one
    /// date it is the last one that has passed, else the first.
    #[must_use]
    pub fn occasion(&self, date: Option<NaiveDate>, now: DateTime<Utc>) -> Option<Occasion> {
        let Self::On {
            schedule, spread, ..
        } = self
        else {
            return None;
        };
        let date = match date {
            Some(date) => date,
            None => schedule.zone().local(now)?.date(),
        };
        let due: Vec<_> = Dates::only(date).occurrences_of(schedule).collect();
        let passed = due
            .iter()
            .rev()
            .find(|(instant, _)| *instant + *spread <= now);
        let (instant, occurrence) = *passed.or(due.first())?;
        Some(Occasion {
            due_at: instant + *spread,
            occurrence,
        })
    }

    /// When the tenant falls due next, after `now`, for an occurrence that is not among those `used`.
    #[must_use]
    pub fn next_run(
        &self,
        now: DateTime<Utc>,
        used: &BTreeSet<Occurrence>,
    ) -> Option<DateTime<Utc>> {
        let Self::On {
            schedule, spread, ..
        } = self
        else {
            return None;
        };
        let first = schedule.next_after(now - *spread);
        let mut instants = std::iter::successors(first, |last| schedule.next_after(*last));
        let next = instants.find(|instant| !used.contains(&schedule.occurrence_key(*instant)))?;
        Some(next + *spread)
    }

    /// Why nothing runs with it, whatever the date; `None`: it is on.
    fn without_runs(&self) -> Option<Verdict> {
        match self {
            Self::Unknown => Some(Verdict::Unknown),
            Self::Missing => Some(Verdict::NeverSeen),
            Self::Off => Some(Verdict::Disabled),
            Self::Invalid(errors) => {
                let errors = errors.clone();
                Some(Verdict::Quarantined { errors })
            }
            Self::On { .. } => None,
        }
    }
}

/// An occurrence that is asked about.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Occasion {
    /// Due time of the run.
    pub due_at: DateTime<Utc>,
    /// Its key.
    pub occurrence: Occurrence,
}

/// Everything a verdict rests on.
#[derive(Debug)]
pub struct Facts<'f> {
    /// What the tenant chose.
    pub choice: Choice,
    /// What happens to missed occurrences of the job.
    pub catch_up: CatchUp,
    /// The date asked about; `None`: today.
    pub date: Option<NaiveDate>,
    /// The time now.
    pub now: DateTime<Utc>,
    /// Whether the job is paused.
    pub paused: bool,
    /// Whether the job was paused when the occurrence fell due.
    pub paused_when_due: bool,
    /// Until when the job has been planned; `None`: not yet.
    pub planned_until: Option<DateTime<Utc>>,
    /// When the job [began](crate::StoredPosition::began), if that is known: it plans nothing that fell due until then.
    pub began: Option<DateTime<Utc>>,
    /// The result of the occurrence, if it has one.
    pub run: Option<&'f ItemResult>,
    /// Whether it stands in a batch that is not done, and how many items do before it.
    pub behind: Option<u64>,
    /// The occurrences that have a result or are in progress: nothing runs for them again, also at another time of their date.
    pub used: BTreeSet<Occurrence>,
}

impl Facts<'_> {
    /// What keeps the tenant's next run back, in words, where the verdict is about a run of the past or a date without one.
    #[must_use]
    pub fn held_back(&self, verdict: &Verdict) -> Option<String> {
        if self.run.is_none() && !matches!(verdict, Verdict::NotDue { .. }) {
            return None;
        }
        match self.choice.without_runs() {
            Some(verdict) => Some(format!("now {verdict}")),
            None => self.paused.then(|| "now the job is paused".to_owned()),
        }
    }

    /// When the next run falls due; `None` while the job is paused.
    fn next(&self) -> Option<DateTime<Utc>> {
        let next = self.choice.next_run(self.now, &self.used);
        next.filter(|_| !self.paused)
    }
}

/// Why a tenant ran, will run, or did not.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(tag = "verdict", rename_all = "snake_case")]
pub enum Verdict {
    /// The preference cannot be read, and nothing is known of it: nothing runs on a guess.
    Unknown,
    /// The tenant has no preference for the job's feature.
    NeverSeen,
    /// The preference is off.
    Disabled,
    /// The preference cannot be used.
    Quarantined {
        /// Mistakes in the preference.
        errors: FieldErrors,
    },
    /// The job has nothing to do on the date.
    NotDue {
        /// Next due time.
        next: Option<DateTime<Utc>>,
    },
    /// The job is paused.
    JobPaused {
        /// Due time of the run.
        due_at: DateTime<Utc>,
    },
    /// The job was paused when it fell due.
    JobWasPaused {
        /// Due time of the run.
        due_at: DateTime<Utc>,
        /// Next due time.
        next: Option<DateTime<Utc>>,
    },
    /// The run falls due later.
    WillRun {
        /// Due time of the run.
        due_at: DateTime<Utc>,
    },
    /// The schedule was chosen after its time had passed.
    StoredTooLate {
        /// Due time of the run that was left out.
        due_at: DateTime<Utc>,
        /// Since when the schedule has been in effect.
        schedule_since: DateTime<Utc>,
        /// Next due time.
        next: Option<DateTime<Utc>>,
    },
    /// The run would have been due before the job began.
    JobNotBegun {
        /// Due time of the run that was left out.
        due_at: DateTime<Utc>,
        /// When the job began, was last edited, or last left something out because it was paused.
        began: DateTime<Utc>,
        /// Next due time.
        next: Option<DateTime<Utc>>,
    },
    /// The run is due and has not been planned yet.
    DueNow {
        /// Due time of the run.
        due_at: DateTime<Utc>,
    },
    /// The run is in the queue.
    Waiting {
        /// Due time of the run.
        due_at: DateTime<Utc>,
        /// Number of items ahead in the queue.
        behind: u64,
        /// Whether the job is paused, so that the run waits until it is resumed.
        #[serde(default)]
        paused: bool,
    },
    /// The run is in progress.
    Running {
        /// When the first attempt began.
        started_at: DateTime<Utc>,
    },
    /// The work of the run goes on elsewhere, and the run waits for its completion.
    WaitsForCompletion {
        /// Since when it has been waiting.
        since: DateTime<Utc>,
        /// Its deadline.
        until: DateTime<Utc>,
        /// How far the work has come; `None`: its worker has not said.
        progress: Option<Progress>,
    },
    /// The run has ended.
    Ran {
        /// When the run ended.
        finished_at: Option<DateTime<Utc>>,
        /// Next due time.
        next: Option<DateTime<Utc>>,
    },
    /// The run has ended, and there was nothing to do.
    NothingToDo {
        /// Why there was nothing to do.
        reason: String,
        /// When the run ended.
        finished_at: Option<DateTime<Utc>>,
        /// Next due time.
        next: Option<DateTime<Utc>>,
    },
    /// The run failed for good.
    Failed {
        /// Kind of the failure.
        #[serde(default)]
        failure_kind: FailureKind,
        /// Number of attempts.
        attempts: u32,
        /// Error of the last attempt.
        error: String,
        /// Next due time.
        next: Option<DateTime<Utc>>,
    },
    /// The run was queued and then skipped.
    Skipped {
        /// Reason for the skip.
        reason: String,
        /// Next due time.
        next: Option<DateTime<Utc>>,
    },
    /// The agent did not plan it in time, and the job does not make it up.
    Missed {
        /// Due time of the run.
        due_at: DateTime<Utc>,
        /// The job's policy.
        policy: CatchUpPolicy,
        /// Next due time.
        next: Option<DateTime<Utc>>,
    },
}

impl Verdict {
    /// Whether what the tenant has chosen now has no run on the date: a run that was due on it under an earlier choice says more.
    #[must_use]
    pub fn has_no_run(&self) -> bool {
        matches!(
            self,
            Self::Unknown
                | Self::NeverSeen
                | Self::Disabled
                | Self::Quarantined { .. }
                | Self::NotDue { .. }
                | Self::StoredTooLate { .. }
                | Self::JobNotBegun { .. }
        )
    }
}

/// The verdict on an occasion; see [`Choice::occasion`].
#[must_use]
pub fn explain(facts: &Facts<'_>) -> Verdict {
    if let Some(run) = facts.run {
        return of_run(run, facts.next());
    }
    if let Some(verdict) = facts.choice.without_runs() {
        return verdict;
    }
    let next = facts.next();
    let Some(Occasion { due_at, .. }) = facts.choice.occasion(facts.date, facts.now) else {
        return Verdict::NotDue { next };
    };
    if let Some(behind) = facts.behind {
        return Verdict::Waiting {
            due_at,
            behind,
            paused: facts.paused,
        };
    }
    if facts.paused {
        return Verdict::JobPaused { due_at };
    }
    if due_at > facts.now {
        return Verdict::WillRun { due_at };
    }
    let schedule_since = match &facts.choice {
        Choice::On { schedule_since, .. } => *schedule_since,
        _ => None,
    };
    let before_job = |began: &DateTime<Utc>| due_at <= *began && !facts.paused_when_due;
    match (schedule_since, facts.began.filter(before_job)) {
        (Some(schedule_since), _) if due_at < schedule_since => Verdict::StoredTooLate {
            due_at,
            schedule_since,
            next,
        },
        (_, Some(began)) => Verdict::JobNotBegun {
            due_at,
            began,
            next,
        },
        _ if facts.planned_until.is_none_or(|until| until < due_at) => Verdict::DueNow { due_at },
        _ if facts.paused_when_due => Verdict::JobWasPaused { due_at, next },
        _ => Verdict::Missed {
            due_at,
            policy: facts.catch_up.policy,
            next,
        },
    }
}

fn of_run(run: &ItemResult, next: Option<DateTime<Utc>>) -> Verdict {
    let error = run.error.clone().unwrap_or_default();
    match (run.status, &run.waiting) {
        (ItemStatus::Waiting, Some(waiting)) => {
            let WaitingStatus {
                since,
                until,
                progress,
            } = waiting.clone();
            Verdict::WaitsForCompletion {
                since,
                until,
                progress,
            }
        }
        (ItemStatus::Running | ItemStatus::Waiting, _) => Verdict::Running {
            started_at: run.started_at,
        },
        (ItemStatus::Succeeded, _) => Verdict::Ran {
            finished_at: run.finished_at,
            next,
        },
        (ItemStatus::Failed, _) => Verdict::Failed {
            failure_kind: run.failure_kind.unwrap_or_default(),
            attempts: run.attempts,
            error,
            next,
        },
        (ItemStatus::NothingToDo, _) => Verdict::NothingToDo {
            reason: error,
            finished_at: run.finished_at,
            next,
        },
        (ItemStatus::Skipped, _) => Verdict::Skipped {
            reason: error,
            next,
        },
    }
}

impl fmt::Display for Verdict {
    /// The verdict as a sentence.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let at = |instant: &DateTime<Utc>| instant.format("%Y-%m-%d %H:%M:%S UTC").to_string();
        let then = |next: &Option<DateTime<Utc>>| match next {
            Some(next) => format!("; due next at {}", at(next)),
            None => String::new(),
        };
        match self {
            Self::Unknown => f.write_str(
                "unknown: the preference has not been read, so nothing runs; check that the \
                 Config Database answers",
            ),
            Self::NeverSeen => f.write_str("has no preference for this feature"),
            Self::Disabled => f.write_str("disabled: the preference is switched off"),
            Self::Quarantined { errors } => {
                write!(f, "quarantined: the preference cannot be used: {errors}")
            }
            Self::NotDue { next } => write!(f, "not due on that date{}", then(next)),
            Self::JobPaused { due_at } => write!(
                f,
                "not run: the job is paused, and its run at {} is skipped",
                at(due_at)
            ),
            Self::JobWasPaused { due_at, next } => write!(
                f,
                "not run: the job was paused at {}{}",
                at(due_at),
                then(next)
            ),
            Self::WillRun { due_at } => write!(f, "will run: due at {}", at(due_at)),
            Self::StoredTooLate {
                due_at,
                schedule_since,
                next,
            } => write!(
                f,
                "not run: the schedule was chosen at {}, after the run was due at {}{}",
                at(schedule_since),
                at(due_at),
                then(next)
            ),
            Self::JobNotBegun {
                due_at,
                began,
                next,
            } => write!(
                f,
                "not run: due at {}, before the job began (or was last edited or paused) at {}{}",
                at(due_at),
                at(began),
                then(next)
            ),
            Self::DueNow { due_at } => write!(
                f,
                "due at {} and not planned yet; check that an agent is running and ready",
                at(due_at)
            ),
            Self::Waiting {
                due_at,
                behind,
                paused,
            } => {
                write!(
                    f,
                    "due at {}, waiting in the queue behind {behind} items",
                    at(due_at)
                )?;
                if *paused {
                    f.write_str("; the job is paused, and the run waits until it is resumed")?;
                }
                Ok(())
            }
            Self::Running { started_at } => write!(f, "running since {}", at(started_at)),
            Self::WaitsForCompletion {
                since,
                until,
                progress,
            } => {
                write!(
                    f,
                    "waits for a completion until {}, since {}",
                    at(until),
                    at(since)
                )?;
                match progress {
                    Some(Progress { note, .. }) => write!(f, "; its worker says: {note}"),
                    None => Ok(()),
                }
            }
            Self::Ran { finished_at, next } => match finished_at {
                Some(finished_at) => write!(f, "ran, done at {}{}", at(finished_at), then(next)),
                None => write!(f, "ran{}", then(next)),
            },
            Self::NothingToDo {
                reason,
                finished_at,
                next,
            } => match finished_at {
                Some(finished_at) => {
                    write!(
                        f,
                        "ran, nothing to do: {reason}; done at {}{}",
                        at(finished_at),
                        then(next)
                    )
                }
                None => write!(f, "ran, nothing to do: {reason}{}", then(next)),
            },
            Self::Failed {
                failure_kind,
                attempts,
                error,
                next,
            } => {
                let next = then(next);
                let (what, error) = match failure_kind {
                    FailureKind::Handler => ("", error.as_str()),
                    FailureKind::Data => {
                        let problem = error.strip_prefix("data: ");
                        (" to fetch its data", problem.unwrap_or(error))
                    }
                };
                match attempts {
                    1 => write!(f, "failed at the first attempt{what}: {error}{next}"),
                    _ => write!(f, "failed after {attempts} attempts{what}: {error}{next}"),
                }
            }
            Self::Skipped { reason, next } => write!(f, "skipped: {reason}{}", then(next)),
            Self::Missed {
                due_at,
                policy,
                next,
            } => write!(
                f,
                "missed: the agent did not plan it at {}, and this job's catch_up is {}{}",
                at(due_at),
                policy.as_str(),
                then(next)
            ),
        }
    }
}

#[cfg(test)]
mod tests;
