//! Moves results that an earlier version stored, in wide rows of the table `item_results`, into `results`. It goes in portions,
//! each in a transaction that also removes what it moved: stopped in between, it goes on where it was, and the space that becomes
//! free is used again.

use std::time::Duration;

use punctual_application::ports::StoreError;
use tokio::time::Instant;
use tracing::info;

use crate::{
    driver::{Column, Database, FromRow, Row, values},
    results::{NewResult, Preferences, ResultRows},
};

/// Rows that move together: a tenth of a second or so.
const ROWS_PER_PORTION: u32 = 5_000;
/// How often the log says how far it is.
const REPORT_INTERVAL: Duration = Duration::from_secs(5);

const PORTION: &str = "SELECT i.tenant_id, i.job_id, i.occurrence, n.run, i.chunk, i.status, i.attempts, i.preference, i.output,
         i.error, i.started_at, i.finished_at, i.again
     FROM (SELECT * FROM @item_results WHERE tenant_id >= $1 AND (tenant_id, job_id, occurrence) > ($1, $2, $3)
           ORDER BY tenant_id, job_id, occurrence LIMIT $4) i
     JOIN @runs n ON n.job_id = i.job_id AND n.occurrence = i.occurrence
     ORDER BY i.tenant_id, i.job_id, i.occurrence";

const DROP: &str = "DROP TABLE @item_results";

/// The range of tenants tells `PostgreSQL` how few they are.
const REMOVE: &str = "DELETE FROM @item_results
     WHERE tenant_id >= $4 AND tenant_id <= $1 AND (tenant_id, job_id, occurrence) <= ($1, $2, $3)";

const MARK_AGAIN: &str = "UPDATE @results SET again = $3 WHERE run = $1 AND tenant_id = $2";

/// A row of the earlier table.
struct Earlier {
    key: Key,
    run: i64,
    chunk: i64,
    failed: bool,
    attempts: i64,
    preference: Option<String>,
    output: Option<String>,
    error: Option<String>,
    started: i64,
    finished: Option<i64>,
    again: Option<i64>,
}

impl FromRow for Earlier {
    fn from_row(mut row: Row) -> Result<Self, StoreError> {
        Ok(Self {
            key: (row.next()?, row.next()?, row.next()?),
            run: row.next()?,
            chunk: row.next()?,
            failed: row.next::<String>()? == "failed",
            attempts: row.next()?,
            preference: row.next()?,
            output: row.next()?,
            error: row.next()?,
            started: row.next()?,
            finished: row.next()?,
            again: row.next()?,
        })
    }
}

/// Moves what there is.
pub(crate) async fn convert(database: &Database) -> Result<(), StoreError> {
    let preferences = Preferences::default();
    let (mut moved, mut last) = (0_usize, Default::default());
    let mut reported = Instant::now();
    loop {
        let portion = move_portion(database, &preferences, &last).await?;
        let Some(key) = portion.last else { break };
        (moved, last) = (moved + portion.rows, key);
        if reported.elapsed() > REPORT_INTERVAL {
            info!(
                "Moved {moved} results of an earlier version; the store opens when all have moved"
            );
            reported = Instant::now();
        }
    }
    if moved > 0 {
        info!("Moved {moved} results of an earlier version");
    }
    Ok(())
}

/// The key of a row of the earlier table.
type Key = (String, String, String);

/// What was moved, and the key of the last of it; `None`: nothing is left.
#[derive(Default)]
struct Portion {
    rows: usize,
    last: Option<Key>,
}

