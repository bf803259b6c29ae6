//! The handler `chat`: asks a language model at any OpenAI-compatible `/chat/completions`, or at Anthropic's `/messages`.
//! Tenants' overrides reach the messages only as data of templates; model, URL and limits are the operator's. An answer that
//! is empty, cut off or goes in circles is not a result: it is asked for again with the next seed, and fails in the end.
//!
//! - `options`, `provider`: the options of batches, and the form of requests and answers of each provider.
//! - `batches` collects items that wait, and brings provider batches to their end, by `batch_api`, the calls of the provider, and
//!   `lines`, the lines of results that come in pieces. Only the first attempt at an item waits for a batch; others are single calls.

mod batch_api;
mod batches;
mod lines;
mod options;
mod provider;

use std::{collections::HashMap, sync::Arc, time::Duration};

use async_trait::async_trait;
use punctual_application::{
    LogLimit, ProviderBatchStore,
    ports::{Clock, Completer, HandlerError, PurposeHandler, REQUEST, Rendered, SystemClock},
};
use punctual_domain::{
    Fields, Invalid, Item, MAX_WAITING_STATE_BYTES, Outcome, Preference, PurposeId, Waiting,
    values::{boolean, http_url, text, whole_number},
    without_secrets,
};
use reqwest::{Client, Url};
use secrecy::SecretString;
use serde_json::{Value, json};

use self::{
    batch_api::BatchApi,
    batches::{Batches, Collector},
    provider::Answer,
};
pub use self::{options::ChatBatchConfig, provider::ChatProvider};
use super::{
    HandlerKind,
    endpoint::{DRY_RUN, asked_to_wait, body, host_of, refused, unanswered, without_key},
    template::{TEMPLATE_REMEDY, TemplateHandler, Templates},
};
use crate::{
    environment::secret_in,
    outbound::{EndpointError, endpoint_client, outgoing},
    spans,
};

/// Longest answer, in bytes.
const MAX_ANSWER_BYTES: usize = 1024 * 1024;
/// How long a file with requests or results of a batch may take.
const FILE_TIMEOUT: Duration = Duration::from_mins(30);
/// Longest request that waits for a batch, in bytes; a longer one is sent singly.
const MAX_BATCHED_BYTES: usize = MAX_WAITING_STATE_BYTES - 64;
/// So many equal characters in a row, equal words in a row, or equal lines, and a text goes in circles.
const MAX_EQUAL_CHARACTERS: usize = 24;
const MAX_EQUAL_WORDS: usize = 8;
const MAX_EQUAL_LINES: usize = 4;

/// The options of a `chat` handler.
#[derive(Debug, Clone, PartialEq)]
pub struct ChatConfig {
    /// Whose API it is.
    pub provider: ChatProvider,
    /// Where the API is, such as `https://llm.example/v1`.
    pub base_url: String,
    /// The model's name there.
    pub model: String,
    /// 0 to 2; `None`: the server's default.
    pub temperature: Option<f64>,
    /// Maximum tokens of an answer; `None`: the server's default.
    pub max_tokens: Option<u32>,
    /// Makes answers repeatable where the server can; a further attempt takes the next one.
    pub seed: Option<u64>,
    /// Minimum characters of an answer; a shorter one is retried.
    pub min_characters: u32,
    /// Maximum characters of an answer.
    pub max_characters: Option<u32>,
    /// Whether an answer that was cut at `max_tokens` counts.
    pub allow_truncated: bool,
    /// Whether the URL may lead to this machine or into a private network.
    pub allow_private_addresses: bool,
    /// How requests are sent in batches; `None`: they are sent singly.
    pub batch: Option<ChatBatchConfig>,
}

/// Reads a [`ChatConfig`], the templates of both messages and the variable of the key.
pub(crate) struct ChatKind {
    pub(super) templates: Templates,
    pub(super) provider_batches: ProviderBatchStore,
}

