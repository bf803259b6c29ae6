//! JSON Schemas of features: what their `template_overrides` may be. They are checked on every write; what is
//! stored already is left as it is. They are never fetched from anywhere: a `$ref` stays within its schema.

mod cost;
mod locales;

use std::{
    collections::BTreeMap,
    sync::{Arc, PoisonError, RwLock, atomic::Ordering::Relaxed},
    time::Duration,
};

use jsonschema::{PatternOptions, Validator, error::ValidationErrorKind};
use punctual_domain::{FeatureType, FieldError, FieldErrorKind, FieldErrors, Invalid, Preference};
use serde_json::{Map, Value, json};
use sqlx::{AnyConnection, Row};

use super::{ConfigStore, KnownFeature, StoreError};
use crate::{
    json::cut,
    layers::Layer,
    validate::{CheckedConfig, FEATURE_PREFERENCES, check, of_preference},
};

/// How long overrides may be checked. What takes longer is refused.
const CHECK_TIMEOUT: Duration = Duration::from_secs(5);
/// How often a pattern may try another way to match.
const MAX_BACKTRACKS: usize = 10_000;
/// Up to so many comparisons, the first 100 mistakes are listed; beyond, the first one alone.
const LIST_ALL_BELOW_COST: u64 = 100_000;
/// The longest description of a mistake; the schema library quotes what was sent.
const MAX_PROBLEM_LENGTH: usize = 300;

/// The schemas in effect, by feature.
pub(super) type Schemas = Arc<RwLock<BTreeMap<String, Schema>>>;

#[derive(Debug, Clone)]
pub(super) struct Schema {
    text: String,
    /// `None`: it was stored by a version that took what this one does not, and checks nothing.
    compiled: Option<Arc<Compiled>>,
}

#[derive(Debug)]
struct Compiled {
    validator: Validator,
    cost: u64,
}

impl Schema {
    /// One that is to be stored.
    ///
    /// # Errors
    /// It is not a schema, may take too long to check with, or has texts in other languages that no page can show.
    pub(super) fn new(document: &Value) -> Result<Self, SchemaError> {
        locales::check(document)
            .map_err(|error| SchemaError::Invalid(cut(&error, MAX_PROBLEM_LENGTH)))?;
        Ok(Self {
            compiled: Some(Arc::new(Compiled::of(document)?)),
            text: document.to_string(),
        })
    }

    /// Writes the schema of a feature, or that it has none.
    pub(super) async fn write(
        connection: &mut AnyConnection,
        feature: &str,
        schema: Option<&Self>,
    ) -> Result<(), StoreError> {
        let statement = match schema {
            Some(schema) => sqlx::query(
                "INSERT INTO feature_schemas (feature_type, schema) VALUES ($1, $2)
                 ON CONFLICT (feature_type) DO UPDATE SET schema = excluded.schema",
            )
            .bind(feature)
            .bind(schema.text.as_str()),
            None => {
                sqlx::query("DELETE FROM feature_schemas WHERE feature_type = $1").bind(feature)
            }
        };
        statement.execute(connection).await?;
        Ok(())
    }

    /// One that was accepted once.
    fn stored(feature: &str, text: String) -> Self {
        let document = serde_json::from_str(&text).unwrap_or(Value::Null);
        let compiled = Compiled::of(&document).inspect_err(|error| {
            tracing::warn!(feature, %error, "Ignored the stored schema of {feature}: {error}");
        });
        Self {
            text,
            compiled: compiled.ok().map(Arc::new),
        }
    }
}

impl Compiled {
    fn of(document: &Value) -> Result<Self, SchemaError> {
        let cost = cost::of(document).map_err(SchemaError::Invalid)?;
        let validator = jsonschema::options()
            .offline()
            .with_pattern_options(PatternOptions::fancy_regex().backtrack_limit(MAX_BACKTRACKS))
            .build(document)
            .map_err(|error| SchemaError::Invalid(cut(&error.to_string(), MAX_PROBLEM_LENGTH)))?;
        Ok(Self { validator, cost })
    }

