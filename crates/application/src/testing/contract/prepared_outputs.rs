//! What the port [`BatchStore`] promises of runs that are prepared.

use std::collections::{BTreeMap, HashMap};

use chrono::{DateTime, Utc};
use punctual_domain::{
    Chunk, Fingerprint, Firing, ItemId, ItemResult, ItemStatus, NewBatch, Occurrence, Priority,
    PurposeId, Waiting,
};
use serde_json::{Value, json};
use uuid::Uuid;

use super::{Tested, at, batch, claim, commit, job, result};
use crate::ports::{
    Attempts, BatchReader, BatchStore, NewPrepared, Page, PreparedState, PreparedWork, Stage,
    TenantRuns, WaitingItem, WorkQueue,
};

/// A batch in the queue that prepares the run of a date at 09:00 UTC, claimed under `token`.
pub(super) async fn preparing<S: WorkQueue + BatchStore>(
    store: &S,
    date: &str,
    planned_at: DateTime<Utc>,
    items: &[ItemId],
    token: Uuid,
) -> NewBatch {
    let new = NewBatch::preparing(
        &job(),
        Priority::Medium,
        "daily 09:00 UTC".to_owned(),
        at(&format!("{date}T09:00:00Z")),
        date.parse().expect("a date"),
        "p",
        planned_at,
        items,
        500,
    );
    enqueue(store, &new, planned_at).await;
    assert_eq!(claim(store, &new.chunks[0], token).await, items);
    new
}

async fn enqueue<S: WorkQueue>(store: &S, new: &NewBatch, now: DateTime<Utc>) {
    let firing = Firing {
        batches: vec![new.clone()],
        positions: vec![],
    };
    store.enqueue(firing, now).await.expect("works");
}

async fn keep<S: BatchStore>(
    store: &S,
    chunk: &Chunk,
    token: Uuid,
    item: &ItemId,
    (fingerprint, work): (Fingerprint, PreparedWork),
) -> bool {
    let prepared = NewPrepared {
        fingerprint,
        work,
        at: at("2026-10-01T21:00:01Z"),
    };
    let kept = store.keep_prepared(chunk, token, item, &prepared);
    kept.await.expect("works")
}

/// How far a run of a date has been prepared: with which fingerprint, since when, and whether it is ready.
async fn states<S: BatchStore>(
    store: &S,
    date: &str,
    items: &[ItemId],
) -> BTreeMap<ItemId, PreparedState> {
    let run: Occurrence = date.parse().expect("a date");
    let found = store.prepared(&job(), run, items).await.expect("works");
    found.into_iter().collect()
}

async fn taken<S: BatchStore>(
    store: &S,
    chunk: &Chunk,
    token: Uuid,
    items: &[ItemId],
) -> BTreeMap<ItemId, (Fingerprint, Value)> {
    let taken = store.take_prepared(chunk, token, items).await;
    let taken = taken.expect("works").into_iter();
    taken
        .map(|(id, prepared)| (id, (prepared.fingerprint, prepared.output)))
        .collect()
}

pub(super) async fn what_was_prepared_is_kept_for_its_run<S: WorkQueue + BatchStore>(
    &Tested { store, reader }: &Tested<'_, S>,
) {
    use ItemStatus::{NothingToDo, Skipped, Succeeded};
    let all = ["ann", "bob", "eve", "kim"].map(|name| ItemId::new(format!("ahead-{name}")));
    let all = all.map(|id| id.expect("valid"));
    let [ann, bob, eve, kim] = &all;
    let (first, second) = (Uuid::from_u128(101), Uuid::from_u128(102));
    let [old, new] = [1, 2].map(|byte| Fingerprint::new([byte; 16]));
    let date = "2026-10-02";
    let planned_at = at("2026-10-01T21:00:00Z");
    let preparation = preparing(store, date, planned_at, &all, first).await;
    let chunk = &preparation.chunks[0];
    assert_eq!(states(store, date, &all).await, BTreeMap::new());

    let text = |of: &ItemId| json!({"text": format!("„{of}“ 😀")});
    let output = |of: &ItemId| PreparedWork::Output(text(of));
    let call_id = Uuid::from_u128(7);
    assert!(keep(store, chunk, first, ann, (old, output(kim))).await);
    assert!(
        keep(store, chunk, first, ann, (new, output(ann))).await,
        "the last one counts"
    );
    assert!(keep(store, chunk, first, bob, (old, output(bob))).await);
    let waits = PreparedWork::Waits(call_id);
    assert!(keep(store, chunk, first, eve, (old, waits)).await);
    assert!(
        !keep(store, chunk, second, kim, (old, output(kim))).await,
        "another claim"
    );
    let state = |fingerprint, is_ready| PreparedState {
        fingerprint,
        since: at("2026-10-01T21:00:01Z"),
        is_ready,
    };
    let expected = [
        (ann.clone(), state(new, true)),
        (bob.clone(), state(old, true)),
    ];
    assert_eq!(
        states(store, date, &all).await,
        BTreeMap::from(expected),
        "the call of {eve} never began to wait"
    );
    assert_eq!(states(store, date, &all[1..2]).await.len(), 1);
    assert_eq!(states(store, "2026-10-03", &all).await, BTreeMap::new());

    // The end of the preparation removes nothing, and uses no run up.
    let sealed = |item: &ItemId| ItemResult {
        output: None,
        ..result(item, Succeeded)
    };
    let ends = [
        sealed(ann),
        sealed(bob),
        result(eve, Skipped),
        result(kim, NothingToDo),
    ];
    assert_eq!(commit(store, chunk, first, &ends).await, 4);
    let later = at("2026-10-02T10:00:00Z");
    let previous = store.previous(&job(), later, &all).await;
    assert_eq!(previous.expect("works"), HashMap::new());
    assert_eq!(states(store, date, &all).await.len(), 2);

    // The run takes it, under its claim alone, and keeps it until its chunk ends.
    let due = at("2026-10-02T09:00:00Z");
    let run = batch("daily 09:00 UTC", "2026-10-02T09:00:00Z", date, &all);
    enqueue(store, &run, due).await;
    let chunk = &run.chunks[0];
    assert_eq!(claim(store, chunk, second).await, all);
    assert_eq!(taken(store, chunk, first, &all).await, BTreeMap::new());
    let of_bob = BTreeMap::from([(bob.clone(), (old, text(bob)))]);
    assert_eq!(taken(store, chunk, second, &all[1..2]).await, of_bob);
    let expected = BTreeMap::from([
        (ann.clone(), (new, text(ann))),
        (bob.clone(), (old, text(bob))),
    ]);
    assert_eq!(taken(store, chunk, second, &all).await, expected);
    let third = Uuid::from_u128(103);
    assert_eq!(claim(store, chunk, third).await, all, "after a crash");
    assert_eq!(taken(store, chunk, third, &all).await, expected);
    let ends = all.each_ref().map(|item| result(item, Succeeded));
    assert_eq!(commit(store, chunk, third, &ends).await, 4);
    assert_eq!(states(store, date, &all).await, BTreeMap::new());
    only_the_run_is_listed(reader, ann, date).await;
    what_no_run_takes_is_removed_a_day_later(store, &all[..1]).await;
    what_waits_to_prepare_a_run_is_not_listed(store, reader).await;
}

