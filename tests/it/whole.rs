//! The whole in one process: reference Config Database, client, scheduler, queue, processor and a handler of
//! one's own, over real HTTP and a real `SQLite` file, put together as an embedder would.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex},
    time::Duration,
};

use async_trait::async_trait;
use chrono::TimeDelta;
use punctual_application::{
    BatchProcessor, EnhancedBatchProcessor, Handlers, Limits, RetryPolicy,
    ports::{
        ConfigDatabase, ConfigErrorKind, Cursor, HandlerError, MockItemSource, PurposeHandler,
        SystemClock,
    },
};
use punctual_config_database::{ConfigStore, Server, ServerSettings};
use punctual_domain::{ChangeKind, FeatureType, Item, Outcome, PurposeId, TenantId, Zone};
use punctual_infrastructure::{
    BatchScheduler, ClientOptions, ConfigDatabaseClient, DynamicBatchScheduler, SchedulerOptions,
    Worker,
};
use punctual_store::Store;
use reqwest::Client;
use serde_json::{Value, json};
use tempfile::TempDir;
use tokio_util::sync::CancellationToken;

struct ConfigServer {
    url: String,
    store: ConfigStore,
    stop: CancellationToken,
}

async fn config_server(folder: &TempDir) -> ConfigServer {
    let settings = ServerSettings {
        store_url: format!("sqlite://{}", folder.path().join("config.db").display()),
        addr: "127.0.0.1:0".parse().unwrap(),
        admin_key: Some("key".into()),
    };
    let server = Server::bind(settings).await.unwrap();
    let (url, store) = (format!("http://{}", server.addr()), server.store().clone());
    let stop = CancellationToken::new();
    tokio::spawn(server.serve(stop.clone().cancelled_owned()));
    ConfigServer { url, store, stop }
}

impl ConfigServer {
    async fn put(&self, tenant: &str, feature: &str, preference: Value) {
        let body = json!({"config_value": {feature: preference}}).to_string();
        let url = format!(
            "{}/api/v1/tenants/{tenant}/configs/feature_preferences",
            self.url
        );
        let response = Client::new()
            .put(url)
            .bearer_auth("key")
            .body(body)
            .send()
            .await
            .unwrap();
        assert_eq!(response.status(), 200);
    }

    fn client(&self) -> ConfigDatabaseClient {
        let options = ClientOptions {
            api_key: Some("key".into()),
            attempts: 1,
            ..ClientOptions::new(&self.url)
        };
        ConfigDatabaseClient::new(options).unwrap()
    }
}

fn feature(name: &str) -> FeatureType {
    FeatureType::new(name).unwrap()
}

fn daily(tone: &str) -> Value {
    json!({"enabled": true, "frequency": "daily", "preferred_time": "09:00", "channel": "reels",
           "template_overrides": {"tone": tone}})
}

