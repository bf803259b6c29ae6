//! The API of an organization's preferences: effective values, versions, conditions, export and import.

use reqwest::Method;
use serde_json::{Value, json};

use super::{ACME, changes, join, layer, publish_job, stands, status, status_of};
use crate::{
    links::call,
    page::Visitor,
    server::{Kind, on_both_databases, start},
};

on_both_databases! {
    what_is_in_effect_for_one_tenant_can_be_read
    an_organizations_preferences_have_versions_and_conditions
    organizations_are_exported_and_imported
}

async fn what_is_in_effect_for_one_tenant_can_be_read(kind: Kind) {
    let server = start(kind).await;
    let plain = "tenants/a/configs/feature_preferences";
    let effective = format!("{plain}?effective=true");
    let read = async |known: Option<&str>| {
        let mut call = server
            .http
            .get(format!("{}/api/v1/{effective}", server.url));
        if let Some(known) = known {
            call = call.header("if-none-match", known);
        }
        let answer = call.send().await.unwrap();
        let etag = answer.headers().get("etag");
        let etag = etag.map_or_else(String::new, |etag| etag.to_str().unwrap().to_owned());
        let status = answer.status().as_u16();
        let body: Value = answer.json().await.unwrap_or_default();
        (status, etag, body)
    };
    assert_eq!(read(None).await.0, 404);
    join(&server, "a", json!("acme")).await;
    assert_eq!(read(None).await.0, 404, "neither has stored any");
    let daily = json!({"enabled": true, "frequency": "daily"});
    layer(&server, json!({ "f": daily })).await;
    let (status, first, config) = read(None).await;
    assert_eq!(
        (status, &config["config_value"]),
        (200, &json!({"f": daily}))
    );
    let given = json!({"f": {"id": "acme", "fields": ["enabled", "frequency"]}});
    assert_eq!(config["organization"], given);
    let since = changes(&server).await[0]["schedule_since"].clone();
    assert_eq!(config["schedule_since"], json!({ "f": since }));
    assert_eq!(
        status_of(&server, plain).await,
        404,
        "nothing of the tenant's own"
    );
    assert_eq!(read(Some(&first)).await.0, 304);

    let own =
        json!({"f": {"preferred_time": "18:00"}, "g": {"enabled": true, "frequency": "weekly"}});
    server.put("a", own.clone()).await;
    let (status, second, config) = read(Some(&first)).await;
    assert_eq!(status, 200);
    assert_eq!(
        config["config_value"],
        json!({"f": {"enabled": true, "frequency": "daily", "preferred_time": "18:00"}, "g": own["g"]})
    );
    assert_eq!(
        config["organization"]["g"],
        json!({"id": "acme", "fields": []})
    );
    layer(
        &server,
        json!({"f": {"frequency": "daily", "timezone": "Asia/Tokyo"}}),
    )
    .await;
    let (status, third, config) = read(Some(&second)).await;
    assert_eq!((status, &config["version"]), (200, &json!(1)));
    assert_eq!(
        config["organization"]["f"]["fields"],
        json!(["frequency", "timezone"])
    );
    let stored = server.get(plain).await;
    assert_eq!(
        (&stored["config_value"], &stored["organization"]),
        (&own, &Value::Null)
    );

    let features = r#"{"features": ["g"]}"#;
    let made = server.call(Method::POST, "tenants/a/links", features).await;
    let made: Value = made.json().await.unwrap();
    let token = made["token"].as_str().unwrap();
    let seen = call(&server, token, Method::GET, &effective, &Value::Null).await;
    let seen: Value = seen.json().await.unwrap();
    for field in ["config_value", "organization", "schedule_since"] {
        let features: Vec<&String> = seen[field].as_object().unwrap().keys().collect();
        assert_eq!(features, ["g"], "{field}");
    }

    join(&server, "a", Value::Null).await;
    let (status, _, config) = read(Some(&third)).await;
    assert_eq!((status, &config["config_value"]), (200, &own));
    assert_eq!(config["organization"], Value::Null);
    let wrong = format!("{plain}?effective=often");
    assert_eq!(status_of(&server, &wrong).await, 400);
}

