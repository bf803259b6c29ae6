//! What the port [`TenantRecords`] promises: what is held of a tenant goes, nothing of others is lost or runs again, and none of the
//! tenant's runs comes back.

use chrono::{DateTime, TimeDelta, Utc};
use punctual_domain::{
    BatchStatus, Fingerprint, ItemId, ItemStatus, NewBatch, PurposeId, TenantId, Trigger, Waiting,
};
use serde_json::json;
use uuid::Uuid;

use super::{
    Tested, asked_for, at, batch, claim, claimed, commit, counts, firing, outcomes, result,
};
use crate::ports::{
    Attempts, AuditEntry, AuditFilter, BatchReader, BatchStore, DeadLetterFilter, ErasedRecords,
    NewPrepared, OperatorStore, Page, PreparedWork, Settled, Settlement, Stage, TenantRecords,
    TenantRuns, WaitingItem, WaitingItems, WorkQueue,
};

/// What a store does for tenants who are erased.
trait Store: WorkQueue + BatchStore + WaitingItems + OperatorStore + TenantRecords {}
impl<S: WorkQueue + BatchStore + WaitingItems + OperatorStore + TenantRecords> Store for S {}

/// Checks the port [`TenantRecords`] of an empty store, with the ports whose work it undoes.
///
/// # Panics
/// It breaks a promise.
pub async fn tenant_records<
    S: WorkQueue + BatchStore + WaitingItems + OperatorStore + TenantRecords,
>(
    store: &S,
    reader: &dyn BatchReader,
) {
    let tested = &Tested { store, reader };
    what_has_ended_goes_and_counts_stay(tested).await;
    what_is_queued_leaves_its_batch(tested).await;
    what_runs_brings_nothing_and_others_go_on(tested).await;
    a_batch_ends_with_the_last_item_that_is_left(tested).await;
    what_waits_is_no_longer_awaited(tested).await;
    what_was_kept_and_prepared_goes_and_nothing_new_is_kept(tested).await;
    an_erased_run_does_not_run_again_and_later_ones_do(tested).await;
    a_replay_that_is_queued_replays_the_others(tested).await;
    the_audit_log_keeps_its_entries_without_the_name(tested).await;
    an_erasure_of_the_config_database_is_carried_out_once(tested).await;
    what_is_queued_after_an_erasure_is_erased_when_it_is_named_again(tested).await;
}

fn now() -> DateTime<Utc> {
    at("2026-03-01T10:00:00Z")
}

/// Two other tenants and the one who is erased, by a name that no other test of the store has.
fn tenants(name: &str) -> ([ItemId; 3], TenantId) {
    let items = ["a", "b", "gone"];
    let items = items.map(|one| ItemId::new(format!("{name}-{one}")).expect("valid"));
    let gone = TenantId::new(items[2].as_str()).expect("valid");
    (items, gone)
}

async fn erase<S: Store>(store: &S, tenant: &TenantId) -> ErasedRecords {
    TenantRecords::erase(store, tenant, now())
        .await
        .expect("works")
}

/// Nothing is held of the tenant, and a second erasure finds nothing.
async fn is_gone<S: Store>(Tested { store, reader }: &Tested<'_, S>, tenant: &TenantId) {
    let export = store.export(tenant).await.expect("works");
    assert!(export.0.values().all(Vec::is_empty), "{export:?}");
    let item_id = ItemId::from(tenant);
    let runs = TenantRuns {
        item_id: item_id.clone(),
        job_id: None,
        since: None,
    };
    let runs = reader.tenant_runs(&runs, &Page::default()).await;
    assert_eq!(runs.expect("works").0, []);
    let letters = DeadLetterFilter {
        item_id: Some(item_id),
        ..DeadLetterFilter::default()
    };
    let letters = reader.dead_letters(&letters, &Page::default()).await;
    assert_eq!(letters.expect("works").0, []);
    assert_eq!(erase(*store, tenant).await, ErasedRecords::default());
}

