//! The port `TenantRecords`: everything that is held of one tenant is erased, or given out. Erasing is done in portions, each of
//! which is whole: after a death in the middle it is asked for again.

pub(crate) mod chunks;
pub(crate) mod done;
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
        let mut erasure = Erasure::new(self, tenant_id, now).await?;
        erasure.everything().await?;
        Ok(erasure.erased)
    }

    async fn erase_once(
        &self,
        tenant_id: &TenantId,
        erased_at: DateTime<Utc>,
        now: DateTime<Utc>,
    ) -> Result<ErasedRecords, StoreError> {
        let mut erasure = Erasure::new(self, tenant_id, now).await?;
        if !erasure.is_done(erased_at).await? {
            let last = erasure.everything().await?;
            erasure.note_done(erased_at, last).await?;
        }
        Ok(erasure.erased)
    }

    async fn export(&self, tenant_id: &TenantId) -> Result<TenantExport, StoreError> {
        self.export_tenant(&tenant_id.into()).await
    }
}

impl<'s> Erasure<'s> {
    async fn new(
        store: &'s Store,
        tenant_id: &TenantId,
        now: DateTime<Utc>,
    ) -> Result<Self, StoreError> {
        Ok(Self {
            store,
            tenant: tenant_id.into(),
            hashes: store.run_hashes().await?,
            now,
            erased: ErasedRecords::default(),
        })
    }

    /// Erases everything. Returns the number of the last chunk that was looked at.
    async fn everything(&mut self) -> Result<i64, StoreError> {
        self.forget_done().await?;
        let last = self.chunks().await?;
        self.rows(last).await?;
        self.texts().await?;
        self.preferences().await?;
        Ok(last)
    }

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
