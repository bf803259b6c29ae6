//! Configurations, groups and import.

use futures::StreamExt;
use reqwest::Method;
use serde_json::{Value, json};

use crate::server::{Kind, Running, on_both_databases, start};

on_both_databases! {
    a_snapshot_streams_line_by_line_to_its_end
    an_import_that_was_cut_off_is_resumed_by_sending_it_again
    a_configuration_is_stored_read_changed_and_removed
    what_cannot_be_used_is_refused_with_every_reason_and_nothing_is_stored
    groups_hold_everyone_switched_on_once_whole_or_in_pages
    import_keeps_valid_lines_lists_the_others_and_may_be_repeated
    import_takes_the_rules_of_calendars_that_preferences_mean
}

fn daily(zone: &str, tone: &str) -> Value {
    json!({"enabled": true, "frequency": "daily", "preferred_time": "09:00", "timezone": zone,
           "template_overrides": {"tone": tone}})
}

async fn a_configuration_is_stored_read_changed_and_removed(kind: Kind) {
    let server = start(kind).await;
    let path = "tenants/user123/configs/feature_preferences";
    assert_eq!(server.call(Method::GET, path, "").await.status(), 404);

    let value = json!({"instagram_posts": daily("Europe/Berlin", "playful"), "etsy": {"enabled": false, "own": [1]}});
    let stored = server.put("user123", value.clone()).await;
    assert_eq!(
        (stored["version"].as_i64(), &stored["config_value"]),
        (Some(1), &value)
    );
    let read = server.get(path).await;
    assert_eq!(read, stored);
    assert_eq!(
        (read["tenant_id"].as_str(), read["config_key"].as_str()),
        (Some("user123"), Some("feature_preferences"))
    );

    assert_eq!(
        server.put("user123", value).await["version"],
        1,
        "storing the same again changes nothing"
    );
    assert_eq!(server.put("user123", json!({})).await["version"], 2);
    assert_eq!(server.call(Method::DELETE, path, "").await.status(), 204);
    assert_eq!(server.call(Method::DELETE, path, "").await.status(), 404);
    assert_eq!(server.call(Method::GET, path, "").await.status(), 404);
}

async fn what_cannot_be_used_is_refused_with_every_reason_and_nothing_is_stored(kind: Kind) {
    let server = start(kind).await;
    let body = json!({"config_value": {
        "instagram_posts": {"enabled": "yes", "frequency": "dayly"}, "bad name": {}, "etsy": 7
    }});
    let response = server
        .call(
            Method::PUT,
            "tenants/a/configs/feature_preferences",
            &body.to_string(),
        )
        .await;
    assert_eq!(response.status(), 422);
    assert_eq!(
        response.headers()["content-type"],
        "application/problem+json"
    );
    let problem: Value = response.json().await.unwrap();
    let pointers: Vec<&str> = problem["errors"]
        .as_array()
        .unwrap()
        .iter()
        .map(|error| error["pointer"].as_str().unwrap())
        .collect();
    assert_eq!(
        pointers,
        [
            "/config_value/bad name",
            "/config_value/etsy",
            "/config_value/instagram_posts/enabled",
            "/config_value/instagram_posts/frequency",
        ]
    );
    assert_eq!(
        server
            .call(Method::GET, "tenants/a/configs/feature_preferences", "")
            .await
            .status(),
        404
    );
    assert_eq!(
        server.get("preferences/changes?since_id=0").await["last_id"],
        0
    );

    for (path, body, status) in [
        ("tenants/a/configs/feature_preferences", "{", 400),
        ("tenants/a/configs/feature_preferences", "{}", 422),
        ("tenants/a%20b/configs/feature_preferences", "{}", 400),
        ("tenants/%2e%2e%2f/configs/feature_preferences", "{}", 400),
        ("tenants/a/configs/%00", "{}", 400),
        ("tenants/a/nonsense", "{}", 404),
    ] {
        assert_eq!(
            server.call(Method::PUT, path, body).await.status(),
            status,
            "{path}"
        );
    }
    let large = "x".repeat(2 * 1024 * 1024);
    let status = server
        .call(Method::PUT, "tenants/a/configs/feature_preferences", &large)
        .await
        .status();
    assert_eq!(status, 413);
}

/// The groups as sorted lines: `zone: tenants`.
fn lines(groups: &Value) -> Vec<String> {
    let line = |group: &Value| {
        let tenants = group["tenants"].as_array().unwrap();
        assert_eq!(group["count"].as_u64(), Some(tenants.len() as u64));
        let ids: Vec<&str> = tenants
            .iter()
            .map(|tenant| tenant["tenant_id"].as_str().unwrap())
            .collect();
        format!("{}: {}", group["timezone"], ids.join(" "))
    };
    let mut lines: Vec<String> = groups["groups"]
        .as_array()
        .unwrap()
        .iter()
        .map(line)
        .collect();
    lines.sort();
    lines
}

