//! Clients of other services, and what makes them bear failures.

#[cfg(feature = "http")]
pub mod agent_client;
#[cfg(feature = "http")]
mod api;
#[cfg(feature = "http")]
pub mod config_database_client;
pub mod last_known_good;
#[cfg(feature = "http")]
pub mod liveness;
pub mod of_shards;
