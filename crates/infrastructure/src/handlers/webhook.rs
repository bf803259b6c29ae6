//! Posting to a URL, signed after the Standard Webhooks specification, and the handler `webhook` that posts an item and
//! keeps what is answered.

use std::{sync::Arc, time::Duration};

use async_trait::async_trait;
use punctual_application::ports::{Clock, HandlerError, PurposeHandler, Rendered, SystemClock};
use punctual_domain::{
    FieldError, FieldErrorKind, Fields, Invalid, Item, Outcome, WebhookConfig, values::text,
    without_secrets,
};
use reqwest::{
    Client, StatusCode, Url,
    header::{CONTENT_TYPE, HeaderValue},
};
use secrecy::{ExposeSecret, SecretString};
use serde_json::{Value, json};
use standardwebhooks::{
    HEADER_WEBHOOK_ID, HEADER_WEBHOOK_SIGNATURE, HEADER_WEBHOOK_TIMESTAMP, Webhook,
};

use super::{
    HandlerKind,
    completion::{CompletionOptions, completion_url},
    endpoint::{DRY_RUN, asked_to_wait, body, host_of, refused, unanswered},
};
use crate::{
    environment::secret_in,
    outbound::{EndpointError, endpoint_client, outgoing},
    spans,
};

/// The header with the address at which the work of a call is completed.
const COMPLETION_URL: &str = "Punctual-Completion-Url";
/// So much of an answer is kept, in bytes.
const MAX_KEPT_BYTES: usize = 64 * 1024;
/// Characters of a reason that are kept.
pub(super) const MAX_REASON_CHARACTERS: usize = 300;

/// Posts to one URL.
pub(crate) struct SignedPost {
    url: Url,
    secret: Option<Webhook>,
    client: Client,
    clock: Arc<dyn Clock>,
}

/// What marks a call.
#[derive(Clone, Copy)]
enum Call<'a> {
    /// Nothing.
    Usual,
    /// It is to have no effect.
    DryRun,
    /// What it begins may be completed at this address.
    Completed(&'a str),
}

/// What was answered with success.
pub(crate) struct PostResponse {
    status: StatusCode,
    body: Vec<u8>,
    truncated: bool,
}

impl PostResponse {
    /// The status that was answered.
    pub(crate) fn status(&self) -> StatusCode {
        self.status
    }
}

impl SignedPost {
    /// A sender for `config`, that signs with `secret`.
    ///
    /// # Errors
    /// The URL or the secret cannot be used.
    pub(crate) fn new(
        config: &WebhookConfig,
        secret: Option<&SecretString>,
        clock: Arc<dyn Clock>,
    ) -> Result<Self, EndpointError> {
        let private = config.allow_private_addresses;
        let url = outgoing(&config.url, private)?;
        let secret = secret
            .map(|secret| signer(secret).ok_or(EndpointError::InvalidSecret))
            .transpose()?;
        Ok(Self {
            url,
            secret,
            client: endpoint_client(config.timeout, private)?,
            clock,
        })
    }

    /// The sender of a configuration that stands at `pointer`, with its secret from the environment.
    ///
    /// # Errors
    /// What cannot be used, at its field.
    pub(crate) fn configured(
        config: &WebhookConfig,
        pointer: &str,
        clock: Arc<dyn Clock>,
    ) -> Result<Self, FieldError> {
        let name = config.secret_env.as_deref().map(Value::from);
        let secret = name.as_ref().map(secret_in).transpose();
        let secret =
            secret.map_err(|invalid| invalid.at(format!("{pointer}/secret_env"), name.as_ref()))?;
        Self::new(config, secret.as_ref(), clock).map_err(|error| FieldError {
            pointer: format!("{pointer}/url"),
            value: Some(format!("{:?}", config.url)),
            problem: error.to_string(),
            remedy:
                "give the URL that the receiving service documents, and the secret that it issued"
                    .to_owned(),
            kind: FieldErrorKind::Other,
        })
    }

    /// Posts `body`, once, under `id`: who gets it twice under one id has got it once.
    pub(crate) async fn send(
        &self,
        id: &str,
        content_type: &str,
        content: Vec<u8>,
    ) -> Result<PostResponse, HandlerError> {
        self.post(id, content_type, content, Call::Usual).await
    }

