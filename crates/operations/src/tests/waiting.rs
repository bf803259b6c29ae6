//! What workers and operators are answered about items that wait.

use axum::response::IntoResponse;
use chrono::{DateTime, TimeDelta, Utc};
use punctual_application::{
    OperatorError, Patience,
    ports::{Attempts, BatchReader, BatchStore, Claimant, Page, ResultFilter, Stage, WaitingItem},
};
use punctual_domain::Waiting;

use super::*;
use crate::problem::Problem;

const KEY: &str = "an-operators-key-of-32-characters";

fn now() -> DateTime<Utc> {
    NOW.parse().unwrap()
}

/// Has the items of all that is queued begin to wait, since `since` and until an hour after [`NOW`]. Returns the call of the last.
pub(crate) async fn wait(store: &FakeStore, call_id: Uuid, since: DateTime<Utc>) -> Uuid {
    let claimant = Claimant {
        process: Uuid::from_u128(1),
        token: Uuid::from_u128(2),
    };
    let until = now() + TimeDelta::hours(1);
    for chunk in store.pending() {
        let claim = store.claim(&chunk, claimant, now()).await.unwrap();
        let items = claim.items.into_iter().map(|item_id| WaitingItem {
            call_id,
            item_id,
            purpose_id: PurposeId::new("post").unwrap(),
            stage: Stage::Only,
            attempts: Attempts {
                made: 1,
                ..Attempts::default()
            },
            preference: None,
            started_at: since,
            since,
            waiting: Waiting::until(until).with_state(json!({"id": "a-canary"})),
        });
        let items: Vec<WaitingItem> = items.collect();
        let begun = store.begin_waiting(&chunk, claimant.token, &items).await;
        assert_eq!(begun.unwrap().taken, items.len());
    }
    call_id
}

/// A run for Ann that waits for its completion.
struct Run {
    api: Api,
    batch: Uuid,
    call_id: Uuid,
    token: String,
}

impl Run {
    async fn queued() -> Self {
        let mut api = Api::new(None);
        let queued = api
            .post("/api/v1/jobs/posts/trigger", json!({"tenants": ["ann"]}))
            .await;
        let call_id = Uuid::from_u128(0xca11);
        let token = token(&api.operator, call_id);
        let batch = queued["batch_id"].as_str().unwrap().parse().unwrap();
        Self {
            api,
            batch,
            call_id,
            token,
        }
    }

    async fn waiting_since(since: DateTime<Utc>) -> Self {
        let run = Self::queued().await;
        wait(&run.api.store, run.call_id, since).await;
        run
    }

    async fn waiting() -> Self {
        Self::waiting_since(now()).await
    }

    async fn say(&mut self, what: &str, body: &str) -> Value {
        let path = format!("/api/v1/waiting/{}/{what}", self.token);
        self.api.answers.call("POST", &path, &[], body).await
    }

    /// The result, its output and its error.
    async fn result(&self) -> (ItemStatus, Option<Value>, Option<String>) {
        let filter = ResultFilter {
            batch_id: self.batch,
            status: None,
        };
        let results = self.api.store.results(&filter, &Page::default()).await;
        let (mut results, _) = results.unwrap();
        assert_eq!(results.len(), 1);
        let result = results.remove(0).result;
        (result.status, result.output, result.error)
    }
}

fn token(operator: &Operator, call_id: Uuid) -> String {
    let urls = operator.processor.completion_urls().unwrap();
    let url = urls.url(call_id).unwrap();
    url.rsplit('/').next().unwrap().to_owned()
}

#[tokio::test(start_paused = true)]
async fn a_worker_completes_a_call_once() {
    let mut run = Run::waiting().await;
    assert_eq!(run.result().await.0, ItemStatus::Waiting);
    let batch = format!("/api/v1/batches/{}", run.batch);
    let batch = run.api.get(&batch).await;
    assert_eq!(batch["progress"]["waiting"], 1);
    let output = json!({"text": "Hello"});
    let taken = run.say("complete", &output.to_string()).await;
    assert_eq!(taken, json!({"status": "taken"}));
    let succeeded = (ItemStatus::Succeeded, Some(output), None);
    assert_eq!(run.result().await, succeeded);
    for (what, body) in [
        ("complete", "1"),
        ("fail", "{\"message\": \"down\"}"),
        ("extend", "{\"seconds\": 60}"),
    ] {
        let again = run.say(what, body).await;
        assert_eq!(again["status"], 409, "{again}");
        let detail = again["detail"].as_str().unwrap();
        assert!(detail.starts_with("not waiting"), "{detail}");
    }
    assert_eq!(run.result().await, succeeded);
}

#[tokio::test(start_paused = true)]
async fn an_empty_body_completes_with_null() {
    let mut run = Run::waiting().await;
    assert_eq!(run.say("complete", " \n").await["status"], "taken");
    let (status, output, _) = run.result().await;
    assert_eq!(status, ItemStatus::Succeeded);
    assert!(output.is_none_or(|output| output.is_null()));
}

