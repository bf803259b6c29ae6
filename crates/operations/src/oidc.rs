//! Sign-in at an identity provider: the authorization code flow of `OpenID` Connect with PKCE. What the provider says is believed
//! only under its signature.

use std::{error::Error, fmt, pin::Pin, time::Duration};

use chrono::{DateTime, Utc};
use openidconnect::{
    AdditionalClaims, AsyncHttpClient, AuthType, AuthenticationFlow, AuthorizationCode,
    ClaimsVerificationError, Client, ClientId, ClientSecret, CsrfToken, EmptyExtraTokenFields,
    EndpointMaybeSet, EndpointNotSet, EndpointSet, HttpRequest, HttpResponse, IdToken,
    IdTokenClaims, IdTokenFields, IssuerUrl, Nonce, OAuth2TokenResponse, PkceCodeChallenge,
    PkceCodeVerifier, RedirectUrl, Scope, SignatureVerificationError, StandardErrorResponse,
    StandardTokenResponse, TokenResponse, UserInfoClaims,
    core::{
        CoreAuthDisplay, CoreAuthPrompt, CoreClientAuthMethod, CoreErrorResponseType,
        CoreGenderClaim, CoreJsonWebKey, CoreJweContentEncryptionAlgorithm,
        CoreJwsSigningAlgorithm, CoreProviderMetadata, CoreResponseType, CoreRevocableToken,
        CoreRevocationErrorResponse, CoreTokenIntrospectionResponse, CoreTokenType,
    },
};
use punctual_application::{Role, ports::error_chain};
use punctual_domain::visible;
use secrecy::{ExposeSecret, SecretString};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};
use tokio::{sync::Mutex, time::Instant};

use crate::roles::RoleMap;

/// How long the provider may take for an answer.
const TIMEOUT: Duration = Duration::from_secs(10);
/// The most bytes of an answer.
const MAX_ANSWER_BYTES: usize = 1024 * 1024;
/// How long what is known of the provider holds.
const MAX_AGE: Duration = Duration::from_hours(1);
/// How often its keys are read anew at most, where one is unknown.
const RENEW_INTERVAL: Duration = Duration::from_mins(1);
/// How long a failure of the provider holds: meanwhile it is not asked, and sign-ins fail at once.
const RETRY_INTERVAL: Duration = Duration::from_secs(5);
/// Characters of a name at most.
const MAX_NAME: usize = 256;
/// What a provider may sign with: keys whose other half it publishes.
const ALGORITHMS: [CoreJwsSigningAlgorithm; 9] = [
    CoreJwsSigningAlgorithm::RsaSsaPkcs1V15Sha256,
    CoreJwsSigningAlgorithm::RsaSsaPkcs1V15Sha384,
    CoreJwsSigningAlgorithm::RsaSsaPkcs1V15Sha512,
    CoreJwsSigningAlgorithm::RsaSsaPssSha256,
    CoreJwsSigningAlgorithm::RsaSsaPssSha384,
    CoreJwsSigningAlgorithm::RsaSsaPssSha512,
    CoreJwsSigningAlgorithm::EcdsaP256Sha256,
    CoreJwsSigningAlgorithm::EcdsaP384Sha384,
    CoreJwsSigningAlgorithm::EdDsa,
];

/// An identity provider, and what Punctual is there.
#[derive(Debug, Clone)]
pub struct OidcSettings {
    /// Its address, exactly as it writes it, such as `https://login.example`.
    pub issuer: String,
    /// The id under which Punctual is registered.
    pub client_id: String,
    /// The secret that belongs to it; `None`: a public client, which PKCE alone protects.
    pub client_secret: Option<SecretString>,
    /// The claim that lists the groups of a person.
    pub groups_claim: String,
    /// The roles of the groups.
    pub roles: RoleMap,
    /// Address at which browsers reach the pages: people come back to `/sign-in/oidc` below it.
    pub public_url: String,
    /// The client that calls it. It must not follow redirects.
    pub http: reqwest::Client,
}

