//! The Config Database over HTTP, on a real `SQLite` file and a real `PostgreSQL`.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on has failed")]
#![expect(
    clippy::disallowed_methods,
    reason = "these tests run in real time against real processes"
)]

mod access;
mod api;
#[path = "../../../../bins/agent/tests/it/browser.rs"]
#[allow(dead_code, reason = "the agent's tests use more of it")]
mod browser;
mod compatibility;
mod counts;
mod doors;
mod embedding;
mod erasing;
mod features;
mod feed;
mod form;
mod health;
mod languages;
mod links;
mod mounted;
mod ordering;
mod organizations;
mod page;
mod past_runs;
#[path = "../../examples/product/app.rs"]
mod product;
mod replicas;
mod schedule_since;
mod schemas;
mod server;
mod session;
mod tls;
mod unsubscribe;
mod verdicts;
mod versions;