#[tokio::test(start_paused = true)]
async fn a_worker_says_that_its_work_has_failed_for_good() {
    let mut run = Run::waiting().await;
    let failed = json!({"kind": "permanent", "message": "no such video"});
    let taken = run.say("fail", &failed.to_string()).await;
    assert_eq!(taken, json!({"status": "taken"}));
    let (status, _, error) = run.result().await;
    assert_eq!(status, ItemStatus::Failed);
    assert_eq!(error.as_deref(), Some("no such video"));
}

#[tokio::test(start_paused = true)]
async fn a_deadline_is_moved_up_to_thirty_days_after_the_call_began_to_wait() {
    let mut run = Run::waiting_since(now() - TimeDelta::days(1)).await;
    let latest = "2026-03-30T09:00:00Z";
    let asked = json!({"seconds": 7200, "progress": "7 of 9 <scenes>\n"});
    let moved = run.say("extend", &asked.to_string()).await;
    let expected = json!({"until": "2026-03-01T11:00:01Z", "latest": latest, "limited": false});
    assert_eq!(moved, expected);
    let listed = run.api.get("/api/v1/waiting?tenant_id=ann").await;
    let call = &listed["waiting"][0];
    assert_eq!(call["until"], "2026-03-01T11:00:01Z");
    assert_eq!(call["progress"]["note"], "7 of 9 <scenes>");
    let moved = run.say("extend", "{\"seconds\": 2592000}").await;
    let expected = json!({"until": latest, "latest": latest, "limited": true});
    assert_eq!(moved, expected);
    // What only says how far it is leaves the deadline.
    let moved = run.say("extend", "{\"progress\": \"8 of 9\"}").await;
    assert_eq!(
        (&moved["until"], &moved["limited"]),
        (&json!(latest), &json!(false))
    );
}

#[tokio::test(start_paused = true)]
async fn a_note_of_progress_does_not_show_the_token() {
    let mut run = Run::waiting().await;
    let note = format!("cannot reach http://agent/api/v1/waiting/{}/x", run.token);
    let asked = json!({ "progress": note }).to_string();
    assert_eq!(run.say("extend", &asked).await["limited"], false);
    let listed = run.api.get("/api/v1/waiting").await;
    assert_eq!(
        listed["waiting"][0]["progress"]["note"],
        "cannot reach http://agent/api/v1/waiting/[token]/x"
    );
}

#[tokio::test(start_paused = true)]
async fn wrong_tokens_get_one_answer_and_are_limited_and_right_ones_pass() {
    let mut run = Run::waiting().await;
    let other = if run.token.ends_with('0') { "1" } else { "0" };
    let altered = format!("{}{other}", &run.token[..63]);
    let longer = format!("{}0", run.token);
    let zeros = "0".repeat(64);
    let mut answers = Vec::new();
    for token in ["x", "%ff", "%00", "..%2f..", &zeros, &altered, &longer] {
        for what in ["complete", "fail", "extend"] {
            let path = format!("/api/v1/waiting/{token}/{what}");
            answers.push(run.api.answers.call("POST", &path, &[], "{").await);
        }
    }
    assert_eq!(answers[0]["status"], 404);
    for answer in &answers {
        assert_eq!(answer, &answers[0]);
    }
    let mut limited = false;
    for n in 0..100 {
        let path = format!("/api/v1/waiting/{n:064}/complete");
        let answer = run.api.answers.call("POST", &path, &[], "").await;
        limited |= answer["status"] == 429;
    }
    assert!(limited);
    assert_eq!(run.say("complete", "1").await["status"], "taken");
}

#[tokio::test(start_paused = true)]
async fn what_cannot_be_read_is_refused_and_the_call_waits_on() {
    let mut run = Run::waiting().await;
    let (deep, large) = ("[".repeat(200_000), "1".repeat(1024 * 1024 + 1));
    let long = json!({"message": "x", "retry_after_seconds": 2_592_001}).to_string();
    for (what, body, status) in [
        ("complete", "{", 400),
        ("complete", "NaN", 400),
        ("complete", "1 2", 400),
        ("complete", "\u{feff}1", 400),
        ("complete", deep.as_str(), 400),
        ("complete", large.as_str(), 413),
        ("fail", "", 400),
        ("fail", "[]", 400),
        ("fail", "{}", 400),
        ("fail", "{\"message\": 7}", 400),
        ("fail", "{\"message\": \" \"}", 400),
        ("fail", "{\"message\": \"x\", \"kind\": \"soft\"}", 400),
        ("fail", "{\"message\": \"x\", \"token\": 1}", 400),
        (
            "fail",
            "{\"message\": \"x\", \"retry_after_seconds\": -1}",
            400,
        ),
        ("fail", long.as_str(), 400),
        ("fail", large.as_str(), 413),
        ("extend", "", 400),
        ("extend", "{}", 400),
        ("extend", "{\"seconds\": 0}", 400),
        ("extend", "{\"seconds\": 1.5}", 400),
        ("extend", "{\"seconds\": 2592001}", 400),
        ("extend", "{\"seconds\": 18446744073709551616}", 400),
        ("extend", "{\"second\": 1}", 400),
        ("extend", large.as_str(), 413),
    ] {
        let answer = run.say(what, body).await;
        let body: String = body.chars().take(80).collect();
        assert_eq!(answer["status"], status, "{what} {body}: {answer}");
        assert!(!answer.to_string().contains(&run.token), "{answer}");
    }
    assert_eq!(run.say("complete", "1").await["status"], "taken");
}

