//! A tenant's preference over that of the organization, whichever of the two changes.

use futures::future::join_all;
use reqwest::Method;
use serde_json::{Value, json};

use super::{ACME, changes, join, layer, publish_job, stands, status};
use crate::{
    counts::{counted, pool},
    page::Visitor,
    server::{Kind, on_both_databases, start},
};

on_both_databases! {
    a_member_has_the_organizations_preference_below_their_own
    only_members_whose_preference_differs_are_in_the_feed
    who_has_stored_nothing_has_the_organizations_until_leaving
    what_a_member_leaves_out_may_be_in_the_organizations
    layers_and_members_may_change_at_the_same_time
    quarantine_and_counts_know_what_members_have
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

async fn what_a_member_leaves_out_may_be_in_the_organizations(kind: Kind) {
    let server = start(kind).await;
    publish_job(&server, json!({})).await;
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

async fn quarantine_and_counts_know_what_members_have(kind: Kind) {
    let server = start(kind).await;
    let pool = pool(&server).await;
    publish_job(&server, json!({})).await;
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
