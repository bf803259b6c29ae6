//! The front door as a program that embeds it sees it.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

mod alerts;
mod examples;
mod lifecycle;
mod mistakes;
mod own_adapters;
#[cfg(feature = "operations")]
mod router;
mod world;
