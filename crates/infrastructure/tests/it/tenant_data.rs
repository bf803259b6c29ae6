//! Tenants' own data, from a real server on loopback.

use std::{
    sync::{Arc, Mutex},
    time::Duration,
};

use axum::{
    Router,
    body::{Body, Bytes, to_bytes},
    extract::Request,
    http::Response,
};
use punctual_application::{
    ports::{HandlerError, HandlerErrorKind, TenantAnswers, TenantData},
    testing::contract::{self, DATA},
};
use punctual_domain::{
    DataPer, DataRequest, DataSource, DataTenant, HttpData, Previous, TenantId, UrlTemplate,
};
use punctual_infrastructure::HttpTenantData;
use serde_json::{Value, json};

use crate::server::{json as answer, serve, start};

fn source(url: &str, per: DataPer) -> HttpData {
    HttpData {
        url: UrlTemplate::new(url).unwrap(),
        per,
        items: String::new(),
        api_key_env: None,
        timeout: Duration::from_secs(5),
        concurrency: None,
        requests_per_minute: None,
        allow_private_addresses: true,
    }
}

fn request(tenants: &[&str]) -> DataRequest {
    let tenant = |id: &&str| DataTenant {
        tenant_id: TenantId::new(id).unwrap(),
        previous: Some(Previous {
            occurrence: "2026-03-01".parse().unwrap(),
            scheduled_at: "2026-03-01T09:00:00Z".parse().unwrap(),
            finished_at: "2026-03-01T09:00:02Z".parse().unwrap(),
        }),
    };
    DataRequest {
        job_id: punctual_domain::JobId::new("digest").unwrap(),
        occurrence: "2026-03-02".parse().unwrap(),
        scheduled_at: "2026-03-02T09:00:00Z".parse().unwrap(),
        tenants: tenants.iter().map(tenant).collect(),
    }
}

async fn fetch(source: HttpData, tenants: &[&str]) -> Result<TenantAnswers, HandlerError> {
    let data = HttpTenantData::new().unwrap();
    let source = DataSource::Http(source);
    data.fetch(&source, &request(tenants)).await
}

/// How a call of a server that answers so for one tenant fails.
async fn error_of(
    answer: impl Fn() -> Response<Body> + Clone + Send + Sync + 'static,
) -> HandlerError {
    let (url, calls) = start(move |_| answer()).await;
    let url = format!("{url}/{{tenant_id}}");
    let error = fetch(source(&url, DataPer::Tenant), &["ann"])
        .await
        .unwrap_err();
    assert_eq!(
        calls.lock().unwrap().len(),
        1,
        "retries are the processor's"
    );
    error
}

fn with_body(status: u16, body: impl Into<Body>) -> Response<Body> {
    Response::builder()
        .status(status)
        .body(body.into())
        .unwrap()
}

/// Answers each tenant by itself, and many by their ids, with the data of the contract.
async fn shop() -> String {
    let router = Router::new().fallback(async |request: Request| {
        let of = |tenant: &str| {
            let known = DATA.iter().find(|(known, _)| *known == tenant);
            known.map_or(Value::Null, |(_, data)| json!(data))
        };
        if request.method() == "GET" {
            let tenant = request.uri().path().trim_start_matches('/');
            let tenant = tenant.replace("%3A", ":").replace("%40", "@");
            return answer(200, &json!({"data": of(&tenant)}));
        }
        let body = to_bytes(request.into_body(), usize::MAX).await.unwrap();
        let body: Value = serde_json::from_slice(&body).unwrap();
        let tenants = body["tenants"].as_array().unwrap().iter();
        let tenants = tenants.map(|tenant| tenant["tenant_id"].as_str().unwrap());
        let data = tenants.map(|tenant| (tenant.to_owned(), of(tenant)));
        answer(200, &json!({"data": Value::Object(data.collect())}))
    });
    serve(router).await
}

#[tokio::test]
async fn it_keeps_the_contract_for_one_tenant_and_for_many() {
    let url = shop().await;
    let data = HttpTenantData::new().unwrap();
    for (url, per) in [
        (format!("{url}/{{tenant_id}}"), DataPer::Tenant),
        (format!("{url}/activity"), DataPer::Chunk),
    ] {
        let source = HttpData {
            items: "/data".to_owned(),
            ..source(&url, per)
        };
        contract::tenant_data(&data, &DataSource::Http(source)).await;
    }
}

