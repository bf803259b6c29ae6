//! The builder: takes the parts, finds every mistake in them at once, and puts them together.

use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    path::PathBuf,
    sync::Arc,
    time::Duration,
};

use chrono::TimeDelta;
use punctual_application::{
    ActiveFailures, BatchProcessor, Binding, EnhancedBatchProcessor, Handlers, Jobs, Limits,
    Operator, RetryPolicy,
    ports::{
        BatchReader, BatchStore, Clock, ConfigDatabase, Deliveries, ItemSource, ItemSourceError,
        Operations, PurposeHandler, ResultSink, StoreError, SystemClock, WorkQueue,
    },
};
use punctual_domain::{
    BatchConfig, Delivery, FieldError, FieldErrors, Invalid, JobConfig, PurposeId, Work, Zone,
};
use punctual_infrastructure::{
    BatchScheduler, Deliverer, DynamicBatchScheduler, Project, SchedulerOptions, Sources, Store,
};
use serde_json::{Value, json};
use tokio_util::sync::CancellationToken;

use crate::{Job, Punctual, items::Items, no_preferences::NoPreferences};

/// Puts Punctual together; [`Punctual::builder`] makes one.
pub struct Builder {
    pub(crate) store: String,
    pub(crate) preferences: Option<Arc<dyn ConfigDatabase>>,
    item_source: Option<Arc<dyn ItemSource>>,
    project: Option<Project>,
    handlers: Vec<(String, Arc<dyn PurposeHandler>, Binding)>,
    sinks: BTreeMap<String, Arc<dyn ResultSink>>,
    jobs: Vec<Job>,
    folder: PathBuf,
    time_zone: Zone,
    max_concurrent_items: usize,
    retry_limit: u32,
    chunk_size: usize,
    poll_interval: Duration,
    look_back: Duration,
    failures: ActiveFailures,
}

impl Default for Builder {
    fn default() -> Self {
        Self {
            store: "sqlite://punctual.db".to_owned(),
            preferences: None,
            item_source: None,
            project: None,
            handlers: Vec::new(),
            sinks: BTreeMap::new(),
            jobs: Vec::new(),
            folder: PathBuf::from("."),
            time_zone: Zone::utc(),
            max_concurrent_items: 25,
            retry_limit: 3,
            chunk_size: 500,
            poll_interval: Duration::from_secs(60),
            look_back: Duration::ZERO,
            failures: ActiveFailures::default(),
        }
    }
}

/// Why Punctual did not start.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum StartError {
    /// Mistakes in what the builder was given: all of them.
    #[error("{0}")]
    Mistakes(#[from] FieldErrors),
    /// The store cannot be opened.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// Sources of items cannot be read.
    #[error(transparent)]
    Sources(#[from] ItemSourceError),
}

/// The store, as each part sees it.
pub(crate) struct StorePorts {
    pub(crate) queue: Arc<dyn WorkQueue>,
    pub(crate) batches: Arc<dyn BatchStore>,
    pub(crate) reader: Arc<dyn BatchReader>,
    pub(crate) operations: Arc<dyn Operations>,
    pub(crate) deliveries: Arc<dyn Deliveries>,
}

/// Everything but the worker, put together and not running.
pub(crate) struct Parts {
    pub(crate) scheduler: DynamicBatchScheduler,
    pub(crate) processor: EnhancedBatchProcessor,
    pub(crate) deliverer: Deliverer,
    pub(crate) operator: Operator,
}

impl Builder {
    /// The store: a SQLite file (`sqlite://var/punctual.db`), or a PostgreSQL database
    /// (`postgres://user@host/database`). The default is `punctual.db` in the current folder.
    #[must_use]
    pub fn store(mut self, url: impl Into<String>) -> Self {
        self.store = url.into();
        self
    }

    /// Where tenants' preferences are read: a [`ConfigDatabaseClient`](crate::ConfigDatabaseClient), or data of your
    /// own. Jobs that follow no preferences need none.
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
        self.sinks.insert(name.to_owned(), Arc::new(sink));
        self
    }

    /// A job.
    #[must_use]
    pub fn job(mut self, job: Job) -> Self {
        self.jobs.push(job);
        self
    }

    /// Jobs and purposes that were read from files, beside those given here.
    #[must_use]
    pub fn project(mut self, project: Project) -> Self {
        self.project = Some(project);
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

    /// How many items run at once in this process, from 1 on. The default is 25.
    #[must_use]
    pub fn max_concurrent_items(mut self, items: usize) -> Self {
        self.max_concurrent_items = items;
        self
    }

    /// How often an item is tried again. The default is 3.
    #[must_use]
    pub fn retry_limit(mut self, retries: u32) -> Self {
        self.retry_limit = retries;
        self
    }

    /// How many items of a batch are queued together, from 1 on. The default is 500.
    #[must_use]
    pub fn chunk_size(mut self, items: usize) -> Self {
        self.chunk_size = items;
        self
    }

    /// How often preferences are asked for changes, where they cannot hold a call until there is one. The default is a
    /// minute.
    #[must_use]
    pub fn poll_interval(mut self, interval: Duration) -> Self {
        self.poll_interval = interval;
        self
    }

    /// How far back the first plan of a job reaches that has never been planned. The default is 0: it begins now.
    #[must_use]
    pub fn look_back(mut self, time: Duration) -> Self {
        self.look_back = time;
        self
    }

    /// Where to note what fails and has not succeeded since, beside what other parts of the program note there.
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
        let store = Store::open(&self.store).await?;
        let ports = StorePorts {
            queue: store.queue(),
            batches: store.batches(),
            reader: store.reader(),
            operations: store.operations(),
            deliveries: store.deliveries(),
        };
        let stop = CancellationToken::new();
        let clock = Arc::new(SystemClock);
        let parts = self.assemble(checked, ports, clock, fastrand::f64, stop.clone())?;
        Ok(Punctual::run(parts, store, stop))
    }

    /// Puts the parts together, on this store and clock, with jitter from `random`.
    pub(crate) fn assemble(
        self,
        checked: Checked,
        store: StorePorts,
        clock: Arc<dyn Clock>,
        random: fn() -> f64,
        stop: CancellationToken,
    ) -> Result<Parts, ItemSourceError> {
        let jobs = Jobs::from(checked.config);
        let handlers = checked.handlers;
        let preferences = self.preferences.unwrap_or_else(|| Arc::new(NoPreferences));
        let others = match self.item_source {
            Some(source) => source,
            None => Arc::new(Sources::in_folder(&self.folder)?),
        };
        let item_source: Arc<dyn ItemSource> = Arc::new(Items {
            listed: checked.listed,
            others,
        });
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
        .with_failures(self.failures.clone());
        let scheduler = DynamicBatchScheduler::new(
            base,
            preferences.clone(),
            self.poll_interval,
            &self.time_zone,
            random,
        );
        let status = scheduler.status();
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
        .with_mirror(Arc::new(status.clone()));
        let deliverer = Deliverer::new(
            store.deliveries,
            store.reader.clone(),
            clock.clone(),
            self.folder,
        )
        .with_failures(self.failures.clone());
        let deliverer = self
            .sinks
            .into_iter()
            .fold(deliverer, |deliverer, (name, sink)| {
                deliverer.with_sink(name, sink)
            });
        let operator = Operator {
            reader: store.reader,
            queue: store.queue,
            operations: store.operations,
            preferences,
            item_source,
            jobs,
            handlers,
            status,
            failures: self.failures,
            started_at: clock.now(),
            clock,
            zone: self.time_zone,
            chunk_size: self.chunk_size,
        };
        Ok(Parts {
            scheduler,
            processor,
            deliverer,
            operator,
        })
    }
}

