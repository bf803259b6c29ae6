//! The port `Deliveries`, in memory.

use async_trait::async_trait;
use chrono::{DateTime, TimeDelta, Utc};
use punctual_domain::{Delivery, NewBatch};
use uuid::Uuid;

use super::FakeStore;
use crate::ports::{Deliveries, DueDelivery, StoreError};

#[derive(Debug, Clone)]
pub(super) struct DeliveryRow {
    id: i64,
    pub(super) batch_id: Uuid,
    target: Delivery,
    within: Option<TimeDelta>,
    cursor: Option<String>,
    not_before: DateTime<Utc>,
    pub(super) tries: u32,
    pub(super) state: State,
    pub(super) reason: String,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum State {
    GivenUp,
    Open,
    Done,
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
            tries: 0,
            state: State::Open,
            reason: String::new(),
        }
    }
}

impl FakeStore {
    fn with_delivery(&self, id: i64, change: impl FnOnce(&mut DeliveryRow)) {
        let mut tables = self.tables();
        if let Some(row) = tables.deliveries.iter_mut().find(|row| row.id == id) {
            change(row);
        }
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
            row.state == State::Open
                && row.not_before <= now
                && !busy.contains(&row.target)
                && finished_at(row).is_some()
        });
        let Some(row) = due.min_by_key(|row| (row.not_before, row.id)) else {
            return Ok(None);
        };
        row.not_before = now + lease;
        let row = row.clone();
        let batch = tables.with_counts(&tables.batches[&row.batch_id]);
        Ok(Some(DueDelivery {
            id: row.id,
            until: batch
                .finished_at
                .zip(row.within)
                .map(|(at, within)| at + within),
            batch,
            target: row.target,
            cursor: row.cursor,
            tries: row.tries,
        }))
    }

    async fn advance(
        &self,
        id: i64,
        cursor: Option<String>,
        now: DateTime<Utc>,
    ) -> Result<(), StoreError> {
        self.with_delivery(id, |row| {
            row.state = match cursor {
                Some(_) => State::Open,
                None => State::Done,
            };
            row.cursor = cursor;
            row.not_before = now;
            row.tries = 0;
            row.reason.clear();
        });
        Ok(())
    }

    async fn postpone(
        &self,
        id: i64,
        again: Option<DateTime<Utc>>,
        reason: &str,
    ) -> Result<(), StoreError> {
        self.with_delivery(id, |row| {
            match again {
                Some(again) => row.not_before = again,
                None => row.state = State::GivenUp,
            }
            row.tries += 1;
            reason.clone_into(&mut row.reason);
        });
        Ok(())
    }
}
