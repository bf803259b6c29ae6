//! The Config Database over HTTP. It works with the reference server and with any other that has only the
//! three documented GETs; what a server can do beyond them is found out from its answers.
//!
//! # How often a failing call is made
//!
//! One GET that fails is attempted at most [`ClientOptions::attempts`] times, 4 by default: after 0.2 to 0.4 s, 0.4 to
//! 0.8 s and 0.8 to 1.6 s, or later when the server asks for it (`Retry-After`, up to 60 s). Once the circuit breaker is
//! open it is not attempted again, and a new call fails without any attempt. The preference of a tenant whose change came
//! without it is attempted once. Nothing above repeats a call: the feed begins a new read, and a chunk whose preferences
//! cannot be read returns to the queue. Each layer prevents what no other does:
//!
//! | layer | where | prevents |
//! |---|---|---|
//! | timeouts | `http.rs` | A call that never ends. |
//! | retry, 4 attempts | `http.rs` | One lost packet, or a server that restarts, ends a snapshot of many pages or sends a chunk back to the queue. |
//! | circuit breaker over all calls, 5 s after 5 failures in a row | `breaker.rs` | Each of many callers waits for its own timeouts, and their retries multiply the load of a server that is down or overloaded. |
//! | cache of single tenants | `cache.rs` | A call for each item; work on tenants known already stops while the server is down. |
//! | retry aside, 1 s to 5 min | `pending_fetches.rs` | One tenant that cannot be read keeps back the changes of all others. |
//! | last known good, on disk | `last_known_good.rs` | A process that starts while the server is down does nothing; an empty answer ends the runs of all tenants. |
//! | the feed's wait, 1 s to the poll interval | `feed.rs` of the scheduler | Reading ends for good, or goes on in a hot loop. |
//! | back to the queue, 5 s | `queue/worker.rs` | Work whose preferences cannot be read is lost. |
//!
//! A budget for retries is not among them: the breaker limits retries too, over all calls
//! (`a_dead_server_sees_little_more_than_the_calls_that_were_meant_for_it`).

mod breaker;
mod cache;
mod http;
mod pages;
mod pending_fetches;
mod quarantine;
mod wire;

use std::{
    collections::{BTreeMap, HashMap},
    sync::Arc,
    time::Duration,
};

use async_trait::async_trait;
use chrono::{DateTime, Utc};
use futures::{StreamExt, TryStreamExt, stream};
use punctual_application::{
    LogLimit, LogLine,
    ports::{
        ChangePage, ConfigDatabase, ConfigDatabaseError, ConfigErrorKind, Cursor, ErasedTenant,
        SnapshotPages, Unreadable,
    },
};
use punctual_domain::{
    Change, ChangeKind, FeatureType, FieldError, FieldErrorKind, JobDefaults, JobId,
    PreferenceRecord, Shard, TenantId,
};
use secrecy::SecretString;
use serde_json::{Map, Value, json};
use tokio::time::Instant;
use tracing::warn;

use self::{
    cache::{CachedPreference, Lookup, PreferenceCache},
    http::{CallOptions, Http, ServerAnswer},
    pages::Pages,
    pending_fetches::PendingFetches,
    quarantine::Quarantine,
    wire::{FeedEntry, PreferenceChange, RawChange, RejectedEntry},
};

/// Tenants asked for in one page of a snapshot, where the server can page.
const PAGE: usize = 5_000;
/// Tenants fetched one by one at the same time.
const MAX_CONCURRENT_FETCHES: usize = 16;
/// Time for one fetch of a tenant whose change came without a preference; then it is retried aside.
const FETCH_TIMEOUT: Duration = Duration::from_secs(5);
/// Time for all such fetches of a page.
const PAGE_FETCH_TIMEOUT: Duration = Duration::from_secs(30);
/// Time for finding the end of a plain server's feed.
const HEAD_TIMEOUT: Duration = Duration::from_mins(1);
/// The shortest time a server is asked to hold a call.
const MIN_LONG_POLL: Duration = Duration::from_secs(1);

/// What the program calls the settings that a client is made with, for its error messages.
#[derive(Debug, Clone, Copy)]
pub struct ClientSettingNames {
    /// The setting that holds the URL.
    pub url: &'static str,
    /// The setting that holds the key.
    pub api_key: &'static str,
}

