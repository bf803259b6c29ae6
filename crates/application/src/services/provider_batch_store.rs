//! The provider batches as handlers use them. They are made before the store is opened, as purposes are checked without one, so
//! this is connected to the store when Punctual starts.

use std::{
    fmt,
    sync::{Arc, OnceLock},
};

use crate::ports::{ProviderBatches, StoreError};

/// Where handlers keep their provider batches. Clones are the same; until it is connected to a store, handlers do without
/// provider batches.
#[derive(Clone, Default)]
pub struct ProviderBatchStore(Arc<OnceLock<Arc<dyn ProviderBatches>>>);

impl ProviderBatchStore {
    /// Connects it, and all of its clones, to a store. The first store counts.
    pub fn connect(&self, store: Arc<dyn ProviderBatches>) {
        let _ = self.0.set(store);
    }

    /// Connects another one to the same store, if this one is connected.
    pub(super) fn connect_too(&self, other: &Self) {
        if let Some(store) = self.0.get() {
            other.connect(Arc::clone(store));
        }
    }

    /// Whether it is connected to a store.
    #[must_use]
    pub fn is_connected(&self) -> bool {
        self.0.get().is_some()
    }

    /// The store.
    ///
    /// # Errors
    /// It is not connected to one.
    pub fn store(&self) -> Result<Arc<dyn ProviderBatches>, StoreError> {
        let store = self.0.get().cloned();
        store.ok_or_else(|| {
            StoreError::unavailable("the provider batches are not connected to a store yet")
        })
    }
}

impl fmt::Debug for ProviderBatchStore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ProviderBatchStore")
            .field("connected", &self.is_connected())
            .finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Handlers, ports::MockProviderBatches};

    #[test]
    fn handlers_that_take_the_place_of_others_have_the_same_store() {
        let (first, second) = (ProviderBatchStore::default(), ProviderBatchStore::default());
        let handlers = Handlers::default().with_provider_batches(first.clone());
        assert!(first.store().is_err(), "not connected");

        handlers
            .provider_batches()
            .connect(Arc::new(MockProviderBatches::new()));
        handlers.replace(Handlers::default().with_provider_batches(second.clone()));
        assert!(first.is_connected() && second.is_connected());
    }
}
