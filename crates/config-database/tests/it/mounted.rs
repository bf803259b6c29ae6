//! Inside another service that has a sign-in of its own.

use axum::{Router, extract::Request, middleware};
use punctual_config_database::{Access, Caller, ConfigStore};
use punctual_domain::TenantId;
use reqwest::{Client, header::HeaderMap, redirect::Policy};
use serde_json::{Value, json};
use tempfile::TempDir;
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;

use crate::page::{Visitor, hidden};

const ROOT: &str = "/preferences";

/// A service that serves its clients without telling their addresses, and takes who asks from the header `x-user`.
async fn service(access: Access) -> (TempDir, String) {
    let folder = tempfile::tempdir().unwrap();
    let url = format!("sqlite://{}", folder.path().join("config.db").display());
    let store = ConfigStore::open(&url).await.unwrap();
    for tenant in ["ann", "bob"] {
        let daily = json!({"enabled": true, "frequency": "daily"});
        let (tenant, feature) = (tenant.parse().unwrap(), "f".parse().unwrap());
        let daily = daily.as_object().unwrap().clone();
        store.put(&tenant, &feature, daily).await.unwrap();
    }
    let sign_in = |mut request: Request, next: middleware::Next| async move {
        let user = request.headers().get("x-user");
        let caller = user.map(|user| match user.to_str().unwrap() {
            "an-operator" => Caller::operator("eve"),
            tenant => Caller::tenant(TenantId::new(tenant).unwrap()),
        });
        if let Some(caller) = caller {
            request.extensions_mut().insert(caller);
        }
        next.run(request).await
    };
    let router = store.router(access, CancellationToken::new());
    let service: Router = Router::new()
        .nest(ROOT, router)
        .layer(middleware::from_fn(sign_in));
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    tokio::spawn(axum::serve(listener, service).into_future());
    (folder, url)
}

fn user(origin: &str, user: Option<&str>) -> Visitor {
    let headers = user.map(|user| ("x-user".parse().unwrap(), user.parse().unwrap()));
    let client = Client::builder()
        .redirect(Policy::none())
        .default_headers(HeaderMap::from_iter(headers));
    Visitor {
        server: format!("{origin}{ROOT}"),
        http: client.build().unwrap(),
        cookie: None,
    }
}

#[tokio::test]
async fn a_user_of_the_service_sees_and_changes_their_own_preferences_only() {
    let (_folder, origin) = service(Access::guarded()).await;
    let ann = user(&origin, Some("ann"));
    let operator = user(&origin, Some("an-operator"));
    let unknown = user(&origin, None);
    for (path, ann_sees) in [
        ("/tenants/ann", 200),
        ("/tenants/ann/features/f", 200),
        ("/tenants/ann/history", 200),
        ("/api/v1/tenants/ann/configs/feature_preferences", 200),
        ("/tenants/bob", 403),
        ("/tenants/bob/features/f", 403),
        ("/tenants/bob/history", 403),
        ("/operators", 403),
        ("/operators/export", 403),
        ("/api/v1/tenants/bob/configs/feature_preferences", 403),
        ("/api/v1/preferences/groups?feature_type=f", 403),
        ("/api/v1/preferences/changes?since_id=0", 403),
        ("/api/v1/keys", 403),
    ] {
        assert_eq!(ann.status(path).await, ann_sees, "{path} for ann");
        assert_eq!(operator.status(path).await, 200, "{path} for an operator");
        assert_eq!(unknown.status(path).await, 403, "{path} for who is unknown");
    }
    assert_eq!(unknown.status("/health/ready").await, 200);
    let start = ann.get("/").await;
    assert_eq!(start.headers()["location"], "/preferences/tenants/ann");
    assert!(!ann.text("/tenants/ann").await.contains("Sign out"));

    let version = hidden(&ann.text("/tenants/ann/features/f").await, "version");
    let form = [
        ("action", "save"),
        ("csrf", ""),
        ("version", version.as_str()),
        ("enabled", "true"),
        ("frequency", "daily"),
        ("time", "10:00"),
        ("zone", "UTC"),
    ];
    assert_eq!(
        ann.post("/tenants/bob/features/f", &form).await.status(),
        403
    );
    let saved = ann.post("/tenants/ann/features/f", &form).await;
    assert_eq!(saved.status(), 303);
    let location = saved.headers()["location"].to_str().unwrap();
    let of_feature = "/preferences/tenants/ann/features/f?saved=";
    assert!(location.starts_with(of_feature), "{location}");
    let history = ann.text("/tenants/ann/history").await;
    assert!(
        history.contains("By ann") && history.contains("10:00"),
        "{history}"
    );
}

#[tokio::test]
async fn the_pages_of_other_sites_cannot_send_the_forms_of_a_signed_in_user() {
    let (_folder, origin) = service(Access::guarded()).await;
    let ann = user(&origin, Some("ann"));
    let before = ann.text("/tenants/ann/history").await;
    let restore = async |name: &str, value: &str| {
        let call = ann
            .http
            .post(format!("{}/tenants/ann/features/f/restore", ann.server));
        let call = call.form(&[("csrf", ""), ("version", "1")]);
        call.header(name, value).send().await.unwrap().status()
    };
    for (name, value) in [
        ("origin", "https://evil.example"),
        ("origin", "null"),
        ("sec-fetch-site", "cross-site"),
        ("sec-fetch-site", "same-site"),
    ] {
        assert_eq!(restore(name, value).await, 403, "{name}: {value}");
    }
    assert_eq!(ann.text("/tenants/ann/history").await, before);
    assert_eq!(restore("origin", &origin).await, 303);
}

#[tokio::test]
async fn a_key_is_checked_where_the_addresses_of_clients_are_not_known() {
    let key = "an-operators-key-of-32-characters";
    let access = Access::key(key.into(), "0.0.0.0:80".parse().unwrap()).unwrap();
    let (_folder, origin) = service(access).await;
    // Whom the service around it has signed in does not matter then.
    let client = user(&origin, Some("an-operator"));
    let status = async |key: Option<&str>| {
        let mut call = client.http.get(format!("{}/api/v1/keys", client.server));
        if let Some(key) = key {
            call = call.bearer_auth(key);
        }
        call.send().await.unwrap().status()
    };
    assert_eq!(status(None).await, 401);
    assert_eq!(status(Some("another-key-of-some-characters")).await, 401);
    assert_eq!(status(Some(key)).await, 200);
    let asked = client.get("/tenants/ann").await;
    assert_eq!(
        asked.headers()["location"],
        "/preferences/sign-in?next=/tenants/ann"
    );
    let described: Value = client.get("/openapi.json").await.json().await.unwrap();
    assert_eq!(described["servers"][0]["url"], ROOT);
}
