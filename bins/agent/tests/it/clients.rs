//! The example workers of `docs/usage/clients`, as their own processes: they complete an agent's items, and check what they get.

use std::{
    collections::HashMap,
    io::{BufRead, BufReader},
    process::{Child, Command, Stdio},
    sync::{Arc, Mutex},
    time::Duration,
};

use axum::{
    Router,
    body::Bytes,
    extract::State,
    http::{StatusCode, Uri, header::RETRY_AFTER},
    response::{IntoResponse, Response},
};
use reqwest::{Client, RequestBuilder};
use serde_json::{Value, json};
use standardwebhooks::Webhook;

use crate::{
    agent::{TEST_TIMEOUT, repository},
    common::{daily, daily_with, serve},
    failures::{completed, names, trigger},
    project::Project,
};

const SECRET: &str = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw";
const OTHER_SECRET: &str = "whsec_C2FVsBQIhrscChlQIMV+b5sSYspob7oD";

/// A worker that runs; killed when dropped.
struct Worker {
    child: Child,
    url: String,
}

impl Worker {
    fn python() -> Self {
        Self::start(Command::new("python3"), "python/worker.py")
    }

    fn typescript() -> Self {
        let node = std::env::var("TEST_NODE").expect("run it under tests/with-clients.sh");
        Self::start(Command::new(node), "typescript/worker.mts")
    }

    fn start(mut command: Command, file: &str) -> Self {
        let mut child = command
            .arg(repository().join("docs/usage/clients").join(file))
            .env("WEBHOOK_SECRET", SECRET)
            .env("PUNCTUAL_URL", "http://127.0.0.1:")
            .env("PORT", "0")
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
        let line = lines.next().expect("a worker says its address").unwrap();
        std::thread::spawn(move || lines.for_each(drop));
        let url = line.strip_prefix("Listening on ").unwrap().to_owned();
        Self { child, url }
    }

    /// A call for the item of ann, signed with this secret this many seconds ago.
    fn call(&self, secret: &str, age: i64, completion_url: &str) -> RequestBuilder {
        let preference = json!({"template_overrides": {"subject": "News"}});
        let body = json!({"tenant_id": "ann", "preference": preference}).to_string();
        let (id, at) = ("posts/ann/2026-03-02", chrono::Utc::now().timestamp() - age);
        let signer = Webhook::new(secret).unwrap();
        let signature = signer.sign(id, at, body.as_bytes()).unwrap();
        Client::new()
            .post(&self.url)
            .header("webhook-id", id)
            .header("webhook-timestamp", at)
            .header("webhook-signature", signature)
            .header("Punctual-Completion-Url", completion_url)
            .body(body)
    }
}

impl Drop for Worker {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// An address of completions, which keeps what it takes. It refuses the first two ends: that of an item that does not wait
/// yet, and one that comes while the agent restarts.
#[derive(Clone, Default)]
struct Completions {
    taken: Arc<Mutex<Vec<(String, Value)>>>,
    ends: Arc<Mutex<u32>>,
}

async fn take(State(completions): State<Completions>, uri: Uri, body: Bytes) -> Response {
    let path = uri.path().to_owned();
    if path.ends_with("/complete") {
        let mut ends = completions.ends.lock().unwrap();
        *ends += 1;
        match *ends {
            1 => return (StatusCode::CONFLICT, [(RETRY_AFTER, "0")]).into_response(),
            2 => return StatusCode::SERVICE_UNAVAILABLE.into_response(),
            _ => {}
        }
    }
    let body = serde_json::from_slice(&body).unwrap();
    completions.taken.lock().unwrap().push((path, body));
    StatusCode::OK.into_response()
}

impl Completions {
    async fn serve(&self) -> String {
        serve(Router::new().fallback(take).with_state(self.clone())).await
    }

