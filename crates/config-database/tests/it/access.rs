//! Who may do what.

use punctual_config_database::{NewKey, Scope, Server, ServerSettings};
use punctual_domain::TenantId;
use reqwest::Method;
use secrecy::{ExposeSecret, SecretString};
use serde_json::Value;

use crate::server::{Kind, Running, key, on_both_databases_and_below_a_path, start, start_in};

on_both_databases_and_below_a_path! {
    a_name_in_a_path_is_not_taken_for_a_part_of_it
    a_tenants_key_sees_that_tenant_and_nothing_else
    a_key_and_the_one_that_takes_its_place_hold_together_for_a_while
    a_frequent_caller_gets_retry_after_and_others_are_served
    a_call_that_another_sites_page_sends_is_refused
    without_the_right_key_nothing_answers_not_even_what_does_not_exist
    a_key_may_do_what_its_scope_says_until_it_is_taken_back
}

const PREFERENCES: &str = "tenants/a/configs/feature_preferences";

async fn status(server: &Running, key: Option<&str>, method: Method, path: &str) -> u16 {
    let mut request = server
        .http
        .request(method, format!("{}/api/v1/{path}", server.url))
        .body("{\"config_value\":{}}");
    if let Some(key) = key {
        request = request.bearer_auth(key);
    }
    request.send().await.unwrap().status().as_u16()
}

async fn without_the_right_key_nothing_answers_not_even_what_does_not_exist(kind: Kind) {
    let server = start_in(kind.place().await, Some("the-admin-key")).await;
    for key in [None, Some(""), Some("wrong"), Some("the-admin-ke")] {
        for (method, path) in [
            (Method::GET, PREFERENCES),
            (Method::PUT, PREFERENCES),
            (Method::DELETE, PREFERENCES),
            (Method::GET, "preferences/groups?feature_type=f"),
            (Method::GET, "preferences/changes?since_id=0"),
            (Method::GET, "feature-types"),
            (Method::POST, "preferences/import"),
            (Method::PUT, "feature-types/f/schema"),
            (Method::GET, "no/such/address"),
            (Method::GET, "keys"),
            (Method::POST, "keys"),
            (Method::DELETE, "keys/a"),
            (Method::POST, "keys/a/rotate"),
            (Method::PATCH, PREFERENCES),
            (Method::GET, "tenants/a/configs/feature_preferences/history"),
            (
                Method::POST,
                "tenants/a/configs/feature_preferences/restore",
            ),
        ] {
            assert_eq!(
                status(&server, key, method.clone(), path).await,
                401,
                "{key:?} {method} {path}"
            );
        }
    }
    assert_eq!(
        status(&server, Some("the-admin-key"), Method::PUT, PREFERENCES).await,
        200
    );
    let health = server
        .http
        .get(format!("{}/health/live", server.url))
        .send()
        .await
        .unwrap();
    assert_eq!(health.status(), 200);
}

async fn a_key_may_do_what_its_scope_says_until_it_is_taken_back(kind: Kind) {
    let server = start_in(kind.place().await, Some("admin")).await;
    let make = |name: &'static str, scope| {
        let store = server.store.clone();
        async move { store.create_key(&key(name, scope)).await.unwrap() }
    };
    let keys = [
        make("r", Scope::Read).await,
        make("w", Scope::Write).await,
        make("a", Scope::Admin).await,
    ];
    let may = |key: SecretString| {
        let server = &server;
        async move {
            let key = key.expose_secret();
            [
                status(
                    server,
                    Some(key),
                    Method::GET,
                    "preferences/changes?since_id=0",
                )
                .await,
                status(server, Some(key), Method::PUT, PREFERENCES).await,
                status(server, Some(key), Method::POST, "preferences/import").await,
            ]
        }
    };
    assert_eq!(may(keys[0].clone()).await, [200, 403, 403]);
    assert_eq!(may(keys[1].clone()).await, [200, 200, 403]);
    assert_eq!(may(keys[2].clone()).await, [200, 200, 200]);
    for (method, path) in [
        (Method::GET, "keys"),
        (Method::POST, "keys"),
        (Method::DELETE, "keys/r"),
        (Method::POST, "keys/r/rotate"),
        (Method::PUT, "feature-types/f/schema"),
        (Method::DELETE, "feature-types/f/schema"),
    ] {
        let key = Some(keys[1].expose_secret());
        let status = status(&server, key, method.clone(), path).await;
        assert_eq!(status, 403, "{method} {path}");
    }
    assert!(
        server
            .store
            .create_key(&key("r", Scope::Read))
            .await
            .unwrap_err()
            .to_string()
            .contains("another name")
    );

    assert!(server.store.revoke_key("w").await.unwrap());
    assert!(!server.store.revoke_key("w").await.unwrap());
    assert_eq!(may(keys[1].clone()).await, [401, 401, 401]);

    // Only hashes are kept.
    let file = server.place.folder.path().to_owned();
    for entry in std::fs::read_dir(file).unwrap() {
        let bytes = std::fs::read(entry.unwrap().path()).unwrap();
        let key = keys[0].expose_secret().as_bytes();
        assert!(!bytes.windows(key.len()).any(|window| window == key));
    }
}

