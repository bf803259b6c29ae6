//! What `/health/ready` says while writes fail.

use reqwest::Method;
use serde_json::Value;
use sqlx::{AnyConnection, AssertSqlSafe, Connection, Executor};

use crate::server::{Kind, on_both_databases, start};

async fn writes_that_fail_are_a_warning_until_one_succeeds(kind: Kind) {
    let server = start(kind).await;
    let ready = async || -> Value {
        let ready = server.http.get(format!("{}/health/ready", server.url));
        let ready = ready.send().await.unwrap();
        assert_eq!(ready.status(), 200, "agents are served meanwhile");
        ready.json().await.unwrap()
    };
    assert_eq!(ready().await["warnings"], serde_json::json!([]));

    let mut other = AnyConnection::connect(&server.place.url).await.unwrap();
    let mut rename = async |from: &str, to: &str| {
        let sql = format!("ALTER TABLE {from} RENAME TO {to}");
        other.execute(AssertSqlSafe(sql)).await.unwrap();
    };
    rename("config_history", "elsewhere").await;
    let path = "tenants/a/configs/feature_preferences";
    let body = r#"{"config_value": {"posts": {"enabled": true, "frequency": "daily"}}}"#;
    let refused = server.call(Method::PUT, path, body).await;
    assert_eq!(refused.status(), 503);
    assert_eq!(refused.headers()["retry-after"], "5");
    let warnings = ready().await["warnings"].to_string();
    for words in [
        "preferences cannot be stored: ",
        "(since 20",
        "(`ServerSettings::store_url`)",
    ] {
        assert!(warnings.contains(words), "{warnings}");
    }

    rename("elsewhere", "config_history").await;
    let stored = server.call(Method::PUT, path, body).await;
    assert!(stored.status().is_success());
    assert_eq!(ready().await["warnings"], serde_json::json!([]));
}

on_both_databases! {
    writes_that_fail_are_a_warning_until_one_succeeds
}
