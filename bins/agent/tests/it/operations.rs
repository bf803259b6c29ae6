//! The operations page in a real browser, on the real agent, as an operator works through a night.

use reqwest::{Client, Method, StatusCode, redirect::Policy};
use serde_json::{Value, json};

use crate::project::Project;
use crate::{
    agent::{Agent, at_time, command},
    browser::Browser,
    common::serve,
    failures::{Endpoint, completed, names, start, trigger},
};

const JOB: &str = "instagram_post_preference_based";
const KEY: &str = "the-operators-key";

fn preference(time: &str, topic: &str) -> Value {
    json!({"config_value": {"instagram_posts": {"enabled": true, "frequency": "daily", "preferred_time": time,
        "timezone": "Europe/Berlin", "template_overrides": {"call_to_action": topic}}}})
}

async fn store(agent: &Agent, tenant: &str, preference: &Value) {
    let path = format!("tenants/{tenant}/configs/feature_preferences");
    agent.config(Method::PUT, &path, preference).await;
}

#[cfg_attr(
    not(feature = "servers"),
    ignore = "needs what `make setup` installs; run `make test`"
)]
#[tokio::test]
async fn an_operator_sees_what_goes_on_and_steers_it() {
    let folder = tempfile::tempdir().unwrap();
    let mut command = command(folder.path());
    // In the morning, before what is chosen below falls due.
    at_time(&mut command, "2026-03-02 06:00:00");
    command.env("BATCH_API_KEY", KEY);
    let agent = Agent::start(command).with_api_key(KEY);
    let hostile = "<script>window.pwned = 1</script><img src=x onerror=\"window.pwned = 1\">";
    store(&agent, "user1", &preference("09:15", hostile)).await;
    store(&agent, "user2", &preference("21:45", "plants")).await;
    agent
        .until(&format!("/api/v1/jobs/{JOB}"), |job| job["tenants"] == 2)
        .await;

    let browser = Browser::open(1200, 1000).await;
    let page = |path: &str| format!("{}{path}", agent.api());
    browser.goto(&page("/jobs")).await;
    browser.fill("#key", "a-guess").await;
    browser.press("main button").await;
    assert!(
        browser
            .text("[role=alert]")
            .await
            .contains("key isn't valid")
    );
    browser.fill("#key", KEY).await;
    browser.press("main button").await;
    assert_eq!(browser.text("h1").await, "Jobs");

    // What falls due in a day, by hour: both tenants' items are in the table and in the chart.
    browser.goto(&page("/")).await;
    let due = browser.text("#due").await;
    assert!(due.starts_with("3 items due until "), "{due}");
    let filled = format!(
        "return [...document.querySelectorAll('.heat tr:has(a[href=\"/jobs/{JOB}\"]) td')]
             .map(cell => cell.textContent).filter(text => text).join()"
    );
    assert_eq!(browser.run(&filled).await, "1,1");
    let bars = "return document.querySelectorAll('.chart rect:not([height=\"0\"])').length >= 2";
    assert_eq!(browser.run(bars).await, true);
    assert!(browser.text("#live").await.contains("All good."));

    // What falls due and a job that is paused elsewhere show up without a reload.
    browser.run("window.stays = true").await;
    let mut off = preference("21:45", "plants");
    off["config_value"]["instagram_posts"]["enabled"] = json!(false);
    store(&agent, "user2", &off).await;
    browser
        .until("return window.stays && document.getElementById('due').textContent.startsWith('2 items due')")
        .await;
    store(&agent, "user2", &preference("21:45", "plants")).await;
    agent
        .until(&format!("/api/v1/jobs/{JOB}"), |job| job["tenants"] == 2)
        .await;
    let pause = format!("/api/v1/jobs/{JOB}/pause");
    agent.call(Method::POST, &pause, &json!({})).await;
    browser
        .until("return window.stays && document.getElementById('live').textContent.includes('is paused by operator (key)')")
        .await;
    browser.press("#live .finding a").await;
    assert_eq!(browser.text("h1").await, JOB);
    browser.press("button[value=resume]").await;
    browser.until("return document.getElementById('answer').textContent.includes('goes on with what falls due from now on')").await;
    assert_eq!(
        browser
            .find("button[value=pause]")
            .await
            .text()
            .await
            .unwrap(),
        "Pause"
    );

    // A manual run of one tenant, whose result could be a script.
    browser
        .find("input[value=some]")
        .await
        .click()
        .await
        .unwrap();
    browser.fill("#tenants", "user1").await;
    browser.press("button[value=trigger]").await;
    browser
        .until("return document.getElementById('answer').textContent.includes('1 item is queued')")
        .await;
    let batch = browser.client.current_url().await.unwrap();
    let batch_id = batch.path().trim_start_matches("/batches/").to_owned();
    agent
        .until(&format!("/api/v1/batches/{batch_id}"), |batch| {
            batch["status"] == "completed"
        })
        .await;
    // The open page follows without a reload, and keeps what somebody has opened.
    browser.until("return document.getElementById('progress').textContent.includes('completed') && !!document.querySelector('#results summary')").await;
    browser.find(".crumbs .copy").await.click().await.unwrap();
    browser
        .until("return document.getElementById('said').textContent === 'Copied'")
        .await;
    browser.find("summary").await.click().await.unwrap();
    assert!(
        browser.text("details pre").await.contains("onerror"),
        "it is shown as text"
    );
    assert_eq!(
        browser.run("return window.pwned ?? null").await,
        Value::Null
    );

    // The tenant: what is in effect, from where, what comes next, what has run.
    browser.press("a[href='/tenants/user1']").await;
    let text = browser.text("main").await;
    for part in [
        "preferred_time 09:15 the tenant",
        "timezone Europe/Berlin the tenant",
        "Monday, 2 March 2026, 09:15 in Europe/Berlin (2026-03-02 08:15:00 UTC)",
        "will run: due at 2026-03-02 08:15:00 UTC",
        "succeeded",
    ] {
        assert!(text.contains(part), "`{part}` is not in\n{text}");
    }
    let runs = browser
        .run("return document.querySelectorAll('ol li').length")
        .await;
    assert_eq!(runs, 5);

    // What was missed yesterday: counted first, then run, for those who have no result only.
    browser.goto(&page(&format!("/jobs/{JOB}"))).await;
    browser
        .run("for (const id of ['from', 'to']) document.getElementById(id).value = '2026-03-01'")
        .await;
    let all = browser.find("form[action$=backfill] input[value=all]");
    all.await.click().await.unwrap();
    browser.press("form[action$=backfill] button").await;
    let text = browser.text("main").await;
    assert!(text.contains("To run\n2"), "{text}");
    browser.press("main form button").await;
    assert_eq!(browser.text("h1").await, JOB);
    agent
        .until("/api/v1/tenants/user2/runs", |runs| {
            runs["runs"][0]["occurrence"] == "2026-03-01"
                && runs["runs"][0]["status"] == "succeeded"
        })
        .await;

    // A day that does not fit the job's own frequency: it cannot be used, and the overview leads to it.
    browser.goto(&page("/quarantine")).await;
    let text = browser.text("main").await;
    assert!(text.contains("Every preference can be used."), "{text}");
    let day =
        json!({"config_value": {"instagram_posts": {"enabled": true, "preferred_day": "31"}}});
    agent.forget_jobs("instagram_posts").await;
    store(&agent, "user3", &day).await;
    browser.goto(&page("/")).await;
    browser
        .until("return document.getElementById('live').textContent.includes('does not run for 1 tenant')")
        .await;
    browser.press("#live a[href^='/quarantine']").await;
    let text = browser.text("tbody").await;
    assert!(
        text.contains("user3") && text.contains("preferred_day"),
        "{text}"
    );

    // All of it is in the audit log, the newest first, with who did it.
    browser.goto(&page("/audit-log")).await;
    let column = async |label: &str| {
        let cells = format!(
            "return [...document.querySelectorAll('td[data-label={label}]')].map(cell => cell.textContent)"
        );
        browser.run(&cells).await
    };
    let actions = json!(["backfill", "trigger", "resume", "pause"]);
    assert_eq!(column("Action").await, actions);
    let by = "operator (key)";
    assert_eq!(column("By").await, json!([by, by, by, by]));

    // Nothing is wider than a phone, and what is in the tables scrolls by itself.
    browser.client.set_window_size(500, 900).await.unwrap();
    for path in [
        "/",
        "/jobs",
        &format!("/jobs/{JOB}"),
        batch.path(),
        "/tenants/user1",
        "/audit-log",
        "/replicas",
        "/search?q=user",
    ] {
        browser.goto(&page(path)).await;
        let wide = browser
            .run("return document.documentElement.scrollWidth - innerWidth")
            .await;
        assert!(
            wide.as_i64().unwrap() <= 0,
            "{path} is {wide} pixels too wide"
        );
        let silent =
            "return [...document.querySelectorAll('input:not([type=hidden]), select, textarea')]
            .filter(field => !field.labels.length).length";
        assert_eq!(
            browser.run(silent).await,
            0,
            "{path}: every field has a label"
        );
    }

    // An open page says that its session has ended elsewhere, and leads back to itself.
    browser.goto(&page("/jobs?show=wrong")).await;
    browser
        .run("return fetch('/sign-out', { method: 'POST' }).then(() => true)")
        .await;
    let resume = format!("/api/v1/jobs/{JOB}/resume");
    agent.call(Method::POST, &pause, &json!({})).await;
    agent.call(Method::POST, &resume, &json!({})).await;
    browser
        .until("return document.getElementById('connection').textContent.startsWith('You are signed out.')")
        .await;
    browser.press("#connection a").await;
    browser.fill("#key", KEY).await;
    browser.press("main button").await;
    let url = browser.client.current_url().await.unwrap();
    assert_eq!((url.path(), url.query()), ("/jobs", Some("show=wrong")));

    browser.press("nav form button").await;
    browser.goto(&page("/jobs")).await;
    assert_eq!(browser.text("h1").await, "Sign in");
    browser.close().await;

    // An open overview does not keep the agent from stopping.
    let signed_in = cookie(&agent).await;
    let mut live = Client::new()
        .get(page("/live"))
        .header("cookie", signed_in)
        .send()
        .await
        .unwrap();
    assert!(live.chunk().await.unwrap().is_some());
    assert!(agent.terminate().success());
}

