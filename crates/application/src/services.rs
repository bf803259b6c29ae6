//! The use cases.

pub mod batch_processor;
pub mod enhanced_batch_processor;
pub mod jobs;
pub mod source_items;
