//! Import over HTTP: the body is read as it comes, line by line.

use axum::{Extension, Json, body::Body, extract::State, http::StatusCode};
use futures::StreamExt;

use super::{
    App,
    auth::Caller,
    problem::{AnyProblem, Problem},
};
use crate::import::{Import, ImportReport};

/// The longest line.
const LINE_BYTES: usize = 1024 * 1024;

/// Stores many configurations, one JSON object a line: `{"tenant_id", "config_key", "config_value", "updated_at"}`,
/// the key and the time being optional.
///
/// Valid lines are stored, invalid ones listed. Storing what is stored changes nothing, so an import that was cut off
/// is resumed by sending it again.
#[utoipa::path(post, path = "/preferences/import", request_body(content = String, content_type = "application/x-ndjson"), responses(
    (status = 200, body = ImportReport),
    AnyProblem,
))]
pub(super) async fn import(
    State(app): State<App>,
    Extension(caller): Extension<Caller>,
    body: Body,
) -> Result<Json<ImportReport>, Problem> {
    let bad = |detail: String| Problem::new(StatusCode::BAD_REQUEST, detail);
    let mut import = Import::new(&app.store, &caller.name);
    let mut rest: Vec<u8> = Vec::new();
    let mut body = body.into_data_stream();
    while let Some(piece) = body.next().await {
        let piece = piece.map_err(|error| bad(format!("the body cannot be read: {error}")))?;
        let mut lines = piece.split(|byte| *byte == b'\n').peekable();
        while let Some(part) = lines.next() {
            rest.extend_from_slice(part);
            if rest.len() > LINE_BYTES {
                return Err(bad(format!(
                    "a line is longer than {LINE_BYTES} bytes; send one tenant a line"
                )));
            }
            if lines.peek().is_some() {
                import.line(&String::from_utf8_lossy(&rest)).await?;
                rest.clear();
            }
        }
    }
    import.line(&String::from_utf8_lossy(&rest)).await?;
    Ok(Json(import.finish().await?))
}
