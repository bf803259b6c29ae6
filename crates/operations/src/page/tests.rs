//! What operators see and do on the pages, without a browser.

use std::{net::SocketAddr, sync::Arc};

use axum::{
    Router,
    body::{Body, to_bytes},
    extract::ConnectInfo,
    http::{Request, StatusCode, header},
};
use futures::StreamExt;
use punctual_application::{
    Operator, SchedulerStatus,
    ports::{Deliveries, MockBatchReader, StoreError, WorkQueue},
    testing::{self, FakeStore, record},
};
use punctual_domain::{
    BatchConfig, Delivery, Firing, ItemId, ItemStatus, JobId, NewBatch, Occurrence, Priority,
    Trigger,
};
use serde_json::json;
use tokio_util::sync::CancellationToken;
use tower::ServiceExt;

use crate::{Access, Operations, SignIn, Words, tests::operator};

mod alerts;
mod leads;
mod organizations;
mod preview;
mod restore;
mod waiting;

/// A browser with the cookie that tells what was done.
struct Visit {
    router: Router,
    store: Arc<FakeStore>,
    cookie: Option<String>,
}

/// A page, and where it was.
struct Shown {
    status: StatusCode,
    location: Option<String>,
    /// Content security policy.
    policy: String,
    text: String,
}

impl Shown {
    #[track_caller]
    fn has(&self, part: &str) -> &Self {
        assert!(self.text.contains(part), "{part}\n{}", self.text);
        self
    }

    #[track_caller]
    fn lacks(&self, part: &str) -> &Self {
        assert!(!self.text.contains(part), "{part}\n{}", self.text);
        self
    }

    /// The value of a hidden field.
    fn field(&self, name: &str) -> String {
        self.quoted(&format!("name=\"{name}\" value=\""))
    }

    /// The hash of what there was before the page was read.
    #[track_caller]
    fn seen(&self) -> String {
        let seen = self.quoted("data-seen=\"");
        assert!(!seen.is_empty(), "{}", self.text);
        seen
    }

    /// What follows `begin`, up to a quotation mark.
    fn quoted(&self, begin: &str) -> String {
        let rest = self.text.split(begin).nth(1).unwrap_or_default();
        rest.split('"').next().unwrap_or_default().to_owned()
    }
}

impl Visit {
    fn new() -> Self {
        let store: Arc<FakeStore> = Arc::default();
        Self::of(operator(&store), store)
    }

    fn of(operator: Operator, store: Arc<FakeStore>) -> Self {
        let router = Operations {
            operator,
            stop: CancellationToken::new(),
            access: Access::this_machine("BATCH_API_KEY"),
            sign_in: SignIn::default(),
            metrics: None,
            words: Words::default(),
            config_database: Some("http://me:secret@config.example:8000/shop/?key=secret".into()),
        }
        .router();
        Self {
            router,
            store,
            cookie: None,
        }
    }

    async fn send(&mut self, method: &str, path: &str, accept: &str, body: String) -> Shown {
        // Nothing happens at one instant, so that lists have one order.
        tokio::time::sleep(std::time::Duration::from_secs(1)).await;
        let peer = SocketAddr::from(([127, 0, 0, 1], 9));
        let mut request = Request::builder()
            .method(method)
            .uri(path)
            .header(header::HOST, "localhost")
            .header(header::ACCEPT, accept)
            .header(header::CONTENT_TYPE, "application/x-www-form-urlencoded");
        if let Some(cookie) = &self.cookie {
            request = request.header(header::COOKIE, cookie);
        }
        let request = request.extension(ConnectInfo(peer)).body(Body::from(body));
        let Ok(response) = self.router.clone().oneshot(request.unwrap()).await;
        let headers = response.headers();
        let text = |name| headers.get(name).and_then(|value| value.to_str().ok());
        if let Some(set) = text(header::SET_COOKIE) {
            let pair = set.split(';').next().unwrap_or_default().to_owned();
            self.cookie = Some(pair).filter(|_| !set.contains("Max-Age=0"));
        }
        let location = text(header::LOCATION).map(str::to_owned);
        let policy = text(header::CONTENT_SECURITY_POLICY).unwrap_or_default();
        let (policy, status) = (policy.to_owned(), response.status());
        let body = to_bytes(response.into_body(), usize::MAX).await.unwrap();
        Shown {
            status,
            location,
            policy,
            text: String::from_utf8(body.to_vec()).unwrap(),
        }
    }

    async fn open(&mut self, path: &str) -> Shown {
        let accept = "text/html,*/*;q=0.8";
        self.send("GET", path, accept, String::new()).await
    }

