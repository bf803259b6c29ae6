//! What the port [`BatchStore`] promises: who runs which item, and that each has one outcome.

use std::collections::BTreeSet;

use punctual_domain::{
    BatchStatus, DeadLetterState, FailureKind, ItemId, ItemResult, ItemStatus, KeyForm, Trigger,
};
use uuid::Uuid;

use super::{
    ELSEWHERE, ENDED, HERE, Tested, asked_for, at, batch, claim, claim_by, claimed, commit, counts,
    firing, job, outcomes, result, tenants,
};
use crate::ports::{BatchStore, DeadLetterFilter, Page, ResultFilter, TenantRuns, WorkQueue};

pub(super) async fn a_chunk_is_claimed_committed_and_finished<S: WorkQueue + BatchStore>(
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

pub(super) async fn what_had_nothing_to_do_has_run_and_is_counted_by_itself<
    S: WorkQueue + BatchStore,
>(
    &Tested { store, reader }: &Tested<'_, S>,
) {
    use ItemStatus::{Failed, NothingToDo, Skipped, Succeeded};
    let all = tenants(0..6);
    let token = Uuid::from_u128(81);
    let (new, _) = claimed(store, "2026-07-01", &all, token).await;
    let chunk = &new.chunks[0];
    // Other promises may have left letters of the same tenant.
    let of_one = DeadLetterFilter {
        item_id: Some(all[1].clone()),
        ..DeadLetterFilter::default()
    };
    let letters = async || reader.dead_letter_count(&of_one).await.expect("works");
    let before = letters().await;
    // Plain results by themselves, and with one of every other kind.
    let plain = [result(&all[0], Succeeded), result(&all[1], NothingToDo)];
    assert_eq!(commit(store, chunk, token, &plain).await, 2);
    let batch = async || {
        let batch = reader.batch(new.batch_id).await.expect("works");
        batch.expect("stored")
    };
    let so_far = batch().await;
    assert_eq!(
        (so_far.succeeded, so_far.nothing_to_do, so_far.processed()),
        (1, 1, 2)
    );
    let mixed = [
        result(&all[2], NothingToDo),
        result(&all[3], Failed),
        result(&all[4], Skipped),
    ];
    assert_eq!(commit(store, chunk, token, &mixed).await, 3);

    // What is claimed again is what has no outcome.
    let second = Uuid::from_u128(82);
    assert_eq!(claim(store, chunk, second).await, all[5..]);
    let last = [result(&all[5], NothingToDo)];
    let committed = store.commit(chunk, second, &last).await.expect("works");
    assert!(committed.finished, "{committed:?}");
    let done = batch().await;
    assert_eq!(
        (done.succeeded, done.failed, done.skipped),
        (1, 1, 1),
        "{done:?}"
    );
    assert_eq!((done.nothing_to_do, done.processed()), (3, 6));
    assert_eq!(done.status, BatchStatus::Completed);

    let filter = ResultFilter {
        batch_id: new.batch_id,
        status: Some(NothingToDo),
    };
    let (found, _) = reader
        .results(&filter, &Page::default())
        .await
        .expect("works");
    let found: Vec<_> = found.into_iter().map(|stored| stored.result).collect();
    let expected = [&all[1], &all[2], &all[5]].map(|tenant| result(tenant, NothingToDo));
    assert_eq!(found, expected, "with the reason");
    assert_eq!(letters().await, before, "one had nothing to do");

    // The occurrence is used up, for every later batch.
    let occurrence = chunk.occurrence;
    let started = reader.started_items(&job(), occurrence, &all).await;
    let expected = [0, 1, 2, 3, 5].map(|n: usize| all[n].clone());
    assert_eq!(started.expect("works"), BTreeSet::from(expected));
    let again = asked_for(Trigger::Backfill, "2026-07-01", &all);
    store
        .enqueue(firing(&again), at("2026-07-02T09:00:00Z"))
        .await
        .expect("works");
    let third = Uuid::from_u128(83);
    assert_eq!(claim(store, &again.chunks[0], third).await, all[4..5]);
    let last = [result(&all[4], NothingToDo)];
    assert_eq!(commit(store, &again.chunks[0], third, &last).await, 1);
}

pub(super) async fn a_failure_keeps_its_kind_and_runs_again<S: WorkQueue + BatchStore>(
    &Tested { store, reader }: &Tested<'_, S>,
) {
    use FailureKind::{Data, Handler};
    let all = tenants(0..3);
    let token = Uuid::from_u128(83);
    let (new, _) = claimed(store, "2026-07-05", &all, token).await;
    let of = |tenant: &ItemId, kind| ItemResult {
        failure_kind: Some(kind),
        ..result(tenant, ItemStatus::Failed)
    };
    let results = [
        of(&all[0], Handler),
        of(&all[1], Data),
        result(&all[2], ItemStatus::Succeeded),
    ];
    assert_eq!(commit(store, &new.chunks[0], token, &results).await, 3);
    let filter = ResultFilter {
        batch_id: new.batch_id,
        status: Some(ItemStatus::Failed),
    };
    let (found, _) = reader
        .results(&filter, &Page::default())
        .await
        .expect("works");
    let found: Vec<_> = found.into_iter().map(|stored| stored.result).collect();
    assert_eq!(found, results[..2], "those of both kinds");

    let letters = async |kind: FailureKind| {
        let filter = DeadLetterFilter {
            job_id: Some(job()),
            state: Some(DeadLetterState::Open),
            failure_kind: Some(kind),
            ..DeadLetterFilter::default()
        };
        let letters = reader.dead_letters(&filter, &Page::default()).await;
        let ours = letters.expect("works").0.into_iter();
        ours.filter(|letter| letter.batch_id == new.batch_id)
            .map(|letter| (letter.id, letter.item_id, letter.failure_kind))
            .collect::<Vec<_>>()
    };
    let mut ids = Vec::new();
    for (kind, tenant) in [(Handler, &all[0]), (Data, &all[1])] {
        let found = letters(kind).await;
        assert_eq!(found, [(found[0].0, tenant.clone(), kind)]);
        ids.push(found[0].0);
    }

    let again = asked_for(Trigger::Replay, "2026-07-05", &all[..2]);
    let now = at("2026-07-06T09:00:00Z");
    let settled = store.settle(&ids, vec![again.clone()], now).await;
    assert_eq!(settled.expect("works"), 2);
    let (chunk, token) = (&again.chunks[0], Uuid::from_u128(84));
    assert_eq!(claim(store, chunk, token).await, all[..2]);
    let ended = [&all[0], &all[1]].map(|tenant| result(tenant, ItemStatus::Succeeded));
    assert_eq!(commit(store, chunk, token, &ended).await, 2);
}

pub(super) async fn a_second_delivery_takes_only_what_is_not_done_and_fences_off_the_first<
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

pub(super) async fn one_run_per_job_tenant_and_date_whatever_the_batch<
    S: WorkQueue + BatchStore,
>(
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
        .record_running(&morning.chunks[0], first, &tenants(0..1)[0], began)
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
    let ran = reader
        .started_items(&job(), day, &among)
        .await
        .expect("works");
    assert_eq!(Vec::from_iter(ran), tenants(2..3), "of the named ones");
    let ran = reader.started_items(&job(), day, &among[..1]).await;
    let ran = Vec::from_iter(ran.expect("works"));
    assert_eq!(ran, tenants(2..3), "of one alone");
    let day_before = "2025-12-31".parse().expect("a date");
    let ran = reader.started_items(&job(), day_before, &among).await;
    assert_eq!(ran.expect("works"), BTreeSet::new(), "on that date only");
}

pub(super) async fn deliveries_that_end_with_their_process_are_counted<
    S: WorkQueue + BatchStore,
>(
    &Tested { store, reader }: &Tested<'_, S>,
) {
    let all = tenants(0..2);
    let tokens: Vec<Uuid> = (31..36).map(Uuid::from_u128).collect();
    let (new, claim) = claimed(store, "2026-03-05", &all, tokens[0]).await;
    let chunk = &new.chunks[0];
    assert_eq!((claim.crash_count, claim.cancelled), (0, false));
    store
        .record_running(chunk, tokens[0], &all[0], at("2026-03-05T09:00:01Z"))
        .await
        .expect("works");
    let running = TenantRuns {
        item_id: all[0].clone(),
        job_id: None,
        since: None,
    };
    let (runs, _) = reader
        .tenant_runs(&running, &Page::default())
        .await
        .expect("works");
    assert_eq!(runs[0].result.status, ItemStatus::Running, "it is in work");
    assert_eq!(runs[0].batch_id, new.batch_id);

    let lost =
        |process, token| async move { claim_by(store, chunk, process, token).await.crash_count };
    assert_eq!(lost(HERE, tokens[1]).await, 0, "the process lives");
    store.release(chunk, tokens[0], None).await.expect("works");
    assert_eq!(
        lost(ELSEWHERE, tokens[2]).await,
        1,
        "an old token releases nothing"
    );
    store.release(chunk, tokens[2], None).await.expect("works");
    assert_eq!(lost(HERE, tokens[3]).await, 1, "it was given back");
    assert_eq!(lost(ELSEWHERE, tokens[4]).await, 2);
    let results: Vec<_> = all
        .iter()
        .map(|tenant| result(tenant, ItemStatus::Succeeded))
        .collect();
    assert_eq!(commit(store, chunk, tokens[3], &results).await, 0);
    assert_eq!(commit(store, chunk, tokens[4], &results).await, 2);
}

pub(super) async fn who_runs_alone_is_remembered<S: WorkQueue + BatchStore>(
    &Tested { store, .. }: &Tested<'_, S>,
) {
    let all = tenants(0..2);
    let token = Uuid::from_u128;
    let (new, claim) = claimed(store, "2026-03-06", &all, token(41)).await;
    let chunk = &new.chunks[0];
    assert_eq!(claim.poison_candidate, None);
    let suspect = |by, who: usize| store.mark_poison_candidate(chunk, token(by), &all[who]);
    assert!(suspect(41, 0).await.expect("works"));
    assert!(suspect(41, 1).await.expect("works"));
    let claim = claim_by(store, chunk, ELSEWHERE, token(42)).await;
    assert_eq!(claim.poison_candidate, Some((all[1].clone(), 1)));
    assert!(
        !suspect(41, 0).await.expect("works"),
        "that claim has ended"
    );
    assert!(suspect(42, 1).await.expect("works"));
    let claim = claim_by(store, chunk, HERE, token(43)).await;
    assert_eq!(claim.poison_candidate, Some((all[1].clone(), 2)));
    store.release(chunk, token(43), None).await.expect("works");
    let claim = claim_by(store, chunk, HERE, token(44)).await;
    assert_eq!(
        claim.poison_candidate, None,
        "a released chunk has no suspect"
    );
}

pub(super) async fn what_was_skipped_is_run_by_a_later_batch_and_every_count_stays<
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
    let ran = reader
        .started_items(&job(), day, &all)
        .await
        .expect("works");
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
    assert_eq!((&other[0].result.item_id, next), (&all[3], None));

    // Each of the tenant's attempts is listed, also page by page, and it can be run again.
    let filter = TenantRuns {
        item_id: all[3].clone(),
        job_id: None,
        since: None,
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
    again = again.with_keys(KeyForm::Colons);
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
        .map(crate::ports::StoredResult::delivery_id)
        .collect();
    assert_eq!(
        ids,
        ["job:user0703:2026-03-09"],
        "a batch keeps its form of keys"
    );
}

pub(super) async fn who_is_running_is_known_to_other_occurrences<S: WorkQueue + BatchStore>(
    &Tested { store, reader }: &Tested<'_, S>,
) {
    let all = tenants(720..723);
    let token = Uuid::from_u128;
    let (new, claim) = claimed(store, "2026-03-11", &all, token(91)).await;
    assert_eq!(claim.overlapping, BTreeSet::new());
    let began = at("2026-03-11T09:00:05Z");
    let note =
        |by, tenant: usize| store.record_running(&new.chunks[0], token(by), &all[tenant], began);
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
        item_id: all[0].clone(),
        job_id: None,
        since: None,
    };
    let (runs, _) = reader
        .tenant_runs(&filter, &Page::default())
        .await
        .expect("works");
    assert_eq!((runs.len(), runs[0].result.started_at), (1, began));
    let day = new.chunks[0].occurrence;
    let ran = reader
        .started_items(&job(), day, &all)
        .await
        .expect("works");
    assert_eq!(Vec::from_iter(ran), all[..2], "it is running or has run");
    let again = || claim_by(store, &next.chunks[0], ELSEWHERE, token(93));
    assert_eq!(again().await.overlapping, [all[0].clone()].into());
    store
        .release(&new.chunks[0], token(91), None)
        .await
        .expect("works");
    assert_eq!(
        again().await.overlapping,
        BTreeSet::new(),
        "its process has given it back"
    );
}