/// What is wrong with a setting.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct InvalidOidc {
    /// Name of the field of [`OidcSettings`].
    pub field: &'static str,
    /// What is wrong with it, and what to do.
    pub problem: String,
}

impl fmt::Display for InvalidOidc {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", self.field, self.problem)
    }
}

impl Error for InvalidOidc {}

/// An identity provider at which operators sign in. It is asked when the first of them does.
pub struct Oidc {
    issuer: IssuerUrl,
    client_id: ClientId,
    client_secret: Option<SecretString>,
    groups_claim: String,
    roles: RoleMap,
    redirect: RedirectUrl,
    http: Http,
    known: Mutex<Option<Known>>,
    /// When the provider could last not be read, and why. It is locked after `known` only.
    failed: Mutex<Option<(Instant, String)>>,
}

/// Without the secret.
impl fmt::Debug for Oidc {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Oidc")
            .field("issuer", &self.issuer.as_str())
            .field("client_id", &self.client_id.as_str())
            .finish_non_exhaustive()
    }
}

/// What the provider has said of itself, and when.
struct Known {
    metadata: CoreProviderMetadata,
    at: Instant,
}

/// A sign-in that begins: the address at the provider, and what has to come back.
pub(crate) struct Begun {
    pub(crate) url: String,
    pub(crate) state: String,
    pub(crate) nonce: String,
    pub(crate) verifier: String,
}

/// Who has signed in.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Person {
    pub(crate) name: String,
    /// `None`: none of their groups has one.
    pub(crate) role: Option<Role>,
}

/// Why a sign-in did not come to its end.
#[derive(Debug)]
pub(crate) enum OidcError {
    /// The provider cannot be asked.
    Unavailable(String),
    /// It could not be asked a moment ago.
    StillUnavailable(String),
    /// What it says cannot be believed, or it has refused.
    Refused(String),
}

impl fmt::Display for OidcError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Unavailable(why) | Self::StillUnavailable(why) | Self::Refused(why) => {
                f.write_str(why)
            }
        }
    }
}

