//! What tokens say, by purpose.

use chrono::TimeDelta;
use punctual_domain::{FeatureType, LanguageTag, OrganizationId, TenantId};
use serde::{Deserialize, Serialize, de::DeserializeOwned};

/// Number of features that a link may name at most.
pub const MAX_FEATURES: usize = 20;
const MAX_ID_LENGTH: usize = 128;

/// The claims of a token.
pub trait Claims: Serialize + DeserializeOwned + Clone {
    /// The claim `aud`: which purpose the token is for.
    const AUDIENCE: &'static str;
    /// How long a token is valid at most, from now on.
    const MAX_LIFETIME: TimeDelta;

    /// The claims `exp` and `nbf`, in seconds since 1970.
    fn times(&self) -> (i64, Option<i64>);
}

/// Whose preferences a link opens. Each kind has audiences of its own, so that a link to one never opens the other.
pub trait Subject: Serialize + DeserializeOwned + Clone {
    /// The claim `aud` of its links.
    const LINK: &'static str;
    /// The claim `aud` of its sessions.
    const SESSION: &'static str;
}

impl Subject for TenantId {
    const LINK: &'static str = "punctual-preferences";
    const SESSION: &'static str = "punctual-session";
}

impl Subject for OrganizationId {
    const LINK: &'static str = "punctual-organization-preferences";
    const SESSION: &'static str = "punctual-organization-session";
}

/// The features that a link gives access to. In a token, they are a list, or absent for all.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(
    try_from = "Option<Vec<FeatureType>>",
    into = "Option<Vec<FeatureType>>"
)]
pub enum Features {
    /// All there are.
    #[default]
    All,
    /// These, one at least.
    Only(Vec<FeatureType>),
}

impl Features {
    /// Whether a link with these features gives access to `feature`.
    #[must_use]
    pub fn contain(&self, feature: &str) -> bool {
        match self {
            Self::All => true,
            Self::Only(features) => features.iter().any(|known| known.as_str() == feature),
        }
    }

    /// The feature, where there is one alone.
    #[must_use]
    pub fn only_one(&self) -> Option<&FeatureType> {
        match self {
            Self::Only(features) if features.len() == 1 => features.first(),
            _ => None,
        }
    }

    fn is_all(&self) -> bool {
        matches!(self, Self::All)
    }
}

impl TryFrom<Option<Vec<FeatureType>>> for Features {
    type Error = String;

    fn try_from(features: Option<Vec<FeatureType>>) -> Result<Self, String> {
        match features {
            None => Ok(Self::All),
            Some(features) if (1..=MAX_FEATURES).contains(&features.len()) => {
                Ok(Self::Only(features))
            }
            Some(features) => Err(format!(
                "a link has {} features; name 1 to {MAX_FEATURES} of them, or leave `features` out for all",
                features.len()
            )),
        }
    }
}

impl From<Features> for Option<Vec<FeatureType>> {
    fn from(features: Features) -> Self {
        match features {
            Features::All => None,
            Features::Only(features) => Some(features),
        }
    }
}

/// The id of a token, 1 to 128 bytes.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String")]
pub struct TokenId(String);

impl TokenId {
    fn new() -> Self {
        Self(uuid::Uuid::new_v4().simple().to_string())
    }

    /// Its text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl TryFrom<String> for TokenId {
    type Error = &'static str;

    fn try_from(id: String) -> Result<Self, &'static str> {
        if (1..=MAX_ID_LENGTH).contains(&id.len()) {
            Ok(Self(id))
        } else {
            Err("a `jti` has 1 to 128 bytes")
        }
    }
}

/// Of a link that opens the pages of a tenant or an organization, made by the service or by a product.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct LinkClaims<S = TenantId> {
    /// The purpose: [`Claims::AUDIENCE`].
    pub aud: String,
    /// The tenant, or the organization.
    pub sub: S,
    /// The features that it gives access to.
    #[serde(default, skip_serializing_if = "Features::is_all")]
    pub features: Features,
    /// The language of the pages.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub locale: Option<LanguageTag>,
    /// When it ends, in seconds since 1970.
    pub exp: i64,
    /// The id of the token.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub jti: Option<TokenId>,
    /// Whether it opens a session once only.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub once: bool,
    /// From when on it is valid, in seconds since 1970.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub nbf: Option<i64>,
    /// When it was signed; it decides nothing.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub iat: Option<i64>,
    /// Who signed it; it decides nothing.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub iss: Option<String>,
}

