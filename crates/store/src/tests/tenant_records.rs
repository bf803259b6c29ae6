//! Erasing a tenant, on both databases: the suite of the port, that nothing is left of what was held, and that others neither lose a run
//! nor have one twice, whenever it comes.

#[cfg(feature = "postgres")]
use std::time::Duration;
use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use chrono::{DateTime, TimeDelta, Utc};
use punctual_application::{
    ports::{
        Attempts, AuditEntry, BatchReader, BatchStore, ChunkQueue, ClaimLimits, ClaimedChunk,
        Clock, Deliveries, NewPrepared, NewRequest, OperatorStore, Page, PreparedWork,
        ResultFilter, Retention, RetentionPolicy, Settled, Settlement, Stage, SystemClock,
        TenantRecords, WaitingChange, WaitingItem, WaitingItems, WorkQueue,
    },
    testing::contract,
};
use punctual_domain::{
    BatchStatus, Delivery, FailureKind, Fingerprint, ItemId, ItemResult, ItemStatus, NewBatch,
    Progress, PurposeId, TenantId, Trigger, Waiting,
};
use serde_json::{Value as Json, json};
use uuid::Uuid;

#[cfg(feature = "postgres")]
use super::{LISTENS, database, until_connection};
use super::{Numbers, batch, claimant, firing, in_file, items, succeeded};
use crate::{
    Store,
    driver::{STATEMENTS, values},
};

on_both! {
    keeps_the_contract_of_tenant_records
    nothing_is_left_of_a_tenant_who_was_erased
    a_delivery_that_was_under_way_is_left_without_the_name
    erasing_amid_work_loses_and_repeats_nothing_of_others
    two_erasures_at_one_time_leave_neither_tenant
    a_preference_that_others_have_stays
    claims_ask_for_erased_runs_only_where_there_are_any
    a_replay_goes_on_without_the_tenant_whose_failure_has_just_been_removed
    an_erasure_that_was_carried_out_costs_a_look_at_few_chunks
    an_erasure_is_repeated_whose_last_chunk_was_removed_or_that_was_not_finished
    chunks_that_were_being_queued_during_an_erasure_are_looked_at_when_it_is_named_again
    what_is_noted_of_an_erasure_is_removed_after_the_config_database_has_forgotten_it
}

async fn keeps_the_contract_of_tenant_records(store: Store) {
    contract::tenant_records(&store, &store).await;
}

/// Part of every text that is stored for the tenant.
const CANARY: &str = "canary";

fn tenant() -> TenantId {
    TenantId::new("canary-bird").unwrap()
}

fn item() -> ItemId {
    (&tenant()).into()
}

/// A result of the tenant with the canary wherever there is room for it.
fn result(status: ItemStatus, now: DateTime<Utc>) -> ItemResult {
    ItemResult {
        item_id: item(),
        status,
        failure_kind: (status == ItemStatus::Failed).then_some(FailureKind::Handler),
        attempts: 1,
        preference: Some(Arc::new(json!({"overrides": {"tone": CANARY}}))),
        output: (status == ItemStatus::Succeeded).then(|| json!({"text": CANARY})),
        error: (status != ItemStatus::Succeeded).then(|| format!("no {CANARY}")),
        started_at: now,
        finished_at: Some(now),
        waiting: None,
    }
}

/// A batch of the tenant and others, queued, and claimed under the token that is returned.
async fn claimed(store: &Store, job: &str, now: DateTime<Utc>) -> (NewBatch, Uuid) {
    let all: Vec<ItemId> = items(0..2).into_iter().chain([item()]).collect();
    let mut new = batch(job, now, &all, 10);
    new.deliver_to = vec![Delivery::Sink("warehouse".into())];
    store.enqueue(firing(vec![new.clone()]), now).await.unwrap();
    let claimant = claimant();
    store.claim(&new.chunks[0], claimant, now).await.unwrap();
    (new, claimant.token)
}

