//! The last write that failed, for checks of health: remembered until the next one that succeeds.

use std::sync::{Arc, Mutex, PoisonError};

use chrono::{DateTime, SecondsFormat, TimeDelta, Utc};

use super::{ConfigStore, StoreError, now};

/// A failure that has not been repeated for so long is over: people write now and then.
const EXPIRES_AFTER: TimeDelta = TimeDelta::minutes(10);

/// The writes that have failed since the last one that succeeded.
#[derive(Debug, Clone, Default)]
pub(super) struct WriteFailure(Arc<Mutex<Option<Failing>>>);

#[derive(Debug, Clone)]
struct Failing {
    since: DateTime<Utc>,
    last: DateTime<Utc>,
    reason: String,
}

impl WriteFailure {
    pub(super) fn note<T>(&self, written: &Result<T, StoreError>) {
        let now = now();
        let mut failing = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        *failing = written.as_ref().err().map(|error| Failing {
            since: failing.as_ref().map_or(now, |before| before.since),
            last: now,
            reason: error.to_string(),
        });
    }
}

impl ConfigStore {
    /// What to warn of, when preferences cannot be stored. `setting` is what the program calls the store's URL.
    pub(crate) fn write_warning(&self, setting: &str) -> Option<String> {
        let failing = self.write_failure.0.lock();
        let failing = failing.unwrap_or_else(PoisonError::into_inner);
        let failing = failing
            .as_ref()
            .filter(|failing| now() - failing.last <= EXPIRES_AFTER)?;
        let (since, reason) = (failing.since, &failing.reason);
        let since = since.to_rfc3339_opts(SecondsFormat::Secs, true);
        Some(format!(
            "preferences cannot be stored: {reason} (since {since}). Free disk space, release the \
             lock on the store, or bring the database back ({setting})"
        ))
    }
}
