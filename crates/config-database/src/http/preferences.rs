//! The preferences of all tenants: in groups, and as a feed of changes.

use std::time::Duration;

use axum::{
    Extension, Json,
    body::Body,
    extract::{Query, State, rejection::QueryRejection},
    http::{HeaderMap, StatusCode, header},
    response::{IntoResponse, Response},
};
use futures::stream;
use punctual_domain::{FeatureType, Shard};
use punctual_web::{Problem, ProblemBody};
use serde::{Deserialize, Serialize};
use serde_json::json;
use utoipa::{IntoParams, ToSchema};

use super::{App, auth::Caller, problem::AnyProblem};
use crate::store::{ConfigStore, ErasedPage, FeedPage, GroupsPage};

const MAX_PAGE: u32 = 10_000;
const MAX_CHANGES_PER_PAGE: u32 = 1_000;
/// Tenants read at once for a stream.
const STREAM_PAGE: u32 = 5_000;
const MAX_WAIT_SECONDS: u64 = 60;
/// Shards of one call: each is a look at every tenant.
const MAX_SHARDS: usize = 8;
const NDJSON: &str = "application/x-ndjson";
/// How agents name themselves.
const AGENT: &str = "punctual/";

#[derive(Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
pub(super) struct GroupsQuery {
    #[param(required, nullable = false)]
    feature_type: Option<String>,
    /// The `next_cursor` of the previous page.
    #[param(nullable = false)]
    cursor: Option<String>,
    /// Tenants per page, at most 10,000 (default: all).
    #[param(minimum = 1, nullable = false)]
    limit: Option<u32>,
    /// Only tenants of these shards, as `2/4` or `1/2,1/3` (default: all). A page may have fewer than `limit` then.
    #[param(nullable = false)]
    shard: Option<String>,
}

/// Tenants with a feature switched on, in groups with the same schedule.
///
/// With `Accept: application/x-ndjson` the whole snapshot streams: a line with `feature_type`, `epoch` and
/// `as_of_id`, then lines with a part of a group each, then `{"end": true, "tenants": N}`. A stream without its end
/// was cut off.
#[utoipa::path(get, path = "/preferences/groups", params(GroupsQuery), responses(
    (status = 200, content((GroupsPage = "application/json"), (String = "application/x-ndjson")), description = "The groups"),
    AnyProblem,
))]
pub(super) async fn groups(
    State(app): State<App>,
    headers: HeaderMap,
    query: Result<Query<GroupsQuery>, QueryRejection>,
) -> Result<Response, Problem> {
    let Query(query) = query?;
    let feature_type = feature_of(query.feature_type)?;
    let shards = shards_of(query.shard.as_deref())?;
    let accepts = headers
        .get(header::ACCEPT)
        .and_then(|value| value.to_str().ok());
    if accepts.is_some_and(|accepts| accepts.contains(NDJSON)) {
        return Ok(stream_groups(app.store, feature_type, shards));
    }
    let limit = query.limit.map(|limit| limit.clamp(1, MAX_PAGE));
    let page = app
        .store
        .groups(&feature_type, &shards, query.cursor.as_deref(), limit)
        .await?;
    Ok(Json(page).into_response())
}

/// Position of a stream of groups.
enum StreamState {
    Page { cursor: Option<String>, sent: usize },
    End,
}

/// All groups, a page at a time in memory. A failure cuts the stream off.
fn stream_groups(store: ConfigStore, feature_type: FeatureType, shards: Vec<Shard>) -> Response {
    let first = StreamState::Page {
        cursor: None,
        sent: 0,
    };
    let pages = stream::try_unfold(first, move |part| {
        let (store, feature_type) = (store.clone(), feature_type.clone());
        let shards = shards.clone();
        async move {
            let StreamState::Page { cursor, sent } = part else {
                return Ok(None);
            };
            let page = store
                .groups(&feature_type, &shards, cursor.as_deref(), Some(STREAM_PAGE))
                .await
                .inspect_err(
                    |error| tracing::error!(%error, "Failed to finish a stream of groups: {error}"),
                )?;
            let (lines, sent) = lines_of(&page, cursor.is_none(), sent);
            let next = match page.next_cursor {
                Some(next) => StreamState::Page {
                    cursor: Some(next),
                    sent,
                },
                None => StreamState::End,
            };
            Ok::<_, crate::store::GroupsError>(Some((lines, next)))
        }
    });
    ([(header::CONTENT_TYPE, NDJSON)], Body::from_stream(pages)).into_response()
}

/// A page as lines, and how many tenants have been sent with it.
fn lines_of(page: &GroupsPage, first: bool, sent: usize) -> (String, usize) {
    let mut lines = String::new();
    if first {
        let head = json!({"feature_type": page.feature_type, "epoch": page.epoch, "as_of_id": page.as_of_id});
        lines += &format!("{head}\n");
    }
    for group in &page.groups {
        lines += &format!("{}\n", json!(group));
    }
    let sent = sent + page.groups.iter().map(|group| group.count).sum::<usize>();
    if page.next_cursor.is_none() {
        lines += &format!("{}\n", json!({"end": true, "tenants": sent}));
    }
    (lines, sent)
}

#[derive(Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
pub(super) struct ChangesQuery {
    /// The newest change that the reader has seen; 0 for all changes kept.
    #[param(required, minimum = 0, nullable = false)]
    since_id: Option<i64>,
    #[param(nullable = false)]
    feature_type: Option<String>,
    #[param(minimum = 1, nullable = false)]
    limit: Option<u32>,
    /// Seconds to wait for a change, at most 60.
    #[param(nullable = false)]
    wait: Option<u64>,
    /// Only changes of tenants of these shards, as `2/4` or `1/2,1/3` (default: all).
    #[param(nullable = false)]
    shard: Option<String>,
}

