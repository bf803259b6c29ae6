//! The ports: what the use cases need from outside, each a trait with an error of its own. An adapter never
//! appears in a port's signature; an `if` about dates or preferences never appears in an adapter.

mod batch_store;
mod clock;
mod config_database;
mod item_source;
mod purpose_handler;
mod work_queue;

pub use batch_store::{
    BatchFilter, BatchStore, Page, ResultFilter, StoreError, StoredResult, TenantRuns,
};
pub use clock::{Clock, SystemClock};
pub use config_database::{
    ChangePage, ConfigDatabase, ConfigDatabaseError, ConfigErrorKind, Cursor, Snapshot,
};
pub use item_source::{ItemSource, ItemSourceError, SourceItem};
pub use purpose_handler::{HandlerError, PurposeHandler};
pub use work_queue::{Enqueued, WorkQueue};

#[cfg(any(test, feature = "mocks"))]
pub use self::{
    batch_store::MockBatchStore, clock::MockClock, config_database::MockConfigDatabase,
    item_source::MockItemSource, purpose_handler::MockPurposeHandler, work_queue::MockWorkQueue,
};
