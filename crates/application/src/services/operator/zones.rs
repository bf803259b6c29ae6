//! Which time zones are in use, and by which tenants.

use std::collections::BTreeMap;

use punctual_domain::{FeatureType, JobId, MergedPreference, Mirror, Slot, TenantId};
use serde::{Deserialize, Serialize};
use serde_json::Value;

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

/// Tenants of a job who have chosen the same times in a time zone.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct ScheduleInZone {
    /// The job.
    pub job_id: JobId,
    /// What they have chosen, as the fields of a preference that say when.
    pub preference: Value,
    /// Number of tenants.
    pub tenants: usize,
    /// Some of them, in no order.
    pub named: Vec<TenantInZone>,
}

/// A tenant who is scheduled in a time zone.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct TenantInZone {
    /// The tenant.
    pub tenant_id: TenantId,
    /// Minutes by which the job runs for the tenant after the chosen time.
    pub spread_minutes: i64,
}

/// How many tenants of a zone are named at most: some megabytes of an answer.
const MAX_NAMED: usize = 100_000;

impl Operator {
    /// Who is scheduled in the zone of this name, by job and time, with the ids of up to `named` tenants of each time, and of
    /// 100,000 tenants in all.
    pub async fn schedules_in_zone(&self, zone: String, named: usize) -> Vec<ScheduleInZone> {
        let status = self.status.get();
        let found = tokio::task::spawn_blocking(move || {
            let jobs: BTreeMap<&JobId, _> = status
                .jobs
                .iter()
                .map(|(job_id, job)| (job_id, &job.mirror))
                .collect();
            let mut schedules = Vec::new();
            let mut left = MAX_NAMED;
            for (job_id, mirror) in jobs {
                mirror.read(|mirror| {
                    let slots = mirror.slots_in_zone(&zone, named, left).into_iter();
                    schedules.extend(slots.map(|(slot, tenants, named)| {
                        left -= named.len();
                        ScheduleInZone {
                            job_id: job_id.clone(),
                            preference: when(slot),
                            tenants,
                            named: with_spread(mirror, named),
                        }
                    }));
                });
            }
            schedules
        });
        found
            .await
            .unwrap_or_else(|panic| std::panic::resume_unwind(panic.into_panic()))
    }

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

/// The fields of a preference that say when.
fn when(slot: Slot) -> Value {
    let mut preference = MergedPreference::of_slot(slot).to_json();
    if let Some(fields) = preference.as_object_mut() {
        fields.remove("template_overrides");
    }
    preference
}

fn with_spread(mirror: &Mirror, tenants: Vec<TenantId>) -> Vec<TenantInZone> {
    let tenant = |tenant_id: TenantId| TenantInZone {
        spread_minutes: mirror.spread_of(&tenant_id).num_minutes(),
        tenant_id,
    };
    tenants.into_iter().map(tenant).collect()
}
