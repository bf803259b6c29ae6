//! The handlers `chat` and `webhook` against real servers on loopback.

use std::{
    collections::BTreeMap,
    path::Path,
    sync::{Arc, Mutex},
    time::Duration,
};

use axum::{
    Json, Router,
    body::Bytes,
    extract::State,
    http::{HeaderMap, StatusCode},
    response::IntoResponse,
    routing::any,
};
use chrono::TimeDelta;
use punctual_application::{
    ports::{Clock, HandlerError, HandlerErrorKind, ItemSource, PurposeHandler, SystemClock},
    testing,
};
use punctual_domain::{
    AtDeadline, Completion, Item, JobId, Location, Outcome, PurposeId, Source, WebhookConfig,
};
use punctual_infrastructure::{
    ChatConfig, ChatHandler, ChatProvider, HandlerKinds, Sources, TemplateHandler, Templates,
    WebhookHandler,
};
use secrecy::SecretString;
use serde_json::{Value, json};

use crate::server::serve;

/// A status, headers and a body.
type Answered = (u16, Vec<(&'static str, &'static str)>, Vec<u8>);

/// What a server got, and what it answers, one after the other; the last one again and again.
#[derive(Clone, Default)]
pub struct Script {
    pub got: Arc<Mutex<Vec<(HeaderMap, Bytes)>>>,
    answers: Arc<Mutex<Vec<Answered>>>,
}

impl Script {
    pub fn answer(
        &self,
        status: u16,
        headers: &[(&'static str, &'static str)],
        body: impl Into<Vec<u8>>,
    ) {
        let answer = (status, headers.to_vec(), body.into());
        self.answers.lock().unwrap().push(answer);
    }

    pub async fn serve(&self) -> String {
        let router = Router::new()
            .fallback(any(
                async |State(script): State<Script>, headers: HeaderMap, body: Bytes| {
                    script.got.lock().unwrap().push((headers, body));
                    let mut answers = script.answers.lock().unwrap();
                    let (status, headers, body) = match answers.len() {
                        1 => answers[0].clone(),
                        _ => answers.remove(0),
                    };
                    let mut map = HeaderMap::new();
                    for (name, value) in headers {
                        map.insert(name, value.parse().unwrap());
                    }
                    (StatusCode::from_u16(status).unwrap(), map, body).into_response()
                },
            ))
            .with_state(self.clone());
        serve(router).await
    }

    pub fn calls(&self) -> usize {
        self.got.lock().unwrap().len()
    }
}

pub fn item(attempt: u32) -> Item {
    let overrides = json!({"tone": "dry", "role": "\"}], \"model\": \"other"});
    Item {
        job_id: JobId::new("posts").unwrap(),
        attempt,
        ..testing::item_preferring("ann", json!({ "template_overrides": overrides }))
    }
}

pub fn webhook(url: &str) -> WebhookConfig {
    WebhookConfig {
        url: url.to_owned(),
        secret_env: None,
        timeout: Duration::from_secs(5),
        allow_private_addresses: true,
    }
}

const SECRET: &str = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw";

