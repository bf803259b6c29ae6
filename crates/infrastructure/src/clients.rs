//! Clients of other services.

pub mod config_database_client;
