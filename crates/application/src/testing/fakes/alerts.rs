//! The port `Alerts`, in memory.

use async_trait::async_trait;
use chrono::{DateTime, TimeDelta, Utc};

use super::{FakeStore, paged};
use crate::ports::{AlertBook, AlertChange, Alerts, Page, Paged, StoreError, StoredAlert};

#[async_trait]
impl Alerts for FakeStore {
    async fn alert_book(&self, since: DateTime<Utc>) -> Result<AlertBook, StoreError> {
        let mut book = self.tables().alerts.clone();
        let wanted = |one: &StoredAlert| one.is_pending() || one.alert.timestamp >= since;
        book.alerts.retain(wanted);
        Ok(book)
    }

    async fn write_alerts(
        &self,
        revision: u64,
        change: &AlertChange,
        now: DateTime<Utc>,
    ) -> Result<bool, StoreError> {
        let book = &mut self.tables().alerts;
        if book.revision != revision {
            return Ok(false);
        }
        book.revision += 1;
        book.apply(change);
        let begin = now - TimeDelta::days(30);
        let kept = |one: &StoredAlert| one.is_pending() || one.alert.timestamp >= begin;
        book.alerts.retain(kept);
        Ok(true)
    }

    async fn note_alert(&self, alert: &StoredAlert) -> Result<(), StoreError> {
        let change = AlertChange {
            alerts: vec![alert.clone()],
            ..AlertChange::default()
        };
        self.tables().alerts.apply(&change);
        Ok(())
    }

    async fn alerts(&self, page: &Page) -> Result<Paged<StoredAlert>, StoreError> {
        let newest = self.tables().alerts.alerts.iter().rev().cloned().collect();
        paged(newest, page, |one: &StoredAlert| one.alert.id.to_string())
    }
}
