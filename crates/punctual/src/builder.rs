//! The builder: takes the parts, finds every mistake in them at once, and puts them together.

use std::{
    collections::{BTreeSet, HashMap},
    fmt,
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use chrono::TimeDelta;
use punctual_application::{
    ActiveFailures, BatchProcessor, Binding, CompletionUrls, EnhancedBatchProcessor, Handlers,
    Jobs, Limits, Operator, RetryPolicy,
    ports::{
        Alerts, BatchReader, BatchStore, Clock, ConfigDatabase, Deliveries, Fence, ItemSource,
        ItemSourceError, OperatorKeys, OperatorStore, ProviderBatches, PurposeHandler, ResultSink,
        Retention, StoreError, StoreErrorKind, Suppressions, SystemClock, TenantData,
        TenantRecords, WaitingItems, WorkQueue,
    },
};
use punctual_domain::{
    AfterRestore, BatchConfig, DataSource, Delivery, FieldError, FieldErrors, Invalid, JobConfig,
    Location, PurposeId, ShardAssignment, Sharding, Source, Work, Zone, values::base_url,
};
use punctual_infrastructure::{
    AlertService, BatchScheduler, Deliverer, DynamicBatchScheduler, FenceKeeper, Guarded, OfShards,
    Publisher, RetentionService, SchedulerOptions, WaitingService,
};
use punctual_project::parse_batch_config;
use punctual_store::Store;
use serde_json::{Value, json};
use tokio_util::sync::CancellationToken;

use crate::{
    Job, Punctual, alerts::AlertOptions, data::AllData, items::Items, no_preferences::NoPreferences,
};

/// Puts Punctual together; [`Punctual::builder`] makes one.
pub struct Builder {
    pub(crate) store: ChosenStore,
    pub(crate) preferences: Option<Arc<dyn ConfigDatabase>>,
    item_source: Option<Arc<dyn ItemSource>>,
    /// Jobs and handlers that files define.
    from_files: (BatchConfig, Handlers),
    handlers: Vec<(String, Arc<dyn PurposeHandler>, Binding)>,
    sinks: Vec<(String, Arc<dyn ResultSink>)>,
    tenant_data: Vec<(String, Arc<dyn TenantData>)>,
    jobs: Vec<Job>,
    folder: PathBuf,
    time_zone: Zone,
    max_concurrent_items: usize,
    retry_limit: u32,
    chunk_size: usize,
    poll_interval: Duration,
    look_back: Duration,
    shard: ShardAssignment,
    completion_url_base: Option<String>,
    pub(crate) alerts: AlertOptions,
    after_restore: AfterRestore,
    fence_folder: Option<PathBuf>,
    failures: ActiveFailures,
}

impl Default for Builder {
    fn default() -> Self {
        Self {
            store: ChosenStore::Url("sqlite://punctual.db".to_owned()),
            preferences: None,
            item_source: None,
            from_files: Default::default(),
            handlers: Vec::new(),
            sinks: Vec::new(),
            tenant_data: Vec::new(),
            jobs: Vec::new(),
            folder: PathBuf::from("."),
            time_zone: Zone::utc(),
            max_concurrent_items: 25,
            retry_limit: 3,
            chunk_size: 500,
            poll_interval: Duration::from_mins(1),
            look_back: Duration::ZERO,
            shard: ShardAssignment::default(),
            completion_url_base: None,
            alerts: AlertOptions::default(),
            after_restore: AfterRestore::default(),
            fence_folder: None,
            failures: ActiveFailures::default(),
        }
    }
}

impl fmt::Debug for Builder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // The store's URL may hold a password.
        let handlers: Vec<&str> = self
            .handlers
            .iter()
            .map(|(name, ..)| name.as_str())
            .collect();
        let sinks: Vec<&str> = self.sinks.iter().map(|(name, _)| name.as_str()).collect();
        f.debug_struct("Builder")
            .field("handlers", &handlers)
            .field("sinks", &sinks)
            .field("jobs", &self.jobs)
            .finish_non_exhaustive()
    }
}

