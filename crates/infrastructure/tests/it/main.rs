//! The adapters against real local servers and files.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on has failed")]
#![expect(
    clippy::disallowed_methods,
    reason = "these tests run in real time against real processes"
)]

mod client_cache;
mod contract;
mod email;
mod endpoint;
mod misbehaving_servers;
mod plain_server;
mod preview;
mod provider_batches;
mod server;
mod tenant_data;
mod wire;
mod worker;
