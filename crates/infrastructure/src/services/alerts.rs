//! Sends alerts: looks every few seconds at what the desk of `punctual-application` says is due, and hands it to the channels. One
//! that fails keeps no other one waiting, and one that is slow or hangs for two minutes at most. What was sent is noted at once; what
//! was not is retried.

#[cfg(feature = "http")]
mod to_email;
#[cfg(feature = "http")]
mod to_url;

use std::time::Duration;

use futures::future::join_all;
use punctual_application::{
    AlertDesk, DueAlert, LogLimit, NamedAlertChannel, Operator, crash_point,
    ports::AlertDeliveryState,
};
use tokio::{
    sync::{Mutex, watch},
    time::Instant,
};
use tokio_util::sync::CancellationToken;
use tracing::{error, info, warn};

#[cfg(feature = "http")]
pub use self::{to_email::EmailAlerts, to_url::WebhookAlerts};

/// How often to look at what is wrong.
const LOOK_INTERVAL: Duration = Duration::from_secs(15);
/// How long a channel may take for an alert.
const SEND_TIMEOUT: Duration = Duration::from_mins(1);

/// Sends the alerts of a process while it leads, or while the store is held.
pub struct AlertService {
    operator: Operator,
    leads: watch::Receiver<bool>,
    logged: LogLimit,
}

impl std::fmt::Debug for AlertService {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("AlertService").finish_non_exhaustive()
    }
}

impl AlertService {
    /// A service for what an operator sees; `leads` says whether this process is the leader.
    #[must_use]
    pub fn new(operator: Operator, leads: watch::Receiver<bool>) -> Self {
        Self {
            operator,
            leads,
            logged: LogLimit::default(),
        }
    }

    /// Sends until `stop` is cancelled. What is on its way then is sent again by the next leader, with the same id.
    pub async fn run(self, stop: CancellationToken) {
        if self.operator.alerting.channels.is_empty() {
            stop.cancelled().await;
            return;
        }
        let desk = Mutex::new(AlertDesk::new(self.operator.clone()));
        let mut leads = self.leads.clone();
        while !stop.is_cancelled() {
            stop.run_until_cancelled(self.look(&desk)).await;
            tokio::select! {
                () = tokio::time::sleep(LOOK_INTERVAL) => {}
                Ok(()) = leads.changed() => {}
                () = stop.cancelled() => {}
            }
        }
    }

    /// Whether this process sends alerts: while it leads, and while the store is held, as then no process leads. What several then
    /// decide at the same time is stored once.
    async fn sends(&self) -> bool {
        let leads = *self.leads.borrow();
        leads || matches!(self.operator.fence.hold().await, Ok(Some(_)))
    }

    async fn look(&self, desk: &Mutex<AlertDesk>) {
        let sends = self.sends().await;
        let due = desk.lock().await.look(sends).await;
        if due.is_empty() {
            return;
        }
        let channels = self.operator.alerting.channels.iter();
        let sending = channels.map(|channel| self.send_by(channel, &due, desk));
        join_all(sending).await;
    }

    /// Sends what is due by a channel, one after the other up to the first that fails: the others would fail, too. The next look goes
    /// on with what a slow one has left.
    async fn send_by(
        &self,
        channel: &NamedAlertChannel,
        due: &[DueAlert],
        desk: &Mutex<AlertDesk>,
    ) {
        let (name, began) = (&channel.name, Instant::now());
        for one in due.iter().filter(|one| one.channel == *name) {
            if began.elapsed() >= SEND_TIMEOUT {
                return;
            }
            let answer = channel.send(&one.alert, SEND_TIMEOUT).await;
            crash_point!("alert-before-note");
            let failure = answer.as_ref().err().cloned();
            let noted = desk.lock().await.note(one.alert.id, name, answer).await;
            let Some(noted) = noted else { return };
            let outcome = match noted.state {
                AlertDeliveryState::Sent => "sent",
                AlertDeliveryState::Pending => "failed",
                AlertDeliveryState::GivenUp => "given_up",
            };
            metrics::counter!("punctual_alerts_total", "channel" => name.clone(), "outcome" => outcome)
                .increment(1);
            let (kind, alert_id) = (one.alert.kind.as_str(), one.alert.id);
            let Some(reason) = failure else {
                info!(%alert_id, channel = name, "Sent the alert {kind} by {name}");
                continue;
            };
            if noted.state == AlertDeliveryState::GivenUp {
                error!(%alert_id, channel = name, reason, "Gave up sending the alert {kind} by {name}: {reason}");
            } else if self.logged.next(name).is_written() {
                warn!(%alert_id, channel = name, reason, "Failed to send the alert {kind} by {name}, retrying: {reason}");
            }
            return;
        }
    }
}

#[cfg(all(test, feature = "http"))]
mod tests;