impl HandlerKind for ChatKind {
    fn name(&self) -> &'static str {
        "chat"
    }

    fn target(&self, options: &mut Fields<'_>) -> Option<String> {
        let model = options.raw("model")?.as_str()?.to_owned();
        let base_url = without_secrets(options.raw("base_url")?.as_str()?);
        Some(format!("{model} at {base_url}"))
    }

    fn read(&self, fields: &mut Fields<'_>, timeout: Duration) -> Option<Arc<dyn PurposeHandler>> {
        let template = |name| self.templates.handler(name);
        let purpose = purpose_at(fields.pointer());
        let config = ChatConfig::read(fields);
        let api_key = fields.optional("api_key_env", secret_in);
        let system = fields.optional("system_template", template);
        let user = fields.required("user_template", TEMPLATE_REMEDY, template);
        let handler = ChatHandler::new(&config?, api_key, system, user?, timeout);
        let handler = handler.map_err(|error| {
            let remedy = "give the URL that the server documents, such as https://llm.example/v1";
            fields.complain("base_url", Invalid::new(error.to_string(), remedy));
        });
        let handler = handler.ok()?;
        let Some(purpose) = purpose else {
            return Some(Arc::new(handler));
        };
        Some(Arc::new(handler.with_provider_batches(
            purpose,
            self.provider_batches.clone(),
            Arc::new(SystemClock),
        )))
    }

    fn reads_previous(&self, options: &mut Fields<'_>) -> bool {
        ["system_template", "user_template"]
            .into_iter()
            .any(|field| {
                let template = options.raw(field).and_then(Value::as_str);
                template.is_some_and(|name| self.templates.may_read(name, "previous"))
            })
    }

    /// Providers keep the beginnings of prompts for a while, and charge less for those they know.
    fn group_by_parameters(&self) -> bool {
        true
    }
}

impl ChatConfig {
    fn read(fields: &mut Fields<'_>) -> Option<Self> {
        let provider = fields.optional("provider", |value| match text(value)? {
            "openai" => Ok(ChatProvider::OpenAi),
            "anthropic" => Ok(ChatProvider::Anthropic),
            _ => Err(Invalid::new(
                "is not a provider",
                "use one of \"openai\", \"anthropic\"",
            )),
        });
        let provider = provider.unwrap_or_default();
        let base_url = fields.required(
            "base_url",
            "add the URL of the API, such as \"https://llm.example/v1\"",
            http_url,
        );
        let model = fields.required("model", "add the name of the model", text);
        let temperature = fields.optional("temperature", |value| {
            value
                .as_f64()
                .filter(|number| (0.0..=2.0).contains(number))
                .ok_or_else(|| Invalid::new("is out of range", "use a number from 0 to 2"))
        });
        let characters = |value: &Value| whole_number(value, 1..=1_000_000).map(|n| n as u32);
        let max_tokens = fields.optional("max_tokens", characters);
        let seed = fields.optional("seed", |value| whole_number(value, 0..=u64::from(u32::MAX)));
        let min_characters = fields.optional("min_characters", characters).unwrap_or(1);
        let max_characters = fields.optional("max_characters", characters);
        if max_characters.is_some_and(|most| most < min_characters) {
            let remedy = "use a number that is not below min_characters";
            fields.complain("max_characters", Invalid::new("is too small", remedy));
        }
        let allow_truncated = fields.optional("allow_truncated", boolean);
        let private = fields.optional("allow_private_addresses", boolean);
        let batch = ChatBatchConfig::read(fields);
        if provider == ChatProvider::Anthropic {
            let missing = fields.raw("max_tokens").is_none();
            if missing {
                let remedy = "add the most tokens of an answer; Anthropic's API asks for it";
                fields.complain("max_tokens", Invalid::new("is missing", remedy));
            }
            if seed.is_some() {
                let remedy = "remove it; Anthropic's API has no seed";
                fields.complain("seed", Invalid::new("is not for this provider", remedy));
            }
            if temperature.is_some_and(|temperature| temperature > 1.0) {
                let remedy = "use a number from 0 to 1; Anthropic's API takes no other";
                fields.complain("temperature", Invalid::new("is out of range", remedy));
            }
        }
        Some(Self {
            provider,
            base_url: base_url?.trim_end_matches('/').to_owned(),
            model: model?.to_owned(),
            temperature,
            max_tokens,
            seed,
            min_characters,
            max_characters,
            allow_truncated: allow_truncated.unwrap_or(false),
            allow_private_addresses: private.unwrap_or(false),
            batch,
        })
    }
}

/// Asks a language model.
pub struct ChatHandler {
    config: ChatConfig,
    url: Url,
    api_key: Option<SecretString>,
    system: Option<TemplateHandler>,
    user: TemplateHandler,
    client: Client,
    /// A client that waits for large files, where requests are sent in batches.
    file_client: Option<Client>,
    batches: Option<Batches>,
}