async fn cookie(agent: &Agent) -> String {
    let client = Client::builder().redirect(Policy::none()).build().unwrap();
    let form = format!("key={KEY}&next=/");
    let url = format!("{}/sign-in", agent.api());
    let request = client
        .post(url)
        .header("content-type", "application/x-www-form-urlencoded");
    let answer = request.body(form).send().await.unwrap();
    assert_eq!(answer.status(), StatusCode::SEE_OTHER);
    let cookie = answer.headers()["set-cookie"].to_str().unwrap();
    assert!(
        cookie.contains("HttpOnly") && cookie.contains("SameSite=Strict"),
        "{cookie}"
    );
    cookie.split(';').next().unwrap().to_owned()
}

#[cfg_attr(
    not(feature = "servers"),
    ignore = "needs what `make setup` installs; run `make test`"
)]
#[tokio::test]
async fn dead_letters_are_looked_through_and_settled_on_the_page() {
    let tenants = ["bad_a", "bad_b", "bad_c"].map(str::to_owned);
    let (_project, agent) = start(&Endpoint::default(), &tenants, json!({})).await;
    agent
        .call(Method::POST, "/api/v1/jobs/posts/trigger", &json!({}))
        .await;
    agent
        .until("/api/v1/dead-letters", |found| {
            found["dead_letters"].as_array().map(Vec::len) == Some(3)
        })
        .await;

    let browser = Browser::open(1200, 1000).await;
    browser.goto(agent.api()).await;
    assert!(
        browser
            .text("#live")
            .await
            .contains("posts: 3 of 3 items failed: 127.0.0.1:")
    );
    browser.goto(&format!("{}/dead-letters", agent.api())).await;
    browser.fill("#tenant", "bad_b").await;
    browser.press("main form[method=get] button").await;
    assert_eq!(
        browser
            .run("return document.querySelectorAll('tbody tr').length")
            .await,
        1
    );
    browser.press("tbody button[value^='discard ']").await;
    let url = browser.client.current_url().await.unwrap();
    assert_eq!(url.query(), Some("tenant=bad_b&state=open"));
    browser.goto(&format!("{}/dead-letters", agent.api())).await;
    browser.press("button[value='replay all']").await;
    assert_eq!(
        browser.text("h1").await,
        "Replay 2 dead letters of all jobs?"
    );
    browser.press("main form button").await;
    browser.until("return document.getElementById('answer').textContent.includes('2 dead letters are replayed')").await;
    let found = agent
        .until("/api/v1/dead-letters?state=open", |found| {
            found["dead_letters"].as_array().map(Vec::len) == Some(2)
        })
        .await;
    assert!(!found.to_string().contains("bad_b"), "{found}");
    browser.goto(&format!("{}/dead-letters", agent.api())).await;
    let tick = browser.find("tbody tr:first-child input[type=checkbox]");
    tick.await.click().await.unwrap();
    browser.press("button[value='discard selected']").await;
    let left = agent.get("/api/v1/dead-letters?state=open").await;
    assert_eq!(left["dead_letters"].as_array().unwrap().len(), 1, "{left}");
    let settled = agent.get("/api/v1/dead-letters").await.to_string();
    assert!(
        settled.contains("discarded") && settled.contains("replayed"),
        "{settled}"
    );
    browser.close().await;
}

