//! A Config Database that keeps all that users have ever chosen, and serves it late, in part, repeated, or not at all
//! during a fault window.

use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    sync::{Arc, Mutex},
    time::Duration,
};

use async_trait::async_trait;
use chrono::{DateTime, TimeDelta, Utc};
use punctual_application::{
    ports::{
        ChangePage, Clock, ConfigDatabase, ConfigDatabaseError, ConfigErrorKind, Cursor,
        ErasedTenant, Snapshot, SnapshotPages,
    },
    testing::membership,
};
use punctual_domain::{Change, ChangeKind, FeatureType, PreferenceRecord, TenantId};
use serde_json::{Map, Value, json};

use super::{
    faults::{FaultPlan, chance},
    outcome::Bug,
};

/// How long an agent may take to learn of a change in calm times.
pub const PROPAGATION_TIMEOUT: TimeDelta = TimeDelta::seconds(150);
/// How long it may take where the feed has left it out: until the next full read.
pub const NEXT_READ: TimeDelta = TimeDelta::minutes(70);
/// The fields of a preference that say when it falls due.
const SCHEDULE_FIELDS: [&str; 5] = [
    "enabled",
    "frequency",
    "preferred_time",
    "preferred_day",
    "timezone",
];

pub type Object = Arc<Map<String, Value>>;

/// What a tenant chose at some moment.
#[derive(Debug, Clone)]
pub struct Version {
    /// When the Config Database got it.
    pub came_at: DateTime<Utc>,
    /// Since when its fields that say *when* have been as they are.
    pub since: DateTime<Utc>,
    /// Whether it came with the time at which it was stored elsewhere.
    pub imported: bool,
    /// `None`: the preference was removed.
    pub preference: Option<Object>,
    /// Whether it was removed with everything that is held of the tenant.
    pub erased: bool,
    /// When reads bring it.
    pub visible_at: DateTime<Utc>,
    /// When every agent that works knows it.
    pub known_by: DateTime<Utc>,
}

/// Everything ever chosen, by feature and tenant.
pub type Choices = BTreeMap<(FeatureType, TenantId), Vec<Version>>;

/// What a Config Database can do beyond the documented calls.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// As the reference server: it says since when a schedule has been as it is, and holds calls for changes.
    Reference,
    /// Any other one: neither.
    Plain,
}

struct Entry {
    feature: FeatureType,
    record: PreferenceRecord,
    removed: bool,
    /// Whether the tenant was removed with everything that is held of them.
    erased: bool,
    came_at: DateTime<Utc>,
    visible_at: DateTime<Utc>,
    left_out: bool,
}

#[derive(Default)]
struct Tables {
    choices: Choices,
    feed: Vec<Entry>,
    /// Until when snapshots hold only part of the records: one in so many, or none with 0.
    truncated: Option<(DateTime<Utc>, usize)>,
    /// Features whose place in the feed is lost once.
    lost: BTreeSet<FeatureType>,
}

pub struct SimulatedDatabase {
    pub kind: Kind,
    tables: Mutex<Tables>,
    /// True time: the database's own clock is right.
    time: Arc<dyn Clock>,
    faults: FaultPlan,
    seed: u64,
    bug: Option<Bug>,
}

/// The organization of a tenant who has made the choice of this number, where tenants belong to any.
pub fn organization_of(choice: u64) -> Option<&'static str> {
    [None, Some("acme"), Some("umbrella")][choice as usize % 3]
}

fn same_when(old: Option<&Version>, new: Option<&Object>) -> bool {
    let old = old.and_then(|version| version.preference.as_ref());
    let (Some(old), Some(new)) = (old, new) else {
        return false;
    };
    SCHEDULE_FIELDS
        .iter()
        .all(|field| old.get(*field) == new.get(*field))
}

impl SimulatedDatabase {
    pub fn new(
        kind: Kind,
        time: Arc<dyn Clock>,
        faults: FaultPlan,
        seed: u64,
        bug: Option<Bug>,
    ) -> Self {
        Self {
            kind,
            tables: Mutex::default(),
            time,
            faults,
            seed,
            bug,
        }
    }

