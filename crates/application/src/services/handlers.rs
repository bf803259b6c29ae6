//! The handlers of purposes: what is bound to each, and how it is called, within its time and with panics caught.

use std::{
    collections::HashMap,
    fmt,
    panic::AssertUnwindSafe,
    sync::{Arc, PoisonError, RwLock, RwLockWriteGuard},
    time::Duration,
};

use futures::FutureExt;
use punctual_domain::{Item, Outcome, Preference, PurposeId};
use tokio::sync::watch;
use tracing::{Instrument, field::Empty, info_span};

use super::{
    provider_batch_store::ProviderBatchStore,
    suppression_list::SuppressionList,
    throttle::{PurposeLimits, Throttle},
};
use crate::SPANS;
use crate::ports::{HandlerError, Mailer, PurposeHandler, Rendered, WaitingCall};

/// Why a call of a handler that panics gives nothing.
const PANICKED: &str = "the handler panicked; see the log";

/// The handler of each purpose, and how it is called. Clones share them.
#[derive(Clone, Default)]
pub struct Handlers {
    bound: Arc<RwLock<HashMap<PurposeId, Arc<BoundHandler>>>>,
    changes: watch::Sender<()>,
    suppressions: SuppressionList,
    provider_batches: ProviderBatchStore,
}

/// How a purpose's handler is called.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Binding {
    /// Timeout of one attempt (default: 60 s).
    pub timeout: Duration,
    /// Rate limits of the purpose (default: none).
    pub limits: PurposeLimits,
    /// Whether items with equal parameters run next to each other (default: no).
    pub group_by_parameters: bool,
    /// Whether the handler looks at [`Item::previous`], which is read for it, by one statement for each chunk (default:
    /// yes).
    pub reads_previous: bool,
    /// What the handler is, for operators: its kind and what it calls, such as `webhook https://crm.example`. It is shown,
    /// so it must hold no secret (default: nothing).
    pub handler: Option<String>,
}

impl fmt::Debug for Handlers {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let bound = self.bound.read().unwrap_or_else(PoisonError::into_inner);
        f.debug_set().entries(bound.keys()).finish()
    }
}

impl Default for Binding {
    fn default() -> Self {
        Handlers::DEFAULT_TIMEOUT.into()
    }
}

impl From<Duration> for Binding {
    fn from(timeout: Duration) -> Self {
        Self {
            timeout,
            limits: PurposeLimits::default(),
            group_by_parameters: false,
            reads_previous: true,
            handler: None,
        }
    }
}

/// A handler as it is bound to a purpose.
pub(crate) struct BoundHandler {
    handler: Arc<dyn PurposeHandler>,
    pub(crate) binding: Binding,
    pub(crate) throttle: Arc<Throttle>,
}

impl BoundHandler {
    /// What the handler would send for an item.
    pub(crate) async fn preview(
        &self,
        item: &Item,
        call: bool,
    ) -> Result<Option<Rendered>, HandlerError> {
        self.guarded(self.handler.preview(item, call)).await
    }

    /// What the handler says has become of a call that waits.
    ///
    /// # Errors
    /// It does not say: no answer came in time, or it panicked.
    pub(crate) async fn poll(
        &self,
        call: &WaitingCall,
    ) -> Result<Result<Outcome, HandlerError>, String> {
        self.bounded(self.handler.poll(call)).await
    }

    /// What a call of the handler gives: within its time, and with a panic caught.
    async fn guarded<T>(
        &self,
        call: impl Future<Output = Result<T, HandlerError>>,
    ) -> Result<T, HandlerError> {
        let answer = self.bounded(call).await;
        answer.unwrap_or_else(|problem| Err(HandlerError::retryable(problem)))
    }

    /// What a call of the handler gives, or why it gives nothing: its time is over, or it panicked.
    async fn bounded<T>(&self, call: impl Future<Output = T>) -> Result<T, String> {
        let timeout = self.binding.timeout;
        match tokio::time::timeout(timeout, AssertUnwindSafe(call).catch_unwind()).await {
            Ok(Ok(answer)) => Ok(answer),
            Ok(Err(_panic)) => Err(PANICKED.to_owned()),
            Err(_elapsed) => Err(format!("no answer within {} ms", timeout.as_millis())),
        }
    }
}

impl Handlers {
    /// How long an attempt may take unless the purpose says otherwise.
    pub const DEFAULT_TIMEOUT: Duration = Duration::from_mins(1);

    /// No handlers yet; those to be bound look addresses up in this list.
    #[must_use]
    pub fn new(suppressions: SuppressionList) -> Self {
        Self {
            suppressions,
            ..Self::default()
        }
    }

    /// The same, whose handlers keep their provider batches here.
    #[must_use]
    pub fn with_provider_batches(mut self, provider_batches: ProviderBatchStore) -> Self {
        self.provider_batches = provider_batches;
        self
    }

    /// Where the handlers keep their provider batches, to be connected to a store.
    #[must_use]
    pub fn provider_batches(&self) -> &ProviderBatchStore {
        &self.provider_batches
    }

    /// The suppression list that the handlers look addresses up in, to be connected to a store.
    #[must_use]
    pub fn suppressions(&self) -> &SuppressionList {
        &self.suppressions
    }