/// What is too narrow, too wide or too high on a small screen.
const UNREADABLE: &str = "const wrong = [];
    const page = document.documentElement;
    if (page.scrollHeight > 6000) wrong.push(`${page.scrollHeight} pixels high`);
    if (page.scrollWidth > innerWidth) wrong.push(`${page.scrollWidth} pixels wide`);
    const context = document.createElement('canvas').getContext('2d');
    for (const cell of document.querySelectorAll('th, td, dd, li')) {
        const box = cell.getBoundingClientRect();
        if (!box.width || cell.closest('details:not([open]), thead')) continue;
        context.font = getComputedStyle(cell).font;
        const words = cell.innerText.split(/[^A-Za-z]+/).filter((word) => word.length <= 12);
        const widest = Math.max(0, ...words.map((word) => context.measureText(word).width));
        if (box.width < widest) wrong.push(`${Math.round(box.width)} pixels for ${cell.innerText.slice(0, 60)}`);
    }
    return wrong;";

/// Ticks all rows by the field for that: whether it is seen, whether they are ticked then, and whether they are still rows.
const SELECT_ALL: &str = "const labels = [...document.querySelectorAll('label.check')];
    const all = labels.find((label) => label.textContent.includes('Select all on this page'));
    const box = all.getBoundingClientRect();
    all.querySelector('input').click();
    const boxes = [...document.querySelectorAll('tbody input[type=checkbox]')];
    const rows = [...document.querySelectorAll('tbody tr')];
    return [box.width > 100 && box.height > 20, boxes.length > 1 && boxes.every((one) => one.checked),
        rows.every((row) => row.getAttribute('role') === 'row')];";

