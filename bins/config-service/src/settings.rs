//! The settings of the config service, from the environment.

use std::{net::SocketAddr, path::PathBuf, sync::Arc};

use anyhow::{Context, anyhow, bail, ensure};
use config::Config;
use punctual_config_database::{Embedding, EmbeddingSettings, InvalidEmbedding, ServerSettings};
use punctual_domain::Zone;
use punctual_infrastructure::{
    AgentClient, AgentClientOptions, AgentSettingNames, read_zone_folder,
};
use punctual_telemetry::{DEFAULT_FILTER, LogFormat};
use punctual_web::process::{address, whole_number};
use secrecy::SecretString;
use serde::Deserialize;

const NAMES: [(&str, Option<&str>); 14] = [
    ("CONFIG_STORE_URL", Some("sqlite://var/config.db")),
    ("CONFIG_HTTP_ADDR", Some("127.0.0.1:8000")),
    ("CONFIG_SERVICE_API_KEY", None),
    (KEEP_HISTORY_DAYS, Some("365")),
    ("CONFIG_EMBED_ORIGINS", None),
    ("CONFIG_LINK_KEYS", None),
    ("CONFIG_PUBLIC_URL", None),
    ("CONFIG_SITE_NAME", None),
    ("CONFIG_SITE_LOGO", None),
    ("CONFIG_AGENT_URLS", None),
    ("CONFIG_AGENT_API_KEY", None),
    ("CONFIG_TZDB_DIR", None),
    ("BATCH_LOG", Some(DEFAULT_FILTER)),
    ("BATCH_LOG_FORMAT", Some("text")),
];

const KEEP_HISTORY_DAYS: &str = "CONFIG_KEEP_HISTORY_DAYS";
/// A hundred years.
const MAX_KEEP_HISTORY_DAYS: u64 = 36_500;

#[derive(Debug, Deserialize)]
#[serde(rename_all = "SCREAMING_SNAKE_CASE")]
pub(crate) struct Settings {
    pub(crate) config_store_url: String,
    #[serde(deserialize_with = "address")]
    config_http_addr: SocketAddr,
    config_service_api_key: Option<SecretString>,
    /// Days for which earlier versions are kept.
    pub(crate) config_keep_history_days: u16,
    config_embed_origins: Option<String>,
    config_link_keys: Option<SecretString>,
    config_public_url: Option<String>,
    config_site_name: Option<String>,
    config_site_logo: Option<PathBuf>,
    config_agent_urls: Option<String>,
    config_agent_api_key: Option<SecretString>,
    pub(crate) config_tzdb_dir: Option<PathBuf>,
    pub(crate) batch_log: String,
    pub(crate) batch_log_format: LogFormat,
}

impl Settings {
    /// Reads the settings of this process. A command that needs no zone rules works also while they cannot be read, such as when
    /// their files are being replaced.
    ///
    /// # Errors
    /// The first setting that cannot be used, by name.
    pub(crate) fn load(needs_zone_rules: bool) -> anyhow::Result<Self> {
        let mut builder = Config::builder();
        for (name, default) in NAMES {
            // One by one: the whole environment may hold what is not even Unicode. Empty means unset.
            let given = std::env::var(name).ok().filter(|value| !value.is_empty());
            builder = builder.set_override_option(name, given)?;
            if let Some(default) = default {
                builder = builder.set_default(name, default)?;
            }
        }
        let built = builder.build().context("invalid settings")?;
        // Before the types, which would say less about what is expected.
        let days = built
            .get_string(KEEP_HISTORY_DAYS)
            .context("invalid settings")?;
        whole_number(KEEP_HISTORY_DAYS, &days, &(1..=MAX_KEEP_HISTORY_DAYS))
            .map_err(|problem| anyhow!("invalid settings: {problem}"))?;
        let settings: Self = built.try_deserialize().context("invalid settings")?;
        // Nothing has read a zone yet.
        if let Some(folder) = &settings.config_tzdb_dir {
            match read_zone_folder(folder) {
                Ok(rules) => {
                    let _ = Zone::install(rules);
                }
                Err(error) if needs_zone_rules => {
                    bail!("invalid settings: CONFIG_TZDB_DIR: {error}")
                }
                Err(_) => {}
            }
        }
        Ok(settings)
    }

    /// How other products embed the pages, and what these know of past runs.
    pub(crate) fn embedding(&self) -> anyhow::Result<Embedding> {
        let embedding = Embedding::new(EmbeddingSettings {
            embed_origins: self.config_embed_origins.clone(),
            link_keys: self.config_link_keys.clone(),
            public_url: self.config_public_url.clone(),
            site_name: self.config_site_name.clone(),
            site_logo: self.config_site_logo.clone(),
        });
        let embedding = embedding.map_err(|InvalidEmbedding { field, problem }| {
            anyhow!(
                "invalid settings: CONFIG_{} {problem}",
                field.to_uppercase()
            )
        })?;
        let agents = self.agents().context("invalid settings")?;
        Ok(match agents {
            Some(agents) => embedding.with_run_history(Arc::new(agents)),
            None => embedding,
        })
    }

    /// The agents that know what has run; `None`: none is named.
    fn agents(&self) -> anyhow::Result<Option<AgentClient>> {
        let Some(urls) = &self.config_agent_urls else {
            ensure!(
                self.config_agent_api_key.is_none(),
                "CONFIG_AGENT_API_KEY is set and CONFIG_AGENT_URLS is not; set CONFIG_AGENT_URLS to the URL of \
                 the agent, or unset both"
            );
            return Ok(None);
        };
        let options = AgentClientOptions {
            urls: urls.clone(),
            api_key: self.config_agent_api_key.clone(),
            names: AgentSettingNames {
                urls: "CONFIG_AGENT_URLS",
                api_key: "CONFIG_AGENT_API_KEY",
            },
        };
        Ok(Some(AgentClient::new(options)?))
    }

    pub(crate) fn server(self) -> ServerSettings {
        ServerSettings {
            store_url: self.config_store_url,
            addr: self.config_http_addr,
            admin_key: self.config_service_api_key,
        }
    }
}
