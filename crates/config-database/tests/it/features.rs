//! Features: what people call them, what a preference for one may say, and what their jobs make of what it leaves out.

use std::time::Duration;

use punctual_config_database::Scope;
use reqwest::Method;
use secrecy::ExposeSecret;
use serde_json::{Value, json};

use crate::{
    page::{Visitor, hidden},
    server::{Kind, Running, key, on_both_databases, start, start_in},
};

on_both_databases! {
    a_feature_is_stored_and_asked_of_what_is_stored_from_then_on
    agents_publish_with_a_key_of_theirs_and_pages_show_what_they_do
    what_none_of_the_jobs_can_run_is_refused
    what_cannot_run_is_counted_before_it_is_refused_and_listed_afterwards
    a_preference_is_edited_field_by_field_and_each_edit_can_be_undone
    a_mistake_in_one_feature_keeps_back_no_edit_of_another
    what_is_known_of_features_is_exported_and_imported
    what_a_preference_leaves_open_the_job_decides_everywhere
    a_tenant_has_at_most_a_hundred_features_and_sees_none_that_others_made_up
}

const POSTS: &str = "feature-types/posts";

async fn put(server: &Running, path: &str, body: &Value) -> u16 {
    let response = server.call(Method::PUT, path, &body.to_string()).await;
    response.status().as_u16()
}

async fn store(server: &Running, tenant: &str, value: &Value) -> (u16, String) {
    let path = format!("tenants/{tenant}/configs/feature_preferences");
    let body = json!({ "config_value": value }).to_string();
    let response = server.call(Method::PUT, &path, &body).await;
    (response.status().as_u16(), response.text().await.unwrap())
}

async fn preview(server: &Running, preference: &Value) -> Value {
    let body = json!({"preference": preference, "after": "2026-11-27T00:00:00Z"}).to_string();
    let path = "tenants/user123/features/posts/preview";
    let response = server.call(Method::POST, path, &body).await;
    assert_eq!(response.status(), 200);
    response.json().await.unwrap()
}

fn weekly_at_ten() -> Value {
    json!({"jobs": {"posts": {"timezone": "Europe/Berlin", "spread_minutes": 60,
        "defaults": {"frequency": "weekly", "preferred_day": "friday", "preferred_time": "10:00"}}}})
}

async fn a_feature_is_stored_and_asked_of_what_is_stored_from_then_on(kind: Kind) {
    let server = start(kind).await;
    let feature = json!({"title": "Posts", "description": "One a day", "frequencies": ["daily", "weekly"],
        "earliest_time": "06:00", "schema": {"properties": {"tone": {"enum": ["dry"]}}}});
    assert_eq!(put(&server, POSTS, &feature).await, 204);
    let mut expected = feature.clone();
    expected["feature_type"] = json!("posts");
    expected["jobs"] = json!({});
    assert_eq!(server.get(POSTS).await, expected);
    let refused = json!({"posts": {"frequency": "monthly", "preferred_time": "05:59", "template_overrides": {"tone": "loud"}}});
    let (status, text) = store(&server, "ann", &refused).await;
    assert_eq!(status, 422);
    for part in [
        "/config_value/posts/frequency: \\\"monthly\\\" is not offered by this feature; use one of daily, weekly",
        "/config_value/posts/preferred_time: \\\"05:59\\\"",
        "/config_value/posts/template_overrides/tone",
    ] {
        assert!(text.contains(part), "{part}: {text}");
    }
    let fits = json!({"posts": {"frequency": "weekly", "preferred_time": "06:00"}});
    assert_eq!(store(&server, "ann", &fits).await.0, 200);
    for (wrong, field) in [
        (json!({"titel": "x"}), "/titel"),
        (json!({"frequencies": "daily"}), "/frequencies"),
        (json!({"schema": true}), "/schema"),
        (json!({"schema": {"type": 1}}), "invalid schema"),
    ] {
        let response = server.call(Method::PUT, POSTS, &wrong.to_string()).await;
        assert_eq!(response.status(), 422, "{wrong}");
        let text = response.text().await.unwrap();
        assert!(text.contains(field), "{text}");
    }
    assert_eq!(server.get(POSTS).await, expected);
    assert_eq!(
        put(&server, POSTS, &json!({"title": "Only a title"})).await,
        204
    );
    assert_eq!(store(&server, "bob", &refused).await.0, 200);
}

