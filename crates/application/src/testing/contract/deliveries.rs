//! What the port [`Deliveries`] promises.

use chrono::{DateTime, TimeDelta, Utc};
use punctual_domain::{Delivery, ItemStatus, NewBatch};
use uuid::Uuid;

use super::{ENDED, at, batch, claim, commit, firing, result, tenants};
use crate::ports::{
    BatchStore, Deliveries, DeliveryFilter, DeliveryState, OperatorStore, Page, Redelivery,
    StoredDelivery, WorkQueue,
};

/// Checks an empty store, of which `deliveries` is the port.
///
/// # Panics
/// It breaks a promise.
pub async fn deliveries<S: WorkQueue + BatchStore + OperatorStore>(
    store: &S,
    deliveries: &dyn Deliveries,
) {
    let due = "2026-03-01T09:00:00Z";
    let (file, sink) = (
        Delivery::File("out.ndjson".into()),
        Delivery::Sink("warehouse".into()),
    );
    let new = NewBatch {
        deliver_to: vec![file.clone(), sink.clone()],
        deliver_within: Some(TimeDelta::hours(2)),
        ..batch("daily 09:00 UTC", due, "2026-03-01", &tenants(0..1))
    };
    store.enqueue(firing(&new), at(due)).await.expect("works");
    let now = at("2026-03-01T10:00:00Z");
    let lease = TimeDelta::minutes(5);
    let take = |now, busy: Vec<Delivery>| async move {
        let taken = deliveries.take(now, lease, &busy).await;
        taken.expect("works")
    };
    assert_eq!(take(now, vec![]).await, None, "the batch is not over");

    let (chunk, token) = (&new.chunks[0], Uuid::from_u128(1));
    claim(store, chunk, token).await;
    let results = [result(&tenants(0..1)[0], ItemStatus::Succeeded)];
    commit(store, chunk, token, &results).await;
    store.finish(chunk, token, now).await.expect("works");

    // Each place is given once while its lease lasts, and never when it is busy.
    assert_eq!(take(now, vec![file.clone(), sink.clone()]).await, None);
    let to_sink = take(now, vec![file.clone()]).await.expect("one is due");
    assert_eq!(
        (&to_sink.target, to_sink.batch.succeeded, to_sink.tries),
        (&sink, 1, 0)
    );
    assert_eq!(to_sink.until, Some(at(ENDED) + TimeDelta::hours(2)));
    let to_file = take(now, vec![]).await.expect("the other one is due");
    assert_eq!((&to_file.target, to_file.cursor.as_ref()), (&file, None));
    assert_eq!(take(now, vec![]).await, None, "both are in work");
    let later = now + lease;
    let again = take(later, vec![sink.clone()]).await;
    let again = again.expect("a lease that has run out is given again");
    assert_eq!(again.id, to_file.id);
    // Who had the lease before notes nothing any more, however slow it was.
    let late = deliveries.postpone(&to_file, None, "late").await;
    assert!(!late.expect("works"));
    let late = deliveries.advance(&to_file, None, later).await;
    assert!(!late.expect("works"));
    let to_file = again;

    // It goes on where it came to, and the number of its failures in a row begins anew.
    let failed = deliveries.postpone(&to_sink, Some(now + TimeDelta::seconds(2)), "closed\0");
    assert!(failed.await.expect("works"));
    assert_eq!(take(now, vec![file.clone()]).await, None, "not yet");
    let now = now + TimeDelta::seconds(2);
    let again = take(now, vec![file.clone()]).await.expect("due again");
    assert_eq!(
        (again.id, again.tries, again.cursor.as_ref()),
        (to_sink.id, 1, None)
    );
    let part = Some("page 2".to_owned());
    let advanced = deliveries.advance(&again, part.clone(), now).await;
    assert!(advanced.expect("works"));
    let again = take(now, vec![file.clone()]).await.expect("due at once");
    assert_eq!((again.tries, &again.cursor), (0, &part));

    // What has arrived or is given up is not given again.
    let advanced = deliveries.advance(&again, None, now).await;
    assert!(advanced.expect("works"));
    let given_up = deliveries.postpone(&to_file, None, "no such folder").await;
    assert!(given_up.expect("works"));
    let twice = deliveries.postpone(&to_file, None, "no such folder").await;
    assert!(!twice.expect("works"), "it is given up");
    assert_eq!(take(now + TimeDelta::days(1), vec![]).await, None);

    // An operator sees what failed, and has it delivered again.
    let all = async |filter: DeliveryFilter| {
        let found = store.deliveries(&filter, &Page::default()).await;
        found.expect("works").0
    };
    let of_batch = DeliveryFilter {
        batch_ids: Some([new.batch_id].into()),
        ..DeliveryFilter::default()
    };
    let failed = DeliveryFilter {
        failed: true,
        ..of_batch.clone()
    };
    assert_eq!(all(of_batch.clone()).await.len(), 2);
    let shown = all(failed.clone()).await;
    let expected = StoredDelivery {
        id: to_file.id,
        batch_id: new.batch_id,
        job_id: new.job_id.clone(),
        target: file,
        state: DeliveryState::GivenUp,
        tries: 1,
        next_try: None,
        reason: Some("no such folder".to_owned()),
    };
    assert_eq!(shown, [expected]);
    // The list of those that fail has what their sum has.
    let failing = async |since| {
        let listed = all(DeliveryFilter {
            failing_since: Some(since),
            ..of_batch.clone()
        });
        let summed = store.failing_deliveries(since).await.expect("works");
        let summed: u64 = summed.iter().map(|of_job| of_job.deliveries).sum();
        let listed = listed.await.len() as u64;
        assert_eq!(listed, summed);
        listed
    };
    for (since, found) in [(at(ENDED), 1), (at(ENDED) + TimeDelta::seconds(1), 0)] {
        assert_eq!(failing(since).await, found);
    }
    let deliver_again = async |id, elsewhere: Option<&Delivery>, now: DateTime<Utc>| {
        let again = Redelivery {
            id,
            target: elsewhere.unwrap_or(&to_file.target).clone(),
            from_start: elsewhere.is_some(),
        };
        let due = store.deliver_again(&[again], now, now).await;
        due.expect("works")
    };
    let now = now + TimeDelta::days(3);
    assert_eq!(deliver_again(to_sink.id, None, now).await, 0, "it arrived");
    assert_eq!(deliver_again(to_file.id, None, now).await, 1);
    for (at, found) in [(now, 1), (now - TimeDelta::seconds(1), 0)] {
        let by_it = DeliveryFilter {
            asked_at: Some(at),
            ..of_batch.clone()
        };
        assert_eq!(all(by_it).await.len(), found, "asked for at {at}");
    }
    let again = take(now, vec![]).await.expect("it is due");
    assert_eq!((again.id, again.tries), (to_file.id, 0));
    assert_eq!(again.until, Some(now + TimeDelta::hours(2)), "a new period");

    // One that is on its way is left alone, until its lease has run out: then it is another one's.
    let part = Some("page 2".to_owned());
    let advanced = deliveries.advance(&again, part.clone(), now).await;
    assert!(advanced.expect("works"));
    let fails = take(now, vec![]).await.expect("it is due");
    let postponed = deliveries.postpone(&fails, Some(now), "disk full").await;
    assert!(postponed.expect("works"));
    assert_eq!(all(failed.clone()).await.len(), 1, "it has failed");
    assert_eq!(failing(now).await, 0, "once");
    let slow = take(now, vec![]).await.expect("it is due");
    assert_eq!((slow.tries, &slow.cursor), (1, &part));
    assert_eq!(deliver_again(slow.id, None, now).await, 0, "on its way");
    let now = slow.leased_until;
    assert_eq!(deliver_again(slow.id, None, now).await, 1);
    let late = deliveries.postpone(&slow, None, "too slow").await;
    assert!(!late.expect("works"));
    let again = take(now, vec![]).await.expect("it is due");
    assert_eq!((again.tries, &again.cursor), (0, &part), "it goes on");

    // Elsewhere it begins anew.
    let given_up = deliveries.postpone(&again, None, "no such folder").await;
    assert!(given_up.expect("works"));
    let elsewhere = Delivery::File("elsewhere.ndjson".into());
    assert_eq!(deliver_again(again.id, Some(&elsewhere), now).await, 1);
    let again = take(now, vec![]).await.expect("it is due");
    assert_eq!((again.target, again.cursor), (elsewhere, None));
}
