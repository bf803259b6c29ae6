//! Items that wait, on the pages.

use punctual_application::ports::{WaitingChange, WaitingItems};
use punctual_domain::Progress;
use uuid::Uuid;

use super::*;
use crate::tests::{NOW, waiting::wait};

#[tokio::test(start_paused = true)]
async fn what_waits_stands_on_each_page_with_its_deadline_and_progress() {
    let mut visit = Visit::new();
    let run = [("action", "trigger"), ("who", "some"), ("tenants", "ann")];
    let sent = serde_urlencoded::to_string(run).unwrap();
    let queued = visit.send("POST", "/jobs/posts", "text/html", sent).await;
    let batch = queued.location.unwrap();
    let call_id = wait(&visit.store, Uuid::from_u128(7), NOW.parse().unwrap()).await;
    let before = visit.open("/waiting").await;
    before.has(">ann</a>").has("2026-03-01 10:00:00 UTC");
    let change = WaitingChange {
        progress: Some(Progress {
            note: "<b>7</b> of 9".to_owned(),
            at: NOW.parse().unwrap(),
        }),
        ..WaitingChange::default()
    };
    assert!(visit.store.keep_waiting(call_id, &change).await.unwrap());
    let event = visit.first_event(&before.seen()).await;
    assert!(event.contains("data: changed"), "{event}");

    let note = "&#60;b&#62;7&#60;/b&#62; of 9";
    let list = visit.open("/waiting?job=posts&tenant=ann").await;
    list.has(note).has("retry").lacks("<b>7</b>");
    visit
        .open("/waiting?job=report")
        .await
        .has("No waiting items match");
    let shown = visit.open(&batch).await;
    let id = batch.trim_start_matches("/batches/");
    shown
        .has(&format!("<a href=\"/waiting?batch={id}\">1</a>"))
        .has(note)
        .lacks("<b>7</b>");
    let none = visit.open(&format!("{batch}?status=succeeded")).await;
    none.has("No results match this filter.");
    let waiting = visit.open(&format!("{batch}?status=waiting")).await;
    waiting.has(">ann</a>").has("waiting until");
    let tenant = visit.open("/tenants/ann").await;
    tenant.has("waiting until").has(note).lacks("<b>7</b>");
    let overview = visit.open("/").await;
    overview.has("<a href=\"/waiting\">1 item waiting</a>");
    overview.has("waiting for completions");
    let job = visit.open("/jobs/posts").await;
    job.has("<a href=\"/waiting?job=posts\">1</a>");
}
