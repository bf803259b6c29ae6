#![doc = include_str!("../README.md")]
#![warn(missing_docs)]

mod clients;
mod crash;
mod environment;
mod guard;
mod handlers;
mod json_file;
mod lateness;
mod project;
mod queue;
mod retry_after;
mod services;
mod sources;
mod spans;
mod storage;
mod strict_json;

pub use clients::{
    config_database_client::{ClientOptions, ConfigDatabaseClient},
    last_known_good::{FolderInUse, LastKnownGood},
};
pub use handlers::{
    chat::ChatHandler,
    endpoint::EndpointError,
    template::{RENDERER, TemplateError, TemplateHandler, Templates, render_in, serve},
    webhook::WebhookHandler,
};
pub use json_file::{FileError, FileErrors, JsonFile};
pub use project::Project;
pub use queue::worker::Worker;
pub use services::{
    batch_scheduler::{BatchScheduler, SchedulerOptions},
    delivery::Deliverer,
    dynamic_batch_scheduler::DynamicBatchScheduler,
};
pub use sources::Sources;
pub use storage::{Store, reader::SqlReader, sqlite::SqliteStore};
#[cfg(feature = "postgres")]
pub use storage::{
    postgres::PostgresStore,
    transfer::{Transferred, transfer},
};
