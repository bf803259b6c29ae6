//! How often anybody may call: a key that goes wild must not slow the others down.

use std::{
    num::NonZeroU32,
    sync::{Mutex, PoisonError},
    time::Duration,
};

use governor::{DefaultKeyedRateLimiter, Quota, RateLimiter, clock::Clock};
use punctual_web::Problem;
use tokio::time::Instant;

use super::auth::Caller;

/// Calls a second of a key that serves all tenants: an agent that asks for one after the other.
const SERVICE_RATE: (u32, u32) = (5_000, 10_000);
/// Of a key for one tenant, or a link: a person with a page.
const TENANT_RATE: (u32, u32) = (10, 100);
/// How often to forget who has not called for a while.
const TIDY_AFTER: Duration = Duration::from_mins(1);

pub(super) struct Limits {
    services: DefaultKeyedRateLimiter<String>,
    tenants: DefaultKeyedRateLimiter<String>,
    tidied: Mutex<Instant>,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            services: RateLimiter::keyed(quota(SERVICE_RATE)),
            tenants: RateLimiter::keyed(quota(TENANT_RATE)),
            tidied: Mutex::new(Instant::now()),
        }
    }
}

impl Limits {
    pub(super) fn known(&self, caller: &Caller) -> Result<(), Problem> {
        self.clean_up();
        let limiter = if caller.reaches_all() {
            &self.services
        } else {
            &self.tenants
        };
        check(limiter, &caller.name)
    }

    /// Forgets who has not called for a while, when it is time.
    fn clean_up(&self) {
        let mut tidied = self.tidied.lock().unwrap_or_else(PoisonError::into_inner);
        if tidied.elapsed() >= TIDY_AFTER {
            *tidied = Instant::now();
            self.services.retain_recent();
            self.tenants.retain_recent();
        }
    }
}

fn quota((each_second, burst): (u32, u32)) -> Quota {
    let at_least_one = |n: u32| NonZeroU32::new(n).unwrap_or(NonZeroU32::MIN);
    Quota::per_second(at_least_one(each_second)).allow_burst(at_least_one(burst))
}

fn check<K: Clone + Eq + std::hash::Hash>(
    limiter: &DefaultKeyedRateLimiter<K>,
    key: &K,
) -> Result<(), Problem> {
    limiter.check_key(key).map_err(|too_early| {
        let wait = too_early.wait_time_from(limiter.clock().now());
        Problem::too_many("calls", wait.max(Duration::from_secs(1)))
    })
}
