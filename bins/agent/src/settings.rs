//! The agent's settings: from the environment, over a settings file, over the defaults.

use std::{
    net::SocketAddr,
    ops::RangeInclusive,
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use anyhow::{Context, anyhow, bail, ensure};
use config::{Config, File};
use punctual::{Clock, SystemClock, WebhookAlerts};
use punctual_application::QuietHours;
use punctual_domain::{
    AfterRestore, EmailAddress, InvalidEmailAddress, ShardAssignment, Zone,
    values::{base_url, http_url},
};
use punctual_infrastructure::{EndpointError, from_here, read_zone_folder};
use punctual_telemetry::LogFormat;
use punctual_web::{
    key::check_key,
    process::{address, whole_number},
};
use secrecy::{ExposeSecret, SecretString};
use serde::{Deserialize, Deserializer, de::Error};
use serde_json::Value;

use crate::sign_in;

/// A setting.
struct Setting {
    name: &'static str,
    /// What holds where none is given; `None`: it is unset.
    default: Option<&'static str>,
    /// Of a whole number.
    range: Option<RangeInclusive<u64>>,
    /// Description in Markdown, for the reference.
    what: &'static str,
}

const TZDB_DIR: &str = "BATCH_TZDB_DIR";

/// Every setting of the agent.
const SETTINGS: [Setting; 42] = [
    Setting {
        name: "CONFIG_SERVICE_URL",
        default: None,
        range: None,
        what: "URL of the Config Database; if unset, the agent starts an embedded one",
    },
    Setting {
        name: "CONFIG_SERVICE_API_KEY",
        default: None,
        range: None,
        what: "API key sent to the Config Database; the embedded one also requires it from other callers",
    },
    Setting {
        name: "CONFIG_CACHE_TTL",
        default: Some("3600"),
        range: Some(1..=604_800),
        what: "seconds for which a tenant's preference is cached",
    },
    Setting {
        name: "CONFIG_POLL_INTERVAL",
        default: Some("60"),
        range: Some(1..=86_400),
        what: "seconds between polls for changes, where the Config Database has no long polling",
    },
    Setting {
        name: "CONFIG_LAST_KNOWN_GOOD_PATH",
        default: Some("var/last-known-good"),
        range: None,
        what: "folder of the last known preferences; each agent needs its own",
    },
    Setting {
        name: "CONFIG_STORE_URL",
        default: Some("sqlite://var/config.db"),
        range: None,
        what: "URL of the embedded Config Database's store",
    },
    Setting {
        name: "CONFIG_HTTP_ADDR",
        default: Some("127.0.0.1:8000"),
        range: None,
        what: "address that the embedded Config Database listens on",
    },
    Setting {
        name: "CONFIG_KEEP_HISTORY_DAYS",
        default: Some("365"),
        range: Some(1..=36_500),
        what: "days for which the embedded Config Database keeps earlier versions of preferences",
    },
    Setting {
        name: "CONFIG_EMBED_ORIGINS",
        default: None,
        range: None,
        what: "origins whose pages may show the preference pages in a frame and call the Config Database's API, with commas \
            between, such as `https://shop.example`; if unset, none",
    },
    Setting {
        name: "CONFIG_LINK_KEYS",
        default: None,
        range: None,
        what: "keys that sign links to the preference pages and links that unsubscribe, each as `id:secret` with at least 32 \
            characters of secret, with commas between; the first one signs, all are accepted. If unset, a key of the store",
    },
    Setting {
        name: "CONFIG_PUBLIC_URL",
        default: None,
        range: None,
        what: "address at which browsers reach the embedded Config Database, such as `https://shop.example/preferences` behind a \
            proxy; if unset, the one that each request names",
    },
    Setting {
        name: "CONFIG_SITE_NAME",
        default: None,
        range: None,
        what: "name on the preference pages; if unset, Punctual",
    },
    Setting {
        name: "CONFIG_SITE_LOGO",
        default: None,
        range: None,
        what: "file of the logo on the preference pages: SVG, PNG, JPEG or WebP, at most 256 KiB",
    },
    Setting {
        name: "BATCH_MAX_CONCURRENT_ITEMS",
        default: Some("25"),
        range: Some(1..=10_000),
        what: "maximum number of items that run at the same time in the process",
    },
    Setting {
        name: "BATCH_RETRY_LIMIT",
        default: Some("3"),
        range: Some(0..=100),
        what: "number of retries after a failed attempt",
    },
    Setting {
        name: "BATCH_CONFIG_PATH",
        default: Some("data/batch/batch_config.json"),
        range: None,
        what: "file of the jobs",
    },
    Setting {
        name: "BATCH_PURPOSES_PATH",
        default: Some("data/batch/purposes.json"),
        range: None,
        what: "file of the purposes",
    },
    Setting {
        name: "BATCH_STORE_URL",
        default: Some("sqlite://var/punctual.db"),
        range: None,
        what: "URL of the store of queue, batches and results: a SQLite file, or \
            `postgres://user@host/database` for several agents; `?schema=name` puts it into another schema than `punctual`",
    },
    Setting {
        name: "BATCH_SHARD",
        default: Some("1/1"),
        range: None,
        what: "share of the tenants that this agent serves, the `k`-th of `n` parts, as `2/4`; each share has a store of its \
            own. `2/3 from 2026-12-01` changes it for occurrences of that date and later, `none from 2026-12-01` ends it",
    },
    Setting {
        name: "BATCH_AFTER_RESTORE",
        default: Some("ask"),
        range: None,
        what: "what is done when the store turns out to be [restored from an older copy](../operations/backup.md): `ask` runs nothing \
            until an operator decides, `skip` skips what fell due in the time that is lost, `repeat` runs it again",
    },
    Setting {
        name: "BATCH_CHUNK_SIZE",
        default: Some("500"),
        range: Some(1..=10_000),
        what: "maximum number of items per chunk",
    },
    Setting {
        name: "BATCH_DEFAULT_TIMEZONE",
        default: Some("UTC"),
        range: None,
        what: "time zone of preferences and schedules that do not name one",
    },
    Setting {
        name: TZDB_DIR,
        default: None,
        range: None,
        what: "[zone rules](../operations/deployment.md#zone-rules) in place of the built-in ones: a folder in the format of \
            `/usr/share/zoneinfo`, or `system` for that of the machine; read at the start and when it changes, also for the \
            embedded Config Database",
    },
    Setting {
        name: "BATCH_HTTP_ADDR",
        default: Some("127.0.0.1:8080"),
        range: None,
        what: "address that the agent listens on; an address that other machines can reach \
            requires `BATCH_API_KEY`, an identity provider or a trusted proxy",
    },
    Setting {
        name: "BATCH_PUBLIC_URL",
        default: None,
        range: None,
        what: "address at which workers of webhooks and programs reach the agent when they complete \
            [long-running work](../usage/long_running_work.md), such as `https://punctual.example` behind a proxy; if unset, \
            `http://` and `BATCH_HTTP_ADDR`",
    },
    Setting {
        name: "BATCH_API_KEY",
        default: None,
        range: None,
        what: "API key that the agent requires; at least 16 characters where other machines can \
            reach the agent",
    },
    Setting {
        name: "BATCH_ALERTS_URL",
        default: None,
        range: None,
        what: "URL that [alerts](../operations/alerts.md) are posted to; if unset, none are",
    },
    Setting {
        name: "BATCH_ALERTS_SECRET",
        default: None,
        range: None,
        what: "secret that alerts are signed with, `whsec_` and base64; required with `BATCH_ALERTS_URL`",
    },
    Setting {
        name: "BATCH_ALERTS_ALLOW_PRIVATE_ADDRESSES",
        default: Some("false"),
        range: None,
        what: "whether `BATCH_ALERTS_URL` may lead to this machine or into a private network: `true` or `false`",
    },
    Setting {
        name: "BATCH_ALERTS_EMAIL",
        default: None,
        range: None,
        what: "addresses that alerts are sent to, with commas between; if unset, none",
    },
    Setting {
        name: "BATCH_ALERTS_EMAIL_PURPOSE",
        default: None,
        range: None,
        what: "purpose whose handler is `email`: its server and its sender send the alerts; required with `BATCH_ALERTS_EMAIL`",
    },
    Setting {
        name: "BATCH_ALERTS_QUIET_HOURS",
        default: None,
        range: None,
        what: "hours in which only critical findings are reported, such as `22:00-07:00`, in `BATCH_DEFAULT_TIMEZONE`",
    },
    Setting {
        name: "BATCH_OIDC_ISSUER",
        default: None,
        range: None,
        what: "address of the identity provider (OpenID Connect) at which operators [sign in](../operations/security.md#operators), \
            exactly as it writes it, such as `https://login.example`; requires `BATCH_PUBLIC_URL`. If unset, they sign in with keys",
    },
    Setting {
        name: "BATCH_OIDC_CLIENT_ID",
        default: None,
        range: None,
        what: "id under which the agent is registered at the identity provider, with the redirect URL `/sign-in/oidc` below \
            `BATCH_PUBLIC_URL`",
    },
    Setting {
        name: "BATCH_OIDC_CLIENT_SECRET",
        default: None,
        range: None,
        what: "secret that belongs to the id; if unset, the agent is a public client",
    },
    Setting {
        name: "BATCH_OIDC_GROUPS_CLAIM",
        default: Some("groups"),
        range: None,
        what: "claim of the identity provider that lists a person's groups",
    },
    Setting {
        name: "BATCH_OIDC_ROLES",
        default: None,
        range: None,
        what: "roles of the groups, such as `view=staff,operate=oncall,administer=admins`; `*` stands for everyone who signs in",
    },
    Setting {
        name: "BATCH_TRUSTED_PROXY_HEADER",
        default: None,
        range: None,
        what: "header in which a proxy in front names the operator whom it has signed in, such as `X-Forwarded-User`; requires \
            `BATCH_TRUSTED_PROXIES` and `BATCH_TRUSTED_PROXY_ROLES`. If unset, no header names anyone",
    },
    Setting {
        name: "BATCH_TRUSTED_PROXIES",
        default: None,
        range: None,
        what: "addresses or networks whose header is believed, with commas between, such as `10.0.0.7,192.168.0.0/16`; from others \
            a request with the header is refused",
    },
    Setting {
        name: "BATCH_TRUSTED_PROXY_ROLES",
        default: None,
        range: None,
        what: "roles of the names in the header, such as `view=*,administer=ann@shop.example`; `*` stands for every name",
    },
    Setting {
        name: "BATCH_LOG",
        default: None,
        range: None,
        what: "log filter of `tracing`; if unset `info`, on a terminal `warn`",
    },
    Setting {
        name: "BATCH_LOG_FORMAT",
        default: Some("text"),
        range: None,
        what: "log format: `text` or `json`",
    },
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
    #[serde(deserialize_with = "address")]
    pub(crate) config_http_addr: SocketAddr,
    pub(crate) config_keep_history_days: u16,
    pub(crate) config_embed_origins: Option<String>,
    pub(crate) config_link_keys: Option<SecretString>,
    pub(crate) config_public_url: Option<String>,
    pub(crate) config_site_name: Option<String>,
    pub(crate) config_site_logo: Option<PathBuf>,
    pub(crate) batch_max_concurrent_items: usize,
    pub(crate) batch_retry_limit: u32,
    pub(crate) batch_config_path: PathBuf,
    pub(crate) batch_purposes_path: PathBuf,
    pub(crate) batch_store_url: String,
    #[serde(deserialize_with = "shard")]
    pub(crate) batch_shard: ShardAssignment,
    #[serde(deserialize_with = "after_restore")]
    pub(crate) batch_after_restore: AfterRestore,
    pub(crate) batch_chunk_size: usize,
    #[serde(deserialize_with = "zone")]
    pub(crate) batch_default_timezone: Zone,
    pub(crate) batch_tzdb_dir: Option<PathBuf>,
    #[serde(deserialize_with = "address")]
    pub(crate) batch_http_addr: SocketAddr,
    pub(crate) batch_public_url: Option<String>,
    pub(crate) batch_api_key: Option<SecretString>,
    pub(crate) batch_alerts_url: Option<String>,
    pub(crate) batch_alerts_secret: Option<SecretString>,
    pub(crate) batch_alerts_allow_private_addresses: bool,
    pub(crate) batch_alerts_email: Option<String>,
    pub(crate) batch_alerts_email_purpose: Option<String>,
    pub(crate) batch_alerts_quiet_hours: Option<String>,
    pub(crate) batch_oidc_issuer: Option<String>,
    pub(crate) batch_oidc_client_id: Option<String>,
    pub(crate) batch_oidc_client_secret: Option<SecretString>,
    pub(crate) batch_oidc_groups_claim: String,
    pub(crate) batch_oidc_roles: Option<String>,
    pub(crate) batch_trusted_proxy_header: Option<String>,
    pub(crate) batch_trusted_proxies: Option<String>,
    pub(crate) batch_trusted_proxy_roles: Option<String>,
    pub(crate) batch_log: Option<String>,
    pub(crate) batch_log_format: LogFormat,
}

/// The settings as a table in Markdown.
pub(crate) fn reference() -> String {
    let row = |setting: &Setting| {
        let Setting {
            name,
            default,
            range,
            what,
        } = setting;
        let default = default.map_or("unset".to_owned(), |default| format!("`{default}`"));
        let range = range
            .as_ref()
            .map(|range| format!(", {} to {}", range.start(), range.end()));
        format!(
            "| `{name}` | {default} | {what}{} |",
            range.unwrap_or_default()
        )
    };
    let rows: Vec<String> = SETTINGS.iter().map(row).collect();
    format!(
        "| name | default | description |\n|---|---|---|\n{}",
        rows.join("\n")
    )
}

impl Settings {
    /// Reads the settings of this process. A command that needs no zone rules works also while they cannot be read, such as when
    /// their files are being replaced.
    ///
    /// # Errors
    /// The first setting that cannot be used, by name.
    pub(crate) fn load(file: Option<&Path>, needs_zone_rules: bool) -> anyhow::Result<Self> {
        Self::from_sources(file, |name| std::env::var(name).ok(), needs_zone_rules)
    }

    fn from_sources(
        file: Option<&Path>,
        environment: impl Fn(&str) -> Option<String>,
        needs_zone_rules: bool,
    ) -> anyhow::Result<Self> {
        let mut builder = Config::builder();
        for Setting { name, default, .. } in SETTINGS {
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
        let built = builder.build().context("invalid settings")?;
        // Before any zone is read.
        if let Ok(folder) = built.get_string(TZDB_DIR) {
            let installed = install_zones(&folder).context("invalid settings");
            if needs_zone_rules {
                installed?;
            }
        }
        // Before the types, which would say less about what is expected.
        for Setting { name, range, .. } in SETTINGS {
            if let (Some(range), Ok(text)) = (range, built.get_string(name)) {
                let checked = whole_number(name, &text, &range).map_err(|problem| anyhow!(problem));
                checked.context("invalid settings")?;
            }
        }
        let settings: Self = built.try_deserialize().context("invalid settings")?;
        settings.check().context("invalid settings")?;
        Ok(settings)
    }

    fn check(&self) -> anyhow::Result<()> {
        ensure!(
            self.batch_api_key.is_some()
                || self.batch_oidc_issuer.is_some()
                || self.batch_trusted_proxy_header.is_some()
                || self.batch_http_addr.ip().is_loopback(),
            "BATCH_HTTP_ADDR is {}, which other machines can reach, and everyone could use it; set \
             BATCH_API_KEY, BATCH_OIDC_ISSUER or BATCH_TRUSTED_PROXY_HEADER, or listen on 127.0.0.1",
            self.batch_http_addr
        );
        if let Some(url) = &self.batch_public_url {
            let value = Value::from(url.as_str());
            // A password is not shown.
            let shown = Some(&value).filter(|_| !url.contains('@'));
            let checked = base_url(&value).map(drop);
            checked.map_err(|invalid| anyhow!("{}", invalid.at("BATCH_PUBLIC_URL", shown)))?;
        }
        self.check_alerts()?;
        sign_in::check(self).map_err(|problem| anyhow!(problem))?;
        let keys = [
            (
                "BATCH_API_KEY",
                &self.batch_api_key,
                Some(self.batch_http_addr),
            ),
            // How long the key of the embedded Config Database has to be is checked where that begins to listen.
            ("CONFIG_SERVICE_API_KEY", &self.config_service_api_key, None),
        ];
        for (name, key, addr) in keys {
            if let Some(Err(problem)) = key.as_ref().map(|key| check_key(key, addr)) {
                bail!("{name} {problem}");
            }
        }
        Ok(())
    }

    fn check_alerts(&self) -> anyhow::Result<()> {
        match (&self.batch_alerts_url, &self.batch_alerts_secret) {
            (Some(_), None) => bail!(
                "BATCH_ALERTS_SECRET is missing: alerts to BATCH_ALERTS_URL are signed; set it to `whsec_` and base64"
            ),
            (None, Some(_)) => bail!(
                "BATCH_ALERTS_URL is missing, and BATCH_ALERTS_SECRET has no effect without it; set both or neither"
            ),
            _ => {}
        }
        if let Some(secret) = &self.batch_alerts_secret {
            ensure!(
                secret.expose_secret().starts_with("whsec_"),
                "BATCH_ALERTS_SECRET does not begin with `whsec_`; use `whsec_` and base64, such as the output of \
                 `echo whsec_$(openssl rand -base64 24)`"
            );
        }
        if let Some(url) = &self.batch_alerts_url {
            // It may hold a token, so it is not shown.
            let checked = http_url(&Value::from(url.as_str())).map(drop);
            checked.map_err(|invalid| {
                let error = invalid.at("", None);
                anyhow!("BATCH_ALERTS_URL {}; {}", error.problem, error.remedy)
            })?;
            let checked = self.alert_webhook(Arc::new(SystemClock));
            checked.map_err(|error| match error {
                EndpointError::InvalidSecret => {
                    anyhow!("BATCH_ALERTS_SECRET is not `whsec_` and base64")
                }
                EndpointError::NotPublic(host) => anyhow!(
                    "BATCH_ALERTS_URL resolves to {host}, which is not public; to allow it, set \
                     BATCH_ALERTS_ALLOW_PRIVATE_ADDRESSES=true"
                ),
                error => anyhow!(
                    "BATCH_ALERTS_URL {error}; use a URL such as https://alerts.example/hook"
                ),
            })?;
        }
        match (&self.batch_alerts_email, &self.batch_alerts_email_purpose) {
            (Some(_), None) => bail!(
                "BATCH_ALERTS_EMAIL_PURPOSE is missing; set it to a purpose of purposes.json whose handler is `email`"
            ),
            (None, Some(_)) => bail!(
                "BATCH_ALERTS_EMAIL is missing, and BATCH_ALERTS_EMAIL_PURPOSE has no effect without it; set both or neither"
            ),
            _ => {}
        }
        self.alert_addresses()?;
        if let Some(hours) = &self.batch_alerts_quiet_hours {
            let hours: Result<QuietHours, _> = hours.parse();
            hours.map_err(|error| anyhow!("BATCH_ALERTS_QUIET_HOURS: {error}"))?;
        }
        Ok(())
    }

    /// The channel of `BATCH_ALERTS_URL`; `None`: there is none.
    ///
    /// # Errors
    /// The URL or the secret cannot be used.
    pub(crate) fn alert_webhook(
        &self,
        clock: Arc<dyn Clock>,
    ) -> Result<Option<WebhookAlerts>, EndpointError> {
        let (url, secret) = (&self.batch_alerts_url, &self.batch_alerts_secret);
        let (Some(url), Some(secret)) = (url, secret) else {
            return Ok(None);
        };
        let private = self.batch_alerts_allow_private_addresses;
        WebhookAlerts::new(url, secret, private, clock).map(Some)
    }

    /// The addresses of `BATCH_ALERTS_EMAIL`.
    ///
    /// # Errors
    /// One of them is not valid.
    pub(crate) fn alert_addresses(&self) -> anyhow::Result<Vec<EmailAddress>> {
        let given = self.batch_alerts_email.as_deref().unwrap_or_default();
        let addresses = given.split(',').map(str::trim);
        addresses
            .filter(|address| !address.is_empty())
            .map(|address| {
                address
                    .parse()
                    .map_err(|error: InvalidEmailAddress| anyhow!("BATCH_ALERTS_EMAIL: {error}"))
            })
            .collect()
    }

    /// The address at which workers reach the agent, which listens on `address`.
    pub(crate) fn public_url(&self, address: SocketAddr) -> String {
        if let Some(url) = &self.batch_public_url {
            return url.clone();
        }
        format!("http://{}", from_here(address))
    }

    /// The folder of templates: beside the folder of `purposes.json`.
    pub(crate) fn templates_path(&self) -> PathBuf {
        let folder = self.batch_purposes_path.parent().unwrap_or(Path::new("."));
        folder.join("../templates")
    }
}

/// Has the zone rules in a folder take the place of those built in.
fn install_zones(folder: &str) -> anyhow::Result<()> {
    let rules = read_zone_folder(Path::new(folder));
    let rules = rules.map_err(|error| anyhow!("{TZDB_DIR}: {error}"))?;
    // Others are in effect only where settings are read twice, which gives the same.
    let _ = Zone::install(rules);
    Ok(())
}

fn seconds<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Duration, D::Error> {
    u64::deserialize(deserializer).map(Duration::from_secs)
}

fn zone<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Zone, D::Error> {
    String::deserialize(deserializer)?
        .parse()
        .map_err(D::Error::custom)
}

fn shard<'de, D: Deserializer<'de>>(deserializer: D) -> Result<ShardAssignment, D::Error> {
    let text = String::deserialize(deserializer)?;
    text.parse()
        .map_err(|error| D::Error::custom(format!("BATCH_SHARD: {error}")))
}

fn after_restore<'de, D: Deserializer<'de>>(deserializer: D) -> Result<AfterRestore, D::Error> {
    let text = String::deserialize(deserializer)?;
    text.parse()
        .map_err(|error| D::Error::custom(format!("BATCH_AFTER_RESTORE: {error}")))
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
        Settings::from_sources(None, environment, true).map_err(|error| format!("{error:#}"))
    }

    #[test]
    fn the_documented_defaults_hold_and_empty_means_unset() {
        let settings = load(&[("CONFIG_SERVICE_URL", "")]).unwrap();
        assert_eq!(settings.config_service_url, None);
        assert_eq!(settings.config_cache_ttl, Duration::from_hours(1));
        assert_eq!(settings.config_poll_interval, Duration::from_mins(1));
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
            ("BATCH_HTTP_ADDR", "localhost:8080"),
            ("BATCH_HTTP_ADDR", "0.0.0.0:8080"),
            ("BATCH_SHARD", "5/4"),
            ("BATCH_AFTER_RESTORE", "maybe"),
            ("BATCH_TZDB_DIR", "/nowhere"),
            ("BATCH_LOG_FORMAT", "xml"),
            ("BATCH_PUBLIC_URL", "punctual.example"),
            ("BATCH_PUBLIC_URL", "https://punctual.example/?a=b"),
            ("BATCH_OIDC_ISSUER", "https://login.example"),
            ("BATCH_OIDC_CLIENT_ID", "punctual"),
            ("BATCH_OIDC_ROLES", "view=staff"),
            ("BATCH_TRUSTED_PROXY_HEADER", "X-Forwarded-User"),
            ("BATCH_TRUSTED_PROXIES", "10.0.0.7"),
            ("BATCH_TRUSTED_PROXY_ROLES", "view=*"),
        ] {
            let error = load(&[(name, value)]).unwrap_err();
            assert!(error.contains(name), "{name}: {error}");
        }
        let open = |key| load(&[("BATCH_HTTP_ADDR", "0.0.0.0:8080"), ("BATCH_API_KEY", key)]);
        assert!(open("0123456789abcdef").is_ok());
        for (key, expected) in [
            ("k", "has 1 characters"),
            (" ", "is blank"),
            ("kéy", "cannot be sent"),
        ] {
            let error = open(key).unwrap_err();
            assert!(
                error.contains(&format!("BATCH_API_KEY {expected}")),
                "{error}"
            );
        }
        assert!(load(&[("BATCH_API_KEY", "k")]).is_ok());
        assert!(load(&[("CONFIG_SERVICE_API_KEY", "k\n")]).is_err());
    }

    #[test]
    fn a_number_that_cannot_be_used_is_shown_with_what_is_expected() {
        for (name, value, range) in [
            ("CONFIG_CACHE_TTL", "1h", "1 to 604800"),
            ("CONFIG_CACHE_TTL", "true", "1 to 604800"),
            ("CONFIG_KEEP_HISTORY_DAYS", "36501", "1 to 36500"),
            ("BATCH_RETRY_LIMIT", "-1", "0 to 100"),
            ("BATCH_CHUNK_SIZE", "abc", "1 to 10000"),
            ("BATCH_CHUNK_SIZE", "99999999999999999999", "1 to 10000"),
        ] {
            let error = load(&[(name, value)]).unwrap_err();
            let expected = format!("{name} is {value}; expected a whole number from {range}");
            assert_eq!(error, format!("invalid settings: {expected}"));
        }
    }

    #[test]
    fn settings_of_alerts_that_cannot_be_used_are_named() {
        let url = (
            "BATCH_ALERTS_URL",
            "https://alerts.example/hook?token=canary",
        );
        let secret = (
            "BATCH_ALERTS_SECRET",
            "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw",
        );
        let to = ("BATCH_ALERTS_EMAIL", "ann@shop.example, bob@shop.example");
        let purpose = ("BATCH_ALERTS_EMAIL_PURPOSE", "mail");
        let hours = ("BATCH_ALERTS_QUIET_HOURS", "22:00-07:00");
        let settings = load(&[url, secret, to, purpose, hours]).unwrap();
        assert_eq!(settings.alert_addresses().unwrap().len(), 2);
        let webhook = settings.alert_webhook(Arc::new(SystemClock)).unwrap();
        assert_eq!(webhook.unwrap().target(), "https://alerts.example");
        let here = ("BATCH_ALERTS_URL", "http://127.0.0.1:9/hook");
        let allowed = ("BATCH_ALERTS_ALLOW_PRIVATE_ADDRESSES", "true");
        assert!(load(&[here, secret, allowed]).is_ok());
        for (given, name) in [
            (&[url][..], "BATCH_ALERTS_SECRET is missing"),
            (&[secret][..], "BATCH_ALERTS_URL is missing"),
            (
                &[url, ("BATCH_ALERTS_SECRET", "canary")][..],
                "BATCH_ALERTS_SECRET does not begin",
            ),
            (
                &[url, ("BATCH_ALERTS_SECRET", "whsec_canary!")][..],
                "BATCH_ALERTS_SECRET is not",
            ),
            (
                &[("BATCH_ALERTS_URL", "ftp://canary"), secret][..],
                "BATCH_ALERTS_URL is not a URL; use one that begins with https:// or http://",
            ),
            (
                &[here, secret][..],
                "BATCH_ALERTS_ALLOW_PRIVATE_ADDRESSES=true",
            ),
            (&[to][..], "BATCH_ALERTS_EMAIL_PURPOSE is missing"),
            (&[purpose][..], "BATCH_ALERTS_EMAIL is missing"),
            (
                &[("BATCH_ALERTS_EMAIL", "ann"), purpose][..],
                "BATCH_ALERTS_EMAIL: `ann`",
            ),
            (
                &[("BATCH_ALERTS_QUIET_HOURS", "22-7")][..],
                "BATCH_ALERTS_QUIET_HOURS: `22-7`",
            ),
        ] {
            let error = load(given).unwrap_err();
            assert!(error.contains(name), "{name}: {error}");
            assert!(!error.contains("canary"), "{error}");
        }
    }

    #[test]
    fn what_belongs_together_for_signing_in_is_asked_for_together() {
        let proxy = |header, proxies, roles| {
            load(&[
                ("BATCH_HTTP_ADDR", "0.0.0.0:8080"),
                ("BATCH_TRUSTED_PROXY_HEADER", header),
                ("BATCH_TRUSTED_PROXIES", proxies),
                ("BATCH_TRUSTED_PROXY_ROLES", roles),
            ])
        };
        assert!(proxy("X-Forwarded-User", "10.0.0.0/8", "view=*").is_ok());
        for (header, proxies, roles, named) in [
            (
                "X Forwarded",
                "10.0.0.7",
                "view=*",
                "BATCH_TRUSTED_PROXY_HEADER",
            ),
            (
                "Authorization",
                "10.0.0.7",
                "view=*",
                "BATCH_TRUSTED_PROXY_HEADER",
            ),
            ("X-User", "10.0.0.7/33", "view=*", "BATCH_TRUSTED_PROXIES"),
            ("X-User", "", "view=*", "BATCH_TRUSTED_PROXIES"),
            (
                "X-User",
                "10.0.0.7",
                "admin=ann",
                "BATCH_TRUSTED_PROXY_ROLES",
            ),
            ("X-User", "10.0.0.7", "", "BATCH_TRUSTED_PROXY_ROLES"),
        ] {
            let error = proxy(header, proxies, roles).unwrap_err();
            assert!(error.contains(named), "{named}: {error}");
        }
        let provider = |left_out: &str| {
            let all = [
                ("BATCH_HTTP_ADDR", "0.0.0.0:8080"),
                ("BATCH_PUBLIC_URL", "https://punctual.example"),
                ("BATCH_OIDC_ISSUER", "https://login.example"),
                ("BATCH_OIDC_CLIENT_ID", "punctual"),
                ("BATCH_OIDC_CLIENT_SECRET", "canary"),
                ("BATCH_OIDC_ROLES", "operate=oncall"),
            ];
            let given: Vec<_> = all.into_iter().filter(|one| one.0 != left_out).collect();
            load(&given)
        };
        let settings = provider("").unwrap();
        assert!(!format!("{settings:?}").contains("canary"));
        assert!(provider("BATCH_OIDC_CLIENT_SECRET").is_ok());
        for left_out in [
            "BATCH_PUBLIC_URL",
            "BATCH_OIDC_CLIENT_ID",
            "BATCH_OIDC_ROLES",
        ] {
            let error = provider(left_out).unwrap_err();
            assert!(error.contains(&format!("{left_out} is not set")), "{error}");
        }
    }

    #[test]
    fn workers_reach_the_agent_where_it_listens_unless_it_is_said() {
        let at = |given: &[(&str, &str)], address: &str| {
            load(given).unwrap().public_url(address.parse().unwrap())
        };
        for (address, expected) in [
            ("127.0.0.1:8080", "http://127.0.0.1:8080"),
            ("0.0.0.0:80", "http://127.0.0.1:80"),
            ("[::]:80", "http://[::1]:80"),
        ] {
            assert_eq!(at(&[], address), expected);
        }
        let given = [("BATCH_PUBLIC_URL", "https://punctual.example")];
        assert_eq!(at(&given, "0.0.0.0:80"), "https://punctual.example");
        let error = load(&[("BATCH_PUBLIC_URL", "https://me:canary@a.example")]).unwrap_err();
        assert!(
            error.contains("BATCH_PUBLIC_URL: contains a user"),
            "{error}"
        );
        assert!(!error.contains("canary"), "{error}");
    }
}
