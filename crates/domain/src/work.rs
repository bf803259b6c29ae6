//! Work: what is queued, run and kept, from the batch down to the outcome of one item.
//!
//! A [`batch`] is one firing of a job. The queue carries it in pieces and a handler gets it item by item ([`item`]); what
//! failed for good becomes a [`dead_letter`]. [`priority`] and [`trigger`] are words that all of them share.
//!
//! To add a reason for which an item is skipped, add a variant and its word to [`item::SkipReason`]. To add a reason for
//! which a batch exists, add it to [`trigger::Trigger`] and say in [`batch::NewBatch::new`] how its batches are told
//! apart. Words are stored: one that has been used is never given another meaning.

pub(crate) mod batch;
pub(crate) mod dead_letter;
pub(crate) mod item;
pub(crate) mod priority;
pub(crate) mod trigger;
