//! The store on both databases: the suites of its ports, and what only a real database does.

use chrono::{DateTime, TimeDelta, Utc};
use punctual_application::{
    ports::{
        BatchReader, BatchStore, ChunkQueue, ClaimLimits, Claimant, Clock, DeadLetterFilter,
        Deliveries, DeliveryFilter, ExpiredItems, HourlyOutcomes, Leadership, OperatorStore, Page,
        StoreErrorKind, SystemClock, WaitingWork, WorkQueue,
    },
    testing::contract,
};
use punctual_domain::{
    Chunk, Delivery, FailureKind, Firing, ItemId, ItemResult, ItemStatus, JobId, NewBatch,
    Occurrence, Priority, PurposeId, ShardAssignment, StoredPosition, Trigger,
};
use sqlx::sqlite::{SqliteConnectOptions, SqlitePoolOptions};
use tempfile::TempDir;
use uuid::Uuid;

use self::retention::{
    of_any_runs_stays_what_is_kept_longer, removes_what_was_kept_for_long_enough,
};
use crate::{
    Store,
    driver::{STATEMENTS, values},
};

/// A store in a file of its own.
async fn in_file() -> (TempDir, Store) {
    let folder = tempfile::tempdir().unwrap();
    let store = Store::open(&url(&folder, "new/folder/punctual.db")).await;
    (folder, store.unwrap())
}

fn url(folder: &TempDir, name: &str) -> String {
    format!("sqlite://{}", folder.path().join(name).display())
}

/// A database of its own on the server that tests are given.
#[cfg(feature = "postgres")]
pub(crate) async fn database() -> String {
    use sqlx::{ConnectOptions, Executor, PgPool, postgres::PgConnectOptions};
    let server = std::env::var("TEST_POSTGRES_URL")
        .expect("TEST_POSTGRES_URL is set by tests/with-postgres.sh");
    let name = format!("test_{}", Uuid::new_v4().simple());
    let admin = PgPool::connect(&server).await.unwrap();
    // As most databases, it does not sort by bytes.
    let sql =
        format!("CREATE DATABASE {name} TEMPLATE template0 LOCALE_PROVIDER icu ICU_LOCALE 'en-US'");
    admin.execute(sqlx::AssertSqlSafe(sql)).await.unwrap();
    let options: PgConnectOptions = server.parse().unwrap();
    options.database(&name).to_url_lossy().to_string()
}

