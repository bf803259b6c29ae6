//! What is known of a feature beside its schema: what people call it and what a preference for it may say, which an administrator
//! stores, and what its jobs make of what a preference leaves out, which agents publish.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::{Arc, PoisonError, RwLock, atomic::Ordering::Relaxed},
};

use punctual_domain::{
    Feature, FeatureType, FieldErrors, Fields, Invalid, JobDefaults, JobId, Preference,
};
use serde_json::{Map, Value};
use sqlx::{AnyConnection, Row};

use super::{ConfigStore, SchemaError, StoreError, schemas::Schema};

/// What is known of the features.
pub(super) type Features = Arc<RwLock<LoadedFeatures>>;

/// What is known of the features, as it was read last and changed since.
#[derive(Debug, Default)]
pub(super) struct LoadedFeatures {
    by_name: BTreeMap<String, Arc<KnownFeature>>,
    /// The rows that were read last; `None`: this process has changed them.
    rows: Option<Vec<(String, String, String)>>,
}

/// What is known of a feature beside its schema.
#[derive(Debug, Clone, PartialEq, Default)]
pub(crate) struct KnownFeature {
    pub(crate) feature: Feature,
    /// Its jobs, as an agent published them last; empty: none has.
    pub(crate) jobs: BTreeMap<JobId, JobDefaults>,
}

impl KnownFeature {
    /// Checks that a preference says nothing that the feature does not offer.
    ///
    /// # Errors
    /// Each field that says so.
    pub(crate) fn takes(&self, preference: &Preference) -> Result<(), FieldErrors> {
        let usual = self.jobs.values().map(|job| &job.defaults);
        self.feature.check(preference, usual)
    }

    /// Whether a preference is off with every job of the feature, or can run with one of them. Where none is known, so is that.
    ///
    /// # Errors
    /// What keeps it from running with the first of them.
    pub(crate) fn runs(&self, preference: &Preference) -> Result<(), FieldErrors> {
        let mut refused = Ok(());
        for job in self.jobs.values() {
            if !preference.is_on(&job.defaults) {
                continue;
            }
            match job.effective(preference) {
                Ok(_) => return Ok(()),
                Err(errors) => refused = refused.and(Err(errors)),
            }
        }
        refused
    }

    /// One that was stored. What this version cannot read of it counts as not known.
    fn stored(feature_type: &str, description: &str, jobs: &str) -> Self {
        let warn = |what: &str, error: &dyn std::fmt::Display| {
            tracing::warn!(feature_type, %error, "Ignored the stored {what} of {feature_type}: {error}");
        };
        let description: Map<String, Value> = serde_json::from_str(description).unwrap_or_default();
        let mut fields = Fields::new(&description, "");
        let feature = Feature::read(&mut fields);
        let feature = fields.finish(|| Some(feature));
        let feature = feature.inspect_err(|error| warn("description", error));
        let jobs = serde_json::from_str(jobs).unwrap_or(Value::Null);
        let jobs = JobDefaults::parse_all(&jobs, "");
        let jobs = jobs.inspect_err(|error| warn("jobs", error));
        Self {
            feature: feature.unwrap_or_default(),
            jobs: jobs.unwrap_or_default(),
        }
    }
}

/// The features that have preferences, a schema or a description.
pub(super) const FEATURE_NAMES: &str = "
    WITH RECURSIVE names(name) AS (
        SELECT (SELECT min(feature_type) FROM preferences)
        UNION ALL
        SELECT (SELECT min(feature_type) FROM preferences WHERE feature_type > names.name)
        FROM names WHERE names.name IS NOT NULL)
    SELECT name FROM names WHERE name IS NOT NULL
    UNION SELECT feature_type FROM feature_schemas
    UNION SELECT feature_type FROM features
    ORDER BY 1";

impl ConfigStore {
    /// What is known of a feature; nothing, before anything is stored or published.
    pub(crate) fn feature(&self, feature_type: &FeatureType) -> Arc<KnownFeature> {
        let features = self.features.read().unwrap_or_else(PoisonError::into_inner);
        let known = features.by_name.get(feature_type.as_str());
        known.cloned().unwrap_or_default()
    }

    /// Stores what people call a feature and what a preference for it may say, with its schema; both replace what was stored.
    pub(crate) async fn set_feature(
        &self,
        feature_type: &FeatureType,
        feature: Feature,
        schema: Option<&Value>,
    ) -> Result<(), SchemaError> {
        let schema = schema.map(Schema::new).transpose()?;
        let mut transaction = self.begin(self.dialect.begin_write()).await?;
        let name = feature_type.as_str();
        let written = sqlx::query(
            "INSERT INTO features (feature_type, description) VALUES ($1, $2)
             ON CONFLICT (feature_type) DO UPDATE SET description = excluded.description",
        )
        .bind(name)
        .bind(Value::Object(feature.to_json()).to_string())
        .execute(&mut *transaction)
        .await;
        written.map_err(StoreError::new)?;
        Schema::write(&mut transaction, name, schema.as_ref()).await?;
        transaction.commit().await.map_err(StoreError::new)?;
        self.saw_schema(name, schema);
        self.saw_feature(name, |known| known.feature = feature);
        Ok(())
    }

