//! The stored preferences that cannot run, or that would not be taken again, in a table of their own, so that listing them reads
//! no others. A write keeps the table true of what it stores; when the rules of a feature change, or its schema, or what its jobs
//! make of a preference, [`ConfigStore::check_stored`] looks through all of its preferences, a page at a time.

use std::{collections::BTreeMap, time::Duration};

use punctual_domain::{Feature, FeatureType};
use serde_json::{Map, Value, json};
use sqlx::{AnyConnection, Row};
use tracing::error;

use super::{
    ConfigStore, KnownFeature, SchemaError, StoreError, dialect::Dialect, schemas::Schema,
    stored::readable, writing::Write,
};
use crate::{json::cut, plan::Plan, validate::FEATURE_PREFERENCES};

/// When to check again after the store has failed.
const RETRY_AFTER: Duration = Duration::from_secs(1);
/// Preferences that are checked at once, and noted while writers wait.
const PAGE: i64 = 500;
/// Changes with the rules that this program itself has for all preferences.
const RULES: &str = "1";
/// Characters of a reason.
const MAX_REASON: usize = 1_000;
/// Preferences that a dry run names.
const MAX_LISTED: usize = 500;

/// A stored preference that cannot run, or would not be taken again.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct InvalidPreference {
    pub(crate) feature_type: String,
    pub(crate) tenant_id: String,
    pub(crate) reason: String,
}

/// Stored preferences of a feature that do not fit its rules, or others.
#[derive(Debug, Default)]
pub(crate) struct InvalidPreferences {
    pub(crate) checked: usize,
    pub(crate) invalid: usize,
    /// The first of them.
    pub(crate) first: Vec<InvalidPreference>,
}

impl ConfigStore {
    /// The preferences that cannot run, after one of them.
    pub(crate) async fn invalid_preferences(
        &self,
        after: (&str, &str),
        limit: u32,
    ) -> Result<Vec<InvalidPreference>, StoreError> {
        let rows = sqlx::query(
            "SELECT feature_type, tenant_id, reason FROM invalid_preferences
             WHERE (feature_type, tenant_id) > ($1, $2) ORDER BY feature_type, tenant_id LIMIT $3",
        )
        .bind(after.0)
        .bind(after.1)
        .bind(i64::from(limit))
        .fetch_all(&self.pool)
        .await?;
        rows.iter()
            .map(|row| {
                Ok(InvalidPreference {
                    feature_type: row.try_get(0)?,
                    tenant_id: row.try_get(1)?,
                    reason: row.try_get(2)?,
                })
            })
            .collect()
    }

    /// How many preferences of each feature cannot run, where some cannot.
    pub(crate) async fn invalid_by_feature(&self) -> Result<Vec<(String, i64)>, StoreError> {
        let rows = sqlx::query(
            "SELECT feature_type, invalid FROM feature_counts WHERE invalid > 0 ORDER BY feature_type",
        )
        .fetch_all(&self.pool)
        .await?;
        let counts = rows
            .iter()
            .map(|row| Ok((row.try_get(0)?, row.try_get(1)?)));
        counts.collect()
    }

    /// The same, and the features whose preferences are still to be checked.
    pub(crate) async fn invalid_counts(
        &self,
    ) -> Result<(Vec<(String, i64)>, Vec<FeatureType>), StoreError> {
        let counts = self.invalid_by_feature().await?;
        let unchecked = self.unchecked().await?.into_iter();
        Ok((counts, unchecked.map(|(feature, _)| feature).collect()))
    }

    /// The features whose rules are not those that their preferences were checked against, with the hash of the rules.
    async fn unchecked(&self) -> Result<Vec<(FeatureType, String)>, StoreError> {
        let rows = sqlx::query("SELECT feature_type, checked FROM features")
            .fetch_all(&self.pool)
            .await?;
        let checked = rows
            .iter()
            .map(|row| Ok((row.try_get(0)?, row.try_get(1)?)));
        let checked = checked.collect::<Result<BTreeMap<String, String>, StoreError>>()?;
        let mut unchecked = Vec::new();
        for (name, rules) in self.rules().await? {
            // Where nothing is known of a feature, its preferences are right as they were stored.
            let without_rules = || rules == hash_of(&KnownFeature::default(), "");
            if checked
                .get(&name)
                .map_or_else(without_rules, |checked| *checked == rules)
            {
                continue;
            }
            if let Ok(feature) = FeatureType::new(&name) {
                unchecked.push((feature, rules));
            }
        }
        Ok(unchecked)
    }

