//! The operators' API and page inside a service of one's own.

use std::{collections::BTreeSet, net::SocketAddr, time::Duration};

use async_trait::async_trait;
use axum::{
    Router,
    body::{Body, to_bytes},
    extract::ConnectInfo,
    http::{Request, Response, StatusCode, header},
};
use punctual::{Access, Actor, HandlerError, Item, Job, Outcome, Punctual, PurposeHandler};
use serde_json::Value;
use tower::ServiceExt;

const KEY: &str = "an-operators-key-of-32-characters";

struct Nothing;

#[async_trait]
impl PurposeHandler for Nothing {
    async fn run(&self, _: &Item) -> Result<Outcome, HandlerError> {
        Ok(Value::Null.into())
    }
}

async fn punctual(folder: &tempfile::TempDir) -> Punctual {
    Punctual::builder()
        .store(format!("sqlite://{}/punctual.db", folder.path().display()))
        .handler("done", Nothing)
        .job(Job::daily("report", "06:00").runs("done"))
        .start()
        .await
        .unwrap()
}

async fn answer(service: &Router, request: Request<Body>) -> (Response<()>, String) {
    let response = service.clone().oneshot(request).await.unwrap();
    let (parts, body) = response.into_parts();
    let body = to_bytes(body, usize::MAX).await.unwrap();
    let text = String::from_utf8(body.to_vec()).unwrap();
    (Response::from_parts(parts, ()), text)
}

fn get(path: &str) -> Request<Body> {
    let request = Request::get(path).header(header::HOST, "shop.example");
    request.body(Body::empty()).unwrap()
}

#[tokio::test]
async fn pages_and_api_work_below_any_path() {
    let folder = tempfile::tempdir().unwrap();
    let punctual = punctual(&folder).await;
    let service = Router::new()
        .route("/", axum::routing::get(|| async { "the service's own" }))
        .nest("/admin/ops", punctual.router(Access::guarded()));

    let (_, own) = answer(&service, get("/")).await;
    assert_eq!(own, "the service's own");
    // Everything that the pages load or lead to is below the path, and there.
    let (mut found, mut to_visit) = (BTreeSet::new(), vec!["/admin/ops".to_owned()]);
    while let Some(address) = to_visit.pop() {
        let below = address == "/admin/ops" || address.starts_with("/admin/ops/");
        assert!(below, "{address} of {found:?}");
        let open = answer(&service, get(&address));
        let opened = tokio::time::timeout(Duration::from_secs(1), open).await;
        // A stream of events goes on.
        let Ok((response, page)) = opened else {
            continue;
        };
        assert_eq!(response.status(), StatusCode::OK, "{address}: {page}");
        let content = response.headers()[header::CONTENT_TYPE].to_str().unwrap();
        if !content.starts_with("text/html") {
            continue;
        }
        for attribute in ["href=\"", "src=\"", "data-url=\""] {
            let after = page.split(attribute).skip(1);
            let named = after.map(|rest| rest.split('"').next().unwrap().to_owned());
            for mut next in named.filter(|next| !next.starts_with('#')) {
                // The page itself, with other filters.
                if next.starts_with('?') {
                    let path = address.split('?').next().unwrap_or_default();
                    next = format!("{path}{next}");
                }
                if found.insert(next.clone()) {
                    to_visit.push(next);
                }
            }
        }
    }
    for expected in [
        "",
        "/live",
        "/jobs/report",
        "/assets/style.css",
        "/openapi.json",
    ] {
        let address = format!("/admin/ops{expected}");
        assert!(found.contains(&address), "{address} in {found:?}");
    }
    let (response, _) = answer(&service, get("/admin/ops/tenants?id=ann")).await;
    assert_eq!(
        response.headers()[header::LOCATION],
        "/admin/ops/tenants/ann"
    );
    let (response, _) = answer(&service, get("/admin/ops/search?q=report")).await;
    assert_eq!(
        response.headers()[header::LOCATION],
        "/admin/ops/jobs/report"
    );
    let (response, page) = answer(&service, get("/admin/ops/batches/seven")).await;
    assert_eq!(response.status(), StatusCode::BAD_REQUEST);
    assert!(
        page.contains("href=\"/admin/ops/assets/style.css\""),
        "{page}"
    );

    let (_, described) = answer(&service, get("/admin/ops/openapi.json")).await;
    let described: Value = serde_json::from_str(&described).unwrap();
    assert_eq!(described["servers"][0]["url"], "/admin/ops");
    let run = Request::post("/admin/ops/api/v1/jobs/report/trigger").body(Body::empty());
    let (response, triggered) = answer(&service, run.unwrap()).await;
    assert_eq!(response.status(), StatusCode::ACCEPTED, "{triggered}");
    let (_, entries) = answer(&service, get("/admin/ops/api/v1/audit-log")).await;
    let entries: Value = serde_json::from_str(&entries).unwrap();
    assert_eq!(entries["entries"][0]["by"], "api");
    // There are no metrics here but the service's own.
    let (response, _) = answer(&service, get("/admin/ops/metrics")).await;
    assert_eq!(response.status(), StatusCode::NOT_FOUND);
}

