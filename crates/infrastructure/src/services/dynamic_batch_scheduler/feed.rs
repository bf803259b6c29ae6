//! The feed of one feature: a snapshot, then the changes after it, for ever; a full read now and then finds
//! what the changes did not bring. An error changes nothing: what was known stays in effect.

use std::{sync::Arc, time::Duration};

use chrono::{DateTime, Utc};
use punctual_application::{
    backoff::{Backoff, jittered},
    ports::{Clock, ConfigDatabase, ConfigDatabaseError, ConfigErrorKind, Cursor, ErasedTenant},
};
use punctual_domain::{Change, FeatureType, PreferenceRecord};
use tokio::{sync::mpsc, time::Instant};
use tokio_util::sync::CancellationToken;
use tracing::{error, info, warn};

/// How often everything is read again although changes have been followed.
const RECONCILE_EVERY: Duration = Duration::from_hours(1);
/// The longest a server is asked to hold a call.
const LONGEST_WAIT: Duration = Duration::from_secs(30);
/// Pages of changes in a row that announce more. A feed that does not end then is read as a whole.
const MOST_PAGES: usize = 10_000;
/// The first wait after a failed read; the longest is the poll interval.
const FIRST_RETRY: Duration = Duration::from_secs(1);

/// News of a feature's preferences.
#[derive(Debug)]
pub(super) struct FeedEvent {
    pub(super) feature_type: FeatureType,
    /// Cancelled once the feed has ended. What it sent before is out of date then: another feed may have begun to read.
    pub(super) ends: CancellationToken,
    pub(super) news: News,
}

#[derive(Debug)]
pub(super) enum News {
    /// All preferences follow, page by page. A snapshot that has begun before and not ended does not go on.
    SnapshotBegins,
    /// A page of the snapshot.
    SnapshotPage(Vec<PreferenceRecord>),
    /// There are no more pages. Preferences stored before `read_at` were among their `records`.
    SnapshotEnds {
        records: usize,
        read_at: DateTime<Utc>,
    },
    /// Changes since the last news; there are no others that were stored before `read_at`.
    Changes {
        changes: Vec<Change>,
        read_at: DateTime<Utc>,
    },
    /// All tenants that were erased, as far as the Config Database remembers them. The snapshot before has none of them.
    Erased(Vec<ErasedTenant>),
    /// They cannot be read.
    Trouble(String),
}

/// Follows one feature.
pub(super) struct Feed {
    pub(super) feature_type: FeatureType,
    pub(super) config_database: Arc<dyn ConfigDatabase>,
    pub(super) clock: Arc<dyn Clock>,
    pub(super) poll_interval: Duration,
    /// Gives numbers from 0 up to 1.
    pub(super) random: fn() -> f64,
    pub(super) events: mpsc::Sender<FeedEvent>,
    /// Whether the tenants are asked for that were erased while the feed was not followed.
    pub(super) asks_for_erased: bool,
    /// Ends the feed.
    pub(super) ends: CancellationToken,
}

/// The receiver has been dropped.
struct Closed;

impl Feed {
    pub(super) async fn follow(self) {
        tokio::select! {
            biased;
            Err(Closed) = self.follow_for_ever() => {}
            () = self.ends.cancelled() => {}
        }
    }

    async fn follow_for_ever(&self) -> Result<std::convert::Infallible, Closed> {
        let mut cursor: Option<Cursor> = None;
        let mut reconcile_at = Instant::now();
        let backoff = Backoff::new(FIRST_RETRY, self.poll_interval.max(FIRST_RETRY));
        let mut failures = 0_u32;
        let mut failing_since = None;
        let mut pages = 0;
        loop {
            let due = Instant::now() >= reconcile_at;
            let old = cursor.take();
            let (following, read) = match &old {
                Some(cursor) if !due => (true, self.read_changes(cursor).await?),
                _ => (false, self.read_all().await?),
            };
            let error = match read {
                Ok(progress) if following && progress.has_more && pages == MOST_PAGES => {
                    pages = 0;
                    self.endless()
                }
                Ok(FeedPosition {
                    cursor: next,
                    known_before,
                    has_more,
                }) => {
                    cursor = Some(next);
                    pages = if has_more { pages + 1 } else { 0 };
                    if known_before {
                        reconcile_at = Instant::now() + self.poll_interval;
                    } else if due {
                        reconcile_at = Instant::now() + RECONCILE_EVERY;
                    }
                    // A snapshot alone does not show that the feed can be followed again.
                    if following && !has_more {
                        failures = 0;
                        if let Some(since) = failing_since.take() {
                            self.recovered(since);
                        }
                    }
                    continue;
                }
                Err(error) => error,
            };
            let feature_type = &self.feature_type;
            failures = failures.saturating_add(1);
            let retry = backoff.after(failures);
            let retry_in_ms = retry.as_millis() as u64;
            match error.kind {
                ConfigErrorKind::CursorLost if failures == 1 => {
                    info!(%feature_type, "{error}");
                }
                ConfigErrorKind::CursorLost => warn!(%feature_type, retry_in_ms,
                    "Failed to follow the feed of {feature_type}: {error}"),
                kind => {
                    error!(%feature_type, %error, retry_in_ms,
                        "Preferences not being detected for {feature_type}: {error}");
                    failing_since.get_or_insert_with(Instant::now);
                    self.send(News::Trouble(error.to_string())).await?;
                    if following && kind == ConfigErrorKind::Malformed {
                        // Whatever stands in the feed there, a full read leads past it.
                        reconcile_at = Instant::now();
                    } else if old.is_some() && due {
                        // A full read that fails does not end the following of changes.
                        reconcile_at = Instant::now() + self.poll_interval;
                    }
                    cursor = old;
                }
            }
            let asked = error.retry_after.unwrap_or_default();
            tokio::time::sleep(jittered(retry, (self.random)()).max(asked)).await;
        }
    }

