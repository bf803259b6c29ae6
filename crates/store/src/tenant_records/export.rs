//! Everything that is held of a tenant, by kind.

use std::collections::BTreeMap;

use punctual_application::ports::{
    BatchReader, DeadLetterFilter, Page, StoreError, StoreErrorKind, TenantExport, TenantRuns,
};
use punctual_domain::ItemId;
use serde::Serialize;
use serde_json::{Value as Json, json};

use crate::{
    Store,
    driver::{FromRow, Row, values},
    errors::failed,
};

/// Bytes of an export at most, as JSON: it is made in memory.
const MAX_BYTES: usize = 100 * 1024 * 1024;
/// Entries that one statement reads.
const PAGE: u32 = 200;

/// What waits, with what its handler goes on from. Of an aggregate, one of its items keeps that.
const WAITING: &str = "SELECT w.job_id, n.occurrence, w.purpose_id, w.call_id, w.since, w.until, w.note, w.state
     FROM @waiting_items w LEFT JOIN @runs n ON n.run = w.run WHERE w.tenant_id = $1 ORDER BY w.since, w.call_id";

const KEPT: &str = "SELECT n.job_id, n.occurrence, k.purpose_id, k.output
     FROM @kept_outputs k JOIN @runs n ON n.run = k.run WHERE k.tenant_id = $1 ORDER BY n.job_id, n.occurrence";

const PREPARED: &str = "SELECT p.job_id, p.occurrence, p.due_at, p.prepared_at, p.output
     FROM @prepared_outputs p WHERE p.tenant_id = $1 ORDER BY p.due_at, p.job_id";

/// Of results that have been removed.
const LAST_SUCCESSES: &str = "SELECT l.job_id, l.occurrence, l.scheduled_at, l.finished_at
     FROM @last_successes l WHERE l.tenant_id = $1 ORDER BY l.job_id";

const AUDIT_LOG: &str = "SELECT at, by, action, subject, detail, reason FROM @audit_log
     WHERE subject = $1 OR detail LIKE $2 OR reason LIKE $2 ORDER BY id LIMIT $3";

/// Entries of the audit log at most: what names a tenant is little.
const MAX_AUDIT_ENTRIES: i64 = 10_000;

/// A text that is JSON, or as it is.
fn read(text: Option<String>) -> Json {
    let read = |text: String| serde_json::from_str(&text).unwrap_or(Json::String(text));
    text.map_or(Json::Null, read)
}

/// An instant of a row.
fn instant(row: &mut Row) -> Result<Json, StoreError> {
    let at: chrono::DateTime<chrono::Utc> = row.next()?;
    Ok(json!(at))
}

struct Waits(Json);

impl FromRow for Waits {
    fn from_row(mut row: Row) -> Result<Self, StoreError> {
        let (job_id, occurrence): (String, Option<String>) = (row.next()?, row.next()?);
        let (purpose_id, call_id): (String, String) = (row.next()?, row.next()?);
        let (since, until) = (instant(&mut row)?, instant(&mut row)?);
        let (note, state): (Option<String>, Option<String>) = (row.next()?, row.next()?);
        Ok(Self(json!({
            "job_id": job_id, "occurrence": occurrence, "purpose_id": purpose_id, "call_id": call_id, "since": since,
            "until": until, "progress": note, "state": read(state),
        })))
    }
}

struct Kept(Json);

impl FromRow for Kept {
    fn from_row(mut row: Row) -> Result<Self, StoreError> {
        let (job_id, occurrence): (String, String) = (row.next()?, row.next()?);
        let (purpose_id, output): (String, Option<String>) = (row.next()?, row.next()?);
        Ok(Self(json!({
            "job_id": job_id, "occurrence": occurrence, "purpose_id": purpose_id, "output": read(output),
        })))
    }
}

struct Prepared(Json);

impl FromRow for Prepared {
    fn from_row(mut row: Row) -> Result<Self, StoreError> {
        let (job_id, occurrence): (String, String) = (row.next()?, row.next()?);
        let (due_at, prepared_at) = (instant(&mut row)?, instant(&mut row)?);
        let output = read(row.next()?);
        Ok(Self(json!({
            "job_id": job_id, "occurrence": occurrence, "due_at": due_at, "prepared_at": prepared_at, "output": output,
        })))
    }
}

