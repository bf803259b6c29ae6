//! Servers that are slow, broken, overloaded, lying or huge: each gives a clear error, and what was known
//! before stays.

use std::{
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::{Duration, Instant},
};

use axum::{body::Body, http::Response};
use punctual_application::ports::{ConfigDatabase, ConfigDatabaseError, ConfigErrorKind, Cursor};
use punctual_infrastructure::{ClientOptions, ConfigDatabaseClient};
use serde_json::json;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpListener,
};

use crate::server::{client, feature, json as answer, options, start, tenant};

async fn snapshot_error(options: ClientOptions) -> ConfigDatabaseError {
    ConfigDatabaseClient::new(options)
        .unwrap()
        .snapshot(&feature())
        .await
        .unwrap_err()
}

/// A server that sends these bytes to whoever connects and then waits or closes.
async fn raw(bytes: &'static [u8], close: bool) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            tokio::spawn(async move {
                let _ = stream.read(&mut [0; 4096]).await;
                let _ = stream.write_all(bytes).await;
                if !close {
                    std::future::pending::<()>().await;
                }
            });
        }
    });
    url
}

#[tokio::test]
async fn nobody_there() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    drop(listener);
    let error = snapshot_error(options(&url)).await;
    assert_eq!(error.kind, ConfigErrorKind::Unavailable);
    assert!(
        error
            .message
            .starts_with(&format!("Error connecting to Config Database at {url}: ")),
        "{error}"
    );
    assert!(
        error.message.contains("refused") && error.message.contains("CONFIG_SERVICE_URL"),
        "{error}"
    );
}

