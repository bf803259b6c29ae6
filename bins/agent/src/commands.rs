//! The commands, and how they end.

pub(crate) mod alerts;
pub(crate) mod backup;
pub(crate) mod batches;
pub(crate) mod check;
pub(crate) mod dead_letters;
pub(crate) mod explain;
pub(crate) mod init;
pub(crate) mod jobs;
pub(crate) mod keys;
pub(crate) mod lists;
pub(crate) mod move_store;
pub(crate) mod preview;
pub(crate) mod reference;
pub(crate) mod restore;
pub(crate) mod results;
pub(crate) mod retention;
pub(crate) mod run;
pub(crate) mod shell;
pub(crate) mod simulate;
pub(crate) mod start;
pub(crate) mod status;
pub(crate) mod suppressions;
pub(crate) mod tenants;
pub(crate) mod waiting;
pub(crate) mod zones;

use std::{fmt, process::ExitCode};

/// Why a command did not do what was asked.
#[derive(Debug)]
pub(crate) enum Failure {
    /// It could not be done: exit code 1.
    Failed(String),
    /// What was given cannot be used: exit code 2.
    BadInput(String),
    /// What was asked for was found out, and printed, and is not good: exit code 1.
    Shown,
}

impl Failure {
    pub(crate) fn failed(error: impl fmt::Display) -> Self {
        Self::Failed(error.to_string())
    }

    pub(crate) fn bad_input(error: impl fmt::Display) -> Self {
        Self::BadInput(error.to_string())
    }

    pub(crate) fn exit_code(&self) -> ExitCode {
        match self {
            Self::Failed(_) | Self::Shown => ExitCode::from(1),
            Self::BadInput(_) => ExitCode::from(2),
        }
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Failed(message) | Self::BadInput(message) => write!(f, "error: {message}"),
            Self::Shown => Ok(()),
        }
    }
}
