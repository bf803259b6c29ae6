//! From a chunk's ids to items: the tenant's merged preference as it stands now, or a plain job's record.

use std::collections::{BTreeMap, HashMap, HashSet};

use punctual_domain::{
    Chunk, DataConfig, FeatureType, Item, ItemId, ItemInput, ItemResult, ItemStatus, JobConfig,
    JobKind, MergedPreference, Occurrence, Preference, PreferenceRecord, PurposeId,
    SharedPreference, SkipReason, Source, TenantId, Trigger, Work,
};

use super::{EnhancedBatchProcessor, prepare_ahead::fingerprint};
use crate::services::{batch_processor::ProcessError, source_items::item_inputs};

pub(super) enum Prepared {
    Run(Item),
    Skip(ItemResult),
}

/// What the tenants of a chunk have in common.
#[derive(Clone, Copy)]
struct Asked<'a> {
    job: &'a JobConfig,
    chunk: &'a Chunk,
    feature_type: &'a FeatureType,
    /// Whether it is also for tenants whose preference is off.
    even_off: bool,
}

impl EnhancedBatchProcessor {
    /// What to do with each of a chunk's `ids`.
    pub(super) async fn prepare(
        &self,
        chunk: &Chunk,
        ids: &[ItemId],
    ) -> Result<Vec<Prepared>, ProcessError> {
        let jobs = self.jobs.current();
        let Some(job) = jobs.job(&chunk.job_id) else {
            return Ok(ids
                .iter()
                .map(|id| self.skip(id, SkipReason::JobRemoved, None))
                .collect());
        };
        self.prepare_all(job, chunk, ids, false).await
    }

    /// The same by this state of the job; with `even_off`, also for tenants whose preference is off.
    pub(super) async fn prepare_all(
        &self,
        job: &JobConfig,
        chunk: &Chunk,
        ids: &[ItemId],
        even_off: bool,
    ) -> Result<Vec<Prepared>, ProcessError> {
        if ids.is_empty() {
            return Ok(Vec::new());
        }
        match &job.work {
            Work::Preferences {
                feature_type,
                defaults,
                ..
            } => {
                // An aggregate has no preference; a job that was of another type may have one queued.
                let tenants: Vec<TenantId> = ids.iter().filter_map(ItemId::tenant).collect();
                let known = match &self.mirror {
                    Some(mirror) => mirror.preferences(&job.job_id, &tenants),
                    None => vec![None; tenants.len()],
                };
                let others: Vec<TenantId> = tenants
                    .iter()
                    .zip(&known)
                    .filter(|(_, known)| known.is_none())
                    .map(|(id, _)| id.clone())
                    .collect();
                let stored = if others.is_empty() {
                    HashMap::new()
                } else {
                    self.config_database
                        .preferences(feature_type, &others)
                        .await?
                };
                let asked = Asked {
                    job,
                    chunk,
                    feature_type,
                    even_off,
                };
                let prepare = |(id, known): (&TenantId, Option<SharedPreference>)| match known {
                    Some(merged) => self.prepare_merged(asked, id, merged),
                    None => self.prepare_tenant(asked, defaults, id, stored.get(id)),
                };
                let mut prepared: Vec<Prepared> = tenants.iter().zip(known).map(prepare).collect();
                let aggregates = ids.iter().filter(|id| id.is_aggregate());
                prepared.extend(aggregates.map(|id| self.skip(id, SkipReason::ItemRemoved, None)));
                let bound = self.base.handlers().of(&job.purpose_id);
                if bound.is_some_and(|bound| bound.binding.group_by_parameters) {
                    prepared.sort_by_cached_key(Prepared::parameters);
                }
                Ok(prepared)
            }
            Work::Fixed { sources, users, .. } => {
                let mut inputs = item_inputs(job.kind, self.item_source.load(sources).await?);
                let known = match users {
                    Some(users) => Some(self.users(users).await?),
                    None => None,
                };
                let is_known = |id: &ItemId| known.as_ref().is_none_or(|known| known.contains(id));
                let mut run = |id: &ItemId| match inputs.remove(id) {
                    Some(input) => Prepared::Run(item(job, chunk, id.clone(), input)),
                    None => self.skip(id, SkipReason::ItemRemoved, None),
                };
                if job.kind == JobKind::Individual {
                    let prepare = |id: &ItemId| {
                        if is_known(id) {
                            run(id)
                        } else {
                            self.skip(id, SkipReason::UnknownUser, None)
                        }
                    };
                    return Ok(ids.iter().map(prepare).collect());
                }
                // One run, whose result everybody gets; also those who are left after it was interrupted.
                let mut prepared = vec![run(&ItemId::aggregate())];
                let unknown = ids.iter().filter(|id| !id.is_aggregate() && !is_known(id));
                prepared.extend(unknown.map(|id| self.skip(id, SkipReason::UnknownUser, None)));
                Ok(prepared)
            }
        }
    }