/// Stores something of the tenant wherever it can stand.
async fn store_canaries(store: &Store, now: DateTime<Utc>) {
    let purpose = PurposeId::new("write").unwrap();
    // One failed, and its delivery has come as far as the tenant; one has succeeded; one was skipped.
    for (job, status) in [
        ("failed", ItemStatus::Failed),
        ("succeeded", ItemStatus::Succeeded),
        ("skipped", ItemStatus::Skipped),
    ] {
        let (new, token) = claimed(store, job, now).await;
        let mut results = vec![result(status, now)];
        results.extend(
            items(0..2)
                .iter()
                .map(|one| succeeded(one, json!("fine"), now)),
        );
        let committed = store.commit(&new.chunks[0], token, &results).await.unwrap();
        assert!(committed.finished);
        let first = ResultFilter {
            batch_id: new.batch_id,
            status: None,
        };
        let page = Page {
            cursor: None,
            limit: 1,
        };
        let (_, cursor) = store.results(&first, &page).await.unwrap();
        let cursor = cursor.unwrap();
        let lease = TimeDelta::minutes(1);
        let taken = store.take(now, lease, &[]).await.unwrap().unwrap();
        if job == "failed" {
            assert!(cursor.ends_with("canary-bird"), "{cursor}");
            assert!(store.advance(&taken, Some(cursor), now).await.unwrap());
            let taken = store.take(now, lease, &[]).await.unwrap().unwrap();
            let reason = "refused the result of canary-bird";
            assert!(store.postpone(&taken, None, reason).await.unwrap());
        } else {
            assert!(store.advance(&taken, None, now).await.unwrap());
        }
    }
    // One waits.
    let (new, token) = claimed(store, "waits", now).await;
    let mut waiting = Waiting::until(now + TimeDelta::hours(1));
    waiting.state = json!({"request": CANARY});
    let call_id = Uuid::new_v4();
    let waits = WaitingItem {
        call_id,
        item_id: item(),
        purpose_id: purpose.clone(),
        stage: Stage::Only,
        attempts: Attempts::default(),
        preference: Some(Arc::new(json!({"tone": CANARY}))),
        started_at: now,
        since: now,
        waiting,
    };
    store
        .begin_waiting(&new.chunks[0], token, &[waits])
        .await
        .unwrap();
    let change = WaitingChange {
        progress: Some(Progress {
            note: format!("half of the {CANARY}"),
            at: now,
        }),
        ..WaitingChange::default()
    };
    assert!(store.keep_waiting(call_id, &change).await.unwrap());
    // One runs, alone, and has been prepared and written.
    let (new, token) = claimed(store, "runs", now).await;
    let chunk = &new.chunks[0];
    store
        .record_running(chunk, token, &item(), now)
        .await
        .unwrap();
    assert!(
        store
            .mark_poison_candidate(chunk, token, &item())
            .await
            .unwrap()
    );
    let output = json!({"draft": CANARY});
    let one = item();
    let kept = store.keep_output(chunk, token, &one, &purpose, &output);
    assert!(kept.await.unwrap());
    let prepared = NewPrepared {
        fingerprint: Fingerprint::new([1; 16]),
        work: PreparedWork::Output(output.clone()),
        at: now,
    };
    let kept = store.keep_prepared(chunk, token, &one, &prepared);
    assert!(kept.await.unwrap());
    // One is queued, and operators have asked for it.
    let all: Vec<ItemId> = [item()].into_iter().chain(items(0..2)).collect();
    store
        .enqueue(firing(vec![batch("queued", now, &all, 10)]), now)
        .await
        .unwrap();
    let entry = AuditEntry {
        at: now,
        by: "api".into(),
        action: "preview".into(),
        subject: "canary-bird".into(),
        detail: "a dry run for canary-bird".into(),
        reason: Some("for canary-bird".into()),
    };
    store.record(&entry).await.unwrap();
    // An alert has said why it failed.
    let body = json!({"detail": "1 of 3 failed: no address for:\ncanary-bird"}).to_string();
    for sql in [
        "INSERT INTO @alerts (finding, body, seen_at) VALUES ('failing/failed', $1, $2)",
        "INSERT INTO @alert_messages (id, at, pending, body, deliveries) VALUES ('one', $2, 0, $1, '[]')",
    ] {
        let alert = values![&*body, now];
        store.database.execute(sql, alert).await.unwrap();
    }
    for (scope, key) in [
        ("trigger queued", "canary-bird"),
        ("trigger queued", "other"),
    ] {
        let new = NewRequest {
            scope: scope.into(),
            key: key.into(),
            fingerprint: "hash".into(),
        };
        let request = store.request(&new, now).await.unwrap();
        let answer = Some(json!({"left_out": ["canary-bird"]}));
        store.answer(request.id, answer).await.unwrap();
    }
}

