//! The recurrence rules and the mirror, each against a second, slower way to do the same.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

mod mirror;
mod recurrence;
