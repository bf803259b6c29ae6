//! What happens to occurrences that were missed, because no agent was running to plan them.

use chrono::{DateTime, TimeDelta, Utc};
use serde::{Deserialize, Serialize};

use crate::{time::slot::Slot, work::chunk::ON_TIME};

/// What happens to occurrences that were missed, because no agent was running to plan them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct CatchUp {
    /// Which of them are made up for.
    pub policy: CatchUpPolicy,
    /// How old they may be; `None`: one period of the recurrence for `latest`, without limit for `all`.
    pub window: Option<TimeDelta>,
}

/// Which missed occurrences a job makes up.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(rename_all = "snake_case")]
pub enum CatchUpPolicy {
    /// The latest one.
    #[default]
    Latest,
    /// Every one.
    All,
    /// None.
    Skip,
}

impl CatchUpPolicy {
    /// The word in files and JSON.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Latest => "latest",
            Self::All => "all",
            Self::Skip => "skip",
        }
    }
}

/// The instants in (`from`, `to`] at which `slot` falls due and is still to be run.
#[must_use]
pub fn due_instants(
    slot: &Slot,
    catch_up: CatchUp,
    from: DateTime<Utc>,
    to: DateTime<Utc>,
) -> Vec<DateTime<Utc>> {
    due_of(
        |after| slot.next_after(after),
        slot.period(),
        catch_up,
        from,
        to,
    )
}

/// The instants in (`from`, `to`] at which something that recurs with this `period` falls due and is still to be run.
pub(crate) fn due_of(
    next_after: impl Fn(DateTime<Utc>) -> Option<DateTime<Utc>>,
    period: TimeDelta,
    catch_up: CatchUp,
    from: DateTime<Utc>,
    to: DateTime<Utc>,
) -> Vec<DateTime<Utc>> {
    due_after_edit(next_after, |_| None, period, catch_up, from, to)
}

/// The same after an edit of when it recurs. `moved` gives, for an instant, the first occurrence that is not later than it and whose
/// old time is.
///
/// An occurrence whose old time is not later than `to` either was missed: the policy counts it with the others. One whose old time
/// is still to come, or was on time, is due whatever the policy.
pub(crate) fn due_after_edit(
    next_after: impl Fn(DateTime<Utc>) -> Option<DateTime<Utc>>,
    moved: impl Fn(DateTime<Utc>) -> Option<DateTime<Utc>>,
    period: TimeDelta,
    catch_up: CatchUp,
    from: DateTime<Utc>,
    to: DateTime<Utc>,
) -> Vec<DateTime<Utc>> {
    let window = match catch_up.policy {
        CatchUpPolicy::Skip => Some(ON_TIME),
        CatchUpPolicy::Latest => catch_up.window.or(Some(period)),
        CatchUpPolicy::All => catch_up.window,
    };
    let earliest = |window: Option<TimeDelta>| {
        window
            .and_then(|window| to.checked_sub_signed(window))
            .map_or(from, |w| w.max(from))
    };
    let after = earliest(window);
    let first = moved(after).or_else(|| next_after(after));
    let mut due: Vec<_> = std::iter::successors(first, |last| next_after(*last))
        .take_while(|instant| *instant <= to)
        .collect();
    if catch_up.policy == CatchUpPolicy::Latest {
        let still_to_come = moved(earliest(Some(ON_TIME)));
        let kept = still_to_come.or_else(|| due.last().copied());
        due.retain(|instant| Some(*instant) >= kept);
    }
    due
}
