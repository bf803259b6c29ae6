//! Erases the rows of a tenant that no chunk counts: what is found by reading is deleted by its key, so that what else is written
//! waits for no search.

use std::collections::{BTreeMap, BTreeSet};

use punctual_application::ports::StoreError;
use serde_json::json;

use super::{Erasure, ROWS_PER_PORTION, note_preferences};
use crate::driver::{Announcement, Value, values};

/// Runs whose results one statement looks through.
const RUNS_PER_LOOK: i64 = 5;

/// Runs of which the tenant has results by chunks up to `$3`.
pub(crate) const LEFT_RESULTS: &str = "SELECT n.run, n.job_id, n.occurrence FROM @runs n CROSS JOIN @results r
     WHERE n.run > $1 AND r.run = n.run AND r.tenant_id = $2 AND r.chunk <= $3 ORDER BY n.run LIMIT $4";

const REMOVE_RESULTS: &str = "DELETE FROM @results WHERE @in_integers(run, $1) AND tenant_id = $2 AND chunk <= $3 RETURNING preference";

pub(crate) const REMOVE_SKIPPED: &str =
    "DELETE FROM @skipped_items WHERE tenant_id = $1 AND chunk IN
         (SELECT s.chunk FROM @skipped_items s WHERE s.tenant_id = $1 AND s.chunk <= $2 LIMIT $3)";

const REMOVE_RUNNING: &str = "DELETE FROM @running_items WHERE tenant_id = $1";

pub(crate) const REMOVE_LETTERS: &str = "DELETE FROM @dead_letters WHERE id IN
         (SELECT d.id FROM @dead_letters d WHERE d.tenant_id = $1 ORDER BY d.id LIMIT $2) RETURNING batch_id, state";

/// The failures that these letters were of have been run again, and go on being counted so.
const KEEP_REPLAYED: &str = "UPDATE @replayed_letters SET letters = letters + n.more
     FROM (SELECT one.value ->> 0 AS id, CAST(one.value ->> 1 AS BIGINT) AS more FROM @json($1, one)) n
     WHERE batch_id = n.id";

const KEPT: &str = "SELECT k.run FROM @kept_outputs k WHERE k.tenant_id = $1";

const REMOVE_KEPT: &str =
    "DELETE FROM @kept_outputs WHERE @in_integers(run, $1) AND tenant_id = $2";

const PREPARED: &str =
    "SELECT p.job_id, p.occurrence FROM @prepared_outputs p WHERE p.tenant_id = $1";

const REMOVE_PREPARED: &str =
    "DELETE FROM @prepared_outputs WHERE job_id = $1 AND occurrence = $2 AND tenant_id = $3";

/// Found by the front of their key.
pub(crate) const REMOVE_SUCCESSES: &str = "DELETE FROM @last_successes WHERE tenant_id = $1";

const ERASED_PREFERENCES: &str = "SELECT hash FROM @erased_preferences";

const LAST_RUN: &str = "SELECT coalesce(max(n.run), 0) FROM @runs n";

/// Which of the preferences in question results of these runs refer to.
pub(crate) const REFERRED: &str = "SELECT DISTINCT r.preference FROM @results r
     WHERE r.run > $1 AND r.run <= $2 AND r.preference IN (SELECT e.hash FROM @erased_preferences e)";

const WAITING_REFERRED: &str = "SELECT DISTINCT w.preference FROM @waiting_items w
     WHERE w.preference IN (SELECT e.hash FROM @erased_preferences e)";

const REMOVE_PREFERENCE: &str = "DELETE FROM @preferences WHERE hash = @unhex($1)";

const SETTLE_PREFERENCE: &str = "DELETE FROM @erased_preferences WHERE hash = @unhex($1)";

