//! The recurrence rules against independent calendar arithmetic.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

mod recurrence;
