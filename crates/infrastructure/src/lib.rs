#![doc = include_str!("../README.md")]
#![warn(missing_docs)]

mod clients;
#[cfg(feature = "http")]
mod environment;
mod guard;
#[cfg(feature = "http")]
mod handlers;
mod lateness;
#[cfg(feature = "http")]
mod outbound;
#[cfg(feature = "http")]
mod project;
mod queue;
#[cfg(feature = "http")]
mod retry_after;
mod services;
#[cfg(feature = "http")]
mod sources;
mod spans;
#[cfg(feature = "http")]
mod strict_json;
#[cfg(feature = "http")]
mod tenant_data;
mod zone_folder;

pub use clients::last_known_good::{FolderInUse, LastKnownGood};
#[cfg(feature = "http")]
pub use clients::liveness::{check_alive, from_here};
pub use clients::of_shards::OfShards;
#[cfg(feature = "http")]
pub use clients::{
    agent_client::{AgentClient, AgentClientOptions, AgentSettingNames},
    config_database_client::{ClientOptions, ClientSettingNames, ConfigDatabaseClient},
};
pub use guard::Guarded;
#[cfg(feature = "http")]
pub use handlers::{
    HandlerKind, HandlerKinds,
    chat::{ChatBatchConfig, ChatConfig, ChatHandler, ChatProvider},
    template::{RENDERER, TemplateError, TemplateHandler, Templates, render_in, serve},
    webhook::WebhookHandler,
};
#[cfg(feature = "http")]
pub use outbound::{EndpointError, client_builder};
#[cfg(feature = "http")]
pub use project::{Project, Review};
pub use queue::worker::Worker;
#[cfg(feature = "http")]
pub use services::alerts::{EmailAlerts, WebhookAlerts};
pub use services::{
    alerts::AlertService,
    batch_scheduler::{BatchScheduler, SchedulerOptions},
    delivery::Deliverer,
    dynamic_batch_scheduler::DynamicBatchScheduler,
    fence_keeper::FenceKeeper,
    publisher::Publisher,
    retention_service::RetentionService,
    waiting_service::{WaitingService, note_settled},
};
#[cfg(feature = "http")]
pub use sources::Sources;
#[cfg(feature = "http")]
pub use tenant_data::HttpTenantData;
pub use zone_folder::{ZoneFolderError, ZoneFolderWatcher, log_zone_rules, read_zone_folder};
