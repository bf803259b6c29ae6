//! The Config Database goes away: the last known preferences stay in effect, also after a restart of the agent.

use std::process::Command;

use punctual_config_database::{Server, ServerSettings};
use serde_json::{Value, json};
use tempfile::TempDir;
use tokio::{sync::oneshot, task::JoinHandle};

use crate::{
    agent::{Agent, at_time, command},
    common::serve,
    control::ask,
    project::Project,
};

/// A Config Database outside the agent, with three tenants who are due at 09:00.
async fn config_database(
    folder: &TempDir,
) -> (String, oneshot::Sender<()>, JoinHandle<std::io::Result<()>>) {
    let file = folder.path().join("preferences.ndjson");
    let line = |tenant: &str| {
        let preference = json!({"enabled": true, "frequency": "daily", "preferred_time": "09:00",
            "template_overrides": {"brand": tenant, "tone": "bold"}});
        json!({"tenant_id": tenant, "updated_at": "2026-01-01T00:00:00Z",
               "config_value": {"instagram_posts": preference}})
        .to_string()
    };
    std::fs::write(&file, ["a", "b", "c"].map(line).join("\n")).unwrap();
    let server = Server::bind(ServerSettings {
        store_url: format!("sqlite://{}", folder.path().join("config.db").display()),
        addr: "127.0.0.1:0".parse().unwrap(),
        admin_key: None,
    })
    .await
    .unwrap();
    server.store().import_file(&file).await.unwrap();
    let url = format!("http://{}", server.addr());
    let (stop, stopped) = oneshot::channel();
    let serving = tokio::spawn(server.serve(async move {
        let _ = stopped.await;
    }));
    (url, stop, serving)
}

#[cfg_attr(
    not(feature = "servers"),
    ignore = "needs what `make setup` installs; run `make test`"
)]
#[tokio::test]
async fn an_agent_that_starts_without_its_config_database_runs_what_it_knew() {
    let folder = tempfile::tempdir().unwrap();
    let (url, stop, serving) = config_database(&folder).await;
    let start = |instant: &str| {
        let mut command: Command = command(folder.path());
        command.env("CONFIG_SERVICE_URL", &url);
        at_time(&mut command, instant);
        Agent::start(command)
    };
    let agent = start("2026-03-02 08:00:00");
    agent
        .until("/health/ready", |ready| ready["status"] == "ready")
        .await;
    assert!(agent.terminate().success());
    stop.send(()).unwrap();
    serving.await.unwrap().unwrap();

    let agent = start("2026-03-02 08:59:57");
    let jobs = agent
        .until("/api/v1/jobs", |jobs| jobs["jobs"][0]["tenants"] == 3)
        .await;
    assert!(jobs["jobs"][0]["trouble"].is_string());
    let runs = agent
        .until("/api/v1/tenants/b/runs", |answer| {
            answer["runs"]
                .as_array()
                .unwrap()
                .iter()
                .any(|run| run["status"] == "succeeded")
        })
        .await;
    let text = runs["runs"][0]["result"]["text"]
        .as_str()
        .unwrap()
        .to_owned();
    assert!(
        text.contains("b does not do ordinary"),
        "with the tenant's own overrides: {text}"
    );
    let ready: Value = agent.get("/health/ready").await;
    assert_eq!(ready["status"], "ready");
    assert!(
        ready["warnings"]
            .to_string()
            .contains("on preferences that are "),
        "{ready}"
    );
    let status = ask(&agent, &["status"]);
    let shown = String::from_utf8_lossy(&status.stdout);
    assert!(shown.contains("runs on old preferences"), "{shown}");
    // It says how old they are.
    agent.until_logged("3 tenants as of 2026-03-02 08:00").await;
    agent
        .until_logged("Error connecting to Config Database at")
        .await;
    assert!(agent.terminate().success());
}