#[tokio::test]
async fn silent_and_dripping_servers_end_in_time() {
    let silent = raw(b"", false).await;
    let dripping = raw(
        b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: 900\r\n\r\n{",
        false,
    )
    .await;
    for url in [silent, dripping] {
        let began = Instant::now();
        let options = ClientOptions {
            timeout: Duration::from_millis(300),
            ..options(&url)
        };
        let error = snapshot_error(options).await;
        assert_eq!(error.kind, ConfigErrorKind::Unavailable);
        assert!(error.message.contains("no answer in time"), "{error}");
        assert!(began.elapsed() < Duration::from_secs(5));
    }
}

#[tokio::test]
async fn truncated_answers_are_no_answers() {
    let url = raw(b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: 900\r\n\r\n{\"groups\": [", true).await;
    let error = snapshot_error(options(&url)).await;
    assert_eq!(error.kind, ConfigErrorKind::Unavailable);
    assert!(
        error
            .message
            .starts_with("Error connecting to Config Database"),
        "{error}"
    );
}

#[tokio::test]
async fn a_500_is_tried_again_and_reported_when_it_stays() {
    let left = Arc::new(AtomicUsize::new(1));
    let (url, calls) = start(move |_| {
        if left
            .fetch_update(Ordering::SeqCst, Ordering::SeqCst, |n| n.checked_sub(1))
            .is_ok()
        {
            return answer(500, &json!({}));
        }
        answer(200, &json!({"epoch": "e", "as_of_id": 1, "groups": []}))
    })
    .await;
    client(&url).snapshot(&feature()).await.unwrap();
    assert_eq!(calls.lock().unwrap().len(), 2);

    let (url, calls) = start(|_| answer(503, &json!({}))).await;
    let error = snapshot_error(options(&url)).await;
    assert!(
        error
            .message
            .contains("it answered 503 Service Unavailable"),
        "{error}"
    );
    assert_eq!(
        (error.kind, calls.lock().unwrap().len()),
        (ConfigErrorKind::Unavailable, 2)
    );
}

#[tokio::test]
async fn a_429_is_not_tried_before_its_time_and_not_for_ever() {
    let asked = [
        ("0", 0),
        ("2", 2),
        ("Tue, 24 Nov 2026 08:00:02 GMT", 2),
        ("soon", 0),
        ("-1", 0),
    ];
    let tried = asked.map(|(retry_after, seconds)| async move {
        let (url, calls) = start(move |_| {
            let mut response = answer(429, &json!({}));
            let headers = response.headers_mut();
            headers.insert("retry-after", retry_after.parse().unwrap());
            let now = "Tue, 24 Nov 2026 08:00:00 GMT".parse().unwrap();
            headers.insert("date", now);
            response
        })
        .await;
        let began = Instant::now();
        let error = snapshot_error(options(&url)).await;
        assert_eq!(error.kind, ConfigErrorKind::Unavailable, "{retry_after}");
        let calls = calls.lock().unwrap().len();
        assert_eq!(calls, 2, "Retry-After: {retry_after}");
        assert!(
            began.elapsed() >= Duration::from_secs(seconds),
            "Retry-After: {retry_after}"
        );
    });
    futures::future::join_all(tried).await;
}

#[tokio::test]
async fn what_is_no_config_database_is_said_to_be_none() {
    for (status, content_type, body) in [
        (200, "application/json", "{\"groups\": [}"),
        (200, "application/json", "[]"),
        (200, "application/json", "{}"),
        (200, "text/html", "<html>Welcome</html>"),
        (404, "text/html", "<html>Not here</html>"),
        (302, "text/html", ""),
    ] {
        let (url, calls) = start(move |_| {
            Response::builder()
                .status(status)
                .header("content-type", content_type)
                .header("location", "/elsewhere")
                .body(Body::from(body))
                .unwrap()
        })
        .await;
        let error = snapshot_error(options(&url)).await;
        assert_eq!(
            error.kind,
            ConfigErrorKind::Malformed,
            "{status} {body}: {error}"
        );
        assert!(error.message.contains("CONFIG_SERVICE_URL"), "{error}");
        assert_eq!(
            calls.lock().unwrap().len(),
            1,
            "trying again, or elsewhere, would not help"
        );

        // A tenant is not taken to be without a preference because a wrong server says so.
        let error = client(&url)
            .preferences(&feature(), &[tenant("a")])
            .await
            .unwrap_err();
        assert_eq!(error.kind, ConfigErrorKind::Malformed);
    }
}

#[tokio::test]
async fn a_huge_answer_is_dropped_also_when_it_travels_small() {
    let (url, _) =
        start(|_| answer(200, &json!({"groups": [], "padding": "x".repeat(100_000)}))).await;
    let limited = |url: &str| ClientOptions {
        max_answer_bytes: 50_000,
        ..options(url)
    };
    let error = snapshot_error(limited(&url)).await;
    assert!(error.message.contains("more than 50000 bytes"), "{error}");

    // 1 MiB of zeros in a thousandth of it.
    let bomb: &[u8] = &gzip_of_zeros(1024 * 1024);
    assert!(bomb.len() < 5_000);
    let bomb = bomb.to_vec();
    let (url, _) = start(move |_| {
        Response::builder()
            .header("content-type", "application/json")
            .header("content-encoding", "gzip")
            .body(Body::from(bomb.clone()))
            .unwrap()
    })
    .await;
    let error = snapshot_error(limited(&url)).await;
    assert!(error.message.contains("more than 50000 bytes"), "{error}");
}

fn gzip_of_zeros(bytes: usize) -> Vec<u8> {
    use std::io::Write;
    let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::best());
    encoder.write_all(&vec![b'0'; bytes]).unwrap();
    encoder.finish().unwrap()
}

#[tokio::test]
async fn a_refused_key_is_named_as_the_cause_and_shown_nowhere() {
    let (url, calls) = start(|request| {
        let sent = request
            .headers()
            .get("authorization")
            .map(|value| value.to_str().unwrap().to_owned());
        assert_eq!(sent.as_deref(), Some("Bearer canary-4711"));
        answer(401, &json!({}))
    })
    .await;
    let with_key = ClientOptions {
        api_key: Some("canary-4711".into()),
        ..options(&url)
    };
    let error = snapshot_error(with_key.clone()).await;
    assert_eq!(
        (error.kind, calls.lock().unwrap().len()),
        (ConfigErrorKind::Unauthorized, 1)
    );
    assert!(
        error.message.contains("refused the key")
            && error.message.contains("CONFIG_SERVICE_API_KEY")
    );
    let shown = format!(
        "{error} {error:?} {with_key:?} {:?}",
        ConfigDatabaseClient::new(with_key.clone()).unwrap()
    );
    assert!(!shown.contains("canary"), "{shown}");

    let in_url = url.replace("http://", "http://user:canary@");
    let error = snapshot_error(options(&in_url)).await;
    assert!(!format!("{error:?}").contains("canary"), "{error}");
}

#[tokio::test]
async fn what_was_known_stays_while_the_server_is_down_and_a_410_asks_for_a_new_snapshot() {
    let up = Arc::new(AtomicUsize::new(1));
    let switch = Arc::clone(&up);
    let (url, _) = start(move |request| {
        if switch.load(Ordering::SeqCst) == 0 {
            return answer(500, &json!({}));
        }
        if request.uri().path().ends_with("changes") {
            return answer(410, &json!({}));
        }
        answer(
            200,
            &json!({"epoch": "e", "as_of_id": 7, "groups": [
                {"frequency": "daily", "tenants": [{"tenant_id": "a"}]}
            ]}),
        )
    })
    .await;
    let client = ConfigDatabaseClient::new(ClientOptions {
        cache_ttl: Duration::from_millis(1),
        ..options(&url)
    })
    .unwrap();
    let snapshot = client.snapshot(&feature()).await.unwrap();
    assert_eq!(
        snapshot.cursor,
        Cursor {
            since_id: 7,
            epoch: Some("e".into())
        }
    );
    let lost = client
        .changes(&feature(), &snapshot.cursor, Duration::ZERO)
        .await
        .unwrap_err();
    assert_eq!(lost.kind, ConfigErrorKind::CursorLost);

    up.store(0, Ordering::SeqCst);
    tokio::time::sleep(Duration::from_millis(5)).await;
    let known = client
        .preferences(&feature(), &[tenant("a")])
        .await
        .unwrap();
    assert_eq!(known[&tenant("a")].preference["frequency"], "daily");
    let unknown = client
        .preferences(&feature(), &[tenant("never_seen")])
        .await
        .unwrap_err();
    assert_eq!(
        unknown.kind,
        ConfigErrorKind::Unavailable,
        "not known is not the same as none"
    );
}

#[tokio::test]
async fn another_epoch_means_another_database() {
    let (url, _) =
        start(|_| answer(200, &json!({"epoch": "new", "changes": [], "last_id": 3}))).await;
    let cursor = Cursor {
        since_id: 3,
        epoch: Some("old".into()),
    };
    let error = client(&url)
        .changes(&feature(), &cursor, Duration::ZERO)
        .await
        .unwrap_err();
    assert_eq!(error.kind, ConfigErrorKind::CursorLost);
}

#[tokio::test]
async fn urls_that_are_none_are_refused_at_once() {
    for url in ["", "localhost:8000", "ftp://x", "not a url"] {
        let error = ConfigDatabaseClient::new(ClientOptions::new(url)).unwrap_err();
        assert!(error.message.contains("CONFIG_SERVICE_URL"), "{error}");
    }
}

#[tokio::test]
async fn a_dead_server_sees_little_more_than_the_calls_that_were_meant_for_it() {
    const CALLS: usize = 300;
    let (url, calls) = start(|_| answer(503, &json!({}))).await;
    let patient = ClientOptions {
        attempts: 10,
        ..options(&url)
    };
    let client = Arc::new(ConfigDatabaseClient::new(patient).unwrap());
    let call = || {
        let client = Arc::clone(&client);
        async move { client.snapshot(&feature()).await.unwrap_err() }
    };
    futures::future::join_all((0..CALLS).map(|_| call())).await;
    let seen = calls.lock().unwrap().len();
    // A tenth of the calls, and the ten retries that ten seconds allow anyone, twice as the calls may last.
    assert!(
        (CALLS..=CALLS + CALLS / 10 + 20).contains(&seen),
        "{seen} calls were seen for {CALLS}"
    );
}