/// Waits until `pg_stat_activity` has a connection to the store's database of which this holds.
#[cfg(feature = "postgres")]
async fn until_connection(store: &Store, is: &str) {
    use std::time::Duration;
    let sql = format!(
        "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND {is}"
    );
    let waiting = async {
        loop {
            let found: Vec<i64> = store.database.fetch(&sql, values![]).await.unwrap();
            if found != [0] {
                return;
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    };
    let waited = tokio::time::timeout(Duration::from_mins(1), waiting).await;
    waited.unwrap_or_else(|_| panic!("no connection comes to {is}"));
}

/// Says of a connection that it hears what others announce.
#[cfg(feature = "postgres")]
const LISTENS: &str = "state = 'idle' AND query LIKE 'LISTEN %'";

/// A test of a store, on both databases.
macro_rules! on_both {
    ($($name:ident)+) => { $(
        mod $name {
            #[tokio::test]
            async fn in_a_file() {
                let (_folder, store) = super::in_file().await;
                super::$name(store).await;
            }

            #[cfg(feature = "postgres")]
            #[cfg_attr(not(feature = "servers"), ignore = "needs what `make setup` installs; run `make test`")]
            #[tokio::test]
            async fn on_a_server() {
                let store = crate::Store::open(&super::database().await).await.unwrap();
                super::$name(store).await;
            }
        }
    )+ };
}

on_both! {
    keeps_the_contract
    keeps_what_is_to_be_delivered
    removes_what_was_kept_for_long_enough
    of_any_runs_stays_what_is_kept_longer
    what_is_damaged_stops_no_other
    keeps_what_operators_see
    sums_up_open_dead_letters_by_job
    counts_of_dead_letters_follow_every_change
    sums_up_what_has_expired
    sums_up_what_is_due_and_has_not_begun
    sums_up_what_has_ended_by_hour
    removes_what_was_discarded_long_ago_in_portions
    what_is_queued_waits_for_no_run_that_takes_what_was_prepared
    every_character_is_kept_or_replaced
    pages_are_in_the_order_of_bytes_whatever_the_database_thinks
    chunks_that_end_together_are_stored_together_and_the_odd_ones_alone
    of_a_firing_is_stored_what_was_not_there
    many_small_chunks_are_claimed_and_ended_by_few_statements
    chunks_with_nothing_to_clear_end_without_statements_for_it
    many_jobs_are_planned_and_claimed_by_few_statements
    what_an_older_division_has_planned_is_refused
}

async fn what_an_older_division_has_planned_is_refused(store: Store) {
    let now = "2026-11-27T12:00:00Z".parse().unwrap();
    store
        .assign(&ShardAssignment::default(), now)
        .await
        .unwrap();
    store.enqueue(Firing::default(), now).await.unwrap();
    // Another process, that is assigned a later division.
    let other = Store {
        division: tokio::sync::watch::Sender::default(),
        ..store.clone()
    };
    let half = "1/2 from 2026-12-01".parse().unwrap();
    other.assign(&half, now).await.unwrap();
    other.enqueue(Firing::default(), now).await.unwrap();
    let refused = store.enqueue(Firing::default(), now).await.unwrap_err();
    assert_eq!(refused.kind(), StoreErrorKind::Conflict, "{refused}");
}

async fn of_a_firing_is_stored_what_was_not_there(store: Store) {
    let now = SystemClock.now();
    let minutes = |n| now - chrono::TimeDelta::minutes(n);
    let [first, second] = [0, 1].map(|n| batch("a", minutes(n), &items(0..3), 2));
    let [third, fourth] = [0, 2].map(|n| batch("b", minutes(n), &items(0..600), 1));
    let stored = store.enqueue(firing(vec![first.clone(), third.clone()]), now);
    assert_eq!(stored.await.unwrap().batches.len(), 2);
    let again = vec![
        first.clone(),
        second.clone(),
        third.clone(),
        fourth.clone(),
        fourth.clone(),
    ];
    let new = store.enqueue(firing(again), now).await.unwrap().batches;
    let ids: Vec<Uuid> = new.iter().map(|batch| batch.batch_id).collect();
    assert_eq!(ids, [second.batch_id, fourth.batch_id]);

    let (process, mut limits) = (Uuid::new_v4(), ClaimLimits::new(10_000));
    let mut claimed: Vec<(String, usize)> = Vec::new();
    loop {
        limits.begin(std::collections::BTreeMap::new());
        let next = store.claim_next(process, &limits, now).await.unwrap();
        if next.is_empty() {
            break;
        }
        for one in next {
            limits.add(&one.chunk.job_id, one.chunk.items.len());
            claimed.push((one.chunk.chunk_id, one.chunk.items.len()));
        }
    }
    claimed.sort();
    let all = [first, second, third, fourth];
    let chunks = all.iter().flat_map(|batch| &batch.chunks);
    let mut expected: Vec<(String, usize)> = chunks
        .map(|chunk| (chunk.chunk_id.clone(), chunk.items.len()))
        .collect();
    expected.sort();
    assert_eq!(claimed, expected);
}

async fn pages_are_in_the_order_of_bytes_whatever_the_database_thinks(store: Store) {
    let now = SystemClock.now();
    let ids: Vec<ItemId> = ["b", "A", "a", "B", "_", "a-b", "aa", "Z", "z", "1"]
        .map(|id| ItemId::new(id).unwrap())
        .into();
    let batch = batch("job", now, &ids, 10);
    store
        .enqueue(firing(vec![batch.clone()]), now)
        .await
        .unwrap();
    works(&store, &batch).await;
    let filter = punctual_application::ports::ResultFilter {
        batch_id: batch.batch_id,
        status: None,
    };
    let mut page = punctual_application::ports::Page {
        cursor: None,
        limit: 1,
    };
    let mut found = Vec::new();
    loop {
        let (results, next) = store.results(&filter, &page).await.unwrap();
        found.extend(results.into_iter().map(|one| one.result.item_id));
        page.cursor = next;
        if page.cursor.is_none() {
            break;
        }
    }
    let mut expected = ids;
    expected.sort_by(|a, b| a.as_str().cmp(b.as_str()));
    assert_eq!(found, expected);
}

/// Twelve chunks end at once: one has lost its claim, one has a failure, and one an item that a chunk of another batch of the run
/// has brought meanwhile.
async fn chunks_that_end_together_are_stored_together_and_the_odd_ones_alone(store: Store) {
    let now = SystemClock.now();
    let large = batch("job", now, &items(0..120), 10);
    store
        .enqueue(firing(vec![large.clone()]), now)
        .await
        .unwrap();
    let mut claims = Vec::new();
    for chunk in &large.chunks {
        let claimant = claimant();
        let claim = store.claim(chunk, claimant, now).await.unwrap();
        assert_eq!(claim.items.len(), 10);
        claims.push(claimant.token);
    }
    store
        .release(&large.chunks[3], claims[3], None)
        .await
        .unwrap();
    let double = "INSERT INTO @results (run, tenant_id, chunk, status, attempts, started_at)
         SELECT run, 't55', 999, 1, 1, 0 FROM @runs";
    store.database.execute(double, values![]).await.unwrap();
    let ends = large.chunks.iter().zip(&claims).enumerate();
    let ends = ends.map(|(number, (chunk, token))| {
        let mut results: Vec<ItemResult> = chunk
            .items
            .iter()
            .map(|item| succeeded(item, serde_json::json!(number), now))
            .collect();
        if number == 7 {
            results[0].status = ItemStatus::Failed;
        }
        let store = store.clone();
        async move { store.commit(chunk, *token, &results).await.unwrap() }
    });
    let committed = futures::future::join_all(ends).await;
    for (number, committed) in committed.iter().enumerate() {
        let expected = match number {
            3 => (false, 0, false),
            5 => (true, 9, false),
            _ => (true, 10, true),
        };
        let found = (committed.claimed, committed.taken, committed.finished);
        assert_eq!(found, expected, "chunk {number}");
    }
    let batch = store.batch(large.batch_id).await.unwrap().unwrap();
    assert_eq!((batch.succeeded, batch.failed), (108, 1));
    // What is left runs, and ends the batch.
    let limits = ClaimLimits::new(8);
    let left = store
        .claim_next(Uuid::new_v4(), &limits, now)
        .await
        .unwrap();
    assert_eq!(left[0].chunk.chunk_id, large.chunks[3].chunk_id);
}

/// Thirty slots of one user each.
async fn many_small_chunks_are_claimed_and_ended_by_few_statements(store: Store) {
    let now = SystemClock.now();
    let slot = |number| {
        NewBatch::new(
            &JobId::new("job").unwrap(),
            Priority::Medium,
            format!("slot {number}"),
            now,
            Occurrence::Instant(now),
            Trigger::Schedule,
            now,
            &items(number..number + 1),
            500,
        )
    };
    let batches: Vec<NewBatch> = (0..30).map(slot).collect();
    store.enqueue(firing(batches.clone()), now).await.unwrap();
    let process = Uuid::new_v4();
    let mut limits = ClaimLimits::new(25);
    let mut claimed = Vec::new();
    while claimed.len() < 30 {
        let before = STATEMENTS.get();
        let more = store.claim_next(process, &limits, now).await.unwrap();
        let statements = STATEMENTS.get() - before;
        assert!(statements <= 9, "{statements} for {} chunks", more.len());
        assert!(more.len() >= 14, "{}", more.len());
        more.iter()
            .for_each(|one| limits.add(&one.chunk.job_id, one.chunk.items.len()));
        claimed.extend(more);
    }
    let before = STATEMENTS.get();
    let end = |chunk: &Chunk| {
        let number = batches
            .iter()
            .position(|one| one.batch_id == chunk.batch_id);
        now + TimeDelta::seconds(number.unwrap() as i64)
    };
    let ends = claimed.iter().map(|one| {
        let item = &one.chunk.items[0];
        let result = succeeded(item, serde_json::json!("done"), end(&one.chunk));
        let store = store.clone();
        async move {
            store
                .commit(&one.chunk, one.token, &[result])
                .await
                .unwrap()
        }
    });
    let committed = futures::future::join_all(ends).await;
    assert!(committed.iter().all(|one| one.finished));
    let statements = STATEMENTS.get() - before;
    assert!(statements <= 15, "{statements}");
    for batch in &batches {
        let ended = store.batch(batch.batch_id).await.unwrap().unwrap();
        let expected = Some(end(&batch.chunks[0]));
        assert_eq!((ended.succeeded, ended.finished_at), (1, expected));
    }
}

async fn chunks_with_nothing_to_clear_end_without_statements_for_it(store: Store) {
    let now = SystemClock.now();
    // The last chunk stays, so that none of them ends the batch.
    let batch = batch("a", now, &items(0..4), 1);
    let queued = store.enqueue(firing(vec![batch.clone()]), now).await;
    queued.unwrap();
    let write = PurposeId::new("write").unwrap();
    let mut counts = Vec::new();
    let records = [(false, false), (true, false), (false, true)];
    for (chunk, (runs_long, keeps)) in batch.chunks.iter().zip(records) {
        let (claimant, item) = (claimant(), &chunk.items[0]);
        let token = claimant.token;
        store.claim(chunk, claimant, now).await.unwrap();
        if runs_long {
            store.record_running(chunk, token, item, now).await.unwrap();
        }
        if keeps {
            let text = serde_json::json!("text");
            let kept = store.keep_output(chunk, token, item, &write, &text);
            assert!(kept.await.unwrap());
        }
        let before = STATEMENTS.get();
        let result = succeeded(item, serde_json::json!("done"), now);
        let committed = store.commit(chunk, token, &[result]).await.unwrap();
        assert!(committed.finished);
        counts.push(STATEMENTS.get() - before);
    }
    let none = counts[0];
    assert_eq!(counts, [none, none + 1, none + 1]);
    let kept = "SELECT count(*) FROM @kept_outputs";
    let kept: Vec<i64> = store.database.fetch(kept, values![]).await.unwrap();
    assert_eq!(kept, [0]);
}

/// Jobs that fall due together, each with one chunk, and their positions.
fn of_many_jobs(number: usize, now: DateTime<Utc>) -> Firing {
    let job = |n| batch(&format!("job{n:02}"), now, &items(n..n + 1), 500);
    let batches: Vec<NewBatch> = (0..number).map(job).collect();
    let position = |batch: &NewBatch| StoredPosition {
        job_id: batch.job_id.clone(),
        planned_until: now,
        high_water_mark: now + TimeDelta::minutes(batch.chunks.len() as i64),
        snapshot_at: None,
        began: Some(now - TimeDelta::days(1)),
        placement: Some(format!("placement of {}", batch.job_id)),
    };
    Firing {
        positions: batches.iter().map(position).collect(),
        batches,
    }
}

async fn many_jobs_are_planned_and_claimed_by_few_statements(store: Store) {
    let now = "2026-11-27T12:00:00Z".parse().unwrap();
    let firing = of_many_jobs(30, now);
    let before = STATEMENTS.get();
    store.enqueue(firing.clone(), now).await.unwrap();
    let statements = STATEMENTS.get() - before;
    assert!(statements <= 8, "{statements}");
    for position in &firing.positions {
        let stored = store.position(&position.job_id).await.unwrap();
        assert_eq!(stored.as_ref(), Some(position));
    }
    let before = STATEMENTS.get();
    let limits = ClaimLimits::new(25);
    let claimed = store.claim_next(Uuid::new_v4(), &limits, now).await;
    let statements = STATEMENTS.get() - before;
    assert!(statements <= 8, "{statements}");
    let claimed = claimed.unwrap().into_iter().map(|one| one.chunk);
    let chunks = firing
        .batches
        .into_iter()
        .map(|mut one| one.chunks.remove(0));
    assert_eq!(claimed.collect::<Vec<_>>(), chunks.collect::<Vec<_>>());
}

#[cfg(feature = "postgres")]
#[tokio::test]
async fn jobs_that_another_process_claims_chunks_of_are_passed_over() {
    let store = Store::open(&database().await).await.unwrap();
    let now = SystemClock.now();
    store.enqueue(of_many_jobs(40, now), now).await.unwrap();
    let mut other = store.database.begin().await.unwrap();
    for number in 0..35 {
        let lock = values![format!("job{number:02}")];
        let locked = other.fetch_one::<bool>("SELECT @lock($1)", lock);
        assert!(locked.await.unwrap());
    }
    let limits = ClaimLimits::new(25);
    let claimed = store.claim_next(Uuid::new_v4(), &limits, now).await;
    let claimed = claimed.unwrap().into_iter();
    let jobs: Vec<String> = claimed.map(|one| one.chunk.job_id.to_string()).collect();
    assert_eq!(jobs, ["job35", "job36", "job37", "job38", "job39"]);
}

async fn keeps_the_contract(store: Store) {
    contract::store(&store, &store).await;
}

async fn keeps_what_is_to_be_delivered(store: Store) {
    contract::deliveries(&store, &store).await;
}

fn batch(job: &str, due: DateTime<Utc>, items: &[ItemId], chunk_size: usize) -> NewBatch {
    NewBatch::new(
        &JobId::new(job).unwrap(),
        Priority::High,
        "daily".into(),
        due,
        Occurrence::Instant(due),
        Trigger::Schedule,
        SystemClock.now(),
        items,
        chunk_size,
    )
}

fn items(range: std::ops::Range<usize>) -> Vec<ItemId> {
    let item = |n| ItemId::new(format!("t{n}")).unwrap();
    range.map(item).collect()
}

fn firing(batches: Vec<NewBatch>) -> Firing {
    Firing {
        batches,
        positions: vec![],
    }
}

/// Numbers that look random and are the same in each run.
struct Numbers(u64);

impl Numbers {
    fn below(&mut self, most: usize) -> usize {
        self.0 = self
            .0
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1);
        (self.0 >> 33) as usize % most
    }
}

fn claimant() -> Claimant {
    Claimant {
        process: Uuid::new_v4(),
        token: Uuid::new_v4(),
    }
}

fn succeeded(item_id: &ItemId, output: serde_json::Value, at: DateTime<Utc>) -> ItemResult {
    ItemResult {
        item_id: item_id.clone(),
        status: ItemStatus::Succeeded,
        failure_kind: None,
        attempts: 1,
        preference: None,
        output: Some(output),
        error: None,
        started_at: at,
        finished_at: Some(at),
        waiting: None,
    }
}

/// A message that is damaged, one that is of another chunk, and the name of a job.
const DAMAGE: [&str; 3] = [
    "UPDATE @chunk_messages SET message = 'not JSON'
     WHERE chunk = (SELECT chunk FROM @chunks WHERE job_id = 'a' AND place = 1)",
    "UPDATE @chunk_messages SET message = (SELECT m.message FROM @chunk_messages m JOIN @chunks c ON c.chunk = m.chunk
                                           WHERE c.job_id = 'a' AND c.place = 0)
     WHERE chunk = (SELECT chunk FROM @chunks WHERE job_id = 'a' AND place = 2)",
    "UPDATE @chunks SET job_id = 'not a name!' WHERE job_id = 'b'",
];

