//! Which items are running in this process, so that two occurrences of one job and tenant do not run at the same time.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use punctual_domain::{Item, ItemId, JobId, Occurrence};

type Key = (JobId, ItemId);

/// The occurrence that is running of each job and tenant. Clones share it.
#[derive(Debug, Clone, Default)]
pub(super) struct RunningItems(Arc<Mutex<HashMap<Key, Occurrence>>>);

/// An item that is running, until it is dropped.
#[derive(Debug)]
pub(super) struct RunningGuard {
    running: RunningItems,
    /// `None`: an earlier delivery of the same item is running, and ends its note.
    key: Option<Key>,
}

impl RunningItems {
    /// Whether another occurrence of the item's tenant is running.
    pub(super) fn has_other_occurrence(&self, item: &Item) -> bool {
        let key = (item.job_id.clone(), item.item_id.clone());
        let running = self.lock();
        running
            .get(&key)
            .is_some_and(|other| *other != item.occurrence)
    }

    /// Notes that an item begins; `None`: another one of its tenant is running. What prepares a run is not noted: no run waits for
    /// it.
    pub(super) fn begin(&self, item: &Item) -> Option<RunningGuard> {
        if item.prepares.is_some() {
            let running = self.clone();
            return Some(RunningGuard { running, key: None });
        }
        let key = (item.job_id.clone(), item.item_id.clone());
        let mut running = self.lock();
        let key = match running.get(&key) {
            Some(other) if *other != item.occurrence => return None,
            Some(_) => None,
            None => {
                running.insert(key.clone(), item.occurrence);
                Some(key)
            }
        };
        let running = self.clone();
        Some(RunningGuard { running, key })
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<Key, Occurrence>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for RunningGuard {
    fn drop(&mut self) {
        if let Some(key) = &self.key {
            self.running.lock().remove(key);
        }
    }
}
