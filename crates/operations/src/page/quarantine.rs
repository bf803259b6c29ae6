//! Preferences that cannot be used.

use std::sync::Arc;

use askama::Template;
use axum::{
    extract::{Query, State, rejection::QueryRejection},
    http::HeaderMap,
    response::Html,
};
use punctual_application::Quarantined;
use punctual_web::Empty;
use serde::Deserialize;

use super::{App, Choice, Live, Problem, ROWS_PER_PAGE, Visitor, job_of, render};

#[derive(Template)]
#[template(path = "quarantine.html")]
struct QuarantinePage {
    visitor: Visitor,
    entries: Vec<Quarantined>,
    /// Address of the Config Database's pages.
    config_database: Option<Arc<str>>,
    all: usize,
    jobs: Vec<Choice>,
    job: String,
    page: usize,
    more: bool,
}

impl QuarantinePage {
    fn nothing(&self) -> String {
        let empty = match (self.all, self.job.as_str()) {
            (0, "") => Empty::of("Every preference can be used.")
                .good()
                .note("Invalid ones appear here, with the reason and where to correct them."),
            (0, _) => Empty::of("Every preference can be used.")
                .good()
                .link("/quarantine", "Show those of all jobs"),
            _ => Empty::of("The list ends before this page.").link("/quarantine", "Begin anew"),
        };
        empty.html()
    }
}

#[derive(Deserialize)]
pub(super) struct QuarantineQuery {
    #[serde(default)]
    job: String,
    /// Number of the page, from 1.
    page: Option<usize>,
}

pub(super) async fn list(
    State(app): State<App>,
    Live(visitor): Live,
    headers: HeaderMap,
    query: Result<Query<QuarantineQuery>, QueryRejection>,
) -> Result<Html<String>, Problem> {
    let Query(QuarantineQuery { job, page }) = query?;
    let (page, rows) = (
        page.unwrap_or(1).clamp(1, 1_000_000),
        ROWS_PER_PAGE as usize,
    );
    let skipped = (page - 1) * rows;
    let of_job = job_of(&job)?;
    let (entries, all) = app.operator.quarantined(of_job.as_ref(), skipped, rows);
    render(&QuarantinePage {
        visitor,
        more: skipped + entries.len() < all,
        entries,
        config_database: app.config_database_for(&headers),
        all,
        jobs: app.job_choices(&job),
        job,
        page,
    })
}
