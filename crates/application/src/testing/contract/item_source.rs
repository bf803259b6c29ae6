//! What the port [`ItemSource`] promises: the same records in the same order each time, all categories or an error that
//! names the source.

use std::collections::BTreeMap;

use punctual_domain::{Filter, Location, Source};
use serde_json::{Value, json};

use super::{POLLS, cut_off};
use crate::ports::{ItemSource, ItemSourceErrorKind, SourceItem};

/// The ids that a source has to hold for the suite, in this order.
pub const ITEMS: [&str; 3] = ["ann", "eu:bob@example.org", "7"];

/// Checks a source of items that reads [`ITEMS`] at `source`, and cannot read any of `unreadable`, for a reason of this
/// kind.
///
/// # Panics
/// It breaks a promise.
pub async fn item_source(
    items: &dyn ItemSource,
    source: &Source,
    unreadable: &[(Source, ItemSourceErrorKind)],
) {
    let load = |of: Vec<(&str, &Source)>| {
        let sources = of.into_iter();
        let sources: BTreeMap<String, Source> = sources
            .map(|(category, source)| (category.to_owned(), source.clone()))
            .collect();
        async move { items.load(&sources).await }
    };
    let none = load(vec![]).await.expect("nothing is asked for");
    assert_eq!(none, BTreeMap::new());

    // The same each time, also for two at once.
    let once = load(vec![("items", source)]).await.expect("works");
    assert_eq!(ids(&once["items"]), ITEMS);
    for item in &once["items"] {
        let id = match item.data.get("id").unwrap_or(&item.data) {
            Value::String(id) => id.clone(),
            id => id.to_string(),
        };
        assert_eq!(id, item.id.as_str(), "the record is the item's own");
    }
    let [again, beside] = [(); 2].map(|()| load(vec![("items", source)]));
    let (again, beside) = futures::join!(again, beside);
    assert_eq!(again.expect("works"), once);
    assert_eq!(beside.expect("works"), once);

    // Each category has what its source wants of the records.
    let first = Source {
        limit: Some(1),
        ..source.clone()
    };
    let seven = Source {
        filters: vec![Filter::Equals("id".to_owned(), json!("7"))],
        ..source.clone()
    };
    let chosen = load(vec![("all", source), ("first", &first), ("seven", &seven)]).await;
    let chosen = chosen.expect("works");
    let chosen: Vec<_> = chosen
        .iter()
        .map(|(name, items)| (name.as_str(), ids(items)))
        .collect();
    let expected = [
        ("all", ITEMS.to_vec()),
        ("first", vec!["ann"]),
        ("seven", vec!["7"]),
    ];
    assert_eq!(chosen, expected);

    // Records that cannot be read are never taken for records that are gone.
    for (broken, kind) in unreadable {
        for sources in [
            vec![("broken", broken)],
            vec![("a", source), ("broken", broken), ("c", source)],
        ] {
            let error = load(sources).await.expect_err("one cannot be read");
            assert_eq!(error.kind(), *kind, "{error}");
            let text = error.to_string();
            assert!(text.contains(broken.place()), "{text:?} names its source");
            if let Location::Http { url, .. } = &broken.location {
                let secret = &url[broken.place().len()..];
                let shown = !secret.is_empty() && text.contains(secret);
                assert!(!shown, "{text:?} holds what may be a secret");
            }
        }
    }

    // A call may be dropped at any point. The next one is whole.
    for polls in POLLS {
        cut_off(load(vec![("items", source)]), polls).await;
        let whole = load(vec![("items", source)]).await;
        assert_eq!(whole.expect("works"), once);
    }
}

fn ids(items: &[SourceItem]) -> Vec<&str> {
    items.iter().map(|item| item.id.as_str()).collect()
}
