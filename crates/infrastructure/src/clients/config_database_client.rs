//! The Config Database over HTTP. It works with the reference server and with any other that has only the
//! three documented GETs; what a server can do beyond them is found out from its answers.

mod breaker;
mod cache;
mod http;
mod wire;

use std::{collections::HashMap, time::Duration};

use async_trait::async_trait;
use futures::{StreamExt, TryStreamExt, stream};
use punctual_application::ports::{
    ChangePage, ConfigDatabase, ConfigDatabaseError, ConfigErrorKind, Cursor, Snapshot,
};
use punctual_domain::{Change, ChangeKind, FeatureType, PreferenceRecord, TenantId};
use secrecy::SecretString;
use tracing::warn;

use self::{
    cache::{Known, Lookup, PreferenceCache},
    http::{Answer, Ask, Http},
    wire::{RawChange, TenantConfig},
};

/// Tenants asked for in one page of a snapshot, where the server can page.
const PAGE: usize = 5_000;
/// Tenants fetched one by one at the same time.
const FETCHES: usize = 16;

/// How to reach a Config Database.
#[derive(Debug, Clone)]
pub struct ClientOptions {
    /// Where it is, as `http://127.0.0.1:8000`.
    pub url: String,
    /// The key, sent as a bearer token.
    pub api_key: Option<SecretString>,
    /// How long a tenant's preference is used without asking again.
    pub cache_ttl: Duration,
    /// How long a call may take, the waiting of a long poll aside.
    pub timeout: Duration,
    /// How often a call that may succeed later is tried in all.
    pub attempts: usize,
    /// The largest answer that is read, in bytes after decompression.
    pub max_answer_bytes: usize,
}

impl ClientOptions {
    /// The usual options for a server at `url`.
    #[must_use]
    pub fn new(url: impl Into<String>) -> Self {
        Self {
            url: url.into(),
            api_key: None,
            cache_ttl: Duration::from_secs(3600),
            timeout: Duration::from_secs(30),
            attempts: 4,
            max_answer_bytes: 256 * 1024 * 1024,
        }
    }
}

/// The port `ConfigDatabase` over HTTP, with a cache of single tenants' preferences that snapshots fill and
/// changes keep current.
#[derive(Debug)]
pub struct ConfigDatabaseClient {
    http: Http,
    cache: PreferenceCache,
}

impl ConfigDatabaseClient {
    /// A client; nothing is sent yet.
    ///
    /// # Errors
    /// When the URL is none, or no TLS is to be had.
    pub fn new(options: ClientOptions) -> Result<Self, ConfigDatabaseError> {
        let cache = PreferenceCache::new(options.cache_ttl);
        Ok(Self {
            http: Http::new(options)?,
            cache,
        })
    }

    /// Where the Config Database is, without anything secret.
    #[must_use]
    pub fn url(&self) -> String {
        self.http.shown_url()
    }

    /// All preferences of a feature, page by page where the server pages.
    async fn read_groups(
        &self,
        feature: &FeatureType,
    ) -> Result<wire::Groups, ConfigDatabaseError> {
        let mut all = wire::Groups::default();
        let mut page_cursor: Option<String> = None;
        loop {
            let mut query = vec![
                ("feature_type", feature.to_string()),
                ("limit", PAGE.to_string()),
            ];
            query.extend(page_cursor.take().map(|cursor| ("cursor", cursor)));
            let answer = self
                .http
                .get("preferences/groups", &query, Ask::default())
                .await?;
            let page: wire::GroupsPage = answer.json()?;
            let next = page.next_cursor.clone();
            if !all.add(page) {
                return Err(self.cursor_lost("was replaced by another while it was read"));
            }
            match next {
                Some(next) => page_cursor = Some(next),
                None => return Ok(all),
            }
        }
    }

    async fn read_changes(
        &self,
        feature: &FeatureType,
        cursor: &Cursor,
        wait: Duration,
    ) -> Result<wire::Changes, ConfigDatabaseError> {
        let mut query = vec![
            ("since_id", cursor.since_id.to_string()),
            ("feature_type", feature.to_string()),
        ];
        // Only a server that names its epoch is ours to ask for more than the plain GET.
        if cursor.epoch.is_some() && !wait.is_zero() {
            query.push(("wait", wait.as_secs().to_string()));
        }
        let ask = Ask { wait, known: None };
        let changes: wire::Changes = match self.http.get("preferences/changes", &query, ask).await?
        {
            Answer::Gone => return Err(self.cursor_lost("no longer keeps changes that old")),
            answer => answer.json()?,
        };
        if cursor.epoch.is_some() && changes.epoch != cursor.epoch {
            return Err(self.cursor_lost("was replaced by another"));
        }
        Ok(changes)
    }

    fn cursor_lost(&self, what: &str) -> ConfigDatabaseError {
        ConfigDatabaseError {
            kind: ConfigErrorKind::CursorLost,
            message: format!(
                "Config Database at {} {what}; a new snapshot is taken",
                self.http.shown_url()
            ),
            retry_after: None,
        }
    }

    /// The place in the feed that a plain server has reached, found by reading to its end.
    async fn head(&self, feature: &FeatureType) -> Result<Cursor, ConfigDatabaseError> {
        let mut cursor = Cursor::default();
        loop {
            let changes = self.read_changes(feature, &cursor, Duration::ZERO).await?;
            let last = changes.last_id(cursor.since_id);
            if !changes.has_more || last == cursor.since_id {
                return Ok(Cursor {
                    since_id: last,
                    epoch: changes.epoch,
                });
            }
            cursor.since_id = last;
        }
    }