impl Default for ClientSettingNames {
    fn default() -> Self {
        Self {
            url: "`ClientOptions::url`",
            api_key: "`ClientOptions::api_key`",
        }
    }
}

/// How to reach a Config Database.
#[derive(Debug, Clone)]
pub struct ClientOptions {
    /// Where it is, e.g. `http://127.0.0.1:8000`.
    pub url: String,
    /// The key, sent as a bearer token.
    pub api_key: Option<SecretString>,
    /// How long a tenant's preference is used without asking again.
    pub cache_ttl: Duration,
    /// How long a call may take, the waiting of a long poll aside.
    pub timeout: Duration,
    /// Number of attempts, in all, of a call that may succeed later.
    pub attempts: usize,
    /// The largest answer that is read, in bytes after decompression.
    pub max_answer_bytes: usize,
    /// The shards whose tenants are asked for; empty: all tenants. A server that knows no shards sends all, so put
    /// [`OfShards`](crate::OfShards) around the client.
    pub shards: Vec<Shard>,
    /// What error messages call `url` and `api_key`.
    pub names: ClientSettingNames,
}

impl ClientOptions {
    /// The usual options for a server at `url`.
    #[must_use]
    pub fn new(url: impl Into<String>) -> Self {
        Self {
            url: url.into(),
            api_key: None,
            cache_ttl: Duration::from_hours(1),
            timeout: Duration::from_secs(30),
            attempts: 4,
            max_answer_bytes: 256 * 1024 * 1024,
            shards: Vec::new(),
            names: ClientSettingNames::default(),
        }
    }
}

/// The port `ConfigDatabase` over HTTP, with a cache of single tenants' preferences that snapshots fill and
/// changes keep current.
///
/// A clone is the same client: the pages of a snapshot are read by one.
#[derive(Debug, Clone)]
pub struct ConfigDatabaseClient {
    http: Arc<Http>,
    cache: Arc<PreferenceCache>,
    quarantine: Arc<Quarantine>,
    pending_fetches: Arc<PendingFetches>,
    /// Lines of the log about tenants who are asked for one by one.
    logged_stale: Arc<LogLimit>,
    logged_rejected: Arc<LogLimit>,
    /// The parameter `shard`; `None`: all tenants.
    shard: Option<Arc<str>>,
}

impl ConfigDatabaseClient {
    /// A client; nothing is sent yet.
    ///
    /// # Errors
    /// When the URL is none, or no TLS is to be had.
    pub fn new(options: ClientOptions) -> Result<Self, ConfigDatabaseError> {
        let cache = PreferenceCache::new(options.cache_ttl);
        let shards = options
            .shards
            .iter()
            .filter(|_| !options.shards.contains(&Shard::WHOLE));
        let shards: Vec<String> = shards.map(Shard::to_string).collect();
        Ok(Self {
            shard: (!shards.is_empty()).then(|| shards.join(",").into()),
            http: Arc::new(Http::new(options)?),
            cache: Arc::new(cache),
            quarantine: Arc::default(),
            pending_fetches: Arc::default(),
            logged_stale: Arc::default(),
            logged_rejected: Arc::default(),
        })
    }

    /// Where the Config Database is, without anything secret.
    #[must_use]
    pub fn url(&self) -> String {
        self.http.shown_url()
    }

