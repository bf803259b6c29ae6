//! Work that waits, and work that has waited too long.

use punctual_domain::ItemResult;
use uuid::Uuid;

use super::{
    acknowledgements::{acknowledge, finding, is_known, sleep},
    *,
};
use crate::ports::{BatchStore, ChunkQueue, Claimant};

/// Runs for a tenant, and has all that is queued expire.
async fn expire(operator: &Operator, store: &FakeStore, tenant: &str) {
    operator
        .trigger(&actor(), None, &posts(), &of(tenant))
        .await
        .unwrap();
    let now = operator.clock.now();
    let claimant = Claimant {
        process: Uuid::from_u128(1),
        token: Uuid::from_u128(2),
    };
    for chunk in store.pending() {
        let claim = store.claim(&chunk, claimant, now).await.unwrap();
        let skipped = |item_id| ItemResult {
            item_id,
            status: ItemStatus::Skipped,
            failure_kind: None,
            attempts: 0,
            preference: None,
            output: None,
            error: Some("expired".to_owned()),
            started_at: now,
            finished_at: Some(now),
            waiting: None,
        };
        let results: Vec<ItemResult> = claim.items.into_iter().map(skipped).collect();
        let committed = store.commit(&chunk, claimant.token, &results).await;
        assert_eq!(committed.unwrap().taken, 1);
    }
}

#[tokio::test(start_paused = true)]
async fn what_expired_is_reported_for_a_day_and_more_of_it_is_news() {
    let store: Arc<FakeStore> = Arc::default();
    let operator = operator(&store);
    let id = "expired/posts";
    assert_eq!(finding(&operator, id).await, None);
    let first = operator.clock.now();
    expire(&operator, &store, "ann").await;
    let found = finding(&operator, id).await.unwrap();
    let what = "posts: 1 item expired in the last 24 hours and did not run";
    assert_eq!((found.what.as_str(), found.since), (what, Some(first)));
    assert_eq!(found.severity, Severity::Notice);
    acknowledge(&operator, id).await;
    sleep(3600).await;
    assert!(is_known(&operator, id).await);
    expire(&operator, &store, "bob").await;
    assert!(!is_known(&operator, id).await, "it is about more");
    acknowledge(&operator, id).await;

    // The first one has dropped out: another one ends the acknowledgement, though there are not more of them.
    sleep(24 * 3600).await;
    assert!(is_known(&operator, id).await);
    expire(&operator, &store, "eve").await;
    assert!(!is_known(&operator, id).await);
    sleep(26 * 3600).await;
    assert_eq!(finding(&operator, id).await, None);
}

#[tokio::test(start_paused = true)]
async fn what_is_due_and_does_not_begin_is_reported_with_the_reason() {
    let store: Arc<FakeStore> = Arc::default();
    let operator = operator(&store);
    let id = "waiting/posts";
    let due = operator.clock.now();
    for tenant in ["ann", "bob"] {
        let queued = operator
            .trigger(&actor(), None, &posts(), &of(tenant))
            .await
            .unwrap();
        assert_eq!(queued.total, 1);
        sleep(1).await;
    }
    sleep(240).await;
    assert_eq!(finding(&operator, id).await, None, "it may still begin");
    sleep(61).await;
    let found = finding(&operator, id).await.unwrap();
    let what =
        "posts: 2 items in 2 batches are due and have not started: no process is alive to run it";
    assert_eq!((found.what.as_str(), found.since), (what, Some(due)));
    assert_eq!(found.severity, Severity::Warning);
    acknowledge(&operator, id).await;
    store.heartbeat(Uuid::from_u128(1)).await.unwrap();
    assert!(!is_known(&operator, id).await, "another reason");

    // Of a paused job the pause says it.
    operator.pause(&actor(), &posts()).await.unwrap();
    assert_eq!(finding(&operator, id).await, None);
    let pause = finding(&operator, "paused/posts").await.unwrap();
    let what = "posts is paused; not begun: 2 items in 2 batches";
    assert_eq!(pause.what, what);
    operator.resume(&actor(), &posts()).await.unwrap();

    // What is known to keep it from beginning is the one finding.
    let begins = Operation::BeginChunks(posts());
    let now = operator.clock.now();
    operator.failures.failed(begins, "a worker has ended", now);
    sleep(30).await;
    assert_eq!(finding(&operator, id).await, None);
    assert!(
        finding(&operator, "failing/begin-chunks/posts")
            .await
            .is_some()
    );
}
