//! Snapshots of what callers see: the description of the API, every response and every kind of error. They are reviewed
//! with `cargo insta review`, or written anew with `INSTA_UPDATE=always`.

use std::net::SocketAddr;

use punctual_application::{
    Handlers, SchedulerStatus, StatusHandle,
    ports::MockPurposeHandler,
    testing::{self, FakeConfigDatabase, FakeStore, record},
};
use punctual_domain::{ItemStatus, JobId, PurposeId, Zone};
use punctual_web::testing::Answers;
use serde_json::{Value, json};

use super::*;

const NOW: &str = "2026-03-01T09:00:00Z";

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

/// An operator of two jobs: `posts` serves Ann at 9:00 each day and cannot use what Bad has stored, `report` has a schedule
/// of its own.
fn operator(store: &Arc<FakeStore>) -> Operator {
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
    let handler = Arc::new(MockPurposeHandler::new());
    handlers.bind(purpose, handler, Handlers::DEFAULT_TIMEOUT);
    let operator = Operator {
        preferences: Arc::new(preferences),
        handlers,
        ..testing::operator(store, jobs, NOW)
    };
    let broken = json!({"enabled": true, "frequency": "daily", "preferred_time": "nine"});
    let records = [record("ann", daily), record("bad", broken)];
    testing::schedule(&operator, &JobId::new("posts").unwrap(), &records);
    operator
}

/// The API, and what it has answered.
struct Api {
    answers: Answers,
    status: StatusHandle,
    store: Arc<FakeStore>,
    stop: CancellationToken,
}

impl Api {
    fn new(key: Option<&str>) -> Self {
        let store: Arc<FakeStore> = Arc::default();
        let operator = operator(&store);
        let (status, stop) = (operator.status.clone(), CancellationToken::new());
        let router = Operations {
            operator,
            stop: stop.clone(),
            access: key.map_or(Access::this_machine("BATCH_API_KEY"), |key| {
                let address = SocketAddr::from(([127, 0, 0, 1], 8080));
                Access::key(key.into(), address).unwrap()
            }),
            metrics: None,
            words: Words::default(),
        }
        .router();
        Self {
            answers: Answers::of(router, str::to_owned),
            status,
            store,
            stop,
        }
    }

    async fn call(&mut self, method: &str, path: &str, body: &str) -> Value {
        // Nothing happens at one instant, so that lists have one order.
        tokio::time::sleep(std::time::Duration::from_secs(1)).await;
        self.answers.call(method, path, &[], body).await
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
        "/api/v1/jobs",
        "/api/v1/jobs/report",
        "/api/v1/schedule/upcoming?hours=24",
        "/api/v1/quarantine",
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
    api.call("POST", "/api/v1/jobs/posts/pause", "").await;
    api.get("/health/ready").await;
    api.call("POST", "/api/v1/jobs/posts/resume", "").await;
    api.get("/api/v1/audit-log?limit=2").await;
    api.post("/api/v1/jobs/posts/trigger", json!({"tenants": ["ann"]}))
        .await;
    api.status.publish(SchedulerStatus::default());
    api.get("/health/ready").await;
    // What is not over is sent at once, before the end.
    api.stop.cancel();
    api.get("/api/v1/events").await;
    insta::assert_snapshot!("responses", api.answers.text);
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
        "/api/v1/tenants/a%20b/runs",
        "/api/v1/tenants/ann/explain",
        "/api/v1/tenants/ann/explain?job_id=posts&date=monday",
    ] {
        api.get(path).await;
    }
    api.call("DELETE", "/api/v1/jobs", "").await;
    for (path, body) in [
        ("jobs/posts/trigger", json!({"tenants": []})),
        (
            "jobs/posts/trigger",
            json!({"tenants": ["ann"], "all": true}),
        ),
        ("jobs/posts/trigger", json!({"tenants": ["never"]})),
        ("jobs/posts/trigger", json!({"tenant": "ann"})),
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