    /// Stores what the jobs of a feature make of what a preference leaves out, in place of what was published before.
    pub(crate) async fn set_jobs(
        &self,
        feature_type: &FeatureType,
        jobs: BTreeMap<JobId, JobDefaults>,
    ) -> Result<(), StoreError> {
        // Every replica of an agent publishes the same. Only the store knows whether it has that: another process may have stored
        // others since they were read here.
        let json = jobs_json(&jobs);
        sqlx::query(
            "INSERT INTO features (feature_type, jobs) VALUES ($1, $2)
             ON CONFLICT (feature_type) DO UPDATE SET jobs = excluded.jobs WHERE features.jobs <> excluded.jobs",
        )
        .bind(feature_type.as_str())
        .bind(json.to_string())
        .execute(&self.pool)
        .await?;
        if self.feature(feature_type).jobs == jobs {
            return Ok(());
        }
        self.saw_feature(feature_type.as_str(), |known| known.jobs = jobs);
        Ok(())
    }

    pub(super) fn saw_feature(&self, name: &str, change: impl FnOnce(&mut KnownFeature)) {
        let mut features = self
            .features
            .write()
            .unwrap_or_else(PoisonError::into_inner);
        features.rows = None;
        let known = features.by_name.entry(name.to_owned()).or_default();
        change(Arc::make_mut(known));
        self.rule_changes.fetch_add(1, Relaxed);
        drop(features);
        self.rules_changed.notify_one();
    }

    /// Reads what is stored, as other processes may have changed it.
    pub(super) async fn load_features(
        &self,
        connection: &mut AnyConnection,
    ) -> Result<(), StoreError> {
        let before = self.rule_changes.load(Relaxed);
        let rows = sqlx::query("SELECT feature_type, description, jobs FROM features")
            .fetch_all(connection)
            .await?;
        let texts = rows
            .iter()
            .map(|row| Ok((row.try_get(0)?, row.try_get(1)?, row.try_get(2)?)));
        let rows = texts.collect::<Result<Vec<(String, String, String)>, StoreError>>()?;
        let features = || self.features.read().unwrap_or_else(PoisonError::into_inner);
        if features().rows.as_ref() == Some(&rows) {
            return Ok(());
        }
        let known = rows.iter().map(|(name, description, jobs)| {
            let known = KnownFeature::stored(name, description, jobs);
            (name.clone(), Arc::new(known))
        });
        let by_name = known.collect();
        let mut in_effect = self
            .features
            .write()
            .unwrap_or_else(PoisonError::into_inner);
        // They have changed here since they were read, or were read again by another call; the next call reads them again.
        if self.rule_changes.load(Relaxed) != before {
            return Ok(());
        }
        self.rule_changes.fetch_add(1, Relaxed);
        let changed = in_effect.by_name != by_name;
        *in_effect = LoadedFeatures {
            by_name,
            rows: Some(rows),
        };
        drop(in_effect);
        if changed {
            self.rules_changed.notify_one();
        }
        Ok(())
    }

    /// The features that are described or have jobs or a schema.
    pub(crate) fn described_features(&self) -> BTreeSet<String> {
        let features = self.features.read().unwrap_or_else(PoisonError::into_inner);
        let described = features
            .by_name
            .iter()
            .filter(|(_, known)| ***known != KnownFeature::default());
        let mut names: BTreeSet<String> = described.map(|(name, _)| name.clone()).collect();
        names.extend(self.features_with_schema());
        names
    }

    /// The names of the features that have preferences, a schema or a description. Cheap, however many tenants there are.
    pub(crate) async fn feature_names(&self) -> Result<Vec<String>, StoreError> {
        Ok(sqlx::query_scalar(FEATURE_NAMES)
            .fetch_all(&self.pool)
            .await?)
    }
}

impl ConfigStore {
    /// What is known of every feature, as an import reads it. What agents publish, they publish again within an hour.
    pub(crate) async fn exported_features(&self) -> Result<Vec<Map<String, Value>>, StoreError> {
        let mut features = Vec::new();
        for name in self.feature_names().await? {
            let Ok(feature_type) = FeatureType::new(&name) else {
                continue;
            };
            let mut feature = self.feature(&feature_type).feature.to_json();
            let schema = self.schema(&feature_type).await?;
            feature.extend(schema.map(|schema| ("schema".to_owned(), schema)));
            if !feature.is_empty() {
                feature.insert("feature_type".to_owned(), name.into());
                features.push(feature);
            }
        }
        Ok(features)
    }
}

/// The jobs of a feature, as JSON that [`JobDefaults::parse_all`] reads.
pub(crate) fn jobs_json(jobs: &BTreeMap<JobId, JobDefaults>) -> Value {
    let job = |(job_id, job): (&JobId, &JobDefaults)| (job_id.to_string(), job.to_json());
    Value::Object(jobs.iter().map(job).collect())
}

