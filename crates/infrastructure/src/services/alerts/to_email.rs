//! Alerts by e-mail, by the server and the sender of a purpose whose handler is `email`.

use std::{
    collections::VecDeque,
    fmt,
    sync::{Mutex, MutexGuard, PoisonError},
};

use async_trait::async_trait;
use chrono::SecondsFormat;
use punctual_application::{
    Handlers, amount,
    ports::{Alert, AlertChannel, AlertError, AlertKind},
};
use punctual_domain::{EmailAddress, PurposeId, visible};
use uuid::Uuid;

/// Addresses that are remembered to have got an alert that others have not.
const MAX_REMEMBERED: usize = 1_000;
/// Characters of a subject.
const MAX_SUBJECT: usize = 150;

/// Sends alerts to addresses.
pub struct EmailAlerts {
    handlers: Handlers,
    purpose: PurposeId,
    addresses: Vec<EmailAddress>,
    /// Alerts that some addresses have got: they do not get them again while the others are retried.
    sent: Mutex<VecDeque<(Uuid, usize)>>,
}

impl fmt::Debug for EmailAlerts {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("EmailAlerts").finish_non_exhaustive()
    }
}

impl EmailAlerts {
    /// Sends to `addresses` as the handler of `purpose` sends its e-mails, also after the handlers were replaced.
    #[must_use]
    pub fn new(handlers: Handlers, purpose: PurposeId, addresses: Vec<EmailAddress>) -> Self {
        Self {
            handlers,
            purpose,
            addresses,
            sent: Mutex::default(),
        }
    }

    fn sent(&self) -> MutexGuard<'_, VecDeque<(Uuid, usize)>> {
        self.sent.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn remember(&self, alert: Uuid, place: usize) {
        let mut sent = self.sent();
        if sent.len() >= MAX_REMEMBERED {
            sent.pop_front();
        }
        sent.push_back((alert, place));
    }
}

#[async_trait]
impl AlertChannel for EmailAlerts {
    async fn send(&self, alert: &Alert) -> Result<String, AlertError> {
        let purpose = &self.purpose;
        let Some(mailer) = self.handlers.mailer(purpose) else {
            return Err(AlertError::new(format!(
                "purpose `{purpose}` sends no e-mails; name one whose handler is `email`"
            )));
        };
        let (subject, text) = (subject(alert), text(alert));
        let (mut answer, mut failed) = (String::new(), Vec::new());
        for (place, address) in self.addresses.iter().enumerate() {
            if self.sent().contains(&(alert.id, place)) {
                continue;
            }
            // The addresses of one alert have their own e-mails.
            let id = format!("alert/{}/{place}", alert.id);
            match mailer.send(&id, address, &subject, &text).await {
                Ok(reply) => {
                    self.remember(alert.id, place);
                    answer = reply;
                }
                Err(error) => failed.push(error.message),
            }
        }
        let Some(reason) = failed.first() else {
            self.sent().retain(|(id, _)| *id != alert.id);
            return Ok(answer);
        };
        let (count, all) = (failed.len(), self.addresses.len());
        Err(AlertError::new(if all == 1 {
            reason.clone()
        } else {
            let all = amount(all as u64, "address");
            format!("{count} of {all} did not get it: {reason}")
        }))
    }
}

/// The subject of an e-mail, such as `[punctual.example] warning: posts is paused`.
fn subject(alert: &Alert) -> String {
    let title = alert
        .finding
        .as_ref()
        .map_or("", |found| found.title.as_str());
    let what = match (alert.kind, &alert.finding) {
        (AlertKind::Opened, Some(finding)) => format!("{}: {title}", finding.severity.as_str()),
        (AlertKind::Changed, Some(finding)) => {
            format!("changed, {}: {title}", finding.severity.as_str())
        }
        (AlertKind::Reminder, Some(_)) => format!("still open: {title}"),
        (AlertKind::Recovered, Some(_)) => format!("recovered: {title}"),
        (AlertKind::Test, _) => "test alert".to_owned(),
        _ => amount(alert.more.unwrap_or_default(), "further message"),
    };
    let subject = format!("[{}] {what}", alert.agent.name);
    visible(&subject).chars().take(MAX_SUBJECT).collect()
}

/// The text of an e-mail.
fn text(alert: &Alert) -> String {
    let mut lines = Vec::new();
    match (alert.kind, &alert.finding) {
        (AlertKind::Test, _) => {
            lines.push("This is a test. Alerts reach this address.".to_owned());
        }
        (kind, Some(finding)) => {
            lines.push(match kind {
                AlertKind::Recovered => format!("Recovered: {}", finding.title),
                _ => finding.title.clone(),
            });
            lines.push(finding.detail.clone());
            if kind != AlertKind::Recovered {
                lines.push(format!("What to do: {}", finding.remedy));
            }
            lines.push(format!("Severity: {}", finding.severity.as_str()));
            if let Some(since) = finding.since {
                let since = since.to_rfc3339_opts(SecondsFormat::Secs, true);
                lines.push(format!("Since: {since}"));
            }
            lines.extend(finding.url.as_ref().map(|url| format!("See {url}")));
        }
        (_, None) => {
            let more = amount(alert.more.unwrap_or_default(), "further message");
            lines.push(format!(
                "There would have been {more} within 10 minutes. The operations page shows everything."
            ));
        }
    }
    let agent = &alert.agent;
    lines.push(format!(
        "Sent by {}, shard {}, version {}",
        agent.name, agent.shard, agent.version
    ));
    let lines: Vec<_> = lines.iter().map(|line| visible(line)).collect();
    lines.join("\n\n")
}
