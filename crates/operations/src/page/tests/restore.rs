//! A restored store on the pages.

use punctual_application::ports::{Fence, FenceState};
use punctual_domain::{FenceMark, KnownMarks};

use super::*;
use crate::tests::NOW;

#[tokio::test(start_paused = true)]
async fn what_becomes_of_a_restored_store_is_decided_on_a_page() {
    let mut visit = Visit::new();
    visit.open("/restore").await.has("nothing to decide");
    let now: chrono::DateTime<chrono::Utc> = NOW.parse().unwrap();
    let mut known = KnownMarks::default();
    let FenceState::Marked(mark) = visit.store.mark(&known, now).await.unwrap() else {
        panic!("the store is held");
    };
    known.note(FenceMark {
        number: 100,
        at: now + chrono::TimeDelta::days(1),
        ..mark
    });
    visit.store.mark(&known, now).await.unwrap();

    let overview = visit.open("/").await;
    overview.has("restored from an older copy").has("/restore");
    let question = visit.open("/restore").await;
    // Ann at 9:00, and the report at 6:00.
    question.has("2 items fell due").has("Repeat what fell due");
    let done = visit.submit("/restore", &[("choice", "skip")]).await;
    done.has("The store goes on")
        .lacks("restored from an older copy");
    let again = visit.submit("/restore", &[("choice", "repeat")]).await;
    again.has("Nothing was changed");
}
