//! What `/health/ready`, the page and the terminal say of work that is not done.

use std::time::{Duration, Instant};

use reqwest::{Client, Method, StatusCode, header};
use serde_json::{Value, json};
use sqlx::{ConnectOptions, Connection, Executor, sqlite::SqliteConnectOptions};

use crate::{
    agent::{Agent, at_time},
    project::Project,
};

fn names(list: &Value, words: &str) -> bool {
    list.to_string().contains(words)
}

/// GETs `/health/ready`, which must answer soon whatever the store does.
async fn ready(agent: &Agent) -> (StatusCode, Option<String>, Value) {
    let began = Instant::now();
    let response = Client::new()
        .get(format!("{}/health/ready", agent.api()))
        .send()
        .await
        .unwrap();
    assert!(began.elapsed() < Duration::from_secs(10), "it blocks");
    let retry_after = response.headers().get(header::RETRY_AFTER);
    let retry_after = retry_after.map(|value| value.to_str().unwrap().to_owned());
    (
        response.status(),
        retry_after,
        response.json().await.unwrap(),
    )
}

#[cfg_attr(
    not(feature = "servers"),
    ignore = "needs what `make setup` installs; run `make test`"
)]
#[tokio::test]
async fn a_locked_store_is_reported_with_since_when_and_the_remedy_and_nothing_is_lost() {
    let job = json!({"default_preferences": {"frequency": "daily"}});
    let project = Project::new(json!({"handler": "template", "template": "t.j2"}), job);
    project.write("templates/t.j2", "Good morning, {{ item.tenant_id }}");
    let daily = json!({"enabled": true, "frequency": "daily", "preferred_time": "09:00"});
    let preferences = project.preferences([("ann".to_owned(), daily)].into_iter());
    let mut command = project.command();
    // The wall clock runs ten times as fast.
    at_time(&mut command, "2026-03-02 08:58:00 x10");
    command.args(["run", "--import"]).arg(preferences);
    let agent = Agent::start(command);
    agent
        .until("/health/ready", |ready| ready["status"] == "ready")
        .await;

    let mut other = SqliteConnectOptions::new()
        .filename(project.path().join("punctual.db"))
        .connect()
        .await
        .unwrap();
    other.execute("BEGIN EXCLUSIVE").await.unwrap();
    let not_ready = agent
        .until("/health/ready", |ready| {
            names(&ready["reasons"], "due work is not planned")
        })
        .await;
    let reason = not_ready["reasons"].to_string();
    assert!(
        reason.contains("(since 2026-03-02T09:00:00Z). "),
        "{reason}"
    );
    let (status, retry_after, _) = ready(&agent).await;
    assert_eq!(status, StatusCode::SERVICE_UNAVAILABLE);
    assert_eq!(retry_after.as_deref(), Some("5"));
    let page = Client::new().get(agent.api()).send().await.unwrap();
    let page = page.text().await.unwrap();
    for part in ["due work is not planned", "2026-03-02 09:00:00 UTC"] {
        assert!(page.contains(part), "{part}: {page}");
    }

    // What an operator asks for is refused, soon and with a word on when to try again.
    let trigger = Client::new().post(format!("{}/api/v1/jobs/posts/trigger", agent.api()));
    let refused = trigger.send().await.unwrap();
    assert_eq!(refused.status(), StatusCode::SERVICE_UNAVAILABLE);
    assert_eq!(refused.headers()[header::RETRY_AFTER], "5");
    let (_, _, body) = ready(&agent).await;
    assert!(
        names(&body["warnings"], "requests of operators cannot be stored")
            && names(
                &body["warnings"],
                "Free disk space, release the lock on the store"
            ),
        "{body}"
    );
    // The write that was due has failed by now.
    agent
        .until("/health/ready", |ready| {
            names(&ready["reasons"], "batches cannot be stored")
                || names(&ready["warnings"], "batches cannot be stored")
        })
        .await;

    other.execute("ROLLBACK").await.unwrap();
    other.close().await.unwrap();
    agent
        .until("/api/v1/tenants/ann/runs", |runs| {
            runs["runs"].as_array().is_some_and(|runs| runs.len() == 1)
        })
        .await;
    agent
        .call(Method::POST, "/api/v1/jobs/posts/pause", &json!({}))
        .await;
    let healthy = agent
        .until("/health/ready", |ready| ready["status"] == "ready")
        .await;
    assert!(!names(&healthy["warnings"], "the store"), "{healthy}");
    assert!(agent.terminate().success());
}

