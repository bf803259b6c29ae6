//! Who may do what.

use punctual_config_database::{Scope, Server, ServerSettings};
use reqwest::Method;
use secrecy::{ExposeSecret, SecretString};

use crate::server::{Running, start_in};

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

#[tokio::test]
async fn without_the_right_key_nothing_answers_not_even_what_does_not_exist() {
    let server = start_in(tempfile::tempdir().unwrap(), Some("the-admin-key")).await;
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

#[tokio::test]
async fn a_key_may_do_what_its_scope_says_until_it_is_taken_back() {
    let server = start_in(tempfile::tempdir().unwrap(), Some("admin")).await;
    let make = |name: &'static str, scope| {
        let store = server.store.clone();
        async move { store.create_key(name, scope).await.unwrap() }
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
    assert!(
        server
            .store
            .create_key("r", Scope::Read)
            .await
            .unwrap_err()
            .to_string()
            .contains("another name")
    );

    assert!(server.store.revoke_key("w").await.unwrap());
    assert!(!server.store.revoke_key("w").await.unwrap());
    assert_eq!(may(keys[1].clone()).await, [401, 401, 401]);

    // Only hashes are kept.
    let file = server.folder.path().to_owned();
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
    assert!(error.contains("CONFIG_SERVICE_API_KEY"), "{error}");
    assert!(Server::bind(settings(Some("key"))).await.is_ok());
}

#[tokio::test]
async fn a_store_that_is_no_sqlite_file_is_refused_without_showing_its_password() {
    for url in ["postgres://u:canary@h/db", "config.db", ""] {
        let error = punctual_config_database::ConfigStore::open(url)
            .await
            .unwrap_err()
            .to_string();
        assert!(
            error.contains("CONFIG_STORE_URL") && !error.contains("canary"),
            "{error}"
        );
    }
}
