//! What Enter and the buttons of the form do, in Chromium.

use std::time::{Duration, Instant};

use reqwest::Method;
use serde_json::json;

use crate::{
    browser::Browser,
    page::Visitor,
    server::{Kind, Running, start},
};

const TEST_TIMEOUT: Duration = Duration::from_mins(1);

/// A feature that asks for the name of a shop, and two tenants who have it weekly.
async fn prepare(server: &Running) {
    let schema = json!({"properties": {"shop": {"type": "string", "title": "Name of your shop", "default": "Ask us."}}})
        .to_string();
    let jobs = json!({"jobs": {"posts": {"timezone": "UTC", "defaults": {"frequency": "daily"}}}});
    for (path, body) in [
        ("feature-types/posts/schema", schema),
        ("feature-types/posts/jobs", jobs.to_string()),
    ] {
        let put = server.call(Method::PUT, path, &body).await;
        assert!(put.status().is_success(), "{path}");
    }
    for tenant in ["ann", "bob"] {
        let weekly = json!({"enabled": true, "frequency": "weekly", "preferred_day": ["monday"],
            "preferred_time": "09:00", "timezone": "UTC"});
        server.put(tenant, json!({"posts": weekly})).await;
    }
}

/// The first button of a form is the one that Enter presses.
#[tokio::test]
async fn the_first_button_of_the_form_saves() {
    let server = start(Kind::Sqlite).await;
    prepare(&server).await;
    let page = Visitor::new(&server)
        .text("/tenants/ann/features/posts")
        .await;
    let (_, form) = page.split_once("id=\"preference\"").unwrap();
    let (_, button) = form.split_once("<button").unwrap();
    let button = button.split('>').next().unwrap();
    assert!(!button.contains("name="), "{button}");
    // A text of people's own is quoted where it is named.
    assert!(form.contains("Left empty: “Ask us.”, as usual."), "{form}");
    assert!(
        page.contains("/operators/erasures\">Erasures</a>"),
        "{page}"
    );
}

#[cfg_attr(
    not(feature = "servers"),
    ignore = "needs what `make setup` installs; run `make test`"
)]
#[tokio::test]
async fn enter_saves_what_was_typed_with_the_script_and_without() {
    let server = start(Kind::Sqlite).await;
    prepare(&server).await;
    for (tenant, scripts) in [("ann", true), ("bob", false)] {
        // Chromium's settings for what pages may do: 1 allows it, 2 blocks it.
        let setting = if scripts { 1 } else { 2 };
        let preferences = json!({"profile.managed_default_content_settings.javascript": setting});
        let browser = Browser::open_with(1200, 1000, &[], &preferences).await;
        let page = format!("{}/tenants/{tenant}/features/posts", server.url);
        browser.goto(&page).await;
        let shop = browser.find("[name='o.shop']").await;
        shop.send_keys("Corner shop\u{e007}").await.unwrap();
        let path = format!("tenants/{tenant}/configs/feature_preferences");
        let began = Instant::now();
        loop {
            let stored = server.get(&path).await;
            if stored["config_value"]["posts"]["template_overrides"]["shop"] == "Corner shop" {
                break;
            }
            assert!(began.elapsed() < TEST_TIMEOUT, "{stored}");
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        if scripts {
            browser
                .until(
                    "return !!document.querySelector('#arrival') && document.getElementById('kept').hidden",
                )
                .await;
        }
        browser.close().await;
    }
}

#[cfg_attr(
    not(feature = "servers"),
    ignore = "needs what `make setup` installs; run `make test`"
)]
#[tokio::test]
async fn what_is_reset_does_not_come_back_by_the_script() {
    let server = start(Kind::Sqlite).await;
    prepare(&server).await;
    let browser = Browser::open(1200, 1000).await;
    let page = format!("{}/tenants/ann/features/posts", server.url);
    browser.goto(&page).await;
    browser.press("button[value=reset]").await;
    let shown =
        "return [document.querySelector('#time').value, document.getElementById('kept').hidden]";
    assert_eq!(browser.run(shown).await, json!(["", true]));
    let stored = server.get("tenants/ann/configs/feature_preferences").await;
    assert_eq!(stored["config_value"]["posts"]["preferred_time"], "09:00");
    browser.close().await;
}
