//! Logs and what metrics mean: set up once, at the start of a binary.

use std::str::FromStr;

use tracing_subscriber::{
    EnvFilter, fmt::MakeWriter, layer::SubscriberExt, util::SubscriberInitExt,
};

/// What is logged unless a filter says otherwise. HTTP clients log whole headers at `debug`; never below
/// `info` by accident.
pub const DEFAULT_FILTER: &str =
    "info,hyper=info,reqwest=info,apalis=warn,apalis_core=warn,sqlx=warn";

/// Tells the recorder what each metric means. Call it once a recorder is installed.
pub fn describe_metrics() {
    use metrics::{Unit, describe_counter, describe_gauge, describe_histogram};
    describe_counter!("punctual_items_total", "Items with an outcome.");
    describe_counter!("punctual_batches_total", "Batches queued.");
    describe_counter!("punctual_changes_total", "Changes of preferences taken.");
    describe_counter!(
        "punctual_feed_missed_total",
        "Preferences that a full read found and the feed had not brought."
    );
    describe_gauge!("punctual_scheduled_tenants", "Tenants with a slot.");
    describe_gauge!(
        "punctual_quarantined_preferences",
        "Preferences that cannot be used."
    );
    describe_gauge!(
        "punctual_preferences_seen_timestamp_seconds",
        "Every preference stored until then is in force."
    );
    describe_gauge!(
        "punctual_planned_timestamp_seconds",
        "This process has planned everything due until then; none where another one fires."
    );
    describe_gauge!(
        "punctual_leads",
        "1 in the process that fires what falls due."
    );
    describe_histogram!(
        "punctual_fire_lateness_seconds",
        Unit::Seconds,
        "From the due instant to a batch being queued and to its first item starting."
    );
}

/// How a line of the log is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, serde::Deserialize)]
#[serde(try_from = "String")]
pub enum LogFormat {
    /// For people.
    #[default]
    Text,
    /// One JSON object a line.
    Json,
}

impl TryFrom<String> for LogFormat {
    type Error = String;

    fn try_from(word: String) -> Result<Self, String> {
        match word.as_str() {
            "text" => Ok(Self::Text),
            "json" => Ok(Self::Json),
            _ => Err(format!("`{word}` is not a log format; use text or json")),
        }
    }
}

/// Begins to log to `writer`.
///
/// # Errors
/// When `filter` is no filter, or logging has begun already.
pub fn init<W>(filter: &str, format: LogFormat, writer: W, colours: bool) -> Result<(), String>
where
    W: for<'w> MakeWriter<'w> + Send + Sync + 'static,
{
    let filter = EnvFilter::from_str(filter).map_err(|error| {
        format!("BATCH_LOG is no filter ({error}); use one as info or info,sqlx=warn")
    })?;
    let registry = tracing_subscriber::registry().with(filter);
    let lines = tracing_subscriber::fmt::layer()
        .with_writer(writer)
        .with_target(false);
    match format {
        LogFormat::Text => registry.with(lines.with_ansi(colours)).try_init(),
        LogFormat::Json => registry.with(lines.json().flatten_event(true)).try_init(),
    }
    .map_err(|error| error.to_string())
}
