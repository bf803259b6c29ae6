//! Results on their way to a URL.

use std::sync::Arc;

use futures::{StreamExt, TryStreamExt, stream};
use punctual_application::ports::{DueDelivery, HandlerError, SinkError, StoredResult};
use punctual_domain::{Batch, ItemId, WebhookConfig};
use serde_json::json;

use super::Deliverer;
use crate::handlers::webhook::Post;

/// Posts at one time, of results that are posted each by itself.
const AT_ONCE: usize = 8;

impl Deliverer {
    /// Posts results to a URL: each by itself, or together.
    pub(super) async fn post(
        &self,
        due: &DueDelivery,
        config: &WebhookConfig,
        each: bool,
        results: &[StoredResult],
        last: bool,
    ) -> Result<(), SinkError> {
        let post = Post::configured(config, "/deliver", Arc::clone(&self.clock))
            .map_err(|error| SinkError::retryable(error.to_string()))?;
        if each {
            let post = &post;
            let sends = results.iter().cloned();
            return stream::iter(sends.map(|result| async move { post_one(post, &result).await }))
                .buffer_unordered(AT_ONCE)
                .try_collect()
                .await;
        }
        let part = due.cursor.as_deref().unwrap_or("first");
        let id = format!("{}/{part}", due.batch.batch_id);
        let body = part_of(&due.batch, results, last);
        let sent = post.send(&id, "application/json", body).await;
        sent.map(drop).map_err(|error| refused(error, None))
    }
}

async fn post_one(post: &Post, result: &StoredResult) -> Result<(), SinkError> {
    let item = &result.result.item_id;
    let id = result.delivery_id();
    let body = json!(result).to_string().into_bytes();
    let sent = post.send(&id, "application/json", body).await;
    sent.map(drop).map_err(|error| refused(error, Some(item)))
}

/// A call that failed, whatever it failed of: the place that the job names can be mended while it is retried.
fn refused(error: HandlerError, item: Option<&ItemId>) -> SinkError {
    let message = match item {
        Some(item) => format!("{item}: {error}"),
        None => error.message,
    };
    SinkError::retryable(message).with_retry_after(error.retry_after)
}

fn part_of(batch: &Batch, results: &[StoredResult], last: bool) -> Vec<u8> {
    json!({
        "batch_id": batch.batch_id, "job_id": batch.job_id, "scheduled_at": batch.scheduled_at,
        "status": batch.status, "total": batch.total, "succeeded": batch.succeeded, "failed": batch.failed,
        "skipped": batch.skipped, "results": results, "last": last,
    })
    .to_string()
    .into_bytes()
}
