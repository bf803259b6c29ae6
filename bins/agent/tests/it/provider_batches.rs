//! Provider batches of `chat`: a server that keeps to the published APIs of `OpenAI`'s and Anthropic's batches, misbehaves as it is
//! asked to, and answers from a real language model.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, MutexGuard},
    time::Duration,
};

use axum::{
    Json, Router,
    extract::{Multipart, Path, State},
    http::StatusCode,
    response::{IntoResponse, Response},
    routing::{get, post},
};
use serde_json::{Value, json};

use crate::{
    agent::Agent,
    common::{daily_with, serve},
    failures::trigger,
    project::Project,
};

/// A model that writes on a busy machine, and leases that have to run out, take their time.
const WITHIN: Duration = Duration::from_mins(5);

/// How the server misbehaves; a number says how many times.
#[derive(Debug, Clone, Default)]
struct Faults {
    /// An upload fails.
    uploads: usize,
    /// A batch is begun, and its answer is lost.
    lost_creations: usize,
    /// A batch is not begun, while another program begins one with as many requests.
    lost_to_others: usize,
    /// A look is refused because of a rate limit.
    refused_looks: usize,
    /// Results end in the middle of a line.
    cut_results: usize,
    /// Results have lines that repeat, lines about calls of others and lines that are none.
    strange_lines: bool,
    /// So many requests fail on their own.
    failed: usize,
    /// So many requests are answered, and the batch ends like this, at once or when it is cancelled.
    ends_after: Option<(usize, &'static str)>,
}

#[derive(Debug, Default)]
struct Batch {
    id: String,
    metadata: Value,
    requests: usize,
    /// Answers, by custom id.
    answers: Vec<(String, Result<Value, Value>)>,
    status: &'static str,
}

#[derive(Debug, Default)]
struct Tables {
    faults: Faults,
    /// Name and content.
    files: Vec<(String, String)>,
    batches: Vec<Batch>,
    singles: usize,
}

/// The provider.
#[derive(Clone, Default)]
struct Provider(Arc<Mutex<Tables>>);

/// Counts a fault that is left.
fn take(left: &mut usize) -> bool {
    let is_left = *left > 0;
    *left -= usize::from(is_left);
    is_left
}

fn failure(status: StatusCode) -> Response {
    let body = json!({"error": {"message": "try later", "type": "server_error"}});
    (status, [("retry-after", "1")], Json(body)).into_response()
}

/// What the real model answers to a request in the form of `OpenAI`, the same each time.
async fn ask_the_model(request: &Value) -> Value {
    let mut request = request.clone();
    (request["temperature"], request["seed"]) = (json!(0), json!(1));
    let url = std::env::var("TEST_MODEL_URL").expect("run it under tests/with-model.sh");
    let call = reqwest::Client::new().post(format!("{url}/chat/completions"));
    let call = call.json(&request).timeout(WITHIN);
    call.send().await.unwrap().json().await.unwrap()
}

/// The same in the form of Anthropic.
async fn message(request: &Value) -> Value {
    let mut messages = request["messages"].as_array().unwrap().clone();
    if request["system"].is_string() {
        messages.insert(0, json!({"role": "system", "content": request["system"]}));
    }
    let request = json!({"model": request["model"], "max_tokens": request["max_tokens"], "messages": messages});
    let answer = ask_the_model(&request).await;
    let stop_reason = match answer["choices"][0]["finish_reason"].as_str() {
        Some("length") => "max_tokens",
        _ => "end_turn",
    };
    json!({"id": "msg_1", "type": "message", "role": "assistant", "model": answer["model"], "stop_reason": stop_reason,
        "content": [{"type": "text", "text": answer["choices"][0]["message"]["content"]}],
        "usage": {"input_tokens": answer["usage"]["prompt_tokens"], "output_tokens": answer["usage"]["completion_tokens"]}})
}

impl Provider {
    fn tables(&self) -> MutexGuard<'_, Tables> {
        self.0.lock().unwrap()
    }

