#![doc = include_str!("../README.md")]
#![warn(missing_docs)]

mod embedding;
mod http;
mod import;
mod json;
mod keys;
mod layers;
mod links;
mod names;
mod past_runs;
mod plan;
mod port;
mod sentence;
mod server;
mod store;
mod texts;
mod validate;

/// Crates and types that stand in signatures.
pub use axum;
pub use punctual_application::ports::{
    PastRun, RunHistory, RunHistoryError, RunHistoryErrorKind, RunOutcome,
};
pub use tokio_util::sync::CancellationToken;

pub use embedding::{Embedding, EmbeddingSettings, InvalidEmbedding};
pub use http::{Caller, description};
pub use import::{ImportReport, RejectedLine};
pub use keys::{InvalidScope, Scope};
pub use names::ServerSettingNames;
pub use port::PutError;
pub use punctual_web::Access;
pub use server::{Server, ServerError, ServerSettings};
pub use store::{
    ApiKey, ConfigStore, Erased, Erasure, Expiring, InvalidReason, KeyError, NewKey, Reason,
    StoreError, TenantExport,
};
