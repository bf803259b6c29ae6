//! The Config Database over HTTP, on a real `SQLite` file and a real `PostgreSQL`.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on has failed")]
#![expect(
    clippy::disallowed_methods,
    reason = "these tests run in real time against real processes"
)]

mod access;
mod api;
mod doors;
mod features;
mod feed;
mod health;
mod mounted;
mod ordering;
mod page;
mod replicas;
mod schedule_since;
mod schemas;
mod server;
mod verdicts;
mod versions;
