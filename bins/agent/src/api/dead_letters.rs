//! Items that failed for good: list them, run them again, or let them go.

use std::{collections::BTreeSet, fmt};

use axum::{
    Json,
    body::Bytes,
    extract::{Path, Query, State, rejection::QueryRejection},
};
use punctual_application::{
    ports::{Clock, DeadLetterFilter, Page, SystemClock},
    replay,
};
use punctual_domain::{DeadLetter, DeadLetterState, JobId, TenantId};
use serde::Deserialize;
use serde_json::{Value, json};
use tracing::info;
use utoipa::IntoParams;

use super::{
    App, PageQuery,
    audit::By,
    problem::{AnyProblem, Problem},
};

/// How many are settled in one transaction.
const AT_ONCE: u32 = 1_000;

#[derive(Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
pub(super) struct ListQuery {
    /// Of this job only.
    #[param(value_type = Option<String>)]
    job_id: Option<JobId>,
    /// Of this tenant only.
    #[param(value_type = Option<String>)]
    tenant_id: Option<TenantId>,
    /// `open`, `replayed` or `discarded` only.
    #[param(value_type = Option<String>)]
    state: Option<DeadLetterState>,
    /// Where the next page begins, as the last one said.
    cursor: Option<String>,
    /// How many at most, 1 to 1000; 100 unless told.
    limit: Option<u32>,
}

/// What failed for good, newest first.
#[utoipa::path(get, operation_id = "dead_letters", path = "/dead-letters", params(ListQuery), responses(
    (status = 200, body = Object, description = "`dead_letters`, and the `next_cursor`"),
    AnyProblem
))]
pub(super) async fn list(
    State(app): State<App>,
    query: Result<Query<ListQuery>, QueryRejection>,
) -> Result<Json<Value>, Problem> {
    let Query(ListQuery {
        job_id,
        tenant_id,
        state,
        cursor,
        limit,
    }) = query?;
    let filter = DeadLetterFilter {
        job_id,
        tenant_id,
        state,
    };
    let page = Page::from(PageQuery { cursor, limit });
    let (letters, next_cursor) = app.reader.dead_letters(&filter, &page).await?;
    Ok(Json(
        json!({ "dead_letters": letters, "next_cursor": next_cursor }),
    ))
}

/// Which open ones: by number, or all of a job or a tenant, or with neither all there are.
#[derive(Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Wanted {
    #[serde(default)]
    pub(super) ids: BTreeSet<i64>,
    pub(super) job_id: Option<JobId>,
    pub(super) tenant_id: Option<TenantId>,
}

impl fmt::Display for Wanted {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if !self.ids.is_empty() {
            let ids: Vec<String> = self.ids.iter().take(20).map(ToString::to_string).collect();
            return write!(f, "{} of them: {}", self.ids.len(), ids.join(", "));
        }
        match (&self.job_id, &self.tenant_id) {
            (None, None) => f.write_str("all that are open"),
            (Some(job_id), None) => write!(f, "all of {job_id}"),
            (None, Some(tenant_id)) => write!(f, "all of tenant {tenant_id}"),
            (Some(job_id), Some(tenant_id)) => write!(f, "all of tenant {tenant_id} in {job_id}"),
        }
    }
}

/// Runs open dead letters again, as the same occurrences and with the same idempotency keys.
#[utoipa::path(post, operation_id = "replay_dead_letters", path = "/dead-letters/replay", request_body(content = Object, description = "`{\"ids\": [1, 2]}`, `{\"job_id\": JOB, \"tenant_id\": ID}`, or `{}` for all that are open"), responses(
    (status = 200, body = Object, description = "How many are `replayed`, which are `not_open`, and the `batches`"),
    AnyProblem
))]
pub(super) async fn replay_many(
    State(app): State<App>,
    by: By,
    body: Bytes,
) -> Result<Json<Value>, Problem> {
    app.settle(&by, wanted(&body)?, true).await
}

/// Lets open dead letters go.
#[utoipa::path(post, operation_id = "discard_dead_letters", path = "/dead-letters/discard", request_body(content = Object, description = "`{\"ids\": [1, 2]}`, `{\"job_id\": JOB, \"tenant_id\": ID}`, or `{}` for all that are open"), responses(
    (status = 200, body = Object, description = "How many are `discarded`, which are `not_open`, and the `batches`"),
    AnyProblem
))]
pub(super) async fn discard_many(
    State(app): State<App>,
    by: By,
    body: Bytes,
) -> Result<Json<Value>, Problem> {
    app.settle(&by, wanted(&body)?, false).await
}

