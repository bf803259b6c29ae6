//! The Config Database client against real local HTTP servers.

mod misbehaving_servers;
mod plain_server;
mod server;
