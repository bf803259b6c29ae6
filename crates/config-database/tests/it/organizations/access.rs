//! Keys and links: what they reach of an organization and of its members.

use punctual_config_database::{NewKey, Scope};
use punctual_domain::TenantId;
use reqwest::{Method, StatusCode};
use secrecy::ExposeSecret;
use serde_json::{Value, json};

use super::ACME;
use crate::{
    links::{call, let_in},
    page::Visitor,
    server::{Kind, on_both_databases, start_in},
};

on_both_databases! {
    a_tenants_own_key_cannot_move_the_tenant
    a_link_to_an_organization_reaches_no_tenant
}

const ADMIN: &str = "admin-key";

async fn a_tenants_own_key_cannot_move_the_tenant(kind: Kind) {
    let server = start_in(kind.place().await, Some(ADMIN)).await;
    let new = NewKey {
        name: "page of a".to_owned(),
        scope: Scope::Write,
        tenant_id: Some(TenantId::new("a").unwrap()),
    };
    let key = server.store.create_key(&new).await.unwrap();
    let key = key.expose_secret();
    let profile = "tenants/a/configs/profile";
    let named = |organization: Value| json!({"config_value": {"organization_id": organization, "locale": "de"}});
    let plain = json!({"config_value": {"locale": "de"}});
    let put = async |key: &str, body: &Value| {
        let answer = call(&server, key, Method::PUT, profile, body).await;
        (answer.status().as_u16(), answer.text().await.unwrap())
    };
    let (refused, why) = put(key, &named(json!("acme"))).await;
    assert_eq!(refused, 422);
    assert!(
        why.contains("/config_value/organization_id")
            && why.contains("a key that may write all tenants"),
        "{why}"
    );
    assert_eq!(put(key, &plain).await.0, 200);
    assert_eq!(put(ADMIN, &named(json!("acme"))).await.0, 200);
    for other in [plain.clone(), named(json!("other")), named(Value::Null)] {
        assert_eq!(put(key, &other).await.0, 422, "{other}");
    }
    assert_eq!(put(key, &named(json!("acme"))).await.0, 200, "as it is");
    let patch = json!({"config_value": {"organization_id": null}});
    for (method, path, body) in [
        (Method::PATCH, profile.to_owned(), patch),
        (Method::DELETE, profile.to_owned(), Value::Null),
        (
            Method::POST,
            format!("{profile}/restore"),
            json!({"version": 1}),
        ),
    ] {
        let refused = call(&server, key, method.clone(), &path, &body).await;
        assert_eq!(refused.status(), 422, "{method}");
    }
    let organization = call(
        &server,
        key,
        Method::GET,
        "organizations/acme",
        &Value::Null,
    )
    .await;
    assert_eq!(organization.status(), 403);
    // Nor do the pages show it to the tenant, or an organization of the tenant's name.
    let visitor = Visitor::signed_in(&server, key).await;
    for path in [
        "/organizations/acme",
        "/organizations/a",
        "/organizations/a/history",
        "/organizations/a/features/f",
        "/organizations/a/features/f/arrival?change=1",
        "/operators/organizations",
    ] {
        assert_eq!(visitor.status(path).await, 403, "{path}");
    }
    let members = call(
        &server,
        ADMIN,
        Method::GET,
        "organizations/acme",
        &Value::Null,
    )
    .await;
    assert_eq!(members.json::<Value>().await.unwrap()["members"], 1);
    let wrong = [json!("a/b"), json!(7), json!("")];
    for organization in wrong {
        assert_eq!(put(ADMIN, &named(organization)).await.0, 422);
    }
}

async fn a_link_to_an_organization_reaches_no_tenant(kind: Kind) {
    let server = start_in(kind.place().await, Some(ADMIN)).await;
    let daily = json!({"config_value": {"f": {"enabled": true, "frequency": "daily"}}});
    // A tenant, a member and an organization of one name.
    for path in ["tenants/acme/configs/feature_preferences", ACME] {
        let stored = call(&server, ADMIN, Method::PUT, path, &daily).await;
        assert_eq!(stored.status(), 200);
    }
    let profile = json!({"config_value": {"organization_id": "acme"}});
    let path = "tenants/acme/configs/profile";
    assert_eq!(
        call(&server, ADMIN, Method::PUT, path, &profile)
            .await
            .status(),
        200
    );
    let made = call(
        &server,
        ADMIN,
        Method::POST,
        "organizations/acme/links",
        &Value::Null,
    )
    .await;
    assert_eq!(made.status(), StatusCode::CREATED);
    let made: Value = made.json().await.unwrap();
    let token = made["token"].as_str().unwrap();
    for (method, path, status) in [
        (Method::GET, ACME, 200),
        (Method::PUT, ACME, 200),
        (Method::DELETE, ACME, 403),
        (
            Method::GET,
            "organizations/other/configs/feature_preferences",
            403,
        ),
        (Method::GET, "organizations/acme", 403),
        (Method::POST, "organizations/acme/links", 403),
        (
            Method::POST,
            "organizations/acme/configs/feature_preferences/restore",
            403,
        ),
        (Method::GET, "tenants/acme/configs/feature_preferences", 403),
        (Method::PUT, "tenants/acme/configs/feature_preferences", 403),
        (Method::GET, "tenants/acme/configs/profile", 403),
        (Method::GET, "preferences/groups?feature_type=f", 403),
        (Method::POST, "preferences/import", 403),
        (Method::GET, "keys", 403),
    ] {
        let answer = call(&server, token, method.clone(), path, &daily).await;
        assert_eq!(answer.status(), status, "{method} {path}");
    }
    let visitor = let_in(&server, token).await;
    for (path, status) in [
        ("/organizations/acme", 200),
        ("/organizations/acme/features/f", 200),
        ("/organizations/acme/history", 200),
        ("/organizations/other", 303),
        ("/organizations/other/history", 303),
        ("/tenants/acme", 303),
        ("/tenants/acme/features/f", 303),
        ("/operators", 303),
    ] {
        assert_eq!(visitor.status(path).await, status, "{path}");
    }
    // Nor does a link to the tenant reach the organization.
    let made = call(
        &server,
        ADMIN,
        Method::POST,
        "tenants/acme/links",
        &Value::Null,
    )
    .await;
    let made: Value = made.json().await.unwrap();
    let token = made["token"].as_str().unwrap();
    let answer = call(&server, token, Method::GET, ACME, &Value::Null).await;
    assert_eq!(answer.status(), 403);
    let visitor = let_in(&server, token).await;
    assert_eq!(visitor.status("/organizations/acme").await, 303);
    let features = json!({"features": ["f"]});
    let made = call(
        &server,
        ADMIN,
        Method::POST,
        "organizations/acme/links",
        &features,
    )
    .await;
    let made: Value = made.json().await.unwrap();
    let token = made["token"].as_str().unwrap();
    let answer = call(&server, token, Method::PUT, ACME, &daily).await;
    assert_eq!(answer.status(), 403, "what it replaces has all features");
    let visitor = let_in(&server, token).await;
    for path in [
        "/organizations/acme/features/g",
        "/organizations/acme/history",
    ] {
        assert_eq!(
            visitor.status(path).await,
            403,
            "{path}: has other features"
        );
    }
    let form = [("version", "0")];
    let restored = visitor
        .post("/organizations/acme/features/g/restore", &form)
        .await;
    assert_eq!(restored.status(), 403);
}
