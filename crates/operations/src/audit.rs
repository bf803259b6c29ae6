//! Who asks and why, and the audit log of what was asked for.

use axum::{
    Json,
    body::{Body, Bytes},
    extract::{FromRequestParts, Request, State},
    http::{Extensions, HeaderMap, header, request::Parts},
    middleware::Next,
    response::{IntoResponse, Response},
};
use chrono::{DateTime, NaiveTime, Utc};
use futures::{StreamExt, stream};
use punctual_application::{
    Actor, Role,
    ports::{AuditEntry, AuditFilter, Page},
};
use punctual_domain::visible;
use serde::Deserialize;
use utoipa::IntoParams;

use super::{
    App, Listed, PageQuery, auth,
    model::AuditLog,
    problem::{AnyProblem, Problem},
};

/// Characters of a reason at most.
const MAX_REASON: usize = 500;
/// The most bytes of a form in which a reason is looked for; larger ones are refused anyway.
const MAX_FORM_BYTES: usize = 2 * 1024 * 1024;
/// Entries read at a time for an export.
const EXPORT_PAGE: u32 = 1_000;

/// Who asks and why: as [`auth`] or the service around the router says.
pub(super) struct RequestActor(pub(super) Actor);

impl<S: Send + Sync> FromRequestParts<S> for RequestActor {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, Problem> {
        let actor = parts.extensions.get::<Actor>().cloned();
        let actor = actor.ok_or_else(punctual_web::Problem::unauthorized)?;
        let reason = reason_of(&parts.headers, &parts.extensions)?;
        Ok(Self(match reason {
            Some(reason) => actor.because(reason),
            None => actor,
        }))
    }
}

/// The reason that a form has given.
#[derive(Clone)]
struct FormReason(String);

/// Why a request is made, if it says so.
fn reason_of(headers: &HeaderMap, extensions: &Extensions) -> Result<Option<String>, Problem> {
    let form = extensions
        .get::<FormReason>()
        .map(|reason| reason.0.as_str());
    let header = punctual_web::reason::of(headers)?;
    let Some(given) = form.or(header) else {
        return Ok(None);
    };
    let given = given.trim();
    let length = given.chars().count();
    if length > MAX_REASON {
        return Err(Problem::bad_request(format!(
            "the reason has {length} characters; give at most {MAX_REASON}"
        )));
    }
    if visible(given) != given {
        return Err(Problem::bad_request(
            "the reason has control characters; give it in one line of text",
        ));
    }
    Ok((!given.is_empty()).then(|| given.to_owned()))
}

/// Middleware of the pages: finds the reason in a form that is sent, whatever else the form is for.
pub(super) async fn reason_of_form(request: Request, next: Next) -> Result<Response, Problem> {
    if request.method().is_safe() {
        return Ok(next.run(request).await);
    }
    let (mut parts, body) = request.into_parts();
    let bytes = read_form(body).await?;
    let fields: Vec<(String, String)> = serde_urlencoded::from_bytes(&bytes).unwrap_or_default();
    let reason = fields.into_iter().find(|(name, _)| name == "reason");
    if let Some((_, reason)) = reason.filter(|(_, reason)| !reason.trim().is_empty()) {
        parts.extensions.insert(FormReason(reason));
    }
    let request = Request::from_parts(parts, Body::from(bytes));
    Ok(next.run(request).await)
}

async fn read_form(body: Body) -> Result<Bytes, Problem> {
    let read = axum::body::to_bytes(body, MAX_FORM_BYTES).await;
    read.map_err(|_| {
        let what = format!("the form is larger than {MAX_FORM_BYTES} bytes, or ended early");
        punctual_web::Problem::new(axum::http::StatusCode::PAYLOAD_TOO_LARGE, what).into()
    })
}

#[derive(Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
pub(super) struct ListQuery {
    /// Only this action, such as `pause`.
    action: Option<String>,
    /// Only entries about this subject, such as a job.
    subject: Option<String>,
    /// `ndjson`: all entries, one on each line, without pages. Needs the role `administer`.
    format: Option<String>,
    /// With `format=ndjson`: only entries since this date, in UTC, or this instant.
    since: Option<String>,
}

