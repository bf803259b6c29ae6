//! Jobs described in Rust. They say what an entry of `batch_config.json` says, are read by the same code, and have the
//! same mistakes found in them.

use serde_json::{Map, Value, json};

/// A job: what runs, for whom, when, and where the results go.
#[derive(Debug, Clone)]
pub struct Job {
    fields: Map<String, Value>,
    items: Option<Vec<String>>,
}

impl Job {
    /// Runs for every tenant who has the feature switched on, when that tenant wants it. Its id is the feature's.
    #[must_use]
    pub fn following(feature_type: &str) -> Self {
        Self::of(json!({
            "job_id": feature_type, "type": "individual_batch", "preference_based": true,
            "feature_type": feature_type,
        }))
    }

    /// Runs every day at this time (`06:00`): once, or for each of its [`items`](Self::items).
    #[must_use]
    pub fn daily(job_id: &str, time: &str) -> Self {
        let schedule = json!({"frequency": "daily", "preferred_time": time});
        Self::scheduled(job_id, schedule)
    }

    /// Runs when a cron expression of five fields (`30 9 * * 1-5`) says: once, or for each of its
    /// [`items`](Self::items).
    #[must_use]
    pub fn cron(job_id: &str, expression: &str) -> Self {
        Self::scheduled(job_id, json!({ "cron": expression }))
    }

    fn scheduled(job_id: &str, schedule: Value) -> Self {
        let fields = json!({"job_id": job_id, "type": "individual_batch", "schedule": schedule});
        Self {
            items: Some(vec![job_id.to_owned()]),
            ..Self::of(fields)
        }
    }

    fn of(fields: Value) -> Self {
        let Value::Object(fields) = fields else {
            unreachable!("every caller gives an object")
        };
        Self {
            fields,
            items: None,
        }
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

    /// The same, for these ids. Only for a job with a schedule of its own.
    #[must_use]
    pub fn items<I: Into<String>>(mut self, ids: impl IntoIterator<Item = I>) -> Self {
        self.items = Some(ids.into_iter().map(Into::into).collect());
        self
    }

    /// The same, with the time zone of its own schedule (`Europe/Berlin`).
    #[must_use]
    pub fn in_time_zone(mut self, zone: &str) -> Self {
        if let Some(schedule) = self.fields.get_mut("schedule") {
            schedule["timezone"] = json!(zone);
        }
        self
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

    /// Its entry of `batch_config.json`, with the ids that it lists by itself, under the name of a source.
    pub(crate) fn into_entry(mut self) -> (Value, Option<(String, Vec<String>)>) {
        let listed = self.items.filter(|_| !self.fields.contains_key("source"));
        let listed = listed.map(|ids| {
            let source = format!("items of {}", self.fields["job_id"]);
            (source, ids)
        });
        if let Some((source, _)) = &listed {
            self.fields
                .insert("source".to_owned(), json!({ "file": source }));
        }
        (Value::Object(self.fields), listed)
    }
}
