//! What is planned to be prepared, beside what runs.

use punctual_domain::{Batch, Occurrence};

use super::*;

/// Two jobs of one feature; the runs of the first are prepared two hours ahead.
fn prepared_ahead() -> Jobs {
    let jobs = json!({"jobs": [
        {"job_id": "posts", "type": "individual_batch", "purpose_id": "p", "preference_based": true,
         "feature_type": "instagram_posts", "prepare_ahead": "2h"},
        {"job_id": "other", "type": "individual_batch", "purpose_id": "p", "preference_based": true,
         "feature_type": "instagram_posts"}
    ]});
    Jobs::from(punctual_project::parse_batch_config(&jobs, &Zone::utc()).unwrap())
}

fn start_ahead(config_database: Arc<Scripted>, store: Arc<FakeStore>, now: &str) -> Bench {
    start_jobs(config_database, store, now, || 1.0, prepared_ahead())
}

impl Bench {
    async fn batches_of(&self, trigger: Trigger) -> Vec<Batch> {
        let batches = self
            .store
            .batches(&BatchFilter::default(), &Page::default())
            .await;
        let (mut batches, _) = batches.unwrap();
        batches.retain(|batch| batch.trigger == trigger);
        batches.sort_by_key(|batch| (batch.scheduled_at, batch.created_at));
        batches
    }

    /// What is to be prepared, in the order in which it falls due, with the number of tenants.
    async fn preparations(&self) -> Vec<String> {
        let batches = self.batches_of(Trigger::Prepare).await;
        let line = |batch: &Batch| {
            assert_eq!(batch.job_id.as_str(), "posts");
            format!("{} {}", batch.scheduled_at.format("%d %H:%M"), batch.total)
        };
        batches.iter().map(line).collect()
    }

    /// The runs of a job, in the same form.
    async fn runs_of(&self, job: &str) -> Vec<String> {
        let batches = self.batches_of(Trigger::Schedule).await;
        let of_job = batches.iter().filter(|batch| batch.job_id.as_str() == job);
        of_job
            .map(|batch| format!("{} {}", batch.scheduled_at.format("%d %H:%M"), batch.total))
            .collect()
    }
}

#[tokio::test(start_paused = true)]
async fn what_falls_due_soon_is_prepared_once_and_runs_as_it_would_otherwise() {
    let scripted = Arc::new(Scripted::default());
    scripted.store("a", daily("08:00"), LONG_AGO);
    scripted.store("b", daily("11:00"), LONG_AGO);
    let bench = start_ahead(scripted, Arc::default(), "2026-03-01T07:00:00Z");
    bench.sleep(10).await;
    assert_eq!(bench.preparations().await, ["01 08:00 1"]);
    for chunk in bench.store.pending() {
        assert_eq!(
            chunk.prepares,
            Some("2026-03-01".parse::<Occurrence>().unwrap())
        );
        assert_eq!(chunk.expires_at, Some(chunk.scheduled_at));
    }
    // The next plan is up to a minute later.
    bench.sleep(2 * 3_600 + 120).await;
    assert_eq!(bench.preparations().await, ["01 08:00 1", "01 11:00 1"]);
    bench.sleep(24 * 3_600).await;
    let runs = ["01 08:00 1", "01 11:00 1", "02 08:00 1"];
    assert_eq!(bench.runs_of("posts").await, runs);
    assert_eq!(bench.runs_of("other").await, runs);
    assert_eq!(
        bench.preparations().await,
        ["01 08:00 1", "01 11:00 1", "02 08:00 1", "02 11:00 1"]
    );
    bench.stop.cancel();
}

#[tokio::test(start_paused = true)]
async fn a_tenant_who_changes_is_prepared_again_and_a_new_leader_begins_anew() {
    let scripted = Arc::new(Scripted::default());
    let store = Arc::new(FakeStore::default());
    scripted.store("a", daily("08:00"), LONG_AGO);
    scripted.store("b", daily("08:00"), LONG_AGO);
    let first = start_ahead(scripted.clone(), store.clone(), "2026-03-01T07:00:00Z");
    first.sleep(60).await;
    assert_eq!(first.preparations().await, ["01 08:00 2"]);
    let mut warm = daily("08:00");
    warm["template_overrides"] = json!({"tone": "warm"});
    first
        .config_database
        .change("a", Some(warm), "2026-03-01T07:01:00Z");
    first.sleep(5).await;
    assert_eq!(first.preparations().await, ["01 08:00 2", "01 08:00 1"]);
    first
        .config_database
        .change("b", Some(daily("08:30")), "2026-03-01T07:01:05Z");
    first.sleep(5).await;
    assert_eq!(
        first.preparations().await,
        ["01 08:00 2", "01 08:00 1", "01 08:30 1"]
    );
    first
        .config_database
        .change("b", None, "2026-03-01T07:01:10Z");
    first.sleep(60).await;
    assert_eq!(
        first.preparations().await.len(),
        3,
        "a deletion prepares nothing"
    );
    first.stop.cancel();
    first.sleep(1).await;

    let second = start_ahead(scripted.clone(), store.clone(), "2026-03-01T07:05:00Z");
    second.sleep(10).await;
    assert_eq!(second.preparations().await.len(), 4);
    second.stop.cancel();
    second.sleep(1).await;

    let third = start_ahead(scripted, store, "2026-03-01T07:06:00Z");
    third.sleep(10).await;
    assert_eq!(
        third.preparations().await.len(),
        4,
        "of the same tenants everything is queued already"
    );
    third.stop.cancel();
}

#[tokio::test(start_paused = true)]
async fn what_is_not_prepared_for_a_pause_leaves_nothing_out_of_the_runs() {
    let scripted = Arc::new(Scripted::default());
    scripted.store("a", daily("08:00"), LONG_AGO);
    let store = Arc::new(FakeStore::default());
    let (job, now) = (JobId::new("posts").unwrap(), "2026-03-01T07:00:00Z");
    let cause = paused_by_a_test();
    let at = now.parse().unwrap();
    store.set_paused(&job, Some(cause), at).await.unwrap();
    let bench = start_ahead(scripted, store, now);
    bench.sleep(600).await;
    assert!(bench.preparations().await.is_empty());
    bench.store.set_paused(&job, None, at).await.unwrap();
    bench.sleep(3_600).await;
    assert_eq!(bench.runs_of("posts").await, ["01 08:00 1"]);
    bench.stop.cancel();
}
