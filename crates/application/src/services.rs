//! The use cases.

pub mod active_failures;
pub mod alerts;
pub mod batch_processor;
pub mod coalescer;
pub mod completion_urls;
pub mod enhanced_batch_processor;
pub mod handlers;
pub mod jobs;
pub mod log_limit;
pub mod operator;
mod permits;
pub mod provider_batch_store;
pub mod schedule_status;
pub mod source_items;
pub mod suppression_list;
pub mod throttle;
mod waiting;
