//! Jobs described in Rust. They say what an entry of `batch_config.json` says, are read by the same code, and have the
//! same mistakes found in them.

use serde_json::{Map, Value, json};

/// A job: what runs, for whom, when, and where the results go.
#[derive(Debug, Clone)]
pub struct Job {
    fields: Map<String, Value>,
}

impl Job {
    /// Runs for every tenant who has the feature switched on, when that tenant wants it. Its id is the feature's.
    #[must_use]
    pub fn following(feature_type: &str) -> Self {
        Self::of([
            ("job_id", json!(feature_type)),
            ("preference_based", json!(true)),
            ("feature_type", json!(feature_type)),
        ])
    }

    /// Runs every day at this time (`06:00`): once, or for each of its [`items`](Self::items).
    #[must_use]
    pub fn daily(job_id: &str, time: &str) -> Self {
        let schedule = json!({"frequency": "daily", "preferred_time": time});
        Self::of([("job_id", json!(job_id)), ("schedule", schedule)])
    }

    /// Runs when a cron expression of five fields (`30 9 * * 1-5`) says: once, or for each of its
    /// [`items`](Self::items).
    #[must_use]
    pub fn cron(job_id: &str, expression: &str) -> Self {
        let schedule = json!({ "cron": expression });
        Self::of([("job_id", json!(job_id)), ("schedule", schedule)])
    }

    fn of<const N: usize>(fields: [(&str, Value); N]) -> Self {
        let fields = fields.map(|(name, value)| (name.to_owned(), value));
        let job = Self {
            fields: fields.into_iter().collect(),
        };
        job.with("type", json!("individual_batch"))
    }

    /// The same, with another id.
    #[must_use]
    pub fn named(self, job_id: &str) -> Self {
        self.with("job_id", json!(job_id))
    }

    /// The same, done by the handler of this name.
    #[must_use]
    pub fn runs(self, handler: &str) -> Self {
        self.with("purpose_id", json!(handler))
    }

    /// The same, and with what that handler returns, the handler of this name is called: [`Item::written`](crate::Item::written).
    /// When it fails, it alone is called again.
    #[must_use]
    pub fn then(self, handler: &str) -> Self {
        self.with("then", json!(handler))
    }

    /// The same, for each of these ids. Only for a job with a schedule of its own.
    #[must_use]
    pub fn items<I: Into<String>>(self, ids: impl IntoIterator<Item = I>) -> Self {
        let ids: Vec<String> = ids.into_iter().map(Into::into).collect();
        self.with("source", json!({ "ids": ids }))
    }

    /// The same, with this time zone (`Europe/Berlin`): that of its schedule, or that of tenants who name none.
    #[must_use]
    pub fn in_time_zone(mut self, zone: &str) -> Self {
        let place = if self.fields.contains_key("schedule") {
            "schedule"
        } else {
            "default_preferences"
        };
        let fields = self.fields.entry(place).or_insert_with(|| json!({}));
        if let Some(fields) = fields.as_object_mut() {
            fields.insert("timezone".to_owned(), json!(zone));
        }
        self
    }

    /// The same, with each tenant's own data from the provider of this name. Only for a job that follows preferences.
    #[must_use]
    pub fn fetches(self, provider: &str) -> Self {
        self.with("data", json!({ "provider": provider }))
    }

    /// The same, with its results also delivered to the sink of this name.
    #[must_use]
    pub fn deliver_to(mut self, sink: &str) -> Self {
        let places = self.fields.entry("deliver").or_insert_with(|| json!([]));
        if let Some(places) = places.as_array_mut() {
            places.push(json!({ "sink": sink }));
        }
        self
    }

    /// The same, with another field of `batch_config.json`, such as `default_preferences`, `catch_up` or `retry_limit`.
    #[must_use]
    pub fn with(mut self, field: &str, value: Value) -> Self {
        self.fields.insert(field.to_owned(), value);
        self
    }

    /// Its entry of `batch_config.json`. A job with a schedule and without items is its only item.
    pub(crate) fn into_entry(mut self) -> Value {
        if self.fields.contains_key("schedule")
            && !self.fields.contains_key("source")
            && !self.fields.contains_key("sources")
        {
            let ids = json!({ "ids": [self.fields["job_id"]] });
            self.fields.insert("source".to_owned(), ids);
        }
        Value::Object(self.fields)
    }
}
