//! The operators' API and page inside a service of one's own.

use async_trait::async_trait;
use axum::{
    Router,
    body::{Body, to_bytes},
    http::{Request, Response, StatusCode, header},
};
use punctual::{Access, HandlerError, Item, Job, Punctual, PurposeHandler};
use serde_json::Value;
use tower::ServiceExt;

const KEY: &str = "an-operators-key-of-32-characters";

struct Nothing;

#[async_trait]
impl PurposeHandler for Nothing {
    async fn run(&self, _: &Item) -> Result<Value, HandlerError> {
        Ok(Value::Null)
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
        .nest("/admin/ops", punctual.router(Access::Guarded));

    let (_, own) = answer(&service, get("/")).await;
    assert_eq!(own, "the service's own");
    let (response, page) = answer(&service, get("/admin/ops/jobs")).await;
    assert_eq!(response.status(), StatusCode::OK, "{page}");
    // Everything that the page loads or leads to is below the path, and there.
    let mut addresses = Vec::new();
    for attribute in ["href=\"", "src=\"", "action=\"", "data-url=\""] {
        let after = page.split(attribute).skip(1);
        addresses.extend(after.map(|rest| rest.split('"').next().unwrap().to_owned()));
    }
    addresses.retain(|address| !address.starts_with('#'));
    addresses.sort();
    addresses.dedup();
    assert!(addresses.len() > 8, "{addresses:?}");
    for address in addresses {
        assert!(address.starts_with("/admin/ops"), "{address}");
        let (response, _) = answer(&service, get(&address)).await;
        assert_eq!(response.status(), StatusCode::OK, "{address}");
    }
    let (response, _) = answer(&service, get("/admin/ops/tenants?id=ann")).await;
    assert_eq!(
        response.headers()[header::LOCATION],
        "/admin/ops/tenants/ann"
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
    let service: Router =
        Router::new().nest("/ops", punctual.router(Access::Key(KEY.to_owned().into())));
    let (response, _) = answer(&service, get("/ops/api/v1/jobs")).await;
    assert_eq!(response.status(), StatusCode::UNAUTHORIZED);
    let (response, _) = answer(&service, get("/ops/jobs")).await;
    assert_eq!(
        response.headers()[header::LOCATION],
        "/ops/sign-in?next=/jobs"
    );
    let signing_in = Request::post("/ops/sign-in")
        .header(header::CONTENT_TYPE, "application/x-www-form-urlencoded")
        .body(Body::from(format!("key={KEY}&next=/jobs")));
    let (response, _) = answer(&service, signing_in.unwrap()).await;
    assert_eq!(response.headers()[header::LOCATION], "/ops/jobs");
    let cookie = response.headers()[header::SET_COOKIE].to_str().unwrap();
    let mut page = get("/ops/jobs");
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
    let service: Router = punctual.router(Access::ThisMachine("OPS_KEY"));
    let (response, problem) = answer(&service, get("/api/v1/jobs")).await;
    assert_eq!(response.status(), StatusCode::FORBIDDEN);
    assert!(problem.contains("OPS_KEY"), "{problem}");
}
