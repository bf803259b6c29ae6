//! What the port [`Retention`] promises.

use std::collections::BTreeMap;

use chrono::{DateTime, NaiveDate, TimeDelta, Utc};
use punctual_domain::{
    BatchStatus, DeadLetterState, Delivery, ItemId, ItemStatus, JobId, KeepDays, NewBatch,
    Previous, Trigger,
};
use uuid::Uuid;

use super::{asked_for, at, batch, claim, commit, counts, firing, job, outcomes, result};
use crate::ports::{
    AuditEntry, AuditFilter, BatchReader, BatchStore, DeadLetterFilter, Deliveries, OperatorStore,
    Page, Redelivery, RemovedKind, Retention, RetentionPolicy, WorkQueue,
};

/// Checks the retention of an empty store, which `reader` reads, too.
///
/// # Panics
/// It breaks a promise.
pub async fn retention<S: WorkQueue + BatchStore + OperatorStore + Deliveries>(
    store: &S,
    reader: &dyn BatchReader,
    retention: &dyn Retention,
) {
    use ItemStatus::{Failed, NothingToDo, Succeeded};
    let works = "the store answers";
    let keep = KeepDays {
        results: 10,
        failures: 30,
    };
    let policy = RetentionPolicy {
        jobs: [(job(), keep)].into(),
    };
    remembers(retention, &policy).await;
    // The job is not in effect.
    let remembered = retention.remembered().await.expect(works);
    let policy = RetentionPolicy::default().with_remembered(remembered);
    let [ann, bob, eve] = ["kept-ann", "kept-bob", "kept-eve"].map(|id| {
        let id = ItemId::new(id);
        id.expect("valid")
    });
    let mixed = NewBatch {
        deliver_to: vec![Delivery::File("given-up.ndjson".into())],
        ..daily("2026-08-01", &[&ann, &bob, &eve])
    };
    run(store, 1, &mixed, &[Succeeded, Failed, NothingToDo]).await;
    let lease = TimeDelta::minutes(1);
    let given_up = Deliveries::take(store, mixed.scheduled_at, lease, &[]).await;
    let given_up = given_up.expect(works).expect("it is due");
    let noted = Deliveries::postpone(store, &given_up, None, "no such folder").await;
    assert!(noted.expect(works));
    let delivered = NewBatch {
        deliver_to: vec![Delivery::File("out.ndjson".into())],
        ..daily("2026-08-02", &[&eve])
    };
    run(store, 2, &delivered, &[Succeeded]).await;
    let open = daily("2026-08-03", &[&ann]);
    store
        .enqueue(firing(&open), open.scheduled_at)
        .await
        .expect(works);
    let plain = daily("2026-08-05", &[&ann, &bob]);
    run(store, 3, &plain, &[Succeeded, Succeeded]).await;
    for written in ["2025-01-01T09:00:00Z", "2026-08-01T09:00:00Z"] {
        let entry = AuditEntry {
            at: at(written),
            by: "a test".into(),
            action: "pause".into(),
            subject: "kept".into(),
            detail: String::new(),
            reason: None,
        };
        store.record(&entry).await.expect(works);
    }
    assert_eq!(retention.begins_at().await.expect(works), None);
    assert_eq!(retention.jobs().await.expect(works), [job()]);
    assert!(
        retention
            .is_busy(at("2026-08-03T08:59:59Z"))
            .await
            .expect(works)
    );
    assert!(
        !retention
            .is_busy(at("2026-08-03T09:00:00Z"))
            .await
            .expect(works)
    );

    let mut removed = Removed::default();
    let removed_to = async || retention.removed_to(&job()).await.expect(works);
    let previous = async |item: &ItemId, due_at: &str| {
        let one = std::slice::from_ref(item);
        let found = store.previous(&job(), at(due_at), one).await.expect(works);
        let found: Option<Previous> = found.get(item).copied();
        found.map(|previous| previous.occurrence.to_string())
    };

    // Not a moment too early.
    removed
        .by_a_pass(retention, &policy, "2026-08-15T09:00:00Z")
        .await;
    assert_eq!(removed.0, [(RemovedKind::AuditLog, 1)].into());
    assert_eq!(removed_to().await, None);
    let (entries, _) = store
        .audit_log(&AuditFilter::default(), &Page::default())
        .await
        .expect(works);
    assert_eq!(entries.len(), 1, "a year has not passed");

    // Of a job that is not known, everything stays as long as usual failures.
    let unknown = RetentionPolicy::default();
    for now in ["2026-12-01T09:00:00Z", "2027-07-31T09:00:00Z"] {
        removed.by_a_pass(retention, &unknown, now).await;
        assert_eq!(removed.0, [(RemovedKind::AuditLog, 1)].into(), "{now}");
    }

    // What succeeded goes first, and what failed stays with its counts.
    let now = "2026-08-15T09:00:01Z";
    let removable = retention.removable(&policy, at(now)).await.expect(works);
    let results = removable
        .iter()
        .filter(|one| one.kind == RemovedKind::Results);
    let results: Vec<_> = results.collect();
    assert_eq!(results.len(), 1, "{removable:?}");
    assert_eq!(
        (results[0].rows, results[0].job_id.clone()),
        (2, Some(job()))
    );
    assert_eq!(results[0].oldest, Some(mixed.scheduled_at));
    assert!(results[0].bytes > 0);
    removed.by_a_pass(retention, &policy, now).await;
    assert_eq!(removed.0[&RemovedKind::Results], 2);
    let again = Redelivery {
        id: given_up.id,
        target: given_up.target.clone(),
        from_start: true,
    };
    let again = store.deliver_again(&[again], at(now), at(now)).await;
    assert_eq!(again.expect(works), 0, "what is left is not all of it");
    assert_eq!(removed_to().await, date("2026-08-01"));
    let left = outcomes(reader, mixed.batch_id).await;
    assert_eq!(left, [(bob.clone(), Failed)]);
    let (status, succeeded, failed, _) = counts(reader, mixed.batch_id).await;
    assert_eq!((status, succeeded, failed), (BatchStatus::Completed, 1, 1));
    let letters = async || {
        let all = DeadLetterFilter::default();
        reader.dead_letter_count(&all).await.expect(works)
    };
    assert_eq!(letters().await, 1);
    let first = previous(&ann, "2026-08-04T09:00:00Z").await;
    assert_eq!(first.as_deref(), Some("2026-08-01"), "still known");

    // What is to be delivered, and what is not over, stays however old it is.
    let now = "2026-08-30T09:00:00Z";
    removed.by_a_pass(retention, &policy, now).await;
    assert_eq!(removed_to().await, date("2026-08-05"));
    assert!(outcomes(reader, plain.batch_id).await.is_empty());
    let left = outcomes(reader, delivered.batch_id).await;
    assert_eq!(left, [(eve.clone(), Succeeded)]);
    for (item, due_at, last) in [
        (&ann, "2026-08-31T09:00:00Z", Some("2026-08-05")),
        (&bob, "2026-08-31T09:00:00Z", Some("2026-08-05")),
        (&bob, "2026-08-05T09:00:00Z", None),
        (&eve, "2026-08-31T09:00:00Z", Some("2026-08-02")),
    ] {
        assert_eq!(previous(item, due_at).await.as_deref(), last, "{item}");
    }
    let due = Deliveries::take(store, at(now), TimeDelta::minutes(1), &[]).await;
    let due = due.expect(works).expect("it has not been delivered");
    store.advance(&due, None, at(now)).await.expect(works);
    removed.by_a_pass(retention, &policy, now).await;
    assert!(outcomes(reader, delivered.batch_id).await.is_empty());
    let last = previous(&eve, "2026-08-31T09:00:00Z").await;
    assert_eq!(last.as_deref(), Some("2026-08-02"));

    // Failures go with their dead letters, and so does the batch.
    let now = "2026-09-10T09:00:00Z";
    removed.by_a_pass(retention, &policy, now).await;
    assert_eq!(letters().await, 0);
    assert!(store.open_dead_letters().await.expect(works).is_empty());
    let batch = reader.batch(mixed.batch_id).await.expect(works);
    assert!(batch.is_none(), "{batch:?}");

    // What was not over runs as ever, and is kept from its end on.
    let token = Uuid::from_u128(4);
    let chunk = &open.chunks[0];
    assert_eq!(claim(store, chunk, token).await, std::slice::from_ref(&ann));
    let mut ended = result(&ann, Succeeded);
    (ended.started_at, ended.finished_at) = (at(now), Some(at(now)));
    assert_eq!(commit(store, chunk, token, &[ended]).await, 1);
    removed
        .by_a_pass(retention, &policy, "2026-09-20T09:00:00Z")
        .await;
    assert_eq!(outcomes(reader, open.batch_id).await.len(), 1);
    let now = "2026-09-20T09:00:01Z";
    removed.by_a_pass(retention, &policy, now).await;
    assert!(outcomes(reader, open.batch_id).await.is_empty());
    let last = previous(&ann, "2026-09-20T09:00:00Z").await;
    assert_eq!(last.as_deref(), Some("2026-08-05"), "the last one stays");
    let last_pass = retention.removable(&policy, at("2026-10-30T09:00:00Z"));
    assert!(last_pass.await.expect(works).is_empty());
    removed
        .by_a_pass(retention, &policy, "2026-10-30T09:00:00Z")
        .await;
    let of_runs = [
        (RemovedKind::Results, 7),
        (RemovedKind::DeadLetters, 1),
        (RemovedKind::Batches, 4),
        (RemovedKind::Runs, 4),
    ];
    for (kind, rows) in of_runs {
        assert_eq!(removed.0.get(&kind), Some(&rows), "{kind:?}");
    }
    assert!(retention.jobs().await.expect(works).is_empty());
    let remembered = retention.remembered().await.expect(works);
    assert_eq!(remembered, policy, "also of a job without runs");
    a_failure_is_replayed_whose_result_has_just_been_removed(store, reader, retention, &policy)
        .await;
}

