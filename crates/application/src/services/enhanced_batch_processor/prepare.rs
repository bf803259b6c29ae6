//! From a chunk's ids to items: the tenant's merged preference as it stands now, or a plain job's record.

use punctual_domain::{
    Chunk, FeatureType, Item, ItemResult, ItemStatus, JobConfig, MergedPreference, Occurrence,
    Preference, PreferenceRecord, SkipReason, TenantId, Work,
};

use super::EnhancedBatchProcessor;
use crate::services::{batch_processor::ProcessError, source_items::item_data};

pub(super) enum Prepared {
    Run(Item),
    Skip(ItemResult),
}

impl EnhancedBatchProcessor {
    /// What to do with each of a chunk's `ids`.
    pub(super) async fn prepare(
        &self,
        chunk: &Chunk,
        ids: &[TenantId],
    ) -> Result<Vec<Prepared>, ProcessError> {
        if ids.is_empty() {
            return Ok(Vec::new());
        }
        let jobs = self.jobs.current();
        let Some(job) = jobs.job(&chunk.job_id) else {
            return Ok(ids
                .iter()
                .map(|id| self.skip(id, SkipReason::JobRemoved, None))
                .collect());
        };
        match &job.work {
            Work::Preferences {
                feature_type,
                defaults,
                ..
            } => {
                let stored = self.config_database.preferences(feature_type, ids).await?;
                let prepare = |id| {
                    self.prepare_tenant(job, chunk, feature_type, defaults, id, stored.get(id))
                };
                Ok(ids.iter().map(prepare).collect())
            }
            Work::Fixed { sources, .. } => {
                let records = item_data(job.kind, self.item_source.load(sources).await?);
                let prepare = |id: &TenantId| match records.get(id.as_str()) {
                    Some(data) => Prepared::Run(Item {
                        data: Some(data.clone()),
                        ..item(job, chunk, id.clone())
                    }),
                    None => self.skip(id, SkipReason::ItemRemoved, None),
                };
                Ok(ids.iter().map(prepare).collect())
            }
        }
    }

    fn prepare_tenant(
        &self,
        job: &JobConfig,
        chunk: &Chunk,
        feature_type: &FeatureType,
        defaults: &Preference,
        tenant: &TenantId,
        record: Option<&PreferenceRecord>,
    ) -> Prepared {
        let merged = match (record, chunk.occurrence) {
            (Some(record), _) => Preference::parse(&record.preference)
                .and_then(|stored| MergedPreference::merge(&stored, defaults, &self.default_zone)),
            (None, Occurrence::Run(_)) => {
                MergedPreference::of_defaults(defaults, &self.default_zone)
            }
            (None, _) => return self.skip(tenant, SkipReason::Deleted, None),
        };
        match merged {
            Err(errors) => self.skip(tenant, SkipReason::Invalid, Some(&errors.to_string())),
            Ok(merged) if !merged.enabled => self.skip(tenant, SkipReason::Disabled, None),
            Ok(merged) => Prepared::Run(Item {
                feature_type: Some(feature_type.clone()),
                preference: Some(merged.to_json()),
                ..item(job, chunk, tenant.clone())
            }),
        }
    }

    fn skip(&self, tenant: &TenantId, reason: SkipReason, detail: Option<&str>) -> Prepared {
        let now = self.base.clock().now();
        let reason = reason.as_str();
        Prepared::Skip(ItemResult {
            tenant_id: tenant.clone(),
            status: ItemStatus::Skipped,
            attempts: 0,
            preference: None,
            output: None,
            error: Some(detail.map_or(reason.to_owned(), |detail| format!("{reason}: {detail}"))),
            started_at: now,
            finished_at: Some(now),
        })
    }
}

fn item(job: &JobConfig, chunk: &Chunk, tenant_id: TenantId) -> Item {
    Item {
        tenant_id,
        job_id: job.job_id.clone(),
        purpose_id: job.purpose_id.clone(),
        feature_type: None,
        batch_id: chunk.batch_id,
        occurrence: chunk.occurrence,
        scheduled_at: chunk.scheduled_at,
        preference: None,
        data: None,
        attempt: 1,
    }
}