async fn what_waits_to_prepare_a_run_is_not_listed<S: WorkQueue + BatchStore>(
    store: &S,
    reader: &dyn BatchReader,
) {
    let items = [ItemId::new("ahead-amy").expect("valid")];
    let (first, second) = (Uuid::from_u128(105), Uuid::from_u128(106));
    let began = at("2026-10-07T21:00:00Z");
    let new = preparing(store, "2026-10-08", began, &items, first).await;
    let waits = WaitingItem {
        call_id: Uuid::from_u128(8),
        item_id: items[0].clone(),
        purpose_id: PurposeId::new("render").expect("valid"),
        stage: Stage::Prepare,
        attempts: Attempts::default(),
        preference: None,
        started_at: began,
        since: began,
        waiting: Waiting::until(at("2026-10-08T09:00:00Z")),
    };
    let chunk = &new.chunks[0];
    let begun = store.begin_waiting(chunk, first, &[waits]).await;
    assert_eq!(begun.expect("works").taken, 1);
    let of_item = TenantRuns {
        item_id: items[0].clone(),
        job_id: Some(job()),
        since: None,
    };
    let runs = reader.tenant_runs(&of_item, &Page::default()).await;
    assert_eq!(runs.expect("works").0, [], "what prepares a run is none");
    // Nothing is left that waits.
    assert!(store.cancel(new.batch_id).await.expect("works"));
    assert_eq!(claim(store, chunk, second).await, items);
    let skipped = [result(&items[0], ItemStatus::Skipped)];
    assert_eq!(commit(store, chunk, second, &skipped).await, 1);
}

async fn only_the_run_is_listed(reader: &dyn BatchReader, item: &ItemId, date: &str) {
    let of_item = TenantRuns {
        item_id: item.clone(),
        job_id: Some(job()),
        since: None,
    };
    let runs = reader.tenant_runs(&of_item, &Page::default()).await;
    let (runs, _) = runs.expect("works");
    let runs: Vec<String> = runs.iter().map(|run| run.occurrence.to_string()).collect();
    assert_eq!(runs, [date], "what prepares a run is none");
}

async fn what_no_run_takes_is_removed_a_day_later<S: WorkQueue + BatchStore>(
    store: &S,
    items: &[ItemId],
) {
    let token = Uuid::from_u128(104);
    let end = async |new: &NewBatch| {
        let ends = [result(&items[0], ItemStatus::NothingToDo)];
        assert_eq!(commit(store, &new.chunks[0], token, &ends).await, 1);
    };
    let date = "2026-10-04";
    let new = preparing(store, date, at("2026-10-03T21:00:00Z"), items, token).await;
    let work = (
        Fingerprint::new([3; 16]),
        PreparedWork::Output(json!("text")),
    );
    assert!(keep(store, &new.chunks[0], token, &items[0], work).await);
    end(&new).await;
    for (now, other, left) in [
        ("2026-10-05T09:00:00Z", "2026-10-05", 1),
        ("2026-10-05T09:00:01Z", "2026-10-06", 0),
    ] {
        // Whatever is queued removes it: its own job may prepare no more.
        let other = batch("daily 09:00 UTC", now, other, items);
        enqueue(store, &other, at(now)).await;
        assert_eq!(claim(store, &other.chunks[0], token).await, items);
        end(&other).await;
        assert_eq!(states(store, date, items).await.len(), left, "{now}");
    }
}
