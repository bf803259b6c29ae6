//! Items that wait, on both databases: the suite of the port, what comes at one time, and how many statements it takes.

use std::collections::BTreeMap;

use chrono::{DateTime, TimeDelta, Utc};
use futures::future::join_all;
use punctual_application::{
    ports::{
        Attempts, BatchReader, BatchStore, ChunkQueue, ClaimLimits, Clock, Page, Settled,
        Settlement, Stage, SystemClock, WaitingFilter, WaitingItem, WaitingItems, WorkQueue,
    },
    testing::contract,
};
use punctual_domain::{BatchStatus, ItemId, ItemResult, ItemStatus, NewBatch, PurposeId, Waiting};
use uuid::Uuid;

#[cfg(feature = "postgres")]
use super::database;
use super::{batch, claimant, firing, in_file, items, succeeded};
use crate::{
    Store,
    driver::{STATEMENTS, values},
};

on_both! {
    keeps_the_contract_of_what_waits
    many_calls_begin_and_end_by_few_statements
    calls_that_are_asked_for_at_once_are_looked_up_by_one_statement
    settlements_at_one_time_end_a_call_once_and_the_batch
    a_cancellation_beside_settlements_leaves_nothing_parked
    calls_that_are_due_are_leased_once_though_two_ask
    each_portion_of_what_is_called_again_takes_the_earliest
    processes_that_draw_the_key_at_once_agree
    an_outcome_of_another_chunk_stands
    a_chunk_that_cannot_be_read_forgets_what_waits
    a_call_that_cannot_be_read_fails_and_stops_no_other
    a_result_of_an_item_that_does_not_end_is_refused
}

async fn keeps_the_contract_of_what_waits(store: Store) {
    contract::waiting_items(&store, &store).await;
}

/// Items that begin to wait, and their calls.
fn begins(items: &[ItemId], now: DateTime<Utc>) -> Vec<WaitingItem> {
    let begin = |item: &ItemId| WaitingItem {
        call_id: Uuid::new_v4(),
        item_id: item.clone(),
        purpose_id: PurposeId::new("render").unwrap(),
        stage: Stage::Only,
        attempts: Attempts {
            made: 1,
            ..Attempts::default()
        },
        preference: None,
        started_at: now,
        since: now,
        waiting: Waiting::until(now + TimeDelta::hours(1)),
    };
    items.iter().map(begin).collect()
}

/// A batch of one job all of whose items wait, and their calls.
async fn waiting(store: &Store, now: DateTime<Utc>, batch: &NewBatch) -> Vec<Uuid> {
    let queued = store.enqueue(firing(vec![batch.clone()]), now).await;
    queued.unwrap();
    let mut calls = Vec::new();
    for chunk in &batch.chunks {
        let claimant = claimant();
        store.claim(chunk, claimant, now).await.unwrap();
        let begins = begins(&chunk.items, now);
        let begun = store.begin_waiting(chunk, claimant.token, &begins).await;
        assert!(begun.unwrap().finished);
        calls.extend(begins.iter().map(|item| item.call_id));
    }
    calls
}

fn ends(calls: &[Uuid], now: DateTime<Utc>) -> Vec<(Uuid, Settlement)> {
    let any = items(0..1).remove(0);
    let result = succeeded(&any, serde_json::json!("done"), now);
    let end = |call: &Uuid| (*call, Settlement::End(Box::new(result.clone())));
    calls.iter().map(end).collect()
}

async fn settle(store: &Store, settlements: &[(Uuid, Settlement)]) -> Vec<Settled> {
    let settled = store.settle_calls(settlements, SystemClock.now());
    settled.await.unwrap()
}

async fn rows(store: &Store) -> i64 {
    let sql = "SELECT count(*) FROM @waiting_items";
    let rows: Vec<i64> = store.database.fetch(sql, values![]).await.unwrap();
    rows[0]
}

async fn many_calls_begin_and_end_by_few_statements(store: Store) {
    let now = SystemClock.now();
    let mut statements = Vec::new();
    for number in [2, 500] {
        let due = now - TimeDelta::minutes(number);
        let batch = batch("job", due, &items(0..number as usize), 500);
        let queued = store.enqueue(firing(vec![batch.clone()]), now).await;
        queued.unwrap();
        let (chunk, claimant) = (&batch.chunks[0], claimant());
        store.claim(chunk, claimant, now).await.unwrap();
        let begins = begins(&chunk.items, now);
        let before = STATEMENTS.get();
        let begun = store.begin_waiting(chunk, claimant.token, &begins).await;
        assert!(begun.unwrap().finished);
        let began = STATEMENTS.get() - before;
        let calls: Vec<Uuid> = begins.iter().map(|item| item.call_id).collect();
        let mut settlements = ends(&calls, now);
        // One of them fails.
        if let (_, Settlement::End(result)) = &mut settlements[0] {
            result.status = ItemStatus::Failed;
            result.error = Some("down".to_owned());
        }
        let before = STATEMENTS.get();
        let settled = settle(&store, &settlements).await;
        assert!(settled.iter().all(|one| *one == Settled::Taken));
        statements.push((began, STATEMENTS.get() - before));
        let ended = store.batch(batch.batch_id).await.unwrap().unwrap();
        assert_eq!(ended.status, BatchStatus::Completed);
        assert_eq!((ended.failed, ended.processed()), (1, number as u64));
    }
    assert_eq!(statements[0], statements[1]);
    let (began, ended) = statements[0];
    assert!(began <= 4 && ended <= 7, "{statements:?}");
    assert_eq!(rows(&store).await, 0);
}

