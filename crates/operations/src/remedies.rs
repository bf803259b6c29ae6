//! What to do about what is wrong, and which page to look at. A program that has settings and commands of its own names
//! them in [`Words::remedy`](crate::Words).

use punctual_application::{Finding, FindingKind, Operation};

/// What is wrong, since when, and the remedy.
#[must_use]
pub fn in_words(finding: &Finding, remedy: fn(&FindingKind) -> String) -> String {
    format!("{finding}. {}", remedy(&finding.kind))
}

/// What to do, in words that hold for every program.
#[must_use]
pub fn remedy(kind: &FindingKind) -> String {
    let text = match kind {
        FindingKind::Store => FIX_STORE,
        FindingKind::Restored => {
            "Have what fell due in that time skipped, as it most likely ran before, or repeated with the same idempotency keys: \
             on the overview, or by `POST /api/v1/restore`"
        }
        FindingKind::NotPlannedYet => "Wait; if this lasts, see the log",
        FindingKind::NotPlanned => {
            "See the other reasons and the log. Nothing is lost: catch_up decides which missed runs are made up"
        }
        FindingKind::Preferences { .. } => "Check that the Config Database runs and can be reached",
        FindingKind::Failing(operation) => of_operation(operation),
        FindingKind::Paused(_) => "Once the cause is gone, resume it",
        FindingKind::JobFailing(..) => {
            "Correct what fails, then replay the dead letters of the job"
        }
        FindingKind::DeliveryFailing(_) => {
            "Bring the destination back: deliveries are retried until `expires_after` has passed. If you replace it in \
             `deliver` of the job by one other of the same kind, deliver again: all results then go to that one"
        }
        FindingKind::DeliveryGivenUp(_) => {
            "Bring the destination back, or replace it in `deliver` of the job by one other of the same kind; then deliver \
             again. If the job delivers to none or several others of the kind, the results go to the old one"
        }
        FindingKind::Replica(_) => {
            "Other replicas take over its work, unless its job is paused or no replica is left"
        }
        FindingKind::DeadLetters(_) => "Replay or discard them",
        FindingKind::Quarantine(_) => "Correct them in the Config Database",
        FindingKind::Expired(_) => {
            "Find out why they waited: see the batches that skipped items. Then backfill the dates on the job's page, which \
             counts what has not run before it runs it. If the work may begin later, set `expires_after` of the job"
        }
        FindingKind::AlertsFailing(_) => {
            "Correct the address or the secret of the channel, or bring its receiver back; then send a test alert"
        }
        FindingKind::Waiting(_) => {
            "Start the agent if none runs. If work takes too long, add a replica, raise the limits of concurrent items, or \
             spread the popular times with `spread_minutes`"
        }
        _ => "See the log",
    };
    text.to_owned()
}

const FIX_STORE: &str =
    "Free disk space, release the lock on the store, or bring the database back";

fn of_operation(operation: &Operation) -> &'static str {
    match operation {
        operation if operation.uses_store() => FIX_STORE,
        Operation::BeginChunks(_) => {
            "See the log for workers that end; restart the process if nothing else helps"
        }
        Operation::PrepareChunks(_) => {
            "Fix the Config Database or the source; the chunks are retried every few seconds"
        }
        Operation::PlanJob(_) => {
            "Fix the source or the store; catch_up decides which missed runs are made up"
        }
        Operation::FindSourceFile(_) => "Put the file there, or correct the job's path to it",
        Operation::ReloadJobs => "Correct the files of the jobs",
        Operation::ReloadZoneRules => "Put the folder of zone rules there anew",
        Operation::WriteLastKnownGood(_) => {
            "Free disk space, or fix the permissions of its folder; without it no process can start \
             while the Config Database is down"
        }
        Operation::WriteFence => {
            "Free disk space, or fix the permissions of its folder; without it a store that is restored from an older copy is not \
             recognised"
        }
        _ => "See the log",
    }
}

