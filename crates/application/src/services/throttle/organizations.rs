//! How fast one purpose may be called for each organization. An organization that has its whole share again is forgotten.

use std::{
    collections::HashMap,
    sync::{Mutex, PoisonError},
    time::Duration,
};

use punctual_domain::OrganizationId;
use tokio::time::Instant;

use super::{PurposeLimits, rates::Rates};

/// Time between two looks for organizations to forget.
const FORGET_EVERY: Duration = Duration::from_mins(1);

/// Holds the calls of one purpose for each organization to its share.
#[derive(Debug)]
pub(crate) struct OrganizationRates {
    requests_per_minute: Option<u32>,
    tokens_per_minute: Option<u32>,
    used: Mutex<Used>,
}

#[derive(Debug)]
struct Used {
    rates: HashMap<OrganizationId, Rates>,
    /// When those that have their whole share again are forgotten next.
    forget_at: Instant,
}

impl OrganizationRates {
    pub(super) fn new(limits: &PurposeLimits) -> Self {
        Self {
            requests_per_minute: limits.requests_per_minute_per_organization,
            tokens_per_minute: limits.tokens_per_minute_per_organization,
            used: Mutex::new(Used {
                rates: HashMap::new(),
                forget_at: Instant::now() + FORGET_EVERY,
            }),
        }
    }

    /// Whether organizations have a share at all.
    pub(crate) fn are_limited(&self) -> bool {
        self.requests_per_minute.is_some() || self.tokens_per_minute.is_some()
    }

    /// When the next item of an organization may begin; `None`: at once.
    pub(crate) fn opens_at(&self, organization: &OrganizationId) -> Option<Instant> {
        let used = self.used.lock().unwrap_or_else(PoisonError::into_inner);
        let due = used.rates.get(organization)?.due();
        (due > Instant::now()).then_some(due)
    }

    /// Counts a call for an organization.
    pub(crate) fn begin(&self, organization: &OrganizationId) {
        self.change(organization, |rates, now| {
            rates.begin(self.requests_per_minute, now);
        });
    }

    /// Does not count a call that was not made.
    pub(crate) fn refund(&self, organization: &OrganizationId) {
        self.change(organization, |rates, _| {
            rates.refund(self.requests_per_minute);
        });
    }

    /// Counts the tokens that a call for an organization has used.
    pub(super) fn add_tokens(&self, organization: &OrganizationId, tokens: u64) {
        self.change(organization, |rates, now| {
            rates.add_tokens(tokens, self.tokens_per_minute, now);
        });
    }

    fn change(&self, organization: &OrganizationId, change: impl FnOnce(&mut Rates, Instant)) {
        if !self.are_limited() {
            return;
        }
        let now = Instant::now();
        let mut used = self.used.lock().unwrap_or_else(PoisonError::into_inner);
        let Used { rates, forget_at } = &mut *used;
        if now >= *forget_at {
            rates.retain(|_, rates| rates.due() > now);
            *forget_at = now + FORGET_EVERY;
        }
        let rates = rates
            .entry(organization.clone())
            .or_insert_with(|| Rates::new(now));
        change(rates, now);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shares(requests: Option<u32>, tokens: Option<u32>) -> OrganizationRates {
        OrganizationRates::new(&PurposeLimits {
            requests_per_minute_per_organization: requests,
            tokens_per_minute_per_organization: tokens,
            ..PurposeLimits::default()
        })
    }

    fn id(name: &str) -> OrganizationId {
        OrganizationId::new(name).unwrap()
    }

    fn wait(until: Option<Instant>) -> Duration {
        until.map_or(Duration::ZERO, |until| until - Instant::now())
    }

    #[tokio::test(start_paused = true)]
    async fn each_organization_has_a_share_of_its_own() {
        let shares = shares(Some(6), Some(60));
        let (acme, other) = (id("acme"), id("umbrella"));
        assert_eq!(shares.opens_at(&acme), None);
        shares.begin(&acme);
        assert_eq!(wait(shares.opens_at(&acme)).as_secs(), 10);
        shares.begin(&acme);
        assert_eq!(wait(shares.opens_at(&acme)).as_secs(), 20, "for a retry");
        shares.add_tokens(&acme, 30);
        assert_eq!(wait(shares.opens_at(&acme)).as_secs(), 30, "for its tokens");
        assert_eq!(shares.opens_at(&other), None);
        tokio::time::advance(Duration::from_secs(30)).await;
        assert_eq!(shares.opens_at(&acme), None);
    }

    #[tokio::test(start_paused = true)]
    async fn a_call_that_was_not_made_does_not_count_and_no_share_is_saved_up() {
        let shares = shares(Some(6), None);
        let acme = id("acme");
        shares.begin(&acme);
        shares.refund(&acme);
        assert_eq!(shares.opens_at(&acme), None);
        for _ in 0..3 {
            shares.refund(&acme);
        }
        shares.begin(&acme);
        assert_eq!(wait(shares.opens_at(&acme)).as_secs(), 10, "from now on");
    }

    #[tokio::test(start_paused = true)]
    async fn an_organization_with_absurdly_many_tokens_goes_on_within_a_day() {
        let shares = shares(None, Some(1));
        let acme = id("acme");
        shares.add_tokens(&acme, u64::MAX);
        shares.add_tokens(&acme, u64::MAX);
        assert_eq!(wait(shares.opens_at(&acme)), Duration::from_hours(24));
    }

    #[tokio::test(start_paused = true)]
    async fn organizations_are_forgotten_once_they_have_their_whole_share() {
        let shares = shares(Some(60), None);
        let remembered = || shares.used.lock().unwrap().rates.len();
        for n in 0..5_000 {
            shares.begin(&id(&format!("o{n}")));
            tokio::time::advance(Duration::from_millis(100)).await;
            assert!(remembered() <= 620, "those of a minute and a second");
        }
        let busy = id("busy");
        for _ in 0..300 {
            shares.begin(&busy);
        }
        tokio::time::advance(Duration::from_mins(2)).await;
        shares.begin(&id("other"));
        assert_eq!(remembered(), 2);
        assert!(
            shares.opens_at(&busy).is_some(),
            "none is forgotten before it has its share"
        );
    }

    #[tokio::test(start_paused = true)]
    async fn without_shares_nothing_is_remembered() {
        let shares = shares(None, None);
        assert!(!shares.are_limited());
        shares.add_tokens(&id("acme"), 1_000);
        shares.begin(&id("acme"));
        assert_eq!(shares.opens_at(&id("acme")), None);
        assert_eq!(shares.used.lock().unwrap().rates.len(), 0);
    }
}