async fn calls_that_are_asked_for_at_once_are_looked_up_by_one_statement(store: Store) {
    let now = SystemClock.now();
    let calls = waiting(&store, now, &batch("job", now, &items(0..60), 60)).await;
    let damage = "UPDATE @waiting_items SET at_deadline = 'wonder' WHERE tenant_id = 't0'";
    store.database.execute(damage, values![]).await.unwrap();
    let unknown = Uuid::new_v4();
    let asked = [&calls[..], &[calls[1], unknown]].concat();
    let before = STATEMENTS.get();
    let mut found = join_all(asked.iter().map(|call| store.waiting_call(*call))).await;
    assert_eq!(STATEMENTS.get() - before, 1);
    let error = found.remove(0).unwrap_err();
    assert!(error.to_string().contains("wonder"), "{error}");
    for (call, found) in asked[1..].iter().zip(found) {
        let found = found.unwrap().map(|found| found.call_id);
        assert_eq!(found, (*call != unknown).then_some(*call));
    }
}

async fn settlements_at_one_time_end_a_call_once_and_the_batch(store: Store) {
    let now = SystemClock.now();
    // The last two items are of one chunk, and of two.
    for round in 0..12 {
        let due = now - TimeDelta::minutes(round);
        let size = if round % 2 == 0 { 1 } else { 2 };
        let batch = batch("job", due, &items(0..2), size);
        let calls = waiting(&store, now, &batch).await;
        let one = ends(&calls[..1], now);
        let both = ends(&[calls[1], calls[0]], now);
        let (first, second, third) = tokio::join!(
            settle(&store, &one),
            settle(&store, &both[..1]),
            settle(&store, &both)
        );
        let taken = [first, second, third].concat();
        let taken = taken.iter().filter(|one| **one == Settled::Taken).count();
        assert_eq!(taken, 2, "each of two calls once");
        let ended = store.batch(batch.batch_id).await.unwrap().unwrap();
        assert_eq!((ended.status, ended.succeeded), (BatchStatus::Completed, 2));
    }
    assert_eq!(rows(&store).await, 0);
}

async fn a_cancellation_beside_settlements_leaves_nothing_parked(store: Store) {
    let now = SystemClock.now();
    let limits = ClaimLimits::new(100);
    for round in 0..12 {
        let due = now - TimeDelta::minutes(round);
        let batch = batch("job", due, &items(0..6), 2);
        let queued = store.enqueue(firing(vec![batch.clone()]), now).await;
        queued.unwrap();
        let mut claims = Vec::new();
        for chunk in &batch.chunks {
            let claimant = claimant();
            store.claim(chunk, claimant, now).await.unwrap();
            claims.push((chunk, claimant.token, begins(&chunk.items, now)));
        }
        let (chunk, token, first) = &claims[0];
        let begun = store.begin_waiting(chunk, *token, first).await;
        assert!(begun.unwrap().finished);
        let calls: Vec<Uuid> = first.iter().map(|item| item.call_id).collect();
        let settlements = ends(&calls, now);
        let begin = async |number: usize| {
            let (chunk, token, items) = &claims[number];
            store.begin_waiting(chunk, *token, items).await.unwrap()
        };
        let (cancelled, _, _, _) = tokio::join!(
            store.cancel(batch.batch_id),
            begin(1),
            begin(2),
            settle(&store, &settlements)
        );
        assert!(cancelled.unwrap());
        // All that is left is given, to be skipped.
        loop {
            let next = store.claim_next(Uuid::new_v4(), &limits, now).await;
            let next = next.unwrap();
            if next.is_empty() {
                break;
            }
            for one in next {
                assert!(one.claim.cancelled);
                let skip = |item: &ItemId| ItemResult {
                    status: ItemStatus::Skipped,
                    output: None,
                    error: Some("cancelled".to_owned()),
                    ..succeeded(item, serde_json::Value::Null, now)
                };
                let skipped: Vec<ItemResult> = one.claim.items.iter().map(skip).collect();
                let committed = store.commit(&one.chunk, one.token, &skipped).await;
                assert!(committed.unwrap().finished);
            }
        }
        let ended = store.batch(batch.batch_id).await.unwrap().unwrap();
        assert_eq!(ended.status, BatchStatus::Cancelled);
        assert!(ended.finished_at.is_some(), "{ended:?}");
        assert_eq!((ended.processed(), ended.waiting), (6, 0));
    }
    assert_eq!(rows(&store).await, 0);
}

