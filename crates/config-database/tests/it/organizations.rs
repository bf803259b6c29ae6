//! Organizations: a tenant's preference is stored over that of the organization, wherever either changes.

use futures::future::join_all;
use punctual_config_database::{NewKey, Scope};
use punctual_domain::TenantId;
use reqwest::{Method, StatusCode};
use secrecy::ExposeSecret;
use serde_json::{Value, json};

use crate::{
    counts::{counted, pool},
    links::{call, let_in},
    page::{Visitor, hidden},
    server::{Kind, Running, on_both_databases, start, start_in},
};

on_both_databases! {
    a_member_has_the_organizations_preference_below_their_own
    only_members_whose_preference_differs_are_in_the_feed
    who_has_stored_nothing_has_the_organizations_until_leaving
    what_is_in_effect_for_one_tenant_can_be_read
    what_a_member_leaves_out_may_be_in_the_organizations
    a_tenants_own_key_cannot_move_the_tenant
    a_link_to_an_organization_reaches_no_tenant
    an_organization_has_at_most_ten_thousand_members
    members_beyond_those_held_at_once_have_the_layer
    layers_and_members_may_change_at_the_same_time
    an_organizations_preferences_have_versions_and_conditions
    profiles_that_named_an_organization_before_count
    organizations_are_exported_and_imported
    quarantine_and_counts_know_what_members_have
    the_page_of_a_member_says_what_comes_from_the_organization
    the_page_of_an_organization_changes_its_preferences
    what_an_organization_leaves_open_its_members_choose
    operators_find_organizations_page_by_page
}

const ADMIN: &str = "admin-key";
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

async fn a_member_has_the_organizations_preference_below_their_own(kind: Kind) {
    let server = start(kind).await;
    let own = json!({"preferred_time": "18:00", "template_overrides": {"tone": "dry"}});
    let own = json!({"f": {"enabled": true, "frequency": "daily"}, "g": own});
    server.put("a", own.clone()).await;
    assert_eq!(stands(&server, "a").await.1, Value::Null);
    join(&server, "a", json!("acme")).await;
    assert_eq!(
        stands(&server, "a").await.1,
        json!({"id": "acme", "fields": []})
    );
    let value = json!({"f": {"enabled": false, "frequency": "weekly", "preferred_day": "friday", "interval": 2,
        "start_date": "2026-01-05", "timezone": "Europe/Berlin", "template_overrides": {"tone": "warm"}}});
    layer(&server, value).await;
    let (preference, organization) = stands(&server, "a").await;
    assert_eq!(
        preference,
        json!({"enabled": true, "frequency": "daily", "preferred_day": "friday", "start_date": "2026-01-05",
            "timezone": "Europe/Berlin", "template_overrides": {"tone": "warm"}})
    );
    let fields = [
        "preferred_day",
        "start_date",
        "template_overrides",
        "timezone",
    ];
    assert_eq!(organization, json!({"id": "acme", "fields": fields}));
    let stored = server.get("tenants/a/configs/feature_preferences").await;
    assert_eq!(
        stored["config_value"], own,
        "what the tenant has stored stays"
    );

    join(&server, "a", json!("other")).await;
    let (preference, organization) = stands(&server, "a").await;
    assert_eq!(preference, own["f"]);
    assert_eq!(organization["id"], "other");
    join(&server, "a", json!("acme")).await;
    assert_eq!(stands(&server, "a").await.0["timezone"], "Europe/Berlin");
    assert_eq!(
        status(&server, Method::DELETE, ACME, &Value::Null).await,
        204
    );
    assert_eq!(stands(&server, "a").await.0, own["f"]);
}