async fn five_tenants(server: &Running) {
    for (tenant, zone) in [
        ("a", "UTC"),
        ("b", "Asia/Tokyo"),
        ("c", "UTC"),
        ("d", "UTC"),
    ] {
        server
            .put(tenant, json!({"instagram_posts": daily(zone, tenant)}))
            .await;
    }
    server
        .put(
            "off",
            json!({"instagram_posts": {"enabled": false}, "other": daily("UTC", "x")}),
        )
        .await;
}

async fn groups_hold_everyone_switched_on_once_whole_or_in_pages(kind: Kind) {
    let server = start(kind).await;
    five_tenants(&server).await;
    let whole = server
        .get("preferences/groups?feature_type=instagram_posts")
        .await;
    assert_eq!(lines(&whole), ["\"Asia/Tokyo\": b", "\"UTC\": a c d"]);
    assert_eq!(
        (&whole["as_of_id"], &whole["next_cursor"]),
        (&json!(6), &Value::Null)
    );
    let group = whole["groups"]
        .as_array()
        .unwrap()
        .iter()
        .find(|group| group["timezone"] == "UTC")
        .unwrap();
    assert_eq!(
        (
            &group["frequency"],
            &group["preferred_time"],
            &group["preferred_day"]
        ),
        (&json!("daily"), &json!("09:00"), &Value::Null)
    );
    assert_eq!(
        group["tenants"][0]["template_overrides"],
        json!({"tone": "a"})
    );
    assert!(group["tenants"][0]["updated_at"].is_string());

    let mut seen = Vec::new();
    let mut cursor = String::new();
    loop {
        let page = server
            .get(&format!(
                "preferences/groups?feature_type=instagram_posts&limit=3{cursor}"
            ))
            .await;
        seen.extend(lines(&page));
        assert_eq!(
            page["as_of_id"], 6,
            "every page names the place of the first in the feed"
        );
        let Some(next) = page["next_cursor"].as_str() else {
            break;
        };
        cursor = format!("&cursor={next}");
        // What changes between the pages comes again in the feed.
        server
            .put("e", json!({"instagram_posts": daily("UTC", "late")}))
            .await;
    }
    assert_eq!(seen, ["\"Asia/Tokyo\": b", "\"UTC\": a c", "\"UTC\": d e"]);

    assert_eq!(
        lines(&server.get("preferences/groups?feature_type=unused").await),
        Vec::<String>::new()
    );
    for path in [
        "preferences/groups",
        "preferences/groups?feature_type=a%20b",
        "preferences/groups?feature_type=a&cursor=x",
    ] {
        assert_eq!(
            server.call(Method::GET, path, "").await.status(),
            400,
            "{path}"
        );
    }
    let features = server.get("feature-types").await;
    assert_eq!(
        features["feature_types"][0],
        json!({"feature_type": "instagram_posts", "enabled_tenants": 5})
    );
}

async fn import_keeps_valid_lines_lists_the_others_and_may_be_repeated(kind: Kind) {
    let server = start(kind).await;
    let body = [
        r#"{"tenant_id": "a", "updated_at": "2026-01-02T03:04:05Z", "config_value": {"f": {"enabled": true, "frequency": "daily"}}}"#,
        "not json",
        "",
        r#"{"tenant_id": "b", "config_value": {"f": {"enabled": true, "preferred_time": "25:00"}}}"#,
        r#"{"tenant_id": "b c", "config_value": {}}"#,
        r#"{"tenant_id": "future", "updated_at": "2999-01-01T00:00:00Z", "config_value": {"f": {"enabled": true, "frequency": "daily"}}}"#,
    ]
    .join("\n");
    for _ in 0..2 {
        let report: Value = server
            .call(Method::POST, "preferences/import", &body)
            .await
            .json()
            .await
            .unwrap();
        assert_eq!(
            (&report["imported"], &report["rejected"]),
            (&json!(2), &json!(3))
        );
        let numbers: Vec<u64> = report["errors"]
            .as_array()
            .unwrap()
            .iter()
            .map(|error| error["line"].as_u64().unwrap())
            .collect();
        assert_eq!(numbers, [2, 4, 5]);
        assert!(
            report["errors"][1]["errors"][0]
                .as_str()
                .unwrap()
                .contains("/config_value/f/preferred_time: \"25:00\"")
        );
    }
    let groups = server.get("preferences/groups?feature_type=f").await;
    let tenants = groups["groups"][0]["tenants"].as_array().unwrap();
    assert_eq!(tenants[0]["updated_at"], "2026-01-02T03:04:05Z");
    assert!(
        tenants[1]["updated_at"].as_str().unwrap() < "2999",
        "nothing is stored in the future"
    );
    assert_eq!(
        server.get("preferences/changes?since_id=0").await["last_id"],
        2,
        "the second import changed nothing"
    );
}

