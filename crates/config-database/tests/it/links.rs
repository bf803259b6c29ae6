//! Links that let a product's users in: made by the API or signed by the product, opened, and what is refused.

use jsonwebtoken::{Algorithm, EncodingKey, Header, encode};
use punctual_config_database::{EmbeddingSettings, NewKey, Scope};
use punctual_domain::TenantId;
use reqwest::{Method, Response, StatusCode};
use secrecy::ExposeSecret;
use serde_json::{Value, json};

use crate::{
    page::{Visitor, address, hidden},
    server::{Kind, Running, key, on_both_databases_and_below_a_path, start_embeddable, start_in},
};

on_both_databases_and_below_a_path! {
    a_link_opens_the_pages_of_its_tenant_and_no_others
    a_link_to_some_features_opens_these
    a_link_opens_again_until_it_ends_unless_it_was_made_for_once
    a_session_of_a_link_is_neither_the_link_nor_another_session
    links_work_on_every_replica_and_after_a_restart
    a_form_of_a_products_own_uses_a_link_as_a_key
    who_may_change_a_tenants_preferences_makes_links
}

const ADMIN: &str = "admin-key";
const SECRET: &str = "the-shared-key-of-more-than-32-characters";
const DAILY: &str = "tenants/a/configs/feature_preferences";

fn now() -> i64 {
    chrono::Utc::now().timestamp()
}

/// A token as a product signs it.
fn sign(key: &str, secret: &str, claims: &Value) -> String {
    let mut header = Header::new(Algorithm::HS256);
    header.kid = Some(key.to_owned());
    encode(
        &header,
        claims,
        &EncodingKey::from_secret(secret.as_bytes()),
    )
    .unwrap()
}

fn claims(more: Value) -> Value {
    let mut claims = json!({"aud": "punctual-preferences", "sub": "a", "exp": now() + 600});
    let more = more.as_object().unwrap().clone();
    claims.as_object_mut().unwrap().extend(more);
    claims
}

/// Calls the API with a key, or a token in place of one.
pub async fn call(
    server: &Running,
    bearer: &str,
    method: Method,
    path: &str,
    body: &Value,
) -> Response {
    let url = format!("{}/api/v1/{path}", server.url);
    let call = server.http.request(method, url).bearer_auth(bearer);
    let call = if body.is_null() {
        call
    } else {
        call.body(body.to_string())
    };
    call.send().await.unwrap()
}

async fn started(kind: Kind) -> Running {
    let server = start_in(kind.place().await, Some(ADMIN)).await;
    store(&server).await;
    server
}

async fn store(server: &Running) {
    let daily = json!({"enabled": true, "frequency": "daily", "preferred_time": "09:00"});
    for tenant in ["a", "b"] {
        let path = format!("tenants/{tenant}/configs/feature_preferences");
        let body = json!({"config_value": {"f": daily, "g": daily}});
        let stored = call(server, ADMIN, Method::PUT, &path, &body).await;
        assert_eq!(stored.status(), 200);
    }
}

async fn link(server: &Running, wanted: Value) -> Value {
    let answer = call(server, ADMIN, Method::POST, "tenants/a/links", &wanted).await;
    assert_eq!(answer.status(), 201);
    answer.json().await.unwrap()
}

fn text(value: &Value, field: &str) -> String {
    value[field].as_str().unwrap().to_owned()
}

async fn open(server: &Running, token: &str) -> Response {
    Visitor::new(server).get(&format!("/open/{token}")).await
}

/// The visitor whom a link lets in.
pub async fn let_in(server: &Running, token: &str) -> Visitor {
    let opened = open(server, token).await;
    assert_eq!(opened.status(), 303, "{:?}", opened.text().await);
    let cookie = opened.headers()["set-cookie"].to_str().unwrap();
    let mut visitor = Visitor::new(server);
    visitor.cookie = Some(cookie.split(';').next().unwrap().to_owned());
    visitor
}

