//! Every key the agent is given is a canary, and every endpoint throws it back in its error: none of them may be found in
//! the log, on a page, in an answer, in a metric, or in a file.

use std::path::Path;

use axum::{
    Json, Router,
    http::{HeaderMap, StatusCode},
};
use reqwest::{Client, redirect::Policy};
use serde_json::{Value, json};

use crate::{
    agent::{Agent, repository},
    common::{FAR_FROM_NOW, serve},
    project::Project,
};

/// Echoes the request in the response, as some services do.
async fn throw_back(headers: HeaderMap, body: String) -> (StatusCode, Json<Value>) {
    let sent = format!("you sent {headers:?} {body}");
    let answer =
        json!({"error": {"message": sent}, "detail": sent, "title": sent, "message": sent});
    (StatusCode::UNAUTHORIZED, Json(answer))
}

fn files_below(folder: &Path, found: &mut Vec<(String, Vec<u8>)>) {
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            files_below(&path, found);
        } else {
            found.push((path.display().to_string(), std::fs::read(&path).unwrap()));
        }
    }
}

fn clean(place: &str, text: &[u8]) {
    let text = String::from_utf8_lossy(text);
    if let Some(at) = text.find("canary") {
        let before: String = text[..at].chars().rev().take(150).collect();
        let before: String = before.chars().rev().collect();
        panic!("a key in {place}: {before}canary…");
    }
}

