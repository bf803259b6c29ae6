//! Calls of ports that embedders implement. A call that panics or hangs is an error of that call: it is counted, and
//! its caller logs it and tries again. A call that blocks its thread instead of awaiting cannot be interrupted: such work
//! belongs into `spawn_blocking`.

use std::{
    any::Any,
    collections::{BTreeMap, HashMap},
    fmt,
    future::Future,
    panic::AssertUnwindSafe,
    sync::Arc,
    time::Duration,
};

use async_trait::async_trait;
use chrono::{DateTime, Utc};
use futures::{FutureExt, stream};
use punctual_application::ports::{
    ChangePage, ConfigDatabase, ConfigDatabaseError, ConfigErrorKind, Cursor, ErasedTenant,
    HandlerError, ItemSource, ItemSourceError, ItemSourceErrorKind, SnapshotPages, SourceItem,
    TenantAnswers, TenantData, Unreadable,
};
use punctual_domain::{
    DataRequest, DataSource, FeatureType, JobDefaults, JobId, PreferenceRecord, Source, TenantId,
};
use tokio::time::Instant;

/// Timeout of a full read of preferences.
const SNAPSHOT_TIMEOUT: Duration = Duration::from_hours(1);
/// Timeout of a read of changes, beside the time for which it may wait for one.
const CHANGES_TIMEOUT: Duration = Duration::from_mins(10);
/// Timeout of a read of some tenants' preferences.
const PREFERENCES_TIMEOUT: Duration = Duration::from_mins(1);
/// Timeout of a read of a job's items.
const LOAD_TIMEOUT: Duration = Duration::from_mins(5);
/// Timeout of a read of tenants' own data.
const FETCH_TIMEOUT: Duration = Duration::from_mins(1);

/// Panic or timeout of a guarded call.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum GuardError {
    /// It panicked, with this message.
    Panicked(String),
    /// It took longer than this.
    TimedOut(Duration),
}

impl fmt::Display for GuardError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Panicked(message) => write!(f, "panicked ({message})"),
            Self::TimedOut(limit) => write!(f, "did not answer within {} s", limit.as_secs()),
        }
    }
}

/// Awaits a call of the method `call`, for example `ResultSink::take`, for at most `limit`.
pub(crate) async fn guarded<T>(
    call: &'static str,
    limit: Duration,
    answer: impl Future<Output = T>,
) -> Result<T, GuardError> {
    let answer = AssertUnwindSafe(answer).catch_unwind();
    let (unanswered, reason) = match tokio::time::timeout(limit, answer).await {
        Ok(Ok(answer)) => return Ok(answer),
        Ok(Err(panic)) => (GuardError::Panicked(message_of(panic.as_ref())), "panic"),
        Err(_) => (GuardError::TimedOut(limit), "timeout"),
    };
    count(call, reason);
    Err(unanswered)
}

fn count(call: &'static str, reason: &'static str) {
    metrics::counter!("punctual_unanswered_calls_total", "call" => call, "reason" => reason)
        .increment(1);
}

/// A port whose calls that panic or hang are errors of those calls.
#[derive(Debug)]
pub struct Guarded<P>(pub P);

#[async_trait]
impl<P: ItemSource> ItemSource for Guarded<P> {
    async fn load(
        &self,
        sources: &BTreeMap<String, Source>,
    ) -> Result<BTreeMap<String, Vec<SourceItem>>, ItemSourceError> {
        let loaded = async { self.0.load(sources).await };
        let loaded = guarded("ItemSource::load", LOAD_TIMEOUT, loaded).await;
        loaded.unwrap_or_else(|unanswered| {
            let message = format!("the source of items {unanswered}");
            Err(ItemSourceError::new(
                ItemSourceErrorKind::Unavailable,
                message,
            ))
        })
    }
}

#[async_trait]
impl<P: TenantData> TenantData for Guarded<P> {
    async fn fetch(
        &self,
        source: &DataSource,
        request: &DataRequest,
    ) -> Result<TenantAnswers, HandlerError> {
        let fetched = async { self.0.fetch(source, request).await };
        let fetched = guarded("TenantData::fetch", FETCH_TIMEOUT, fetched).await;
        fetched.unwrap_or_else(|unanswered| {
            let message = format!("the provider {unanswered}");
            Err(HandlerError::retryable(message))
        })
    }
}

