//! The overview: what is wrong first, what runs now, what falls due in the next day.

use std::{
    collections::{BTreeMap, hash_map::DefaultHasher},
    hash::{Hash, Hasher},
    time::Duration,
};

use askama::Template;
use axum::{
    extract::{Form, State, rejection::FormRejection},
    response::{Html, Response},
};
use chrono::{DateTime, NaiveDateTime, TimeDelta, Timelike, Utc};
use punctual_application::{
    DueItems, Finding, Findings, OperatorError, Severity, length_in_words, ports::StoreError,
};
use punctual_domain::{Batch, BatchStatus, JobId};
use serde::Deserialize;
use tokio::time::timeout;
use uuid::Uuid;

use super::{
    App, Problem, Visitor,
    answer::{Done, What},
    render,
    trends::{TrendCharts, height},
};
use crate::{Words, audit::RequestActor, model::BatchProgress, remedies};

const HEATMAP_HOURS: usize = 24;
/// Batches shown of those that are not over, of each status.
const MAX_RUNNING: u32 = 10;
/// Findings shown at once; the rest on request.
const MAX_FINDINGS: usize = 12;
/// How long the store may take to say what goes on.
pub(super) const STORE_TIMEOUT: Duration = Duration::from_secs(5);
/// A lateness from which on seconds do not matter, in milliseconds.
const LONG_LATENESS: u64 = 60_000;

#[derive(Template)]
#[template(path = "overview.html")]
struct OverviewPage {
    visitor: Visitor,
    now: LiveSection,
    /// `None`: the store does not answer.
    trends: Option<TrendCharts>,
    hours: Vec<Hour>,
    heat: Vec<HeatRow>,
    /// Number of items of jobs that are not paused.
    due: usize,
    /// Until when that falls due.
    until: DateTime<Utc>,
    /// The time zone of the hours.
    zone: String,
}

impl OverviewPage {
    fn any_paused(&self) -> bool {
        self.heat.iter().any(|row| row.paused)
    }

    fn live(&self) -> LiveView<'_> {
        LiveView {
            now: &self.now,
            may_operate: self.visitor.may_operate(),
        }
    }
}

/// One hour of the next day, as a bar above its column.
struct Hour {
    label: String,
    items: usize,
    /// Of a hundred, the fullest hour's.
    height: u64,
}

struct HeatRow {
    job_id: JobId,
    /// Whether the job is paused: while it is, what falls due is skipped.
    paused: bool,
    cells: Vec<Cell>,
}

struct Cell {
    items: usize,
    /// From 0, nothing, to 4.
    heat: usize,
}

/// What is going on now, as someone sees it: the part of the page that keeps itself up to date.
#[derive(Template)]
#[template(path = "now.html")]
pub(super) struct LiveView<'s> {
    pub(super) now: &'s LiveSection,
    /// Whether they may acknowledge findings.
    pub(super) may_operate: bool,
}

/// What is going on now, for all who look.
pub(crate) struct LiveSection {
    /// When it was read.
    pub(super) at: DateTime<Utc>,
    /// Differs when what falls due next may be something else, upon which the page reads that again.
    ahead: u64,
    /// Findings that no operator has acknowledged, the worst first.
    unacknowledged: Vec<FindingRow>,
    /// The rest of them, shown on request.
    more: Vec<FindingRow>,
    /// What operators have acknowledged.
    known: Vec<FindingRow>,
    /// Whether something of it is critical.
    known_is_critical: bool,
    /// `None`: the store does not answer.
    figures: Option<Figures>,
}

/// How what fell due in the last hour has done, and what runs.
struct Figures {
    running: Vec<RunningBatch>,
    batches: u64,
    items: u64,
    failed: u64,
    lateness: String,
    /// Number of items whose work goes on elsewhere.
    waiting: u64,
}

