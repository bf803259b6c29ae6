//! When preferences fall due: a line of JSON for each on standard input, with the `preference` or an `rrule`, the `zone` where it names none,
//! and the instants `from` and `to`; the instants after `from` until `to`, in seconds after 1970, as a line of JSON on standard
//! output.
//!
//! `echo '{"preference": {"frequency": "daily"}, "zone": "Europe/Berlin", "from": "2026-03-28T00:00:00Z",
//! "to": "2026-03-30T00:00:00Z"}' | cargo run --example occurrences`

use std::io::{BufWriter, Write, stdin, stdout};

use chrono::{DateTime, Utc};
use punctual_domain::{MergedPreference, Preference, from_rrule};
use serde::Deserialize;
use serde_json::{Map, Value, json};

#[derive(Deserialize)]
struct Question {
    #[serde(default)]
    preference: Map<String, Value>,
    rrule: Option<String>,
    zone: String,
    from: DateTime<Utc>,
    to: DateTime<Utc>,
}

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let mut out = BufWriter::new(stdout().lock());
    for line in stdin().lines() {
        let asked: Question = serde_json::from_str(&line?)?;
        let preference = match asked.rrule {
            Some(rule) => {
                from_rrule(&rule).map_err(|wrong| wrong.at("/rrule", None).to_string())?
            }
            None => asked.preference,
        };
        let stored = Preference::parse(&preference)?;
        let merged =
            MergedPreference::merge(&stored, &Preference::default(), &asked.zone.parse()?)?;
        let slot = merged.slot;
        let due = std::iter::successors(slot.next_after(asked.from), |last| slot.next_after(*last));
        let due: Vec<i64> = due
            .take_while(|due| *due <= asked.to)
            .map(|due| due.timestamp())
            .collect();
        writeln!(out, "{}", json!(due))?;
    }
    out.flush()?;
    Ok(())
}
