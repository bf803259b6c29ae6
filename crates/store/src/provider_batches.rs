//! The port `ProviderBatches`: calls that wait and are sent to a provider together.

use async_trait::async_trait;
use chrono::{DateTime, TimeDelta, Utc};
use punctual_application::ports::{
    AnsweredCall, BatchTotals, BatchedCall, CollectLimits, Collected, KEEP_ENDED, ProviderBatch,
    ProviderBatchState, ProviderBatches, REQUEST, StoreError,
};
use punctual_domain::PurposeId;
use serde_json::Value as Json;
use uuid::Uuid;

use crate::{
    Store,
    driver::{FromRow, Row, Value, values},
    errors::failed,
};

/// What waits and is in no provider batch, up to a number of calls. Items of an aggregate share a call.
const UNCOLLECTED: &str = "SELECT w.call_id, min(w.since) AS since, max(octet_length(w.state)) AS bytes FROM @waiting_items w
     WHERE w.purpose_id = $1 AND w.phase = 1 AND w.since >= $2 AND w.state LIKE $3
       AND NOT EXISTS (SELECT 1 FROM @provider_batch_calls c WHERE c.call_id = w.call_id)
     GROUP BY w.call_id ORDER BY 2, 1 LIMIT $4";

/// Whether a provider batch is full, and since when its first call has been waiting.
const LOOK: &str = "SELECT count(*), CAST(coalesce(sum(u.bytes + $5), 0) AS BIGINT), min(u.since) FROM (@uncollected) u";

/// Puts calls into a provider batch: as many as there is room for, and one in any case.
const COLLECT: &str = "INSERT INTO @provider_batch_calls (call_id, provider_batch, answered, input_tokens, output_tokens)
     SELECT s.call_id, $7, 0, 0, 0 FROM (
         SELECT u.call_id, row_number() OVER (ORDER BY u.since, u.call_id) AS place,
                sum(u.bytes + $5) OVER (ORDER BY u.since, u.call_id) AS bytes FROM (@uncollected) u) s
     WHERE s.bytes <= $6 OR s.place = 1
     ON CONFLICT (call_id) DO NOTHING";

const SPAN: &str =
    "SELECT min(w.since), max(w.since) FROM @provider_batch_calls c JOIN @waiting_items w ON w.call_id = c.call_id
     WHERE c.provider_batch = $1";

const CREATE: &str = "INSERT INTO @provider_batches (id, purpose_id, state, calls, first_since, created_at, due_at, looks, others)
     VALUES ($1, $2, 'collected', $3, $4, $5, $5, 0, '[]')";

const DUE: &str = "SELECT id, purpose_id, state, calls, first_since, created_at, due_at, looks, file_id, remote_id, others
     FROM @provider_batches WHERE purpose_id = $1 AND ended_at IS NULL AND due_at <= $2
       AND NOT EXISTS (SELECT 1 FROM @fence f WHERE f.held_to IS NOT NULL)
     ORDER BY due_at, id LIMIT 1";

const TAKE: &str =
    "UPDATE @provider_batches SET due_at = $3 WHERE id = $1 AND due_at = $2 AND ended_at IS NULL";

/// Only while the lease is the one that was taken.
const SAVE: &str = "UPDATE @provider_batches
     SET due_at = $3, state = $4, looks = $5, file_id = $6, remote_id = $7, others = $8, calls = $9
     WHERE id = $1 AND due_at = $2 AND ended_at IS NULL";

/// Items of an aggregate share a call, and its request.
const REQUESTS: &str = "SELECT c.call_id, min(w.state) FROM @provider_batch_calls c JOIN @waiting_items w ON w.call_id = c.call_id
     WHERE c.provider_batch = $1 AND c.call_id > $2 AND c.answered = 0 AND w.phase = 1 AND w.state LIKE $3
     GROUP BY c.call_id ORDER BY c.call_id LIMIT $4";

const UNANSWERED: &str = "SELECT call_id FROM @provider_batch_calls
     WHERE provider_batch = $1 AND call_id > $2 AND answered = 0 ORDER BY call_id LIMIT $3";

const UNANSWERED_OF: &str = "SELECT call_id FROM @provider_batch_calls
     WHERE provider_batch = $1 AND @in_texts(call_id, $2) AND answered = 0";

const MARK: &str =
    "UPDATE @provider_batch_calls SET answered = 1, input_tokens = $3, output_tokens = $4
     WHERE provider_batch = $1 AND call_id = $2 AND answered = 0";

