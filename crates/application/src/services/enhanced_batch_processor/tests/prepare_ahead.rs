//! Runs that are prepared ahead.

use punctual_domain::{Fingerprint, Occurrence};

use super::{
    then::{Calls, digest, noting, two},
    *,
};
use crate::ports::{
    Completer, DeadLetterFilter, NewPrepared, PreparedWork, Settled, WaitingCall, WaitingFilter,
    WaitingItems,
};

const TENANTS: [&str; 1] = ["a"];

/// A run to come.
#[derive(Clone, Copy)]
struct Run {
    date: &'static str,
    due: &'static str,
}

/// The next one, a day ahead.
const NEXT: Run = Run {
    date: "2026-03-02",
    due: "2026-03-02T09:00:00Z",
};

impl Run {
    fn due(self) -> DateTime<Utc> {
        self.due.parse().unwrap()
    }

    fn occurrence(self) -> Occurrence {
        self.date.parse().unwrap()
    }
}

fn prepared_ahead(mut job: Value) -> Value {
    job["prepare_ahead"] = json!("24h");
    job
}

/// A handler that gives the parameters of its calls, and writes these down.
fn echo() -> (MockPurposeHandler, Calls) {
    noting(|item| Ok(json!(item.overrides()).into()))
}

fn keys(calls: &Calls) -> Vec<String> {
    let calls = calls.lock().unwrap();
    calls.iter().map(Item::idempotency_key).collect()
}

fn items(tenants: &[&str]) -> Vec<ItemId> {
    let ids = tenants.iter().map(|tenant| ItemId::new(tenant).unwrap());
    ids.collect()
}

impl Bench {
    async fn enqueue(&self, batch: NewBatch) -> Chunk {
        let chunk = batch.chunks[0].clone();
        let firing = Firing {
            batches: vec![batch],
            positions: vec![],
        };
        let now = self.processor.now();
        self.store.enqueue(firing, now).await.unwrap();
        chunk
    }

    /// A queued batch that prepares a run, planned later than any other.
    async fn preparing(&self, run: Run, tenants: &[&str]) -> Chunk {
        tokio::time::advance(Duration::from_secs(1)).await;
        let batch = NewBatch::preparing(
            &JobId::new("posts").unwrap(),
            Priority::High,
            "daily".to_owned(),
            run.due(),
            run.occurrence(),
            "p",
            self.processor.now(),
            &items(tenants),
            500,
        );
        self.enqueue(batch).await
    }

    /// Prepares a run.
    async fn prepare_run(&self, run: Run, tenants: &[&str]) -> HashMap<String, ItemResult> {
        let chunk = self.preparing(run, tenants).await;
        self.ended(&chunk).await
    }

    /// The run, once it is due.
    async fn run_when_due(&self, run: Run, tenants: &[&str]) -> HashMap<String, ItemResult> {
        let until = run.due() - self.processor.now();
        tokio::time::advance(until.to_std().unwrap()).await;
        let batch = NewBatch::new(
            &JobId::new("posts").unwrap(),
            Priority::High,
            "daily".to_owned(),
            run.due(),
            run.occurrence(),
            Trigger::Schedule,
            run.due(),
            &items(tenants),
            500,
        );
        let chunk = self.enqueue(batch).await;
        self.ended(&chunk).await
    }

    /// The results of a chunk, which is processed.
    async fn ended(&self, chunk: &Chunk) -> HashMap<String, ItemResult> {
        self.processor.process(chunk).await.unwrap();
        let filter = ResultFilter {
            batch_id: chunk.batch_id,
            status: None,
        };
        let results = self.store.results(&filter, &Page::default()).await;
        let (results, _) = results.unwrap();
        let result = |stored: StoredResult| (stored.result.item_id.to_string(), stored.result);
        results.into_iter().map(result).collect()
    }

    fn prefers(&self, tenant: &str, preferred: Value) {
        self.config_database.put(preference(tenant, preferred));
    }
}

fn with_tone(tone: &str) -> Value {
    json!({"tone": tone, "length": "short"})
}

