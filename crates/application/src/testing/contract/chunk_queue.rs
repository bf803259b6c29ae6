//! What the port [`ChunkQueue`] promises.

use std::collections::BTreeSet;

use chrono::{DateTime, TimeDelta, Utc};
use punctual_domain::{
    BatchStatus, Chunk, DeadLetterState, Firing, ItemId, ItemStatus, JobId, NewBatch, Occurrence,
    Priority, Succession, Trigger,
};
use uuid::Uuid;

use super::{ELSEWHERE, HERE, Tested, at, counts, result, tenants};
use crate::ports::{
    BatchStore, ChunkQueue, ClaimLimits, Claimant, ClaimedChunk, DeadLetterFilter, Heartbeat, Page,
    PauseCause, RETRY_CHUNK_AFTER, WorkQueue,
};

/// When the chunks of these tests are claimed.
const NOW: &str = "2026-04-01T10:00:00Z";

fn job(name: &str) -> JobId {
    JobId::new(name).expect("valid")
}

/// A batch of this job with so many chunks of one item.
fn batch(name: &str, chunks: usize, scheduled_at: &str) -> NewBatch {
    let due = at(scheduled_at);
    NewBatch::new(
        &job(name),
        Priority::Medium,
        "queued".to_owned(),
        due,
        Occurrence::Instant(due),
        Trigger::Schedule,
        due,
        &tenants(0..chunks),
        1,
    )
}

async fn enqueue<S: WorkQueue>(store: &S, batches: &[&NewBatch]) {
    let firing = Firing {
        batches: batches.iter().copied().cloned().collect(),
        positions: vec![],
    };
    store.enqueue(firing, at(NOW)).await.expect("works");
}

async fn claim_at<S: ChunkQueue>(
    store: &S,
    process: Uuid,
    limits: &ClaimLimits,
    now: DateTime<Utc>,
) -> Vec<ClaimedChunk> {
    store.heartbeat(process).await.expect("works");
    let claimed = store.claim_next(process, limits, now).await;
    claimed.expect("works")
}

async fn claim<S: ChunkQueue>(store: &S) -> Vec<ClaimedChunk> {
    claim_at(store, HERE, &ClaimLimits::new(8), at(NOW)).await
}

/// Ends a chunk with all of its items.
async fn end<S: BatchStore>(store: &S, claimed: &ClaimedChunk) {
    end_as(store, claimed, ItemStatus::Succeeded).await;
}

async fn end_as<S: BatchStore>(store: &S, claimed: &ClaimedChunk, status: ItemStatus) {
    let results: Vec<_> = claimed
        .claim
        .items
        .iter()
        .map(|item| result(item, status))
        .collect();
    let committed = store.commit(&claimed.chunk, claimed.token, &results).await;
    assert!(committed.expect("works").finished);
}

async fn end_all<S: ChunkQueue + BatchStore>(store: &S) {
    loop {
        let claimed = claim(store).await;
        if claimed.is_empty() {
            return;
        }
        for one in &claimed {
            end(store, one).await;
        }
    }
}

/// The jobs and places of claimed chunks.
fn places(claimed: &[ClaimedChunk]) -> Vec<String> {
    let place = |claimed: &ClaimedChunk| {
        let place = claimed.chunk.chunk_id.rsplit('/').next();
        format!("{} {}", claimed.chunk.job_id, place.unwrap_or_default())
    };
    claimed.iter().map(place).collect()
}

pub(super) async fn chunks_wait_until_they_are_claimed_and_are_claimed_once<
    S: WorkQueue + ChunkQueue + BatchStore,
