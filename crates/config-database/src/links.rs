//! Links to the preference pages, signed with the keys of the settings, or else with one that the store makes. The tokens are
//! those of [`punctual_links`].

use chrono::{DateTime, Utc};
use punctual_domain::OrganizationId;
pub(crate) use punctual_links::{
    Claims, Features, LinkClaims, LinkKeys, SessionClaims, Subject, TokenError, UnsubscribeClaims,
};
use secrecy::SecretString;
use tokio::sync::OnceCell;

use crate::store::{ConfigStore, StoreError, now};

/// The id of the key that the store makes.
const STORED_KEY: &str = "store";

/// Failure to sign a token.
#[derive(Debug, thiserror::Error)]
pub(crate) enum SignError {
    #[error(transparent)]
    Token(#[from] punctual_links::SignError),
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// A link, to whichever pages it leads.
#[derive(Debug)]
pub(crate) enum AnyLink {
    OfTenant(LinkClaims),
    OfOrganization(LinkClaims<OrganizationId>),
}

/// Signs tokens and checks them.
#[derive(Debug)]
pub(crate) struct Links {
    store: ConfigStore,
    /// `None`: the store has the key.
    configured: Option<LinkKeys>,
    stored: OnceCell<LinkKeys>,
}

impl Links {
    pub(crate) fn new(store: ConfigStore, configured: Option<LinkKeys>) -> Self {
        Self {
            store,
            configured,
            stored: OnceCell::new(),
        }
    }

    /// The keys that are accepted. Where some are configured, the key of the store is not: who configures keys decides
    /// which ones are valid.
    async fn keys(&self) -> Result<&LinkKeys, StoreError> {
        if let Some(keys) = &self.configured {
            return Ok(keys);
        }
        let made = || async {
            let secret = self.store.link_key().await?;
            Ok::<_, StoreError>(LinkKeys::one(STORED_KEY, secret))
        };
        self.stored.get_or_try_init(made).await
    }

    pub(crate) async fn sign(&self, claims: &impl Claims) -> Result<SecretString, SignError> {
        Ok(self.keys().await?.sign(claims)?)
    }

    pub(crate) async fn verify<C: Claims>(
        &self,
        token: &str,
    ) -> Result<Result<C, TokenError>, StoreError> {
        Ok(self.keys().await?.verify(token, now()))
    }

    /// The claims of a link, be it to the pages of a tenant or of an organization.
    pub(crate) async fn verify_link(
        &self,
        token: &str,
    ) -> Result<Result<AnyLink, TokenError>, StoreError> {
        let refused = match self.verify(token).await? {
            Ok(link) => return Ok(Ok(AnyLink::OfTenant(link))),
            Err(TokenError::Expired) => return Ok(Err(TokenError::Expired)),
            Err(refused @ TokenError::Invalid(_)) => refused,
        };
        Ok(match self.verify(token).await? {
            Ok(link) => Ok(AnyLink::OfOrganization(link)),
            Err(TokenError::Expired) => Err(TokenError::Expired),
            Err(TokenError::Invalid(_)) => Err(refused),
        })
    }

    /// Notes that a link to the pages of `subject` which opens once has been opened; `false`: it was before.
    pub(crate) async fn use_up(
        &self,
        subject: &str,
        id: &str,
        expires_at: DateTime<Utc>,
    ) -> Result<bool, StoreError> {
        let link = blake3::hash(format!("{subject}\n{id}").as_bytes());
        self.store.use_link(&link, expires_at).await
    }
}
