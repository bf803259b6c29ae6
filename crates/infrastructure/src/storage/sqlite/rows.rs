//! Rows to values. A row that does not read back was not written by us, and is an error rather than a panic.

use chrono::{DateTime, Utc};
use punctual_application::ports::{StoreError, StoredResult};
use punctual_domain::{Batch, BatchStatus, ItemResult, Trigger};
use serde_json::Value;
use sqlx::{Row, sqlite::SqliteRow};

use super::failed;

pub(super) fn micros(instant: DateTime<Utc>) -> i64 {
    instant.timestamp_micros()
}

pub(super) fn instant(micros: i64) -> Result<DateTime<Utc>, StoreError> {
    DateTime::from_timestamp_micros(micros).ok_or_else(|| failed(format!("{micros} is no instant")))
}

fn get<'r, T>(row: &'r SqliteRow, column: &str) -> Result<T, StoreError>
where
    T: sqlx::Decode<'r, sqlx::Sqlite> + sqlx::Type<sqlx::Sqlite>,
{
    row.try_get(column).map_err(failed)
}

fn parse<T: std::str::FromStr>(row: &SqliteRow, column: &str) -> Result<T, StoreError> {
    let text: String = get(row, column)?;
    text.parse()
        .map_err(|_| failed(format!("column {column} holds `{text}`")))
}

fn json(row: &SqliteRow, column: &str) -> Result<Option<Value>, StoreError> {
    let text: Option<String> = get(row, column)?;
    text.map(|text| serde_json::from_str(&text).map_err(failed))
        .transpose()
}

fn count(row: &SqliteRow, column: &str) -> Result<u64, StoreError> {
    get::<i64>(row, column).map(|count| count.max(0) as u64)
}

pub(super) fn batch(row: &SqliteRow) -> Result<Batch, StoreError> {
    let status: String = get(row, "status")?;
    let trigger: String = get(row, "trigger")?;
    let finished_at: Option<i64> = get(row, "finished_at")?;
    Ok(Batch {
        batch_id: parse(row, "batch_id")?,
        job_id: parse(row, "job_id")?,
        slot: get(row, "slot")?,
        scheduled_at: instant(get(row, "scheduled_at")?)?,
        trigger: [Trigger::Schedule, Trigger::LateChange]
            .into_iter()
            .find(|known| known.as_str() == trigger)
            .ok_or_else(|| failed(format!("unknown trigger `{trigger}`")))?,
        status: [
            BatchStatus::Queued,
            BatchStatus::Running,
            BatchStatus::Completed,
        ]
        .into_iter()
        .find(|known| known.as_str() == status)
        .ok_or_else(|| failed(format!("unknown status `{status}`")))?,
        total: count(row, "total")?,
        succeeded: count(row, "succeeded")?,
        failed: count(row, "failed")?,
        skipped: count(row, "skipped")? + count(row, "superseded")?,
        created_at: instant(get(row, "created_at")?)?,
        finished_at: finished_at.map(instant).transpose()?,
    })
}

pub(super) fn stored_result(row: &SqliteRow) -> Result<StoredResult, StoreError> {
    let status: String = get(row, "status")?;
    let finished_at: Option<i64> = get(row, "finished_at")?;
    Ok(StoredResult {
        job_id: parse(row, "job_id")?,
        batch_id: parse(row, "batch_id")?,
        occurrence: parse(row, "occurrence")?,
        scheduled_at: instant(get(row, "scheduled_at")?)?,
        result: ItemResult {
            tenant_id: parse(row, "tenant_id")?,
            status: status
                .parse()
                .map_err(|()| failed(format!("unknown status `{status}`")))?,
            attempts: u32::try_from(count(row, "attempts")?).unwrap_or(u32::MAX),
            preference: json(row, "preference")?,
            output: json(row, "output")?,
            error: get(row, "error")?,
            started_at: instant(get(row, "started_at")?)?,
            finished_at: finished_at.map(instant).transpose()?,
        },
    })
}
