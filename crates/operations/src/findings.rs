//! What is wrong, and which of it operators know.

use axum::{Json, body::Bytes, extract::State};

use super::{
    App,
    audit::RequestActor,
    model::{AcknowledgeRequest, Finding, FindingList},
    problem::{AnyProblem, Problem},
};

/// What is wrong, with since when and the remedy: one entry for each cause.
///
/// While the store does not answer, this is one of the findings, and what only the store knows is left out.
#[utoipa::path(get, operation_id = "findings", path = "/findings", responses(
    (status = 200, body = FindingList, description = "The findings"),
    AnyProblem
))]
pub(super) async fn list(State(app): State<App>) -> Json<FindingList> {
    let findings = match app.operator.findings().await {
        Ok(findings) => findings,
        Err(_) => app.operator.readiness().await,
    };
    let all = findings.all().into_iter();
    let findings = all.map(|finding| Finding::of(finding, (app.words.remedy)(&finding.kind)));
    Json(FindingList {
        findings: findings.collect(),
    })
}

/// Acknowledges a finding: until it changes, it is listed after those that are not acknowledged.
#[utoipa::path(post, operation_id = "acknowledge_finding", path = "/findings/acknowledge", request_body(content = AcknowledgeRequest, description = "`{\"id\": ID, \"state\": UUID}` as the list of findings has them; `\"known\": false` withdraws it"), responses(
    (status = 200, body = Finding, description = "The finding that was acknowledged"),
    AnyProblem
))]
pub(super) async fn acknowledge(
    State(app): State<App>,
    RequestActor(actor): RequestActor,
    body: Bytes,
) -> Result<Json<Finding>, Problem> {
    let request: AcknowledgeRequest = serde_json::from_slice(&body).map_err(|error| {
        Problem::bad_request(format!(
            "invalid body ({error}); send {{\"id\": \"ID\", \"state\": \"UUID\"}}"
        ))
    })?;
    let AcknowledgeRequest { id, state, known } = request;
    let found = app.operator.acknowledge(&actor, &id, state, known).await?;
    let remedy = (app.words.remedy)(&found.kind);
    Ok(Json(Finding::of(&found, remedy)))
}
