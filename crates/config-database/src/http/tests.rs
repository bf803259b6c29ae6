//! Snapshots of what callers see: the description of the API, every response and every kind of error. They are reviewed
//! with `cargo insta review`, or written anew with `INSTA_UPDATE=always`.

use std::net::SocketAddr;

use chrono::DateTime;
use punctual_web::testing::Answers;
use serde_json::{Value, json};
use sqlx::{AnyConnection, AssertSqlSafe, Connection, Executor};

use super::*;

const ADMIN: &str = "an-administrators-key-of-32-chars";
const CONFIG: &str = "/api/v1/tenants/ann/configs/feature_preferences";
const SCHEMA: &str = "/api/v1/feature-types/posts/schema";
const CHANGES: &str = "/api/v1/preferences/changes";

#[test]
fn the_description_of_the_api() {
    insta::assert_json_snapshot!("openapi", description());
}

/// The API on a database of its own.
struct Api {
    answers: Answers,
    stop: CancellationToken,
    url: String,
    _folder: tempfile::TempDir,
}

impl Api {
    async fn new(admin_key: Option<&str>) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let url = format!("sqlite://{}", folder.path().join("config.db").display());
        let store = ConfigStore::open(&url).await.unwrap();
        let access = admin_key.map_or(Access::this_machine("CONFIG_SERVICE_API_KEY"), |key| {
            let address = SocketAddr::from(([127, 0, 0, 1], 8000));
            Access::key(key.into(), address).unwrap()
        });
        let stop = CancellationToken::new();
        Self {
            answers: Answers::of(store.router(access, stop.clone()), leave_out),
            stop,
            url,
            _folder: folder,
        }
    }

    async fn get(&mut self, path: &str) {
        self.answers.call("GET", path, &[], "").await;
    }

    async fn delete(&mut self, path: &str) {
        self.answers.call("DELETE", path, &[], "").await;
    }

    async fn post(&mut self, path: &str, body: &str) {
        self.answers.call("POST", path, &[], body).await;
    }

    async fn put(&mut self, path: &str, body: Value) {
        let body = body.to_string();
        self.answers.call("PUT", path, &[], &body).await;
    }

    /// Calls with a key, and returns what it is answered.
    async fn with_key(&mut self, key: &str, method: &str, path: &str, body: &str) -> Value {
        let header = format!("Bearer {key}");
        let headers = [("authorization", header.as_str())];
        self.answers.call(method, path, &headers, body).await
    }
}

/// Instants, keys and epochs: this server has the time of the day, and draws the others.
fn leave_out(text: &str) -> String {
    if DateTime::parse_from_rfc3339(text).is_ok() {
        return "INSTANT".to_owned();
    }
    if text.len() == 32 && text.bytes().all(|b| b.is_ascii_hexdigit()) {
        return "EPOCH".to_owned();
    }
    match text.split_once("pk_") {
        Some((before, after)) => {
            let rest = after.trim_start_matches(|c: char| c.is_ascii_alphanumeric() || c == '_');
            format!("{before}KEY{rest}")
        }
        None => text.to_owned(),
    }
}

fn config(preference: Value) -> Value {
    json!({"config_value": {"posts": preference}})
}