async fn what_has_ended_goes_and_counts_stay<S: Store>(tested: &Tested<'_, S>) {
    let Tested { store, reader } = tested;
    let ([a, b, gone], tenant) = tenants("ended");
    let token = Uuid::from_u128(7001);
    let all = [a.clone(), b.clone(), gone.clone()];
    let (new, _) = claimed(*store, "2028-01-01", &all, token).await;
    let results = [
        result(&a, ItemStatus::Succeeded),
        result(&b, ItemStatus::Failed),
        result(&gone, ItemStatus::Failed),
    ];
    assert_eq!(commit(*store, &new.chunks[0], token, &results).await, 3);
    let export = store.export(&tenant).await.expect("works");
    assert_eq!(export.0["runs"].len(), 1);
    assert_eq!(export.0["runs"][0]["tenant_id"], json!(gone));
    assert_eq!(export.0["dead_letters"].len(), 1);
    let erased = erase(*store, &tenant).await;
    assert_eq!((erased.runs, erased.items, erased.dead_letters), (1, 0, 1));
    is_gone(tested, &tenant).await;
    let stays = (BatchStatus::Completed, 1, 2, 0);
    assert_eq!(counts(*reader, new.batch_id).await, stays);
    let left = [(a, ItemStatus::Succeeded), (b, ItemStatus::Failed)];
    assert_eq!(outcomes(*reader, new.batch_id).await, left);
}

async fn what_is_queued_leaves_its_batch<S: Store>(tested: &Tested<'_, S>) {
    let Tested { store, reader } = tested;
    let ([a, b, gone], tenant) = tenants("queued");
    let new = batch(
        "daily 09:00 UTC",
        "2028-01-02T09:00:00Z",
        "2028-01-02",
        &[gone, a, b],
    );
    store.enqueue(firing(&new), now()).await.expect("works");
    let erased = erase(*store, &tenant).await;
    assert_eq!((erased.runs, erased.items), (0, 1));
    let stored = reader.batch(new.batch_id).await.expect("works");
    let stored = stored.expect("stored");
    assert_eq!((stored.total, stored.status), (2, BatchStatus::Queued));
    // Also a worker that has read the chunk before is given the others only, and they end it.
    let token = Uuid::from_u128(7002);
    let left = claim(*store, &new.chunks[0], token).await;
    assert_eq!(left.len(), 2, "{left:?}");
    let results: Vec<_> = left
        .iter()
        .map(|item| result(item, ItemStatus::Succeeded))
        .collect();
    assert_eq!(
        commit(*store, &new.chunks[0], token, &results[..1]).await,
        1
    );
    let open = (BatchStatus::Running, 1, 0, 0);
    assert_eq!(counts(*reader, new.batch_id).await, open);
    assert_eq!(
        commit(*store, &new.chunks[0], token, &results[1..]).await,
        1
    );
    let ended = (BatchStatus::Completed, 2, 0, 0);
    assert_eq!(counts(*reader, new.batch_id).await, ended);
    is_gone(tested, &tenant).await;
}

async fn what_runs_brings_nothing_and_others_go_on<S: Store>(tested: &Tested<'_, S>) {
    let Tested { store, reader } = tested;
    let ([a, b, gone], tenant) = tenants("running");
    let token = Uuid::from_u128(7003);
    let all = [a.clone(), gone.clone(), b.clone()];
    let (new, _) = claimed(*store, "2028-01-03", &all, token).await;
    let chunk = &new.chunks[0];
    store
        .record_running(chunk, token, &gone, now())
        .await
        .expect("works");
    let first = [result(&a, ItemStatus::Succeeded)];
    assert_eq!(commit(*store, chunk, token, &first).await, 1);
    assert_eq!(erase(*store, &tenant).await.items, 1);
    let late = [
        result(&gone, ItemStatus::Failed),
        result(&b, ItemStatus::Failed),
    ];
    let committed = store.commit(chunk, token, &late).await.expect("works");
    assert!(committed.claimed && committed.finished, "{committed:?}");
    assert_eq!(committed.taken, 2, "what is dropped is dealt with");
    let ended = (BatchStatus::Completed, 1, 1, 0);
    assert_eq!(counts(*reader, new.batch_id).await, ended);
    let left = [(a, ItemStatus::Succeeded), (b, ItemStatus::Failed)];
    assert_eq!(outcomes(*reader, new.batch_id).await, left);
    is_gone(tested, &tenant).await;
}

