//! The agent's settings: from the environment, over a settings file, over the defaults.

use std::{
    net::SocketAddr,
    path::{Path, PathBuf},
    time::Duration,
};

use anyhow::{Context, ensure};
use config::{Config, File};
use punctual_domain::Zone;
use punctual_infrastructure::telemetry::LogFormat;
use secrecy::SecretString;
use serde::{Deserialize, Deserializer, de::Error};

/// Every name the agent knows, with its default.
const NAMES: [(&str, Option<&str>); 18] = [
    ("CONFIG_SERVICE_URL", None),
    ("CONFIG_SERVICE_API_KEY", None),
    ("CONFIG_CACHE_TTL", Some("3600")),
    ("CONFIG_POLL_INTERVAL", Some("60")),
    ("CONFIG_LAST_KNOWN_GOOD_PATH", Some("var/last-known-good")),
    ("CONFIG_STORE_URL", Some("sqlite://var/config.db")),
    ("CONFIG_HTTP_ADDR", Some("127.0.0.1:8000")),
    ("BATCH_MAX_CONCURRENT_ITEMS", Some("25")),
    ("BATCH_RETRY_LIMIT", Some("3")),
    ("BATCH_CONFIG_PATH", Some("data/batch/batch_config.json")),
    ("BATCH_PURPOSES_PATH", Some("data/batch/purposes.json")),
    ("BATCH_STORE_URL", Some("sqlite://var/punctual.db")),
    ("BATCH_CHUNK_SIZE", Some("500")),
    ("BATCH_DEFAULT_TIMEZONE", Some("UTC")),
    ("BATCH_HTTP_ADDR", Some("127.0.0.1:8080")),
    ("BATCH_API_KEY", None),
    ("BATCH_LOG", None),
    ("BATCH_LOG_FORMAT", Some("text")),
];

#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "SCREAMING_SNAKE_CASE")]
pub(crate) struct Settings {
    /// Where the Config Database is; `None`: inside the agent.
    pub(crate) config_service_url: Option<String>,
    pub(crate) config_service_api_key: Option<SecretString>,
    #[serde(deserialize_with = "seconds")]
    pub(crate) config_cache_ttl: Duration,
    #[serde(deserialize_with = "seconds")]
    pub(crate) config_poll_interval: Duration,
    /// The folder where what was last known good of the Config Database is kept.
    pub(crate) config_last_known_good_path: PathBuf,
    pub(crate) config_store_url: String,
    pub(crate) config_http_addr: SocketAddr,
    pub(crate) batch_max_concurrent_items: usize,
    pub(crate) batch_retry_limit: u32,
    pub(crate) batch_config_path: PathBuf,
    pub(crate) batch_purposes_path: PathBuf,
    pub(crate) batch_store_url: String,
    pub(crate) batch_chunk_size: usize,
    #[serde(deserialize_with = "zone")]
    pub(crate) batch_default_timezone: Zone,
    pub(crate) batch_http_addr: SocketAddr,
    pub(crate) batch_api_key: Option<SecretString>,
    pub(crate) batch_log: Option<String>,
    pub(crate) batch_log_format: LogFormat,
}

impl Settings {
    /// Reads the settings of this process.
    ///
    /// # Errors
    /// The first setting that cannot be used, by name.
    pub(crate) fn load(file: Option<&Path>) -> anyhow::Result<Self> {
        Self::from_sources(file, |name| std::env::var(name).ok())
    }

    fn from_sources(
        file: Option<&Path>,
        environment: impl Fn(&str) -> Option<String>,
    ) -> anyhow::Result<Self> {
        let mut builder = Config::builder();
        for (name, default) in NAMES {
            // One by one: the whole environment may hold what is not even Unicode. Empty means unset.
            let given = environment(name).filter(|value| !value.is_empty());
            builder = builder.set_override_option(name, given)?;
            if let Some(default) = default {
                builder = builder.set_default(name, default)?;
            }
        }
        if let Some(file) = file {
            builder = builder.add_source(File::from(file));
        }
        let settings: Self = builder
            .build()
            .and_then(Config::try_deserialize)
            .context("the settings cannot be used")?;
        settings.check().context("the settings cannot be used")?;
        Ok(settings)
    }

