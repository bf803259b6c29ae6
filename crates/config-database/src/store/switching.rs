//! Switching one feature of a tenant off and on, whatever else the tenant has stored: what an e-mail's link does has to
//! work also where other preferences are not valid any more.

use punctual_domain::{FeatureType, TenantId};
use serde_json::{Map, Value};

use super::{ChangeError, ConfigId, ConfigStore, Expected, StoreError, configs::ATTEMPTS};
use crate::validate::CheckedConfig;

impl ConfigStore {
    /// Whether a tenant has stored a preference for a feature, and whether it is switched on.
    pub(crate) async fn is_on(
        &self,
        tenant: &TenantId,
        feature: &FeatureType,
    ) -> Result<Option<bool>, StoreError> {
        let config = self.config(&ConfigId::of_preferences(tenant)).await?;
        let preference =
            config.and_then(|config| config.config_value.get(feature.as_str()).cloned());
        Ok(preference.map(|preference| is_enabled(&preference)))
    }

    /// Switches a feature off or on. Everything else is kept as it is stored, and not checked again.
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
                changed => return changed.map(drop),
            }
        }
        Err(ChangeError::Busy)
    }
}

fn is_enabled(preference: &Value) -> bool {
    preference.get("enabled") == Some(&Value::Bool(true))
}

fn features_of(value: &Map<String, Value>) -> Vec<(FeatureType, bool)> {
    let feature = |(name, preference): (&String, &Value)| {
        Some((FeatureType::new(name).ok()?, is_enabled(preference)))
    };
    value.iter().filter_map(feature).collect()
}
