//! What every store must do. Each adapter runs the suite over an empty store of its own; so does the fake.

mod operations;

use std::collections::BTreeSet;

use chrono::{DateTime, Utc};
use punctual_domain::{
    BatchStatus, Chunk, DeadLetterState, Firing, ItemResult, ItemStatus, JobId, NewBatch, Priority,
    Progress, TenantId, Trigger,
};
use serde_json::json;
use uuid::Uuid;

pub use self::operations::operations;
use crate::ports::{
    BatchFilter, BatchReader, BatchStore, Claim, Claimant, DeadLetterFilter, Page, ResultFilter,
    StoreErrorKind, TenantRuns, WorkQueue,
};

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
        began: Some(batch.scheduled_at),
        placement: Some("{}".into()),
    };
    Firing {
        batches: vec![batch.clone()],
        progress: vec![progress],
    }
}

/// When results of these tests end.
const ENDED: &str = "2026-03-01T09:00:02.000123Z";

fn result(tenant: &TenantId, status: ItemStatus) -> ItemResult {
    ItemResult {
        tenant_id: tenant.clone(),
        status,
        attempts: 1,
        preference: Some(json!({"enabled": true})),
        output: (status == ItemStatus::Succeeded).then(|| json!({"text": tenant.as_str()})),
        error: (status != ItemStatus::Succeeded).then(|| "because".to_owned()),
        started_at: at("2026-03-01T09:00:01Z"),
        finished_at: Some(at(ENDED)),
    }
}

/// The processes that claim.
const HERE: Uuid = Uuid::from_u128(100);
const ELSEWHERE: Uuid = Uuid::from_u128(200);

/// A store, and what reads it.
struct Tested<'a, S> {
    store: &'a S,
    reader: &'a dyn BatchReader,
}

/// Runs the whole suite over a store; it must be empty.
pub async fn run<S: WorkQueue + BatchStore>(store: &S, reader: &dyn BatchReader) {
    let tested = &Tested { store, reader };
    batches_and_progress_are_stored_together_and_once(tested).await;
    a_chunk_is_claimed_committed_and_finished(tested).await;
    a_second_delivery_takes_only_what_is_not_done_and_fences_off_the_first(tested).await;
    one_run_per_job_tenant_and_date_whatever_the_batch(tested).await;
    lists_are_paged_without_losing_or_repeating(tested).await;
    deliveries_that_end_with_their_process_are_counted(tested).await;
    who_runs_alone_is_remembered(tested).await;
    a_cancelled_batch_says_so_and_ends(tested).await;
    dead_letters_are_replayed_once_or_discarded(tested).await;
    what_was_skipped_is_run_by_a_later_batch_and_every_count_stays(tested).await;
    a_replay_that_is_skipped_opens_its_dead_letter_again(tested).await;
    who_is_running_is_known_to_other_occurrences(tested).await;
}

async fn batches_and_progress_are_stored_together_and_once<S: WorkQueue + BatchStore>(
    &Tested { store, reader }: &Tested<'_, S>,
) {
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
    assert_eq!(after, Some(furthest.clone()), "how far it has been is kept");
    for (told, kept) in [(Some(earlier), earlier), (None, earlier), (Some(now), now)] {
        let firing = Firing {
            batches: vec![],
            progress: vec![Progress {
                began: told,
                ..furthest.clone()
            }],
        };
        store.enqueue(firing, now).await.expect("works");
        let after = store.progress(&job()).await.expect("works");
        let began = after.expect("stored").began;
        assert_eq!(began, Some(kept), "the last begin that was told");
    }
    let paused = || async {
        store
            .paused()
            .await
            .expect("works")
            .into_iter()
            .collect::<Vec<_>>()
    };
    assert!(paused().await.is_empty());
    let because = |reason: &str| Some(reason.to_owned());
    for (pause, expected) in [
        (because("a"), vec![(job(), "a".to_owned())]),
        (because("b"), vec![(job(), "b".to_owned())]),
        (None, vec![]),
    ] {
        store
            .set_paused(&job(), pause, earlier)
            .await
            .expect("works");
        assert_eq!(paused().await, expected);
    }
    let stored = reader
        .batch(new.batch_id)
        .await
        .expect("works")
        .expect("stored");
    assert_eq!(
        (stored.status, stored.total, stored.processed()),
        (BatchStatus::Queued, 1200, 0)
    );
    assert_eq!(reader.batch(Uuid::nil()).await.expect("works"), None);
}

