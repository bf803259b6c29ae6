//! What a tenant may see of past runs.

use std::time::Duration;

use punctual_domain::{ItemResult, SkipReason};
use uuid::Uuid;

use super::*;
use crate::{
    ports::{BatchStore, Claimant, RunOutcome},
    testing::contract,
};

/// Runs a day for Ann, and has it end so.
async fn run(
    operator: &Operator,
    store: &FakeStore,
    day: &str,
    status: ItemStatus,
    error: Option<&str>,
) {
    // Nothing happens at one instant: it tells batches apart.
    tokio::time::sleep(Duration::from_secs(1)).await;
    let request = BackfillRequest {
        from: day.parse().unwrap(),
        to: day.parse().unwrap(),
        tenants: None,
        all: false,
        allow_unknown: false,
        preview: false,
    };
    let queued = operator.backfill(&actor(), None, &posts(), &request).await;
    assert_eq!(queued.unwrap().count.to_run, 1, "{day}");
    let now = operator.clock.now();
    let claimant = Claimant {
        process: Uuid::from_u128(1),
        token: Uuid::from_u128(2),
    };
    for chunk in store.pending() {
        let claim = store.claim(&chunk, claimant, now).await.unwrap();
        let ended = |item_id| ItemResult {
            item_id,
            status,
            failure_kind: None,
            attempts: 1,
            preference: None,
            output: Some(json!({"text": "canary"})),
            error: error.map(str::to_owned),
            started_at: now,
            finished_at: Some(now),
            waiting: None,
        };
        let results: Vec<_> = claim.items.into_iter().map(ended).collect();
        let committed = store.commit(&chunk, claimant.token, &results).await;
        committed.unwrap();
    }
}

#[tokio::test(start_paused = true)]
async fn a_tenant_sees_how_runs_have_ended_and_not_what_they_made() {
    let store: Arc<FakeStore> = Arc::default();
    let operator = serving(&store);
    for (day, status, error) in [
        (
            "2026-02-24",
            ItemStatus::NothingToDo,
            Some("canary: no news"),
        ),
        (
            "2026-02-25",
            ItemStatus::Skipped,
            Some("invalid_preference: /preferred_time: canary"),
        ),
        ("2026-02-26", ItemStatus::Failed, Some("canary: refused")),
        ("2026-02-27", ItemStatus::Skipped, Some("disabled")),
        ("2026-02-28", ItemStatus::Skipped, Some("overlap")),
        ("2026-02-28", ItemStatus::Succeeded, None),
    ] {
        run(&operator, &store, day, status, error).await;
    }
    // What is queued has not ended.
    let triggered = operator.trigger(&actor(), None, &posts(), &of("ann")).await;
    triggered.unwrap();

    let ann = TenantId::new("ann").unwrap();
    let feature = FeatureType::new("posts").unwrap();
    let known = operator.past_runs(&ann, &feature, 100).await.unwrap();
    let seen: Vec<_> = known
        .iter()
        .map(|run| (run.occurrence.to_string(), run.outcome, run.reason))
        .collect();
    let ended = |day: &str, outcome, reason| (day.to_owned(), outcome, reason);
    let skipped = RunOutcome::Skipped;
    assert_eq!(
        seen,
        [
            ended("2026-02-28", RunOutcome::Succeeded, None),
            ended("2026-02-27", skipped, Some(SkipReason::Disabled)),
            ended("2026-02-26", RunOutcome::Failed, None),
            ended("2026-02-25", skipped, Some(SkipReason::Invalid)),
            ended("2026-02-24", RunOutcome::NothingToDo, None),
        ]
    );
    let shown = json!(known).to_string();
    assert!(!shown.contains("canary"), "{shown}");
    contract::run_history(&operator, (&ann, &feature), &known).await;

    tokio::time::sleep(Duration::from_hours(91 * 24)).await;
    let later = operator.past_runs(&ann, &feature, 100).await.unwrap();
    assert_eq!(later, [], "too long ago");
}
