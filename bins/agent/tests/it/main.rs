//! The real agent as its own process: what a user types, calls and kills.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on has failed")]
#![expect(
    clippy::disallowed_methods,
    reason = "these tests run in real time against real processes"
)]

mod agent;
mod agreement;
mod alerts;
mod browser;
mod canary;
mod chat;
mod clients;
mod command_handler;
mod command_line;
mod common;
mod control;
mod counting;
#[cfg(feature = "failpoints")]
mod crash_points;
mod delivery;
mod digest;
mod doors;
#[cfg(any(feature = "nats", feature = "temporal"))]
mod engines;
mod erase;
mod erasing;
mod failures;
mod health;
mod kill;
mod kill_waiting;
mod last_known_good;
mod long_soak;
mod main_job;
mod monitoring;
mod moving;
#[cfg(feature = "nats")]
mod nats;
mod oidc;
mod operations;
mod organizations;
mod outcomes;
mod page;
mod postgres;
mod preview;
mod project;
mod provider_batches;
mod ready_by;
mod reload;
mod replicas;
mod restore;
mod running;
mod shards;
mod simulate;
mod smtp;
mod soak;
#[cfg(feature = "temporal")]
mod temporal;
mod terminal;
mod then;
mod traces;
mod upgrades;
mod waiting;
mod zones;