impl ChatHandler {
    /// A handler that may take `timeout` for a call.
    ///
    /// # Errors
    /// [`EndpointError`]: the URL cannot be used, or no client can be built.
    pub fn new(
        config: &ChatConfig,
        api_key: Option<SecretString>,
        system: Option<TemplateHandler>,
        user: TemplateHandler,
        timeout: Duration,
    ) -> Result<Self, EndpointError> {
        let url = format!("{}/{}", config.base_url, config.provider.path());
        let private = config.allow_private_addresses;
        let file_client = match config.batch {
            Some(_) => Some(endpoint_client(FILE_TIMEOUT, private)?),
            None => None,
        };
        Ok(Self {
            url: outgoing(&url, private)?,
            config: config.clone(),
            api_key,
            system,
            user,
            client: endpoint_client(timeout, private)?,
            file_client,
            batches: None,
        })
    }

    /// The same handler of this purpose, which keeps its provider batches here if requests are sent in batches.
    #[must_use]
    pub fn with_provider_batches(
        mut self,
        purpose: PurposeId,
        store: ProviderBatchStore,
        clock: Arc<dyn Clock>,
    ) -> Self {
        if let (Some(config), Some(client)) = (&self.config.batch, &self.file_client) {
            self.batches = Some(Batches {
                purpose,
                config: config.clone(),
                store,
                api: BatchApi {
                    provider: self.config.provider,
                    base_url: self.config.base_url.clone(),
                    host: host_of(&self.url),
                    api_key: self.api_key.clone(),
                    client: client.clone(),
                },
                clock,
                log: LogLimit::default(),
            });
        }
        self
    }

    async fn request(&self, item: &Item) -> Result<Value, HandlerError> {
        let system = match &self.system {
            Some(system) => Some(system.render(item).await?),
            None => None,
        };
        let user = self.user.render(item).await?;
        let provider = self.config.provider;
        Ok(provider.request(&self.config, system, user, item.attempt))
    }

    /// How the item waits for a batch with its request; `None`: it is sent singly.
    fn batched(&self, item: &Item, request: &Value) -> Option<Waiting> {
        let batches = self.batches.as_ref()?;
        let is_first = item.attempt == 1 && item.completion.is_some();
        let fits = request.to_string().len() <= MAX_BATCHED_BYTES;
        if !is_first || !fits || !batches.store.is_connected() {
            return None;
        }
        let until = batches.clock.now() + batches.config.complete_within;
        Some(Waiting::until(until).with_state(json!({ REQUEST: request })))
    }

    /// Asks once; the answer is `{"text", "model", "finish_reason", "usage"}`.
    async fn ask(
        &self,
        item: &Item,
        request: &Value,
        dry_run: bool,
    ) -> Result<Outcome, HandlerError> {
        let mut request = self
            .client
            .post(self.url.clone())
            .header("Idempotency-Key", item.idempotency_key())
            .json(request);
        if dry_run {
            request = request.header(DRY_RUN, "1");
        }
        let provider = self.config.provider;
        let request = provider.authorized(request, self.api_key.as_ref());
        let host = host_of(&self.url);
        let unanswered = |error| unanswered(&host, error);
        let response = spans::call(request).await.map_err(unanswered)?;
        let (status, wait) = (response.status(), asked_to_wait(response.headers()));
        let (body, truncated) = body(response, MAX_ANSWER_BYTES).await.map_err(unanswered)?;
        let body = without_key(body, self.api_key.as_ref());
        if !status.is_success() {
            return Err(refused(&host, status, wait, &problem_of(&body)));
        }
        let answer = provider.answer(&body).map_err(|mut error| {
            if truncated {
                error.message.push_str("; it is too long");
            }
            error
        })?;
        self.outcome(answer)
    }

    /// The result that an answer is, if it is one.
    fn outcome(&self, answer: Answer) -> Result<Outcome, HandlerError> {
        let text = answer.text.trim();
        self.check(text, answer.finish_reason.as_deref())?;
        Ok(json!({
            "text": text, "model": answer.model, "finish_reason": answer.finish_reason, "usage": answer.usage,
        })
        .into())
    }

