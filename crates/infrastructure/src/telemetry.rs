//! Logs: set up once, at the start of a binary.

use std::str::FromStr;

use tracing_subscriber::{
    EnvFilter, fmt::MakeWriter, layer::SubscriberExt, util::SubscriberInitExt,
};

/// What is logged unless a filter says otherwise. HTTP clients log whole headers at `debug`; never below
/// `info` by accident.
pub const DEFAULT_FILTER: &str =
    "info,hyper=info,reqwest=info,apalis=warn,apalis_core=warn,sqlx=warn";

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