async fn what_is_damaged_stops_no_other(store: Store) {
    let now = SystemClock.now();
    let items = items(0..3);
    let batches = ["a", "b", "c"].map(|job| batch(job, now, &items, 1));
    let damaged = batches[0].batch_id;
    store.enqueue(firing(batches.into()), now).await.unwrap();
    for sql in DAMAGE {
        store.database.execute(sql, values![]).await.unwrap();
    }
    let (process, limits) = (Uuid::new_v4(), ClaimLimits::new(8));
    let claimed = store.claim_next(process, &limits, now).await;
    let claimed: Vec<String> = claimed
        .unwrap()
        .into_iter()
        .map(|one| format!("{} {}", one.chunk.job_id, one.chunk.items[0]))
        .collect();
    assert_eq!(claimed, ["a t0", "c t0", "c t1", "c t2"]);
    let again = store.claim_next(process, &limits, now).await;
    assert_eq!(again.unwrap(), []);
    assert_eq!(store.survey(now).await.unwrap().waiting, []);
    let batch = store.batch(damaged).await.unwrap().unwrap();
    assert_eq!((batch.failed, batch.total), (2, 3));
    let filter = punctual_application::ports::ResultFilter {
        batch_id: damaged,
        status: None,
    };
    let all = punctual_application::ports::Page::default();
    let (results, _) = store.results(&filter, &all).await.unwrap();
    assert_eq!(
        results,
        [],
        "what is damaged keeps no others from being read"
    );
}

