//! JSON Schemas of features: what overrides may be.

use reqwest::Method;
use serde_json::{Value, json};

use crate::server::{Kind, Running, on_both_databases, start, start_in};

on_both_databases! {
    overrides_are_held_to_the_schema_of_their_feature_on_every_way_in
    what_is_no_schema_is_refused_and_nothing_is_fetched
}

const SCHEMA: &str = "feature-types/posts/schema";

async fn put(server: &Running, overrides: Value) -> (u16, Value) {
    let body = json!({"config_value": {"posts": {"enabled": true, "frequency": "daily", "template_overrides": overrides}}});
    let response = server
        .call(
            Method::PUT,
            "tenants/a/configs/feature_preferences",
            &body.to_string(),
        )
        .await;
    (response.status().as_u16(), response.json().await.unwrap())
}

fn schema() -> Value {
    json!({"type": "object", "additionalProperties": false, "properties": {
        "tone": {"enum": ["dry", "bold"]},
        "tags": {"type": "array", "maxItems": 2, "items": {"type": "string"}}
    }})
}

async fn overrides_are_held_to_the_schema_of_their_feature_on_every_way_in(kind: Kind) {
    let server = start(kind).await;
    assert_eq!(server.call(Method::GET, SCHEMA, "").await.status(), 404);
    assert_eq!(
        put(&server, json!({"colour": 1})).await.0,
        200,
        "without a schema they may be anything"
    );
    assert_eq!(
        server
            .call(Method::PUT, SCHEMA, &schema().to_string())
            .await
            .status(),
        204
    );
    assert_eq!(server.get(SCHEMA).await, schema());

    assert_eq!(
        put(&server, json!({"tone": "dry", "tags": ["a"]})).await.0,
        200
    );
    let (status, problem) = put(
        &server,
        json!({"tone": "loud", "tags": ["a", 2], "colour": 1}),
    )
    .await;
    assert_eq!(status, 422);
    let mut pointers: Vec<&str> = problem["errors"]
        .as_array()
        .unwrap()
        .iter()
        .map(|error| error["pointer"].as_str().unwrap())
        .collect();
    pointers.sort_unstable();
    let at = |place: &str| format!("/config_value/posts/template_overrides{place}");
    assert_eq!(pointers, [at(""), at("/tags/1"), at("/tone")]);
    assert!(
        problem["detail"].as_str().unwrap().contains(SCHEMA),
        "{problem}"
    );

    let patch =
        json!({"config_value": {"posts": {"template_overrides": {"tone": "loud"}}}}).to_string();
    let status = server
        .call(
            Method::PATCH,
            "tenants/a/configs/feature_preferences",
            &patch,
        )
        .await
        .status();
    assert_eq!(status, 422);
    let line = json!({"tenant_id": "b", "config_value": {"posts": {"template_overrides": {"tone": "loud"}}}});
    let report: Value = server
        .call(Method::POST, "preferences/import", &line.to_string())
        .await
        .json()
        .await
        .unwrap();
    assert_eq!(report["rejected"], 1);
    let restore = server
        .call(
            Method::POST,
            "tenants/a/configs/feature_preferences/restore",
            "{\"version\": 1}",
        )
        .await;
    assert_eq!(
        restore.status(),
        422,
        "an old version must fit today's schema"
    );

    // In force after a restart, until it is removed.
    let server = start_in(server.stop().await, None).await;
    assert_eq!(put(&server, json!({"tone": "loud"})).await.0, 422);
    assert_eq!(server.call(Method::DELETE, SCHEMA, "").await.status(), 204);
    assert_eq!(put(&server, json!({"tone": "loud"})).await.0, 200);
}

async fn what_is_no_schema_is_refused_and_nothing_is_fetched(kind: Kind) {
    let server = start(kind).await;
    for (body, status) in [
        ("not json", 400),
        ("{\"type\": \"colour\"}", 422),
        ("{\"pattern\": \"(\"}", 422),
        ("{\"$ref\": \"http://127.0.0.1:1/schema.json\"}", 422),
        ("{\"$ref\": \"file:///etc/passwd\"}", 422),
    ] {
        assert_eq!(
            server.call(Method::PUT, SCHEMA, body).await.status(),
            status,
            "{body}"
        );
    }
    assert_eq!(server.call(Method::GET, SCHEMA, "").await.status(), 404);
    assert_eq!(
        server
            .call(Method::PUT, "feature-types/a%20b/schema", "{}")
            .await
            .status(),
        400
    );
}
