//! The batch endpoints of the providers: files and batches of OpenAI-compatible APIs, and Anthropic's Message Batches.
//!
//! What was begun is found again in the provider's lists: a file by its name and a batch by its metadata, which have the id
//! of the provider batch. Anthropic's batches carry no mark of ours before they have ended; one is found by the number of
//! its requests, among those begun since, and the ids in its results confirm it.

use std::time::Duration;

use chrono::{DateTime, TimeDelta, Utc};
use punctual_application::ports::{HandlerError, HandlerErrorKind, ProviderBatch};
use reqwest::{
    Body, Client, RequestBuilder, Response,
    header::{CONTENT_LENGTH, CONTENT_TYPE},
    multipart::{Form, Part},
};
use secrecy::SecretString;
use serde_json::{Value, json};
use uuid::Uuid;

use super::{MAX_ANSWER_BYTES, problem_of, provider::ChatProvider};
use crate::{
    handlers::endpoint::{asked_to_wait, body, refused, unanswered, without_key},
    spans,
};

/// How long a call may take that neither sends requests nor reads results.
const SHORT_CALL: Duration = Duration::from_secs(15);
/// Longest description of a batch, or page of a list.
const MAX_JSON_BYTES: usize = 8 * 1024 * 1024;
/// How many entries of a list come at a time, and how many pages are looked at.
const PAGE: usize = 100;
const MAX_PAGES: usize = 20;
/// How far the provider's clock may differ.
const CLOCK_TOLERANCE: TimeDelta = TimeDelta::minutes(10);
/// What names our batch in the metadata of a batch.
const METADATA: &str = "punctual_batch";

/// The batch endpoints of a provider.
pub(super) struct BatchApi {
    pub(super) provider: ChatProvider,
    pub(super) base_url: String,
    /// What is shown of the URL.
    pub(super) host: String,
    pub(super) api_key: Option<SecretString>,
    /// A client that waits for large files.
    pub(super) client: Client,
}

/// A batch as the provider describes it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct RemoteBatch {
    pub(super) id: String,
    pub(super) state: RemoteState,
    /// Where its results are, below the base URL.
    pub(super) results: Vec<String>,
    /// What went wrong with it as a whole.
    pub(super) problem: Option<String>,
}

/// How far a batch at the provider has come.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum RemoteState {
    /// It is not over.
    Working,
    /// It is over, in this way: `completed`, `expired`, `cancelled` or `failed`.
    Ended(&'static str),
    /// The provider has too much to do; the same batch may be begun later.
    Busy,
}

impl BatchApi {
    /// Sends a file with requests, and returns its id. `body` has `length` bytes.
    pub(super) async fn upload(
        &self,
        batch: &ProviderBatch,
        body: Body,
        length: u64,
    ) -> Result<String, HandlerError> {
        let part = Part::stream_with_length(body, length).file_name(file_name(batch));
        let part = part.mime_str("application/jsonl")?;
        let form = Form::new().text("purpose", "batch").part("file", part);
        let request = self.client.post(self.url("files")).multipart(form);
        id_of(&self.json(request).await?)
    }

    /// A file that was sent before.
    pub(super) async fn find_file(
        &self,
        batch: &ProviderBatch,
    ) -> Result<Option<String>, HandlerError> {
        let name = file_name(batch);
        let path = format!("files?purpose=batch&limit={PAGE}&order=desc");
        let is_it = |file: &Value| file["filename"].as_str() == Some(name.as_str());
        let found = self.find(&path, "after", batch.created_at, is_it).await?;
        found.as_ref().map(id_of).transpose()
    }

    /// Begins a batch with the requests of a file.
    pub(super) async fn create(
        &self,
        batch: &ProviderBatch,
        file_id: &str,
    ) -> Result<RemoteBatch, HandlerError> {
        let body = json!({ "input_file_id": file_id, "endpoint": "/v1/chat/completions", "completion_window": "24h",
            "metadata": { METADATA: batch.id.to_string() } });
        let request = self.client.post(self.url("batches")).json(&body);
        self.remote(&self.json(request.timeout(SHORT_CALL)).await?)
    }

    /// Begins a batch with requests in its body, which has `length` bytes.
    pub(super) async fn create_with(
        &self,
        body: Body,
        length: u64,
    ) -> Result<RemoteBatch, HandlerError> {
        let request = self.client.post(self.url("messages/batches"));
        let request = request
            .header(CONTENT_TYPE, "application/json")
            .header(CONTENT_LENGTH, length)
            .body(body);
        self.remote(&self.json(request).await?)
    }

