//! One thing that is wrong.

use std::fmt;

use chrono::{DateTime, SecondsFormat, Utc};
use uuid::Uuid;

use super::{
    coverage::Coverage,
    kind::{FindingKind, Severity},
};
use crate::{
    ports::Acknowledgement,
    services::operator::{caller, words::with_reason},
};

/// One thing that is wrong: one cause, whatever it affects.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Finding {
    /// Kind of the finding.
    pub kind: FindingKind,
    /// How bad it is.
    pub severity: Severity,
    /// Description in words, which names no operator: also who has no key reads it.
    pub what: String,
    /// The operator who has caused it, as the audit log names them; `None`: none has.
    pub by: Option<String>,
    /// The reason that this operator gave; `None`: they gave none.
    pub reason: Option<String>,
    /// Since when; `None`: it is not known.
    pub since: Option<DateTime<Utc>>,
    /// The acknowledgement of an operator who knows of it; `None`: none does.
    pub acknowledged: Option<Acknowledgement>,
    /// The reason, without what differs from one failure to the next.
    pub(super) cause: String,
    /// What it is about, where there may be more.
    pub(super) covers: Coverage,
    /// When it was over last, as far as is known: an acknowledgement before that was of another one.
    pub(super) over_at: Option<DateTime<Utc>>,
}

impl Finding {
    pub(super) fn new(
        kind: FindingKind,
        what: impl Into<String>,
        since: impl Into<Option<DateTime<Utc>>>,
    ) -> Self {
        let severity = kind.severity();
        Self {
            kind,
            severity,
            what: what.into(),
            by: None,
            reason: None,
            since: since.into(),
            acknowledged: None,
            cause: String::new(),
            covers: Coverage::default(),
            over_at: None,
        }
    }

    /// The same, whose acknowledgement holds as long as the gist of `reason` stays the same.
    pub(super) fn because(mut self, reason: &str) -> Self {
        self.cause = gist(reason);
        self
    }

    /// The same, which has begun when it says that it did: it was over before.
    pub(super) fn begun(mut self) -> Self {
        self.over_at = self.since;
        self
    }

    /// The same, caused by an operator on purpose.
    pub(super) fn by_operator(mut self, name: &str, reason: Option<&str>) -> Self {
        self.by = Some(name.to_owned());
        self.reason = reason.map(str::to_owned);
        self.severity = Severity::Notice;
        self
    }

    /// Id of the finding: [`FindingKind::id`].
    #[must_use]
    pub fn id(&self) -> String {
        self.kind.id()
    }

    /// Changes with what an operator acknowledges: with how bad it is, its cause, and what it is about.
    #[must_use]
    pub fn state(&self) -> Uuid {
        Uuid::new_v5(&self.identity(), self.covers.to_string().as_bytes())
    }

    /// Changes with how bad the finding is and with its cause, not with who is affected: [`state`](Self::state) adds that.
    pub(crate) fn identity(&self) -> Uuid {
        let identity = format!("{}\n{}\n{}", self.id(), self.severity.as_str(), self.cause);
        Uuid::new_v5(&Uuid::NAMESPACE_OID, identity.as_bytes())
    }

    /// Description in words, for operators: with the one who has caused it, and their reason.
    #[must_use]
    pub fn in_full(&self) -> String {
        match &self.by {
            Some(by) => {
                let what = format!("{} by {}", self.what, caller(by));
                with_reason(what, self.reason.as_deref())
            }
            None => self.what.clone(),
        }
    }

    /// Whether an acknowledgement is of this finding as it is now.
    pub(super) fn is_known_by(&self, known: &Acknowledgement) -> bool {
        let covered = known.covers.parse().unwrap_or_default();
        known.finding == self.id()
            && known.state == self.identity()
            && self.over_at.is_none_or(|over| over <= known.at)
            && self.covers.is_within(&covered)
    }
}

/// A reason without what differs from one failure to the next: each word with a digit is `#`, and so are several in a row.
pub(super) fn gist(reason: &str) -> String {
    let is_part = |c: char| c.is_alphanumeric() || c == '-' || c == '_';
    let mut gist = String::with_capacity(reason.len());
    for piece in reason.split_inclusive(|c| !is_part(c)) {
        let word = piece.trim_end_matches(|c| !is_part(c));
        let has_digit = word.contains(|c: char| c.is_ascii_digit());
        gist.push_str(if has_digit { "#" } else { word });
        gist.push_str(&piece[word.len()..]);
    }
    for several in ["#.#", "#:#", "# #"] {
        while gist.contains(several) {
            gist = gist.replace(several, "#");
        }
    }
    gist
}

impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.what)?;
        match self.since {
            Some(since) => {
                let since = since.to_rfc3339_opts(SecondsFormat::Secs, true);
                write!(f, " (since {since})")
            }
            None => Ok(()),
        }
    }
}