/// A dead letter goes after the result: in between, it is replayed as any other, and is open again if the item is skipped.
async fn a_failure_is_replayed_whose_result_has_just_been_removed<S: WorkQueue + BatchStore>(
    store: &S,
    reader: &dyn BatchReader,
    retention: &dyn Retention,
    policy: &RetentionPolicy,
) {
    let works = "the store answers";
    let items = ["half-ann", "half-bob"].map(|id| ItemId::new(id).expect("valid"));
    let [ann, bob] = &items;
    let new = daily("2027-01-01", &[ann, bob]);
    run(store, 5, &new, &[ItemStatus::Failed; 2]).await;
    while !outcomes(reader, new.batch_id).await.is_empty() {
        let portion = retention.remove(policy, 2, at("2027-03-01T09:00:00Z"));
        assert!(!portion.await.expect(works).is_last);
    }
    let open = DeadLetterFilter {
        state: Some(DeadLetterState::Open),
        ..DeadLetterFilter::default()
    };
    let open = async || {
        let (open, _) = reader
            .dead_letters(&open, &Page::default())
            .await
            .expect(works);
        open
    };
    let ids: Vec<i64> = open().await.iter().map(|letter| letter.id).collect();
    assert_eq!(ids.len(), 2, "they go next");
    let again = asked_for(Trigger::Replay, "2027-01-01", &items);
    let replayed = store.settle(&ids, vec![again.clone()], at("2027-03-01T09:00:01Z"));
    assert_eq!(replayed.await.expect(works), 2);
    let (chunk, token) = (&again.chunks[0], Uuid::from_u128(6));
    assert_eq!(claim(store, chunk, token).await, items);
    let results = [
        result(ann, ItemStatus::Succeeded),
        result(bob, ItemStatus::Skipped),
    ];
    assert_eq!(commit(store, chunk, token, &results).await, 2);
    let left: Vec<ItemId> = open()
        .await
        .into_iter()
        .map(|letter| letter.item_id)
        .collect();
    assert_eq!(left, std::slice::from_ref(bob));
    let ended = (BatchStatus::Completed, 1, 0, 1);
    assert_eq!(counts(reader, again.batch_id).await, ended);
}

