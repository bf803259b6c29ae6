//! Batches and what became of their items.

use askama::Template;
use axum::{
    extract::{Form, Path, Query, State, rejection::FormRejection, rejection::QueryRejection},
    response::{Html, IntoResponse, Response},
};
use punctual_application::{
    IdempotencyKey, OperatorError, amount,
    ports::{BatchFilter, DeliveryFilter, Page, StoredResult},
};
use punctual_domain::{Batch, BatchStatus, ItemStatus, Trigger};
use punctual_web::Empty;
use serde::Deserialize;
use uuid::Uuid;

use super::{
    App, Choice, Live, Pager, PagerQuery, Problem, ROWS_PER_PAGE, Visitor,
    answer::{Done, What, back_to},
    confirm::Confirm,
    deliveries::DeliveryRow,
    job_of, render,
};
use crate::{audit::RequestActor, model};

const STATUSES: [&str; 4] = ["queued", "running", "completed", "cancelled"];
/// Errors of a batch that are shown.
const MAX_ERRORS: usize = 10;

/// A batch with what its job is doing, as a row of a table.
pub(super) struct BatchRow {
    pub(super) batch: Batch,
    paused: bool,
}

impl BatchRow {
    pub(super) fn of(batch: Batch, paused: bool) -> Self {
        Self { batch, paused }
    }

    pub(super) fn state(&self) -> &'static str {
        model::Batch::from(&self.batch).state(self.paused)
    }

    pub(super) fn class(&self) -> &'static str {
        match self.state() {
            _ if self.batch.still_failed() > 0 => "wrong",
            "completed" => "on",
            "paused" | "cancelled" => "notice",
            _ => "",
        }
    }

    /// Whether it prepares runs, which fall due when it says.
    pub(super) fn prepares(&self) -> bool {
        self.batch.trigger == Trigger::Prepare
    }

    /// Number of items that have no outcome yet.
    pub(super) fn left(&self) -> u64 {
        self.batch.total.saturating_sub(self.batch.processed())
    }
}

/// The id of a batch in an address.
pub(super) fn batch_id(id: &str) -> Result<Uuid, Problem> {
    let problem = || format!("`{id}` is not the id of a batch; find it on the page Batches");
    id.parse().map_err(|_| Problem::bad_request(problem()))
}

#[derive(Template)]
#[template(path = "batches.html")]
struct BatchesPage {
    visitor: Visitor,
    batches: Vec<BatchRow>,
    jobs: Vec<Choice>,
    statuses: Vec<Choice>,
    pager: Pager,
    is_filtered: bool,
}

#[derive(Template)]
#[template(path = "batch.html")]
struct BatchPage {
    visitor: Visitor,
    row: BatchRow,
    errors: Vec<(String, usize)>,
    results: Vec<StoredResult>,
    deliveries: Vec<DeliveryRow>,
    status: Option<ItemStatus>,
    pager: Pager,
    key: IdempotencyKey,
}

impl BatchPage {
    fn nothing(&self) -> String {
        let empty = match (self.status, self.row.batch.finished_at) {
            (Some(_), _) => {
                Empty::of("No results match this filter.").link("?", "Show all results")
            }
            (None, None) => Empty::of("No results yet.")
                .note("They appear here as items end.")
                .link("/replicas", "See what is being worked on"),
            (None, Some(_)) => Empty::of("The batch is over, and no results of it are kept."),
        };
        empty.html()
    }
}

#[derive(Deserialize)]
pub(super) struct BatchesQuery {
    #[serde(default)]
    job: String,
    #[serde(default)]
    status: String,
}

