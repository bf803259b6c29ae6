//! The built-in handlers, made from `purposes.json`.

pub mod template;

use std::sync::Arc;

use punctual_application::Handlers;
use punctual_domain::{HandlerConfig, PurposeConfig};

use self::template::{TemplateError, TemplateHandler, Templates};

/// Makes a purpose's handler and binds it.
pub(crate) fn bind(
    handlers: &mut Handlers,
    purpose: &PurposeConfig,
    templates: &Templates,
) -> Result<(), TemplateError> {
    let HandlerConfig::Template { template } = &purpose.handler;
    let handler = TemplateHandler::new(templates, template)?;
    let timeout = purpose.item_timeout.unwrap_or(Handlers::DEFAULT_TIMEOUT);
    handlers.bind(purpose.purpose_id.clone(), Arc::new(handler), timeout);
    Ok(())
}