async fn calls_that_are_due_are_leased_once_though_two_ask(store: Store) {
    let now = SystemClock.now();
    let batch = batch("job", now, &items(0..60), 10);
    let mut calls = waiting(&store, now, &batch).await;
    let (deadline, lease) = (now + TimeDelta::hours(1), TimeDelta::minutes(1));
    let (one, other) = tokio::join!(
        store.due(deadline, lease, 40),
        store.due(deadline, lease, 40)
    );
    let third = store.due(deadline, lease, 40).await;
    let due = [one, other, third].map(|due| due.unwrap().calls);
    let mut due: Vec<Uuid> = due.into_iter().flatten().map(|one| one.call_id).collect();
    due.sort();
    calls.sort();
    assert_eq!(due, calls, "each of them once");

    // What is called again is queued once.
    let again: Vec<(Uuid, Settlement)> = calls
        .iter()
        .map(|call| {
            let again = Settlement::CallAgain {
                at: deadline,
                refused: 0,
            };
            (*call, again)
        })
        .collect();
    assert_eq!(settle(&store, &again).await, [Settled::Taken; 60]);
    let (one, other) = tokio::join!(
        store.due(deadline, lease, 40),
        store.due(deadline, lease, 40)
    );
    assert!(one.unwrap().calls.is_empty() && other.unwrap().calls.is_empty());
    assert_eq!(store.waiting_counts().await.unwrap(), BTreeMap::new());
    let limits = ClaimLimits::new(100);
    let claimed = store.claim_next(Uuid::new_v4(), &limits, now).await;
    let claimed = claimed.unwrap();
    let items: usize = claimed.iter().map(|one| one.claim.resumed.len()).sum();
    assert_eq!((claimed.len(), items), (6, 60));
    for one in claimed {
        let done = one.claim.items.iter();
        let done = done.map(|item| succeeded(item, serde_json::json!("done"), now));
        let done: Vec<ItemResult> = done.collect();
        let committed = store.commit(&one.chunk, one.token, &done).await;
        assert!(committed.unwrap().finished);
    }
    assert_eq!(rows(&store).await, 0);
    let ended = store.batch(batch.batch_id).await.unwrap().unwrap();
    assert_eq!(
        (ended.status, ended.succeeded),
        (BatchStatus::Completed, 60)
    );
}

/// Of many that are due, a portion leaves those that were to be called later to the next one, also of its own chunks: a statement
/// that read all that are due would do so for each portion.
async fn each_portion_of_what_is_called_again_takes_the_earliest(store: Store) {
    let now = SystemClock.now();
    let calls = waiting(&store, now, &batch("job", now, &items(0..3), 3)).await;
    let again = |(number, call): (i64, &Uuid)| {
        let at = now + TimeDelta::seconds(number);
        (*call, Settlement::CallAgain { at, refused: 0 })
    };
    let again: Vec<(Uuid, Settlement)> = (0..).zip(&calls).map(again).collect();
    assert_eq!(settle(&store, &again).await, [Settled::Taken; 3]);
    let later = now + TimeDelta::minutes(1);
    for left in [2, 1, 0] {
        assert_eq!(store.resume(later, 1).await.unwrap(), 1);
        let sql = "SELECT count(*) FROM @waiting_items WHERE phase = 2";
        let still: Vec<i64> = store.database.fetch(sql, values![]).await.unwrap();
        assert_eq!(still, [left]);
    }
    assert_eq!(store.resume(later, 1).await.unwrap(), 0, "nothing is left");
    let limits = ClaimLimits::new(100);
    let claimed = store.claim_next(Uuid::new_v4(), &limits, now).await;
    assert_eq!(claimed.unwrap()[0].claim.resumed.len(), 3);
}

async fn processes_that_draw_the_key_at_once_agree(store: Store) {
    let (one, other) = tokio::join!(store.completion_key(), store.completion_key());
    let key = one.unwrap();
    assert_eq!(other.unwrap(), key);
    assert_eq!(store.completion_key().await.unwrap(), key);
    let damage = "UPDATE @secrets SET value = 'abc'";
    store.database.execute(damage, values![]).await.unwrap();
    let error = store.completion_key().await.unwrap_err().to_string();
    assert!(error.contains("`completion_key` is damaged"), "{error}");
}

