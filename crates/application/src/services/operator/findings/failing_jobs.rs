//! Items of jobs that failed for good, in the newest batch or in earlier ones.

use std::collections::BTreeMap;

use chrono::{DateTime, Utc};
use punctual_domain::{Batch, Trigger};

use super::{Finding, FindingKind, Findings, Severity, finding::gist};
use crate::{
    ports::{BatchFilter, OpenDeadLetters, Page, StoreError},
    services::operator::{Operator, amount},
};

/// Batches of a job that are looked at for how it does.
const NEWEST: Page = Page {
    cursor: None,
    limit: 20,
};

impl Operator {
    /// Adds that items of a job failed for good. Where the job paused itself for that, the pause says it.
    pub(super) async fn failing_job(
        &self,
        findings: &mut Findings,
        letters: OpenDeadLetters,
    ) -> Result<(), StoreError> {
        let OpenDeadLetters {
            job_id,
            count,
            first_failed_at,
            batch_id,
            reasons,
        } = letters;
        let filter = BatchFilter {
            job_id: Some(job_id.clone()),
            status: None,
        };
        let (batches, _) = self.reader.batches(&filter, &NEWEST).await?;
        let run = FailingRun::of(&batches);
        // A replay fell due when what it replays did.
        let newest = run.as_ref().and_then(|run| {
            let of_run = |batch: &&Batch| batch.scheduled_at == run.newest_due_at;
            let mut newest = batches.iter().filter(of_run);
            newest.find(|batch| batch.batch_id == batch_id && went_well(batch).is_some())
        });
        let reason = reasons.first().map_or("", |(reason, _)| reason.as_str());
        let mostly = if reasons.len() > 1 { ", mostly" } else { "" };
        let (kind, what) = if let Some(batch) = newest {
            let (failed, ended) = (batch.still_failed(), batch.processed());
            let in_all = if count > failed {
                format!(" ({} in all)", amount(count, "dead letter"))
            } else {
                String::new()
            };
            let items = amount(ended, "item");
            let what = format!("{failed} of {items} failed{in_all}{mostly}: {reason}");
            let paused = FindingKind::Paused(job_id.clone());
            let of_pause = findings.warnings.iter_mut();
            let pause = of_pause.into_iter().find(|finding| finding.kind == paused);
            if let Some(pause) = pause.filter(|pause| pause.severity == Severity::Warning) {
                let waiting = match batch.total.saturating_sub(ended) {
                    1 => "1 item waits".to_owned(),
                    waiting => format!("{} wait", amount(waiting, "item")),
                };
                pause.what = format!("{job_id} is paused and {waiting}: {what}");
                pause.cause = gist(reason);
                return Ok(());
            }
            let kind = FindingKind::JobFailing(job_id.clone(), batch.batch_id);
            (kind, format!("{job_id}: {what}"))
        } else {
            let letters = amount(count, "dead letter");
            (
                FindingKind::DeadLetters(job_id.clone()),
                format!("{job_id}: {letters} of earlier runs{mostly}: {reason}"),
            )
        };
        let run = run.filter(|_| newest.is_some());
        let since = run.as_ref().and_then(|run| run.since);
        let mut finding = Finding::new(kind, what, since.unwrap_or(first_failed_at));
        finding.over_at = run.and_then(|run| run.healthy_at);
        findings.add(false, finding.because(reason));
        Ok(())
    }
}

/// Whether a batch went well, as far as it tells: one that is not over says nothing until something fails, and one of which
/// nothing ran never does.
fn went_well(batch: &Batch) -> Option<bool> {
    if batch.failed > 0 {
        return Some(false);
    }
    let ran = batch.succeeded + batch.nothing_to_do;
    (batch.finished_at.is_some() && ran > 0).then_some(true)
}

/// How a job has done since it last did well.
struct FailingRun {
    /// When the newest batches fell due that say how it does.
    newest_due_at: DateTime<Utc>,
    /// When the first of those fell due that failed since; `None`: it may have been before the batches that were looked at.
    since: Option<DateTime<Utc>>,
    /// When the last one that went well was over.
    healthy_at: Option<DateTime<Utc>>,
}

impl FailingRun {
    /// By the newest batches of a job; `None`: they say nothing.
    fn of(newest: &[Batch]) -> Option<Self> {
        let mut by_due: BTreeMap<DateTime<Utc>, Vec<&Batch>> = BTreeMap::new();
        let runs = newest
            .iter()
            .filter(|batch| batch.trigger != Trigger::Prepare);
        for batch in runs.filter(|batch| went_well(batch).is_some()) {
            by_due.entry(batch.scheduled_at).or_default().push(batch);
        }
        let (newest_due_at, _) = by_due.last_key_value()?;
        let mut run = Self {
            newest_due_at: *newest_due_at,
            since: None,
            healthy_at: None,
        };
        for (due_at, batches) in by_due.iter().rev() {
            // What a replay says is about the batch that failed.
            let first = || batches.iter().filter(|one| one.trigger != Trigger::Replay);
            if batches.iter().any(|batch| batch.failed > 0) {
                run.since = Some(*due_at);
            } else if first().next().is_some() {
                run.healthy_at = first().filter_map(|batch| batch.finished_at).max();
                return Some(run);
            }
        }
        if newest.len() == NEWEST.limit as usize {
            run.since = None;
        }
        Some(run)
    }
}
