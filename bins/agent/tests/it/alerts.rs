//! Alerts: from the settings to what a receiver gets.

use std::{
    process::Command,
    sync::{Arc, Mutex},
    time::{Duration, Instant},
};

use axum::{
    Router,
    body::Bytes,
    extract::State,
    http::{HeaderMap, StatusCode},
};
use chrono::{TimeDelta, Utc};
use reqwest::Method;
use serde_json::{Value, json};

use crate::{
    agent::{Agent, at_time},
    common::{daily, serve},
    project::Project,
    smtp::SmtpServer,
};

const SECRET: &str = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw";
/// An agent looks every 15 s, and reports what it has seen for a minute.
const PATIENCE: Duration = Duration::from_mins(3);

/// What came.
#[derive(Clone, Default)]
struct Inbox(Arc<Mutex<Vec<(HeaderMap, Bytes)>>>);

impl Inbox {
    async fn serve(&self) -> String {
        let router = Router::new()
            .fallback(
                async |State(inbox): State<Inbox>, headers: HeaderMap, body: Bytes| {
                    inbox.0.lock().unwrap().push((headers, body));
                    StatusCode::NO_CONTENT
                },
            )
            .with_state(self.clone());
        format!("{}/hook", serve(router).await)
    }

    /// What came, each checked as a receiver does.
    fn got(&self) -> Vec<(String, Value)> {
        let receiver = standardwebhooks::Webhook::new(SECRET).unwrap();
        let got = self.0.lock().unwrap().clone();
        let got = got.iter().map(|(headers, body)| {
            receiver.verify(body, headers).unwrap();
            let id = headers["webhook-id"].to_str().unwrap().to_owned();
            (id, serde_json::from_slice(body).unwrap())
        });
        got.collect()
    }

    /// Waits until so many have come.
    async fn until(&self, count: usize, agent: &Agent) -> Vec<(String, Value)> {
        let began = Instant::now();
        loop {
            let got = self.got();
            if got.len() >= count {
                return got;
            }
            assert!(began.elapsed() < PATIENCE, "{}", agent.log().join("\n"));
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
    }
}

/// A job whose every item fails.
fn failing() -> Project {
    let job = json!({"default_preferences": {"frequency": "daily"}, "retry_limit": 0});
    let project = Project::new(json!({"handler": "template", "template": "t.j2"}), job);
    project.write("templates/t.j2", "{{ word }}");
    project
}

fn command(project: &Project, url: &str) -> Command {
    let mut command = project.command();
    command
        .env("BATCH_ALERTS_URL", url)
        .env("BATCH_ALERTS_SECRET", SECRET)
        .env("BATCH_ALERTS_ALLOW_PRIVATE_ADDRESSES", "true");
    command
}

/// Lets the wall clock run five times as fast, so that a minute is over with the agent's next look. It begins behind, as far as
/// receivers let signatures be: so it does not get too far ahead either.
fn hurry(command: &mut Command) {
    let begin = Utc::now() - TimeDelta::minutes(4);
    at_time(command, &begin.format("%Y-%m-%d %H:%M:%S x5").to_string());
}

/// `punctual-agent alerts test` at a running agent: whether it succeeded, and what it printed.
fn test_alerts(project: &Project, agent: &Agent) -> (bool, Value) {
    let mut command = project.command();
    let address = agent.api().strip_prefix("http://").unwrap();
    let output = command
        .env("BATCH_HTTP_ADDR", address)
        .args(["alerts", "test", "--json"])
        .output()
        .unwrap();
    let printed = serde_json::from_slice(&output.stdout).unwrap_or_default();
    (output.status.success(), printed)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_test_reaches_the_webhook_of_the_settings_and_says_what_it_answered() {
    let (inbox, project) = (Inbox::default(), failing());
    let url = inbox.serve().await;
    let agent = Agent::start(command(&project, &url));
    let (succeeded, report) = test_alerts(&project, &agent);
    assert!(succeeded, "{report}");
    assert_eq!(
        report["answers"],
        json!([{"channel": "webhook", "sent": true, "answer": "204 No Content"}])
    );
    let [(id, body)] = inbox.got().try_into().unwrap();
    assert_eq!(
        (body["type"].as_str(), &body["id"]),
        (Some("finding.test"), &report["alert_id"])
    );
    assert_eq!(body["id"], id.as_str());
    assert_eq!(body["agent"]["shard"], "1/1");
    assert!(
        agent
            .api()
            .ends_with(body["agent"]["name"].as_str().unwrap())
    );
    let list = agent.get("/api/v1/alerts").await;
    assert_eq!(list["channels"][0]["name"], "webhook");
    assert_eq!(
        list["channels"][0]["target"],
        url.strip_suffix("/hook").unwrap()
    );
    assert_eq!(list["alerts"][0]["deliveries"][0]["state"], "sent");
    assert!(!list.to_string().contains("whsec_"));
}

#[tokio::test]
async fn without_a_channel_a_test_is_refused() {
    let project = failing();
    let agent = Agent::start(project.command());
    let (succeeded, printed) = test_alerts(&project, &agent);
    assert!(!succeeded);
    assert_eq!(printed, Value::Null);
    assert_eq!(agent.get("/api/v1/alerts").await["channels"], json!([]));
}

#[tokio::test]
async fn a_purpose_that_sends_no_e_mails_is_refused_at_the_start_and_by_check() {
    let project = failing();
    for arguments in [["run"], ["check"]] {
        let output = project
            .command()
            .env("BATCH_ALERTS_EMAIL", "ann@shop.example")
            .env("BATCH_ALERTS_EMAIL_PURPOSE", "write")
            .args(arguments)
            .output()
            .unwrap();
        let error = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(2), "{error}");
        assert!(
            error.contains("BATCH_ALERTS_EMAIL_PURPOSE is \"write\""),
            "{error}"
        );
    }
}

#[cfg_attr(
    not(feature = "servers"),
    ignore = "needs what `make setup` installs; run `make test`"
)]
#[tokio::test]
async fn a_test_reaches_every_address_by_the_server_of_the_purpose() {
    let (server, project) = (SmtpServer::start(), failing());
    let purposes = json!({"purposes": {"write": {"handler": "template", "template": "t.j2"},
        "mail": server.purpose("{{ item.tenant_id }}@shop.example")}});
    project.write("batch/purposes.json", &purposes.to_string());
    project.write("templates/mail.j2", "a digest");
    let mut command = project.command();
    command
        .env("BATCH_ALERTS_EMAIL", "ann@shop.example, bob@shop.example")
        .env("BATCH_ALERTS_EMAIL_PURPOSE", "mail");
    let agent = Agent::start(command);
    let (succeeded, report) = test_alerts(&project, &agent);
    assert!(succeeded, "{report}");
    let taken = server.taken();
    assert_eq!(taken.len(), 2);
    for (mail, to) in taken.iter().zip(["ann@shop.example", "bob@shop.example"]) {
        assert!(mail.contains(to), "{mail}");
        assert!(mail.contains("news@shop.example"), "{mail}");
        assert!(mail.contains("test alert"), "{mail}");
        assert!(mail.contains("This is a test."), "{mail}");
    }
}