#[tokio::test]
async fn client_and_reference_server_understand_each_other() {
    let folder = tempfile::tempdir().unwrap();
    let server = config_server(&folder).await;
    for (tenant, tone) in [("a", "dry"), ("b", "bold")] {
        server.put(tenant, "posts", daily(tone)).await;
    }
    server.put("off", "posts", json!({"enabled": false})).await;
    let client = server.client();
    let posts = feature("posts");

    let snapshot = client.snapshot(&posts).await.unwrap();
    let snapshot = snapshot.collect().await.unwrap();
    let tones: BTreeMap<&str, &Value> = snapshot
        .records
        .iter()
        .map(|record| {
            (
                record.tenant_id.as_str(),
                &record.preference["template_overrides"]["tone"],
            )
        })
        .collect();
    assert_eq!(
        tones,
        BTreeMap::from([("a", &json!("dry")), ("b", &json!("bold"))])
    );
    assert_eq!(
        snapshot.records[0].preference["channel"], "reels",
        "unknown fields pass through"
    );
    assert!(snapshot.records[0].updated_at.is_some());
    assert!(snapshot.cursor.epoch.is_some() && snapshot.cursor.since_id == 3);

    // A held call brings the change at once, with the preference as a fresh snapshot would.
    let change = async {
        tokio::time::sleep(Duration::from_millis(100)).await;
        server.put("a", "posts", daily("warm")).await;
    };
    let (page, ()) = tokio::join!(
        client.changes(&posts, &snapshot.cursor, Duration::from_secs(30)),
        change
    );
    let page = page.unwrap();
    let ChangeKind::Upserted(preference) = &page.changes[0].kind else {
        panic!("{page:?}")
    };
    let again = client.snapshot(&posts).await.unwrap();
    let again = again.collect().await.unwrap();
    let record = again
        .records
        .iter()
        .find(|record| record.tenant_id.as_str() == "a")
        .unwrap();
    assert_eq!(
        preference["template_overrides"],
        record.preference["template_overrides"]
    );
    assert_eq!(
        page.changes[0].changed_at, record.updated_at,
        "feed and snapshot tell the same moment"
    );
    assert_eq!((page.cursor.since_id, page.waited), (4, true));

    // The single read agrees, and a tenant who is off is known, not missing.
    let ids = ["a", "off", "unknown"].map(|id| TenantId::new(id).unwrap());
    let known = server.client().preferences(&posts, &ids).await.unwrap();
    assert_eq!(
        (known.len(), &known[&ids[1]].preference["enabled"]),
        (2, &json!(false))
    );

    let ahead = Cursor {
        since_id: 99,
        ..snapshot.cursor
    };
    let lost = client
        .changes(&posts, &ahead, Duration::ZERO)
        .await
        .unwrap_err();
    assert_eq!(lost.kind, ConfigErrorKind::CursorLost);
    server.stop.cancel();
}

#[tokio::test]
async fn a_snapshot_of_many_pages_is_whole() {
    let folder = tempfile::tempdir().unwrap();
    let server = config_server(&folder).await;
    let lines: Vec<String> = (0..12_345)
        .map(|n| {
            json!({"tenant_id": format!("t{n}"), "config_value": {"posts": daily("dry")}})
                .to_string()
        })
        .collect();
    let import = Client::new()
        .post(format!("{}/api/v1/preferences/import", server.url))
        .bearer_auth("key")
        .body(lines.join("\n"))
        .send()
        .await
        .unwrap();
    assert_eq!(import.json::<Value>().await.unwrap()["imported"], 12_345);
    let snapshot = server.client().snapshot(&feature("posts")).await.unwrap();
    let snapshot = snapshot.collect().await.unwrap();
    let ids: std::collections::BTreeSet<_> = snapshot
        .records
        .iter()
        .map(|record| &record.tenant_id)
        .collect();
    assert_eq!((ids.len(), snapshot.records.len()), (12_345, 12_345));
    server.stop.cancel();
}

/// A handler of one's own: notes who it ran for, with what.
#[derive(Clone, Default)]
struct Notebook(Arc<Mutex<Vec<(String, Value)>>>);

#[async_trait]
impl PurposeHandler for Notebook {
    async fn run(&self, item: &Item) -> Result<Outcome, HandlerError> {
        let noted = (item.item_id.to_string(), json!(item.overrides()));
        self.0.lock().unwrap().push(noted);
        Ok(json!("noted").into())
    }
}

