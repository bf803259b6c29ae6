//! Erases what the agent holds of tenants that the Config Database has erased: in its own store, and what is remembered of features that
//! it follows no more. Each feature names such a tenant, and each has the tenant erased: until it does, its jobs may plan runs of the
//! tenant, also after another feature has. What fails is retried until it is done. What a process has left undone when it ends, the next
//! one finds again: its first full read asks for all erasures that the Config Database remembers, and so does the first one after it
//! begins to lead, for the process that led before may have planned such runs and ended. The store knows those that it has carried out.
//! Each process has its own memory and folder of last known preferences, so it always has the tenants forgotten there, all that are named
//! together at one time: each time reads the files of all features whose own feeds have not brought the erasures. Store and memory do not
//! wait for each other: the memory of a feature is locked while a snapshot of it is read, and a folder may not be writable.

use std::{
    collections::{BTreeMap, HashMap, HashSet},
    ops::Bound::{Excluded, Unbounded},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use chrono::{DateTime, Utc};
use punctual_application::{
    backoff::Backoff,
    ports::{Clock, ConfigDatabase, ErasedRecords, ErasedTenant, TenantRecords},
    tenant_hash,
};
use punctual_domain::{FeatureType, TenantId};
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;
use tracing::{debug, error, info};

/// The first and the longest wait after an erasure that failed.
const FIRST_RETRY: Duration = Duration::from_secs(1);
const LONGEST_RETRY: Duration = Duration::from_mins(1);

/// The tenants that are to be erased.
pub(super) struct Eraser {
    records: Arc<dyn TenantRecords>,
    config_database: Arc<dyn ConfigDatabase>,
    clock: Arc<dyn Clock>,
    tenants: Mutex<Tenants>,
    added: watch::Sender<()>,
}

#[derive(Default)]
struct Tenants {
    /// The tenants that are to be erased, each with how it was named.
    pending: BTreeMap<TenantId, Named>,
    /// The tenants that are to be forgotten in memory and on disk, each with the time of the last erasure.
    remembered: BTreeMap<TenantId, DateTime<Utc>>,
    /// The last erasure of each tenant that a feature has named, so that none is repeated.
    named: HashMap<FeatureType, HashMap<TenantId, DateTime<Utc>>>,
}

/// How a tenant was named that is to be erased.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Named {
    times: u64,
    erased_at: DateTime<Utc>,
}

impl Eraser {
    pub(super) fn new(
        records: Arc<dyn TenantRecords>,
        config_database: Arc<dyn ConfigDatabase>,
        clock: Arc<dyn Clock>,
    ) -> Self {
        Self {
            records,
            config_database,
            clock,
            tenants: Mutex::default(),
            added: watch::Sender::default(),
        }
    }

    fn tenants(&self) -> MutexGuard<'_, Tenants> {
        self.tenants.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Notes that a feature names a tenant that was erased then, unless it has named this erasure before.
    pub(super) fn add(
        &self,
        feature_type: &FeatureType,
        tenant_id: &TenantId,
        erased_at: DateTime<Utc>,
    ) {
        let tenants = &mut *self.tenants();
        let named = tenants.named.entry(feature_type.clone()).or_default();
        // The clock of the Config Database may have been set back since the erasure before.
        if named.insert(tenant_id.clone(), erased_at) == Some(erased_at) {
            return;
        }
        tenants.remembered.insert(tenant_id.clone(), erased_at);
        let pending = tenants.pending.entry(tenant_id.clone());
        let pending = pending.or_insert(Named {
            times: 0,
            erased_at,
        });
        pending.times += 1;
        pending.erased_at = erased_at;
        self.added.send_replace(());
    }

    /// Notes all erasures that the Config Database remembers of a feature. What it has forgotten need not be remembered here.
    pub(super) fn add_all(&self, feature_type: &FeatureType, erased: &[ErasedTenant]) {
        for one in erased {
            self.add(feature_type, &one.tenant_id, one.erased_at);
        }
        let listed: HashSet<&TenantId> = erased.iter().map(|one| &one.tenant_id).collect();
        if let Some(named) = self.tenants().named.get_mut(feature_type) {
            named.retain(|tenant_id, _| listed.contains(tenant_id));
        }
    }

    /// Has the erasures that the Config Database lists carried out again with the next full reads. Another process led until now: it may
    /// have planned runs from what it knew before an erasure, and have ended before it learned of it.
    pub(super) fn name_again(&self) {
        self.tenants().named.clear();
    }

