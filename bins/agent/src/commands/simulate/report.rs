//! What a simulation has shown, for a terminal and for programs.

use std::fmt;

use chrono::{DateTime, TimeDelta, Timelike, Utc};
use punctual_application::{amount, noun};
use punctual_domain::JobId;
use serde_json::{Value, json};

use super::{
    load::{Load, Queue},
    users::NotApplied,
};

pub(super) struct Report {
    pub(super) job_id: JobId,
    /// Origin of the simulated users, such as a file or the Config Database.
    pub(super) source: String,
    pub(super) users: usize,
    pub(super) quarantined: usize,
    pub(super) not_applied: NotApplied,
    pub(super) spread: u32,
    /// Busiest minute with other spreads.
    pub(super) spreads: Vec<(u32, u64)>,
    pub(super) load: Load,
    pub(super) queue: Queue,
    /// How long ahead runs are prepared, and the most users of a minute who are called for only when they are due; `None`: runs are
    /// not prepared.
    pub(super) ahead: Option<(TimeDelta, u64)>,
}

/// The widest bar.
const WIDTH: u64 = 40;

impl Report {
    pub(super) fn json(&self) -> Value {
        let (peak_at, peak) = self.load.peak();
        let spreads = self.spreads.iter();
        let ahead = self.ahead.map(|(ahead, users)| {
            let seconds = ahead.num_seconds();
            json!({"seconds": seconds, "peak_when_due": users, "peak_without": peak})
        });
        json!({
            "job_id": self.job_id, "source": self.source, "users": self.users, "quarantined": self.quarantined,
            "not_applied": {"organizations": self.not_applied.organizations, "members": self.not_applied.members},
            "from": self.load.from, "days": self.load.minutes.len() / 1440, "runs": self.load.total(),
            "spread_minutes": self.spread, "peak": {"at": peak_at, "users": peak},
            "peaks_with_other_spreads": spreads
                .map(|(minutes, users)| json!({"spread_minutes": minutes, "users": users}))
                .collect::<Value>(),
            "prepare_ahead": ahead,
            "users_due_by_hour": self.load.hours(),
            "queue": {
                "concurrency": self.queue.concurrency, "item_ms": self.queue.item_ms,
                "longest": self.queue.longest, "longest_at": self.queue.longest_at,
                "wait_seconds": self.queue.wait_seconds, "capacity_used": self.queue.used,
            },
        })
    }

    /// The day with the fullest minute, hour by hour.
    pub(super) fn fullest_day(&self) -> (DateTime<Utc>, Vec<u64>) {
        let (peak_at, _) = self.load.peak();
        let day = (peak_at - self.load.from).num_days() as usize;
        let hours = self.load.hours();
        let of_day = hours[day * 24..(day + 1) * 24].to_vec();
        (self.load.at(day * 1440), of_day)
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let minute = |at: DateTime<Utc>| at.format("%Y-%m-%d %H:%M UTC").to_string();
        let (peak_at, peak) = self.load.peak();
        let days = amount(self.load.minutes.len() as u64 / 1440, "day");
        writeln!(
            f,
            "{}: {} from {}",
            self.job_id,
            counted(self.users as u64, "user"),
            self.source
        )?;
        if self.quarantined > 0 {
            writeln!(
                f,
                "{} cannot be used",
                counted(self.quarantined as u64, "preference")
            )?;
        }
        if let Some(words) = self.not_applied.in_words() {
            writeln!(f, "{words}")?;
        }
        writeln!(
            f,
            "{days} from {}: {}\n",
            minute(self.load.from),
            counted(self.load.total(), "run")
        )?;
        let (day, hours) = self.fullest_day();
        writeln!(
            f,
            "Busiest day, {}, users due by hour (UTC):",
            day.format("%A %Y-%m-%d")
        )?;
        let most = hours.iter().copied().max().unwrap_or(0).max(1);
        for (hour, users) in hours.iter().enumerate() {
            let bar = "█".repeat((users * WIDTH / most) as usize);
            let hour = (day.hour() as usize + hour) % 24;
            writeln!(f, "  {hour:02}:00 {:>12}  {bar}", count(*users))?;
        }
        writeln!(
            f,
            "\nBusiest minute: {} at {}",
            counted(peak, "user"),
            minute(peak_at)
        )?;
        writeln!(
            f,
            "  with spread_minutes {:>4}: {:>12}  (as simulated)",
            self.spread,
            count(peak)
        )?;
        for (minutes, users) in &self.spreads {
            writeln!(
                f,
                "  with spread_minutes {minutes:>4}: {:>12}",
                count(*users)
            )?;
        }
        let queue = &self.queue;
        writeln!(
            f,
            "\nWith {} of {} ms each, {:.0} % of the capacity is used",
            amount(queue.concurrency.into(), "concurrent item"),
            queue.item_ms,
            queue.used * 100.0
        )?;
        if queue.longest > 0 {
            writeln!(
                f,
                "  the queue is longest at {}, {}; the last of them waits {}",
                minute(queue.longest_at),
                counted(queue.longest, "user"),
                humantime::format_duration(std::time::Duration::from_secs(
                    queue.wait_seconds as u64
                ))
            )?;
        } else {
            writeln!(f, "  no user waits a full minute")?;
        }
        if let Some((ahead, users)) = self.ahead {
            writeln!(
                f,
                "  with runs prepared {} ahead, the busiest minute still calls for {}; without, for {}",
                whole(ahead),
                counted(users, "user"),
                count(peak)
            )?;
        }
        if queue.used > 1.0 {
            writeln!(f, "  the capacity is too small: the queue never empties")?;
        }
        Ok(())
    }
}

/// A length of time in its largest unit that measures it in whole numbers, such as `7 days` or `36 hours`.
fn whole(length: TimeDelta) -> String {
    let seconds = length.num_seconds().unsigned_abs();
    let units = [(86_400, "day"), (3_600, "hour"), (60, "minute")];
    let unit = units
        .into_iter()
        .find(|(unit, _)| seconds.is_multiple_of(*unit));
    let (unit, name) = unit.unwrap_or((1, "second"));
    amount(seconds / unit, name)
}

/// So many things, such as `20,000 users`.
pub(super) fn counted(number: u64, one: &str) -> String {
    format!("{} {}", count(number), noun(number, one))
}

/// A number with its thousands apart.
pub(super) fn count(number: u64) -> String {
    let digits = number.to_string();
    let mut text = String::new();
    for (index, digit) in digits.chars().enumerate() {
        if index > 0 && (digits.len() - index).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}
