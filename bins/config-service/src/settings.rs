//! The settings of the config service, from the environment.

use std::net::SocketAddr;

use anyhow::Context;
use config::Config;
use punctual_config_database::ServerSettings;
use punctual_telemetry::{DEFAULT_FILTER, LogFormat};
use secrecy::SecretString;
use serde::Deserialize;

const NAMES: [(&str, Option<&str>); 5] = [
    ("CONFIG_STORE_URL", Some("sqlite://var/config.db")),
    ("CONFIG_HTTP_ADDR", Some("127.0.0.1:8000")),
    ("CONFIG_SERVICE_API_KEY", None),
    ("BATCH_LOG", Some(DEFAULT_FILTER)),
    ("BATCH_LOG_FORMAT", Some("text")),
];

#[derive(Debug, Deserialize)]
#[serde(rename_all = "SCREAMING_SNAKE_CASE")]
pub(crate) struct Settings {
    pub(crate) config_store_url: String,
    config_http_addr: SocketAddr,
    config_service_api_key: Option<SecretString>,
    pub(crate) batch_log: String,
    pub(crate) batch_log_format: LogFormat,
}

impl Settings {
    pub(crate) fn load() -> anyhow::Result<Self> {
        let mut builder = Config::builder();
        for (name, default) in NAMES {
            // One by one: the whole environment may hold what is not even Unicode. Empty means unset.
            let given = std::env::var(name).ok().filter(|value| !value.is_empty());
            builder = builder.set_override_option(name, given)?;
            if let Some(default) = default {
                builder = builder.set_default(name, default)?;
            }
        }
        builder
            .build()
            .and_then(Config::try_deserialize)
            .context("invalid settings")
    }

    pub(crate) fn server(self) -> ServerSettings {
        ServerSettings {
            store_url: self.config_store_url,
            addr: self.config_http_addr,
            admin_key: self.config_service_api_key,
        }
    }
}