>(
    &Tested { store, reader }: &Tested<'_, S>,
) {
    // What other tests have left.
    for process in [HERE, ELSEWHERE] {
        let released = store.release_forgotten(process, &[]).await;
        released.expect("works");
    }
    end_all(store).await;
    let mut arrivals = store.arrivals();
    arrivals.borrow_and_update();
    let (one, two) = (
        batch("queue-a", 2, "2026-04-01T09:00:00Z"),
        batch("queue-b", 2, "2026-04-01T09:01:00Z"),
    );
    let later = batch("queue-a", 2, "2026-04-01T09:02:00Z");
    enqueue(store, &[&one, &two]).await;
    enqueue(store, &[&later]).await;
    assert!(arrivals.has_changed().expect("works"));
    let survey = store.survey(at(NOW)).await.expect("works");
    assert_eq!(survey.waiting, [job("queue-a"), job("queue-b")]);
    let claimed = claim(store).await;
    let order = [
        "queue-a 0",
        "queue-a 0",
        "queue-a 1",
        "queue-a 1",
        "queue-b 0",
        "queue-b 1",
    ];
    assert_eq!(places(&claimed), order, "first chunks come first");
    assert_eq!(
        claimed[0].chunk.batch_id, one.batch_id,
        "in order of arrival"
    );
    assert_eq!(claimed[0].chunk, one.chunks[0]);
    assert_eq!(claimed[0].claim.items, one.chunks[0].items);
    assert_eq!(claim(store).await, []);
    let survey = store.survey(at(NOW)).await.expect("works");
    assert_eq!(survey.waiting, []);
    assert!(survey.working.iter().any(|beat| beat.process == HERE));
    for one in &claimed {
        end(store, one).await;
    }
    let (_, succeeded, ..) = counts(reader, one.batch_id).await;
    assert_eq!(succeeded, 2);
    assert_eq!(claim(store).await, [], "what is done never waits again");
}

pub(super) async fn limits_pauses_and_rests_are_kept<S: WorkQueue + ChunkQueue + BatchStore>(
    &Tested { store, .. }: &Tested<'_, S>,
) {
    let now = at(NOW);
    let (one, two) = (
        batch("queue-a", 40, "2026-04-02T09:00:00Z"),
        batch("queue-b", 1, "2026-04-02T09:00:00Z"),
    );
    enqueue(store, &[&one, &two]).await;
    let paused = |cause| store.set_paused(&two.job_id, cause, now);
    let wait = PauseCause::Operator {
        name: "a test".into(),
        reason: None,
    };
    paused(Some(wait)).await.expect("works");
    let mut limits = ClaimLimits::new(2);
    let claimed = claim_at(store, HERE, &limits, now).await;
    assert!((4..=8).contains(&claimed.len()), "{}", claimed.len());
    assert!(claimed.iter().all(|one| one.chunk.job_id == job("queue-a")));
    for one in &claimed {
        limits.add(&one.chunk.job_id, one.chunk.items.len());
    }
    while limits.room(&job("queue-a")) > 0 {
        limits.add(&one.job_id, one.chunks[39].items.len());
    }
    limits.begin([].into());
    assert_eq!(claim_at(store, HERE, &limits, now).await, []);
    paused(None).await.expect("works");
    let claimed = claim_at(store, HERE, &limits, now).await;
    assert_eq!(places(&claimed), ["queue-b 0"]);

    // A chunk that is put to rest is not claimed before, except that the clock has stepped back.
    let [waits] = &claimed[..] else {
        panic!("{claimed:?}")
    };
    let until = now + RETRY_CHUNK_AFTER;
    let released = store.release(&waits.chunk, waits.token, Some(until)).await;
    released.expect("works");
    let moment = TimeDelta::seconds(1);
    let mut claims = Vec::new();
    for now in [now, until - moment, until] {
        let claimed = claim_at(store, HERE, &limits, now).await;
        claims.push(claimed.len());
        for one in claimed {
            let released = store.release(&one.chunk, one.token, Some(until)).await;
            released.expect("works");
        }
    }
    assert_eq!(claims, [0, 0, 1]);
    let stepped_back = now - TimeDelta::hours(1);
    let claimed = claim_at(store, HERE, &limits, stepped_back).await;
    assert_eq!(places(&claimed), ["queue-b 0"]);
    end(store, &claimed[0]).await;
    store.release_forgotten(HERE, &[]).await.expect("works");
    end_all(store).await;
}

