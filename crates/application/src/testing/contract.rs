//! What every adapter of a port must do, one file per port. Each adapter runs the suite of its port, and so does the
//! fake: a promise that a suite does not check is one that a fake may break.
//!
//! The suites are functions rather than tests, so that an adapter of your own, in a crate of yours, is held to them too:
//!
//! ```no_run
//! # async fn example() {
//! use punctual_application::testing::{FakeStore, contract};
//!
//! let store = FakeStore::default(); // or a store of yours, empty
//! contract::store(&store, &store).await;
//! # }
//! ```

mod alerts;
mod batch_reader;
mod batch_store;
mod chunk_queue;
mod clock;
mod config_database;
mod deliveries;
mod fence;
mod item_source;
mod kept_outputs;
mod operations;
mod operator_keys;
mod preference_mirror;
mod prepared_outputs;
mod previous;
mod purpose_handler;
mod result_sink;
mod retention;
mod run_history;
mod suppressions;
mod tenant_data;
mod tenant_records;
mod waiting_items;
mod work_queue;

use std::pin::pin;

use chrono::{DateTime, Utc};
use punctual_domain::{
    BatchStatus, Chunk, FailureKind, Firing, ItemId, ItemResult, ItemStatus, JobId, NewBatch,
    Priority, StoredPosition, Trigger,
};
use serde_json::json;
use uuid::Uuid;

pub use self::{
    alerts::alerts,
    clock::clock,
    config_database::{FEATURE, Writable, config_database},
    deliveries::deliveries,
    fence::fence,
    item_source::{ITEMS, item_source},
    operations::operations,
    operator_keys::operator_keys,
    preference_mirror::preference_mirror,
    purpose_handler::{Answer, Remote, purpose_handler},
    result_sink::{Receiver, result_sink},
    retention::retention,
    run_history::run_history,
    suppressions::suppressions,
    tenant_data::{DATA, tenant_data},
    tenant_records::tenant_records,
    waiting_items::waiting_items,
};
use crate::ports::{
    BatchReader, BatchStore, ChunkQueue, Claim, Claimant, Page, ResultFilter, WorkQueue,
};

fn at(text: &str) -> DateTime<Utc> {
    text.parse().expect("RFC 3339")
}

fn job() -> JobId {
    JobId::new("job").expect("valid")
}

fn tenants(range: std::ops::Range<usize>) -> Vec<ItemId> {
    range
        .map(|n| ItemId::new(format!("user{n:04}")).expect("valid"))
        .collect()
}

fn batch(slot: &str, scheduled_at: &str, occurrence: &str, items: &[ItemId]) -> NewBatch {
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
    let position = StoredPosition {
        job_id: job(),
        planned_until: batch.scheduled_at,
        high_water_mark: batch.scheduled_at,
        snapshot_at: Some(batch.scheduled_at),
        began: Some(batch.scheduled_at),
        placement: Some("{}".into()),
    };
    Firing {
        batches: vec![batch.clone()],
        positions: vec![position],
    }
}

/// When results of these tests end.
const ENDED: &str = "2026-03-01T09:00:02.000123Z";

fn result(tenant: &ItemId, status: ItemStatus) -> ItemResult {
    ItemResult {
        item_id: tenant.clone(),
        status,
        failure_kind: (status == ItemStatus::Failed).then_some(FailureKind::Handler),
        attempts: 1,
        preference: Some(std::sync::Arc::new(json!({"enabled": true}))),
        output: (status == ItemStatus::Succeeded).then(|| json!({"text": tenant.as_str()})),
        error: (status != ItemStatus::Succeeded).then(|| "because".to_owned()),
        started_at: at("2026-03-01T09:00:01Z"),
        finished_at: Some(at(ENDED)),
        waiting: None,
    }
}

/// After so many polls the suites drop a call.
const POLLS: [usize; 6] = [0, 1, 2, 5, 20, 100];

