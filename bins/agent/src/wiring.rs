//! The composition: which adapter stands behind which port. Read it as the documented setup: a client of the
//! Config Database, given to the enhanced processor and to the dynamic scheduler, and both run.

use std::{sync::Arc, time::Duration};

use chrono::{DateTime, TimeDelta, Utc};
use punctual_application::{
    ActiveFailures, BatchProcessor, EnhancedBatchProcessor, Handlers, Jobs, Limits, Operator,
    RetryPolicy, StatusHandle,
    ports::{Clock, ConfigDatabase, ItemSource, SystemClock},
};
use punctual_domain::Zone;
use punctual_infrastructure::{
    BatchScheduler, ClientOptions, ConfigDatabaseClient, Deliverer, DynamicBatchScheduler,
    LastKnownGood, Project, SchedulerOptions, Sources, Store, Worker,
};
use tokio::sync::watch;

use crate::{commands::Failure, reload::Reload, settings::Settings};

/// The agent, put together and not yet running.
pub(crate) struct Agent {
    pub(crate) scheduler: DynamicBatchScheduler,
    pub(crate) worker: Worker,
    pub(crate) deliverer: Deliverer,
    pub(crate) store: Store,
    pub(crate) jobs: Jobs,
    pub(crate) handlers: Handlers,
    pub(crate) reload: Reload,
    pub(crate) started_at: DateTime<Utc>,
    pub(crate) failures: ActiveFailures,
    pub(crate) status: StatusHandle,
    pub(crate) preferences: Arc<dyn ConfigDatabase>,
    pub(crate) zone: Zone,
    pub(crate) item_source: Arc<dyn ItemSource>,
    pub(crate) chunk_size: usize,
    /// Where the Config Database is, without anything secret.
    pub(crate) config_database: String,
    /// Turn it true, and no further item begins.
    pub(crate) stopping: watch::Sender<bool>,
}

impl Agent {
    /// Puts the agent together, with the Config Database at `config_service_url`.
    pub(crate) async fn new(
        settings: &Settings,
        project: Project,
        config_service_url: &str,
        look_back: Duration,
    ) -> Result<Self, Failure> {
        let clock: Arc<dyn Clock> = Arc::new(SystemClock);
        let jobs = Jobs::from(project.config);
        let failures = ActiveFailures::default();
        let handlers = project.handlers;
        let reload = Reload::new(
            settings.clone(),
            jobs.clone(),
            handlers.clone(),
            failures.clone(),
        );
        let zone = settings.batch_default_timezone.clone();
        let (stopping, stopped) = watch::channel(false);

        let client = client(settings, config_service_url)?;
        let address = client.url();
        let config_database = LastKnownGood::new(
            Arc::new(client),
            clock.clone(),
            &settings.config_last_known_good_path,
            &address,
        );
        let config_database = config_database.map_err(Failure::bad_input)?;
        let config_database = Arc::new(config_database.with_failures(failures.clone()));
        let store = Store::open(&settings.batch_store_url)
            .await
            .map_err(Failure::failed)?;
        let folder = settings.batch_config_path.parent();
        let folder = folder.unwrap_or(std::path::Path::new("."));
        let items = Sources::in_folder(folder);
        let items = Arc::new(items.map_err(Failure::failed)?);

        let processor = EnhancedBatchProcessor::new(
            BatchProcessor::new(handlers.clone(), store.batches(), clock.clone()),
            config_database.clone(),
            items.clone(),
            jobs.clone(),
            zone.clone(),
            Limits {
                max_concurrent_items: settings.batch_max_concurrent_items,
                retry: RetryPolicy::new(settings.batch_retry_limit, fastrand::f64),
            },
            stopped,
        );
        let scheduler = DynamicBatchScheduler::new(
            BatchScheduler::new(
                jobs.clone(),
                items.clone(),
                store.queue(),
                clock,
                SchedulerOptions {
                    chunk_size: settings.batch_chunk_size,
                    look_back: TimeDelta::from_std(look_back).map_err(Failure::bad_input)?,
                },
            )
            .with_failures(failures.clone()),
            config_database.clone(),
            settings.config_poll_interval,
            &zone,
            fastrand::f64,
        );
        let status = scheduler.status();
        let processor = processor.with_mirror(Arc::new(status.clone()));
        let worker = Worker::new(store.clone(), processor).with_failures(failures.clone());
        let deliverer = Deliverer::new(
            store.deliveries(),
            store.reader(),
            Arc::new(SystemClock),
            folder.to_owned(),
        )
        .with_failures(failures.clone());
        Ok(Self {
            scheduler,
            worker,
            deliverer,
            store,
            jobs,
            handlers,
            reload,
            started_at: SystemClock.now(),
            failures,
            status,
            preferences: config_database,
            zone,
            item_source: items,
            chunk_size: settings.batch_chunk_size,
            config_database: address,
            stopping,
        })
    }

    /// What operators ask of this agent.
    pub(crate) fn operator(&self) -> Operator {
        Operator {
            reader: self.store.reader(),
            queue: self.store.queue(),
            operations: self.store.operations(),
            preferences: self.preferences.clone(),
            item_source: self.item_source.clone(),
            jobs: self.jobs.clone(),
            handlers: self.handlers.clone(),
            status: self.status.clone(),
            failures: self.failures.clone(),
            clock: Arc::new(SystemClock),
            started_at: self.started_at,
            zone: self.zone.clone(),
            chunk_size: self.chunk_size,
        }
    }
}

/// The client of the Config Database that the agent uses, its own or another.
pub(crate) fn client_of_agent(settings: &Settings) -> Result<ConfigDatabaseClient, Failure> {
    let embedded = format!("http://{}", settings.config_http_addr);
    client(
        settings,
        settings.config_service_url.as_deref().unwrap_or(&embedded),
    )
}

/// The client of the Config Database at `url`.
fn client(settings: &Settings, url: &str) -> Result<ConfigDatabaseClient, Failure> {
    let options = ClientOptions {
        api_key: settings.config_service_api_key.clone(),
        cache_ttl: settings.config_cache_ttl,
        ..ClientOptions::new(url)
    };
    ConfigDatabaseClient::new(options).map_err(Failure::bad_input)
}
