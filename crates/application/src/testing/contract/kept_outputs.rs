//! What the port [`BatchStore`] promises of jobs with two purposes.

use std::collections::HashMap;

use chrono::TimeDelta;
use punctual_domain::{
    Chunk, DeadLetter, FailureKind, ItemId, ItemResult, ItemStatus, PurposeId, Trigger,
};
use serde_json::{Value, json};
use uuid::Uuid;

use super::{Tested, asked_for, at, claim, claimed, commit, firing, result};
use crate::ports::{BatchStore, DeadLetterFilter, Page, WorkQueue};

fn purpose(name: &str) -> PurposeId {
    PurposeId::new(name).expect("valid")
}

/// What the purpose `write` has made of these items.
async fn kept<S: BatchStore>(
    store: &S,
    chunk: &Chunk,
    token: Uuid,
    items: &[ItemId],
) -> Option<HashMap<ItemId, Value>> {
    let write = purpose("write");
    let kept = store.kept_outputs(chunk, token, &write, items);
    kept.await.expect("works")
}

pub(super) async fn what_the_first_purpose_made_is_kept_until_its_item_has_ended_well<
    S: WorkQueue + BatchStore,
>(
    &Tested { store, reader }: &Tested<'_, S>,
) {
    use ItemStatus::{Failed, NothingToDo, Skipped, Succeeded};
    let all = ["ann", "bob", "eve", "joe", "kim"].map(|name| ItemId::new(format!("kept-{name}")));
    let all = all.map(|id| id.expect("valid"));
    let [ann, bob, eve, joe, kim] = &all;
    let (first, second) = (Uuid::from_u128(91), Uuid::from_u128(92));
    let (new, _) = claimed(store, "2026-09-01", &all, first).await;
    let chunk = &new.chunks[0];
    let keep = async |token, item: &ItemId, by: &str, output: Value| {
        let by = purpose(by);
        let kept = store.keep_output(chunk, token, item, &by, &output);
        kept.await.expect("works")
    };
    assert_eq!(kept(store, chunk, first, &all).await, Some(HashMap::new()));
    let text = |of: &ItemId| json!({"text": format!("„{of}“ 😀"), "usage": {"total_tokens": 3}});
    for item in [ann, bob, eve, kim] {
        assert!(keep(first, item, "write", json!("a draft")).await);
        assert!(
            keep(first, item, "write", text(item)).await,
            "the last one counts"
        );
    }
    assert!(keep(first, joe, "another", json!(1)).await);
    let expected = |items: &[&ItemId]| -> Option<HashMap<ItemId, Value>> {
        let of = |item: &&ItemId| ((*item).clone(), text(item));
        Some(items.iter().map(of).collect())
    };
    let of_write = kept(store, chunk, first, &all).await;
    assert_eq!(
        of_write,
        expected(&[ann, bob, eve, kim]),
        "of this purpose alone"
    );
    let of_one = kept(store, chunk, first, std::slice::from_ref(bob)).await;
    assert_eq!(of_one, expected(&[bob]), "of these items alone");

    // The next delivery finds it, and the one before it can neither read nor keep.
    assert_eq!(claim(store, chunk, second).await, all);
    assert_eq!(kept(store, chunk, first, &all).await, None);
    assert!(!keep(first, bob, "write", json!("late")).await);
    let found = kept(store, chunk, second, &all).await;
    assert_eq!(found, expected(&[ann, bob, eve, kim]));

    // What succeeds or has nothing to do ends with it; what fails or is skipped does not.
    let results = [
        result(ann, Succeeded),
        result(bob, Failed),
        result(eve, Skipped),
        result(joe, NothingToDo),
        ItemResult {
            failure_kind: Some(FailureKind::Data),
            ..result(kim, Failed)
        },
    ];
    assert_eq!(commit(store, chunk, second, &results).await, 5);
    let backfill = asked_for(Trigger::Backfill, "2026-09-01", &all);
    let due = at("2026-09-02T09:00:00Z");
    store.enqueue(firing(&backfill), due).await.expect("works");
    let third = Uuid::from_u128(93);
    let again = &backfill.chunks[0];
    assert_eq!(claim(store, again, third).await, std::slice::from_ref(eve));
    let left = kept(store, again, third, &all).await;
    assert_eq!(left, expected(&[bob, eve, kim]), "and of no other item");
    assert_eq!(
        commit(store, again, third, &[result(eve, Succeeded)]).await,
        1
    );

    // The replay of dead letters is another chunk of the same occurrence.
    let failed = [bob.clone(), kim.clone()];
    let mut ids = Vec::new();
    for item in &failed {
        let of_item = DeadLetterFilter {
            item_id: Some(item.clone()),
            ..DeadLetterFilter::default()
        };
        let letters = reader.dead_letters(&of_item, &Page::default()).await;
        let (letters, _) = letters.expect("works");
        ids.extend(letters.iter().map(|letter| letter.id));
    }
    let replay = asked_for(Trigger::Replay, "2026-09-01", &failed);
    let settled = store.settle(&ids, vec![replay.clone()], due).await;
    assert_eq!(settled.expect("works"), 2);
    let fourth = Uuid::from_u128(94);
    let replay = &replay.chunks[0];
    assert_eq!(claim(store, replay, fourth).await, failed);
    let found = kept(store, replay, fourth, &all).await;
    assert_eq!(found, expected(&[bob, kim]));
    let sent = [bob, kim].map(|item| result(item, Succeeded));
    let committed = store.commit(replay, fourth, &sent);
    assert!(committed.await.expect("works").finished);

    // Nothing is left.
    let last = asked_for(Trigger::Manual, "2026-09-01", &all);
    store.enqueue(firing(&last), due).await.expect("works");
    let fifth = Uuid::from_u128(95);
    let last = &last.chunks[0];
    assert!(claim(store, last, fifth).await.is_empty());
    assert_eq!(kept(store, last, fifth, &all).await, Some(HashMap::new()));
    store.finish(last, fifth, due).await.expect("works");
    what_is_kept_goes_with_a_dead_letter_that_is_removed(&Tested { store, reader }).await;
}