    /// Sends a form; after a redirect, the page that it leads to.
    async fn submit(&mut self, path: &str, fields: &[(&str, &str)]) -> Shown {
        let body = serde_urlencoded::to_string(fields).unwrap();
        let shown = self.send("POST", path, "text/html", body).await;
        match &shown.location {
            Some(location) => self.open(&location.clone()).await,
            None => shown,
        }
    }

    /// The first event of the stream of a page that has seen this.
    async fn first_event(&self, seen: &str) -> String {
        tokio::time::sleep(std::time::Duration::from_secs(1)).await;
        let peer = SocketAddr::from(([127, 0, 0, 1], 9));
        let request = Request::builder()
            .uri(format!("/changes?seen={seen}"))
            .header(header::HOST, "localhost")
            .extension(ConnectInfo(peer))
            .body(Body::empty());
        let Ok(response) = self.router.clone().oneshot(request.unwrap()).await;
        let (mut body, mut text) = (response.into_body().into_data_stream(), String::new());
        while !text.contains("\n\n") {
            let part = body.next().await.unwrap().unwrap();
            text.push_str(std::str::from_utf8(&part).unwrap());
        }
        text
    }

    /// Gives up so many deliveries of results.
    async fn give_up_deliveries(&self, deliveries: u128) {
        let now = crate::tests::NOW.parse().unwrap();
        for n in 0..deliveries {
            let ann = [ItemId::new("ann").unwrap()];
            let batch = NewBatch {
                deliver_to: vec![Delivery::File(format!("{n}.ndjson"))],
                ..NewBatch::new(
                    &JobId::new("posts").unwrap(),
                    Priority::Medium,
                    "daily".to_owned(),
                    now,
                    Occurrence::Run(uuid::Uuid::from_u128(n)),
                    Trigger::Manual,
                    now,
                    &ann,
                    10,
                )
            };
            let firing = Firing {
                batches: vec![batch],
                positions: vec![],
            };
            self.store.enqueue(firing, now).await.unwrap();
        }
        self.store.end_all(ItemStatus::Succeeded, now).await;
        let lease = chrono::TimeDelta::minutes(5);
        while let Some(due) = self.store.take(now, lease, &[]).await.unwrap() {
            let given_up = self.store.postpone(&due, None, "no such folder");
            assert!(given_up.await.unwrap());
        }
    }

    /// Lets so many tenants fail in a run.
    async fn fail(&mut self, tenants: &str) {
        let run = [
            ("action", "trigger"),
            ("who", "some"),
            ("tenants", tenants),
            ("allow_unknown", "yes"),
            ("confirmed", "yes"),
        ];
        let shown = self.submit("/jobs/posts", &run).await;
        assert_eq!(shown.status, StatusCode::OK, "{}", shown.text);
        let now = crate::tests::NOW.parse().unwrap();
        self.store.end_all(ItemStatus::Failed, now).await;
    }
}

#[tokio::test(start_paused = true)]
async fn every_action_is_answered_once_and_filters_stay() {
    let mut visit = Visit::new();
    let paused = visit.submit("/jobs/posts", &[("action", "pause")]).await;
    paused
        .has("role=\"status\"")
        .has("posts is paused. What falls due");
    visit.open("/jobs/posts").await.lacks("id=\"answer\"");
    let resumed = visit.submit("/jobs/posts", &[("action", "resume")]).await;
    resumed.has("posts goes on with what falls due from now on.");

    visit.fail("ann bob eve").await;
    let filter = [("job", "posts"), ("tenant", "bob"), ("state", "open")];
    let one = visit.open("/dead-letters?job=posts&tenant=bob").await;
    one.has("1 open of tenant bob in posts").lacks(">eve<");
    let mut discard = vec![("action", "discard 2")];
    discard.extend(filter);
    let discarded = visit.submit("/dead-letters", &discard).await;
    discarded
        .has("1 dead letter is discarded, and can be reopened for 30 days.")
        .has("0 open of tenant bob in posts")
        .has("name=\"tenant\" value=\"bob\"");
    let reopen = [("action", "reopen 2"), ("state", "discarded")];
    let reopened = visit.submit("/dead-letters", &reopen).await;
    reopened.has("1 dead letter is open again.");
}

#[tokio::test(start_paused = true)]
async fn next_runs_of_a_paused_job_are_marked_on_the_page_of_a_tenant() {
    let mut visit = Visit::new();
    let skipped = "These runs are skipped until it is resumed.";
    let next_runs = visit.open("/tenants/ann").await;
    next_runs.has("Next runs").lacks(skipped);
    visit.submit("/jobs/posts", &[("action", "pause")]).await;
    visit.open("/tenants/ann").await.has(skipped);
}

