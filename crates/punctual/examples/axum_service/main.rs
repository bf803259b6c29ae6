//! An axum service with Punctual inside: its users set their preferences over its own HTTP API, in its own data
//! (`preferences.rs`), what they asked for runs in the same process, and operators have their page below `/ops`.
//!
//! `cargo run -p punctual --example axum_service` starts it, visits it as a user and an operator would, and ends.

mod preferences;

use std::{sync::Arc, time::Duration};

use async_trait::async_trait;
use axum::{
    Json, Router,
    extract::{Path, State},
    http::StatusCode,
    routing::put,
};
use preferences::Preferences;
use punctual::{
    Access, Clock, FeatureType, HandlerError, Item, Job, MergedPreference, Preference, Punctual,
    PurposeHandler, SystemClock, TenantId, Zone,
};
use serde_json::{Map, Value, json};

struct Report;

#[async_trait]
impl PurposeHandler for Report {
    async fn run(&self, item: &Item) -> Result<Value, HandlerError> {
        Ok(json!({ "text": format!("Report for {}", item.tenant_id) }))
    }
}

/// `PUT /users/{id}/reports`: when somebody wants their report. They get every mistake at once.
async fn choose(
    State(preferences): State<Arc<Preferences>>,
    Path(id): Path<String>,
    Json(chosen): Json<Map<String, Value>>,
) -> Result<String, (StatusCode, String)> {
    let bad = |error: String| (StatusCode::UNPROCESSABLE_ENTITY, error);
    let tenant = TenantId::new(id).map_err(|error| bad(error.to_string()))?;
    let feature = FeatureType::new("reports").map_err(|error| bad(error.to_string()))?;
    let merged = Preference::parse(&chosen)
        .and_then(|stored| MergedPreference::merge(&stored, &Preference::default(), &Zone::utc()))
        .map_err(|errors| bad(errors.to_string()))?;
    preferences.store(&feature, tenant, chosen, SystemClock.now());
    Ok(format!("due {}", merged.slot))
}

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let folder = tempfile::tempdir()?;
    let preferences = Arc::new(Preferences::default());
    let punctual = Punctual::builder()
        .store(format!("sqlite://{}/punctual.db", folder.path().display()))
        .preferences(preferences.clone())
        .handler("report", Report)
        .job(Job::following("reports").runs("report"))
        .start()
        .await?;
    let app = Router::new()
        .route("/users/{id}/reports", put(choose))
        // Put your own sign-in for operators in front of it, and say `Access::Guarded`; or give it a key.
        .nest("/ops", punctual.router(Access::ThisMachine("Access::Key")))
        .with_state(preferences);
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await?;
    let service = format!("http://{}", listener.local_addr()?);
    tokio::spawn(axum::serve(listener, app).into_future());
    visit(&service).await?;
    punctual.shut_down(Duration::from_secs(20)).await;
    Ok(())
}

async fn visit(service: &str) -> Result<(), Box<dyn std::error::Error>> {
    let client = reqwest::Client::builder().no_proxy().build()?;
    for time in ["17:30", "soon"] {
        let weekly = json!({"enabled": true, "frequency": "weekly", "preferred_day": "friday",
            "preferred_time": time});
        let answer = client.put(format!("{service}/users/ann/reports"));
        let answer = answer.json(&weekly).send().await?;
        println!("{}: {}", answer.status(), answer.text().await?);
    }
    let page = client.get(format!("{service}/ops/jobs")).send().await?;
    let page = page.text().await?;
    println!(
        "the page of the jobs leads on: {}",
        page.contains("href=\"/ops/jobs/reports\"")
    );
    Ok(())
}