impl Erasure<'_> {
    /// Erases what is left in tables of rows, of chunks up to the last one that was looked at.
    pub(super) async fn rows(&mut self, last_chunk: i64) -> Result<(), StoreError> {
        self.left_results(last_chunk).await?;
        let (store, tenant) = (self.store, self.tenant.clone());
        let database = &store.database;
        loop {
            let some = values![&tenant, last_chunk, ROWS_PER_PORTION];
            let removed = database.execute(REMOVE_SKIPPED, some).await?;
            self.erased.others += removed;
            if removed == 0 {
                break;
            }
        }
        self.erased.others += database.execute(REMOVE_RUNNING, values![&tenant]).await?;
        self.dead_letters().await?;
        let kept: Vec<i64> = database.fetch(KEPT, values![&tenant]).await?;
        for runs in kept.chunks(ROWS_PER_PORTION as usize) {
            let kept = values![runs, &tenant];
            self.erased.others += database.execute(REMOVE_KEPT, kept).await?;
        }
        let prepared: Vec<(String, String)> = database.fetch(PREPARED, values![&tenant]).await?;
        for portion in prepared.chunks(ROWS_PER_PORTION as usize) {
            let mut transaction = database.begin().await?;
            for (job_id, occurrence) in portion {
                let row = values![&**job_id, &**occurrence, &tenant];
                self.erased.others += transaction.execute(REMOVE_PREPARED, row).await?;
            }
            transaction.commit().await?;
        }
        // The last: until now the removal of old results may have kept one.
        let successes = database.execute(REMOVE_SUCCESSES, values![&tenant]);
        self.erased.others += successes.await?;
        Ok(())
    }

    /// Results whose chunks do not name the tenant.
    async fn left_results(&mut self, last_chunk: i64) -> Result<(), StoreError> {
        let store = self.store;
        let mut from = 0;
        loop {
            let some = values![from, &self.tenant, last_chunk, ROWS_PER_PORTION];
            let found: Vec<(i64, String, String)> =
                store.database.fetch(LEFT_RESULTS, some).await?;
            let Some((last, ..)) = found.last() else {
                return Ok(());
            };
            from = *last;
            let runs: Vec<i64> = found.iter().map(|(run, ..)| *run).collect();
            let hash = |(_, job_id, occurrence): &(i64, String, String)| {
                self.hashes.hash(job_id, occurrence, self.tenant.as_str())
            };
            let hashes: Vec<String> = found.iter().map(hash).collect();
            let mut transaction = store.database.begin().await?;
            self.remember(&mut transaction, &hashes).await?;
            let removed = values![runs.as_slice(), &self.tenant, last_chunk];
            let preferences: Vec<Option<Vec<u8>>> =
                transaction.fetch(REMOVE_RESULTS, removed).await?;
            self.erased.runs += preferences.len() as u64;
            note_preferences(&mut transaction, preferences).await?;
            transaction.commit().await?;
        }
    }

    async fn dead_letters(&mut self) -> Result<(), StoreError> {
        let store = self.store;
        loop {
            let mut transaction = store.database.begin().await?;
            let some = values![&self.tenant, ROWS_PER_PORTION];
            let removed: Vec<(String, String)> = transaction.fetch(REMOVE_LETTERS, some).await?;
            if removed.is_empty() {
                return Ok(());
            }
            let mut replayed: BTreeMap<&str, u64> = BTreeMap::new();
            for (batch_id, _) in removed.iter().filter(|(_, state)| state == "replayed") {
                *replayed.entry(batch_id).or_default() += 1;
            }
            if !replayed.is_empty() {
                let replayed: Vec<(&str, u64)> = replayed.into_iter().collect();
                let replayed = values![json!(replayed).to_string()];
                transaction.execute(KEEP_REPLAYED, replayed).await?;
            }
            transaction.commit().await?;
            self.erased.dead_letters += removed.len() as u64;
        }
    }

    /// Removes the preferences that only rows referred to that were erased. Which those are is found by reading all results, without
    /// keeping those who write waiting; it ends as soon as others are known to refer to each of them.
    pub(super) async fn preferences(&mut self) -> Result<(), StoreError> {
        let store = self.store;
        let database = &store.database;
        let noted: Vec<Vec<u8>> = database.fetch(ERASED_PREFERENCES, values![]).await?;
        // In order: two erasures remove the same ones, and neither waits for what the other has locked.
        let noted: BTreeSet<Vec<u8>> = noted.into_iter().collect();
        if noted.is_empty() {
            return Ok(());
        }
        let mut unused = noted.clone();
        let waiting: Vec<Vec<u8>> = database.fetch(WAITING_REFERRED, values![]).await?;
        for hash in &waiting {
            unused.remove(hash);
        }
        let last: Option<i64> = database.fetch_optional(LAST_RUN, values![]).await?;
        let (mut from, last) = (0, last.unwrap_or_default());
        while from < last && !unused.is_empty() {
            let runs = values![from, from + RUNS_PER_LOOK];
            let found: Vec<Vec<u8>> = database.fetch(REFERRED, runs).await?;
            for hash in &found {
                unused.remove(hash);
            }
            from += RUNS_PER_LOOK;
        }
        let noted: Vec<Vec<u8>> = noted.into_iter().collect();
        for portion in noted.chunks(ROWS_PER_PORTION as usize) {
            let mut transaction = database.begin().await?;
            for hash in portion {
                if unused.contains(hash) {
                    let removed = transaction.execute(REMOVE_PREFERENCE, values![hex(hash)]);
                    self.erased.others += removed.await?;
                }
                transaction
                    .execute(SETTLE_PREFERENCE, values![hex(hash)])
                    .await?;
            }
            // Before the commit: who stores one of them from then on stores it anew, other processes once they have heard of it.
            store.preferences.forget();
            transaction.announce(Announcement::Preferences).await?;
            transaction.commit().await?;
        }
        Ok(())
    }
}

/// Bytes as a hexadecimal text.
fn hex(bytes: &[u8]) -> Value {
    let digits = bytes.iter().flat_map(|byte| [byte >> 4, byte & 15]);
    let digits = digits.filter_map(|digit| char::from_digit(digit.into(), 16));
    Value::from(digits.collect::<String>())
}
