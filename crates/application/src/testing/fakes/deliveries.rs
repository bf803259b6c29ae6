//! The port `Deliveries`, in memory.

use async_trait::async_trait;
use chrono::{DateTime, TimeDelta, Utc};
use punctual_domain::{Delivery, NewBatch};
use uuid::Uuid;

use super::FakeStore;
use crate::ports::{Deliveries, DeliveryState, DueDelivery, StoreError};

#[derive(Debug, Clone)]
pub(super) struct DeliveryRow {
    pub(super) id: i64,
    pub(super) batch_id: Uuid,
    pub(super) target: Delivery,
    within: Option<TimeDelta>,
    pub(super) cursor: Option<String>,
    pub(super) not_before: DateTime<Utc>,
    pub(super) leased_until: Option<DateTime<Utc>>,
    /// From when the period of its retries counts; `None`: from the end of its batch.
    pub(super) retried_from: Option<DateTime<Utc>>,
    pub(super) tries: u32,
    pub(super) state: DeliveryState,
    pub(super) reason: String,
}

impl DeliveryRow {
    pub(super) fn new(id: i64, batch: &NewBatch, target: &Delivery) -> Self {
        Self {
            id,
            batch_id: batch.batch_id,
            target: target.clone(),
            within: batch.deliver_within,
            cursor: None,
            not_before: DateTime::UNIX_EPOCH,
            leased_until: None,
            retried_from: None,
            tries: 0,
            state: DeliveryState::Open,
            reason: String::new(),
        }
    }
}

impl DeliveryRow {
    pub(super) fn has_failed(&self) -> bool {
        self.state == DeliveryState::GivenUp || self.state == DeliveryState::Open && self.tries > 0
    }

    /// Whether it fails, of a batch that ended at `ended`; those that were given up, if that was at `given_up_since` or later.
    pub(super) fn is_failing(&self, ended: DateTime<Utc>, given_up_since: DateTime<Utc>) -> bool {
        match self.state {
            DeliveryState::Open => self.tries >= 2,
            DeliveryState::GivenUp => ended >= given_up_since,
            DeliveryState::Done => false,
        }
    }
}

impl FakeStore {
    /// Changes one whose lease is still that with which it was taken; `false`: it is not.
    fn with_leased(&self, taken: &DueDelivery, change: impl FnOnce(&mut DeliveryRow)) -> bool {
        let mut tables = self.tables();
        let mut rows = tables.deliveries.iter_mut();
        let leased = rows.find(|row| {
            row.id == taken.id
                && row.state == DeliveryState::Open
                && row.not_before == taken.leased_until
                && row.leased_until == Some(taken.leased_until)
        });
        let Some(row) = leased else { return false };
        row.leased_until = None;
        change(row);
        true
    }
}

#[async_trait]
impl Deliveries for FakeStore {
    async fn take(
        &self,
        now: DateTime<Utc>,
        lease: TimeDelta,
        busy: &[Delivery],
    ) -> Result<Option<DueDelivery>, StoreError> {
        let mut tables = self.tables();
        let tables = &mut *tables;
        let batches = &tables.batches;
        let finished_at = |row: &DeliveryRow| batches.get(&row.batch_id)?.finished_at;
        let due = tables.deliveries.iter_mut().filter(|row| {
            row.state == DeliveryState::Open
                && row.not_before <= now
                && !busy.contains(&row.target)
                && finished_at(row).is_some()
        });
        let Some(row) = due.min_by_key(|row| (row.not_before, row.id)) else {
            return Ok(None);
        };
        row.not_before = now + lease;
        row.leased_until = Some(row.not_before);
        let row = row.clone();
        let batch = tables.with_counts(&tables.batches[&row.batch_id]);
        let from = row.retried_from.or(batch.finished_at);
        Ok(Some(DueDelivery {
            id: row.id,
            until: from.zip(row.within).map(|(at, within)| at + within),
            leased_until: row.not_before,
            batch,
            target: row.target,
            cursor: row.cursor,
            tries: row.tries,
        }))
    }

    async fn advance(
        &self,
        taken: &DueDelivery,
        cursor: Option<String>,
        now: DateTime<Utc>,
    ) -> Result<bool, StoreError> {
        Ok(self.with_leased(taken, |row| {
            row.state = match cursor {
                Some(_) => DeliveryState::Open,
                None => DeliveryState::Done,
            };
            row.cursor = cursor;
            row.not_before = now;
            row.tries = 0;
            row.reason.clear();
        }))
    }

    async fn postpone(
        &self,
        taken: &DueDelivery,
        again: Option<DateTime<Utc>>,
        reason: &str,
    ) -> Result<bool, StoreError> {
        Ok(self.with_leased(taken, |row| {
            match again {
                Some(again) => row.not_before = again,
                None => row.state = DeliveryState::GivenUp,
            }
            row.tries += 1;
            reason.clone_into(&mut row.reason);
        }))
    }
}