struct Succeeded(Json);

impl FromRow for Succeeded {
    fn from_row(mut row: Row) -> Result<Self, StoreError> {
        let (job_id, occurrence): (String, String) = (row.next()?, row.next()?);
        let (scheduled_at, finished_at) = (instant(&mut row)?, instant(&mut row)?);
        Ok(Self(json!({
            "job_id": job_id, "occurrence": occurrence, "scheduled_at": scheduled_at, "finished_at": finished_at,
        })))
    }
}

struct Audited(Json);

impl FromRow for Audited {
    fn from_row(mut row: Row) -> Result<Self, StoreError> {
        let at = instant(&mut row)?;
        let (by, action): (String, String) = (row.next()?, row.next()?);
        let (subject, detail): (String, String) = (row.next()?, row.next()?);
        let reason: Option<String> = row.next()?;
        Ok(Self(json!({
            "at": at, "by": by, "action": action, "subject": subject, "detail": detail, "reason": reason,
        })))
    }
}

/// An export as it grows.
#[derive(Default)]
struct Gathered {
    records: BTreeMap<String, Vec<Json>>,
    bytes: usize,
}

impl Gathered {
    fn add<T: Serialize>(
        &mut self,
        kind: &str,
        records: impl IntoIterator<Item = T>,
    ) -> Result<(), StoreError> {
        let of_kind = self.records.entry(kind.to_owned()).or_default();
        for record in records {
            let record = serde_json::to_value(record).map_err(failed)?;
            self.bytes += record.to_string().len();
            if self.bytes > MAX_BYTES {
                let message = format!(
                    "the export is larger than {} MiB; read the runs of the tenant page by page instead \
                     (`GET /api/v1/tenants/{{tenant_id}}/runs`)",
                    MAX_BYTES / 1024 / 1024
                );
                return Err(StoreError::new(StoreErrorKind::Conflict, message));
            }
            of_kind.push(record);
        }
        Ok(())
    }
}

impl Store {
    pub(super) async fn export_tenant(&self, tenant: &ItemId) -> Result<TenantExport, StoreError> {
        let mut gathered = Gathered::default();
        let runs = TenantRuns {
            item_id: tenant.clone(),
            job_id: None,
            since: None,
        };
        let mut page = Page {
            cursor: None,
            limit: PAGE,
        };
        loop {
            let (found, next) = self.tenant_runs(&runs, &page).await?;
            gathered.add("runs", found)?;
            page.cursor = next;
            if page.cursor.is_none() {
                break;
            }
        }
        let letters = DeadLetterFilter {
            item_id: Some(tenant.clone()),
            ..DeadLetterFilter::default()
        };
        loop {
            let (found, next) = self.dead_letters(&letters, &page).await?;
            gathered.add("dead_letters", found)?;
            page.cursor = next;
            if page.cursor.is_none() {
                break;
            }
        }
        let waiting: Vec<Waits> = self.database.fetch(WAITING, values![tenant]).await?;
        gathered.add("waiting", waiting.into_iter().map(|one| one.0))?;
        let kept: Vec<Kept> = self.database.fetch(KEPT, values![tenant]).await?;
        gathered.add("kept_outputs", kept.into_iter().map(|one| one.0))?;
        let prepared: Vec<Prepared> = self.database.fetch(PREPARED, values![tenant]).await?;
        gathered.add("prepared_outputs", prepared.into_iter().map(|one| one.0))?;
        let successes = self.database.fetch(LAST_SUCCESSES, values![tenant]);
        let successes: Vec<Succeeded> = successes.await?;
        gathered.add("last_successes", successes.into_iter().map(|one| one.0))?;
        let named = values![tenant, format!("%{tenant}%"), MAX_AUDIT_ENTRIES];
        let entries: Vec<Audited> = self.database.fetch(AUDIT_LOG, named).await?;
        let entries = entries.into_iter().map(|entry| entry.0);
        let names = |entry: &Json| {
            let texts = ["subject", "detail", "reason"]
                .map(|field| entry[field].as_str().unwrap_or_default());
            texts
                .iter()
                .any(|text| super::texts::without(text, tenant).is_some())
        };
        gathered.add("audit_log", entries.filter(names))?;
        Ok(TenantExport(gathered.records))
    }
}
