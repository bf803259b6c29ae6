//! A small HTTP server on loopback that answers as a test tells it to.

use std::{
    sync::{Arc, Mutex},
    time::Duration,
};

use axum::{Router, body::Body, extract::Request, http::Response};
use punctual_application::ports::{ConfigDatabase, ConfigDatabaseError, Snapshot};
use punctual_domain::{FeatureType, TenantId};
use punctual_infrastructure::{ClientOptions, ConfigDatabaseClient};
use serde_json::Value;
use tokio::net::TcpListener;

/// The calls a server has seen, as `METHOD path?query`.
pub type Calls = Arc<Mutex<Vec<String>>>;

/// Starts a server; returns its URL and the calls it sees.
pub async fn start(
    answer: impl Fn(&Request) -> Response<Body> + Clone + Send + Sync + 'static,
) -> (String, Calls) {
    let calls = Calls::default();
    let seen = Arc::clone(&calls);
    let router = Router::new().fallback(move |request: Request| {
        let answer = answer.clone();
        let seen = Arc::clone(&seen);
        async move {
            seen.lock()
                .unwrap()
                .push(format!("{} {}", request.method(), request.uri()));
            answer(&request)
        }
    });
    (serve(router).await, calls)
}

/// Serves on loopback; returns the URL.
pub async fn serve(router: Router) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    tokio::spawn(async move { axum::serve(listener, router).await });
    url
}

/// The snapshot, read to its end.
pub async fn whole(database: &impl ConfigDatabase) -> Result<Snapshot, ConfigDatabaseError> {
    database.snapshot(&feature()).await?.collect().await
}

pub fn json(status: u16, body: &Value) -> Response<Body> {
    Response::builder()
        .status(status)
        .header("content-type", "application/json")
        .body(Body::from(body.to_string()))
        .unwrap()
}

pub fn options(url: &str) -> ClientOptions {
    ClientOptions {
        timeout: Duration::from_secs(2),
        attempts: 2,
        ..ClientOptions::new(url)
    }
}

pub fn client(url: &str) -> ConfigDatabaseClient {
    ConfigDatabaseClient::new(options(url)).unwrap()
}

pub fn feature() -> FeatureType {
    FeatureType::new("instagram_posts").unwrap()
}

pub fn tenant(id: &str) -> TenantId {
    TenantId::new(id).unwrap()
}
