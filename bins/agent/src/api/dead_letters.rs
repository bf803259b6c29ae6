//! Items that failed for good: list them, run them again, or let them go.

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt,
};

use axum::{
    Json,
    body::Bytes,
    extract::{Path, Query, State, rejection::QueryRejection},
};
use punctual_application::{
    not_replayable,
    ports::{Clock, DeadLetterFilter, Page, SystemClock},
    replay,
};
use punctual_domain::{DeadLetter, DeadLetterState, JobId, TenantId};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use tracing::info;
use utoipa::IntoParams;

use super::{
    App, PageQuery,
    audit::By,
    control::{given, refuse_nothing},
    once::Once,
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
#[derive(Debug, Default, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Wanted {
    /// An empty list is refused: it means no one.
    #[serde(default, deserialize_with = "given")]
    pub(super) ids: Option<BTreeSet<i64>>,
    #[serde(default, deserialize_with = "given")]
    pub(super) job_id: Option<JobId>,
    #[serde(default, deserialize_with = "given")]
    pub(super) tenant_id: Option<TenantId>,
    /// All that are open, in words.
    #[serde(default)]
    pub(super) all: bool,
}

impl fmt::Display for Wanted {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(ids) = &self.ids {
            let first: Vec<String> = ids.iter().take(20).map(ToString::to_string).collect();
            return write!(f, "{} of them: {}", ids.len(), first.join(", "));
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
///
/// One that is named and whose job or purpose is gone is refused, and nothing is changed. Of all that are open, such are
/// left out, and counted with the reason.
#[utoipa::path(post, operation_id = "replay_dead_letters", path = "/dead-letters/replay", params(("Idempotency-Key" = Option<String>, Header, description = "The same key within 24 hours is the same replay")), request_body(content = Object, description = "`{\"ids\": [1, 2]}`, `{\"job_id\": JOB, \"tenant_id\": ID}`, or `{\"all\": true}` or `{}` for all that are open"), responses(
    (status = 200, body = Object, description = "How many are `replayed`, which are `not_open`, the `batches`, and how many are `left_out` for which `reason`"),
    AnyProblem
))]
pub(super) async fn replay_many(
    State(app): State<App>,
    by: By,
    once: Once,
    body: Bytes,
) -> Result<Json<Value>, Problem> {
    app.replay(&by, &once, wanted(&body)?).await
}

/// Lets open dead letters go.
#[utoipa::path(post, operation_id = "discard_dead_letters", path = "/dead-letters/discard", request_body(content = Object, description = "`{\"ids\": [1, 2]}`, `{\"job_id\": JOB, \"tenant_id\": ID}`, or `{\"all\": true}` or `{}` for all that are open"), responses(
    (status = 200, body = Object, description = "How many are `discarded`, which are `not_open`, and the `batches`"),
    AnyProblem
))]
pub(super) async fn discard_many(
    State(app): State<App>,
    by: By,
    body: Bytes,
) -> Result<Json<Value>, Problem> {
    app.settle(&by, &wanted(&body)?, false).await.map(Json)
}

/// Runs an open dead letter again.
#[utoipa::path(post, operation_id = "replay_dead_letter", path = "/dead-letters/{id}/replay", params(("id" = i64, Path, description = "Its number"), ("Idempotency-Key" = Option<String>, Header, description = "The same key within 24 hours is the same replay")), responses(
    (status = 200, body = Object, description = "How many are `replayed`, and the `batches`"),
    AnyProblem
))]
pub(super) async fn replay_one(
    State(app): State<App>,
    by: By,
    once: Once,
    Path(id): Path<String>,
) -> Result<Json<Value>, Problem> {
    app.replay(&by, &once, one(&id)?).await
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
    app.settle(&by, &one(&id)?, false).await.map(Json)
}

fn one(id: &str) -> Result<Wanted, Problem> {
    let id: i64 = id.parse().map_err(|_| {
        Problem::bad_request(
            "a dead letter's id is a whole number; GET /api/v1/dead-letters lists them",
        )
    })?;
    Ok(Wanted {
        ids: Some([id].into()),
        ..Wanted::default()
    })
}

fn wanted(body: &[u8]) -> Result<Wanted, Problem> {
    let wanted: Wanted = serde_json::from_slice(body).map_err(|error| {
        Problem::bad_request(format!(
            "the body cannot be used ({error}); send {{\"ids\": [1, 2]}}, {{\"job_id\": \"JOB\"}}, \
             {{\"tenant_id\": \"ID\"}}, or {{\"all\": true}} for all that are open"
        ))
    })?;
    refuse_nothing("ids", wanted.ids.as_ref(), wanted.all)?;
    let of_some = wanted.job_id.is_some() || wanted.tenant_id.is_some();
    if of_some && (wanted.ids.is_some() || wanted.all) {
        return Err(Problem::bad_request(
            "ids and all go without job_id and tenant_id; send one or the other",
        ));
    }
    Ok(wanted)
}