#[tokio::test(start_paused = true)]
async fn dead_letters_are_filtered_by_what_did_not_work() {
    let mut visit = Visit::new();
    visit.fail("ann bob").await;
    let of_data = visit.open("/dead-letters?failure_kind=data").await;
    of_data
        .has("0 open of all jobs with failures of kind data")
        .has("<option selected>data</option>");
    let of_handlers = visit.open("/dead-letters?failure_kind=handler").await;
    of_handlers.has("2 open of all jobs with failures of kind handler");
    let all = [("action", "replay all"), ("failure_kind", "data")];
    let none = visit.submit("/dead-letters", &all).await;
    none.has("No open dead letter matches the filter.");
    let all = [("action", "replay all"), ("failure_kind", "handler")];
    let asked = visit.submit("/dead-letters", &all).await;
    asked.has("Replay 2 dead letters of all jobs with failures of kind handler?");
    assert_eq!(asked.field("failure_kind"), "handler");
    let unknown = visit.open("/dead-letters?failure_kind=shop").await;
    assert_eq!(unknown.status, StatusCode::BAD_REQUEST);
}

#[tokio::test(start_paused = true)]
async fn what_affects_much_asks_first_with_the_count() {
    let mut visit = Visit::new();
    let all = [("action", "trigger"), ("who", "all"), ("key", "k")];
    let asked = visit.submit("/jobs/posts", &all).await;
    asked
        .has("Run posts now for its 1 tenant?")
        .has("change nothing");
    let confirmed = [&all[..], &[("confirmed", "yes")]].concat();
    let queued = visit.submit("/jobs/posts", &confirmed).await;
    queued.has("1 item is queued for posts.").has("Batch of");

    visit.fail("ann bob").await;
    let discard = [("action", "discard all"), ("job", "posts")];
    let asked = visit.submit("/dead-letters", &discard).await;
    asked
        .has("Discard 3 dead letters of posts?")
        .has("<button>Discard 3 dead letters</button>");
    // What fails meanwhile is not discarded.
    visit.fail("eve").await;
    let up_to = asked.field("up_to");
    let confirmed = [&discard[..], &[("confirmed", "yes"), ("up_to", &up_to)]].concat();
    let done = visit.submit("/dead-letters", &confirmed).await;
    done.has("3 dead letters are discarded,")
        .has("1 open of posts");

    let batch = visit.open("/batches").await;
    let batch = batch.text.split("/batches/").nth(1).unwrap();
    let batch = format!("/batches/{}", batch.split('"').next().unwrap());
    let filter = format!("{batch}?status=failed");
    let over = visit.submit(&batch, &[("back", filter.as_str())]).await;
    over.has("The batch is over: nothing was cancelled.")
        .has("<a href=\"?status=failed\" aria-current=\"true\">");
    let run = [("action", "trigger"), ("who", "some"), ("tenants", "ann")];
    let sent = serde_urlencoded::to_string(run).unwrap();
    let queued = visit.send("POST", "/jobs/posts", "text/html", sent).await;
    let batch = queued.location.unwrap();
    let asked = visit.submit(&batch, &[]).await;
    asked
        .has("Skip the remaining 1 of 1 item of posts?")
        .has("<button>Skip up to 1 item</button>");
    let done = visit.submit(&batch, &[("confirmed", "yes")]).await;
    done.has("The batch is cancelled. Up to 1 item is skipped; what has begun ends.")
        .lacks("Skip the remaining");
}

#[tokio::test(start_paused = true)]
async fn a_slip_is_said_at_its_field_with_what_was_put_in() {
    let mut visit = Visit::new();
    let wrong = StatusCode::UNPROCESSABLE_ENTITY;
    let some = [("action", "trigger"), ("who", "some"), ("tenants", "a/b")];
    let slip = visit.submit("/jobs/posts", &some).await;
    assert_eq!(slip.status, wrong);
    slip.has("id=\"tenants-error\"")
        .has("a/b</textarea>")
        .has("value=\"some\" required checked");
    let none = visit.submit("/jobs/posts", &[("action", "trigger")]).await;
    none.has("Choose all, or name tenants.");
    let dates = "/jobs/posts/backfill?from=2026-02-28&to=2026-02-27&who=all";
    let slip = visit.open(dates).await;
    assert_eq!(slip.status, wrong);
    slip.has("id=\"backfill-tenants-error\"")
        .has("value=\"2026-02-28\"");
    let slip = visit
        .open("/jobs/posts/backfill?from=monday&to=&who=all")
        .await;
    slip.has("From: use a date such as 2026-03-29.");
    let nothing = [("action", "discard selected"), ("job", "posts")];
    let slip = visit.submit("/dead-letters", &nothing).await;
    assert_eq!(slip.status, wrong);
    slip.has("Select at least one dead letter first.");
    let slip = visit.open("/dead-letters?job=posts&tenant=a/b").await;
    slip.has("is not a valid tenant_id").has("value=\"a/b\"");

    // A tenant without a preference is asked about.
    let unknown = [
        ("action", "trigger"),
        ("who", "some"),
        ("tenants", "nosuch"),
    ];
    let asked = visit.submit("/jobs/posts", &unknown).await;
    asked.has("nosuch has no stored preference for posts. Run anyway?");
    assert_eq!(asked.field("allow_unknown"), "yes");
    let anyway = [&unknown[..], &[("allow_unknown", "yes")]].concat();
    let queued = visit.submit("/jobs/posts", &anyway).await;
    queued.has("1 item is queued for posts.");
}

