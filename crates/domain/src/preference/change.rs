//! What the Config Database tells us: a tenant's preference as it is stored now, and the feed of changes.

use std::sync::Arc;

use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use super::organization::Membership;
use crate::ids::{FeatureType, TenantId};

/// A tenant's stored preference for one feature, not yet checked: the mirror quarantines what is invalid.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct PreferenceRecord {
    /// Tenant that the preference belongs to.
    pub tenant_id: TenantId,
    /// The preference object as it is stored.
    pub preference: Arc<Map<String, Value>>,
    /// When it was stored; `None` counts as long ago.
    pub updated_at: Option<DateTime<Utc>>,
    /// Since when the fields that say *when* (`enabled`, frequency, time, day, zone) have been as they are;
    /// `None`: the server does not say.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub schedule_since: Option<DateTime<Utc>>,
    /// The tenant's organization, whose layer the preference contains; `None`: the tenant belongs to none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub organization: Option<Arc<Membership>>,
}

/// One entry of the feed of changes.
#[derive(Debug, Clone, PartialEq)]
pub struct Change {
    /// Tenant whose preference changed.
    pub tenant_id: TenantId,
    /// Feature of the preference.
    pub feature_type: FeatureType,
    /// State of the preference after the change.
    pub kind: ChangeKind,
    /// When it changed; `None` when the server does not say.
    pub changed_at: Option<DateTime<Utc>>,
    /// Since when the fields that say *when* have been as they are; `None`: the server does not say.
    pub schedule_since: Option<DateTime<Utc>>,
    /// The tenant's organization; `None`: the tenant belongs to none, or the preference is gone.
    pub organization: Option<Arc<Membership>>,
}

/// State of a preference after a change.
#[derive(Debug, Clone, PartialEq)]
pub enum ChangeKind {
    /// Stored anew, or changed, to this object.
    Upserted(Arc<Map<String, Value>>),
    /// Gone.
    Deleted,
    /// Gone, with everything that was held of the tenant: what is held of the tenant elsewhere is to be erased as well.
    Erased,
}