impl App {
    /// Replays what is wanted of the open ones, once for a key.
    pub(super) async fn replay(
        &self,
        by: &By,
        once: &Once,
        wanted: Wanted,
    ) -> Result<Json<Value>, Problem> {
        let act = |_, _| self.settle(by, &wanted, true);
        let done = self.once(once, "replay".to_owned(), &wanted, act);
        done.await.map(Json)
    }

    /// Replays or discards what is wanted of the open ones, a thousand at a time.
    pub(super) async fn settle(
        &self,
        by: &By,
        wanted: &Wanted,
        again: bool,
    ) -> Result<Value, Problem> {
        let jobs = self.jobs.current();
        let refusal = |job_id: &JobId| match again {
            true => not_replayable(job_id, &jobs, &self.handlers),
            false => None,
        };
        if let Some(reason) = wanted.job_id.as_ref().and_then(refusal) {
            return Err(Problem::conflict(format!(
                "{reason}; its dead letters stay open"
            )));
        }
        let mut missing = wanted.ids.clone().unwrap_or_default();
        // A refusal comes before any change.
        if again && !missing.is_empty() {
            self.each_page(wanted, |letters| {
                let refused = letters
                    .iter()
                    .find_map(|letter| Some((letter.id, refusal(&letter.job_id)?)));
                match refused {
                    Some((id, reason)) => Err(Problem::conflict(format!(
                        "dead letter {id} cannot be replayed: {reason}; nothing is changed"
                    ))),
                    None => Ok(()),
                }
            })
            .await?;
        }
        let action = if again { "replay" } else { "discard" };
        self.audit(by, action, "dead letters", &wanted.to_string())
            .await?;
        let (mut settled, mut batches, mut pages) = (0, Vec::new(), Vec::new());
        let mut left_out: BTreeMap<String, usize> = BTreeMap::new();
        self.each_page(wanted, |mut letters| {
            letters.retain(|letter| {
                missing.remove(&letter.id);
                let reason = refusal(&letter.job_id);
                let stays = reason.is_none();
                if let Some(reason) = reason {
                    *left_out.entry(reason).or_default() += 1;
                }
                stays
            });
            pages.push(letters);
            Ok(())
        })
        .await?;
        for letters in pages.iter().filter(|letters| !letters.is_empty()) {
            let ids: Vec<i64> = letters.iter().map(|letter| letter.id).collect();
            let now = SystemClock.now();
            let new = match again {
                true => replay(letters, &jobs, self.chunk_size, now),
                false => Vec::new(),
            };
            batches.extend(new.iter().map(|batch| batch.batch_id));
            settled += self.noted(self.queue.settle(&ids, new, now).await)?;
        }
        if let Some(id) = missing.first().filter(|_| settled == 0) {
            return Err(Problem::missing(format!(
                "dead letter {id} is not open; GET /api/v1/dead-letters?state=open lists those that are"
            )));
        }
        let word = if again { "replayed" } else { "discarded" };
        info!(settled, "{settled} dead letters are {word} by hand");
        let left_out: Vec<Value> = left_out
            .iter()
            .map(|(reason, count)| json!({"reason": reason, "dead_letters": count}))
            .collect();
        let mut answer = json!({ word: settled, "not_open": missing, "batches": batches });
        if again {
            answer["left_out"] = json!(left_out);
        }
        Ok(answer)
    }

    /// Looks at what is wanted of the open ones, a thousand at a time.
    async fn each_page(
        &self,
        wanted: &Wanted,
        mut look: impl FnMut(Vec<DeadLetter>) -> Result<(), Problem>,
    ) -> Result<(), Problem> {
        let filter = DeadLetterFilter {
            job_id: wanted.job_id.clone(),
            tenant_id: wanted.tenant_id.clone(),
            state: Some(DeadLetterState::Open),
        };
        let mut left = wanted.ids.as_ref().map(BTreeSet::len);
        let mut page = Page {
            cursor: None,
            limit: AT_ONCE,
        };
        loop {
            let (mut letters, next) = self.reader.dead_letters(&filter, &page).await?;
            if let (Some(ids), Some(left)) = (&wanted.ids, &mut left) {
                letters.retain(|letter| ids.contains(&letter.id));
                *left -= letters.len();
            }
            look(letters)?;
            match next {
                Some(next) if left != Some(0) => page.cursor = Some(next),
                _ => return Ok(()),
            }
        }
    }
}
