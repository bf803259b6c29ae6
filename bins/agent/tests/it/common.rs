//! What many tests need: free ports, servers on loopback, waiting until something holds, and preferences that keep still.

use std::{
    collections::BTreeSet,
    net::TcpListener,
    sync::{LazyLock, Mutex},
    time::{Duration, Instant},
};

use axum::Router;
use chrono::{TimeDelta, Utc};
use serde_json::{Value, json};

use crate::agent::{Agent, TEST_TIMEOUT};

/// Ports that were given to a test: what listens there may be down for a moment.
static GIVEN: Mutex<BTreeSet<u16>> = Mutex::new(BTreeSet::new());

/// A port of loopback that is free, outside of the range that connections take theirs from: it stays free while what listens at it
/// is down.
pub fn free_port() -> u16 {
    loop {
        let port = fastrand::u16(20_000..32_000);
        let is_free = TcpListener::bind(("127.0.0.1", port)).is_ok();
        if is_free && GIVEN.lock().unwrap().insert(port) {
            return port;
        }
    }
}

/// Serves on a port of loopback for as long as the test runs. Returns the URL, without a slash at its end.
pub async fn serve(router: Router) -> String {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    tokio::spawn(async move { axum::serve(listener, router).await.unwrap() });
    url
}

/// Waits until something holds, within the time of a test.
pub async fn until(holds: impl Fn() -> bool) {
    until_or(holds, || "it does not come".to_owned()).await;
}

/// The same, beside an agent whose log says why it does not come.
pub async fn until_beside(agent: &Agent, holds: impl Fn() -> bool) {
    until_or(holds, || agent.log().join("\n")).await;
}

async fn until_or(holds: impl Fn() -> bool, why: impl Fn() -> String) {
    let began = Instant::now();
    while !holds() {
        assert!(began.elapsed() < TEST_TIMEOUT, "{}", why());
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

/// Twelve hours from now, as a time of the day in UTC, the same in all tests: nothing falls due while they run, whenever that is.
pub static FAR_FROM_NOW: LazyLock<String> = LazyLock::new(|| {
    (Utc::now() + TimeDelta::hours(12))
        .format("%H:%M")
        .to_string()
});

/// A preference that does not fall due while tests run: what runs was triggered.
pub fn daily() -> Value {
    json!({"enabled": true, "frequency": "daily", "preferred_time": *FAR_FROM_NOW})
}

/// The same, with this in the templates.
pub fn daily_with(overrides: &Value) -> Value {
    let mut preference = daily();
    preference["template_overrides"] = overrides.clone();
    preference
}
