#![doc = include_str!("../README.md")]
#![warn(missing_docs)]

mod logs;
mod metrics;
#[cfg(feature = "otel")]
mod traces;

pub use logs::{
    DEFAULT_FILTER, InvalidLogFormat, LogFormat, Options, Telemetry, TelemetryError, init,
};
pub use metrics::{BUCKETS, METRICS, Metric, MetricKind, describe_metrics};
#[cfg(feature = "otel")]
pub use traces::{continue_from, traceparent};

/// Target of the spans that traces are made of: `batch`, `chunk`, `item` and `call`. They are for a collector; keep them
/// out of the log. The same as `punctual_application::SPANS`.
pub const SPANS: &str = "punctual::spans";
