//! How the database finds what statements ask for: what is read often, or grows, by an index.

use chrono::DateTime;
use punctual_application::ports::{DeadLetterFilter, DeliveryFilter};
use punctual_domain::{DeadLetterState, JobId};
use uuid::Uuid;

use super::{in_file, items};
use crate::{Store, driver::values};

/// How `SQLite` finds the rows of a statement.
async fn plan(store: &Store, sql: &str) -> Vec<String> {
    let plan = format!("EXPLAIN QUERY PLAN {sql}");
    let steps: Vec<(i64, i64, i64, String)> = store.database.fetch(&plan, values![]).await.unwrap();
    steps.into_iter().map(|step| step.3).collect()
}

/// Statements over dead letters, each with the terms of the index by which its rows are found.
fn letters_by_index() -> Vec<(String, &'static str)> {
    let (open, discarded) = (DeadLetterState::Open, DeadLetterState::Discarded);
    let of = |job: bool, tenant: bool, state: DeadLetterState| DeadLetterFilter {
        job_id: job.then(|| JobId::new("a").unwrap()),
        item_id: tenant.then(|| items(0..1).remove(0)),
        settled_after: (state == discarded).then_some(DateTime::UNIX_EPOCH),
        state: Some(state),
        ..DeadLetterFilter::default()
    };
    let counts = [
        (of(false, false, open), "dead_letters_by_state (state=?)"),
        (
            of(true, false, open),
            "dead_letters_open (state=? AND job_id=?)",
        ),
        (
            of(false, true, open),
            "dead_letters_of_tenant (tenant_id=?)",
        ),
        (
            of(true, true, open),
            "dead_letters_of_tenant (tenant_id=? AND job_id=?)",
        ),
        (
            of(false, false, discarded),
            "dead_letters_discarded (state=? AND settled_at>?)",
        ),
        (
            of(true, false, discarded),
            "dead_letters_discarded_of_job (state=? AND job_id=?)",
        ),
        (
            of(false, true, discarded),
            "dead_letters_of_tenant (tenant_id=?)",
        ),
    ];
    let count = |(filter, terms): (DeadLetterFilter, &'static str)| {
        let wanted = crate::reader::wanted_letters(&filter);
        let sql = format!("{}{}", crate::reader::DEAD_LETTER_COUNT, wanted.sql());
        (sql, terms)
    };
    let mut statements: Vec<_> = counts.into_iter().map(count).collect();
    for (sql, terms) in [
        (
            crate::operations::OPEN_DEAD_LETTERS,
            "dead_letters_open (state=? AND job_id=?)",
        ),
        (
            crate::operations::REASONS,
            "dead_letters_open (state=? AND job_id=? AND id>?)",
        ),
        (
            crate::operations::REASONS,
            "dead_letters_open (state=? AND job_id=?)",
        ),
        (
            crate::work_queue::FORGET_DISCARDED,
            "dead_letters_discarded (state=? AND settled_at<?)",
        ),
        (crate::reader::BATCHES, "r USING PRIMARY KEY (batch_id=?)"),
        (
            crate::operations::ACTIVITY,
            "r USING PRIMARY KEY (batch_id=?)",
        ),
    ] {
        statements.push((sql.to_owned(), terms));
    }
    statements
}

