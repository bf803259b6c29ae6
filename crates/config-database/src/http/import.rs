//! Import over HTTP: the body is read as it comes, line by line.

use axum::{Extension, Json, body::Body, extract::State, http::StatusCode};
use futures::StreamExt;
use punctual_web::Problem;

use super::{App, auth::Caller, problem::AnyProblem};
use crate::import::{Import, ImportReport, NewSchedules};

/// Imports configurations, one JSON object per line: `{"tenant_id", "config_key", "config_value", "updated_at"}`,
/// the key and the time being optional. A line with `organization_id` in place of `tenant_id` has the preferences of an organization,
/// and one with `feature_type` describes a feature.
///
/// Valid lines are stored, invalid ones counted, and the first 100 of them listed. Storing what is stored changes
/// nothing, so an import that was cut off is resumed by sending it again. However old `updated_at` is, a schedule that
/// is new here counts from now on.
#[utoipa::path(post, path = "/preferences/import", request_body(content = String, content_type = "application/x-ndjson"), responses(
    (status = 200, body = ImportReport, description = "What was stored, and the rejected lines"),
    AnyProblem,
))]
pub(super) async fn import(
    State(app): State<App>,
    Extension(caller): Extension<Caller>,
    body: Body,
) -> Result<Json<ImportReport>, Problem> {
    let mut import = Import::new(&app.store, &caller.name, NewSchedules::SinceNow);
    let mut body = body.into_data_stream();
    while let Some(piece) = body.next().await {
        let piece = piece.map_err(|error| {
            let detail = format!("the body cannot be read: {error}");
            Problem::new(StatusCode::BAD_REQUEST, detail)
        })?;
        import.take(&piece).await?;
    }
    Ok(Json(import.finish().await?))
}