#[tokio::test(start_paused = true)]
async fn what_is_wrong_is_acknowledged_on_the_overview() {
    let mut visit = Visit::new();
    visit.open("/").await.has("posts does not run for 1 tenant");
    visit.fail("ann bob").await;
    let overview = visit.open("/").await;
    overview
        .has("<title>(2) Overview")
        .has("posts: 2 of 2 items failed: down")
        .has("See the cause")
        .has("Runbook: <cite>PunctualItemsFail</cite>.")
        .has("<strong>Last 24 hours</strong>: 0 items done, 2 failed, worst lateness 0.0 s")
        .has("Each column is the hour from its time on, in the zone");
    let of_job = visit.open("/jobs/posts").await;
    of_job.has("<strong>Last 7 days</strong>: 0 items done, 2 failed");
    let other = visit.open("/jobs/report").await;
    other.has("<strong>Last 7 days</strong>: 0 items done, 0 failed");
    let finding = [("id", "job-failing/posts"), ("known", "yes")];
    let of_it = overview
        .text
        .split("value=\"job-failing/posts\"")
        .nth(1)
        .unwrap();
    let state = of_it.split("name=\"state\" value=\"").nth(1).unwrap();
    let state = state.split('"').next().unwrap().to_owned();
    let known = [&finding[..], &[("state", state.as_str())]].concat();
    let known = visit.submit("/findings", &known).await;
    known
        .has("(1) Overview")
        .has("1 acknowledged")
        .has("Acknowledged by 127.0.0.1");
    visit.open("/jobs?show=wrong").await.has("failing");
    visit
        .open("/audit-log?action=acknowledge")
        .await
        .has("job-failing/posts");
}

#[tokio::test(start_paused = true)]
async fn the_overview_is_told_when_something_else_falls_due() {
    let store: Arc<FakeStore> = Arc::default();
    let operator = operator(&store);
    let mut visit = Visit::of(operator.clone(), store);
    let before = visit.open("/").await;
    before.has("id=\"due\" data-live").has("2 items due until");
    let ahead = before.quoted("data-ahead=\"");
    visit.fail("ann").await;
    let same = visit.open("/").await;
    assert_eq!(same.quoted("data-ahead=\""), ahead, "that has run");
    let daily = json!({"enabled": true, "frequency": "daily"});
    let records = [record("ann", daily.clone()), record("bob", daily)];
    testing::schedule(&operator, &JobId::new("posts").unwrap(), &records);
    let after = visit.open("/").await;
    after.has("3 items due until");
    assert_ne!(after.quoted("data-ahead=\""), ahead);
    // What falls due of a paused job is in the table, and not in the sum.
    visit.submit("/jobs/posts", &[("action", "pause")]).await;
    let paused = visit.open("/").await;
    paused
        .has("1 item due until")
        .has(">posts</a> <span class=\"hint\">paused</span>")
        .has("All but paused")
        .has("is skipped until you resume it");
    let run = [("action", "trigger"), ("who", "some"), ("tenants", "ann")];
    let queued = visit.submit("/jobs/posts", &run).await;
    queued.has("nothing of it begins until you resume it");
    let unknown = visit.open("/batches/x").await;
    assert_eq!(unknown.status, StatusCode::BAD_REQUEST);
    unknown
        .has("find it on the page Batches")
        .lacks("/api/v1/batches");
}