/// Everything that stands in the tables, as text.
async fn tables(store: &Store) -> Vec<(String, String)> {
    let names = if store.database.is_shared() {
        "SELECT tablename::text FROM pg_tables WHERE schemaname = 'punctual' ORDER BY 1"
    } else {
        "SELECT name FROM sqlite_schema WHERE type = 'table' AND name NOT LIKE 'sqlite_%' ORDER BY 1"
    };
    let names: Vec<String> = store.database.fetch(names, values![]).await.unwrap();
    let mut all = Vec::new();
    for name in names {
        let rows = if store.database.is_shared() {
            format!("SELECT CAST(t AS TEXT) FROM @{name} t")
        } else {
            let columns = "SELECT name FROM pragma_table_info($1)";
            let columns = store.database.fetch(columns, values![&*name]);
            let columns: Vec<String> = columns.await.unwrap();
            let columns: Vec<String> = columns
                .iter()
                .map(|column| {
                    format!(
                        "coalesce(CASE typeof(\"{column}\") WHEN 'blob' THEN hex(\"{column}\") \
                         ELSE CAST(\"{column}\" AS TEXT) END, '')"
                    )
                })
                .collect();
            format!("SELECT {} FROM {name}", columns.join(" || ' ' || "))
        };
        let rows: Vec<String> = store.database.fetch(&rows, values![]).await.unwrap();
        all.extend(rows.into_iter().map(|row| (name.clone(), row)));
    }
    all
}

async fn nothing_is_left_of_a_tenant_who_was_erased(store: Store) {
    let now = "2026-11-27T12:00:00Z".parse().unwrap();
    store_canaries(&store, now).await;
    let of_removed =
        "INSERT INTO @last_successes (job_id, tenant_id, occurrence, scheduled_at, finished_at)
         VALUES ('succeeded', $1, '2026-01-01', 1, 2)";
    let of_removed = store.database.execute(of_removed, values![&item()]);
    of_removed.await.unwrap();
    let found: BTreeSet<String> = tables(&store)
        .await
        .into_iter()
        .filter(|(_, row)| row.contains(CANARY))
        .map(|(table, _)| table)
        .collect();
    for table in [
        "alert_messages",
        "alerts",
        "audit_log",
        "chunk_messages",
        "chunks",
        "dead_letters",
        "deliveries",
        "kept_outputs",
        "last_successes",
        "preferences",
        "prepared_outputs",
        "requests",
        "results",
        "running_items",
        "skipped_items",
        "waiting_items",
    ] {
        assert!(found.contains(table), "{table} has no canary: {found:?}");
    }
    let export = store.export(&tenant()).await.unwrap();
    for kind in [
        "runs",
        "dead_letters",
        "waiting",
        "kept_outputs",
        "prepared_outputs",
        "last_successes",
        "audit_log",
    ] {
        assert!(!export.0[kind].is_empty(), "{kind}: {export:?}");
    }
    let erased = store.erase(&tenant(), now).await.unwrap();
    assert_eq!((erased.runs, erased.items, erased.dead_letters), (2, 3, 1));
    for (table, row) in tables(&store).await {
        assert!(!row.contains(CANARY), "{table}: {row}");
    }
    let export = store.export(&tenant()).await.unwrap();
    assert!(export.0.values().all(Vec::is_empty), "{export:?}");
    // What was delivered as far as the tenant goes on with the others.
    let sql = "SELECT d.batch_id, d.position FROM @deliveries d WHERE d.position IS NOT NULL";
    let left: Vec<(String, String)> = store.database.fetch(sql, values![]).await.unwrap();
    let [(batch_id, cursor)] = left.as_slice() else {
        panic!("{left:?}");
    };
    let rest = ResultFilter {
        batch_id: batch_id.parse().unwrap(),
        status: None,
    };
    let page = Page {
        cursor: Some(cursor.clone()),
        limit: 10,
    };
    let (rest, _) = store.results(&rest, &page).await.unwrap();
    let rest: Vec<ItemId> = rest.into_iter().map(|one| one.result.item_id).collect();
    assert_eq!(rest, items(0..2));
}

async fn a_delivery_that_was_under_way_is_left_without_the_name(store: Store) {
    let now = "2026-11-27T12:00:00Z".parse().unwrap();
    let (new, token) = claimed(&store, "a", now).await;
    let mut results = vec![result(ItemStatus::Succeeded, now)];
    let others = items(0..2);
    results.extend(others.iter().map(|one| succeeded(one, json!("fine"), now)));
    let committed = store.commit(&new.chunks[0], token, &results).await.unwrap();
    assert!(committed.finished);
    let of_batch = ResultFilter {
        batch_id: new.batch_id,
        status: None,
    };
    let mut page = Page {
        cursor: None,
        limit: 1,
    };
    let lease = TimeDelta::minutes(1);
    let taken = store.take(now, lease, &[]).await.unwrap().unwrap();
    let (_, cursor) = store.results(&of_batch, &page).await.unwrap();
    let cursor = cursor.unwrap();
    assert!(cursor.ends_with("canary-bird"), "{cursor}");
    store.erase(&tenant(), now).await.unwrap();
    assert!(store.advance(&taken, Some(cursor), now).await.unwrap());
    // It may be repeated.
    store.erase(&tenant(), now).await.unwrap();
    for (table, row) in tables(&store).await {
        assert!(!row.contains(CANARY), "{table}: {row}");
    }
    let taken = store.take(now, lease, &[]).await.unwrap().unwrap();
    (page.cursor, page.limit) = (taken.cursor, 10);
    let (rest, _) = store.results(&of_batch, &page).await.unwrap();
    let rest: Vec<ItemId> = rest.into_iter().map(|one| one.result.item_id).collect();
    assert_eq!(rest, others);
}

