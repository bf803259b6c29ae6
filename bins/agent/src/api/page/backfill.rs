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
use punctual_application::BackfillCount;
use serde::Deserialize;

use super::{App, PageError, Visitor, jobs::named, render};
use crate::api::{audit::By, backfill::Wanted};

#[derive(Deserialize)]
pub(super) struct Asked {
    from: NaiveDate,
    to: NaiveDate,
    #[serde(default)]
    tenants: String,
}

impl Asked {
    fn wanted(&self, preview: bool) -> Result<Wanted, PageError> {
        let tenants = named(&self.tenants)?;
        Ok(Wanted {
            from: self.from,
            to: self.to,
            tenants,
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
}

pub(super) async fn preview(
    State(app): State<App>,
    visitor: Visitor,
    by: By,
    Path(job_id): Path<String>,
    query: Result<Query<Asked>, QueryRejection>,
) -> Result<Html<String>, PageError> {
    let Query(asked) = query?;
    let count = app.backfill(&by, &job_id, asked.wanted(true)?).await?;
    render(&BackfillPage {
        visitor,
        job_id,
        asked,
        count,
    })
}

pub(super) async fn run(
    State(app): State<App>,
    _visitor: Visitor,
    by: By,
    Path(job_id): Path<String>,
    form: Result<Form<Asked>, FormRejection>,
) -> Result<Redirect, PageError> {
    let Form(asked) = form?;
    app.backfill(&by, &job_id, asked.wanted(false)?).await?;
    Ok(Redirect::to(&format!("/jobs/{job_id}")))
}