async fn what_is_kept_goes_with_a_dead_letter_that_is_removed<S: WorkQueue + BatchStore>(
    &Tested { store, reader }: &Tested<'_, S>,
) {
    let all = [ItemId::new("kept-lea").expect("valid")];
    let [lea] = &all;
    let token = Uuid::from_u128(96);
    let (new, _) = claimed(store, "2026-09-03", &all, token).await;
    let chunk = &new.chunks[0];
    let write = purpose("write");
    let text = json!("text");
    let keep = store.keep_output(chunk, token, lea, &write, &text);
    assert!(keep.await.expect("works"));
    let failed = [result(lea, ItemStatus::Failed)];
    assert_eq!(commit(store, chunk, token, &failed).await, 1);
    let of_lea = DeadLetterFilter {
        item_id: Some(lea.clone()),
        ..DeadLetterFilter::default()
    };
    let letters = reader.dead_letters(&of_lea, &Page::default()).await;
    let (letters, _) = letters.expect("works");
    let now = at("2026-09-04T09:00:00Z");
    let discarded = store.settle(&[letters[0].id], vec![], now).await;
    assert_eq!(discarded.expect("works"), 1);

    let reading = asked_for(Trigger::Manual, "2026-09-03", &all);
    store.enqueue(firing(&reading), now).await.expect("works");
    let (reading, token) = (&reading.chunks[0], Uuid::from_u128(97));
    assert!(claim(store, reading, token).await.is_empty());
    let removed = now + DeadLetter::REOPENABLE_FOR;
    for (instant, found) in [(removed - TimeDelta::seconds(1), 1), (removed, 0)] {
        store.settle(&[], vec![], instant).await.expect("works");
        let left = kept(store, reading, token, &all).await;
        assert_eq!(left.map(|left| left.len()), Some(found), "{instant}");
    }
    store.finish(reading, token, now).await.expect("works");
}
