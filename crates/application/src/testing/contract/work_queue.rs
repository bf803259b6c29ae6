//! What the port [`WorkQueue`] promises.

use chrono::TimeDelta;
use punctual_domain::{
    BatchStatus, DeadLetter, DeadLetterState, Firing, ItemId, ItemResult, ItemStatus, NewBatch,
    Priority, Shard, ShardAssignment, SkipReason, StoredPosition, Trigger,
};
use uuid::Uuid;

use super::{
    ENDED, HERE, Tested, asked_for, at, batch, claim, claim_by, claimed, commit, counts, firing,
    job, outcomes, result, tenants,
};
use crate::ports::{
    BatchStore, DeadLetterFilter, Page, Pause, PauseCause, StoreErrorKind, TenantRuns, WorkQueue,
};

pub(super) async fn batches_and_progress_are_stored_together_and_once<S: WorkQueue + BatchStore>(
    &Tested { store, reader }: &Tested<'_, S>,
) {
    let now = at("2026-03-01T09:00:00Z");
    assert_eq!(store.position(&job()).await.expect("works"), None);
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

    let position = store
        .position(&job())
        .await
        .expect("works")
        .expect("stored");
    assert_eq!(
        (position.planned_until, position.snapshot_at),
        (now, Some(now))
    );
    let earlier = at("2026-03-01T08:00:00Z");
    let back = StoredPosition {
        planned_until: earlier,
        high_water_mark: earlier,
        ..position.clone()
    };
    let firing = Firing {
        batches: vec![],
        positions: vec![back.clone()],
    };
    store.enqueue(firing, earlier).await.expect("works");
    let after = store.position(&job()).await.expect("works");
    let furthest = StoredPosition {
        high_water_mark: position.high_water_mark,
        ..back
    };
    assert_eq!(after, Some(furthest.clone()), "how far it has been is kept");
    for (given, kept) in [(Some(earlier), earlier), (None, earlier), (Some(now), now)] {
        let firing = Firing {
            batches: vec![],
            positions: vec![StoredPosition {
                began: given,
                ..furthest.clone()
            }],
        };
        store.enqueue(firing, now).await.expect("works");
        let after = store.position(&job()).await.expect("works");
        let began = after.expect("stored").began;
        assert_eq!(began, Some(kept), "the last begin that was given");
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
    let because = |name: &str, reason: Option<&str>| PauseCause::Operator {
        name: name.to_owned(),
        reason: reason.map(str::to_owned),
    };
    let by = |name: &str| because(name, None);
    let repair = || because("page: ann", Some("the renderer is down: see 7"));
    let failed = |much: &str| PauseCause::Failures(much.to_owned());
    let pause = |cause, since| vec![(job(), Pause { cause, since })];
    // A job that pauses itself again says the newest reason. An operator's pause begins when it is asked for, and is theirs
    // until it is lifted.
    for (at, cause, expected) in [
        (earlier, Some(failed("a")), pause(failed("a"), earlier)),
        (now, Some(failed("b")), pause(failed("b"), earlier)),
        (now, Some(by("ann")), pause(by("ann"), now)),
        (now, Some(failed("c")), pause(by("ann"), now)),
        (earlier, Some(by("bob")), pause(by("bob"), earlier)),
        (now, Some(repair()), pause(repair(), now)),
        (now, Some(failed("c")), pause(repair(), now)),
        (
            earlier,
            Some(by("page: ann")),
            pause(by("page: ann"), earlier),
        ),
        (now, None, vec![]),
        (now, Some(failed("d")), pause(failed("d"), now)),
        (now, None, vec![]),
    ] {
        let changes = reader.changes();
        store.set_paused(&job(), cause, at).await.expect("works");
        assert!(changes.has_changed().expect("works"));
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

pub(super) async fn a_cancelled_batch_says_so_and_ends<S: WorkQueue + BatchStore>(
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

pub(super) async fn dead_letters_are_replayed_once_or_discarded<S: WorkQueue + BatchStore>(
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
            state: Some(DeadLetterState::Open),
            ..DeadLetterFilter::default()
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
    assert_eq!(letters[2].item_id, all[0]);
    assert_eq!(
        (letters[2].reason.as_str(), letters[2].attempts),
        ("because", 1)
    );
    assert_eq!(letters[2].failed_at, at(ENDED));

    let settled = store.settle(&ids[..1], vec![], now).await.expect("works");
    assert_eq!((settled, open().await.len()), (1, 2));
    let discarded = DeadLetterFilter {
        job_id: Some(job()),
        state: Some(DeadLetterState::Discarded),
        up_to: Some(ids[0]),
        ..DeadLetterFilter::default()
    };
    let count = async |filter: &DeadLetterFilter| {
        let count = reader.dead_letter_count(filter).await;
        count.expect("works")
    };
    let before = DeadLetterFilter {
        up_to: Some(ids[0] - 1),
        ..discarded.clone()
    };
    let is_kept = async || count(&discarded).await > count(&before).await;
    assert!(is_kept().await);
    // Its instant selects what one discard has settled, and the time what can be opened again.
    let second = TimeDelta::seconds(1);
    let of_it = |settled_at, settled_after| DeadLetterFilter {
        ids: Some(ids.iter().copied().collect()),
        settled_at,
        settled_after,
        state: Some(DeadLetterState::Discarded),
        ..DeadLetterFilter::default()
    };
    for (settled_at, settled_after, expected) in [
        (None, None, 1),
        (Some(now), None, 1),
        (Some(now + second), None, 0),
        (None, Some(now - second), 1),
        (None, Some(now), 0),
    ] {
        let found = count(&of_it(settled_at, settled_after)).await;
        assert_eq!(found, expected, "{settled_at:?} {settled_after:?}");
    }
    let page = Page::default();
    let found = reader.dead_letters(&of_it(Some(now), None), &page).await;
    assert_eq!(found.expect("works").0[0].id, ids[0]);
    // What was discarded comes back, unless it was too long ago.
    let again = now + second;
    assert_eq!(store.reopen(&ids, now, again).await.expect("works"), 0);
    let reopened = store.reopen(&ids, now - second, again).await;
    assert_eq!((reopened.expect("works"), open().await.len()), (1, 3));
    for (at, found) in [(again, 1), (now, 0)] {
        let by_it = DeadLetterFilter {
            reopened_at: Some(at),
            ..DeadLetterFilter::default()
        };
        let count = reader.dead_letter_count(&by_it).await;
        assert_eq!(count.expect("works"), found, "opened again at {at}");
    }
    let settled = store.settle(&ids[..1], vec![], now).await.expect("works");
    assert_eq!((settled, open().await.len()), (1, 2));
    let month = now + DeadLetter::REOPENABLE_FOR;
    for (at, kept) in [(month - second, true), (month, false)] {
        store.settle(&[], vec![], at).await.expect("works");
        assert_eq!(is_kept().await, kept, "it is removed after a month");
    }
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
    let healed = reader.batch(new.batch_id).await.expect("works");
    let healed = healed.expect("stored");
    assert_eq!((healed.failed, healed.replayed), (3, 2));
    assert_eq!(healed.still_failed(), 1, "the one that was discarded");
    let runs = TenantRuns {
        item_id: all[0].clone(),
        job_id: Some(job()),
        since: None,
    };
    let (runs, _) = reader
        .tenant_runs(&runs, &Page::default())
        .await
        .expect("works");
    assert_eq!(runs.len(), 1, "it is the same run");
    assert_eq!(runs[0].result, results[0]);
    assert_eq!(runs[0].batch_id, again.batch_id);
}

pub(super) async fn a_late_change_leaves_out_what_was_settled<S: WorkQueue + BatchStore>(
    &Tested { store, reader }: &Tested<'_, S>,
) {
    use ItemStatus::{Skipped, Succeeded};
    let token = Uuid::from_u128;
    let now = at("2026-05-01T18:00:00Z");
    // The items that are stored of a batch are run by `by`, and returned.
    let run = async |batch: &NewBatch, by: u128| -> Vec<ItemId> {
        let enqueued = store.enqueue(firing(batch), now).await.expect("works");
        let known = reader.batch(batch.batch_id).await.expect("works");
        let Some(stored) = enqueued.batches.first() else {
            assert_eq!(known, None);
            return Vec::new();
        };
        let items = stored.chunks[0].items.clone();
        assert_eq!(known.expect("stored").total, items.len() as u64);
        let claimed = claim(store, &stored.chunks[0], token(by)).await;
        let results: Vec<_> = claimed.iter().map(|id| result(id, Succeeded)).collect();
        commit(store, &stored.chunks[0], token(by), &results).await;
        let (status, ..) = counts(reader, batch.batch_id).await;
        assert_eq!(status, BatchStatus::Completed);
        items
    };
    let settling = SkipReason::SETTLING;
    let open = [SkipReason::Disabled, SkipReason::Rescheduled];
    let all = tenants(730..730 + settling.len() + open.len());
    let (settled, left) = all.split_at(settling.len());
    let (new, _) = claimed(store, "2026-05-01", &all, token(111)).await;
    let reasons = settling.iter().chain(&open);
    let skipped = all.iter().zip(reasons).map(|(id, reason)| ItemResult {
        error: Some(reason.as_str().to_owned()),
        ..result(id, Skipped)
    });
    let skipped: Vec<_> = skipped.collect();
    commit(store, &new.chunks[0], token(111), &skipped).await;
    let late = |items: &[ItemId]| asked_for(Trigger::LateChange, "2026-05-01", items);
    assert!(
        run(&late(settled), 112).await.is_empty(),
        "nothing is left of it"
    );
    assert_eq!(run(&late(&all), 113).await, left);
    // What was moved to another time of the date was not skipped at that one.
    let moved = NewBatch::new(
        &job(),
        Priority::Medium,
        "daily 12:00 UTC".to_owned(),
        at("2026-05-01T12:00:00Z"),
        new.chunks[0].occurrence,
        Trigger::LateChange,
        now,
        &all[..1],
        500,
    );
    assert_eq!(run(&moved, 114).await, all[..1]);
    let backfill = asked_for(Trigger::Backfill, "2026-05-01", settled);
    assert_eq!(run(&backfill, 115).await, settled, "somebody asked for it");

    // The process ended before it had skipped what was cancelled.
    let (new, _) = claimed(store, "2026-05-02", &all, token(116)).await;
    let late = asked_for(Trigger::LateChange, "2026-05-02", &all);
    assert!(store.cancel(new.batch_id).await.expect("works"));
    assert!(run(&late, 117).await.is_empty());
    let skipped: Vec<_> = all.iter().map(|id| result(id, Skipped)).collect();
    commit(store, &new.chunks[0], token(116), &skipped).await;
    // They were skipped for another reason, and their batch is over.
    assert_eq!(run(&late, 118).await, all);
}

pub(super) async fn a_replay_that_is_skipped_opens_its_dead_letter_again<
    S: WorkQueue + BatchStore,
>(
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
            state: Some(DeadLetterState::Open),
            ..DeadLetterFilter::default()
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
            now + TimeDelta::seconds(round as i64),
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
        let ran = reader.started_items(&job(), chunk.occurrence, &all).await;
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

pub(super) async fn a_shard_is_kept_and_changes_only_from_a_later_date_on<
    S: WorkQueue + BatchStore,
>(
    &Tested { store, .. }: &Tested<'_, S>,
) {
    let now = at("2030-01-01T12:00:00Z");
    let planned = StoredPosition {
        job_id: job(),
        planned_until: now,
        high_water_mark: now,
        snapshot_at: None,
        began: None,
        placement: None,
    };
    let firing = Firing {
        batches: vec![],
        positions: vec![planned],
    };
    store.enqueue(firing, now).await.expect("works");
    let assignment = |text: &str| text.parse::<ShardAssignment>().expect("an assignment");
    let whole = store.assign(&ShardAssignment::default(), now).await;
    assert!(whole.expect("it served all").is_whole());
    for (other, now) in [("1/2", now), ("1/2 from 2030-01-02", now)] {
        let refused = store.assign(&assignment(other), now).await;
        let error = refused.expect_err("the store serves another shard");
        assert_eq!(error.kind(), StoreErrorKind::Conflict, "{error}");
        assert!(error.to_string().contains("2030-01-03"), "{error}");
    }
    let half = assignment("1/2 from 2030-01-03");
    let later = now + TimeDelta::days(400);
    for now in [now, now, later] {
        let sharding = store.assign(&half, now).await.expect("works");
        let at_day = |day: &str| sharding.at(day.parse().expect("a date"));
        assert_eq!(at_day("2030-01-02"), Some(Shard::WHOLE));
        assert_eq!(at_day("2030-01-03"), half.shard);
    }
    let whole = assignment("1/1 from 2031-06-01");
    store.assign(&whole, later).await.expect("works");
}