fn refused(error: &(dyn Error + 'static)) -> OidcError {
    OidcError::Refused(error_chain(error))
}

/// All claims beside those that the standard names.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
struct OtherClaims {
    #[serde(flatten)]
    all: Map<String, Value>,
}

impl AdditionalClaims for OtherClaims {}

type Fields = IdTokenFields<
    OtherClaims,
    EmptyExtraTokenFields,
    CoreGenderClaim,
    CoreJweContentEncryptionAlgorithm,
    CoreJwsSigningAlgorithm,
>;

type Token = IdToken<
    OtherClaims,
    CoreGenderClaim,
    CoreJweContentEncryptionAlgorithm,
    CoreJwsSigningAlgorithm,
>;

type Claims = IdTokenClaims<OtherClaims, CoreGenderClaim>;

/// A client of a provider whose metadata have been read.
type ProviderClient = Client<
    OtherClaims,
    CoreAuthDisplay,
    CoreGenderClaim,
    CoreJweContentEncryptionAlgorithm,
    CoreJsonWebKey,
    CoreAuthPrompt,
    StandardErrorResponse<CoreErrorResponseType>,
    StandardTokenResponse<Fields, CoreTokenType>,
    CoreTokenIntrospectionResponse,
    CoreRevocableToken,
    CoreRevocationErrorResponse,
    EndpointSet,
    EndpointNotSet,
    EndpointNotSet,
    EndpointNotSet,
    EndpointMaybeSet,
    EndpointMaybeSet,
>;

impl Oidc {
    /// A provider with these settings. It is not asked yet.
    ///
    /// # Errors
    /// A field that cannot be used.
    pub fn new(settings: OidcSettings) -> Result<Self, InvalidOidc> {
        let invalid = |field, problem: &str| InvalidOidc {
            field,
            problem: problem.to_owned(),
        };
        let not_a_url = "is not an address; expected one such as `https://login.example`";
        let issuer = IssuerUrl::new(settings.issuer).map_err(|_| invalid("issuer", not_a_url))?;
        let is_here = matches!(
            issuer.url().host_str(),
            Some("localhost" | "127.0.0.1" | "[::1]")
        );
        if issuer.url().scheme() != "https" && !is_here {
            let problem = "is not encrypted; expected an address that begins with `https://`, unless it leads to this machine";
            return Err(invalid("issuer", problem));
        }
        for (field, text) in [
            ("client_id", &settings.client_id),
            ("groups_claim", &settings.groups_claim),
        ] {
            if text.trim().is_empty() {
                return Err(invalid(field, "is blank"));
            }
        }
        let base = settings.public_url.trim_end_matches('/');
        let redirect = RedirectUrl::new(format!("{base}/sign-in/oidc"));
        Ok(Self {
            issuer,
            client_id: ClientId::new(settings.client_id),
            client_secret: settings.client_secret,
            groups_claim: settings.groups_claim,
            roles: settings.roles,
            redirect: redirect.map_err(|_| invalid("public_url", not_a_url))?,
            http: Http(settings.http),
            known: Mutex::default(),
            failed: Mutex::default(),
        })
    }

    /// What is known of the provider, read anew where that is an hour old, or, to `renew` it, a minute. While it is read, others wait:
    /// a failure is theirs as well, or they would wait for one after the other.
    async fn metadata(&self, renew: bool) -> Result<CoreProviderMetadata, OidcError> {
        let mut known = self.known.lock().await;
        let max_age = if renew { RENEW_INTERVAL } else { MAX_AGE };
        if let Some(known) = known.as_ref()
            && known.at.elapsed() < max_age
        {
            return Ok(known.metadata.clone());
        }
        let mut failed = self.failed.lock().await;
        if let Some((at, why)) = failed.as_ref()
            && at.elapsed() < RETRY_INTERVAL
        {
            return Err(OidcError::StillUnavailable(why.clone()));
        }
        let read = CoreProviderMetadata::discover_async(self.issuer.clone(), &self.http).await;
        let metadata = read.map_err(|error| {
            let why = error_chain(&error);
            *failed = Some((Instant::now(), why.clone()));
            OidcError::Unavailable(why)
        })?;
        *known = Some(Known {
            metadata: metadata.clone(),
            at: Instant::now(),
        });
        Ok(metadata)
    }

    fn client(&self, metadata: CoreProviderMetadata) -> ProviderClient {
        let methods = metadata.token_endpoint_auth_methods_supported();
        let by_post = methods.is_some_and(|methods| {
            methods.contains(&CoreClientAuthMethod::ClientSecretPost)
                && !methods.contains(&CoreClientAuthMethod::ClientSecretBasic)
        });
        let secret = self.client_secret.as_ref();
        let secret = secret.map(|secret| ClientSecret::new(secret.expose_secret().to_owned()));
        let client: ProviderClient =
            Client::from_provider_metadata(metadata, self.client_id.clone(), secret);
        let client = client.set_redirect_uri(self.redirect.clone());
        if by_post {
            client.set_auth_type(AuthType::RequestBody)
        } else {
            client
        }
    }

    /// Begins a sign-in.
    pub(crate) async fn begin(&self) -> Result<Begun, OidcError> {
        let metadata = self.metadata(false).await?;
        let wanted = ["email", "profile", self.groups_claim.as_str()];
        // A scope for the groups is asked for only where the provider has one.
        let scopes: Vec<Scope> = wanted
            .into_iter()
            .map(|scope| Scope::new(scope.to_owned()))
            .filter(|scope| {
                let supported = metadata.scopes_supported();
                match supported {
                    Some(supported) => supported.contains(scope),
                    None => scope.as_str() != self.groups_claim,
                }
            })
            .collect();
        let client = self.client(metadata);
        let (challenge, verifier) = PkceCodeChallenge::new_random_sha256();
        let flow = AuthenticationFlow::<CoreResponseType>::AuthorizationCode;
        let (url, state, nonce) = client
            .authorize_url(flow, CsrfToken::new_random, Nonce::new_random)
            .add_scopes(scopes)
            .set_pkce_challenge(challenge)
            .url();
        Ok(Begun {
            url: url.to_string(),
            state: state.secret().clone(),
            nonce: nonce.secret().clone(),
            verifier: verifier.secret().clone(),
        })
    }

    /// Ends a sign-in with the code that the provider has sent the browser back with.
    pub(crate) async fn finish(
        &self,
        code: String,
        nonce: String,
        verifier: String,
        now: DateTime<Utc>,
    ) -> Result<Person, OidcError> {
        let metadata = self.metadata(false).await?;
        let has_user_info = metadata.userinfo_endpoint().is_some();
        let client = self.client(metadata);
        let request = client.exchange_code(AuthorizationCode::new(code));
        let request = request.map_err(|error| refused(&error))?;
        let request = request.set_pkce_verifier(PkceCodeVerifier::new(verifier));
        let answer = request.request_async(&self.http).await;
        let answer = answer.map_err(|error| match error {
            openidconnect::RequestTokenError::Request(error) => {
                OidcError::Unavailable(error_chain(&error))
            }
            openidconnect::RequestTokenError::ServerResponse(answer) => {
                OidcError::Refused(format!("the provider refused the code: {answer}"))
            }
            error => refused(&error),
        })?;
        let token = answer.id_token();
        let token = token.ok_or_else(|| OidcError::Refused("the answer has no ID token".into()))?;
        let nonce = Nonce::new(nonce);
        let claims = match verified(&client, token, &nonce, now) {
            // The provider may have new keys.
            Err(ClaimsVerificationError::SignatureVerification(
                SignatureVerificationError::NoMatchingKey,
            )) => {
                let renewed = self.client(self.metadata(true).await?);
                verified(&renewed, token, &nonce, now)
            }
            first => first,
        };
        let claims = claims.map_err(|error| refused(&error))?;
        let mut person = self.person(&claims);
        let has_groups = claims
            .additional_claims()
            .all
            .contains_key(&self.groups_claim);
        if !has_groups && has_user_info {
            // Some providers tell groups there only.
            let subject = Some(claims.subject().clone());
            let asked = client.user_info(answer.access_token().clone(), subject);
            let asked = asked.map_err(|error| refused(&error))?;
            let info: Result<UserInfoClaims<OtherClaims, CoreGenderClaim>, _> =
                asked.request_async(&self.http).await;
            let info = info.map_err(|error| refused(&error))?;
            let groups = info.additional_claims().all.get(&self.groups_claim);
            person.role = self.roles.role_of(&names_in(groups));
            if let (true, Some(name)) = (
                person.name == claims.subject().as_str(),
                info.email()
                    .filter(|_| info.email_verified() != Some(false)),
            ) {
                person.name = shown(name.as_str());
            }
        }
        Ok(person)
    }

    /// Who a token names: by the e-mail address, unless the provider says that it is not verified, else by user name or subject.
    fn person(&self, claims: &Claims) -> Person {
        let email = claims
            .email()
            .filter(|_| claims.email_verified() != Some(false));
        let email = email.map(|email| email.as_str());
        let user = claims.preferred_username().map(|name| name.as_str());
        let mut names = [email, user].into_iter().flatten();
        let name = names.find(|name| !name.trim().is_empty());
        let name = name.unwrap_or(claims.subject().as_str());
        let groups = claims.additional_claims().all.get(&self.groups_claim);
        Person {
            name: shown(name),
            role: self.roles.role_of(&names_in(groups)),
        }
    }
}

/// The claims of a token that the provider has signed for us, for this sign-in, and that has not expired.
fn verified(
    client: &ProviderClient,
    token: &Token,
    nonce: &Nonce,
    now: DateTime<Utc>,
) -> Result<Claims, ClaimsVerificationError> {
    let verifier = client
        .id_token_verifier()
        .set_allowed_algs(ALGORITHMS)
        .set_time_fn(move || now);
    token.claims(&verifier, nonce).cloned()
}

/// A name, or another word of the provider, as lists and the log show it.
pub(crate) fn shown(name: &str) -> String {
    visible(name).chars().take(MAX_NAME).collect()
}

/// The names of a claim: a list of them, or one.
fn names_in(claim: Option<&Value>) -> Vec<String> {
    match claim {
        Some(Value::String(one)) => vec![one.clone()],
        Some(Value::Array(several)) => {
            let names = several.iter().filter_map(Value::as_str);
            names.map(str::to_owned).collect()
        }
        _ => Vec::new(),
    }
}

/// Calls the provider, within a time and a size.
struct Http(reqwest::Client);

/// Why a call of the provider failed.
#[derive(Debug)]
enum HttpError {
    Failed(reqwest::Error),
    TooLong,
}

impl fmt::Display for HttpError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Failed(_) => f.write_str("the identity provider does not answer"),
            Self::TooLong => write!(
                f,
                "the answer of the identity provider is longer than {MAX_ANSWER_BYTES} bytes"
            ),
        }
    }
}