#[tokio::test]
async fn what_is_read_every_second_or_grows_for_ever_is_found_by_an_index() {
    let (_folder, store) = in_file().await;
    let deliveries = crate::operations::wanted_deliveries(&DeliveryFilter {
        batch_ids: Some([Uuid::nil()].into()),
        ..DeliveryFilter::default()
    });
    let (failing, _) = crate::operations::failing_deliveries(DateTime::UNIX_EPOCH);
    let batch = format!("{} WHERE b.batch_id = $1", crate::reader::BATCHES);
    let log = |subject: &str| {
        let log = crate::operations::AUDIT_LOG;
        format!("{log} WHERE {subject} = $1 AND id < $2 ORDER BY id DESC LIMIT 9")
    };
    let asked_at = crate::operations::wanted_deliveries(&DeliveryFilter {
        asked_at: Some(DateTime::UNIX_EPOCH),
        ..DeliveryFilter::default()
    });
    let reopened_at = crate::reader::wanted_letters(&DeadLetterFilter {
        reopened_at: Some(DateTime::UNIX_EPOCH),
        ..DeadLetterFilter::default()
    });
    let mut statements = letters_by_index();
    statements.extend([
        (
            format!("{}{}", crate::operations::DELIVERIES, asked_at.sql()),
            "deliveries_retried (retried_from=?)",
        ),
        (
            format!("{}{}", crate::reader::DEAD_LETTER_COUNT, reopened_at.sql()),
            "dead_letters_reopened (reopened_at=?)",
        ),
        (
            format!("{}{}", crate::operations::DELIVERIES, deliveries.sql()),
            "deliveries_of_batch (batch_id=?)",
        ),
        (failing, "deliveries_of_state (state=?)"),
        (
            crate::previous::PREVIOUS.to_owned(),
            "runs_of_job (job_id=? AND last_due>? AND last_due<?)",
        ),
        (
            crate::previous::PREVIOUS.to_owned(),
            "SEARCH r USING PRIMARY KEY (run=? AND tenant_id=?)",
        ),
        (batch, "chunks_of_batch (batch_id=?)"),
        (
            crate::operations::ACTIVITY.to_owned(),
            "chunks_of_batch (batch_id=?)",
        ),
        (
            crate::operations::ACTIVITY.to_owned(),
            "batches_newest (scheduled_at>?)",
        ),
        (
            crate::operations::EXPIRED_ITEMS.to_owned(),
            "expired_items USING PRIMARY KEY (hour>?)",
        ),
        (
            format!(
                "{} WHERE hour >= $1 GROUP BY hour",
                crate::operations::OUTCOMES_BY_HOUR
            ),
            "outcomes_by_hour USING PRIMARY KEY (hour>?)",
        ),
        (
            crate::operations::WAITING_WORK.to_owned(),
            "batches_of_status (status=? AND scheduled_at<?)",
        ),
        (log("action"), "audit_log_of_action (action=? AND id<?)"),
        (log("subject"), "audit_log_of_subject (subject=? AND id<?)"),
    ]);
    for (sql, terms) in statements {
        let steps = plan(&store, &sql).await;
        let by_index = steps.iter().any(|step| step.ends_with(terms));
        let is_scan = |step: &String| step.starts_with("SCAN") && !step.contains("USING");
        let scanned = steps.iter().filter(|step| is_scan(step));
        let tables = ["dead_letters", "SCAN d", "SCAN n", "audit_log"];
        let scans = scanned.filter(|step| tables.iter().any(|table| step.contains(table)));
        assert!(by_index && scans.count() == 0, "{terms}\n{sql}\n{steps:#?}");
    }
}

#[tokio::test]
async fn items_are_looked_up_one_by_one_however_many_results_a_run_has() {
    let (_folder, store) = in_file().await;
    let steps = plan(&store, crate::claims::OUTCOMES).await;
    let by_item = |step: &String| step.contains("(run=? AND tenant_id=?)");
    assert!(steps.iter().any(by_item), "{steps:#?}");
    let steps = plan(&store, crate::kept_outputs::TAKE).await;
    assert!(steps.iter().any(by_item), "{steps:#?}");
    let steps = plan(&store, crate::kept_outputs::FORGET_KEPT).await;
    let by_run = |step: &String| step.contains("kept_outputs USING PRIMARY KEY (run=?");
    assert!(steps.iter().any(by_run), "{steps:#?}");
    for prepared in [
        crate::prepared_outputs::TAKE,
        crate::prepared_outputs::STATES,
    ] {
        let steps = plan(&store, prepared).await;
        let by_item = |step: &String| {
            step.contains(
                "prepared_outputs USING PRIMARY KEY (job_id=? AND occurrence=? AND tenant_id=?)",
            )
        };
        assert!(steps.iter().any(by_item), "{steps:#?}");
    }
    for (sql, index) in [
        (
            crate::prepared_outputs::FINISH,
            "prepared_outputs_of_call (call_id=?)",
        ),
        (
            crate::prepared_outputs::REMOVE_OLD,
            "prepared_outputs_due (due_at<?)",
        ),
    ] {
        let steps = plan(&store, sql).await;
        let by_index = |step: &String| step.contains(index);
        assert!(steps.iter().any(by_index), "{steps:#?}");
    }
    for (sql, terms) in [
        (
            crate::late_changes::SETTLED,
            "skipped_items_of_tenant (tenant_id=? AND job_id=? AND occurrence=?)",
        ),
        (crate::late_changes::CANCELLED, "batches_of_run (run=?)"),
        (
            crate::late_changes::CANCELLED,
            "chunks_of_batch (batch_id=?)",
        ),
    ] {
        let steps = plan(&store, sql).await;
        let by_index = steps.iter().any(|step| step.contains(terms));
        let scans = ["SCAN s", "SCAN n", "SCAN b", "SCAN c", "SCAN m"];
        let scans = |step: &String| scans.contains(&step.as_str());
        assert!(
            by_index && !steps.iter().any(scans),
            "{terms}\n{sql}\n{steps:#?}"
        );
    }
    let steps = plan(&store, crate::kept_outputs::CLEAR_KEPT).await;
    let by_chunk = |step: &String| step.contains("kept_outputs_of_chunk (chunk=?)");
    assert!(steps.iter().any(by_chunk), "{steps:#?}");
    assert!(steps.iter().any(by_item), "{steps:#?}");
}

