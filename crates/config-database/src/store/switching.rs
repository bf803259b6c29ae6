//! Switching one feature of a tenant off, and on again, whatever else the tenant has stored: what an e-mail's link does has to
//! work also where other preferences are not valid any more.

use std::collections::BTreeMap;

use punctual_domain::{FeatureType, TenantId};
use serde_json::{Map, Value};

use super::{
    AnyConfigId, ChangeError, ConfigId, ConfigStore, Expected, StoreError, configs::ATTEMPTS,
};
use crate::{
    layers::Layer,
    validate::{CheckedConfig, check_limits, is_only_off},
};

/// Versions that are looked back at for what was stored before a feature was switched off.
const MAX_LOOKED_BACK: u32 = 50;

/// What a feature is switched to, and by what.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Switch {
    /// On again, by the link that has switched it off: where nothing was stored of it before, nothing is again.
    On,
    Off,
    /// Off, by a link that the product has made for this feature: however much is stored, there is room for it.
    Unsubscribe,
}

impl ConfigStore {
    /// A tenant's preference for a feature: what the tenant has stored, over what the organization has.
    pub(crate) async fn preference_in_effect(
        &self,
        tenant: &TenantId,
        feature: &FeatureType,
    ) -> Result<Option<Map<String, Value>>, StoreError> {
        let own = self.preference(tenant, feature).await?;
        let Some(layer) = self.layer_of(tenant).await? else {
            return Ok(own);
        };
        let merged = layer.merge(feature.as_str(), own.as_ref());
        Ok(merged.map(|(merged, _)| merged))
    }

    /// The preference that a tenant has stored for a feature.
    pub(crate) async fn preference(
        &self,
        tenant: &TenantId,
        feature: &FeatureType,
    ) -> Result<Option<Map<String, Value>>, StoreError> {
        let config = self.config(&ConfigId::of_preferences(tenant)).await?;
        let mut value = config.map_or_else(Map::new, |config| config.config_value);
        let preference = value.remove(feature.as_str());
        Ok(preference.and_then(|preference| match preference {
            Value::Object(preference) => Some(preference),
            _ => None,
        }))
    }

    /// Switches a feature off or on. Everything else is kept as it is stored; what is wrong with it is noted only, with the
    /// change.
    ///
    /// # Errors
    /// Nothing is stored of the feature, and what the tenant has stored leaves no room for it; never for
    /// [`Switch::Unsubscribe`].
    pub(crate) async fn switch(
        &self,
        tenant: &TenantId,
        feature: &FeatureType,
        switch: Switch,
        actor: &str,
    ) -> Result<(), ChangeError> {
        let id = ConfigId::of_preferences(tenant);
        for _ in 0..ATTEMPTS {
            let seen = self.config(&id).await?;
            let stored = seen.as_ref().map(|seen| seen.config_value.clone());
            let stored = stored.unwrap_or_default();
            let goes = switch == Switch::On
                && stored.get(feature.as_str()).is_some_and(is_only_off)
                && !self.was_stored(&id, feature).await?;
            let layer = self.layer_of(tenant).await?;
            let config = if goes {
                without(feature, stored)
            } else {
                self.switched(feature, switch, &stored, layer.as_ref())
                    .await?
            };
            let expected = Expected::seen(seen.as_ref().map(|seen| seen.version));
            match id.change(self, &expected, actor, Some(config)).await {
                // What is noted is to be true of what is stored: both anew.
                Err(ChangeError::Unexpected(_)) => {}
                changed => return changed.map(drop),
            }
        }
        Err(ChangeError::Busy)
    }

    /// Whether a feature was stored before it was only switched off.
    async fn was_stored(&self, id: &ConfigId, feature: &FeatureType) -> Result<bool, StoreError> {
        let (versions, _) = self.history(id, i64::MAX, MAX_LOOKED_BACK).await?;
        let mut preferences = versions
            .iter()
            .map(|version| version.config_value.as_ref()?.get(feature.as_str()));
        let before = preferences.find(|preference| !preference.is_some_and(is_only_off));
        Ok(before.flatten().is_some())
    }

