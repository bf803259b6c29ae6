//! What is said of a restored store that waits for a decision.

use punctual_domain::{FenceMark, KnownMarks};

use super::*;
use crate::ports::{Fence, FenceState};

#[tokio::test(start_paused = true)]
async fn what_fell_due_is_counted_for_a_day_once_the_preferences_are_read() {
    let store: Arc<FakeStore> = Arc::default();
    let operator = operator(&store);
    let (mut known, now) = (KnownMarks::default(), operator.clock.now());
    let FenceState::Marked(mark) = store.mark(&known, now).await.unwrap() else {
        panic!("the store is held");
    };
    known.note(FenceMark {
        number: mark.number + 10,
        at: now + TimeDelta::days(3),
        ..mark
    });
    store.mark(&known, now).await.unwrap();
    let restored = async || operator.restored().await.unwrap().unwrap();
    let before = restored().await;
    assert_eq!(before.due, None);
    let words = before.in_words();
    assert!(words.contains("not known yet"), "{words}");
    let daily = json!({"enabled": true, "frequency": "daily"});
    testing::schedule(&operator, &posts(), &[record("ann", daily)]);
    let counted = restored().await;
    assert_eq!(counted.due, Some(1));
    let words = counted.in_words();
    assert!(words.contains("at least 1 item fell due"), "{words}");
}
