//! What a simulation shows, and the mistakes that are put in to see that they are found.

/// A mistake put in on purpose, to see that it is found.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Bug {
    /// Progress is stored, and the batches of the same tick are not, now and then.
    ProgressWithoutBatches,
    /// Progress is stored that has not been made.
    ProgressAhead,
    /// A read that fails is taken for an empty one.
    ErrorsReadAsEmpty,
    /// The feed leaves out every fifth change, and calm times do not help.
    FeedLosesChanges,
    /// Results are committed for the first tenant of the chunk.
    ResultsOfAnother,
    /// The schedule takes the time an hour late.
    ClockIsOff,
    /// A full read that has lost most is taken.
    TruncatedReadsAreTaken,
    /// A queued item runs with the preference that was first seen.
    ItemsKeepOldPreferences,
    /// A replay settles the dead letter and queues nothing.
    ReplaysAreLost,
    /// A manual run does not look at its key.
    ManualRunsForgetTheirKey,
    /// No item knows the last run of its tenant.
    LastRunsAreLost,
    /// What had nothing to do does not use its occurrence up.
    NothingToDoRunsAgain,
    /// No item knows the organization of its tenant.
    OrganizationsAreLost,
    /// What the first of two purposes has made is not found again.
    KeptOutputsAreLost,
    /// A completion is answered as taken, and is not stored.
    CompletionsAreLost,
    /// No deadline passes, and nothing is polled.
    DeadlinesAreForgotten,
    /// An item that is called again after it has waited does not know its attempts.
    AttemptsAreForgotten,
    /// The removal of old results does not notice that its clock was set.
    RetentionTrustsTheClock,
    /// Nothing is removed, however old it is.
    OldResultsStay,
    /// It is not known up to which date results have been removed.
    RemovalsAreForgotten,
    /// The last success of an item goes with its result.
    LastSuccessesAreRemoved,
    /// An erasure is answered as done, and removes nothing.
    ErasuresAreLost,
    /// Agents that were not there do not learn who was erased.
    ErasuresAreNotListed,
    /// An erasure leaves no hashes of the runs.
    ErasedRunsRunAgain,
    /// An item knows a last run that was erased.
    ErasedRunsAreRemembered,
    /// Tenants who were erased and stored again are not shown.
    ErasedStayAway,
    /// What a tenant has chosen who was erased and stored again counts from before the erasure on.
    StoredAgainKeepsItsTime,
}

impl Bug {
    pub const ALL: [Self; 27] = [
        Self::ProgressWithoutBatches,
        Self::ProgressAhead,
        Self::ErrorsReadAsEmpty,
        Self::FeedLosesChanges,
        Self::ResultsOfAnother,
        Self::ClockIsOff,
        Self::TruncatedReadsAreTaken,
        Self::ItemsKeepOldPreferences,
        Self::ReplaysAreLost,
        Self::ManualRunsForgetTheirKey,
        Self::LastRunsAreLost,
        Self::NothingToDoRunsAgain,
        Self::OrganizationsAreLost,
        Self::KeptOutputsAreLost,
        Self::CompletionsAreLost,
        Self::DeadlinesAreForgotten,
        Self::AttemptsAreForgotten,
        Self::RetentionTrustsTheClock,
        Self::OldResultsStay,
        Self::RemovalsAreForgotten,
        Self::LastSuccessesAreRemoved,
        Self::ErasuresAreLost,
        Self::ErasuresAreNotListed,
        Self::ErasedRunsRunAgain,
        Self::ErasedRunsAreRemembered,
        Self::ErasedStayAway,
        Self::StoredAgainKeepsItsTime,
    ];
}

/// What a simulation has shown.
#[derive(Debug, Default, PartialEq)]
pub struct Outcome {
    /// Occurrences that had to run, and did unless `violations` says otherwise.
    pub required: usize,
    /// Occurrences that faults or moves may have kept from running.
    pub excused: usize,
    /// Answers of `explain` that were compared with what happened.
    pub promises: usize,
    /// Items that waited.
    pub waits: usize,
    /// Results that were removed as old.
    pub removed: usize,
    /// Times that a tenant was erased in the store.
    pub erased: usize,
    pub violations: Vec<Violation>,
    /// What happened, in the order of time.
    pub history: Vec<String>,
}

/// A rule that was not kept.
#[derive(Debug, PartialEq)]
pub struct Violation {
    pub rule: &'static str,
    /// The tenant, or the job or key where there is none.
    pub about: String,
    pub what: String,
}

impl Outcome {
    /// The first violations, and what of the history concerns the first.
    pub fn trace(&self) -> String {
        let violation = |violation: &Violation| format!("{}: {}", violation.rule, violation.what);
        let violations: Vec<String> = self.violations.iter().map(violation).collect();
        let subject = self
            .violations
            .first()
            .map_or("", |violation| &violation.about);
        let concerns = |line: &&String| {
            let mut words = line.split([' ', ':']);
            let of_a_tenant = |word: &str| word.starts_with('t') && word[1..].parse::<u8>().is_ok();
            words.clone().any(|word| word == subject) || !words.any(of_a_tenant)
        };
        let lines: Vec<&str> = self
            .history
            .iter()
            .filter(concerns)
            .map(|line| &**line)
            .collect();
        let some = violations.len().min(40);
        format!(
            "{} violations:\n{}\n\nwhat concerns {subject}:\n{}",
            violations.len(),
            violations[..some].join("\n"),
            lines.join("\n")
        )
    }
}