#[tokio::test(start_paused = true)]
async fn lists_are_filtered_and_lead_on_and_back() {
    let mut visit = Visit::new();
    let tenants: Vec<String> = (0..60).map(|n| format!("tenant_{n:02}")).collect();
    visit.fail(&tenants.join(" ")).await;
    let first = visit.open("/dead-letters?job=posts&state=open").await;
    first
        .has("60 open of posts")
        .has(">Older</a>")
        .lacks(">Newer</a>");
    let older = first
        .text
        .split("<a href=\"?job=posts&#38;state=open&#38;cursor=")
        .nth(1);
    let older = older
        .unwrap()
        .split('"')
        .next()
        .unwrap()
        .replace("&#38;", "&");
    let second = visit
        .open(&format!(
            "/dead-letters?job=posts&state=open&cursor={older}"
        ))
        .await;
    second.has(">Newer</a>").has(">Older</a>").has("tenant_20");
    visit
        .open("/batches?status=running")
        .await
        .has("No batches match this filter.");
    visit
        .open("/batches?job=posts&status=completed")
        .await
        .has(">60<")
        .lacks("Nothing has run");
    let quarantine = visit.open("/quarantine?job=posts").await;
    quarantine
        .has(">bad<")
        .has("href=\"http://config.example:8000/shop/tenants/bad/features/posts\" rel=\"noreferrer\"")
        .lacks("secret");
    visit
        .open("/quarantine?job=report")
        .await
        .has("Every preference can be used.");
    let found = visit
        .send("GET", "/search?q=report", "text/html", String::new())
        .await;
    assert_eq!(found.location.as_deref(), Some("/jobs/report"));
    let menu = visit.open("/jobs/posts").await;
    menu.has("<a href=\"/jobs\" aria-current=\"true\">Jobs</a>")
        .has("aria-label=\"Breadcrumb\"");
    visit
        .open("/jobs")
        .await
        .has("<a href=\"/jobs\" aria-current=\"page\">Jobs</a>");
}

#[tokio::test(start_paused = true)]
async fn ids_and_long_texts_can_be_copied_by_a_button_that_only_scripts_show() {
    let mut visit = Visit::new();
    visit.fail("ann").await;
    let list = visit.open("/batches").await;
    let batch = format!("/batches/{}", list.quoted("href=\"/batches/"));
    let button = "<button type=\"button\" class=\"quiet copy scripted\" data-copy>Copy<";
    let page = visit.open(&batch).await;
    page.has(&format!("</code> {button}"))
        .has("<p role=\"status\" id=\"said\"></p>");
    let long = super::brief(&"x".repeat(super::BRIEF + 1));
    assert!(long.contains(&format!("</pre> {button}")), "{long}");
    let style = visit.open("/assets/operations.css").await;
    style.has("@media (scripting: none) { .scripted { display: none; } }");
}

#[tokio::test(start_paused = true)]
async fn an_unknown_address_is_a_page_for_a_browser_and_json_for_a_client() {
    let mut visit = Visit::new();
    for path in ["/nonsense", "/tenants/", "/jobs/nothing"] {
        let page = visit.open(path).await;
        assert_eq!(page.status, StatusCode::NOT_FOUND, "{path}");
        page.has("<h1>Not Found</h1>")
            .has("<html lang=\"en\" dir=\"ltr\">");
    }
    let api = visit.open("/api/v1/nonsense").await;
    api.has("\"status\":404");
    let client = visit.send("GET", "/nonsense", "*/*", String::new()).await;
    client.has("\"status\":404");
}

#[tokio::test(start_paused = true)]
async fn a_discard_is_undone_on_the_page_with_its_filters_and_nothing_else_is() {
    let mut visit = Visit::new();
    visit.fail("ann bob eve").await;
    visit
        .submit("/dead-letters", &[("action", "discard 1")])
        .await;
    let two = [
        ("action", "discard selected"),
        ("tick-2", "on"),
        ("tick-3", "on"),
        ("job", "posts"),
        ("confirmed", "yes"),
        ("key", "k"),
    ];
    let discarded = visit.submit("/dead-letters", &two).await;
    discarded
        .has("2 dead letters are discarded,")
        .has(">Undo</button>");
    let again = visit.submit("/dead-letters", &two).await;
    again.has("2 dead letters are discarded,");
    let undo = ["discarded_at", "key", "back"].map(|name| (name, discarded.field(name)));
    assert_eq!(undo[2].1, "/dead-letters?job=posts");
    let undo = undo.each_ref().map(|(name, value)| (*name, value.as_str()));
    let undo = [&[("action", "undo")][..], &undo].concat();
    let undone = visit.submit("/dead-letters", &undo).await;
    undone
        .has("2 dead letters are open again.")
        .has("2 open of posts");
    visit
        .open("/dead-letters?state=discarded")
        .await
        .has("1 discarded of all jobs");
    let other = [&undo[..1], &[("discarded_at", "1")]].concat();
    let nothing = visit.submit("/dead-letters", &other).await;
    nothing
        .has("Nothing was reopened")
        .has("<div class=\"problem\" role=\"status\"");
}