    /// A page of the feed, with nothing in it that was read before.
    async fn read_changes(
        &self,
        feature: &FeatureType,
        cursor: &Cursor,
        wait: Duration,
    ) -> Result<wire::Changes, ConfigDatabaseError> {
        let since = cursor.since_id;
        let mut query = vec![
            ("since_id", since.to_string()),
            ("feature_type", feature.to_string()),
        ];
        query.extend(self.shard.iter().map(|shard| ("shard", shard.to_string())));
        // Only a server that names its epoch is ours to ask for more than the plain GET.
        if cursor.epoch.is_some() && !wait.is_zero() {
            query.push(("wait", wait.as_secs().max(1).to_string()));
        }
        let call_options = CallOptions {
            wait,
            ..CallOptions::default()
        };
        let answer = self
            .http
            .get("preferences/changes", &query, call_options)
            .await?;
        if matches!(answer, ServerAnswer::Gone) {
            return Err(self.cursor_lost("no longer keeps changes that old"));
        }
        let mut page = self
            .http
            .read(&answer, |body| wire::Changes::read(body, feature))?;
        if cursor.epoch.is_some() && page.epoch != cursor.epoch {
            return Err(self.cursor_lost("was replaced by another"));
        }
        if page
            .last_id
            .or(page.newest())
            .is_some_and(|last| last < since)
        {
            return Err(self.cursor_lost(&format!("has restarted its feed before change {since}")));
        }
        let repeated = page
            .changes
            .iter()
            .filter(|change| change.id.is_some_and(|id| id < since))
            .count();
        page.changes
            .retain(|change| change.id.is_none_or(|id| id > since));
        if repeated > 0 {
            warn!(%feature, repeated, since,
                "The feed of {feature} repeats {repeated} changes from before change {since}; \
                 they are ignored");
        }
        let is_new = |change: &RawChange| change.id.is_some_and(|id| id > since);
        if page.has_more && !page.changes.iter().any(is_new) {
            warn!(%feature, since,
                "The feed of {feature} announces more changes after change {since} but returns \
                 none; the agent reads it again later");
            page.has_more = false;
        }
        Ok(page)
    }

    fn endless(&self, what: &str, why: &str) -> ConfigDatabaseError {
        ConfigDatabaseError::new(
            ConfigErrorKind::Malformed,
            format!(
                "Config Database at {} sends {what} without end: {why}; check its paging",
                self.http.shown_url()
            ),
        )
    }

    fn cursor_lost(&self, what: &str) -> ConfigDatabaseError {
        ConfigDatabaseError::new(
            ConfigErrorKind::CursorLost,
            format!(
                "Config Database at {} {what}; the agent takes a new snapshot",
                self.http.shown_url()
            ),
        )
    }

    /// The place in the feed that a plain server has reached, found by reading to its end. Where that cannot be
    /// reached, the feed is followed from as far as it could be read.
    async fn head(&self, feature: &FeatureType) -> Result<Cursor, ConfigDatabaseError> {
        let mut cursor = Cursor::default();
        let began = Instant::now();
        loop {
            let page = match self.read_changes(feature, &cursor, Duration::ZERO).await {
                Ok(page) => page,
                // Its snapshots still tell everything.
                Err(error) if error.kind == ConfigErrorKind::CursorLost => return Ok(cursor),
                Err(error) if error.kind == ConfigErrorKind::Malformed => {
                    warn!(%feature, %error, "Failed to find the end of the feed of {feature}: {error}");
                    return Ok(cursor);
                }
                Err(error) => return Err(error),
            };
            cursor.since_id = page.newest().unwrap_or_default().max(cursor.since_id);
            cursor.epoch = page.epoch;
            if !page.has_more {
                return Ok(cursor);
            }
            if began.elapsed() > HEAD_TIMEOUT {
                let error = self.endless("changes", "the end is not reached in time");
                warn!(%feature, %error, "Failed to find the end of the feed of {feature}: {error}");
                return Ok(cursor);
            }
        }
    }

    /// One tenant's preference from the server itself; with no record when the server says there is none, or one that
    /// cannot be read.
    async fn fetch(
        &self,
        feature: &FeatureType,
        tenant: &TenantId,
        known: Option<CachedPreference>,
        once: bool,
    ) -> Result<Result<CachedPreference, RejectedEntry>, ConfigDatabaseError> {
        let path = format!("tenants/{tenant}/configs/feature_preferences");
        let call_options = CallOptions {
            known: known.as_ref().and_then(|known| known.etag.as_ref()),
            once,
            ..CallOptions::default()
        };
        // With what the tenant's organization gives; a server that knows none gives what is stored.
        let effective = [("effective", "true".to_owned())];
        let answer = self.http.get(&path, &effective, call_options).await?;
        let etag = match &answer {
            ServerAnswer::Json { etag, .. } => etag.clone(),
            ServerAnswer::Missing => return Ok(Ok(CachedPreference::default())),
            // Only who sent an ETag is answered so.
            ServerAnswer::NotModified => return Ok(Ok(known.unwrap_or_default())),
            ServerAnswer::Gone => None,
        };
        let record = self
            .http
            .read(&answer, |body| wire::tenant_config(body, feature, tenant))?;
        Ok(record.map(|record| CachedPreference { record, etag }))
    }