async fn what_is_queued_waits_for_no_run_that_takes_what_was_prepared(store: Store) {
    if !store.database.is_shared() {
        // In a file, one transaction writes at a time.
        return;
    }
    let now = SystemClock.now();
    let insert = "INSERT INTO @prepared_outputs (job_id, occurrence, tenant_id, fingerprint, output, prepared_at, due_at)
         VALUES ('a', '2020-01-01', 't0', '', '1', 0, 0), ('a', '2020-01-01', 't1', '', '1', 0, 0)";
    store.database.execute(insert, values![]).await.unwrap();
    let mut run = store.database.begin().await.unwrap();
    let take = "UPDATE @prepared_outputs SET chunk = 1 WHERE tenant_id = 't0'";
    run.execute(take, values![]).await.unwrap();
    let queued = store.enqueue(firing(vec![batch("b", now, &items(0..1), 1)]), now);
    let queued = tokio::time::timeout(std::time::Duration::from_secs(20), queued).await;
    queued.expect("it waits for no run").unwrap();
    run.commit().await.unwrap();
    let left = "SELECT tenant_id FROM @prepared_outputs";
    let left: Vec<String> = store.database.fetch(left, values![]).await.unwrap();
    assert_eq!(left, ["t0"]);
}

async fn every_character_is_kept_or_replaced(store: Store) {
    let now = SystemClock.now();
    let batch = batch("job", now, &items(0..2), 2);
    let chunk = batch.chunks[0].clone();
    store
        .enqueue(firing(vec![batch.clone()]), now)
        .await
        .unwrap();
    let claimant = claimant();
    store.claim(&chunk, claimant, now).await.unwrap();
    let failed = ItemResult {
        status: ItemStatus::Failed,
        failure_kind: Some(FailureKind::Data),
        output: None,
        error: Some("a\0b ✓ \u{1f600} '\"@chunks".into()),
        ..succeeded(&chunk.items[0], serde_json::Value::Null, now)
    };
    let text = serde_json::json!({"text": "a\0b ✓ '\"@now()"});
    let other = succeeded(&chunk.items[1], text.clone(), now);
    let committed = store.commit(&chunk, claimant.token, &[failed, other]).await;
    assert!(committed.unwrap().finished);
    let filter = punctual_application::ports::ResultFilter {
        batch_id: batch.batch_id,
        status: None,
    };
    let (results, _) = store
        .results(&filter, &punctual_application::ports::Page::default())
        .await
        .unwrap();
    assert_eq!(results[0].result.failure_kind, Some(FailureKind::Data));
    let error = results[0].result.error.as_deref().unwrap();
    assert_eq!(
        error.replace('\u{fffd}', "\0"),
        "a\0b ✓ \u{1f600} '\"@chunks"
    );
    assert_eq!(results[1].result.output.as_ref(), Some(&text));
}

