//! The jobs: what they are for, when they fall due, how they do, and what an operator can do with them.

use std::collections::BTreeSet;

use askama::Template;
use axum::{
    extract::{Form, Path, Query, State, rejection::FormRejection, rejection::QueryRejection},
    response::{Html, IntoResponse, Response},
};
use chrono::{DateTime, TimeDelta, Utc};
use punctual_application::{
    Finding, FindingKind, IdempotencyKey, JobView, OperatorError, Severity, SlotStatus,
    TriggerRequest, amount, first_of, length_in_words,
    ports::{BatchFilter, DeadLetterFilter, JobActivity, Page, StoreError},
};
use punctual_domain::{Batch, DeadLetterState, JobId, TenantId};
use punctual_web::Empty;
use serde::Deserialize;

use super::{
    App, Live, Visitor,
    answer::{Done, What},
    confirm::Confirm,
    render, render_wrong,
    trends::TrendCharts,
};
use crate::{
    audit::RequestActor, idempotency::IdempotencyHeader, page::batches::BatchRow, problem::Problem,
};

/// Number of batches, and of slots, shown of a job.
const MAX_ROWS: usize = 10;
/// What follows from a run that an operator asks for.
const RUNS_AT_ONCE: &str =
    "They run at once, whatever their schedule says, and run again when that falls due.";
/// Tenants that a question names.
const MAX_NAMED: usize = 10;

pub(super) struct JobRow {
    pub(super) job: JobView,
    activity: Option<JobActivity>,
    /// What is wrong with the job.
    pub(super) findings: Vec<Finding>,
}

impl JobRow {
    fn of(job: JobView, activity: &[JobActivity], findings: &[&Finding]) -> Self {
        let activity = activity.iter().find(|done| done.job_id == job.job_id);
        let of_job = findings.iter().filter(|one| one.kind.concerns(&job.job_id));
        Self {
            activity: activity.cloned(),
            findings: of_job.map(|finding| (*finding).clone()).collect(),
            job,
        }
    }

    fn tenants(&self) -> Option<usize> {
        self.job.preferences().map(|follows| follows.tenants)
    }

    /// What all of its items are called.
    fn everyone(&self) -> String {
        match self.tenants() {
            Some(tenants) => format!("All {}", amount(tenants as u64, "tenant")),
            None => "All items".to_owned(),
        }
    }

    fn slots(&self) -> &[SlotStatus] {
        let all = self
            .job
            .preferences()
            .map(|follows| follows.slots.as_slice());
        let all = all.unwrap_or_default();
        &all[..all.len().min(MAX_ROWS)]
    }

    /// Why no tenant is scheduled, as HTML; `None`: some are, or the job does not follow preferences.
    fn no_slots(&self) -> Option<String> {
        let follows = self.job.preferences().filter(|_| self.slots().is_empty())?;
        let feature = &follows.feature_type;
        let empty = if follows.loaded {
            Empty::of("No tenant is scheduled.").note(format!(
                "Tenants appear here within seconds after they have switched {feature} on, on their preference page or \
                 through the API."
            ))
        } else {
            Empty::of(format!(
                "The preferences of {feature} have not been read yet."
            ))
            .link("/", "See what is wrong")
        };
        Some(empty.html())
    }

    /// When it falls due next; `None`: never, or it is paused.
    fn next(&self) -> Option<DateTime<Utc>> {
        self.job.next().filter(|_| !self.job.paused)
    }

    /// Of the items of the last day that have ended, by the due time of their batch, how many in a hundred did not fail.
    fn success_rate(&self) -> String {
        match &self.activity {
            Some(done) if done.succeeded + done.nothing_to_do + done.failed > 0 => {
                let good = done.succeeded + done.nothing_to_do;
                let ended = good + done.failed;
                let rate = good as f64 * 100.0 / ended as f64;
                format!("{rate:.1} % of {ended}")
            }
            _ => "–".to_owned(),
        }
    }

