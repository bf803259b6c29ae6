//! Alerts by a webhook, signed after the Standard Webhooks specification.

use std::{fmt, sync::Arc, time::Duration};

use async_trait::async_trait;
use punctual_application::ports::{Alert, AlertChannel, AlertError, Clock};
use punctual_domain::{WebhookConfig, without_secrets};
use secrecy::SecretString;
use serde_json::json;

use crate::{handlers::webhook::SignedPost, outbound::EndpointError};

/// How long the endpoint may take to answer.
const TIMEOUT: Duration = Duration::from_secs(10);

/// Posts alerts to a URL.
pub struct WebhookAlerts {
    post: SignedPost,
    /// Scheme and host of the URL.
    target: String,
}

impl fmt::Debug for WebhookAlerts {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("WebhookAlerts").finish_non_exhaustive()
    }
}

impl WebhookAlerts {
    /// Posts to `url`, signed with `secret`: `whsec_` and base64. Unless `allow_private_addresses`, the URL must not lead to this
    /// machine or into a private network.
    ///
    /// # Errors
    /// The URL or the secret cannot be used.
    pub fn new(
        url: &str,
        secret: &SecretString,
        allow_private_addresses: bool,
        clock: Arc<dyn Clock>,
    ) -> Result<Self, EndpointError> {
        let config = WebhookConfig {
            url: url.to_owned(),
            secret_env: None,
            timeout: TIMEOUT,
            allow_private_addresses,
        };
        Ok(Self {
            post: SignedPost::new(&config, Some(secret), clock)?,
            target: without_secrets(url),
        })
    }

    /// Where alerts are posted, without what may be secret.
    #[must_use]
    pub fn target(&self) -> String {
        self.target.clone()
    }
}

#[async_trait]
impl AlertChannel for WebhookAlerts {
    async fn send(&self, alert: &Alert) -> Result<String, AlertError> {
        let body = json!(alert).to_string().into_bytes();
        let id = alert.id.to_string();
        let sent = self.post.send(&id, "application/json", body).await;
        let response = sent.map_err(|error| AlertError::new(error.message))?;
        Ok(response.status().to_string())
    }
}
