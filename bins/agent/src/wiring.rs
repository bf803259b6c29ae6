//! The composition: the agent is [`Punctual`] with the jobs of its files, and with a client of the Config Database that
//! remembers what it last knew. Read it as the documented setup.

use std::{path::Path, sync::Arc, time::Duration};

use punctual::{
    ActiveFailures, AlertWords, ClientOptions, ClientSettingNames, Clock, ConfigDatabaseClient,
    LastKnownGood, Project, Punctual, Shard, StartError, Store, StoreError, StoreErrorKind,
    SystemClock,
};
use punctual_operations::remedies;
use tracing::info;

use crate::{commands::Failure, remedies::WORDS, settings::Settings};

/// Starts the agent's work, with the Config Database at `config_service_url`, for workers that reach the agent at `public_url`. Also
/// returns the address of the Config Database without anything secret.
pub(crate) async fn start(
    settings: &Settings,
    project: Project,
    config_service_url: &str,
    public_url: &str,
    look_back: Duration,
) -> Result<(Punctual, String), Failure> {
    let failures = ActiveFailures::default();
    let store_error = |error: StoreError| {
        let message = store_error(&error, "BATCH_STORE_URL");
        match error.kind() {
            StoreErrorKind::InvalidUrl => Failure::BadInput(message),
            _ => Failure::Failed(message),
        }
    };
    let store = Store::open(&settings.batch_store_url).await;
    let store = store.map_err(store_error)?;
    let shard = settings.batch_shard;
    let assigned = store.queue().assign(&shard, SystemClock.now()).await;
    let sharding = assigned.map_err(|error| match error.kind() {
        StoreErrorKind::Conflict => Failure::bad_input(format!("BATCH_SHARD={shard}: {error}")),
        _ => store_error(error),
    })?;
    let client = client(settings, config_service_url, sharding.shards())?;
    let address = client.url();
    // What is known of some tenants is not taken for what is known of others.
    let known = if sharding.shards().contains(&Shard::WHOLE) {
        address.clone()
    } else {
        let shards: Vec<String> = sharding.shards().iter().map(Shard::to_string).collect();
        format!("{address} {}", shards.join(","))
    };
    if !sharding.is_whole() {
        info!(%sharding, "This agent serves shard {sharding}");
    }
    let preferences = LastKnownGood::new(
        Arc::new(client),
        Arc::new(SystemClock),
        &settings.config_last_known_good_path,
        known,
    )
    .map_err(|error| Failure::bad_input(format!("{error} with CONFIG_LAST_KNOWN_GOOD_PATH")))?
    .with_failures(failures.clone());
    let folder = settings.batch_config_path.parent();
    let mut builder = Punctual::builder()
        .store(store)
        .shard(shard)
        .preferences(preferences)
        .project(project)
        .folder(folder.unwrap_or(Path::new(".")))
        .time_zone(settings.batch_default_timezone.clone())
        .max_concurrent_items(settings.batch_max_concurrent_items)
        .retry_limit(settings.batch_retry_limit)
        .chunk_size(settings.batch_chunk_size)
        .poll_interval(settings.config_poll_interval)
        .look_back(look_back)
        .completion_url_base(public_url)
        .fence_folder(&settings.config_last_known_good_path)
        .after_restore(settings.batch_after_restore)
        .failures(failures)
        .alert_words(AlertWords {
            remedy: WORDS.remedy,
            page: remedies::link,
        });
    let webhook = settings.alert_webhook(Arc::new(SystemClock));
    let webhook =
        webhook.map_err(|error| Failure::bad_input(format!("BATCH_ALERTS_URL {error}")))?;
    if let Some(webhook) = webhook {
        builder = builder.alert_webhook(webhook);
    }
    if let Some(purpose) = &settings.batch_alerts_email_purpose {
        let addresses = settings.alert_addresses().map_err(Failure::bad_input)?;
        builder = builder.alert_email(purpose, addresses);
    }
    if let Some(hours) = &settings.batch_alerts_quiet_hours {
        builder = builder.quiet_hours(hours);
    }
    let punctual = builder.start().await.map_err(|error| match error {
        StartError::Mistakes(_) => Failure::bad_input(error),
        StartError::Store(error) => store_error(error),
        error => Failure::failed(error),
    })?;
    Ok((punctual, address))
}

/// Why a store cannot be opened, with the setting that names it.
pub(crate) fn store_error(error: &StoreError, setting: &str) -> String {
    match error.kind() {
        StoreErrorKind::InvalidUrl => format!("{setting}: {error}"),
        _ => format!("{error}; check {setting}"),
    }
}

/// The client of the Config Database that the agent uses, its own or another.
pub(crate) fn client_of_agent(settings: &Settings) -> Result<ConfigDatabaseClient, Failure> {
    let embedded = format!("http://{}", settings.config_http_addr);
    client(
        settings,
        settings.config_service_url.as_deref().unwrap_or(&embedded),
        &[],
    )
}

/// The client of the Config Database at `url`, for the tenants of these shards; none: all tenants.
fn client(
    settings: &Settings,
    url: &str,
    shards: &[Shard],
) -> Result<ConfigDatabaseClient, Failure> {
    let options = ClientOptions {
        api_key: settings.config_service_api_key.clone(),
        cache_ttl: settings.config_cache_ttl,
        shards: shards.to_vec(),
        names: ClientSettingNames {
            url: "CONFIG_SERVICE_URL",
            api_key: "CONFIG_SERVICE_API_KEY",
        },
        ..ClientOptions::new(url)
    };
    ConfigDatabaseClient::new(options).map_err(Failure::bad_input)
}
