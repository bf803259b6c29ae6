//! Items that wait because their work goes on elsewhere.

use askama::Template;
use axum::{
    extract::{Query, State, rejection::QueryRejection},
    response::Html,
};
use punctual_application::ports::{WaitingCall, WaitingFilter};
use punctual_domain::{ItemId, TenantId, WaitingStatus};
use punctual_web::Empty;
use serde::Deserialize;

use super::{
    App, Choice, Live, Pager, PagerQuery, Problem, ROWS_PER_PAGE, Visitor, batches::batch_id,
    job_of, render,
};

#[derive(Template)]
#[template(path = "waiting.html")]
struct WaitingPage {
    visitor: Visitor,
    rows: Vec<WaitingRow>,
    jobs: Vec<Choice>,
    tenant: String,
    batch: String,
    is_filtered: bool,
    pager: Pager,
}

/// A call whose items wait, as a row of a table.
struct WaitingRow {
    call: WaitingCall,
    waiting: WaitingStatus,
}

impl From<WaitingCall> for WaitingRow {
    fn from(call: WaitingCall) -> Self {
        let waiting = WaitingStatus {
            since: call.since,
            until: call.waiting.until,
            progress: call.progress.clone(),
        };
        Self { call, waiting }
    }
}

impl WaitingRow {
    /// The one tenant; `None`: the call is for all records, or for several items.
    fn tenant(&self) -> Option<TenantId> {
        match self.call.items.as_slice() {
            [item] => item.tenant(),
            _ => None,
        }
    }

    /// What the call is for, where it is not for one tenant.
    fn items(&self) -> String {
        match self.call.items.len() {
            0 | 1 => "all records".to_owned(),
            several => super::count_of(several, "item"),
        }
    }

    /// Tells the row from every other one.
    fn key(&self) -> String {
        let first = self.call.items.first();
        let first = first.map(ToString::to_string).unwrap_or_default();
        format!("{} {first}", self.call.batch_id)
    }
}

impl WaitingPage {
    fn nothing(&self) -> String {
        if self.is_filtered {
            let none = Empty::of("No waiting items match this filter.");
            return none.link("/waiting", "Show all that wait").html();
        }
        Empty::of("Nothing waits.")
            .good()
            .note("Items appear here whose work goes on elsewhere, until their worker completes them.")
            .link("/batches", "See the batches")
            .html()
    }
}

#[derive(Deserialize)]
pub(super) struct WaitingQuery {
    #[serde(default)]
    job: String,
    #[serde(default)]
    tenant: String,
    #[serde(default)]
    batch: String,
}

pub(super) async fn list(
    State(app): State<App>,
    Live(visitor): Live,
    query: Result<Query<WaitingQuery>, QueryRejection>,
    asked: PagerQuery,
) -> Result<Html<String>, Problem> {
    let Query(WaitingQuery { job, tenant, batch }) = query?;
    let (tenant, batch) = (tenant.trim().to_owned(), batch.trim().to_owned());
    let filter = WaitingFilter {
        job_id: job_of(&job)?,
        batch_id: (!batch.is_empty()).then(|| batch_id(&batch)).transpose()?,
        item_id: (!tenant.is_empty())
            .then(|| ItemId::new(&tenant))
            .transpose()?,
    };
    let page = asked.page(ROWS_PER_PAGE);
    let (calls, next) = app.operator.waiting_calls(&filter, &page).await?;
    let filters = [
        ("job", job.as_str()),
        ("tenant", tenant.as_str()),
        ("batch", batch.as_str()),
    ];
    render(&WaitingPage {
        visitor,
        rows: calls.into_iter().map(Into::into).collect(),
        jobs: app.job_choices(&job),
        is_filtered: filter != WaitingFilter::default(),
        pager: Pager::new(&filters, &asked, next.as_deref()),
        tenant,
        batch,
    })
}