const TOTALS: &str = "SELECT count(*), CAST(coalesce(sum(answered), 0) AS BIGINT), CAST(coalesce(sum(input_tokens), 0) AS BIGINT),
         CAST(coalesce(sum(output_tokens), 0) AS BIGINT)
     FROM @provider_batch_calls WHERE provider_batch = $1";

const REMOTE_IDS: &str =
    "SELECT remote_id FROM @provider_batches WHERE remote_id IS NOT NULL ORDER BY remote_id";

const END: &str = "UPDATE @provider_batches SET ended_at = $3, answered = $4, input_tokens = $5, output_tokens = $6
     WHERE id = $1 AND due_at = $2 AND ended_at IS NULL";

const FORGET_CALLS: &str = "DELETE FROM @provider_batch_calls WHERE provider_batch = $1";

const FORGET_ENDED: &str = "DELETE FROM @provider_batches WHERE ended_at < $1";

/// Maximum number of tokens that are counted of a call, so that the sum of a batch fits into a number of the database.
const MAX_TOKENS: u64 = 1 << 32;

/// What the state of a call that waits with a request begins with.
fn with_request() -> String {
    format!("{{\"{REQUEST}\":%")
}

/// A statement about what is not collected yet.
fn of_uncollected(sql: &str) -> String {
    sql.replace("@uncollected", UNCOLLECTED)
}

/// What is behind in a list of ids.
fn after_id(id: Option<Uuid>) -> String {
    id.map_or_else(String::new, |id| id.to_string())
}

fn uuids(found: Vec<String>) -> Result<Vec<Uuid>, StoreError> {
    let uuid = |text: String| text.parse::<Uuid>().map_err(failed);
    found.into_iter().map(uuid).collect()
}

struct Due(ProviderBatch);

impl FromRow for Due {
    fn from_row(mut row: Row) -> Result<Self, StoreError> {
        let id = row.parse()?;
        let purpose_id = row.parse()?;
        let state: String = row.next()?;
        let state = ProviderBatchState::of(&state)
            .ok_or_else(|| failed(format!("`{state}` is not a state of a provider batch")))?;
        let (calls, first_since, created_at) = (row.next()?, row.next()?, row.next()?);
        let (due_at, looks, file_id) = (row.next()?, row.next()?, row.next()?);
        let (remote_id, others): (_, String) = (row.next()?, row.next()?);
        Ok(Self(ProviderBatch {
            id,
            purpose_id,
            state,
            calls,
            first_since,
            created_at,
            due_at,
            looks,
            file_id,
            remote_id,
            others: serde_json::from_str(&others).map_err(failed)?,
        }))
    }
}

struct Request(BatchedCall);

impl FromRow for Request {
    fn from_row(mut row: Row) -> Result<Self, StoreError> {
        let call_id = row.parse()?;
        let state: String = row.next()?;
        let mut state: Json = serde_json::from_str(&state).map_err(failed)?;
        let request = state[REQUEST].take();
        Ok(Self(BatchedCall { call_id, request }))
    }
}

#[async_trait]
impl ProviderBatches for Store {
    async fn collect(
        &self,
        purpose: &PurposeId,
        limits: &CollectLimits,
        now: DateTime<Utc>,
    ) -> Result<Option<Collected>, StoreError> {
        let from = limits.from.unwrap_or(DateTime::UNIX_EPOCH);
        let bytes = i64::try_from(limits.bytes).unwrap_or(i64::MAX);
        let around = i64::try_from(limits.bytes_around).unwrap_or(i64::MAX);
        let wanted = || values![purpose.as_str(), from, with_request(), limits.requests];
        let mut looked = wanted();
        looked.push(around.into());
        let sql = of_uncollected(LOOK);
        let look: Option<(u64, i64, Option<DateTime<Utc>>)> =
            self.database.fetch_optional(&sql, looked).await?;
        let Some((calls, size, Some(first_since))) = look else {
            return Ok(None);
        };
        let is_full = calls >= limits.requests as u64 || size >= bytes;
        if !is_full && first_since + limits.collect_for > now {
            return Ok(None);
        }
        let mut transaction = self.database.begin().await?;
        let lock = values![format!("provider batches of {purpose}")];
        transaction
            .fetch_one::<bool>("SELECT @lock($1)", lock)
            .await?;
        let id = Uuid::new_v4();
        let mut collected = wanted();
        collected.extend(values![around, bytes, id]);
        let calls = transaction
            .execute(&of_uncollected(COLLECT), collected)
            .await?;
        // Another process may have been as quick, and what waited may have been settled.
        let span = transaction.fetch_one(SPAN, values![id]).await?;
        let span: (Option<DateTime<Utc>>, Option<DateTime<Utc>>) = span;
        let (Some(first_since), Some(last_since)) = span else {
            return Ok(None);
        };
        let created = values![id, purpose.as_str(), calls as i64, first_since, now];
        transaction.execute(CREATE, created).await?;
        transaction.commit().await?;
        Ok(Some(Collected {
            id,
            calls,
            last_since,
        }))
    }

