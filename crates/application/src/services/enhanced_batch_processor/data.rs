//! Tenants' own data: fetched when an item is about to begin, for one tenant or for many of its chunk, and within the limits
//! of their job.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex as StdMutex, PoisonError},
    time::Duration,
};

use punctual_domain::{
    Chunk, DataConfig, DataRequest, DataSource, DataTenant, FailureKind, Item, ItemId, JobId,
    OnEmpty, Outcome, is_empty_data, without_secrets,
};
use serde_json::Value;
use tokio::{sync::Mutex, time::Instant};

use super::{ChunkRun, EnhancedBatchProcessor, Progress, prepare::Prepared};
use crate::{
    ports::{HandlerError, TenantAnswers, TenantData},
    services::throttle::{PurposeLimits, Throttle},
};

/// Why there was nothing to do for a tenant without data.
const NO_DATA: &str = "no data";
/// For so long, all items of a call have its failure, unless it was of an earlier attempt: they would ask again one after the
/// other.
const SHARED_FAILURE: Duration = Duration::from_millis(500);

/// The host or the provider that each job calls, and what holds these calls to limits.
type Throttles = HashMap<JobId, (String, Arc<Throttle>)>;

/// Fetches data, each job within its limits. Clones share them.
#[derive(Clone, Default)]
pub(super) struct DataFetcher {
    port: Option<Arc<dyn TenantData>>,
    throttles: Arc<StdMutex<Throttles>>,
}

/// The data of a chunk's tenants.
pub(super) struct ChunkData {
    config: DataConfig,
    /// Tenants who are asked for together.
    groups: Vec<Mutex<Group>>,
    group_of: HashMap<ItemId, usize>,
}

/// Tenants who are asked for together, when the first of them is about to begin.
struct Group {
    /// With the tenants who are still to be asked for.
    request: DataRequest,
    failed: Option<FailedCall>,
    /// What has not been passed on.
    answers: TenantAnswers,
}

/// The last call, if it failed.
struct FailedCall {
    at: Instant,
    /// The attempt of the item that made the call.
    attempt: u32,
    error: HandlerError,
}

impl EnhancedBatchProcessor {
    /// The item with its data, if its job has any, or as it has ended without a call of its handler. `None`: it is left for
    /// later.
    pub(super) async fn with_data(
        &self,
        run: &ChunkRun<'_>,
        mut item: Item,
        progress: &mut Progress,
    ) -> Option<Prepared> {
        let Some(data) = &run.data else {
            return Some(Prepared::Run(item));
        };
        loop {
            item = match self.recheck(run, item, progress).await? {
                Prepared::Run(item) => item,
                skip @ Prepared::Skip(_) => return Some(skip),
            };
            let added = data.add_to(&mut item, &self.tenant_data);
            let Some(outcome) = self.unless_stopping(added).await?.transpose() else {
                return Some(Prepared::Run(item));
            };
            // The item may have been cancelled, or changed by its tenant, during the call.
            item = match self.recheck(run, item, progress).await? {
                Prepared::Run(item) => item,
                skip @ Prepared::Skip(_) => return Some(skip),
            };
            let Some(delay) = progress.delay_before_retry(run, &item, &outcome) else {
                let began = progress.started_at.unwrap_or_else(|| self.now());
                let result = self.ended(run, &item, began, outcome);
                return Some(Prepared::Skip(result));
            };
            self.unless_stopping(tokio::time::sleep(delay)).await?;
            item.attempt += 1;
        }
    }
}

impl DataFetcher {
    pub(super) fn new(port: Arc<dyn TenantData>) -> Self {
        Self {
            port: Some(port),
            ..Self::default()
        }
    }

    async fn fetch(
        &self,
        source: &DataSource,
        request: &DataRequest,
    ) -> Result<TenantAnswers, HandlerError> {
        let Some(port) = &self.port else {
            let message = "this program fetches no data; remove \"data\" from the job";
            return Err(HandlerError::permanent(message));
        };
        let throttle = self.throttle_of(&request.job_id, source);
        let _permit = throttle.acquire().await;
        let answers = port.fetch(source, request).await;
        throttle.note(answers.as_ref().map(|_| 0), None);
        answers
    }