#[cfg_attr(
    not(feature = "servers"),
    ignore = "needs what `make setup` installs; run `make test`"
)]
#[tokio::test]
async fn what_one_job_lacks_is_a_warning_and_the_others_run() {
    // A folder is in the place of the file that results go to, and a file in the place of the folder of what was last
    // known.
    let job =
        json!({"default_preferences": {"frequency": "daily"}, "deliver": [{"file": "../out"}]});
    let project = Project::new(json!({"handler": "template", "template": "t.j2"}), job);
    project.write("templates/t.j2", "Good morning, {{ item.tenant_id }}");
    project.write("out/here.txt", "");
    let file = project.write("file.txt", "");
    let config = project.path().join("batch/batch_config.json");
    let mut jobs: Value = serde_json::from_slice(&std::fs::read(&config).unwrap()).unwrap();
    let plain = |job_id: &str, source: Value| {
        json!({"job_id": job_id, "type": "individual_batch", "purpose_id": "write", "source": source,
            "schedule": {"frequency": "daily", "preferred_time": "09:00"}})
    };
    let refused = json!({"url": "http://127.0.0.1:9/records"});
    jobs["jobs"].as_array_mut().unwrap().extend([
        plain("nightly", json!({"file": "nightly.json"})),
        plain("refused", refused),
        plain("there", json!({"file": "there.json"})),
    ]);
    project.write("batch/batch_config.json", &jobs.to_string());
    project.write("batch/there.json", r#"[{"id": "mug"}]"#);
    let daily = json!({"enabled": true, "frequency": "daily", "preferred_time": "09:00"});
    let preferences = project.preferences([("ann".to_owned(), daily)].into_iter());

    let checked = project.command().arg("check").output().unwrap();
    assert!(!checked.status.success(), "{checked:?}");
    let text = String::from_utf8(checked.stdout).unwrap();
    assert!(text.contains("nightly.json does not exist"), "{text}");

    let mut command = project.command();
    at_time(&mut command, "2026-03-02 08:59:50");
    command
        .env("CONFIG_LAST_KNOWN_GOOD_PATH", file.join("known"))
        .args(["run", "--import"])
        .arg(preferences);
    let agent = Agent::start(command);
    agent.until_logged("A job waits for its source file").await;
    let waits = "nightly waits for its source: ";
    let warned = agent
        .until("/health/ready", |ready| {
            ready["status"] == "ready" && names(&ready["warnings"], waits)
        })
        .await;
    assert!(
        names(
            &warned["warnings"],
            "the last known preferences for posts cannot be stored on disk"
        ) && names(&warned["warnings"], "Put the file there"),
        "{warned}"
    );
    agent
        .until("/health/ready", |ready| {
            let all = [
                "nightly cannot be planned: ",
                "refused cannot be planned: ",
                "posts: 1 delivery failed and will be retried: ",
            ];
            ready["status"] == "ready" && all.iter().all(|words| names(&ready["warnings"], words))
        })
        .await;
    for run in ["ann", "mug"] {
        agent
            .until(&format!("/api/v1/tenants/{run}/runs"), |runs| {
                names(&runs["runs"], "succeeded")
            })
            .await;
    }

    // A preference that changes makes the scheduler plan anew; it need not wait for its next minute.
    project.write("batch/nightly.json", r#"[{"id": "cup"}]"#);
    let later = json!({"config_value": {"posts": {"enabled": true, "frequency": "daily", "preferred_time": "11:00"}}});
    agent
        .config(
            Method::PUT,
            "tenants/bob/configs/feature_preferences",
            &later,
        )
        .await;
    agent
        .until("/api/v1/tenants/cup/runs", |runs| {
            names(&runs["runs"], "succeeded")
        })
        .await;
    agent
        .until("/health/ready", |ready| {
            !names(&ready["warnings"], "nightly") && names(&ready["warnings"], "refused")
        })
        .await;
    assert!(agent.terminate().success());
}