    /// One tenant's preference, for everybody who asks for it at the same time.
    async fn fetch_and_cache(
        &self,
        feature: &FeatureType,
        tenant: TenantId,
    ) -> Result<Option<(TenantId, PreferenceRecord)>, ConfigDatabaseError> {
        let _fetch_lock = self.cache.fetch_lock(feature, &tenant).await;
        let stale = match self.cache.get(feature, &tenant) {
            // Somebody has fetched it meanwhile.
            Lookup::Fresh(known) => return Ok(known.record.map(|record| (tenant, record))),
            Lookup::Stale(known) => Some(known),
            Lookup::Unknown => None,
        };
        let record = match (
            self.fetch(feature, &tenant, stale.clone(), false).await,
            stale,
        ) {
            (Ok(Err(rejected_entry)), _) => {
                if self.logged_rejected.next(feature.as_str()).is_written() {
                    quarantine::log(feature, std::slice::from_ref(&rejected_entry), 0);
                }
                self.quarantine.hold(feature, rejected_entry);
                None
            }
            (Ok(Ok(known)), _) => {
                self.cache.put(feature, &tenant, known.clone());
                known.record
            }
            (Err(error), Some(known)) if error.kind == ConfigErrorKind::Unavailable => {
                let line = self.logged_stale.next(feature.as_str());
                if line.is_written() {
                    warn!(%tenant, %error, "Using the last known preference of {tenant}: {error}");
                }
                if line == LogLine::WriteLast {
                    warn!(%feature, "Leaving out more tenants of {feature} whose last known preference is used, for a minute");
                }
                known.record
            }
            (Err(error), _) => return Err(error),
        };
        Ok(record.map(|record| (tenant, record)))
    }

    /// Retries tenants whose preference could not be fetched when it changed.
    async fn fetch_pending(&self, feature: &FeatureType) -> Vec<Change> {
        let mut changes = Vec::new();
        let mut rejected = Vec::new();
        for (tenant_id, fetch) in self.pending_fetches.due(feature) {
            let change = FetchedChange {
                fetched: self
                    .fetch_until(Instant::now() + FETCH_TIMEOUT, feature, &tenant_id)
                    .await,
                tenant_id,
                changed_at: fetch.changed_at,
            };
            changes.extend(self.take_fetched(feature, change, &mut rejected));
        }
        quarantine::log(feature, &rejected, 0);
        changes
    }

    /// One tenant's preference, asked for once.
    async fn fetch_until(
        &self,
        deadline: Instant,
        feature: &FeatureType,
        tenant: &TenantId,
    ) -> Fetched {
        let fetch = self.fetch(feature, tenant, None, true);
        match tokio::time::timeout_at(deadline, fetch).await {
            Ok(Ok(fetched)) => Ok(fetched.map(|known| known.record)),
            Ok(Err(error)) => Err(error.to_string()),
            Err(_) => Err("no answer in time".to_owned()),
        }
    }

    /// The change that was fetched. While its preference cannot be had, the tenant keeps the one known before, and
    /// is shown with those that cannot be read.
    fn take_fetched(
        &self,
        feature: &FeatureType,
        FetchedChange {
            tenant_id,
            changed_at,
            fetched,
        }: FetchedChange,
        rejected: &mut Vec<RejectedEntry>,
    ) -> Option<Change> {
        match fetched {
            Ok(Ok(record)) => Some(self.changed(feature, tenant_id, record, changed_at)),
            Ok(Err(rejected_entry)) => {
                self.quarantine.hold(feature, rejected_entry.clone());
                rejected.push(rejected_entry);
                Some(self.unreadable_change(feature, tenant_id, changed_at))
            }
            Err(reason) => {
                self.pending_fetches.add(feature, &tenant_id, changed_at);
                let rejected_entry = RejectedEntry {
                    error: Box::new(FieldError {
                        pointer: format!("/tenants/{tenant_id}/configs/feature_preferences"),
                        value: None,
                        problem: format!("has changed and cannot be fetched: {reason}"),
                        remedy:
                            "the preference known before is used meanwhile, and the agent retries"
                                .into(),
                        kind: FieldErrorKind::Other,
                    }),
                    tenant: Some(tenant_id),
                };
                self.quarantine.hold(feature, rejected_entry.clone());
                rejected.push(rejected_entry);
                None
            }
        }
    }