    /// What holds the calls of a job to its limits: another one where it calls another host, or has other limits.
    fn throttle_of(&self, job_id: &JobId, source: &DataSource) -> Arc<Throttle> {
        let (called, limits) = match source {
            DataSource::Provider(name) => (name.clone(), PurposeLimits::default()),
            DataSource::Http(http) => {
                let limits = PurposeLimits {
                    concurrency: http.concurrency,
                    requests_per_minute: http.requests_per_minute,
                    ..PurposeLimits::default()
                };
                (without_secrets(http.url.as_str()), limits)
            }
        };
        let mut throttles = self
            .throttles
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        if let Some((known, throttle)) = throttles.get(job_id)
            && *known == called
            && throttle.limits == limits
        {
            return Arc::clone(throttle);
        }
        let throttle = Arc::new(Throttle::new(limits));
        throttles.insert(job_id.clone(), (called, Arc::clone(&throttle)));
        throttle
    }
}

impl ChunkData {
    /// The data of what is to run of a chunk.
    pub(super) fn new(config: &DataConfig, chunk: &Chunk, prepared: &[Prepared]) -> Self {
        let items: Vec<&Item> = prepared.iter().filter_map(Prepared::to_run).collect();
        let (mut groups, mut group_of) = (Vec::new(), HashMap::new());
        for some in items.chunks(config.tenants_per_request()) {
            let tenant = |item: &&Item| {
                Some(DataTenant {
                    tenant_id: item.item_id.tenant()?,
                    previous: item.previous,
                })
            };
            let request = DataRequest {
                job_id: chunk.job_id.clone(),
                occurrence: chunk.run_of_items(),
                scheduled_at: chunk.scheduled_at,
                tenants: some.iter().filter_map(tenant).collect(),
            };
            group_of.extend(some.iter().map(|item| (item.item_id.clone(), groups.len())));
            groups.push(Mutex::new(Group {
                request,
                failed: None,
                answers: HashMap::new(),
            }));
        }
        Self {
            config: config.clone(),
            groups,
            group_of,
        }
    }

    /// Adds the data to an item that has none yet. `Some`: with that, the item has ended.
    ///
    /// # Errors
    /// It cannot be fetched; the error says so.
    pub(super) async fn add_to(
        &self,
        item: &mut Item,
        fetcher: &DataFetcher,
    ) -> Result<Option<Outcome>, HandlerError> {
        if item.fetched.is_some() {
            return Ok(None);
        }
        let data = self.fetch(item, fetcher).await.map_err(of_data)?;
        // What the first of two purposes has written is not lost.
        let may_skip = item.written.is_none() && self.config.on_empty == OnEmpty::Skip;
        if may_skip && is_empty_data(&data) {
            return Ok(Some(Outcome::nothing_to_do(NO_DATA)));
        }
        item.fetched = Some(data);
        Ok(None)
    }

    /// The tenant's data; `null`: there is none.
    async fn fetch(&self, item: &Item, fetcher: &DataFetcher) -> Result<Value, HandlerError> {
        let (Some(place), Some(tenant)) = (self.group_of.get(&item.item_id), item.item_id.tenant())
        else {
            return Ok(Value::Null);
        };
        let mut group = self.groups[*place].lock().await;
        if let Some(answer) = group.answers.remove(&tenant) {
            return answer;
        }
        let mut tenants = group.request.tenants.iter();
        if !tenants.any(|one| one.tenant_id == tenant) {
            return Ok(Value::Null);
        }
        if let Some(failed) = &group.failed
            && item.attempt <= failed.attempt
            && failed.at.elapsed() < SHARED_FAILURE
        {
            return Err(failed.error.clone());
        }
        let fetched = fetcher.fetch(&self.config.source, &group.request).await;
        match fetched {
            Ok(answers) => {
                group.note(answers);
                group.answers.remove(&tenant).unwrap_or(Ok(Value::Null))
            }
            Err(error) => {
                group.failed = Some(FailedCall {
                    at: Instant::now(),
                    attempt: item.attempt,
                    error: error.clone(),
                });
                Err(error)
            }
        }
    }
}

impl Group {
    /// Notes the answers of a call. Tenants whose answer is an error are asked for again, by their next attempt.
    fn note(&mut self, answers: TenantAnswers) {
        let is_open = |tenant: &DataTenant| {
            let answer = answers.get(&tenant.tenant_id);
            answer.is_some_and(Result::is_err)
        };
        self.request.tenants.retain(is_open);
        self.answers.extend(answers);
        self.failed = None;
    }
}

/// A failure to fetch data, as a kind of its own beside those of handlers.
fn of_data(mut error: HandlerError) -> HandlerError {
    error.failure_kind = FailureKind::Data;
    error.message = format!("data: {}", error.message);
    error
}
