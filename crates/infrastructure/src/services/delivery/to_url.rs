//! Results on their way to a URL.

use std::sync::Arc;

use async_trait::async_trait;
use futures::{StreamExt, TryStreamExt, stream};
use punctual_application::ports::{Clock, HandlerError, ResultSink, SinkError, StoredResult};
use punctual_domain::{Batch, ItemId, WebhookConfig};
use serde_json::json;

use crate::handlers::webhook::SignedPost;

/// Posts at one time, of results that are posted each by itself.
const MAX_CONCURRENT_POSTS: usize = 8;

/// Posts to a URL.
pub(super) struct ToUrl {
    post: SignedPost,
    posts: Posts,
}

/// What one call holds.
pub(super) enum Posts {
    /// One result.
    Each,
    /// The page of results that begins at this cursor.
    Page(Option<String>),
}

impl ToUrl {
    /// # Errors
    /// The URL or the secret cannot be used.
    pub(super) fn new(
        config: &WebhookConfig,
        posts: Posts,
        clock: Arc<dyn Clock>,
    ) -> Result<Self, SinkError> {
        match SignedPost::configured(config, "/deliver", clock) {
            Ok(post) => Ok(Self { post, posts }),
            Err(error) => Err(SinkError::retryable(error.to_string())),
        }
    }
}

#[async_trait]
impl ResultSink for ToUrl {
    async fn take(
        &self,
        batch: &Batch,
        results: &[StoredResult],
        last: bool,
    ) -> Result<(), SinkError> {
        let post = &self.post;
        let Posts::Page(cursor) = &self.posts else {
            let sends = results.iter().cloned();
            return stream::iter(sends.map(|result| async move { post_one(post, &result).await }))
                .buffer_unordered(MAX_CONCURRENT_POSTS)
                .try_collect()
                .await;
        };
        let part = cursor.as_deref().unwrap_or("first");
        let id = format!("{}/{part}", batch.batch_id);
        let body = page_of(batch, results, last);
        let sent = post.send(&id, "application/json", body).await;
        sent.map(drop).map_err(|error| refused(error, None))
    }
}

async fn post_one(post: &SignedPost, result: &StoredResult) -> Result<(), SinkError> {
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

fn page_of(batch: &Batch, results: &[StoredResult], last: bool) -> Vec<u8> {
    json!({
        "batch_id": batch.batch_id, "job_id": batch.job_id, "scheduled_at": batch.scheduled_at,
        "status": batch.status, "total": batch.total, "succeeded": batch.succeeded, "failed": batch.failed,
        "skipped": batch.skipped, "nothing_to_do": batch.nothing_to_do, "results": results, "last": last,
    })
    .to_string()
    .into_bytes()
}

#[cfg(test)]
mod tests {
    use std::{
        sync::{
            Mutex,
            atomic::{AtomicBool, Ordering},
        },
        time::Duration,
    };

    use axum::{
        Router,
        body::Bytes,
        extract::State,
        http::{HeaderMap, StatusCode},
    };
    use punctual_application::{
        ports::SystemClock,
        testing::contract::{self, Receiver},
    };
    use punctual_domain::KeyForm;

    use super::*;

    /// A server that takes everything that comes, and each id once.
    #[derive(Default)]
    struct Server {
        /// By `webhook-id`.
        calls: Mutex<Vec<(String, Bytes)>>,
        down: AtomicBool,
    }

    impl Server {
        async fn start() -> (Arc<Self>, WebhookConfig) {
            let server: Arc<Self> = Arc::default();
            let take = |State(server): State<Arc<Self>>, headers: HeaderMap, body: Bytes| async move {
                if server.down.load(Ordering::Relaxed) {
                    return StatusCode::SERVICE_UNAVAILABLE;
                }
                let id = headers["webhook-id"].to_str().unwrap().to_owned();
                let mut calls = server.calls.lock().unwrap();
                if !calls.iter().any(|(known, _)| *known == id) {
                    calls.push((id, body));
                }
                StatusCode::OK
            };
            let router = Router::new().fallback(take).with_state(server.clone());
            let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
            let url = format!("http://{}/", listener.local_addr().unwrap());
            tokio::spawn(async move { axum::serve(listener, router).await });
            let config = WebhookConfig {
                url,
                secret_env: None,
                timeout: Duration::from_secs(5),
                allow_private_addresses: true,
            };
            (server, config)
        }
    }

    fn to_url(config: &WebhookConfig, posts: Posts) -> ToUrl {
        ToUrl::new(config, posts, Arc::new(SystemClock)).unwrap()
    }

    /// Results one by one.
    struct OneByOne(Arc<Server>);

    #[async_trait]
    impl Receiver for OneByOne {
        async fn received(&self) -> Vec<String> {
            let calls = self.0.calls.lock().unwrap();
            calls.iter().map(|(id, _)| id.clone()).collect()
        }

        async fn set_down(&self, down: bool) {
            self.0.down.store(down, Ordering::Relaxed);
        }
    }

    #[tokio::test]
    async fn results_one_by_one_keep_the_contract() {
        let (server, config) = Server::start().await;
        let sink = to_url(&config, Posts::Each);
        contract::result_sink(&sink, &OneByOne(server)).await;
    }

    /// Results by the page, as the deliverer sends them: each page begins at a cursor of its own.
    struct ByPage(Arc<Server>, WebhookConfig);

    #[async_trait]
    impl ResultSink for ByPage {
        async fn take(
            &self,
            batch: &Batch,
            results: &[StoredResult],
            last: bool,
        ) -> Result<(), SinkError> {
            let cursor = results.first().map(StoredResult::delivery_id);
            let page = to_url(&self.1, Posts::Page(cursor));
            page.take(batch, results, last).await
        }
    }

    #[async_trait]
    impl Receiver for ByPage {
        async fn received(&self) -> Vec<String> {
            let calls = self.0.calls.lock().unwrap();
            let results = calls.iter().flat_map(|(_, body)| {
                let page: serde_json::Value = serde_json::from_slice(body).unwrap();
                serde_json::from_value::<Vec<StoredResult>>(page["results"].clone()).unwrap()
            });
            let key_form = KeyForm::Slashes;
            results
                .map(|result| StoredResult { key_form, ..result }.delivery_id())
                .collect()
        }

        async fn set_down(&self, down: bool) {
            self.0.down.store(down, Ordering::Relaxed);
        }
    }

    #[tokio::test]
    async fn pages_of_results_keep_the_contract() {
        let (server, config) = Server::start().await;
        let sink = ByPage(server, config);
        contract::result_sink(&sink, &sink).await;
    }
}