async fn only_members_whose_preference_differs_are_in_the_feed(kind: Kind) {
    let server = start(kind).await;
    let daily = json!({"enabled": true, "frequency": "daily"});
    let with_zone = json!({"enabled": true, "frequency": "daily", "timezone": "Asia/Tokyo"});
    server.put("a", json!({"f": daily, "g": daily})).await;
    server.put("b", json!({"f": with_zone})).await;
    server.put("c", json!({"f": daily})).await;
    for tenant in ["a", "b"] {
        join(&server, tenant, json!("acme")).await;
    }
    let before = changes(&server).await.len();
    let since = stands(&server, "a").await;
    layer(&server, json!({"f": {"timezone": "Europe/Berlin"}})).await;
    let after = changes(&server).await;
    let tenants: Vec<&Value> = after[before..]
        .iter()
        .map(|one| &one["tenant_id"])
        .collect();
    assert_eq!(tenants, ["a"], "b has a zone, and c is not a member");
    assert_ne!(since, stands(&server, "a").await);
    layer(&server, json!({"f": {"timezone": "Europe/Berlin"}})).await;
    assert_eq!(changes(&server).await.len(), after.len());
    let moved = &after[before];
    // A change of how moves no schedule, one of when does.
    let tone = json!({"timezone": "Europe/Berlin", "template_overrides": {"tone": "dry"}});
    layer(&server, json!({ "f": tone })).await;
    let newest = changes(&server).await;
    assert_eq!(newest.len(), after.len() + 2);
    let of_a = newest.iter().rfind(|one| one["tenant_id"] == "a").unwrap();
    assert_eq!(of_a["schedule_since"], moved["schedule_since"]);
    assert!(moved["schedule_since"].as_str() > newest[0]["schedule_since"].as_str());
    let g = server
        .get("preferences/changes?since_id=0&feature_type=g")
        .await;
    // Stored, and then a member.
    assert_eq!(g["changes"].as_array().unwrap().len(), 2);
}

