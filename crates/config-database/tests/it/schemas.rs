//! JSON Schemas of features: what overrides may be.

use reqwest::Method;
use serde_json::{Value, json};

use crate::server::{Kind, Running, on_both_databases, start, start_in};

on_both_databases! {
    overrides_are_held_to_the_schema_of_their_feature_on_every_way_in
    an_invalid_schema_is_refused_and_nothing_is_fetched
    a_schema_that_could_take_for_ever_is_refused_and_an_expensive_one_is_bounded
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

    // The schema stays in effect after a restart, until it is removed.
    let server = start_in(server.stop().await, None).await;
    assert_eq!(put(&server, json!({"tone": "loud"})).await.0, 422);
    assert_eq!(server.call(Method::DELETE, SCHEMA, "").await.status(), 204);
    assert_eq!(put(&server, json!({"tone": "loud"})).await.0, 200);
}

async fn an_invalid_schema_is_refused_and_nothing_is_fetched(kind: Kind) {
    let server = start(kind).await;
    for (body, status) in [
        ("not json", 400),
        ("true", 400),
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

async fn a_schema_that_could_take_for_ever_is_refused_and_an_expensive_one_is_bounded(kind: Kind) {
    let server = start(kind).await;
    let doubling = |levels: usize| {
        let mut definitions = json!({"d0": {"const": 1}});
        for level in 1..=levels {
            let before = json!({"$ref": format!("#/$defs/d{}", level - 1)});
            definitions[format!("d{level}")] = json!({"anyOf": [before, before]});
        }
        json!({"$defs": definitions, "properties": {"a": {"$ref": format!("#/$defs/d{levels}")}}})
    };
    let upload = |schema: Value| {
        let server = &server;
        async move {
            let answer = server.call(Method::PUT, SCHEMA, &schema.to_string()).await;
            (answer.status().as_u16(), answer.text().await.unwrap())
        }
    };
    let (status, problem) = upload(doubling(24)).await;
    assert_eq!(status, 422);
    assert!(problem.contains("references multiply"), "{problem}");
    let twice = json!({"properties": {"a": {"$ref": "#"}, "b": {"$ref": "#"}}});
    assert_eq!(upload(twice).await.0, 422);

    // The most expensive one that is accepted, and what is worst for it.
    let tries: Vec<Value> = (0..1_500)
        .map(|n| json!({"const": format!("c{n}")}))
        .collect();
    let expensive = json!({"properties": {"list": {"items": {"anyOf": tries}}}});
    assert_eq!(upload(expensive).await.0, 204);
    let began = std::time::Instant::now();
    let (status, problem) = put(&server, json!({"list": vec![0; 7_000]})).await;
    assert_eq!(status, 422);
    assert!(problem.to_string().len() < 2_000, "{problem}");
    assert!(began.elapsed() < std::time::Duration::from_mins(1));

    // A pattern is tried for so long and no longer.
    assert_eq!(
        upload(json!({"properties": {"a": {"pattern": "^(a|a)*(?=b)$"}}}))
            .await
            .0,
        204
    );
    assert_eq!(put(&server, json!({"a": "a".repeat(10_000)})).await.0, 422);

    let many = json!({"properties": {"a": {"items": {"type": "string"}}}});
    assert_eq!(upload(many).await.0, 204);
    let (status, problem) = put(&server, json!({"a": vec![0; 5_000]})).await;
    assert_eq!(status, 422);
    assert_eq!(problem["errors"].as_array().unwrap().len(), 100);
}
