//! Instants, texts and values, as pages and files show them.

use chrono::{DateTime, SecondsFormat, Utc};
use serde_json::Value;

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

/// A text as HTML.
#[must_use]
pub fn escape(text: &str) -> String {
    let escaped = askama::filters::escape(text, askama::filters::Html);
    escaped.map_or_else(|never| match never {}, |safe| safe.to_string())
}

/// A value as text to be read: a text without quotes, and anything else as JSON with a line for each member.
#[must_use]
pub fn pretty(value: &Value) -> String {
    match value {
        Value::String(text) => text.clone(),
        other => format!("{other:#}"),
    }
}