    /// One tenant's preference from the server itself; with no record when the server says there is none.
    async fn fetch(
        &self,
        feature: &FeatureType,
        tenant: &TenantId,
        known: Option<Known>,
    ) -> Result<Known, ConfigDatabaseError> {
        let path = format!("tenants/{tenant}/configs/feature_preferences");
        let ask = Ask {
            known: known.as_ref().and_then(|known| known.etag.as_ref()),
            ..Ask::default()
        };
        let answer = self.http.get(&path, &[], ask).await?;
        let etag = match &answer {
            Answer::Json { etag, .. } => etag.clone(),
            Answer::Missing => return Ok(Known::default()),
            // Only who sent an ETag is answered so.
            Answer::Known => return Ok(known.unwrap_or_default()),
            Answer::Gone => None,
        };
        let config: TenantConfig = answer.json()?;
        let record = config.preference(feature, tenant);
        Ok(Known { record, etag })
    }

    /// One tenant's preference, for everybody who asks for it at the same time.
    async fn fetch_and_cache(
        &self,
        feature: &FeatureType,
        tenant: TenantId,
    ) -> Result<Option<(TenantId, PreferenceRecord)>, ConfigDatabaseError> {
        let _flight = self.cache.only_one(feature, &tenant).await;
        let stale = match self.cache.get(feature, &tenant) {
            // Somebody has fetched it meanwhile.
            Lookup::Fresh(known) => return Ok(known.record.map(|record| (tenant, record))),
            Lookup::Stale(known) => Some(known),
            Lookup::Unknown => None,
        };
        let record = match (self.fetch(feature, &tenant, stale.clone()).await, stale) {
            (Ok(known), _) => {
                self.cache.put(feature, &tenant, known.clone());
                known.record
            }
            (Err(error), Some(known)) if error.kind == ConfigErrorKind::Unavailable => {
                warn!(%tenant, %error, "The last known preference of {tenant} is used: {error}");
                known.record
            }
            (Err(error), _) => return Err(error),
        };
        Ok(record.map(|record| (tenant, record)))
    }

    /// A raw entry of the feed as a change; `None` when it is about something else.
    async fn to_change(
        &self,
        feature: &FeatureType,
        raw: RawChange,
    ) -> Result<Option<Change>, ConfigDatabaseError> {
        if !raw.is_about(feature) {
            return Ok(None);
        }
        let Ok(tenant_id) = TenantId::new(&raw.tenant_id) else {
            warn!(
                change_id = raw.id,
                "Change {} names a tenant that cannot be one; it is left out", raw.id
            );
            return Ok(None);
        };
        let record = if raw.is_deletion() {
            None
        } else {
            match raw.preference {
                Some(preference) => Some(PreferenceRecord {
                    tenant_id: tenant_id.clone(),
                    preference: preference.into(),
                    updated_at: raw.changed_at,
                    schedule_since: raw.schedule_since,
                }),
                None => self.fetch(feature, &tenant_id, None).await?.record,
            }
        };
        let schedule_since = record.as_ref().and_then(|record| record.schedule_since);
        self.cache.put(feature, &tenant_id, record.clone().into());
        let kind = match record {
            Some(record) => ChangeKind::Upserted(record.preference),
            None => ChangeKind::Deleted,
        };
        Ok(Some(Change {
            tenant_id,
            feature_type: feature.clone(),
            kind,
            changed_at: raw.changed_at,
            schedule_since,
        }))
    }
}

#[async_trait]
impl ConfigDatabase for ConfigDatabaseClient {
    async fn snapshot(&self, feature_type: &FeatureType) -> Result<Snapshot, ConfigDatabaseError> {
        let mut groups = self.read_groups(feature_type).await?;
        let cursor = match groups.as_of_id {
            Some(since_id) => Cursor {
                since_id,
                epoch: groups.epoch.take(),
            },
            None => {
                // A plain server does not say where its snapshot stands in the feed: take the feed's end
                // first, so that whatever changes meanwhile comes again as a change.
                let head = match self.head(feature_type).await {
                    // It keeps too little of its feed to be followed; its snapshots still tell everything.
                    Err(error) if error.kind == ConfigErrorKind::CursorLost => Cursor::default(),
                    head => head?,
                };
                groups = self.read_groups(feature_type).await?;
                head
            }
        };
        let records = groups.into_records(feature_type);
        for record in &records {
            let known = Some(record.clone()).into();
            self.cache.put(feature_type, &record.tenant_id, known);
        }
        Ok(Snapshot {
            records,
            cursor,
            known_at: None,
        })
    }

    async fn changes(
        &self,
        feature_type: &FeatureType,
        cursor: &Cursor,
        wait: Duration,
    ) -> Result<ChangePage, ConfigDatabaseError> {
        let raw = self.read_changes(feature_type, cursor, wait).await?;
        let since_id = raw.last_id(cursor.since_id);
        let (has_more, epoch) = (
            raw.has_more && since_id > cursor.since_id,
            raw.epoch.clone(),
        );
        let changes: Vec<Option<Change>> = stream::iter(raw.changes)
            .map(|change| self.to_change(feature_type, change))
            .buffered(FETCHES)
            .try_collect()
            .await?;
        Ok(ChangePage {
            changes: changes.into_iter().flatten().collect(),
            cursor: Cursor { since_id, epoch },
            has_more,
            waited: cursor.epoch.is_some(),
        })
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
            .buffer_unordered(FETCHES)
            .try_collect()
            .await?;
        found.extend(fetched.into_iter().flatten());
        Ok(found)
    }
}