    /// A batch that was begun before and has not failed.
    pub(super) async fn find_batch(
        &self,
        batch: &ProviderBatch,
    ) -> Result<Option<RemoteBatch>, HandlerError> {
        let found = match self.provider {
            ChatProvider::OpenAi => {
                let id = batch.id.to_string();
                let is_it = |remote: &Value| {
                    remote["metadata"][METADATA].as_str() == Some(id.as_str())
                        && remote["status"].as_str() != Some("failed")
                };
                let path = format!("batches?limit={PAGE}");
                self.find(&path, "after", batch.created_at, is_it).await?
            }
            ChatProvider::Anthropic => {
                let is_it = |remote: &Value| {
                    let counts = remote["request_counts"].as_object();
                    let counts = counts.into_iter().flatten();
                    let requests: u64 = counts.filter_map(|(_, count)| count.as_u64()).sum();
                    let id = remote["id"].as_str().unwrap_or_default();
                    requests == batch.calls && !batch.others.iter().any(|other| other == id)
                };
                let path = format!("messages/batches?limit={PAGE}");
                self.find(&path, "after_id", batch.created_at, is_it)
                    .await?
            }
        };
        found.as_ref().map(|found| self.remote(found)).transpose()
    }

    /// How far a batch has come.
    pub(super) async fn look(&self, id: &str) -> Result<RemoteBatch, HandlerError> {
        let request = self.client.get(self.batch_url(id, ""));
        self.remote(&self.json(request.timeout(SHORT_CALL)).await?)
    }

    /// Asks the provider to stop a batch.
    pub(super) async fn cancel(&self, id: &str) -> Result<(), HandlerError> {
        let request = self.client.post(self.batch_url(id, "/cancel"));
        self.json(request.timeout(SHORT_CALL)).await.map(drop)
    }

    /// An answer whose body has results.
    pub(super) async fn results(&self, path: &str) -> Result<Response, HandlerError> {
        self.send(self.client.get(self.url(path))).await
    }

    fn url(&self, path: &str) -> String {
        format!("{}/{path}", self.base_url)
    }

    fn batch_url(&self, id: &str, action: &str) -> String {
        match self.provider {
            ChatProvider::OpenAi => self.url(&format!("batches/{id}{action}")),
            ChatProvider::Anthropic => self.url(&format!("messages/batches/{id}{action}")),
        }
    }

    /// The first entry of a list, newest first, that is it; entries from long before `since` end the search.
    async fn find(
        &self,
        path: &str,
        cursor: &str,
        since: DateTime<Utc>,
        is_it: impl Fn(&Value) -> bool + Send + Sync,
    ) -> Result<Option<Value>, HandlerError> {
        let oldest = since - CLOCK_TOLERANCE;
        let mut after = String::new();
        for _ in 0..MAX_PAGES {
            let request = self.client.get(self.url(&format!("{path}{after}")));
            let page = self.json(request.timeout(SHORT_CALL)).await;
            // A refusal says nothing about what was begun.
            let mut page = page.map_err(|mut error| {
                if error.kind == HandlerErrorKind::Permanent {
                    error.kind = HandlerErrorKind::Retryable;
                }
                error
            })?;
            let Some(Value::Array(entries)) = page.get_mut("data").map(Value::take) else {
                let problem = format!("the list of {} has no `data`", self.host);
                return Err(HandlerError::retryable(problem));
            };
            let mut last = None;
            for entry in entries {
                if created_at(&entry).is_some_and(|created| created < oldest) {
                    return Ok(None);
                }
                last = id_of(&entry).ok();
                if is_it(&entry) {
                    return Ok(Some(entry));
                }
            }
            match last {
                Some(last) if page["has_more"] == true => after = format!("&{cursor}={last}"),
                _ => return Ok(None),
            }
        }
        let problem = format!(
            "{} lists too many new entries to find one among them",
            self.host
        );
        Err(HandlerError::retryable(problem))
    }

    /// Sends a request; an answer other than success is an error.
    async fn send(&self, request: RequestBuilder) -> Result<Response, HandlerError> {
        let request = self.provider.authorized(request, self.api_key.as_ref());
        let unanswered = |error| unanswered(&self.host, error);
        let response = spans::call(request).await.map_err(unanswered)?;
        let (status, wait) = (response.status(), asked_to_wait(response.headers()));
        if status.is_success() {
            return Ok(response);
        }
        let (body, _) = body(response, MAX_ANSWER_BYTES).await.map_err(unanswered)?;
        let body = without_key(body, self.api_key.as_ref());
        Err(refused(&self.host, status, wait, &problem_of(&body)))
    }

    async fn json(&self, request: RequestBuilder) -> Result<Value, HandlerError> {
        let response = self.send(request).await?;
        let unanswered = |error| unanswered(&self.host, error);
        let (body, _) = body(response, MAX_JSON_BYTES).await.map_err(unanswered)?;
        let body = without_key(body, self.api_key.as_ref());
        serde_json::from_slice(&body).map_err(|error| {
            let problem = format!("the answer of {} cannot be parsed: {error}", self.host);
            HandlerError::retryable(problem)
        })
    }

    /// The batch that an answer describes.
    fn remote(&self, answer: &Value) -> Result<RemoteBatch, HandlerError> {
        let id = id_of(answer)?;
        Ok(match self.provider {
            ChatProvider::OpenAi => of_openai(id, answer),
            ChatProvider::Anthropic => of_anthropic(id, answer),
        })
    }
}

