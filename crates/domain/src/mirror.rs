//! The mirror: one job's tenants by slot, kept current by a snapshot and the changes after it. It decides
//! nothing about time; the [planner](crate::plan_mirror) reads it.

use std::{
    collections::{BTreeMap, BTreeSet, HashMap, HashSet},
    sync::Arc,
};

use chrono::{DateTime, Utc};
use serde_json::{Map, Value};

use crate::{
    change::{Change, ChangeKind, PreferenceRecord},
    ids::TenantId,
    preference::{MergedPreference, Preference},
    slot::Slot,
    validation::FieldErrors,
    zone::Zone,
};

/// All tenants that a preference-based job serves, grouped by the slot they chose.
#[derive(Debug)]
pub struct Mirror {
    defaults: Preference,
    default_zone: Zone,
    loaded: bool,
    tenants: HashMap<TenantId, Arc<Slot>>,
    slots: BTreeMap<Arc<Slot>, BTreeMap<TenantId, DateTime<Utc>>>,
    quarantine: BTreeMap<TenantId, FieldErrors>,
    late: BTreeSet<TenantId>,
}

/// What a full read found to be different from the mirror.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct MirrorDifference {
    /// Tenants that were not there, or stood in another slot, or had stored their preference anew.
    pub changed: usize,
    /// Tenants that are no longer there.
    pub removed: usize,
}

impl Mirror {
    /// An empty mirror for a job with these defaults.
    #[must_use]
    pub fn new(defaults: Preference, default_zone: Zone) -> Self {
        Self {
            defaults,
            default_zone,
            loaded: false,
            tenants: HashMap::new(),
            slots: BTreeMap::new(),
            quarantine: BTreeMap::new(),
            late: BTreeSet::new(),
        }
    }

    /// Whether a snapshot has been read. Before that nothing is known, so nothing may run.
    #[must_use]
    pub fn is_loaded(&self) -> bool {
        self.loaded
    }

    /// How many tenants are scheduled.
    #[must_use]
    pub fn len(&self) -> usize {
        self.tenants.len()
    }

