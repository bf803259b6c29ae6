//! Logs and what metrics mean: set up once, at the start of a binary.

use std::{
    io::{self, Write},
    str::FromStr,
};

use punctual_application::SPANS;
use punctual_domain::visible;
use tracing::Metadata;
use tracing_subscriber::{
    EnvFilter, Layer,
    filter::{FilterExt, filter_fn},
    fmt::MakeWriter,
    layer::SubscriberExt,
    util::SubscriberInitExt,
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
    describe_counter!(
        "punctual_unanswered_calls_total",
        "Calls of a Config Database or a result sink that panicked or took too long."
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

/// What has been begun; spans that wait to be sent are sent when it is dropped.
#[derive(Debug)]
#[must_use = "traces end when it is dropped"]
pub struct Telemetry {
    #[cfg(feature = "otel")]
    traces: Option<opentelemetry_sdk::trace::SdkTracerProvider>,
}

/// Begins to log to `writer`, and with the feature `otel` to send traces to the collector that
/// `OTEL_EXPORTER_OTLP_ENDPOINT` or `OTEL_EXPORTER_OTLP_TRACES_ENDPOINT` names, if one does. The other variables of
/// OpenTelemetry hold too: `OTEL_EXPORTER_OTLP_HEADERS`, `OTEL_TRACES_SAMPLER`, `OTEL_RESOURCE_ATTRIBUTES` and so on;
/// `service` is the name unless `OTEL_SERVICE_NAME` says another.
///
/// # Errors
/// When `filter` is no filter, the collector's address cannot be used, or logging has begun already.
pub fn init<W>(
    service: &'static str,
    filter: &str,
    format: LogFormat,
    writer: W,
    colours: bool,
) -> Result<Telemetry, String>
where
    W: for<'w> MakeWriter<'w> + Send + Sync + 'static,
{
    let filter = EnvFilter::from_str(filter).map_err(|error| {
        format!("BATCH_LOG is no filter ({error}); use one as info or info,sqlx=warn")
    })?;
    let no_spans = filter_fn(|metadata| metadata.target() != SPANS);
    let lines = tracing_subscriber::fmt::layer()
        .with_writer(OneLineEach(writer))
        .with_target(false);
    let lines = match format {
        LogFormat::Text => lines.with_ansi(colours).boxed(),
        LogFormat::Json => lines.json().flatten_event(true).boxed(),
    };
    let registry = tracing_subscriber::registry().with(lines.with_filter(filter.and(no_spans)));
    #[cfg(feature = "otel")]
    {
        let traces = otlp::provider(service)?;
        let layer = traces.as_ref().map(otlp::layer);
        registry.with(layer).try_init().map_err(|e| e.to_string())?;
        Ok(Telemetry { traces })
    }
    #[cfg(not(feature = "otel"))]
    {
        let _ = service;
        registry.try_init().map_err(|e| e.to_string())?;
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

#[cfg(feature = "otel")]
impl Drop for Telemetry {
    fn drop(&mut self) {
        if let Some(traces) = &self.traces
            && let Err(error) = traces.shutdown()
        {
            tracing::warn!(%error, "The last traces could not be sent: {error}");
        }
    }
}

#[cfg(feature = "otel")]
mod otlp {
    use opentelemetry::trace::TracerProvider;
    use opentelemetry_otlp::{Protocol, SpanExporter, WithExportConfig};
    use opentelemetry_sdk::{Resource, trace::SdkTracerProvider};
    use punctual_application::SPANS;
    use tracing::Subscriber;
    use tracing_subscriber::{Layer, filter::filter_fn, registry::LookupSpan};

    const ENDPOINTS: [&str; 2] = [
        "OTEL_EXPORTER_OTLP_ENDPOINT",
        "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT",
    ];

    pub(super) fn provider(service: &'static str) -> Result<Option<SdkTracerProvider>, String> {
        let named = |name: &&str| std::env::var(name).is_ok_and(|value| !value.is_empty());
        let Some(name) = ENDPOINTS.into_iter().find(named) else {
            return Ok(None);
        };
        let exporter = SpanExporter::builder()
            .with_http()
            .with_protocol(Protocol::HttpBinary)
            .build()
            .map_err(|error| {
                format!("{name} cannot be used ({error}); give the collector's address as http://HOST:4318")
            })?;
        let mut resource = Resource::builder();
        if std::env::var_os("OTEL_SERVICE_NAME").is_none() {
            resource = resource.with_service_name(service);
        }
        let provider = SdkTracerProvider::builder()
            .with_batch_exporter(exporter)
            .with_resource(resource.build());
        Ok(Some(provider.build()))
    }

    pub(super) fn layer<S>(provider: &SdkTracerProvider) -> impl Layer<S> + use<S>
    where
        S: Subscriber + for<'s> LookupSpan<'s> + Send + Sync,
    {
        tracing_opentelemetry::layer()
            .with_tracer(provider.tracer("punctual"))
            .with_location(false)
            .with_threads(false)
            .with_filter(filter_fn(|metadata| metadata.target() == SPANS))
    }
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
