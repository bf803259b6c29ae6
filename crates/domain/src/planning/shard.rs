//! Shards: agents that divide the tenants among them, each with a store of its own. None knows the others: whose a run is
//! follows from the tenant's id and the date of the occurrence alone, so every run belongs to one store, whose unique keys
//! keep it from happening twice.
//!
//! A division changes from a date on. Occurrences of earlier dates stay with those who had them, whenever they are planned,
//! caught up with or backfilled, so a [`Sharding`] remembers every division that its store has served.

use std::{fmt, str::FromStr};

use chrono::{DateTime, Datelike, NaiveDate, NaiveTime, TimeDelta, Utc};
use uuid::Uuid;

use crate::{
    ids::{ItemId, JobId, TenantId},
    planning::backfill::BackfillGroup,
    time::occurrence::Occurrence,
};

/// No zone is further ahead of UTC.
const FURTHEST_AHEAD: TimeDelta = TimeDelta::hours(14);
/// What has been planned is stored within this time.
const STORED_LATE: TimeDelta = TimeDelta::minutes(5);
/// A job that has been planned so much less far than another is not in the job file any more.
const MOST_BEHIND: TimeDelta = TimeDelta::days(31);
/// After this time of a date in UTC it is over in every zone, with a spread of a day.
const OVER_AFTER: TimeDelta = TimeDelta::hours(24 + 12 + 24);
/// How long after a division has begun an agent that is new in it makes up for what it has missed.
const LATE_START: TimeDelta = TimeDelta::days(3);
const RULE: &str =
    "use `k/n` with 1 <= k <= n <= 1024, `k/n from YYYY-MM-DD`, or `none from YYYY-MM-DD`";

/// One of the equal parts that the tenants are divided into: `2/4`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Shard {
    number: u32,
    count: u32,
}

impl Shard {
    /// All tenants.
    pub const WHOLE: Self = Self {
        number: 1,
        count: 1,
    };
    /// How many parts there are at most.
    pub const MAX_COUNT: u32 = 1_024;

    /// The part `number` of `count`, counted from 1; `None` outside 1 <= `number` <= `count` <= [`MAX_COUNT`](Self::MAX_COUNT).
    #[must_use]
    pub fn new(number: u32, count: u32) -> Option<Self> {
        ((1..=count).contains(&number) && count <= Self::MAX_COUNT)
            .then_some(Self { number, count })
    }

    /// The part of `count` that an id falls into. Other programs find it too: divide the first 32 bits of the id's UUID of
    /// version 5 in the namespace OID by 2^32, multiply by `count`, cut off what follows the point, and add 1.
    ///
    /// # Panics
    /// `count` is 0.
    #[must_use]
    pub fn of(id: &str, count: u32) -> Self {
        assert!(count > 0, "there is a part");
        let hash = Uuid::new_v5(&Uuid::NAMESPACE_OID, id.as_bytes())
            .as_fields()
            .0;
        Self {
            number: ((u64::from(hash) * u64::from(count)) >> 32) as u32 + 1,
            count,
        }
    }

    /// Whether an id falls into it.
    #[must_use]
    pub fn contains(self, id: &str) -> bool {
        self.count == 1 || Self::of(id, self.count) == self
    }

    /// Which part it is, from 1.
    #[must_use]
    pub fn number(self) -> u32 {
        self.number
    }

    /// How many parts there are.
    #[must_use]
    pub fn count(self) -> u32 {
        self.count
    }
}

impl fmt::Display for Shard {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.number, self.count)
    }
}

/// A text that is neither a shard nor the assignment of one.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{0}` is not a shard; {RULE}")]
pub struct InvalidShard(String);

impl InvalidShard {
    fn new(text: &str) -> Self {
        Self(text.chars().take(40).flat_map(char::escape_debug).collect())
    }
}

impl FromStr for Shard {
    type Err = InvalidShard;

    fn from_str(text: &str) -> Result<Self, InvalidShard> {
        // `parse` would take `+1` as well.
        let whole = |text: &str| {
            let digits = text.bytes().all(|byte| byte.is_ascii_digit());
            digits.then(|| text.parse().ok()).flatten()
        };
        text.split_once('/')
            .and_then(|(number, count)| Self::new(whole(number)?, whole(count)?))
            .ok_or_else(|| InvalidShard::new(text))
    }
}

