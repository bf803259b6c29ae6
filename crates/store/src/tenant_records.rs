//! The port `TenantRecords`: everything that is held of one tenant is erased, or given out. Erasing is done in portions, each of
//! which is whole: after a death in the middle it is asked for again.

pub(crate) mod chunks;
mod export;
pub(crate) mod rows;
mod texts;

use async_trait::async_trait;
use chrono::{DateTime, Utc};
use punctual_application::ports::{ErasedRecords, StoreError, TenantExport, TenantRecords};
use punctual_domain::{ItemId, TenantId};

use crate::{
    Store,
    driver::{Column, Connection},
    erased::RunHashes,
};

/// Rows that one transaction removes.
const ROWS_PER_PORTION: i64 = 500;

/// An erasure that is under way.
struct Erasure<'s> {
    store: &'s Store,
    tenant: ItemId,
    hashes: RunHashes,
    now: DateTime<Utc>,
    erased: ErasedRecords,
}

#[async_trait]
impl TenantRecords for Store {
    async fn erase(
        &self,
        tenant_id: &TenantId,
        now: DateTime<Utc>,
    ) -> Result<ErasedRecords, StoreError> {
        let mut erasure = Erasure {
            store: self,
            tenant: tenant_id.into(),
            hashes: self.run_hashes().await?,
            now,
            erased: ErasedRecords::default(),
        };
        let last = erasure.chunks().await?;
        erasure.rows(last).await?;
        erasure.texts().await?;
        erasure.preferences().await?;
        Ok(erasure.erased)
    }

    async fn export(&self, tenant_id: &TenantId) -> Result<TenantExport, StoreError> {
        self.export_tenant(&tenant_id.into()).await
    }
}

impl Erasure<'_> {
    /// Remembers runs that were erased, by their hashes.
    async fn remember(
        &self,
        connection: &mut Connection<'_>,
        hashes: &[String],
    ) -> Result<(), StoreError> {
        if hashes.is_empty() {
            return Ok(());
        }
        let columns = vec![
            Column::texts(hashes, String::as_str),
            Column::Same(self.now.into()),
        ];
        let into = "@erased_runs (hash, erased_at)";
        let then = "ON CONFLICT DO NOTHING";
        connection.insert(into, columns, then).await?;
        Ok(())
    }
}

/// Notes preferences that rows referred to which are erased.
async fn note_preferences(
    connection: &mut Connection<'_>,
    preferences: Vec<Option<Vec<u8>>>,
) -> Result<(), StoreError> {
    let mut noted: Vec<Vec<u8>> = preferences.into_iter().flatten().collect();
    noted.sort_unstable();
    noted.dedup();
    if noted.is_empty() {
        return Ok(());
    }
    let into = "@erased_preferences (hash)";
    let then = "ON CONFLICT DO NOTHING";
    let columns = vec![Column::Bytes(noted.into_iter().map(Some).collect())];
    connection.insert(into, columns, then).await?;
    Ok(())
}
