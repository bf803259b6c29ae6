//! What users do: they choose, and choose anew.

use std::collections::BTreeMap;

use chrono::{DateTime, TimeDelta, Utc};
use punctual_application::ports::Clock;
use punctual_domain::{FeatureType, TenantId};
use serde_json::{Map, Value, json};

use super::{FEATURES, World, feature_type};
use crate::simulation::database::Object;

/// The fields of a preference that say when; `None` removes it.
fn when(random: &mut fastrand::Rng, now: DateTime<Utc>) -> Option<Map<String, Value>> {
    const ZONES: [&str; 6] = [
        "UTC",
        "Europe/Berlin",
        "America/New_York",
        "Asia/Kathmandu",
        "Pacific/Auckland",
        "America/Sao_Paulo",
    ];
    let minute = [0, 0, 15, 30][random.usize(..4)];
    let time = format!("{:02}:{minute:02}", random.u8(..24));
    let mut when = json!({"enabled": random.u8(..10) > 0, "frequency": "daily", "preferred_time": time,
        "timezone": ZONES[random.usize(..ZONES.len())]});
    let day = |days: i64| json!((now + TimeDelta::days(days)).date_naive());
    if random.u8(..4) == 0 {
        when.as_object_mut()?.remove("preferred_time");
    }
    match random.u8(..30) {
        0 | 1 => return None,
        2 => when["preferred_time"] = json!("25:00"),
        3 => when["frequency"] = json!([{"deep": [[[[7]]]]}]),
        4 => when["preferred_day"] = json!(45),
        5 => when["timezone"] = json!("Mars/Phobos"),
        6..10 => when["frequency"] = json!("hourly"),
        10 | 11 => {
            when["frequency"] = json!("weekly");
            when["preferred_day"] = json!(["saturday", "sunday", "monday"]);
        }
        12 | 13 => {
            when["frequency"] = json!("monthly");
            when["preferred_day"] = json!([1, 29, "last", "last weekday", "first sunday"]);
        }
        14 | 15 => {
            let more = format!("{:02}:{minute:02}", random.u8(..24));
            when["preferred_time"] = json!([time, more, "12:00"]);
        }
        16 => {
            when["interval"] = json!(random.u8(2..4));
            when["start_date"] = day(random.i64(-400..3));
        }
        17 => {
            when["start_date"] = day(random.i64(-3..4));
            when["end_date"] = day(random.i64(4..6));
        }
        18 => {
            when["frequency"] = json!("once");
            when["date"] = day(random.i64(-1..4));
        }
        19 => when["paused_until"] = day(random.i64(-1..4)),
        20 => {
            when["frequency"] = json!(["hourly", "daily"][random.usize(..2)]);
            let end = now + TimeDelta::minutes(random.i64(-600..3_000));
            when["paused_until"] = json!(end.to_rfc3339());
        }
        _ => {}
    }
    when.as_object().cloned()
}

impl World {
    /// Stores what a tenant chooses.
    pub(super) fn store(
        &mut self,
        feature: &FeatureType,
        tenant: &TenantId,
        preference: Option<Map<String, Value>>,
        stored_at: Option<DateTime<Utc>>,
    ) {
        let n = self.next_n;
        self.next_n += 1;
        let preference = preference.map(|mut preference| {
            preference.insert("template_overrides".into(), json!({"of": tenant, "n": n}));
            Object::from(preference)
        });
        let old = stored_at.map_or(String::new(), |at| format!(" (imported, of {at})"));
        self.note(format!(
            "{tenant} chooses for {feature} {}{old}",
            json!(preference)
        ));
        let database = &self.around.database;
        database.store(feature, tenant, preference, stored_at);
    }

    pub(super) fn choose(&mut self, feature: &FeatureType, tenant: &TenantId) {
        let preference = when(&mut self.random, self.time.now());
        self.store(feature, tenant, preference, None);
    }

    /// Changes what a tenant has chosen, in one of the ways that there are.
    pub(super) fn edit(&mut self, feature: &FeatureType, tenant: &TenantId) {
        let Some(current) = self.around.database.current(feature, tenant) else {
            return self.choose(feature, tenant);
        };
        let mut new = (*current).clone();
        match self.random.u8(..12) {
            0..4 => {}
            4 => {
                new.insert("note".into(), json!(self.next_n));
            }
            5 => {
                let on = new.get("enabled") == Some(&json!(true));
                new.insert("enabled".into(), json!(!on));
            }
            6 => {
                let days = TimeDelta::hours(self.random.i64(1..1_500));
                let stored_at = self.time.now() - days;
                let imported = if self.random.bool() {
                    when(&mut self.random, self.time.now())
                } else {
                    Some(new)
                };
                return self.store(feature, tenant, imported, Some(stored_at));
            }
            7 | 8 => {
                let time = format!("{:02}:{:02}", self.random.u8(..24), self.random.u8(..60));
                new.insert("preferred_time".into(), json!(time));
            }
            _ => return self.choose(feature, tenant),
        }
        self.store(feature, tenant, Some(new), None);
    }

    /// Erases everything that is held of a tenant, who may be stored again at once.
    pub(super) fn erase(&mut self, tenant: &TenantId) {
        let features = FEATURES.map(feature_type);
        self.note(format!("{tenant} is erased"));
        self.around.database.erase(tenant, &features);
        if self.random.u8(..3) == 0 {
            let feature = &features[self.random.usize(..features.len())];
            self.choose(feature, tenant);
        }
    }

    pub(super) fn is_erased(&self, tenant: &TenantId) -> bool {
        let features = FEATURES.map(feature_type);
        self.around.database.is_erased(tenant, &features)
    }

    /// What the store holds of each tenant who was erased.
    pub(super) async fn held_of_erased(&self) -> BTreeMap<TenantId, Vec<String>> {
        let mut held = BTreeMap::new();
        for tenant in self.tenants.iter().filter(|tenant| self.is_erased(tenant)) {
            held.insert(tenant.clone(), self.around.store.held_of(tenant).await);
        }
        held
    }

    pub(super) fn any_tenant(&mut self) -> TenantId {
        self.tenants[self.random.usize(..self.tenants.len())].clone()
    }
}