    /// The hash of the rules of each feature.
    async fn rules(&self) -> Result<BTreeMap<String, String>, StoreError> {
        let names = self.feature_names().await?.into_iter();
        let rules = |name: String| {
            let feature = FeatureType::new(&name).ok()?;
            let rules = hash_of(&self.feature(&feature), &self.schema_text(&feature));
            Some((name, rules))
        };
        Ok(names.filter_map(rules).collect())
    }

    /// Checks the stored preferences at the start and whenever the rules of a feature change, for ever.
    pub(crate) async fn keep_checked(self) {
        let mut known = BTreeMap::new();
        loop {
            if let Err(failure) = self.check_stored(&mut known).await {
                error!(error = %failure, "Failed to check the stored preferences: {failure}");
                tokio::time::sleep(RETRY_AFTER).await;
                continue;
            }
            self.rules_changed.notified().await;
        }
    }

    /// Checks the stored preferences of every feature whose rules have changed: since they were checked, or since this process,
    /// which is to know the rules in `known`, took preferences by others.
    async fn check_stored(&self, known: &mut BTreeMap<String, String>) -> Result<(), StoreError> {
        let unchecked = self.unchecked().await?.into_iter();
        let mut to_check: BTreeMap<String, String> = unchecked
            .map(|(feature, rules)| (feature.to_string(), rules))
            .collect();
        for (name, rules) in self.rules().await? {
            if known.get(&name).is_some_and(|before| *before != rules) {
                to_check.insert(name, rules);
            } else {
                known.entry(name).or_insert(rules);
            }
        }
        for (name, rules) in to_check {
            let Ok(feature) = FeatureType::new(&name) else {
                continue;
            };
            let mut after = String::new();
            while let Some(last) = self.check_page(&feature, &after).await? {
                after = last;
            }
            // Others may have changed the rules meanwhile: then they are looked at again.
            sqlx::query(
                "INSERT INTO features (feature_type, checked) VALUES ($1, $2)
                 ON CONFLICT (feature_type) DO UPDATE SET checked = excluded.checked",
            )
            .bind(&name)
            .bind(&rules)
            .execute(&self.pool)
            .await?;
            known.insert(name, rules);
        }
        Ok(())
    }

    /// Checks a page of a feature's preferences, those of the tenants after `after`. Returns the last tenant; `None`: there are no
    /// more.
    async fn check_page(
        &self,
        feature: &FeatureType,
        after: &str,
    ) -> Result<Option<String>, StoreError> {
        let mut connection = self.pool.acquire().await?;
        let page = preferences_after(&mut connection, feature, after).await?;
        drop(connection);
        let last = page.last().map(|(tenant, _)| tenant.clone());
        self.check_preferences(feature, page).await?;
        Ok(last)
    }

    /// Notes what is wrong with preferences, as they were read. No writer waits while they are checked; of those that are others
    /// by then, their writers have noted it.
    async fn check_preferences(
        &self,
        feature: &FeatureType,
        read: Vec<(String, Map<String, Value>)>,
    ) -> Result<(), StoreError> {
        if read.is_empty() {
            return Ok(());
        }
        let mut checked = Vec::with_capacity(read.len());
        for (tenant, preference) in read {
            let problem = self.problem_of(feature, preference.clone()).await;
            checked.push((tenant, preference, problem));
        }
        let mut write = Write::begin(self).await?;
        let tenants = checked.iter().map(|(tenant, ..)| json!([tenant]));
        let tenants = Value::Array(tenants.collect()).to_string();
        let rows = sqlx::query(self.dialect.preferences_of("tenant_id, preference"))
            .bind(tenants)
            .bind(feature.as_str())
            .fetch_all(write.connection())
            .await?;
        let stored = rows
            .iter()
            .map(|row| Ok((row.try_get(0)?, readable(row.try_get(1)?)?)));
        let stored = stored.collect::<Result<BTreeMap<String, _>, StoreError>>()?;
        let same = checked
            .into_iter()
            .filter(|(tenant, preference, _)| stored.get(tenant) == Some(preference));
        let problems = same.map(|(tenant, _, problem)| json!([feature, tenant, problem]));
        note_problems(write.connection(), self.dialect, problems.collect()).await?;
        write.commit_rest().await
    }