pub(super) async fn claims_of_a_process_that_has_died_are_released_and_count<
    S: WorkQueue + ChunkQueue + BatchStore,
>(
    &Tested { store, .. }: &Tested<'_, S>,
) {
    let new = batch("queue-a", 2, "2026-04-03T09:00:00Z");
    enqueue(store, &[&new]).await;
    let limits = ClaimLimits::new(8);
    let lost = claim_at(store, ELSEWHERE, &limits, at(NOW)).await;
    assert_eq!(lost.len(), 2);
    let last = async || {
        let survey = store.survey(at(NOW)).await.expect("works");
        let mut beats = survey.working.into_iter();
        beats.find(|beat| beat.process == ELSEWHERE)
    };
    let release = async |last: Heartbeat| store.release_lost(&last).await.expect("works");
    let before = last().await.expect("it holds claims");
    let stale = Heartbeat {
        last_seen: before.last_seen - 1,
        ..before
    };
    assert_eq!(release(stale).await, 0, "it has been heard of since");
    assert_eq!(claim(store).await, []);
    assert_eq!(release(before).await, 2);
    let claimed = claim(store).await;
    assert_eq!(claimed.len(), 2);
    assert!(claimed.iter().all(|one| one.claim.crash_count == 1));
    let stale = store.commit(&lost[0].chunk, lost[0].token, &[]).await;
    assert!(!stale.expect("works").claimed, "its results come too late");

    // A claim whose answer never arrived is released by its own process, and does not count as a crash.
    let (kept, forgotten) = (&claimed[0], &claimed[1]);
    let released = store.release_forgotten(HERE, &[kept.token]).await;
    assert_eq!(released.expect("works"), 1);
    // A worker that asks in vain must not wake itself.
    let mut arrivals = store.arrivals();
    arrivals.borrow_and_update();
    let released = store.release_forgotten(HERE, &[kept.token]).await;
    assert_eq!(released.expect("works"), 0);
    assert_eq!(release(before).await, 0);
    assert!(!arrivals.has_changed().expect("works"));
    let again = claim(store).await;
    assert_eq!(again.len(), 1);
    assert_eq!(again[0].chunk, forgotten.chunk);
    assert_eq!(again[0].claim.crash_count, 1);

    // A process that signs off is not waited for.
    store.sign_off(HERE).await.expect("works");
    let survey = store.survey(at(NOW)).await.expect("works");
    let ended = survey.working.iter().find(|beat| beat.process == HERE);
    assert_eq!(ended.expect("it holds claims").last_seen, 0);
    end(store, kept).await;
    end(store, &again[0]).await;
}

/// A run that was missed, of these tenants.
fn missed(slot: &str, due: &str, items: std::ops::Range<usize>) -> NewBatch {
    let due = at(due);
    NewBatch::new(
        &job("queue-a"),
        Priority::Medium,
        slot.to_owned(),
        due,
        Occurrence::Instant(due),
        Trigger::Backfill,
        at(NOW),
        &tenants(items),
        10,
    )
}

/// Three missed runs of two tenants, in the middle one of a third one too, and one of another tenant.
pub(super) async fn missed_runs_of_a_tenant_are_claimed_in_the_order_of_their_times<
    S: WorkQueue + ChunkQueue + BatchStore,