#[cfg_attr(
    not(feature = "servers"),
    ignore = "needs what `make setup` installs; run `make test`"
)]
#[tokio::test]
async fn pages_full_of_data_are_readable_on_a_phone_and_at_200_percent() {
    let tenants = names("bad_tenant_with_a_long_name_", 90);
    let deliver = json!({"deliver": [{"url": "http://127.0.0.1:1/results", "allow_private_addresses": true}]});
    let (_project, agent) = start(&Endpoint::default(), &tenants, deliver).await;
    for _ in 0..30 {
        let request = json!({"tenants": tenants[..3]});
        let run = "/api/v1/jobs/posts/trigger";
        agent.call(Method::POST, run, &request).await;
    }
    let batch = completed(&agent, &trigger(&agent).await).await;
    agent
        .until("/api/v1/deliveries?failed=true", |found| {
            found["deliveries"][0]["tries"].as_i64() > Some(0)
        })
        .await;
    let batch = format!("/batches/{}", batch["batch_id"].as_str().unwrap());
    let tenant = format!("/tenants/{}", tenants[0]);
    for width in [390, 640] {
        let browser = Browser::screen(width).await;
        for path in [
            "/",
            "/jobs",
            "/jobs/posts",
            "/batches",
            &batch,
            "/tenants",
            &tenant,
            "/dead-letters",
            "/deliveries",
            "/quarantine",
            "/replicas",
            "/audit-log",
            "/search?q=bad",
            "/nonsense",
        ] {
            browser.goto(&format!("{}{path}", agent.api())).await;
            let unreadable = browser.run(UNREADABLE).await;
            assert_eq!(unreadable, json!([]), "{path} at {width}");
            let moved = browser.moved().await;
            assert!(moved <= 0.1, "{path} at {width} has moved by {moved}");
            let weight = browser
                .run("return document.documentElement.outerHTML.length")
                .await;
            assert!(weight.as_u64() < Some(60_000), "{path}: {weight} bytes");
        }
        browser.goto(&format!("{}/dead-letters", agent.api())).await;
        assert_eq!(browser.run(SELECT_ALL).await, json!([true, true, true]));
        browser.close().await;
    }
}

