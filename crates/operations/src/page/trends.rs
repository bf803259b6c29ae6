//! What has ended, has failed and was late over the last day and the last week, as charts with their figures.

use askama::Template;
use chrono::{DateTime, Utc};
use punctual_application::{TrendBucket, Trends, amount};
use punctual_domain::JobId;
use tokio::time::timeout;

use super::{
    App,
    overview::{STORE_TIMEOUT, lateness},
};

/// The charts of a page, of one job or of all.
#[derive(Template)]
#[template(path = "trends.html")]
pub(super) struct TrendCharts {
    charts: [Chart; 2],
    /// The time zone of the labels.
    zone: String,
}

struct Chart {
    /// Tells the chart from the other one.
    id: &'static str,
    title: &'static str,
    /// How long a column is.
    width: &'static str,
    summary: String,
    columns: Vec<Column>,
}

struct Column {
    label: String,
    /// Where it begins, of ten for each column.
    x: usize,
    succeeded: u64,
    failed: u64,
    lateness: String,
    done: Bar,
    wrong: Bar,
    late: Bar,
}

/// A bar of a chart that is a hundred high.
struct Bar {
    y: u64,
    height: u64,
}

impl Bar {
    /// On top of what is so high already.
    fn on(below: u64, height: u64) -> Self {
        Self {
            y: 100_u64.saturating_sub(below + height),
            height,
        }
    }
}

/// How high the bar of a value is, of a hundred, where `most` is the largest one. What is not zero can be seen.
pub(super) fn height(value: u64, most: u64) -> u64 {
    (value * 100).div_ceil(most.max(1))
}

impl Chart {
    fn of(
        (id, title, width): (&'static str, &'static str, &'static str),
        buckets: &[TrendBucket],
        label: impl Fn(DateTime<Utc>) -> String,
    ) -> Self {
        let ended = |bucket: &TrendBucket| bucket.succeeded + bucket.failed;
        let most = buckets.iter().map(ended).max().unwrap_or(0);
        let latest = buckets.iter().map(|bucket| bucket.worst_lateness_ms).max();
        let latest = latest.unwrap_or(0);
        let done: u64 = buckets.iter().map(|bucket| bucket.succeeded).sum();
        let failed: u64 = buckets.iter().map(|bucket| bucket.failed).sum();
        let column = |(place, bucket): (usize, &TrendBucket)| {
            let done = Bar::on(0, height(bucket.succeeded, most));
            Column {
                label: label(bucket.begin),
                x: place * 10,
                succeeded: bucket.succeeded,
                failed: bucket.failed,
                lateness: lateness(bucket.worst_lateness_ms),
                wrong: Bar::on(done.height, height(bucket.failed, most)),
                late: Bar::on(0, height(bucket.worst_lateness_ms, latest)),
                done,
            }
        };
        Self {
            id,
            title,
            width,
            summary: format!(
                "{} done, {failed} failed, worst lateness {}",
                amount(done, "item"),
                lateness(latest)
            ),
            columns: buckets.iter().enumerate().map(column).collect(),
        }
    }

    /// Width of the drawing.
    fn drawn(&self) -> usize {
        self.columns.len() * 10
    }

    fn first(&self) -> &str {
        self.columns.first().map_or("", |column| &column.label)
    }

    fn last(&self) -> &str {
        self.columns.last().map_or("", |column| &column.label)
    }
}

impl App {
    /// The charts, of one job or of all; `None`: the store does not answer.
    pub(super) async fn trends(&self, job_id: Option<&JobId>) -> Option<TrendCharts> {
        let asked = timeout(STORE_TIMEOUT, self.operator.trends(job_id)).await;
        let Trends { day, week } = asked.ok()?.ok()?;
        let of_day = ("day", "Last 24 hours", "hour");
        let of_week = ("week", "Last 7 days", "six hours");
        Some(TrendCharts {
            charts: [
                Chart::of(of_day, &day, |at| self.label(at, "%H:%M")),
                Chart::of(of_week, &week, |at| self.label(at, "%a %H:%M")),
            ],
            zone: self.operator.zone.to_string(),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bars_are_in_proportion_and_what_is_not_zero_can_be_seen() {
        let bucket = |succeeded, failed, worst_lateness_ms| TrendBucket {
            begin: DateTime::UNIX_EPOCH,
            succeeded,
            failed,
            worst_lateness_ms,
        };
        let buckets = [
            bucket(0, 0, 0),
            bucket(9_999, 1, 1_500),
            bucket(5_000, 0, 3),
        ];
        let id = ("day", "Last 24 hours", "hour");
        let chart = Chart::of(id, &buckets, |_| "09:00".to_owned());
        let heights = |bar: fn(&Column) -> &Bar| {
            let bars = chart.columns.iter().map(bar);
            bars.map(|bar| bar.height).collect::<Vec<_>>()
        };
        assert_eq!(heights(|column| &column.done), [0, 100, 50]);
        assert_eq!(heights(|column| &column.wrong), [0, 1, 0]);
        assert_eq!(heights(|column| &column.late), [0, 100, 1]);
        assert_eq!((chart.columns[2].x, chart.columns[2].done.y), (20, 50));
        let summary = "14999 items done, 1 failed, worst lateness 1.5 s";
        assert_eq!((chart.summary.as_str(), chart.drawn()), (summary, 30));
        let none = Chart::of(id, &[], |_| String::new());
        assert_eq!((none.first(), none.drawn()), ("", 0));
    }
}
