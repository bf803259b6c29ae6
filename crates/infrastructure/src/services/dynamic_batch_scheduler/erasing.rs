//! Erases what the agent holds of tenants that the Config Database has erased: in its own store, and what is remembered of features that
//! it follows no more. Each feature names such a tenant, with the same time, so a tenant is erased once per erasure and process. What
//! fails is retried until it is done. What a process has left undone when it ends, the next one finds again: its first full read asks for
//! all erasures that the Config Database remembers.

use std::{
    collections::{BTreeMap, HashMap},
    ops::Bound::{Excluded, Unbounded},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use chrono::{DateTime, Utc};
use punctual_application::{
    backoff::Backoff,
    ports::{Clock, ConfigDatabase, ErasedRecords, TenantRecords},
    tenant_hash,
};
use punctual_domain::TenantId;
use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;
use tracing::{error, info};

/// The first and the longest wait after an erasure that failed.
const FIRST_RETRY: Duration = Duration::from_secs(1);
const LONGEST_RETRY: Duration = Duration::from_mins(1);
/// Erasures that are remembered, so that none is repeated; then all are forgotten.
const MAX_REMEMBERED: usize = 100_000;

/// The tenants that are to be erased, each with the time of the erasure.
pub(super) struct Eraser {
    records: Arc<dyn TenantRecords>,
    config_database: Arc<dyn ConfigDatabase>,
    clock: Arc<dyn Clock>,
    tenants: Mutex<Tenants>,
    added: Notify,
}

#[derive(Default)]
struct Tenants {
    pending: BTreeMap<TenantId, DateTime<Utc>>,
    erased: HashMap<TenantId, DateTime<Utc>>,
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
            added: Notify::new(),
        }
    }

    fn tenants(&self) -> MutexGuard<'_, Tenants> {
        self.tenants.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Notes that a tenant was erased then, unless this erasure is done.
    pub(super) fn add(&self, tenant_id: &TenantId, erased_at: DateTime<Utc>) {
        let tenants = &mut *self.tenants();
        let known = tenants.erased.get(tenant_id);
        if known.is_some_and(|known| *known >= erased_at) {
            return;
        }
        let pending = tenants.pending.entry(tenant_id.clone());
        let pending = pending.or_insert(erased_at);
        *pending = erased_at.max(*pending);
        self.added.notify_one();
    }

    /// The next tenant behind `last`, so that one that cannot be erased does not keep the others waiting.
    fn next(&self, last: Option<&TenantId>) -> Option<(TenantId, DateTime<Utc>)> {
        let tenants = self.tenants();
        let behind =
            last.and_then(|last| tenants.pending.range((Excluded(last), Unbounded)).next());
        let next = behind.or_else(|| tenants.pending.first_key_value());
        next.map(|(tenant_id, erased_at)| (tenant_id.clone(), *erased_at))
    }

    fn done(&self, tenant_id: TenantId, erased_at: DateTime<Utc>) {
        let tenants = &mut *self.tenants();
        // It may have been erased once more meanwhile.
        if tenants.pending.get(&tenant_id) == Some(&erased_at) {
            tenants.pending.remove(&tenant_id);
        }
        if tenants.erased.len() >= MAX_REMEMBERED {
            tenants.erased.clear();
        }
        tenants.erased.insert(tenant_id, erased_at);
    }

    /// Erases a tenant in the store, and has them forgotten in all features, also in those whose files no feed writes any more. What
    /// fails in one place keeps nothing in the other.
    async fn erase(&self, tenant_id: &TenantId) -> Result<ErasedRecords, String> {
        let erased = self.records.erase(tenant_id, self.clock.now()).await;
        let forgotten = self.config_database.forget(tenant_id).await;
        forgotten.map_err(|error| error.to_string())?;
        erased.map_err(|error| error.to_string())
    }

    /// Erases until `stop` is cancelled. An erasure that has begun is carried out.
    pub(super) async fn run(self: Arc<Self>, stop: CancellationToken) {
        let backoff = Backoff::new(FIRST_RETRY, LONGEST_RETRY);
        let mut failures = 0_u32;
        let mut last = None;
        while !stop.is_cancelled() {
            let Some((tenant_id, erased_at)) = self.next(last.as_ref()) else {
                tokio::select! {
                    biased;
                    () = stop.cancelled() => {}
                    () = self.added.notified() => {}
                }
                continue;
            };
            let tenant = tenant_hash(&tenant_id);
            match self.erase(&tenant_id).await {
                Ok(erased) => {
                    failures = 0;
                    count("done");
                    info!(%tenant, runs = erased.runs, items = erased.items,
                        dead_letters = erased.dead_letters, others = erased.others,
                        "Erased the tenant with the hash {tenant}, as the Config Database has");
                    self.done(tenant_id.clone(), erased_at);
                }
                Err(problem) => {
                    failures = failures.saturating_add(1);
                    let retry = backoff.after(failures);
                    let retry_in_ms = retry.as_millis() as u64;
                    count("failed");
                    error!(%tenant, %problem, retry_in_ms,
                        "Failed to erase the tenant with the hash {tenant}, retrying in {} s: {problem}",
                        retry.as_secs());
                    tokio::select! {
                        biased;
                        () = stop.cancelled() => {}
                        () = tokio::time::sleep(retry) => {}
                    }
                }
            }
            last = Some(tenant_id);
        }
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
            ConfigDatabaseError, ConfigErrorKind, MockConfigDatabase, StoreError, TenantExport,
        },
        testing::ManualClock,
    };

    use super::*;

    /// Fails for one tenant while `fails`, and notes who is erased.
    #[derive(Default)]
    struct Records {
        fails: AtomicBool,
        erased: Mutex<Vec<String>>,
    }

    #[async_trait]
    impl TenantRecords for Records {
        async fn erase(
            &self,
            tenant_id: &TenantId,
            _: DateTime<Utc>,
        ) -> Result<ErasedRecords, StoreError> {
            if tenant_id.as_str() == "ann" && self.fails.load(SeqCst) {
                return Err(StoreError::unavailable("the disk is full"));
            }
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

    #[tokio::test(start_paused = true)]
    async fn each_erasure_is_carried_out_once_and_one_that_fails_is_retried_and_keeps_no_other_waiting()
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
        let erased = || records.erased.lock().unwrap().clone();
        // Two features name each.
        for tenant in [&ann, &bob, &ann, &bob] {
            eraser.add(tenant, at(1));
        }
        tokio::time::sleep(Duration::from_mins(3)).await;
        assert_eq!(erased(), ["bob"]);
        records.fails.store(false, SeqCst);
        tokio::time::sleep(Duration::from_mins(2)).await;
        assert_eq!(erased(), ["bob", "ann"]);
        // The list of the Config Database names them again, and Bob is erased a second time.
        eraser.add(&ann, at(1));
        eraser.add(&bob, at(2));
        tokio::time::sleep(Duration::from_mins(1)).await;
        assert_eq!(erased(), ["bob", "ann", "bob"]);
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
        eraser.add(&TenantId::new("bob").unwrap(), at(1));
        tokio::time::sleep(Duration::from_mins(3)).await;
        assert_eq!(calls.load(SeqCst), 2);
        assert_eq!(*records.erased.lock().unwrap(), ["bob", "bob"]);
        stop.cancel();
        running.await.unwrap();
    }
}