>(
    &Tested { store, .. }: &Tested<'_, S>,
) {
    let mut batches = [
        missed("queued", "2026-03-30T03:00:00Z", 0..2),
        missed("queued", "2026-03-30T02:00:00Z", 0..3),
        missed("queued", "2026-03-30T01:00:00Z", 0..2),
        missed("of another", "2026-03-30T01:00:00Z", 5..6),
    ];
    Succession::default().arrange(&mut batches, &[]);
    enqueue(store, &batches.iter().collect::<Vec<_>>()).await;
    let [third, second, first, other] = &batches;
    let found = |claimed: &[ClaimedChunk]| -> Vec<(Uuid, BTreeSet<ItemId>)> {
        let found = claimed.iter();
        let found = found.map(|one| (one.chunk.batch_id, one.claim.overlapping.clone()));
        found.collect()
    };
    let none = BTreeSet::new();
    let claimed = claim(store).await;
    let expected = [
        (first.batch_id, none.clone()),
        (other.batch_id, none.clone()),
    ];
    assert_eq!(found(&claimed), expected);
    end(store, &claimed[1]).await;
    assert_eq!(claim(store).await, [], "the first one is in work");
    let survey = store.survey(at(NOW)).await.expect("works");
    assert_eq!(survey.waiting, [], "what has to wait keeps no worker awake");
    end(store, &claimed[0]).await;

    // One that leaves items for later holds up those of their tenants alone.
    let claimed = claim(store).await;
    assert_eq!(found(&claimed), [(second.batch_id, none.clone())]);
    let ended = result(&tenants(0..1)[0], ItemStatus::Succeeded);
    let committed = store
        .commit(&claimed[0].chunk, claimed[0].token, &[ended])
        .await;
    assert!(!committed.expect("works").finished);
    let until = at(NOW) + RETRY_CHUNK_AFTER;
    let released = store.release(&claimed[0].chunk, claimed[0].token, Some(until));
    released.await.expect("works");
    let claimed = claim(store).await;
    let left = BTreeSet::from_iter(tenants(1..2));
    assert_eq!(found(&claimed), [(third.batch_id, left.clone())]);
    let released = store.release(&claimed[0].chunk, claimed[0].token, None);
    released.await.expect("works");

    let claimed = claim_at(store, HERE, &ClaimLimits::new(8), until).await;
    let expected = [(third.batch_id, left), (second.batch_id, none.clone())];
    assert_eq!(found(&claimed), expected);
    end(store, &claimed[1]).await;
    let released = store.release(&claimed[0].chunk, claimed[0].token, None);
    released.await.expect("works");
    let claimed = claim(store).await;
    assert_eq!(found(&claimed), [(third.batch_id, none)]);
    end(store, &claimed[0]).await;
}

/// The second of three missed runs is cancelled while the first one is in work.
pub(super) async fn a_cancelled_run_waits_for_none_and_the_next_one_waits_for_the_first<
    S: WorkQueue + ChunkQueue + BatchStore,
>(
    &Tested { store, reader }: &Tested<'_, S>,
) {
    let mut batches = [
        missed("queued", "2026-03-31T03:00:00Z", 0..2),
        missed("queued", "2026-03-31T02:00:00Z", 0..2),
        missed("queued", "2026-03-31T01:00:00Z", 0..2),
    ];
    Succession::default().arrange(&mut batches, &[]);
    enqueue(store, &batches.iter().collect::<Vec<_>>()).await;
    let [third, second, first] = &batches;
    let found = |claimed: &[ClaimedChunk]| -> Vec<(Uuid, bool)> {
        let found = claimed.iter();
        let found = found.map(|one| (one.chunk.batch_id, one.claim.cancelled));
        found.collect()
    };
    let in_work = claim(store).await;
    assert_eq!(found(&in_work), [(first.batch_id, false)]);
    assert!(store.cancel(second.batch_id).await.expect("works"));
    let survey = store.survey(at(NOW)).await.expect("works");
    assert_eq!(survey.waiting, [job("queue-a")]);
    let claimed = claim(store).await;
    assert_eq!(found(&claimed), [(second.batch_id, true)]);
    end_as(store, &claimed[0], ItemStatus::Skipped).await;
    let counted = counts(reader, second.batch_id).await;
    assert_eq!(counted, (BatchStatus::Cancelled, 0, 0, 2));

    assert_eq!(claim(store).await, [], "the first one is in work");
    let survey = store.survey(at(NOW)).await.expect("works");
    assert_eq!(survey.waiting, []);
    end(store, &in_work[0]).await;
    let claimed = claim(store).await;
    assert_eq!(found(&claimed), [(third.batch_id, false)]);
    end(store, &claimed[0]).await;
}

