//! Stores behind the ports `WorkQueue` and `BatchStore`.

pub mod sqlite;
