#![doc = include_str!("../README.md")]
#![warn(missing_docs)]

mod builder;
mod items;
mod job;
mod no_preferences;
mod running;
#[cfg(feature = "testing")]
pub mod testing;

pub use builder::{Builder, StartError};
pub use job::Job;
pub use running::Punctual;

pub use punctual_application::{
    ActiveFailures, Actor, Binding, Handlers, IdempotencyKey, Jobs, Operator, OperatorError,
    PurposeLimits, StatusHandle, TriggerRequest, TriggeredBatch,
    ports::{
        BatchFilter, BatchReader, ChangePage, Clock, ConfigDatabase, ConfigDatabaseError,
        ConfigErrorKind, Cursor, DeadLetterFilter, HandlerError, ItemSource, ItemSourceError, Page,
        PurposeHandler, ResultSink, SinkError, Snapshot, StoreError, StoredResult, SystemClock,
        TenantRuns,
    },
};
pub use punctual_domain::{
    Batch, BatchConfig, Change, ChangeKind, FeatureType, FieldError, FieldErrors, Item, ItemResult,
    ItemStatus, JobConfig, JobId, MergedPreference, Occurrence, Preference, PreferenceRecord,
    PurposeId, Slot, TenantId, Trigger, Zone,
};
pub use punctual_infrastructure::{ClientOptions, ConfigDatabaseClient, LastKnownGood, Project};
#[cfg(feature = "operations")]
pub use punctual_operations::{Access, Metrics};