    /// A word for how it does.
    fn state(&self) -> &'static str {
        // On the last known preferences it runs as before.
        let runs = self.job.preferences().is_none_or(|follows| follows.loaded);
        let is_bad = |finding: &Finding| match &finding.kind {
            FindingKind::Preferences { .. } if runs => false,
            _ => finding.severity != Severity::Notice,
        };
        match &self.job {
            job if job.paused => "paused",
            _ if self.findings.iter().any(is_bad) => "failing",
            _ if !self.findings.is_empty() => "needs attention",
            _ => "on schedule",
        }
    }

    fn state_class(&self) -> &'static str {
        match self.state() {
            "on schedule" => "on",
            "failing" => "wrong",
            _ => "notice",
        }
    }

    fn timeout(&self) -> String {
        let timeout = self.job.limits.timeout_ms;
        timeout.map_or_else(
            || "–".to_owned(),
            |ms| length_in_words(TimeDelta::milliseconds(ms as i64)),
        )
    }

    /// What each organization is limited to, in words; `None`: nothing.
    fn per_organization(&self) -> Option<String> {
        let limits = &self.job.limits;
        let then = self.job.then.as_ref().map(ToString::to_string);
        let of_then = format!("of {} per minute", then.unwrap_or_default());
        let limits = [
            (
                limits.max_concurrent_items_per_organization,
                "item",
                "at one time",
            ),
            (
                limits.requests_per_minute_per_organization,
                "call",
                "per minute",
            ),
            (
                limits.tokens_per_minute_per_organization,
                "token",
                "per minute",
            ),
            (
                limits.then_requests_per_minute_per_organization,
                "call",
                of_then.as_str(),
            ),
            (
                limits.then_tokens_per_minute_per_organization,
                "token",
                of_then.as_str(),
            ),
        ];
        let in_words = |(most, one, how): (Option<u32>, &str, &str)| {
            Some(format!("{} {how}", amount(most?.into(), one)))
        };
        let in_words: Vec<String> = limits.into_iter().filter_map(in_words).collect();
        (!in_words.is_empty()).then(|| in_words.join(", "))
    }

    fn expires_after(&self) -> String {
        let after = self.job.limits.expires_after_s;
        after.map_or_else(
            || "one period of its schedule".to_owned(),
            |seconds| length_in_words(TimeDelta::seconds(seconds)),
        )
    }
}

#[derive(Template)]
#[template(path = "jobs.html")]
struct JobsPage {
    visitor: Visitor,
    rows: Vec<JobRow>,
    all: usize,
    only_wrong: bool,
}

/// What was put into the forms of a job's page, and what is wrong with it.
#[derive(Default)]
pub(super) struct JobForms {
    pub(super) trigger: Recipients,
    pub(super) trigger_error: Option<String>,
    pub(super) from: String,
    pub(super) to: String,
    pub(super) backfill: Recipients,
    pub(super) backfill_error: Option<String>,
}

#[derive(Template)]
#[template(path = "job.html")]
struct JobPage {
    visitor: Visitor,
    row: JobRow,
    /// `None`: the store does not answer.
    trends: Option<TrendCharts>,
    batches: Vec<BatchRow>,
    /// Number of items whose work goes on elsewhere.
    waiting: u64,
    key: IdempotencyKey,
    forms: JobForms,
}

#[derive(Deserialize)]
pub(super) struct JobsQuery {
    #[serde(default)]
    show: String,
}

pub(super) async fn list(
    State(app): State<App>,
    Live(visitor): Live,
    query: Result<Query<JobsQuery>, QueryRejection>,
) -> Result<Html<String>, Problem> {
    let Query(JobsQuery { show }) = query?;
    let (jobs, activity) = (app.operator.jobs().await?, app.last_day().await?);
    let (findings, only_wrong) = (app.operator.findings().await?, show == "wrong");
    let (findings, all) = (findings.all(), jobs.len());
    let rows = jobs.into_iter();
    let rows = rows.map(|job| JobRow::of(job, &activity, &findings));
    render(&JobsPage {
        visitor,
        rows: rows
            .filter(|row| !only_wrong || !row.findings.is_empty())
            .collect(),
        all,
        only_wrong,
    })
}

pub(super) async fn one(
    State(app): State<App>,
    Live(visitor): Live,
    Path(job_id): Path<String>,
) -> Result<Response, Problem> {
    let job_id = JobId::new(&job_id)?;
    app.job_page(visitor, &job_id, JobForms::default()).await
}

/// Whom a form names: all, or these.
#[derive(Debug, Clone, Default, Deserialize)]
pub(super) struct Recipients {
    /// `all` or `some`.
    #[serde(default)]
    pub(super) who: String,
    #[serde(default)]
    pub(super) tenants: String,
    /// Set once it has been asked about tenants without a preference.
    #[serde(default)]
    pub(super) allow_unknown: String,
}

impl Recipients {
    /// The tenants; `None`: all.
    ///
    /// # Errors
    /// What to put in, in words.
    pub(super) fn parse(&self) -> Result<Option<BTreeSet<TenantId>>, String> {
        match self.who.as_str() {
            "all" => Ok(None),
            "some" => {
                let ids = self.tenants.split([',', '\n', ' ', '\r']);
                let ids = ids.filter(|id| !id.is_empty()).map(TenantId::new);
                let ids: BTreeSet<TenantId> = ids
                    .collect::<Result<_, _>>()
                    .map_err(|error| error.to_string())?;
                if ids.is_empty() {
                    return Err("Name at least one tenant, or choose all.".to_owned());
                }
                Ok(Some(ids))
            }
            _ => Err("Choose all, or name tenants.".to_owned()),
        }
    }