    /// A change that can be read.
    fn changed(
        &self,
        feature: &FeatureType,
        tenant_id: TenantId,
        record: Option<PreferenceRecord>,
        changed_at: Option<DateTime<Utc>>,
    ) -> Change {
        self.pending_fetches.settle(feature, &tenant_id);
        self.quarantine.release(feature, &tenant_id);
        self.cache.put(feature, &tenant_id, record.clone().into());
        let schedule_since = record.as_ref().and_then(|record| record.schedule_since);
        let (kind, organization) = match record {
            Some(record) => (ChangeKind::Upserted(record.preference), record.organization),
            None => (ChangeKind::Deleted, None),
        };
        Change {
            tenant_id,
            feature_type: feature.clone(),
            kind,
            changed_at,
            schedule_since,
            organization,
        }
    }

    /// A change that cannot be read: what was known of the tenant no longer holds.
    fn unreadable_change(
        &self,
        feature: &FeatureType,
        tenant_id: TenantId,
        changed_at: Option<DateTime<Utc>>,
    ) -> Change {
        self.pending_fetches.settle(feature, &tenant_id);
        self.cache.forget(feature, &tenant_id);
        Change {
            tenant_id,
            feature_type: feature.clone(),
            kind: ChangeKind::Deleted,
            changed_at,
            schedule_since: None,
            organization: None,
        }
    }

    /// The changes of a page, in their order. An entry that cannot be read spoils no other.
    async fn to_changes(&self, feature: &FeatureType, raw: Vec<RawChange>) -> Vec<Change> {
        let page_ends = Instant::now() + PAGE_FETCH_TIMEOUT;
        let read = stream::iter(raw).map(|raw| async move {
            let (tenant_id, changed_at) = match &raw.what {
                FeedEntry::Change {
                    tenant_id,
                    news: PreferenceChange::NotIncluded,
                    changed_at,
                    ..
                } => (tenant_id.clone(), *changed_at),
                _ => return Err(raw.what),
            };
            let deadline = page_ends.min(Instant::now() + FETCH_TIMEOUT);
            let fetched = self.fetch_until(deadline, feature, &tenant_id).await;
            Ok(FetchedChange {
                tenant_id,
                changed_at,
                fetched,
            })
        });
        let mut read = read.buffered(MAX_CONCURRENT_FETCHES);
        let (mut changes, mut rejected) = (Vec::new(), Vec::new());
        while let Some(read) = read.next().await {
            let what = match read {
                Ok(fetched) => {
                    changes.extend(self.take_fetched(feature, fetched, &mut rejected));
                    continue;
                }
                Err(what) => what,
            };
            match what {
                FeedEntry::Other => {}
                FeedEntry::Change {
                    tenant_id,
                    news,
                    changed_at,
                    schedule_since,
                    organization,
                } => {
                    let is_erased = matches!(news, PreferenceChange::Erased);
                    let record = match news {
                        PreferenceChange::Preference(preference) => Some(PreferenceRecord {
                            tenant_id: tenant_id.clone(),
                            preference,
                            updated_at: changed_at,
                            schedule_since,
                            organization,
                        }),
                        PreferenceChange::Deleted
                        | PreferenceChange::Erased
                        | PreferenceChange::NotIncluded => None,
                    };
                    let mut change = self.changed(feature, tenant_id, record, changed_at);
                    if is_erased {
                        change.kind = ChangeKind::Erased;
                        self.cache.forget(feature, &change.tenant_id);
                    }
                    changes.push(change);
                }
                FeedEntry::Rejected(rejected_entry) => {
                    let tenant = rejected_entry.tenant.clone();
                    changes
                        .extend(tenant.map(|tenant| self.unreadable_change(feature, tenant, None)));
                    self.quarantine.hold(feature, rejected_entry.clone());
                    rejected.push(rejected_entry);
                }
            }
        }
        quarantine::log(feature, &rejected, 0);
        changes
    }
}

/// A tenant's record, what is wrong with it, or why it cannot be had.
type Fetched = Result<Result<Option<PreferenceRecord>, RejectedEntry>, String>;