/// The section of the runbook, `docs/operations/runbook.md`, that is about it, by its heading.
#[must_use]
pub fn runbook(kind: &FindingKind) -> &'static str {
    match kind {
        FindingKind::Restored => "A restored store",
        FindingKind::NotPlannedYet | FindingKind::NotPlanned => "PunctualNotPlanning",
        FindingKind::Preferences { .. } => "PunctualPreferencesStale",
        FindingKind::Paused(_) => "Paused jobs",
        FindingKind::JobFailing(..) | FindingKind::DeadLetters(_) => "PunctualItemsFail",
        FindingKind::DeliveryFailing(_) | FindingKind::DeliveryGivenUp(_) => "Deliveries that fail",
        FindingKind::Replica(_) => "Unresponsive replicas",
        FindingKind::Quarantine(_) => "PunctualPreferencesInvalid",
        FindingKind::Expired(_) => "Expired items",
        FindingKind::Waiting(_) => "PunctualLate",
        FindingKind::AlertsFailing(_) => "Alerts that cannot be sent",
        _ => "What /health/ready says",
    }
}

/// The page to look at next.
#[must_use]
pub fn link(kind: &FindingKind) -> String {
    match kind {
        FindingKind::NotPlannedYet | FindingKind::NotPlanned => "/jobs".to_owned(),
        FindingKind::Replica(_) | FindingKind::AlertsFailing(_) => "/replicas".to_owned(),
        FindingKind::JobFailing(_, batch_id) => format!("/batches/{batch_id}"),
        FindingKind::DeadLetters(job_id) => format!("/dead-letters?job={job_id}"),
        FindingKind::Quarantine(job_id) => format!("/quarantine?job={job_id}"),
        FindingKind::DeliveryFailing(job_id) | FindingKind::DeliveryGivenUp(job_id) => {
            format!("/deliveries?job={job_id}")
        }
        FindingKind::Paused(job_id) => format!("/jobs/{job_id}"),
        FindingKind::Expired(job_id) => format!("/batches?job={job_id}"),
        FindingKind::Waiting(job_id) => format!("/batches?job={job_id}&status=queued"),
        FindingKind::Preferences { jobs, .. } => match jobs.as_slice() {
            [job_id] => format!("/jobs/{job_id}"),
            _ => "/jobs".to_owned(),
        },
        FindingKind::Failing(operation) => match operation.job_id() {
            Some(job_id) => format!("/jobs/{job_id}"),
            None => "/".to_owned(),
        },
        _ => "/".to_owned(),
    }
}

/// The page that puts it right once the cause is gone, where [`link`] leads to another one, and what the link says.
pub(crate) fn fix(kind: &FindingKind) -> Option<(String, &'static str)> {
    match kind {
        FindingKind::Restored => Some(("/restore".to_owned(), "Decide")),
        FindingKind::JobFailing(job_id, _) => {
            let letters = link(&FindingKind::DeadLetters(job_id.clone()));
            Some((letters, "Replay its dead letters"))
        }
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use punctual_domain::JobId;

    use super::*;

    #[test]
    fn every_section_that_is_named_is_in_the_runbook() {
        let path = concat!(
            env!("CARGO_MANIFEST_DIR"),
            "/../../docs/operations/runbook.md"
        );
        let text = std::fs::read_to_string(path).unwrap().replace('`', "");
        let job = JobId::new("posts").unwrap();
        for kind in [
            FindingKind::Store,
            FindingKind::Restored,
            FindingKind::NotPlannedYet,
            FindingKind::NotPlanned,
            FindingKind::Preferences {
                jobs: vec![job.clone()],
                loaded: true,
            },
            FindingKind::Failing(Operation::ReadQueues),
            FindingKind::Paused(job.clone()),
            FindingKind::JobFailing(job.clone(), uuid::Uuid::nil()),
            FindingKind::DeliveryFailing(job.clone()),
            FindingKind::DeliveryGivenUp(job.clone()),
            FindingKind::Replica("a".to_owned()),
            FindingKind::DeadLetters(job.clone()),
            FindingKind::Quarantine(job.clone()),
            FindingKind::Expired(job.clone()),
            FindingKind::Waiting(job),
            FindingKind::AlertsFailing("webhook".to_owned()),
        ] {
            let heading = format!("\n## {}\n", runbook(&kind));
            assert!(text.contains(&heading), "{heading}");
        }
    }
}