#[tokio::test]
async fn one_tenant_is_asked_for_by_its_address_and_many_by_their_ids() {
    let (url, calls) = start(|_| answer(200, &json!({"news": [1]}))).await;
    let of_one =
        format!("{url}/users/{{tenant_id}}?since={{previous.finished_at}}&run={{occurrence}}");
    let found = fetch(source(&of_one, DataPer::Tenant), &["eu:ann"])
        .await
        .unwrap();
    let ann = TenantId::new("eu:ann").unwrap();
    assert_eq!(*found[&ann].as_ref().unwrap(), json!({"news": [1]}));
    assert_eq!(
        *calls.lock().unwrap(),
        ["GET /users/eu%3Aann?since=2026-03-01T09%3A00%3A02Z&run=2026-03-02"]
    );

    let got: Arc<Mutex<Vec<Bytes>>> = Arc::default();
    let seen = Arc::clone(&got);
    let router = Router::new().fallback(move |body: Bytes| {
        seen.lock().unwrap().push(body);
        let answered = answer(
            200,
            &json!({"ann": {"orders": 1}, "stranger": {"orders": 9}}),
        );
        async move { answered }
    });
    let url = serve(router).await;
    let found = fetch(source(&url, DataPer::Chunk), &["ann", "bob"])
        .await
        .unwrap();
    let tenants: Vec<&str> = found.keys().map(TenantId::as_str).collect();
    assert_eq!(
        tenants,
        ["ann"],
        "bob has none, and no other tenant was asked for"
    );
    let posted: Value = serde_json::from_slice(&got.lock().unwrap()[0]).unwrap();
    assert_eq!(posted["job"], "digest");
    assert_eq!(posted["tenants"][1]["tenant_id"], "bob");
    assert_eq!(posted["tenants"][1]["occurrence"], "2026-03-02");
    assert_eq!(posted["tenants"][1]["previous"]["occurrence"], "2026-03-01");
}

#[tokio::test]
async fn a_status_says_whether_another_attempt_makes_sense() {
    use HandlerErrorKind::{Permanent, Retryable, Throttled};
    for (status, kind) in [
        (400, Permanent),
        (401, Permanent),
        (404, Permanent),
        (408, Retryable),
        (425, Retryable),
        (429, Throttled),
        (500, Retryable),
        (503, Throttled),
    ] {
        let error = error_of(move || with_body(status, "because")).await;
        assert_eq!(error.kind, kind, "{status}: {error}");
        assert!(error.message.ends_with(": because"), "{error}");
    }
    let busy = || {
        let response = Response::builder().status(429).header("retry-after", "7");
        response.body(Body::empty()).unwrap()
    };
    assert_eq!(
        error_of(busy).await.retry_after,
        Some(Duration::from_secs(7))
    );
}

#[tokio::test]
async fn no_content_is_no_data() {
    for status in [200, 204] {
        let (url, _) = start(move |_| with_body(status, "")).await;
        for per in [DataPer::Tenant, DataPer::Chunk] {
            let found = fetch(source(&url, per), &["ann"]).await.unwrap();
            assert!(found.is_empty(), "{status} {per}");
        }
    }
}

