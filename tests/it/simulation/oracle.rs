//! What had to happen, from what users chose and operators did alone. It knows the rules and the fault windows, and
//! nothing of how the schedule is kept.

mod erasures;
mod operators;
mod retention;
mod runs;
mod stretch;
mod then;
mod unseen;
mod waiting;

use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    ops::Range,
};

use chrono::{DateTime, TimeDelta, Utc};
use punctual_domain::{
    CatchUpPolicy, Dates, DeadLetter, ItemId, ItemStatus, JobConfig, JobId, Occurrence, TenantId,
    Trigger,
};
use uuid::Uuid;

use super::{
    agents::Call,
    database::{Choices, PROPAGATION_TIMEOUT, Version},
    faults::FaultPlan,
    faulty_store::{Commit, Erasure, Kept, Queued, Removal, RunKey as Key, Wait},
    outcome::{Outcome, Violation},
};

use self::{
    stretch::Interval,
    unseen::{near, overlap},
};

type Instant = DateTime<Utc>;

/// How far behind the last call an agent looks for what the feed brings late.
const FEED_DELAY: TimeDelta = TimeDelta::minutes(2);

/// What was done to a job.
#[derive(Debug, Clone)]
pub struct JobStory {
    pub job_id: JobId,
    /// What the job file says of it, from when on; `None`: nothing.
    pub specs: Vec<(Instant, Option<JobConfig>)>,
    pub pauses: Vec<Range<Instant>>,
}

/// What `explain` said of an occurrence.
#[derive(Debug, Clone)]
pub struct Promise {
    pub asked_at: Instant,
    pub job_id: JobId,
    pub tenant: TenantId,
    pub occurrence: Occurrence,
    pub due_at: Instant,
    /// Whether it will run, or has been left out.
    pub runs: bool,
}

/// A backfill at the end, in calm.
#[derive(Debug, Clone)]
pub struct LastBackfill {
    pub at: Instant,
    pub dates: Dates,
    /// What the preview said that it would run, by job.
    pub to_run: BTreeMap<JobId, usize>,
    /// What it then queued.
    pub batches: BTreeSet<Uuid>,
}

/// All that happened.
pub struct Record {
    pub choices: Choices,
    /// Whether the Config Database says since when a schedule has been as it is.
    pub says_since: bool,
    /// Whether tenants belong to organizations.
    pub has_organizations: bool,
    pub jobs: Vec<JobStory>,
    pub faults: FaultPlan,
    /// When an agent started.
    pub starts: Vec<Instant>,
    /// When one did that remembered nothing.
    pub first_starts: Vec<Instant>,
    /// When full reads held only part of the records.
    pub truncated: Vec<Range<Instant>>,
    pub queued: HashMap<Uuid, Queued>,
    pub commits: Vec<Commit>,
    pub calls: Vec<Call>,
    /// What the first of two purposes has made.
    pub kept: Vec<Kept>,
    /// Calls of the second.
    pub sent: Vec<Call>,
    pub waits: Vec<Wait>,
    /// When batches were cancelled.
    pub batches_cancelled: BTreeMap<Uuid, Instant>,
    /// Items that waited when their batch was over.
    pub overlooked: Vec<ItemId>,
    /// Results that were removed as old.
    pub removed: Vec<Removal>,
    /// Tenants who were erased in the store.
    pub erased: Vec<Erasure>,
    /// The runs that the store knew at the end.
    pub held: BTreeSet<Key>,
    /// What it held of tenants who were erased and have stored nothing since.
    pub held_of_erased: BTreeMap<TenantId, Vec<String>>,
    /// When the clock by which old results are removed was a year ahead.
    pub year_ahead: Option<Range<Instant>>,
    /// Batches that had not ended at the end.
    pub unfinished: Vec<Uuid>,
    pub open_letters: Vec<DeadLetter>,
    pub promises: Vec<Promise>,
    /// The key of each manual run with its batches and tenants.
    pub manual: BTreeMap<String, Vec<Uuid>>,
    pub cancelled: BTreeSet<Uuid>,
    pub last_backfill: LastBackfill,
    /// From the first plan to the end of the moves.
    pub time: Range<Instant>,
}