/// What was deleted stays in the free pages of a file until they are used again.
#[tokio::test]
async fn the_bytes_of_the_file_have_nothing_of_the_tenant_after_a_vacuum() {
    let (folder, store) = in_file().await;
    let now = "2026-11-27T12:00:00Z".parse().unwrap();
    store_canaries(&store, now).await;
    store.erase(&tenant(), now).await.unwrap();
    let url = super::url(&folder, "new/folder/punctual.db");
    let connection = <sqlx::SqliteConnection as sqlx::Connection>::connect(&url);
    let mut connection = connection.await.unwrap();
    for sql in ["VACUUM", "PRAGMA wal_checkpoint(TRUNCATE)"] {
        let done = sqlx::query(sql).fetch_all(&mut connection).await;
        done.unwrap();
    }
    let files = std::fs::read_dir(folder.path().join("new/folder")).unwrap();
    for file in files {
        let path = file.unwrap().path();
        let bytes = std::fs::read(&path).unwrap();
        let found = bytes
            .windows(CANARY.len())
            .any(|part| part == CANARY.as_bytes());
        assert!(!found, "{}", path.display());
    }
}

/// What workers hold, and how often each item has been given and stored.
#[derive(Default)]
struct Work {
    claims: Vec<(ClaimedChunk, Vec<ItemId>)>,
    waiting: Vec<(Uuid, ItemId)>,
    stored: BTreeMap<ItemId, usize>,
}

impl Work {
    /// Claims, ends, lets wait or completes something.
    async fn step(
        &mut self,
        store: &Store,
        process: Uuid,
        random: &mut Numbers,
        now: DateTime<Utc>,
    ) {
        if self.claims.is_empty() || random.below(4) == 0 {
            let mut limits = ClaimLimits::new(10_000);
            limits.begin(BTreeMap::new());
            let found = store.claim_next(process, &limits, now).await.unwrap();
            let given = found.into_iter().map(|one| {
                let items = one.claim.items.clone();
                (one, items)
            });
            self.claims.extend(given);
        }
        if !self.waiting.is_empty() && (self.claims.is_empty() || random.below(3) == 0) {
            let (call_id, item_id) = self.waiting.swap_remove(random.below(self.waiting.len()));
            let end = Settlement::End(Box::new(succeeded(&item_id, json!("late"), now)));
            let settled = store.settle_calls(&[(call_id, end)], now).await.unwrap();
            if settled == [Settled::Taken] {
                *self.stored.entry(item_id).or_default() += 1;
            }
            return;
        }
        if self.claims.is_empty() {
            return;
        }
        let place = random.below(self.claims.len());
        let (claimed, left) = &mut self.claims[place];
        let (chunk, token) = (&claimed.chunk, claimed.token);
        let some: Vec<ItemId> = left.drain(..left.len().min(1 + random.below(2))).collect();
        let mut is_over = left.is_empty();
        match random.below(5) {
            // The worker gives the rest back.
            0 => {
                store.release(chunk, token, None).await.unwrap();
                is_over = true;
            }
            1 => {
                let waits = some.iter().map(|item_id| WaitingItem {
                    call_id: Uuid::new_v4(),
                    item_id: item_id.clone(),
                    purpose_id: PurposeId::new("render").unwrap(),
                    stage: Stage::Only,
                    attempts: Attempts::default(),
                    preference: None,
                    started_at: now,
                    since: now,
                    waiting: Waiting::until(now + TimeDelta::hours(1)),
                });
                let waits: Vec<WaitingItem> = waits.collect();
                let begun = store.begin_waiting(chunk, token, &waits).await.unwrap();
                if begun.claimed {
                    let calls = waits.into_iter().map(|one| (one.call_id, one.item_id));
                    self.waiting.extend(calls);
                }
                is_over |= !begun.claimed || begun.finished;
            }
            _ => {
                let results: Vec<ItemResult> = some
                    .iter()
                    .map(|item_id| succeeded(item_id, json!("done"), now))
                    .collect();
                let committed = store.commit(chunk, token, &results).await.unwrap();
                if committed.claimed {
                    assert_eq!(committed.taken, results.len(), "{}", chunk.chunk_id);
                    for item_id in some {
                        *self.stored.entry(item_id).or_default() += 1;
                    }
                }
                is_over |= !committed.claimed || committed.finished;
            }
        }
        if is_over {
            let (claimed, _) = self.claims.swap_remove(place);
            store
                .finish(&claimed.chunk, claimed.token, now)
                .await
                .unwrap();
            store
                .release(&claimed.chunk, claimed.token, None)
                .await
                .unwrap();
        }
    }
}

