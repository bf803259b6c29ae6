//! A tenant's organization and its preferences: the layer below those that the tenant has stored.

use punctual_domain::{
    MAX_OVERRIDES_BYTES, MAX_PREFERENCE_BYTES, Membership, OrganizationId, check_size, merge_stored,
};
use serde_json::{Map, Value};

/// A tenant's organization, with its preferences by feature.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Layer {
    pub(crate) organization: OrganizationId,
    pub(crate) preferences: Map<String, Value>,
}

impl Layer {
    /// What the organization says of a feature; `None`: nothing.
    pub(crate) fn of(&self, feature: &str) -> Option<&Map<String, Value>> {
        let layer = self.preferences.get(feature)?.as_object()?;
        (!layer.is_empty()).then_some(layer)
    }

    /// The features of which it says something.
    pub(crate) fn features(&self) -> impl Iterator<Item = &String> {
        let names = self.preferences.keys();
        names.filter(move |name| self.of(name).is_some())
    }

    /// A member's preference for a feature: what the member has stored, over what the organization says of it, with what came from
    /// there. `None`: neither says anything. Where both together are larger than a preference may be, the member's stands alone.
    pub(crate) fn merge(
        &self,
        feature: &str,
        own: Option<&Map<String, Value>>,
    ) -> Option<(Map<String, Value>, Membership)> {
        let merged = self.of(feature).and_then(|layer| merge_within(own, layer));
        let (preference, fields) = match merged {
            Some(merged) => merged,
            None => (own?.clone(), Vec::new()),
        };
        let membership = Membership {
            id: self.organization.clone(),
            fields,
        };
        Some((preference, membership))
    }
}

/// What a member has stored over what the organization says of a feature, with the names of the fields that came from there.
/// `None`: both together are larger than a preference may be, and the member's stands alone.
pub(crate) fn merge_within(
    own: Option<&Map<String, Value>>,
    layer: &Map<String, Value>,
) -> Option<(Map<String, Value>, Vec<String>)> {
    let merged = merge_stored(own, layer);
    is_small_enough(&merged.0).then_some(merged)
}

/// Whether a preference has room where one may be stored.
fn is_small_enough(preference: &Map<String, Value>) -> bool {
    let overrides = preference.get("template_overrides");
    let fits = |overrides| check_size(overrides, "", MAX_OVERRIDES_BYTES).is_none();
    check_size(preference, "", MAX_PREFERENCE_BYTES).is_none() && overrides.is_none_or(fits)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn object(value: Value) -> Map<String, Value> {
        value.as_object().unwrap().clone()
    }

    #[test]
    fn a_member_has_the_organizations_layer_and_what_is_too_large_together_stands_alone() {
        let large = json!({"template_overrides": {"a": "x".repeat(10_000)}});
        let layer = Layer {
            organization: OrganizationId::new("acme").unwrap(),
            preferences: object(json!({"f": {"enabled": true}, "g": {}, "h": large})),
        };
        let (preference, membership) = layer.merge("f", None).unwrap();
        assert_eq!(Value::Object(preference), json!({"enabled": true}));
        assert_eq!(membership.fields, ["enabled"]);
        assert_eq!(layer.merge("g", None), None);
        assert_eq!(layer.merge("none", None), None);
        let own = object(json!({"template_overrides": {"b": "x".repeat(10_000)}}));
        for feature in ["g", "h", "none"] {
            let (preference, membership) = layer.merge(feature, Some(&own)).unwrap();
            assert_eq!(preference, own, "{feature}");
            assert!(membership.fields.is_empty(), "{feature}");
        }
    }
}
