//! One search over jobs, batches and tenants.

use punctual_domain::{Batch, ItemId, JobId, Mirror, TenantId};
use uuid::Uuid;

use super::{ONE, Operator, OperatorError};
use crate::ports::TenantRuns;

/// Tenants that are listed at most.
const MAX_TENANTS: usize = 20;

/// Tenants of a job that are looked through for the beginning of an id; the scheduler waits meanwhile. With more, only the whole
/// id is found.
const MAX_SEARCHED: usize = 1_000_000;

/// What matches a text.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Found {
    /// Jobs whose id or description contains it.
    pub jobs: Vec<JobId>,
    /// The batch with this id.
    pub batch: Option<Batch>,
    /// Tenants whose id begins with it: the first 20, of those that are scheduled, quarantined or have run.
    pub tenants: Vec<TenantId>,
    /// Whether there are more such tenants.
    pub more_tenants: bool,
}

impl Operator {
    /// What matches a text: jobs that contain it, the batch with this id, and tenants that begin with it. Upper and lower case
    /// are alike for jobs.
    ///
    /// # Errors
    /// The store fails.
    pub async fn search(&self, text: &str) -> Result<Found, OperatorError> {
        let text = text.trim();
        if text.is_empty() {
            return Ok(Found::default());
        }
        let lower = text.to_lowercase();
        let jobs = self.jobs.current();
        let contains = |value: &str| value.to_lowercase().contains(&lower);
        let matching = jobs.jobs.iter().filter(|job| {
            contains(job.job_id.as_str()) || job.description.as_deref().is_some_and(contains)
        });
        let batch = match text.parse::<Uuid>() {
            Ok(batch_id) => self.reader.batch(batch_id).await?,
            Err(_) => None,
        };
        let mut tenants = self.tenants_beginning(text).await?;
        let more_tenants = tenants.len() > MAX_TENANTS;
        tenants.truncate(MAX_TENANTS);
        Ok(Found {
            jobs: matching.map(|job| job.job_id.clone()).collect(),
            batch,
            tenants,
            more_tenants,
        })
    }

    /// Those whose id begins with a text: one more than are listed, if there are as many.
    async fn tenants_beginning(&self, text: &str) -> Result<Vec<TenantId>, OperatorError> {
        // No id begins with a text that is not one.
        let Ok(exact) = TenantId::new(text) else {
            return Ok(Vec::new());
        };
        let (status, begin, named) = (self.status.get(), text.to_owned(), exact.clone());
        let looked = tokio::task::spawn_blocking(move || {
            let mut found = std::collections::BTreeSet::new();
            for job in status.jobs.values() {
                found.extend(job.mirror.read(|mirror: &Mirror| {
                    let mut some = Vec::new();
                    if mirror.slot_of(&named).is_some() {
                        some.push(named.clone());
                    }
                    if mirror.len() <= MAX_SEARCHED {
                        some.extend(mirror.tenants_beginning(&begin, MAX_TENANTS + 1));
                    }
                    let quarantined = mirror.quarantine().keys();
                    let quarantined = quarantined.filter(|id| id.as_str().starts_with(&begin));
                    some.extend(quarantined.take(MAX_TENANTS + 1).cloned());
                    some
                }));
            }
            found
        });
        let mut found = looked
            .await
            .unwrap_or_else(|panic| std::panic::resume_unwind(panic.into_panic()));
        if !found.contains(&exact) {
            let runs = TenantRuns {
                item_id: ItemId::from(&exact),
                job_id: None,
                since: None,
            };
            if !self.reader.tenant_runs(&runs, &ONE).await?.0.is_empty() {
                found.insert(exact);
            }
        }
        Ok(found.into_iter().take(MAX_TENANTS + 1).collect())
    }
}