async fn a_batch_ends_with_the_last_item_that_is_left<S: Store>(tested: &Tested<'_, S>) {
    let Tested { store, reader } = tested;
    let ([a, _, gone], tenant) = tenants("last");
    let token = Uuid::from_u128(7004);
    let (new, _) = claimed(*store, "2028-01-04", &[a.clone(), gone.clone()], token).await;
    let chunk = &new.chunks[0];
    let first = [result(&a, ItemStatus::Succeeded)];
    assert_eq!(commit(*store, chunk, token, &first).await, 1);
    erase(*store, &tenant).await;
    let ended = (BatchStatus::Completed, 1, 0, 0);
    assert_eq!(counts(*reader, new.batch_id).await, ended);
    let late = [result(&gone, ItemStatus::Succeeded)];
    assert_eq!(commit(*store, chunk, token, &late).await, 0);

    // One that has no other item ends, too.
    let alone = batch(
        "daily 09:00 UTC",
        "2028-01-05T09:00:00Z",
        "2028-01-05",
        &[gone],
    );
    store.enqueue(firing(&alone), now()).await.expect("works");
    erase(*store, &tenant).await;
    let ended = (BatchStatus::Completed, 0, 0, 0);
    assert_eq!(counts(*reader, alone.batch_id).await, ended);
    is_gone(tested, &tenant).await;
}

fn waits(item: &ItemId, call_id: Uuid) -> WaitingItem {
    let since = at("2026-03-01T09:00:05Z");
    let mut waiting = Waiting::until(since + chrono::TimeDelta::hours(1));
    waiting.state = json!({"sent": item.as_str()});
    WaitingItem {
        call_id,
        item_id: item.clone(),
        purpose_id: PurposeId::new("render").expect("valid"),
        stage: Stage::Only,
        attempts: Attempts {
            made: 1,
            ..Attempts::default()
        },
        preference: Some(std::sync::Arc::new(json!({"enabled": true}))),
        started_at: since,
        since,
        waiting,
    }
}

async fn what_waits_is_no_longer_awaited<S: Store>(tested: &Tested<'_, S>) {
    let Tested { store, reader } = tested;
    let ([a, b, gone], tenant) = tenants("waits");
    let token = Uuid::from_u128(7006);
    let all = [a.clone(), gone.clone(), b.clone()];
    let (new, _) = claimed(*store, "2028-01-06", &all, token).await;
    let chunk = &new.chunks[0];
    let [of_a, of_gone, of_b] = [1, 2, 3].map(|n| Uuid::from_u128(0x000D_0000 + n));
    let waiting = [waits(&a, of_a), waits(&gone, of_gone)];
    let begun = store.begin_waiting(chunk, token, &waiting).await;
    assert!(begun.expect("works").claimed);
    assert_eq!(erase(*store, &tenant).await.items, 1);
    let end = |item: &ItemId| Settlement::End(Box::new(result(item, ItemStatus::Succeeded)));
    let settled = store.settle_calls(&[(of_gone, end(&gone))], now()).await;
    assert_eq!(settled.expect("works"), [Settled::NotWaiting]);
    // It does not begin to wait again, and the others do.
    let more = [waits(&b, of_b), waits(&gone, of_gone)];
    let begun = store
        .begin_waiting(chunk, token, &more)
        .await
        .expect("works");
    assert_eq!((begun.taken, begun.finished), (2, true));
    let ends = [(of_a, end(&a)), (of_b, end(&b))];
    let settled = store.settle_calls(&ends, now()).await.expect("works");
    assert_eq!(settled, [Settled::Taken, Settled::Taken]);
    let ended = (BatchStatus::Completed, 2, 0, 0);
    assert_eq!(counts(*reader, new.batch_id).await, ended);
    is_gone(tested, &tenant).await;
}

async fn what_was_kept_and_prepared_goes_and_nothing_new_is_kept<S: Store>(tested: &Tested<'_, S>) {
    let Tested { store, .. } = tested;
    let ([a, b, gone], tenant) = tenants("kept");
    let token = Uuid::from_u128(7007);
    let all = [a.clone(), b.clone(), gone.clone()];
    let (new, _) = claimed(*store, "2028-01-07", &all, token).await;
    let chunk = &new.chunks[0];
    let purpose = PurposeId::new("write").expect("valid");
    let prepared = NewPrepared {
        fingerprint: Fingerprint::new([1; 16]),
        work: PreparedWork::Output(json!("sealed")),
        at: now(),
    };
    for _ in 0..2 {
        for item in [&a, &gone] {
            let output = json!(item.as_str());
            let kept = store.keep_output(chunk, token, item, &purpose, &output);
            assert!(kept.await.expect("works"), "the claim stands");
            let kept = store.keep_prepared(chunk, token, item, &prepared);
            assert!(kept.await.expect("works"), "the claim stands");
        }
        erase(*store, &tenant).await;
    }
    let kept = store.kept_outputs(chunk, token, &purpose, &all).await;
    let kept = kept.expect("works").expect("claimed");
    assert_eq!(kept.keys().collect::<Vec<_>>(), [&a]);
    is_gone(tested, &tenant).await;
    let results = [a, b].map(|item| result(&item, ItemStatus::Succeeded));
    assert_eq!(commit(*store, chunk, token, &results).await, 2);
}

