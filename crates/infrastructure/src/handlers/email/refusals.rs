//! When a server refuses the addresses of many recipients, the server is at fault and not the addresses: nothing is added to the
//! suppression list then. Many are more than [`MAX_REFUSED`], within a minute, or within an hour if they are also more than one
//! in [`MAX_SHARE`] recipients. So a server that says of all that they do not exist costs few addresses, however slowly it is
//! asked, and one that knows its addresses goes on.

use std::{
    collections::VecDeque,
    sync::{Mutex, PoisonError},
    time::Duration,
};

use tokio::time::Instant;

/// Addresses that a server may refuse and that are suppressed all the same, whatever their share.
pub(super) const MAX_REFUSED: usize = 20;
/// How long so many refusals are too many.
const BURST: Duration = Duration::from_mins(1);
/// How long recipients count for the share of those that are refused.
const WINDOW: Duration = Duration::from_hours(1);
/// At most one recipient in so many is refused by a server that knows its addresses.
const MAX_SHARE: usize = 4;

/// What a server has said of late about the addresses of recipients.
#[derive(Default)]
pub(super) struct RefusedAddresses(Mutex<Recipients>);

#[derive(Default)]
struct Recipients {
    /// When addresses were refused within [`BURST`], oldest first; [`MAX_REFUSED`] and one at most.
    burst: VecDeque<Instant>,
    /// Recipients within [`WINDOW`], oldest first, in parts as long as [`BURST`] or longer.
    parts: VecDeque<Part>,
    /// Whether too many are refused, and it has been noticed.
    is_noticed: bool,
}

struct Part {
    since: Instant,
    recipients: usize,
    refused: usize,
}

/// Whether the address of a refusal is suppressed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Verdict {
    Suppress,
    /// There are too many refusals.
    Keep(TooMany),
}

/// Refused addresses that are too many.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct TooMany {
    /// Whether they are so since this one.
    pub(super) is_first: bool,
    /// Recipients within an hour, and those of them that were refused.
    pub(super) recipients: usize,
    pub(super) refused: usize,
}

impl RefusedAddresses {
    /// Notes that a recipient has been taken.
    pub(super) fn note_taken(&self) {
        let mut recipients = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        recipients.count(Instant::now(), 0);
    }

    /// Notes that an address has been refused.
    pub(super) fn note_refused(&self) -> Verdict {
        let mut recipients = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        recipients.refuse(Instant::now())
    }
}

impl Recipients {
    fn count(&mut self, now: Instant, refused: usize) {
        let age = |part: &Part| now.duration_since(part.since);
        self.parts.retain(|part| age(part) < WINDOW);
        if self.parts.back().is_none_or(|part| age(part) >= BURST) {
            self.parts.push_back(Part {
                since: now,
                recipients: 0,
                refused: 0,
            });
        }
        if let Some(part) = self.parts.back_mut() {
            part.recipients += 1;
            part.refused += refused;
        }
    }

    fn refuse(&mut self, now: Instant) -> Verdict {
        self.count(now, 1);
        self.burst.push_back(now);
        self.burst.retain(|at| now.duration_since(*at) < BURST);
        let is_burst = self.burst.len() > MAX_REFUSED;
        if is_burst {
            self.burst.pop_front();
        }
        let recipients: usize = self.parts.iter().map(|part| part.recipients).sum();
        let refused: usize = self.parts.iter().map(|part| part.refused).sum();
        let is_share = refused > MAX_REFUSED && refused * MAX_SHARE > recipients;
        if !is_burst && !is_share {
            self.is_noticed = false;
            return Verdict::Suppress;
        }
        let is_first = !std::mem::replace(&mut self.is_noticed, true);
        Verdict::Keep(TooMany {
            is_first,
            recipients,
            refused,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// How many of so many refusals, one after each `pause`, suppress their address, and how many are noticed as the first of
    /// too many. Each comes after so many recipients that were taken.
    async fn suppressed(
        refused: &RefusedAddresses,
        refusals: usize,
        pause: Duration,
        taken: usize,
    ) -> (usize, usize) {
        let (mut suppressed, mut noticed) = (0, 0);
        for _ in 0..refusals {
            tokio::time::advance(pause).await;
            (0..taken).for_each(|_| refused.note_taken());
            match refused.note_refused() {
                Verdict::Suppress => suppressed += 1,
                Verdict::Keep(too_many) => noticed += usize::from(too_many.is_first),
            }
        }
        (suppressed, noticed)
    }

    #[tokio::test(start_paused = true)]
    async fn a_server_that_refuses_everything_suppresses_only_a_few_however_slowly() {
        for pause in [0, 1, 10, 60, 150].map(Duration::from_secs) {
            let refused = RefusedAddresses::default();
            let found = suppressed(&refused, 1_000, pause, 0).await;
            assert_eq!(found, (MAX_REFUSED, 1), "{pause:?}");
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_server_that_turns_bad_suppresses_only_a_few() {
        let refused = RefusedAddresses::default();
        (0..100_000).for_each(|_| refused.note_taken());
        let second = Duration::from_secs(1);
        assert_eq!(
            suppressed(&refused, 3_000, second, 0).await,
            (MAX_REFUSED, 1)
        );
        // An hour later it knows its addresses again.
        tokio::time::advance(WINDOW).await;
        let found = suppressed(&refused, MAX_REFUSED, second, 0).await;
        assert_eq!(found, (MAX_REFUSED, 0));
        assert_eq!(suppressed(&refused, 1, second, 0).await, (0, 1));
    }

    #[tokio::test(start_paused = true)]
    async fn a_share_that_is_plausible_is_suppressed_without_end() {
        let refused = RefusedAddresses::default();
        let pause = Duration::from_secs(10);
        assert_eq!(suppressed(&refused, 5_000, pause, 3).await, (5_000, 0));
        let worse = suppressed(&refused, 5_000, pause, 2).await;
        assert!(worse.0 < 500 && worse.1 == 1, "{worse:?}");
    }

    #[tokio::test(start_paused = true)]
    async fn what_is_remembered_is_bounded() {
        let refused = RefusedAddresses::default();
        suppressed(&refused, 10_000, Duration::from_secs(1), 1).await;
        let recipients = refused.0.lock().unwrap();
        assert!(recipients.burst.len() <= MAX_REFUSED);
        assert!(recipients.parts.len() <= 60);
    }
}
