//! What is explained of the records of jobs with a schedule of their own.

use super::*;
use crate::testing::FakeItemSource;

/// An operator of a job that runs each record of `shops.json`, and of one that runs all of them together and sends Ann a copy.
fn operator(store: &Arc<FakeStore>, source: &Arc<FakeItemSource>) -> Operator {
    let job = |id: &str, kind: &str| {
        json!({"job_id": id, "type": kind, "purpose_id": "p",
            "schedule": {"cron": "0 8 * * *"}, "source": {"file": "shops.json"}})
    };
    let mut feed = job("feed", "object_batch");
    feed["distribute_to"] = json!(["ann"]);
    let jobs = json!({"jobs": [feed, job("stores", "individual_batch")]});
    let jobs = punctual_project::parse_batch_config(&jobs, &Zone::utc()).unwrap();
    Operator {
        item_source: source.clone(),
        ..testing::operator(store, jobs, "2026-03-01T09:00:00Z")
    }
}

#[tokio::test(start_paused = true)]
async fn a_record_is_explained_by_its_own_run_or_by_the_run_of_all_records() {
    let (store, source) = (
        Arc::<FakeStore>::default(),
        Arc::<FakeItemSource>::default(),
    );
    let operator = operator(&store, &source);
    source.put("shops.json", ["north", "south"]);
    let date: NaiveDate = "2026-02-28".parse().unwrap();
    let explain = async |tenant: &str, job: &str| {
        let (tenant, job) = (TenantId::new(tenant).unwrap(), JobId::new(job).unwrap());
        let explained = operator.explain(&tenant, &job, Some(date)).await;
        explained.map(|explained| explained.verdict)
    };
    let ran = async |tenant: &str, job: &str| {
        let verdict = explain(tenant, job).await;
        matches!(verdict, Ok(Verdict::Ran { .. }))
    };
    let refused = async |tenant: &str, job: &str| match explain(tenant, job).await {
        Err(OperatorError::Invalid(text)) => text,
        other => panic!("{other:?}"),
    };
    // Nothing has run yet, and a wrong id is refused all the same.
    assert!(matches!(
        explain("north", "feed").await,
        Ok(Verdict::DueNow { .. })
    ));
    assert_eq!(
        refused("unknown", "stores").await,
        "stores has no item `unknown`"
    );

    for job in ["feed", "stores"] {
        let request = BackfillRequest {
            from: date,
            to: date,
            tenants: None,
            all: false,
            allow_unknown: false,
            preview: false,
        };
        let job = JobId::new(job).unwrap();
        let queued = operator.backfill(&actor(), None, &job, &request).await;
        assert_eq!(queued.unwrap().count.to_run, 2, "{job}");
    }
    store
        .end_all(ItemStatus::Succeeded, operator.clock.now())
        .await;
    for (tenant, job) in [("north", "feed"), ("ann", "feed"), ("north", "stores")] {
        assert!(ran(tenant, job).await, "{tenant} in {job}");
    }
    assert_eq!(
        refused("unknown", "feed").await,
        "feed has no item `unknown`"
    );
    assert_eq!(refused("ann", "stores").await, "stores has no item `ann`");

    // A record that has left the source is explained by its run; of the run of all records it is not known.
    source.put("shops.json", ["south"]);
    assert!(ran("north", "stores").await);
    assert_eq!(refused("north", "feed").await, "feed has no item `north`");

    // A source that cannot be read hides no run.
    source.put("shops.json", ["*"]);
    assert!(ran("north", "stores").await && ran("north", "feed").await);
    let text = refused("unknown", "stores").await;
    assert!(
        text.starts_with("failed to read the items of stores: "),
        "{text}"
    );
}