    /// Whether the answer is one.
    fn check(&self, text: &str, finish_reason: Option<&str>) -> Result<(), HandlerError> {
        let characters = text.chars().count();
        let least = self.config.min_characters as usize;
        if characters < least {
            let problem =
                format!("the answer has {characters} characters; at least {least} are required");
            return Err(HandlerError::retryable(problem));
        }
        if let Some(circle) = is_repetitive(text) {
            let problem = format!("the answer repeats itself: {circle}");
            return Err(HandlerError::retryable(problem));
        }
        if finish_reason == Some("length") && !self.config.allow_truncated {
            let problem =
                "the answer was cut off at max_tokens; raise it, or set \"allow_truncated\": true";
            return Err(HandlerError::retryable(problem));
        }
        if finish_reason == Some("content_filter") {
            let problem = "the remote endpoint withheld the answer (content_filter)";
            return Err(HandlerError::permanent(problem));
        }
        match self.config.max_characters {
            Some(most) if characters > most as usize => Err(HandlerError::retryable(format!(
                "the answer has {characters} characters; at most {most} are allowed"
            ))),
            _ => Ok(()),
        }
    }
}

#[async_trait]
impl PurposeHandler for ChatHandler {
    /// The answer, as `{"text", "model", "finish_reason", "usage"}`; or that the item waits for a batch.
    async fn run(&self, item: &Item) -> Result<Outcome, HandlerError> {
        let request = self.request(item).await?;
        if let Some(waiting) = self.batched(item, &request) {
            return Ok(Outcome::Waiting(waiting));
        }
        self.ask(item, &request, false).await
    }

    async fn preview(&self, item: &Item, call: bool) -> Result<Option<Rendered>, HandlerError> {
        let request = self.request(item).await?;
        let outcome = if call {
            Some(self.ask(item, &request, true).await)
        } else {
            None
        };
        Ok(Some(Rendered {
            to: Some(without_secrets(self.url.as_str())),
            body: Some(request),
            outcome,
            ..Rendered::default()
        }))
    }

    /// Sends what waits in batches, and completes it.
    async fn listen(&self, completer: Arc<dyn Completer>) {
        let Some(batches) = &self.batches else { return };
        if let Ok(store) = batches.store.store() {
            Collector::new(self, batches, store, completer).run().await;
        }
    }

    fn missing_parameters(&self, defaults: &Preference) -> Vec<String> {
        let templates = self.system.iter().chain([&self.user]);
        let missing = templates.flat_map(|template| template.missing_parameters(defaults));
        missing.collect()
    }
}

/// The purpose whose fields stand at this pointer.
fn purpose_at(pointer: &str) -> Option<PurposeId> {
    let (_, name) = pointer.rsplit_once('/')?;
    PurposeId::new(name.replace("~1", "/").replace("~0", "~")).ok()
}

/// What the remote endpoint says about a refusal: usually `{"error": {"message": …}}`.
fn problem_of(body: &[u8]) -> String {
    let parsed: Option<Value> = serde_json::from_slice(body).ok();
    let message = parsed.as_ref().and_then(|body| {
        let error = &body["error"];
        error["message"].as_str().or_else(|| error.as_str())
    });
    message.map_or_else(|| String::from_utf8_lossy(body).into_owned(), str::to_owned)
}

/// What a text repeats, if it repeats itself more than a person would.
fn is_repetitive(text: &str) -> Option<String> {
    if let Some(character) = run(
        text.chars().filter(|c| !c.is_whitespace()),
        MAX_EQUAL_CHARACTERS,
    ) {
        return Some(format!("{character:?} over and over"));
    }
    if let Some(word) = run(text.split_whitespace(), MAX_EQUAL_WORDS) {
        return Some(format!("{word:?} over and over"));
    }
    let mut lines: HashMap<&str, usize> = HashMap::new();
    for line in text.lines().map(str::trim).filter(|line| line.len() > 3) {
        let times = lines.entry(line).or_default();
        *times += 1;
        if *times >= MAX_EQUAL_LINES {
            return Some(format!("the line {line:?} {times} times"));
        }
    }
    None
}

/// The first of `things` that comes `most` times in a row.
fn run<T: PartialEq + Copy>(things: impl Iterator<Item = T>, most: usize) -> Option<T> {
    let (mut last, mut times) = (None, 0);
    for thing in things {
        times = if last == Some(thing) { times + 1 } else { 1 };
        last = Some(thing);
        if times >= most {
            return last;
        }
    }
    None
}