async fn keeps_what_operators_see(store: Store) {
    let now = DateTime::from_timestamp(SystemClock.now().timestamp(), 0).unwrap();
    contract::operations(&store).await;
    contract::suppressions(&store).await;
    contract::alerts(&store).await;
    contract::operator_keys(&store).await;

    let due = now - TimeDelta::seconds(90);
    let batches = [due, due - TimeDelta::hours(2)].map(|due| NewBatch {
        deliver_to: vec![Delivery::File("out.ndjson".into())],
        ..batch("job", due, &items(0..2), 1)
    });
    let chunk = batches[0].chunks[0].clone();
    store.enqueue(firing(batches.into()), now).await.unwrap();
    let activity = store.activity(now - TimeDelta::hours(1)).await.unwrap();
    let [activity] = activity.as_slice() else {
        panic!("{activity:?}")
    };
    assert_eq!(
        (activity.batches, activity.items, activity.worst_lateness_ms),
        (1, 0, 90_000)
    );
    assert!(store.replica_leases().await.unwrap().is_empty());

    // Who holds work, and has it been heard of?
    let claimant = claimant();
    let claimed = store.claim(&chunk, claimant, now).await.unwrap();
    assert_eq!(claimed.items.len(), 1);
    let working = store.replica_leases().await.unwrap();
    let [one] = working.as_slice() else {
        panic!("{working:?}")
    };
    assert_eq!(
        (one.process.as_str(), one.chunks, one.last_seen),
        (claimant.process.to_string().as_str(), 1, None)
    );
    assert!(one.is_unresponsive(now));
    store.heartbeat(claimant.process).await.unwrap();
    let heard = &store.replica_leases().await.unwrap()[0];
    let seen = heard.last_seen.unwrap();
    assert!(!heard.is_unresponsive(seen + TimeDelta::seconds(15)));
    assert!(heard.is_unresponsive(seen + TimeDelta::seconds(17)));

    // Deliveries that fail once are retried and not shown yet; those given up long ago are no longer shown.
    let ended = "UPDATE @batches SET finished_at = 0";
    store.database.execute(ended, values![]).await.unwrap();
    let began = DateTime::UNIX_EPOCH;
    let fails = async |again: Option<DateTime<Utc>>| {
        let due = store.take(now, TimeDelta::zero(), &[]).await;
        let due = due.unwrap().expect("a delivery is due");
        let postponed = store.postpone(&due, again, "disk full");
        assert!(postponed.await.unwrap());
    };
    fails(Some(began)).await;
    assert_eq!(store.failing_deliveries(began).await.unwrap(), []);
    fails(Some(began)).await;
    let failing = store.failing_deliveries(began).await.unwrap();
    let [one] = failing.as_slice() else {
        panic!("{failing:?}")
    };
    assert_eq!(
        (one.given_up, one.deliveries, one.since, one.reason.as_str()),
        (false, 1, began, "disk full")
    );
    let (all, page) = (DeliveryFilter::default(), Page::default());
    let open = OperatorStore::deliveries(&store, &all, &page);
    assert_eq!(open.await.unwrap().0.len(), 2);
    fails(None).await;
    let failing = store.failing_deliveries(began).await.unwrap();
    assert!(failing.iter().any(|one| one.given_up), "{failing:?}");
    let later = began + TimeDelta::seconds(1);
    let failing = store.failing_deliveries(later).await.unwrap();
    assert!(failing.iter().all(|one| !one.given_up), "{failing:?}");

    let process = Uuid::new_v4();
    let leads = store.lead(process, std::time::Duration::from_mins(1));
    let leads = leads.await.unwrap();
    let leader = store.leader().await.unwrap();
    if leads == Leadership::Granted {
        let (who, until) = leader.unwrap();
        assert_eq!(who, process.to_string());
        assert!(until > now, "{until}");
    } else {
        assert_eq!(leader, None);
    }
}

/// Stores dead letters of a job: so many, in a state, with these reasons in turn.
async fn dead_letters(store: &Store, job: &str, state: &str, number: i64, reasons: &[&str]) {
    for (turn, reason) in reasons.iter().enumerate() {
        let of_turn = (0..number).filter(|n| *n as usize % reasons.len() == turn);
        let of_turn: Vec<i64> = of_turn.collect();
        let insert = "INSERT INTO @dead_letters (job_id, tenant_id, occurrence, batch_id, scheduled_at, attempts, reason,
                 failed_at, state, settled_at)
             SELECT $2, 'ann', '2026-01-01', '00000000-0000-0000-0000-000000000000', 0, 1, $3, n.value, $4, 0
             FROM @integers($1, n)";
        let letters = values![of_turn.as_slice(), job, *reason, state];
        store.database.execute(insert, letters).await.unwrap();
    }
}