pub(super) async fn list(
    State(app): State<App>,
    Live(visitor): Live,
    query: Result<Query<BatchesQuery>, QueryRejection>,
    asked: PagerQuery,
) -> Result<Html<String>, Problem> {
    let Query(BatchesQuery { job, status }) = query?;
    let status_of = |word: &str| {
        let status = word.parse::<BatchStatus>();
        status.map_err(|error| Problem::bad_request(error.to_string()))
    };
    let filter = BatchFilter {
        job_id: job_of(&job)?,
        status: (!status.is_empty())
            .then(|| status_of(&status))
            .transpose()?,
    };
    let page = asked.page(ROWS_PER_PAGE);
    let (batches, next) = app.operator.reader.batches(&filter, &page).await?;
    let paused = app.operator.queue.paused().await?;
    let row = |batch: Batch| {
        let paused = paused.contains_key(&batch.job_id);
        BatchRow::of(batch, paused)
    };
    let filters = [("job", job.as_str()), ("status", status.as_str())];
    render(&BatchesPage {
        visitor,
        batches: batches.into_iter().map(row).collect(),
        jobs: app.job_choices(&job),
        statuses: Choice::among(STATUSES, &status),
        pager: Pager::new(&filters, &asked, next.as_deref()),
        is_filtered: filter != BatchFilter::default(),
    })
}

#[derive(Deserialize)]
pub(super) struct ResultsQuery {
    status: Option<ItemStatus>,
}

pub(super) async fn one(
    State(app): State<App>,
    Live(visitor): Live,
    Path(id): Path<String>,
    query: Result<Query<ResultsQuery>, QueryRejection>,
    asked: PagerQuery,
) -> Result<Html<String>, Problem> {
    let Query(ResultsQuery { status }) = query?;
    let batch = app.operator.batch(batch_id(&id)?).await?;
    let page = asked.page(ROWS_PER_PAGE);
    let (results, next) = app.operator.results(batch.batch_id, status, &page).await?;
    let mut errors = app.operator.failure_reasons(&batch).await?;
    errors.truncate(MAX_ERRORS);
    let of_batch = DeliveryFilter {
        batch_ids: Some([batch.batch_id].into()),
        ..DeliveryFilter::default()
    };
    let all = Page {
        cursor: None,
        limit: ROWS_PER_PAGE,
    };
    let operations = &app.operator.operations;
    let (deliveries, _) = operations.deliveries(&of_batch, &all).await?;
    let paused = app.operator.queue.paused().await?;
    let paused = paused.contains_key(&batch.job_id);
    let status_word = status.map_or("", ItemStatus::as_str);
    render(&BatchPage {
        visitor,
        row: BatchRow::of(batch, paused),
        errors,
        results,
        deliveries: deliveries.into_iter().map(Into::into).collect(),
        status,
        pager: Pager::new(&[("status", status_word)], &asked, next.as_deref()),
        key: IdempotencyKey::random(),
    })
}

#[derive(Deserialize)]
pub(super) struct CancelForm {
    /// Set once it has been asked.
    #[serde(default)]
    confirmed: String,
    /// The page on which the button stood.
    #[serde(default)]
    back: String,
}

pub(super) async fn cancel(
    State(app): State<App>,
    visitor: Visitor,
    RequestActor(actor): RequestActor,
    Path(id): Path<String>,
    form: Result<Form<CancelForm>, FormRejection>,
) -> Result<Response, Problem> {
    let Form(CancelForm { confirmed, back }) = form?;
    let batch_id = batch_id(&id)?;
    let row = BatchRow::of(app.operator.batch(batch_id).await?, false);
    let to = format!("/batches/{batch_id}");
    let back = back_to(&back, &[&to], &to);
    if confirmed.is_empty() && row.batch.finished_at.is_none() {
        let (job_id, total) = (&row.batch.job_id, amount(row.batch.total, "item"));
        let question = format!("Skip the remaining {} of {total} of {job_id}?", row.left());
        let button = format!("Skip up to {}", amount(row.left(), "item"));
        let ask = Confirm::new(visitor, question, button)
            .note("What has begun ends. A backfill can run skipped items of a schedule later.")
            .sends("post", to)
            .field("confirmed", "yes")
            .field("back", back.clone())
            .back(back);
        return Ok(ask.page()?.into_response());
    }
    let done = match app.operator.cancel(&actor, batch_id).await {
        Ok(()) => {
            // Some have ended since it was asked, and what has begun ends.
            let after = BatchRow::of(app.operator.batch(batch_id).await?, false);
            Done::new(What::Cancelled).count(after.left() as usize)
        }
        Err(OperatorError::Conflict(_)) => Done::new(What::NotCancelled),
        Err(error) => return Err(error.into()),
    };
    Ok(done.then(&back))
}