async fn agents_publish_with_a_key_of_theirs_and_pages_show_what_they_do(kind: Kind) {
    let server = start_in(kind.place().await, Some("admin-key")).await;
    let publish = async |scope: Scope| {
        let made = key(&format!("{scope}"), scope);
        let made = server.store.create_key(&made).await.unwrap();
        let url = format!("{}/api/v1/{POSTS}/jobs", server.url);
        let call = server.http.put(url).bearer_auth(made.expose_secret());
        let call = call.body(weekly_at_ten().to_string());
        call.send().await.unwrap().status().as_u16()
    };
    assert_eq!(publish(Scope::Read).await, 403);
    assert_eq!(publish(Scope::Agent).await, 204);
    let server = start_in(server.stop().await, None).await;
    assert_eq!(server.get(POSTS).await["jobs"], weekly_at_ten()["jobs"]);

    server
        .put(
            "user123",
            json!({"posts": {"enabled": true, "timezone": "Asia/Tokyo"}}),
        )
        .await;
    let visitor = Visitor::new(&server);
    let list = visitor.text("/tenants/user123").await;
    assert!(list.contains("Every Friday at 10:00, Tokyo time"), "{list}");
    let form = visitor.text("/tenants/user123/features/posts").await;
    for part in [
        "As usual: Every Friday at 10:00, Berlin time.",
        "<option value=\"\">As usual (every week)</option>",
        "Left empty: 10:00, as usual.",
    ] {
        assert!(form.contains(part), "{part}: {form}");
    }
    let run = preview(&server, &json!({"enabled": true, "timezone": "Asia/Tokyo"})).await;
    // The tenant's minute of the spread is the second.
    assert_eq!(run["jobs"][0]["next"][0]["at"], "2026-11-27T01:02:00Z");
    assert_eq!(run["jobs"][0]["job_ids"], json!(["posts"]));
    assert_eq!(
        run["jobs"][0]["fields"][1],
        json!({"name": "frequency", "value": "weekly", "origin": "job_default"})
    );
    let wrong = preview(&server, &json!({"enabled": true, "preferred_day": 31})).await;
    assert_eq!(
        (&wrong["valid"], &wrong["jobs"][0]["next"]),
        (&json!(false), &json!([]))
    );
    assert_eq!(wrong["errors"][0]["pointer"], "/preferred_day");

    // Without jobs, nothing is made up.
    assert_eq!(
        put(&server, &format!("{POSTS}/jobs"), &json!({"jobs": {}})).await,
        204
    );
    let unknown = preview(&server, &json!({"enabled": true, "frequency": "daily"})).await;
    assert_eq!(
        (&unknown["known"], &unknown["jobs"]),
        (&json!(false), &json!([]))
    );
    let form = visitor.text("/tenants/user123/features/posts").await;
    assert!(form.contains("not known here yet"), "{form}");
}