/// Actions of operators, newest first.
#[utoipa::path(get, operation_id = "audit_log", path = "/audit-log", params(ListQuery, PageQuery), responses(
    (status = 200, body = AuditLog, description = "The audit log; with `format=ndjson` an entry on each line"),
    AnyProblem
))]
pub(super) async fn list(
    State(app): State<App>,
    Listed(asked, page): Listed<ListQuery>,
    request: Request,
) -> Result<Response, Problem> {
    let ListQuery {
        action,
        subject,
        format,
        since,
    } = asked;
    let filter = AuditFilter { action, subject };
    let since = since.as_deref().map(instant).transpose()?;
    match format.as_deref() {
        Some("ndjson") => {
            auth::require(Role::Administer, request.extensions())?;
            export(app, filter, since).await
        }
        Some(other) => Err(Problem::bad_request(format!(
            "format is `{}`; expected `ndjson`, or no format for a page",
            visible(other)
        ))),
        None if since.is_some() => Err(Problem::bad_request(
            "since goes with format=ndjson; add it, or leave since out",
        )),
        None => {
            let (entries, next_cursor) = app.operator.operations.audit_log(&filter, &page).await?;
            let log = AuditLog {
                entries,
                next_cursor,
            };
            Ok(Json(log).into_response())
        }
    }
}

/// A date in UTC, or an instant.
fn instant(text: &str) -> Result<DateTime<Utc>, Problem> {
    let date = text.parse::<chrono::NaiveDate>();
    let begin = date.map(|date| date.and_time(NaiveTime::MIN).and_utc());
    let instant = begin.or_else(|_| text.parse::<DateTime<Utc>>());
    instant.map_err(|_| {
        Problem::bad_request(format!(
            "since is `{}`; expected a date such as 2026-03-01, or an instant in RFC 3339",
            visible(text)
        ))
    })
}

/// Everything, an entry on each line, in pages of the store. The first page is read before the answer begins, so that a store that
/// fails is an error; one that fails later breaks the answer off.
async fn export(
    app: App,
    filter: AuditFilter,
    since: Option<DateTime<Utc>>,
) -> Result<Response, Problem> {
    let mut page = Page {
        cursor: None,
        limit: EXPORT_PAGE,
    };
    let operations = app.operator.operations;
    let (entries, next) = operations.audit_log(&filter, &page).await?;
    let first = lines(&entries, since);
    page.cursor = next.filter(|_| goes_on(&entries, since));
    let rest = stream::try_unfold(page, move |mut page| {
        let (operations, filter) = (operations.clone(), filter.clone());
        async move {
            if page.cursor.is_none() {
                return Ok(None);
            }
            let (entries, next) = operations.audit_log(&filter, &page).await?;
            page.cursor = next.filter(|_| goes_on(&entries, since));
            Ok::<_, punctual_application::ports::StoreError>(Some((lines(&entries, since), page)))
        }
    });
    let all = stream::once(async move { Ok(first) }).chain(rest);
    let kind = [(header::CONTENT_TYPE, "application/x-ndjson")];
    Ok((kind, Body::from_stream(all)).into_response())
}

/// Whether older entries may be wanted. Those of other replicas, whose clocks differ, stand a little out of order.
fn goes_on(entries: &[AuditEntry], since: Option<DateTime<Utc>>) -> bool {
    since.is_none_or(|since| entries.iter().any(|entry| entry.at >= since))
}

fn lines(entries: &[AuditEntry], since: Option<DateTime<Utc>>) -> String {
    let wanted = entries
        .iter()
        .filter(|entry| since.is_none_or(|since| entry.at >= since));
    let line =
        |entry| serde_json::to_string(entry).map_or_else(|_| String::new(), |line| line + "\n");
    wanted.map(line).collect()
}
