//! Which time zones are in use, and by how many tenants.

use std::collections::BTreeMap;

use punctual_domain::{FeatureType, Mirror};
use serde::{Deserialize, Serialize};

use super::Operator;

/// A time zone that tenants are scheduled in.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct ZoneInUse {
    /// Name of the zone.
    pub zone: String,
    /// Number of tenants who are scheduled in it, by feature. Of a feature with several jobs, one job's.
    #[cfg_attr(feature = "openapi", schema(value_type = BTreeMap<String, usize>))]
    pub tenants: BTreeMap<FeatureType, usize>,
}

impl Operator {
    /// The zones in use, by name.
    pub async fn zones(&self) -> Vec<ZoneInUse> {
        let status = self.status.get();
        let counted = tokio::task::spawn_blocking(move || {
            let mirrors: BTreeMap<&FeatureType, _> = status
                .jobs
                .values()
                .map(|job| (&job.feature_type, &job.mirror))
                .collect();
            let mut zones: BTreeMap<String, BTreeMap<FeatureType, usize>> = BTreeMap::new();
            for (feature_type, mirror) in mirrors {
                for (slot, _, tenants) in mirror.read(Mirror::groups) {
                    let of_zone = zones.entry(slot.zone.name().to_owned()).or_default();
                    *of_zone.entry(feature_type.clone()).or_default() += tenants;
                }
            }
            let zones = zones.into_iter();
            zones
                .map(|(zone, tenants)| ZoneInUse { zone, tenants })
                .collect()
        });
        counted
            .await
            .unwrap_or_else(|panic| std::panic::resume_unwind(panic.into_panic()))
    }
}