    /// What is wrong with overrides, and where in them. Takes time, and no lock.
    fn mistakes(&self, overrides: &Value) -> Vec<Mistake> {
        if self.validator.is_valid(overrides) {
            return Vec::new();
        }
        let listed = if self.cost.saturating_mul(cost::size(overrides)) <= LIST_ALL_BELOW_COST {
            FieldErrors::LISTED
        } else {
            1
        };
        let mistake = |error: jsonschema::ValidationError<'_>| Mistake::of(&error);
        match listed {
            1 => self
                .validator
                .validate(overrides)
                .err()
                .map(mistake)
                .into_iter()
                .collect(),
            many => self
                .validator
                .iter_errors(overrides)
                .take(many)
                .map(mistake)
                .collect(),
        }
    }
}

/// What is wrong with overrides.
#[derive(Debug, PartialEq)]
struct Mistake {
    /// JSON pointer into the overrides.
    place: String,
    /// The value that stands there; `None`: the problem is not with all of it, or says so itself.
    value: Option<Value>,
    problem: String,
    kind: FieldErrorKind,
}

impl Mistake {
    fn of(error: &jsonschema::ValidationError<'_>) -> Self {
        let value = error.instance();
        let problem = match error.kind() {
            ValidationErrorKind::Constant { expected_value } => {
                format!("{value} is not {expected_value}")
            }
            _ => error.to_string(),
        };
        // What begins with the value says it a second time where the value stands before it.
        let about_value = problem.strip_prefix(&format!("{value} "));
        Self {
            place: error.instance_path().to_string(),
            value: about_value.map(|_| Value::clone(value)),
            problem: cut(about_value.unwrap_or(&problem), MAX_PROBLEM_LENGTH),
            kind: kind_of(error),
        }
    }
}

/// What a form can get wrong has a kind of its own.
fn kind_of(error: &jsonschema::ValidationError<'_>) -> FieldErrorKind {
    use FieldErrorKind as Kind;
    match error.kind() {
        ValidationErrorKind::Required { property } => {
            let name = property.as_str().unwrap_or_default();
            Kind::MissingProperty(cut(name, MAX_PROBLEM_LENGTH).into())
        }
        ValidationErrorKind::MaxLength { limit } => Kind::TooLong(*limit),
        ValidationErrorKind::MinLength { limit } => Kind::TooShort(*limit),
        ValidationErrorKind::Maximum { limit } => Kind::TooGreat(limit.to_string().into()),
        ValidationErrorKind::Minimum { limit } => Kind::TooSmall(limit.to_string().into()),
        ValidationErrorKind::ExclusiveMaximum { limit } => Kind::NotBelow(limit.to_string().into()),
        ValidationErrorKind::ExclusiveMinimum { limit } => Kind::NotAbove(limit.to_string().into()),
        ValidationErrorKind::MultipleOf { multiple_of } => {
            Kind::NotAMultiple(multiple_of.to_string().into())
        }
        ValidationErrorKind::MaxItems { limit } => Kind::TooManyEntries(*limit),
        ValidationErrorKind::MinItems { limit } => Kind::TooFewEntries(*limit),
        ValidationErrorKind::UniqueItems => Kind::RepeatedEntries,
        ValidationErrorKind::Enum { .. } | ValidationErrorKind::Constant { .. } => Kind::NotAChoice,
        ValidationErrorKind::Type { .. } => Kind::WrongType,
        ValidationErrorKind::Pattern { .. } | ValidationErrorKind::Format { .. } => {
            Kind::WrongFormat
        }
        _ => Kind::Other,
    }
}

/// Why a schema cannot be stored.
#[derive(Debug, thiserror::Error)]
pub(crate) enum SchemaError {
    #[error("invalid schema: {0}; see json-schema.org for the format")]
    Invalid(String),
    #[error(transparent)]
    Store(#[from] StoreError),
}

impl ConfigStore {
    /// Checks the `config_value` of a configuration, with what its features take.
    pub(crate) async fn check(
        &self,
        config_key: &str,
        value: Value,
        layer: Option<&Layer>,
    ) -> Result<CheckedConfig, FieldErrors> {
        self.check_edit(config_key, value, &Map::new(), layer).await
    }

