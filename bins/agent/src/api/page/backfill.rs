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
use punctual_application::{
    BackfillCount,
    ports::{Clock, SystemClock},
};
use serde::Deserialize;

use super::{App, PageError, Visitor, jobs::named, render};
use crate::api::{
    audit::By,
    backfill::Wanted,
    once::{Once, fresh_key},
};

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
    fn wanted(&self, preview: bool) -> Result<Wanted, PageError> {
        let tenants = named(&self.tenants)?;
        Ok(Wanted {
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
    key: String,
}

pub(super) async fn preview(
    State(app): State<App>,
    visitor: Visitor,
    by: By,
    Path(job_id): Path<String>,
    query: Result<Query<Asked>, QueryRejection>,
) -> Result<Html<String>, PageError> {
    let Query(asked) = query?;
    let now = SystemClock.now();
    let count = app.backfill(&by, &job_id, asked.wanted(true)?, now).await?;
    render(&BackfillPage {
        visitor,
        job_id,
        asked,
        count,
        key: fresh_key(),
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
    let (wanted, once) = (asked.wanted(false)?, Once::of_form(asked.key)?);
    app.backfill_once(&by, &once, &job_id, wanted).await?;
    Ok(Redirect::to(&format!("/jobs/{job_id}")))
}
