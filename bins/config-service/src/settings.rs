//! The settings of the config service, from the environment.

use std::net::SocketAddr;

use anyhow::Context;
use config::{Config, Environment};
use punctual_config_database::ServerSettings;
use punctual_infrastructure::telemetry::{DEFAULT_FILTER, LogFormat};
use secrecy::SecretString;
use serde::Deserialize;

const NAMES: [&str; 5] = [
    "CONFIG_STORE_URL",
    "CONFIG_HTTP_ADDR",
    "CONFIG_SERVICE_API_KEY",
    "BATCH_LOG",
    "BATCH_LOG_FORMAT",
];

#[derive(Debug, Deserialize)]
pub(crate) struct Settings {
    #[serde(rename = "config_store_url")]
    pub(crate) store_url: String,
    #[serde(rename = "config_http_addr")]
    addr: SocketAddr,
    #[serde(rename = "config_service_api_key")]
    api_key: Option<SecretString>,
    #[serde(rename = "batch_log")]
    pub(crate) log: String,
    #[serde(rename = "batch_log_format")]
    pub(crate) log_format: LogFormat,
}

impl Settings {
    pub(crate) fn load() -> anyhow::Result<Self> {
        // Only our own names: the whole environment may hold what is not even Unicode.
        let ours = NAMES
            .into_iter()
            .filter_map(|name| Some((name.to_owned(), std::env::var(name).ok()?)));
        Config::builder()
            .set_default("config_store_url", "sqlite://var/config.db")?
            .set_default("config_http_addr", "127.0.0.1:8000")?
            .set_default("batch_log", DEFAULT_FILTER)?
            .set_default("batch_log_format", "text")?
            .add_source(
                Environment::default()
                    .ignore_empty(true)
                    .source(Some(ours.collect())),
            )
            .build()
            .and_then(Config::try_deserialize)
            .context("the settings cannot be used")
    }

    pub(crate) fn server(self) -> ServerSettings {
        ServerSettings {
            store_url: self.store_url,
            addr: self.addr,
            admin_key: self.api_key,
        }
    }
}