    /// Whether tenants belong to organizations; they change with what they choose.
    pub fn has_organizations(&self) -> bool {
        self.seed.is_multiple_of(2)
    }

    /// Stores a preference. An import brings the moment at which it was stored elsewhere, `stored_at`.
    pub fn store(
        &self,
        feature: &FeatureType,
        tenant: &TenantId,
        preference: Option<Object>,
        stored_at: Option<DateTime<Utc>>,
    ) {
        self.change(feature, tenant, preference, stored_at, false);
    }

    /// Erases a tenant in all of these features.
    pub fn erase(&self, tenant: &TenantId, features: &[FeatureType]) {
        for feature in features {
            self.change(feature, tenant, None, None, true);
        }
    }

    /// Whether a tenant was erased in all of these features, and has stored nothing since.
    pub fn is_erased(&self, tenant: &TenantId, features: &[FeatureType]) -> bool {
        let tables = self.tables.lock().unwrap();
        features.iter().all(|feature| {
            let versions = tables.choices.get(&(feature.clone(), tenant.clone()));
            let last = versions.and_then(|versions| versions.last());
            last.is_some_and(|last| last.erased)
        })
    }

    fn change(
        &self,
        feature: &FeatureType,
        tenant: &TenantId,
        preference: Option<Object>,
        stored_at: Option<DateTime<Utc>>,
        erased: bool,
    ) {
        let now = self.time.now();
        let window = self.faults.at(now);
        let left_out = window.is_some_and(|window| window.gaps);
        let lag = window.map_or(TimeDelta::zero(), |window| window.lag);
        let mut tables = self.tables.lock().unwrap();
        // Changes become visible in their order.
        let before = tables.feed.last().map_or(now, |last| last.visible_at);
        let visible_at = before.max(now + lag);
        let known_by = window.map_or(visible_at, |window| visible_at.max(window.to + window.lag))
            + PROPAGATION_TIMEOUT
            + if left_out {
                NEXT_READ
            } else {
                TimeDelta::zero()
            };
        let versions = tables
            .choices
            .entry((feature.clone(), tenant.clone()))
            .or_default();
        let kept = same_when(versions.last(), preference.as_ref());
        let since = match versions.last() {
            Some(last) if kept => last.since,
            _ => now,
        };
        let keeps_its_time = self.bug == Some(Bug::StoredAgainKeepsItsTime)
            && versions.iter().any(|version| version.erased);
        let first = versions.first().filter(|_| keeps_its_time);
        let reported = first.map_or(since, |first| first.since);
        versions.push(Version {
            came_at: now,
            since,
            imported: stored_at.is_some(),
            preference: preference.clone(),
            erased,
            visible_at,
            known_by,
        });
        let choice = preference
            .as_ref()
            .and_then(|new| new.get("template_overrides")?.get("n")?.as_u64())
            .filter(|_| self.has_organizations());
        let organization = choice.and_then(organization_of).map(membership);
        tables.feed.push(Entry {
            feature: feature.clone(),
            removed: preference.is_none(),
            erased,
            record: PreferenceRecord {
                tenant_id: tenant.clone(),
                preference: preference.unwrap_or_default(),
                updated_at: Some(stored_at.unwrap_or(now)),
                schedule_since: (self.kind == Kind::Reference).then_some(reported),
                organization,
            },
            came_at: now,
            visible_at,
            left_out,
        });
    }

    /// Loses the place in the feed once; until then, snapshots hold one record in `one_in`, or none with 0.
    pub fn truncate_until(&self, until: DateTime<Utc>, one_in: usize, features: &[FeatureType]) {
        let mut tables = self.tables.lock().unwrap();
        tables.truncated = Some((until, one_in));
        tables.lost = features.iter().cloned().collect();
    }