    async fn serve(faults: Faults) -> (Self, String) {
        let provider = Self::default();
        provider.tables().faults = faults;
        let router = Router::new()
            .route("/v1/chat/completions", post(single))
            .route("/v1/messages", post(single_message))
            .route("/v1/files", get(list_files).post(upload))
            .route("/v1/files/{id}/content", get(content))
            .route("/v1/batches", get(list).post(create))
            .route("/v1/batches/{id}", get(look))
            .route("/v1/batches/{id}/cancel", post(cancel))
            .route("/v1/messages/batches", get(list).post(create_messages))
            .route("/v1/messages/batches/{id}", get(look_at_messages))
            .route("/v1/messages/batches/{id}/cancel", post(cancel))
            .route("/v1/messages/batches/{id}/results", get(results))
            .with_state(provider.clone());
        (provider, serve(router).await + "/v1")
    }

    /// Begins a batch with these requests, by custom id, and works on it.
    fn begin(&self, metadata: Value, requests: Vec<(String, Value)>, is_openai: bool) -> String {
        let mut tables = self.tables();
        let id = format!("batch_{}", tables.batches.len());
        tables.batches.push(Batch {
            id: id.clone(),
            metadata,
            requests: requests.len(),
            answers: Vec::new(),
            status: "in_progress",
        });
        let faults = tables.faults.clone();
        let (provider, place) = (self.clone(), tables.batches.len() - 1);
        tokio::spawn(async move {
            let answered = faults.ends_after.map_or(requests.len(), |(most, _)| most);
            for (number, (custom_id, request)) in requests.iter().take(answered).enumerate() {
                let answer = if number < faults.failed {
                    Err(json!({"type": "api_error", "message": "overloaded"}))
                } else if is_openai {
                    Ok(ask_the_model(request).await)
                } else {
                    Ok(message(request).await)
                };
                let answer = (custom_id.clone(), answer);
                provider.tables().batches[place].answers.push(answer);
            }
            let status = match faults.ends_after {
                None => "completed",
                Some((_, "cancelled")) => return,
                Some((_, status)) => status,
            };
            provider.tables().batches[place].status = status;
        });
        id
    }

    /// Begins the batch of another program in place of one with so many requests.
    fn lost_to_another(&self, requests: usize) -> bool {
        let mut tables = self.tables();
        if !take(&mut tables.faults.lost_to_others) {
            return false;
        }
        let answer = |_| {
            let message = json!({"type": "message", "model": "m", "stop_reason": "end_turn",
                "content": [{"type": "text", "text": "for another program"}], "usage": {}});
            (uuid::Uuid::new_v4().to_string(), Ok(message))
        };
        let batch = Batch {
            id: "batch_of_another".to_owned(),
            metadata: json!("another"),
            requests,
            answers: (0..requests).map(answer).collect(),
            status: "completed",
        };
        tables.batches.push(batch);
        true
    }

    /// A batch in the form of `OpenAI`.
    fn batch(batch: &Batch) -> Value {
        let output = format!("file-{}-output", batch.id);
        let errors = format!("file-{}-errors", batch.id);
        let is_over = batch.status != "in_progress";
        json!({"id": batch.id, "object": "batch", "endpoint": "/v1/chat/completions", "status": batch.status,
            "completion_window": "24h", "created_at": seconds(), "metadata": batch.metadata,
            "output_file_id": is_over.then_some(output), "error_file_id": is_over.then_some(errors),
            "request_counts": {"total": batch.requests}})
    }

    /// A batch in the form of Anthropic.
    fn message_batch(batch: &Batch) -> Value {
        let answered = |is_ok: bool| {
            let answers = batch.answers.iter();
            answers.filter(|answer| answer.1.is_ok() == is_ok).count()
        };
        let left = batch.requests - batch.answers.len();
        let is_over = batch.status != "in_progress";
        let of = |status: &str| if batch.status == status { left } else { 0 };
        json!({"id": batch.id, "type": "message_batch", "created_at": chrono::DateTime::from_timestamp(seconds(), 0),
            "processing_status": if is_over { "ended" } else { "in_progress" },
            "request_counts": {"processing": if is_over { 0 } else { batch.requests },
                "succeeded": if is_over { answered(true) } else { 0 }, "errored": if is_over { answered(false) } else { 0 },
                "canceled": of("cancelled"), "expired": of("expired")}})
    }

