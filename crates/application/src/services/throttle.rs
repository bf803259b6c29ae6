//! How fast one purpose may call its remote endpoint: calls at once, calls and tokens per minute, and less of all of it
//! while the endpoint refuses calls because of its rate limit. Calls and tokens per minute also for each organization.

mod organizations;
mod rates;

use std::{
    sync::{Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use punctual_domain::OrganizationId;
use tokio::{sync::Notify, time::Instant};

use self::{organizations::OrganizationRates, rates::Rates};
use crate::{
    backoff::Backoff,
    ports::{HandlerError, HandlerErrorKind},
};

/// Pauses after refusals in a row, unless the remote endpoint asks for a longer one.
const PAUSES: Backoff = Backoff::new(Duration::from_secs(1), Duration::from_mins(1));

/// The limits of a purpose; `None`: none.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub struct PurposeLimits {
    /// Calls at one time.
    pub concurrency: Option<u32>,
    /// Calls begun per minute.
    pub requests_per_minute: Option<u32>,
    /// Tokens per minute: what results report as `usage.total_tokens`.
    pub tokens_per_minute: Option<u32>,
    /// Calls begun per minute for the items of one organization.
    pub requests_per_minute_per_organization: Option<u32>,
    /// Tokens per minute for the items of one organization.
    pub tokens_per_minute_per_organization: Option<u32>,
}

/// Holds one purpose to its limits.
#[derive(Debug)]
pub(crate) struct Throttle {
    pub(super) limits: PurposeLimits,
    /// What each organization has used. [`acquire`](Self::acquire) does not look at it: items wait for their share before.
    pub(crate) organizations: OrganizationRates,
    state: Mutex<State>,
    permit_released: Notify,
}

#[derive(Debug)]
struct State {
    running: u32,
    /// How many may run at once now: less than the limit after refusals, and slowly more again.
    window: f64,
    throttled_in_a_row: u32,
    /// No call begins before this time.
    not_before: Instant,
    rates: Rates,
}

/// One call's place; given back when dropped.
#[derive(Debug)]
pub(crate) struct CallPermit<'a>(&'a Throttle);

impl Throttle {
    pub(crate) fn new(limits: PurposeLimits) -> Self {
        let now = Instant::now();
        let window = f64::from(limits.concurrency.unwrap_or(u32::MAX));
        Self {
            organizations: OrganizationRates::new(&limits),
            limits,
            state: Mutex::new(State {
                running: 0,
                window,
                throttled_in_a_row: 0,
                not_before: now,
                rates: Rates::new(now),
            }),
            permit_released: Notify::new(),
        }
    }