#[async_trait]
impl<P: ConfigDatabase> ConfigDatabase for Guarded<P> {
    async fn snapshot(
        &self,
        feature_type: &FeatureType,
    ) -> Result<SnapshotPages, ConfigDatabaseError> {
        const CALL: &str = "ConfigDatabase::snapshot";
        let ends = Instant::now() + SNAPSHOT_TIMEOUT;
        let read = async { self.0.snapshot(feature_type).await };
        let snapshot = known(CALL, SNAPSHOT_TIMEOUT, read).await?;
        let (cursor, known_at) = (snapshot.cursor.clone(), snapshot.known_at);
        let pages = stream::try_unfold(snapshot, move |mut snapshot| async move {
            let left = ends.saturating_duration_since(Instant::now());
            let page = known(CALL, left, snapshot.next()).await?;
            Ok(page.map(|page| (page, snapshot)))
        });
        let pages = SnapshotPages::new(cursor, pages);
        Ok(match known_at {
            Some(known_at) => pages.known_at(known_at),
            None => pages,
        })
    }

    async fn changes(
        &self,
        feature_type: &FeatureType,
        cursor: &Cursor,
        wait: Duration,
    ) -> Result<ChangePage, ConfigDatabaseError> {
        let read = async { self.0.changes(feature_type, cursor, wait).await };
        known("ConfigDatabase::changes", wait + CHANGES_TIMEOUT, read).await
    }

    async fn preferences(
        &self,
        feature_type: &FeatureType,
        tenants: &[TenantId],
    ) -> Result<HashMap<TenantId, PreferenceRecord>, ConfigDatabaseError> {
        let read = async { self.0.preferences(feature_type, tenants).await };
        known("ConfigDatabase::preferences", PREFERENCES_TIMEOUT, read).await
    }

    async fn erased(
        &self,
        feature_type: &FeatureType,
    ) -> Result<Vec<ErasedTenant>, ConfigDatabaseError> {
        let read = async { self.0.erased(feature_type).await };
        known("ConfigDatabase::erased", CHANGES_TIMEOUT, read).await
    }

    async fn publish(
        &self,
        feature_type: &FeatureType,
        jobs: &BTreeMap<JobId, JobDefaults>,
    ) -> Result<(), ConfigDatabaseError> {
        let published = async { self.0.publish(feature_type, jobs).await };
        known("ConfigDatabase::publish", PREFERENCES_TIMEOUT, published).await
    }

    async fn forget(
        &self,
        erased: &BTreeMap<TenantId, DateTime<Utc>>,
    ) -> Result<(), ConfigDatabaseError> {
        let forgotten = async { self.0.forget(erased).await };
        known("ConfigDatabase::forget", SNAPSHOT_TIMEOUT, forgotten).await
    }

    fn unreadable(&self, feature_type: &FeatureType) -> Arc<Unreadable> {
        let read = AssertUnwindSafe(|| self.0.unreadable(feature_type));
        std::panic::catch_unwind(read).unwrap_or_else(|_panic| {
            count("ConfigDatabase::unreadable", "panic");
            Arc::default()
        })
    }
}

/// A read of a Config Database.
async fn known<T>(
    call: &'static str,
    limit: Duration,
    read: impl Future<Output = Result<T, ConfigDatabaseError>>,
) -> Result<T, ConfigDatabaseError> {
    let read = guarded(call, limit, read).await;
    read.unwrap_or_else(|unanswered| {
        let message = format!("{call} {unanswered}");
        Err(ConfigDatabaseError::new(
            ConfigErrorKind::Unavailable,
            message,
        ))
    })
}

fn message_of(panic: &(dyn Any + Send)) -> String {
    let text = panic.downcast_ref::<&str>().map(|text| (*text).to_owned());
    text.or_else(|| panic.downcast_ref().cloned())
        .unwrap_or_else(|| "see the log".to_owned())
}