/// Moves rows after `last`, and drops the table when there are none.
async fn move_portion(
    database: &Database,
    preferences: &Preferences,
    last: &Key,
) -> Result<Portion, StoreError> {
    let mut transaction = database.begin().await?;
    let lock = values!["conversion of results"];
    transaction
        .fetch_one::<bool>("SELECT @lock($1)", lock)
        .await?;
    if !transaction.has_table("@item_results").await? {
        return Ok(Portion::default());
    }
    let after = values![&*last.0, &*last.1, &*last.2, ROWS_PER_PORTION];
    let earlier: Vec<Earlier> = transaction.fetch(PORTION, after).await?;
    let Some(newest) = earlier.last().map(|row| row.key.clone()) else {
        if !last.0.is_empty() {
            // An agent of an earlier version may have stored some meanwhile, before those that have moved.
            return Ok(Portion {
                rows: 0,
                last: Some(Key::default()),
            });
        }
        transaction.execute(DROP, values![]).await?;
        transaction.commit().await?;
        return Ok(Portion::default());
    };
    let runs = Column::integers(&earlier, |row| row.run);
    let chunks = Column::integers(&earlier, |row| row.chunk);
    let marked: Vec<(i64, String, i64)> = earlier
        .iter()
        .filter_map(|row| Some((row.run, row.key.0.clone(), row.again?)))
        .collect();
    let mut rows = ResultRows::default();
    for row in &earlier {
        let preference = row.preference.clone().map(|content| rows.keep(content));
        rows.add(NewResult {
            tenant: row.key.0.clone(),
            status: if row.failed { 2 } else { 1 },
            attempts: row.attempts,
            preference,
            output: row.output.clone(),
            error: row.error.clone(),
            started: row.started,
            duration: row.finished.map(|finished| finished - row.started),
        });
    }
    let hashes = preferences.insert(&mut transaction, &rows).await?;
    rows.insert(&mut transaction, runs, chunks).await?;
    for (run, tenant, again) in marked {
        let mark = values![run, tenant, again];
        transaction.execute(MARK_AGAIN, mark).await?;
    }
    let removed = values![&*newest.0, &*newest.1, &*newest.2, &*last.0];
    transaction.execute(REMOVE, removed).await?;
    transaction.commit().await?;
    preferences.remember(hashes);
    Ok(Portion {
        rows: earlier.len(),
        last: Some(newest),
    })
}

#[cfg(test)]
mod tests {
    use punctual_application::ports::{BatchReader, Page, ResultFilter, TenantRuns};
    use punctual_domain::{FailureKind, ItemId, ItemStatus};
    #[cfg(feature = "postgres")]
    use sqlx::PgPool;
    use sqlx::{AssertSqlSafe, SqlitePool};
    use tokio::time::Instant;
    use uuid::Uuid;

    #[cfg(feature = "postgres")]
    use crate::migrations::tests::earlier_postgres;
    use crate::{Store, migrations::tests::earlier_sqlite};

    const BATCH: &str = "6ba7b811-9dad-11d1-80b4-00c04fd430c8";
    const REPLAY: &str = "6ba7b811-9dad-11d1-80b4-00c04fd430c9";

    /// A batch that is done, with `ROWS` more results, and one that is to run a failed item again.
    const STORED: &str = r#"
        INSERT INTO batches (batch_id, job_id, slot, scheduled_at, trigger, status, total, succeeded, failed, created_at, finished_at)
        VALUES ('BATCH', 'job', 'daily 09:00 UTC', 1000000, 'schedule', 'completed', ROWS + 2, ROWS + 1, 1, 0, 2000000);
        INSERT INTO chunks (chunk_id, batch_id, job_id, occurrence, total, message, place, succeeded, failed, done)
        VALUES ('BATCH/0', 'BATCH', 'job', '2026-03-01', ROWS + 2, '', 0, ROWS + 1, 1, 1);
        INSERT INTO batches (batch_id, job_id, slot, scheduled_at, trigger, status, total, created_at)
        VALUES ('REPLAY', 'job', 'replay', 3000000, 'replay', 'running', 1, 0);
        INSERT INTO chunks (chunk_id, batch_id, job_id, occurrence, total, message, place)
        VALUES ('REPLAY/0', 'REPLAY', 'job', '2026-03-01', 1,
            '{"chunk_id": "REPLAY/0", "batch_id": "REPLAY", "job_id": "job", "occurrence": "2026-03-01",
              "scheduled_at": "2026-03-01T09:00:00Z", "items": ["fails"], "trigger": "replay"}', 0);
        INSERT INTO item_results VALUES
            ('fails', 'job', '2026-03-01', 1, 'failed', 3, '{"tone": "dry"}', NULL, 'because', 1000000, 1500000, 2),
            ('works', 'job', '2026-03-01', 1, 'succeeded', 1, '{"tone": "dry"}', '"ok"', NULL, 1000000, 1000007, NULL);
        WITH RECURSIVE n(n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM n WHERE n < ROWS)
        INSERT INTO item_results SELECT 'u' || n, 'job', '2026-03-01', 1, 'succeeded', 1, '{"tone": "warm"}', '1', NULL, 5, 6, NULL
        FROM n;"#;

    /// Several portions; `ROWS=10000000` and `--nocapture` show how long a large store takes.
    fn rows() -> usize {
        let rows = std::env::var("ROWS").ok();
        rows.map_or(12_000, |rows| rows.parse().unwrap())
    }