    /// Why a preference, merged with what the tenant's organization says, cannot run, or be stored again.
    pub(super) async fn problem_of(
        &self,
        feature: &FeatureType,
        preference: Map<String, Value>,
    ) -> Option<String> {
        let problem = self.cannot_run(feature, &preference);
        if problem.is_some() {
            return problem;
        }
        let is_off = preference.get("enabled") == Some(&Value::Bool(false));
        let config = json!({feature.as_str(): preference});
        let checked = self.check(FEATURE_PREFERENCES, config, None).await;
        let errors = checked.err()?;
        let stands = if is_off {
            "It is switched off"
        } else {
            "It runs as it is stored"
        };
        let reason = format!("{stands}, and cannot be saved again: {errors}");
        Some(cut(&reason, MAX_REASON))
    }

    /// Why a preference cannot run although it is on.
    pub(super) fn cannot_run(
        &self,
        feature: &FeatureType,
        preference: &Map<String, Value>,
    ) -> Option<String> {
        let known = self.feature(feature);
        if known.jobs.is_empty() {
            return None;
        }
        let plan = Plan::of(preference, &known);
        let problem = plan.problem()?;
        Some(cut(&problem.to_string(), MAX_REASON))
    }

    /// How many stored preferences of a feature would not fit a description and a schema.
    pub(crate) async fn would_be_invalid(
        &self,
        feature_type: &FeatureType,
        feature: Feature,
        schema: Option<&Value>,
    ) -> Result<InvalidPreferences, SchemaError> {
        // As if this process alone had been given them.
        let rules = Self {
            schemas: std::sync::Arc::default(),
            features: std::sync::Arc::default(),
            rule_changes: std::sync::Arc::default(),
            rules_changed: std::sync::Arc::default(),
            ..self.clone()
        };
        let schema = schema.map(Schema::new).transpose()?;
        rules.saw_schema(feature_type.as_str(), schema);
        let known = self.feature(feature_type);
        rules.saw_feature(feature_type.as_str(), |would_be| {
            *would_be = KnownFeature {
                feature,
                ..(*known).clone()
            };
        });
        let mut found = InvalidPreferences::default();
        let mut after = String::new();
        loop {
            let mut connection = self.pool.acquire().await.map_err(StoreError::new)?;
            let page = preferences_after(&mut connection, feature_type, &after).await?;
            drop(connection);
            let Some((last, _)) = page.last() else {
                return Ok(found);
            };
            after = last.clone();
            for (tenant_id, preference) in page {
                found.checked += 1;
                let Some(reason) = rules.problem_of(feature_type, preference).await else {
                    continue;
                };
                found.invalid += 1;
                if found.first.len() < MAX_LISTED {
                    found.first.push(InvalidPreference {
                        feature_type: feature_type.to_string(),
                        tenant_id,
                        reason,
                    });
                }
            }
        }
    }
}

/// The hash of the rules that preferences of a feature are checked against.
fn hash_of(known: &KnownFeature, schema: &str) -> String {
    let jobs = super::jobs_json(&known.jobs);
    let rules = json!([RULES, known.feature.to_json(), jobs, schema]);
    blake3::hash(rules.to_string().as_bytes()).to_hex()[..32].to_owned()
}

