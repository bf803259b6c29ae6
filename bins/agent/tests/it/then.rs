//! Jobs with two purposes: what the first has made is passed to the second, and is not made again.

use std::sync::{
    Arc, Mutex,
    atomic::{AtomicBool, Ordering},
};

use axum::{
    Json, Router,
    body::Bytes,
    extract::State,
    http::{HeaderMap, StatusCode, Uri},
};
use serde_json::{Value, json};

use crate::{
    agent::Agent,
    common::{FAR_FROM_NOW, daily, serve, until_beside},
    control::stdout_of,
    failures::{completed, trigger},
    project::Project,
    smtp::SmtpServer,
};

/// A call: its path, its idempotency key and its body.
type Call = (String, String, Value);

/// An endpoint that writes at `/write`. At `/send` it refuses the tenant `bad`, until it is mended.
#[derive(Clone, Default)]
struct Endpoint {
    calls: Arc<Mutex<Vec<Call>>>,
    mended: Arc<AtomicBool>,
}

async fn answer(
    State(endpoint): State<Endpoint>,
    uri: Uri,
    headers: HeaderMap,
    body: Bytes,
) -> (StatusCode, Json<Value>) {
    let body: Value = serde_json::from_slice(&body).unwrap();
    let tenant = body["tenant_id"].as_str().unwrap().to_owned();
    let key = headers["idempotency-key"].to_str().unwrap().to_owned();
    let path = uri.path().to_owned();
    let answer = match path.as_str() {
        "/write" => (StatusCode::OK, json!({"text": format!("Hello {tenant}")})),
        _ if tenant == "bad" && !endpoint.mended.load(Ordering::SeqCst) => {
            (StatusCode::BAD_REQUEST, json!("no such customer"))
        }
        _ => (StatusCode::OK, json!({"sent": true})),
    };
    endpoint.calls.lock().unwrap().push((path, key, body));
    (answer.0, Json(answer.1))
}

impl Endpoint {
    async fn serve(&self) -> String {
        serve(Router::new().fallback(answer).with_state(self.clone())).await
    }

    /// Its calls at a path for a tenant, as their keys and what the first purpose had written.
    fn calls(&self, path: &str, tenant: &str) -> Vec<(String, Value)> {
        let calls = self.calls.lock().unwrap();
        let of = |call: &&Call| call.0 == path && call.2["tenant_id"] == tenant;
        let calls = calls.iter().filter(of);
        calls
            .map(|(_, key, body)| (key.clone(), body["written"].clone()))
            .collect()
    }
}

fn webhook(url: &str) -> Value {
    json!({"handler": "webhook", "url": url, "allow_private_addresses": true})
}

/// A job that writes at this endpoint, and then sends.
fn project(endpoint: &str, send: Value) -> Project {
    let write = webhook(&format!("{endpoint}/write"));
    let job =
        json!({"then": "send", "retry_limit": 0, "default_preferences": {"frequency": "daily"}});
    let project = Project::new(write.clone(), job);
    let purposes = json!({"purposes": {"write": write, "send": send}});
    project.write("batch/purposes.json", &purposes.to_string());
    project
}

/// An agent that runs the job for `good` and `bad` when it is triggered.
async fn start(project: &Project, preference: impl Fn(&str) -> Value) -> Agent {
    let tenants = ["good", "bad"].map(|tenant| (tenant.to_owned(), preference(tenant)));
    project.run(project.command(), tenants).await
}

/// What the first purpose has made for a tenant.
fn written(tenant: &str) -> Value {
    json!({"status": 200, "body": {"text": format!("Hello {tenant}")}})
}

/// Has the only open dead letter run again, and returns the batch.
async fn replay(agent: &Agent) -> Value {
    let letters = agent.get("/api/v1/dead-letters?state=open").await;
    let id = letters["dead_letters"][0]["id"].to_string();
    let shown = stdout_of(agent, &["dead-letters", "replay", &id]);
    let batch = shown.split("batch ").nth(1).unwrap().trim().to_owned();
    completed(agent, &batch).await
}