#[tokio::test(start_paused = true)]
async fn what_has_changed_since_the_question_is_asked_again() {
    let mut visit = Visit::new();
    visit.fail("ann bob eve").await;
    let all = [("action", "discard all"), ("job", "posts"), ("cursor", "9")];
    let asked = visit.submit("/dead-letters", &all).await;
    asked
        .has("Discard 3 dead letters of posts?")
        .has("<a href=\"/dead-letters?job=posts&#38;cursor=9\">");
    let (up_to, count) = (asked.field("up_to"), asked.field("count"));
    visit
        .submit("/dead-letters", &[("action", "discard 2")])
        .await;
    let yes = [
        ("confirmed", "yes"),
        ("up_to", up_to.as_str()),
        ("count", count.as_str()),
    ];
    let confirmed = [&all[..], &yes].concat();
    let asked = visit.submit("/dead-letters", &confirmed).await;
    asked.has("Discard 2 dead letters of posts?");
    assert_eq!(asked.field("count"), "2");
    // Of selected ones, those that are open count.
    let selected = [
        ("action", "discard selected"),
        ("tick-1", "on"),
        ("tick-2", "on"),
    ];
    let asked = visit.submit("/dead-letters", &selected).await;
    asked.has("Discard 1 selected dead letter?");
    let none = [("action", "discard selected"), ("tick-2", "on")];
    let refused = visit.submit("/dead-letters", &none).await;
    assert_eq!(refused.status, StatusCode::UNPROCESSABLE_ENTITY);
    refused
        .has("dead letter 2 is not open")
        .has("data-page=\"/dead-letters?\"");
}

#[tokio::test(start_paused = true)]
async fn a_page_says_where_it_is_read_again_and_one_of_a_slip_is_not() {
    let mut visit = Visit::new();
    visit
        .open("/batches?job=posts")
        .await
        .has("data-page=\"/batches?job=posts\"")
        .has("data-sign-in=\"/sign-in?next=%2Fbatches%3Fjob%3Dposts\"");
    let slip = visit.submit("/jobs/posts", &[("action", "trigger")]).await;
    assert_eq!(slip.status, StatusCode::UNPROCESSABLE_ENTITY);
    slip.has("data-page=\"/jobs/posts\"");
    visit
        .open("/dead-letters?tenant=a/b")
        .await
        .has("id=\"refused\"")
        .lacks("data-page");
    let all = [("action", "trigger"), ("who", "all")];
    let asked = visit.submit("/jobs/posts", &all).await;
    asked.has("data-url=\"/changes\"").lacks("data-page");
}

#[tokio::test(start_paused = true)]
async fn without_the_store_the_overview_says_so_and_is_a_page() {
    let store: Arc<FakeStore> = Arc::default();
    let mut reader = MockBatchReader::new();
    reader
        .expect_batches()
        .returning(|_, _| Err(StoreError::unavailable("the disk is gone")));
    let operator = Operator {
        reader: Arc::new(reader),
        ..operator(&store)
    };
    let mut visit = Visit::of(operator, store);
    let overview = visit.open("/").await;
    assert_eq!(overview.status, StatusCode::OK);
    overview
        .has("(1) Overview")
        .has("the store does not answer: ")
        .has("Not known while the store does not answer.")
        .lacks("All good");
}

#[tokio::test(start_paused = true)]
async fn what_is_critical_is_never_all_good_and_many_findings_are_all_shown() {
    let store: Arc<FakeStore> = Arc::default();
    let operator = operator(&store);
    operator.status.publish(SchedulerStatus::default());
    let mut visit = Visit::of(operator.clone(), store);
    let overview = visit.open("/").await;
    overview.has("the scheduler has not planned yet");
    let state = overview.field("state");
    let known = [("id", "not-planned-yet"), ("known", "yes")];
    let known = [&known[..], &[("state", state.as_str())]].concat();
    let overview = visit.submit("/findings", &known).await;
    overview
        .has("<p class=\"problem\">Nothing new, and what is acknowledged is critical.</p>")
        .lacks("All good");
    let nil = uuid::Uuid::nil().to_string();
    let changed = [&known[..2], &[("state", nil.as_str())]].concat();
    let refused = visit.submit("/findings", &changed).await;
    refused.has("it is another finding by now");
    let over = [&[("id", "store")][..], &known[1..]].concat();
    let refused = visit.submit("/findings", &over).await;
    refused.has("Nothing was changed: that is over.");

    for n in 0..15 {
        let feature = format!("feature_{n:02}").parse().unwrap();
        let operation = punctual_application::Operation::WriteLastKnownGood(feature);
        let now = operator.clock.now();
        operator.failures.failed(operation, "read-only", now);
    }
    let overview = visit.open("/").await;
    overview
        .has("(15) Overview")
        .has("<summary>And 3 more</summary>")
        .has("feature_00")
        .has("feature_14");
}

