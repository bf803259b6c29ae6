//! What may be stored: `feature_preferences` is checked feature by feature, so that nothing is stored that the agent
//! would have to quarantine. What one tenant stores is bounded, because everybody else's reads carry it.

use std::collections::BTreeMap;

use punctual_domain::{
    FeatureType, FieldError, FieldErrors, Invalid, LanguageTag, OrganizationId, Preference,
    check_content, check_size,
};
use serde_json::{Map, Value};

/// The key under which a tenant's preferences are kept, by feature.
pub(crate) const FEATURE_PREFERENCES: &str = "feature_preferences";
/// The key under which a product keeps what it knows of a tenant's user: `locale`, the language of the pages, `organization_id`, the
/// organization that the tenant belongs to, and fields of its own.
pub(crate) const PROFILE: &str = "profile";

/// Largest configuration, in bytes of compact JSON.
const MAX_CONFIG_BYTES: usize = 512 * 1024;
/// Largest configuration under another key than `feature_preferences`.
const MAX_OTHER_CONFIG_BYTES: usize = 32 * 1024;
/// Features of one tenant; and as many again that are switched off and say nothing else, so that there is room to switch off what
/// is not stored.
const MAX_FEATURES: usize = 100;

/// Where the value stands in what is sent.
const POINTER: &str = "/config_value";
/// Where a profile names the organization.
const ORGANIZATION_POINTER: &str = "/config_value/organization_id";

/// A configuration that may be stored.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct CheckedConfig {
    pub(crate) value: Map<String, Value>,
    /// The features in it.
    pub(crate) features: Vec<FeatureType>,
    /// What is wrong with preferences in it that are stored all the same, by feature.
    pub(crate) problems: BTreeMap<String, String>,
}

/// Checks the `config_value` of a configuration that takes the place of `stored`.
pub(crate) fn check(
    config_key: &str,
    value: Value,
    stored: &Map<String, Value>,
) -> Result<CheckedConfig, FieldErrors> {
    let preferences = config_key == FEATURE_PREFERENCES;
    let longest = if preferences {
        MAX_CONFIG_BYTES
    } else {
        MAX_OTHER_CONFIG_BYTES
    };
    if let Some(too_large) = check_size(&value, POINTER, longest) {
        return Err(too_large.into());
    }
    let mut errors = Vec::new();
    if !preferences {
        check_content(&value, POINTER, &mut errors);
    }
    let value = match value {
        Value::Object(object) => object,
        other => {
            errors.push(Invalid::wrong_type("an object, { … }").at(POINTER, Some(&other)));
            return Err(FieldErrors(errors));
        }
    };
    if config_key == PROFILE {
        errors.extend(check_locale(&value));
        if let Err(FieldErrors(wrong)) = read_organization(&value) {
            errors.extend(wrong);
        }
    }
    let features = if preferences {
        check_features(&value, stored, &mut errors)
    } else {
        Vec::new()
    };
    if errors.is_empty() {
        Ok(CheckedConfig {
            value,
            features,
            problems: BTreeMap::new(),
        })
    } else {
        Err(FieldErrors(errors))
    }
}

/// The same mistakes for those who know a feature's preference, and not the configuration that it is a part of.
pub(crate) fn of_preference(mut errors: FieldErrors, feature: &FeatureType) -> FieldErrors {
    let prefix = format!("{POINTER}/{feature}");
    for error in &mut errors.0 {
        if let Some(below) = error.pointer.strip_prefix(&prefix) {
            error.pointer = below.to_owned();
        }
    }
    errors
}

/// Checks how large the preferences of a tenant are, and how many, where they take the place of `stored`.
pub(crate) fn check_limits(
    preferences: &Map<String, Value>,
    stored: &Map<String, Value>,
) -> Result<(), FieldErrors> {
    match check_size(preferences, POINTER, MAX_CONFIG_BYTES) {
        Some(too_large) => Err(too_large.into()),
        None => check_count(preferences, stored),
    }
}