#[tokio::test]
async fn others_are_not_listened_to_without_a_key() {
    let folder = tempfile::tempdir().unwrap();
    let settings = |admin_key: Option<&str>| ServerSettings {
        store_url: format!("sqlite://{}", folder.path().join("config.db").display()),
        addr: "0.0.0.0:0".parse().unwrap(),
        admin_key: admin_key.map(Into::into),
    };
    let error = Server::bind(settings(None)).await.unwrap_err().to_string();
    assert!(error.ends_with("without an API key"), "{error}");
    assert!(
        Server::bind(settings(Some("a-key-of-16-chars")))
            .await
            .is_ok()
    );
}

#[tokio::test]
async fn a_store_that_cannot_be_opened_is_refused_without_showing_its_password() {
    for url in [
        "postgres://u:canary@127.0.0.1:1/db",
        "postgres:\0canary",
        "mysql://u:canary@h/db",
        "config.db",
        "",
    ] {
        let error = punctual_config_database::ConfigStore::open(url)
            .await
            .unwrap_err()
            .to_string();
        assert!(
            (error.contains("URL of the store") || error.contains("cannot open"))
                && !error.contains("canary"),
            "{error}"
        );
    }
}

fn key_of_tenant(tenant: &str) -> NewKey {
    NewKey {
        name: format!("key of {tenant}"),
        scope: Scope::Write,
        tenant_id: Some(TenantId::new(tenant).unwrap()),
    }
}

async fn a_name_in_a_path_is_not_taken_for_a_part_of_it(kind: Kind) {
    let server = start_in(kind.place().await, Some("admin")).await;
    for name in ["keys", "feature-types", "import", "preferences", "..."] {
        let key = server.store.create_key(&key_of_tenant(name)).await.unwrap();
        for path in [
            format!("tenants/{name}/configs/{name}"),
            format!("tenants/{name}/configs/feature_{name}"),
        ] {
            for method in [Method::PUT, Method::GET, Method::DELETE] {
                let status =
                    status(&server, Some(key.expose_secret()), method.clone(), &path).await;
                assert!(status < 300, "{method} {path}: {status}");
            }
        }
    }
}

async fn a_tenants_key_sees_that_tenant_and_nothing_else(kind: Kind) {
    let server = start_in(kind.place().await, Some("admin")).await;
    let key = server.store.create_key(&key_of_tenant("a")).await.unwrap();
    let key = key.expose_secret();
    let of = |method: Method, path: &'static str| status(&server, Some(key), method, path);
    assert_eq!(of(Method::PUT, PREFERENCES).await, 200);
    assert_eq!(of(Method::GET, PREFERENCES).await, 200);
    let history = "tenants/a/configs/feature_preferences/history";
    assert_eq!(of(Method::GET, history).await, 200);
    for (method, path) in [
        (Method::GET, "tenants/b/configs/feature_preferences"),
        (Method::PUT, "tenants/b/configs/feature_preferences"),
        (Method::DELETE, "tenants/A/configs/feature_preferences"),
        (Method::GET, "tenants/%62/configs/feature_preferences"),
        (
            Method::GET,
            "tenants/b%2f..%2fa/configs/feature_preferences",
        ),
        (Method::GET, "tenants/b/../b/configs/feature_preferences"),
        (
            Method::POST,
            "tenants/b/configs/feature_preferences/restore",
        ),
        (Method::GET, "tenants/b/configs/feature_preferences/history"),
        (Method::GET, "preferences/groups?feature_type=f&tenant_id=a"),
        (Method::GET, "preferences/changes?since_id=0"),
        (Method::GET, "feature-types"),
        (Method::GET, "feature-types/f/schema"),
        (Method::POST, "preferences/import"),
        (Method::GET, "keys"),
        (Method::POST, "keys"),
        (Method::GET, "no/such/address"),
    ] {
        assert_eq!(of(method.clone(), path).await, 403, "{method} {path}");
    }
}

