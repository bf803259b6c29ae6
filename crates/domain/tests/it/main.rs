//! The recurrence rules and the mirror, each against a second, slower way to do the same, and what `explain` promises
//! against what happens.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

mod mirror;
mod moved;
mod promises;
mod recurrence;
