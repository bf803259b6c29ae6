//! What pages show of all tenants is counted with each write, and true whatever writes.

use reqwest::Method;
use serde_json::{Value, json};
use sqlx::AnyPool;

use crate::{
    page::Visitor,
    server::{Kind, Running, on_both_databases, start, start_in},
};

on_both_databases! {
    what_is_counted_is_what_is_stored
    a_database_of_the_version_before_is_counted
    writers_of_one_feature_and_failures_are_counted
}

fn daily(time: &str) -> Value {
    json!({"enabled": true, "frequency": "daily", "preferred_time": time})
}

pub async fn pool(server: &Running) -> AnyPool {
    sqlx::any::install_default_drivers();
    AnyPool::connect(&server.place.url).await.unwrap()
}

async fn rows(pool: &AnyPool, sql: &'static str) -> Vec<(String, String, i64)> {
    let rows = sqlx::query_as::<_, (String, String, i64)>(sql);
    rows.fetch_all(pool).await.unwrap()
}

/// Compares what is counted with what is there, and returns the groups.
pub async fn counted(pool: &AnyPool) -> Vec<(String, String, i64)> {
    let groups = rows(
        pool,
        "SELECT feature_type, slot, tenants FROM group_counts ORDER BY feature_type, slot",
    )
    .await;
    let stored = rows(
        pool,
        "SELECT feature_type, slot, count(*) FROM preferences WHERE enabled = 1
         GROUP BY feature_type, slot ORDER BY feature_type, slot",
    )
    .await;
    assert_eq!(groups, stored);
    let features = rows(
        pool,
        "SELECT feature_type, 'enabled', enabled FROM feature_counts WHERE enabled <> 0
         UNION ALL SELECT feature_type, 'invalid', invalid FROM feature_counts WHERE invalid <> 0
         ORDER BY 1, 2",
    )
    .await;
    let stored = rows(
        pool,
        "SELECT feature_type, 'enabled', count(*) FROM preferences WHERE enabled = 1 GROUP BY feature_type
         UNION ALL SELECT feature_type, 'invalid', count(*) FROM invalid_preferences GROUP BY feature_type
         ORDER BY 1, 2",
    )
    .await;
    assert_eq!(features, stored);
    groups
}

/// How many tenants have the feature `f` on, as the API says.
async fn enabled(server: &Running) -> Value {
    let features = server.get("feature-types").await;
    let features = features["feature_types"].as_array().unwrap().clone();
    let of_f = features.iter().find(|one| one["feature_type"] == "f");
    of_f.unwrap()["enabled_tenants"].clone()
}

async fn what_is_counted_is_what_is_stored(kind: Kind) {
    let server = start(kind).await;
    let pool = pool(&server).await;
    assert_eq!(counted(&pool).await, []);
    for n in 0..6 {
        let time = if n < 4 { "09:00" } else { "18:00" };
        let off = json!({"enabled": false, "frequency": "daily"});
        let g = if n < 2 { off } else { daily("09:00") };
        server
            .put(&format!("t{n}"), json!({"f": daily(time), "g": g}))
            .await;
    }
    assert_eq!(counted(&pool).await.len(), 3);
    assert_eq!(enabled(&server).await, 6);

    // Another time, off, left to the job, how only, one feature gone, all gone.
    let how = json!({"enabled": true, "frequency": "daily", "preferred_time": "18:00", "own": 1});
    for (tenant, value) in [
        ("t0", json!({"f": daily("18:00")})),
        ("t1", json!({"f": {"enabled": false}})),
        (
            "t2",
            json!({"f": {"frequency": "daily", "preferred_time": "09:00"}}),
        ),
        ("t4", json!({"f": how, "g": daily("07:00")})),
        ("t5", json!({"g": daily("07:00")})),
    ] {
        server.put(tenant, value).await;
        counted(&pool).await;
    }
    assert_eq!(enabled(&server).await, 4);
    let gone = server.call(Method::DELETE, "tenants/t3/configs/feature_preferences", "");
    assert!(gone.await.status().is_success());
    counted(&pool).await;
    let lines = (0..50).map(|n| {
        let value = json!({"f": daily(&format!("{:02}:00", n % 5))});
        json!({"tenant_id": format!("t{n}"), "config_value": value}).to_string()
    });
    let lines: Vec<String> = lines.collect();
    let lines = lines.join("\n");
    let imported = server.call(Method::POST, "preferences/import", &lines);
    assert_eq!(imported.await.status(), 200);
    assert_eq!(
        counted(&pool).await.len(),
        5,
        "those without tenants are gone"
    );
    assert_eq!(enabled(&server).await, 50);

    // A page shows them, the largest first.
    let visitor = Visitor::new(&server);
    let page = visitor.text("/operators/groups?feature=f").await;
    assert_eq!(page.matches("<td class=\"number\">10</td>").count(), 5);
    let page = visitor.text("/operators").await;
    assert!(page.contains("<td class=\"number\">50</td>"), "{page}");

    // Whatever writes.
    for statement in [
        "DELETE FROM preferences WHERE tenant_id = 't7'",
        "UPDATE preferences SET slot = '{}' WHERE tenant_id IN ('t1', 't2')",
        "UPDATE preferences SET enabled = 0 WHERE tenant_id IN ('t2', 't3')",
        "UPDATE preferences SET enabled = 1 WHERE tenant_id = 't3'",
        "UPDATE preferences SET feature_type = 'h' WHERE tenant_id IN ('t2', 't4', 't5')",
        "INSERT INTO invalid_preferences (feature_type, tenant_id, reason) VALUES ('f', 't1', 'a'), ('f', 't2', 'b')",
        "UPDATE invalid_preferences SET feature_type = 'i' WHERE tenant_id = 't2'",
        "DELETE FROM invalid_preferences WHERE tenant_id = 't1'",
    ] {
        sqlx::query(statement).execute(&pool).await.unwrap();
        counted(&pool).await;
    }
    let clear: [&'static str; 2] = match kind {
        Kind::Postgres => ["TRUNCATE preferences", "TRUNCATE invalid_preferences"],
        Kind::Sqlite | Kind::BelowAPath => {
            ["DELETE FROM preferences", "DELETE FROM invalid_preferences"]
        }
    };
    for statement in clear {
        sqlx::query(statement).execute(&pool).await.unwrap();
        counted(&pool).await;
    }
    let left: i64 = sqlx::query_scalar("SELECT count(*) FROM feature_counts")
        .fetch_one(&pool)
        .await
        .unwrap();
    assert_eq!(left, 0, "features without any are gone");
    pool.close().await;
}

