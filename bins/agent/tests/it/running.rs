//! What an operator relies on while the agent runs: keys, metrics, errors, and secrets that stay secret.

use reqwest::{Client, StatusCode};
use serde_json::Value;

use crate::{
    agent::{Agent, TEST_TIMEOUT, command},
    common::free_port,
};

#[tokio::test]
async fn with_a_key_everything_but_health_and_version_needs_it_and_it_is_shown_nowhere() {
    let folder = tempfile::tempdir().unwrap();
    let mut command = command(folder.path());
    command
        .env("BATCH_API_KEY", "canary-api")
        .env("CONFIG_SERVICE_API_KEY", "canary-config")
        .env("BATCH_LOG", "debug");
    let agent = Agent::start(command);
    agent
        .until("/health/ready", |ready| ready["status"] == "ready")
        .await;
    assert!(
        agent.get("/version").await["tzdb"]
            .as_str()
            .unwrap()
            .starts_with("20")
    );

    let http = Client::new();
    for path in [
        "/metrics",
        "/api/v1/jobs",
        "/api/v1/batches",
        "/api/v1/quarantine",
        "/api/v1/no/such",
        "/no/such",
    ] {
        let url = format!("{}{path}", agent.api());
        for key in [None, Some("wrong"), Some("canary-ap"), Some("")] {
            let mut request = http.get(&url);
            if let Some(key) = key {
                request = request.bearer_auth(key);
            }
            let response = request.send().await.unwrap();
            assert_eq!(
                response.status(),
                StatusCode::UNAUTHORIZED,
                "{path} {key:?}"
            );
            assert_eq!(
                response.headers()["content-type"],
                "application/problem+json"
            );
        }
    }
    let staying = Client::builder()
        .redirect(reqwest::redirect::Policy::none())
        .build()
        .unwrap();
    for path in [
        "/",
        "/live",
        "/jobs",
        "/jobs/etsy_analysis",
        "/batches",
        "/tenants/user1",
        "/dead-letters",
        "/quarantine",
        "/replicas",
        "/audit-log",
    ] {
        for cookie in [
            "",
            "punctual_operations=canary-api",
            "punctual_operations=9999999999.0.0",
        ] {
            let request = staying.get(format!("{}{path}", agent.api()));
            let answer = request.header("cookie", cookie).send().await.unwrap();
            assert_eq!(answer.status(), StatusCode::SEE_OTHER, "{path}");
            let to = answer.headers()["location"].to_str().unwrap();
            assert!(to.starts_with("/sign-in?next=/"), "{path} leads to {to}");
        }
        let posted = staying.post(format!("{}{path}", agent.api()));
        let status = posted.body("action=pause").send().await.unwrap().status();
        assert!(!status.is_success(), "{path}: {status}");
    }
    let metrics = http
        .get(format!("{}/metrics", agent.api()))
        .bearer_auth("canary-api")
        .send()
        .await
        .unwrap();
    let text = metrics.text().await.unwrap();
    assert!(
        text.contains("punctual_scheduled_tenants{job_id=\"etsy_analysis\"} 0"),
        "{text}"
    );

    agent
        .until_logged("No users found for feature_type \"instagram_posts\"")
        .await;
    let log = agent.log().join("\n");
    assert!(!log.contains("canary"), "{log}");
    assert!(agent.terminate().success());
}

#[tokio::test]
async fn browsers_find_an_icon_on_both_servers_without_a_key() {
    let folder = tempfile::tempdir().unwrap();
    let mut command = command(folder.path());
    command
        .env("BATCH_API_KEY", "canary-api")
        .env("CONFIG_SERVICE_API_KEY", "canary-config");
    let agent = Agent::start(command);
    for server in [agent.api(), agent.config_url()] {
        let response = reqwest::get(format!("{server}/favicon.ico")).await.unwrap();
        assert_eq!(response.status(), StatusCode::OK, "{server}");
        assert_eq!(response.headers()["content-type"], "image/svg+xml");
    }
}

#[tokio::test]
async fn bad_requests_get_a_problem_that_says_what_to_do() {
    let folder = tempfile::tempdir().unwrap();
    let agent = Agent::start(command(folder.path()));
    let http = Client::new();
    for (path, status, expected) in [
        ("/api/v1/batches/not-a-uuid", 400, "UUID"),
        (
            "/api/v1/batches/00000000-0000-0000-0000-000000000000",
            404,
            "does not exist; the list of batches",
        ),
        (
            "/api/v1/batches/00000000-0000-0000-0000-000000000000/results",
            404,
            "does not exist; the list of batches",
        ),
        ("/api/v1/batches?status=odd", 400, "status"),
        ("/api/v1/batches?cursor=odd", 400, "next_cursor"),
        (
            "/api/v1/tenants/%2e%2e%2fetc/runs",
            400,
            "not a valid tenant_id",
        ),
        ("/api/v1/tenants/a%00b/runs", 400, "not a valid tenant_id"),
        ("/no/such/page", 404, "this address does not exist"),
    ] {
        let response = http
            .get(format!("{}{path}", agent.api()))
            .send()
            .await
            .unwrap();
        assert_eq!(response.status().as_u16(), status, "{path}");
        let problem: Value = response.json().await.unwrap();
        assert!(
            problem["detail"].as_str().unwrap().contains(expected),
            "{path}: {problem}"
        );
    }
}

#[tokio::test]
async fn without_its_config_database_it_says_so_and_runs_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let free = format!("127.0.0.1:{}", free_port());
    let mut child = command(folder.path());
    child
        .env(
            "CONFIG_SERVICE_URL",
            format!("http://user:canary-password@{free}"),
        )
        .env("BATCH_LOG_FORMAT", "json");
    let agent = Agent::start(child);
    let fails = |ready: &Value| ready["reasons"].to_string().contains("Error connecting");
    let ready = agent.until("/health/ready", fails).await;
    assert_ne!(ready["status"], "ready");
    let reason = ready["reasons"].to_string();
    assert!(
        reason.contains(&format!(
            "Error connecting to Config Database at http://{free}: "
        )),
        "{reason}"
    );
    agent.until_logged("Preferences not being detected").await;
    let log = agent.log();
    assert!(
        log.iter()
            .all(|line| serde_json::from_str::<Value>(line).is_ok()),
        "every line is JSON: {log:#?}"
    );
    assert!(!log.concat().contains("canary"), "{log:#?}");
    assert!(agent.terminate().success());
}

#[tokio::test]
async fn systemd_is_notified_of_start_watchdog_and_stop() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("notify");
    let socket = tokio::net::UnixDatagram::bind(&path).unwrap();
    let mut command = command(folder.path());
    command
        .env("NOTIFY_SOCKET", &path)
        .env("WATCHDOG_USEC", "300000");
    let agent = Agent::start(command);
    let notification = async || {
        let mut buffer = [0; 256];
        let received = tokio::time::timeout(TEST_TIMEOUT, socket.recv(&mut buffer)).await;
        let length = received.expect("no notification arrived").unwrap();
        String::from_utf8(buffer[..length].to_vec()).unwrap()
    };
    let mut first = notification().await;
    // The first sign of life may be as early.
    while first.trim() == "WATCHDOG=1" {
        first = notification().await;
    }
    assert_eq!(first.trim(), "READY=1");
    for _ in 0..3 {
        assert_eq!(notification().await.trim(), "WATCHDOG=1");
    }
    assert!(agent.terminate().success());
    let mut last = notification().await;
    while last.trim() == "WATCHDOG=1" {
        last = notification().await;
    }
    assert_eq!(last.trim(), "STOPPING=1");
}