async fn claim_by<S: BatchStore>(store: &S, chunk: &Chunk, process: Uuid, token: Uuid) -> Claim {
    let claimant = Claimant { process, token };
    let mut claim = store
        .claim(chunk, claimant, at("2026-03-01T09:00:01Z"))
        .await
        .expect("works");
    claim.items.sort();
    claim
}

async fn claim<S: BatchStore>(store: &S, chunk: &Chunk, token: Uuid) -> Vec<TenantId> {
    claim_by(store, chunk, HERE, token).await.items
}

async fn commit<S: BatchStore>(
    store: &S,
    chunk: &Chunk,
    token: Uuid,
    results: &[ItemResult],
) -> usize {
    store
        .commit(chunk, token, results)
        .await
        .expect("works")
        .taken
}

/// A batch of `items` in the queue, the first chunk of which is claimed under `token`.
async fn claimed<S: WorkQueue + BatchStore>(
    store: &S,
    date: &str,
    items: &[TenantId],
    token: Uuid,
) -> (NewBatch, Claim) {
    let due = format!("{date}T09:00:00Z");
    let new = batch("daily 09:00 UTC", &due, date, items);
    store.enqueue(firing(&new), at(&due)).await.expect("works");
    let claim = claim_by(store, &new.chunks[0], HERE, token).await;
    (new, claim)
}

async fn a_chunk_is_claimed_committed_and_finished<S: WorkQueue + BatchStore>(
    &Tested { store, reader }: &Tested<'_, S>,
) {
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
        reader
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
    assert_eq!(commit(store, chunk, token, &results).await, 2);
    assert_eq!(
        commit(store, chunk, token, &results).await,
        0,
        "an outcome is final"
    );
    store
        .finish(chunk, token, at("2026-03-02T09:01:00Z"))
        .await
        .expect("works");
    assert_eq!(
        batch().await.status,
        BatchStatus::Running,
        "one item has no outcome yet"
    );

    let last = [result(&all[2], ItemStatus::Skipped)];
    assert_eq!(commit(store, chunk, token, &last).await, 1);
    store
        .finish(chunk, token, at("2026-03-02T09:01:00Z"))
        .await
        .expect("works");
    let done = batch().await;
    assert_eq!((done.succeeded, done.failed, done.skipped), (1, 1, 1));
    assert_eq!(
        (done.status, done.finished_at),
        (BatchStatus::Completed, Some(at(ENDED)))
    );

    let filter = ResultFilter {
        batch_id: new.batch_id,
        status: Some(ItemStatus::Succeeded),
    };
    let (found, _) = reader
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
    &Tested { store, reader }: &Tested<'_, S>,
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
    assert_eq!(commit(store, chunk, first, &done).await, 1);

    assert_eq!(claim(store, chunk, second).await, tenants(1..4));
    let stale = [result(&all[1], ItemStatus::Failed)];
    assert_eq!(
        commit(store, chunk, first, &stale).await,
        0,
        "the first worker is a zombie"
    );
    let rest: Vec<_> = all[1..]
        .iter()
        .map(|tenant| result(tenant, ItemStatus::Succeeded))
        .collect();
    assert_eq!(commit(store, chunk, second, &rest).await, 3);
    store
        .finish(chunk, second, at("2026-03-03T09:02:00Z"))
        .await
        .expect("works");
    let batch = reader
        .batch(new.batch_id)
        .await
        .expect("works")
        .expect("stored");
    assert_eq!(
        (batch.status, batch.succeeded, batch.failed),
        (BatchStatus::Completed, 4, 0)
    );
}