    /// The same, where `stored` is edited: what a feature takes today is not asked of a preference that stays as it was, and of those
    /// that are only switched off as many as there are may stay, so that nothing else keeps back an edit. What the tenant leaves
    /// out may be in the `layer` of the organization.
    pub(crate) async fn check_edit(
        &self,
        config_key: &str,
        value: Value,
        stored: &Map<String, Value>,
        layer: Option<&Layer>,
    ) -> Result<CheckedConfig, FieldErrors> {
        let checked = check(config_key, value, stored)?;
        let fits = |feature: &FeatureType, own: &Preference, known: &KnownFeature| {
            let fields = checked.value[feature.as_str()].as_object();
            let layer = layer.filter(|layer| layer.of(feature.as_str()).is_some());
            let merged = layer.and_then(|layer| layer.merge(feature.as_str(), fields));
            let Some((merged, _)) = merged else {
                known.takes(own)?;
                return known.runs(own);
            };
            let is_off = merged.get("enabled") == Some(&Value::Bool(false));
            let says_how_often = !merged.get("frequency").is_none_or(Value::is_null);
            match Preference::parse(&merged) {
                // Which times there are is decided by the frequency, which may be the organization's.
                Ok(merged) if says_how_often => {
                    known.feature.check(own, [&merged])?;
                    known.runs(&merged)
                }
                Ok(merged) => {
                    known.takes(own)?;
                    known.runs(&merged)
                }
                Err(_) if is_off => known.takes(own),
                Err(errors) => known.takes(own).and(Err(errors)),
            }
        };
        let errors = self.mistakes(&checked, stored, fits).await?;
        FieldErrors::unless_empty(errors)?;
        Ok(checked)
    }

    /// Checks the preferences of an organization, in place of those that are `stored`. They need not run by themselves: members may
    /// say the rest.
    pub(crate) async fn check_organization(
        &self,
        value: Value,
        stored: &Map<String, Value>,
    ) -> Result<CheckedConfig, FieldErrors> {
        let checked = check(FEATURE_PREFERENCES, value, stored)?;
        let takes = |_: &FeatureType, own: &Preference, known: &KnownFeature| known.takes(own);
        let errors = self.mistakes(&checked, stored, takes).await?;
        FieldErrors::unless_empty(errors)?;
        Ok(checked)
    }

    /// What is wrong with the preferences that are not as they are `stored`. `fits` finds out whether a feature takes one.
    async fn mistakes(
        &self,
        checked: &CheckedConfig,
        stored: &Map<String, Value>,
        fits: impl Fn(&FeatureType, &Preference, &KnownFeature) -> Result<(), FieldErrors>,
    ) -> Result<Vec<FieldError>, FieldErrors> {
        let features = checked.features.iter();
        let edited: Vec<&FeatureType> = features
            .filter(|feature| stored.get(feature.as_str()) != checked.value.get(feature.as_str()))
            .collect();
        let mut errors = self.not_taken(checked, &edited, fits);
        errors.extend(not_in_schema(self.to_check(checked, &edited)).await?);
        Ok(errors)
    }

    /// Checks a preference by itself, with pointers from it.
    pub(crate) async fn check_preference(
        &self,
        feature: &FeatureType,
        preference: &Map<String, Value>,
        layer: Option<&Layer>,
    ) -> Result<(), FieldErrors> {
        let config = json!({feature.as_str(): preference});
        let checked = self.check(FEATURE_PREFERENCES, config, layer).await;
        checked
            .map(drop)
            .map_err(|errors| of_preference(errors, feature))
    }

    /// What these preferences say that their features do not offer, or that none of their jobs can run.
    fn not_taken(
        &self,
        checked: &CheckedConfig,
        edited: &[&FeatureType],
        fits: impl Fn(&FeatureType, &Preference, &KnownFeature) -> Result<(), FieldErrors>,
    ) -> Vec<FieldError> {
        let mut not_taken = Vec::new();
        for feature in edited {
            let preference = checked.value[feature.as_str()].as_object();
            let Some(Ok(preference)) = preference.map(Preference::parse) else {
                continue;
            };
            let known = self.feature(feature);
            if let Err(FieldErrors(errors)) = fits(feature, &preference, &known) {
                not_taken.extend(errors.into_iter().map(|mut error| {
                    error.pointer = format!("/config_value/{feature}{}", error.pointer);
                    error
                }));
            }
        }
        not_taken
    }

