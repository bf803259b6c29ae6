#![doc = include_str!("../README.md")]
#![warn(missing_docs)]

mod http;
mod import;
mod json;
mod keys;
mod names;
mod port;
mod server;
mod store;
mod validate;

pub use http::description;
pub use import::{ImportReport, RejectedLine};
pub use keys::{InvalidScope, Scope};
pub use names::ServerSettingNames;
pub use port::PutError;
pub use server::{Server, ServerError, ServerSettings};
pub use store::{ApiKey, ConfigStore, KeyError, NewKey, StoreError};
