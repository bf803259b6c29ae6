//! One search over jobs, batches and tenants.

use askama::Template;
use axum::{
    extract::{Query, State, rejection::QueryRejection},
    response::{IntoResponse, Redirect, Response},
};
use punctual_application::Found;
use punctual_web::Empty;
use serde::Deserialize;

use super::{App, Problem, Visitor, render};

#[derive(Template)]
#[template(path = "search.html")]
struct SearchPage {
    visitor: Visitor,
    text: String,
    found: Found,
}

impl SearchPage {
    fn nothing(&self) -> String {
        Empty::of(format!("Nothing matches “{}”.", self.text))
            .note(
                "Jobs are found by a part of their id or description, batches by their whole id. Tenants are found by the \
                 beginning of their id if they are scheduled now or their preference is invalid, and by their whole id if \
                 they have run. In a job with more than 1,000,000 tenants, only the whole id finds one.",
            )
            .link("/jobs", "See all jobs")
            .link("/batches", "See all batches")
            .html()
    }
}

#[derive(Deserialize)]
pub(super) struct SearchQuery {
    #[serde(default)]
    q: String,
}

/// What matches; where that is one thing, its page.
pub(super) async fn show(
    State(app): State<App>,
    visitor: Visitor,
    query: Result<Query<SearchQuery>, QueryRejection>,
) -> Result<Response, Problem> {
    let Query(SearchQuery { q }) = query?;
    let found = app.operator.search(&q).await?;
    let only = match (
        found.jobs.as_slice(),
        &found.batch,
        found.tenants.as_slice(),
    ) {
        ([job_id], None, []) => Some(format!("/jobs/{job_id}")),
        ([], Some(batch), []) => Some(format!("/batches/{}", batch.batch_id)),
        ([], None, [tenant]) => Some(format!("/tenants/{tenant}")),
        _ => None,
    };
    if let Some(only) = only {
        return Ok(Redirect::to(&only).into_response());
    }
    let page = SearchPage {
        visitor,
        text: q,
        found,
    };
    Ok(render(&page)?.into_response())
}
