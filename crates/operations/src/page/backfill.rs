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

use super::{App, Problem, Visitor, jobs::named, render};
use crate::{audit::By, once::Once};

#[derive(Deserialize)]
pub(super) struct Asked {
    from: NaiveDate,
    to: NaiveDate,
    #[serde(default)]
    tenants: String,
    /// Drawn when the page was rendered: pressing the button twice is one backfill.
    key: Option<String>,
}

impl Asked {
    fn request(&self, preview: bool) -> Result<BackfillRequest, Problem> {
        let tenants = named(&self.tenants)?;
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
    asked: Asked,
    count: BackfillCount,
    key: IdempotencyKey,
}

pub(super) async fn preview(
    State(app): State<App>,
    visitor: Visitor,
    By(actor): By,
    Path(job_id): Path<String>,
    query: Result<Query<Asked>, QueryRejection>,
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
    By(actor): By,
    Path(job_id): Path<String>,
    form: Result<Form<Asked>, FormRejection>,
) -> Result<Redirect, Problem> {
    let Form(asked) = form?;
    let (request, Once(key)) = (asked.request(false)?, Once::of_form(asked.key)?);
    app.operator
        .backfill(&actor, key.as_ref(), &JobId::new(&job_id)?, &request)
        .await?;
    Ok(Redirect::to(&format!("/jobs/{job_id}")))
}