#[tokio::test]
async fn what_the_first_purpose_has_made_is_passed_on_and_kept_for_a_replay() {
    let endpoint = Endpoint::default();
    let url = endpoint.serve().await;
    let project = project(&url, webhook(&format!("{url}/send")));
    let agent = start(&project, |_| daily()).await;
    let job = agent.get("/api/v1/jobs/posts").await;
    assert_eq!(job["then"], "send");
    let handler = job["then_handler"].as_str().unwrap();
    assert!(handler.starts_with("webhook http://127.0.0.1"), "{handler}");

    let batch = completed(&agent, &trigger(&agent).await).await;
    let progress = &batch["progress"];
    assert_eq!(
        (&progress["succeeded"], &progress["failed"]),
        (&json!(1), &json!(1)),
        "{batch}"
    );
    let runs = agent.get("/api/v1/tenants/good/runs").await;
    let sent = json!({"status": 200, "body": {"sent": true}});
    let both = json!({"written": written("good"), "then": sent});
    assert_eq!(runs["runs"][0]["result"], both);
    let letters = agent.get("/api/v1/dead-letters").await;
    let letter = &letters["dead_letters"][0];
    let reason = letter["reason"].as_str().unwrap();
    assert!(reason.starts_with("purpose `send`: 127.0.0.1"), "{reason}");
    let shown = stdout_of(&agent, &["results", "--tenant", "bad"]);
    assert!(shown.contains("purpose `send`: 127.0.0.1"), "{shown}");

    endpoint.mended.store(true, Ordering::SeqCst);
    let batch = replay(&agent).await;
    assert_eq!(batch["progress"]["succeeded"], 1, "{batch}");
    let key = format!("posts/bad/{}", letter["occurrence"].as_str().unwrap());
    let first = endpoint.calls("/write", "bad");
    assert_eq!(first, [(key.clone(), Value::Null)], "once");
    let second = (format!("{key}/then"), written("bad"));
    assert_eq!(endpoint.calls("/send", "bad"), [second.clone(), second]);
    let runs = agent.get("/api/v1/tenants/bad/runs").await;
    assert_eq!(runs["runs"][0]["result"]["written"], written("bad"));
}

#[test]
fn check_finds_what_is_wrong_with_a_second_purpose() {
    let purpose = json!({"handler": "template", "template": "t.j2"});
    let job = |then: &str| {
        let overrides = json!({"tone": "dry", "written": "hidden"});
        json!({"then": then, "default_preferences": {"frequency": "daily", "template_overrides": overrides}})
    };
    let check = |project: &Project| {
        let output = project.command().arg("check").output().unwrap();
        let shown = String::from_utf8(output.stdout).unwrap();
        (output.status.code().unwrap(), shown)
    };
    let of = |then: &str| {
        let project = Project::new(purpose.clone(), job(then));
        project.write("templates/t.j2", "{{ tone }}");
        project.write("templates/mail.j2", "{{ written.text }} {{ colour }}");
        let send = json!({"handler": "template", "template": "mail.j2"});
        let purposes = json!({"purposes": {"write": purpose, "send": send}});
        project.write("batch/purposes.json", &purposes.to_string());
        check(&project)
    };
    let (code, shown) = of("nowhere");
    assert_eq!(code, 2);
    let unknown = "/jobs/0/then: \"nowhere\" is not in purposes.json; add it there";
    assert!(shown.contains(unknown), "{shown}");
    let (code, shown) = of("write");
    assert_eq!(code, 2);
    assert!(
        shown.contains("/jobs/0/then: \"write\" is the job's first purpose"),
        "{shown}"
    );
    let (code, shown) = of("send");
    assert_eq!(code, 0, "{shown}");
    let overrides = "/jobs/0/default_preferences/template_overrides";
    for warning in [
        format!("{overrides}/written: is hidden in templates"),
        format!("{overrides}: does not set `colour`, which purpose `send` uses"),
    ] {
        assert!(shown.contains(&warning), "{shown}");
    }
    assert!(
        shown.ends_with("1 job, no mistakes, 2 warnings\n"),
        "{shown}"
    );
}

/// The process dies right before or after the output of the first purpose is kept.
#[cfg(feature = "failpoints")]
async fn dies_between_the_two(store_url: impl AsyncFn() -> Option<String>) {
    use std::os::unix::process::ExitStatusExt;

    for (point, writes) in [("output-before-commit", 2), ("output-after-commit", 1)] {
        let endpoint = Endpoint::default();
        let url = endpoint.serve().await;
        let project = project(&url, webhook(&format!("{url}/send")));
        let due = chrono::Utc::now() - chrono::TimeDelta::hours(2);
        let mut preference = daily();
        preference["preferred_time"] = json!(due.format("%H:%M").to_string());
        let store_url = store_url().await;
        let command = |failpoints: Option<String>| {
            let tenants = [("good".to_owned(), preference.clone())];
            let preferences = project.preferences(tenants.into_iter());
            let mut command = project.command();
            if let Some(url) = &store_url {
                command.env("BATCH_STORE_URL", url);
            }
            if let Some(failpoints) = failpoints {
                command.env("FAILPOINTS", failpoints);
            }
            command
                .args(["run", "--look-back", "24h", "--import"])
                .arg(preferences);
            command
        };
        let agent = Agent::spawn(command(Some(format!("{point}=1*return"))));
        let status = agent.ended().await;
        assert_eq!(status.signal(), Some(6), "it dies at {point}: {status}");
        assert_eq!(endpoint.calls("/write", "good").len(), 1, "{point}");
        assert_eq!(endpoint.calls("/send", "good").len(), 0, "{point}");
        let agent = Agent::start(command(None));
        let over = |list: &Value| list["batches"][0]["progress"]["succeeded"] == 1;
        agent.until("/api/v1/batches", over).await;
        let first = endpoint.calls("/write", "good");
        assert_eq!(first.len(), writes, "{point}");
        let key = &first[0].0;
        assert!(first.iter().all(|call| call.0 == *key), "{first:?}");
        let second = (format!("{key}/then"), written("good"));
        assert_eq!(endpoint.calls("/send", "good"), [second], "{point}");
        let runs = agent.get("/api/v1/tenants/good/runs").await;
        assert_eq!(runs["runs"][0]["result"]["written"], written("good"));
        assert!(agent.terminate().success());
    }
}