#[tokio::test]
async fn a_key_is_asked_for_where_one_is_set() {
    let folder = tempfile::tempdir().unwrap();
    let punctual = punctual(&folder).await;
    let address = SocketAddr::from(([0, 0, 0, 0], 80));
    for unusable in ["", " ", "short", "a-long-one-that-ends-with-a-blank "] {
        assert!(
            Access::key(unusable.into(), address).is_err(),
            "{unusable:?}"
        );
    }
    let key = Access::key(KEY.into(), address).unwrap();
    let service: Router = Router::new().nest("/ops", punctual.router(key));
    let (response, _) = answer(&service, get("/ops/api/v1/jobs")).await;
    assert_eq!(response.status(), StatusCode::UNAUTHORIZED);
    let (response, _) = answer(&service, get("/ops/jobs")).await;
    assert_eq!(
        response.headers()[header::LOCATION],
        "/ops/sign-in?next=/jobs"
    );
    let sign_in = async |form: String| {
        let request = Request::post("/ops/sign-in")
            .header(header::CONTENT_TYPE, "application/x-www-form-urlencoded")
            .body(Body::from(form));
        answer(&service, request.unwrap()).await.0
    };
    assert_eq!(
        sign_in("key=".into()).await.status(),
        StatusCode::UNAUTHORIZED
    );
    let response = sign_in(format!("key={KEY}")).await;
    assert_eq!(response.headers()[header::LOCATION], "/ops");
    let response = sign_in(format!("key={KEY}&next=/jobs")).await;
    assert_eq!(response.headers()[header::LOCATION], "/ops/jobs");
    let cookie = response.headers()[header::SET_COOKIE].to_str().unwrap();
    let mut page = get("/ops/jobs");
    assert!(cookie.contains("; Path=/ops;"), "{cookie}");
    let token = cookie.split(';').next().unwrap();
    page.headers_mut()
        .insert(header::COOKIE, token.parse().unwrap());
    let (response, _) = answer(&service, page).await;
    assert_eq!(response.status(), StatusCode::OK);
}

#[tokio::test]
async fn without_a_key_only_this_machine_is_answered() {
    let folder = tempfile::tempdir().unwrap();
    let punctual = punctual(&folder).await;
    let service: Router = punctual.router(Access::this_machine("OPS_KEY"));
    for (peer, host, status) in [
        ("127.0.0.1:9", "localhost", StatusCode::OK),
        ("127.0.0.1:9", "shop.example", StatusCode::FORBIDDEN),
        ("192.0.2.1:9", "localhost", StatusCode::FORBIDDEN),
        ("", "localhost", StatusCode::FORBIDDEN),
    ] {
        let mut request = Request::get("/api/v1/jobs").header(header::HOST, host);
        if let Ok(peer) = peer.parse::<SocketAddr>() {
            request = request.extension(ConnectInfo(peer));
        }
        let (response, answer) = answer(&service, request.body(Body::empty()).unwrap()).await;
        assert_eq!(response.status(), status, "{peer} {host}: {answer}");
        assert!(
            status == StatusCode::OK || answer.contains("OPS_KEY"),
            "{answer}"
        );
    }
}

#[tokio::test]
async fn the_service_says_who_asks_and_may_speak_http_2() {
    let folder = tempfile::tempdir().unwrap();
    let punctual = punctual(&folder).await;
    // A path that looks like that of the API.
    let service: Router = Router::new().nest("/api/v1/ops", punctual.router(Access::guarded()));
    // HTTP/2 has no header Host.
    let pause = Request::post("http://shop.example/api/v1/ops/jobs/report")
        .header(header::ORIGIN, "http://shop.example")
        .header(header::CONTENT_TYPE, "application/x-www-form-urlencoded")
        .extension(Actor::from("eve of the night shift"))
        .body(Body::from("action=pause"));
    let (response, page) = answer(&service, pause.unwrap()).await;
    assert!(
        response.status().is_redirection(),
        "{}: {page}",
        response.status()
    );
    let resume = Request::post("/api/v1/ops/jobs/report")
        .header(header::CONTENT_TYPE, "application/x-www-form-urlencoded")
        .body(Body::from("action=resume"));
    answer(&service, resume.unwrap()).await;
    let (_, entries) = answer(&service, get("/api/v1/ops/api/v1/audit-log")).await;
    let entries: Value = serde_json::from_str(&entries).unwrap();
    let by = |index: usize| entries["entries"][index]["by"].as_str().unwrap();
    assert_eq!([by(0), by(1)], ["page", "eve of the night shift"]);
}