    /// Adds the last successful run to items whose handler looks at it, or to all, if the data or the second purpose of the
    /// job does.
    pub(super) async fn add_previous(
        &self,
        chunk: &Chunk,
        job: Option<&JobConfig>,
        prepared: &mut [Prepared],
    ) -> Result<(), ProcessError> {
        let reads_previous = |purpose: &PurposeId| {
            let bound = self.base.handlers().of(purpose);
            bound.is_some_and(|bound| bound.binding.reads_previous)
        };
        let to_all = job.is_some_and(|job| {
            job.data.as_ref().is_some_and(DataConfig::reads_previous)
                || job.then.as_ref().is_some_and(reads_previous)
        });
        let mut items: Vec<&mut Item> = prepared
            .iter_mut()
            .filter_map(Prepared::item)
            .filter(|item| to_all || reads_previous(&item.purpose_id))
            .collect();
        if items.is_empty() {
            return Ok(());
        }
        let ids: Vec<ItemId> = items.iter().map(|item| item.item_id.clone()).collect();
        let previous = self.base.previous(chunk, &ids).await?;
        for item in &mut items {
            item.previous = previous.get(&item.item_id).copied();
        }
        Ok(())
    }

    /// The ids of a job's list of users.
    async fn users(&self, users: &Source) -> Result<HashSet<ItemId>, ProcessError> {
        let sources = BTreeMap::from([("users".to_owned(), users.clone())]);
        let loaded = self.item_source.load(&sources).await?;
        Ok(loaded.into_values().flatten().map(|item| item.id).collect())
    }

    fn prepare_tenant(
        &self,
        asked: Asked<'_>,
        defaults: &Preference,
        tenant: &TenantId,
        record: Option<&PreferenceRecord>,
    ) -> Prepared {
        let chunk = asked.chunk;
        let asked_for = matches!(chunk.run_of_items(), Occurrence::Run(_))
            || matches!(chunk.trigger, Trigger::Backfill | Trigger::Replay);
        let merged = match record {
            Some(record) => Preference::parse(&record.preference)
                .and_then(|stored| MergedPreference::merge(&stored, defaults, &self.default_zone))
                .map(|merged| merged.of_organization(record.organization.clone())),
            None if asked_for && chunk.allow_unknown => {
                MergedPreference::of_defaults(defaults, &self.default_zone)
            }
            None => return self.skip(&tenant.into(), SkipReason::Deleted, None),
        };
        match merged {
            Err(errors) => {
                let detail = errors.to_string();
                self.skip(&tenant.into(), SkipReason::Invalid, Some(&detail))
            }
            Ok(merged) => self.prepare_merged(asked, tenant, merged.into()),
        }
    }

    fn prepare_merged(
        &self,
        asked: Asked<'_>,
        tenant: &TenantId,
        effective: SharedPreference,
    ) -> Prepared {
        let Asked {
            job,
            chunk,
            feature_type,
            even_off,
        } = asked;
        let id = ItemId::from(tenant);
        if !effective.enabled && !even_off {
            return self.skip(&id, SkipReason::Disabled, None);
        }
        if !self.is_due(job, chunk, tenant, &effective) {
            return self.skip(&id, SkipReason::Rescheduled, None);
        }
        let input = ItemInput::Preference {
            feature_type: feature_type.clone(),
            effective,
        };
        Prepared::Run(item(job, chunk, id, input))
    }

