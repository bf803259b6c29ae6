//! A foreign server that has only the three documented GETs: no cursor, epoch, wait, paging or times.

use std::{
    sync::{Arc, Mutex},
    time::Duration,
};

use punctual_application::ports::{ConfigDatabase, Cursor};
use punctual_domain::ChangeKind;
use serde_json::{Value, json};

use crate::server::{client, feature, json as answer, start, tenant, whole};

fn value(kind: &ChangeKind, field: &str) -> Value {
    match kind {
        ChangeKind::Upserted(preference) => preference.get(field).cloned().unwrap_or(Value::Null),
        ChangeKind::Deleted => json!("deleted"),
        ChangeKind::Erased => json!("erased"),
    }
}

#[tokio::test]
async fn the_three_plain_gets_are_enough() {
    let changes = Arc::new(Mutex::new(vec![
        json!({"id": 3, "tenant_id": "a", "feature_type": "instagram_posts", "change": "upserted"}),
    ]));
    let served = Arc::clone(&changes);
    let (url, calls) = start(move |request| {
        let query = request.uri().query().unwrap_or_default().to_owned();
        match request.uri().path() {
            "/api/v1/preferences/groups" => answer(200, &json!({"feature_type": "instagram_posts", "groups": [
                {"frequency": "daily", "preferred_time": "09:00", "preferred_day": null, "count": 2,
                 "tenants": [{"tenant_id": "a", "template_overrides": {"tone": "dry"}}, "b"]},
                {"frequency": "weekly", "preferred_time": "10:00", "preferred_day": "monday", "timezone": "Asia/Tokyo",
                 "count": 1, "tenants": [{"tenant_id": "c"}, {"tenant_id": "not valid!"}]}
            ]})),
            "/api/v1/preferences/changes" => {
                let since: u64 = query.split('&').find_map(|p| p.strip_prefix("since_id=")).unwrap().parse().unwrap();
                let served = served.lock().unwrap();
                let new: Vec<&Value> = served.iter().filter(|c| c["id"].as_u64().unwrap() > since).collect();
                answer(200, &json!({ "changes": new }))
            }
            "/api/v1/tenants/a/configs/feature_preferences" => answer(200, &json!({
                "tenant_id": "a", "config_key": "feature_preferences",
                "config_value": {"instagram_posts": {"enabled": true, "frequency": "monthly"}}
            })),
            _ => answer(404, &json!({"error": "not found"})),
        }
    })
    .await;
    let client = client(&url);

    let snapshot = whole(&client).await.unwrap();
    let mut ids: Vec<&str> = snapshot
        .records
        .iter()
        .map(|record| record.tenant_id.as_str())
        .collect();
    ids.sort_unstable();
    assert_eq!(
        ids,
        ["a", "b", "c"],
        "the one whose id cannot be is left out"
    );
    let a = snapshot
        .records
        .iter()
        .find(|record| record.tenant_id.as_str() == "a")
        .unwrap();
    assert_eq!(
        a.preference["enabled"], true,
        "groups hold those who are switched on"
    );
    assert_eq!(a.preference["template_overrides"], json!({"tone": "dry"}));
    assert_eq!((a.preference.get("count"), a.updated_at), (None, None));
    assert_eq!(
        snapshot.cursor,
        Cursor {
            since_id: 3,
            epoch: None
        },
        "the end of the feed, read before the groups"
    );

    changes.lock().unwrap().extend([
        json!({"id": 4, "tenant_id": "a", "feature_type": "instagram_posts", "change": "upserted"}),
        json!({"id": 5, "tenant_id": "b", "feature_type": "instagram_posts", "change": "deleted"}),
        json!({"id": 6, "tenant_id": "x", "feature_type": "something_else", "change": "upserted"}),
    ]);
    let page = client
        .changes(&feature(), &snapshot.cursor, Duration::from_secs(30))
        .await
        .unwrap();
    let seen: Vec<(String, Value)> = page
        .changes
        .iter()
        .map(|c| (c.tenant_id.to_string(), value(&c.kind, "frequency")))
        .collect();
    assert_eq!(
        seen,
        [
            ("a".into(), json!("monthly")),
            ("b".into(), json!("deleted"))
        ]
    );
    assert_eq!(
        (page.cursor.since_id, page.has_more, page.waited),
        (6, false, false)
    );
    assert!(
        !calls
            .lock()
            .unwrap()
            .iter()
            .any(|call| call.contains("wait=")),
        "a plain server is not asked to wait"
    );

    // Changes keep the cache current: `b` is known to be gone, `c` still as the groups said.
    let known = client
        .preferences(&feature(), &[tenant("a"), tenant("b"), tenant("c")])
        .await
        .unwrap();
    assert_eq!(known[&tenant("a")].preference["frequency"], "monthly");
    assert_eq!(known[&tenant("c")].preference["timezone"], "Asia/Tokyo");
    assert!(!known.contains_key(&tenant("b")));
    let fetched = calls
        .lock()
        .unwrap()
        .iter()
        .filter(|call| call.contains("/tenants/"))
        .count();
    assert_eq!(
        fetched, 1,
        "only the change without a preference made a call"
    );
}