async fn a_link_opens_the_pages_of_its_tenant_and_no_others(kind: Kind) {
    let server = started(kind).await;
    let made = link(&server, Value::Null).await;
    let token = text(&made, "token");
    assert_eq!(text(&made, "url"), format!("{}/open/{token}", server.url));
    let opened = open(&server, &token).await;
    let headers = opened.headers();
    assert_eq!(opened.status(), 303);
    assert_eq!(headers["location"], address(&server, "/tenants/a"));
    assert_eq!(headers["referrer-policy"], "no-referrer");
    assert_eq!(headers["cache-control"], "no-store");
    let cookie = headers["set-cookie"].to_str().unwrap();
    assert!(!cookie.contains(&token), "the cookie is not the token");
    let path = format!("; Path={}; HttpOnly;", address(&server, "/tenants/a"));
    assert!(
        cookie.contains(&path) && cookie.ends_with("; SameSite=Lax"),
        "{cookie}"
    );
    let age = cookie.split("Max-Age=").nth(1).unwrap().split(';').next();
    assert!(
        (890..=900).contains(&age.unwrap().parse().unwrap()),
        "{cookie}"
    );

    let visitor = let_in(&server, &token).await;
    for (path, status) in [
        ("/tenants/a", 200),
        ("/tenants/a/features/f", 200),
        ("/tenants/a/history", 200),
        ("/tenants/b", 303),
        ("/tenants/b/features/f", 303),
        ("/tenants/b/history", 303),
        ("/operators", 303),
        ("/operators/export", 303),
        ("/operators/quarantine", 303),
        ("/", 303),
        ("/api/v1/tenants/a/configs/feature_preferences", 401),
    ] {
        assert_eq!(visitor.status(path).await, status, "{path}");
    }
    let page = visitor.text("/tenants/a/features/f").await;
    assert!(
        !page.contains("Sign out") && !page.contains(&token),
        "{page}"
    );
    let csrf = hidden(&page, "csrf");
    let (path, version) = ("/tenants/a/features/f", hidden(&page, "version"));
    let form = [
        ("action", "save"),
        ("version", version.as_str()),
        ("enabled", "true"),
        ("frequency", "daily"),
        ("time", "10:00"),
        ("zone", "UTC"),
    ];
    assert_eq!(
        visitor.post(path, &form).await.status(),
        403,
        "without the token"
    );
    let with_token = [&form[..], &[("csrf", csrf.as_str())]].concat();
    assert_eq!(visitor.post(path, &with_token).await.status(), 303);
    assert!(
        visitor
            .text("/tenants/a/history")
            .await
            .contains("By a (link)")
    );
}

async fn a_link_to_some_features_opens_these(kind: Kind) {
    let server = started(kind).await;
    let one = link(&server, json!({"features": ["f"], "locale": "pt-BR"})).await;
    let opened = open(&server, &text(&one, "token")).await;
    let to = address(&server, "/tenants/a/features/f");
    assert_eq!(opened.headers()["location"], to, "to the feature");
    let visitor = let_in(&server, &text(&one, "token")).await;
    let list = visitor.text("/tenants/a").await;
    assert!(
        list.contains("/features/f\"") && !list.contains("/features/g\""),
        "{list}"
    );
    assert!(!list.contains("/history"), "{list}");
    for (path, status) in [
        ("/tenants/a/features/f", 200),
        ("/tenants/a/features/f/arrival?change=1", 200),
        ("/tenants/a/features/g", 403),
        ("/tenants/a/features/g/arrival?change=1", 403),
        ("/tenants/a/features/%67", 403),
        ("/tenants/a/history", 403),
    ] {
        assert_eq!(visitor.status(path).await, status, "{path}");
    }
    let csrf = hidden(&visitor.text("/tenants/a/features/f").await, "csrf");
    let before = call(&server, ADMIN, Method::GET, DAILY, &Value::Null).await;
    let before: Value = before.json().await.unwrap();
    for (path, form) in [
        (
            "/tenants/a/features/g",
            [("action", "save"), ("frequency", "weekly")],
        ),
        (
            "/tenants/a/features/g/runs",
            [("frequency", "weekly"), ("time", "09:00")],
        ),
        ("/tenants/a/history", [("version", "1"), ("x", "y")]),
        ("/tenants/a", [("action", "save"), ("feature", "g")]),
    ] {
        let form = [&form[..], &[("csrf", csrf.as_str())]].concat();
        let status = visitor.post(path, &form).await.status();
        assert!([403, 405].contains(&status.as_u16()), "{path}: {status}");
    }
    let after = call(&server, ADMIN, Method::GET, DAILY, &Value::Null).await;
    assert_eq!(after.json::<Value>().await.unwrap(), before);
    for (wanted, problem) in [
        (json!({"features": []}), "name 1 to 20"),
        (json!({"features": ["a b"]}), "feature"),
        (json!({"feature": "f"}), "unknown field"),
        (json!({"locale": "deutsch!"}), "language tag"),
        (json!({"expires_in_seconds": 0}), "use 1 to 86400"),
        (json!({"expires_in_seconds": 86_401}), "use 1 to 86400"),
        (json!({"expires_in_seconds": -1}), "invalid body"),
        (
            json!({"features": vec!["x".repeat(128); 20]}),
            "fewer features",
        ),
    ] {
        let refused = call(&server, ADMIN, Method::POST, "tenants/a/links", &wanted).await;
        assert_eq!(refused.status(), 400, "{wanted}");
        let refused = refused.text().await.unwrap();
        assert!(refused.contains(problem), "{wanted}: {refused}");
    }
}

