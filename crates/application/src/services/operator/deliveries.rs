//! Deliveries that failed: where they go, why they fail, and another try.

use std::collections::{BTreeMap, BTreeSet};

use chrono::{DateTime, Utc};
use punctual_domain::{Delivery, JobId};
use serde::{Deserialize, Serialize};
use tracing::info;
use uuid::Uuid;

use super::{
    Actor, IdempotencyKey, Operator, OperatorError, amount, changed, given, idempotency::Attempt,
};
use crate::ports::{
    DeliveryFilter, FailingDeliveries, Page, Redelivery, StoreError, StoredDelivery,
};

/// Deliveries that are read at once.
const DELIVERIES_PER_PAGE: u32 = 1_000;

/// Selection of deliveries that failed: one, or all of a batch or a job, or all there are.
#[derive(Debug, Clone, Default, Deserialize, Serialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(deny_unknown_fields)]
pub struct DeliverySelection {
    /// This delivery.
    #[serde(default, deserialize_with = "given")]
    #[cfg_attr(feature = "openapi", schema(value_type = i64))]
    pub id: Option<i64>,
    /// All deliveries of this job that fail, as the findings report them: those that have failed at least twice in a row, and those
    /// that were given up, of batches of the last seven days.
    #[serde(default, deserialize_with = "given")]
    #[cfg_attr(feature = "openapi", schema(value_type = JobId))]
    pub job_id: Option<JobId>,
    /// All failed deliveries of this batch.
    #[serde(default, deserialize_with = "given")]
    #[cfg_attr(feature = "openapi", schema(value_type = Uuid))]
    pub batch_id: Option<Uuid>,
    /// All deliveries that fail, as the findings report them.
    #[serde(default)]
    pub all: bool,
    /// Only if it selects so many: what was counted before.
    #[serde(
        default,
        deserialize_with = "given",
        skip_serializing_if = "Option::is_none"
    )]
    #[cfg_attr(feature = "openapi", schema(value_type = u64))]
    pub count: Option<u64>,
}

impl DeliverySelection {
    /// What it selects at `now`. Of a job or of all it is what the findings report.
    fn filter(&self, now: DateTime<Utc>) -> DeliveryFilter {
        let failing = if self.job_id.is_some() || self.all {
            DeliveryFilter::failing(now)
        } else {
            DeliveryFilter::default()
        };
        DeliveryFilter {
            id: self.id,
            job_id: self.job_id.clone(),
            batch_ids: self.batch_id.map(|id| [id].into()),
            failed: true,
            ..failing
        }
    }

    fn check(&self) -> Result<(), OperatorError> {
        let Self {
            id,
            job_id,
            batch_id,
            all,
            ..
        } = self;
        let of_some = [id.is_some(), job_id.is_some(), batch_id.is_some(), *all];
        if of_some.iter().filter(|given| **given).count() == 1 {
            return Ok(());
        }
        Err(OperatorError::Invalid(
            "select deliveries by one of id, job_id, batch_id and all".to_owned(),
        ))
    }
}

/// Outcome of having deliveries made again.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct DeliverAgainReport {
    /// Number of deliveries that are due now.
    pub due: u64,
}

impl Operator {
    /// The deliveries that [fail](DeliveryFilter::failing) at `now`, in sum, by job.
    ///
    /// # Errors
    /// The store fails.
    pub async fn failing_deliveries(
        &self,
        now: DateTime<Utc>,
    ) -> Result<Vec<FailingDeliveries>, StoreError> {
        let given_up_since = now - DeliveryFilter::GIVEN_UP_REPORTED_FOR;
        self.operations.failing_deliveries(given_up_since).await
    }

    /// How many deliveries a selection is of, apart from its count.
    ///
    /// # Errors
    /// The selection is empty or contradicts itself, or the store fails.
    pub async fn count_deliveries(
        &self,
        selection: &DeliverySelection,
    ) -> Result<u64, OperatorError> {
        selection.check()?;
        let failed = selection.filter(self.clock.now());
        Ok(self.all_deliveries(&failed).await?.len() as u64)
    }

    /// Makes deliveries that failed or were given up due now, with a new period of retries. They go on where they failed, with the
    /// settings that the job has for the place by now; a recipient that has got a result already recognizes it by its id. Where the
    /// job delivers to another place of the same kind by now, all results of the batch go there instead.
    ///
    /// # Errors
    /// The selection is empty or contradicts itself, no delivery that it selects has failed, it is not of as many as it says,
    /// all are on their way at present, or the store fails.
    pub async fn deliver_again(
        &self,
        actor: &Actor,
        key: Option<&IdempotencyKey>,
        selection: &DeliverySelection,
    ) -> Result<DeliverAgainReport, OperatorError> {
        selection.check()?;
        let act = |attempt| self.deliver_again_now(actor, selection, attempt);
        let scope = "deliver_again".to_owned();
        self.once(key, scope, selection, act).await
    }