#[tokio::test]
async fn chunks_to_claim_are_found_by_an_index_however_many_wait_or_belong_to_paused_jobs() {
    use crate::chunk_queue::{NEXT_CANCELLED, NEXT_CHUNKS, WAITING_JOBS};
    use crate::work_queue::LOCK_CONCERNED;
    let (_folder, store) = in_file().await;
    let waiting = "chunks_waiting (job_id=?)";
    let cancelled = "batches_cancelled (job_id=?)";
    let of_batch = "chunks_of_batch (batch_id=? AND done=?)";
    for (sql, by_index) in [
        (NEXT_CHUNKS, vec![waiting]),
        (NEXT_CANCELLED, vec![cancelled, of_batch]),
        (WAITING_JOBS, vec![waiting, cancelled, of_batch]),
        (
            LOCK_CONCERNED,
            vec![waiting, "chunks_of_batch (batch_id=?)"],
        ),
    ] {
        let steps = plan(&store, sql).await;
        for terms in by_index {
            let found = steps.iter().any(|step| step.ends_with(terms));
            assert!(found, "{terms}\n{sql}\n{steps:#?}");
        }
        let scans = |step: &String| step == "SCAN c" || step == "SCAN b";
        assert!(!steps.iter().any(scans), "{sql}\n{steps:#?}");
    }
}

#[tokio::test]
async fn what_is_removed_is_found_by_an_index_however_much_stays() {
    use crate::retention::{
        NEXT_RUN,
        beside_runs::{
            REMOVE_AUDIT_LOG, REMOVE_PREFERENCES, REMOVE_PROVIDER_BATCHES, REMOVE_REQUESTS,
            REMOVE_SUCCESSES,
        },
        preview::COUNTS,
        run::{
            BATCHES, CHUNKS, REMEMBER, REMOVE_DELIVERIES, REMOVE_LETTERS, REMOVE_RESULTS, SLICE,
        },
    };
    let (_folder, store) = in_file().await;
    let of_run = "(run=? AND tenant_id>? AND tenant_id<?)";
    let to_clear = "(job_id=? AND ";
    for (sql, terms) in [
        (NEXT_RUN, to_clear),
        (NEXT_RUN, "batches_of_run (run=?)"),
        (NEXT_RUN, "deliveries_of_batch (batch_id=?)"),
        (COUNTS, to_clear),
        (COUNTS, "batches_of_run (run=?)"),
        (REMOVE_DELIVERIES, "deliveries_of_batch (batch_id=?)"),
        (SLICE, "(run=? AND tenant_id>?)"),
        (REMEMBER, of_run),
        (REMOVE_RESULTS, of_run),
        (REMOVE_LETTERS, "dead_letters_of_batch (batch_id=?)"),
        (CHUNKS, "batches_of_run (run=?)"),
        (CHUNKS, "chunks_of_batch (batch_id=?)"),
        (BATCHES, "batches_of_run (run=?)"),
        (
            crate::previous::REMOVED,
            "l USING PRIMARY KEY (tenant_id=? AND job_id=?)",
        ),
        (REMOVE_AUDIT_LOG, "audit_log_by_time (at<?)"),
        (REMOVE_REQUESTS, "requests_by_time (at<?)"),
        (REMOVE_SUCCESSES, "last_successes_by_time (scheduled_at<?)"),
        (
            REMOVE_PREFERENCES,
            "preferences_by_use (used_at>? AND used_at<?)",
        ),
        (
            REMOVE_PROVIDER_BATCHES,
            "provider_batches_ended (ended_at<?)",
        ),
    ] {
        let steps = plan(&store, sql).await;
        let by_index = steps.iter().any(|step| step.contains(terms));
        let is_scan = |step: &String| {
            let is_scan = step.starts_with("SCAN") && !step.starts_with("SCAN s");
            is_scan && !step.contains("VIRTUAL TABLE")
        };
        let scans = steps.iter().any(is_scan);
        assert!(by_index && !scans, "{terms}\n{sql}\n{steps:#?}");
    }
}