async fn who_has_stored_nothing_has_the_organizations_until_leaving(kind: Kind) {
    let server = start(kind).await;
    join(&server, "a", json!("acme")).await;
    let daily = json!({"enabled": true, "frequency": "daily"});
    layer(&server, json!({ "f": daily })).await;
    let organization = json!({"id": "acme", "fields": ["enabled", "frequency"]});
    assert_eq!(stands(&server, "a").await, (daily.clone(), organization));
    join(&server, "b", json!("acme")).await;
    assert_eq!(stands(&server, "b").await.0, daily);
    // To say otherwise is to store it, and to take that back is to have the organization's again.
    server.put("a", json!({"f": {"enabled": false}})).await;
    assert_eq!(stands(&server, "a").await.0["enabled"], false);
    let path = "tenants/a/configs/feature_preferences";
    assert_eq!(
        status(&server, Method::DELETE, path, &Value::Null).await,
        204
    );
    assert_eq!(stands(&server, "a").await.0, daily);
    join(&server, "a", Value::Null).await;
    assert_eq!(stands(&server, "a").await, (Value::Null, Value::Null));
    assert_eq!(
        status(
            &server,
            Method::DELETE,
            "tenants/b/configs/profile",
            &Value::Null
        )
        .await,
        204
    );
    assert_eq!(stands(&server, "b").await, (Value::Null, Value::Null));
    join(&server, "a", json!("acme")).await;
    layer(&server, json!({"f": {}})).await;
    assert_eq!(stands(&server, "a").await, (Value::Null, Value::Null));
    let organization = server.get("organizations/acme").await;
    assert_eq!(
        (&organization["members"], &organization["member_ids"]),
        (&json!(1), &json!(["a"]))
    );
    assert_eq!(organization["features"], json!([]), "it says nothing of f");
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

async fn what_a_member_leaves_out_may_be_in_the_organizations(kind: Kind) {
    let server = start(kind).await;
    let jobs = json!({"jobs": {"posts": {"timezone": "UTC", "spread_minutes": 0, "defaults": {}}}});
    assert_eq!(
        status(&server, Method::PUT, "feature-types/f/jobs", &jobs).await,
        204
    );
    let path = "tenants/a/configs/feature_preferences";
    let on = json!({"config_value": {"f": {"enabled": true}}});
    assert_eq!(status(&server, Method::PUT, path, &on).await, 422, "when?");
    layer(
        &server,
        json!({"f": {"frequency": "monthly", "preferred_day": 3}}),
    )
    .await;
    join(&server, "a", json!("acme")).await;
    assert_eq!(status(&server, Method::PUT, path, &on).await, 200);
    let history = Visitor::new(&server).text("/tenants/a/history").await;
    assert!(history.contains("Not set → "), "{history}");
    assert!(!history.contains("Cannot run"), "{history}");
    let preview = "tenants/a/features/f/preview";
    let asked = json!({"preference": {"enabled": true}}).to_string();
    let preview: Value = server
        .call(Method::POST, preview, &asked)
        .await
        .json()
        .await
        .unwrap();
    assert_eq!(preview["valid"], true);
    let fields = preview["jobs"][0]["fields"].as_array().unwrap();
    let origin = |name: &str| {
        let field = fields.iter().find(|field| field["name"] == name);
        field.unwrap()["origin"].clone()
    };
    assert_eq!(origin("enabled"), "tenant");
    assert_eq!(origin("frequency"), "organization");
    assert_eq!(origin("timezone"), "built_in");
    // A feature bounds times of day, and not minutes of hourly runs, also where the organization says hourly.
    let bounded = json!({"earliest_time": "06:00"});
    assert_eq!(
        status(&server, Method::PUT, "feature-types/g", &bounded).await,
        204
    );
    let monthly = json!({"frequency": "monthly", "preferred_day": 3});
    layer(&server, json!({"f": monthly, "g": {"frequency": "hourly"}})).await;
    for (fields, expected) in [
        (json!({"preferred_time": "00:15"}), 200),
        (
            json!({"preferred_time": "00:15", "frequency": "daily"}),
            422,
        ),
        (
            json!({"preferred_time": "06:15", "frequency": "daily"}),
            200,
        ),
    ] {
        let body = json!({"config_value": {"f": {"enabled": true}, "g": fields}});
        let stored = status(&server, Method::PUT, path, &body).await;
        assert_eq!(stored, expected, "{fields}");
    }
    // The organization's minute is none of the times that a member's daily runs may have.
    layer(
        &server,
        json!({"f": monthly, "g": {"frequency": "hourly", "preferred_time": "00:15"}}),
    )
    .await;
    server.put("a", json!({"g": {"frequency": "daily"}})).await;
    let effective = server.get(&format!("{path}?effective=true")).await;
    let of_g = &effective["config_value"]["g"];
    assert_eq!(*of_g, json!({"frequency": "daily"}));
    // What does not fit together is refused.
    let until = json!({"config_value": {"f": {"enabled": true, "end_date": "2026-01-31"}}});
    layer(
        &server,
        json!({"f": {"frequency": "daily", "start_date": "2026-02-01"}}),
    )
    .await;
    assert_eq!(status(&server, Method::PUT, path, &until).await, 422);
    for (wrong, pointer) in [
        (
            json!({"f": {"frequency": "dayly"}}),
            "/config_value/f/frequency",
        ),
        (json!({"a b": {}}), "/config_value/a b"),
        (json!([]), "/config_value"),
    ] {
        let body = json!({ "config_value": wrong }).to_string();
        let refused = server.call(Method::PUT, ACME, &body).await;
        assert_eq!(refused.status(), 422);
        let problem: Value = refused.json().await.unwrap();
        assert_eq!(problem["errors"][0]["pointer"], pointer, "{problem}");
    }
}

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

async fn an_organization_has_at_most_ten_thousand_members(kind: Kind) {
    let server = start(kind).await;
    let line = |n: usize| {
        let profile = json!({"organization_id": "acme"});
        json!({"tenant_id": format!("t{n:05}"), "config_key": "profile", "config_value": profile})
            .to_string()
    };
    let lines: Vec<String> = (0..10_002).map(line).collect();
    let report = server
        .call(Method::POST, "preferences/import", &lines.join("\n"))
        .await;
    let report: Value = report.json().await.unwrap();
    assert_eq!(
        (&report["imported"], &report["rejected"]),
        (&json!(10_000), &json!(2))
    );
    let errors = report["errors"].as_array().unwrap();
    assert_eq!(
        (&errors[0]["line"], &errors[1]["line"]),
        (&json!(10_001), &json!(10_002))
    );
    assert!(
        errors[0]["errors"][0]
            .as_str()
            .unwrap()
            .contains("10000 members"),
        "{errors:?}"
    );
    let put = async |tenant: &str, organization: &str| {
        let body = json!({"config_value": {"organization_id": organization}});
        status(
            &server,
            Method::PUT,
            &format!("tenants/{tenant}/configs/profile"),
            &body,
        )
        .await
    };
    assert_eq!(put("one-more", "acme").await, 422);
    assert_eq!(put("t00000", "acme").await, 200, "who is a member may stay");
    assert_eq!(put("t00000", "other").await, 200);
    assert_eq!(put("one-more", "acme").await, 200);
    let (mut after, mut members) = (String::new(), 0);
    loop {
        let page = server
            .get(&format!("organizations/acme?limit=1000{after}"))
            .await;
        assert_eq!(page["members"], 10_000);
        members += page["member_ids"].as_array().unwrap().len();
        let Some(next) = page["next_after"].as_str() else {
            break;
        };
        after = format!("&after={next}");
    }
    assert_eq!(members, 10_000);
    layer(
        &server,
        json!({"f": {"enabled": true, "frequency": "daily"}}),
    )
    .await;
    let features = server.get("feature-types").await;
    assert_eq!(features["feature_types"][0]["enabled_tenants"], 10_000);

    // One write changes two features of so many members, and not three.
    let daily = json!({"enabled": true, "frequency": "daily"});
    let three = json!({"config_value": {"f": daily, "g": daily, "h": daily, "i": daily}});
    let refused = server.call(Method::PUT, ACME, &three.to_string()).await;
    assert_eq!(refused.status(), 422);
    let problem: Value = refused.json().await.unwrap();
    assert_eq!(problem["errors"][0]["pointer"], "/config_value");
    let why = problem.to_string();
    assert!(
        why.contains("3 features of 10000 members") && why.contains("at most 2 features"),
        "{why}"
    );
    let history = server.get(&format!("{ACME}/history")).await;
    assert_eq!(
        history["versions"].as_array().unwrap().len(),
        1,
        "nothing is stored"
    );
    layer(&server, json!({"f": daily, "g": daily, "h": daily})).await;
    let removed = status(&server, Method::DELETE, ACME, &Value::Null).await;
    assert_eq!(removed, 422, "three at once as well");
    layer(&server, json!({ "f": daily })).await;
    let removed = status(&server, Method::DELETE, ACME, &Value::Null).await;
    assert_eq!(removed, 204);
}

async fn members_beyond_those_held_at_once_have_the_layer(kind: Kind) {
    const MEMBERS: usize = 1_001;
    let server = start(kind).await;
    let daily = json!({"enabled": true, "frequency": "daily"});
    layer(&server, json!({"f": daily, "g": daily})).await;
    let import = async |organization: Value| {
        let profile = json!({"organization_id": organization});
        let line = |n: usize| {
            json!({"tenant_id": format!("t{n:04}"), "config_key": "profile", "config_value": profile})
                .to_string()
        };
        let lines: Vec<String> = (0..MEMBERS).map(line).collect();
        let path = "preferences/import";
        let report = server.call(Method::POST, path, &lines.join("\n")).await;
        report.json::<Value>().await.unwrap()
    };
    assert_eq!(import(json!("acme")).await["imported"], MEMBERS);
    let enabled = async || {
        let features = server.get("feature-types").await;
        let features = features["feature_types"].as_array().unwrap().clone();
        let counts = features.iter().map(|one| one["enabled_tenants"].clone());
        counts.collect::<Vec<Value>>()
    };
    assert_eq!(enabled().await, [json!(MEMBERS), json!(MEMBERS)]);
    // Each change has an id of its own, in the order of the feed.
    let mut ids: Vec<i64> = Vec::new();
    loop {
        let since = ids.last().copied().unwrap_or(0);
        let page = server
            .get(&format!("preferences/changes?since_id={since}"))
            .await;
        let changes = page["changes"].as_array().unwrap();
        ids.extend(changes.iter().map(|change| change["id"].as_i64().unwrap()));
        if page["has_more"] == false {
            break;
        }
    }
    assert_eq!(ids.len(), 2 * MEMBERS);
    assert!(ids.is_sorted_by(|one, next| one < next));
    let off = json!({"enabled": false, "frequency": "daily"});
    layer(&server, json!({"f": off, "g": daily})).await;
    let last = format!(
        "tenants/t{:04}/configs/feature_preferences?effective=true",
        MEMBERS - 1
    );
    assert_eq!(server.get(&last).await["config_value"]["f"], off);
    import(Value::Null).await;
    assert_eq!(status_of(&server, &last).await, 404);
    assert_eq!(server.get("organizations/acme").await["members"], 0);
}

async fn layers_and_members_may_change_at_the_same_time(kind: Kind) {
    let server = start(kind).await;
    for tenant in 0..5 {
        join(&server, &format!("t{tenant}"), json!("acme")).await;
    }
    let layers = join_all((0..20).map(|n| {
        let overrides = json!({"of_acme": n});
        layer(
            &server,
            json!({"f": {"enabled": true, "frequency": "daily", "template_overrides": overrides}}),
        )
    }));
    let members = join_all((0..50).map(|n| {
        let overrides = json!({"own": n});
        let server = &server;
        async move {
            let tenant = format!("t{}", n % 5);
            server
                .put(&tenant, json!({"f": {"template_overrides": overrides}}))
                .await;
        }
    }));
    tokio::join!(layers, members);
    let of_acme = server.get(ACME).await;
    let of_acme = &of_acme["config_value"]["f"]["template_overrides"]["of_acme"];
    for n in 0..5 {
        let tenant = format!("t{n}");
        let own = server
            .get(&format!("tenants/{tenant}/configs/feature_preferences"))
            .await;
        let own = &own["config_value"]["f"]["template_overrides"]["own"];
        let (preference, _) = stands(&server, &tenant).await;
        assert_eq!(
            preference["template_overrides"],
            json!({"of_acme": of_acme, "own": own}),
            "{tenant}"
        );
    }
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

async fn profiles_that_named_an_organization_before_count(kind: Kind) {
    let server = start(kind).await;
    let long = "o".repeat(129);
    let profiles = [
        json!({"organization_id": "acme"}),
        json!({"organization_id": ""}),
        json!({"organization_id": "a/b"}),
        json!({"organization_id": ".."}),
        json!({"organization_id": "é"}),
        json!({"organization_id": long}),
        json!({"organization_id": 7}),
        json!({"organization_id": {"id": "acme"}}),
        json!({"organization_id": ["acme"]}),
        json!({"organization_id": null}),
        json!({"locale": "de"}),
    ];
    let daily = json!({"f": {"enabled": true, "frequency": "daily"}});
    for n in 0..profiles.len() {
        let tenant = format!("t{n}");
        server.put(&tenant, daily.clone()).await;
        join(&server, &tenant, Value::Null).await;
    }
    let feed = "preferences/changes?since_id=0&feature_type=f";
    let epoch = server.get(feed).await["epoch"].clone();
    let pool = pool(&server).await;
    for (n, profile) in profiles.iter().enumerate() {
        let stored = sqlx::query(
            "UPDATE configs SET config_value = $1 WHERE tenant_id = $2 AND config_key = 'profile'",
        );
        let stored = stored.bind(profile.to_string()).bind(format!("t{n}"));
        stored.execute(&pool).await.unwrap();
    }
    let place = server.stop().await;
    for statement in [
        "DROP TABLE members",
        "DROP TABLE organization_configs",
        "DROP TABLE organization_config_history",
        "ALTER TABLE preferences DROP COLUMN organization",
        "ALTER TABLE changes DROP COLUMN organization",
        "DELETE FROM _sqlx_migrations WHERE version = 7",
    ] {
        sqlx::query(statement).execute(&pool).await.unwrap();
    }
    pool.close().await;
    let server = start_in(place, None).await;
    let organization = server.get("organizations/acme").await;
    assert_eq!(organization["member_ids"], json!(["t0"]));
    assert_ne!(server.get(feed).await["epoch"], epoch, "readers begin anew");
    for (n, profile) in profiles.iter().enumerate() {
        let path = format!("tenants/t{n}/configs/feature_preferences?effective=true");
        let given = server.get(&path).await["organization"].clone();
        let expected = match n {
            0 => json!({"f": {"id": "acme", "fields": []}}),
            _ => Value::Null,
        };
        assert_eq!(given, expected, "{profile}");
    }
    layer(&server, json!({"f": {"timezone": "Asia/Tokyo"}})).await;
    assert_eq!(stands(&server, "t0").await.0["timezone"], "Asia/Tokyo");
    // What is not an id can be replaced by one.
    for n in 1..profiles.len() {
        join(&server, &format!("t{n}"), json!("acme")).await;
    }
    let members = server.get("organizations/acme").await["members"].clone();
    assert_eq!(members, profiles.len());
}

async fn organizations_are_exported_and_imported(kind: Kind) {
    let server = start(kind).await;
    let jobs = json!({"jobs": {"posts": {"timezone": "UTC", "spread_minutes": 0, "defaults": {}}}});
    assert_eq!(
        status(&server, Method::PUT, "feature-types/f/jobs", &jobs).await,
        204
    );
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
    assert_eq!(
        status(&other, Method::PUT, "feature-types/f/jobs", &jobs).await,
        204
    );
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

async fn quarantine_and_counts_know_what_members_have(kind: Kind) {
    let server = start(kind).await;
    let pool = pool(&server).await;
    let jobs = json!({"jobs": {"posts": {"timezone": "UTC", "spread_minutes": 0, "defaults": {}}}});
    assert_eq!(
        status(&server, Method::PUT, "feature-types/f/jobs", &jobs).await,
        204
    );
    layer(
        &server,
        json!({"f": {"enabled": true, "frequency": "weekly"}}),
    )
    .await;
    for tenant in ["a", "b", "c"] {
        join(&server, tenant, json!("acme")).await;
    }
    server
        .put("a", json!({"f": {"preferred_day": "friday"}}))
        .await;
    server.put("b", json!({"f": {"enabled": false}})).await;
    assert_eq!(counted(&pool).await.len(), 2);
    let quarantined = async || {
        let rows =
            sqlx::query_scalar("SELECT tenant_id FROM invalid_preferences ORDER BY tenant_id");
        let rows: Vec<String> = rows.fetch_all(&pool).await.unwrap();
        rows
    };
    assert!(quarantined().await.is_empty());
    layer(
        &server,
        json!({"f": {"enabled": true, "frequency": "monthly"}}),
    )
    .await;
    assert_eq!(quarantined().await, ["a"], "a's friday does not fit");
    counted(&pool).await;
    layer(&server, json!({"f": {"enabled": true}})).await;
    assert_eq!(quarantined().await, ["a", "c"], "when?");
    counted(&pool).await;
    join(&server, "c", Value::Null).await;
    layer(
        &server,
        json!({"f": {"enabled": false, "frequency": "daily"}}),
    )
    .await;
    assert!(quarantined().await.is_empty());
    assert_eq!(counted(&pool).await, []);
    pool.close().await;
}

async fn the_page_of_a_member_says_what_comes_from_the_organization(kind: Kind) {
    let server = start(kind).await;
    let jobs = json!({"jobs": {"posts": {"timezone": "UTC", "spread_minutes": 0,
        "defaults": {"frequency": "weekly", "preferred_time": "10:00"}}}});
    assert_eq!(
        status(&server, Method::PUT, "feature-types/f/jobs", &jobs).await,
        204
    );
    let visitor = Visitor::new(&server);
    let page = visitor.text("/tenants/a/features/f").await;
    assert!(!page.contains("rom your organization"), "{page}");
    join(&server, "a", json!("acme")).await;
    layer(
        &server,
        json!({"f": {"enabled": true, "preferred_time": "07:30"}}),
    )
    .await;
    let page = visitor.text("/tenants/a/features/f").await;
    assert!(page.contains("7:30"), "{page}");
    assert!(page.contains("From your organization."), "{page}");
    assert!(
        page.contains("name=\"enabled\" value=\"true\" checked"),
        "it is on"
    );
    assert_eq!(
        page.matches("From your organization.").count(),
        2,
        "time and minute"
    );
    let list = visitor.text("/tenants/a").await;
    assert!(
        list.contains("7:30") && list.contains("Switch off"),
        "{list}"
    );
    // Switched off, it is the member's own choice, and nothing else is.
    let form = [("csrf", ""), ("enabled", "false")];
    let switched = visitor.post("/tenants/a/features/f/switch", &form).await;
    assert_eq!(switched.status(), 303);
    let stored = server.get("tenants/a/configs/feature_preferences").await;
    assert_eq!(stored["config_value"], json!({"f": {"enabled": false}}));
    assert_eq!(stands(&server, "a").await.0["preferred_time"], "07:30");
    // The minute of hourly runs is usual for hourly runs only.
    layer(
        &server,
        json!({"f": {"frequency": "hourly", "preferred_time": "00:15"}}),
    )
    .await;
    let page = visitor.text("/tenants/a/features/f").await;
    let hint = |id: &str| {
        let (_, hint) = page.split_once(&format!("id=\"{id}\">")).unwrap();
        hint.split("</span>").next().unwrap().to_owned()
    };
    let (minute, time) = (hint("minute-hint"), hint("time-hint"));
    let given = "From your organization.";
    assert!(minute.contains("15") && minute.contains(given), "{minute}");
    assert!(time.contains("10:00") && !time.contains(given), "{time}");
}

async fn the_page_of_an_organization_changes_its_preferences(kind: Kind) {
    let server = start(kind).await;
    for tenant in ["a", "b"] {
        join(&server, tenant, json!("acme")).await;
    }
    server.put("b", json!({"f": {"enabled": false}})).await;
    let made = server
        .call(
            Method::POST,
            "organizations/acme/links",
            r#"{"locale": "de"}"#,
        )
        .await;
    let made: Value = made.json().await.unwrap();
    let visitor = let_in(&server, made["token"].as_str().unwrap()).await;
    // The list says that it is empty, and the navigation leads to it.
    let list = visitor.text("/organizations/acme").await;
    let empty = "<div class=\"empty\"><p>Es gibt noch nichts einzustellen.</p><p class=\"hint\">";
    assert!(list.contains(empty), "{list}");
    let path = "/organizations/acme/features/f";
    let page = visitor.text(path).await;
    let (_, menu) = page.split_once("<nav ").unwrap();
    let (menu, _) = menu.split_once("</nav>").unwrap();
    assert!(
        menu.contains("<a href=\"/organizations/acme\">Alle Einstellungen von acme</a>"),
        "{menu}"
    );
    assert!(page.contains("Für 2 Mitglieder"), "{page}");
    let (csrf, version) = (hidden(&page, "csrf"), hidden(&page, "version"));
    let form = [
        ("csrf", csrf.as_str()),
        ("version", version.as_str()),
        ("action", "save"),
        ("enabled", "true"),
        ("frequency", "daily"),
        ("time", "08:00"),
        ("zone", "Europe/Berlin"),
    ];
    let saved = visitor.post(path, &form).await;
    assert_eq!(saved.status(), 303, "{:?}", saved.text().await);
    let page = visitor
        .text(saved.headers()["location"].to_str().unwrap())
        .await;
    // The first version undoes to nothing.
    assert_eq!(hidden_of_undo(&page), "0");
    let stored = server.get(ACME).await["config_value"]["f"].clone();
    assert_eq!(
        (
            &stored["frequency"],
            &stored["preferred_time"],
            &stored["timezone"]
        ),
        (&json!("daily"), &json!("08:00"), &json!("Europe/Berlin"))
    );
    assert_eq!(stands(&server, "a").await.0["preferred_time"], "08:00");
    assert_eq!(stands(&server, "b").await.0["enabled"], false);
    // Who has the old form does not overwrite it.
    let other = form.map(|(name, value)| {
        if name == "time" {
            (name, "09:30")
        } else {
            (name, value)
        }
    });
    let refused = visitor.post(path, &other).await;
    assert_eq!(refused.status(), StatusCode::UNPROCESSABLE_ENTITY);
    let without_token = visitor.post(path, &[("action", "save")]).await;
    assert_eq!(without_token.status(), 403);
    let history = server.get(&format!("{ACME}/history")).await;
    assert_eq!(history["versions"][0]["actor"], "acme (link)");

    // Another feature, a second version, and back from it: by what the page offers to undo, and from the history.
    let both = json!({"f": stored, "g": {"timezone": "Asia/Tokyo"}});
    layer(&server, both).await;
    let page = visitor.text(path).await;
    let version = hidden(&page, "version");
    let later = form.map(|(name, value)| match name {
        "version" => (name, version.as_str()),
        "time" => (name, "21:00"),
        _ => (name, value),
    });
    let saved = visitor.post(path, &later).await;
    assert_eq!(saved.status(), 303, "{:?}", saved.text().await);
    let page = visitor
        .text(saved.headers()["location"].to_str().unwrap())
        .await;
    let before = hidden_of_undo(&page);
    assert_eq!(before, "2");
    let restore = format!("{path}/restore");
    let undo = [("csrf", csrf.as_str()), ("version", before.as_str())];
    assert_eq!(
        visitor.post(&restore, &undo[1..]).await.status(),
        403,
        "without the token"
    );
    let undone = visitor.post(&restore, &undo).await;
    assert_eq!(undone.status(), 303);
    let to = undone.headers()["location"].to_str().unwrap().to_owned();
    assert!(
        to.starts_with("/organizations/acme/features/f?saved="),
        "{to}"
    );
    assert_eq!(stands(&server, "a").await.0["preferred_time"], "08:00");
    let history = visitor.text("/organizations/acme/history").await;
    assert!(
        history.contains("Verlauf von acme") && history.contains("Von acme (Link)"),
        "{history}"
    );
    assert!(
        history.contains("action=\"/organizations/acme/features/f/restore\""),
        "{history}"
    );
    let undo = [("csrf", csrf.as_str()), ("version", "0")];
    assert_eq!(visitor.post(&restore, &undo).await.status(), 303);
    let stored = server.get(ACME).await["config_value"].clone();
    assert_eq!(
        stored,
        json!({"g": {"timezone": "Asia/Tokyo"}}),
        "g stays as it is"
    );
    let unknown = [("csrf", csrf.as_str()), ("version", "70")];
    assert_eq!(visitor.post(&restore, &unknown).await.status(), 400);
}

async fn what_an_organization_leaves_open_its_members_choose(kind: Kind) {
    let server = start(kind).await;
    let jobs = json!({"jobs": {"posts": {"timezone": "UTC", "spread_minutes": 0, "defaults": {}}}});
    assert_eq!(
        status(&server, Method::PUT, "feature-types/f/jobs", &jobs).await,
        204
    );
    // No frequency is usual, and the organization has none.
    let open = json!({"enabled": true, "preferred_time": "07:30"});
    layer(&server, json!({ "f": open })).await;
    let visitor = Visitor::new(&server);
    let list = visitor.text("/organizations/acme").await;
    assert!(list.contains("As each member chooses"), "{list}");
    assert!(list.contains("<p>No members yet.</p>"), "{list}");
    let page = visitor.text("/organizations/acme/features/f").await;
    assert!(
        page.contains("Each member chooses what is left open."),
        "{page}"
    );
    assert!(!page.contains("usual times"), "{page}");
}

/// The version that the button offers to bring back.
fn hidden_of_undo(page: &str) -> String {
    let (_, form) = page
        .split_once("/restore\"")
        .unwrap_or_else(|| panic!("{page}"));
    hidden(form, "version")
}

async fn operators_find_organizations_page_by_page(kind: Kind) {
    let server = start(kind).await;
    let visitor = Visitor::new(&server);
    let empty = visitor.text("/operators/organizations").await;
    assert!(empty.contains("No organizations yet."), "{empty}");
    // Three members each, in an order that is not that of the tenants.
    let line = |n: usize| {
        let profile = json!({"organization_id": format!("o{:03}", n % 130)});
        json!({"tenant_id": format!("t{n:04}"), "config_key": "profile", "config_value": profile})
            .to_string()
    };
    let lines: Vec<String> = (0..390).map(line).collect();
    let path = "preferences/import";
    let report = server.call(Method::POST, path, &lines.join("\n")).await;
    assert_eq!(report.json::<Value>().await.unwrap()["imported"], 390);
    // One without members, and one that has neither any more.
    layer(&server, json!({"f": {"timezone": "UTC"}, "g": {}})).await;
    let gone = "organizations/gone/configs/feature_preferences";
    let body = json!({"config_value": {"f": {"timezone": "UTC"}}});
    assert_eq!(status(&server, Method::PUT, gone, &body).await, 200);
    let removed = status(&server, Method::DELETE, gone, &Value::Null).await;
    assert_eq!(removed, 204);

    let (mut to, mut listed) = ("/operators/organizations".to_owned(), Vec::new());
    let mut pages = 0;
    loop {
        let page = visitor.text(&to).await;
        pages += 1;
        let rows = page.split("<tr><th scope=\"row\">").skip(1);
        listed.extend(rows.map(|row| {
            let (_, link) = row.split_once("href=\"/organizations/").unwrap();
            let (id, _) = link.split_once('"').unwrap();
            let (_, members) = row.split_once("<td class=\"number\">").unwrap();
            let (members, features) = members.split_once("</td><td>").unwrap();
            let (features, _) = features.split_once("</td>").unwrap();
            (id.to_owned(), members.to_owned(), features.to_owned())
        }));
        let Some((before, _)) = page.split_once("\">Next</a>") else {
            break;
        };
        let (_, next) = before.rsplit_once("href=\"").unwrap();
        to = next.replace("&amp;", "&").replace("&#38;", "&");
    }
    assert_eq!(pages, 3);
    let expected = |n: usize| (format!("o{n:03}"), "3".to_owned(), "–".to_owned());
    let of_acme = ("acme".to_owned(), "0".to_owned(), "f".to_owned());
    let expected: Vec<_> = std::iter::once(of_acme)
        .chain((0..130).map(expected))
        .collect();
    assert_eq!(listed, expected);

    let found = visitor.text("/operators/organizations?q=o12").await;
    assert_eq!(found.matches("<th scope=\"row\">").count(), 10, "{found}");
    for q in ["nothing", "%00", "%7E", "o130"] {
        let page = visitor
            .text(&format!("/operators/organizations?q={q}"))
            .await;
        assert!(
            page.contains("No id of an organization begins"),
            "{q}: {page}"
        );
    }
    // A tenant's page leads to the organization, for operators.
    let page = visitor.text("/tenants/t0131").await;
    assert!(page.contains("href=\"/organizations/o001\""), "{page}");
    let of_tenant = server.call(Method::POST, "tenants/t0131/links", "{}").await;
    let made: Value = of_tenant.json().await.unwrap();
    let tenant = let_in(&server, made["token"].as_str().unwrap()).await;
    let page = tenant.text("/tenants/t0131").await;
    assert!(!page.contains("o001"), "{page}");
}
