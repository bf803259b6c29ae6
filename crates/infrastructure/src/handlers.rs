//! The built-in handlers, and how `purposes.json` names handlers.
//!
//! # Adding a handler
//!
//! 1. A file here with the handler (a [`PurposeHandler`]) and its kind: a [`HandlerKind`], which reads the handler's options
//!    and makes it.
//! 2. A line in [`HandlerKinds::built_in`].
//!
//! A program that embeds Punctual adds kinds of its own with [`HandlerKinds::with`].

pub mod chat;
#[cfg(target_os = "linux")]
pub(crate) mod command;
mod completion;
pub(crate) mod email;
pub(crate) mod endpoint;
#[cfg(feature = "nats")]
pub(crate) mod nats;
pub mod template;
#[cfg(feature = "temporal")]
pub(crate) mod temporal;
pub mod webhook;

use std::{fmt, path::Path, sync::Arc, time::Duration};

use punctual_application::{
    Binding, Handlers, ProviderBatchStore, PurposeLimits, SuppressionList, ports::PurposeHandler,
};
use punctual_domain::{FieldErrors, Fields};
use punctual_project::{Purpose, parse_purposes};
use serde_json::Value;

use self::{
    chat::ChatKind, email::EmailKind, template::TemplateKind, template::Templates,
    webhook::WebhookKind,
};

/// A kind of handler, which purposes name in `purposes.json`.
pub trait HandlerKind: Send + Sync {
    /// What stands after `"handler":`.
    fn name(&self) -> &'static str;

    /// Reads the options, which stand among the fields of the purpose, and makes the handler. Mistakes stay with `fields`;
    /// with any, the handler is not used. `timeout` is how long an attempt may take.
    fn read(&self, fields: &mut Fields<'_>, timeout: Duration) -> Option<Arc<dyn PurposeHandler>>;

    /// Whether items with equal parameters run next to each other.
    fn group_by_parameters(&self) -> bool {
        false
    }

    /// Whether the handler that these options make looks at [`Item::previous`](punctual_domain::Item::previous).
    fn reads_previous(&self, _options: &mut Fields<'_>) -> bool {
        true
    }

    /// What the options name, for operators: the URL, the template or the model, without secrets.
    fn target(&self, _options: &mut Fields<'_>) -> Option<String> {
        None
    }
}

/// The kinds of handlers that `purposes.json` may name.
pub struct HandlerKinds {
    kinds: Vec<Box<dyn HandlerKind>>,
    suppressions: SuppressionList,
    provider_batches: ProviderBatchStore,
}

impl HandlerKinds {
    /// `template`, `chat`, `webhook`, `email`, on Linux `command`, and `nats` and `temporal` with the features of these names;
    /// with the templates in the folder `templates`, as they are now.
    #[must_use]
    pub fn built_in(templates: &Path) -> Self {
        let templates = Templates::in_folder(templates);
        let suppressions = SuppressionList::default();
        let provider_batches = ProviderBatchStore::default();
        let kinds = Self {
            kinds: vec![
                Box::new(TemplateKind(templates.clone())),
                Box::new(ChatKind {
                    templates: templates.clone(),
                    provider_batches: provider_batches.clone(),
                }),
                Box::new(WebhookKind),
                Box::new(EmailKind {
                    templates,
                    suppressions: suppressions.clone(),
                }),
            ],
            suppressions,
            provider_batches,
        };
        #[cfg(target_os = "linux")]
        let kinds = kinds.with(command::CommandKind);
        #[cfg(feature = "nats")]
        let kinds = kinds.with(nats::NatsKind);
        #[cfg(feature = "temporal")]
        let kinds = kinds.with(temporal::TemporalKind);
        kinds
    }

    /// The same, and another kind, in place of one of the same name.
    #[must_use]
    pub fn with(mut self, kind: impl HandlerKind + 'static) -> Self {
        self.kinds.retain(|known| known.name() != kind.name());
        self.kinds.push(Box::new(kind));
        self
    }

    /// The handlers of the content of `purposes.json`.
    ///
    /// # Errors
    /// Every mistake in it.
    pub fn handlers(&self, document: &Value) -> Result<Handlers, FieldErrors> {
        let names: Vec<&str> = self.kinds.iter().map(|kind| kind.name()).collect();
        let purposes = parse_purposes(document, &names, |place, purpose, fields| {
            let (kind, timeout) = (&self.kinds[place], timeout_of(purpose));
            let handler = kind.read(fields, timeout)?;
            let target = kind.target(fields);
            let reads_previous = kind.reads_previous(fields);
            let name = kind.name();
            let named = target.map_or_else(|| name.to_owned(), |target| format!("{name} {target}"));
            Some((handler, kind.group_by_parameters(), reads_previous, named))
        })?;
        let mut handlers = Handlers::new(self.suppressions.clone())
            .with_provider_batches(self.provider_batches.clone());
        for (purpose, (handler, group_by_parameters, reads_previous, named)) in purposes {
            let binding = Binding {
                timeout: timeout_of(&purpose),
                limits: PurposeLimits {
                    concurrency: purpose.concurrency,
                    requests_per_minute: purpose.requests_per_minute,
                    tokens_per_minute: purpose.tokens_per_minute,
                    requests_per_minute_per_organization: purpose
                        .requests_per_minute_per_organization,
                    tokens_per_minute_per_organization: purpose.tokens_per_minute_per_organization,
                },
                group_by_parameters,
                reads_previous,
                handler: Some(named),
            };
            handlers.bind(purpose.purpose_id, handler, binding);
        }
        Ok(handlers)
    }
}

impl fmt::Debug for HandlerKinds {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_set()
            .entries(self.kinds.iter().map(|kind| kind.name()))
            .finish()
    }
}

