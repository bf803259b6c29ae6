//! The preferences of all tenants: in groups, and as a feed of changes.

use std::time::Duration;

use axum::{
    Json,
    extract::{Query, State, rejection::QueryRejection},
    http::StatusCode,
};
use punctual_domain::FeatureType;
use serde::Deserialize;
use serde_json::{Value, json};

use super::{App, problem::Problem};
use crate::store::{FeedPage, GroupsPage};

const LARGEST_PAGE: u32 = 10_000;
const CHANGES_AT_ONCE: u32 = 1_000;
const LONGEST_WAIT: u64 = 60;

#[derive(Deserialize)]
pub(super) struct GroupsQuery {
    feature_type: Option<String>,
    cursor: Option<String>,
    limit: Option<u32>,
}

pub(super) async fn groups(
    State(app): State<App>,
    query: Result<Query<GroupsQuery>, QueryRejection>,
) -> Result<Json<GroupsPage>, Problem> {
    let Query(query) = query?;
    let feature_type = query.feature_type.ok_or_else(|| {
        Problem::new(
            StatusCode::BAD_REQUEST,
            "feature_type is missing; add ?feature_type=instagram_posts",
        )
    })?;
    let limit = query.limit.map(|limit| limit.clamp(1, LARGEST_PAGE));
    let page = app
        .store
        .groups(
            &FeatureType::new(&feature_type)?,
            query.cursor.as_deref(),
            limit,
        )
        .await?;
    Ok(Json(page))
}

#[derive(Deserialize)]
pub(super) struct ChangesQuery {
    since_id: Option<i64>,
    feature_type: Option<String>,
    limit: Option<u32>,
    wait: Option<u64>,
}

pub(super) async fn changes(
    State(app): State<App>,
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
    let limit = query
        .limit
        .unwrap_or(CHANGES_AT_ONCE)
        .clamp(1, LARGEST_PAGE);
    let wait = Duration::from_secs(query.wait.unwrap_or(0).min(LONGEST_WAIT));
    let mut stopping = app.stopping.clone();
    tokio::select! {
        page = app.store.changes(since_id, feature_type.as_ref(), limit, wait) => Ok(Json(page?)),
        _ = stopping.wait_for(|stopping| *stopping) => {
            Err(Problem::new(StatusCode::SERVICE_UNAVAILABLE, "the Config Database is stopping; try again"))
        }
    }
}

pub(super) async fn feature_types(State(app): State<App>) -> Result<Json<Value>, Problem> {
    let entry =
        |(feature_type, enabled)| json!({"feature_type": feature_type, "enabled_tenants": enabled});
    let entries: Vec<Value> = app
        .store
        .feature_types()
        .await?
        .into_iter()
        .map(entry)
        .collect();
    Ok(Json(json!({ "feature_types": entries })))
}
