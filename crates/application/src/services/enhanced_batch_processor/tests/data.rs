//! Items with data of their tenants.

use punctual_domain::{DataRequest, DataSource, FailureKind};

use super::*;
use crate::{
    ports::{DeadLetterFilter, TenantAnswers, TenantData},
    testing::FakeTenantData,
};

/// Jobs of tenants with data from here.
fn with_data(data: Value) -> Value {
    let mut job = posts();
    job["data"] = data;
    job
}

/// A bench whose handler answers with the data of its item, and the data.
async fn data_bench(job: Value, tenants: &[&str], retries: u32) -> (Bench, Arc<FakeTenantData>) {
    let mut handler = MockPurposeHandler::new();
    handler
        .expect_run()
        .returning(|item| Ok(json!({"data": item.data(), "attempt": item.attempt}).into()));
    let mut bench = bench(job, tenants, handler, retries).await;
    bench.switch_on(tenants);
    let data = Arc::new(FakeTenantData::default());
    bench.processor = bench.processor.with_tenant_data(data.clone());
    (bench, data)
}

#[tokio::test(start_paused = true)]
async fn tenants_are_asked_for_together_and_who_has_no_data_has_nothing_to_do() {
    let tenants = ["all", "empty", "missing", "null"];
    let job = with_data(json!({"provider": "activity"}));
    let (bench, data) = data_bench(job.clone(), &tenants, 0).await;
    data.put("all", json!(["one order"]));
    data.put("empty", json!([]));
    data.put("null", Value::Null);
    let earlier = &config(job).jobs[0];
    let earlier = queued_on(
        earlier,
        &bench.store,
        "daily 09:00 UTC",
        "2026-02-27",
        &["all"],
    );
    bench.processor.process(&earlier.await).await.unwrap();
    let report = bench.processor.process(&bench.chunk).await.unwrap();
    assert_eq!((report.succeeded, report.nothing_to_do), (1, 3));
    let results = bench.results().await;
    let output = results["all"].result.output.clone().unwrap();
    assert_eq!(output["data"], json!(["one order"]));
    for tenant in &tenants[1..] {
        let result = &results[*tenant].result;
        assert_eq!(result.error.as_deref(), Some("no data"), "{tenant}");
    }
    let requests = data.requests();
    assert_eq!(requests.len(), 2, "one for each chunk");
    let asked: Vec<_> = requests[1]
        .tenants
        .iter()
        .map(|one| (one.tenant_id.as_str(), one.previous.is_some()))
        .collect();
    assert_eq!(
        asked,
        [
            ("all", true),
            ("empty", false),
            ("missing", false),
            ("null", false)
        ]
    );
}

#[tokio::test(start_paused = true)]
async fn a_job_may_run_without_data_and_may_ask_for_each_tenant() {
    let url = "https://shop.example/users/{tenant_id}";
    let job = with_data(json!({"url": url, "on_empty": "run"}));
    let (bench, data) = data_bench(job, &["a", "b"], 0).await;
    data.put("a", json!({"orders": 3}));
    let report = bench.processor.process(&bench.chunk).await.unwrap();
    assert_eq!(report.succeeded, 2);
    let results = bench.results().await;
    let seen = |tenant: &str| results[tenant].result.output.clone().unwrap()["data"].clone();
    assert_eq!((seen("a"), seen("b")), (json!({"orders": 3}), Value::Null));
    let requests = data.requests();
    assert!(requests.iter().all(|request| request.tenants.len() == 1));
    assert_eq!(requests.len(), 2);
}

#[tokio::test(start_paused = true)]
async fn a_fetch_that_fails_is_retried_for_all_and_then_fails_their_items() {
    let job = with_data(json!({"provider": "activity"}));
    let (mut bench, data) = data_bench(job.clone(), &["a", "b", "c"], 1).await;
    // The one retry comes while the failure of the first call is still shared.
    bench.processor.retry = RetryPolicy::new(1, || 0.5);
    for tenant in ["a", "b", "c"] {
        data.put(tenant, json!(tenant));
    }
    data.fail_next(HandlerError::retryable("busy"));
    let report = bench.processor.process(&bench.chunk).await.unwrap();
    assert_eq!(report.succeeded, 3);
    assert_eq!(data.requests().len(), 2, "not one for each item");
    let results = bench.results().await;
    assert!(results.values().all(|one| one.result.attempts == 2));

    let (bench, data) = data_bench(job.clone(), &["a", "b", "c"], 2).await;
    data.fail_next(HandlerError::permanent("no such shop"));
    let report = bench.processor.process(&bench.chunk).await.unwrap();
    assert_eq!((report.succeeded, report.failed), (0, 3));
    let results = bench.results().await;
    let failed = &results["b"].result;
    assert_eq!(failed.error.as_deref(), Some("data: no such shop"));
    assert_eq!(failed.failure_kind, Some(FailureKind::Data));
    assert_eq!(report.failed_data, 3);
    let of_data = DeadLetterFilter {
        failure_kind: Some(FailureKind::Data),
        ..DeadLetterFilter::default()
    };
    assert_eq!(bench.store.dead_letter_count(&of_data).await.unwrap(), 3);
    assert_eq!((failed.attempts, data.requests().len()), (1, 1));

    // What concerns one tenant is that tenant's failure, and asked for again.
    let (bench, data) = data_bench(job, &["a", "b"], 1).await;
    data.put("a", json!("a"));
    data.refuse("b", HandlerError::retryable("too long"));
    let report = bench.processor.process(&bench.chunk).await.unwrap();
    assert_eq!((report.succeeded, report.failed), (1, 1));
    let asked = data.requests();
    let asked: Vec<usize> = asked.iter().map(|request| request.tenants.len()).collect();
    assert_eq!(asked, [2, 1]);
    assert_eq!(report.failed_data, 1);

    // What the handler makes of good data is the handler's own failure.
    let mut handler = MockPurposeHandler::new();
    handler
        .expect_run()
        .returning(|_| Err(HandlerError::permanent("data: broken")));
    let job = with_data(json!({"provider": "activity"}));
    let mut bench = super::bench(job, &["a"], handler, 0).await;
    bench.switch_on(&["a"]);
    bench.processor = bench.processor.with_tenant_data(data.clone());
    let report = bench.processor.process(&bench.chunk).await.unwrap();
    assert_eq!((report.failed, report.failed_data), (1, 0));
    let results = bench.results().await;
    let kind = results["a"].result.failure_kind;
    assert_eq!(kind, Some(FailureKind::Handler));
}