#[tokio::test]
async fn a_server_that_is_slow_lies_or_says_too_much_is_an_error_of_the_call() {
    let cut = error_of(|| with_body(200, r#"{"orders": [1, 2"#)).await;
    assert_eq!(cut.kind, HandlerErrorKind::Retryable);
    assert!(cut.message.contains("is not valid JSON"), "{cut}");
    let html = error_of(|| with_body(200, "<html>Sign in</html>")).await;
    assert!(html.message.contains("is not valid JSON"), "{html}");
    let twice = error_of(|| with_body(200, r#"{"orders": 1, "orders": 2}"#)).await;
    assert!(twice.message.contains("twice"), "{twice}");
    let long = error_of(|| with_body(200, format!("\"{}\"", "x".repeat(300 * 1024)))).await;
    assert_eq!(long.kind, HandlerErrorKind::Permanent);
    assert!(long.message.ends_with("more than 256 KiB"), "{long}");

    // It answers, and its body never ends.
    let endless = || {
        let begin = futures::stream::iter([Ok::<_, std::io::Error>(Bytes::from_static(b"["))]);
        let never = futures::stream::pending();
        with_body(
            200,
            Body::from_stream(futures::StreamExt::chain(begin, never)),
        )
    };
    let (url, _) = start(move |_| endless()).await;
    let slow = HttpData {
        timeout: Duration::from_millis(200),
        ..source(&url, DataPer::Tenant)
    };
    let error = fetch(slow, &["ann"]).await.unwrap_err();
    assert_eq!(error.kind, HandlerErrorKind::Retryable);
    assert!(error.message.contains("did not answer"), "{error}");

    let gone = source("http://127.0.0.1:1/{tenant_id}?key=canary", DataPer::Tenant);
    let error = fetch(gone, &["ann"]).await.unwrap_err();
    assert_eq!(error.message, "127.0.0.1:1 refused the connection");
}

#[tokio::test]
async fn large_answers_that_never_end_leave_room_for_those_of_others() {
    let tenants: Vec<String> = (0..10).map(|n| format!("t{n}")).collect();
    let tenants: Vec<&str> = tenants.iter().map(String::as_str).collect();
    let each = json!("x".repeat(200 * 1024));
    let members = tenants.iter().map(|one| ((*one).to_owned(), each.clone()));
    let whole = Bytes::from(Value::Object(members.collect()).to_string());
    let two_mebibytes = whole.slice(..whole.len() - 1);
    let (slow, calls) = start(move |_| {
        let begin = futures::stream::iter([Ok::<_, std::io::Error>(two_mebibytes.clone())]);
        let never = futures::stream::pending();
        with_body(
            200,
            Body::from_stream(futures::StreamExt::chain(begin, never)),
        )
    })
    .await;
    let (quick, _) = start(move |_| with_body(200, whole.clone())).await;

    let data = HttpTenantData::new().unwrap();
    let slow = HttpData {
        timeout: Duration::from_mins(1),
        ..source(&slow, DataPer::Chunk)
    };
    let mut unended = tokio::task::JoinSet::new();
    for _ in 0..10 {
        let (data, slow, request) = (
            data.clone(),
            DataSource::Http(slow.clone()),
            request(&tenants),
        );
        unended.spawn(async move { data.fetch(&slow, &request).await.is_ok() });
    }
    while calls.lock().unwrap().len() < 10 {
        tokio::task::yield_now().await;
    }
    // Meanwhile each slow call reads its first megabyte, and waits for a place or holds one.
    let quick = DataSource::Http(source(&quick, DataPer::Chunk));
    for _ in 0..20 {
        let found = data.fetch(&quick, &request(&tenants)).await.unwrap();
        assert_eq!(found.len(), 10);
    }
    assert!(unended.try_join_next().is_none());
}

#[tokio::test]
async fn nothing_leads_to_this_machine_or_to_another_address_than_the_jobs() {
    let (tripwire, calls) = start(|_| answer(200, &json!({"secret": 1}))).await;
    let port = tripwire.rsplit(':').next().unwrap();
    for host in [
        "127.0.0.1",
        "localhost",
        "[::1]",
        "0x7f.1",
        "[::ffff:127.0.0.1]",
    ] {
        for per in [DataPer::Tenant, DataPer::Chunk] {
            let public = HttpData {
                allow_private_addresses: false,
                ..source(&format!("http://{host}:{port}/"), per)
            };
            let error = fetch(public, &["ann"]).await.unwrap_err();
            assert!(
                error.message.contains("allow_private_addresses"),
                "{host}: {error}"
            );
        }
    }
    let metadata = HttpData {
        allow_private_addresses: false,
        ..source("http://169.254.169.254/latest/{tenant_id}", DataPer::Tenant)
    };
    let error = fetch(metadata, &["ann"]).await.unwrap_err();
    assert_eq!(error.kind, HandlerErrorKind::Permanent, "{error}");

    for elsewhere in [&*tripwire, "http://169.254.169.254/latest/meta-data"] {
        let elsewhere = elsewhere.to_owned();
        let redirect = move || {
            let response = Response::builder().status(302);
            let response = response.header("location", &elsewhere);
            response.body(Body::empty()).unwrap()
        };
        let error = error_of(redirect).await;
        assert_eq!(error.kind, HandlerErrorKind::Permanent);
        assert!(
            error.message.contains("redirects are not followed"),
            "{error}"
        );
    }
    assert_eq!(calls.lock().unwrap().len(), 0);
}

#[tokio::test]
async fn a_provider_is_not_a_url() {
    let data = HttpTenantData::new().unwrap();
    let provider = DataSource::Provider("activity".to_owned());
    let error = data.fetch(&provider, &request(&["ann"])).await.unwrap_err();
    assert_eq!(error.kind, HandlerErrorKind::Permanent);
    assert!(error.message.contains("`activity`"), "{error}");
}
