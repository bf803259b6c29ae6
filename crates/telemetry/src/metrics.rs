//! Every metric, in one table. The descriptions that Prometheus shows and `docs/reference/metrics.md` are made from it.
//!
//! To add a metric:
//!
//! 1. Record it where it happens, with the macros of the crate `metrics`. The name begins with `punctual_` and ends with
//!    `_total` (a counter) or its unit, such as `_seconds`. A label has few values: a job, never a tenant.
//! 2. Add it to [`METRICS`], in words for an operator, with its labels, and run `make reference`. A test compares the table
//!    with what the crates record.
//! 3. If somebody should be woken by it, add a rule to `docs/operations/alerts.yml` and its section to the runbook, and a panel
//!    to the dashboard.

use metrics::{Unit, describe_counter, describe_gauge, describe_histogram};

/// Upper bounds in seconds of the histograms whose names end in `_seconds`.
pub const BUCKETS: [f64; 10] = [0.01, 0.05, 0.1, 0.5, 1.0, 5.0, 15.0, 60.0, 300.0, 3600.0];

/// Kind of a metric.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum MetricKind {
    /// A number that only grows while the process runs.
    Counter,
    /// A number as it is now.
    Gauge,
    /// Durations in seconds, counted by [`BUCKETS`].
    Histogram,
}

/// A metric of Punctual.
#[derive(Debug, Clone, Copy)]
pub struct Metric {
    /// Name, as Prometheus shows it.
    pub name: &'static str,
    /// Kind, which decides how it is queried.
    pub kind: MetricKind,
    /// Names of its labels.
    pub labels: &'static [&'static str],
    /// Meaning, for an operator.
    pub description: &'static str,
}

use MetricKind::{Counter, Gauge, Histogram};

const fn metric(
    name: &'static str,
    kind: MetricKind,
    labels: &'static [&'static str],
    description: &'static str,
) -> Metric {
    Metric {
        name,
        kind,
        labels,
        description,
    }
}

/// All metrics that the agent or a service that embeds Punctual records.
pub const METRICS: [Metric; 19] = [
    metric(
        "punctual_items_total",
        Counter,
        &["job_id", "status", "failure_kind"],
        "Number of items that have ended, by outcome: `succeeded`, `failed`, `nothing_to_do` or `skipped`; of those that failed, by kind: `handler` or `data`.",
    ),
    metric(
        "punctual_batches_total",
        Counter,
        &["job_id"],
        "Number of batches queued.",
    ),
    metric(
        "punctual_changes_total",
        Counter,
        &["job_id"],
        "Number of preference changes applied.",
    ),
    metric(
        "punctual_feed_missed_total",
        Counter,
        &["job_id"],
        "Number of preference changes that the feed missed and a full read found.",
    ),
    metric(
        "punctual_unanswered_calls_total",
        Counter,
        &["call", "reason"],
        "Number of calls of a Config Database, a source of items or a result sink that panicked or timed out.",
    ),
    metric(
        "punctual_tenant_erasures_total",
        Counter,
        &["outcome"],
        "Number of attempts to erase a tenant because the Config Database has erased it; `outcome`: `done` or `failed`.",
    ),
    metric(
        "punctual_refused_addresses_total",
        Counter,
        &["job_id", "suppressed"],
        "Number of addresses of which a mail server said that they do not exist; `suppressed`: `true`, or `false` while it says so of too many.",
    ),
    metric(
        "punctual_alerts_total",
        Counter,
        &["channel", "outcome"],
        "Number of attempts to send an alert, by outcome: `sent`, `failed` (it is retried) or `given_up`.",
    ),
    metric(
        "punctual_waiting_items",
        Gauge,
        &["job_id"],
        "Number of items that wait because their work goes on elsewhere; every process on one store shows the same number.",
    ),
    metric(
        "punctual_provider_batches_total",
        Counter,
        &["purpose_id", "outcome"],
        "Number of provider batches that have ended, by outcome: `completed`, `expired`, `cancelled`, `failed` or `given_up`.",
    ),
    metric(
        "punctual_provider_batch_tokens_total",
        Counter,
        &["purpose_id", "kind"],
        "Number of tokens in provider batches that have ended, by kind: `input` or `output`.",
    ),
    metric(
        "punctual_removed_rows_total",
        Counter,
        &["kind"],
        "Number of rows that were kept long enough and have been removed from the store, by kind, such as `results`, `dead_letters` or `batches`.",
    ),
    metric(
        "punctual_scheduled_tenants",
        Gauge,
        &["job_id"],
        "Number of scheduled tenants.",
    ),
    metric(
        "punctual_quarantined_preferences",
        Gauge,
        &["job_id"],
        "Number of preferences that cannot be used.",
    ),
    metric(
        "punctual_preferences_seen_timestamp_seconds",
        Gauge,
        &["job_id"],
        "Unix time until which every stored preference is in effect.",
    ),
    metric(
        "punctual_planned_timestamp_seconds",
        Gauge,
        &[],
        "Unix time until which this process has planned everything due; absent while it has never been the leader.",
    ),
    metric(
        "punctual_leads",
        Gauge,
        &[],
        "1 if this process is the scheduler leader, else 0.",
    ),
    metric(
        "punctual_fire_lateness_seconds",
        Histogram,
        &["job_id", "stage"],
        "Seconds from the due time to the batch being `queued`, and to its first item being `started`.",
    ),
    metric(
        "punctual_removal_seconds",
        Histogram,
        &[],
        "Seconds for which the removal of one portion of what was kept long enough has kept others from writing to the store.",
    ),
];

/// Describes every metric to the recorder. Call it once, after a recorder is installed.
pub fn describe_metrics() {
    for metric in &METRICS {
        match metric.kind {
            Counter => describe_counter!(metric.name, metric.description),
            Gauge => describe_gauge!(metric.name, metric.description),
            Histogram => describe_histogram!(metric.name, Unit::Seconds, metric.description),
        }
    }
}