    /// The preferences of a tenant with one of them switched, and what is wrong with that one.
    async fn switched(
        &self,
        feature: &FeatureType,
        switch: Switch,
        stored: &Map<String, Value>,
        layer: Option<&Layer>,
    ) -> Result<CheckedConfig, ChangeError> {
        let before = stored.get(feature.as_str());
        let counts_more = before.is_none_or(is_only_off);
        let fields = before.and_then(Value::as_object);
        let mut fields = fields.cloned().unwrap_or_default();
        fields.insert("enabled".to_owned(), (switch == Switch::On).into());
        let mut value = stored.clone();
        value.insert(feature.to_string(), Value::Object(fields.clone()));
        if counts_more && switch != Switch::Unsubscribe {
            check_limits(&value, stored)?;
        }
        let merged = layer.and_then(|layer| layer.merge(feature.as_str(), Some(&fields)));
        let merged = merged.map_or(fields, |(merged, _)| merged);
        let problem = self.problem_of(feature, merged).await;
        Ok(CheckedConfig {
            features: features_of(&value),
            problems: problem
                .map(|problem| (feature.to_string(), problem))
                .into_iter()
                .collect(),
            value,
        })
    }
}

/// The preferences of a tenant without one of them.
fn without(feature: &FeatureType, mut value: Map<String, Value>) -> CheckedConfig {
    value.remove(feature.as_str());
    CheckedConfig {
        features: features_of(&value),
        problems: BTreeMap::new(),
        value,
    }
}

fn features_of(value: &Map<String, Value>) -> Vec<FeatureType> {
    let feature = |name: &String| FeatureType::new(name).ok();
    value.keys().filter_map(feature).collect()
}

#[cfg(test)]
mod tests {
    use serde_json::json;
    use tempfile::TempDir;

    use super::*;

    async fn empty_store() -> (TempDir, ConfigStore) {
        let folder = tempfile::tempdir().unwrap();
        let url = format!("sqlite://{}", folder.path().join("config.db").display());
        let store = ConfigStore::open(&url).await.unwrap();
        (folder, store)
    }

    fn feature(name: &str) -> FeatureType {
        FeatureType::new(name).unwrap()
    }

    async fn put(store: &ConfigStore, feature: &FeatureType, preference: Value) {
        let ann = TenantId::new("ann").unwrap();
        let Value::Object(preference) = preference else {
            panic!("{preference}")
        };
        store.put(&ann, feature, preference).await.unwrap();
    }

    #[tokio::test]
    async fn what_is_wrong_is_noted_with_the_change_or_nothing_is_stored() {
        let (_folder, store) = empty_store().await;
        let (ann, posts) = (TenantId::new("ann").unwrap(), feature("posts"));
        let odd = json!({"enabled": true, "template_overrides": {"tone": "odd"}});
        put(&store, &posts, odd).await;
        let schema = json!({"properties": {"tone": {"enum": ["warm"]}}});
        store.set_schema(&posts, &schema).await.unwrap();
        let invalid = async || store.invalid_preferences(("", ""), 10).await.unwrap();
        assert_eq!(invalid().await, [], "it has not been checked since");
        let switched = store.switch(&ann, &posts, Switch::Off, "a test").await;
        switched.unwrap();
        let found = invalid().await;
        assert_eq!(found.len(), 1);
        assert!(
            found[0]
                .reason
                .contains("It is switched off, and cannot be saved again: "),
            "{found:?}"
        );

        let no_room = "CREATE TRIGGER no_room BEFORE INSERT ON invalid_preferences
            BEGIN SELECT RAISE(ABORT, 'no room'); END";
        sqlx::query(no_room).execute(&store.pool).await.unwrap();
        let failed = store.switch(&ann, &posts, Switch::On, "a test").await;
        assert!(matches!(failed, Err(ChangeError::Store(_))), "{failed:?}");
        let stored = store.preference(&ann, &posts).await.unwrap().unwrap();
        assert_eq!(stored["enabled"], false);
        assert_eq!(invalid().await, found);
    }

    #[tokio::test]
    async fn what_was_on_is_on_again_and_what_was_not_stored_goes() {
        let (_folder, store) = empty_store().await;
        let (ann, posts, news) = (
            TenantId::new("ann").unwrap(),
            feature("posts"),
            feature("news"),
        );
        put(&store, &posts, json!({"enabled": true})).await;
        for switch in [Switch::Unsubscribe, Switch::Off, Switch::On] {
            for feature in [&posts, &news] {
                let switched = store.switch(&ann, feature, switch, "a test").await;
                switched.unwrap();
            }
        }
        let stored = store.preference(&ann, &posts).await.unwrap();
        assert_eq!(json!(stored), json!({"enabled": true}));
        assert_eq!(store.preference(&ann, &news).await.unwrap(), None);
    }

