//! A backfill: first what it would run, then the button that runs it.

use askama::Template;
use axum::{
    extract::{
        Form, Path, Query, State,
        rejection::{FormRejection, QueryRejection},
    },
    response::{Html, Redirect},
};
use chrono::NaiveDate;
use punctual_application::{BackfillCount, BackfillRequest, IdempotencyKey};
use punctual_domain::JobId;
use serde::Deserialize;

use super::{App, Problem, Visitor, jobs::parse_tenants, render};
use crate::{audit::RequestActor, idempotency::IdempotencyHeader};

#[derive(Deserialize)]
pub(super) struct BackfillForm {
    from: NaiveDate,
    to: NaiveDate,
    #[serde(default)]
    tenants: String,
    /// Drawn when the page was rendered: pressing the button twice is one backfill.
    key: Option<String>,
}

impl BackfillForm {
    fn request(&self, preview: bool) -> Result<BackfillRequest, Problem> {
        let tenants = parse_tenants(&self.tenants)?;
        Ok(BackfillRequest {
            from: self.from,
            to: self.to,
            tenants,
            all: false,
            allow_unknown: false,
            preview,
        })
    }
}

#[derive(Template)]
#[template(path = "backfill.html")]
struct BackfillPage {
    visitor: Visitor,
    job_id: String,
    asked: BackfillForm,
    count: BackfillCount,
    key: IdempotencyKey,
}

pub(super) async fn preview(
    State(app): State<App>,
    visitor: Visitor,
    RequestActor(actor): RequestActor,
    Path(job_id): Path<String>,
    query: Result<Query<BackfillForm>, QueryRejection>,
) -> Result<Html<String>, Problem> {
    let Query(asked) = query?;
    let request = asked.request(true)?;
    let report = app
        .operator
        .backfill(&actor, None, &JobId::new(&job_id)?, &request)
        .await?;
    render(&BackfillPage {
        visitor,
        job_id,
        asked,
        count: report.count,
        key: IdempotencyKey::random(),
    })
}

pub(super) async fn run(
    State(app): State<App>,
    _visitor: Visitor,
    RequestActor(actor): RequestActor,
    Path(job_id): Path<String>,
    form: Result<Form<BackfillForm>, FormRejection>,
) -> Result<Redirect, Problem> {
    let Form(asked) = form?;
    let (request, IdempotencyHeader(key)) = (
        asked.request(false)?,
        IdempotencyHeader::of_form(asked.key)?,
    );
    app.operator
        .backfill(&actor, key.as_ref(), &JobId::new(&job_id)?, &request)
        .await?;
    Ok(Redirect::to(&format!("/jobs/{job_id}")))
}
