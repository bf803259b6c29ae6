//! The Config Database's JSON, read tolerantly: what is not needed may be missing, what is unknown is passed
//! on. Only what would be misread is refused.

use std::{
    collections::{HashMap, HashSet},
    sync::Arc,
};

use chrono::{DateTime, Utc};
use punctual_domain::{FeatureType, PreferenceRecord, TenantId};
use serde::Deserialize;
use serde_json::{Map, Value};
use tracing::warn;

type Object = Map<String, Value>;

/// One page of `GET preferences/groups`.
#[derive(Debug, Deserialize)]
pub(super) struct GroupsPage {
    groups: Vec<Group>,
    epoch: Option<String>,
    as_of_id: Option<u64>,
    pub(super) next_cursor: Option<String>,
}

/// Tenants who share everything but their overrides.
#[derive(Debug, Deserialize)]
struct Group {
    tenants: Vec<Tenant>,
    #[serde(flatten)]
    shared: Object,
}

#[derive(Debug, Deserialize)]
#[serde(untagged)]
enum Tenant {
    Id(String),
    Object {
        tenant_id: String,
        #[serde(default)]
        updated_at: Option<DateTime<Utc>>,
        #[serde(default)]
        schedule_since: Option<DateTime<Utc>>,
        #[serde(flatten)]
        own: Object,
    },
}

/// All pages together. The first says where the snapshot stands in the feed: what changed while the others
/// were read comes again as a change.
#[derive(Debug, Default)]
pub(super) struct Groups {
    records: Vec<PreferenceRecord>,
    /// Every preference there is, once: few of many tenants' differ.
    preferences: HashSet<Arc<Object>>,
    left_out: usize,
    pub(super) epoch: Option<String>,
    pub(super) as_of_id: Option<u64>,
}

impl Groups {
    /// Adds a page. Returns whether it is of the same database as those before.
    pub(super) fn add(&mut self, page: GroupsPage) -> bool {
        if self.epoch.is_some() && self.epoch != page.epoch {
            return false;
        }
        self.epoch = page.epoch;
        self.as_of_id = self.as_of_id.or(page.as_of_id);
        for Group {
            mut shared,
            tenants,
        } in page.groups
        {
            shared.remove("count");
            // Groups hold those who are switched on, and need not say so.
            shared.entry("enabled").or_insert(Value::Bool(true));
            for tenant in tenants {
                let (id, updated_at, schedule_since, own) = match tenant {
                    Tenant::Id(id) => (id, None, None, Object::new()),
                    Tenant::Object {
                        tenant_id,
                        updated_at,
                        schedule_since,
                        own,
                    } => (tenant_id, updated_at, schedule_since, own),
                };
                let Ok(tenant_id) = TenantId::new(&id) else {
                    self.left_out += 1;
                    continue;
                };
                let preference = with_own_fields(shared.clone(), own);
                let preference = self.intern(preference);
                self.records.push(PreferenceRecord {
                    tenant_id,
                    preference,
                    updated_at,
                    schedule_since,
                });
            }
        }
        true
    }

    fn intern(&mut self, preference: Object) -> Arc<Object> {
        if let Some(known) = self.preferences.get(&preference) {
            return Arc::clone(known);
        }
        let preference = Arc::new(preference);
        self.preferences.insert(Arc::clone(&preference));
        preference
    }

    pub(super) fn into_records(self, feature: &FeatureType) -> Vec<PreferenceRecord> {
        let left_out = self.left_out;
        if left_out > 0 {
            warn!(%feature, left_out, "{left_out} tenants of {feature} have ids that cannot be; they are left out");
        }
        self.records
    }
}

/// A tenant's preference: what the group shares and what is the tenant's own. Fields that the server does not know stand in
/// `own_fields`, where they may have any name, or beside `tenant_id`.
fn with_own_fields(shared: Object, mut own: Object) -> Object {
    let fields = match own.remove("own_fields") {
        Some(Value::Object(fields)) => fields,
        Some(other) => Object::from_iter([("own_fields".to_owned(), other)]),
        None => Object::new(),
    };
    let mut preference = shared;
    preference.extend(own);
    for (name, value) in fields {
        preference.entry(name).or_insert(value);
    }
    preference
}

