//! The ports: what the use cases need from outside, each a trait with an error of its own. An adapter never
//! appears in a port's signature; an `if` about dates or preferences never appears in an adapter.

mod batch_reader;
mod batch_store;
mod cause;
mod clock;
mod config_database;
mod deliveries;
mod item_source;
mod operations;
mod preference_mirror;
mod purpose_handler;
mod result_sink;
mod store_error;
mod work_queue;

pub use batch_reader::{
    BatchFilter, BatchReader, DeadLetterFilter, Page, Paged, ResultFilter, StoredResult, TenantRuns,
};
pub use batch_store::{BatchStore, Claim, Claimant, Committed};
pub use cause::error_chain;
pub use clock::{Clock, SystemClock};
pub use config_database::{
    ChangePage, ConfigDatabase, ConfigDatabaseError, ConfigErrorKind, Cursor, Snapshot, Unreadable,
};
pub use deliveries::{Deliveries, DueDelivery};
pub use item_source::{ItemSource, ItemSourceError, ItemSourceErrorKind, SourceItem};
pub use operations::{
    Activity, AuditEntry, FailingDeliveries, NewRequest, Operations, Request, Working,
};
pub use preference_mirror::PreferenceMirror;
pub use purpose_handler::{HandlerError, HandlerErrorKind, PurposeHandler};
pub use result_sink::{ResultSink, SinkError};
pub use store_error::{StoreError, StoreErrorKind};
pub use work_queue::{Enqueued, Leadership, WorkQueue};

#[cfg(any(test, feature = "mocks"))]
pub use self::{
    batch_reader::MockBatchReader, batch_store::MockBatchStore, clock::MockClock,
    config_database::MockConfigDatabase, deliveries::MockDeliveries, item_source::MockItemSource,
    operations::MockOperations, preference_mirror::MockPreferenceMirror,
    purpose_handler::MockPurposeHandler, result_sink::MockResultSink, work_queue::MockWorkQueue,
};