#[cfg_attr(
    not(feature = "servers"),
    ignore = "needs what `make setup` installs; run `make test`"
)]
#[tokio::test]
async fn an_open_page_keeps_focus_and_selection_and_says_when_the_connection_is_lost() {
    let tenants = names("bad", 3);
    let (_project, agent) = start(&Endpoint::default(), &tenants, json!({})).await;
    trigger(&agent).await;
    let browser = Browser::open(1200, 1000).await;
    browser.goto(agent.api()).await;
    browser
        .until("return document.getElementById('live').textContent.includes('posts: 3 of 3 items failed')")
        .await;
    browser
        .run("getSelection().selectAllChildren(document.querySelector('#live .finding div')); document.querySelector('#live .finding a').focus()")
        .await;
    let selected = browser.run("return getSelection().toString()").await;
    let pause = "/api/v1/jobs/posts/pause";
    agent.call(Method::POST, pause, &json!({})).await;
    browser
        .until("return document.getElementById('live').textContent.includes('is paused by')")
        .await;
    let after = browser.run("return getSelection().toString()").await;
    assert!(
        after == selected && selected.to_string().contains("items failed"),
        "{after}"
    );
    let focus = "return document.activeElement.textContent";
    assert_eq!(browser.run(focus).await, "See the cause");
    assert_eq!(
        browser.run("return document.title.slice(0, 12)").await,
        "(2) Overview"
    );

    // Times are the visitor's, with UTC on hover, and the other way round on request.
    let times =
        "const time = document.querySelector('#live time'); return [time.textContent, time.title]";
    let local = browser.run(times).await;
    assert!(local[1].as_str().unwrap().ends_with(" UTC"), "{local}");
    browser.find("#zone").await.click().await.unwrap();
    let in_utc = browser.run(times).await;
    assert!(in_utc[0].as_str().unwrap().contains(" UTC"), "{in_utc}");

    agent.kill();
    browser
        .until("return document.getElementById('connection').textContent.startsWith('No connection since')")
        .await;
    browser.close().await;
}