    async fn post(
        &self,
        id: &str,
        content_type: &str,
        content: Vec<u8>,
        call: Call<'_>,
    ) -> Result<PostResponse, HandlerError> {
        let timestamp = self.clock.now().timestamp();
        let mut request = self
            .client
            .post(self.url.clone())
            .header(CONTENT_TYPE, content_type)
            .header("Idempotency-Key", id)
            .header(HEADER_WEBHOOK_ID, id)
            .header(HEADER_WEBHOOK_TIMESTAMP, timestamp);
        request = match call {
            Call::Usual => request,
            Call::DryRun => request.header(DRY_RUN, "1"),
            Call::Completed(url) => request.header(COMPLETION_URL, secret_header(url)?),
        };
        if let Some(secret) = &self.secret {
            let signature = secret.sign(id, timestamp, &content);
            let signature =
                signature.map_err(|error| HandlerError::permanent(error.to_string()))?;
            request = request.header(HEADER_WEBHOOK_SIGNATURE, signature);
        }
        let request = request.body(content);
        let host = host_of(&self.url);
        let unanswered = |error| unanswered(&host, error);
        let response = spans::call(request).await.map_err(unanswered)?;
        let (status, wait) = (response.status(), asked_to_wait(response.headers()));
        let (body, truncated) = body(response, MAX_KEPT_BYTES).await.map_err(unanswered)?;
        if !status.is_success() {
            return Err(refused(
                &host,
                status,
                wait,
                &String::from_utf8_lossy(&body),
            ));
        }
        Ok(PostResponse {
            status,
            body,
            truncated,
        })
    }
}

/// A header that no log shows.
fn secret_header(value: &str) -> Result<HeaderValue, HandlerError> {
    let header = HeaderValue::from_str(value);
    let mut header = header.map_err(|_invalid| {
        HandlerError::permanent("the completion URL contains characters that no header can have")
    })?;
    header.set_sensitive(true);
    Ok(header)
}

/// Signs with `whsec_` and base64, as the specification has it, or with the bytes of anything else.
fn signer(secret: &SecretString) -> Option<Webhook> {
    let secret = secret.expose_secret();
    if secret.starts_with("whsec_") {
        return Webhook::new(secret).ok();
    }
    Webhook::from_bytes(secret.as_bytes().to_vec()).ok()
}

/// Reads the fields of a [`WebhookConfig`].
pub(crate) struct WebhookKind;

impl HandlerKind for WebhookKind {
    fn name(&self) -> &'static str {
        "webhook"
    }

    fn target(&self, options: &mut Fields<'_>) -> Option<String> {
        Some(without_secrets(options.raw("url")?.as_str()?))
    }

    fn read(&self, fields: &mut Fields<'_>, _: Duration) -> Option<Arc<dyn PurposeHandler>> {
        let config = WebhookConfig::read(fields);
        let accepted = Accepted::read(fields);
        let config = config?;
        match SignedPost::configured(&config, fields.pointer(), Arc::new(SystemClock)) {
            Ok(post) => Some(Arc::new(WebhookHandler { post, accepted })),
            Err(error) => {
                fields.add(vec![error]);
                None
            }
        }
    }
}

/// What the answer 202 Accepted means.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Accepted {
    /// The work goes on, and the item waits.
    Waits(CompletionOptions),
    /// The work is done, as with any other answer of success.
    Done,
}

impl Accepted {
    /// Reads the options among the fields of a purpose; mistakes stay with `fields`.
    fn read(fields: &mut Fields<'_>) -> Self {
        let is_done = fields.optional("accepted", |value| match text(value)? {
            "waits" => Ok(false),
            "done" => Ok(true),
            _ => Err(Invalid::new(
                "is not a meaning of 202",
                "use one of waits, done",
            )),
        });
        let options = CompletionOptions::read(fields);
        if is_done != Some(true) {
            return Self::Waits(options);
        }
        for name in ["completes_within", "on_deadline"] {
            if fields.raw(name).is_some() {
                let unused = Invalid::new(
                    "has no effect beside \"accepted\": \"done\"",
                    "remove one of them",
                );
                fields.complain(name, unused);
            }
        }
        Self::Done
    }
}

/// Posts items.
pub struct WebhookHandler {
    post: SignedPost,
    accepted: Accepted,
}

impl WebhookHandler {
    /// A handler for `config`, that signs with `secret`. An item that is accepted waits for a day, and is posted again then.
    ///
    /// # Errors
    /// [`EndpointError`]: the URL or the secret cannot be used.
    pub fn new(
        config: &WebhookConfig,
        secret: Option<&SecretString>,
        clock: Arc<dyn Clock>,
    ) -> Result<Self, EndpointError> {
        Ok(Self {
            post: SignedPost::new(config, secret, clock)?,
            accepted: Accepted::Waits(CompletionOptions::default()),
        })
    }
}

