//! Tenants' own data: fetched when an item is about to begin, for one tenant or for many of its chunk, and within the limits
//! of the host that has it.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex as StdMutex, PoisonError},
    time::Duration,
};

use punctual_domain::{
    Chunk, DataConfig, DataRequest, DataSource, DataTenant, Item, ItemId, OnEmpty, Outcome,
    is_empty_data, without_secrets,
};
use serde_json::Value;
use tokio::{sync::Mutex, time::Instant};

use super::prepare::Prepared;
use crate::{
    ports::{HandlerError, HandlerErrorKind, TenantAnswers, TenantData},
    services::throttle::{PurposeLimits, Throttle},
};

/// Why there was nothing to do for a tenant without data.
const NO_DATA: &str = "no data";
/// For so long, all items of a call have its failure: they would ask again one after the other.
const SHARED_FAILURE: Duration = Duration::from_millis(500);

/// What holds the calls of each host, or provider, to limits.
type Throttles = HashMap<(String, PurposeLimits), Arc<Throttle>>;

/// Fetches data, each host within its limits. Clones share them.
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
    /// When and how the last call failed.
    failed: Option<(Instant, HandlerError)>,
    /// What has not been passed on.
    answers: TenantAnswers,
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
        let throttle = self.throttle_of(source);
        let _permit = throttle.acquire().await;
        let answers = port.fetch(source, request).await;
        match &answers {
            Ok(_) => throttle.succeeded(0),
            Err(error) if error.kind == HandlerErrorKind::Throttled => {
                throttle.throttled(error.retry_after);
            }
            Err(_) => {}
        }
        answers
    }

    /// What holds the calls of a host to these limits.
    fn throttle_of(&self, source: &DataSource) -> Arc<Throttle> {
        let key = match source {
            DataSource::Provider(name) => (name.clone(), PurposeLimits::default()),
            DataSource::Http(http) => {
                let limits = PurposeLimits {
                    concurrency: http.concurrency,
                    requests_per_minute: http.requests_per_minute,
                    tokens_per_minute: None,
                };
                (without_secrets(http.url.as_str()), limits)
            }
        };
        let mut throttles = self
            .throttles
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        let limits = key.1;
        let throttle = throttles.entry(key);
        Arc::clone(throttle.or_insert_with(|| Arc::new(Throttle::new(limits))))
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
                occurrence: chunk.occurrence,
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
        if is_empty_data(&data) && self.config.on_empty == OnEmpty::Skip {
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
        if let Some((at, error)) = &group.failed
            && at.elapsed() < SHARED_FAILURE
        {
            return Err(error.clone());
        }
        let fetched = fetcher.fetch(&self.config.source, &group.request).await;
        match fetched {
            Ok(answers) => {
                group.note(answers);
                group.answers.remove(&tenant).unwrap_or(Ok(Value::Null))
            }
            Err(error) => {
                group.failed = Some((Instant::now(), error.clone()));
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
    error.message = format!("data: {}", error.message);
    error
}
