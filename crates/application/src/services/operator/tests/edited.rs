//! What is said of a date whose run was due under a preference that has been edited since, and of the runs that follow.

use std::time::Duration;

use punctual_domain::{NewBatch, Occurrence, Priority, Trigger};
use serde_json::Value;

use super::*;

/// An operator of a job that follows what is stored of Ann, on a clock that starts at nine.
struct World {
    store: Arc<FakeStore>,
    config_database: Arc<FakeConfigDatabase>,
    operator: Operator,
}

impl World {
    fn of(preference: Value) -> Self {
        let store: Arc<FakeStore> = Arc::default();
        let config_database: Arc<FakeConfigDatabase> = Arc::default();
        let operator = Operator {
            preferences: config_database.clone(),
            ..operator(&store)
        };
        let world = Self {
            store,
            config_database,
            operator,
        };
        world.has_stored(record("ann", preference));
        world
    }

    fn has_stored(&self, stored: PreferenceRecord) {
        testing::schedule(&self.operator, &posts(), std::slice::from_ref(&stored));
        self.config_database.put(stored);
    }

    /// Ann stores another preference now.
    fn stores(&self, preference: Value) {
        let now = Some(self.operator.clock.now());
        self.has_stored(PreferenceRecord {
            updated_at: now,
            schedule_since: now,
            ..record("ann", preference)
        });
    }

    /// Ann's preference is switched off or deleted, and the scheduler knows it.
    fn stops(&self, stored: Option<PreferenceRecord>) {
        testing::schedule(&self.operator, &posts(), &[]);
        match stored {
            Some(stored) => self.config_database.put(stored),
            None => self.config_database.remove(&ann()),
        }
    }

    /// The time comes.
    async fn until(&self, instant: &str) {
        let wait = at(instant) - self.operator.clock.now();
        tokio::time::advance(wait.to_std().unwrap()).await;
    }

    /// Queues the run of Ann that is due at an instant.
    async fn queue(&self, slot: &str, due_at: &str, occurrence: &str) {
        let now = self.operator.clock.now();
        let batch = NewBatch::new(
            &posts(),
            Priority::Medium,
            slot.to_owned(),
            at(due_at),
            occurrence.parse::<Occurrence>().unwrap(),
            Trigger::Schedule,
            now,
            &[ItemId::from(&ann())],
            10,
        );
        let firing = Firing {
            batches: vec![batch],
            positions: vec![],
        };
        self.store.enqueue(firing, now).await.unwrap();
    }

    /// The same, and has it end.
    async fn run(&self, slot: &str, due_at: &str, occurrence: &str, status: ItemStatus) {
        self.until(due_at).await;
        self.queue(slot, due_at, occurrence).await;
        self.store.end_all(status, self.operator.clock.now()).await;
        tokio::time::advance(Duration::from_mins(10)).await;
    }

    async fn explained(&self, date: Option<&str>) -> Explanation {
        let date = date.map(|date| date.parse().unwrap());
        let explained = self.operator.explain(&ann(), &posts(), date).await;
        explained.unwrap()
    }

    async fn says(&self, words: &str) {
        let explained = self.explained(None).await;
        assert_eq!(explained.explanation, words, "{explained:?}");
    }
}

fn ann() -> TenantId {
    TenantId::new("ann").unwrap()
}

fn daily_at(time: Value) -> Value {
    json!({"enabled": true, "frequency": "daily", "preferred_time": time})
}

const AT_THREE: &str = "2026-03-01T15:00:00Z";
const RAN: &str = "ran, done at 2026-03-01 15:00:01 UTC";

/// Ann has run at three, as she had chosen.
async fn has_run() -> World {
    let world = World::of(daily_at(json!("15:00")));
    let (slot, status) = ("daily 15:00 UTC", ItemStatus::Succeeded);
    world.run(slot, AT_THREE, "2026-03-01", status).await;
    world
}