/// What [`Builder::store`] takes: a URL, or a store.
#[derive(Clone)]
#[non_exhaustive]
pub enum ChosenStore {
    /// The URL of a store that is opened at the start.
    Url(String),
    /// A store that is open already.
    Open(Store),
}

/// The URL may hold a password.
impl fmt::Debug for ChosenStore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ChosenStore").finish_non_exhaustive()
    }
}

impl From<&str> for ChosenStore {
    fn from(url: &str) -> Self {
        Self::Url(url.to_owned())
    }
}

impl From<&String> for ChosenStore {
    fn from(url: &String) -> Self {
        Self::Url(url.clone())
    }
}

impl From<String> for ChosenStore {
    fn from(url: String) -> Self {
        Self::Url(url)
    }
}

impl From<Store> for ChosenStore {
    fn from(store: Store) -> Self {
        Self::Open(store)
    }
}

/// Failure to start Punctual.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum StartError {
    /// Mistakes in what the builder was given: all of them.
    #[error(transparent)]
    Mistakes(#[from] FieldErrors),
    /// The store cannot be opened.
    #[error("{0}; check what was given to `.store(…)`")]
    Store(#[from] StoreError),
    /// The store serves another shard.
    #[error("{0}; check what was given to `.shard(…)`")]
    Shard(StoreError),
    /// Sources of items cannot be read.
    #[error(transparent)]
    Sources(#[from] ItemSourceError),
}

/// The store, as each part sees it.
pub(crate) struct StorePorts {
    pub(crate) queue: Arc<dyn WorkQueue>,
    pub(crate) batches: Arc<dyn BatchStore>,
    pub(crate) reader: Arc<dyn BatchReader>,
    pub(crate) operations: Arc<dyn OperatorStore>,
    pub(crate) deliveries: Arc<dyn Deliveries>,
    pub(crate) keys: Arc<dyn OperatorKeys>,
    pub(crate) suppressions: Arc<dyn Suppressions>,
    pub(crate) retention: Arc<dyn Retention>,
    pub(crate) alerts: Arc<dyn Alerts>,
    pub(crate) tenant_records: Arc<dyn TenantRecords>,
    pub(crate) fence: Arc<dyn Fence>,
    pub(crate) waiting: Arc<dyn WaitingItems>,
    /// The key that completion URLs are signed with.
    pub(crate) completion_key: [u8; 32],
    /// `None`: handlers do without provider batches.
    pub(crate) provider_batches: Option<Arc<dyn ProviderBatches>>,
}

/// Everything but the worker, put together and not running.
pub(crate) struct Parts {
    pub(crate) scheduler: DynamicBatchScheduler,
    pub(crate) publisher: Publisher,
    pub(crate) processor: EnhancedBatchProcessor,
    pub(crate) deliverer: Deliverer,
    pub(crate) waiting: WaitingService,
    pub(crate) retention: RetentionService,
    pub(crate) alerts: AlertService,
    pub(crate) operator: Operator,
}

impl Builder {
    /// The store: a `SQLite` file (`sqlite://var/punctual.db`), a `PostgreSQL` database
    /// (`postgres://user@host/database`), or a [`Store`] that is open already, for instance in your own database. The
    /// default is `punctual.db` in the current folder.
    #[must_use]
    pub fn store(mut self, store: impl Into<ChosenStore>) -> Self {
        self.store = store.into();
        self
    }

    /// Where tenants' preferences are read: a `ConfigDatabaseClient`, or data of your own. Jobs that follow no preferences
    /// need none.
    #[must_use]
    pub fn preferences(mut self, preferences: impl ConfigDatabase + 'static) -> Self {
        self.preferences = Some(Arc::new(preferences));
        self
    }

    /// A handler, and the name by which jobs ask for it.
    #[must_use]
    pub fn handler(self, name: &str, handler: impl PurposeHandler + 'static) -> Self {
        self.handler_with(name, handler, Binding::default())
    }

    /// The same, with the time limit of an attempt or other limits.
    #[must_use]
    pub fn handler_with(
        mut self,
        name: &str,
        handler: impl PurposeHandler + 'static,
        binding: impl Into<Binding>,
    ) -> Self {
        self.handlers
            .push((name.to_owned(), Arc::new(handler), binding.into()));
        self
    }

    /// A sink for results, and the name by which jobs deliver to it.
    #[must_use]
    pub fn sink(mut self, name: &str, sink: impl ResultSink + 'static) -> Self {
        self.sinks.push((name.to_owned(), Arc::new(sink)));
        self
    }

    /// What fetches each tenant's own data, and the name by which jobs ask for it: [`Job::fetches`].
    #[must_use]
    pub fn tenant_data(mut self, name: &str, data: impl TenantData + 'static) -> Self {
        self.tenant_data
            .push((name.to_owned(), Arc::new(Guarded(data))));
        self
    }

    /// A job.
    #[must_use]
    pub fn job(mut self, job: Job) -> Self {
        self.jobs.push(job);
        self
    }

    /// Jobs and purposes that were read from files, beside the jobs given here. Jobs in files name purposes in files.
    #[cfg(feature = "http")]
    #[must_use]
    pub fn project(mut self, project: punctual_infrastructure::Project) -> Self {
        self.from_files = (project.config, project.handlers);
        self
    }

    /// The folder that the paths in jobs count from: files of items, and files that results are delivered to. The default
    /// is the current folder.
    #[must_use]
    pub fn folder(mut self, folder: impl Into<PathBuf>) -> Self {
        self.folder = folder.into();
        self
    }

    /// Where the items of jobs with a schedule of their own are read, in place of files and URLs.
    #[must_use]
    pub fn item_source(mut self, source: impl ItemSource + 'static) -> Self {
        self.item_source = Some(Arc::new(source));
        self
    }

    /// The time zone where neither the tenant nor the job names one. The default is UTC.
    #[must_use]
    pub fn time_zone(mut self, zone: Zone) -> Self {
        self.time_zone = zone;
        self
    }

    /// Maximum number of items that run at once in this process, 1 to 10,000. Default: 25.
    #[must_use]
    pub fn max_concurrent_items(mut self, items: usize) -> Self {
        self.max_concurrent_items = items;
        self
    }

    /// Number of retries after the first attempt, 0 to 100. Default: 3.
    #[must_use]
    pub fn retry_limit(mut self, retries: u32) -> Self {
        self.retry_limit = retries;
        self
    }

    /// Maximum number of items of a chunk, 1 to 10,000. Default: 500.
    #[must_use]
    pub fn chunk_size(mut self, items: usize) -> Self {
        self.chunk_size = items;
        self
    }

    /// Interval at which preferences are asked for changes, where they cannot hold a call until there is one: 1 second to
    /// 1 day. Default: 1 minute.
    #[must_use]
    pub fn poll_interval(mut self, interval: Duration) -> Self {
        self.poll_interval = interval;
        self
    }

    /// Look-back window for a job's first run, at most 366 days. Default: 0.
    #[must_use]
    pub fn look_back(mut self, time: Duration) -> Self {
        self.look_back = time;
        self
    }

    /// The shard of the tenants that this process serves, beside others with stores of their own. The default is all tenants.
    /// Which tenants that takes, also while a division changes, is what `store.queue().assign(…)` answers: give its `shards()`
    /// to `ClientOptions::shards`, and the Config Database sends no others.
    #[must_use]
    pub fn shard(mut self, shard: impl Into<ShardAssignment>) -> Self {
        self.shard = shard.into();
        self
    }

    /// The address below which `punctual.router(…)` is reached by workers that complete work after the call of its handler, such
    /// as `https://shop.example/ops`: handlers get `{base}/api/v1/waiting/{token}`. Without it they get no
    /// address, and a webhook that answers 202 has succeeded.
    #[must_use]
    pub fn completion_url_base(mut self, url: impl Into<String>) -> Self {
        self.completion_url_base = Some(url.into());
        self
    }

    /// The folder in which this process remembers how far the store had come: in the file `fence.json`, outside of the store. With
    /// it, a store that was restored from an older copy is recognised at the start; without one, only while the process runs.
    #[must_use]
    pub fn fence_folder(mut self, folder: impl Into<PathBuf>) -> Self {
        self.fence_folder = Some(folder.into());
        self
    }

    /// What is done when the store turns out to be an older copy. By default nothing is planned or run until
    /// [`Operator::settle_restore`] is called, or an operator decides.
    #[must_use]
    pub fn after_restore(mut self, after_restore: AfterRestore) -> Self {
        self.after_restore = after_restore;
        self
    }

    /// The list of active failures, where other parts of the program use one too.
    #[must_use]
    pub fn failures(mut self, failures: ActiveFailures) -> Self {
        self.failures = failures;
        self
    }

    /// Opens the store and starts.
    ///
    /// # Errors
    /// Every mistake in what was given at once; that the store cannot be opened.
    pub async fn start(self) -> Result<Punctual, StartError> {
        // Mistakes are reported before a store is made.
        let checked = self.check()?;
        let store = match &self.store {
            ChosenStore::Url(url) => Store::open(url).await?,
            ChosenStore::Open(store) => store.clone(),
        };
        let waiting = store.waiting();
        let ports = StorePorts {
            completion_key: waiting.completion_key().await?,
            waiting,
            queue: store.queue(),
            batches: store.batches(),
            reader: store.reader(),
            operations: store.operations(),
            deliveries: store.deliveries(),
            keys: store.operator_keys(),
            suppressions: store.suppressions(),
            retention: store.retention(),
            alerts: store.alerting(),
            tenant_records: store.tenant_records(),
            fence: store.fence(),
            provider_batches: Some(store.provider_batches()),
        };
        let stop = CancellationToken::new();
        let clock = Arc::new(SystemClock);
        let sharding = ports.queue.assign(&self.shard, clock.now()).await;
        let sharding = sharding.map_err(|error| match error.kind() {
            StoreErrorKind::Conflict => StartError::Shard(error),
            _ => StartError::Store(error),
        })?;
        let (after_restore, folder) = (self.after_restore, self.fence_folder.clone());
        let parts = self.assemble(checked, ports, sharding, clock, fastrand::f64, stop.clone())?;
        // Before anything works on the store.
        let mut keeper = FenceKeeper::new(parts.operator.clone(), after_restore, folder);
        keeper.begin().await?;
        Ok(Punctual::run(parts, keeper, store, stop))
    }

    /// Puts the parts together, on this store and clock, with jitter from `random`.
    pub(crate) fn assemble(
        self,
        checked: Checked,
        store: StorePorts,
        sharding: Sharding,
        clock: Arc<dyn Clock>,
        random: fn() -> f64,
        stop: CancellationToken,
    ) -> Result<Parts, ItemSourceError> {
        let jobs = Jobs::from(checked.config);
        let handlers = checked.handlers;
        handlers.suppressions().connect(store.suppressions.clone());
        if let Some(provider_batches) = store.provider_batches {
            handlers.provider_batches().connect(provider_batches);
        }
        let preferences = self.preferences.unwrap_or_else(|| Arc::new(NoPreferences));
        let preferences = Guarded(OfShards::new(preferences, sharding.clone()));
        let preferences: Arc<dyn ConfigDatabase> = Arc::new(preferences);
        let others = match self.item_source {
            Some(source) => Some(source),
            None => files_and_urls(&self.folder)?,
        };
        let item_source: Arc<dyn ItemSource> = Arc::new(Guarded(Items(others)));
        let tenant_data = AllData {
            providers: self.tenant_data.into_iter().collect::<HashMap<_, _>>(),
            others: data_at_urls()?,
        };
        let base = BatchScheduler::new(
            jobs.clone(),
            item_source.clone(),
            store.queue.clone(),
            clock.clone(),
            SchedulerOptions {
                chunk_size: self.chunk_size,
                look_back: TimeDelta::from_std(self.look_back).unwrap_or(TimeDelta::MAX),
            },
        )
        .with_failures(self.failures.clone())
        .with_sharding(sharding.clone());
        let scheduler = DynamicBatchScheduler::new(
            base,
            preferences.clone(),
            self.poll_interval,
            &self.time_zone,
            random,
        )
        .with_tenant_records(store.tenant_records.clone());
        let (status, leads) = (scheduler.status(), scheduler.leads());
        let page_url = self.completion_url_base.as_deref();
        let alerting = self
            .alerts
            .alerting(store.alerts, &handlers, page_url, &sharding);
        let publisher = Publisher::new(
            preferences.clone(),
            jobs.clone(),
            self.time_zone.clone(),
            random,
        );
        let processor = EnhancedBatchProcessor::new(
            BatchProcessor::new(handlers.clone(), store.batches, clock.clone()),
            preferences.clone(),
            item_source.clone(),
            jobs.clone(),
            self.time_zone.clone(),
            Limits {
                max_concurrent_items: self.max_concurrent_items,
                retry: RetryPolicy::new(self.retry_limit, random),
            },
            stop,
        )
        .with_mirror(Arc::new(status.clone()))
        .with_tenant_data(Arc::new(tenant_data))
        .with_waiting_items(store.waiting.clone())
        .with_completion_urls(CompletionUrls::new(
            store.completion_key,
            self.completion_url_base.as_deref(),
        ));
        let waiting = WaitingService::new(
            store.waiting.clone(),
            store.reader.clone(),
            store.queue.clone(),
            processor.clone(),
        );
        let deliverer = Deliverer::new(
            store.deliveries,
            store.reader.clone(),
            clock.clone(),
            self.folder,
        )
        .with_failures(self.failures.clone())
        .with_handlers(handlers.clone());
        let deliverer = self
            .sinks
            .into_iter()
            .fold(deliverer, |deliverer, (name, sink)| {
                deliverer.with_sink(name, sink)
            });
        let retention = RetentionService::new(
            store.retention.clone(),
            jobs.clone(),
            status.clone(),
            clock.clone(),
        );
        let operator = Operator {
            reader: store.reader,
            queue: store.queue,
            waiting: store.waiting,
            operations: store.operations,
            keys: store.keys,
            suppressions: store.suppressions,
            retention: store.retention,
            alerting,
            tenant_records: store.tenant_records,
            fence: store.fence,
            preferences,
            item_source,
            jobs,
            handlers,
            processor: processor.clone(),
            status,
            failures: self.failures,
            started_at: clock.now(),
            clock,
            zone: self.time_zone,
            chunk_size: self.chunk_size,
            sharding,
        };
        Ok(Parts {
            scheduler,
            publisher,
            processor,
            deliverer,
            waiting,
            retention,
            alerts: AlertService::new(operator.clone(), leads),
            operator,
        })
    }
}

/// What the builder was given, without mistakes.
pub(crate) struct Checked {
    config: BatchConfig,
    handlers: Handlers,
}

impl Builder {
    /// Finds every mistake. Pointers count from `{"jobs": …, "handlers": …, …}`, jobs from files first.
    pub(crate) fn check(&self) -> Result<Checked, FieldErrors> {
        let mut errors = self.numbers_out_of_range();
        if let Some(url) = &self.completion_url_base {
            let value = json!(url);
            let invalid = base_url(&value).err();
            errors.extend(invalid.map(|invalid| invalid.at("/completion_url_base", Some(&value))));
        }
        let (mut config, handlers) = self.from_files.clone();
        let handlers = self.bind(handlers, &mut errors);
        let handler_names = self.handlers.iter().map(|(name, ..)| name);
        errors.extend(names_of_two("/handlers", handler_names));
        let sink_names = self.sinks.iter().map(|(name, _)| name);
        errors.extend(names_of_two("/sinks", sink_names));
        let provider_names = self.tenant_data.iter().map(|(name, _)| name);
        errors.extend(names_of_two("/tenant_data", provider_names));
        let from_files = config.jobs.len();
        let mut names: BTreeSet<_> = config.jobs.iter().map(|job| job.job_id.clone()).collect();
        errors.extend(self.alerts.mistakes(&handlers));
        for (index, job) in config.jobs.iter().enumerate() {
            errors.extend(self.mistakes_of(job, &handlers, index));
        }
        for (place, job) in self.jobs.iter().enumerate() {
            let index = from_files + place;
            let at = |field: &str| format!("/jobs/{index}/{field}");
            let job = match parse(job.clone().into_entry(), index, &self.time_zone) {
                Ok(job) => job,
                Err(found) => {
                    errors.extend(found.0);
                    continue;
                }
            };
            errors.extend(self.mistakes_of(&job, &handlers, index));
            if self.item_source.is_none() && !cfg!(feature = "http") && reads_elsewhere(&job.work) {
                let unread = Invalid::new(
                    "requires the feature `http`",
                    "switch it on, call `.item_source(…)`, or give the job `items`",
                );
                errors.push(unread.at(at("source"), None));
            }
            if !names.insert(job.job_id.clone()) {
                let twice = Invalid::new(
                    "is the name of an earlier job",
                    "give every job its own name",
                );
                errors.push(twice.at(at("job_id"), Some(&json!(job.job_id))));
            }
            config.jobs.push(job);
        }
        FieldErrors::unless_empty(errors).map(|()| Checked { config, handlers })
    }

    fn numbers_out_of_range(&self) -> Vec<FieldError> {
        let seconds = |time: Duration| usize::try_from(time.as_secs()).unwrap_or(usize::MAX);
        let numbers = [
            (
                "max_concurrent_items",
                self.max_concurrent_items,
                1,
                10_000,
                "items",
            ),
            ("retry_limit", self.retry_limit as usize, 0, 100, "retries"),
            ("chunk_size", self.chunk_size, 1, 10_000, "items"),
            (
                "poll_interval",
                seconds(self.poll_interval),
                1,
                86_400,
                "seconds",
            ),
            (
                "look_back",
                seconds(self.look_back),
                0,
                366 * 86_400,
                "seconds",
            ),
        ];
        let outside = numbers
            .into_iter()
            .filter(|(_, number, least, most, _)| !(least..=most).contains(&number));
        outside
            .map(|(name, number, least, most, unit)| {
                let range = format!("use {least} to {most} {unit}");
                Invalid::new("is out of range", range).at(format!("/{name}"), Some(&json!(number)))
            })
            .collect()
    }

    /// The handlers of files and of the program.
    fn bind(&self, mut handlers: Handlers, errors: &mut Vec<FieldError>) -> Handlers {
        for (name, handler, binding) in &self.handlers {
            match PurposeId::new(name) {
                Ok(purpose) => handlers.bind(purpose, handler.clone(), binding.clone()),
                Err(error) => {
                    errors.push(Invalid::from(error).at("/handlers", Some(&json!(name))));
                }
            }
        }
        handlers
    }

    /// Mistakes of a job beside other parts.
    fn mistakes_of(&self, job: &JobConfig, handlers: &Handlers, index: usize) -> Vec<FieldError> {
        let (at, mut errors) = (format!("/jobs/{index}"), Vec::new());
        for (field, purpose) in ["purpose_id", "then"].into_iter().zip(job.purposes()) {
            if !handlers.contains(purpose) {
                let remedy = format!("call `.handler(\"{purpose}\", …)`, or name another handler");
                let unbound = Invalid::new("names no handler", remedy);
                errors.push(unbound.at(format!("{at}/{field}"), Some(&json!(purpose))));
            }
        }
        if let Work::Preferences { feature_type, .. } = &job.work
            && self.preferences.is_none()
        {
            let missing = Invalid::new("needs preferences", "call `.preferences(…)`");
            errors.push(missing.at(format!("{at}/feature_type"), Some(&json!(feature_type))));
        }
        match job.data.as_ref().map(|data| &data.source) {
            Some(DataSource::Provider(name))
                if !self.tenant_data.iter().any(|(known, _)| known == name) =>
            {
                let remedy = format!("call `.tenant_data({name:?}, …)`, or name another provider");
                let unknown = Invalid::new("names no provider", remedy);
                errors.push(unknown.at(format!("{at}/data/provider"), Some(&json!(name))));
            }
            Some(DataSource::Http(_)) if !cfg!(feature = "http") => {
                let unable = Invalid::new(
                    "requires the feature `http`",
                    "switch it on, or name a provider",
                );
                errors.push(unable.at(format!("{at}/data/url"), None));
            }
            _ => {}
        }
        for (place, delivery) in job.deliver.iter().enumerate() {
            let at = format!("{at}/deliver/{place}");
            match delivery {
                Delivery::Webhook { .. } if !cfg!(feature = "http") => {
                    let unable = Invalid::new(
                        "requires the feature `http`",
                        "switch it on, or deliver to a sink or a file",
                    );
                    errors.push(unable.at(format!("{at}/url"), None));
                }
                Delivery::Email(purpose) if !handlers.contains(purpose) => {
                    let remedy =
                        format!("call `.handler(\"{purpose}\", …)`, or name another handler");
                    let unbound = Invalid::new("names no handler", remedy);
                    errors.push(unbound.at(format!("{at}/email"), Some(&json!(purpose))));
                }
                Delivery::Sink(name) if !self.sinks.iter().any(|(known, _)| known == name) => {
                    let remedy = format!("call `.sink({name:?}, …)`, or name another sink");
                    let unknown = Invalid::new("names no sink", remedy);
                    errors.push(unknown.at(format!("{at}/sink"), Some(&json!(name))));
                }
                _ => {}
            }
        }
        errors
    }
}

/// The names that two parts have.
pub(crate) fn names_of_two<'n>(
    pointer: &str,
    names: impl Iterator<Item = &'n String>,
) -> Vec<FieldError> {
    let mut seen = BTreeSet::new();
    let twice = names.filter(|name| !seen.insert(*name));
    twice
        .map(|name| {
            let invalid = Invalid::new("is given twice", "give each its own name");
            invalid.at(pointer, Some(&json!(name)))
        })
        .collect()
}

/// Whether the items come from neither preferences nor the job itself.
fn reads_elsewhere(work: &Work) -> bool {
    match work {
        Work::Preferences { .. } => false,
        Work::Fixed { sources, .. } => {
            let listed = |source: &Source| matches!(source.location, Location::Listed(_));
            !sources.values().all(listed)
        }
    }
}

/// Reads the entry of a job, which comes after `index` others.
fn parse(entry: Value, index: usize, zone: &Zone) -> Result<JobConfig, FieldErrors> {
    let alone = |mut error: FieldError| {
        error.pointer = error
            .pointer
            .replacen("/jobs/0", &format!("/jobs/{index}"), 1);
        error
    };
    let mut parsed = parse_batch_config(&json!({ "jobs": [entry] }), zone)
        .map_err(|errors| FieldErrors(errors.0.into_iter().map(alone).collect()))?;
    Ok(parsed.jobs.remove(0))
}

/// Reads items from files and from URLs; `None`: this program does not.
#[cfg(feature = "http")]
fn files_and_urls(folder: &Path) -> Result<Option<Arc<dyn ItemSource>>, ItemSourceError> {
    let sources = punctual_infrastructure::Sources::in_folder(folder)?;
    Ok(Some(Arc::new(sources)))
}

/// Reads items from files and from URLs; `None`: this program does not.
#[cfg(not(feature = "http"))]
#[expect(
    clippy::unnecessary_wraps,
    reason = "with the feature `http` it may fail"
)]
fn files_and_urls(_: &Path) -> Result<Option<Arc<dyn ItemSource>>, ItemSourceError> {
    Ok(None)
}

/// Reads tenants' data at URLs; `None`: this program does not.
#[cfg(feature = "http")]
fn data_at_urls() -> Result<Option<Arc<dyn TenantData>>, ItemSourceError> {
    let data = punctual_infrastructure::HttpTenantData::new().map_err(|error| {
        let kind = punctual_application::ports::ItemSourceErrorKind::Invalid;
        ItemSourceError::new(kind, error.to_string()).with_source(error)
    })?;
    Ok(Some(Arc::new(data)))
}

/// Reads tenants' data at URLs; `None`: this program does not.
#[cfg(not(feature = "http"))]
#[expect(
    clippy::unnecessary_wraps,
    reason = "with the feature `http` it may fail"
)]
fn data_at_urls() -> Result<Option<Arc<dyn TenantData>>, ItemSourceError> {
    Ok(None)
}
