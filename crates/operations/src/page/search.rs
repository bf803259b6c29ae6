//! One search over jobs, batches and tenants.

use askama::Template;
use axum::{
    extract::{Query, State, rejection::QueryRejection},
    response::{IntoResponse, Redirect, Response},
};
use punctual_application::Found;
use serde::Deserialize;

use super::{App, Problem, Visitor, render};

#[derive(Template)]
#[template(path = "search.html")]
struct SearchPage {
    visitor: Visitor,
    text: String,
    found: Found,
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
