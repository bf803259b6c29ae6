//! The preference page in a real browser, with the real agent behind it.

use reqwest::Method;
use serde_json::{Value, json};

use crate::{
    agent::{Agent, at_time, command},
    browser::Browser,
};

const PREFERENCES: &str = "tenants/user1/configs/feature_preferences";

/// Every text that a script could hide in.
const HOSTILE: [&str; 5] = [
    "<script>window.pwned = 1</script>",
    "\"><img src=x onerror=\"window.pwned = 1\">",
    "</textarea></title></option><script>window.pwned = 1</script>",
    "'; window.pwned = 1; //",
    "javascript:window.pwned=1",
];

#[cfg_attr(
    not(feature = "servers"),
    ignore = "needs what `make setup` installs; run `make test`"
)]
#[tokio::test]
async fn a_user_sets_a_preference_and_the_agents_schedule_moves() {
    let folder = tempfile::tempdir().unwrap();
    let mut command = command(folder.path());
    // Berlin's clocks skip 02:00–03:00 on the 29th.
    at_time(&mut command, "2026-03-26 12:00:00");
    command.env("CONFIG_SERVICE_API_KEY", "the-admin-key");
    let agent = Agent::start(command).with_config_key("the-admin-key");
    let daily = json!({"enabled": true, "frequency": "daily", "preferred_time": "09:00", "timezone": "UTC"});
    let stored = json!({"config_value": {"instagram_posts": daily}});
    agent.config(Method::PUT, PREFERENCES, &stored).await;
    let schema = json!({"properties": {"tone": {"title": "Tone", "enum": ["playful", "serious"]},
        "hashtags": {"type": "array", "items": {"type": "string"}}}});
    agent
        .config(Method::PUT, "feature-types/instagram_posts/schema", &schema)
        .await;
    let made = json!({"name": "page of user1", "scope": "write", "tenant_id": "user1"});
    let key = agent.config(Method::POST, "keys", &made).await["key"]
        .as_str()
        .unwrap()
        .to_owned();
    agent
        .until("/api/v1/jobs", |jobs| {
            jobs.to_string().contains("daily 09:00 UTC")
        })
        .await;

    let browser = Browser::open(1200, 1000).await;
    browser.goto(agent.config_url()).await;
    browser.fill("#key", &key).await;
    browser.press("main button").await;
    assert!(browser.text("h1").await.starts_with("Preferences"));
    browser.press("a[href$='/instagram_posts']").await;

    // The next runs follow what is chosen before anything is saved.
    browser.fill("#time", "02:30").await;
    browser.fill("#zone", "Europe/Berlin").await;
    browser
        .until("return document.querySelectorAll('#runs tbody tr').length === 5
            && document.querySelector('#runs').innerText.includes('The clocks skip 2:30\u{202f}AM on this day')")
        .await;
    let runs = browser.text("#runs").await;
    assert!(
        runs.contains("Sunday, March 29, 2026 at 3:30\u{202f}AM"),
        "{runs}"
    );
    assert!(
        runs.contains("Friday, March 27, 2026 at 2:30\u{202f}AM"),
        "{runs}"
    );
    browser.fill("[name='o.tone']", "serious").await;
    browser.fill("[name='o.hashtags']", "one\ntwo").await;
    browser.press("button[value=save]").await;
    browser
        .until("return document.querySelector('#arrival').innerText === 'Saved.'")
        .await;
    agent
        .until("/api/v1/jobs", |jobs| {
            jobs.to_string().contains("daily 02:30 Europe/Berlin")
        })
        .await;
    let stored = agent.config(Method::GET, PREFERENCES, &Value::Null).await;
    let overrides = &stored["config_value"]["instagram_posts"]["template_overrides"];
    assert_eq!(
        overrides,
        &json!({"tone": "serious", "hashtags": ["one", "two"]})
    );

    // What cannot be saved is said, and kept in the form.
    browser.fill("#zone", "Europe/Nowhere").await;
    browser.press("button[value=save]").await;
    let problem = browser.text("[role=alert]").await;
    assert!(
        problem.contains("Time zone: we don't know the time zone “Europe/Nowhere”"),
        "{problem}"
    );
    assert_eq!(
        browser
            .run("return document.querySelector('#zone').value")
            .await,
        "Europe/Nowhere"
    );

    // Back to how it was, from the history.
    browser
        .goto(&format!("{}/tenants/user1/history", agent.config_url()))
        .await;
    assert!(browser.text("main").await.contains("By page of user1"));
    browser.press("main form button").await;
    agent
        .until("/api/v1/jobs", |jobs| {
            jobs.to_string().contains("daily 09:00 UTC")
        })
        .await;
    browser.press("header form button").await;
    assert_eq!(browser.text("h1").await, "Sign in");
    browser.close().await;
}

#[cfg_attr(
    not(feature = "servers"),
    ignore = "needs what `make setup` installs; run `make test`"
)]
#[tokio::test]
async fn an_organizations_administrator_sets_what_its_members_have() {
    let folder = tempfile::tempdir().unwrap();
    let mut command = command(folder.path());
    command.env("CONFIG_SERVICE_API_KEY", "the-admin-key");
    let agent = Agent::start(command).with_config_key("the-admin-key");
    for tenant in ["user1", "user2"] {
        let profile = json!({"config_value": {"organization_id": "acme"}});
        let path = format!("tenants/{tenant}/configs/profile");
        agent.config(Method::PUT, &path, &profile).await;
    }
    let feature = json!({"title": "Instagram posts"});
    agent
        .config(Method::PUT, "feature-types/instagram_posts", &feature)
        .await;
    let link = async |path: &str| {
        let made = agent.config(Method::POST, path, &json!({})).await;
        made["url"].as_str().unwrap().to_owned()
    };
    let browser = Browser::open(1200, 1000).await;
    browser.goto(&link("organizations/acme/links").await).await;
    assert!(browser.text("h1").await.contains("acme"));
    browser.press("a[href$='/instagram_posts']").await;
    let page = browser.text("main").await;
    assert!(page.contains("2 members"), "{page}");
    browser
        .run("document.querySelector('[name=enabled]').checked = true")
        .await;
    browser.fill("#frequency", "daily").await;
    browser.fill("#time", "07:30").await;
    browser.fill("#zone", "Europe/Berlin").await;
    // Saved by the keyboard.
    browser.run("window.leaving = true").await;
    let save = browser.find("button[value=save]").await;
    save.send_keys("\u{e007}").await.unwrap();
    browser
        .until("return !window.leaving && document.readyState === 'complete'")
        .await;
    browser
        .until("return document.querySelector('#arrival').innerText === 'Saved.'")
        .await;
    agent
        .until("/api/v1/jobs", |jobs| {
            jobs.to_string().contains("daily 07:30 Europe/Berlin")
        })
        .await;

    // A member's form says where it comes from.
    browser.goto(&link("tenants/user1/links").await).await;
    browser.press("a[href$='/instagram_posts']").await;
    for (hint, usual) in [("#time-hint", "7:30"), ("#zone-hint", "Berlin")] {
        let said = browser.text(hint).await;
        assert!(
            said.contains(usual) && said.contains("From your organization."),
            "{hint}: {said}"
        );
    }
    assert_eq!(
        browser
            .run("return document.querySelector('#time').value")
            .await,
        ""
    );

    // And back to how it was, from the history.
    let history = format!("{}/organizations/acme/history", agent.config_url());
    browser.goto(&history).await;
    assert!(browser.text("main").await.contains("By acme (link)"));
    browser.press("main form button").await;
    let stored = agent
        .config(
            Method::GET,
            "organizations/acme/configs/feature_preferences",
            &Value::Null,
        )
        .await;
    assert_eq!(stored["config_value"], json!({}));
    // The page offers to undo that as well.
    browser.press("form[action$='/restore'] button").await;
    assert_eq!(
        browser
            .run("return document.querySelector('#time').value")
            .await,
        "07:30"
    );
    browser.close().await;
}

