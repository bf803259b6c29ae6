//! Links to the preference pages that need no other sign-in: JSON Web Tokens, signed by the service or, with a key that
//! both have, by the product around it. A token is for one purpose, one tenant, and for all features or some.
//!
//! - Only HS256 is accepted, and only with a key whose id the token names: what a token says of its own algorithm decides
//!   nothing.
//! - The audience (`aud`) tells the purposes apart, so that a link of an e-mail that unsubscribes does not open a page, and one
//!   that opens a page is not a session.
//! - Each purpose has a longest lifetime, also for tokens that a product signs.
//! - Claims that are not known are refused: a misspelled `features` would otherwise be a link to all of them.

mod claims;
mod keys;

use chrono::{DateTime, TimeDelta, Utc};
use jsonwebtoken::{
    Algorithm, DecodingKey, EncodingKey, Header, Validation, decode, decode_header, encode,
    errors::ErrorKind,
};
use punctual_domain::TenantId;
use secrecy::{ExposeSecret, SecretString};
use tokio::sync::OnceCell;

use self::keys::LinkKey;
pub(crate) use self::{
    claims::{Claims, Features, LinkClaims, SessionClaims, UnsubscribeClaims},
    keys::LinkKeys,
};
use crate::store::{ConfigStore, StoreError, now};

/// Characters of a token at most: a cookie has 4,096, and addresses not many more.
const MAX_TOKEN_LENGTH: usize = 3_500;
/// How much earlier than ours the clock of a product may go, where a token is valid only from an instant on.
const CLOCK_SKEW: TimeDelta = TimeDelta::seconds(60);
/// The id of the key that the store makes.
const STORED_KEY: &str = "store";

/// Why a token is not accepted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum TokenError {
    /// It was valid, and is not any more.
    Expired,
    /// It never was; why, for the log.
    Invalid(&'static str),
}

/// Failure to sign a token.
#[derive(Debug, thiserror::Error)]
pub(crate) enum SignError {
    #[error(
        "the link would have {0} characters, and {MAX_TOKEN_LENGTH} are allowed; name fewer features"
    )]
    TooLong(usize),
    #[error(transparent)]
    Store(#[from] StoreError),
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
        let token = signed(self.keys().await?.signing(), claims)?;
        let length = token.expose_secret().len();
        if length > MAX_TOKEN_LENGTH {
            return Err(SignError::TooLong(length));
        }
        Ok(token)
    }

    pub(crate) async fn verify<C: Claims>(
        &self,
        token: &str,
    ) -> Result<Result<C, TokenError>, StoreError> {
        Ok(verified(self.keys().await?, token, now()))
    }

    /// Notes that a link which opens once has been opened; `false`: it was before.
    pub(crate) async fn use_up(
        &self,
        tenant: &TenantId,
        id: &str,
        expires_at: DateTime<Utc>,
    ) -> Result<bool, StoreError> {
        let link = blake3::hash(format!("{tenant}\n{id}").as_bytes());
        self.store.use_link(&link, expires_at).await
    }
}

fn signed(key: &LinkKey, claims: &impl Claims) -> Result<SecretString, StoreError> {
    let mut header = Header::new(Algorithm::HS256);
    header.kid = Some(key.id.clone());
    let secret = EncodingKey::from_secret(key.secret.expose_secret().as_bytes());
    let token = encode(&header, claims, &secret).map_err(StoreError::new)?;
    Ok(token.into())
}

fn verified<C: Claims>(keys: &LinkKeys, token: &str, now: DateTime<Utc>) -> Result<C, TokenError> {
    use TokenError::{Expired, Invalid};
    if token.len() > MAX_TOKEN_LENGTH {
        return Err(Invalid("it is too long"));
    }
    let header = decode_header(token).map_err(|_| Invalid("it is not a JSON Web Token"))?;
    let key = header.kid.and_then(|id| keys.with_id(&id));
    let key = key.ok_or(Invalid("it names none of the keys by `kid`"))?;
    let mut validation = Validation::new(Algorithm::HS256);
    validation.set_audience(&[C::AUDIENCE]);
    validation.required_spec_claims = ["aud".to_owned()].into();
    // By our clock, below.
    validation.validate_exp = false;
    let secret = DecodingKey::from_secret(key.secret.expose_secret().as_bytes());
    let decoded = decode::<C>(token, &secret, &validation).map_err(|error| {
        Invalid(match error.kind() {
            ErrorKind::InvalidAlgorithm => "its algorithm is not HS256",
            ErrorKind::InvalidSignature => "its signature is wrong",
            ErrorKind::InvalidAudience => "its `aud` is of another purpose",
            _ => "its claims are not as documented",
        })
    })?;
    let claims = decoded.claims;
    let (expires_at, not_before) = claims.times();
    let now = now.timestamp();
    if expires_at.saturating_sub(now) > (C::MAX_LIFETIME + CLOCK_SKEW).num_seconds() {
        return Err(Invalid("its `exp` is too far ahead"));
    }
    if not_before.is_some_and(|from| from.saturating_sub(CLOCK_SKEW.num_seconds()) > now) {
        return Err(Invalid("its `nbf` is in the future"));
    }
    if expires_at <= now {
        return Err(Expired);
    }
    Ok(claims)
}

#[cfg(test)]
mod tests;