#[tokio::test(start_paused = true)]
async fn a_run_delivers_what_was_prepared_and_calls_for_the_rest() {
    let (handler, calls) = echo();
    let bench = bench(prepared_ahead(posts()), &["x"], handler, 0).await;
    let all = ["kept", "edited", "off", "moved", "again", "new"];
    bench.switch_on(&all);
    let prepared = bench.prepare_run(NEXT, &all[..5]).await;
    for tenant in &all[..5] {
        let result = &prepared[*tenant];
        assert_eq!(result.status, ItemStatus::Succeeded, "{tenant}");
        assert_eq!(result.output, None, "it is sealed");
    }
    for key in keys(&calls) {
        assert!(key.contains("/2026-03-02/prepare/"), "{key}");
    }
    bench.prefers("edited", on("warm"));
    bench.prefers("off", json!({"enabled": false}));
    bench.prefers(
        "moved",
        json!({"enabled": true, "preferred_time": "10:00", "template_overrides": {"tone": "dry"}}),
    );
    bench.prefers("again", on("loud"));
    bench.prepare_run(NEXT, &["again"]).await;
    assert_eq!(calls.lock().unwrap().len(), 6);
    let of_again: Vec<String> = keys(&calls)
        .into_iter()
        .filter(|key| key.contains("/again/"))
        .collect();
    assert_ne!(of_again[0], of_again[1], "other parameters, another key");

    calls.lock().unwrap().clear();
    let run = bench.run_when_due(NEXT, &all).await;
    let mut called = keys(&calls);
    called.sort();
    assert_eq!(
        called,
        ["posts/edited/2026-03-02", "posts/new/2026-03-02"],
        "under the keys of the run"
    );
    for (tenant, tone) in [
        ("kept", "dry"),
        ("edited", "warm"),
        ("again", "loud"),
        ("new", "dry"),
    ] {
        assert_eq!(run[tenant].status, ItemStatus::Succeeded, "{tenant}");
        assert_eq!(run[tenant].output, Some(with_tone(tone)), "{tenant}");
        assert_eq!(run[tenant].attempts, 1);
    }
    let reason = |tenant: &str| run[tenant].error.clone().unwrap();
    assert_eq!(
        (reason("off"), reason("moved")),
        ("disabled".into(), "rescheduled".into())
    );
}

