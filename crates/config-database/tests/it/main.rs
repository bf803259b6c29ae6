//! The Config Database over HTTP, on a real SQLite file.

mod access;
mod api;
mod feed;
mod server;