    /// Says that changes are followed again.
    fn recovered(&self, failing_since: Instant) {
        let feature_type = &self.feature_type;
        let after_ms = failing_since.elapsed().as_millis() as u64;
        info!(%feature_type, after_ms, "Reading the preferences of {feature_type} again");
    }

    fn endless(&self) -> ConfigDatabaseError {
        ConfigDatabaseError::new(
            ConfigErrorKind::CursorLost,
            format!(
                "{MOST_PAGES} pages in a row announce more changes; the agent takes a new snapshot"
            ),
        )
    }

    async fn read_all(&self) -> Result<Read, Closed> {
        let read_at = self.clock.now();
        let mut snapshot = match self.config_database.snapshot(&self.feature_type).await {
            Ok(snapshot) => snapshot,
            Err(error) => return Ok(Err(error)),
        };
        self.send(News::SnapshotBegins).await?;
        let mut records = 0;
        loop {
            match snapshot.next().await {
                Ok(Some(page)) => {
                    records += page.len();
                    self.send(News::SnapshotPage(page)).await?;
                }
                Ok(None) => break,
                Err(error) => return Ok(Err(error)),
            }
        }
        let known_at = snapshot.known_at;
        let news = News::SnapshotEnds {
            records,
            read_at: known_at.unwrap_or(read_at),
        };
        self.send(news).await?;
        if self.asks_for_erased && known_at.is_none() {
            self.find_erased().await?;
        }
        if let Some(known_at) = known_at {
            let since = format!("cannot read preferences; those known at {known_at} are in effect");
            self.send(News::Trouble(since)).await?;
        }
        Ok(Ok(FeedPosition {
            cursor: snapshot.cursor,
            known_before: known_at.is_some(),
            has_more: false,
        }))
    }

    /// Gives on who was erased while the feed was not followed, or before a process ended that was to erase them. It follows the
    /// snapshot, so that nothing is planned for them any more.
    async fn find_erased(&self) -> Result<(), Closed> {
        let feature_type = &self.feature_type;
        match self.config_database.erased(feature_type).await {
            Ok(erased) => self.send(News::Erased(erased)).await,
            Err(error) => {
                warn!(%feature_type, %error,
                    "Failed to read which tenants of {feature_type} were erased, retrying with the next \
                     full read: {error}");
                Ok(())
            }
        }
    }

    async fn read_changes(&self, cursor: &Cursor) -> Result<Read, Closed> {
        let read_at = self.clock.now();
        let wait = self.poll_interval.min(LONGEST_WAIT);
        let began = Instant::now();
        let changes = self
            .config_database
            .changes(&self.feature_type, cursor, wait);
        match changes.await {
            Err(error) => Ok(Err(error)),
            Ok(page) => {
                // A server may promise to hold the call and not do it.
                let held = page.waited && (!page.changes.is_empty() || began.elapsed() >= wait / 2);
                self.send(News::Changes {
                    changes: page.changes,
                    read_at,
                })
                .await?;
                if !page.has_more && !held {
                    // Agents that were started together do not go on calling together.
                    tokio::time::sleep(jittered(self.poll_interval, (self.random)())).await;
                }
                Ok(Ok(FeedPosition {
                    cursor: page.cursor,
                    known_before: false,
                    has_more: page.has_more,
                }))
            }
        }
    }

    async fn send(&self, news: News) -> Result<(), Closed> {
        let event = FeedEvent {
            feature_type: self.feature_type.clone(),
            ends: self.ends.clone(),
            news,
        };
        self.events.send(event).await.map_err(|_| Closed)
    }
}

/// Where a read has led.
struct FeedPosition {
    cursor: Cursor,
    /// Whether it only repeated what was known before, because nothing newer can be read.
    known_before: bool,
    /// Whether more changes are waiting already.
    has_more: bool,
}

type Read = Result<FeedPosition, ConfigDatabaseError>;