/// Drops a call after so many polls, as a time limit does.
async fn cut_off<T>(call: impl Future<Output = T>, polls: usize) {
    let mut call = pin!(call);
    for _ in 0..polls {
        if futures::poll!(&mut call).is_ready() {
            return;
        }
        tokio::task::yield_now().await;
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

/// Checks the ports [`WorkQueue`], [`ChunkQueue`], [`BatchStore`] and [`BatchReader`] of an empty store.
///
/// # Panics
/// It breaks a promise.
pub async fn store<S: WorkQueue + ChunkQueue + BatchStore>(store: &S, reader: &dyn BatchReader) {
    let tested = &Tested { store, reader };
    work_queue::batches_and_progress_are_stored_together_and_once(tested).await;
    batch_store::a_chunk_is_claimed_committed_and_finished(tested).await;
    batch_store::a_second_delivery_takes_only_what_is_not_done_and_fences_off_the_first(tested)
        .await;
    batch_store::one_run_per_job_tenant_and_date_whatever_the_batch(tested).await;
    batch_reader::lists_are_paged_without_losing_or_repeating(tested).await;
    batch_store::deliveries_that_end_with_their_process_are_counted(tested).await;
    batch_store::who_runs_alone_is_remembered(tested).await;
    work_queue::a_cancelled_batch_says_so_and_ends(tested).await;
    work_queue::dead_letters_are_replayed_once_or_discarded(tested).await;
    batch_store::what_was_skipped_is_run_by_a_later_batch_and_every_count_stays(tested).await;
    work_queue::a_late_change_leaves_out_what_was_settled(tested).await;
    work_queue::a_replay_that_is_skipped_opens_its_dead_letter_again(tested).await;
    batch_store::who_is_running_is_known_to_other_occurrences(tested).await;
    batch_store::what_had_nothing_to_do_has_run_and_is_counted_by_itself(tested).await;
    batch_store::a_failure_keeps_its_kind_and_runs_again(tested).await;
    kept_outputs::what_the_first_purpose_made_is_kept_until_its_item_has_ended_well(tested).await;
    previous::the_last_success_that_was_due_before_is_found(tested).await;
    prepared_outputs::what_was_prepared_is_kept_for_its_run(tested).await;
    chunk_queue::chunks_wait_until_they_are_claimed_and_are_claimed_once(tested).await;
    chunk_queue::limits_pauses_and_rests_are_kept(tested).await;
    chunk_queue::claims_of_a_process_that_has_died_are_released_and_count(tested).await;
    chunk_queue::missed_runs_of_a_tenant_are_claimed_in_the_order_of_their_times(tested).await;
    chunk_queue::a_cancelled_run_waits_for_none_and_the_next_one_waits_for_the_first(tested).await;
    chunk_queue::chunks_that_are_claimed_together_have_each_item_once(tested).await;
    chunk_queue::a_cancelled_batch_of_a_paused_job_ends_and_the_rest_of_the_job_waits(tested).await;
    work_queue::a_shard_is_kept_and_changes_only_from_a_later_date_on(tested).await;
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

async fn claim<S: BatchStore>(store: &S, chunk: &Chunk, token: Uuid) -> Vec<ItemId> {
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
    items: &[ItemId],
    token: Uuid,
) -> (NewBatch, Claim) {
    let due = format!("{date}T09:00:00Z");
    let new = batch("daily 09:00 UTC", &due, date, items);
    store.enqueue(firing(&new), at(&due)).await.expect("works");
    let claim = claim_by(store, &new.chunks[0], HERE, token).await;
    (new, claim)
}

/// A batch as it counts: its status, and how many of its items succeeded, failed and were skipped.
async fn counts(reader: &dyn BatchReader, batch_id: Uuid) -> (BatchStatus, u64, u64, u64) {
    let batch = reader.batch(batch_id).await.expect("works");
    let batch = batch.expect("stored");
    (batch.status, batch.succeeded, batch.failed, batch.skipped)
}

/// The results of a batch, as tenant and status.
async fn outcomes(reader: &dyn BatchReader, batch_id: Uuid) -> Vec<(ItemId, ItemStatus)> {
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
        .map(|stored| (stored.result.item_id, stored.result.status))
        .collect()
}

fn asked_for(trigger: Trigger, date: &str, items: &[ItemId]) -> NewBatch {
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