/// What the builder was given, with no mistake left in it.
pub(crate) struct Checked {
    config: BatchConfig,
    handlers: Handlers,
    listed: HashMap<String, Vec<String>>,
}

impl Builder {
    /// Finds every mistake. Pointers count from `{"jobs": …, "handlers": …}`, jobs from files first.
    pub(crate) fn check(&self) -> Result<Checked, FieldErrors> {
        let mut errors = Vec::new();
        let (mut config, mut handlers) = match &self.project {
            Some(project) => (project.config.clone(), project.handlers.clone()),
            None => (BatchConfig::default(), Handlers::default()),
        };
        for (name, handler, binding) in &self.handlers {
            match PurposeId::new(name) {
                Ok(purpose) => handlers.bind(purpose, handler.clone(), binding.clone()),
                Err(_) => errors.push(
                    Invalid::new(
                        "cannot be the name of a handler",
                        "use 1 to 128 of the characters A-Z a-z 0-9 . _ : @ -",
                    )
                    .at("/handlers", Some(&json!(name))),
                ),
            }
        }
        let (mut names, mut listed) = (BTreeSet::new(), HashMap::new());
        for (index, job) in config.jobs.iter().enumerate() {
            names.insert(job.job_id.clone());
            errors.extend(self.mistakes_of(job, &handlers, index));
        }
        let from_files = config.jobs.len();
        for (place, job) in self.jobs.iter().enumerate() {
            let index = from_files + place;
            let (entry, items) = job.clone().into_entry();
            listed.extend(items);
            match parse(entry, index, &self.time_zone) {
                Ok(job) => {
                    errors.extend(self.mistakes_of(&job, &handlers, index));
                    if !names.insert(job.job_id.clone()) {
                        let twice = Invalid::new(
                            "is the name of an earlier job",
                            "give every job its own name",
                        );
                        let pointer = format!("/jobs/{index}/job_id");
                        errors.push(twice.at(pointer, Some(&json!(job.job_id))));
                    }
                    config.jobs.push(job);
                }
                Err(found) => errors.extend(found.0),
            }
        }
        match errors.is_empty() {
            true => Ok(Checked {
                config,
                handlers,
                listed,
            }),
            false => Err(FieldErrors(errors)),
        }
    }

    /// What only the whole can tell.
    fn mistakes_of(&self, job: &JobConfig, handlers: &Handlers, index: usize) -> Vec<FieldError> {
        let (at, mut errors) = (format!("/jobs/{index}"), Vec::new());
        if !handlers.contains(&job.purpose_id) {
            let unbound = Invalid::new(
                "has no handler of this name",
                "give the builder one with `handler`, or name another",
            );
            errors.push(unbound.at(format!("{at}/purpose_id"), Some(&json!(job.purpose_id))));
        }
        if let Work::Preferences { feature_type, .. } = &job.work
            && self.preferences.is_none()
        {
            let missing = Invalid::new(
                "follows preferences, and there are none",
                "give the builder some with `preferences`",
            );
            errors.push(missing.at(format!("{at}/feature_type"), Some(&json!(feature_type))));
        }
        for (place, delivery) in job.deliver.iter().enumerate() {
            if let Delivery::Sink(name) = delivery
                && !self.sinks.contains_key(name)
            {
                let unknown = Invalid::new(
                    "is not a sink of the builder",
                    "give it one of this name with `sink`",
                );
                errors.push(unknown.at(format!("{at}/deliver/{place}/sink"), Some(&json!(name))));
            }
        }
        errors
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
    let mut parsed = BatchConfig::parse(&json!({ "jobs": [entry] }), zone)
        .map_err(|errors| FieldErrors(errors.0.into_iter().map(alone).collect()))?;
    Ok(parsed.jobs.remove(0))
}