async fn an_organizations_preferences_have_versions_and_conditions(kind: Kind) {
    let server = start(kind).await;
    let history = format!("{ACME}/history");
    assert_eq!(status(&server, Method::GET, ACME, &Value::Null).await, 404);
    assert_eq!(
        status(&server, Method::DELETE, ACME, &Value::Null).await,
        404
    );
    layer(&server, json!({"f": {"timezone": "UTC"}})).await;
    layer(&server, json!({"f": {"timezone": "Asia/Tokyo"}})).await;
    let url = format!("{}/api/v1/{ACME}", server.url);
    let body = json!({"config_value": {}}).to_string();
    for (header, tag, status) in [
        ("if-match", "\"1\"", 412),
        ("if-none-match", "*", 412),
        ("if-match", "2", 400),
        ("if-match", "\"2\"", 200),
    ] {
        let put = server.http.put(&url).header(header, tag).body(body.clone());
        assert_eq!(
            put.send().await.unwrap().status(),
            status,
            "{header}: {tag}"
        );
    }
    let read = server.http.get(&url).header("if-none-match", "\"3\"");
    let read = read.send().await.unwrap();
    assert_eq!(
        (read.status().as_u16(), &read.headers()["etag"]),
        (304, &"\"3\"".parse().unwrap())
    );
    assert_eq!(
        status(&server, Method::DELETE, ACME, &Value::Null).await,
        204
    );
    let versions = server.get(&format!("{history}?limit=2")).await;
    let listed: Vec<&Value> = versions["versions"]
        .as_array()
        .unwrap()
        .iter()
        .map(|version| &version["config_value"])
        .collect();
    assert_eq!(listed, [&Value::Null, &json!({})]);
    assert_eq!(versions["next_before"], 3);
    // An earlier version comes back as a new one, under conditions as well.
    join(&server, "a", json!("acme")).await;
    let restore = format!("{url}/restore");
    for (version, header, tag, status) in [
        (1, "if-none-match", "*", 200),
        (2, "if-match", "\"1\"", 412),
        (2, "if-match", "\"5\"", 200),
        (4, "if-match", "*", 404),
        (70, "if-match", "*", 404),
    ] {
        let body = json!({ "version": version }).to_string();
        let restored = server.http.post(&restore).header(header, tag).body(body);
        let restored = restored.send().await.unwrap();
        assert_eq!(restored.status(), status, "{version}: {header}: {tag}");
    }
    let restored = server.get(ACME).await;
    assert_eq!(
        (&restored["version"], &restored["config_value"]),
        (&json!(6), &json!({"f": {"timezone": "Asia/Tokyo"}}))
    );
    assert_eq!(stands(&server, "a").await.0["timezone"], "Asia/Tokyo");
    let other = "organizations/acme/configs/profile";
    assert_eq!(status(&server, Method::GET, other, &Value::Null).await, 404);
    let wrong = "organizations/a%20b/configs/feature_preferences";
    assert_eq!(status(&server, Method::GET, wrong, &Value::Null).await, 400);
    let without_members = server.get("organizations/none").await;
    assert_eq!(
        (&without_members["members"], &without_members["features"]),
        (&json!(0), &json!([]))
    );
}

async fn organizations_are_exported_and_imported(kind: Kind) {
    let server = start(kind).await;
    publish_job(&server, json!({})).await;
    layer(&server, json!({"f": {"frequency": "daily"}})).await;
    join(&server, "a", json!("acme")).await;
    server.put("a", json!({"f": {"enabled": true}})).await;
    let before = stands(&server, "a").await;
    let export = Visitor::new(&server)
        .get("/operators/export")
        .await
        .text()
        .await
        .unwrap();

    let other = start(kind).await;
    publish_job(&other, json!({})).await;
    let import = async |lines: &str| {
        let report = other.call(Method::POST, "preferences/import", lines).await;
        report.json::<Value>().await.unwrap()
    };
    let report = import(&export).await;
    assert_eq!(report["rejected"], 0, "{report}");
    assert_eq!(stands(&other, "a").await, before);
    let again = import(&export).await;
    assert_eq!(again["imported"], again["unchanged"], "{again}");
    for wrong in [
        json!({"organization_id": "a/b", "config_value": {}}),
        json!({"organization_id": "acme", "config_key": "profile", "config_value": {}}),
        json!({"organization_id": "acme", "config_value": {"f": 7}}),
        json!({"organization_id": "acme"}),
    ] {
        assert_eq!(import(&wrong.to_string()).await["rejected"], 1, "{wrong}");
    }
    let without_value = import(r#"{"organization_id": "acme"}"#).await;
    let why = without_value["errors"][0]["errors"][0].as_str().unwrap();
    assert!(why.contains("write {\"organization_id\""), "{why}");
}