/// A feature as it is sent: its description, and `schema`.
///
/// # Errors
/// Everything that is wrong with it, the schema aside.
pub(crate) fn read_feature(
    object: &Map<String, Value>,
    besides: &[&'static str],
) -> Result<(Feature, Option<Value>), FieldErrors> {
    let mut fields = Fields::new(object, "");
    for name in besides {
        fields.raw(name);
    }
    let feature = Feature::read(&mut fields);
    let schema = fields.optional("schema", |value| {
        if value.is_object() {
            Ok(value.clone())
        } else {
            Err(Invalid::wrong_type("a JSON Schema, { … }"))
        }
    });
    fields.deny_others();
    fields.finish(|| Some((feature, schema)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn what_was_stored_here_is_not_undone_by_a_read_that_began_before() {
        let folder = tempfile::tempdir().unwrap();
        let url = format!("sqlite://{}", folder.path().join("config.db").display());
        let store = ConfigStore::open(&url).await.unwrap();
        let reading = store.clone();
        let reads = tokio::spawn(async move {
            loop {
                reading.refresh().await.unwrap();
            }
        });
        let posts = FeatureType::new("posts").unwrap();
        for number in 0..300 {
            let zone = if number % 2 == 0 { "UTC" } else { "Asia/Tokyo" };
            let jobs = serde_json::json!({"posts": {"timezone": zone}});
            let jobs = JobDefaults::parse_all(&jobs, "").unwrap();
            store.set_jobs(&posts, jobs.clone()).await.unwrap();
            let schema = serde_json::json!({"title": number.to_string()});
            store.set_schema(&posts, &schema).await.unwrap();
            for _ in 0..3 {
                tokio::task::yield_now().await;
                assert_eq!(store.feature(&posts).jobs, jobs);
                assert_eq!(store.schema_text(&posts), schema.to_string());
            }
        }
        assert!(!reads.is_finished(), "a read has failed");
        reads.abort();
    }

    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn what_another_process_stored_is_not_undone_by_a_read_that_began_before() {
        let folder = tempfile::tempdir().unwrap();
        let url = format!("sqlite://{}", folder.path().join("config.db").display());
        let here = ConfigStore::open(&url).await.unwrap();
        let elsewhere = ConfigStore::open(&url).await.unwrap();
        let reads = [here.clone(), here.clone(), here.clone()].map(|reading| {
            tokio::spawn(async move {
                loop {
                    reading.refresh().await.unwrap();
                }
            })
        });
        let posts = FeatureType::new("posts").unwrap();
        let number_of = |title: Option<&Value>| -> u32 {
            let title = title.and_then(Value::as_str).unwrap_or("0");
            title.parse().unwrap()
        };
        let mut newest = [0, 0];
        for number in 1..=300 {
            let title = number.to_string();
            let object = serde_json::json!({"title": title, "schema": {"title": title}});
            let (feature, schema) = read_feature(object.as_object().unwrap(), &[]).unwrap();
            let set = elsewhere.set_feature(&posts, feature, schema.as_ref());
            set.await.unwrap();
            for _ in 0..10 {
                tokio::task::yield_now().await;
                let schema = here.schema_text(&posts);
                let schema: Value = serde_json::from_str(&schema).unwrap_or_default();
                let feature = here.feature(&posts).feature.to_json();
                let seen = [feature.get("title"), schema.get("title")].map(number_of);
                assert!(seen[0] >= newest[0], "{seen:?} after {newest:?}");
                assert!(seen[1] >= newest[1], "{seen:?} after {newest:?}");
                newest = seen;
            }
        }
        assert!(
            reads.iter().all(|read| !read.is_finished()),
            "a read has failed"
        );
        reads.iter().for_each(tokio::task::JoinHandle::abort);
    }

    #[tokio::test]
    async fn what_an_agent_publishes_is_stored_where_another_process_has_stored_others() {
        let folder = tempfile::tempdir().unwrap();
        let url = format!("sqlite://{}", folder.path().join("config.db").display());
        let here = ConfigStore::open(&url).await.unwrap();
        let elsewhere = ConfigStore::open(&url).await.unwrap();
        let posts = FeatureType::new("posts").unwrap();
        let [utc, tokyo] = ["UTC", "Asia/Tokyo"].map(|zone| {
            let jobs = serde_json::json!({"posts": {"timezone": zone}});
            JobDefaults::parse_all(&jobs, "").unwrap()
        });
        here.set_jobs(&posts, utc.clone()).await.unwrap();
        elsewhere.set_jobs(&posts, tokyo).await.unwrap();
        // What is known here is older than that.
        here.set_jobs(&posts, utc.clone()).await.unwrap();
        for store in [here, elsewhere] {
            store.refresh().await.unwrap();
            assert_eq!(store.feature(&posts).jobs, utc);
        }
    }
}
