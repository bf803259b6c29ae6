//! `punctual-agent reference`: what the references in `docs/reference` are made of.

use punctual_telemetry::{METRICS, Metric, MetricKind};

use super::Failure;
use crate::{cli::Reference, output::write, settings};

impl Reference {
    pub(crate) fn print(self) -> Result<(), Failure> {
        let text = match self {
            Self::Settings => settings::reference(),
            Self::Metrics => metrics(),
            Self::Agent => punctual_operations::description()
                .to_pretty_json()
                .map_err(Failure::failed)?,
            Self::ConfigDatabase => punctual_config_database::description()
                .to_pretty_json()
                .map_err(Failure::failed)?,
        };
        write(&format!("{text}\n"));
        Ok(())
    }
}

/// The metrics as a table in Markdown.
fn metrics() -> String {
    let row = |metric: &Metric| {
        let kind = match metric.kind {
            MetricKind::Counter => "counter",
            MetricKind::Gauge => "gauge",
            MetricKind::Histogram => "histogram",
        };
        let labels = metric.labels.iter().map(|label| format!("`{label}`"));
        let labels = labels.collect::<Vec<_>>().join(", ");
        let Metric {
            name, description, ..
        } = metric;
        format!("| `{name}` | {kind} | {labels} | {description} |")
    };
    let rows: Vec<String> = METRICS.iter().map(row).collect();
    format!(
        "| name | kind | labels | description |\n|---|---|---|---|\n{}",
        rows.join("\n")
    )
}
