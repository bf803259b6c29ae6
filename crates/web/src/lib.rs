#![doc = include_str!("../README.md")]
#![warn(missing_docs)]

mod access;
mod empty;
pub mod format;
mod guesses;
pub mod health;
pub mod key;
pub mod origin;
pub mod page;
pub mod problem;
pub mod process;
#[cfg(feature = "program")]
pub mod question;
pub mod reason;
mod serve;
#[cfg(feature = "program")]
pub mod service_manager;
pub mod session;
#[cfg(feature = "program")]
pub mod shell;
#[cfg(feature = "testing")]
pub mod testing;
mod words;

pub use access::{Access, Peer};
pub use empty::Empty;
pub use guesses::{Attempt, Guesses};
pub use page::{OtherWay, Site};
pub use problem::{Problem, ProblemBody};
pub use serve::serve;
pub use words::{OwnName, PageWords, ProblemWords};
