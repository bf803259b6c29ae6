//! How values on the command line are read: what is wrong is said in words of the field, with an example.

use std::{ops::RangeInclusive, str::FromStr, time::Duration};

use chrono::{DateTime, NaiveDate, Utc};
use clap::builder::{PossibleValuesParser, TypedValueParser};
use uuid::Uuid;

pub(super) fn date(text: &str) -> Result<NaiveDate, &'static str> {
    text.parse()
        .map_err(|_| "expected a date, e.g. 2026-11-27 (YYYY-MM-DD)")
}

pub(super) fn instant(text: &str) -> Result<DateTime<Utc>, &'static str> {
    text.parse()
        .map_err(|_| "expected an instant, e.g. 2026-11-27T09:00:00Z (RFC 3339)")
}

pub(super) fn duration(text: &str) -> Result<Duration, &'static str> {
    humantime::parse_duration(text).map_err(|_| "expected a length of time, e.g. 24h or 90m")
}

pub(super) fn batch_id(text: &str) -> Result<Uuid, &'static str> {
    text.parse().map_err(|_| {
        "expected the id of a batch, e.g. 9f0e6c1e-0d4b-5c1e-8a3c-2f6f7b1c9d10; \
         `punctual-agent batches` lists them"
    })
}

pub(super) fn dead_letter_id(text: &str) -> Result<i64, &'static str> {
    text.parse().map_err(|_| {
        "expected the number of a dead letter, e.g. 17; `punctual-agent dead-letters list` lists them"
    })
}

/// Reads a whole number of this range.
pub(super) fn whole_number<T>(
    range: RangeInclusive<T>,
) -> impl Fn(&str) -> Result<T, String> + Clone + Send + Sync + 'static
where
    T: FromStr + PartialOrd + std::fmt::Display + Clone + Send + Sync + 'static,
{
    move |text: &str| {
        let number = text.parse().ok().filter(|number| range.contains(number));
        number.ok_or_else(|| {
            let (from, to) = (range.start(), range.end());
            format!("expected a whole number from {from} to {to}")
        })
    }
}

/// Reads one of these words; help and completions list them.
pub(super) fn word<T>(words: &'static [&'static str]) -> impl TypedValueParser<Value = T>
where
    T: FromStr<Err: std::error::Error + Send + Sync + 'static> + Clone + Send + Sync + 'static,
{
    PossibleValuesParser::new(words).try_map(|word| word.parse())
}
