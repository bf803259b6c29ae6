//! The jobs of a world.

use punctual_domain::{BatchConfig, Zone};
use serde_json::{Value, json};

use super::FEATURES;

/// What the job file says of a job.
#[derive(Debug, Clone)]
pub(super) struct Job {
    pub(super) id: &'static str,
    /// Whether it is in the file.
    pub(super) listed: bool,
    pub(super) paused: bool,
    pub(super) feature: &'static str,
    pub(super) spread: u32,
    pub(super) time: &'static str,
    pub(super) catch_up: Value,
    /// Days for which results are kept, and failures.
    pub(super) keep_days: (u32, u32),
}

impl Job {
    pub(super) fn draw(id: &'static str, random: &mut fastrand::Rng) -> Self {
        let catch_up = match random.u8(..8) {
            0 | 1 => json!({"policy": "all"}),
            2 => json!({"policy": "skip"}),
            3 => json!({"policy": "all", "window_minutes": 90}),
            4 => json!({"policy": "latest", "window_minutes": 30}),
            _ => json!({"policy": "latest"}),
        };
        let mut job = Self {
            id,
            listed: true,
            paused: false,
            feature: id,
            spread: 0,
            time: "09:00",
            catch_up,
            keep_days: (random.u32(1..3), random.u32(1..4)),
        };
        job.edit(random);
        job
    }

    /// Changes what the file says of it.
    pub(super) fn edit(&mut self, random: &mut fastrand::Rng) {
        match random.u8(..8) {
            0 => self.feature = FEATURES[random.usize(..2)],
            1..4 => self.time = ["06:00", "09:00", "12:30", "18:00"][random.usize(..4)],
            _ => self.spread = [0, 0, 30, 60, 240][random.usize(..5)],
        }
    }

    fn to_json(&self) -> Value {
        // The second job has two purposes.
        let then = (self.id == FEATURES[1]).then_some("send");
        json!({"job_id": self.id, "type": "individual_batch", "purpose_id": "echo", "then": then,
            "preference_based": true, "feature_type": self.feature, "spread_minutes": self.spread,
            "catch_up": self.catch_up, "default_preferences": {"preferred_time": self.time},
            "max_concurrent_items_per_organization": 1, "keep_results_days": self.keep_days.0,
            "keep_failures_days": self.keep_days.1})
    }
}

/// The job file.
pub(super) fn parsed(jobs: &[Job]) -> BatchConfig {
    let listed = jobs.iter().filter(|job| job.listed);
    let jobs: Vec<Value> = listed.map(Job::to_json).collect();
    punctual_project::parse_batch_config(&json!({"jobs": jobs}), &Zone::utc()).unwrap()
}
