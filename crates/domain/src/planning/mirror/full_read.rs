//! The state of a full read that comes in pages.

use std::collections::BTreeSet;

use crate::ids::TenantId;

/// A full read that has begun.
#[derive(Debug, Default)]
pub(super) struct FullRead {
    /// Those who were in the quarantine before it, and have not come yet.
    pub(super) quarantined: BTreeSet<TenantId>,
    /// Number of tenants that its pages have changed.
    pub(super) changed: usize,
}