#[cfg_attr(
    not(feature = "servers"),
    ignore = "needs what `make setup` installs; run `make test`"
)]
#[tokio::test]
async fn hostile_values_are_shown_as_text_everywhere() {
    let folder = tempfile::tempdir().unwrap();
    let agent = Agent::start(command(folder.path()));
    let mut overrides = serde_json::Map::new();
    let mut properties = serde_json::Map::new();
    for (n, text) in HOSTILE.iter().enumerate() {
        overrides.insert((*text).to_owned(), json!([text]));
        overrides.insert(format!("choice{n}"), json!(text));
        overrides.insert(format!("text{n}"), json!(text));
        properties.insert(
            format!("choice{n}"),
            json!({"title": text, "enum": [text], "description": text}),
        );
        properties.insert(
            format!("text{n}"),
            json!({"type": "string", "description": text}),
        );
    }
    let hostile = json!({"enabled": true, "frequency": "daily", "template_overrides": overrides,
        HOSTILE[0]: HOSTILE[1]});
    let stored = json!({"config_value": {"instagram_posts": hostile}});
    agent.config(Method::PUT, PREFERENCES, &stored).await;
    let schema = json!({"properties": properties});
    agent
        .config(Method::PUT, "feature-types/instagram_posts/schema", &schema)
        .await;
    // A schema that what is stored breaks, with a reason that repeats it.
    let strict = json!({"properties": {"text0": {"const": HOSTILE[2]}}});

    let browser = Browser::open(1000, 800).await;
    let search: String = form_urlencoded(HOSTILE[1]);
    let feature = "/tenants/user1/features/instagram_posts";
    let look = async |path: &str, shows: &[&str]| {
        browser.goto(&format!("{}{path}", agent.config_url())).await;
        let text = browser
            .run("document.querySelectorAll('details').forEach(details => details.open = true);
                return document.documentElement.innerText
                + [...document.querySelectorAll('input, textarea, select')].map(e => e.value).join('\\n')")
            .await;
        for expected in shows {
            assert!(
                text.as_str().unwrap().contains(expected),
                "{path} shows {expected}:\n{text}"
            );
        }
        assert_eq!(
            browser.run("return window.pwned ?? null").await,
            Value::Null,
            "{path}"
        );
        let foreign = "return document.querySelectorAll('img, main script, [onerror]').length";
        assert_eq!(browser.run(foreign).await, 0, "{path}");
    };
    look(feature, &HOSTILE).await;
    look("/tenants/user1/history", &[HOSTILE[0], HOSTILE[4]]).await;
    look("/tenants/user1", &[]).await;
    look(&format!("/operators?q={search}"), &[HOSTILE[1]]).await;
    look("/operators/groups?feature=instagram_posts", &["daily"]).await;
    let refused = ["That didn't work", "not a valid tenant_id"];
    look(&format!("/tenants/{search}"), &refused).await;
    look(&format!("/sign-in?next={search}"), &["Sign in"]).await;
    agent
        .config(Method::PUT, "feature-types/instagram_posts/schema", &strict)
        .await;
    let began = std::time::Instant::now();
    while !agent
        .config_page("/operators/quarantine")
        .await
        .contains("instagram_posts: 1")
    {
        assert!(began.elapsed() < crate::agent::TEST_TIMEOUT);
        tokio::time::sleep(std::time::Duration::from_millis(50)).await;
    }
    look("/operators/quarantine", &["instagram_posts: 1", "user1"]).await;

    // Typed into the form, and sent back by it.
    browser
        .goto(&format!("{}{feature}", agent.config_url()))
        .await;
    for hostile in HOSTILE {
        browser.fill("#zone", hostile).await;
        browser
            .until("return document.querySelector('#runs').innerText.includes('time zone')")
            .await;
        assert_eq!(
            browser.run("return window.pwned ?? null").await,
            Value::Null
        );
        browser.press("button[value=save]").await;
        assert!(browser.text("[role=alert]").await.contains("Time zone"));
        assert_eq!(
            browser.run("return window.pwned ?? null").await,
            Value::Null
        );
    }
    browser.close().await;
}

#[cfg_attr(
    not(feature = "servers"),
    ignore = "needs what `make setup` installs; run `make test`"
)]
#[tokio::test]
async fn every_field_has_a_name_and_nothing_is_wider_than_a_phone() {
    let folder = tempfile::tempdir().unwrap();
    let agent = Agent::start(command(folder.path()));
    let weekly =
        json!({"enabled": true, "frequency": "weekly", "preferred_day": ["monday", "friday"]});
    let stored = json!({"config_value": {"instagram_posts": weekly}});
    agent.config(Method::PUT, PREFERENCES, &stored).await;
    let of_acme = "organizations/acme/configs/feature_preferences";
    agent.config(Method::PUT, of_acme, &stored).await;
    let browser = Browser::open(500, 900).await;
    for path in [
        "/operators",
        "/operators/organizations",
        "/organizations/acme",
        "/organizations/acme/features/instagram_posts",
        "/organizations/acme/history",
        "/operators/groups?feature=instagram_posts",
        "/operators/quarantine",
        "/tenants/user1",
        "/tenants/user1/features/instagram_posts",
        "/tenants/user1/features/new_one",
        "/tenants/user1/history",
        "/sign-in",
    ] {
        browser.goto(&format!("{}{path}", agent.config_url())).await;
        let moved = browser.moved().await;
        assert!(moved <= 0.1, "{path} has moved by {moved}");
        let nameless =
            "return [...document.querySelectorAll('input:not([type=hidden]), select, textarea')]
            .filter(e => e.labels.length === 0 && !e.ariaLabel).map(e => e.outerHTML)";
        assert_eq!(browser.run(nameless).await, json!([]), "{path}");
        let headings = "return document.querySelectorAll('h1').length";
        assert_eq!(browser.run(headings).await, 1, "{path}");
        // The window cannot be made narrower than 500, a page within it can.
        let overflow = "document.body.style.width = '360px';
            return [...document.querySelectorAll('main *')].filter(e => !e.closest('.scroll, .visually-hidden')
                && e.getClientRects().length && e.getBoundingClientRect().right > 361).map(e => e.outerHTML.slice(0, 200))";
        assert_eq!(browser.run(overflow).await, json!([]), "{path}");
    }
    let phone = Browser::screen(360).await;
    let erasures = "/operators/erasures?tenant=user1";
    for path in ["/operators", "/operators/quarantine", erasures] {
        phone.goto(&format!("{}{path}", agent.config_url())).await;
        let fits =
            "return innerWidth === 360 && document.documentElement.scrollWidth <= innerWidth";
        assert_eq!(phone.run(fits).await, true, "{path}");
    }
    phone.close().await;
    // With the keyboard alone: from the top, the first stop skips to the content.
    browser
        .goto(&format!(
            "{}/tenants/user1/features/instagram_posts",
            agent.config_url()
        ))
        .await;
    browser
        .find("body")
        .await
        .send_keys("\u{e004}")
        .await
        .unwrap();
    assert_eq!(
        browser.run("return document.activeElement.className").await,
        "skip"
    );
    assert_eq!(
        browser
            .run("return document.querySelectorAll('[name=weekday]:checked').length")
            .await,
        2
    );
    browser.close().await;
}

fn form_urlencoded(text: &str) -> String {
    text.bytes().map(|byte| format!("%{byte:02X}")).collect()
}