#[tokio::test]
async fn a_webhook_is_signed_so_that_the_reference_library_takes_it_and_has_one_key_for_all_attempts()
 {
    let script = Script::default();
    script.answer(200, &[], r#"{"ok": true}"#);
    let url = script.serve().await;
    let secret = SecretString::from(SECRET);
    let handler =
        WebhookHandler::new(&webhook(&url), Some(&secret), Arc::new(SystemClock)).unwrap();
    for attempt in 1..=2 {
        let output = handler.run(&item(attempt)).await.unwrap();
        let output = output.into_output().unwrap();
        assert_eq!(output, json!({"status": 200, "body": {"ok": true}}));
    }
    let got = script.got.lock().unwrap();
    let receiver = standardwebhooks::Webhook::new(SECRET).unwrap();
    for (headers, body) in got.iter() {
        receiver.verify(body, headers).unwrap();
        assert_eq!(headers["idempotency-key"], "posts/ann/2026-03-01");
        assert_eq!(headers["webhook-id"], headers["idempotency-key"]);
        let sent: Value = serde_json::from_slice(body).unwrap();
        assert_eq!(sent["tenant_id"], "ann");
        assert_eq!(sent["preference"]["template_overrides"]["tone"], "dry");
    }
    let forged = receiver.verify(b"{}", &got[0].0);
    assert!(forged.is_err(), "a signature holds for its body only");
}

#[tokio::test]
async fn a_long_answer_is_kept_up_to_a_limit_and_text_stays_text() {
    let script = Script::default();
    script.answer(201, &[], "x".repeat(200_000));
    let url = script.serve().await;
    let handler = WebhookHandler::new(&webhook(&url), None, Arc::new(SystemClock)).unwrap();
    let output = handler.run(&item(1)).await.unwrap();
    let output = output.into_output().unwrap();
    assert_eq!(output["body"].as_str().unwrap().len(), 64 * 1024);
    assert_eq!(
        (&output["truncated"], &output["status"]),
        (&json!(true), &json!(201))
    );
}

#[tokio::test]
async fn an_endpoint_says_that_there_is_nothing_to_do() {
    let script = Script::default();
    script.answer(204, &[], "");
    script.answer(
        200,
        &[],
        r#"{"status": "nothing_to_do", "reason": "no new orders"}"#,
    );
    script.answer(200, &[], "");
    let url = script.serve().await;
    let handler = WebhookHandler::new(&webhook(&url), None, Arc::new(SystemClock)).unwrap();
    let host = url.trim_start_matches("http://").trim_end_matches('/');
    for expected in [
        Outcome::nothing_to_do(format!("{host} answered 204 No Content")),
        Outcome::nothing_to_do("no new orders"),
        Outcome::Done(json!({"status": 200, "body": ""})),
    ] {
        assert_eq!(handler.run(&item(1)).await.unwrap(), expected);
    }
}

#[tokio::test]
async fn an_item_that_is_accepted_waits_if_its_call_had_an_address() {
    const HEADER: &str = "punctual-completion-url";
    let script = Script::default();
    script.answer(202, &[], r#"{"ticket": 7}"#);
    let url = script.serve().await;
    let handler = WebhookHandler::new(&webhook(&url), None, Arc::new(SystemClock)).unwrap();
    let completion = "https://agent.example/api/v1/waiting/4711";
    let called = Item {
        completion: Some(Completion {
            call_id: uuid::Uuid::nil(),
            url: Some(completion.into()),
        }),
        ..item(1)
    };
    let earliest = SystemClock.now() + TimeDelta::hours(24);
    let Outcome::Waiting(waiting) = handler.run(&called).await.unwrap() else {
        panic!("it waits");
    };
    assert!(waiting.until >= earliest && waiting.until < earliest + TimeDelta::minutes(1));
    assert_eq!(waiting.at_deadline, AtDeadline::Retry);
    assert_eq!(script.got.lock().unwrap()[0].0[HEADER], completion);

    let done = Outcome::Done(json!({"status": 202, "body": {"ticket": 7}}));
    assert_eq!(handler.run(&item(1)).await.unwrap(), done);
    let previewed = handler.preview(&called, true).await.unwrap().unwrap();
    assert_eq!(previewed.outcome.unwrap().unwrap(), done);
    let purposes = json!({"purposes": {"p": {"handler": "webhook", "url": url, "accepted": "done",
        "allow_private_addresses": true}}});
    let handlers = HandlerKinds::built_in(Path::new(".")).handlers(&purposes);
    let purpose = PurposeId::new("p").unwrap();
    let others = handlers.unwrap().handler(&purpose).unwrap();
    assert_eq!(others.run(&called).await.unwrap(), done);
    for (headers, _) in &script.got.lock().unwrap()[1..] {
        assert!(!headers.contains_key(HEADER));
    }

    assert_eq!(handler.completed(json!({"ticket": 7})), done);
    let nothing = json!({"status": "nothing_to_do", "reason": "no new orders"});
    let expected = Outcome::nothing_to_do("no new orders");
    assert_eq!(handler.completed(nothing), expected);
}

#[tokio::test]
async fn refusals_say_what_to_do_about_them_and_redirects_are_not_followed() {
    let script = Script::default();
    let tripwire = Script::default();
    tripwire.answer(200, &[], "");
    let elsewhere: &'static str = tripwire.serve().await.leak();
    script.answer(429, &[("retry-after", "3")], "slow down");
    script.answer(500, &[], "");
    script.answer(302, &[("location", elsewhere)], "");
    script.answer(404, &[], "no such hook");
    let url = script.serve().await;
    let handler = WebhookHandler::new(&webhook(&url), None, Arc::new(SystemClock)).unwrap();
    let mut errors = Vec::new();
    for _ in 0..4 {
        errors.push(handler.run(&item(1)).await.unwrap_err());
    }
    use HandlerErrorKind::{Permanent, Retryable, Throttled};
    let kinds: Vec<_> = errors.iter().map(|error| error.kind).collect();
    assert_eq!(kinds, [Throttled, Retryable, Permanent, Permanent]);
    assert_eq!(errors[0].retry_after, Some(Duration::from_secs(3)));
    assert!(
        errors[3].message.contains("404 Not Found: no such hook"),
        "{}",
        errors[3]
    );
    assert_eq!(script.calls(), 4, "nothing is retried below the processor");
    assert_eq!(tripwire.calls(), 0);
}

#[tokio::test]
async fn nothing_connects_to_this_machine_however_its_address_is_written() {
    let tripwire = Script::default();
    tripwire.answer(200, &[], "");
    let port: u16 = tripwire
        .serve()
        .await
        .rsplit(':')
        .next()
        .unwrap()
        .parse()
        .unwrap();
    let mut blocked = 0;
    for host in [
        "127.0.0.1",
        "127.1",
        "2130706433",
        "0x7f.1",
        "017700000001",
        "0",
        "0.0.0.0",
        "[::1]",
        "[::]",
        "[::ffff:127.0.0.1]",
        "[::ffff:7f00:1]",
        "[64:ff9b::7f00:1]",
        "localhost",
        "LOCALHOST",
    ] {
        let config = WebhookConfig {
            allow_private_addresses: false,
            ..webhook(&format!("http://{host}:{port}/"))
        };
        let refused = match WebhookHandler::new(&config, None, Arc::new(SystemClock)) {
            Err(_) => true,
            Ok(handler) => handler.run(&item(1)).await.is_err(),
        };
        assert!(refused, "{host}");
        blocked += 1;
    }
    assert_eq!((blocked, tripwire.calls()), (14, 0));
}

#[tokio::test]
async fn every_url_of_jobs_and_purposes_has_one_rule() {
    let endpoint = Script::default();
    endpoint.answer(200, &[], "[{\"id\": \"a\"}]");
    let url = endpoint.serve().await;
    let folder = tempfile::tempdir().unwrap();
    let port = url.rsplit(':').next().unwrap();
    for host in ["127.0.0.1", "localhost"] {
        let url = format!("http://{host}:{port}/");
        let source = |private| {
            let location = Location::Http {
                url: url.clone(),
                items: String::new(),
                api_key_env: None,
                allow_private_addresses: private,
            };
            let (filters, limit) = (vec![], None);
            let source = Source {
                location,
                filters,
                limit,
            };
            BTreeMap::from([("items".to_owned(), source)])
        };
        let sources = Sources::in_folder(folder.path()).unwrap();
        let before = endpoint.calls();
        let error = sources.load(&source(false)).await.unwrap_err().to_string();
        assert!(
            error.contains("not public; to allow it, set \"allow_private_addresses\""),
            "{error}"
        );
        assert_eq!(endpoint.calls(), before, "nothing was called");
        assert_eq!(sources.load(&source(true)).await.unwrap()["items"].len(), 1);
        let mut config = chat(&url);
        std::fs::write(folder.path().join("u.j2"), "").unwrap();
        let model = |config: &ChatConfig| {
            let user = TemplateHandler::new(&Templates::in_folder(folder.path()), "u.j2").unwrap();
            ChatHandler::new(config, None, None, user, Duration::from_secs(5)).map(drop)
        };
        assert!(model(&config).is_ok());
        config.allow_private_addresses = false;
        assert!(
            model(&config)
                .unwrap_err()
                .to_string()
                .contains("allow_private_addresses")
        );
    }
}

#[tokio::test]
async fn an_unreachable_endpoint_is_reported_without_its_url() {
    let config = webhook("http://127.0.0.1:1/hook?token=canary");
    let handler = WebhookHandler::new(&config, None, Arc::new(SystemClock)).unwrap();
    let error = handler.run(&item(1)).await.unwrap_err();
    assert_eq!(error.kind, HandlerErrorKind::Retryable);
    assert_eq!(error.message, "127.0.0.1:1 refused the connection");
    assert!(!error.message.contains("canary"), "{error}");
}

pub fn chat(base_url: &str) -> ChatConfig {
    ChatConfig {
        provider: ChatProvider::OpenAi,
        base_url: base_url.to_owned(),
        model: "small".to_owned(),
        temperature: Some(0.3),
        max_tokens: Some(80),
        seed: Some(7),
        min_characters: 5,
        max_characters: Some(500),
        allow_truncated: false,
        allow_private_addresses: true,
        batch: None,
    }
}

pub fn asks(config: &ChatConfig, folder: &Path) -> ChatHandler {
    std::fs::write(folder.join("s.txt.j2"), "You are {{ tone }}.").unwrap();
    std::fs::write(
        folder.join("u.txt.j2"),
        "Write as {{ role }} to {{ item.tenant_id }}.",
    )
    .unwrap();
    let templates = Templates::in_folder(folder);
    let template = |name| TemplateHandler::new(&templates, name).unwrap();
    let key = Some(SecretString::from("canary-key"));
    let timeout = Duration::from_secs(5);
    let system = Some(template("s.txt.j2"));
    ChatHandler::new(config, key, system, template("u.txt.j2"), timeout).unwrap()
}

pub fn answer(text: &str, finish_reason: &str) -> Vec<u8> {
    Json(json!({"model": "small-1", "choices": [{"message": {"role": "assistant", "content": text},
        "finish_reason": finish_reason}], "usage": {"prompt_tokens": 12, "completion_tokens": 5, "total_tokens": 17}}))
    .0
    .to_string()
    .into_bytes()
}

#[tokio::test]
async fn a_model_is_asked_with_the_tenants_words_as_data_and_the_next_seed_on_the_next_attempt() {
    let folder = tempfile::tempdir().unwrap();
    let script = Script::default();
    script.answer(200, &[], answer(" A dry morning. ", "stop"));
    let handler = asks(&chat(&script.serve().await), folder.path());
    let output = handler.run(&item(1)).await.unwrap();
    let output = output.into_output().unwrap();
    assert_eq!(output["text"], "A dry morning.");
    assert_eq!(output["usage"]["total_tokens"], 17);
    handler.run(&item(2)).await.unwrap();
    let got = script.got.lock().unwrap();
    let sent: Vec<Value> = got
        .iter()
        .map(|(_, body)| serde_json::from_slice(body).unwrap())
        .collect();
    assert_eq!(
        sent[0]["messages"][0],
        json!({"role": "system", "content": "You are dry."})
    );
    let user = "Write as \"}], \"model\": \"other to ann.";
    assert_eq!(
        sent[0]["messages"][1]["content"], user,
        "it stays inside its message"
    );
    assert_eq!(
        (&sent[0]["model"], &sent[0]["temperature"]),
        (&json!("small"), &json!(0.3))
    );
    assert_eq!((&sent[0]["seed"], &sent[1]["seed"]), (&json!(7), &json!(8)));
    assert_eq!(got[0].0["authorization"], "Bearer canary-key");
    assert_eq!(got[0].0["idempotency-key"], "posts/ann/2026-03-01");
}

#[tokio::test]
async fn an_invalid_answer_is_reported_as_what_it_is_and_never_with_the_key() {
    let folder = tempfile::tempdir().unwrap();
    use HandlerErrorKind::{Permanent, Retryable, Throttled};
    let error = |message: &str| {
        json!({"error": {"message": message}})
            .to_string()
            .into_bytes()
    };
    let circles = "Good morning to you all\n".repeat(6);
    for (status, body, kind, expected) in [
        (
            200,
            answer("", "stop"),
            Retryable,
            "has 0 characters; at least 5 are required",
        ),
        (
            200,
            answer("cut off in the mid", "length"),
            Retryable,
            "cut off at max_tokens",
        ),
        (
            200,
            answer(&"🎉".repeat(40), "stop"),
            Retryable,
            "repeats itself",
        ),
        (
            200,
            answer(&"very ".repeat(20), "stop"),
            Retryable,
            "repeats itself",
        ),
        (200, answer(&circles, "stop"), Retryable, "repeats itself"),
        (
            200,
            answer(&"so many words ".repeat(60).replace("so", "s o"), "stop"),
            Retryable,
            "at most 500 are allowed",
        ),
        (
            200,
            answer("withheld for reasons", "content_filter"),
            Permanent,
            "content_filter",
        ),
        (200, b"<html>".to_vec(), Retryable, "cannot be parsed"),
        (200, b"{\"choices\": []}".to_vec(), Retryable, "no choice"),
        (
            401,
            error("bad key"),
            Permanent,
            "401 Unauthorized: bad key",
        ),
        (429, error("slow down"), Throttled, "slow down"),
        (503, Vec::new(), Throttled, "503"),
        (500, Vec::new(), Retryable, "500"),
        (400, error("no such model"), Permanent, "no such model"),
    ] {
        let script = Script::default();
        script.answer(status, &[], body);
        let handler = asks(&chat(&script.serve().await), folder.path());
        let error: HandlerError = handler.run(&item(1)).await.unwrap_err();
        assert_eq!(error.kind, kind, "{status} {error}");
        assert!(error.message.contains(expected), "{expected}: {error}");
        assert!(!error.message.contains("canary"), "{error}");
    }
}