/// A page of the preferences of a feature, by tenant.
async fn preferences_after(
    connection: &mut AnyConnection,
    feature: &FeatureType,
    after: &str,
) -> Result<Vec<(String, Map<String, Value>)>, StoreError> {
    let rows = sqlx::query(
        "SELECT tenant_id, preference FROM preferences
         WHERE feature_type = $1 AND tenant_id > $2 ORDER BY tenant_id LIMIT $3",
    )
    .bind(feature.as_str())
    .bind(after)
    .bind(PAGE)
    .fetch_all(connection)
    .await?;
    rows.iter()
        .map(|row| Ok((row.try_get(0)?, readable(row.try_get(1)?)?)))
        .collect()
}

/// Notes what is wrong with preferences, each `[feature, tenant, problem or null]`.
pub(super) async fn note_problems(
    connection: &mut AnyConnection,
    dialect: Dialect,
    problems: Vec<Value>,
) -> Result<(), StoreError> {
    if problems.is_empty() {
        return Ok(());
    }
    let problems = Value::from(problems).to_string();
    sqlx::query(dialect.rows(
        "DELETE FROM invalid_preferences
         WHERE (feature_type, tenant_id) IN (SELECT value ->> 0, value ->> 1 FROM ROWS)",
    ))
    .bind(problems.as_str())
    .execute(&mut *connection)
    .await?;
    sqlx::query(dialect.rows(
        "INSERT INTO invalid_preferences (feature_type, tenant_id, reason)
         SELECT value ->> 0, value ->> 1, value ->> 2 FROM ROWS WHERE value ->> 2 IS NOT NULL",
    ))
    .bind(problems.as_str())
    .execute(connection)
    .await?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use punctual_domain::TenantId;

    use super::*;

    #[tokio::test]
    async fn preferences_are_found_by_tenant_before_there_are_statistics() {
        let folder = tempfile::tempdir().unwrap();
        let url = format!("sqlite://{}", folder.path().join("config.db").display());
        let store = ConfigStore::open(&url).await.unwrap();
        let statement = store.dialect.preferences_of("tenant_id, preference");
        let explain = format!("EXPLAIN QUERY PLAN {}", statement.as_str());
        let plan = sqlx::query(sqlx::AssertSqlSafe(explain))
            .bind("[]")
            .bind("posts")
            .fetch_all(&store.pool)
            .await
            .unwrap();
        let steps: Vec<String> = plan.iter().map(|row| row.get("detail")).collect();
        assert!(
            steps.iter().any(|step| step.contains("tenant_id=?")),
            "{steps:?}"
        );
    }

    #[tokio::test]
    async fn what_was_edited_between_check_and_note_is_not_noted_as_it_was_read() {
        let folder = tempfile::tempdir().unwrap();
        let url = format!("sqlite://{}", folder.path().join("config.db").display());
        let store = ConfigStore::open(&url).await.unwrap();
        let posts = FeatureType::new("posts").unwrap();
        let put = async |tenant: &str, tone: &str| {
            let tenant = TenantId::new(tenant).unwrap();
            let preference = json!({"enabled": true, "template_overrides": {"tone": tone}});
            let preference = preference.as_object().unwrap().clone();
            store.put(&tenant, &posts, preference).await.unwrap();
        };
        for tenant in ["ann", "bob", "eve"] {
            put(tenant, "odd").await;
        }
        let schema = json!({"properties": {"tone": {"enum": ["warm"]}}});
        store.set_schema(&posts, &schema).await.unwrap();
        let mut connection = store.pool.acquire().await.unwrap();
        let read = preferences_after(&mut connection, &posts, "").await;
        drop(connection);
        // Meanwhile Ann has corrected hers, and Eve's is gone.
        put("ann", "warm").await;
        let eve = TenantId::new("eve").unwrap();
        store.remove(&eve, &posts).await.unwrap();
        store
            .check_preferences(&posts, read.unwrap())
            .await
            .unwrap();
        let found = store.invalid_preferences(("", ""), 10).await.unwrap();
        let tenants: Vec<&str> = found.iter().map(|one| one.tenant_id.as_str()).collect();
        assert_eq!(tenants, ["bob"]);
    }
}
