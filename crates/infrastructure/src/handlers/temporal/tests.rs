use chrono::{DateTime, Utc};
use punctual_application::{
    ports::{Attempts, HandlerErrorKind, Stage},
    testing::{self, ManualClock},
};
use punctual_domain::{JobId, KeyForm, PurposeId};

use super::*;

fn read(options: &Value) -> Result<Arc<dyn PurposeHandler>, Vec<String>> {
    let mut fields = Fields::new(options.as_object().unwrap(), "/purposes/write");
    let handler = TemporalKind.read(&mut fields, Duration::from_secs(30));
    fields.deny_others();
    let read = fields.finish(|| handler);
    read.map_err(|errors| errors.0.iter().map(ToString::to_string).collect())
}

#[test]
fn every_mistake_in_the_options_is_reported() {
    let good = json!({"address": "[::1]:7233", "namespace": "shop", "task_queue": "reports", "workflow": "Report",
        "poll_seconds": 1, "tls": true, "completes_within": "2h"});
    assert!(read(&good).is_ok());
    let found = read(
        &json!({"address": "https://temporal.example", "task_queue": "", "poll_seconds": 0,
        "api_key_env": "NOT_SET_ANYWHERE", "colour": 1}),
    );
    let Err(found) = found else {
        panic!("it was taken")
    };
    let expected = [
        "/purposes/write/address: \"https://temporal.example\" is not an address",
        "/purposes/write/api_key_env: \"NOT_SET_ANYWHERE\" is not set in the environment",
        "/purposes/write/task_queue: \"\" is not a valid name",
        "/purposes/write/workflow: is missing",
        "/purposes/write/poll_seconds: 0 is out of range",
        "/purposes/write/colour: 1 is not a known field",
    ];
    assert_eq!(found.len(), expected.len(), "{found:#?}");
    for (found, expected) in found.iter().zip(expected) {
        assert!(found.starts_with(expected), "{expected} in {found}");
    }
    // `PATH` is a variable that every process has.
    let in_the_clear = json!({"address": "127.0.0.1:7233", "task_queue": "reports", "workflow": "Report",
        "tls": false, "api_key_env": "PATH"});
    assert!(read(&in_the_clear).is_err());
}

/// A handler of a server at which nothing listens.
fn handler(poll_seconds: i64, now: DateTime<Utc>) -> TemporalHandler {
    let clock = Arc::new(ManualClock::starting_at(&now.to_rfc3339()));
    handler_of("127.0.0.1:1", poll_seconds, clock)
}

fn handler_of(address: &str, poll_seconds: i64, clock: Arc<ManualClock>) -> TemporalHandler {
    let options = json!({ "address": address });
    let mut fields = Fields::new(options.as_object().unwrap(), "");
    TemporalHandler {
        server: Server::read(&mut fields).unwrap(),
        task_queue: "reports".to_owned(),
        workflow: "Report".to_owned(),
        poll: TimeDelta::seconds(poll_seconds),
        deadline: CompletionOptions::read(&mut fields),
        silent_since: AtomicI64::default(),
        clock,
        failures: LogLimit::default(),
    }
}

fn call(since: DateTime<Utc>) -> WaitingCall {
    let state = State {
        workflow_id: "posts/ann/2026-03-02".to_owned(),
        run_id: "first".to_owned(),
    };
    let item = testing::item("ann");
    WaitingCall {
        call_id: uuid::Uuid::nil(),
        items: vec![item.item_id],
        job_id: JobId::new("posts").unwrap(),
        batch_id: item.batch_id,
        chunk_id: "chunk".to_owned(),
        occurrence: item.occurrence,
        scheduled_at: item.scheduled_at,
        key_form: KeyForm::Slashes,
        purpose_id: PurposeId::new("write").unwrap(),
        stage: Stage::Only,
        attempts: Attempts::default(),
        preference: None,
        written: None,
        started_at: since,
        since,
        waiting: Waiting::until(since + TimeDelta::days(1)).with_state(json!(state)),
        progress: None,
        is_cancelled: false,
    }
}

#[tokio::test(start_paused = true)]
async fn a_workflow_is_asked_for_less_often_the_longer_it_runs() {
    let since: DateTime<Utc> = "2026-03-02T09:00:00Z".parse().unwrap();
    for (ran, poll, expected) in [
        (0, 5, 5),
        (20, 5, 5),
        (40, 5, 10),
        (7_200, 5, 60),
        (7_200, 600, 600),
    ] {
        let now = since + TimeDelta::seconds(ran);
        let state = State {
            workflow_id: "posts/ann/2026-03-02".to_owned(),
            run_id: "second".to_owned(),
        };
        let waiting = handler(poll, now).again(&call(since), &state);
        let next = now + TimeDelta::seconds(expected);
        assert_eq!(waiting.poll_at, Some(next), "{ran} s at {poll} s");
        assert_eq!(waiting.state, json!(state));
        assert_eq!(waiting.until, since + TimeDelta::days(1));
    }
}

#[tokio::test]
async fn an_item_waits_on_while_the_server_does_not_answer() {
    let since: DateTime<Utc> = "2026-03-02T09:00:00Z".parse().unwrap();
    let call = call(since);
    let outcome = handler(5, since).poll(&call).await.unwrap();
    let Outcome::Waiting(waiting) = outcome else {
        panic!("the question failed: {outcome:?}")
    };
    assert!(waiting.poll_at > Some(since), "{waiting:?}");
    assert_eq!(waiting.state, call.waiting.state);
}

#[tokio::test]
async fn an_item_is_retried_while_no_server_answers_and_shown_without_one() {
    let now = "2026-03-02T09:00:00Z".parse().unwrap();
    let handler = handler(5, now);
    let item = testing::item("ann");
    let shown = handler.preview(&item, true).await.unwrap().unwrap();
    let to = "Report in the task queue reports of namespace default of 127.0.0.1:1";
    assert_eq!(shown.to.as_deref(), Some(to));
    let error = handler.run(&item).await.unwrap_err();
    assert_eq!(error.kind, HandlerErrorKind::Retryable);
    assert!(
        error.message.starts_with("Temporal at 127.0.0.1:1 "),
        "{error}"
    );
}

#[tokio::test(start_paused = true)]
async fn a_server_that_does_not_answer_holds_up_one_question_and_not_each() {
    // It takes connections, and says nothing.
    let silent = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = silent.local_addr().unwrap().to_string();
    let since: DateTime<Utc> = "2026-03-02T09:00:00Z".parse().unwrap();
    let clock = Arc::new(ManualClock::starting_at(&since.to_rfc3339()));
    let handler = handler_of(&address, 5, Arc::clone(&clock));
    let call = call(since);
    for (later, expected) in [
        (0, ANSWER_TIMEOUT),
        (0, Duration::ZERO),
        (SILENCE, ANSWER_TIMEOUT),
    ] {
        clock.step(TimeDelta::seconds(later));
        let began = tokio::time::Instant::now();
        let outcome = handler.poll(&call).await.unwrap();
        assert!(matches!(outcome, Outcome::Waiting(_)), "{outcome:?}");
        assert_eq!(began.elapsed().as_secs(), expected.as_secs());
    }
}
