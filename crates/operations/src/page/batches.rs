//! Batches and what became of their items.

use askama::Template;
use axum::{
    extract::{Path, Query, State, rejection::QueryRejection},
    response::{Html, Redirect},
};
use punctual_application::ports::{BatchFilter, Page, StoredResult};
use punctual_domain::{Batch, ItemStatus};
use serde::Deserialize;

use super::{App, Problem, Visitor, render};
use crate::{PageQuery, audit::RequestActor, batches::parse_id};

const ROWS_PER_PAGE: u32 = 50;

#[derive(Template)]
#[template(path = "batches.html")]
struct BatchesPage {
    visitor: Visitor,
    batches: Vec<Batch>,
    next: Option<String>,
}

#[derive(Template)]
#[template(path = "batch.html")]
struct BatchPage {
    visitor: Visitor,
    batch: Batch,
    errors: Vec<(String, usize)>,
    results: Vec<StoredResult>,
    status: Option<ItemStatus>,
    next: Option<String>,
}

pub(super) async fn list(
    State(app): State<App>,
    visitor: Visitor,
    query: Result<Query<PageQuery>, QueryRejection>,
) -> Result<Html<String>, Problem> {
    let Query(PageQuery { cursor, .. }) = query?;
    let page = Page {
        cursor,
        limit: ROWS_PER_PAGE,
    };
    let (batches, next) = app
        .operator
        .reader
        .batches(&BatchFilter::default(), &page)
        .await?;
    render(&BatchesPage {
        visitor,
        batches,
        next,
    })
}

#[derive(Deserialize)]
pub(super) struct ResultsQuery {
    status: Option<ItemStatus>,
    cursor: Option<String>,
}

pub(super) async fn one(
    State(app): State<App>,
    visitor: Visitor,
    Path(id): Path<String>,
    query: Result<Query<ResultsQuery>, QueryRejection>,
) -> Result<Html<String>, Problem> {
    let Query(ResultsQuery { status, cursor }) = query?;
    let batch = app.operator.batch(parse_id(&id)?).await?;
    let page = Page {
        cursor,
        limit: ROWS_PER_PAGE,
    };
    let (results, next) = app.operator.results(batch.batch_id, status, &page).await?;
    let errors = app.operator.failure_reasons(&batch).await?;
    render(&BatchPage {
        visitor,
        batch,
        errors,
        results,
        status,
        next,
    })
}

pub(super) async fn cancel(
    State(app): State<App>,
    _visitor: Visitor,
    RequestActor(actor): RequestActor,
    Path(id): Path<String>,
) -> Result<Redirect, Problem> {
    app.operator.cancel(&actor, parse_id(&id)?).await?;
    Ok(Redirect::to(&format!("/batches/{id}")))
}
