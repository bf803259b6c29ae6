//! The port `Suppressions`, in memory.

use async_trait::async_trait;
use punctual_domain::EmailAddress;

use super::{FakeStore, paged};
use crate::ports::{Page, Paged, StoreError, Suppression, Suppressions};

#[async_trait]
impl Suppressions for FakeStore {
    async fn suppress(&self, suppressions: &[Suppression]) -> Result<u64, StoreError> {
        let list = &mut self.tables().suppressions;
        let mut added = 0;
        for new in suppressions {
            let key = new.address.key();
            if list.iter().all(|known| known.address.key() != key) {
                list.push(new.clone());
                added += 1;
            }
        }
        Ok(added)
    }

    async fn suppressed(&self, address: &EmailAddress) -> Result<Option<Suppression>, StoreError> {
        let (key, tables) = (address.key(), self.tables());
        let mut list = tables.suppressions.iter();
        Ok(list.find(|known| known.address.key() == key).cloned())
    }

    async fn unsuppress(&self, address: &EmailAddress) -> Result<bool, StoreError> {
        let key = address.key();
        let list = &mut self.tables().suppressions;
        let before = list.len();
        list.retain(|known| known.address.key() != key);
        Ok(list.len() < before)
    }

    async fn suppressions(&self, page: &Page) -> Result<Paged<Suppression>, StoreError> {
        let newest = self.tables().suppressions.iter().rev().cloned().collect();
        paged(newest, page, |entry: &Suppression| entry.address.key())
    }
}
