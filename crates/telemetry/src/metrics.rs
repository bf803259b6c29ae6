//! What each metric means. A new metric is described here, and recorded where it happens with the macros of `metrics`.

use metrics::{Unit, describe_counter, describe_gauge, describe_histogram};

/// Upper bounds in seconds of the histograms whose names end in `_seconds`.
pub const BUCKETS: [f64; 10] = [0.01, 0.05, 0.1, 0.5, 1.0, 5.0, 15.0, 60.0, 300.0, 3600.0];

/// Describes every metric to the recorder. Call it once, after a recorder is installed.
pub fn describe_metrics() {
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
        "Every preference stored until then is in effect."
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
