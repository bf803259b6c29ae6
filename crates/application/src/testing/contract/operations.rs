//! What the port [`OperatorStore`] promises of the audit log and of idempotency keys.

use chrono::TimeDelta;
use serde_json::json;
use uuid::Uuid;

use super::at;
use crate::ports::{
    Acknowledgement, AuditEntry, AuditFilter, NewRequest, OperatorStore, Page, Request,
    StoreErrorKind,
};

/// Checks an empty store.
///
/// # Panics
/// It breaks a promise.
pub async fn operations(store: &dyn OperatorStore) {
    audit_log(store).await;
    requests(store).await;
    acknowledgements(store).await;
}

async fn audit_log(store: &dyn OperatorStore) {
    let now = at("2026-03-01T09:00:00Z");
    let entry = |minutes: i64| AuditEntry {
        at: now + TimeDelta::minutes(minutes),
        by: "page 127.0.0.1".into(),
        action: "pause".into(),
        subject: format!("job_{minutes}"),
        detail: "'; DROP TABLE audit_log; --".into(),
        reason: (minutes > 0).then(|| "a deploy; '; --".into()),
    };
    for minutes in 0..3 {
        store
            .record(&entry(minutes))
            .await
            .expect("the store answers");
    }
    let mut page = Page {
        cursor: None,
        limit: 2,
    };
    let all = AuditFilter::default();
    let (newest, next) = store
        .audit_log(&all, &page)
        .await
        .expect("the store answers");
    assert_eq!(newest, [entry(2), entry(1)], "the newest come first");
    page.cursor = next;
    assert_eq!(
        store
            .audit_log(&all, &page)
            .await
            .expect("the store answers"),
        (vec![entry(0)], None)
    );
    page.cursor = None;
    for (action, subject, expected) in [
        (Some("pause"), None, vec![entry(2), entry(1)]),
        (Some("resume"), None, vec![]),
        (None, Some("job_0"), vec![entry(0)]),
        (Some("pause"), Some("job_1"), vec![entry(1)]),
    ] {
        let filter = AuditFilter {
            action: action.map(str::to_owned),
            subject: subject.map(str::to_owned),
        };
        let found = store.audit_log(&filter, &page).await;
        assert_eq!(found.expect("the store answers").0, expected, "{filter:?}");
    }
    page.cursor = Some("x".into());
    let refused = store
        .audit_log(&all, &page)
        .await
        .expect_err("a cursor of no list");
    assert_eq!(refused.kind(), StoreErrorKind::InvalidCursor);
}

async fn requests(store: &dyn OperatorStore) {
    let now = at("2026-03-01T09:00:00Z");
    let new = |scope: &str, key: &str, fingerprint: &str| NewRequest {
        scope: scope.into(),
        key: key.into(),
        fingerprint: fingerprint.into(),
    };
    let first = store.request(&new("trigger a", "k", "f"), now).await;
    let first = first.expect("the store answers");
    assert_eq!((first.at, first.answer.clone()), (now, None));
    assert!(!first.is_known);

    let later = now + TimeDelta::hours(1);
    let again = store.request(&new("trigger a", "k", "g"), later).await;
    let known = Request {
        is_known: true,
        ..first.clone()
    };
    let again = again.expect("the store answers");
    assert_eq!(again, known, "it is the same, and says for what");
    let other = store.request(&new("trigger b", "k", "f"), later).await;
    assert_ne!(
        other.expect("the store answers").id,
        first.id,
        "another scope"
    );

    // What was refused is forgotten, and what was answered is not.
    store
        .answer(first.id, None)
        .await
        .expect("the store answers");
    let anew = store.request(&new("trigger a", "k", "g"), later).await;
    let anew = anew.expect("the store answers");
    assert_eq!((anew.at, anew.fingerprint.as_str()), (later, "g"));
    let answer = json!({"batch_id": 7});
    store
        .answer(anew.id, Some(answer.clone()))
        .await
        .expect("the store answers");
    store
        .answer(anew.id, None)
        .await
        .expect("the store answers");
    let known = store.request(&new("trigger a", "k", "g"), later).await;
    assert_eq!(known.expect("the store answers").answer, Some(answer));

    let next_day = later + TimeDelta::hours(24) + TimeDelta::seconds(1);
    let forgotten = store.request(&new("trigger a", "k", "g"), next_day).await;
    assert_eq!(forgotten.expect("the store answers").answer, None);
}

async fn acknowledgements(store: &dyn OperatorStore) {
    let now = at("2026-03-01T09:00:00Z");
    let known = |state: u128, by: &str| Acknowledgement {
        finding: "paused/posts".into(),
        state: Uuid::from_u128(state),
        covers: format!("{state} of it"),
        at: now,
        by: by.into(),
    };
    let works = "the store answers";
    let all = async || store.acknowledgements().await.expect(works);
    assert_eq!(all().await, []);
    store.acknowledge(&known(1, "ann")).await.expect(works);
    store.acknowledge(&known(2, "bob")).await.expect(works);
    assert_eq!(all().await, [known(2, "bob")], "the last one counts");
    let earlier = now - TimeDelta::seconds(1);
    for (finding, state, at) in [
        ("paused/report", 2, now),
        ("paused/posts", 1, now),
        ("paused/posts", 2, earlier),
    ] {
        let other = Acknowledgement {
            finding: finding.into(),
            at,
            ..known(state, "bob")
        };
        let withdrawn = store.withdraw_acknowledgement(&other);
        withdrawn.await.expect(works);
        assert_eq!(all().await.len(), 1, "{other:?}");
    }
    let withdrawn = store.withdraw_acknowledgement(&all().await[0]).await;
    withdrawn.expect(works);
    assert_eq!(all().await, []);
}
