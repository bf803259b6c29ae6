//! When a server refuses the addresses of many recipients at once, the server is at fault and not the addresses: nothing is added
//! to the suppression list then.

use std::{
    collections::VecDeque,
    sync::{Mutex, PoisonError},
    time::Duration,
};

use tokio::time::Instant;

/// Addresses that a server may refuse within [`WINDOW`] and that are still suppressed.
pub(super) const MAX_REFUSED: usize = 20;
/// How long a refusal counts.
pub(super) const WINDOW: Duration = Duration::from_mins(1);

/// The addresses that a server has refused of late, as not existing.
#[derive(Default)]
pub(super) struct RefusedAddresses(Mutex<Refused>);

#[derive(Default)]
struct Refused {
    /// When, oldest first; [`MAX_REFUSED`] and one at most.
    at: VecDeque<Instant>,
    /// Whether these are too many, and it has been noticed.
    is_noticed: bool,
}

/// Whether the address of a refusal is suppressed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Verdict {
    Suppress,
    /// There are too many refusals; `is_first`: since this one.
    Keep {
        is_first: bool,
    },
}

impl RefusedAddresses {
    /// Notes that an address has been refused.
    pub(super) fn note(&self) -> Verdict {
        let now = Instant::now();
        let mut refused = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        refused.at.push_back(now);
        refused.at.retain(|at| now.duration_since(*at) < WINDOW);
        if refused.at.len() <= MAX_REFUSED {
            refused.is_noticed = false;
            return Verdict::Suppress;
        }
        refused.at.pop_front();
        let is_first = !std::mem::replace(&mut refused.is_noticed, true);
        Verdict::Keep { is_first }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_server_that_refuses_everything_suppresses_only_a_few() {
        let refused = RefusedAddresses::default();
        for _ in 0..MAX_REFUSED {
            assert_eq!(refused.note(), Verdict::Suppress);
        }
        assert_eq!(refused.note(), Verdict::Keep { is_first: true });
        for _ in 0..100 {
            assert_eq!(refused.note(), Verdict::Keep { is_first: false });
            tokio::time::advance(Duration::from_secs(1)).await;
        }
        tokio::time::advance(WINDOW).await;
        assert_eq!(refused.note(), Verdict::Suppress);
        for _ in 1..MAX_REFUSED {
            refused.note();
        }
        assert_eq!(refused.note(), Verdict::Keep { is_first: true });
    }
}