    pub(super) fn is_all(&self) -> bool {
        self.who == "all"
    }

    pub(super) fn are_some(&self) -> bool {
        self.who == "some"
    }

    pub(super) fn allows_unknown(&self) -> bool {
        !self.allow_unknown.is_empty()
    }
}

#[derive(Deserialize)]
pub(super) struct ActionForm {
    action: String,
    #[serde(flatten)]
    recipients: Recipients,
    /// Set once it has been asked whether so many are meant.
    #[serde(default)]
    confirmed: String,
    /// Drawn when the page was rendered: pressing the button twice is one run.
    key: Option<String>,
}

pub(super) async fn act(
    State(app): State<App>,
    visitor: Visitor,
    RequestActor(actor): RequestActor,
    Path(job_id): Path<String>,
    form: Result<Form<ActionForm>, FormRejection>,
) -> Result<Response, Problem> {
    let Form(form) = form?;
    let job_id = JobId::new(&job_id)?;
    let to = format!("/jobs/{job_id}");
    match form.action.as_str() {
        "pause" => {
            app.operator.pause(&actor, &job_id).await?;
            Ok(Done::new(What::Paused).job(&job_id).then(&to))
        }
        "resume" => {
            app.operator.resume(&actor, &job_id).await?;
            let open = DeadLetterFilter {
                job_id: Some(job_id.clone()),
                state: Some(DeadLetterState::Open),
                ..DeadLetterFilter::default()
            };
            let letters = app.operator.reader.dead_letter_count(&open).await?;
            let done = Done::new(What::Resumed).job(&job_id);
            Ok(done.count(letters as usize).then(&to))
        }
        "trigger" => {
            let (recipients, key) = (form.recipients.clone(), form.key.clone());
            match app.trigger_or_ask(&visitor, &job_id, &form).await? {
                Next::Page(page) => Ok(page),
                Next::Wrong(error) => app.wrong_trigger(visitor, &job_id, recipients, error).await,
                Next::Run(request) => {
                    let IdempotencyHeader(key) =
                        IdempotencyHeader::of_form(key, "trigger", &request)?;
                    let run = app
                        .operator
                        .trigger(&actor, key.as_ref(), &job_id, &request);
                    match run.await {
                        Ok(queued) => {
                            let done = Done::new(What::Triggered).job(&job_id).count(queued.total);
                            let done = done.paused(app.is_paused(&job_id).await);
                            Ok(done.then(&format!("/batches/{}", queued.batch_id)))
                        }
                        Err(error) if is_refusal(&error) => {
                            let error = error.to_string();
                            app.wrong_trigger(visitor, &job_id, recipients, error).await
                        }
                        Err(error) => Err(error.into()),
                    }
                }
            }
        }
        _ => Err(Problem::bad_request(
            "unknown action; a job can be paused, resumed or triggered",
        )),
    }
}

/// Whether an error is an answer to what was put into a form, which stays, rather than a failure.
pub(super) fn is_refusal(error: &OperatorError) -> bool {
    error.is_callers() || matches!(error, OperatorError::Unavailable(_))
}

/// What follows from a form.
enum Next {
    Run(TriggerRequest),
    Wrong(String),
    Page(Response),
}

impl App {
    /// Whether a job is paused; not, where the store does not say.
    pub(super) async fn is_paused(&self, job_id: &JobId) -> bool {
        let paused = self.operator.queue.paused().await;
        paused.is_ok_and(|paused| paused.contains_key(job_id))
    }