    pub fn current(&self, feature: &FeatureType, tenant: &TenantId) -> Option<Object> {
        let tables = self.tables.lock().unwrap();
        let versions = tables.choices.get(&(feature.clone(), tenant.clone()))?;
        versions.last()?.preference.clone()
    }

    pub fn choices(&self) -> Choices {
        self.tables.lock().unwrap().choices.clone()
    }

    /// An error, where a fault window wants one.
    fn fails(
        &self,
        tables: &mut Tables,
        feature: &FeatureType,
        follows: bool,
    ) -> Result<(), ConfigDatabaseError> {
        let now = self.time.now();
        let error = |kind| Err(ConfigDatabaseError::new(kind, "simulated"));
        let truncated = tables.truncated.is_some_and(|(until, _)| now < until);
        if follows && truncated && tables.lost.remove(feature) {
            return error(ConfigErrorKind::CursorLost);
        }
        let window = self.faults.at(now);
        let often = window.map_or(0, |window| window.database_errors);
        let mut random = chance(self.seed, now, (feature, follows));
        if random.u8(..100) >= often {
            return Ok(());
        }
        error(match random.u8(..4) {
            0 if follows => ConfigErrorKind::CursorLost,
            1 => ConfigErrorKind::Malformed,
            _ => ConfigErrorKind::Unavailable,
        })
    }

    /// What is stored, as far as it is visible.
    fn records(
        &self,
        tables: &Tables,
        feature: &FeatureType,
    ) -> BTreeMap<TenantId, PreferenceRecord> {
        let now = self.time.now();
        let mut records = BTreeMap::new();
        let visible =
            |(_, entry): &(usize, &Entry)| entry.visible_at <= now && entry.feature == *feature;
        for (index, entry) in tables.feed.iter().enumerate().filter(visible) {
            if self.stays_away(tables, index) {
                continue;
            }
            let tenant = entry.record.tenant_id.clone();
            if entry.removed {
                records.remove(&tenant);
            } else {
                records.insert(tenant, entry.record.clone());
            }
        }
        records
    }

    /// Whether an entry is not shown, as its tenant had been erased before.
    fn stays_away(&self, tables: &Tables, index: usize) -> bool {
        let entry = &tables.feed[index];
        let mut before = tables.feed[..index].iter();
        self.bug == Some(Bug::ErasedStayAway)
            && !entry.erased
            && before.any(|one| one.erased && one.record.tenant_id == entry.record.tenant_id)
    }

    fn page(
        &self,
        feature: &FeatureType,
        since: u64,
    ) -> Result<(Vec<Change>, u64), ConfigDatabaseError> {
        let now = self.time.now();
        let mut tables = self.tables.lock().unwrap();
        self.fails(&mut tables, feature, true)?;
        let since = since as usize;
        let new = tables.feed[since..].iter();
        let visible = since + new.take_while(|entry| entry.visible_at <= now).count();
        let repeats = self.faults.at(now).is_some_and(|window| window.repeats);
        let from = if since < visible && repeats {
            since.saturating_sub(5)
        } else {
            since
        };
        // An erasure removes what the feed has of the tenant from before it.
        let is_gone = |index: usize, entry: &Entry| {
            let mut later = tables.feed[index + 1..visible].iter();
            later.any(|one| one.erased && one.record.tenant_id == entry.record.tenant_id)
        };
        let lost = |index: usize, entry: &Entry| {
            let bug = self.bug == Some(Bug::FeedLosesChanges);
            entry.left_out
                || bug && entry.came_at.timestamp() % 5 == 0
                || !entry.erased && is_gone(index, entry)
                || self.stays_away(&tables, index)
        };
        let change = |entry: &Entry| Change {
            tenant_id: entry.record.tenant_id.clone(),
            feature_type: feature.clone(),
            kind: if entry.erased {
                ChangeKind::Erased
            } else if entry.removed {
                ChangeKind::Deleted
            } else {
                ChangeKind::Upserted(entry.record.preference.clone())
            },
            changed_at: entry.record.updated_at,
            schedule_since: entry.record.schedule_since,
            organization: entry.record.organization.clone(),
        };
        let entries = (from..visible).map(|index| (index, &tables.feed[index]));
        let entries =
            entries.filter(|(index, entry)| entry.feature == *feature && !lost(*index, entry));
        let changes = entries.map(|(_, entry)| change(entry)).collect();
        Ok((changes, visible as u64))
    }
}