/// A change whose preference had to be fetched.
struct FetchedChange {
    tenant_id: TenantId,
    changed_at: Option<DateTime<Utc>>,
    fetched: Fetched,
}

/// A read of all preferences of a feature, page by page where the server pages.
struct GroupsRead {
    client: ConfigDatabaseClient,
    feature: FeatureType,
    groups: wire::Groups,
    pages: Pages,
    next: NextPage,
}

/// The page of a read that comes next.
enum NextPage {
    First,
    After(String),
    None,
}

impl GroupsRead {
    fn new(client: &ConfigDatabaseClient, feature: &FeatureType) -> Self {
        Self {
            client: client.clone(),
            feature: feature.clone(),
            groups: wire::Groups::default(),
            pages: Pages::new(),
            next: NextPage::First,
        }
    }

    /// The records of the next page; `None` after the last. Then what could not be read in all of them replaces what could
    /// not be read before.
    async fn next(&mut self) -> Result<Option<Vec<PreferenceRecord>>, ConfigDatabaseError> {
        let client = &self.client;
        let mut query = vec![
            ("feature_type", self.feature.to_string()),
            ("limit", PAGE.to_string()),
        ];
        let shard = client.shard.iter();
        query.extend(shard.map(|shard| ("shard", shard.to_string())));
        match &self.next {
            NextPage::First => {}
            NextPage::After(cursor) => query.push(("cursor", cursor.clone())),
            NextPage::None => {
                let rejected = std::mem::take(&mut self.groups.rejected);
                client.pending_fetches.settle_all(&self.feature);
                client
                    .quarantine
                    .replace(&self.feature, rejected, self.groups.more_rejected);
                return Ok(None);
            }
        }
        let answer = client
            .http
            .get("preferences/groups", &query, CallOptions::default())
            .await?;
        let page = client.http.read(&answer, wire::GroupsPage::read)?;
        let (next, content) = (page.next_cursor.clone(), page.content());
        let before = self.groups.len();
        if !self.groups.add(page) {
            return Err(client.cursor_lost("was replaced by another while it was read"));
        }
        self.next = match next {
            None => NextPage::None,
            Some(next) => {
                let content = (self.groups.len() > before).then_some(content);
                self.pages
                    .check_next(&next, content, self.groups.len())
                    .map_err(|why| client.endless("groups", &why))?;
                NextPage::After(next)
            }
        };
        let records = self.groups.take_records();
        for record in &records {
            let known = Some(record.clone()).into();
            client.cache.put(&self.feature, &record.tenant_id, known);
        }
        Ok(Some(records))
    }
}

#[async_trait]
impl ConfigDatabase for ConfigDatabaseClient {
    async fn snapshot(
        &self,
        feature_type: &FeatureType,
    ) -> Result<SnapshotPages, ConfigDatabaseError> {
        let mut read = GroupsRead::new(self, feature_type);
        let mut first = read.next().await?;
        let cursor = if let Some(since_id) = read.groups.as_of_id {
            Cursor {
                since_id,
                epoch: read.groups.epoch.clone(),
            }
        } else {
            // A plain server does not say where its snapshot stands in the feed: take the feed's end
            // first, so that whatever changes meanwhile comes again as a change.
            let head = self.head(feature_type).await?;
            read = GroupsRead::new(self, feature_type);
            first = read.next().await?;
            head
        };
        let pages = stream::try_unfold((first, read), |(first, mut read)| async move {
            let page = match first {
                Some(page) => Some(page),
                None => read.next().await?,
            };
            Ok(page.map(|page| (page, (None, read))))
        });
        Ok(SnapshotPages::new(cursor, pages))
    }