async fn an_erased_run_does_not_run_again_and_later_ones_do<S: Store>(tested: &Tested<'_, S>) {
    let Tested { store, reader } = tested;
    let ([a, b, gone], tenant) = tenants("again");
    let token = Uuid::from_u128(7008);
    let (new, _) = claimed(*store, "2028-01-08", &[a.clone(), gone.clone()], token).await;
    let results = [&a, &gone].map(|item| result(item, ItemStatus::Succeeded));
    assert_eq!(commit(*store, &new.chunks[0], token, &results).await, 2);
    erase(*store, &tenant).await;

    // A preview finds both: neither would run again.
    let (run, asked) = (&new.chunks[0], [a, b.clone(), gone.clone()]);
    let started = reader.started_items(&run.job_id, run.occurrence, &asked);
    let started: Vec<ItemId> = started.await.expect("works").into_iter().collect();
    assert_eq!(started, [asked[0].clone(), gone.clone()]);
    let next = asked_for(Trigger::Backfill, "2028-01-09", &asked);
    let started = reader.started_items(&run.job_id, next.chunks[0].occurrence, &asked);
    assert_eq!(started.await.expect("works").len(), 0);

    let again = asked_for(Trigger::Backfill, "2028-01-08", &[b.clone(), gone.clone()]);
    store.enqueue(firing(&again), now()).await.expect("works");
    let token = Uuid::from_u128(7009);
    let chunk = &again.chunks[0];
    assert_eq!(claim(*store, chunk, token).await, std::slice::from_ref(&b));
    let results = [result(&b, ItemStatus::Succeeded)];
    assert_eq!(commit(*store, chunk, token, &results).await, 1);
    let ended = (BatchStatus::Completed, 1, 0, 1);
    assert_eq!(counts(*reader, again.batch_id).await, ended);

    // The same tenant, who has come back.
    let token = Uuid::from_u128(7010);
    let (next, assigned) = claimed(*store, "2028-01-09", std::slice::from_ref(&gone), token).await;
    assert_eq!(assigned.items, std::slice::from_ref(&gone));
    let results = [result(&gone, ItemStatus::Succeeded)];
    assert_eq!(commit(*store, &next.chunks[0], token, &results).await, 1);
    let export = store.export(&tenant).await.expect("works");
    assert_eq!(export.0["runs"].len(), 1);
}

async fn a_replay_that_is_queued_replays_the_others<S: Store>(tested: &Tested<'_, S>) {
    let Tested { store, reader } = tested;
    let ([a, b, gone], tenant) = tenants("replay");
    let token = Uuid::from_u128(7011);
    let all = [a.clone(), b.clone(), gone.clone()];
    let (new, _) = claimed(*store, "2028-01-10", &all, token).await;
    let failed = [&a, &b, &gone].map(|item| result(item, ItemStatus::Failed));
    assert_eq!(commit(*store, &new.chunks[0], token, &failed).await, 3);
    let mut ids: Vec<i64> = Vec::new();
    for item in &all {
        let of_item = DeadLetterFilter {
            item_id: Some(item.clone()),
            ..DeadLetterFilter::default()
        };
        let letters = reader.dead_letters(&of_item, &Page::default()).await;
        ids.extend(letters.expect("works").0.iter().map(|letter| letter.id));
    }
    let again: NewBatch = asked_for(Trigger::Replay, "2028-01-10", &all);
    let settled = store.settle(&ids, vec![again.clone()], now()).await;
    assert_eq!(settled.expect("works"), 3);
    let before = reader.batch(new.batch_id).await.expect("works");
    erase(*store, &tenant).await;
    let after = reader.batch(new.batch_id).await.expect("works");
    let failed = after.as_ref().map(|batch| batch.failed);
    assert_eq!(failed, before.map(|batch| batch.failed));
    let token = Uuid::from_u128(7012);
    let chunk = &again.chunks[0];
    assert_eq!(claim(*store, chunk, token).await, [a.clone(), b.clone()]);
    let results = [a, b].map(|item| result(&item, ItemStatus::Succeeded));
    assert_eq!(commit(*store, chunk, token, &results).await, 2);
    let ended = (BatchStatus::Completed, 2, 0, 0);
    assert_eq!(counts(*reader, again.batch_id).await, ended);
    is_gone(tested, &tenant).await;
}

