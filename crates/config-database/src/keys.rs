//! What API keys may do.

use std::{fmt, str::FromStr};

use serde::{Deserialize, Serialize};

/// What a key may do; each includes the ones before it.
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, utoipa::ToSchema,
)]
#[serde(rename_all = "lowercase")]
pub enum Scope {
    /// Read preferences and changes.
    Read,
    /// Publish what jobs make of what a preference leaves out: what an agent needs beside.
    Agent,
    /// Store and remove configurations.
    Write,
    /// Import, make keys, and decide what overrides may be.
    Admin,
}

/// A word that is not a scope.
#[derive(Debug, Clone, thiserror::Error)]
#[error("invalid scope `{0}`; use one of read, agent, write, admin")]
pub struct InvalidScope(String);

impl FromStr for Scope {
    type Err = InvalidScope;

    fn from_str(word: &str) -> Result<Self, InvalidScope> {
        match word {
            "read" => Ok(Self::Read),
            "agent" => Ok(Self::Agent),
            "write" => Ok(Self::Write),
            "admin" => Ok(Self::Admin),
            other => Err(InvalidScope(other.to_owned())),
        }
    }
}

impl fmt::Display for Scope {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Read => "read",
            Self::Agent => "agent",
            Self::Write => "write",
            Self::Admin => "admin",
        })
    }
}
