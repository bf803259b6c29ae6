//! A process on a database that a later version has brought further.

use punctual_config_database::ConfigStore;
use serde_json::json;
use sqlx::{
    AnyPool, AssertSqlSafe,
    postgres::{PgConnectOptions, PgPoolOptions},
};

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

#[cfg_attr(
    not(feature = "servers"),
    ignore = "needs what `make setup` installs; run `make test`"
)]
#[tokio::test]
async fn an_upgrade_gives_way_to_those_who_work_on_the_tables() {
    let place = Kind::Postgres.place().await;
    drop(ConfigStore::open(&place.url).await.unwrap());
    // What waits behind the upgrade for as long as the dump takes fails.
    let options: PgConnectOptions = place.url.parse().unwrap();
    let options = options.options([("statement_timeout", "30s")]);
    let pool = PgPoolOptions::new().connect_with(options).await.unwrap();
    let before = "DROP TABLE config_compatibility;
        DROP TABLE erasures;
        DROP INDEX changes_erased;
        DROP INDEX config_history_by_age;
        DROP INDEX organization_config_history_by_age;
        ALTER TABLE feed DROP COLUMN version_floor;
        DELETE FROM _sqlx_migrations WHERE version >= 8;";
    sqlx::raw_sql(before).execute(&pool).await.unwrap();
    // As pg_dump does, until its end.
    let mut dump = pool.begin().await.unwrap();
    sqlx::raw_sql("LOCK TABLE feed IN ACCESS SHARE MODE")
        .execute(&mut *dump)
        .await
        .unwrap();
    let url = place.url.clone();
    let opening = tokio::spawn(async move { ConfigStore::open(&url).await });
    let waits = "SELECT EXISTS (SELECT 1 FROM pg_locks WHERE relation = to_regclass('feed') AND NOT granted)";
    while !sqlx::query_scalar::<_, bool>(waits)
        .fetch_one(&pool)
        .await
        .unwrap()
    {
        assert!(!opening.is_finished(), "it has not waited for the dump");
    }
    // A process of the version before.
    let feeds: i64 = sqlx::query_scalar("SELECT count(*) FROM feed")
        .fetch_one(&pool)
        .await
        .unwrap();
    assert_eq!(feeds, 1);
    assert!(!opening.is_finished());
    dump.commit().await.unwrap();
    opening.await.unwrap().unwrap();
}