impl Record {
    /// Whether a schedule, rather than an operator, has brought a batch.
    fn is_scheduled(&self, batch_id: &Uuid) -> bool {
        let trigger = self.queued.get(batch_id).map(|queued| queued.trigger);
        !matches!(
            trigger,
            None | Some(Trigger::Manual | Trigger::Backfill | Trigger::Replay)
        )
    }
}

fn key(commit: &Commit) -> Key {
    (
        commit.job_id.clone(),
        commit.result.item_id.clone(),
        commit.occurrence,
    )
}

fn uses_occurrence_up(status: ItemStatus) -> bool {
    matches!(
        status,
        ItemStatus::Succeeded | ItemStatus::NothingToDo | ItemStatus::Failed
    )
}

struct Judge<'r> {
    record: &'r Record,
    /// What has run for each occurrence, in the order of time.
    done: BTreeMap<Key, Vec<&'r Commit>>,
    cancelled: BTreeSet<Key>,
    /// From when on an occurrence waited, and until when it had its outcome.
    waited: BTreeMap<Key, Range<Instant>>,
    /// What had been queued of tenants when they were erased in the store.
    erased: BTreeSet<Key>,
    outcome: &'r mut Outcome,
}

pub fn judge(record: &Record, outcome: &mut Outcome) {
    let mut done: BTreeMap<Key, Vec<&Commit>> = BTreeMap::new();
    for commit in &record.commits {
        if uses_occurrence_up(commit.result.status) {
            done.entry(key(commit)).or_default().push(commit);
        }
    }
    let cancelled = record.commits.iter();
    let cancelled = cancelled.filter(|commit| record.cancelled.contains(&commit.batch_id));
    let mut judge = Judge {
        record,
        done,
        cancelled: cancelled.map(key).collect(),
        waited: waiting::waited(record),
        erased: erasures::erased(record),
        outcome,
    };
    let tenants: BTreeSet<&TenantId> = record.choices.keys().map(|(_, tenant)| tenant).collect();
    for job in &record.jobs {
        for tenant in &tenants {
            let intervals = record.intervals(job, tenant);
            judge.required(job, tenant, &intervals);
            judge.not_lost_by_job_edits(job, tenant, &intervals);
            judge.calls(job, tenant, &intervals);
            judge.allowed(job, tenant, &intervals);
            judge.promises(job, tenant, &intervals);
            judge.backfilled(job, tenant, &intervals);
        }
    }
    judge.previous();
    judge.organizations();
    judge.at_most_once();
    judge.dead_letters();
    judge.two_purposes();
    judge.waits();
    judge.attempts();
    judge.manual_runs();
    judge.preview();
    judge.removals();
    judge.erasures();
}