/// `GET preferences/changes`.
#[derive(Debug, Deserialize)]
pub(super) struct Changes {
    pub(super) changes: Vec<RawChange>,
    pub(super) epoch: Option<String>,
    last_id: Option<u64>,
    #[serde(default)]
    pub(super) has_more: bool,
}

impl Changes {
    /// The id to go on from; never before `since`.
    pub(super) fn last_id(&self, since: u64) -> u64 {
        let seen = self.changes.iter().map(|change| change.id).max();
        self.last_id
            .into_iter()
            .chain(seen)
            .chain([since])
            .max()
            .unwrap_or(since)
    }
}

/// One entry of the feed.
#[derive(Debug, Deserialize)]
pub(super) struct RawChange {
    pub(super) id: u64,
    pub(super) tenant_id: String,
    config_key: Option<String>,
    feature_type: Option<String>,
    change: Option<String>,
    pub(super) preference: Option<Object>,
    pub(super) changed_at: Option<DateTime<Utc>>,
    pub(super) schedule_since: Option<DateTime<Utc>>,
}

impl RawChange {
    /// A change that does not say what it is about may be about anything.
    pub(super) fn is_about(&self, feature: &FeatureType) -> bool {
        self.feature_type
            .as_deref()
            .is_none_or(|named| named == feature.as_str())
            && self
                .config_key
                .as_deref()
                .is_none_or(|key| key == "feature_preferences")
    }

    pub(super) fn is_deletion(&self) -> bool {
        self.change.as_deref() == Some("deleted")
    }
}

/// `GET tenants/{tenant_id}/configs/feature_preferences`.
#[derive(Debug, Deserialize)]
pub(super) struct TenantConfig {
    config_value: Map<String, Value>,
    #[serde(default)]
    updated_at: Option<DateTime<Utc>>,
    /// By feature.
    #[serde(default)]
    schedule_since: HashMap<String, DateTime<Utc>>,
}

impl TenantConfig {
    pub(super) fn preference(
        mut self,
        feature: &FeatureType,
        tenant: &TenantId,
    ) -> Option<PreferenceRecord> {
        let Some(Value::Object(preference)) = self.config_value.remove(feature.as_str()) else {
            return None;
        };
        Some(PreferenceRecord {
            tenant_id: tenant.clone(),
            preference: Arc::new(preference),
            updated_at: self.updated_at,
            schedule_since: self.schedule_since.remove(feature.as_str()),
        })
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn fields_of_a_tenants_own_are_read_from_own_fields_and_from_beside_the_id() {
        let page = json!({"groups": [{"frequency": "daily", "count": 3, "tenants": [
            {"tenant_id": "new", "updated_at": "2026-01-02T00:00:00Z", "schedule_since": "2026-01-01T00:00:00Z",
             "template_overrides": {"tone": "dry"},
             "own_fields": {"tenant_id": "victim", "count": 9, "updated_at": "x", "own_fields": 1, "frequency": "hourly"}},
            {"tenant_id": "old", "channel": "reels", "own_fields": "a text"},
            "plain"]}]});
        let mut groups = Groups::default();
        assert!(groups.add(serde_json::from_value(page).unwrap()));
        let records = groups.into_records(&FeatureType::new("f").unwrap());
        let read = |n: usize| Value::Object((*records[n].preference).clone());
        assert_eq!(records[0].tenant_id.as_str(), "new");
        assert_eq!(
            read(0),
            json!({"enabled": true, "frequency": "daily", "template_overrides": {"tone": "dry"},
                   "tenant_id": "victim", "count": 9, "updated_at": "x", "own_fields": 1})
        );
        assert!(records[0].schedule_since < records[0].updated_at);
        assert_eq!(
            read(1),
            json!({"enabled": true, "frequency": "daily", "channel": "reels", "own_fields": "a text"})
        );
        assert_eq!(
            (read(2), records[2].schedule_since),
            (json!({"enabled": true, "frequency": "daily"}), None)
        );
    }
}
