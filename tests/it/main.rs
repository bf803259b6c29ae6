//! Tests over the whole workspace.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on has failed")]
#![expect(
    clippy::disallowed_methods,
    reason = "these tests run in real time against real processes"
)]

mod architecture;
mod files;
mod hostile;
mod migrations;
mod simulation;
mod whole;
