//! A world for tests: what was given to the builder, in memory and in virtual time. Days pass in an instant.
//!
//! ```
//! use chrono::TimeDelta;
//! use punctual::{HandlerError, Item, Job, Outcome, Punctual, PurposeHandler, testing::World};
//! use serde_json::json;
//!
//! struct Greeter;
//!
//! #[async_trait::async_trait]
//! impl PurposeHandler for Greeter {
//!     async fn run(&self, item: &Item) -> Result<Outcome, HandlerError> {
//!         Ok(json!(format!("Hello, {}!", item.item_id)).into())
//!     }
//! }
//!
//! # #[tokio::main(flavor = "current_thread")]
//! # async fn main() -> Result<(), Box<dyn std::error::Error>> {
//! # tokio::time::pause();
//! let builder = Punctual::builder()
//!     .handler("greet", Greeter)
//!     .job(Job::following("greetings").runs("greet"));
//! // In a test: `#[tokio::test(start_paused = true)]`.
//! let world = World::start(builder, "2026-03-02T08:00:00Z").await?;
//! world.prefers("ann", json!({"enabled": true, "frequency": "daily", "preferred_time": "09:00"}));
//! world.pass(TimeDelta::days(3)).await;
//! let runs = world.runs_of("ann").await;
//! assert_eq!(runs.len(), 3);
//! assert_eq!(runs[0].result.output, Some(json!("Hello, ann!")));
//! # Ok(())
//! # }
//! ```

use std::{fmt, sync::Arc, time::Duration};

use chrono::{DateTime, TimeDelta, Utc};
pub use punctual_application::testing::{
    FakeConfigDatabase, FakeItemSource, FakeSink, FakeStore, ManualClock, contract, item, item_of,
    item_preferring, membership, record,
};
use punctual_application::{
    EnhancedBatchProcessor, Operator,
    ports::{BatchReader, Clock, Page, StoredResult, TenantRuns, WaitingItems},
};
use punctual_domain::{ItemId, PreferenceRecord, Sharding, TenantId};
use serde_json::Value;
use tokio_util::sync::{CancellationToken, DropGuard};

use crate::{
    Builder, StartError,
    builder::{Parts, StorePorts},
    running::is_ready,
};

/// The longest step in which time passes: work that an operator asks for begins within one.
const STEP: TimeDelta = TimeDelta::seconds(60);

/// A world in memory, under tokio's paused time.
pub struct World {
    clock: Arc<ManualClock>,
    store: Arc<FakeStore>,
    /// `None`: the builder has preferences of its own.
    database: Option<Arc<FakeConfigDatabase>>,
    processor: EnhancedBatchProcessor,
    operator: Operator,
    _stops: DropGuard,
}

impl fmt::Debug for World {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("World")
            .field("now", &self.now())
            .finish_non_exhaustive()
    }
}

