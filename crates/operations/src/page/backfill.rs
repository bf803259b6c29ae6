//! A backfill: first what it would run, then the button that runs it.

use askama::Template;
use axum::{
    extract::{
        Form, Path, Query, State,
        rejection::{FormRejection, QueryRejection},
    },
    response::{IntoResponse, Response},
};
use chrono::NaiveDate;
use punctual_application::{BackfillCount, BackfillRequest, IdempotencyKey};
use punctual_domain::JobId;
use punctual_web::Empty;
use serde::Deserialize;

use super::{
    App, Problem, Visitor,
    answer::{Done, What},
    confirm::Confirm,
    jobs::{JobForms, Recipients, is_refusal, unknown_question},
    render,
};
use crate::{audit::RequestActor, idempotency::IdempotencyHeader};

#[derive(Clone, Deserialize)]
pub(super) struct BackfillForm {
    #[serde(default)]
    from: String,
    #[serde(default)]
    to: String,
    #[serde(flatten)]
    recipients: Recipients,
    /// Drawn when the page was rendered: pressing the button twice is one backfill.
    key: Option<String>,
}

impl BackfillForm {
    fn request(&self, preview: bool) -> Result<BackfillRequest, String> {
        let date = |name: &str, text: &str| {
            let date = text.trim().parse::<NaiveDate>();
            date.map_err(|_| format!("{name}: use a date such as 2026-03-29."))
        };
        let tenants = self.recipients.parse()?;
        Ok(BackfillRequest {
            from: date("From", &self.from)?,
            to: date("To", &self.to)?,
            all: tenants.is_none(),
            tenants,
            allow_unknown: self.recipients.allows_unknown(),
            preview,
        })
    }

    /// The page of the job, with what is wrong at the form.
    async fn wrong(
        self,
        app: &App,
        visitor: Visitor,
        job_id: &JobId,
        error: String,
    ) -> Result<Response, Problem> {
        let forms = JobForms {
            from: self.from,
            to: self.to,
            backfill: self.recipients,
            backfill_error: Some(error),
            ..JobForms::default()
        };
        app.job_page(visitor, job_id, forms).await
    }
}

#[derive(Template)]
#[template(path = "backfill.html")]
struct BackfillPage {
    visitor: Visitor,
    job_id: JobId,
    asked: BackfillForm,
    count: BackfillCount,
    key: IdempotencyKey,
}

impl BackfillPage {
    fn nothing(&self) -> String {
        let means = match self.count.due {
            0 => "Nothing fell due on these dates.",
            _ => "Nothing to run: all items have run.",
        };
        let other = format!("/jobs/{}#run", self.job_id);
        Empty::of(means).link(other, "Choose other dates").html()
    }
}

pub(super) async fn preview(
    State(app): State<App>,
    visitor: Visitor,
    RequestActor(actor): RequestActor,
    Path(job_id): Path<String>,
    query: Result<Query<BackfillForm>, QueryRejection>,
) -> Result<Response, Problem> {
    let Query(asked) = query?;
    let job_id = JobId::new(&job_id)?;
    let request = match asked.request(true) {
        Ok(request) => request,
        Err(error) => return asked.wrong(&app, visitor, &job_id, error).await,
    };
    if let (Some(named), false) = (&request.tenants, request.allow_unknown) {
        let unknown = match app.operator.unknown_tenants(&job_id, named).await {
            Ok(unknown) => unknown,
            Err(error) if is_refusal(&error) => {
                return asked.wrong(&app, visitor, &job_id, error.to_string()).await;
            }
            Err(error) => return Err(error.into()),
        };
        if !unknown.is_empty() {
            let question = unknown_question(&job_id, &unknown);
            let button = "Count with the job's defaults".to_owned();
            let ask = Confirm::new(visitor, question, button)
                .note("Most likely an id is mistyped. Nothing has been queued yet.")
                .sends("get", format!("/jobs/{job_id}/backfill"))
                .back(format!("/jobs/{job_id}"))
                .field("from", asked.from)
                .field("to", asked.to)
                .field("who", asked.recipients.who)
                .field("tenants", asked.recipients.tenants)
                .field("allow_unknown", "yes");
            return Ok(ask.page()?.into_response());
        }
    }
    match app.operator.backfill(&actor, None, &job_id, &request).await {
        Ok(report) => {
            let page = BackfillPage {
                visitor,
                job_id,
                asked,
                count: report.count,
                key: IdempotencyKey::random(),
            };
            Ok(render(&page)?.into_response())
        }
        Err(error) if is_refusal(&error) => {
            asked.wrong(&app, visitor, &job_id, error.to_string()).await
        }
        Err(error) => Err(error.into()),
    }
}

pub(super) async fn run(
    State(app): State<App>,
    visitor: Visitor,
    RequestActor(actor): RequestActor,
    Path(job_id): Path<String>,
    form: Result<Form<BackfillForm>, FormRejection>,
) -> Result<Response, Problem> {
    let Form(asked) = form?;
    let job_id = JobId::new(&job_id)?;
    let request = match asked.request(false) {
        Ok(request) => request,
        Err(error) => return asked.wrong(&app, visitor, &job_id, error).await,
    };
    let IdempotencyHeader(key) =
        IdempotencyHeader::of_form(asked.key.clone(), "backfill", &request)?;
    let run = app
        .operator
        .backfill(&actor, key.as_ref(), &job_id, &request);
    match run.await {
        Ok(report) => {
            let done = Done::new(What::Backfilled).job(&job_id);
            let done = done
                .count(report.count.to_run)
                .batches(report.count.batches)
                .paused(app.is_paused(&job_id).await);
            Ok(done.then(&format!("/jobs/{job_id}")))
        }
        Err(error) if is_refusal(&error) => {
            asked.wrong(&app, visitor, &job_id, error.to_string()).await
        }
        Err(error) => Err(error.into()),
    }
}
