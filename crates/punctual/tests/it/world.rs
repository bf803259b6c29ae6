//! Days in virtual time.

use std::sync::{
    Arc, Mutex,
    atomic::{AtomicUsize, Ordering},
};

use async_trait::async_trait;
use chrono::{Datelike, TimeDelta};
use punctual::{
    Builder, Completer, DataRequest, DataSource, DataTenant, HandlerError, Item, ItemStatus, Job,
    JobId, Occurrence, Outcome, Punctual, PurposeHandler, TenantAnswers, TenantData,
    TriggerRequest, Waiting, WaitingCall,
    testing::{FakeSink, World},
};
use serde_json::{Value, json};
use tokio::sync::Notify;
use uuid::Uuid;

/// Fails the first attempt of every item.
#[derive(Default)]
struct Flaky(AtomicUsize);

#[async_trait]
impl PurposeHandler for Flaky {
    async fn run(&self, item: &Item) -> Result<Outcome, HandlerError> {
        match self.0.fetch_add(1, Ordering::Relaxed) % 2 {
            0 => Err(HandlerError::retryable("not yet")),
            _ => Ok(json!(item.item_id).into()),
        }
    }
}

fn builder() -> Builder {
    Punctual::builder()
        .handler("do", Flaky::default())
        .job(Job::following("posts").runs("do"))
}

fn daily(time: &str) -> Value {
    json!({"enabled": true, "frequency": "daily", "preferred_time": time})
}

#[tokio::test(start_paused = true)]
async fn what_falls_due_runs_at_its_instant_with_its_retries() {
    let world = World::start(builder(), "2026-03-02T08:00:00Z")
        .await
        .unwrap();
    world.prefers("ann", daily("09:00"));
    world.pass(TimeDelta::minutes(59)).await;
    assert_eq!(world.runs_of("ann").await, []);
    world.pass(TimeDelta::days(3)).await;
    let runs = world.runs_of("ann").await;
    assert_eq!(runs.len(), 3);
    for run in &runs {
        assert_eq!(run.result.status, ItemStatus::Succeeded);
        assert_eq!(run.result.attempts, 2);
        let late = run.result.started_at - run.scheduled_at;
        assert!(late < TimeDelta::seconds(1), "{late}");
    }
    world.forgets("ann");
    world.pass(TimeDelta::days(3)).await;
    assert_eq!(world.runs_of("ann").await.len(), 3);
}

/// Sends what `do` has written, from its second attempt on.
#[derive(Default)]
struct SendsLater(AtomicUsize);

