//! A Config Database that knows all that users have ever chosen, and tells it late, in part, or not at all while there
//! is a storm.

use std::{
    collections::{BTreeMap, HashMap},
    sync::{Arc, Mutex},
    time::Duration,
};

use async_trait::async_trait;
use chrono::{DateTime, TimeDelta, Utc};
use punctual_application::ports::{
    ChangePage, Clock, ConfigDatabase, ConfigDatabaseError, ConfigErrorKind, Cursor, Snapshot,
};
use punctual_domain::{Change, ChangeKind, FeatureType, PreferenceRecord, TenantId};
use serde_json::{Map, Value};

use super::{faults::Weather, world::Bug};

/// How long an agent may take to learn of a change in calm times.
pub const SOON: TimeDelta = TimeDelta::seconds(150);
/// How long it may take where the feed has left it out: until everything is read anew.
const NEXT_READ: TimeDelta = TimeDelta::minutes(70);

/// What a tenant chose at some moment.
#[derive(Debug, Clone)]
pub struct Version {
    pub stored_at: DateTime<Utc>,
    /// `None`: the preference was removed.
    pub preference: Option<Arc<Map<String, Value>>>,
    /// When every agent that works knows it.
    pub known_by: DateTime<Utc>,
}

struct Entry {
    tenant: TenantId,
    preference: Option<Arc<Map<String, Value>>>,
    stored_at: DateTime<Utc>,
    visible_at: DateTime<Utc>,
    left_out: bool,
}

#[derive(Default)]
struct Tables {
    versions: BTreeMap<TenantId, Vec<Version>>,
    feed: Vec<Entry>,
    random: fastrand::Rng,
}

pub struct SimulatedDatabase {
    tables: Mutex<Tables>,
    /// True time: the database's own clock is right.
    time: Arc<dyn Clock>,
    weather: Weather,
    bug: Option<Bug>,
}

impl SimulatedDatabase {
    pub fn new(time: Arc<dyn Clock>, weather: Weather, seed: u64, bug: Option<Bug>) -> Self {
        let tables = Tables {
            random: fastrand::Rng::with_seed(seed),
            ..Tables::default()
        };
        Self {
            tables: Mutex::new(tables),
            time,
            weather,
            bug,
        }
    }

    /// A tenant chooses.
    pub fn store(&self, tenant: &TenantId, preference: Option<Map<String, Value>>) {
        let now = self.time.now();
        let preference = preference.map(Arc::new);
        let storm = self.weather.at(now);
        let left_out = storm.is_some_and(|storm| storm.gaps);
        let lag = storm.map_or(TimeDelta::zero(), |storm| storm.lag);
        let mut tables = self.tables.lock().unwrap();
        // Changes become visible in their order.
        let before = tables.feed.last().map_or(now, |last| last.visible_at);
        let visible_at = before.max(now + lag);
        let known_by =
            storm.map_or(visible_at, |storm| visible_at.max(storm.to + storm.lag)) + SOON;
        let version = Version {
            stored_at: now,
            preference: preference.clone(),
            known_by: if left_out {
                known_by + NEXT_READ
            } else {
                known_by
            },
        };
        tables
            .versions
            .entry(tenant.clone())
            .or_default()
            .push(version);
        tables.feed.push(Entry {
            tenant: tenant.clone(),
            preference,
            stored_at: now,
            visible_at,
            left_out,
        });
    }

    /// All that was ever chosen.
    pub fn versions(&self) -> BTreeMap<TenantId, Vec<Version>> {
        self.tables.lock().unwrap().versions.clone()
    }

    fn fails(&self, tables: &mut Tables) -> Result<(), ConfigDatabaseError> {
        let now = self.time.now();
        let often = self
            .weather
            .at(now)
            .map_or(0, |storm| storm.database_errors);
        if tables.random.u8(..100) < often {
            return Err(ConfigDatabaseError {
                kind: ConfigErrorKind::Unavailable,
                message: "simulated".into(),
                retry_after: None,
            });
        }
        Ok(())
    }

    /// What is stored, as far as it is visible.
    fn records(&self, tables: &Tables) -> BTreeMap<TenantId, PreferenceRecord> {
        let now = self.time.now();
        let mut records = BTreeMap::new();
        for entry in tables.feed.iter().filter(|entry| entry.visible_at <= now) {
            match &entry.preference {
                Some(preference) => {
                    let record = PreferenceRecord {
                        tenant_id: entry.tenant.clone(),
                        preference: preference.clone(),
                        updated_at: Some(entry.stored_at),
                        schedule_since: None,
                    };
                    records.insert(entry.tenant.clone(), record);
                }
                None => {
                    records.remove(&entry.tenant);
                }
            }
        }
        records
    }
}

#[async_trait]
impl ConfigDatabase for SimulatedDatabase {
    async fn snapshot(&self, _: &FeatureType) -> Result<Snapshot, ConfigDatabaseError> {
        let now = self.time.now();
        let mut tables = self.tables.lock().unwrap();
        let failed = self.fails(&mut tables);
        let mut records: Vec<_> = self.records(&tables).into_values().collect();
        match self.bug {
            Some(Bug::ErrorsReadAsNobody) if failed.is_err() => records.clear(),
            _ => failed?,
        }
        let visible = tables.feed.iter().filter(|entry| entry.visible_at <= now);
        Ok(Snapshot {
            records,
            cursor: Cursor {
                since_id: visible.count() as u64,
                epoch: None,
            },
            known_at: None,
        })
    }

    async fn changes(
        &self,
        feature: &FeatureType,
        cursor: &Cursor,
        wait: Duration,
    ) -> Result<ChangePage, ConfigDatabaseError> {
        let read = || {
            let now = self.time.now();
            let mut tables = self.tables.lock().unwrap();
            self.fails(&mut tables)?;
            let visible = tables
                .feed
                .iter()
                .filter(|entry| entry.visible_at <= now)
                .count();
            let since = cursor.since_id as usize;
            let bug = self.bug;
            let left_out = move |entry: &&Entry| match bug {
                Some(Bug::FeedLosesChanges) => {
                    !entry.left_out && entry.stored_at.timestamp() % 5 > 0
                }
                _ => !entry.left_out,
            };
            let changes = tables.feed[since.min(visible)..visible]
                .iter()
                .filter(left_out)
                .map(|entry| Change {
                    tenant_id: entry.tenant.clone(),
                    feature_type: feature.clone(),
                    kind: match &entry.preference {
                        Some(preference) => ChangeKind::Upserted(preference.clone()),
                        None => ChangeKind::Deleted,
                    },
                    changed_at: Some(entry.stored_at),
                    schedule_since: None,
                })
                .collect::<Vec<_>>();
            Ok((changes, visible as u64))
        };
        let (mut changes, mut last) = read()?;
        if changes.is_empty() {
            tokio::time::sleep(wait).await;
            (changes, last) = read()?;
        }
        Ok(ChangePage {
            changes,
            cursor: Cursor {
                since_id: last,
                epoch: None,
            },
            has_more: false,
            waited: true,
        })
    }

    async fn preferences(
        &self,
        _: &FeatureType,
        tenants: &[TenantId],
    ) -> Result<HashMap<TenantId, PreferenceRecord>, ConfigDatabaseError> {
        let mut tables = self.tables.lock().unwrap();
        self.fails(&mut tables)?;
        let mut records = self.records(&tables);
        Ok(tenants
            .iter()
            .filter_map(|tenant| Some((tenant.clone(), records.remove(tenant)?)))
            .collect())
    }
}
