//! From when the occurrences of a tenant count: an edit of *when* never runs what was due before it.

use chrono::{DateTime, TimeDelta, Utc};

/// From when a tenant's occurrences count, in seconds after 1970, rounded up: occurrences are on whole seconds, so the
/// same ones count. 0: long ago.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) struct Since(u32);

impl Since {
    /// Everything counts.
    pub(super) const LONG_AGO: Self = Self(0);

    /// From an instant on; `None`: long ago.
    pub(super) fn at(instant: Option<DateTime<Utc>>) -> Self {
        let seconds = instant.map_or(0, |instant| {
            instant.timestamp() + i64::from(instant.timestamp_subsec_nanos() > 0)
        });
        Self(seconds.clamp(0, i64::from(u32::MAX)) as u32)
    }

    pub(super) const fn from_bits(bits: u32) -> Self {
        Self(bits)
    }

    pub(super) const fn to_bits(self) -> u32 {
        self.0
    }

    /// The moment; `None`: long ago.
    pub(super) fn instant(self) -> Option<DateTime<Utc>> {
        (self.0 > 0)
            .then(|| DateTime::from_timestamp(self.0.into(), 0))
            .flatten()
    }
}

/// By how much the Config Database's clock may be ahead of ours without one of them being wrong.
const AHEAD: TimeDelta = TimeDelta::minutes(10);

/// What the Config Database says of when a preference came to be as it is.
#[derive(Debug, Clone, Copy)]
pub(super) struct Reported {
    pub(super) schedule_since: Option<DateTime<Utc>>,
    pub(super) stored_at: Option<DateTime<Utc>>,
    /// When it was read.
    pub(super) read_at: DateTime<Utc>,
    /// Until when the mirror has followed every change: it knows better whether one of them moved the schedule.
    pub(super) followed_until: Option<DateTime<Utc>>,
}

impl Reported {
    /// From when the occurrences count of a tenant whose slot is a new one, or has been theirs since `same_slot`.
    pub(super) fn since(self, same_slot: Option<Since>) -> Since {
        match (same_slot, self.schedule_since) {
            (Some(known), None) => known,
            (Some(known), Some(reported)) if Some(reported) <= self.followed_until => {
                known.min(Since::at(Some(reported)))
            }
            (_, reported) => {
                let reported = reported.or(self.stored_at);
                // A clock that is a little ahead of ours puts nothing off. One that is far ahead may be right.
                Since::at(reported.map(|reported| match reported - self.read_at {
                    ahead if ahead > TimeDelta::zero() && ahead <= AHEAD => self.read_at,
                    _ => reported,
                }))
            }
        }
    }
}