/// Puts the parts together over what the server holds, and runs them until `done`.
async fn run(
    folder: &TempDir,
    server: &ConfigServer,
    handler: impl PurposeHandler + 'static,
    (max_concurrent_items, chunk_size): (usize, usize),
    done: impl Future<Output = ()>,
) {
    let config = json!({"jobs": [{
        "job_id": "posts", "type": "individual_batch", "purpose_id": "note", "preference_based": true,
        "feature_type": "posts", "default_preferences": {"template_overrides": {"length": "short"}}
    }]});
    let config = Arc::new(punctual_project::parse_batch_config(&config, &Zone::utc()).unwrap());
    let mut handlers = Handlers::default();
    handlers.bind(
        PurposeId::new("note").unwrap(),
        Arc::new(handler),
        Handlers::DEFAULT_TIMEOUT,
    );
    let store = Store::open(&format!(
        "sqlite://{}",
        folder.path().join("punctual.db").display()
    ))
    .await
    .unwrap();
    let (clock, items) = (Arc::new(SystemClock), Arc::new(MockItemSource::new()));
    let client = Arc::new(server.client());
    let stop = CancellationToken::new();
    let processor = EnhancedBatchProcessor::new(
        BatchProcessor::new(handlers, store.batches(), clock.clone()),
        client.clone(),
        items.clone(),
        config.clone(),
        Zone::utc(),
        Limits {
            max_concurrent_items,
            retry: RetryPolicy::new(0, || 0.5),
        },
        stop.clone(),
    );
    let options = SchedulerOptions {
        chunk_size,
        look_back: TimeDelta::hours(24),
    };
    let base = BatchScheduler::new(config, items, store.queue(), clock, options);
    let scheduler = DynamicBatchScheduler::new(
        base,
        client,
        Duration::from_secs(1),
        &Zone::utc(),
        fastrand::f64,
    );
    let running = tokio::spawn(scheduler.run(stop.clone()));
    let worker = Worker::new(store.chunks(), store.queue(), processor);
    let working = tokio::spawn(worker.run(stop.clone()));
    tokio::time::timeout(Duration::from_secs(30), done)
        .await
        .unwrap();
    stop.cancel();
    running.await.unwrap();
    working.await.unwrap();
    server.stop.cancel();
}

impl Notebook {
    async fn has(&self, notes: usize) {
        while self.0.lock().unwrap().len() < notes {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }
}

/// Stores preferences as of long ago, so that a look-back finds a time at which they fell due.
async fn import(folder: &TempDir, server: &ConfigServer, preferences: &[(String, Value)]) {
    let line = |(tenant, preference): &(String, Value)| {
        json!({"tenant_id": tenant, "updated_at": "2026-01-01T00:00:00Z", "config_value": {"posts": preference}}).to_string()
    };
    let lines: Vec<String> = preferences.iter().map(line).collect();
    let file = folder.path().join("preferences.ndjson");
    std::fs::write(&file, lines.join("\n")).unwrap();
    server.store.import_file(&file).await.unwrap();
}

#[tokio::test]
async fn preferences_become_runs_through_every_real_part() {
    let folder = tempfile::tempdir().unwrap();
    let server = config_server(&folder).await;
    let chosen = [("a", "dry"), ("b", "bold")].map(|(id, tone)| (id.to_owned(), daily(tone)));
    import(&folder, &server, &chosen).await;
    let notebook = Notebook::default();
    run(&folder, &server, notebook.clone(), (4, 1), notebook.has(2)).await;
    let mut noted = notebook.0.lock().unwrap().clone();
    noted.sort_by(|a, b| a.0.cmp(&b.0));
    let with = |tone: &str| json!({"length": "short", "tone": tone});
    assert_eq!(
        noted,
        [
            ("a".to_owned(), with("dry")),
            ("b".to_owned(), with("bold"))
        ]
    );
}

/// Takes so long for each that the store notes it as running, while results of others are committed.
#[derive(Clone, Default)]
struct Slow(Notebook);

#[async_trait]
impl PurposeHandler for Slow {
    async fn run(&self, item: &Item) -> Result<Outcome, HandlerError> {
        let n: u64 = item.item_id.as_str().parse().unwrap();
        tokio::time::sleep(Duration::from_millis(900 + n * 7 % 300)).await;
        self.0.run(item).await
    }
}

#[tokio::test]
async fn long_calls_do_not_keep_each_others_results_waiting() {
    let folder = tempfile::tempdir().unwrap();
    let server = config_server(&folder).await;
    let chosen: Vec<_> = (0..150).map(|n| (n.to_string(), daily("dry"))).collect();
    import(&folder, &server, &chosen).await;
    let slow = Slow::default();
    // Six rounds of about a second.
    run(&folder, &server, slow.clone(), (25, 500), slow.0.has(150)).await;
    let mut ran = slow.0.0.lock().unwrap().clone();
    ran.sort_by(|a, b| a.0.cmp(&b.0));
    ran.dedup_by(|a, b| a.0 == b.0);
    assert_eq!((ran.len(), slow.0.0.lock().unwrap().len()), (150, 150));
}
