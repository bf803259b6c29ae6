use jsonwebtoken::jwk;
use punctual_domain::{FeatureType, OrganizationId, TenantId};
use serde_json::{Value, json};

use super::{claims::MAX_FEATURES, *};

const SECRET: &str = "0123456789-0123456789-0123456789";

fn keys(text: &str) -> LinkKeys {
    LinkKeys::parse(&SecretString::from(text)).unwrap()
}

fn at(seconds: i64) -> DateTime<Utc> {
    DateTime::from_timestamp(seconds, 0).unwrap()
}

/// A token as a product signs it.
fn token(algorithm: Algorithm, key: Option<&str>, secret: &str, claims: &Value) -> String {
    let mut header = Header::new(algorithm);
    header.kid = key.map(str::to_owned);
    encode(
        &header,
        claims,
        &EncodingKey::from_secret(secret.as_bytes()),
    )
    .unwrap()
}

fn link(claims: &Value) -> Result<LinkClaims, TokenError> {
    let token = token(Algorithm::HS256, Some("k"), SECRET, claims);
    keys(&format!("k:{SECRET}")).verify(&token, at(1_000))
}

fn claims() -> Value {
    json!({"aud": "punctual-preferences", "sub": "ann", "exp": 1_900})
}

fn with(name: &str, value: Value) -> Value {
    let mut claims = claims();
    claims[name] = value;
    claims
}

#[test]
fn a_product_signs_a_link_with_the_shared_key() {
    let found = link(&claims()).unwrap();
    assert_eq!((found.sub.as_str(), found.once), ("ann", false));
    assert_eq!(found.features, Features::All);
    let mut all = with("features", json!(["posts", "news"]));
    all["locale"] = json!("pt-BR");
    all["jti"] = json!("1");
    all["once"] = json!(true);
    all["iss"] = json!("shop");
    all["iat"] = json!(1_000);
    all["nbf"] = json!(1_060);
    let found = link(&all).unwrap();
    assert!(found.once && found.features.contain("news") && !found.features.contain("new"));
}

#[test]
fn what_is_not_a_link_is_refused() {
    let refused = |claims: &Value| match link(claims) {
        Err(TokenError::Invalid(why)) => why,
        other => panic!("{claims}: {other:?}"),
    };
    let documented = "its claims are not as documented";
    for (name, value, why) in [
        (
            "aud",
            json!("punctual-session"),
            "its `aud` is of another purpose",
        ),
        (
            "aud",
            json!("punctual-unsubscribe"),
            "its `aud` is of another purpose",
        ),
        ("aud", Value::Null, documented),
        ("sub", json!("../bob"), documented),
        ("sub", json!(""), documented),
        ("sub", json!(7), documented),
        ("features", json!([]), documented),
        ("features", json!(vec!["f"; MAX_FEATURES + 1]), documented),
        ("features", json!("news"), documented),
        ("features", json!(["a b"]), documented),
        ("feature", json!("news"), documented),
        ("locale", json!("de_DE"), documented),
        ("locale", json!("x"), documented),
        ("jti", json!(""), documented),
        ("exp", json!("tomorrow"), documented),
        ("exp", json!(1_000 + 86_461), "its `exp` is too far ahead"),
        ("exp", json!(i64::MAX), "its `exp` is too far ahead"),
        ("nbf", json!(1_061), "its `nbf` is in the future"),
        ("nbf", json!(i64::MAX), "its `nbf` is in the future"),
    ] {
        assert_eq!(refused(&with(name, value.clone())), why, "{name}: {value}");
    }
    for missing in ["aud", "sub", "exp"] {
        let mut claims = claims();
        claims.as_object_mut().unwrap().remove(missing);
        refused(&claims);
    }
    for past in [1_000, 999, 0, i64::MIN] {
        assert_eq!(
            link(&with("exp", json!(past))).unwrap_err(),
            TokenError::Expired
        );
    }
    assert!(link(&with("exp", json!(1_000 + 86_460))).is_ok());
}