async fn erasing_amid_work_loses_and_repeats_nothing_of_others(store: Store) {
    let now = SystemClock.now();
    for seed in 0..30 {
        let mut random = Numbers(seed * 7_919 + 13);
        let all: Vec<ItemId> = (0..9)
            .map(|n| ItemId::new(format!("s{seed}-{n}")).unwrap())
            .collect();
        // Two batches of one run share items.
        let due = now - TimeDelta::minutes(seed as i64);
        let batches = [
            batch("a", due, &all[..6], 3),
            batch("a", due - TimeDelta::seconds(1), &all[3..], 4),
        ];
        let [first, mut second] = batches;
        for chunk in &mut second.chunks {
            chunk.occurrence = first.chunks[0].occurrence;
        }
        let ids = [first.batch_id, second.batch_id];
        store
            .enqueue(firing(vec![first, second]), now)
            .await
            .unwrap();
        let process = Uuid::new_v4();
        let mut work = Work::default();
        let erased: Vec<&ItemId> = vec![&all[random.below(9)], &all[random.below(9)]];
        let mut steps = [random.below(12), random.below(25)];
        steps.sort_unstable();
        for step in 0..400 {
            for (when, tenant) in steps.iter().zip(&erased) {
                if *when == step {
                    let tenant = TenantId::new(tenant.as_str()).unwrap();
                    TenantRecords::erase(&store, &tenant, now).await.unwrap();
                }
            }
            work.step(&store, process, &mut random, now).await;
        }
        for batch_id in ids {
            let batch = store.batch(batch_id).await.unwrap().unwrap();
            assert_eq!(batch.status, BatchStatus::Completed, "{seed}: {batch:?}");
            assert_eq!(batch.processed(), batch.total, "{seed}: {batch:?}");
        }
        for item_id in all.iter().filter(|item_id| !erased.contains(item_id)) {
            assert_eq!(work.stored.get(item_id), Some(&1), "{seed}: {item_id}");
        }
        let sql = "SELECT count(*) FROM @results WHERE tenant_id = $1";
        for item_id in &all {
            let rows = store.database.fetch_optional(sql, values![item_id]).await;
            let rows: Option<i64> = rows.unwrap();
            let expected = i64::from(!erased.contains(&item_id));
            assert_eq!(rows, Some(expected), "{seed}: {item_id}");
        }
    }
}

async fn two_erasures_at_one_time_leave_neither_tenant(store: Store) {
    let now = SystemClock.now();
    let all = items(0..40);
    for number in 0..5 {
        let new = batch("a", now - TimeDelta::minutes(number), &all, 10);
        store.enqueue(firing(vec![new]), now).await.unwrap();
    }
    let tenants = [3, 5, 7].map(|n| TenantId::new(format!("t{n}")).unwrap());
    let erasures = tenants.clone().map(|tenant| {
        let store = store.clone();
        tokio::spawn(async move { store.erase(&tenant, now).await.unwrap() })
    });
    for erasure in erasures {
        assert_eq!(erasure.await.unwrap().items, 5);
    }
    for (table, row) in tables(&store).await {
        for tenant in &tenants {
            assert!(!row.contains(&format!("\"{tenant}\"")), "{table}: {row}");
        }
    }
    let sql = "SELECT min(total), max(total) FROM @batches";
    let totals = store.database.fetch_optional(sql, values![]).await.unwrap();
    assert_eq!(totals, Some((37_i64, 37_i64)));
}

/// Runs an item with a preference, `number` minutes ago.
async fn run_with(store: &Store, number: i64, item_id: &ItemId, preference: &Arc<Json>) {
    let now = SystemClock.now();
    let one = std::slice::from_ref(item_id);
    let new = batch("a", now - TimeDelta::minutes(number), one, 10);
    store.enqueue(firing(vec![new.clone()]), now).await.unwrap();
    let claimant = claimant();
    store.claim(&new.chunks[0], claimant, now).await.unwrap();
    let result = ItemResult {
        preference: Some(preference.clone()),
        ..succeeded(item_id, json!(1), now)
    };
    let results = [result];
    let committed = store.commit(&new.chunks[0], claimant.token, &results);
    assert_eq!(committed.await.unwrap().taken, 1);
}

async fn contents(store: &Store) -> Vec<String> {
    let sql = "SELECT content FROM @preferences";
    store.database.fetch(sql, values![]).await.unwrap()
}