async fn one_run_per_job_tenant_and_date_whatever_the_batch<S: WorkQueue + BatchStore>(
    &Tested { store, reader }: &Tested<'_, S>,
) {
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
    for _ in 0..2 {
        let claim = claim_by(store, &evening.chunks[0], HERE, second).await;
        assert_eq!(claim.items, tenants(2..3), "user1 is in work already");
        assert!(claim.waiting, "and may yet be skipped there");
    }
    let began = at("2026-03-04T18:00:30Z");
    store
        .running(&morning.chunks[0], first, &tenants(0..1)[0], began)
        .await
        .expect("works");

    let of_evening = [result(&tenants(2..3)[0], ItemStatus::Succeeded)];
    assert_eq!(
        commit(store, &evening.chunks[0], second, &of_evening).await,
        1
    );
    let ended = at("2026-03-04T18:01:00Z");
    let finish = || store.finish(&evening.chunks[0], second, ended);
    finish().await.expect("works");
    let unfinished = reader.batch(evening.batch_id).await.expect("works");
    assert_eq!(unfinished.expect("stored").status, BatchStatus::Running);
    let of_morning = [result(&tenants(1..2)[0], ItemStatus::Succeeded)];
    assert_eq!(
        commit(store, &morning.chunks[0], first, &of_morning).await,
        1
    );
    let claim = claim_by(store, &evening.chunks[0], HERE, second).await;
    assert_eq!((claim.items.len(), claim.waiting), (0, false));
    finish().await.expect("works");
    let batch = reader
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
    let day = evening.chunks[0].occurrence;
    let among = [tenants(2..3), tenants(5..1_205)].concat();
    let ran = reader.ran(&job(), day, &among).await.expect("works");
    assert_eq!(Vec::from_iter(ran), tenants(2..3), "of the named ones");
    let day_before = "2025-12-31".parse().expect("a date");
    let ran = reader.ran(&job(), day_before, &among).await;
    assert_eq!(ran.expect("works"), BTreeSet::new(), "on that date only");
}

async fn lists_are_paged_without_losing_or_repeating<S: WorkQueue + BatchStore>(
    &Tested { reader, .. }: &Tested<'_, S>,
) {
    let filter = BatchFilter {
        job_id: Some(job()),
        status: None,
    };
    let (all, next) = reader
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
        reader
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
        let (batches, next) = reader.batches(&filter, &page).await.expect("works");
        paged.extend(batches);
        let Some(next) = next else { break };
        page.cursor = Some(next);
    }
    assert_eq!(paged, all);

    let tenant = TenantRuns {
        tenant_id: tenants(0..1)[0].clone(),
        job_id: None,
    };
    let (runs, next) = reader
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
    let (rest, next) = reader
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
        reader
            .batches(&BatchFilter::default(), &nonsense)
            .await
            .err(),
        reader.tenant_runs(&tenant, &nonsense).await.err(),
        reader.results(&filter, &nonsense).await.err(),
    ];
    for error in errors {
        let error = error.expect("a cursor that is none is refused");
        assert_eq!(error.kind(), StoreErrorKind::InvalidCursor);
    }
}

async fn deliveries_that_end_with_their_process_are_counted<S: WorkQueue + BatchStore>(
    &Tested { store, reader }: &Tested<'_, S>,
) {
    let all = tenants(0..2);
    let tokens: Vec<Uuid> = (31..36).map(Uuid::from_u128).collect();
    let (new, claim) = claimed(store, "2026-03-05", &all, tokens[0]).await;
    let chunk = &new.chunks[0];
    assert_eq!((claim.lost, claim.cancelled), (0, false));
    store
        .running(chunk, tokens[0], &all[0], at("2026-03-05T09:00:01Z"))
        .await
        .expect("works");
    let running = TenantRuns {
        tenant_id: all[0].clone(),
        job_id: None,
    };
    let (runs, _) = reader
        .tenant_runs(&running, &Page::default())
        .await
        .expect("works");
    assert_eq!(runs[0].result.status, ItemStatus::Running, "it is in work");
    assert_eq!(runs[0].batch_id, new.batch_id);

    let lost = |process, token| async move { claim_by(store, chunk, process, token).await.lost };
    assert_eq!(lost(HERE, tokens[1]).await, 0, "the process lives");
    store.release(chunk, tokens[0]).await.expect("works");
    assert_eq!(
        lost(ELSEWHERE, tokens[2]).await,
        1,
        "an old token releases nothing"
    );
    store.release(chunk, tokens[2]).await.expect("works");
    assert_eq!(lost(HERE, tokens[3]).await, 1, "it was given back");
    assert_eq!(lost(ELSEWHERE, tokens[4]).await, 2);
    let results: Vec<_> = all
        .iter()
        .map(|tenant| result(tenant, ItemStatus::Succeeded))
        .collect();
    assert_eq!(commit(store, chunk, tokens[3], &results).await, 0);
    assert_eq!(commit(store, chunk, tokens[4], &results).await, 2);
}

