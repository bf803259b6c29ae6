//! How something is posted to a URL: by the `webhook` handler, and where results are delivered to one.

use std::time::Duration;

use crate::input::{
    fields::Fields,
    values::{boolean, http_url, variable, whole_number},
};

/// The settings of a `webhook` handler, and of results delivered to a URL.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct WebhookConfig {
    /// URL that results are posted to.
    pub url: String,
    /// The environment variable that holds the secret to sign with; `None`: not signed.
    pub secret_env: Option<String>,
    /// How long one call may take.
    pub timeout: Duration,
    /// Whether the URL may lead to this machine or into a private network.
    pub allow_private_addresses: bool,
}

impl WebhookConfig {
    /// Reads the settings among the fields of something larger; mistakes stay with `fields`.
    pub fn read(fields: &mut Fields<'_>) -> Option<Self> {
        let url = fields.required(
            "url",
            "add where to post to, such as \"https://crm.example/hook\"",
            http_url,
        );
        let secret_env = fields.optional("secret_env", variable);
        let timeout = fields.optional("timeout_ms", |value| whole_number(value, 1..=600_000));
        let private = fields.optional("allow_private_addresses", boolean);
        Some(Self {
            url: url?.to_owned(),
            secret_env: secret_env.map(str::to_owned),
            timeout: Duration::from_millis(timeout.unwrap_or(10_000)),
            allow_private_addresses: private.unwrap_or(false),
        })
    }
}
