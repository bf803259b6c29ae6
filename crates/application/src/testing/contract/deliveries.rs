//! What the port [`Deliveries`] promises.

use chrono::TimeDelta;
use punctual_domain::{Delivery, ItemStatus, NewBatch};
use uuid::Uuid;

use super::{ENDED, at, batch, claim, commit, firing, result, tenants};
use crate::ports::{BatchStore, Deliveries, WorkQueue};

/// Checks an empty store, of which `deliveries` is the port.
///
/// # Panics
/// It breaks a promise.
pub async fn deliveries<S: WorkQueue + BatchStore>(store: &S, deliveries: &dyn Deliveries) {
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
    assert_eq!((&to_file.target, to_file.cursor), (&file, None));
    assert_eq!(take(now, vec![]).await, None, "both are in work");
    let later = now + lease;
    assert_eq!(
        take(later, vec![sink.clone()]).await.map(|due| due.id),
        Some(to_file.id),
        "a lease that has run out is given again"
    );

    // It goes on where it came to, and the number of its failures in a row begins anew.
    let failed = deliveries.postpone(to_sink.id, Some(now + TimeDelta::seconds(2)), "closed\0");
    failed.await.expect("works");
    assert_eq!(take(now, vec![file.clone()]).await, None, "not yet");
    let now = now + TimeDelta::seconds(2);
    let again = take(now, vec![file.clone()]).await.expect("due again");
    assert_eq!((again.id, again.tries, again.cursor), (to_sink.id, 1, None));
    let part = Some("page 2".to_owned());
    let advanced = deliveries.advance(to_sink.id, part.clone(), now).await;
    advanced.expect("works");
    let again = take(now, vec![file.clone()]).await.expect("due at once");
    assert_eq!((again.tries, again.cursor), (0, part));

    // What has arrived or is given up is not given again.
    let advanced = deliveries.advance(to_sink.id, None, now).await;
    advanced.expect("works");
    let given_up = deliveries
        .postpone(to_file.id, None, "no such folder")
        .await;
    given_up.expect("works");
    assert_eq!(take(now + TimeDelta::days(1), vec![]).await, None);
}
