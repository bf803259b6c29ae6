//! Alerts: messages about what is wrong, the channels that they go out by, and the memory of what went out.
//!
//! Implement [`AlertChannel`] to send them by a channel of your own. `testing::contract::alerts` checks an implementation of
//! [`Alerts`].

use std::{collections::BTreeMap, error::Error, fmt};

use async_trait::async_trait;
use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use super::{
    Page, Paged, StoreError,
    cause::{Cause, error_chain},
};
use crate::Severity;

/// Takes alerts to where people see them.
#[cfg_attr(any(test, feature = "mocks"), mockall::automock)]
#[async_trait]
pub trait AlertChannel: Send + Sync {
    /// Sends an alert, and returns what the receiver answered, in a few words such as `204 No Content`; it may be empty.
    ///
    /// The same alert comes again, with the same [`id`](Alert::id), after a failure and after the end of the process. A call may
    /// take a minute; one that takes longer is dropped at any `await`, and one that panics is caught. Both count as failures.
    ///
    /// # Errors
    /// The alert has not been taken. It is retried for an hour.
    async fn send(&self, alert: &Alert) -> Result<String, AlertError>;
}

/// Failure of a channel to send an alert.
///
/// Any error becomes one by `?`. Therefore it does not implement [`Error`] itself; [`source`](Self::source) gives the error it
/// was made from. Its text is stored and shown, so it must hold no secret: leave the URL out of an HTTP client's error.
#[derive(Debug, Clone)]
pub struct AlertError {
    message: String,
    cause: Option<Cause>,
}

impl AlertError {
    /// An error that says what happened.
    pub fn new(message: impl Into<String>) -> Self {
        Self {
            message: message.into(),
            cause: None,
        }
    }

    /// The error that caused it.
    #[must_use]
    pub fn source(&self) -> Option<&(dyn Error + 'static)> {
        self.cause.as_deref().map(|cause| cause as _)
    }
}

impl fmt::Display for AlertError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}

impl<E: Error + Send + Sync + 'static> From<E> for AlertError {
    fn from(error: E) -> Self {
        Self {
            message: error_chain(&error),
            cause: Some(Cause::new(error)),
        }
    }
}

/// A message about what is wrong. As JSON it is the body that a webhook gets.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct Alert {
    /// Id of the message: the same each time that it is sent.
    pub id: Uuid,
    /// What the message says.
    #[serde(rename = "type")]
    pub kind: AlertKind,
    /// When it was decided to send the message.
    pub timestamp: DateTime<Utc>,
    /// The finding; absent from a test, and from a message about several.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub finding: Option<AlertFinding>,
    /// How many more messages there would have been; only with `finding.more`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub more: Option<u64>,
    /// Who sends it.
    pub agent: AlertAgent,
}

/// What an alert says.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub enum AlertKind {
    /// Something is wrong.
    #[serde(rename = "finding.opened")]
    Opened,
    /// It is worse than before, or has another cause.
    #[serde(rename = "finding.changed")]
    Changed,
    /// It is still wrong, and no operator has acknowledged it.
    #[serde(rename = "finding.reminder")]
    Reminder,
    /// It is over.
    #[serde(rename = "finding.recovered")]
    Recovered,
    /// More has happened than is sent one by one.
    #[serde(rename = "finding.more")]
    More,
    /// An operator tests the channels.
    #[serde(rename = "finding.test")]
    Test,
}

impl AlertKind {
    /// Its word, as it is sent.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Opened => "finding.opened",
            Self::Changed => "finding.changed",
            Self::Reminder => "finding.reminder",
            Self::Recovered => "finding.recovered",
            Self::More => "finding.more",
            Self::Test => "finding.test",
        }
    }
}

/// What is wrong, as an alert tells it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct AlertFinding {
    /// Id of the finding, such as `paused/posts`.
    pub id: String,
    /// Kind of the finding, such as `paused`.
    pub kind: String,
    /// How bad it is.
    pub severity: Severity,
    /// What is wrong, in a few words.
    pub title: String,
    /// What is wrong, in a sentence.
    pub detail: String,
    /// What to do.
    pub remedy: String,
    /// Since when; `null`: it is not known.
    pub since: Option<DateTime<Utc>>,
    /// Address of the operations page about it; `null`: it is not known.
    pub url: Option<String>,
}

/// Who sends an alert.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct AlertAgent {
    /// Name of the agent: host and port of its page.
    pub name: String,
    /// The shard that it serves, such as `1/1`.
    pub shard: String,
    /// Its version.
    pub version: String,
}

/// An alert, and how far it has come by each channel.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct StoredAlert {
    /// The message.
    pub alert: Alert,
    /// Its way by each channel.
    pub deliveries: Vec<AlertDelivery>,
}

impl StoredAlert {
    /// Whether it is still to be sent by a channel.
    #[must_use]
    pub fn is_pending(&self) -> bool {
        let mut deliveries = self.deliveries.iter();
        deliveries.any(|delivery| delivery.state == AlertDeliveryState::Pending)
    }
}

