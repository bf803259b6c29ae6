//! Alerts that go out.

use axum::{Json, extract::State};
use punctual_application::{AlertTestReport, Alerting, ports::Page};
use serde::Deserialize;

use super::{
    App, Listed, PageQuery,
    audit::RequestActor,
    model::{AlertChannel, Alerts},
    problem::{AnyProblem, Problem},
};

/// No filter: a page of the whole list.
#[derive(Deserialize)]
pub(super) struct All {}

/// The channels that alerts go out by, and the alerts, newest first, with how far each has come.
///
/// Alerts are kept for 30 days.
#[utoipa::path(get, operation_id = "alerts", path = "/alerts", params(PageQuery), responses(
    (status = 200, body = Alerts, description = "The channels and the alerts"),
    AnyProblem
))]
pub(super) async fn list(
    State(app): State<App>,
    Listed(All {}, page): Listed<All>,
) -> Result<Json<Alerts>, Problem> {
    Ok(Json(app.alerts(&page).await?))
}

/// Sends a test by every channel, and says what each answered.
#[utoipa::path(post, operation_id = "test_alerts", path = "/alerts/test", responses(
    (status = 200, body = AlertTestReport, description = "The answer of each channel"),
    AnyProblem
))]
pub(super) async fn test(
    State(app): State<App>,
    RequestActor(actor): RequestActor,
) -> Result<Json<AlertTestReport>, Problem> {
    Ok(Json(app.operator.test_alerts(&actor).await?))
}

impl App {
    /// The channels, and a page of the alerts.
    pub(super) async fn alerts(&self, page: &Page) -> Result<Alerts, Problem> {
        let (alerts, next_cursor) = self.operator.alerts(page).await?;
        let Alerting {
            channels,
            quiet_hours,
            ..
        } = &self.operator.alerting;
        let channels = channels.iter().map(|channel| AlertChannel {
            name: channel.name.clone(),
            target: channel.target.clone(),
        });
        Ok(Alerts {
            channels: channels.collect(),
            quiet_hours: quiet_hours.map(|hours| hours.to_string()),
            alerts,
            next_cursor,
        })
    }
}
