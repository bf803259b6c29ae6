//! What failed for good, and preferences that cannot be used.

use std::collections::{BTreeMap, BTreeSet};

use askama::Template;
use axum::{
    extract::{Form, Query, State, rejection::FormRejection, rejection::QueryRejection},
    response::{Html, Redirect},
};
use punctual_application::{
    DeadLetterSelection, IdempotencyKey, Quarantined,
    ports::{DeadLetterFilter, Page},
};
use punctual_domain::{DeadLetter, DeadLetterState, ItemId, JobId, TenantId};
use serde::Deserialize;

use super::{App, Visitor, render};
use crate::{audit::RequestActor, idempotency::IdempotencyHeader, problem::Problem};

const ROWS_PER_PAGE: u32 = 50;
const MAX_QUARANTINED: usize = 500;

#[derive(Template)]
#[template(path = "dead_letters.html")]
struct DeadLettersPage {
    visitor: Visitor,
    letters: Vec<DeadLetter>,
    job: String,
    tenant: String,
    state: DeadLetterState,
    next: Option<String>,
    key: IdempotencyKey,
}

/// What is looked for; empty fields of a form mean nothing in particular.
#[derive(Deserialize)]
pub(super) struct LettersQuery {
    #[serde(default)]
    job: String,
    #[serde(default)]
    tenant: String,
    state: Option<DeadLetterState>,
    cursor: Option<String>,
}

impl LettersQuery {
    fn job_id(&self) -> Result<Option<JobId>, Problem> {
        let job = self.job.trim();
        Ok((!job.is_empty()).then(|| JobId::new(job)).transpose()?)
    }

    fn tenant_id(&self) -> Result<Option<TenantId>, Problem> {
        let tenant = self.tenant.trim();
        Ok((!tenant.is_empty())
            .then(|| TenantId::new(tenant))
            .transpose()?)
    }
}

pub(super) async fn list(
    State(app): State<App>,
    visitor: Visitor,
    query: Result<Query<LettersQuery>, QueryRejection>,
) -> Result<Html<String>, Problem> {
    let Query(which) = query?;
    let state = which.state.unwrap_or(DeadLetterState::Open);
    let filter = DeadLetterFilter {
        job_id: which.job_id()?,
        item_id: which.tenant_id()?.map(ItemId::from),
        state: Some(state),
    };
    let page = Page {
        cursor: which.cursor,
        limit: ROWS_PER_PAGE,
    };
    let (letters, next) = app.operator.reader.dead_letters(&filter, &page).await?;
    render(&DeadLettersPage {
        visitor,
        letters,
        job: which.job,
        tenant: which.tenant,
        state,
        next,
        key: IdempotencyKey::random(),
    })
}

#[derive(Deserialize)]
pub(super) struct ActionForm {
    /// `replay` or `discard`, and a number, `ticked`, or `all` of what is looked for.
    action: String,
    #[serde(flatten)]
    which: LettersQuery,
    /// Drawn when the page was rendered: pressing a button twice is one replay.
    key: Option<String>,
    /// `tick-NUMBER` of those that are ticked.
    #[serde(flatten)]
    ticks: BTreeMap<String, String>,
}

pub(super) async fn act(
    State(app): State<App>,
    _visitor: Visitor,
    RequestActor(actor): RequestActor,
    form: Result<Form<ActionForm>, FormRejection>,
) -> Result<Redirect, Problem> {
    let Form(ActionForm {
        action,
        which,
        key,
        ticks,
    }) = form?;
    let unknown =
        || Problem::bad_request("unknown action; a dead letter can be replayed or discarded");
    let (action, what) = action.split_once(' ').ok_or_else(unknown)?;
    let again = match action {
        "replay" => true,
        "discard" => false,
        _ => return Err(unknown()),
    };
    let selection = match what {
        "all" => DeadLetterSelection {
            job_id: which.job_id()?,
            tenant_id: which.tenant_id()?,
            ..DeadLetterSelection::default()
        },
        "ticked" => {
            let ids = ticks.keys().filter_map(|name| name.strip_prefix("tick-"));
            let ids: Result<BTreeSet<i64>, _> = ids.map(str::parse).collect();
            let ids = ids.map_err(|_| unknown())?;
            if ids.is_empty() {
                return Err(Problem::bad_request(
                    "no dead letter is selected; select some first",
                ));
            }
            DeadLetterSelection {
                ids: Some(ids),
                ..DeadLetterSelection::default()
            }
        }
        id => DeadLetterSelection::one(id.parse().map_err(|_| unknown())?),
    };
    if again {
        let IdempotencyHeader(key) = IdempotencyHeader::of_form(key)?;
        app.operator
            .replay(&actor, key.as_ref(), &selection)
            .await?;
    } else {
        app.operator.discard(&actor, &selection).await?;
    }
    Ok(Redirect::to("/dead-letters"))
}

#[derive(Template)]
#[template(path = "quarantine.html")]
struct QuarantinePage {
    visitor: Visitor,
    entries: Vec<Quarantined>,
    all: usize,
}

pub(super) async fn quarantine(
    State(app): State<App>,
    visitor: Visitor,
) -> Result<Html<String>, Problem> {
    let (entries, all) = app.operator.quarantined(MAX_QUARANTINED);
    render(&QuarantinePage {
        visitor,
        entries,
        all,
    })
}
