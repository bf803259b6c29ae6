//! What happens, as it happens: batches as server-sent events.

use std::{
    collections::{HashMap, VecDeque},
    convert::Infallible,
    sync::Arc,
    time::Duration,
};

use axum::{
    extract::State,
    http::Extensions,
    response::sse::{Event, KeepAlive, Sse},
};
use futures::{Stream, stream};
use punctual_application::{Operator, ports::StoreError};
use punctual_domain::{Batch, BatchStatus};
use tokio::sync::watch;
use uuid::Uuid;

use super::{App, feed::Read, model, problem::AnyProblem, sealed::Session};

/// How long a stream waits for the store before it begins with nothing.
const FIRST_READ_TIMEOUT: Duration = Duration::from_secs(1);
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
    extensions: Extensions,
) -> Sse<impl Stream<Item = Result<Event, Infallible>>> {
    let (changes, feed) = (app.operator.reader.changes(), Arc::clone(&app.batches));
    let operator = app.operator.clone();
    let mut batches = feed.subscribe(changes, move || {
        let operator = operator.clone();
        async move {
            let value = current(&operator).await.ok();
            let failed = value.is_none();
            Read { value, failed }
        }
    });
    let first = batches.wait_for(Option::is_some);
    let _ = tokio::time::timeout(FIRST_READ_TIMEOUT, first)
        .await
        .is_ok();
    let mut watch = BatchWatcher {
        session: extensions.get::<Session>().cloned(),
        app,
        batches,
        seen: None,
        unsent: VecDeque::new(),
    };
    // What cannot be read may be at the next look.
    let _ = watch.look().await;
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
            tokio::select! {
                changed = watch.batches.changed() => changed.ok()?,
                () = watch.app.stop.cancelled() => return None,
            }
            if !watch.app.goes_on(watch.session.as_ref()).await {
                return None;
            }
            let _ = watch.look().await;
        }
    });
    Sse::new(events).keep_alive(KeepAlive::default())
}

/// Batches that are not over, and the newest of all.
pub(crate) type Batches = Arc<HashMap<Uuid, Batch>>;

async fn current(operator: &Operator) -> Result<Batches, StoreError> {
    let mut batches = HashMap::new();
    for status in [None, Some(BatchStatus::Running), Some(BatchStatus::Queued)] {
        let newest = operator.newest(status, MAX_BATCHES).await?;
        batches.extend(newest.into_iter().map(|batch| (batch.batch_id, batch)));
    }
    Ok(Arc::new(batches))
}

struct BatchWatcher {
    app: App,
    /// What the key that the stream was asked for with begins at the page.
    session: Option<Session>,
    batches: watch::Receiver<Option<Batches>>,
    /// The batches as last seen; `None` before the first look.
    seen: Option<Batches>,
    /// What has changed and has not been sent.
    unsent: VecDeque<Batch>,
}

impl BatchWatcher {
    /// Puts what has changed since the last look in `unsent`.
    async fn look(&mut self) -> Result<(), StoreError> {
        let Some(now) = self.batches.borrow_and_update().clone() else {
            return Ok(());
        };
        for before in self.seen.iter().flat_map(|seen| seen.values()) {
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