    fn check(&self) -> anyhow::Result<()> {
        let whole = |name: &str, value: usize, range: std::ops::RangeInclusive<usize>| {
            let (from, to) = (range.start(), range.end());
            ensure!(
                range.contains(&value),
                "{name} is {value}; use a whole number from {from} to {to}"
            );
            Ok(())
        };
        whole(
            "BATCH_MAX_CONCURRENT_ITEMS",
            self.batch_max_concurrent_items,
            1..=10_000,
        )?;
        whole(
            "BATCH_RETRY_LIMIT",
            self.batch_retry_limit as usize,
            0..=100,
        )?;
        whole("BATCH_CHUNK_SIZE", self.batch_chunk_size, 1..=10_000)?;
        whole(
            "CONFIG_POLL_INTERVAL",
            self.config_poll_interval.as_secs() as usize,
            1..=86_400,
        )?;
        whole(
            "CONFIG_CACHE_TTL",
            self.config_cache_ttl.as_secs() as usize,
            1..=604_800,
        )?;
        ensure!(
            self.batch_api_key.is_some() || self.batch_http_addr.ip().is_loopback(),
            "BATCH_HTTP_ADDR is {}, which others can reach, and there is no key; set BATCH_API_KEY, or listen on 127.0.0.1",
            self.batch_http_addr
        );
        Ok(())
    }

    /// The folder of templates: beside the folder of `purposes.json`.
    pub(crate) fn templates_path(&self) -> PathBuf {
        let folder = self.batch_purposes_path.parent().unwrap_or(Path::new("."));
        folder.join("../templates")
    }
}

fn seconds<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Duration, D::Error> {
    u64::deserialize(deserializer).map(Duration::from_secs)
}

fn zone<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Zone, D::Error> {
    String::deserialize(deserializer)?
        .parse()
        .map_err(D::Error::custom)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn load(given: &[(&str, &str)]) -> Result<Settings, String> {
        let environment = |name: &str| {
            given
                .iter()
                .find(|(given, _)| *given == name)
                .map(|(_, value)| (*value).to_owned())
        };
        Settings::from_sources(None, environment).map_err(|error| format!("{error:#}"))
    }

    #[test]
    fn the_documented_defaults_hold_and_empty_means_unset() {
        let settings = load(&[("CONFIG_SERVICE_URL", "")]).unwrap();
        assert_eq!(settings.config_service_url, None);
        assert_eq!(settings.config_cache_ttl, Duration::from_secs(3600));
        assert_eq!(settings.config_poll_interval, Duration::from_secs(60));
        assert_eq!(
            (
                settings.batch_max_concurrent_items,
                settings.batch_retry_limit
            ),
            (25, 3)
        );
        assert_eq!(settings.batch_default_timezone, Zone::utc());
        assert_eq!(
            settings.templates_path(),
            Path::new("data/batch/../templates")
        );
    }

    #[test]
    fn a_token_of_digits_stays_what_it_is_and_is_never_shown() {
        use secrecy::ExposeSecret;
        let settings = load(&[("BATCH_API_KEY", "00123")]).unwrap();
        assert_eq!(
            settings.batch_api_key.as_ref().unwrap().expose_secret(),
            "00123"
        );
        assert!(!format!("{settings:?}").contains("00123"));
    }

    #[test]
    fn what_cannot_be_used_is_named() {
        for (name, value) in [
            ("CONFIG_CACHE_TTL", "an hour"),
            ("CONFIG_POLL_INTERVAL", "0"),
            ("BATCH_MAX_CONCURRENT_ITEMS", "0"),
            ("BATCH_RETRY_LIMIT", "-1"),
            ("BATCH_DEFAULT_TIMEZONE", "Mars/Olympus"),
            ("BATCH_HTTP_ADDR", "0.0.0.0:8080"),
            ("BATCH_LOG_FORMAT", "xml"),
        ] {
            let error = load(&[(name, value)]).unwrap_err();
            assert!(error.contains(name), "{name}: {error}");
        }
        assert!(load(&[("BATCH_HTTP_ADDR", "0.0.0.0:8080"), ("BATCH_API_KEY", "k")]).is_ok());
    }
}