/// Data that takes two seconds to say that there is none, or fails.
struct SlowData(Option<HandlerError>);

#[async_trait]
impl TenantData for SlowData {
    async fn fetch(&self, _: &DataSource, _: &DataRequest) -> Result<TenantAnswers, HandlerError> {
        tokio::time::sleep(Duration::from_secs(2)).await;
        self.0.clone().map_or_else(|| Ok(HashMap::new()), Err)
    }
}

#[tokio::test(start_paused = true)]
async fn an_item_whose_data_ends_it_is_skipped_if_its_tenant_switched_off_meanwhile() {
    let url = "https://shop.example/users/{tenant_id}";
    for failure in [None, Some(HandlerError::permanent("no such user"))] {
        let failed = usize::from(failure.is_some());
        let job = with_data(json!({"url": url}));
        let (mut bench, _) = data_bench(job, &["stays", "off", "later"], 0).await;
        let data = Arc::new(SlowData(failure));
        bench.processor = bench.processor.with_tenant_data(data);
        let change = async {
            tokio::time::sleep(Duration::from_secs(1)).await;
            let mut later = on("dry");
            later["preferred_time"] = json!("17:00");
            bench.config_database.put(preference("later", later));
            bench
                .config_database
                .put(preference("off", json!({"enabled": false})));
        };
        let (report, ()) = tokio::join!(bench.processor.process(&bench.chunk), change);
        let report = report.unwrap();
        let counts = (report.nothing_to_do, report.failed, report.skipped);
        assert_eq!(counts, (1 - failed, failed, 2));
        let results = bench.results().await;
        let reason = |tenant: &str| results[tenant].result.error.clone().unwrap();
        let reasons = (reason("off"), reason("later"));
        assert_eq!(reasons, ("disabled".into(), "rescheduled".into()));
    }
}

#[tokio::test(start_paused = true)]
async fn an_item_that_expires_while_its_data_is_fetched_ends_so() {
    let job = with_data(json!({"provider": "activity"}));
    let (mut bench, _) = data_bench(job, &["a"], 0).await;
    bench.processor = bench.processor.with_tenant_data(Arc::new(SlowData(None)));
    let bound = bench.chunk.scheduled_at + TimeDelta::seconds(1);
    bench.chunk.expires_at = Some(bound);
    let report = bench.processor.process(&bench.chunk).await.unwrap();
    assert_eq!((report.nothing_to_do, report.skipped), (0, 1));
    let results = bench.results().await;
    assert_eq!(results["a"].result.error.as_deref(), Some("expired"));
}

#[tokio::test(start_paused = true)]
async fn an_isolated_item_is_no_poison_candidate_while_its_data_is_fetched() {
    let job = with_data(json!({"provider": "activity"}));
    let (mut bench, _) = data_bench(job, &["a"], 0).await;
    bench.processor = bench.processor.with_tenant_data(Arc::new(SlowData(None)));
    for _ in 0..2 {
        dies_with(&bench.store, &bench.chunk, None).await;
    }
    let processing = bench.processor.process(&bench.chunk);
    let cut_off = tokio::time::timeout(Duration::from_secs(1), processing).await;
    assert!(cut_off.is_err(), "it is still fetching");
    let claimant = Claimant {
        process: uuid::Uuid::new_v4(),
        token: uuid::Uuid::new_v4(),
    };
    let now = bench.processor.now();
    let claim = bench.store.claim(&bench.chunk, claimant, now).await;
    assert_eq!(claim.unwrap().poison_candidate, None);
}

#[tokio::test(start_paused = true)]
async fn a_job_with_data_in_a_program_that_fetches_none_fails_with_a_remedy() {
    let job = with_data(json!({"provider": "activity"}));
    let bench = bench(job, &["a"], MockPurposeHandler::new(), 3).await;
    bench.config_database.put(preference("a", on("dry")));
    assert_eq!(
        bench.processor.process(&bench.chunk).await.unwrap().failed,
        1
    );
    let results = bench.results().await;
    let error = results["a"].result.error.clone().unwrap();
    assert!(error.contains("fetches no data; remove"), "{error}");
}