    fn stored() -> AssertSqlSafe<String> {
        let rows = rows().to_string();
        let stored = STORED.replace("BATCH", BATCH).replace("REPLAY", REPLAY);
        AssertSqlSafe(stored.replace("ROWS", &rows))
    }

    async fn nothing_is_lost(store: Store) {
        let batch_id: Uuid = BATCH.parse().unwrap();
        for (status, count) in [
            (None, rows() + 2),
            (Some(ItemStatus::Failed), 1),
            (Some(ItemStatus::Skipped), 0),
        ] {
            let filter = ResultFilter { batch_id, status };
            let mut page = Page {
                cursor: None,
                limit: 1_000,
            };
            let mut found = 0;
            loop {
                let (results, next) = store.results(&filter, &page).await.unwrap();
                found += results.len();
                page.cursor = next;
                if page.cursor.is_none() {
                    break;
                }
            }
            assert_eq!(found, count, "{status:?}");
        }
        let filter = TenantRuns {
            item_id: ItemId::new("fails").unwrap(),
            job_id: None,
            since: None,
        };
        let (runs, _) = store.tenant_runs(&filter, &Page::default()).await.unwrap();
        let [run] = runs.as_slice() else {
            panic!("{runs:?}")
        };
        let result = &run.result;
        assert_eq!((result.attempts, result.status), (3, ItemStatus::Failed));
        assert_eq!(result.failure_kind, Some(FailureKind::Handler));
        assert_eq!(result.preference.as_deref().unwrap()["tone"], "dry");
        assert_eq!(result.finished_at.unwrap().timestamp_micros(), 1_500_000);
        let contents = "SELECT content FROM @preferences ORDER BY content";
        let contents: Vec<String> = store.database.fetch(contents, vec![]).await.unwrap();
        assert_eq!(contents, [r#"{"tone": "dry"}"#, r#"{"tone": "warm"}"#]);

        // The replay goes on where it was.
        use punctual_application::ports::{BatchStore, ChunkQueue, ClaimLimits};
        let now = "2026-03-01T09:00:00Z".parse().unwrap();
        let limits = ClaimLimits::new(8);
        let claimed = store
            .claim_next(Uuid::new_v4(), &limits, now)
            .await
            .unwrap();
        assert_eq!(claimed[0].claim.items, [filter.item_id]);
        let mut again = result.clone();
        again.status = ItemStatus::Succeeded;
        again.failure_kind = None;
        let chunk = &claimed[0].chunk;
        let committed = store
            .commit(chunk, claimed[0].token, &[again])
            .await
            .unwrap();
        assert!(committed.taken == 1 && committed.finished);
    }

    #[tokio::test]
    async fn results_of_a_file_move_and_nothing_is_lost() {
        let folder = tempfile::tempdir().unwrap();
        let url = format!("sqlite://{}/store.db?mode=rwc", folder.path().display());
        let pool = SqlitePool::connect(&url).await.unwrap();
        let before = earlier_sqlite(7);
        before.run(&pool).await.unwrap();
        sqlx::raw_sql(stored()).execute(&pool).await.unwrap();
        pool.close().await;
        let size = || {
            let size = |name: &str| {
                std::fs::metadata(folder.path().join(name)).map_or(0, |file| file.len())
            };
            (size("store.db") + size("store.db-wal")) / 1_000_000
        };
        let (before, began) = (size(), Instant::now());
        let store = Store::open(&url).await.unwrap();
        println!(
            "{} results moved in {:?}: {before} MB, then {} MB",
            rows(),
            began.elapsed(),
            size()
        );
        nothing_is_lost(store).await;
        Store::open(&url).await.unwrap();
    }

    #[cfg_attr(
        not(feature = "servers"),
        ignore = "needs what `make setup` installs; run `make test`"
    )]
    #[cfg(feature = "postgres")]
    #[tokio::test]
    async fn results_on_a_server_move_and_nothing_is_lost() {
        let url = crate::tests::database().await;
        let pool = PgPool::connect(&url).await.unwrap();
        let before = earlier_postgres(5);
        before.run(&pool).await.unwrap();
        sqlx::raw_sql(stored()).execute(&pool).await.unwrap();
        let (store, beside) = tokio::join!(Store::open(&url), Store::open(&url));
        beside.unwrap();
        nothing_is_lost(store.unwrap()).await;
    }
}
