//! Whose API a model is asked by: the form of requests and answers, alone and in files of batches.

use punctual_application::ports::{BatchedCall, HandlerError, HandlerErrorKind};
use reqwest::{RequestBuilder, StatusCode};
use secrecy::{ExposeSecret, SecretString};
use serde::Deserialize;
use serde_json::{Map, Value, json};
use uuid::Uuid;

use super::ChatConfig;
use crate::handlers::endpoint::refused;

/// The version of Anthropic's API that requests are written for.
const ANTHROPIC_VERSION: &str = "2023-06-01";

/// Whose API a model is asked by.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum ChatProvider {
    /// Any `OpenAI`-compatible API: `/chat/completions`.
    #[default]
    OpenAi,
    /// Anthropic's: `/messages`.
    Anthropic,
}

/// What a model has written.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Answer {
    pub(super) text: String,
    pub(super) model: Option<String>,
    /// In the words of `OpenAI`'s API: `stop`, `length`, `content_filter`.
    pub(super) finish_reason: Option<String>,
    pub(super) usage: Map<String, Value>,
}

/// What a line of a batch's results says about a call.
#[derive(Debug)]
pub(super) struct BatchAnswer {
    pub(super) call_id: Uuid,
    pub(super) answer: Result<Answer, HandlerError>,
}

impl ChatProvider {
    /// Where a single call goes, below the base URL.
    pub(super) fn path(self) -> &'static str {
        match self {
            Self::OpenAi => "chat/completions",
            Self::Anthropic => "messages",
        }
    }

    /// The request with the headers of the API.
    pub(super) fn authorized(
        self,
        request: RequestBuilder,
        key: Option<&SecretString>,
    ) -> RequestBuilder {
        match (self, key) {
            (Self::OpenAi, None) => request,
            (Self::OpenAi, Some(key)) => request.bearer_auth(key.expose_secret()),
            (Self::Anthropic, key) => {
                let request = request.header("anthropic-version", ANTHROPIC_VERSION);
                match key {
                    Some(key) => request.header("x-api-key", key.expose_secret()),
                    None => request,
                }
            }
        }
    }

    /// The body of a call; a further attempt takes the next seed.
    pub(super) fn request(
        self,
        config: &ChatConfig,
        system: Option<String>,
        user: String,
        attempt: u32,
    ) -> Value {
        let user = json!({ "role": "user", "content": user });
        let mut request = match (self, system) {
            (Self::OpenAi, Some(system)) => {
                json!({ "messages": [{ "role": "system", "content": system }, user] })
            }
            (Self::Anthropic, Some(system)) => json!({ "system": system, "messages": [user] }),
            (_, None) => json!({ "messages": [user] }),
        };
        request["model"] = json!(config.model);
        if let Some(temperature) = config.temperature {
            request["temperature"] = json!(temperature);
        }
        if let Some(max_tokens) = config.max_tokens {
            request["max_tokens"] = json!(max_tokens);
        }
        if let Some(seed) = config.seed {
            // The same seed would give the same answer.
            request["seed"] = json!(seed + u64::from(attempt.saturating_sub(1)));
        }
        request
    }

    /// Reads the body of an answer.
    pub(super) fn answer(self, body: &[u8]) -> Result<Answer, HandlerError> {
        let unreadable = |error: serde_json::Error| {
            HandlerError::retryable(format!("the answer cannot be parsed: {error}"))
        };
        match self {
            Self::OpenAi => {
                let answer: Completion = serde_json::from_slice(body).map_err(unreadable)?;
                let Some(choice) = answer.choices.into_iter().next() else {
                    return Err(HandlerError::retryable("the answer contains no choice"));
                };
                Ok(Answer {
                    text: choice.message.content.unwrap_or_default(),
                    model: answer.model,
                    finish_reason: choice.finish_reason,
                    usage: answer.usage,
                })
            }
            Self::Anthropic => {
                let answer: Message = serde_json::from_slice(body).map_err(unreadable)?;
                let texts = answer.content.into_iter().filter_map(|block| block.text);
                let mut usage = answer.usage;
                let total = tokens(&usage).0.saturating_add(tokens(&usage).1);
                usage.insert("total_tokens".to_owned(), json!(total));
                Ok(Answer {
                    text: texts.collect(),
                    model: answer.model,
                    finish_reason: answer.stop_reason.map(finish_reason),
                    usage,
                })
            }
        }
    }

    /// Maximum number of requests in a batch, and their maximum size in bytes.
    pub(super) fn batch_limits(self) -> (usize, u64) {
        match self {
            Self::OpenAi => (50_000, 200_000_000),
            Self::Anthropic => (100_000, 256_000_000),
        }
    }

    /// What a call is in the body of a batch: a line of a file, or an entry of a list.
    pub(super) fn entry(self, call: BatchedCall) -> Value {
        match self {
            Self::OpenAi => json!({ "custom_id": call.call_id, "method": "POST",
                "url": "/v1/chat/completions", "body": call.request }),
            Self::Anthropic => json!({ "custom_id": call.call_id, "params": call.request }),
        }
    }

    /// What a line of a batch's results says. `None`: it is not one, or is about no call of ours.
    pub(super) fn batch_answer(self, host: &str, line: &[u8]) -> Option<BatchAnswer> {
        let line: ResultLine = serde_json::from_slice(line).ok()?;
        let call_id = Uuid::try_parse(&line.custom_id).ok()?;
        let answer = match self {
            Self::OpenAi => self.completed(host, line),
            Self::Anthropic => self.ended(line),
        };
        Some(BatchAnswer { call_id, answer })
    }

    fn completed(self, host: &str, line: ResultLine) -> Result<Answer, HandlerError> {
        let Some(response) = line.response else {
            let problem = line.error.as_ref().map_or_else(String::new, problem_of);
            return Err(HandlerError::retryable(format!(
                "the provider did not answer the request: {}",
                shortened(&problem)
            )));
        };
        let status = StatusCode::from_u16(response.status_code).map_err(|_| {
            HandlerError::retryable(format!("invalid status code {}", response.status_code))
        })?;
        if status.is_success() {
            return self.answer(response.body.to_string().as_bytes());
        }
        let problem = problem_of(&response.body["error"]);
        let mut refusal = refused(host, status, None, &problem);
        // The limit of a batch says nothing about single calls.
        if refusal.kind == HandlerErrorKind::Throttled {
            refusal.kind = HandlerErrorKind::Retryable;
        }
        Err(refusal)
    }

    fn ended(self, line: ResultLine) -> Result<Answer, HandlerError> {
        let result = line.result.unwrap_or_default();
        match result["type"].as_str() {
            Some("succeeded") => self.answer(result["message"].to_string().as_bytes()),
            Some("errored") => {
                let error = &result["error"]["error"];
                let problem = shortened(&problem_of(error));
                let message = format!("the provider refused the request: {problem}");
                Err(match error["type"].as_str() {
                    Some("invalid_request_error" | "not_found_error" | "request_too_large") => {
                        HandlerError::permanent(message)
                    }
                    _ => HandlerError::retryable(message),
                })
            }
            Some(ended @ ("canceled" | "expired")) => Err(HandlerError::retryable(format!(
                "the provider did not answer the request: {ended}"
            ))),
            _ => Err(HandlerError::retryable(
                "the provider's result has a type that is not known",
            )),
        }
    }
}