    /// Binds a purpose to a handler, in place of an earlier one. A time alone is how long an attempt may take.
    pub fn bind(
        &mut self,
        purpose: PurposeId,
        handler: Arc<dyn PurposeHandler>,
        binding: impl Into<Binding>,
    ) {
        let binding = binding.into();
        let bound = BoundHandler {
            handler,
            throttle: Arc::new(Throttle::new(binding.limits)),
            binding,
        };
        self.handlers_mut().insert(purpose, Arc::new(bound));
    }

    /// The handler of a purpose, for tests that call it themselves.
    #[cfg(any(test, feature = "mocks"))]
    #[must_use]
    pub fn handler(&self, purpose: &PurposeId) -> Option<Arc<dyn PurposeHandler>> {
        self.of(purpose).map(|bound| Arc::clone(&bound.handler))
    }

    /// Whether the purpose has a handler.
    #[must_use]
    pub fn contains(&self, purpose: &PurposeId) -> bool {
        self.of(purpose).is_some()
    }

    /// What the purpose's handler [needs](PurposeHandler::missing_parameters) beside these defaults of a job.
    #[must_use]
    pub fn missing_parameters(&self, purpose: &PurposeId, defaults: &Preference) -> Vec<String> {
        let bound = self.of(purpose);
        bound.map_or_else(Vec::new, |bound| bound.handler.missing_parameters(defaults))
    }

    /// What sends plain e-mails as the purpose does; `None`: it sends no e-mails, or has no handler.
    #[must_use]
    pub fn mailer(&self, purpose: &PurposeId) -> Option<Arc<dyn Mailer>> {
        self.of(purpose)?.handler.mailer()
    }

    /// How the handler of a purpose is called; `None`: it has none.
    #[must_use]
    pub fn binding(&self, purpose: &PurposeId) -> Option<Binding> {
        self.of(purpose).map(|bound| bound.binding.clone())
    }

    /// What the body of a completion means to the handler of a purpose. Where the purpose has none any more, it is the output.
    ///
    /// # Errors
    /// The handler panicked.
    pub fn completed(
        &self,
        purpose: &PurposeId,
        body: serde_json::Value,
    ) -> Result<Outcome, HandlerError> {
        let Some(bound) = self.of(purpose) else {
            return Ok(Outcome::Done(body));
        };
        let meant = std::panic::catch_unwind(AssertUnwindSafe(|| bound.handler.completed(body)));
        meant.map_err(|_panic| HandlerError::retryable(PANICKED))
    }

    /// Tells when the handlers have been [replaced](Self::replace).
    #[must_use]
    pub fn changes(&self) -> watch::Receiver<()> {
        self.changes.subscribe()
    }

    /// The handlers as they are bound now, each to [listen](PurposeHandler::listen) for completions.
    #[must_use]
    pub fn listeners(&self) -> Vec<(PurposeId, Arc<dyn PurposeHandler>)> {
        let bound = self.bound.read().unwrap_or_else(PoisonError::into_inner);
        let listener = |(purpose, bound): (&PurposeId, &Arc<BoundHandler>)| {
            (purpose.clone(), Arc::clone(&bound.handler))
        };
        let mut listeners: Vec<_> = bound.iter().map(listener).collect();
        listeners.sort_by(|(one, _), (other, _)| one.cmp(other));
        listeners
    }

    /// Calls the item's handler once: within its time, and with a panic caught. The limits of its purpose are not looked at.
    ///
    /// # Errors
    /// The handler's; the purpose has none, or no answer came in time.
    pub async fn attempt(&self, item: &Item) -> Result<Outcome, HandlerError> {
        let Some(bound) = self.of(&item.purpose_id) else {
            return Err(HandlerError::permanent(format!(
                "purpose `{}` has no handler in this process",
                item.purpose_id
            )));
        };
        let span = info_span!(target: SPANS, "item", tenant_id = %item.item_id, occurrence = %item.occurrence,
            attempt = item.attempt, "otel.status_code" = Empty, "otel.status_description" = Empty);
        let call = bound.guarded(bound.handler.run(item));
        let outcome = call.instrument(span.clone()).await;
        if let Err(error) = &outcome {
            span.record("otel.status_code", "ERROR");
            span.record("otel.status_description", &error.message);
        }
        outcome
    }

    /// Replaces the handlers, for every clone. Attempts that have begun end with their own. A purpose whose limits and remote
    /// endpoint are the same as before keeps what it has used of them.
    pub fn replace(&self, others: Self) {
        self.suppressions.connect_too(&others.suppressions);
        self.provider_batches.connect_too(&others.provider_batches);
        let mut others = std::mem::take(&mut *others.handlers_mut());
        let mut bound = self.handlers_mut();
        for (purpose, other) in &mut others {
            if let (Some(former), Some(other)) = (bound.get(purpose), Arc::get_mut(other))
                && former.binding.limits == other.binding.limits
                && former.binding.handler == other.binding.handler
            {
                other.throttle = Arc::clone(&former.throttle);
            }
        }
        *bound = others;
        drop(bound);
        self.changes.send_replace(());
    }

    pub(crate) fn of(&self, purpose: &PurposeId) -> Option<Arc<BoundHandler>> {
        let bound = self.bound.read().unwrap_or_else(PoisonError::into_inner);
        bound.get(purpose).cloned()
    }

    fn handlers_mut(&self) -> RwLockWriteGuard<'_, HashMap<PurposeId, Arc<BoundHandler>>> {
        self.bound.write().unwrap_or_else(PoisonError::into_inner)
    }
}