/// The changes after `since_id`, in order. A reader that has seen N never later sees an id ≤ N.
#[utoipa::path(get, path = "/preferences/changes", params(ChangesQuery), responses(
    (status = 200, body = FeedPage, description = "The changes"),
    (status = 410, description = "since_id is outside the changes kept; read the groups again", body = ProblemBody, content_type = "application/problem+json"),
    AnyProblem,
))]
pub(super) async fn changes(
    State(app): State<App>,
    Extension(caller): Extension<Caller>,
    headers: HeaderMap,
    query: Result<Query<ChangesQuery>, QueryRejection>,
) -> Result<Json<FeedPage>, Problem> {
    let Query(query) = query?;
    let since_id = query.since_id.filter(|id| *id >= 0).ok_or_else(|| {
        Problem::new(
            StatusCode::BAD_REQUEST,
            "since_id is missing or negative; add ?since_id=0",
        )
    })?;
    let feature_type = query.feature_type.map(FeatureType::new).transpose()?;
    let shards = shards_of(query.shard.as_deref())?;
    let limit = query
        .limit
        .unwrap_or(MAX_CHANGES_PER_PAGE)
        .clamp(1, MAX_PAGE);
    let wait = Duration::from_secs(query.wait.unwrap_or(0).min(MAX_WAIT_SECONDS));
    // A cursor that the feed refuses says nothing about how far its reader has come.
    let reads = || {
        if let (Some(feature), Some(agent)) = (&feature_type, agent_name(&headers)) {
            app.store
                .note_reader(&caller.name, agent, feature, since_id);
        }
    };
    tokio::select! {
        page = app.store.changes(since_id, feature_type.as_ref(), &shards, limit, wait, reads) => Ok(Json(page?)),
        () = app.stop.cancelled() => {
            Err(Problem::new(StatusCode::SERVICE_UNAVAILABLE, "the Config Database is stopping; try again"))
        }
    }
}

#[derive(Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
pub(super) struct ErasedQuery {
    #[param(required, nullable = false)]
    feature_type: Option<String>,
    /// The `last_id` of the previous page (default: 0).
    #[param(minimum = 0, nullable = false)]
    since_id: Option<i64>,
    /// Only tenants of these shards, as `2/4` or `1/2,1/3` (default: all).
    #[param(nullable = false)]
    shard: Option<String>,
}

/// Tenants that were erased and have stored nothing since, as far back as the changes reach. Agents erase what they hold of them.
#[utoipa::path(get, path = "/preferences/erased", params(ErasedQuery), responses(
    (status = 200, body = ErasedPage, description = "The tenants"),
    AnyProblem,
))]
pub(super) async fn erased(
    State(app): State<App>,
    query: Result<Query<ErasedQuery>, QueryRejection>,
) -> Result<Json<ErasedPage>, Problem> {
    let Query(query) = query?;
    let feature_type = feature_of(query.feature_type)?;
    let shards = shards_of(query.shard.as_deref())?;
    let since_id = query.since_id.unwrap_or(0);
    let erased = app.store.erased_tenants(&feature_type, since_id, &shards);
    Ok(Json(erased.await?))
}

/// The feature that a query names, which it must.
fn feature_of(named: Option<String>) -> Result<FeatureType, Problem> {
    let missing = "feature_type is missing; add ?feature_type=instagram_posts";
    let named = named.ok_or_else(|| Problem::new(StatusCode::BAD_REQUEST, missing))?;
    Ok(FeatureType::new(&named)?)
}

/// The shards that are asked for; none: all tenants.
fn shards_of(text: Option<&str>) -> Result<Vec<Shard>, Problem> {
    let Some(text) = text else {
        return Ok(Vec::new());
    };
    let shards: Result<Vec<Shard>, _> = text.split(',').map(str::parse).collect();
    let shards = shards.ok().filter(|shards| shards.len() <= MAX_SHARDS);
    shards.ok_or_else(|| {
        Problem::new(
            StatusCode::BAD_REQUEST,
            "shard is not valid; use k/n with 1 <= k <= n <= 1024, as 2/4, or up to 8 with commas between",
        )
    })
}

fn agent_name(headers: &HeaderMap) -> Option<&str> {
    let name = headers.get(header::USER_AGENT)?.to_str().ok()?;
    (name.starts_with(AGENT) && name.len() <= 128).then_some(name)
}

/// The features.
#[derive(Serialize, ToSchema)]
pub(super) struct FeatureTypes {
    /// The features, by name.
    feature_types: Vec<FeatureTypeEntry>,
}

/// A feature.
#[derive(Serialize, ToSchema)]
struct FeatureTypeEntry {
    /// Its name.
    feature_type: String,
    /// Number of tenants who have it switched on.
    enabled_tenants: i64,
}

/// The features that have preferences or a schema.
#[utoipa::path(get, path = "/feature-types", responses((status = 200, body = FeatureTypes, description = "The features"), AnyProblem))]
pub(super) async fn feature_types(State(app): State<App>) -> Result<Json<FeatureTypes>, Problem> {
    let feature_types = app
        .store
        .feature_types()
        .await?
        .into_iter()
        .map(|(feature_type, enabled_tenants)| FeatureTypeEntry {
            feature_type,
            enabled_tenants,
        })
        .collect();
    Ok(Json(FeatureTypes { feature_types }))
}