/// Tokens of request and answer.
pub(super) fn tokens(usage: &Map<String, Value>) -> (u64, u64) {
    let of = |names: [&str; 2]| {
        let found = names.into_iter().find_map(|name| usage.get(name)?.as_u64());
        found.unwrap_or_default()
    };
    (
        of(["prompt_tokens", "input_tokens"]),
        of(["completion_tokens", "output_tokens"]),
    )
}

/// What a provider says about a refusal: usually `{"message": …}`.
fn problem_of(error: &Value) -> String {
    let message = error["message"].as_str().or_else(|| error.as_str());
    message.map_or_else(|| error.to_string(), str::to_owned)
}

fn shortened(problem: &str) -> String {
    problem.chars().take(300).collect()
}

/// Anthropic's reason to stop, in the words of `OpenAI`'s API.
fn finish_reason(stop_reason: String) -> String {
    match stop_reason.as_str() {
        "end_turn" | "stop_sequence" => "stop".to_owned(),
        "max_tokens" => "length".to_owned(),
        "refusal" => "content_filter".to_owned(),
        _ => stop_reason,
    }
}

#[derive(Deserialize)]
struct Completion {
    model: Option<String>,
    choices: Vec<Choice>,
    #[serde(default)]
    usage: Map<String, Value>,
}

#[derive(Deserialize)]
struct Choice {
    message: ChoiceMessage,
    finish_reason: Option<String>,
}

#[derive(Deserialize)]
struct ChoiceMessage {
    content: Option<String>,
}

#[derive(Deserialize)]
struct Message {
    model: Option<String>,
    content: Vec<Block>,
    stop_reason: Option<String>,
    #[serde(default)]
    usage: Map<String, Value>,
}

#[derive(Deserialize)]
struct Block {
    text: Option<String>,
}

/// A line of the results of either provider.
#[derive(Deserialize)]
struct ResultLine {
    custom_id: String,
    response: Option<ResultResponse>,
    error: Option<Value>,
    result: Option<Value>,
}