async fn sums_up_open_dead_letters_by_job(store: Store) {
    dead_letters(&store, "a", "open", 5, &["old"]).await;
    dead_letters(&store, "a", "open", 1_400, &["down", "slow"]).await;
    dead_letters(&store, "b", "open", 7, &["1", "2", "3", "4", "5", "6", "6"]).await;
    dead_letters(&store, "c", "discarded", 3, &["down"]).await;
    let found = store.open_dead_letters().await.unwrap();
    let [a, b] = found.as_slice() else {
        panic!("{found:?}")
    };
    assert_eq!((a.job_id.as_str(), a.count), ("a", 1_405));
    assert_eq!(a.first_failed_at, DateTime::UNIX_EPOCH);
    // Of the newest 1,000, all of the second reason are newer than those of the first.
    let reasons = [("slow".to_owned(), 700), ("down".to_owned(), 300)];
    assert_eq!(a.reasons, reasons);
    let counts: Vec<u64> = b.reasons.iter().map(|(_, count)| *count).collect();
    assert_eq!((b.count, counts), (7, vec![2, 1, 1, 1, 1]));
    // Letters of versions that know no kinds are of the usual one.
    let of_handlers = punctual_application::ports::DeadLetterFilter {
        job_id: Some(JobId::new("b").unwrap()),
        failure_kind: Some(FailureKind::Handler),
        ..punctual_application::ports::DeadLetterFilter::default()
    };
    assert_eq!(store.dead_letter_count(&of_handlers).await.unwrap(), 7);
}

/// What the database has counted is what there is: open dead letters by job, and replayed ones by batch.
async fn assert_counts(store: &Store) {
    for (counted, there) in [
        (
            "SELECT job_id, letters FROM @open_letters WHERE letters <> 0 ORDER BY job_id",
            "SELECT job_id, count(*) FROM @dead_letters WHERE state = 'open' GROUP BY job_id ORDER BY job_id",
        ),
        (
            "SELECT batch_id, letters FROM @replayed_letters WHERE letters <> 0 ORDER BY batch_id",
            "SELECT batch_id, count(*) FROM @dead_letters WHERE state = 'replayed' GROUP BY batch_id ORDER BY batch_id",
        ),
    ] {
        let counted: Vec<(String, i64)> = store.database.fetch(counted, values![]).await.unwrap();
        let there: Vec<(String, i64)> = store.database.fetch(there, values![]).await.unwrap();
        assert_eq!(counted, there);
    }
}

async fn counts_of_dead_letters_follow_every_change(store: Store) {
    dead_letters(&store, "a", "open", 30, &["down", "slow"]).await;
    dead_letters(&store, "b", "open", 2, &["down"]).await;
    dead_letters(&store, "b", "replayed", 3, &["down"]).await;
    dead_letters(&store, "c", "discarded", 1, &["down"]).await;
    assert_counts(&store).await;
    for change in [
        "UPDATE @dead_letters SET state = 'replayed' WHERE state = 'open' AND id % 3 = 0",
        "UPDATE @dead_letters SET state = 'discarded', settled_at = 1 WHERE state = 'open' AND id % 3 = 1",
        "UPDATE @dead_letters SET state = 'open' WHERE state = 'replayed' AND id % 2 = 0",
        "UPDATE @dead_letters SET settled_at = 2",
        "DELETE FROM @dead_letters WHERE id % 5 = 0",
        "UPDATE @dead_letters SET state = 'open'",
        "DELETE FROM @dead_letters WHERE job_id = 'a'",
    ] {
        let changed = store.database.execute(change, values![]).await.unwrap();
        assert!(changed > 0, "{change}");
        assert_counts(&store).await;
    }
    let found = store.open_dead_letters().await.unwrap();
    let jobs: Vec<&str> = found.iter().map(|one| one.job_id.as_str()).collect();
    assert_eq!(jobs, ["b", "c"]);
}

async fn sums_up_what_has_expired(store: Store) {
    let now: DateTime<Utc> = "2026-11-27T12:30:00Z".parse().unwrap();
    let late = batch("a", now, &items(0..4), 2);
    store
        .enqueue(firing(vec![late.clone()]), now)
        .await
        .unwrap();
    for (turn, chunk) in late.chunks.iter().enumerate() {
        let at = now + TimeDelta::hours(turn as i64);
        let claimant = claimant();
        store.claim(chunk, claimant, at).await.unwrap();
        let skipped = |(item, reason): (&ItemId, &str)| ItemResult {
            status: ItemStatus::Skipped,
            output: None,
            error: Some(reason.to_owned()),
            ..succeeded(item, serde_json::Value::Null, at)
        };
        let reasons = ["expired", if turn == 0 { "expired" } else { "cancelled" }];
        let results: Vec<ItemResult> = chunk.items.iter().zip(reasons).map(skipped).collect();
        for _ in 0..2 {
            let committed = store.commit(chunk, claimant.token, &results).await;
            committed.unwrap();
        }
    }
    let since = async |at: DateTime<Utc>| store.expired_items(at).await.unwrap();
    let of_a = |items, since, of_newest_hour| ExpiredItems {
        job_id: JobId::new("a").unwrap(),
        items,
        since,
        mark: ExpiredItems::mark_of(
            (now + TimeDelta::hours(1)).timestamp().unsigned_abs() / 3_600,
            of_newest_hour,
        ),
    };
    let hour = TimeDelta::hours(1);
    // Hours count as a whole.
    assert_eq!(since(now + TimeDelta::minutes(20)).await, [of_a(3, now, 1)]);
    assert_eq!(since(now + hour).await, [of_a(1, now + hour, 1)]);
    assert_eq!(since(now + hour + hour).await, []);
}

