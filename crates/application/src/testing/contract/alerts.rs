//! What the port [`Alerts`] promises.

use chrono::TimeDelta;
use uuid::Uuid;

use super::at;
use crate::{
    Severity,
    ports::{
        Alert, AlertAgent, AlertBook, AlertChange, AlertDelivery, AlertDeliveryState, AlertFinding,
        AlertKind, Alerts, Page, SentFinding, StoreErrorKind, StoredAlert, TrackedFinding,
    },
};

const WORKS: &str = "the store answers";

fn finding(id: &str) -> AlertFinding {
    AlertFinding {
        id: id.into(),
        kind: "paused".into(),
        severity: Severity::Warning,
        title: "posts is paused".into(),
        detail: "'; DROP TABLE alerts; --".into(),
        remedy: "resume it".into(),
        since: Some(at("2026-03-01T08:00:00.000123Z")),
        url: None,
    }
}

fn alert(number: u128, minutes: i64) -> StoredAlert {
    StoredAlert {
        alert: Alert {
            id: Uuid::from_u128(number),
            kind: AlertKind::Opened,
            timestamp: at("2026-03-01T09:00:00Z") + TimeDelta::minutes(minutes),
            finding: Some(finding("paused/posts")),
            more: None,
            agent: AlertAgent {
                name: "punctual.example".into(),
                shard: "1/1".into(),
                version: "1.0.0".into(),
            },
        },
        deliveries: vec![AlertDelivery::by("webhook"), AlertDelivery::by("email")],
    }
}

fn sent(mut alert: StoredAlert) -> StoredAlert {
    for delivery in &mut alert.deliveries {
        delivery.state = AlertDeliveryState::Sent;
        delivery.attempts = 2;
        delivery.attempted_at = Some(at("2026-03-01T09:09:00Z"));
        delivery.answer = Some("204 No Content".into());
    }
    alert
}

/// Checks an empty store.
///
/// # Panics
/// It breaks a promise.
pub async fn alerts(store: &dyn Alerts) {
    let now = at("2026-03-01T09:00:00Z");
    let book = async || store.alert_book(now).await.expect(WORKS);
    let empty = book().await;
    let revision = empty.revision;
    let nothing = AlertBook {
        revision,
        ..AlertBook::default()
    };
    assert_eq!(empty, nothing);

    let tracked = TrackedFinding {
        finding: finding("paused/posts"),
        seen_at: now,
        sent: None,
        changed_at: None,
        gone_at: None,
    };
    let reported = TrackedFinding {
        sent: Some(SentFinding {
            state: Uuid::from_u128(7),
            severity: Severity::Critical,
            first_at: now,
            last_at: now + TimeDelta::hours(24),
        }),
        changed_at: Some(now + TimeDelta::minutes(1)),
        gone_at: Some(now + TimeDelta::minutes(2)),
        ..tracked.clone()
    };
    let mut change = AlertChange::default();
    let findings = [("paused/posts", &tracked), ("paused/report", &reported)];
    for (id, tracked) in findings {
        let tracked = TrackedFinding {
            finding: finding(id),
            ..tracked.clone()
        };
        change.findings.insert(id.into(), Some(tracked));
    }
    change.alerts = vec![alert(1, 0), alert(2, 0)];
    let written = store.write_alerts(revision, &change, now).await;
    assert!(written.expect(WORKS));
    let mut expected = nothing;
    expected.apply(&change);
    let stored = book().await;
    assert_ne!(stored.revision, revision);
    expected.revision = stored.revision;
    assert_eq!(stored, expected);

    // Another process has read it before.
    let late = store.write_alerts(revision, &change, now).await;
    assert!(!late.expect(WORKS));
    assert_eq!(book().await, expected);

    let mut later = AlertChange::default();
    later.findings.insert("paused/posts".into(), None);
    later.alerts = vec![sent(alert(1, 0))];
    let written = store.write_alerts(stored.revision, &later, now).await;
    assert!(written.expect(WORKS));
    expected.apply(&later);
    let stored = book().await;
    expected.revision = stored.revision;
    assert_eq!(stored, expected);

    messages(store).await;
}

async fn messages(store: &dyn Alerts) {
    let now = at("2026-03-01T09:00:00Z");
    // What is pending stays in the book, and what has been sent leaves it.
    let (third, later) = (alert(3, 5), now + TimeDelta::minutes(6));
    store.note_alert(&third).await.expect(WORKS);
    let ids = async |since| {
        let book = store.alert_book(since).await.expect(WORKS);
        let ids = book.alerts.iter().map(|stored| stored.alert.id.as_u128());
        ids.collect::<Vec<_>>()
    };
    assert_eq!(ids(now).await, [1, 2, 3]);
    assert_eq!(ids(later).await, [2, 3], "what is pending stays");
    store.note_alert(&sent(third.clone())).await.expect(WORKS);
    assert_eq!(ids(later).await, [2]);

    let mut page = Page {
        cursor: None,
        limit: 2,
    };
    let (newest, next) = store.alerts(&page).await.expect(WORKS);
    assert_eq!(newest, [sent(third), alert(2, 0)], "the newest come first");
    page.cursor = next;
    let last = store.alerts(&page).await.expect(WORKS);
    assert_eq!(last, (vec![sent(alert(1, 0))], None));
    page.cursor = Some("x".into());
    let refused = store.alerts(&page).await;
    let refused = refused.expect_err("a cursor of another list");
    assert_eq!(refused.kind(), StoreErrorKind::InvalidCursor);

    // Old ones go, unless they are still to be sent.
    let revision = store.alert_book(now).await.expect(WORKS).revision;
    let long_after = now + TimeDelta::days(31);
    let nothing = AlertChange::default();
    let written = store.write_alerts(revision, &nothing, long_after);
    assert!(written.await.expect(WORKS));
    page.cursor = None;
    assert_eq!(
        store.alerts(&page).await.expect(WORKS),
        (vec![alert(2, 0)], None)
    );
}