    /// The overrides of these features that have a schema, with it.
    fn to_check(
        &self,
        checked: &CheckedConfig,
        edited: &[&FeatureType],
    ) -> Vec<(FeatureType, Value, Arc<Compiled>)> {
        let schemas = self.schemas.read().unwrap_or_else(PoisonError::into_inner);
        let with_schema = |feature: &&FeatureType| {
            let schema = schemas.get(feature.as_str())?.compiled.clone()?;
            let overrides = checked.value[feature.as_str()].get("template_overrides")?;
            Some(((*feature).clone(), overrides.clone(), schema))
        };
        edited.iter().filter_map(with_schema).collect()
    }

    /// The schema of a feature in effect, as text; empty: it has none.
    pub(super) fn schema_text(&self, feature: &FeatureType) -> String {
        let schemas = self.schemas.read().unwrap_or_else(PoisonError::into_inner);
        let schema = schemas.get(feature.as_str());
        schema.map_or_else(String::new, |schema| schema.text.clone())
    }

    /// Puts a schema into effect.
    pub(crate) async fn set_schema(
        &self,
        feature: &FeatureType,
        schema: &Value,
    ) -> Result<(), SchemaError> {
        let schema = Schema::new(schema)?;
        let mut connection = self.pool.acquire().await.map_err(StoreError::new)?;
        Schema::write(&mut connection, feature.as_str(), Some(&schema)).await?;
        self.saw_schema(feature.as_str(), Some(schema));
        Ok(())
    }

    pub(super) fn saw_schema(&self, feature: &str, schema: Option<Schema>) {
        let mut schemas = self.schemas.write().unwrap_or_else(PoisonError::into_inner);
        match schema {
            Some(schema) => schemas.insert(feature.to_owned(), schema),
            None => schemas.remove(feature),
        };
        self.rule_changes.fetch_add(1, Relaxed);
        self.rules_changed.notify_one();
    }

    /// The schema of a feature, as it was stored.
    pub(crate) async fn schema(&self, feature: &FeatureType) -> Result<Option<Value>, StoreError> {
        let text: Option<String> =
            sqlx::query_scalar("SELECT schema FROM feature_schemas WHERE feature_type = $1")
                .bind(feature.as_str())
                .fetch_optional(&self.pool)
                .await
                .map_err(StoreError::new)?;
        text.map(|text| serde_json::from_str(&text))
            .transpose()
            .map_err(StoreError::new)
    }

    /// The features that have a schema.
    pub(super) fn features_with_schema(&self) -> Vec<String> {
        let schemas = self.schemas.read().unwrap_or_else(PoisonError::into_inner);
        schemas.keys().cloned().collect()
    }

    /// Takes a schema out of force. Returns whether there was one.
    pub(crate) async fn remove_schema(&self, feature: &FeatureType) -> Result<bool, StoreError> {
        let deleted = sqlx::query("DELETE FROM feature_schemas WHERE feature_type = $1")
            .bind(feature.as_str())
            .execute(&self.pool)
            .await
            .map_err(StoreError::new)?;
        self.saw_schema(feature.as_str(), None);
        Ok(deleted.rows_affected() > 0)
    }