    /// The next tenant behind `last`, so that one that cannot be erased does not keep the others waiting.
    fn next(&self, last: Option<&TenantId>) -> Option<(TenantId, Named)> {
        let tenants = self.tenants();
        let behind =
            last.and_then(|last| tenants.pending.range((Excluded(last), Unbounded)).next());
        let next = behind.or_else(|| tenants.pending.first_key_value());
        next.map(|(tenant_id, named)| (tenant_id.clone(), *named))
    }

    /// Notes that a tenant was erased, unless it was named again meanwhile: then it is erased once more.
    fn done(&self, tenant_id: &TenantId, named: Named) {
        let pending = &mut self.tenants().pending;
        if pending.get(tenant_id) == Some(&named) {
            pending.remove(tenant_id);
        }
    }

    /// Erases, in the store and in memory, until `stop` is cancelled. What has begun is carried out.
    pub(super) async fn run(self: Arc<Self>, stop: CancellationToken) {
        tokio::join!(self.erase_in_store(&stop), self.forget(&stop));
    }

    /// Erases one tenant after the other in the store.
    async fn erase_in_store(&self, stop: &CancellationToken) {
        let (mut retry, mut added, mut last) = (Retry::new(), self.added.subscribe(), None);
        while !stop.is_cancelled() {
            let Some((tenant_id, named)) = self.next(last.as_ref()) else {
                stop.run_until_cancelled(added.changed()).await;
                continue;
            };
            let (tenant, now) = (tenant_hash(&tenant_id), self.clock.now());
            match self
                .records
                .erase_once(&tenant_id, named.erased_at, now)
                .await
            {
                Ok(erased) => {
                    retry.failures = 0;
                    count("done");
                    if erased == ErasedRecords::default() {
                        debug!(%tenant, "Nothing was held of the tenant with the hash {tenant}");
                    } else {
                        info!(%tenant, runs = erased.runs, items = erased.items,
                            dead_letters = erased.dead_letters, others = erased.others,
                            "Erased the tenant with the hash {tenant}, as the Config Database has");
                    }
                    self.done(&tenant_id, named);
                }
                Err(problem) => {
                    let retry_in = retry.after_failure();
                    let retry_in_ms = retry_in.as_millis() as u64;
                    count("failed");
                    error!(%tenant, %problem, retry_in_ms,
                        "Failed to erase the tenant with the hash {tenant}, retrying in {} s: {problem}",
                        retry_in.as_secs());
                    stop.run_until_cancelled(tokio::time::sleep(retry_in)).await;
                }
            }
            last = Some(tenant_id);
        }
    }

    /// Has the tenants that were named forgotten in all features, also in those whose files no feed writes any more.
    async fn forget(&self, stop: &CancellationToken) {
        let (mut retry, mut added) = (Retry::new(), self.added.subscribe());
        while !stop.is_cancelled() {
            let named = std::mem::take(&mut self.tenants().remembered);
            if named.is_empty() {
                stop.run_until_cancelled(added.changed()).await;
                continue;
            }
            let Err(problem) = self.config_database.forget(&named).await else {
                retry.failures = 0;
                continue;
            };
            let tenants = named.len();
            {
                let remembered = &mut self.tenants().remembered;
                for (tenant_id, erased_at) in named {
                    remembered.entry(tenant_id).or_insert(erased_at);
                }
            }
            let retry_in = retry.after_failure();
            let retry_in_ms = retry_in.as_millis() as u64;
            error!(tenants, %problem, retry_in_ms,
                "Failed to forget erased tenants in the last known preferences, retrying in {} s: {problem}",
                retry_in.as_secs());
            stop.run_until_cancelled(tokio::time::sleep(retry_in)).await;
        }
    }
}

/// When to try again what fails.
struct Retry {
    backoff: Backoff,
    failures: u32,
}

impl Retry {
    fn new() -> Self {
        Self {
            backoff: Backoff::new(FIRST_RETRY, LONGEST_RETRY),
            failures: 0,
        }
    }

    fn after_failure(&mut self) -> Duration {
        self.failures = self.failures.saturating_add(1);
        self.backoff.after(self.failures)
    }
}

