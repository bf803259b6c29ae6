//! Work that is due and does not begin.

use chrono::{DateTime, TimeDelta, Utc};

use super::{Finding, FindingKind, Findings};
use crate::{
    ports::{StoreError, WaitingWork},
    services::{
        active_failures::Operation,
        operator::{Operator, amount},
    },
};

/// How long work may be due before it is reported.
const REPORTED_AFTER: TimeDelta = TimeDelta::minutes(5);

impl Operator {
    /// Adds batches that do not begin, by job. `held`: chunks that processes work on now. Of a paused job the pause says what waits;
    /// where it is known that this process does not begin chunks of the job, that says it.
    pub(super) async fn waiting_findings(
        &self,
        findings: &mut Findings,
        now: DateTime<Utc>,
        held: u64,
    ) -> Result<(), StoreError> {
        let all = self.operations.waiting_work(now - REPORTED_AFTER).await?;
        let batches: u64 = all.iter().map(|waiting| waiting.batches).sum();
        let at_least = if batches >= u64::from(WaitingWork::MAX_BATCHES) {
            "at least "
        } else {
            ""
        };
        for waiting in all {
            let begins = Operation::BeginChunks(waiting.job_id.clone());
            if findings.have(&FindingKind::Failing(begins)) {
                continue;
            }
            let (items, batches) = (
                amount(waiting.items, "item"),
                amount(waiting.batches, "batch"),
            );
            let paused = FindingKind::Paused(waiting.job_id.clone());
            let mut pauses = findings.warnings.iter_mut();
            if let Some(pause) = pauses.find(|finding| finding.kind == paused) {
                pause.what = format!("{}; not begun: {at_least}{items} in {batches}", pause.what);
                continue;
            }
            let (job_id, why) = (&waiting.job_id, reason(&waiting, held));
            let are = if waiting.items == 1 {
                "is due and has"
            } else {
                "are due and have"
            };
            let what = format!("{job_id}: {at_least}{items} in {batches} {are} not started: {why}");
            let since = waiting.since;
            let kind = FindingKind::Waiting(waiting.job_id);
            findings.add(false, Finding::new(kind, what, since).because(&why));
        }
        Ok(())
    }
}

/// Why it does not begin, as far as is known.
fn reason(waiting: &WaitingWork, held: u64) -> String {
    if waiting.live_processes == 0 {
        return "no process is alive to run it".to_owned();
    }
    if waiting.others_run {
        return "earlier batches of the job still run".to_owned();
    }
    match held {
        0 => "no process works on them; see the log".to_owned(),
        held => format!("the processes are busy with {}", amount(held, "chunk")),
    }
}

#[cfg(test)]
mod tests {
    use punctual_domain::JobId;

    use super::*;

    #[test]
    fn the_reason_is_what_is_known() {
        let waiting = |live_processes, others_run| WaitingWork {
            job_id: JobId::new("posts").unwrap(),
            batches: 1,
            items: 1,
            since: DateTime::UNIX_EPOCH,
            others_run,
            live_processes,
        };
        for (live, others_run, held, expected) in [
            (0, true, 3, "no process is alive"),
            (1, true, 3, "earlier batches of the job"),
            (2, false, 3, "busy with 3 chunks"),
            (1, false, 0, "no process works on them"),
        ] {
            let why = reason(&waiting(live, others_run), held);
            assert!(why.contains(expected), "{why}");
        }
    }
}