#[tokio::test(start_paused = true)]
async fn a_run_is_not_denied_after_its_preference_has_gone_or_changed() {
    let world = has_run().await;
    world
        .says(&format!("{RAN}; due next at 2026-03-02 15:00:00 UTC"))
        .await;
    world.stores(json!({"enabled": true, "frequency": "weekly", "preferred_day": "friday"}));
    world
        .says(&format!("{RAN}; due next at 2026-03-06 09:00:00 UTC"))
        .await;
    world.stores(
        json!({"enabled": true, "frequency": "hourly", "preferred_time": "00:30", "timezone": "UTC"}),
    );
    world.until("2026-03-01T15:20:00Z").await;
    world
        .says(&format!("{RAN}; due next at 2026-03-01 15:30:00 UTC"))
        .await;
    world.stops(Some(record(
        "ann",
        json!({"enabled": false, "frequency": "daily"}),
    )));
    world
        .says(&format!(
            "{RAN}; now disabled: the preference is switched off"
        ))
        .await;
    world.stops(None);
    world
        .says(&format!("{RAN}; now has no preference for this feature"))
        .await;

    let on_date = world.explained(Some("2026-03-01")).await;
    assert_eq!(on_date.occurrence, Some("2026-03-01".parse().unwrap()));
    assert!(on_date.batch_id.is_some());
    let day_before = world.explained(Some("2026-02-28")).await;
    assert_eq!(day_before.verdict, Verdict::NeverSeen);
    world.until("2026-03-02T01:00:00Z").await;
    assert_eq!(world.explained(None).await.verdict, Verdict::NeverSeen);
}

#[tokio::test(start_paused = true)]
async fn a_run_is_found_by_its_time_where_an_edited_list_gives_it_another_key() {
    let world = World::of(daily_at(json!(["15:00", "23:50"])));
    let (slot, status) = ("daily 15:00, 23:50 UTC", ItemStatus::Succeeded);
    world.run(slot, AT_THREE, "2026-03-01", status).await;
    world
        .says(&format!("{RAN}; due next at 2026-03-01 23:50:00 UTC"))
        .await;
    world.stores(daily_at(json!(["10:00", "15:00", "23:50"])));
    world
        .says(&format!("{RAN}; due next at 2026-03-01 23:50:00 UTC"))
        .await;
}

#[tokio::test(start_paused = true)]
async fn no_run_is_promised_for_a_date_that_has_had_its_run() {
    let world = has_run().await;
    world.stores(daily_at(json!("23:00")));
    world
        .says(&format!("{RAN}; due next at 2026-03-02 23:00:00 UTC"))
        .await;
    let job = world.operator.job(&posts()).unwrap();
    let effective = world.operator.effective_preference(&job, &ann(), 2).await;
    let next = ["2026-03-02T23:00:00Z", "2026-03-03T23:00:00Z"].map(at);
    assert_eq!(effective.unwrap().next, next);
}

#[tokio::test(start_paused = true)]
async fn a_skip_uses_no_date_up_and_is_about_its_own_time_only() {
    let world = World::of(daily_at(json!("15:00")));
    let (slot, status) = ("daily 15:00 UTC", ItemStatus::Skipped);
    world.run(slot, AT_THREE, "2026-03-01", status).await;
    world
        .says("skipped: down; due next at 2026-03-02 15:00:00 UTC")
        .await;
    world.stores(daily_at(json!("23:00")));
    let due_at = at("2026-03-01T23:00:00Z");
    let moved = world.explained(None).await.verdict;
    assert_eq!(moved, Verdict::WillRun { due_at });
    let job = world.operator.job(&posts()).unwrap();
    let effective = world.operator.effective_preference(&job, &ann(), 1).await;
    assert_eq!(effective.unwrap().next, [due_at]);
    world.operator.pause(&actor(), &posts()).await.unwrap();
    world.until("2026-03-01T23:10:00Z").await;
    let paused = world.explained(None).await.verdict;
    assert_eq!(paused, Verdict::JobPaused { due_at });
    world.operator.resume(&actor(), &posts()).await.unwrap();

    // This time was chosen after it had passed: the skip is what became of the date.
    world.stores(daily_at(json!("10:00")));
    let (skipped, next) = ("skipped: down", "due next at 2026-03-02 10:00:00 UTC");
    world.says(&format!("{skipped}; {next}")).await;
}

#[tokio::test(start_paused = true)]
async fn an_item_in_the_queue_of_a_paused_job_says_what_it_waits_for() {
    let world = World::of(daily_at(json!("15:00")));
    world.until(AT_THREE).await;
    world.queue("daily 15:00 UTC", AT_THREE, "2026-03-01").await;
    let waits = "due at 2026-03-01 15:00:00 UTC, waiting in the queue behind 0 items";
    world.says(waits).await;
    world.operator.pause(&actor(), &posts()).await.unwrap();
    world
        .says(&format!(
            "{waits}; the job is paused, and the run waits until it is resumed"
        ))
        .await;
}
