//! A process on a database that a later version has brought further.

use punctual_config_database::ConfigStore;
use serde_json::json;
use sqlx::{AnyPool, AssertSqlSafe};

use crate::{
    counts::pool,
    server::{Kind, on_both_databases, start},
};

on_both_databases! {
    a_process_goes_on_beside_a_later_version_or_is_refused
}

/// The tables as a later version leaves them, with one more migration. Its oldest program is the one that knows this migration
/// or, as `beside`, also this one.
async fn upgrade(pool: &AnyPool, beside: bool) {
    let last = "SELECT max(version) FROM _sqlx_migrations WHERE description <> 'later'";
    let last: i64 = sqlx::query_scalar(last).fetch_one(pool).await.unwrap();
    let (later, oldest) = (last + 1, if beside { last } else { last + 1 });
    for sql in [
        format!(
            "INSERT INTO _sqlx_migrations (version, description, success, checksum, execution_time)
             SELECT {later}, 'later', success, checksum, 0 FROM _sqlx_migrations WHERE version = {last}
             ON CONFLICT (version) DO NOTHING"
        ),
        format!(
            "UPDATE config_compatibility SET last_migration = {later}, oldest_program = {oldest}, written_by = '9.8.7'"
        ),
    ] {
        sqlx::query(AssertSqlSafe(sql)).execute(pool).await.unwrap();
    }
}

async fn a_process_goes_on_beside_a_later_version_or_is_refused(kind: Kind) {
    let server = start(kind).await;
    let open = async || ConfigStore::open(&server.place.url).await;
    let pool = pool(&server).await;
    upgrade(&pool, true).await;
    open().await.unwrap();
    let daily = json!({"enabled": true, "frequency": "daily", "preferred_time": "09:00"});
    server.put("a", json!({ "f": daily })).await;
    let row = "SELECT written_by FROM config_compatibility";
    let written_by: Vec<String> = sqlx::query_scalar(row).fetch_all(&pool).await.unwrap();
    assert_eq!(written_by, ["9.8.7"]);

    upgrade(&pool, false).await;
    let refused = open().await.unwrap_err().to_string();
    for part in [
        "Start Punctual 9.8.7",
        concat!("version, ", env!("CARGO_PKG_VERSION")),
        "restore the copy of the database",
    ] {
        assert!(refused.contains(part), "`{part}` is not in: {refused}");
    }
    // That version has failed before it changed anything.
    let unmade = "DELETE FROM _sqlx_migrations WHERE description = 'later'";
    sqlx::query(unmade).execute(&pool).await.unwrap();
    open().await.unwrap();
    pool.close().await;
}
