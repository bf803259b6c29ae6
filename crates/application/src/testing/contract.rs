//! What every store must do. Each adapter runs the suite over an empty store of its own; so does the fake.

use chrono::{DateTime, Utc};
use punctual_domain::{
    BatchStatus, Chunk, Firing, ItemResult, ItemStatus, JobId, NewBatch, Priority, Progress,
    TenantId, Trigger,
};
use serde_json::json;
use uuid::Uuid;

use crate::ports::{BatchFilter, BatchStore, Page, ResultFilter, TenantRuns, WorkQueue};

fn at(text: &str) -> DateTime<Utc> {
    text.parse().expect("RFC 3339")
}

fn job() -> JobId {
    JobId::new("job").expect("valid")
}

fn tenants(range: std::ops::Range<usize>) -> Vec<TenantId> {
    range
        .map(|n| TenantId::new(format!("user{n:04}")).expect("valid"))
        .collect()
}

fn batch(slot: &str, scheduled_at: &str, occurrence: &str, items: &[TenantId]) -> NewBatch {
    NewBatch::new(
        &job(),
        Priority::Medium,
        slot.to_owned(),
        at(scheduled_at),
        occurrence.parse().expect("an occurrence"),
        Trigger::Schedule,
        at(scheduled_at),
        items,
        500,
    )
}

fn firing(batch: &NewBatch) -> Firing {
    let progress = Progress {
        job_id: job(),
        scheduled_until: batch.scheduled_at,
        furthest_until: batch.scheduled_at,
        seen_until: Some(batch.scheduled_at),
    };
    Firing {
        batches: vec![batch.clone()],
        progress: vec![progress],
    }
}

fn result(tenant: &TenantId, status: ItemStatus) -> ItemResult {
    ItemResult {
        tenant_id: tenant.clone(),
        status,
        attempts: 1,
        preference: Some(json!({"enabled": true})),
        output: (status == ItemStatus::Succeeded).then(|| json!({"text": tenant.as_str()})),
        error: (status != ItemStatus::Succeeded).then(|| "because".to_owned()),
        started_at: at("2026-03-01T09:00:01Z"),
        finished_at: Some(at("2026-03-01T09:00:02.000123Z")),
    }
}

/// Runs the whole suite over a store; it must be empty.
pub async fn run<S: WorkQueue + BatchStore>(store: &S) {
    batches_and_progress_are_stored_together_and_once(store).await;
    a_chunk_is_claimed_committed_and_finished(store).await;
    a_second_delivery_takes_only_what_is_not_done_and_fences_off_the_first(store).await;
    one_run_per_job_tenant_and_date_whatever_the_batch(store).await;
    lists_are_paged_without_losing_or_repeating(store).await;
}

async fn batches_and_progress_are_stored_together_and_once<S: WorkQueue + BatchStore>(store: &S) {
    let now = at("2026-03-01T09:00:00Z");
    assert_eq!(store.progress(&job()).await.expect("works"), None);
    let new = batch(
        "daily 09:00 UTC",
        "2026-03-01T09:00:00Z",
        "2026-03-01",
        &tenants(0..1200),
    );
    let first = store.enqueue(firing(&new), now).await.expect("works");
    assert_eq!(first.batches, std::slice::from_ref(&new));
    let again = store.enqueue(firing(&new), now).await.expect("works");
    assert!(
        again.batches.is_empty(),
        "a batch that is there already is not new"
    );

    let progress = store
        .progress(&job())
        .await
        .expect("works")
        .expect("stored");
    assert_eq!(
        (progress.scheduled_until, progress.seen_until),
        (now, Some(now))
    );
    let earlier = at("2026-03-01T08:00:00Z");
    let back = Progress {
        scheduled_until: earlier,
        furthest_until: earlier,
        ..progress.clone()
    };
    let firing = Firing {
        batches: vec![],
        progress: vec![back.clone()],
    };
    store.enqueue(firing, earlier).await.expect("works");
    let after = store.progress(&job()).await.expect("works");
    let furthest = Progress {
        furthest_until: progress.furthest_until,
        ..back
    };
    assert_eq!(after, Some(furthest), "how far it has been is kept");
    let paused = || async {
        store
            .paused()
            .await
            .expect("works")
            .into_iter()
            .collect::<Vec<_>>()
    };
    assert!(paused().await.is_empty());
    for (pause, expected) in [(true, vec![job()]), (true, vec![job()]), (false, vec![])] {
        store
            .set_paused(&job(), pause, earlier)
            .await
            .expect("works");
        assert_eq!(paused().await, expected);
    }
    let stored = store
        .batch(new.batch_id)
        .await
        .expect("works")
        .expect("stored");
    assert_eq!(
        (stored.status, stored.total, stored.processed()),
        (BatchStatus::Queued, 1200, 0)
    );
    assert_eq!(store.batch(Uuid::nil()).await.expect("works"), None);
}

