//! The trace of a batch begins when it is stored. Its context travels with the chunks.

use punctual_application::SPANS;
use punctual_domain::NewBatch;
use tracing::info_span;

/// Begins the trace of a batch that is put in the queue.
pub(crate) fn begin(batch: &mut NewBatch) {
    let span = info_span!(target: SPANS, parent: None, "batch", "otel.kind" = "producer", batch_id = %batch.batch_id,
        job_id = %batch.job_id, slot = batch.slot, scheduled_at = %batch.scheduled_at,
        trigger = batch.trigger.as_str(), items = batch.total());
    #[cfg(feature = "otel")]
    if let Some(traceparent) = punctual_telemetry::traceparent(&span) {
        for chunk in &mut batch.chunks {
            chunk.traceparent = Some(traceparent.clone());
        }
    }
    drop(span);
}