    async fn take(
        &self,
        purpose: &PurposeId,
        now: DateTime<Utc>,
        lease: TimeDelta,
    ) -> Result<Option<ProviderBatch>, StoreError> {
        let due = values![purpose.as_str(), now];
        let due: Option<Due> = self.database.fetch_optional(DUE, due).await?;
        let Some(Due(mut batch)) = due else {
            return Ok(None);
        };
        let leased = values![batch.id, batch.due_at, now + lease];
        if self.database.execute(TAKE, leased).await? == 0 {
            return Ok(None);
        }
        batch.due_at = now + lease;
        Ok(Some(batch))
    }

    async fn save(&self, batch: &ProviderBatch, due_at: DateTime<Utc>) -> Result<bool, StoreError> {
        let others = serde_json::to_string(&batch.others).map_err(failed)?;
        let saved = values![
            batch.id,
            batch.due_at,
            due_at,
            batch.state.as_str(),
            batch.looks,
            batch.file_id.clone(),
            batch.remote_id.clone(),
            others,
            batch.calls as i64,
        ];
        Ok(self.database.execute(SAVE, saved).await? > 0)
    }

    async fn requests(
        &self,
        batch: Uuid,
        after: Option<Uuid>,
        limit: usize,
    ) -> Result<Vec<BatchedCall>, StoreError> {
        let wanted = values![batch, after_id(after), with_request(), limit];
        let found: Vec<Request> = self.database.fetch(REQUESTS, wanted).await?;
        Ok(found.into_iter().map(|found| found.0).collect())
    }

    async fn unanswered(
        &self,
        batch: Uuid,
        after: Option<Uuid>,
        limit: usize,
    ) -> Result<Vec<Uuid>, StoreError> {
        let wanted = values![batch, after_id(after), limit];
        uuids(self.database.fetch(UNANSWERED, wanted).await?)
    }

    async fn unanswered_of(&self, batch: Uuid, calls: &[Uuid]) -> Result<Vec<Uuid>, StoreError> {
        let calls = Value::Texts(calls.iter().map(Uuid::to_string).collect());
        uuids(
            self.database
                .fetch(UNANSWERED_OF, values![batch, calls])
                .await?,
        )
    }

    async fn mark_answered(&self, batch: Uuid, answers: &[AnsweredCall]) -> Result<(), StoreError> {
        let mut transaction = self.database.begin().await?;
        for answer in answers {
            let tokens = |tokens: u64| tokens.min(MAX_TOKENS) as i64;
            let (input, output) = (tokens(answer.input_tokens), tokens(answer.output_tokens));
            let marked = values![batch, answer.call_id, input, output];
            transaction.execute(MARK, marked).await?;
        }
        transaction.commit().await
    }

    async fn remote_ids(&self) -> Result<Vec<String>, StoreError> {
        self.database.fetch(REMOTE_IDS, values![]).await
    }

    async fn end(
        &self,
        batch: &ProviderBatch,
        now: DateTime<Utc>,
    ) -> Result<Option<BatchTotals>, StoreError> {
        let mut transaction = self.database.begin().await?;
        let totals = transaction.fetch_one(TOTALS, values![batch.id]).await?;
        let (calls, answered, input_tokens, output_tokens): (u64, u64, u64, u64) = totals;
        let ended = values![
            batch.id,
            batch.due_at,
            now,
            answered as i64,
            input_tokens as i64,
            output_tokens as i64,
        ];
        if transaction.execute(END, ended).await? == 0 {
            return Ok(None);
        }
        transaction.execute(FORGET_CALLS, values![batch.id]).await?;
        transaction
            .execute(FORGET_ENDED, values![now - KEEP_ENDED])
            .await?;
        transaction.commit().await?;
        Ok(Some(BatchTotals {
            calls,
            answered,
            input_tokens,
            output_tokens,
        }))
    }
}
