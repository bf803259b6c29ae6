//! What the port [`Fence`] promises.

use chrono::TimeDelta;
use punctual_domain::{FenceMark, KnownMarks, RestoreChoice, RestoreGap};

use super::at;
use crate::ports::{Fence, FenceState, Hold};

/// Checks the fence of an empty store.
///
/// # Panics
/// It breaks a promise.
pub async fn fence(store: &dyn Fence) {
    let works = "the store answers";
    let begin = at("2026-03-01T09:00:00Z");
    let time = |minutes| begin + TimeDelta::minutes(minutes);
    let advance = async |known: &KnownMarks, minutes: i64| {
        let advanced = store.mark(known, time(minutes)).await;
        advanced.expect(works)
    };
    let marked = |state: FenceState| match state {
        FenceState::Marked(mark) => mark,
        FenceState::Held(hold) => panic!("the store is held: {hold:?}"),
    };
    let mut known = KnownMarks::default();
    assert_eq!(store.hold().await.expect(works), None);
    let none = store.end_hold(RestoreChoice::Repeat, begin).await;
    assert_eq!(none.expect(works), None, "nothing is held");

    let first = marked(advance(&known, 0).await);
    known.note(first);
    let second = marked(advance(&known, 1).await);
    assert_eq!(
        (second.store, second.number, second.at),
        (first.store, first.number + 1, time(1))
    );
    known.note(second);

    // Another process is behind, or knows another store.
    let mut behind = KnownMarks::default();
    behind.note(first);
    let third = marked(advance(&behind, 2).await);
    let mut others = KnownMarks::default();
    others.note(FenceMark {
        store: uuid::Uuid::from_u128(7),
        number: 1_000,
        at: time(0),
    });
    let fourth = marked(advance(&others, 3).await);
    assert_eq!((third.number + 1, fourth.number), (fourth.number, 4));

    // Marks are known that the store has lost.
    known.note(FenceMark {
        number: 10,
        at: time(30),
        ..first
    });
    let gap = |to| RestoreGap {
        from: time(3),
        to: time(to),
    };
    let held = |to| Hold {
        gap: gap(to),
        since: time(60),
    };
    assert_eq!(advance(&known, 60).await, FenceState::Held(held(30)));
    assert_eq!(store.hold().await.expect(works), Some(held(30)));
    // It stays held for those who know nothing of it, and what others know makes the gap longer, not shorter.
    for (known_until, minutes) in [(None, 30), (Some(40), 40), (Some(20), 40)] {
        let mut known = KnownMarks::default();
        if let Some(minutes) = known_until {
            known.note(FenceMark {
                number: minutes as u64,
                at: time(minutes),
                ..first
            });
        }
        let state = advance(&known, 61).await;
        assert_eq!(state, FenceState::Held(held(minutes)));
    }

    let ended = store.end_hold(RestoreChoice::Repeat, time(62)).await;
    let ended = ended.expect(works).expect("it was held");
    assert_eq!((ended.gap, ended.cancelled_batches), (gap(40), 0));
    assert_eq!(store.hold().await.expect(works), None);
    let next = marked(advance(&known, 63).await);
    assert!(next.number > 41, "beyond all that are known: {next:?}");
    assert_eq!(next.store, first.store);

    // Only this process knows of a mark that the store has lost, and others have counted beyond it since.
    known.note(next);
    let last = marked(advance(&known, 65).await);
    let mut lost = KnownMarks::default();
    lost.note(FenceMark {
        at: time(64),
        ..next
    });
    let gap = RestoreGap {
        from: time(63),
        to: time(64),
    };
    let since = time(66);
    assert_eq!(
        advance(&lost, 66).await,
        FenceState::Held(Hold { gap, since })
    );
    let ended = store.end_hold(RestoreChoice::Repeat, time(67)).await;
    ended.expect(works).expect("it was held");
    let after = marked(advance(&lost, 68).await);
    assert!(after.number > last.number, "it is decided about: {after:?}");
}
