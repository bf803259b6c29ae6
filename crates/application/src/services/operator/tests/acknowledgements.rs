//! What operators have acknowledged, and when that ends.

use punctual_domain::FieldErrors;

use super::*;
use crate::ports::Unreadable;

/// The finding by an id, if there is one.
pub(super) async fn finding(operator: &Operator, id: &str) -> Option<Finding> {
    let findings = operator.findings().await.unwrap();
    let mut all = findings.not_ready.into_iter().chain(findings.warnings);
    all.find(|one| one.id() == id)
}

/// Acknowledges a finding as it is.
pub(super) async fn acknowledge(operator: &Operator, id: &str) {
    let state = finding(operator, id).await.unwrap().state();
    let known = operator.acknowledge(&actor(), id, state, true).await;
    assert!(known.unwrap().acknowledged.is_some());
}

pub(super) async fn is_known(operator: &Operator, id: &str) -> bool {
    let found = finding(operator, id).await.unwrap();
    found.acknowledged.is_some()
}

pub(super) async fn sleep(seconds: u64) {
    tokio::time::sleep(std::time::Duration::from_secs(seconds)).await;
}

/// Runs for a tenant, and has it succeed.
async fn succeed(operator: &Operator, store: &FakeStore, tenant: &str) {
    operator
        .trigger(&actor(), None, &posts(), &of(tenant))
        .await
        .unwrap();
    store
        .end_all(ItemStatus::Succeeded, operator.clock.now())
        .await;
}

#[tokio::test(start_paused = true)]
async fn what_gets_worse_or_has_another_cause_is_news_and_other_numbers_are_not() {
    let store: Arc<FakeStore> = Arc::default();
    let operator = serving(&store);
    let id = "failing/enqueue-due-batches";
    let fails = |reason: &str| {
        let now = operator.clock.now();
        operator
            .failures
            .failed(Operation::EnqueueDueBatches, reason, now);
    };
    fails("locked for 5.2 s by 7f3c-11");
    acknowledge(&operator, id).await;
    fails("locked for 19 s by 0a-2");
    assert!(is_known(&operator, id).await);
    fails("the disk is full");
    assert!(!is_known(&operator, id).await, "another cause");
    acknowledge(&operator, id).await;
    sleep(31).await;
    fails("the disk is full");
    let worse = finding(&operator, id).await.unwrap();
    assert_eq!(
        (worse.severity, worse.acknowledged),
        (Severity::Critical, None)
    );

    // It was over in between, and was not looked at.
    acknowledge(&operator, id).await;
    operator.failures.succeeded(&Operation::EnqueueDueBatches);
    sleep(1).await;
    fails("the disk is full");
    sleep(31).await;
    assert!(!is_known(&operator, id).await);
}

#[tokio::test(start_paused = true)]
async fn a_job_that_fails_is_news_again_only_after_it_did_well() {
    let store: Arc<FakeStore> = Arc::default();
    let operator = operator(&store);
    let id = "job-failing/posts";
    fail(&operator, &store, "ann").await;
    let since = finding(&operator, id).await.unwrap().since;
    acknowledge(&operator, id).await;
    // Batches that fail, more than are looked at, and the oldest dead letter settled: the acknowledgement holds.
    for _ in 0..25 {
        sleep(3600).await;
        fail(&operator, &store, "ann").await;
    }
    let oldest = DeadLetterSelection::one(1);
    operator.discard(&actor(), None, &oldest).await.unwrap();
    assert!(is_known(&operator, id).await);
    // One that has begun and has not failed yet says nothing.
    sleep(3600).await;
    operator
        .trigger(&actor(), None, &posts(), &of("bob"))
        .await
        .unwrap();
    assert!(is_known(&operator, id).await);
    store
        .end_all(ItemStatus::Failed, operator.clock.now())
        .await;
    assert!(is_known(&operator, id).await);

    sleep(3600).await;
    succeed(&operator, &store, "bob").await;
    sleep(3600).await;
    fail(&operator, &store, "ann").await;
    let again = finding(&operator, id).await.unwrap();
    assert_eq!(again.acknowledged, None, "it did well in between");
    assert!(again.since > since);
}