/// Something that is wrong, and where to see more.
struct FindingRow {
    id: String,
    state: Uuid,
    severity: Severity,
    text: String,
    remedy: String,
    /// The section of the runbook.
    runbook: &'static str,
    since: Option<DateTime<Utc>>,
    link: String,
    /// The page that puts it right once the cause is gone, where it is another one, and what the link says.
    fix: Option<(String, &'static str)>,
    /// Who acknowledged it.
    by: String,
    acknowledged_at: Option<DateTime<Utc>>,
}

impl FindingRow {
    fn of(finding: &Finding, words: &Words) -> Self {
        let known = finding.acknowledged.as_ref();
        Self {
            id: finding.id(),
            state: finding.state(),
            severity: finding.severity,
            text: finding.in_full(),
            remedy: (words.remedy)(&finding.kind),
            runbook: remedies::runbook(&finding.kind),
            since: finding.since,
            link: remedies::link(&finding.kind),
            fix: remedies::fix(&finding.kind),
            by: known.map(|known| known.by.clone()).unwrap_or_default(),
            acknowledged_at: known.map(|known| known.at),
        }
    }
}

struct RunningBatch {
    batch: Batch,
    left: String,
}

pub(super) async fn show(
    State(app): State<App>,
    visitor: Visitor,
) -> Result<Html<String>, Problem> {
    let from = app.operator.clock.now();
    // Columns begin at full hours, so that what falls due at 17:00 is in that of 17:00.
    let begin = from - app.since_full_hour(from);
    let until = begin + TimeDelta::hours(HEATMAP_HOURS as i64);
    let due = app.operator.due_between(from, until).await;
    let mut by_job: BTreeMap<JobId, [usize; HEATMAP_HOURS]> = BTreeMap::new();
    for DueItems { at, job_id, items } in due {
        let hour = (at - begin).num_hours().clamp(0, HEATMAP_HOURS as i64 - 1) as usize;
        by_job.entry(job_id).or_default()[hour] += items;
    }
    let paused = timeout(STORE_TIMEOUT, app.operator.queue.paused());
    let (paused, (now, _), trends) = tokio::join!(paused, app.now(), app.trends(None));
    let paused = paused.ok().and_then(Result::ok).unwrap_or_default();
    let runs = |job_id: &JobId| !paused.contains_key(job_id);
    let total = |hour: usize| {
        let of_jobs = by_job.iter().filter(|(job_id, _)| runs(job_id));
        of_jobs.map(|(_, hours)| hours[hour]).sum::<usize>()
    };
    let totals: Vec<usize> = (0..HEATMAP_HOURS).map(total).collect();
    let fullest = totals.iter().copied().max().unwrap_or(0).max(1);
    let hours = totals.iter().enumerate().map(|(hour, items)| Hour {
        label: app.label(begin + TimeDelta::hours(hour as i64), "%H:%M"),
        items: *items,
        height: height(*items as u64, fullest as u64),
    });
    let most = by_job.values().flatten().copied().max().unwrap_or(0).max(1);
    let heat = by_job.iter().map(|(job_id, hours)| HeatRow {
        job_id: job_id.clone(),
        paused: !runs(job_id),
        cells: hours
            .iter()
            .map(|items| Cell {
                items: *items,
                heat: (items * 4).div_ceil(most),
            })
            .collect(),
    });
    render(&OverviewPage {
        visitor,
        now,
        trends,
        until,
        hours: hours.collect(),
        heat: heat.collect(),
        due: totals.iter().sum(),
        zone: app.operator.zone.to_string(),
    })
}

#[derive(Deserialize)]
pub(super) struct AcknowledgeForm {
    id: String,
    state: Uuid,
    /// `yes`, or `no` to withdraw it.
    known: String,
}

pub(super) async fn acknowledge(
    State(app): State<App>,
    _visitor: Visitor,
    RequestActor(actor): RequestActor,
    form: Result<Form<AcknowledgeForm>, FormRejection>,
) -> Result<Response, Problem> {
    let Form(AcknowledgeForm { id, state, known }) = form?;
    let known = known == "yes";
    let what = match app.operator.acknowledge(&actor, &id, state, known).await {
        Ok(_) if known => What::Acknowledged,
        Ok(_) => What::Unacknowledged,
        Err(OperatorError::NotFound(_)) => What::FindingOver,
        Err(OperatorError::Conflict(_)) => What::FindingChanged,
        Err(error) => return Err(error.into()),
    };
    Ok(Done::new(what).then("/"))
}

impl LiveSection {
    /// Number of findings that no operator has acknowledged.
    fn wrong(&self) -> usize {
        self.unacknowledged.len() + self.more.len()
    }

    fn of(app: &App, at: DateTime<Utc>, findings: &Findings, figures: Option<Figures>) -> Self {
        let rows = findings.all().into_iter();
        let rows = rows.map(|finding| FindingRow::of(finding, &app.words));
        let (known, mut unacknowledged): (Vec<_>, Vec<_>) =
            rows.partition(|row| row.acknowledged_at.is_some());
        let is_critical = |row: &FindingRow| row.severity == Severity::Critical;
        Self {
            at,
            ahead: app.ahead(at),
            more: unacknowledged.split_off(unacknowledged.len().min(MAX_FINDINGS)),
            unacknowledged,
            known_is_critical: known.iter().any(is_critical),
            known,
            figures,
        }
    }
}

impl App {
    fn local(&self, at: DateTime<Utc>) -> Option<NaiveDateTime> {
        self.operator.zone.local(at)
    }