async fn who_runs_alone_is_remembered<S: WorkQueue + BatchStore>(
    &Tested { store, .. }: &Tested<'_, S>,
) {
    let all = tenants(0..2);
    let token = Uuid::from_u128;
    let (new, claim) = claimed(store, "2026-03-06", &all, token(41)).await;
    let chunk = &new.chunks[0];
    assert_eq!(claim.suspect, None);
    let suspect = |by, who: usize| store.suspect(chunk, token(by), &all[who]);
    assert!(suspect(41, 0).await.expect("works"));
    assert!(suspect(41, 1).await.expect("works"));
    let claim = claim_by(store, chunk, ELSEWHERE, token(42)).await;
    assert_eq!(claim.suspect, Some((all[1].clone(), 1)));
    assert!(
        !suspect(41, 0).await.expect("works"),
        "that claim has ended"
    );
    assert!(suspect(42, 1).await.expect("works"));
    let claim = claim_by(store, chunk, HERE, token(43)).await;
    assert_eq!(claim.suspect, Some((all[1].clone(), 2)));
    store.release(chunk, token(43)).await.expect("works");
    let claim = claim_by(store, chunk, HERE, token(44)).await;
    assert_eq!(claim.suspect, None, "who was given back has killed nobody");
}

async fn a_cancelled_batch_says_so_and_ends<S: WorkQueue + BatchStore>(
    &Tested { store, reader }: &Tested<'_, S>,
) {
    let all = tenants(0..501);
    let (first, second) = (Uuid::from_u128(51), Uuid::from_u128(52));
    let (new, _) = claimed(store, "2026-03-07", &all, first).await;
    assert!(store.cancel(new.batch_id).await.expect("works"));
    let results: Vec<_> = new.chunks[0]
        .items
        .iter()
        .map(|tenant| result(tenant, ItemStatus::Skipped))
        .collect();
    let committed = store
        .commit(&new.chunks[0], first, &results)
        .await
        .expect("works");
    assert!(committed.cancelled && committed.claimed);
    assert_eq!(committed.taken, 500);
    let claim = claim_by(store, &new.chunks[1], HERE, second).await;
    assert!(claim.cancelled);
    let status = || async {
        let batch = reader.batch(new.batch_id).await.expect("works");
        let batch = batch.expect("stored");
        (batch.status, batch.skipped, batch.finished_at)
    };
    let ended = at(ENDED);
    store
        .finish(&new.chunks[0], first, ended)
        .await
        .expect("works");
    assert_eq!(status().await, (BatchStatus::Cancelled, 500, None));
    let last = [result(&all[500], ItemStatus::Skipped)];
    assert_eq!(commit(store, &new.chunks[1], second, &last).await, 1);
    store
        .finish(&new.chunks[1], second, ended)
        .await
        .expect("works");
    assert_eq!(status().await, (BatchStatus::Cancelled, 501, Some(ended)));
    assert!(
        !store.cancel(new.batch_id).await.expect("works"),
        "it is over"
    );
    assert!(!store.cancel(Uuid::nil()).await.expect("works"));
}