#[tokio::test]
async fn items_that_wait_are_found_by_an_index_however_many_there_are() {
    use punctual_application::ports::{Page, WaitingFilter};

    use crate::waiting_items::{CALLS, LISTED, due, listed_ids, settle};
    let (_folder, store) = in_file().await;
    let job = JobId::new("a").unwrap();
    let page = Page {
        cursor: Some(format!("0.{}", Uuid::nil())),
        limit: 10,
    };
    let listed = |job_id: Option<&JobId>, filter: &WaitingFilter| {
        let (sql, _) = listed_ids(job_id, filter, &page).unwrap();
        sql
    };
    let of_batch = WaitingFilter {
        batch_id: Some(Uuid::nil()),
        ..WaitingFilter::default()
    };
    let of_item = WaitingFilter {
        item_id: Some(items(0..1).remove(0)),
        ..WaitingFilter::default()
    };
    let of_call = "waiting_items_of_call (call_id=?)";
    let of_tenant = "waiting_items_of_tenant (tenant_id=?)";
    for (sql, terms) in [
        (CALLS.to_owned(), of_call),
        (LISTED.to_owned(), of_call),
        (settle::ITEMS.to_owned(), of_call),
        (due::NEXT.to_owned(), "waiting_items_due (phase=?)"),
        (
            due::DUE.to_owned(),
            "waiting_items_due (phase=? AND due_at<?)",
        ),
        (
            due::TO_CALL.to_owned(),
            "waiting_items_due (phase=? AND due_at<?)",
        ),
        (
            due::RESUME.to_owned(),
            "waiting_items_due (phase=? AND due_at<?)",
        ),
        (crate::claims::OVERLAPPING.to_owned(), of_tenant),
        (crate::claims::OPEN.to_owned(), "(chunk_id=?)"),
        (
            listed(Some(&job), &WaitingFilter::default()),
            "waiting_items_of_job (job_id=?",
        ),
        (listed(None, &of_batch), "waiting_items_of_job (job_id=?"),
        (listed(None, &of_item), of_tenant),
    ] {
        let steps = plan(&store, &sql).await;
        let by_index = steps.iter().any(|step| step.contains(terms));
        let scans = |step: &String| step == "SCAN w" || step == "SCAN c" || step == "SCAN b";
        assert!(
            by_index && !steps.iter().any(scans),
            "{terms}\n{sql}\n{steps:#?}"
        );
    }
}

#[tokio::test]
async fn what_is_erased_is_found_without_looking_through_all_that_is_stored() {
    use crate::{
        erased,
        tenant_records::{chunks, done, rows},
    };
    let (_folder, store) = in_file().await;
    for (sql, terms) in [
        (erased::KNOWN, "e USING PRIMARY KEY (hash=?)"),
        (chunks::ROWS, "c USING INTEGER PRIMARY KEY (rowid=?)"),
        (
            chunks::LOOK,
            "m USING INTEGER PRIMARY KEY (rowid>? AND rowid<?)",
        ),
        (
            rows::LEFT_RESULTS,
            "r USING PRIMARY KEY (run=? AND tenant_id=?)",
        ),
        (done::DONE, "e USING PRIMARY KEY (tenant=?)"),
        (done::NOTE, "c USING INTEGER PRIMARY KEY (rowid<?)"),
        (done::NOTE, "(batch_id=?)"),
        (done::REMOVE_DONE, "done_erasures_by_time (done_at<?)"),
        (rows::REMOVE_SKIPPED, "skipped_items_of_tenant (tenant_id=?"),
        (rows::REMOVE_LETTERS, "dead_letters_of_tenant (tenant_id=?"),
        (
            rows::REMOVE_SUCCESSES,
            "last_successes USING PRIMARY KEY (tenant_id=?)",
        ),
        (rows::REFERRED, "r USING PRIMARY KEY (run>? AND run<?)"),
    ] {
        let steps = plan(&store, sql).await;
        let by_index = steps.iter().any(|step| step.contains(terms));
        assert!(by_index, "{terms}\n{sql}\n{steps:#?}");
    }
}
