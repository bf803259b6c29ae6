//! The schedulers: loops around the planner. They wait, read, ask and hand over; what is due is decided in
//! `punctual-domain`.

pub mod batch_scheduler;
pub mod delivery;
pub mod dynamic_batch_scheduler;
