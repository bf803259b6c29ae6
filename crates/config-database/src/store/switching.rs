//! Switching one feature of a tenant off, and on again, whatever else the tenant has stored: what an e-mail's link does has to
//! work also where other preferences are not valid any more.

use punctual_domain::{FeatureType, TenantId};
use serde_json::{Map, Value};

use super::{ChangeError, ConfigId, ConfigStore, Expected, StoreError, configs::ATTEMPTS};
use crate::validate::{CheckedConfig, MAX_FEATURES, too_many_features};

impl ConfigStore {
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

    /// Switches a feature off or on. Everything else is kept as it is stored; what is wrong with it is noted only.
    ///
    /// # Errors
    /// The tenant has as many features as can be stored, and this one is not among them.
    pub(crate) async fn switch(
        &self,
        tenant: &TenantId,
        feature: &FeatureType,
        on: bool,
        actor: &str,
    ) -> Result<(), ChangeError> {
        let id = ConfigId::of_preferences(tenant);
        for _ in 0..ATTEMPTS {
            let seen = self.config(&id).await?;
            let mut value = seen
                .as_ref()
                .map_or_else(Map::new, |seen| seen.config_value.clone());
            if !value.contains_key(feature.as_str()) && value.len() >= MAX_FEATURES {
                return Err(too_many_features(value.len() + 1).into());
            }
            let preference = value.entry(feature.to_string()).or_insert(Value::Null);
            if !preference.is_object() {
                *preference = Value::Object(Map::new());
            }
            preference["enabled"] = Value::Bool(on);
            let config = CheckedConfig {
                features: features_of(&value),
                value,
            };
            let expected = Expected::seen(seen.as_ref());
            match self.change(&id, &expected, actor, Some(config)).await {
                Err(ChangeError::Unexpected(_)) => {}
                changed => {
                    changed?;
                    let stored = self.preference(tenant, feature).await?;
                    let stored = stored.map(|stored| (tenant.to_string(), stored));
                    let stored = stored.into_iter().collect();
                    return Ok(self.check_preferences(feature, stored).await?);
                }
            }
        }
        Err(ChangeError::Busy)
    }
}

fn features_of(value: &Map<String, Value>) -> Vec<(FeatureType, bool)> {
    let feature = |(name, preference): (&String, &Value)| {
        let is_off = preference.get("enabled") == Some(&Value::Bool(false));
        Some((FeatureType::new(name).ok()?, !is_off))
    };
    value.iter().filter_map(feature).collect()
}