async fn an_outcome_of_another_chunk_stands(store: Store) {
    let now = SystemClock.now();
    let batch = batch("job", now, &items(0..3), 3);
    let calls = waiting(&store, now, &batch).await;
    let double = "INSERT INTO @results (run, tenant_id, chunk, status, attempts, started_at)
         SELECT run, 't1', 999, 1, 1, 0 FROM @runs";
    store.database.execute(double, values![]).await.unwrap();
    let settled = settle(&store, &ends(&calls, now)).await;
    let expected = [Settled::Taken, Settled::NotWaiting, Settled::Taken];
    assert_eq!(settled, expected);
    let ended = store.batch(batch.batch_id).await.unwrap().unwrap();
    assert_eq!((ended.succeeded, ended.skipped), (2, 1));
    assert_eq!(ended.status, BatchStatus::Completed);
    assert_eq!(rows(&store).await, 0);
}

async fn a_chunk_that_cannot_be_read_forgets_what_waits(store: Store) {
    let now = SystemClock.now();
    let batch = batch("job", now, &items(0..2), 2);
    let calls = waiting(&store, now, &batch).await;
    let again = Settlement::CallAgain {
        at: now,
        refused: 0,
    };
    let again = settle(&store, &[(calls[0], again)]).await;
    assert_eq!(again, [Settled::Taken]);
    let minute = TimeDelta::minutes(1);
    store.due(now, minute, 9).await.unwrap();
    let damage = "UPDATE @chunk_messages SET message = 'not JSON'";
    store.database.execute(damage, values![]).await.unwrap();
    let limits = ClaimLimits::new(8);
    let claimed = store.claim_next(Uuid::new_v4(), &limits, now).await;
    assert_eq!(claimed.unwrap(), []);
    assert_eq!(rows(&store).await, 0);
    let late = settle(&store, &ends(&calls, now)).await;
    assert_eq!(late, [Settled::NotWaiting; 2]);
    let ended = store.batch(batch.batch_id).await.unwrap().unwrap();
    assert_eq!((ended.failed, ended.waiting), (2, 0));
    assert!(ended.finished_at.is_some());
}

/// The words of a later version, or a row that was edited.
async fn a_call_that_cannot_be_read_fails_and_stops_no_other(store: Store) {
    let now = SystemClock.now();
    let batch = batch("job", now, &items(0..3), 3);
    let calls = waiting(&store, now, &batch).await;
    for damage in [
        "UPDATE @waiting_items SET at_deadline = 'wonder' WHERE tenant_id = 't0'",
        "UPDATE @waiting_items SET state = 'not JSON' WHERE tenant_id = 't1'",
    ] {
        store.database.execute(damage, values![]).await.unwrap();
    }
    let error = store.waiting_call(calls[0]).await.unwrap_err();
    assert!(error.to_string().contains("wonder"), "{error}");
    let (filter, page) = (WaitingFilter::default(), Page::default());
    let (listed, _) = store.waiting_calls(&filter, &page).await.unwrap();
    let listed: Vec<Uuid> = listed.iter().map(|call| call.call_id).collect();
    assert!(!listed.contains(&calls[0]) && listed.contains(&calls[2]));

    let (deadline, lease) = (now + TimeDelta::hours(1), TimeDelta::minutes(1));
    let due = store.due(deadline, lease, 40).await.unwrap();
    let due: Vec<Uuid> = due.calls.iter().map(|call| call.call_id).collect();
    assert_eq!(due, calls[2..]);
    let late = settle(&store, &ends(&calls, now)).await;
    let expected = [Settled::NotWaiting, Settled::NotWaiting, Settled::Taken];
    assert_eq!(late, expected);
    let ended = store.batch(batch.batch_id).await.unwrap().unwrap();
    assert_eq!((ended.failed, ended.succeeded), (2, 1));
    assert_eq!(ended.status, BatchStatus::Completed);
    assert_eq!(rows(&store).await, 0);
}

async fn a_result_of_an_item_that_does_not_end_is_refused(store: Store) {
    let now = SystemClock.now();
    let calls = waiting(&store, now, &batch("job", now, &items(0..1), 1)).await;
    let mut settlements = ends(&calls, now);
    if let (_, Settlement::End(result)) = &mut settlements[0] {
        result.status = ItemStatus::Skipped;
    }
    let refused = store.settle_calls(&settlements, now).await;
    let refused = refused.unwrap_err().to_string();
    assert!(refused.contains("`skipped`"), "{refused}");
    let found = store.waiting_call(calls[0]).await.unwrap();
    assert!(found.is_some(), "nothing has changed");
}