/// Two batches of one run: a chunk of the first is in work elsewhere, and its second one is claimed together with one of the other
/// batch, which has items in common with both, and with what has been brought already.
pub(super) async fn chunks_that_are_claimed_together_have_each_item_once<
    S: WorkQueue + ChunkQueue + BatchStore,
>(
    &Tested { store, reader }: &Tested<'_, S>,
) {
    let due = at("2026-04-04T09:00:00Z");
    let of_slot = |slot: &str, items: std::ops::Range<usize>, chunk_size| {
        NewBatch::new(
            &job("queue-a"),
            Priority::Medium,
            slot.to_owned(),
            due,
            Occurrence::Instant(due),
            Trigger::Schedule,
            due,
            &tenants(items),
            chunk_size,
        )
    };
    let commit = async |chunk: &Chunk, token, items, status| {
        let items = tenants(items).into_iter();
        let results: Vec<_> = items.map(|item| result(&item, status)).collect();
        let committed = store.commit(chunk, token, &results).await.expect("works");
        (committed.taken, committed.finished)
    };
    enqueue(store, &[&of_slot("brought", 9..10, 1)]).await;
    end_all(store).await;
    let (one, two) = (of_slot("one", 0..6, 4), of_slot("two", 2..10, 10));
    enqueue(store, &[&one, &two]).await;
    let elsewhere = Claimant {
        process: ELSEWHERE,
        token: Uuid::from_u128(201),
    };
    store.heartbeat(ELSEWHERE).await.expect("works");
    let claim_elsewhere = store.claim(&one.chunks[0], elsewhere, at(NOW)).await;
    assert_eq!(claim_elsewhere.expect("works").items, tenants(0..4));
    let given = |claimed: &[ClaimedChunk]| -> Vec<(Vec<ItemId>, bool)> {
        let claims = claimed.iter().map(|one| &one.claim);
        claims
            .map(|claim| (claim.items.clone(), claim.waiting))
            .collect()
    };
    let claimed = claim(store).await;
    let ids: Vec<_> = claimed.iter().map(|one| one.chunk.batch_id).collect();
    assert_eq!(ids, [two.batch_id, one.batch_id]);
    assert_eq!(given(&claimed), [(tenants(4..9), true), (vec![], true)]);

    let (succeeded, skipped) = (ItemStatus::Succeeded, ItemStatus::Skipped);
    let ended = commit(&one.chunks[0], elsewhere.token, 0..4, succeeded).await;
    assert_eq!(ended, (4, true));
    let ended = commit(&two.chunks[0], claimed[0].token, 4..5, skipped).await;
    assert_eq!(ended, (1, false));
    let ended = commit(&two.chunks[0], claimed[0].token, 5..9, succeeded).await;
    assert_eq!(ended, (4, false), "what waits has no outcome yet");
    for one in &claimed {
        let released = store.release(&one.chunk, one.token, None).await;
        released.expect("works");
    }
    let claimed = claim(store).await;
    let expected = [(vec![], false), (tenants(4..5), false)];
    assert_eq!(given(&claimed), expected, "what another chunk has skipped");
    let finished = store.finish(&two.chunks[0], claimed[0].token, at(NOW));
    finished.await.expect("works");
    end(store, &claimed[1]).await;
    for (batch, expected) in [(&one, (5, 1)), (&two, (4, 4))] {
        let (_, succeeded, _, skipped) = counts(reader, batch.batch_id).await;
        assert_eq!((succeeded, skipped), expected);
    }
}

/// A batch that has begun, one that has not, and a replay are cancelled while their job is paused. Another batch of it waits on.
pub(super) async fn a_cancelled_batch_of_a_paused_job_ends_and_the_rest_of_the_job_waits<
    S: WorkQueue + ChunkQueue + BatchStore,
