//! Deliveries that failed, and another try.

use askama::Template;
use axum::{
    extract::{Form, Query, State, rejection::FormRejection, rejection::QueryRejection},
    response::{Html, IntoResponse, Response},
};
use punctual_application::{
    DeliverySelection, IdempotencyKey, OperatorError, amount,
    ports::{DeliveryFilter, DeliveryState, StoredDelivery},
};
use punctual_domain::JobId;
use punctual_web::Empty;
use serde::Deserialize;

use super::{
    App, Choice, Live, Pager, PagerQuery, Problem, ROWS_PER_PAGE, Visitor,
    answer::{Done, What, back_to},
    confirm::Confirm,
    job_of, render,
};
use crate::{audit::RequestActor, idempotency::IdempotencyHeader};

#[derive(Template)]
#[template(path = "deliveries.html")]
struct DeliveriesPage {
    visitor: Visitor,
    deliveries: Vec<DeliveryRow>,
    jobs: Vec<Choice>,
    job: String,
    pager: Pager,
    key: IdempotencyKey,
}

/// A delivery, as a row of a table.
pub(super) struct DeliveryRow {
    pub(super) stored: StoredDelivery,
}

impl DeliveriesPage {
    fn nothing(&self) -> String {
        let empty = Empty::of("Everything has been delivered, or is under way.")
            .good()
            .note("Deliveries that fail appear here; a batch shows all of its own.");
        let empty = if self.job.is_empty() {
            empty.link("/batches", "See the batches")
        } else {
            empty.link("/deliveries", "Show those of all jobs")
        };
        empty.html()
    }
}

impl From<StoredDelivery> for DeliveryRow {
    fn from(stored: StoredDelivery) -> Self {
        Self { stored }
    }
}

impl DeliveryRow {
    pub(super) fn target(&self) -> String {
        self.stored.target.to_string()
    }

    pub(super) fn has_failed(&self) -> bool {
        self.stored.state == DeliveryState::GivenUp
            || self.stored.state == DeliveryState::Open && self.stored.tries > 0
    }

    pub(super) fn state(&self) -> &'static str {
        match self.stored.state {
            DeliveryState::Done => "delivered",
            DeliveryState::GivenUp => "given up",
            DeliveryState::Open if self.stored.tries > 0 => "failing",
            DeliveryState::Open => "under way",
        }
    }

    pub(super) fn reason(&self) -> &str {
        self.stored.reason.as_deref().unwrap_or("")
    }
}

#[derive(Deserialize)]
pub(super) struct DeliveriesQuery {
    #[serde(default)]
    job: String,
}

pub(super) async fn list(
    State(app): State<App>,
    Live(visitor): Live,
    query: Result<Query<DeliveriesQuery>, QueryRejection>,
    asked: PagerQuery,
) -> Result<Html<String>, Problem> {
    let Query(DeliveriesQuery { job }) = query?;
    let filter = DeliveryFilter {
        job_id: job_of(&job)?,
        ..DeliveryFilter::failing(app.operator.clock.now())
    };
    let page = asked.page(ROWS_PER_PAGE);
    let (found, next) = app.operator.operations.deliveries(&filter, &page).await?;
    render(&DeliveriesPage {
        visitor,
        deliveries: found.into_iter().map(Into::into).collect(),
        jobs: app.job_choices(&job),
        pager: Pager::new(&[("job", &job)], &asked, next.as_deref()),
        job,
        key: IdempotencyKey::random(),
    })
}

#[derive(Deserialize)]
pub(super) struct AgainForm {
    id: Option<i64>,
    job: Option<JobId>,
    /// How many it has been asked about.
    count: Option<u64>,
    /// The page on which the button stood.
    #[serde(default)]
    back: String,
    /// Drawn when the page was rendered: pressing the button twice is one request.
    key: Option<String>,
}

pub(super) async fn again(
    State(app): State<App>,
    visitor: Visitor,
    RequestActor(actor): RequestActor,
    form: Result<Form<AgainForm>, FormRejection>,
) -> Result<Response, Problem> {
    let Form(AgainForm {
        id,
        job,
        count,
        back,
        key,
    }) = form?;
    let back = back_to(&back, &["/deliveries", "/batches/"], "/deliveries");
    let selection = DeliverySelection {
        id,
        job_id: job.filter(|_| id.is_none()),
        count,
        ..DeliverySelection::default()
    };
    if let (Some(job_id), None) = (&selection.job_id, count) {
        return app.ask_about_deliveries(visitor, job_id, back, key).await;
    }
    let IdempotencyHeader(of_form) =
        IdempotencyHeader::of_form(key.clone(), "deliver again", &selection)?;
    let due = app
        .operator
        .deliver_again(&actor, of_form.as_ref(), &selection);
    let what = match due.await {
        Ok(report) => Done::new(What::DeliversAgain).count(report.due as usize),
        Err(error) => match (error, &selection.job_id) {
            (OperatorError::Changed(_), Some(job_id)) => {
                return app.ask_about_deliveries(visitor, job_id, back, key).await;
            }
            (OperatorError::NotFound(_) | OperatorError::Changed(_), _) => {
                Done::new(What::NotDelivered)
            }
            (OperatorError::Conflict(_), _) => Done::new(What::InDelivery),
            (error, _) => return Err(error.into()),
        },
    };
    Ok(what.then(&back))
}

impl App {
    /// Asks before all deliveries of a job are made again, with how many.
    async fn ask_about_deliveries(
        &self,
        visitor: Visitor,
        job_id: &JobId,
        back: String,
        key: Option<String>,
    ) -> Result<Response, Problem> {
        let selection = DeliverySelection {
            job_id: Some(job_id.clone()),
            ..DeliverySelection::default()
        };
        let count = self.operator.count_deliveries(&selection).await?;
        if count == 0 {
            return Ok(Done::new(What::NotDelivered).then(&back));
        }
        let deliveries = amount(count, "delivery");
        let question = format!("Make {deliveries} of {job_id} again?");
        let ask = Confirm::new(visitor, question, format!("Make {deliveries} again"))
            .note(
                "They go on where they failed, to the same place. Only if the job no longer delivers to that \
                 place, and delivers to exactly one other of the same kind, all results of their batches go \
                 to the other.",
            )
            .sends("post", "/deliveries")
            .field("job", job_id.to_string())
            .field("count", count.to_string())
            .field("key", key.unwrap_or_default())
            .field("back", back.clone())
            .back(back);
        Ok(ask.page()?.into_response())
    }
}
