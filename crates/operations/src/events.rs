//! What happens, as it happens: batches as server-sent events.

use std::{
    collections::{HashMap, VecDeque},
    convert::Infallible,
    time::Duration,
};

use axum::{
    extract::State,
    response::sse::{Event, KeepAlive, Sse},
};
use futures::{Stream, stream};
use punctual_application::ports::StoreError;
use punctual_domain::{Batch, BatchStatus};
use tokio::sync::watch;
use uuid::Uuid;

use super::{App, model, problem::AnyProblem};

/// The time between two looks while a batch is not over, and the longest otherwise.
const POLL_INTERVAL: Duration = Duration::from_secs(1);
const IDLE_POLL_INTERVAL: Duration = Duration::from_secs(10);
/// Batches of a status that are looked at: the newest.
const MAX_BATCHES: u32 = 200;

/// Batches as they begin, progress and end.
///
/// Server-sent events named `batch`: those that are not over, then each whenever it has changed, and when it is over. Looked
/// at once a second at most: the newest 200, and of those that are queued or run as many.
#[utoipa::path(get, operation_id = "events", path = "/events", responses(
    (status = 200, body = model::BatchEvent, content_type = "text/event-stream", description = "One such event after the other, until the agent stops"),
    AnyProblem
))]
pub(super) async fn stream(
    State(app): State<App>,
) -> Sse<impl Stream<Item = Result<Event, Infallible>>> {
    let mut watch = BatchWatcher {
        changes: app.operator.reader.changes(),
        app,
        seen: None,
        unsent: VecDeque::new(),
    };
    // What cannot be read may be a second later.
    let _ = watch.poll().await;
    let events = stream::unfold(watch, |mut watch| async move {
        loop {
            if let Some(batch) = watch.unsent.pop_front() {
                let event = Event::default().event("batch");
                // Nothing in a batch cannot be written as JSON.
                let Ok(event) = event.json_data(model::Batch::from(&batch)) else {
                    continue;
                };
                return Some((Ok(event), watch));
            }
            let stop = watch.app.stop.clone();
            tokio::select! {
                () = watch.news() => {}
                () = stop.cancelled() => return None,
            }
            let _ = watch.poll().await;
        }
    });
    Sse::new(events).keep_alive(KeepAlive::default())
}

struct BatchWatcher {
    app: App,
    changes: watch::Receiver<()>,
    /// The batches that are not over, and the newest of all, as last seen; `None` before the first look.
    seen: Option<HashMap<Uuid, Batch>>,
    /// What has changed and has not been sent.
    unsent: VecDeque<Batch>,
}

impl BatchWatcher {
    /// Waits until batches may have changed.
    async fn news(&mut self) {
        tokio::time::sleep(POLL_INTERVAL).await;
        let mut seen = self.seen.iter().flat_map(HashMap::values);
        if seen.any(|batch| batch.finished_at.is_none()) {
            return;
        }
        let _ = tokio::time::timeout(IDLE_POLL_INTERVAL, self.changes.changed()).await;
    }

    async fn poll(&mut self) -> Result<(), StoreError> {
        self.changes.borrow_and_update();
        let mut now = HashMap::new();
        for status in [None, Some(BatchStatus::Running), Some(BatchStatus::Queued)] {
            let batches = self.app.operator.newest(status, MAX_BATCHES).await?;
            now.extend(batches.into_iter().map(|batch| (batch.batch_id, batch)));
        }
        for before in self.seen.iter().flat_map(HashMap::values) {
            if before.finished_at.is_none() && !now.contains_key(&before.batch_id) {
                self.unsent
                    .extend(self.app.operator.reader.batch(before.batch_id).await?);
            }
        }
        let changed = now.values().filter(|batch| match &self.seen {
            None => batch.finished_at.is_none(),
            Some(seen) => seen.get(&batch.batch_id) != Some(*batch),
        });
        self.unsent.extend(changed.cloned());
        self.seen = Some(now);
        Ok(())
    }
}