fn count(outcome: &'static str) {
    metrics::counter!("punctual_tenant_erasures_total", "outcome" => outcome).increment(1);
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering::SeqCst};

    use async_trait::async_trait;
    use punctual_application::{
        ports::{
            ChangePage, ConfigDatabaseError, ConfigErrorKind, Cursor, MockConfigDatabase,
            SnapshotPages, StoreError, TenantExport,
        },
        testing::ManualClock,
    };
    use punctual_domain::PreferenceRecord;

    use super::*;

    /// Fails for one tenant while `fails`, and notes who is erased, and as of when.
    #[derive(Default)]
    struct Records {
        fails: AtomicBool,
        erased: Mutex<Vec<String>>,
        erased_at: Mutex<Vec<DateTime<Utc>>>,
    }

    #[async_trait]
    impl TenantRecords for Records {
        async fn erase(&self, _: &TenantId, _: DateTime<Utc>) -> Result<ErasedRecords, StoreError> {
            Err(StoreError::unavailable("no erasure of an operator"))
        }

        async fn erase_once(
            &self,
            tenant_id: &TenantId,
            erased_at: DateTime<Utc>,
            _: DateTime<Utc>,
        ) -> Result<ErasedRecords, StoreError> {
            if tenant_id.as_str() == "ann" && self.fails.load(SeqCst) {
                return Err(StoreError::unavailable("the disk is full"));
            }
            self.erased_at.lock().unwrap().push(erased_at);
            self.erased.lock().unwrap().push(tenant_id.to_string());
            Ok(ErasedRecords::default())
        }

        async fn export(&self, _: &TenantId) -> Result<TenantExport, StoreError> {
            Ok(TenantExport::default())
        }
    }

    fn at(second: u32) -> DateTime<Utc> {
        DateTime::from_timestamp(second.into(), 0).unwrap()
    }

    fn feature(name: &str) -> FeatureType {
        FeatureType::new(name).unwrap()
    }

    #[tokio::test(start_paused = true)]
    async fn each_erasure_is_carried_out_for_each_feature_and_one_that_fails_keeps_no_other_waiting()
     {
        let records = Arc::new(Records::default());
        records.fails.store(true, SeqCst);
        let clock = Arc::new(ManualClock::starting_at("2026-03-01T09:00:00Z"));
        let mut config_database = MockConfigDatabase::new();
        config_database.expect_forget().returning(|_| Ok(()));
        let eraser = Eraser::new(records.clone(), Arc::new(config_database), clock);
        let eraser = Arc::new(eraser);
        let stop = CancellationToken::new();
        let running = tokio::spawn(Arc::clone(&eraser).run(stop.clone()));
        let (ann, bob) = (TenantId::new("ann").unwrap(), TenantId::new("bob").unwrap());
        let (mail, posts) = (feature("mail"), feature("posts"));
        let erased = || records.erased.lock().unwrap().clone();
        // Both features name each before any is erased.
        for feature in [&mail, &posts] {
            eraser.add(feature, &ann, at(1));
            eraser.add(feature, &bob, at(1));
        }
        tokio::time::sleep(Duration::from_mins(3)).await;
        assert_eq!(erased(), ["bob"]);
        records.fails.store(false, SeqCst);
        tokio::time::sleep(Duration::from_mins(2)).await;
        assert_eq!(erased(), ["bob", "ann"]);
        // The list names them again; Bob is erased a second time, after the clock was set back.
        let listed = |tenant_id: &TenantId, second| ErasedTenant {
            tenant_id: tenant_id.clone(),
            erased_at: at(second),
        };
        eraser.add_all(&mail, &[listed(&ann, 1), listed(&bob, 0)]);
        tokio::time::sleep(Duration::from_mins(1)).await;
        assert_eq!(erased(), ["bob", "ann", "bob"]);
        // The other feature learns of that later. Until then, its jobs may have planned runs of Bob.
        eraser.add(&posts, &bob, at(0));
        tokio::time::sleep(Duration::from_mins(1)).await;
        assert_eq!(erased(), ["bob", "ann", "bob", "bob"]);
        // What the list no longer names is forgotten.
        eraser.add_all(&mail, &[listed(&ann, 1)]);
        assert_eq!(eraser.tenants().named[&mail].len(), 1);
        stop.cancel();
        running.await.unwrap();
    }

    #[tokio::test(start_paused = true)]
    async fn who_is_erased_is_forgotten_in_all_features_and_that_is_retried_too() {
        let records = Arc::new(Records::default());
        let clock = Arc::new(ManualClock::starting_at("2026-03-01T09:00:00Z"));
        let mut config_database = MockConfigDatabase::new();
        let calls = Arc::new(AtomicUsize::new(0));
        let counted = Arc::clone(&calls);
        config_database.expect_forget().returning(move |_| {
            if counted.fetch_add(1, SeqCst) > 0 {
                return Ok(());
            }
            let kind = ConfigErrorKind::Unavailable;
            Err(ConfigDatabaseError::new(kind, "the disk is full"))
        });
        let eraser = Eraser::new(records.clone(), Arc::new(config_database), clock);
        let eraser = Arc::new(eraser);
        let stop = CancellationToken::new();
        let running = tokio::spawn(Arc::clone(&eraser).run(stop.clone()));
        eraser.add(&feature("mail"), &TenantId::new("bob").unwrap(), at(1));
        tokio::time::sleep(Duration::from_mins(3)).await;
        assert_eq!(calls.load(SeqCst), 2);
        assert_eq!(*records.erased.lock().unwrap(), ["bob"]);
        stop.cancel();
        running.await.unwrap();
    }

    /// Reads a snapshot, so that nothing can be forgotten yet.
    struct Reads;

    fn reads() -> ConfigDatabaseError {
        ConfigDatabaseError::new(ConfigErrorKind::Unavailable, "a snapshot is read")
    }

    #[async_trait]
    impl ConfigDatabase for Reads {
        async fn snapshot(&self, _: &FeatureType) -> Result<SnapshotPages, ConfigDatabaseError> {
            Err(reads())
        }

        async fn changes(
            &self,
            _: &FeatureType,
            _: &Cursor,
            _: Duration,
        ) -> Result<ChangePage, ConfigDatabaseError> {
            Err(reads())
        }

        async fn preferences(
            &self,
            _: &FeatureType,
            _: &[TenantId],
        ) -> Result<HashMap<TenantId, PreferenceRecord>, ConfigDatabaseError> {
            Err(reads())
        }

        async fn forget(
            &self,
            _: &BTreeMap<TenantId, DateTime<Utc>>,
        ) -> Result<(), ConfigDatabaseError> {
            std::future::pending().await
        }
    }

    #[tokio::test(start_paused = true)]
    async fn the_store_does_not_wait_until_a_snapshot_has_been_read() {
        let records = Arc::new(Records::default());
        let clock = Arc::new(ManualClock::starting_at("2026-03-01T09:00:00Z"));
        let eraser = Arc::new(Eraser::new(records.clone(), Arc::new(Reads), clock));
        for id in ["bob", "eve"] {
            eraser.add(&feature("mail"), &TenantId::new(id).unwrap(), at(1));
        }
        let running = tokio::spawn(eraser.run(CancellationToken::new()));
        tokio::time::sleep(Duration::from_secs(1)).await;
        assert_eq!(*records.erased.lock().unwrap(), ["bob", "eve"]);
        running.abort();
    }

    #[tokio::test(start_paused = true)]
    async fn all_who_are_named_together_are_forgotten_at_one_time() {
        let records = Arc::new(Records::default());
        let clock = Arc::new(ManualClock::starting_at("2026-03-01T09:00:00Z"));
        let mut config_database = MockConfigDatabase::new();
        let forgotten: Arc<Mutex<Vec<usize>>> = Arc::default();
        let noted = Arc::clone(&forgotten);
        config_database.expect_forget().returning(move |tenants| {
            noted.lock().unwrap().push(tenants.len());
            Ok(())
        });
        let eraser = Eraser::new(records.clone(), Arc::new(config_database), clock);
        let eraser = Arc::new(eraser);
        // As the first full read after a restart does.
        let listed = ["ann", "bob", "eve"].map(|id| ErasedTenant {
            tenant_id: TenantId::new(id).unwrap(),
            erased_at: at(if id == "ann" { 7 } else { 1 }),
        });
        eraser.add_all(&feature("mail"), &listed);
        let stop = CancellationToken::new();
        let running = tokio::spawn(Arc::clone(&eraser).run(stop.clone()));
        tokio::time::sleep(Duration::from_mins(1)).await;
        assert_eq!(*forgotten.lock().unwrap(), [3]);
        assert_eq!(*records.erased.lock().unwrap(), ["ann", "bob", "eve"]);
        // The store is given the time by which it knows whether it has carried the erasure out.
        let times = records.erased_at.lock().unwrap().clone();
        assert_eq!(times, [at(7), at(1), at(1)]);
        eraser.add(&feature("posts"), &listed[1].tenant_id, at(1));
        tokio::time::sleep(Duration::from_mins(1)).await;
        assert_eq!(*forgotten.lock().unwrap(), [3, 1]);
        stop.cancel();
        running.await.unwrap();
    }
}