async fn the_audit_log_keeps_its_entries_without_the_name<S: Store>(tested: &Tested<'_, S>) {
    let Tested { store, .. } = tested;
    let (_, tenant) = tenants("audited");
    let entry = note_preview(*store, &tenant).await;
    erase(*store, &tenant).await;
    let left = AuditEntry {
        subject: "erased tenant".into(),
        detail: "a dry run for erased tenant".into(),
        reason: Some("erased tenant asked".into()),
        ..entry
    };
    assert_eq!(newest(*store).await, left);
    is_gone(tested, &tenant).await;
}

/// An entry of the audit log that names the tenant.
async fn note_preview<S: Store>(store: &S, tenant: &TenantId) -> AuditEntry {
    let entry = AuditEntry {
        at: now(),
        by: "a test".into(),
        action: "preview".into(),
        subject: tenant.to_string(),
        detail: format!("a dry run for {tenant}"),
        reason: Some(format!("{tenant} asked")),
    };
    store.record(&entry).await.expect("works");
    entry
}

/// The newest entry of the audit log.
async fn newest<S: Store>(store: &S) -> AuditEntry {
    let (all, page) = (AuditFilter::default(), Page::default());
    let (mut log, _) = store.audit_log(&all, &page).await.expect("works");
    log.remove(0)
}

/// Follows an erasure that the Config Database has made at an instant.
async fn follow<S: Store>(store: &S, tenant: &TenantId, erased_at: &str) -> ErasedRecords {
    // What was queued just now may have been under way with something else.
    let later = now() + TimeDelta::hours(1);
    let erased = store.erase_once(tenant, at(erased_at), later).await;
    erased.expect("works")
}

async fn an_erasure_of_the_config_database_is_carried_out_once<S: Store>(tested: &Tested<'_, S>) {
    let Tested { store, .. } = tested;
    let ([a, _, gone], tenant) = tenants("once");
    let new = batch(
        "daily 09:00 UTC",
        "2028-01-11T09:00:00Z",
        "2028-01-11",
        &[gone, a],
    );
    store.enqueue(firing(&new), now()).await.expect("works");
    let first = "2026-03-01T09:00:00Z";
    assert_eq!(follow(*store, &tenant, first).await.items, 1);
    // What is not erased shows that nothing is looked through.
    let entry = note_preview(*store, &tenant).await;
    let nothing = ErasedRecords::default();
    assert_eq!(follow(*store, &tenant, first).await, nothing);
    assert_eq!(newest(*store).await, entry);
    // It is of this tenant only, and of this time, also where the clock was set back.
    for (number, erased_at) in ["2026-03-01T09:30:00Z", "2026-03-01T08:30:00Z"]
        .into_iter()
        .enumerate()
    {
        let (_, other) = tenants(&format!("other-{number}"));
        for tenant in [&tenant, &other] {
            note_preview(*store, tenant).await;
            follow(*store, tenant, erased_at).await;
            assert_eq!(newest(*store).await.subject, "erased tenant");
        }
    }
    is_gone(tested, &tenant).await;
}

async fn what_is_queued_after_an_erasure_is_erased_when_it_is_named_again<S: Store>(
    tested: &Tested<'_, S>,
) {
    let Tested { store, reader } = tested;
    let ([a, _, gone], tenant) = tenants("named-again");
    let erased_at = "2026-03-01T09:00:00Z";
    let mut items = 0;
    for day in ["2028-01-12", "2028-01-13"] {
        // An agent that has not learned of the erasure yet.
        let due = format!("{day}T09:00:00Z");
        let all = [a.clone(), gone.clone()];
        let new = batch("daily 09:00 UTC", &due, day, &all);
        store.enqueue(firing(&new), now()).await.expect("works");
        note_preview(*store, &tenant).await;
        items += follow(*store, &tenant, erased_at).await.items;
        assert_eq!(newest(*store).await.subject, "erased tenant");
        let stored = reader.batch(new.batch_id).await.expect("works");
        assert_eq!(stored.expect("stored").total, 1);
    }
    assert_eq!(items, 2);
    is_gone(tested, &tenant).await;
}