async fn a_preference_that_others_have_stays(store: Store) {
    let now = SystemClock.now();
    let shared = Arc::new(json!({"tone": "shared"}));
    let own = Arc::new(json!({"tone": "own"}));
    let [ann, bob] = ["ann", "bob"].map(|id| ItemId::new(id).unwrap());
    run_with(&store, 1, &ann, &shared).await;
    run_with(&store, 2, &bob, &shared).await;
    run_with(&store, 3, &ann, &own).await;
    let tenant = TenantId::new("ann").unwrap();
    store.erase(&tenant, now).await.unwrap();
    assert_eq!(contents(&store).await, [shared.to_string()]);
    // It is stored anew when it comes again, although this process had stored it before.
    run_with(&store, 4, &bob, &own).await;
    let left = contents(&store).await;
    assert_eq!(left.len(), 2, "{left:?}");
}

#[cfg(feature = "postgres")]
#[cfg_attr(
    not(feature = "servers"),
    ignore = "needs what `make setup` installs; run `make test`"
)]
#[tokio::test]
async fn another_process_stores_a_preference_anew_that_an_erasure_has_removed() {
    let url = database().await;
    let [store, other] = [
        Store::open(&url).await.unwrap(),
        Store::open(&url).await.unwrap(),
    ];
    let own = Arc::new(json!({"tone": "own"}));
    let [ann, bob] = ["ann", "bob"].map(|id| ItemId::new(id).unwrap());
    run_with(&other, 1, &ann, &own).await;
    let listening = other.clone();
    let listening = tokio::spawn(async move { listening.listen().await });
    until_connection(&other, LISTENS).await;
    let tenant = TenantId::new("ann").unwrap();
    store.erase(&tenant, SystemClock.now()).await.unwrap();
    assert!(contents(&store).await.is_empty());
    let heard = async {
        for number in 2.. {
            run_with(&other, number, &bob, &own).await;
            if !contents(&store).await.is_empty() {
                break;
            }
        }
    };
    let heard = tokio::time::timeout(Duration::from_mins(1), heard).await;
    heard.expect("it hears of the erasure");
    listening.abort();
}

#[cfg(feature = "postgres")]
#[cfg_attr(
    not(feature = "servers"),
    ignore = "needs what `make setup` installs; run `make test`"
)]
#[tokio::test]
async fn a_claim_that_waits_for_the_first_erasure_gives_nothing_of_the_tenant() {
    let store = Store::open(&database().await).await.unwrap();
    let now = SystemClock.now();
    let new = batch("a", now, &items(0..3), 10);
    store.enqueue(firing(vec![new.clone()]), now).await.unwrap();
    let mut locks = store.database.begin().await.unwrap();
    let sql = "SELECT c.chunk FROM @chunks c @for_update(c)";
    let locked: Vec<i64> = locks.fetch(sql, values![]).await.unwrap();
    assert_eq!(locked.len(), 1);
    let erasing = store.clone();
    let erasing = tokio::spawn(async move {
        let gone = TenantId::new("t0").unwrap();
        erasing.erase(&gone, now).await.unwrap()
    });
    until_connection(&store, "wait_event_type = 'Lock'").await;
    let claiming = store.clone();
    let claiming = tokio::spawn(async move {
        let claim = claiming.claim(&new.chunks[0], claimant(), now);
        claim.await.unwrap()
    });
    // So that it waits, too; where it is slower, it finds the same.
    tokio::time::sleep(Duration::from_millis(200)).await;
    locks.commit().await.unwrap();
    assert_eq!(erasing.await.unwrap().items, 1);
    assert_eq!(claiming.await.unwrap().items, items(1..3));
}

async fn claims_ask_for_erased_runs_only_where_there_are_any(store: Store) {
    let now = SystemClock.now();
    let mut statements = Vec::new();
    for number in 0..2 {
        let new = batch("a", now - TimeDelta::minutes(number), &items(0..3), 10);
        store.enqueue(firing(vec![new.clone()]), now).await.unwrap();
        let (chunk, claimant) = (&new.chunks[0], claimant());
        let before = STATEMENTS.get();
        store.claim(chunk, claimant, now).await.unwrap();
        let claimed = STATEMENTS.get() - before;
        let results: Vec<ItemResult> = items(0..3)
            .iter()
            .map(|one| succeeded(one, json!(1), now))
            .collect();
        store.commit(chunk, claimant.token, &results).await.unwrap();
        statements.push(claimed);
        if number == 0 {
            let gone = TenantId::new("t0").unwrap();
            store.erase(&gone, now).await.unwrap();
        }
    }
    // The key, and the hashes.
    assert_eq!(statements[1], statements[0] + 2, "{statements:?}");
}

