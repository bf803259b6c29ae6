//! The built-in handlers, made from `purposes.json`.

pub mod chat;
pub(crate) mod endpoint;
pub mod template;
pub mod webhook;

use std::sync::Arc;

use punctual_application::{
    Binding, Handlers, PurposeLimits,
    ports::{PurposeHandler, SystemClock},
};
use punctual_domain::{FieldError, HandlerConfig, PurposeConfig};

use self::{
    chat::ChatHandler,
    template::{TemplateHandler, Templates},
    webhook::{Post, WebhookHandler},
};
use crate::environment::secret_at;

/// Makes a purpose's handler and binds it.
///
/// # Errors
/// What cannot be used, at its field below `/purposes`.
pub(crate) fn bind(
    handlers: &mut Handlers,
    purpose: &PurposeConfig,
    templates: &Templates,
) -> Result<(), FieldError> {
    let pointer = format!("/purposes/{}", purpose.purpose_id);
    let complain = |field: &str, value: &str, problem: String, remedy: &str| FieldError {
        pointer: format!("{pointer}/{field}"),
        value: Some(format!("{value:?}")),
        problem,
        remedy: remedy.to_owned(),
    };
    let template = |field: &str, name: &str| {
        TemplateHandler::new(templates, name).map_err(|problem| {
            let remedy = "correct the template, or name another file of the folder of templates";
            complain(field, name, format!("cannot be used: {problem}"), remedy)
        })
    };
    let timeout = purpose.item_timeout.unwrap_or(Handlers::DEFAULT_TIMEOUT);
    let handler: Arc<dyn PurposeHandler> = match &purpose.handler {
        HandlerConfig::Template { template: name } => Arc::new(template("template", name)?),
        HandlerConfig::Chat(config) => {
            let system = config.system_template.as_ref();
            let system = system
                .map(|name| template("system_template", name))
                .transpose()?;
            let user = template("user_template", &config.user_template)?;
            let key = secret_at(&pointer, "api_key_env", config.api_key_env.as_deref())?;
            let handler = ChatHandler::new(config, key, system, user, timeout);
            let remedy = "give the URL that the server documents, as https://llm.example/v1";
            Arc::new(handler.map_err(|error| {
                complain("base_url", &config.base_url, error.to_string(), remedy)
            })?)
        }
        HandlerConfig::Webhook(config) => {
            let post = Post::configured(config, &pointer, Arc::new(SystemClock))?;
            Arc::new(WebhookHandler(post))
        }
    };
    let binding = Binding {
        timeout,
        limits: PurposeLimits {
            concurrency: purpose.concurrency,
            requests_per_minute: purpose.requests_per_minute,
            tokens_per_minute: purpose.tokens_per_minute,
        },
        // Providers keep the beginnings of prompts for a while, and charge less for those they know.
        alike_together: matches!(purpose.handler, HandlerConfig::Chat(_)),
    };
    handlers.bind(purpose.purpose_id.clone(), handler, binding);
    Ok(())
}