    /// Waits for a place and for the time to use it.
    pub(crate) async fn acquire(&self) -> CallPermit<'_> {
        loop {
            let permit_released = self.permit_released.notified();
            match self.try_acquire() {
                Ok(permit) => return permit,
                Err(Some(until)) => tokio::time::sleep_until(until).await,
                Err(None) => permit_released.await,
            }
        }
    }

    /// A place, or until when to wait; `None`: until one is free.
    fn try_acquire(&self) -> Result<CallPermit<'_>, Option<Instant>> {
        let mut state = self.lock();
        let now = Instant::now();
        let due = state.not_before.max(state.rates.due());
        if now < due {
            return Err(Some(due));
        }
        if f64::from(state.running) >= state.window.max(1.0) {
            return Err(None);
        }
        state.running += 1;
        state.rates.begin(self.limits.requests_per_minute, now);
        Ok(CallPermit(self))
    }

    /// A call, of an item of this organization, has ended: it has used so many tokens, or failed.
    pub(crate) fn note(
        &self,
        ended: Result<u64, &HandlerError>,
        organization: Option<&OrganizationId>,
    ) {
        match ended {
            Ok(tokens) => {
                self.succeeded(tokens);
                if let Some(organization) = organization {
                    self.organizations.add_tokens(organization, tokens);
                }
            }
            Err(error) if error.kind == HandlerErrorKind::Throttled => {
                self.throttled(error.retry_after);
            }
            Err(_) => {}
        }
    }

    /// A call has succeeded and used so many tokens.
    fn succeeded(&self, tokens: u64) {
        let mut state = self.lock();
        state.throttled_in_a_row = 0;
        let most = f64::from(self.limits.concurrency.unwrap_or(u32::MAX));
        state.window = (state.window + 1.0 / state.window.max(1.0)).min(most);
        let per_minute = self.limits.tokens_per_minute;
        state.rates.add_tokens(tokens, per_minute, Instant::now());
    }

    /// The remote endpoint has refused a call because of its rate limit, and asked to wait for `retry_after`.
    fn throttled(&self, retry_after: Option<Duration>) {
        let mut state = self.lock();
        let now = Instant::now();
        // Those who were on their way when the pause began say nothing new.
        if now >= state.not_before {
            let beside = f64::from(state.running.max(1));
            state.window = (state.window.min(beside) / 2.0).max(1.0);
            state.throttled_in_a_row = state.throttled_in_a_row.saturating_add(1);
            state.not_before = now + PAUSES.after(state.throttled_in_a_row);
        }
        if let Some(asked) = retry_after {
            state.not_before = state.not_before.max(now + asked);
        }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for CallPermit<'_> {
    fn drop(&mut self) {
        self.0.lock().running -= 1;
        // All of them: more than one place may be free, and the one that is woken may give up while it waits for its time.
        self.0.permit_released.notify_waiters();
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;

    fn limits(change: impl FnOnce(&mut PurposeLimits)) -> Arc<Throttle> {
        let mut limits = PurposeLimits::default();
        change(&mut limits);
        Arc::new(Throttle::new(limits))
    }

    #[tokio::test(start_paused = true)]
    async fn calls_begin_no_faster_than_their_rate() {
        let throttle = limits(|limits| limits.requests_per_minute = Some(120));
        let began = Instant::now();
        for _ in 0..11 {
            drop(throttle.acquire().await);
        }
        assert_eq!(began.elapsed().as_millis(), 5_000);
    }

    #[tokio::test(start_paused = true)]
    async fn tokens_are_paid_for_before_the_next_call() {
        let throttle = limits(|limits| limits.tokens_per_minute = Some(6_000));
        let began = Instant::now();
        for _ in 0..3 {
            let call_permit = throttle.acquire().await;
            throttle.succeeded(500);
            drop(call_permit);
        }
        assert_eq!(began.elapsed().as_secs(), 10, "500 tokens take 5 s");
    }

    #[tokio::test(start_paused = true)]
    async fn an_endpoint_that_reports_absurdly_many_tokens_is_called_again_within_a_day() {
        let throttle = limits(|limits| limits.tokens_per_minute = Some(1));
        let began = Instant::now();
        throttle.succeeded(u64::MAX);
        throttle.succeeded(u64::MAX);
        drop(throttle.acquire().await);
        assert_eq!(began.elapsed().as_secs(), 24 * 60 * 60);
    }

    #[tokio::test(start_paused = true)]
    async fn no_more_run_at_once_than_the_purpose_allows() {
        let throttle = limits(|limits| limits.concurrency = Some(3));
        let most = Arc::new(Mutex::new((0, 0)));
        let call = |_| {
            let (throttle, most) = (Arc::clone(&throttle), Arc::clone(&most));
            tokio::spawn(async move {
                let call_permit = throttle.acquire().await;
                {
                    let mut most = most.lock().unwrap();
                    most.0 += 1;
                    most.1 = most.1.max(most.0);
                }
                tokio::time::sleep(Duration::from_millis(10)).await;
                most.lock().unwrap().0 -= 1;
                drop(call_permit);
            })
        };
        for task in (0..20).map(call).collect::<Vec<_>>() {
            task.await.unwrap();
        }
        assert_eq!(most.lock().unwrap().1, 3);
    }

    #[tokio::test(start_paused = true)]
    async fn a_call_that_gives_up_its_wait_takes_no_place_from_those_that_wait() {
        let throttle = limits(|limits| limits.concurrency = Some(1));
        let call_permit = throttle.acquire().await;
        let [first, second] = [(); 2].map(|()| {
            let throttle = Arc::clone(&throttle);
            tokio::spawn(async move { drop(throttle.acquire().await) })
        });
        let moment = Duration::from_millis(1);
        tokio::time::sleep(moment).await;
        throttle.throttled(Some(Duration::from_mins(1)));
        drop(call_permit);
        tokio::time::sleep(moment).await;
        first.abort();
        let second = tokio::time::timeout(Duration::from_mins(2), second).await;
        second.expect("it has its turn").unwrap();
    }

    #[tokio::test(start_paused = true)]
    async fn those_that_wait_begin_together_once_an_endpoint_accepts_calls_again() {
        let throttle = limits(|limits| limits.concurrency = Some(4));
        let call_permit = throttle.acquire().await;
        throttle.throttled(None);
        drop(call_permit);
        let began = Instant::now();
        let calls = [(); 8].map(|()| {
            let throttle = Arc::clone(&throttle);
            tokio::spawn(async move {
                let _call_permit = throttle.acquire().await;
                tokio::time::sleep(Duration::from_secs(1)).await;
                throttle.succeeded(0);
            })
        });
        for call in calls {
            call.await.unwrap();
        }
        let took = began.elapsed();
        assert!(
            took < Duration::from_secs(7),
            "{took:?}, not 8 s and a pause"
        );
    }

    #[tokio::test(start_paused = true)]
    async fn an_endpoint_that_refuses_everything_is_called_ever_less_and_then_again() {
        let throttle = limits(|limits| limits.concurrency = Some(25));
        let (began, mut calls) = (Instant::now(), 0);
        while began.elapsed() < Duration::from_mins(10) {
            let call_permit = throttle.acquire().await;
            calls += 1;
            throttle.throttled(None);
            drop(call_permit);
        }
        assert!(calls <= 20, "{calls} calls in ten minutes");
        let asked = Instant::now();
        throttle.throttled(Some(Duration::from_mins(5)));
        drop(throttle.acquire().await);
        assert!(asked.elapsed() >= Duration::from_mins(5), "as it asked");
        let turns = [throttle.acquire().await];
        assert!(throttle.try_acquire().is_err(), "one at a time at first");
        drop(turns);
        for _ in 0..1_000 {
            drop(throttle.acquire().await);
            throttle.succeeded(0);
        }
        assert!(throttle.lock().window > 24.0, "and all of it again in time");
    }
}