/// How far an alert has come by a channel.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct AlertDelivery {
    /// Name of the channel.
    pub channel: String,
    /// How far it has come.
    pub state: AlertDeliveryState,
    /// Number of attempts.
    pub attempts: u32,
    /// When the last attempt was made; `null`: none was.
    pub attempted_at: Option<DateTime<Utc>>,
    /// When the next attempt is due; `null`: at once, or never.
    pub due_at: Option<DateTime<Utc>>,
    /// What came of the last attempt: the answer, or the error.
    pub answer: Option<String>,
}

impl AlertDelivery {
    /// A delivery by a channel that is due at once.
    #[must_use]
    pub fn by(channel: &str) -> Self {
        Self {
            channel: channel.to_owned(),
            state: AlertDeliveryState::Pending,
            attempts: 0,
            attempted_at: None,
            due_at: None,
            answer: None,
        }
    }
}

/// How far an alert has come by a channel.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(rename_all = "snake_case")]
pub enum AlertDeliveryState {
    /// It is still to be sent.
    Pending,
    /// The receiver has taken it.
    Sent,
    /// It was retried for an hour, and is retried no more.
    GivenUp,
}

/// A finding that alerts are about, until it is over.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TrackedFinding {
    /// The finding, as the last message had it, or as it was first seen.
    pub finding: AlertFinding,
    /// When it was first seen.
    pub seen_at: DateTime<Utc>,
    /// What has been sent of it; `None`: nothing yet.
    pub sent: Option<SentFinding>,
    /// Since when it differs from what was sent.
    pub changed_at: Option<DateTime<Utc>>,
    /// Since when it is not there any more.
    pub gone_at: Option<DateTime<Utc>>,
}

/// What has been sent of a finding.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SentFinding {
    /// Its severity and cause, as a hash.
    pub state: Uuid,
    /// Its severity.
    pub severity: Severity,
    /// When the first message was decided.
    pub first_at: DateTime<Utc>,
    /// When the last message was decided.
    pub last_at: DateTime<Utc>,
}

/// What has been sent, and what is still to be sent.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct AlertBook {
    /// Changes with each [`write_alerts`](Alerts::write_alerts).
    pub revision: u64,
    /// The findings that are not over, by id.
    pub findings: BTreeMap<String, TrackedFinding>,
    /// The messages that are still to be sent, and the newest of the others, oldest first.
    pub alerts: Vec<StoredAlert>,
}

impl AlertBook {
    /// Makes a change in memory.
    pub fn apply(&mut self, change: &AlertChange) {
        for (id, finding) in &change.findings {
            match finding {
                Some(finding) => self.findings.insert(id.clone(), finding.clone()),
                None => self.findings.remove(id),
            };
        }
        for alert in &change.alerts {
            put(&mut self.alerts, alert.clone());
        }
    }
}

/// What changes in an [`AlertBook`].
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct AlertChange {
    /// Findings that are stored, or, with `None`, forgotten.
    pub findings: BTreeMap<String, Option<TrackedFinding>>,
    /// Messages that are new, or have come further.
    pub alerts: Vec<StoredAlert>,
}

impl AlertChange {
    /// Whether nothing changes.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.findings.is_empty() && self.alerts.is_empty()
    }

    /// Adds a later change.
    pub fn extend(&mut self, later: Self) {
        self.findings.extend(later.findings);
        for alert in later.alerts {
            put(&mut self.alerts, alert);
        }
    }
}

/// Puts an alert in the place of the one with its id, or at the end.
fn put(alerts: &mut Vec<StoredAlert>, alert: StoredAlert) {
    let mut known = alerts.iter_mut();
    match known.find(|known| known.alert.id == alert.alert.id) {
        Some(known) => *known = alert,
        None => alerts.push(alert),
    }
}

/// Remembers which alerts went out, for all replicas and after a restart.
#[cfg_attr(any(test, feature = "mocks"), mockall::automock)]
#[async_trait]
pub trait Alerts: Send + Sync {
    /// The findings that are not over, and the messages that are still to be sent or were decided at `since` or later.
    async fn alert_book(&self, since: DateTime<Utc>) -> Result<AlertBook, StoreError>;

    /// Makes a change in one transaction, if no other has been made since `revision` was read; otherwise returns `false`, and
    /// nothing has changed. Messages that were decided 30 days before `now` are removed, unless they are still to be sent.
    async fn write_alerts(
        &self,
        revision: u64,
        change: &AlertChange,
        now: DateTime<Utc>,
    ) -> Result<bool, StoreError>;

    /// Stores how far a message has come. One that is not there is added.
    async fn note_alert(&self, alert: &StoredAlert) -> Result<(), StoreError>;

    /// The messages, newest first.
    async fn alerts(&self, page: &Page) -> Result<Paged<StoredAlert>, StoreError>;
}