impl Judge<'_> {
    fn complain(&mut self, rule: &'static str, about: impl ToString, what: String) {
        self.outcome.violations.push(Violation {
            rule,
            about: about.to_string(),
            what,
        });
    }

    /// Whether an occurrence that was queued has left its batch without an outcome: it has waited for too long, or its tenant
    /// was erased.
    fn has_left(&self, key: &Key, due_at: Instant) -> bool {
        self.erased.contains(key) || self.is_waited_out(key, due_at)
    }

    fn has_run(&self, job: &JobStory, tenant: &TenantId, occurrence: Occurrence) -> bool {
        let key = (job.job_id.clone(), tenant.into(), occurrence);
        self.done.contains_key(&key)
    }

    /// A tenant who is due, and is known to have been seen in time, has run.
    fn required(&mut self, job: &JobStory, tenant: &TenantId, intervals: &[Interval]) {
        let record = self.record;
        for stretch in intervals.iter().filter(|stretch| stretch.feature.is_some()) {
            // The first plan reaches from just after the agent's start on.
            let start = record.time.start + TimeDelta::microseconds(1);
            for (due_at, occurrence) in stretch.due(start) {
                if due_at >= record.time.end {
                    break;
                }
                // By then an agent has planned it, by the true preference, and begun it.
                let planned = record
                    .settled(due_at)
                    .max(stretch.known_by + PROPAGATION_TIMEOUT)
                    + PROPAGATION_TIMEOUT;
                let replaced = stretch.to <= planned;
                if replaced || self.excused(job, tenant, stretch, due_at, occurrence, planned) {
                    self.outcome.excused += 1;
                    continue;
                }
                let key = (job.job_id.clone(), tenant.into(), occurrence);
                if !self.done.contains_key(&key) && self.has_left(&key, due_at) {
                    self.outcome.excused += 1;
                    continue;
                }
                self.outcome.required += 1;
                let which = format!(
                    "{tenant} was due in {} at {due_at} for {occurrence}, chosen since {} and until {}",
                    job.job_id, stretch.since, stretch.to
                );
                match self.done.get(&key).map(|runs| runs[0]) {
                    None => self.complain(
                        "what is due runs",
                        tenant,
                        format!("{which}, and has not run"),
                    ),
                    Some(run) => {
                        let queued_at = record.queued[&run.batch_id].at;
                        let is_late = queued_at > planned && record.is_scheduled(&run.batch_id);
                        if is_late && !self.is_waited_out(&key, due_at) {
                            let what = format!("{which}, and was queued as late as {queued_at}");
                            self.complain("what is due runs in time", tenant, what);
                        }
                    }
                }
            }
        }
    }

    /// Whether faults, moves or the job's own rules may have kept an occurrence from running.
    fn excused(
        &self,
        job: &JobStory,
        tenant: &TenantId,
        stretch: &Interval,
        due_at: Instant,
        occurrence: Occurrence,
        planned: Instant,
    ) -> bool {
        let record = self.record;
        let Some(config) = &job.specs[stretch.spec].1 else {
            return true;
        };
        // An agent that starts while the clock is wrong cannot know what it was before, nor where a job that was out of
        // the file meanwhile had been: the time without it is the latest jump.
        let lost = record.faults.0.iter().any(|window| {
            let restarts = window.down || window.two_agents || window.crash_every.is_some();
            let away = job.specs.windows(2).any(|pair| {
                pair[0].1.is_none() && overlap(&(pair[0].0..pair[1].0), window.from, window.to)
            });
            near(window, due_at) && (restarts || away) && window.clock > TimeDelta::zero()
        });
        let late = planned - due_at;
        // Of several that were missed together only the latest is made up.
        let next = stretch.slot.as_ref().and_then(|slot| {
            let next = slot.next_after(due_at - stretch.spread)?;
            Some(next + stretch.spread)
        });
        let again = next.is_some_and(|next| next <= planned);
        let calm = late <= PROPAGATION_TIMEOUT * 2;
        let dropped = match config.catch_up.policy {
            CatchUpPolicy::All => false,
            CatchUpPolicy::Latest => again,
            CatchUpPolicy::Skip => !calm,
        };
        let too_old = !calm
            && config
                .catch_up
                .window
                .is_some_and(|window| late > window - PROPAGATION_TIMEOUT);
        let key = (job.job_id.clone(), tenant.into(), occurrence);
        // Who starts for the first time on part of the records cannot know of the others.
        let part = record.truncated.iter().any(|part| {
            let blind = |start: &Instant| part.contains(start) && (due_at..planned).contains(start);
            record.starts.iter().any(blind)
        });
        // What the feed brings later than this after it was stored runs nothing from before.
        let shown_late = stretch
            .choice
            .as_ref()
            .is_some_and(|choice| due_at < choice.visible_at - FEED_DELAY);
        lost || part
            || shown_late
            || dropped
            || too_old
            || late > stretch.period() - PROPAGATION_TIMEOUT
            || record.knows_part(job, due_at)
            || record.is_paused(job, due_at, planned)
            || self.cancelled.contains(&key)
    }

    /// A tenant who was still to come when the job file was edited comes, although the new rule would have run them before.
    fn not_lost_by_job_edits(&mut self, job: &JobStory, tenant: &TenantId, intervals: &[Interval]) {
        let record = self.record;
        for pair in intervals.windows(2) {
            let [old, new] = pair else { continue };
            let config = job.specs[new.spec].1.as_ref();
            let made_up = config.is_some_and(|config| {
                config.catch_up.policy != CatchUpPolicy::Skip && config.catch_up.window.is_none()
            });
            let edited = old.spec != new.spec && old.feature == new.feature;
            if !edited || !made_up || old.since != new.since || old.known_by > new.from {
                continue;
            }
            let Some(before) = &old.slot else { continue };
            let next = before.next_after(new.from - old.spread);
            let Some(next) = next.filter(|next| *next - new.from < TimeDelta::hours(26)) else {
                continue;
            };
            let occurrence = before.occurrence_key(next);
            let Some(due_at) = new.due_at(occurrence) else {
                continue;
            };
            let planned = record
                .settled(new.from)
                .max(new.known_by + PROPAGATION_TIMEOUT)
                + PROPAGATION_TIMEOUT;
            if due_at > new.from
                || due_at - new.spread < new.since
                || new.to <= planned
                || new.from < record.time.start
                || planned - due_at > new.period() - PROPAGATION_TIMEOUT * 2
                || self.excused(job, tenant, new, new.from, occurrence, planned)
            {
                continue;
            }
            self.outcome.required += 1;
            let key = (job.job_id.clone(), tenant.into(), occurrence);
            if !self.done.contains_key(&key) && !self.has_left(&key, due_at) {
                let what = format!(
                    "{tenant} was to come in {} at {} for {occurrence} when the job file was edited at {}, and has not \
                     run",
                    job.job_id,
                    next + old.spread,
                    new.from
                );
                self.complain("a job edit costs no run", tenant, what);
            }
        }
    }

    /// What a schedule has run was chosen, in time, and had not been known to be replaced.
    fn allowed(&mut self, job: &JobStory, tenant: &TenantId, intervals: &[Interval]) {
        let record = self.record;
        let commits = record.commits.iter().filter(|commit| {
            uses_occurrence_up(commit.result.status)
                && commit.result.item_id == *tenant
                && commit.job_id == job.job_id
                && record.is_scheduled(&commit.batch_id)
        });
        for commit in commits {
            let (due_at, occurrence) = (commit.scheduled_at, commit.occurrence);
            let queued_at = record.queued[&commit.batch_id].at;
            let which = format!(
                "{tenant} ran in {} for {occurrence}, due {due_at}, queued {queued_at}",
                job.job_id
            );
            let fits: Vec<&Interval> = intervals
                .iter()
                .filter(|stretch| stretch.fits(occurrence, due_at))
                .collect();
            let index =
                |stretch: &&Interval| intervals.iter().position(|s| std::ptr::eq(s, *stretch));
            // On a clock that is behind, what was due before a job was edited is yet to come.
            let clock_is_wrong = record.clock_is_wrong(due_at, queued_at);
            let before = |stretch: &&Interval| {
                let before = index(stretch)?.checked_sub(1)?;
                Some(&intervals[before]).filter(|before| before.spec != stretch.spec)
            };
            // What was to come, or not yet planned, when the job file was edited comes, also where the new rule has it
            // in the past. Of several edits in one outage the agent sees the last, and a job that was out of the file is
            // taken up where it left it.
            let moved = |stretch: &&Interval| {
                let index = index(stretch).unwrap_or(0);
                let seen_with = |next: &Interval| record.settled(next.from) > stretch.from;
                let earlier = (0..index).rev();
                let mut earlier = earlier
                    .take_while(|at| {
                        let next = &intervals[at + 1];
                        *at + 1 == index || next.feature.is_none() || seen_with(next)
                    })
                    .map(|at| (&intervals[at], &intervals[at + 1]))
                    .filter(|(old, _)| old.spec != stretch.spec);
                earlier.any(|(old, next)| {
                    let left_at = match next.feature {
                        None => next.from,
                        Some(_) => stretch.from,
                    };
                    let instant = due_at - stretch.spread;
                    let to_come = |old: &Interval| {
                        old.due_in_place_of(occurrence, instant)
                            .filter(|due_at| old.since_at_most <= *due_at)
                            .is_some_and(|due_at| record.settled(due_at) > left_at)
                    };
                    // It may also have been chosen before the edit was seen.
                    to_come(old)
                        || stretch
                            .under(job, tenant, old.spec)
                            .as_ref()
                            .is_some_and(to_come)
                })
            };
            let chosen = fits.iter().any(|stretch| {
                let next = index(stretch).and_then(|index| intervals.get(index + 1));
                let replaced = next.is_some_and(|next| {
                    next.known_by + PROPAGATION_TIMEOUT < queued_at && next.from <= due_at
                });
                let came_back = before(stretch).is_some_and(|before| before.feature.is_none());
                let in_time = stretch.since <= due_at && (stretch.from <= due_at || came_back);
                let overlooked = (stretch.since_at_most..stretch.since).contains(&due_at);
                // What an outage has kept from being planned is planned by the job file as it was edited meanwhile.
                let edited_meanwhile = stretch.since <= due_at
                    && before(stretch).is_some()
                    && record.settled(due_at) > stretch.from;
                (in_time || overlooked || edited_meanwhile || moved(stretch) || clock_is_wrong)
                    && !replaced
            });
            if !chosen
                && !record.goes_by_memory(job, queued_at)
                && !record.replaced_unseen(job, tenant, occurrence, due_at, queued_at)
            {
                self.complain(
                    "only what was chosen runs",
                    tenant,
                    format!("{which}, and had not chosen it"),
                );
            }
            let to_come = clock_is_wrong || fits.iter().any(moved);
            if due_at < record.time.start - PROPAGATION_TIMEOUT && !to_come {
                self.complain(
                    "the past does not run",
                    tenant,
                    format!("{which}, before the job began"),
                );
            }
            if !clock_is_wrong {
                self.in_time(job, tenant, &fits, due_at, queued_at, &which);
            }
            self.right_result(tenant, commit, &which);
        }
    }

    /// Catch-up has kept within its policy and its window.
    fn in_time(
        &mut self,
        job: &JobStory,
        tenant: &TenantId,
        fits: &[&Interval],
        due_at: Instant,
        queued_at: Instant,
        which: &str,
    ) {
        let spec = job.specs.iter().rev().find(|(at, _)| *at <= due_at);
        let unchanged = job
            .specs
            .iter()
            .all(|(at, _)| *at <= due_at || *at > queued_at);
        let Some((_, Some(config))) = spec.filter(|_| unchanged) else {
            return;
        };
        let window = match config.catch_up.policy {
            CatchUpPolicy::Skip => Some(TimeDelta::minutes(2)),
            _ => config.catch_up.window,
        };
        if window.is_some_and(|window| queued_at - due_at > window + PROPAGATION_TIMEOUT) {
            let what = format!("{which}, later than the job makes up");
            self.complain("catch-up keeps its window", tenant, what);
        }
        if config.catch_up.policy == CatchUpPolicy::Latest {
            let next = |stretch: &&Interval| {
                let next = stretch.slot.as_ref()?.next_after(due_at - stretch.spread)?;
                Some(next + stretch.spread)
            };
            let next = fits.iter().filter_map(next).max();
            if next.is_some_and(|next| next + PROPAGATION_TIMEOUT < queued_at) {
                self.complain(
                    "catch-up makes up the latest",
                    tenant,
                    format!("{which}, and was due again since"),
                );
            }
        }
        let paused = |pause: &Range<Instant>| {
            pause.start + PROPAGATION_TIMEOUT < due_at
                && queued_at + PROPAGATION_TIMEOUT < pause.end
        };
        if job.pauses.iter().any(paused) {
            self.complain(
                "a paused job rests",
                tenant,
                format!("{which}, while the job was paused"),
            );
        }
    }

    fn right_result(&mut self, tenant: &TenantId, commit: &Commit, which: &str) {
        let own = commit.result.status != ItemStatus::Succeeded
            || commit.result.output.as_ref().is_some_and(|output| {
                let output = output.get("written").unwrap_or(output);
                output["tenant"] == tenant.as_str()
                    && output["of"] == tenant.as_str()
                    && output["enabled"] == true
            });
        if !own {
            let output = &commit.result.output;
            self.complain(
                "results are their tenant's",
                tenant,
                format!("{which}, and got the result {output:?}"),
            );
        }
    }

    /// An item begins by the preference in effect, and not before it is due by it, nor when it is too old.
    fn calls(&mut self, job: &JobStory, tenant: &TenantId, intervals: &[Interval]) {
        let record = self.record;
        let calls = record.calls.iter().filter(|call| {
            call.item.item_id == *tenant
                && call.item.job_id == job.job_id
                && record.is_scheduled(&call.item.batch_id)
        });
        for call in calls {
            let occurrence = call.item.occurrence;
            let which = format!(
                "{tenant} was called in {} for {occurrence} at {}",
                job.job_id, call.at
            );
            let n = &call.item.overrides().unwrap()["n"];
            let of_feature = record.choices.iter().filter(|((feature, of), _)| {
                of == tenant && Some(feature) == call.item.feature_type()
            });
            let current = of_feature.flat_map(|(_, versions)| {
                let next = |index: usize| {
                    versions
                        .get(index + 1)
                        .map(|next| next.known_by + PROPAGATION_TIMEOUT)
                };
                let versions = versions.iter().enumerate();
                versions.filter(move |(index, version)| {
                    version.came_at <= call.at && next(*index).is_none_or(|known| known >= call.at)
                })
            });
            let has_n = |version: &Version| {
                let preference = version.preference.as_ref();
                preference.is_some_and(|preference| {
                    preference
                        .get("template_overrides")
                        .is_some_and(|o| o["n"] == *n)
                })
            };
            if !current.map(|(_, version)| version).any(has_n)
                && !record.goes_by_memory(job, call.at)
            {
                self.complain(
                    "an item takes the current preference",
                    tenant,
                    format!("{which} with the old preference {n}"),
                );
            }
            let queued_at = record.queued[&call.item.batch_id].at;
            // What has waited had begun before.
            if record.clock_is_wrong(queued_at, call.at) || record.has_waited(&call.item, call.at) {
                continue;
            }
            let in_effect = intervals.iter().enumerate().filter(|(index, stretch)| {
                let next = intervals.get(index + 1);
                stretch.from <= call.at
                    && next.is_none_or(|next| {
                        next.from > call.at || next.known_by + PROPAGATION_TIMEOUT >= call.at
                    })
            });
            let due = in_effect
                .filter_map(|(_, stretch)| Some((stretch, stretch.due_at(occurrence)?)))
                .filter(|(_, due_at)| *due_at <= call.at);
            // What was planned late has its time from then on.
            let expires_at =
                |(stretch, due_at): (&Interval, Instant)| due_at.max(queued_at) + stretch.period();
            match due.map(expires_at).max() {
                None if record.goes_by_memory(job, queued_at)
                    || record.replaced_unseen(
                        job,
                        tenant,
                        occurrence,
                        call.item.scheduled_at,
                        queued_at,
                    ) => {}
                None => {
                    let what = format!("{which}, and was not due then by what had been chosen");
                    self.complain("an item begins when it is due", tenant, what);
                }
                Some(expires_at) if expires_at + PROPAGATION_TIMEOUT < call.at => {
                    let what = format!("{which}, after it had expired at {expires_at}");
                    self.complain("what has expired does not begin", tenant, what);
                }
                Some(_) => {}
            }
        }
    }
}