/// Waits until the quarantine has checked everything, and returns its page.
async fn quarantine(visitor: &Visitor) -> String {
    for _ in 0..600 {
        let page = visitor.text("/operators/quarantine").await;
        if !page.contains("are being checked") {
            return page;
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    panic!("the stored preferences are not checked");
}

async fn what_cannot_run_is_counted_before_it_is_refused_and_listed_afterwards(kind: Kind) {
    let server = start(kind).await;
    for number in 0..12 {
        let frequency = if number < 5 { "monthly" } else { "daily" };
        let preference = json!({"posts": {"enabled": true, "frequency": frequency}});
        server.put(&format!("t{number:02}"), preference).await;
    }
    let daily = json!({"frequencies": ["daily"]});
    let dry = format!("{POSTS}?dry_run=true");
    let response = server.call(Method::PUT, &dry, &daily.to_string()).await;
    let counted: Value = response.json().await.unwrap();
    assert_eq!(
        (&counted["checked"], &counted["invalid"]),
        (&json!(12), &json!(5))
    );
    assert_eq!(counted["examples"][0]["tenant_id"], "t00");
    assert_eq!(server.get(POSTS).await.get("frequencies"), None);

    let visitor = Visitor::new(&server);
    let page = quarantine(&visitor).await;
    assert!(page.contains("can run"), "{page}");
    assert_eq!(put(&server, POSTS, &daily).await, 204);
    let page = quarantine(&visitor).await;
    assert!(page.contains("posts: 5") && page.contains("t04"), "{page}");
    // A write that is right takes its tenant off the list at once, and jobs with which it cannot run put it there.
    server
        .put(
            "t04",
            json!({"posts": {"enabled": true, "frequency": "daily"}}),
        )
        .await;
    let page = quarantine(&visitor).await;
    assert!(page.contains("posts: 4") && !page.contains("t04"), "{page}");
    for defaults in [json!({"frequency": "daily"}), json!({})] {
        let jobs = json!({"jobs": {"posts": {"timezone": "UTC", "defaults": defaults}}});
        assert_eq!(put(&server, &format!("{POSTS}/jobs"), &jobs).await, 204);
        quarantine(&visitor).await;
        if defaults != json!({}) {
            server.put("t09", json!({"posts": {"enabled": true}})).await;
        }
    }
    let page = quarantine(&visitor).await;
    assert!(page.contains("posts: 5") && page.contains("t09"), "{page}");
    let list = visitor.text("/tenants/t09").await;
    assert!(
        list.contains("Needs your attention") && list.contains("How often: choose a value."),
        "{list}"
    );
    let path = "tenants/t09/configs/feature_preferences";
    assert_eq!(server.call(Method::DELETE, path, "").await.status(), 204);
    assert!(!quarantine(&visitor).await.contains("t09"));
}

async fn a_preference_is_edited_field_by_field_and_each_edit_can_be_undone(kind: Kind) {
    let server = start(kind).await;
    assert_eq!(
        put(&server, &format!("{POSTS}/jobs"), &weekly_at_ten()).await,
        204
    );
    let written = json!({"enabled": true, "preferred_day": ["FRI", "mon"], "own": {"x": 1}});
    server
        .put("ann", json!({"posts": written, "mail": {"enabled": false}}))
        .await;
    let path = "tenants/ann/configs/feature_preferences";
    let visitor = Visitor::new(&server);
    let feature = "/tenants/ann/features/posts";
    let send = async |fields: &[(&str, &str)]| {
        let page = visitor.text(feature).await;
        let version = hidden(&page, "version");
        let mut form = vec![
            ("action", "save"),
            ("version", version.as_str()),
            ("enabled", "true"),
        ];
        form.extend([
            ("weekday", "monday"),
            ("weekday", "friday"),
            ("minute", ""),
            ("raw", ""),
        ]);
        form.extend_from_slice(fields);
        let saved = visitor.post(feature, &form).await;
        assert_eq!(saved.status(), 303);
        saved.headers()["location"].to_str().unwrap().to_owned()
    };
    // Nothing was touched: nothing is stored.
    let location = send(&[("frequency", ""), ("time", ""), ("zone", "")]).await;
    assert!(location.ends_with("unchanged=true"), "{location}");
    let stored = server.get(path).await;
    assert_eq!(
        (&stored["config_value"]["posts"], &stored["version"]),
        (&written, &json!(1))
    );
    // One field was: the others stay as they were written.
    let location = send(&[("frequency", ""), ("time", "11:00"), ("zone", "tokyo")]).await;
    assert!(location.ends_with("&before=1"), "{location}");
    let mut expected = written.clone();
    expected["preferred_time"] = json!("11:00");
    expected["timezone"] = json!("Asia/Tokyo");
    assert_eq!(server.get(path).await["config_value"]["posts"], expected);
    let page = visitor.text(&location).await;
    assert!(page.contains(">Undo<"), "{page}");
    // Another feature's change stays when this one's is undone.
    let switch = visitor
        .post("/tenants/ann/features/mail/switch", &[("enabled", "true")])
        .await;
    assert_eq!(switch.status(), 303);
    let undone = visitor
        .post(&format!("{feature}/restore"), &[("version", "1")])
        .await;
    assert_eq!(undone.status(), 303);
    let stored = server.get(path).await["config_value"].clone();
    assert_eq!(
        (&stored["posts"], &stored["mail"]),
        (&written, &json!({"enabled": true}))
    );
    let history = visitor.text("/tenants/ann/history").await;
    let said = "Every Monday and Friday at 11:00, Tokyo time → Every Monday and Friday at 10:00, Berlin time";
    assert!(history.contains(said), "{history}");
    // Before the first version, it was not set.
    let first = visitor
        .post(&format!("{feature}/restore"), &[("version", "0")])
        .await;
    assert_eq!(first.status(), 303);
    assert_eq!(server.get(path).await["config_value"].get("posts"), None);
    let unknown = visitor
        .post(&format!("{feature}/restore"), &[("version", "99")])
        .await;
    assert_eq!(unknown.status(), 400);
}

async fn what_none_of_the_jobs_can_run_is_refused(kind: Kind) {
    let server = start(kind).await;
    let on = |fields: &Value| {
        let mut preference = json!({"enabled": true, "frequency": "daily"});
        let fields = fields.as_object().unwrap().clone();
        preference.as_object_mut().unwrap().extend(fields);
        json!({"posts": preference})
    };
    let (every_third, once) = (
        on(&json!({"interval": 3})),
        on(&json!({"frequency": "once"})),
    );
    // Jobs that are not known might say from when.
    assert_eq!(store(&server, "a", &every_third).await.0, 200);
    let jobs = json!({"jobs": {"posts": {"timezone": "UTC"}}});
    assert_eq!(put(&server, &format!("{POSTS}/jobs"), &jobs).await, 204);
    for (preference, field) in [(&every_third, "posts/start_date"), (&once, "posts/date")] {
        let (status, answer) = store(&server, "b", preference).await;
        assert_eq!(status, 422, "{answer}");
        assert!(answer.contains(field), "{answer}");
    }
    let off = on(&json!({"interval": 3, "enabled": false}));
    assert_eq!(store(&server, "b", &off).await.0, 200);
    let jobs =
        json!({"jobs": {"posts": {"timezone": "UTC", "defaults": {"start_date": "2026-12-01"}}}});
    assert_eq!(put(&server, &format!("{POSTS}/jobs"), &jobs).await, 204);
    assert_eq!(store(&server, "b", &every_third).await.0, 200);
}

async fn a_mistake_in_one_feature_keeps_back_no_edit_of_another(kind: Kind) {
    let server = start(kind).await;
    server
        .put(
            "ann",
            json!({"posts": {"frequency": "monthly"}, "mail": {"enabled": false}}),
        )
        .await;
    assert_eq!(
        put(&server, POSTS, &json!({"frequencies": ["daily"]})).await,
        204
    );
    let visitor = Visitor::new(&server);
    let switch = visitor
        .post("/tenants/ann/features/mail/switch", &[("enabled", "true")])
        .await;
    assert_eq!(switch.status(), 303);
    let path = "tenants/ann/configs/feature_preferences";
    let patch = json!({"config_value": {"mail": {"preferred_time": "10:00"}}}).to_string();
    assert_eq!(server.call(Method::PATCH, path, &patch).await.status(), 200);
    let patch = json!({"config_value": {"posts": {"preferred_time": "10:00"}}}).to_string();
    assert_eq!(server.call(Method::PATCH, path, &patch).await.status(), 422);
}

async fn what_is_known_of_features_is_exported_and_imported(kind: Kind) {
    let server = start(kind).await;
    let feature = json!({"title": "Posts", "schema": {"properties": {"tone": {"enum": ["dry"]}}}});
    assert_eq!(put(&server, POSTS, &feature).await, 204);
    server
        .put(
            "ann",
            json!({"posts": {"template_overrides": {"tone": "dry"}}}),
        )
        .await;
    let exported = Visitor::new(&server).text("/operators/export").await;
    assert_eq!(exported.lines().count(), 2);
    let loud = json!({"tenant_id": "bob", "config_value": {"posts": {"template_overrides": {"tone": "loud"}}}});
    let lines = format!(
        "{exported}{loud}\n{}\n",
        json!({"feature_type": "x", "titel": 1})
    );

    let other = start(kind).await;
    let response = other.call(Method::POST, "preferences/import", &lines).await;
    let report: Value = response.json().await.unwrap();
    let counts = (
        &report["features"],
        &report["imported"],
        &report["rejected"],
    );
    assert_eq!(counts, (&json!(1), &json!(1), &json!(2)), "{report}");
    assert_eq!(
        Visitor::new(&other).text("/operators/export").await,
        exported
    );
}

async fn what_a_preference_leaves_open_the_job_decides_everywhere(kind: Kind) {
    let server = start(kind).await;
    let jobs = json!({"jobs": {"posts": {"timezone": "UTC", "defaults": {"enabled": true, "frequency": "daily"}}}});
    assert_eq!(put(&server, &format!("{POSTS}/jobs"), &jobs).await, 204);
    server
        .put("open", json!({"posts": {"preferred_time": "08:00"}}))
        .await;
    server
        .put(
            "on",
            json!({"posts": {"enabled": true, "preferred_time": "08:00"}}),
        )
        .await;
    server
        .put(
            "off",
            json!({"posts": {"enabled": false, "preferred_time": "08:00"}}),
        )
        .await;
    let page = server.get("preferences/groups?feature_type=posts").await;
    let tenants = page["groups"][0]["tenants"].as_array().unwrap();
    let listed: Vec<_> = tenants
        .iter()
        .map(|tenant| (tenant["tenant_id"].as_str().unwrap(), tenant.get("enabled")))
        .collect();
    assert_eq!(
        listed,
        [("on", None), ("open", Some(&Value::Null))],
        "{page}"
    );
    let visitor = Visitor::new(&server);
    assert!(visitor.text("/tenants/open").await.contains("Switch off"));

    // Unsubscribing says off, also where nothing has said on.
    let wanted = json!({"feature": "posts"}).to_string();
    let made = server
        .call(Method::POST, "tenants/open/unsubscribe-links", &wanted)
        .await;
    let made: Value = made.json().await.unwrap();
    let path = made["url"].as_str().unwrap();
    let path = path.strip_prefix(&server.url).unwrap();
    let answer = visitor
        .post(path, &[("List-Unsubscribe", "One-Click")])
        .await;
    assert_eq!(answer.status(), 200);
    let stored = server.get("tenants/open/configs/feature_preferences").await;
    assert_eq!(
        stored["config_value"]["posts"],
        json!({"enabled": false, "preferred_time": "08:00"})
    );

    // The form: left unticked is off, whatever is usual.
    let form = visitor.text("/tenants/new/features/posts").await;
    let (csrf, version) = (hidden(&form, "csrf"), hidden(&form, "version"));
    let fields = [
        ("csrf", csrf.as_str()),
        ("version", &version),
        ("time", "07:00"),
    ];
    let saved = visitor.post("/tenants/new/features/posts", &fields).await;
    assert_eq!(saved.status(), 303);
    let stored = server.get("tenants/new/configs/feature_preferences").await;
    assert_eq!(
        stored["config_value"]["posts"],
        json!({"enabled": false, "preferred_time": "07:00"})
    );
}

async fn a_tenant_has_at_most_a_hundred_features_and_sees_none_that_others_made_up(kind: Kind) {
    let server = start_in(kind.place().await, Some("admin")).await;
    let all: Value = (0..100)
        .map(|n| {
            (
                format!("f{n}"),
                json!({"enabled": true, "frequency": "daily"}),
            )
        })
        .collect();
    let admin = async |method: Method, path: &str, body: &Value| {
        crate::links::call(&server, "admin", method, path, body).await
    };
    let path = "tenants/ann/configs/feature_preferences";
    let body = json!({ "config_value": all });
    assert_eq!(admin(Method::PUT, path, &body).await.status(), 200);
    let let_in = async |tenant: &str| {
        let path = format!("tenants/{tenant}/links");
        let made = admin(Method::POST, &path, &json!({})).await;
        let made: Value = made.json().await.unwrap();
        crate::links::let_in(&server, made["token"].as_str().unwrap()).await
    };
    let ann = let_in("ann").await;
    let csrf = hidden(&ann.text("/tenants/ann/features/f0").await, "csrf");
    // What is only switched off does not count.
    for (enabled, count) in [("true", 100), ("false", 101), ("true", 101)] {
        let fields = [("csrf", csrf.as_str()), ("enabled", enabled)];
        ann.post("/tenants/ann/features/one-more/switch", &fields)
            .await;
        let stored: Value = admin(Method::GET, path, &Value::Null)
            .await
            .json()
            .await
            .unwrap();
        let stored = stored["config_value"].as_object().unwrap();
        assert_eq!(stored.len(), count);
        assert_ne!(
            stored.get("one-more").map(|one| &one["enabled"]),
            Some(&json!(true))
        );
    }
    let bob = let_in("bob").await;
    let feature = json!({"title": "Posts"});
    assert_eq!(admin(Method::PUT, POSTS, &feature).await.status(), 204);
    let list = bob.text("/tenants/bob").await;
    // The page also has random hexadecimal digits, which may contain `f42`.
    let other = "/features/f42";
    assert!(
        list.contains("Posts") && list.contains("/features/posts") && !list.contains(other),
        "{list}"
    );
}
