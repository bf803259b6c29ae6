#![doc = include_str!("../README.md")]
#![warn(missing_docs)]

mod claims;
mod keys;

use chrono::{DateTime, TimeDelta, Utc};
use jsonwebtoken::{
    Algorithm, DecodingKey, EncodingKey, Header, Validation, decode, decode_header, encode,
    errors::ErrorKind,
};
use secrecy::{ExposeSecret, SecretString};

use self::keys::LinkKey;
pub use self::{
    claims::{
        Claims, Features, LinkClaims, MAX_FEATURES, SessionClaims, Subject, TokenId,
        UnsubscribeClaims,
    },
    keys::LinkKeys,
};

/// Characters of a token at most: a cookie has 4,096, and addresses not many more.
const MAX_TOKEN_LENGTH: usize = 3_500;
/// How much earlier than ours the clock of a product may go, where a token is valid only from an instant on.
const CLOCK_SKEW: TimeDelta = TimeDelta::seconds(60);

/// Value of the header `List-Unsubscribe-Post`, and the body of the call by which a mail program unsubscribes (RFC 8058).
pub const ONE_CLICK: &str = "List-Unsubscribe=One-Click";

/// The address that unsubscribes with a token of [`UnsubscribeClaims`], where the pages of the Config Database are at `base`,
/// without a slash at the end.
#[must_use]
pub fn unsubscribe_url(base: &str, token: &SecretString) -> String {
    format!("{base}/unsubscribe/{}", token.expose_secret())
}

/// Why a token is not accepted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TokenError {
    /// It was valid, and is not any more.
    Expired,
    /// It never was; why, for the log.
    Invalid(&'static str),
}

/// Failure to sign a token.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum SignError {
    /// The token would be longer than an address may be.
    #[error(
        "the link would have {0} characters, and {MAX_TOKEN_LENGTH} are allowed; name fewer features"
    )]
    TooLong(usize),
    /// The claims cannot be written, or not be signed.
    #[error("the link cannot be signed: {0}")]
    Unsigned(#[from] jsonwebtoken::errors::Error),
}

impl LinkKeys {
    /// A token with these claims, signed by the first key.
    ///
    /// # Errors
    /// The token would be too long, or cannot be signed.
    pub fn sign(&self, claims: &impl Claims) -> Result<SecretString, SignError> {
        let token = signed(self.signing(), claims)?;
        let length = token.expose_secret().len();
        if length > MAX_TOKEN_LENGTH {
            return Err(SignError::TooLong(length));
        }
        Ok(token)
    }

    /// The claims of a token that one of the keys signed and that is valid at `now`.
    ///
    /// # Errors
    /// The token has expired, or is not one of this purpose.
    pub fn verify<C: Claims>(&self, token: &str, now: DateTime<Utc>) -> Result<C, TokenError> {
        use TokenError::{Expired, Invalid};
        if token.len() > MAX_TOKEN_LENGTH {
            return Err(Invalid("it is too long"));
        }
        let header = decode_header(token).map_err(|_| Invalid("it is not a JSON Web Token"))?;
        let key = header.kid.and_then(|id| self.with_id(&id));
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
}

fn signed(
    key: &LinkKey,
    claims: &impl Claims,
) -> Result<SecretString, jsonwebtoken::errors::Error> {
    let mut header = Header::new(Algorithm::HS256);
    header.kid = Some(key.id.clone());
    let secret = EncodingKey::from_secret(key.secret.expose_secret().as_bytes());
    Ok(encode(&header, claims, &secret)?.into())
}

#[cfg(test)]
mod tests;
