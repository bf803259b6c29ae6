//! Since when a schedule is as it is: moved by a change of when, and by nothing else.

use std::time::Duration;

use reqwest::Method;
use serde_json::{Value, json};

use crate::server::{Kind, Place, Running, on_both_databases, start, start_in};

on_both_databases! {
    only_a_change_of_when_moves_the_schedules_beginning
    an_import_over_http_never_reaches_back_and_one_of_a_file_does
    every_way_in_keeps_the_schedules_beginning
    a_database_of_the_version_before_gets_its_times
}

const PATH: &str = "tenants/a/configs/feature_preferences";

fn daily() -> Value {
    json!({"enabled": true, "frequency": "daily", "preferred_time": "09:00", "timezone": "UTC"})
}

fn with(field: &str, value: Value) -> Value {
    let mut preference = daily();
    preference[field] = value;
    preference
}

/// Since when the schedule of `a` for `f` is as it is: in the configuration, in the groups and in the feed alike.
async fn since(server: &Running) -> String {
    let config = server.get(PATH).await;
    let since = config["schedule_since"]["f"].as_str().unwrap().to_owned();
    let groups = server.get("preferences/groups?feature_type=f").await;
    let tenants = groups["groups"].as_array().unwrap().iter();
    let tenant = tenants
        .flat_map(|group| group["tenants"].as_array().unwrap())
        .find(|tenant| tenant["tenant_id"] == "a");
    if let Some(tenant) = tenant {
        assert_eq!(tenant["schedule_since"], since);
    }
    let feed = server
        .get("preferences/changes?since_id=0&feature_type=f")
        .await;
    let of_a = |change: &&Value| change["tenant_id"] == "a";
    let last = feed["changes"]
        .as_array()
        .unwrap()
        .iter()
        .rfind(of_a)
        .unwrap();
    assert_eq!(last["schedule_since"], since);
    since
}

async fn a_moment() {
    tokio::time::sleep(Duration::from_millis(2)).await;
}

async fn only_a_change_of_when_moves_the_schedules_beginning(kind: Kind) {
    let server = start(kind).await;
    let stored = server.put("a", json!({"f": daily(), "g": daily()})).await;
    let first = since(&server).await;
    assert_eq!(
        stored["updated_at"], first,
        "a new one counts from when it is stored"
    );

    for same in [
        daily(),
        with("template_overrides", json!({"tone": "dry"})),
        with("channel", json!("reels")),
        with("schedule_since", json!("2020-01-01T00:00:00Z")),
        with("preferred_day", json!("friday")),
        with("preferred_time", json!("9:00")),
        with("preferred_time", Value::Null),
        with("frequency", json!("Daily")),
        with("timezone", json!("utc")),
    ] {
        a_moment().await;
        let stored = server.put("a", json!({"f": same, "g": daily()})).await;
        assert_eq!(stored["schedule_since"]["f"], first, "{same}");
        assert_eq!(since(&server).await, first, "{same}");
    }

    let mut before = first;
    for moved in [
        with("preferred_time", json!("09:01")),
        with("timezone", json!("Asia/Tokyo")),
        with("frequency", json!("weekly")),
        with("enabled", json!(false)),
        daily(),
    ] {
        a_moment().await;
        let stored = server.put("a", json!({"f": moved, "g": daily()})).await;
        let now = since(&server).await;
        assert!(now > before, "{moved}");
        assert_eq!(stored["updated_at"], now);
        assert_ne!(
            stored["schedule_since"]["g"], now,
            "the other feature stays"
        );
        before = now;
    }

    a_moment().await;
    assert_eq!(server.call(Method::DELETE, PATH, "").await.status(), 204);
    let feed = server
        .get("preferences/changes?since_id=0&feature_type=f")
        .await;
    let deleted = feed["changes"].as_array().unwrap().last().unwrap();
    assert_eq!(
        (&deleted["change"], &deleted["schedule_since"]),
        (&json!("deleted"), &Value::Null)
    );
    server.put("a", json!({"f": daily()})).await;
    assert!(since(&server).await > before, "put again is new");
}