#[tokio::test(start_paused = true)]
async fn all_deliveries_of_a_job_are_made_again_after_a_question_with_their_number() {
    let mut visit = Visit::new();
    visit.give_up_deliveries(2).await;
    let list = visit.open("/deliveries?job=posts").await;
    list.has("Deliver all of posts again…")
        .has("no such folder");
    let (back, key) = (("back", "/deliveries?job=posts"), list.field("key"));
    let of_job = [("job", "posts"), ("key", key.as_str()), back];
    let asked = visit.submit("/deliveries", &of_job).await;
    asked.has("Make 2 deliveries of posts again?");
    assert_eq!(asked.field("key"), key);
    // Pressing the button twice is one request.
    for _ in 0..2 {
        let one = [("id", "1"), ("key", key.as_str()), back];
        let one = visit.submit("/deliveries", &one).await;
        one.has("1 delivery is due now.")
            .has("/deliveries?job=posts");
    }
    let yes = [("job", "posts"), ("count", "2"), back];
    let asked = visit.submit("/deliveries", &yes).await;
    asked.has("Make 1 delivery of posts again?");
    let yes = [("job", "posts"), ("count", "1"), back];
    let done = visit.submit("/deliveries", &yes).await;
    done.has("1 delivery is due now.");
    let none = visit.submit("/deliveries", &yes).await;
    none.has("has not failed, or not any more")
        .has("Everything has been delivered, or is under way.");
}

#[tokio::test(start_paused = true)]
async fn what_would_be_removed_is_counted_only_when_the_page_is_opened() {
    let store: Arc<FakeStore> = Arc::default();
    let operator = operator(&store);
    let mut visit = Visit::of(operator.clone(), store);
    let page = visit.open("/replicas").await;
    page.has("Kept in the store").lacks("not in effect");
    let request = Request::builder()
        .uri("/replicas")
        .header(header::HOST, "localhost")
        .header("punctual-refresh", "1")
        .extension(ConnectInfo(SocketAddr::from(([127, 0, 0, 1], 9))))
        .body(Body::empty());
    let Ok(response) = visit.router.clone().oneshot(request.unwrap()).await;
    let page = to_bytes(response.into_body(), usize::MAX).await.unwrap();
    let page = String::from_utf8(page.to_vec()).unwrap();
    assert!(page.contains("id=\"working\" data-live"), "{page}");
    assert!(!page.contains("Kept in the store"), "{page}");
    visit.give_up_deliveries(1).await;
    operator.jobs.replace(BatchConfig::default());
    let page = visit.open("/replicas").await;
    page.has("not in effect, its days are not known");
}

#[tokio::test(start_paused = true)]
async fn what_live_parts_show_changes_the_hash_of_their_pages() {
    let store: Arc<FakeStore> = Arc::default();
    let operator = operator(&store);
    let mut visit = Visit::of(operator.clone(), store);
    let mut seen = visit.open("/jobs").await.seen();
    assert_eq!(visit.open("/replicas").await.seen(), seen, "nothing new");
    let (posts, daily) = (
        JobId::new("posts").unwrap(),
        json!({"enabled": true, "frequency": "daily"}),
    );
    let broken = json!({"enabled": true, "frequency": "daily", "preferred_time": "nine"});
    let mut records = vec![record("ann", daily.clone()), record("bad", broken.clone())];
    for (another, what) in [
        (record("bob", daily), "another tenant"),
        (record("worse", broken), "another number in a finding"),
    ] {
        records.push(another);
        testing::schedule(&operator, &posts, &records);
        let now = visit.open("/jobs").await.seen();
        assert_ne!(now, seen, "{what}");
        seen = now;
    }
    visit.submit("/jobs/posts", &[("action", "pause")]).await;
    assert_ne!(visit.open("/jobs").await.seen(), seen, "an action");
}

#[tokio::test(start_paused = true)]
async fn what_happens_before_a_page_listens_reaches_it() {
    let mut visit = Visit::new();
    let seen = visit.open("/jobs").await.seen();
    let event = visit.first_event(&seen).await;
    assert!(event.contains("event: same"), "{event}");
    visit.submit("/jobs/posts", &[("action", "pause")]).await;
    let event = visit.first_event(&seen).await;
    assert!(event.contains("data: changed"), "{event}");
}

#[tokio::test(start_paused = true)]
async fn each_button_of_a_page_is_a_request_of_its_own() {
    let mut visit = Visit::new();
    visit.fail("ann bob eve").await;
    let key = visit.open("/dead-letters?job=posts").await.field("key");
    let (job, key) = (("job", "posts"), ("key", key.as_str()));
    for action in ["discard 1", "discard 1", "discard 2"] {
        let sent = [("action", action), job, key];
        let done = visit.submit("/dead-letters", &sent).await;
        done.has("1 dead letter is discarded,");
    }
    let left = visit.open("/dead-letters?job=posts").await;
    left.has("1 open of posts");
    let mut queued = Vec::new();
    for tenant in ["ann", "ann", "bob"] {
        let run = [
            ("action", "trigger"),
            ("who", "some"),
            ("tenants", tenant),
            ("allow_unknown", "yes"),
            key,
        ];
        let sent = serde_urlencoded::to_string(run).unwrap();
        let run = visit.send("POST", "/jobs/posts", "text/html", sent).await;
        queued.push(run.location.unwrap());
    }
    assert_eq!(queued[0], queued[1], "pressed twice");
    assert_ne!(queued[0], queued[2], "back, and another tenant");
}

