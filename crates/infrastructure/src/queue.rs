//! The durable queue is apalis; what is ours is a message (one chunk) and the worker's life.

pub mod worker;
