//! Publishes to the Config Database what jobs make of what a preference leaves out, so that its pages show what the agent does.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
    time::Duration,
};

use punctual_application::{
    Jobs,
    backoff::{Backoff, jittered},
    ports::{ConfigDatabase, ConfigErrorKind},
};
use punctual_domain::{BatchConfig, FeatureType, JobDefaults, JobId, Work, Zone};
use tokio_util::sync::CancellationToken;
use tracing::{debug, info, warn};

/// Waits between attempts, before jitter.
const BACKOFF: Backoff = Backoff::new(Duration::from_secs(2), Duration::from_mins(5));
/// When everything is published anew: what was refused may be taken by then, and the Config Database may be another one.
const AGAIN_AFTER: Duration = Duration::from_hours(1);

type PublishedJobs = BTreeMap<FeatureType, BTreeMap<JobId, JobDefaults>>;

/// Publishes the jobs of each feature at the start, whenever they change, and once an hour.
pub struct Publisher {
    preferences: Arc<dyn ConfigDatabase>,
    jobs: Jobs,
    default_zone: Zone,
    random: fn() -> f64,
}

impl std::fmt::Debug for Publisher {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Publisher").finish_non_exhaustive()
    }
}

impl Publisher {
    /// Publishes `jobs`, where neither a preference nor a job names a zone that of `default_zone`. `random` gives numbers from 0
    /// to 1, for waits.
    pub fn new(
        preferences: Arc<dyn ConfigDatabase>,
        jobs: Jobs,
        default_zone: Zone,
        random: fn() -> f64,
    ) -> Self {
        Self {
            preferences,
            jobs,
            default_zone,
            random,
        }
    }

    /// Publishes until `stop` is cancelled.
    pub async fn run(self, stop: CancellationToken) {
        stop.run_until_cancelled(self.publish()).await;
    }

    async fn publish(self) {
        let mut changes = self.jobs.subscribe();
        let mut published = PublishedJobs::new();
        let mut refused = BTreeSet::new();
        let mut failed = 0;
        loop {
            let wanted = by_feature(&changes.borrow_and_update(), &self.default_zone);
            let left = self.attempt(wanted, &mut published, &mut refused).await;
            failed = if left { failed + 1 } else { 0 };
            let wait = match failed {
                0 => AGAIN_AFTER,
                failed => BACKOFF.after(failed),
            };
            let wait = jittered(wait, (self.random)());
            match tokio::time::timeout(wait, changes.changed()).await {
                Ok(Err(_)) => return,
                Err(_) if failed == 0 => published.clear(),
                Ok(Ok(())) | Err(_) => {}
            }
        }
    }

    /// Publishes what is not published yet. Returns whether something is left to be sent again.
    async fn attempt(
        &self,
        wanted: PublishedJobs,
        published: &mut PublishedJobs,
        refused: &mut BTreeSet<FeatureType>,
    ) -> bool {
        // A feature that has no job any more has none that anything is left to.
        let gone = published
            .keys()
            .filter(|feature| !wanted.contains_key(*feature));
        let gone: PublishedJobs = gone
            .map(|feature| (feature.clone(), BTreeMap::new()))
            .collect();
        for (feature, jobs) in gone.into_iter().chain(wanted) {
            if published.get(&feature) == Some(&jobs) {
                continue;
            }
            match self.preferences.publish(&feature, &jobs).await {
                Ok(()) => {
                    refused.remove(&feature);
                    debug!(%feature, "Published the jobs of {feature}");
                }
                Err(error) if error.kind == ConfigErrorKind::Unavailable => {
                    debug!(%feature, %error, "Failed to publish the jobs of {feature}: {error}");
                    return true;
                }
                // It was said before.
                Err(_) if !refused.insert(feature.clone()) => {}
                Err(error) if error.kind == ConfigErrorKind::Unauthorized => warn!(
                    %feature,
                    "The Config Database does not let this agent publish the jobs of {feature}, so its pages cannot show \
                     the times that preferences leave open; use a key of the scope agent"
                ),
                Err(error) => info!(
                    %feature,
                    %error,
                    "The Config Database does not take the jobs of {feature}; its pages may not show the times that \
                     preferences leave open"
                ),
            }
            published.insert(feature, jobs);
        }
        false
    }
}

fn by_feature(config: &BatchConfig, default_zone: &Zone) -> PublishedJobs {
    let mut features = PublishedJobs::new();
    for job in &config.jobs {
        let Work::Preferences { feature_type, .. } = &job.work else {
            continue;
        };
        let defaults = JobDefaults::of(job, default_zone);
        let jobs = features.entry(feature_type.clone()).or_default();
        jobs.extend(defaults.map(|defaults| (job.job_id.clone(), defaults)));
    }
    features
}

#[cfg(test)]
mod tests {
    use punctual_application::testing::FakeConfigDatabase;
    use serde_json::json;

    use super::*;

    fn config(frequency: &str) -> BatchConfig {
        let jobs = json!({"jobs": [{"job_id": "posts", "type": "individual_batch", "purpose_id": "p",
            "preference_based": true, "feature_type": "posts", "default_preferences": {"frequency": frequency}}]});
        punctual_project::parse_batch_config(&jobs, &Zone::utc()).unwrap()
    }

    #[tokio::test(start_paused = true)]
    async fn jobs_are_published_at_the_start_when_they_change_and_once_the_server_is_back() {
        let database = Arc::new(FakeConfigDatabase::default());
        let jobs = Jobs::from(config("daily"));
        let feature = FeatureType::new("posts").unwrap();
        database.set_down(true);
        let publisher = Publisher::new(database.clone(), jobs.clone(), Zone::utc(), || 0.5);
        let stop = CancellationToken::new();
        let running = tokio::spawn(publisher.run(stop.clone()));
        tokio::time::sleep(Duration::from_secs(10)).await;
        assert_eq!(database.published(&feature), None);
        database.set_down(false);
        let frequency = || {
            let jobs = database.published(&feature)?;
            let job = jobs.get(&JobId::new("posts").unwrap())?;
            Some(job.defaults.to_json()["frequency"].clone())
        };
        tokio::time::sleep(Duration::from_mins(6)).await;
        assert_eq!(frequency(), Some(json!("daily")));
        jobs.replace(config("weekly"));
        tokio::time::sleep(Duration::from_secs(1)).await;
        assert_eq!(frequency(), Some(json!("weekly")));
        jobs.replace(BatchConfig::default());
        tokio::time::sleep(Duration::from_secs(1)).await;
        assert_eq!(database.published(&feature), Some(BTreeMap::new()));
        // A database put back to an older state, or in place of another one, has them again within the hour.
        jobs.replace(config("weekly"));
        tokio::time::sleep(Duration::from_secs(1)).await;
        database.publish(&feature, &BTreeMap::new()).await.unwrap();
        tokio::time::sleep(Duration::from_mins(90)).await;
        assert_eq!(frequency(), Some(json!("weekly")));
        stop.cancel();
        running.await.unwrap();
    }
}
