//! `purposes.json`: which handler runs a purpose and how fast it may, read strictly, every mistake reported at once.

use std::time::Duration;

use serde_json::Value;

use crate::{
    ids::PurposeId,
    input::{
        errors::{FieldErrors, Invalid},
        fields::{Fields, object_at},
        values::{boolean, http_url, text, variable, whole_number},
    },
    work::webhook::{WebhookConfig, parse_webhook},
};

/// One purpose and how it is run.
#[derive(Debug, Clone, PartialEq)]
pub struct PurposeConfig {
    /// Its name, as jobs use it.
    pub purpose_id: PurposeId,
    /// What runs it.
    pub handler: HandlerConfig,
    /// How long one attempt may take; `None`: the processor's default.
    pub item_timeout: Option<Duration>,
    /// Calls at one time, over all jobs of the process.
    pub concurrency: Option<u32>,
    /// Calls begun in a minute.
    pub requests_per_minute: Option<u32>,
    /// Tokens used in a minute, as results report them.
    pub tokens_per_minute: Option<u32>,
}

/// The built-in handlers and their settings.
#[derive(Debug, Clone, PartialEq)]
pub enum HandlerConfig {
    /// Renders a text template with the tenant's overrides.
    Template {
        /// The file's name in the folder of templates.
        template: String,
    },
    /// Asks a language model at an OpenAI-compatible `/chat/completions`.
    Chat(ChatConfig),
    /// Posts the item to a URL, signed.
    Webhook(WebhookConfig),
}

/// The settings of a `chat` handler.
#[derive(Debug, Clone, PartialEq)]
pub struct ChatConfig {
    /// Where the API is, as `https://llm.example/v1`.
    pub base_url: String,
    /// The model's name there.
    pub model: String,
    /// The environment variable that holds the key; `None`: no key is sent.
    pub api_key_env: Option<String>,
    /// The template of the system message, if there is to be one.
    pub system_template: Option<String>,
    /// The template of the user message.
    pub user_template: String,
    /// 0 to 2; `None`: as the server likes.
    pub temperature: Option<f64>,
    /// Tokens of an answer at most; `None`: as the server likes.
    pub max_tokens: Option<u32>,
    /// Makes answers repeatable where the server can; a further attempt takes the next one.
    pub seed: Option<u64>,
    /// Characters of an answer at least; an answer that is shorter is none.
    pub min_characters: u32,
    /// Characters of an answer at most.
    pub max_characters: Option<u32>,
    /// Whether an answer that was cut at `max_tokens` counts.
    pub allow_truncated: bool,
    /// Whether the URL may lead to this machine or into a private network.
    pub allow_private_addresses: bool,
}

/// Reads the content of `purposes.json`: `{"purposes": {name: {"handler": …}}}`.
///
/// # Errors
/// Every mistake in it.
pub fn parse_purposes(document: &Value) -> Result<Vec<PurposeConfig>, FieldErrors> {
    let mut fields = Fields::new(object_at(document, "")?, "");
    fields.raw("$schema");
    if fields.raw("purposes").is_none() {
        fields.complain(
            "purposes",
            Invalid::new("is missing", "add \"purposes\": { … }"),
        );
    }
    let purposes = fields.nested("purposes", parse_all);
    fields.deny_others();
    fields.finish(|| purposes)
}

fn parse_all(value: &Value, pointer: &str) -> Result<Vec<PurposeConfig>, FieldErrors> {
    let mut purposes = Vec::new();
    let mut errors = Vec::new();
    for (name, value) in object_at(value, pointer)? {
        let pointer = format!("{pointer}/{name}");
        match parse_one(name, value, &pointer) {
            Ok(purpose) => purposes.push(purpose),
            Err(found) => errors.extend(found.0),
        }
    }
    if errors.is_empty() {
        Ok(purposes)
    } else {
        Err(FieldErrors(errors))
    }
}

fn parse_one(name: &str, value: &Value, pointer: &str) -> Result<PurposeConfig, FieldErrors> {
    let purpose_id = PurposeId::new(name).map_err(|error| {
        FieldErrors(vec![
            Invalid::from(error).at(pointer, Some(&Value::from(name))),
        ])
    })?;
    let mut fields = Fields::new(object_at(value, pointer)?, pointer);
    let handler = fields.required("handler", HANDLERS, |value| match text(value)? {
        name @ ("template" | "chat" | "webhook") => Ok(name),
        _ => Err(Invalid::new("is not a handler", HANDLERS)),
    });
    let handler = match handler {
        Some("template") => parse_template(&mut fields),
        Some("chat") => parse_chat(&mut fields).map(HandlerConfig::Chat),
        Some("webhook") => parse_webhook(&mut fields).map(HandlerConfig::Webhook),
        // Which fields there may be, only the handler tells.
        _ => return fields.finish(|| None),
    };
    let timeout = fields.optional("item_timeout_ms", |value| {
        whole_number(value, 1..=86_400_000)
    });
    let per_minute = |value: &Value| whole_number(value, 1..=1_000_000_000).map(|n| n as u32);
    let concurrency = fields.optional("concurrency", |value| {
        whole_number(value, 1..=10_000).map(|n| n as u32)
    });
    let requests_per_minute = fields.optional("requests_per_minute", per_minute);
    let tokens_per_minute = fields.optional("tokens_per_minute", per_minute);
    fields.deny_others();
    fields.finish(|| {
        Some(PurposeConfig {
            purpose_id,
            handler: handler?,
            item_timeout: timeout.map(Duration::from_millis),
            concurrency,
            requests_per_minute,
            tokens_per_minute,
        })
    })
}

