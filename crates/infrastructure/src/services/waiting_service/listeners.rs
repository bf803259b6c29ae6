//! Handlers that hear of completions by themselves, as long as they are bound.

use std::{panic::AssertUnwindSafe, sync::Arc, time::Duration};

use futures::FutureExt;
use punctual_application::{
    EnhancedBatchProcessor,
    ports::{Completer, PurposeHandler},
};
use punctual_domain::PurposeId;
use tokio::{task::JoinSet, time::sleep};
use tokio_util::sync::CancellationToken;
use tracing::error;

/// How long a handler that has panicked does not listen.
const RESTART_AFTER: Duration = Duration::from_secs(5);

/// Lets each handler listen until `stop` is cancelled, and those anew that are bound when handlers are replaced.
pub(super) async fn run(processor: &EnhancedBatchProcessor, stop: &CancellationToken) {
    let handlers = processor.handlers();
    let completer: Arc<dyn Completer> = Arc::new(processor.clone());
    let mut changes = handlers.changes();
    while !stop.is_cancelled() {
        changes.borrow_and_update();
        let mut listening = JoinSet::new();
        for (purpose, handler) in handlers.listeners() {
            listening.spawn(listen(purpose, handler, Arc::clone(&completer)));
        }
        let changed = stop.run_until_cancelled(changes.changed()).await;
        // The former handlers have ended before others of the same purposes begin.
        listening.shutdown().await;
        if !matches!(changed, Some(Ok(()))) {
            return;
        }
    }
}

async fn listen(
    purpose: PurposeId,
    handler: Arc<dyn PurposeHandler>,
    completer: Arc<dyn Completer>,
) {
    loop {
        let listening = handler.listen(Arc::clone(&completer));
        if AssertUnwindSafe(listening).catch_unwind().await.is_ok() {
            return;
        }
        error!(%purpose, "The handler of purpose {purpose} panicked while it listened for completions, \
            restarting it in {} s", RESTART_AFTER.as_secs());
        sleep(RESTART_AFTER).await;
    }
}
