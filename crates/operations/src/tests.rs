//! Snapshots of what callers see: the description of the API, every response and every kind of error. They are reviewed
//! with `cargo insta review`, or written anew with `INSTA_UPDATE=always`.

use std::{
    net::SocketAddr,
    sync::{
        Mutex,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    time::Duration,
};

use axum::{
    body::{Body, BodyDataStream},
    extract::ConnectInfo,
};
use futures::StreamExt;
use punctual_application::{
    Handlers, SchedulerStatus, StatusHandle,
    ports::{MockBatchReader, MockPurposeHandler, Rendered, StoreError, StoreErrorKind},
    testing::{self, FakeConfigDatabase, FakeStore, record},
};
use punctual_domain::{Batch, BatchStatus, ItemStatus, JobId, Outcome, PurposeId, Trigger, Zone};
use punctual_web::testing::Answers;
use serde_json::{Value, json};
use tokio::{
    sync::watch,
    time::{sleep, timeout},
};
use tower::ServiceExt;
use uuid::Uuid;

use super::*;

mod operators;
pub(crate) mod waiting;

pub(crate) const NOW: &str = "2026-03-01T09:00:00Z";

#[test]
fn the_description_of_the_api() {
    insta::assert_json_snapshot!("openapi", description());
}

#[test]
fn every_reference_of_the_description_leads_to_a_schema() {
    let description = json!(description()).to_string();
    for reference in description.split("\"#/components/schemas/").skip(1) {
        let (name, _) = reference.split_once('"').unwrap();
        assert!(description.contains(&format!("\"{name}\":{{")), "{name}");
    }
}

#[test]
fn only_what_is_public_of_an_address_is_shown() {
    for (address, shown) in [
        ("http://127.0.0.1:8000", Some("http://127.0.0.1:8000")),
        ("https://me:key@[::1]:8/a/?key=k", Some("https://[::1]:8/a")),
        ("https://config.example/", Some("https://config.example")),
        (
            "https://config.example/api/v1/",
            Some("https://config.example"),
        ),
        (
            "https://config.example/shop/api/v1",
            Some("https://config.example/shop"),
        ),
        ("javascript:alert(1)", None),
        ("ftp://config.example", None),
        ("config.example", None),
        ("/tenants", None),
        ("", None),
    ] {
        assert_eq!(public_address(address).as_deref(), shown, "{address}");
    }
}

#[test]
fn a_loopback_address_is_shown_to_pages_at_one() {
    for (address, host, reachable) in [
        ("http://127.0.0.1:8000", "127.0.0.1:8080", true),
        ("http://[::1]:8000/shop", "localhost:8080", true),
        ("http://localhost", "[::1]:8080", true),
        ("http://127.0.0.1:8000", "agent.example", false),
        ("http://localhost:8000", "10.0.0.1:8080", false),
        ("https://config.example", "agent.example", true),
        ("https://config.example", "127.0.0.1", true),
    ] {
        let headers = HeaderMap::from_iter([(HOST, host.parse().unwrap())]);
        assert_eq!(
            is_reachable(address, &headers),
            reachable,
            "{address} {host}"
        );
    }
    assert!(!is_reachable("http://127.0.0.1", &HeaderMap::new()));
}

/// An operator of two jobs: `posts` serves Ann at 9:00 each day and cannot use what Bad has stored, `report` has a schedule
/// of its own.
pub(crate) fn operator(store: &Arc<FakeStore>) -> Operator {
    let jobs = json!({"jobs": [
        {"job_id": "posts", "type": "individual_batch", "purpose_id": "post", "preference_based": true,
         "feature_type": "posts"},
        {"job_id": "report", "type": "object_batch", "purpose_id": "report", "priority": "high",
         "schedule": {"frequency": "daily", "preferred_time": "06:00"}, "source": {"file": "products.csv"}},
    ]});
    let jobs = punctual_project::parse_batch_config(&jobs, &Zone::utc()).unwrap();
    let preferences = FakeConfigDatabase::default();
    let daily = json!({"enabled": true, "frequency": "daily"});
    let off = json!({"enabled": false, "frequency": "daily"});
    preferences.put(record("ann", daily.clone()));
    preferences.put(record("off", off));
    let mut handlers = Handlers::default();
    let purpose = PurposeId::new("post").unwrap();
    let mut handler = MockPurposeHandler::new();
    handler.expect_preview().returning(|item, _| {
        Ok(Some(Rendered {
            text: Some(format!("Hello {}", item.item_id)),
            ..Rendered::default()
        }))
    });
    handler.expect_completed().returning(Outcome::Done);
    handlers.bind(purpose, Arc::new(handler), Handlers::DEFAULT_TIMEOUT);
    let operator = Operator {
        preferences: Arc::new(preferences),
        handlers,
        ..testing::operator(store, jobs, NOW)
    };
    let operator = testing::with_own_processor(operator, store);
    let broken = json!({"enabled": true, "frequency": "daily", "preferred_time": "nine"});
    let records = [record("ann", daily), record("bad", broken)];
    testing::schedule(&operator, &JobId::new("posts").unwrap(), &records);
    operator
}

/// The API, and what it has answered.
struct Api {
    answers: Answers,
    status: StatusHandle,
    operator: Operator,
    store: Arc<FakeStore>,
    stop: CancellationToken,
}

impl Api {
    fn new(key: Option<&str>) -> Self {
        let store: Arc<FakeStore> = Arc::default();
        let operator = operator(&store);
        let (status, stop) = (operator.status.clone(), CancellationToken::new());
        let router = Operations {
            operator: operator.clone(),
            stop: stop.clone(),
            access: key.map_or(Access::this_machine("BATCH_API_KEY"), |key| {
                let address = SocketAddr::from(([127, 0, 0, 1], 8080));
                Access::key(key.into(), address).unwrap()
            }),
            sign_in: SignIn::default(),
            metrics: None,
            words: Words::default(),
            config_database: None,
        }
        .router();
        Self {
            answers: Answers::of(router, str::to_owned),
            status,
            operator,
            store,
            stop,
        }
    }

    async fn call(&mut self, method: &str, path: &str, body: &str) -> Value {
        // Nothing happens at one instant, so that lists have one order.
        tokio::time::sleep(std::time::Duration::from_secs(1)).await;
        self.answers.call(method, path, &[], body).await
    }

    async fn call_because(&mut self, method: &str, path: &str, reason: &str) -> Value {
        tokio::time::sleep(std::time::Duration::from_secs(1)).await;
        let headers = [("punctual-reason", reason)];
        self.answers.call(method, path, &headers, "").await
    }

    async fn get(&mut self, path: &str) -> Value {
        self.call("GET", path, "").await
    }

    async fn post(&mut self, path: &str, body: Value) -> Value {
        self.call("POST", path, &body.to_string()).await
    }

    /// Has all that is queued end so.
    async fn end(&self, status: ItemStatus) {
        self.store.end_all(status, NOW.parse().unwrap()).await;
    }
}

#[tokio::test(start_paused = true)]
async fn every_response() {
    let mut api = Api::new(None);
    for path in [
        "/health/live",
        "/version",
        "/health/ready",
        "/api/v1/findings",
        "/api/v1/deliveries",
        "/api/v1/jobs",
        "/api/v1/jobs/report",
        "/api/v1/schedule/upcoming?hours=24",
        "/api/v1/quarantine",
        "/api/v1/waiting",
        "/api/v1/restore",
        "/api/v1/zones",
        "/api/v1/zones/schedules?zone=utc",
    ] {
        api.get(path).await;
    }
    let backfill =
        |preview: bool| json!({"from": "2026-02-27", "to": "2026-02-28", "preview": preview});
    api.post("/api/v1/jobs/posts/backfill", backfill(true))
        .await;
    api.post("/api/v1/jobs/posts/backfill", backfill(false))
        .await;
    api.end(ItemStatus::Succeeded).await;
    let queued = api.post("/api/v1/jobs/posts/trigger", json!({"tenants": ["ann"]}));
    let failing = queued.await["batch_id"].as_str().unwrap().to_owned();
    api.end(ItemStatus::Failed).await;
    let queued = api
        .post("/api/v1/jobs/posts/trigger", json!({"all": true}))
        .await;
    let cancelled = queued["batch_id"].as_str().unwrap().to_owned();
    api.call("POST", &format!("/api/v1/batches/{cancelled}/cancel"), "")
        .await;
    api.get("/api/v1/batches?limit=1").await;
    api.get(&format!("/api/v1/batches/{failing}")).await;
    api.get(&format!("/api/v1/batches/{failing}/results")).await;
    api.get("/api/v1/tenants/ann/runs?limit=1").await;
    api.get("/api/v1/tenants/ann/features/posts/runs?limit=2")
        .await;
    for tenant in ["ann", "bad", "off", "never"] {
        api.get(&format!(
            "/api/v1/tenants/{tenant}/explain?job_id=posts&date=2026-03-02"
        ))
        .await;
    }
    api.get("/api/v1/dead-letters").await;
    api.post("/api/v1/dead-letters/replay", json!({"ids": [1, 7]}))
        .await;
    api.end(ItemStatus::Failed).await;
    api.post("/api/v1/dead-letters/discard", json!({"all": true}))
        .await;
    api.post("/api/v1/dead-letters/reopen", json!({"all": true}))
        .await;
    let findings = api.get("/api/v1/findings").await;
    let finding = &findings["findings"][0];
    let known = json!({"id": finding["id"], "state": finding["state"]});
    api.post("/api/v1/findings/acknowledge", known).await;
    api.get("/api/v1/deliveries?failed=true").await;
    api.call("POST", "/api/v1/jobs/posts/pause", "").await;
    api.get("/health/ready").await;
    api.call("POST", "/api/v1/jobs/posts/resume", "").await;
    let complained =
        json!({"addresses": ["Ann+shop@Shop.example", "bob@shop.example"], "reason": "complained"});
    api.post("/api/v1/suppressions", complained).await;
    api.get("/api/v1/suppressions?limit=1").await;
    api.get("/api/v1/retention").await;
    api.call("DELETE", "/api/v1/suppressions/ann%2Bshop@shop.example", "")
        .await;
    api.get("/api/v1/audit-log?limit=2").await;
    api.get("/api/v1/audit-log?action=acknowledge").await;
    api.post("/api/v1/jobs/posts/trigger", json!({"tenants": ["ann"]}))
        .await;
    api.status.publish(SchedulerStatus::default());
    api.get("/health/ready").await;
    api.post("/api/v1/jobs/posts/preview", json!({"tenant_id": "ann"}))
        .await;
    api.get("/api/v1/tenants/ann/export").await;
    api.call_because("DELETE", "/api/v1/tenants/ann", "request 7")
        .await;
    api.get("/api/v1/tenants/ann/export").await;
    api.get("/api/v1/audit-log?action=erase_tenant").await;
    // What is not over is sent at once, before the end.
    api.stop.cancel();
    api.get("/api/v1/events").await;
    insta::assert_snapshot!("responses", api.answers.text);
}

#[tokio::test(start_paused = true)]
async fn an_agent_that_stops_is_not_ready_and_says_so() {
    let mut api = Api::new(None);
    let reasons = |ready: &Value| ready["reasons"].as_array().unwrap().clone();
    let before = reasons(&api.get("/health/ready").await);
    api.stop.cancel();
    let ready = api.get("/health/ready").await;
    assert_eq!(ready["status"], "not ready");
    let after = reasons(&ready);
    let first = after[0].as_str().unwrap();
    assert!(first.starts_with("the agent stops: "), "{first}");
    assert_eq!(after[1..], before);
    assert!(api.answers.text.contains("503"), "{}", api.answers.text);
}

#[tokio::test(start_paused = true)]
async fn every_kind_of_error() {
    let mut api = Api::new(None);
    for path in [
        "/api/v1/nothing",
        "/api/v1/jobs/nothing",
        "/api/v1/jobs/a%20b",
        "/api/v1/batches/seven",
        "/api/v1/batches/6ba7b811-9dad-11d1-80b4-00c04fd430c8",
        "/api/v1/batches?status=done",
        "/api/v1/batches?cursor=%21",
        "/api/v1/batches?limit=many",
        "/api/v1/suppressions?cursor=x",
        "/api/v1/tenants/a%20b/runs",
        "/api/v1/tenants/ann/features/a%20b/runs",
        "/api/v1/tenants/a%20b/export",
        "/api/v1/tenants/ann/explain",
        "/api/v1/tenants/ann/explain?job_id=posts&date=monday",
        "/api/v1/zones/schedules?zone=Berlin",
    ] {
        api.get(path).await;
    }
    api.call("DELETE", "/api/v1/jobs", "").await;
    api.call("DELETE", "/api/v1/suppressions/ann@shop.example", "")
        .await;
    api.call("DELETE", "/api/v1/suppressions/ann", "").await;
    api.call("DELETE", "/api/v1/tenants/a%20b", "").await;
    for (path, body) in [
        (
            "suppressions",
            json!({"addresses": ["a b@shop.example"], "reason": "complained"}),
        ),
        (
            "suppressions",
            json!({"addresses": [], "reason": "complained"}),
        ),
        (
            "suppressions",
            json!({"addresses": ["ann@shop.example"], "reason": ""}),
        ),
        ("restore", json!({"choice": "ask"})),
        ("restore", json!({"choice": "skip"})),
        ("jobs/posts/trigger", json!({"tenants": []})),
        (
            "jobs/posts/trigger",
            json!({"tenants": ["ann"], "all": true}),
        ),
        ("jobs/posts/trigger", json!({"tenants": ["never"]})),
        ("jobs/posts/trigger", json!({"tenant": "ann"})),
        ("jobs/posts/preview", json!({})),
        ("jobs/none/preview", json!({"tenant_id": "ann"})),
        ("jobs/posts/backfill", json!({"from": "2026-02-27"})),
        (
            "jobs/posts/backfill",
            json!({"from": "2026-02-28", "to": "2026-02-27"}),
        ),
        (
            "jobs/posts/backfill",
            json!({"from": "2026-04-01", "to": "2026-04-02"}),
        ),
        ("dead-letters/replay", json!({"ids": []})),
        (
            "dead-letters/replay",
            json!({"all": true, "job_id": "posts"}),
        ),
        ("dead-letters/replay", json!({"ids": [7]})),
        ("dead-letters/seven/discard", json!({})),
        ("dead-letters/reopen", json!({"ids": [7]})),
        ("deliveries/deliver-again", json!({})),
        ("deliveries/deliver-again", json!({"all": true})),
        (
            "findings/acknowledge",
            json!({"id": "store", "state": "6ba7b811-9dad-11d1-80b4-00c04fd430c8"}),
        ),
        (
            "batches/6ba7b811-9dad-11d1-80b4-00c04fd430c8/cancel",
            json!({}),
        ),
    ] {
        api.post(&format!("/api/v1/{path}"), body).await;
    }
    let mut keyed = Api::new(Some("an-operators-key-of-32-characters"));
    keyed.get("/api/v1/jobs").await;
    insta::assert_snapshot!("errors", api.answers.text + &keyed.answers.text);
}

/// A reader of batches that counts how often it is asked.
#[derive(Default)]
struct CountingReader {
    batches: Mutex<Vec<Batch>>,
    reads: AtomicUsize,
    fails: AtomicBool,
    changes: watch::Sender<()>,
}

impl CountingReader {
    fn port(self: &Arc<Self>) -> MockBatchReader {
        let mut port = MockBatchReader::new();
        let changes = self.changes.clone();
        port.expect_changes().returning(move || changes.subscribe());
        let reader = Arc::clone(self);
        port.expect_batches().returning(move |filter, _| {
            let read = reader.read()?;
            let wanted = |batch: &&Batch| filter.status.is_none_or(|status| status == batch.status);
            Ok((read.iter().filter(wanted).cloned().collect(), None))
        });
        let reader = Arc::clone(self);
        port.expect_dead_letters().returning(move |_, _| {
            reader.read()?;
            Ok((vec![], None))
        });
        port
    }

    fn read(&self) -> Result<Vec<Batch>, StoreError> {
        self.reads.fetch_add(1, Ordering::Relaxed);
        if self.fails.load(Ordering::Relaxed) {
            return Err(StoreError::new(StoreErrorKind::Unavailable, "locked"));
        }
        Ok(self.batches.lock().unwrap().clone())
    }

    fn reads(&self) -> usize {
        self.reads.load(Ordering::Relaxed)
    }

    fn queue(&self, slot: &str) {
        let mut batches = self.batches.lock().unwrap();
        let number = batches.len() as u128 + 1;
        batches.push(Batch {
            batch_id: Uuid::from_u128(number),
            job_id: JobId::new("posts").unwrap(),
            slot: slot.to_owned(),
            scheduled_at: NOW.parse().unwrap(),
            trigger: Trigger::Schedule,
            status: BatchStatus::Queued,
            total: 1,
            succeeded: 0,
            failed: 0,
            replayed: 0,
            skipped: 0,
            nothing_to_do: 0,
            waiting: 0,
            created_at: NOW.parse().unwrap(),
            finished_at: None,
        });
    }
}

/// A stream that a client has open.
struct OpenStream(BodyDataStream);

impl OpenStream {
    async fn at(router: &Router, path: &str) -> Self {
        let peer = ConnectInfo(SocketAddr::from(([127, 0, 0, 1], 9)));
        let request = Request::get(path).header("host", "localhost");
        let request = request.extension(peer).body(Body::empty()).unwrap();
        let Ok(response) = router.clone().oneshot(request).await;
        Self(response.into_body().into_data_stream())
    }

    /// Whether an event with this text comes within `seconds`.
    async fn shows(&mut self, text: &str, seconds: f64) -> bool {
        let shown = async {
            loop {
                let piece = self.0.next().await.expect("no end").unwrap();
                if String::from_utf8_lossy(&piece).contains(text) {
                    return;
                }
            }
        };
        timeout(Duration::from_secs_f64(seconds), shown)
            .await
            .is_ok()
    }
}

async fn open_streams_wait_for_news(path: &str) {
    let reader = Arc::new(CountingReader::default());
    reader.queue("slot-one");
    let operator = Operator {
        reader: Arc::new(reader.port()),
        ..operator(&Arc::default())
    };
    let router: Router = Operations {
        operator,
        stop: CancellationToken::new(),
        access: Access::this_machine("BATCH_API_KEY"),
        sign_in: SignIn::default(),
        metrics: None,
        words: Words::default(),
        config_database: None,
    }
    .router();
    let mut streams = Vec::new();
    for _ in 0..10 {
        streams.push(OpenStream::at(&router, path).await);
    }
    assert!(streams[0].shows("slot-one", 0.1).await, "at once");
    let once = reader.reads();
    assert!((1..=4).contains(&once), "one read for all: {once}");

    sleep(Duration::from_mins(1)).await;
    let idle = reader.reads() - once;
    assert!((once..=4 * once).contains(&idle), "{idle} in a minute");

    reader.queue("slot-two");
    reader.changes.send_replace(());
    let before = reader.reads();
    // The last one is not read by its client, and holds up no other.
    for stream in &mut streams[..9] {
        assert!(stream.shows("slot-two", 1.1).await, "a change");
    }
    assert_eq!(reader.reads() - before, once, "one read for all");

    let before = reader.reads();
    for _ in 0..1_000 {
        reader.changes.send_replace(());
        sleep(Duration::from_millis(10)).await;
    }
    let busy = reader.reads() - before;
    assert!(busy <= 11 * once, "{busy} in ten seconds of changes");

    reader.fails.store(true, Ordering::Relaxed);
    reader.queue("slot-three");
    reader.changes.send_replace(());
    assert!(!streams[0].shows("slot-three", 5.0).await);
    reader.fails.store(false, Ordering::Relaxed);
    assert!(streams[0].shows("slot-three", 1.1).await, "retried");

    // A change that is not announced.
    reader.queue("slot-four");
    assert!(streams[0].shows("slot-four", 15.1).await, "found");

    drop(streams);
    sleep(Duration::from_secs(1)).await;
    let before = reader.reads();
    reader.changes.send_replace(());
    sleep(Duration::from_mins(1)).await;
    assert_eq!(reader.reads(), before, "nothing is open");
    let mut stream = OpenStream::at(&router, path).await;
    assert!(stream.shows("slot-four", 0.1).await, "opened again");
}

#[tokio::test(start_paused = true)]
async fn open_overviews_wait_for_news() {
    open_streams_wait_for_news("/live").await;
}

#[tokio::test(start_paused = true)]
async fn open_event_streams_wait_for_news() {
    open_streams_wait_for_news("/api/v1/events").await;
}
