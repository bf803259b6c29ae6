//! Members of an organization: how many it has, and what counts as belonging to one.

use reqwest::Method;
use serde_json::{Value, json};

use super::{ACME, join, layer, stands, status, status_of};
use crate::{
    counts::pool,
    server::{Kind, on_both_databases, start, start_in},
};

on_both_databases! {
    an_organization_has_at_most_ten_thousand_members
    members_beyond_those_held_at_once_have_the_layer
    profiles_that_named_an_organization_before_count
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
