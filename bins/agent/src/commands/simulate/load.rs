//! Users due by the minute, and the queue they wait in.

use chrono::{DateTime, TimeDelta, Utc};
use punctual_domain::Mirror;

/// How many users fall due in every minute of some days.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Load {
    pub(super) from: DateTime<Utc>,
    pub(super) minutes: Vec<u64>,
}

impl Load {
    /// Runs `days` virtual days from `from` on. The mirror is planned to their end afterwards.
    pub(super) fn over(mirror: &mut Mirror, from: DateTime<Utc>, days: u32) -> Self {
        let just_before = from - TimeDelta::seconds(1);
        // Days that have been simulated before are simulated anew.
        mirror.set_position(punctual_domain::Position::at(just_before));
        let mut minutes = vec![0; days as usize * 1440];
        while let Some((due, users)) = mirror.next_due_count() {
            let minute = (due - from).num_minutes() as usize;
            let Some(count) = minutes.get_mut(minute) else {
                break;
            };
            *count += users as u64;
            mirror.set_planned_until(due);
        }
        Self { from, minutes }
    }

    pub(super) fn total(&self) -> u64 {
        self.minutes.iter().sum()
    }

    /// Busiest minute.
    pub(super) fn peak(&self) -> (DateTime<Utc>, u64) {
        let fullest = self.minutes.iter().enumerate();
        let (minute, users) = fullest
            .max_by_key(|(minute, users)| (**users, std::cmp::Reverse(*minute)))
            .map_or((0, 0), |(minute, users)| (minute, *users));
        (self.at(minute), users)
    }

    /// Users due in every hour.
    pub(super) fn hours(&self) -> Vec<u64> {
        self.minutes
            .chunks(60)
            .map(|hour| hour.iter().sum())
            .collect()
    }

    pub(super) fn at(&self, minute: usize) -> DateTime<Utc> {
        self.from + TimeDelta::minutes(minute as i64)
    }
}

/// A queue that so many work on at once, each item taking the same time.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Queue {
    pub(super) concurrency: u32,
    pub(super) item_ms: u32,
    /// The most users waiting at the end of a minute.
    pub(super) longest: u64,
    /// Time at which the queue is longest.
    pub(super) longest_at: DateTime<Utc>,
    /// How long the last of them waits, in seconds.
    pub(super) wait_seconds: f64,
    /// How much of the capacity is used, of 1; above it, the queue grows for ever.
    pub(super) used: f64,
}

/// Users that so many who work at once, each item taking the same time, get through in a minute.
fn each_minute(concurrency: u32, item_ms: u32) -> f64 {
    f64::from(concurrency) * 60_000.0 / f64::from(item_ms)
}

impl Queue {
    pub(super) fn fed_by(load: &Load, concurrency: u32, item_ms: u32) -> Self {
        let each_minute = each_minute(concurrency, item_ms);
        let (mut waiting, mut longest, mut longest_minute) = (0.0_f64, 0.0_f64, 0);
        for (minute, due) in load.minutes.iter().enumerate() {
            waiting = (waiting + *due as f64 - each_minute).max(0.0);
            if waiting > longest {
                (longest, longest_minute) = (waiting, minute);
            }
        }
        Self {
            concurrency,
            item_ms,
            longest: longest as u64,
            longest_at: load.at(longest_minute),
            wait_seconds: longest / each_minute * 60.0,
            used: load.total() as f64 / (each_minute * load.minutes.len() as f64),
        }
    }

    /// The most users due in one minute who have not been dealt with by then, when each enters the queue so long before.
    pub(super) fn unprepared(&self, load: &Load, ahead: TimeDelta) -> u64 {
        let each_minute = each_minute(self.concurrency, self.item_ms);
        let ahead = ahead.num_seconds() as f64 / 60.0;
        let (mut waiting, mut most) = (0.0_f64, 0);
        for due in &load.minutes {
            let last = waiting + *due as f64;
            if last / each_minute > ahead {
                most = most.max(*due);
            }
            waiting = (last - each_minute).max(0.0);
        }
        most
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn load(minutes: &[u64]) -> Load {
        Load {
            from: "2026-03-01T00:00:00Z".parse().unwrap(),
            minutes: minutes.to_vec(),
        }
    }

    #[test]
    fn a_queue_grows_while_more_come_than_are_done_and_empties_again() {
        // 10 at once, 6 s each: 100 a minute.
        let queue = Queue::fed_by(&load(&[0, 350, 0, 100, 0, 0, 0, 50]), 10, 6_000);
        assert_eq!((queue.longest, queue.wait_seconds), (250, 150.0));
        assert_eq!(queue.longest_at.to_rfc3339(), "2026-03-01T00:01:00+00:00");
        assert!((queue.used - 500.0 / 800.0).abs() < 1e-9);
    }

    #[test]
    fn what_is_begun_early_enough_is_ready_when_it_is_due() {
        // 100 a minute, so that the last of 350 is done after three and a half minutes.
        let load = load(&[0, 350, 0, 100, 0, 0, 0, 50]);
        let queue = Queue::fed_by(&load, 10, 6_000);
        let unprepared = |minutes| queue.unprepared(&load, TimeDelta::minutes(minutes));
        assert_eq!(unprepared(4), 0);
        assert_eq!(unprepared(3), 350);
        assert_eq!(unprepared(0), load.peak().1);
    }

    #[test]
    fn the_peak_is_the_first_of_the_fullest_minutes() {
        let load = load(&[1, 7, 3, 7]);
        assert_eq!(load.peak(), (load.at(1), 7));
        assert_eq!((load.total(), load.hours()), (18, vec![18]));
    }
}