async fn a_link_opens_again_until_it_ends_unless_it_was_made_for_once(kind: Kind) {
    let server = start_embeddable(kind.place().await, Some(ADMIN), keys(&["k"])).await;
    store(&server).await;
    let again = text(&link(&server, json!({})).await, "token");
    for _ in 0..3 {
        assert_eq!(open(&server, &again).await.status(), 303);
    }
    let once = text(&link(&server, json!({"once": true})).await, "token");
    // Who only looks uses nothing up.
    let url = format!("{}/open/{once}", server.url);
    let visitor = Visitor::new(&server);
    let head = visitor.http.head(&url).send().await.unwrap();
    let prefetch = visitor
        .http
        .get(&url)
        .header("sec-purpose", "prefetch;prerender");
    for looked in [head, prefetch.send().await.unwrap()] {
        assert_eq!(looked.status(), 303);
        assert!(!looked.headers().contains_key("set-cookie"));
    }
    assert_eq!(open(&server, &once).await.status(), 303);
    let used = open(&server, &once).await;
    assert_eq!(used.status(), 410);
    assert!(used.text().await.unwrap().contains("has been used"));
    // Two tenants' ids do not get into each other's way.
    for tenant in ["a", "b"] {
        let claims = claims(json!({"sub": tenant, "jti": "1", "once": true}));
        let token = sign("k", SECRET, &claims);
        assert_eq!(open(&server, &token).await.status(), 303, "{tenant}");
        assert_eq!(open(&server, &token).await.status(), 410, "{tenant}");
    }
    let without_id = sign("k", SECRET, &claims(json!({"once": true})));
    assert_eq!(open(&server, &without_id).await.status(), 401);
    let past = sign("k", SECRET, &claims(json!({"exp": now() - 1})));
    let past = open(&server, &past).await;
    assert_eq!(past.status(), 410);
    assert!(past.text().await.unwrap().contains("has expired"));
    let long = sign("k", SECRET, &claims(json!({"exp": now() + 100_000})));
    assert_eq!(open(&server, &long).await.status(), 401);
}