// The test waits for commands while the endpoint answers.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_key_is_found_anywhere_whatever_goes_wrong() {
    let url = serve(Router::new().fallback(throw_back)).await;

    let project = Project::new(json!({}), json!({}));
    let schedule = json!({"frequency": "daily", "preferred_time": *FAR_FROM_NOW});
    let fixed = |name: &str, purpose: &str, source: Value| {
        json!({"job_id": name, "type": "individual_batch", "purpose_id": purpose, "schedule": schedule,
            "source": source, "retry_limit": 1,
            "deliver": [{"url": format!("{url}/results"), "secret_env": "HOOK_SECRET", "allow_private_addresses": true}]})
    };
    let people = json!({"file": "people.json"});
    let jobs = json!({"jobs": [
        fixed("asks", "ask", people.clone()),
        fixed("posts", "post", people),
        fixed("reads", "post", json!({"url": format!("{url}/people"), "items": "/data", "api_key_env": "SOURCE_KEY", "allow_private_addresses": true})),
        {"job_id": "follows", "type": "individual_batch", "purpose_id": "ask", "preference_based": true, "feature_type": "f"}
    ]});
    project.write("batch/batch_config.json", &jobs.to_string());
    project.write("batch/people.json", r#"["ann", "bob"]"#);
    let purposes = json!({"purposes": {
        "ask": {"handler": "chat", "base_url": format!("{url}/v1"), "allow_private_addresses": true, "model": "m", "api_key_env": "LLM_KEY",
            "user_template": "ask.j2"},
        "post": {"handler": "webhook", "url": format!("{url}/hook"), "secret_env": "HOOK_SECRET",
            "allow_private_addresses": true}
    }});
    project.write("batch/purposes.json", &purposes.to_string());
    project.write("templates/ask.j2", "Hello {{ item.tenant_id }}");
    let keys = [
        ("BATCH_API_KEY", "canary-batch"),
        ("CONFIG_SERVICE_API_KEY", "canary-config"),
        ("LLM_KEY", "canary-model"),
        ("SOURCE_KEY", "canary-source"),
        ("HOOK_SECRET", "canary-hook"),
        ("OTEL_EXPORTER_OTLP_HEADERS", "authorization=canary-traces"),
    ];
    let mut command = project.command();
    command
        .envs(keys)
        .env("CONFIG_SERVICE_URL", &url)
        .env("OTEL_EXPORTER_OTLP_ENDPOINT", &url)
        .env("OTEL_BSP_SCHEDULE_DELAY", "100")
        .env("BATCH_LOG", "trace,hyper=info,reqwest=info,sqlx=info")
        .arg("run");
    let agent = Agent::start(command).with_api_key("canary-batch");

    let client = Client::builder().redirect(Policy::none()).build().unwrap();
    let at = |path: &str| format!("{}{path}", agent.api());
    let mut batches = Vec::new();
    for job in ["asks", "posts"] {
        let path = format!("/api/v1/jobs/{job}/trigger");
        let queued = agent.call(reqwest::Method::POST, &path, &json!({})).await;
        let id = queued["batch_id"].as_str().unwrap().to_owned();
        agent
            .until(&format!("/api/v1/batches/{id}"), |batch| {
                batch["status"] == "completed"
            })
            .await;
        batches.push(id);
    }
    let refused = client
        .post(at("/api/v1/jobs/reads/trigger"))
        .bearer_auth("canary-batch");
    let refused = refused.send().await.unwrap();
    assert_eq!(refused.status(), 400);
    clean("what a source answers", &refused.bytes().await.unwrap());
    let results = format!("/api/v1/batches/{}/results", batches[0]);
    let failed = agent.get(&results).await;
    assert_eq!(failed["results"][0]["status"], "failed", "{failed}");
    assert!(
        failed.to_string().contains("you sent"),
        "the reason is kept: {failed}"
    );

    // Guesses, and keys where they do not belong.
    let guess = client.get(at("/api/v1/jobs")).bearer_auth("canary-guess");
    clean(
        "a refusal",
        &guess.send().await.unwrap().bytes().await.unwrap(),
    );
    let in_url = client.get(at("/api/v1/jobs?key=canary-batch&limit=canary"));
    clean(
        "a refusal",
        &in_url.send().await.unwrap().bytes().await.unwrap(),
    );
    let sign_in = |form: &'static str| {
        let kind = "application/x-www-form-urlencoded";
        let sent = client.post(at("/sign-in")).header("content-type", kind);
        sent.body(form)
    };
    let form = sign_in("key=canary-guess");
    clean(
        "the way in",
        &form.send().await.unwrap().bytes().await.unwrap(),
    );
    let form = sign_in("key=canary-batch");
    let signed_in = form.send().await.unwrap();
    let cookie = signed_in.headers()["set-cookie"]
        .to_str()
        .unwrap()
        .to_owned();
    clean("the cookie", cookie.as_bytes());
    let cookie = cookie.split(';').next().unwrap();

    let mut paths: Vec<String> = [
        "/",
        "/jobs",
        "/jobs/asks",
        "/jobs/follows",
        "/batches",
        "/tenants/ann",
        "/dead-letters",
        "/quarantine",
        "/replicas",
        "/audit-log",
        "/metrics",
        "/health/ready",
        "/openapi.json",
        "/api/v1/jobs",
        "/api/v1/batches",
        "/api/v1/dead-letters",
        "/api/v1/audit-log",
        "/api/v1/tenants/ann/runs",
        "/api/v1/tenants/ann/features/posts/runs",
        "/api/v1/tenants/ann/explain?job_id=asks",
        "/api/v1/tenants/ann/explain?job_id=follows",
    ]
    .map(str::to_owned)
    .into();
    for id in &batches {
        paths.push(format!("/batches/{id}"));
        paths.push(format!("/api/v1/batches/{id}/results"));
    }
    for path in &paths {
        let answer = client
            .get(at(path))
            .header("cookie", cookie)
            .bearer_auth("canary-batch");
        let answer = answer.send().await.unwrap();
        assert!(answer.status() != 401 && answer.status() != 303, "{path}");
        clean(path, &answer.bytes().await.unwrap());
    }
    // The same on the command line.
    let address = agent.api().trim_start_matches("http://").to_owned();
    for words in [
        &["check"][..],
        &["reference", "settings"],
        &["dead-letters", "list", "--json"],
        &["explain", "--tenant", "ann", "--job", "follows"],
    ] {
        let mut command = project.command();
        let output = command
            .envs(keys)
            .env("BATCH_HTTP_ADDR", &address)
            .args(words)
            .current_dir(repository())
            .output()
            .unwrap();
        clean(words[0], &output.stdout);
        clean(words[0], &output.stderr);
    }
    let log = agent.log().join("\n");
    assert!(
        log.contains("you sent") || log.contains("failed for good"),
        "{log}"
    );
    assert!(agent.terminate().success());
    clean("the log", log.as_bytes());
    let mut files = Vec::new();
    files_below(project.path(), &mut files);
    assert!(files.iter().any(|(name, _)| name.ends_with("punctual.db")));
    for (name, content) in &files {
        clean(name, content);
    }
}
