//! The alerts on the page of the replicas, and the button that tests their channels.

use axum::{extract::State, response::Response};
use punctual_application::{
    OperatorError,
    ports::{Alert, AlertDelivery, AlertDeliveryState, AlertKind, Page},
};

use super::{
    App, Problem, Visitor,
    answer::{Done, What},
};
use crate::audit::RequestActor;

/// The alerts that the page shows.
pub(super) const NEWEST: Page = Page {
    cursor: None,
    limit: 20,
};

/// Sends a test by every channel.
pub(super) async fn test(
    State(app): State<App>,
    _visitor: Visitor,
    RequestActor(actor): RequestActor,
) -> Result<Response, Problem> {
    let done = match app.operator.test_alerts(&actor).await {
        Ok(report) => {
            let sent = report.answers.iter().filter(|answer| answer.sent).count();
            let left = report.answers.len() - sent;
            let what = if left == 0 {
                What::AlertsTested
            } else {
                What::AlertsNotSent
            };
            Done::new(what).count(sent).left(left)
        }
        Err(OperatorError::Conflict(_)) => Done::new(What::NoAlertChannel),
        Err(error) => return Err(error.into()),
    };
    Ok(done.then("/replicas"))
}

/// What an alert says, in a few words.
pub(super) fn title(alert: &Alert) -> String {
    let about = alert.finding.as_ref().map_or("", |found| &*found.title);
    match alert.kind {
        AlertKind::Opened => about.to_owned(),
        AlertKind::Changed => format!("Changed: {about}"),
        AlertKind::Reminder => format!("Still open: {about}"),
        AlertKind::Recovered => format!("Recovered: {about}"),
        AlertKind::More => format!("{} more", alert.more.unwrap_or_default()),
        AlertKind::Test => "Test".to_owned(),
    }
}

/// How far a delivery has come, in words.
pub(super) fn state(delivery: &AlertDelivery) -> String {
    let word = match (delivery.state, delivery.attempts) {
        (AlertDeliveryState::Sent, _) => "sent",
        (AlertDeliveryState::GivenUp, _) => "not sent",
        (AlertDeliveryState::Pending, 0) => "waiting",
        (AlertDeliveryState::Pending, _) => "retrying",
    };
    match &delivery.answer {
        Some(answer) => format!("{}: {word} ({answer})", delivery.channel),
        None => format!("{}: {word}", delivery.channel),
    }
}

/// The class of the badge of a delivery.
pub(super) fn class(delivery: &AlertDelivery) -> &'static str {
    match (delivery.state, delivery.attempts) {
        (AlertDeliveryState::Sent, _) => "on",
        (AlertDeliveryState::GivenUp, _) => "wrong",
        (AlertDeliveryState::Pending, 0) => "",
        (AlertDeliveryState::Pending, _) => "notice",
    }
}