#[tokio::test]
async fn an_unknown_tenant_is_fetched_once() {
    let (url, calls) = start(|request| {
        if request.uri().path().contains("/tenants/known/") {
            return answer(
                200,
                &json!({"config_value": {"instagram_posts": {"enabled": true}, "other": {}},
                    "organization": {"instagram_posts": {"id": "acme", "fields": ["enabled"]}}}),
            );
        }
        answer(404, &json!({"error": "not found"}))
    })
    .await;
    let client = client(&url);
    for _ in 0..3 {
        let known = client
            .preferences(&feature(), &[tenant("known"), tenant("unknown")])
            .await
            .unwrap();
        assert_eq!(known.keys().collect::<Vec<_>>(), [&tenant("known")]);
        let organization = known[&tenant("known")].organization.as_ref().unwrap();
        assert_eq!(organization.id.as_str(), "acme");
        assert!(organization.gave("enabled") && !organization.gave("frequency"));
    }
    let calls = calls.lock().unwrap();
    assert_eq!(calls.len(), 2);
    let effective = |call: &String| call.contains("/feature_preferences?effective=true");
    assert!(calls.iter().all(effective), "{calls:?}");
}

#[tokio::test]
async fn a_plain_server_that_no_longer_keeps_its_first_changes_still_gives_its_snapshot() {
    let (url, _) = start(|request| {
        if request.uri().path().ends_with("changes") {
            return answer(410, &json!({"error": "gone"}));
        }
        let tenants = json!([{"tenant_id": "a"}]);
        answer(
            200,
            &json!({"groups": [{"frequency": "daily", "tenants": tenants}]}),
        )
    })
    .await;
    let snapshot = whole(&client(&url)).await.unwrap();
    assert_eq!(
        (snapshot.records.len(), snapshot.cursor),
        (1, Cursor::default())
    );
}

#[tokio::test]
async fn a_plain_server_whose_feed_cannot_be_read_still_gives_its_snapshot() {
    for changes in [
        json!({"changes": [], "has_more": true}),
        json!({"changes": "none"}),
        json!({"changes": [null, {"id": "x"}], "has_more": true}),
    ] {
        let (url, calls) = start(move |request| {
            if request.uri().path().ends_with("changes") {
                return answer(200, &changes);
            }
            answer(
                200,
                &json!({"groups": [{"frequency": "daily", "tenants": ["a"]}]}),
            )
        })
        .await;
        let snapshot = whole(&client(&url)).await.unwrap();
        assert_eq!(
            (snapshot.records.len(), snapshot.cursor),
            (1, Cursor::default())
        );
        assert!(calls.lock().unwrap().len() <= 4);
    }
}
