//! What is wrong.

use axum::{Json, extract::State};
use punctual_application::{self as application, Severity};

use super::{
    App,
    model::{Finding, FindingList},
    problem::AnyProblem,
};

/// What is wrong, with since when and the remedy, as the overview shows it.
///
/// While the store does not answer, this is one of the findings, and what only the store knows is left out.
#[utoipa::path(get, operation_id = "findings", path = "/findings", responses(
    (status = 200, body = FindingList, description = "The findings"),
    AnyProblem
))]
pub(super) async fn list(State(app): State<App>) -> Json<FindingList> {
    let found = match app.operator.findings().await {
        Ok(found) => found,
        Err(_) => app.operator.readiness().await,
    };
    let remedy = app.words.remedy;
    let shown = |severity| {
        move |finding: &application::Finding| Finding {
            severity,
            what: finding.what.clone(),
            remedy: remedy(&finding.kind),
            since: finding.since,
        }
    };
    let critical = found.not_ready.iter().map(shown(Severity::Critical));
    let warnings = found.warnings.iter().map(shown(Severity::Warning));
    Json(FindingList {
        findings: critical.chain(warnings).collect(),
    })
}