/// Retention removes results before their dead letters: a replay in between writes the failure down anew, which does not count in its
/// own chunk.
async fn a_replay_goes_on_without_the_tenant_whose_failure_has_just_been_removed(store: Store) {
    let now = SystemClock.now();
    let (all, claimed) = (items(0..2), claimant());
    let new = batch("a", now, &all, 10);
    store.enqueue(firing(vec![new.clone()]), now).await.unwrap();
    store.claim(&new.chunks[0], claimed, now).await.unwrap();
    let failed: Vec<ItemResult> = all
        .iter()
        .map(|one| ItemResult {
            status: ItemStatus::Failed,
            failure_kind: Some(FailureKind::Handler),
            output: None,
            ..succeeded(one, json!(1), now)
        })
        .collect();
    let committed = store.commit(&new.chunks[0], claimed.token, &failed);
    assert_eq!(committed.await.unwrap().taken, 2);
    let removed = "DELETE FROM @results";
    store.database.execute(removed, values![]).await.unwrap();
    let ids = "SELECT d.id FROM @dead_letters d ORDER BY d.id";
    let ids: Vec<i64> = store.database.fetch(ids, values![]).await.unwrap();
    let again = NewBatch::new(
        &new.job_id,
        new.priority,
        "replay".to_owned(),
        now,
        new.chunks[0].occurrence,
        Trigger::Replay,
        now + TimeDelta::seconds(1),
        &all,
        10,
    );
    let settled = store.settle(&ids, vec![again.clone()], now);
    assert_eq!(settled.await.unwrap(), 2);
    let gone = TenantId::new(all[0].as_str()).unwrap();
    assert_eq!(store.erase(&gone, now).await.unwrap().items, 1);
    let (chunk, claimed) = (&again.chunks[0], claimant());
    let claim = store.claim(chunk, claimed, now).await.unwrap();
    assert_eq!(claim.items, &all[1..]);
    let results = [succeeded(&all[1], json!(1), now)];
    let committed = store.commit(chunk, claimed.token, &results).await.unwrap();
    assert!(committed.finished, "{committed:?}");
    let batch = store.batch(again.batch_id).await.unwrap().unwrap();
    assert_eq!((batch.status, batch.failed), (BatchStatus::Completed, 0));
}

/// Follows an erasure of the tenant that the Config Database has made then. Returns how many items it took out of batches.
async fn follow(store: &Store, tenant: &TenantId, erased_at: DateTime<Utc>) -> u64 {
    let erased = store.erase_once(tenant, erased_at, SystemClock.now()).await;
    erased.unwrap().items
}

/// Queues items for `number` minutes ago, an hour ago.
async fn queue(store: &Store, number: i64, items: &[ItemId]) {
    let hour_ago = SystemClock.now() - TimeDelta::hours(1);
    queue_at(store, number, items, hour_ago).await;
}

/// Queues items for `number` minutes ago, at an instant.
async fn queue_at(store: &Store, number: i64, items: &[ItemId], now: DateTime<Utc>) {
    let due = SystemClock.now() - TimeDelta::minutes(number);
    let new = batch("a", due, items, 1);
    store.enqueue(firing(vec![new]), now).await.unwrap();
}

async fn noted(store: &Store) -> Vec<String> {
    let sql = "SELECT e.tenant FROM @done_erasures e";
    store.database.fetch(sql, values![]).await.unwrap()
}

async fn an_erasure_that_was_carried_out_costs_a_look_at_few_chunks(store: Store) {
    let erased_at = SystemClock.now();
    // More chunks than are looked at again.
    for number in 0..3 {
        let all: Vec<ItemId> = items(0..900);
        queue(&store, number, &all).await;
    }
    let gone = TenantId::new("t0").unwrap();
    let before = STATEMENTS.get();
    assert_eq!(follow(&store, &gone, erased_at).await, 3);
    let first = STATEMENTS.get() - before;
    let hashes = noted(&store).await;
    assert!(hashes.len() == 1 && !hashes[0].contains("t0"), "{hashes:?}");
    let before = STATEMENTS.get();
    assert_eq!(follow(&store, &gone, erased_at).await, 0);
    let second = STATEMENTS.get() - before;
    // The key, the note, and the last chunk.
    assert!(second <= 3 && second < first, "{first} {second}");
    // What has come since is looked at, and once there is much of it, only what comes after.
    for number in 3..6 {
        let all: Vec<ItemId> = items(1..901);
        queue(&store, number, &all).await;
    }
    let mut looks = Vec::new();
    for _ in 0..2 {
        let before = STATEMENTS.get();
        assert_eq!(follow(&store, &gone, erased_at).await, 0);
        looks.push(STATEMENTS.get() - before);
    }
    assert!(looks[0] > 10 && looks[1] <= 3, "{looks:?}");
    // Another erasure is a new one, and an operator's is always carried out.
    let later = erased_at + TimeDelta::seconds(1);
    let before = STATEMENTS.get();
    assert_eq!(follow(&store, &gone, later).await, 0);
    assert!(STATEMENTS.get() - before > second);
    assert_eq!(noted(&store).await, hashes);
    let before = STATEMENTS.get();
    store.erase(&gone, later).await.unwrap();
    assert!(STATEMENTS.get() - before > second);
}

