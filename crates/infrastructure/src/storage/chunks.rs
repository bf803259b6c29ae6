//! Chunks as they wait in the queue: a chunk is stored as JSON, with its place in its batch beside it.

use chrono::{DateTime, Utc};
use punctual_application::ports::{RETRY_CHUNK_AFTER, StoreError};
use punctual_domain::{Chunk, JobId};
use tracing::error;

use super::{errors::failed, rows::micros};

/// A chunk as the queue keeps it.
pub(super) fn message(chunk: &Chunk) -> Result<String, StoreError> {
    serde_json::to_string(chunk).map_err(failed)
}

/// The place of a chunk in its batch. The first chunks of all batches of a job come before the second ones, so that a large
/// batch lets others in.
pub(super) fn place(chunk: &Chunk) -> i64 {
    let place = chunk.chunk_id.rsplit('/').next();
    place.and_then(|n| n.parse().ok()).unwrap_or(0)
}

/// The chunk of a message; `None`, and an entry in the log, when it cannot be read.
pub(super) fn read(message: &str) -> Option<Chunk> {
    serde_json::from_str(message)
        .inspect_err(|error| {
            error!(%error, "A chunk in the store cannot be read, its items count as failed: {error}");
        })
        .ok()
}

/// Until when a chunk rests at most that is put to rest now.
pub(super) fn longest_rest(now: DateTime<Utc>) -> i64 {
    micros(now + RETRY_CHUNK_AFTER)
}

pub(super) fn jobs(names: Vec<String>) -> Result<Vec<JobId>, StoreError> {
    let job = |name| JobId::new(name).map_err(failed);
    names.into_iter().map(job).collect()
}