#[async_trait]
impl PurposeHandler for WebhookHandler {
    /// What was answered, as `{"status", "body"}`; the body is JSON where it is, else text, and `"truncated": true` says
    /// that there was more. The status 204, or the body `{"status": "nothing_to_do", "reason"}`, says that there was
    /// nothing to do. The status 202 says that the work goes on: the item waits, unless the purpose says that it is done.
    async fn run(&self, item: &Item) -> Result<Outcome, HandlerError> {
        let call = match (self.accepted, completion_url(item)) {
            (Accepted::Waits(_), Some(url)) => Call::Completed(url),
            _ => Call::Usual,
        };
        self.call(item, content(item)?, call).await
    }

    /// What would have come of the same body as an answer.
    fn completed(&self, body: Value) -> Outcome {
        outcome(StatusCode::ACCEPTED, body, false)
    }

    async fn preview(&self, item: &Item, call: bool) -> Result<Option<Rendered>, HandlerError> {
        let content = content(item)?;
        let body = serde_json::from_slice(&content).map_err(unwritable)?;
        let outcome = if call {
            Some(self.call(item, content, Call::DryRun).await)
        } else {
            None
        };
        Ok(Some(Rendered {
            to: Some(without_secrets(self.post.url.as_str())),
            body: Some(body),
            outcome,
            ..Rendered::default()
        }))
    }
}

impl WebhookHandler {
    async fn call(
        &self,
        item: &Item,
        content: Vec<u8>,
        call: Call<'_>,
    ) -> Result<Outcome, HandlerError> {
        let key = item.idempotency_key();
        let posted = self.post.post(&key, "application/json", content, call);
        let posted = posted.await?;
        if posted.status == StatusCode::NO_CONTENT {
            let reason = format!("{} answered 204 No Content", host_of(&self.post.url));
            return Ok(Outcome::NothingToDo(reason));
        }
        if let (StatusCode::ACCEPTED, Call::Completed(_), Accepted::Waits(options)) =
            (posted.status, call, self.accepted)
        {
            let now = self.post.clock.now();
            return Ok(Outcome::Waiting(options.waiting(now)));
        }
        let body = match serde_json::from_slice(&posted.body) {
            Ok(json) if !posted.truncated => json,
            _ => Value::from(String::from_utf8_lossy(&posted.body)),
        };
        Ok(outcome(posted.status, body, posted.truncated))
    }
}

/// What an answer of success means.
fn outcome(status: StatusCode, body: Value, truncated: bool) -> Outcome {
    if let Some(reason) = nothing_to_do(&body) {
        return Outcome::NothingToDo(reason);
    }
    let mut output = json!({ "status": status.as_u16(), "body": body });
    if truncated {
        output["truncated"] = json!(true);
    }
    output.into()
}

/// What a remote endpoint or a program gets of an item.
pub(super) fn content(item: &Item) -> Result<Vec<u8>, HandlerError> {
    serde_json::to_vec(item).map_err(unwritable)
}

pub(super) fn unwritable(error: serde_json::Error) -> HandlerError {
    HandlerError::permanent(format!("the item cannot be written as JSON: {error}"))
}

/// Why there was nothing to do, if an answer says that there was not.
pub(super) fn nothing_to_do(body: &Value) -> Option<String> {
    if body.get("status")? != "nothing_to_do" {
        return None;
    }
    let reason = body.get("reason").and_then(Value::as_str).map(str::trim);
    let reason = reason.filter(|reason| !reason.is_empty());
    let reason = reason.unwrap_or("the endpoint gave no reason");
    Some(reason.chars().take(MAX_REASON_CHARACTERS).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_answer_says_that_there_was_nothing_to_do_and_why() {
        for (body, reason) in [
            (
                json!({"status": "nothing_to_do", "reason": " no news "}),
                Some("no news"),
            ),
            (
                json!({"status": "nothing_to_do"}),
                Some("the endpoint gave no reason"),
            ),
            (
                json!({"status": "nothing_to_do", "reason": 7}),
                Some("the endpoint gave no reason"),
            ),
            (json!({"status": "done", "reason": "no news"}), None),
            (json!({"status": 204}), None),
            (json!("nothing_to_do"), None),
            (json!(["nothing_to_do"]), None),
            (Value::Null, None),
        ] {
            assert_eq!(nothing_to_do(&body).as_deref(), reason, "{body}");
        }
        let long = json!({"status": "nothing_to_do", "reason": "é".repeat(5_000)});
        assert_eq!(
            nothing_to_do(&long).map(|reason| reason.chars().count()),
            Some(MAX_REASON_CHARACTERS)
        );
    }
}