#[tokio::test(start_paused = true)]
async fn a_run_for_several_named_tenants_asks_first() {
    let mut visit = Visit::new();
    let run = [
        ("action", "trigger"),
        ("who", "some"),
        ("tenants", "ann bob"),
    ];
    let asked = visit.submit("/jobs/posts", &run).await;
    asked
        .has("bob has no stored preference for posts. Run anyway?")
        .has("<button>Run now for 2 tenants</button>");
    let known = [&run[..], &[("allow_unknown", "yes")]].concat();
    let asked = visit.submit("/jobs/posts", &known).await;
    asked.has("Run posts now for 2 tenants?");
    let allowed = asked.field("allow_unknown");
    let yes = [("allow_unknown", allowed.as_str()), ("confirmed", "yes")];
    let confirmed = [&run[..], &yes].concat();
    let queued = visit.submit("/jobs/posts", &confirmed).await;
    queued.has("2 items are queued for posts.");
}

#[tokio::test(start_paused = true)]
async fn discarded_ones_are_listed_while_they_can_be_reopened() {
    let mut visit = Visit::new();
    visit.fail("ann bob").await;
    let discard = [("action", "discard 1"), ("job", "posts")];
    visit.submit("/dead-letters", &discard).await;
    let discarded = "/dead-letters?job=posts&state=discarded";
    let listed = visit.open(discarded).await;
    listed.has("1 discarded of posts").has("Reopen all 1…");
    let month = std::time::Duration::from_hours(31 * 24);
    tokio::time::sleep(month).await;
    let listed = visit.open(discarded).await;
    listed.has("0 discarded of posts").lacks("Reopen all");
}

#[tokio::test(start_paused = true)]
async fn after_the_last_of_a_later_page_the_list_begins_anew() {
    let mut visit = Visit::new();
    let tenants: Vec<String> = (0..21).map(|n| format!("tenant_{n:02}")).collect();
    visit.fail(&tenants.join(" ")).await;
    let first = visit.open("/dead-letters?job=posts&state=open").await;
    let cursor = first.quoted("<a href=\"?job=posts&#38;state=open&#38;cursor=");
    let older = format!("/dead-letters?job=posts&state=open&cursor={cursor}");
    let id = visit.open(&older).await.quoted("name=\"tick-");
    let discard = format!("discard {id}");
    let discard = [
        ("action", discard.as_str()),
        ("job", "posts"),
        ("cursor", cursor.as_str()),
    ];
    let after = visit.submit("/dead-letters", &discard).await;
    after
        .has("20 open of posts")
        .has("Replay all 20…")
        .lacks("No dead letters match")
        .lacks(&format!("name=\"cursor\" value=\"{cursor}\""));
}

#[tokio::test(start_paused = true)]
async fn a_tenant_is_erased_after_a_question_and_given_out_as_a_file() {
    let mut visit = Visit::new();
    visit.fail("ann bob").await;
    let page = visit.open("/tenants/ann").await;
    page.has("Export everything as JSON")
        .has("action=\"/tenants/ann/erase\"");
    let export = visit.open("/tenants/ann/export").await;
    export.has("\"dead_letters\":[{");
    let asked = visit.submit("/tenants/ann/erase", &[]).await;
    asked
        .has("Erase everything that is held of tenant ann?")
        .has("cannot be undone")
        .has("change nothing");
    // A browser sends every field: two of one name would be refused.
    assert_eq!(asked.text.matches("name=\"reason\"").count(), 1);
    visit
        .open("/tenants/ann/export")
        .await
        .has("\"dead_letters\":[{");
    let confirmed = [("confirmed", "yes"), ("reason", "request 4711")];
    let done = visit.submit("/tenants/ann/erase", &confirmed).await;
    done.has(
        "The tenant is erased here: 1 run with an outcome, 0 items of open batches, 1 dead letter.",
    );
    let export = visit.open("/tenants/ann/export").await;
    export.lacks("ann").has("\"dead_letters\":[]");
    visit
        .open("/tenants/bob/export")
        .await
        .has("\"dead_letters\":[{");
    let log = visit.open("/audit-log").await;
    log.has("erase_tenant").has("request 4711");
}