/// Fails a run of the job.
async fn fail_a_run(agent: &Agent) {
    agent
        .until("/api/v1/jobs/posts", |job| job["tenants"] == 1)
        .await;
    agent
        .call(Method::POST, "/api/v1/jobs/posts/trigger", &json!({}))
        .await;
}

fn importing(project: &Project, command: &mut Command) {
    let preferences = project.preferences([("ann".to_owned(), daily())].into_iter());
    command.args(["run", "--import"]).arg(preferences);
}

#[cfg_attr(
    not(feature = "servers"),
    ignore = "needs what `make setup` installs; run `make test`"
)]
#[tokio::test]
async fn a_job_that_fails_is_reported_once() {
    let (inbox, project) = (Inbox::default(), failing());
    let mut command = command(&project, &inbox.serve().await);
    importing(&project, &mut command);
    hurry(&mut command);
    let agent = Agent::start(command);
    fail_a_run(&agent).await;
    let got = inbox.until(1, &agent).await;
    let (_, body) = &got[0];
    assert_eq!(body["type"], "finding.opened");
    let finding = &body["finding"];
    assert_eq!(finding["id"], "job-failing/posts");
    assert_eq!(finding["title"], "posts fails");
    assert!(
        finding["detail"]
            .as_str()
            .unwrap()
            .contains("1 of 1 item failed")
    );
    let link = finding["url"].as_str().unwrap();
    assert!(link.starts_with(agent.api()), "{link}");
    assert!(link.contains("/batches/"), "{link}");
}

#[cfg(feature = "failpoints")]
#[cfg_attr(
    not(feature = "servers"),
    ignore = "needs what `make setup` installs; run `make test`"
)]
#[tokio::test]
async fn an_alert_that_was_sent_and_not_noted_is_sent_again_with_its_id() {
    use std::os::unix::process::ExitStatusExt;
    let (inbox, project) = (Inbox::default(), failing());
    let url = inbox.serve().await;
    let mut first = command(&project, &url);
    first.env("FAILPOINTS", "alert-before-note=return");
    importing(&project, &mut first);
    hurry(&mut first);
    let agent = Agent::start(first);
    fail_a_run(&agent).await;
    inbox.until(1, &agent).await;
    assert_eq!(agent.ended().await.signal(), Some(6));
    let agent = Agent::start(command(&project, &url));
    let got = inbox.until(2, &agent).await;
    assert_eq!(got[0], got[1]);
    let sent = |list: &Value| list["alerts"][0]["deliveries"][0]["state"] == "sent";
    agent.until("/api/v1/alerts", sent).await;
    assert_eq!(inbox.got().len(), 2);
}