#[cfg(feature = "failpoints")]
#[tokio::test(flavor = "multi_thread")]
async fn a_death_between_the_two_does_not_write_again_on_sqlite() {
    dies_between_the_two(async || None).await;
}

#[cfg(feature = "failpoints")]
#[cfg_attr(
    not(feature = "servers"),
    ignore = "needs what `make setup` installs; run `make test`"
)]
#[tokio::test(flavor = "multi_thread")]
async fn a_death_between_the_two_does_not_write_again_on_postgresql() {
    dies_between_the_two(async || Some(crate::postgres::database().await)).await;
}

#[cfg_attr(
    not(feature = "servers"),
    ignore = "needs what `make setup` installs; run `make test`"
)]
#[tokio::test]
async fn what_is_written_once_is_sent_by_email() {
    let server = SmtpServer::start();
    let endpoint = Endpoint::default();
    let project = project(&endpoint.serve().await, server.purpose("{{ address }}"));
    project.write(
        "templates/mail.j2",
        "{{ written.body.text }}, here is your digest.",
    );
    let agent = start(&project, |tenant| {
        let address = match tenant {
            "bad" => "data.554.5.6.0@shop.example",
            _ => "good@shop.example",
        };
        let mut preference = daily();
        preference["template_overrides"] = json!({ "address": address });
        preference
    })
    .await;
    let batch = completed(&agent, &trigger(&agent).await).await;
    let progress = &batch["progress"];
    assert_eq!(
        (&progress["succeeded"], &progress["failed"]),
        (&json!(1), &json!(1)),
        "{}",
        agent.get("/api/v1/dead-letters").await
    );
    let taken = server.taken();
    assert_eq!(taken.len(), 1);
    let content = &taken[0];
    let expected = "Hello good, here is your digest.";
    assert!(content.contains(expected), "{content}");
    let runs = agent.get("/api/v1/tenants/good/runs").await;
    let result = &runs["runs"][0]["result"];
    assert_eq!(result["written"], written("good"));
    let id = result["then"]["message_id"].as_str().unwrap();
    assert!(content.contains(id), "{id} in {content}");
    let batch = replay(&agent).await;
    assert_eq!(batch["progress"]["failed"], 1, "{batch}");
    let letters = agent.get("/api/v1/dead-letters?state=open").await;
    let reason = letters["dead_letters"][0]["reason"].as_str().unwrap();
    assert!(reason.starts_with("purpose `send`: "), "{reason}");
    assert_eq!(endpoint.calls("/write", "bad").len(), 1, "written once");
}

#[cfg_attr(
    not(feature = "servers"),
    ignore = "needs what `make setup` installs; run `make test`"
)]
#[tokio::test]
async fn the_result_of_all_records_is_delivered_by_email() {
    let server = SmtpServer::start();
    let write = json!({"handler": "template", "template": "t.j2"});
    let project = Project::new(write.clone(), json!({}));
    let mail = server.purpose("boss@shop.example");
    let purposes = json!({"purposes": {"write": write, "mail": mail}});
    project.write("batch/purposes.json", &purposes.to_string());
    let report = |email: &str| {
        let report = json!({"jobs": [{"job_id": "report", "type": "object_batch", "purpose_id": "write",
            "schedule": {"frequency": "daily", "preferred_time": *FAR_FROM_NOW},
            "source": {"ids": ["north", "south"]}, "deliver": [{"email": email}]}]});
        project.write("batch/batch_config.json", &report.to_string());
    };
    project.write(
        "templates/t.j2",
        "of {{ item.data['items'] | length }} regions",
    );
    project.write("templates/mail.j2", "The report {{ written.text }}.");
    for (email, problem) in [
        ("nothing", "\"nothing\" is not in purposes.json"),
        (
            "write",
            "\"write\" is not a purpose whose handler is `email`",
        ),
    ] {
        report(email);
        let checked = project.command().arg("check").output().unwrap();
        let shown = String::from_utf8(checked.stdout).unwrap();
        let expected = format!("/jobs/0/deliver/0/email: {problem}");
        assert!(shown.contains(&expected), "{shown}");
    }
    report("mail");
    let mut command = project.command();
    command.arg("run");
    let agent = Agent::start(command);
    let trigger = "/api/v1/jobs/report/trigger";
    agent.call(reqwest::Method::POST, trigger, &json!({})).await;
    until_beside(&agent, || !server.taken().is_empty()).await;
    let taken = server.taken();
    assert!(
        taken[0].contains("The report of 2 regions."),
        "{}",
        taken[0]
    );
    assert!(taken[0].contains("boss@shop.example"), "{}", taken[0]);
    let job = agent.get("/api/v1/jobs/report").await;
    assert_eq!(job["deliver_to"], json!(["e-mail by mail"]));
}