#[tokio::test]
async fn every_response() {
    let mut api = Api::new(None).await;
    for path in ["/health/live", "/health/ready", "/version"] {
        api.get(path).await;
    }
    let schema = json!({"properties": {"tone": {"enum": ["dry", "warm"]}}});
    api.put(SCHEMA, schema).await;
    api.get(SCHEMA).await;
    let daily = json!({"enabled": true, "frequency": "daily", "timezone": "Europe/Berlin",
        "template_overrides": {"tone": "dry"}, "colour": "blue"});
    api.put(CONFIG, config(daily)).await;
    api.get(CONFIG).await;
    let known = [("if-none-match", "\"1\"")];
    api.answers.call("GET", CONFIG, &known, "").await;
    let later = config(json!({"preferred_time": "18:00"})).to_string();
    api.answers.call("PATCH", CONFIG, &[], &later).await;
    api.get("/api/v1/feature-types").await;
    api.get("/api/v1/preferences/groups?feature_type=posts&limit=1")
        .await;
    let stream = [("accept", "application/x-ndjson")];
    let groups = "/api/v1/preferences/groups?feature_type=posts";
    api.answers.call("GET", groups, &stream, "").await;
    api.delete(CONFIG).await;
    api.get(&format!("{CONFIG}/history?limit=2")).await;
    api.post(&format!("{CONFIG}/restore"), r#"{"version": 1}"#)
        .await;
    api.get(&format!("{CHANGES}?since_id=2&limit=1")).await;
    let bob = json!({"tenant_id": "bob", "config_value": {"posts": {"enabled": true, "frequency": "hourly"}}});
    let lines = format!("{bob}\n{{\"tenant_id\": \"a b\"}}\n");
    api.post("/api/v1/preferences/import", &lines).await;
    api.delete(SCHEMA).await;
    api.post(
        "/api/v1/keys",
        r#"{"name": "page", "scope": "write", "tenant_id": "ann"}"#,
    )
    .await;
    api.post("/api/v1/keys/page/rotate", r#"{"overlap_hours": 1}"#)
        .await;
    api.get("/api/v1/keys").await;
    api.delete("/api/v1/keys/page").await;
    insta::assert_snapshot!("responses", api.answers.text);
}

#[tokio::test]
async fn every_kind_of_error() {
    let mut api = Api::new(None).await;
    for path in [
        "/api/v1/nothing",
        CONFIG,
        SCHEMA,
        "/api/v1/tenants/a%20b/configs/feature_preferences",
        "/api/v1/tenants/ann/configs/a%20b",
        "/api/v1/tenants/ann/configs/feature_preferences/history?limit=many",
        "/api/v1/preferences/groups",
        "/api/v1/preferences/groups?feature_type=a%20b",
        "/api/v1/preferences/groups?feature_type=posts&cursor=%21",
        CHANGES,
        "/api/v1/preferences/changes?since_id=7",
    ] {
        api.get(path).await;
    }
    api.post("/api/v1/feature-types", "{}").await;
    for path in [CONFIG, SCHEMA, "/api/v1/keys/none"] {
        api.delete(path).await;
    }
    api.answers.call("PUT", CONFIG, &[], "{").await;
    api.put(CONFIG, json!({})).await;
    api.put(CONFIG, json!({"config_value": {"a b": {}, "etsy": 7}}))
        .await;
    let mistakes = json!({"enabled": "yes", "frequency": "dayly", "preferred_time": "9am", "timezone": "Berlin"});
    api.put(CONFIG, config(mistakes)).await;
    api.put(SCHEMA, json!({"type": "nonsense"})).await;
    api.put(SCHEMA, json!({"properties": {"tone": {"enum": ["dry"]}}}))
        .await;
    let loud =
        json!({"enabled": true, "frequency": "daily", "template_overrides": {"tone": "loud"}});
    api.put(CONFIG, config(loud)).await;
    api.put(CONFIG, config(json!({"enabled": false}))).await;
    let stale = config(json!({"enabled": true, "frequency": "daily"})).to_string();
    for (header, tags) in [
        ("if-match", "\"7\""),
        ("if-none-match", "*"),
        ("if-match", "7"),
    ] {
        let headers = [(header, tags)];
        api.answers.call("PUT", CONFIG, &headers, &stale).await;
    }
    for version in ["7", "\"one\""] {
        let body = format!("{{\"version\": {version}}}");
        api.post(&format!("{CONFIG}/restore"), &body).await;
    }
    let key = r#"{"name": "page", "scope": "write", "tenant_id": "ann"}"#;
    for body in [
        key,
        key,
        r#"{"name": " ", "scope": "read"}"#,
        r#"{"name": "x", "scope": "all"}"#,
    ] {
        api.post("/api/v1/keys", body).await;
    }
    api.post("/api/v1/keys/page/rotate", r#"{"overlap_hours": 721}"#)
        .await;
    api.post("/api/v1/keys/none/rotate", "").await;
    let large = " ".repeat(BODY_BYTES + 1);
    let mut before = std::mem::take(&mut api.answers.text);
    api.post("/api/v1/keys", &large).await;
    before += &api.answers.text.replace(&large, "over 1 MiB");
    api.answers.text = before;

    let mut keyed = Api::new(Some(ADMIN)).await;
    keyed.get(CONFIG).await;
    keyed.with_key("wrong", "GET", CONFIG, "").await;
    for new in [
        r#"{"name": "agent", "scope": "read"}"#,
        r#"{"name": "page", "scope": "write", "tenant_id": "bob"}"#,
    ] {
        let made = keyed.with_key(ADMIN, "POST", "/api/v1/keys", new).await;
        let key = made["key"].as_str().unwrap();
        keyed.with_key(key, "DELETE", CONFIG, "").await;
    }
    insta::assert_snapshot!("errors", api.answers.text + &keyed.answers.text);
}

#[tokio::test]
async fn what_cannot_be_served_now_says_when_to_come_back() {
    let mut api = Api::new(Some(ADMIN)).await;
    let new = r#"{"name": "page", "scope": "read", "tenant_id": "ann"}"#;
    let made = api.with_key(ADMIN, "POST", "/api/v1/keys", new).await;
    let key = made["key"].as_str().unwrap().to_owned();
    for _ in 0..10_000 {
        api.answers.text.clear();
        let answer = api.with_key(&key, "GET", CONFIG, "").await;
        if answer["status"] == 429 {
            break;
        }
    }
    api.stop.cancel();
    let waits = format!("{CHANGES}?since_id=0&wait=60");
    api.with_key(ADMIN, "GET", &waits, "").await;
    let mut other = AnyConnection::connect(&api.url).await.unwrap();
    for table in ["feed", "preferences"] {
        let rename = AssertSqlSafe(format!("ALTER TABLE {table} RENAME TO gone_{table}"));
        other.execute(rename).await.unwrap();
    }
    api.with_key(ADMIN, "GET", "/api/v1/feature-types", "")
        .await;
    api.get("/health/ready").await;
    insta::assert_snapshot!("unavailable", api.answers.text);
}
