//! The JSON Schemas of features.

use axum::{
    Json,
    body::Bytes,
    extract::{Path, State},
    http::StatusCode,
};
use punctual_domain::FeatureType;
use serde_json::Value;

use super::{App, problem::Problem};

pub(super) async fn read(
    State(app): State<App>,
    Path(feature): Path<String>,
) -> Result<Json<Value>, Problem> {
    let feature = FeatureType::new(&feature)?;
    app.store
        .schema(&feature)
        .await?
        .map(Json)
        .ok_or_else(|| missing(&feature))
}

pub(super) async fn store(
    State(app): State<App>,
    Path(feature): Path<String>,
    body: Bytes,
) -> Result<StatusCode, Problem> {
    let schema: Value = serde_json::from_slice(&body).map_err(|error| {
        Problem::new(
            StatusCode::BAD_REQUEST,
            format!("the body is not JSON: {error}"),
        )
    })?;
    app.store
        .set_schema(&FeatureType::new(&feature)?, &schema)
        .await?;
    Ok(StatusCode::NO_CONTENT)
}

pub(super) async fn remove(
    State(app): State<App>,
    Path(feature): Path<String>,
) -> Result<StatusCode, Problem> {
    let feature = FeatureType::new(&feature)?;
    if app.store.remove_schema(&feature).await? {
        return Ok(StatusCode::NO_CONTENT);
    }
    Err(missing(&feature))
}

fn missing(feature: &FeatureType) -> Problem {
    Problem::new(
        StatusCode::NOT_FOUND,
        format!("{feature} has no schema: its overrides may be anything"),
    )
}