async fn an_erasure_is_repeated_whose_last_chunk_was_removed_or_that_was_not_finished(
    store: Store,
) {
    let erased_at = SystemClock.now();
    let all = items(0..2);
    queue(&store, 1, &all).await;
    let gone = TenantId::new("t0").unwrap();
    assert_eq!(follow(&store, &gone, erased_at).await, 1);
    // Retention has removed the chunk, and another one has its number.
    let renamed = "UPDATE @chunks SET chunk_id = chunk_id || '-new'";
    store.database.execute(renamed, values![]).await.unwrap();
    let of_removed =
        "INSERT INTO @last_successes (job_id, tenant_id, occurrence, scheduled_at, finished_at)
         VALUES ('a', $1, '2026-01-01', 1, 2)";
    let of_removed = store.database.execute(of_removed, values![&all[0]]);
    of_removed.await.unwrap();
    follow(&store, &gone, erased_at).await;
    let left = "SELECT l.job_id FROM @last_successes l";
    let left: Vec<String> = store.database.fetch(left, values![]).await.unwrap();
    assert_eq!(left, [""; 0]);
    assert_eq!(noted(&store).await.len(), 1);
    // Each erasure begins with removing the note: if it does not come to its end, the next one does everything.
    store.erase(&gone, erased_at).await.unwrap();
    assert_eq!(noted(&store).await, [""; 0]);
}

/// In `PostgreSQL`, a transaction that queued more chunks than any fixed number may be seen after others with higher numbers.
async fn chunks_that_were_being_queued_during_an_erasure_are_looked_at_when_it_is_named_again(
    store: Store,
) {
    let erased_at = SystemClock.now();
    queue(&store, 0, &items(5..6)).await;
    // They are not seen yet: another stands in the place of the tenant.
    queue_at(&store, 1, &items(0..1), erased_at).await;
    let rename = async |from: &str, to: &str| {
        let sql = "UPDATE @chunk_messages SET message = replace(message, $1, $2)";
        let renamed = store.database.execute(sql, values![from, to]);
        renamed.await.unwrap();
    };
    rename("\"t0\"", "\"unseen\"").await;
    let more: Vec<ItemId> = items(10..2_200);
    queue_at(&store, 2, &more, erased_at).await;
    let gone = TenantId::new("t0").unwrap();
    assert_eq!(follow(&store, &gone, erased_at).await, 0);
    assert_eq!(noted(&store).await.len(), 1);
    rename("\"unseen\"", "\"t0\"").await;
    assert_eq!(follow(&store, &gone, erased_at).await, 1);
}

async fn what_is_noted_of_an_erasure_is_removed_after_the_config_database_has_forgotten_it(
    store: Store,
) {
    let now = SystemClock.now();
    queue(&store, 1, &items(0..2)).await;
    let gone = TenantId::new("t0").unwrap();
    follow(&store, &gone, now).await;
    for (days, left) in [(31, 1), (46, 0)] {
        let then = now + TimeDelta::days(days);
        loop {
            let portion = store.remove(&RetentionPolicy::default(), 100, then).await;
            if portion.unwrap().is_last {
                break;
            }
        }
        assert_eq!(noted(&store).await.len(), left, "{days}");
    }
}

/// A copy that was made before an erasure knows nothing of it.
#[tokio::test]
async fn a_store_that_was_restored_from_an_older_copy_is_erased_again() {
    let (folder, store) = in_file().await;
    queue(&store, 1, &items(0..2)).await;
    let copy = folder.path().join("copy.db");
    let original = super::url(&folder, "new/folder/punctual.db");
    crate::backup(&original, &copy).await.unwrap();
    let (gone, erased_at) = (TenantId::new("t0").unwrap(), SystemClock.now());
    assert_eq!(follow(&store, &gone, erased_at).await, 1);
    assert_eq!(follow(&store, &gone, erased_at).await, 0);
    let restored = Store::open(&super::url(&folder, "copy.db")).await.unwrap();
    assert_eq!(noted(&restored).await, [""; 0]);
    assert_eq!(follow(&restored, &gone, erased_at).await, 1);
    assert_eq!(noted(&restored).await.len(), 1);
}
