//! What has run for a tenant, on the page of a feature that allows it.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering::Relaxed},
    },
    time::Duration,
};

use async_trait::async_trait;
use punctual_application::{
    ports::{PastRun, RunHistory, RunHistoryError, RunOutcome},
    testing::FakeRunHistory,
};
use punctual_config_database::{Embedding, NewKey, Scope};
use punctual_domain::{FeatureType, SkipReason, TenantId};
use reqwest::Method;
use secrecy::ExposeSecret;
use serde_json::json;

use crate::{
    browser::Browser,
    links::call,
    page::{Visitor, address, hidden},
    server::{Kind, Running, on_both_databases_and_below_a_path, start_in, start_with},
};

on_both_databases_and_below_a_path! {
    a_tenant_sees_their_own_runs_where_the_feature_allows_it
    what_knows_the_runs_may_be_gone
}

const ADMIN: &str = "admin-key-of-16-chars";
const PAGE: &str = "/tenants/ann/features/posts";
const RUNS: &str = "/tenants/ann/features/posts/past-runs";
const DONE: &str = "Tuesday, 24 November 2026 at 09:00 — done";
/// As the browser of the tests asks for it.
const DONE_IN_BROWSER: &str = "Tuesday, November 24, 2026 at 9:00\u{202f}AM — done";

fn run(date: &str, outcome: RunOutcome, reason: Option<SkipReason>) -> PastRun {
    let at = format!("{date}T08:00:00Z").parse().unwrap();
    PastRun {
        job_id: "posts".parse().unwrap(),
        occurrence: date.parse().unwrap(),
        scheduled_at: at,
        finished_at: at,
        outcome,
        reason,
    }
}

/// What has run for Ann and for Bob.
fn history() -> Arc<FakeRunHistory> {
    let history = FakeRunHistory::default();
    let (ann, bob) = ("ann".parse().unwrap(), "bob".parse().unwrap());
    let posts = "posts".parse().unwrap();
    let off = Some(SkipReason::Disabled);
    history.put(&ann, &posts, run("2026-11-24", RunOutcome::Succeeded, None));
    history.put(&ann, &posts, run("2026-11-23", RunOutcome::Failed, None));
    history.put(&ann, &posts, run("2026-11-22", RunOutcome::Skipped, off));
    history.put(&bob, &posts, run("2026-11-20", RunOutcome::Succeeded, None));
    Arc::new(history)
}

async fn start(kind: Kind, history: Arc<dyn RunHistory>) -> Running {
    let embedding = Embedding::default().with_run_history(history);
    start_with(kind.place().await, Some(ADMIN), embedding).await
}

/// Stores that the feature shows its runs, or does not, and what Ann has chosen.
async fn prepare(server: &Running, show_runs: bool) {
    for (path, body) in [
        (
            "feature-types/posts",
            json!({"title": "Posts", "show_runs": show_runs}),
        ),
        (
            "tenants/ann/configs/feature_preferences",
            json!({"config_value": {"posts": {"enabled": true, "frequency": "daily", "timezone": "Europe/Berlin"}}}),
        ),
    ] {
        let stored = call(server, ADMIN, Method::PUT, path, &body).await;
        assert!(stored.status().is_success(), "{path}");
    }
}

/// A visitor with a key of this tenant.
async fn visitor(server: &Running, tenant: &str) -> Visitor {
    let new = NewKey {
        name: format!("page of {tenant}"),
        scope: Scope::Write,
        tenant_id: Some(TenantId::new(tenant).unwrap()),
    };
    let key = server.store.create_key(&new).await.unwrap();
    Visitor::signed_in(server, key.expose_secret()).await
}

async fn a_tenant_sees_their_own_runs_where_the_feature_allows_it(kind: Kind) {
    let server = start(kind, history()).await;
    prepare(&server, false).await;
    let ann = visitor(&server, "ann").await;
    assert!(!ann.text(PAGE).await.contains("past-runs"));
    assert_eq!(ann.status(RUNS).await, 404);

    prepare(&server, true).await;
    // The page comes without them: its script loads them.
    let page = ann.text(PAGE).await;
    let loaded = format!("data-url=\"{}\"", address(&server, RUNS));
    assert!(page.contains(&loaded), "{page}");
    assert!(!page.contains(" — done"), "{page}");
    let runs = ann.text(RUNS).await;
    let mut rest = runs.as_str();
    for sentence in [
        "Berlin time",
        DONE,
        "Monday, 23 November 2026 at 09:00 — could not be done",
        "Sunday, 22 November 2026 at 09:00 — skipped: it was switched off",
    ] {
        let (_, after) = rest
            .split_once(sentence)
            .unwrap_or_else(|| panic!("{runs}"));
        rest = after;
    }
    assert_eq!(runs.matches("<li>").count(), 3, "none of Bob's: {runs}");
    let bob = visitor(&server, "bob").await;
    assert_eq!(bob.status(RUNS).await, 403);

    // Without scripts a button shows them, and what was typed is kept.
    let version = hidden(&page, "version");
    let form = [
        ("action", "past-runs"),
        ("version", version.as_str()),
        ("enabled", "true"),
        ("frequency", "daily"),
        ("time", "07:15"),
    ];
    let answer = ann.post(PAGE, &form).await;
    assert_eq!(answer.status(), 200);
    let page = answer.text().await.unwrap();
    assert!(page.contains(DONE) && page.contains("07:15"), "{page}");

    let german = ann.http.get(format!("{}{RUNS}", server.url));
    let german = german.header("cookie", ann.cookie.as_ref().unwrap());
    let german = german.header("accept-language", "de").send().await.unwrap();
    let german = german.text().await.unwrap();
    assert!(german.contains("24. November 2026"), "{german}");
    assert!(german.contains(" – erledigt"), "{german}");
}

