//! What the port [`OperatorKeys`] promises.

use chrono::TimeDelta;

use super::at;
use crate::ports::{OperatorKey, OperatorKeys, Role};

/// Checks a store without keys.
///
/// # Panics
/// It breaks a promise.
pub async fn operator_keys(store: &dyn OperatorKeys) {
    let works = "the store answers";
    let now = at("2026-03-01T09:00:00Z");
    let later = now + TimeDelta::days(2);
    let key = |name: &str, role, days: Option<i64>| OperatorKey {
        name: name.to_owned(),
        role,
        created_at: now,
        expires_at: days.map(|days| now + TimeDelta::days(days)),
        created_by: "'; DROP TABLE operator_keys; --".into(),
        last_used: None,
    };
    let (ann, eve) = (
        key("ann", Role::Operate, None),
        key("Eve Ö.", Role::View, Some(1)),
    );
    for (hash, key) in [("a1", &ann), ("e1", &eve)] {
        assert!(store.add_key(hash, key).await.expect(works));
    }
    let again = key("ann", Role::Administer, None);
    let added = store.add_key("a2", &again).await.expect(works);
    assert!(!added, "a name stands for one key");

    let find = async |hash: &str, now| store.find_key(hash, now).await.expect(works);
    assert_eq!(find("a1", now).await, Some(ann.clone()));
    assert_eq!(find("a2", now).await, None);
    assert_eq!(find("A1", now).await, None);
    assert_eq!(find("e1", now).await, Some(eve.clone()));
    assert_eq!(find("e1", later).await, None, "it has expired");
    let list = async |now| store.operator_keys(now).await.expect(works);
    assert_eq!(list(later).await, std::slice::from_ref(&ann));
    let mut names: Vec<String> = list(now).await.into_iter().map(|key| key.name).collect();
    names.sort();
    assert_eq!(names, ["Eve Ö.", "ann"]);

    let today = now.date_naive();
    let earlier = today.pred_opt().expect("there was a day before");
    for day in [today, today, earlier] {
        store.note_key_used("a1", day).await.expect(works);
    }
    store.note_key_used("none", today).await.expect(works);
    let used = find("a1", now).await.and_then(|key| key.last_used);
    assert_eq!(used, Some(today), "the last day counts");

    let mut next = key("Eve Ö.", Role::Operate, None);
    assert!(!store.add_key("e2", &next).await.expect(works));
    next.created_at = later;
    assert!(
        store.add_key("e2", &next).await.expect(works),
        "the name of a key that has expired is free"
    );
    assert_eq!(find("e2", later).await, Some(next));
    for was_there in [true, false] {
        assert_eq!(store.revoke_key("ann").await.expect(works), was_there);
    }
    assert_eq!(find("a1", now).await, None);

    let secret = store.session_secret().await.expect(works);
    assert_ne!(secret, [0; 32]);
    assert_eq!(store.session_secret().await.expect(works), secret);
}
