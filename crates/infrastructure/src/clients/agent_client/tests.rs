//! The client against a real API of an agent, and against peers that are slow, lie, send too much, redirect and fail.

use std::{
    convert::Infallible,
    net::SocketAddr,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
};

use axum::{
    Router,
    body::{Body, Bytes},
    http::StatusCode,
    response::{IntoResponse, Redirect, Response},
    routing::get,
};
use futures::stream;
use punctual_application::{
    Actor, Operator, TriggerRequest,
    testing::{self, FakeStore, contract},
};
use punctual_domain::{ItemStatus, JobId, Zone};
use punctual_operations::{Access, Operations, SignIn, Words};
use serde_json::{Value, json};
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;

use super::*;

const KEY: &str = "canary-key-of-more-than-16-characters";

fn ann() -> TenantId {
    TenantId::new("ann").unwrap()
}

fn posts() -> FeatureType {
    FeatureType::new("posts").unwrap()
}

/// Serves a router, and returns its address.
async fn serve(router: Router) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let service = router.into_make_service_with_connect_info::<SocketAddr>();
    tokio::spawn(async move { axum::serve(listener, service).await });
    address
}

fn client(urls: String) -> AgentClient {
    let names = AgentSettingNames {
        urls: "AGENT_URLS",
        api_key: "AGENT_KEY",
    };
    let options = AgentClientOptions {
        urls,
        api_key: Some(KEY.into()),
        names,
    };
    AgentClient::new(options).unwrap()
}

/// An agent whose API needs the key, and what it is operated by.
async fn agent(store: &Arc<FakeStore>) -> (SocketAddr, Operator) {
    let jobs = json!({"jobs": [{"job_id": "posts", "type": "individual_batch", "purpose_id": "post",
        "preference_based": true, "feature_type": "posts"}]});
    let jobs = punctual_project::parse_batch_config(&jobs, &Zone::utc()).unwrap();
    let operator = testing::operator(store, jobs, "2026-03-01T09:00:00Z");
    let operations = Operations {
        operator: operator.clone(),
        stop: CancellationToken::new(),
        access: Access::key(KEY.into(), SocketAddr::from(([127, 0, 0, 1], 80))).unwrap(),
        sign_in: SignIn::default(),
        metrics: None,
        words: Words::default(),
        config_database: None,
    };
    (serve(operations.router()).await, operator)
}

/// Runs for Ann, and has it end so.
async fn run(operator: &Operator, store: &FakeStore, status: ItemStatus) {
    let request = TriggerRequest {
        tenants: Some([ann()].into()),
        all: false,
        allow_unknown: true,
    };
    let job = JobId::new("posts").unwrap();
    operator
        .trigger(&Actor::from("a test"), None, &job, &request)
        .await
        .unwrap();
    store.end_all(status, operator.clock.now()).await;
}

#[tokio::test]
async fn an_agent_keeps_the_contract_of_a_history() {
    let store: Arc<FakeStore> = Arc::default();
    let (address, operator) = agent(&store).await;
    run(&operator, &store, ItemStatus::Failed).await;
    run(&operator, &store, ItemStatus::Succeeded).await;
    let known = operator.past_runs(&ann(), &posts(), 100).await.unwrap();
    for urls in [
        format!("http://{address}"),
        // Also where the path of the API is named, and two addresses lead to one store.
        format!(
            "http://{address}/api/v1, http://localhost:{}/",
            address.port()
        ),
    ] {
        contract::run_history(&client(urls), (&ann(), &posts()), &known).await;
    }
    let options = AgentClientOptions {
        urls: format!("http://{address}"),
        api_key: Some("another-key-of-some-characters".into()),
        names: AgentSettingNames::default(),
    };
    let stranger = AgentClient::new(options).unwrap();
    let refused = stranger.past_runs(&ann(), &posts(), 1).await.unwrap_err();
    assert_eq!(refused.kind(), RunHistoryErrorKind::Unauthorized);
}