async fn dead_letters_are_replayed_once_or_discarded<S: WorkQueue + BatchStore>(
    &Tested { store, reader }: &Tested<'_, S>,
) {
    let all = tenants(600..603);
    let token = Uuid::from_u128(61);
    let (new, _) = claimed(store, "2026-03-08", &all, token).await;
    let chunk = &new.chunks[0];
    let results: Vec<_> = all
        .iter()
        .map(|tenant| result(tenant, ItemStatus::Failed))
        .collect();
    commit(store, chunk, token, &results).await;
    let now = at("2026-03-08T10:00:00Z");
    store.finish(chunk, token, now).await.expect("works");
    let open = || async {
        let filter = DeadLetterFilter {
            job_id: Some(job()),
            tenant_id: None,
            state: Some(DeadLetterState::Open),
        };
        let page = Page::default();
        let (letters, _) = reader.dead_letters(&filter, &page).await.expect("works");
        let ours = letters.into_iter();
        ours.filter(|letter| letter.batch_id == new.batch_id)
            .collect::<Vec<_>>()
    };
    let letters = open().await;
    let ids: Vec<i64> = letters.iter().map(|letter| letter.id).collect();
    assert_eq!(ids.len(), 3);
    assert!(ids[0] > ids[1], "newest first");
    assert_eq!(letters[2].tenant_id, all[0]);
    assert_eq!(
        (letters[2].reason.as_str(), letters[2].attempts),
        ("because", 1)
    );
    assert_eq!(letters[2].failed_at, at(ENDED));

    let settled = store.settle(&ids[..1], vec![], now).await.expect("works");
    assert_eq!((settled, open().await.len()), (1, 2));
    let again = NewBatch::new(
        &job(),
        Priority::Medium,
        "replay".to_owned(),
        new.scheduled_at,
        chunk.occurrence,
        Trigger::Replay,
        now,
        &all[..2],
        500,
    );
    let refused = store.settle(&ids, vec![again.clone()], now).await;
    let refused = refused.expect_err("one is settled already");
    assert_eq!(refused.kind(), StoreErrorKind::Conflict);
    assert_eq!(open().await.len(), 2, "all or nothing");
    let replay = || store.settle(&ids[1..], vec![again.clone()], now);
    assert_eq!(replay().await.expect("works"), 2);
    assert!(replay().await.is_err(), "only once");
    assert!(open().await.is_empty());

    let chunk = &again.chunks[0];
    assert_eq!(claim(store, chunk, token).await, all[..2]);
    let results = [
        result(&all[0], ItemStatus::Succeeded),
        result(&all[1], ItemStatus::Failed),
    ];
    assert_eq!(commit(store, chunk, token, &results).await, 2);
    store.finish(chunk, token, now).await.expect("works");
    let replayed = reader.batch(again.batch_id).await.expect("works");
    let replayed = replayed.expect("stored");
    assert_eq!(
        (replayed.status, replayed.trigger),
        (BatchStatus::Completed, Trigger::Replay)
    );
    assert_eq!((replayed.succeeded, replayed.failed), (1, 1));
    let runs = TenantRuns {
        tenant_id: all[0].clone(),
        job_id: Some(job()),
    };
    let (runs, _) = reader
        .tenant_runs(&runs, &Page::default())
        .await
        .expect("works");
    assert_eq!(runs.len(), 1, "it is the same run");
    assert_eq!(runs[0].result, results[0]);
    assert_eq!(runs[0].batch_id, again.batch_id);
}

/// A batch as it counts: its status, and how many of its items succeeded, failed and were skipped.
async fn counts(reader: &dyn BatchReader, batch_id: Uuid) -> (BatchStatus, u64, u64, u64) {
    let batch = reader.batch(batch_id).await.expect("works");
    let batch = batch.expect("stored");
    (batch.status, batch.succeeded, batch.failed, batch.skipped)
}

/// The results of a batch, as tenant and status.
async fn outcomes(reader: &dyn BatchReader, batch_id: Uuid) -> Vec<(TenantId, ItemStatus)> {
    let filter = ResultFilter {
        batch_id,
        status: None,
    };
    let (found, _) = reader
        .results(&filter, &Page::default())
        .await
        .expect("works");
    found
        .into_iter()
        .map(|stored| (stored.result.tenant_id, stored.result.status))
        .collect()
}

fn asked_for(trigger: Trigger, date: &str, items: &[TenantId]) -> NewBatch {
    let due = at(&format!("{date}T09:00:00Z"));
    NewBatch::new(
        &job(),
        Priority::Medium,
        "asked for".to_owned(),
        due,
        date.parse().expect("a date"),
        trigger,
        due + chrono::TimeDelta::hours(9),
        items,
        500,
    )
}

async fn what_was_skipped_is_run_by_a_later_batch_and_every_count_stays<
    S: WorkQueue + BatchStore,