async fn sums_up_what_is_due_and_has_not_begun(store: Store) {
    let now: DateTime<Utc> = "2026-11-27T12:30:00Z".parse().unwrap();
    let minutes = |n| now - TimeDelta::minutes(n);
    let one = batch("a", minutes(60), &items(0..3), 1);
    let other = batch("a", minutes(7), &items(3..5), 1);
    let recent = batch("b", minutes(60), &items(0..1), 1);
    // What is made up for waits only since it came into the queue.
    for (batch, at) in [
        (&one, minutes(10)),
        (&other, minutes(7)),
        (&recent, minutes(4)),
    ] {
        let stored = store.enqueue(firing(vec![batch.clone()]), at);
        stored.await.unwrap();
    }
    let waiting = async || store.waiting_work(minutes(5)).await.unwrap();
    let of_a = |batches, items, since, others_run, live_processes| WaitingWork {
        job_id: JobId::new("a").unwrap(),
        batches,
        items,
        since,
        others_run,
        live_processes,
    };
    assert_eq!(waiting().await, [of_a(2, 5, minutes(10), false, 0)]);
    let claimant = claimant();
    store.heartbeat(claimant.process).await.unwrap();
    let begun = store.claim(&one.chunks[0], claimant, now).await.unwrap();
    assert_eq!(begun.items.len(), 1);
    assert_eq!(waiting().await, [of_a(1, 2, minutes(7), true, 1)]);
    assert!(store.cancel(other.batch_id).await.unwrap());
    assert_eq!(waiting().await, []);
}

async fn sums_up_what_has_ended_by_hour(store: Store) {
    let due: DateTime<Utc> = "2026-11-27T12:30:00Z".parse().unwrap();
    let minutes = |n| due + TimeDelta::minutes(n);
    let by_operator = NewBatch {
        trigger: Trigger::Manual,
        ..batch("b", minutes(1), &items(3..4), 1)
    };
    // Each with when it came into the queue, when it ended, and how many of its items failed.
    for (batch, queued, ended, failed) in [
        (batch("a", due, &items(0..3), 3), 1, 10, 1),
        (batch("b", due, &items(0..2), 2), 0, 29, 0),
        (by_operator, 45, 50, 0),
        (batch("a", minutes(60), &items(0..1), 1), 61, 62, 1),
    ] {
        let new = firing(vec![batch.clone()]);
        store.enqueue(new, minutes(queued)).await.unwrap();
        let (chunk, claimant) = (&batch.chunks[0], claimant());
        store.claim(chunk, claimant, minutes(queued)).await.unwrap();
        let result = |(place, item): (usize, &ItemId)| {
            let result = succeeded(item, serde_json::json!("done"), minutes(ended));
            if place == failed {
                // It counts as done.
                return ItemResult {
                    status: ItemStatus::NothingToDo,
                    output: None,
                    error: Some("no news".to_owned()),
                    ..result
                };
            }
            if place > failed {
                return result;
            }
            ItemResult {
                status: ItemStatus::Failed,
                failure_kind: Some(FailureKind::Handler),
                output: None,
                error: Some("down".to_owned()),
                ..result
            }
        };
        let results: Vec<ItemResult> = chunk.items.iter().enumerate().map(result).collect();
        let committed = store.commit(chunk, claimant.token, &results).await;
        assert!(committed.unwrap().finished);
    }
    let since = async |at, job: Option<&str>| {
        let job = job.map(|job| JobId::new(job).unwrap());
        store.outcomes_by_hour(at, job).await.unwrap()
    };
    let hour = |at: &str, succeeded, failed, worst_lateness_ms| HourlyOutcomes {
        hour: at.parse().unwrap(),
        succeeded,
        failed,
        worst_lateness_ms,
    };
    let noon = hour("2026-11-27T12:00:00Z", 4, 1, 60_000);
    let one = hour("2026-11-27T13:00:00Z", 1, 1, 60_000);
    assert_eq!(since(due, None).await, [noon, one.clone()]);
    assert_eq!(since(minutes(30), None).await, [one]);
    let of_a = [
        hour("2026-11-27T12:00:00Z", 2, 1, 60_000),
        hour("2026-11-27T13:00:00Z", 0, 1, 60_000),
    ];
    assert_eq!(since(due, Some("a")).await, of_a);
    let later = [hour("2026-11-27T13:00:00Z", 1, 0, 0)];
    assert_eq!(since(minutes(30), Some("b")).await, later);
    assert_eq!(since(minutes(120), None).await, []);
}

async fn removes_what_was_discarded_long_ago_in_portions(store: Store) {
    dead_letters(&store, "a", "discarded", 2_500, &["down"]).await;
    dead_letters(&store, "a", "open", 2, &["down"]).await;
    let now = SystemClock.now();
    let left = async || {
        let all = DeadLetterFilter::default();
        store.dead_letter_count(&all).await.unwrap()
    };
    for expected in [1_502, 502, 2, 2] {
        store.settle(&[], vec![], now).await.unwrap();
        assert_eq!(left().await, expected);
    }
}

#[tokio::test]
async fn opening_again_changes_nothing_and_something_else_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    for _ in 0..2 {
        Store::open(&url(&folder, "punctual.db")).await.unwrap();
    }
    let text = "not a database, and long enough to be taken for one ".repeat(20);
    std::fs::write(folder.path().join("notes.txt"), text).unwrap();
    for (url, expected) in [
        (url(&folder, "notes.txt"), "notes.txt"),
        ("mysql://u:secret@h/db".into(), "sqlite://var"),
    ] {
        let error = Store::open(&url).await.unwrap_err().to_string();
        assert!(error.contains(expected), "{error}");
        assert!(!error.contains("secret"));
    }
}

/// A pool of one connection to a file, as a program around the store may have.
async fn pool(folder: &TempDir) -> sqlx::SqlitePool {
    let file = folder.path().join("shop.db");
    let options = SqliteConnectOptions::new()
        .filename(file)
        .create_if_missing(true);
    let pool = SqlitePoolOptions::new().max_connections(1);
    let pool = pool.before_acquire(|connection, _| {
        Box::pin(async { Ok(!sqlx::Connection::is_in_transaction(connection)) })
    });
    pool.connect_with(options).await.unwrap()
}