#[tokio::test]
async fn of_agents_that_divide_the_tenants_all_are_asked_and_all_have_to_answer() {
    let (one, other) = (Arc::<FakeStore>::default(), Arc::<FakeStore>::default());
    let (here, operator) = agent(&one).await;
    run(&operator, &one, ItemStatus::Succeeded).await;
    let (there, operator) = agent(&other).await;
    run(&operator, &other, ItemStatus::Failed).await;
    let both = client(format!("http://{here},http://{there}"));
    let runs = both.past_runs(&ann(), &posts(), 10).await.unwrap();
    assert_eq!(runs.len(), 2);
    assert_eq!(
        both.past_runs(&ann(), &posts(), 1).await.unwrap(),
        runs[..1]
    );
    let gone = serve(Router::new()).await;
    let one_is_not = client(format!("http://{here},http://{gone}"));
    let failed = one_is_not.past_runs(&ann(), &posts(), 10).await;
    assert_eq!(failed.unwrap_err().kind(), RunHistoryErrorKind::Malformed);
}

/// What a peer that answers so makes the client say.
async fn said(answer: impl Fn() -> Response + Clone + Send + Sync + 'static) -> RunHistoryError {
    let answer = move || {
        let answer = answer();
        async move { answer }
    };
    let address = serve(Router::new().fallback(answer)).await;
    let client = client(format!("http://{address}"));
    let error = client.past_runs(&ann(), &posts(), 10).await.unwrap_err();
    let text = format!("{error} {error:?} {client:?}");
    assert!(text.contains(&address.to_string()), "{text}");
    assert!(!text.contains("canary"), "{text}");
    error
}

fn runs_of(tenant: &str, outcome: impl Into<Value>) -> Value {
    let outcome: Value = outcome.into();
    let run = json!({"job_id": "posts", "occurrence": "2026-03-01", "scheduled_at": "2026-03-01T09:00:00Z",
        "finished_at": "2026-03-01T09:00:01Z", "outcome": outcome, "reason": null});
    json!({"tenant_id": tenant, "feature_type": "posts", "runs": [run]})
}

#[tokio::test]
async fn what_is_not_a_history_is_refused() {
    use RunHistoryErrorKind::{Malformed, Unauthorized, Unavailable};
    let body = |value: &Value| {
        let text = value.to_string();
        move || text.clone().into_response()
    };
    for lie in [
        runs_of("bob", "succeeded"),
        runs_of("ann", 3),
        json!({"tenant_id": "ann", "feature_type": "posts", "runs": [{"outcome": "succeeded"}]}),
        json!({"tenant_id": "ann", "feature_type": "else", "runs": []}),
        json!({"runs": []}),
        json!([]),
    ] {
        let error = said(body(&lie)).await;
        assert_eq!(error.kind(), Malformed, "{lie}: {error}");
        assert!(error.to_string().contains("AGENT_URLS"), "{error}");
    }
    let page = said(|| "<h1>Welcome</h1>".into_response()).await;
    assert_eq!(page.kind(), Malformed);

    let long = said(|| "x".repeat(MAX_ANSWER_BYTES + 1).into_response()).await;
    assert_eq!(long.kind(), Malformed);
    let endless = || {
        let pieces =
            stream::repeat_with(|| Ok::<_, Infallible>(Bytes::from_static(&[b' '; 4_096])));
        Body::from_stream(pieces).into_response()
    };
    let endless = said(endless).await;
    assert!(endless.to_string().contains("too long"), "{endless}");

    for (status, kind) in [
        (StatusCode::UNAUTHORIZED, Unauthorized),
        (StatusCode::FORBIDDEN, Unauthorized),
        (StatusCode::NOT_FOUND, Malformed),
        (StatusCode::NO_CONTENT, Malformed),
        (StatusCode::TOO_MANY_REQUESTS, Unavailable),
        (StatusCode::INTERNAL_SERVER_ERROR, Unavailable),
        (StatusCode::SERVICE_UNAVAILABLE, Unavailable),
    ] {
        let error = said(move || status.into_response()).await;
        assert_eq!(error.kind(), kind, "{error}");
    }
}

/// An agent that answers with these runs of Ann.
async fn answering(answer: &Value) -> SocketAddr {
    let answer = answer.to_string();
    serve(Router::new().fallback(move || async move { answer })).await
}

