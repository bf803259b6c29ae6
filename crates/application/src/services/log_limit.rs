//! How often the log repeats a message about items or tenants: for thousands per minute, a few lines say as much.

use std::{
    collections::HashMap,
    sync::{Mutex, PoisonError},
    time::Duration,
};

use tokio::time::Instant;

/// How long lines count.
const WINDOW: Duration = Duration::from_mins(1);
/// Lines within [`WINDOW`] about one subject.
const MAX_LINES: u32 = 10;

/// Limits the lines of one message of the log, by what they are about, such as a job.
#[derive(Debug, Default)]
pub struct LogLimit(Mutex<HashMap<String, Lines>>);

#[derive(Debug)]
struct Lines {
    since: Instant,
    count: u32,
}

/// Whether a line is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LogLine {
    /// The line is written.
    Write,
    /// The line is written, as the last one for now: say that others are left out.
    WriteLast,
    /// The line is left out.
    LeaveOut,
}

impl LogLine {
    /// Whether it is written.
    #[must_use]
    pub fn is_written(self) -> bool {
        self != Self::LeaveOut
    }
}

impl LogLimit {
    /// Counts a line about `subject`, of which there are few: a job or a feature, never a tenant.
    #[must_use]
    pub fn next(&self, subject: &str) -> LogLine {
        let now = Instant::now();
        let mut subjects = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        subjects.retain(|_, lines| now.duration_since(lines.since) < WINDOW);
        let lines = subjects.entry(subject.to_owned()).or_insert(Lines {
            since: now,
            count: 0,
        });
        lines.count = lines.count.saturating_add(1);
        match lines.count {
            ..MAX_LINES => LogLine::Write,
            MAX_LINES => LogLine::WriteLast,
            _ => LogLine::LeaveOut,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn ten_thousand_lines_a_minute_are_ten_for_each_subject() {
        let limit = LogLimit::default();
        for _ in 0..3 {
            let (mut written, mut last) = (0, 0);
            for _ in 0..10_000 {
                let line = limit.next("digest");
                written += u32::from(line.is_written());
                last += u32::from(line == LogLine::WriteLast);
            }
            assert_eq!((written, last), (MAX_LINES, 1));
            assert_eq!(limit.next("digest"), LogLine::LeaveOut);
            assert_eq!(limit.next("report"), LogLine::Write, "another subject");
            tokio::time::advance(WINDOW).await;
        }
        let _ = limit.next("report");
        assert_eq!(limit.0.lock().unwrap().len(), 1, "the others are forgotten");
    }
}
