#![doc = include_str!("../README.md")]
#![warn(missing_docs)]

mod batch_config;
mod data;
mod json_file;
mod purposes;
mod source;

pub use batch_config::{parse_batch_config, readable_jobs};
pub use json_file::{FileError, FileErrors, JsonFile};
pub use purposes::{Purpose, parse_purposes};