/// Which shard an agent is to serve, and from which date on: `2/4`, `1/3 from 2026-12-01`, `none from 2026-12-01`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ShardAssignment {
    /// The shard; `None`: no tenants.
    pub shard: Option<Shard>,
    /// The first date whose occurrences are divided so; `None`: the division does not change.
    pub from: Option<NaiveDate>,
}

/// All tenants, for ever.
impl Default for ShardAssignment {
    fn default() -> Self {
        Shard::WHOLE.into()
    }
}

impl From<Shard> for ShardAssignment {
    fn from(shard: Shard) -> Self {
        Self {
            shard: Some(shard),
            from: None,
        }
    }
}

impl fmt::Display for ShardAssignment {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&shard_text(self.shard))?;
        match self.from {
            Some(date) => write!(f, " from {date}"),
            None => Ok(()),
        }
    }
}

impl FromStr for ShardAssignment {
    type Err = InvalidShard;

    fn from_str(text: &str) -> Result<Self, InvalidShard> {
        let invalid = || InvalidShard::new(text);
        let (shard, from) = match text.split_once(" from ") {
            Some((shard, date)) => {
                let date: NaiveDate = date.trim().parse().map_err(|_| invalid())?;
                if !(1970..=9999).contains(&date.year()) {
                    return Err(invalid());
                }
                (shard, Some(date))
            }
            None => (text, None),
        };
        let shard = match shard.trim() {
            // An agent that never had a shard has nothing to end.
            "none" if from.is_some() => None,
            shard => Some(shard.parse().map_err(|_| invalid())?),
        };
        Ok(Self { shard, from })
    }
}

fn shard_text(shard: Option<Shard>) -> String {
    shard.map_or_else(|| "none".to_owned(), |shard| shard.to_string())
}

/// What of the tenants a store serves, by the date of the occurrence.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Sharding {
    /// Each division with the first date of it, in their order. The first holds from the beginning.
    divisions: Vec<(NaiveDate, Option<Shard>)>,
    /// The shards whose tenants have to be known.
    known: Vec<Shard>,
}

/// All tenants, for ever.
impl Default for Sharding {
    fn default() -> Self {
        Self::always(Some(Shard::WHOLE))
    }
}

/// Why a store does not serve what an assignment says.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum AssignmentError {
    /// Another shard is assigned, and no date from which.
    #[error(
        "the store serves shard {serves}, and {wanted} is assigned; give every shard a store of its own, or change the \
         division from a date on: `{wanted} from {earliest}` or later"
    )]
    OtherShard {
        /// What the store serves.
        serves: String,
        /// What is assigned.
        wanted: String,
        /// The first date that is possible.
        earliest: NaiveDate,
    },
    /// It is assigned already, from another date on.
    #[error(
        "the store serves {serves} from {from} on, and that has begun; name that date, or none"
    )]
    Begun {
        /// What the store serves.
        serves: String,
        /// Since which date.
        from: NaiveDate,
    },
    /// Occurrences of that date may have been planned already.
    #[error(
        "the division cannot change from {from} on, because occurrences of that date may have been planned; choose {earliest} \
         or later, at every agent"
    )]
    TooEarly {
        /// The date of the assignment.
        from: NaiveDate,
        /// The first date that is possible.
        earliest: NaiveDate,
    },
}

impl Sharding {
    fn always(shard: Option<Shard>) -> Self {
        Self {
            divisions: vec![(NaiveDate::MIN, shard)],
            known: shard.into_iter().collect(),
        }
    }

    /// What a store has kept of it: each division with the first date of it. The first counts from the beginning.
    ///
    /// # Errors
    /// A shard cannot be read.
    pub fn from_stored(
        stored: impl IntoIterator<Item = (NaiveDate, String)>,
    ) -> Result<Option<Self>, InvalidShard> {
        let mut divisions = Vec::new();
        for (from, shard) in stored {
            let shard = match shard.as_str() {
                "none" => None,
                shard => Some(shard.parse()?),
            };
            divisions.push((from, shard));
        }
        divisions.sort_by_key(|(from, _)| *from);
        let Some(first) = divisions.first_mut() else {
            return Ok(None);
        };
        first.0 = NaiveDate::MIN;
        let known = divisions.iter().filter_map(|(_, shard)| *shard).collect();
        Ok(Some(Self { divisions, known }))
    }