async fn claim<S: BatchStore>(store: &S, chunk: &Chunk, token: Uuid) -> Vec<TenantId> {
    let mut claimed = store
        .claim(chunk, token, at("2026-03-01T09:00:01Z"))
        .await
        .expect("works");
    claimed.sort();
    claimed
}

async fn a_chunk_is_claimed_committed_and_finished<S: WorkQueue + BatchStore>(store: &S) {
    let new = batch(
        "daily 09:00 UTC",
        "2026-03-02T09:00:00Z",
        "2026-03-02",
        &tenants(0..3),
    );
    store
        .enqueue(firing(&new), at("2026-03-02T09:00:00Z"))
        .await
        .expect("works");
    let (chunk, token) = (&new.chunks[0], Uuid::from_u128(1));
    assert_eq!(claim(store, chunk, token).await, tenants(0..3));
    let batch = || async {
        store
            .batch(new.batch_id)
            .await
            .expect("works")
            .expect("stored")
    };
    assert_eq!(batch().await.status, BatchStatus::Running);

    let all = tenants(0..3);
    let results = [
        result(&all[0], ItemStatus::Succeeded),
        result(&all[1], ItemStatus::Failed),
    ];
    assert_eq!(
        store.commit(chunk, token, &results).await.expect("works"),
        2
    );
    assert_eq!(
        store.commit(chunk, token, &results).await.expect("works"),
        0,
        "an outcome is final"
    );
    store
        .finish(chunk, at("2026-03-02T09:01:00Z"))
        .await
        .expect("works");
    assert_eq!(
        batch().await.status,
        BatchStatus::Running,
        "one item has no outcome yet"
    );

    let last = [result(&all[2], ItemStatus::Skipped)];
    assert_eq!(store.commit(chunk, token, &last).await.expect("works"), 1);
    store
        .finish(chunk, at("2026-03-02T09:01:00Z"))
        .await
        .expect("works");
    let done = batch().await;
    assert_eq!((done.succeeded, done.failed, done.skipped), (1, 1, 1));
    assert_eq!(
        (done.status, done.finished_at),
        (BatchStatus::Completed, Some(at("2026-03-02T09:01:00Z")))
    );

    let filter = ResultFilter {
        batch_id: new.batch_id,
        status: Some(ItemStatus::Succeeded),
    };
    let (found, _) = store
        .results(&filter, &Page::default())
        .await
        .expect("works");
    assert_eq!(found.len(), 1);
    assert_eq!(
        found[0].result, results[0],
        "every field reads back as it was written"
    );
    assert_eq!(found[0].occurrence.to_string(), "2026-03-02");
}

async fn a_second_delivery_takes_only_what_is_not_done_and_fences_off_the_first<
    S: WorkQueue + BatchStore,
>(
    store: &S,
) {
    let new = batch(
        "daily 09:00 UTC",
        "2026-03-03T09:00:00Z",
        "2026-03-03",
        &tenants(0..4),
    );
    store
        .enqueue(firing(&new), at("2026-03-03T09:00:00Z"))
        .await
        .expect("works");
    let chunk = &new.chunks[0];
    let (first, second) = (Uuid::from_u128(11), Uuid::from_u128(12));
    let all = tenants(0..4);
    claim(store, chunk, first).await;
    let done = [result(&all[0], ItemStatus::Succeeded)];
    assert_eq!(store.commit(chunk, first, &done).await.expect("works"), 1);

    assert_eq!(claim(store, chunk, second).await, tenants(1..4));
    let stale = [result(&all[1], ItemStatus::Failed)];
    assert_eq!(
        store.commit(chunk, first, &stale).await.expect("works"),
        0,
        "the first worker is a zombie"
    );
    let rest: Vec<_> = all[1..]
        .iter()
        .map(|tenant| result(tenant, ItemStatus::Succeeded))
        .collect();
    assert_eq!(store.commit(chunk, second, &rest).await.expect("works"), 3);
    store
        .finish(chunk, at("2026-03-03T09:02:00Z"))
        .await
        .expect("works");
    let batch = store
        .batch(new.batch_id)
        .await
        .expect("works")
        .expect("stored");
    assert_eq!(
        (batch.status, batch.succeeded, batch.failed),
        (BatchStatus::Completed, 4, 0)
    );
}