#[async_trait]
impl ConfigDatabase for SimulatedDatabase {
    async fn snapshot(&self, feature: &FeatureType) -> Result<SnapshotPages, ConfigDatabaseError> {
        let now = self.time.now();
        let mut tables = self.tables.lock().unwrap();
        let failed = self.fails(&mut tables, feature, false);
        // Only those who are switched on, as the groups of the documented call.
        let on = |record: &PreferenceRecord| record.preference.get("enabled") == Some(&json!(true));
        let records = self.records(&tables, feature).into_values();
        let mut records: Vec<_> = records.filter(on).collect();
        match self.bug {
            Some(Bug::ErrorsReadAsEmpty) if failed.is_err() => records.clear(),
            _ => failed?,
        }
        if let Some((_, one_in)) = tables.truncated.filter(|(until, _)| now < *until) {
            let keep = records.len().checked_div(one_in).unwrap_or(0);
            records.truncate(keep);
        }
        let visible = tables.feed.iter().filter(|entry| entry.visible_at <= now);
        Ok(Snapshot {
            records,
            cursor: Cursor {
                since_id: visible.count() as u64,
                epoch: None,
            },
            known_at: None,
        }
        .into())
    }

    async fn changes(
        &self,
        feature: &FeatureType,
        cursor: &Cursor,
        wait: Duration,
    ) -> Result<ChangePage, ConfigDatabaseError> {
        let holds = self.kind == Kind::Reference;
        let (mut changes, mut last) = self.page(feature, cursor.since_id)?;
        if changes.is_empty() && holds {
            tokio::time::sleep(wait).await;
            (changes, last) = self.page(feature, last)?;
        }
        Ok(ChangePage {
            changes,
            cursor: Cursor {
                since_id: last,
                epoch: None,
            },
            has_more: false,
            waited: holds,
        })
    }

    async fn preferences(
        &self,
        feature: &FeatureType,
        tenants: &[TenantId],
    ) -> Result<HashMap<TenantId, PreferenceRecord>, ConfigDatabaseError> {
        let mut tables = self.tables.lock().unwrap();
        self.fails(&mut tables, feature, false)?;
        let mut records = self.records(&tables, feature);
        Ok(tenants
            .iter()
            .filter_map(|tenant| Some((tenant.clone(), records.remove(tenant)?)))
            .collect())
    }

    async fn erased(
        &self,
        feature: &FeatureType,
    ) -> Result<Vec<ErasedTenant>, ConfigDatabaseError> {
        let now = self.time.now();
        let often = self
            .faults
            .at(now)
            .map_or(0, |window| window.database_errors);
        // Also right after a snapshot that has come.
        if chance(self.seed, now, ("erased", feature)).u8(..100) < often {
            let kind = ConfigErrorKind::Unavailable;
            return Err(ConfigDatabaseError::new(kind, "simulated"));
        }
        if self.bug == Some(Bug::ErasuresAreNotListed) {
            return Ok(Vec::new());
        }
        let tables = self.tables.lock().unwrap();
        let mut erased: BTreeMap<TenantId, DateTime<Utc>> = BTreeMap::new();
        for entry in tables.feed.iter().filter(|entry| entry.visible_at <= now) {
            let tenant_id = &entry.record.tenant_id;
            if !entry.erased {
                erased.remove(tenant_id);
            } else if entry.feature == *feature {
                erased.insert(tenant_id.clone(), entry.came_at);
            }
        }
        let one = |(tenant_id, erased_at)| ErasedTenant {
            tenant_id,
            erased_at,
        };
        Ok(erased.into_iter().map(one).collect())
    }
}