    /// The lines of results, as the faults would have them.
    fn spoilt(&self, mut lines: Vec<String>) -> String {
        let mut tables = self.tables();
        if tables.faults.strange_lines {
            lines.extend(lines.first().cloned());
            let stranger = json!({"custom_id": uuid::Uuid::new_v4(), "response": {"status_code": 200, "body": {}}});
            lines.insert(0, stranger.to_string());
            lines.insert(1, "{\"custom_id\": ".to_owned());
            lines.push("x".repeat(3_000_000));
        }
        let mut text: String = lines.iter().map(|line| format!("{line}\n")).collect();
        if !text.is_empty() && take(&mut tables.faults.cut_results) {
            text.truncate(text.len() - 40);
        }
        text
    }
}

fn seconds() -> i64 {
    chrono::Utc::now().timestamp()
}

async fn single(State(provider): State<Provider>, Json(request): Json<Value>) -> Json<Value> {
    provider.tables().singles += 1;
    Json(ask_the_model(&request).await)
}

async fn single_message(
    State(provider): State<Provider>,
    Json(request): Json<Value>,
) -> Json<Value> {
    provider.tables().singles += 1;
    Json(message(&request).await)
}

async fn upload(State(provider): State<Provider>, mut form: Multipart) -> Response {
    let mut file = None;
    while let Some(field) = form.next_field().await.unwrap() {
        if field.name() == Some("purpose") {
            assert_eq!(field.text().await.unwrap(), "batch");
        } else {
            let name = field.file_name().unwrap().to_owned();
            file = Some((name, field.text().await.unwrap()));
        }
    }
    let mut tables = provider.tables();
    if take(&mut tables.faults.uploads) {
        return failure(StatusCode::INTERNAL_SERVER_ERROR);
    }
    tables.files.push(file.unwrap());
    let id = format!("file-{}", tables.files.len() - 1);
    Json(json!({"id": id, "object": "file", "purpose": "batch"})).into_response()
}

async fn list_files(State(provider): State<Provider>) -> Json<Value> {
    let tables = provider.tables();
    let file = |(place, (name, _)): (usize, &(String, String))| {
        let id = format!("file-{place}");
        json!({"id": id, "filename": name, "created_at": seconds()})
    };
    let files: Vec<Value> = tables.files.iter().enumerate().map(file).rev().collect();
    Json(json!({"object": "list", "data": files, "has_more": false}))
}

async fn create(State(provider): State<Provider>, Json(body): Json<Value>) -> Response {
    assert_eq!(body["endpoint"], "/v1/chat/completions");
    assert_eq!(body["completion_window"], "24h");
    let file = body["input_file_id"].as_str().unwrap();
    let place: usize = file.strip_prefix("file-").unwrap().parse().unwrap();
    let content = provider.tables().files[place].1.clone();
    let request = |line: &str| {
        let line: Value = serde_json::from_str(line).unwrap();
        assert_eq!(
            (&line["method"], &line["url"]),
            (&json!("POST"), &json!("/v1/chat/completions"))
        );
        (
            line["custom_id"].as_str().unwrap().to_owned(),
            line["body"].clone(),
        )
    };
    let requests = content.lines().map(request).collect();
    let id = provider.begin(body["metadata"].clone(), requests, true);
    let mut tables = provider.tables();
    if take(&mut tables.faults.lost_creations) {
        return failure(StatusCode::BAD_GATEWAY);
    }
    let batch = tables.batches.iter().find(|batch| batch.id == id);
    Json(Provider::batch(batch.unwrap())).into_response()
}

