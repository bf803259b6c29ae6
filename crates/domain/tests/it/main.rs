//! The recurrence rules against independent calendar arithmetic.

mod recurrence;
