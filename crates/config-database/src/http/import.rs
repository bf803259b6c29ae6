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

/// An import that is fed whatever pieces arrive.
pub(super) struct Lines<'a> {
    import: Import<'a>,
    /// The beginning of a line whose end has not arrived.
    rest: Vec<u8>,
}

impl<'a> Lines<'a> {
    pub(super) fn new(import: Import<'a>) -> Self {
        Self {
            import,
            rest: Vec::new(),
        }
    }

    pub(super) async fn take(&mut self, piece: &[u8]) -> Result<(), Problem> {
        let mut lines = piece.split(|byte| *byte == b'\n').peekable();
        while let Some(part) = lines.next() {
            self.rest.extend_from_slice(part);
            if self.rest.len() > LINE_BYTES {
                return Err(Problem::new(
                    StatusCode::BAD_REQUEST,
                    format!("a line is longer than {LINE_BYTES} bytes; send one tenant a line"),
                ));
            }
            if lines.peek().is_some() {
                self.end_line().await?;
            }
        }
        Ok(())
    }

    pub(super) async fn finish(mut self) -> Result<ImportReport, Problem> {
        self.end_line().await?;
        Ok(self.import.finish().await?)
    }

    async fn end_line(&mut self) -> Result<(), Problem> {
        self.import
            .line(&String::from_utf8_lossy(&self.rest))
            .await?;
        self.rest.clear();
        Ok(())
    }
}

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
    let mut lines = Lines::new(Import::new(&app.store, &caller.name));
    let mut body = body.into_data_stream();
    while let Some(piece) = body.next().await {
        let piece = piece.map_err(|error| {
            let detail = format!("the body cannot be read: {error}");
            Problem::new(StatusCode::BAD_REQUEST, detail)
        })?;
        lines.take(&piece).await?;
    }
    Ok(Json(lines.finish().await?))
}
