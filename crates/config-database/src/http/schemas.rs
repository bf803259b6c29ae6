//! The JSON Schemas of features.

use axum::{
    Json,
    extract::{Path, State},
    http::StatusCode,
};
use punctual_domain::FeatureType;
use punctual_web::{Problem, ProblemBody};
use serde::{Deserialize, Serialize};
use serde_json::Value;
use utoipa::ToSchema;

use super::{
    App,
    problem::{AnyProblem, JsonBody},
};

/// A JSON Schema of the `template_overrides` of a feature, as it was stored; json-schema.org describes its keywords.
#[derive(Serialize, Deserialize, ToSchema)]
#[serde(transparent)]
#[schema(value_type = Object)]
pub(super) struct FeatureSchema(Value);

/// The JSON Schema of a feature's `template_overrides`.
#[utoipa::path(get, operation_id = "schema", path = "/feature-types/{feature_type}/schema", params(("feature_type" = String, Path, pattern = "^[A-Za-z0-9._:@-]{1,128}$")), responses(
    (status = 200, body = FeatureSchema, description = "The schema"),
    (status = 404, description = "The feature has no schema", body = ProblemBody, content_type = "application/problem+json"),
    AnyProblem,
))]
pub(super) async fn read(
    State(app): State<App>,
    Path(feature): Path<String>,
) -> Result<Json<FeatureSchema>, Problem> {
    let feature = FeatureType::new(&feature)?;
    let schema = app.store.schema(&feature).await?;
    let schema = schema.ok_or_else(|| missing(&feature))?;
    Ok(Json(FeatureSchema(schema)))
}

/// Stores a JSON Schema, in effect for everything stored from now on.
///
/// It stays within itself and within 10,000 values, each counted as often as a `$ref` leads to it.
#[utoipa::path(put, operation_id = "store_schema", path = "/feature-types/{feature_type}/schema", params(("feature_type" = String, Path, pattern = "^[A-Za-z0-9._:@-]{1,128}$")), request_body = FeatureSchema, responses(
    (status = 204, description = "The schema is in effect"),
    AnyProblem,
))]
pub(super) async fn store(
    State(app): State<App>,
    Path(feature): Path<String>,
    JsonBody(FeatureSchema(schema)): JsonBody<FeatureSchema>,
) -> Result<StatusCode, Problem> {
    if !schema.is_object() {
        return Err(Problem::bad_request(
            "the schema is not an object; send {} to take any overrides",
        ));
    }
    app.store
        .set_schema(&FeatureType::new(&feature)?, &schema)
        .await?;
    Ok(StatusCode::NO_CONTENT)
}

/// Removes the schema of a feature.
#[utoipa::path(delete, operation_id = "remove_schema", path = "/feature-types/{feature_type}/schema", params(("feature_type" = String, Path, pattern = "^[A-Za-z0-9._:@-]{1,128}$")), responses(
    (status = 204, description = "The schema is removed; overrides are not checked"),
    (status = 404, description = "The feature has no schema", body = ProblemBody, content_type = "application/problem+json"),
    AnyProblem,
))]
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
        format!("{feature} has no schema; its overrides are not checked"),
    )
}
