//! The built-in handlers, made from `purposes.json`.

pub mod template;

use std::sync::Arc;

use punctual_application::Handlers;
use punctual_domain::{HandlerConfig, PurposeConfig};

use self::template::{TemplateError, TemplateHandler, Templates};

/// The handler of every purpose.
///
/// # Errors
/// Every template that is missing or broken.
pub fn load_handlers(
    purposes: &[PurposeConfig],
    templates: &Templates,
) -> Result<Handlers, Vec<TemplateError>> {
    let mut handlers = Handlers::default();
    let mut errors = Vec::new();
    for purpose in purposes {
        let HandlerConfig::Template { template } = &purpose.handler;
        let timeout = purpose.item_timeout.unwrap_or(Handlers::DEFAULT_TIMEOUT);
        match TemplateHandler::new(templates, template) {
            Ok(handler) => handlers.bind(purpose.purpose_id.clone(), Arc::new(handler), timeout),
            Err(error) => errors.push(error),
        }
    }
    if errors.is_empty() {
        Ok(handlers)
    } else {
        Err(errors)
    }
}
