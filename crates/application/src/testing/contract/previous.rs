//! What the port [`BatchStore`] promises of earlier runs.

use std::collections::BTreeMap;

use chrono::{DateTime, TimeDelta, Utc};
use punctual_domain::{
    ItemId, ItemResult, ItemStatus, JobId, NewBatch, Occurrence, Priority, Trigger,
};
use uuid::Uuid;

use super::{ENDED, Tested, asked_for, at, batch, claim, commit, firing, job, result};
use crate::ports::{BatchStore, DeadLetterFilter, Page, WorkQueue};

pub(super) async fn the_last_success_that_was_due_before_is_found<S: WorkQueue + BatchStore>(
    tested @ &Tested { store, reader }: &Tested<'_, S>,
) {
    use ItemStatus::{Failed, NothingToDo, Skipped, Succeeded};
    let all = ["ann", "bob", "eve"].map(|name| ItemId::new(format!("previous-{name}")));
    let all = all.map(|id| id.expect("valid"));
    let daily = |date: &str| batch("daily", &format!("{date}T09:00:00Z"), date, &all);
    let day = daily("2026-08-03");
    run(tested, 1, &day, &[Succeeded, NothingToDo, Failed]).await;
    run(
        tested,
        2,
        &daily("2026-08-05"),
        &[Skipped, Succeeded, Succeeded],
    )
    .await;
    let previous = async |due_at: &str| {
        let found = store.previous(&job(), at(due_at), &all).await;
        let mut occurrences = BTreeMap::new();
        for (item_id, previous) in found.expect("works") {
            assert_eq!(
                previous.finished_at,
                ended(previous.occurrence),
                "of the same run"
            );
            assert!(previous.scheduled_at < at(due_at), "{previous:?}");
            let name = item_id.as_str().trim_start_matches("previous-").to_owned();
            occurrences.insert(name, previous.occurrence.to_string());
        }
        let occurrences = occurrences.into_iter();
        let occurrences = occurrences.map(|(name, occurrence)| format!("{name} {occurrence}"));
        Vec::from_iter(occurrences).join(", ")
    };
    assert_eq!(previous("2026-08-03T09:00:00Z").await, "", "only before");
    assert_eq!(previous("2026-08-04T09:00:00Z").await, "ann 2026-08-03");
    assert_eq!(
        previous("2026-08-06T09:00:00Z").await,
        "ann 2026-08-03, bob 2026-08-05, eve 2026-08-05"
    );
    let others = JobId::new("another_job").expect("valid");
    for (job_id, items) in [(&others, &all[..]), (&job(), &[])] {
        let none = store.previous(job_id, at("2026-08-06T09:00:00Z"), items);
        assert!(none.await.expect("works").is_empty(), "of the job alone");
    }

    // A date that is backfilled counts where it belongs.
    let backfill = asked_for(Trigger::Backfill, "2026-08-04", &all);
    run(tested, 3, &backfill, &[Succeeded, Succeeded, Succeeded]).await;
    assert_eq!(
        previous("2026-08-06T09:00:00Z").await,
        "ann 2026-08-04, bob 2026-08-05, eve 2026-08-05"
    );
    assert_eq!(
        previous("2026-08-05T09:00:00Z").await,
        "ann 2026-08-04, bob 2026-08-04, eve 2026-08-04"
    );

    // So does one that is replayed.
    let letters = DeadLetterFilter {
        item_id: Some(all[2].clone()),
        ..DeadLetterFilter::default()
    };
    let letters = reader.dead_letters(&letters, &Page::default()).await;
    let ids: Vec<i64> = letters.expect("works").0.iter().map(|one| one.id).collect();
    let now = at("2026-08-06T12:00:00Z");
    let replay = by_itself(
        day.chunks[0].occurrence,
        "2026-08-03T09:00:00Z",
        Trigger::Replay,
        &all[2..],
    );
    let settled = store.settle(&ids, vec![replay.clone()], now).await;
    assert_eq!(settled.expect("works"), 1);
    end(store, 4, &replay, &[Succeeded]).await;
    assert_eq!(
        previous("2026-08-04T09:00:00Z").await,
        "ann 2026-08-03, eve 2026-08-03"
    );

    // A manual run stands where it was asked for.
    let manual = Occurrence::Run(Uuid::from_u128(7));
    let asked = by_itself(manual, "2026-08-05T12:00:00Z", Trigger::Manual, &all[..1]);
    run(tested, 5, &asked, &[Succeeded]).await;
    let evening = previous("2026-08-05T20:00:00Z").await;
    assert_eq!(
        evening,
        format!("ann {manual}, bob 2026-08-05, eve 2026-08-05")
    );
    assert!(
        previous("2026-08-05T12:00:00Z")
            .await
            .starts_with("ann 2026-08-04")
    );

    // A date falls due at different instants in different zones.
    let [tokyo, los_angeles] = [("00", &all[..1]), ("16", &all[1..2])].map(|(hour, items)| {
        let due = format!("2026-08-06T{hour}:00:00Z");
        batch("daily 09:00", &due, "2026-08-06", items)
    });
    run(tested, 6, &tokyo, &[Succeeded]).await;
    run(tested, 7, &los_angeles, &[Succeeded]).await;
    assert_eq!(
        previous("2026-08-06T09:00:00Z").await,
        "ann 2026-08-06, bob 2026-08-05, eve 2026-08-05"
    );
    assert_eq!(
        previous("2026-08-09T09:00:00Z").await,
        "ann 2026-08-06, bob 2026-08-06, eve 2026-08-05"
    );
}

/// When a run ends: each at an instant of its own.
fn ended(occurrence: Occurrence) -> DateTime<Utc> {
    let text = occurrence.to_string();
    let number = text
        .bytes()
        .fold(0_i64, |sum, byte| (sum * 31 + i64::from(byte)) % 100_003);
    at(ENDED) - TimeDelta::microseconds(number)
}

/// A batch that was not planned with others.
fn by_itself(occurrence: Occurrence, due_at: &str, trigger: Trigger, items: &[ItemId]) -> NewBatch {
    let (slot, due_at) = (trigger.as_str().to_owned(), at(due_at));
    NewBatch::new(
        &job(),
        Priority::Medium,
        slot,
        due_at,
        occurrence,
        trigger,
        due_at,
        items,
        500,
    )
}

/// Queues a batch of one chunk, whose items then end so.
async fn run<S: WorkQueue + BatchStore>(
    &Tested { store, .. }: &Tested<'_, S>,
    number: u128,
    batch: &NewBatch,
    statuses: &[ItemStatus],
) {
    let queued = store.enqueue(firing(batch), batch.scheduled_at).await;
    assert_eq!(queued.expect("works").batches.len(), 1);
    end(store, number, batch, statuses).await;
}

async fn end<S: BatchStore>(store: &S, number: u128, batch: &NewBatch, statuses: &[ItemStatus]) {
    let (chunk, token) = (&batch.chunks[0], Uuid::from_u128(900 + number));
    let items = claim(store, chunk, token).await;
    assert_eq!(items.len(), statuses.len());
    let results = items.iter().zip(statuses);
    let results = Vec::from_iter(results.map(|(item, status)| ItemResult {
        finished_at: Some(ended(batch.chunks[0].occurrence)),
        ..result(item, *status)
    }));
    assert_eq!(commit(store, chunk, token, &results).await, results.len());
}
