//! Alerts that go out: what has been sent, and a test of the channels.

use std::time::Duration;

use futures::future::join_all;
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use super::{Actor, Operator, OperatorError};
use crate::{
    ports::{Page, Paged, StoreError, StoredAlert},
    services::alerts::answered,
};

/// How long a channel may take to answer to a test.
const TEST_TIMEOUT: Duration = Duration::from_secs(20);

/// What the channels answered to a test.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct AlertTestReport {
    /// Id of the message that was sent.
    pub alert_id: Uuid,
    /// The answer of each channel.
    pub answers: Vec<AlertAnswer>,
}

/// What a channel answered to a test.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct AlertAnswer {
    /// Name of the channel.
    pub channel: String,
    /// Whether it has taken the message.
    pub sent: bool,
    /// What it answered, or why it has not taken the message.
    pub answer: String,
}

impl Operator {
    /// The alerts that went out or are to go out, newest first.
    ///
    /// # Errors
    /// The store fails, or refuses the cursor.
    pub async fn alerts(&self, page: &Page) -> Result<Paged<StoredAlert>, StoreError> {
        self.alerting.store.alerts(page).await
    }

    /// Sends a test by every channel, once.
    ///
    /// # Errors
    /// No channel is set up, or the audit log cannot be written.
    pub async fn test_alerts(&self, actor: &Actor) -> Result<AlertTestReport, OperatorError> {
        let channels = &self.alerting.channels;
        if channels.is_empty() {
            return Err(OperatorError::Conflict(
                "no channel for alerts is set up; set up a webhook or e-mail addresses, then test them"
                    .to_owned(),
            ));
        }
        let mut test = self.alerting.test(self.clock.now());
        let names: Vec<&str> = channels.iter().map(|one| one.name.as_str()).collect();
        self.record(actor, "test-alerts", "alerts", &names.join(", "))
            .await?;
        let sending = channels
            .iter()
            .map(|channel| channel.send(&test.alert, TEST_TIMEOUT));
        let answers = join_all(sending).await;
        let now = self.clock.now();
        for (delivery, answer) in test.deliveries.iter_mut().zip(&answers) {
            answered(delivery, answer, now);
        }
        // What the channels answered is worth knowing in any case.
        let noted = self.alerting.store.note_alert(&test).await;
        let _ = self.noted(noted);
        let answers = names.into_iter().zip(answers);
        Ok(AlertTestReport {
            alert_id: test.alert.id,
            answers: answers
                .map(|(channel, answer)| AlertAnswer {
                    channel: channel.to_owned(),
                    sent: answer.is_ok(),
                    answer: answer.unwrap_or_else(|reason| reason),
                })
                .collect(),
        })
    }
}
