//! What only a server does: schemas, shards, leadership.

use std::time::Duration;

use sqlx::{Executor, PgPool};

use super::*;

#[cfg_attr(
    not(feature = "servers"),
    ignore = "needs what `make setup` installs; run `make test`"
)]
#[tokio::test]
async fn a_database_has_room_for_a_program_and_punctual_whichever_migrates_first() {
    for program_first in [true, false] {
        let pool = PgPool::connect(&database().await).await.unwrap();
        if program_first {
            pool.execute(OF_SHOP).await.unwrap();
        }
        let store = Store::in_postgres(pool.clone(), "scheduling")
            .await
            .unwrap();
        if !program_first {
            pool.execute(OF_SHOP).await.unwrap();
        }
        Store::in_postgres(pool.clone(), "scheduling")
            .await
            .unwrap();
        let path: String = sqlx::query_scalar("SHOW search_path")
            .fetch_one(&pool)
            .await
            .unwrap();
        assert!(path.contains("public"), "{path}");

        let now = SystemClock.now();
        let mut arrivals = store.arrivals();
        let listening = store.clone();
        let listening = tokio::spawn(async move { listening.listen().await });
        until_connection(&store, LISTENS).await;
        for commits in [false, true] {
            let mut transaction = pool.begin().await.unwrap();
            let batch = batch("job", now, &items(0..2), 2);
            let stored = store.enqueue_in(&mut *transaction, firing(vec![batch.clone()]), now);
            assert_eq!(stored.await.unwrap().batches.len(), 1);
            if commits {
                arrivals.mark_unchanged();
                transaction.commit().await.unwrap();
                arrivals.changed().await.unwrap();
                works(&store, &batch).await;
            } else {
                transaction.rollback().await.unwrap();
                assert_eq!(store.batch(batch.batch_id).await.unwrap(), None);
            }
        }
        listening.abort();
        let tables: Vec<String> = sqlx::query_scalar(
            "SELECT tablename::text FROM pg_tables WHERE schemaname = 'public' ORDER BY tablename",
        )
        .fetch_all(&pool)
        .await
        .unwrap();
        assert_eq!(tables, ["batches", "deliveries", "orders"]);
    }
}

#[cfg_attr(
    not(feature = "servers"),
    ignore = "needs what `make setup` installs; run `make test`"
)]
#[tokio::test]
async fn a_schema_that_would_hide_the_tables_of_the_program_is_refused() {
    let pool = PgPool::connect(&database().await).await.unwrap();
    pool.execute(OF_SHOP).await.unwrap();
    let role: String = sqlx::query_scalar("SELECT current_user::text")
        .fetch_one(&pool)
        .await
        .unwrap();
    let error = Store::in_postgres(pool.clone(), &role).await.unwrap_err();
    assert_eq!(error.kind(), StoreErrorKind::InvalidUrl, "{error}");
    assert!(error.to_string().contains("name of your role"), "{error}");
    // A schema that the program has made for itself hides nothing that it did not see before.
    let sql = format!("CREATE SCHEMA {role}");
    pool.execute(sqlx::AssertSqlSafe(sql)).await.unwrap();
    Store::in_postgres(pool, &role).await.unwrap();
}

#[cfg_attr(
    not(feature = "servers"),
    ignore = "needs what `make setup` installs; run `make test`"
)]
#[tokio::test]
async fn a_connection_of_another_kind_of_database_is_refused() {
    let server = Store::open(&database().await).await.unwrap();
    let folder = tempfile::tempdir().unwrap();
    let mut connection = pool(&folder).await.acquire().await.unwrap();
    let stored = server.enqueue_in(&mut *connection, firing(vec![]), SystemClock.now());
    let error = stored.await.unwrap_err().to_string();
    assert!(error.contains("another kind of database"), "{error}");
}

#[cfg_attr(
    not(feature = "servers"),
    ignore = "needs what `make setup` installs; run `make test`"
)]
#[tokio::test]
async fn tables_of_an_earlier_version_move_into_the_schema_with_all_that_is_in_them() {
    let url = database().await;
    let pool = PgPool::connect(&url).await.unwrap();
    // As earlier versions opened it: in the first schema of the search path.
    let earlier = Store::in_postgres(pool.clone(), "").await.unwrap();
    let now = SystemClock.now();
    let batch = batch("job", now, &items(0..2), 2);
    earlier
        .enqueue(firing(vec![batch.clone()]), now)
        .await
        .unwrap();
    let (one, other) = tokio::join!(Store::open(&url), Store::open(&url));
    let (one, _) = (one.unwrap(), other.unwrap());
    works(&one, &batch).await;
    let left: i64 =
        sqlx::query_scalar("SELECT count(*) FROM pg_tables WHERE schemaname = 'public'")
            .fetch_one(&pool)
            .await
            .unwrap();
    assert_eq!(left, 0);
}

#[cfg_attr(
    not(feature = "servers"),
    ignore = "needs what `make setup` installs; run `make test`"
)]
#[tokio::test]
async fn two_shards_have_a_schema_each_in_one_database() {
    let url = database().await;
    let separator = if url.contains('?') { '&' } else { '?' };
    let now = "2026-11-27T12:00:00Z".parse().unwrap();
    for shard in ["1/2", "2/2"] {
        let url = format!("{url}{separator}schema=shop_{}", &shard[..1]);
        let store = Store::open(&url).await.unwrap();
        store.assign(&shard.parse().unwrap(), now).await.unwrap();
    }
    let other = format!("{url}{separator}schema=shop_1");
    let other = Store::open(&other).await.unwrap();
    let refused = other.assign(&"2/2".parse().unwrap(), now).await;
    assert_eq!(refused.unwrap_err().kind(), StoreErrorKind::Conflict);
    let quoted = Store::open(&format!("{url}{separator}schema=Shop")).await;
    assert_eq!(quoted.unwrap_err().kind(), StoreErrorKind::InvalidUrl);
}