    /// As [`from_stored`](Self::from_stored) takes it. The first date is that of the beginning, 0001-01-01.
    #[must_use]
    pub fn to_stored(&self) -> Vec<(NaiveDate, String)> {
        let beginning = NaiveDate::from_ymd_opt(1, 1, 1).unwrap_or_default();
        let divisions = self.divisions.iter();
        divisions
            .map(|(from, shard)| ((*from).max(beginning), shard_text(*shard)))
            .collect()
    }

    /// What a store serves once it has this assignment. `stored` is what it serves, `None` where nothing is known of that, and
    /// `planned` until when each of its jobs has been planned, and the latest it has ever been. An assignment that it has already
    /// changes nothing.
    ///
    /// # Errors
    /// The store serves another shard, and the date from which it should serve this one is missing or too early.
    pub fn assign(
        stored: Option<Self>,
        assignment: &ShardAssignment,
        planned: &[(DateTime<Utc>, DateTime<Utc>)],
        now: DateTime<Utc>,
    ) -> Result<Self, AssignmentError> {
        let furthest = planned.iter().map(|(_, furthest)| *furthest).max();
        let until = || planned.iter().map(|(until, _)| *until);
        let newest = until().max().unwrap_or(now);
        let least = until().filter(|until| newest - *until <= MOST_BEHIND).min();
        let mut sharding = Self::assigned(stored, *assignment, furthest, now)?;
        sharding.known = sharding.known_after(least.unwrap_or(now).min(now));
        Ok(sharding)
    }

    fn assigned(
        stored: Option<Self>,
        ShardAssignment { shard, from }: ShardAssignment,
        planned_until: Option<DateTime<Utc>>,
        now: DateTime<Utc>,
    ) -> Result<Self, AssignmentError> {
        let mut sharding = match (stored, planned_until) {
            (Some(stored), _) => stored,
            (None, Some(_)) => Self::default(),
            // Nothing runs twice that has never run.
            (None, None) => {
                let mut new = Self::always(if from.is_some() { None } else { shard });
                new.divisions.extend(from.map(|from| (from, shard)));
                return Ok(new);
            }
        };
        // What has been planned counts, not the time: an agent that was down may take up a division that has begun.
        let planned = planned_until.map_or(now, |planned| planned + STORED_LATE);
        let begun = (planned + FURTHEST_AHEAD).date_naive();
        let earliest = begun.succ_opt().unwrap_or(begun);
        let (last_from, last) = sharding.last();
        if last == shard && from.is_none_or(|from| from == last_from || last_from == NaiveDate::MIN)
        {
            return Ok(sharding);
        }
        if last == shard && last_from < earliest {
            return Err(AssignmentError::Begun {
                serves: shard_text(shard),
                from: last_from,
            });
        }
        let Some(from) = from else {
            return Err(AssignmentError::OtherShard {
                serves: sharding.to_string(),
                wanted: shard_text(shard),
                earliest,
            });
        };
        if from < earliest {
            return Err(AssignmentError::TooEarly { from, earliest });
        }
        // What has not begun may still change.
        sharding.divisions.retain(|(begins, _)| *begins < earliest);
        if sharding.last().1 != shard {
            sharding.divisions.push((from, shard));
        }
        Ok(sharding)
    }

    fn last(&self) -> (NaiveDate, Option<Shard>) {
        let last = self.divisions.last().copied();
        last.unwrap_or((NaiveDate::MIN, None))
    }

    /// What it serves of the occurrences of a date.
    #[must_use]
    pub fn at(&self, date: NaiveDate) -> Option<Shard> {
        let passed = self.divisions.iter().take_while(|(from, _)| *from <= date);
        passed.last().and_then(|(_, shard)| *shard)
    }

    /// The shards whose tenants have to be known: those of the dates that were not over when the assignment was made, and of
    /// later ones.
    #[must_use]
    pub fn shards(&self) -> &[Shard] {
        &self.known
    }

