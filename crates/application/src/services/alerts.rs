//! Alerts that go out for what is wrong: for what the overview of operators shows first.
//!
//! [`rules`] decide which messages go out, [`AlertDesk`] stores them before they are sent, and the adapter that runs it sends what is
//! due and notes what came of it. The leader alone does this. What was stored is sent at least once, with the same id each time. While
//! the store does not answer, the process that led last reports that from memory, and stores it afterwards.

mod desk;
mod quiet_hours;
mod rules;

use std::{fmt, panic::AssertUnwindSafe, sync::Arc, time::Duration};

use chrono::{DateTime, TimeDelta, Utc};
use futures::FutureExt;
use punctual_domain::Zone;

pub(super) use self::rules::given_up;
use self::rules::{SeenFinding, Sender};
pub use self::{
    desk::{AlertDesk, DueAlert},
    quiet_hours::{InvalidQuietHours, QuietHours},
};
use super::operator::{Finding, FindingKind, Severity};
use crate::ports::{
    Alert, AlertAgent, AlertChannel, AlertDelivery, AlertDeliveryState, AlertFinding, AlertKind,
    Alerts, StoredAlert,
};

/// How long a finding has to last before it is reported.
const REPORTED_AFTER: TimeDelta = TimeDelta::minutes(1);
/// The same, of one that does not get worse.
const NOTICE_REPORTED_AFTER: TimeDelta = TimeDelta::minutes(10);
/// The same, of a process that has just started.
const START_REPORTED_AFTER: TimeDelta = TimeDelta::minutes(3);

/// A channel and its name.
#[derive(Clone)]
pub struct NamedAlertChannel {
    /// Name of the channel, which no other has.
    pub name: String,
    /// Where it leads, without anything secret; `None`: it does not say.
    pub target: Option<String>,
    /// The channel.
    pub channel: Arc<dyn AlertChannel>,
}

impl fmt::Debug for NamedAlertChannel {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("NamedAlertChannel")
            .field(&self.name)
            .finish_non_exhaustive()
    }
}

impl NamedAlertChannel {
    /// Sends an alert within a time, and catches a panic.
    ///
    /// # Errors
    /// Why it was not sent.
    pub async fn send(&self, alert: &Alert, limit: Duration) -> Result<String, String> {
        let sent = AssertUnwindSafe(self.channel.send(alert)).catch_unwind();
        match tokio::time::timeout(limit, sent).await {
            Ok(Ok(answer)) => answer.map_err(|error| error.to_string()),
            Ok(Err(_panic)) => Err("the channel panicked; see the log".to_owned()),
            Err(_elapsed) => Err(format!("no answer within {} s", limit.as_secs())),
        }
    }
}

/// What alerts say about a kind of finding.
#[derive(Debug, Clone, Copy)]
pub struct AlertWords {
    /// What to do about it.
    pub remedy: fn(&FindingKind) -> String,
    /// Path of the page about it, below the address of the operations page.
    pub page: fn(&FindingKind) -> String,
}

impl Default for AlertWords {
    fn default() -> Self {
        Self {
            remedy: |_| "See the log".to_owned(),
            page: |_| "/".to_owned(),
        }
    }
}

/// Where alerts go, and what they say.
#[derive(Clone)]
pub struct Alerting {
    /// Remembers which alerts went out.
    pub store: Arc<dyn Alerts>,
    /// The channels; none: no alert goes out.
    pub channels: Arc<[NamedAlertChannel]>,
    /// Hours in which only critical findings are reported.
    pub quiet_hours: Option<QuietHours>,
    /// Who sends the alerts.
    pub agent: AlertAgent,
    /// Address of the operations page; `None`: alerts have no links.
    pub page_url: Option<String>,
    /// What they say.
    pub words: AlertWords,
}

impl fmt::Debug for Alerting {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Alerting")
            .field("channels", &self.channels)
            .finish_non_exhaustive()
    }
}

impl Alerting {
    /// No channels.
    #[must_use]
    pub fn none(store: Arc<dyn Alerts>) -> Self {
        Self {
            store,
            channels: Arc::new([]),
            quiet_hours: None,
            agent: AlertAgent {
                name: "punctual".to_owned(),
                shard: "1/1".to_owned(),
                version: env!("CARGO_PKG_VERSION").to_owned(),
            },
            page_url: None,
            words: AlertWords::default(),
        }
    }

    fn names(&self) -> Vec<&str> {
        let channels = self.channels.iter();
        channels.map(|channel| channel.name.as_str()).collect()
    }

    fn is_quiet(&self, now: DateTime<Utc>, zone: &Zone) -> bool {
        self.quiet_hours
            .is_some_and(|hours| hours.contain(now, zone))
    }

    /// A test of the channels.
    pub(super) fn test(&self, now: DateTime<Utc>) -> StoredAlert {
        let names = self.names();
        let sender = Sender {
            agent: &self.agent,
            channels: &names,
        };
        rules::message(AlertKind::Test, None, None, &sender, now)
    }

    fn seen(&self, finding: &Finding) -> SeenFinding {
        let kind = &finding.kind;
        let page = self.page_url.as_deref();
        let id = finding.id();
        SeenFinding {
            state: finding.identity(),
            is_acknowledged: finding.acknowledged.is_some(),
            reported_after: match (kind, finding.severity) {
                (FindingKind::NotPlannedYet, _) => START_REPORTED_AFTER,
                (_, Severity::Notice) => NOTICE_REPORTED_AFTER,
                _ => REPORTED_AFTER,
            },
            finding: AlertFinding {
                kind: id.split('/').next().unwrap_or_default().to_owned(),
                id,
                severity: finding.severity,
                title: kind.title(),
                detail: finding.in_full(),
                remedy: (self.words.remedy)(kind),
                since: finding.since,
                url: page.map(|page| format!("{page}{}", (self.words.page)(kind))),
            },
        }
    }
}

/// What became of the only attempt at an alert.
pub(super) fn answered(
    delivery: &mut AlertDelivery,
    answer: &Result<String, String>,
    now: DateTime<Utc>,
) {
    *delivery = rules::attempted(delivery, now, answer.clone(), now);
    if answer.is_err() {
        delivery.state = AlertDeliveryState::GivenUp;
        delivery.due_at = None;
    }
}
