//! Databases of a test's own on the server that tests are given.

use std::{str::FromStr, sync::LazyLock};

use sqlx::{ConnectOptions, Connection, Executor, PgConnection, postgres::PgConnectOptions};

static SERVER: LazyLock<String> = LazyLock::new(|| {
    std::env::var("TEST_POSTGRES_URL").expect("run it under tests/with-postgres.sh")
});

/// The URL of a new, empty database.
pub async fn database() -> String {
    let name = format!("test_{}", uuid::Uuid::new_v4().simple());
    let mut admin = PgConnection::connect(&SERVER).await.unwrap();
    let sql = sqlx::AssertSqlSafe(format!("CREATE DATABASE {name}"));
    admin.execute(sql).await.unwrap();
    let options = PgConnectOptions::from_str(&SERVER).unwrap();
    options.database(&name).to_url_lossy().to_string()
}

/// The URL of a copy of a database that nothing is connected to.
pub async fn copy_of(url: &str) -> String {
    let options = PgConnectOptions::from_str(url).unwrap();
    let original = options.get_database().unwrap().to_owned();
    let copy = format!("{original}_copy");
    let mut admin = PgConnection::connect(&SERVER).await.unwrap();
    let sql = sqlx::AssertSqlSafe(format!("CREATE DATABASE {copy} TEMPLATE {original}"));
    admin.execute(sql).await.unwrap();
    options.database(&copy).to_url_lossy().to_string()
}

/// Ends every connection to a database at once, as a server does that goes down.
pub async fn disconnect_all(url: &str) {
    let mut admin = PgConnection::connect(&SERVER).await.unwrap();
    let options = PgConnectOptions::from_str(url).unwrap();
    sqlx::query("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = $1")
        .bind(options.get_database())
        .execute(&mut admin)
        .await
        .unwrap();
}