    fn known_after(&self, planned_until: DateTime<Utc>) -> Vec<Shard> {
        let over = planned_until.checked_sub_signed(OVER_AFTER);
        let first = over.map_or(NaiveDate::MIN, |over| over.date_naive());
        let ends = self.divisions.iter().skip(1).map(|(from, _)| Some(*from));
        let mut known = Vec::new();
        for ((_, shard), ends) in self.divisions.iter().zip(ends.chain([None])) {
            let is_over = ends.is_some_and(|ends| ends <= first);
            if let (Some(shard), false) = (shard, is_over)
                && !known.contains(shard)
            {
                known.push(*shard);
            }
        }
        known
    }

    /// Whether a tenant has to be known.
    #[must_use]
    pub fn knows(&self, tenant: &TenantId) -> bool {
        self.known
            .iter()
            .any(|shard| shard.contains(tenant.as_str()))
    }

    /// Whether an item's run is its. The run of all records together goes by the job.
    #[must_use]
    pub fn serves(&self, job_id: &JobId, item: &ItemId, date: NaiveDate) -> bool {
        self.at(date)
            .is_some_and(|shard| shard.contains(key(job_id, item)))
    }

    /// What of a backfill is its.
    #[must_use]
    pub fn share_of(&self, job_id: &JobId, groups: Vec<BackfillGroup>) -> Vec<BackfillGroup> {
        let mut shares: Vec<BackfillGroup> = Vec::new();
        for group in groups {
            let mut by_shard: Vec<(Option<Shard>, BackfillGroup)> = Vec::new();
            for (due_at, occurrence) in group.occurrences {
                // A manual run is not made up for.
                let Some(date) = occurrence.shard_date() else {
                    continue;
                };
                let shard = self.at(date);
                if let Some((_, share)) = by_shard.iter_mut().find(|(of, _)| *of == shard) {
                    share.occurrences.push((due_at, occurrence));
                    continue;
                }
                let share = BackfillGroup {
                    schedule: group.schedule.clone(),
                    occurrences: vec![(due_at, occurrence)],
                    items: self.items_at(job_id, date, &group.items),
                };
                by_shard.push((shard, share));
            }
            let by_shard = by_shard.into_iter().map(|(_, share)| share);
            shares.extend(by_shard.filter(|share| !share.items.is_empty()));
        }
        shares
    }

    /// A shard that it serves on one of these dates and whose tenants are not known any more.
    #[must_use]
    pub fn forgotten(&self, from: NaiveDate, to: NaiveDate) -> Option<Shard> {
        let within = |(begins, _): &&(NaiveDate, _)| *begins > from && *begins <= to;
        let later = self
            .divisions
            .iter()
            .filter(within)
            .map(|(_, shard)| *shard);
        let is_known =
            |shard: &Shard| self.known.contains(shard) || self.known.contains(&Shard::WHOLE);
        let mut served = later.chain([self.at(from)]).flatten();
        served.find(|shard| !is_known(shard))
    }

    /// Those of the items whose run on a date is its.
    #[must_use]
    pub fn items_at(&self, job_id: &JobId, date: NaiveDate, items: &[ItemId]) -> Vec<ItemId> {
        let serves = |item: &&ItemId| self.serves(job_id, item, date);
        items.iter().filter(serves).cloned().collect()
    }

    /// Whose the runs of an item on a date are, in words, where they are not its: for an error message.
    #[must_use]
    pub fn elsewhere(&self, job_id: &JobId, item: &ItemId, date: NaiveDate) -> Option<String> {
        if self.serves(job_id, item, date) {
            return None;
        }
        Some(match self.at(date) {
            Some(own) => {
                let other = Shard::of(key(job_id, item), own.count);
                format!(
                    "{item} belongs to shard {other}, and this agent serves {own}; ask the agent of {other}"
                )
            }
            None => format!(
                "this agent serves no tenants on {date}; ask the agents that have a shard then"
            ),
        })
    }

    /// Whether it is all tenants, for ever.
    #[must_use]
    pub fn is_whole(&self) -> bool {
        self.divisions[..] == [(NaiveDate::MIN, Some(Shard::WHOLE))]
    }

    /// Where the first plan of a job begins, when that is before `first`: an agent that is new in a division, and late, makes
    /// up for what it has missed of it.
    #[must_use]
    pub fn first_plan(&self, first: DateTime<Utc>, now: DateTime<Utc>) -> DateTime<Utc> {
        match self.divisions[..] {
            [(_, None), (from, Some(_))] => {
                let begins = from.and_time(NaiveTime::MIN).and_utc() - FURTHEST_AHEAD;
                if (begins..begins + LATE_START).contains(&now) {
                    first.min(begins)
                } else {
                    first
                }
            }
            _ => first,
        }
    }
}