fn timeout_of(purpose: &Purpose) -> Duration {
    purpose.item_timeout.unwrap_or(Handlers::DEFAULT_TIMEOUT)
}

#[cfg(test)]
mod tests {
    use punctual_application::ports::MockPurposeHandler;
    use punctual_domain::{PurposeId, values::text};
    use serde_json::json;

    use super::*;

    /// A kind of an embedding program.
    struct Sms;

    impl HandlerKind for Sms {
        fn name(&self) -> &'static str {
            "sms"
        }

        fn read(&self, fields: &mut Fields<'_>, _: Duration) -> Option<Arc<dyn PurposeHandler>> {
            fields.required("sender", "add the number it comes from", text)?;
            Some(Arc::new(MockPurposeHandler::new()))
        }
    }

    fn mistakes(purposes: &Value) -> Vec<String> {
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join("u.j2"), "Hello").unwrap();
        let kinds = HandlerKinds::built_in(folder.path()).with(Sms);
        let read = kinds.handlers(&json!({ "purposes": purposes }));
        let errors = read.err().map_or_else(Vec::new, |errors| errors.0);
        errors.iter().map(ToString::to_string).collect()
    }

    #[test]
    fn the_limits_of_a_purpose_are_those_of_its_handler() {
        let purposes = json!({"purposes": {"text": {"handler": "sms", "sender": "100", "concurrency": 1,
            "requests_per_minute": 2, "tokens_per_minute": 3, "requests_per_minute_per_organization": 4,
            "tokens_per_minute_per_organization": 5}}});
        let folder = tempfile::tempdir().unwrap();
        let kinds = HandlerKinds::built_in(folder.path()).with(Sms);
        let handlers = kinds.handlers(&purposes).unwrap();
        let bound = handlers.binding(&PurposeId::new("text").unwrap()).unwrap();
        let expected = PurposeLimits {
            concurrency: Some(1),
            requests_per_minute: Some(2),
            tokens_per_minute: Some(3),
            requests_per_minute_per_organization: Some(4),
            tokens_per_minute_per_organization: Some(5),
        };
        assert_eq!(bound.limits, expected);
    }

    #[test]
    fn each_kind_reads_its_own_options() {
        let taken = json!({
            "post": {"handler": "template", "template": "u.j2", "item_timeout_ms": 500},
            "llm": {"handler": "chat", "base_url": "https://llm.example/v1/", "model": "m", "user_template": "u.j2",
                    "temperature": 0.7, "concurrency": 4, "tokens_per_minute": 90000},
            "crm": {"handler": "webhook", "url": "https://crm.example/hook"},
            "text": {"handler": "sms", "sender": "100"}
        });
        assert_eq!(mistakes(&taken), [""; 0]);
        let found = mistakes(&json!({
            "a": {"handler": "template", "template": "none.j2", "concurrency": 0},
            "b": {"handler": "chat", "base_url": "ftp://x", "model": "m", "user_template": "u.j2",
                  "api_key_env": "sk-secret", "temperature": 3, "colour": 1},
            "c": {"handler": "chat", "base_url": "https://llm.example", "model": "m", "user_template": "u.j2",
                  "api_key_env": "NOT_SET_ANYWHERE", "min_characters": 9, "max_characters": 3},
            "d": {"handler": "webhook", "url": "https://me:pw@crm.example/"},
            "e": {"handler": "webhook", "url": "https://crm.example/", "secret_env": "NOT_SET_ANYWHERE"},
            "f": {"handler": "sms"},
            "g": {"handler": "magic"},
            "h": {"handler": "webhook", "url": "https://crm.example/", "accepted": "maybe", "completes_within": "31d",
                  "on_deadline": "stop"},
            "i": {"handler": "webhook", "url": "https://crm.example/", "accepted": "done", "completes_within": "1s"}
        }));
        let expected = [
            "/purposes/a/concurrency: 0 is out of range",
            "/purposes/a/template: \"none.j2\" cannot be used",
            "/purposes/b/base_url: \"ftp://x\" is not a URL",
            "/purposes/b/temperature: 3 is out of range",
            "/purposes/b/api_key_env: \"sk-secret\" is not a valid name of an environment variable",
            "/purposes/b/colour: 1 is not a known field",
            "/purposes/c/max_characters: 3 is too small",
            "/purposes/c/api_key_env: \"NOT_SET_ANYWHERE\" is not set in the environment",
            "/purposes/d/url: \"https://me:pw@crm.example/\" contains a user or password",
            "/purposes/e/secret_env: \"NOT_SET_ANYWHERE\" is not set in the environment",
            "/purposes/f/sender: is missing",
            "/purposes/g/handler: \"magic\" is not a handler; use one of template, chat, webhook, email, command, ",
            "/purposes/h/accepted: \"maybe\" is not a meaning of 202; use one of waits, done",
            "/purposes/h/completes_within: \"31d\" is not a valid duration; use a duration from `1s` to `30d`",
            "/purposes/h/on_deadline: \"stop\" is not known; use one of retry, fail",
            "/purposes/i/completes_within: \"1s\" has no effect beside \"accepted\": \"done\"",
        ];
        assert_eq!(found.len(), expected.len(), "{found:#?}");
        for (found, expected) in found.iter().zip(expected) {
            assert!(found.starts_with(expected), "{expected} in {found}");
        }
    }

    #[test]
    fn a_chat_in_batches_or_of_another_provider_says_what_is_missing_or_not_taken() {
        let chat = |options: Value| {
            let mut chat = json!({"handler": "chat", "base_url": "https://llm.example/v1", "model": "m",
                "user_template": "u.j2"});
            let fields = chat.as_object_mut().unwrap();
            fields.extend(options.as_object().unwrap().clone());
            mistakes(&json!({ "llm": chat }))
        };
        let batch = json!({"mode": "batch", "complete_within": "23h", "input_price": 0.075, "output_price": 0.3});
        assert_eq!(chat(batch), [""; 0]);
        let anthropic =
            json!({"provider": "anthropic", "max_tokens": 200, "temperature": 1, "mode": "batch"});
        assert_eq!(chat(anthropic), [""; 0]);
        for (options, expected) in [
            (
                json!({"provider": "other"}),
                "/purposes/llm/provider: \"other\" is not a provider",
            ),
            (
                json!({"provider": "anthropic"}),
                "/purposes/llm/max_tokens: is missing",
            ),
            (
                json!({"provider": "anthropic", "max_tokens": 9, "seed": 1}),
                "/purposes/llm/seed: 1 is not for this provider",
            ),
            (
                json!({"provider": "anthropic", "max_tokens": 9, "temperature": 1.5}),
                "/purposes/llm/temperature: 1.5 is out of range",
            ),
            (
                json!({"collect_for": "1m"}),
                "/purposes/llm/collect_for: \"1m\" is for batches only",
            ),
        ] {
            let found = chat(options);
            assert!(
                found.len() == 1 && found[0].starts_with(expected),
                "{found:?}"
            );
        }
    }

    #[test]
    fn only_handlers_that_look_at_the_last_run_are_given_it() {
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join("plain.j2"), "Hello {{ item.tenant_id }}").unwrap();
        std::fs::write(
            folder.path().join("since.j2"),
            "{% if previous %}again{% endif %}",
        )
        .unwrap();
        let chat = |system: &str| {
            json!({"handler": "chat", "base_url": "https://llm.example/v1", "model": "m",
                "system_template": system, "user_template": "plain.j2"})
        };
        let email = |subject: &str, text: &str| {
            json!({"handler": "email", "host": "smtp.example", "tls": "none", "from": "news@shop.example",
                "subject": subject, "text": text})
        };
        let purposes = json!({
            "mails": email("Your week", "plain.j2"),
            "mails_since": email("Your week", "since.j2"),
            "mails_since_in_subject": email("Since {{ previous.occurrence }}", "plain.j2"),
            "plain": {"handler": "template", "template": "plain.j2"},
            "since": {"handler": "template", "template": "since.j2"},
            "asks": chat("plain.j2"), "asks_since": chat("since.j2"),
            "posts": {"handler": "webhook", "url": "https://crm.example/hook"},
            "own": {"handler": "sms", "sender": "100"}
        });
        let kinds = HandlerKinds::built_in(folder.path()).with(Sms);
        let handlers = kinds.handlers(&json!({ "purposes": purposes })).unwrap();
        for (purpose, expected) in [
            ("mails", false),
            ("mails_since", true),
            ("mails_since_in_subject", true),
            ("plain", false),
            ("since", true),
            ("asks", false),
            ("asks_since", true),
            ("posts", true),
            ("own", true),
        ] {
            let binding = handlers.binding(&PurposeId::new(purpose).unwrap());
            assert_eq!(binding.unwrap().reads_previous, expected, "{purpose}");
        }
    }

    #[test]
    fn a_kind_of_the_same_name_takes_the_place_of_a_built_in_one() {
        struct OwnChat;
        impl HandlerKind for OwnChat {
            fn name(&self) -> &'static str {
                "chat"
            }

            fn read(&self, _: &mut Fields<'_>, _: Duration) -> Option<Arc<dyn PurposeHandler>> {
                Some(Arc::new(MockPurposeHandler::new()))
            }
        }
        let kinds = HandlerKinds::built_in(Path::new(".")).with(OwnChat);
        let document = json!({"purposes": {"llm": {"handler": "chat"}}});
        let handlers = kinds.handlers(&document).unwrap();
        assert!(handlers.contains(&PurposeId::new("llm").unwrap()));
    }
}