    /// An instant in the zone of the operator, in a form of chrono.
    pub(super) fn label(&self, at: DateTime<Utc>, form: &str) -> String {
        let local = self.local(at);
        local.map_or_else(String::new, |local| local.format(form).to_string())
    }

    /// How long ago the hour began in which an instant is.
    fn since_full_hour(&self, at: DateTime<Utc>) -> TimeDelta {
        let local = self.local(at).unwrap_or_else(|| at.naive_utc());
        let seconds = i64::from(local.minute() * 60 + local.second());
        TimeDelta::seconds(seconds) + TimeDelta::nanoseconds(local.nanosecond().into())
    }

    /// The hash of what tells that something else falls due next: the hour, and what the scheduler knows of the jobs. A preference
    /// that only moves shows with the next look after half a minute.
    fn ahead(&self, at: DateTime<Utc>) -> u64 {
        let mut hasher = DefaultHasher::new();
        (at - self.since_full_hour(at)).hash(&mut hasher);
        self.hash_jobs(at, &mut hasher);
        hasher.finish()
    }

    /// What goes on now, and whether the store has said so. While it fails, or takes too long, it is what is known without it.
    pub(super) async fn now(&self) -> (LiveSection, bool) {
        let at = self.operator.clock.now();
        let stored = async {
            let (figures, findings) = (self.figures().await?, self.operator.findings().await?);
            let section = LiveSection::of(self, at, &findings, Some(figures));
            Ok::<_, StoreError>(section)
        };
        if let Ok(Ok(section)) = timeout(STORE_TIMEOUT, stored).await {
            return (section, true);
        }
        let findings = self.operator.readiness().await;
        let section = LiveSection::of(self, at, &findings, None);
        (section, false)
    }

    async fn figures(&self) -> Result<Figures, StoreError> {
        let now = self.operator.clock.now();
        let activity = self
            .operator
            .operations
            .activity(now - TimeDelta::hours(1))
            .await?;
        let worst = activity.iter().map(|job| job.worst_lateness_ms).max();
        let waiting = self.operator.waiting.waiting_counts().await?;
        let paused = self.operator.queue.paused().await?;
        let mut running = Vec::new();
        for status in [BatchStatus::Running, BatchStatus::Queued] {
            let batches = self.operator.newest(Some(status), MAX_RUNNING).await?;
            running.extend(batches.into_iter().map(|batch| {
                let paused = paused.contains_key(&batch.job_id);
                RunningBatch::of(batch, paused, now)
            }));
        }
        Ok(Figures {
            running,
            batches: activity.iter().map(|job| job.batches).sum(),
            items: activity.iter().map(|job| job.items).sum(),
            failed: activity.iter().map(|job| job.failed).sum(),
            lateness: worst.map_or_else(|| "–".to_owned(), lateness_now),
            waiting: waiting.values().sum(),
        })
    }
}

/// How late something was queued, in words.
pub(super) fn lateness(ms: u64) -> String {
    if ms < LONG_LATENESS {
        return format!("{:.1} s", ms as f64 / 1000.0);
    }
    length_in_words(TimeDelta::milliseconds(ms as i64))
}

/// The same; a long one is that of what was made up.
fn lateness_now(ms: u64) -> String {
    let words = lateness(ms);
    if ms < LONG_LATENESS {
        words
    } else {
        format!("{words} (made up after a delay)")
    }
}

impl RunningBatch {
    fn of(batch: Batch, paused: bool, now: DateTime<Utc>) -> Self {
        let (done, total) = (batch.processed(), batch.total);
        let left = match done {
            _ if paused => format!("paused, {} left", total.saturating_sub(done)),
            _ if BatchProgress::from(&batch).only_waits() => "waiting for completions".to_owned(),
            0 => "not begun".to_owned(),
            _ if done >= total => "ending".to_owned(),
            _ => {
                let taken = (now - batch.created_at).num_milliseconds().max(0) as f64;
                let left = taken / done as f64 * (total - done) as f64;
                format!(
                    "about {} left",
                    length_in_words(TimeDelta::milliseconds(left as i64))
                )
            }
        };
        Self { batch, left }
    }
}