async fn a_session_of_a_link_is_neither_the_link_nor_another_session(kind: Kind) {
    let server = started(kind).await;
    let token = text(&link(&server, json!({})).await, "token");
    let (first, second) = (let_in(&server, &token).await, let_in(&server, &token).await);
    assert_ne!(first.cookie, second.cookie, "drawn anew");
    let csrf = hidden(&second.text("/tenants/a/features/f").await, "csrf");
    let form = [("action", "save"), ("csrf", csrf.as_str())];
    let path = "/tenants/a/features/f";
    assert_eq!(
        first.post(path, &form).await.status(),
        403,
        "another session's"
    );
    // The link as a cookie, the cookie as a link or as a key, and either as a session of a key.
    let session = first.cookie.clone().unwrap();
    let session = session.strip_prefix("punctual_link=").unwrap().to_owned();
    assert_eq!(open(&server, &session).await.status(), 401);
    let as_key = call(&server, &session, Method::GET, DAILY, &Value::Null).await;
    assert_eq!(as_key.status(), 401);
    for cookie in [
        format!("punctual_link={token}"),
        format!("punctual_session={token}"),
        format!("punctual_session={session}"),
        "punctual_link=".to_owned(),
        "punctual_link=a.b.c".to_owned(),
    ] {
        let visitor = Visitor {
            cookie: Some(cookie.clone()),
            ..Visitor::new(&server)
        };
        assert_eq!(visitor.status("/tenants/a").await, 303, "{cookie}");
    }
    let signed_in = [("key", token.as_str())];
    assert_eq!(first.post("/sign-in", &signed_in).await.status(), 401);
    // A visitor who is signed in with a key stays so beside a link for another tenant.
    let mut operator = Visitor::signed_in(&server, ADMIN).await;
    let both = format!("{}; punctual_link={session}", operator.cookie.unwrap());
    operator.cookie = Some(both);
    assert_eq!(operator.status("/tenants/b").await, 200);
    assert_eq!(operator.status("/operators").await, 200);
    assert_eq!(operator.status("/tenants/a").await, 200);
}

fn keys(ids: &[&str]) -> EmbeddingSettings {
    let keys: Vec<String> = ids.iter().map(|id| format!("{id}:{SECRET}")).collect();
    EmbeddingSettings {
        link_keys: Some(keys.join(",").into()),
        ..EmbeddingSettings::default()
    }
}

async fn links_work_on_every_replica_and_after_a_restart(kind: Kind) {
    let server = started(kind).await;
    let token = text(&link(&server, json!({})).await, "token");
    let visitor = let_in(&server, &token).await;
    let restarted = |server: Running, settings| async move {
        start_embeddable(server.stop().await, Some(ADMIN), settings).await
    };
    let moved = |visitor: &Visitor, server: &Running| Visitor {
        cookie: visitor.cookie.clone(),
        ..Visitor::new(server)
    };
    // With the key of the store.
    let server = restarted(server, EmbeddingSettings::default()).await;
    assert_eq!(open(&server, &token).await.status(), 303);
    assert_eq!(moved(&visitor, &server).status("/tenants/a").await, 200);
    // Who configures keys decides which ones are valid.
    let server = restarted(server, keys(&["old"])).await;
    assert_eq!(open(&server, &token).await.status(), 401);
    assert_eq!(moved(&visitor, &server).status("/tenants/a").await, 303);
    let token = text(&link(&server, json!({})).await, "token");
    let visitor = let_in(&server, &token).await;
    // Both keys are accepted, the first one signs.
    let server = restarted(server, keys(&["new", "old"])).await;
    assert_eq!(open(&server, &token).await.status(), 303);
    assert_eq!(moved(&visitor, &server).status("/tenants/a").await, 200);
    let newer = text(&link(&server, json!({})).await, "token");
    // Without the old key, its links and their sessions end.
    let server = restarted(server, keys(&["new"])).await;
    assert_eq!(open(&server, &newer).await.status(), 303);
    assert_eq!(open(&server, &token).await.status(), 401);
    assert_eq!(moved(&visitor, &server).status("/tenants/a").await, 303);
}