    /// Whether nobody is scheduled.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.tenants.is_empty()
    }

    /// The slots in order, each with its tenants and the moment each stored their preference.
    pub fn slots(&self) -> impl Iterator<Item = (&Slot, &BTreeMap<TenantId, DateTime<Utc>>)> {
        self.slots.iter().map(|(slot, tenants)| (&**slot, tenants))
    }

    /// The slot a tenant stands in.
    #[must_use]
    pub fn slot_of(&self, tenant: &TenantId) -> Option<&Slot> {
        self.tenants.get(tenant).map(|slot| &**slot)
    }

    /// Tenants whose preference cannot be used, with what is wrong.
    #[must_use]
    pub fn quarantine(&self) -> &BTreeMap<TenantId, FieldErrors> {
        &self.quarantine
    }

    /// Tenants whose preference came after part of its time may have been planned already.
    pub(crate) fn late(&self) -> impl Iterator<Item = (&TenantId, &Slot, DateTime<Utc>)> {
        self.late.iter().filter_map(|tenant| {
            let slot = self.tenants.get(tenant)?;
            Some((tenant, &**slot, *self.slots.get(slot)?.get(tenant)?))
        })
    }

    /// Call once the plan made from this mirror has been stored.
    pub fn planned(&mut self) {
        self.late.clear();
    }

    /// Takes a full read of the feature's preferences: tenants not among `records` are gone.
    ///
    /// What differs and was stored after `seen_until`, the last time everything was known to be seen, counts
    /// as late: nobody can have planned it. `None`: nothing does.
    pub fn replace(
        &mut self,
        records: &[PreferenceRecord],
        seen_until: Option<DateTime<Utc>>,
    ) -> MirrorDifference {
        let mut difference = MirrorDifference::default();
        self.loaded = true;
        let present: HashSet<&TenantId> = records.iter().map(|record| &record.tenant_id).collect();
        let gone: Vec<TenantId> = self
            .tenants
            .keys()
            .chain(self.quarantine.keys())
            .filter(|tenant| !present.contains(tenant))
            .cloned()
            .collect();
        for tenant in &gone {
            self.remove(tenant);
        }
        difference.removed = gone.len();
        for record in records {
            let since = record.updated_at.unwrap_or(DateTime::<Utc>::MIN_UTC);
            if self.set(&record.tenant_id, &record.preference, since) {
                difference.changed += 1;
                if seen_until.is_some_and(|seen| since > seen) {
                    self.late.insert(record.tenant_id.clone());
                }
            }
        }
        difference
    }

    /// Takes one change of the feed, seen at `now`.
    pub fn apply(&mut self, change: &Change, now: DateTime<Utc>) {
        match &change.kind {
            ChangeKind::Deleted => self.remove(&change.tenant_id),
            ChangeKind::Upserted(preference) => {
                let since = change.changed_at.unwrap_or(now);
                if self.set(&change.tenant_id, preference, since) {
                    self.late.insert(change.tenant_id.clone());
                }
            }
        }
    }

    /// Puts a tenant where its preference says. Returns whether anything changed.
    fn set(
        &mut self,
        tenant: &TenantId,
        preference: &Map<String, Value>,
        since: DateTime<Utc>,
    ) -> bool {
        let merged = Preference::parse(preference).and_then(|stored| {
            MergedPreference::merge(&stored, &self.defaults, &self.default_zone)
        });
        let slot = match merged {
            Ok(merged) if merged.enabled => merged.slot,
            Ok(_) => {
                let stood =
                    self.tenants.contains_key(tenant) || self.quarantine.contains_key(tenant);
                self.remove(tenant);
                return stood;
            }
            Err(errors) => {
                self.remove(tenant);
                self.quarantine.insert(tenant.clone(), errors);
                return true;
            }
        };
        let unchanged = self.slot_of(tenant) == Some(&slot)
            && self
                .slots
                .get(&slot)
                .and_then(|tenants| tenants.get(tenant))
                == Some(&since);
        if unchanged {
            return false;
        }
        self.remove(tenant);
        let slot = match self.slots.get_key_value(&slot) {
            Some((known, _)) => Arc::clone(known),
            None => Arc::new(slot),
        };
        self.tenants.insert(tenant.clone(), Arc::clone(&slot));
        self.slots
            .entry(slot)
            .or_default()
            .insert(tenant.clone(), since);
        true
    }

    fn remove(&mut self, tenant: &TenantId) {
        self.late.remove(tenant);
        self.quarantine.remove(tenant);
        let Some(slot) = self.tenants.remove(tenant) else {
            return;
        };
        if let Some(tenants) = self.slots.get_mut(&slot) {
            tenants.remove(tenant);
            if tenants.is_empty() {
                self.slots.remove(&slot);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn record(tenant: &str, preference: Value, updated_at: &str) -> PreferenceRecord {
        PreferenceRecord {
            tenant_id: TenantId::new(tenant).unwrap(),
            preference: Arc::new(preference.as_object().unwrap().clone()),
            updated_at: Some(updated_at.parse().unwrap()),
        }
    }

    fn change(tenant: &str, kind: ChangeKind) -> Change {
        Change {
            tenant_id: TenantId::new(tenant).unwrap(),
            feature_type: crate::FeatureType::new("instagram_posts").unwrap(),
            kind,
            changed_at: None,
        }
    }

    fn upserted(preference: Value) -> ChangeKind {
        ChangeKind::Upserted(Arc::new(preference.as_object().unwrap().clone()))
    }

    fn mirror(records: &[PreferenceRecord]) -> Mirror {
        let mut mirror = Mirror::new(Preference::default(), Zone::utc());
        mirror.replace(records, None);
        mirror
    }

    fn standing(mirror: &Mirror) -> Vec<(String, usize)> {
        mirror
            .slots()
            .map(|(slot, tenants)| (slot.to_string(), tenants.len()))
            .collect()
    }

    const DAY: &str = "2026-01-01T00:00:00Z";

    #[test]
    fn tenants_with_an_equal_slot_share_it_and_move_with_a_change() {
        let daily = json!({"enabled": true, "frequency": "daily"});
        let mut mirror = mirror(&[
            record("a", daily.clone(), DAY),
            record("b", daily.clone(), DAY),
            record("off", json!({"enabled": false, "frequency": "daily"}), DAY),
        ]);
        assert_eq!(standing(&mirror), [("daily 09:00 UTC".to_owned(), 2)]);

        let now = DAY.parse().unwrap();
        let weekly = json!({"enabled": true, "frequency": "weekly"});
        mirror.apply(&change("a", upserted(weekly)), now);
        assert_eq!(
            standing(&mirror),
            [
                ("daily 09:00 UTC".to_owned(), 1),
                ("weekly monday 09:00 UTC".to_owned(), 1)
            ]
        );
        mirror.apply(
            &change(
                "a",
                upserted(json!({"enabled": false, "frequency": "daily"})),
            ),
            now,
        );
        mirror.apply(&change("b", ChangeKind::Deleted), now);
        assert!(mirror.is_empty() && mirror.slots().next().is_none());
    }

    #[test]
    fn an_invalid_preference_stops_and_says_why_while_the_others_go_on() {
        let daily = json!({"enabled": true, "frequency": "daily"});
        let mut mirror = mirror(&[
            record("a", daily.clone(), DAY),
            record("b", daily.clone(), DAY),
        ]);
        let broken = json!({"enabled": true, "frequency": "daily", "preferred_time": "25:00"});
        mirror.apply(&change("a", upserted(broken)), DAY.parse().unwrap());
        assert_eq!(mirror.len(), 1);
        let (tenant, errors) = mirror.quarantine().iter().next().unwrap();
        assert_eq!(tenant.as_str(), "a");
        assert!(errors.to_string().contains("25:00"));
        mirror.apply(&change("a", upserted(daily)), DAY.parse().unwrap());
        assert_eq!((mirror.len(), mirror.quarantine().len()), (2, 0));
    }

    #[test]
    fn a_full_read_counts_what_differs_and_repairs_it() {
        let daily = json!({"enabled": true, "frequency": "daily"});
        let mut mirror = mirror(&[
            record("a", daily.clone(), DAY),
            record("b", daily.clone(), DAY),
        ]);
        let same = [
            record("a", daily.clone(), DAY),
            record("b", daily.clone(), DAY),
        ];
        assert_eq!(mirror.replace(&same, None), MirrorDifference::default());
        let other = [record(
            "a",
            json!({"enabled": true, "frequency": "monthly"}),
            DAY,
        )];
        assert_eq!(
            mirror.replace(&other, None),
            MirrorDifference {
                changed: 1,
                removed: 1
            }
        );
        assert_eq!(standing(&mirror), [("monthly 1 09:00 UTC".to_owned(), 1)]);
    }
}