#[tokio::test]
async fn what_one_agent_has_skipped_and_another_has_run_has_run() {
    let run = answering(&runs_of("ann", "succeeded")).await;
    let skipped = answering(&runs_of("ann", "skipped")).await;
    for urls in [
        format!("http://{run},http://{skipped}"),
        format!("http://{skipped},http://{run}"),
    ] {
        let runs = client(urls).past_runs(&ann(), &posts(), 10).await.unwrap();
        let outcomes: Vec<RunOutcome> = runs.iter().map(|run| run.outcome).collect();
        assert_eq!(outcomes, [RunOutcome::Succeeded]);
    }
}

#[tokio::test]
async fn an_outcome_of_a_newer_agent_is_left_out() {
    let mut answer = runs_of("ann", "of_a_newer_version");
    let known = runs_of("ann", "failed")["runs"][0].clone();
    answer["runs"].as_array_mut().unwrap().push(known);
    let newer = client(format!("http://{}", answering(&answer).await));
    let runs = newer.past_runs(&ann(), &posts(), 10).await.unwrap();
    let outcomes: Vec<RunOutcome> = runs.iter().map(|run| run.outcome).collect();
    assert_eq!(outcomes, [RunOutcome::Failed]);
}

#[test]
fn a_key_is_exposed_where_it_leaves_this_machine_unencrypted() {
    for (url, exposed) in [
        ("http://agent.example:8080", true),
        ("http://10.0.0.1", true),
        ("https://agent.example", false),
        ("http://localhost:8080", false),
        ("http://127.0.0.1:8080", false),
        ("http://[::1]:8080", false),
    ] {
        assert_eq!(is_exposed(&base_of(url).unwrap()), exposed, "{url}");
    }
}

#[tokio::test]
async fn a_redirect_is_not_followed() {
    let reached: Arc<AtomicUsize> = Arc::default();
    let counted = Arc::clone(&reached);
    let target = get(move || {
        counted.fetch_add(1, Ordering::Relaxed);
        async { runs_of("ann", "succeeded").to_string() }
    });
    let target = serve(Router::new().route("/", target)).await;
    let redirected =
        said(move || Redirect::temporary(&format!("http://{target}/")).into_response());
    assert_eq!(redirected.await.kind(), RunHistoryErrorKind::Malformed);
    assert_eq!(reached.load(Ordering::Relaxed), 0);
}

#[tokio::test(start_paused = true)]
async fn a_peer_that_does_not_answer_in_time_is_given_up() {
    let silent = || Body::from_stream(stream::pending::<Result<Bytes, Infallible>>());
    let error = said(move || silent().into_response()).await;
    assert_eq!(error.kind(), RunHistoryErrorKind::Unavailable);
    assert!(error.to_string().contains("no answer in time"), "{error}");
    // Takes connections, and says nothing.
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let deaf = client(format!("http://{}", listener.local_addr().unwrap()));
    let error = deaf.past_runs(&ann(), &posts(), 10).await.unwrap_err();
    assert!(error.to_string().contains("no answer in time"), "{error}");
    let address = listener.local_addr().unwrap();
    drop(listener);
    let gone = client(format!("http://{address}"));
    let error = gone.past_runs(&ann(), &posts(), 10).await.unwrap_err();
    assert_eq!(error.kind(), RunHistoryErrorKind::Unavailable);
}

#[test]
fn settings_that_cannot_be_used_are_named_without_their_secrets() {
    let refused = |urls: &str, key: &str| {
        let options = AgentClientOptions {
            urls: urls.to_owned(),
            api_key: Some(key.into()),
            names: AgentSettingNames {
                urls: "AGENT_URLS",
                api_key: "AGENT_KEY",
            },
        };
        let error = AgentClient::new(options).unwrap_err();
        let text = format!("{error} {error:?}");
        assert!(!text.contains("canary"), "{text}");
        text
    };
    for urls in ["", "canary", "ftp://canary@a", "http://a,,http://b"] {
        assert!(refused(urls, KEY).contains("invalid AGENT_URLS"), "{urls}");
    }
    let with_password = refused("http://user:canary@a", KEY);
    assert!(
        with_password.contains("put the key into AGENT_KEY"),
        "{with_password}"
    );
    let many = ["http://a"; MAX_AGENTS + 1].join(",");
    assert!(refused(&many, KEY).contains("65 agents"));
    assert!(refused("http://a", "canary\n").contains("AGENT_KEY"));
}