>(
    &Tested { store, reader }: &Tested<'_, S>,
) {
    let now = at(NOW);
    let failed = batch("queue-a", 1, "2026-04-05T09:00:00Z");
    enqueue(store, &[&failed]).await;
    end_as(store, &claim(store).await[0], ItemStatus::Failed).await;
    let open = async || {
        let of_job = DeadLetterFilter {
            job_id: Some(failed.job_id.clone()),
            state: Some(DeadLetterState::Open),
            ..DeadLetterFilter::default()
        };
        let letters = reader.dead_letters(&of_job, &Page::default()).await;
        let (letters, _) = letters.expect("works");
        letters.iter().map(|letter| letter.id).collect::<Vec<i64>>()
    };
    let letters = open().await;
    assert_eq!(letters.len(), 1);

    let begun = batch("queue-a", 3, "2026-04-05T09:01:00Z");
    enqueue(store, &[&begun]).await;
    let claimed = claim(store).await;
    end(store, &claimed[0]).await;
    for one in &claimed[1..] {
        let released = store.release(&one.chunk, one.token, None).await;
        released.expect("works");
    }
    let (queued, kept) = (
        batch("queue-a", 2, "2026-04-05T09:02:00Z"),
        batch("queue-a", 2, "2026-04-05T09:03:00Z"),
    );
    enqueue(store, &[&queued, &kept]).await;
    let replay = NewBatch::new(
        &failed.job_id,
        Priority::Medium,
        "replay".to_owned(),
        failed.scheduled_at,
        failed.chunks[0].occurrence,
        Trigger::Replay,
        now,
        &tenants(0..1),
        1,
    );
    let settled = store.settle(&letters, vec![replay.clone()], now).await;
    assert_eq!((settled.expect("works"), open().await), (1, vec![]));

    let paused = |cause| store.set_paused(&failed.job_id, cause, now);
    let wait = PauseCause::Operator {
        name: "a test".into(),
        reason: None,
    };
    paused(Some(wait)).await.expect("works");
    let waiting = async || store.survey(now).await.expect("works").waiting;
    assert_eq!((claim(store).await, waiting().await), (vec![], vec![]));
    let cancelled = [(&begun, 1, 2), (&queued, 0, 2), (&replay, 0, 1)];
    let mut arrivals = store.arrivals();
    for (batch, succeeded, left) in cancelled {
        arrivals.borrow_and_update();
        assert!(store.cancel(batch.batch_id).await.expect("works"));
        assert!(
            arrivals.has_changed().expect("works"),
            "a worker need not wait until it looks again"
        );
        assert_eq!(waiting().await, [job("queue-a")]);
        let claimed = claim(store).await;
        assert_eq!(claimed.len(), left);
        for one in &claimed {
            assert_eq!(one.chunk.batch_id, batch.batch_id);
            assert!(one.claim.cancelled && one.claim.items.len() == 1);
            end_as(store, one, ItemStatus::Skipped).await;
        }
        let counted = counts(reader, batch.batch_id).await;
        let expected = (BatchStatus::Cancelled, succeeded, 0, left as u64);
        assert_eq!(counted, expected);
        let ended = reader.batch(batch.batch_id).await.expect("works");
        assert!(ended.is_some_and(|batch| batch.finished_at.is_some()));
        assert_eq!((claim(store).await, waiting().await), (vec![], vec![]));
    }
    assert_eq!(open().await, letters, "its replay was skipped");
    let is_paused = store.paused().await.expect("works");
    assert!(is_paused.contains_key(&failed.job_id));

    paused(None).await.expect("works");
    let claimed = claim(store).await;
    assert_eq!(places(&claimed), ["queue-a 0", "queue-a 1"]);
    for one in &claimed {
        assert_eq!(one.chunk.batch_id, kept.batch_id);
        end(store, one).await;
    }
}