async fn import_takes_the_rules_of_calendars_that_preferences_mean(kind: Kind) {
    let server = start(kind).await;
    let line = |tenant: &str, preference: Value| {
        json!({"tenant_id": tenant, "config_value": {"f": preference}}).to_string()
    };
    let rule =
        "DTSTART;TZID=Europe/Berlin:20261201T090000\nRRULE:FREQ=WEEKLY;INTERVAL=2;BYDAY=MO,FR";
    let body = [
        line("a", json!({"enabled": true, "rrule": rule})),
        line("b", json!({"enabled": true, "rrule": "FREQ=YEARLY"})),
        line("c", json!({"timezone": "UTC", "rrule": rule})),
        line("d", json!({"enabled": true, "rrule": 7})),
        line("e", json!({"interval": 2, "rrule": "FREQ=DAILY"})),
    ]
    .join("\n");
    let imported = server.call(Method::POST, "preferences/import", &body).await;
    let report: Value = imported.json().await.unwrap();
    assert_eq!(report["imported"], 1, "{report}");
    for (place, part) in [
        "/config_value/f/rrule: \"FREQ=YEARLY\" has FREQ=YEARLY",
        "stands beside timezone, which the rule says",
        "text in quotes",
        "stands beside interval",
    ]
    .into_iter()
    .enumerate()
    {
        let error = report["errors"][place]["errors"][0].as_str().unwrap();
        assert!(error.contains(part), "{error}");
    }
    let stored = server.get("tenants/a/configs/feature_preferences").await;
    assert_eq!(
        stored["config_value"]["f"],
        json!({"enabled": true, "frequency": "weekly", "interval": 2, "preferred_day": ["monday", "friday"],
            "preferred_time": ["09:00"], "start_date": "2026-12-01", "timezone": "Europe/Berlin"})
    );
}

fn import_of(tenants: usize) -> String {
    let line = |n: usize| {
        let value = json!({"f": daily("UTC", &format!("tone {n}"))});
        json!({"tenant_id": format!("t{n:05}"), "config_value": value}).to_string() + "\n"
    };
    (0..tenants).map(line).collect()
}

async fn a_snapshot_streams_line_by_line_to_its_end(kind: Kind) {
    const TENANTS: usize = 12_000;
    let server = start(kind).await;
    let imported = server
        .call(Method::POST, "preferences/import", &import_of(TENANTS))
        .await;
    assert_eq!(imported.status(), 200);
    let url = format!("{}/api/v1/preferences/groups?feature_type=f", server.url);
    let call = server
        .http
        .get(url)
        .header("accept", "application/x-ndjson");
    let response = call.send().await.unwrap();
    assert_eq!(response.headers()["content-type"], "application/x-ndjson");
    let text = response.text().await.unwrap();
    let lines: Vec<Value> = text
        .lines()
        .map(|line| serde_json::from_str(line).unwrap())
        .collect();
    let (first, last) = (&lines[0], &lines[lines.len() - 1]);
    assert_eq!(
        (&first["feature_type"], &first["as_of_id"]),
        (&json!("f"), &json!(TENANTS))
    );
    assert_eq!(last, &json!({"end": true, "tenants": TENANTS}));
    let parts = &lines[1..lines.len() - 1];
    assert!(parts.len() > 1, "it comes in parts");
    let tenants: std::collections::HashSet<&str> = parts
        .iter()
        .flat_map(|part| part["tenants"].as_array().unwrap())
        .map(|tenant| tenant["tenant_id"].as_str().unwrap())
        .collect();
    assert_eq!(tenants.len(), TENANTS);

    let empty = server.http.get(format!(
        "{}/api/v1/preferences/groups?feature_type=none",
        server.url
    ));
    let empty = empty
        .header("accept", "application/x-ndjson")
        .send()
        .await
        .unwrap();
    let empty = empty.text().await.unwrap();
    assert!(empty.ends_with("{\"end\":true,\"tenants\":0}\n"), "{empty}");
}

async fn an_import_that_was_cut_off_is_resumed_by_sending_it_again(kind: Kind) {
    let server = start(kind).await;
    let all = import_of(12_000);
    let store = server.url.clone();
    let cut_off_later = async move {
        let url = format!("{store}/api/v1/preferences/changes?since_id=0&wait=30");
        reqwest::get(url).await.unwrap();
        Err(std::io::Error::other("the network is gone"))
    };
    let half = Ok(all[..all.len() / 2].to_owned());
    let body = futures::stream::iter([half]).chain(futures::stream::once(cut_off_later));
    let url = format!("{}/api/v1/preferences/import", server.url);
    let cut_off = server
        .http
        .post(&url)
        .body(reqwest::Body::wrap_stream(body));
    assert!(cut_off.send().await.is_err());
    let again = server.call(Method::POST, "preferences/import", &all).await;
    let report: Value = again.json().await.unwrap();
    assert_eq!(
        (&report["imported"], &report["rejected"]),
        (&json!(12_000), &json!(0))
    );
    let head = server.get("preferences/changes?since_id=0&limit=1").await;
    let unchanged = report["unchanged"].as_u64().unwrap();
    assert!(
        (5_000..=6_000).contains(&unchanged),
        "whole batches were kept: {unchanged}"
    );
    assert_eq!(head["has_more"], true);
    let groups = server.get("preferences/groups?feature_type=f").await;
    assert_eq!(groups["as_of_id"], 12_000, "nothing entered the feed twice");
}
