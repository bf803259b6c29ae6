//! What the port [`ResultSink`] promises: what it was given is there, however often it came, and an attempt that failed
//! or was dropped can be made again.

use std::collections::BTreeSet;

use async_trait::async_trait;
use punctual_domain::{Batch, BatchStatus, ItemId, ItemStatus, KeyForm, Trigger};
use serde_json::json;
use uuid::Uuid;

use super::{POLLS, at, cut_off, job, result, tenants};
use crate::ports::{ResultSink, StoredResult};

/// The receiving end of the sink under test.
#[async_trait]
pub trait Receiver: Sync {
    /// The [`StoredResult::delivery_id`] of what has arrived, each once, in the order in which it came first.
    async fn received(&self) -> Vec<String>;

    /// Makes it unable to take anything, or able again.
    async fn set_down(&self, down: bool);
}

/// Checks a sink that has not been given anything.
///
/// # Panics
/// It breaks a promise.
pub async fn result_sink(sink: &dyn ResultSink, receiver: &dyn Receiver) {
    let batch = batch(1);
    let pages = [results(&batch, 0..3), results(&batch, 3..4)];

    // Pages arrive in their order, and again is as good as once.
    take(sink, &batch, &pages[0], false).await;
    take(sink, &batch, &pages[0], false).await;
    take(sink, &batch, &pages[1], true).await;
    take(sink, &batch, &pages[1], true).await;
    let received = receiver.received().await;
    assert_eq!(received.len(), 4, "each once: {received:?}");
    let (first, last) = received.split_at(3);
    assert_eq!(ids(first), delivery_ids(&pages[0]), "the first page");
    assert_eq!(ids(last), delivery_ids(&pages[1]), "the last page");

    // A batch may have no results, for example one that was cancelled.
    take(sink, &batch, &[], true).await;
    assert_eq!(receiver.received().await, received);

    // A run whose failure was delivered has another result once a replay has succeeded.
    let replay = self::batch(2);
    let replayed = results(&replay, 0..3);
    take(sink, &replay, &replayed, true).await;
    let mut expected = ids(&received);
    expected.extend(delivery_ids(&replayed));
    assert_eq!(ids(&receiver.received().await), expected);

    // A receiver that is down is a retryable error, and nothing is lost.
    let later = results(&self::batch(3), 0..500);
    receiver.set_down(true).await;
    let failed = sink.take(&self::batch(3), &later, true).await;
    let error = failed.expect_err("the receiver is down");
    assert!(error.is_retryable(), "{error}");
    assert_ne!(error.to_string(), "", "the error says what happened");
    receiver.set_down(false).await;
    take(sink, &self::batch(3), &later, true).await;
    expected.extend(delivery_ids(&later));
    assert_eq!(ids(&receiver.received().await), expected);

    // A call may be dropped at any point. The next one brings everything.
    for (number, polls) in (4..).zip(POLLS) {
        let batch = self::batch(number);
        let page = results(&batch, 0..20);
        cut_off(sink.take(&batch, &page, true), polls).await;
        take(sink, &batch, &page, true).await;
        expected.extend(delivery_ids(&page));
        assert_eq!(ids(&receiver.received().await), expected);
    }

    // Two processes may deliver at the same time.
    let (one, other) = (self::batch(20), self::batch(21));
    let (of_one, of_other) = (results(&one, 0..100), results(&other, 0..100));
    futures::join!(
        take(sink, &one, &of_one, true),
        take(sink, &other, &of_other, true)
    );
    expected.extend(delivery_ids(&of_one));
    expected.extend(delivery_ids(&of_other));
    assert_eq!(ids(&receiver.received().await), expected);
}

async fn take(sink: &dyn ResultSink, batch: &Batch, results: &[StoredResult], last: bool) {
    let taken = sink.take(batch, results, last).await;
    taken.expect("the receiver is up");
}

fn ids(of: &[String]) -> BTreeSet<String> {
    of.iter().cloned().collect()
}

fn delivery_ids(of: &[StoredResult]) -> BTreeSet<String> {
    of.iter().map(StoredResult::delivery_id).collect()
}

fn batch(number: u128) -> Batch {
    Batch {
        batch_id: Uuid::from_u128(number),
        job_id: job(),
        slot: "daily 09:00 UTC".to_owned(),
        scheduled_at: at("2026-03-01T09:00:00Z"),
        trigger: Trigger::Schedule,
        status: BatchStatus::Completed,
        total: 4,
        succeeded: 2,
        failed: 1,
        replayed: 0,
        skipped: 1,
        nothing_to_do: 0,
        waiting: 0,
        created_at: at("2026-03-01T09:00:00Z"),
        finished_at: Some(at("2026-03-01T09:05:00Z")),
    }
}

/// Results of every status and with everything that an output may hold.
fn results(batch: &Batch, tenants: std::ops::Range<usize>) -> Vec<StoredResult> {
    let stored = |(index, tenant): (usize, ItemId)| {
        let mut result = match index % 4 {
            0 | 3 => result(&tenant, ItemStatus::Succeeded),
            1 => result(&tenant, ItemStatus::Failed),
            _ => result(&tenant, ItemStatus::Skipped),
        };
        if result.output.is_some() {
            result.output =
                Some(json!({"text": "Grüße 🎉\r\n\u{0}\"'\\", "none": null, "n": [1.5]}));
        }
        StoredResult {
            job_id: batch.job_id.clone(),
            batch_id: batch.batch_id,
            occurrence: "2026-03-01".parse().expect("an occurrence"),
            scheduled_at: batch.scheduled_at,
            result,
            key_form: KeyForm::Slashes,
        }
    };
    let tenants = self::tenants(tenants);
    tenants.into_iter().enumerate().map(stored).collect()
}