#[tokio::test(start_paused = true)]
async fn a_worker_that_is_faster_than_the_store_is_waited_for() {
    let mut run = Run::queued().await;
    let (store, call_id) = (Arc::clone(&run.api.store), run.call_id);
    let begin = async {
        sleep(Duration::from_secs(1)).await;
        wait(&store, call_id, now()).await;
    };
    let (taken, ()) = tokio::join!(run.say("complete", "{\"text\": \"soon\"}"), begin);
    assert_eq!(taken["status"], "taken", "{taken}");
    assert_eq!(run.result().await.0, ItemStatus::Succeeded);
    // It does not take longer than a client waits.
    let mut run = Run::queued().await;
    let began = tokio::time::Instant::now();
    assert_eq!(run.say("complete", "1").await["status"], 409);
    assert!(began.elapsed() < Duration::from_secs(3));
}

#[tokio::test(start_paused = true)]
async fn a_worker_that_may_have_been_too_early_is_asked_to_come_again() {
    let run = Run::queued().await;
    let complete = async |patience: Patience| {
        let output = json!({"text": "soon"});
        let completed = run
            .api
            .operator
            .complete_call(run.call_id, output, &patience);
        completed.await.unwrap_err()
    };
    let error = complete(Patience::new(Duration::from_secs(2), 1)).await;
    let answer = Problem::from(error).into_response();
    assert_eq!(answer.status(), 409);
    assert_eq!(answer.headers()["retry-after"], "2");
    // One more than can be kept at one time does not hear that the call is over.
    let error = complete(Patience::new(Duration::from_secs(2), 0)).await;
    assert!(matches!(error, OperatorError::Unavailable(_)), "{error}");
    wait(&run.api.store, run.call_id, now()).await;
    let taken = Patience::new(Duration::from_secs(2), 0);
    let taken = run
        .api
        .operator
        .complete_call(run.call_id, json!(1), &taken);
    assert_eq!(taken.await.unwrap().status, "taken");
}

#[tokio::test(start_paused = true)]
async fn a_call_of_a_cancelled_batch_is_not_completed() {
    let mut run = Run::waiting().await;
    let cancel = format!("/api/v1/batches/{}/cancel", run.batch);
    run.api.call("POST", &cancel, "").await;
    let answer = run.say("complete", "1").await;
    assert_eq!(answer["status"], 409);
    let detail = answer["detail"].as_str().unwrap();
    assert!(detail.starts_with("cancelled"), "{detail}");
}

#[tokio::test(start_paused = true)]
async fn workers_need_no_key_and_the_list_does_and_holds_no_secret() {
    let mut api = Api::new(Some(KEY));
    let bearer = format!("Bearer {KEY}");
    let key = [("authorization", bearer.as_str())];
    let trigger = json!({"tenants": ["ann"]}).to_string();
    let path = "/api/v1/jobs/posts/trigger";
    let queued = api.answers.call("POST", path, &key, &trigger).await;
    let batch = queued["batch_id"].as_str().unwrap();
    let call_id = wait(&api.store, Uuid::from_u128(0xca11), now()).await;
    let token = token(&api.operator, call_id);
    let without = api.answers.call("GET", "/api/v1/waiting", &[], "").await;
    assert_eq!(without["status"], 401);
    for query in [
        "",
        "?job_id=posts",
        "?tenant=ann",
        &format!("?batch_id={batch}"),
    ] {
        let path = format!("/api/v1/waiting{query}");
        let list = api.answers.call("GET", &path, &key, "").await;
        assert_eq!(list["waiting"][0]["tenant_ids"], json!(["ann"]), "{query}");
        let text = list.to_string();
        for secret in ["a-canary", &token, &token[..32], &token[32..]] {
            assert!(!text.contains(secret), "{text}");
        }
    }
    let other = "/api/v1/waiting?job_id=report";
    let other = api.answers.call("GET", other, &key, "").await;
    assert_eq!(other["waiting"], json!([]));
    let path = format!("/api/v1/waiting/{token}/complete");
    let taken = api.answers.call("POST", &path, &[], "{}").await;
    assert_eq!(taken["status"], "taken");
    let actions = api.answers.call("GET", "/api/v1/audit-log", &key, "").await;
    let actions = actions["entries"].as_array().unwrap().len();
    assert_eq!(actions, 1, "the trigger: workers are no operators");
}
