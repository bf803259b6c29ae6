//! The fence on both databases: the suite of the port, what a held store does not give out, and what is skipped.

use chrono::{DateTime, TimeDelta, Utc};
use punctual_application::{
    ports::{
        ChunkQueue, ClaimLimits, ClaimedChunk, Clock, Fence, FenceState, Leadership,
        StoreErrorKind, SystemClock, WorkQueue,
    },
    testing::contract,
};
use punctual_domain::{
    Delivery, FenceMark, KnownMarks, NewBatch, RestoreChoice, StoredPosition, Trigger,
};
use uuid::Uuid;

#[cfg(feature = "postgres")]
use super::database;
use super::{batch, firing, in_file, items};
use crate::{Store, driver::values};

on_both! {
    keeps_the_contract_of_the_fence
    a_held_store_gives_nothing_out_until_it_goes_on
    skipped_is_what_was_due_by_the_end_of_the_gap
    what_falls_due_after_the_decision_is_not_skipped
}

async fn keeps_the_contract_of_the_fence(store: Store) {
    contract::fence(&store).await;
}

/// Has the store lack the time from now until an hour later.
async fn hold(store: &Store, now: DateTime<Utc>) {
    let mut known = KnownMarks::default();
    let FenceState::Marked(mark) = store.mark(&known, now).await.unwrap() else {
        panic!("the store is held");
    };
    known.note(FenceMark {
        number: mark.number + 10,
        at: now + TimeDelta::hours(1),
        ..mark
    });
    let state = store.mark(&known, now).await.unwrap();
    assert!(matches!(state, FenceState::Held(_)));
}

async fn claimed(store: &Store, now: DateTime<Utc>) -> Vec<ClaimedChunk> {
    let limits = ClaimLimits::new(100);
    store
        .claim_next(Uuid::new_v4(), &limits, now)
        .await
        .unwrap()
}

async fn a_held_store_gives_nothing_out_until_it_goes_on(store: Store) {
    let now = SystemClock.now();
    let queued = batch("a", now, &items(0..2), 10);
    store
        .enqueue(firing(vec![queued.clone()]), now)
        .await
        .unwrap();
    hold(&store, now).await;
    assert_eq!(claimed(&store, now).await.len(), 0);
    assert_eq!(store.survey(now).await.unwrap().waiting, []);
    let term = std::time::Duration::from_mins(1);
    let leads = store.lead(Uuid::new_v4(), term).await.unwrap();
    assert_eq!(leads, Leadership::Refused);
    // A process that was planning meanwhile.
    let mut planned = firing(vec![batch("b", now, &items(0..2), 10)]);
    planned.positions.push(StoredPosition {
        job_id: queued.job_id.clone(),
        planned_until: now,
        high_water_mark: now,
        snapshot_at: None,
        began: None,
        placement: None,
    });
    let refused = store.enqueue(planned.clone(), now).await.unwrap_err();
    assert_eq!(refused.kind(), StoreErrorKind::Conflict);

    let ended = store.end_hold(RestoreChoice::Repeat, now).await.unwrap();
    assert_eq!(ended.unwrap().cancelled_batches, 0);
    assert_ne!(
        store.lead(Uuid::new_v4(), term).await.unwrap(),
        Leadership::Refused
    );
    store.enqueue(planned, now).await.unwrap();
    let claimed = claimed(&store, now).await;
    assert_eq!(claimed.len(), 2);
    assert!(claimed.iter().all(|one| !one.claim.cancelled));
}

async fn skipped_is_what_was_due_by_the_end_of_the_gap(store: Store) {
    let now = SystemClock.now();
    let minutes = |minutes| now + TimeDelta::minutes(minutes);
    let due = |job: &str, at| {
        let mut due = batch(job, minutes(at), &items(0..2), 10);
        due.deliver_to = vec![Delivery::Sink("warehouse".into())];
        due
    };
    let before = vec![due("old", -30), due("later", 90)];
    store.enqueue(firing(before), now).await.unwrap();
    hold(&store, now).await;
    let ended = store
        .end_hold(RestoreChoice::Skip, minutes(90))
        .await
        .unwrap()
        .unwrap();
    assert_eq!((ended.cancelled_batches, ended.given_up_deliveries), (1, 1));
    // What is planned only now, and what somebody asks for.
    let triggered = |job, at, trigger| NewBatch {
        trigger,
        ..due(job, at)
    };
    let planned = vec![
        due("lost", 60),
        due("new", 61),
        triggered("asked", 20, Trigger::Manual),
        triggered("late", 30, Trigger::LateChange),
    ];
    store.enqueue(firing(planned), now).await.unwrap();
    let claimed = claimed(&store, now).await;
    let mut found: Vec<_> = claimed
        .iter()
        .map(|one| {
            (
                one.chunk.job_id.as_str(),
                one.claim.cancelled,
                one.claim.restored,
            )
        })
        .collect();
    found.sort_unstable();
    let runs = |job| (job, false, false);
    let skipped = |job| (job, true, true);
    assert_eq!(
        found,
        [
            runs("asked"),
            skipped("late"),
            runs("later"),
            skipped("lost"),
            runs("new"),
            skipped("old")
        ]
    );
    // Results of what is skipped do not take the place of those that went there before.
    let given_up = "SELECT b.job_id FROM @deliveries d JOIN @batches b ON b.batch_id = d.batch_id
         WHERE d.state = 'given_up' AND d.reason LIKE 'the store was restored%' ORDER BY b.job_id";
    let given_up: Vec<String> = store.database.fetch(given_up, values![]).await.unwrap();
    assert_eq!(given_up, ["late", "lost", "old"]);
}

/// The clock was ahead when the last mark was made.
async fn what_falls_due_after_the_decision_is_not_skipped(store: Store) {
    let now = SystemClock.now();
    let minutes = |minutes| now + TimeDelta::minutes(minutes);
    let due = |job: &str, at| batch(job, minutes(at), &items(0..2), 10);
    let before = vec![due("old", -30), due("later", 20)];
    store.enqueue(firing(before), now).await.unwrap();
    hold(&store, now).await;
    let ended = store.end_hold(RestoreChoice::Skip, minutes(10)).await;
    assert_eq!(ended.unwrap().unwrap().cancelled_batches, 1);
    let planned = vec![due("lost", 10), due("new", 11)];
    store.enqueue(firing(planned), now).await.unwrap();
    let claimed = claimed(&store, now).await;
    let restored = claimed.iter().filter(|one| one.claim.restored);
    let mut restored: Vec<&str> = restored.map(|one| one.chunk.job_id.as_str()).collect();
    restored.sort_unstable();
    assert_eq!(restored, ["lost", "old"]);
}
