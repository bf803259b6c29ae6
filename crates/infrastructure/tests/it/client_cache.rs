//! What the client asks for, and what it does not ask for because it knows.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use axum::{body::Body, http::Response};
use punctual_application::ports::{ConfigDatabase, ConfigErrorKind};
use punctual_infrastructure::{ClientOptions, ConfigDatabaseClient};
use serde_json::json;

use crate::server::{client, feature, json as answer, options, start, tenant};

fn configuration(tone: &str) -> Response<Body> {
    let preference =
        json!({"enabled": true, "frequency": "daily", "template_overrides": {"tone": tone}});
    answer(
        200,
        &json!({"config_value": {"instagram_posts": preference}}),
    )
}

#[tokio::test]
async fn many_who_ask_for_the_same_at_once_make_one_call() {
    let (url, calls) = start(|_| configuration("playful")).await;
    let client = client(&url);
    let asking = (0..50).map(|_| {
        let client = &client;
        async move {
            client
                .preferences(&feature(), &[tenant("a")])
                .await
                .unwrap()
        }
    });
    let answers = futures::future::join_all(asking).await;
    assert!(answers.iter().all(|found| found.contains_key(&tenant("a"))));
    assert_eq!(calls.lock().unwrap().len(), 1);
}

#[tokio::test]
async fn what_is_still_so_is_not_sent_again() {
    let changed = Arc::new(AtomicBool::new(false));
    let now_changed = changed.clone();
    let (url, calls) = start(move |request| {
        let (tag, tone) = if now_changed.load(Ordering::SeqCst) {
            ("\"2\"", "serious")
        } else {
            ("\"1\"", "playful")
        };
        let known = request.headers().get("if-none-match");
        if known.is_some_and(|known| known == tag) {
            return Response::builder()
                .status(304)
                .header("etag", tag)
                .body(Body::empty())
                .unwrap();
        }
        let mut response = configuration(tone);
        response.headers_mut().insert("etag", tag.parse().unwrap());
        response
    })
    .await;
    let options = ClientOptions {
        cache_ttl: Duration::ZERO,
        ..options(&url)
    };
    let client = ConfigDatabaseClient::new(options).unwrap();
    let tone = || async {
        let found = client
            .preferences(&feature(), &[tenant("a")])
            .await
            .unwrap();
        found[&tenant("a")].preference["template_overrides"]["tone"].clone()
    };
    assert_eq!(tone().await, "playful");
    assert_eq!(tone().await, "playful", "by 304");
    changed.store(true, Ordering::SeqCst);
    assert_eq!(tone().await, "serious");
    assert_eq!(calls.lock().unwrap().len(), 3);
}

#[tokio::test]
async fn a_server_that_fails_again_and_again_is_left_alone_for_a_moment() {
    let (url, calls) = start(|_| answer(500, &json!({}))).await;
    let client = ConfigDatabaseClient::new(ClientOptions {
        attempts: 1,
        ..options(&url)
    })
    .unwrap();
    let mut last = None;
    for n in 0..100 {
        let failed = client
            .preferences(&feature(), &[tenant(&format!("t{n}"))])
            .await;
        last = failed.err();
    }
    let last = last.unwrap();
    assert_eq!(last.kind, ConfigErrorKind::Unavailable);
    assert!(
        last.message
            .starts_with("Error connecting to Config Database at")
            && last
                .message
                .contains(&url.trim_start_matches("http://").to_owned()),
        "{last}"
    );
    // Five failures, and on a machine that is slow a probe now and then.
    let calls = calls.lock().unwrap().len();
    assert!((5..20).contains(&calls), "{calls} calls");
}
