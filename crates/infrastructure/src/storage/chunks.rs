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

/// The chunk of a row of this job; `None`, and an entry in the log, when its message is none or that of another row.
pub(super) fn read(job_id: &JobId, chunk_id: &str, message: &str) -> Option<Chunk> {
    let read = serde_json::from_str(message).map_err(|error| error.to_string());
    let read = read.and_then(|chunk: Chunk| {
        if chunk.chunk_id == chunk_id && chunk.job_id == *job_id {
            Ok(chunk)
        } else {
            Err(format!("it is that of {}", chunk.chunk_id))
        }
    });
    read.inspect_err(|error| {
        error!(
            chunk_id,
            error,
            "Chunk {chunk_id} in the store cannot be read, its items count as failed: {error}"
        );
    })
    .ok()
}

/// Until when a chunk rests at most that is put to rest now.
pub(super) fn longest_rest(now: DateTime<Utc>) -> i64 {
    micros(now + RETRY_CHUNK_AFTER)
}

/// The jobs of these names. One that was damaged is left out: it must not stop the others.
pub(super) fn jobs(names: Vec<String>) -> Vec<JobId> {
    let job = |name: String| {
        JobId::new(name)
            .inspect_err(|error| {
                error!(%error, "Chunks of a job in the store do not run, its name is damaged: {error}");
            })
            .ok()
    };
    names.into_iter().filter_map(job).collect()
}
