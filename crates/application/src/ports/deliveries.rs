//! What is still to be delivered of the results of batches that are over.
//!
//! Deliveries are stored with their batch ([`NewBatch::deliver_to`](punctual_domain::NewBatch)) and become due when it
//! ends. A lease keeps other processes from a page; one that is not noted as delivered within it is given again, and who held
//! the lease before can note nothing any more.
//! `testing::contract::deliveries` checks an implementation.

use async_trait::async_trait;
use chrono::{DateTime, TimeDelta, Utc};
use punctual_domain::{Batch, Delivery};

use super::StoreError;

/// Keeps which results have been delivered where.
#[cfg_attr(any(test, feature = "mocks"), mockall::automock)]
#[async_trait]
pub trait Deliveries: Send + Sync {
    /// Takes the one that has been due longest and goes to none of `busy`, and keeps others from it for `lease`.
    async fn take(
        &self,
        now: DateTime<Utc>,
        lease: TimeDelta,
        busy: &[Delivery],
    ) -> Result<Option<DueDelivery>, StoreError>;

    /// Notes that everything up to `cursor` has arrived; with `None` all of it. `false`: the lease is another one's by now, and
    /// nothing was noted.
    async fn advance(
        &self,
        taken: &DueDelivery,
        cursor: Option<String>,
        now: DateTime<Utc>,
    ) -> Result<bool, StoreError>;

    /// Tries again at `again`, or with `None` never. `false`: the lease is another one's by now, and nothing was noted.
    async fn postpone(
        &self,
        taken: &DueDelivery,
        again: Option<DateTime<Utc>>,
        reason: &str,
    ) -> Result<bool, StoreError>;
}

/// A batch's results on their way to one place.
#[derive(Debug, Clone, PartialEq)]
pub struct DueDelivery {
    /// Number of the delivery.
    pub id: i64,
    /// Batch whose results are delivered.
    pub batch: Batch,
    /// Target of the delivery.
    pub target: Delivery,
    /// Position after the last page that has arrived; `None`: none has.
    pub cursor: Option<String>,
    /// Number of failures in a row.
    pub tries: u32,
    /// Until when it is retried; `None`: a fixed number of times.
    pub until: Option<DateTime<Utc>>,
    /// End of the lease with which it was taken.
    pub leased_until: DateTime<Utc>,
}
