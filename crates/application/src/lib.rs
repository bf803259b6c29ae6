#![doc = include_str!("../README.md")]
#![warn(missing_docs)]

/// The target of the spans that traces are made of: `batch`, `chunk`, `item` and `call`. They are for a collector; keep
/// them out of the log.
pub const SPANS: &str = "punctual::spans";

/// Named places where tests let the process die as if the power had gone: what is there after it must be whole. Dies when the
/// feature `failpoints` of the crate that has the place is on, and `FAILPOINTS` says `NAME=return`.
#[doc(hidden)]
#[macro_export]
macro_rules! crash_point {
    ($name:literal) => {
        #[cfg(feature = "failpoints")]
        if fail::eval($name, |_| ()).is_some() {
            std::process::abort();
        }
    };
}

pub mod backoff;
pub mod ports;
mod services;
mod tenant_hash;
#[cfg(any(test, feature = "mocks"))]
pub mod testing;

pub use ports::Role;
pub use services::{
    active_failures::{ActiveFailure, ActiveFailures, Operation},
    alerts::{
        AlertDesk, AlertWords, Alerting, DueAlert, InvalidQuietHours, NamedAlertChannel, QuietHours,
    },
    batch_processor::{BatchProcessor, ChunkReport, ProcessError},
    coalescer::Coalescer,
    completion_urls::CompletionUrls,
    enhanced_batch_processor::{
        EnhancedBatchProcessor, Limits, Preview, PreviewContent, PreviewStatus, PreviewThen,
        RetryPolicy, SettledItems,
    },
    handlers::{Binding, Handlers},
    jobs::Jobs,
    log_limit::{LogLimit, LogLine},
    operator::{
        Actor, AlertAnswer, AlertTestReport, BackfillCount, BackfillReport, BackfillRequest,
        CallFailed, CreatedKey, DeadLetterSelection, DeliverAgainReport, DeliverySelection,
        DiscardReport, DueItems, EffectivePreference, Explanation, ExtendCall, ExtendedCall,
        Finding, FindingKind, Findings, FixedTiming, Found, IdempotencyKey, JobLimits,
        JobRetention, JobTiming, JobView, LeftOut, NewOperatorKey, OPERATOR_KEY, Operator,
        OperatorError, Patience, PreferenceTiming, PreviewRequest, Quarantined, ReopenReport,
        ReplayReport, Replicas, RestoreReport, RestoreRequest, RestoredStore, RetentionReport,
        RetentionSource, RunPreparation, ScheduleInZone, Severity, SuppressReport, SuppressRequest,
        TakenCompletion, TenantInZone, TrendBucket, Trends, TriggerRequest, TriggeredBatch,
        ZoneInUse, amount, caller, first_of, length_in_words, noun, size_in_words,
    },
    provider_batch_store::ProviderBatchStore,
    schedule_status::{JobStatus, MirrorHandle, SchedulerStatus, SlotStatus, StatusHandle},
    source_items::{Categories, chunk_size_of, item_ids},
    suppression_list::SuppressionList,
    throttle::PurposeLimits,
};
pub use tenant_hash::tenant_hash;