async fn a_database_of_the_version_before_is_counted(kind: Kind) {
    let server = start(kind).await;
    for (tenant, time) in [("a", "09:00"), ("b", "09:00"), ("c", "10:00")] {
        server.put(tenant, json!({"f": daily(time)})).await;
    }
    let before = pool(&server).await;
    let note = "INSERT INTO invalid_preferences (feature_type, tenant_id, reason) VALUES ('g', 'a', 'wrong')";
    sqlx::query(note).execute(&before).await.unwrap();
    let groups = counted(&before).await;
    let place = server.stop().await;
    let of_counting: &[&'static str] = match kind {
        Kind::Sqlite | Kind::BelowAPath => &[
            "DROP TRIGGER count_added_preference",
            "DROP TRIGGER count_removed_preference",
            "DROP TRIGGER count_new_group",
            "DROP TRIGGER count_old_group",
            "DROP TRIGGER count_added_problem",
            "DROP TRIGGER count_removed_problem",
            "DROP TRIGGER count_moved_problem",
        ],
        Kind::Postgres => &[
            "DROP FUNCTION count_preferences CASCADE",
            "DROP FUNCTION count_problems CASCADE",
        ],
    };
    let tables = [
        "DROP TABLE group_counts",
        "DROP TABLE feature_counts",
        "DELETE FROM _sqlx_migrations WHERE version = 6",
    ];
    for statement in of_counting.iter().chain(&tables) {
        sqlx::query(*statement).execute(&before).await.unwrap();
    }
    before.close().await;
    let server = start_in(place, None).await;
    let after = pool(&server).await;
    assert_eq!(counted(&after).await, groups);
    assert_eq!(enabled(&server).await, 3);
    server.put("a", json!({"f": daily("10:00")})).await;
    counted(&after).await;
    after.close().await;
}

const ADD: &str =
    "INSERT INTO preferences (feature_type, tenant_id, enabled, slot, preference, updated_at)";

async fn writers_of_one_feature_and_failures_are_counted(kind: Kind) {
    let server = start(kind).await;
    let pool = pool(&server).await;
    let add = |tenants: &[&str]| {
        let rows = tenants.iter();
        let rows = rows.map(|tenant| format!("('f', '{tenant}', 1, '{{}}', '{{}}', 0)"));
        let rows: Vec<String> = rows.collect();
        sqlx::AssertSqlSafe(format!("{ADD} VALUES {}", rows.join(", ")))
    };
    let mut one = pool.begin().await.unwrap();
    sqlx::query(add(&["a", "b"]))
        .execute(&mut *one)
        .await
        .unwrap();
    // The second waits for the first, and counts on from it.
    let second = async { sqlx::query(add(&["c"])).execute(&pool).await };
    let (second, first) = tokio::join!(second, one.commit());
    first.unwrap();
    second.unwrap();
    assert_eq!(counted(&pool).await, [("f".to_owned(), "{}".to_owned(), 3)]);

    let failed = sqlx::query(add(&["d", "a"])).execute(&pool).await;
    assert!(failed.is_err(), "one of them is there already");
    assert_eq!(counted(&pool).await[0].2, 3);
    pool.close().await;
}
