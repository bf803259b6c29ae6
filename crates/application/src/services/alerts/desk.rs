//! The desk from which alerts go out: it looks at what is wrong, stores what is to be sent, and notes what was.

use std::{fmt, time::Duration};

use chrono::{DateTime, TimeDelta, Utc};
use tracing::warn;
use uuid::Uuid;

use super::{
    Alerting,
    rules::{self, Seen, Sender},
};
use crate::{
    LogLimit,
    ports::{Alert, AlertBook, AlertChange, AlertDelivery, StoreError},
    services::operator::{Finding, FindingKind, Findings, Operator},
};

/// How long the store may take to answer.
const STORE_TIMEOUT: Duration = Duration::from_secs(10);
/// How often old messages are removed while nothing new is stored.
const TIDY_EVERY: TimeDelta = TimeDelta::hours(1);

/// An alert that is due by a channel.
#[derive(Debug, Clone)]
pub struct DueAlert {
    /// The message.
    pub alert: Alert,
    /// Name of the channel.
    pub channel: String,
}

/// Decides which alerts go out.
pub struct AlertDesk {
    operator: Operator,
    /// What is known of the store, with what is not stored yet.
    book: AlertBook,
    /// What the store has not taken yet.
    unsaved: AlertChange,
    /// When old messages were removed last.
    tidied_at: Option<DateTime<Utc>>,
    logged: LogLimit,
}

impl fmt::Debug for AlertDesk {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("AlertDesk").finish_non_exhaustive()
    }
}

impl AlertDesk {
    /// A desk for what an operator sees.
    #[must_use]
    pub fn new(operator: Operator) -> Self {
        Self {
            operator,
            book: AlertBook::default(),
            unsaved: AlertChange::default(),
            tidied_at: None,
            logged: LogLimit::default(),
        }
    }

    /// Looks at what is wrong, and returns what is due now, oldest first. A process that does not lead only stores what it could not
    /// store before.
    pub async fn look(&mut self, leads: bool) -> Vec<DueAlert> {
        let alerting = self.operator.alerting.clone();
        let now = self.operator.clock.now();
        let loaded = within(alerting.store.alert_book(now - rules::WINDOW)).await;
        let loaded = self.noted("Failed to read which alerts went out", loaded);
        let mut answers = loaded.is_some();
        if let Some(mut book) = loaded {
            book.apply(&self.unsaved);
            self.book = book;
        }
        let before = self.unsaved.clone();
        if leads {
            let change = self.change(&alerting, answers, now).await;
            self.book.apply(&change);
            self.unsaved.extend(change);
        }
        let tidied_at = self.tidied_at;
        let is_tidy = tidied_at.is_some_and(|at| (now - at).abs() < TIDY_EVERY);
        if answers && (leads && !is_tidy || !self.unsaved.is_empty()) {
            let written = alerting
                .store
                .write_alerts(self.book.revision, &self.unsaved, now);
            let written = within(written).await;
            match self.noted("Failed to store which alerts go out", written) {
                Some(true) => {
                    self.unsaved = AlertChange::default();
                    self.tidied_at = Some(now);
                }
                // Another process has changed it meanwhile; the next look sees what.
                Some(false) => {
                    self.unsaved = before;
                    return Vec::new();
                }
                None => answers = false,
            }
        }
        if leads {
            self.due(answers, now)
        } else {
            Vec::new()
        }
    }

    /// Notes what came of an attempt at an alert, and returns how far it has come.
    pub async fn note(
        &mut self,
        id: Uuid,
        channel: &str,
        answer: Result<String, String>,
    ) -> Option<AlertDelivery> {
        let now = self.operator.clock.now();
        let mut alerts = self.book.alerts.iter_mut();
        let stored = alerts.find(|stored| stored.alert.id == id)?;
        let decided_at = stored.alert.timestamp;
        let mut deliveries = stored.deliveries.iter_mut();
        let delivery = deliveries.find(|delivery| delivery.channel == channel)?;
        *delivery = rules::attempted(delivery, decided_at, answer, now);
        let (delivery, stored) = (delivery.clone(), stored.clone());
        let mut unsaved = self.unsaved.alerts.iter();
        let is_saved = unsaved.all(|unsaved| unsaved.alert.id != id);
        let store = self.operator.alerting.store.clone();
        let is_noted = is_saved && {
            let noted = within(store.note_alert(&stored)).await;
            let noted = self.noted("Failed to store that an alert was sent", noted);
            noted.is_some()
        };
        if !is_noted {
            self.unsaved.extend(AlertChange {
                alerts: vec![stored],
                ..AlertChange::default()
            });
        }
        Some(delivery)
    }

    /// What changes now.
    async fn change(&self, alerting: &Alerting, answers: bool, now: DateTime<Utc>) -> AlertChange {
        let names = alerting.names();
        let sender = Sender {
            agent: &alerting.agent,
            channels: &names,
        };
        let seen = self.seen(alerting, answers).await;
        let is_quiet = alerting.is_quiet(now, &self.operator.zone);
        rules::change(&self.book, &seen, &sender, now, is_quiet)
    }

    /// What is wrong. While the store does not answer, that is the one cause of much else. Where it takes too long to tell
    /// everything, it is what keeps this process from its main work.
    async fn seen(&self, alerting: &Alerting, answers: bool) -> Seen {
        if answers {
            let findings = within(self.operator.findings()).await;
            if let Ok(findings) = findings
                && store_of(&findings).is_none()
            {
                let all = findings.all().into_iter();
                return Seen {
                    findings: all.map(|finding| alerting.seen(finding)).collect(),
                    is_whole: true,
                };
            }
        }
        let findings = self.operator.readiness().await;
        let worst: Vec<&Finding> = match store_of(&findings) {
            Some(store) => vec![store],
            None => findings.not_ready.iter().collect(),
        };
        let worst = worst.into_iter();
        Seen {
            findings: worst.map(|finding| alerting.seen(finding)).collect(),
            is_whole: false,
        }
    }

    /// What is due. What is not stored goes out only while the store does not take it: another process could send it, too.
    fn due(&self, answers: bool, now: DateTime<Utc>) -> Vec<DueAlert> {
        let alerts = if answers {
            &self.book.alerts
        } else {
            &self.unsaved.alerts
        };
        let of_alert = alerts.iter().flat_map(|stored| {
            let due = stored.deliveries.iter();
            let due = due.filter(|delivery| rules::is_due(delivery, now));
            due.map(|delivery| DueAlert {
                alert: stored.alert.clone(),
                channel: delivery.channel.clone(),
            })
        });
        of_alert.collect()
    }

    /// What the store answered; a failure is logged.
    fn noted<T>(&self, problem: &'static str, answer: Result<T, StoreError>) -> Option<T> {
        match answer {
            Ok(answer) => Some(answer),
            Err(error) => {
                if self.logged.next(problem).is_written() {
                    warn!(%error, "{problem}, retrying: {error}");
                }
                None
            }
        }
    }
}

fn store_of(findings: &Findings) -> Option<&Finding> {
    let mut not_ready = findings.not_ready.iter();
    not_ready.find(|finding| finding.kind == FindingKind::Store)
}

/// The answer of the store within its time.
async fn within<T>(call: impl Future<Output = Result<T, StoreError>>) -> Result<T, StoreError> {
    match tokio::time::timeout(STORE_TIMEOUT, call).await {
        Ok(answer) => answer,
        Err(_elapsed) => Err(StoreError::unavailable(format!(
            "the store does not answer within {} s",
            STORE_TIMEOUT.as_secs()
        ))),
    }
}

#[cfg(test)]
mod tests;