impl World {
    /// Begins at `start`, an instant in RFC 3339. Preferences are read from the builder's, or else from what tenants
    /// [prefer](Self::prefers) here. The builder's store is not opened.
    ///
    /// # Errors
    /// Every mistake in the builder.
    ///
    /// # Panics
    /// If `start` is not an instant, tokio's time is not paused, or the builder's preferences cannot be read for an hour.
    pub async fn start(mut builder: Builder, start: &str) -> Result<Self, StartError> {
        // This is what notices that time is not paused, and days would take days.
        tokio::time::advance(Duration::ZERO).await;
        let mut database = None;
        if builder.preferences.is_none() {
            let own: Arc<FakeConfigDatabase> = Arc::default();
            builder = builder.preferences(own.clone());
            database = Some(own);
        }
        let checked = builder.check()?;
        let store: Arc<FakeStore> = Arc::default();
        let clock = Arc::new(ManualClock::starting_at(start));
        let ports = StorePorts {
            queue: store.clone(),
            batches: store.clone(),
            reader: store.clone(),
            operations: store.clone(),
            deliveries: store.clone(),
            keys: store.clone(),
            suppressions: store.clone(),
            retention: store.clone(),
            alerts: store.clone(),
            tenant_records: store.clone(),
            fence: store.clone(),
            completion_key: store.completion_key().await?,
            waiting: store.clone(),
            provider_batches: None,
        };
        let stop = CancellationToken::new();
        let parts = builder.assemble(
            checked,
            ports,
            Sharding::default(),
            clock.clone(),
            || 0.5,
            stop.clone(),
        )?;
        let Parts {
            scheduler,
            publisher,
            processor,
            deliverer,
            waiting,
            // A test looks at all that has run, however long ago.
            retention: _,
            alerts,
            operator,
        } = parts;
        tokio::spawn(scheduler.run(stop.clone()));
        tokio::spawn(publisher.run(stop.clone()));
        tokio::spawn(deliverer.run(stop.clone()));
        tokio::spawn(waiting.run(stop.clone()));
        tokio::spawn(alerts.run(stop.clone()));
        let ready = tokio::time::timeout(Duration::from_hours(1), is_ready(&operator)).await;
        ready.expect("the builder's preferences can be read");
        Ok(Self {
            clock,
            store,
            database,
            processor,
            operator,
            _stops: stop.drop_guard(),
        })
    }

    /// Stores a tenant's preference now, as the tenant would. Every feature has the same.
    ///
    /// # Panics
    /// If `tenant` cannot be an id, `preference` is not a JSON object, or the builder has preferences of its own.
    pub fn prefers(&self, tenant: &str, preference: Value) {
        self.database().put(PreferenceRecord {
            updated_at: Some(self.now()),
            schedule_since: None,
            organization: None,
            ..record(tenant, preference)
        });
    }

    /// Removes a tenant's preference now.
    ///
    /// # Panics
    /// If `tenant` cannot be an id, or the builder has preferences of its own.
    pub fn forgets(&self, tenant: &str) {
        let tenant = TenantId::new(tenant).expect("a test gives an id");
        self.database().remove(&tenant);
    }

    /// Makes the preferences unreadable, or readable again.
    ///
    /// # Panics
    /// If the builder has preferences of its own.
    pub fn preferences_are_down(&self, down: bool) {
        self.database().set_down(down);
    }

    fn database(&self) -> &FakeConfigDatabase {
        let own = "the builder has preferences of its own; change those";
        self.database.as_ref().expect(own)
    }

    /// Current time of the virtual clock.
    #[must_use]
    pub fn now(&self) -> DateTime<Utc> {
        self.clock.now()
    }

    /// Lets time pass, in which what falls due runs.
    pub async fn pass(&self, time: TimeDelta) {
        let end = self.now() + time;
        // What has been stored just now is seen first.
        tokio::time::sleep(Duration::from_millis(1)).await;
        while self.now() < end {
            let now = self.now();
            let due = self.operator.status.get().next_due;
            // The scheduler fires at the instant itself, and is let do so.
            let due = due.map_or(TimeDelta::MAX, |due| due - now + TimeDelta::milliseconds(5));
            let step = due.clamp(TimeDelta::milliseconds(5), STEP).min(end - now);
            tokio::time::sleep(step.to_std().unwrap_or_default()).await;
            // A chunk that failed as a whole is given again with the next step, as a queue does.
            let _ = self.store.work(&self.processor).await;
        }
    }

    /// What has run for a tenant or another item, in all jobs, the newest first.
    ///
    /// # Panics
    /// If `tenant` cannot be an id.
    pub async fn runs_of(&self, tenant: &str) -> Vec<StoredResult> {
        let filter = TenantRuns {
            item_id: ItemId::new(tenant).expect("a test gives an id"),
            job_id: None,
            since: None,
        };
        let all = Page {
            cursor: None,
            limit: u32::MAX,
        };
        let runs = self.store.tenant_runs(&filter, &all).await;
        runs.expect("a store in memory does not fail").0
    }

    /// The operator's calls: run now, pause, backfill, replay and others.
    #[must_use]
    pub fn operator(&self) -> &Operator {
        &self.operator
    }
}