async fn a_key_and_the_one_that_takes_its_place_hold_together_for_a_while(kind: Kind) {
    let server = start_in(kind.place().await, Some("admin")).await;
    let admin = |method: Method, path: &str, body: &str| {
        let url = format!("{}/api/v1/{path}", server.url);
        let call = server.http.request(method, url).bearer_auth("admin");
        call.body(body.to_owned()).send()
    };
    let made = admin(
        Method::POST,
        "keys",
        r#"{"name": "agent", "scope": "read"}"#,
    )
    .await
    .unwrap();
    assert_eq!(made.status(), 201);
    let made: Value = made.json().await.unwrap();
    let old = made["key"].as_str().unwrap().to_owned();
    let again = admin(
        Method::POST,
        "keys",
        r#"{"name": "agent", "scope": "read"}"#,
    );
    assert_eq!(again.await.unwrap().status(), 409);

    let rotated = admin(Method::POST, "keys/agent/rotate", "").await.unwrap();
    let rotated: Value = rotated.json().await.unwrap();
    let new = rotated["key"].as_str().unwrap();
    let reading = "preferences/changes?since_id=0";
    let may = |key: String| {
        let server = &server;
        async move { status(server, Some(&key), Method::GET, reading).await }
    };
    assert_eq!(
        (may(old.clone()).await, may(new.to_owned()).await),
        (200, 200)
    );
    let listed: Value = admin(Method::GET, "keys", "")
        .await
        .unwrap()
        .json()
        .await
        .unwrap();
    let listed = listed["keys"].as_array().unwrap().clone();
    assert_eq!(listed.len(), 2);
    assert!(listed[0]["expires_at"].is_string() && listed[1]["expires_at"].is_null());
    assert!(
        !format!("{listed:?}").contains("pk_"),
        "no key is shown again"
    );

    let at_once = admin(Method::POST, "keys/agent/rotate", r#"{"overlap_hours": 0}"#);
    let last: Value = at_once.await.unwrap().json().await.unwrap();
    assert_eq!((may(old).await, may(new.to_owned()).await), (401, 401));
    assert_eq!(may(last["key"].as_str().unwrap().to_owned()).await, 200);

    let gone = admin(Method::DELETE, "keys/agent", "").await.unwrap();
    assert_eq!(gone.status(), 204);
    assert_eq!(may(last["key"].as_str().unwrap().to_owned()).await, 401);
    assert_eq!(
        admin(Method::POST, "keys/agent/rotate", "")
            .await
            .unwrap()
            .status(),
        404
    );
    let long = admin(
        Method::POST,
        "keys/agent/rotate",
        r#"{"overlap_hours": 721}"#,
    );
    assert_eq!(long.await.unwrap().status(), 400);
}

async fn a_frequent_caller_gets_retry_after_and_others_are_served(kind: Kind) {
    let server = start_in(kind.place().await, Some("admin")).await;
    let key = server.store.create_key(&key_of_tenant("a")).await.unwrap();
    let other = server.store.create_key(&key_of_tenant("b")).await.unwrap();
    let mut refused = None;
    for _ in 0..200 {
        let url = format!("{}/api/v1/{PREFERENCES}", server.url);
        let call = server.http.get(url).bearer_auth(key.expose_secret());
        let response = call.send().await.unwrap();
        if response.status() == 429 {
            refused = Some(response);
            break;
        }
    }
    let refused = refused.expect("200 calls at once are too many for one tenant");
    let wait: u64 = refused.headers()["retry-after"]
        .to_str()
        .unwrap()
        .parse()
        .unwrap();
    assert!((1..=60).contains(&wait), "{wait}");
    let path = "tenants/b/configs/feature_preferences";
    assert_eq!(
        status(&server, Some(other.expose_secret()), Method::GET, path).await,
        404
    );
}

async fn a_call_that_another_sites_page_sends_is_refused(kind: Kind) {
    let server = start(kind).await;
    let send = |origin: &str, host: Option<&str>| {
        let url = format!("{}/api/v1/preferences/import", server.url);
        let mut call = server.http.post(url).header("origin", origin).body("");
        if let Some(host) = host {
            call = call.header("host", host);
        }
        call.send()
    };
    assert_eq!(
        send("https://evil.example", None).await.unwrap().status(),
        403
    );
    assert_eq!(send("null", None).await.unwrap().status(), 403);
    // A name of another site that resolves to this machine.
    let rebound = send("http://evil.example:8000", Some("evil.example:8000"));
    assert_eq!(rebound.await.unwrap().status(), 403);
    let own = server.url.trim_end_matches(server.place.root);
    assert_eq!(send(own, None).await.unwrap().status(), 200);
}
