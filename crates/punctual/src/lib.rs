#![doc = include_str!("../README.md")]
#![warn(missing_docs)]

mod alerts;
mod builder;
mod data;
mod items;
mod job;
mod no_preferences;
mod running;
#[cfg(feature = "testing")]
pub mod testing;

pub use builder::{Builder, ChosenStore, StartError};
pub use job::Job;
pub use running::Punctual;

/// Crates whose types stand in signatures.
#[cfg(feature = "operations")]
pub use axum;
pub use chrono;

pub use punctual_application::{
    ActiveFailures, Actor, AlertAnswer, AlertTestReport, AlertWords, BackfillReport,
    BackfillRequest, Binding, DeadLetterSelection, DiscardReport, Explanation, Finding,
    FindingKind, Findings, Handlers, IdempotencyKey, JobView, Jobs, Operator, OperatorError,
    Preview, PreviewContent, PreviewRequest, PreviewStatus, PreviewThen, PurposeLimits,
    ReplayReport, RestoreReport, RestoredStore, Role, RunPreparation, Severity, StatusHandle,
    SuppressReport, SuppressRequest, TriggerRequest, TriggeredBatch,
    ports::{
        Alert, AlertAgent, AlertChannel, AlertDelivery, AlertDeliveryState, AlertError,
        AlertFinding, AlertKind, Attempts, BatchFilter, BatchReader, ChangePage, Clock, Completer,
        ConfigDatabase, ConfigDatabaseError, ConfigErrorKind, Cursor, DeadLetterFilter,
        ErasedTenant, HandlerError, HandlerErrorKind, ItemSource, ItemSourceError,
        ItemSourceErrorKind, Page, PastRun, PurposeHandler, Rendered, ResultSink, RunHistory,
        RunHistoryError, RunHistoryErrorKind, RunOutcome, Settled, SinkError, Snapshot,
        SnapshotPages, SourceItem, Stage, StoreError, StoreErrorKind, StoredAlert, StoredResult,
        Suppression, SystemClock, TenantAnswers, TenantData, TenantRuns, Unreadable, WaitingCall,
    },
};
pub use punctual_domain::{
    AfterRestore, AtDeadline, Batch, BatchConfig, BatchStatus, Change, ChangeKind, Completion,
    DataRequest, DataSource, DataTenant, DeadLetter, DeadLetterState, EmailAddress, FailureKind,
    FeatureType, FieldError, FieldErrors, Fields, Fingerprint, Invalid, InvalidId, InvalidWord,
    Item, ItemId, ItemInput, ItemResult, ItemStatus, JobConfig, JobId, Location, Membership,
    MergedPreference, Occurrence, OrganizationId, Outcome, Preference, PreferenceRecord, Previous,
    Priority, Progress, PurposeId, RestoreChoice, RestoreGap, Shard, ShardAssignment, Sharding,
    SkipReason, Slot, Source, TenantId, Trigger, Waiting, WaitingStatus, Zone, ZoneRules, values,
};
#[cfg(feature = "http")]
pub use punctual_infrastructure::{
    ClientOptions, ClientSettingNames, ConfigDatabaseClient, HandlerKind, HandlerKinds, Project,
    WebhookAlerts,
};
pub use punctual_infrastructure::{LastKnownGood, ZoneFolderError, read_zone_folder};
#[cfg(feature = "operations")]
pub use punctual_operations::{Access, Metrics, Operations, SignIn, Words};
pub use punctual_project::{FileError, FileErrors};
pub use punctual_store::{HostConnection, Store, sqlx};
