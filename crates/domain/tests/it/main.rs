//! The recurrence rules and the mirror, each against a second, slower way to do the same, what `explain` promises
//! against what happens, and what e-mail addresses and URLs may become of what tenants wrote.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

mod hostile_text;
mod mirror;
mod moved;
mod promises;
mod recurrence;
