//! Large answers: how many are in memory at one time, how many of them are of one host, and for how long one may be read.
//!
//! A permit is for bytes that have come, not for those that a server announces: one that sends little, or nothing, holds none.
//! So it takes several hosts that all send a megabyte and then stop to hold up the large answers of others, for
//! [`READ_TIMEOUT`] at most.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use punctual_application::ports::HandlerError;
use tokio::{
    sync::{OwnedSemaphorePermit, Semaphore},
    time::{Instant, timeout, timeout_at},
};

/// Large answers that are in memory at one time; the calls of others wait.
const MAX_LARGE: usize = 8;
/// Large answers of one host among them.
const MAX_OF_HOST: usize = 4;
/// How long the rest of a large answer may take to come, from its permit on.
const READ_TIMEOUT: Duration = Duration::from_mins(1);

/// The large answers that are being read. Clones are the same.
#[derive(Debug, Clone)]
pub(super) struct LargeAnswers {
    all: Arc<Semaphore>,
    hosts: Arc<Mutex<HashMap<String, Arc<Semaphore>>>>,
}

/// The place of one large answer; given back when dropped.
pub(super) struct LargePermit {
    _of_host: OwnedSemaphorePermit,
    _of_all: OwnedSemaphorePermit,
}

impl Default for LargeAnswers {
    fn default() -> Self {
        Self {
            all: Arc::new(Semaphore::new(MAX_LARGE)),
            hosts: Arc::default(),
        }
    }
}

impl LargeAnswers {
    /// Waits for the place of a large answer of `host`, until the deadline of its call.
    ///
    /// # Errors
    /// Others have all places until then.
    pub(super) async fn permit(
        &self,
        host: &str,
        deadline: Instant,
    ) -> Result<LargePermit, HandlerError> {
        // First that of the host: calls that wait for it hold no place of others.
        let permits = async {
            Some(LargePermit {
                _of_host: self.of(host).acquire_owned().await.ok()?,
                _of_all: Arc::clone(&self.all).acquire_owned().await.ok()?,
            })
        };
        let permits = timeout_at(deadline, permits).await.ok().flatten();
        permits.ok_or_else(|| {
            HandlerError::retryable(format!(
                "{host} answered more than 1 MiB, and {MAX_LARGE} such answers, {MAX_OF_HOST} of one host, are read at a time: \
                 none was over in time"
            ))
        })
    }

    /// The rest of a large answer of `host`, if it comes in time.
    ///
    /// # Errors
    /// It does not.
    pub(super) async fn in_time<T>(
        &self,
        host: &str,
        rest: impl Future<Output = T>,
    ) -> Result<T, HandlerError> {
        timeout(READ_TIMEOUT, rest).await.map_err(|_elapsed| {
            let seconds = READ_TIMEOUT.as_secs();
            let message =
                format!("{host} did not send the rest of a large answer within {seconds} s");
            HandlerError::retryable(message)
        })
    }

    /// The permits of a host. Those of hosts that have no large answer are dropped.
    fn of(&self, host: &str) -> Arc<Semaphore> {
        let mut hosts = self.hosts.lock().unwrap_or_else(PoisonError::into_inner);
        hosts.retain(|_, permits| Arc::strong_count(permits) > 1);
        let permits = hosts.entry(host.to_owned());
        Arc::clone(permits.or_insert_with(|| Arc::new(Semaphore::new(MAX_OF_HOST))))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn one_host_leaves_room_for_others() {
        let large = LargeAnswers::default();
        let soon = || Instant::now() + Duration::from_secs(5);
        let mut of_slow = Vec::new();
        for _ in 0..MAX_OF_HOST {
            of_slow.push(large.permit("slow:443", soon()).await.unwrap());
        }
        let error = large.permit("slow:443", soon()).await.err().unwrap();
        assert!(error.message.contains("none was over in time"), "{error}");
        let of_other = large.permit("quick:443", soon()).await.unwrap();
        of_slow.pop();
        of_slow.push(large.permit("slow:443", soon()).await.unwrap());

        // Nothing is kept of hosts that have none.
        drop((of_slow, of_other));
        let _permit = large.permit("third:443", soon()).await.unwrap();
        let hosts = large.hosts.lock().unwrap();
        assert_eq!(hosts.keys().collect::<Vec<_>>(), ["third:443"]);
    }

    #[tokio::test(start_paused = true)]
    async fn an_answer_that_never_ends_gives_its_place_back() {
        let large = LargeAnswers::default();
        let rest = std::future::pending::<()>();
        let error = large.in_time("slow:443", rest).await.unwrap_err();
        assert!(
            error.message.contains("slow:443 did not send the rest"),
            "{error}"
        );
    }
}
