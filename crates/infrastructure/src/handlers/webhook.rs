//! Posting to a URL, signed after the Standard Webhooks specification, and the handler `webhook` that posts an item and
//! keeps what is answered.

use std::{sync::Arc, time::Duration};

use async_trait::async_trait;
use punctual_application::ports::{Clock, HandlerError, PurposeHandler, Rendered, SystemClock};
use punctual_domain::{
    FieldError, FieldErrorKind, Fields, Item, Outcome, WebhookConfig, without_secrets,
};
use reqwest::{Client, StatusCode, Url, header::CONTENT_TYPE};
use secrecy::{ExposeSecret, SecretString};
use serde_json::{Value, json};
use standardwebhooks::{
    HEADER_WEBHOOK_ID, HEADER_WEBHOOK_SIGNATURE, HEADER_WEBHOOK_TIMESTAMP, Webhook,
};

use super::{
    HandlerKind,
    endpoint::{DRY_RUN, asked_to_wait, body, host_of, refused, unanswered},
};
use crate::{
    environment::secret_in,
    outbound::{EndpointError, endpoint_client, outgoing},
    spans,
};

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

/// What was answered with success.
pub(crate) struct PostResponse {
    status: StatusCode,
    body: Vec<u8>,
    truncated: bool,
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
        self.post(id, content_type, content, false).await
    }

    async fn post(
        &self,
        id: &str,
        content_type: &str,
        content: Vec<u8>,
        dry_run: bool,
    ) -> Result<PostResponse, HandlerError> {
        let timestamp = self.clock.now().timestamp();
        let mut request = self
            .client
            .post(self.url.clone())
            .header(CONTENT_TYPE, content_type)
            .header("Idempotency-Key", id)
            .header(HEADER_WEBHOOK_ID, id)
            .header(HEADER_WEBHOOK_TIMESTAMP, timestamp);
        if dry_run {
            request = request.header(DRY_RUN, "1");
        }
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
        let config = WebhookConfig::read(fields)?;
        match SignedPost::configured(&config, fields.pointer(), Arc::new(SystemClock)) {
            Ok(post) => Some(Arc::new(WebhookHandler(post))),
            Err(error) => {
                fields.add(vec![error]);
                None
            }
        }
    }
}

/// Posts items.
pub struct WebhookHandler(SignedPost);

impl WebhookHandler {
    /// A handler for `config`, that signs with `secret`.
    ///
    /// # Errors
    /// [`EndpointError`]: the URL or the secret cannot be used.
    pub fn new(
        config: &WebhookConfig,
        secret: Option<&SecretString>,
        clock: Arc<dyn Clock>,
    ) -> Result<Self, EndpointError> {
        SignedPost::new(config, secret, clock).map(Self)
    }
}

#[async_trait]
impl PurposeHandler for WebhookHandler {
    /// What was answered, as `{"status", "body"}`; the body is JSON where it is, else text, and `"truncated": true` says
    /// that there was more. The status 204, or the body `{"status": "nothing_to_do", "reason"}`, says that there was
    /// nothing to do.
    async fn run(&self, item: &Item) -> Result<Outcome, HandlerError> {
        self.post(item, content(item)?, false).await
    }

    async fn preview(&self, item: &Item, call: bool) -> Result<Option<Rendered>, HandlerError> {
        let content = content(item)?;
        let body = serde_json::from_slice(&content).map_err(unwritable)?;
        let outcome = if call {
            Some(self.post(item, content, true).await)
        } else {
            None
        };
        Ok(Some(Rendered {
            to: Some(without_secrets(self.0.url.as_str())),
            body: Some(body),
            outcome,
            ..Rendered::default()
        }))
    }
}

impl WebhookHandler {
    async fn post(
        &self,
        item: &Item,
        content: Vec<u8>,
        dry_run: bool,
    ) -> Result<Outcome, HandlerError> {
        let key = item.idempotency_key();
        let posted = self.0.post(&key, "application/json", content, dry_run);
        let posted = posted.await?;
        if posted.status == StatusCode::NO_CONTENT {
            let reason = format!("{} answered 204 No Content", host_of(&self.0.url));
            return Ok(Outcome::NothingToDo(reason));
        }
        let body = match serde_json::from_slice(&posted.body) {
            Ok(json) if !posted.truncated => json,
            _ => Value::from(String::from_utf8_lossy(&posted.body)),
        };
        if let Some(reason) = nothing_to_do(&body) {
            return Ok(Outcome::NothingToDo(reason));
        }
        let mut output = json!({ "status": posted.status.as_u16(), "body": body });
        if posted.truncated {
            output["truncated"] = json!(true);
        }
        Ok(output.into())
    }
}

/// What a remote endpoint or a program gets of an item.
pub(super) fn content(item: &Item) -> Result<Vec<u8>, HandlerError> {
    serde_json::to_vec(item).map_err(unwritable)
}

pub(super) fn unwritable(error: serde_json::Error) -> HandlerError {
    HandlerError::permanent(format!("the item cannot be written as JSON: {error}"))
}

/// Why there was nothing to do, if an answer says that there was not.
fn nothing_to_do(body: &Value) -> Option<String> {
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
