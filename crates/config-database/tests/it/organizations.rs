//! Organizations: a tenant's preference is stored over that of the organization, wherever either changes.

use reqwest::Method;
use serde_json::{Value, json};

use crate::server::Running;

mod access;
mod api;
mod layers;
mod members;
mod pages;

const ACME: &str = "organizations/acme/configs/feature_preferences";

async fn status(server: &Running, method: Method, path: &str, body: &Value) -> u16 {
    let body = body.to_string();
    server.call(method, path, &body).await.status().as_u16()
}

async fn status_of(server: &Running, path: &str) -> u16 {
    status(server, Method::GET, path, &Value::Null).await
}

/// Stores what an organization has for its members.
async fn layer(server: &Running, value: Value) {
    let body = json!({ "config_value": value });
    assert_eq!(
        status(server, Method::PUT, ACME, &body).await,
        200,
        "{value}"
    );
}

/// Lets a tenant belong to an organization; to none with `null`.
async fn join(server: &Running, tenant: &str, organization: Value) {
    let path = format!("tenants/{tenant}/configs/profile");
    let body = json!({"config_value": {"organization_id": organization, "name": tenant}});
    assert_eq!(status(server, Method::PUT, &path, &body).await, 200);
}

async fn changes(server: &Running) -> Vec<Value> {
    let feed = server
        .get("preferences/changes?since_id=0&feature_type=f")
        .await;
    assert_eq!(feed["has_more"], false);
    feed["changes"].as_array().unwrap().clone()
}

/// What the feed says last of a tenant: the preference, and the organization. The groups say the same.
async fn stands(server: &Running, tenant: &str) -> (Value, Value) {
    let changes = changes(server).await;
    let last = changes.iter().rfind(|change| change["tenant_id"] == tenant);
    let last = last.cloned().unwrap_or_default();
    let groups = server.get("preferences/groups?feature_type=f").await;
    let groups = groups["groups"].as_array().unwrap();
    let mut members = groups
        .iter()
        .flat_map(|group| group["tenants"].as_array().unwrap());
    let listed = members.find(|one| one["tenant_id"] == tenant);
    let is_on = last["preference"].is_object() && last["preference"]["enabled"] != false;
    assert_eq!(listed.is_some(), is_on, "{tenant}: {last}");
    if let Some(listed) = listed {
        assert_eq!(listed["organization"], last["organization"]);
        assert_eq!(listed["schedule_since"], last["schedule_since"]);
    }
    (last["preference"].clone(), last["organization"].clone())
}

/// Publishes the job of feature `f` with these defaults.
async fn publish_job(server: &Running, defaults: Value) {
    let job = json!({"timezone": "UTC", "spread_minutes": 0, "defaults": defaults});
    let jobs = json!({"jobs": {"posts": job}});
    let stored = status(server, Method::PUT, "feature-types/f/jobs", &jobs).await;
    assert_eq!(stored, 204);
}
