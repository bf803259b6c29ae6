//! Agents and Config Databases of two versions beside each other. `tests/upgrades/wire` has what the client of the released version
//! asked and what the server of the released version answered, one exchange per file: this client reads those answers, and this
//! server answers those requests with all that was in them.

use std::{
    collections::BTreeMap,
    fs,
    path::{Path, PathBuf},
    sync::{Arc, Mutex},
    time::Duration,
};

use axum::{
    Router,
    body::{Body, to_bytes},
    extract::Request,
    http::Response,
};
use punctual_application::ports::{ConfigDatabase, Cursor};
use punctual_config_database::{Server, ServerSettings};
use punctual_domain::{ChangeKind, JobDefaults, JobId, PreferenceRecord};
use reqwest::{Client, Method};
use serde_json::{Value, json};
use tempfile::TempDir;

use crate::server::{client, feature, json as answer, serve, start, tenant, whole};

/// Members whose values differ from server to server, and from day to day.
const DIFFERENT: [&str; 5] = [
    "epoch",
    "updated_at",
    "changed_at",
    "erased_at",
    "schedule_since",
];

fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests/upgrades/wire")
}

/// The recorded exchanges, by the names of their files.
fn recorded() -> BTreeMap<String, Value> {
    let files = fs::read_dir(folder()).unwrap();
    let read = |path: PathBuf| {
        let name = path.file_stem().unwrap().to_str().unwrap().to_owned();
        let text = fs::read_to_string(path).unwrap();
        (name, serde_json::from_str(&text).unwrap())
    };
    files.map(|file| read(file.unwrap().path())).collect()
}

/// A Config Database with a tenant of its own preference, one of an organization, one that was removed, and one that was erased.
async fn server() -> (String, TempDir) {
    let folder = tempfile::tempdir().unwrap();
    let settings = ServerSettings {
        store_url: format!("sqlite://{}", folder.path().join("config.db").display()),
        addr: "127.0.0.1:0".parse().unwrap(),
        admin_key: None,
    };
    let server = Server::bind(settings).await.unwrap();
    let url = format!("http://{}", server.addr());
    tokio::spawn(server.serve(std::future::pending()));
    let of = |preference: Value| json!({"config_value": {"instagram_posts": preference}});
    let ann = of(
        json!({"enabled": true, "frequency": "daily", "preferred_time": "09:00",
        "timezone": "Europe/Berlin", "template_overrides": {"tone": "dry"}, "colour": "blue"}),
    );
    let weekly = of(
        json!({"enabled": true, "frequency": "weekly", "preferred_time": "08:00",
        "preferred_day": "monday"}),
    );
    let http = Client::new();
    for (path, body) in [
        ("tenants/ann/configs/feature_preferences", ann),
        ("tenants/cat/configs/feature_preferences", weekly.clone()),
        ("tenants/eve/configs/feature_preferences", weekly.clone()),
        ("tenants/bob/configs/feature_preferences", weekly),
        (
            "organizations/acme/configs/feature_preferences",
            of(json!({"timezone": "Asia/Tokyo"})),
        ),
        (
            "tenants/bob/configs/profile",
            json!({"config_value": {"organization_id": "acme"}}),
        ),
    ] {
        let put = http.put(format!("{url}/api/v1/{path}"));
        let answer = put.body(body.to_string()).send().await.unwrap();
        assert_eq!(answer.status(), 200, "{path}");
    }
    let removed = format!("{url}/api/v1/tenants/cat/configs/feature_preferences");
    let answer = http.delete(removed).send().await.unwrap();
    assert_eq!(answer.status(), 204);
    let erased = http.delete(format!("{url}/api/v1/tenants/eve"));
    let answer = erased.header("punctual-reason", "a test").send().await;
    assert_eq!(answer.unwrap().status(), 200);
    (url, folder)
}

/// What an agent does with its Config Database, and what it has learned from it.
async fn read(url: &str) -> Read {
    let snapshot = whole(&client(url)).await.unwrap();
    let beginning = Cursor {
        since_id: 0,
        ..snapshot.cursor.clone()
    };
    let agent = client(url);
    let page = agent
        .changes(&feature(), &beginning, Duration::ZERO)
        .await
        .unwrap();
    // Without what the pages of the snapshot have left in its memory.
    let tenants = [tenant("bob"), tenant("dora")];
    let found = client(url).preferences(&feature(), &tenants).await.unwrap();
    let erased = agent.erased(&feature()).await.unwrap();
    let jobs = BTreeMap::from([(JobId::new("posts").unwrap(), JobDefaults::default())]);
    agent.publish(&feature(), &jobs).await.unwrap();
    Read {
        snapshot: by_tenant(snapshot.records),
        cursor: snapshot.cursor,
        changes: page
            .changes
            .into_iter()
            .map(|change| (change.tenant_id.to_string(), change.kind))
            .collect(),
        after: page.cursor,
        found: by_tenant(found.into_values()),
        erased: erased
            .into_iter()
            .map(|erased| erased.tenant_id.to_string())
            .collect(),
    }
}

