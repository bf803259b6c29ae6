//! Channels by which alerts cannot be sent.

use super::{Finding, FindingKind, Findings};
use crate::{
    ports::{Page, StoreError},
    services::{alerts::given_up, operator::Operator},
};

/// Messages that are looked at for how a channel does.
const NEWEST: Page = Page {
    cursor: None,
    limit: 100,
};

impl Operator {
    /// Adds the channels whose last message was given up. The next one that is sent ends it, also a test.
    pub(super) async fn alert_findings(&self, findings: &mut Findings) -> Result<(), StoreError> {
        let channels = &self.alerting.channels;
        if channels.is_empty() {
            return Ok(());
        }
        let now = self.clock.now();
        let (newest, _) = self.alerting.store.alerts(&NEWEST).await?;
        for channel in channels.iter() {
            let name = &channel.name;
            let Some((since, reason)) = given_up(name, &newest, now) else {
                continue;
            };
            let what = format!("alerts cannot be sent by {name}: {reason}");
            let kind = FindingKind::AlertsFailing(name.clone());
            findings.add(false, Finding::new(kind, what, since).because(reason));
        }
        Ok(())
    }
}
