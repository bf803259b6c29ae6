//! The order in which what has failed runs again.

use punctual_domain::{Chunk, NewBatch, Occurrence, Priority, Trigger};

use super::*;

#[tokio::test(start_paused = true)]
async fn the_runs_of_a_tenant_are_replayed_in_the_order_of_their_times_whichever_failed_last() {
    let store: Arc<FakeStore> = Arc::default();
    let mut operator = serving(&store);
    let mut handlers = Handlers::default();
    let handler = Arc::new(MockPurposeHandler::new());
    let purpose = PurposeId::new("p").unwrap();
    handlers.bind(purpose, handler, Handlers::DEFAULT_TIMEOUT);
    operator.handlers = handlers;
    let ann = ItemId::new("ann").unwrap();
    let others: Vec<ItemId> = (0..1_000)
        .map(|number| ItemId::new(format!("t{number}")).unwrap())
        .collect();
    for (hour, items) in [
        (2, std::slice::from_ref(&ann)),
        (3, others.as_slice()),
        (1, std::slice::from_ref(&ann)),
    ] {
        let due = at(&format!("2026-02-28T{hour:02}:00:00Z"));
        let batch = NewBatch::new(
            &posts(),
            Priority::Medium,
            "hourly".to_owned(),
            due,
            Occurrence::Instant(due),
            Trigger::Schedule,
            due,
            items,
            500,
        );
        let firing = Firing {
            batches: vec![batch],
            positions: vec![],
        };
        store.enqueue(firing, due).await.unwrap();
        store.end_all(ItemStatus::Failed, due).await;
    }
    let replayed = operator.replay(&actor(), None, &everything()).await;
    let replayed = replayed.unwrap();
    let batches: BTreeSet<_> = replayed.batches.iter().collect();
    assert_eq!((replayed.replayed, batches.len()), (1_002, 4));
    let mut of_ann: Vec<Chunk> = store.pending();
    let queued: usize = of_ann.iter().map(|chunk| chunk.items.len()).sum();
    assert_eq!(queued, 1_002);
    of_ann.retain(|chunk| chunk.items.contains(&ann));
    of_ann.sort_by_key(|chunk| chunk.scheduled_at);
    let after: Vec<&[String]> = of_ann.iter().map(|chunk| chunk.after.as_slice()).collect();
    let first = of_ann[0].chunk_id.clone();
    assert_eq!(after, [&[][..], &[first][..]]);
}
