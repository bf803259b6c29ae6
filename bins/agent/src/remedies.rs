//! What to do about what is wrong, where the agent can name a setting or a command of its own.

use punctual::{FindingKind, Words};
use punctual_application::Operation;
use punctual_operations::remedies;

/// How the agent's calls and pages speak of it.
pub(crate) const WORDS: Words = Words {
    key_hint: "Your API key, or the agent's (<code>BATCH_API_KEY</code>).",
    remedy,
};

/// Remedy for a finding, with the settings of the agent by name.
pub(crate) fn remedy(kind: &FindingKind) -> String {
    let usual = remedies::remedy(kind);
    let text = match kind {
        FindingKind::Store => return format!("{usual} (BATCH_STORE_URL)"),
        FindingKind::Restored => {
            "Run `punctual-agent restore skip`: what fell due in that time most likely ran before; or `punctual-agent restore repeat`: \
             it runs again, with the same idempotency keys"
        }
        FindingKind::Failing(Operation::WriteFence) => {
            return format!("{usual} (CONFIG_LAST_KNOWN_GOOD_PATH)");
        }
        FindingKind::Failing(operation) if operation.uses_store() => {
            return format!("{usual} (BATCH_STORE_URL)");
        }
        FindingKind::Paused(job_id) => {
            return format!("Once the cause is gone, `punctual-agent resume {job_id}`");
        }
        FindingKind::Preferences { .. } => "Check the Config Database and CONFIG_SERVICE_URL",
        FindingKind::DeadLetters(job_id) => {
            return format!(
                "Replay or discard them; `punctual-agent dead-letters list --job {job_id}` lists them"
            );
        }
        FindingKind::Quarantine(_) => {
            "Correct them in the Config Database; `punctual-agent quarantine` lists them"
        }
        FindingKind::Expired(job_id) => {
            return format!(
                "{usual}. `punctual-agent backfill {job_id} --from DATE --to DATE --preview` counts them, too"
            );
        }
        FindingKind::AlertsFailing(_) => {
            return format!("{usual} with `punctual-agent alerts test` (BATCH_ALERTS_*)");
        }
        FindingKind::Waiting(_) => return format!("{usual} (BATCH_MAX_CONCURRENT_ITEMS)"),
        FindingKind::DeliveryGivenUp(_) => {
            "Bring the destination back, or replace it in `deliver` of the job by one other of the same kind; then deliver \
             again on the operations page. If the job delivers to none or several others of the kind, the results go to \
             the old one. `punctual-agent results --batch ID` prints them"
        }
        FindingKind::Failing(Operation::FindSourceFile(_)) => {
            "Put the file there, or correct its path in batch_config.json"
        }
        FindingKind::Failing(Operation::ReloadJobs) => {
            "Run `punctual-agent check`, and correct the files"
        }
        FindingKind::Failing(Operation::ReloadZoneRules) => {
            return format!("{usual} (BATCH_TZDB_DIR)");
        }
        FindingKind::Failing(Operation::WriteLastKnownGood(_)) => {
            "Free disk space, or fix the permissions of CONFIG_LAST_KNOWN_GOOD_PATH; without it \
             the agent cannot start while the Config Database is down"
        }
        _ => return usual,
    };
    text.to_owned()
}

#[cfg(test)]
mod tests {
    use punctual::JobId;

    use super::*;

    #[test]
    fn remedies_name_the_settings_and_commands_of_the_agent() {
        let job = JobId::new("posts").unwrap();
        let feature = "f".parse().unwrap();
        for (kind, name) in [
            (FindingKind::Store, "BATCH_STORE_URL"),
            (FindingKind::Restored, "`punctual-agent restore skip`"),
            (
                FindingKind::Failing(Operation::WriteFence),
                "CONFIG_LAST_KNOWN_GOOD_PATH",
            ),
            (
                FindingKind::Failing(Operation::ReloadZoneRules),
                "BATCH_TZDB_DIR",
            ),
            (
                FindingKind::Failing(Operation::ReadQueues),
                "BATCH_STORE_URL",
            ),
            (
                FindingKind::Preferences {
                    jobs: vec![job.clone()],
                    loaded: true,
                },
                "CONFIG_SERVICE_URL",
            ),
            (
                FindingKind::Failing(Operation::WriteLastKnownGood(feature)),
                "CONFIG_LAST_KNOWN_GOOD_PATH",
            ),
            (
                FindingKind::Paused(job.clone()),
                "`punctual-agent resume posts`",
            ),
            (
                FindingKind::DeadLetters(job.clone()),
                "`punctual-agent dead-letters list --job posts`",
            ),
            (
                FindingKind::Expired(job.clone()),
                "`punctual-agent backfill posts --from",
            ),
            (
                FindingKind::Waiting(job.clone()),
                "BATCH_MAX_CONCURRENT_ITEMS",
            ),
            (
                FindingKind::AlertsFailing("webhook".to_owned()),
                "`punctual-agent alerts test`",
            ),
            (FindingKind::Quarantine(job), "`punctual-agent quarantine`"),
        ] {
            let text = remedy(&kind);
            assert!(text.contains(name), "{text}");
            assert!(!remedies::remedy(&kind).contains(name));
        }
        let replica = FindingKind::Replica("a".to_owned());
        assert_eq!(remedy(&replica), remedies::remedy(&replica));
    }
}
