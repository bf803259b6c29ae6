//! What may be stored: `feature_preferences` is checked feature by feature, so that nobody can store what
//! the agent would have to quarantine.

use punctual_domain::{FeatureType, FieldError, FieldErrors, Invalid, Preference};
use serde_json::{Map, Value};

/// The key under which a tenant's preferences are kept, by feature.
pub(crate) const FEATURE_PREFERENCES: &str = "feature_preferences";

/// A configuration that may be stored.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct CheckedConfig {
    pub(crate) value: Map<String, Value>,
    /// The features in it, with whether each is switched on.
    pub(crate) features: Vec<(FeatureType, bool)>,
}

/// Checks the `config_value` of a configuration.
pub(crate) fn check(config_key: &str, value: &Value) -> Result<CheckedConfig, FieldErrors> {
    let Some(object) = value.as_object() else {
        let error = Invalid::wrong_type("an object, { … }").at("/config_value", Some(value));
        return Err(FieldErrors(vec![error]));
    };
    let mut checked = CheckedConfig {
        value: object.clone(),
        features: Vec::new(),
    };
    if config_key != FEATURE_PREFERENCES {
        return Ok(checked);
    }
    let mut errors: Vec<FieldError> = Vec::new();
    for (name, preference) in object {
        let pointer = format!(
            "/config_value/{}",
            name.replace('~', "~0").replace('/', "~1")
        );
        let feature = FeatureType::new(name);
        match (feature, preference.as_object().map(Preference::parse)) {
            (Ok(feature), Some(Ok(preference))) => {
                checked
                    .features
                    .push((feature, preference.enabled == Some(true)));
            }
            (Err(error), _) => {
                errors.push(Invalid::from(error).at(&pointer, Some(&Value::from(name.as_str()))));
            }
            (_, None) => {
                errors.push(Invalid::wrong_type("an object, { … }").at(&pointer, Some(preference)));
            }
            (_, Some(Err(found))) => errors.extend(found.0.into_iter().map(|mut error| {
                error.pointer = format!("{pointer}{}", error.pointer);
                error
            })),
        }
    }
    if errors.is_empty() {
        Ok(checked)
    } else {
        Err(FieldErrors(errors))
    }
}
