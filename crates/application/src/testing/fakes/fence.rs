//! The port `Fence`, in memory.

use std::collections::BTreeMap;

use async_trait::async_trait;
use chrono::{DateTime, Utc};
use punctual_domain::{BatchStatus, FenceMark, KnownMarks, MarksMade, Recognition, RestoreChoice};
use uuid::Uuid;

use super::FakeStore;
use crate::ports::{EndedHold, Fence, FenceState, Hold, StoreError};

/// The row of the fence.
#[derive(Debug)]
pub(super) struct FenceRow {
    mark: FenceMark,
    /// When each mark was made, by number.
    made: BTreeMap<u64, DateTime<Utc>>,
    /// Why it is held, and the largest number that is known.
    held: Option<(Hold, u64)>,
}

impl FakeStore {
    /// Whether the store is held.
    pub(super) fn is_held(&self) -> bool {
        let tables = self.tables();
        let fence = tables.fence.as_ref();
        fence.is_some_and(|fence| fence.held.is_some())
    }
}

#[async_trait]
impl Fence for FakeStore {
    async fn mark(&self, known: &KnownMarks, now: DateTime<Utc>) -> Result<FenceState, StoreError> {
        let mut tables = self.tables();
        let row = tables.fence.get_or_insert_with(|| FenceRow {
            mark: FenceMark {
                store: Uuid::new_v4(),
                number: 0,
                at: now,
            },
            made: BTreeMap::new(),
            held: None,
        });
        let newest = known.newest(row.mark.store);
        let made = newest.map_or_else(MarksMade::default, |newest| MarksMade {
            same_number: row.made.get(&newest.number).copied(),
            before: row
                .made
                .values()
                .filter(|at| **at < newest.at)
                .max()
                .copied(),
        });
        if let Recognition::OlderCopy { gap, number } = known.recognise(&row.mark, made) {
            let (hold, largest) = row.held.get_or_insert((Hold { gap, since: now }, number));
            hold.gap.to = hold.gap.to.max(gap.to);
            *largest = number.max(*largest);
        }
        if let Some((hold, _)) = row.held {
            return Ok(FenceState::Held(hold));
        }
        row.mark.number += 1;
        row.mark.at = now;
        row.made.insert(row.mark.number, now);
        Ok(FenceState::Marked(row.mark))
    }

    async fn hold(&self) -> Result<Option<Hold>, StoreError> {
        let tables = self.tables();
        let fence = tables.fence.as_ref();
        Ok(fence.and_then(|fence| fence.held).map(|held| held.0))
    }

    async fn end_hold(
        &self,
        choice: RestoreChoice,
        now: DateTime<Utc>,
    ) -> Result<Option<EndedHold>, StoreError> {
        let mut tables = self.tables();
        let Some(row) = &mut tables.fence else {
            return Ok(None);
        };
        let Some((Hold { gap, .. }, number)) = row.held.take() else {
            return Ok(None);
        };
        row.made.clear();
        row.mark.number = number.max(row.mark.number) + 1;
        row.mark.at = now;
        let mut cancelled_batches = 0;
        if choice == RestoreChoice::Skip {
            let (until, batches) = (gap.to.min(now), tables.batches.values_mut());
            let open =
                batches.filter(|batch| batch.finished_at.is_none() && batch.scheduled_at <= until);
            for batch in open {
                batch.status = BatchStatus::Cancelled;
                cancelled_batches += 1;
            }
        }
        Ok(Some(EndedHold {
            gap,
            cancelled_batches,
            given_up_deliveries: 0,
        }))
    }
}