/// Remembers how long jobs are kept, in the end the job of this suite as `policy` says.
async fn remembers(retention: &dyn Retention, policy: &RetentionPolicy) {
    let works = "the store answers";
    assert!(retention.jobs().await.expect(works).is_empty());
    let remembered = async || retention.remembered().await.expect(works);
    assert_eq!(remembered().await, RetentionPolicy::default());
    let longest = KeepDays {
        results: 3_650,
        failures: 3_650,
    };
    let other = JobId::new("another").expect("valid");
    let both = RetentionPolicy {
        jobs: [(job(), longest), (other.clone(), longest)].into(),
    };
    retention.remember(&both).await.expect(works);
    assert_eq!(remembered().await, both);
    retention.remember(policy).await.expect(works);
    let now = remembered().await;
    let days = [job(), other].map(|job_id| now.of_job(&job_id));
    assert_eq!(days, [policy.of_job(&job()), longest], "others stay");
    // Nothing is forgotten with a file that has no jobs.
    let none = RetentionPolicy::default();
    retention.remember(&none).await.expect(works);
    assert_eq!(remembered().await, now);
}

/// How many rows have been removed, by kind.
#[derive(Default)]
struct Removed(BTreeMap<RemovedKind, u64>);

impl Removed {
    /// Adds what a pass in small portions removes.
    async fn by_a_pass(&mut self, retention: &dyn Retention, policy: &RetentionPolicy, now: &str) {
        for _ in 0..1_000 {
            let portion = retention.remove(policy, 2, at(now)).await;
            let portion = portion.expect("the store answers");
            for (kind, rows) in portion.rows {
                *self.0.entry(kind).or_default() += rows;
            }
            if portion.is_last {
                return;
            }
        }
        panic!("a pass over a few rows does not end");
    }
}

fn date(text: &str) -> Option<NaiveDate> {
    text.parse().ok()
}

fn daily(date: &str, items: &[&ItemId]) -> NewBatch {
    let items: Vec<ItemId> = items.iter().copied().cloned().collect();
    batch("daily", &format!("{date}T09:00:00Z"), date, &items)
}

/// Queues a batch of one chunk, and has its items end so when they fall due.
async fn run<S: WorkQueue + BatchStore>(
    store: &S,
    token: u128,
    new: &NewBatch,
    statuses: &[ItemStatus],
) {
    let (chunk, token) = (&new.chunks[0], Uuid::from_u128(token));
    let due: DateTime<Utc> = new.scheduled_at;
    store.enqueue(firing(new), due).await.expect("works");
    claim(store, chunk, token).await;
    let ended = chunk.items.iter().zip(statuses).map(|(item, status)| {
        let mut ended = result(item, *status);
        ended.started_at = due;
        ended.finished_at = Some(due);
        ended
    });
    let ended: Vec<_> = ended.collect();
    assert_eq!(commit(store, chunk, token, &ended).await, ended.len());
}