async fn what_knows_the_runs_may_be_gone(kind: Kind) {
    let history = history();
    let server = start(kind, history.clone()).await;
    prepare(&server, true).await;
    let ann = visitor(&server, "ann").await;
    history.set_down(true);
    let unavailable = "Past runs can&#39;t be shown at the moment.";
    let runs = ann.text(RUNS).await;
    assert!(runs.contains(unavailable), "{runs}");
    assert!(!runs.contains("<li>"), "{runs}");
    assert!(ann.text(PAGE).await.contains("Coming up"));
    history.set_down(false);
    // After a failure none asks for a moment.
    let again = async {
        while !ann.text(RUNS).await.contains(DONE) {
            tokio::time::sleep(Duration::from_millis(200)).await;
        }
    };
    let again = tokio::time::timeout(Duration::from_secs(30), again).await;
    again.expect("it is asked again");
}

#[tokio::test]
async fn where_nothing_knows_the_runs_no_page_speaks_of_them() {
    let server = start_in(Kind::Sqlite.place().await, Some(ADMIN)).await;
    prepare(&server, true).await;
    let ann = visitor(&server, "ann").await;
    assert!(!ann.text(PAGE).await.contains("past-runs"));
    assert_eq!(ann.status(RUNS).await, 404);
}

/// Never answers, and notes that it was asked.
#[derive(Default)]
struct Silent(AtomicBool);

#[async_trait]
impl RunHistory for Silent {
    async fn past_runs(
        &self,
        _: &TenantId,
        _: &FeatureType,
        _: u32,
    ) -> Result<Vec<PastRun>, RunHistoryError> {
        self.0.store(true, Relaxed);
        std::future::pending().await
    }
}

#[tokio::test]
async fn what_does_not_answer_slows_no_page() {
    let history = Arc::new(Silent::default());
    let server = start(Kind::Sqlite, history.clone()).await;
    prepare(&server, true).await;
    let ann = visitor(&server, "ann").await;
    assert!(ann.text(PAGE).await.contains("Coming up"));
    assert!(!history.0.load(Relaxed), "the page waits for nothing");
    let runs = tokio::time::timeout(Duration::from_secs(30), ann.text(RUNS)).await;
    let runs = runs.expect("it does not wait for ever");
    assert!(runs.contains("be shown at the moment"), "{runs}");
    assert!(history.0.load(Relaxed));
}

#[cfg_attr(
    not(feature = "servers"),
    ignore = "needs what `make setup` installs; run `make test`"
)]
#[tokio::test]
async fn the_script_loads_them_after_the_page_and_says_when_it_cannot() {
    let history = history();
    let embedding = Embedding::default().with_run_history(history.clone());
    let server = start_with(Kind::Sqlite.place().await, None, embedding).await;
    prepare(&server, true).await;
    let browser = Browser::open(1200, 1000).await;
    browser.goto(&format!("{}{PAGE}", server.url)).await;
    let shows = |text: &str| {
        format!("return document.getElementById('past-runs').textContent.includes('{text}')")
    };
    browser.until(&shows(DONE_IN_BROWSER)).await;
    let button = "return document.querySelector('[value=past-runs]').checkVisibility()";
    assert_eq!(browser.run(button).await, json!(false), "none is needed");
    history.set_down(true);
    browser.goto(&format!("{}{PAGE}", server.url)).await;
    browser.until(&shows("be shown at the moment")).await;
    // The button tries again.
    assert_eq!(browser.run(button).await, json!(true));
    history.set_down(false);
    let again = format!(
        "const past = document.getElementById('past-runs');
         if (past.textContent.includes('{DONE_IN_BROWSER}')) return true;
         if (past.ariaBusy !== 'true') document.querySelector('[value=past-runs]').click();
         return false"
    );
    browser.until(&again).await;
    assert_eq!(browser.run(button).await, json!(false));
    browser.close().await;
}
