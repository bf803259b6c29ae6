//! Batches that are cancelled while their job is paused.

use punctual_domain::{NewBatch, Priority, Trigger};

use super::*;

#[tokio::test(start_paused = true)]
async fn a_run_that_is_cancelled_while_its_job_is_paused_is_skipped_and_explained_so() {
    let store: Arc<FakeStore> = Arc::default();
    let operator = testing::with_own_processor(serving(&store), &store);
    let (tenant, due_at) = (TenantId::new("unread").unwrap(), at("2026-03-01T09:00:00Z"));
    let batch = NewBatch::new(
        &posts(),
        Priority::Medium,
        "daily 09:00 UTC".to_owned(),
        due_at,
        "2026-03-01".parse().unwrap(),
        Trigger::Schedule,
        due_at,
        &[ItemId::from(&tenant)],
        10,
    );
    let batch_id = batch.batch_id;
    let firing = Firing {
        batches: vec![batch],
        positions: vec![],
    };
    store.enqueue(firing, due_at).await.unwrap();
    operator.pause(&actor(), &posts()).await.unwrap();
    let skipped = async || store.work(&operator.processor).await.unwrap().skipped;
    assert_eq!(skipped().await, 0, "it waits");

    operator.cancel(&actor(), batch_id).await.unwrap();
    assert_eq!(skipped().await, 1);
    let batch = operator.batch(batch_id).await.unwrap();
    assert!(batch.finished_at.is_some());
    let explained = operator.explain(&tenant, &posts(), None).await.unwrap();
    assert_eq!(explained.batch_id, Some(batch_id));
    let is_cancelled = |reason: &str| reason == "cancelled";
    assert!(
        matches!(&explained.verdict, Verdict::Skipped { reason, .. } if is_cancelled(reason)),
        "{explained:?}"
    );
}
