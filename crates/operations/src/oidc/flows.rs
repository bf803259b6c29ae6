//! Sign-ins at an issuer of our own, which says what a real one would not.

use std::sync::{
    Arc, Mutex,
    atomic::{AtomicUsize, Ordering},
};

use axum::{
    Json, Router,
    extract::State,
    routing::{get, post},
};
use chrono::TimeDelta;
use openidconnect::{
    Audience, EndUserEmail, JsonWebKeyId, PrivateSigningKey, StandardClaims, SubjectIdentifier,
    core::CoreEdDsaPrivateSigningKey,
};
use serde_json::json;
use tokio::net::TcpListener;

use super::*;

/// Keys of these tests and of nothing else.
const KEYS: [&str; 2] = [
    "-----BEGIN PRIVATE KEY-----\nMC4CAQAwBQYDK2VwBCIEII00601JeIm2wU7ZKNLTxkOj+qUNAw5lzTh6mRVDxIQX\n-----END PRIVATE KEY-----\n",
    "-----BEGIN PRIVATE KEY-----\nMC4CAQAwBQYDK2VwBCIEIEcLmh62axD3see0Z5SZfSQVHYdOMzIqbh8qlwsM3oId\n-----END PRIVATE KEY-----\n",
];

fn key(number: usize) -> CoreEdDsaPrivateSigningKey {
    let id = JsonWebKeyId::new(format!("key-{number}"));
    CoreEdDsaPrivateSigningKey::from_ed25519_pem(KEYS[number], Some(id)).unwrap()
}

fn now() -> DateTime<Utc> {
    "2026-03-01T09:00:00Z".parse().unwrap()
}

/// What the next token says, and how it is signed.
#[derive(Clone)]
struct Script {
    issuer: String,
    audience: &'static str,
    nonce: Option<String>,
    expires_at: DateTime<Utc>,
    /// The key that signs, and those that are published.
    signs: usize,
    published: Vec<usize>,
    /// Bytes that the answer is longer.
    padding: usize,
}

struct Issuer {
    url: String,
    script: Mutex<Script>,
    reads: AtomicUsize,
}

impl Issuer {
    async fn start() -> Arc<Self> {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let script = Script {
            issuer: url.clone(),
            audience: "punctual",
            nonce: None,
            expires_at: now() + TimeDelta::minutes(5),
            signs: 0,
            published: vec![0],
            padding: 0,
        };
        let issuer = Arc::new(Self {
            url,
            script: Mutex::new(script),
            reads: AtomicUsize::default(),
        });
        let router = Router::new()
            .route("/.well-known/openid-configuration", get(configuration))
            .route("/jwks", get(jwks))
            .route("/token", post(token))
            .with_state(Arc::clone(&issuer));
        tokio::spawn(async move { axum::serve(listener, router).await });
        issuer
    }

    fn oidc(&self) -> Oidc {
        Oidc::new(OidcSettings {
            issuer: self.url.clone(),
            client_id: "punctual".to_owned(),
            client_secret: Some("secret".into()),
            groups_claim: "groups".to_owned(),
            roles: "view=staff,operate=oncall".parse().unwrap(),
            public_url: "http://127.0.0.1:8080".to_owned(),
            http: reqwest::Client::default(),
        })
        .unwrap()
    }

    /// A sign-in whose token is changed so.
    async fn sign_in(
        &self,
        oidc: &Oidc,
        change: impl FnOnce(&mut Script),
    ) -> Result<Person, OidcError> {
        let begun = oidc.begin().await?;
        {
            let mut script = self.script.lock().unwrap();
            *script = Script {
                issuer: self.url.clone(),
                audience: "punctual",
                nonce: Some(begun.nonce.clone()),
                expires_at: now() + TimeDelta::minutes(5),
                signs: 0,
                published: script.published.clone(),
                padding: 0,
            };
            change(&mut script);
        }
        let code = "code".to_owned();
        oidc.finish(code, begun.nonce, begun.verifier, now()).await
    }
}

async fn configuration(State(issuer): State<Arc<Issuer>>) -> Json<Value> {
    issuer.reads.fetch_add(1, Ordering::Relaxed);
    let url = &issuer.url;
    Json(json!({
        "issuer": url,
        "authorization_endpoint": format!("{url}/authorize"),
        "token_endpoint": format!("{url}/token"),
        "jwks_uri": format!("{url}/jwks"),
        "response_types_supported": ["code"],
        "subject_types_supported": ["public"],
        "scopes_supported": ["openid", "email"],
        "id_token_signing_alg_values_supported": ["EdDSA", "none", "HS256"],
    }))
}

async fn jwks(State(issuer): State<Arc<Issuer>>) -> Json<Value> {
    let published = issuer.script.lock().unwrap().published.clone();
    let keys: Vec<_> = published
        .into_iter()
        .map(|number| key(number).as_verification_key())
        .collect();
    Json(json!({ "keys": keys }))
}

