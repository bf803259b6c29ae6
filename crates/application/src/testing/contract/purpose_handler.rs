//! What the port [`PurposeHandler`] promises: an outcome for whatever it is given, an error that says what can be done
//! about it, and the idempotency key on every call that has an effect outside.

use std::{sync::Arc, time::Duration};

use futures::future::join_all;
use punctual_domain::{Item, ItemId, ItemInput, MergedPreference, SharedPreference};
use serde_json::{Value, json};

use super::{POLLS, cut_off, tenants};
use crate::ports::{HandlerErrorKind, PurposeHandler};

/// The remote endpoint of the handler under test.
pub trait Remote: Sync {
    /// The idempotency keys of the calls that it got, in their order.
    fn keys(&self) -> Vec<String>;

    /// Answers so from now on.
    fn answer(&self, with: Answer);
}

/// How a remote endpoint answers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum Answer {
    /// It does what it is asked for.
    Success,
    /// It limits the rate, and asks to wait so long: whole seconds.
    Throttled(Duration),
    /// It cannot do it for now.
    Unavailable,
    /// It never will.
    Refused,
    /// It does not answer.
    Never,
}

/// Checks a handler. It must be able to do `item`, for any tenant, and for any attempt. `remote` is what it calls, if
/// anything: a local server that stands in for the real one.
///
/// # Panics
/// It breaks a promise.
pub async fn purpose_handler(
    handler: &dyn PurposeHandler,
    item: &Item,
    remote: Option<&dyn Remote>,
) {
    // Every attempt is a whole one, under one key.
    for attempt in [1, 2, u32::MAX] {
        let before = remote.map_or(0, |remote| remote.keys().len());
        let item = Item {
            attempt,
            ..item.clone()
        };
        works(handler, &item).await;
        let Some(remote) = remote else { continue };
        let keys = remote.keys().split_off(before);
        assert_eq!(keys, [item.idempotency_key()], "attempt {attempt}");
    }

    // Items run concurrently.
    let items = tenants(0..8).into_iter().map(|item_id| Item {
        item_id,
        ..item.clone()
    });
    let items = Vec::from_iter(items);
    let before = remote.map_or(0, |remote| remote.keys().len());
    join_all(items.iter().map(|item| works(handler, item))).await;
    if let Some(remote) = remote {
        let mut keys = remote.keys().split_off(before);
        keys.sort();
        let expected: Vec<_> = items.iter().map(Item::idempotency_key).collect();
        assert_eq!(keys, expected, "each under a key of its own");
    }

    // A preview without a dry run calls nothing.
    let before = remote.map_or(0, |remote| remote.keys().len());
    let preview = handler.preview(item, false).await;
    preview.unwrap_or_else(|error| panic!("it can preview what it can do: {error}"));
    let after = remote.map_or(0, |remote| remote.keys().len());
    assert_eq!(after, before, "a preview has no effect");

    // Whatever it is given, it ends, and says what is wrong if it has to.
    for odd in odd_items(item) {
        if let Err(error) = handler.run(&odd).await {
            assert_ne!(error.message, "", "the error says what happened: {odd:?}");
        }
    }

    // A call may be dropped at any point, by its time limit, and is made again.
    for polls in POLLS {
        cut_off(handler.run(item), polls).await;
        works(handler, item).await;
    }

    let Some(remote) = remote else { return };
    let wait = Duration::from_secs(7);
    for (answer, kind, retry_after) in [
        (
            Answer::Throttled(wait),
            HandlerErrorKind::Throttled,
            Some(wait),
        ),
        (Answer::Unavailable, HandlerErrorKind::Retryable, None),
        (Answer::Refused, HandlerErrorKind::Permanent, None),
    ] {
        remote.answer(answer);
        let before = remote.keys().len();
        let failed = handler.run(item).await;
        let error = failed.expect_err("the remote endpoint does not do it");
        assert_eq!(error.kind, kind, "{answer:?}: {error}");
        assert_eq!(error.retry_after, retry_after, "{answer:?}: {error}");
        assert_ne!(error.message, "", "{answer:?}");
        let calls = remote.keys().len() - before;
        assert_eq!(calls, 1, "{answer:?}: retries are the processor's");
        remote.answer(Answer::Success);
        works(handler, item).await;
    }
    remote.answer(Answer::Never);
    for polls in POLLS {
        cut_off(handler.run(item), polls).await;
    }
    remote.answer(Answer::Success);
    works(handler, item).await;
}

async fn works(handler: &dyn PurposeHandler, item: &Item) {
    let done = handler.run(item).await;
    done.unwrap_or_else(|error| panic!("it can do {item:?}: {error}"));
}

/// Items as somebody may store them by mistake, or on purpose.
fn odd_items(item: &Item) -> Vec<Item> {
    let deep = (0..100).fold(json!(null), |inner, _| json!([inner]));
    let long = "🎉".repeat(100_000);
    let of = |input| Item {
        input,
        ..item.clone()
    };
    let records = [
        Value::Null,
        json!("text"),
        json!([]),
        json!({}),
        json!({"id": 7, "": "\u{0}\u{202e}{{ x }}"}),
        json!({ "id": "7", "deep": deep, "long": long }),
    ];
    let mut odd = Vec::from(records.clone().map(|record| of(ItemInput::Record(record))));
    odd.extend(records.map(|record| of(ItemInput::Aggregate(record))));
    if let ItemInput::Preference {
        feature_type,
        effective,
    } = &item.input
    {
        for overrides in [
            json!({}),
            json!({"tone": null, "item": 7, "": "\u{0}\u{202e}{{ x }}"}),
            json!({ "tone": long }),
            json!({ "tone": deep }),
        ] {
            let overrides = overrides.as_object().cloned().unwrap_or_default();
            odd.push(of(ItemInput::Preference {
                feature_type: feature_type.clone(),
                effective: SharedPreference::from(MergedPreference {
                    template_overrides: Arc::new(overrides),
                    ..(**effective).clone()
                }),
            }));
        }
    }
    odd.push(Item {
        item_id: ItemId::new("x".repeat(128)).expect("valid"),
        ..item.clone()
    });
    odd
}
