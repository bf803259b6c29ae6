//! An axum service with Punctual inside: its users set their preferences over its own HTTP API, in its own data
//! (`preferences.rs`), what they asked for runs in the same process, and operators have their page below `/ops`.
//!
//! `cargo run -p punctual --example axum_service` starts it, visits it as a user and an operator would, and ends.

mod preferences;
mod visit;

use std::{net::SocketAddr, sync::Arc, time::Duration};

use async_trait::async_trait;
use axum::{
    Json, Router,
    extract::{Path, State},
    http::StatusCode,
    routing::put,
};
use preferences::Preferences;
use punctual::{
    Access, Clock, FeatureType, HandlerError, Item, Job, MergedPreference, Outcome, Preference,
    Punctual, PurposeHandler, SystemClock, TenantId, Zone,
};
use serde_json::{Map, Value, json};

/// Of the operators; a real service takes it from its settings.
pub const KEY: &str = "a-key-of-the-operators";

struct Report;

#[async_trait]
impl PurposeHandler for Report {
    async fn run(&self, item: &Item) -> Result<Outcome, HandlerError> {
        Ok(json!({ "text": format!("Report for {}", item.item_id) }).into())
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
    preferences.store(&feature, tenant, Some(chosen), SystemClock.now());
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
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await?;
    let address = listener.local_addr()?;
    // With a sign-in of your own in front of it, say `Access::guarded()` instead.
    let access = Access::key(KEY.into(), address)?;
    let app = Router::new()
        .route("/users/{id}/reports", put(choose))
        .nest("/ops", punctual.router(access))
        .with_state(preferences);
    let service = app.into_make_service_with_connect_info::<SocketAddr>();
    let (stop, stopped) = tokio::sync::oneshot::channel::<()>();
    let serving = axum::serve(listener, service).with_graceful_shutdown(async {
        let _ = stopped.await;
    });
    let serving = tokio::spawn(serving.into_future());
    visit::visit(&format!("http://{address}")).await?;
    punctual.shut_down(Duration::from_secs(20)).await;
    drop(stop);
    serving.await??;
    Ok(())
}