impl Error for HttpError {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        match self {
            Self::Failed(error) => Some(error),
            Self::TooLong => None,
        }
    }
}

/// Its URL may hold what is secret.
impl From<reqwest::Error> for HttpError {
    fn from(error: reqwest::Error) -> Self {
        Self::Failed(error.without_url())
    }
}

impl<'c> AsyncHttpClient<'c> for Http {
    type Error = HttpError;
    type Future = Pin<Box<dyn Future<Output = Result<HttpResponse, HttpError>> + Send + 'c>>;

    fn call(&'c self, request: HttpRequest) -> Self::Future {
        Box::pin(async move {
            let mut request = reqwest::Request::try_from(request)?;
            *request.timeout_mut() = Some(TIMEOUT);
            let mut answer = self.0.execute(request).await?;
            let (status, headers) = (answer.status(), answer.headers().clone());
            let mut body = Vec::new();
            while let Some(part) = answer.chunk().await? {
                if body.len() + part.len() > MAX_ANSWER_BYTES {
                    return Err(HttpError::TooLong);
                }
                body.extend_from_slice(&part);
            }
            let mut response = HttpResponse::new(body);
            *response.status_mut() = status;
            *response.headers_mut() = headers;
            Ok(response)
        })
    }
}

#[cfg(test)]
mod flows;

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn settings(issuer: &str) -> OidcSettings {
        OidcSettings {
            issuer: issuer.to_owned(),
            client_id: "punctual".to_owned(),
            client_secret: Some("canary-secret".into()),
            groups_claim: "groups".to_owned(),
            roles: "view=staff".parse().unwrap(),
            public_url: "https://punctual.example/ops/".to_owned(),
            http: reqwest::Client::default(),
        }
    }

    #[test]
    fn settings_that_cannot_be_used_are_named_and_the_secret_is_not_shown() {
        for (issuer, problem) in [
            ("login.example", "is not an address"),
            ("http://login.example", "is not encrypted"),
            ("", "is not an address"),
        ] {
            let invalid = Oidc::new(settings(issuer)).unwrap_err();
            assert_eq!(invalid.field, "issuer");
            assert!(invalid.problem.contains(problem), "{issuer}: {invalid}");
        }
        let blank = OidcSettings {
            client_id: " ".to_owned(),
            ..settings("https://login.example")
        };
        assert_eq!(Oidc::new(blank).unwrap_err().field, "client_id");
        for usable in ["https://login.example/realms/shop", "http://127.0.0.1:9000"] {
            let oidc = Oidc::new(settings(usable)).unwrap();
            assert!(!format!("{oidc:?}").contains("canary"));
            assert_eq!(
                oidc.redirect.as_str(),
                "https://punctual.example/ops/sign-in/oidc"
            );
        }
    }

    #[test]
    fn groups_are_a_list_or_one_and_anything_else_is_none() {
        assert_eq!(names_in(Some(&json!(["a", 1, "b"]))), ["a", "b"]);
        assert_eq!(names_in(Some(&json!("a"))), ["a"]);
        for other in [json!({"a": true}), json!(7), json!(null)] {
            assert!(names_in(Some(&other)).is_empty());
        }
        assert!(names_in(None).is_empty());
        assert!(!shown("a\u{1b}[31mb").contains('\u{1b}'));
    }
}