    /// What was taken, once something has been completed at this path.
    async fn until_taken(&self, path: &str) -> Vec<(String, Value)> {
        let waiting = async {
            loop {
                let taken = self.taken.lock().unwrap().clone();
                if taken.iter().any(|(at, _)| at == path) {
                    return taken;
                }
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
        };
        let waited = tokio::time::timeout(TEST_TIMEOUT, waiting).await;
        waited.expect("the worker does not complete its work")
    }
}

/// Runs a job of 21 items, of which the worker refuses one.
async fn completes_the_items_of_an_agent(worker: &Worker) {
    let purpose = json!({"handler": "webhook", "url": worker.url, "secret_env": "WORKER_SECRET",
        "allow_private_addresses": true});
    let project = Project::new(purpose, json!({}));
    let good = names("good", 20);
    let with_subject = |name: &String| (name.clone(), daily_with(&json!({"subject": "News"})));
    let bad = ("bad".to_owned(), daily());
    let tenants = good.iter().map(with_subject).chain([bad]);
    let mut command = project.command();
    command.env("WORKER_SECRET", SECRET);
    let agent = project.run(command, tenants).await;
    let batch = completed(&agent, &trigger(&agent).await).await;
    let progress = &batch["progress"];
    assert_eq!(
        (&progress["succeeded"], &progress["failed"]),
        (&json!(20), &json!(1)),
        "{batch}"
    );

    let id = batch["batch_id"].as_str().unwrap();
    let path = format!("/api/v1/batches/{id}/results");
    let results = agent.all(&path, "results").await;
    let results: HashMap<&str, &Value> = results
        .iter()
        .map(|result| (result["tenant_id"].as_str().unwrap(), result))
        .collect();
    for tenant in &good {
        let output = json!({"report": format!("News for {tenant}"), "pages": 3});
        let result = results[tenant.as_str()];
        assert_eq!(
            result["result"],
            json!({"status": 202, "body": output}),
            "{result}"
        );
    }
    let bad = results["bad"];
    let error = bad["error"].as_str().unwrap();
    assert!(
        error.contains("invalid subject null; expected a text"),
        "{bad}"
    );
    assert_eq!(
        (&bad["status"], &bad["attempts"]),
        (&json!("failed"), &json!(1)),
        "{bad}"
    );
}

/// Calls a worker as the agent does, and as others could.
async fn works_once_and_only_for_its_agent(worker: &Worker) {
    let completions = Completions::default();
    let url = completions.serve().await;
    let (first, second) = (format!("{url}/first"), format!("{url}/second"));
    let preview = worker.call(SECRET, 0, "").header("Punctual-Dry-Run", "1");
    for (expected, call) in [
        (401, worker.call(OTHER_SECRET, 0, &first)),
        (401, worker.call(SECRET, 400, &first)),
        (400, worker.call(SECRET, 0, "http://shop.example/first")),
        (200, preview),
        (202, worker.call(SECRET, 0, &first)),
    ] {
        let answer = call.send().await.unwrap();
        let status = answer.status().as_u16();
        let text = answer.text().await.unwrap();
        assert_eq!(status, expected, "{text}");
    }
    completions.until_taken("/first/complete").await;
    // The agent has not got the answer, and calls again.
    let answer = worker.call(SECRET, 0, &second).send().await.unwrap();
    assert_eq!(answer.status(), StatusCode::ACCEPTED);
    let taken = completions.until_taken("/second/complete").await;

    let page = |page: u32| {
        let progress = format!("page {page} of 3");
        let body = json!({"seconds": 600, "progress": progress});
        ("/first/extend".to_owned(), body)
    };
    let output = json!({"report": "News for ann", "pages": 3});
    let ends =
        ["/first/complete", "/second/complete"].map(|path| (path.to_owned(), output.clone()));
    let expected: Vec<(String, Value)> = (1..=3).map(page).chain(ends).collect();
    assert_eq!(taken, expected);
}

#[cfg_attr(
    not(feature = "servers"),
    ignore = "needs what `make setup` installs; run `make test`"
)]
#[tokio::test]
async fn the_python_worker_completes_the_items_of_an_agent() {
    completes_the_items_of_an_agent(&Worker::python()).await;
}

#[cfg_attr(
    not(feature = "servers"),
    ignore = "needs what `make setup` installs; run `make test`"
)]
#[tokio::test]
async fn the_typescript_worker_completes_the_items_of_an_agent() {
    completes_the_items_of_an_agent(&Worker::typescript()).await;
}

#[cfg_attr(
    not(feature = "servers"),
    ignore = "needs what `make setup` installs; run `make test`"
)]
#[tokio::test]
async fn the_python_worker_works_once_and_only_for_its_agent() {
    works_once_and_only_for_its_agent(&Worker::python()).await;
}

#[cfg_attr(
    not(feature = "servers"),
    ignore = "needs what `make setup` installs; run `make test`"
)]
#[tokio::test]
async fn the_typescript_worker_works_once_and_only_for_its_agent() {
    works_once_and_only_for_its_agent(&Worker::typescript()).await;
}