#[tokio::test(start_paused = true)]
async fn what_is_over_is_forgotten_with_its_acknowledgement() {
    let store: Arc<FakeStore> = Arc::default();
    let operator = serving(&store);
    operator.pause(&actor(), &posts()).await.unwrap();
    fail(&operator, &store, "ann").await;
    for id in ["paused/posts", "job-failing/posts", "quarantine/posts"] {
        acknowledge(&operator, id).await;
    }
    let known = async || store.acknowledgements().await.unwrap().len();
    assert_eq!(known().await, 3);
    operator.resume(&actor(), &posts()).await.unwrap();
    operator.findings().await.unwrap();
    assert_eq!(known().await, 2);
    let all = everything();
    operator.discard(&actor(), None, &all).await.unwrap();
    operator.findings().await.unwrap();
    assert_eq!(known().await, 1);

    // What has not been read yet may still be wrong.
    operator.status.publish(SchedulerStatus::default());
    operator.findings().await.unwrap();
    assert_eq!(known().await, 1);
    testing::schedule(&operator, &posts(), &[]);
    operator.findings().await.unwrap();
    assert_eq!(known().await, 0);

    // A pause that comes back is another one.
    operator.pause(&actor(), &posts()).await.unwrap();
    acknowledge(&operator, "paused/posts").await;
    operator.resume(&actor(), &posts()).await.unwrap();
    sleep(1).await;
    operator.pause(&actor(), &posts()).await.unwrap();
    assert!(!is_known(&operator, "paused/posts").await);
}