async fn token(State(issuer): State<Arc<Issuer>>) -> Json<Value> {
    let script = issuer.script.lock().unwrap().clone();
    let email = EndUserEmail::new("ann@shop.example".to_owned());
    let person = StandardClaims::new(SubjectIdentifier::new("u-17".to_owned()));
    let groups = json!({"groups": ["staff", "oncall"], "padding": "a".repeat(script.padding)});
    let claims = Claims::new(
        IssuerUrl::new(script.issuer).unwrap(),
        vec![Audience::new(script.audience.to_owned())],
        script.expires_at,
        now(),
        person.set_email(Some(email)),
        OtherClaims {
            all: groups.as_object().unwrap().clone(),
        },
    );
    let claims = claims.set_nonce(script.nonce.map(Nonce::new));
    let algorithm = CoreJwsSigningAlgorithm::EdDsa;
    let token = Token::new(claims, &key(script.signs), algorithm, None, None).unwrap();
    Json(json!({
        "access_token": "access",
        "token_type": "Bearer",
        "id_token": token.to_string(),
    }))
}

#[tokio::test]
async fn a_token_that_is_signed_for_this_sign_in_names_the_operator() {
    let issuer = Issuer::start().await;
    let oidc = issuer.oidc();
    let begun = oidc.begin().await.unwrap();
    for part in [
        "code_challenge_method=S256",
        "scope=openid+email&",
        "redirect_uri=http%3A%2F%2F127.0.0.1%3A8080%2Fsign-in%2Foidc",
        &format!("state={}", begun.state),
        &format!("nonce={}", begun.nonce),
    ] {
        assert!(
            format!("{}&", begun.url).contains(part),
            "{part}: {}",
            begun.url
        );
    }
    assert!(!begun.url.contains(&begun.verifier));
    let person = issuer.sign_in(&oidc, |_| ()).await.unwrap();
    let expected = Person {
        name: "ann@shop.example".to_owned(),
        role: Some(Role::Operate),
    };
    assert_eq!(person, expected);
}

#[tokio::test]
async fn what_is_not_signed_for_this_sign_in_is_refused() {
    let issuer = Issuer::start().await;
    let oidc = issuer.oidc();
    let refused = async |change: fn(&mut Script), what: &str| {
        let error = issuer.sign_in(&oidc, change).await.unwrap_err();
        assert!(matches!(error, OidcError::Refused(_)), "{what}: {error}");
    };
    let other = |script: &mut Script| script.nonce = Some("another".to_owned());
    refused(other, "another sign-in's nonce").await;
    refused(|script| script.nonce = None, "no nonce").await;
    refused(|script| script.audience = "another", "for another client").await;
    let other = |script: &mut Script| script.issuer = "https://other.example".to_owned();
    refused(other, "another issuer").await;
    let expired = |script: &mut Script| script.expires_at = now() - TimeDelta::seconds(1);
    refused(expired, "expired").await;
    refused(|script| script.signs = 1, "signed with a key of no one").await;
    assert!(issuer.sign_in(&oidc, |_| ()).await.is_ok(), "it goes on");
    let long = |script: &mut Script| script.padding = MAX_ANSWER_BYTES;
    let error = issuer.sign_in(&oidc, long).await.unwrap_err();
    assert!(error.to_string().contains("longer than"), "{error}");
}

#[tokio::test]
async fn new_keys_of_the_provider_are_read_when_one_is_unknown_at_most_once_a_minute() {
    let issuer = Issuer::start().await;
    let oidc = issuer.oidc();
    assert!(issuer.sign_in(&oidc, |_| ()).await.is_ok());
    issuer.script.lock().unwrap().published = vec![0, 1];
    let with_new_key = |script: &mut Script| script.signs = 1;
    assert!(issuer.sign_in(&oidc, with_new_key).await.is_err());
    assert_eq!(issuer.reads.load(Ordering::Relaxed), 1, "within a minute");
    {
        let mut known = oidc.known.lock().await;
        let known = known.as_mut().unwrap();
        known.at = known.at.checked_sub(RENEW_INTERVAL).unwrap();
    }
    assert!(issuer.sign_in(&oidc, with_new_key).await.is_ok());
    assert_eq!(issuer.reads.load(Ordering::Relaxed), 2);
}

#[tokio::test]
async fn a_provider_that_is_down_is_told_from_one_that_refuses() {
    let issuer = Issuer::start().await;
    let oidc = Oidc {
        issuer: IssuerUrl::new("http://127.0.0.1:1".to_owned()).unwrap(),
        ..issuer.oidc()
    };
    let begin = async || oidc.begin().await.err().unwrap();
    let error = begin().await;
    assert!(matches!(error, OidcError::Unavailable(_)), "{error}");
    // Those who come at the same time neither wait for it one after the other, nor fill the log.
    let error = begin().await;
    assert!(matches!(error, OidcError::StillUnavailable(_)), "{error}");
    {
        let mut failed = oidc.failed.lock().await;
        let (at, _) = failed.as_mut().unwrap();
        *at = at.checked_sub(RETRY_INTERVAL).unwrap();
    }
    let error = begin().await;
    assert!(matches!(error, OidcError::Unavailable(_)), "{error}");
}
