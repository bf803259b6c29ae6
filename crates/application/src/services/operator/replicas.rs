//! Which processes share the work.

use chrono::{DateTime, Utc};
use punctual_domain::Sharding;

use super::{Operator, OperatorError};
use crate::ports::ReplicaLease;

/// The leader, and the processes that hold work.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Replicas {
    /// The leader, and when its lease ends; `None` where the store is not shared, or no process holds the lease.
    pub leader: Option<(String, DateTime<Utc>)>,
    /// The processes that hold work, by name.
    pub working: Vec<ReplicaLease>,
    /// What of the tenants they serve.
    pub sharding: Sharding,
    /// When they were looked at.
    pub at: DateTime<Utc>,
}

impl Operator {
    /// The leader, and the processes that hold work.
    ///
    /// # Errors
    /// The store fails.
    pub async fn replicas(&self) -> Result<Replicas, OperatorError> {
        Ok(Replicas {
            leader: self.operations.leader().await?,
            working: self.operations.replica_leases().await?,
            sharding: self.sharding.clone(),
            at: self.clock.now(),
        })
    }
}
