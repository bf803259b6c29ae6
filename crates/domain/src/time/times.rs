//! Times of day: one, or several in their order.

use std::{fmt, str::FromStr, sync::Arc};

use chrono::{NaiveTime, Timelike};

/// A time of day, `HH:MM`. An hourly slot uses its minute only.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct TimeOfDay(NaiveTime);

impl TimeOfDay {
    /// `hour` 0–23 and `minute` 0–59; `None` outside.
    #[must_use]
    pub fn new(hour: u32, minute: u32) -> Option<Self> {
        NaiveTime::from_hms_opt(hour, minute, 0).map(Self)
    }

    /// Hour of the day, 0–23.
    #[must_use]
    pub fn hour(self) -> u32 {
        self.0.hour()
    }

    /// Minutes after the hour, 0–59.
    #[must_use]
    pub fn minute(self) -> u32 {
        self.0.minute()
    }

    pub(crate) fn clock(self) -> NaiveTime {
        self.0
    }

    /// The same minute of the hour after midnight.
    pub(crate) fn in_first_hour(self) -> Self {
        Self::new(0, self.minute()).unwrap_or_default()
    }

    /// Minutes after midnight, 0–1439.
    pub(crate) fn minute_of_day(self) -> u16 {
        (self.0.hour() * 60 + self.0.minute()) as u16
    }

    /// The time of [`minute_of_day`](Self::minute_of_day).
    pub(crate) fn from_minute_of_day(minute: u16) -> Self {
        Self::new(u32::from(minute) / 60, u32::from(minute) % 60).unwrap_or_default()
    }
}

impl Default for TimeOfDay {
    /// The documented default, 09:00.
    fn default() -> Self {
        Self::new(9, 0).expect("09:00 exists")
    }
}

impl FromStr for TimeOfDay {
    type Err = ();

    /// Reads `HH:MM`, also as `H:MM` or with `:00` seconds.
    fn from_str(text: &str) -> Result<Self, ()> {
        let (hour, rest) = text.split_once(':').ok_or(())?;
        let minute = rest.strip_suffix(":00").unwrap_or(rest);
        let number = |part: &str, shortest: usize| {
            let digits = part.bytes().all(|b| b.is_ascii_digit());
            if digits && (shortest..=2).contains(&part.len()) {
                part.parse().map_err(|_| ())
            } else {
                Err(())
            }
        };
        Self::new(number(hour, 1)?, number(minute, 2)?).ok_or(())
    }
}

impl fmt::Display for TimeOfDay {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.0.format("%H:%M"))
    }
}

/// The times of a day, at least one, each once and in their order.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Times {
    first: TimeOfDay,
    /// Nearly every tenant has one time, which needs no allocation.
    others: Option<Arc<[TimeOfDay]>>,
}

impl Times {
    /// How many times a day a preference may name.
    pub const MAX: usize = 24;

    /// These times; `None`: there are none.
    pub fn of(times: impl IntoIterator<Item = TimeOfDay>) -> Option<Self> {
        let mut times: Vec<TimeOfDay> = times.into_iter().collect();
        times.sort_unstable();
        times.dedup();
        let (first, others) = times.split_first()?;
        let others = (!others.is_empty()).then(|| others.into());
        Some(Self {
            first: *first,
            others,
        })
    }

    /// The earliest.
    #[must_use]
    pub fn first(&self) -> TimeOfDay {
        self.first
    }

    /// All of them, the earliest first.
    pub fn iter(&self) -> impl Iterator<Item = TimeOfDay> {
        let others = self.others.as_deref().unwrap_or_default();
        std::iter::once(self.first).chain(others.iter().copied())
    }

    /// The only one; `None`: there are several.
    #[must_use]
    pub fn only(&self) -> Option<TimeOfDay> {
        self.others.is_none().then_some(self.first)
    }
}

impl Default for Times {
    /// The documented default, 09:00.
    fn default() -> Self {
        TimeOfDay::default().into()
    }
}

impl From<TimeOfDay> for Times {
    fn from(first: TimeOfDay) -> Self {
        Self {
            first,
            others: None,
        }
    }
}

impl fmt::Display for Times {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.first.fmt(f)?;
        self.iter()
            .skip(1)
            .try_for_each(|time| write!(f, ",{time}"))
    }
}