/// Whatever a tenant does in between, the run is the one that there would be without its preparation, and what was prepared
/// last makes a call needless.
#[tokio::test(start_paused = true)]
async fn a_prepared_run_is_the_run_that_there_would_be_without() {
    let edits = [
        ("dry", true, "09:00"),
        ("warm", true, "09:00"),
        ("warm", true, "08:00"),
        ("dry", true, "10:00"),
        ("dry", false, "09:00"),
    ];
    let preferred = |(tone, enabled, time): (&str, bool, &str)| json!({"enabled": enabled, "preferred_time": time, "template_overrides": {"tone": tone}});
    for case in 0..edits.len().pow(3) {
        let steps = [case / 25, case / 5 % 5, case % 5].map(|step| edits[step]);
        let (handler, calls) = echo();
        let bench = bench(prepared_ahead(posts()), &["x"], handler, 0).await;
        for step in steps {
            bench.prefers("a", preferred(step));
            bench.prepare_run(NEXT, &TENANTS).await;
        }
        let before = calls.lock().unwrap().len();
        let run = bench.run_when_due(NEXT, &TENANTS).await;
        let run = &run["a"];
        assert_eq!(calls.lock().unwrap().len(), before, "{steps:?}");
        let (tone, enabled, time) = steps[2];
        let (output, error) = match (enabled, time) {
            (false, _) => (None, Some("disabled".to_owned())),
            (true, "10:00") => (None, Some("rescheduled".to_owned())),
            _ => (Some(with_tone(tone)), None),
        };
        assert_eq!((&run.output, &run.error), (&output, &error), "{steps:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn the_same_parameters_are_prepared_once_also_after_a_crash() {
    let (handler, calls) = echo();
    let bench = bench(prepared_ahead(posts()), &["x"], handler, 0).await;
    bench.switch_on(&["a", "b"]);
    // Another process has kept an output, and has died before it could say so.
    let chunk = bench.preparing(NEXT, &["a", "b"]).await;
    let claimant = Claimant {
        process: uuid::Uuid::from_u128(9),
        token: uuid::Uuid::from_u128(10),
    };
    let now = bench.processor.now();
    bench.store.claim(&chunk, claimant, now).await.unwrap();
    let other = bench.prepare_run(NEXT, &["a"]).await;
    assert_eq!(other["a"].status, ItemStatus::Succeeded);
    assert_eq!(calls.lock().unwrap().len(), 1);
    let ended = bench.ended(&chunk).await;
    assert_eq!(ended["a"].status, ItemStatus::NothingToDo);
    assert_eq!(ended["a"].error.as_deref(), Some("prepared already"));
    assert_eq!(ended["b"].status, ItemStatus::Succeeded);
    assert_eq!(calls.lock().unwrap().len(), 2);
    let run = bench.run_when_due(NEXT, &["a", "b"]).await;
    assert_eq!(run["a"].output, Some(with_tone("dry")));
    assert_eq!(run["b"].output, Some(with_tone("dry")));
    assert_eq!(calls.lock().unwrap().len(), 2);
}

#[tokio::test(start_paused = true)]
async fn a_preparation_that_fails_costs_its_run_nothing() {
    let (handler, calls) = noting(|item| match item.prepares {
        Some(_) => Err(HandlerError::permanent("down")),
        None => Ok(json!(item.overrides()).into()),
    });
    let mut job = prepared_ahead(posts());
    job["failure_limit"] = json!({"percent": 1, "at_least": 1});
    let bench = bench(job, &["x"], handler, 0).await;
    bench.switch_on(&TENANTS);
    let prepared = bench.prepare_run(NEXT, &TENANTS).await;
    assert_eq!(prepared["a"].status, ItemStatus::Skipped);
    let error = prepared["a"].error.as_deref();
    assert_eq!(error, Some("not_prepared: down"));
    let letters = bench
        .store
        .dead_letter_count(&DeadLetterFilter::default())
        .await;
    assert_eq!(letters.unwrap(), 0);
    let run = bench.run_when_due(NEXT, &TENANTS).await;
    assert_eq!(run["a"].output, Some(with_tone("dry")));
    assert_eq!(calls.lock().unwrap().len(), 2);
}

#[tokio::test(start_paused = true)]
async fn nothing_to_do_ahead_is_asked_again_by_the_run() {
    let (handler, calls) = noting(|item| match item.prepares {
        Some(_) => Ok(Outcome::nothing_to_do("no news")),
        None => Ok(json!("news").into()),
    });
    let bench = bench(prepared_ahead(posts()), &["x"], handler, 0).await;
    bench.switch_on(&TENANTS);
    let prepared = bench.prepare_run(NEXT, &TENANTS).await;
    assert_eq!(prepared["a"].status, ItemStatus::NothingToDo);
    let run = bench.run_when_due(NEXT, &TENANTS).await;
    assert_eq!(run["a"].output, Some(json!("news")));
    assert_eq!(calls.lock().unwrap().len(), 2);
}

#[tokio::test(start_paused = true)]
async fn of_two_purposes_the_first_is_prepared_and_the_second_called_when_the_run_is_due() {
    let (write, written) = echo();
    let (send, sent) = noting(|_| Ok(json!("sent").into()));
    let bench = two(prepared_ahead(digest()), &TENANTS, write, send, 0).await;
    bench.prepare_run(NEXT, &TENANTS).await;
    assert_eq!(written.lock().unwrap().len(), 1);
    assert_eq!(sent.lock().unwrap().len(), 0, "nothing is sent early");
    let run = bench.run_when_due(NEXT, &TENANTS).await;
    assert_eq!(written.lock().unwrap().len(), 1);
    assert_eq!(keys(&sent), ["posts/a/2026-03-02/then"]);
    let both = json!({"written": with_tone("dry"), "then": "sent"});
    assert_eq!(run["a"].output, Some(both));
}

#[tokio::test(start_paused = true)]
async fn a_preparation_holds_up_no_run_and_ends_when_its_own_is_due() {
    let bench = bench(prepared_ahead(posts()), &TENANTS, Probe::default(), 0).await;
    bench.switch_on(&TENANTS);
    let chunk = bench.preparing(NEXT, &TENANTS).await;
    let late = bench.preparing(NEXT, &["late"]).await;
    bench.switch_on(&["late"]);
    let (prepared, ran) = futures::join!(
        bench.processor.process(&chunk),
        bench.processor.process(&bench.chunk)
    );
    assert_eq!(prepared.unwrap().succeeded, 1);
    assert_eq!(ran.unwrap().succeeded, 1, "of the day before");
    let run = bench.run_when_due(NEXT, &TENANTS).await;
    assert_eq!(run["a"].status, ItemStatus::Succeeded);
    let expired = bench.ended(&late).await;
    assert_eq!(expired["late"].error.as_deref(), Some("not_prepared"));
}

#[tokio::test(start_paused = true)]
async fn on_the_day_of_a_clock_change_the_prepared_run_is_that_of_the_date() {
    let run = Run {
        date: "2026-03-29",
        due: "2026-03-29T01:30:00Z",
    };
    let (handler, calls) = echo();
    let bench = bench(prepared_ahead(posts()), &["x"], handler, 0).await;
    let gap = json!({"enabled": true, "preferred_time": "02:30", "timezone": "Europe/Berlin",
        "template_overrides": {"tone": "dry"}});
    bench.prefers("a", gap);
    let until = run.due() - TimeDelta::hours(12) - bench.processor.now();
    tokio::time::advance(until.to_std().unwrap()).await;
    bench.prepare_run(run, &TENANTS).await;
    let run = bench.run_when_due(run, &TENANTS).await;
    assert_eq!(run["a"].output, Some(with_tone("dry")));
    assert_eq!(calls.lock().unwrap().len(), 1);
}

#[tokio::test(start_paused = true)]
async fn what_was_prepared_with_other_parameters_or_for_a_job_that_prepares_no_more_is_not_used() {
    let (handler, calls) = echo();
    let bench = bench(posts(), &["x"], handler, 0).await;
    bench.switch_on(&TENANTS);
    let chunk = bench.preparing(NEXT, &TENANTS).await;
    let claimant = Claimant {
        process: uuid::Uuid::from_u128(9),
        token: uuid::Uuid::from_u128(10),
    };
    let now = bench.processor.now();
    bench.store.claim(&chunk, claimant, now).await.unwrap();
    let prepared = NewPrepared {
        fingerprint: Fingerprint::new([1; 16]),
        work: PreparedWork::Output(json!("stale")),
        at: now,
    };
    let id = ItemId::new("a").unwrap();
    let kept = bench
        .store
        .keep_prepared(&chunk, claimant.token, &id, &prepared);
    assert!(kept.await.unwrap());
    let ended = bench.ended(&chunk).await;
    assert_eq!(ended["a"].error.as_deref(), Some("not_prepared"));
    let run = bench.run_when_due(NEXT, &TENANTS).await;
    assert_eq!(run["a"].output, Some(with_tone("dry")));
    assert_eq!(calls.lock().unwrap().len(), 1);
}

#[tokio::test(start_paused = true)]
async fn a_preparation_may_wait_and_holds_up_no_run() {
    let (handler, calls) = noting(|item| match item.prepares {
        Some(_) => {
            let until = item.scheduled_at + TimeDelta::days(7);
            Ok(Outcome::Waiting(Waiting::until(until)))
        }
        None => Ok(json!(item.overrides()).into()),
    });
    let tenants = ["done", "failed", "silent"];
    let bench = bench(prepared_ahead(posts()), &tenants, handler, 0).await;
    bench.switch_on(&tenants);
    let completer = bench
        .processor
        .clone()
        .with_waiting_items(bench.store.clone());
    bench.prepare_run(NEXT, &tenants).await;
    let waiting = bench
        .store
        .waiting_calls(&WaitingFilter::default(), &Page::default())
        .await;
    let (waiting, _) = waiting.unwrap();
    assert_eq!(waiting.len(), 3);
    let call_of = |tenant: &str| {
        let is_it = |call: &&WaitingCall| call.items[0].as_str() == tenant;
        let call = waiting.iter().find(is_it).unwrap();
        assert_eq!(call.waiting.until, NEXT.due(), "no longer than its run");
        call.call_id
    };
    let ran = bench.processor.process(&bench.chunk).await.unwrap();
    assert_eq!(ran.succeeded, 3, "of the day before");
    // A poll that says again how long the work may take.
    let silent = call_of("silent");
    let longer = Outcome::Waiting(Waiting::until(NEXT.due() + TimeDelta::days(7)));
    let settled = completer.complete(silent, Ok(longer)).await;
    assert_eq!(settled.unwrap(), Settled::Taken);
    let call = bench.store.waiting_call(silent).await.unwrap().unwrap();
    assert_eq!(call.waiting.until, NEXT.due(), "no longer than its run");

    let output = json!({"tone": "slow"});
    let done = Ok(Outcome::Done(output.clone()));
    let settled = completer.complete(call_of("done"), done.clone()).await;
    assert_eq!(settled.unwrap(), Settled::Taken);
    let again = completer.complete(call_of("done"), done).await;
    assert_eq!(again.unwrap(), Settled::NotWaiting);
    let down = Err(HandlerError::permanent("down"));
    let settled = completer.complete(call_of("failed"), down).await;
    assert_eq!(settled.unwrap(), Settled::Taken);
    let letters = bench
        .store
        .dead_letter_count(&DeadLetterFilter::default())
        .await;
    assert_eq!(letters.unwrap(), 0);

    calls.lock().unwrap().clear();
    let run = bench.run_when_due(NEXT, &tenants).await;
    assert_eq!(run["done"].output, Some(output));
    assert_eq!(run["failed"].output, Some(with_tone("dry")));
    assert_eq!(run["silent"].output, Some(with_tone("dry")));
    let mut called = keys(&calls);
    called.sort();
    assert_eq!(
        called,
        ["posts/failed/2026-03-02", "posts/silent/2026-03-02"]
    );
}

#[tokio::test(start_paused = true)]
async fn a_completion_of_a_preparation_hides_no_failures_of_a_run() {
    let (handler, calls) = noting(|item| {
        let until = item.scheduled_at + TimeDelta::days(7);
        Ok(Outcome::Waiting(Waiting::until(until)))
    });
    let mut job = prepared_ahead(posts());
    job["failure_limit"] = json!({"percent": 1, "at_least": 2});
    let bench = bench(job, &["x", "y"], handler, 0).await;
    bench.switch_on(&["x", "y", "z"]);
    let completer = bench
        .processor
        .clone()
        .with_waiting_items(bench.store.clone());
    bench.processor.process(&bench.chunk).await.unwrap();
    bench.prepare_run(NEXT, &["z"]).await;
    let call_of = |tenant: &str| {
        let calls = calls.lock().unwrap();
        let call = calls.iter().find(|item| item.item_id.as_str() == tenant);
        call.unwrap().completion.as_ref().unwrap().call_id
    };
    let down = || Err(HandlerError::permanent("down"));
    let done = Ok(Outcome::Done(json!("text")));
    for (tenant, outcome) in [("x", down()), ("z", done), ("y", down())] {
        let settled = completer.complete(call_of(tenant), outcome).await;
        assert_eq!(settled.unwrap(), Settled::Taken, "{tenant}");
    }
    let settled = completer.take_settled().into_values().next().unwrap();
    assert!(settled.pause_reason.is_some(), "{settled:?}");
}
