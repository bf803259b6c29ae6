//! Values to columns, and rows to values. A row that does not read back was not written by us, and is an error rather
//! than a panic.

use std::str::FromStr;

use chrono::{DateTime, Utc};
use punctual_application::ports::{StoreError, StoredResult};
use punctual_domain::{Batch, DeadLetter, ItemResult, ItemStatus};
use serde_json::Value;
use sqlx::{Row, any::AnyRow};

use super::errors::failed;

pub(super) fn micros(instant: DateTime<Utc>) -> i64 {
    instant.timestamp_micros()
}

pub(super) fn instant(micros: i64) -> Result<DateTime<Utc>, StoreError> {
    DateTime::from_timestamp_micros(micros)
        .ok_or_else(|| failed(format!("{micros} is not a valid instant")))
}

fn number(row: &AnyRow, column: &str) -> Result<i64, StoreError> {
    row.try_get(column).map_err(failed)
}

fn count(row: &AnyRow, column: &str) -> Result<u64, StoreError> {
    number(row, column).map(|count| count.max(0) as u64)
}

fn attempts(row: &AnyRow) -> Result<u32, StoreError> {
    Ok(u32::try_from(count(row, "attempts")?).unwrap_or(u32::MAX))
}

fn at(row: &AnyRow, column: &str) -> Result<DateTime<Utc>, StoreError> {
    instant(number(row, column)?)
}

fn maybe_at(row: &AnyRow, column: &str) -> Result<Option<DateTime<Utc>>, StoreError> {
    let micros: Option<i64> = row.try_get(column).map_err(failed)?;
    micros.map(instant).transpose()
}

fn text(row: &AnyRow, column: &str) -> Result<String, StoreError> {
    row.try_get(column).map_err(failed)
}

fn maybe_text(row: &AnyRow, column: &str) -> Result<Option<String>, StoreError> {
    row.try_get(column).map_err(failed)
}

fn parse<T: FromStr>(row: &AnyRow, column: &str) -> Result<T, StoreError> {
    let text = text(row, column)?;
    text.parse()
        .map_err(|_| failed(format!("column {column} holds `{text}`")))
}

fn json(row: &AnyRow, column: &str) -> Result<Option<Value>, StoreError> {
    maybe_text(row, column)?
        .map(|text| serde_json::from_str(&text).map_err(failed))
        .transpose()
}

pub(super) fn batch(row: &AnyRow) -> Result<Batch, StoreError> {
    Ok(Batch {
        batch_id: parse(row, "batch_id")?,
        job_id: parse(row, "job_id")?,
        slot: text(row, "slot")?,
        scheduled_at: at(row, "scheduled_at")?,
        trigger: parse(row, "trigger")?,
        status: parse(row, "status")?,
        total: count(row, "total")?,
        succeeded: count(row, "succeeded")?,
        failed: count(row, "failed")?,
        skipped: count(row, "skipped")?,
        created_at: at(row, "created_at")?,
        finished_at: maybe_at(row, "finished_at")?,
    })
}

pub(super) fn stored_result(row: &AnyRow) -> Result<StoredResult, StoreError> {
    Ok(StoredResult {
        job_id: parse(row, "job_id")?,
        batch_id: parse(row, "batch_id")?,
        occurrence: parse(row, "occurrence")?,
        scheduled_at: at(row, "scheduled_at")?,
        result: ItemResult {
            item_id: parse(row, "tenant_id")?,
            status: parse::<ItemStatus>(row, "status")?,
            attempts: attempts(row)?,
            preference: json(row, "preference")?,
            output: json(row, "output")?,
            error: maybe_text(row, "error")?,
            started_at: at(row, "started_at")?,
            finished_at: maybe_at(row, "finished_at")?,
        },
        key_form: parse(row, "key_form")?,
    })
}

pub(super) fn dead_letter(row: &AnyRow) -> Result<DeadLetter, StoreError> {
    Ok(DeadLetter {
        id: number(row, "id")?,
        job_id: parse(row, "job_id")?,
        item_id: parse(row, "tenant_id")?,
        occurrence: parse(row, "occurrence")?,
        batch_id: parse(row, "batch_id")?,
        scheduled_at: at(row, "scheduled_at")?,
        attempts: attempts(row)?,
        reason: text(row, "reason")?,
        failed_at: at(row, "failed_at")?,
        state: parse(row, "state")?,
        settled_at: maybe_at(row, "settled_at")?,
        key_form: parse(row, "key_form")?,
    })
}