async fn a_form_of_a_products_own_uses_a_link_as_a_key(kind: Kind) {
    let server = started(kind).await;
    let all = text(&link(&server, json!({})).await, "token");
    let one = text(&link(&server, json!({"features": ["f"]})).await, "token");
    let read = call(&server, &all, Method::GET, DAILY, &Value::Null).await;
    let read: Value = read.json().await.unwrap();
    assert!(read["config_value"]["g"].is_object());
    let read = call(&server, &one, Method::GET, DAILY, &Value::Null).await;
    assert!(read.headers().contains_key("etag"));
    let read: Value = read.json().await.unwrap();
    assert_eq!(read["config_value"].as_object().unwrap().len(), 1, "{read}");
    assert_eq!(
        read["schedule_since"].as_object().unwrap().len(),
        1,
        "{read}"
    );

    for (feature, of_one) in [("f", 200), ("g", 403)] {
        let path = format!("tenants/a/features/{feature}/preview");
        let body = json!({"preference": {"enabled": true}});
        let answer = call(&server, &one, Method::POST, &path, &body).await;
        assert_eq!(answer.status(), of_one, "{path}");
        let elsewhere = path.replace("/a/", "/b/");
        let answer = call(&server, &all, Method::POST, &elsewhere, &body).await;
        assert_eq!(answer.status(), 403, "{elsewhere}");
    }

    let patch = json!({"config_value": {"f": {"preferred_time": "10:00"}}});
    let changed = call(&server, &one, Method::PATCH, DAILY, &patch).await;
    assert_eq!(changed.status(), 200);
    let changed: Value = changed.json().await.unwrap();
    assert_eq!(changed["config_value"]["f"]["preferred_time"], "10:00");
    assert!(changed["config_value"]["g"].is_null(), "{changed}");
    let other = "tenants/b/configs/feature_preferences";
    let whole = json!({"config_value": {"f": {"enabled": false}}});
    for (method, path, body, of_one, of_all) in [
        (
            Method::PATCH,
            DAILY,
            json!({"config_value": {"g": {"enabled": false}}}),
            403,
            200,
        ),
        (
            Method::PATCH,
            DAILY,
            json!({"config_value": {"f": {}, "g": null}}),
            403,
            200,
        ),
        (
            Method::PATCH,
            DAILY,
            json!({"config_value": null}),
            403,
            403,
        ),
        (Method::PATCH, DAILY, json!({"config_value": []}), 403, 403),
        (Method::PUT, DAILY, whole.clone(), 403, 200),
        (Method::DELETE, DAILY, Value::Null, 403, 403),
        (
            Method::GET,
            "tenants/a/configs/feature_preferences/history",
            Value::Null,
            403,
            403,
        ),
        (
            Method::POST,
            "tenants/a/configs/feature_preferences/restore",
            json!({"version": 1}),
            403,
            403,
        ),
        (
            Method::GET,
            "tenants/a/configs/other",
            Value::Null,
            403,
            403,
        ),
        (
            Method::PUT,
            "tenants/a/configs/other",
            whole.clone(),
            403,
            403,
        ),
        (Method::GET, other, Value::Null, 403, 403),
        (Method::PATCH, other, whole.clone(), 403, 403),
        (Method::POST, "tenants/a/links", json!({}), 403, 403),
        (
            Method::POST,
            "tenants/a/unsubscribe-links",
            json!({"feature": "f"}),
            403,
            403,
        ),
        (Method::GET, "keys", Value::Null, 403, 403),
        (
            Method::GET,
            "preferences/changes?since_id=0",
            Value::Null,
            403,
            403,
        ),
        (Method::GET, "feature-types", Value::Null, 403, 403),
        (Method::GET, "nothing", Value::Null, 403, 403),
    ] {
        let status = call(&server, &one, method.clone(), path, &body)
            .await
            .status();
        assert_eq!(status, of_one, "{method} {path} {body} with one feature");
        let status = call(&server, &all, method.clone(), path, &body)
            .await
            .status();
        assert_eq!(status, of_all, "{method} {path} {body} with all features");
    }
    // A tenant who has stored nothing begins with a patch.
    let new = call(
        &server,
        ADMIN,
        Method::POST,
        "tenants/new/links",
        &json!({"features": ["f"]}),
    )
    .await;
    let new = text(&new.json().await.unwrap(), "token");
    let path = "tenants/new/configs/feature_preferences";
    assert_eq!(
        call(&server, &new, Method::PATCH, path, &whole)
            .await
            .status(),
        200
    );
    assert_eq!(
        call(
            &server,
            ADMIN,
            Method::PATCH,
            "tenants/newer/configs/feature_preferences",
            &whole
        )
        .await
        .status(),
        404
    );

    let once = text(&link(&server, json!({"once": true})).await, "token");
    assert_eq!(
        call(&server, &once, Method::GET, DAILY, &Value::Null)
            .await
            .status(),
        401
    );
    let history = call(
        &server,
        ADMIN,
        Method::GET,
        "tenants/a/configs/feature_preferences/history",
        &Value::Null,
    )
    .await;
    let history: Value = history.json().await.unwrap();
    assert_eq!(history["versions"][0]["actor"], "a (link)");
}

