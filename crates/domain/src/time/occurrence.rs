//! The key under which a tenant's run of a job happens at most once.

use std::{fmt, str::FromStr};

use chrono::{DateTime, NaiveDate, SecondsFormat, Utc};
use serde::{Deserialize, Serialize};
use uuid::Uuid;

const RUN: &str = "run-";

/// Which run of a job for a tenant this is: with the job and the tenant the key that is unique for ever.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub enum Occurrence {
    /// The local date it belongs to, and the place of its time among those of the date, the first 1: `2026-03-29`, and
    /// from the second on `2026-03-29#2`.
    Date(NaiveDate, u8),
    /// A manual run, under a key of its own: `run-6ba7b811-9dad-11d1-80b4-00c04fd430c8`.
    Run(Uuid),
    /// The instant, for hourly recurrences: `2026-03-29T07:30:00Z`.
    Instant(DateTime<Utc>),
}

#[cfg(feature = "openapi")]
impl utoipa::PartialSchema for Occurrence {
    fn schema() -> utoipa::openapi::RefOr<utoipa::openapi::Schema> {
        let object = utoipa::openapi::schema::ObjectBuilder::new();
        let object = object.schema_type(utoipa::openapi::schema::Type::String);
        let text = "The run: a local date, with `#2` and so on from the second time of day on, an instant for hourly and cron \
             schedules, or `run-` and a UUID";
        let object = object.description(Some(text));
        let (date, run) = ("2026-11-25", "run-6ba7b811-9dad-11d1-80b4-00c04fd430c8");
        object.examples([date, run]).into()
    }
}

#[cfg(feature = "openapi")]
impl utoipa::ToSchema for Occurrence {}

impl fmt::Display for Occurrence {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Date(date, 1) => write!(f, "{date}"),
            Self::Date(date, place) => write!(f, "{date}#{place}"),
            Self::Run(id) => write!(f, "{RUN}{id}"),
            Self::Instant(instant) => {
                f.write_str(&instant.to_rfc3339_opts(SecondsFormat::Secs, true))
            }
        }
    }
}

impl FromStr for Occurrence {
    type Err = chrono::ParseError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        if let Some(id) = text.strip_prefix(RUN)
            && let Ok(id) = id.parse()
        {
            return Ok(Self::Run(id));
        }
        // As it is written only: another text would be another key of the same run.
        if let Some((date, written)) = text.split_once('#')
            && let Ok(place @ 2..) = written.parse::<u8>()
            && place.to_string() == written
        {
            return Ok(Self::Date(date.parse()?, place));
        }
        text.parse()
            .map(|date| Self::Date(date, 1))
            .or_else(|_| text.parse().map(Self::Instant))
    }
}

impl TryFrom<String> for Occurrence {
    type Error = chrono::ParseError;
    fn try_from(text: String) -> Result<Self, Self::Error> {
        text.parse()
    }
}

impl From<Occurrence> for String {
    fn from(occurrence: Occurrence) -> Self {
        occurrence.to_string()
    }
}