async fn create_messages(State(provider): State<Provider>, Json(body): Json<Value>) -> Response {
    let request = |request: &Value| {
        (
            request["custom_id"].as_str().unwrap().to_owned(),
            request["params"].clone(),
        )
    };
    let requests = body["requests"].as_array().unwrap().iter().map(request);
    if provider.lost_to_another(requests.len()) {
        return failure(StatusCode::BAD_GATEWAY);
    }
    let id = provider.begin(Value::Null, requests.collect(), false);
    let mut tables = provider.tables();
    if take(&mut tables.faults.lost_creations) {
        return failure(StatusCode::BAD_GATEWAY);
    }
    let batch = tables.batches.iter().find(|batch| batch.id == id);
    Json(Provider::message_batch(batch.unwrap())).into_response()
}

async fn list(State(provider): State<Provider>, uri: axum::http::Uri) -> Json<Value> {
    let form = if uri.path().contains("messages") {
        Provider::message_batch
    } else {
        Provider::batch
    };
    let tables = provider.tables();
    let batches: Vec<Value> = tables.batches.iter().rev().map(form).collect();
    Json(json!({"object": "list", "data": batches, "has_more": false}))
}

fn looked(provider: &Provider, id: &str, form: fn(&Batch) -> Value) -> Response {
    let mut tables = provider.tables();
    if take(&mut tables.faults.refused_looks) {
        return failure(StatusCode::TOO_MANY_REQUESTS);
    }
    match tables.batches.iter().find(|batch| batch.id == id) {
        Some(batch) => Json(form(batch)).into_response(),
        None => failure(StatusCode::NOT_FOUND),
    }
}

async fn look(State(provider): State<Provider>, Path(id): Path<String>) -> Response {
    looked(&provider, &id, Provider::batch)
}

async fn look_at_messages(State(provider): State<Provider>, Path(id): Path<String>) -> Response {
    looked(&provider, &id, Provider::message_batch)
}

async fn cancel(State(provider): State<Provider>, Path(id): Path<String>) -> Json<Value> {
    let mut tables = provider.tables();
    let batch = tables.batches.iter_mut().find(|batch| batch.id == id);
    let batch = batch.unwrap();
    batch.status = "cancelled";
    Json(json!({"id": batch.id, "status": "cancelling", "processing_status": "canceling"}))
}

async fn content(State(provider): State<Provider>, Path(file): Path<String>) -> String {
    let lines = {
        let tables = provider.tables();
        let of = |batch: &&Batch| file.starts_with(&format!("file-{}-", batch.id));
        let batch = tables.batches.iter().find(of).unwrap();
        let is_output = file.ends_with("-output");
        let line = |(custom_id, answer): &(String, Result<Value, Value>)| match answer {
            Ok(body) if is_output => Some(json!({"id": "r", "custom_id": custom_id, "error": null,
                "response": {"status_code": 200, "request_id": "q", "body": body}})),
            Err(error) if !is_output => {
                Some(json!({"id": "r", "custom_id": custom_id, "error": null,
                "response": {"status_code": 500, "request_id": "q", "body": {"error": error}}}))
            }
            _ => None,
        };
        let lines = batch.answers.iter().filter_map(line);
        lines.map(|line| line.to_string()).collect()
    };
    provider.spoilt(lines)
}

async fn results(State(provider): State<Provider>, Path(id): Path<String>) -> String {
    let lines = {
        let tables = provider.tables();
        let batch = tables.batches.iter().find(|batch| batch.id == id).unwrap();
        let line = |(custom_id, answer): &(String, Result<Value, Value>)| {
            let result = match answer {
                Ok(message) => json!({"type": "succeeded", "message": message}),
                Err(error) => {
                    json!({"type": "errored", "error": {"type": "error", "error": error}})
                }
            };
            json!({"custom_id": custom_id, "result": result}).to_string()
        };
        batch.answers.iter().map(line).collect()
    };
    provider.spoilt(lines)
}

struct Bench {
    project: Project,
    provider: Provider,
    tenants: usize,
}