#[derive(Deserialize)]
struct ResultResponse {
    status_code: u16,
    #[serde(default)]
    body: Value,
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const ID: &str = "6f0a2a3c-8f5b-4a55-9c1d-2b7f5a1c0e11";

    fn text(provider: ChatProvider, line: &Value) -> Result<String, HandlerError> {
        let answer = provider.batch_answer("llm.example:443", line.to_string().as_bytes());
        let answer = answer.unwrap();
        assert_eq!(answer.call_id.to_string(), ID);
        answer.answer.map(|answer| answer.text)
    }

    #[test]
    fn a_line_of_openai_is_an_answer_or_says_why_there_is_none() {
        let line = |status: u16, body: Value| {
            json!({"id": "r", "custom_id": ID, "response": {"status_code": status, "request_id": "q", "body": body},
                "error": null})
        };
        let answer = json!({"model": "m", "choices": [{"message": {"content": "Hello"}, "finish_reason": "stop"}],
            "usage": {"prompt_tokens": 7, "completion_tokens": 2, "total_tokens": 9}});
        assert_eq!(
            text(ChatProvider::OpenAi, &line(200, answer)).unwrap(),
            "Hello"
        );
        for (status, kind) in [
            (400, HandlerErrorKind::Permanent),
            (429, HandlerErrorKind::Retryable),
            (500, HandlerErrorKind::Retryable),
            (7, HandlerErrorKind::Retryable),
        ] {
            let refusal = line(status, json!({"error": {"message": "no"}}));
            let error = text(ChatProvider::OpenAi, &refusal).unwrap_err();
            assert_eq!(error.kind, kind, "{status}: {error}");
        }
        let expired = json!({"custom_id": ID, "response": null,
            "error": {"code": "batch_expired", "message": "It has expired."}});
        let error = text(ChatProvider::OpenAi, &expired).unwrap_err();
        assert_eq!(error.kind, HandlerErrorKind::Retryable);
        assert!(error.message.contains("It has expired."), "{error}");
    }

    #[test]
    fn a_line_of_anthropic_is_an_answer_or_says_why_there_is_none() {
        let line = |result: Value| json!({"custom_id": ID, "result": result});
        let message = json!({"type": "message", "model": "m", "stop_reason": "max_tokens",
            "content": [{"type": "text", "text": "Hel"}, {"type": "tool_use"}, {"type": "text", "text": "lo"}],
            "usage": {"input_tokens": 7, "output_tokens": 2}});
        let succeeded = line(json!({"type": "succeeded", "message": message}));
        let answer = ChatProvider::Anthropic.batch_answer("", succeeded.to_string().as_bytes());
        let answer = answer.unwrap().answer.unwrap();
        assert_eq!(answer.text, "Hello");
        assert_eq!(answer.finish_reason.as_deref(), Some("length"));
        assert_eq!(tokens(&answer.usage), (7, 2));
        assert_eq!(answer.usage["total_tokens"], 9);

        let errored = |kind: &str| {
            line(
                json!({"type": "errored", "error": {"type": "error", "error": {"type": kind, "message": "no"}}}),
            )
        };
        for (result, kind) in [
            (
                errored("invalid_request_error"),
                HandlerErrorKind::Permanent,
            ),
            (errored("api_error"), HandlerErrorKind::Retryable),
            (
                line(json!({"type": "expired"})),
                HandlerErrorKind::Retryable,
            ),
            (
                line(json!({"type": "canceled"})),
                HandlerErrorKind::Retryable,
            ),
            (line(json!({"type": 7})), HandlerErrorKind::Retryable),
            (line(json!(null)), HandlerErrorKind::Retryable),
        ] {
            let error = text(ChatProvider::Anthropic, &result).unwrap_err();
            assert_eq!(error.kind, kind, "{result}");
        }
    }

    #[test]
    fn what_is_not_about_a_call_of_ours_is_passed_over() {
        let deep = "[".repeat(100_000);
        for line in [
            "",
            "{",
            "null",
            "[]",
            "{\"custom_id\": 7}",
            "{\"custom_id\": \"somebody\"}",
            deep.as_str(),
        ] {
            for provider in [ChatProvider::OpenAi, ChatProvider::Anthropic] {
                assert!(
                    provider.batch_answer("h", line.as_bytes()).is_none(),
                    "{line:.40}"
                );
            }
        }
    }

    proptest! {
        #[test]
        fn no_line_ends_the_process(line in proptest::collection::vec(any::<u8>(), 0..200)) {
            for provider in [ChatProvider::OpenAi, ChatProvider::Anthropic] {
                prop_assert!(provider.batch_answer("h", &line).is_none());
            }
        }
    }
}
