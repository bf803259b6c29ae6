//! The ports: what the use cases need from outside, each a trait with typed errors. An adapter never appears in a port's
//! signature; an `if` about dates or preferences never appears in an adapter.
//!
//! | you bring | implement | check it with |
//! |---|---|---|
//! | work of your own for an item | [`PurposeHandler`] | `testing::contract::purpose_handler` |
//! | a place for results | [`ResultSink`] | `testing::contract::result_sink` |
//! | preferences from your own tables | [`ConfigDatabase`] | `testing::contract::config_database` |
//! | records of plain jobs | [`ItemSource`] | `testing::contract::item_source` |
//! | each tenant's own data | [`TenantData`] | `testing::contract::tenant_data` |
//! | a channel for alerts | [`AlertChannel`] | – |
//! | a store | [`WorkQueue`], [`ChunkQueue`], [`BatchStore`], [`BatchReader`] | `testing::contract::store` |
//! | | [`Deliveries`] | `testing::contract::deliveries` |
//! | | [`OperatorStore`] | `testing::contract::operations` |
//! | | [`WaitingItems`] | `testing::contract::waiting_items` |
//! | | [`ProviderBatches`] | the tests of `punctual-store` |
//! | | [`Suppressions`] | `testing::contract::suppressions` |
//! | | [`Retention`] | `testing::contract::retention` |
//! | | [`Alerts`] | `testing::contract::alerts` |
//! | | [`Fence`] | `testing::contract::fence` |
//! | | [`OperatorKeys`] | `testing::contract::operator_keys` |
//! | | [`TenantRecords`] | `testing::contract::tenant_records` |
//! | a clock | [`Clock`] | `testing::contract::clock` |
//! | a memory of preferences | [`PreferenceMirror`] | `testing::contract::preference_mirror` |
//! | what has run for a tenant | [`RunHistory`] | `testing::contract::run_history` |
//!
//! The module of each port says what an implementation must keep to.
//!
//! # Errors
//!
//! An error of a port has a kind for code, a text for people, and the error beneath it as its `source()`. The text is
//! complete: it names what failed and why, so a log prints nothing else. Errors that only embedders create,
//! [`HandlerError`] and [`SinkError`], are made from any error by `?`. The kind of a [`SinkError`] is whether it
//! [is retryable](SinkError::is_retryable).
//!
//! # Adding a port
//!
//! 1. A file here with the trait: `Send + Sync`, object-safe (`async_trait`), with
//!    `#[cfg_attr(any(test, feature = "mocks"), mockall::automock)]`, types of the domain in its signatures, and an error
//!    of the form above. Re-export the trait, its types and its mock below.
//! 2. A file of the same name in `testing/contract`, with what every implementation promises, and one in `testing/fakes`
//!    where code on the port is tested by behaviour rather than by calls. The fake runs the suite.
//! 3. The adapter in `punctual-infrastructure`, whose tests run the suite too.
//! 4. A line in the table of this crate's README.

mod alerts;
mod batch_reader;
mod batch_store;
mod cause;
mod chunk_queue;
mod clock;
mod config_database;
mod deliveries;
mod fence;
mod item_source;
mod mailer;
mod operations;
mod operator_keys;
mod preference_mirror;
mod prepared_outputs;
mod provider_batches;
mod purpose_handler;
mod rendered;
mod result_sink;
mod retention;
mod run_history;
mod store_error;
mod suppressions;
mod tenant_data;
mod tenant_records;
mod waiting_items;
mod work_queue;

pub use alerts::{
    Alert, AlertAgent, AlertBook, AlertChange, AlertChannel, AlertDelivery, AlertDeliveryState,
    AlertError, AlertFinding, AlertKind, Alerts, SentFinding, StoredAlert, TrackedFinding,
};
pub use batch_reader::{
    BatchFilter, BatchReader, DeadLetterFilter, Page, Paged, ResultFilter, StoredResult, TenantRuns,
};
pub use batch_store::{BatchStore, Claim, Claimant, Committed};
pub use cause::error_chain;
pub use chunk_queue::{
    ChunkQueue, ClaimLimits, ClaimedChunk, Heartbeat, RETRY_CHUNK_AFTER, Survey,
};
pub use clock::{Clock, SystemClock};
pub use config_database::{
    ChangePage, ConfigDatabase, ConfigDatabaseError, ConfigErrorKind, Cursor, ErasedTenant,
    Snapshot, SnapshotPages, Unreadable,
};
pub use deliveries::{Deliveries, DueDelivery};
pub use fence::{EndedHold, Fence, FenceState, Hold};
pub use item_source::{ItemSource, ItemSourceError, ItemSourceErrorKind, SourceItem};
pub use mailer::Mailer;
pub use operations::{
    Acknowledgement, AuditEntry, AuditFilter, DeliveryFilter, DeliveryState, ExpiredItems,
    FailingDeliveries, HourlyOutcomes, JobActivity, NewRequest, OpenDeadLetters, OperatorStore,
    Redelivery, ReplicaLease, Request, StoredDelivery, WaitingWork,
};
pub use operator_keys::{InvalidRole, OperatorKey, OperatorKeys, Role};
pub use preference_mirror::PreferenceMirror;
pub use prepared_outputs::{NewPrepared, PreparedOutput, PreparedState, PreparedWork};
pub use provider_batches::{
    AnsweredCall, BatchTotals, BatchedCall, CollectLimits, Collected, KEEP_ENDED, ProviderBatch,
    ProviderBatchState, ProviderBatches, REQUEST,
};
pub use purpose_handler::{HandlerError, HandlerErrorKind, PurposeHandler};
pub use rendered::Rendered;
pub use result_sink::{ResultSink, SinkError};
pub use retention::{Removable, RemovedKind, RemovedPortion, Retention, RetentionPolicy};
pub use run_history::{PastRun, RunHistory, RunHistoryError, RunHistoryErrorKind, RunOutcome};
pub use store_error::{StoreError, StoreErrorKind};
pub use suppressions::{Suppression, Suppressions};
pub use tenant_data::{TenantAnswers, TenantData};
pub use tenant_records::{ErasedRecords, TenantExport, TenantRecords};
pub use waiting_items::{
    Attempts, Completer, DueCalls, Settled, Settlement, Stage, WaitingCall, WaitingChange,
    WaitingFilter, WaitingItem, WaitingItems,
};
pub use work_queue::{Enqueued, Leadership, Pause, PauseCause, WorkQueue};

#[cfg(any(test, feature = "mocks"))]
pub use self::{
    alerts::MockAlertChannel, alerts::MockAlerts, batch_reader::MockBatchReader,
    batch_store::MockBatchStore, chunk_queue::MockChunkQueue, clock::MockClock,
    config_database::MockConfigDatabase, deliveries::MockDeliveries, fence::MockFence,
    item_source::MockItemSource, operations::MockOperatorStore, operator_keys::MockOperatorKeys,
    preference_mirror::MockPreferenceMirror, provider_batches::MockProviderBatches,
    purpose_handler::MockPurposeHandler, result_sink::MockResultSink, retention::MockRetention,
    run_history::MockRunHistory, suppressions::MockSuppressions, tenant_data::MockTenantData,
    tenant_records::MockTenantRecords, waiting_items::MockCompleter,
    waiting_items::MockWaitingItems, work_queue::MockWorkQueue,
};