impl<S: Subject> Claims for LinkClaims<S> {
    const AUDIENCE: &'static str = S::LINK;
    const MAX_LIFETIME: TimeDelta = TimeDelta::days(1);

    fn times(&self) -> (i64, Option<i64>) {
        (self.exp, self.nbf)
    }
}

impl<S: Subject> LinkClaims<S> {
    /// Of a link that the service makes, which ends `exp` seconds after 1970.
    #[must_use]
    pub fn new(subject: S, features: Features, exp: i64) -> Self {
        Self {
            aud: Self::AUDIENCE.to_owned(),
            sub: subject,
            features,
            locale: None,
            exp,
            jti: Some(TokenId::new()),
            once: false,
            nbf: None,
            iat: None,
            iss: None,
        }
    }
}

/// Of the cookie of a visitor whom a link has let in.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SessionClaims<S = TenantId> {
    /// The purpose: [`Claims::AUDIENCE`].
    pub aud: String,
    /// The tenant, or the organization.
    pub sub: S,
    /// The features that it gives access to.
    #[serde(default, skip_serializing_if = "Features::is_all")]
    pub features: Features,
    /// The language of the pages.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub locale: Option<LanguageTag>,
    /// When it ends, in seconds since 1970.
    pub exp: i64,
    /// Differs from session to session, also of one link.
    pub jti: TokenId,
}

impl<S: Subject> Claims for SessionClaims<S> {
    const AUDIENCE: &'static str = S::SESSION;
    const MAX_LIFETIME: TimeDelta = LinkClaims::<S>::MAX_LIFETIME;

    fn times(&self) -> (i64, Option<i64>) {
        (self.exp, None)
    }
}

impl<S: Subject> SessionClaims<S> {
    /// Of a session that a link opens. It ends with the link.
    #[must_use]
    pub fn of(link: LinkClaims<S>) -> Self {
        Self {
            aud: Self::AUDIENCE.to_owned(),
            sub: link.sub,
            features: link.features,
            locale: link.locale,
            exp: link.exp,
            jti: TokenId::new(),
        }
    }
}

/// Of a link of an e-mail that switches one feature off.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct UnsubscribeClaims {
    /// The purpose: [`Claims::AUDIENCE`].
    pub aud: String,
    /// The tenant.
    pub sub: TenantId,
    /// The feature that it switches off.
    pub feature: FeatureType,
    /// The language of the page.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub locale: Option<LanguageTag>,
    /// When it ends, in seconds since 1970.
    pub exp: i64,
    /// The id of the token.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub jti: Option<TokenId>,
    /// From when on it is valid, in seconds since 1970.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub nbf: Option<i64>,
    /// When it was signed; it decides nothing.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub iat: Option<i64>,
    /// Who signed it; it decides nothing.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub iss: Option<String>,
}

impl Claims for UnsubscribeClaims {
    const AUDIENCE: &'static str = "punctual-unsubscribe";
    /// E-mails are opened late.
    const MAX_LIFETIME: TimeDelta = TimeDelta::days(2 * 366);

    fn times(&self) -> (i64, Option<i64>) {
        (self.exp, self.nbf)
    }
}

impl UnsubscribeClaims {
    /// How long a link of an e-mail works.
    pub const LIFETIME: TimeDelta = TimeDelta::days(366);

    /// Of a link of an e-mail, which ends `exp` seconds after 1970.
    #[must_use]
    pub fn new(tenant: TenantId, feature: FeatureType, exp: i64) -> Self {
        Self {
            aud: Self::AUDIENCE.to_owned(),
            sub: tenant,
            feature,
            locale: None,
            exp,
            jti: None,
            nbf: None,
            iat: None,
            iss: None,
        }
    }
}