    /// Asks before it is run for more than one tenant, and before tenants are run for who have stored no preference.
    async fn trigger_or_ask(
        &self,
        visitor: &Visitor,
        job_id: &JobId,
        form: &ActionForm,
    ) -> Result<Next, Problem> {
        let tenants = match form.recipients.parse() {
            Ok(tenants) => tenants,
            Err(error) => return Ok(Next::Wrong(error)),
        };
        let to = format!("/jobs/{job_id}");
        let ask = |question: String, button: &str| {
            Confirm::new(visitor.clone(), question, button.to_owned())
                .sends("post", to.clone())
                .back(to.clone())
                .field("action", "trigger")
                .field("who", form.recipients.who.clone())
                .field("tenants", form.recipients.tenants.clone())
                .field("key", form.key.clone().unwrap_or_default())
        };
        match &tenants {
            None if form.confirmed.is_empty() => {
                let job = self.operator.job_view(job_id).await?;
                let everyone = match job.preferences().map(|follows| follows.tenants) {
                    Some(1) => "its 1 tenant".to_owned(),
                    Some(tenants) => format!("all {tenants} tenants"),
                    None => "all its items".to_owned(),
                };
                let question = format!("Run {job_id} now for {everyone}?");
                let page = ask(question, &format!("Run now for {everyone}"))
                    .note(RUNS_AT_ONCE)
                    .field("confirmed", "yes");
                return Ok(Next::Page(page.page()?.into_response()));
            }
            Some(named) => {
                let unknown = if form.recipients.allows_unknown() {
                    Ok(Vec::new())
                } else {
                    self.operator.unknown_tenants(job_id, named).await
                };
                let unknown = match unknown {
                    Ok(unknown) => unknown,
                    Err(error) if is_refusal(&error) => return Ok(Next::Wrong(error.to_string())),
                    Err(error) => return Err(error.into()),
                };
                let tenants = amount(named.len() as u64, "tenant");
                if !unknown.is_empty() {
                    let question = unknown_question(job_id, &unknown);
                    let page = ask(question, &format!("Run now for {tenants}"))
                        .note("Most likely an id is mistyped. Nothing has been queued yet.")
                        .note("Tenants without a preference run with the job's defaults.")
                        .field("allow_unknown", "yes")
                        .field("confirmed", "yes");
                    return Ok(Next::Page(page.page()?.into_response()));
                }
                if named.len() > 1 && form.confirmed.is_empty() {
                    let question = format!("Run {job_id} now for {tenants}?");
                    let page = ask(question, &format!("Run now for {tenants}"))
                        .note(RUNS_AT_ONCE)
                        .field("allow_unknown", form.recipients.allow_unknown.clone())
                        .field("confirmed", "yes");
                    return Ok(Next::Page(page.page()?.into_response()));
                }
            }
            None => {}
        }
        Ok(Next::Run(TriggerRequest {
            all: tenants.is_none(),
            tenants,
            allow_unknown: form.recipients.allows_unknown(),
        }))
    }

    async fn wrong_trigger(
        &self,
        visitor: Visitor,
        job_id: &JobId,
        trigger: Recipients,
        error: String,
    ) -> Result<Response, Problem> {
        let forms = JobForms {
            trigger,
            trigger_error: Some(error),
            ..JobForms::default()
        };
        self.job_page(visitor, job_id, forms).await
    }

    /// The page of a job, with what was put into its forms.
    pub(super) async fn job_page(
        &self,
        visitor: Visitor,
        job_id: &JobId,
        forms: JobForms,
    ) -> Result<Response, Problem> {
        let job = self.operator.job_view(job_id).await?;
        let filter = BatchFilter {
            job_id: Some(job.job_id.clone()),
            status: None,
        };
        let newest = Page {
            cursor: None,
            limit: MAX_ROWS as u32,
        };
        let (batches, _): (Vec<Batch>, _) = self.operator.reader.batches(&filter, &newest).await?;
        let (findings, activity) = (self.operator.findings().await?, self.last_day().await?);
        let waiting = self.operator.waiting.waiting_counts().await?;
        let wrong = forms.trigger_error.is_some() || forms.backfill_error.is_some();
        let paused = job.paused;
        let page = JobPage {
            visitor: visitor.on(format!("/jobs/{job_id}")),
            row: JobRow::of(job, &activity, &findings.all()),
            trends: self.trends(Some(job_id)).await,
            batches: batches
                .into_iter()
                .map(|batch| BatchRow::of(batch, paused))
                .collect(),
            waiting: waiting.get(job_id).copied().unwrap_or_default(),
            key: IdempotencyKey::random(),
            forms,
        };
        render_wrong(&page, wrong)
    }

    /// How the jobs have done with what fell due in the last day.
    async fn last_day(&self) -> Result<Vec<JobActivity>, StoreError> {
        let since = self.operator.clock.now() - TimeDelta::days(1);
        self.operator.operations.activity(since).await
    }
}

/// Asks about tenants who have stored no preference.
pub(super) fn unknown_question(job_id: &JobId, unknown: &[TenantId]) -> String {
    let names = first_of(unknown, MAX_NAMED);
    let have = if unknown.len() == 1 { "has" } else { "have" };
    format!("{names} {have} no stored preference for {job_id}. Run anyway?")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn everyone_is_a_choice_and_never_an_empty_field() {
        let parse = |who: &str, tenants: &str| {
            let recipients = Recipients {
                who: who.to_owned(),
                tenants: tenants.to_owned(),
                allow_unknown: String::new(),
            };
            recipients.parse().map(|ids| ids.map(|ids| ids.len()))
        };
        assert_eq!(parse("all", ""), Ok(None));
        assert_eq!(parse("some", " ann, bob\r\nann "), Ok(Some(2)));
        for (who, tenants) in [("some", " \n"), ("", ""), ("", "ann"), ("some", "a/b")] {
            assert!(parse(who, tenants).is_err(), "{who} {tenants}");
        }
    }
}
