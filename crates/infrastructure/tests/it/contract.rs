//! The contracts of the ports, over the adapters of this crate and over what stands before them.

use std::sync::{Arc, Mutex};

use async_trait::async_trait;
use axum::{
    Router,
    extract::State,
    http::{HeaderMap, StatusCode},
    response::IntoResponse,
    routing::get,
};
use punctual_application::{
    ports::{ItemSourceErrorKind, SystemClock},
    testing::contract::{self, Answer, FEATURE, Remote, Writable},
};
use punctual_config_database::{Server, ServerSettings};
use punctual_domain::{Location, PreferenceRecord, Source, TenantId};
use punctual_infrastructure::{
    Guarded, LastKnownGood, Sources, TemplateHandler, Templates, WebhookHandler,
};
use serde_json::json;

use crate::{
    endpoint::{answer, asks, chat, item, webhook},
    server::{client, serve},
};

/// A reference server, written to as the preference centre of somebody would.
struct Reference {
    url: String,
    http: reqwest::Client,
    _folder: tempfile::TempDir,
}

impl Reference {
    async fn start() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let settings = ServerSettings {
            store_url: format!("sqlite://{}", folder.path().join("config.db").display()),
            addr: "127.0.0.1:0".parse().unwrap(),
            admin_key: None,
        };
        let server = Server::bind(settings).await.unwrap();
        let url = format!("http://{}", server.addr());
        tokio::spawn(server.serve(std::future::pending()));
        Self {
            url,
            http: reqwest::Client::new(),
            _folder: folder,
        }
    }

    fn of(&self, tenant_id: &TenantId) -> String {
        let url = &self.url;
        format!("{url}/api/v1/tenants/{tenant_id}/configs/feature_preferences")
    }
}

#[async_trait]
impl Writable for Reference {
    async fn put(&self, record: PreferenceRecord) {
        let body = json!({"config_value": {FEATURE: &*record.preference}}).to_string();
        let put = self.http.put(self.of(&record.tenant_id)).body(body);
        let answer = put.send().await.unwrap();
        assert!(answer.status().is_success(), "{answer:?}");
    }

    async fn remove(&self, tenant_id: &TenantId) {
        let answer = self.http.delete(self.of(tenant_id)).send().await.unwrap();
        assert!(answer.status().is_success(), "{answer:?}");
    }

    async fn erase(&self, tenant_id: &TenantId) -> bool {
        let path = format!("{}/api/v1/tenants/{tenant_id}", self.url);
        let erase = self.http.delete(path).header("Punctual-Reason", "asked");
        let answer = erase.send().await.unwrap();
        assert!(answer.status().is_success(), "{answer:?}");
        true
    }
}

#[tokio::test]
async fn the_client_of_the_reference_server_keeps_the_contract() {
    let reference = Reference::start().await;
    let client = Guarded(client(&reference.url));
    contract::config_database(&client, &reference).await;
}

#[tokio::test]
async fn the_last_known_good_before_it_keeps_the_contract() {
    let reference = Reference::start().await;
    let folder = tempfile::tempdir().unwrap();
    let client = Arc::new(client(&reference.url));
    let known = LastKnownGood::new(client, Arc::new(SystemClock), folder.path(), "reference");
    contract::config_database(&known.unwrap(), &reference).await;
}

/// What handlers call: a server that answers as the suite asks for.
struct Endpoint(Mutex<(Vec<String>, Answer)>);

impl Endpoint {
    async fn start() -> (Arc<Self>, String) {
        let endpoint = Arc::new(Self(Mutex::new((Vec::new(), Answer::Success))));
        let answering = |State(endpoint): State<Arc<Self>>, headers: HeaderMap| async move {
            let key = headers["idempotency-key"].to_str().unwrap().to_owned();
            let with = {
                let (keys, with) = &mut *endpoint.0.lock().unwrap();
                keys.push(key);
                *with
            };
            match with {
                Answer::Success => answer("A fine morning.", "stop").into_response(),
                Answer::Throttled(wait) => {
                    let wait = [("retry-after", wait.as_secs().to_string())];
                    (StatusCode::TOO_MANY_REQUESTS, wait).into_response()
                }
                Answer::Unavailable => StatusCode::BAD_GATEWAY.into_response(),
                Answer::Refused => StatusCode::BAD_REQUEST.into_response(),
                _ => std::future::pending().await,
            }
        };
        let router = Router::new()
            .fallback(answering)
            .with_state(endpoint.clone());
        (endpoint, serve(router).await)
    }
}

impl Remote for Endpoint {
    fn keys(&self) -> Vec<String> {
        self.0.lock().unwrap().0.clone()
    }