/// Runs an open dead letter again.
#[utoipa::path(post, operation_id = "replay_dead_letter", path = "/dead-letters/{id}/replay", params(("id" = i64, Path, description = "Its number")), responses(
    (status = 200, body = Object, description = "How many are `replayed`, and the `batches`"),
    AnyProblem
))]
pub(super) async fn replay_one(
    State(app): State<App>,
    by: By,
    Path(id): Path<String>,
) -> Result<Json<Value>, Problem> {
    app.settle(&by, one(&id)?, true).await
}

/// Lets an open dead letter go.
#[utoipa::path(post, operation_id = "discard_dead_letter", path = "/dead-letters/{id}/discard", params(("id" = i64, Path, description = "Its number")), responses(
    (status = 200, body = Object, description = "How many are `discarded`, and the `batches`"),
    AnyProblem
))]
pub(super) async fn discard_one(
    State(app): State<App>,
    by: By,
    Path(id): Path<String>,
) -> Result<Json<Value>, Problem> {
    app.settle(&by, one(&id)?, false).await
}

fn one(id: &str) -> Result<Wanted, Problem> {
    let id: i64 = id.parse().map_err(|_| {
        Problem::bad_request(
            "a dead letter's id is a whole number; GET /api/v1/dead-letters lists them",
        )
    })?;
    Ok(Wanted {
        ids: [id].into(),
        ..Wanted::default()
    })
}

fn wanted(body: &[u8]) -> Result<Wanted, Problem> {
    let wanted: Wanted = serde_json::from_slice(body).map_err(|error| {
        Problem::bad_request(format!(
            "the body cannot be used ({error}); send {{\"ids\": [1, 2]}}, {{\"job_id\": \"JOB\"}}, \
             {{\"tenant_id\": \"ID\"}}, or {{}} for all that are open"
        ))
    })?;
    if !wanted.ids.is_empty() && (wanted.job_id.is_some() || wanted.tenant_id.is_some()) {
        return Err(Problem::bad_request(
            "ids go without job_id and tenant_id; send one or the other",
        ));
    }
    Ok(wanted)
}

impl App {
    /// Replays or discards what is wanted of the open ones, a thousand at a time.
    pub(super) async fn settle(
        &self,
        by: &By,
        wanted: Wanted,
        again: bool,
    ) -> Result<Json<Value>, Problem> {
        let action = if again { "replay" } else { "discard" };
        self.audit(by, action, "dead letters", &wanted.to_string())
            .await?;
        let filter = DeadLetterFilter {
            job_id: wanted.job_id,
            tenant_id: wanted.tenant_id,
            state: Some(DeadLetterState::Open),
        };
        let (mut settled, mut missing, mut batches) = (0, wanted.ids.clone(), Vec::new());
        let mut page = Page {
            cursor: None,
            limit: AT_ONCE,
        };
        loop {
            let (letters, next) = self.reader.dead_letters(&filter, &page).await?;
            let is_wanted =
                |letter: &DeadLetter| wanted.ids.is_empty() || wanted.ids.contains(&letter.id);
            let letters: Vec<DeadLetter> = letters.into_iter().filter(is_wanted).collect();
            let ids: Vec<i64> = letters.iter().map(|letter| letter.id).collect();
            missing.retain(|id| !ids.contains(id));
            if !ids.is_empty() {
                let now = SystemClock.now();
                let new = if again {
                    replay(&letters, &self.jobs.current(), self.chunk_size, now)
                } else {
                    Vec::new()
                };
                batches.extend(new.iter().map(|batch| batch.batch_id));
                settled += self.noted(self.queue.settle(&ids, new, now).await)?;
            }
            let all_found = !wanted.ids.is_empty() && missing.is_empty();
            match next {
                Some(next) if !all_found => page.cursor = Some(next),
                _ => break,
            }
        }
        if let Some(id) = missing.first().filter(|_| settled == 0) {
            return Err(Problem::missing(format!(
                "dead letter {id} is not open; GET /api/v1/dead-letters?state=open lists those that are"
            )));
        }
        let word = if again { "replayed" } else { "discarded" };
        info!(settled, "{settled} dead letters are {word} by hand");
        Ok(Json(
            json!({ word: settled, "not_open": missing, "batches": batches }),
        ))
    }
}