#[tokio::test]
async fn the_bundled_sqlite_is_past_the_wal_reset_corruption_and_syncs_every_commit() {
    let (_folder, store) = in_file().await;
    let mut transaction = store.database.begin().await.unwrap();
    let version: String = transaction
        .fetch_one("SELECT sqlite_version()", values![])
        .await
        .unwrap();
    let numbers: Vec<u32> = version.split('.').map(|n| n.parse().unwrap()).collect();
    assert!(numbers >= vec![3, 51, 3], "{version}");
    let synchronous: i64 = transaction
        .fetch_one("PRAGMA synchronous", values![])
        .await
        .unwrap();
    assert_eq!(synchronous, 2, "FULL");
}

#[tokio::test]
async fn a_full_disk_takes_nothing_half_and_gives_it_once_there_is_room() {
    let (_folder, store) = in_file().await;
    let due = SystemClock.now();
    let batch = batch("job", due, &items(0..500), 500);
    let chunk = batch.chunks[0].clone();
    store
        .enqueue(firing(vec![batch.clone()]), due)
        .await
        .unwrap();
    let claimant = claimant();
    store.claim(&chunk, claimant, due).await.unwrap();
    let output = serde_json::json!({"text": "x".repeat(2_000)});
    let results: Vec<ItemResult> = chunk
        .items
        .iter()
        .map(|item| succeeded(item, output.clone(), due))
        .collect();
    let room = async |pages: u32| {
        let sql = format!("PRAGMA max_page_count = {pages}");
        store.database.execute(&sql, values![]).await.unwrap();
    };
    room(100).await;
    let full = store.commit(&chunk, claimant.token, &results).await;
    assert_eq!(full.unwrap_err().kind(), StoreErrorKind::Full);
    let stored = async || store.batch(batch.batch_id).await.unwrap().unwrap();
    assert_eq!(stored().await.processed(), 0, "nothing half");
    room(1_000_000).await;
    let committed = store.commit(&chunk, claimant.token, &results).await;
    let committed = committed.unwrap();
    assert!(committed.taken == 500 && committed.finished);
    assert_eq!(stored().await.succeeded, 500);
    let whole = store
        .database
        .fetch::<String>("PRAGMA integrity_check", values![]);
    assert_eq!(whole.await.unwrap(), ["ok"]);
}

/// What a shop has in its own database.
const OF_SHOP: &str = "CREATE TABLE deliveries (parcel TEXT); CREATE TABLE batches (parcel TEXT);
    CREATE TABLE orders (id INTEGER PRIMARY KEY, item TEXT);";

/// One chunk runs from its claim to its result.
async fn works(store: &Store, batch: &NewBatch) {
    let limits = ClaimLimits::new(8);
    let now = SystemClock.now();
    let claimed = store
        .claim_next(Uuid::new_v4(), &limits, now)
        .await
        .unwrap();
    let [claimed] = claimed.as_slice() else {
        panic!("{claimed:?}")
    };
    let Chunk {
        batch_id, items, ..
    } = &claimed.chunk;
    assert_eq!(*batch_id, batch.batch_id);
    let results: Vec<ItemResult> = items
        .iter()
        .map(|item| succeeded(item, serde_json::json!("done"), now))
        .collect();
    let committed = store.commit(&claimed.chunk, claimed.token, &results).await;
    assert!(committed.unwrap().finished);
}

#[tokio::test]
async fn a_file_has_room_for_a_program_and_punctual_whichever_migrates_first() {
    for program_first in [true, false] {
        let folder = tempfile::tempdir().unwrap();
        let pool = pool(&folder).await;
        let migrate = async || {
            let one = sqlx::migrate::Migration::new(
                1,
                "shop".into(),
                sqlx::migrate::MigrationType::Simple,
                sqlx::SqlSafeStr::into_sql_str(OF_SHOP),
                false,
            );
            let migrator = sqlx::migrate::Migrator::with_migrations(vec![one]);
            migrator.run(&pool).await.unwrap();
        };
        if program_first {
            migrate().await;
        }
        let store = Store::in_sqlite(pool.clone(), "punctual").await.unwrap();
        migrate().await;
        Store::in_sqlite(pool.clone(), "punctual").await.unwrap();
        migrate().await;

        let now = SystemClock.now();
        for commits in [false, true] {
            let mut transaction = pool.begin().await.unwrap();
            sqlx::query("INSERT INTO orders (item) VALUES ('tea')")
                .execute(&mut *transaction)
                .await
                .unwrap();
            let batch = batch("job", now, &items(0..2), 2);
            let stored = store.enqueue_in(&mut *transaction, firing(vec![batch.clone()]), now);
            assert_eq!(stored.await.unwrap().batches.len(), 1);
            if commits {
                transaction.commit().await.unwrap();
                works(&store, &batch).await;
            } else {
                drop(transaction);
                assert_eq!(store.batch(batch.batch_id).await.unwrap(), None);
            }
        }
        let tables: Vec<String> = sqlx::query_scalar(
            "SELECT name FROM sqlite_master WHERE type IN ('table', 'index') AND substr(name, 1, 9) <> 'punctual_'
               AND substr(name, 1, 7) <> 'sqlite_' ORDER BY name",
        )
        .fetch_all(&pool)
        .await
        .unwrap();
        assert_eq!(
            tables,
            ["_sqlx_migrations", "batches", "deliveries", "orders"]
        );
    }
}

#[tokio::test]
async fn a_prefix_that_would_need_quotes_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    let error = Store::in_sqlite(pool(&folder).await, "my-shop")
        .await
        .unwrap_err();
    assert!(error.to_string().contains("my-shop"), "{error}");
}

mod compatibility;
mod fence;
#[cfg(feature = "postgres")]
mod on_a_server;
mod plans;
mod provider_batches;
mod retention;
mod tenant_records;
mod waiting;