#[test]
fn a_token_does_not_choose_how_it_is_checked() {
    let keys = keys(&format!("k:{SECRET},old:{SECRET}-old"));
    let check = |token: &str| keys.verify::<LinkClaims>(token, at(1_000));
    let good = token(Algorithm::HS256, Some("k"), SECRET, &claims());
    assert!(check(&good).is_ok());
    for algorithm in [Algorithm::HS384, Algorithm::HS512] {
        let other = token(algorithm, Some("k"), SECRET, &claims());
        let why = TokenError::Invalid("its algorithm is not HS256");
        assert_eq!(check(&other).unwrap_err(), why);
    }
    // What another algorithm's name would make of the signature, and a token without one.
    let (_, rest) = good.split_once('.').unwrap();
    let (payload, _) = rest.split_once('.').unwrap();
    for header in [
        json!({"alg": "none", "kid": "k"}),
        json!({"alg": "RS256", "kid": "k"}),
        json!({"alg": "hs256", "kid": "k"}),
        json!({"kid": "k"}),
    ] {
        let header = base64url(header.to_string().as_bytes());
        for token in [format!("{header}.{rest}"), format!("{header}.{payload}.")] {
            assert!(
                matches!(check(&token), Err(TokenError::Invalid(_))),
                "{header}"
            );
        }
    }
    for (key, secret) in [
        (None, SECRET),
        (Some("other"), SECRET),
        (Some("old"), SECRET),
        (Some("k"), "another-secret-of-thirty-two-chars"),
        (Some("k"), ""),
    ] {
        let other = token(Algorithm::HS256, key, secret, &claims());
        assert!(
            matches!(check(&other), Err(TokenError::Invalid(_))),
            "{key:?}"
        );
    }
    // Every change of the text is noticed: one link has one text.
    for at in 0..good.len() {
        let mut changed = good.clone().into_bytes();
        changed[at] = if changed[at] == b'A' { b'B' } else { b'A' };
        let changed = String::from_utf8(changed).unwrap();
        assert!(
            matches!(check(&changed), Err(TokenError::Invalid(_))),
            "{changed}"
        );
    }
    for text in [
        "",
        ".",
        "..",
        "a.b.c",
        &good[1..],
        &format!("{good}="),
        &"a".repeat(10_000),
    ] {
        assert!(matches!(check(text), Err(TokenError::Invalid(_))), "{text}");
    }
    // A key in the header is not looked at.
    let mut header = Header::new(Algorithm::HS256);
    header.kid = Some("k".to_owned());
    header.jwk = Some(jwk::Jwk {
        common: jwk::CommonParameters::default(),
        algorithm: jwk::AlgorithmParameters::OctetKey(jwk::OctetKeyParameters {
            key_type: jwk::OctetKeyType::Octet,
            value: base64url(b"the attacker's own key, which is long enough"),
        }),
    });
    let own = EncodingKey::from_secret(b"the attacker's own key, which is long enough");
    let forged = encode(&header, &claims(), &own).unwrap();
    assert_eq!(
        check(&forged).unwrap_err(),
        TokenError::Invalid("its signature is wrong")
    );
}

#[test]
fn a_key_is_replaced_without_a_link_that_stops_working() {
    let old = keys(&format!("a:{SECRET}"));
    let both = keys(&format!("b:{SECRET}-new,a:{SECRET}"));
    let new = keys(&format!("b:{SECRET}-new"));
    let ann: TenantId = "ann".parse().unwrap();
    let claims = LinkClaims::new(ann, Features::All, 1_900);
    let before = signed(old.signing(), &claims).unwrap();
    let after = signed(both.signing(), &claims).unwrap();
    let check = |keys: &LinkKeys, token: &SecretString| {
        keys.verify::<LinkClaims>(token.expose_secret(), at(1_000))
            .is_ok()
    };
    assert!(check(&both, &before) && check(&both, &after) && check(&new, &after));
    assert!(!check(&new, &before), "the old key is gone");
    assert!(
        !check(&old, &after),
        "a replica that does not know the new key yet"
    );
}

#[test]
fn each_purpose_has_tokens_of_its_own() {
    let keys = keys(&format!("k:{SECRET}"));
    let ann: TenantId = "ann".parse().unwrap();
    let news = FeatureType::new("news").unwrap();
    let link = LinkClaims::new(ann.clone(), Features::Only(vec![news.clone()]), 1_900);
    let session = SessionClaims::of(link.clone());
    let unsubscribe = UnsubscribeClaims::new(ann, news, 1_900);
    let link = signed(keys.signing(), &link).unwrap();
    let session = signed(keys.signing(), &session).unwrap();
    let unsubscribe = signed(keys.signing(), &unsubscribe).unwrap();
    for (token, opens, is_session, unsubscribes) in [
        (link, true, false, false),
        (session, false, true, false),
        (unsubscribe, false, false, true),
    ] {
        let (now, token) = (at(1_000), token.expose_secret());
        assert_eq!(keys.verify::<LinkClaims>(token, now).is_ok(), opens);
        assert_eq!(keys.verify::<SessionClaims>(token, now).is_ok(), is_session);
        assert_eq!(
            keys.verify::<UnsubscribeClaims>(token, now).is_ok(),
            unsubscribes
        );
    }
}

#[test]
fn a_link_to_an_organization_opens_no_tenant_of_the_same_name() {
    let keys = keys(&format!("k:{SECRET}"));
    let acme = OrganizationId::new("ann").unwrap();
    let link = LinkClaims::new(acme, Features::All, 1_900);
    let session = keys.sign(&SessionClaims::of(link.clone())).unwrap();
    let link = keys.sign(&link).unwrap();
    let (link, session) = (link.expose_secret(), session.expose_secret());
    let refused =
        |error: TokenError| error == TokenError::Invalid("its `aud` is of another purpose");
    let now = at(1_000);
    assert!(keys.verify::<LinkClaims<OrganizationId>>(link, now).is_ok());
    assert!(
        keys.verify::<SessionClaims<OrganizationId>>(session, now)
            .is_ok()
    );
    assert!(refused(keys.verify::<LinkClaims>(link, now).unwrap_err()));
    assert!(refused(
        keys.verify::<SessionClaims>(session, now).unwrap_err()
    ));
    let of_tenant = LinkClaims::new(TenantId::new("ann").unwrap(), Features::All, 1_900);
    let of_tenant = keys.sign(&of_tenant).unwrap();
    let other = keys.verify::<LinkClaims<OrganizationId>>(of_tenant.expose_secret(), now);
    assert!(refused(other.unwrap_err()));
}

fn base64url(bytes: &[u8]) -> String {
    const DIGITS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";
    let digits = bytes.chunks(3).flat_map(|three| {
        let number = three
            .iter()
            .fold(0, |number, byte| number << 8 | u32::from(*byte));
        let number = number << (8 * (3 - three.len()));
        (0..=three.len()).map(move |n| DIGITS[(number >> (18 - 6 * n)) as usize & 63] as char)
    });
    digits.collect()
}
