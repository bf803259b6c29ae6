//! The port `Alerts`: which alerts went out, and which are still to be sent.

use async_trait::async_trait;
use chrono::{DateTime, TimeDelta, Utc};
use punctual_application::ports::{
    AlertBook, AlertChange, Alerts, Page, Paged, SentFinding, StoreError, StoredAlert,
    TrackedFinding,
};
use serde::de::DeserializeOwned;
use serde_json::{Value as Json, json};

use crate::{
    Store,
    driver::{FromRow, Row, Value, values},
    reader::{before, paged},
};

/// How long messages are kept.
const KEPT: TimeDelta = TimeDelta::days(30);

const REVISION: &str = "SELECT revision FROM @alert_revision";

const REVISE: &str = "UPDATE @alert_revision SET revision = revision + 1 WHERE revision = $1";

const FINDINGS: &str = "SELECT body, seen_at, state, severity, first_sent_at, last_sent_at, changed_at, gone_at FROM @alerts";

const TRACK: &str =
    "INSERT INTO @alerts (finding, body, seen_at, state, severity, first_sent_at, last_sent_at, changed_at, gone_at)
     VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9)
     ON CONFLICT (finding) DO UPDATE SET body = excluded.body, seen_at = excluded.seen_at, state = excluded.state,
         severity = excluded.severity, first_sent_at = excluded.first_sent_at, last_sent_at = excluded.last_sent_at,
         changed_at = excluded.changed_at, gone_at = excluded.gone_at";

const FORGET: &str = "DELETE FROM @alerts WHERE finding = $1";

const MESSAGES: &str = "SELECT number, body, deliveries FROM @alert_messages
     WHERE pending = 1 OR at >= $1 ORDER BY number";

const NOTE: &str =
    "INSERT INTO @alert_messages (id, at, pending, body, deliveries) VALUES ($1, $2, $3, $4, $5)
     ON CONFLICT (id) DO UPDATE SET pending = excluded.pending, deliveries = excluded.deliveries";

const FORGET_MESSAGES: &str = "DELETE FROM @alert_messages WHERE at < $1 AND pending = 0";

const NEWEST: &str = "SELECT number, body, deliveries FROM @alert_messages
     WHERE number < $1 ORDER BY number DESC LIMIT $2";

/// What a column holds; `None`: another version wrote it, and this one cannot read it.
fn read<T: DeserializeOwned>(text: &str) -> Option<T> {
    serde_json::from_str(text).ok()
}

/// A finding, if it can be read.
struct Tracked(Option<TrackedFinding>);

impl FromRow for Tracked {
    fn from_row(mut row: Row) -> Result<Self, StoreError> {
        let body: String = row.next()?;
        let seen_at = row.next()?;
        let (state, severity): (Option<String>, Option<String>) = (row.next()?, row.next()?);
        let first_at: Option<DateTime<Utc>> = row.next()?;
        let last_at: Option<DateTime<Utc>> = row.next()?;
        let (changed_at, gone_at) = (row.next()?, row.next()?);
        let sent = || {
            Some(SentFinding {
                state: state?.parse().ok()?,
                severity: serde_json::from_value(Json::from(severity?)).ok()?,
                first_at: first_at?,
                last_at: last_at?,
            })
        };
        let sent = sent();
        let tracked = read(&body).map(|finding| TrackedFinding {
            finding,
            seen_at,
            sent,
            changed_at,
            gone_at,
        });
        Ok(Self(tracked))
    }
}

/// A message and its number, if it can be read.
struct Message(i64, Option<StoredAlert>);

impl FromRow for Message {
    fn from_row(mut row: Row) -> Result<Self, StoreError> {
        let number = row.next()?;
        let (body, deliveries): (String, String) = (row.next()?, row.next()?);
        let stored = read(&body)
            .zip(read(&deliveries))
            .map(|(alert, deliveries)| StoredAlert { alert, deliveries });
        Ok(Self(number, stored))
    }
}

fn tracking(id: &str, tracked: &TrackedFinding) -> Vec<Value> {
    let sent = tracked.sent.as_ref();
    values![
        id,
        json!(tracked.finding).to_string(),
        tracked.seen_at,
        sent.map(|sent| sent.state.to_string()),
        sent.map(|sent| sent.severity.as_str()),
        sent.map(|sent| sent.first_at),
        sent.map(|sent| sent.last_at),
        tracked.changed_at,
        tracked.gone_at,
    ]
}

fn noting(stored: &StoredAlert) -> Vec<Value> {
    let StoredAlert { alert, deliveries } = stored;
    values![
        alert.id,
        alert.timestamp,
        i64::from(stored.is_pending()),
        json!(alert).to_string(),
        json!(deliveries).to_string(),
    ]
}

#[async_trait]
impl Alerts for Store {
    async fn alert_book(&self, since: DateTime<Utc>) -> Result<AlertBook, StoreError> {
        // First: what is changed while this reads is refused when it is written.
        let revision: Option<u64> = self.database.fetch_optional(REVISION, values![]).await?;
        let tracked: Vec<Tracked> = self.database.fetch(FINDINGS, values![]).await?;
        let messages: Vec<Message> = self.database.fetch(MESSAGES, values![since]).await?;
        let tracked = tracked.into_iter().filter_map(|tracked| tracked.0);
        Ok(AlertBook {
            revision: revision.unwrap_or_default(),
            findings: tracked
                .map(|tracked| (tracked.finding.id.clone(), tracked))
                .collect(),
            alerts: messages.into_iter().filter_map(|found| found.1).collect(),
        })
    }

    async fn write_alerts(
        &self,
        revision: u64,
        change: &AlertChange,
        now: DateTime<Utc>,
    ) -> Result<bool, StoreError> {
        let mut transaction = self.database.begin().await?;
        let revised = values![revision as i64];
        if transaction.execute(REVISE, revised).await? == 0 {
            return Ok(false);
        }
        for (id, tracked) in &change.findings {
            match tracked {
                Some(tracked) => transaction.execute(TRACK, tracking(id, tracked)).await?,
                None => transaction.execute(FORGET, values![id.as_str()]).await?,
            };
        }
        for stored in &change.alerts {
            transaction.execute(NOTE, noting(stored)).await?;
        }
        transaction
            .execute(FORGET_MESSAGES, values![now - KEPT])
            .await?;
        transaction.commit().await?;
        Ok(true)
    }

    async fn note_alert(&self, alert: &StoredAlert) -> Result<(), StoreError> {
        self.database.execute(NOTE, noting(alert)).await?;
        Ok(())
    }

    async fn alerts(&self, page: &Page) -> Result<Paged<StoredAlert>, StoreError> {
        let wanted = values![before(page)?, page.limit + 1];
        let found: Vec<Message> = self.database.fetch(NEWEST, wanted).await?;
        let (found, next) = paged(found, page, |message| message.0.to_string());
        let readable = found.into_iter().filter_map(|message| message.1);
        Ok((readable.collect(), next))
    }
}