    async fn changes(
        &self,
        feature_type: &FeatureType,
        cursor: &Cursor,
        wait: Duration,
    ) -> Result<ChangePage, ConfigDatabaseError> {
        let mut cursor = cursor.clone();
        let waited = cursor.epoch.is_some();
        let ends = Instant::now() + wait;
        if self.pending_fetches.is_full(feature_type) {
            return Err(self.cursor_lost("cannot give the preferences of too many tenants"));
        }
        loop {
            let changes = self.fetch_pending(feature_type).await;
            if !changes.is_empty() {
                return Ok(ChangePage {
                    changes,
                    cursor,
                    has_more: true,
                    waited,
                });
            }
            // A long poll ends in time for the next retry.
            let left = ends.saturating_duration_since(Instant::now());
            let retry_in = self
                .pending_fetches
                .next_retry_in(feature_type)
                .unwrap_or(left)
                .max(MIN_LONG_POLL);
            let wait = left.min(retry_in);
            let began = Instant::now();
            let page = self.read_changes(feature_type, &cursor, wait).await?;
            cursor = Cursor {
                since_id: page.newest().unwrap_or_default().max(cursor.since_id),
                epoch: page.epoch,
            };
            let was_held = waited && began.elapsed() >= wait / 2;
            if page.changes.is_empty() && wait < left && was_held {
                continue;
            }
            return Ok(ChangePage {
                changes: self.to_changes(feature_type, page.changes).await,
                cursor,
                has_more: page.has_more,
                waited,
            });
        }
    }

    async fn preferences(
        &self,
        feature_type: &FeatureType,
        tenants: &[TenantId],
    ) -> Result<HashMap<TenantId, PreferenceRecord>, ConfigDatabaseError> {
        let mut found = HashMap::with_capacity(tenants.len());
        let mut to_fetch = Vec::new();
        for tenant in tenants {
            match self.cache.get(feature_type, tenant) {
                Lookup::Fresh(known) => {
                    found.extend(known.record.map(|record| (tenant.clone(), record)));
                }
                Lookup::Stale(_) | Lookup::Unknown => to_fetch.push(tenant.clone()),
            }
        }
        let fetched: Vec<_> = stream::iter(to_fetch)
            .map(|tenant| self.fetch_and_cache(feature_type, tenant))
            .buffer_unordered(MAX_CONCURRENT_FETCHES)
            .try_collect()
            .await?;
        found.extend(fetched.into_iter().flatten());
        Ok(found)
    }

    async fn erased(
        &self,
        feature_type: &FeatureType,
    ) -> Result<Vec<ErasedTenant>, ConfigDatabaseError> {
        let (mut erased, mut since_id) = (Vec::new(), 0);
        loop {
            let query = [
                ("feature_type", feature_type.to_string()),
                ("since_id", since_id.to_string()),
            ];
            let answer = self
                .http
                .get("preferences/erased", &query, CallOptions::default());
            let answer = answer.await?;
            if matches!(answer, ServerAnswer::Missing | ServerAnswer::Gone) {
                // A server that knows of no erasures.
                return Ok(erased);
            }
            let page = self.http.read(&answer, wire::ErasedPage::read)?;
            erased.extend(page.erased);
            if !page.has_more {
                return Ok(erased);
            }
            if page.last_id <= since_id {
                return Err(self.endless("erased tenants", "a page ends where it begins"));
            }
            since_id = page.last_id;
        }
    }

    async fn publish(
        &self,
        feature_type: &FeatureType,
        jobs: &BTreeMap<JobId, JobDefaults>,
    ) -> Result<(), ConfigDatabaseError> {
        let job = |(job_id, job): (&JobId, &JobDefaults)| (job_id.to_string(), job.to_json());
        let jobs: Map<String, Value> = jobs.iter().map(job).collect();
        let path = format!("feature-types/{feature_type}/jobs");
        match self.http.put(&path, &json!({ "jobs": jobs })).await? {
            ServerAnswer::Json { .. } => Ok(()),
            ServerAnswer::NotModified | ServerAnswer::Missing | ServerAnswer::Gone => {
                Err(ConfigDatabaseError::new(
                    ConfigErrorKind::Malformed,
                    format!("the Config Database does not know PUT {path}"),
                ))
            }
        }
    }

    async fn forget(
        &self,
        erased: &BTreeMap<TenantId, DateTime<Utc>>,
    ) -> Result<(), ConfigDatabaseError> {
        for tenant_id in erased.keys() {
            self.cache.forget_everywhere(tenant_id);
            self.quarantine.forget(tenant_id);
            self.pending_fetches.forget(tenant_id);
        }
        Ok(())
    }

    fn unreadable(&self, feature_type: &FeatureType) -> Arc<Unreadable> {
        self.quarantine.of(feature_type)
    }
}