#[async_trait]
impl PurposeHandler for SendsLater {
    async fn run(&self, item: &Item) -> Result<Outcome, HandlerError> {
        match self.0.fetch_add(1, Ordering::Relaxed) {
            0 => Err(HandlerError::retryable("not yet")),
            _ => Ok(json!([item.attempt, item.written, item.idempotency_key()]).into()),
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_second_handler_gets_what_the_first_returned() {
    let builder = Punctual::builder()
        .handler("do", Flaky::default())
        .handler("send", SendsLater::default())
        .job(Job::following("posts").runs("do").then("send"));
    let world = World::start(builder, "2026-03-02T08:00:00Z");
    let world = world.await.unwrap();
    world.prefers("ann", daily("09:00"));
    world.pass(TimeDelta::hours(2)).await;
    let runs = world.runs_of("ann").await;
    let then = json!([2, "ann", "posts/ann/2026-03-02/then"]);
    let both = json!({"written": "ann", "then": then});
    assert_eq!(runs[0].result.output, Some(both));
}

#[tokio::test(start_paused = true)]
async fn a_change_counts_from_when_it_was_made() {
    let world = World::start(builder(), "2026-03-02T08:00:00Z")
        .await
        .unwrap();
    world.prefers("ann", daily("09:00"));
    world.pass(TimeDelta::hours(2)).await;
    // Today's has run, so the later time is for tomorrow.
    world.prefers("ann", daily("11:00"));
    world.pass(TimeDelta::hours(12)).await;
    assert_eq!(world.runs_of("ann").await.len(), 1);
    world.preferences_are_down(true);
    world.pass(TimeDelta::days(1)).await;
    assert_eq!(world.runs_of("ann").await.len(), 2, "what is known goes on");
}

#[tokio::test(start_paused = true)]
async fn results_are_delivered_and_operators_are_obeyed() {
    let table: Arc<FakeSink> = Arc::default();
    let jobs = builder().sink("table", table.clone()).job(
        Job::cron("report", "0 6 * * *")
            .items(["eve", "joe"])
            .runs("do")
            .deliver_to("table"),
    );
    let world = World::start(jobs, "2026-03-02T05:00:00Z").await.unwrap();
    let (report, actor) = (JobId::new("report").unwrap(), "test".into());
    world.operator().pause(&actor, &report).await.unwrap();
    world.pass(TimeDelta::hours(2)).await;
    assert_eq!(world.runs_of("eve").await, []);
    world.operator().resume(&actor, &report).await.unwrap();
    let all = TriggerRequest::default();
    let run = world.operator().trigger(&actor, None, &report, &all);
    run.await.unwrap();
    world.pass(TimeDelta::minutes(2)).await;
    assert_eq!(world.runs_of("eve").await.len(), 1);
    let rows = table.received().into_iter();
    let mut rows: Vec<_> = rows.map(|row| row.result.item_id.to_string()).collect();
    rows.sort();
    assert_eq!(rows, ["eve", "joe"]);
}

/// Writes what it is given.
struct Digest;

#[async_trait]
impl PurposeHandler for Digest {
    async fn run(&self, item: &Item) -> Result<Outcome, HandlerError> {
        Ok(json!(item.data()).into())
    }
}

/// A shop that sells something on odd days.
struct Shop;

#[async_trait]
impl TenantData for Shop {
    async fn fetch(
        &self,
        _: &DataSource,
        request: &DataRequest,
    ) -> Result<TenantAnswers, HandlerError> {
        let Occurrence::Date(date, _) = request.occurrence else {
            return Err(HandlerError::permanent("only days are sold"));
        };
        let sold = request.tenants.iter().filter(|_| date.day() % 2 == 1);
        let since = |tenant: &DataTenant| {
            let previous = tenant.previous.map(|previous| previous.occurrence);
            (tenant.tenant_id.clone(), Ok(json!({ "since": previous })))
        };
        Ok(sold.map(since).collect())
    }
}

#[tokio::test(start_paused = true)]
async fn a_digest_has_what_is_new_since_the_last_one_and_is_left_out_without_news() {
    let digests = Punctual::builder()
        .handler("write", Digest)
        .tenant_data("shop", Shop)
        .job(Job::following("digests").runs("write").fetches("shop"));
    let world = World::start(digests, "2026-03-02T08:00:00Z").await.unwrap();
    world.prefers("ann", daily("09:00"));
    world.pass(TimeDelta::days(4)).await;
    let runs = world.runs_of("ann").await;
    let runs: Vec<_> = runs
        .iter()
        .map(|run| (run.result.status, run.result.output.clone()))
        .collect();
    let (wrote, left_out) = (ItemStatus::Succeeded, (ItemStatus::NothingToDo, None));
    assert_eq!(
        runs,
        [
            (wrote, Some(json!({"since": "2026-03-03"}))),
            left_out.clone(),
            (wrote, Some(json!({"since": null}))),
            left_out
        ]
    );
}

/// Hands its work on. It is ready at the third poll; `joe` listens for his own.
#[derive(Default)]
struct HandsOn {
    polls: AtomicUsize,
    /// The call of `joe`.
    heard: Notify,
    call: Mutex<Option<Uuid>>,
}

#[async_trait]
impl PurposeHandler for HandsOn {
    async fn run(&self, item: &Item) -> Result<Outcome, HandlerError> {
        let call_id = item
            .completion
            .as_ref()
            .map(|completion| completion.call_id);
        let waiting = Waiting::until(item.scheduled_at + TimeDelta::hours(6));
        if item.item_id.as_str() == "joe" {
            *self.call.lock().unwrap() = call_id;
            self.heard.notify_one();
            return Ok(Outcome::Waiting(waiting));
        }
        let waiting = waiting.polled_at(item.scheduled_at + TimeDelta::minutes(10));
        Ok(Outcome::Waiting(waiting.with_state(json!("ticket 7"))))
    }

    async fn poll(&self, call: &WaitingCall) -> Result<Outcome, HandlerError> {
        assert_eq!(call.waiting.state, "ticket 7");
        let polls = 1 + self.polls.fetch_add(1, Ordering::Relaxed);
        if polls == 3 {
            return Ok(json!({ "polls": polls }).into());
        }
        let last = call.waiting.poll_at.unwrap();
        let next = call
            .waiting
            .clone()
            .polled_at(last + TimeDelta::minutes(10));
        Ok(Outcome::Waiting(next))
    }

    async fn listen(&self, completer: Arc<dyn Completer>) {
        loop {
            self.heard.notified().await;
            tokio::time::sleep(std::time::Duration::from_hours(1)).await;
            let call = self.call.lock().unwrap().take().unwrap();
            let outcome = Ok(json!("heard").into());
            completer.complete(call, outcome).await.unwrap();
        }
    }
}

#[tokio::test(start_paused = true)]
async fn work_that_goes_on_ends_by_polls_and_by_what_its_handler_hears() {
    let builder = Punctual::builder()
        .handler("hand_on", HandsOn::default())
        .job(Job::following("posts").runs("hand_on"));
    let world = World::start(builder, "2026-03-02T08:00:00Z").await.unwrap();
    world.prefers("ann", daily("09:00"));
    world.prefers("joe", daily("09:00"));
    world.pass(TimeDelta::minutes(85)).await;
    for tenant in ["ann", "joe"] {
        for run in world.runs_of(tenant).await {
            assert_eq!(run.result.status, ItemStatus::Waiting, "{tenant}");
        }
    }
    world.pass(TimeDelta::minutes(45)).await;
    for (tenant, output, minutes) in [
        ("ann", json!({"polls": 3}), 30),
        ("joe", json!("heard"), 60),
    ] {
        let runs = world.runs_of(tenant).await;
        assert_eq!(runs[0].result.status, ItemStatus::Succeeded, "{tenant}");
        assert_eq!(runs[0].result.output, Some(output));
        let took = runs[0].result.finished_at.unwrap() - runs[0].scheduled_at;
        let expected = TimeDelta::minutes(minutes);
        assert!(
            took >= expected && took < expected + TimeDelta::minutes(2),
            "{took}"
        );
    }
}