    /// Whether the preference still has the chunk's occurrence by now. Manual runs and replays are due anyway.
    fn is_due(
        &self,
        job: &JobConfig,
        chunk: &Chunk,
        tenant: &TenantId,
        merged: &MergedPreference,
    ) -> bool {
        let is_manual = matches!(chunk.run_of_items(), Occurrence::Run(_));
        if is_manual || chunk.trigger == Trigger::Replay {
            return true;
        }
        let due = merged.slot.instant_of(chunk.run_of_items());
        let due = due.map(|due| due + job.work.spread_of(tenant));
        if chunk.prepares.is_some() {
            // What is due by now runs, or has run; what is due later than planned is planned again.
            let now = self.now();
            let is_over = chunk.is_expired(now);
            return due.is_some_and(|due| due <= chunk.scheduled_at && (due > now || is_over));
        }
        // What was due for the process that planned it is due for one whose clock is behind.
        let now = self.now().max(chunk.scheduled_at);
        due.is_some_and(|due| due <= now)
    }

    /// What to do with an item that was prepared a while ago, by the tenant's preference as it stands now. While it
    /// cannot be read, by what is known.
    pub(super) async fn prepare_again(&self, chunk: &Chunk, item: Item) -> Prepared {
        if item.preference().is_none() {
            return Prepared::Run(item);
        }
        let prepared = self.prepare(chunk, std::slice::from_ref(&item.item_id));
        let prepared = prepared.await.ok();
        match prepared.and_then(|prepared| prepared.into_iter().next()) {
            Some(Prepared::Run(fresh)) => Prepared::Run(Item {
                // What the first of two purposes has written stays as it is.
                purpose_id: match item.written {
                    Some(_) => item.purpose_id,
                    None => fresh.purpose_id,
                },
                written: item.written,
                fetched: item.fetched,
                previous: item.previous,
                attempt: item.attempt,
                ..fresh
            }),
            Some(skip) => skip,
            None => Prepared::Run(item),
        }
    }

    /// The result of an item that is not run.
    pub(super) fn skipped(&self, id: &ItemId, reason: SkipReason) -> ItemResult {
        let now = self.now();
        ItemResult {
            item_id: id.clone(),
            status: ItemStatus::Skipped,
            failure_kind: None,
            attempts: 0,
            preference: None,
            output: None,
            error: Some(reason.as_str().to_owned()),
            started_at: now,
            finished_at: Some(now),
            waiting: None,
        }
    }

    fn skip(&self, id: &ItemId, reason: SkipReason, detail: Option<&str>) -> Prepared {
        let mut result = self.skipped(id, reason);
        if let Some(detail) = detail {
            result.error = Some(format!("{}: {detail}", reason.as_str()));
        }
        Prepared::Skip(result)
    }
}

impl Prepared {
    /// Who has an outcome of their own beside the aggregate's.
    pub(super) fn skipped(&self) -> Option<&ItemId> {
        match self {
            Self::Skip(result) if !result.item_id.is_aggregate() => Some(&result.item_id),
            Self::Skip(_) | Self::Run(_) => None,
        }
    }

    /// The item, if it is to run.
    pub(super) fn to_run(&self) -> Option<&Item> {
        match self {
            Self::Run(item) => Some(item),
            Self::Skip(_) => None,
        }
    }

    /// The item that is to run, to be completed.
    pub(super) fn item(&mut self) -> Option<&mut Item> {
        match self {
            Self::Run(item) => Some(item),
            Self::Skip(_) => None,
        }
    }

    /// What tells items with equal parameters from others.
    fn parameters(&self) -> Option<String> {
        let Self::Run(item) = self else { return None };
        let overrides = item.overrides()?;
        serde_json::to_string(overrides).ok()
    }
}

fn item(job: &JobConfig, chunk: &Chunk, item_id: ItemId, input: ItemInput) -> Item {
    Item {
        item_id,
        job_id: job.job_id.clone(),
        purpose_id: job.purpose_id.clone(),
        batch_id: chunk.batch_id,
        occurrence: chunk.run_of_items(),
        scheduled_at: chunk.scheduled_at,
        prepares: chunk
            .prepares
            .and_then(|_| fingerprint(&job.purpose_id, &input)),
        input,
        fetched: None,
        previous: None,
        written: None,
        attempt: 1,
        key_form: chunk.key_form,
        completion: None,
    }
}