>(
    &Tested { store, reader }: &Tested<'_, S>,
) {
    use ItemStatus::{Failed, Skipped, Succeeded};
    let all = tenants(700..704);
    let (first, second, third) = (
        Uuid::from_u128(71),
        Uuid::from_u128(72),
        Uuid::from_u128(73),
    );
    let (new, _) = claimed(store, "2026-03-09", &all, first).await;
    let results = [
        result(&all[0], Succeeded),
        result(&all[1], Failed),
        result(&all[2], Skipped),
        result(&all[3], Skipped),
    ];
    assert_eq!(commit(store, &new.chunks[0], first, &results).await, 4);
    assert_eq!(
        commit(store, &new.chunks[0], first, &results[2..]).await,
        0,
        "an outcome is final"
    );
    let of_first = (BatchStatus::Completed, 1, 1, 2);
    assert_eq!(counts(reader, new.batch_id).await, of_first);
    let day = new.chunks[0].occurrence;
    let ran = reader.ran(&job(), day, &all).await.expect("works");
    assert_eq!(
        Vec::from_iter(ran),
        all[..2],
        "what was skipped has not run"
    );

    let later = asked_for(Trigger::Backfill, "2026-03-09", &all);
    let now = at("2026-03-09T18:00:00Z");
    store.enqueue(firing(&later), now).await.expect("works");
    let claim = claim_by(store, &later.chunks[0], HERE, second).await;
    assert_eq!((claim.items, claim.waiting), (all[2..].to_vec(), false));
    let results = [result(&all[2], Succeeded), result(&all[3], Skipped)];
    assert_eq!(commit(store, &later.chunks[0], second, &results).await, 2);
    let of_later = (BatchStatus::Completed, 1, 0, 3);
    assert_eq!(counts(reader, later.batch_id).await, of_later);

    // The earlier batch and its results are as they were.
    assert_eq!(counts(reader, new.batch_id).await, of_first);
    let found = outcomes(reader, new.batch_id).await;
    let expected = [Succeeded, Failed, Skipped, Skipped];
    assert_eq!(found, Vec::from_iter(all.iter().cloned().zip(expected)));
    let found = outcomes(reader, later.batch_id).await;
    assert_eq!(
        found,
        [(all[2].clone(), Succeeded), (all[3].clone(), Skipped)]
    );
    let of_status = ResultFilter {
        batch_id: new.batch_id,
        status: Some(Skipped),
    };
    let mut page = Page {
        cursor: None,
        limit: 1,
    };
    let (one, next) = reader.results(&of_status, &page).await.expect("works");
    assert_eq!(one[0].result.error.as_deref(), Some("because"));
    page.cursor = next;
    let (other, next) = reader.results(&of_status, &page).await.expect("works");
    assert_eq!((&other[0].result.tenant_id, next), (&all[3], None));

    // Each of the tenant's attempts is listed, also page by page, and it can be run again.
    let filter = TenantRuns {
        tenant_id: all[3].clone(),
        job_id: None,
    };
    let mut batches = BTreeSet::new();
    page.cursor = None;
    loop {
        let (runs, next) = reader.tenant_runs(&filter, &page).await.expect("works");
        batches.extend(runs.iter().map(|run| run.batch_id));
        page.cursor = next;
        if page.cursor.is_none() {
            break;
        }
    }
    assert_eq!(batches, [new.batch_id, later.batch_id].into());
    let mut again = asked_for(Trigger::LateChange, "2026-03-09", &all[3..]);
    again = again.with_keys(punctual_domain::KeyForm::Colons);
    store.enqueue(firing(&again), now).await.expect("works");
    assert_eq!(
        claim_by(store, &again.chunks[0], HERE, third).await.items,
        all[3..]
    );
    let last = [result(&all[3], Succeeded)];
    assert_eq!(commit(store, &again.chunks[0], third, &last).await, 1);
    assert_eq!(counts(reader, later.batch_id).await, of_later);
    let (runs, _) = reader
        .tenant_runs(&filter, &Page::default())
        .await
        .expect("works");
    assert_eq!(runs.len(), 3);
    let ids: Vec<String> = runs
        .iter()
        .filter(|run| run.result.status == Succeeded)
        .map(|run| run.delivery_id())
        .collect();
    assert_eq!(
        ids,
        ["job:user0703:2026-03-09"],
        "a batch keeps its form of keys"
    );
}