/// By what an item falls into a shard.
fn key<'i>(job_id: &'i JobId, item: &'i ItemId) -> &'i str {
    if item.is_aggregate() {
        job_id.as_str()
    } else {
        item.as_str()
    }
}

/// `1/2, from 2026-12-01 1/3`.
impl fmt::Display for Sharding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut divisions = self.divisions.iter();
        if let Some((_, first)) = divisions.next() {
            f.write_str(&shard_text(*first))?;
        }
        divisions.try_for_each(|(from, shard)| write!(f, ", from {from} {}", shard_text(*shard)))
    }
}

impl Occurrence {
    /// The date by which a run belongs to a shard: that of a local date or, in UTC, of an instant; `None` for a manual run.
    #[must_use]
    pub fn shard_date(self) -> Option<NaiveDate> {
        match self {
            Self::Date(date, _) => Some(date),
            Self::Instant(instant) => Some(instant.date_naive()),
            Self::Run(_) => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn date(text: &str) -> NaiveDate {
        text.parse().unwrap()
    }

    fn at(text: &str) -> DateTime<Utc> {
        text.parse().unwrap()
    }

    fn assign(
        stored: Option<&Sharding>,
        assignment: &str,
        planned: Option<&str>,
        now: &str,
    ) -> Result<Sharding, AssignmentError> {
        let assignment = assignment.parse().unwrap();
        let planned: Vec<_> = planned
            .map(|planned| (at(planned), at(planned)))
            .into_iter()
            .collect();
        Sharding::assign(stored.cloned(), &assignment, &planned, at(now))
    }

    #[test]
    fn the_shard_of_an_id_never_changes_and_others_can_compute_it() {
        // Python: uuid.uuid5(uuid.NAMESPACE_OID, "user123").time_low * 4 // 2**32 + 1
        let shards = ["user123", "a", "tenant-000001"].map(|id| Shard::of(id, 4).to_string());
        assert_eq!(shards, ["4/4", "4/4", "3/4"]);
    }

    #[test]
    fn texts_are_read_as_they_are_written_and_others_refused() {
        for text in ["1/1", "2/4", "1/3 from 2026-12-01", "none from 2026-12-01"] {
            let assignment: ShardAssignment = text.parse().unwrap();
            assert_eq!(assignment.to_string(), text);
        }
        for text in [
            "",
            "0/4",
            "5/4",
            "1/0",
            "1/1025",
            "1",
            "+1/4",
            "1/+4",
            "1/4 from",
            "none",
            "1/4 from today",
            "1/4 from 0001-01-01",
            "1/4 from +12345-01-01",
            "1/4from 2026-12-01",
            "99999999999/4",
            "1/4/2",
            "-1/4",
        ] {
            assert!(text.parse::<ShardAssignment>().is_err(), "{text}");
        }
    }

    #[test]
    fn a_division_changes_from_a_date_on_that_has_begun_nowhere() {
        let now = "2026-11-27T12:00:00Z";
        let first = assign(None, "1/2", None, now).unwrap();
        assert_eq!(first, assign(Some(&first), "1/2", Some(now), now).unwrap());
        assert!(matches!(
            assign(Some(&first), "2/2", None, now),
            Err(AssignmentError::OtherShard { earliest, .. }) if earliest == date("2026-11-29")
        ));
        let too_early = assign(Some(&first), "1/3 from 2026-11-28", None, now);
        assert!(matches!(too_early, Err(AssignmentError::TooEarly { .. })));
        // The clock is behind what has been planned.
        let planned = Some("2026-11-29T09:00:00Z");
        assert!(assign(Some(&first), "1/3 from 2026-11-29", planned, now).is_err());

        let second = assign(Some(&first), "1/3 from 2026-11-29", Some(now), now).unwrap();
        let half = Shard::new(1, 2);
        let third = Shard::new(1, 3);
        assert_eq!(second.at(date("2026-11-28")), half);
        assert_eq!(second.at(date("2026-11-29")), third);
        assert_eq!(second.shards(), [half.unwrap(), third.unwrap()]);
        assert_eq!(second.to_string(), "1/2, from 2026-11-29 1/3");
        // Until then it may change again, or not at all.
        let moved = assign(Some(&second), "1/4 from 2026-11-30", Some(now), now).unwrap();
        assert_eq!(moved.to_string(), "1/2, from 2026-11-30 1/4");
        let kept = assign(Some(&second), "1/2 from 2026-11-30", Some(now), now).unwrap();
        assert_eq!(kept, first);
        // Later it stays, with or without the date, and the former part is known until its last date is over.
        for (later, assignment, known) in [
            ("2026-12-01T00:00:00Z", "1/3", 2),
            ("2026-12-01T13:00:00Z", "1/3 from 2026-11-29", 1),
        ] {
            let same = assign(Some(&second), assignment, Some(later), later).unwrap();
            assert_eq!(same.divisions, second.divisions);
            assert_eq!(same.shards().len(), known, "{later}");
        }
    }

    #[test]
    fn a_date_may_move_until_it_has_begun_and_an_agent_that_was_down_takes_up_what_has() {
        let (now, date_of) = ("2026-11-27T12:00:00Z", |sharding: &Sharding| {
            sharding.last().0
        });
        let first = assign(None, "1/2", None, now).unwrap();
        let second = assign(Some(&first), "1/3 from 2026-12-01", Some(now), now).unwrap();
        let later = assign(Some(&second), "1/3 from 2026-12-05", Some(now), now).unwrap();
        assert_eq!(date_of(&later), date("2026-12-05"));
        let sooner = assign(Some(&later), "1/3 from 2026-11-29", Some(now), now).unwrap();
        assert_eq!(date_of(&sooner), date("2026-11-29"));
        let begun = "2026-11-30T00:00:00Z";
        let refused = assign(Some(&sooner), "1/3 from 2026-12-05", Some(begun), begun);
        assert!(matches!(refused, Err(AssignmentError::Begun { .. })));
        // Nothing of that date had been planned when the agent went down.
        let back = "2026-12-03T00:00:00Z";
        let late = assign(Some(&first), "1/3 from 2026-12-01", Some(now), back).unwrap();
        assert_eq!(
            (date_of(&late), late.shards().len()),
            (date("2026-12-01"), 2)
        );
    }

    #[test]
    fn tenants_are_known_until_the_least_planned_job_of_the_file_needs_them_no_more() {
        let now = "2026-11-27T12:00:00Z";
        let first = assign(None, "1/2", None, now).unwrap();
        let second = assign(Some(&first), "1/3 from 2026-12-01", Some(now), now).unwrap();
        let known = |others: &str, back: &str| {
            let planned = [others, back].map(|until| (at(until), at(until)));
            let third = "1/3".parse().unwrap();
            let sharding = Sharding::assign(Some(second.clone()), &third, &planned, at(back));
            sharding.unwrap().shards().len()
        };
        assert_eq!(known("2026-12-09T00:00:00Z", "2026-12-09T00:00:00Z"), 1);
        assert_eq!(known("2026-11-30T00:00:00Z", "2026-12-09T00:00:00Z"), 2);
        assert_eq!(known("2026-11-30T00:00:00Z", "2027-01-09T00:00:00Z"), 1);
    }

    #[test]
    fn what_is_forgotten_is_said() {
        let now = "2026-11-27T12:00:00Z";
        let first = assign(None, "1/2", None, now).unwrap();
        let second = assign(Some(&first), "1/3 from 2026-12-01", Some(now), now).unwrap();
        let forgotten = |sharding: &Sharding, from: &str, to: &str| {
            let shard = sharding.forgotten(date(from), date(to));
            shard.map(|shard| shard.to_string())
        };
        assert_eq!(forgotten(&second, "2026-11-20", "2026-12-05"), None);
        let back = "2026-12-09T00:00:00Z";
        let later = assign(Some(&second), "1/3", Some(back), back).unwrap();
        let half = Some("1/2".to_owned());
        assert_eq!(forgotten(&later, "2026-11-20", "2026-12-05"), half);
        assert_eq!(forgotten(&later, "2026-11-20", "2026-11-21"), half);
        assert_eq!(forgotten(&later, "2026-12-01", "2026-12-05"), None);
    }

    #[test]
    fn what_a_store_was_before_shards_counts() {
        let now = "2026-11-27T12:00:00Z";
        assert!(assign(None, "1/2", Some(now), now).is_err());
        let left = assign(None, "1/2 from 2026-11-29", Some(now), now).unwrap();
        assert_eq!(left.at(date("2026-11-28")), Some(Shard::WHOLE));
        assert!(!left.is_whole());
        assert!(assign(None, "1/1", Some(now), now).unwrap().is_whole());
        // A new store may come late.
        let late = assign(None, "2/2 from 2026-11-26", None, now).unwrap();
        assert_eq!(late.at(date("2026-11-25")), None);
        assert_eq!(
            late.first_plan(at(now), at(now)),
            at("2026-11-25T10:00:00Z")
        );
        let later = at("2026-11-28T12:00:00Z");
        assert_eq!(late.first_plan(later, later), later);
        assert_eq!(left.first_plan(at(now), at(now)), at(now));
    }

    #[test]
    fn what_is_stored_is_read_back() {
        let now = "2026-11-27T12:00:00Z";
        let before = assign(None, "1/2", None, now).unwrap();
        let sharding = assign(Some(&before), "none from 2026-12-01", None, now).unwrap();
        let stored = sharding.to_stored();
        assert_eq!(stored[0], (date("0001-01-01"), "1/2".to_owned()));
        assert_eq!(Sharding::from_stored(stored).unwrap(), Some(sharding));
        assert_eq!(Sharding::from_stored([]).unwrap(), None);
        Sharding::from_stored([(date("2026-12-01"), "all".to_owned())]).unwrap_err();
    }

    #[test]
    fn the_run_of_all_records_goes_by_its_job() {
        let halves: Vec<Sharding> = [1, 2]
            .map(|number| Sharding::always(Shard::new(number, 2)))
            .into();
        let jobs: Vec<JobId> = (0..64)
            .map(|n| JobId::new(format!("job{n}")).unwrap())
            .collect();
        let of = |half: &Sharding| {
            let serves = |job: &&JobId| half.serves(job, &ItemId::aggregate(), date("2026-12-01"));
            jobs.iter().filter(serves).count()
        };
        assert_eq!(of(&halves[0]) + of(&halves[1]), 64);
        assert!(of(&halves[0]).min(of(&halves[1])) > 16);
    }

    proptest! {
        /// Whatever the divisions were, every tenant's every date has exactly one store.
        #[test]
        fn every_run_belongs_to_one_store(
            counts in prop::collection::vec((1_u32..=9, 1_i64..4), 1..4),
            tenant in "[a-z0-9]{1,12}",
        ) {
            let agents = counts.iter().map(|(count, _)| *count).max().unwrap();
            let mut now = at("2026-11-27T12:00:00Z");
            let mut stores: Vec<Option<Sharding>> = vec![None; agents as usize];
            let mut from = None;
            for (count, days) in &counts {
                for number in 1..=agents {
                    let assignment = ShardAssignment { shard: Shard::new(number, *count), from };
                    let store = &mut stores[number as usize - 1];
                    // An agent whose shard stays, or who has none yet, is not started anew.
                    let last = store.as_ref().and_then(|store| store.last().1);
                    if last == assignment.shard {
                        continue;
                    }
                    *store = Some(Sharding::assign(store.take(), &assignment, &[], now).unwrap());
                }
                now += TimeDelta::days(days + 2);
                from = Some((now + TimeDelta::days(2)).date_naive());
            }
            let (job, item) = (JobId::new("job").unwrap(), ItemId::new(&tenant).unwrap());
            for day in -5..30 {
                let day = date("2026-11-27") + TimeDelta::days(day);
                let serving = stores.iter().flatten().filter(|store| store.serves(&job, &item, day));
                prop_assert_eq!(serving.count(), 1, "{} of {}", day, tenant);
            }
        }

        #[test]
        fn the_parts_are_about_equal(count in 2_u32..=16) {
            let mut sizes = vec![0_u32; count as usize];
            for n in 0..4_000 {
                sizes[Shard::of(&format!("tenant-{n:06}"), count).number() as usize - 1] += 1;
            }
            let mean = 4_000 / count;
            prop_assert!(sizes.iter().all(|size| size.abs_diff(mean) < mean / 2), "{:?}", sizes);
        }
    }
}