    async fn deliver_again_now(
        &self,
        actor: &Actor,
        selection: &DeliverySelection,
        attempt: Attempt,
    ) -> Result<DeliverAgainReport, OperatorError> {
        let failed = selection.filter(self.clock.now());
        let mut found = self.all_deliveries(&failed).await?;
        // Its instant marks what an earlier attempt has made due.
        let mut done: BTreeSet<i64> = BTreeSet::new();
        if attempt.is_repetition {
            let by_it = DeliveryFilter {
                failed: false,
                failing_since: None,
                asked_at: Some(attempt.at),
                ..failed
            };
            let by_it = self.all_deliveries(&by_it).await?;
            done.extend(by_it.iter().map(|stored| stored.id));
            found.retain(|stored| !done.contains(&stored.id));
        }
        let (count, done) = (found.len() as u64, done.len() as u64);
        if count == 0 && done > 0 {
            return Ok(DeliverAgainReport { due: done });
        }
        if count == 0 {
            return Err(OperatorError::NotFound(
                "no delivery has failed among those that are selected".to_owned(),
            ));
        }
        let all = count + done;
        let is_other = |asked: u64| all > asked || (done == 0 && all < asked);
        if selection.count.is_some_and(is_other) {
            return Err(changed(count, "delivery"));
        }
        let again = self.redeliveries(found).await?;
        let DeliverySelection {
            id,
            job_id,
            batch_id,
            ..
        } = selection;
        let subject = match (id, job_id, batch_id) {
            (Some(id), ..) => format!("delivery {id}"),
            (_, Some(job_id), _) => job_id.to_string(),
            (.., Some(batch_id)) => batch_id.to_string(),
            _ => "all deliveries".to_owned(),
        };
        let detail = amount(count, "delivery");
        self.record(actor, "deliver_again", &subject, &detail)
            .await?;
        let now = self.clock.now();
        let due = self.operations.deliver_again(&again, attempt.at, now).await;
        let due = done + self.noted(due)?;
        if due == 0 && attempt.is_repetition {
            // The attempt before has just made them due.
            return Ok(DeliverAgainReport { due: count });
        }
        if due == 0 {
            return Err(OperatorError::Conflict(
                "what is selected is being delivered at present; see in a few minutes how it went"
                    .to_owned(),
            ));
        }
        info!(due, "Operator made {due} failed deliveries due");
        Ok(DeliverAgainReport { due })
    }

    /// What a filter selects.
    async fn all_deliveries(
        &self,
        filter: &DeliveryFilter,
    ) -> Result<Vec<StoredDelivery>, StoreError> {
        let mut page = Page {
            cursor: None,
            limit: DELIVERIES_PER_PAGE,
        };
        let mut all = Vec::new();
        loop {
            let (found, next) = self.operations.deliveries(filter, &page).await?;
            all.extend(found);
            page.cursor = next;
            if page.cursor.is_none() {
                return Ok(all);
            }
        }
    }

    /// Where they are to go: to their place with the settings of their job now, or to the place that takes over from it.
    async fn redeliveries(
        &self,
        failed: Vec<StoredDelivery>,
    ) -> Result<Vec<Redelivery>, StoreError> {
        let jobs = self.jobs.current();
        let current = |job_id: &JobId| {
            let places = jobs.job(job_id).map(|job| job.deliver.as_slice());
            places.unwrap_or_default()
        };
        let stays = |stored: &StoredDelivery| {
            let mut places = current(&stored.job_id).iter();
            places.find(|place| place.is_same_place(&stored.target))
        };
        let mut again = Vec::with_capacity(failed.len());
        for failed in failed.chunks(DELIVERIES_PER_PAGE as usize) {
            let moved = failed.iter().filter(|stored| stays(stored).is_none());
            let mut of_batches = self
                .targets_of(moved.map(|stored| stored.batch_id).collect())
                .await?;
            for stored in failed {
                let mut target = stays(stored);
                let from_start = target.is_none();
                if from_start {
                    let others = of_batches.entry(stored.batch_id).or_default();
                    target = stored.target.successor(current(&stored.job_id), others);
                    others.extend(target.cloned());
                }
                again.push(Redelivery {
                    id: stored.id,
                    from_start: from_start && target.is_some(),
                    target: target.unwrap_or(&stored.target).clone(),
                });
            }
        }
        Ok(again)
    }

    /// The places to which the results of batches go, by batch.
    async fn targets_of(
        &self,
        batch_ids: BTreeSet<Uuid>,
    ) -> Result<BTreeMap<Uuid, Vec<Delivery>>, StoreError> {
        let mut targets: BTreeMap<Uuid, Vec<Delivery>> = BTreeMap::new();
        if batch_ids.is_empty() {
            return Ok(targets);
        }
        let of_batches = DeliveryFilter {
            batch_ids: Some(batch_ids),
            ..DeliveryFilter::default()
        };
        for stored in self.all_deliveries(&of_batches).await? {
            let of_batch = targets.entry(stored.batch_id).or_default();
            of_batch.push(stored.target);
        }
        Ok(targets)
    }
}
