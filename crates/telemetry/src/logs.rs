//! The log: one line an event, as text or JSON.

use std::{
    io::{self, Write},
    str::FromStr,
};

use punctual_domain::visible;
use tracing::Metadata;
use tracing_subscriber::{
    EnvFilter, Layer,
    filter::{FilterExt, ParseError, filter_fn},
    fmt::MakeWriter,
    layer::SubscriberExt,
    util::{SubscriberInitExt, TryInitError},
};

use crate::SPANS;

/// The usual filter. HTTP clients log whole headers at `debug`: a filter should set them to `info` explicitly.
pub const DEFAULT_FILTER: &str =
    "info,hyper=info,reqwest=info,apalis=warn,apalis_core=warn,sqlx=warn";

/// Format of a line of the log: `text` or `json`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, serde::Deserialize)]
#[serde(try_from = "String")]
pub enum LogFormat {
    /// For people.
    #[default]
    Text,
    /// One JSON object per line.
    Json,
}

/// A word that is not the name of a [`LogFormat`].
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{0}` is not a log format; use text or json")]
pub struct InvalidLogFormat(String);

impl TryFrom<String> for LogFormat {
    type Error = InvalidLogFormat;

    fn try_from(word: String) -> Result<Self, InvalidLogFormat> {
        match word.as_str() {
            "text" => Ok(Self::Text),
            "json" => Ok(Self::Json),
            _ => Err(InvalidLogFormat(word)),
        }
    }
}

/// Options of logging and tracing.
#[derive(Debug, Clone, Copy)]
pub struct Options<'a> {
    /// Name of the program in traces, unless `OTEL_SERVICE_NAME` gives another.
    pub service: &'static str,
    /// Filter of the log, such as [`DEFAULT_FILTER`].
    pub filter: &'a str,
    /// Format of the lines.
    pub format: LogFormat,
    /// Whether lines of text have colours.
    pub colours: bool,
}

/// Why logging or sending traces cannot begin.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum TelemetryError {
    /// The filter cannot be parsed.
    #[error("invalid log filter `{filter}` ({source}); use one such as info or info,sqlx=warn")]
    Filter {
        /// The filter.
        filter: String,
        /// Error of the filter's parser.
        source: ParseError,
    },
    /// The address of the collector cannot be used.
    #[error("invalid {variable} ({reason}); give the collector's URL, e.g. http://HOST:4318")]
    Collector {
        /// The variable of OpenTelemetry that names the collector.
        variable: &'static str,
        /// Problem with the address.
        reason: String,
    },
    /// The process has a logger already.
    #[error(transparent)]
    Begun(#[from] TryInitError),
}

/// Logging that has begun. Dropping it sends the spans that still wait to be sent.
#[derive(Debug)]
#[must_use = "traces end when it is dropped"]
pub struct Telemetry {
    #[cfg(feature = "otel")]
    _traces: Option<crate::traces::Traces>,
}

/// Begins to log to `writer`, and with the feature `otel` to send traces to the collector that
/// `OTEL_EXPORTER_OTLP_ENDPOINT` or `OTEL_EXPORTER_OTLP_TRACES_ENDPOINT` names, if one does. The other variables of
/// OpenTelemetry hold too: `OTEL_EXPORTER_OTLP_HEADERS`, `OTEL_TRACES_SAMPLER`, `OTEL_RESOURCE_ATTRIBUTES` and so on.
///
/// # Errors
/// [`TelemetryError`].
pub fn init<W>(options: Options<'_>, writer: W) -> Result<Telemetry, TelemetryError>
where
    W: for<'w> MakeWriter<'w> + Send + Sync + 'static,
{
    let filter = EnvFilter::from_str(options.filter).map_err(|source| TelemetryError::Filter {
        filter: options.filter.to_owned(),
        source,
    })?;
    let no_spans = filter_fn(|metadata| metadata.target() != SPANS);
    let lines = tracing_subscriber::fmt::layer()
        .with_writer(OneLineEach(writer))
        .with_target(false);
    let lines = match options.format {
        LogFormat::Text => lines.with_ansi(options.colours).boxed(),
        LogFormat::Json => lines.json().flatten_event(true).boxed(),
    };
    let registry = tracing_subscriber::registry().with(lines.with_filter(filter.and(no_spans)));
    #[cfg(feature = "otel")]
    {
        let traces = crate::traces::Traces::begin(options.service)?;
        let layer = traces.as_ref().map(crate::traces::Traces::layer);
        registry.with(layer).try_init()?;
        Ok(Telemetry { _traces: traces })
    }
    #[cfg(not(feature = "otel"))]
    {
        registry.try_init()?;
        Ok(Telemetry {})
    }
}

/// Writes each event as one line, in which what a terminal would act upon is escaped: an event may quote text from
/// elsewhere.
struct OneLineEach<W>(W);

impl<'w, W: MakeWriter<'w>> MakeWriter<'w> for OneLineEach<W> {
    type Writer = OneLine<W::Writer>;

    fn make_writer(&'w self) -> Self::Writer {
        OneLine(self.0.make_writer())
    }

    fn make_writer_for(&'w self, metadata: &Metadata<'_>) -> Self::Writer {
        OneLine(self.0.make_writer_for(metadata))
    }
}

/// Takes an event at a time, as the formatter writes them.
struct OneLine<W>(W);

impl<W: Write> Write for OneLine<W> {
    fn write(&mut self, event: &[u8]) -> io::Result<usize> {
        let text = String::from_utf8_lossy(event);
        self.0.write_all(one_line(&text).as_bytes())?;
        Ok(event.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        self.0.flush()
    }
}

/// The event with everything escaped but its end and colours, which the formatter itself writes.
fn one_line(event: &str) -> String {
    let mut parts = event.trim_end_matches('\n').split("\x1b[");
    let mut line = visible(parts.next().unwrap_or_default()).into_owned();
    for part in parts {
        let digits = part.find(|c: char| !c.is_ascii_digit() && c != ';');
        let is_colour = digits.is_some_and(|at| part[at..].starts_with('m'));
        line.push_str(if is_colour { "\x1b[" } else { "\\u001b[" });
        line.push_str(&visible(part));
    }
    line.push('\n');
    line
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_event_is_one_line_that_a_terminal_only_shows() {
        let event = "\x1b[31mERROR\x1b[0m failed: \x1b[2J\x1b]0;t\x07\r\n2026-11-25  INFO forged\u{202e}\u{9b}2J\n";
        assert_eq!(
            one_line(event),
            "\x1b[31mERROR\x1b[0m failed: \\u001b[2J\\u001b]0;t\\u0007\\r\\n2026-11-25  INFO forged\\u202e\\u009b2J\n"
        );
        assert_eq!(one_line("Größe\n"), "Größe\n");
    }

    #[test]
    fn what_is_logged_passes_through_it() {
        let written = std::sync::Arc::new(std::sync::Mutex::new(Vec::new()));
        struct Into(std::sync::Arc<std::sync::Mutex<Vec<u8>>>);
        impl Write for Into {
            fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
                self.0.lock().unwrap().write(bytes)
            }
            fn flush(&mut self) -> io::Result<()> {
                Ok(())
            }
        }
        let sink = std::sync::Arc::clone(&written);
        let layer = tracing_subscriber::fmt::layer()
            .with_ansi(true)
            .with_writer(OneLineEach(move || Into(sink.clone())));
        let hostile = "400: \x1b[2J\n2026-11-25T00:00:00Z  INFO forged";
        tracing::subscriber::with_default(tracing_subscriber::registry().with(layer), || {
            tracing::warn!(reason = hostile, error = %hostile, "failed: {hostile}");
        });
        let text = String::from_utf8(written.lock().unwrap().clone()).unwrap();
        assert_eq!(text.matches('\n').count(), 1, "{text:?}");
        assert!(!text.contains("\x1b[2J"), "{text:?}");
    }
}