impl Bench {
    async fn new(api: &str, tenants: usize, faults: Faults, complete_within: &str) -> Self {
        let (provider, url) = Provider::serve(faults).await;
        let purpose = json!({"handler": "chat", "provider": api, "base_url": url, "allow_private_addresses": true,
            "model": "smollm2", "user_template": "post.txt.j2", "temperature": 0.3, "max_tokens": 24,
            "allow_truncated": true, "mode": "batch", "collect_for": "5s", "complete_within": complete_within,
            "input_price": 0.5, "output_price": 1.5, "item_timeout_ms": 120_000});
        let job = json!({"retry_limit": 9, "default_preferences": {"frequency": "daily"}});
        let project = Project::new(purpose, job);
        let template = "Write one short sentence about {{ product }} for {{ item.tenant_id }}.\n";
        project.write("templates/post.txt.j2", template);
        Self {
            project,
            provider,
            tenants,
        }
    }

    fn agent(&self, failpoints: Option<&str>) -> Agent {
        let preference = daily_with(&json!({"product": "tea"}));
        let tenant = |n: usize| (format!("t{n:02}"), preference.clone());
        let preferences = self.project.preferences((0..self.tenants).map(tenant));
        let mut command = self.project.command();
        // Items of several chunks come into one batch.
        command.env("BATCH_CHUNK_SIZE", "3");
        if let Some(failpoints) = failpoints {
            command.env("FAILPOINTS", failpoints);
        }
        command.args(["run", "--import"]).arg(preferences);
        Agent::start(command)
    }

    async fn trigger(&self, agent: &Agent) -> String {
        let all_known = |job: &Value| job["tenants"] == self.tenants;
        agent.until("/api/v1/jobs/posts", all_known).await;
        format!("/api/v1/batches/{}", trigger(agent).await)
    }

    /// Every tenant has one result, and the model was paid for it once: in one batch, apart from `singles` calls.
    async fn assert_paid_once(&self, agent: &Agent, path: &str, singles: usize) {
        let is_over = |batch: &Value| batch["status"] == "completed";
        let batch = agent.until_within(WITHIN, path, is_over).await;
        assert_eq!(batch["progress"]["succeeded"], self.tenants, "{batch}");
        let results = agent.all(&format!("{path}/results"), "results").await;
        assert_eq!(results.len(), self.tenants);
        for result in &results {
            let output = &result["result"];
            assert!(!output["text"].as_str().unwrap().is_empty(), "{result}");
            assert!(
                output["usage"]["total_tokens"].as_u64() > Some(0),
                "{result}"
            );
        }
        agent.until_logged("Provider batch ended").await;
        let tables = self.provider.tables();
        let batches = tables.batches.iter();
        let ours: Vec<&Batch> = batches
            .filter(|batch| batch.metadata != "another")
            .collect();
        let [batch] = ours.as_slice() else {
            panic!("one batch: {tables:?}")
        };
        assert_eq!(batch.requests, self.tenants);
        assert_eq!(tables.singles, singles, "{tables:?}");
        let answers = batch.answers.iter();
        let answered: BTreeMap<&str, bool> = answers
            .map(|(custom_id, answer)| (custom_id.as_str(), answer.is_ok()))
            .collect();
        let paid = answered.values().filter(|is_ok| **is_ok).count();
        assert_eq!(paid + singles, self.tenants);
    }
}

async fn a_provider_that_misbehaves(api: &str) {
    let faults = Faults {
        uploads: 1,
        lost_creations: 1,
        refused_looks: 1,
        strange_lines: true,
        failed: 1,
        ..Faults::default()
    };
    let bench = Bench::new(api, 8, faults, "24h").await;
    let agent = bench.agent(None);
    let path = bench.trigger(&agent).await;
    bench.assert_paid_once(&agent, &path, 1).await;
}

#[cfg_attr(
    not(feature = "servers"),
    ignore = "needs what `make setup` installs; run `make test`"
)]
#[tokio::test]
async fn a_batch_of_openai_is_paid_once_whatever_its_provider_does() {
    a_provider_that_misbehaves("openai").await;
}

#[cfg_attr(
    not(feature = "servers"),
    ignore = "needs what `make setup` installs; run `make test`"
)]
#[tokio::test]
async fn a_batch_of_anthropic_is_paid_once_whatever_its_provider_does() {
    a_provider_that_misbehaves("anthropic").await;
}

