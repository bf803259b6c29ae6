//! Change ids never become visible out of order. Eight writers commit late while a reader polls; the same question
//! is asked of two feeds that are known to lose changes, so that it is clear the harness would notice.

use std::{
    collections::HashSet,
    sync::atomic::{AtomicUsize, Ordering},
};

use serde_json::json;
use sqlx::{PgPool, Row};

use crate::server::{Kind, start};

const WRITERS: usize = 8;
const WRITES: usize = 60;

/// How many of the written labels a reader that polls all the time never sees.
async fn lost<W, R>(write: impl Fn(usize, String) -> W, read: impl Fn(i64) -> R) -> usize
where
    W: Future<Output = ()>,
    R: Future<Output = Vec<(i64, String)>>,
{
    let writing = AtomicUsize::new(WRITERS);
    let writers = futures::future::join_all((0..WRITERS).map(|writer| {
        let (write, writing) = (&write, &writing);
        async move {
            for i in 0..WRITES {
                write(writer, format!("{writer:02}:{i:02}")).await;
            }
            writing.fetch_sub(1, Ordering::SeqCst);
        }
    }));
    let reader = async {
        let (mut since, mut seen) = (0, HashSet::new());
        loop {
            let done = writing.load(Ordering::SeqCst) == 0;
            let page = read(since).await;
            if done && page.is_empty() {
                return seen;
            }
            for (id, label) in page {
                assert!(id > since, "{id} came after {since}");
                since = id;
                seen.insert(label);
            }
        }
    };
    let (_, seen) = tokio::join!(writers, reader);
    WRITERS * WRITES - seen.len()
}

#[cfg_attr(
    not(feature = "servers"),
    ignore = "needs what `make setup` installs; run `make test`"
)]
#[tokio::test]
async fn no_change_is_lost_to_a_reader_however_late_writers_commit() {
    let server = start(Kind::Postgres).await;
    let pool = PgPool::connect(&server.place.url).await.unwrap();
    for statement in [
        "CREATE FUNCTION late() RETURNS trigger LANGUAGE plpgsql AS
         'BEGIN PERFORM pg_sleep(random() * 0.007); RETURN NULL; END'",
        "CREATE CONSTRAINT TRIGGER late AFTER INSERT ON changes DEFERRABLE INITIALLY DEFERRED
         FOR EACH ROW EXECUTE FUNCTION late()",
    ] {
        sqlx::query(statement).execute(&pool).await.unwrap();
    }
    let write = |writer: usize, label: String| {
        let server = &server;
        async move {
            let preference = json!({"enabled": true, "frequency": "daily", "label": label});
            server
                .put(&format!("w{writer}"), json!({"f": preference}))
                .await;
        }
    };
    let read = |since: i64| {
        let server = &server;
        async move {
            let page = server
                .get(&format!("preferences/changes?since_id={since}"))
                .await;
            let change = |change: &serde_json::Value| {
                let label = change["preference"]["label"].as_str().unwrap().to_owned();
                (change["id"].as_i64().unwrap(), label)
            };
            page["changes"]
                .as_array()
                .unwrap()
                .iter()
                .map(change)
                .collect()
        }
    };
    assert_eq!(lost(write, read).await, 0);
}

/// A feed whose ids come from a sequence, read by `condition`.
async fn lost_by_a_sequence(condition: &'static str) -> usize {
    let place = Kind::Postgres.place().await;
    let pool = sqlx::postgres::PgPoolOptions::new()
        .max_connections(WRITERS as u32 + 1)
        .connect(&place.url)
        .await
        .unwrap();
    sqlx::query("CREATE TABLE feed (id BIGSERIAL, xid XID8 NOT NULL DEFAULT pg_current_xact_id(), label TEXT)")
        .execute(&pool)
        .await
        .unwrap();
    let write = |_, label: String| {
        let pool = &pool;
        async move {
            let mut transaction = pool.begin().await.unwrap();
            // The transaction gets its number, then its id, and commits; each a while after the other.
            for statement in [
                "SELECT pg_current_xact_id()::text",
                "SELECT pg_sleep(random() * 0.003)::text",
            ] {
                sqlx::query(statement)
                    .execute(&mut *transaction)
                    .await
                    .unwrap();
            }
            sqlx::query("INSERT INTO feed (label) VALUES ($1)")
                .bind(label)
                .execute(&mut *transaction)
                .await
                .unwrap();
            sqlx::query("SELECT pg_sleep(random() * 0.004)::text")
                .execute(&mut *transaction)
                .await
                .unwrap();
            transaction.commit().await.unwrap();
        }
    };
    let read = |since: i64| {
        let pool = &pool;
        async move {
            let sql =
                format!("SELECT id, label FROM feed WHERE id > $1 AND {condition} ORDER BY id");
            sqlx::query(sqlx::AssertSqlSafe(sql))
                .bind(since)
                .fetch_all(pool)
                .await
                .unwrap()
                .iter()
                .map(|row| (row.get(0), row.get(1)))
                .collect()
        }
    };
    lost(write, read).await
}

#[cfg_attr(
    not(feature = "servers"),
    ignore = "needs what `make setup` installs; run `make test`"
)]
#[tokio::test]
async fn the_harness_notices_a_feed_that_loses_changes() {
    for (condition, name) in [
        ("true", "ids from a sequence, read as they appear"),
        (
            "xid < pg_snapshot_xmin(pg_current_snapshot())",
            "only finished transactions, but the cursor is still the id",
        ),
    ] {
        // On a busy machine writers may happen to wait for each other.
        let mut lost = 0;
        for _ in 0..10 {
            lost = lost_by_a_sequence(condition).await;
            if lost > 0 {
                break;
            }
        }
        assert!(lost > 0, "{name}");
    }
}
