//! Attempts with wrong keys, limited by address before a key is looked up. A key that was right lately passes from its
//! address, so that those who share an address with someone who guesses go on working.

use std::{
    collections::HashMap,
    net::IpAddr,
    sync::{Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use tokio::time::Instant;
use tracing::warn;

use crate::serve::network;

/// Wrong keys in a row from one address (IPv6: one /64), and the time after which one more is allowed.
const MAX_WRONG_IN_A_ROW: u32 = 100;
const WRONG_KEY_INTERVAL: Duration = Duration::from_secs(1);
/// How long a right key passes without being counted.
const RIGHT_KEY_TTL: Duration = Duration::from_hours(1);
/// Addresses remembered. All further ones share the limit of one.
const MAX_ADDRESSES: usize = 10_000;
const CLEANUP_INTERVAL: Duration = Duration::from_secs(1);
/// Right keys remembered, each with its address.
const MAX_RIGHT_KEYS: usize = 10_000;
/// Lines of the log about wrong keys in a row, and the time after which one more is written.
const MAX_LOG_LINES: u32 = 10;
const LOG_LINE_INTERVAL: Duration = Duration::from_secs(6);

/// Limits attempts with wrong keys.
#[derive(Debug, Default)]
pub struct Guesses(Mutex<GuessState>);

#[derive(Debug, Default)]
struct GuessState {
    wrong: HashMap<IpAddr, Bucket>,
    /// Paces the looks at which addresses can be forgotten.
    cleaned_up: Bucket,
    /// Of addresses beyond the most that are remembered.
    others: Bucket,
    right: HashMap<(IpAddr, blake3::Hash), Instant>,
    log: Bucket,
    left_out: u64,
}

/// A limit that is used up by attempts and recovers with time: the instant at which it is whole again.
#[derive(Debug, Default, Clone, Copy)]
struct Bucket(Option<Instant>);

impl Bucket {
    /// Takes one; the error is the time until there is one.
    fn take(&mut self, now: Instant, burst: u32, each: Duration) -> Result<(), Duration> {
        let whole_at = self.0.map_or(now, |at| at.max(now));
        let wait = (whole_at + each).saturating_duration_since(now + each * burst);
        if wait > Duration::ZERO {
            return Err(wait);
        }
        self.0 = Some(whole_at + each);
        Ok(())
    }

    fn give_back(&mut self, each: Duration) {
        self.0 = self.0.and_then(|at| at.checked_sub(each));
    }

    fn is_whole(&self, now: Instant) -> bool {
        self.0.is_none_or(|at| at <= now)
    }
}

/// An attempt that may look its key up. Say how that ended; one that is dropped, because the store failed, counts as wrong.
#[must_use]
#[derive(Debug)]
pub struct Attempt<'g> {
    guesses: &'g Guesses,
    peer: IpAddr,
    key: blake3::Hash,
}

impl Guesses {
    /// Begins an attempt with a key or the token of a session, by its hash. The error is the time to wait.
    ///
    /// # Errors
    /// When too many wrong keys came from `peer` lately, and this one was not right lately.
    pub fn begin(&self, peer: IpAddr, key: blake3::Hash) -> Result<Attempt<'_>, Duration> {
        let (peer, now) = (network(peer), Instant::now());
        let mut seen = self.seen();
        let was_right = seen
            .right
            .get(&(peer, key))
            .is_some_and(|at| now - *at < RIGHT_KEY_TTL);
        if !was_right {
            let taken = seen
                .bucket(peer, now)
                .take(now, MAX_WRONG_IN_A_ROW, WRONG_KEY_INTERVAL);
            if let Err(wait) = taken {
                seen.log(
                    peer,
                    now,
                    "too many, and further ones are refused for a while",
                );
                return Err(wait);
            }
        }
        Ok(Attempt {
            guesses: self,
            peer,
            key,
        })
    }

    fn seen(&self) -> MutexGuard<'_, GuessState> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Attempt<'_> {
    /// The key is right.
    pub fn right(self) {
        let (now, key) = (Instant::now(), (self.peer, self.key));
        let mut seen = self.guesses.seen();
        if !seen.right.contains_key(&key) {
            seen.bucket(self.peer, now).give_back(WRONG_KEY_INTERVAL);
            if seen.right.len() >= MAX_RIGHT_KEYS {
                seen.forget_right(now);
            }
        }
        seen.right.insert(key, now);
    }

    /// The key is wrong. `what` says what it was sent for.
    pub fn wrong(self, what: &str) {
        let (now, key) = (Instant::now(), (self.peer, self.key));
        let mut seen = self.guesses.seen();
        if seen.right.remove(&key).is_some() {
            // It was right until lately, and has not been counted.
            let _ = seen
                .bucket(self.peer, now)
                .take(now, MAX_WRONG_IN_A_ROW, WRONG_KEY_INTERVAL);
        }
        seen.log(self.peer, now, what);
    }
}

impl GuessState {
    fn bucket(&mut self, peer: IpAddr, now: Instant) -> &mut Bucket {
        if !self.wrong.contains_key(&peer) && self.wrong.len() >= MAX_ADDRESSES {
            if self.cleaned_up.take(now, 1, CLEANUP_INTERVAL).is_ok() {
                self.wrong.retain(|_, bucket| !bucket.is_whole(now));
            }
            if self.wrong.len() >= MAX_ADDRESSES {
                return &mut self.others;
            }
        }
        self.wrong.entry(peer).or_default()
    }

    /// Forgets right keys that have not been used for long; at least half of them, so that this is rare.
    fn forget_right(&mut self, now: Instant) {
        let mut used: Vec<Instant> = self.right.values().copied().collect();
        used.sort_unstable();
        let median = used.get(used.len() / 2).copied().unwrap_or(now);
        self.right
            .retain(|_, at| *at > median && now - *at < RIGHT_KEY_TTL);
    }

    fn log(&mut self, peer: IpAddr, now: Instant, what: &str) {
        if self
            .log
            .take(now, MAX_LOG_LINES, LOG_LINE_INTERVAL)
            .is_err()
        {
            self.left_out += 1;
            return;
        }
        let left_out = std::mem::take(&mut self.left_out);
        warn!(%peer, left_out, "Wrong key from {peer}: {what}");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn attempt(guesses: &Guesses, peer: &str, key: &str, right: bool) -> bool {
        let key = blake3::hash(key.as_bytes());
        match guesses.begin(peer.parse().unwrap(), key) {
            Ok(attempt) if right => attempt.right(),
            Ok(attempt) => attempt.wrong("test"),
            Err(wait) => {
                assert!(wait > Duration::ZERO && wait <= WRONG_KEY_INTERVAL);
                return false;
            }
        }
        true
    }

    #[tokio::test(start_paused = true)]
    async fn the_right_key_is_refused_amid_guesses_unless_it_was_right_lately() {
        let guesses = Guesses::default();
        assert!(attempt(&guesses, "192.0.2.1", "known", true));
        let tried = (0..2_000)
            .filter(|n| attempt(&guesses, "192.0.2.1", &format!("guess {n}"), false))
            .count();
        assert_eq!(tried, MAX_WRONG_IN_A_ROW as usize);
        assert!(
            !attempt(&guesses, "192.0.2.1", "right", true),
            "no earlier success"
        );
        assert!(
            attempt(&guesses, "192.0.2.1", "known", true),
            "right lately"
        );
        assert!(
            attempt(&guesses, "192.0.2.2", "right", true),
            "another address"
        );
        tokio::time::advance(WRONG_KEY_INTERVAL).await;
        assert!(attempt(&guesses, "192.0.2.1", "right", true));
        tokio::time::advance(RIGHT_KEY_TTL).await;
        while attempt(&guesses, "192.0.2.1", "guess", false) {}
        assert!(!attempt(&guesses, "192.0.2.1", "known", true), "long ago");
    }

    #[tokio::test(start_paused = true)]
    async fn right_keys_are_not_counted_and_a_revoked_one_is() {
        let guesses = Guesses::default();
        for n in 0..1_000 {
            assert!(attempt(&guesses, "192.0.2.1", &format!("tenant {n}"), true));
        }
        let tried = (0..100).filter(|_| attempt(&guesses, "192.0.2.1", "tenant 1", false));
        assert_eq!(tried.count(), MAX_WRONG_IN_A_ROW as usize);
    }

    #[tokio::test(start_paused = true)]
    async fn many_addresses_take_bounded_memory_and_are_limited_together() {
        let guesses = Guesses::default();
        let of = |n: u32| std::net::Ipv4Addr::from(0x0a00_0000 + n).to_string();
        let allowed = (0..100_000)
            .filter(|n| attempt(&guesses, &of(*n), "guess", false))
            .count();
        assert!(
            allowed <= MAX_ADDRESSES + MAX_WRONG_IN_A_ROW as usize,
            "{allowed}"
        );
        assert!(guesses.seen().wrong.len() <= MAX_ADDRESSES);
        for n in 0..30_000 {
            attempt(&guesses, "192.0.2.1", &format!("tenant {n}"), true);
        }
        assert!(guesses.seen().right.len() <= MAX_RIGHT_KEYS);
    }

    #[tokio::test(start_paused = true)]
    async fn the_addresses_of_one_ipv6_network_share_a_limit() {
        let guesses = Guesses::default();
        let of = |n: u32| format!("2001:db8:1:2:{:x}::{:x}", n % 7, n);
        let tried = (0..100).filter(|n| attempt(&guesses, &of(*n), "guess", false));
        assert_eq!(tried.count(), MAX_WRONG_IN_A_ROW as usize);
        assert!(attempt(&guesses, "2001:db8:1:3::1", "guess", false));
        let tried = (0..100).filter(|_| attempt(&guesses, "::ffff:192.0.2.9", "guess", false));
        assert_eq!(tried.count(), MAX_WRONG_IN_A_ROW as usize);
        assert!(!attempt(&guesses, "192.0.2.9", "guess", false));
    }
}
