//! Instants, as pages and files show them.

use chrono::{DateTime, SecondsFormat, Utc};
use punctual_domain::Zone;

/// The local time of an instant as people write it, such as `Wednesday, 25 November 2026, 09:00`; empty where the zone
/// has none.
#[must_use]
pub fn local(zone: &Zone, instant: DateTime<Utc>) -> String {
    let local = zone.local(instant);
    local.map_or_else(String::new, |local| {
        local.format("%A, %-d %B %Y, %H:%M").to_string()
    })
}

/// An instant as HTML: in UTC, and for scripts that show it in the visitor's zone.
#[must_use]
pub fn time(instant: &DateTime<Utc>) -> String {
    let exact = instant.to_rfc3339_opts(SecondsFormat::Millis, true);
    format!("<time datetime=\"{exact}\">{}</time>", utc(instant))
}

/// An instant as operators compare it with logs, such as `2026-11-25 09:00:00 UTC`.
#[must_use]
pub fn utc(instant: &DateTime<Utc>) -> String {
    instant.format("%Y-%m-%d %H:%M:%S UTC").to_string()
}
