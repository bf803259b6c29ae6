//! What the port [`Suppressions`] promises.

use chrono::TimeDelta;

use super::at;
use crate::ports::{Page, StoreErrorKind, Suppression, Suppressions};

/// Checks an empty list.
///
/// # Panics
/// It breaks a promise.
pub async fn suppressions(store: &dyn Suppressions) {
    let works = "the store answers";
    let now = at("2026-03-01T09:00:00Z");
    let entry = |address: &str, minutes: i64| Suppression {
        address: address.parse().expect("an address"),
        reason: "550 5.1.1 no such user; '; DROP TABLE suppressions; --".into(),
        at: now + TimeDelta::minutes(minutes),
        by: "a test".into(),
    };
    let (ann, bob, eve) = (
        entry("Ann@Shop.example", 0),
        entry("bob@shop.example", 1),
        entry("jürgen@shop.example", 2),
    );
    let found = async |address: &str| {
        let address = address.parse().expect("an address");
        store.suppressed(&address).await.expect(works)
    };
    assert_eq!(found("ann@shop.example").await, None);

    let added = store
        .suppress(&[ann.clone(), bob.clone(), bob.clone()])
        .await
        .expect(works);
    assert_eq!(added, 2, "twice is once");
    assert_eq!(store.suppress(&[]).await.expect(works), 0);
    assert_eq!(found("aNN@shop.EXAMPLE").await, Some(ann.clone()));
    assert_eq!(found("ann@other.example").await, None);

    let again = entry("ann@shop.example", 9);
    let added = store.suppress(&[again, eve.clone()]).await;
    assert_eq!(added.expect(works), 1, "the first entry stays");
    assert_eq!(found("ann@shop.example").await, Some(ann.clone()));

    let mut page = Page {
        cursor: None,
        limit: 2,
    };
    let (newest, next) = store.suppressions(&page).await.expect(works);
    assert_eq!(newest, [eve, bob.clone()], "the newest come first");
    page.cursor = next;
    let last = store.suppressions(&page).await.expect(works);
    assert_eq!(last, (vec![ann.clone()], None));
    page.cursor = Some("x".into());
    let refused = store.suppressions(&page).await;
    let refused = refused.expect_err("a cursor of no list");
    assert_eq!(refused.kind(), StoreErrorKind::InvalidCursor);

    for (address, was_there) in [("ANN@shop.example", true), ("ann@shop.example", false)] {
        let address = address.parse().expect("an address");
        let removed = store.unsuppress(&address).await.expect(works);
        assert_eq!(removed, was_there, "{address}");
    }
    assert_eq!(found("ann@shop.example").await, None);
    assert_eq!(found("bob@shop.example").await, Some(bob));
    // It may come back, as a new entry.
    assert_eq!(store.suppress(&[ann]).await.expect(works), 1);
}