fn parse_template(fields: &mut Fields<'_>) -> Option<HandlerConfig> {
    let template = fields.required(
        "template",
        "add the name of a file in the folder of templates",
        text,
    );
    Some(HandlerConfig::Template {
        template: template?.to_owned(),
    })
}

fn parse_chat(fields: &mut Fields<'_>) -> Option<ChatConfig> {
    let base_url = fields.required(
        "base_url",
        "add where the API is, as \"https://llm.example/v1\"",
        http_url,
    );
    let model = fields.required("model", "add the name of the model", text);
    let api_key_env = fields.optional("api_key_env", variable);
    let system_template = fields.optional("system_template", text);
    let user_template = fields.required(
        "user_template",
        "add the name of a file in the folder of templates",
        text,
    );
    let temperature = fields.optional("temperature", |value| {
        value
            .as_f64()
            .filter(|number| (0.0..=2.0).contains(number))
            .ok_or_else(|| Invalid::new("is out of range", "use a number from 0 to 2"))
    });
    let characters = |value: &Value| whole_number(value, 1..=1_000_000).map(|n| n as u32);
    let max_tokens = fields.optional("max_tokens", characters);
    let seed = fields.optional("seed", |value| whole_number(value, 0..=u64::from(u32::MAX)));
    let min_characters = fields.optional("min_characters", characters);
    let max_characters = fields.optional("max_characters", characters);
    if max_characters.is_some_and(|most| most < min_characters.unwrap_or(1)) {
        let remedy = "use a number that is not below min_characters";
        fields.complain("max_characters", Invalid::new("is too small", remedy));
    }
    let allow_truncated = fields.optional("allow_truncated", boolean);
    let private = fields.optional("allow_private_addresses", boolean);
    Some(ChatConfig {
        base_url: base_url?.trim_end_matches('/').to_owned(),
        model: model?.to_owned(),
        api_key_env: api_key_env.map(str::to_owned),
        system_template: system_template.map(str::to_owned),
        user_template: user_template?.to_owned(),
        temperature,
        max_tokens,
        seed,
        min_characters: min_characters.unwrap_or(1),
        max_characters,
        allow_truncated: allow_truncated.unwrap_or(false),
        allow_private_addresses: private.unwrap_or(false),
    })
}

const HANDLERS: &str = "use one of template, chat, webhook";

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_purpose_names_its_handler_and_what_it_needs() {
        let purposes = parse_purposes(&json!({"purposes": {
            "post": {"handler": "template", "template": "post.txt.j2", "item_timeout_ms": 500},
            "llm": {"handler": "chat", "base_url": "https://llm.example/v1/", "model": "m", "user_template": "u.j2",
                    "api_key_env": "LLM_API_KEY", "temperature": 0.7, "concurrency": 4, "tokens_per_minute": 90000},
            "crm": {"handler": "webhook", "url": "https://crm.example/hook", "secret_env": "CRM_SECRET"}
        }}))
        .unwrap();
        let of = |name: &str| {
            let found = purposes.iter().find(|one| one.purpose_id.as_str() == name);
            found.unwrap().clone()
        };
        assert_eq!(of("post").item_timeout, Some(Duration::from_millis(500)));
        let HandlerConfig::Chat(chat) = of("llm").handler else {
            panic!("chat")
        };
        assert_eq!(chat.base_url, "https://llm.example/v1");
        assert_eq!((chat.min_characters, chat.allow_truncated), (1, false));
        assert!(!chat.allow_private_addresses);
        assert_eq!(of("llm").concurrency, Some(4));
        let HandlerConfig::Webhook(webhook) = of("crm").handler else {
            panic!("webhook")
        };
        assert!(!webhook.allow_private_addresses);
        assert_eq!(webhook.timeout, Duration::from_secs(10));
    }

    #[test]
    fn every_mistake_is_reported() {
        let errors = parse_purposes(&json!({"purposes": {
            "a b": {}, "c": {"handler": "magic"}, "d": 3,
            "e": {"handler": "template", "colour": 1},
            "f": {"handler": "chat", "base_url": "ftp://x", "model": "m", "user_template": "u",
                  "api_key_env": "sk-secret", "temperature": 3},
            "g": {"handler": "webhook", "url": "https://me:pw@crm.example/", "requests_per_minute": 0}
        }}))
        .unwrap_err();
        let lines: Vec<String> = errors.0.iter().map(ToString::to_string).collect();
        for expected in [
            "/purposes/a b: \"a b\" is not a valid purpose_id",
            "/purposes/c/handler: \"magic\" is not a handler; use one of template, chat, webhook",
            "/purposes/d: 3 has the wrong type",
            "/purposes/e/template: is missing",
            "/purposes/e/colour: 1 is not a known field",
            "/purposes/f/base_url: \"ftp://x\" is not a URL",
            "/purposes/f/api_key_env: \"sk-secret\" is not the name of a variable",
            "/purposes/f/temperature: 3 is out of range",
            "/purposes/g/url: \"https://me:pw@crm.example/\" holds a user or password",
            "/purposes/g/requests_per_minute: 0 is out of range",
        ] {
            assert!(
                lines.iter().any(|line| line.starts_with(expected)),
                "{expected} in {lines:#?}"
            );
        }
    }
}
