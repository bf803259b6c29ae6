//! Work: what is queued, run and kept, from the batch down to the outcome of one item.
//!
//! A [`batch`] is one firing of a job. The queue carries it in [`chunk`]s, a handler gets it item by item ([`item`]), and
//! what became of each item is an [`outcome`]; one whose work goes on elsewhere is [`waiting`], and one that failed for good
//! is a [`dead_letter`] too. A [`delivery`]
//! says where the results of a batch go, and an [`email_address`] whom an e-mail goes to. A [`preparation`] is a batch that
//! prepares another one, and a [`fingerprint`] says whether what it made still fits. [`job`], [`priority`] and
//! [`trigger`] are the words of a job and a batch that say how items are treated.
//!
//! To add a reason for which an item is skipped, add a variant and its word to [`outcome::SkipReason`]. To add a reason for
//! which a batch exists, add it to [`trigger::Trigger`] and say in [`batch::NewBatch::new`] what identifies its batches.
//! Words are stored: one that has been used is never given another meaning.

pub(crate) mod batch;
pub(crate) mod chunk;
pub(crate) mod dead_letter;
pub(crate) mod delivery;
pub(crate) mod email_address;
pub(crate) mod fingerprint;
pub(crate) mod item;
pub(crate) mod job;
pub(crate) mod outcome;
pub(crate) mod preparation;
pub(crate) mod priority;
pub(crate) mod trigger;
pub(crate) mod waiting;
pub(crate) mod webhook;