async fn one_run_per_job_tenant_and_date_whatever_the_batch<S: WorkQueue + BatchStore>(store: &S) {
    let morning = batch(
        "daily 09:00 UTC",
        "2026-03-04T09:00:00Z",
        "2026-03-04",
        &tenants(0..2),
    );
    let evening = batch(
        "daily 18:00 UTC",
        "2026-03-04T18:00:00Z",
        "2026-03-04",
        &tenants(1..3),
    );
    for new in [&morning, &evening] {
        store
            .enqueue(firing(new), at("2026-03-04T18:00:00Z"))
            .await
            .expect("works");
    }
    let (first, second) = (Uuid::from_u128(21), Uuid::from_u128(22));
    assert_eq!(claim(store, &morning.chunks[0], first).await, tenants(0..2));
    assert_eq!(
        claim(store, &evening.chunks[0], second).await,
        tenants(2..3),
        "user1 is running already"
    );
    assert_eq!(
        claim(store, &evening.chunks[0], second).await,
        tenants(2..3),
        "however often it is asked"
    );

    let result = [result(&tenants(2..3)[0], ItemStatus::Succeeded)];
    assert_eq!(
        store
            .commit(&evening.chunks[0], second, &result)
            .await
            .expect("works"),
        1
    );
    store
        .finish(&evening.chunks[0], at("2026-03-04T18:01:00Z"))
        .await
        .expect("works");
    let batch = store
        .batch(evening.batch_id)
        .await
        .expect("works")
        .expect("stored");
    assert_eq!(
        (
            batch.status,
            batch.succeeded,
            batch.skipped,
            batch.processed()
        ),
        (BatchStatus::Completed, 1, 1, 2)
    );
}

async fn lists_are_paged_without_losing_or_repeating<S: WorkQueue + BatchStore>(store: &S) {
    let filter = BatchFilter {
        job_id: Some(job()),
        status: None,
    };
    let (all, next) = store
        .batches(&filter, &Page::default())
        .await
        .expect("works");
    assert_eq!((all.len(), next), (5, None));
    assert!(
        all.windows(2)
            .all(|pair| pair[0].scheduled_at >= pair[1].scheduled_at),
        "newest first"
    );
    let completed = BatchFilter {
        job_id: None,
        status: Some(BatchStatus::Completed),
    };
    assert_eq!(
        store
            .batches(&completed, &Page::default())
            .await
            .expect("works")
            .0
            .len(),
        3
    );

    let mut paged = Vec::new();
    let mut page = Page {
        cursor: None,
        limit: 2,
    };
    loop {
        let (batches, next) = store.batches(&filter, &page).await.expect("works");
        paged.extend(batches);
        let Some(next) = next else { break };
        page.cursor = Some(next);
    }
    assert_eq!(paged, all);

    let tenant = TenantRuns {
        tenant_id: tenants(0..1)[0].clone(),
        job_id: None,
    };
    let (runs, next) = store
        .tenant_runs(
            &tenant,
            &Page {
                cursor: None,
                limit: 2,
            },
        )
        .await
        .expect("works");
    let dates: Vec<String> = runs.iter().map(|run| run.occurrence.to_string()).collect();
    assert_eq!(dates, ["2026-03-04", "2026-03-03"]);
    let (rest, next) = store
        .tenant_runs(
            &tenant,
            &Page {
                cursor: next,
                limit: 2,
            },
        )
        .await
        .expect("works");
    let dates: Vec<String> = rest.iter().map(|run| run.occurrence.to_string()).collect();
    assert_eq!((dates, next), (vec!["2026-03-02".to_owned()], None));

    let filter = ResultFilter {
        batch_id: all[0].batch_id,
        status: None,
    };
    let nonsense = Page {
        cursor: Some("\0nonsense".into()),
        limit: 2,
    };
    let errors = [
        store
            .batches(&BatchFilter::default(), &nonsense)
            .await
            .err(),
        store.tenant_runs(&tenant, &nonsense).await.err(),
        store.results(&filter, &nonsense).await.err(),
    ];
    for error in errors {
        assert!(
            error
                .expect("a cursor that is none is refused")
                .invalid_input
        );
    }
}

#[cfg(test)]
mod tests {
    #[tokio::test]
    async fn the_fake_keeps_the_contract() {
        super::run(&crate::testing::FakeStore::default()).await;
    }
}