#[cfg_attr(
    not(feature = "servers"),
    ignore = "needs what `make setup` installs; run `make test`"
)]
#[tokio::test]
async fn opening_again_changes_nothing_and_no_password_is_shown() {
    let url = database().await;
    Store::open(&url).await.unwrap();
    let (again, beside) = tokio::join!(Store::open(&url), Store::open(&url));
    again.unwrap();
    beside.unwrap();
    let error = Store::open("postgres://u:secret@127.0.0.1:1/none").await;
    let error = error.unwrap_err().to_string();
    assert!(error.contains("127.0.0.1:1"));
    assert!(!error.contains("secret"), "{error}");
}

#[cfg_attr(
    not(feature = "servers"),
    ignore = "needs what `make setup` installs; run `make test`"
)]
#[tokio::test]
async fn a_dropped_begin_leaves_no_transaction_open() {
    let store = Store::open(&database().await).await.unwrap();
    for round in 0..200_u64 {
        let store = store.clone();
        let beginning = tokio::spawn(async move { store.database.begin().await.map(|_| ()) });
        tokio::time::sleep(Duration::from_micros(round * 7)).await;
        beginning.abort();
        let _ = beginning.await;
    }
    let open = "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database()
         AND state LIKE 'idle in transaction%'";
    for _ in 0..1_000 {
        let open: Vec<i64> = store.database.fetch(open, values![]).await.unwrap();
        if open == [0] {
            return;
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    panic!("a transaction is open");
}

#[cfg_attr(
    not(feature = "servers"),
    ignore = "needs what `make setup` installs; run `make test`"
)]
#[tokio::test]
async fn one_process_leads_until_its_term_has_run_out_or_it_steps_down() {
    use Leadership::{Granted, Refused};
    let url = database().await;
    let store = Store::open(&url).await.unwrap();
    let (a, b) = (Uuid::new_v4(), Uuid::new_v4());
    let (long, over) = (Duration::from_mins(10), Duration::ZERO);
    for (process, term, leads) in [
        (a, long, Granted),
        (b, long, Refused),
        (a, long, Granted),
        (a, over, Granted),
        (b, long, Granted),
        (a, long, Refused),
    ] {
        assert_eq!(store.lead(process, term).await.unwrap(), leads);
    }
    // Another process has changed the division since this one was assigned its shard.
    let now = "2026-11-27T12:00:00Z".parse().unwrap();
    let other = Store::open(&url).await.unwrap();
    let whole = ShardAssignment::default();
    let half: ShardAssignment = "1/2 from 2026-12-01".parse().unwrap();
    for (store, assignment, leads) in [
        (&store, whole, Granted),
        (&other, half, Granted),
        (&store, half, Granted),
    ] {
        store.lead(b, over).await.unwrap();
        store.assign(&assignment, now).await.unwrap();
        assert_eq!(store.lead(b, long).await.unwrap(), leads);
    }
    let late = Store::open(&url).await.unwrap();
    assert_eq!(late.lead(b, long).await.unwrap(), Refused);
    for assignment in [half, "1/3 from 2026-12-02".parse().unwrap()] {
        other.assign(&assignment, now).await.unwrap();
    }
    assert_eq!(store.lead(b, long).await.unwrap(), Refused);
}

#[cfg_attr(
    not(feature = "servers"),
    ignore = "needs what `make setup` installs; run `make test`"
)]
#[tokio::test]
async fn no_output_is_kept_beside_a_claim_that_has_not_ended_yet() {
    let store = Store::open(&database().await).await.unwrap();
    let now = SystemClock.now();
    let batch = batch("job", now, &items(0..1), 1);
    let queued = store.enqueue(firing(vec![batch.clone()]), now).await;
    queued.unwrap();
    let (chunk, first) = (batch.chunks[0].clone(), claimant());
    store.claim(&chunk, first, now).await.unwrap();
    let mut claiming = store.database.begin().await.unwrap();
    let claim = values![&*chunk.chunk_id, Uuid::new_v4()];
    let sql = "UPDATE @chunks SET token = $2 WHERE chunk_id = $1";
    assert_eq!(claiming.execute(sql, claim).await.unwrap(), 1);
    let keeping = tokio::spawn({
        let store = store.clone();
        async move {
            let (item, text) = (&chunk.items[0], serde_json::json!("text"));
            let write = PurposeId::new("write").unwrap();
            let kept = store.keep_output(&chunk, first.token, item, &write, &text);
            kept.await.unwrap()
        }
    });
    // Longer than a statement takes that waits for nothing.
    for _ in 0..50 {
        let kept = "SELECT count(*) FROM @kept_outputs";
        let kept: Vec<i64> = store.database.fetch(kept, values![]).await.unwrap();
        assert_eq!(kept, [0]);
    }
    claiming.commit().await.unwrap();
    assert!(!keeping.await.unwrap(), "the next worker has the chunk");
}