    fn answer(&self, with: Answer) {
        self.0.lock().unwrap().1 = with;
    }
}

#[tokio::test]
async fn the_handler_webhook_keeps_the_contract() {
    let (endpoint, url) = Endpoint::start().await;
    let handler = WebhookHandler::new(&webhook(&url), None, Arc::new(SystemClock)).unwrap();
    contract::purpose_handler(&handler, &item(1), Some(&*endpoint)).await;
}

#[tokio::test]
async fn the_handler_chat_keeps_the_contract() {
    let (endpoint, url) = Endpoint::start().await;
    let folder = tempfile::tempdir().unwrap();
    let handler = asks(&chat(&url), folder.path());
    contract::purpose_handler(&handler, &item(1), Some(&*endpoint)).await;
}

#[tokio::test]
async fn the_handler_template_keeps_the_contract() {
    let folder = tempfile::tempdir().unwrap();
    let template = "{{ tone }} for {{ item.tenant_id }}";
    std::fs::write(folder.path().join("t.j2"), template).unwrap();
    let templates = Templates::in_folder(folder.path());
    let handler = TemplateHandler::new(&templates, "t.j2").unwrap();
    contract::purpose_handler(&handler, &item(1), None).await;
}

fn file(name: &str) -> Source {
    Source {
        location: Location::File(name.to_owned()),
        filters: vec![],
        limit: None,
    }
}

#[tokio::test]
async fn items_of_files_keep_the_contract() {
    let folder = tempfile::tempdir().unwrap();
    let json = r#"[{"id": "ann", "n": 1}, {"id": "eu:bob@example.org"}, {"id": 7}]"#;
    let lines = "{\"id\": \"ann\"}\n{\"id\": \"eu:bob@example.org\"}\n{\"id\": 7}\n";
    let broken: &[u8] = b"[{\"id\": \"ann\"}";
    let files: [(&str, &[u8]); 7] = [
        ("items.json", json.as_bytes()),
        ("items.ndjson", lines.as_bytes()),
        ("items.csv", b"id,name\nann,A\neu:bob@example.org,B\n7,C\n"),
        ("broken.json", broken),
        ("twice.csv", b"id\nann\nann\n"),
        ("latin.csv", b"id\nJos\xe9\n"),
        ("all.csv", b"id\n*\n"),
    ];
    for (name, content) in files {
        std::fs::write(folder.path().join(name), content).unwrap();
    }
    std::fs::create_dir(folder.path().join("folder.json")).unwrap();
    let sources = Guarded(Sources::in_folder(folder.path()).unwrap());
    let unreadable = [
        (file("none.json"), ItemSourceErrorKind::Missing),
        (file("broken.json"), ItemSourceErrorKind::Invalid),
        (file("twice.csv"), ItemSourceErrorKind::Invalid),
        (file("latin.csv"), ItemSourceErrorKind::Invalid),
        (file("all.csv"), ItemSourceErrorKind::Invalid),
        (file("folder.json"), ItemSourceErrorKind::Unavailable),
    ];
    for name in ["items.json", "items.ndjson", "items.csv"] {
        contract::item_source(&sources, &file(name), &unreadable).await;
    }
}

#[tokio::test]
async fn items_of_urls_keep_the_contract() {
    let items = async || r#"{"data": [{"id": "ann"}, {"id": "eu:bob@example.org"}, {"id": 7}]}"#;
    let router = Router::new()
        .route("/items", get(items))
        .route("/broken", get(async || "[{"))
        .route("/elsewhere", get(async || "{\"items\": []}"))
        .route("/down", get(async || StatusCode::BAD_GATEWAY))
        .route("/denied", get(async || StatusCode::FORBIDDEN));
    let host = serve(router).await;
    let url = |url: String| Source {
        location: Location::Http {
            url,
            items: "/data".to_owned(),
            api_key_env: None,
            allow_private_addresses: true,
        },
        filters: vec![],
        limit: None,
    };
    use ItemSourceErrorKind::{Invalid, Missing, Unavailable};
    let mut unreadable = Vec::from([
        (
            url("http://127.0.0.1:1/?token=canary".to_owned()),
            Unavailable,
        ),
        (url("not a URL".to_owned()), Invalid),
    ]);
    for (path, kind) in [
        ("none", Missing),
        ("broken", Invalid),
        ("elsewhere", Invalid),
        ("down", Unavailable),
        ("denied", Invalid),
    ] {
        unreadable.push((url(format!("{host}/{path}?token=canary")), kind));
    }
    let folder = tempfile::tempdir().unwrap();
    let sources = Guarded(Sources::in_folder(folder.path()).unwrap());
    let source = url(format!("{host}/items?token=canary"));
    contract::item_source(&sources, &source, &unreadable).await;
}
