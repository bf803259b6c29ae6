//! A program on tables that a later version has brought further.

use punctual_application::ports::StoreError;

use super::*;

/// The tables as a later version leaves them, with one more migration. Its oldest program is the one that knows this migration
/// or, as `beside`, also this one.
async fn upgrade(store: &Store, migrations: &str, beside: bool) {
    let last = format!("SELECT max(version) FROM {migrations} WHERE description <> 'later'");
    let last: Vec<i64> = store.database.fetch(&last, values![]).await.unwrap();
    let later = last[0] + 1;
    let made = format!(
        "INSERT INTO {migrations} (version, description, success, checksum, execution_time)
         SELECT $1, 'later', success, checksum, 0 FROM {migrations} WHERE version = $1 - 1
         ON CONFLICT (version) DO NOTHING"
    );
    store.database.execute(&made, values![later]).await.unwrap();
    let row = values![later, if beside { last[0] } else { later }];
    let sql =
        "UPDATE @compatibility SET last_migration = $1, oldest_program = $2, written_by = '9.8.7'";
    assert_eq!(store.database.execute(sql, row).await.unwrap(), 1);
}

async fn written_by(store: &Store) -> String {
    let sql = "SELECT written_by FROM @compatibility";
    let mut rows: Vec<String> = store.database.fetch(sql, values![]).await.unwrap();
    assert_eq!(rows.len(), 1);
    rows.remove(0)
}

async fn goes_on_beside_a_later_version_or_is_refused(
    open: impl AsyncFn() -> Result<Store, StoreError>,
    migrations: &str,
) {
    let store = open().await.unwrap();
    assert_eq!(written_by(&store).await, env!("CARGO_PKG_VERSION"));
    upgrade(&store, migrations, true).await;
    let store = open().await.unwrap();
    let now = SystemClock.now();
    let batch = batch("job", now, &items(0..2), 2);
    let queued = store.enqueue(firing(vec![batch.clone()]), now).await;
    queued.unwrap();
    works(&store, &batch).await;
    assert_eq!(written_by(&store).await, "9.8.7");

    upgrade(&store, migrations, false).await;
    let refused = open().await.unwrap_err();
    assert_eq!(refused.kind(), StoreErrorKind::Incompatible, "{refused}");
    let message = refused.to_string();
    for part in [
        "Start Punctual 9.8.7",
        concat!("this version, ", env!("CARGO_PKG_VERSION")),
        "restore the copy of the store",
    ] {
        assert!(message.contains(part), "`{part}` is not in: {message}");
    }
    // That version has failed before it changed anything.
    let unmade = format!("DELETE FROM {migrations} WHERE description = 'later'");
    assert_eq!(store.database.execute(&unmade, values![]).await.unwrap(), 1);
    open().await.unwrap();
}

#[tokio::test]
async fn on_a_file_it_goes_on_or_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    let url = url(&folder, "punctual.db");
    let open = async || Store::open(&url).await;
    goes_on_beside_a_later_version_or_is_refused(open, "@punctual_migrations").await;
}

#[tokio::test]
async fn in_a_database_of_another_program_it_goes_on_or_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    let pool = pool(&folder).await;
    let open = async || Store::in_sqlite(pool.clone(), "punctual").await;
    goes_on_beside_a_later_version_or_is_refused(open, "@migrations").await;
}

#[cfg_attr(
    not(feature = "servers"),
    ignore = "needs what `make setup` installs; run `make test`"
)]
#[cfg(feature = "postgres")]
#[tokio::test]
async fn on_a_server_it_goes_on_or_is_refused() {
    let url = database().await;
    let open = async || Store::open(&url).await;
    goes_on_beside_a_later_version_or_is_refused(open, "@punctual_migrations").await;
}

#[cfg_attr(
    not(feature = "servers"),
    ignore = "needs what `make setup` installs; run `make test`"
)]
#[cfg(feature = "postgres")]
#[tokio::test]
async fn what_a_later_version_has_added_is_not_left_behind_by_a_move() {
    let folder = tempfile::tempdir().unwrap();
    let from = url(&folder, "punctual.db");
    let store = Store::open(&from).await.unwrap();
    upgrade(&store, "@punctual_migrations", true).await;
    let to = database().await;
    let refused = crate::transfer(&from, &to).await.unwrap_err();
    assert_eq!(refused.kind(), StoreErrorKind::Incompatible, "{refused}");
    assert!(refused.to_string().contains("with Punctual 9.8.7"));
}

#[cfg_attr(
    not(feature = "servers"),
    ignore = "needs what `make setup` installs; run `make test`"
)]
#[cfg(feature = "postgres")]
#[tokio::test]
async fn an_upgrade_gives_way_to_those_who_work_on_the_tables() {
    use sqlx::{
        PgPool,
        postgres::{PgConnectOptions, PgPoolOptions},
    };

    let url = database().await;
    let admin = PgPool::connect(&url).await.unwrap();
    sqlx::raw_sql("CREATE SCHEMA punctual")
        .execute(&admin)
        .await
        .unwrap();
    // The tables of an earlier version. What waits behind the upgrade for as long as the dump takes fails.
    let options: PgConnectOptions = url.parse().unwrap();
    let options = options.options([("search_path", "punctual"), ("statement_timeout", "30s")]);
    let pool = PgPoolOptions::new().connect_with(options).await.unwrap();
    crate::migrations::tests::earlier_postgres(18)
        .run(&pool)
        .await
        .unwrap();
    // As pg_dump does, until its end.
    let mut dump = pool.begin().await.unwrap();
    sqlx::raw_sql("LOCK TABLE runs IN ACCESS SHARE MODE")
        .execute(&mut *dump)
        .await
        .unwrap();
    let opening = tokio::spawn(async move { Store::open(&url).await });
    let waits = "SELECT EXISTS (SELECT 1 FROM pg_locks WHERE relation = to_regclass('punctual.runs') AND NOT granted)";
    while !sqlx::query_scalar::<_, bool>(waits)
        .fetch_one(&admin)
        .await
        .unwrap()
    {
        assert!(!opening.is_finished(), "it has not waited for the dump");
    }
    // An agent of the version before.
    let runs: i64 = sqlx::query_scalar("SELECT count(*) FROM runs")
        .fetch_one(&pool)
        .await
        .unwrap();
    assert_eq!(runs, 0);
    assert!(!opening.is_finished());
    dump.commit().await.unwrap();
    let store = opening.await.unwrap().unwrap();
    assert_eq!(written_by(&store).await, env!("CARGO_PKG_VERSION"));
}
