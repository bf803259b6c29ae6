//! What a handler would send for an item.

use punctual_domain::Outcome;
use serde_json::Value;

use super::HandlerError;

/// What a handler would send for an item, as [`preview`](super::PurposeHandler::preview) finds it out. Operators see it, so it
/// must hold no secret, such as the key of a header or a link that acts for the tenant.
#[derive(Debug, Clone, Default)]
pub struct Rendered {
    /// Where it would go: an address, or a URL without what may be secret of it.
    pub to: Option<String>,
    /// Subject of an e-mail.
    pub subject: Option<String>,
    /// Text, as the template gives it.
    pub text: Option<String>,
    /// HTML, as the template gives it.
    pub html: Option<String>,
    /// Body of the request.
    pub body: Option<Value>,
    /// What a run would return, where that is known and nothing has to be called for it. The second purpose of a job is shown with
    /// it.
    pub output: Option<Value>,
    /// Outcome of the run, as far as it is known: that there is nothing to send, or what the remote endpoint answered to a
    /// dry run. `None`: there is something to send, and nothing was called.
    pub outcome: Option<Result<Outcome, HandlerError>>,
}

impl Rendered {
    /// There is nothing to send, for this reason.
    pub fn nothing_to_do(reason: impl Into<String>) -> Self {
        Self {
            outcome: Some(Ok(Outcome::nothing_to_do(reason))),
            ..Self::default()
        }
    }
}