/// Links that unsubscribe may have stored more that are only switched off: as many as there are may stay.
fn check_count(
    preferences: &Map<String, Value>,
    stored: &Map<String, Value>,
) -> Result<(), FieldErrors> {
    let only_off = |of: &Map<String, Value>| of.values().filter(|one| is_only_off(one)).count();
    let off = only_off(preferences);
    let others = preferences.len() - off;
    let (problem, remedy) = if others > MAX_FEATURES {
        (
            format!("has {others} features"),
            format!("keep at most {MAX_FEATURES} of them, beside those that are only switched off"),
        )
    } else if off > MAX_FEATURES.max(only_off(stored)) {
        (
            format!("has {off} features that are only switched off"),
            format!("keep at most {MAX_FEATURES} of them"),
        )
    } else {
        return Ok(());
    };
    Err(Invalid::new(problem, remedy).at(POINTER, None).into())
}

/// Whether a preference says that it is switched off, and nothing else.
pub(crate) fn is_only_off(preference: &Value) -> bool {
    let fields = preference.as_object();
    fields.is_some_and(|fields| fields.len() == 1 && fields.get("enabled") == Some(&false.into()))
}

/// What is wrong with the language of a profile.
fn check_locale(profile: &Map<String, Value>) -> Option<FieldError> {
    let locale = profile.get("locale")?;
    let tag = locale.as_str().map(str::parse::<LanguageTag>);
    let invalid = match tag {
        Some(Ok(_)) => return None,
        Some(Err(_)) => Invalid::new(
            "is not a valid language tag",
            "use one such as `de` or `pt-BR`",
        ),
        None => Invalid::wrong_type("a language tag such as `de` or `pt-BR`"),
    };
    Some(invalid.at(format!("{POINTER}/locale"), Some(locale)))
}

/// The organization that a profile names; `None`: none.
pub(crate) fn organization_of(profile: &Map<String, Value>) -> Option<OrganizationId> {
    read_organization(profile).ok().flatten()
}

fn read_organization(profile: &Map<String, Value>) -> Result<Option<OrganizationId>, FieldErrors> {
    let named = profile.get("organization_id");
    let Some(named) = named.filter(|named| !named.is_null()) else {
        return Ok(None);
    };
    let id = match named.as_str() {
        Some(id) => OrganizationId::new(id).map_err(Invalid::from),
        None => Err(Invalid::wrong_type("the id of an organization, a text")),
    };
    id.map(Some)
        .map_err(|invalid| invalid.at(ORGANIZATION_POINTER, Some(named)).into())
}

/// That a profile would name another organization than it does, changed by who is let in to one tenant alone.
pub(crate) fn may_not_move(stored: Option<&OrganizationId>) -> FieldErrors {
    let remedy = match stored {
        Some(id) => format!("leave it as it is, `{id}`, or send a key that may write all tenants"),
        None => "leave it out, or send a key that may write all tenants".to_owned(),
    };
    let problem = "is not for the tenant to change";
    Invalid::new(problem, remedy)
        .at(ORGANIZATION_POINTER, None)
        .into()
}

/// That an organization has as many members as it may have.
pub(crate) fn too_many_members(organization: &OrganizationId, most: i64) -> FieldErrors {
    let problem = format!("has {most} members already, as many as an organization may have");
    let remedy = "use another organization, or remove members from this one";
    let value = Value::from(organization.as_str());
    Invalid::new(problem, remedy)
        .at(ORGANIZATION_POINTER, Some(&value))
        .into()
}

/// That one write of an organization's preferences would change those of too many members.
pub(crate) fn too_many_at_once(features: usize, members: i64, most: i64) -> FieldErrors {
    let problem = format!(
        "changes {features} features of {members} members in one write, which may change {most} preferences of members"
    );
    let remedy = format!(
        "change at most {} features, then the others in writes after it",
        most / members.max(1)
    );
    Invalid::new(problem, remedy).at(POINTER, None).into()
}

fn check_features(
    preferences: &Map<String, Value>,
    stored: &Map<String, Value>,
    errors: &mut Vec<FieldError>,
) -> Vec<FeatureType> {
    let mut features = Vec::new();
    if let Err(FieldErrors(too_many)) = check_count(preferences, stored) {
        errors.extend(too_many);
        return features;
    }
    for (name, preference) in preferences {
        let pointer = format!("{POINTER}/{}", name.replace('~', "~0").replace('/', "~1"));
        let feature = FeatureType::new(name);
        match (feature, preference.as_object().map(Preference::parse)) {
            (Ok(feature), Some(Ok(_))) => features.push(feature),
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
    features
}