struct Read {
    snapshot: BTreeMap<String, PreferenceRecord>,
    cursor: Cursor,
    /// The last one of each tenant.
    changes: BTreeMap<String, ChangeKind>,
    after: Cursor,
    found: BTreeMap<String, PreferenceRecord>,
    erased: Vec<String>,
}

fn by_tenant(
    records: impl IntoIterator<Item = PreferenceRecord>,
) -> BTreeMap<String, PreferenceRecord> {
    let records = records.into_iter();
    let named = records.map(|record| (record.tenant_id.to_string(), record));
    named.collect()
}

#[tokio::test]
async fn this_client_reads_what_the_released_server_answered() {
    let exchanges = recorded();
    let answers: Vec<(String, String, Value)> = exchanges
        .into_values()
        .map(|exchange| {
            let word = |name: &str| exchange["request"][name].as_str().unwrap().to_owned();
            let path = word("path");
            let path = path.split('?').next().unwrap_or_default().to_owned();
            (word("method"), path, exchange)
        })
        .collect();
    let (url, calls) = start(move |request| {
        let asked = |(method, path, _): &&(String, String, Value)| {
            request.method() == method.as_str() && request.uri().path() == path
        };
        let Some((_, _, exchange)) = answers.iter().find(asked) else {
            return answer(
                500,
                &json!({"detail": "the released server was not asked this"}),
            );
        };
        let status = u16::try_from(exchange["status"].as_u64().unwrap()).unwrap();
        match &exchange["answer"] {
            Value::Null => Response::builder()
                .status(status)
                .body(Body::empty())
                .unwrap(),
            body => answer(status, body),
        }
    })
    .await;

    let read = read(&url).await;
    assert_eq!(read.snapshot.keys().collect::<Vec<_>>(), ["ann", "bob"]);
    let (ann, bob) = (&read.snapshot["ann"], &read.snapshot["bob"]);
    for (name, value) in [
        ("enabled", json!(true)),
        ("frequency", json!("daily")),
        ("preferred_time", json!("09:00")),
        ("timezone", json!("Europe/Berlin")),
        ("template_overrides", json!({"tone": "dry"})),
        ("colour", json!("blue")),
    ] {
        assert_eq!(ann.preference.get(name), Some(&value), "{name}");
    }
    assert!(ann.updated_at.is_some() && ann.schedule_since.is_some());
    assert!(ann.organization.is_none());
    let of_acme = |record: &PreferenceRecord| {
        let organization = record.organization.as_ref().unwrap();
        assert_eq!(organization.id.to_string(), "acme");
        assert_eq!(organization.fields, ["timezone"]);
        assert_eq!(record.preference["timezone"], "Asia/Tokyo");
        assert_eq!(record.preference["preferred_day"], "monday");
    };
    of_acme(bob);
    assert_eq!(read.found.keys().collect::<Vec<_>>(), ["bob"]);
    of_acme(&read.found["bob"]);
    assert_eq!(read.changes["cat"], ChangeKind::Deleted);
    assert_eq!(read.changes["eve"], ChangeKind::Erased);
    assert_eq!(read.erased, ["eve"]);
    for (tenant, record) in &read.snapshot {
        let ChangeKind::Upserted(changed) = &read.changes[tenant] else {
            panic!("{tenant} is removed");
        };
        for (name, value) in changed.iter() {
            assert_eq!(record.preference.get(name), Some(value), "{tenant}: {name}");
        }
    }
    assert_eq!(read.after, read.cursor, "nothing has changed since");
    let calls = calls.lock().unwrap();
    assert!(calls.iter().any(|call| call.starts_with("PUT ")));
}

/// What of `recorded` is not in `today`. More is allowed.
fn missing(place: &str, recorded: &Value, today: &Value) -> Vec<String> {
    match (recorded, today) {
        (Value::Object(recorded), Value::Object(today)) => {
            let members = recorded.iter().flat_map(|(name, value)| {
                let place = format!("{place}/{name}");
                match today.get(name) {
                    None => vec![format!("{place} is missing")],
                    Some(other) if DIFFERENT.contains(&name.as_str()) => {
                        let same_kind =
                            std::mem::discriminant(value) == std::mem::discriminant(other);
                        let problem = || format!("{place} is {other}, and was {value}");
                        (!same_kind).then(problem).into_iter().collect()
                    }
                    Some(other) => missing(&place, value, other),
                }
            });
            members.collect()
        }
        (Value::Array(recorded), Value::Array(today)) if recorded.len() == today.len() => {
            let elements = recorded.iter().zip(today).enumerate();
            elements
                .flat_map(|(index, (value, other))| {
                    missing(&format!("{place}/{index}"), value, other)
                })
                .collect()
        }
        (recorded, today) if recorded == today => Vec::new(),
        (recorded, today) => vec![format!("{place} is {today}, and was {recorded}")],
    }
}

