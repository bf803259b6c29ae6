//! What each metric means. A new metric is described here, and recorded where it happens with the macros of `metrics`.

use metrics::{Unit, describe_counter, describe_gauge, describe_histogram};

/// Upper bounds in seconds of the histograms whose names end in `_seconds`.
pub const BUCKETS: [f64; 10] = [0.01, 0.05, 0.1, 0.5, 1.0, 5.0, 15.0, 60.0, 300.0, 3600.0];

/// Describes every metric to the recorder. Call it once, after a recorder is installed.
pub fn describe_metrics() {
    describe_counter!(
        "punctual_items_total",
        "Number of items that have ended, by outcome."
    );
    describe_counter!("punctual_batches_total", "Number of batches queued.");
    describe_counter!(
        "punctual_changes_total",
        "Number of preference changes applied."
    );
    describe_counter!(
        "punctual_feed_missed_total",
        "Number of preference changes that the feed missed and a full read found."
    );
    describe_counter!(
        "punctual_unanswered_calls_total",
        "Number of calls of a Config Database or a result sink that panicked or timed out."
    );
    describe_gauge!("punctual_scheduled_tenants", "Number of scheduled tenants.");
    describe_gauge!(
        "punctual_quarantined_preferences",
        "Number of preferences that cannot be used."
    );
    describe_gauge!(
        "punctual_preferences_seen_timestamp_seconds",
        "Unix time until which every stored preference is in effect."
    );
    describe_gauge!(
        "punctual_planned_timestamp_seconds",
        "Unix time until which this process has planned everything due; absent unless it is the leader."
    );
    describe_gauge!(
        "punctual_leads",
        "1 if this process is the scheduler leader, else 0."
    );
    describe_histogram!(
        "punctual_fire_lateness_seconds",
        Unit::Seconds,
        "Seconds from the due time to the batch being queued, and to its first item starting."
    );
}
