//! The schedulers: loops around the planner. They wait, read, ask and enqueue; what is due is decided in
//! `punctual-domain`. [`leadership`] says which process plans, and [`positions`] keeps how far each job has been planned.

pub mod alerts;
pub mod batch_scheduler;
pub mod delivery;
pub mod dynamic_batch_scheduler;
pub mod fence_keeper;
mod leadership;
mod positions;
pub mod publisher;
pub mod retention_service;
pub mod waiting_service;