#[cfg_attr(
    not(feature = "servers"),
    ignore = "needs what `make setup` installs; run `make test`"
)]
#[tokio::test]
async fn a_replica_that_is_gone_is_shown_with_what_it_holds() {
    // It takes calls and answers none.
    let url = serve(axum::Router::new().fallback(std::future::pending::<()>)).await;
    let hook = json!({"handler": "webhook", "url": url, "timeout_ms": 600_000, "allow_private_addresses": true});
    let project = Project::new(hook, json!({"default_preferences": {"frequency": "daily"}}));
    let start = |instant: &str| {
        let mut command = project.command();
        at_time(&mut command, instant);
        command.arg("run");
        Agent::start(command)
    };
    let agent = start("2026-03-02 12:00:00");
    let request = json!({"tenants": ["user1"], "allow_unknown": true});
    agent
        .call(Method::POST, "/api/v1/jobs/posts/trigger", &request)
        .await;
    agent
        .until("/api/v1/tenants/user1/runs", |runs| {
            runs["runs"][0]["status"] == "running"
        })
        .await;
    let overview = async |agent: &Agent| {
        let page = reqwest::get(agent.api()).await.unwrap();
        page.text().await.unwrap()
    };
    assert!(!overview(&agent).await.contains("is unresponsive"));
    // No replica takes over the work of a paused job.
    let pause = "/api/v1/jobs/posts/pause";
    agent.call(Method::POST, pause, &json!({})).await;
    agent.kill();

    let agent = start("2026-03-02 12:05:30");
    let page = overview(&agent).await;
    assert!(
        page.contains("is unresponsive (last heartbeat 5m"),
        "{page}"
    );
    assert!(page.contains("holds 1 chunk"), "{page}");
    let replicas = reqwest::get(format!("{}/replicas", agent.api()));
    let replicas = replicas.await.unwrap().text().await.unwrap();
    assert!(replicas.contains(">unresponsive</span>"), "{replicas}");
}

#[tokio::test]
async fn other_sites_change_nothing_and_without_a_key_read_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let agent = Agent::start(command(folder.path()));
    let pause = format!("{}/api/v1/jobs/{JOB}/pause", agent.api());
    let on_page = format!("{}/jobs/{JOB}", agent.api());
    let client = Client::new();
    for (name, value) in [
        ("origin", "https://elsewhere.example"),
        ("origin", "null"),
        ("sec-fetch-site", "cross-site"),
        ("sec-fetch-site", "same-site"),
        ("host", "elsewhere.example"),
    ] {
        for url in [&pause, &on_page] {
            let request = client.post(url).header(name, value);
            let request = request
                .header("content-type", "application/x-www-form-urlencoded")
                .body("action=pause");
            let answer = request.send().await.unwrap();
            assert_eq!(
                answer.status(),
                StatusCode::FORBIDDEN,
                "{name}: {value} at {url}"
            );
        }
    }
    let url = format!("{}/tenants/user1?date=tomorrow", agent.api());
    let answer = client.get(url).send().await.unwrap();
    assert_eq!(answer.status(), StatusCode::UNPROCESSABLE_ENTITY);
    let text = answer.text().await.unwrap();
    assert!(text.contains("`tomorrow`"), "{text}");
    let rebound = client.get(format!("{}/api/v1/jobs", agent.api()));
    let answer = rebound
        .header("host", "elsewhere.example:8080")
        .send()
        .await
        .unwrap();
    assert_eq!(answer.status(), StatusCode::FORBIDDEN);
    assert_eq!(agent.get("/api/v1/audit-log").await["entries"], json!([]));
    let own = client.post(&on_page).header("origin", agent.api());
    let own = own
        .header("content-type", "application/x-www-form-urlencoded")
        .body("action=pause");
    assert!(own.send().await.unwrap().status().is_success());
    assert_eq!(
        agent.get(&format!("/api/v1/jobs/{JOB}")).await["paused"],
        true
    );
}