#[tokio::test(start_paused = true)]
async fn of_the_quarantine_only_another_tenant_is_news() {
    let store: Arc<FakeStore> = Arc::default();
    let operator = operator(&store);
    let id = "quarantine/posts";
    let quarantined = |tenants: &[&str]| {
        let broken = json!({"enabled": true, "frequency": "daily", "preferred_time": "nine"});
        let records: Vec<_> = tenants
            .iter()
            .map(|tenant| record(tenant, broken.clone()))
            .collect();
        testing::schedule(&operator, &posts(), &records);
    };
    quarantined(&["ann", "bob"]);
    acknowledge(&operator, id).await;
    for (tenants, known) in [
        (&["bob"][..], true),
        (&["ann", "bob"][..], true),
        (&["bob", "eve"][..], false),
        (&["ann", "bob", "eve"][..], false),
    ] {
        quarantined(tenants);
        assert_eq!(is_known(&operator, id).await, known, "{tenants:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_tenant_that_the_operator_has_not_seen_is_not_acknowledged() {
    let store: Arc<FakeStore> = Arc::default();
    let operator = operator(&store);
    let id = "quarantine/posts";
    let broken = json!({"enabled": true, "frequency": "daily", "preferred_time": "nine"});
    let quarantined = |tenants: &[&str]| {
        let records = tenants.iter().map(|tenant| record(tenant, broken.clone()));
        testing::schedule(&operator, &posts(), &records.collect::<Vec<_>>());
    };
    quarantined(&["ann"]);
    let seen = finding(&operator, id).await.unwrap().state();
    quarantined(&["ann", "bob"]);
    let changed = operator.acknowledge(&actor(), id, seen, true).await;
    assert!(
        matches!(changed, Err(OperatorError::Conflict(_))),
        "{changed:?}"
    );
    assert!(!is_known(&operator, id).await);
    acknowledge(&operator, id).await;
    quarantined(&["ann"]);
    assert!(is_known(&operator, id).await, "there are fewer");
    // The operator withdraws the acknowledgement, although there are fewer than were acknowledged.
    let state = finding(&operator, id).await.unwrap().state();
    operator
        .acknowledge(&actor(), id, state, false)
        .await
        .unwrap();
    assert!(!is_known(&operator, id).await);
}

#[tokio::test(start_paused = true)]
async fn an_entry_that_cannot_be_read_is_news() {
    let store: Arc<FakeStore> = Arc::default();
    let config_database = Arc::new(FakeConfigDatabase::default());
    let operator = Operator {
        preferences: config_database.clone(),
        ..operator(&store)
    };
    let id = "quarantine/posts";
    testing::schedule(&operator, &posts(), &[]);
    let mut status = (*operator.status.get()).clone();
    let unreadable = |tenants: &[&str], more: usize| {
        let tenants = tenants.iter().map(|tenant| {
            let tenant = TenantId::new(*tenant).unwrap();
            (tenant, FieldErrors(Vec::new()))
        });
        config_database.set_unreadable(Unreadable {
            tenants: tenants.collect(),
            more,
            ..Unreadable::default()
        });
    };
    status.jobs.get_mut(&posts()).unwrap().quarantined = 1;
    operator.status.publish(status);
    unreadable(&["ann", "bob"], 1);
    acknowledge(&operator, id).await;
    for (tenants, more, known) in [
        (&["bob"][..], 1, true),
        (&["ann", "bob"][..], 0, true),
        (&["ann", "bob"][..], 2, false),
        (&["eve"][..], 0, false),
    ] {
        unreadable(tenants, more);
        assert_eq!(is_known(&operator, id).await, known, "{tenants:?} {more}");
    }
}

#[tokio::test(start_paused = true)]
async fn an_outage_of_preferences_is_one_finding_whatever_its_reasons() {
    let store: Arc<FakeStore> = Arc::default();
    let operator = serving(&store);
    let mut status = (*operator.status.get()).clone();
    let known = status.jobs.get_mut(&posts()).unwrap();
    known.quarantined = 0;
    let other = known.clone();
    let fails = |reasons: [&str; 2], loaded: bool| {
        let mut status = status.clone();
        let jobs = [posts(), JobId::new("report").unwrap()];
        for (job_id, reason) in jobs.into_iter().zip(reasons) {
            let mut known = other.clone();
            known.trouble = Some(reason.to_owned());
            known.loaded = loaded;
            status.jobs.insert(job_id, known);
        }
        operator.status.publish(status);
    };
    let ids = async || {
        let findings = operator.findings().await.unwrap();
        findings
            .all()
            .iter()
            .map(|one| one.id())
            .collect::<Vec<_>>()
    };
    let (id, refused) = ("preferences/stale", "crm.example:443 is down");
    fails([refused, refused], true);
    acknowledge(&operator, id).await;
    for (reasons, known) in [
        (["answered 500 after 3 s", refused], false),
        (["answered 500 after 3 s"; 2], false),
        (["crm.example:8443 is down", refused], true),
    ] {
        fails(reasons, true);
        assert_eq!(ids().await, [id], "{reasons:?}");
        assert_eq!(is_known(&operator, id).await, known, "{reasons:?}");
    }
    fails(["answered 500 after 3 s"; 2], true);
    acknowledge(&operator, id).await;
    fails(["answered 502 after 41 s"; 2], true);
    assert!(is_known(&operator, id).await, "other numbers");

    // What does not run at all is worse, and another finding.
    fails([refused, refused], false);
    assert_eq!(ids().await, ["preferences/missing"]);
    let worse = finding(&operator, "preferences/missing").await.unwrap();
    assert_eq!(
        (worse.severity, worse.acknowledged),
        (Severity::Critical, None)
    );
}

#[tokio::test(start_paused = true)]
async fn no_finding_that_anybody_may_read_names_an_operator() {
    let store: Arc<FakeStore> = Arc::default();
    let operator = serving(&store);
    let ann = Actor::from("page from 10.0.0.7");
    operator.pause(&ann, &posts()).await.unwrap();
    let ready = operator.readiness().await;
    let paused = ready.warnings.first().unwrap();
    assert_eq!(paused.what, "posts is paused");
    assert!(!paused.to_string().contains("10.0.0.7"), "{paused}");
    assert_eq!(paused.in_full(), "posts is paused by 10.0.0.7");
    let shown = operator.job_view(&posts()).await.unwrap();
    assert_eq!(shown.paused_because.as_deref(), Some("paused by 10.0.0.7"));

    // The reason may name anyone: it is for operators, too.
    let because = ann.because("bob restarts the renderer");
    operator.pause(&because, &posts()).await.unwrap();
    let ready = operator.readiness().await;
    let paused = ready.warnings.first().unwrap();
    assert_eq!(paused.what, "posts is paused");
    assert!(!paused.to_string().contains("renderer"), "{paused}");
    let by = "paused by 10.0.0.7: bob restarts the renderer";
    assert_eq!(paused.in_full(), format!("posts is {by}"));
    let shown = operator.job_view(&posts()).await.unwrap();
    assert_eq!(shown.paused_because.as_deref(), Some(by));
}