#[cfg(test)]
mod tests {
    use futures::StreamExt;
    use punctual_application::ports::MockConfigDatabase;

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_call_that_panics_or_hangs_is_an_error_of_that_call() {
        let limit = Duration::from_mins(1);
        assert_eq!(guarded("call", limit, async { 7 }).await, Ok(7));
        let panics = guarded("call", limit, async { panic!("number {}", 7) }).await;
        let panics: Result<(), _> = panics;
        assert_eq!(panics.unwrap_err().to_string(), "panicked (number 7)");
        let hangs = guarded("call", limit, std::future::pending::<()>()).await;
        assert_eq!(hangs.unwrap_err().to_string(), "did not answer within 60 s");
    }

    /// Panics, or hangs.
    struct Broken(bool);

    impl Broken {
        async fn misbehave<T>(&self) -> T {
            assert!(self.0, "broken");
            std::future::pending().await
        }
    }

    #[async_trait]
    impl ItemSource for Broken {
        async fn load(
            &self,
            _: &BTreeMap<String, Source>,
        ) -> Result<BTreeMap<String, Vec<SourceItem>>, ItemSourceError> {
            self.misbehave().await
        }
    }

    #[async_trait]
    impl ConfigDatabase for Broken {
        async fn snapshot(&self, _: &FeatureType) -> Result<SnapshotPages, ConfigDatabaseError> {
            self.misbehave().await
        }

        async fn changes(
            &self,
            _: &FeatureType,
            _: &Cursor,
            _: Duration,
        ) -> Result<ChangePage, ConfigDatabaseError> {
            self.misbehave().await
        }

        async fn preferences(
            &self,
            _: &FeatureType,
            _: &[TenantId],
        ) -> Result<HashMap<TenantId, PreferenceRecord>, ConfigDatabaseError> {
            self.misbehave().await
        }

        fn unreadable(&self, _: &FeatureType) -> Arc<Unreadable> {
            panic!("broken")
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_config_database_that_panics_or_hangs_is_an_error_of_that_call() {
        let feature = FeatureType::new("posts").unwrap();
        let wait = Duration::from_secs(30);
        for (hangs, texts) in [
            (false, ["panicked (broken)"; 3]),
            (
                true,
                [
                    "did not answer within 3600 s",
                    "did not answer within 630 s",
                    "did not answer within 60 s",
                ],
            ),
        ] {
            let broken = Guarded(Broken(hangs));
            let errors = [
                broken.snapshot(&feature).await.unwrap_err(),
                broken
                    .changes(&feature, &Cursor::default(), wait)
                    .await
                    .unwrap_err(),
                broken.preferences(&feature, &[]).await.unwrap_err(),
            ];
            let calls = ["snapshot", "changes", "preferences"];
            for ((error, call), text) in errors.iter().zip(calls).zip(texts) {
                assert_eq!(error.kind, ConfigErrorKind::Unavailable);
                assert_eq!(error.to_string(), format!("ConfigDatabase::{call} {text}"));
            }
            assert_eq!(broken.unreadable(&feature).count(), 0);
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_page_that_panics_or_hangs_ends_the_snapshot_with_an_error() {
        for (hangs, text) in [
            (false, "panicked (broken)"),
            (true, "did not answer within 3600 s"),
        ] {
            let mut inner = MockConfigDatabase::new();
            inner.expect_snapshot().returning(move |_| {
                let pages = stream::once(async { Ok(Vec::new()) });
                let broken = stream::once(async move { Broken(hangs).misbehave().await });
                Ok(SnapshotPages::new(Cursor::default(), pages.chain(broken)))
            });
            let feature = FeatureType::new("posts").unwrap();
            let mut snapshot = Guarded(inner).snapshot(&feature).await.unwrap();
            assert_eq!(snapshot.next().await.unwrap(), Some(Vec::new()));
            let error = snapshot.next().await.unwrap_err();
            assert_eq!(
                error.to_string(),
                format!("ConfigDatabase::snapshot {text}")
            );
            assert_eq!(snapshot.next().await.unwrap(), None);
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_source_of_items_that_panics_or_hangs_is_an_error_of_that_call() {
        for (hangs, text) in [
            (false, "panicked (broken)"),
            (true, "did not answer within 300 s"),
        ] {
            let error = Guarded(Broken(hangs))
                .load(&BTreeMap::new())
                .await
                .unwrap_err();
            assert_eq!(error.to_string(), format!("the source of items {text}"));
        }
    }
}