#[cfg_attr(
    not(feature = "servers"),
    ignore = "needs what `make setup` installs; run `make test`"
)]
#[tokio::test]
async fn what_a_batch_that_expires_has_not_answered_is_called_singly() {
    for api in ["openai", "anthropic"] {
        let faults = Faults {
            ends_after: Some((3, "expired")),
            ..Faults::default()
        };
        let bench = Bench::new(api, 5, faults, "24h").await;
        let agent = bench.agent(None);
        let path = bench.trigger(&agent).await;
        bench.assert_paid_once(&agent, &path, 2).await;
    }
}

#[cfg_attr(
    not(feature = "servers"),
    ignore = "needs what `make setup` installs; run `make test`"
)]
#[tokio::test]
async fn a_batch_that_takes_too_long_is_cancelled_and_the_rest_is_called_singly() {
    for api in ["openai", "anthropic"] {
        let faults = Faults {
            ends_after: Some((1, "cancelled")),
            ..Faults::default()
        };
        let bench = Bench::new(api, 3, faults, "1m").await;
        let agent = bench.agent(None);
        let path = bench.trigger(&agent).await;
        bench.assert_paid_once(&agent, &path, 2).await;
    }
}

#[cfg_attr(
    not(feature = "servers"),
    ignore = "needs what `make setup` installs; run `make test`"
)]
#[tokio::test]
async fn a_batch_of_another_program_is_not_taken_for_ours() {
    let faults = Faults {
        lost_to_others: 1,
        ..Faults::default()
    };
    let bench = Bench::new("anthropic", 3, faults, "24h").await;
    let agent = bench.agent(None);
    let path = bench.trigger(&agent).await;
    bench.assert_paid_once(&agent, &path, 0).await;
}

#[cfg_attr(
    not(feature = "servers"),
    ignore = "needs what `make setup` installs; run `make test`"
)]
#[tokio::test]
async fn results_that_are_cut_off_are_read_again() {
    let faults = Faults {
        cut_results: 1,
        ..Faults::default()
    };
    let bench = Bench::new("openai", 3, faults, "24h").await;
    let agent = bench.agent(None);
    let path = bench.trigger(&agent).await;
    bench.assert_paid_once(&agent, &path, 0).await;
}

#[cfg(feature = "failpoints")]
async fn dies_at(api: &str, point: &str) {
    use std::os::unix::process::ExitStatusExt;

    let bench = Bench::new(api, 4, Faults::default(), "24h").await;
    let agent = bench.agent(Some(&format!("{point}=1*return")));
    let path = bench.trigger(&agent).await;
    let status = agent.ended().await;
    assert_eq!(status.signal(), Some(6), "{status}");
    let agent = bench.agent(None);
    bench.assert_paid_once(&agent, &path, 0).await;
    assert!(agent.terminate().success());
}

/// Death at each of the named places between a call of the provider and the note of it, in a test of its own: each waits for the
/// end of a lease.
#[cfg(feature = "failpoints")]
mod a_batch_is_paid_once_after_death {
    macro_rules! deaths {
        ($($api:literal $point:literal: $name:ident)+) => { $(
            #[cfg_attr(not(feature = "servers"), ignore = "needs what `make setup` installs; run `make test`")]
            // The provider goes on while the test waits for the end of the agent.
            #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
            async fn $name() {
                super::dies_at($api, $point).await;
            }
        )+ };
    }
    deaths! {
        "openai" "provider-batch-before-upload": before_the_upload
        "openai" "provider-batch-after-upload": after_the_upload
        "openai" "provider-batch-before-create": before_it_is_created
        "openai" "provider-batch-after-create": after_it_is_created
        "openai" "provider-batch-before-mark": before_answers_are_marked
        "openai" "provider-batch-before-end": before_its_end
        "anthropic" "provider-batch-after-create": after_it_is_created_at_anthropic
        "anthropic" "provider-batch-before-mark": before_answers_are_marked_at_anthropic
        "anthropic" "provider-batch-before-end": before_its_end_at_anthropic
    }
}