fn of_openai(id: String, answer: &Value) -> RemoteBatch {
    let errors = answer["errors"]["data"].as_array();
    let first = errors.and_then(|errors| errors.first());
    let of_first = |field: &str| first.and_then(|error| error[field].as_str());
    let problem = of_first("message").map(|message| message.chars().take(300).collect());
    let state = match answer["status"].as_str() {
        Some("completed") => RemoteState::Ended("completed"),
        Some("expired") => RemoteState::Ended("expired"),
        Some("cancelled") => RemoteState::Ended("cancelled"),
        Some("failed") if of_first("code") == Some("token_limit_exceeded") => RemoteState::Busy,
        Some("failed") => RemoteState::Ended("failed"),
        _ => RemoteState::Working,
    };
    let files = ["output_file_id", "error_file_id"].into_iter();
    let files = files.filter_map(|field| answer[field].as_str().filter(|id| is_id(id)));
    RemoteBatch {
        id,
        state,
        results: files.map(|file| format!("files/{file}/content")).collect(),
        problem,
    }
}

fn of_anthropic(id: String, answer: &Value) -> RemoteBatch {
    let has = |count: &str| answer["request_counts"][count].as_u64() > Some(0);
    let state = match answer["processing_status"].as_str() {
        Some("ended") if has("expired") => RemoteState::Ended("expired"),
        Some("ended") if has("canceled") => RemoteState::Ended("cancelled"),
        Some("ended") => RemoteState::Ended("completed"),
        _ => RemoteState::Working,
    };
    RemoteBatch {
        // The address in `results_url` is not followed: the key goes to the host of the purpose alone.
        results: vec![format!("messages/batches/{id}/results")],
        id,
        state,
        problem: None,
    }
}

/// The id in an answer. It becomes a part of URLs.
fn id_of(answer: &Value) -> Result<String, HandlerError> {
    match answer["id"].as_str() {
        Some(id) if is_id(id) => Ok(id.to_owned()),
        _ => Err(HandlerError::retryable("the answer has no usable `id`")),
    }
}

fn is_id(id: &str) -> bool {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'-' || byte == b'_';
    (1..=200).contains(&id.len()) && id.bytes().all(plain)
}

/// When an entry of a list was made: seconds, or an instant.
fn created_at(entry: &Value) -> Option<DateTime<Utc>> {
    let created = &entry["created_at"];
    match created.as_i64() {
        Some(seconds) => DateTime::from_timestamp(seconds, 0),
        None => created.as_str()?.parse().ok(),
    }
}

fn file_name(batch: &ProviderBatch) -> String {
    let id: Uuid = batch.id;
    format!("punctual-{id}.jsonl")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_status_of_a_batch_is_known() {
        for (status, state) in [
            ("validating", RemoteState::Working),
            ("in_progress", RemoteState::Working),
            ("finalizing", RemoteState::Working),
            ("cancelling", RemoteState::Working),
            ("completed", RemoteState::Ended("completed")),
            ("expired", RemoteState::Ended("expired")),
            ("cancelled", RemoteState::Ended("cancelled")),
            ("failed", RemoteState::Ended("failed")),
        ] {
            let answer = json!({"id": "batch_1", "status": status, "output_file_id": "file-1", "error_file_id": "../x"});
            let remote = of_openai("batch_1".into(), &answer);
            assert_eq!(remote.state, state, "{status}");
            assert_eq!(remote.results, ["files/file-1/content"]);
        }
        let busy = json!({"status": "failed", "errors": {"data": [
            {"code": "token_limit_exceeded", "message": "Enqueued token limit reached"}]}});
        let remote = of_openai("batch_1".into(), &busy);
        assert_eq!(remote.state, RemoteState::Busy);
        assert_eq!(
            remote.problem.as_deref(),
            Some("Enqueued token limit reached")
        );
        for (status, counts, state) in [
            ("in_progress", json!({}), RemoteState::Working),
            ("canceling", json!({}), RemoteState::Working),
            (
                "ended",
                json!({"succeeded": 2}),
                RemoteState::Ended("completed"),
            ),
            (
                "ended",
                json!({"succeeded": 2, "expired": 1}),
                RemoteState::Ended("expired"),
            ),
            (
                "ended",
                json!({"canceled": 1}),
                RemoteState::Ended("cancelled"),
            ),
        ] {
            let answer = json!({"processing_status": status, "request_counts": counts});
            assert_eq!(of_anthropic("b".into(), &answer).state, state, "{answer}");
        }
    }

    #[test]
    fn an_id_that_would_lead_elsewhere_is_refused() {
        for id in ["", "../files", "a/b", "a?b", "a b", "ä", &"a".repeat(201)] {
            assert!(id_of(&json!({ "id": id })).is_err(), "{id}");
        }
        assert_eq!(
            id_of(&json!({"id": "msgbatch_01-A"})).unwrap(),
            "msgbatch_01-A"
        );
    }
}