#[test]
fn what_a_server_no_longer_answers_is_found_and_what_it_adds_is_not() {
    let recorded = json!({"a": [{"b": 1, "epoch": "x"}], "c": null});
    let found = |today: Value| missing("", &recorded, &today);
    let more = json!({"a": [{"b": 1, "epoch": "y", "d": 2}], "c": null, "e": true});
    assert_eq!(found(more), [""; 0]);
    for (today, problem) in [
        (json!({"a": [{"b": 1, "epoch": "x"}]}), "/c is missing"),
        (
            json!({"a": [{"epoch": "x"}], "c": null}),
            "/a/0/b is missing",
        ),
        (
            json!({"a": [{"b": "1", "epoch": "x"}], "c": null}),
            "/a/0/b is \"1\", and was 1",
        ),
        (
            json!({"a": [{"b": 1, "epoch": 7}], "c": null}),
            "/a/0/epoch is 7, and was \"x\"",
        ),
        (
            json!({"a": [], "c": null}),
            "/a is [], and was [{\"b\":1,\"epoch\":\"x\"}]",
        ),
    ] {
        assert_eq!(found(today), [problem]);
    }
}

#[tokio::test]
async fn this_server_answers_what_the_released_client_asked() {
    let (url, _folder) = server().await;
    let http = Client::new();
    let exchanges = recorded();
    assert!(exchanges.len() >= 6, "{:?}", exchanges.keys());
    for (name, exchange) in exchanges {
        let request = &exchange["request"];
        let method: Method = request["method"].as_str().unwrap().parse().unwrap();
        let path = request["path"].as_str().unwrap();
        let mut call = http.request(method, format!("{url}{path}"));
        if !request["body"].is_null() {
            call = call
                .header("content-type", "application/json")
                .body(request["body"].to_string());
        }
        let answer = call.send().await.unwrap();
        assert_eq!(answer.status().as_u16(), exchange["status"], "{name}");
        // The words of a refusal may change.
        if exchange["status"] == 200 {
            let today: Value = answer.json().await.unwrap();
            let missing = missing("", &exchange["answer"], &today);
            assert!(missing.is_empty(), "{name}: {missing:#?}");
        }
    }
}

/// The name of an exchange's file.
fn name_of(method: &Method, path: &str) -> &'static str {
    match path.rsplit('/').next() {
        Some("groups") => "groups",
        Some("changes") => "changes",
        Some("erased") => "erased",
        Some("jobs") if *method == Method::PUT => "publish_jobs",
        _ if path.contains("/bob/") => "tenant",
        _ => "unknown_tenant",
    }
}

#[ignore = "writes tests/upgrades/wire anew, for a release"]
#[tokio::test]
async fn record_wire() {
    let (server, _folder) = server().await;
    let exchanges: Arc<Mutex<BTreeMap<&str, Value>>> = Arc::default();
    let http = Client::new();
    let written = Arc::clone(&exchanges);
    // Passes each request on, and notes it with its answer.
    let router = Router::new().fallback(move |request: Request| {
        let (http, server, written) = (http.clone(), server.clone(), Arc::clone(&written));
        async move {
            let (parts, body) = request.into_parts();
            let body = to_bytes(body, usize::MAX).await.unwrap();
            let path = parts.uri.to_string();
            let mut call = http.request(parts.method.clone(), format!("{server}{path}"));
            let mut asked = json!({"method": parts.method.as_str(), "path": path, "body": null});
            if !body.is_empty() {
                asked["body"] = serde_json::from_slice(&body).unwrap();
                call = call
                    .header("content-type", "application/json")
                    .body(body.to_vec());
            }
            let answered = call.send().await.unwrap();
            let status = answered.status().as_u16();
            let text = answered.text().await.unwrap();
            let content: Value = serde_json::from_str(&text).unwrap_or_default();
            let name = name_of(&parts.method, parts.uri.path());
            let exchange = json!({"request": asked, "status": status, "answer": content});
            written.lock().unwrap().insert(name, exchange);
            Response::builder()
                .status(status)
                .header("content-type", "application/json")
                .body(Body::from(text))
                .unwrap()
        }
    });
    read(&serve(router).await).await;
    for (name, exchange) in exchanges.lock().unwrap().iter() {
        let text = serde_json::to_string_pretty(exchange).unwrap();
        fs::write(folder().join(format!("{name}.json")), text + "\n").unwrap();
    }
}