    #[tokio::test]
    async fn there_is_always_room_to_unsubscribe() {
        let (_folder, store) = empty_store().await;
        let ann = TenantId::new("ann").unwrap();
        for n in 0..100 {
            let daily = json!({"enabled": true, "frequency": "daily"});
            put(&store, &feature(&format!("f{n}")), daily).await;
        }
        let switch = async |name: &str, switch| {
            let switched = store.switch(&ann, &feature(name), switch, "a test").await;
            match switched {
                Ok(()) => true,
                Err(ChangeError::Invalid(_)) => false,
                Err(other) => panic!("{other}"),
            }
        };
        assert!(!switch("more", Switch::On).await, "a hundred are on");
        assert!(switch("more", Switch::Unsubscribe).await);
        assert!(switch("another", Switch::Off).await);
        assert!(switch("more", Switch::On).await, "nothing was stored");
        let more = store.preference(&ann, &feature("more")).await;
        assert_eq!(more.unwrap(), None);
        assert!(switch("more", Switch::Unsubscribe).await);
        // They keep back no edit, and go on counting once they say something.
        let weekly = json!({"enabled": true, "frequency": "weekly"});
        put(&store, &feature("f0"), weekly.clone()).await;
        let counts = weekly.as_object().unwrap().clone();
        let refused = store.put(&ann, &feature("more"), counts).await;
        assert!(refused.is_err());
        assert!(switch("f0", Switch::Off).await);
        assert!(switch("f0", Switch::On).await);
    }

    #[tokio::test]
    async fn what_is_switched_off_is_bounded_unless_the_product_has_signed_it() {
        let (_folder, store) = empty_store().await;
        let ann = TenantId::new("ann").unwrap();
        let text = "x".repeat(32_600);
        for n in 0..16 {
            let large = json!({"enabled": true, "frequency": "daily", "own": text});
            put(&store, &feature(&format!("f{n}")), large).await;
        }
        let name = |n: usize| feature(&format!("{n:0128}"));
        let mut refused = false;
        for n in 0..20 {
            let switched = store.switch(&ann, &name(n), Switch::Off, "a test").await;
            refused |= matches!(switched, Err(ChangeError::Invalid(_)));
        }
        assert!(refused, "what is stored is limited");
        for n in 20..30 {
            store
                .switch(&ann, &name(n), Switch::Unsubscribe, "a test")
                .await
                .unwrap();
            let stored = store.preference(&ann, &name(n)).await.unwrap().unwrap();
            assert_eq!(stored["enabled"], false);
        }
    }

    #[tokio::test]
    async fn of_those_that_are_only_off_a_hundred_are_taken_and_what_is_stored_may_stay() {
        let (_folder, store) = empty_store().await;
        let ann = TenantId::new("ann").unwrap();
        let off = |count: usize| {
            let features = (0..count).map(|n| (format!("f{n}"), json!({"enabled": false})));
            Value::Object(features.collect())
        };
        let check = async |count| store.check("feature_preferences", off(count), None).await;
        assert!(check(100).await.is_ok());
        let refused = check(101).await.unwrap_err().to_string();
        assert!(refused.contains("only switched off"), "{refused}");
        for n in 0..101 {
            let switch = if n < 100 {
                Switch::Off
            } else {
                Switch::Unsubscribe
            };
            let name = feature(&format!("f{n}"));
            store.switch(&ann, &name, switch, "a test").await.unwrap();
        }
        let more = feature("more");
        let refused = store.switch(&ann, &more, Switch::Off, "a test").await;
        assert!(
            matches!(refused, Err(ChangeError::Invalid(_))),
            "{refused:?}"
        );
        // Those that are stored keep back no edit.
        put(
            &store,
            &more,
            json!({"enabled": true, "frequency": "daily"}),
        )
        .await;
        let weekly = json!({"enabled": true, "frequency": "weekly"});
        put(&store, &feature("f0"), weekly).await;
    }
}