async fn a_replay_that_is_skipped_opens_its_dead_letter_again<S: WorkQueue + BatchStore>(
    &Tested { store, reader }: &Tested<'_, S>,
) {
    use ItemStatus::{Failed, Skipped, Succeeded};
    let all = tenants(710..712);
    let token = Uuid::from_u128;
    // The batch is still in work when its dead letters are replayed.
    let more = tenants(710..713);
    let (new, _) = claimed(store, "2026-03-10", &more, token(81)).await;
    let failed = [result(&all[0], Failed), result(&all[1], Failed)];
    commit(store, &new.chunks[0], token(81), &failed).await;
    let open = || async {
        let filter = DeadLetterFilter {
            job_id: Some(job()),
            tenant_id: None,
            state: Some(DeadLetterState::Open),
        };
        let page = Page::default();
        let (letters, _) = reader.dead_letters(&filter, &page).await.expect("works");
        let ours = letters
            .into_iter()
            .filter(|letter| letter.batch_id == new.batch_id);
        ours.map(|letter| letter.id).collect::<Vec<_>>()
    };
    let ids = open().await;
    let now = at("2026-03-10T18:00:00Z");
    for (round, ends) in [(0_u128, Skipped), (1, Skipped), (2, Succeeded)] {
        let mut again = asked_for(Trigger::Replay, "2026-03-10", &all);
        again = NewBatch::new(
            &job(),
            Priority::Medium,
            "replay".to_owned(),
            again.scheduled_at,
            again.chunks[0].occurrence,
            Trigger::Replay,
            now + chrono::TimeDelta::seconds(round as i64),
            &all,
            500,
        );
        let settled = store.settle(&ids, vec![again.clone()], now).await;
        assert_eq!(settled.expect("works"), 2);
        assert!(open().await.is_empty());
        let chunk = &again.chunks[0];
        assert_eq!(
            claim(store, chunk, token(82 + round)).await,
            all,
            "round {round}"
        );
        let results = [result(&all[0], ends), result(&all[1], Skipped)];
        assert_eq!(commit(store, chunk, token(82 + round), &results).await, 2);
        let expected = if ends == Skipped { 2 } else { 1 };
        assert_eq!(open().await.len(), expected, "round {round}");
        let found = outcomes(reader, again.batch_id).await;
        assert_eq!(found, [(all[0].clone(), ends), (all[1].clone(), Skipped)]);
        let found = outcomes(reader, new.batch_id).await;
        assert!(
            found.contains(&(all[1].clone(), Failed)),
            "its failure is intact"
        );
        if ends == Skipped {
            assert_eq!(found.len(), 2);
        }
        // A backfill does not run what has failed.
        let ran = reader.ran(&job(), chunk.occurrence, &all).await;
        assert_eq!(ran.expect("works").len(), 2);
    }
    assert_eq!(
        counts(reader, new.batch_id).await,
        (BatchStatus::Running, 0, 2, 0)
    );
    assert_eq!(
        store
            .settle(&open().await, vec![], now)
            .await
            .expect("works"),
        1
    );
}

async fn who_is_running_is_known_to_other_occurrences<S: WorkQueue + BatchStore>(
    &Tested { store, reader }: &Tested<'_, S>,
) {
    let all = tenants(720..723);
    let token = Uuid::from_u128;
    let (new, claim) = claimed(store, "2026-03-11", &all, token(91)).await;
    assert_eq!(claim.overlapping, BTreeSet::new());
    let began = at("2026-03-11T09:00:05Z");
    let note = |by, tenant: usize| store.running(&new.chunks[0], token(by), &all[tenant], began);
    for tenant in [0, 1, 1] {
        note(91, tenant).await.expect("works");
    }
    note(99, 2)
        .await
        .expect("an ended claim notes nothing, without harm");
    let done = [result(&all[1], ItemStatus::Succeeded)];
    commit(store, &new.chunks[0], token(91), &done).await;
    let (next, claim) = claimed(store, "2026-03-12", &all, token(92)).await;
    assert_eq!(claim.items, all);
    assert_eq!(
        claim.overlapping,
        [all[0].clone()].into(),
        "one has ended, one has not begun"
    );
    let filter = TenantRuns {
        tenant_id: all[0].clone(),
        job_id: None,
    };
    let (runs, _) = reader
        .tenant_runs(&filter, &Page::default())
        .await
        .expect("works");
    assert_eq!((runs.len(), runs[0].result.started_at), (1, began));
    let day = new.chunks[0].occurrence;
    let ran = reader.ran(&job(), day, &all).await.expect("works");
    assert_eq!(Vec::from_iter(ran), all[..2], "it is running or has run");
    let again = || claim_by(store, &next.chunks[0], ELSEWHERE, token(93));
    assert_eq!(again().await.overlapping, [all[0].clone()].into());
    store
        .release(&new.chunks[0], token(91))
        .await
        .expect("works");
    assert_eq!(
        again().await.overlapping,
        BTreeSet::new(),
        "its process has given it back"
    );
}

#[cfg(test)]
mod tests {
    #[tokio::test]
    async fn the_fake_keeps_the_contract() {
        let store = crate::testing::FakeStore::default();
        super::run(&store, &store).await;
    }
}