async fn who_may_change_a_tenants_preferences_makes_links(kind: Kind) {
    let server = started(kind).await;
    let made = async |name: &str, scope, tenant: Option<&str>| {
        let new = NewKey {
            tenant_id: tenant.map(|tenant| TenantId::new(tenant).unwrap()),
            ..key(name, scope)
        };
        let key = server.store.create_key(&new).await.unwrap();
        key.expose_secret().to_owned()
    };
    let reader = made("reader", Scope::Read, None).await;
    let writer = made("writer", Scope::Write, None).await;
    let of_a = made("of a", Scope::Write, Some("a")).await;
    let reader_of_a = made("reader of a", Scope::Read, Some("a")).await;
    for (path, body) in [
        ("links", Value::Null),
        ("unsubscribe-links", json!({"feature": "f"})),
    ] {
        for (key, of_own, of_other) in [
            (&reader, 403, 403),
            (&writer, 201, 201),
            (&of_a, 201, 403),
            (&reader_of_a, 403, 403),
        ] {
            for (tenant, expected) in [("a", of_own), ("b", of_other)] {
                let path = format!("tenants/{tenant}/{path}");
                let answer = call(&server, key, Method::POST, &path, &body).await;
                assert_eq!(answer.status(), expected, "{path}");
            }
        }
    }
}

#[tokio::test]
async fn wrong_links_keep_out_no_others_at_the_same_address() {
    let place = Kind::Sqlite.place().await;
    let server = start_embeddable(place, Some(ADMIN), keys(&["k"])).await;
    let visitor = Visitor::new(&server);
    let past = sign("k", SECRET, &claims(json!({"exp": now() - 1})));
    assert_eq!(visitor.status(&format!("/open/{past}")).await, 410);
    let as_key = call(&server, &past, Method::GET, DAILY, &Value::Null).await;
    assert_eq!(as_key.status(), 401);
    assert!(as_key.text().await.unwrap().contains("has expired"));
    let guess = sign(
        "k",
        "another-key-of-more-than-32-characters-x",
        &claims(json!({})),
    );
    for path in ["open", "unsubscribe"].into_iter().cycle().take(300) {
        assert_eq!(visitor.status(&format!("/{path}/{guess}")).await, 401);
    }
    // As a key, a wrong one counts; a link that is right passes all the same.
    let mut refused = 0;
    for n in 0..110 {
        let answer = call(
            &server,
            &format!("{guess}{n}"),
            Method::GET,
            DAILY,
            &Value::Null,
        )
        .await;
        refused += u32::from(answer.status() == StatusCode::TOO_MANY_REQUESTS);
    }
    assert!(refused > 0);
    let right = sign("k", SECRET, &claims(json!({})));
    let opened = visitor.get(&format!("/open/{right}")).await;
    assert_eq!(opened.status(), StatusCode::SEE_OTHER);
    let as_key = call(&server, &right, Method::GET, DAILY, &Value::Null).await;
    assert_ne!(as_key.status(), StatusCode::TOO_MANY_REQUESTS);
}

#[tokio::test]
async fn where_no_key_is_asked_for_a_link_still_restricts() {
    let server = start_in(Kind::Sqlite.place().await, None).await;
    let made = call(
        &server,
        "",
        Method::POST,
        "tenants/a/links",
        &json!({"features": ["f"]}),
    )
    .await;
    let token = text(&made.json().await.unwrap(), "token");
    let visitor = let_in(&server, &token).await;
    assert_eq!(visitor.status("/tenants/a/features/f").await, 200);
    assert_eq!(visitor.status("/tenants/a/features/g").await, 403);
    let page = visitor.text("/tenants/a/features/f").await;
    assert_ne!(hidden(&page, "csrf"), "");
    let status = call(&server, &token, Method::GET, "keys", &Value::Null)
        .await
        .status();
    assert_eq!(status, 403);
}