    /// Puts into effect what is stored; what is known already is not compiled again.
    pub(super) async fn load_schemas(
        &self,
        connection: &mut AnyConnection,
    ) -> Result<(), StoreError> {
        let before = self.rule_changes.load(Relaxed);
        let rows = sqlx::query("SELECT feature_type, schema FROM feature_schemas")
            .fetch_all(connection)
            .await?;
        let in_effect = self
            .schemas
            .read()
            .unwrap_or_else(PoisonError::into_inner)
            .clone();
        let mut schemas = BTreeMap::new();
        for row in rows {
            let (feature, text): (String, String) = (row.try_get(0)?, row.try_get(1)?);
            let schema = match in_effect.get(&feature) {
                Some(known) if known.text == text => known.clone(),
                _ => Schema::stored(&feature, text),
            };
            schemas.insert(feature, schema);
        }
        let texts = |schemas: &BTreeMap<String, Schema>| -> Vec<(String, String)> {
            let text = |(name, schema): (&String, &Schema)| (name.clone(), schema.text.clone());
            schemas.iter().map(text).collect()
        };
        if texts(&in_effect) != texts(&schemas) {
            let mut in_effect = self.schemas.write().unwrap_or_else(PoisonError::into_inner);
            // They have changed here since they were read, or were read again by another call; the next call reads them again.
            if self.rule_changes.load(Relaxed) != before {
                return Ok(());
            }
            self.rule_changes.fetch_add(1, Relaxed);
            *in_effect = schemas;
            drop(in_effect);
            self.rules_changed.notify_one();
        }
        Ok(())
    }
}

/// What is wrong with overrides that have a schema.
async fn not_in_schema(
    to_check: Vec<(FeatureType, Value, Arc<Compiled>)>,
) -> Result<Vec<FieldError>, FieldErrors> {
    if to_check.is_empty() {
        return Ok(Vec::new());
    }
    let mistakes = tokio::task::spawn_blocking(move || {
        let of = |(feature, overrides, schema): &(FeatureType, Value, Arc<Compiled>)| {
            let mistakes = schema.mistakes(overrides);
            (!mistakes.is_empty()).then(|| (feature.clone(), mistakes))
        };
        to_check.iter().filter_map(of).collect::<Vec<_>>()
    });
    let Ok(Ok(mistakes)) = tokio::time::timeout(CHECK_TIMEOUT, mistakes).await else {
        let invalid = Invalid::new(
            "cannot be checked against the schema in time",
            "store a smaller value, or simplify the schema",
        );
        return Err(FieldErrors(vec![invalid.at("/config_value", None)]));
    };
    let errors = mistakes.into_iter().flat_map(|(feature, mistakes)| {
        mistakes.into_iter().map(move |mistake| {
            let remedy = format!("see GET /api/v1/feature-types/{feature}/schema");
            let place = mistake.place;
            let pointer = format!("/config_value/{feature}/template_overrides{place}");
            let invalid = Invalid::new(mistake.problem, remedy).of_kind(mistake.kind);
            invalid.at(pointer, mistake.value.as_ref())
        })
    });
    Ok(errors.collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_mistake_has_the_value_its_kind_and_the_rest_of_what_is_wrong() {
        use FieldErrorKind as Kind;
        for (rule, value, problem, kind) in [
            (
                json!({"pattern": "^[a-z]+$"}),
                json!("X 1"),
                "does not match \"^[a-z]+$\"",
                Kind::WrongFormat,
            ),
            (
                json!({"const": "dry"}),
                json!("loud"),
                "is not \"dry\"",
                Kind::NotAChoice,
            ),
            (
                json!({"exclusiveMinimum": 0}),
                json!(0),
                "is less than or equal to the minimum of 0",
                Kind::NotAbove("0".into()),
            ),
            (
                json!({"exclusiveMaximum": 10}),
                json!(10),
                "is greater than or equal to the maximum of 10",
                Kind::NotBelow("10".into()),
            ),
            (
                json!({"multipleOf": 5}),
                json!(7),
                "is not a multiple of 5",
                Kind::NotAMultiple("5".into()),
            ),
        ] {
            let schema = Compiled::of(&json!({"properties": {"x": rule}})).unwrap();
            let expected = Mistake {
                place: "/x".to_owned(),
                value: Some(value.clone()),
                problem: problem.to_owned(),
                kind,
            };
            assert_eq!(schema.mistakes(&json!({ "x": value })), [expected]);
        }
        // What is not about the value as a whole.
        for (rule, overrides, kind) in [
            (
                json!({"required": ["x"]}),
                json!({}),
                Kind::MissingProperty("x".into()),
            ),
            (
                json!({"additionalProperties": false}),
                json!({"x": 1}),
                Kind::Other,
            ),
        ] {
            let found = Compiled::of(&rule).unwrap().mistakes(&overrides);
            assert_eq!((&found[0].value, &found[0].kind), (&None, &kind), "{rule}");
        }
    }
}