#[tokio::test]
async fn an_agent_that_has_no_preferences_says_what_waits_and_all_that_is_wrong() {
    let job = json!({"default_preferences": {"frequency": "daily"}});
    let project = Project::new(json!({"handler": "template", "template": "t.j2"}), job);
    project.write("templates/t.j2", "Good morning");
    project.write("known/posts.ndjson", "nonsense\n");
    let mut command = project.command();
    command
        .env("CONFIG_SERVICE_URL", "http://127.0.0.1:9")
        .env("CONFIG_LAST_KNOWN_GOOD_PATH", project.path().join("known"));
    let agent = Agent::start(command);
    let reasons = agent
        .until("/health/ready", |ready| {
            ready["reasons"].to_string().contains("Error connecting")
        })
        .await;
    let reasons = reasons["reasons"].to_string();
    for part in [
        "posts does not run until preferences have been read: Error connecting to Config Database",
        "; and the last known preferences on disk cannot be used: ",
        "known/posts.ndjson: is not a file of last known preferences",
    ] {
        assert!(reasons.contains(part), "{part}: {reasons}");
    }
    let status = ask(&agent, &["status"]);
    let shown = String::from_utf8_lossy(&status.stdout);
    assert!(shown.contains("waits for preferences"), "{shown}");
    // For whom the job runs is not known; that no preference is stored is not known, either.
    let trigger = ask(&agent, &["trigger", "posts", "--yes"]);
    let refused = String::from_utf8_lossy(&trigger.stderr);
    assert_eq!(trigger.status.code(), Some(1), "{refused}");
    assert!(
        refused.contains("the preferences of posts have not been read yet: Error connecting"),
        "{refused}"
    );
    assert!(agent.terminate().success());
}

#[tokio::test]
async fn a_second_agent_on_the_same_folder_does_not_start() {
    let folder = tempfile::tempdir().unwrap();
    let (url, _stop, _serving) = config_database(&folder).await;
    let command = || {
        let mut command: Command = command(folder.path());
        command.env("CONFIG_SERVICE_URL", &url);
        command
    };
    let _first = Agent::start(command());
    let second = command().arg("run").output().unwrap();
    let errors = String::from_utf8_lossy(&second.stderr).into_owned();
    assert!(!second.status.success());
    assert!(
        errors.contains("is used by another agent (process ")
            && errors.contains("CONFIG_LAST_KNOWN_GOOD_PATH"),
        "{errors}"
    );
}

/// A foreign Config Database whose groups hold entries that do not fit, and a feed that begins again.
async fn foreign() -> String {
    let groups = r#"{"groups": [{"frequency": "daily", "preferred_time": "09:00", "tenants": [
        "good", 17, {"tenant_id": "bad", "updated_at": "yesterday", "x": NaN}]}, {"tenants": null}]}"#;
    let answer = move |request: axum::extract::Request| async move {
        let path = request.uri().path();
        let body = match path.rsplit('/').next() {
            Some("groups") => groups,
            Some("changes") => {
                r#"{"changes": [null, {"id": 1, "tenant_id": "good2", "changed_at": 5}]}"#
            }
            _ => "{}",
        };
        ([("content-type", "application/json")], body)
    };
    serve(axum::Router::new().fallback(answer)).await
}

#[cfg_attr(
    not(feature = "servers"),
    ignore = "needs what `make setup` installs; run `make test`"
)]
#[tokio::test]
async fn entries_that_cannot_be_read_are_shown_and_all_others_run() {
    let folder = tempfile::tempdir().unwrap();
    let mut command: Command = command(folder.path());
    command.env("CONFIG_SERVICE_URL", foreign().await);
    at_time(&mut command, "2026-03-02 08:59:55");
    let agent = Agent::start(command);
    let runs = agent
        .until("/api/v1/tenants/good/runs", |answer| {
            !answer["runs"].as_array().unwrap().is_empty()
        })
        .await;
    assert_eq!(runs["runs"][0]["tenant_id"], "good");
    let quarantine: Value = agent.get("/api/v1/quarantine").await;
    let shown = quarantine.to_string();
    for expected in ["\"bad\"", "NaN", "\"17\"", "/groups/1/tenants"] {
        assert!(shown.contains(expected), "{expected}: {shown}");
    }
    let explained: Value = agent
        .get("/api/v1/tenants/bad/explain?job_id=instagram_post_preference_based")
        .await;
    assert!(
        explained["explanation"]
            .as_str()
            .unwrap()
            .contains("quarantined"),
        "{explained}"
    );
    assert!(agent.terminate().success());
}
