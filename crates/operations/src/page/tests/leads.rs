//! Where pages lead on: from a finding to its cause and its remedy, and from a list without rows.

use super::*;

impl Shown {
    /// Where the first link with this text leads.
    #[track_caller]
    fn link(&self, text: &str) -> String {
        self.has(&format!(">{text}</a>"));
        let (before, _) = self.text.split_once(&format!(">{text}</a>")).unwrap();
        let tag = before.rsplit("<a href=\"").next().unwrap();
        let href = tag.split('"').next().unwrap();
        href.replace("&#38;", "&")
    }

    /// The part of the overview about a finding.
    #[track_caller]
    fn finding(&self, id: &str) -> Self {
        let begin = format!("data-key=\"{id}\"");
        self.has(&begin);
        let rest = self.text.split(&begin).nth(1).unwrap();
        Self {
            status: self.status,
            location: None,
            policy: String::new(),
            text: rest.split("</li>").next().unwrap().to_owned(),
        }
    }
}

#[tokio::test(start_paused = true)]
async fn one_link_leads_from_the_overview_to_the_cause_and_one_to_what_puts_it_right() {
    let mut visit = Visit::new();
    visit.fail("ann bob").await;
    visit.give_up_deliveries(1).await;
    let pause = [("action", "pause"), ("reason", "a deploy")];
    visit.submit("/jobs/posts", &pause).await;
    let overview = visit.open("/").await;

    // The overview itself says what failed, and the pages have the rest.
    let failing = overview.finding("job-failing/posts");
    failing.has("2 of 2 items failed: down");
    let batch = visit.open(&failing.link("See the cause")).await;
    batch.has("Errors by kind").has("down");
    let letters = failing.link("Replay its dead letters");
    assert_eq!(letters, batch.link("Dead letters of posts"));
    let letters = visit.open(&letters).await;
    letters.has("Replay all 2…").has("Select all on this page");

    let paused = overview.finding("paused/posts");
    paused.has("posts is paused by 127.0.0.1: a deploy");
    let job = visit.open(&paused.link("See the cause")).await;
    job.has("posts is paused by 127.0.0.1: a deploy");
    job.has("value=\"resume\">Resume</button>");

    let invalid = overview.finding("quarantine/posts");
    invalid.has("posts does not run for 1 tenant: the preference is invalid");
    let quarantine = visit.open(&invalid.link("See the cause")).await;
    quarantine.has("nine").has(">Correct it</a>");

    let delivery = overview.finding("delivery-given-up/posts");
    delivery.has("1 delivery failed and will not be retried");
    let deliveries = visit.open(&delivery.link("See the cause")).await;
    deliveries
        .has("no such folder")
        .has(">Deliver again</button>");
}

#[tokio::test(start_paused = true)]
async fn a_list_without_rows_says_what_that_means_and_leads_on() {
    let mut visit = Visit::new();
    for (path, means, link) in [
        ("/batches", "Nothing has run yet.", "/jobs"),
        ("/batches?job=posts", "No batches match", "/batches"),
        ("/jobs/report", "This job has not run yet.", "#run"),
        (
            "/dead-letters",
            "No item has failed for good.",
            "?state=discarded",
        ),
        ("/dead-letters?job=posts", "No dead letters match", "?"),
        (
            "/dead-letters?failure_kind=data",
            "No dead letters match",
            "?",
        ),
        ("/deliveries", "Everything has been delivered", "/batches"),
        (
            "/deliveries?job=posts",
            "Everything has been delivered",
            "/deliveries",
        ),
        (
            "/quarantine?job=report",
            "Every preference can be used.",
            "/quarantine",
        ),
        (
            "/quarantine?page=9",
            "The list ends before this page.",
            "/quarantine",
        ),
        (
            "/replicas",
            "No process is working",
            "/batches?status=queued",
        ),
        ("/waiting", "Nothing waits.", "/batches"),
        ("/waiting?tenant=ann", "No waiting items match", "/waiting"),
        ("/audit-log?action=pause", "No entries match", "/audit-log"),
        ("/search?q=zz", "Nothing matches “zz”.", "/jobs"),
        ("/", "Nothing is running.", "/batches"),
    ] {
        let page = visit.open(path).await;
        let begin = format!("<div class=\"empty\"><p>{means}");
        let good = begin.replace("<p>", "<p class=\"success\">");
        let at = page.text.find(&begin).or_else(|| page.text.find(&good));
        let at = at.unwrap_or_else(|| panic!("{path}: {means}\n{}", page.text));
        let empty = page.text[at..].split("</div>").next().unwrap();
        assert!(
            empty.contains(&format!("<a href=\"{link}\">")),
            "{path}: {empty}"
        );
    }
    let nothing_done = visit.open("/audit-log").await;
    nothing_done.has("No operator has done anything yet.");
    let tenant = visit.open("/tenants/ann").await;
    tenant
        .has("No runs yet.")
        .has("href=\"http://config.example:8000/shop/tenants/ann\" rel");
}
