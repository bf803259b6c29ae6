//! The suppression list as handlers use it. They are made before the store is opened, as purposes are checked without one, so
//! the list is connected to the store when Punctual starts.

use std::{
    fmt,
    sync::{Arc, OnceLock},
};

use punctual_domain::EmailAddress;

use crate::ports::{StoreError, Suppression, Suppressions};

/// Addresses that no e-mail is sent to. Clones are the same list; until it is connected to a store, every call fails, so that
/// nothing is sent unchecked.
#[derive(Clone, Default)]
pub struct SuppressionList(Arc<OnceLock<Arc<dyn Suppressions>>>);

impl SuppressionList {
    /// Connects it, and all of its clones, to a store. The first store counts.
    pub fn connect(&self, store: Arc<dyn Suppressions>) {
        let _ = self.0.set(store);
    }

    /// Connects another list to the same store, if this one is connected.
    pub(super) fn connect_too(&self, other: &Self) {
        if let Some(store) = self.0.get() {
            other.connect(Arc::clone(store));
        }
    }

    /// Why nothing is sent to an address; `None`: it is not on the list.
    ///
    /// # Errors
    /// The store fails, or the list is not connected to one.
    pub async fn reason(&self, address: &EmailAddress) -> Result<Option<String>, StoreError> {
        let entry = self.store()?.suppressed(address).await?;
        Ok(entry.map(|entry| entry.reason))
    }

    /// Adds an address. One that is there already stays as it is.
    ///
    /// # Errors
    /// The store fails, or the list is not connected to one.
    pub async fn add(&self, suppression: Suppression) -> Result<(), StoreError> {
        self.store()?.suppress(&[suppression]).await?;
        Ok(())
    }

    fn store(&self) -> Result<&Arc<dyn Suppressions>, StoreError> {
        let store = self.0.get();
        store.ok_or_else(|| {
            StoreError::unavailable("the suppression list is not connected to a store yet")
        })
    }
}

impl fmt::Debug for SuppressionList {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SuppressionList")
            .field("connected", &self.0.get().is_some())
            .finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Handlers, testing::FakeStore};

    #[tokio::test]
    async fn handlers_that_take_the_place_of_others_have_the_same_list() {
        let (first, second) = (SuppressionList::default(), SuppressionList::default());
        let handlers = Handlers::new(first.clone());
        let ann: EmailAddress = "ann@shop.example".parse().unwrap();
        let entry = Suppression {
            address: ann.clone(),
            reason: "complained".into(),
            at: "2026-03-01T09:00:00Z".parse().unwrap(),
            by: "a test".into(),
        };
        assert!(first.add(entry.clone()).await.is_err(), "not connected");
        assert!(first.reason(&ann).await.is_err(), "not connected");

        handlers
            .suppressions()
            .connect(Arc::new(FakeStore::default()));
        handlers.replace(Handlers::new(second.clone()));
        second.add(entry).await.unwrap();
        let reason = first.reason(&ann).await.unwrap();
        assert_eq!(reason.as_deref(), Some("complained"));
    }
}