async fn every_way_in_keeps_the_schedules_beginning(kind: Kind) {
    let server = start(kind).await;
    let restore_path = format!("{PATH}/restore");
    server.put("a", json!({"f": daily()})).await;
    let first = since(&server).await;
    let patch = |value: Value| {
        let body = json!({"config_value": {"f": value}}).to_string();
        let server = &server;
        async move {
            a_moment().await;
            assert_eq!(server.call(Method::PATCH, PATH, &body).await.status(), 200);
        }
    };
    patch(json!({"template_overrides": {"tone": "dry"}})).await;
    assert_eq!(since(&server).await, first);
    let restore = server.call(Method::POST, &restore_path, "{\"version\": 1}");
    assert_eq!(restore.await.status(), 200);
    assert_eq!(
        since(&server).await,
        first,
        "nothing but the tone was restored"
    );
    patch(json!({"preferred_time": "10:00"})).await;
    let moved = since(&server).await;
    assert!(moved > first);
    a_moment().await;
    let restore = server.call(Method::POST, &restore_path, "{\"version\": 1}");
    assert_eq!(restore.await.status(), 200);
    let restored = since(&server).await;
    assert!(restored > moved);

    // The page fills in what is missing, and that changes nothing.
    server.put("a", json!({"f": {"enabled": true, "frequency": "daily", "template_overrides": {"tone": "dry"}}})).await;
    let before = since(&server).await;
    let page = server
        .http
        .get(format!("{}/tenants/a/features/f", server.url));
    let page = page.send().await.unwrap().text().await.unwrap();
    let hidden = |name: &str| {
        let (_, rest) = page
            .split_once(&format!("name=\"{name}\" value=\""))
            .unwrap();
        rest.split('"').next().unwrap().to_owned()
    };
    let form = [
        ("csrf", hidden("csrf")),
        ("version", hidden("version")),
        ("enabled", "true".to_owned()),
        ("frequency", "daily".to_owned()),
        ("time", "09:00".to_owned()),
        ("zone", "UTC".to_owned()),
        ("raw", "{\"tone\": \"bold\"}".to_owned()),
    ];
    a_moment().await;
    let saved = server
        .http
        .post(format!("{}/tenants/a/features/f", server.url))
        .header("origin", &server.url)
        .form(&form)
        .send()
        .await
        .unwrap();
    assert!(saved.status().is_success(), "{}", saved.status());
    let config = server.get(PATH).await;
    assert_eq!(
        config["config_value"]["f"],
        json!({"enabled": true, "frequency": "daily", "preferred_time": "09:00", "timezone": "UTC",
               "template_overrides": {"tone": "bold"}})
    );
    assert_eq!(since(&server).await, before);
}

async fn an_import_over_http_never_reaches_back_and_one_of_a_file_does(kind: Kind) {
    const OLD: &str = "2026-01-02T03:04:05Z";
    let line = |preference: &Value, updated_at: &str| {
        json!({"tenant_id": "a", "updated_at": updated_at, "config_value": {"f": preference}})
            .to_string()
    };
    let server = start(kind).await;
    let import = |line: String| {
        let server = &server;
        async move {
            a_moment().await;
            let answer = server.call(Method::POST, "preferences/import", &line).await;
            assert_eq!(answer.status(), 200);
        }
    };
    import(line(&daily(), OLD)).await;
    let first = since(&server).await;
    assert!(
        first.as_str() > "2026-11",
        "however old the line says it is"
    );
    let feed = server.get("preferences/changes?since_id=0").await;
    assert!(feed["changes"][0]["changed_at"].as_str().unwrap() > "2026-11");
    assert_eq!(server.get(PATH).await["updated_at"], OLD);
    import(line(&with("channel", json!(1)), "2026-01-03T00:00:00Z")).await;
    assert_eq!(since(&server).await, first);
    import(line(
        &with("preferred_time", json!("08:00")),
        "2026-01-04T00:00:00Z",
    ))
    .await;
    let moved = since(&server).await;
    assert!(moved > first);

    let place = kind.place().await;
    let file = place.folder.path().join("import.ndjson");
    let server = start_in(place, None).await;
    let import_file = |line: String| {
        let (server, file) = (&server, &file);
        async move {
            tokio::fs::write(file, line).await.unwrap();
            let report = server.store.import_file(file).await.unwrap();
            assert_eq!(report.imported, 1);
        }
    };
    import_file(line(&daily(), OLD)).await;
    assert_eq!(
        since(&server).await,
        OLD,
        "who starts with a file brings along what has been so for long"
    );
    import_file(line(
        &with("preferred_time", json!("08:00")),
        "2026-01-04T00:00:00Z",
    ))
    .await;
    assert!(
        since(&server).await.as_str() > "2026-11",
        "what differs from what is stored is an edit"
    );
    import_file(line(
        &with("preferred_time", json!("07:00")),
        "2999-01-04T00:00:00Z",
    ))
    .await;
    assert!(since(&server).await.as_str() < "2999");
}

async fn a_database_of_the_version_before_gets_its_times(kind: Kind) {
    let server = start(kind).await;
    server.put("a", json!({"f": daily()})).await;
    let updated_at = server.get(PATH).await["updated_at"].clone();
    let Place { url, folder, root } = server.stop().await;
    sqlx::any::install_default_drivers();
    let pool = sqlx::AnyPool::connect(&url).await.unwrap();
    for statement in [
        "ALTER TABLE preferences DROP COLUMN schedule_since",
        "ALTER TABLE changes DROP COLUMN schedule_since",
        "DROP INDEX changes_by_tenant",
        "DELETE FROM _sqlx_migrations WHERE version = 2",
        "INSERT INTO feature_schemas (feature_type, schema) VALUES ('..', '{}')",
        "INSERT INTO preferences (feature_type, tenant_id, enabled, slot, preference, updated_at)
         VALUES ('f', '.', 1, '{}', '{}', 0)",
    ] {
        sqlx::query(statement).execute(&pool).await.unwrap();
    }
    pool.close().await;
    let server = start_in(Place { url, folder, root }, None).await;
    assert_eq!(since(&server).await, updated_at);
    let page = server
        .get("preferences/groups?feature_type=f&limit=1")
        .await;
    assert_eq!(page["next_cursor"], Value::Null, "`.` is gone");
}
