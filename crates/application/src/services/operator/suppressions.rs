//! Addresses that no e-mail is sent to: added when mail to them bounced elsewhere or their owner complained, and removed when
//! they work again.

use punctual_domain::{EmailAddress, visible};
use serde::{Deserialize, Serialize};
use tracing::info;

use super::{Actor, Operator, OperatorError, amount};
use crate::ports::{Page, Paged, StoreError, Suppression};

/// Addresses of one request at most.
const MAX_ADDRESSES: usize = 1_000;
/// Characters of a reason at most.
const MAX_REASON: usize = 500;
/// Characters of an invalid reason that its error shows.
const SHOWN: usize = 60;

/// Addresses to be suppressed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(deny_unknown_fields)]
pub struct SuppressRequest {
    /// The addresses, 1 to 1,000.
    #[cfg_attr(feature = "openapi", schema(value_type = Vec<String>, min_items = 1, max_items = 1_000))]
    pub addresses: Vec<EmailAddress>,
    /// Why nothing is to be sent to them, 1 to 500 characters, such as `complained`.
    #[cfg_attr(feature = "openapi", schema(min_length = 1, max_length = 500))]
    pub reason: String,
}

/// What became of addresses that were to be suppressed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct SuppressReport {
    /// Number of addresses that were added; the others were on the list already.
    pub added: u64,
}

impl SuppressRequest {
    fn check(&self) -> Result<(), OperatorError> {
        let count = self.addresses.len();
        if !(1..=MAX_ADDRESSES).contains(&count) {
            return Err(OperatorError::Invalid(format!(
                "addresses has {count} entries; send 1 to {MAX_ADDRESSES} of them"
            )));
        }
        let usable = (1..=MAX_REASON).contains(&self.reason.trim().chars().count());
        let shown = visible(&self.reason);
        if !usable || shown != self.reason {
            let shown: String = shown.chars().take(SHOWN).collect();
            return Err(OperatorError::Invalid(format!(
                "invalid reason: {shown:?}; expected 1 to {MAX_REASON} visible characters, such as \"complained\""
            )));
        }
        Ok(())
    }
}

impl Operator {
    /// Puts addresses on the suppression list: no e-mail is sent to them. Those that are on it stay as they are.
    ///
    /// # Errors
    /// The list is empty or too long, the reason is invalid, or the store fails.
    pub async fn suppress(
        &self,
        actor: &Actor,
        request: &SuppressRequest,
    ) -> Result<SuppressReport, OperatorError> {
        request.check()?;
        let addresses = amount(request.addresses.len() as u64, "address");
        let detail = format!("{addresses}: {}", request.reason.trim());
        self.record(actor, "suppress", "suppressions", &detail)
            .await?;
        let at = self.clock.now();
        let entry = |address: &EmailAddress| Suppression {
            address: address.clone(),
            reason: request.reason.trim().to_owned(),
            at,
            by: actor.name.clone(),
        };
        let entries: Vec<Suppression> = request.addresses.iter().map(entry).collect();
        let added = self.noted(self.suppressions.suppress(&entries).await)?;
        info!(
            added,
            "Operator suppressed {addresses}, {added} of them new"
        );
        Ok(SuppressReport { added })
    }

    /// Takes an address off the suppression list.
    ///
    /// # Errors
    /// The address is not on the list, or the store fails.
    pub async fn unsuppress(
        &self,
        actor: &Actor,
        address: &EmailAddress,
    ) -> Result<(), OperatorError> {
        let known = self.noted(self.suppressions.suppressed(address).await)?;
        if known.is_none() {
            // The address itself is left out: errors and the audit log are kept.
            let message = "the address is not on the suppression list".to_owned();
            return Err(OperatorError::NotFound(message));
        }
        self.record(actor, "unsuppress", "suppressions", "1 address")
            .await?;
        self.noted(self.suppressions.unsuppress(address).await)?;
        info!("Operator took an address off the suppression list");
        Ok(())
    }

    /// The suppression list, newest entries first.
    ///
    /// # Errors
    /// The store fails, or the cursor is not one of this list.
    pub async fn suppressed(&self, page: &Page) -> Result<Paged<Suppression>, StoreError> {
        self.suppressions.suppressions(page).await
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use punctual_domain::BatchConfig;

    use super::*;
    use crate::{
        ports::{AuditFilter, OperatorStore},
        testing::{self, FakeStore},
    };

    fn request(addresses: &[&str], reason: &str) -> SuppressRequest {
        SuppressRequest {
            addresses: addresses.iter().map(|one| one.parse().unwrap()).collect(),
            reason: reason.to_owned(),
        }
    }

    #[tokio::test]
    async fn addresses_are_added_and_removed_and_both_are_audited() {
        let store: Arc<FakeStore> = Arc::default();
        let operator = testing::operator(&store, BatchConfig::default(), "2026-03-01T09:00:00Z");
        let actor = Actor::from("a test");
        let asked = request(&["Ann@shop.example", "bob@shop.example"], " complained ");
        let report = operator.suppress(&actor, &asked).await.unwrap();
        assert_eq!(report.added, 2);
        let again = request(&["ann@SHOP.example"], "bounced");
        assert_eq!(operator.suppress(&actor, &again).await.unwrap().added, 0);

        let page = Page {
            cursor: None,
            limit: 10,
        };
        let (entries, _) = operator.suppressed(&page).await.unwrap();
        let shown: Vec<_> = entries.iter().map(|one| one.address.as_str()).collect();
        assert_eq!(shown, ["bob@shop.example", "Ann@shop.example"]);
        assert_eq!(
            (entries[0].reason.as_str(), entries[0].by.as_str()),
            ("complained", "a test")
        );

        let ann = "ann@shop.example".parse().unwrap();
        operator.unsuppress(&actor, &ann).await.unwrap();
        let error = operator.unsuppress(&actor, &ann).await.unwrap_err();
        assert!(matches!(error, OperatorError::NotFound(_)), "{error}");
        assert!(!error.to_string().contains('@'), "{error}");
        let log = store.audit_log(&AuditFilter::default(), &page).await;
        let (log, _) = log.unwrap();
        let log: Vec<_> = log
            .iter()
            .map(|entry| (entry.action.as_str(), entry.detail.as_str()))
            .collect();
        assert_eq!(
            log,
            [
                ("unsuppress", "1 address"),
                ("suppress", "1 address: bounced"),
                ("suppress", "2 addresses: complained"),
            ]
        );
    }

    #[tokio::test]
    async fn a_request_that_cannot_be_used_changes_nothing() {
        let store: Arc<FakeStore> = Arc::default();
        let operator = testing::operator(&store, BatchConfig::default(), "2026-03-01T09:00:00Z");
        let long = "x".repeat(MAX_REASON + 1);
        for asked in [
            request(&[], "complained"),
            request(&["ann@shop.example"], " "),
            request(&["ann@shop.example"], "a\r\nb"),
            request(&["ann@shop.example"], &long),
        ] {
            let refused = operator.suppress(&Actor::from("a test"), &asked).await;
            let error = refused.unwrap_err();
            assert!(matches!(error, OperatorError::Invalid(_)), "{error}");
        }
        let all = Page {
            cursor: None,
            limit: 10,
        };
        assert_eq!(operator.suppressed(&all).await.unwrap().0, []);
    }
}
