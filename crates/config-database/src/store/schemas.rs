//! JSON Schemas of features: what their `template_overrides` may be. They are checked on every write; what is
//! stored already is left as it is. They are never fetched from anywhere: a `$ref` stays within its schema.

use std::{
    collections::BTreeMap,
    sync::{Arc, PoisonError, RwLock},
};

use futures::TryStreamExt;
use jsonschema::Validator;
use punctual_domain::{FeatureType, FieldError, FieldErrors};
use serde_json::Value;
use sqlx::{AnyConnection, Row};

use super::{ConfigStore, StoreError};
use crate::validate::{CheckedConfig, FEATURE_PREFERENCES, check};

/// The schemas in force, by feature.
pub(super) type Schemas = Arc<RwLock<BTreeMap<String, Schema>>>;

#[derive(Debug, Clone)]
pub(super) struct Schema {
    text: String,
    compiled: Arc<Validator>,
}

impl Schema {
    fn compile(text: String) -> Result<Self, SchemaError> {
        let invalid = |error: &dyn std::fmt::Display| SchemaError::Invalid(error.to_string());
        let document = serde_json::from_str(&text).map_err(|error| invalid(&error))?;
        let compiled = jsonschema::validator_for(&document).map_err(|error| invalid(&error))?;
        Ok(Self {
            text,
            compiled: Arc::new(compiled),
        })
    }
}

/// Stored preferences that are not valid.
#[derive(Debug, Default)]
pub(crate) struct InvalidPreferences {
    pub(crate) checked: usize,
    pub(crate) invalid: usize,
    /// Tenant, feature and reason of the first ones.
    pub(crate) first: Vec<(String, String, String)>,
}

impl InvalidPreferences {
    const LISTED: usize = 500;
}

/// Why a schema cannot be stored.
#[derive(Debug, thiserror::Error)]
pub(crate) enum SchemaError {
    #[error("this is no JSON Schema: {0}; see json-schema.org for what one looks like")]
    Invalid(String),
    #[error(transparent)]
    Store(#[from] StoreError),
}

impl ConfigStore {
    /// Checks the `config_value` of a configuration, schemas included.
    pub(crate) fn check(
        &self,
        config_key: &str,
        value: &Value,
    ) -> Result<CheckedConfig, FieldErrors> {
        let checked = check(config_key, value)?;
        let schemas = self.schemas.read().unwrap_or_else(PoisonError::into_inner);
        let mut errors = Vec::new();
        for (feature, _) in &checked.features {
            let overrides = checked.value[feature.as_str()].get("template_overrides");
            if let (Some(schema), Some(overrides)) = (schemas.get(feature.as_str()), overrides) {
                errors.extend(
                    schema
                        .compiled
                        .iter_errors(overrides)
                        .map(|error| FieldError {
                            pointer: format!(
                                "/config_value/{feature}/template_overrides{}",
                                error.instance_path()
                            ),
                            value: None,
                            problem: error.to_string(),
                            remedy: format!("see GET /api/v1/feature-types/{feature}/schema"),
                        }),
                );
            }
        }
        if errors.is_empty() {
            Ok(checked)
        } else {
            Err(FieldErrors(errors))
        }
    }

    /// Looks for stored preferences that are not valid under the rules and schemas of today.
    pub(crate) async fn invalid_preferences(&self) -> Result<InvalidPreferences, StoreError> {
        let mut rows = sqlx::query("SELECT tenant_id, feature_type, preference FROM preferences")
            .fetch(&self.pool);
        let mut found = InvalidPreferences::default();
        while let Some(row) = rows.try_next().await? {
            let (tenant, feature, text): (String, String, &str) =
                (row.try_get(0)?, row.try_get(1)?, row.try_get(2)?);
            let preference: Value = serde_json::from_str(text).map_err(StoreError::new)?;
            let config = Value::Object([(feature.clone(), preference)].into_iter().collect());
            found.checked += 1;
            if let Err(errors) = self.check(FEATURE_PREFERENCES, &config) {
                found.invalid += 1;
                if found.first.len() < InvalidPreferences::LISTED {
                    found.first.push((tenant, feature, errors.to_string()));
                }
            }
        }
        Ok(found)
    }

    /// Puts a schema in force.
    pub(crate) async fn set_schema(
        &self,
        feature: &FeatureType,
        schema: &Value,
    ) -> Result<(), SchemaError> {
        let schema = Schema::compile(schema.to_string())?;
        sqlx::query(
            "INSERT INTO feature_schemas (feature_type, schema) VALUES ($1, $2)
             ON CONFLICT (feature_type) DO UPDATE SET schema = excluded.schema",
        )
        .bind(feature.as_str())
        .bind(&schema.text)
        .execute(&self.pool)
        .await
        .map_err(StoreError::new)?;
        let mut schemas = self.schemas.write().unwrap_or_else(PoisonError::into_inner);
        schemas.insert(feature.to_string(), schema);
        Ok(())
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

    /// Takes a schema out of force. Returns whether there was one.
    pub(crate) async fn remove_schema(&self, feature: &FeatureType) -> Result<bool, StoreError> {
        let deleted = sqlx::query("DELETE FROM feature_schemas WHERE feature_type = $1")
            .bind(feature.as_str())
            .execute(&self.pool)
            .await
            .map_err(StoreError::new)?;
        self.schemas
            .write()
            .unwrap_or_else(PoisonError::into_inner)
            .remove(feature.as_str());
        Ok(deleted.rows_affected() > 0)
    }

    /// Puts in force what is stored; what is in force already is not compiled again.
    pub(super) async fn load_schemas(
        &self,
        connection: &mut AnyConnection,
    ) -> Result<(), StoreError> {
        let rows = sqlx::query("SELECT feature_type, schema FROM feature_schemas")
            .fetch_all(connection)
            .await?;
        let in_force = self
            .schemas
            .read()
            .unwrap_or_else(PoisonError::into_inner)
            .clone();
        let mut schemas = BTreeMap::new();
        for row in rows {
            let (feature, text): (String, String) = (row.try_get(0)?, row.try_get(1)?);
            let schema = match in_force.get(&feature) {
                Some(known) if known.text == text => known.clone(),
                _ => Schema::compile(text).map_err(StoreError::new)?,
            };
            schemas.insert(feature, schema);
        }
        *self.schemas.write().unwrap_or_else(PoisonError::into_inner) = schemas;
        Ok(())
    }
}
