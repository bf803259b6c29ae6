//! A session that ends while someone fills a form, in Chromium.

use reqwest::Method;
use serde_json::{Value, json};

use crate::{
    browser::Browser,
    links::call,
    server::{Kind, start_in},
};

const ADMIN: &str = "admin-key-of-16-chars";
const PREFERENCES: &str = "tenants/ann/configs/feature_preferences";

#[cfg_attr(
    not(feature = "servers"),
    ignore = "needs what `make setup` installs; run `make test`"
)]
#[tokio::test]
async fn what_is_sent_after_the_session_has_ended_is_in_the_form_again_after_signing_in() {
    let server = start_in(Kind::Sqlite.place().await, Some(ADMIN)).await;
    let stored = json!({"config_value": {"posts": {"enabled": true, "frequency": "weekly", "timezone": "UTC",
        "preferred_day": ["monday", "friday"]}}});
    let put = call(&server, ADMIN, Method::PUT, PREFERENCES, &stored).await;
    assert_eq!(put.status(), 200);
    let wanted = json!({"name": "ann", "scope": "write", "tenant_id": "ann"});
    let made = call(&server, ADMIN, Method::POST, "keys", &wanted).await;
    let key = made.json::<Value>().await.unwrap()["key"]
        .as_str()
        .unwrap()
        .to_owned();
    let browser = Browser::open(1200, 1000).await;
    let sign_in = async || {
        browser.fill("#key", &key).await;
        browser.press("main button").await;
    };
    browser
        .goto(&format!("{}/tenants/ann/features/posts", server.url))
        .await;
    sign_in().await;
    let change = "document.querySelector('#time').value = '07:15';
        document.querySelector('[name=weekday][value=friday]').click();
        document.querySelector('[name=weekday][value=sunday]').click()";
    browser.run(change).await;
    browser.client.delete_all_cookies().await.unwrap();
    let typed =
        "document.querySelector('#time').dispatchEvent(new Event('input', {bubbles: true}))";
    browser.run(typed).await;
    // The runs say that the visit has ended; before, they showed the page for signing in.
    browser
        .until(
            "return document.getElementById('runs').textContent.includes('Your visit has ended')",
        )
        .await;
    browser.press("button[value=save]").await;
    sign_in().await;
    browser
        .until("return !document.getElementById('kept').hidden")
        .await;
    let chosen = "return [document.querySelector('#time').value,
        [...document.querySelectorAll('[name=weekday]:checked')].map((day) => day.value).sort().join()]";
    assert_eq!(browser.run(chosen).await, json!(["07:15", "monday,sunday"]));
    browser.press("button[value=save]").await;
    browser
        .until(
            "return !!document.querySelector('#arrival') && document.getElementById('kept').hidden",
        )
        .await;
    let answer = call(&server, ADMIN, Method::GET, PREFERENCES, &Value::Null).await;
    let now: Value = answer.json().await.unwrap();
    assert_eq!(
        now["config_value"]["posts"],
        json!({"enabled": true, "frequency": "weekly", "timezone": "UTC", "preferred_time": "07:15",
            "preferred_day": ["monday", "sunday"]})
    );
    browser.close().await;
}
