//! A tenant's organization: a customer company with several users, whose preferences stand between those of the tenant and
//! the job's defaults. The Config Database merges them when it stores, and says of each preference what came from there.

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use crate::ids::OrganizationId;

/// A tenant's organization, and which fields of the preference came from its layer.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Membership {
    /// The organization.
    pub id: OrganizationId,
    /// Fields of the preference that the organization's layer gave, sorted.
    #[serde(default)]
    pub fields: Vec<String>,
}

impl Membership {
    /// The same, with the fields that `preference` has, sorted, each once: what else a server names is not kept.
    #[must_use]
    pub fn of(mut self, preference: &Map<String, Value>) -> Self {
        self.fields.retain(|name| preference.contains_key(name));
        self.fields.sort();
        self.fields.dedup();
        self
    }

    /// Whether a field of the preference came from the organization's layer.
    #[must_use]
    pub fn gave(&self, field: &str) -> bool {
        self.fields.iter().any(|name| name == field)
    }
}
